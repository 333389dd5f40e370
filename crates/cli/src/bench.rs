//! `comity bench`: searches, publishing, calls, failover and memory, measured on a private network of node processes.

mod bridge;
mod calibrate;
mod cast;
mod echo;
mod machine;
mod measure;
mod network;
mod report;
mod stats;

use std::io::{IsTerminal as _, stderr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use comity_api::types::Exit;
use indicatif::ProgressBar;
use tempfile::TempDir;

use self::echo::Echo;
use self::machine::Machine;
use self::measure::Lab;
use self::network::Network;
use self::report::{NetworkFacts, Report, Settings};
use self::stats::micros;
use crate::output::Output;
use crate::{progress, signals};

/// Fewest nodes that leave somebody for every part: five that serve, three that ask.
const NODES_MIN: u16 = 8;
/// Most nodes; each is a process of its own.
const NODES_MAX: u16 = 500;
/// Most samples of one measurement.
const SAMPLES_MAX: u32 = 10_000;
/// Longest time one measurement may be given, seconds.
const SECONDS_MAX: u64 = 600;

/// Options of the measurements.
#[derive(Debug, Clone, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    other: Option<OtherBench>,

    /// Print one JSON document instead of tables.
    #[arg(long)]
    json: bool,

    /// Number of nodes, each a process; one in four serves a table.
    #[arg(long, default_value_t = 50, value_name = "N",
        value_parser = clap::value_parser!(u16).range(i64::from(NODES_MIN)..=i64::from(NODES_MAX)))]
    nodes: u16,

    /// Samples each repeated measurement takes at most.
    #[arg(long, default_value_t = 200, value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=i64::from(SAMPLES_MAX)))]
    samples: u32,

    /// Seconds each measurement takes at most.
    #[arg(long, default_value_t = 15, value_name = "N",
        value_parser = clap::value_parser!(u64).range(1..=SECONDS_MAX))]
    seconds: u64,

    /// Be the echo process of another `comity bench`, with this Unix socket.
    #[arg(long, hide = true, value_name = "SOCKET")]
    echo: Option<PathBuf>,
}

/// Measurements of another kind.
#[derive(Debug, Clone, Subcommand)]
enum OtherBench {
    /// Run one plan in the simulator and with real nodes, and compare what both count.
    Calibrate(calibrate::CalibrateArgs),
    /// Measure what an MCP tool call costs through the network, against the same call straight over HTTP.
    Mcp(bridge::BridgeArgs),
}

impl BenchArgs {
    /// Whether the answer is to be JSON.
    pub(crate) fn wants_json(&self) -> bool {
        match &self.other {
            Some(OtherBench::Calibrate(args)) => args.json,
            Some(OtherBench::Mcp(args)) => args.json,
            None => self.json,
        }
    }
}

/// Runs the measurements. Whatever ends them - success, failure, a signal, even SIGKILL - ends the processes they started.
pub(crate) async fn run(args: &BenchArgs, out: &Output) -> Result<ExitCode> {
    if let Some(OtherBench::Calibrate(args)) = &args.other {
        return Box::pin(calibrate::run(args, out)).await;
    }
    if let Some(OtherBench::Mcp(args)) = &args.other {
        return Box::pin(bridge::run(args, out)).await;
    }
    if let Some(socket) = &args.echo {
        return echo::serve(socket, out).await;
    }
    let directory =
        TempDir::with_prefix("comity-bench-").context("cannot create a directory for the nodes")?;
    let progress = Progress::new(out);
    let mut network = Network::default();
    let measured = tokio::select! {
        measured = Box::pin(measure(args, directory.path(), &mut network, &progress)) => Some(measured),
        stopped = signals::stop_asked() => { stopped?; None }
    };
    progress.step("stopping the nodes");
    network.stop().await;
    directory.close().context("the directory of the nodes could not be removed")?;
    progress.end();
    let Some(measured) = measured else {
        out.note("interrupted; the nodes are stopped and their files removed");
        return Ok(ExitCode::from(Exit::Interrupted.code()));
    };
    let report = measured?;
    out.answer(&report, report::text)?;
    let exit = if report.failures == 0 { Exit::Ok } else { Exit::Failure };
    Ok(ExitCode::from(exit.code()))
}

async fn measure(
    args: &BenchArgs,
    directory: &Path,
    network: &mut Network,
    progress: &Progress,
) -> Result<Report> {
    let mut machine = Machine::here();
    let nodes = usize::from(args.nodes);
    let started = Instant::now();
    progress.step("starting nodes");
    let echo = Echo::start(directory).await?;
    network.start(directory, nodes, progress).await?;
    let started_us = micros(started.elapsed());
    progress.step("joining");
    let custodians = network.joined(progress).await?;
    let joined_us = micros(started.elapsed());
    let idle = measure::memory("joined", network);
    progress.step("publishing tables");
    let publishing = Instant::now();
    network.serve(progress).await?;
    let facts = NetworkFacts {
        nodes,
        serving: network.serving(),
        replicas: network.replicas.len(),
        custodians,
        started_us,
        joined_us,
        published_us: micros(publishing.elapsed()),
    };

    let mut lab = Lab::new(args.samples, Duration::from_secs(args.seconds), progress);
    let (mut find, cold_call) = lab.cold(network).await;
    find.extend(lab.warm(network).await);
    let publish = lab.publish(network).await?;
    let call = lab.calls(network, &echo, cold_call).await?;
    let used = measure::memory("after the measurements", network);
    // Last, because it takes nodes away.
    let failover = lab.failover(network).await?;
    echo.stop().await;
    machine.load_after = machine::load();
    let (failures, problems) = lab.finish();
    Ok(Report {
        machine,
        settings: Settings { samples: args.samples, seconds: args.seconds },
        network: facts,
        find,
        publish,
        call,
        failover,
        memory: idle.into_iter().chain(used).collect(),
        failures,
        problems,
    })
}

/// One line on standard error that says what is being done; without a terminal, a line for each step.
#[derive(Debug)]
struct Progress {
    line: Option<ProgressBar>,
    out: Output,
}

impl Progress {
    fn new(out: &Output) -> Self {
        // With --json too: a minute of silence looks like a fault, and standard error is not the answer.
        let watched = !out.quiet && stderr().is_terminal();
        Self { line: watched.then(|| progress::spinner("")), out: *out }
    }

    /// A new step.
    fn step(&self, what: &str) {
        match &self.line {
            Some(line) => line.set_message(what.to_owned()),
            None => self.out.note(what),
        }
    }

    /// How far the step is.
    fn say(&self, what: &str) {
        if let Some(line) = &self.line {
            line.set_message(what.to_owned());
        }
    }

    fn end(&self) {
        if let Some(line) = &self.line {
            line.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: BenchArgs,
    }

    fn parse(args: &[&str]) -> Result<BenchArgs, clap::Error> {
        Line::try_parse_from(std::iter::once(&"bench").chain(args)).map(|line| line.args)
    }

    #[test]
    fn the_defaults_are_those_of_the_documentation() {
        let args = parse(&[]).unwrap();
        assert_eq!((args.nodes, args.samples, args.seconds, args.json), (50, 200, 15, false));
    }

    #[test]
    fn counts_and_times_are_bounded() {
        for (option, least, most) in [
            ("--nodes", u64::from(NODES_MIN), u64::from(NODES_MAX)),
            ("--samples", 1, u64::from(SAMPLES_MAX)),
            ("--seconds", 1, SECONDS_MAX),
        ] {
            for (value, good) in
                [(least - 1, false), (least, true), (most, true), (most + 1, false)]
            {
                let parsed = parse(&[option, &value.to_string()]);
                assert_eq!(parsed.is_ok(), good, "{option} {value}");
            }
            assert!(parse(&[option, "many"]).is_err());
        }
    }
}
