//! What came of this agent's own calls, by agent and capability: the grounds of levels L2 and L4.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use comity_core::{AgentId, Time};
use comity_trust::endorse::{Agreement, Experience};

use crate::access::{AccessError, locked};
use crate::storage::{Change, Storage, StorageError, Table};

/// Capabilities of agents that are remembered; what was used longest ago is forgotten first.
const KEPT_MAX: usize = 4096;

/// All of it. Calls are counted in memory and stored with the next canary, without which there is no L2.
#[derive(Debug)]
pub(crate) struct Experiences {
    storage: Storage,
    known: Mutex<BTreeMap<Key, Experience>>,
    agreements: Mutex<BTreeMap<Key, Agreement>>,
}

type Key = (AgentId, String);

impl Experiences {
    pub(crate) fn open(storage: &Storage, now: Time) -> Result<Self, AccessError> {
        let known = read(storage, Table::Experience, "what came of its calls")?;
        let mut agreements: BTreeMap<Key, Agreement> =
            read(storage, Table::Agreements, "what its quorums agreed on")?;
        // A clock that was ahead when they were stored must not make them count for longer.
        agreements.values_mut().for_each(|known| known.at = known.at.min(now));
        let (known, agreements) = (Mutex::new(known), Mutex::new(agreements));
        Ok(Self { storage: storage.clone(), known, agreements })
    }

    pub(crate) fn of(&self, agent: &AgentId, capability: &str) -> Experience {
        let key = (*agent, capability.to_owned());
        self.lock().get(&key).copied().unwrap_or_default()
    }

    /// A call was answered, with a receipt that holds.
    pub(crate) fn acknowledged(&self, agent: &AgentId, capability: &str, now: Time) {
        self.update(agent, capability, |known| known.acknowledge(now));
    }

    /// A canary came back.
    pub(crate) async fn canary(
        &self,
        agent: &AgentId,
        capability: &str,
        passed: bool,
        now: Time,
    ) -> Result<Experience, StorageError> {
        let known = self.update(agent, capability, |known| known.canary(passed, now));
        self.store(agent, capability, &known).await?;
        Ok(known)
    }

    /// The last quorum that the agent was part of.
    pub(crate) fn agreement(&self, agent: &AgentId, capability: &str) -> Option<Agreement> {
        let key = (*agent, capability.to_owned());
        locked(&self.agreements).get(&key).copied()
    }

    /// These agents answered as the others did that were asked the same. It counts at once, and after a restart when this returns `Ok`.
    pub(crate) async fn agreed(
        &self,
        agents: &[AgentId],
        capability: &str,
        agreement: Agreement,
    ) -> Result<(), StorageError> {
        let mut changes = Vec::with_capacity(agents.len());
        {
            let mut all = locked(&self.agreements);
            for agent in agents {
                let key = (*agent, capability.to_owned());
                if all.len() >= KEPT_MAX && !all.contains_key(&key) {
                    let oldest = all.iter().min_by_key(|(_, known)| known.at);
                    if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                        changes.push(Change::Delete {
                            table: Table::Agreements,
                            key: write_key(&oldest.0, &oldest.1),
                        });
                        all.remove(&oldest);
                    }
                }
                all.insert(key, agreement);
                changes.push(Change::Put {
                    table: Table::Agreements,
                    key: write_key(agent, capability),
                    value: serde_json::to_vec(&agreement).unwrap_or_default(),
                });
            }
        }
        self.storage.commit(changes).await
    }

    async fn store(
        &self,
        agent: &AgentId,
        capability: &str,
        known: &Experience,
    ) -> Result<(), StorageError> {
        let key = write_key(agent, capability);
        let value = serde_json::to_vec(known).unwrap_or_default();
        self.storage.commit(vec![Change::Put { table: Table::Experience, key, value }]).await
    }

    fn update(
        &self,
        agent: &AgentId,
        capability: &str,
        change: impl FnOnce(&mut Experience),
    ) -> Experience {
        let key = (*agent, capability.to_owned());
        let mut all = self.lock();
        if all.len() >= KEPT_MAX && !all.contains_key(&key) {
            let oldest = all.iter().min_by_key(|(_, known)| known.last);
            if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                all.remove(&oldest);
            }
        }
        let known = all.entry(key).or_default();
        change(known);
        *known
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<(AgentId, String), Experience>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A table of what is known by agent and capability.
fn read<T: serde::de::DeserializeOwned>(
    storage: &Storage,
    table: Table,
    what: &'static str,
) -> Result<BTreeMap<Key, T>, AccessError> {
    let rows = storage.read_all(table, KEPT_MAX)?.into_iter();
    rows.map(|(key, value)| {
        let read = read_key(&key).zip(serde_json::from_slice(&value).ok());
        read.ok_or(AccessError::Damaged { what })
    })
    .collect()
}

fn write_key(agent: &AgentId, capability: &str) -> Vec<u8> {
    [agent.as_bytes().as_slice(), capability.as_bytes()].concat()
}

fn read_key(key: &[u8]) -> Option<(AgentId, String)> {
    let (agent, capability) = key.split_first_chunk::<32>()?;
    Some((AgentId::from_bytes(agent).ok()?, String::from_utf8(capability.to_vec()).ok()?))
}
