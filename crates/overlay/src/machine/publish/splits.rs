//! What custodians say of full shards, and where own items go instead.

use std::collections::BTreeMap;

use comity_core::Time;

use super::super::Overlay;
use super::PublishJob;
use crate::drive::CommandId;
use crate::item::ItemKind;
use crate::shard::{PLACEMENTS, Place, ShardId};

/// A split is believed from one in so many of the custodians that answered: fewer are liars, or full for a reason of their own.
const BELIEVED_OF: u32 = 4;
/// So many answers are enough to follow a split at once when half of them name it; else all are waited for. A custodian gives two, about
/// a digest and its beat.
const PROMPT_ANSWERS_MIN: u32 = 12;
const PROMPT_OF: u32 = 2;

/// The answers about each shard of one publication, both placements together.
#[derive(Debug, Default)]
pub(super) struct Verdicts(BTreeMap<ShardId, Verdict>);

#[derive(Debug, Default)]
struct Verdict {
    answered: u32,
    /// How many named each depth.
    splits: BTreeMap<u8, u32>,
    /// Its items were moved down already.
    followed: bool,
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

    /// Each shard that was not followed with the depth that is believed, if a split is; nothing is left.
    fn take(&mut self) -> Vec<(ShardId, Option<u8>)> {
        let verdicts = std::mem::take(&mut self.0).into_iter();
        let left = verdicts.filter(|(_, verdict)| !verdict.followed);
        left.map(|(shard, verdict)| (shard, verdict.believed(BELIEVED_OF))).collect()
    }

    /// The shards that so many say are split that nobody else need be heard. Each comes once.
    fn take_prompt(&mut self) -> Vec<(ShardId, Option<u8>)> {
        let prompt = |(shard, verdict): (&ShardId, &mut Verdict)| {
            let heard = verdict.answered >= PROMPT_ANSWERS_MIN && !verdict.followed;
            let depth = verdict.believed(PROMPT_OF).filter(|_| heard)?;
            verdict.followed = true;
            Some((*shard, Some(depth)))
        };
        self.0.iter_mut().filter_map(prompt).collect()
    }
}

impl Verdict {
    /// The deepest depth that one in `of` of the custodians that answered names or exceeds.
    fn believed(&self, of: u32) -> Option<u8> {
        let mut naming = 0;
        self.splits.iter().rev().find_map(|(depth, count)| {
            naming += count;
            (naming * of >= self.answered).then_some(*depth)
        })
    }
}

impl Overlay {
    /// Moves the items of shards that are split to deeper ones, and groups that are split no more back to the top; with `prompt`, only
    /// what is beyond doubt while answers are outstanding. Returns whether there is something to store again.
    pub(super) fn follow_splits(&mut self, now: Time, id: CommandId, prompt: bool) -> bool {
        let Some(job) = self.publish_job(id).filter(|job| !job.retire) else { return false };
        let verdicts = if prompt { job.verdicts.take_prompt() } else { job.verdicts.take() };
        let mut again = false;
        for (shard, believed) in verdicts {
            let veiled = self.publish_job(id).is_some_and(|job| job.is_veiled(&shard));
            let deepest = self.split_depth_max(veiled);
            match believed.map(|depth| depth.min(deepest)).filter(|depth| *depth > shard.depth) {
                Some(depth) => {
                    again |= self.publish_job(id).is_some_and(|job| job.move_items(shard, depth));
                    self.publishing.set_depth(shard.group, depth);
                }
                None if shard.depth == 0 && self.publishing.depths.contains_key(&shard.group) => {
                    self.publishing.set_depth(shard.group, 0);
                }
                None => {}
            }
        }
        if again {
            self.assign_remembered(now, id);
            self.continue_publish(now, id);
        }
        again
    }
}

impl PublishJob {
    /// Whether it is a shard of a private group.
    fn is_veiled(&self, shard: &ShardId) -> bool {
        self.items.iter().any(|state| {
            state.labels.contains_key(&shard.group) && state.item.content.kind() == ItemKind::Veiled
        })
    }

    /// Plans what was meant for `from` for the shard of its signer at `depth`. Returns whether that is new.
    fn move_items(&mut self, from: ShardId, depth: u8) -> bool {
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
            let to = ShardId::of(from.group, depth, &state.item.signer);
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
    fn a_split_beyond_doubt_is_followed_at_once_and_once() {
        let mut verdicts = Verdicts::default();
        let shard = ShardId::whole(GroupKey([1; 32]));
        for answers in 0..PROMPT_ANSWERS_MIN {
            assert_eq!(verdicts.take_prompt(), [], "{answers} answers");
            verdicts.hear(shard, answers.is_multiple_of(PROMPT_OF).then_some(1));
        }
        assert_eq!(verdicts.take_prompt(), [(shard, Some(1))]);
        verdicts.hear(shard, Some(3));
        assert_eq!(verdicts.take_prompt(), []);
        assert_eq!(verdicts.take(), [], "what was followed is not judged again");
        (0..20).for_each(|n| verdicts.hear(shard, (n < 9).then_some(1)));
        assert_eq!(verdicts.take_prompt(), [], "nine of twenty may be liars");
        assert_eq!(verdicts.take(), [(shard, Some(1))]);
    }

    #[test]
    fn the_deepest_that_enough_name_is_taken() {
        assert_eq!(believed(&[Some(1), Some(1), Some(1), Some(3)]), Some(3));
        assert_eq!(believed(&[Some(1), Some(1), Some(1), Some(1), Some(30)]), Some(1));
    }
}
