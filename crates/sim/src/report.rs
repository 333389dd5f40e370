//! What a run measured.

use std::fmt;
use std::time::Duration;

use comity_core::Hash;
use comity_overlay::Cost;
use serde_json::{Value as Json, json};

use crate::check::Violation;
use crate::random::micros;
use crate::world::Counters;

/// Measurements of one kind of command in one phase.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// Commands given.
    pub started: usize,
    /// Commands that found what they looked for in full.
    pub succeeded: usize,
    /// Commands whose node went down.
    pub abandoned: usize,
    costs: Vec<Cost>,
}

impl Sample {
    pub(crate) fn add(&mut self, cost: Cost, succeeded: bool) {
        self.costs.push(cost);
        self.succeeded += usize::from(succeeded);
    }

    /// Commands that ended.
    #[must_use]
    pub fn ended(&self) -> usize {
        self.costs.len()
    }

    /// Share of the commands that ended which succeeded; 1 if there was none.
    #[must_use]
    pub fn success(&self) -> f64 {
        share(self.succeeded, self.ended())
    }

    /// Latency that this share of the commands did not exceed, by nearest rank.
    #[must_use]
    pub fn latency(&self, percent: usize) -> Duration {
        let mut sorted: Vec<_> = self.costs.iter().map(|cost| cost.elapsed).collect();
        sorted.sort_unstable();
        let rank = (sorted.len() * percent).div_ceil(100).max(1);
        sorted.get(rank - 1).copied().unwrap_or_default()
    }

    /// Mean requests of one command.
    #[must_use]
    pub fn requests_mean(&self) -> f64 {
        self.mean(|cost| u64::from(cost.requests))
    }

    /// Mean hops of one command.
    #[must_use]
    pub fn hops_mean(&self) -> f64 {
        self.mean(|cost| u64::from(cost.hops))
    }

    /// Most hops of one command.
    #[must_use]
    pub fn hops_max(&self) -> u32 {
        self.costs.iter().map(|cost| cost.hops).max().unwrap_or(0)
    }

    /// Mean encoded bytes of one command, both directions, transport overhead not counted.
    #[must_use]
    pub fn bytes_mean(&self) -> f64 {
        self.mean(|cost| cost.bytes_sent + cost.bytes_received)
    }

    fn mean(&self, of: impl Fn(&Cost) -> u64) -> f64 {
        let total: u64 = self.costs.iter().map(of).sum();
        ratio(total, self.ended() as u64)
    }

    fn json(&self) -> Json {
        json!({
            "started": self.started, "ended": self.ended(), "succeeded": self.succeeded, "abandoned": self.abandoned,
            "latency_ms": { "p50": millis(self.latency(50)), "p90": millis(self.latency(90)), "p99": millis(self.latency(99)) },
            "requests_mean": self.requests_mean(), "hops_mean": self.hops_mean(), "hops_max": self.hops_max(),
            "bytes_mean": self.bytes_mean(),
        })
    }
}

/// Measurements of one phase.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PhaseReport {
    /// `before`, `during` or `after` the faults.
    pub label: &'static str,
    /// Directory queries; one succeeds when it finds all there is.
    pub queries: Sample,
    /// Searches for peer records.
    pub finds: Sample,
    /// Lookups; one succeeds when it finds the true 20 nearest.
    pub lookups: Sample,
    /// Right answers there were, over all queries.
    pub gold: u64,
    /// Right answers found.
    pub gold_found: u64,
    /// Matches shown whose publisher was gone.
    pub gone_shown: u64,
    /// Matches shown although their publisher had retired them.
    pub retired_shown: u64,
    /// True nearest nodes that lookups should have found, and those they did.
    pub nearest: (u64, u64),
    /// Bytes sent by all nodes, and the microseconds all nodes were up.
    pub traffic: (u64, u64),
}

impl PhaseReport {
    /// Right answers found, of those there were; 1 if there was none.
    #[must_use]
    pub fn recall(&self) -> f64 {
        if self.gold == 0 { 1.0 } else { ratio(self.gold_found, self.gold) }
    }

    /// True nearest nodes found by lookups.
    #[must_use]
    pub fn nearest_found(&self) -> f64 {
        if self.nearest.0 == 0 { 1.0 } else { ratio(self.nearest.1, self.nearest.0) }
    }

    /// Bytes a node sent a second, everything counted.
    #[must_use]
    pub fn bytes_per_node_second(&self) -> f64 {
        ratio(self.traffic.0, self.traffic.1) * 1e6
    }

    fn json(&self) -> Json {
        json!({
            "label": self.label, "recall": self.recall(), "gold": self.gold, "gone_shown": self.gone_shown,
            "retired_shown": self.retired_shown, "nearest_found": self.nearest_found(),
            "bytes_per_node_second": self.bytes_per_node_second(),
            "queries": self.queries.json(), "finds": self.finds.json(), "lookups": self.lookups.json(),
        })
    }
}

/// Measurements of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Name of the scenario.
    pub scenario: String,
    /// Its seed.
    pub seed: u64,
    /// Nodes at the beginning.
    pub nodes: usize,
    /// How to repeat it.
    pub repeat: String,
    /// Simulated time.
    pub virtual_time: Duration,
    /// Hash over all events in order.
    pub trace: Hash,
    /// What happened.
    pub counters: Counters,
    /// The phases in order.
    pub phases: Vec<PhaseReport>,
    /// Joins.
    pub joins: Sample,
    /// Publications, each of all items of one node.
    pub publications: Sample,
    /// Honest nodes among the true 20 nearest to places in use, and those of them that hold what belongs there.
    pub stored: (u64, u64),
    /// Table entries at the end, and those of them that are down.
    pub entries: (u64, u64),
    /// Largest state of one node seen, in bytes, approximately.
    pub peak_state_bytes: usize,
    /// Signatures checked, each once.
    pub signatures: u64,
    /// What was wrong, at most [`crate::check::VIOLATIONS_KEPT_MAX`].
    pub violations: Vec<Violation>,
    /// How many violations there were.
    pub violations_total: u64,
}

impl Report {
    /// The phase with this label.
    #[must_use]
    pub fn phase(&self, label: &str) -> Option<&PhaseReport> {
        self.phases.iter().find(|phase| phase.label == label)
    }

    /// Share of the true 20 nearest nodes that held what belongs to a place, before any fault.
    #[must_use]
    pub fn stored_on_true_20(&self) -> f64 {
        if self.stored.0 == 0 { 1.0 } else { ratio(self.stored.1, self.stored.0) }
    }

    /// Everything as JSON.
    #[must_use]
    pub fn json(&self) -> Json {
        let counters = &self.counters;
        json!({
            "scenario": self.scenario, "seed": self.seed, "nodes": self.nodes, "repeat": self.repeat,
            "virtual_seconds": self.virtual_time.as_secs_f64(), "trace": self.trace.to_string(),
            "events": counters.events, "messages": counters.messages, "bytes": counters.bytes, "lost": counters.lost,
            "duplicated": counters.duplicated, "reordered": counters.reordered, "cut": counters.cut, "to_dead": counters.to_dead,
            "misbehaved": counters.misbehaved, "crashes": counters.crashes, "restarts": counters.restarts,
            "departures": counters.departures,
            "joins": self.joins.json(), "publications": self.publications.json(),
            "phases": self.phases.iter().map(PhaseReport::json).collect::<Vec<_>>(),
            "stored_on_true_20": self.stored_on_true_20(),
            "table_entries": self.entries.0, "table_entries_dead": self.entries.1,
            "peak_state_bytes": self.peak_state_bytes, "signatures": self.signatures,
            "violations": self.violations.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "violations_total": self.violations_total,
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counters = &self.counters;
        writeln!(
            f,
            "{} with {} nodes, seed {}, {:.0} s simulated",
            self.scenario,
            self.nodes,
            self.seed,
            self.virtual_time.as_secs_f64()
        )?;
        writeln!(f, "trace   {}", self.trace)?;
        writeln!(
            f,
            "events  {}; {} messages, {:.1} MB; {} lost, {} cut, {} to nodes that were down, {} twice, {} late, {} misbehaviours",
            counters.events,
            counters.messages,
            bytes_f64(counters.bytes) / 1e6,
            counters.lost,
            counters.cut,
            counters.to_dead,
            counters.duplicated,
            counters.reordered,
            counters.misbehaved
        )?;
        writeln!(
            f,
            "nodes   {} crashes, {} restarts, {} departures",
            counters.crashes, counters.restarts, counters.departures
        )?;
        writeln!(
            f,
            "state   {} B at most a node; {} table entries, {:.1} % of them down; {} signatures checked",
            self.peak_state_bytes,
            self.entries.0,
            100.0 * ratio(self.entries.1, self.entries.0),
            self.signatures
        )?;
        writeln!(f, "stored  on {:.2} % of the true 20", 100.0 * self.stored_on_true_20())?;
        writeln!(
            f,
            "{:24} {:>5} {:>8} {:>7} {:>7} {:>7} {:>6} {:>5} {:>4} {:>8}",
            "", "n", "success", "p50 ms", "p90 ms", "p99 ms", "reqs", "hops", "max", "bytes"
        )?;
        row(f, "joins", &self.joins)?;
        row(f, "publications", &self.publications)?;
        for phase in &self.phases {
            for (kind, sample) in
                [("queries", &phase.queries), ("finds", &phase.finds), ("lookups", &phase.lookups)]
            {
                row(f, &format!("{} {kind}", phase.label), sample)?;
            }
            writeln!(
                f,
                "  recall {:.3} % of {}; {:.2} % of the true 20 found; {:.0} B/node/s; shown: {} gone, {} retired",
                100.0 * phase.recall(),
                phase.gold,
                100.0 * phase.nearest_found(),
                phase.bytes_per_node_second(),
                phase.gone_shown,
                phase.retired_shown
            )?;
        }
        for violation in &self.violations {
            writeln!(f, "WRONG   {violation}")?;
        }
        if self.violations_total > self.violations.len() as u64 {
            writeln!(f, "WRONG   {} violations in all", self.violations_total)?;
        }
        Ok(())
    }
}

fn row(f: &mut fmt::Formatter<'_>, name: &str, sample: &Sample) -> fmt::Result {
    writeln!(
        f,
        "{name:24} {:>5} {:>7.2}% {:>7.0} {:>7.0} {:>7.0} {:>6.1} {:>5.2} {:>4} {:>8.0}",
        sample.ended(),
        100.0 * sample.success(),
        millis(sample.latency(50)),
        millis(sample.latency(90)),
        millis(sample.latency(99)),
        sample.requests_mean(),
        sample.hops_mean(),
        sample.hops_max(),
        sample.bytes_mean()
    )
}

fn millis(duration: Duration) -> f64 {
    bytes_f64(micros(duration)) / 1e3
}

fn share(part: usize, whole: usize) -> f64 {
    if whole == 0 { 1.0 } else { ratio(part as u64, whole as u64) }
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { bytes_f64(part) / bytes_f64(whole) }
}

/// For reports only: exact up to 2^53.
#[allow(clippy::cast_precision_loss, reason = "reports round anyway")]
const fn bytes_f64(number: u64) -> f64 {
    number as f64
}
