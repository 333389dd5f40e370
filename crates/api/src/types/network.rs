//! The network as this node sees it: `GET /v1/peers`, `GET /v1/groups`, `POST /v1/resolve`.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{AgentForms, AgentName, GroupLabel, Role};

/// Answer of `GET /v1/peers`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Peers {
    /// Known peers: connected ones first, then by nearness in the overlay.
    pub peers: Vec<Peer>,
}

/// One known peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Peer {
    /// Who it is.
    #[serde(flatten)]
    pub agent: AgentName,
    /// Network addresses it is known at.
    #[schema(value_type = Vec<String>)]
    pub addrs: Vec<SocketAddr>,
    /// How it is connected.
    pub session: SessionState,
    /// Its part in the overlay.
    pub role: Role,
    /// Index of its bucket in the routing table (number of leading overlay id bits shared with this node); absent when
    /// it is not in the table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bucket: Option<u32>,
    /// Last measured round trip in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtt_us: Option<u64>,
    /// When it was last heard from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen_at_ms: Option<u64>,
    /// Network path of the open session: `direct 127.0.0.1:4433`, `relay …`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// How a peer is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SessionState {
    /// An open session.
    Connected,
    /// Closed; reachable again without a full handshake.
    Parked,
    /// Remembered only.
    Known,
}

/// Answer of `GET /v1/groups`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Groups {
    /// Groups this node publishes to or keeps shards of, by label.
    pub groups: Vec<Group>,
}

/// One group, as this node sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Group {
    /// Its key.
    #[serde(flatten)]
    pub group: GroupLabel,
    /// Own capabilities in it.
    pub own: Vec<String>,
    /// Digests of it held here for others and for itself; 0 when this node is no custodian of it.
    pub digests: u32,
    /// Shards of it held here.
    pub shards: u32,
    /// Their bytes.
    pub bytes: u64,
}

/// Body of `POST /v1/resolve`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ResolveRequest {
    /// Any text form of an agent: AgentId in any of its forms, address, handle, `AgentId@ip:port`, ticket.
    pub text: String,
    /// Time limit in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// Answer of `POST /v1/resolve`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ResolveResponse {
    /// The agent, in every form.
    #[serde(flatten)]
    pub agent: AgentForms,
    /// Network addresses it is known at; empty when nobody knows.
    #[schema(value_type = Vec<String>)]
    pub addrs: Vec<SocketAddr>,
}
