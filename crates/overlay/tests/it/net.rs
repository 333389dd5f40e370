//! A network in memory: one event loop, one fixed delay, virtual time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use comity_capability::keys::GroupKey;
use comity_capability::record::GroupSecret;
use comity_core::{AgentId, Hash, OverlayId, Time};
use comity_overlay::wire::{
    Answer, CONTACTS_MAX, QueryOutcome, StoreOutcome, decode_request, decode_response,
    encode_request, encode_response,
};
use comity_overlay::{
    Action, BEAT_LIFETIME_MAX, Command, CommandId, Config, Contact, CustodyChange, CustodyRow,
    ItemKey, ItemKind, KnownPlace, Outcome, Overlay, PlaceChange, Publication, Query, QueryReport,
    QueryStep, ReplyToken, Request, RequestFrame, RequestId, Response, Verifier,
};

use crate::fake::{Fake, Item, addr, agent, contact, place};

pub(crate) const START: Time = Time(1_800_000_000_000_000);
const DELAY: Duration = Duration::from_millis(20);

/// How a node deceives the others. It answers pings as everyone does.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Lie {
    /// Says that it stores, that it keeps the shard and that nothing is in it, and names its fellows only.
    Eclipse,
    /// Leaves out what this agent published.
    Omit(AgentId),
}

#[derive(Debug)]
enum Event {
    Request { from: usize, to: usize, id: RequestId, request: Request },
    Response { from: usize, to: usize, id: RequestId, response: Response },
}

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) overlay: Overlay,
    pub(crate) alive: bool,
    pub(crate) rows: BTreeMap<ItemKey, CustodyRow>,
    pub(crate) renewals: BTreeSet<ItemKey>,
    pub(crate) places: BTreeMap<OverlayId, KnownPlace>,
}

pub(crate) struct Net {
    pub(crate) now: Time,
    pub(crate) nodes: Vec<Node>,
    pub(crate) services: Fake,
    /// Messages go through their encoding.
    encoded: bool,
    by_agent: BTreeMap<AgentId, usize>,
    events: BTreeMap<(Time, u64), Event>,
    wakes: BTreeSet<(Time, usize)>,
    wake_of: BTreeMap<usize, Time>,
    outcomes: BTreeMap<(usize, CommandId), Outcome>,
    next_event: u64,
    /// Nodes that no message reaches from the others, as long as the network is cut.
    pub(crate) cut_off: BTreeSet<usize>,
    pub(crate) liars: BTreeMap<usize, Lie>,
    /// Everything that happened, for comparison between runs.
    pub(crate) trace: Vec<String>,
    pub(crate) tracing: bool,
    /// Nodes that keep nothing for others and say that every shard is split at this depth.
    pub(crate) splitters: BTreeMap<usize, u8>,
}

impl Net {
    pub(crate) fn new(encoded: bool) -> Self {
        Self {
            now: START,
            nodes: Vec::new(),
            services: Fake::default(),
            encoded,
            by_agent: BTreeMap::new(),
            events: BTreeMap::new(),
            wakes: BTreeSet::new(),
            wake_of: BTreeMap::new(),
            outcomes: BTreeMap::new(),
            next_event: 0,
            cut_off: BTreeSet::new(),
            liars: BTreeMap::new(),
            trace: Vec::new(),
            tracing: false,
            splitters: BTreeMap::new(),
        }
    }

    /// `count` nodes, each joined through an earlier one.
    pub(crate) fn grown(count: usize, encoded: bool) -> Self {
        Self::grown_with(&Config::default(), count, encoded)
    }

    pub(crate) fn grown_with(config: &Config, count: usize, encoded: bool) -> Self {
        let mut net = Self::new(encoded);
        for index in 0..count {
            net.add(config.clone());
            let seeds = if index == 0 { Vec::new() } else { vec![contact(index / 2), contact(0)] };
            let outcome = net.run_command(index, Command::Join { seeds });
            assert!(matches!(outcome, Outcome::Joined(_)), "{index}: {outcome:?}");
        }
        net
    }

    pub(crate) fn add(&mut self, config: Config) -> usize {
        self.add_agent(config, agent(self.nodes.len()))
    }

    /// Adds a node with a key of its own choice.
    pub(crate) fn add_agent(&mut self, config: Config, agent: AgentId) -> usize {
        let index = self.nodes.len();
        let me = Contact::server(agent, place(&agent), vec![addr(index)]);
        self.by_agent.insert(me.agent, index);
        let mut seed = [3; 32];
        seed[0] = u8::try_from(index % 251).unwrap();
        seed[1] = u8::try_from(index / 251).unwrap();
        let overlay = Overlay::new(config, me, seed, self.now);
        self.nodes.push(Node {
            overlay,
            alive: true,
            rows: BTreeMap::new(),
            renewals: BTreeSet::new(),
            places: BTreeMap::new(),
        });
        self.drain(index);
        index
    }

    /// Replaces a node by a fresh one that remembers nothing but what is given to it afterwards.
    pub(crate) fn restart(&mut self, index: usize) {
        let overlay = Overlay::new(Config::default(), contact(index), [99; 32], self.now);
        self.nodes[index].overlay = overlay;
        self.nodes[index].alive = true;
        self.drain(index);
    }

    pub(crate) fn kill(&mut self, index: usize) {
        self.nodes[index].alive = false;
        if let Some(wake) = self.wake_of.remove(&index) {
            self.wakes.remove(&(wake, index));
        }
    }

    pub(crate) fn command(&mut self, index: usize, command: Command) -> CommandId {
        let id = self.nodes[index].overlay.command(self.now, &mut self.services, command);
        self.drain(index);
        id
    }

    /// Runs until the command is done.
    pub(crate) fn run_command(&mut self, index: usize, command: Command) -> Outcome {
        let id = self.command(index, command);
        let limit = self.now + Duration::from_secs(300);
        loop {
            if let Some(outcome) = self.outcomes.remove(&(index, id)) {
                return outcome;
            }
            assert!(self.step(limit), "command {id:?} of node {index} never ended");
        }
    }

    pub(crate) fn run_for(&mut self, duration: Duration) {
        let limit = self.now + duration;
        while self.step(limit) {}
        self.now = limit;
    }

    /// Carries out the next event, unless it lies after `limit`.
    fn step(&mut self, limit: Time) -> bool {
        let event = self.events.keys().next().copied();
        let wake = self.wakes.first().copied();
        let event_first = match (event, wake) {
            (None, None) => return false,
            (Some((at, _)), Some((wake, _))) => at <= wake,
            (event, _) => event.is_some(),
        };
        let at = if event_first { event.unwrap().0 } else { wake.unwrap().0 };
        if at > limit {
            return false;
        }
        self.now = self.now.max(at);
        let index = if event_first {
            let event = self.events.remove(&event.unwrap()).unwrap();
            self.deliver(event)
        } else {
            let (_, index) = wake.unwrap();
            self.nodes[index].overlay.timeout(self.now);
            index
        };
        self.drain(index);
        true
    }

    fn deliver(&mut self, event: Event) -> usize {
        let (Event::Request { from, to, .. } | Event::Response { from, to, .. }) = &event;
        if self.cut_off.contains(from) != self.cut_off.contains(to) {
            return *to;
        }
        match event {
            Event::Request { from, to, id, request: Request::Store { entries, .. } }
                if self.splitters.contains_key(&to) =>
            {
                let outcome = StoreOutcome::Split { depth: self.splitters[&to] };
                let response = Response::Stored { outcomes: vec![outcome; entries.len()] };
                self.post(Event::Response { from: to, to: from, id, response });
                to
            }
            Event::Request { from, to, id, request } => {
                if let Some(response) = self.lie(from, to, &request) {
                    self.post(Event::Response { from: to, to: from, id, response });
                    return to;
                }
                let asker = self.nodes[from].overlay.me().clone();
                let node = &mut self.nodes[to];
                if node.alive {
                    // The token carries what the shell's session would remember.
                    let token = ReplyToken((from as u64) << 40 | id.0);
                    node.overlay.request(self.now, &mut self.services, &asker, token, request);
                }
                to
            }
            Event::Response { from, to, id, response } => {
                let agent = self.nodes[from].overlay.me().agent;
                let node = &mut self.nodes[to];
                if node.alive {
                    node.overlay.response(self.now, &mut self.services, &agent, id, response);
                }
                to
            }
        }
    }

    fn drain(&mut self, index: usize) {
        while let Some(action) = self.nodes[index].overlay.poll_action() {
            if self.tracing {
                self.trace.push(format!("{} {index} {action:?}", self.now.0));
            }
            self.act(index, action);
        }
        if let Some(old) = self.wake_of.remove(&index) {
            self.wakes.remove(&(old, index));
        }
        if let Some((due, _)) =
            self.nodes[index].overlay.poll_timeout().filter(|_| self.nodes[index].alive)
        {
            self.wakes.insert((due, index));
            self.wake_of.insert(index, due);
        }
    }

    fn act(&mut self, index: usize, action: Action) {
        match action {
            Action::Send { to, id, request, .. } => {
                let me = self.nodes[index].overlay.me();
                let request = if self.encoded {
                    let frame =
                        RequestFrame { server: me.server, addrs: me.addrs.clone(), request };
                    let decoded = decode_request(&encode_request(&frame)).unwrap();
                    assert_eq!(decoded, frame);
                    decoded.request
                } else {
                    request
                };
                if let Some(to) = self.by_agent.get(&to.agent).copied() {
                    self.post(Event::Request { from: index, to, id, request });
                }
            }
            Action::Reply { token, response } => {
                let response = if self.encoded {
                    let decoded =
                        decode_response(&encode_response(&response), &mut self.services).unwrap();
                    assert_eq!(decoded, response);
                    decoded
                } else {
                    response
                };
                let mut response = response;
                if let Some(Lie::Omit(signer)) = self.liars.get(&index).copied() {
                    self.omit(signer, &mut response);
                }
                let to = usize::try_from(token.0 >> 40).unwrap();
                let id = RequestId(token.0 & ((1 << 40) - 1));
                self.post(Event::Response { from: index, to, id, response });
            }
            Action::Done { command, outcome } => {
                let before = self.outcomes.insert((index, command), outcome);
                assert!(before.is_none(), "two outcomes of one command");
            }
            Action::Custody(CustodyChange::Put { key, row }) => {
                self.nodes[index].rows.insert(key, row);
            }
            Action::Custody(CustodyChange::Remove { key }) => {
                self.nodes[index].rows.remove(&key);
            }
            Action::Peers(_) => {}
            Action::Places(PlaceChange::Put(known)) => {
                self.nodes[index].places.insert(known.position, known);
            }
            Action::Places(PlaceChange::Remove { position }) => {
                self.nodes[index].places.remove(&position);
            }
            Action::Renew(key) => {
                self.nodes[index].renewals.insert(key);
            }
        }
    }

    /// What an eclipsing node answers.
    fn lie(&self, from: usize, to: usize, request: &Request) -> Option<Response> {
        let Some(Lie::Eclipse) = self.liars.get(&to) else { return None };
        let fellows = |target: OverlayId| {
            let eclipsing = self.liars.iter().filter(|(_, lie)| matches!(lie, Lie::Eclipse));
            let mut fellows: Vec<_> = eclipsing
                .filter(|(index, _)| **index != from)
                .map(|(index, _)| self.nodes[*index].overlay.me().clone())
                .collect();
            fellows.sort_by_key(|contact| contact.overlay_id.distance(&target));
            fellows.truncate(CONTACTS_MAX);
            fellows
        };
        match request {
            Request::FindNode { target, .. } => {
                Some(Response::Nodes { contacts: fellows(*target) })
            }
            Request::Store { entries, .. } => {
                Some(Response::Stored { outcomes: vec![StoreOutcome::Stored; entries.len()] })
            }
            Request::Query(query) => {
                let answer = Answer {
                    matches: Vec::new(),
                    near: Vec::new(),
                    beats: Vec::new(),
                    held: 0,
                    passed: 0,
                    truncated: false,
                    set_hash: Hash::of(&[]),
                    leaves: Vec::new(),
                };
                let closer = fellows(query.shard.position(query.placement));
                Some(Response::Found { answer: QueryOutcome::Answered(answer), closer })
            }
            Request::FindPeer { target, .. } => {
                Some(Response::Peer { records: Vec::new(), closer: fellows(*target) })
            }
            _ => None,
        }
    }

    fn omit(&mut self, signer: AgentId, response: &mut Response) {
        let Response::Found { answer: QueryOutcome::Answered(answer), .. } = response else {
            return;
        };
        let before = answer.matches.len();
        let services = &mut self.services;
        answer.matches.retain(|bytes| services.verify(self.now, bytes).unwrap().signer != signer);
        answer.passed -= u32::try_from(before - answer.matches.len()).unwrap();
    }

    fn post(&mut self, event: Event) {
        self.next_event += 1;
        self.events.insert((self.now + DELAY, self.next_event), event);
    }

    // ---- what tests say ----

    pub(crate) fn publish(
        &mut self,
        index: usize,
        items: Vec<Publication>,
    ) -> comity_overlay::PublishReport {
        match self.run_command(index, Command::Publish { items }) {
            Outcome::Published(report) => report,
            other => panic!("{other:?}"),
        }
    }

    /// Publishes digests with a beat that lives as long as a beat may.
    pub(crate) fn publish_alive(
        &mut self,
        index: usize,
        mut items: Vec<Publication>,
    ) -> comity_overlay::PublishReport {
        let beat = self.digest(index, 0, 0, BEAT_LIFETIME_MAX);
        items.push(Item { kind: ItemKind::Beat, ..beat }.publication(&[]));
        self.publish(index, items)
    }

    /// A digest of node `index` valid for `life`.
    pub(crate) fn digest(&self, index: usize, subject: u64, value: u64, life: Duration) -> Item {
        Item::digest(self.agent(index), subject, value, self.now, self.now + life)
    }

    pub(crate) fn agent(&self, index: usize) -> AgentId {
        self.nodes[index].overlay.me().agent
    }

    pub(crate) fn contact(&self, index: usize) -> Contact {
        let agent = self.agent(index);
        self.nodes[index].overlay.me().with_overlay_id(place(&agent))
    }

    pub(crate) fn find(&mut self, index: usize, labels: &[&str], least: u64) -> QueryReport {
        let keys = labels.iter().map(|label| GroupKey::of(label)).collect();
        self.query(index, vec![QueryStep { keys, complete: false }], least, 0)
    }

    /// Asks for digests that declare a number in this range.
    pub(crate) fn find_between(
        &mut self,
        index: usize,
        label: &str,
        range: std::ops::RangeInclusive<u64>,
    ) -> QueryReport {
        let bytes = [range.start().to_be_bytes(), range.end().to_be_bytes()].concat();
        let steps = vec![QueryStep { keys: vec![GroupKey::of(label)], complete: false }];
        self.ask(index, steps, bytes, 0)
    }

    /// What a member of the private group with this secret finds.
    pub(crate) fn find_veiled(
        &mut self,
        index: usize,
        label: &str,
        range: std::ops::RangeInclusive<u64>,
        secret: u8,
    ) -> QueryReport {
        let query = [range.start().to_be_bytes(), range.end().to_be_bytes()].concat();
        let steps = vec![QueryStep { keys: vec![GroupKey::of(label)], complete: true }];
        let secret = Some(GroupSecret::from_bytes([secret; 32]));
        let exclude = Vec::new();
        let query = Query { steps, query, want: 0, limit: 32, exclude, fresh: false, secret };
        match self.run_command(index, Command::Query(query)) {
            Outcome::Answers(report) => report,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn query(
        &mut self,
        index: usize,
        steps: Vec<QueryStep>,
        least: u64,
        want: usize,
    ) -> QueryReport {
        self.ask(index, steps, least.to_be_bytes().to_vec(), want)
    }

    fn ask(
        &mut self,
        index: usize,
        steps: Vec<QueryStep>,
        query: Vec<u8>,
        want: usize,
    ) -> QueryReport {
        let exclude = Vec::new();
        let query = Query { steps, query, want, limit: 32, exclude, fresh: false, secret: None };
        match self.run_command(index, Command::Query(query)) {
            Outcome::Answers(report) => report,
            other => panic!("{other:?}"),
        }
    }
}
