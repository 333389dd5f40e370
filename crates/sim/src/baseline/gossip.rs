//! Flooding gossip with local caches: agntcy dir v1.
//!
//! Read in agntcy/dir v1.7.0 (18 August 2026): publishing a record announces it to one GossipSub topic, `dir/labels/v1`
//! (`server/routing/pubsub`); every node subscribes and keeps every announcement it hears (`routing_remote.go`); a search scans the
//! node's own cache and asks nobody (`searchRemoteRecords`). Announcements are repeated every 36 h, what was not heard of again is
//! dropped after 72 h (`constants.go`: `RepublishInterval`, `MaxLabelAge`). There is no withdrawal on the wire. Their own summary is
//! issue 1972: «Late joiners saw nothing. … until each record is re-announced, which was every 36 hours.»
//!
//! GossipSub as in go-libp2p-pubsub v0.16 with its defaults, which dir does not change: a mesh of 6 (5 to 12), a heartbeat each second,
//! `IHAVE` for the messages of three heartbeats to a quarter of the other topic peers but at least 6, `IWANT` for those not seen.
//!
//! Simplifications: the announcement carries our signed digest instead of labels alone (285 B with four labels by the logs of issue
//! 1532), so that the local search can evaluate the whole query and no record is pulled afterwards; the peers that `IHAVE` goes to are
//! drawn from all hosts at each heartbeat, a quarter of [`TOPIC_PEERS`]; the second way of v1, pulling records when provider records
//! arrive, reaches only the 20 custodians of a CID and is left out, its traffic too; a mesh neighbour that crashed is replaced after
//! [`MESH_REPAIR`]; peer scores are left out. Caches are on disk: who restarts has what it had, and misses what was announced meanwhile.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use comity_overlay::Cost;

use super::catalogue::{Asked, Catalogue, ItemIx};
use super::net::{Design, Ix, NetOf, at, to_ix};
use super::plan::{Bad, Eclipse};
use super::run::{Answer, AskId, Directory, Ended, Held};

/// Most hosts this is simulated with: every host has a bit for every item.
pub const GOSSIP_NODES_MAX: usize = 20_000;
/// `GossipSubD`, `GossipSubDhi` of go-libp2p-pubsub.
const MESH: usize = 6;
const MESH_MAX: usize = 12;
/// `GossipSubHeartbeatInterval`, `GossipSubHistoryGossip`.
const HEARTBEAT: Duration = Duration::from_secs(1);
const HISTORY: u8 = 3;
/// Connections dir keeps at least: `ConnMgrLowWater` (`server/routing/internal/p2p/constants.go`).
const TOPIC_PEERS: usize = 50;
/// A quarter (`GossipSubGossipFactor`) of the topic peers outside the mesh.
const LAZY: usize = (TOPIC_PEERS - MESH) / 4;
/// Time in which a mesh neighbour that crashed is found out and replaced.
const MESH_REPAIR: Duration = Duration::from_secs(10);
/// `RepublishInterval` of dir v1.
const REPUBLISH: Duration = Duration::from_secs(36 * 3_600);
/// What GossipSub adds to a payload: author 38 B, sequence number 8 B, topic 13 B, signature 64 B, and their field headers.
const ENVELOPE_BYTES: u64 = 135;
/// A message id in `IHAVE` and `IWANT`: author and sequence number, with its header.
const ID_BYTES: u64 = 48;

/// Index of a flood.
type FloodIx = u32;

#[derive(Clone, Debug)]
pub(super) enum Message {
    Data { flood: FloodIx },
    Have { floods: Rc<[FloodIx]> },
    Want { floods: Rc<[FloodIx]> },
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Timer {
    Heartbeat,
    Repair { neighbour: Ix },
    Republish,
}

/// One announcement on its way.
#[derive(Debug)]
struct Flood {
    item: ItemIx,
    /// Hosts that have it.
    seen: Bits,
}

/// A set of small numbers.
#[derive(Clone, Debug, Default)]
struct Bits(Vec<u64>);

impl Bits {
    fn new(count: usize) -> Self {
        Self(vec![0; count.div_ceil(64)])
    }

    fn has(&self, number: u32) -> bool {
        self.0[at(number) / 64] >> (number % 64) & 1 == 1
    }

    /// Adds a number; whether it is new.
    fn insert(&mut self, number: u32) -> bool {
        let fresh = !self.has(number);
        self.0[at(number) / 64] |= 1 << (number % 64);
        fresh
    }

    fn count(&self) -> u64 {
        self.0.iter().map(|word| u64::from(word.count_ones())).sum()
    }
}

#[derive(Debug, Default)]
struct Peer {
    mesh: Vec<Ix>,
    /// Floods heard of lately, and for how many more heartbeats they are told of.
    recent: Vec<(FloodIx, u8)>,
    beating: bool,
    cache: Bits,
}

/// All hosts of the design.
#[derive(Debug, Default)]
pub(super) struct Gossip {
    peers: Vec<Peer>,
    floods: Vec<Flood>,
    retired: BTreeSet<Ix>,
    ended: Vec<Ended>,
}

impl Design for Gossip {
    type Message = Message;
    type Timer = Timer;
}

impl Directory for Gossip {
    fn attach(
        &mut self,
        net: &mut NetOf<Self>,
        catalogue: &Catalogue,
        _eclipse: Eclipse,
    ) -> Vec<ItemIx> {
        let items = catalogue.items.len();
        let fresh = || Peer { cache: Bits::new(items), ..Peer::default() };
        self.peers = net.hosts.iter().map(|_| fresh()).collect();
        for ix in 0..to_ix(self.peers.len()) {
            self.graft(net, ix);
            if !catalogue.of(ix).is_empty() {
                let wait = net.random.within(REPUBLISH);
                net.after(ix, wait, Timer::Republish);
            }
        }
        Vec::new()
    }

    fn settle(&mut self, _net: &mut NetOf<Self>, catalogue: &Catalogue, reserved: &BTreeSet<Ix>) {
        let mut all = Bits::new(catalogue.items.len());
        for (item, ix) in catalogue.items.iter().zip(0..) {
            if !reserved.contains(&item.publisher) {
                all.insert(ix);
            }
        }
        for peer in &mut self.peers {
            peer.cache = all.clone();
        }
    }

    fn publish(&mut self, net: &mut NetOf<Self>, catalogue: &Catalogue, publisher: Ix) {
        let mut cost = Cost::default();
        for item in catalogue.of(publisher) {
            cost.requests += u32::try_from(self.peers[at(publisher)].mesh.len()).unwrap_or(0);
            self.announce(net, catalogue, publisher, *item);
        }
        cost.bytes_sent = u64::from(cost.requests) * (catalogue.digest_bytes + ENVELOPE_BYTES);
        // Nobody acknowledges an announcement: the publisher is done when it has sent it.
        self.ended.push(Ended::Published { publisher, cost, first: true });
    }

    fn retire(&mut self, _net: &mut NetOf<Self>, _catalogue: &Catalogue, publisher: Ix) {
        self.retired.insert(publisher);
    }

    fn ask(
        &mut self,
        net: &mut NetOf<Self>,
        catalogue: &Catalogue,
        from: Ix,
        id: AskId,
        asked: Rc<Asked>,
    ) {
        let cache = &self.peers[at(from)].cache;
        let members = asked.keys.iter().flat_map(|key| &catalogue.key(*key).members).copied();
        let found = members
            .filter(|item| cache.has(*item) && catalogue.matches(*item, &asked.question))
            .collect();
        net.note(3, from, 0, 0);
        self.ended.push(Ended::Answer(Answer { ask: id, found, cost: Cost::default() }));
    }

    fn deliver(
        &mut self,
        net: &mut NetOf<Self>,
        catalogue: &Catalogue,
        to: Ix,
        from: Ix,
        message: Message,
    ) {
        let bad = net.host(to).bad;
        net.serve(to);
        match message {
            Message::Data { flood } => self.receive(net, catalogue, to, Some(from), flood),
            Message::Have { floods } => {
                let unknown = |flood: &FloodIx| !self.floods[at(*flood)].seen.has(to);
                let wanted: Vec<_> = floods.iter().copied().filter(unknown).collect();
                if !wanted.is_empty() && bad.is_none() {
                    let bytes = ID_BYTES * wanted.len() as u64;
                    net.send(to, from, bytes, Message::Want { floods: wanted.into() });
                }
            }
            Message::Want { floods } => {
                if bad.is_some() {
                    net.counters.misbehaved += 1;
                    return;
                }
                for flood in floods.iter().filter(|flood| self.floods[at(**flood)].seen.has(to)) {
                    let bytes = catalogue.digest_bytes + ENVELOPE_BYTES;
                    net.send(to, from, bytes, Message::Data { flood: *flood });
                }
            }
        }
    }

    fn timer(&mut self, net: &mut NetOf<Self>, catalogue: &Catalogue, host: Ix, timer: Timer) {
        match timer {
            Timer::Heartbeat => self.heartbeat(net, host),
            Timer::Repair { neighbour } => {
                self.peers[at(host)].mesh.retain(|known| *known != neighbour);
                self.graft(net, host);
            }
            Timer::Republish => {
                if !self.retired.contains(&host) {
                    for item in catalogue.of(host) {
                        self.announce(net, catalogue, host, *item);
                    }
                }
                net.after(host, REPUBLISH, Timer::Republish);
            }
        }
    }

    fn gone(&mut self, net: &mut NetOf<Self>, host: Ix) {
        let peer = &mut self.peers[at(host)];
        (peer.recent, peer.beating) = (Vec::new(), false);
        for neighbour in std::mem::take(&mut peer.mesh) {
            net.after(neighbour, MESH_REPAIR, Timer::Repair { neighbour: host });
        }
    }

    fn back(&mut self, net: &mut NetOf<Self>, catalogue: &Catalogue, host: Ix) {
        self.graft(net, host);
        if !catalogue.of(host).is_empty() {
            // A ticker that begins anew: nothing is announced at start (v1.7.0 `cleanup_tasks.go`, `StartLabelRepublishTask`).
            net.after(host, REPUBLISH, Timer::Republish);
        }
    }

    fn ended(&mut self) -> Vec<Ended> {
        std::mem::take(&mut self.ended)
    }

    fn held(&self, host: Ix) -> Held {
        let items = self.peers[at(host)].cache.count();
        Held { items, largest_key: items }
    }
}

impl Gossip {
    /// Fills a host's mesh with random running peers that have room.
    fn graft(&mut self, net: &mut NetOf<Self>, host: Ix) {
        // Bounded: in a small or crowded network a mesh may stay thin until the next repair.
        for _ in 0..8 * MESH {
            if self.peers[at(host)].mesh.len() >= MESH {
                break;
            }
            let other = to_ix(net.random.index(self.peers.len()));
            let has_room = self.peers[at(other)].mesh.len() < MESH_MAX;
            let known = self.peers[at(host)].mesh.contains(&other);
            if other != host && has_room && !known && net.host(other).up {
                self.peers[at(host)].mesh.push(other);
                self.peers[at(other)].mesh.push(host);
            }
        }
    }

    fn announce(&mut self, net: &mut NetOf<Self>, catalogue: &Catalogue, from: Ix, item: ItemIx) {
        let flood = to_ix(self.floods.len());
        self.floods.push(Flood { item, seen: Bits::new(self.peers.len()) });
        self.receive(net, catalogue, from, None, flood);
    }

    fn receive(
        &mut self,
        net: &mut NetOf<Self>,
        catalogue: &Catalogue,
        to: Ix,
        from: Option<Ix>,
        flood: FloodIx,
    ) {
        let known = &mut self.floods[at(flood)];
        if !known.seen.insert(to) {
            return;
        }
        let peer = &mut self.peers[at(to)];
        peer.cache.insert(known.item);
        if net.host(to).bad.is_some() {
            // Who does not forward, whatever else it does: a falsified announcement is rejected by its signature.
            net.counters.misbehaved += 1;
            return;
        }
        let bytes = catalogue.digest_bytes + ENVELOPE_BYTES;
        for neighbour in peer.mesh.iter().filter(|ix| Some(**ix) != from) {
            net.send(to, *neighbour, bytes, Message::Data { flood });
        }
        peer.recent.push((flood, HISTORY));
        if !peer.beating {
            peer.beating = true;
            let wait = net.random.within(HEARTBEAT);
            net.after(to, wait, Timer::Heartbeat);
        }
    }

    fn heartbeat(&mut self, net: &mut NetOf<Self>, host: Ix) {
        let peer = &mut self.peers[at(host)];
        let floods: Rc<[FloodIx]> = peer.recent.iter().map(|(flood, _)| *flood).collect();
        for (_, left) in &mut peer.recent {
            *left -= 1;
        }
        peer.recent.retain(|(_, left)| *left > 0);
        peer.beating = !peer.recent.is_empty();
        if peer.beating {
            net.after(host, HEARTBEAT, Timer::Heartbeat);
        }
        let bytes = ID_BYTES * floods.len() as u64;
        for _ in 0..LAZY.min(self.peers.len().saturating_sub(1)) {
            let other = to_ix(net.random.index(self.peers.len()));
            if other == host {
                continue;
            }
            // Who has everything already does nothing with it.
            let idle = floods.iter().all(|flood| self.floods[at(*flood)].seen.has(other));
            if idle || net.host(other).bad == Some(Bad::Silent) {
                net.send_idle(host, other, bytes);
            } else {
                net.send(host, other, bytes, Message::Have { floods: floods.clone() });
            }
        }
    }
}
