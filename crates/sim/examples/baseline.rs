//! Runs one scenario with another design of a directory:
//! `cargo run --release -p comity-sim --example baseline -- providers kill:50 --nodes 10000 --seed 1 [--publishers N] [--json]`.

use std::process::ExitCode;

use comity_sim::baseline::{Baseline, run};
use comity_sim::{Adversaries, Misbehaviour, Scenario, Start};

const USAGE: &str = "baseline DESIGN SCENARIO [--nodes N] [--seed N] [--publishers N] [--classes N] [--pairs N] [--broad PERCENT]
    [--head PERCENT] [--queries N] [--askers N] [--watched N] [--window SECONDS] [--eclipse IDS] [--published] [--json]
  DESIGN        gossip, providers, providers_typed, index, index_struck or kademlia
  --nodes N     nodes (10000)
  --publishers  nodes that publish (all)
  --head        percent of the publishers that declare the first class
  --broad       percent of the questions that name a class and no entity
  --watched N   agents that register, retire and crash in each phase while somebody looks for them
  --eclipse N   ids minted next to each of 100 keys
  --published   publish by protocol instead of starting with everything published";

fn options(mut args: impl Iterator<Item = String>) -> Result<(Scenario, Baseline, bool), String> {
    let mut word = || args.next().ok_or_else(|| USAGE.to_owned());
    let baseline = word()?.parse().map_err(|error| format!("{error}\n{USAGE}"))?;
    let name = word()?;
    let rest: Vec<String> = args.collect();
    let number = |option: &str| -> Result<Option<usize>, String> {
        let Some(place) = rest.iter().position(|arg| arg == option) else { return Ok(None) };
        let text = rest.get(place + 1).and_then(|text| text.parse().ok());
        text.map(Some).ok_or_else(|| format!("{option} wants a number\n{USAGE}"))
    };
    let small = |option: &str| -> Result<Option<u32>, String> {
        Ok(number(option)?.and_then(|number| u32::try_from(number).ok()))
    };
    let nodes = number("--nodes")?.unwrap_or(10_000);
    let seed = number("--seed")?.unwrap_or(1) as u64;
    let mut scenario = Scenario::preset(&name, nodes, seed).map_err(|error| error.to_string())?;
    scenario.start =
        if rest.iter().any(|arg| arg == "--published") { Start::Built } else { Start::Settled };
    let (workload, measure) = (&mut scenario.workload, &mut scenario.measure);
    workload.publishers = number("--publishers")?.unwrap_or(nodes);
    workload.pairs = small("--pairs")?.unwrap_or(workload.pairs);
    workload.classes = number("--classes")?.unwrap_or(workload.classes);
    workload.broad = small("--broad")?.unwrap_or(0) * 10_000;
    workload.head_class = small("--head")?.unwrap_or(0) * 10_000;
    measure.queries = number("--queries")?.unwrap_or(measure.queries);
    if let Some(watched) = number("--watched")? {
        (measure.registrations, measure.retirements, measure.crashes) = (watched, watched, watched);
    }
    if let Some(window) = number("--window")? {
        measure.window = std::time::Duration::from_secs(window as u64);
    }
    scenario.askers = number("--askers")?.unwrap_or(scenario.askers);
    if let Some(ids) = number("--eclipse")? {
        let none = Adversaries::new(Misbehaviour::Eclipse, 0);
        scenario.adversaries.push(Adversaries { keys: 100, ids, ..none });
    }
    Ok((scenario, baseline, rest.iter().any(|arg| arg == "--json")))
}

#[allow(clippy::print_stdout, reason = "the report is this program's output")]
#[allow(clippy::print_stderr, reason = "errors go to the terminal")]
fn main() -> ExitCode {
    let result = options(std::env::args().skip(1)).and_then(|(scenario, baseline, json)| {
        let report = run(&scenario, baseline).map_err(|error| error.to_string())?;
        if json {
            println!("{:#}", report.json());
        } else {
            println!("{baseline}: {report}");
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
