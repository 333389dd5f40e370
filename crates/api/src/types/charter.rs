//! Groups with a charter, open or governed: `/v1/charters`.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Body of `POST /v1/charters`: found a group, whose key stays with this node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CharterCreateRequest {
    /// What to call it: 1 to 64 of `a-z 0-9 - _ .`, a letter or digit first.
    pub name: String,
    /// Anybody may belong. Else stewards admit.
    #[serde(default)]
    pub open: bool,
    /// Who admits besides this agent, each in any text form.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stewards: Vec<String>,
    /// How many stewards must admit somebody; one when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub needed: Option<u8>,
    /// Within how many milliseconds an expulsion counts everywhere; ten minutes when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stale_ms: Option<u64>,
}

/// Body of `POST /v1/charters/join`: keep a charter, and admissions that came with it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CharterJoinRequest {
    /// The charter as text (`comity-charter:…`).
    pub charter: String,
    /// What to call the group here; as the charter calls it when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// Body of `POST /v1/charters/{name}/admit`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AdmitRequest {
    /// Whom, in any text form.
    pub agent: String,
    /// For calls of which capabilities: a name, or the beginning of one and a star.
    pub capabilities: String,
    /// How long, in milliseconds.
    pub expires_in_ms: u64,
}

/// Body of `POST /v1/charters/{name}/expel`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExpelRequest {
    /// Whom, in any text form.
    pub agent: String,
    /// Why: `unspecified`, `key-compromised`, `superseded`, `ended`, `misused`, `mistake`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// One steward's admission of one agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AdmissionView {
    /// Its name: BLAKE3 of its envelope.
    pub admission: String,
    /// Who admits.
    pub steward: String,
    /// Whom.
    pub agent: String,
    /// For calls of which capabilities.
    pub capabilities: String,
    /// Until when.
    pub until_ms: u64,
    /// `good`, `expired` or `withdrawn`, as far as is known here.
    pub state: String,
    /// Whether the agent has it, where that was tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivered: Option<bool>,
    /// Charter and admission as text, for `POST /v1/charters/join` at the agent. It is no secret: it works in that agent's sessions only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// A group with a charter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CharterGroup {
    /// What it is called here.
    pub name: String,
    /// Its key: what a policy names.
    pub group: String,
    /// `open`, `governed` or `private`.
    pub rule: String,
    /// How many stewards must admit somebody.
    pub needed: u8,
    /// Who admits.
    pub stewards: Vec<String>,
    /// Whose node keeps the group's key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Whether that is this node.
    pub founded: bool,
    /// Within how many milliseconds an expulsion counts everywhere.
    pub stale_ms: u64,
    /// Until when the charter is good.
    pub until_ms: u64,
    /// Whether this agent is a member, as far as is known here.
    pub member: bool,
    /// Why it is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Admissions of this agent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub admissions: Vec<AdmissionView>,
    /// Admissions that this agent gave.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub admitted: Vec<AdmissionView>,
    /// Keys that the group expelled, where this node keeps its key.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expelled: Vec<String>,
    /// The charter as text, for whoever is to join. It is no secret.
    pub text: String,
}

/// Answer of `GET /v1/charters`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CharterGroups {
    /// Groups this agent founded or joined, by name.
    pub charters: Vec<CharterGroup>,
}
