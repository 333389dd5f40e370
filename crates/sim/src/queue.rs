//! What happens when: a timing wheel that gives events in the order of (time, order of scheduling).
//!
//! Two wheels and a tree: slots of a millisecond for the next seconds, slots of seconds for the next hour, and beyond that whole hours.
//! What is due in the slot that has been reached lies in a heap. An event is moved at most three times, so a million nodes that
//! each wait for their next minute cost the busy ones nothing (Varghese and Lauck, "Hashed and hierarchical timing wheels", 1987).

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use comity_core::Time;

/// Microseconds of a tick: 2^10.
const TICK_BITS: u32 = 10;
/// Ticks of the fine wheel: 2^12, four seconds.
const FINE_BITS: u32 = 12;
/// Turns of the fine wheel that the coarse wheel has slots for: 2^10, an hour and a bit.
const COARSE_BITS: u32 = 10;

/// An event: when, in which order among those of one microsecond, and what the owner of the queue calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    at: u64,
    order: u32,
    what: u32,
}

impl Key {
    const fn tick(&self) -> u64 {
        self.at >> TICK_BITS
    }
}

/// Slots, and which of them hold something.
#[derive(Debug)]
struct Wheel {
    slots: Vec<Vec<Key>>,
    used: Vec<u64>,
}

impl Wheel {
    fn new(bits: u32) -> Self {
        let slots = 1_usize << bits;
        Self { slots: vec![Vec::new(); slots], used: vec![0; slots / 64] }
    }

    fn add(&mut self, slot: usize, key: Key) {
        self.used[slot / 64] |= 1 << (slot % 64);
        self.slots[slot].push(key);
    }

    fn take(&mut self, slot: usize) -> Vec<Key> {
        self.used[slot / 64] &= !(1 << (slot % 64));
        std::mem::take(&mut self.slots[slot])
    }

    /// The first slot that holds something, from `slot` on.
    fn next(&self, slot: usize) -> Option<usize> {
        let first = self.used.get(slot / 64)? & (u64::MAX << (slot % 64));
        let rest = self.used.iter().copied().enumerate().skip(slot / 64 + 1);
        let (word, bits) =
            [(slot / 64, first)].into_iter().chain(rest).find(|(_, bits)| *bits != 0)?;
        Some(word * 64 + usize::try_from(bits.trailing_zeros()).ok()?)
    }
}

/// The queue.
#[derive(Debug)]
pub(crate) struct Queue {
    /// Everything due in or before tick `reached`.
    near: BinaryHeap<Reverse<Key>>,
    reached: u64,
    fine: Wheel,
    coarse: Wheel,
    far: BTreeMap<u64, Vec<Key>>,
    len: usize,
    /// Counts what was scheduled. It wraps, which only concerns events of one microsecond.
    order: u32,
}

impl Queue {
    pub(crate) fn new() -> Self {
        Self {
            near: BinaryHeap::new(),
            reached: 0,
            fine: Wheel::new(FINE_BITS),
            coarse: Wheel::new(COARSE_BITS),
            far: BTreeMap::new(),
            len: 0,
            order: 0,
        }
    }

    /// Schedules `what`.
    pub(crate) fn push(&mut self, at: Time, what: u32) {
        self.order = self.order.wrapping_add(1);
        self.len += 1;
        self.place(Key { at: at.as_micros(), order: self.order, what });
        self.advance();
    }

    /// When the next event is due.
    pub(crate) fn next_due(&self) -> Option<Time> {
        self.near.peek().map(|Reverse(key)| Time(key.at))
    }

    /// Takes the next event.
    pub(crate) fn pop(&mut self) -> Option<(Time, u32)> {
        let Reverse(key) = self.near.pop()?;
        self.len -= 1;
        self.advance();
        Some((Time(key.at), key.what))
    }

    fn place(&mut self, key: Key) {
        let tick = key.tick();
        if tick <= self.reached {
            self.near.push(Reverse(key));
        } else if tick >> FINE_BITS == self.reached >> FINE_BITS {
            self.fine.add(slot(tick, FINE_BITS), key);
        } else if tick >> (FINE_BITS + COARSE_BITS) == self.reached >> (FINE_BITS + COARSE_BITS) {
            self.coarse.add(slot(tick >> FINE_BITS, COARSE_BITS), key);
        } else {
            self.far.entry(tick >> (FINE_BITS + COARSE_BITS)).or_default().push(key);
        }
    }

    /// Goes on to the next tick with an event when the heap has run empty.
    fn advance(&mut self) {
        while self.near.is_empty() && self.len > 0 {
            let keys = if let Some(next) = self.fine.next(slot(self.reached, FINE_BITS)) {
                self.reached = (self.reached >> FINE_BITS) << FINE_BITS | next as u64;
                self.fine.take(next)
            } else if let Some(next) =
                self.coarse.next(slot(self.reached >> FINE_BITS, COARSE_BITS))
            {
                let turn = self.reached >> (FINE_BITS + COARSE_BITS);
                self.reached = (turn << COARSE_BITS | next as u64) << FINE_BITS;
                self.coarse.take(next)
            } else if let Some((turn, keys)) = self.far.pop_first() {
                self.reached = turn << (FINE_BITS + COARSE_BITS);
                keys
            } else {
                return;
            };
            keys.into_iter().for_each(|key| self.place(key));
        }
    }
}

/// The last `bits` of `number`, as an index.
fn slot(number: u64, bits: u32) -> usize {
    usize::try_from(number & ((1 << bits) - 1)).expect("a wheel has fewer slots than 2^16")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::random::Random;

    #[test]
    fn agrees_with_a_sorted_set() {
        let mut random = Random::new(1, "test");
        let (mut queue, mut set) = (Queue::new(), BTreeSet::new());
        let mut now = 1_800_000_000_000_000;
        for what in 0..60_000_u32 {
            // Bursts at one time, messages, minutes, days; now and then an event in the past.
            let scale = [0, 40, 1 << 10, 300_000, 60_000_000, 7_200_000_000, 400_000_000_000];
            let at = now + random.below(*random.clone().pick(&scale).unwrap());
            let at = if random.below(50) == 0 { at.min(now) - random.below(5_000_000) } else { at };
            queue.push(Time(at), what);
            set.insert((at, what));
            // As many come as go, after a first crowd.
            while set.len() > 5_000 || random.below(3) == 0 && !set.is_empty() {
                assert_eq!(queue.next_due(), set.first().map(|(at, _)| Time(*at)));
                let (at, what) = queue.pop().unwrap();
                assert_eq!(set.pop_first(), Some((at.as_micros(), what)));
                now = now.max(at.as_micros());
            }
        }
        while let Some((at, what)) = queue.pop() {
            assert_eq!(set.pop_first(), Some((at.as_micros(), what)));
        }
        assert!(set.is_empty() && queue.next_due().is_none());
    }
}
