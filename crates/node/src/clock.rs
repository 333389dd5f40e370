//! The node's clock: the only place of the library that reads time.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use comity_core::Time;

/// Wall-clock time that never runs backwards while the node lives.
///
/// Read once from the system at start and advanced by the monotonic clock, so that an operator who steps the system
/// clock neither expires every record at once nor revives expired ones.
#[derive(Debug, Clone)]
pub(crate) struct Clock {
    origin: Time,
    started: Instant,
}

impl Clock {
    /// A clock that runs `offset_secs` ahead of the system's (behind it when negative); 0 outside tests of clock skew.
    pub(crate) fn new(offset_secs: i64) -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let micros = i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX);
        let micros = micros.saturating_add(offset_secs.saturating_mul(1_000_000));
        Self { origin: Time(u64::try_from(micros).unwrap_or(0)), started: Instant::now() }
    }

    /// Microseconds since the UNIX epoch.
    pub(crate) fn now(&self) -> Time {
        self.origin + self.started.elapsed()
    }
}
