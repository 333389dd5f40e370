//! What is on disk: answers with what they took, own experience with peers, proofs that somebody lied, own retractions.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use comity_capability::record::Reuse;
use comity_core::{AgentId, Canonical as _, Hash, Time, canonical};
use comity_results::contradiction::Contradiction;
use comity_results::key::{IndexKey, QuestionKey};
use comity_results::repute::{Beta, Experience};
use comity_results::result::{Accepted, Rules, SharedResult, accept};
use comity_results::terms::{TTL_MAX, Terms};
use minicbor::bytes::ByteVec;
use tracing::{debug, warn};

use super::{Held, Outside, Results, STORE_BYTES_MAX, locked};
use crate::storage::{Change, StorageError, Table};

/// Proofs of contradiction that are read at start.
const PROOFS_MAX: usize = 65_536;
/// Answers written since the last look for those that the store has dropped.
const SWEEP_AFTER: usize = 256;

/// An answer as it is kept.
#[derive(Debug, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
struct Row {
    #[n(0)]
    result: ByteVec,
    #[n(1)]
    took_us: u64,
    /// What others know it as.
    #[n(2)]
    key: Option<IndexKey>,
    /// The group among whose members it may be shared.
    #[n(3)]
    group: Option<String>,
    /// The canonical request, where it is small.
    #[n(4)]
    request: Option<ByteVec>,
}

/// Own experience with a peer as it is kept: numbers by their bits (IEEE 754).
#[derive(Debug, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
struct Known {
    #[n(0)]
    success: [u64; 2],
    #[n(1)]
    honesty: [u64; 2],
    #[n(2)]
    latency: Option<u64>,
    #[n(3)]
    streak: u32,
    #[n(4)]
    last: Time,
}

/// What is no count is none.
fn beta(bits: [u64; 2]) -> Beta {
    let count = |bits| Some(f64::from_bits(bits)).filter(|count| *count >= 0.0).unwrap_or_default();
    let [good, bad] = bits.map(count);
    Beta { good, bad }
}

fn bits(beta: Beta) -> [u64; 2] {
    [beta.good, beta.bad].map(f64::to_bits)
}

impl Results {
    /// Reads all of it. Answers are verified as if a peer had handed them over: the disk is not more to be believed.
    pub(super) fn load(&self) -> Result<(), StorageError> {
        let now = self.clock.now();
        let mut dropped = Vec::new();
        let mut bytes = 0;
        self.storage.scan(Table::Results, |key, value| {
            bytes += value.len();
            if bytes > STORE_BYTES_MAX || self.load_result(value, now).is_none() {
                dropped.push(Change::Delete { table: Table::Results, key: key.to_vec() });
            }
            true
        })?;
        let storage = self.storage.clone();
        if !dropped.is_empty() && tokio::runtime::Handle::try_current().is_ok() {
            tokio::spawn(async move {
                if let Err(error) = storage.commit(dropped).await {
                    debug!(%error, "answers that are not valid any more stay on disk until the next start");
                }
            });
        }
        let mut reputation = locked(&self.reputation);
        self.storage.scan(Table::Reputation, |key, value| {
            let agent = key.try_into().ok().and_then(|key| AgentId::from_bytes(key).ok());
            let known = canonical::decode_minicbor::<Known>(value).ok();
            if let (Some(agent), Some(known)) = (agent, known) {
                let experience = Experience {
                    success: beta(known.success),
                    honesty: beta(known.honesty),
                    latency_us: known
                        .latency
                        .map(f64::from_bits)
                        .filter(|us| us.is_finite() && *us >= 0.0),
                    streak: known.streak,
                    last: known.last.min(now),
                };
                reputation.restore(agent, experience);
            }
            true
        })?;
        let mut left = PROOFS_MAX;
        self.storage.scan(Table::Contradictions, |_, value| {
            let proof = Contradiction::decode(value).ok();
            if let Some(liar) = proof.and_then(|proof| proof.verify().ok()) {
                reputation.proved_liar(liar, Hash::of(value));
            }
            left -= 1;
            left > 0
        })?;
        drop(reputation);
        let mut own = Vec::new();
        self.storage.scan(Table::Retractions, |key, value| {
            if let Some(descriptor) = key.get(..32).and_then(|hash| hash.try_into().ok()) {
                own.push((Hash(descriptor), value.to_vec()));
            }
            true
        })?;
        for (descriptor, sealed) in own {
            self.restore_own_retraction(descriptor, sealed);
        }
        Ok(())
    }

    fn load_result(&self, value: &[u8], now: Time) -> Option<()> {
        let row: Row = canonical::decode_minicbor(value).ok()?;
        let result = SharedResult::decode(&row.result).ok()?;
        let receipt = &result.receipt.receipt;
        let terms = Terms {
            descriptor: receipt.capability,
            interface: receipt.interface,
            name: receipt.name.to_string(),
            ttl: TTL_MAX,
            data_version: receipt.data_version.as_ref().map(ToString::to_string),
            reuse: Reuse::default(),
        };
        let request = receipt.request;
        let input = row.request.and_then(|request| canonical::to_json(&request).ok());
        let outside = row.key.map(|key| Outside { key, group: row.group });
        let mut guard = self.state();
        let state = &mut *guard;
        let rules = Rules { retracted: Some(&state.retracted), ..Rules::default() };
        let accepted = accept(&terms, &request, result, &rules, &mut state.roots, now).ok()?;
        let question = accepted.question;
        let took = Duration::from_micros(row.took_us);
        state.store.admit(accepted, took, &state.retracted, now).ok()?;
        if let Some(outside) = &outside {
            state.named.insert(outside.key, question);
        }
        locked(&self.on_disk).written.insert(question);
        let request = input.map(Arc::new);
        state.held.insert(question, Held { descriptor: terms.descriptor, request, outside });
        Some(())
    }

    /// Writes an answer, beside the call that brought it.
    pub(super) fn keep_result(&self, kept: &Accepted, took: Duration, question: &QuestionKey) {
        let held = self.state().held.get(question).cloned();
        let Some(held) = held else { return };
        let (key, group) = match held.outside {
            Some(outside) => (Some(outside.key), outside.group),
            None => (None, None),
        };
        let request = held.request.and_then(|request| canonical::from_json(&request).ok());
        let row = Row {
            result: kept.result.encode().into(),
            took_us: super::reuse::micros(took),
            key,
            group,
            request: request.map(Into::into),
        };
        let value = canonical::encode_minicbor(&row);
        let key = question.0.as_bytes().to_vec();
        let mut changes = vec![Change::Put { table: Table::Results, key, value }];
        changes.extend(self.gone(question));
        let storage = self.storage.clone();
        tokio::spawn(async move {
            if let Err(error) = storage.commit(changes).await {
                warn!(%error, "an answer was not kept for after a restart");
            }
        });
    }

    /// Deletes from disk what the store has dropped, once enough was written.
    fn gone(&self, question: &QuestionKey) -> Vec<Change> {
        let mut on_disk = locked(&self.on_disk);
        on_disk.written.insert(*question);
        on_disk.since += 1;
        if on_disk.since < SWEEP_AFTER {
            return Vec::new();
        }
        on_disk.since = 0;
        let now = self.clock.now();
        let state = self.state();
        let gone: Vec<QuestionKey> = on_disk
            .written
            .iter()
            .filter(|question| {
                state.store.look(question, now) == comity_results::ask::Local::Absent
            })
            .copied()
            .collect();
        drop(state);
        for question in &gone {
            on_disk.written.remove(question);
        }
        let delete = |question: QuestionKey| Change::Delete {
            table: Table::Results,
            key: question.0.as_bytes().to_vec(),
        };
        gone.into_iter().map(delete).collect()
    }

    /// Writes what changed of own experience with peers.
    pub(super) async fn keep_reputation(&self) {
        let changes: Vec<Change> = {
            let reputation = locked(&self.reputation);
            let mut kept = locked(&self.kept_experience);
            let changed = reputation.experiences().filter(|(agent, experience)| {
                kept.insert(**agent, experience.last) != Some(experience.last)
            });
            changed
                .map(|(agent, experience)| {
                    let known = Known {
                        success: bits(experience.success),
                        honesty: bits(experience.honesty),
                        latency: experience.latency_us.map(f64::to_bits),
                        streak: experience.streak,
                        last: experience.last,
                    };
                    let value = canonical::encode_minicbor(&known);
                    Change::Put { table: Table::Reputation, key: agent.as_bytes().to_vec(), value }
                })
                .collect()
        };
        if let Err(error) = self.storage.commit(changes).await {
            warn!(%error, "what was learned of peers was not kept");
        }
    }

    /// An agent contradicted itself: it is not believed any more, now and after restarts.
    pub(super) fn proved(&self, liar: AgentId, proof: &Contradiction) {
        let value = proof.encode();
        locked(&self.reputation).proved_liar(liar, Hash::of(&value));
        self.state().store.drop_producer(&liar);
        let change =
            Change::Put { table: Table::Contradictions, key: liar.as_bytes().to_vec(), value };
        let storage = self.storage.clone();
        tokio::spawn(async move {
            if let Err(error) = storage.commit(vec![change]).await {
                warn!(%error, "the proof of a contradiction was not kept");
            }
        });
    }
}

/// Which answers are on disk.
#[derive(Debug, Default)]
pub(super) struct OnDisk {
    written: BTreeSet<QuestionKey>,
    since: usize,
}

/// When own experience with a peer was last written.
pub(super) type KeptExperience = BTreeMap<AgentId, Time>;
