//! Things go wrong, heal, and the network converges.

use comity_sim::Scenario;

use crate::pass;

/// Fewer questions than the presets ask: debug builds are slow.
fn brief(mut scenario: Scenario) -> Scenario {
    scenario.workload.publishers = 20;
    scenario.measure.queries = 60;
    scenario.measure.finds = 30;
    scenario.measure.lookups = 10;
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

#[test]
fn two_halves_of_a_hundred_meet_again() {
    let report = pass(&brief(Scenario::partition_heal(100, 5)));
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
    for seed in 1..=3 {
        let mut scenario = brief(Scenario::swarm(40, seed));
        scenario.workload.publishers = 8;
        pass(&scenario);
    }
}

#[test]
fn a_tenth_drops_or_misroutes() {
    for name in ["drop:10", "misroute:10"] {
        let report = pass(&brief(Scenario::preset(name, 80, 8).unwrap()));
        assert!(report.counters.misbehaved > 100, "{report}");
    }
}
