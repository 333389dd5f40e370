//! Scenarios as data: what a network is, what is asked of it, what goes wrong, and what must come out.
//!
//! A scenario file is TOML. It starts from a preset and changes what it names, so that three lines are a scenario:
//!
//! ```
//! let scenario = comity_sim::Scenario::from_toml(
//!     r#"
//!     preset = "kill:50"
//!     nodes = 190_000
//!     seed = 7
//!     "#,
//! )?;
//! assert_eq!((scenario.nodes, scenario.faults.len()), (190_000, 1));
//! # Ok::<(), comity_sim::ScenarioError>(())
//! ```
//!
//! Durations are texts with units (`"25ms"`, `"1h30m"`), shares are percent (`0.5`), a misspelt name is an error that lists the names
//! there are. [`Scenario::to_toml`] writes everything out.

mod config;
mod fault;
mod file;
mod measure;
mod presets;
pub mod units;

use std::time::Duration;

use comity_core::Time;
use comity_overlay::Config;
use serde::{Deserialize, Serialize};

use crate::link::LinkModel;
use crate::random::Ppm;
use crate::workload::Workload;
use crate::world::Messages;

pub use config::CONFIG_PARAMETERS;
pub use fault::{Adversaries, Fault, Misbehaviour, Sessions};
pub use measure::{Demands, Measure};
pub use presets::PRESETS;
use units::duration;

/// When every simulation begins: 2026-01-01T00:00:00Z.
pub const EPOCH: Time = Time::from_secs(1_767_225_600);

/// Whose protocol the nodes speak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// The production overlay of this repository.
    #[default]
    Comity,
    /// Announcements flooded by gossip, queries answered from local caches.
    Gossip,
    /// A class label leads to all its providers, who are asked one by one.
    Providers,
    /// The same with every label our own planner would use.
    ProvidersTyped,
    /// One central index that everybody registers with and asks: the oracle. Faults that choose hosts spare it.
    Central,
    /// The same, and faults and rule breakers meet the server.
    CentralStruck,
    /// Kademlia provider records at the 20 closest nodes, without countermeasures.
    Kademlia,
    /// No directory: one group that all nodes are members of, and what they broadcast in it. See [`crate::group`].
    Group,
}

/// How the network comes into being.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Start {
    /// Tables are given as a long-lived network would have them; publishers and askers join, to know the size of the network, and
    /// publishers publish by protocol.
    Built,
    /// As [`Start::Built`], and what publishers published is with its custodians already.
    Settled,
    /// Nodes join one after the other, through nodes that are there already.
    Joined {
        /// Time until the last one comes.
        #[serde(with = "duration")]
        over: Duration,
    },
}

/// A simulation to run. Equal scenarios have equal traces.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Scenario {
    /// Its name; for a preset, what repeats it.
    pub name: String,
    /// What it shows, for the report's reader.
    pub about: String,
    /// Whose protocol the nodes speak.
    pub protocol: Protocol,
    /// Decides everything that is left to chance.
    pub seed: u64,
    /// Nodes at the beginning.
    pub nodes: usize,
    /// How messages travel.
    pub messages: Messages,
    /// Nodes that share an IPv4 /24.
    pub nodes_per_prefix: u32,
    /// How long digests and peer records live.
    #[serde(with = "duration")]
    pub digest_life: Duration,
    /// How long beats live; the machine asks for a new one before.
    #[serde(with = "duration")]
    pub beat_life: Duration,
    /// The time publications are spread over.
    #[serde(with = "duration")]
    pub publish_window: Duration,
    /// Nodes that ask; with [`Start::Built`] only they and publishers know the size of the network.
    pub askers: usize,
    /// How long the phase lasts in which faults act.
    #[serde(with = "duration")]
    pub fault_phase: Duration,
    /// When measuring begins, counted from the beginning of the fault phase.
    #[serde(with = "duration")]
    pub measure_at: Duration,
    /// Time to recover after the fault phase, before the last measurement.
    #[serde(with = "duration")]
    pub settle: Duration,
    /// Compare what the machines report for persistence with what they hold, and tables with who answered. Costs memory.
    pub shadow: bool,
    /// How the network comes into being.
    pub start: Start,
    /// What the network does to messages when nothing is wrong.
    pub link: LinkModel,
    /// Parameters of every node's machine, by name; those not named have their default.
    #[serde(with = "config")]
    pub config: Config,
    /// What is published and asked.
    pub workload: Workload,
    /// How much is asked in each phase.
    pub measure: Measure,
    /// What must come out.
    pub demands: Demands,
    /// What goes wrong, and when.
    pub faults: Vec<Fault>,
    /// Who breaks the rules.
    pub adversaries: Vec<Adversaries>,
}

/// Shortest turn of nodes that stand still and run by turns.
const TURN_MIN: Duration = Duration::from_millis(10);

/// Why there is no such scenario.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScenarioError {
    /// No preset has this name.
    #[error(
        "there is no scenario called {name:?}: use one of {PRESETS:?}, some with a number, such as kill:30"
    )]
    Unknown {
        /// The name given.
        name: String,
    },
    /// What follows the colon is not a number in range.
    #[error("{given:?} is not a whole number from 0 to 100")]
    Number {
        /// What was given.
        given: String,
    },
    /// The file is not a scenario.
    #[error("the scenario does not read: {0}")]
    File(String),
    /// Its parts do not fit together.
    #[error("{field}: {why}")]
    Invalid {
        /// Which field.
        field: &'static str,
        /// What is wrong with it.
        why: String,
    },
}

impl Default for Scenario {
    fn default() -> Self {
        Self::healthy(300, 1)
    }
}

impl Scenario {
    /// The share of all nodes that break the rules.
    #[must_use]
    pub fn adversary_share(&self) -> Ppm {
        self.adversaries.iter().map(|group| group.share).sum()
    }

    /// How many nodes publish.
    #[must_use]
    pub fn publishers(&self) -> usize {
        self.workload.publishers.min(self.nodes)
    }

    /// The command that repeats this run, if it is a preset as it is.
    #[must_use]
    pub fn repeat(&self) -> String {
        format!(
            "cargo run --release -p comity-sim --example run -- {} --nodes {} --seed {}",
            self.name, self.nodes, self.seed
        )
    }

    /// Whether its parts fit together.
    ///
    /// # Errors
    /// [`ScenarioError::Invalid`] names the field.
    pub fn check(&self) -> Result<(), ScenarioError> {
        let invalid = |field: &'static str, why: String| Err(ScenarioError::Invalid { field, why });
        if self.nodes < 2 {
            return invalid("nodes", format!("{} are no network: use at least 2", self.nodes));
        }
        if self.nodes >= 1 << 24 {
            return invalid("nodes", "the simulator's addresses end at 2^24 nodes".to_owned());
        }
        let share = self.adversary_share();
        if share > 900_000 {
            return invalid(
                "adversaries",
                format!("their shares add up to {} %, more than 90 %", share / 10_000),
            );
        }
        if self.workload.classes == 0 {
            return invalid("workload.classes", "at least 1 is needed".to_owned());
        }
        let classes = crate::workload::classes_max();
        if self.workload.classes > classes {
            return invalid("workload.classes", format!("the taxonomy has {classes} leaves"));
        }
        if self.workload.capabilities_each == 0 || self.workload.capabilities_each > 8 {
            return invalid(
                "workload.capabilities_each",
                format!("{} is not from 1 to 8", self.workload.capabilities_each),
            );
        }
        let lives = self.digest_life.min(self.beat_life);
        if lives < Duration::from_secs(60) {
            return invalid("beat_life", "items must live for a minute at least".to_owned());
        }
        if self.faults.is_empty() && !self.fault_phase.is_zero() {
            return invalid("fault_phase", "there are no faults to act in it".to_owned());
        }
        // Turns of no length would never let the time pass.
        let is_short = |fault: &Fault| matches!(fault, Fault::Stall { blocked, runs, .. } if (*blocked).min(*runs) < TURN_MIN);
        if self.faults.iter().any(is_short) {
            let least = TURN_MIN.as_millis();
            return invalid(
                "faults",
                format!("blocked and runs of a stall are {least} ms at least"),
            );
        }
        self.measure.check()
    }
}
