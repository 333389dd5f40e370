//! A registry and a beacon for unmodified Pilot daemons, as one state machine without sockets.
//!
//! The wire is Pilot's, the rules are stricter than its own server's wherever the wire allows:
//! * **Every request of a node is signed** by the key that the node registered. comity's nodes sign what is asked and when
//!   ([`Bound`]), and once one has, nothing less is taken from it. Of daemons, which sign neither value nor time,
//!   requests are taken only from the IP address that they registered from, and a change of key is not taken at all.
//! * **Trust takes both sides**: a pair counts when each of the two said so under its own signature.
//! * **A number cannot be taken over.** It belongs to its key for ever. The endpoint of a node that is there changes only with a signature:
//!   daemons register without one, so their new endpoint counts from the first signed request of the same connection on.
//! * **The beacon believes the registry**, not a datagram: a node is where it registered. Relayed frames are taken from that endpoint alone.
//! * **A hole is punched only between nodes that trust each other**, or with the target's own grant.
//! * **Everything has a bound**, and one address cannot use up what others need.
//!
//! Not served: networks with members and roles, scores, tasks, badges, recovery, replication, administration by token.
//!
//! Drive contract: [`Rendezvous::request`] for each message of a connection, [`Rendezvous::datagram`] for each datagram, then
//! [`Rendezvous::poll_transmit`] until `None`; [`Rendezvous::to_file_text`] whenever [`Rendezvous::take_changed`] says so.

mod beacon;
mod state;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use comity_core::Time;
use ed25519_dalek::VerifyingKey;
use serde_json::{Value, json};

use crate::address::{Address, NodeId};
use crate::engine::Bucket;
use crate::identity::{key_text, parse_key, verify_text};
use crate::registry::binary::{Frame, LookupOk};
use crate::registry::{
    Bound, HOSTNAME_CHARS_MAX, LAN_ADDRS_MAX, NodeInfo, Received, Request, TAG_CHARS_MAX,
};
use state::{Node, Waiting};

pub use beacon::{PLACE_LIFE, RELAYED_PER_SECOND};
pub use state::StateError;

/// Nodes kept. When so many are there, those that never signed anything make room, then those unseen for [`UNSEEN_MAX`].
pub const NODES_MAX: usize = 100_000;
/// After this a node that was not seen makes room for new ones where room is short.
pub const UNSEEN_MAX: Duration = Duration::from_secs(30 * 24 * 3600);
/// New numbers a second, and at once, for one address.
pub const NEW_NODES_PER_SOURCE: (u32, u32) = (1, 256);
/// Requests a second, and at once, for one connection.
pub const REQUESTS_PER_CONNECTION: (u32, u32) = (100, 400);
/// Peers that one node may say it trusts.
pub const CONSENTS_PER_NODE_MAX: usize = 4096;
/// Trust requests, and answers to them, that wait for one node.
pub const WAITING_MAX: usize = 64;
/// A node that signed nothing for this long is not there: who registers its key without a signature moves it at once.
pub const GONE: Duration = Duration::from_secs(90);
/// How far the time of a bound request may be off this clock.
pub const BOUND_SKEW: Duration = Duration::from_secs(300);
/// Addresses whose use is counted.
const SOURCES_MAX: usize = 8192;
const RESERVED_NAMES: [&str; 3] = ["localhost", "backbone", "broadcast"];

/// Counts what each address uses. IPv6 addresses of one /64 are one.
#[derive(Debug)]
struct Sources {
    rate: (u32, u32),
    buckets: BTreeMap<IpAddr, Bucket>,
}

impl Sources {
    const fn new(rate: (u32, u32)) -> Self {
        Self { rate, buckets: BTreeMap::new() }
    }

    fn take(&mut self, now: Time, source: IpAddr) -> bool {
        let source = match source.to_canonical() {
            IpAddr::V6(ip) => IpAddr::from((u128::from(ip) >> 64 << 64).to_be_bytes()),
            v4 @ IpAddr::V4(_) => v4,
        };
        if !self.buckets.contains_key(&source) && self.buckets.len() >= SOURCES_MAX {
            self.buckets.retain(|_source, bucket| !bucket.is_full(now));
            if self.buckets.len() >= SOURCES_MAX {
                return false;
            }
        }
        let rate = self.rate;
        self.buckets.entry(source).or_insert_with(|| Bucket::new(now, rate)).take(now)
    }
}

/// What belongs to one connection of the registry.
#[derive(Debug)]
pub struct Client {
    source: IpAddr,
    requests: Bucket,
    /// A node that registered without a signature while it was thought to be elsewhere.
    claimed: Option<(NodeId, SocketAddr, Vec<SocketAddr>)>,
}

impl Client {
    /// A connection from an address.
    #[must_use]
    pub fn new(now: Time, source: IpAddr) -> Self {
        let source = source.to_canonical();
        Self { source, requests: Bucket::new(now, REQUESTS_PER_CONNECTION), claimed: None }
    }
}

/// Why a request was not granted, as the asker is told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
struct Refusal(String);

fn refuse<T>(why: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal(why.into()))
}

type Reply = Result<Value, Refusal>;

/// Numbers of a rendezvous, for its operator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Nodes with a number.
    pub nodes: usize,
    /// Those that signed something within [`GONE`].
    pub present: usize,
    /// Pairs that trust each other.
    pub pairs: usize,
    /// Frames relayed since the start.
    pub relayed: u64,
    /// Datagrams refused: relaying or registering for a number that is elsewhere, punches without trust, too many.
    pub refused: u64,
}

/// The state machine.
#[derive(Debug)]
pub struct Rendezvous {
    nodes: BTreeMap<NodeId, Node>,
    by_key: BTreeMap<[u8; 32], NodeId>,
    by_name: BTreeMap<String, NodeId>,
    /// Who said that it trusts whom.
    consents: BTreeSet<(NodeId, NodeId)>,
    next: NodeId,
    beacon: String,
    new_nodes: Sources,
    discoveries: Sources,
    out: VecDeque<(SocketAddr, Vec<u8>)>,
    status: Status,
    changed: bool,
}

impl Rendezvous {
    /// An empty one. `beacon` is what nodes are told as the beacon's address, `HOST:PORT`.
    #[must_use]
    pub fn new(beacon: &str) -> Self {
        Self {
            nodes: BTreeMap::new(),
            by_key: BTreeMap::new(),
            by_name: BTreeMap::new(),
            consents: BTreeSet::new(),
            next: 1,
            beacon: beacon.to_owned(),
            new_nodes: Sources::new(NEW_NODES_PER_SOURCE),
            discoveries: Sources::new(beacon::DISCOVERIES_PER_SOURCE),
            out: VecDeque::new(),
            status: Status::default(),
            changed: false,
        }
    }

    /// Whether what [`Rendezvous::to_file_text`] says changed since this was last asked.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// Numbers.
    #[must_use]
    pub fn status(&self, now: Time) -> Status {
        let present = self.nodes.values().filter(|node| node.is_present(now)).count();
        let pairs = self.consents.iter().filter(|(from, to)| from < to && self.trust(*from, *to));
        Status { nodes: self.nodes.len(), present, pairs: pairs.count(), ..self.status }
    }

    /// Whether both said that they trust each other.
    #[must_use]
    pub fn trust(&self, one: NodeId, other: NodeId) -> bool {
        self.consents.contains(&(one, other)) && self.consents.contains(&(other, one))
    }

    /// Answers a JSON message.
    pub fn request(&mut self, now: Time, client: &mut Client, message: &[u8]) -> Vec<u8> {
        let reply = match Received::decode(message) {
            Ok(received) => self.answer(now, client, &received),
            Err(error) => refuse(error.to_string()),
        };
        let reply = reply.unwrap_or_else(|refusal| json!({"type": "error", "error": refusal.0}));
        serde_json::to_vec(&reply).expect("JSON values are JSON")
    }

    /// Answers a frame of the binary mode.
    pub fn frame(&mut self, now: Time, client: &mut Client, frame: &Frame) -> Frame {
        let signed = |request, signature: &[u8; 64]| Received {
            request,
            signature: Some(data_encoding::BASE64.encode(signature)),
            bound: None,
        };
        let answered = match frame {
            Frame::Json(json) => return Frame::Json(self.request(now, client, json)),
            Frame::Heartbeat { node, signature } => {
                let request = signed(Request::Heartbeat { node: *node }, signature);
                let unix = now.as_secs();
                self.answer(now, client, &request)
                    .map(|_ok| Frame::HeartbeatOk { unix, key_expires: false })
            }
            Frame::Lookup(node) => {
                self.look_up(*node).map(|info| Frame::LookupOk(Box::new(LookupOk::of(&info))))
            }
            Frame::Resolve { node, requester, signature } => {
                let request = Request::Resolve { node: *node, requester: *requester };
                let request = signed(request, signature);
                self.check(now, client, &request).and_then(|()| {
                    let (at, lan) = self.resolve(*requester, *node)?;
                    let lan_addrs = lan.iter().map(SocketAddr::to_string).collect();
                    let (node, real_addr) = (*node, at.to_string());
                    Ok(Frame::ResolveOk { node, real_addr, lan_addrs, key_age_days: None })
                })
            }
            Frame::HeartbeatOk { .. }
            | Frame::LookupOk(_)
            | Frame::ResolveOk { .. }
            | Frame::Error(_) => refuse("that is an answer, not a request"),
        };
        answered.unwrap_or_else(|refusal| Frame::Error(refusal.0))
    }

    /// Whether the request is its node's own. What an unsigned registration claimed on this connection then counts.
    fn check(
        &mut self,
        now: Time,
        client: &mut Client,
        received: &Received,
    ) -> Result<(), Refusal> {
        if !client.requests.take(now) {
            return refuse("too many requests; ask less often");
        }
        let Some(id) = received.request.signer() else { return Ok(()) };
        let Some(node) = self.nodes.get_mut(&id) else {
            return refuse(format!("node {id} is not registered"));
        };
        let key = node.key;
        match &received.bound {
            Some(bound) => check_bound(now, &key, &mut node.bound_time, bound)?,
            None => {
                if node.bound_time > 0 {
                    return refuse(format!(
                        "node {id} signs values and times; less is not taken from it"
                    ));
                }
                let text = received.request.signed_text().unwrap_or_default();
                let signature = received.signature.as_deref().unwrap_or_default();
                if !verify_text(&key, &text, signature) {
                    return refuse(format!("the signature is not node {id}'s"));
                }
                if matches!(received.request, Request::RotateKey { .. }) {
                    return refuse(
                        "a change of key is signed without the new key here; join with the new one",
                    );
                }
                if changes(&received.request) && node.source != Some(client.source) {
                    return refuse(format!(
                        "node {id} registered from another address; register again from this one first"
                    ));
                }
            }
        }
        node.seen = now;
        node.proven = true;
        if let Some((claimed, at, lan)) = client.claimed.take()
            && claimed == id
        {
            (node.endpoint, node.lan, node.source) = (Some(at), lan, Some(client.source));
            self.changed = true;
        }
        Ok(())
    }

    fn answer(&mut self, now: Time, client: &mut Client, received: &Received) -> Reply {
        self.check(now, client, received)?;
        match &received.request {
            Request::Register { listen_addr, public_key, hostname, lan_addrs, .. } => {
                let ask = Registration { listen_addr, public_key, hostname, lan_addrs };
                self.register(now, client, received, &ask)
            }
            Request::Lookup { node } => Ok(json!(self.look_up(*node)?.to_fields())),
            Request::Resolve { node, requester } => {
                let (at, lan) = self.resolve(*requester, *node)?;
                let lan: Vec<String> = lan.iter().map(SocketAddr::to_string).collect();
                Ok(
                    json!({"type": "resolve_ok", "node_id": node, "real_addr": at.to_string(), "lan_addrs": lan}),
                )
            }
            Request::ResolveHostname { hostname, .. } => self.resolve_hostname(hostname),
            Request::Heartbeat { .. } => Ok(json!({"type": "heartbeat_ok", "time": now.as_secs()})),
            Request::Punch { requester, node_a, node_b } => {
                self.punch(*requester, *node_a, *node_b)
            }
            Request::SetHostname { node, hostname } => {
                self.rename(*node, hostname)?;
                Ok(json!({"type": "set_hostname_ok", "node_id": node, "hostname": hostname}))
            }
            Request::SetVisibility { node, public } => {
                self.node_mut(*node)?.public = *public;
                let visibility = if *public { "public" } else { "private" };
                Ok(json!({"type": "set_visibility_ok", "node_id": node, "visibility": visibility}))
            }
            Request::SetTags { node, tags } => {
                let valid = |tag: &String| {
                    tag.len() <= TAG_CHARS_MAX && !tag.is_empty() && tag.chars().all(is_name_char)
                };
                if !tags.iter().all(valid) {
                    return refuse("a tag is 1 to 32 of a-z, 0-9 and -");
                }
                self.node_mut(*node)?.tags.clone_from(tags);
                Ok(json!({"type": "set_tags_ok", "node_id": node, "tags": tags}))
            }
            Request::ReportTrust { node, peer } => {
                self.consent(*node, *peer)?;
                Ok(json!({"type": "report_trust_ok", "node_id": node, "peer_id": peer}))
            }
            Request::RevokeTrust { node, peer } => {
                self.withdraw(*node, *peer);
                Ok(json!({"type": "revoke_trust_ok", "node_id": node, "peer_id": peer}))
            }
            Request::CheckTrust { node, peer } => {
                Ok(json!({"type": "check_trust_ok", "trusted": self.trust(*node, *peer)}))
            }
            Request::AskHandshake { from, to, justification } => {
                self.ask_handshake(now, *from, *to, justification)
            }
            Request::PollHandshakes { node } => self.poll_handshakes(*node),
            Request::RespondHandshake { node, peer, accept } => {
                self.respond_handshake(now, *node, *peer, *accept)
            }
            Request::RotateKey { node, new_public_key } => self.rotate(*node, new_public_key),
            Request::Deregister { node } => self.deregister(*node),
            Request::ListNetworks => Ok(json!({"type": "list_networks_ok", "networks": [
                {"id": 0, "name": "backbone", "members": self.nodes.len(), "join_rule": "open"}
            ]})),
            Request::ListBeacons => {
                Ok(json!({"type": "beacon_list_ok", "beacons": [{"id": 1, "addr": self.beacon}]}))
            }
            Request::ListNodes { .. } => refuse("this registry does not list its nodes"),
            Request::JoinNetwork { .. } | Request::LeaveNetwork { .. } => {
                refuse("this registry has no network but the backbone")
            }
        }
    }

    fn node_mut(&mut self, id: NodeId) -> Result<&mut Node, Refusal> {
        self.changed = true;
        self.nodes.get_mut(&id).ok_or_else(|| Refusal(format!("node {id} is not registered")))
    }

    fn register(
        &mut self,
        now: Time,
        client: &mut Client,
        received: &Received,
        ask: &Registration<'_>,
    ) -> Reply {
        let Ok(key) = parse_key(ask.public_key) else {
            return refuse("public_key is no Ed25519 key in base64");
        };
        let port = ask.listen_addr.rsplit(':').next().and_then(|port| port.parse::<u16>().ok());
        let at = SocketAddr::new(client.source, port.unwrap_or_default());
        let lan: Vec<SocketAddr> =
            ask.lan_addrs.iter().take(LAN_ADDRS_MAX).filter_map(|at| at.parse().ok()).collect();
        let id = match self.by_key.get(key.as_bytes()) {
            Some(id) => *id,
            None => self.new_node(now, client.source, key)?,
        };
        let Some(node) = self.nodes.get_mut(&id) else { return refuse("no such node") };
        let text = received.request.signed_text().unwrap_or_default();
        let signed = match (&received.bound, &received.signature) {
            (Some(bound), _) => {
                check_bound(now, &key, &mut node.bound_time, bound)?;
                true
            }
            (None, Some(signature)) if verify_text(&key, &text, signature) => true,
            (None, Some(_)) => return refuse("the signature is not that of public_key"),
            (None, None) => false,
        };
        let downgraded = node.bound_time > 0 && received.bound.is_none();
        if downgraded || (node.signs_registration && !signed) {
            return refuse("this key signs its registrations; less is not taken from it");
        }
        // Without a signature a node that is there stays where it is, until this connection shows the key.
        let free = node.endpoint.is_none_or(|was| was == at) || !node.is_present(now);
        if signed || free {
            (node.endpoint, node.lan, node.source) = (Some(at), lan, Some(client.source));
            client.claimed = None;
        } else {
            client.claimed = Some((id, at, lan));
        }
        if signed {
            (node.signs_registration, node.proven, node.seen) = (true, true, now);
        }
        self.changed = true;
        let may_rename = signed || free;
        let mut reply = json!({
            "type": "register_ok",
            "node_id": id,
            "network_id": 0,
            "address": Address::backbone(id).to_string(),
            "public_key": key_text(&key),
            "observed_addr": at.to_string(),
            "comity": true,
        });
        if let Some(hostname) = ask.hostname.as_deref().filter(|_name| may_rename) {
            match self.rename(id, hostname) {
                Ok(()) => reply["hostname"] = hostname.into(),
                Err(Refusal(why)) => reply["hostname_error"] = why.into(),
            }
        }
        Ok(reply)
    }

    fn new_node(
        &mut self,
        now: Time,
        source: IpAddr,
        key: VerifyingKey,
    ) -> Result<NodeId, Refusal> {
        if !self.new_nodes.take(now, source) {
            return refuse("too many new nodes from this address; try again later");
        }
        if self.nodes.len() >= NODES_MAX && !self.make_room(now) {
            return refuse(format!("{NODES_MAX} nodes are registered, no more are taken"));
        }
        let id = self.next;
        self.next = self.next.checked_add(1).ok_or_else(|| Refusal("no number is left".into()))?;
        self.by_key.insert(key.to_bytes(), id);
        self.nodes.insert(id, Node::new(key, now));
        Ok(id)
    }

    /// Forgets a node that never signed anything, or else one long unseen.
    fn make_room(&mut self, now: Time) -> bool {
        let leaving = self
            .nodes
            .iter()
            .filter(|(_id, node)| !node.proven || now >= node.seen + UNSEEN_MAX)
            .min_by_key(|(_id, node)| (node.proven, node.seen))
            .map(|(id, _node)| *id);
        let Some(id) = leaving else { return false };
        if let Some(node) = self.nodes.remove(&id) {
            self.by_key.remove(node.key.as_bytes());
            if let Some(name) = &node.hostname {
                self.by_name.remove(name);
            }
        }
        self.consents.retain(|(from, to)| *from != id && *to != id);
        true
    }

    fn look_up(&self, id: NodeId) -> Result<NodeInfo, Refusal> {
        let Some(node) = self.nodes.get(&id) else {
            return refuse(format!("node {id} is not registered"));
        };
        Ok(NodeInfo {
            node: id,
            networks: vec![0],
            key: node.key,
            public: node.public,
            hostname: node.hostname.clone(),
            tags: node.tags.clone(),
            real_addr: node.endpoint.filter(|_at| node.public),
        })
    }

    fn resolve(
        &self,
        requester: NodeId,
        id: NodeId,
    ) -> Result<(SocketAddr, &[SocketAddr]), Refusal> {
        let Some(node) = self.nodes.get(&id) else {
            return refuse(format!("node {id} is not registered"));
        };
        if !node.public && requester != id && !self.trust(requester, id) {
            return refuse(format!("node {id} is private: both sides have to trust first"));
        }
        match node.endpoint {
            Some(at) => Ok((at, &node.lan)),
            None => refuse(format!("node {id} left")),
        }
    }

    fn resolve_hostname(&self, hostname: &str) -> Reply {
        let found = self.by_name.get(hostname).and_then(|id| Some((id, self.nodes.get(id)?)));
        let Some((id, node)) = found else { return refuse("no node has this name") };
        let address = Address::backbone(*id).to_string();
        Ok(json!({
            "type": "resolve_hostname_ok", "node_id": id, "address": address,
            "public": node.public, "hostname": hostname,
        }))
    }

    fn punch(&self, requester: NodeId, one: NodeId, other: NodeId) -> Reply {
        if requester != one && requester != other {
            return refuse("only who takes part may ask for a hole");
        }
        let peer = if requester == one { other } else { one };
        let (peer_at, _lan) = self.resolve(requester, peer)?;
        let (own_at, _lan) = self.resolve(requester, requester)?;
        let (a, b) = if requester == one { (own_at, peer_at) } else { (peer_at, own_at) };
        Ok(json!({
            "type": "punch_ok", "node_a": one, "node_a_addr": a.to_string(),
            "node_b": other, "node_b_addr": b.to_string(),
        }))
    }

    fn rename(&mut self, id: NodeId, hostname: &str) -> Result<(), Refusal> {
        if !hostname.is_empty() {
            let edge = |char: Option<char>| char.is_some_and(|char| char != '-');
            let valid = hostname.len() <= HOSTNAME_CHARS_MAX
                && hostname.chars().all(is_name_char)
                && edge(hostname.chars().next())
                && edge(hostname.chars().next_back())
                && !RESERVED_NAMES.contains(&hostname);
            if !valid {
                return refuse("a host name is 1 to 63 of a-z, 0-9 and -, with no - at its ends");
            }
            if self.by_name.get(hostname).is_some_and(|holder| *holder != id) {
                return refuse("another node has this name");
            }
        }
        let node = self.node_mut(id)?;
        let before = node.hostname.take();
        if !hostname.is_empty() {
            node.hostname = Some(hostname.to_owned());
        }
        if let Some(before) = before {
            self.by_name.remove(&before);
        }
        if !hostname.is_empty() {
            self.by_name.insert(hostname.to_owned(), id);
        }
        Ok(())
    }

    fn consent(&mut self, from: NodeId, to: NodeId) -> Result<(), Refusal> {
        if from == to || !self.nodes.contains_key(&to) {
            return refuse(format!("node {to} is not registered"));
        }
        let given = self.consents.range((from, 0)..=(from, NodeId::MAX)).count();
        if given >= CONSENTS_PER_NODE_MAX && !self.consents.contains(&(from, to)) {
            return refuse(format!("a node trusts at most {CONSENTS_PER_NODE_MAX} others here"));
        }
        self.changed |= self.consents.insert((from, to));
        Ok(())
    }

    /// One side is enough to end trust.
    fn withdraw(&mut self, one: NodeId, other: NodeId) {
        self.changed |= self.consents.remove(&(one, other));
        self.changed |= self.consents.remove(&(other, one));
    }

    fn ask_handshake(&mut self, now: Time, from: NodeId, to: NodeId, why: &str) -> Reply {
        if self.node_mut(to)?.requests.len() >= WAITING_MAX {
            return refuse(format!("too many requests wait for node {to}"));
        }
        // Who asks for trust says that it trusts.
        self.consent(from, to)?;
        let requests = &mut self.node_mut(to)?.requests;
        if requests.iter().all(|waiting| waiting.from != from) {
            requests.push(Waiting { from, why: why.to_owned(), accept: false, at: now });
        }
        self.notify(to);
        Ok(json!({"type": "request_handshake_ok", "status": "delivered"}))
    }

    fn poll_handshakes(&mut self, id: NodeId) -> Reply {
        let node = self.node_mut(id)?;
        let (requests, answers) =
            (std::mem::take(&mut node.requests), std::mem::take(&mut node.answers));
        let at = |waiting: &Waiting| waiting.at.as_secs();
        let requests: Vec<Value> = requests
            .iter()
            .map(|one| json!({"from_node_id": one.from, "justification": one.why, "timestamp": at(one)}))
            .collect();
        let responses: Vec<Value> = answers
            .iter()
            .map(
                |one| json!({"from_node_id": one.from, "accept": one.accept, "timestamp": at(one)}),
            )
            .collect();
        Ok(json!({"type": "poll_handshakes_ok", "requests": requests, "responses": responses}))
    }

    fn respond_handshake(&mut self, now: Time, id: NodeId, peer: NodeId, accept: bool) -> Reply {
        if accept {
            self.consent(id, peer)?;
        } else {
            self.withdraw(id, peer);
        }
        let answers = &mut self.node_mut(peer)?.answers;
        answers.retain(|waiting| waiting.from != id);
        if answers.len() < WAITING_MAX {
            answers.push(Waiting { from: id, why: String::new(), accept, at: now });
        }
        self.notify(peer);
        Ok(json!({"type": "respond_handshake_ok", "accept": accept, "peer_id": peer}))
    }

    /// Bound requests only: see [`Rendezvous::check`].
    fn rotate(&mut self, id: NodeId, new_public_key: &str) -> Reply {
        let Ok(key) = parse_key(new_public_key) else {
            return refuse("new_public_key is no Ed25519 key in base64");
        };
        if self.by_key.contains_key(key.as_bytes()) {
            return refuse("another node has this key");
        }
        let node = self.node_mut(id)?;
        let before = std::mem::replace(&mut node.key, key);
        self.by_key.remove(before.as_bytes());
        self.by_key.insert(key.to_bytes(), id);
        Ok(json!({
            "type": "rotate_key_ok", "node_id": id, "public_key": new_public_key,
            "address": Address::backbone(id).to_string(),
        }))
    }

    /// The number stays its key's; the node is nowhere until it registers again.
    fn deregister(&mut self, id: NodeId) -> Reply {
        let node = self.node_mut(id)?;
        (node.endpoint, node.place, node.seen) = (None, None, Time::ZERO);
        node.lan.clear();
        Ok(json!({"type": "deregister_ok", "node_id": id}))
    }
}

struct Registration<'a> {
    listen_addr: &'a str,
    public_key: &'a str,
    hostname: &'a Option<String>,
    lan_addrs: &'a [String],
}

fn check_bound(
    now: Time,
    key: &VerifyingKey,
    last: &mut u64,
    bound: &Bound,
) -> Result<(), Refusal> {
    let skew = u64::try_from(BOUND_SKEW.as_micros()).unwrap_or(u64::MAX);
    if bound.time.abs_diff(now.as_micros()) > skew {
        return refuse("the request's time is too far off this clock");
    }
    if bound.time <= *last {
        return refuse("the request is not newer than one before; it may be a replay");
    }
    if !verify_text(key, &bound.text, &bound.signature) {
        return refuse("the signature over value and time does not verify");
    }
    *last = bound.time;
    Ok(())
}

/// Whether a replay of the signature alone could change something.
const fn changes(request: &Request) -> bool {
    !matches!(request, Request::Heartbeat { .. } | Request::Resolve { .. } | Request::Punch { .. })
}

const fn is_name_char(char: char) -> bool {
    char.is_ascii_lowercase() || char.is_ascii_digit() || char == '-'
}
