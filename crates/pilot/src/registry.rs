//! Registry messages: what a node says to the server that hands out node ids, and what that answers.
//!
//! On the wire each is `u32 length ++ JSON object`, or a frame of [`binary`]. One [`Request`] serves both ends: a client encodes it, our
//! rendezvous decodes it.

pub mod binary;
mod reply;

use std::collections::BTreeMap;

use serde_json::Value;

use crate::address::NodeId;
use crate::identity::Identity;

pub use reply::{
    Handshakes, ListedNode, NodeInfo, Registered, RelayedRequest, RelayedResponse, ReplyError,
    Resolved, parse_handshakes, parse_nodes, parse_reply,
};

/// Bytes of one message, length field not counted. Newer servers allow 64 MiB; nothing a node needs comes near 1 MiB.
pub const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// Characters of a host name.
pub const HOSTNAME_CHARS_MAX: usize = 63;
/// Tags of a node.
pub const TAGS_MAX: usize = 10;
/// Characters of a tag.
pub const TAG_CHARS_MAX: usize = 32;
/// Addresses inside its own network that a node may tell.
pub const LAN_ADDRS_MAX: usize = 8;
/// Characters of a justification.
pub const JUSTIFICATION_CHARS_MAX: usize = 1024;
/// Characters of any other text of a request.
const TEXT_CHARS_MAX: usize = 512;

/// A request to a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are the wire's, explained where the request is")]
pub enum Request {
    /// Asks for a node id, the same again for the same key.
    Register {
        listen_addr: String,
        public_key: String,
        hostname: Option<String>,
        owner: Option<String>,
        lan_addrs: Vec<String>,
        version: Option<String>,
    },
    /// What the registry says about a node; no permission needed.
    Lookup { node: NodeId },
    /// Where a node is; only for those who may know.
    Resolve { node: NodeId, requester: NodeId },
    /// Which node has a name.
    ResolveHostname { hostname: String, requester: Option<NodeId> },
    /// Still there.
    Heartbeat { node: NodeId },
    /// Endpoints of both sides of a hole to be punched.
    Punch { requester: NodeId, node_a: NodeId, node_b: NodeId },
    /// Takes a name, or gives it back with an empty one.
    SetHostname { node: NodeId, hostname: String },
    /// Whether anybody may resolve the node.
    SetVisibility { node: NodeId, public: bool },
    /// Words to be found by.
    SetTags { node: NodeId, tags: Vec<String> },
    /// This side trusts the peer.
    ReportTrust { node: NodeId, peer: NodeId },
    /// This side does not any more.
    RevokeTrust { node: NodeId, peer: NodeId },
    /// Whether a pair is trusted.
    CheckTrust { node: NodeId, peer: NodeId },
    /// Leaves a trust request for a node that cannot be reached.
    AskHandshake { from: NodeId, to: NodeId, justification: String },
    /// Fetches such requests and answers to own ones; they are handed out once.
    PollHandshakes { node: NodeId },
    /// Answers one.
    RespondHandshake { node: NodeId, peer: NodeId, accept: bool },
    /// Replaces the key, signed by the old one.
    RotateKey { node: NodeId, new_public_key: String },
    /// Leaves.
    Deregister { node: NodeId },
    /// The nodes of a network.
    ListNodes { network: u16 },
    /// The networks.
    ListNetworks,
    /// The beacons.
    ListBeacons,
    /// Joins a network.
    JoinNetwork { node: NodeId, network: u16, token: Option<String> },
    /// Leaves a network.
    LeaveNetwork { node: NodeId, network: u16 },
}

/// Why a message is no request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// No JSON object.
    #[error("a registry message is a JSON object")]
    Json,
    /// A type that this registry does not serve.
    #[error("request type {0:?} is not known here")]
    Type(String),
    /// A field is missing, of the wrong kind or too long.
    #[error("field {0:?} is missing, of the wrong kind or too long")]
    Field(&'static str),
}

/// A request as a server received it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// What is asked.
    pub request: Request,
    /// Pilot's signature over [`Request::signed_text`], base64.
    pub signature: Option<String>,
    /// comity's signature over everything asked and the time, see [`Bound`].
    pub bound: Option<Bound>,
}

/// A signature that Pilot's wire lacks: over every field's value and the time, so that a recorded request cannot be used again, nor its
/// signature for another value. Servers that do not know the two fields ignore them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    /// Microseconds since the UNIX epoch; each request of a node must have a greater one.
    pub time: u64,
    /// Base64.
    pub signature: String,
    /// What it must be over.
    pub text: String,
}

const BOUND_TIME: &str = "comity_time";
const BOUND_SIGNATURE: &str = "comity_signature";

/// The bytes a bound signature is over: a label, the time, and the request without signatures as JSON with sorted keys and no spaces.
fn bound_text(time: u64, fields: &BTreeMap<String, Value>) -> String {
    let bare: BTreeMap<&String, &Value> = fields
        .iter()
        .filter(|(name, _)| !["signature", BOUND_TIME, BOUND_SIGNATURE].contains(&name.as_str()))
        .collect();
    let json = serde_json::to_string(&bare).expect("a map of JSON values is JSON");
    format!("comity/pilot-registry/1\n{time}\n{json}")
}

impl Request {
    /// The word of the `type` field.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Register { .. } => "register",
            Self::Lookup { .. } => "lookup",
            Self::Resolve { .. } => "resolve",
            Self::ResolveHostname { .. } => "resolve_hostname",
            Self::Heartbeat { .. } => "heartbeat",
            Self::Punch { .. } => "punch",
            Self::SetHostname { .. } => "set_hostname",
            Self::SetVisibility { .. } => "set_visibility",
            Self::SetTags { .. } => "set_tags",
            Self::ReportTrust { .. } => "report_trust",
            Self::RevokeTrust { .. } => "revoke_trust",
            Self::CheckTrust { .. } => "check_trust",
            Self::AskHandshake { .. } => "request_handshake",
            Self::PollHandshakes { .. } => "poll_handshakes",
            Self::RespondHandshake { .. } => "respond_handshake",
            Self::RotateKey { .. } => "rotate_key",
            Self::Deregister { .. } => "deregister",
            Self::ListNodes { .. } => "list_nodes",
            Self::ListNetworks => "list_networks",
            Self::ListBeacons => "beacon_list",
            Self::JoinNetwork { .. } => "join_network",
            Self::LeaveNetwork { .. } => "leave_network",
        }
    }

    /// What Pilot's signature is over, where the request has one: ids only, no value, no time. Whoever sees one can use it for ever, also
    /// for another value; comity adds a [`Bound`] one.
    #[must_use]
    pub fn signed_text(&self) -> Option<String> {
        match self {
            Self::Register { listen_addr, public_key, .. } => {
                Some(format!("register:{listen_addr}:{public_key}"))
            }
            Self::Resolve { node, requester } => Some(format!("resolve:{requester}:{node}")),
            Self::Heartbeat { node } => Some(format!("heartbeat:{node}")),
            Self::Punch { node_a, node_b, .. } => Some(format!("punch:{node_a}:{node_b}")),
            Self::SetHostname { node, .. } => Some(format!("set_hostname:{node}")),
            Self::SetVisibility { node, .. } => Some(format!("set_visibility:{node}")),
            Self::SetTags { node, .. } => Some(format!("set_tags:{node}")),
            Self::ReportTrust { node, peer } => Some(format!("report_trust:{node}:{peer}")),
            Self::RevokeTrust { node, peer } => Some(format!("revoke_trust:{node}:{peer}")),
            Self::AskHandshake { from, to, .. } => Some(format!("handshake:{from}:{to}")),
            Self::PollHandshakes { node } => Some(format!("poll_handshakes:{node}")),
            Self::RespondHandshake { node, peer, .. } => Some(format!("respond:{node}:{peer}")),
            Self::RotateKey { node, .. } => Some(format!("rotate:{node}")),
            Self::Deregister { node } => Some(format!("deregister:{node}")),
            Self::JoinNetwork { node, network, .. } => {
                Some(format!("join_network:{node}:{network}"))
            }
            Self::LeaveNetwork { node, network } => Some(format!("leave_network:{node}:{network}")),
            Self::Lookup { .. }
            | Self::ResolveHostname { .. }
            | Self::CheckTrust { .. }
            | Self::ListNodes { .. }
            | Self::ListNetworks
            | Self::ListBeacons => None,
        }
    }

    /// Whose signature the request needs; `None` for those that need none and for registering, where the key is in the request.
    #[must_use]
    pub const fn signer(&self) -> Option<NodeId> {
        match self {
            Self::Resolve { requester: node, .. }
            | Self::Heartbeat { node }
            | Self::Punch { requester: node, .. }
            | Self::SetHostname { node, .. }
            | Self::SetVisibility { node, .. }
            | Self::SetTags { node, .. }
            | Self::ReportTrust { node, .. }
            | Self::RevokeTrust { node, .. }
            | Self::AskHandshake { from: node, .. }
            | Self::PollHandshakes { node }
            | Self::RespondHandshake { node, .. }
            | Self::RotateKey { node, .. }
            | Self::Deregister { node }
            | Self::JoinNetwork { node, .. }
            | Self::LeaveNetwork { node, .. } => Some(*node),
            Self::Register { .. }
            | Self::Lookup { .. }
            | Self::ResolveHostname { .. }
            | Self::CheckTrust { .. }
            | Self::ListNodes { .. }
            | Self::ListNetworks
            | Self::ListBeacons => None,
        }
    }

    fn fields(&self) -> BTreeMap<String, Value> {
        let mut out = BTreeMap::from([("type".to_owned(), Value::from(self.kind()))]);
        let mut put = |name: &str, value: Value| out.insert(name.to_owned(), value);
        match self {
            Self::Register { listen_addr, public_key, hostname, owner, lan_addrs, version } => {
                put("listen_addr", listen_addr.as_str().into());
                put("public_key", public_key.as_str().into());
                for (name, value) in
                    [("hostname", hostname), ("owner", owner), ("version", version)]
                {
                    if let Some(value) = value {
                        put(name, value.as_str().into());
                    }
                }
                if !lan_addrs.is_empty() {
                    put("lan_addrs", lan_addrs.clone().into());
                }
            }
            Self::Lookup { node }
            | Self::Heartbeat { node }
            | Self::PollHandshakes { node }
            | Self::Deregister { node } => {
                put("node_id", (*node).into());
            }
            Self::Resolve { node, requester } => {
                put("node_id", (*node).into());
                put("requester_id", (*requester).into());
            }
            Self::ResolveHostname { hostname, requester } => {
                put("hostname", hostname.as_str().into());
                if let Some(requester) = requester {
                    put("requester_id", (*requester).into());
                }
            }
            Self::Punch { requester, node_a, node_b } => {
                put("requester_id", (*requester).into());
                put("node_a", (*node_a).into());
                put("node_b", (*node_b).into());
            }
            Self::SetHostname { node, hostname } => {
                put("node_id", (*node).into());
                put("hostname", hostname.as_str().into());
            }
            Self::SetVisibility { node, public } => {
                put("node_id", (*node).into());
                put("public", (*public).into());
            }
            Self::SetTags { node, tags } => {
                put("node_id", (*node).into());
                put("tags", tags.clone().into());
            }
            Self::ReportTrust { node, peer }
            | Self::RevokeTrust { node, peer }
            | Self::CheckTrust { node, peer } => {
                put("node_id", (*node).into());
                put("peer_id", (*peer).into());
            }
            Self::AskHandshake { from, to, justification } => {
                put("from_node_id", (*from).into());
                put("to_node_id", (*to).into());
                put("justification", justification.as_str().into());
            }
            Self::RespondHandshake { node, peer, accept } => {
                put("node_id", (*node).into());
                put("peer_id", (*peer).into());
                put("accept", (*accept).into());
            }
            Self::RotateKey { node, new_public_key } => {
                put("node_id", (*node).into());
                put("new_public_key", new_public_key.as_str().into());
            }
            Self::ListNodes { network } => {
                put("network_id", (*network).into());
            }
            Self::JoinNetwork { node, network, token } => {
                put("node_id", (*node).into());
                put("network_id", (*network).into());
                if let Some(token) = token {
                    put("token", token.as_str().into());
                }
            }
            Self::LeaveNetwork { node, network } => {
                put("node_id", (*node).into());
                put("network_id", (*network).into());
            }
            Self::ListNetworks | Self::ListBeacons => {}
        }
        out
    }

    /// The JSON object, unsigned: what the oldest daemons send when they register, and what needs no signature.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(&self.fields()).expect("a map of JSON values is JSON")
    }

    /// The JSON object with Pilot's signature, where the request has one.
    #[must_use]
    pub fn to_signed_json(&self, identity: &Identity) -> String {
        let mut fields = self.fields();
        if let Some(text) = self.signed_text() {
            fields.insert("signature".to_owned(), identity.sign_text(&text).into());
        }
        serde_json::to_string(&fields).expect("a map of JSON values is JSON")
    }

    /// The JSON object with both signatures; `time` in microseconds since the UNIX epoch, greater than in any request before.
    #[must_use]
    pub fn to_bound_json(&self, identity: &Identity, time: u64) -> String {
        let mut fields = self.fields();
        if let Some(text) = self.signed_text() {
            let bound = identity.sign_text(&bound_text(time, &fields));
            fields.insert("signature".to_owned(), identity.sign_text(&text).into());
            fields.insert(BOUND_TIME.to_owned(), time.into());
            fields.insert(BOUND_SIGNATURE.to_owned(), bound.into());
        }
        serde_json::to_string(&fields).expect("a map of JSON values is JSON")
    }
}

/// Prefixes a message with its length.
#[must_use]
pub fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    [&length.to_be_bytes()[..], message].concat()
}

struct Fields(BTreeMap<String, Value>);

impl Fields {
    fn node(&self, name: &'static str) -> Result<NodeId, RequestError> {
        let number = self.0.get(name).and_then(Value::as_u64).ok_or(RequestError::Field(name))?;
        NodeId::try_from(number).map_err(|_large| RequestError::Field(name))
    }

    fn network(&self) -> Result<u16, RequestError> {
        let number = self.0.get("network_id").and_then(Value::as_u64);
        number.and_then(|number| number.try_into().ok()).ok_or(RequestError::Field("network_id"))
    }

    fn flag(&self, name: &'static str) -> Result<bool, RequestError> {
        self.0.get(name).and_then(Value::as_bool).ok_or(RequestError::Field(name))
    }

    fn text(&self, name: &'static str) -> Result<String, RequestError> {
        self.optional(name, TEXT_CHARS_MAX)?.ok_or(RequestError::Field(name))
    }

    /// An absent, null or empty text is none: Pilot's clients write empty strings for what is not set.
    fn optional(&self, name: &'static str, max: usize) -> Result<Option<String>, RequestError> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) if text.is_empty() => Ok(None),
            Some(Value::String(text)) if text.chars().count() <= max => Ok(Some(text.clone())),
            Some(_) => Err(RequestError::Field(name)),
        }
    }

    fn texts(&self, name: &'static str, max: usize) -> Result<Vec<String>, RequestError> {
        let list = match self.0.get(name) {
            None | Some(Value::Null) => return Ok(Vec::new()),
            Some(Value::Array(list)) if list.len() <= max => list,
            Some(_) => return Err(RequestError::Field(name)),
        };
        let text = |value: &Value| {
            value.as_str().filter(|text| text.len() <= TEXT_CHARS_MAX).map(str::to_owned)
        };
        list.iter().map(text).collect::<Option<_>>().ok_or(RequestError::Field(name))
    }
}

impl Received {
    /// Reads a request's JSON. Unknown fields are ignored, as Pilot's servers do.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub fn decode(json: &[u8]) -> Result<Self, RequestError> {
        let map: BTreeMap<String, Value> =
            serde_json::from_slice(json).map_err(|_json| RequestError::Json)?;
        let fields = Fields(map);
        let kind = fields.text("type")?;
        let request = decode_request(&kind, &fields)?;
        let signature = fields.optional("signature", TEXT_CHARS_MAX)?;
        let bound = match fields.0.get(BOUND_TIME).and_then(Value::as_u64) {
            None => None,
            Some(time) => Some(Bound {
                time,
                signature: fields.text(BOUND_SIGNATURE)?,
                text: bound_text(time, &fields.0),
            }),
        };
        Ok(Self { request, signature, bound })
    }
}

fn decode_request(kind: &str, fields: &Fields) -> Result<Request, RequestError> {
    let node = || fields.node("node_id");
    let peer = || fields.node("peer_id");
    Ok(match kind {
        "register" => Request::Register {
            listen_addr: fields.text("listen_addr")?,
            public_key: fields.text("public_key")?,
            hostname: fields.optional("hostname", HOSTNAME_CHARS_MAX)?,
            owner: fields.optional("owner", TEXT_CHARS_MAX)?,
            lan_addrs: fields.texts("lan_addrs", LAN_ADDRS_MAX)?,
            version: fields.optional("version", TEXT_CHARS_MAX)?,
        },
        "lookup" => Request::Lookup { node: node()? },
        "resolve" => Request::Resolve { node: node()?, requester: fields.node("requester_id")? },
        "resolve_hostname" => Request::ResolveHostname {
            hostname: fields.text("hostname")?,
            requester: fields.node("requester_id").ok(),
        },
        "heartbeat" => Request::Heartbeat { node: node()? },
        "punch" => Request::Punch {
            requester: fields.node("requester_id")?,
            node_a: fields.node("node_a")?,
            node_b: fields.node("node_b")?,
        },
        "set_hostname" => Request::SetHostname {
            node: node()?,
            hostname: fields.optional("hostname", HOSTNAME_CHARS_MAX)?.unwrap_or_default(),
        },
        "set_visibility" => {
            Request::SetVisibility { node: node()?, public: fields.flag("public")? }
        }
        "set_tags" => Request::SetTags { node: node()?, tags: fields.texts("tags", TAGS_MAX)? },
        "report_trust" => Request::ReportTrust { node: node()?, peer: peer()? },
        "revoke_trust" => Request::RevokeTrust { node: node()?, peer: peer()? },
        "check_trust" => Request::CheckTrust { node: node()?, peer: peer()? },
        "request_handshake" => Request::AskHandshake {
            from: fields.node("from_node_id")?,
            to: fields.node("to_node_id")?,
            justification: fields
                .optional("justification", JUSTIFICATION_CHARS_MAX)?
                .unwrap_or_default(),
        },
        "poll_handshakes" => Request::PollHandshakes { node: node()? },
        "respond_handshake" => Request::RespondHandshake {
            node: node()?,
            peer: peer()?,
            accept: fields.flag("accept")?,
        },
        "rotate_key" => {
            Request::RotateKey { node: node()?, new_public_key: fields.text("new_public_key")? }
        }
        "deregister" => Request::Deregister { node: node()? },
        "list_nodes" => Request::ListNodes { network: fields.network()? },
        "list_networks" => Request::ListNetworks,
        "beacon_list" => Request::ListBeacons,
        "join_network" => Request::JoinNetwork {
            node: node()?,
            network: fields.network()?,
            token: fields.optional("token", TEXT_CHARS_MAX)?,
        },
        "leave_network" => Request::LeaveNetwork { node: node()?, network: fields.network()? },
        other => return Err(RequestError::Type(other.chars().take(64).collect())),
    })
}
