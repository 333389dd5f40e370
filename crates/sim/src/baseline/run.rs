//! Runs a scenario with a baseline: publish, measure, break things, heal, and the same report as for the production overlay.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use comity_core::Time;
use comity_overlay::Cost;

use super::catalogue::{Asked, Catalogue, ItemIx};
use super::net::{Design, Due, Ix, Net, NetOf, at, to_ix};
use super::plan::{Eclipse, Plan, Strike};
use crate::random::{PPM_ONE, Random};
use crate::report::{Hits, Mark, PhaseBuilder, Report, SampleBuilder, SeriesBuilder, Values};
use crate::run::Progress;
use crate::scenario::EPOCH;

mod judge;
mod outcome;
mod watch;

use watch::{Watch, Watched};

/// Time for publications to reach everybody before anything is asked.
const SETTLE: Duration = Duration::from_secs(40);
/// Time for what was asked last in a phase to end: the longest search, and a little.
const GRACE: Duration = Duration::from_secs(35);

/// How many times a run tells how far it is.
const PROGRESS_STEPS: u32 = 200;

/// Names a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct AskId(pub(super) u64);

/// What a question came to.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) ask: AskId,
    /// Genuine matches shown.
    pub(super) found: BTreeSet<ItemIx>,
    pub(super) cost: Cost,
}

/// Something that came to its end.
#[derive(Clone, Debug)]
pub(super) enum Ended {
    Answer(Answer),
    /// A lookup, with those of the true 20 nearest that it found, and how many there were.
    Lookup {
        ask: AskId,
        cost: Cost,
        nearest: (u64, u64),
    },
    Published {
        publisher: Ix,
        cost: Cost,
        first: bool,
    },
}

/// What a host keeps for others.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Held {
    pub(super) items: u64,
    /// Of these, under one key.
    pub(super) largest_key: u64,
}

/// A directory made of hosts.
pub(super) trait Directory: Design + Sized {
    /// Takes over the hosts of `net`, all of them up, and adds its own. Returns items whose name's key it surrounded with minted ids.
    fn attach(
        &mut self,
        net: &mut NetOf<Self>,
        catalogue: &Catalogue,
        eclipse: Eclipse,
    ) -> Vec<ItemIx>;

    /// Everything but what `reserved` publishers have was published long ago.
    fn settle(&mut self, net: &mut NetOf<Self>, catalogue: &Catalogue, reserved: &BTreeSet<Ix>);

    /// A publisher announces everything it has.
    fn publish(&mut self, net: &mut NetOf<Self>, catalogue: &Catalogue, publisher: Ix);

    /// A publisher withdraws everything it has, as far as the design knows how.
    fn retire(&mut self, net: &mut NetOf<Self>, catalogue: &Catalogue, publisher: Ix);

    /// Somebody asks.
    fn ask(
        &mut self,
        net: &mut NetOf<Self>,
        catalogue: &Catalogue,
        from: Ix,
        ask: AskId,
        asked: Rc<Asked>,
    );

    /// Somebody looks a random place up; `false`: there are no places.
    fn lookup(
        &mut self,
        net: &mut NetOf<Self>,
        catalogue: &Catalogue,
        from: Ix,
        ask: AskId,
    ) -> bool {
        let (_, _, _, _) = (net, catalogue, from, ask);
        false
    }

    /// A message arrives.
    fn deliver(
        &mut self,
        net: &mut NetOf<Self>,
        catalogue: &Catalogue,
        to: Ix,
        from: Ix,
        message: Self::Message,
    );

    /// A timer is due.
    fn timer(&mut self, net: &mut NetOf<Self>, catalogue: &Catalogue, host: Ix, timer: Self::Timer);

    /// A host crashed.
    fn gone(&mut self, net: &mut NetOf<Self>, host: Ix) {
        let (_, _) = (net, host);
    }

    /// A host is back, with what it had on disk.
    fn back(&mut self, net: &mut NetOf<Self>, catalogue: &Catalogue, host: Ix);

    /// What ended since the last call.
    fn ended(&mut self) -> Vec<Ended>;

    /// What a host keeps.
    fn held(&self, host: Ix) -> Held;

    /// Table entries that are up, and all of them.
    fn dead_entries(&self, net: &NetOf<Self>) -> (u64, u64) {
        let _ = net;
        (0, 0)
    }

    /// The one server, if there is one.
    fn server(&self) -> Option<Ix> {
        None
    }
}

/// Runs `plan` with `design`. `strike_server`: faults and rule breakers meet the server first.
pub(super) fn run<D: Directory>(
    plan: Plan,
    design: D,
    strike_server: bool,
    progress: &mut dyn FnMut(Progress),
) -> Report {
    let mut runner = Runner::new(plan, design);
    runner.strike_server = strike_server;
    let end = runner.plan_all();
    let total = end.saturating_since(EPOCH);
    let step = total / PROGRESS_STEPS;
    for part in 1..=PROGRESS_STEPS {
        let done = if part == PROGRESS_STEPS { total } else { step * part };
        runner.run_until(EPOCH + done);
        let (events, nodes) = (runner.net.counters.events, runner.net.hosts.len());
        progress(Progress { done, total, events, nodes });
    }
    runner.report()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Task {
    Publish(Ix),
    Ask { phase: usize },
    Lookup { phase: usize },
    Begin { watched: Watched, until: Time },
    Look(usize),
    Strike(Strike),
    Restart(Ix),
    SessionEnd { host: Ix, incarnation: u32 },
    HealPartition,
    HealLinks,
    Heal,
    PhaseBegins(usize),
    PhaseEnds(usize),
    Bucket,
}

/// A publisher's state as the network should see it.
#[derive(Clone, Copy, Debug, Default)]
struct Publisher {
    published: bool,
    retired: bool,
    /// Somebody watches it come or go: it is in no other right answer.
    watched: bool,
}

#[derive(Debug)]
enum What {
    Query { phase: usize, gold: Vec<ItemIx>, asked: Rc<Asked> },
    Lookup { phase: usize },
    Look(usize),
}

#[derive(Debug)]
struct Pending {
    from: Ix,
    what: What,
}

#[derive(Debug)]
struct Runner<D: Directory> {
    plan: Plan,
    net: NetOf<D>,
    design: D,
    strike_server: bool,
    catalogue: Catalogue,
    publishers: BTreeMap<Ix, Publisher>,
    /// Publishers that register while they are watched.
    reserved: Vec<Ix>,
    askers: Vec<Ix>,
    /// Items whose name's key is surrounded with minted ids; all questions are for them then.
    eclipsed: Vec<ItemIx>,
    agenda: BTreeMap<(Time, u64), Task>,
    tasks: u64,
    pending: BTreeMap<AskId, Pending>,
    asks: u64,
    churning: Option<Duration>,
    watches: Vec<Watch>,
    waits: [(Values, u64); 3],
    phases: Vec<PhaseBuilder>,
    phase_starts: Vec<Vec<(u64, u64, u64)>>,
    series: SeriesBuilder,
    bucket_start: (Time, u64, u64),
    marks: Vec<Mark>,
    publications: SampleBuilder,
    renewals: SampleBuilder,
    custody: crate::report::CustodyReport,
    curiosity: Random,
    fate: Random,
}

impl<D: Directory> Runner<D> {
    fn new(plan: Plan, design: D) -> Self {
        let scenario = &plan.scenario;
        let stream = |purpose| Random::new(scenario.seed, purpose);
        let mut net = Net::new(scenario.seed, EPOCH, scenario.link.clone());
        let (mut birth, mut fate, mut curiosity) =
            (stream("birth"), stream("fate"), stream("curiosity"));
        for _ in 0..scenario.nodes {
            let line = scenario.link.draw_line(&mut birth);
            net.add_host(line, None);
        }
        let mut all: Vec<Ix> = (0..to_ix(scenario.nodes)).collect();
        fate.shuffle(&mut all);
        let mut honest = all.as_slice();
        for (bad, share) in &plan.bad {
            let count = u64::from(*share) * scenario.nodes as u64 / u64::from(PPM_ONE);
            let count = usize::try_from(count).unwrap_or(usize::MAX).min(honest.len());
            let (these, rest) = honest.split_at(count);
            these.iter().for_each(|ix| net.hosts[at(*ix)].bad = Some(*bad));
            honest = rest;
        }
        for ix in 0..scenario.nodes {
            net.hosts[ix].side = fate.below(2) == 1;
        }
        let count = scenario.workload.publishers.min(honest.len());
        let publishers = honest[..count].to_vec();
        let lists = scenario.workload.draw_specs(&mut curiosity, count);
        let phases = if plan.strikes.is_empty() { 1 } else { 3 };
        let reserved = publishers.iter().rev().take(phases * plan.registrations);
        let reserved: Vec<_> = reserved.copied().collect();
        Self {
            catalogue: Catalogue::new(&publishers, lists),
            publishers: publishers.iter().map(|ix| (*ix, Publisher::default())).collect(),
            reserved,
            askers: honest.iter().rev().take(scenario.askers).copied().collect(),
            eclipsed: Vec::new(),
            agenda: BTreeMap::new(),
            tasks: 0,
            pending: BTreeMap::new(),
            asks: 0,
            churning: None,
            watches: Vec::new(),
            waits: [(Values::default(), 0), (Values::default(), 0), (Values::default(), 0)],
            phases: Vec::new(),
            phase_starts: Vec::new(),
            series: SeriesBuilder::new(EPOCH, Duration::ZERO, Duration::ZERO),
            bucket_start: (EPOCH, 0, 0),
            marks: Vec::new(),
            publications: SampleBuilder::default(),
            renewals: SampleBuilder::default(),
            custody: crate::report::CustodyReport::default(),
            curiosity,
            fate,
            strike_server: false,
            net,
            design,
            plan,
        }
    }

    // ---- the plan ----

    fn at(&mut self, time: Time, task: Task) {
        self.tasks += 1;
        self.agenda.insert((time, self.tasks), task);
    }

    fn plan_all(&mut self) -> Time {
        self.eclipsed = self.design.attach(&mut self.net, &self.catalogue, self.plan.eclipse);
        if let (true, Some(server), Some((bad, share))) =
            (self.strike_server, self.design.server(), self.plan.bad.first())
        {
            self.net.hosts[at(server)].bad = (*share > 0).then_some(*bad);
        }
        let reserved: BTreeSet<_> = self.reserved.iter().copied().collect();
        let first: Vec<_> =
            self.publishers.keys().copied().filter(|ix| !reserved.contains(ix)).collect();
        let mut began = EPOCH;
        if self.plan.settled {
            self.design.settle(&mut self.net, &self.catalogue, &reserved);
            for ix in first {
                self.published(ix);
            }
        } else {
            for ix in first {
                let wait = self.curiosity.within(self.plan.scenario.publish_window);
                self.at(EPOCH + wait, Task::Publish(ix));
            }
            began = EPOCH + self.plan.scenario.publish_window + SETTLE;
        }
        let mut end = self.plan_phase("before", began);
        if !self.plan.strikes.is_empty() {
            let faults = end;
            for (after, strike) in self.plan.strikes.clone() {
                self.at(faults + after, Task::Strike(strike));
            }
            let measured = self.plan_phase("during", faults + self.plan.scenario.measure_at);
            let healed = measured.max(faults + self.plan.scenario.fault_phase);
            self.at(healed, Task::Heal);
            end = self.plan_phase("after", healed + self.plan.scenario.settle);
        }
        let length = end.saturating_since(EPOCH);
        self.series = SeriesBuilder::new(EPOCH, length, self.plan.scenario.measure.bucket);
        self.at(EPOCH + self.series.bucket(), Task::Bucket);
        end
    }

    fn plan_phase(&mut self, label: &str, begin: Time) -> Time {
        let phase = self.phases.len();
        self.phases.push(PhaseBuilder::new(label));
        self.phase_starts.push(Vec::new());
        let measure = self.plan.scenario.measure;
        let window = measure.window_of(label);
        self.at(begin, Task::PhaseBegins(phase));
        for _ in 0..measure.queries {
            let at = begin + self.curiosity.within(window);
            self.at(at, Task::Ask { phase });
        }
        for _ in 0..measure.lookups {
            let at = begin + self.curiosity.within(window);
            self.at(at, Task::Lookup { phase });
        }
        let end = begin + window + GRACE;
        let kinds = [
            (Watched::Registered, self.plan.registrations),
            (Watched::Retired, self.plan.retirements),
            (Watched::Crashed, self.plan.crashes),
        ];
        for (watched, count) in kinds {
            for _ in 0..count {
                let at = begin + self.curiosity.within(window);
                self.at(at, Task::Begin { watched, until: end });
            }
        }
        self.at(end, Task::PhaseEnds(phase));
        end
    }

    // ---- the loop ----

    fn run_until(&mut self, end: Time) {
        loop {
            let task = self.agenda.first_key_value().map(|((at, _), _)| *at);
            let event = self.net.next_due();
            // Of both at one time, the runner goes first.
            let is_task = task.is_some_and(|task| event.is_none_or(|event| task <= event));
            let Some(next) = (if is_task { task } else { event }).filter(|next| *next <= end)
            else {
                break;
            };
            if is_task {
                self.net.advance_to(next);
                if let Some((_, task)) = self.agenda.pop_first() {
                    self.carry_out(task);
                }
            } else {
                match self.net.step() {
                    Due::Message { to, from, message } => {
                        self.design.deliver(&mut self.net, &self.catalogue, to, from, message);
                    }
                    Due::Timer { host, timer } => {
                        self.design.timer(&mut self.net, &self.catalogue, host, timer);
                    }
                    Due::Nothing => {}
                }
            }
            for ended in self.design.ended() {
                self.ended(ended);
            }
        }
        self.net.advance_to(end);
    }

    fn carry_out(&mut self, task: Task) {
        match task {
            Task::Publish(ix) if self.net.host(ix).up => {
                self.publications.started += 1;
                self.design.publish(&mut self.net, &self.catalogue, ix);
            }
            Task::Publish(_) => {}
            Task::Ask { phase } => self.ask(phase),
            Task::Lookup { phase } => self.look_up(phase),
            Task::Begin { watched, until } => self.begin_watch(watched, until),
            Task::Look(watch) => self.look(watch),
            Task::Strike(strike) => self.strike(strike),
            Task::Restart(ix) => self.restart(ix),
            Task::SessionEnd { host, incarnation } => self.session_end(host, incarnation),
            Task::HealPartition => self.net.partitioned = false,
            Task::HealLinks => self.net.link = self.plan.scenario.link.clone(),
            Task::Heal => {
                self.mark("healed");
                self.churning = None;
                self.net.partitioned = false;
                self.net.link = self.plan.scenario.link.clone();
            }
            Task::PhaseBegins(phase) => self.phase_begins(phase),
            Task::PhaseEnds(phase) => self.phase_ends(phase),
            Task::Bucket => self.bucket(),
        }
    }

    fn ended(&mut self, ended: Ended) {
        match ended {
            Ended::Answer(answer) => self.judge(answer),
            Ended::Lookup { ask, cost, nearest: (found, wanted) } => {
                if let Some(Pending { what: What::Lookup { phase }, .. }) =
                    self.pending.remove(&ask)
                {
                    let phase = &mut self.phases[phase];
                    phase.lookups.add(cost, found == wanted);
                    phase.done.nearest.add(found, wanted);
                }
            }
            Ended::Published { publisher, cost, first } => {
                if first {
                    self.publications.add(cost, true);
                    self.published(publisher);
                } else {
                    self.renewals.started += 1;
                    self.renewals.add(cost, true);
                }
            }
        }
    }

    fn published(&mut self, ix: Ix) {
        if let Some(publisher) = self.publishers.get_mut(&ix) {
            publisher.published = true;
        }
    }

    // ---- asking ----

    fn next_ask(&mut self, from: Ix, what: What) -> AskId {
        self.asks += 1;
        let ask = AskId(self.asks);
        self.pending.insert(ask, Pending { from, what });
        ask
    }

    fn draw_asker(&mut self) -> Option<Ix> {
        let up = self.askers.iter().copied().filter(|ix| self.net.host(*ix).up);
        let up: Vec<_> = up.collect();
        self.curiosity.pick(&up).copied()
    }

    /// Whether what a publisher has is owed to `asker`. What an asker has itself it need not ask for.
    fn is_findable(&self, ix: Ix, asker: Ix) -> bool {
        let known = self.publishers.get(&ix).copied().unwrap_or_default();
        let there = known.published && !known.retired && !known.watched;
        ix != asker && there && self.net.host(ix).up && self.net.reachable(ix, asker)
    }

    fn draw_item(&mut self, asker: Ix) -> Option<ItemIx> {
        // Nearly all can be found, nearly always: drawing again is quicker than listing 190,000.
        for _ in 0..1_000 {
            let item = to_ix(self.curiosity.index(self.catalogue.items.len()));
            let publisher = self.catalogue.items.get(at(item))?.publisher;
            if self.is_findable(publisher, asker) {
                return Some(item);
            }
        }
        None
    }

    fn ask(&mut self, phase: usize) {
        let Some(asker) = self.draw_asker() else { return };
        let victim = self.curiosity.pick(&self.eclipsed).copied();
        let asked = if let Some(victim) = victim {
            // A question that only the attacked key leads to.
            self.catalogue.by_name(victim)
        } else {
            let Some(item) = self.draw_item(asker) else { return };
            let workload = self.plan.scenario.workload.clone();
            self.catalogue.draw(&mut self.curiosity, &workload, item)
        };
        let asked = Rc::new(asked);
        let findable =
            |item: &ItemIx| self.is_findable(self.catalogue.item(*item).publisher, asker);
        let gold: Vec<_> = asked.gold.iter().copied().filter(findable).collect();
        self.phases[phase].queries.started += 1;
        let ask = self.next_ask(asker, What::Query { phase, gold, asked: asked.clone() });
        self.design.ask(&mut self.net, &self.catalogue, asker, ask, asked);
    }

    fn look_up(&mut self, phase: usize) {
        let Some(asker) = self.draw_asker() else { return };
        let ask = self.next_ask(asker, What::Lookup { phase });
        if self.design.lookup(&mut self.net, &self.catalogue, asker, ask) {
            self.phases[phase].lookups.started += 1;
        } else {
            self.pending.remove(&ask);
        }
    }

    // ---- what goes wrong ----

    fn mark(&mut self, label: &str) {
        let at_seconds = self.net.now().saturating_since(EPOCH).as_secs_f64();
        self.marks.push(Mark { at_seconds, label: label.to_owned() });
    }

    /// Hosts that run, without the server.
    fn running(&self) -> Vec<Ix> {
        let server = self.design.server();
        let all = 0..to_ix(self.net.hosts.len());
        all.filter(|ix| self.net.host(*ix).up && Some(*ix) != server).collect()
    }

    fn strike(&mut self, strike: Strike) {
        self.mark(strike.label());
        match strike {
            Strike::Kill { share } => {
                let mut up = self.running();
                self.fate.shuffle(&mut up);
                let count = u64::from(share) * up.len() as u64 / u64::from(PPM_ONE);
                up.truncate(usize::try_from(count).unwrap_or(usize::MAX));
                up.extend(self.design.server().filter(|_| self.strike_server && share > 0));
                up.into_iter().for_each(|ix| self.crash(ix));
            }
            Strike::Partition { lasts } => {
                self.net.partitioned = true;
                if let Some(lasts) = lasts {
                    self.at(self.net.now() + lasts, Task::HealPartition);
                }
            }
            Strike::RestartAll { pause, spread } => {
                let all: Vec<_> = self.running().into_iter().chain(self.design.server()).collect();
                for ix in all {
                    self.crash(ix);
                    let wait = pause + self.fate.within(spread);
                    self.at(self.net.now() + wait, Task::Restart(ix));
                }
            }
            Strike::Churn { session } => {
                self.churning = Some(session);
                for ix in self.running() {
                    self.begin_session(ix);
                }
            }
            Strike::Links { loss, duplicate, reorder, lasts } => {
                let link = &mut self.net.link;
                (link.loss, link.duplicate, link.reorder) = (loss, duplicate, reorder);
                if let Some(lasts) = lasts {
                    self.at(self.net.now() + lasts, Task::HealLinks);
                }
            }
        }
    }

    fn crash(&mut self, ix: Ix) {
        if self.net.host(ix).up {
            self.net.crash(ix);
            self.design.gone(&mut self.net, ix);
        }
    }

    fn restart(&mut self, ix: Ix) {
        if !self.net.host(ix).up {
            self.net.restart(ix);
            self.design.back(&mut self.net, &self.catalogue, ix);
            self.begin_session(ix);
        }
    }

    fn begin_session(&mut self, host: Ix) {
        if let Some(mean) = self.churning.filter(|_| !self.askers.contains(&host)) {
            let length = self.fate.exponential(mean);
            let incarnation = self.net.host(host).incarnation;
            self.at(self.net.now() + length, Task::SessionEnd { host, incarnation });
        }
    }

    fn session_end(&mut self, host: Ix, incarnation: u32) {
        let Some(mean) = self.churning else { return };
        if self.net.host(host).incarnation == incarnation && self.net.host(host).up {
            self.crash(host);
            self.at(self.net.now() + mean / 4, Task::Restart(host));
        }
    }
}

/// Adds what a phase's hits are, for both the phase and the series.
fn hits(found: usize, wanted: usize) -> Hits {
    Hits { found: found as u64, wanted: wanted as u64 }
}
