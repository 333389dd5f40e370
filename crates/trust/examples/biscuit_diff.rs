//! Decides random chains of grants twice: with this crate, and translated to Biscuit.
//!
//! `cargo run --release -p comity-trust --example biscuit_diff -- 100000 [SEED]`

#[path = "../tests/it/biscuit.rs"]
mod biscuit;

use std::process::ExitCode;

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a command-line tool")]
fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let mut number =
        |default: u64| arguments.next().and_then(|text| text.parse().ok()).unwrap_or(default);
    let (cases, seed) = (number(1000), number(1));
    match biscuit::compare(cases, seed) {
        Ok(tally) => {
            println!(
                "{cases} cases, seed {seed}: {} allowed, {} refused, 0 decided differently",
                tally.allowed, tally.refused
            );
            for (why, count) in tally.reasons {
                println!("  {count:>8} {why}");
            }
            ExitCode::SUCCESS
        }
        Err(difference) => {
            eprintln!("{difference}");
            ExitCode::FAILURE
        }
    }
}
