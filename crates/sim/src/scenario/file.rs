//! Scenario files: a preset, and what is changed of it.

use comity_overlay::Config;
use toml::{Table, Value};

use super::{Demands, Scenario, ScenarioError};

/// Nodes of a file that does not say.
const NODES: usize = 300;
/// Keys of the tables that say which variant a table is: a table of another variant replaces instead of adding.
const TAGS: [&str; 2] = ["kind", "distribution"];
/// What a file starts from that says everything itself: it demands nothing.
const BARE: &str = "bare";

impl Scenario {
    /// Reads a scenario file.
    ///
    /// `preset` names what it starts from (`"healthy"` if it does not say; `"bare"` demands nothing), everything else changes that.
    /// Lists, such as `[[faults]]`, replace those of the preset.
    ///
    /// # Errors
    /// [`ScenarioError`] names the line or the field, and what it should be.
    pub fn from_toml(text: &str) -> Result<Self, ScenarioError> {
        let mut given: Table =
            toml::from_str(text).map_err(|error| ScenarioError::File(error.to_string()))?;
        let preset = match given.remove("preset") {
            None => "healthy".to_owned(),
            Some(Value::String(preset)) => preset,
            Some(other) => {
                return Err(ScenarioError::File(format!("preset: {other} is not a name")));
            }
        };
        // Read as it stands first: errors then name the line of the file. The preset's line is the only one that is not a field.
        let without: Vec<&str> = text
            .lines()
            .map(|line| if line.trim_start().starts_with("preset") { "" } else { line })
            .collect();
        toml::from_str::<Self>(&without.join("\n"))
            .map_err(|error| ScenarioError::File(error.to_string()))?;
        let number = |name: &'static str, default: u64| match given.get(name) {
            None => Ok(default),
            Some(Value::Integer(number)) if *number >= 0 => Ok(number.unsigned_abs()),
            Some(other) => Err(ScenarioError::Invalid {
                field: name,
                why: format!("{other} is not a whole number"),
            }),
        };
        let nodes = usize::try_from(number("nodes", NODES as u64)?).unwrap_or(usize::MAX);
        let seed = number("seed", 1)?;
        let base = match preset.as_str() {
            BARE => Self {
                demands: Demands::default(),
                config: Config::default(),
                ..Self::healthy(nodes, seed)
            },
            name => Self::preset(name, nodes, seed)?,
        };
        let mut table = base.table()?;
        merge(&mut table, given);
        let scenario: Self =
            table.try_into().map_err(|error| ScenarioError::File(error.to_string()))?;
        scenario.check()?;
        Ok(scenario)
    }

    /// The scenario as a file that says everything.
    ///
    /// # Errors
    /// [`ScenarioError::File`] when a number is too large for TOML.
    pub fn to_toml(&self) -> Result<String, ScenarioError> {
        let fields = toml::to_string(&self.table()?);
        let fields = fields.map_err(|error| ScenarioError::File(error.to_string()))?;
        Ok(format!("preset = \"{BARE}\"\n{fields}"))
    }

    fn table(&self) -> Result<Table, ScenarioError> {
        Table::try_from(self).map_err(|error| ScenarioError::File(error.to_string()))
    }
}

/// Puts what is in `changes` into `base`, table by table.
fn merge(base: &mut Table, changes: Table) {
    for (key, change) in changes {
        match (base.get_mut(&key), change) {
            (Some(Value::Table(old)), Value::Table(new)) if is_same_variant(old, &new) => {
                merge(old, new);
            }
            (_, change) => drop(base.insert(key, change)),
        }
    }
}

fn is_same_variant(old: &Table, new: &Table) -> bool {
    TAGS.iter().all(|tag| new.get(*tag).is_none_or(|kind| old.get(*tag) == Some(kind)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::scenario::{Adversaries, Fault, Misbehaviour, PRESETS, Sessions, Start};

    fn read(text: &str) -> Scenario {
        Scenario::from_toml(text).unwrap_or_else(|error| panic!("{error}"))
    }

    fn error(text: &str) -> String {
        Scenario::from_toml(text).expect_err("it must not read").to_string()
    }

    #[test]
    fn three_lines_are_a_scenario() {
        let scenario = read("preset = \"kill:50\"\nnodes = 2000\nseed = 7\n");
        assert_eq!(scenario, Scenario::kill(2_000, 7, 50));
        assert_eq!(read(""), Scenario::healthy(300, 1));
    }

    #[test]
    fn presets_survive_being_written_and_read() {
        for name in PRESETS {
            for nodes in [20, 2_000] {
                let scenario = Scenario::preset(name, nodes, 3).unwrap();
                let text = scenario.to_toml().unwrap();
                assert_eq!(read(&text), scenario, "{text}");
                let json = serde_json::to_string(&scenario).unwrap();
                assert_eq!(serde_json::from_str::<Scenario>(&json).unwrap(), scenario, "{json}");
            }
        }
    }

    #[test]
    fn what_is_named_is_changed_and_nothing_else() {
        let scenario = read(
            r#"
            preset = "healthy"
            nodes = 1_000
            beat_life = "30m"
            start = { kind = "joined", over = "5m" }
            [link]
            loss = 0.25
            [config]
            alpha = 5
            hard_timeout = "2s"
            [workload]
            publishers = "all"
            [[faults]]
            kind = "churn"
            sessions = { distribution = "weibull", median = "1h" }
            [[faults]]
            kind = "kill"
            share = 12.5
            at = "10m"
            [[adversaries]]
            kind = "omit"
            share = 20
            [demands]
            recall_during = 0.99
            "#,
        );
        let base = Scenario::healthy(1_000, 1);
        assert_eq!(scenario.start, Start::Joined { over: Duration::from_secs(300) });
        assert_eq!(scenario.link.loss, 2_500);
        assert_eq!(scenario.link.access_median, base.link.access_median);
        assert_eq!(
            (scenario.config.alpha, scenario.config.find_paths),
            (5, base.config.find_paths)
        );
        assert_eq!(scenario.config.hard_timeout, Duration::from_secs(2));
        assert_eq!(scenario.publishers(), 1_000);
        assert_eq!(scenario.demands.recall_before, base.demands.recall_before);
        assert_eq!(scenario.demands.recall_during, Some(0.99));
        assert_eq!(scenario.adversaries, [Adversaries::new(Misbehaviour::Omit, 200_000)]);
        let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
        assert_eq!(
            scenario.faults,
            [
                Fault::Churn {
                    at: Duration::ZERO,
                    lasts: None,
                    sessions: Sessions::Weibull { median: minutes(60) },
                    diurnal: 0,
                },
                Fault::Kill { share: 125_000, at: minutes(10) },
            ]
        );
    }

    #[test]
    fn errors_name_the_field_and_what_it_should_be() {
        for (text, words) in [
            ("nods = 3", vec!["nods", "nodes"]),
            ("[link]\nloss = 120", vec!["loss", "percent"]),
            ("[link]\nloos = 1", vec!["loos", "loss"]),
            ("beat_life = 30", vec!["beat_life", "6h"]),
            ("beat_life = \"30 parsecs\"", vec!["beat_life", "1h30m"]),
            ("[config]\nalhpa = 3", vec!["alhpa", "alpha"]),
            ("[config]\nhard_timeout = 3", vec!["hard_timeout", "90s"]),
            ("[[faults]]\nkind = \"quake\"", vec!["quake", "partition"]),
            ("[[faults]]\nkind = \"kill\"\nshare = 3\nforce = 2", vec!["force"]),
            ("[[adversaries]]\nkind = \"nice\"", vec!["nice", "misroute"]),
            ("preset = \"helthy\"", vec!["helthy", "healthy"]),
            ("nodes = 1", vec!["nodes", "at least 2"]),
            ("[workload]\npublishers = \"some\"", vec!["publishers", "all"]),
            ("protocol = \"chord\"", vec!["chord", "kademlia"]),
        ] {
            let said = error(text);
            for word in words {
                assert!(said.contains(word), "{text:?} says {said:?}, not {word:?}");
            }
        }
    }
}
