//! The event loop of the baselines: hosts, messages in flight, timers.
//!
//! It is the loop of [`crate::world`] without the production machine: the same link model, the same bytes of framing, everything in the
//! order of (time, sequence number), all randomness from the seed. A design is one state for all its hosts, so that 190,000 of them
//! fit into little memory.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use comity_core::{Hash, Time};

use super::plan::Bad;
use crate::link::{Flight, Line, LinkModel};
use crate::random::{Random, micros};
use crate::world::{Counters, MESSAGE_OVERHEAD_BYTES};

const TRACE_CONTEXT: &str = "comity/sim/baseline/trace/v1";

/// Index of a host.
pub(super) type Ix = u32;

/// A design under test.
pub(super) trait Design {
    /// What its hosts send each other.
    type Message: Clone + std::fmt::Debug;
    /// What they remind themselves of.
    type Timer: Copy + std::fmt::Debug;
}

/// The loop for a design.
pub(super) type NetOf<D> = Net<<D as Design>::Message, <D as Design>::Timer>;

/// One host's end of the network.
#[derive(Clone, Debug)]
pub(super) struct Host {
    pub(super) line: Line,
    pub(super) up: bool,
    /// Its side of a partition.
    pub(super) side: bool,
    /// The rules it breaks.
    pub(super) bad: Option<Bad>,
    pub(super) incarnation: u32,
    /// Messages it sent, and their bytes, framing included.
    pub(super) sent: u64,
    pub(super) bytes_sent: u64,
    /// Requests that reached it.
    pub(super) served: u64,
    up_since: Time,
    up_before: Duration,
}

/// What happens next.
#[derive(Clone, Debug)]
pub(super) enum Event<M, T> {
    Arrive { to: Ix, from: Ix, message: M },
    Timer { host: Ix, incarnation: u32, timer: T },
}

#[derive(Debug)]
struct Scheduled<M, T> {
    at: Time,
    sequence: u64,
    event: Event<M, T>,
}

impl<M, T> PartialEq for Scheduled<M, T> {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.sequence) == (other.at, other.sequence)
    }
}

impl<M, T> Eq for Scheduled<M, T> {}

impl<M, T> PartialOrd for Scheduled<M, T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<M, T> Ord for Scheduled<M, T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.sequence).cmp(&(other.at, other.sequence))
    }
}

/// What is due, if it still concerns a running host.
#[derive(Debug)]
pub(super) enum Due<M, T> {
    Message { to: Ix, from: Ix, message: M },
    Timer { host: Ix, timer: T },
    Nothing,
}

/// All hosts and everything under way.
#[derive(Debug)]
pub(super) struct Net<M, T> {
    pub(super) hosts: Vec<Host>,
    pub(super) counters: Counters,
    /// Chance inside the design; what is asked and what fails has streams of its own.
    pub(super) random: Random,
    pub(super) link: LinkModel,
    pub(super) partitioned: bool,
    now: Time,
    queue: BinaryHeap<Reverse<Scheduled<M, T>>>,
    sequence: u64,
    trace: blake3::Hasher,
}

impl<M: Clone + std::fmt::Debug, T: Copy + std::fmt::Debug> Net<M, T> {
    pub(super) fn new(seed: u64, start: Time, link: LinkModel) -> Self {
        Self {
            hosts: Vec::new(),
            counters: Counters::default(),
            random: Random::new(seed, "baseline"),
            link,
            partitioned: false,
            now: start,
            queue: BinaryHeap::new(),
            sequence: 0,
            trace: blake3::Hasher::new_derive_key(TRACE_CONTEXT),
        }
    }

    pub(super) fn add_host(&mut self, line: Line, bad: Option<Bad>) -> Ix {
        let ix = to_ix(self.hosts.len());
        self.hosts.push(Host {
            line,
            up: true,
            side: false,
            bad,
            incarnation: 0,
            sent: 0,
            bytes_sent: 0,
            served: 0,
            up_since: self.now,
            up_before: Duration::ZERO,
        });
        ix
    }

    pub(super) fn host(&self, ix: Ix) -> &Host {
        &self.hosts[at(ix)]
    }

    pub(super) const fn now(&self) -> Time {
        self.now
    }

    /// Whether two hosts are on one side of the cut, if there is one.
    pub(super) fn reachable(&self, one: Ix, other: Ix) -> bool {
        !self.partitioned || self.host(one).side == self.host(other).side
    }

    /// Sends a message of `bytes`, framing not included.
    pub(super) fn send(&mut self, from: Ix, to: Ix, bytes: u64, message: M) {
        let framed = bytes + MESSAGE_OVERHEAD_BYTES;
        self.account(from, framed);
        if !self.reachable(from, to) {
            self.counters.cut += 1;
            return;
        }
        let (source, target) = (self.hosts[at(from)].line, self.hosts[at(to)].line);
        match self.link.fly(&mut self.random, &source, &target) {
            Flight::Lost => self.counters.lost += 1,
            Flight::Arrives { after, reordered, copy } => {
                self.counters.reordered += u64::from(reordered);
                let arrive = |message| Event::Arrive { to, from, message };
                if let Some(copy) = copy {
                    self.counters.duplicated += 1;
                    self.push(self.now + copy, arrive(message.clone()));
                }
                self.push(self.now + after, arrive(message));
            }
        }
    }

    /// Counts a message that changes nothing where it arrives, without carrying it there.
    pub(super) fn send_idle(&mut self, from: Ix, to: Ix, bytes: u64) {
        let framed = bytes + MESSAGE_OVERHEAD_BYTES;
        self.account(from, framed);
        if self.reachable(from, to) && self.host(to).up {
            self.hosts[at(to)].served += 1;
        }
    }

    fn account(&mut self, from: Ix, framed: u64) {
        self.counters.messages += 1;
        self.counters.bytes += framed;
        let host = &mut self.hosts[at(from)];
        host.sent += 1;
        host.bytes_sent += framed;
    }

    /// A request reached `host`.
    pub(super) fn serve(&mut self, host: Ix) {
        self.hosts[at(host)].served += 1;
    }

    /// Reminds `host` of `timer` unless it goes down before.
    pub(super) fn after(&mut self, host: Ix, delay: Duration, timer: T) {
        let incarnation = self.host(host).incarnation;
        self.push(self.now + delay, Event::Timer { host, incarnation, timer });
    }

    fn push(&mut self, due: Time, event: Event<M, T>) {
        self.sequence += 1;
        self.queue.push(Reverse(Scheduled { at: due, sequence: self.sequence, event }));
    }

    pub(super) fn next_due(&self) -> Option<Time> {
        self.queue.peek().map(|Reverse(scheduled)| scheduled.at)
    }

    pub(super) fn advance_to(&mut self, time: Time) {
        self.now = self.now.max(time);
    }

    /// Takes the next event.
    pub(super) fn step(&mut self) -> Due<M, T> {
        let Some(Reverse(Scheduled { at: due, event, .. })) = self.queue.pop() else {
            return Due::Nothing;
        };
        self.now = self.now.max(due);
        self.counters.events += 1;
        match event {
            Event::Arrive { to, from, message } => {
                if !self.host(to).up {
                    self.counters.to_dead += 1;
                    return Due::Nothing;
                }
                self.note(1, to, from, self.host(from).bytes_sent);
                Due::Message { to, from, message }
            }
            Event::Timer { host, incarnation, timer } => {
                let state = self.host(host);
                if !state.up || state.incarnation != incarnation {
                    return Due::Nothing;
                }
                self.note(2, host, host, 0);
                Due::Timer { host, timer }
            }
        }
    }

    /// Adds an event to the trace.
    pub(super) fn note(&mut self, tag: u8, one: Ix, other: Ix, number: u64) {
        let mut record = [0; 25];
        record[0] = tag;
        record[1..9].copy_from_slice(&self.now.as_micros().to_be_bytes());
        record[9..13].copy_from_slice(&one.to_be_bytes());
        record[13..17].copy_from_slice(&other.to_be_bytes());
        record[17..].copy_from_slice(&number.to_be_bytes());
        self.trace.update(&record);
    }

    pub(super) fn trace_hash(&self) -> Hash {
        Hash(*self.trace.finalize().as_bytes())
    }

    pub(super) fn crash(&mut self, ix: Ix) {
        let now = self.now;
        let host = &mut self.hosts[at(ix)];
        if host.up {
            host.up = false;
            host.incarnation += 1;
            host.up_before += now.saturating_since(host.up_since);
            self.counters.crashes += 1;
        }
    }

    pub(super) fn restart(&mut self, ix: Ix) {
        let now = self.now;
        let host = &mut self.hosts[at(ix)];
        if !host.up {
            host.up = true;
            host.up_since = now;
            self.counters.restarts += 1;
        }
    }

    /// Time all hosts together were up, in microseconds.
    pub(super) fn up_micros(&self) -> u64 {
        let running = |host: &Host| {
            if host.up { self.now.saturating_since(host.up_since) } else { Duration::ZERO }
        };
        self.hosts.iter().map(|host| micros(host.up_before + running(host))).sum()
    }

    /// The colluders: all hosts that break rules.
    pub(super) fn is_bad(&self, ix: Ix) -> bool {
        self.host(ix).bad.is_some()
    }
}

/// A host's place in a list.
pub(super) const fn at(ix: Ix) -> usize {
    ix as usize
}

/// The index of a place in a list.
///
/// # Panics
/// Beyond four billion, which no scenario reaches.
pub(super) fn to_ix(place: usize) -> Ix {
    Ix::try_from(place).expect("fewer than 2^32 of anything")
}
