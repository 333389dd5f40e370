//! Endorsements: `/v1/endorsements`.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Body of `POST /v1/endorsements`: give one's word for another agent's capability.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EndorseRequest {
    /// Whom, in any text form.
    pub agent: String,
    /// For which capability: a name, or the beginning of one and a star, optionally pinned.
    pub capability: String,
    /// On what ground: `operator`, `canary` or `audit`.
    pub how: String,
    /// How long the word holds, in milliseconds.
    pub expires_in_ms: u64,
    /// Hashes (`b3:…`) of what it rests on: receipts, reports.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub proofs: Vec<String>,
}

/// Body of `POST /v1/endorsements/revoke`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EndorseRevokeRequest {
    /// Hash of the endorsement.
    pub endorsement: String,
}

/// An endorsement whose signature holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EndorsementView {
    /// Its name: BLAKE3 of its envelope.
    pub endorsement: String,
    /// Whose word it is.
    pub endorser: String,
    /// Whom it is about.
    pub subject: String,
    /// For which capability.
    pub capability: String,
    /// On what ground.
    pub how: String,
    /// Since when.
    pub issued_at_ms: u64,
    /// Until when.
    pub until_ms: u64,
    /// Hashes of what it rests on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub proofs: Vec<String>,
    /// `good`, `expired` or `revoked`, as far as is known here.
    pub state: String,
    /// Whether the endorsed agent has it, where that was tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivered: Option<bool>,
}

/// Answer of `GET /v1/endorsements`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Endorsements {
    /// Those this agent gave.
    pub given: Vec<EndorsementView>,
    /// Those it received: handed out to whoever asks, and shown in its calls.
    pub received: Vec<EndorsementView>,
}

/// How well it is supported, in this node's view, that an agent can do what it says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StandingView {
    /// `L0` to `L4`.
    pub level: String,
    /// What the level means.
    pub meaning: String,
    /// What it rests on, in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub grounds: Vec<String>,
}
