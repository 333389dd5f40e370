//! A custodian's work: the best digests of a shard for a query, within a cost.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use comity_core::canonical::Canonical;
use comity_core::{AgentId, Hash};

use super::compiled::{Compiled, Standing};
use super::points::Points;
use super::{Outcome, evaluate};
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
    /// What it is worth to the asker as far as a custodian can tell: preferences met, words
    /// of the free text found, and price, weighed as the asker's rank profile does; 0 to [`POINTS_MAX`](super::POINTS_MAX).
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
    /// The best digests, passing ones before open ones, best first; of equals the more specific. While there are others, no agent has
    /// more than [`RESULTS_PER_AGENT`].
    pub found: Vec<Found>,
    /// Refused digests with the fewest failed conditions, nearest first; of equals those that meet more preferences.
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

/// Digests of one agent among the best while digests of others wait: who declares one thing under many names does not fill the list.
pub const RESULTS_PER_AGENT: usize = 2;

/// Evaluates `query` on `digests` in their order.
///
/// The answer depends on nothing but the arguments. Of equals the more specific come first - those that declare fewer classes and words
/// of sets -, so that who claims everything is cut off before who claims what is asked for. What ties then is ordered by a hash of query
/// and agent, so that no key is always first.
pub fn evaluate_shard<'a>(
    query: &Query,
    digests: impl IntoIterator<Item = (AgentId, &'a Digest)>,
    limits: ShardLimits,
) -> ShardAnswer {
    let compiled = Compiled::of(query);
    let mut points = Points::new(query, compiled.preferences());
    let price = cost_of(query) + points.words() as u64;
    let mut answer = ShardAnswer::default();
    let mut matching = Vec::new();
    let mut misses = Misses::new(limits.near_misses);
    for (index, (agent, digest)) in digests.into_iter().enumerate() {
        if answer.cost + price > limits.cost {
            answer.exhausted = true;
            break;
        }
        answer.cost += price;
        answer.evaluated += 1;
        let Standing { failed, open } = compiled.judge(digest, misses.worth_knowing);
        let member = Member { index, agent, digest };
        if failed == 0 {
            let preferred = compiled.preferred(digest);
            points.take(digest, preferred);
            matching.push((member, open));
        } else if failed <= misses.worth_knowing {
            misses.take(failed, Reverse(compiled.preferred(digest)), member);
        }
    }
    answer.matching = matching.len();
    let lots = Lots::of(query);
    let scores = points.scores();
    let ordered = matching.into_iter().zip(scores);
    let ordered = ordered.map(|((member, open), score)| ((open, Reverse(score)), member)).collect();
    let breadth = |member: &Member<'_>| member.digest.breadth();
    answer.found = lots
        .best_spread(ordered, limits.results, breadth)
        .into_iter()
        .map(|((open, Reverse(score)), Member { index, agent, .. })| Found {
            index,
            agent,
            open,
            score,
        })
        .collect();
    answer.near_misses = lots
        .best(misses.kept, limits.near_misses, |_| ())
        .into_iter()
        .map(|(_, Member { index, agent, digest })| NearMiss {
            index,
            agent,
            failed: evaluate(query, digest).failed().cloned().collect(),
        })
        .collect();
    answer
}

#[derive(Clone, Copy)]
struct Member<'a> {
    index: usize,
    agent: AgentId,
    digest: &'a Digest,
}

/// Refused digests that may be among the nearest.
struct Misses<'a> {
    limit: usize,
    /// Digests that fail more conditions than this are not among the nearest, whatever else is to come.
    worth_knowing: usize,
    /// How many fail as many conditions as the index says, to [`FAILED_COUNTED`].
    by_failed: [usize; FAILED_COUNTED],
    kept: Vec<((usize, Reverse<usize>), Member<'a>)>,
}

/// Conditions of a query and its name; that many can fail.
const FAILED_COUNTED: usize = crate::query::CONDITIONS_MAX + 2;

impl<'a> Misses<'a> {
    const fn new(limit: usize) -> Self {
        let worth_knowing = if limit == 0 { 0 } else { FAILED_COUNTED - 1 };
        Self { limit, worth_knowing, by_failed: [0; FAILED_COUNTED], kept: Vec::new() }
    }

    fn take(&mut self, failed: usize, preferred: Reverse<usize>, member: Member<'a>) {
        self.kept.push(((failed, preferred), member));
        if let Some(count) = self.by_failed.get_mut(failed) {
            *count += 1;
        }
        let mut nearer = 0;
        for (failed, count) in self.by_failed.iter().enumerate() {
            nearer += count;
            if nearer >= self.limit {
                self.worth_knowing = self.worth_knowing.min(failed);
                break;
            }
        }
    }
}

/// What breaks ties: SipHash-2-4 of the agent under a key made of the query, which nobody can choose a key pair for without trying.
struct Lots([u64; 2]);

impl Lots {
    fn of(query: &Query) -> Self {
        let key = Hash::derive("comity/shard/lot/v1", &[&Canonical::encode(query)]).0;
        let (words, _) = key.as_chunks::<8>();
        Self([0, 1].map(|at| words.get(at).map_or(0, |word| u64::from_le_bytes(*word))))
    }

    fn draw(&self, member: &Member<'_>) -> (u64, usize) {
        (siphash(self.0, member.agent.as_bytes()), member.index)
    }

    /// The `limit` smallest as [`Lots::best`] has them, but of one agent only [`RESULTS_PER_AGENT`] while there are others.
    fn best_spread<'a, K: Ord + Copy, T: Ord>(
        &self,
        members: Vec<(K, Member<'a>)>,
        limit: usize,
        tie: impl Fn(&Member<'a>) -> T,
    ) -> Vec<(K, Member<'a>)> {
        let all = members.len();
        if all <= limit {
            return self.best(members, limit, tie);
        }
        let best = self.best(members.clone(), limit, &tie);
        let mut agents: Vec<_> = best.iter().map(|(_, member)| member.agent).collect();
        agents.sort_unstable();
        if !agents.windows(RESULTS_PER_AGENT + 1).any(|run| run.first() == run.last()) {
            return best;
        }
        let mut taken: BTreeMap<AgentId, usize> = BTreeMap::new();
        let (mut first, mut rest) = (Vec::new(), Vec::new());
        for (at, member) in self.best(members, all, tie).into_iter().enumerate() {
            let count = taken.entry(member.1.agent).or_default();
            *count += 1;
            let list = if *count <= RESULTS_PER_AGENT { &mut first } else { &mut rest };
            list.push((at, member));
        }
        first.truncate(limit);
        let room = limit - first.len();
        first.extend(rest.into_iter().take(room));
        first.sort_unstable_by_key(|(at, _)| *at);
        first.into_iter().map(|(_, member)| member).collect()
    }

    /// The `limit` smallest in order: by key, of equals by `tie`, then by lot. Those are asked for only where they decide.
    fn best<'a, K: Ord + Copy, T: Ord>(
        &self,
        mut members: Vec<(K, Member<'a>)>,
        limit: usize,
        tie: impl Fn(&Member<'a>) -> T,
    ) -> Vec<(K, Member<'a>)> {
        if limit == 0 {
            return Vec::new();
        }
        let broken =
            |(key, member): (K, Member<'a>)| ((key, tie(&member), self.draw(&member)), member);
        let mut drawn: Vec<_> = if members.len() > limit {
            let (nearer, last, others) =
                members.select_nth_unstable_by_key(limit - 1, |(key, _)| *key);
            let key = last.0;
            let mut tied = vec![*last];
            tied.extend(others.iter().filter(|other| other.0 == key));
            tied.extend(nearer.iter().filter(|other| other.0 == key));
            let mut drawn: Vec<_> =
                nearer.iter().filter(|other| other.0 != key).copied().map(broken).collect();
            let mut tied: Vec<_> = tied.into_iter().map(broken).collect();
            let room = limit - drawn.len();
            if tied.len() > room {
                tied.select_nth_unstable_by(room - 1, |a, b| a.0.cmp(&b.0));
                tied.truncate(room);
            }
            drawn.append(&mut tied);
            drawn
        } else {
            members.into_iter().map(broken).collect()
        };
        drawn.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        drawn.into_iter().map(|((key, ..), member)| (key, member)).collect()
    }
}

/// SipHash-2-4 (Aumasson and Bernstein, 2012) of 32 bytes.
fn siphash([k0, k1]: [u64; 2], message: &[u8; 32]) -> u64 {
    fn round(v: &mut [u64; 4]) {
        v[0] = v[0].wrapping_add(v[1]);
        v[1] = v[1].rotate_left(13) ^ v[0];
        v[0] = v[0].rotate_left(32);
        v[2] = v[2].wrapping_add(v[3]);
        v[3] = v[3].rotate_left(16) ^ v[2];
        v[0] = v[0].wrapping_add(v[3]);
        v[3] = v[3].rotate_left(21) ^ v[0];
        v[2] = v[2].wrapping_add(v[1]);
        v[1] = v[1].rotate_left(17) ^ v[2];
        v[2] = v[2].rotate_left(32);
    }
    let mut v = [
        k0 ^ 0x736f_6d65_7073_6575,
        k1 ^ 0x646f_7261_6e64_6f6d,
        k0 ^ 0x6c79_6765_6e65_7261,
        k1 ^ 0x7465_6462_7974_6573,
    ];
    let last = (message.len() as u64) << 56;
    let words = message.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word));
    for word in words.chain([last]) {
        v[3] ^= word;
        round(&mut v);
        round(&mut v);
        v[0] ^= word;
    }
    v[2] ^= 0xff;
    (0..4).for_each(|_| round(&mut v));
    v.into_iter().fold(0, |all, word| all ^ word)
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
