//! Collecting measurements while a run goes on, in bounded space.

use std::time::Duration;

use comity_core::Time;
use comity_overlay::Cost;

use super::{Hits, PhaseReport, Point, QUANTILES, Sample, Series, Shown, Spread, float, ratio};
use crate::random::micros;

/// Values of one distribution that are kept; of more, every second, fourth, … one.
pub const VALUES_KEPT_MAX: usize = 1 << 16;
/// Points of a time series.
pub const SERIES_POINTS_MAX: usize = 512;
/// Values kept of each bucket of a series.
const BUCKET_VALUES_MAX: usize = 1 << 10;

/// Whole numbers whose distribution is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Values {
    kept: Vec<u64>,
    kept_max: usize,
    stride: u64,
    count: u64,
    total: u128,
    min: u64,
    max: u64,
}

impl Default for Values {
    fn default() -> Self {
        Self::bounded(VALUES_KEPT_MAX)
    }
}

impl FromIterator<u64> for Values {
    fn from_iter<I: IntoIterator<Item = u64>>(values: I) -> Self {
        let mut all = Self::default();
        values.into_iter().for_each(|value| all.add(value));
        all
    }
}

impl Values {
    /// None yet; keeps at most `kept_max`, at least 2.
    #[must_use]
    pub fn bounded(kept_max: usize) -> Self {
        let kept_max = kept_max.max(2);
        Self { kept: Vec::new(), kept_max, stride: 1, count: 0, total: 0, min: u64::MAX, max: 0 }
    }

    /// Adds one.
    pub fn add(&mut self, value: u64) {
        if self.count.is_multiple_of(self.stride) {
            if self.kept.len() == self.kept_max {
                let mut index = 0_usize;
                self.kept.retain(|_| {
                    index += 1;
                    index % 2 == 1
                });
                self.stride *= 2;
            }
            if self.count.is_multiple_of(self.stride) {
                self.kept.push(value);
            }
        }
        self.count += 1;
        self.total += u128::from(value);
        self.min = self.min.min(value);
        self.max = self.max.max(value);
    }

    /// How many were added.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Their distribution, each divided by `unit`.
    #[must_use]
    pub fn spread(&self, unit: f64) -> Spread {
        if self.count == 0 {
            return Spread::default();
        }
        let mut sorted = self.kept.clone();
        sorted.sort_unstable();
        let of_10_000 = |share: usize| {
            let at = (sorted.len() * share).div_ceil(10_000).max(1) - 1;
            sorted.get(at).copied().map_or(0.0, float) / unit
        };
        let rank = |percent: usize| of_10_000(100 * percent);
        let mut quantiles = QUANTILES.map(|share| of_10_000(usize::from(share)));
        // The ends are known even when not every value is kept.
        quantiles[0] = float(self.min) / unit;
        quantiles[QUANTILES.len() - 1] = float(self.max) / unit;
        let total = u64::try_from(self.total).unwrap_or(u64::MAX);
        Spread {
            count: self.count,
            mean: ratio(total, self.count) / unit,
            min: float(self.min) / unit,
            p50: rank(50),
            p90: rank(90),
            p95: rank(95),
            p99: rank(99),
            max: float(self.max) / unit,
            quantiles,
        }
    }
}

/// Collects a [`Sample`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SampleBuilder {
    /// Commands given.
    pub started: u64,
    /// Commands whose node went down.
    pub abandoned: u64,
    succeeded: u64,
    latency: Values,
    hops: Values,
    requests: Values,
    bytes: Values,
}

impl SampleBuilder {
    /// Adds a command that ended.
    pub fn add(&mut self, cost: Cost, succeeded: bool) {
        self.succeeded += u64::from(succeeded);
        self.latency.add(micros(cost.elapsed));
        self.hops.add(u64::from(cost.hops));
        self.requests.add(u64::from(cost.requests));
        let bytes = cost.bytes_sent + cost.bytes_received;
        self.bytes.add(bytes);
    }

    /// Commands that ended.
    #[must_use]
    pub const fn ended(&self) -> u64 {
        self.latency.count()
    }

    /// What was collected.
    #[must_use]
    pub fn finish(&self) -> Sample {
        Sample {
            started: self.started,
            ended: self.ended(),
            succeeded: self.succeeded,
            abandoned: self.abandoned,
            latency_ms: self.latency.spread(1e3),
            hops: self.hops.spread(1.0),
            requests: self.requests.spread(1.0),
            bytes: self.bytes.spread(1.0),
        }
    }
}

/// Collects a [`PhaseReport`]. What is not sampled here is set by the caller in [`PhaseBuilder::done`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PhaseBuilder {
    /// Everything that is counted directly.
    pub done: PhaseReport,
    /// Structured queries.
    pub queries: SampleBuilder,
    /// Queries in free text.
    pub texts: SampleBuilder,
    /// Questions for a live peer.
    pub peers: SampleBuilder,
    /// The same again.
    pub peers_warm: SampleBuilder,
    /// Searches for peer records.
    pub finds: SampleBuilder,
    /// Lookups.
    pub lookups: SampleBuilder,
}

impl PhaseBuilder {
    /// For the phase of this name.
    #[must_use]
    pub fn new(label: &str) -> Self {
        let done = PhaseReport { label: label.to_owned(), ..PhaseReport::default() };
        Self { done, ..Self::default() }
    }

    /// What was collected.
    #[must_use]
    pub fn finish(&self) -> PhaseReport {
        PhaseReport {
            queries: self.queries.finish(),
            texts: self.texts.finish(),
            peers: self.peers.finish(),
            peers_warm: self.peers_warm.finish(),
            finds: self.finds.finish(),
            lookups: self.lookups.finish(),
            ..self.done.clone()
        }
    }

    /// What was shown to askers.
    pub const fn shown(&mut self) -> &mut Shown {
        &mut self.done.shown
    }
}

#[derive(Clone, Debug)]
struct Bucket {
    recall: Hits,
    recall_at_5: Hits,
    text_recall_at_5: Hits,
    queries: Hits,
    finds: Hits,
    latency: Values,
    totals: [u64; 3],
    gone_shown: u64,
    network: NetworkState,
}

/// The state of the network as a point of the series shows it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct NetworkState {
    /// Nodes that run.
    pub live_nodes: u64,
    /// Mean bytes that a running node sent in a second.
    pub sent_per_second: Option<f64>,
    /// Mean messages.
    pub messages_per_second: Option<f64>,
    /// Share of table entries that are down.
    pub dead_entries: Option<f64>,
    /// Mean table entries of a node.
    pub table_entries: Option<f64>,
    /// The same of nodes that stand still now and then.
    pub table_entries_stalled: Option<f64>,
}

impl Bucket {
    fn new() -> Self {
        Self {
            recall: Hits::default(),
            recall_at_5: Hits::default(),
            text_recall_at_5: Hits::default(),
            queries: Hits::default(),
            finds: Hits::default(),
            latency: Values::bounded(BUCKET_VALUES_MAX),
            totals: [0; 3],
            gone_shown: 0,
            network: NetworkState::default(),
        }
    }

    fn point(&self, at_seconds: f64) -> Point {
        let share = |hits: Hits| (hits.wanted > 0).then(|| hits.share());
        let asked = self.queries.wanted;
        let latency = self.latency.spread(1e3);
        let some = |value: f64| (asked > 0).then_some(value);
        Point {
            at_seconds,
            live_nodes: self.network.live_nodes,
            queries: asked,
            recall: share(self.recall),
            recall_at_5: share(self.recall_at_5),
            success: share(self.queries),
            text_recall_at_5: share(self.text_recall_at_5),
            find_success: share(self.finds),
            latency_ms_p50: some(latency.p50),
            latency_ms_p90: some(latency.p90),
            latency_ms_p99: some(latency.p99),
            hops: some(ratio(self.totals[0], asked)),
            requests: some(ratio(self.totals[1], asked)),
            bytes: some(ratio(self.totals[2], asked)),
            sent_per_second: self.network.sent_per_second,
            messages_per_second: self.network.messages_per_second,
            dead_entries: self.network.dead_entries,
            table_entries: self.network.table_entries,
            table_entries_stalled: self.network.table_entries_stalled,
            gone_shown: self.gone_shown,
        }
    }
}

/// Collects a [`Series`].
#[derive(Clone, Debug)]
pub struct SeriesBuilder {
    start: Time,
    bucket: Duration,
    buckets: Vec<Bucket>,
}

impl SeriesBuilder {
    /// For a run of `length` from `start` on, with buckets of `bucket` (zero: a hundredth of the run), or wider ones if those were
    /// more than [`SERIES_POINTS_MAX`].
    #[must_use]
    pub fn new(start: Time, length: Duration, bucket: Duration) -> Self {
        let points = u64::try_from(SERIES_POINTS_MAX).unwrap_or(u64::MAX);
        let least =
            Duration::from_micros(micros(length).div_ceil(points)).max(Duration::from_secs(1));
        let wanted = if bucket.is_zero() { length / 100 } else { bucket };
        Self { start, bucket: wanted.max(least), buckets: Vec::new() }
    }

    /// Width of a bucket.
    #[must_use]
    pub const fn bucket(&self) -> Duration {
        self.bucket
    }

    /// A structured query ended.
    pub fn query(&mut self, at: Time, cost: Cost, found_all: bool, recall: Hits, at_5: Hits) {
        let bucket = self.at(at);
        bucket.queries.add(u64::from(found_all), 1);
        bucket.recall.add(recall.found, recall.wanted);
        bucket.recall_at_5.add(at_5.found, at_5.wanted);
        bucket.latency.add(micros(cost.elapsed));
        let parts =
            [u64::from(cost.hops), u64::from(cost.requests), cost.bytes_sent + cost.bytes_received];
        bucket.totals.iter_mut().zip(parts).for_each(|(total, part)| *total += part);
    }

    /// A query in free text ended.
    pub fn text(&mut self, at: Time, at_5: Hits) {
        self.at(at).text_recall_at_5.add(at_5.found, at_5.wanted);
    }

    /// A peer search ended.
    pub fn find(&mut self, at: Time, found: bool) {
        self.at(at).finds.add(u64::from(found), 1);
    }

    /// A match was shown whose publisher was down or had retired.
    pub fn gone_shown(&mut self, at: Time) {
        self.at(at).gone_shown += 1;
    }

    /// The state of the network at the end of a bucket that began at `at`.
    pub fn network(&mut self, at: Time, state: NetworkState) {
        self.at(at).network = state;
    }

    /// What was collected.
    #[must_use]
    pub fn finish(&self) -> Series {
        let seconds = float(micros(self.bucket)) / 1e6;
        let points = self.buckets.iter().zip(0_u32..);
        Series {
            bucket_seconds: seconds,
            points: points
                .map(|(bucket, index)| bucket.point(seconds * f64::from(index)))
                .collect(),
        }
    }

    fn at(&mut self, at: Time) -> &mut Bucket {
        let index = micros(at.saturating_since(self.start)) / micros(self.bucket).max(1);
        let index = usize::try_from(index).unwrap_or(usize::MAX).min(SERIES_POINTS_MAX - 1);
        if self.buckets.len() <= index {
            self.buckets.resize_with(index + 1, Bucket::new);
        }
        &mut self.buckets[index]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let spread = (1..=100).rev().collect::<Values>().spread(1.0);
        assert_eq!(
            (spread.p50, spread.p90, spread.p95, spread.p99, spread.max),
            (50.0, 90.0, 95.0, 99.0, 100.0)
        );
        assert_eq!((spread.count, spread.mean, spread.min), (100, 50.5, 1.0));
        assert_eq!(Values::default().spread(1.0), Spread::default());
    }

    #[test]
    fn many_values_take_bounded_space_and_keep_their_distribution() {
        let mut values = Values::bounded(128);
        (0..10_000).for_each(|value| values.add(value));
        assert!(values.kept.len() <= 128);
        let spread = values.spread(1.0);
        assert_eq!((spread.count, spread.max), (10_000, 9_999.0));
        assert!((4_800.0..5_200.0).contains(&spread.p50), "{spread:?}");
    }

    #[test]
    fn a_series_is_bounded_and_keeps_buckets_apart() {
        let start = Time::from_secs(1_000);
        let mut series =
            SeriesBuilder::new(start, Duration::from_secs(86_400), Duration::from_secs(1));
        assert!(series.bucket() >= Duration::from_secs(168), "{:?}", series.bucket());
        let hits = |found, wanted| Hits { found, wanted };
        series.query(start, Cost::default(), true, hits(2, 2), hits(1, 1));
        let late = start + Duration::from_secs(86_399);
        series.query(late, Cost::default(), false, hits(1, 2), hits(0, 1));
        series.query(
            late + Duration::from_secs(999_999),
            Cost::default(),
            false,
            hits(0, 2),
            hits(0, 1),
        );
        let points = series.finish().points;
        assert!(points.len() <= SERIES_POINTS_MAX);
        assert_eq!((points[0].recall, points[1].recall), (Some(1.0), None));
        assert_eq!(points.last().map(|point| point.recall), Some(Some(0.25)));
    }
}
