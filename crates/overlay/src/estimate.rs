//! What a node learns about the network from its own requests: round trips and the number of nodes.

use std::collections::VecDeque;
use std::time::Duration;

use comity_core::OverlayId;

use crate::shard::leading_distance;

/// Smoothed round trip time, RFC 6298 section 2 without the variance.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RoundTrip {
    smoothed: Duration,
}

impl RoundTrip {
    /// Before the first answer.
    const INITIAL: Duration = Duration::from_millis(150);
    /// An answer later than this says more about the peer than about the network.
    const SAMPLE_MAX: Duration = Duration::from_secs(3);

    pub(crate) const fn new() -> Self {
        Self { smoothed: Self::INITIAL }
    }

    pub(crate) fn sample(&mut self, rtt: Duration) {
        self.smoothed = (self.smoothed * 7 + rtt.min(Self::SAMPLE_MAX)) / 8;
    }

    pub(crate) const fn get(&self) -> Duration {
        self.smoothed
    }
}

/// The number of nodes, as the median over lookups for random targets.
///
/// One's own neighbourhood is never a sample: an attacker can crowd it (OVERLAY section 3.5).
#[derive(Clone, Debug)]
pub(crate) struct NetworkSize {
    samples: VecDeque<u64>,
    samples_max: usize,
    /// Their median; `None` before the first. It is asked for with every request, and changes with every lookup for it.
    median: Option<u64>,
    /// The next sample replaces all.
    restarted: bool,
}

impl NetworkSize {
    pub(crate) fn new(samples_max: usize) -> Self {
        Self {
            samples: VecDeque::new(),
            samples_max: samples_max.max(1),
            median: None,
            restarted: false,
        }
    }

    /// The network is not the one that was sampled: the next sample replaces the old ones.
    pub(crate) const fn restart(&mut self) {
        self.restarted = true;
    }

    pub(crate) fn samples(&self) -> usize {
        self.samples.len()
    }

    /// As if every sample had shown `size` nodes.
    pub(crate) fn preload(&mut self, size: u64) {
        self.samples.clear();
        self.samples.reserve_exact(self.samples_max);
        self.samples.extend(std::iter::repeat_n(size.max(1), self.samples_max));
        self.median = Some(size.max(1));
    }

    /// Takes what an earlier run knew for `samples` samples, if there is none yet: others replace them in time.
    pub(crate) fn recall(&mut self, size: u64, samples: usize) {
        if self.samples.is_empty() {
            (0..samples.min(self.samples_max)).for_each(|_| self.add(size));
        }
    }

    /// Adds what a lookup for a random `target` found: nodes that answered, nearest first. `exhaustive` when there was nobody else to
    /// ask, so that they and this node are all there are.
    pub(crate) fn sample(&mut self, target: &OverlayId, found: &[OverlayId], exhaustive: bool) {
        self.add(if exhaustive { found.len() as u64 + 1 } else { by_density(target, found) });
    }

    /// Adds nodes that are said to be there, nearest first, of whom so many in a thousand are.
    pub(crate) fn sample_named(&mut self, target: &OverlayId, named: &[OverlayId], permille: u32) {
        let size = u128::from(by_density(target, named)) * u128::from(permille) / 1_000;
        self.add(u64::try_from(size).unwrap_or(u64::MAX));
    }

    fn add(&mut self, size: u64) {
        if std::mem::take(&mut self.restarted) {
            self.samples.clear();
        }
        if self.samples.len() == self.samples_max {
            self.samples.pop_front();
        }
        self.samples.push_back(size.max(1));
        let mut sorted: Vec<_> = self.samples.iter().copied().collect();
        sorted.sort_unstable();
        let upper = sorted[sorted.len() / 2];
        let is_odd = sorted.len() % 2 == 1;
        let median = if is_odd { upper } else { sorted[sorted.len() / 2 - 1].midpoint(upper) };
        self.median = Some(median);
    }

    /// The median, or `known` (contacts and oneself) before the first sample. Never below 1.
    pub(crate) fn get(&self, known: usize) -> u64 {
        self.median.unwrap_or(known as u64).max(1)
    }
}

/// Least squares through the origin of rank against distance: with `n` nodes spread evenly the i-th nearest lies at about i/n of
/// the space, so n = sum(i^2) / sum(i * d_i).
fn by_density(target: &OverlayId, found: &[OverlayId]) -> u64 {
    /// Distances are cut to 64 bits, so that the sums fit 128.
    const CUT: u32 = 64;
    let (mut squares, mut products) = (0_u128, 0_u128);
    for (rank, id) in (1_u128..).zip(found) {
        squares += rank * rank;
        products += rank * (leading_distance(target, id) >> CUT);
    }
    let space = 1_u128 << CUT;
    let whole = squares.saturating_mul(space) / products.max(1);
    u64::try_from(whole).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spread(count: u64) -> Vec<OverlayId> {
        (1..=count)
            .map(|i| {
                let mut id = [0; 32];
                id[..8].copy_from_slice(&(u64::MAX / 1_000 * i).to_be_bytes());
                OverlayId(id)
            })
            .collect()
    }

    #[test]
    fn an_even_thousand_reads_as_a_thousand() {
        let mut size = NetworkSize::new(16);
        size.sample(&OverlayId([0; 32]), &spread(20), false);
        assert!((990..=1_010).contains(&size.get(0)), "{}", size.get(0));
    }

    #[test]
    fn who_is_named_and_gone_does_not_count() {
        let mut size = NetworkSize::new(16);
        size.sample_named(&OverlayId([0; 32]), &spread(20), 800);
        assert!((790..=810).contains(&size.get(0)), "{}", size.get(0));
    }

    #[test]
    fn exhaustive_lookups_count() {
        let mut size = NetworkSize::new(16);
        assert_eq!(size.get(3), 3);
        size.sample(&OverlayId([0; 32]), &spread(7), true);
        assert_eq!(size.get(3), 8);
    }

    #[test]
    fn a_restart_forgets_the_network_that_was() {
        let mut size = NetworkSize::new(16);
        (0..16).for_each(|_| size.sample(&OverlayId([0; 32]), &spread(20), false));
        size.restart();
        assert!(size.get(0) > 900, "until something newer is known");
        size.sample(&OverlayId([0; 32]), &spread(7), true);
        assert_eq!((size.get(0), size.samples()), (8, 1));
    }

    #[test]
    fn one_crowded_sample_does_not_move_the_median() {
        let mut size = NetworkSize::new(3);
        for _ in 0..2 {
            size.sample(&OverlayId([0; 32]), &spread(20), false);
        }
        size.sample(&OverlayId([0; 32]), &[OverlayId([0; 32]); 20], false);
        assert!(size.get(0) < 1_100);
    }

    #[test]
    fn round_trips_converge() {
        let mut rtt = RoundTrip::new();
        for _ in 0..100 {
            rtt.sample(Duration::from_millis(10));
        }
        assert!(rtt.get() < Duration::from_millis(11));
    }
}
