//! A central index: everybody registers with one server and asks it.
//!
//! The oracle among the baselines: the server evaluates every query over everything registered and alive, which is what MCP registries,
//! the agent card registries of A2A and NANDA's index do with less. It stands in one region ([`SERVER_REGION`]) with an access delay of
//! [`SERVER_ACCESS`], answers at once however many ask (no queueing is simulated; its load is reported instead), and drops whoever has
//! not sent a beat for the scenario's beat life. Clients ask up to [`TRIES`] times.
//!
//! A server is one machine, so faults and rule breakers meet it or they do not: `index` leaves it alone, `index_struck` lets the first
//! fault and the adversaries have it. With a share f of hosts hit at random, the expectation is (1 - f) of the one and f of the other.
//! Replicas would help against crashes; whoever runs them would still decide what everybody finds.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use comity_core::Time;
use comity_overlay::Cost;

use super::catalogue::{Asked, Catalogue, ItemIx};
use super::kad::REQUEST_TIMEOUT;
use super::net::{Design, Ix, NetOf, at};
use super::plan::{Bad, Eclipse};
use super::run::{Answer, AskId, Directory, Ended, Held};
use crate::link::Line;

/// Washington DC, in the order of [`crate::link::REGION_NAMES`]: where most clouds have most machines.
pub const SERVER_REGION: usize = 2;
/// One-way delay between the server and its region's backbone.
pub const SERVER_ACCESS: Duration = Duration::from_millis(1);
/// Times a client sends a request.
const TRIES: u8 = 3;
/// Bytes of a request, of an answer and of a beat without what they carry.
const REQUEST_BYTES: u64 = 44;
const REPLY_BYTES: u64 = 16;
const BEAT_BYTES: u64 = 160;
/// Parts of a beat's life after which the next is sent: three quarters, as in our overlay.
const BEAT_PARTS: (u32, u32) = (3, 4);

#[derive(Clone, Debug)]
pub(super) enum Message {
    Register { call: u32, items: Rc<[ItemIx]> },
    Beat,
    Retire { call: u32 },
    Ask { call: u32, asked: Rc<Asked> },
    Done { call: u32 },
    Matches { call: u32, items: Rc<[ItemIx]>, bytes: u64 },
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Timer {
    Again { call: u32, tries: u8 },
    Beat,
}

#[derive(Debug)]
struct Call {
    owner: Ix,
    ask: Option<AskId>,
    message: Message,
    bytes: u64,
    started: Time,
    cost: Cost,
}

/// The server and its clients.
#[derive(Debug)]
pub(super) struct Index {
    beat_life: Duration,
    server: Ix,
    /// Publishers by when they were last heard of.
    heard: BTreeMap<Ix, Time>,
    registered: BTreeSet<ItemIx>,
    retired: BTreeSet<Ix>,
    calls: BTreeMap<u32, Call>,
    next: u32,
    ended: Vec<Ended>,
}

impl Design for Index {
    type Message = Message;
    type Timer = Timer;
}

impl Directory for Index {
    fn attach(
        &mut self,
        net: &mut NetOf<Self>,
        catalogue: &Catalogue,
        _eclipse: Eclipse,
    ) -> Vec<ItemIx> {
        let line = Line { region: SERVER_REGION, access: SERVER_ACCESS };
        self.server = net.add_host(line, None);
        for publisher in 0..self.server {
            if !catalogue.of(publisher).is_empty() {
                let wait = net.random.within(self.beat_every());
                net.after(publisher, wait, Timer::Beat);
            }
        }
        Vec::new()
    }

    fn settle(&mut self, net: &mut NetOf<Self>, catalogue: &Catalogue, reserved: &BTreeSet<Ix>) {
        for (item, ix) in catalogue.items.iter().zip(0..) {
            if !reserved.contains(&item.publisher) {
                self.registered.insert(ix);
                self.heard.insert(item.publisher, net.now());
            }
        }
    }

    fn server(&self) -> Option<Ix> {
        Some(self.server)
    }

    fn publish(&mut self, net: &mut NetOf<Self>, catalogue: &Catalogue, publisher: Ix) {
        let items: Rc<[ItemIx]> = catalogue.of(publisher).into();
        let bytes = REQUEST_BYTES + catalogue.digest_bytes * items.len() as u64;
        let call = self.next + 1;
        self.call(net, publisher, None, bytes, Message::Register { call, items });
    }

    fn retire(&mut self, net: &mut NetOf<Self>, _catalogue: &Catalogue, publisher: Ix) {
        let call = self.next + 1;
        self.call(net, publisher, None, REQUEST_BYTES + BEAT_BYTES, Message::Retire { call });
    }

    fn ask(
        &mut self,
        net: &mut NetOf<Self>,
        _catalogue: &Catalogue,
        from: Ix,
        id: AskId,
        asked: Rc<Asked>,
    ) {
        let call = self.next + 1;
        let bytes = REQUEST_BYTES + asked.bytes;
        self.call(net, from, Some(id), bytes, Message::Ask { call, asked });
    }

    fn deliver(
        &mut self,
        net: &mut NetOf<Self>,
        catalogue: &Catalogue,
        to: Ix,
        from: Ix,
        message: Message,
    ) {
        if to == self.server {
            net.serve(to);
            let bad = net.host(to).bad;
            net.counters.misbehaved += u64::from(bad.is_some());
            if bad == Some(Bad::Silent) {
                return;
            }
        }
        match message {
            Message::Register { call, items } => {
                self.registered.extend(items.iter().copied());
                self.heard.insert(from, net.now());
                net.send(to, from, REPLY_BYTES, Message::Done { call });
            }
            Message::Beat => drop(self.heard.insert(from, net.now())),
            Message::Retire { call } => {
                self.retired.insert(from);
                net.send(to, from, REPLY_BYTES, Message::Done { call });
            }
            Message::Ask { call, asked } => {
                let mut items = match net.host(to).bad {
                    None | Some(Bad::Forge) => self.evaluate(net, catalogue, &asked),
                    Some(Bad::Silent | Bad::Misroute | Bad::Omit) => Vec::new(),
                };
                let bytes = REPLY_BYTES + catalogue.digest_bytes * items.len() as u64;
                if net.host(to).bad.is_some() {
                    // Forged digests do not pass the asker's check.
                    items.clear();
                }
                net.send(to, from, bytes, Message::Matches { call, items: items.into(), bytes });
            }
            Message::Done { call } => {
                if let Some(mut known) = self.calls.remove(&call) {
                    known.cost.bytes_received += REPLY_BYTES;
                    known.cost.elapsed = net.now().saturating_since(known.started);
                    if matches!(known.message, Message::Register { .. }) {
                        let (publisher, cost) = (known.owner, known.cost);
                        self.ended.push(Ended::Published { publisher, cost, first: true });
                    }
                }
            }
            Message::Matches { call, items, bytes } => {
                if let Some(mut known) = self.calls.remove(&call) {
                    known.cost.bytes_received += bytes;
                    self.answer(net, &known, items.iter().copied().collect());
                }
            }
        }
    }

    fn timer(&mut self, net: &mut NetOf<Self>, _catalogue: &Catalogue, host: Ix, timer: Timer) {
        match timer {
            Timer::Again { call, tries } => {
                let Some(known) = self.calls.get_mut(&call) else { return };
                known.cost.failures += 1;
                if tries < TRIES {
                    known.cost.requests += 1;
                    known.cost.bytes_sent += known.bytes;
                    net.send(host, self.server, known.bytes, known.message.clone());
                    net.after(host, REQUEST_TIMEOUT, Timer::Again { call, tries: tries + 1 });
                } else if let Some(known) = self.calls.remove(&call) {
                    self.answer(net, &known, BTreeSet::new());
                }
            }
            Timer::Beat => {
                if !self.retired.contains(&host) {
                    net.send(host, self.server, BEAT_BYTES, Message::Beat);
                }
                net.after(host, self.beat_every(), Timer::Beat);
            }
        }
    }

    fn back(&mut self, net: &mut NetOf<Self>, catalogue: &Catalogue, host: Ix) {
        if host != self.server && !catalogue.of(host).is_empty() {
            net.send(host, self.server, BEAT_BYTES, Message::Beat);
            net.after(host, self.beat_every(), Timer::Beat);
        }
    }

    fn ended(&mut self) -> Vec<Ended> {
        std::mem::take(&mut self.ended)
    }

    fn held(&self, host: Ix) -> Held {
        let items = if host == self.server { self.registered.len() as u64 } else { 0 };
        Held { items, largest_key: items }
    }
}

impl Index {
    pub(super) const fn new(beat_life: Duration) -> Self {
        Self {
            beat_life,
            server: 0,
            heard: BTreeMap::new(),
            registered: BTreeSet::new(),
            retired: BTreeSet::new(),
            calls: BTreeMap::new(),
            next: 0,
            ended: Vec::new(),
        }
    }

    fn beat_every(&self) -> Duration {
        self.beat_life * BEAT_PARTS.0 / BEAT_PARTS.1
    }

    fn evaluate(&self, net: &NetOf<Self>, catalogue: &Catalogue, asked: &Asked) -> Vec<ItemIx> {
        let is_there = |item: &ItemIx| {
            let publisher = catalogue.item(*item).publisher;
            let heard = self.heard.get(&publisher);
            let alive =
                heard.is_some_and(|heard| net.now().saturating_since(*heard) <= self.beat_life);
            alive && !self.retired.contains(&publisher)
        };
        let mut items: Vec<_> = asked
            .keys
            .iter()
            .flat_map(|key| &catalogue.keys[at(*key)].members)
            .copied()
            .filter(|item| self.registered.contains(item) && is_there(item))
            .filter(|item| catalogue.matches(*item, &asked.question))
            .collect();
        items.sort_unstable();
        items.dedup();
        items
    }

    fn call(
        &mut self,
        net: &mut NetOf<Self>,
        owner: Ix,
        ask: Option<AskId>,
        bytes: u64,
        message: Message,
    ) {
        self.next += 1;
        let cost = Cost { requests: 1, hops: 1, bytes_sent: bytes, ..Cost::default() };
        let call = Call { owner, ask, message: message.clone(), bytes, started: net.now(), cost };
        self.calls.insert(self.next, call);
        net.send(owner, self.server, bytes, message);
        net.after(owner, REQUEST_TIMEOUT, Timer::Again { call: self.next, tries: 1 });
    }

    fn answer(&mut self, net: &NetOf<Self>, call: &Call, found: BTreeSet<ItemIx>) {
        let Some(ask) = call.ask else { return };
        let mut cost = call.cost;
        cost.elapsed = net.now().saturating_since(call.started);
        self.ended.push(Ended::Answer(Answer { ask, found, cost }));
    }
}
