//! One iterative search over disjoint paths, as an iterator over whom to ask next.
//!
//! Each path walks towards the target on its own: a node asked by one path is taken for the others, so a liar can spoil only the path
//! that met it (Baumgart and Mies, "S/Kademlia", 2007). When the paths have ended, a last stage asks whoever is known, unasked and
//! belongs to the result: the `want` nearest, and for stores everyone inside the region. The result is never cut to `k` before
//! the region is applied (OVERLAY section 3.5).

use std::collections::{BTreeMap, BTreeSet};

use comity_core::{Distance, OverlayId};

use crate::config::{HOLDERS_MAX, K, LOOKUP_CANDIDATES_MAX, LOOKUP_REQUESTS_MAX};
use crate::contact::Contact;
use crate::shard::Region;

/// Unasked candidates one path remembers.
const PATH_CANDIDATES_MAX: usize = 128;
/// A region this many times smaller than expected that already holds `K` nodes has been crowded on purpose.
const DENSITY_DIVISOR: u32 = 3;
/// Requests after which the failure ratio says something.
const FAILING_SAMPLE_MIN: u32 = 4;

/// How wide and deep to search.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Breadth {
    /// Disjoint paths, at least 1.
    pub(crate) paths: usize,
    /// Nearest contacts each path follows.
    pub(crate) path_k: usize,
    /// Nearest nodes the result has, if there are as many.
    pub(crate) want: usize,
    /// Everyone inside belongs to the result too.
    pub(crate) region: Option<Region>,
    /// Requests in flight.
    pub(crate) alpha: usize,
    /// Requests in flight when most fail.
    pub(crate) alpha_failing: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Not asked.
    New,
    /// Asked, holds a slot.
    Waiting,
    /// Asked, slow, holds no slot.
    Slow,
    Answered,
    Failed,
}

#[derive(Clone, Debug)]
struct Node {
    contact: Contact,
    state: State,
    /// The path that asked it; meaningless while `New`.
    path: usize,
    /// Requests that led to it, itself included.
    hops: u32,
}

#[derive(Clone, Debug, Default)]
struct Path {
    candidates: BTreeSet<Distance>,
    /// Nodes it asked that hold a slot.
    waiting: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Paths,
    Completion,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Ask this contact.
    Ask(Contact),
    /// Answers are outstanding.
    Wait,
    /// Too few answered: give all the contacts there are with [`Lookup::widen`].
    Widen,
    /// Nothing more to ask.
    Done,
}

/// The search.
#[derive(Clone, Debug)]
pub(crate) struct Lookup {
    target: OverlayId,
    me: OverlayId,
    breadth: Breadth,
    nodes: BTreeMap<Distance, Node>,
    paths: Vec<Path>,
    stage: Stage,
    widened: bool,
    escalated: bool,
    stopped: bool,
    /// The path whose turn it is.
    turn: usize,
    pub(crate) sent: u32,
    pub(crate) failed: u32,
}

impl Lookup {
    /// A search for `target` by the node at `me`, starting from `seeds`.
    pub(crate) fn new(
        target: OverlayId,
        me: OverlayId,
        breadth: Breadth,
        seeds: Vec<Contact>,
    ) -> Self {
        let mut lookup = Self {
            target,
            me,
            breadth,
            nodes: BTreeMap::new(),
            paths: vec![Path::default(); breadth.paths.max(1)],
            stage: Stage::Paths,
            widened: false,
            escalated: false,
            stopped: false,
            turn: 0,
            sent: 0,
            failed: 0,
        };
        lookup.seed(seeds);
        lookup
    }

    pub(crate) const fn target(&self) -> &OverlayId {
        &self.target
    }

    /// Deals contacts out to the paths, nearest first, so that each path starts near.
    fn seed(&mut self, mut contacts: Vec<Contact>) {
        contacts.sort_by_key(|contact| contact.overlay_id.distance(&self.target));
        let mut path = 0;
        for contact in contacts {
            if self.learn(path, 1, contact) {
                path = (path + 1) % self.paths.len();
            }
        }
    }

    /// Gives the whole table to a search that found too little.
    pub(crate) fn widen(&mut self, contacts: Vec<Contact>) {
        self.widened = true;
        self.stage = Stage::Paths;
        self.seed(contacts);
    }

    /// Adds a candidate to a path. Returns whether it is new to the search.
    fn learn(&mut self, path: usize, hops: u32, contact: Contact) -> bool {
        if contact.overlay_id == self.me || contact.addrs.is_empty() || !contact.server {
            return false;
        }
        let distance = contact.overlay_id.distance(&self.target);
        let known = self.nodes.contains_key(&distance);
        if !known {
            if self.nodes.len() >= LOOKUP_CANDIDATES_MAX {
                return false;
            }
            self.nodes.insert(distance, Node { contact, state: State::New, path, hops });
        }
        let candidates = &mut self.paths[path].candidates;
        candidates.insert(distance);
        if candidates.len() > PATH_CANDIDATES_MAX {
            candidates.pop_last();
        }
        !known
    }

    /// Ends the search: what was wanted is found.
    pub(crate) const fn stop(&mut self) {
        self.stopped = true;
    }

    /// Whom to ask next.
    pub(crate) fn step(&mut self) -> Step {
        if self.stopped {
            return Step::Done;
        }
        let waiting = self.waiting();
        if self.sent >= LOOKUP_REQUESTS_MAX {
            return if waiting > 0 { Step::Wait } else { Step::Done };
        }
        if waiting >= self.width() {
            return Step::Wait;
        }
        if self.stage == Stage::Paths {
            if let Some(distance) = self.next_on_paths() {
                return self.ask(distance);
            }
            if waiting > 0 {
                return Step::Wait;
            }
            self.stage = Stage::Completion;
        }
        if let Some(distance) = self.next_in_completion() {
            return self.ask(distance);
        }
        if waiting > 0 || self.awaits_slow() {
            return Step::Wait;
        }
        self.end()
    }

    fn end(&mut self) -> Step {
        if self.is_crowded() && !self.escalated {
            self.escalated = true;
            self.breadth.path_k = self.breadth.path_k.max(K);
            self.stage = Stage::Paths;
            return self.step();
        }
        if !self.widened && self.answered() < self.breadth.want {
            return Step::Widen;
        }
        Step::Done
    }

    fn ask(&mut self, distance: Distance) -> Step {
        let turn = self.turn;
        let node = self.nodes.get_mut(&distance).expect("candidates are nodes");
        node.state = State::Waiting;
        node.path = turn;
        self.paths[turn].waiting += 1;
        self.sent += 1;
        self.turn = (turn + 1) % self.paths.len();
        Step::Ask(node.contact.clone())
    }

    /// The next candidate of the next path that has one and a free slot; leaves `turn` at that path.
    fn next_on_paths(&mut self) -> Option<Distance> {
        let slots = (self.width() / self.paths.len()).max(1);
        for offset in 0..self.paths.len() {
            let path = (self.turn + offset) % self.paths.len();
            if self.paths[path].waiting < slots
                && let Some(distance) = self.next_on(path)
            {
                self.turn = path;
                return Some(distance);
            }
        }
        None
    }

    fn next_on(&self, path: usize) -> Option<Distance> {
        let mut followed = 0;
        for distance in &self.paths[path].candidates {
            let node = &self.nodes[distance];
            match node.state {
                State::New => return Some(*distance),
                State::Waiting | State::Answered if node.path == path => followed += 1,
                State::Waiting | State::Answered | State::Slow | State::Failed => {}
            }
            if followed >= self.breadth.path_k {
                return None;
            }
        }
        None
    }

    fn next_in_completion(&self) -> Option<Distance> {
        let mut counted = 0;
        for (distance, node) in &self.nodes {
            if !self.belongs(counted, node) {
                return None;
            }
            match node.state {
                State::New => return Some(*distance),
                State::Waiting | State::Answered => counted += 1,
                State::Slow | State::Failed => {}
            }
        }
        None
    }

    /// Whether a node that `nearer` others precede belongs to the result.
    fn belongs(&self, nearer: usize, node: &Node) -> bool {
        let in_region = self
            .breadth
            .region
            .is_some_and(|region| region.contains(&self.target, &node.contact.overlay_id));
        nearer < self.breadth.want || (in_region && nearer < HOLDERS_MAX)
    }

    /// A slow node would be in the result if it answered still.
    fn awaits_slow(&self) -> bool {
        let mut counted = 0;
        for node in self.nodes.values() {
            if !self.belongs(counted, node) {
                return false;
            }
            match node.state {
                State::Slow => return true,
                State::Waiting | State::Answered => counted += 1,
                State::New | State::Failed => {}
            }
        }
        false
    }

    fn is_crowded(&self) -> bool {
        let Some(region) = self.breadth.region else { return false };
        let tight = region.divided(DENSITY_DIVISOR);
        let answered = self.nodes.values().filter(|node| node.state == State::Answered);
        answered
            .take(K)
            .filter(|node| tight.contains(&self.target, &node.contact.overlay_id))
            .count()
            == K
    }

    fn waiting(&self) -> usize {
        self.paths.iter().map(|path| path.waiting).sum()
    }

    fn width(&self) -> usize {
        let alpha = if self.is_failing() { self.breadth.alpha_failing } else { self.breadth.alpha };
        alpha.max(self.paths.len())
    }

    /// More than half of the requests failed.
    pub(crate) const fn is_failing(&self) -> bool {
        self.sent >= FAILING_SAMPLE_MIN && self.failed * 2 > self.sent
    }

    /// `id` answered and named `contacts`.
    pub(crate) fn on_success(&mut self, id: &OverlayId, contacts: Vec<Contact>) {
        let Some((path, hops)) = self.settle(id, State::Answered) else { return };
        for contact in contacts {
            self.learn(path, hops + 1, contact);
        }
    }

    /// `id` is slow: its slot goes to another, its answer still counts.
    pub(crate) fn on_slow(&mut self, id: &OverlayId) {
        if let Some(node) = self.nodes.get_mut(&id.distance(&self.target))
            && node.state == State::Waiting
        {
            node.state = State::Slow;
            self.paths[node.path].waiting -= 1;
        }
    }

    /// `id` did not answer.
    pub(crate) fn on_failure(&mut self, id: &OverlayId) {
        if self.settle(id, State::Failed).is_some() {
            self.failed += 1;
        }
    }

    fn settle(&mut self, id: &OverlayId, state: State) -> Option<(usize, u32)> {
        let node = self.nodes.get_mut(&id.distance(&self.target))?;
        if !matches!(node.state, State::Waiting | State::Slow) {
            return None;
        }
        if node.state == State::Waiting {
            self.paths[node.path].waiting -= 1;
        }
        node.state = state;
        Some((node.path, node.hops))
    }

    /// Number of nodes that answered.
    pub(crate) fn answered(&self) -> usize {
        self.nodes.values().filter(|node| node.state == State::Answered).count()
    }

    /// Longest chain of requests that led to an answer.
    pub(crate) fn hops(&self) -> u32 {
        let answered = self.nodes.values().filter(|node| node.state == State::Answered);
        answered.map(|node| node.hops).max().unwrap_or(0)
    }

    /// Nobody is left to ask: who answered is everyone.
    pub(crate) fn is_exhaustive(&self) -> bool {
        self.answered() < K
            && self.nodes.values().all(|node| matches!(node.state, State::Answered | State::Failed))
    }

    /// The result: who answered, nearest first; the `want` nearest and everyone in the region up to [`HOLDERS_MAX`].
    pub(crate) fn result(&self) -> Vec<Contact> {
        let answered = self.nodes.values().filter(|node| node.state == State::Answered);
        let belonging = answered.enumerate().take_while(|(rank, node)| self.belongs(*rank, node));
        belonging.map(|(_, node)| node.contact.clone()).collect()
    }
}

#[cfg(test)]
mod tests;
