//! What several seeds say together: means and shares with the 95 % interval they lie in.
//!
//! ```
//! use comity_sim::report::Hits;
//! use comity_sim::stats::{mean, share};
//!
//! // Not one failure in 3,000 says: at most 0.13 %, not: none.
//! let none_failed = share(Hits { found: 3_000, wanted: 3_000 });
//! assert_eq!(none_failed.value, 1.0);
//! assert!(none_failed.low > 0.998 && none_failed.low < 0.9988);
//! let latency = mean(&[310.0, 322.0, 301.0]);
//! assert!(latency.low < 311.0 && latency.value == 311.0);
//! ```

use serde::{Deserialize, Serialize};

use crate::random::Random;
use crate::report::{Hits, float};

/// Quantile 0.975 of the normal distribution.
const NORMAL: f64 = 1.959_964;
/// Quantiles 0.975 of Student's t, by degrees of freedom from 1 on.
const STUDENT: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
    2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056,
    2.052, 2.048, 2.045, 2.042,
];
/// Samples that a bootstrap draws.
const RESAMPLES: usize = 2_000;

/// A value with the interval it lies in with 95 % confidence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The value measured.
    pub value: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Seeds, or trials of a share.
    pub count: u64,
}

/// A share over all trials together: Wilson's score interval, which is right for shares near 0 and 1 too.
///
/// Trials of one run share their network: where seeds differ by more than chance, use [`mean`] of the seeds' shares.
#[must_use]
pub fn share(hits: Hits) -> Interval {
    if hits.wanted == 0 {
        return Interval { value: 1.0, low: 0.0, high: 1.0, count: 0 };
    }
    let (trials, value) = (float(hits.wanted), hits.share());
    let square = NORMAL * NORMAL;
    let scale = 1.0 / (1.0 + square / trials);
    let middle = scale * (value + square / (2.0 * trials));
    let spread = (value * (1.0 - value) / trials + square / (4.0 * trials * trials)).sqrt();
    let margin = scale * NORMAL * spread;
    // The ends of a certain outcome are exact.
    let low = if hits.found == 0 { 0.0 } else { (middle - margin).max(0.0) };
    let high = if hits.found == hits.wanted { 1.0 } else { (middle + margin).min(1.0) };
    Interval { value, low, high, count: hits.wanted }
}

/// The mean of one value per seed: Student's t. One seed has no interval: its ends are the value.
#[must_use]
pub fn mean(values: &[f64]) -> Interval {
    let count = values.len() as u64;
    if values.is_empty() {
        return Interval::default();
    }
    let value = values.iter().sum::<f64>() / float(count);
    if values.len() == 1 {
        return Interval { value, low: value, high: value, count };
    }
    let squares: f64 = values.iter().map(|one| (one - value) * (one - value)).sum();
    let deviation = (squares / float(count - 1)).sqrt();
    let quantile = STUDENT.get(values.len() - 2).copied().unwrap_or(NORMAL);
    let margin = quantile * deviation / float(count).sqrt();
    Interval { value, low: value - margin, high: value + margin, count }
}

/// Any statistic of one value per seed, by the percentile bootstrap: for those whose distribution nobody knows, such as maxima.
/// The same values and seed give the same interval.
pub fn bootstrap(values: &[f64], seed: u64, statistic: impl Fn(&[f64]) -> f64) -> Interval {
    if values.is_empty() {
        return Interval::default();
    }
    let value = statistic(values);
    let mut random = Random::new(seed, "bootstrap");
    let mut resample = Vec::with_capacity(values.len());
    let mut results: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            resample.clear();
            resample.extend((0..values.len()).filter_map(|_| random.pick(values)));
            statistic(&resample)
        })
        .collect();
    results.sort_by(f64::total_cmp);
    let at = |permille: usize| {
        let place = (results.len() * permille / 1_000).min(results.len() - 1);
        results.get(place).copied().unwrap_or(value)
    };
    Interval { value, low: at(25), high: at(975), count: values.len() as u64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(got: f64, wanted: f64) {
        assert!((got - wanted).abs() < 1e-3, "{got}, wanted {wanted}");
    }

    #[test]
    fn wilson_is_as_in_the_books() {
        // Newcombe 1998, table I: 81 of 263.
        let interval = share(Hits { found: 81, wanted: 263 });
        near(interval.low, 0.2553);
        near(interval.high, 0.3662);
        let all = share(Hits { found: 20, wanted: 20 });
        assert_eq!((all.value, all.high), (1.0, 1.0));
        near(all.low, 0.8389);
        let none = share(Hits { found: 0, wanted: 20 });
        assert_eq!((none.value, none.low), (0.0, 0.0));
        near(none.high, 0.1611);
        assert_eq!(share(Hits::default()).count, 0);
    }

    #[test]
    fn students_interval_of_five_values() {
        let interval = mean(&[2.0, 4.0, 6.0, 8.0, 10.0]);
        near(interval.value, 6.0);
        // 2.776 * 3.1623 / sqrt(5).
        near(interval.high - interval.value, 3.926);
        assert_eq!(mean(&[3.0]), Interval { value: 3.0, low: 3.0, high: 3.0, count: 1 });
        assert_eq!(mean(&[]).count, 0);
    }

    #[test]
    fn a_bootstrap_brackets_and_repeats() {
        let values: Vec<f64> = (1..=40).map(f64::from).collect();
        let average = |values: &[f64]| values.iter().sum::<f64>() / float(values.len() as u64);
        let interval = bootstrap(&values, 1, average);
        near(interval.value, 20.5);
        // Normal theory: 20.5 +- 3.58.
        assert!((16.4..17.6).contains(&interval.low), "{interval:?}");
        assert!((23.4..24.6).contains(&interval.high), "{interval:?}");
        assert_eq!(interval, bootstrap(&values, 1, average));
        let constant = bootstrap(&[5.0; 7], 1, average);
        assert_eq!((constant.low, constant.high), (5.0, 5.0));
    }
}
