//! Whether a result is worth announcing: what others would save by it against what telling them costs.
//!
//! ```text
//! benefit = expected asks while the pointer lives × (time its producer needed − time to fetch it from here)
//! cost    = the messages that store a pointer + the bytes this node would send
//! ```
//!
//! Expected asks are learned, not assumed: from how often this question was asked here, and from how often questions to its capability are
//! repeated at all. Announcements are bounded by a budget besides, which goes to the most worthwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use comity_core::{Hash, Time};

use crate::key::QuestionKey;
use crate::pointer::{POINTER_LIFE, VALIDITY_LEFT_MIN};

/// What storing one pointer costs the network, as processing time: twenty stores and the lookup before them.
pub const ANNOUNCE_COST: Duration = Duration::from_millis(20);
/// What a fetch from a holder costs the asker: a look-up that is mostly cached and a round trip.
pub const FETCH_COST: Duration = Duration::from_millis(5);
/// What sending costs a holder, for each mebibyte.
pub const SEND_COST_PER_MIB: Duration = Duration::from_millis(10);
/// Announcements that may go out at once after a quiet time.
pub const BURST: u32 = 64;
/// Announcements an hour, lastingly.
pub const PER_HOUR: u32 = 600;
/// Capabilities whose popularity is remembered.
pub const CAPABILITIES_MAX: usize = 1024;
/// Announced results that are remembered to be announced again.
pub const RENEWALS_MAX: usize = 16_384;
/// After this time, half of what was learned about popularity is forgotten.
pub const HALF_LIFE: Duration = Duration::from_secs(6 * 3600);

/// What is known of one result when it may be announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// Hash of the capability's declaration.
    pub descriptor: Hash,
    /// Length of the answer, in bytes.
    pub bytes: u64,
    /// How long the answer took when it was asked for.
    pub took: Duration,
    /// How long it stays valid.
    pub valid_for: Duration,
    /// How often it was asked for here, this time included: by this node and by others.
    pub asked: u32,
}

/// The decision, with its grounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Worth {
    /// Announce it.
    Announce {
        /// What others are expected to save, in microseconds.
        benefit_us: f64,
        /// What it costs, in microseconds.
        cost_us: f64,
    },
    /// It will not pay.
    TooCheap {
        /// What others are expected to save, in microseconds.
        benefit_us: f64,
        /// What it costs, in microseconds.
        cost_us: f64,
    },
    /// It expires too soon.
    TooShort,
    /// It would pay, and the budget is used up.
    Budget,
}

impl Worth {
    /// Whether to announce.
    #[must_use]
    pub const fn announces(&self) -> bool {
        matches!(self, Self::Announce { .. })
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Popularity {
    questions: f64,
    repeats: f64,
    updated: Time,
}

/// Decides announcements and keeps their budget.
#[derive(Debug, Clone)]
pub struct Announcer {
    popularity: BTreeMap<Hash, Popularity>,
    tokens: f64,
    refilled: Time,
}

impl Announcer {
    /// An announcer with a full budget.
    #[must_use]
    pub fn new(now: Time) -> Self {
        Self { popularity: BTreeMap::new(), tokens: f64::from(BURST), refilled: now }
    }

    /// A question to the capability was asked, here or of this node by another; `repeated`: its answer had been given before.
    pub fn asked(&mut self, descriptor: Hash, repeated: bool, now: Time) {
        if self.popularity.len() >= CAPABILITIES_MAX && !self.popularity.contains_key(&descriptor) {
            let oldest = self.popularity.iter().min_by_key(|(_, known)| known.updated);
            if let Some(oldest) = oldest.map(|(descriptor, _)| *descriptor) {
                self.popularity.remove(&oldest);
            }
        }
        let known = self.popularity.entry(descriptor).or_default();
        let kept = kept(known.updated, now);
        known.questions = known.questions * kept + 1.0;
        known.repeats = known.repeats * kept + f64::from(u8::from(repeated));
        known.updated = now;
    }

    /// Whether to announce now; a yes takes from the budget.
    pub fn decide(&mut self, facts: &Facts, now: Time) -> Worth {
        self.weigh(facts, self.expected_asks(facts), now)
    }

    /// Whether to announce again what has been announced for `age`: as many asks are expected while the next pointer lives as there were in
    /// such a time so far. A yes takes from the budget.
    pub fn decide_again(&mut self, facts: &Facts, age: Duration, now: Time) -> Worth {
        let lives = 1.0 + micros(age) / micros(POINTER_LIFE);
        self.weigh(facts, f64::from(facts.asked) / lives, now)
    }

    fn weigh(&mut self, facts: &Facts, expected_asks: f64, now: Time) -> Worth {
        if facts.valid_for < VALIDITY_LEFT_MIN {
            return Worth::TooShort;
        }
        let send_us = micros(SEND_COST_PER_MIB) * facts.bytes as f64 / f64::from(1 << 20);
        let saved_us = (micros(facts.took) - micros(FETCH_COST) - send_us).max(0.0);
        let benefit_us = expected_asks * saved_us;
        let cost_us = micros(ANNOUNCE_COST);
        if benefit_us <= cost_us {
            return Worth::TooCheap { benefit_us, cost_us };
        }
        let hours = micros(now.saturating_since(self.refilled)) / micros(Duration::from_secs(3600));
        self.tokens = (self.tokens + hours * f64::from(PER_HOUR)).min(f64::from(BURST));
        self.refilled = now;
        if self.tokens < 1.0 {
            return Worth::Budget;
        }
        self.tokens -= 1.0;
        Worth::Announce { benefit_us, cost_us }
    }

    /// Asks to come: as many as there were beyond the first, and the share of the capability's questions that are repeats. One unknown
    /// question in two is taken to be repeated, until experience says otherwise.
    fn expected_asks(&self, facts: &Facts) -> f64 {
        const PRIOR_QUESTIONS: f64 = 2.0;
        const PRIOR_REPEATS: f64 = 1.0;
        let known = self.popularity.get(&facts.descriptor).copied().unwrap_or_default();
        let share = (known.repeats + PRIOR_REPEATS) / (known.questions + PRIOR_QUESTIONS);
        f64::from(facts.asked.saturating_sub(1)) + share
    }
}

/// What was announced and may have to be announced again: a pointer lives an hour, an answer may live longer.
#[derive(Debug, Clone, Default)]
pub struct Renewals {
    announced: BTreeMap<QuestionKey, Announced>,
    by_expiry: BTreeSet<(Time, QuestionKey)>,
}

#[derive(Debug, Clone, Copy)]
struct Announced {
    first: Time,
    expires: Time,
    /// The answer's validity ends with the pointer: there will be no other.
    last: bool,
}

impl Renewals {
    /// Nothing was announced.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The result, which is valid until `valid_until`, was announced now and until `expires`.
    pub fn announced(
        &mut self,
        question: QuestionKey,
        expires: Time,
        valid_until: Time,
        now: Time,
    ) {
        let known = self.announced.get(&question).copied();
        if known.is_none() && self.announced.len() >= RENEWALS_MAX {
            return;
        }
        if let Some(known) = known {
            self.by_expiry.remove(&(known.expires, question));
        }
        let first = known.map_or(now, |known| known.first);
        let last = valid_until < expires + VALIDITY_LEFT_MIN;
        self.announced.insert(question, Announced { first, expires, last });
        self.by_expiry.insert((expires, question));
    }

    /// Whether a pointer to it still lives.
    #[must_use]
    pub fn is_announced(&self, question: &QuestionKey, now: Time) -> bool {
        self.announced.get(question).is_some_and(|known| known.expires > now)
    }

    /// A result that outlives its pointer, which ends before `then`, and since when it has been announced. It is forgotten unless it is
    /// announced again.
    pub fn next_ending(&mut self, then: Time) -> Option<(QuestionKey, Time)> {
        while let Some((expires, question)) =
            self.by_expiry.first().copied().filter(|(end, _)| *end <= then)
        {
            self.by_expiry.remove(&(expires, question));
            if let Some(known) = self.announced.remove(&question)
                && !known.last
            {
                return Some((question, known.first));
            }
        }
        None
    }
}

fn kept(since: Time, now: Time) -> f64 {
    0.5_f64.powf(micros(now.saturating_since(since)) / micros(HALF_LIFE))
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}
