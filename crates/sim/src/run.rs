//! Runs a scenario: start, publish, measure, break things, heal, demand.
//!
//! A run has a phase in which faults act and a phase in which everything heals; at its end the network must have converged.
//! A fault that was promised and never happened fails the run, because a test that tested nothing would pass otherwise.

mod ask;
mod demand;

use std::collections::BTreeMap;
use std::time::Duration;

use comity_core::Time;
use comity_overlay::{Command, CommandError, Contact, Outcome};

use crate::adversary::{Adversary, Colluders, Dropper, Forger, Misrouter};
use crate::bootstrap::ideal_table;
use crate::check::Rule;
use crate::publisher::Register;
use crate::random::{PPM_ONE, Random};
use crate::report::{PhaseReport, Report, Sample};
use crate::scenario::{EPOCH, Fault, Misbehaviour, Scenario, Start};
use crate::world::{Completed, NodeIx, Op, Settings, World};

use ask::{Asked, Question};

/// Nodes that already run which a new node is told to join through.
const SEEDS: usize = 3;
/// Joins tried before a node counts as shut out.
const JOINS_MAX: u32 = 30;
/// Wait before another join.
const JOIN_AGAIN: Duration = Duration::from_secs(5);
/// Time for what was begun last in a phase to end.
const GRACE: Duration = Duration::from_secs(15);
/// Longest a command may take: the deadline of a publication and a lookup inside it.
const COMMAND_MAX: Duration = Duration::from_secs(180);

/// Nodes that begin to publish when the network is cut.
const PUBLISHERS_OF_PARTITION: usize = 10;

/// A run that broke a rule.
#[derive(Debug, thiserror::Error)]
#[error("{} violations in {} with seed {}; repeat it with:\n  {}\n{report}", report.violations_total, report.scenario, report.seed, report.repeat)]
pub struct RunFailure {
    /// What it measured all the same.
    pub report: Report,
}

/// Runs `scenario` to its end.
///
/// # Errors
/// [`RunFailure`] when a rule or a demand was broken. It says how to repeat the run.
pub fn run(scenario: &Scenario) -> Result<Report, Box<RunFailure>> {
    let mut runner = Runner::new(scenario.clone());
    let end = runner.plan();
    runner.run_until(end);
    runner.finish(end);
    let report = runner.report();
    if report.violations_total == 0 { Ok(report) } else { Err(Box::new(RunFailure { report })) }
}

/// What the runner does at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Task {
    Start(NodeIx),
    Join { node: NodeIx, attempt: u32 },
    Publish(NodeIx),
    Ask { phase: usize, kind: Question },
    Strike(Fault),
    CrashAllBack(NodeIx),
    SessionEnd { node: NodeIx, incarnation: u32 },
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
    Retire,
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
    world: World,
    register: Register,
    /// Specs for nodes that come later.
    spare_specs: Vec<Vec<crate::workload::Spec>>,
    askers: Vec<NodeIx>,
    agenda: BTreeMap<(Time, u64), Task>,
    tasks: u64,
    pending: BTreeMap<Op, Pending>,
    /// Nodes that publish as soon as they have joined.
    publish_on_join: Vec<NodeIx>,
    churning: Option<Duration>,
    phases: Vec<PhaseReport>,
    joins: Sample,
    publications: Sample,
    stored: (u64, u64),
    peak_state_bytes: usize,
    /// Draws of nodes and keys, of what to ask, of what fails.
    birth: Random,
    curiosity: Random,
    fate: Random,
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
            askers: Vec::new(),
            agenda: BTreeMap::new(),
            tasks: 0,
            pending: BTreeMap::new(),
            publish_on_join: Vec::new(),
            churning: None,
            phases: Vec::new(),
            joins: Sample::default(),
            publications: Sample::default(),
            stored: (0, 0),
            peak_state_bytes: 0,
            birth: stream("birth"),
            curiosity: stream("curiosity"),
            fate: stream("fate"),
            scenario,
        }
    }

    // ---- the plan ----

    fn at(&mut self, time: Time, task: Task) {
        self.tasks += 1;
        self.agenda.insert((time, self.tasks), task);
    }

    /// Makes the nodes and writes the agenda. Returns when the run ends.
    fn plan(&mut self) -> Time {
        self.make_nodes();
        let started = self.plan_start();
        let publishers: Vec<_> = self.register.publishers.keys().copied().collect();
        for ix in publishers {
            let at = started + self.birth.within(self.scenario.publish_window);
            self.at(at, Task::Publish(ix));
        }
        let settled = started + self.scenario.publish_window + Duration::from_secs(40);
        self.at(settled, Task::CheckStored);
        self.at(settled, Task::CheckNodes);
        let mut end = self.plan_phase("before", settled);
        if !self.scenario.faults.is_empty() {
            let began = end;
            for fault in self.scenario.faults.clone() {
                let after = match fault {
                    Fault::Kill { at, .. }
                    | Fault::Partition { at }
                    | Fault::RestartAll { at, .. } => at,
                    Fault::Churn { .. } | Fault::Links { .. } => Duration::ZERO,
                };
                self.at(began + after, Task::Strike(fault));
            }
            let measured = self.plan_phase("during", began + self.scenario.measure_at);
            let healed = measured.max(began + self.scenario.fault_phase);
            self.at(healed, Task::CheckNodes);
            self.at(healed, Task::Heal);
            end = self.plan_phase("after", healed + self.scenario.settle);
        }
        end
    }

    fn plan_phase(&mut self, label: &'static str, begin: Time) -> Time {
        let phase = self.phases.len();
        self.phases.push(PhaseReport { label, ..PhaseReport::default() });
        let measure = self.scenario.measure;
        self.at(begin, Task::PhaseBegins(phase));
        let kinds = [
            (Question::Query, measure.queries),
            (Question::Find, measure.finds),
            (Question::Nearest, measure.lookups),
        ];
        for (kind, count) in kinds {
            for _ in 0..count {
                let at = begin + self.curiosity.within(measure.window);
                self.at(at, Task::Ask { phase, kind });
            }
        }
        let end = begin + measure.window + GRACE;
        self.at(end, Task::PhaseEnds(phase));
        end
    }

    fn make_nodes(&mut self) {
        for _ in 0..self.scenario.nodes {
            self.world.add_node(&mut self.birth);
        }
        let mut all: Vec<NodeIx> = (0..self.scenario.nodes).collect();
        self.fate.shuffle(&mut all);
        let bad = u64::from(self.scenario.adversaries) * all.len() as u64 / u64::from(PPM_ONE);
        let honest = all.split_off(usize::try_from(bad).unwrap_or(usize::MAX).min(all.len()));
        for ix in &all {
            let adversary: Box<dyn Adversary> = match self.scenario.misbehaviour {
                Misbehaviour::Drop => Box::new(Dropper),
                Misbehaviour::Misroute => Box::new(Misrouter),
                Misbehaviour::Forge => Box::new(Forger),
            };
            self.world.node_mut(*ix).adversary = Some(adversary);
        }
        self.world.set_colluders(Colluders::new(
            all.iter().map(|ix| self.world.nodes()[*ix].contact.clone()).collect(),
        ));
        for ix in 0..self.scenario.nodes {
            self.world.node_mut(ix).side = self.fate.below(2) == 1;
        }
        let publishers = self.scenario.workload.publishers.min(honest.len());
        // As many again for nodes that take the place of others.
        let mut lists = self.scenario.workload.draw_specs(&mut self.curiosity, 2 * publishers);
        self.spare_specs = lists.split_off(publishers);
        for (ix, specs) in honest.iter().zip(lists) {
            self.register.enlist(*ix, &self.world.nodes()[*ix], specs);
        }
        self.askers = honest.iter().rev().take(self.scenario.askers).copied().collect();
    }

    /// Returns when the network is expected to be there.
    fn plan_start(&mut self) -> Time {
        match self.scenario.start {
            Start::Joined(window) => {
                let nodes = u32::try_from(self.scenario.nodes).unwrap_or(u32::MAX).max(1);
                for (order, ix) in (0..).zip(0..self.scenario.nodes) {
                    self.at(EPOCH + window * order / nodes, Task::Start(ix));
                }
                EPOCH + window + Duration::from_secs(30)
            }
            Start::Built => {
                self.build_tables();
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

    fn build_tables(&mut self) {
        let mut sorted: Vec<Contact> =
            self.world.nodes().iter().map(|node| node.contact.clone()).collect();
        sorted.sort_by_key(|contact| contact.overlay_id);
        for ix in 0..self.scenario.nodes {
            self.world.start(ix, self.scenario.config.clone());
            let me = self.world.nodes()[ix].contact.overlay_id;
            let table = ideal_table(&mut self.birth, &sorted, &me);
            self.world.preload(ix, table);
        }
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
            while let Some((ix, _)) = self.world.take_renewal() {
                self.renew(ix);
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
            Task::Strike(fault) => self.strike(fault),
            Task::CrashAllBack(ix) | Task::Restart(ix) => self.restart(ix),
            Task::SessionEnd { node, incarnation } => self.session_end(node, incarnation),
            Task::Heal => self.heal(),
            Task::PhaseBegins(phase) => {
                self.phases[phase].traffic =
                    (self.world.counters().bytes, self.world.node_micros());
            }
            Task::PhaseEnds(phase) => {
                let (bytes, micros) = self.phases[phase].traffic;
                self.phases[phase].traffic =
                    (self.world.counters().bytes - bytes, self.world.node_micros() - micros);
                self.note_peak();
            }
            Task::CheckNodes => {
                self.world.check_nodes();
                self.note_peak();
            }
            Task::CheckStored => self.check_stored(),
        }
    }

    fn note_peak(&mut self) {
        let largest =
            self.world.nodes().iter().map(crate::node::Node::state_bytes).max().unwrap_or(0);
        self.peak_state_bytes = self.peak_state_bytes.max(largest);
    }

    fn command(&mut self, node: NodeIx, command: Command, what: What) {
        let since = self.world.now();
        if let Some(op) = self.world.command(node, command) {
            self.pending.insert(op, Pending { node, since, what });
        }
    }

    // ---- nodes come ----

    fn start(&mut self, ix: NodeIx) {
        self.world.start(ix, self.scenario.config.clone());
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
        let side = self.world.nodes()[ix].side;
        let cut = self.world.is_partitioned();
        let nodes = self.world.nodes().iter().enumerate();
        let mut up: Vec<NodeIx> = nodes
            .filter(|(other, node)| node.is_up() && *other != ix && (!cut || node.side == side))
            .map(|(other, _)| other)
            .collect();
        self.fate.shuffle(&mut up);
        up.truncate(SEEDS);
        up.into_iter().map(|other| self.world.nodes()[other].contact.clone()).collect()
    }

    fn restart(&mut self, ix: NodeIx) {
        if self.world.nodes()[ix].is_up() {
            return;
        }
        self.world.restart(ix, self.scenario.config.clone());
        if self.register.publishers.contains_key(&ix) {
            self.publish_on_join.push(ix);
        }
        self.join(ix, 0);
        self.begin_session(ix);
    }

    fn publish(&mut self, ix: NodeIx) {
        if self.world.nodes()[ix].is_up() {
            let (now, node) = (self.world.now(), &self.world.nodes()[ix]);
            let items = self.register.seal(
                ix,
                node,
                now,
                self.scenario.digest_life,
                self.scenario.beat_life,
            );
            self.command(ix, Command::Publish { items }, What::Publish);
        }
    }

    /// The machine asks for successors of its items.
    fn renew(&mut self, ix: NodeIx) {
        let leaving = self.register.publishers.get(&ix).is_none_or(|publisher| publisher.leaving);
        let publishing = self
            .pending
            .values()
            .any(|pending| pending.node == ix && matches!(pending.what, What::Publish));
        if !leaving && !publishing {
            self.publish(ix);
        }
    }

    // ---- commands end ----

    fn completed(&mut self, completed: Completed) {
        let Completed { op, node, outcome } = completed;
        let Some(Pending { what, .. }) = self.pending.remove(&op) else { return };
        match what {
            What::Join { attempt } => self.join_ended(node, attempt, outcome),
            What::Publish => self.publish_ended(node, outcome),
            What::Retire => {
                if let Some(publisher) = self.register.publishers.get_mut(&node) {
                    publisher.retired = true;
                }
                self.command(node, Command::Leave, What::Leave);
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
        let Outcome::Published(report) = outcome else {
            return self.world.violations.add(
                now,
                Some(ix),
                Rule::Publishes,
                format!("{outcome:?}"),
            );
        };
        let everywhere = report.items.iter().all(|item| item.places_held == item.places);
        self.publications.started += 1;
        self.publications.add(report.cost, everywhere);
        if let Some(publisher) = self.register.publishers.get_mut(&ix) {
            publisher.published = true;
        }
    }

    // ---- faults ----

    fn strike(&mut self, fault: Fault) {
        match fault {
            Fault::Kill { percent, .. } => {
                let mut up = self.up();
                self.fate.shuffle(&mut up);
                let victims = up.len() * usize::from(percent) / 100;
                for ix in up.into_iter().take(victims) {
                    self.crash(ix);
                }
            }
            Fault::Partition { .. } => {
                self.world.set_partitioned(true);
                self.enlist_more();
            }
            Fault::RestartAll { pause, spread, .. } => {
                let back = self.world.now() + pause;
                for ix in self.up() {
                    self.crash(ix);
                    let at = back + self.fate.within(spread);
                    self.at(at, Task::CrashAllBack(ix));
                }
            }
            Fault::Churn { session } => {
                self.churning = Some(session);
                for ix in self.up() {
                    self.begin_session(ix);
                }
            }
            Fault::Links { loss, duplicate, reorder } => {
                let link = self.scenario.link.clone();
                self.world.set_link(crate::link::LinkModel { loss, duplicate, reorder, ..link });
            }
        }
    }

    /// New publishers on both sides of a partition: only a network that has become one again finds what either side published alone.
    fn enlist_more(&mut self) {
        let nodes = self.world.nodes();
        let is_new =
            |ix: &NodeIx| nodes[*ix].is_honest() && !self.register.publishers.contains_key(ix);
        let mut new: Vec<NodeIx> = self.up().into_iter().filter(is_new).collect();
        self.fate.shuffle(&mut new);
        for ix in new.into_iter().take(PUBLISHERS_OF_PARTITION) {
            let Some(specs) = self.spare_specs.pop() else { return };
            self.register.enlist(ix, &self.world.nodes()[ix], specs);
            let at = self.world.now() + self.fate.within(self.scenario.publish_window);
            self.at(at, Task::Publish(ix));
        }
    }

    fn heal(&mut self) {
        if self.world.is_partitioned() {
            self.world.set_partitioned(false);
        }
        self.world.set_link(self.scenario.link.clone());
        self.churning = None;
    }

    fn up(&self) -> Vec<NodeIx> {
        self.world
            .nodes()
            .iter()
            .enumerate()
            .filter(|(_, node)| node.is_up())
            .map(|(ix, _)| ix)
            .collect()
    }

    fn crash(&mut self, ix: NodeIx) {
        self.world.crash(ix);
        self.abandon(ix);
    }

    /// What a node that went down had begun will never end.
    fn abandon(&mut self, ix: NodeIx) {
        let phases = &mut self.phases;
        self.pending.retain(|_, pending| {
            if pending.node == ix
                && let What::Ask { phase, asked } = &pending.what
            {
                asked.sample(&mut phases[*phase]).abandoned += 1;
            }
            pending.node != ix
        });
        self.publish_on_join.retain(|waiting| *waiting != ix);
    }

    fn begin_session(&mut self, ix: NodeIx) {
        if let Some(mean) = self.churning {
            let at = self.world.now() + self.fate.exponential(mean);
            let incarnation = self.world.nodes()[ix].incarnation;
            self.at(at, Task::SessionEnd { node: ix, incarnation });
        }
    }

    fn session_end(&mut self, ix: NodeIx, incarnation: u32) {
        let Some(mean) = self.churning else { return };
        let node = &self.world.nodes()[ix];
        if !node.is_up() || node.incarnation != incarnation {
            return;
        }
        if self.fate.below(3) < 2 {
            self.crash(ix);
            let back = self.world.now() + self.fate.exponential(mean / 4);
            return self.at(back, Task::Restart(ix));
        }
        let (now, life) = (self.world.now(), self.scenario.digest_life);
        match self.register.tombstone(ix, &self.world.nodes()[ix], now, life) {
            Some(tombstone) => {
                self.command(ix, Command::Retire { tombstones: vec![tombstone] }, What::Retire)
            }
            None => self.command(ix, Command::Leave, What::Leave),
        }
    }

    /// A node has left; another takes its place.
    fn left(&mut self, ix: NodeIx) {
        self.world.depart(ix);
        self.abandon(ix);
        let fresh = self.world.add_node(&mut self.birth);
        self.world.node_mut(fresh).side = self.world.nodes()[ix].side;
        if self.register.publishers.contains_key(&ix)
            && let Some(specs) = self.spare_specs.pop()
        {
            self.register.enlist(fresh, &self.world.nodes()[fresh], specs);
            self.publish_on_join.push(fresh);
        }
        if let Some(slot) = self.askers.iter_mut().find(|asker| **asker == ix) {
            *slot = fresh;
        }
        self.start(fresh);
    }
}
