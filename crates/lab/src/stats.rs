//! Means over seeds with the interval they lie in.

use serde::{Deserialize, Serialize};

/// A mean over seeds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// Mean.
    pub mean: f64,
    /// Half the width of the 95 % confidence interval (Student's t over seeds); `None` with a single seed.
    pub margin: Option<f64>,
    /// Least value.
    pub min: f64,
    /// Largest value.
    pub max: f64,
    /// How many seeds.
    pub seeds: usize,
}

/// Quantiles 0.975 of Student's t by degrees of freedom, 1 to 30; beyond, those of the normal distribution are close enough.
const T_975: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
    2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056,
    2.052, 2.048, 2.045, 2.042,
];
const NORMAL_975: f64 = 1.960;

impl Estimate {
    /// Of one value per seed; nothing without a finite one.
    #[must_use]
    pub fn of(values: &[f64]) -> Option<Self> {
        let values: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
        let seeds = values.len();
        if seeds == 0 {
            return None;
        }
        let mean = values.iter().sum::<f64>() / seeds as f64;
        let margin = (seeds > 1).then(|| {
            let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
            let deviation = (squares / (seeds - 1) as f64).sqrt();
            T_975.get(seeds - 2).unwrap_or(&NORMAL_975) * deviation / (seeds as f64).sqrt()
        });
        Some(Self {
            mean,
            margin,
            min: values.iter().copied().fold(f64::INFINITY, f64::min),
            max: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            seeds,
        })
    }

    /// Ends of the interval, the mean itself if there is none.
    #[must_use]
    pub fn interval(&self) -> (f64, f64) {
        let margin = self.margin.unwrap_or(0.0);
        (self.mean - margin, self.mean + margin)
    }

    /// Whether the intervals of two estimates have a value in common. Without interval: whether one may be as large as the other.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        let ((a_low, a_high), (b_low, b_high)) = (self.interval(), other.interval());
        a_low <= b_high && b_low <= a_high
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_is_that_of_the_textbook() {
        // Five values with mean 10 and standard deviation 1.5811: 2.776 * 1.5811 / sqrt(5) = 1.963.
        let estimate = Estimate::of(&[8.0, 9.0, 10.0, 11.0, 12.0]).unwrap();
        assert!((estimate.mean - 10.0).abs() < 1e-12);
        assert!((estimate.margin.unwrap() - 1.963).abs() < 1e-3);
        assert_eq!((estimate.min, estimate.max, estimate.seeds), (8.0, 12.0, 5));
    }

    #[test]
    fn one_seed_has_no_interval_and_none_no_mean() {
        assert_eq!(Estimate::of(&[3.0]).unwrap().margin, None);
        assert_eq!(Estimate::of(&[]), None);
        assert_eq!(Estimate::of(&[f64::NAN]), None);
    }

    #[test]
    fn intervals_overlap_or_not() {
        let of = |values: &[f64]| Estimate::of(values).unwrap();
        assert!(of(&[1.0, 3.0]).overlaps(&of(&[2.0, 2.5])));
        assert!(!of(&[1.0, 1.1]).overlaps(&of(&[9.0, 9.1])));
        assert!(!of(&[1.0]).overlaps(&of(&[2.0])));
    }
}
