//! The simulator finds what is wrong: a run that cannot pass fails, and says why and how to repeat it.

use comity_sim::check::Rule;
use comity_sim::{Fault, Scenario, ScenarioError, run};
use std::time::Duration;

fn tiny(name: &str) -> Scenario {
    let mut scenario = Scenario::preset(name, 25, 21).expect("a preset of this name");
    scenario.workload.publishers = 4;
    scenario.measure.queries = 8;
    scenario.measure.finds = 4;
    scenario.measure.lookups = 2;
    scenario
}

#[test]
fn a_fault_that_never_fired_fails_the_run() {
    let mut scenario = tiny("healthy");
    // One percent of 25 nodes is nobody.
    scenario.faults = vec![Fault::Kill { share: 10_000, at: Duration::ZERO }];
    let failure = run(&scenario).unwrap_err();
    assert!(
        failure.report.violations.iter().any(|violation| violation.rule == Rule::FaultNeverFired),
        "{failure}"
    );
}

#[test]
fn a_demand_that_is_not_met_fails_the_run_and_says_how_to_repeat_it() {
    let mut scenario = tiny("healthy");
    scenario.demands.find_hops_mean_max = Some(0.5);
    let failure = run(&scenario).unwrap_err();
    assert!(
        failure.report.violations.iter().all(|violation| violation.rule == Rule::Demand),
        "{failure}"
    );
    let text = failure.to_string();
    assert!(
        text.contains("with seed 21")
            && text.contains("--example run -- healthy --nodes 25 --seed 21"),
        "{text}"
    );
}

#[test]
fn recall_falls_when_everybody_lies() {
    // With sixty nodes, nine of ten lying, eight seeds are not enough to meet somebody honest.
    let mut scenario = Scenario { nodes: 60, ..tiny("misroute:90") };
    scenario.demands.recall_before = Some(1.0);
    let failure = run(&scenario).unwrap_err();
    let before = failure.report.phase("before").unwrap();
    assert!(before.recall() < 1.0 || before.finds.success() < 1.0, "{failure}");
}

#[test]
fn names_of_scenarios_are_checked() {
    assert!(matches!(Scenario::preset("helthy", 10, 1), Err(ScenarioError::Unknown { .. })));
    assert!(matches!(Scenario::preset("kill:101", 10, 1), Err(ScenarioError::Number { .. })));
    for name in comity_sim::PRESETS {
        assert!(Scenario::preset(name, 10, 1).is_ok(), "{name}");
    }
}
