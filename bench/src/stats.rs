//! Percentiles of a pass, medians and spread over passes, slopes.

use std::time::Duration;

use serde::Serialize;

/// A number measured once per pass: its median over the passes, with the smallest and largest pass.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
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
        let sorted = sorted(values);
        Some(Self {
            median: median_of_sorted(&sorted)?,
            min: *sorted.first()?,
            max: *sorted.last()?,
            passes: sorted.len(),
        })
    }
}

/// Median of values in any order.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    median_of_sorted(&sorted(values))
}

/// The value below or at which `percent` of the samples lie (nearest rank), in microseconds.
pub(crate) fn percentile_us(samples: &mut [Duration], percent: usize) -> Option<f64> {
    samples.sort_unstable();
    let rank = (samples.len() * percent).div_ceil(100).max(1);
    Some(micros(*samples.get(rank - 1)?))
}

/// A duration in microseconds, with fractions.
pub(crate) fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

/// Least-squares slope of `(x, y)` points and the largest distance of a point from the line; needs two different x.
pub(crate) fn slope(points: &[(f64, f64)]) -> Option<Slope> {
    let count = points.iter().map(|_| 1.0).sum::<f64>();
    let mean_x = points.iter().map(|p| p.0).sum::<f64>() / count;
    let mean_y = points.iter().map(|p| p.1).sum::<f64>() / count;
    let var = points.iter().map(|p| (p.0 - mean_x).powi(2)).sum::<f64>();
    if points.len() < 2 || var == 0.0 {
        return None;
    }
    let cov = points.iter().map(|p| (p.0 - mean_x) * (p.1 - mean_y)).sum::<f64>();
    let per_unit = cov / var;
    let residual =
        points.iter().map(|p| (p.1 - mean_y - per_unit * (p.0 - mean_x)).abs()).fold(0.0, f64::max);
    Some(Slope { per_unit, residual })
}

/// A fitted line.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Slope {
    /// Growth of y per unit of x.
    pub(crate) per_unit: f64,
    /// Largest distance of a point from the line, in units of y.
    pub(crate) residual: f64,
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted
}

fn median_of_sorted(sorted: &[f64]) -> Option<f64> {
    let mid = sorted.len() / 2;
    let upper = *sorted.get(mid)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    Some(f64::midpoint(*sorted.get(mid.checked_sub(1)?)?, upper))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spread_of_odd_and_even_counts() {
        let odd = Spread::of(&[3.0, 1.0, 2.0]).unwrap();
        assert_eq!((odd.median, odd.min, odd.max, odd.passes), (2.0, 1.0, 3.0, 3));
        assert_eq!(Spread::of(&[4.0, 1.0]).unwrap().median, 2.5);
        assert_eq!(Spread::of(&[]), None);
    }

    #[test]
    fn percentile_is_nearest_rank() {
        let mut samples: Vec<_> = (1..=100).rev().map(Duration::from_micros).collect();
        assert_eq!(percentile_us(&mut samples, 50).unwrap().round(), 50.0);
        assert_eq!(percentile_us(&mut samples, 99).unwrap().round(), 99.0);
        assert_eq!(percentile_us(&mut samples[..1], 99).unwrap().round(), 1.0);
        assert_eq!(percentile_us(&mut [], 50), None);
    }

    #[test]
    fn slope_of_a_line_and_of_one_point() {
        let line = slope(&[(50.0, 110.0), (100.0, 210.0), (150.0, 310.0)]).unwrap();
        assert!((line.per_unit - 2.0).abs() < 1e-9 && line.residual < 1e-9);
        assert_eq!(slope(&[(50.0, 1.0)]), None);
        assert_eq!(slope(&[(50.0, 1.0), (50.0, 2.0)]), None);
    }
}
