//! What is published and asked, the same for every design: items with their keys, questions with their right answers.
//!
//! Right answers are decided on the integers of [`crate::workload`], as in the simulation of the production overlay. A baseline's
//! evaluator is the same comparison of integers: none of them loses recall by matching badly.

use std::collections::BTreeMap;

use comity_capability::keys::{GroupKey, KeyFamily, group_keys};
use comity_core::Identity;
use comity_core::canonical::Canonical;

use super::net::{Ix, at, to_ix};
use crate::random::Random;
use crate::scenario::EPOCH;
use crate::workload::{Question, Spec, Workload, digests};

/// Publishers whose digests are sealed to learn how long a digest is on the wire.
const SIZED_PUBLISHERS_MAX: usize = 50;

/// Index of an item.
pub(super) type ItemIx = u32;
/// Index of a key.
pub(super) type KeyIx = u32;

/// A published capability.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) publisher: Ix,
    pub(super) spec: Spec,
    /// Its keys of the families that structured questions use: name, entity, cell and class.
    pub(super) keys: Box<[KeyIx]>,
}

/// What is known of a key.
#[derive(Clone, Debug)]
pub(super) struct Key {
    /// Its place on the ring: the leading 128 bits of the group key.
    pub(super) place: u128,
    pub(super) family: KeyFamily,
    /// Items published under it.
    pub(super) members: Vec<ItemIx>,
}

/// A question with what it takes to judge its answer.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) question: Question,
    /// Keys of the most selective step of the production planner, those that anybody publishes under.
    pub(super) keys: Vec<KeyIx>,
    /// The class of the question; of the item it was drawn from, if it names none.
    pub(super) class: Option<KeyIx>,
    /// Length of the encoded query.
    pub(super) bytes: u64,
    /// Items that answer it, whoever is up.
    pub(super) gold: Vec<ItemIx>,
}

/// Everything that can be published.
#[derive(Debug, Default)]
pub(super) struct Catalogue {
    pub(super) items: Vec<Item>,
    pub(super) keys: Vec<Key>,
    by_key: BTreeMap<GroupKey, KeyIx>,
    by_publisher: BTreeMap<Ix, Vec<ItemIx>>,
    /// Mean length of a sealed digest on the wire.
    pub(super) digest_bytes: u64,
}

impl Catalogue {
    pub(super) fn new(publishers: &[Ix], lists: Vec<Vec<Spec>>) -> Self {
        let mut catalogue = Self { digest_bytes: digest_bytes(&lists), ..Self::default() };
        for (publisher, specs) in publishers.iter().zip(lists) {
            for spec in specs {
                catalogue.add(*publisher, spec);
            }
        }
        catalogue
    }

    fn add(&mut self, publisher: Ix, spec: Spec) {
        let item = to_ix(self.items.len());
        let mut keys = Vec::new();
        for labelled in group_keys(&spec.declare()) {
            if matches!(labelled.family, KeyFamily::Interface | KeyFamily::Term) {
                continue;
            }
            let fresh = to_ix(self.keys.len());
            let key = *self.by_key.entry(labelled.key).or_insert(fresh);
            if key == fresh {
                let place = place_of(&labelled.key);
                self.keys.push(Key { place, family: labelled.family, members: Vec::new() });
            }
            self.keys[at(key)].members.push(item);
            keys.push(key);
        }
        self.by_publisher.entry(publisher).or_default().push(item);
        self.items.push(Item { publisher, spec, keys: keys.into() });
    }

    /// Items of a publisher.
    pub(super) fn of(&self, publisher: Ix) -> &[ItemIx] {
        self.by_publisher.get(&publisher).map_or(&[], Vec::as_slice)
    }

    pub(super) fn item(&self, item: ItemIx) -> &Item {
        &self.items[at(item)]
    }

    pub(super) fn key(&self, key: KeyIx) -> &Key {
        &self.keys[at(key)]
    }

    /// Whether `item` answers.
    pub(super) fn matches(&self, item: ItemIx, question: &Question) -> bool {
        self.item(item).spec.answers(question)
    }

    /// Draws a question that `item` answers.
    pub(super) fn draw(&self, random: &mut Random, workload: &Workload, item: ItemIx) -> Asked {
        self.asked(workload.draw_question(random, &self.item(item).spec), item)
    }

    /// The question for `item` by its name alone.
    pub(super) fn by_name(&self, item: ItemIx) -> Asked {
        let name = Some(self.item(item).spec.name.clone());
        self.asked(Question { name, ..Question::default() }, item)
    }

    fn asked(&self, question: Question, origin: ItemIx) -> Asked {
        let query = question.query();
        let plan = query.plan();
        let known = |keys: &[comity_capability::keys::Labelled]| -> Vec<KeyIx> {
            keys.iter().filter_map(|labelled| self.by_key.get(&labelled.key).copied()).collect()
        };
        let steps: Vec<_> = plan.steps.iter().map(|step| known(&step.keys)).collect();
        let keys = steps.first().cloned().unwrap_or_default();
        let own_class = self
            .item(origin)
            .keys
            .iter()
            .copied()
            .find(|key| self.key(*key).family == KeyFamily::ClassLeaf);
        let gold = self.gold(&question, &keys);
        Asked { bytes: query.encode().len() as u64, class: own_class, keys, question, gold }
    }

    fn gold(&self, question: &Question, keys: &[KeyIx]) -> Vec<ItemIx> {
        let mut gold: Vec<_> = keys
            .iter()
            .flat_map(|key| &self.key(*key).members)
            .copied()
            .filter(|item| self.matches(*item, question))
            .collect();
        gold.sort_unstable();
        gold.dedup();
        gold
    }
}

fn place_of(key: &GroupKey) -> u128 {
    let mut leading = [0; 16];
    leading.copy_from_slice(&key.as_bytes()[..16]);
    u128::from_be_bytes(leading)
}

/// Mean length of the sealed digests of the first publishers.
fn digest_bytes(lists: &[Vec<Spec>]) -> u64 {
    let identity = Identity::from_secret_bytes(&[7; 32]);
    let life = std::time::Duration::from_secs(3_600);
    let (mut total, mut count) = (0, 0);
    for specs in lists.iter().take(SIZED_PUBLISHERS_MAX) {
        for (digest, _) in digests(specs, 1, EPOCH, EPOCH + life) {
            total += digest.seal(&identity).len() as u64;
            count += 1;
        }
    }
    total / std::cmp::max(count, 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gold_found_by_key_is_all_there_is() {
        let workload = Workload {
            publishers: 80,
            capabilities_each: 2,
            twins: 400_000,
            classes: 5,
            pairs: 20,
            ..Workload::default()
        };
        let mut random = Random::new(3, "test");
        let lists = workload.draw_specs(&mut random, 80);
        let publishers: Vec<Ix> = (0..80).collect();
        let catalogue = Catalogue::new(&publishers, lists);
        assert!((250..=512).contains(&catalogue.digest_bytes), "{}", catalogue.digest_bytes);
        for item in 0..to_ix(catalogue.items.len()) {
            let asked = catalogue.draw(&mut random, &workload, item);
            let all: Vec<_> = (0..to_ix(catalogue.items.len()))
                .filter(|other| catalogue.matches(*other, &asked.question))
                .collect();
            assert_eq!(asked.gold, all, "{:?}", asked.question);
            assert!(all.contains(&item) && asked.class.is_some());
        }
    }
}
