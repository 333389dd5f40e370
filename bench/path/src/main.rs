//! comity-bench-path: what Pilot streams carry over a long path with losses, beside kernel TCP over the same path at the same time.
//!
//! Both ends are threads of this process, each in a network namespace of its own; see `lab` for the path between them. The streams of all
//! contenders run side by side: on a path without a rate limit they do not get into each other's way, and every one sees the same path.
#![expect(clippy::print_stdout, reason = "the report goes to stdout")]

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use comity_bench_path::{
    lab::{self, Lab, Path, Side, Trace, Traffic},
    progress,
    stage::Stage,
};
use comity_pilot_net::bench::{BenchClient, BenchServer, Counters, Limit, Transfer};
use serde::Serialize;
use tokio::task::JoinSet;

/// Share of the better of kernel TCP's algorithms that Pilot streams are to reach.
const GOAL: f64 = 0.7;
/// Slack on top of the time of writing, for what is under way then.
const SLACK: Duration = Duration::from_secs(120);

/// Measures Pilot streams beside kernel TCP over an emulated path between two network namespaces (Linux, root)
#[derive(Parser)]
#[command(version)]
struct Options {
    /// Time of writing of each stream, in seconds
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=240))]
    seconds: u64,
    /// Streams of each contender, side by side
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=32))]
    streams: u16,
    /// Algorithms of kernel TCP
    #[arg(long, value_delimiter = ',', default_values_t = ["reno".to_owned(), "cubic".to_owned()])]
    tcp: Vec<String>,
    /// One-way delay in milliseconds
    #[arg(long, default_value_t = 25)]
    delay_ms: u64,
    /// Up to this much more delay in milliseconds, drawn per packet
    #[arg(long, default_value_t = 0)]
    jitter_ms: u64,
    /// Share of packets lost, 0 to 1
    #[arg(long, default_value_t = 0.01)]
    loss: f64,
    /// Rate in Mbit/s; 0 is unlimited
    #[arg(long, default_value_t = 0.0)]
    mbit: f64,
    /// Longest waiting time in front of the rate limit, in milliseconds
    #[arg(long, default_value_t = 50)]
    queue_ms: u64,
    /// Seed of loss and jitter
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print the report as JSON (progress goes to standard error)
    #[arg(long)]
    json: bool,
}

/// One stream.
#[derive(Clone, Debug, Serialize)]
struct Stream {
    transfer: Transfer,
    /// Of Pilot streams.
    counters: Option<Counters>,
}

/// All streams of one contender.
#[derive(Debug, Serialize)]
struct Contender {
    name: String,
    /// Millions of bytes a second: the mean over the streams, the slowest and the fastest.
    mean: f64,
    least: f64,
    most: f64,
    streams: Vec<Stream>,
}

impl Contender {
    fn new(name: String, streams: Vec<Stream>) -> Self {
        let rates = || streams.iter().map(|stream| stream.transfer.megabytes_per_second);
        let mean = rates().sum::<f64>() / streams.len() as f64;
        let (least, most) =
            rates().fold((f64::MAX, 0.0_f64), |(low, high), rate| (low.min(rate), high.max(rate)));
        Self { name, mean, least, most, streams }
    }
}

#[derive(Debug, Serialize)]
struct Report {
    path: Path,
    seconds: u64,
    load_before: String,
    load_after: String,
    traffic: Traffic,
    contenders: Vec<Contender>,
    /// Pilot's mean over that of the fastest of kernel TCP.
    ratio: f64,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            progress(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn load() -> String {
    std::fs::read_to_string("/proc/loadavg").unwrap_or_default().trim().to_owned()
}

fn run(options: &Options) -> Result<()> {
    ensure!((0.0..1.0).contains(&options.loss), "--loss is a share, 0 to 1: {}", options.loss);
    if let Some(reason) = lab::missing() {
        anyhow::bail!(reason);
    }
    lab::clean_up_on_signals()?;
    let path = Path {
        delay: Duration::from_millis(options.delay_ms),
        jitter: Duration::from_millis(options.jitter_ms),
        loss: options.loss,
        mbit: options.mbit,
        queue: Duration::from_millis(options.queue_ms),
        seed: options.seed,
        trace: Trace::Off,
    };
    let load_before = load();
    let lab = Lab::open(path).context("build the path")?;
    let server = Stage::start("server", Lab::place(Side::Server))?;
    let client = Stage::start("client", Lab::place(Side::Client))?;
    let patience = Duration::from_secs(options.seconds) + SLACK;
    let bench = server.run(patience, || async {
        Ok(BenchServer::start((Side::Server.address(), 0).into()).await?)
    })?;
    let at = bench.at();
    progress(&format!("{} streams of each contender for {} s", options.streams, options.seconds));
    let limit = Limit { bytes: u64::MAX, time: Duration::from_secs(options.seconds) };
    let (streams, tcp) = (options.streams, options.tcp.clone());
    let began = Instant::now();
    let contenders = client.run(patience, move || async move {
        let client = BenchClient::start(at).await?;
        side_by_side(&client, limit, streams, &tcp).await
    })?;
    progress(&format!("took {:.0} s", began.elapsed().as_secs_f64()));
    let rate = |contender: &Contender| contender.mean;
    let best = contenders[1..].iter().map(rate).fold(0.0, f64::max);
    let report = Report {
        path,
        seconds: options.seconds,
        load_before,
        load_after: load(),
        traffic: lab.traffic(),
        ratio: contenders[0].mean / best,
        contenders,
    };
    drop((client, bench, server, lab));
    if options.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print(&report);
    }
    Ok(())
}

async fn side_by_side(
    client: &BenchClient,
    limit: Limit,
    streams: u16,
    tcp: &[String],
) -> Result<Vec<Contender>> {
    let mut running = JoinSet::new();
    for _stream in 0..streams {
        let pilot = client.clone();
        running.spawn(async move {
            let (transfer, counters) = pilot.pilot(limit).await?;
            Result::<_>::Ok((0, Stream { transfer, counters: Some(counters) }))
        });
        for (at, algorithm) in tcp.iter().enumerate() {
            let (client, algorithm) = (client.clone(), algorithm.clone());
            running.spawn(async move {
                let transfer = client.tcp(limit, Some(&algorithm)).await;
                let transfer = transfer.with_context(|| format!("TCP with {algorithm}"))?;
                Ok((at + 1, Stream { transfer, counters: None }))
            });
        }
    }
    let names =
        std::iter::once("pilot".to_owned()).chain(tcp.iter().map(|name| format!("tcp {name}")));
    let mut all: Vec<(String, Vec<Stream>)> = names.map(|name| (name, Vec::new())).collect();
    while let Some(done) = running.join_next().await {
        let (at, stream) = done.context("a stream's task died")??;
        all[at].1.push(stream);
    }
    Ok(all.into_iter().map(|(name, streams)| Contender::new(name, streams)).collect())
}

fn print(report: &Report) {
    let Path { delay, loss, .. } = report.path;
    let Traffic { packets, lost } = report.traffic;
    println!(
        "{} ms one way, {:.1} % lost ({lost} of {packets} packets); load {} before, {} after",
        delay.as_millis(),
        loss * 100.0,
        report.load_before,
        report.load_after
    );
    for contender in &report.contenders {
        let Contender { name, mean, least, most, .. } = contender;
        println!("{name:<12} {mean:7.3} MB/s ({least:.3}-{most:.3})");
        for counters in contender.streams.iter().filter_map(|stream| stream.counters) {
            let rtt = counters.rtt_ms.unwrap_or_default();
            println!(
                "    {} segments, {} again, {} reductions, {} timeouts, rtt {rtt:.1} ms, window {:.1} segments on average",
                counters.segments,
                counters.retransmitted,
                counters.reductions,
                counters.timeouts,
                counters.window_mean,
            );
        }
    }
    let met = if report.ratio >= GOAL { "met" } else { "MISSED" };
    println!(
        "pilot reaches {:.0} % of the best TCP; goal {:.0} %: {met}",
        report.ratio * 100.0,
        GOAL * 100.0
    );
}
