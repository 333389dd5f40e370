//! Runs one scenario of the simulator:
//! `cargo run --release -p comity-sim --example run -- healthy --nodes 2000 --seed 1 [--json] [--encoded] [--twice]`.

use std::process::ExitCode;

use comity_sim::{Messages, PRESETS, Report, Scenario, run};

const USAGE: &str = "run SCENARIO|FILE.toml [--nodes N] [--seed N] [--json] [--encoded] [--twice]
  --nodes N    nodes at the beginning (300)
  --seed N     decides everything left to chance (1)
  --json       print the report as JSON
  --encoded    really encode and decode every message
  --twice      run twice and compare the traces";

struct Options {
    scenario: Scenario,
    json: bool,
    twice: bool,
}

fn options(mut args: impl Iterator<Item = String>) -> Result<Options, String> {
    let name = args.next().ok_or_else(|| format!("{USAGE}\n  scenarios: {PRESETS:?}"))?;
    let (mut nodes, mut seed, mut json, mut encoded, mut twice) = (None, None, false, false, false);
    while let Some(arg) = args.next() {
        let mut number = || {
            args.next()
                .and_then(|text| text.parse::<u64>().ok())
                .ok_or_else(|| format!("{arg} wants a number\n{USAGE}"))
        };
        match arg.as_str() {
            "--nodes" => {
                nodes = Some(usize::try_from(number()?).map_err(|error| error.to_string())?);
            }
            "--seed" => seed = Some(number()?),
            "--json" => json = true,
            "--encoded" => encoded = true,
            "--twice" => twice = true,
            other => return Err(format!("{other} is not an option\n{USAGE}")),
        }
    }
    let mut scenario = if name.ends_with(".toml") {
        let text = std::fs::read_to_string(&name).map_err(|error| format!("{name}: {error}"))?;
        let read = Scenario::from_toml(&text).map_err(|error| format!("{name}: {error}"))?;
        Scenario { nodes: nodes.unwrap_or(read.nodes), seed: seed.unwrap_or(read.seed), ..read }
    } else {
        Scenario::preset(&name, nodes.unwrap_or(300), seed.unwrap_or(1))
            .map_err(|error| error.to_string())?
    };
    if encoded {
        scenario.messages = Messages::Encoded;
    }
    Ok(Options { scenario, json, twice })
}

#[allow(clippy::print_stdout, reason = "the report is this program's output")]
#[allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "measures how long the simulator itself takes"
)]
fn once(options: &Options) -> Result<Report, String> {
    let began = std::time::Instant::now();
    let report = run(&options.scenario).map_err(|failure| failure.to_string())?;
    let seconds = began.elapsed().as_secs_f64();
    if options.json {
        println!("{:#}", report.json());
    } else {
        println!(
            "{report}took    {seconds:.2} s, {:.0} events a second",
            f64::from(u32::try_from(report.counters.events).unwrap_or(u32::MAX)) / seconds
        );
    }
    Ok(report)
}

#[allow(clippy::print_stderr, reason = "errors go to the terminal")]
fn main() -> ExitCode {
    let result = options(std::env::args().skip(1)).and_then(|options| {
        let first = once(&options)?;
        if options.twice && once(&options)?.trace != first.trace {
            return Err(format!(
                "two runs have different traces; repeat with:\n  {} --twice",
                first.repeat
            ));
        }
        Ok(())
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
