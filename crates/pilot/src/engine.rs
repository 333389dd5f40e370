//! A Pilot node without sockets: tunnels to peers, streams and datagrams over them.
//!
//! # Drive contract
//!
//! ```text
//! loop {
//!     // 1. mutate: one of
//!     engine.receive(now, from, &mut datagram); engine.timeout(now);
//!     engine.connect(…); engine.write(…); engine.read(…); engine.found(…); …
//!     // 2. drain: every time, until None
//!     while let Some(transmit) = engine.poll_transmit(now, &mut buffer) { … }
//!     while let Some(action) = engine.poll_action() { … }
//!     // 3. sleep until the next event or engine.poll_timeout()
//! }
//! ```
//!
//! Many datagrams may be given before one drain: acknowledgements of a burst then leave as one.
//!
//! # What strangers can do
//! * A frame in the clear is dropped. An unsigned exchange is dropped.
//! * A signed exchange is checked against the key that the caller knows for the node ([`Action::Find`]); a replayed one changes nothing.
//! * A forged sealed frame costs one or two failed openings.
//! * A peer that is not trusted reaches nothing but listeners open to [`Access::Anyone`].
//! * Everything that grows has a bound named here.

mod connections;
mod control;
mod peers;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use comity_core::Time;
use ed25519_dalek::VerifyingKey;
use rand_chacha::ChaCha12Rng;
use rand_core::{Rng as _, SeedableRng as _};

use crate::address::{Address, NodeId, SocketAddress};
use crate::beacon;
use crate::crypto::Dialect;
use crate::identity::Identity;
use crate::session::Path;
use crate::stream::{Failure, Statistics};

pub use connections::{Access, ListenError};
use connections::{Connection, Link, Listener};
use peers::Peer;

/// Peers with a tunnel, or one being made.
pub const PEERS_MAX: usize = 16_384;
/// Connections of all peers.
pub const CONNECTIONS_MAX: usize = 4096;
/// Connections that one peer opened.
pub const CONNECTIONS_PER_PEER_MAX: usize = 64;
/// Connections that wait to be accepted, for each listener.
pub const BACKLOG_MAX: usize = 64;
/// SYNs taken a second from one peer, and at once.
pub const SYNS_PER_PEER: (u32, u32) = (10, 64);
/// Signed exchanges looked at in a second from all peers with no session, and at once: a signature check is 50 us.
pub const EXCHANGES_PER_SECOND: (u32, u32) = (200, 400);
/// Datagrams kept for a peer whose tunnel is being made.
pub const QUEUE_MAX: usize = 64;
/// Datagrams that wait for the socket, besides data of streams.
pub const OUT_MAX: usize = 4096;
/// Actions that wait for the caller, besides wake-ups of connections.
pub const ACTIONS_MAX: usize = 8192;
/// Patience with the first exchange; doubled each time.
pub const EXCHANGE_TIMEOUT: Duration = Duration::from_millis(250);
/// Rounds of exchanges before a peer is taken for unreachable. Each waits twice as long as the one before, 250 ms + 500 ms + 1 s + 2 s + 4 s:
/// just under 8 seconds in all, of which the last 7 also try the relay.
pub const EXCHANGE_ATTEMPTS_MAX: u32 = 5;
/// A peer with connections that is reached through the relay is looked up and tried directly again after this.
pub const RELAY_RETRY: Duration = Duration::from_secs(30);
/// An idle tunnel with connections is kept open with a control packet.
pub const TUNNEL_KEEPALIVE: Duration = Duration::from_secs(25);
/// A tunnel without connections is forgotten after this.
pub const TUNNEL_IDLE: Duration = Duration::from_secs(600);
/// After this long without an answer a tunnel is tested on every path.
pub const TUNNEL_SUSPECT: Duration = Duration::from_secs(3);
/// A direct path is given up for the relay after this silence.
pub(crate) const DIRECT_SILENT: Duration = Duration::from_secs(3);
/// For how long a peer that was dialled may open connections to the ports of answers.
pub const ANSWER_WINDOW: Duration = Duration::from_secs(300);
/// Segments joined into one [`Transmit`].
pub const BATCH_SEGMENTS_MAX: usize = 64;
/// Bytes of one [`Transmit`].
pub const BATCH_BYTES_MAX: usize = 60_000;

/// A connection, as the caller names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// What a node is started with.
#[derive(Clone, Debug)]
pub struct Config {
    /// Its number.
    pub node: NodeId,
    /// Where the beacon is, if there is one.
    pub beacon: Option<SocketAddr>,
    /// Bytes kept for an application that does not read, for each connection.
    pub receive_bytes: usize,
    /// Bytes written and not acknowledged, for each connection.
    pub send_bytes: usize,
    /// Whether packets in the clear are taken. They are forgeable by anybody.
    pub accept_plain: bool,
}

impl Config {
    /// The defaults for a node number.
    #[must_use]
    pub const fn new(node: NodeId) -> Self {
        Self {
            node,
            beacon: None,
            receive_bytes: 1 << 20,
            send_bytes: 2 << 20,
            accept_plain: false,
        }
    }
}

/// Datagrams to be sent: `size` bytes of the buffer, `segment` bytes each (the last may be shorter).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// Where to.
    pub to: SocketAddr,
    /// Bytes of each datagram.
    pub segment: usize,
    /// Bytes of all.
    pub size: usize,
}

/// What the caller is to do or to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Find out a node's key and endpoints, then call [`Engine::found`] or [`Engine::missing`].
    Find(NodeId),
    /// A connection opened from here.
    Connected(ConnectionId),
    /// A connection a peer opened; to be taken with [`Engine::accept`].
    Accepted {
        /// It.
        connection: ConnectionId,
        /// The port here.
        port: u16,
        /// Who.
        from: SocketAddress,
    },
    /// There is something to read, or the end.
    Readable(ConnectionId),
    /// There is room to write, or the end.
    Writable(ConnectionId),
    /// A datagram.
    Datagram {
        /// Who sent it.
        from: SocketAddress,
        /// The port here.
        port: u16,
        /// What.
        data: Vec<u8>,
    },
    /// The answer to [`Engine::ping`].
    Pong {
        /// Whose.
        node: NodeId,
        /// Time between.
        after: Duration,
    },
    /// A peer proved its key.
    Up {
        /// Which.
        node: NodeId,
        /// What it speaks.
        dialect: Dialect,
        /// How it is reached.
        path: Path,
    },
    /// A peer is not reached any more.
    Down(NodeId),
    /// What this node's address looks like from outside.
    Endpoint(SocketAddr),
    /// Something waits at the registry.
    Poll,
}

/// What is known of a peer's tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// Which.
    pub node: NodeId,
    /// The dialect it speaks, once it proved its key.
    pub dialect: Option<Dialect>,
    /// How it is reached.
    pub path: Option<Path>,
    /// When it was last heard.
    pub heard_at: Option<Time>,
    /// Connections with it.
    pub connections: usize,
}

/// Counters of what was dropped, each a sign of a peer of another kind or of an attack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Packets in the clear, and unsigned exchanges.
    pub plain: u64,
    /// Sealed frames that no key opened.
    pub unopened: u64,
    /// Frames seen before.
    pub replayed: u64,
    /// Exchanges whose signature is not the node's.
    pub forged: u64,
    /// Frames that opened and held no packet, or one of another node.
    pub malformed: u64,
    /// Connections refused because the peer is not trusted.
    pub untrusted: u64,
    /// Whatever came too often.
    pub limited: u64,
}

/// A token bucket: so many a second, so many at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    tokens: f64,
    at: Time,
    rate: (u32, u32),
}

impl Bucket {
    pub(crate) fn new(now: Time, rate: (u32, u32)) -> Self {
        Self { tokens: f64::from(rate.1), at: now, rate }
    }

    /// Whether nothing was taken lately, so that a new bucket would be the same.
    pub(crate) fn is_full(&mut self, now: Time) -> bool {
        self.refill(now);
        self.tokens >= f64::from(self.rate.1)
    }

    fn refill(&mut self, now: Time) {
        let gained = now.saturating_since(self.at).as_secs_f64() * f64::from(self.rate.0);
        self.at = self.at.max(now);
        self.tokens = (self.tokens + gained).min(f64::from(self.rate.1));
    }

    pub(crate) fn take(&mut self, now: Time) -> bool {
        self.refill(now);
        if self.tokens < 1.0 {
            return false;
        }
        self.tokens -= 1.0;
        true
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum TimerOf {
    Connection(ConnectionId),
    Peer(NodeId),
}

/// The node.
#[derive(Debug)]
pub struct Engine {
    config: Config,
    identity: Identity,
    rng: ChaCha12Rng,
    peers: BTreeMap<NodeId, Peer>,
    connections: BTreeMap<ConnectionId, Connection>,
    links: BTreeMap<Link, ConnectionId>,
    listeners: BTreeMap<u16, Listener>,
    trusted: BTreeSet<NodeId>,
    timers: BTreeSet<(Time, TimerOf)>,
    dirty: VecDeque<ConnectionId>,
    out: VecDeque<(SocketAddr, Vec<u8>)>,
    actions: VecDeque<Action>,
    pings: BTreeMap<(NodeId, u32), Time>,
    ping_number: u32,
    next_connection: u64,
    next_port: u16,
    exchanges: Bucket,
    strangers: Bucket,
    dropped: Dropped,
    plain: Vec<u8>,
}

impl Engine {
    /// A node with an identity and 32 random bytes, from which everything random is drawn.
    #[must_use]
    pub fn new(config: Config, identity: Identity, seed: [u8; 32], now: Time) -> Self {
        Self {
            config,
            identity,
            rng: ChaCha12Rng::from_seed(seed),
            peers: BTreeMap::new(),
            connections: BTreeMap::new(),
            links: BTreeMap::new(),
            listeners: BTreeMap::new(),
            trusted: BTreeSet::new(),
            timers: BTreeSet::new(),
            dirty: VecDeque::new(),
            out: VecDeque::new(),
            actions: VecDeque::new(),
            pings: BTreeMap::new(),
            ping_number: 0,
            next_connection: 0,
            next_port: crate::address::port::EPHEMERAL_MIN,
            exchanges: Bucket::new(now, EXCHANGES_PER_SECOND),
            strangers: Bucket::new(now, (20, 40)),
            dropped: Dropped::default(),
            plain: Vec::new(),
        }
    }

    /// This node's number.
    #[must_use]
    pub const fn node(&self) -> NodeId {
        self.config.node
    }

    /// This node's address on the backbone.
    #[must_use]
    pub const fn address(&self) -> Address {
        Address::backbone(self.config.node)
    }

    /// Who may open connections to listeners of [`Access::Trusted`].
    pub fn set_trusted(&mut self, trusted: BTreeSet<NodeId>) {
        self.trusted = trusted;
    }

    /// Counters of what was dropped.
    #[must_use]
    pub const fn dropped(&self) -> Dropped {
        self.dropped
    }

    /// Every peer with a tunnel, or one being made.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerStatus> {
        let status = |(node, peer): (&NodeId, &Peer)| peer.status(*node);
        self.peers.iter().map(status).collect()
    }

    /// The key a peer's tunnel proved.
    #[must_use]
    pub fn peer_key(&self, node: NodeId) -> Option<VerifyingKey> {
        let peer = self.peers.get(&node)?;
        peer.is_proven().then_some(peer.key?)
    }

    /// Counters of a connection.
    #[must_use]
    pub fn statistics(&self, connection: ConnectionId) -> Option<Statistics> {
        Some(self.connections.get(&connection)?.stream.statistics())
    }

    /// Takes a datagram. Its content is not needed afterwards.
    pub fn receive(&mut self, now: Time, from: SocketAddr, datagram: &[u8]) {
        match datagram.first() {
            None => {}
            Some(code) if *code < beacon::CODE_MAX => self.receive_beacon(now, from, datagram),
            Some(_) => self.receive_frame(now, Path::Direct(from), datagram),
        }
    }

    /// The next thing for the caller.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When [`Engine::timeout`] is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        self.timers.first().map(|(at, _of)| *at)
    }

    /// To be called when [`Engine::poll_timeout`] is due; early calls change nothing.
    pub fn timeout(&mut self, now: Time) {
        while let Some((at, of)) = self.timers.first().copied() {
            if at > now {
                return;
            }
            self.timers.pop_first();
            match of {
                TimerOf::Connection(id) => {
                    if let Some(connection) = self.connections.get_mut(&id) {
                        connection.timer = None;
                        connection.stream.timeout(now);
                        self.touch(id);
                    }
                }
                TimerOf::Peer(node) => {
                    if let Some(peer) = self.peers.get_mut(&node) {
                        peer.timer = None;
                        self.peer_timeout(now, node);
                    }
                }
            }
        }
    }

    fn act(&mut self, action: Action) {
        if self.actions.len() < ACTIONS_MAX {
            self.actions.push_back(action);
        } else {
            self.dropped.limited += 1;
        }
    }

    fn send_out(&mut self, to: SocketAddr, datagram: Vec<u8>) {
        if self.out.len() < OUT_MAX {
            self.out.push_back((to, datagram));
        } else {
            self.dropped.limited += 1;
        }
    }

    fn random<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        self.rng.fill_bytes(&mut out);
        out
    }

    fn touch(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(&id)
            && !connection.dirty
        {
            connection.dirty = true;
            self.dirty.push_back(id);
        }
    }

    /// Datagrams to be sent, written into `buffer`, which is emptied before.
    pub fn poll_transmit(&mut self, now: Time, buffer: &mut Vec<u8>) -> Option<Transmit> {
        buffer.clear();
        if let Some((to, datagram)) = self.out.pop_front() {
            buffer.extend_from_slice(&datagram);
            return Some(Transmit { to, segment: datagram.len(), size: datagram.len() });
        }
        while let Some(id) = self.dirty.front().copied() {
            if let Some(transmit) = self.transmit_connection(now, id, buffer) {
                return Some(transmit);
            }
            self.dirty.pop_front();
            self.settle(now, id);
            if let Some((to, datagram)) = self.out.pop_front() {
                buffer.extend_from_slice(&datagram);
                return Some(Transmit { to, segment: datagram.len(), size: datagram.len() });
            }
        }
        None
    }

    /// Ends every connection with a peer.
    fn lose_connections(&mut self, node: NodeId, failure: Failure) {
        let ids: Vec<ConnectionId> = self.connections_of(node);
        for id in ids {
            if let Some(connection) = self.connections.get_mut(&id) {
                connection.stream.lost(failure);
            }
            self.touch(id);
        }
    }
}
