//! The results a node keeps: bounded by bytes, resistant to scans, answering without a look at the clock of anybody else.
//!
//! Admission takes only what passed [`accept`](crate::result::accept), so reading costs no signature. What to drop is decided by `quick_cache`, whose
//! policy (Clock-PRO with the small first queue of S3-FIFO) keeps what was asked for twice through any number of results asked for once.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::time::Duration;

use comity_core::{AgentId, Hash, Time};
use quick_cache::unsync::Cache;
use quick_cache::{Lifecycle, Weighter};

use crate::ask::Local;
use crate::key::QuestionKey;
use crate::result::{Accepted, check_times};
use crate::retract::Retractions;

/// Bytes that a kept result takes besides its body: receipt, keys, the cache's own.
pub const ENTRY_OVERHEAD: usize = 1024;
/// A single result takes at most this part of the store.
pub const SHARE_MAX: usize = 8;
/// Short names of questions that are remembered (see [`Store::note_alias`]).
pub const ALIASES_MAX: usize = 16_384;

/// How much to keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of all results together, overhead included.
    pub bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes_max: 64 << 20 }
    }
}

/// A kept result.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The verified result.
    pub accepted: Arc<Accepted>,
    /// How long the answer took when it was asked for: what each use saves.
    pub took: Duration,
    /// How often it was used, by this node and by others.
    pub uses: u32,
}

/// Why a result is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unkept {
    /// Its validity is over, or none was given.
    NotValid,
    /// Too large for this store.
    TooLarge,
    /// A newer answer of the same question is kept.
    Older,
    /// Taken back by its producer.
    Retracted,
}

/// Counters since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Questions answered from here.
    pub hits: u64,
    /// Questions of which nothing usable was kept.
    pub misses: u64,
    /// Results dropped for room.
    pub evicted: u64,
    /// Results dropped because their validity ended.
    pub expired: u64,
    /// Results dropped because they were taken back, or their producer was.
    pub withdrawn: u64,
}

/// The store. Everything in it was verified.
pub struct Store {
    cache: Cache<QuestionKey, Entry, ByBytes, Seeded, Evictions>,
    by_producer: BTreeMap<AgentId, BTreeSet<QuestionKey>>,
    aliases: Cache<Hash, QuestionKey, quick_cache::UnitWeighter, Seeded>,
    limits: Limits,
    counts: Counts,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("len", &self.len())
            .field("bytes", &self.bytes())
            .field("counts", &self.counts)
            .finish_non_exhaustive()
    }
}

impl Store {
    /// An empty store. `seed` keeps strangers from choosing keys that meet in one place of its table.
    #[must_use]
    pub fn new(limits: Limits, seed: u64) -> Self {
        let items = (limits.bytes_max / (4 * ENTRY_OVERHEAD)).max(16);
        Self {
            cache: Cache::with(items, limits.bytes_max as u64, ByBytes, Seeded(seed), Evictions),
            by_producer: BTreeMap::new(),
            aliases: Cache::with(
                ALIASES_MAX,
                ALIASES_MAX as u64,
                quick_cache::UnitWeighter,
                Seeded(seed),
                quick_cache::unsync::DefaultLifecycle::default(),
            ),
            limits,
            counts: Counts::default(),
        }
    }

    /// Keeps a verified result, in place of an older answer to the same question.
    ///
    /// # Errors
    /// [`Unkept`] says why not.
    pub fn admit(
        &mut self,
        accepted: Accepted,
        took: Duration,
        retracted: &Retractions,
        now: Time,
    ) -> Result<Arc<Accepted>, Unkept> {
        if check_times(accepted.finished, accepted.valid_until, None, now).is_err() {
            return Err(Unkept::NotValid);
        }
        if accepted.result.body.len() + ENTRY_OVERHEAD > self.limits.bytes_max / SHARE_MAX {
            return Err(Unkept::TooLarge);
        }
        if retracted.covers(&accepted.verified.receipt) {
            return Err(Unkept::Retracted);
        }
        let question = accepted.question;
        let known = self.cache.peek(&question);
        if known.is_some_and(|known| known.accepted.finished > accepted.finished) {
            return Err(Unkept::Older);
        }
        let uses = known.map_or(0, |known| known.uses);
        self.remove(&question);
        let (producer, accepted) = (accepted.producer(), Arc::new(accepted));
        self.by_producer.entry(producer).or_default().insert(question);
        let entry = Entry { accepted: Arc::clone(&accepted), took, uses };
        let mut evicted = Vec::new();
        self.cache.insert_with_lifecycle(question, entry, &mut evicted);
        for (question, producer) in evicted {
            self.counts.evicted += 1;
            self.unlist(&question, &producer);
        }
        Ok(accepted)
    }

    /// What is kept of the question, without counting as a use.
    #[must_use]
    pub fn look(&self, question: &QuestionKey, now: Time) -> Local {
        match self.cache.peek(question) {
            None => Local::Absent,
            Some(entry) if entry.accepted.valid_until <= now => Local::Expired,
            Some(entry) => Local::Valid { age: now.saturating_since(entry.accepted.finished) },
        }
    }

    /// The answer in its validity, without counting as a use.
    #[must_use]
    pub fn peek(&self, question: &QuestionKey, now: Time) -> Option<&Entry> {
        self.cache.peek(question).filter(|entry| entry.accepted.valid_until > now)
    }

    /// The answer, if one in its validity and no older than `max_age` is kept. Never one whose validity is over: that one is dropped.
    pub fn get(
        &mut self,
        question: &QuestionKey,
        max_age: Option<Duration>,
        now: Time,
    ) -> Option<Entry> {
        if self.look(question, now) == Local::Expired {
            self.counts.expired += 1;
            self.remove(question);
        }
        let fits = |entry: &Entry| {
            check_times(entry.accepted.finished, entry.accepted.valid_until, max_age, now).is_ok()
        };
        let found = self.cache.get_mut(question).filter(|entry| fits(entry)).map(|mut entry| {
            entry.uses = entry.uses.saturating_add(1);
            entry.clone()
        });
        match found {
            Some(_) => self.counts.hits += 1,
            None => self.counts.misses += 1,
        }
        found
    }

    /// Remembers what question a target and a request led to (say, a query's text and the hash of the input), so that asking the same again
    /// needs no directory. `alias` is any hash of the two.
    pub fn note_alias(&mut self, alias: Hash, question: QuestionKey) {
        self.aliases.insert(alias, question);
    }

    /// The question that this target and request led to before.
    #[must_use]
    pub fn alias(&self, alias: &Hash) -> Option<QuestionKey> {
        self.aliases.get(alias).copied()
    }

    /// Drops what `retracted` covers among the answers of `producer`. Returns how many.
    pub fn withdraw(&mut self, producer: &AgentId, retracted: &Retractions) -> usize {
        let covered = |entry: &Entry| retracted.covers(&entry.accepted.verified.receipt);
        self.drop_where(producer, covered)
    }

    /// Drops every answer of `producer`: it was caught lying. Returns how many.
    pub fn drop_producer(&mut self, producer: &AgentId) -> usize {
        self.drop_where(producer, |_| true)
    }

    /// Everything that is kept, for a list. In no particular order.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.cache.iter().map(|(_, entry)| entry)
    }

    /// How many results are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.cache.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.cache.is_empty()
    }

    /// Bytes they take, overhead included.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.cache.weight()
    }

    /// What happened so far.
    #[must_use]
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    fn drop_where(&mut self, producer: &AgentId, wanted: impl Fn(&Entry) -> bool) -> usize {
        let questions = self.by_producer.get(producer).cloned().unwrap_or_default();
        let mut dropped = 0;
        for question in questions {
            if self.cache.peek(&question).is_some_and(&wanted) {
                self.remove(&question);
                self.counts.withdrawn += 1;
                dropped += 1;
            }
        }
        dropped
    }

    fn remove(&mut self, question: &QuestionKey) {
        if let Some((_, entry)) = self.cache.remove(question) {
            self.unlist(question, &entry.accepted.producer());
        }
    }

    fn unlist(&mut self, question: &QuestionKey, producer: &AgentId) {
        if let Some(questions) = self.by_producer.get_mut(producer) {
            questions.remove(question);
            if questions.is_empty() {
                self.by_producer.remove(producer);
            }
        }
    }
}

/// Weighs a result by the memory it takes.
#[derive(Debug, Clone, Copy)]
struct ByBytes;

impl Weighter<QuestionKey, Entry> for ByBytes {
    fn weight(&self, _: &QuestionKey, entry: &Entry) -> u64 {
        (entry.accepted.result.body.len() + ENTRY_OVERHEAD) as u64
    }
}

/// Reports what was dropped for room, so that the index by producer follows.
#[derive(Debug, Clone, Copy)]
struct Evictions;

impl Lifecycle<QuestionKey, Entry> for Evictions {
    type RequestState = Vec<(QuestionKey, AgentId)>;

    fn on_evict(&self, dropped: &mut Self::RequestState, question: QuestionKey, entry: Entry) {
        dropped.push((question, entry.accepted.producer()));
    }
}

/// Hashes keys that are hashes already, under a seed.
#[derive(Debug, Clone, Copy)]
struct Seeded(u64);

impl BuildHasher for Seeded {
    type Hasher = SeededHasher;

    fn build_hasher(&self) -> SeededHasher {
        SeededHasher(self.0)
    }
}

/// Folds the words of a key into one, by the multiply-and-fold of wyhash.
#[derive(Debug)]
struct SeededHasher(u64);

impl Hasher for SeededHasher {
    fn write(&mut self, bytes: &[u8]) {
        const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            let product = u128::from(self.0 ^ u64::from_le_bytes(word)) * u128::from(ODD);
            let [high, low] = [product >> 64, product & u128::from(u64::MAX)];
            self.0 = u64::try_from(high ^ low).unwrap_or(0).wrapping_add(ODD);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
