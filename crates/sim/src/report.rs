//! What a run measured: everything that figures and tables are made of, and nothing that depends on the machine it ran on.
//!
//! A [`Report`] is written and read as JSON. Baselines fill the same one, through the same [`SampleBuilder`] and [`SeriesBuilder`].

mod collect;
mod text;
pub mod traffic;

use serde::{Deserialize, Serialize};

use crate::check::Violation;
use crate::scenario::Scenario;
use crate::world::Counters;

pub use traffic::TrafficKind;

pub use collect::{
    NetworkState, PhaseBuilder, SERIES_POINTS_MAX, SampleBuilder, SeriesBuilder, VALUES_KEPT_MAX,
    Values,
};

/// Version of the report's form; a reader of another version finds fields missing.
pub const REPORT_FORMAT: u32 = 1;

/// Shares, in ten-thousandths, whose quantiles a [`Spread`] keeps: enough to draw its distribution function and its tail.
pub const QUANTILES: [u16; 25] = [
    0, 100, 500, 1_000, 2_000, 2_500, 3_000, 4_000, 5_000, 6_000, 7_000, 7_500, 8_000, 8_500,
    9_000, 9_250, 9_500, 9_700, 9_800, 9_900, 9_950, 9_980, 9_990, 9_999, 10_000,
];

/// How a number is distributed. All zero when there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Spread {
    /// How many values.
    pub count: u64,
    /// Their mean.
    pub mean: f64,
    /// Smallest.
    pub min: f64,
    /// Median, by nearest rank like all percentiles here.
    pub p50: f64,
    /// 90th percentile.
    pub p90: f64,
    /// 95th percentile.
    pub p95: f64,
    /// 99th percentile.
    pub p99: f64,
    /// Largest.
    pub max: f64,
    /// The values below or at which the shares of [`QUANTILES`] lie.
    pub quantiles: [f64; QUANTILES.len()],
}

/// So many of so many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Hits {
    /// How many were found, held, done.
    pub found: u64,
    /// How many there were.
    pub wanted: u64,
}

impl Hits {
    /// Adds `found` of `wanted`.
    pub const fn add(&mut self, found: u64, wanted: u64) {
        self.found += found;
        self.wanted += wanted;
    }

    /// The share, 0 to 1; 1 if nothing was wanted.
    #[must_use]
    pub fn share(&self) -> f64 {
        if self.wanted == 0 { 1.0 } else { ratio(self.found, self.wanted) }
    }
}

/// Measurements of one kind of command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sample {
    /// Commands given.
    pub started: u64,
    /// Commands that ended.
    pub ended: u64,
    /// Commands that found what they looked for in full.
    pub succeeded: u64,
    /// Commands whose node went down.
    pub abandoned: u64,
    /// From command to outcome, in milliseconds.
    pub latency_ms: Spread,
    /// Longest chain of requests that led to each other.
    pub hops: Spread,
    /// Requests sent.
    pub requests: Spread,
    /// Encoded bytes in both directions, transport overhead not counted.
    pub bytes: Spread,
}

impl Sample {
    /// Share of the commands that ended which succeeded; 1 if there was none.
    #[must_use]
    pub fn success(&self) -> f64 {
        Hits { found: self.succeeded, wanted: self.ended }.share()
    }
}

/// What was shown to askers that should not have been. Forged and expired must be 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Shown {
    /// Matches shown in all.
    pub matches: u64,
    /// Nobody of this network sealed it so.
    pub forged: u64,
    /// Past its expiry.
    pub expired: u64,
    /// Its publisher had retired it.
    pub retired: u64,
    /// Its publisher was down.
    pub gone: u64,
    /// A newer version had been published and acknowledged more than a beat's life ago.
    pub stale: u64,
    /// It claims what its publisher does not have.
    pub lies: u64,
}

/// Measurements of one phase.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PhaseReport {
    /// `before`, `during` or `after` the faults.
    pub label: String,
    /// When it began, in virtual seconds from the start.
    pub begin_seconds: f64,
    /// When it ended.
    pub end_seconds: f64,
    /// Nodes that ran at its end.
    pub live_nodes: u64,
    /// Structured directory queries; one succeeds when it finds all it wants.
    pub queries: Sample,
    /// Directory queries in free text.
    pub texts: Sample,
    /// From question to verified live best peer, probes included; one succeeds when the peer lives and answers the question.
    pub peers: Sample,
    /// The same question by the same asker once more, right after.
    pub peers_warm: Sample,
    /// Searches for peer records.
    pub finds: Sample,
    /// Lookups; one succeeds when it finds the true 20 nearest.
    pub lookups: Sample,
    /// Right answers found, of those there were, as many as the question wanted: structured queries.
    pub recall: Hits,
    /// [`PhaseReport::recall`], but of answers that a running node besides the asker keeps under a key of the question: what no node
    /// keeps any more nobody can find.
    pub recall_kept: Hits,
    /// [`PhaseReport::recall`] of those who ask and stand still now and then.
    pub recall_stalled: Hits,
    /// The same of all others, where some stand still.
    pub recall_running: Hits,
    /// Of the oracle's best five, those among the five best found (equally good ones count as equal): structured queries.
    pub recall_at_5: Hits,
    /// [`PhaseReport::recall`] of queries in free text.
    pub text_recall: Hits,
    /// [`PhaseReport::recall_at_5`] of queries in free text.
    pub text_recall_at_5: Hits,
    /// What was shown to askers.
    pub shown: Shown,
    /// True nearest nodes that lookups found, of those they should have.
    pub nearest: Hits,
    /// Bytes each node sent in a second, transport overhead counted.
    pub sent_per_second: Spread,
    /// The mean over all nodes' time, without questions and the answers to them: what being there costs.
    pub upkeep_per_second: f64,
    /// What it was by kind of message, the most bytes first.
    pub traffic: Vec<TrafficKind>,
    /// The same by what it was for, see [`comity_overlay::Errand`]: requests with the answers to them.
    pub errand_traffic: Vec<TrafficKind>,
    /// Requests each node sent in a second.
    pub messages_per_second: Spread,
    /// Requests each node served in a second.
    pub served_per_second: Spread,
}

impl PhaseReport {
    /// Right answers found, of those there were; 1 if there was none.
    #[must_use]
    pub fn recall(&self) -> f64 {
        self.recall.share()
    }

    /// True nearest nodes found by lookups.
    #[must_use]
    pub fn nearest_found(&self) -> f64 {
        self.nearest.share()
    }
}

/// One point of the time series: what happened in one bucket of time. `None` where nothing was asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Point {
    /// When the bucket begins, in virtual seconds from the start.
    pub at_seconds: f64,
    /// Nodes that ran at its end.
    pub live_nodes: u64,
    /// Structured queries that ended in it.
    pub queries: u64,
    /// Recall of structured queries.
    pub recall: Option<f64>,
    /// Recall@5 of structured queries.
    pub recall_at_5: Option<f64>,
    /// Share of structured queries that found all they wanted.
    pub success: Option<f64>,
    /// Recall@5 of queries in free text.
    pub text_recall_at_5: Option<f64>,
    /// Share of peer searches that found the record.
    pub find_success: Option<f64>,
    /// Median latency of structured queries.
    pub latency_ms_p50: Option<f64>,
    /// 90th percentile.
    pub latency_ms_p90: Option<f64>,
    /// 99th percentile.
    pub latency_ms_p99: Option<f64>,
    /// Mean hops of structured queries.
    pub hops: Option<f64>,
    /// Mean requests of structured queries.
    pub requests: Option<f64>,
    /// Mean bytes of structured queries.
    pub bytes: Option<f64>,
    /// Mean bytes a running node sent in a second.
    pub sent_per_second: Option<f64>,
    /// Mean messages it sent in a second, requests and answers alike.
    pub messages_per_second: Option<f64>,
    /// Share of table entries, of a sample of nodes, that are down.
    pub dead_entries: Option<f64>,
    /// Mean table entries of a sample of nodes.
    pub table_entries: Option<f64>,
    /// The same of nodes that stand still now and then.
    pub table_entries_stalled: Option<f64>,
    /// Matches shown whose publisher was down or had retired.
    pub gone_shown: u64,
}

/// Measurements over time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Series {
    /// Width of a bucket.
    pub bucket_seconds: f64,
    /// The buckets in order, at most [`SERIES_POINTS_MAX`].
    pub points: Vec<Point>,
}

/// Something that happened to the network, for figures over time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Mark {
    /// When, in virtual seconds from the start.
    pub at_seconds: f64,
    /// What, in a few words.
    pub label: String,
}

/// How the work of custodians is spread over nodes, at the end of the first phase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CustodyReport {
    /// Items each running node holds.
    pub items: Spread,
    /// Bytes of them.
    pub bytes: Spread,
    /// Digests in each shard of each node.
    pub shard_digests: Spread,
    /// Requests each node served since it started.
    pub served: Spread,
}

/// Memory of one part of a node's state.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StatePart {
    /// Which part: `machine`, `table`, `custody`, …, and `all`.
    pub part: String,
    /// Mean bytes of a running node, at the end of the first phase.
    pub mean: f64,
    /// Most bytes of one node seen in the run.
    pub peak: u64,
}

/// How long something took to show, for those for whom it did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Wait {
    /// Virtual seconds.
    pub seconds: Spread,
    /// For how many it did not show while it was watched.
    pub never: u64,
}

/// What happens to agents that come and go, as others see it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Lifecycle {
    /// From registering to being found by another.
    pub found: Wait,
    /// From retiring to being found by nobody.
    pub retired: Wait,
    /// From crashing to being found by nobody.
    pub crashed: Wait,
}

/// What became of nodes that stood still now and then, see [`crate::Fault::Stall`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StallReport {
    /// How many they were.
    pub nodes: u64,
    /// Mean table entries of them when it began.
    pub entries_before: f64,
    /// The fewest in any point of the time series since, and what share of those before that is.
    pub entries_least: f64,
    /// See [`StallReport::entries_least`].
    pub entries_kept: f64,
    /// Messages that a node of the network sent in a second before, while as much was asked.
    pub messages_before: f64,
    /// The most in any point since.
    pub messages_most: f64,
    /// From the end of the stalls to the first point of the time series with at most half as many messages again as before and 95 % of
    /// the table entries; `None`: there was none.
    pub normal_after_seconds: Option<f64>,
    /// Times that one of them took most requests for failed.
    pub mass_failures: u64,
}

/// What nodes did against those who break the rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Defence {
    /// Own items looked up to see whether custodians keep them.
    pub audits: u64,
    /// Of these, how many found an omission.
    pub omissions: u64,
    /// Nodes put into quarantine by somebody, counted at each.
    pub quarantined: u64,
    /// Of these, how many keep the rules.
    pub quarantined_honest: u64,
}

/// What an attack cost whoever made it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Attack {
    /// Nodes that break the rules, eclipse ids included.
    pub adversaries: u64,
    /// Keys that were eclipsed.
    pub keys: u64,
    /// Ids placed next to keys.
    pub minted_ids: u64,
    /// Keys that would have to be tried to get them; see [`crate::cost::Minting::tries`].
    pub tried_ids: f64,
    /// Keys that a core tries in a second, as measured; see [`crate::cost::STRETCH_CORE_SECONDS`].
    pub mints_per_core_second: f64,
    /// Core hours for all of them.
    pub core_hours: f64,
    /// Hours of the fastest graphics card of [`crate::cost::GPUS`] for all of them, by arithmetic.
    pub gpu_hours: f64,
    /// Registrations of floods, stuffers, liars and those with wrong clocks.
    pub registrations: u64,
    /// Times that an asker tried an agent that was gone, or had not what it declares.
    pub found_out: u64,
    /// Publications with a wrong clock that the publisher's own machine refused.
    pub refused: u64,
}

/// What the machine that ran the simulation needed: filled in by the caller, because the simulator reads no clock.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Host {
    /// Wall-clock seconds.
    pub wall_seconds: f64,
    /// Largest resident set in bytes.
    pub rss_bytes: u64,
    /// The machine in words.
    pub machine: String,
}

/// Measurements of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    /// [`REPORT_FORMAT`].
    pub format: u32,
    /// What was run.
    pub scenario: Scenario,
    /// How to repeat it.
    pub repeat: String,
    /// Simulated seconds.
    pub virtual_seconds: f64,
    /// Hash over all events in order, in hexadecimal.
    pub trace: String,
    /// What happened.
    pub counters: Counters,
    /// The phases in order.
    pub phases: Vec<PhaseReport>,
    /// Measurements over time.
    pub series: Series,
    /// What happened when.
    pub marks: Vec<Mark>,
    /// Joins.
    pub joins: Sample,
    /// First publications, each of all items of one node.
    pub publications: Sample,
    /// Later publications of the same, renewals of beats included.
    pub renewals: Sample,
    /// Copies of published items on honest nodes that should hold them, before any fault.
    pub stored: Hits,
    /// Table entries at the end that are up.
    pub entries: Hits,
    /// How custody is spread.
    pub custody: CustodyReport,
    /// Estimates of the network's size, each divided by the true size, before any fault.
    pub estimates: Spread,
    /// Agents that come and go.
    pub lifecycle: Lifecycle,
    /// Nodes that stood still now and then.
    pub stall: StallReport,
    /// What nodes did against those who break the rules.
    pub defence: Defence,
    /// What the attack cost.
    pub attack: Attack,
    /// Memory of a node by part.
    pub state: Vec<StatePart>,
    /// Largest state of one node seen, in bytes, approximately.
    pub peak_state_bytes: u64,
    /// Signatures checked, each once.
    pub signatures: u64,
    /// What was wrong, at most [`crate::check::VIOLATIONS_KEPT_MAX`].
    pub violations: Vec<Violation>,
    /// How many violations there were.
    pub violations_total: u64,
    /// What the machine needed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<Host>,
}

impl Report {
    /// The phase with this label.
    #[must_use]
    pub fn phase(&self, label: &str) -> Option<&PhaseReport> {
        self.phases.iter().find(|phase| phase.label == label)
    }

    /// Share of the nodes that should hold what belongs to a place and did, before any fault.
    #[must_use]
    pub fn stored_on_true_20(&self) -> f64 {
        self.stored.share()
    }

    /// All phases' shown matches together.
    #[must_use]
    pub fn shown(&self) -> Shown {
        let mut all = Shown::default();
        for Shown { matches, forged, expired, retired, gone, stale, lies } in
            self.phases.iter().map(|phase| phase.shown)
        {
            all.matches += matches;
            all.forged += forged;
            all.expired += expired;
            all.retired += retired;
            all.gone += gone;
            all.stale += stale;
            all.lies += lies;
        }
        all
    }

    /// Whether no rule was broken and every demand met.
    #[must_use]
    pub const fn passed(&self) -> bool {
        self.violations_total == 0
    }

    /// Everything as JSON.
    ///
    /// # Panics
    /// Never: every field is a number, a text, a list or a table of these.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::to_value(self).expect("reports hold nothing that JSON cannot say")
    }
}

pub(crate) fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { float(part) / float(whole) }
}

/// For reports only: exact up to 2^53.
#[allow(clippy::cast_precision_loss, reason = "reports round anyway")]
pub(crate) const fn float(number: u64) -> f64 {
    number as f64
}
