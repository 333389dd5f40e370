//! Round trips over open sessions: percentiles one call at a time, and calls per second with many in flight.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use clap::Args;
use comity_bench_path::stage::{Place, Stage};
use serde::Serialize;

use crate::{
    contender::{self, After, Contender, REFERENCE, Session},
    report::{self, Bound, Goal, Report, progress, spread, table},
    stats::{Spread, percentile_us},
};

/// Calls per contender before the first pass.
const WARM_UP_CALLS: u64 = 200;
/// Starting a server or opening a session may take this long.
const SETUP_LIMIT_S: u64 = 30;
/// Slack on top of a pass's own time limit, for the last calls to end.
const PASS_SLACK_S: u64 = 30;

/// Options of `warm`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// Passes over all contenders; the order rotates from pass to pass
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u16).range(1..=100))]
    passes: u16,
    /// Calls one after the other per contender and pass
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    calls: u64,
    /// Calls per contender and pass with many in flight
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    burst_calls: u64,
    /// Calls in flight at a time in the second measurement
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=512))]
    in_flight: u16,
    /// Each of the two measurements of a pass ends after this many seconds at the latest, per contender
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=60))]
    pass_seconds: u64,
    /// Only these contenders (comma separated)
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
}

/// One contender's numbers.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    name: &'static str,
    how: &'static str,
    p50_us: Option<Spread>,
    p90_us: Option<Spread>,
    p99_us: Option<Spread>,
    /// p50 over the reference's p50 of the same pass.
    p50_ratio: Option<Spread>,
    calls_per_s: Option<Spread>,
    /// Calls per second over the reference's of the same pass.
    calls_ratio: Option<Spread>,
}

/// Measures and prints.
pub(crate) fn run(options: &Options, json: bool) -> Result<()> {
    let contenders = contender::select(contender::all(), &options.only)?;
    let mut report = Report::begin("warm", options.facts(), Vec::new());
    let mut runners = Vec::new();
    for contender in contenders {
        progress(&format!("starting {}", contender.name()));
        match Runner::start(contender.as_ref()) {
            Ok(runner) => runners.push(runner),
            Err(error) => report.failed.push(format!("{}: {error:#}", contender.name())),
        }
    }
    for pass in 0..usize::from(options.passes) {
        progress(&format!("pass {} of {}", pass + 1, options.passes));
        for turn in 0..runners.len() {
            let at = (turn + pass) % runners.len();
            runners[at].pass(options);
        }
    }
    let tried = runners.len();
    for runner in &runners {
        if let Some(error) = &runner.broken {
            report.failed.push(format!("{}: {error}", runner.name));
        }
    }
    runners.retain(|runner| runner.broken.is_none());
    progress(&format!("{} of {tried} contenders measured", runners.len()));
    report.goals = goals(&runners);
    report.results = rows(&runners);
    report.print(json, |rows| text(rows, options))
}

impl Options {
    fn facts(&self) -> BTreeMap<&'static str, String> {
        BTreeMap::from([
            ("passes", self.passes.to_string()),
            ("calls", self.calls.to_string()),
            ("burst-calls", self.burst_calls.to_string()),
            ("in-flight", self.in_flight.to_string()),
            ("pass-seconds", self.pass_seconds.to_string()),
        ])
    }
}

/// A contender with its server, its open session and its passes so far.
struct Runner {
    name: &'static str,
    how: &'static str,
    session: Option<Arc<dyn Session>>,
    client: Stage,
    _server: (Stage, Stopper),
    p50_us: Vec<f64>,
    p90_us: Vec<f64>,
    p99_us: Vec<f64>,
    calls_per_s: Vec<f64>,
    /// The first error: the contender is not measured any further.
    broken: Option<String>,
}

type Stopper = Box<dyn std::any::Any + Send>;

impl Runner {
    fn start(contender: &dyn Contender) -> Result<Self> {
        let bind = IpAddr::from(Ipv4Addr::LOCALHOST);
        let limit = Duration::from_secs(SETUP_LIMIT_S);
        let server = Stage::start("server", Place::Here)?;
        let serving = contender.serve(bind);
        let service = server.run(limit, move || serving).context("start the server")?;
        let client = Stage::start("client", Place::Here)?;
        let making = contender.client(bind, After::Keep);
        let target = service.target.clone();
        let session = client
            .run(limit, move || async move {
                let client = making.await?;
                let session = client.connect(target).await?;
                for tag in 0..WARM_UP_CALLS {
                    session.call(tag).await?;
                }
                // The client lives as long as its session.
                Ok(Arc::new(Held { session, _client: client }))
            })
            .context("open a session")?;
        Ok(Self {
            name: contender.name(),
            how: contender.how(),
            session: Some(session.session.clone()),
            client,
            _server: (server, Box::new((service.keep, session))),
            p50_us: Vec::new(),
            p90_us: Vec::new(),
            p99_us: Vec::new(),
            calls_per_s: Vec::new(),
            broken: None,
        })
    }

    fn pass(&mut self, options: &Options) {
        if self.broken.is_none()
            && let Err(error) = self.try_pass(options)
        {
            self.broken = Some(format!("{error:#}"));
        }
    }

    fn try_pass(&mut self, options: &Options) -> Result<()> {
        let session = self.session.clone().context("no session")?;
        let limit = Duration::from_secs(options.pass_seconds);
        let patience = limit + Duration::from_secs(PASS_SLACK_S);
        let calls = options.calls;
        let one = session.clone();
        let mut samples = self.client.run(patience, move || one_by_one(one, calls, limit))?;
        for (into, percent) in
            [(&mut self.p50_us, 50), (&mut self.p90_us, 90), (&mut self.p99_us, 99)]
        {
            into.push(percentile_us(&mut samples, percent).context("no call ended in time")?);
        }
        let (in_flight, calls) = (usize::from(options.in_flight), options.burst_calls);
        // Streams and connections for this many calls are opened before the clock starts.
        let fill = session.clone();
        self.client.run(patience, move || fill.burst(in_flight, 4 * in_flight as u64, limit))?;
        let rate = self.client.run(patience, move || async move {
            let start = Instant::now();
            let done = session.burst(in_flight, calls, limit).await?;
            #[expect(
                clippy::cast_precision_loss,
                reason = "bounded by --burst-calls, far below 2^52"
            )]
            let done = done as f64;
            Ok(done / start.elapsed().as_secs_f64())
        })?;
        self.calls_per_s.push(rate);
        Ok(())
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        self.session = None;
    }
}

struct Held {
    session: Arc<dyn Session>,
    _client: Arc<dyn contender::Client>,
}

async fn one_by_one(
    session: Arc<dyn Session>,
    calls: u64,
    limit: Duration,
) -> Result<Vec<Duration>> {
    let deadline = Instant::now() + limit;
    let mut samples = Vec::new();
    for tag in 0..calls {
        let start = Instant::now();
        if start >= deadline {
            break;
        }
        session.call(tag).await?;
        samples.push(start.elapsed());
    }
    Ok(samples)
}

/// Pass by pass: `a` over `b`.
fn ratio(a: &[f64], b: &[f64]) -> Option<Spread> {
    let ratios: Vec<_> = a.iter().zip(b).map(|(a, b)| a / b).collect();
    Spread::of(&ratios)
}

fn rows(runners: &[Runner]) -> Vec<Row> {
    let reference = runners.iter().find(|r| r.name == REFERENCE);
    runners
        .iter()
        .map(|r| Row {
            name: r.name,
            how: r.how,
            p50_us: Spread::of(&r.p50_us),
            p90_us: Spread::of(&r.p90_us),
            p99_us: Spread::of(&r.p99_us),
            p50_ratio: reference.and_then(|to| ratio(&r.p50_us, &to.p50_us)),
            calls_per_s: Spread::of(&r.calls_per_s),
            calls_ratio: reference.and_then(|to| ratio(&r.calls_per_s, &to.calls_per_s)),
        })
        .collect()
}

fn goals(runners: &[Runner]) -> Vec<Goal> {
    let find = |name: &str| runners.iter().find(|r| r.name == name);
    let Some(comity) = find("comity") else { return Vec::new() };
    let mut goals = Vec::new();
    for (name, bound) in [(REFERENCE, 1.3), ("https2", 1.0), ("grpc", 1.0), ("libp2p", 1.0)] {
        if let Some(measured) = find(name).and_then(|to| ratio(&comity.p50_us, &to.p50_us)) {
            let what = format!("warm p50, comity / {name}");
            goals.push(Goal::new(&what, Bound::AtMost(bound), measured));
        }
    }
    if let Some(measured) =
        find("https1").and_then(|to| ratio(&comity.calls_per_s, &to.calls_per_s))
    {
        goals.push(Goal::new("calls/s in flight, comity / https1", Bound::AtLeast(2.0), measured));
    }
    goals
}

fn text(rows: &[Row], options: &Options) -> String {
    let latency: Vec<_> = rows
        .iter()
        .map(|r| {
            vec![
                r.name.to_owned(),
                spread(r.p50_us, 1),
                spread(r.p90_us, 1),
                spread(r.p99_us, 1),
                spread(r.p50_ratio, 2),
            ]
        })
        .collect();
    let rate: Vec<_> = rows
        .iter()
        .map(|r| vec![r.name.to_owned(), spread(r.calls_per_s, 0), spread(r.calls_ratio, 2)])
        .collect();
    let how: Vec<_> = rows.iter().map(|r| (r.name, r.how)).collect();
    let title = format!(
        "Round trip, one call at a time, 256 B -> 1 KiB, loopback: median (min-max) of {} passes",
        options.passes
    );
    let to = format!("p50 / {REFERENCE}");
    [
        table(&title, &["", "p50 us", "p90 us", "p99 us", &to], &latency),
        table(
            &format!("{} calls in flight", options.in_flight),
            &["", "calls/s", &format!("/ {REFERENCE}")],
            &rate,
        ),
        report::list("How each is used", &how),
    ]
    .join("\n")
}
