//! Nodes on one virtual network, with a beacon and a directory of keys.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use comity_core::Time;
use comity_pilot::address::{Address, NodeId, SocketAddress};
use comity_pilot::beacon::Beacon;
use comity_pilot::engine::{Action, Config, ConnectionId, Engine};
use comity_pilot::identity::Identity;
use comity_pilot::stream::{Failure, Read};

pub(crate) const BEACON: &str = "192.0.2.250:9001";

pub(crate) fn beacon() -> SocketAddr {
    BEACON.parse().unwrap()
}

pub(crate) fn at(node: NodeId) -> SocketAddr {
    SocketAddr::new([192, 0, 2, node as u8].into(), 4000)
}

pub(crate) fn identity(node: NodeId) -> Identity {
    Identity::from_seed(&[node as u8; 32])
}

pub(crate) fn port_of(node: NodeId, port: u16) -> SocketAddress {
    SocketAddress { address: Address::backbone(node), port }
}

/// A datagram on its way.
pub(crate) type Datagram = (SocketAddr, SocketAddr, Vec<u8>);

pub(crate) struct Net {
    pub(crate) now: Time,
    pub(crate) nodes: BTreeMap<NodeId, Engine>,
    pub(crate) actions: BTreeMap<NodeId, Vec<Action>>,
    flying: BTreeMap<(Time, u64), Datagram>,
    count: u64,
    /// Every datagram that was sent.
    pub(crate) seen: Vec<Datagram>,
    /// What does not get through.
    pub(crate) blocked: fn(&Datagram) -> bool,
    pub(crate) delay: Duration,
    /// The registry tells keys, and no endpoints.
    pub(crate) without_endpoints: bool,
}

impl Net {
    /// Nodes 1 to `count`, all of which trust each other.
    pub(crate) fn new(count: NodeId) -> Self {
        let now = Time::from_secs(1_800_000_000);
        let mut nodes = BTreeMap::new();
        for node in 1..=count {
            let config = Config { beacon: Some(beacon()), ..Config::new(node) };
            let mut engine = Engine::new(config, identity(node), [node as u8 + 100; 32], now);
            engine.set_trusted((1..=count).collect());
            nodes.insert(node, engine);
        }
        Self {
            now,
            nodes,
            actions: BTreeMap::new(),
            flying: BTreeMap::new(),
            count: 0,
            seen: Vec::new(),
            blocked: |_datagram| false,
            delay: Duration::from_millis(1),
            without_endpoints: false,
        }
    }

    pub(crate) fn node(&mut self, node: NodeId) -> &mut Engine {
        self.nodes.get_mut(&node).unwrap()
    }

    /// The node starts again with the same identity and nothing else.
    pub(crate) fn restart(&mut self, node: NodeId) {
        let config = Config { beacon: Some(beacon()), ..Config::new(node) };
        let mut engine = Engine::new(config, identity(node), [node as u8 + 200; 32], self.now);
        engine.set_trusted((1..=9).collect::<BTreeSet<_>>());
        self.nodes.insert(node, engine);
    }

    pub(crate) fn send(&mut self, datagram: Datagram) {
        self.seen.push(datagram.clone());
        if (self.blocked)(&datagram) {
            return;
        }
        self.count += 1;
        self.flying.insert((self.now + self.delay, self.count), datagram);
    }

    fn drain(&mut self) {
        let now = self.now;
        let mut buffer = Vec::new();
        let mut out = Vec::new();
        let mut wanted = Vec::new();
        for (node, engine) in &mut self.nodes {
            loop {
                while let Some(transmit) = engine.poll_transmit(now, &mut buffer) {
                    assert_eq!(transmit.size, buffer.len());
                    for datagram in buffer.chunks(transmit.segment) {
                        out.push((at(*node), transmit.to, datagram.to_vec()));
                    }
                }
                let Some(action) = engine.poll_action() else { break };
                match action {
                    Action::Find(peer) => wanted.push((*node, peer)),
                    Action::Accepted { connection, .. } => {
                        engine.accept(connection);
                        self.actions.entry(*node).or_default().push(action);
                    }
                    other => self.actions.entry(*node).or_default().push(other),
                }
            }
        }
        out.into_iter().for_each(|datagram| self.send(datagram));
        let again = !wanted.is_empty();
        for (node, peer) in wanted {
            let endpoints = (!self.without_endpoints).then(|| at(peer));
            self.node(node).found(now, peer, identity(peer).public(), endpoints);
        }
        if again {
            self.drain();
        }
    }

    /// To the next thing that happens, at most until `until`; false when nothing does before.
    pub(crate) fn step(&mut self, until: Time) -> bool {
        self.drain();
        let arrival = self.flying.keys().next().map(|(at, _)| *at);
        let timers = self.nodes.values().filter_map(Engine::poll_timeout);
        let Some(next) = arrival.into_iter().chain(timers).min().filter(|next| *next <= until)
        else {
            self.now = until;
            return false;
        };
        self.now = self.now.max(next);
        let now = self.now;
        while let Some(entry) = self.flying.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let (from, to, bytes) = entry.remove();
            self.deliver(from, to, &bytes);
        }
        for engine in self.nodes.values_mut() {
            engine.timeout(now);
        }
        self.drain();
        true
    }

    fn deliver(&mut self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        let now = self.now;
        if to == beacon() {
            if let Ok(Beacon::Relay { source, destination, frame }) = Beacon::decode(bytes) {
                let deliver = Beacon::Deliver { source, frame }.to_vec();
                self.send((beacon(), at(destination), deliver));
            }
            return;
        }
        let node = self.nodes.keys().copied().find(|node| at(*node) == to);
        if let Some(node) = node {
            self.node(node).receive(now, from, bytes);
        }
    }

    pub(crate) fn run(&mut self, time: Duration) {
        let until = self.now + time;
        while self.step(until) {}
    }

    /// Runs until an action of a node fits, at most a minute; the action is taken away.
    pub(crate) fn wait(&mut self, node: NodeId, fits: impl Fn(&Action) -> bool) -> Option<Action> {
        let until = self.now + Duration::from_secs(60);
        loop {
            let actions = self.actions.entry(node).or_default();
            if let Some(at) = actions.iter().position(&fits) {
                return Some(actions.remove(at));
            }
            if !self.step(until) && self.now >= until {
                return None;
            }
        }
    }

    /// A connection from one node to a port of another, with both its names.
    pub(crate) fn connect(
        &mut self,
        from: NodeId,
        to: NodeId,
        port: u16,
    ) -> (ConnectionId, ConnectionId) {
        let now = self.now;
        let id = self.node(from).connect(now, port_of(to, port)).unwrap();
        self.wait(from, |action| *action == Action::Connected(id)).expect("no connection");
        let accepted = self.wait(to, |action| matches!(action, Action::Accepted { .. }));
        let Some(Action::Accepted { connection, .. }) = accepted else { panic!("not accepted") };
        (id, connection)
    }

    /// Sends bytes over a connection and reads them at the other end.
    pub(crate) fn carry(
        &mut self,
        (from, out): (NodeId, ConnectionId),
        (to, into): (NodeId, ConnectionId),
        data: &[u8],
    ) -> Result<Vec<u8>, Failure> {
        let (mut written, mut got) = (0, Vec::new());
        let until = self.now + Duration::from_secs(120);
        let mut buffer = vec![0; 65_536];
        while got.len() < data.len() {
            let now = self.now;
            if written < data.len() {
                written += self.node(from).write(out, &data[written..])?;
            }
            self.step(until);
            let now = now.max(self.now);
            while let Read::Data(count) = self.node(to).read(now, into, &mut buffer)? {
                got.extend_from_slice(&buffer[..count]);
            }
            assert!(self.now < until, "{} of {} bytes in two minutes", got.len(), data.len());
        }
        Ok(got)
    }
}
