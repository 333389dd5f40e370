//! First calls: connect, call, answer - to a server never met (full handshake) and to one met before (0-RTT),
//! over loopback and over an emulated long path.

use std::{
    any::Any,
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result};
use clap::Args;
use comity_bench_path::{
    lab::{self, Lab, Side, Trace, Traffic},
    stage::{Place, Stage},
};
use serde::Serialize;

use crate::{
    contender::{self, After, Client, Contender, Target},
    report::{self, Bound, Goal, Report, progress, spread, table},
    stats::{Spread, median, micros},
};

/// What is measured unless `--only` says otherwise; udp shows the round trip of the path itself.
const DEFAULT: [&str; 5] = ["comity", "iroh-pooled", "iroh-burst", "https1", "udp"];
/// What ratios refer to: a first call over HTTPS.
const REFERENCE: &str = "https1 first";
/// Starting a server, or one first call, may take this long.
const STEP_LIMIT_S: u64 = 30;

/// Options of `cold`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// Passes over all contenders; the order rotates from pass to pass
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=100))]
    passes: u16,
    /// First calls per contender and pass
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    samples: u16,
    /// Which path
    #[arg(long, value_enum, default_value_t = Which::Both)]
    path: Which,
    /// One-way delay of the long path, in milliseconds
    #[arg(long, default_value_t = 25, value_parser = clap::value_parser!(u64).range(0..=2_000))]
    delay_ms: u64,
    /// Most additional delay per packet of the long path, in milliseconds
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=2_000))]
    jitter_ms: u64,
    /// Share of packets lost on the long path, 0 to 0.5
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    loss: f64,
    /// Rate of the long path in Mbit/s, 0 for unlimited
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=100_000))]
    mbit: u32,
    /// Waiting time at which the rate limit's queue drops, in milliseconds
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    queue_ms: u64,
    /// Seed of loss and jitter
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print each packet of the long path on standard error
    #[arg(long)]
    trace: bool,
    /// Only these contenders (comma separated), of all that `warm` knows
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
}

/// Which path to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Which {
    Loopback,
    Long,
    Both,
}

fn share(text: &str) -> Result<f64> {
    let share: f64 = text.parse()?;
    anyhow::ensure!((0.0..=0.5).contains(&share), "a share between 0 and 0.5");
    Ok(share)
}

/// One path's numbers.
#[derive(Debug, Serialize)]
pub(crate) struct Measured {
    /// `loopback` or the long path's description.
    path: String,
    rows: Vec<Row>,
    /// Packets of the emulated path.
    traffic: Option<Traffic>,
}

/// One way of starting.
#[derive(Debug, Serialize)]
struct Row {
    /// `CONTENDER first` or `CONTENDER repeat`.
    name: String,
    /// Connect, call, answer: median of a pass's samples.
    p50_ms: Option<Spread>,
    /// How many times faster than the reference in the same pass.
    speedup: Option<Spread>,
}

/// Measures and prints.
pub(crate) fn run(options: &Options, json: bool) -> Result<()> {
    let only = contender::or_default(&options.only, &DEFAULT);
    let contenders = contender::select(contender::all(), &only)?;
    let mut report = Report::begin("cold", options.facts(), Vec::new());
    if options.path != Which::Long {
        let loopback = IpAddr::from(Ipv4Addr::LOCALHOST);
        let ends = Ends { server: (Place::Here, loopback), client: (Place::Here, loopback) };
        measure(&mut report, "loopback", &contenders, &ends, options);
    }
    if options.path != Which::Loopback {
        if let Some(reason) = lab::missing() {
            report.skipped.push(reason);
        } else {
            long_path(&mut report, &contenders, options)?;
        }
    }
    report.print(json, |results| text(results, options))
}

fn long_path(
    report: &mut Report<Vec<Measured>>,
    contenders: &[Arc<dyn Contender>],
    options: &Options,
) -> Result<()> {
    let lab = Lab::open(options.long_path()).context("build the long path")?;
    let ends = Ends {
        server: (Lab::place(Side::Server), Side::Server.address()),
        client: (Lab::place(Side::Client), Side::Client.address()),
    };
    let title = format!(
        "{} ms one way, {} ms jitter, {} lost, {} Mbit/s (0: unlimited)",
        options.delay_ms, options.jitter_ms, options.loss, options.mbit
    );
    measure(report, &title, contenders, &ends, options);
    if let Some(measured) = report.results.last_mut() {
        measured.traffic = Some(lab.traffic());
    }
    Ok(())
}

impl Options {
    fn facts(&self) -> BTreeMap<&'static str, String> {
        BTreeMap::from([
            ("passes", self.passes.to_string()),
            ("samples", self.samples.to_string()),
            ("delay-ms", self.delay_ms.to_string()),
            ("jitter-ms", self.jitter_ms.to_string()),
            ("loss", self.loss.to_string()),
            ("mbit", self.mbit.to_string()),
            ("queue-ms", self.queue_ms.to_string()),
            ("seed", self.seed.to_string()),
        ])
    }

    fn long_path(&self) -> lab::Path {
        lab::Path {
            delay: Duration::from_millis(self.delay_ms),
            jitter: Duration::from_millis(self.jitter_ms),
            loss: self.loss,
            mbit: f64::from(self.mbit),
            queue: Duration::from_millis(self.queue_ms),
            seed: self.seed,
            trace: if self.trace { Trace::Packets } else { Trace::Off },
        }
    }
}

/// Where both ends live, and the address each binds.
struct Ends {
    server: (Place, IpAddr),
    client: (Place, IpAddr),
}

fn measure(
    report: &mut Report<Vec<Measured>>,
    path: &str,
    contenders: &[Arc<dyn Contender>],
    ends: &Ends,
    options: &Options,
) {
    let mut starters = Vec::new();
    for contender in contenders {
        progress(&format!("{path}: starting {}", contender.name()));
        match Starter::all(contender, ends) {
            Ok(some) => starters.extend(some),
            Err(error) => report.failed.push(format!("{path}: {}: {error:#}", contender.name())),
        }
    }
    for pass in 0..usize::from(options.passes) {
        progress(&format!("{path}: pass {} of {}", pass + 1, options.passes));
        for turn in 0..starters.len() {
            let at = (turn + pass) % starters.len();
            starters[at].pass(options.samples);
        }
    }
    for starter in &starters {
        if let Some(error) = &starter.broken {
            report.failed.push(format!("{path}: {}: {error}", starter.name));
        }
    }
    starters.retain(|starter| starter.broken.is_none());
    if ends.is_long() {
        report.goals.extend(goals(&starters));
    }
    report.results.push(Measured { path: path.to_owned(), rows: rows(&starters), traffic: None });
}

impl Ends {
    fn is_long(&self) -> bool {
        matches!(self.client.0, Place::Namespace(_))
    }
}

/// One way of starting, against one server.
struct Starter {
    name: String,
    contender: Arc<dyn Contender>,
    bind: IpAddr,
    target: Target,
    /// The client that has met the server before; none where every sample is a stranger's.
    acquainted: Option<Arc<dyn Client>>,
    stage: Arc<Stage>,
    medians_ms: Vec<f64>,
    broken: Option<String>,
    _server: Arc<Server>,
}

/// Field order: what the server holds goes before its runtime.
struct Server {
    _keep: std::sync::Mutex<Box<dyn Any + Send>>,
    _stage: Stage,
}

impl Starter {
    /// `first`, and `repeat` where the contender has 0-RTT.
    fn all(contender: &Arc<dyn Contender>, ends: &Ends) -> Result<Vec<Self>> {
        let limit = Duration::from_secs(STEP_LIMIT_S);
        let server = Stage::start("server", ends.server.0.clone())?;
        let serving = contender.serve(ends.server.1);
        let service = server.run(limit, move || serving).context("start the server")?;
        let server =
            Arc::new(Server { _keep: std::sync::Mutex::new(service.keep), _stage: server });
        let stage = Arc::new(Stage::start("client", ends.client.0.clone())?);
        let starter = |kind: &str, acquainted| Self {
            name: format!("{} {kind}", contender.name()),
            contender: contender.clone(),
            bind: ends.client.1,
            target: service.target.clone(),
            acquainted,
            stage: stage.clone(),
            medians_ms: Vec::new(),
            broken: None,
            _server: server.clone(),
        };
        let mut starters = vec![starter("first", None)];
        if contender.resumes() {
            let making = contender.client(ends.client.1, After::Park);
            let target = service.target.clone();
            let client = stage
                .run(limit, move || async move {
                    let client = making.await?;
                    client.first_call(target).await?;
                    Ok(client)
                })
                .context("get acquainted")?;
            starters.push(starter("repeat", Some(client)));
        }
        Ok(starters)
    }

    fn pass(&mut self, samples: u16) {
        if self.broken.is_none()
            && let Err(error) = self.try_pass(samples)
        {
            self.broken = Some(format!("{error:#}"));
        }
    }

    fn try_pass(&mut self, samples: u16) -> Result<()> {
        let limit = Duration::from_secs(STEP_LIMIT_S);
        let mut elapsed_ms = Vec::new();
        for _ in 0..samples {
            let target = self.target.clone();
            let elapsed = if let Some(client) = self.acquainted.clone() {
                self.stage.run(limit, move || async move { client.repeat_call(target).await })?
            } else {
                let making = self.contender.client(self.bind, After::Park);
                self.stage.run(limit, move || async move {
                    let client = making.await?;
                    let elapsed = client.first_call(target).await?;
                    client.shut_down().await;
                    Ok(elapsed)
                })?
            };
            elapsed_ms.push(micros(elapsed) / 1e3);
        }
        self.medians_ms.push(median(&elapsed_ms).context("no sample")?);
        Ok(())
    }
}

/// Pass by pass: how many times `fast` is faster than `slow`.
fn speedup(slow: &[f64], fast: &[f64]) -> Option<Spread> {
    let ratios: Vec<_> = slow.iter().zip(fast).map(|(slow, fast)| slow / fast).collect();
    Spread::of(&ratios)
}

fn rows(starters: &[Starter]) -> Vec<Row> {
    let reference = starters.iter().find(|s| s.name == REFERENCE);
    starters
        .iter()
        .map(|s| Row {
            name: s.name.clone(),
            p50_ms: Spread::of(&s.medians_ms),
            speedup: reference.and_then(|slow| speedup(&slow.medians_ms, &s.medians_ms)),
        })
        .collect()
}

fn goals(starters: &[Starter]) -> Vec<Goal> {
    let find = |name: &str| starters.iter().find(|s| s.name == name);
    let bounds = [("comity first", 1.4), ("comity repeat", 2.5)];
    bounds
        .into_iter()
        .filter_map(|(name, bound)| {
            let measured = speedup(&find(REFERENCE)?.medians_ms, &find(name)?.medians_ms)?;
            let what = format!("long path, {REFERENCE} / {name}");
            Some(Goal::new(&what, Bound::AtLeast(bound), measured))
        })
        .collect()
}

fn text(results: &[Measured], options: &Options) -> String {
    let tables: Vec<_> = results
        .iter()
        .map(|measured| {
            let rows: Vec<_> = measured
                .rows
                .iter()
                .map(|r| vec![r.name.clone(), spread(r.p50_ms, 2), spread(r.speedup, 2)])
                .collect();
            let title = format!(
                "Connect + first call, {}: median (min-max) of {} passes of {} calls",
                measured.path, options.passes, options.samples
            );
            let mut text = table(&title, &["", "p50 ms", "times faster than https1"], &rows);
            if let Some(Traffic { packets, lost }) = measured.traffic {
                text.push_str(&format!("{packets} packets on the path, {lost} lost\n"));
            }
            text
        })
        .collect();
    let how = [
        ("first", "a client that has never met the server; binding its socket is not counted"),
        (
            "repeat",
            "a client that called before and kept the session ticket: the request leaves in the first flight",
        ),
        ("https1 first", "TCP + full TLS 1.3 handshake, no resumption"),
        ("udp first", "no connection: one round trip of the path"),
    ];
    format!("{}\n{}", tables.join("\n"), report::list("How to read it", &how))
}
