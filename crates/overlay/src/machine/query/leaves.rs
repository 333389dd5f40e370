//! The shards below a split group: which of them a query asks, and in which order.
//!
//! Custodians of the group name the shards below it and say which may hold matches. Their lists are united: a shard is asked when any of
//! them thinks it may match, those that most of them name first, then those with most members, a few at a time until enough is found.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::{PlanKey, QueryJob};
use crate::shard::ShardId;
use crate::wire::LeafView;

/// Shards below its groups that one query asks.
const LEAVES_ASKED_MAX: usize = 64;
/// Of them at once.
const LEAVES_PARALLEL: usize = 4;

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

    /// The shards to ask, the most promising first, none deeper than `deepest`.
    fn ranked(self, deepest: u8) -> Vec<ShardId> {
        let claims = self.0.into_iter();
        let promising = claims.filter(|(leaf, claim)| claim.may_match && leaf.depth <= deepest);
        let mut promising: Vec<_> = promising.collect();
        promising.sort_by_key(|(_, claim)| Reverse((claim.custodians, claim.count)));
        promising.into_iter().map(|(leaf, _)| leaf).collect()
    }
}

impl QueryJob {
    /// Adds the shards below the key that was just asked, before the keys that wait.
    pub(super) fn add_leaves(&mut self, key: usize, leaves: Leaves, deepest: u8) {
        let step = self.keys[key].step;
        let room = LEAVES_ASKED_MAX.saturating_sub(self.leaves);
        let first = self.keys.len();
        for shard in leaves.ranked(deepest).into_iter().take(room) {
            if !self.keys.iter().any(|known| known.shard == shard) {
                self.keys.push(PlanKey { shard, step });
            }
        }
        self.leaves += self.keys.len() - first;
        for index in (first..self.keys.len()).rev() {
            self.waiting.push_front(index);
        }
    }

    /// Whether a key may be asked now: as many at once as allowed, and not before an earlier step that may make it needless.
    pub(super) fn may_begin(&self, index: usize, parallel: usize) -> bool {
        let PlanKey { shard, step } = self.keys[index];
        let parallel = if shard.depth > 0 { parallel.max(LEAVES_PARALLEL) } else { parallel };
        self.active.len() < parallel && !self.awaits_step(step)
    }
}
