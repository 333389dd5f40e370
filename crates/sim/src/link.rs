//! How long a message takes, and whether it arrives.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::random::{Ppm, Random};
use crate::scenario::units::{duration, percent};

/// Regions nodes live in.
pub const REGIONS: usize = 10;

/// Names of the regions, in the order of [`RTT_MS`].
pub const REGION_NAMES: [&str; REGIONS] = [
    "Dallas",
    "Toronto",
    "Washington DC",
    "Frankfurt",
    "London",
    "Madrid",
    "Osaka",
    "Sydney",
    "Tokyo",
    "Sao Paulo",
];

/// Average round trip between regions in milliseconds: IBM Cloud documentation, VPC "Network latency dashboards", inter-region
/// latency, 31 August to 29 September 2024 (upper triangle). Within a region: its latency between availability zones, 2 ms.
pub const RTT_MS: [[u64; REGIONS]; REGIONS] = [
    [2, 34, 31, 123, 113, 116, 149, 185, 143, 145],
    [34, 2, 19, 93, 82, 108, 168, 216, 162, 129],
    [31, 19, 2, 91, 76, 88, 174, 214, 166, 118],
    [123, 93, 91, 2, 13, 29, 233, 250, 228, 196],
    [113, 82, 76, 13, 2, 27, 243, 261, 243, 186],
    [116, 108, 88, 29, 27, 2, 257, 275, 257, 207],
    [149, 168, 174, 233, 243, 257, 2, 122, 9, 293],
    [185, 216, 214, 250, 261, 275, 122, 2, 115, 328],
    [143, 162, 166, 228, 243, 257, 9, 115, 2, 284],
    [145, 129, 118, 196, 186, 207, 293, 328, 284, 2],
];

/// 32 equally likely values of a log-normal variate with median 1,000 and sigma 0.6: `1000 * exp(0.6 * z)` at the middle of each
/// 32nd of the normal distribution. A table, because `exp` differs between machines.
const LOG_NORMAL_PERMILLE: [u64; 32] = [
    275, 366, 427, 478, 524, 567, 608, 647, 687, 726, 766, 806, 847, 888, 932, 977, 1024, 1073,
    1126, 1181, 1241, 1306, 1377, 1456, 1545, 1646, 1765, 1909, 2092, 2341, 2733, 3641,
];

/// What the network does to messages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LinkModel {
    /// Median of the one-way delay between a node and its region's backbone; log-normal, sigma 0.6, drawn once per node.
    #[serde(with = "duration")]
    pub access_median: Duration,
    /// Each message is late by a uniform time below this.
    #[serde(with = "duration")]
    pub jitter_max: Duration,
    /// Messages that never arrive.
    #[serde(with = "percent")]
    pub loss: Ppm,
    /// Messages that arrive twice, the second time up to a second later.
    #[serde(with = "percent")]
    pub duplicate: Ppm,
    /// Messages that are held back long enough for later ones to overtake them, up to [`LinkModel::reorder_max`].
    #[serde(with = "percent")]
    pub reorder: Ppm,
    /// Longest time a reordered message is held back.
    #[serde(with = "duration")]
    pub reorder_max: Duration,
}

impl Default for LinkModel {
    /// The model of OVERLAY.md section 3: 4 ms access, 4 ms jitter, 0.5 % loss.
    fn default() -> Self {
        Self {
            access_median: Duration::from_millis(4),
            jitter_max: Duration::from_millis(4),
            loss: 5_000,
            duplicate: 0,
            reorder: 0,
            reorder_max: Duration::from_millis(500),
        }
    }
}

/// A node's end of its links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// Index into [`REGION_NAMES`].
    pub region: usize,
    /// One-way delay to the region's backbone.
    pub access: Duration,
}

/// What becomes of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flight {
    /// It never arrives.
    Lost,
    /// It arrives.
    Arrives {
        /// After this time.
        after: Duration,
        /// It was held back.
        reordered: bool,
        /// And a copy arrives after this time.
        copy: Option<Duration>,
    },
}

impl LinkModel {
    /// A random place on earth.
    pub fn draw_line(&self, random: &mut Random) -> Line {
        let permille = random.pick(&LOG_NORMAL_PERMILLE).copied().unwrap_or(1_000);
        let access = micros_times(self.access_median, permille) / 1_000;
        Line { region: random.index(REGIONS), access }
    }

    /// What becomes of a message from one line to another.
    pub fn fly(&self, random: &mut Random, from: &Line, to: &Line) -> Flight {
        if random.happens(self.loss) {
            return Flight::Lost;
        }
        let backbone =
            Duration::from_micros(RTT_MS[from.region % REGIONS][to.region % REGIONS] * 500);
        let mut after = backbone + from.access + to.access + random.within(self.jitter_max);
        let reordered = random.happens(self.reorder);
        if reordered {
            after += random.within(self.reorder_max);
        }
        let copy =
            random.happens(self.duplicate).then(|| after + random.within(Duration::from_secs(1)));
        Flight::Arrives { after, reordered, copy }
    }
}

fn micros_times(duration: Duration, factor: u64) -> Duration {
    Duration::from_micros(crate::random::micros(duration).saturating_mul(factor))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::PPM_ONE;

    #[test]
    fn the_matrix_is_symmetric() {
        for (from, row) in RTT_MS.iter().enumerate() {
            for (to, rtt) in row.iter().enumerate() {
                assert_eq!(*rtt, RTT_MS[to][from]);
            }
        }
    }

    #[test]
    fn delays_lie_in_the_model() {
        let (mut random, link) =
            (Random::new(1, "test"), LinkModel { loss: 0, ..LinkModel::default() });
        let near = Line { region: 3, access: Duration::from_millis(1) };
        let far = Line { region: 7, access: Duration::from_millis(2) };
        for _ in 0..100 {
            let Flight::Arrives { after, reordered, copy } = link.fly(&mut random, &near, &far)
            else {
                panic!("lost without loss")
            };
            assert!((128_000..132_000).contains(&after.as_micros()), "{after:?}");
            assert!(!reordered && copy.is_none());
        }
    }

    #[test]
    fn promised_faults_happen() {
        let mut random = Random::new(1, "test");
        let line = Line { region: 0, access: Duration::ZERO };
        let lossy = LinkModel { loss: PPM_ONE, ..LinkModel::default() };
        assert_eq!(lossy.fly(&mut random, &line, &line), Flight::Lost);
        let copying =
            LinkModel { loss: 0, duplicate: PPM_ONE, reorder: PPM_ONE, ..LinkModel::default() };
        assert!(matches!(
            copying.fly(&mut random, &line, &line),
            Flight::Arrives { reordered: true, copy: Some(_), .. }
        ));
    }
}
