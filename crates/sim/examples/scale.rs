//! What a simulated node costs in memory, and an event in time:
//! `cargo run --release -p comity-sim --example scale -- NODES [LOOKUPS] [SEED]`.
//!
//! Builds a network from ideal tables, then lets random nodes look up random places.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use comity_core::{OverlayId, Time};
use comity_overlay::{Command, Config};
use comity_sim::Messages;
use comity_sim::bootstrap::build_tables;
use comity_sim::link::LinkModel;
use comity_sim::random::Random;
use comity_sim::world::{Settings, World};

/// When the simulation begins.
const START: Time = Time::from_secs(1_800_000_000);
/// A lookup begins this often.
const LOOKUP_EVERY: Duration = Duration::from_millis(2);

/// What the process has used so far.
struct Used {
    /// Processor time, in seconds.
    seconds: f64,
    /// Memory, in bytes.
    bytes: u64,
}

/// From Linux's /proc; zeros elsewhere.
fn used() -> Used {
    /// Clock ticks in a second, fixed in Linux's interface.
    const TICKS: f64 = 100.0;
    /// Bytes of a page on x86 and most of ARM.
    const PAGE: u64 = 4_096;
    let read = |file| std::fs::read_to_string(file).unwrap_or_default();
    let stat = read("/proc/self/stat");
    // Fields after the name, which may contain anything: utime and stime are the 14th and 15th of all.
    let fields: Vec<&str> =
        stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks =
        |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or_default();
    let pages = read("/proc/self/statm");
    let pages = pages.split_whitespace().nth(1).and_then(|field| field.parse::<u64>().ok());
    Used { seconds: (ticks(11) + ticks(12)) / TICKS, bytes: pages.unwrap_or_default() * PAGE }
}

#[allow(clippy::print_stdout, reason = "the measurement is this program's output")]
fn measure(nodes: u64, lookups: u64, seed: u64) {
    let mut before = used();
    let mut stage = |name: &str, count: u64, what: &str| {
        let now = used();
        let (seconds, bytes) =
            (now.seconds - before.seconds, now.bytes.saturating_sub(before.bytes));
        #[allow(clippy::cast_precision_loss, reason = "shown with three digits")]
        let rate = count as f64 / seconds.max(0.01);
        println!(
            "{name:<10} {seconds:8.2} CPU-s  {rate:>9.0} {what}/CPU-s  {:>7} B/node  {:>6} MiB in all",
            bytes / nodes.max(1),
            now.bytes >> 20
        );
        before = now;
    };
    let mut world = World::new(Settings {
        seed,
        start: START,
        messages: Messages::Values,
        link: LinkModel::default(),
        nodes_per_prefix: 4,
        shadow: false,
    });
    let mut random = Random::new(seed, "birth");
    for _ in 0..nodes {
        world.add_node(&mut random);
    }
    stage("keys", nodes, "nodes");
    build_tables(&mut world, &Arc::new(Config::default()), &mut random, |_| ());
    stage("tables", nodes, "nodes");
    let mut random = Random::new(seed, "curiosity");
    let (mut next, mut left) = (world.now(), lookups);
    while left > 0 || world.counters().events == 0 {
        if world.next_due().is_none_or(|due| next <= due) {
            world.advance_to(next);
            let (asker, target) = (random.index(world.nodes().len()), OverlayId(random.bytes()));
            world.command(asker, Command::Lookup { target });
            (next, left) = (next + LOOKUP_EVERY, left.saturating_sub(1));
        } else {
            world.step();
        }
        while world.take_completed().is_some() {}
    }
    while !world.open_ops().is_empty() && world.next_due().is_some() {
        for _ in 0..10_000 {
            world.step();
        }
        while world.take_completed().is_some() {}
    }
    stage("traffic", world.counters().events, "events");
    world.check_nodes();
    stage("check", nodes, "nodes");
    println!(
        "{:?}\ntrace {}, {} violations",
        world.counters(),
        world.trace_hash(),
        world.violations.total()
    );
}

#[allow(clippy::print_stderr, reason = "errors go to the terminal")]
fn main() -> ExitCode {
    let numbers: Result<Vec<u64>, _> = std::env::args().skip(1).map(|arg| arg.parse()).collect();
    match numbers.as_deref() {
        Ok([nodes, rest @ ..]) if *nodes > 0 => {
            measure(
                *nodes,
                rest.first().copied().unwrap_or(10_000),
                rest.get(1).copied().unwrap_or(1),
            );
            ExitCode::SUCCESS
        }
        _ => {
            eprintln!("scale NODES [LOOKUPS] [SEED]");
            ExitCode::FAILURE
        }
    }
}
