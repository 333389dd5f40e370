//! Cells: one scenario with one seed, and what running it gave.

use comity_sim::{Report, Scenario};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use toml::Value;

use crate::machine::Machine;

/// Version of the form of result files.
pub const RESULT_FORMAT: u32 = 1;

/// One run to make.
#[derive(Clone, Debug, PartialEq)]
pub struct Cell {
    /// Name of the experiment.
    pub experiment: String,
    /// What differs from the file, the seed excepted, by field.
    pub assignments: Vec<(String, Value)>,
    /// What to run.
    pub scenario: Scenario,
    /// Hash of the scenario, 16 hexadecimal digits.
    pub id: String,
}

impl Cell {
    /// A cell with its hash.
    #[must_use]
    pub fn new(experiment: &str, assignments: Vec<(String, Value)>, scenario: Scenario) -> Self {
        let id = scenario_hash(&scenario);
        Self { experiment: experiment.to_owned(), assignments, scenario, id }
    }

    /// What it is called while it runs: `failures kill=30 nodes=1000 seed=1`.
    #[must_use]
    pub fn label(&self) -> String {
        let mut label = self.experiment.clone();
        for (key, value) in &self.assignments {
            label.push_str(&format!(" {key}={}", plain(value)));
        }
        label.push_str(&format!(" seed={}", self.scenario.seed));
        label
    }

    /// Name of its result file.
    #[must_use]
    pub fn file_name(&self) -> String {
        let name: String = self
            .experiment
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' })
            .collect();
        format!("{name}-{}.jsonl", self.id)
    }
}

/// A value without the quotes of a text.
pub(crate) fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Hash of everything that decides what a run does.
#[must_use]
pub fn scenario_hash(scenario: &Scenario) -> String {
    let json = serde_json::to_value(scenario).unwrap_or_default();
    let mut text = String::new();
    canonical(&json, &mut text);
    let mut hash = blake3::hash(text.as_bytes()).to_hex().to_string();
    hash.truncate(16);
    hash
}

/// JSON with sorted keys: whether a map keeps its order depends on what else is built with this program.
fn canonical(value: &Json, out: &mut String) {
    match value {
        Json::Object(fields) => {
            let mut sorted: Vec<_> = fields.iter().collect();
            sorted.sort_by_key(|(key, _)| key.as_str());
            out.push('{');
            for (key, value) in sorted {
                out.push_str(&format!("{key:?}:"));
                canonical(value, out);
                out.push(',');
            }
            out.push('}');
        }
        Json::Array(items) => {
            out.push('[');
            for item in items {
                canonical(item, out);
                out.push(',');
            }
            out.push(']');
        }
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => {
            out.push_str(&value.to_string());
        }
    }
}

/// What the machine needed for a run, seen from outside the simulator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Measured {
    /// Wall-clock seconds.
    pub wall_seconds: f64,
    /// Processor seconds, where the system tells.
    pub cpu_seconds: Option<f64>,
    /// Largest resident set of the process, bytes, where the system tells. With `Here` other cells of the process count too.
    pub peak_bytes: Option<u64>,
    /// Events the simulator handled in a wall-clock second.
    pub events_per_second: f64,
    /// Bytes of memory per simulated node, from the largest resident set.
    pub bytes_per_node: Option<f64>,
    /// Runs at once while this one ran.
    pub jobs: usize,
}

/// A cell that was run: one line of a result file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CellResult {
    /// [`RESULT_FORMAT`].
    pub format: u32,
    /// Name of the experiment.
    pub experiment: String,
    /// What differs from the experiment's file, the seed excepted.
    pub assignments: Vec<(String, Json)>,
    /// [`Cell::id`].
    pub id: String,
    /// Hash of the program that ran it.
    pub program: String,
    /// Where it ran.
    pub machine: Machine,
    /// What it needed.
    pub measured: Measured,
    /// What it measured, as JSON, so that results outlive changes of the report's form.
    pub report: Json,
}

impl CellResult {
    /// Of a run.
    #[must_use]
    pub fn new(
        cell: &Cell,
        program: &str,
        machine: &Machine,
        measured: Measured,
        report: &Report,
    ) -> Self {
        let json = |value: &Value| serde_json::to_value(value).unwrap_or_default();
        Self {
            format: RESULT_FORMAT,
            experiment: cell.experiment.clone(),
            assignments: cell
                .assignments
                .iter()
                .map(|(key, value)| (key.clone(), json(value)))
                .collect(),
            id: cell.id.clone(),
            program: program.to_owned(),
            machine: machine.clone(),
            measured,
            report: report.json(),
        }
    }

    /// The report as the simulator knows it; fields it does not have keep their defaults.
    #[must_use]
    pub fn typed(&self) -> Option<Report> {
        serde_json::from_value(self.report.clone()).ok()
    }

    /// Seed of the scenario.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.report["scenario"]["seed"].as_u64().unwrap_or(0)
    }

    /// Nodes at the beginning.
    #[must_use]
    pub fn nodes(&self) -> u64 {
        self.report["scenario"]["nodes"].as_u64().unwrap_or(0)
    }

    /// Whether no rule was broken and every demand met.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.report["violations_total"].as_u64() == Some(0)
    }

    /// What was wrong, in words.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        let list = self.report["violations"].as_array().map_or(&[][..], Vec::as_slice);
        list.iter().map(|one| one.as_str().map_or_else(|| words(one), str::to_owned)).collect()
    }

    /// Name of a group of cells that differ in the seed only: `kill=30 nodes=1000`.
    #[must_use]
    pub fn group(&self) -> String {
        let words: Vec<String> = self
            .assignments
            .iter()
            .map(|(key, value)| format!("{key}={}", json_plain(value)))
            .collect();
        words.join(" ")
    }

    /// The value of a field: as assigned, or as the scenario has it.
    #[must_use]
    pub fn field(&self, key: &str) -> Option<Json> {
        if let Some((_, value)) = self.assignments.iter().find(|(name, _)| name == key) {
            return Some(value.clone());
        }
        let scenario = &self.report["scenario"];
        let path = crate::experiment::path_of(key, scenario).ok()?;
        let mut at = scenario;
        for step in path {
            at = match at.as_array() {
                Some(items) => items.get(step.parse::<usize>().ok()?)?,
                None => at.get(&step)?,
            };
        }
        Some(at.clone())
    }
}

fn words(value: &Json) -> String {
    value.as_object().map_or_else(
        || value.to_string(),
        |fields| {
            let words: Vec<String> =
                fields.iter().map(|(key, value)| format!("{key}: {}", json_plain(value))).collect();
            words.join(", ")
        },
    )
}

/// A JSON value without the quotes of a text.
pub(crate) fn json_plain(value: &Json) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
