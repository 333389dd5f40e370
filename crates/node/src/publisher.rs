//! Keeps the network's picture of this agent true: signs its record, digests, beat and peer record, and renews them.

mod personal;
mod veiled;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use comity_capability::keys;
use comity_capability::record::{Beat, Load, PeerRecord, Record, RecordError, Status, Tombstone};
use comity_core::{Hash, Identity, Time};
use comity_overlay::directory::pack;
use comity_overlay::{CommandError, ItemKey, ItemKind, ItemReport, Publication};
use comity_trust::log::Event;
use thiserror::Error;
use tokio::sync::{Mutex, mpsc};
use tracing::{debug, warn};

use crate::audit::Audit;
use crate::clock::Clock;
use crate::directory::Directory;
use crate::groups::{GroupError, Groups};
use crate::lineage::Lineage;
use crate::registry::Registry;
use crate::storage::{Change, Storage, StorageError, Table};

/// Life of records, digests, peer records and tombstones; custodians accept up to 26 h.
const RECORD_LIFE: Duration = Duration::from_secs(24 * 3600);
/// Life of a beat, and so the longest that a crashed agent is still found; custodians accept up to 2.5 h.
const BEAT_LIFE: Duration = Duration::from_secs(30 * 60);
/// Requests for renewal that come within this long are answered by one publication.
const RENEWAL_PAUSE: Duration = Duration::from_millis(500);
/// Requests for renewal that wait; the overlay repeats what is lost.
pub(crate) const RENEWALS_LEN: usize = 64;

/// Why the agent's declarations could not be published.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PublishError {
    /// A declaration breaks a limit.
    #[error("the declaration cannot be published")]
    Record(#[source] RecordError),
    /// The sequence number could not be stored, so nothing was published.
    #[error(
        "the declaration was not published because this node could not store its sequence number"
    )]
    Storage(#[source] StorageError),
    /// It is for a private group that this agent is not in.
    #[error("the declaration was not published")]
    Group(#[source] GroupError),
    /// The directory refused.
    #[error("the declaration was not published")]
    Directory(#[source] CommandError),
}

/// Where a publication went.
#[derive(Debug, Clone, Default)]
pub struct Published {
    /// Hash of the record.
    pub record: Option<Hash>,
    /// When it was signed.
    pub issued: Option<Time>,
    /// When it expires.
    pub expires: Option<Time>,
    /// Per published item, the custodians that hold it and the refusals heard.
    pub items: Vec<ItemReport>,
}

/// Signs and publishes; one per node.
#[derive(Debug)]
pub(crate) struct Publisher {
    identity: Arc<Identity>,
    /// Commitment to the key that may succeed this one.
    next: Hash,
    clock: Clock,
    storage: Storage,
    directory: Directory,
    registry: Arc<Registry>,
    groups: Arc<Groups>,
    mint_bits: u32,
    audit: Audit,
    lineage: Arc<Lineage>,
    /// One publication at a time, so that sequence numbers leave in order.
    turn: Mutex<()>,
    current: RwLock<Current>,
    personal: personal::Personal,
    /// The highest sequence number given out since the start.
    seq: AtomicU64,
}

/// What peers are told now.
#[derive(Debug, Default, Clone)]
struct Current {
    addrs: Vec<std::net::SocketAddr>,
    sealed: Option<Arc<[u8]>>,
    published: Published,
    /// The last publication carried digests.
    listed: bool,
    /// Sequence number of the record published last.
    seq: u64,
}

impl Publisher {
    pub(crate) fn new(
        identity: Arc<Identity>,
        next: Hash,
        clock: Clock,
        storage: Storage,
        directory: Directory,
        registry: Arc<Registry>,
        (groups, mint_bits): (Arc<Groups>, u32),
        addrs: Vec<std::net::SocketAddr>,
        (audit, lineage): (Audit, Arc<Lineage>),
    ) -> Self {
        let current = RwLock::new(Current { addrs, ..Current::default() });
        Self {
            identity,
            next,
            clock,
            storage,
            directory,
            registry,
            groups,
            mint_bits,
            audit,
            lineage,
            turn: Mutex::new(()),
            current,
            personal: personal::Personal::default(),
            seq: AtomicU64::new(0),
        }
    }

    /// The keys before the one in use.
    pub(crate) fn lineage(&self) -> &Lineage {
        &self.lineage
    }

    /// The sealed record, as strangers may see it. `None` until the first publication.
    pub(crate) fn sealed_record(&self) -> Option<Arc<[u8]>> {
        self.read().sealed.clone()
    }

    /// Where the last publication went.
    pub(crate) fn last(&self) -> Published {
        self.read().published.clone()
    }

    /// Signs everything anew and publishes it. With `withdraw`, custodians first drop what was published before.
    pub(crate) async fn publish(&self, withdraw: bool) -> Result<Published, PublishError> {
        let _turn = self.turn.lock().await;
        if withdraw && self.read().listed {
            self.retire_now().await?;
        }
        let seq = self.next_seq().await?;
        let now = self.clock.now();
        let (sealed, items, listed) = self.sign(seq, now).map_err(PublishError::Record)?;
        let record = Hash::of(&sealed);
        self.audit.record(Event::RecordPublished { record, sequence: seq }).await;
        // Peers may ask for the record as soon as a digest names it.
        self.write().sealed = Some(Arc::clone(&sealed));
        let report = self.directory.publish(items).await.map_err(PublishError::Directory)?;
        for item in &report.items {
            if let Some(reject) = item.rejected {
                warn!(kind = ?item.key.kind, %reject, "a custodian refused an item of this agent");
            }
        }
        let published = Published {
            record: Some(record),
            issued: Some(now),
            expires: Some(now + RECORD_LIFE),
            items: report.items,
        };
        let mut current = self.write();
        current.listed = listed;
        current.seq = seq;
        current.published = published.clone();
        Ok(published)
    }

    /// Says that the agent is still there: a new beat for the record published last.
    async fn beat(&self) -> Result<(), PublishError> {
        let _turn = self.turn.lock().await;
        let Some(seq) = Some(&*self.read()).filter(|current| current.listed).map(|now| now.seq)
        else {
            return Ok(());
        };
        let now = self.clock.now();
        let beat = Beat::new(seq, now, now + BEAT_LIFE, Status::Warm, Load::Idle);
        let item = pack(ItemKind::Beat, &beat.seal(&self.identity));
        let items = vec![Publication::unlabelled(item)];
        self.directory.publish(items).await.map(drop).map_err(PublishError::Directory)
    }

    /// Tells custodians to drop everything this agent published, to private groups too.
    pub(crate) async fn retire(&self) -> Result<(), PublishError> {
        let _turn = self.turn.lock().await;
        for group in self.groups.all() {
            self.retire_group_now(&group).await?;
        }
        if !self.read().listed {
            return Ok(());
        }
        self.retire_now().await?;
        self.write().listed = false;
        Ok(())
    }

    async fn retire_now(&self) -> Result<(), PublishError> {
        let seq = self.next_seq().await?;
        let now = self.clock.now();
        let tombstone =
            Tombstone::new(seq, now, now + RECORD_LIFE, None).map_err(PublishError::Record)?;
        let tombstones = vec![Publication::unlabelled(pack(
            ItemKind::Tombstone,
            &tombstone.seal(&self.identity),
        ))];
        self.directory.retire(tombstones).await.map_err(PublishError::Directory)?;
        Ok(())
    }

    /// Publishes again whenever the overlay says that an own item nears its end.
    pub(crate) async fn renew(self: Arc<Self>, mut wanted: mpsc::Receiver<ItemKey>) {
        while let Some(key) = wanted.recv().await {
            tokio::time::sleep(RENEWAL_PAUSE).await;
            let mut keys = vec![key];
            while let Ok(key) = wanted.try_recv() {
                keys.push(key);
            }
            self.renew_groups(&keys).await;
            keys.retain(|key| key.kind != ItemKind::Veiled);
            if keys.is_empty() {
                continue;
            }
            let beat_only = keys.iter().all(|key| key.kind == ItemKind::Beat);
            debug!(items = keys.len(), beat_only, "renewing what this agent published");
            let renewed =
                if beat_only { self.beat().await } else { self.publish(false).await.map(drop) };
            if let Err(error) = renewed {
                warn!(error = %crate::describe(&error), "the agent's declarations were not renewed");
            }
        }
    }

    /// The record of all public capabilities, their digests, the beat and the peer record.
    fn sign(
        &self,
        seq: u64,
        now: Time,
    ) -> Result<(Arc<[u8]>, Vec<Publication>, bool), RecordError> {
        let addrs = self.read().addrs.clone();
        let mut record = Record::new(seq, now, now + RECORD_LIFE, self.next);
        record.endpoints.clone_from(&addrs);
        record.capabilities = self
            .registry
            .all()
            .iter()
            .filter(|served| served.is_public())
            .map(|served| served.capability.clone())
            .collect();
        let sealed = record.seal(&self.identity)?;
        let digests = record.digests(&sealed)?;
        let listed = !digests.is_empty();
        let mut items: Vec<Publication> = digests
            .iter()
            .zip(&record.capabilities)
            .map(|(digest, capability)| Publication {
                item: pack(ItemKind::Digest, &digest.seal(&self.identity)),
                labels: keys::group_keys(capability).into_iter().map(|key| key.label).collect(),
            })
            .collect();
        let peer = PeerRecord::new(seq, now, now + RECORD_LIFE, &addrs, true);
        items.push(Publication::unlabelled(pack(ItemKind::Peer, &peer.seal(&self.identity))));
        // Who looks for a key before finds which one it is now.
        for before in self.lineage.retired() {
            let moved = PeerRecord::succeeded(seq, now, now + RECORD_LIFE, &self.identity.id());
            items.push(Publication::unlabelled(pack(ItemKind::Peer, &moved.seal(before))));
        }
        if listed {
            let beat = Beat::new(seq, now, now + BEAT_LIFE, Status::Warm, Load::Idle);
            items.push(Publication::unlabelled(pack(ItemKind::Beat, &beat.seal(&self.identity))));
        }
        Ok((sealed.into(), items, listed))
    }

    /// A number above all used before, also by earlier runs and by a run that lost its disk: the time in milliseconds,
    /// or one more than the last.
    async fn next_seq(&self) -> Result<u64, PublishError> {
        let key = b"seq".to_vec();
        let stored = self.storage.read(Table::State, &key).map_err(PublishError::Storage)?;
        let last = stored.and_then(|bytes| Some(u64::from_be_bytes(bytes.try_into().ok()?)));
        let now = self.clock.now();
        let seq = self.seq_now(now).max(last.map_or(0, |last| last.saturating_add(1)));
        self.seq.fetch_max(seq, Ordering::Relaxed);
        let change = Change::Put { table: Table::State, key, value: seq.to_be_bytes().to_vec() };
        self.storage.commit(vec![change]).await.map_err(PublishError::Storage)?;
        Ok(seq)
    }

    /// A number above all given out since the start, and above all of earlier runs as far as the clock goes forward.
    fn seq_now(&self, now: Time) -> u64 {
        let last = self.seq.fetch_max(now.as_millis(), Ordering::Relaxed);
        if last < now.as_millis() {
            now.as_millis()
        } else {
            self.seq.fetch_add(1, Ordering::Relaxed) + 1
        }
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Current> {
        self.current.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Current> {
        self.current.write().unwrap_or_else(PoisonError::into_inner)
    }
}
