//! Other designs of a directory in the same harness, to compare with: equal networks, equal links, equal questions with right answers
//! known, equal faults and shares of rule breakers, equal counting of bytes (64 B of framing for each message), one form of report.
//!
//! | name | design | after |
//! |---|---|---|
//! | `gossip` | announcements flooded, queries answered from local caches | agntcy dir v1 |
//! | `providers` | class label → all providers over a DHT, then every provider is asked | agntcy dir v2 |
//! | `providers_typed` | the same with our finer labels | what v2 could be |
//! | `index` | one central server that evaluates everything | any registry |
//! | `index_struck` | the same, and faults and rule breakers meet the server | |
//! | `kademlia` | signed digests at the 20 nodes nearest to a key, no countermeasures | Kademlia, libp2p |
//!
//! What each of them simplifies is said where it is written; every simplification is in the design's favour unless it says otherwise.
//! For all of them: hosts are there from the beginning with the tables of a long-lived network (joining is not simulated); a host that
//! is back has what it had on disk; nobody leaves for good under churn; the matcher is exact; handshakes cost nothing; the asker's own
//! items are not asked for. Rule breakers: `drop` is silent, `misroute` (and `split`) sends to colluders and finds nothing, `forge`
//! returns falsified items that askers recognise, `omit` (and `stale`) leaves everything out of its answers, `eclipse` mints ids next to
//! keys where a design has keys. Floods, stuffers, liars and wrong clocks have no counterpart in these designs and are refused.

mod catalogue;
mod gossip;
mod index;
mod kad;
mod net;
mod plan;
mod records;
mod run;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::report::Report;
use crate::run::Progress;
use crate::scenario::{Protocol, Scenario};

pub use gossip::GOSSIP_NODES_MAX;
pub use index::{SERVER_ACCESS, SERVER_REGION};

/// A design to compare with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Baseline {
    /// Announcements flooded, queries answered from local caches.
    Gossip,
    /// Class label → all providers, who are asked one by one.
    Providers,
    /// The same with every label our own planner would use.
    ProvidersTyped,
    /// One central index, spared by faults that choose hosts.
    Index,
    /// One central index that faults and rule breakers meet.
    IndexStruck,
    /// Digests at the 20 nearest nodes, without countermeasures.
    Kademlia,
}

impl Baseline {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Gossip,
        Self::Providers,
        Self::ProvidersTyped,
        Self::Index,
        Self::IndexStruck,
        Self::Kademlia,
    ];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gossip => "gossip",
            Self::Providers => "providers",
            Self::ProvidersTyped => "providers_typed",
            Self::Index => "index",
            Self::IndexStruck => "index_struck",
            Self::Kademlia => "kademlia",
        }
    }

    /// The baseline that speaks a protocol; `None` for our own.
    #[must_use]
    pub const fn of(protocol: Protocol) -> Option<Self> {
        match protocol {
            Protocol::Comity | Protocol::Group => None,
            Protocol::Gossip => Some(Self::Gossip),
            Protocol::Providers => Some(Self::Providers),
            Protocol::ProvidersTyped => Some(Self::ProvidersTyped),
            Protocol::Central => Some(Self::Index),
            Protocol::CentralStruck => Some(Self::IndexStruck),
            Protocol::Kademlia => Some(Self::Kademlia),
        }
    }

    /// What scenarios call it.
    #[must_use]
    pub const fn protocol(self) -> Protocol {
        match self {
            Self::Gossip => Protocol::Gossip,
            Self::Providers => Protocol::Providers,
            Self::ProvidersTyped => Protocol::ProvidersTyped,
            Self::Index => Protocol::Central,
            Self::IndexStruck => Protocol::CentralStruck,
            Self::Kademlia => Protocol::Kademlia,
        }
    }
}

impl fmt::Display for Baseline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Baseline {
    type Err = BaselineError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|baseline| baseline.name() == name);
        found.ok_or_else(|| BaselineError::Unknown { name: name.to_owned() })
    }
}

/// Why a baseline cannot run a scenario.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BaselineError {
    /// No baseline has this name.
    #[error(
        "there is no baseline called {name:?}: use gossip, providers, providers_typed, index, index_struck or kademlia"
    )]
    Unknown {
        /// The name given.
        name: String,
    },
    /// The design's state would not fit.
    #[error(
        "{baseline} is simulated with {max} nodes at most, not {nodes}: measure its growth on smaller networks"
    )]
    TooLarge {
        /// Which design.
        baseline: Baseline,
        /// Nodes of the scenario.
        nodes: usize,
        /// Most it takes.
        max: usize,
    },
    /// The scenario has a fault that baselines do not know.
    #[error("baselines know no {kind}: use kill, partition, restart_all, churn or links")]
    UnknownFault {
        /// Which.
        kind: &'static str,
    },
    /// The scenario has rule breakers without a counterpart in the baselines.
    #[error(
        "baselines know no nodes that {kind}: use drop, misroute, forge, omit, stale, split, eclipse or mixed"
    )]
    NotModelled {
        /// Which kind.
        kind: &'static str,
    },
    /// The scenario has no nodes, or nobody publishes.
    #[error("a network of {nodes} nodes with {publishers} publishers has nothing to measure")]
    Empty {
        /// Nodes.
        nodes: usize,
        /// Publishers.
        publishers: usize,
    },
}

/// Runs `scenario` with `baseline` instead of the production overlay. Its demands are not checked: they are demands on ours.
///
/// # Errors
/// [`BaselineError`].
pub fn run(scenario: &Scenario, baseline: Baseline) -> Result<Report, BaselineError> {
    run_with(scenario, baseline, &mut |_| ())
}

/// As [`run`], and tells `progress` how far it is. What `progress` does changes nothing.
///
/// # Errors
/// [`BaselineError`].
pub fn run_with(
    scenario: &Scenario,
    baseline: Baseline,
    progress: &mut dyn FnMut(Progress),
) -> Result<Report, BaselineError> {
    let mut plan = plan::Plan::new(scenario)?;
    if scenario.nodes == 0 || scenario.workload.publishers == 0 {
        let (nodes, publishers) = (scenario.nodes, scenario.workload.publishers);
        return Err(BaselineError::Empty { nodes, publishers });
    }
    plan.scenario.protocol = baseline.protocol();
    let kind = match baseline {
        Baseline::Gossip if scenario.nodes > GOSSIP_NODES_MAX => {
            let (nodes, max) = (scenario.nodes, GOSSIP_NODES_MAX);
            return Err(BaselineError::TooLarge { baseline, nodes, max });
        }
        Baseline::Gossip => {
            return Ok(run::run(plan, gossip::Gossip::default(), false, progress));
        }
        Baseline::Index | Baseline::IndexStruck => {
            let index = index::Index::new(scenario.beat_life);
            return Ok(run::run(plan, index, baseline == Baseline::IndexStruck, progress));
        }
        Baseline::Providers => records::Kind::Providers,
        Baseline::ProvidersTyped => records::Kind::ProvidersTyped,
        Baseline::Kademlia => records::Kind::Digests,
    };
    Ok(run::run(plan, records::Records::new(kind), false, progress))
}
