//! Scenarios with a name.

use std::time::Duration;

use comity_overlay::Config;

use super::{
    Adversaries, Demands, Fault, Measure, Misbehaviour, Protocol, Scenario, ScenarioError,
    Sessions, Start,
};
use crate::link::LinkModel;
use crate::random::{PPM_ONE, Ppm, Random};
use crate::workload::Workload;
use crate::world::Messages;

/// Names [`Scenario::preset`] knows.
pub const PRESETS: [&str; 19] = [
    "healthy",
    "churn",
    "kill",
    "loss",
    "partition_heal",
    "restart_all",
    "swarm",
    "drop",
    "misroute",
    "forge",
    "omit",
    "stale",
    "eclipse",
    "flood",
    "stuff",
    "lie",
    "clock",
    "split",
    "mixed",
];

/// Most ids that the preset `eclipse` mints next to each place of a key.
const ECLIPSE_IDS_MAX: u16 = 256;
/// One percent.
const PERCENT: Ppm = PPM_ONE / 100;

const fn churn(sessions: Sessions) -> Fault {
    Fault::Churn { at: Duration::ZERO, lasts: None, sessions, diurnal: 0 }
}

impl Scenario {
    /// The preset called `name`, with a number after a colon where it takes one: percent of `kill`, `loss` and
    /// the misbehaviours, minutes of `partition_heal`, ids of `eclipse`.
    ///
    /// # Errors
    /// [`ScenarioError`].
    pub fn preset(name: &str, nodes: usize, seed: u64) -> Result<Self, ScenarioError> {
        let (base, given) = name.split_once(':').unwrap_or((name, ""));
        if base == "eclipse"
            && let Ok(ids @ 101..=ECLIPSE_IDS_MAX) = given.parse::<u16>()
        {
            return Ok(Self::adversarial(nodes, seed, ids, Misbehaviour::Eclipse));
        }
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
            "swarm" => Ok(Self::swarm(nodes, seed)),
            _ => match Misbehaviour::by_name(base) {
                Some(kind) => Ok(Self::adversarial(nodes, seed, number.unwrap_or(20).into(), kind)),
                None => Err(ScenarioError::Unknown { name: name.to_owned() }),
            },
        }
    }

    fn base(name: String, nodes: usize, seed: u64) -> Self {
        let publishers = nodes.min(60);
        Self {
            name,
            about: String::new(),
            protocol: Protocol::Comity,
            seed,
            nodes,
            start: Start::Joined { over: Duration::from_secs(120) },
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
                ..Workload::default()
            },
            digest_life: Duration::from_secs(6 * 3_600),
            beat_life: Duration::from_secs(2 * 3_600),
            publish_window: Duration::from_secs(60),
            askers: 50,
            adversaries: Vec::new(),
            measure: Measure {
                queries: 100,
                finds: 50,
                lookups: 20,
                window: Duration::from_secs(60),
                ..Measure::default()
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

    /// Sessions of 60 minutes on average for 40 minutes.
    #[must_use]
    pub fn churn(nodes: usize, seed: u64) -> Self {
        let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
        let mut scenario = Self::base("churn".to_owned(), nodes, seed);
        scenario.beat_life = minutes(30);
        scenario.faults = vec![churn(Sessions::Exponential { mean: minutes(60) })];
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
        scenario.faults =
            vec![Fault::Kill { share: Ppm::from(percent) * PERCENT, at: Duration::ZERO }];
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
        let loss = Ppm::from(percent) * PERCENT;
        scenario.faults = vec![Fault::Links {
            at: Duration::ZERO,
            lasts: None,
            loss,
            duplicate: loss / 2,
            reorder: loss,
        }];
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
        scenario.faults = vec![Fault::Partition { at: Duration::ZERO, lasts: None }];
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
    pub fn adversarial(nodes: usize, seed: u64, percent: u16, misbehaviour: Misbehaviour) -> Self {
        let mut scenario = Self::base(format!("{}:{percent}", misbehaviour.name()), nodes, seed);
        let mut group = Adversaries::new(misbehaviour, Ppm::from(percent) * PERCENT);
        match misbehaviour {
            Misbehaviour::Eclipse => (group.keys, group.ids) = (10, usize::from(percent)),
            Misbehaviour::Flood => group.per_minute = 1,
            Misbehaviour::Clock => group.skew = Duration::from_secs(300),
            Misbehaviour::Drop
            | Misbehaviour::Misroute
            | Misbehaviour::Forge
            | Misbehaviour::Omit
            | Misbehaviour::Stale
            | Misbehaviour::Stuff
            | Misbehaviour::Lie
            | Misbehaviour::Split
            | Misbehaviour::Mixed => {}
        }
        if misbehaviour == Misbehaviour::Eclipse {
            group.share = 0;
        }
        scenario.adversaries = vec![group];
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
        scenario.start = Start::Joined { over: minutes(1 + random.below(3)) };
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
            Fault::Kill {
                share: PERCENT * (10 + Ppm::try_from(random.below(31)).unwrap_or(0)),
                at,
            },
            Fault::Partition { at, lasts: None },
            Fault::RestartAll {
                at,
                pause: Duration::from_secs(random.below(30)),
                spread: minutes(1),
            },
            churn(Sessions::Exponential { mean: minutes(30 + random.below(60)) }),
            Fault::Links {
                at: Duration::ZERO,
                lasts: None,
                loss: 20_000,
                duplicate: 10_000,
                reorder: 20_000,
            },
        ];
        random.shuffle(&mut faults);
        faults.truncate(1 + random.index(2));
        scenario.faults = faults;
        scenario.fault_phase = minutes(8);
        scenario.measure_at = minutes(4);
        scenario.settle = minutes(15);
        scenario
    }
}
