//! `comity bench calibrate`: the same plan carried out by the simulator and by real nodes in this process, and their counters side
//! by side.
//!
//! The nodes are whole nodes, with QUIC links over loopback and custody in memory; only what the simulator does not have is left
//! out: homes, local APIs, capabilities that are called.

mod report;

use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::Args;
use comity::overlay::{Contact, PeerQuery};
use comity::transport::{LinkTraffic, Protocol};
use comity::{Directory, NetworkRuntime, Node, overlay_config};
use comity_api::types::Exit;
use comity_core::Time;
use comity_sim::calibrate::{Ask, Measured, PATIENCE, Plan, Setup, Totals, compare, simulate};
use futures_util::future::join_all;
use tokio::task::JoinSet;

use self::report::{Footprint, Report, Wire};
use super::Progress;
use super::machine::{Machine, load, processor_time, usage};
use crate::output::Output;
use crate::render;

/// Fewest nodes: below, every node is a custodian of everything.
const NODES_MIN: u16 = 10;
/// Most nodes; each has two threads and a socket of its own.
const NODES_MAX: u16 = 400;

/// A step that is later than this delays all that follow.
const LATE_MAX: Duration = Duration::from_millis(50);

/// Options of the calibration.
#[derive(Debug, Clone, Args)]
pub(crate) struct CalibrateArgs {
    /// Print one JSON document instead of a table.
    #[arg(long)]
    pub(crate) json: bool,

    /// Number of nodes, all in this process.
    #[arg(long, default_value_t = 200, value_name = "N",
        value_parser = clap::value_parser!(u16).range(i64::from(NODES_MIN)..=i64::from(NODES_MAX)))]
    nodes: u16,

    /// Milliseconds between two joins: too few on a slow machine, and requests time out that the simulator answers.
    #[arg(long, default_value_t = 400, value_name = "N",
        value_parser = clap::value_parser!(u64).range(50..=10_000))]
    join_every_ms: u64,

    /// Draws keys, capabilities and questions.
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
}

/// Runs both sides. Fails when they do not agree.
pub(crate) async fn run(args: &CalibrateArgs, out: &Output) -> Result<ExitCode> {
    let progress = Progress::new(out);
    let mut machine = Machine::here();
    let setup = setup(args);
    progress.step("drawing the plan");
    let (plan, simulated, simulated_in) = tokio::task::spawn_blocking(move || {
        let plan = Plan::draw(setup);
        let started = Instant::now();
        let simulated = simulate(&plan);
        (plan, simulated, started.elapsed())
    })
    .await
    .context("the simulation ended early")?;
    let (real, footprint) = Real::new(plan, &progress).run().await?;
    machine.load_after = load();
    progress.end();
    let compared = compare(&simulated, &real);
    let report =
        Report::new(machine, args.nodes.into(), args.seed, simulated_in, &compared, footprint);
    out.answer(&report, report::text)?;
    let exit = if report.agrees { Exit::Ok } else { Exit::Failure };
    Ok(ExitCode::from(exit.code()))
}

/// Nodes publish as far apart as three of them join: a third does, and to keep something on all custodians costs more than to join.
/// Questions come as fast as they may without every node being asked something all the time.
fn setup(args: &CalibrateArgs) -> Setup {
    let join_every = Duration::from_millis(args.join_every_ms);
    let joining = join_every * u32::from(args.nodes);
    let default = Setup::new(usize::from(args.nodes), args.seed, overlay_config());
    Setup {
        join_every,
        publish_window: joining.max(default.publish_window),
        ask_window: (joining / 2).max(default.ask_window),
        ..default
    }
}

/// What is done at a time.
#[derive(Debug, Clone, Copy)]
enum Step {
    Publish(usize),
    Ask(usize),
    Count(usize),
}

/// The real side.
struct Real<'a> {
    plan: Arc<Plan>,
    progress: &'a Progress,
    begun: Instant,
    nodes: Vec<Node>,
    contacts: Vec<Contact>,
    measured: Arc<Mutex<Measured>>,
    running: JoinSet<()>,
    footprint: Footprint,
}

impl<'a> Real<'a> {
    fn new(plan: Plan, progress: &'a Progress) -> Self {
        Self {
            plan: Arc::new(plan),
            progress,
            begun: Instant::now(),
            nodes: Vec::new(),
            contacts: Vec::new(),
            measured: Arc::default(),
            running: JoinSet::new(),
            footprint: Footprint::default(),
        }
    }

    async fn run(mut self) -> Result<(Measured, Footprint)> {
        let before = usage(std::process::id());
        let busy = processor_time();
        self.start_all().await?;
        let plan = Arc::clone(&self.plan);
        let publishers = plan.nodes.iter().zip(0..);
        let publishes =
            publishers.filter_map(|(node, index)| Some((node.publishes?, Step::Publish(index))));
        let asks = plan.asked.iter().map(|asked| asked.at).zip((0..).map(Step::Ask));
        let counts = [plan.idle_from, plan.ask_from, plan.end];
        let counts = counts.into_iter().zip((0..).map(Step::Count));
        let mut agenda: Vec<_> = publishes.chain(asks).chain(counts).collect();
        agenda.sort_by_key(|(at, _)| *at);
        let mut busy_marks = Vec::new();
        for (at, step) in agenda {
            self.wait_until(at).await;
            match step {
                Step::Publish(index) => self.publish(index),
                Step::Ask(number) => self.ask(number),
                Step::Count(moment) => {
                    self.count(moment).await;
                    busy_marks.push(processor_time());
                }
            }
        }
        let nodes = u32::try_from(self.nodes.len()).unwrap_or(1).max(1);
        let after = usage(std::process::id());
        self.footprint.memory_bytes_each = before
            .zip(after)
            .map(|(before, after)| after.own.saturating_sub(before.own) / u64::from(nodes));
        let spent = |from: Option<Duration>, to: Option<&Option<Duration>>| {
            Some(to.copied()??.saturating_sub(from?) / nodes)
        };
        self.footprint.processor_join_publish_us_each =
            spent(busy, busy_marks.first()).map(super::micros);
        let idle = spent(busy_marks.first().copied().flatten(), busy_marks.get(1));
        let seconds = self.plan.setup.idle.as_secs_f64();
        self.footprint.processor_idle_us_per_s_each =
            idle.map(|idle| idle.as_secs_f64() * 1e6 / seconds);
        self.progress.step("waiting for the last commands");
        let ended = tokio::time::timeout(PATIENCE, async {
            while self.running.join_next().await.is_some() {}
        });
        ended.await.context("commands of the real nodes did not end")?;
        self.progress.step("stopping the nodes");
        join_all(self.nodes.iter().map(Node::shutdown)).await;
        let measured = lock(&self.measured).clone();
        Ok((measured, self.footprint))
    }

    async fn wait_until(&mut self, at: Duration) {
        let due = self.begun + at;
        let now = Instant::now();
        if now < due {
            tokio::time::sleep_until(due.into()).await;
        }
        let late = Instant::now().saturating_duration_since(due);
        self.footprint.late_us_max = self.footprint.late_us_max.max(super::micros(late));
        if late > LATE_MAX {
            // What comes next keeps its distance: two steps at once would be another plan.
            self.begun += late;
        }
    }

    async fn start_all(&mut self) -> Result<()> {
        let plan = Arc::clone(&self.plan);
        self.progress.step("starting nodes");
        self.begun = Instant::now();
        let mut starting = Duration::ZERO;
        for (index, planned) in plan.nodes.iter().enumerate() {
            self.wait_until(planned.starts).await;
            let began = Instant::now();
            let mut builder = Node::builder();
            if let Some(first) = self.nodes.first() {
                // The plan derived all places already; a machine does not run hundreds of nodes.
                builder = builder.places_of(first);
            }
            let node = builder
                .identity(planned.identity())
                .overlay(plan.setup.config.clone())
                .runtime(NetworkRuntime::Current)
                .start()
                .await
                .context("a node does not start")?;
            starting += began.elapsed();
            self.contacts.push(node.contact());
            let seeds = planned.seeds.iter().map(|seed| self.contacts[*seed].clone()).collect();
            self.join(index, node.directory().clone(), node.contact(), seeds);
            self.nodes.push(node);
            self.progress.say(&format!("starting nodes: {} of {}", index + 1, plan.nodes.len()));
        }
        let nodes = u32::try_from(self.nodes.len()).unwrap_or(1).max(1);
        self.footprint.start_us_each = super::micros(starting / nodes);
        self.progress.step("publishing, then asking");
        Ok(())
    }

    fn join(&mut self, index: usize, directory: Directory, me: Contact, seeds: Vec<Contact>) {
        let (plan, measured) = (Arc::clone(&self.plan), Arc::clone(&self.measured));
        self.running.spawn(async move {
            let joined = directory.join(seeds).await;
            lock(&measured).joined(joined.ok().as_ref());
            let items = plan.nodes[index].presence(&me, now());
            let published = directory.publish(items).await;
            lock(&measured).published(true, published.ok().as_ref());
        });
    }

    fn publish(&mut self, index: usize) {
        let (plan, measured) = (Arc::clone(&self.plan), Arc::clone(&self.measured));
        let (directory, me) = (self.nodes[index].directory().clone(), self.contacts[index].clone());
        self.running.spawn(async move {
            let items = plan.nodes[index].capabilities(&me, now());
            let published = directory.publish(items).await;
            lock(&measured).published(false, published.ok().as_ref());
        });
    }

    fn ask(&mut self, number: usize) {
        let (plan, measured) = (Arc::clone(&self.plan), Arc::clone(&self.measured));
        let directory = self.nodes[plan.asked[number].asker].directory().clone();
        self.running.spawn(async move {
            match &plan.asked[number].ask {
                Ask::Query { query, gold } => {
                    let report = directory.query(query.clone()).await;
                    lock(&measured).answered(gold, report.ok().as_ref());
                }
                Ask::Find { agent, overlay_id } => {
                    let wanted = PeerQuery::Agent { agent: *agent, overlay_id: *overlay_id };
                    let report = directory.find_peer(wanted).await;
                    lock(&measured).found(agent, report.ok().as_ref());
                }
                Ask::Nearest { target, nearest } => {
                    let report = directory.lookup(*target).await;
                    lock(&measured).looked_up(nearest, report.ok().as_ref());
                }
            }
        });
    }

    /// Reads all counters. Takes a moment, in which the network goes on.
    async fn count(&mut self, moment: usize) {
        let counted = join_all(self.nodes.iter().map(|node| node.directory().counters())).await;
        let mut totals = Totals::default();
        for counters in counted.iter().flatten() {
            let traffic = counters.traffic;
            totals.add(&counters.overlay, traffic.messages_sent, traffic.bytes_sent);
        }
        lock(&self.measured).totals[moment] = totals;
        let links = self.nodes.iter().map(|node| node.link_traffic(Protocol::Overlay));
        let carried = links.fold(LinkTraffic::default(), |sum, link| LinkTraffic {
            datagrams_sent: sum.datagrams_sent + link.datagrams_sent,
            bytes_sent: sum.bytes_sent + link.bytes_sent,
            ..sum
        });
        self.footprint.wire.push(Wire {
            messages: totals.messages,
            message_bytes: totals.bytes,
            links: self.nodes.iter().map(|node| node.link_counts().established_total).sum::<u64>()
                / 2,
            live: self.nodes.iter().map(|node| node.link_counts().live as u64).sum::<u64>() / 2,
            datagrams: carried.datagrams_sent,
            datagram_bytes: carried.bytes_sent,
        });
    }
}

fn lock(measured: &Mutex<Measured>) -> MutexGuard<'_, Measured> {
    // Nothing panics while holding it; were it so, the numbers would still be whole.
    measured.lock().unwrap_or_else(PoisonError::into_inner)
}

fn now() -> Time {
    Time::from_millis(render::now_ms())
}

#[cfg(test)]
mod tests {
    use comity::overlay::Config;

    use super::*;

    /// Commands whose requests do not depend on which answer of several arrives first: others are cut short by it.
    const STEADY: [&str; 3] = ["publish: ", "query: ", "lookup: "];

    /// Thirty real nodes against thirty simulated ones. In a network this small every node comes to know every other, so that what these
    /// commands cost hardly depends on the order of events: the bound of 10 % is far above what chance or a busy machine moves. What does
    /// depend on it is left out: joins that overlap, searches that end with the first answer, upkeep in a span of time.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn thirty_real_nodes_do_what_the_simulator_says() {
        // Nothing times out where nothing is lost, unless the machine has no time for the nodes: then they wait.
        let patience = Duration::from_secs(60);
        let config = Config {
            soft_timeout_min: patience,
            hard_timeout: patience,
            hard_timeout_failing: patience,
            lookup_deadline: patience,
            query_deadline: patience,
            ..overlay_config()
        };
        let setup = Setup {
            join_every: Duration::from_millis(250),
            settle: Duration::from_secs(3),
            publish_window: Duration::from_secs(2),
            idle: Duration::from_millis(100),
            ask_window: Duration::from_secs(3),
            ..Setup::new(30, 1, config)
        };
        let plan = Plan::draw(setup);
        let simulated = simulate(&plan);
        let progress = Progress::new(&Output::new(true, true));
        let (real, _) = Real::new(plan, &progress).run().await.expect("thirty nodes run here");
        let apart: Vec<_> = compare(&simulated, &real)
            .into_iter()
            .filter(|line| line.bound)
            .filter(|line| {
                STEADY.iter().any(|kind| line.metric.starts_with(kind))
                    || ["find: recall", "table entries a node"].contains(&line.metric.as_str())
            })
            .filter(|line| !line.agrees(report::TOLERANCE))
            .collect();
        assert!(apart.is_empty(), "{apart:#?}");
        assert_eq!(real.queries.ended(), simulated.queries.ended());
    }
}
