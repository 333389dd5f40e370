//! Work done once: what this node knows already, what it holds for others, and what it thinks of who answered.
//!
//! [`Results`] drives the pure crate `comity_results`: its store, its part of the result index, receipts, reputation. It decides nothing that the
//! crate does not decide; it adds locks, the clock, the disk and the network:
//!
//! * [`reuse`]: the road of a call - own store, derived from a larger answer, peers that hold it, the producer;
//! * [`share`]: pointers told to the nodes nearest to a question's name, and answers handed to who asks for them;
//! * [`working`]: answers that somebody else is about to have;
//! * [`bulk`], [`shelf`]: large answers, moved in pieces, kept as files;
//! * [`retract`]: answers that their producers take back;
//! * [`keep`]: what of it is on disk; [`receipts`]: both sides' receipts of calls; [`quorum`]: asking several producers; [`ops`]: the local API.
//!
//! Nothing enters the store that did not pass [`comity_results::result::accept`].

mod bulk;
mod held;
mod keep;
mod ops;
mod quorum;
mod receipts;
mod retract;
mod reuse;
mod share;
mod shelf;
mod wire;
mod working;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use comity_core::receipt::{RootCache, SignedReceipt};
use comity_core::{AgentId, Canonical as _, Hash, Identity, Time};
use comity_results::ask::Local;
use comity_results::bulk::Large;
use comity_results::key::{IndexKey, QuestionKey};
use comity_results::pointer::{Holders, Pointer};
use comity_results::repute::Reputation;
use comity_results::result::{Accepted, Keepable, Refusal, Rules, SharedResult, accept};
use comity_results::retract::Retractions;
use comity_results::store::{Entry, Limits, Store};
use comity_results::terms::Terms;
use comity_results::worth::{Announcer, Facts, Renewals};
use serde_json::Value;

use crate::clock::Clock;
use crate::rpc::{CallFailure, ErrorCode, Written};
use crate::storage::{Storage, StorageError};

use held::{Held, HeldAnswers};

pub(crate) use bulk::Bulk;
pub(crate) use quorum::Asked;
pub(crate) use receipts::Receipts;
pub(crate) use reuse::{Producer, Road, Wanted};
pub(crate) use share::Outside;
pub(crate) use shelf::{Body, Gathered, Shelf};

/// Bytes of the answers kept for reuse.
pub(crate) const STORE_BYTES_MAX: usize = 64 << 20;
/// Largest request whose text is kept beside its answer, so that smaller questions can be answered from it; canonical CBOR.
const REQUEST_BYTES_MAX: usize = 4 * 1024;
/// Requests of one capability, those with the longest answers first, that are compared with a smaller question.
const COMPARED_MAX: usize = 256;
/// Answers that are opened because their request contains the smaller question.
const LARGER_MAX: usize = 16;
/// Longest answer that is committed to before it is revealed, in bytes.
pub(crate) const PROMISE_BYTES_MAX: usize = 1 << 20;
/// Bytes of all answers that were committed to and not asked for yet.
const PROMISED_BYTES_MAX: usize = 16 << 20;
/// How long an answer that was committed to waits to be asked for.
const PROMISE_LIFE: Duration = Duration::from_secs(60);

/// See the module.
pub(crate) struct Results {
    me: Arc<Identity>,
    clock: Clock,
    storage: Storage,
    state: Mutex<State>,
    /// Who works out what right now; others that ask the same wait for it.
    flights: Mutex<BTreeMap<QuestionKey, Weak<tokio::sync::Mutex<()>>>>,
    pub(crate) receipts: Receipts,
    bulk: Bulk,
    reputation: Mutex<Reputation>,
    promised: Mutex<Promised>,
    taken_back: Mutex<retract::TakenBack>,
    on_disk: Mutex<keep::OnDisk>,
    working: Mutex<working::Working>,
    awaiting: tokio::sync::Semaphore,
    kept_experience: Mutex<keep::KeptExperience>,
    /// Callees that were asked what others say of them, and when.
    heard_of: Mutex<BTreeMap<AgentId, Time>>,
}

impl std::fmt::Debug for Results {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Results").finish_non_exhaustive()
    }
}

struct State {
    store: Store,
    /// Answers whose bodies are on disk.
    large: Store<Large>,
    /// What is known of the kept answers besides: at least of those in the store.
    held: HeldAnswers,
    /// Names by which others ask for them.
    named: BTreeMap<IndexKey, QuestionKey>,
    retracted: Retractions,
    roots: RootCache,
    announcer: Announcer,
    renewals: Renewals,
    /// This node's part of the result index: whose pointers it keeps for others to find.
    index: Holders<share::Known>,
    /// Who disappointed this node.
    disappointing: Holders,
    /// Who handed out other answers to the same capability.
    helpful: share::Helpful,
}

/// Answers that were committed to.
#[derive(Debug, Default)]
struct Promised {
    answers: BTreeMap<(AgentId, Hash), Promise>,
    order: VecDeque<(AgentId, Hash)>,
    bytes: usize,
}

#[derive(Debug)]
struct Promise {
    made: Time,
    nonce: Hash,
    result: Vec<u8>,
}

/// What a call brought, to be kept.
#[derive(Debug)]
pub(crate) struct Learned {
    pub(crate) terms: Arc<Terms>,
    pub(crate) input: Value,
    pub(crate) took: Duration,
    pub(crate) outside: Option<Outside>,
}

impl Results {
    /// Reads what was kept.
    pub(crate) fn open(
        me: Arc<Identity>,
        clock: Clock,
        storage: Storage,
        bulk: Bulk,
        seed: u64,
    ) -> Result<Self, StorageError> {
        let now = clock.now();
        let state = State {
            store: Store::new(Limits { bytes_max: STORE_BYTES_MAX }, seed),
            large: Bulk::store(seed),
            held: HeldAnswers::default(),
            named: BTreeMap::new(),
            retracted: Retractions::new(),
            roots: RootCache::new(),
            announcer: Announcer::new(now),
            renewals: Renewals::new(),
            index: Holders::new(),
            disappointing: Holders::new(),
            helpful: share::Helpful::default(),
        };
        let results = Self {
            receipts: Receipts::open(Arc::clone(&me), clock.clone(), storage.clone())?,
            me,
            clock,
            storage,
            bulk,
            state: Mutex::new(state),
            flights: Mutex::default(),
            reputation: Mutex::default(),
            promised: Mutex::default(),
            taken_back: Mutex::default(),
            on_disk: Mutex::default(),
            working: Mutex::default(),
            awaiting: working::places(),
            kept_experience: Mutex::default(),
            heard_of: Mutex::default(),
        };
        results.load()?;
        results.load_shelf();
        Ok(results)
    }

    /// Where large answers are kept, if they are.
    pub(crate) fn shelf(&self) -> Option<Arc<Shelf>> {
        self.bulk.shelf.clone()
    }

    /// What is kept of a question.
    fn look(&self, question: &QuestionKey) -> Local {
        let (state, now) = (self.state(), self.clock.now());
        match state.store.look(question, now) {
            Local::Absent => state.large.look(question, now),
            known @ (Local::Expired | Local::Valid { .. }) => known,
        }
    }

    /// The place of a question among those being worked out.
    fn flight(&self, question: QuestionKey) -> Arc<tokio::sync::Mutex<()>> {
        let mut flights = locked(&self.flights);
        if let Some(flight) = flights.get(&question).and_then(Weak::upgrade) {
            return flight;
        }
        flights.retain(|_, flight| flight.strong_count() > 0);
        let flight = Arc::default();
        flights.insert(question, Arc::downgrade(&flight));
        flight
    }

    /// Checks an answer and keeps it. `asked`: how often it was asked for, as far as is known.
    fn admit(
        &self,
        learned: Learned,
        request: &Hash,
        result: SharedResult,
        asked: u32,
    ) -> Result<Arc<Accepted>, Refusal> {
        let accepted = {
            let mut guard = self.state();
            let state = &mut *guard;
            let rules = Rules { retracted: Some(&state.retracted), ..Rules::default() };
            let now = self.clock.now();
            accept(&learned.terms, request, result, &rules, &mut state.roots, now)?
        };
        Ok(self.take_in(learned, accepted, asked))
    }

    /// Keeps an answer that was checked.
    fn take_in(&self, learned: Learned, accepted: Accepted, asked: u32) -> Arc<Accepted> {
        let now = self.clock.now();
        let Learned { terms, input, took, outside } = learned;
        let (question, accepted) = (accepted.question, Arc::new(accepted));
        let mut guard = self.state();
        let state = &mut *guard;
        state.announcer.asked(terms.descriptor, asked > 0, now);
        let kept = state.store.admit(Arc::clone(&accepted), took, &state.retracted, now);
        if kept.is_err() {
            return accepted;
        }
        if let Some(outside) = &outside {
            state.named.insert(outside.key, question);
        }
        let bytes = accepted.result.body.len();
        let small = bytes <= comity_results::result::MAX_BODY
            && comity_core::canonical::from_json(&input)
                .is_ok_and(|bytes| bytes.len() <= REQUEST_BYTES_MAX);
        let request = small.then(|| (Arc::new(input), bytes));
        state.held.insert(question, Held { descriptor: terms.descriptor, request, outside });
        state.sweep(now);
        drop(guard);
        self.changed(question);
        accepted
    }

    /// Whether peers are told that this answer is held here; the pointer if so.
    fn announcement(&self, question: &QuestionKey, asked: u32) -> Option<(Outside, Vec<u8>)> {
        let now = self.clock.now();
        let mut guard = self.state();
        let state = &mut *guard;
        if state.renewals.is_announced(question, now) {
            return None;
        }
        let outside = state.held.get(question)?.outside.clone()?;
        let facts = Facts { asked, ..state.facts(question, now)? };
        if !state.announcer.decide(&facts, now).announces() {
            return None;
        }
        let sealed = state.point(question, &outside, &self.me, now)?;
        Some((outside, sealed))
    }

    /// An announced answer whose pointer is about to end, and which is worth another; the pointer is made by [`Results::renewed`].
    fn ending(&self, then: Time) -> Option<(QuestionKey, Outside)> {
        let now = self.clock.now();
        let mut guard = self.state();
        let state = &mut *guard;
        while let Some((question, first)) = state.renewals.next_ending(then) {
            let outside = state.held.get(&question).and_then(|held| held.outside.clone());
            let (Some(outside), Some(facts)) = (outside, state.facts(&question, now)) else {
                continue;
            };
            let age = now.saturating_since(first);
            if state.announcer.decide_again(&facts, age, now).announces() {
                return Some((question, outside));
            }
        }
        None
    }

    fn renewed(&self, question: &QuestionKey, outside: &Outside) -> Option<Vec<u8>> {
        let now = self.clock.now();
        let mut guard = self.state();
        let state = &mut *guard;
        state.point(question, outside, &self.me, now)
    }

    /// Keeps an answer for who had this node commit to it, and returns the commitment.
    pub(crate) fn promise(
        &self,
        caller: &AgentId,
        job: Hash,
        receipt: &Bytes,
        body: Bytes,
    ) -> Result<Hash, CallFailure> {
        let failed = |text: &str| CallFailure::new(ErrorCode::Internal, text);
        let receipt = SignedReceipt::decode(receipt)
            .map_err(|_| failed("the receipt just signed cannot be read"))?;
        let response = receipt.receipt.response;
        let nonce = Hash(rand::random());
        let commitment = comity_results::quorum::commitment(&job, &response, &nonce, &self.me.id());
        let result = SharedResult { receipt, body: (&body[..]).into() }.encode();
        let now = self.clock.now();
        let mut promised = locked(&self.promised);
        promised.forget(now);
        if promised.bytes + result.len() > PROMISED_BYTES_MAX {
            let text = "too many answers wait to be revealed: try again soon";
            return Err(CallFailure::new(ErrorCode::Busy, text));
        }
        promised.bytes += result.len();
        promised.order.push_back((*caller, job));
        let promise = Promise { made: now, nonce, result };
        if let Some(old) = promised.answers.insert((*caller, job), promise) {
            promised.bytes -= old.result.len();
        }
        Ok(commitment)
    }

    fn reveal(&self, caller: &AgentId, job: Hash) -> Option<Vec<u8>> {
        let mut promised = locked(&self.promised);
        promised.forget(self.clock.now());
        let Promise { nonce, result, .. } = promised.answers.remove(&(*caller, job))?;
        promised.bytes -= result.len();
        Some(wire::Revealed { nonce, result: result.into() }.encode())
    }

    /// A receipt that this node signed.
    pub(crate) fn served(&self, caller: &AgentId, receipt: SignedReceipt, written: Written) {
        self.receipts.served(caller, receipt, written);
    }

    pub(crate) fn reputation(&self) -> MutexGuard<'_, Reputation> {
        locked(&self.reputation)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        locked(&self.state)
    }
}

impl State {
    fn point(
        &mut self,
        question: &QuestionKey,
        outside: &Outside,
        me: &Identity,
        now: Time,
    ) -> Option<Vec<u8>> {
        let (pointer, valid_until) = match self.store.peek(question, now) {
            Some(entry) => {
                (Pointer::new(outside.key, &entry.accepted, now)?, entry.accepted.valid_until)
            }
            None => {
                let large = &self.large.peek(question, now)?.accepted;
                (Pointer::new(outside.key, large, now)?, large.valid_until)
            }
        };
        self.renewals.announced(*question, pointer.expires(), valid_until, now);
        Some(pointer.seal(me))
    }

    /// What decides whether an answer is announced.
    fn facts(&self, question: &QuestionKey, now: Time) -> Option<Facts> {
        let small = self.store.peek(question, now).map(|entry| facts(entry, now));
        small.or_else(|| self.large.peek(question, now).map(|entry| facts(entry, now)))
    }

    /// Drops what is covered by what is known to be taken back of this producer.
    fn withdraw(&mut self, producer: &AgentId) {
        self.store.withdraw(producer, &self.retracted);
        self.large.withdraw(producer, &self.retracted);
    }

    /// Forgets what goes with answers that the store has dropped, once there is much of it.
    fn sweep(&mut self, now: Time) {
        if self.held.len() < 2 * (self.store.len() + self.large.len()) + 256 {
            return;
        }
        let (store, large) = (&self.store, &self.large);
        self.held.retain(|question| {
            store.look(question, now) != Local::Absent || large.look(question, now) != Local::Absent
        });
        let held = &self.held;
        self.named.retain(|_, question| held.contains(question));
    }
}

impl Promised {
    fn forget(&mut self, now: Time) {
        while let Some(oldest) = self.order.front().copied() {
            let over = match self.answers.get(&oldest) {
                Some(promise) if now.saturating_since(promise.made) < PROMISE_LIFE => return,
                Some(_) => self.answers.remove(&oldest),
                None => None,
            };
            self.bytes -= over.map_or(0, |promise| promise.result.len());
            self.order.pop_front();
        }
    }
}

fn facts<K: Keepable>(entry: &Entry<K>, now: Time) -> Facts {
    Facts {
        descriptor: entry.accepted.statement().capability,
        bytes: entry.accepted.bytes(),
        took: entry.took,
        valid_for: entry.accepted.valid_until().saturating_since(now),
        asked: entry.uses + 1,
    }
}

/// Producers that were proved to lie, among these.
pub(crate) fn liars(reputation: &Reputation, agents: &[AgentId]) -> BTreeSet<AgentId> {
    agents.iter().filter(|agent| reputation.lied(agent).is_some()).copied().collect()
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing below holds a lock across a call that can panic half-way through a change.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
