//! Repository chores: the rules of the workspace that no compiler or linter knows, and the protocol models.

mod formal;
mod tidy;

use std::process::ExitCode;

const USAGE: &str = "usage: cargo run -p xtask -- tidy
       cargo run -p xtask -- formal [MODEL...]";

fn main() -> anyhow::Result<ExitCode> {
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        Some("tidy") => tidy::run(),
        Some("formal") => formal::run(&arguments.collect::<Vec<_>>()),
        Some(_) | None => anyhow::bail!("{USAGE}"),
    }
}
