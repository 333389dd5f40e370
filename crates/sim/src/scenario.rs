//! Scenarios as data, and the presets.

use std::time::Duration;

use comity_core::Time;
use comity_overlay::Config;

use crate::link::LinkModel;
use crate::random::{PPM_ONE, Ppm, Random};
use crate::workload::Workload;
use crate::world::Messages;

/// When every simulation begins: 2026-01-01T00:00:00Z.
pub const EPOCH: Time = Time::from_secs(1_767_225_600);

/// How the network comes into being.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Tables are given as a long-lived network would have them; publishers and askers join, to know the size of the network.
    Built,
    /// Nodes join one after the other over this time, through nodes that are there already.
    Joined(Duration),
}

/// What goes wrong, and when, counted from the beginning of the fault phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// This share of the nodes crashes at once and stays down.
    Kill {
        /// Percent of the nodes that run, 0 to 100.
        percent: u8,
        /// When.
        at: Duration,
    },
    /// The network is cut into two halves until the end of the fault phase.
    Partition {
        /// When.
        at: Duration,
    },
    /// All nodes crash at once and come back over `spread`.
    RestartAll {
        /// When.
        at: Duration,
        /// When the first one is back, after the crash.
        pause: Duration,
        /// How long it takes until all are.
        spread: Duration,
    },
    /// Sessions end all the time: of three, two crash and come back after a quarter of the mean session, one leaves in order and a new
    /// node takes its place. Exponential lengths, as OVERLAY.md section 3.6 assumes.
    Churn {
        /// Mean length of a session.
        session: Duration,
    },
    /// The links get worse until the end of the fault phase.
    Links {
        /// Lost messages.
        loss: Ppm,
        /// Duplicated messages.
        duplicate: Ppm,
        /// Reordered messages.
        reorder: Ppm,
    },
}

/// Which rules some nodes break.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misbehaviour {
    /// [`crate::adversary::Dropper`].
    Drop,
    /// [`crate::adversary::Misrouter`].
    Misroute,
    /// [`crate::adversary::Forger`].
    Forge,
}

/// What is asked of the network in one phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measure {
    /// Directory queries.
    pub queries: usize,
    /// Searches for a peer record.
    pub finds: usize,
    /// Lookups of a random place.
    pub lookups: usize,
    /// The time they are spread over.
    pub window: Duration,
}

/// What the outcome must be for the run to pass. `None`: not demanded.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Demands {
    /// Recall before any fault.
    pub recall_before: Option<f64>,
    /// Recall while faults act.
    pub recall_during: Option<f64>,
    /// Recall at the end.
    pub recall_after: Option<f64>,
    /// Share of peer searches that find the record, at the end.
    pub finds_after: Option<f64>,
    /// Mean hops of peer searches, before any fault.
    pub find_hops_mean_max: Option<f64>,
    /// Share of the true 20 nearest nodes that hold what is stored at a place, before any fault.
    pub stored_on_true_20: Option<f64>,
    /// Share of the true 20 nearest nodes that a lookup finds, before any fault.
    pub found_of_true_20: Option<f64>,
    /// The same at the end. Recall alone does not tell a network in two pieces from a whole one while each piece holds copies of all.
    pub found_of_true_20_after: Option<f64>,
    /// Longest 99th percentile of query latency before any fault.
    pub query_p99_max: Option<Duration>,
}

/// A simulation to run. Equal scenarios have equal traces.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Name of the preset it comes from; how to repeat it says so.
    pub name: String,
    /// Decides everything that is left to chance.
    pub seed: u64,
    /// Nodes at the beginning.
    pub nodes: usize,
    /// How the network comes into being.
    pub start: Start,
    /// How messages travel.
    pub messages: Messages,
    /// What the network does to them when nothing is wrong.
    pub link: LinkModel,
    /// Nodes that share an IPv4 /24.
    pub nodes_per_prefix: u32,
    /// Parameters of every node's machine.
    pub config: Config,
    /// What is published.
    pub workload: Workload,
    /// How long digests and peer records live.
    pub digest_life: Duration,
    /// How long beats live; the machine asks for a new one before.
    pub beat_life: Duration,
    /// The time publications are spread over.
    pub publish_window: Duration,
    /// Nodes that ask; with [`Start::Built`] only they know the size of the network.
    pub askers: usize,
    /// Share of nodes that break the rules.
    pub adversaries: Ppm,
    /// Which rules.
    pub misbehaviour: Misbehaviour,
    /// What is asked in each phase.
    pub measure: Measure,
    /// What goes wrong.
    pub faults: Vec<Fault>,
    /// How long.
    pub fault_phase: Duration,
    /// When measuring begins, counted from the beginning of the fault phase.
    pub measure_at: Duration,
    /// Time to recover after the fault phase.
    pub settle: Duration,
    /// What must come out.
    pub demands: Demands,
    /// Compare what the machines report for persistence with what they hold, and tables with who answered. Costs memory.
    pub shadow: bool,
}

/// Names [`Scenario::preset`] knows.
pub const PRESETS: [&str; 10] = [
    "healthy",
    "churn",
    "kill",
    "loss",
    "partition_heal",
    "restart_all",
    "drop",
    "misroute",
    "forge",
    "swarm",
];

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
}

impl Scenario {
    /// The preset called `name`, with a number after a colon where it takes one: percent of `kill`, `loss`, `drop`, `misroute` and
    /// `forge`, minutes of `partition_heal`.
    ///
    /// # Errors
    /// [`ScenarioError`].
    pub fn preset(name: &str, nodes: usize, seed: u64) -> Result<Self, ScenarioError> {
        let (base, given) = name.split_once(':').unwrap_or((name, ""));
        let number = match given.parse::<u8>() {
            _ if given.is_empty() => None,
            Ok(number @ 0..=100) => Some(number),
            Ok(_) | Err(_) => return Err(ScenarioError::Number { given: given.to_owned() }),
        };
        match base {
            "healthy" => Ok(Self::healthy(nodes, seed)),
            "churn" => Ok(Self::churn(nodes, seed)),
            "kill" => Ok(Self::kill(nodes, seed, number.unwrap_or(30))),
            "loss" => Ok(Self::loss(nodes, seed, number.unwrap_or(5))),
            "partition_heal" => Ok(Self::partition_heal(nodes, seed, number.unwrap_or(10))),
            "restart_all" => Ok(Self::restart_all(nodes, seed)),
            "drop" => Ok(Self::adversarial(nodes, seed, number.unwrap_or(20), Misbehaviour::Drop)),
            "misroute" => {
                Ok(Self::adversarial(nodes, seed, number.unwrap_or(20), Misbehaviour::Misroute))
            }
            "forge" => {
                Ok(Self::adversarial(nodes, seed, number.unwrap_or(20), Misbehaviour::Forge))
            }
            "swarm" => Ok(Self::swarm(nodes, seed)),
            _ => Err(ScenarioError::Unknown { name: name.to_owned() }),
        }
    }

    fn base(name: String, nodes: usize, seed: u64) -> Self {
        let publishers = nodes.min(60);
        Self {
            name,
            seed,
            nodes,
            start: Start::Joined(Duration::from_secs(120)),
            messages: Messages::Values,
            link: LinkModel::default(),
            nodes_per_prefix: 1,
            config: Config::default(),
            workload: Workload {
                publishers,
                capabilities_each: 2,
                twins: 400_000,
                classes: 12,
                pairs: u32::try_from(publishers).unwrap_or(u32::MAX),
            },
            digest_life: Duration::from_secs(6 * 3_600),
            beat_life: Duration::from_secs(2 * 3_600),
            publish_window: Duration::from_secs(60),
            askers: 50,
            adversaries: 0,
            misbehaviour: Misbehaviour::Drop,
            measure: Measure {
                queries: 100,
                finds: 50,
                lookups: 20,
                window: Duration::from_secs(60),
            },
            faults: Vec::new(),
            fault_phase: Duration::ZERO,
            measure_at: Duration::ZERO,
            settle: Duration::ZERO,
            demands: Demands {
                recall_before: Some(1.0),
                recall_after: Some(1.0),
                finds_after: Some(1.0),
                found_of_true_20_after: Some(0.95),
                ..Demands::default()
            },
            shadow: nodes <= 500,
        }
    }

    /// Nothing goes wrong but the ordinary loss of messages.
    #[must_use]
    pub fn healthy(nodes: usize, seed: u64) -> Self {
        let mut scenario = Self::base("healthy".to_owned(), nodes, seed);
        if nodes > 500 {
            scenario.start = Start::Built;
            // Nodes that do not join would all sample the size of the network in their first maintenance round.
            scenario.config.maintenance_every = Duration::from_secs(600);
        }
        scenario.demands.find_hops_mean_max = Some(3.5);
        scenario.demands.stored_on_true_20 = Some(0.98);
        scenario.demands.found_of_true_20 = Some(0.98);
        scenario.demands.query_p99_max = Some(Duration::from_millis(2_500));
        scenario
    }

    /// Sessions of 60 minutes on average for 40 minutes; items are stored again every 15 minutes at most.
    #[must_use]
    pub fn churn(nodes: usize, seed: u64) -> Self {
        let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
        let mut scenario = Self::base("churn".to_owned(), nodes, seed);
        scenario.config.republish_max = minutes(15);
        scenario.beat_life = minutes(30);
        scenario.faults = vec![Fault::Churn { session: minutes(60) }];
        scenario.fault_phase = minutes(40);
        scenario.measure_at = minutes(10);
        scenario.measure.window = minutes(25);
        scenario.settle = minutes(18);
        scenario.demands.recall_during = Some(0.99);
        scenario
    }

    /// `percent` of the nodes crash at once and stay down.
    #[must_use]
    pub fn kill(nodes: usize, seed: u64, percent: u8) -> Self {
        let mut scenario = Self::base(format!("kill:{percent}"), nodes, seed);
        scenario.config.republish_max = Duration::from_secs(600);
        scenario.faults = vec![Fault::Kill { percent, at: Duration::ZERO }];
        scenario.fault_phase = Duration::from_secs(90);
        scenario.measure_at = Duration::from_secs(1);
        scenario.settle = Duration::from_secs(720);
        scenario.demands.recall_during = Some(if percent <= 50 { 0.99 } else { 0.9 });
        scenario
    }

    /// `percent` of all messages are lost, some arrive twice, some late.
    #[must_use]
    pub fn loss(nodes: usize, seed: u64, percent: u8) -> Self {
        let mut scenario = Self::base(format!("loss:{percent}"), nodes, seed);
        let loss = u32::from(percent) * (PPM_ONE / 100);
        scenario.faults = vec![Fault::Links { loss, duplicate: loss / 2, reorder: loss }];
        scenario.fault_phase = Duration::from_secs(120);
        scenario.measure_at = Duration::from_secs(5);
        scenario.settle = Duration::from_secs(60);
        scenario.demands.recall_during = Some(0.98);
        scenario
    }

    /// Two halves for so many minutes, then one network again.
    #[must_use]
    pub fn partition_heal(nodes: usize, seed: u64, minutes: u8) -> Self {
        let mut scenario = Self::base(format!("partition_heal:{minutes}"), nodes, seed);
        let length = Duration::from_secs(60 * u64::from(minutes.max(2)));
        scenario.config.republish_max = Duration::from_secs(600);
        scenario.faults = vec![Fault::Partition { at: Duration::ZERO }];
        scenario.fault_phase = length;
        scenario.measure_at = length / 3;
        // A publisher looks its custodians up again with every fourth renewal; until then those of the other side lack what was
        // published while they were apart.
        scenario.settle = Duration::from_secs(4 * 660 + 120);
        scenario
    }

    /// Everybody loses power at once and comes back over a minute, from what was persisted.
    #[must_use]
    pub fn restart_all(nodes: usize, seed: u64) -> Self {
        let mut scenario = Self::base("restart_all".to_owned(), nodes, seed);
        let (pause, spread) = (Duration::from_secs(10), Duration::from_secs(60));
        scenario.faults = vec![Fault::RestartAll { at: Duration::ZERO, pause, spread }];
        scenario.fault_phase = Duration::from_secs(180);
        scenario.measure_at = Duration::from_secs(100);
        scenario.settle = Duration::from_secs(300);
        scenario
    }

    /// `percent` of the nodes break the rules from the beginning.
    #[must_use]
    pub fn adversarial(nodes: usize, seed: u64, percent: u8, misbehaviour: Misbehaviour) -> Self {
        let word = match misbehaviour {
            Misbehaviour::Drop => "drop",
            Misbehaviour::Misroute => "misroute",
            Misbehaviour::Forge => "forge",
        };
        let mut scenario = Self::base(format!("{word}:{percent}"), nodes, seed);
        scenario.adversaries = u32::from(percent) * (PPM_ONE / 100);
        scenario.misbehaviour = misbehaviour;
        scenario.demands = Demands {
            recall_before: Some(0.99),
            recall_after: Some(0.99),
            finds_after: Some(0.99),
            ..Demands::default()
        };
        scenario
    }

    /// Options and faults that the seed draws.
    #[must_use]
    pub fn swarm(nodes: usize, seed: u64) -> Self {
        let mut random = Random::new(seed, "swarm");
        let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
        let mut scenario = Self::base("swarm".to_owned(), nodes, seed);
        scenario.messages =
            if random.happens(500_000) { Messages::Encoded } else { Messages::Values };
        scenario.start = Start::Joined(minutes(1 + random.below(3)));
        scenario.link.loss = random.pick(&[0, 1_000, 5_000, 10_000]).copied().unwrap_or(0);
        scenario.link.duplicate = random.pick(&[0, 1_000, 20_000]).copied().unwrap_or(0);
        scenario.link.reorder = random.pick(&[0, 10_000, 50_000]).copied().unwrap_or(0);
        scenario.workload.capabilities_each = 1 + random.index(3);
        scenario.workload.pairs = 5 + u32::try_from(random.below(40)).unwrap_or(0);
        scenario.nodes_per_prefix = random.pick(&[1, 1, 2]).copied().unwrap_or(1);
        scenario.config.alpha = 2 + random.index(3);
        scenario.config.find_paths = 2 + random.index(4);
        scenario.config.republish_max = minutes(10);
        scenario.beat_life = minutes(20 + random.below(60));
        let at = Duration::from_secs(random.below(120));
        let mut faults = vec![
            Fault::Kill { percent: 10 + u8::try_from(random.below(31)).unwrap_or(0), at },
            Fault::Partition { at },
            Fault::RestartAll {
                at,
                pause: Duration::from_secs(random.below(30)),
                spread: minutes(1),
            },
            Fault::Churn { session: minutes(30 + random.below(60)) },
            Fault::Links { loss: 20_000, duplicate: 10_000, reorder: 20_000 },
        ];
        random.shuffle(&mut faults);
        faults.truncate(1 + random.index(2));
        scenario.faults = faults;
        scenario.fault_phase = minutes(8);
        scenario.measure_at = minutes(4);
        scenario.settle = minutes(15);
        scenario
    }

    /// The command that repeats this run.
    #[must_use]
    pub fn repeat(&self) -> String {
        format!(
            "cargo run --release -p comity-sim --example run -- {} --nodes {} --seed {}",
            self.name, self.nodes, self.seed
        )
    }
}
