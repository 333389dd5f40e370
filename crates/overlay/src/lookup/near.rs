//! Values by distance, for a few hundred of them that come and never go: what a lookup knows of.
//!
//! The order is a list of 16-byte keys, so that finding a place in it touches a few cache lines and making room moves a few kilobytes at
//! most; the values stay where they are and can be named by their slot.

use std::cmp::Ordering;

use comity_core::Distance;

/// Room made for values at first: as many as most lookups come to know.
const ROOM: usize = 96;

/// Names a value for as long as its collection lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot(u32);

impl Slot {
    fn index(self) -> usize {
        usize::try_from(self.0).expect("a usize has at least 32 bits")
    }
}

/// The leading bits of a distance, and whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key {
    lead: u64,
    slot: Slot,
}

fn lead(distance: &Distance) -> u64 {
    distance.0.first_chunk().copied().map_or(0, u64::from_be_bytes)
}

/// Values by distance.
#[derive(Clone, Debug)]
pub(super) struct Near<V> {
    values: Vec<(Distance, V)>,
    order: Vec<Key>,
    /// Behind the value that was asked for last: lists of nodes come in the order of their distance, so the next is often here.
    next: usize,
}

impl<V> Near<V> {
    pub(super) const fn new() -> Self {
        Self { values: Vec::new(), order: Vec::new(), next: 0 }
    }

    pub(super) const fn len(&self) -> usize {
        self.values.len()
    }

    /// Where `distance` is in the order, or where it would be.
    fn find(&self, distance: &Distance) -> Result<usize, usize> {
        let lead = lead(distance);
        let here = self.order.get(self.next).map(|key| key.lead.cmp(&lead));
        let before = self.next.checked_sub(1).map(|at| self.order[at].lead.cmp(&lead));
        match (before, here) {
            (Some(Ordering::Less), Some(Ordering::Greater)) => Err(self.next),
            (_, Some(Ordering::Equal)) if self.distance(self.next) == distance => Ok(self.next),
            _ => find(&self.order, self, distance),
        }
    }

    fn distance(&self, at: usize) -> &Distance {
        &self.values[self.order[at].slot.index()].0
    }

    /// The slot at `distance`.
    pub(super) fn slot(&self, distance: &Distance) -> Option<Slot> {
        self.find(distance).ok().map(|at| self.order[at].slot)
    }

    /// The slot at `distance`, filled with a new value if there is none. Returns whether it is new.
    pub(super) fn slot_or_insert(
        &mut self,
        distance: Distance,
        value: impl FnOnce() -> V,
    ) -> (Slot, bool) {
        let found = self.find(&distance);
        self.next = found.unwrap_or_else(|at| at) + 1;
        match found {
            Ok(at) => (self.order[at].slot, false),
            Err(at) => {
                if self.values.is_empty() {
                    self.values.reserve(ROOM);
                    self.order.reserve(ROOM);
                }
                let slot =
                    Slot(u32::try_from(self.values.len()).expect("a lookup bounds what it knows"));
                self.values.push((distance, value()));
                self.order.insert(at, Key { lead: lead(&distance), slot });
                (slot, true)
            }
        }
    }

    pub(super) fn get_mut(&mut self, distance: &Distance) -> Option<&mut V> {
        let slot = self.slot(distance)?;
        Some(self.at_mut(slot))
    }

    pub(super) fn at(&self, slot: Slot) -> &V {
        &self.values[slot.index()].1
    }

    pub(super) fn at_mut(&mut self, slot: Slot) -> &mut V {
        &mut self.values[slot.index()].1
    }

    /// All values, nearest first.
    pub(super) fn values(&self) -> impl DoubleEndedIterator<Item = &V> + '_ {
        self.order.iter().map(|key| self.at(key.slot))
    }

    /// All of them with their distances, nearest first.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&Distance, &V)> + '_ {
        self.order.iter().map(|key| {
            let (distance, value) = &self.values[key.slot.index()];
            (distance, value)
        })
    }

    /// Those up to `radius`, nearest first.
    pub(super) fn up_to(
        &self,
        radius: Distance,
    ) -> impl DoubleEndedIterator<Item = (Slot, &V)> + '_ {
        let end = self.find(&radius).map_or_else(|at| at, |at| at + 1);
        self.order[..end].iter().map(|key| (key.slot, self.at(key.slot)))
    }

    /// All slots, nearest first.
    pub(super) fn slots(&self) -> impl DoubleEndedIterator<Item = (Slot, &V)> + '_ {
        self.order.iter().map(|key| (key.slot, self.at(key.slot)))
    }
}

fn find<V>(order: &[Key], near: &Near<V>, distance: &Distance) -> Result<usize, usize> {
    let lead = lead(distance);
    order.binary_search_by(|key| {
        let rest = || near.values[key.slot.index()].0.cmp(distance);
        key.lead.cmp(&lead).then_with(rest)
    })
}

/// Some of the values of a [`Near`], in its order.
#[derive(Clone, Debug, Default)]
pub(super) struct Subset(Vec<Key>);

impl Subset {
    pub(super) const fn len(&self) -> usize {
        self.0.len()
    }

    /// Adds the value at `distance`, which is in `slot`; nothing when it is there already.
    pub(super) fn insert<V>(&mut self, near: &Near<V>, distance: &Distance, slot: Slot) {
        if let Err(at) = find(&self.0, near, distance) {
            self.0.insert(at, Key { lead: lead(distance), slot });
        }
    }

    /// Removes the farthest.
    pub(super) fn pop_last(&mut self) {
        self.0.pop();
    }

    /// All slots, nearest first.
    pub(super) fn slots(&self) -> impl Iterator<Item = Slot> + '_ {
        self.0.iter().map(|key| key.slot)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    /// Few distances with few leading bits, so that many are equal and many differ late only.
    fn distance() -> impl Strategy<Value = Distance> {
        (0_u8..6, 0_u8..6).prop_map(|(first, last)| {
            let mut bytes = [0; 32];
            (bytes[7], bytes[31]) = (first, last);
            Distance(bytes)
        })
    }

    proptest! {
        #[test]
        fn agrees_with_a_tree(inserts in proptest::collection::vec((distance(), any::<bool>()), 0..80)) {
            let (mut near, mut map) = (Near::new(), BTreeMap::new());
            let (mut subset, mut set) = (Subset::default(), BTreeSet::new());
            for (value, (distance, chosen)) in inserts.into_iter().enumerate() {
                let (slot, new) = near.slot_or_insert(distance, || value);
                prop_assert_eq!(new, !map.contains_key(&distance));
                map.entry(distance).or_insert(value);
                prop_assert_eq!(near.slot(&distance), Some(slot));
                prop_assert_eq!(near.get_mut(&distance).copied(), map.get(&distance).copied());
                if chosen {
                    subset.insert(&near, &distance, slot);
                    set.insert(distance);
                }
            }
            prop_assert_eq!(near.len(), map.len());
            prop_assert!(near.values().eq(map.values()));
            prop_assert!(near.slots().map(|(slot, _)| near.at(slot)).eq(map.values()));
            prop_assert!(subset.slots().map(|slot| near.at(slot)).eq(set.iter().map(|distance| &map[distance])));
            for radius in map.keys().copied().chain([Distance::ZERO, Distance::MAX]) {
                prop_assert!(near.up_to(radius).map(|(_, value)| value).eq(map.range(..=radius).map(|(_, value)| value)));
            }
            prop_assert_eq!(near.slot(&Distance::MAX), None);
            subset.pop_last();
            set.pop_last();
            prop_assert_eq!(subset.len(), set.len());
        }
    }
}
