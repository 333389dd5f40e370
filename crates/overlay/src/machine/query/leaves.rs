//! The shards below a split group: which of them a query asks, and in which order.
//!
//! Custodians of the group name the shards below it and say which may hold matches. Their lists are united: a shard is asked when any of
//! them thinks it may match, those first whose custodians are remembered from an earlier question, which are heard alone, then those that most of them name, then
//! those with most members, a few at a time until enough is found, and
//! more at a time when the first bring little. Before any of them is asked, the keys of the plan that may make them needless are: a group
//! that is not split is cheaper than the shards of one that is. Of several split groups the one with the fewest shards is asked first.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};

use super::{PlanKey, QueryJob};
use crate::shard::ShardId;
use crate::wire::LeafView;

/// Shards below its groups that one query asks.
const LEAVES_ASKED_MAX: usize = 64;
/// Of them at once, in the beginning.
const LEAVES_PARALLEL: usize = 8;
/// And when those asked first bring so little that many more will be needed.
const LEAVES_PARALLEL_MAX: usize = 64;

/// What custodians of one shard say lies below it.
#[derive(Debug, Default)]
pub(super) struct Leaves(BTreeMap<ShardId, Claim>);

#[derive(Debug, Default)]
struct Claim {
    custodians: usize,
    count: u32,
    may_match: bool,
}

impl Leaves {
    /// Takes in one custodian's list. What does not lie below `shard` is left out.
    pub(super) fn hear(&mut self, shard: &ShardId, views: &[LeafView]) {
        for view in views {
            let leaf = ShardId { group: shard.group, depth: view.depth, prefix: view.prefix };
            if leaf.is_canonical() && leaf.depth > shard.depth && shard.covers(&leaf) {
                let claim = self.0.entry(leaf).or_default();
                claim.custodians += 1;
                claim.count = claim.count.max(view.count);
                claim.may_match |= view.may_match;
            }
        }
    }

    /// The shards to ask, the most promising first, none deeper than `deepest`. Those that are `warm` take one round trip.
    pub(super) fn ranked(
        self,
        deepest: u8,
        warm: impl Fn(&ShardId) -> bool,
    ) -> Vec<(ShardId, bool)> {
        let claims = self.0.into_iter();
        let promising = claims.filter(|(leaf, claim)| claim.may_match && leaf.depth <= deepest);
        let mut promising: Vec<_> = promising.collect();
        promising.sort_by_cached_key(|(leaf, claim)| {
            Reverse((warm(leaf), claim.custodians, claim.count))
        });
        promising.into_iter().map(|(leaf, _)| (leaf, warm(&leaf))).collect()
    }
}

/// The shards below the keys of one query's plan.
#[derive(Debug, Default)]
pub(super) struct Below {
    /// Those not asked yet, by the key above them, the most promising first.
    waiting: BTreeMap<usize, VecDeque<usize>>,
    /// How many there are in all.
    known: usize,
    /// How many were asked to the end.
    ended: usize,
    /// Matches there were before the first was asked.
    before: Option<usize>,
}

/// What a query asks next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// The searches under this key.
    Key(usize),
    /// Something, once what is being asked has ended.
    Later,
    /// Nothing.
    Nothing,
}

impl QueryJob {
    /// The searches under a key ended; `leaves` are the shards below it to ask, the most promising first.
    pub(super) fn key_ended(&mut self, key: usize, leaves: Vec<(ShardId, bool)>) {
        self.below.ended += usize::from(self.is_leaf(key));
        let step = self.keys[key].step;
        let room = LEAVES_ASKED_MAX.saturating_sub(self.below.known);
        let first = self.keys.len();
        for (shard, warm) in leaves.into_iter().take(room) {
            if !self.keys.iter().any(|known| known.shard == shard) {
                self.keys.push(PlanKey { shard, step, warm });
            }
        }
        self.below.known += self.keys.len() - first;
        if self.keys.len() > first {
            self.below.waiting.insert(key, (first..self.keys.len()).collect());
        }
    }

    /// Nothing is being asked that could still matter: all is known, and only shards below other groups have not answered.
    pub(super) fn is_idle(&self) -> bool {
        self.active.is_empty()
            || (self.is_complete() && self.active.keys().all(|key| self.is_leaf(*key)))
    }

    /// Takes the next key to ask out of those that wait.
    pub(super) fn next(&mut self, parallel: usize) -> Next {
        if !self.below.waiting.is_empty() && !self.awaits_complete() {
            if self.active.len() >= parallel.max(self.leaves_parallel()) {
                return Next::Later;
            }
            self.below.before.get_or_insert(self.matches.len());
            return self.next_leaf();
        }
        match self.waiting.front().copied() {
            Some(index)
                if self.active.len() < parallel && !self.awaits_step(self.keys[index].step) =>
            {
                self.waiting.pop_front();
                Next::Key(index)
            }
            Some(_) => Next::Later,
            None if self.below.waiting.is_empty() => Next::Nothing,
            None => Next::Later,
        }
    }

    /// The next shard of the group that has the fewest left.
    fn next_leaf(&mut self) -> Next {
        let shortest = self.below.waiting.iter().min_by_key(|(_, leaves)| leaves.len());
        let Some((&key, leaves)) = shortest else { return Next::Nothing };
        let Some(&next) = leaves.front() else { return Next::Nothing };
        // One round trip to those that are known may make a search for others needless.
        if !self.keys[next].warm && self.active.keys().any(|active| self.keys[*active].warm) {
            return Next::Later;
        }
        if let Some(leaves) = self.below.waiting.get_mut(&key) {
            leaves.pop_front();
            if leaves.is_empty() {
                self.below.waiting.remove(&key);
            }
        }
        Next::Key(next)
    }

    /// A whole group that holds every match is being asked, or will be: it may make every shard of another needless.
    fn awaits_complete(&self) -> bool {
        let mut tops = self.active.keys().chain(&self.waiting);
        tops.any(|index| !self.is_leaf(*index) && self.query.steps[self.keys[*index].step].complete)
    }

    /// Shards asked at once: as many as are needed if the others bring what the first did.
    fn leaves_parallel(&self) -> usize {
        let Below { ended, before, .. } = self.below;
        let found = self.matches.len().saturating_sub(before.unwrap_or_default());
        let missing = match self.query.want {
            0 => LEAVES_ASKED_MAX,
            want => want.saturating_sub(self.matches.len()),
        };
        let needed = if ended == 0 { 0 } else { missing * ended / found.max(1) };
        needed.clamp(LEAVES_PARALLEL, LEAVES_PARALLEL_MAX)
    }

    fn is_leaf(&self, key: usize) -> bool {
        self.keys[key].shard.depth > 0
    }
}
