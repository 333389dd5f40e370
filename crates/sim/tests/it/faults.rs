//! Things go wrong, heal, and the network converges.

use std::time::Duration;

use comity_sim::{Fault, Scenario};

use crate::{pass, with_split_groups};

/// Fewer questions than the presets ask: debug builds are slow.
fn brief(mut scenario: Scenario) -> Scenario {
    scenario.workload.publishers = 10;
    scenario.measure.queries = 40;
    scenario.measure.finds = 20;
    scenario.measure.lookups = 5;
    scenario
}

#[test]
fn churn_of_two_hundred() {
    let report = pass(&brief(Scenario::churn(200, 3)));
    assert!(report.counters.restarts > 20 && report.counters.departures > 10, "{report}");
}

#[test]
fn a_third_of_three_hundred_dies() {
    let report = pass(&brief(Scenario::kill(300, 4, 30)));
    assert_eq!(report.counters.crashes, 90);
    let after = report.phase("after").unwrap();
    assert!((after.recall() - 1.0).abs() < f64::EPSILON, "{report}");
}

/// What a question finds first has gone as often as not, and shards it did not ask because it had enough hold the rest.
#[test]
fn half_of_a_network_with_split_groups_dies() {
    let mut scenario = with_split_groups(brief(Scenario::kill(400, 9, 50)));
    scenario.askers = 60;
    scenario.measure.queries = 120;
    scenario.settle = Duration::from_secs(30);
    let report = pass(&scenario);
    let during = report.phase("during").unwrap();
    assert!(during.recall.wanted > 300, "{report}");
    assert!(during.recall() >= 0.99, "{report}");
}

#[test]
fn two_halves_of_a_hundred_meet_again() {
    let report = pass(&brief(Scenario::partition_heal(100, 5, 5)));
    assert!(report.counters.cut > 1_000, "{report}");
}

/// Long enough that each half has evicted the other: only remembered contacts lead back.
#[test]
fn a_partition_of_half_an_hour_heals() {
    let report = pass(&brief(Scenario::partition_heal(40, 5, 30)));
    assert!(report.counters.cut > 1_000, "{report}");
}

#[test]
fn everybody_restarts() {
    let report = pass(&brief(Scenario::restart_all(100, 6)));
    assert_eq!((report.counters.crashes, report.counters.restarts), (100, 100));
}

#[test]
fn lost_doubled_and_late_messages() {
    let report = pass(&brief(Scenario::loss(100, 7, 5)));
    assert!(report.counters.duplicated > 100 && report.counters.reordered > 100, "{report}");
}

#[test]
fn what_the_seed_draws() {
    for seed in [3, 5] {
        let mut scenario = brief(Scenario::swarm(24, seed));
        scenario.workload.publishers = 4;
        pass(&scenario);
    }
}

#[test]
fn some_drop_misroute_or_forge() {
    for name in ["drop:10", "misroute:10", "forge:30"] {
        let report = pass(&brief(Scenario::preset(name, 60, 8).unwrap()));
        assert!(report.counters.misbehaved > 10, "{report}");
    }
}

/// Everybody shares a processor that is much too slow: nobody takes the own delay for the silence of all others.
#[test]
fn nodes_that_stand_still_forget_nobody() {
    let mut scenario = brief(Scenario::healthy(100, 9));
    scenario.faults = vec![Fault::Stall {
        at: Duration::ZERO,
        lasts: None,
        share: 1_000_000,
        blocked: Duration::from_secs(8),
        runs: Duration::from_secs(1),
    }];
    scenario.fault_phase = Duration::from_secs(120);
    scenario.measure_at = Duration::from_secs(20);
    scenario.settle = Duration::from_secs(30);
    scenario.demands.stalled_entries_kept = Some(0.95);
    scenario.demands.recall_stalled = Some(0.9);
    scenario.demands.normal_after_max = Some(Duration::from_secs(60));
    let report = pass(&scenario);
    assert!(report.counters.stalls > 1_000, "{report}");
    assert_eq!((report.stall.nodes, report.stall.mass_failures), (100, 0), "{report}");
}

#[test]
fn stalls_of_no_length_are_refused() {
    let zero = Duration::ZERO;
    for (blocked, runs) in [(zero, zero), (Duration::from_secs(1), zero)] {
        let mut scenario = Scenario::healthy(20, 1);
        scenario.faults =
            vec![Fault::Stall { at: zero, lasts: None, share: 1_000_000, blocked, runs }];
        let why = scenario.check().unwrap_err().to_string();
        assert!(why.contains("faults") && why.contains("10 ms"), "{why}");
    }
}
