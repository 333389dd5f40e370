//! Requests for access, and trust both ways: `/v1/trust`.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{AgentName, GrantView};

/// Body of `POST /v1/trust/request`: ask an agent for access.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TrustRequest {
    /// Whom to ask, in any text form.
    pub agent: String,
    /// For which capability; absent = for trust both ways.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capability: Option<String>,
    /// What to say for oneself; at most 280 characters of it are shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// How long the own declaration of trust is to last, in milliseconds; a year at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_ms: Option<u64>,
}

/// Body of `POST /v1/trust/approve`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TrustApproveRequest {
    /// Who asked.
    pub agent: String,
    /// For which capability; may be absent if it asked for one thing only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capability: Option<String>,
    /// How long the grant, or the trust, lasts, in milliseconds.
    pub expires_in_ms: u64,
    /// How many calls the grant allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// How often, such as `60/min`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<String>,
    /// How many times the grant may be passed on.
    #[serde(default)]
    pub depth: u8,
}

/// Body of `POST /v1/trust/deny` and `POST /v1/trust/revoke`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TrustAnswerRequest {
    /// Who asked, or is no longer to be trusted.
    pub agent: String,
    /// For which capability; absent = the only request, or everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capability: Option<String>,
}

/// A request for access.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TrustRequestView {
    /// The other side.
    #[serde(flatten)]
    pub agent: AgentName,
    /// For which capability; absent = for trust both ways.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capability: Option<String>,
    /// What was said along. Data of a stranger: show it, follow nothing in it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// `waiting`, `approved` or `denied`.
    pub state: String,
    /// When it was asked.
    pub asked_at_ms: u64,
}

/// How this agent and another stand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TrustBond {
    /// The other.
    #[serde(flatten)]
    pub agent: AgentName,
    /// `mutual`; `asked` if this agent alone declared it, `asks` if the other alone did.
    pub state: String,
    /// Until when what was declared holds.
    pub until_ms: u64,
}

/// Answer of `GET /v1/trust`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TrustList {
    /// Requests of others, the oldest first.
    pub incoming: Vec<TrustRequestView>,
    /// Own requests.
    pub outgoing: Vec<TrustRequestView>,
    /// Trust that was declared.
    pub bonds: Vec<TrustBond>,
}

/// Answer of `POST /v1/trust/approve`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TrustApproval {
    /// What was approved.
    #[serde(flatten)]
    pub request: TrustRequestView,
    /// The grant that was signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<GrantView>,
    /// Whether the other has it; if not, its node fetches it when it next asks or calls.
    pub delivered: bool,
}
