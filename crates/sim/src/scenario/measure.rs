//! What is asked of the network, and what must come out.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ScenarioError;
use super::units::{duration, duration_option};

/// What is asked of the network in one phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Measure {
    /// Structured directory queries.
    pub queries: usize,
    /// Directory queries in free text.
    pub texts: usize,
    /// Questions from query to verified live best peer, probes included; each is asked once more by the same asker right after.
    pub peers: usize,
    /// Searches for a peer record.
    pub finds: usize,
    /// Lookups of a random place.
    pub lookups: usize,
    /// Agents that register and are looked for until they are found.
    pub registrations: usize,
    /// Agents that retire and are looked for until they are gone.
    pub retirements: usize,
    /// Agents that crash and are looked for until they are gone.
    pub crashes: usize,
    /// Answers a question wants; it stops when it has them. 0: everything there is.
    pub want: usize,
    /// The time all this is spread over.
    #[serde(with = "duration")]
    pub window: Duration,
    /// The same for the questions while faults act, if it is another.
    #[serde(with = "duration_option", skip_serializing_if = "Option::is_none")]
    pub window_during: Option<Duration>,
    /// Width of a point of the time series; zero: a hundredth of the run.
    #[serde(with = "duration")]
    pub bucket: Duration,
}

impl Default for Measure {
    fn default() -> Self {
        Self {
            queries: 100,
            texts: 0,
            peers: 0,
            finds: 50,
            lookups: 20,
            registrations: 0,
            retirements: 0,
            crashes: 0,
            want: 0,
            window: Duration::from_secs(60),
            window_during: None,
            bucket: Duration::ZERO,
        }
    }
}

impl Measure {
    /// The time that the questions of the phase with this label are spread over.
    #[must_use]
    pub fn window_of(&self, label: &str) -> Duration {
        self.window_during.filter(|_| label == "during").unwrap_or(self.window)
    }

    pub(super) fn check(&self) -> Result<(), ScenarioError> {
        if self.window.is_zero() || self.window_during.is_some_and(|window| window.is_zero()) {
            return Err(ScenarioError::Invalid {
                field: "measure.window",
                why: "questions need some time to be spread over".to_owned(),
            });
        }
        Ok(())
    }
}

/// What the outcome must be for the run to pass. Not given: not demanded. That nothing forged and nothing expired is shown is always
/// demanded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Demands {
    /// Recall before any fault, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recall_before: Option<f64>,
    /// Recall while faults act.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recall_during: Option<f64>,
    /// Recall at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recall_after: Option<f64>,
    /// Recall@5 against the oracle, in every phase.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recall_at_5: Option<f64>,
    /// Recall in every bucket of the time series in which something was asked, once the network has started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recall_always: Option<f64>,
    /// Recall of those who ask and stand still now and then, while they do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recall_stalled: Option<f64>,
    /// Share of their table entries that nodes which stand still now and then have, in every point of the time series.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stalled_entries_kept: Option<f64>,
    /// Longest time after which such nodes are as before, see [`crate::report::StallReport::normal_after_seconds`].
    #[serde(with = "duration_option", skip_serializing_if = "Option::is_none")]
    pub normal_after_max: Option<Duration>,
    /// Recall@5 of questions in free text, in every phase.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text_recall_at_5: Option<f64>,
    /// Share of questions for a live peer that end with one, in every phase.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peers_live: Option<f64>,
    /// Share of peer searches that find the record, at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finds_after: Option<f64>,
    /// Mean hops of peer searches, before any fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub find_hops_mean_max: Option<f64>,
    /// Share of the nodes that should hold what is stored at a place and do, before any fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stored_on_true_20: Option<f64>,
    /// Share of the true 20 nearest nodes that a lookup finds, before any fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub found_of_true_20: Option<f64>,
    /// The same at the end. Recall alone does not tell a network in two pieces from a whole one while each piece holds copies of all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub found_of_true_20_after: Option<f64>,
    /// Longest 99th percentile of query latency before any fault.
    #[serde(with = "duration_option", skip_serializing_if = "Option::is_none")]
    pub query_p99_max: Option<Duration>,
    /// Longest median from question to live peer, cold, before any fault.
    #[serde(with = "duration_option", skip_serializing_if = "Option::is_none")]
    pub peer_p50_max: Option<Duration>,
    /// Longest 99th percentile from question to live peer, cold, before any fault.
    #[serde(with = "duration_option", skip_serializing_if = "Option::is_none")]
    pub peer_p99_max: Option<Duration>,
    /// Most bytes of a structured query, on average, before any fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub query_bytes_max: Option<f64>,
    /// Most bytes of a query in free text, on average, before any fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text_bytes_max: Option<f64>,
    /// Most bytes a node sends in a second, on average, in every phase.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sent_per_second_max: Option<f64>,
    /// Most items of one custodian, as a multiple of the mean.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub custody_over_mean_max: Option<f64>,
    /// Longest 95th percentile from registering to being found.
    #[serde(with = "duration_option", skip_serializing_if = "Option::is_none")]
    pub found_p95_max: Option<Duration>,
    /// Longest 95th percentile from retiring to being gone.
    #[serde(with = "duration_option", skip_serializing_if = "Option::is_none")]
    pub retired_p95_max: Option<Duration>,
    /// Longest time from crashing to being gone.
    #[serde(with = "duration_option", skip_serializing_if = "Option::is_none")]
    pub crashed_max: Option<Duration>,
}
