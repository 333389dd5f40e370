//! Metrics: paths into a result, with unit and direction inferred from what they name.
//!
//! A path is the field names of `comity_sim::Report`, joined by points: `before.queries.latency_ms.p99`, `custody.items.max`,
//! `state.table.mean`. `before`, `during` and `after` are phases, `worst` is the worst of all phases, `measured` is what the machine
//! needed (`measured.wall_seconds`, `measured.peak_bytes`), `scenario` what was run. A path may end at a share (`recall_at_5`), at
//! a distribution (its mean is meant), or at `success` of a kind of command. `a / b` divides, `1 - a` is the rest.

use serde_json::Value as Json;

use crate::cell::CellResult;
use crate::plot::Format;

/// What is shown of an experiment that does not say.
pub const COLUMNS: [&str; 13] = [
    "before.recall",
    "during.recall",
    "after.recall",
    "before.recall_at_5",
    "during.recall_at_5",
    "after.recall_at_5",
    "before.queries.latency_ms.p50",
    "before.queries.latency_ms.p99",
    "before.queries.bytes",
    "before.queries.hops",
    "before.sent_per_second",
    "measured.wall_seconds",
    "measured.peak_bytes",
];

/// Which way is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    /// Recall, success.
    Higher,
    /// Latency, bytes.
    Lower,
    /// It says what was done, not how well.
    Neither,
}

/// A metric.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metric {
    text: String,
    path: Vec<String>,
    divisor: Option<Vec<String>>,
    rest: bool,
    /// How its values are written.
    pub format: Format,
    /// Which way is good.
    pub better: Better,
    per_second: bool,
}

impl Metric {
    /// Reads a metric.
    ///
    /// # Errors
    /// Says what is wrong with its form; whether a result has it shows when it is asked.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (body, rest) = text
            .trim()
            .strip_prefix("1 - ")
            .map_or_else(|| (text.trim(), false), |body| (body, true));
        let (path, divisor) = match body.split_once(" / ") {
            Some((path, divisor)) => (path, Some(steps(divisor)?)),
            None => (body, None),
        };
        let path = steps(path)?;
        let per_second = path.iter().any(|step| step.ends_with("per_second"));
        let format = if divisor.is_some() { Format::Number } else { format_of(&path) };
        let better = direction(&path, rest);
        Ok(Self { text: text.trim().to_owned(), path, divisor, rest, format, better, per_second })
    }

    /// As it was written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Its value in a result, in seconds, bytes, or shares of one; `None` if it was not measured.
    #[must_use]
    pub fn of(&self, result: &CellResult) -> Option<f64> {
        let value = number_at(result, &self.path)? * scale_of(&self.path);
        let value = match &self.divisor {
            Some(divisor) => {
                let by = number_at(result, divisor)? * scale_of(divisor);
                if by == 0.0 { return None } else { value / by }
            }
            None => value,
        };
        Some(if self.rest { 1.0 - value } else { value })
    }

    /// The distribution at its path: shares with the values below or at which they lie.
    #[must_use]
    pub fn distribution(&self, result: &CellResult) -> Option<Vec<(f64, f64)>> {
        let node = node_at(result, &self.path)?;
        if node.get("count")?.as_f64()? == 0.0 {
            return None;
        }
        let scale = scale_of(&self.path);
        if let Some(values) = node.get("quantiles").and_then(Json::as_array) {
            let shares = comity_sim::report::QUANTILES;
            let pairs = shares.iter().zip(values.iter().filter_map(Json::as_f64));
            return Some(
                pairs.map(|(share, value)| (f64::from(*share) / 10_000.0, value * scale)).collect(),
            );
        }
        let known =
            [("min", 0.0), ("p50", 0.5), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99), ("max", 1.0)];
        let at = |(name, share): (&str, f64)| Some((share, node.get(name)?.as_f64()? * scale));
        known.into_iter().map(at).collect()
    }

    /// A value for people.
    #[must_use]
    pub fn write(&self, value: f64) -> String {
        let text = self.format.write(value);
        if self.per_second && self.divisor.is_none() { format!("{text}/s") } else { text }
    }
}

fn steps(path: &str) -> Result<Vec<String>, String> {
    let steps: Vec<String> = path.trim().split('.').map(str::to_owned).collect();
    let named = |step: &String| {
        !step.is_empty() && step.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    if steps.iter().all(named) {
        Ok(steps)
    } else {
        Err(format!(
            "`{path}` is no metric: field names joined by points, such as before.queries.latency_ms.p99"
        ))
    }
}

fn scale_of(path: &[String]) -> f64 {
    if path.iter().any(|step| step.ends_with("_ms")) { 1e-3 } else { 1.0 }
}

const SHARES: [&str; 13] = [
    "recall",
    "recall_kept",
    "recall_stalled",
    "recall_running",
    "entries_kept",
    "recall_at_5",
    "text_recall",
    "text_recall_at_5",
    "success",
    "nearest",
    "stored",
    "entries",
    "dead_entries",
];

fn format_of(path: &[String]) -> Format {
    let any = |test: &dyn Fn(&str) -> bool| path.iter().any(|step| test(step));
    if any(&|step| SHARES.contains(&step) || step == "find_success") {
        Format::Percent
    } else if any(&|step| step.ends_with("_ms") || step.contains("_ms_"))
        || any(&|step| step.ends_with("seconds"))
    {
        Format::Seconds
    } else if any(&|step| step.contains("bytes") || step == "sent_per_second")
        || any(&|step| step == "upkeep_per_second")
        || path.first().is_some_and(|step| step == "state")
    {
        Format::Bytes
    } else {
        Format::Number
    }
}

fn direction(path: &[String], rest: bool) -> Better {
    let any = |names: &[&str]| path.iter().any(|step| names.contains(&step.as_str()));
    let better = if any(&["dead_entries", "shown", "never", "quarantined_honest", "omissions"]) {
        Better::Lower
    } else if any(&SHARES) || any(&["events_per_second", "find_success", "passed"]) {
        Better::Higher
    } else if any(&[
        "scenario",
        "counters",
        "attack",
        "virtual_seconds",
        "live_nodes",
        "count",
        "started",
        "ended",
    ]) {
        Better::Neither
    } else {
        Better::Lower
    };
    match (better, rest) {
        (Better::Higher, true) => Better::Lower,
        (Better::Lower, true) => Better::Higher,
        (better, _) => better,
    }
}

/// The JSON at a path, before it is made a number.
fn node_at<'a>(result: &'a CellResult, path: &[String]) -> Option<&'a Json> {
    let (first, rest) = path.split_first()?;
    let phases = || result.report["phases"].as_array();
    let root = match first.as_str() {
        "before" | "during" | "after" => phases()?.iter().find(|phase| phase["label"] == *first)?,
        _ => return walk(&result.report, path),
    };
    walk(root, rest)
}

fn walk<'a>(root: &'a Json, path: &[String]) -> Option<&'a Json> {
    let mut at = root;
    for step in path {
        at = match at.as_array() {
            Some(items) => items.iter().find(|item| {
                ["label", "part", "name"]
                    .iter()
                    .any(|key| item.get(*key).is_some_and(|v| v == step))
            })?,
            None => at.get(step)?,
        };
    }
    Some(at)
}

fn number_at(result: &CellResult, path: &[String]) -> Option<f64> {
    let (first, rest) = path.split_first()?;
    match first.as_str() {
        "measured" => {
            number(&walk(&serde_json::to_value(result.measured).ok()?, rest)?.clone(), None)
        }
        "worst" => {
            let lower = direction(path, false) == Better::Lower;
            let phases = result.report["phases"].as_array()?;
            let values = phases.iter().filter_map(|phase| follow(phase, rest));
            values.reduce(|a, b| if lower { a.max(b) } else { a.min(b) })
        }
        "before" | "during" | "after" => {
            let phases = result.report["phases"].as_array()?;
            follow(phases.iter().find(|phase| phase["label"] == *first)?, rest)
        }
        _ => follow(&result.report, path),
    }
}

/// The number at a path, `None` where nothing was counted.
fn follow(root: &Json, path: &[String]) -> Option<f64> {
    let (last, above) = path.split_last()?;
    let parent = walk(root, above)?;
    if last == "success" && parent.get("ended").is_some() {
        let (done, of) = (parent["succeeded"].as_f64()?, parent["ended"].as_f64()?);
        return (of > 0.0).then(|| done / of);
    }
    number(walk(root, path)?, Some(parent))
}

fn number(value: &Json, parent: Option<&Json>) -> Option<f64> {
    match value {
        Json::Number(number) => {
            let nothing = parent.and_then(|parent| parent.get("count")).and_then(Json::as_f64);
            let of_spread = parent.is_some_and(|parent| parent.get("p99").is_some());
            if of_spread && nothing == Some(0.0) { None } else { number.as_f64() }
        }
        Json::Bool(flag) => Some(f64::from(u8::from(*flag))),
        Json::Object(fields) => match (fields.get("found"), fields.get("wanted")) {
            (Some(found), Some(wanted)) => {
                let (found, wanted) = (found.as_f64()?, wanted.as_f64()?);
                (wanted > 0.0).then(|| found / wanted)
            }
            _ => number(fields.get("mean")?, Some(value)),
        },
        Json::Null | Json::String(_) | Json::Array(_) => None,
    }
}
