//! What happens when many peers went at once, and when many came back.
//!
//! After a mass failure every table entry is asked until it answered or left, what the buckets lost is looked up, the size of the
//! network is sampled anew, and own items are stored again. Contacts that went together and come back are the other half of a network
//! that was cut: then this node joins again, through them, and stores its items where they belong in the whole.

use std::time::Duration;

use comity_core::Time;

use super::routing::JoinJob;
use super::traffic::{Goal, Purpose};
use super::{Overlay, Task, Timer};
use crate::config::K;
use crate::contact::Contact;
use crate::drive::Errand;
use crate::wire::Request;

/// Time between two rounds of pings: longer than a request takes to fail.
const ROUND_EVERY: Duration = Duration::from_secs(2);
/// Rounds after which what is left is left to maintenance.
const ROUNDS_MAX: u32 = 60;
/// Entries pinged in a round.
const PINGS_PER_ROUND: usize = 32;
/// Suspicion alone makes a node ask so many of its entries, as chance has it, this often at most. When half of the newest requests
/// fail after that, all are asked.
const SUSPECTS: usize = 16;
const SUSPICION_EVERY: Duration = Duration::from_secs(120);
/// The names of nodes that went together are told for so long.
pub(super) const NAMES_TOLD_FOR: Duration = Duration::from_secs(900);
/// A network that has so many times as few nodes as before is another one: most of those who keep a place now did not before.
const SHRUNK: u64 = 4;
/// So long after many went everyone has stored again what they publish, those included who noticed late.
const RESTORED_AFTER: Duration = Duration::from_secs(240);
/// Buckets looked up in a round.
const REFRESHES_PER_ROUND: usize = 8;
/// Random places looked up for the new size of the network.
const SAMPLES: usize = 4;
/// Longest wait before own items are stored again, so that not all publishers do at once.
const RESTORE_WITHIN: Duration = Duration::from_secs(60);
/// Own items are stored once more this long after halves met, when the other nodes' tables have settled too.
const RESTORE_AGAIN_AFTER: Duration = Duration::from_secs(240);
/// Contacts that went together and came back before it is believed that a network was cut: fewer may have been elsewhere.
const RETURNS_MIN: u32 = 3;
/// Returns further apart have nothing to do with each other.
const RETURNS_WITHIN: Duration = Duration::from_secs(300);
/// Once one of them is back, so many others are asked at once.
const ASK_AFTER_RETURN: usize = 8;
/// After halves met, more contacts that come back mean nothing new for so long.
const MERGE_PAUSE: Duration = Duration::from_secs(300);

/// Cleaning up after a mass failure.
#[derive(Clone, Copy, Debug)]
pub(super) struct Recovery {
    began: Time,
    round: u32,
    /// More than half of the requests fail: what is lost is looked up again.
    mass: bool,
    /// Buckets that were looked up, once every entry is settled.
    refilled: usize,
}

impl Recovery {
    pub(super) const fn is_mass(self) -> bool {
        self.mass
    }
}

/// Contacts that went together and came back of late.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Returns {
    first: Time,
    count: u32,
    merged: Time,
    /// When own items are stored once more.
    again: Option<Time>,
}

impl Overlay {
    /// Most requests to table entries fail all of a sudden.
    pub(super) fn mass_failure(&mut self, now: Time) {
        self.counters.mass_failures += 1;
        if self.upkeep.is_calm(now) {
            self.upkeep.size_before = self.size_estimate();
        }
        self.upkeep.struck = now;
        self.begin_recovery(now, true);
        self.restore_within(now, self.health.paced(RESTORE_WITHIN));
    }

    /// Most nodes went of late, and not everyone has stored again what they publish.
    pub(super) fn has_shrunk(&self, now: Time) -> bool {
        let lately = self.upkeep.struck != Time::ZERO
            && now.saturating_since(self.upkeep.struck) < RESTORED_AFTER;
        lately && self.upkeep.size_before >= self.size_estimate().saturating_mul(SHRUNK)
    }

    /// Many requests to table entries fail: some entries are asked, but not all the time, and all if that is true of them.
    pub(super) fn suspicion(&mut self, now: Time) {
        if now.saturating_since(self.upkeep.suspected) >= SUSPICION_EVERY {
            self.begin_recovery(now, false);
        }
    }

    fn begin_recovery(&mut self, now: Time, mass: bool) {
        self.upkeep.suspected = now;
        if let Some(recovery) = &mut self.upkeep.recovery {
            recovery.mass |= mass;
            return;
        }
        self.upkeep.recovery = Some(Recovery { began: now, round: 0, mass, refilled: 0 });
        self.timers.insert((now, Timer::Recovery));
    }

    /// One round of cleaning up.
    pub(super) fn recover(&mut self, now: Time) {
        let Some(mut recovery) = self.upkeep.recovery else { return };
        recovery.round += 1;
        if !recovery.mass && recovery.round == 1 {
            let entries = self.table.entries().map(|entry| entry.contact.clone()).collect();
            self.ask_some(now, entries, SUSPECTS);
            self.recover_again(now, recovery);
            return;
        }
        if !recovery.mass && recovery.round == 2 && !self.vitals.is_grave() {
            self.upkeep.recovery = None;
            return;
        }
        let entries = self.table.entries().filter(|entry| entry.seen() < recovery.began);
        let unheard: Vec<_> = entries.map(|entry| entry.contact.clone()).collect();
        let settled = unheard.is_empty() || recovery.round > ROUNDS_MAX;
        self.ask_some(now, unheard, PINGS_PER_ROUND);
        if settled && !recovery.mass {
            recovery.refilled = self.table.buckets();
        } else if settled && (!self.health.is_strained() || recovery.round > ROUNDS_MAX) {
            if recovery.refilled == 0 {
                self.size.restart();
                for _ in 0..SAMPLES {
                    let target = self.random_id();
                    let breadth = self.sample_breadth();
                    self.look(now, Goal::Sample(None), target, breadth);
                }
            }
            recovery.refilled = self.refill(now, recovery.refilled);
        }
        if settled && recovery.refilled >= self.table.buckets() {
            self.upkeep.recovery = None;
        } else {
            self.recover_again(now, recovery);
        }
    }

    /// The next round comes the later the later this node is: were its own requests what keeps a machine busy that it shares with other
    /// nodes, that would never end.
    fn recover_again(&mut self, now: Time, recovery: Recovery) {
        self.upkeep.recovery = Some(recovery);
        let next = now + self.health.paced(ROUND_EVERY);
        self.timers.insert((next, Timer::Recovery));
    }

    /// Asks so many entries, as chance has it, whether they are there. Those unseen longest would be mostly dead, and failures of theirs
    /// say nothing about the others.
    fn ask_some(&mut self, now: Time, entries: Vec<Contact>, count: usize) {
        for contact in self.some_of(entries, count) {
            self.send(now, contact, Request::Ping, Purpose::Ping(Errand::Recovery));
        }
    }

    /// So many of these, as chance has it.
    pub(super) fn some_of(&mut self, mut entries: Vec<Contact>, count: usize) -> Vec<Contact> {
        let count = count.min(entries.len());
        let draw = |_| {
            let at = self.rng.next_u32() as usize % entries.len();
            entries.swap_remove(at)
        };
        (0..count).map(draw).collect()
    }

    /// Looks up some buckets from `first` on that are not full. Returns which is next.
    fn refill(&mut self, now: Time, first: usize) -> usize {
        let mut looked = 0;
        for bucket in first..self.table.buckets() {
            if looked == REFRESHES_PER_ROUND {
                return bucket;
            }
            if self.table.bucket_len(bucket) < K {
                looked += 1;
                let noise = self.noise();
                let target = self.table.place_in(bucket, noise);
                let breadth = self.refresh_breadth();
                self.look(now, Goal::Fill(None), target, breadth);
            }
        }
        self.table.buckets()
    }

    /// Own items are stored again after a while that chance decides, up to `within`, by custodians looked up anew.
    pub(super) fn restore_within(&mut self, now: Time, within: Duration) {
        let span = u32::try_from(within.as_millis()).unwrap_or(u32::MAX).max(1);
        let delay = Duration::from_millis(u64::from(self.rng.next_u32() % span));
        self.restore_by(now + delay);
    }

    /// A contact answers. If it had gone together with many, perhaps the other half of a cut network is back: others are asked,
    /// and when they answer too, the halves are joined.
    pub(super) fn note_return(&mut self, now: Time, contact: &Contact) {
        let Some(cut) = self.upkeep.former.remove(&contact.overlay_id) else { return };
        self.upkeep.former.hasten();
        if !cut {
            return;
        }
        let returns = &mut self.upkeep.returns;
        if now.saturating_since(returns.first) > RETURNS_WITHIN {
            (returns.first, returns.count) = (now, 0);
        }
        returns.count += 1;
        let merged_lately =
            returns.merged != Time::ZERO && now.saturating_since(returns.merged) < MERGE_PAUSE;
        if returns.count == 1 {
            for contact in self.upkeep.former.next(now, true, ASK_AFTER_RETURN) {
                self.send(now, contact, Request::Ping, Purpose::Ping(Errand::Recovery));
            }
        } else if returns.count >= RETURNS_MIN && !merged_lately && !self.health.is_strained() {
            returns.merged = now;
            returns.again = Some(now + RESTORE_AGAIN_AFTER);
            self.merge_halves(now);
        }
    }

    fn merge_halves(&mut self, now: Time) {
        self.counters.merges += 1;
        self.restore_within(now, RESTORE_WITHIN);
        self.size.restart();
        let join = JoinJob::new();
        let id = self.begin_silent(now, Task::Join(join), None);
        self.enter(now, id);
    }

    /// Stores own items once more when the time has come after halves met.
    pub(super) fn restore_again(&mut self, now: Time) {
        if self.upkeep.returns.again.is_some_and(|again| again <= now) {
            self.upkeep.returns.again = None;
            self.restore_within(now, RESTORE_WITHIN);
        }
    }
}
