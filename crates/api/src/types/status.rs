//! Who this node is and how it is doing: `GET /v1/status`, `GET /v1/capabilities`, `POST /v1/shutdown`.

use std::net::SocketAddr;

use comity_core::AgentId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Declaration, OpenEndpointView, PolicyStatus};
use crate::Ticket;

/// The names of one agent that fit on a line; part of most answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AgentName {
    /// The public key, z-base-32.
    #[schema(value_type = String)]
    pub agent: AgentId,
    /// Address derived from the key, IPv6 text.
    pub address: String,
    /// Handle with check characters: `N:NNNN.HHHH.LLLL#check`.
    pub handle: String,
}

/// Every text form of one identity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AgentForms {
    /// The public key, z-base-32.
    #[schema(value_type = String)]
    pub agent: AgentId,
    /// Address derived from the key, IPv6 text.
    pub address: String,
    /// Handle with check characters: `N:NNNN.HHHH.LLLL#check`.
    pub handle: String,
    /// The public key, lower-case hex.
    pub hex: String,
    /// `did:key:z6Mk…`.
    pub did_key: String,
    /// libp2p PeerId in its base58 form, `12D3Koo…`.
    pub peer_id: String,
    /// libp2p PeerId as CIDv1, `bafz…`.
    pub peer_id_cid: String,
    /// Tor v3 onion name.
    pub onion: String,
    /// Leading zero bits of the key's stretch: networks that demand at most this many accept the key.
    pub mint_bits: u32,
}

/// Answer of `GET /v1/status`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// Version of the node, semver.
    pub version: String,
    /// The agent this node carries.
    pub agent: AgentName,
    /// Name of the network, for people.
    pub network: String,
    /// Mint bits this network demands of a key.
    pub mint_bits: u32,
    /// Process id of the node.
    pub pid: u32,
    /// Home directory, absolute path.
    pub home: String,
    /// When the node started.
    pub started_at_ms: u64,
    /// Milliseconds since then, by the monotonic clock.
    pub uptime_ms: u64,
    /// Sockets the node listens on.
    #[schema(value_type = Vec<String>)]
    pub listen: Vec<SocketAddr>,
    /// Addresses others can reach it at, best first.
    #[schema(value_type = Vec<String>)]
    pub reachable_at: Vec<SocketAddr>,
    /// What to hand to somebody who wants to join through this node.
    #[schema(value_type = String)]
    pub ticket: Ticket,
    /// Part this node plays in the overlay.
    pub role: Role,
    /// Where joining the network stands.
    pub join: JoinState,
    /// Peers by state.
    pub peers: PeerCounts,
    /// Estimate of the number of nodes in the network, once enough of it was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_size: Option<u64>,
    /// What this node stores for others.
    pub custody: CustodyCounts,
    /// Capabilities served here.
    pub capabilities: u32,
    /// Calls since the node started.
    pub calls: CallCounts,
    /// Which policy is in force, and whether the file is in order.
    #[serde(default)]
    pub policy: PolicyStatus,
    /// Endpoints for MCP and A2A clients of this machine that are open now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<OpenEndpointView>,
}

/// Part a node plays in the overlay; decided by dial-back, not by self-description.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Routes and keeps custody.
    Server,
    /// Asks and publishes only.
    Client,
    /// Not decided yet.
    Undecided,
}

/// Where joining the network stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum JoinState {
    /// No join address was given and no peer is remembered: the first node of its network.
    Alone,
    /// Asking join addresses.
    Joining {
        /// Addresses that failed so far, with the reason.
        failed: Vec<JoinFailure>,
    },
    /// In the network.
    Joined,
    /// No join address answered; the node keeps trying.
    Failed {
        /// Addresses that failed, with the reason.
        failed: Vec<JoinFailure>,
    },
}

/// A join address that did not work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JoinFailure {
    /// The address as given.
    pub address: String,
    /// Why it failed and what to do.
    pub reason: String,
}

/// Peers by state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PeerCounts {
    /// With an open session.
    pub connected: u32,
    /// Session parked: reachable again without a full handshake.
    pub parked: u32,
    /// In the routing table.
    pub routing: u32,
    /// Remembered on disk.
    pub known: u32,
}

/// What a node stores for others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CustodyCounts {
    /// Groups of which at least one shard is held.
    pub groups: u32,
    /// Shards held.
    pub shards: u32,
    /// Digests held.
    pub digests: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Calls since the node started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CallCounts {
    /// Calls made to others and answered.
    pub made: u64,
    /// Calls made to others and failed.
    pub made_failed: u64,
    /// Calls answered for others.
    pub served: u64,
    /// Calls for others that failed.
    pub served_failed: u64,
    /// Calls running now, both directions.
    pub in_flight: u32,
}

/// Answer of `GET /v1/capabilities`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Capabilities {
    /// What this node serves, by name.
    pub capabilities: Vec<ServedCapability>,
}

/// One capability served by this node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ServedCapability {
    /// What is declared to the network.
    pub declaration: Declaration,
    /// What answers the calls, for people: `table /data/eurofxref.csv`, `exec ./run.py`, `http http://…`.
    pub source: String,
    /// Whether it can answer now.
    pub state: SpecialistState,
    /// Why it cannot, when it cannot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Calls answered since the node started.
    pub calls: u64,
    /// Calls that failed since the node started.
    pub failures: u64,
    /// Where its digest is stored.
    pub publication: Publication,
}

/// Whether a specialist can answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SpecialistState {
    /// Ready.
    Ready,
    /// Starting or being restarted.
    Starting,
    /// Given up until somebody acts; see `problem`.
    Failed,
}

/// How far a capability's digest has been stored in the network.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct Publication {
    /// Group keys the digest is published under.
    pub groups: u32,
    /// Custodians that acknowledged it, over all groups.
    pub custodians: u32,
    /// When the last publication ended; absent before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published_at_ms: Option<u64>,
    /// When the published digest expires unless renewed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at_ms: Option<u64>,
}

/// Answer of `POST /v1/shutdown` and of `DELETE /v1/capabilities/{name}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Done {
    /// One sentence about what was done, for people.
    pub message: String,
}
