//! Evidence: `/v1/evidence`, `/v1/traces`.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::{AgentName, StandingView};

/// Body of `POST /v1/evidence`: keep evidence about this agent, for whoever asks. Exactly one of `blob` and `program` is given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EvidenceAddRequest {
    /// What kind it is, such as `model-signing`.
    pub kind: String,
    /// For which capability: a name, or the beginning of one and a star; `*` for the agent as such.
    pub capability: String,
    /// The evidence, in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blob: Option<String>,
    /// A program that makes it for each question: it finds the bytes to be signed, in hex, in `COMITY_REPORT_DATA`, and prints the evidence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
}

/// Evidence that is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EvidenceItem {
    /// Its name here.
    pub id: String,
    /// What kind it is.
    pub kind: String,
    /// For which capability.
    pub capability: String,
    /// Its length in bytes; none if a program makes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub length: Option<u64>,
    /// The program that makes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
    /// Since when it is kept.
    pub added_at_ms: u64,
}

/// Answer of `GET /v1/evidence`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EvidenceItems {
    /// Everything kept.
    pub items: Vec<EvidenceItem>,
}

/// Body of `POST /v1/evidence/show` and `POST /v1/evidence/remove`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EvidenceIdRequest {
    /// The item's name, or its beginning.
    pub id: String,
}

/// Answer of `POST /v1/evidence/show`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EvidenceShown {
    /// The item.
    pub item: EvidenceItem,
    /// The evidence, in base64; none if a program makes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blob: Option<String>,
    /// What it shows by this node's own policy file.
    pub facts: Vec<FactView>,
    /// Why it shows nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// One thing that evidence shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FactView {
    /// What, with its parts.
    pub claim: Value,
    /// What, in words.
    pub text: String,
    /// Whose word it is.
    pub by: String,
    /// Who could not have faked it; nobody, if it is empty.
    pub excludes: Vec<Excluded>,
}

/// An attacker that a fact excludes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Excluded {
    /// Its name, as policies write it.
    pub attacker: String,
    /// Who that is.
    pub who: String,
}

/// Body of `POST /v1/evidence/appraise`: ask an agent for its evidence, and say what it shows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AppraiseRequest {
    /// Whom, in any text form.
    pub agent: String,
    /// For which capability; the agent as such if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capability: Option<String>,
}

/// Answer of `POST /v1/evidence/appraise`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AppraiseResponse {
    /// Whom.
    pub agent: AgentName,
    /// For which capability; `*` for the agent as such.
    pub capability: String,
    /// What came of each piece of evidence.
    pub appraisals: Vec<AppraisalView>,
    /// Kinds that the agent has and this node's policy file does not say whom to believe about.
    pub unread: Vec<String>,
    /// How well it is supported that the agent can do this, with everything else that this node knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub standing: Option<StandingView>,
}

/// What came of one piece of evidence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AppraisalView {
    /// Its kind.
    pub kind: String,
    /// Hash of its envelope, as the audit log names it; none if it was not opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<String>,
    /// The session it was made for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// When it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_ms: Option<u64>,
    /// What it shows.
    pub facts: Vec<FactView>,
    /// How rules name it.
    pub names: Vec<String>,
    /// Why it shows nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// Body of `POST /v1/evidence/canary`: ask what is known already, and remember whether the answer was right.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CanaryRequest {
    /// `ADDRESS/CAPABILITY`.
    pub target: String,
    /// The input.
    pub input: Value,
    /// The answer that is right.
    pub expect: Value,
    /// Overall deadline in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// Answer of `POST /v1/evidence/canary`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CanaryResponse {
    /// Who answered.
    pub agent: AgentName,
    /// Which capability.
    pub capability: String,
    /// Whether the answer was the right one.
    pub passed: bool,
    /// The answer.
    pub answer: Value,
    /// Canaries passed since the last that was failed.
    pub in_a_row: u64,
    /// Calls of this capability answered.
    pub acknowledged: u64,
}

/// Body of `POST /v1/evidence/probe`: have rows of a table proved, and remember whether they were.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProbeRequest {
    /// `ADDRESS/CAPABILITY`.
    pub target: String,
    /// How many rows, 2 to 16; 8 if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<usize>,
    /// Deadline of each of the two calls in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// Answer of `POST /v1/evidence/probe`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProbeResponse {
    /// Who answered.
    pub agent: AgentName,
    /// Which capability.
    pub capability: String,
    /// Whether all rows were proved, and one of them was found by asking for it.
    pub passed: bool,
    /// What was wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// How many rows it declares.
    pub rows: u64,
    /// Numbers of the rows that had to be proved: the first, the last, and others drawn at random.
    pub proved: Vec<u64>,
    /// Probes and canaries passed since the last that was failed.
    pub in_a_row: u64,
    /// Calls of this capability answered.
    pub acknowledged: u64,
}

/// Body of `POST /v1/traces`: commit to a trace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TraceCommitRequest {
    /// Its steps, each in base64.
    pub steps: Vec<String>,
    /// The capability whose work it traces; none if it is kept and not shown as evidence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capability: Option<String>,
}

/// A trace that this agent committed to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TraceView {
    /// Root over its steps: what the audit log names.
    pub root: String,
    /// How many steps.
    pub steps: u32,
    /// When it was committed to.
    pub at_ms: u64,
}

/// Answer of `GET /v1/traces`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Traces {
    /// Every trace, the latest first.
    pub traces: Vec<TraceView>,
    /// The private capability that discloses them to whom a grant allows it.
    pub capability: String,
}

/// Body of `POST /v1/traces/disclose`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TraceDiscloseRequest {
    /// Which trace.
    pub root: String,
    /// Which steps, from 0.
    pub steps: Vec<u32>,
}

/// Steps of a committed trace, with what proves them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TraceDisclosure {
    /// Root of the trace.
    pub root: String,
    /// The steps, each in base64 of deterministic CBOR: step, salt, and the way to the root.
    pub disclosures: Vec<String>,
}
