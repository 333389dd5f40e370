//! Scenarios of the production overlay, small enough for every change. A failing one prints its seed and how to repeat it.

mod adversaries;
mod baselines;
mod determinism;
mod faults;
mod group;
mod healthy;
mod lifecycle;
mod rules;

use comity_sim::{Report, Scenario, Start, run};

/// So few classes and pairs, and shards so small, that the groups of every question are split into dozens.
fn with_split_groups(mut scenario: Scenario) -> Scenario {
    scenario.start = Start::Settled;
    scenario.config.shard_digests = 6;
    let workload = &mut scenario.workload;
    (workload.publishers, workload.capabilities_each) = (scenario.nodes, 1);
    (workload.classes, workload.pairs) = (2, 3);
    scenario.measure.want = 5;
    scenario
}

/// Runs a scenario that must pass.
fn pass(scenario: &Scenario) -> Report {
    match run(scenario) {
        Ok(report) => report,
        Err(failure) => panic!("{failure}"),
    }
}
