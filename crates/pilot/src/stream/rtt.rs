//! Round trip time and retransmission timeout (RFC 6298).

use std::time::Duration;

/// Before the first sample.
pub(super) const TIMEOUT_INITIAL: Duration = Duration::from_secs(1);
/// Least, as in Pilot: below it delayed acknowledgements of 40 ms look like loss.
pub(super) const TIMEOUT_MIN: Duration = Duration::from_millis(200);
/// Most.
pub(super) const TIMEOUT_MAX: Duration = Duration::from_secs(10);
/// Clock granularity G.
const GRANULARITY: Duration = Duration::from_millis(1);
const BACK_OFF_MAX: u32 = 6;

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rtt {
    smoothed: Option<(Duration, Duration)>,
    least: Option<Duration>,
    backed_off: u32,
}

impl Rtt {
    /// A round trip of a segment that was sent once (Karn's rule).
    pub(super) fn sample(&mut self, sample: Duration) {
        self.least = Some(self.least.map_or(sample, |least| least.min(sample)));
        self.smoothed = Some(match self.smoothed {
            None => (sample, sample / 2),
            Some((smoothed, variation)) => {
                let off = smoothed.abs_diff(sample);
                ((smoothed * 7 + sample) / 8, (variation * 3 + off) / 4)
            }
        });
        self.backed_off = 0;
    }

    /// New data was acknowledged: the path is alive.
    pub(super) const fn relax(&mut self) {
        self.backed_off = 0;
    }

    /// The shortest round trip seen.
    pub(super) const fn least(&self) -> Option<Duration> {
        self.least
    }

    pub(super) fn smoothed(&self) -> Option<Duration> {
        self.smoothed.map(|(smoothed, _variation)| smoothed)
    }

    pub(super) fn back_off(&mut self) {
        self.backed_off = (self.backed_off + 1).min(BACK_OFF_MAX);
    }

    pub(super) fn timeout(&self) -> Duration {
        let base = match self.smoothed {
            None => TIMEOUT_INITIAL,
            Some((smoothed, variation)) => smoothed + (variation * 4).max(GRANULARITY),
        };
        (base.max(TIMEOUT_MIN) * 2u32.pow(self.backed_off)).min(TIMEOUT_MAX)
    }
}
