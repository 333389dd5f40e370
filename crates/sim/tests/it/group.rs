//! A group of which every node is a member.

use std::time::Duration;

use comity_sim::scenario::{Protocol, Start};
use comity_sim::{Report, Scenario, run};

use crate::pass;

fn scenario(seed: u64) -> Scenario {
    let mut scenario = Scenario::kill(200, seed, 80);
    scenario.protocol = Protocol::Group;
    scenario.start = Start::Joined { over: Duration::from_secs(20) };
    scenario.fault_phase = Duration::from_secs(20);
    scenario.settle = Duration::from_secs(10);
    scenario.measure.queries = 20;
    scenario.measure.window = Duration::from_secs(20);
    scenario.measure.window_during = Some(Duration::from_secs(2));
    scenario
}

#[test]
fn everyone_hears_everything_and_again_after_four_of_five_vanished() {
    let report: Report = pass(&scenario(1));
    let [before, during, after] = report.phases.as_slice() else { panic!("three phases") };
    assert_eq!((before.live_nodes, during.live_nodes, after.live_nodes), (200, 40, 40));
    for phase in [before, during, after] {
        assert_eq!(phase.recall.found, phase.recall.wanted, "{}", phase.label);
        assert!(phase.recall.wanted >= 20 * 39, "{}", phase.label);
    }
    assert!(before.finds.latency_ms.p99 <= 1_500.0, "{:?}", before.finds.latency_ms);
    assert!(before.queries.bytes.mean <= 900.0, "{:?}", before.queries.bytes);
    let waited = during.finds.latency_ms.p50;
    assert!(waited > 1_000.0, "who is gone is missed after a while, not at once: {waited}");
}

#[test]
fn a_run_can_be_repeated() {
    let trace = |seed| run(&scenario(seed)).unwrap().trace;
    assert_eq!(trace(3), trace(3));
    assert_ne!(trace(3), trace(4));
}
