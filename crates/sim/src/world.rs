//! The event loop: nodes, messages in flight, wake-ups.
//!
//! Everything happens in the order of (time, order of scheduling), and all randomness comes from the seed, so that a run can be
//! repeated event by event. Each node has one pending wake-up, from `Overlay::poll_timeout`.

mod happen;
mod parcels;
mod stall;
mod travel;

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use comity_core::{AgentId, Hash, Identity, OverlayId, Time};
use comity_overlay::{Command, Config, Contact, ItemKey, Outcome, Overlay};

use crate::adversary::Colluders;
use crate::check::{Rule, Violations};
use crate::link::LinkModel;
use crate::node::{Node, Saved};
use crate::queue::Queue;
use crate::random::{Random, derive, micros};
use crate::report::traffic::Traffic;
use crate::services::SharedServices;
use crate::trace::Trace;
use parcels::Parcels;
use stall::Held;

/// Bytes of transport framing counted for each message (OVERLAY.md section 3).
pub const MESSAGE_OVERHEAD_BYTES: u64 = 64;
/// Every node listens here.
const PORT: u16 = 7_400;
/// The first address prefix used; keeps 0.0.0.0/8 free.
const FIRST_PREFIX: u32 = 1 << 16;

/// Index of a node.
pub type NodeIx = usize;

/// Names a command given to a node, over all nodes and restarts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Op(pub u64);

/// How messages travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Messages {
    /// As values; their encoded length is computed.
    Values,
    /// Really encoded and decoded, and compared with what was sent.
    Encoded,
}

/// A command that ended.
#[derive(Clone, Debug)]
pub struct Completed {
    /// Which.
    pub op: Op,
    /// Whose.
    pub node: NodeIx,
    /// How.
    pub outcome: Outcome,
}

/// What happened so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Counters {
    /// Events taken from the queue.
    pub events: u64,
    /// Messages sent.
    pub messages: u64,
    /// Their bytes, [`MESSAGE_OVERHEAD_BYTES`] each included.
    pub bytes: u64,
    /// Messages lost by the links.
    pub lost: u64,
    /// Messages delivered twice.
    pub duplicated: u64,
    /// Messages held back.
    pub reordered: u64,
    /// Messages stopped by a partition.
    pub cut: u64,
    /// Messages to nodes that were down.
    pub to_dead: u64,
    /// Requests an adversary did not answer honestly.
    pub misbehaved: u64,
    /// Nodes that crashed.
    pub crashes: u64,
    /// Nodes that came back.
    pub restarts: u64,
    /// Nodes that left in order.
    pub departures: u64,
    /// Times that a node began to stand still.
    pub stalls: u64,
}

/// What stays the same during a run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Decides everything.
    pub seed: u64,
    /// When it begins.
    pub start: Time,
    /// How messages travel.
    pub messages: Messages,
    /// What the network does to them.
    pub link: LinkModel,
    /// Nodes that share an IPv4 /24.
    pub nodes_per_prefix: u32,
    /// Keep what every node asked to have persisted and who answered it, and compare. Costs memory.
    pub shadow: bool,
}

/// The name of a node within an event.
fn short(ix: NodeIx) -> u32 {
    u32::try_from(ix).expect("a simulation has fewer than 2^24 nodes")
}

fn index(number: u32) -> usize {
    usize::try_from(number).expect("a usize has at least 32 bits")
}

/// The simulated network.
#[derive(Debug)]
pub struct World {
    /// Verification and evaluation for all nodes.
    pub services: SharedServices,
    /// What was found wrong.
    pub violations: Violations,
    settings: Settings,
    nodes: Vec<Node>,
    now: Time,
    queue: Queue,
    parcels: Parcels,
    partitioned: bool,
    /// What waits for nodes that stand still, in the order in which it came.
    stalled: BTreeMap<NodeIx, Vec<Held>>,
    colluders: Colluders,
    random: Random,
    trace: Trace,
    counters: Counters,
    traffic: Traffic,
    completed: VecDeque<Completed>,
    renewals: VecDeque<(NodeIx, ItemKey)>,
    next_op: u64,
    next_token: u64,
}

impl World {
    /// An empty network.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            services: SharedServices::default(),
            violations: Violations::default(),
            nodes: Vec::new(),
            now: settings.start,
            queue: Queue::new(),
            parcels: Parcels::new(),
            partitioned: false,
            stalled: BTreeMap::new(),
            colluders: Colluders::default(),
            random: Random::new(settings.seed, "links"),
            trace: Trace::new(),
            counters: Counters::default(),
            traffic: Traffic::default(),
            completed: VecDeque::new(),
            renewals: VecDeque::new(),
            next_op: 0,
            next_token: 0,
            settings,
        }
    }

    /// Makes room for so many more nodes.
    pub(crate) fn reserve(&mut self, nodes: usize) {
        self.nodes.reserve_exact(nodes);
    }

    /// A new node with a random key and place, not running yet.
    pub fn add_node(&mut self, random: &mut Random) -> NodeIx {
        let secret = random.bytes();
        let place = OverlayId(random.bytes());
        self.add_node_at(random, secret, place)
    }

    /// A new node with this key at this place, not running yet.
    pub fn add_node_at(
        &mut self,
        random: &mut Random,
        secret: [u8; 32],
        place: OverlayId,
    ) -> NodeIx {
        let ix = self.nodes.len();
        let agent = Identity::from_secret_bytes(&secret).id();
        let contact = Contact::server(agent, place, vec![self.addr(ix)]);
        self.services.places.add(contact.clone());
        let line = self.settings.link.draw_line(random);
        self.nodes.push(Node::new(secret, contact, line));
        ix
    }

    fn addr(&self, ix: NodeIx) -> SocketAddr {
        let per = self.settings.nodes_per_prefix.clamp(1, 250);
        let ix = short(ix);
        let bits = (FIRST_PREFIX + ix / per) << 8 | (ix % per + 1);
        SocketAddr::new(IpAddr::V4(Ipv4Addr::from_bits(bits)), PORT)
    }

    /// Which node listens at a contact's address.
    fn listener(&self, contact: &Contact) -> Option<NodeIx> {
        listener(self.settings.nodes_per_prefix, contact).filter(|ix| *ix < self.nodes.len())
    }

    /// Whether nobody runs at a contact's address, or somebody else.
    #[must_use]
    pub fn is_dead(&self, contact: &Contact) -> bool {
        self.listener(contact).is_none_or(|ix| {
            let node = &self.nodes[ix];
            !node.is_up() || node.contact.agent != contact.agent
        })
    }

    /// Starts a node's machine with nothing but its key. Nodes started with the same handle share one copy of `config`.
    pub fn start(&mut self, ix: NodeIx, config: impl Into<Arc<Config>>) {
        let seed = derive(
            self.settings.seed,
            "node",
            (ix as u64) << 32 | u64::from(self.nodes[ix].incarnation),
        );
        let overlay = Overlay::new(config, self.nodes[ix].contact.clone(), seed, self.now);
        let node = &mut self.nodes[ix];
        node.overlay = Some(Box::new(overlay));
        node.up_since = self.now;
        self.drain(ix, None);
    }

    /// Puts contacts into a running node's table as if they had answered.
    pub fn preload(&mut self, ix: NodeIx, contacts: impl IntoIterator<Item = Contact>) {
        let (now, shadow) = (self.now, self.settings.shadow);
        let node = &mut self.nodes[ix];
        let Some(overlay) = &mut node.overlay else { return };
        overlay.preload_peers(now, contacts);
        if shadow {
            let entries =
                overlay.table().entries().map(|entry| (entry.contact.agent, entry.contact.clone()));
            let peers: BTreeMap<_, _> = entries.collect();
            let answered = peers.keys().copied().collect();
            let kept = node.shadow_mut();
            (kept.peers, kept.answered) = (peers, answered);
        }
    }

    /// Makes a running node as sure of the network's size as if it had measured it.
    pub fn preload_size(&mut self, ix: NodeIx, size: u64) {
        let now = self.now;
        if let Some(overlay) = &mut self.nodes[ix].overlay {
            overlay.preload_size(now, size);
            overlay.preload_phase(now);
        }
    }

    /// Everybody has been given what it holds: takes that as reported, and lets everybody wake when its first timer is due.
    pub(crate) fn preloaded(&mut self) {
        for ix in 0..self.nodes.len() {
            self.schedule_wake(ix);
        }
        if !self.settings.shadow {
            return;
        }
        for node in &mut self.nodes {
            if let Some(overlay) = &node.overlay {
                let held = overlay.export_custody().collect();
                node.shadow_mut().custody = held;
            }
        }
    }

    /// Power is lost. What the node asked to have persisted survives.
    pub fn crash(&mut self, ix: NodeIx) {
        let now = self.now;
        let node = &mut self.nodes[ix];
        let Some(overlay) = node.overlay.take() else { return };
        node.saved = Some(Box::new(Saved {
            custody: overlay.export_custody().collect(),
            peers: overlay.export_peers(),
            places: overlay.export_places(),
        }));
        node.down(now);
        self.lose_held(ix);
        self.counters.crashes += 1;
        self.note(1, ix, ix, 0, 0);
    }

    /// A crashed node comes back with what it had persisted. It has to join again.
    pub fn restart(&mut self, ix: NodeIx, config: impl Into<Arc<Config>>) {
        self.start(ix, config);
        let (now, shadow, node) = (self.now, self.settings.shadow, &mut self.nodes[ix]);
        let Some(saved) = &mut node.saved else { return };
        // The peers are wanted again for each try to join, the custody only now.
        let (custody, peers) = (std::mem::take(&mut saved.custody), saved.peers.clone());
        let places = std::mem::take(&mut saved.places);
        if shadow {
            node.shadow_mut().custody = custody.iter().cloned().collect();
        }
        let Some(overlay) = &mut node.overlay else { return };
        overlay.import_custody(now, &mut self.services, custody);
        overlay.import_peers(peers);
        overlay.import_places(now, places);
        self.counters.restarts += 1;
        self.note(2, ix, ix, 0, 0);
        self.drain(ix, None);
    }

    /// Gives a running node the contacts it remembers from before its crash once more.
    pub fn remember(&mut self, ix: NodeIx) {
        let node = &mut self.nodes[ix];
        if let (Some(overlay), Some(saved)) = (&mut node.overlay, &node.saved) {
            overlay.import_peers(saved.peers.clone());
        }
    }

    /// A node that has left is switched off for good.
    pub fn depart(&mut self, ix: NodeIx) {
        let now = self.now;
        if self.nodes[ix].overlay.take().is_some() {
            self.nodes[ix].down(now);
            self.lose_held(ix);
            self.counters.departures += 1;
            self.note(3, ix, ix, 0, 0);
        }
    }

    /// Gives a running node a command. `None`: it is down.
    pub fn command(&mut self, ix: NodeIx, command: Command) -> Option<Op> {
        if !self.nodes[ix].is_up() {
            return None;
        }
        self.next_op += 1;
        let op = Op(self.next_op);
        match self.stalled.get_mut(&ix) {
            Some(held) => held.push(Held::Command { op, command: Box::new(command) }),
            None => self.give(ix, op, command),
        }
        Some(op)
    }

    fn give(&mut self, ix: NodeIx, op: Op, command: Command) {
        let now = self.now;
        let node = &mut self.nodes[ix];
        let Some(overlay) = &mut node.overlay else { return };
        let id = overlay.command(now, &mut self.services, command);
        if node.open.insert(id, op).is_some() {
            self.violations.add(now, Some(ix), Rule::CommandNamedTwice, format!("{id:?}"));
        }
        self.drain(ix, None);
    }

    /// Whether the two sides of the network are cut from each other.
    pub fn set_partitioned(&mut self, partitioned: bool) {
        self.partitioned = partitioned;
        self.note(4, usize::from(partitioned), 0, 0, 0);
    }

    /// Whether the two sides are cut from each other now.
    #[must_use]
    pub const fn is_partitioned(&self) -> bool {
        self.partitioned
    }

    /// Changes what the network does to messages from now on.
    pub fn set_link(&mut self, link: LinkModel) {
        self.settings.link = link;
    }

    /// What the network does to messages now.
    #[must_use]
    pub const fn link(&self) -> &LinkModel {
        &self.settings.link
    }

    /// Who the adversaries are.
    pub fn set_colluders(&mut self, colluders: Colluders) {
        self.colluders = colluders;
    }

    /// The nodes.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// One node.
    pub fn node_mut(&mut self, ix: NodeIx) -> &mut Node {
        &mut self.nodes[ix]
    }

    /// The time.
    #[must_use]
    pub const fn now(&self) -> Time {
        self.now
    }

    /// What happened so far.
    #[must_use]
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// What was sent so far, by kind.
    #[must_use]
    pub const fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    /// Hash over everything that happened so far, in order.
    #[must_use]
    pub fn trace_hash(&self) -> Hash {
        self.trace.hash()
    }

    /// Runs all nodes' invariants.
    pub fn check_nodes(&mut self) {
        let Self { nodes, services, settings, violations, now, .. } = self;
        let is_true = |contact: &Contact| {
            // Nearly always it is the very contact that the node was made with.
            let there = listener(settings.nodes_per_prefix, contact).and_then(|ix| nodes.get(ix));
            there.is_some_and(|node| node.contact.is_shared_with(contact))
                || services
                    .places
                    .find(contact.agent.as_bytes())
                    .is_some_and(|(_, known)| known.overlay_id == contact.overlay_id)
        };
        for (ix, node) in nodes.iter().enumerate() {
            node.check(ix, *now, settings.shadow, &is_true, violations);
        }
    }

    /// The next command that ended.
    pub fn take_completed(&mut self) -> Option<Completed> {
        self.completed.pop_front()
    }

    /// The next item whose publisher is asked for a successor.
    pub fn take_renewal(&mut self) -> Option<(NodeIx, ItemKey)> {
        self.renewals.pop_front()
    }

    /// When something happens next.
    #[must_use]
    pub fn next_due(&self) -> Option<Time> {
        self.queue.next_due()
    }

    /// Lets time pass without anything happening; not beyond the next event.
    pub fn advance_to(&mut self, time: Time) {
        let limit = self.next_due().map_or(time, |due| due.min(time));
        self.now = self.now.max(limit);
    }

    /// Adds an event to the trace.
    fn note(&mut self, tag: u8, a: usize, b: usize, c: u64, d: u64) {
        self.trace.note(tag, [self.now.as_micros(), a as u64, b as u64, c, d]);
    }

    /// Commands that have not ended, by node.
    #[must_use]
    pub fn open_ops(&self) -> BTreeMap<Op, NodeIx> {
        self.nodes
            .iter()
            .enumerate()
            .flat_map(|(ix, node)| node.open.values().map(move |op| (*op, ix)))
            .collect()
    }

    /// Time all nodes together were up, in microseconds.
    #[must_use]
    pub fn node_micros(&self) -> u64 {
        self.nodes.iter().map(|node| micros(node.uptime(self.now))).sum()
    }

    /// The node of an agent.
    #[must_use]
    pub fn find(&self, agent: &AgentId) -> Option<NodeIx> {
        self.services.places.find(agent.as_bytes()).map(|(ix, _)| ix)
    }

    /// The `count` nodes nearest to `target` of those that `which` accepts, nearest first. Takes about as long as there are nodes looked
    /// at, not as there are nodes.
    pub fn nearest(
        &self,
        target: &OverlayId,
        count: usize,
        mut which: impl FnMut(NodeIx, &Node) -> bool,
    ) -> Vec<NodeIx> {
        self.services.places.nearest(target, count, |ix| which(ix, &self.nodes[ix]))
    }
}

/// Who listens at a contact's address in a network of this many nodes in a prefix, if it has as many nodes.
fn listener(nodes_per_prefix: u32, contact: &Contact) -> Option<NodeIx> {
    let IpAddr::V4(ip) = contact.addrs.first()?.ip() else { return None };
    let per = nodes_per_prefix.clamp(1, 250);
    let (prefix, host) =
        ((ip.to_bits() >> 8).checked_sub(FIRST_PREFIX)?, (ip.to_bits() & 0xff).checked_sub(1)?);
    usize::try_from(prefix * per + host).ok()
}
