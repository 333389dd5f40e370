//! What goes wrong: faults of the network, and nodes that break the rules.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::units::{duration, duration_option, percent};
use crate::random::Ppm;

/// How long nodes stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "distribution", rename_all = "snake_case", deny_unknown_fields)]
pub enum Sessions {
    /// Memoryless, as OVERLAY.md section 3.6 assumes.
    Exponential {
        /// Mean length.
        #[serde(with = "duration")]
        mean: Duration,
    },
    /// Log-normal. With a median of 99 minutes and a sigma of 1.365 it goes through what a crawl of IPFS measured: 87.6 % of sessions
    /// are shorter than 8 hours and 2.5 % longer than 24 (Trautwein et al., "Design and Evaluation of IPFS", SIGCOMM 2022, section
    /// 5.3); half of them are then over within 2 hours.
    LogNormal {
        /// Median length.
        #[serde(with = "duration")]
        median: Duration,
        /// Standard deviation of the logarithm, in thousandths.
        sigma_permille: u32,
    },
    /// Weibull of shape 1/2, in the range that Stutzbach and Rejaie ("Understanding Churn in Peer-to-Peer Networks", IMC 2006) fitted
    /// to Gnutella, Kad and BitTorrent: many short sessions, few very long ones.
    Weibull {
        /// Median length.
        #[serde(with = "duration")]
        median: Duration,
    },
}

impl Sessions {
    /// What was measured of IPFS; see [`Sessions::LogNormal`].
    #[must_use]
    pub const fn ipfs() -> Self {
        Self::LogNormal { median: Duration::from_secs(99 * 60), sigma_permille: 1_365 }
    }
}

/// What goes wrong, and when, counted from the beginning of the fault phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Fault {
    /// This share of the running nodes crashes at once and stays down.
    Kill {
        /// How many, in percent.
        #[serde(with = "percent")]
        share: Ppm,
        /// When.
        #[serde(with = "duration", default)]
        at: Duration,
    },
    /// The network is cut into two halves; new publishers register on both sides.
    Partition {
        /// When.
        #[serde(with = "duration", default)]
        at: Duration,
        /// For how long; not given: until the end of the fault phase.
        #[serde(with = "duration_option", default, skip_serializing_if = "Option::is_none")]
        lasts: Option<Duration>,
    },
    /// All nodes crash at once and come back over `spread` from what they had persisted.
    RestartAll {
        /// When.
        #[serde(with = "duration", default)]
        at: Duration,
        /// When the first one is back, after the crash.
        #[serde(with = "duration")]
        pause: Duration,
        /// How long it takes until all are.
        #[serde(with = "duration")]
        spread: Duration,
    },
    /// Sessions end all the time: of three, two crash and come back after a quarter of a typical session, one leaves in order and a new
    /// node takes its place.
    Churn {
        /// When.
        #[serde(with = "duration", default)]
        at: Duration,
        /// For how long; not given: until the end of the fault phase.
        #[serde(with = "duration_option", default, skip_serializing_if = "Option::is_none")]
        lasts: Option<Duration>,
        /// How long nodes stay.
        sessions: Sessions,
        /// Sessions that begin in the busier half of the day last so much longer than those of the other half, in percent: 0 is no
        /// difference, 100 twice as long.
        #[serde(with = "percent", default, skip_serializing_if = "is_zero")]
        diurnal: Ppm,
    },
    /// The links get worse.
    Links {
        /// When.
        #[serde(with = "duration", default)]
        at: Duration,
        /// For how long; not given: until the end of the fault phase.
        #[serde(with = "duration_option", default, skip_serializing_if = "Option::is_none")]
        lasts: Option<Duration>,
        /// Lost messages.
        #[serde(with = "percent", default)]
        loss: Ppm,
        /// Duplicated messages.
        #[serde(with = "percent", default)]
        duplicate: Ppm,
        /// Reordered messages.
        #[serde(with = "percent", default)]
        reorder: Ppm,
    },
    /// Processes that get no processor: this share of the running nodes stands still and runs by turns, each at a phase of its own. What
    /// reaches a node that stands still waits, in order, as do its timers. So Dadgar, Phillips and Currey tried SWIM ("Lifeguard: Local
    /// Health Awareness for More Accurate Failure Detection", 2017), where all stood still together.
    Stall {
        /// When.
        #[serde(with = "duration", default)]
        at: Duration,
        /// For how long; not given: until the end of the fault phase.
        #[serde(with = "duration_option", default, skip_serializing_if = "Option::is_none")]
        lasts: Option<Duration>,
        /// How many, in percent.
        #[serde(with = "percent")]
        share: Ppm,
        /// How long a node stands still.
        #[serde(with = "duration")]
        blocked: Duration,
        /// How long it runs then.
        #[serde(with = "duration")]
        runs: Duration,
    },
}

impl Fault {
    /// When it begins, counted from the beginning of the fault phase.
    #[must_use]
    pub const fn at(&self) -> Duration {
        match self {
            Self::Kill { at, .. }
            | Self::Partition { at, .. }
            | Self::RestartAll { at, .. }
            | Self::Churn { at, .. }
            | Self::Links { at, .. }
            | Self::Stall { at, .. } => *at,
        }
    }

    /// For how long it acts; `None`: it happens once, or until the end of the fault phase.
    #[must_use]
    pub const fn lasts(&self) -> Option<Duration> {
        match self {
            Self::Partition { lasts, .. }
            | Self::Churn { lasts, .. }
            | Self::Links { lasts, .. }
            | Self::Stall { lasts, .. } => *lasts,
            Self::Kill { .. } | Self::RestartAll { .. } => None,
        }
    }

    /// A few words for figures.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Kill { .. } => "kill",
            Self::Partition { .. } => "partition",
            Self::RestartAll { .. } => "restart of all",
            Self::Churn { .. } => "churn",
            Self::Links { .. } => "bad links",
            Self::Stall { .. } => "stalls",
        }
    }
}

/// Which rules a node breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Misbehaviour {
    /// Answers pings and nothing else.
    Drop,
    /// Sends everyone to the colluders nearest to what they look for, and finds nothing.
    Misroute,
    /// Falsifies a byte of every item it returns.
    Forge,
    /// Says that it keeps what it is given, and leaves chosen publishers out of its answers.
    Omit,
    /// Serves the first version of everything it ever saw, for ever, and hides tombstones.
    Stale,
    /// Minted ids next to the placements of chosen keys, that keep nothing of those keys.
    Eclipse,
    /// Registers one agent after the other in the most popular group.
    Flood,
    /// Declares every class and word there is room for.
    Stuff,
    /// Declares more than it has, and fails the probe.
    Lie,
    /// Runs with a wrong clock.
    Clock,
    /// Says that shards are split which are not.
    Split,
    /// All kinds that need no other parameter, in equal parts.
    Mixed,
}

impl Misbehaviour {
    /// All kinds but [`Misbehaviour::Mixed`].
    pub const ALL: [Self; 11] = [
        Self::Drop,
        Self::Misroute,
        Self::Forge,
        Self::Omit,
        Self::Stale,
        Self::Eclipse,
        Self::Flood,
        Self::Stuff,
        Self::Lie,
        Self::Clock,
        Self::Split,
    ];

    /// Its name in scenario files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Drop => "drop",
            Self::Misroute => "misroute",
            Self::Forge => "forge",
            Self::Omit => "omit",
            Self::Stale => "stale",
            Self::Eclipse => "eclipse",
            Self::Flood => "flood",
            Self::Stuff => "stuff",
            Self::Lie => "lie",
            Self::Clock => "clock",
            Self::Split => "split",
            Self::Mixed => "mixed",
        }
    }

    /// The kind of this name.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().chain([Self::Mixed]).find(|kind| kind.name() == name)
    }
}

/// A group of nodes that break the rules in one way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Adversaries {
    /// Which rules they break.
    pub kind: Misbehaviour,
    /// How many of all nodes they are, in percent. [`Misbehaviour::Eclipse`] comes on top of the nodes and needs none.
    #[serde(with = "percent", default)]
    pub share: Ppm,
    /// `omit`, `stale`: the publishers they are after, in percent.
    #[serde(with = "percent", default = "all", skip_serializing_if = "is_all")]
    pub victims: Ppm,
    /// `eclipse`: how many keys are attacked.
    #[serde(default, skip_serializing_if = "is_none")]
    pub keys: usize,
    /// `eclipse`: minted ids next to each placement of a key.
    #[serde(default, skip_serializing_if = "is_none")]
    pub ids: usize,
    /// `flood`: registrations of each node per minute.
    #[serde(default, skip_serializing_if = "is_none")]
    pub per_minute: usize,
    /// `clock`: how far clocks are off, half of them ahead and half behind.
    #[serde(with = "duration", default, skip_serializing_if = "Duration::is_zero")]
    pub skew: Duration,
}

impl Adversaries {
    /// This share of all nodes, with the other parameters at their defaults.
    #[must_use]
    pub const fn new(kind: Misbehaviour, share: Ppm) -> Self {
        Self { kind, share, victims: all(), keys: 0, ids: 0, per_minute: 0, skew: Duration::ZERO }
    }
}

const fn all() -> Ppm {
    crate::random::PPM_ONE
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
const fn is_all(share: &Ppm) -> bool {
    *share == all()
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
const fn is_none(count: &usize) -> bool {
    *count == 0
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
const fn is_zero(share: &Ppm) -> bool {
    *share == 0
}
