//! The shards below a split group: which of them a query asks, and in which order.
//!
//! Custodians of the group name the shards below it and say which may hold matches. Their lists are united: a shard is asked when any of
//! them thinks it may match, those first whose custodians are remembered from an earlier question, which are heard alone, then those whose custodians
//! were named, then those that most custodians name, then
//! those with most members, a few at a time until enough is found, and
//! more at a time when the first bring little. Before any of them is asked, the keys of the plan that may make them needless are: a group
//! that is not split is cheaper than the shards of one that is. Of several split groups the one with the fewest shards is asked first.
//!
//! Who keeps a shard is believed when [`NAMED_BY`] custodians of the group name it, it lies inside the shard's region, and the named do not
//! crowd there. So one liar chooses nobody, and who is asked first is the nearest, as by a search. What the named say counts as what
//! found ones say; where they do not agree or do not answer, the search goes on from them and from the table.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use comity_core::OverlayId;

use super::{PlanKey, QueryJob};
use crate::contact::Contact;
use crate::shard::{PLACEMENTS, Region, ShardId};
use crate::wire::{LEAF_CUSTODIANS_MAX, LeafView};

/// Shards below its groups that one query asks: all of a group of a quarter of a million.
const LEAVES_ASKED_MAX: usize = 256;
/// Of those that one custodian alone names, while all custodians of a group hear of every shard below it: a liar makes up no more.
const LEAVES_ALONE_MAX: usize = 64;
/// Shards below its groups that one query remembers, to choose from. What is more than that is left out, and the answer is not complete.
const LEAVES_KNOWN_MAX: usize = 512;
/// Of them at once, in the beginning.
const LEAVES_PARALLEL: usize = 8;
/// And when those asked first bring so little that many more will be needed.
const LEAVES_PARALLEL_MAX: usize = 64;
/// Custodians of a group that name a custodian of a shard below it before it is asked first.
const NAMED_BY: usize = 2;
/// Custodians named of one shard that are remembered.
const NAMED_MAX: usize = 16;
/// Named ones within this part of the region are a crowd when there are two: with ten expected in the whole, chance puts two there once
/// in 800 times.
const NAMED_CROWD_DIVISOR: u32 = 200;
const NAMED_CROWD: usize = 2;

/// What custodians of one shard say lies below it.
#[derive(Debug, Default)]
pub(super) struct Leaves(BTreeMap<ShardId, Claim>);

#[derive(Debug, Default)]
struct Claim {
    custodians: usize,
    count: u32,
    may_match: bool,
    named: Named,
}

/// Who is said to keep a shard, and how many say so.
#[derive(Clone, Debug, Default)]
pub(super) struct Named(Vec<(Contact, usize)>);

impl Named {
    fn hear(&mut self, custodians: &[Contact]) {
        for (at, custodian) in custodians.iter().take(LEAF_CUSTODIANS_MAX).enumerate() {
            let is_same = |other: &Contact| other.agent == custodian.agent;
            if custodians[..at].iter().any(is_same) {
                continue;
            }
            if let Some((_, times)) = self.0.iter_mut().find(|(known, _)| is_same(known)) {
                *times += 1;
            } else if self.0.len() < NAMED_MAX {
                self.0.push((custodian.clone(), 1));
            }
        }
    }

    /// Whom to ask first at a placement of the shard, and who else may keep it, nearest first. `region` is that of custodians.
    pub(super) fn at(&self, position: &OverlayId, region: Region) -> (Vec<Contact>, Vec<Contact>) {
        let inside =
            self.0.iter().filter(|(known, _)| region.contains(position, &known.overlay_id));
        let mut inside: Vec<_> = inside.collect();
        inside.sort_by_key(|(known, _)| known.overlay_id.distance(position));
        let narrow = region.divided(NAMED_CROWD_DIVISOR);
        let crowd = inside.iter().filter(|(known, _)| narrow.contains(position, &known.overlay_id));
        let is_crowded = crowd.count() >= NAMED_CROWD;
        let (believed, others): (Vec<_>, Vec<_>) =
            inside.into_iter().partition(|(_, times)| !is_crowded && *times >= NAMED_BY);
        let contacts = |named: Vec<&(Contact, usize)>| -> Vec<Contact> {
            named.into_iter().map(|(known, _)| known.clone()).collect()
        };
        (contacts(believed), contacts(others))
    }

    /// Whether somebody is believed to keep each placement of `shard`.
    fn is_known(&self, shard: &ShardId, region: Region) -> bool {
        let mut positions = (0..PLACEMENTS).map(|index| shard.position(index));
        !self.0.is_empty() && positions.all(|position| !self.at(&position, region).0.is_empty())
    }
}

/// How the custodians of a shard are found; the cheapest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Way {
    /// They are remembered from an earlier question.
    Remembered,
    /// Custodians of the group named them.
    Named,
    /// By a search.
    Searched,
}

/// A shard to ask.
#[derive(Clone, Debug)]
pub(super) struct Promising {
    pub(super) shard: ShardId,
    way: Way,
    named: Named,
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
                claim.named.hear(&view.custodians);
            }
        }
    }

    /// The shards to ask, the most promising first, none deeper than `deepest`.
    pub(super) fn ranked(
        self,
        deepest: u8,
        region: Region,
        is_remembered: impl Fn(&ShardId) -> bool,
    ) -> Vec<Promising> {
        let claims = self.0.into_iter();
        let promising = claims.filter(|(leaf, claim)| claim.may_match && leaf.depth <= deepest);
        let mut promising: Vec<_> = promising
            .map(|(leaf, claim)| {
                let way = if is_remembered(&leaf) {
                    Way::Remembered
                } else if claim.named.is_known(&leaf, region) {
                    Way::Named
                } else {
                    Way::Searched
                };
                (way, leaf, claim)
            })
            .collect();
        promising.sort_by_key(|(way, _, claim)| (*way, Reverse((claim.custodians, claim.count))));
        let mut alone = 0;
        promising.retain(|(_, _, claim)| {
            alone += usize::from(claim.custodians == 1);
            claim.custodians > 1 || alone <= LEAVES_ALONE_MAX
        });
        let ranked = promising.into_iter();
        ranked.map(|(way, shard, claim)| Promising { shard, way, named: claim.named }).collect()
    }
}

/// The shards below the keys of one query's plan.
#[derive(Debug, Default)]
pub(super) struct Below {
    /// Those not asked yet, by the key above them, the most promising first.
    waiting: BTreeMap<usize, VecDeque<usize>>,
    /// How many were named in all.
    known: usize,
    /// How many were asked.
    asked: usize,
    /// How many of them to the end.
    ended: usize,
    /// Steps with shards that are not asked because there are too many.
    cut: BTreeSet<usize>,
    /// Matches there were before the first was asked.
    before: Option<usize>,
}

impl Below {
    /// Shards wait to be asked, or were left out.
    pub(super) fn is_open(&self) -> bool {
        !self.waiting.is_empty() || !self.cut.is_empty()
    }
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
    pub(super) fn key_ended(&mut self, key: usize, leaves: Vec<Promising>) {
        self.below.ended += usize::from(self.is_leaf(key));
        let step = self.keys[key].step;
        let room = LEAVES_KNOWN_MAX.saturating_sub(self.below.known);
        if leaves.len() > room {
            self.below.cut.insert(step);
        }
        let first = self.keys.len();
        for Promising { shard, way, named } in leaves.into_iter().take(room) {
            if !self.keys.iter().any(|known| known.shard == shard) {
                self.named.insert(self.keys.len(), named);
                self.keys.push(PlanKey { shard, step, way });
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
        if self.below.asked >= LEAVES_ASKED_MAX {
            let waiting = std::mem::take(&mut self.below.waiting);
            self.below.cut.extend(waiting.keys().map(|key| self.keys[*key].step));
        }
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
        // One round trip to those that are remembered may make the others needless.
        let is_remembered = |key: usize| self.keys[key].way == Way::Remembered;
        if !is_remembered(next) && self.active.keys().any(|active| is_remembered(*active)) {
            return Next::Later;
        }
        self.below.asked += 1;
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

    /// Shards of this step were left out: it is not complete, whatever the others say.
    pub(super) fn is_cut(&self, step: usize) -> bool {
        self.below.cut.contains(&step)
    }

    fn is_leaf(&self, key: usize) -> bool {
        self.keys[key].shard.depth > 0
    }
}

#[cfg(test)]
mod tests;
