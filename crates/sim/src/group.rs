//! A group that tells itself everything: [`comity_overlay::gossip::Group`] of every node over the same links as the overlay.
//!
//! Chosen by `protocol = "group"`. Every node is a member and joins through members that are there, `start.over` long; broadcasts of
//! [`PAYLOAD_BYTES`] come from random members, `measure.queries` in each phase. Of the faults, `kill` strikes: who is killed says
//! nothing any more, and others find out by its silence.
//!
//! In the report, a broadcast is a *query*: it succeeds when every member that runs has it [`HEARD_WITHIN`] later, takes until
//! the last has it, and costs the bytes that it made the members send, divided by their number, framing of [`MESSAGE_OVERHEAD_BYTES`]
//! a message included. One member hearing of one broadcast is a *find*. Recall is the share of the latter that succeed.
//!
//! Limits: a message that the link loses is lost, where a node would send it again over its session; connections cost nothing.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

use comity_core::{Hash, Time};
use comity_overlay::Cost;
use comity_overlay::gossip::{BroadcastId, Group, GroupAction, GroupMessage};

use crate::link::{Flight, Line};
use crate::random::{PPM_ONE, Random, derive};
use crate::report::{Mark, PhaseBuilder, REPORT_FORMAT, Report, Values, float};
use crate::run::Progress;
use crate::scenario::{EPOCH, Fault, Scenario, Start};
use crate::world::{Counters, MESSAGE_OVERHEAD_BYTES};

/// Bytes of a broadcast: a digest's item, as in OVERLAY.md section 3.8.
pub const PAYLOAD_BYTES: usize = 300;
/// How long everyone has to hear of a broadcast.
pub const HEARD_WITHIN: Duration = Duration::from_secs(30);

/// Bytes by which messages name a member: its key.
const NAME_BYTES: usize = 32;
/// Members that a newcomer is told.
const CONTACTS: usize = 3;
/// Time between the last join and the first broadcast: a few shuffles.
const SETTLE: Duration = Duration::from_secs(120);
/// How many times a run tells how far it is.
const PROGRESS_STEPS: u32 = 200;
const TRACE_CONTEXT: &str = "comity/sim/group/trace/v1";

#[derive(Debug)]
struct Member {
    group: Option<Group<u32>>,
    line: Line,
    wake: Option<Time>,
    bytes_sent: u64,
    messages_sent: u64,
}

#[derive(Debug)]
enum Event {
    Arrive { from: u32, to: u32, message: GroupMessage<u32> },
    Wake(u32),
    Join(u32),
    Broadcast { phase: usize },
    Judge(BroadcastId),
    Strike(u32),
    PhaseBegins(usize),
    PhaseEnds(usize),
}

#[derive(Debug)]
struct Due {
    at: Time,
    order: u64,
    event: Event,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

/// One broadcast on its way.
#[derive(Debug)]
struct Told {
    phase: usize,
    from: u32,
    at: Time,
    /// When each heard of it, and over how many others.
    heard: BTreeMap<u32, (Time, u8)>,
    /// Bytes and messages that were sent for it.
    bytes: u64,
    messages: u64,
}

struct Runner<'a> {
    scenario: &'a Scenario,
    now: Time,
    members: Vec<Member>,
    queue: BinaryHeap<Reverse<Due>>,
    order: u64,
    told: BTreeMap<BroadcastId, Told>,
    count: u64,
    phases: Vec<PhaseBuilder>,
    starts: Vec<(u64, u64)>,
    marks: Vec<Mark>,
    counters: Counters,
    links: Random,
    chance: Random,
    fate: Random,
    trace: blake3::Hasher,
}

/// Runs `scenario` with a group of all nodes. Its demands are not checked: they are demands on the directory.
#[must_use]
pub fn run_with(scenario: &Scenario, progress: &mut dyn FnMut(Progress)) -> Report {
    let stream = |purpose| Random::new(scenario.seed, purpose);
    let mut runner = Runner {
        scenario,
        now: EPOCH,
        members: Vec::new(),
        queue: BinaryHeap::new(),
        order: 0,
        told: BTreeMap::new(),
        count: 0,
        phases: Vec::new(),
        starts: Vec::new(),
        marks: Vec::new(),
        counters: Counters::default(),
        links: stream("group links"),
        chance: stream("group chance"),
        fate: stream("fate"),
        trace: blake3::Hasher::new_derive_key(TRACE_CONTEXT),
    };
    let end = runner.plan();
    let total = end.saturating_since(EPOCH);
    for part in 1..=PROGRESS_STEPS {
        let done = if part == PROGRESS_STEPS { total } else { total / PROGRESS_STEPS * part };
        runner.run_until(EPOCH + done);
        let (events, nodes) = (runner.counters.events, runner.members.len());
        progress(Progress { done, total, events, nodes });
    }
    runner.report()
}

impl Runner<'_> {
    fn at(&mut self, at: Time, event: Event) {
        self.order += 1;
        self.queue.push(Reverse(Due { at, order: self.order, event }));
    }

    fn plan(&mut self) -> Time {
        let mut birth = Random::new(self.scenario.seed, "birth");
        let over = match self.scenario.start {
            Start::Joined { over } => over,
            Start::Built | Start::Settled => Duration::from_secs(60),
        };
        let count = u32::try_from(self.scenario.nodes).unwrap_or(u32::MAX).max(1);
        for ix in 0..count {
            let line = self.scenario.link.draw_line(&mut birth);
            let member = Member { group: None, line, wake: None, bytes_sent: 0, messages_sent: 0 };
            self.members.push(member);
            self.at(EPOCH + over * ix / count, Event::Join(ix));
        }
        let mut end = self.plan_phase("before", EPOCH + over + SETTLE);
        if self.scenario.faults.is_empty() {
            return end;
        }
        let began = end;
        for fault in self.scenario.faults.clone() {
            if let Fault::Kill { share, at } = fault {
                self.at(began + at, Event::Strike(share));
            }
        }
        let measured = self.plan_phase("during", began + self.scenario.measure_at);
        let healed = measured.max(began + self.scenario.fault_phase);
        end = self.plan_phase("after", healed + self.scenario.settle);
        end
    }

    fn plan_phase(&mut self, label: &'static str, begin: Time) -> Time {
        let phase = self.phases.len();
        self.phases.push(PhaseBuilder::new(label));
        self.starts.push((0, 0));
        let window = self.scenario.measure.window_of(label);
        self.at(begin, Event::PhaseBegins(phase));
        for _ in 0..self.scenario.measure.queries {
            let at = begin + self.chance.within(window);
            self.at(at, Event::Broadcast { phase });
        }
        let end = begin + window + HEARD_WITHIN;
        self.at(end, Event::PhaseEnds(phase));
        end
    }

    fn run_until(&mut self, end: Time) {
        while self.queue.peek().is_some_and(|Reverse(due)| due.at <= end) {
            let Some(Reverse(Due { at, event, .. })) = self.queue.pop() else { break };
            self.now = at;
            self.counters.events += 1;
            self.happen(event);
        }
        self.now = end;
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrive { from, to, message } => self.arrive(from, to, message),
            Event::Wake(ix) => {
                let (now, member) = (self.now, &mut self.members[ix as usize]);
                if member.wake == Some(now) {
                    member.wake = None;
                    if let Some(group) = &mut member.group {
                        group.timeout(now);
                    }
                    self.drain(ix);
                }
            }
            Event::Join(ix) => self.join(ix),
            Event::Broadcast { phase } => self.broadcast(phase),
            Event::Judge(id) => self.judge(id),
            Event::Strike(share) => self.strike(share),
            Event::PhaseBegins(phase) => {
                self.phases[phase].done.begin_seconds = self.seconds();
                self.starts[phase] = (self.counters.bytes, self.counters.messages);
            }
            Event::PhaseEnds(phase) => self.phase_ends(phase),
        }
    }

    fn arrive(&mut self, from: u32, to: u32, message: GroupMessage<u32>) {
        let now = self.now;
        self.note(1, from, to);
        let Some(group) = &mut self.members[to as usize].group else {
            self.counters.to_dead += 1;
            return;
        };
        group.receive(now, from, message, &mut |payload| payload.len() == PAYLOAD_BYTES);
        self.drain(to);
    }

    /// Carries out what a member wants, and sees to its being woken.
    fn drain(&mut self, ix: u32) {
        while let Some(action) =
            self.members[ix as usize].group.as_mut().and_then(Group::poll_action)
        {
            match action {
                GroupAction::Send { to, message } => self.send(ix, to, message),
                GroupAction::Deliver { id, hops, .. } => {
                    let now = self.now;
                    if let Some(told) = self.told.get_mut(&id) {
                        told.heard.entry(ix).or_insert((now, hops));
                    }
                }
                GroupAction::Alone => {
                    let contacts = self.some_up(ix);
                    let now = self.now;
                    if let Some(group) = &mut self.members[ix as usize].group {
                        group.join(now, &contacts);
                    }
                }
            }
        }
        let member = &mut self.members[ix as usize];
        let due = member.group.as_ref().and_then(Group::poll_timeout);
        if let Some(due) = due.filter(|due| member.wake.is_none_or(|wake| *due < wake)) {
            let due = due.max(self.now);
            member.wake = Some(due);
            self.at(due, Event::Wake(ix));
        }
    }

    fn send(&mut self, from: u32, to: u32, message: GroupMessage<u32>) {
        let bytes = message.encoded_len(NAME_BYTES) as u64 + MESSAGE_OVERHEAD_BYTES;
        let sender = &mut self.members[from as usize];
        sender.bytes_sent += bytes;
        sender.messages_sent += 1;
        self.counters.bytes += bytes;
        self.counters.messages += 1;
        let about = message.about();
        for id in &about {
            if let Some(told) = self.told.get_mut(id) {
                told.bytes += bytes / about.len() as u64;
                told.messages += 1;
            }
        }
        let lines = (self.members[from as usize].line, self.members[to as usize].line);
        match self.scenario.link.fly(&mut self.links, &lines.0, &lines.1) {
            Flight::Lost => self.counters.lost += 1,
            Flight::Arrives { after, copy, .. } => {
                if let Some(copy) = copy {
                    self.counters.duplicated += 1;
                    let message = message.clone();
                    self.at(self.now + copy, Event::Arrive { from, to, message });
                }
                self.at(self.now + after, Event::Arrive { from, to, message });
            }
        }
    }

    fn join(&mut self, ix: u32) {
        let contacts = self.some_up(ix);
        let seed = derive(self.scenario.seed, "member", u64::from(ix));
        let mut group = Group::new(ix, seed, self.now);
        group.join(self.now, &contacts);
        self.members[ix as usize].group = Some(group);
        self.drain(ix);
    }

    /// Some members that run, as the directory would name them.
    fn some_up(&mut self, except: u32) -> Vec<u32> {
        let mut up = self.up();
        up.retain(|ix| *ix != except);
        let draws = CONTACTS.min(up.len());
        (0..draws).map(|_| up.swap_remove(self.chance.index(up.len()))).collect()
    }

    fn up(&self) -> Vec<u32> {
        let up = (0..).zip(&self.members).filter(|(_, member)| member.group.is_some());
        up.map(|(ix, _)| ix).collect()
    }

    fn strike(&mut self, share: u32) {
        let mut up = self.up();
        self.fate.shuffle(&mut up);
        let victims = up.len() as u64 * u64::from(share) / u64::from(PPM_ONE);
        for ix in up.into_iter().take(usize::try_from(victims).unwrap_or(usize::MAX)) {
            self.members[ix as usize].group = None;
            self.counters.crashes += 1;
        }
        self.marks.push(Mark { at_seconds: self.seconds(), label: "kill".to_owned() });
    }

    fn broadcast(&mut self, phase: usize) {
        let up = self.up();
        let Some(from) = self.chance.pick(&up).copied() else { return };
        self.count += 1;
        let mut payload = vec![0; PAYLOAD_BYTES];
        payload[..8].copy_from_slice(&self.count.to_be_bytes());
        let id = BroadcastId::of(&payload);
        let (at, heard) = (self.now, BTreeMap::new());
        self.told.insert(id, Told { phase, from, at, heard, bytes: 0, messages: 0 });
        if let Some(group) = &mut self.members[from as usize].group {
            // It is as long as it may be, by definition.
            let _id = group.broadcast(at, payload);
        }
        self.phases[phase].queries.started += 1;
        self.drain(from);
        self.at(at + HEARD_WITHIN, Event::Judge(id));
    }

    fn judge(&mut self, id: BroadcastId) {
        let Some(told) = self.told.remove(&id) else { return };
        let listeners: Vec<_> = self.up().into_iter().filter(|ix| *ix != told.from).collect();
        let builder = &mut self.phases[told.phase];
        let (mut last, mut found, mut most) = (Duration::ZERO, 0_u64, 0);
        for ix in &listeners {
            let heard = told.heard.get(ix);
            let elapsed = heard.map_or(HEARD_WITHIN, |(at, _)| at.saturating_since(told.at));
            let hops = heard.map_or(0, |(_, hops)| u32::from(*hops));
            builder.finds.started += 1;
            builder.finds.add(Cost { elapsed, hops, ..Cost::default() }, heard.is_some());
            last = last.max(elapsed);
            most = most.max(hops);
            found += u64::from(heard.is_some());
        }
        let wanted = listeners.len() as u64;
        builder.done.recall.add(found, wanted);
        let each = told.bytes / (wanted + 1);
        let requests = u32::try_from(told.messages / (wanted + 1)).unwrap_or(u32::MAX);
        let cost =
            Cost { elapsed: last, hops: most, requests, bytes_sent: each, ..Cost::default() };
        builder.queries.add(cost, found == wanted);
    }

    fn phase_ends(&mut self, phase: usize) {
        let live = self.up().len() as u64;
        let (bytes, messages) = self.starts[phase];
        let end = self.seconds();
        let done = &mut self.phases[phase].done;
        (done.end_seconds, done.live_nodes) = (end, live);
        let seconds = (end - done.begin_seconds).max(f64::MIN_POSITIVE);
        let of = |total: u64| [total / live.max(1)].into_iter().collect::<Values>().spread(seconds);
        done.sent_per_second = of(self.counters.bytes - bytes);
        done.messages_per_second = of(self.counters.messages - messages);
        done.upkeep_per_second = done.sent_per_second.mean;
    }

    fn seconds(&self) -> f64 {
        float(crate::random::micros(self.now.saturating_since(EPOCH))) / 1e6
    }

    fn note(&mut self, tag: u8, from: u32, to: u32) {
        self.trace.update(&[tag]);
        self.trace.update(&self.now.as_micros().to_be_bytes());
        self.trace.update(&from.to_be_bytes());
        self.trace.update(&to.to_be_bytes());
        self.trace.update(&self.members[from as usize].bytes_sent.to_be_bytes());
    }

    fn report(self) -> Report {
        Report {
            format: REPORT_FORMAT,
            scenario: self.scenario.clone(),
            repeat: self.scenario.repeat(),
            virtual_seconds: self.seconds(),
            trace: Hash(*self.trace.finalize().as_bytes()).to_string(),
            counters: self.counters,
            phases: self.phases.iter().map(PhaseBuilder::finish).collect(),
            marks: self.marks,
            ..Report::default()
        }
    }
}
