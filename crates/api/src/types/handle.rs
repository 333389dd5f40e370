//! Handles: `GET /v1/handles`, `POST /v1/handles/resolve`, `POST /v1/handles/pin`, `POST /v1/handles/unpin`.

use std::net::SocketAddr;

use comity_core::AgentId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::AgentName;

/// Body of `POST /v1/handles/resolve` and `POST /v1/handles/unpin`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HandleRequest {
    /// A handle, `N:NNNN.HHHH.LLLL`; to resolve also with `#check`.
    pub handle: String,
}

/// Body of `POST /v1/handles/pin`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HandlePinRequest {
    /// The handle, without a check.
    pub handle: String,
    /// Any text form of the agent that it is to mean: AgentId, address, `handle#check`, ticket.
    pub agent: String,
}

/// How it is known whom a handle means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum HandleHow {
    /// It was the only one, and is pinned now.
    First,
    /// It is the pinned one.
    Pinned,
    /// It succeeded the pinned one, and is pinned now.
    Succeeded,
    /// The check is its.
    Checked,
}

/// Answer of `POST /v1/handles/resolve`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HandleMeaning {
    /// The handle as it was given.
    pub handle: String,
    /// Whom it means.
    pub agent: AgentName,
    /// How that is known.
    pub how: HandleHow,
    /// The key under whose handle it is; another one if keys succeeded each other since.
    #[schema(value_type = String)]
    pub first: AgentId,
    /// Other keys under the handle now: accidents are rare, so somebody may have made them.
    pub conflicts: Vec<AgentName>,
    /// Where it is reached, as far as known.
    #[schema(value_type = Vec<String>)]
    pub addrs: Vec<SocketAddr>,
}

/// Answer of `GET /v1/handles`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HandlePins {
    /// Every pinned handle.
    pub pins: Vec<HandlePin>,
}

/// A pinned handle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HandlePin {
    /// The handle.
    pub handle: String,
    /// Whom it means.
    pub agent: AgentName,
    /// The key that was pinned first.
    #[schema(value_type = String)]
    pub first: AgentId,
    /// Since when it means this key.
    pub since_ms: u64,
    /// Whether the key that may succeed this one is known, by its commitment.
    pub next_known: bool,
}
