//! A custodian's work: the best digests of a shard for a query, within a cost.

use std::cmp::Reverse;

use comity_core::canonical::Canonical;
use comity_core::{AgentId, Hash};

use super::subject::Subject;
use super::test::Judgement;
use super::{Outcome, Part, evaluate, judge};
use crate::query::Query;
use crate::record::Digest;

/// What one evaluation of a shard may cost and return.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardLimits {
    /// Most digests returned.
    pub results: usize,
    /// Most near misses returned.
    pub near_misses: usize,
    /// Work units, each the comparison of one operand with one declared value. Evaluation stops before the digest that would exceed it.
    pub cost: u64,
}

impl ShardLimits {
    /// Enough for a full shard of 1,024 digests and a query of 32 conditions with a dozen operands each, a few milliseconds of work.
    pub const DEFAULT: Self = Self { results: 50, near_misses: 10, cost: 400_000 };
}

impl Default for ShardLimits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// A digest that passes, or may pass once its record is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Position of the digest in the order given.
    pub index: usize,
    /// Whose it is.
    pub agent: AgentId,
    /// True when the digest leaves a condition open that only the record decides.
    pub open: bool,
    /// Words of the free text found in the digest, plus preferences met.
    pub score: u32,
}

/// A digest that does not pass, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NearMiss {
    /// Position of the digest in the order given.
    pub index: usize,
    /// Whose it is.
    pub agent: AgentId,
    /// The outcomes that refuse it; never empty.
    pub failed: Vec<Outcome>,
}

/// What a shard has for a query.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShardAnswer {
    /// The best digests, passing ones before open ones, best first.
    pub found: Vec<Found>,
    /// Refused digests with the fewest failed conditions, nearest first.
    pub near_misses: Vec<NearMiss>,
    /// Digests evaluated.
    pub evaluated: usize,
    /// Of these, how many pass or are open, returned or not.
    pub matching: usize,
    /// Work units spent.
    pub cost: u64,
    /// True when the cost ran out before the digests did: there may be more and better ones.
    pub exhausted: bool,
}

/// Evaluates `query` on `digests` in their order.
///
/// The answer depends on nothing but the arguments. Ties are broken by a hash of query and agent, so that no key is always first.
pub fn evaluate_shard<'a>(
    query: &Query,
    digests: impl IntoIterator<Item = (AgentId, &'a Digest)>,
    limits: ShardLimits,
) -> ShardAnswer {
    let wanted = crate::rank::terms_of(query.text().unwrap_or_default());
    let price = cost_of(query) + wanted.len() as u64;
    let seed = Canonical::encode(query);
    let lot = |agent: &AgentId, index: usize| {
        (Hash::derive("comity/shard/lot/v1", &[&seed, agent.as_bytes()]), index)
    };
    let mut answer = ShardAnswer::default();
    let mut found = Best::new(limits.results);
    let mut missed = Best::new(limits.near_misses);
    for (index, (agent, digest)) in digests.into_iter().enumerate() {
        if answer.cost + price > limits.cost {
            answer.exhausted = true;
            break;
        }
        answer.cost += price;
        answer.evaluated += 1;
        let Counts { failed, open, preferred } = count(query, digest);
        let words = wanted.iter().filter(|term| digest.terms.may_contain(term)).count();
        let score = u32::try_from(words + preferred).unwrap_or(u32::MAX);
        if failed > 0 {
            missed.offer((failed, Reverse(score), lot(&agent, index)), (index, agent, digest));
        } else {
            answer.matching += 1;
            found.offer(
                (open, Reverse(score), lot(&agent, index)),
                Found { index, agent, open, score },
            );
        }
    }
    answer.found = found.into_sorted();
    let explained = |(index, agent, digest)| NearMiss {
        index,
        agent,
        failed: evaluate(query, digest).failed().cloned().collect(),
    };
    answer.near_misses = missed.into_sorted().into_iter().map(explained).collect();
    answer
}

/// What a digest comes to, without words.
struct Counts {
    /// Conditions that refuse it.
    failed: usize,
    /// Whether its record is needed to decide.
    open: bool,
    /// Preferences met.
    preferred: usize,
}

fn count(query: &Query, digest: &Digest) -> Counts {
    let mut counts = Counts { failed: 0, open: false, preferred: 0 };
    for (asked, judgement) in judge(query, Subject::Digest(digest)) {
        match (asked.part(), judgement) {
            (Part::Required, Judgement::Unmet(_) | Judgement::Undeclared)
            | (Part::Excluded, Judgement::Met(_)) => counts.failed += 1,
            (Part::Required | Part::Excluded, Judgement::Unknown) => counts.open = true,
            (Part::Preferred, Judgement::Met(_)) => counts.preferred += 1,
            (Part::Required, Judgement::Met(_))
            | (Part::Excluded, Judgement::Unmet(_) | Judgement::Undeclared)
            | (Part::Preferred, Judgement::Unmet(_) | Judgement::Undeclared | Judgement::Unknown) =>
                {}
        }
    }
    counts
}

/// Work units of one query on one digest.
fn cost_of(query: &Query) -> u64 {
    query
        .conditions()
        .iter()
        .chain(query.exclude())
        .map(|condition| 1 + condition.operands() as u64)
        .sum::<u64>()
        + 1
}

/// The items with the smallest keys, in memory for at most twice as many.
struct Best<K, T> {
    limit: usize,
    items: Vec<(K, T)>,
}

impl<K: Ord, T> Best<K, T> {
    fn new(limit: usize) -> Self {
        Self { limit, items: Vec::new() }
    }

    fn offer(&mut self, key: K, item: T) {
        self.items.push((key, item));
        if self.items.len() > self.limit.saturating_mul(2).saturating_add(8) {
            self.trim();
        }
    }

    fn trim(&mut self) {
        self.items.sort_by(|(a, _), (b, _)| a.cmp(b));
        self.items.truncate(self.limit);
    }

    fn into_sorted(mut self) -> Vec<T> {
        self.trim();
        self.items.into_iter().map(|(_, item)| item).collect()
    }
}
