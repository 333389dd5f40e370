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
use crate::bulk::Large;
use crate::key::QuestionKey;
use crate::result::{Accepted, Keepable, check_times};
use crate::retract::Retractions;

/// Bytes that a kept result takes besides its body: receipt, keys, the cache's own.
pub const ENTRY_OVERHEAD: usize = 1024;
/// A single result takes at most this part of the store.
pub const SHARE_MAX: usize = 8;
/// How many answers a store on disk is laid out for; more are kept all the same.
const LARGE_ESTIMATE: usize = 256;
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
#[derive(Debug)]
pub struct Entry<K = Accepted> {
    /// The verified result.
    pub accepted: Arc<K>,
    /// How long the answer took when it was asked for: what each use saves.
    pub took: Duration,
    /// How often it was used, by this node and by others.
    pub uses: u32,
}

impl<K> Clone for Entry<K> {
    fn clone(&self) -> Self {
        let Self { accepted, took, uses } = self;
        Self { accepted: Arc::clone(accepted), took: *took, uses: *uses }
    }
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
pub struct Store<K: Keepable = Accepted> {
    cache: Cache<QuestionKey, Entry<K>, ByBytes, Seeded, Evictions>,
    by_producer: BTreeMap<AgentId, BTreeSet<QuestionKey>>,
    aliases: Cache<Hash, QuestionKey, quick_cache::UnitWeighter, Seeded>,
    /// Longest single result, in bytes, overhead included.
    single_max: u64,
    /// What was dropped since [`Store::take_gone`], if anybody asks.
    gone: Option<Vec<Arc<K>>>,
    counts: Counts,
}

impl<K: Keepable> std::fmt::Debug for Store<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("len", &self.len())
            .field("bytes", &self.bytes())
            .field("counts", &self.counts)
            .finish_non_exhaustive()
    }
}

impl Store<Large> {
    /// An empty store of answers whose bodies are on disk: one takes half of it at most, and it tells which are [gone](Store::take_gone).
    #[must_use]
    pub fn on_disk(limits: Limits, seed: u64) -> Self {
        let single_max = limits.bytes_max as u64 / 2;
        Self { single_max, gone: Some(Vec::new()), ..Self::empty(limits, LARGE_ESTIMATE, seed) }
    }
}

impl Store {
    /// An empty store. `seed` keeps strangers from choosing keys that meet in one place of its table.
    #[must_use]
    pub fn new(limits: Limits, seed: u64) -> Self {
        Self::empty(limits, (limits.bytes_max / (4 * ENTRY_OVERHEAD)).max(16), seed)
    }
}

impl<K: Keepable> Store<K> {
    fn empty(limits: Limits, items: usize, seed: u64) -> Self {
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
            single_max: (limits.bytes_max / SHARE_MAX) as u64,
            gone: None,
            counts: Counts::default(),
        }
    }

    /// Keeps a verified result, in place of an older answer to the same question.
    ///
    /// # Errors
    /// [`Unkept`] says why not.
    pub fn admit(
        &mut self,
        accepted: impl Into<Arc<K>>,
        took: Duration,
        retracted: &Retractions,
        now: Time,
    ) -> Result<Arc<K>, Unkept> {
        let accepted = accepted.into();
        if check_times(accepted.finished(), accepted.valid_until(), None, now).is_err() {
            return Err(Unkept::NotValid);
        }
        if accepted.bytes() + ENTRY_OVERHEAD as u64 > self.single_max {
            return Err(Unkept::TooLarge);
        }
        if retracted.covers(accepted.statement()) {
            return Err(Unkept::Retracted);
        }
        let question = accepted.question();
        let known = self.cache.peek(&question);
        if known.is_some_and(|known| known.accepted.finished() > accepted.finished()) {
            return Err(Unkept::Older);
        }
        let uses = known.map_or(0, |known| known.uses);
        self.remove(&question);
        let producer = accepted.statement().callee;
        self.by_producer.entry(producer).or_default().insert(question);
        let entry = Entry { accepted: Arc::clone(&accepted), took, uses };
        let mut evicted = Vec::new();
        self.cache.insert_with_lifecycle(question, entry, &mut evicted);
        for gone in evicted {
            self.counts.evicted += 1;
            self.unlist(gone);
        }
        Ok(accepted)
    }

    /// What is kept of the question, without counting as a use.
    #[must_use]
    pub fn look(&self, question: &QuestionKey, now: Time) -> Local {
        match self.cache.peek(question) {
            None => Local::Absent,
            Some(entry) if entry.accepted.valid_until() <= now => Local::Expired,
            Some(entry) => Local::Valid { age: now.saturating_since(entry.accepted.finished()) },
        }
    }

    /// The answer in its validity, without counting as a use.
    #[must_use]
    pub fn peek(&self, question: &QuestionKey, now: Time) -> Option<&Entry<K>> {
        self.cache.peek(question).filter(|entry| entry.accepted.valid_until() > now)
    }

    /// The answer, if one in its validity and no older than `max_age` is kept. Never one whose validity is over: that one is dropped.
    pub fn get(
        &mut self,
        question: &QuestionKey,
        max_age: Option<Duration>,
        now: Time,
    ) -> Option<Entry<K>> {
        if self.look(question, now) == Local::Expired {
            self.counts.expired += 1;
            self.remove(question);
        }
        let fits = |entry: &Entry<K>| {
            let kept = &entry.accepted;
            check_times(kept.finished(), kept.valid_until(), max_age, now).is_ok()
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
        let covered = |entry: &Entry<K>| retracted.covers(entry.accepted.statement());
        self.drop_where(producer, covered)
    }

    /// Drops every answer of `producer`: it was caught lying. Returns how many.
    pub fn drop_producer(&mut self, producer: &AgentId) -> usize {
        self.drop_where(producer, |_| true)
    }

    /// Everything that is kept, for a list. In no particular order.
    pub fn iter(&self) -> impl Iterator<Item = &Entry<K>> {
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

    /// What was dropped since the last time, for whatever reason, a newer answer included; nothing unless the store is one [on disk](Store::on_disk).
    pub fn take_gone(&mut self) -> Vec<Arc<K>> {
        self.gone.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Drops the answer to a question: its body turned out to be damaged.
    pub fn drop_question(&mut self, question: &QuestionKey) {
        self.remove(question);
    }

    /// What happened so far.
    #[must_use]
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    fn drop_where(&mut self, producer: &AgentId, wanted: impl Fn(&Entry<K>) -> bool) -> usize {
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
            self.unlist(entry.accepted);
        }
    }

    fn unlist(&mut self, kept: Arc<K>) {
        let producer = kept.statement().callee;
        if let Some(questions) = self.by_producer.get_mut(&producer) {
            questions.remove(&kept.question());
            if questions.is_empty() {
                self.by_producer.remove(&producer);
            }
        }
        if let Some(gone) = &mut self.gone {
            gone.push(kept);
        }
    }
}

/// Weighs a result by the memory or the disk it takes.
#[derive(Debug, Clone, Copy)]
struct ByBytes;

impl<K: Keepable> Weighter<QuestionKey, Entry<K>> for ByBytes {
    fn weight(&self, _: &QuestionKey, entry: &Entry<K>) -> u64 {
        entry.accepted.bytes() + ENTRY_OVERHEAD as u64
    }
}

/// Reports what was dropped for room, so that the index by producer follows.
#[derive(Debug, Clone, Copy)]
struct Evictions;

impl<K: Keepable> Lifecycle<QuestionKey, Entry<K>> for Evictions {
    type RequestState = Vec<Arc<K>>;

    fn on_evict(&self, dropped: &mut Self::RequestState, _: QuestionKey, entry: Entry<K>) {
        dropped.push(entry.accepted);
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
