//! How late this node is itself.
//!
//! A node that gets too little processor time finds its timers due together with answers that it has not read yet. Were it to take
//! that for its peers' silence, it would forget them, and look for them with more requests than it could serve before. So it weighs its own
//! lateness first, as Lifeguard does for SWIM (Dadgar, Phillips and Currey, "Lifeguard: Local Health Awareness for More Accurate Failure
//! Detection", 2017): the machine knows when it asked to be woken, and sees when it is called.
//!
//! Where no call is late nothing of this does anything.

use std::time::Duration;

use comity_core::Time;

/// Calls up to so late are on time: no scheduler does better for long, and a handful of answers takes as much.
const LATE_MIN: Duration = Duration::from_millis(50);
/// Times that a request which waited while this node was late is given more time.
const GRACES_MAX: u8 = 2;
/// Strain wears off in so many times the time in which it grew: who is late a fifth of the time, in short pieces, is not strained.
const STRAIN_FADES: u32 = 4;
/// Lateness beyond what wore off that makes one unit of strain, and the most units there are: Lifeguard's local health multiplier goes as
/// far.
const STRAIN_UNIT: Duration = Duration::from_secs(1);
const STRAIN_MAX: u32 = 8;

/// What a node knows of its own lateness.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Health {
    /// When the machine was last called.
    called: Time,
    /// When it was last called with no timer overdue: what was set since cannot have been due before.
    on_time: Time,
    /// Lateness up to here is counted.
    counted: Time,
    /// All of it.
    late: Duration,
    /// Times it began.
    stalls: u64,
    /// Lateness that has not worn off, as of `counted`.
    strain: Duration,
}

impl Health {
    /// The machine is called at `now`, and was to be woken at `due` at the latest.
    pub(super) fn note_call(&mut self, now: Time, due: Option<Time>) {
        self.called = now;
        let Some(due) = due.filter(|due| *due < now) else {
            self.on_time = now;
            return;
        };
        let since = due.max(self.on_time);
        if now.saturating_since(since) <= LATE_MIN {
            return;
        }
        let more = now.saturating_since(since.max(self.counted));
        self.stalls += u64::from(since > self.counted);
        self.late += more;
        self.strain = (self.strain_left(now) + more).min(STRAIN_UNIT * STRAIN_MAX);
        self.counted = now;
    }

    /// All lateness since the start: what it grew by is how long a request waited for this node.
    pub(super) const fn late(&self) -> Duration {
        self.late
    }

    /// Times that the node was late.
    pub(super) const fn stalls(&self) -> u64 {
        self.stalls
    }

    /// How much less this node should do of what can wait, 0 to [`STRAIN_MAX`].
    pub(super) fn strain(&self) -> u32 {
        let units = self.strain_left(self.called).as_micros() / STRAIN_UNIT.as_micros();
        u32::try_from(units).unwrap_or(STRAIN_MAX)
    }

    /// Whether the node is so late, for so long, that what can wait should.
    pub(super) fn is_strained(&self) -> bool {
        self.strain() > 0
    }

    /// An interval between things that can wait: the longer the later this node is.
    pub(super) fn paced(&self, interval: Duration) -> Duration {
        interval * (1 + self.strain())
    }

    fn strain_left(&self, now: Time) -> Duration {
        self.strain.saturating_sub(now.saturating_since(self.counted) / STRAIN_FADES)
    }
}

/// How much of a request's wait was for its own node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// How late the node had been in all when the request was sent, and when it was last given more time.
    sent: Duration,
    set: Duration,
    graces: u8,
    slow_again: bool,
}

impl Patience {
    /// For a request that is sent now.
    pub(super) const fn new(health: &Health) -> Self {
        Self { sent: health.late, set: health.late, graces: 0, slow_again: false }
    }

    /// How long it waited for its own node.
    pub(super) fn own_delay(&self, health: &Health) -> Duration {
        health.late.saturating_sub(self.sent)
    }

    /// The node was late since the request was sent, or last given more time: the answer may have come, or the link have broken for want of
    /// the node's own signs of life.
    pub(super) fn is_excused(&self, health: &Health) -> bool {
        health.late > self.set
    }

    /// It waited its whole time-out while its node ran, without any more time.
    pub(super) const fn is_plain(&self) -> bool {
        self.graces == 0
    }

    /// Whether it does not count as slow yet: once, its answer may be there, unread.
    pub(super) fn defers_slow(&mut self, health: &Health) -> bool {
        let defers = self.is_excused(health) && !self.slow_again;
        self.slow_again |= defers;
        defers
    }

    /// How much more time a request is given that would be lost: as much as its node was late, so that it waits its whole time-out while
    /// the node runs.
    pub(super) fn grace(&mut self, health: &Health) -> Option<Duration> {
        if !self.is_excused(health) || self.graces == GRACES_MAX {
            return None;
        }
        self.graces += 1;
        let own = health.late.saturating_sub(self.set);
        self.set = health.late;
        Some(own)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const START: Time = Time::from_secs(1_000);

    const fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn who_is_called_in_time_is_never_late() {
        let (mut health, mut now) = (Health::default(), START);
        for step in 0..1_000 {
            health.note_call(now, Some(now));
            // Now and then something is due in the past as soon as it is set.
            if step % 7 == 0 {
                health.note_call(now, Some(now - millis(500)));
            }
            now += millis(step);
        }
        assert_eq!((health.late(), health.stalls(), health.strain()), (Duration::ZERO, 0, 0));
    }

    #[test]
    fn lateness_is_counted_once_however_often_the_machine_is_called() {
        let mut health = Health::default();
        health.note_call(START, Some(START + millis(100)));
        let due = START + millis(100);
        for at in [2_000, 2_000, 2_300, 3_100] {
            health.note_call(START + millis(at), Some(due));
        }
        assert_eq!((health.late(), health.stalls()), (millis(3_000), 1));
        // A quarter of the time since the first call wore off.
        assert_eq!(health.strain(), 2);
        health.note_call(START + millis(3_200), None);
        health.note_call(START + millis(4_000), Some(START + millis(3_500)));
        assert_eq!((health.late(), health.stalls()), (millis(3_500), 2));
    }

    #[test]
    fn strain_wears_off_and_short_delays_make_none() {
        let mut health = Health::default();
        health.note_call(START, None);
        let long = START + Duration::from_secs(60);
        health.note_call(long, Some(START + millis(1)));
        assert_eq!(health.strain(), STRAIN_MAX);
        assert_eq!(health.paced(millis(2_000)), millis(18_000));
        let worn = long + STRAIN_UNIT * STRAIN_MAX * STRAIN_FADES;
        health.note_call(worn, None);
        assert!(!health.is_strained());
        assert_eq!(health.paced(millis(2_000)), millis(2_000));
        // A tenth of the time late, in pieces of a tenth of a second.
        let mut now = worn;
        for _ in 0..1_000 {
            health.note_call(now + millis(900), None);
            health.note_call(now + millis(1_000), Some(now + millis(900)));
            now += millis(1_000);
            assert!(!health.is_strained());
        }
    }

    #[test]
    fn a_request_is_given_as_much_time_as_its_node_was_late_twice_at_most() {
        let mut health = Health::default();
        health.note_call(START, None);
        let mut patience = Patience::new(&health);
        assert_eq!((patience.grace(&health), patience.is_plain()), (None, true));
        for (at, grace) in [(3, Some(2)), (6, Some(2)), (9, None)] {
            let now = START + Duration::from_secs(at);
            health.note_call(now, Some(now - Duration::from_secs(2)));
            assert!(patience.is_excused(&health));
            assert_eq!(patience.defers_slow(&health), at == 3);
            assert_eq!(patience.grace(&health), grace.map(Duration::from_secs));
        }
        assert!(patience.is_excused(&health) && !patience.is_plain());
        assert_eq!(patience.own_delay(&health), Duration::from_secs(6));
    }

    proptest! {
        #[test]
        fn lateness_never_exceeds_the_time_that_passed(
            calls in proptest::collection::vec((0_u64..5_000_000, 0_u64..10_000_000), 0..200),
        ) {
            let (mut health, mut now) = (Health::default(), START);
            health.note_call(now, None);
            for (step, before) in calls {
                now += Duration::from_micros(step);
                health.note_call(now, Some(Time(now.as_micros() + 2_000_000 - before)));
                prop_assert!(health.strain() <= STRAIN_MAX);
                prop_assert!(health.late() <= now.saturating_since(START));
            }
        }
    }
}
