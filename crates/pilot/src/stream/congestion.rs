//! Congestion control: slow start with the delay-based exit of HyStart++ (RFC 9406, without its conservative phase), then NewReno.

use std::time::Duration;

/// First window, in bytes and segments: the smaller counts.
const INITIAL_BYTES: u64 = 40_960;
const INITIAL_SEGMENTS: u64 = 10;
/// Most that is ever under way, in bytes.
pub(super) const WINDOW_MAX: u64 = 16 << 20;
/// Round trips sampled in a round before its least one means something.
const SAMPLES_MIN: u32 = 8;
const RISE_MIN: Duration = Duration::from_millis(4);
const RISE_MAX: Duration = Duration::from_millis(16);

#[derive(Clone, Debug)]
pub(super) struct Congestion {
    segment: u64,
    window: u64,
    threshold: u64,
    /// Bytes acknowledged since the window last grew by a segment.
    credit: u64,
    round_end: u64,
    round_least: Duration,
    round_samples: u32,
    last_least: Duration,
}

impl Congestion {
    pub(super) fn new(segment: usize) -> Self {
        let segment = segment as u64;
        Self {
            segment,
            window: INITIAL_BYTES.min(INITIAL_SEGMENTS * segment).max(2 * segment),
            threshold: WINDOW_MAX,
            credit: 0,
            round_end: 0,
            round_least: Duration::MAX,
            round_samples: 0,
            last_least: Duration::MAX,
        }
    }

    pub(super) const fn window(&self) -> u64 {
        self.window
    }

    pub(super) fn set_segment(&mut self, segment: usize) {
        self.segment = segment as u64;
        self.window = self.window.max(2 * self.segment);
    }

    /// A round trip; `next` and `first` are the positions that tell rounds apart.
    pub(super) fn sample(&mut self, sample: Duration, next: u64, first: u64) {
        if self.window >= self.threshold {
            return;
        }
        if first >= self.round_end {
            self.last_least = self.round_least;
            (self.round_least, self.round_samples) = (Duration::MAX, 0);
            self.round_end = next;
        }
        self.round_least = self.round_least.min(sample);
        self.round_samples += 1;
        let known = self.last_least != Duration::MAX && self.round_samples >= SAMPLES_MIN;
        let rise = (self.last_least / 8).clamp(RISE_MIN, RISE_MAX);
        if known && self.round_least >= self.last_least + rise {
            self.threshold = self.window;
        }
    }

    /// That many bytes were acknowledged while the window was in use.
    pub(super) fn grow(&mut self, bytes: u64) {
        if self.window < self.threshold {
            self.window += bytes;
        } else {
            self.credit += bytes;
            let steps = self.credit / self.window;
            self.credit %= self.window;
            self.window += steps * self.segment;
        }
        self.window = self.window.min(WINDOW_MAX);
    }

    /// Something was lost: once a round trip. `flight` is what was under way.
    pub(super) fn lost(&mut self, flight: u64) {
        self.threshold = (flight.min(self.window) / 2).max(2 * self.segment);
        self.window = self.threshold;
        self.credit = 0;
    }

    /// What was lost has arrived.
    pub(super) fn recovered(&mut self) {
        self.window = self.window.max(2 * self.segment);
    }

    /// Nothing was heard for a timeout: the path is to be sounded anew. `flight` is what was under way; none when what was sent again is lost
    /// again, which says nothing new of how much the path carries (RFC 5681, section 3.1).
    pub(super) fn timed_out(&mut self, flight: Option<u64>) {
        if let Some(flight) = flight {
            self.threshold = (flight.min(self.window) / 2).max(2 * self.segment);
        }
        self.window = self.segment;
        self.credit = 0;
        self.round_end = 0;
    }
}
