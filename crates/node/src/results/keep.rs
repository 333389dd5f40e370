//! What is on disk: answers with what they took, own experience with peers, proofs that somebody lied, own retractions.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use comity_core::{AgentId, Canonical as _, Hash, Time, canonical};
use comity_results::contradiction::Contradiction;
use comity_results::key::{IndexKey, QuestionKey};
use comity_results::repute::{Beta, Experience};
use comity_results::result::{Rules, SharedResult, accept};
use comity_results::store::Entry;
use comity_results::terms::Terms;
use minicbor::bytes::ByteVec;
use tracing::warn;

use super::{Held, Outside, Results, STORE_BYTES_MAX, locked};
use crate::storage::{Change, StorageError, Table};

/// Proofs of contradiction that are read at start.
const PROOFS_MAX: usize = 65_536;
/// So many answers are written before it is looked for those that the store has dropped.
const SWEEP_AFTER: usize = 256;
/// Answers that wait to be written.
const DIRTY_MAX: usize = 65_536;
/// Bytes after which a transaction is long enough.
const COMMIT_BYTES: usize = 4 << 20;

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

impl Row {
    fn of(entry: &Entry, held: &Held) -> Self {
        let (key, group) = match &held.outside {
            Some(outside) => (Some(outside.key), outside.group.clone()),
            None => (None, None),
        };
        let request = held.request.as_ref();
        let request = request.and_then(|(request, _)| canonical::from_json(request).ok());
        let result = entry.accepted.result.encode().into();
        let took_us = super::reuse::micros(entry.took);
        Self { result, took_us, key, group, request: request.map(Into::into) }
    }

    fn encode(&self) -> Vec<u8> {
        canonical::encode_minicbor(self)
    }
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
                dropped.push(key.to_vec());
            }
            true
        })?;
        locked(&self.on_disk).doomed = dropped;
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
        let terms = Terms::of_receipt(receipt);
        let request = receipt.request;
        let input = row.request.and_then(|request| canonical::to_json(&request).ok());
        let outside = row.key.map(|key| Outside { key, group: row.group });
        let mut guard = self.state();
        let state = &mut *guard;
        let rules = Rules { retracted: Some(&state.retracted), ..Rules::default() };
        let accepted = accept(&terms, &request, result, &rules, &mut state.roots, now).ok()?;
        let question = accepted.question;
        let took = Duration::from_micros(row.took_us);
        let kept = state.store.admit(accepted, took, &state.retracted, now).ok()?;
        if let Some(outside) = &outside {
            state.named.insert(outside.key, question);
        }
        locked(&self.on_disk).written.insert(question);
        let request = input.map(|input| (Arc::new(input), kept.result.body.len()));
        state.held.insert(question, Held { descriptor: terms.descriptor, request, outside });
        Some(())
    }

    /// An answer is to be written, or written again: beside the call that brought it, with others.
    pub(super) fn changed(&self, question: QuestionKey) {
        let mut on_disk = locked(&self.on_disk);
        // A disk that is too slow for this has no place for more.
        if on_disk.dirty.len() < DIRTY_MAX {
            on_disk.dirty.insert(question);
        }
    }

    /// Writes what came since the last time, and deletes what the store has dropped. What cannot be written is tried again.
    pub(crate) async fn keep_answers(&self) {
        loop {
            let (changes, written) = self.unwritten();
            if changes.is_empty() {
                return;
            }
            if let Err(error) = self.storage.commit(changes).await {
                warn!(%error, "answers were not kept for after a restart");
                locked(&self.on_disk).dirty.extend(written);
                return;
            }
        }
    }

    /// A bounded part of what is to be written. What the store has dropped meanwhile needs no place on disk.
    fn unwritten(&self) -> (Vec<Change>, Vec<QuestionKey>) {
        let now = self.clock.now();
        let state = self.state();
        let mut on_disk = locked(&self.on_disk);
        let delete = |key| Change::Delete { table: Table::Results, key };
        let mut changes: Vec<Change> = on_disk.doomed.drain(..).map(delete).collect();
        let (mut written, mut bytes) = (Vec::new(), 0);
        while bytes < COMMIT_BYTES
            && let Some(question) = on_disk.dirty.pop_first()
        {
            let kept = state.store.peek(&question, now);
            let Some((entry, held)) = kept.zip(state.held.get(&question)) else { continue };
            let value = Row::of(entry, held).encode();
            bytes += value.len();
            let key = question.0.as_bytes().to_vec();
            changes.push(Change::Put { table: Table::Results, key, value });
            on_disk.written.insert(question);
            on_disk.since += 1;
            written.push(question);
        }
        if on_disk.since >= SWEEP_AFTER {
            on_disk.since = 0;
            let absent = |question: &QuestionKey| {
                state.store.look(question, now) == comity_results::ask::Local::Absent
            };
            let gone = on_disk.written.extract_if(.., absent);
            changes.extend(gone.map(|question| delete(question.0.as_bytes().to_vec())));
        }
        (changes, written)
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
        {
            let mut state = self.state();
            state.store.drop_producer(&liar);
            state.large.drop_producer(&liar);
        }
        self.clear_shelf();
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
    /// Not written yet; what the store drops before is not written at all.
    dirty: BTreeSet<QuestionKey>,
    /// Found unusable at start.
    doomed: Vec<Vec<u8>>,
    /// Written since the last look for those that the store has dropped.
    since: usize,
}

/// When own experience with a peer was last written.
pub(super) type KeptExperience = BTreeMap<AgentId, Time>;
