//! One iterative search over disjoint paths, as an iterator over whom to ask next.
//!
//! Each path walks towards the target on its own: a node asked by one path is taken for the others, so a liar can spoil only the path
//! that met it (Baumgart and Mies, "S/Kademlia", 2007), and each path has a budget of its own. When the paths have ended, a last
//! stage asks whoever is known, unasked and belongs to the result: the `want` nearest, and everyone inside the region. The result
//! is never cut to `k` before the region is applied (OVERLAY section 3.5).
//!
//! A search escalates when its owner misses something, or when nodes crowd around the target as nobody expects by chance: more and
//! wider paths first ([`Level::Deep`]), then lookups of their own into the sibling subtrees of the target within twice the region
//! ([`Level::Swept`]). Someone who mints ids next to a key fills the node lists that lead there; the lists that lead
//! into the siblings, where most custodians are, stay as they were.

mod near;

use comity_core::{Distance, OverlayId};

use crate::config::{
    HOLDERS_MAX, K, LOOKUP_CANDIDATES_MAX, LOOKUP_REQUESTS_ESCALATED_MAX, LOOKUP_REQUESTS_MAX,
};
use crate::contact::Contact;
use crate::shard::Region;
use crate::wire::{KNOWN_NODES_MAX, Known};

use near::{Near, Slot, Subset};

/// Candidates one path remembers: more than the ids an attacker is expected to mint around one key.
const PATH_CANDIDATES_MAX: usize = 512;
/// A region this many times smaller that already holds more nodes than the whole should has been crowded on purpose. With ten
/// nodes expected in the whole, chance puts twelve there once in 5,000 times (Poisson), and once in 300 when the size
/// of the network reads three quarters of what it is.
const DENSITY_DIVISOR: u32 = 3;
/// The share of the expected nodes that is too many there.
const DENSITY_TIGHT_PERCENT: usize = 120;
/// So has a region that holds this many times the nodes expected in it: once in 100,000 with ten expected.
const DENSITY_FACTOR: usize = 5;
const DENSITY_FACTOR_DIVISOR: usize = 2;
/// Paths of an escalated search.
const DEEP_PATHS: usize = 16;
/// Sibling subtrees that are searched, the widest first: each holds half of what the one before does.
pub(crate) const SWEEPS: u32 = 5;
/// How much wider the region of a swept search is: the network may be half as large as estimated.
const SWEPT_REGION_FACTOR: u32 = 2;
/// Requests after which the failure ratio says something.
const FAILING_SAMPLE_MIN: u32 = 4;
/// Requests in flight at most, however many fail: when nine of ten nodes are gone, three of thirty answer.
const WIDTH_MAX: usize = 32;
/// Requests that a path may have in flight beyond its share, one for each in a row that was not answered in time.
const PATH_EXTRA_MAX: usize = 7;
/// Nodes nearest to a place that must be heard after many went at once. The nearest would do; one of them may lie, and not all publishers
/// see the same region.
const OLDEST: usize = 2;
/// Nodes nearest to a random target that have to answer before the names around it count as a sample of the network's size.
const SAMPLE_ANSWERED: usize = 5;

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
    /// Nodes expected inside the region, the measure of a crowd.
    pub(crate) expected: usize,
    /// Nodes that were only named are part of a crowd. Not after many went at once: their names are told for a while.
    pub(crate) trust_names: bool,
    /// Many nodes went of late, and the region has grown since: see [`Oldest`].
    pub(crate) grown: bool,
    /// Requests in flight.
    pub(crate) alpha: usize,
    /// Requests in flight when most fail, at least.
    pub(crate) alpha_failing: usize,
    /// Most requests failed of late, to whomever.
    pub(crate) failing: bool,
    /// The own node gets behind with what it does: no more requests in flight than when all are answered.
    pub(crate) strained: bool,
    /// The first so many seeds are asked at once and heard before anybody else is asked: they are known to lie at the target.
    pub(crate) first: usize,
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
    /// The paths that know it, a bit each.
    known_to: u64,
}

#[derive(Clone, Debug, Default)]
struct Path {
    candidates: Subset,
    /// Nodes it asked that hold a slot.
    waiting: usize,
    /// Nodes it asked.
    asked: u32,
    /// Nodes it asked in a row that did not answer in the time most answers take.
    silent: usize,
}

impl Path {
    /// Slots it has beyond its share: names of nodes that went together come together, and most often to one path alone.
    fn extra(&self) -> usize {
        self.silent.min(PATH_EXTRA_MAX)
    }
}

/// How much a search has been widened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Normal,
    /// More paths, wider ones, from the whole table.
    Deep,
    /// Sibling subtrees are being searched, or have been.
    Swept,
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
    /// Search the sibling subtrees of the target and give who answered there with [`Lookup::swept`].
    Sweep(Vec<Sweep>),
    /// Nothing more to ask.
    Done,
}

/// What a search knows of the nodes around its target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Surroundings {
    /// More than chance puts there.
    pub(crate) crowded: bool,
    /// Nodes within the region that did not answer; while most requests fail, not in the time most answers take.
    pub(crate) silent: usize,
    /// Everyone known inside the region answered or did not, and so did three quarters of the nodes expected within twice the
    /// region: nobody is left that could know more.
    pub(crate) exhausted: bool,
    /// Whether those who have kept the place longest were heard.
    pub(crate) oldest: Oldest,
}

/// Those who have kept a place longest, after many nodes went at once: when the network shrinks, the region grows around those who were
/// in it. If anybody is left who kept the place before, the nearest is; the others keep only what was stored since.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Oldest {
    /// Nothing of that kind happened of late, or too few are known: custodians are alike.
    #[default]
    Alike,
    /// Not all of them were heard.
    Unheard,
    /// The nearest of those that are left were.
    Heard,
}

/// A subtree to search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sweep {
    /// Leading bits that its nodes share with the target; the next bit differs.
    pub(crate) bits: u32,
    /// The distance from any place in it to everyone in it.
    pub(crate) region: Region,
}

/// The search.
#[derive(Clone, Debug)]
pub(crate) struct Lookup {
    target: OverlayId,
    me: OverlayId,
    breadth: Breadth,
    nodes: Near<Node>,
    paths: Vec<Path>,
    stage: Stage,
    widened: bool,
    /// The whole table is wanted.
    seeds_wanted: bool,
    level: Level,
    /// Sweeps to begin, and those that have not ended.
    sweeps_wanted: bool,
    sweeping: usize,
    stopped: bool,
    /// The path whose turn it is.
    turn: usize,
    /// Asked before anybody else.
    first: Vec<Distance>,
    pub(crate) sent: u32,
    pub(crate) failed: u32,
    /// Those that answered, and those that are slow to.
    heard: u32,
    slow: u32,
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
            nodes: Near::new(),
            paths: vec![Path::default(); breadth.paths.max(1)],
            stage: Stage::Paths,
            widened: false,
            seeds_wanted: false,
            level: Level::Normal,
            sweeps_wanted: false,
            sweeping: 0,
            stopped: false,
            turn: 0,
            first: Vec::new(),
            sent: 0,
            failed: 0,
            heard: 0,
            slow: 0,
        };
        let first = seeds.iter().take(breadth.first);
        lookup.first = first.map(|seed| seed.overlay_id.distance(&target)).collect();
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
        self.seeds_wanted = false;
        self.stage = Stage::Paths;
        self.seed(contacts);
    }

    /// Widens the search by one level. Returns whether there was one left.
    pub(crate) fn escalate(&mut self) -> bool {
        match self.level {
            Level::Normal => {
                self.level = Level::Deep;
                self.breadth.path_k = self.breadth.path_k.max(K);
                let paths = self.breadth.paths.max(DEEP_PATHS);
                self.breadth.paths = paths;
                self.paths.resize_with(paths, Path::default);
                self.seeds_wanted = true;
                true
            }
            Level::Deep => self.begin_sweeping(),
            Level::Swept => false,
        }
    }

    /// Goes over to searching sibling subtrees. Returns whether there are any: a region of half the network has none.
    fn begin_sweeping(&mut self) -> bool {
        let Some(region) = self.breadth.region.map(|region| region.times(SWEPT_REGION_FACTOR))
        else {
            return false;
        };
        if self.level == Level::Swept || region.shared_bits() == 0 {
            return false;
        }
        self.level = Level::Swept;
        self.sweeps_wanted = true;
        self.breadth.region = Some(region);
        true
    }

    /// One of the sweeps ended; `contacts` answered there. A search that asks for nothing but the way need not ask them again.
    pub(crate) fn swept(&mut self, contacts: Vec<Contact>, ask_again: bool) {
        self.sweeping = self.sweeping.saturating_sub(1);
        self.stage = Stage::Completion;
        for contact in contacts {
            let distance = contact.overlay_id.distance(&self.target);
            self.learn(0, 1, contact);
            if let Some(node) = self.nodes.get_mut(&distance)
                && node.state == State::New
                && !ask_again
            {
                node.state = State::Answered;
            }
        }
    }

    /// Adds a candidate to a path. Returns whether it is new to the search.
    fn learn(&mut self, path: usize, hops: u32, contact: Contact) -> bool {
        if contact.overlay_id == self.me || contact.addrs.is_empty() || !contact.server {
            return false;
        }
        let distance = contact.overlay_id.distance(&self.target);
        if self.nodes.len() >= LOOKUP_CANDIDATES_MAX && self.nodes.slot(&distance).is_none() {
            return false;
        }
        let node = || Node { contact, state: State::New, path, hops, known_to: 0 };
        let (slot, new) = self.nodes.slot_or_insert(distance, node);
        // A path beyond the bits looks each time. One that has let go of a candidate for nearer ones does not take it back.
        let bit = u32::try_from(path).ok().and_then(|path| 1_u64.checked_shl(path)).unwrap_or(0);
        let node = self.nodes.at_mut(slot);
        if node.known_to & bit != 0 {
            return new;
        }
        node.known_to |= bit;
        let candidates = &mut self.paths[path].candidates;
        candidates.insert(&self.nodes, &distance, slot);
        if candidates.len() > PATH_CANDIDATES_MAX {
            candidates.pop_last();
        }
        new
    }

    /// Ends the search: what was wanted is found.
    pub(crate) const fn stop(&mut self) {
        self.stopped = true;
    }

    pub(crate) const fn is_stopped(&self) -> bool {
        self.stopped
    }

    pub(crate) fn is_escalated(&self) -> bool {
        self.level > Level::Normal
    }

    /// Whom to ask next.
    pub(crate) fn step(&mut self) -> Step {
        if self.stopped {
            return Step::Done;
        }
        if self.seeds_wanted {
            return Step::Widen;
        }
        if self.level == Level::Normal && self.is_crowded() {
            self.begin_sweeping();
        }
        if std::mem::take(&mut self.sweeps_wanted) {
            return self.sweep();
        }
        let waiting = self.waiting();
        if self.sent >= self.requests_max() {
            return if waiting > 0 { Step::Wait } else { Step::Done };
        }
        if let Some(step) = self.step_first() {
            return step;
        }
        if waiting >= self.width() {
            return Step::Wait;
        }
        if self.stage == Stage::Paths {
            if let Some(slot) = self.next_on_paths() {
                return self.ask(slot);
            }
            if waiting > 0 {
                return Step::Wait;
            }
            self.stage = Stage::Completion;
        }
        if self.sweeping > 0 {
            return Step::Wait;
        }
        if let Some(slot) = self.next_in_completion() {
            return self.ask(slot);
        }
        if waiting > 0 || self.awaits_slow() {
            return Step::Wait;
        }
        if !self.widened && self.answered() < self.breadth.want {
            return Step::Widen;
        }
        Step::Done
    }

    /// What to do while those that are asked first are not heard.
    fn step_first(&mut self) -> Option<Step> {
        let slots = self.first.iter().filter_map(|distance| self.nodes.slot(distance));
        let states = || slots.clone().map(|slot| (slot, self.nodes.at(slot).state));
        if let Some((slot, _)) = states().find(|(_, state)| *state == State::New) {
            return Some(self.ask(slot));
        }
        if states().any(|(_, state)| state == State::Waiting) {
            return Some(Step::Wait);
        }
        self.first.clear();
        None
    }

    fn sweep(&mut self) -> Step {
        let first = self.breadth.region.map_or(0, Region::shared_bits);
        let sweeps: Vec<_> = (first..first + SWEEPS)
            .map(|bits| Sweep { bits, region: Region::shared(bits + 1) })
            .collect();
        self.sweeping = sweeps.len();
        self.stage = Stage::Completion;
        Step::Sweep(sweeps)
    }

    /// Nodes one path may ask, so that a liar's path cannot use up what the others need.
    fn path_requests_max(&self) -> u32 {
        let share = self.requests_max() / u32::try_from(self.paths.len()).unwrap_or(u32::MAX);
        share.max(2 * u32::try_from(self.breadth.path_k).unwrap_or(u32::MAX))
    }

    const fn requests_max(&self) -> u32 {
        match self.level {
            Level::Normal => LOOKUP_REQUESTS_MAX,
            Level::Deep | Level::Swept => LOOKUP_REQUESTS_ESCALATED_MAX,
        }
    }

    fn ask(&mut self, slot: Slot) -> Step {
        let turn = self.turn;
        let node = self.nodes.at_mut(slot);
        node.state = State::Waiting;
        node.path = turn;
        self.paths[turn].waiting += 1;
        self.paths[turn].asked += 1;
        self.sent += 1;
        self.turn = (turn + 1) % self.paths.len();
        Step::Ask(node.contact.clone())
    }

    /// The next candidate of the next path that has one and a free slot; leaves `turn` at that path.
    fn next_on_paths(&mut self) -> Option<Slot> {
        let slots = (self.share() / self.paths.len()).max(1);
        for offset in 0..self.paths.len() {
            let path = (self.turn + offset) % self.paths.len();
            if self.paths[path].waiting < slots + self.paths[path].extra()
                && let Some(slot) = self.next_on(path)
            {
                self.turn = path;
                return Some(slot);
            }
        }
        None
    }

    fn next_on(&self, path: usize) -> Option<Slot> {
        if self.paths[path].asked >= self.path_requests_max() {
            return None;
        }
        let mut followed = 0;
        for slot in self.paths[path].candidates.slots() {
            let node = self.nodes.at(slot);
            match node.state {
                State::New => return Some(slot),
                State::Waiting | State::Answered if node.path == path => followed += 1,
                State::Waiting | State::Answered | State::Slow | State::Failed => {}
            }
            if followed >= self.breadth.path_k {
                return None;
            }
        }
        None
    }

    fn next_in_completion(&self) -> Option<Slot> {
        if self.level == Level::Swept {
            // From the outside in: whoever crowds around the target is asked last.
            let mut inside = self.inside().filter(|(_, node)| node.state == State::New);
            if let Some((slot, _)) = inside.next_back() {
                return Some(slot);
            }
        }
        let mut counted = 0;
        for (slot, node) in self.nodes.slots() {
            if !self.belongs(counted, node) {
                return None;
            }
            match node.state {
                State::New => return Some(slot),
                State::Waiting | State::Answered => counted += 1,
                State::Slow | State::Failed => {}
            }
        }
        None
    }

    /// Whom the node that is about to be asked need not name: everyone its path knows of, and who was asked already. What other paths
    /// alone know of it names to this path too.
    pub(crate) fn known_for(&self, asked: &OverlayId) -> Known {
        let distance = asked.distance(&self.target);
        let path = self.nodes.slot(&distance).map(|slot| self.nodes.at(slot).path);
        let bit = path
            .filter(|_| self.stage == Stage::Paths)
            .map(|path| u32::try_from(path).ok().and_then(|path| 1_u64.checked_shl(path)));
        let is_known = |node: &Node| match bit {
            None => true,
            Some(bit) => node.state != State::New || node.known_to & bit.unwrap_or(0) != 0,
        };
        let known = self.nodes.entries().filter(|(at, node)| **at != distance && is_known(node));
        Known::of(asked, known.map(|(at, _)| at).take(KNOWN_NODES_MAX))
    }

    /// Whether a node that `nearer` others precede belongs to the result.
    fn belongs(&self, nearer: usize, node: &Node) -> bool {
        let in_region = self
            .breadth
            .region
            .is_some_and(|region| region.contains(&self.target, &node.contact.overlay_id));
        nearer < self.breadth.want || in_region
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

    /// The nodes inside the region, nearest first.
    fn inside(&self) -> impl DoubleEndedIterator<Item = (Slot, &Node)> + '_ {
        let radius = self.breadth.region.map_or(Distance::ZERO, Region::distance);
        self.nodes.up_to(radius)
    }

    /// More nodes are known near the target than chance puts there.
    ///
    /// Nodes that were only named count too, which makes the test free: everyone named has minted its id. They do not while requests
    /// fail, nor when [`Breadth::trust_names`] says so. When the region has just grown it takes twice as many, because the size of the network
    /// that is left reads half of what it is at first.
    pub(crate) fn is_crowded(&self) -> bool {
        let (Some(region), expected) = (self.breadth.region, self.breadth.expected) else {
            return false;
        };
        let named = self.breadth.trust_names && self.failed * 4 <= self.sent;
        let counts = |node: &Node| match node.state {
            State::Answered => true,
            State::New | State::Waiting | State::Slow => named,
            State::Failed => false,
        };
        let region =
            if self.level == Level::Swept { region.divided(SWEPT_REGION_FACTOR) } else { region };
        let count = |region: Region| {
            let nodes = self.nodes.up_to(region.distance());
            nodes.filter(|(_, node)| counts(node)).count()
        };
        let expected = if self.breadth.grown { 2 * expected } else { expected };
        expected > 0
            && (count(region.divided(DENSITY_DIVISOR)) * 100 >= expected * DENSITY_TIGHT_PERCENT
                || count(region) * DENSITY_FACTOR_DIVISOR >= expected * DENSITY_FACTOR)
    }

    fn waiting(&self) -> usize {
        self.paths.iter().map(|path| path.waiting).sum()
    }

    fn width(&self) -> usize {
        let extra: usize = self.paths.iter().map(Path::extra).sum();
        let most = WIDTH_MAX.max(self.breadth.alpha_failing).max(self.paths.len());
        (self.share() + extra).min(most)
    }

    /// Requests in flight, paths that meet silence not counted.
    fn share(&self) -> usize {
        let is_quiet = self.is_quiet() && !self.breadth.strained;
        let alpha = if is_quiet { self.width_failing() } else { self.breadth.alpha };
        alpha.max(self.paths.len())
    }

    /// As many as it takes for [`Breadth::alpha`] of them to be answered.
    fn width_failing(&self) -> usize {
        let settled = (self.heard + self.failed + self.slow) as usize;
        let width = self.breadth.alpha * settled / (self.heard as usize).max(1);
        width.clamp(self.breadth.alpha_failing, WIDTH_MAX.max(self.breadth.alpha_failing))
    }

    /// Some did not answer in the time most answers take, or the region has grown: then it matters not only what is answered, but who
    /// has answered.
    pub(crate) const fn judges_silence(&self) -> bool {
        self.failed + self.slow > 0 || self.breadth.grown
    }

    /// More than half of the requests got no answer in the time most answers take; as long as few were sent, those of other searches.
    const fn is_quiet(&self) -> bool {
        let quiet = self.failed + self.slow;
        if self.heard + quiet < FAILING_SAMPLE_MIN {
            return self.breadth.failing;
        }
        quiet > self.heard
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
            self.paths[node.path].silent += 1;
            self.slow += 1;
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
        } else {
            self.slow -= 1;
        }
        if state == State::Answered {
            self.heard += 1;
            self.paths[node.path].silent = 0;
        }
        node.state = state;
        Some((node.path, node.hops))
    }

    /// Number of nodes that answered.
    pub(crate) fn answered(&self) -> usize {
        self.nodes.values().filter(|node| node.state == State::Answered).count()
    }

    /// Number of nodes within twice the region that answered or did not.
    pub(crate) fn settled(&self) -> usize {
        self.settled_around(|node| node.state == State::Failed)
    }

    /// Number of nodes within twice the region that answered, or are silent by this rule.
    fn settled_around(&self, silent: impl Fn(&Node) -> bool) -> usize {
        let region = self.breadth.region.map(|region| region.times(SWEPT_REGION_FACTOR));
        let radius = region.map_or(Distance::MAX, Region::distance);
        let settled = |node: &&Node| node.state == State::Answered || silent(node);
        self.nodes.up_to(radius).map(|(_, node)| node).filter(settled).count()
    }

    /// Fewer nodes answered within twice the region than are expected in the region: the paths were led astray. Of twenty expected,
    /// nine or fewer are once in 200 times.
    pub(crate) fn is_thin(&self) -> bool {
        self.breadth.region.is_some() && self.settled() < self.breadth.expected
    }

    /// The result of a search for custodians: as many as are expected, and everyone in the region. A search looks further than that to
    /// be sure of them.
    pub(crate) fn custodians(&self) -> Vec<Contact> {
        let mut contacts = self.result();
        let region = self.breadth.region;
        let inside = |contact: &Contact| {
            region.is_some_and(|region| region.contains(&self.target, &contact.overlay_id))
        };
        let inside = contacts.iter().take_while(|contact| inside(contact)).count();
        contacts.truncate(inside.max(self.breadth.expected));
        contacts
    }

    /// Who is said to be within `region`, asked or not, nearest first, and at least the `least` nearest.
    pub(crate) fn named(&self, region: Region, least: usize) -> Vec<Contact> {
        let named = self.nodes.values().filter(|node| node.state != State::Failed);
        let belongs = |(rank, node): &(usize, &Node)| {
            *rank < least || region.contains(&self.target, &node.contact.overlay_id)
        };
        let named = named.enumerate().take_while(belongs);
        named.map(|(_, node)| node.contact.clone()).collect()
    }

    /// What is known of the nodes around the target.
    pub(crate) fn surroundings(&self) -> Surroundings {
        let failing = self.is_quiet();
        let hasty = failing || self.breadth.grown;
        let silent =
            |node: &Node| node.state == State::Failed || (hasty && node.state == State::Slow);
        let settled = |node: &Node| node.state == State::Answered || silent(node);
        // While most are gone, fewer must do: in one of ten places there never were so many.
        let around = if failing && self.heard >= FAILING_SAMPLE_MIN {
            self.settled_around(silent) * 4 >= self.breadth.expected * 5
        } else {
            self.settled() * DENSITY_FACTOR_DIVISOR >= self.breadth.expected * 3
        };
        Surroundings {
            crowded: self.is_crowded(),
            silent: self.inside().filter(|(_, node)| silent(node)).count(),
            exhausted: around && self.inside().all(|(_, node)| settled(node)),
            oldest: self.oldest(silent),
        }
    }

    fn oldest(&self, silent: impl Fn(&Node) -> bool) -> Oldest {
        if !self.breadth.grown {
            return Oldest::Alike;
        }
        let left = self.inside().map(|(_, node)| node).filter(|node| !silent(node)).take(OLDEST);
        let (mut heard, mut unheard) = (0, 0);
        left.for_each(|node| {
            *(if node.state == State::Answered { &mut heard } else { &mut unheard }) += 1;
        });
        match (heard, unheard) {
            (OLDEST, _) => Oldest::Heard,
            // So few are no measure.
            (_, 0) => Oldest::Alike,
            _ => Oldest::Unheard,
        }
    }

    /// What a search for a random target shows of the network's size: the `K` nearest nodes that are said to be there, and how many of
    /// a thousand that were asked are. `None` when too few answered.
    pub(crate) fn sample(&self) -> Option<(Vec<OverlayId>, u32)> {
        let there = self.nodes.values().filter(|node| node.state != State::Failed);
        let nearest: Vec<_> = there.take(K).collect();
        let answered = nearest.iter().filter(|node| node.state == State::Answered).count();
        if nearest.len() < K || answered < SAMPLE_ANSWERED {
            return None;
        }
        let ids = nearest.into_iter().map(|node| node.contact.overlay_id).collect();
        Some((ids, self.heard * 1_000 / (self.heard + self.failed)))
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

    /// Who answered, nearest first.
    pub(crate) fn everyone(&self) -> Vec<Contact> {
        let answered = self.nodes.values().filter(|node| node.state == State::Answered);
        answered.map(|node| node.contact.clone()).collect()
    }

    /// The result: who answered, nearest first; the `want` nearest and everyone in the region. Of more than [`HOLDERS_MAX`] the
    /// nearest are left out: whoever crowds a place is nearest to it.
    pub(crate) fn result(&self) -> Vec<Contact> {
        let answered = self.nodes.values().filter(|node| node.state == State::Answered);
        let belonging = answered.enumerate().take_while(|(rank, node)| self.belongs(*rank, node));
        let mut contacts: Vec<_> = belonging.map(|(_, node)| node.contact.clone()).collect();
        contacts.drain(..contacts.len().saturating_sub(HOLDERS_MAX.max(self.breadth.want)));
        contacts
    }
}

/// A place in the subtree whose nodes share exactly `bits` leading bits with `target`; `noise` decides where.
pub(crate) fn sibling(target: &OverlayId, bits: u32, noise: [u8; 32]) -> OverlayId {
    let mut place = noise;
    for (at, byte) in (0..).zip(place.iter_mut()) {
        let shared = bits.saturating_sub(at * 8).min(8);
        let mask = u8::try_from(0xff00_u16 >> shared & 0xff).unwrap_or(u8::MAX);
        let own = target.0[at as usize];
        *byte = (own & mask) | (*byte & !mask);
        if bits / 8 == at {
            let bit = 0x80 >> (bits % 8);
            *byte = (*byte & !bit) | (!own & bit);
        }
    }
    OverlayId(place)
}

#[cfg(test)]
mod tests;
