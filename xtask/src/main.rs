//! Repository chores. `cargo run -p xtask -- tidy` checks the rules of the workspace that no compiler or linter knows.

mod tidy;

use std::process::ExitCode;

fn main() -> anyhow::Result<ExitCode> {
    let command = std::env::args().nth(1);
    match command.as_deref() {
        Some("tidy") => tidy::run(),
        Some(_) | None => anyhow::bail!("usage: cargo run -p xtask -- tidy"),
    }
}
