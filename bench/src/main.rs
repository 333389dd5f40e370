//! comity-bench: what a comity call costs, next to the other ways of calling a peer, in one run on one machine.
//!
//! `warm` and `cold` run client and server as two threads of one process, each with a current-thread runtime of its
//! own; `memory` runs them as two processes. See README.md for how to run it and how to read it.

use std::process::ExitCode;

use anyhow::{Result, anyhow};
use clap::{Parser, Subcommand};

mod bulk;
mod cold;
mod contender;
mod memory;
mod report;
mod reuse;
mod stats;
mod sys;
mod warm;
mod worker;

/// Measures comity calls against raw iroh, HTTPS, gRPC, libp2p and raw UDP
#[derive(Parser)]
#[command(version)]
struct Cli {
    /// Print the report as JSON (progress goes to standard error)
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Round trips over open sessions, and calls per second with many in flight
    Warm(warm::Options),
    /// First calls: connect, call, answer - over loopback and an emulated long path (root)
    Cold(cold::Options),
    /// Memory per connected and per parked peer
    Memory(memory::Options),
    /// An answer that was worked out before: from the own store and from a peer, beside a web page and a web API that have it too
    Reuse(reuse::Options),
    /// A large answer from peers that hold it, verified on the way, beside a raw iroh stream; and from two holders instead of one
    Bulk(bulk::Options),
    /// One end of a memory measurement
    #[command(hide = true)]
    Worker(worker::Options),
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report::progress(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<()> {
    // libp2p brings a second provider, so that rustls cannot choose one by itself.
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_| anyhow!("another TLS provider was installed before ours"))?;
    match &cli.command {
        Command::Warm(options) => warm::run(options, cli.json),
        Command::Cold(options) => {
            comity_bench_path::lab::clean_up_on_signals()?;
            cold::run(options, cli.json)
        }
        Command::Memory(options) => memory::run(options, cli.json),
        Command::Reuse(options) => reuse::run(options, cli.json),
        Command::Bulk(options) => bulk::run(options, cli.json),
        Command::Worker(options) => worker::run(options),
    }
}
