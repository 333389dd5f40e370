//! Runs a scenario: start, publish, measure, break things, heal, demand.
//!
//! A run has a phase in which faults act and a phase in which everything heals; at its end the network must have converged.
//! A fault that was promised and never happened fails the run, because a test that tested nothing would pass otherwise.

mod ask;
mod cast;
mod demand;
mod fault;
mod gauge;
mod hunt;
mod judge;
mod stall;
mod watch;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use comity_core::Time;
use comity_overlay::{Command, CommandError, Config, Contact, ItemKey, ItemKind, Outcome};

use crate::baseline::{self, Baseline, BaselineError};
use crate::bootstrap::{CustodyBuilder, build_tables};
use crate::check::{Rule, Violations};
use crate::group;
use crate::publisher::{Lives, Register};
use crate::random::{Ppm, Random, micros};
use crate::report::{
    Attack, Hits, Mark, PhaseBuilder, REPORT_FORMAT, Report, SampleBuilder, SeriesBuilder,
};
use crate::scenario::{EPOCH, Fault, Protocol, Scenario, Sessions, Start};
use crate::workload::{self, Drawer};
use crate::world::{Completed, NodeIx, Op, Settings, World};

use ask::{Asked, Question};
use gauge::Gauges;
use stall::Stalls;
use watch::{Event, Watches};

/// Nodes that already run which a new node is told to join through. When 30 % of the nodes lie, three are all liars once in 37 times, and
/// who meets liars alone stays among them; eight are once in 15,000 times.
const SEEDS: usize = 8;
/// Nodes drawn to find them among, before all are looked at.
const SEED_DRAWS: usize = 8 * SEEDS;
/// Joins tried before a node counts as shut out.
const JOINS_MAX: u32 = 30;
/// Wait before another join.
const JOIN_AGAIN: Duration = Duration::from_secs(5);
/// Time for what was begun last in a phase to end.
const GRACE: Duration = Duration::from_secs(15);
/// Longest a command may take: the deadline of a publication and a lookup inside it.
const COMMAND_MAX: Duration = Duration::from_secs(180);

/// Nodes set up between two words of progress.
const NODES_PER_PROGRESS: usize = 1_000;
/// How often a run says how far it is.
const PROGRESS_STEPS: u64 = 2_000;

/// Nodes that begin to publish when the network is cut.
const PUBLISHERS_OF_PARTITION: usize = 10;

/// A run that broke a rule.
#[derive(Debug, thiserror::Error)]
#[error("{} violations in {} with seed {}; repeat it with:\n  {}\n{report}", report.violations_total, report.scenario.name, report.scenario.seed, report.repeat)]
pub struct RunFailure {
    /// What it measured all the same.
    pub report: Report,
}

/// How far a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Virtual time that has passed.
    pub done: Duration,
    /// Virtual time of the whole run; the last commands may take a little longer.
    pub total: Duration,
    /// Events so far.
    pub events: u64,
    /// Nodes that were set up so far, while they are.
    pub nodes: usize,
}

impl Progress {
    const NONE: Self = Self { done: Duration::ZERO, total: Duration::ZERO, events: 0, nodes: 0 };
}

/// Runs `scenario` to its end, with the production overlay or the [`crate::baseline`] that its protocol names.
///
/// # Errors
/// [`RunFailure`] when a rule or a demand was broken, or a baseline cannot run the scenario. It says how to repeat the run.
pub fn run(scenario: &Scenario) -> Result<Report, Box<RunFailure>> {
    run_with(scenario, &mut |_| ())
}

/// Runs `scenario` to its end and tells `progress` a few thousand times how far it is. What `progress` does changes nothing.
///
/// # Errors
/// As [`run()`].
pub fn run_with(
    scenario: &Scenario,
    progress: &mut dyn FnMut(Progress),
) -> Result<Report, Box<RunFailure>> {
    if scenario.protocol == Protocol::Group {
        return Ok(group::run_with(scenario, progress));
    }
    if let Some(baseline) = Baseline::of(scenario.protocol) {
        return baseline::run_with(scenario, baseline, progress)
            .map_err(|error| Box::new(RunFailure { report: refused(scenario, &error) }));
    }
    let mut runner = Runner::new(scenario.clone());
    let end = runner.plan(progress);
    let total = end.saturating_since(EPOCH);
    let step = Duration::from_micros(micros(total) / PROGRESS_STEPS).max(Duration::from_millis(1));
    let mut until = EPOCH;
    while until < end {
        until = (until + step).min(end);
        runner.run_until(until);
        progress(runner.progress(total));
    }
    runner.finish(end);
    let report = runner.report();
    if report.passed() { Ok(report) } else { Err(Box::new(RunFailure { report })) }
}

/// The report of a run that never began.
fn refused(scenario: &Scenario, error: &BaselineError) -> Report {
    let mut violations = Violations::default();
    violations.add(EPOCH, None, Rule::Demand, error.to_string());
    Report {
        format: REPORT_FORMAT,
        scenario: scenario.clone(),
        repeat: scenario.repeat(),
        violations: violations.kept().to_vec(),
        violations_total: violations.total(),
        ..Report::default()
    }
}

/// What the runner does at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Task {
    Start(NodeIx),
    Join {
        node: NodeIx,
        attempt: u32,
    },
    Publish(NodeIx),
    Ask {
        phase: usize,
        kind: Question,
    },
    AskAgain {
        phase: usize,
        asker: NodeIx,
        question: Box<workload::Question>,
    },
    /// The search with this number asks on.
    AskOn(u64),
    Happens(Event),
    Flood {
        node: NodeIx,
        per_minute: usize,
    },
    Look(usize),
    Strike(Fault),
    FaultEnds(Fault),
    /// A node stands still from now on, as one of those that this fault chose.
    Stall {
        node: NodeIx,
        fault: u32,
    },
    /// It runs again.
    Resume {
        node: NodeIx,
        fault: u32,
    },
    Sample,
    CrashAllBack(NodeIx),
    SessionEnd {
        node: NodeIx,
        incarnation: u32,
    },
    Restart(NodeIx),
    Heal,
    PhaseBegins(usize),
    PhaseEnds(usize),
    CheckNodes,
    CheckStored,
}

/// What a command in progress is for.
#[derive(Debug)]
enum What {
    Join { attempt: u32 },
    Publish,
    Retire { leave: bool },
    Leave,
    Ask { phase: usize, asked: Asked },
}

#[derive(Debug)]
struct Pending {
    node: NodeIx,
    since: Time,
    what: What,
}

#[derive(Debug)]
struct Runner {
    scenario: Scenario,
    /// The scenario's, shared by all nodes.
    config: Arc<Config>,
    world: World,
    register: Register,
    /// Specs for nodes that come later.
    spare_specs: Vec<Vec<workload::Spec>>,
    drawer: Drawer,
    /// Publishers by popularity.
    popular: Vec<NodeIx>,
    watches: Watches,
    attack: Attack,
    /// Publishers whose keys are eclipsed; all questions are for them then.
    eclipsed: Vec<NodeIx>,
    /// Agents that register one capability after the other, so many a minute.
    floods: Vec<(NodeIx, usize)>,
    askers: Vec<NodeIx>,
    /// Searches that wait for trials before they ask again, by number.
    searches: BTreeMap<u64, (usize, NodeIx, Asked)>,
    agenda: BTreeMap<(Time, u64), Task>,
    tasks: u64,
    pending: BTreeMap<Op, Pending>,
    /// Nodes that publish as soon as they have joined.
    publish_on_join: Vec<NodeIx>,
    churning: Option<(Sessions, Ppm)>,
    stalls: Stalls,
    phases: Vec<PhaseBuilder>,
    series: SeriesBuilder,
    marks: Vec<Mark>,
    joins: SampleBuilder,
    publications: SampleBuilder,
    renewals: SampleBuilder,
    stored: Hits,
    gauges: Gauges,
    /// Draws of nodes and keys, of what to ask, of what fails.
    birth: Random,
    curiosity: Random,
    fate: Random,
    probes: Random,
}

impl Runner {
    fn new(scenario: Scenario) -> Self {
        let settings = Settings {
            seed: scenario.seed,
            start: EPOCH,
            messages: scenario.messages,
            link: scenario.link.clone(),
            nodes_per_prefix: scenario.nodes_per_prefix,
            shadow: scenario.shadow,
        };
        let stream = |purpose| Random::new(scenario.seed, purpose);
        Self {
            world: World::new(settings),
            register: Register::default(),
            spare_specs: Vec::new(),
            drawer: Drawer::new(&scenario.workload, 1),
            popular: Vec::new(),
            watches: Watches::default(),
            attack: Attack::default(),
            eclipsed: Vec::new(),
            floods: Vec::new(),
            askers: Vec::new(),
            searches: BTreeMap::new(),
            agenda: BTreeMap::new(),
            tasks: 0,
            pending: BTreeMap::new(),
            publish_on_join: Vec::new(),
            churning: None,
            stalls: Stalls::default(),
            phases: Vec::new(),
            series: SeriesBuilder::new(EPOCH, Duration::ZERO, Duration::ZERO),
            marks: Vec::new(),
            joins: SampleBuilder::default(),
            publications: SampleBuilder::default(),
            renewals: SampleBuilder::default(),
            stored: Hits::default(),
            gauges: Gauges::default(),
            birth: stream("birth"),
            curiosity: stream("curiosity"),
            fate: stream("fate"),
            probes: stream("probes"),
            config: Arc::new(scenario.config.clone()),
            scenario,
        }
    }

    // ---- the plan ----

    fn at(&mut self, time: Time, task: Task) {
        self.tasks += 1;
        self.agenda.insert((time, self.tasks), task);
    }

    /// Makes the nodes and writes the agenda. Returns when the run ends.
    fn plan(&mut self, progress: &mut dyn FnMut(Progress)) -> Time {
        self.make_nodes();
        let started = self.plan_start(progress);
        let publishers: Vec<_> = self.register.publishers.keys().copied().collect();
        for ix in publishers {
            let published = self.register.publishers[&ix].published;
            if published || self.watches.newcomers.contains(&ix) {
                continue;
            }
            let at = started + self.birth.within(self.scenario.publish_window);
            self.at(at, Task::Publish(ix));
        }
        for (node, per_minute) in std::mem::take(&mut self.floods) {
            let at = started + self.scenario.publish_window;
            self.at(at, Task::Flood { node, per_minute });
        }
        let settled = started + self.scenario.publish_window + Duration::from_secs(40);
        self.at(settled, Task::CheckStored);
        self.at(settled, Task::CheckNodes);
        let mut end = self.plan_phase("before", settled);
        let watched = self.plan_watches(settled);
        if !self.scenario.faults.is_empty() {
            let began = end;
            let healed = self.plan_faults(began);
            let measured = self.plan_phase("during", began + self.scenario.measure_at);
            let healed = measured.max(healed);
            self.at(healed, Task::CheckNodes);
            self.at(healed, Task::Heal);
            end = self.plan_phase("after", healed + self.scenario.settle);
        }
        let end = end.max(watched);
        let length = end.saturating_since(EPOCH);
        self.series = SeriesBuilder::new(EPOCH, length, self.scenario.measure.bucket);
        let bucket = self.series.bucket();
        let mut at = EPOCH + bucket;
        while at < end {
            self.at(at, Task::Sample);
            at += bucket;
        }
        end
    }

    fn plan_phase(&mut self, label: &'static str, begin: Time) -> Time {
        let phase = self.phases.len();
        self.phases.push(PhaseBuilder::new(label));
        let measure = self.scenario.measure;
        let window = measure.window_of(label);
        self.at(begin, Task::PhaseBegins(phase));
        let kinds = [
            (Question::Query, measure.queries),
            (Question::Text, measure.texts),
            (Question::Peer, measure.peers),
            (Question::Find, measure.finds),
            (Question::Nearest, measure.lookups),
        ];
        for (kind, count) in kinds {
            for _ in 0..count {
                let at = begin + self.curiosity.within(window);
                self.at(at, Task::Ask { phase, kind });
            }
        }
        let end = begin + window + GRACE;
        self.at(end, Task::PhaseEnds(phase));
        end
    }

    /// Returns when the network is expected to be there.
    fn plan_start(&mut self, progress: &mut dyn FnMut(Progress)) -> Time {
        match self.scenario.start {
            Start::Joined { over: window } => {
                let nodes = u32::try_from(self.scenario.nodes).unwrap_or(u32::MAX).max(1);
                for (order, ix) in (0..).zip(0..self.world.nodes().len()) {
                    self.at(EPOCH + window * order.min(nodes) / nodes, Task::Start(ix));
                }
                EPOCH + window + Duration::from_secs(30)
            }
            Start::Settled => {
                self.build_tables(progress);
                self.build_custody();
                EPOCH
            }
            Start::Built => {
                self.build_tables(progress);
                let joining: std::collections::BTreeSet<_> =
                    self.askers.iter().chain(self.register.publishers.keys()).copied().collect();
                for ix in joining {
                    let at = EPOCH + self.birth.within(Duration::from_secs(20));
                    self.at(at, Task::Join { node: ix, attempt: 0 });
                }
                EPOCH + Duration::from_secs(40)
            }
        }
    }

    fn build_tables(&mut self, progress: &mut dyn FnMut(Progress)) {
        build_tables(&mut self.world, &self.config, &mut self.birth, |nodes| {
            if nodes.is_multiple_of(NODES_PER_PROGRESS) {
                progress(Progress { nodes, ..Progress::NONE });
            }
        });
    }

    /// Gives what publishers publish to its custodians.
    fn build_custody(&mut self) {
        let (now, lives) = (self.world.now(), self.lives());
        let publishers: Vec<_> = self.register.publishers.keys().copied().collect();
        let mut builder = CustodyBuilder::new(&self.world, &self.config);
        for ix in publishers.into_iter().filter(|ix| !self.watches.newcomers.contains(ix)) {
            let items = self.register.seal(ix, &self.world.nodes()[ix], now, lives);
            builder.publish(&mut self.world, ix, items);
            if let Some(publisher) = self.register.publishers.get_mut(&ix) {
                publisher.published = true;
            }
        }
        builder.finish(&mut self.world);
    }

    // ---- the loop ----

    fn run_until(&mut self, end: Time) {
        loop {
            let task = self.agenda.first_key_value().map(|((at, _), _)| *at);
            let event = self.world.next_due();
            // Of both at one time, the runner goes first.
            let is_task = task.is_some_and(|task| event.is_none_or(|event| task <= event));
            let next = if is_task { task } else { event };
            let Some(next) = next.filter(|next| *next <= end) else { break };
            if is_task {
                self.world.advance_to(next);
                if let Some((_, task)) = self.agenda.pop_first() {
                    self.carry_out(task);
                }
            } else {
                self.world.step();
            }
            while let Some(completed) = self.world.take_completed() {
                self.completed(completed);
            }
            while let Some((ix, key)) = self.world.take_renewal() {
                self.renew(ix, &key);
            }
        }
        self.world.advance_to(end);
    }

    fn carry_out(&mut self, task: Task) {
        match task {
            Task::Start(ix) => self.start(ix),
            Task::Join { node, attempt } => self.join(node, attempt),
            Task::Publish(ix) => self.publish(ix),
            Task::Ask { phase, kind } => self.ask(phase, kind),
            Task::AskAgain { phase, asker, question } => self.ask_again(phase, asker, *question),
            Task::AskOn(search) => self.ask_on(search),
            Task::Happens(event) => self.happens(event),
            Task::Look(watch) => self.look(watch),
            Task::Flood { node, per_minute } => self.flood(node, per_minute),
            Task::Strike(fault) => self.strike(fault),
            Task::CrashAllBack(ix) | Task::Restart(ix) => self.restart(ix),
            Task::SessionEnd { node, incarnation } => self.session_end(node, incarnation),
            Task::Heal => self.heal(),
            Task::FaultEnds(fault) => self.fault_ends(fault),
            Task::Stall { node, fault } => self.stall(node, fault),
            Task::Resume { node, fault } => self.resume(node, fault),
            Task::Sample => self.sample_network(),
            Task::PhaseBegins(phase) => self.phase_begins(phase),
            Task::PhaseEnds(phase) => self.phase_ends(phase),
            Task::CheckNodes => {
                self.world.check_nodes();
                self.note_peak();
            }
            Task::CheckStored => self.check_stored(),
        }
    }

    fn progress(&self, total: Duration) -> Progress {
        Progress {
            done: self.world.now().saturating_since(EPOCH),
            total,
            events: self.world.counters().events,
            nodes: self.world.nodes().len(),
        }
    }

    fn command(&mut self, node: NodeIx, command: Command, what: What) {
        let since = self.world.now();
        if let Some(op) = self.world.command(node, command) {
            self.pending.insert(op, Pending { node, since, what });
        }
    }

    // ---- nodes come ----

    fn start(&mut self, ix: NodeIx) {
        self.world.start(ix, Arc::clone(&self.config));
        self.join(ix, 0);
        self.begin_session(ix);
    }

    fn join(&mut self, ix: NodeIx, attempt: u32) {
        let node = &self.world.nodes()[ix];
        let Some(overlay) = &node.overlay else { return };
        // A node that remembers others needs nobody's introduction.
        let remembers = node.saved.is_some() || !overlay.table().is_empty();
        if remembers {
            self.world.remember(ix);
        }
        let seeds = if remembers { Vec::new() } else { self.seeds_for(ix) };
        self.command(ix, Command::Join { seeds }, What::Join { attempt });
    }

    fn seeds_for(&mut self, ix: NodeIx) -> Vec<Contact> {
        let nodes = self.world.nodes();
        let (side, cut) = (nodes[ix].side, self.world.is_partitioned());
        let fits = |other: &NodeIx| {
            nodes[*other].is_up() && *other != ix && (!cut || nodes[*other].side == side)
        };
        let mut up = Vec::new();
        for _ in 0..SEED_DRAWS {
            let other = self.fate.index(nodes.len());
            if up.len() < SEEDS && fits(&other) && !up.contains(&other) {
                up.push(other);
            }
        }
        if up.len() < SEEDS {
            // There are few.
            up = (0..nodes.len()).filter(fits).collect();
            self.fate.shuffle(&mut up);
            up.truncate(SEEDS);
        }
        up.into_iter().map(|other| self.world.nodes()[other].contact.clone()).collect()
    }

    fn restart(&mut self, ix: NodeIx) {
        if self.world.nodes()[ix].is_up() {
            return;
        }
        self.world.restart(ix, Arc::clone(&self.config));
        if self.register.publishers.contains_key(&ix) {
            self.publish_on_join.push(ix);
        }
        self.join(ix, 0);
        self.begin_session(ix);
    }

    fn publish(&mut self, ix: NodeIx) {
        if self.world.nodes()[ix].is_up() {
            let (now, lives, node) = (self.world.now(), self.lives(), &self.world.nodes()[ix]);
            let items = self.register.seal(ix, node, now, lives);
            self.command(ix, Command::Publish { items }, What::Publish);
        }
    }

    const fn lives(&self) -> Lives {
        Lives { digest: self.scenario.digest_life, beat: self.scenario.beat_life }
    }

    /// The machine asks for a successor of an item: a beat alone for a beat, everything for everything else.
    fn renew(&mut self, ix: NodeIx, key: &ItemKey) {
        let leaving = self.register.publishers.get(&ix).is_none_or(|publisher| publisher.leaving);
        let publishing = self
            .pending
            .values()
            .any(|pending| pending.node == ix && matches!(pending.what, What::Publish));
        if leaving || publishing || !self.world.nodes()[ix].is_up() {
            return;
        }
        let (now, lives, node) = (self.world.now(), self.lives(), &self.world.nodes()[ix]);
        match self.register.beat(ix, node, now, lives).filter(|_| key.kind == ItemKind::Beat) {
            Some(beat) => {
                self.command(ix, Command::Publish { items: vec![beat] }, What::Publish);
            }
            None => self.publish(ix),
        }
    }

    // ---- commands end ----

    fn completed(&mut self, completed: Completed) {
        let Completed { op, node, outcome } = completed;
        let Some(Pending { what, .. }) = self.pending.remove(&op) else { return };
        match what {
            What::Join { attempt } => self.join_ended(node, attempt, outcome),
            What::Publish => self.publish_ended(node, outcome),
            What::Retire { leave } => {
                if let Some(publisher) = self.register.publishers.get_mut(&node) {
                    publisher.retired = true;
                }
                if leave {
                    self.command(node, Command::Leave, What::Leave);
                }
            }
            What::Leave => self.left(node),
            What::Ask { phase, asked } => self.judge(phase, node, asked, outcome),
        }
    }

    fn join_ended(&mut self, ix: NodeIx, attempt: u32, outcome: Outcome) {
        if let Outcome::Joined(report) = outcome {
            self.joins.started += 1;
            self.joins.add(report.cost, true);
            if let Some(at) = self.publish_on_join.iter().position(|waiting| *waiting == ix) {
                self.publish_on_join.remove(at);
                self.publish(ix);
            }
            return;
        }
        let may_fail = matches!(outcome, Outcome::Failed(CommandError::NoSeedAnswered { .. }));
        if may_fail && attempt < JOINS_MAX {
            let again = self.world.now() + JOIN_AGAIN;
            self.at(again, Task::Join { node: ix, attempt: attempt + 1 });
        } else {
            self.world.violations.add(
                self.world.now(),
                Some(ix),
                Rule::Joins,
                format!("attempt {attempt}: {outcome:?}"),
            );
        }
    }

    fn publish_ended(&mut self, ix: NodeIx, outcome: Outcome) {
        let now = self.world.now();
        let excused =
            self.register.publishers.get(&ix).is_some_and(|publisher| publisher.clock != 0);
        let Outcome::Published(report) = outcome else {
            if excused {
                // Its own machine refuses what is issued in the future.
                self.attack.refused += 1;
                return;
            }
            return self.world.violations.add(
                now,
                Some(ix),
                Rule::Publishes,
                format!("{outcome:?}"),
            );
        };
        let everywhere = report.items.iter().all(|item| item.places_held == item.places);
        let publisher = self.register.publishers.get_mut(&ix);
        let first =
            publisher.is_none_or(|publisher| !std::mem::replace(&mut publisher.published, true));
        let sample = if first { &mut self.publications } else { &mut self.renewals };
        sample.started += 1;
        sample.add(report.cost, everywhere);
    }
}
