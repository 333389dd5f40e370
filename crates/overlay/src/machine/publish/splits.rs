//! What custodians say of full shards, and where own items go instead.

use std::collections::BTreeMap;

use comity_core::Time;

use super::super::Overlay;
use super::PublishJob;
use crate::drive::CommandId;
use crate::shard::{PLACEMENTS, Place, ShardId};

/// A split is believed from one in so many of the custodians that answered: fewer are liars, or full for a reason of their own.
const BELIEVED_OF: u32 = 4;

/// The answers about each shard of one publication, both placements together.
#[derive(Debug, Default)]
pub(super) struct Verdicts(BTreeMap<ShardId, Verdict>);

#[derive(Debug, Default)]
struct Verdict {
    answered: u32,
    /// How many named each depth.
    splits: BTreeMap<u8, u32>,
}

impl Verdicts {
    /// A custodian took an item for `shard` or refused it for a reason of its own (`None`), or named a deeper shard.
    pub(super) fn hear(&mut self, shard: ShardId, split: Option<u8>) {
        let verdict = self.0.entry(shard).or_default();
        verdict.answered += 1;
        if let Some(depth) = split.filter(|depth| *depth > shard.depth) {
            *verdict.splits.entry(depth).or_insert(0) += 1;
        }
    }

    /// Each shard with the depth that is believed, if a split is; nothing is left.
    fn take(&mut self) -> Vec<(ShardId, Option<u8>)> {
        let verdicts = std::mem::take(&mut self.0).into_iter();
        verdicts.map(|(shard, verdict)| (shard, verdict.believed())).collect()
    }
}

impl Verdict {
    /// The deepest depth that enough custodians name or exceed.
    fn believed(&self) -> Option<u8> {
        let mut naming = 0;
        self.splits.iter().rev().find_map(|(depth, count)| {
            naming += count;
            (naming * BELIEVED_OF >= self.answered).then_some(*depth)
        })
    }
}

impl Overlay {
    /// Moves the items of shards that are split to deeper ones, and groups that are split no more back to the top. Returns whether
    /// there is something to store again.
    pub(super) fn follow_splits(&mut self, now: Time, id: CommandId) -> bool {
        let deepest = self.split_depth_max();
        let me = self.me.agent;
        let Some(job) = self.publish_job(id) else { return false };
        let verdicts = if job.retire { Vec::new() } else { job.verdicts.take() };
        let mut again = false;
        for (shard, believed) in verdicts {
            match believed.map(|depth| depth.min(deepest)).filter(|depth| *depth > shard.depth) {
                Some(depth) => {
                    let leaf = ShardId::of(shard.group, depth, &me);
                    again |= self.publish_job(id).is_some_and(|job| job.move_items(shard, leaf));
                    self.publishing.set_depth(shard.group, depth);
                }
                None if shard.depth == 0 && self.publishing.depths.contains_key(&shard.group) => {
                    self.publishing.set_depth(shard.group, 0);
                }
                None => {}
            }
        }
        if again {
            self.continue_publish(now, id);
        }
        again
    }
}

impl PublishJob {
    /// Plans what was meant for `from` for `to`. Returns whether that is new.
    fn move_items(&mut self, from: ShardId, to: ShardId) -> bool {
        let mut new = false;
        for (index, state) in self.items.iter_mut().enumerate() {
            let there =
                |place: &Place| matches!(place, Place::Shard { shard, .. } if *shard == from);
            let before = state.places.len();
            state.places.retain(|(place, _)| !there(place));
            if state.places.len() == before {
                continue;
            }
            state.split = true;
            for placement in 0..PLACEMENTS {
                let position = to.position(placement);
                let place = Place::Shard { shard: to, index: placement };
                if state.places.insert((place, position)) {
                    new = true;
                    match self.todo.iter_mut().find(|(known, _)| *known == position) {
                        Some((_, entries)) => entries.push((index, place)),
                        None => self.todo.push((position, vec![(index, place)])),
                    }
                }
            }
        }
        new
    }
}

#[cfg(test)]
mod tests {
    use comity_capability::keys::GroupKey;

    use super::*;

    fn believed(said: &[Option<u8>]) -> Option<u8> {
        let mut verdicts = Verdicts::default();
        let shard = ShardId::whole(GroupKey([1; 32]));
        said.iter().for_each(|split| verdicts.hear(shard, *split));
        verdicts.take()[0].1
    }

    #[test]
    fn a_quarter_is_believed_and_no_less() {
        assert_eq!(believed(&[None, None, None, Some(1)]), Some(1));
        assert_eq!(believed(&[None, None, None, None, Some(1)]), None);
        assert_eq!(believed(&[None]), None);
        assert_eq!(believed(&[Some(0)]), None, "a split leads down");
    }

    #[test]
    fn the_deepest_that_enough_name_is_taken() {
        assert_eq!(believed(&[Some(1), Some(1), Some(1), Some(3)]), Some(3));
        assert_eq!(believed(&[Some(1), Some(1), Some(1), Some(1), Some(30)]), Some(1));
    }
}
