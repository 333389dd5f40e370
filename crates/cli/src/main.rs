//! The `comity` command: run a node, find agents by capability, call them, verify their answers.
//!
//! Glue only: it parses arguments, talks to the node through the local API and renders what comes back. Exit codes and
//! error bodies are those of `comity_api`.

mod args;
mod bench;
mod commands;
mod context;
mod demo;
mod failure;
mod logging;
mod output;
mod process;
mod progress;
mod render;
mod signals;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let cli = args::Cli::parse();
    let context = context::Context::new(&cli);
    logging::init(&cli);
    // The daemon brings its own network thread; everything else waits on one socket. Bridges hand small messages on, which a
    // hand-over between threads would make dearer.
    let mut builder = if cli.command.is_bridge() {
        tokio::runtime::Builder::new_current_thread()
    } else {
        tokio::runtime::Builder::new_multi_thread()
    };
    let runtime = match builder.worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failure::report(&context, &anyhow::Error::new(error)),
    };
    let result = runtime.block_on(Box::pin(commands::run(cli.command, &context)));
    // Blocking work that nobody waits for (a read from a terminal) must not hold up the end.
    runtime.shutdown_background();
    match result {
        Ok(code) => code,
        Err(error) => failure::report(&context, &error),
    }
}
