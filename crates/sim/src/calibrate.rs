//! The same network twice: a plan that the simulator and a driver of real nodes both carry out, and the comparison of what they
//! measured.
//!
//! A [`Plan`] fixes identities, places, who joins when and through whom, who publishes what, who asks what, all drawn from a seed.
//! [`simulate`] carries it out on a network without loss and with next to no delay; whoever drives real nodes does the same things at the
//! same times and fills in a [`Measured`] through the same methods. What is left to differ is what the simulator leaves out: real links,
//! real clocks, the order in which things happen at once. [`compare`] lists both sides metric by metric.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use comity_capability::record::{Beat, Load, PeerRecord, Status};
use comity_core::{AgentId, Identity, OverlayId, Position, Time};
use comity_overlay::directory::pack;
use comity_overlay::{
    Command, Config, Contact, Cost, ItemKey, ItemKind, JoinReport, K, LookupReport, Outcome,
    PeerQuery, PeerReport, Publication, PublishReport, Query, QueryReport, Stats, Subject,
};

use crate::link::{Line, LinkModel};
use crate::random::Random;
use crate::scenario::EPOCH;
use crate::workload::{Question, Spec, Workload, digests};
use crate::world::{Completed, MESSAGE_OVERHEAD_BYTES, Messages, Op, Settings, World};

/// Nodes that already run which a new node is told to join through.
const SEEDS: usize = 3;
/// Life of digests and peer records: longer than any plan.
const DIGEST_LIFE: Duration = Duration::from_secs(24 * 3_600);
/// Life of beats: longer than any plan.
const BEAT_LIFE: Duration = Duration::from_secs(2 * 3_600);
/// Longest that commands begun last may still take after the plan's end.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// What a plan is drawn from.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Decides everything.
    pub seed: u64,
    /// Nodes.
    pub nodes: usize,
    /// Of every node.
    pub config: Config,
    /// Time between two starts.
    pub join_every: Duration,
    /// Time for things to calm down after the last join and after the last publication.
    pub settle: Duration,
    /// Publications are spread over this time.
    pub publish_window: Duration,
    /// Nothing is asked for so long, to measure what the network costs by itself.
    pub idle: Duration,
    /// Questions are spread over this time.
    pub ask_window: Duration,
    /// Directory queries.
    pub queries: usize,
    /// Searches for a peer record.
    pub finds: usize,
    /// Lookups of a random place.
    pub lookups: usize,
}

impl Setup {
    /// A few minutes: `nodes` join, a third of them publish, and 300 questions are asked.
    #[must_use]
    pub const fn new(nodes: usize, seed: u64, config: Config) -> Self {
        Self {
            seed,
            nodes,
            config,
            join_every: Duration::from_millis(400),
            settle: Duration::from_secs(15),
            publish_window: Duration::from_secs(20),
            idle: Duration::from_secs(30),
            ask_window: Duration::from_secs(40),
            queries: 150,
            finds: 100,
            lookups: 50,
        }
    }
}

/// One node of a plan.
#[derive(Debug)]
pub struct Planned {
    secret: [u8; 32],
    /// Its key.
    pub agent: AgentId,
    /// Its place, derived as production does.
    pub place: OverlayId,
    /// When it starts and joins, counted from the beginning.
    pub starts: Duration,
    /// Through whom: earlier nodes.
    pub seeds: Vec<usize>,
    /// When it publishes its capabilities, if it has any.
    pub publishes: Option<Duration>,
    specs: Vec<Spec>,
}

impl Planned {
    /// Its key pair.
    #[must_use]
    pub fn identity(&self) -> Identity {
        Identity::from_secret_bytes(&self.secret)
    }

    /// What it publishes as soon as it has joined: where it is.
    #[must_use]
    pub fn presence(&self, contact: &Contact, now: Time) -> Vec<Publication> {
        vec![peer_record(&self.identity(), contact, 1, now)]
    }

    /// What it publishes later: its capabilities, that it lives, and where it is.
    #[must_use]
    pub fn capabilities(&self, contact: &Contact, now: Time) -> Vec<Publication> {
        let (identity, seq) = (self.identity(), 2);
        let mut items: Vec<_> = digests(&self.specs, seq, now, now + DIGEST_LIFE)
            .into_iter()
            .map(|(digest, labels)| Publication {
                item: pack(ItemKind::Digest, &digest.seal(&identity)),
                labels,
            })
            .collect();
        items.push(peer_record(&identity, contact, seq, now));
        let beat = Beat::new(seq, now, now + BEAT_LIFE, Status::Warm, Load::Idle);
        items.push(Publication::unlabelled(pack(ItemKind::Beat, &beat.seal(&identity))));
        items
    }
}

fn peer_record(identity: &Identity, contact: &Contact, seq: u64, now: Time) -> Publication {
    let record = PeerRecord::new(seq, now, now + DIGEST_LIFE, &contact.addrs, true);
    Publication::unlabelled(pack(ItemKind::Peer, &record.seal(identity)))
}

/// One question of a plan.
#[derive(Clone, Debug)]
pub struct Asked {
    /// When, counted from the beginning.
    pub at: Duration,
    /// By whom.
    pub asker: usize,
    /// What.
    pub ask: Ask,
}

/// The kinds of questions, each with its right answer.
#[derive(Clone, Debug)]
pub enum Ask {
    /// Who can do this?
    Query {
        /// The query for the overlay.
        query: Query,
        /// All right answers.
        gold: BTreeSet<ItemKey>,
    },
    /// Where is that agent?
    Find {
        /// Whose record is wanted.
        agent: AgentId,
        /// Its place.
        overlay_id: OverlayId,
    },
    /// Who is nearest to that place?
    Nearest {
        /// The place.
        target: OverlayId,
        /// The true [`K`] nearest, the asker left out.
        nearest: BTreeSet<AgentId>,
    },
}

impl Ask {
    /// The command that asks it.
    #[must_use]
    pub fn command(&self) -> Command {
        match self {
            Self::Query { query, .. } => Command::Query(query.clone()),
            Self::Find { agent, overlay_id } => {
                Command::FindPeer(PeerQuery::Agent { agent: *agent, overlay_id: *overlay_id })
            }
            Self::Nearest { target, .. } => Command::Lookup { target: *target },
        }
    }
}

/// Everything that happens.
#[derive(Debug)]
pub struct Plan {
    /// What it was drawn from.
    pub setup: Setup,
    /// The nodes, in the order in which they start.
    pub nodes: Vec<Planned>,
    /// The questions, in the order in which they are asked.
    pub asked: Vec<Asked>,
    /// When the time without questions begins.
    pub idle_from: Duration,
    /// When it ends and questions begin.
    pub ask_from: Duration,
    /// When the last question has been given time to end.
    pub end: Duration,
}

impl Plan {
    /// Draws a plan.
    #[must_use]
    pub fn draw(setup: Setup) -> Self {
        let mut random = Random::new(setup.seed, "calibration");
        let count = u32::try_from(setup.nodes).unwrap_or(u32::MAX);
        let joined = setup.join_every * count + setup.settle;
        let mut nodes: Vec<Planned> = Vec::new();
        for (order, index) in (0..count).zip(0..setup.nodes) {
            let secret = random.bytes();
            let agent = Identity::from_secret_bytes(&secret).id();
            let mut seeds: Vec<usize> = (0..index).collect();
            random.shuffle(&mut seeds);
            seeds.truncate(SEEDS);
            nodes.push(Planned {
                secret,
                agent,
                place: Position::of(&agent).overlay_id(),
                starts: setup.join_every * order,
                seeds,
                publishes: None,
                specs: Vec::new(),
            });
        }
        let publishers = setup.nodes.div_ceil(3);
        let workload = Workload {
            publishers,
            capabilities_each: 2,
            twins: 400_000,
            classes: 12,
            pairs: u32::try_from(publishers).unwrap_or(u32::MAX),
            ..Workload::default()
        };
        let mut chosen: Vec<usize> = (0..setup.nodes).collect();
        random.shuffle(&mut chosen);
        chosen.truncate(publishers);
        let specs = workload.draw_specs(&mut random, publishers);
        for (index, specs) in chosen.iter().zip(specs) {
            nodes[*index].publishes = Some(joined + random.within(setup.publish_window));
            nodes[*index].specs = specs;
        }
        let idle_from = joined + setup.publish_window + setup.settle;
        let ask_from = idle_from + setup.idle;
        let asked = draw_questions(&mut random, &setup, &nodes, &chosen, &workload, ask_from);
        let end = ask_from + setup.ask_window + setup.settle;
        Self { setup, nodes, asked, idle_from, ask_from, end }
    }
}

fn draw_questions(
    random: &mut Random,
    setup: &Setup,
    nodes: &[Planned],
    publishers: &[usize],
    workload: &Workload,
    from: Duration,
) -> Vec<Asked> {
    let mut asked = Vec::new();
    for number in 0..setup.queries + setup.finds + setup.lookups {
        let (at, asker) = (from + random.within(setup.ask_window), random.index(nodes.len()));
        let Some(publisher) = random.pick(publishers).map(|index| &nodes[*index]) else { break };
        let ask = if number < setup.queries {
            let Some(spec) = random.pick(&publisher.specs) else { continue };
            let question = workload.draw_question(random, spec);
            Ask::Query { query: question.command(), gold: gold(&question, nodes) }
        } else if number < setup.queries + setup.finds {
            Ask::Find { agent: publisher.agent, overlay_id: publisher.place }
        } else {
            let target = OverlayId(random.bytes());
            let nearest = nearest(nodes, &target, nodes[asker].agent);
            Ask::Nearest { target, nearest }
        };
        asked.push(Asked { at, asker, ask });
    }
    asked.sort_by_key(|asked| asked.at);
    asked
}

fn gold(question: &Question, nodes: &[Planned]) -> BTreeSet<ItemKey> {
    let specs = nodes.iter().flat_map(|node| node.specs.iter().map(move |spec| (node, spec)));
    specs
        .filter(|(_, spec)| spec.answers(question))
        .map(|(node, spec)| ItemKey {
            signer: node.agent,
            kind: ItemKind::Digest,
            subject: Some(Subject::of(&spec.name)),
        })
        .collect()
}

fn nearest(nodes: &[Planned], target: &OverlayId, asker: AgentId) -> BTreeSet<AgentId> {
    let mut sorted: Vec<_> = nodes.iter().filter(|node| node.agent != asker).collect();
    sorted.sort_by_key(|node| node.place.distance(target));
    sorted.into_iter().take(K).map(|node| node.agent).collect()
}

/// Commands of one kind that ended.
#[derive(Clone, Debug, Default)]
pub struct Commands {
    costs: Vec<Cost>,
    /// Those that did not end as they should.
    pub failed: u64,
    /// What there was to find or to hold.
    pub wanted: u64,
    /// What of it was found or is held.
    pub got: u64,
}

impl Commands {
    fn add(&mut self, cost: Cost, wanted: usize, got: usize) {
        self.costs.push(cost);
        self.wanted += wanted as u64;
        self.got += got as u64;
    }

    /// How many ended.
    #[must_use]
    pub fn ended(&self) -> usize {
        self.costs.len()
    }

    /// Share of what there was to find; 1 if there was nothing.
    #[must_use]
    pub fn recall(&self) -> f64 {
        if self.wanted == 0 { 1.0 } else { ratio(self.got, self.wanted) }
    }

    /// Mean of a number over all that ended.
    pub fn mean(&self, of: impl Fn(&Cost) -> u64) -> f64 {
        ratio(self.costs.iter().map(of).sum(), self.costs.len() as u64)
    }

    /// Standard error of that mean, as a share of it: how far it would scatter over plans by chance alone.
    pub fn spread(&self, of: impl Fn(&Cost) -> u64) -> f64 {
        let (mean, count) = (self.mean(&of), float(self.costs.len() as u64));
        if mean == 0.0 || count < 2.0 {
            return 0.0;
        }
        let squares: f64 =
            self.costs.iter().map(|cost| (float(of(cost)) - mean).powi(2)).sum::<f64>();
        (squares / (count - 1.0) / count).sqrt() / mean
    }

    /// Latency at a percentile, by nearest rank.
    #[must_use]
    pub fn latency(&self, percent: usize) -> Duration {
        let mut sorted: Vec<_> = self.costs.iter().map(|cost| cost.elapsed).collect();
        sorted.sort_unstable();
        let rank = (sorted.len() * percent).div_ceil(100).max(1);
        sorted.get(rank - 1).copied().unwrap_or_default()
    }
}

/// Counters of all nodes together at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Requests sent.
    pub requests: u64,
    /// Requests that failed.
    pub requests_failed: u64,
    /// Messages sent, requests and answers.
    pub messages: u64,
    /// Their encoded bytes.
    pub bytes: u64,
    /// Items held.
    pub items: u64,
    /// Their bytes.
    pub item_bytes: u64,
    /// Table entries.
    pub peers: u64,
    /// Sum of the estimates of the network's size.
    pub size_estimates: u64,
    /// Nodes that were counted.
    pub nodes: u64,
}

impl Totals {
    /// Adds a node: its overlay's counters, and the messages and encoded bytes it sent.
    pub const fn add(&mut self, stats: &Stats, messages: u64, bytes: u64) {
        self.requests += stats.requests_sent;
        self.requests_failed += stats.requests_failed;
        self.messages += messages;
        self.bytes += bytes;
        self.items += stats.custody_items as u64;
        self.item_bytes += stats.custody_bytes as u64;
        self.peers += stats.peers as u64;
        self.size_estimates += stats.size_estimate;
        self.nodes += 1;
    }
}

/// What one side measured.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// Joins.
    pub joins: Commands,
    /// Publications of a peer record alone, and of capabilities.
    pub presences: Commands,
    /// Publications of capabilities; `wanted` are places, `got` those where somebody holds the item.
    pub publications: Commands,
    /// Directory queries; `wanted` are right answers.
    pub queries: Commands,
    /// Peer searches.
    pub finds: Commands,
    /// Lookups; `wanted` are the true nearest.
    pub lookups: Commands,
    /// Counters when the time without questions began, when it ended, and at the end.
    pub totals: [Totals; 3],
}

impl Measured {
    /// A join ended.
    pub fn joined(&mut self, report: Option<&JoinReport>) {
        match report {
            Some(report) => self.joins.add(report.cost, 1, 1),
            None => self.joins.failed += 1,
        }
    }

    /// A publication ended; of a peer record alone or of capabilities.
    pub fn published(&mut self, alone: bool, report: Option<&PublishReport>) {
        let commands = if alone { &mut self.presences } else { &mut self.publications };
        let Some(report) = report else {
            commands.failed += 1;
            return;
        };
        let wanted = report.items.iter().map(|item| item.places).sum();
        let got = report.items.iter().map(|item| item.places_held).sum();
        commands.add(report.cost, wanted, got);
    }

    /// A directory query was answered.
    pub fn answered(&mut self, gold: &BTreeSet<ItemKey>, report: Option<&QueryReport>) {
        let Some(report) = report else {
            self.queries.failed += 1;
            return;
        };
        let shown: BTreeSet<_> = report.matches.iter().map(|found| found.item.key()).collect();
        self.queries.add(report.cost, gold.len(), gold.intersection(&shown).count());
    }

    /// A peer search ended.
    pub fn found(&mut self, agent: &AgentId, report: Option<&PeerReport>) {
        let Some(report) = report else {
            self.finds.failed += 1;
            return;
        };
        let found = report.records.iter().any(|record| record.signer == *agent);
        self.finds.add(report.cost, 1, usize::from(found));
    }

    /// A lookup ended.
    pub fn looked_up(&mut self, nearest: &BTreeSet<AgentId>, report: Option<&LookupReport>) {
        let Some(report) = report else {
            self.lookups.failed += 1;
            return;
        };
        let found: BTreeSet<_> = report.closest.iter().map(|contact| contact.agent).collect();
        self.lookups.add(report.cost, nearest.len(), nearest.intersection(&found).count());
    }
}

/// What is done at a time in the simulation.
#[derive(Clone, Copy, Debug)]
enum Step {
    Start(usize),
    Publish(usize),
    Ask(usize),
    Count(usize),
}

/// What a command was for.
#[derive(Clone, Copy, Debug)]
enum Purpose {
    Join(usize),
    Presence,
    Capabilities,
    Ask(usize),
}

/// Carries the plan out in the simulator: nothing is lost, a message takes one to two milliseconds.
///
/// # Panics
/// Never for a drawn plan: its indexes name its own nodes.
#[must_use]
pub fn simulate(plan: &Plan) -> Measured {
    Simulation::new(plan).run()
}

struct Simulation<'a> {
    plan: &'a Plan,
    world: World,
    agenda: BTreeMap<(Time, usize), Step>,
    open: BTreeMap<Op, Purpose>,
    measured: Measured,
}

impl<'a> Simulation<'a> {
    fn new(plan: &'a Plan) -> Self {
        let link = LinkModel {
            access_median: Duration::ZERO,
            // Without any, all answers to requests sent together would arrive together, and the first that ends a search would
            // spare what the others cost: on a real network, loopback included, they arrive one after the other.
            jitter_max: Duration::from_millis(1),
            loss: 0,
            ..LinkModel::default()
        };
        let mut world = World::new(Settings {
            seed: plan.setup.seed,
            start: EPOCH,
            messages: Messages::Values,
            link,
            nodes_per_prefix: 1,
            shadow: false,
        });
        // All in one place: a millisecond each way.
        let line = Line { region: 0, access: Duration::ZERO };
        let mut random = Random::new(plan.setup.seed, "calibration lines");
        for node in &plan.nodes {
            let index = world.add_node_at(&mut random, node.secret, node.place);
            world.node_mut(index).line = line;
        }
        let starts = plan.nodes.iter().map(|node| node.starts).zip((0..).map(Step::Start));
        let publishers = plan.nodes.iter().zip(0..);
        let publishes =
            publishers.filter_map(|(node, index)| Some((node.publishes?, Step::Publish(index))));
        let asks = plan.asked.iter().map(|asked| asked.at).zip((0..).map(Step::Ask));
        let counts = [plan.idle_from, plan.ask_from, plan.end];
        let counts = counts.into_iter().zip((0..).map(Step::Count));
        let steps = starts.chain(publishes).chain(asks).chain(counts);
        let agenda =
            steps.zip(0..).map(|((after, step), order)| ((EPOCH + after, order), step)).collect();
        Self { plan, world, agenda, open: BTreeMap::new(), measured: Measured::default() }
    }

    fn run(mut self) -> Measured {
        let end = EPOCH + self.plan.end + PATIENCE;
        loop {
            let task = self.agenda.first_key_value().map(|((at, _), _)| *at);
            if task.is_none() && self.open.is_empty() {
                break;
            }
            let event = self.world.next_due();
            let is_task = task.is_some_and(|task| event.is_none_or(|event| task <= event));
            let next = if is_task { task } else { event };
            let Some(next) = next.filter(|next| *next <= end) else { break };
            if is_task {
                self.world.advance_to(next);
                if let Some((_, step)) = self.agenda.pop_first() {
                    self.carry_out(step);
                }
            } else {
                self.world.step();
            }
            while let Some(completed) = self.world.take_completed() {
                self.completed(completed);
            }
            while self.world.take_renewal().is_some() {}
        }
        self.measured
    }

    fn carry_out(&mut self, step: Step) {
        match step {
            Step::Start(index) => {
                self.world.start(index, self.plan.setup.config.clone());
                let seeds = self.plan.nodes[index].seeds.iter();
                let seeds = seeds.map(|seed| self.world.nodes()[*seed].contact.clone()).collect();
                self.command(index, Command::Join { seeds }, Purpose::Join(index));
            }
            Step::Publish(index) => {
                let contact = &self.world.nodes()[index].contact;
                let items = self.plan.nodes[index].capabilities(contact, self.world.now());
                self.command(index, Command::Publish { items }, Purpose::Capabilities);
            }
            Step::Ask(number) => {
                let Asked { asker, ask, .. } = &self.plan.asked[number];
                self.command(*asker, ask.command(), Purpose::Ask(number));
            }
            Step::Count(moment) => self.measured.totals[moment] = self.count(),
        }
    }

    fn count(&self) -> Totals {
        let mut totals = Totals::default();
        for node in self.world.nodes() {
            if let Some(overlay) = &node.overlay {
                let overhead = node.messages_sent * MESSAGE_OVERHEAD_BYTES;
                totals.add(&overlay.stats(), node.messages_sent, node.bytes_sent - overhead);
            }
        }
        totals
    }

    fn command(&mut self, index: usize, command: Command, purpose: Purpose) {
        if let Some(op) = self.world.command(index, command) {
            self.open.insert(op, purpose);
        }
    }

    fn completed(&mut self, completed: Completed) {
        let Some(purpose) = self.open.remove(&completed.op) else { return };
        let outcome = completed.outcome;
        match purpose {
            Purpose::Join(index) => {
                let report =
                    if let Outcome::Joined(report) = &outcome { Some(report) } else { None };
                self.measured.joined(report);
                let contact = &self.world.nodes()[index].contact;
                let items = self.plan.nodes[index].presence(contact, self.world.now());
                self.command(index, Command::Publish { items }, Purpose::Presence);
            }
            Purpose::Presence | Purpose::Capabilities => {
                let report =
                    if let Outcome::Published(report) = &outcome { Some(report) } else { None };
                self.measured.published(matches!(purpose, Purpose::Presence), report);
            }
            Purpose::Ask(number) => match (&self.plan.asked[number].ask, &outcome) {
                (Ask::Query { gold, .. }, Outcome::Answers(report)) => {
                    self.measured.answered(gold, Some(report));
                }
                (Ask::Query { gold, .. }, _) => self.measured.answered(gold, None),
                (Ask::Find { agent, .. }, Outcome::Peers(report)) => {
                    self.measured.found(agent, Some(report));
                }
                (Ask::Find { agent, .. }, _) => self.measured.found(agent, None),
                (Ask::Nearest { nearest, .. }, Outcome::Closest(report)) => {
                    self.measured.looked_up(nearest, Some(report));
                }
                (Ask::Nearest { nearest, .. }, _) => self.measured.looked_up(nearest, None),
            },
        }
    }
}

/// One metric on both sides.
#[derive(Clone, Debug, PartialEq)]
pub struct Compared {
    /// What it is.
    pub metric: String,
    /// In the simulator.
    pub simulated: f64,
    /// With real nodes.
    pub real: f64,
    /// How far chance alone moves it, as a share: twice the standard error of the mean. 0 where the metric is no mean over commands.
    pub chance: f64,
    /// Whether the two have to agree; times do not.
    pub bound: bool,
}

impl Compared {
    /// Real over simulated; 1 when both are nothing.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        if self.simulated == self.real { 1.0 } else { self.real / self.simulated }
    }

    /// Whether the two sides agree within `share`, such as 0.1.
    #[must_use]
    pub fn agrees(&self, share: f64) -> bool {
        (self.ratio() - 1.0).abs() <= share
    }
}

/// All metrics of both sides.
#[must_use]
pub fn compare(simulated: &Measured, real: &Measured) -> Vec<Compared> {
    let mut lines = Vec::new();
    let mut line = |metric: String, of: &dyn Fn(&Measured) -> f64, chance: f64, bound: bool| {
        lines.push(Compared { metric, simulated: of(simulated), real: of(real), chance, bound });
    };
    let kinds: [(&str, &dyn Fn(&Measured) -> &Commands); 6] = [
        ("join", &|side| &side.joins),
        ("presence", &|side| &side.presences),
        ("publish", &|side| &side.publications),
        ("query", &|side| &side.queries),
        ("find", &|side| &side.finds),
        ("lookup", &|side| &side.lookups),
    ];
    for (kind, of) in kinds {
        let costs: [(&str, &dyn Fn(&Cost) -> u64); 3] = [
            ("requests", &|cost| u64::from(cost.requests)),
            ("bytes", &|cost| cost.bytes_sent + cost.bytes_received),
            ("hops", &|cost| u64::from(cost.hops)),
        ];
        for (what, cost) in costs {
            // A publication has the hops of its last lookup only, which chance decides.
            let chance = 2.0 * of(simulated).spread(cost);
            line(format!("{kind}: {what}"), &|side| of(side).mean(cost), chance, true);
        }
        line(format!("{kind}: recall"), &|side| of(side).recall(), 0.0, true);
        line(format!("{kind}: failed"), &|side| float(of(side).failed), 0.0, false);
        let median = |side: &Measured| of(side).latency(50).as_secs_f64() * 1e3;
        line(format!("{kind}: median ms"), &median, 0.0, false);
    }
    totals(&mut line);
    lines
}

fn totals(line: &mut dyn FnMut(String, &dyn Fn(&Measured) -> f64, f64, bool)) {
    let end = |side: &Measured| side.totals[2];
    let each = |count: u64, totals: &Totals| ratio(count, totals.nodes);
    line("table entries a node".to_owned(), &|side| each(end(side).peers, &end(side)), 0.0, true);
    line("items held a node".to_owned(), &|side| each(end(side).items, &end(side)), 0.0, true);
    line("bytes held a node".to_owned(), &|side| each(end(side).item_bytes, &end(side)), 0.0, true);
    line(
        "network size believed".to_owned(),
        &|side| each(end(side).size_estimates, &end(side)),
        0.0,
        true,
    );
    line(
        "requests failed a node".to_owned(),
        &|side| each(end(side).requests_failed, &end(side)),
        0.0,
        false,
    );
    let spans: [(&str, Option<usize>, usize); 3] =
        [("until idle", None, 0), ("idle", Some(0), 1), ("while asked", Some(1), 2)];
    let counts: [(&str, &dyn Fn(&Totals) -> u64); 3] = [
        ("requests", &|totals| totals.requests),
        ("messages", &|totals| totals.messages),
        ("bytes", &|totals| totals.bytes),
    ];
    for (span, from, to) in spans {
        for (what, of) in counts {
            let grown = |side: &Measured| {
                let before = from.map_or(0, |from| of(&side.totals[from]));
                each(of(&side.totals[to]).saturating_sub(before), &side.totals[to])
            };
            // What is left of upkeep without questions are the last size samples of those that joined last: a handful of lookups, of which
            // one more or less falls into the span.
            line(format!("{span}: {what} sent a node"), &grown, 0.0, span != "idle");
        }
    }
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { float(part) / float(whole) }
}

/// For reports only: exact up to 2^53.
#[allow(clippy::cast_precision_loss, reason = "reports round anyway")]
const fn float(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(seed: u64) -> Plan {
        let setup =
            Setup { queries: 12, finds: 6, lookups: 3, ..Setup::new(12, seed, Config::default()) };
        Plan::draw(setup)
    }

    #[test]
    fn a_healthy_network_of_a_plan_finds_everything() {
        let measured = simulate(&plan(1));
        let ended = [&measured.queries, &measured.finds, &measured.lookups].map(Commands::ended);
        assert_eq!(ended, [12, 6, 3]);
        assert_eq!((measured.joins.ended(), measured.publications.ended()), (12, 4));
        for commands in [&measured.publications, &measured.queries, &measured.finds] {
            assert!(commands.wanted > 0 && commands.recall() == 1.0, "{commands:?}");
        }
    }

    #[test]
    fn equal_plans_measure_equal_numbers() {
        let compared = compare(&simulate(&plan(2)), &simulate(&plan(2)));
        assert!(compared.iter().all(|line| line.simulated == line.real), "{compared:?}");
    }

    #[test]
    fn a_side_that_costs_more_is_seen() {
        let simulated = simulate(&plan(3));
        let mut real = simulated.clone();
        real.queries.costs.iter_mut().for_each(|cost| cost.requests *= 2);
        let apart: Vec<_> = compare(&simulated, &real)
            .into_iter()
            .filter(|line| line.bound && !line.agrees(0.1))
            .map(|line| line.metric)
            .collect();
        assert_eq!(apart, ["query: requests"]);
    }
}
