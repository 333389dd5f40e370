//! `pilot bench`: what streams carry, beside kernel TCP.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context as _;
use comity_pilot_net::bench::{BenchServer, Idlers, Limit, Report, measure};
use comity_pilot_net::control::Ask;
use serde_json::{Value, json};

use super::{BenchArgs, DIRECTORY, talk};
use crate::context::Context;
use crate::{progress, render, signals};

/// Clock ticks a second in /proc, as every Linux has it since 2.6.
const TICKS_PER_SECOND: f64 = 100.0;

/// What this process used so far: seconds of a core, bytes of memory. Zero where the system does not tell in Linux's way.
fn usage() -> (f64, u64) {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Behind the name in brackets, which may hold anything: fields 14 and 15, of which the first is 3.
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = resident.and_then(|text| text.trim().split(' ').next()?.parse::<u64>().ok());
    ((ticks(11) + ticks(12)) / TICKS_PER_SECOND, kib.unwrap_or(0) * 1024)
}

pub(super) async fn run(args: BenchArgs, context: &Context) -> anyhow::Result<ExitCode> {
    let limit = Limit { bytes: args.megabytes.saturating_mul(1_000_000), time: args.time };
    if let Some(node) = args.node {
        let ask = Ask::Bench { target: node, bytes: limit.bytes, dials: args.dials };
        let home = context.home.join(DIRECTORY);
        let measuring = talk::ask_one(&home, &ask);
        let measured = progress::during(&context.out, "measuring", measuring).await?;
        context.out.answer(&measured, render::pilot::bench_echo)?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(listen) = args.listen {
        return serve(listen, context).await;
    }
    let here = match args.connect {
        Some(_) => None,
        None => {
            let server = BenchServer::start(([127, 0, 0, 1], 0).into()).await;
            Some(server.context("the bench cannot listen on loopback")?)
        }
    };
    let server = args.connect.or_else(|| here.as_ref().map(BenchServer::at));
    let server = server.context("no server to measure towards")?;
    if let Some(count) = args.idle {
        let idlers = Idlers::connect(server, count).await?;
        context.out.note(&format!("{count} peers are connected"));
        tokio::time::sleep(args.time).await;
        drop(idlers);
        context.out.answer(&json!({"peers": count}), |_value, _width| String::new())?;
        return Ok(ExitCode::SUCCESS);
    }
    let report: Report = measure(server, limit, args.dials, args.congestion.as_deref()).await?;
    context.out.answer(&report, render::pilot::bench)?;
    Ok(ExitCode::SUCCESS)
}

/// The receiving end: tells what it used at the end, and while it idled with the most peers.
async fn serve(listen: SocketAddr, context: &Context) -> anyhow::Result<ExitCode> {
    let server =
        BenchServer::start(listen).await.with_context(|| format!("cannot listen on {listen}"))?;
    context.out.note(&format!("listening on {}", server.at()));
    let (began, (cpu_before, memory_before)) = (Instant::now(), usage());
    signals::stop_asked().await?;
    let (cpu, memory) = usage();
    let seconds = began.elapsed().as_secs_f64();
    let peers = server.peers() as u64;
    let used: Value = json!({
        "peers": peers,
        "seconds": seconds,
        "cpu_seconds": cpu - cpu_before,
        "cpu_share": (cpu - cpu_before) / seconds,
        "memory_bytes_before": memory_before,
        "memory_bytes": memory,
        "memory_bytes_per_peer": memory.saturating_sub(memory_before).checked_div(peers),
    });
    context.out.answer(&used, render::pilot::json)?;
    Ok(ExitCode::SUCCESS)
}
