//! Records at the 20 nodes nearest to a key: plain Kademlia, and label → providers.
//!
//! # `kademlia`: what our overlay is without its countermeasures
//! Each signed digest is stored under each of its keys at the 20 nearest nodes that a lookup with one path finds, wherever they are;
//! custodians check nothing, keep everything they are given, and evaluate the query; askers look the key up with one path, unite what
//! the 20 nearest say, and check signatures. No region, no second placement, no shards, no disjoint paths, no audits. Records are stored
//! again every 22 h and live 48 h, as provider records do in go-libp2p-kad-dht v0.42 (`amino/defaults.go`); tables are refreshed as
//! often as ours.
//!
//! # `providers`: agntcy dir v2
//! Read in agntcy/dir, branch `feat/dht-only-remote-discovery` (9b36ab47, 17 August 2026; issue 1972 «Discovery in v2: replacing GossipSub
//! with DHT-native search», pull request 1967): a record's labels and its CID are announced as Kademlia provider keys
//! (`server/routing/advertise.go`); a search looks up *one* label, the deepest of the query (`search_remote.go`, `discoveryKey`), asks
//! for every provider of it, and puts the query to each of them with 8 workers (`searchPeerWorkers`), 15 s for discovery, 10 s for a
//! peer, 30 s in all (`constants.go`); 36 h between announcements. Providers answer for themselves, so who is down is never shown.
//! Custodians accept a provider record from the provider itself alone and hand out all that fit a message, unsigned
//! (go-libp2p-kad-dht `handlers.go`).
//!
//! Simplifications, all in its favour: ancestors of a label are not announced (nobody here asks for them); a search that names no class
//! is given the class of the record it was drawn from, because v2 refuses searches without a label; peers filter by the whole query
//! instead of by labels alone and send their signed digest, so that nothing needs to be pulled afterwards; requests to custodians time
//! out after our 1.5 s; tables are refreshed hourly instead of every 30 s (`RefreshInterval`); connections cost nothing to open.
//!
//! `providers_typed` is the same with every key that our own planner would use (name, entity, cell, class) as a label, and the most
//! selective one looked up: what the design could do with our labels. It shows what asking every provider costs when the label does
//! not narrow the question down.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use comity_capability::keys::KeyFamily;
use comity_core::Time;
use comity_overlay::Cost;

use super::catalogue::{Asked, Catalogue, Item, ItemIx, KeyIx};
use super::kad::{K, Lookup, REQUEST_TIMEOUT, Ring, Tables, draw_id};
use super::net::{Design, Ix, NetOf, at};
use super::plan::{Bad, Eclipse};
use super::run::{Answer, AskId, Directory, Ended, Held};

/// Bytes of a request without what it carries: kind, request id, target.
const REQUEST_BYTES: u64 = 44;
/// Bytes of an answer without what it carries.
const REPLY_BYTES: u64 = 16;
/// Bytes of a contact or a provider record in an answer (OVERLAY.md section 3).
const CONTACT_BYTES: u64 = 52;
/// Time between two announcements of the same: `DefaultReprovideInterval` of go-libp2p-kad-dht; `RepublishInterval` of dir.
const REPROVIDE_KADEMLIA: Duration = Duration::from_secs(22 * 3_600);
const REPROVIDE_DIR: Duration = Duration::from_secs(36 * 3_600);
/// Time in which every bucket of a table is refreshed once, as in our overlay.
const REFRESH_EVERY: Duration = Duration::from_secs(3_600);
/// `searchPeerWorkers`, `SearchDiscoveryTimeout`, `SearchPeerTimeout`, `SearchTimeout` of dir v2.
const WORKERS: usize = 8;
const DISCOVERY_TIMEOUT: Duration = Duration::from_secs(15);
const PEER_TIMEOUT: Duration = Duration::from_secs(10);
/// Their requests travel in streams, which send again what is lost.
const RESEND_AFTER: Duration = Duration::from_secs(1);
const SEARCH_TIMEOUT: Duration = Duration::from_secs(30);

/// Which of the designs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Digests at custodians.
    Digests,
    /// Providers of class labels.
    Providers,
    /// Providers of all our labels.
    ProvidersTyped,
}

impl Kind {
    /// What custodians keep of an item.
    fn value(self, catalogue: &Catalogue, item: ItemIx) -> u32 {
        match self {
            Self::Digests => item,
            Self::Providers | Self::ProvidersTyped => catalogue.item(item).publisher,
        }
    }
}

#[derive(Clone, Debug)]
pub(super) enum Message {
    Find { lookup: u32, target: u128, read: Option<(KeyIx, Rc<Asked>)> },
    Nodes { lookup: u32, contacts: Rc<[Ix]>, values: Rc<[u32]>, bytes: u64 },
    Store { publication: u32, key: KeyIx, values: Rc<[u32]> },
    Stored { publication: u32 },
    Ask { ask: u32, asked: Rc<Asked> },
    Matches { ask: u32, items: Rc<[ItemIx]>, bytes: u64 },
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Timer {
    Request { lookup: u32, peer: Ix },
    Store { publication: u32, peer: Ix, again: bool },
    Peer { ask: u32, peer: Ix, since: Time },
    Discovery { ask: u32 },
    Search { ask: u32 },
    Reprovide,
    Refresh,
}

#[derive(Clone, Copy, Debug)]
enum Purpose {
    Refresh,
    Store {
        publication: u32,
        key: KeyIx,
    },
    Read {
        ask: u32,
        key: KeyIx,
    },
    /// A lookup that somebody measures.
    Measured {
        ask: AskId,
    },
}

#[derive(Debug)]
struct Open {
    lookup: Lookup,
    purpose: Purpose,
}

/// All keys of a publisher on their way to their custodians.
#[derive(Debug)]
struct Publication {
    owner: Ix,
    lookups: usize,
    /// Stores not acknowledged yet: custodian and what it is given.
    waiting: Vec<(Ix, KeyIx, Rc<[u32]>)>,
    cost: Cost,
    started: Time,
    /// A repeated one is not reported.
    first: bool,
}

#[derive(Debug)]
struct Search {
    id: AskId,
    owner: Ix,
    asked: Rc<Asked>,
    started: Time,
    lookups: BTreeSet<u32>,
    providers: BTreeSet<Ix>,
    queue: VecDeque<Ix>,
    busy: BTreeSet<Ix>,
    found: BTreeSet<ItemIx>,
    cost: Cost,
}

/// The hosts of one of these designs.
#[derive(Debug)]
pub(super) struct Records {
    kind: Kind,
    tables: Tables,
    ring: Ring,
    colluders: Ring,
    /// What each host keeps: (key, item or provider), in order.
    held: Vec<Vec<(KeyIx, u32)>>,
    open: BTreeMap<u32, Open>,
    publications: BTreeMap<u32, Publication>,
    searches: BTreeMap<u32, Search>,
    next: u32,
    retired: BTreeSet<Ix>,
    ended: Vec<Ended>,
}

impl Design for Records {
    type Message = Message;
    type Timer = Timer;
}

impl Directory for Records {
    fn attach(
        &mut self,
        net: &mut NetOf<Self>,
        catalogue: &Catalogue,
        eclipse: Eclipse,
    ) -> Vec<ItemIx> {
        let mut ids: Vec<_> = net.hosts.iter().map(|_| draw_id(&mut net.random)).collect();
        let mut keys: Vec<_> = (0..catalogue.keys.len()).collect();
        keys.retain(|key| catalogue.keys[*key].family == KeyFamily::Name);
        net.random.shuffle(&mut keys);
        keys.truncate(eclipse.keys);
        let victims = keys.iter().filter_map(|key| catalogue.keys[*key].members.first().copied());
        let victims = victims.collect();
        for key in keys {
            let place = catalogue.keys[key].place;
            let nearest = ids.iter().map(|id| id ^ place).min().unwrap_or(u128::MAX);
            for _ in 0..eclipse.ids {
                let line = net.link.draw_line(&mut net.random);
                net.add_host(line, Some(Bad::Misroute));
                ids.push(place ^ (draw_id(&mut net.random) % nearest.max(1)));
            }
        }
        let bad: Vec<_> = ids.iter().copied().zip(0..).filter(|(_, ix)| net.is_bad(*ix)).collect();
        self.colluders = Ring::new(bad);
        self.held = vec![Vec::new(); ids.len()];
        (self.tables, self.ring) = Tables::build(&mut net.random, ids);
        for ix in 0..super::net::to_ix(self.held.len()) {
            self.schedule(net, catalogue, ix);
        }
        victims
    }

    fn settle(&mut self, net: &mut NetOf<Self>, catalogue: &Catalogue, reserved: &BTreeSet<Ix>) {
        for (key, known) in (0..).zip(&catalogue.keys) {
            if !self.announces(known.family) {
                continue;
            }
            // A custodian that answers nothing is not among the nearest that answered.
            let near = self.ring.nearest(known.place, 2 * K);
            let answering = near.into_iter().filter(|ix| net.host(*ix).bad != Some(Bad::Silent));
            for custodian in answering.take(K) {
                if !matches!(net.host(custodian).bad, Some(Bad::Misroute)) {
                    let there = known
                        .members
                        .iter()
                        .filter(|item| !reserved.contains(&catalogue.item(**item).publisher));
                    let kind = self.kind;
                    let values = there.map(|item| kind.value(catalogue, *item));
                    self.held[at(custodian)].extend(values.map(|value| (key, value)));
                }
            }
        }
        for held in &mut self.held {
            held.sort_unstable();
            held.dedup();
        }
    }

    fn publish(&mut self, net: &mut NetOf<Self>, catalogue: &Catalogue, publisher: Ix) {
        self.announce(net, catalogue, publisher, true);
    }

    fn retire(&mut self, _net: &mut NetOf<Self>, _catalogue: &Catalogue, publisher: Ix) {
        // Kademlia has no retraction: records elsewhere are left to expire (`advertise.go`, `publishedRecords`).
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
        let keys: Vec<_> = match self.kind {
            Kind::Providers => asked.class.into_iter().collect(),
            Kind::Digests | Kind::ProvidersTyped => asked.keys.clone(),
        };
        self.next += 1;
        let ask = self.next;
        let search = Search {
            id,
            owner: from,
            asked,
            started: net.now(),
            lookups: BTreeSet::new(),
            providers: BTreeSet::new(),
            queue: VecDeque::new(),
            busy: BTreeSet::new(),
            found: BTreeSet::new(),
            cost: Cost::default(),
        };
        self.searches.insert(ask, search);
        net.after(from, SEARCH_TIMEOUT, Timer::Search { ask });
        if self.kind != Kind::Digests {
            net.after(from, DISCOVERY_TIMEOUT, Timer::Discovery { ask });
        }
        for key in keys {
            let place = catalogue.key(key).place;
            let lookup = self.begin(net, from, place, Purpose::Read { ask, key });
            if let Some(search) = self.searches.get_mut(&ask) {
                search.lookups.insert(lookup);
            }
            self.pump(net, catalogue, lookup);
        }
        self.look_on(net, ask);
    }

    fn lookup(
        &mut self,
        net: &mut NetOf<Self>,
        catalogue: &Catalogue,
        from: Ix,
        id: AskId,
    ) -> bool {
        let target = draw_id(&mut net.random);
        let lookup = self.begin(net, from, target, Purpose::Measured { ask: id });
        self.pump(net, catalogue, lookup);
        true
    }

    fn deliver(
        &mut self,
        net: &mut NetOf<Self>,
        catalogue: &Catalogue,
        to: Ix,
        from: Ix,
        message: Message,
    ) {
        match message {
            Message::Find { lookup, target, read } => {
                net.serve(to);
                self.tables.learn(to, from);
                self.serve_find(net, catalogue, to, from, lookup, target, read);
            }
            Message::Nodes { lookup, contacts, values, bytes } => {
                self.tables.learn(to, from);
                self.hear_nodes(net, catalogue, to, from, lookup, &contacts, &values, bytes);
            }
            Message::Store { publication, key, values } => {
                net.serve(to);
                if net.host(to).bad == Some(Bad::Silent) {
                    net.counters.misbehaved += 1;
                    return;
                }
                if net.host(to).bad == Some(Bad::Misroute) {
                    net.counters.misbehaved += 1;
                } else {
                    let held = &mut self.held[at(to)];
                    for value in values.iter() {
                        if let Err(place) = held.binary_search(&(key, *value)) {
                            held.insert(place, (key, *value));
                        }
                    }
                }
                net.send(to, from, REPLY_BYTES, Message::Stored { publication });
            }
            Message::Stored { publication } => self.stored(net, publication, from, true),
            Message::Ask { ask, asked } => self.serve_ask(net, catalogue, to, from, ask, &asked),
            Message::Matches { ask, items, bytes } => {
                let Some(search) = self.searches.get_mut(&ask) else { return };
                if search.busy.remove(&from) {
                    search.cost.bytes_received += bytes;
                    search.found.extend(items.iter().copied());
                    self.look_on(net, ask);
                }
            }
        }
    }

    fn timer(&mut self, net: &mut NetOf<Self>, catalogue: &Catalogue, host: Ix, timer: Timer) {
        match timer {
            Timer::Request { lookup, peer } => {
                let Some(open) = self.open.get_mut(&lookup) else { return };
                if open.lookup.failed(peer) {
                    self.tables.forget(host, peer);
                    self.pump(net, catalogue, lookup);
                }
            }
            Timer::Store { publication, peer, again } => {
                let Some(known) = self.publications.get_mut(&publication) else { return };
                let waiting: Vec<_> =
                    known.waiting.iter().filter(|(ix, _, _)| *ix == peer).cloned().collect();
                if waiting.is_empty() {
                    return;
                }
                if again {
                    return self.stored(net, publication, peer, false);
                }
                for (_, key, values) in waiting {
                    self.send_store(net, catalogue, publication, host, peer, key, values);
                }
                net.after(host, REQUEST_TIMEOUT, Timer::Store { publication, peer, again: true });
            }
            Timer::Peer { ask, peer, since } => {
                let Some(search) = self.searches.get_mut(&ask) else { return };
                if !search.busy.contains(&peer) {
                    return;
                }
                if net.now().saturating_since(since) + RESEND_AFTER <= PEER_TIMEOUT {
                    let bytes = REQUEST_BYTES + search.asked.bytes;
                    search.cost.bytes_sent += bytes;
                    let asked = search.asked.clone();
                    net.send(host, peer, bytes, Message::Ask { ask, asked });
                    net.after(host, RESEND_AFTER, Timer::Peer { ask, peer, since });
                } else {
                    search.busy.remove(&peer);
                    search.cost.failures += 1;
                    self.look_on(net, ask);
                }
            }
            Timer::Discovery { ask } => {
                let Some(search) = self.searches.get_mut(&ask) else { return };
                for lookup in std::mem::take(&mut search.lookups) {
                    if let Some(Open { lookup, .. }) = self.open.remove(&lookup) {
                        add_cost(&mut search.cost, &lookup.cost);
                    }
                }
                self.look_on(net, ask);
            }
            Timer::Search { ask } => self.end_search(net, ask),
            Timer::Reprovide => {
                self.announce(net, catalogue, host, false);
                net.after(host, self.reprovide(), Timer::Reprovide);
            }
            Timer::Refresh => {
                let bucket = net.random.below(u64::from(self.tables.buckets(host)));
                let bucket = u32::try_from(bucket).unwrap_or(0);
                let mine = self.tables.ids[at(host)];
                // An id that shares exactly `bucket` bits.
                let flip = 1 << (127 - bucket);
                let target = mine ^ flip ^ (draw_id(&mut net.random) & (flip - 1));
                let lookup = self.begin(net, host, target, Purpose::Refresh);
                self.pump(net, catalogue, lookup);
                net.after(host, REFRESH_EVERY / self.tables.buckets(host), Timer::Refresh);
            }
        }
    }

    fn back(&mut self, net: &mut NetOf<Self>, catalogue: &Catalogue, host: Ix) {
        self.schedule(net, catalogue, host);
        // Both announce everything at start (`advertise.go`, `startAdvertiseTask`).
        if !catalogue.of(host).is_empty() {
            self.announce(net, catalogue, host, false);
        }
    }

    fn ended(&mut self) -> Vec<Ended> {
        std::mem::take(&mut self.ended)
    }

    fn held(&self, host: Ix) -> Held {
        let held = &self.held[at(host)];
        let (mut largest, mut run) = (0_u64, 0_u64);
        let mut last = None;
        for (key, _) in held {
            run = if last == Some(key) { run + 1 } else { 1 };
            last = Some(key);
            largest = largest.max(run);
        }
        Held { items: held.len() as u64, largest_key: largest }
    }

    fn dead_entries(&self, net: &NetOf<Self>) -> (u64, u64) {
        let entries = self.tables.entries();
        entries.fold((0, 0), |(up, all), ix| (up + u64::from(net.host(ix).up), all + 1))
    }
}

impl Records {
    pub(super) fn new(kind: Kind) -> Self {
        Self {
            kind,
            tables: Tables::default(),
            ring: Ring::default(),
            colluders: Ring::default(),
            held: Vec::new(),
            open: BTreeMap::new(),
            publications: BTreeMap::new(),
            searches: BTreeMap::new(),
            next: 0,
            retired: BTreeSet::new(),
            ended: Vec::new(),
        }
    }

    const fn reprovide(&self) -> Duration {
        match self.kind {
            Kind::Digests => REPROVIDE_KADEMLIA,
            Kind::Providers | Kind::ProvidersTyped => REPROVIDE_DIR,
        }
    }

    /// Whether keys of this family are announced. A name is a CID to dir: announced, and no label.
    fn announces(&self, family: KeyFamily) -> bool {
        match self.kind {
            Kind::Digests | Kind::ProvidersTyped => true,
            Kind::Providers => matches!(family, KeyFamily::Name | KeyFamily::ClassLeaf),
        }
    }

    fn value_bytes(&self, catalogue: &Catalogue) -> u64 {
        match self.kind {
            Kind::Digests => catalogue.digest_bytes,
            Kind::Providers | Kind::ProvidersTyped => CONTACT_BYTES,
        }
    }

    fn schedule(&self, net: &mut NetOf<Self>, catalogue: &Catalogue, host: Ix) {
        if !catalogue.of(host).is_empty() {
            let wait = net.random.within(self.reprovide());
            net.after(host, wait, Timer::Reprovide);
        }
        let wait = net.random.within(REFRESH_EVERY / self.tables.buckets(host));
        net.after(host, wait, Timer::Refresh);
    }

    // ---- lookups ----

    fn begin(&mut self, net: &NetOf<Self>, owner: Ix, target: u128, purpose: Purpose) -> u32 {
        self.next += 1;
        let mut lookup = Lookup::new(owner, target, net.now());
        lookup.add(&self.tables, &self.tables.nearest(owner, target, owner), 0);
        self.open.insert(self.next, Open { lookup, purpose });
        self.next
    }

    fn pump(&mut self, net: &mut NetOf<Self>, catalogue: &Catalogue, id: u32) {
        let Some(open) = self.open.get_mut(&id) else { return };
        let (owner, target) = (open.lookup.owner, open.lookup.target);
        let read = match open.purpose {
            Purpose::Read { ask, key } => {
                self.searches.get(&ask).map(|search| (key, search.asked.clone()))
            }
            Purpose::Refresh | Purpose::Store { .. } | Purpose::Measured { .. } => None,
        };
        while let Some(peer) = open.lookup.next() {
            let question = match (self.kind, &read) {
                (Kind::Digests, Some((_, asked))) => asked.bytes,
                _ => 0,
            };
            let bytes = REQUEST_BYTES + question;
            open.lookup.cost.bytes_sent += bytes;
            net.send(owner, peer, bytes, Message::Find { lookup: id, target, read: read.clone() });
            net.after(owner, REQUEST_TIMEOUT, Timer::Request { lookup: id, peer });
        }
        if open.lookup.is_over() {
            self.end_lookup(net, catalogue, id);
        }
    }

    #[allow(clippy::too_many_arguments, reason = "the parts of one message")]
    fn serve_find(
        &mut self,
        net: &mut NetOf<Self>,
        catalogue: &Catalogue,
        to: Ix,
        from: Ix,
        lookup: u32,
        target: u128,
        read: Option<(KeyIx, Rc<Asked>)>,
    ) {
        let bad = net.host(to).bad;
        net.counters.misbehaved += u64::from(bad.is_some());
        let contacts: Rc<[Ix]> = match bad {
            Some(Bad::Silent) => return,
            Some(Bad::Misroute) => self.colluders.nearest(target, K).into(),
            Some(Bad::Forge | Bad::Omit) | None => self.tables.nearest(to, target, from).into(),
        };
        let mut values: Vec<u32> = Vec::new();
        if let Some((key, asked)) = read.filter(|_| matches!(bad, None | Some(Bad::Forge))) {
            let held = &self.held[at(to)];
            let begin = held.partition_point(|(known, _)| *known < key);
            let of_key = held[begin..].iter().take_while(|(known, _)| *known == key);
            values.extend(of_key.map(|(_, value)| *value));
            if self.kind == Kind::Digests {
                values.retain(|item| catalogue.matches(*item, &asked.question));
            } else if bad == Some(Bad::Forge) {
                // Provider records are not signed: name friends.
                values = self.colluders.nearest(target, K);
            }
        }
        let bytes = REPLY_BYTES
            + CONTACT_BYTES * contacts.len() as u64
            + self.value_bytes(catalogue) * values.len() as u64;
        if self.kind == Kind::Digests && bad == Some(Bad::Forge) {
            // The asker finds the signatures broken.
            values.clear();
        }
        let values = values.into();
        net.send(to, from, bytes, Message::Nodes { lookup, contacts, values, bytes });
    }

    #[allow(clippy::too_many_arguments, reason = "the parts of one message")]
    fn hear_nodes(
        &mut self,
        net: &mut NetOf<Self>,
        catalogue: &Catalogue,
        to: Ix,
        from: Ix,
        id: u32,
        contacts: &[Ix],
        values: &[u32],
        bytes: u64,
    ) {
        let Some(open) = self.open.get_mut(&id).filter(|open| open.lookup.owner == to) else {
            return;
        };
        let Some(depth) = open.lookup.answered(from) else { return };
        open.lookup.cost.bytes_received += bytes;
        open.lookup.add(&self.tables, contacts, depth);
        if let Purpose::Read { ask, .. } = open.purpose
            && let Some(search) = self.searches.get_mut(&ask)
        {
            if self.kind == Kind::Digests {
                search.found.extend(values.iter().copied());
            } else {
                for provider in values.iter().filter(|ix| **ix != search.owner) {
                    if search.providers.insert(*provider) {
                        search.queue.push_back(*provider);
                    }
                }
                self.look_on(net, ask);
            }
        }
        self.pump(net, catalogue, id);
    }

    fn end_lookup(&mut self, net: &mut NetOf<Self>, catalogue: &Catalogue, id: u32) {
        let Some(Open { lookup, purpose }) = self.open.remove(&id) else { return };
        match purpose {
            Purpose::Refresh => {}
            Purpose::Measured { ask } => {
                let mut cost = lookup.cost;
                cost.elapsed = net.now().saturating_since(lookup.started);
                let truth = self.ring.nearest(lookup.target, 2 * K + 20);
                let owner = lookup.owner;
                let fair = |ix: &Ix| net.host(*ix).up && *ix != owner && net.reachable(owner, *ix);
                let truth: Vec<_> = truth.into_iter().filter(fair).take(K).collect();
                let honest: Vec<_> = truth.into_iter().filter(|ix| !net.is_bad(*ix)).collect();
                let closest = lookup.closest();
                let found = honest.iter().filter(|ix| closest.contains(ix)).count() as u64;
                let nearest = (found, honest.len() as u64);
                self.ended.push(Ended::Lookup { ask, cost, nearest });
            }
            Purpose::Read { ask, .. } => {
                if let Some(search) = self.searches.get_mut(&ask) {
                    search.lookups.remove(&id);
                    add_cost(&mut search.cost, &lookup.cost);
                    self.look_on(net, ask);
                }
            }
            Purpose::Store { publication, key } => {
                let owner = lookup.owner;
                let values = self.values_of(catalogue, owner, key);
                if let Some(known) = self.publications.get_mut(&publication) {
                    known.lookups -= 1;
                    add_cost(&mut known.cost, &lookup.cost);
                    for peer in lookup.closest() {
                        known.waiting.push((peer, key, values.clone()));
                    }
                }
                for peer in lookup.closest() {
                    let values = values.clone();
                    self.send_store(net, catalogue, publication, owner, peer, key, values);
                    let timer = Timer::Store { publication, peer, again: false };
                    net.after(owner, REQUEST_TIMEOUT, timer);
                }
                self.end_publication(net, publication);
            }
        }
    }

    // ---- publishing ----

    fn values_of(&self, catalogue: &Catalogue, publisher: Ix, key: KeyIx) -> Rc<[u32]> {
        let items = catalogue.of(publisher).iter().copied();
        let under = items.filter(|item| catalogue.item(*item).keys.contains(&key));
        let mut values: Vec<_> = under.map(|item| self.kind.value(catalogue, item)).collect();
        values.dedup();
        values.into()
    }

    fn announce(&mut self, net: &mut NetOf<Self>, catalogue: &Catalogue, owner: Ix, first: bool) {
        if self.retired.contains(&owner) {
            return;
        }
        let items = catalogue.of(owner).iter().map(|item| catalogue.item(*item));
        let keys: BTreeSet<KeyIx> =
            items.flat_map(|item: &Item| item.keys.iter().copied()).collect();
        let mut keys: Vec<_> = keys.into_iter().collect();
        keys.retain(|key| self.announces(catalogue.key(*key).family));
        self.next += 1;
        let (publication, started) = (self.next, net.now());
        let known = Publication {
            owner,
            lookups: keys.len(),
            waiting: Vec::new(),
            cost: Cost::default(),
            started,
            first,
        };
        self.publications.insert(publication, known);
        for key in keys {
            let place = catalogue.key(key).place;
            let lookup = self.begin(net, owner, place, Purpose::Store { publication, key });
            self.pump(net, catalogue, lookup);
        }
        self.end_publication(net, publication);
    }

    #[allow(clippy::too_many_arguments, reason = "the parts of one message")]
    fn send_store(
        &mut self,
        net: &mut NetOf<Self>,
        catalogue: &Catalogue,
        publication: u32,
        owner: Ix,
        peer: Ix,
        key: KeyIx,
        values: Rc<[u32]>,
    ) {
        let bytes = REQUEST_BYTES + self.value_bytes(catalogue) * values.len() as u64;
        if let Some(known) = self.publications.get_mut(&publication) {
            known.cost.requests += 1;
            known.cost.bytes_sent += bytes;
        }
        net.send(owner, peer, bytes, Message::Store { publication, key, values });
    }

    /// A custodian acknowledged one of its stores, or is given up.
    fn stored(&mut self, net: &NetOf<Self>, publication: u32, peer: Ix, acknowledged: bool) {
        let Some(known) = self.publications.get_mut(&publication) else { return };
        if acknowledged {
            known.cost.bytes_received += REPLY_BYTES;
            if let Some(place) = known.waiting.iter().position(|(ix, _, _)| *ix == peer) {
                known.waiting.remove(place);
            }
        } else {
            known.cost.failures += 1;
            known.waiting.retain(|(ix, _, _)| *ix != peer);
        }
        self.end_publication(net, publication);
    }

    fn end_publication(&mut self, net: &NetOf<Self>, publication: u32) {
        let is_over = |known: &Publication| known.lookups == 0 && known.waiting.is_empty();
        if !self.publications.get(&publication).is_some_and(is_over) {
            return;
        }
        if let Some(Publication { owner, mut cost, started, first, .. }) =
            self.publications.remove(&publication)
        {
            cost.elapsed = net.now().saturating_since(started);
            self.ended.push(Ended::Published { publisher: owner, cost, first });
        }
    }

    // ---- searching ----

    /// Keeps the workers busy, and ends the search when nothing is left to do.
    fn look_on(&mut self, net: &mut NetOf<Self>, ask: u32) {
        let Some(search) = self.searches.get_mut(&ask) else { return };
        while search.busy.len() < WORKERS {
            let Some(provider) = search.queue.pop_front() else { break };
            search.busy.insert(provider);
            let bytes = REQUEST_BYTES + search.asked.bytes;
            search.cost.requests += 1;
            search.cost.bytes_sent += bytes;
            let asked = search.asked.clone();
            net.send(search.owner, provider, bytes, Message::Ask { ask, asked });
            let timer = Timer::Peer { ask, peer: provider, since: net.now() };
            net.after(search.owner, RESEND_AFTER, timer);
        }
        if search.busy.is_empty() && search.queue.is_empty() && search.lookups.is_empty() {
            self.end_search(net, ask);
        }
    }

    fn serve_ask(
        &self,
        net: &mut NetOf<Self>,
        catalogue: &Catalogue,
        to: Ix,
        from: Ix,
        ask: u32,
        asked: &Asked,
    ) {
        net.serve(to);
        let items: Vec<_> = match net.host(to).bad {
            Some(Bad::Silent) => return,
            Some(Bad::Misroute | Bad::Omit) => Vec::new(),
            // One forged digest, which the asker recognises.
            Some(Bad::Forge) => {
                let bytes = REPLY_BYTES + catalogue.digest_bytes;
                return net.send(
                    to,
                    from,
                    bytes,
                    Message::Matches { ask, items: Rc::new([]), bytes },
                );
            }
            None if self.retired.contains(&to) => Vec::new(),
            None => {
                let own = catalogue.of(to).iter().copied();
                own.filter(|item| catalogue.matches(*item, &asked.question)).collect()
            }
        };
        let bytes = REPLY_BYTES + catalogue.digest_bytes * items.len() as u64;
        net.send(to, from, bytes, Message::Matches { ask, items: items.into(), bytes });
    }

    fn end_search(&mut self, net: &NetOf<Self>, ask: u32) {
        let Some(mut search) = self.searches.remove(&ask) else { return };
        for lookup in &search.lookups {
            if let Some(Open { lookup, .. }) = self.open.remove(lookup) {
                add_cost(&mut search.cost, &lookup.cost);
            }
        }
        search.cost.elapsed = net.now().saturating_since(search.started);
        // Asking a provider is one more step.
        search.cost.hops += u32::from(!search.providers.is_empty());
        self.ended.push(Ended::Answer(Answer {
            ask: search.id,
            found: search.found,
            cost: search.cost,
        }));
    }
}

fn add_cost(sum: &mut Cost, part: &Cost) {
    sum.requests += part.requests;
    sum.failures += part.failures;
    sum.bytes_sent += part.bytes_sent;
    sum.bytes_received += part.bytes_received;
    sum.hops = sum.hops.max(part.hops);
}
