//! What a registry answers.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use ed25519_dalek::VerifyingKey;
use serde_json::Value;

use super::{LAN_ADDRS_MAX, MESSAGE_BYTES_MAX, TAGS_MAX};
use crate::address::NodeId;
use crate::identity::parse_key;

/// Networks of a node that are read; more are ignored.
const NETWORKS_MAX: usize = 256;
/// Handshakes in one poll that are read; more are ignored.
const HANDSHAKES_MAX: usize = 256;
/// Nodes of one list that are read; more are ignored.
const NODES_MAX: usize = 16_384;
/// Characters of a text that are kept.
const TEXT_CHARS_MAX: usize = 1024;

/// Why an answer is of no use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// No JSON object, or over [`MESSAGE_BYTES_MAX`].
    #[error("the registry's answer is no JSON object of at most {MESSAGE_BYTES_MAX} bytes")]
    Json,
    /// The registry refused.
    #[error("the registry refused: {0}")]
    Refused(String),
    /// A field that must be there is not, or is of the wrong kind.
    #[error("the registry's answer has no usable field {0:?}")]
    Field(&'static str),
}

fn clipped(text: &str) -> String {
    text.chars().filter(|char| !char.is_control()).take(TEXT_CHARS_MAX).collect()
}

/// The fields of an answer; a failure becomes [`ReplyError::Refused`].
///
/// # Errors
/// See [`ReplyError`].
pub fn parse_reply(json: &[u8]) -> Result<BTreeMap<String, Value>, ReplyError> {
    if json.len() > MESSAGE_BYTES_MAX {
        return Err(ReplyError::Json);
    }
    let map: BTreeMap<String, Value> =
        serde_json::from_slice(json).map_err(|_json| ReplyError::Json)?;
    if map.get("type").and_then(Value::as_str) == Some("error") {
        let text = map.get("error").and_then(Value::as_str).unwrap_or("no reason given");
        return Err(ReplyError::Refused(clipped(text)));
    }
    Ok(map)
}

fn node_of(map: &BTreeMap<String, Value>, name: &'static str) -> Result<NodeId, ReplyError> {
    let number = map.get(name).and_then(Value::as_u64);
    number.and_then(|number| number.try_into().ok()).ok_or(ReplyError::Field(name))
}

fn text_of(map: &BTreeMap<String, Value>, name: &str) -> Option<String> {
    map.get(name).and_then(Value::as_str).filter(|text| !text.is_empty()).map(clipped)
}

fn list<'a>(map: &'a BTreeMap<String, Value>, name: &str) -> &'a [Value] {
    map.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The answer to registering.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registered {
    /// Ours from now on.
    pub node: NodeId,
    /// The name, when it was granted.
    pub hostname: Option<String>,
    /// Where the registry saw the request come from.
    pub observed: Option<SocketAddr>,
    /// Whether it understands [`super::Bound`] signatures.
    pub bound: bool,
}

impl Registered {
    /// Reads it.
    ///
    /// # Errors
    /// See [`ReplyError`].
    pub fn parse(map: &BTreeMap<String, Value>) -> Result<Self, ReplyError> {
        Ok(Self {
            node: node_of(map, "node_id")?,
            hostname: text_of(map, "hostname"),
            observed: text_of(map, "observed_addr").and_then(|text| text.parse().ok()),
            bound: map.get("comity").and_then(Value::as_bool).unwrap_or(false),
        })
    }
}

/// The answer to a lookup: the registry's word about a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeInfo {
    /// Which.
    pub node: NodeId,
    /// Its networks, 0 among them.
    pub networks: Vec<u16>,
    /// Its identity; frames of this node are checked against it.
    pub key: VerifyingKey,
    /// Whether anybody may resolve it.
    pub public: bool,
    /// Its name.
    pub hostname: Option<String>,
    /// Its tags.
    pub tags: Vec<String>,
    /// Where it is, when public.
    pub real_addr: Option<SocketAddr>,
}

impl NodeInfo {
    /// Reads it.
    ///
    /// # Errors
    /// See [`ReplyError`].
    pub fn parse(map: &BTreeMap<String, Value>) -> Result<Self, ReplyError> {
        let key = text_of(map, "public_key").ok_or(ReplyError::Field("public_key"))?;
        let networks = list(map, "networks").iter().take(NETWORKS_MAX);
        let tags = list(map, "tags").iter().take(TAGS_MAX);
        Ok(Self {
            node: node_of(map, "node_id")?,
            networks: networks.filter_map(|value| value.as_u64()?.try_into().ok()).collect(),
            key: parse_key(&key).map_err(|_key| ReplyError::Field("public_key"))?,
            public: map.get("public").and_then(Value::as_bool).unwrap_or(false),
            hostname: text_of(map, "hostname"),
            tags: tags.filter_map(|value| value.as_str().map(clipped)).collect(),
            real_addr: text_of(map, "real_addr").and_then(|text| text.parse().ok()),
        })
    }
}

/// The answer to resolving.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// Which.
    pub node: NodeId,
    /// Its public endpoint.
    pub real_addr: SocketAddr,
    /// Endpoints inside its own network.
    pub lan_addrs: Vec<SocketAddr>,
    /// It cannot be reached directly.
    pub relay_only: bool,
}

impl Resolved {
    /// Reads it.
    ///
    /// # Errors
    /// See [`ReplyError`].
    pub fn parse(map: &BTreeMap<String, Value>) -> Result<Self, ReplyError> {
        let lan = list(map, "lan_addrs").iter().take(LAN_ADDRS_MAX);
        Ok(Self {
            node: node_of(map, "node_id")?,
            real_addr: text_of(map, "real_addr")
                .and_then(|text| text.parse().ok())
                .ok_or(ReplyError::Field("real_addr"))?,
            lan_addrs: lan.filter_map(|value| value.as_str()?.parse().ok()).collect(),
            relay_only: map.get("relay_only").and_then(Value::as_bool).unwrap_or(false),
        })
    }
}

/// A trust request that the registry kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayedRequest {
    /// Who asks, as the registry says.
    pub from: NodeId,
    /// Why.
    pub justification: String,
}

/// An answer to a trust request of ours that the registry kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelayedResponse {
    /// Who answers, as the registry says.
    pub from: NodeId,
    /// What.
    pub accept: bool,
}

/// The answer to polling.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Handshakes {
    /// Requests to us.
    pub requests: Vec<RelayedRequest>,
    /// Answers to us.
    pub responses: Vec<RelayedResponse>,
}

/// Reads it; entries without a sender are left out.
#[must_use]
pub fn parse_handshakes(map: &BTreeMap<String, Value>) -> Handshakes {
    let from = |value: &Value| value.get("from_node_id")?.as_u64()?.try_into().ok();
    let requests = list(map, "requests").iter().take(HANDSHAKES_MAX).filter_map(|value| {
        let why = value.get("justification").and_then(Value::as_str).unwrap_or_default();
        Some(RelayedRequest { from: from(value)?, justification: clipped(why) })
    });
    let responses = list(map, "responses").iter().take(HANDSHAKES_MAX).filter_map(|value| {
        let accept = value.get("accept").and_then(Value::as_bool).unwrap_or(false);
        Some(RelayedResponse { from: from(value)?, accept })
    });
    Handshakes { requests: requests.collect(), responses: responses.collect() }
}

/// One node of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedNode {
    /// Which.
    pub node: NodeId,
    /// Its name, where the registry tells.
    pub hostname: Option<String>,
    /// Whether anybody may resolve it, where the registry tells.
    pub public: Option<bool>,
}

/// Reads a list of nodes; entries without an id are left out.
#[must_use]
pub fn parse_nodes(map: &BTreeMap<String, Value>) -> Vec<ListedNode> {
    let nodes = list(map, "nodes").iter().take(NODES_MAX).filter_map(|value| {
        Some(ListedNode {
            node: value.get("node_id")?.as_u64()?.try_into().ok()?,
            hostname: value.get("hostname").and_then(Value::as_str).map(clipped),
            public: value.get("public").and_then(Value::as_bool),
        })
    });
    nodes.collect()
}
