//! Finding by capability: `POST /v1/find`, and one agent in full: `GET /v1/show/{target}`.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::{AgentName, Declaration, StandingView};

/// A query in its text form or its JSON form.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum QueryInput {
    /// `"historical FX" where pair = EUR/USD and resolution <= 1d`
    Text(String),
    /// `{"text": …, "filter": {…}, …}`
    Json(serde_json::Map<String, Value>),
}

impl From<&str> for QueryInput {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for QueryInput {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

/// Body of `POST /v1/find`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FindRequest {
    /// What to look for.
    pub query: QueryInput,
    /// Whether to answer with [`FindResponse::explain`].
    #[serde(default)]
    pub explain: bool,
    /// At most this many matches; the query's own `top` otherwise, else [`DEFAULT_LIMIT`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// How many of the best matches to probe; the query's own `probe` otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<u32>,
    /// Search in this private group, by the name it has here, instead of in public.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Only what is supported at least so well, in this node's view: `L0` to `L4`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_level: Option<String>,
    /// Overall deadline in milliseconds; what was found by then is the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// Matches returned when neither request nor query says how many.
pub const DEFAULT_LIMIT: u32 = 10;

/// Most matches a request may ask for.
pub const MAX_LIMIT: u32 = 200;

impl From<&str> for FindRequest {
    fn from(query: &str) -> Self {
        Self::new(query)
    }
}

impl From<String> for FindRequest {
    fn from(query: String) -> Self {
        Self::new(query)
    }
}

impl FindRequest {
    /// A plain search for a query.
    pub fn new(query: impl Into<QueryInput>) -> Self {
        Self {
            query: query.into(),
            explain: false,
            limit: None,
            probe: None,
            group: None,
            min_level: None,
            timeout_ms: None,
        }
    }
}

/// Answer of `POST /v1/find`. An empty `matches` is a success: the network was asked and nothing fits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FindResponse {
    /// The query as understood, text form.
    pub query: String,
    /// What satisfies every hard condition, best first.
    pub matches: Vec<Match>,
    /// What nearly does, nearest first, with the conditions it fails.
    pub near_misses: Vec<NearMiss>,
    /// How the search went.
    pub search: SearchSummary,
    /// Plan and costs, when asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub explain: Option<Explain>,
}

/// How a search went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SearchSummary {
    /// Custodians asked.
    pub custodians_asked: u32,
    /// Custodians that answered in time.
    pub custodians_answered: u32,
    /// Different capabilities they returned.
    pub candidates: u32,
    /// Candidates thrown away because signature or expiry did not hold.
    pub rejected: u32,
    /// Whether the deadline or a budget cut the search short.
    pub truncated: bool,
    /// Milliseconds from request to answer.
    pub elapsed_ms: u64,
}

/// One capability that satisfies the query, with the evidence for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Match {
    /// `ADDRESS/CAPABILITY`, what to give to `call`.
    pub target: String,
    /// Who offers it.
    #[serde(flatten)]
    pub agent: AgentName,
    /// Name of the capability.
    pub capability: String,
    /// Its title.
    pub title: String,
    /// First lines of its description; empty when only the digest was seen.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// The conditions of the query, each with what is declared and the verdict.
    pub conditions: Vec<Condition>,
    /// Keys whose groups returned it.
    pub found_by: Vec<GroupLabel>,
    /// How many of the custodians asked returned it.
    pub custodians: Share,
    /// Age of what is known about it.
    pub freshness: Freshness,
    /// Outcome of the probe, when it was probed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<Probe>,
    /// How well it fits the question, from 0 to 1. Says nothing about trust.
    pub relevance: f64,
    /// How well its agent has behaved by own receipts, 0 to 1; 0.5 = nothing known. Says nothing about relevance.
    pub trust: f64,
    /// What the order was made by, from 0 to 1.
    pub score: f64,
    /// What the score is made of.
    pub score_parts: Vec<ScorePart>,
    /// Whether it owes its place to the exploration share (slots kept for unproven but matching agents).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub explored: bool,
    /// The network whose service it stands for, where that is not this one: receipts prove what the agent passed on, not who said it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<String>,
    /// How well it is supported that the agent can do this, in this node's view. Absent where nobody asked: the policy file names no endorsers, and
    /// no level was demanded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub standing: Option<StandingView>,
}

/// One capability that fails at least one hard condition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct NearMiss {
    /// `ADDRESS/CAPABILITY`.
    pub target: String,
    /// Who offers it.
    #[serde(flatten)]
    pub agent: AgentName,
    /// Name of the capability.
    pub capability: String,
    /// Its title.
    pub title: String,
    /// Hard conditions met.
    pub met: u32,
    /// The conditions it fails, each with what it declares instead.
    pub failed: Vec<Condition>,
}

/// One condition of the query against one capability.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Condition {
    /// The condition in text form: `time covers 2021-01-01/2024-12-31`.
    pub text: String,
    /// Full attribute key, or `class`, `tag`, `text`, `name`, `interface`.
    pub key: String,
    /// What the query wants, as people read it.
    pub wanted: String,
    /// What the capability declares, as people read it; absent when undeclared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub declared: Option<String>,
    /// The verdict.
    pub verdict: Verdict,
    /// Whether it only ranks (`prefer`, `soft`) instead of deciding.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub soft: bool,
}

/// Three-valued outcome of a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Declared and satisfied.
    Met,
    /// Declared and not satisfied.
    Unmet,
    /// Not declared: fails a hard condition, adds nothing to a soft one.
    Undeclared,
}

/// A key of the directory, with the label it was derived from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
pub struct GroupLabel {
    /// The group key, hex.
    pub key: String,
    /// Its family: `class_leaf`, `class_cell`, `facet`, `term`, `interface`, `name`.
    pub family: String,
    /// What it stands for: `fin:pair=EUR/USD`.
    pub label: String,
}

/// `n` of `of`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Share {
    /// How many did.
    pub n: u32,
    /// Out of how many.
    pub of: u32,
}

/// Age of what is known about a capability.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Freshness {
    /// Sequence number of the digest.
    pub seq: u64,
    /// When the digest was signed.
    pub issued_at_ms: u64,
    /// When it expires.
    pub expires_at_ms: u64,
    /// When the newest sign of life was signed or seen, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alive_at_ms: Option<u64>,
    /// Whether the full record was fetched from the agent and agrees with the digest.
    pub record_verified: bool,
}

/// Outcome of a probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Probe {
    /// The agent answered and serves the capability.
    Alive {
        /// Round trip in microseconds.
        rtt_us: u64,
    },
    /// The agent answered and does not serve it (any more), or is full.
    Declined {
        /// What it said.
        reason: String,
    },
    /// No answer.
    Unreachable {
        /// What happened.
        reason: String,
    },
}

/// One addend of a score.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ScorePart {
    /// `text`, `soft`, `qos`, `receipts`, `freshness`, `price`, …
    pub name: String,
    /// The raw value, from 0 to 1.
    pub value: f64,
    /// Its weight; `value * weight` is what it adds.
    pub weight: f64,
}

/// Plan and costs of a search.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Explain {
    /// Keys in the order they were asked, most selective first.
    pub plan: Vec<PlanKey>,
    /// Every custodian asked.
    pub custodians: Vec<CustodianAsked>,
    /// Milliseconds by phase, in order.
    pub phases: Vec<Phase>,
    /// Network rounds one after another.
    pub rounds: u32,
    /// Requests sent.
    pub rpcs: u32,
    /// Bytes sent.
    pub bytes_sent: u64,
    /// Bytes received.
    pub bytes_received: u64,
    /// Milliseconds altogether.
    pub elapsed_ms: u64,
    /// Remarks of the planner, for people: why a key was left out, why the search was widened.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// One key of the plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PlanKey {
    /// The key.
    #[serde(flatten)]
    pub group: GroupLabel,
    /// Whether it was asked, or held in reserve.
    pub asked: bool,
    /// Digests its group holds by its custodians' summaries, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_size: Option<u64>,
    /// Candidates it returned.
    pub returned: u32,
}

/// One custodian asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CustodianAsked {
    /// The custodian.
    #[serde(flatten)]
    pub agent: AgentName,
    /// Label of the key it was asked for.
    pub label: String,
    /// Digests it returned; absent when it did not answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub returned: Option<u32>,
    /// Round trip in microseconds; absent when it did not answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtt_us: Option<u64>,
    /// What went wrong, when it did not answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// Milliseconds spent in one phase.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Phase {
    /// `plan`, `lookup`, `ask`, `verify`, `rank`, `probe`.
    pub name: String,
    /// Microseconds it took.
    pub elapsed_us: u64,
}

/// Answer of `GET /v1/show/{target}`: an agent's record, signature and hash checked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ShowResponse {
    /// The agent.
    pub agent: super::AgentForms,
    /// Network addresses it is known at.
    #[schema(value_type = Vec<String>)]
    pub addrs: Vec<SocketAddr>,
    /// Its record.
    pub record: RecordView,
    /// The capability asked for, when the target named one; otherwise all of them.
    pub capabilities: Vec<Declaration>,
    /// How well it is supported that the agent can do this, in this node's view, where one capability was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub standing: Option<StandingView>,
}

/// The signed frame of a record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RecordView {
    /// Hash, `b3:` + hex.
    pub hash: String,
    /// Sequence number.
    pub seq: u64,
    /// Name the agent gives itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// When it was signed.
    pub issued_at_ms: u64,
    /// When it expires.
    pub expires_at_ms: u64,
    /// Where it came from.
    pub source: RecordSource,
    /// Size in bytes.
    pub bytes: u64,
}

/// Where a record came from. Its signature was checked in every case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RecordSource {
    /// This node's own.
    Own,
    /// Fetched from the agent.
    Agent,
    /// From this node's store.
    Store,
    /// Fetched from another peer that keeps a copy.
    Mirror,
}
