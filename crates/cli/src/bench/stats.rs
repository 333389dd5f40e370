//! Percentiles of samples, medians over passes, and the bounds within which samples are taken.

use std::time::{Duration, Instant};

use serde::Serialize;

/// Latencies of one measurement, in microseconds. With fewer than 100 samples p99 is the largest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Latency {
    /// How many were measured.
    pub(crate) samples: usize,
    /// Half of them took at most this long.
    pub(crate) p50_us: u64,
    /// 90 in 100 took at most this long.
    pub(crate) p90_us: u64,
    /// 99 in 100 took at most this long.
    pub(crate) p99_us: u64,
    /// The longest.
    pub(crate) max_us: u64,
}

impl Latency {
    /// Of samples in any order; nothing when there is none.
    pub(crate) fn of(samples: &[Duration]) -> Option<Self> {
        let samples: Vec<u64> = samples.iter().copied().map(micros).collect();
        Some(Self {
            samples: samples.len(),
            p50_us: percentile(&samples, 50)?,
            p90_us: percentile(&samples, 90)?,
            p99_us: percentile(&samples, 99)?,
            max_us: percentile(&samples, 100)?,
        })
    }
}

/// A count that belongs to each sample: its median and the largest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Counts {
    /// Median (nearest rank).
    pub(crate) p50: u64,
    /// Largest.
    pub(crate) max: u64,
}

impl Counts {
    /// Of values in any order; nothing when there is none.
    pub(crate) fn of(values: &[u64]) -> Option<Self> {
        Some(Self { p50: percentile(values, 50)?, max: percentile(values, 100)? })
    }
}

/// A number measured once per pass: its median over the passes, with the smallest and the largest pass.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Spread {
    /// Median over the passes.
    pub(crate) median: f64,
    /// Smallest pass.
    pub(crate) min: f64,
    /// Largest pass.
    pub(crate) max: f64,
    /// How many passes.
    pub(crate) passes: usize,
}

impl Spread {
    /// Of one value per pass; nothing when there was no pass.
    pub(crate) fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        let upper = *sorted.get(sorted.len() / 2)?;
        let lower = *sorted.get((sorted.len() - 1) / 2)?;
        Some(Self {
            median: f64::midpoint(lower, upper),
            min: *sorted.first()?,
            max: *sorted.last()?,
            passes: sorted.len(),
        })
    }
}

/// The value below or at which `percent` in 100 of the values lie (nearest rank).
fn percentile(values: &[u64], percent: usize) -> Option<u64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

/// Whole microseconds of a duration.
pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Ends a series of samples by count or by time, whichever comes first. The first sample is always taken.
#[derive(Debug)]
pub(crate) struct Bound {
    taken: usize,
    count: usize,
    until: Instant,
}

impl Bound {
    /// At most `count` samples (one at least), none begun later than `span` from now.
    pub(crate) fn new(count: usize, span: Duration) -> Self {
        Self { taken: 0, count: count.max(1), until: Instant::now() + span }
    }

    /// The number of the next sample, from 0, if there is to be one.
    pub(crate) fn another(&mut self) -> Option<usize> {
        let number = self.taken;
        let more = number == 0 || (number < self.count && Instant::now() < self.until);
        more.then(|| {
            self.taken += 1;
            number
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_rank_in_any_order() {
        let samples: Vec<Duration> = (1..=200).rev().map(Duration::from_micros).collect();
        let latency = Latency::of(&samples).unwrap();
        assert_eq!(
            (latency.samples, latency.p50_us, latency.p90_us, latency.p99_us, latency.max_us),
            (200, 100, 180, 198, 200)
        );
    }

    #[test]
    fn few_samples_have_percentiles_and_none_have_none() {
        let one = Latency::of(&[Duration::from_micros(7)]).unwrap();
        assert_eq!((one.p50_us, one.p99_us, one.max_us), (7, 7, 7));
        assert_eq!(Latency::of(&[]), None);
        assert_eq!(Counts::of(&[4, 1, 3, 2]), Some(Counts { p50: 2, max: 4 }));
        assert_eq!(Counts::of(&[]), None);
    }

    #[test]
    fn spread_of_odd_even_and_no_passes() {
        let odd = Spread::of(&[3.0, 1.0, 2.0]).unwrap();
        assert_eq!((odd.median, odd.min, odd.max, odd.passes), (2.0, 1.0, 3.0, 3));
        assert_eq!(Spread::of(&[4.0, 1.0]).unwrap().median, 2.5);
        assert_eq!(Spread::of(&[]), None);
    }

    #[test]
    fn a_series_ends_by_count() {
        let mut bound = Bound::new(3, Duration::from_secs(3_600));
        let taken: Vec<usize> = std::iter::from_fn(|| bound.another()).collect();
        assert_eq!(taken, [0, 1, 2]);
    }

    #[test]
    fn a_series_without_time_or_count_has_one_sample() {
        for mut bound in [Bound::new(100, Duration::ZERO), Bound::new(0, Duration::ZERO)] {
            assert_eq!((bound.another(), bound.another()), (Some(0), None));
        }
    }
}
