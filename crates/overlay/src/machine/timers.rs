//! What is due when.

use comity_core::Time;

use super::Timer;

/// Room for timers that an idle node keeps: maintenance, renewal, reconciliation, reports.
const KEPT: usize = 4;

/// The timers that are set, the latest first: a node has one or two most of the time and a few dozen while it works, so a sorted list
/// beats a tree in time and space.
#[derive(Debug, Default)]
pub(super) struct Timers(Vec<(Time, Timer)>);

impl Timers {
    /// The earliest.
    pub(super) fn first(&self) -> Option<(Time, Timer)> {
        self.0.last().copied()
    }

    pub(super) fn pop_first(&mut self) -> Option<(Time, Timer)> {
        let first = self.0.pop();
        self.shrink();
        first
    }

    /// Sets a timer; nothing when it is set already.
    pub(super) fn insert(&mut self, timer: (Time, Timer)) {
        if let Err(at) = self.find(&timer) {
            if self.0.capacity() == 0 {
                self.0.reserve_exact(KEPT);
            }
            self.0.insert(at, timer);
        }
    }

    pub(super) fn remove(&mut self, timer: &(Time, Timer)) {
        if let Ok(at) = self.find(timer) {
            self.0.remove(at);
            self.shrink();
        }
    }

    /// Unsets a timer whenever it is due.
    pub(super) fn forget(&mut self, timer: Timer) {
        self.0.retain(|(_, set)| *set != timer);
        self.shrink();
    }

    pub(super) fn extend(&mut self, timers: impl IntoIterator<Item = (Time, Timer)>) {
        timers.into_iter().for_each(|timer| self.insert(timer));
    }

    fn find(&self, timer: &(Time, Timer)) -> Result<usize, usize> {
        self.0.binary_search_by(|set| timer.cmp(set))
    }

    fn shrink(&mut self) {
        if self.0.len() <= KEPT && self.0.capacity() > 2 * KEPT {
            self.0.shrink_to(KEPT);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::drive::RequestId;

    proptest! {
        #[test]
        fn agrees_with_a_tree(ops in proptest::collection::vec((0_u8..4, 0_u64..8, 0_u64..4), 0..200)) {
            let (mut timers, mut tree) = (Timers::default(), BTreeSet::new());
            for (op, due, id) in ops {
                let timer = (Time(due), Timer::Slow(RequestId(id)));
                match op {
                    0 => prop_assert_eq!(timers.pop_first(), tree.pop_first()),
                    1 => {
                        timers.remove(&timer);
                        tree.remove(&timer);
                    }
                    _ => {
                        timers.insert(timer);
                        tree.insert(timer);
                    }
                }
                prop_assert_eq!(timers.first(), tree.first().copied());
                prop_assert_eq!(timers.0.len(), tree.len());
            }
        }
    }
}
