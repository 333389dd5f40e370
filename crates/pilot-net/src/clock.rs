//! The clock of a node: never goes back, counts from the wall clock at its start.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use comity_core::Time;

/// Where time comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    started: Instant,
    wall: Duration,
}

impl Clock {
    pub(crate) fn start() -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { started: Instant::now(), wall }
    }

    pub(crate) fn now(&self) -> Time {
        Time::ZERO + self.wall + self.started.elapsed()
    }

    /// The instant of a time, for timers.
    pub(crate) fn instant(&self, time: Time) -> Instant {
        self.started + time.saturating_since(Time::ZERO + self.wall)
    }
}

/// Seconds since the UNIX epoch, by the wall clock.
pub(crate) fn unix() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Microseconds since the UNIX epoch, by the wall clock.
pub(crate) fn unix_micros() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_micros()).unwrap_or(u64::MAX)
}
