//! A node that is late itself does not take that for its peers' silence; one that is on time loses nothing of its judgement.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use comity_core::{AgentId, OverlayId, Time};
use comity_overlay::{
    Action, Command, Config, Errand, Failure, Outcome, Overlay, Request, RequestId, Response, Stats,
};
use proptest::prelude::*;

use crate::fake::{Fake, agent, contact};
use crate::net::START;

const PEERS: usize = 40;
const ROUND_TRIP: Duration = Duration::from_millis(40);
const SECOND: Duration = Duration::from_secs(1);

/// One node among peers that answer at once, or never, in a process that stands still now and then.
struct Lone {
    overlay: Overlay,
    services: Fake,
    now: Time,
    silent: BTreeSet<AgentId>,
    /// Answers and when they arrive.
    answers: BTreeMap<(Time, RequestId), (AgentId, Response)>,
    sent: BTreeMap<RequestId, (Time, AgentId)>,
    outcomes: Vec<Outcome>,
    commands: usize,
    /// Requests that no lookup asked for.
    recovering: usize,
}

impl Lone {
    fn new() -> Self {
        let mut overlay = Overlay::new(Config::default(), contact(0), [1; 32], START);
        overlay.preload_peers(START, (1..=PEERS).map(contact));
        Self {
            overlay,
            services: Fake::default(),
            now: START,
            silent: BTreeSet::new(),
            answers: BTreeMap::new(),
            sent: BTreeMap::new(),
            outcomes: Vec::new(),
            commands: 0,
            recovering: 0,
        }
    }

    fn silence(&mut self, peers: impl Iterator<Item = usize>) {
        self.silent.extend(peers.map(agent));
    }

    fn drain(&mut self) {
        while let Some(action) = self.overlay.poll_action() {
            match action {
                Action::Send { to, id, request, errand } => {
                    self.recovering += usize::from(errand != Errand::Find);
                    self.sent.insert(id, (self.now, to.agent));
                    if !self.silent.contains(&to.agent) {
                        let response = match request {
                            Request::FindNode { .. } => Response::Nodes { contacts: Vec::new() },
                            _ => Response::Pong,
                        };
                        self.answers.insert((self.now + ROUND_TRIP, id), (to.agent, response));
                    }
                }
                Action::Done { outcome, .. } => self.outcomes.push(outcome),
                _ => {}
            }
        }
    }

    fn look_up(&mut self) {
        self.commands += 1;
        let mut target = [0; 32];
        target[..8].copy_from_slice(
            &(self.commands as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes(),
        );
        let command = Command::Lookup { target: OverlayId(target) };
        self.overlay.command(self.now, &mut self.services, command);
        self.drain();
    }

    /// Handles what arrived and fell due until `until`, in order, as of `at`: the time itself, or when the process runs again.
    fn handle(&mut self, until: Time, at: Option<Time>) {
        loop {
            let answer = self.answers.first_key_value().map(|((due, _), _)| *due);
            let timer = self.overlay.poll_timeout().map(|(due, _)| due);
            let Some(next) = answer.into_iter().chain(timer).min().filter(|due| *due <= until)
            else {
                break;
            };
            self.now = self.now.max(at.unwrap_or(next));
            if answer == Some(next) {
                let ((_, id), (from, response)) = self.answers.pop_first().unwrap();
                self.overlay.response(self.now, &mut self.services, &from, id, response);
            } else {
                self.overlay.timeout(self.now);
            }
            self.drain();
        }
        self.now = self.now.max(at.unwrap_or(until));
    }

    fn run_for(&mut self, length: Duration) {
        self.handle(self.now + length, None);
    }

    /// The process gets no processor for so long, and handles everything then.
    fn stand_still(&mut self, length: Duration) {
        let end = self.now + length;
        self.handle(end, Some(end));
    }

    fn known(&self) -> BTreeSet<AgentId> {
        self.overlay.table().entries().map(|entry| entry.contact.agent).collect()
    }

    fn peers(&self) -> usize {
        self.overlay.table().len()
    }

    fn stats(&self) -> Stats {
        self.overlay.stats()
    }
}

#[test]
fn who_stands_still_forgets_nobody() {
    for (blocked, runs) in [(8_000, 1_000), (2_000, 250), (500, 200), (32_000, 60)] {
        let (blocked, runs) = (Duration::from_millis(blocked), Duration::from_millis(runs));
        let mut node = Lone::new();
        let known = node.peers();
        for _ in 0..60 {
            node.look_up();
            node.run_for(runs);
            node.look_up();
            node.stand_still(blocked);
        }
        let stats = node.stats();
        assert_eq!(node.peers(), known, "{blocked:?}, {runs:?}: {stats:?}");
        assert_eq!(stats.mass_failures, 0);
        assert!(stats.stalls >= 50, "{stats:?}");
    }
}

#[test]
fn answers_that_wait_are_heard_after_the_timers() {
    let mut node = Lone::new();
    node.look_up();
    let asked = node.stats().requests_in_flight;
    assert!(asked > 0);
    // The machine is told of its timers before it is given the answers.
    node.now += 10 * SECOND;
    node.overlay.timeout(node.now);
    node.drain();
    node.run_for(SECOND);
    let stats = node.stats();
    assert_eq!((stats.requests_failed, stats.requests_in_flight), (0, 0), "{stats:?}");
    assert!(
        matches!(node.outcomes[..], [Outcome::Closest(ref report)] if report.cost.failures == 0)
    );
    // The stall is no round trip.
    assert!(stats.rtt < SECOND, "{stats:?}");
}

#[test]
fn a_link_that_breaks_while_the_node_stands_still_says_nothing_about_the_peer() {
    let mut node = Lone::new();
    node.silence(1..=PEERS);
    node.look_up();
    let requests: Vec<_> = node.sent.keys().copied().collect();
    node.now += 10 * SECOND;
    for id in requests {
        node.overlay.failed(node.now, id, Failure::Closed);
        node.drain();
    }
    let stats = node.stats();
    assert_eq!(stats.requests_unproven, stats.requests_failed);
    assert!(stats.requests_unproven > 0);
    let strikes = node.overlay.table().entries().filter(|entry| entry.strikes() > 0).count();
    assert_eq!(strikes, 0);
}

#[test]
fn who_is_on_time_notices_that_everybody_went() {
    let mut node = Lone::new();
    node.silence(1..=PEERS);
    for _ in 0..20 {
        node.look_up();
        node.run_for(SECOND);
    }
    node.run_for(60 * SECOND);
    let stats = node.stats();
    assert_eq!((node.peers(), stats.stalls, stats.requests_unproven), (0, 0, 0), "{stats:?}");
    assert_eq!(stats.mass_failures, 1);
}

#[test]
fn who_is_late_now_and_then_still_forgets_those_that_went() {
    let mut node = Lone::new();
    node.silence(1..=PEERS / 2);
    for _ in 0..60 {
        node.look_up();
        node.run_for(4 * SECOND);
        node.look_up();
        node.stand_still(SECOND / 2);
    }
    assert!(node.known().is_disjoint(&node.silent), "{:?}", node.stats());
    assert!(node.stats().stalls > 30);
}

#[test]
fn who_was_late_for_long_recovers_more_slowly() {
    let recovering = |blocked: Duration| {
        let mut node = Lone::new();
        node.stand_still(blocked);
        // What was due meanwhile is done first.
        node.run_for(5 * SECOND);
        let before = node.recovering;
        node.silence(1..=PEERS * 3 / 4);
        for _ in 0..12 {
            node.look_up();
            node.run_for(SECOND);
        }
        assert_eq!((node.stats().mass_failures, node.stats().requests_unproven), (1, 0));
        node.recovering - before
    };
    let (healthy, late) = (recovering(Duration::ZERO), recovering(300 * SECOND));
    assert!(late * 3 < healthy * 2, "{late} requests, {healthy} by a node that was not late");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// However a node is blocked: requests end within bounded time, commands end once, and answered peers are not forgotten.
    #[test]
    fn requests_end_however_late_the_node_is(
        turns in proptest::collection::vec((0_u64..3_000, 0_u64..20_000), 1..40),
        silent in 0..PEERS,
    ) {
        let mut node = Lone::new();
        let before = node.known();
        node.silence(1..=silent);
        for (runs, blocked) in turns {
            node.look_up();
            node.run_for(Duration::from_millis(runs));
            node.stand_still(Duration::from_millis(blocked));
        }
        // Two graces of a time-out each, then everything that was asked has failed or been answered.
        let config = Config::default();
        node.run_for(config.hard_timeout * 3);
        prop_assert!(node.outcomes.len() <= node.commands);
        node.run_for(config.lookup_deadline + config.hard_timeout * 3);
        prop_assert_eq!(node.outcomes.len(), node.commands);
        let known = node.known();
        let young = |sent: &&(Time, AgentId)| node.now.saturating_since(sent.0) < config.hard_timeout * 3;
        let young = node.sent.values().filter(young).count();
        prop_assert!(node.stats().requests_in_flight <= young);
        for peer in (silent + 1..=PEERS).map(agent).filter(|peer| before.contains(peer)) {
            prop_assert!(known.contains(&peer), "a peer that answers was forgotten");
        }
    }

    /// Where no call is late the machine does what it did: its answers do not depend on how often it is called.
    #[test]
    fn a_node_that_is_on_time_is_never_late(runs in proptest::collection::vec(1_u64..5_000, 1..40)) {
        let mut node = Lone::new();
        node.silence(1..=PEERS / 3);
        for length in runs {
            node.look_up();
            node.run_for(Duration::from_millis(length));
        }
        let stats = node.stats();
        prop_assert_eq!((stats.stalls, stats.late, stats.requests_unproven), (0, Duration::ZERO, 0));
    }
}
