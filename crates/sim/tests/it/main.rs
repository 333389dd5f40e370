//! Scenarios of the production overlay, small enough for every change. A failing one prints its seed and how to repeat it.

mod adversaries;
mod baselines;
mod determinism;
mod faults;
mod group;
mod healthy;
mod lifecycle;
mod rules;

use comity_sim::{Report, Scenario, run};

/// Runs a scenario that must pass.
fn pass(scenario: &Scenario) -> Report {
    match run(scenario) {
        Ok(report) => report,
        Err(failure) => panic!("{failure}"),
    }
}
