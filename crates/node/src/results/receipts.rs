//! Receipts of calls, kept by both ends, and the caller's word under those of the callee.
//!
//! Writing goes beside the calls: once a second what came together goes to disk, and the callers' countersignatures to their callees. Whoever is
//! killed in between loses a second of receipts here; the audit log, which is told before the caller has its answer and written at once, keeps theirs.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use comity_core::receipt::{RootCache, SignedReceipt};
use comity_core::{AgentId, Canonical as _, Hash, Identity, canonical};
use comity_results::ack::{Call, CounterSigned, Verdict, countersign};
use minicbor::bytes::ByteVec;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::wire::{ACKS_MAX, Acked, Question, Told, WORDS_MAX};
use crate::clock::Clock;
use crate::node::{self, Node};
use crate::rpc::Written;
use crate::storage::{Change, Storage, StorageError, Table};

/// Receipts that are kept; of more, the oldest go.
pub(crate) const RECEIPTS_MAX: usize = 16_384;
/// Receipts of served calls whose callers' word is still waited for.
const RECENT_MAX: usize = 4_096;
/// Receipts that wait for the disk; of more, the newest are not kept.
const PENDING_MAX: usize = 8_192;
/// Peers whose receipts wait for this node's word.
const UNSIGNED_PEERS_MAX: usize = 256;
/// For how long what was heard of a callee will do.
const HEARD_FOR: Duration = Duration::from_secs(3600);
/// Callees that were asked for words in that time.
const HEARD_MAX: usize = 1_024;
/// How often what waits is written and sent.
pub(super) const FLUSH_EVERY: Duration = Duration::from_secs(1);

/// A row's key: time, newest first, and the beginning of the receipt's hash.
type RowKey = [u8; 16];

/// A receipt as it is kept.
#[derive(Debug, Clone, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
pub(super) struct Row {
    /// The signed receipt.
    #[n(0)]
    pub(super) signed: ByteVec,
    /// The counter-signed one, once the caller has signed.
    #[n(1)]
    pub(super) countersigned: Option<ByteVec>,
    /// What the caller said of the answer.
    #[n(2)]
    pub(super) verdict: Option<Verdict>,
}

/// The receipts of a node.
pub(crate) struct Receipts {
    me: Arc<Identity>,
    clock: Clock,
    storage: Storage,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// What is on disk or will be.
    keys: BTreeSet<RowKey>,
    pending: Vec<(RowKey, Row)>,
    /// Served lately and not countersigned, by hash.
    recent: BTreeMap<Hash, (RowKey, SignedReceipt)>,
    order: VecDeque<Hash>,
    /// Made lately and not countersigned, by callee.
    unsigned: BTreeMap<AgentId, Vec<(SignedReceipt, Verdict)>>,
    /// What callers confirmed of this agent's answers, the newest first, one of each caller.
    words: VecDeque<(AgentId, Vec<u8>)>,
    roots: RootCache,
}

impl std::fmt::Debug for Receipts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Receipts").finish_non_exhaustive()
    }
}

impl Receipts {
    pub(super) fn open(
        me: Arc<Identity>,
        clock: Clock,
        storage: Storage,
    ) -> Result<Self, StorageError> {
        let mut inner = Inner::default();
        storage.scan(Table::Receipts, |key, value| {
            if let Ok(key) = key.try_into() {
                inner.keys.insert(key);
            }
            if inner.words.len() < WORDS_MAX
                && let Ok(row) = canonical::decode_minicbor::<Row>(value)
                && row.verdict == Some(Verdict::Confirmed)
                && let Some(both) = row.countersigned
                && let Ok(signed) = SignedReceipt::decode(&row.signed)
                && signed.receipt.callee == me.id()
                && inner.words.iter().all(|(caller, _)| *caller != signed.receipt.caller)
            {
                inner.words.push_back((signed.receipt.caller, both.into()));
            }
            true
        })?;
        Ok(Self { me, clock, storage, inner: Mutex::new(inner) })
    }

    /// A receipt of this node's own, for a call it answered.
    pub(super) fn served(&self, caller: &AgentId, signed: SignedReceipt, written: Written) {
        let Written { bytes, statement: hash } = written;
        let key = row_key(&signed, &hash);
        let mut guard = self.lock();
        let inner = &mut *guard;
        if *caller != self.me.id() {
            inner.order.push_back(hash);
            inner.recent.insert(hash, (key, signed));
            if inner.order.len() > RECENT_MAX
                && let Some(oldest) = inner.order.pop_front()
            {
                inner.recent.remove(&oldest);
            }
        }
        let row = Row { signed: bytes.to_vec().into(), countersigned: None, verdict: None };
        inner.keep(key, row);
    }

    /// A verified receipt of a call that this node made.
    pub(crate) fn made(&self, signed: &SignedReceipt, written: &Written) {
        let key = row_key(signed, &written.statement);
        let callee = signed.receipt.callee;
        let mut inner = self.lock();
        let bytes = written.bytes.to_vec().into();
        let row = Row { signed: bytes, countersigned: None, verdict: None };
        inner.keep(key, row);
        if callee == self.me.id() {
            return;
        }
        inner.sign_later(callee, signed.clone(), Verdict::Received);
    }

    /// What this node made of an answer after comparing it with others.
    pub(crate) fn judged(&self, signed: &SignedReceipt, verdict: Verdict) {
        let callee = signed.receipt.callee;
        let mut inner = self.lock();
        if let Some(waiting) = inner.unsigned.get_mut(&callee)
            && let Some(one) = waiting.iter_mut().find(|(known, _)| known == signed)
        {
            one.1 = verdict;
            return;
        }
        inner.sign_later(callee, signed.clone(), verdict);
    }

    /// Takes in the word of `caller` under receipts of this node. Returns how many it was of.
    pub(super) fn acknowledged(&self, caller: &AgentId, acks: &[Acked]) -> usize {
        let mut guard = self.lock();
        let inner = &mut *guard;
        let mut kept = 0;
        for Acked { receipt: hash, ack } in acks {
            // Only what this node signed for this very caller is worth verifying, and only once.
            let Some((_, signed)) = inner.recent.get(hash) else { continue };
            if signed.receipt.caller != *caller {
                continue;
            }
            let Some((key, signed)) = inner.recent.remove(hash) else { continue };
            let both = CounterSigned { receipt: signed, ack: ack.to_vec() };
            match both.verify(&mut inner.roots) {
                Ok(Call { verdict, .. }) => {
                    let row = Row {
                        signed: both.receipt.encode().into(),
                        countersigned: Some(both.encode().into()),
                        verdict: Some(verdict),
                    };
                    if verdict == Verdict::Confirmed {
                        inner.words.retain(|(known, _)| known != caller);
                        inner.words.push_front((*caller, both.encode()));
                        inner.words.truncate(WORDS_MAX);
                    }
                    inner.keep(key, row);
                    kept += 1;
                }
                Err(error) => {
                    debug!(peer = %caller.short(), %error, "a countersignature was refused");
                }
            }
        }
        kept
    }

    /// What callers confirmed of this agent's answers.
    pub(super) fn words(&self) -> Vec<Vec<u8>> {
        self.lock().words.iter().map(|(_, both)| both.clone()).collect()
    }

    /// Signs what waits for it. Returns it by callee.
    fn countersign(&self) -> Vec<(AgentId, Vec<Acked>)> {
        let waiting = std::mem::take(&mut self.lock().unsigned);
        let now = self.clock.now();
        let mut signed = Vec::with_capacity(waiting.len());
        for (callee, receipts) in waiting {
            let mut acks = Vec::with_capacity(receipts.len());
            for (receipt, verdict) in receipts {
                let hash = Hash::of(&receipt.receipt.encode());
                let key = row_key(&receipt, &hash);
                let both = countersign(receipt, verdict, &self.me, now);
                acks.push(Acked { receipt: hash, ack: both.ack.clone().into() });
                let row = Row {
                    signed: both.receipt.encode().into(),
                    countersigned: Some(both.encode().into()),
                    verdict: Some(verdict),
                };
                self.lock().keep(key, row);
            }
            signed.push((callee, acks));
        }
        signed
    }

    /// Writes what waits, and drops the oldest of too many.
    pub(super) async fn write(&self) {
        let changes = {
            let mut guard = self.lock();
            let inner = &mut *guard;
            let mut changes: Vec<Change> = inner
                .pending
                .drain(..)
                .map(|(key, row)| Change::Put {
                    table: Table::Receipts,
                    key: key.to_vec(),
                    value: canonical::encode_minicbor(&row),
                })
                .collect();
            while inner.keys.len() > RECEIPTS_MAX
                && let Some(oldest) = inner.keys.pop_last()
            {
                changes.push(Change::Delete { table: Table::Receipts, key: oldest.to_vec() });
            }
            changes
        };
        if let Err(error) = self.storage.commit(changes).await {
            warn!(%error, "receipts of the last second were not kept");
        }
    }

    /// Shows the kept receipts, the newest first, until `look` has seen enough and returns false. Returns how many are kept.
    pub(super) async fn scan(
        &self,
        mut look: impl FnMut(SignedReceipt, Row) -> bool,
    ) -> Result<u64, StorageError> {
        self.write().await;
        self.storage.scan(Table::Receipts, |_, value| {
            let Ok(row) = canonical::decode_minicbor::<Row>(value) else { return true };
            match SignedReceipt::decode(&row.signed) {
                Ok(signed) => look(signed, row),
                Err(_) => true,
            }
        })?;
        Ok(self.lock().keys.len() as u64)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        super::locked(&self.inner)
    }
}

impl Inner {
    fn keep(&mut self, key: RowKey, row: Row) {
        if self.pending.len() < PENDING_MAX {
            self.keys.insert(key);
            self.pending.push((key, row));
        }
    }

    fn sign_later(&mut self, callee: AgentId, signed: SignedReceipt, verdict: Verdict) {
        if self.unsigned.len() >= UNSIGNED_PEERS_MAX && !self.unsigned.contains_key(&callee) {
            return;
        }
        // A signature costs its reader more than the call did, so of a burst only the first calls are countersigned.
        let waiting = self.unsigned.entry(callee).or_default();
        if waiting.len() < ACKS_MAX {
            waiting.push((signed, verdict));
        }
    }
}

fn row_key(signed: &SignedReceipt, hash: &Hash) -> RowKey {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&(u64::MAX - signed.receipt.finished_ms).to_be_bytes());
    key[8..].copy_from_slice(&hash.as_bytes()[..8]);
    key
}

impl super::Results {
    /// Writes what waits.
    pub(crate) async fn flush(&self) {
        self.receipts.write().await;
        self.keep_answers().await;
        self.keep_reputation().await;
    }
}

impl super::Results {
    /// Counts what a callee shows of its other callers' words, of those callers whose word counts here. The signatures of others are not even
    /// verified.
    fn witnessed(&self, callee: &AgentId, receipts: &[ByteVec]) {
        let now = self.clock.now();
        let mut roots = RootCache::new();
        for bytes in receipts.iter().take(WORDS_MAX) {
            let Ok(both) = CounterSigned::decode(bytes) else { continue };
            let receipt = &both.receipt.receipt;
            let heard = self.reputation().is_heard(&receipt.caller, now);
            if receipt.callee == *callee
                && heard
                && let Ok(call) = both.verify(&mut roots)
            {
                self.reputation().witnessed(&call, None, now);
            }
        }
    }

    /// Whether it is time to ask for the words about an agent.
    fn is_unheard(&self, agent: &AgentId) -> bool {
        let now = self.clock.now();
        let mut heard = super::locked(&self.heard_of);
        heard.retain(|_, at| now.saturating_since(*at) < HEARD_FOR);
        if heard.len() >= HEARD_MAX || heard.contains_key(agent) {
            return false;
        }
        heard.insert(*agent, now);
        true
    }
}

impl Node {
    /// Asks a callee, now and then and beside the calls, what its other callers say of it.
    pub(super) fn hear_words(&self, callee: AgentId) {
        let results = &self.inner.results;
        if callee == self.id() || !results.is_unheard(&callee) {
            return;
        }
        let node = self.clone();
        tokio::spawn(async move {
            let question = Question::Words {};
            if let Ok(answer) = node.ask_about_results(callee, &[], &question, None).await
                && let Some(Told::Words { receipts }) = Told::decode(&answer)
            {
                node.inner.results.witnessed(&callee, &receipts);
            }
        });
    }

    /// Writes and countersigns what came together, until the node stops.
    pub(crate) async fn keep_receipts(node: Weak<node::Inner>, cancel: CancellationToken) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(FLUSH_EVERY) => {}
                () = cancel.cancelled() => return,
            }
            let Some(inner) = node.upgrade() else { return };
            let node = Self { inner };
            for (callee, acks) in node.inner.results.receipts.countersign() {
                let (node, question) = (node.clone(), Question::Acknowledge { acks });
                // Who has gone does without.
                tokio::spawn(
                    async move { node.ask_about_results(callee, &[], &question, None).await },
                );
            }
            node.inner.results.receipts.write().await;
            node.inner.results.keep_answers().await;
        }
    }
}
