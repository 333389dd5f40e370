//! Tunnels: how a peer is found, asked for a key, proven, kept and forgotten.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use comity_core::Time;
use ed25519_dalek::VerifyingKey;

use super::{
    Action, Bucket, EXCHANGE_ATTEMPTS_MAX, EXCHANGE_TIMEOUT, Engine, PEERS_MAX, PeerStatus,
    QUEUE_MAX, RELAY_RETRY, SYNS_PER_PEER, TUNNEL_IDLE, TUNNEL_KEEPALIVE, TUNNEL_SUSPECT, TimerOf,
};
use crate::address::NodeId;
use crate::beacon::{Beacon, relay_header};
use crate::crypto::{Dialect, ExchangeKey};
use crate::frame::{Sealed, SignedExchange};
use crate::packet::{Header, Packet};
use crate::session::{Opened, Path, Session};
use crate::stream::Failure;

/// Endpoints tried for a peer.
const ENDPOINTS_MAX: usize = 8;
/// Exchanges of a peer that are answered or looked at, in a second and at once.
const EXCHANGES_PER_PEER: (u32, u32) = (2, 5);
/// A search for a peer's key that nobody answered is repeated by the next that needs it after this.
const FIND_AGAIN: Duration = Duration::from_secs(5);
/// An exchange is not sent again within this to answer another: two ends would keep each other busy.
const ANSWER_AGAIN: Duration = Duration::from_secs(1);
/// A repeated exchange of a peer heard within this is not answered: the peer has the key.
const HEARD_LATELY: Duration = Duration::from_secs(6);

/// One peer.
#[derive(Debug)]
pub(super) struct Peer {
    /// Its identity, from the registry or from before.
    pub(super) key: Option<VerifyingKey>,
    ours: ExchangeKey,
    current: Option<Session>,
    candidate: Option<Session>,
    endpoints: Vec<SocketAddr>,
    finding: Option<Time>,
    /// A signed exchange that waits for the key.
    waiting: Option<(SignedExchange, Path)>,
    /// A way to send an exchange by as soon as the key is known: the peer uses one that this node lost.
    greet: Option<Path>,
    exchanged_at: Option<Time>,
    attempts: u32,
    pub(super) timer: Option<Time>,
    queue: VecDeque<Vec<u8>>,
    pub(super) heard_at: Option<Time>,
    sent_at: Option<Time>,
    made_at: Time,
    exchanges: Bucket,
    pub(super) syns: Bucket,
    /// Connections with it.
    pub(super) connections: usize,
    /// When it was last dialled.
    pub(super) dialled_at: Option<Time>,
    /// The dialect it proved before: it will speak it again after a new exchange, most likely.
    spoke: Option<Dialect>,
    /// When a direct way was last looked for while the relay was in use.
    direct_sought_at: Option<Time>,
}

impl Peer {
    fn new(now: Time, secret: [u8; 32]) -> Self {
        Self {
            key: None,
            ours: ExchangeKey::from_secret(secret),
            current: None,
            candidate: None,
            endpoints: Vec::new(),
            finding: None,
            waiting: None,
            greet: None,
            exchanged_at: None,
            attempts: 0,
            timer: None,
            queue: VecDeque::new(),
            heard_at: None,
            sent_at: None,
            made_at: now,
            exchanges: Bucket::new(now, EXCHANGES_PER_PEER),
            syns: Bucket::new(now, SYNS_PER_PEER),
            connections: 0,
            dialled_at: None,
            spoke: None,
            direct_sought_at: None,
        }
    }

    pub(super) fn is_proven(&self) -> bool {
        self.current.as_ref().is_some_and(Session::is_proven)
    }

    pub(super) fn status(&self, node: NodeId) -> PeerStatus {
        let session = self.current.as_ref();
        PeerStatus {
            node,
            dialect: session.and_then(|session| session.dialect),
            path: session.map(|session| session.path),
            heard_at: self.heard_at,
            connections: self.connections,
        }
    }

    pub(super) fn dialect(&self) -> Option<Dialect> {
        self.current.as_ref()?.dialect
    }

    pub(super) fn path(&self) -> Option<Path> {
        Some(self.current.as_ref()?.path)
    }

    /// Opens a frame with whichever session it belongs to; true when that proved a session for the first time.
    pub(super) fn open(
        &mut self,
        now: Time,
        sealed: &Sealed<'_>,
        from: Path,
        spare: [u8; 4],
        plain: &mut Vec<u8>,
    ) -> (Opened, bool) {
        if let Some(current) = &mut self.current {
            let proven = current.is_proven();
            let opened = current.open(now, sealed, from, spare, plain);
            if opened != Opened::No {
                self.heard_at = Some(now);
                return (opened, !proven && opened == Opened::Fresh);
            }
        }
        let Some(candidate) = &mut self.candidate else { return (Opened::No, false) };
        let opened = candidate.open(now, sealed, from, spare, plain);
        if opened == Opened::Fresh {
            self.heard_at = Some(now);
            self.current = self.candidate.take();
            return (opened, true);
        }
        (opened, false)
    }

    /// Appends a sealed frame to `out`; `None` when there is no proven session.
    pub(super) fn seal(
        &mut self,
        now: Time,
        me: NodeId,
        out: &mut Vec<u8>,
        packet: impl FnOnce(&mut Vec<u8>),
    ) -> Option<Path> {
        let session = self.current.as_mut()?;
        let dialect = session.dialect?;
        session.seal(me, dialect, out, packet);
        self.sent_at = Some(now);
        Some(session.path)
    }
}

impl Engine {
    pub(super) fn peer_entry(&mut self, now: Time, node: NodeId) -> Option<&mut Peer> {
        if !self.peers.contains_key(&node) {
            if self.peers.len() >= PEERS_MAX && !self.evict() {
                self.dropped.limited += 1;
                return None;
            }
            let secret = self.random();
            self.peers.insert(node, Peer::new(now, secret));
            self.set_peer_timer(node, now + TUNNEL_IDLE);
        }
        self.peers.get_mut(&node)
    }

    /// Forgets the peer without connections that was silent longest.
    fn evict(&mut self) -> bool {
        let idle = self.peers.iter().filter(|(_node, peer)| peer.connections == 0);
        let oldest = idle.min_by_key(|(_node, peer)| peer.heard_at.unwrap_or(Time::ZERO));
        let Some(node) = oldest.map(|(node, _peer)| *node) else { return false };
        self.forget_peer(node);
        true
    }

    fn forget_peer(&mut self, node: NodeId) {
        if let Some(peer) = self.peers.remove(&node) {
            if let Some(at) = peer.timer {
                self.timers.remove(&(at, TimerOf::Peer(node)));
            }
            if peer.is_proven() {
                self.act(Action::Down(node));
            }
        }
    }

    fn set_peer_timer(&mut self, node: NodeId, at: Time) {
        let Some(peer) = self.peers.get_mut(&node) else { return };
        if let Some(before) = peer.timer.replace(at) {
            self.timers.remove(&(before, TimerOf::Peer(node)));
        }
        self.timers.insert((at, TimerOf::Peer(node)));
    }

    /// Makes a tunnel where there is none.
    pub(super) fn want_tunnel(&mut self, now: Time, node: NodeId) {
        let Some(peer) = self.peer_entry(now, node) else { return };
        if peer.is_proven() || peer.attempts > 0 {
            return;
        }
        if peer.finding.is_some_and(|since| now < since + FIND_AGAIN) {
            return;
        }
        peer.finding = Some(now);
        self.act(Action::Find(node));
    }

    /// The answer to [`Action::Find`]: the node's key, and where it may be. Without endpoints only the relay is tried.
    ///
    /// The caller answers for the key: it is what every frame of the node is checked against. A key other than before is to be refused
    /// before it gets here.
    pub fn found(
        &mut self,
        now: Time,
        node: NodeId,
        key: VerifyingKey,
        endpoints: impl IntoIterator<Item = SocketAddr>,
    ) {
        let Some(peer) = self.peers.get_mut(&node) else { return };
        peer.finding = None;
        if peer.key.is_some_and(|known| known != key) {
            (peer.current, peer.candidate) = (None, None);
        }
        peer.key = Some(key);
        peer.endpoints.clear();
        for endpoint in endpoints {
            if peer.endpoints.len() < ENDPOINTS_MAX && !peer.endpoints.contains(&endpoint) {
                peer.endpoints.push(endpoint);
            }
        }
        let wanted = peer.connections > 0 || !peer.queue.is_empty();
        let proven = peer.is_proven();
        if let Some(path) = peer.greet.take() {
            self.send_exchange(now, node, path);
        }
        let Some(peer) = self.peers.get_mut(&node) else { return };
        if let Some((exchange, from)) = peer.waiting.take() {
            self.check_exchange(now, from, exchange);
        }
        let started = self.peers.get(&node).is_some_and(|peer| peer.attempts > 0);
        if wanted && !proven && !started {
            self.attempt(now, node);
        }
        // A registry tells endpoints only once both sides trust each other: until then the relay was the way.
        let relayed = |peer: &Peer| peer.path() == Some(Path::Relay) && !peer.endpoints.is_empty();
        if proven && self.peers.get(&node).is_some_and(relayed) {
            self.ask_punch(node);
            self.test_paths(now, node);
        }
    }

    /// The answer to [`Action::Find`] when nothing was found: connections being opened to the node end.
    pub fn missing(&mut self, now: Time, node: NodeId) {
        if let Some(peer) = self.peers.get_mut(&node) {
            peer.waiting = None;
            peer.queue.clear();
            peer.finding = Some(now);
            if !peer.is_proven() {
                self.lose_connections(node, Failure::Unreachable);
            }
        }
    }

    /// One more try to agree on a key: exchange and, once the peer's half is here, pings in both dialects.
    fn attempt(&mut self, now: Time, node: NodeId) {
        let Some(peer) = self.peers.get_mut(&node) else { return };
        if peer.attempts >= EXCHANGE_ATTEMPTS_MAX {
            peer.attempts = 0;
            peer.queue.clear();
            self.lose_connections(node, Failure::Unreachable);
            self.set_peer_timer(node, now + TUNNEL_IDLE);
            return;
        }
        let attempt = peer.attempts;
        peer.attempts += 1;
        let endpoints = peer.endpoints.clone();
        let known = peer.current.as_ref().map(|session| session.path);
        for endpoint in &endpoints {
            self.send_exchange(now, node, Path::Direct(*endpoint));
        }
        if let Some(path @ Path::Direct(at)) = known
            && !endpoints.contains(&at)
        {
            self.send_exchange(now, node, path);
        }
        // A hole is asked for at the second try, the relay taken from the third; at once where there is no other way.
        let has_direct = !endpoints.is_empty();
        if attempt >= 1 && has_direct {
            self.ask_punch(node);
        }
        if attempt >= 2 || !has_direct || known == Some(Path::Relay) {
            self.send_exchange(now, node, Path::Relay);
        }
        self.prove(now, node, attempt == 0);
        self.set_peer_timer(node, now + EXCHANGE_TIMEOUT * 2u32.pow(attempt));
    }

    fn ask_punch(&mut self, node: NodeId) {
        if let Some(beacon) = self.config.beacon {
            let requester = self.config.node;
            let ask = Beacon::PunchRequest { requester, target: node, grant: None };
            self.send_out(beacon, ask.to_vec());
        }
    }

    fn send_exchange(&mut self, now: Time, node: NodeId, path: Path) {
        let Some(peer) = self.peers.get_mut(&node) else { return };
        peer.exchanged_at = Some(now);
        let exchange = SignedExchange::sign(
            self.config.node,
            *peer.ours.public(),
            self.identity.signing_key(),
        );
        self.send_by(node, path, exchange.to_vec());
    }

    /// Sends a frame by a path, wrapped for the beacon where that is the relay.
    fn send_by(&mut self, node: NodeId, path: Path, frame: Vec<u8>) {
        match path {
            Path::Direct(to) => self.send_out(to, frame),
            Path::Relay => {
                if let Some(beacon) = self.config.beacon {
                    let mut out = Vec::with_capacity(frame.len() + 9);
                    relay_header(self.config.node, node, &mut out);
                    out.extend_from_slice(&frame);
                    self.send_out(beacon, out);
                }
            }
        }
    }

    /// Asks the peer to show that it has the key: a ping under every session not proven yet, in both dialects, that of today first. The
    /// `first` goes out in the dialect that the peer spoke before alone, where that is known: a frame of the other is an error in its log.
    fn prove(&mut self, now: Time, node: NodeId, first: bool) {
        self.ping_number = self.ping_number.wrapping_add(1);
        let header = self.control_header(node, self.ping_number);
        let packet = Packet { header, payload: &[] }.to_vec();
        let me = self.config.node;
        let mut frames = Vec::new();
        let Some(peer) = self.peers.get_mut(&node) else { return };
        let spoke = peer.spoke.filter(|_dialect| first);
        for session in [&mut peer.current, &mut peer.candidate].into_iter().flatten() {
            if session.is_proven() {
                continue;
            }
            for dialect in [Dialect::B, Dialect::A] {
                if spoke.is_some_and(|spoke| spoke != dialect) {
                    continue;
                }
                let mut frame = Vec::new();
                session.seal(me, dialect, &mut frame, |out| out.extend_from_slice(&packet));
                frames.push((session.path, frame));
            }
        }
        peer.sent_at = Some(now);
        for (path, frame) in frames {
            self.send_by(node, path, frame);
        }
    }

    /// A signed exchange. Everything in it may be a stranger's, or a recording.
    pub(super) fn receive_exchange(&mut self, now: Time, from: Path, exchange: SignedExchange) {
        let node = exchange.node;
        if node == self.config.node {
            return;
        }
        if !self.peers.contains_key(&node) && !self.exchanges.take(now) {
            self.dropped.limited += 1;
            return;
        }
        let Some(peer) = self.peer_entry(now, node) else { return };
        if !peer.exchanges.take(now) {
            self.dropped.limited += 1;
            return;
        }
        if peer.key.is_some() {
            return self.check_exchange(now, from, exchange);
        }
        peer.waiting = Some((exchange, from));
        if peer.finding.is_none_or(|since| now >= since + FIND_AGAIN) {
            peer.finding = Some(now);
            self.act(Action::Find(node));
        }
    }

    fn check_exchange(&mut self, now: Time, from: Path, exchange: SignedExchange) {
        let node = exchange.node;
        let prefix = self.random();
        let Some(peer) = self.peers.get_mut(&node) else { return };
        if !peer.key.is_some_and(|key| exchange.verify(&key)) {
            self.dropped.forged += 1;
            return;
        }
        let known = [&peer.current, &peer.candidate]
            .into_iter()
            .flatten()
            .any(|session| session.x25519 == exchange.x25519);
        if !known {
            let Some(session) = Session::new(&peer.ours, exchange.x25519, prefix, from) else {
                self.dropped.forged += 1;
                return;
            };
            if peer.is_proven() {
                peer.candidate = Some(session);
            } else {
                // The one before was never proven: it may have been a recording, so it stays as long as there is room.
                peer.candidate = peer.current.replace(session);
            }
        }
        // The peer may lack our half. The answer is no longer than the question, and goes only where that came from.
        let lately = peer.is_proven() && peer.heard_at.is_some_and(|at| now < at + HEARD_LATELY);
        let again = peer.exchanged_at.is_some_and(|at| now < at + ANSWER_AGAIN);
        if !(again || known && lately) {
            self.send_exchange(now, node, from);
        }
        self.prove(now, node, !known);
        if !known && self.peers.get(&node).is_some_and(|peer| peer.attempts == 0) {
            if let Some(peer) = self.peers.get_mut(&node) {
                peer.attempts = 1;
            }
            self.set_peer_timer(node, now + EXCHANGE_TIMEOUT);
        }
    }

    /// A peer showed that it has the key of a session.
    pub(super) fn proved(&mut self, now: Time, node: NodeId) {
        let Some(peer) = self.peers.get_mut(&node) else { return };
        peer.attempts = 0;
        peer.finding = None;
        let (Some(dialect), Some(path)) = (peer.dialect(), peer.path()) else { return };
        peer.spoke = Some(dialect);
        let queue = std::mem::take(&mut peer.queue);
        self.set_peer_timer(node, now + TUNNEL_SUSPECT);
        self.act(Action::Up { node, dialect, path });
        for packet in queue {
            self.send_sealed(now, node, &packet);
        }
        // Connections of a session before this one are gone with the process that had them; those still opening go on.
        for id in self.connections_of(node) {
            if let Some(connection) = self.connections.get_mut(&id) {
                connection.tunnel_changed(dialect, path);
            }
            self.touch(id);
        }
    }

    /// A frame that no key opens: the peer has one that this node lost, or it is forged. A signed exchange tells the former, and costs the
    /// latter a datagram.
    pub(super) fn unopened(&mut self, now: Time, from: Path, node: NodeId) {
        if node == self.config.node || !self.strangers.take(now) {
            return;
        }
        let Some(peer) = self.peer_entry(now, node) else { return };
        if !peer.exchanges.take(now) {
            return;
        }
        if peer.key.is_some() {
            self.send_exchange(now, node, from);
            return;
        }
        peer.greet = Some(from);
        if peer.finding.is_none_or(|since| now >= since + FIND_AGAIN) {
            peer.finding = Some(now);
            self.act(Action::Find(node));
        }
    }

    /// So many prefixes under one key that replays could not be told any more: a new exchange key, thus a new session.
    pub(super) fn rekey_if_worn(&mut self, now: Time, node: NodeId) {
        let secret = self.random();
        let Some(peer) = self.peers.get_mut(&node) else { return };
        let worn = peer.current.as_ref().is_some_and(Session::is_worn);
        if !worn || peer.attempts > 0 || !peer.exchanges.take(now) {
            return;
        }
        peer.ours = ExchangeKey::from_secret(secret);
        let path = peer.path();
        (peer.current, peer.candidate) = (None, None);
        if let Some(Path::Direct(at)) = path
            && !peer.endpoints.contains(&at)
        {
            peer.endpoints.insert(0, at);
            peer.endpoints.truncate(ENDPOINTS_MAX);
        }
        self.attempt(now, node);
    }

    /// A connection was opened: from now on the tunnel is looked after.
    pub(super) fn watch(&mut self, now: Time, node: NodeId) {
        if self.peers.get(&node).is_some_and(Peer::is_proven) {
            self.set_peer_timer(node, now + TUNNEL_SUSPECT);
        }
    }

    pub(super) fn peer_timeout(&mut self, now: Time, node: NodeId) {
        let Some(peer) = self.peers.get_mut(&node) else { return };
        if peer.attempts > 0 && !peer.is_proven() {
            if peer.key.is_some() {
                self.attempt(now, node);
            }
            return;
        }
        // A candidate that nobody proved was a recording.
        if peer.attempts > 0 {
            (peer.attempts, peer.candidate) = (0, None);
        }
        let heard = peer.heard_at.unwrap_or(peer.made_at);
        if peer.connections == 0 {
            if now >= heard + TUNNEL_IDLE {
                return self.forget_peer(node);
            }
            return self.set_peer_timer(node, heard + TUNNEL_IDLE);
        }
        if !peer.is_proven() {
            return self.set_peer_timer(node, now + TUNNEL_IDLE);
        }
        let sent = peer.sent_at.unwrap_or(peer.made_at);
        if sent > heard && now >= heard + TUNNEL_SUSPECT {
            self.test_paths(now, node);
        } else if now >= sent.max(heard) + TUNNEL_KEEPALIVE {
            let header = self.control_header(node, 0);
            self.send_packet(now, node, &header, &[]);
        }
        self.seek_direct(now, node);
        self.set_peer_timer(node, now + TUNNEL_SUSPECT);
    }

    /// While the relay is in use, endpoints are asked for now and then: [`Engine::found`] tries them.
    fn seek_direct(&mut self, now: Time, node: NodeId) {
        let Some(peer) = self.peers.get_mut(&node) else { return };
        let relayed = peer.path() == Some(Path::Relay);
        if !relayed || peer.direct_sought_at.is_some_and(|at| now < at + RELAY_RETRY) {
            return;
        }
        peer.direct_sought_at = Some(now);
        self.act(Action::Find(node));
    }

    /// The peer does not answer where it was: a ping by every way there is; the answer tells which works.
    fn test_paths(&mut self, now: Time, node: NodeId) {
        let header = self.control_header(node, 0);
        let packet = Packet { header, payload: &[] }.to_vec();
        let me = self.config.node;
        let Some(peer) = self.peers.get_mut(&node) else { return };
        let Some(now_by) = peer.path() else { return };
        let mut paths: Vec<Path> = peer.endpoints.iter().map(|at| Path::Direct(*at)).collect();
        paths.push(Path::Relay);
        if !paths.contains(&now_by) {
            paths.push(now_by);
        }
        for path in paths {
            let mut frame = Vec::new();
            let Some(peer) = self.peers.get_mut(&node) else { return };
            peer.seal(now, me, &mut frame, |out| out.extend_from_slice(&packet));
            self.send_by(node, path, frame);
        }
    }

    /// Sends a packet to a peer, or keeps it while a tunnel is made.
    pub(super) fn send_packet(&mut self, now: Time, node: NodeId, header: &Header, payload: &[u8]) {
        let packet = Packet { header: *header, payload }.to_vec();
        if self.send_sealed(now, node, &packet) {
            return;
        }
        if let Some(peer) = self.peer_entry(now, node) {
            if peer.queue.len() >= QUEUE_MAX {
                peer.queue.pop_front();
            }
            peer.queue.push_back(packet);
        }
        self.want_tunnel(now, node);
    }

    fn send_sealed(&mut self, now: Time, node: NodeId, packet: &[u8]) -> bool {
        let me = self.config.node;
        let mut frame = Vec::with_capacity(packet.len() + 36);
        let Some(peer) = self.peers.get_mut(&node) else { return false };
        match peer.seal(now, me, &mut frame, |out| out.extend_from_slice(packet)) {
            Some(path) => {
                self.send_by(node, path, frame);
                true
            }
            None => false,
        }
    }
}
