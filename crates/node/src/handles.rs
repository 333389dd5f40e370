//! The keys that handles mean to this node: pinned at first use, followed to their successors, kept in the database.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use comity_core::{AgentId, Handle, Hash, OverlayId, Time};
use comity_trust::handle::{HandleError, Live, MAX_PINS, Pinned, Pins, Resolved};
use comity_trust::succession::{Pin, Succession};

use crate::storage::{Change, Storage, StorageError, Table};

/// The pins of a node. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Handles {
    storage: Storage,
    pins: Arc<Mutex<Pins>>,
    /// Held while a change goes to disk, so that the last one there is the last one made.
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl Handles {
    /// Reads what was pinned.
    pub(crate) fn open(storage: Storage) -> Result<Self, StorageError> {
        let mut pins = Pins::new();
        for (key, value) in storage.read_all(Table::Pins, MAX_PINS)? {
            // Leaving one out would let another agent have the handle.
            let (handle, pinned) = read(&key, &value)
                .ok_or_else(|| storage.damaged("a pinned handle in it cannot be read"))?;
            pins.restore(handle, pinned);
        }
        Ok(Self { storage, pins: Arc::new(Mutex::new(pins)), turn: Arc::default() })
    }

    pub(crate) fn get(&self, handle: &Handle) -> Option<Pinned> {
        self.lock().get(handle).copied()
    }

    /// Every pin, by handle.
    pub(crate) fn all(&self) -> Vec<(Handle, Pinned)> {
        self.lock().iter().map(|(handle, pinned)| (*handle, *pinned)).collect()
    }

    /// Whom `handle` means, with what was presented; a first meaning and a successor are on disk when this returns.
    pub(crate) async fn resolve(
        &self,
        handle: &Handle,
        live: &[Live],
        successions: &[Succession],
        now: Time,
    ) -> Result<Result<Resolved, HandleError>, StorageError> {
        self.change(handle, |pins| pins.resolve(handle, live, successions, now)).await
    }

    /// Pins by the operator's word.
    pub(crate) async fn pin(
        &self,
        handle: &Handle,
        key: AgentId,
        next: Option<Hash>,
        now: Time,
    ) -> Result<Result<(), HandleError>, StorageError> {
        self.change(handle, |pins| pins.pin(*handle, key, next, now)).await
    }

    /// Pins to a key that a first key led to.
    pub(crate) async fn pin_successor(
        &self,
        handle: &Handle,
        first: AgentId,
        pin: Pin,
    ) -> Result<(), StorageError> {
        self.change(handle, |pins| pins.restore(*handle, Pinned { first, pin })).await
    }

    /// Forgets a pin by the operator's word.
    pub(crate) async fn unpin(&self, handle: &Handle) -> Result<Option<Pinned>, StorageError> {
        self.change(handle, |pins| pins.unpin(handle)).await
    }

    /// Takes note of the commitment in a record of `agent`. Returns the handles whose pins say otherwise.
    pub(crate) async fn saw_record(
        &self,
        agent: &AgentId,
        overlay_id: &OverlayId,
        next: Hash,
    ) -> Result<Vec<Handle>, StorageError> {
        let mut contradicted = Vec::new();
        let mut under = vec![overlay_id.handle()];
        // Of a key that succeeded another, the pin is under the handle of the first.
        under.extend(
            self.lock()
                .iter()
                .filter(|(_, pinned)| pinned.first != *agent && pinned.pin.key == *agent)
                .map(|(handle, _)| *handle),
        );
        for handle in under {
            let known = self.get(&handle).is_some_and(|known| known.pin.next == Some(next));
            if known {
                continue;
            }
            if !self.change(&handle, |pins| pins.saw_record(&handle, agent, next)).await? {
                contradicted.push(handle);
            }
        }
        Ok(contradicted)
    }

    async fn change<T>(
        &self,
        handle: &Handle,
        change: impl FnOnce(&mut Pins) -> T,
    ) -> Result<T, StorageError> {
        let _turn = self.turn.lock().await;
        let (done, before, after) = {
            let mut pins = self.lock();
            let before = pins.get(handle).copied();
            let done = change(&mut pins);
            (done, before, pins.get(handle).copied())
        };
        if before != after {
            let key = handle.as_bytes().to_vec();
            let row = match after {
                Some(pinned) => Change::Put { table: Table::Pins, key, value: write(&pinned) },
                None => Change::Delete { table: Table::Pins, key },
            };
            if let Err(error) = self.storage.commit(vec![row]).await {
                // What is not kept is not promised.
                let mut pins = self.lock();
                match before {
                    Some(pinned) => pins.restore(*handle, pinned),
                    None => drop(pins.unpin(handle)),
                }
                return Err(error);
            }
        }
        Ok(done)
    }

    fn lock(&self) -> MutexGuard<'_, Pins> {
        self.pins.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn write(pinned: &Pinned) -> Vec<u8> {
    serde_json::to_vec(pinned).expect("a pin has text for each of its fields")
}

fn read(key: &[u8], value: &[u8]) -> Option<(Handle, Pinned)> {
    let handle = Handle(key.try_into().ok()?);
    // Until pins knew of successors a row was the key alone.
    if let Ok(key) = <[u8; 32]>::try_from(value) {
        let key = AgentId::from_bytes(&key).ok()?;
        return Some((handle, Pinned { first: key, pin: Pin::new(key, None, Time::ZERO) }));
    }
    Some((handle, serde_json::from_slice(value).ok()?))
}

#[cfg(test)]
mod tests {
    use comity_core::{Identity, Position};
    use comity_trust::handle::How;
    use comity_trust::succession::commitment;

    use super::*;

    fn live(seed: u8) -> Live {
        let agent = Identity::from_secret_bytes(&[seed; 32]).id();
        Live { agent, overlay_id: Position::of(&agent).overlay_id() }
    }

    #[tokio::test]
    async fn what_was_pinned_is_pinned_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("node.redb");
        let (one, heir, now) = (live(1), live(2), Time::from_secs(9));
        let handle = one.overlay_id.handle();
        let storage = Storage::open(&path).unwrap();
        let handles = Handles::open(storage.clone()).unwrap();
        let found = handles.resolve(&handle, &[one], &[], now).await.unwrap().unwrap();
        assert_eq!((found.agent, found.how), (one.agent, How::First));
        let next = commitment(&heir.agent);
        let seen = |next| handles.saw_record(&one.agent, &one.overlay_id, next);
        assert_eq!(seen(next).await.unwrap(), []);
        assert_eq!(seen(Hash([9; 32])).await.unwrap(), [handle], "the first commitment counts");
        storage.close().await;

        let storage = Storage::open(&path).unwrap();
        let handles = Handles::open(storage.clone()).unwrap();
        let pin = Pin::new(one.agent, Some(next), now);
        assert_eq!(handles.all(), [(handle, Pinned { first: one.agent, pin })]);
        assert_eq!(handles.unpin(&handle).await.unwrap().map(|pinned| pinned.pin), Some(pin));
        storage.close().await;
        let storage = Storage::open(&path).unwrap();
        assert_eq!(Handles::open(storage).unwrap().all(), []);
    }

    #[tokio::test]
    async fn a_row_of_a_key_alone_is_read_and_one_of_anything_else_refused() {
        let directory = tempfile::tempdir().unwrap();
        let storage = Storage::open(&directory.path().join("node.redb")).unwrap();
        let one = live(1);
        let put = |value: &[u8]| Change::Put {
            table: Table::Pins,
            key: one.overlay_id.handle().as_bytes().to_vec(),
            value: value.to_vec(),
        };
        storage.commit(vec![put(one.agent.as_bytes())]).await.unwrap();
        let handles = Handles::open(storage.clone()).unwrap();
        assert_eq!(handles.get(&one.overlay_id.handle()).unwrap().pin.key, one.agent);
        storage.commit(vec![put(b"{}")]).await.unwrap();
        let refused = Handles::open(storage).unwrap_err();
        assert!(refused.to_string().contains("pinned handle"), "{refused}");
    }
}
