//! What the control socket answers, as JSON has it.

use std::path::PathBuf;

use comity_pilot::address::{Address, NodeId};
use comity_pilot::engine::PeerStatus;
use comity_pilot::identity::key_text;
use comity_pilot::registry::NodeInfo;
use comity_pilot::session::Path;
use serde::{Deserialize, Serialize};

use crate::agent::Agent;
use crate::clock::unix_micros;
use crate::services::Message;

/// The node itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StatusView {
    /// Its number, which the registry gave.
    pub node: NodeId,
    /// Its address, the number in Pilot's writing.
    pub address: String,
    /// The name it asked for.
    pub hostname: Option<String>,
    /// Whether the registry tells its endpoint to anybody.
    pub public: bool,
    /// Its Pilot key, base64.
    pub public_key: String,
    /// Where it is registered.
    pub registry: String,
    /// The beacon.
    pub beacon: String,
    /// Its endpoint as others see it.
    pub endpoint: String,
    /// Tunnels.
    pub peers: Vec<PeerView>,
    /// Peers both sides agreed on.
    pub trusted: usize,
    /// Requests that wait for the user.
    pub pending: usize,
    /// Messages and files kept.
    pub inbox: usize,
    /// Subscribers of the node's own event broker.
    pub subscribers: usize,
    /// What is offered to Pilot peers.
    pub offers: Vec<OfferView>,
    /// What was dropped, by reason.
    pub dropped: DroppedView,
    /// The process.
    pub pid: u32,
}

/// What was dropped since the start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DroppedView {
    /// Packets in the clear, and unsigned exchanges.
    pub plain: u64,
    /// Frames that no key opened.
    pub unopened: u64,
    /// Frames seen before.
    pub replayed: u64,
    /// Exchanges with a signature that is not the node's.
    pub forged: u64,
    /// Frames that held no packet of their node.
    pub malformed: u64,
    /// Connections of nodes that are not trusted.
    pub untrusted: u64,
    /// Whatever came too often.
    pub limited: u64,
}

/// A tunnel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerView {
    /// To whom.
    pub node: NodeId,
    /// `A` for releases before 1.6, `B` since; none before the key is agreed.
    pub dialect: Option<String>,
    /// An endpoint, or `relay`.
    pub path: Option<String>,
    /// Milliseconds since it was heard.
    pub heard_ms_ago: Option<u64>,
    /// Streams.
    pub connections: usize,
}

/// A capability on a port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfferView {
    /// Its port.
    pub port: u16,
    /// It.
    pub capability: String,
}

/// A node as the registry tells it, with the key pinned here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeView {
    /// Its number.
    pub node: NodeId,
    /// Its address.
    pub address: String,
    /// Its name.
    pub hostname: Option<String>,
    /// Its key, base64.
    pub public_key: String,
    /// Whether anybody may know where it is.
    pub public: bool,
    /// Where it is, when public.
    pub endpoint: Option<String>,
    /// Its tags.
    pub tags: Vec<String>,
    /// Whether both sides agreed.
    pub trusted: bool,
}

/// A sign of life.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PingView {
    /// Whose.
    pub node: NodeId,
    /// Milliseconds.
    pub ms: f64,
    /// How it is reached.
    pub path: Option<String>,
}

/// Something was sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SentView {
    /// To whom.
    pub node: NodeId,
    /// Bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// What the peer said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
    /// Whether both sides trust each other now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agreed: Option<bool>,
}

/// A message or file in the inbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageView {
    /// Who sent it.
    pub from: NodeId,
    /// Milliseconds since the UNIX epoch.
    pub at_ms: u64,
    /// `message.txt`, `message.json`, `message.bin`, or the name of a file.
    pub name: String,
    /// Bytes.
    pub bytes: u64,
    /// Where it is.
    pub path: PathBuf,
    /// Its beginning, for texts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// An event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventView {
    /// What about.
    pub topic: String,
    /// What, where it is UTF-8; else base64 in `data`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// What, base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
}

/// Trust.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrustView {
    /// Agreed.
    pub trusted: Vec<TrustedView>,
    /// Waiting for this node's user.
    pub pending: Vec<PendingView>,
    /// Waiting for the peer's.
    pub requested: Vec<NodeId>,
}

/// A peer both sides agreed on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrustedView {
    /// Which.
    pub node: NodeId,
    /// Its key, base64.
    pub public_key: String,
    /// Seconds since the UNIX epoch.
    pub since: u64,
}

/// A request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingView {
    /// Whose.
    pub node: NodeId,
    /// Why, as it says.
    pub justification: String,
    /// Seconds since the UNIX epoch.
    pub at: u64,
    /// Whether the peer signed it; otherwise it is the registry's word.
    pub signed: bool,
}

/// What a measurement through a peer's echo found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BenchView {
    /// Whose echo.
    pub node: NodeId,
    /// How it was reached.
    pub path: Option<String>,
    /// Bytes there, and as many back.
    pub bytes: u64,
    /// Megabytes a second in each direction.
    pub megabytes_per_second: f64,
    /// Median of opening a connection, milliseconds.
    pub dial_ms: f64,
    /// Segments sent again.
    pub retransmitted: u64,
}

/// Characters of a text message that are shown with it.
const PREVIEW_BYTES: usize = 64 << 10;

pub(super) fn path_text(path: Path) -> String {
    match path {
        Path::Direct(at) => at.to_string(),
        Path::Relay => "relay".to_owned(),
    }
}

fn peer_view(status: &PeerStatus) -> PeerView {
    let ago = |at: comity_core::Time| unix_micros().saturating_sub(at.as_micros()) / 1000;
    PeerView {
        node: status.node,
        dialect: status.dialect.map(|dialect| dialect.name().to_owned()),
        path: status.path.map(path_text),
        heard_ms_ago: status.heard_at.map(ago),
        connections: status.connections,
    }
}

impl StatusView {
    /// Of a node.
    #[must_use]
    pub fn of(agent: &Agent) -> Self {
        let trust = agent.trust_snapshot();
        let dropped = agent.node().dropped();
        let offers = agent.offers().into_iter();
        Self {
            node: agent.id(),
            address: Address::backbone(agent.id()).to_string(),
            hostname: agent.hostname().map(str::to_owned),
            public: agent.is_public(),
            public_key: agent.identity().public_text(),
            registry: agent.registry().to_owned(),
            beacon: agent.beacon().to_string(),
            endpoint: agent.endpoint().to_string(),
            peers: agent.node().peers().iter().map(peer_view).collect(),
            trusted: trust.trusted().count(),
            pending: trust.pending().count(),
            inbox: agent.inbox().list().map(|list| list.len()).unwrap_or_default(),
            subscribers: agent.events().subscribers(),
            offers: offers.map(|(port, capability)| OfferView { port, capability }).collect(),
            dropped: DroppedView {
                plain: dropped.plain,
                unopened: dropped.unopened,
                replayed: dropped.replayed,
                forged: dropped.forged,
                malformed: dropped.malformed,
                untrusted: dropped.untrusted,
                limited: dropped.limited,
            },
            pid: std::process::id(),
        }
    }
}

impl NodeView {
    pub(super) fn of(agent: &Agent, info: NodeInfo) -> Self {
        Self {
            node: info.node,
            address: Address::backbone(info.node).to_string(),
            hostname: info.hostname,
            public_key: key_text(&info.key),
            public: info.public,
            endpoint: info.real_addr.map(|at| at.to_string()),
            tags: info.tags,
            trusted: agent.trust_snapshot().is_trusted(info.node),
        }
    }
}

impl TrustView {
    pub(super) fn of(agent: &Agent) -> Self {
        let trust = agent.trust_snapshot();
        let trusted = trust.trusted().map(|(node, trusted)| TrustedView {
            node,
            public_key: trusted.public_key.clone(),
            since: trusted.approved_at,
        });
        let pending = trust.pending().map(|(node, pending)| PendingView {
            node,
            justification: pending.justification.clone(),
            at: pending.received_at,
            signed: !pending.signature.is_empty(),
        });
        Self {
            trusted: trusted.collect(),
            pending: pending.collect(),
            requested: trust.requested().map(|(node, _since)| node).collect(),
        }
    }
}

impl MessageView {
    pub(super) fn of(message: &Message) -> Self {
        use std::io::Read as _;
        let textual = message.name == "message.txt" || message.name == "message.json";
        let text = textual.then(|| {
            let mut bytes = Vec::new();
            let file = std::fs::File::open(&message.path).ok()?;
            file.take(PREVIEW_BYTES as u64).read_to_end(&mut bytes).ok()?;
            Some(String::from_utf8_lossy(&bytes).into_owned())
        });
        Self {
            from: message.from,
            at_ms: message.at / 1000,
            name: message.name.clone(),
            bytes: std::fs::metadata(&message.path).map(|file| file.len()).unwrap_or_default(),
            path: message.path.clone(),
            text: text.flatten(),
        }
    }
}
