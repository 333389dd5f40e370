//! Repository chores: the rules of the workspace that no compiler or linter knows, the protocol models, and fuzzing.

mod formal;
mod fuzz;
mod tidy;

use std::process::ExitCode;

const USAGE: &str = "usage: cargo run -p xtask -- tidy
       cargo run -p xtask -- formal [MODEL...]
       cargo run -p xtask -- fuzz [--minutes N] [--keep] [TARGET...]";

fn main() -> anyhow::Result<ExitCode> {
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        Some("tidy") => tidy::run(),
        Some("formal") => formal::run(&arguments.collect::<Vec<_>>()),
        Some("fuzz") => fuzz::run(&arguments.collect::<Vec<_>>()),
        Some(_) | None => anyhow::bail!("{USAGE}"),
    }
}
