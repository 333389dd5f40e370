//! Nodes that break the rules: what they do happens, and what is shown is neither forged nor expired.

use comity_sim::{Adversaries, Demands, Misbehaviour, Report, Scenario, run};

use crate::pass;

/// Few questions, and nothing demanded but the rules.
fn small(kind: Misbehaviour, percent: u8) -> Scenario {
    let mut scenario = Scenario::adversarial(60, 8, percent.into(), kind);
    scenario.workload.publishers = 8;
    scenario.workload.topics = 10;
    scenario.askers = 8;
    scenario.measure.queries = 20;
    scenario.measure.texts = 4;
    scenario.measure.peers = 4;
    scenario.measure.finds = 4;
    scenario.measure.lookups = 0;
    scenario.demands = Demands { recall_before: Some(0.8), ..Demands::default() };
    scenario
}

fn clean(report: &Report) {
    let shown = report.shown();
    assert_eq!((shown.forged, shown.expired), (0, 0), "{report}");
}

#[test]
fn those_who_bend_messages_are_survived() {
    for kind in [
        Misbehaviour::Omit,
        Misbehaviour::Stale,
        Misbehaviour::Split,
        Misbehaviour::Drop,
        Misbehaviour::Misroute,
        Misbehaviour::Forge,
    ] {
        let report = pass(&small(kind, 15));
        clean(&report);
        assert!(report.counters.misbehaved > 0 || kind == Misbehaviour::Stale, "{report}");
        assert_eq!(report.attack.adversaries, 9, "{report}");
    }
}

#[test]
fn those_who_publish_what_is_not_so_are_found_out_when_they_are_tried() {
    for kind in [Misbehaviour::Lie, Misbehaviour::Stuff, Misbehaviour::Flood] {
        let report = pass(&small(kind, 20));
        clean(&report);
        assert!(report.attack.registrations >= 12, "{report}");
        assert!(report.attack.found_out > 0, "{report}");
        let before = report.phase("before").unwrap();
        assert!(before.peers.success() > 0.7, "a live peer is found all the same: {report}");
    }
}

#[test]
fn clocks_within_the_tolerance_do_no_harm_and_those_beyond_are_refused() {
    let mut scenario = small(Misbehaviour::Clock, 20);
    scenario.adversaries[0].skew = std::time::Duration::from_secs(100);
    let within = pass(&scenario);
    assert_eq!(within.attack.refused, 0, "{within}");
    scenario.adversaries[0].skew = std::time::Duration::from_secs(600);
    let beyond = pass(&scenario);
    assert!(beyond.attack.refused > 0, "{beyond}");
    clean(&beyond);
}

#[test]
fn minted_ids_surround_the_keys_that_are_asked_for() {
    let mut scenario = small(Misbehaviour::Eclipse, 8);
    scenario.adversaries[0].keys = 2;
    scenario.measure.texts = 0;
    let report = pass(&scenario);
    let attack = report.attack;
    assert_eq!((attack.keys, attack.minted_ids), (2, 32), "{report}");
    assert!(attack.tried_ids > 1_000.0 && attack.core_hours > 0.0, "{attack:?}");
    clean(&report);
}

#[test]
fn all_kinds_mixed_and_the_same_twice() {
    let mut scenario = small(Misbehaviour::Mixed, 34);
    scenario.adversaries.push(Adversaries::new(Misbehaviour::Omit, 50_000));
    let report = pass(&scenario);
    clean(&report);
    assert!(report.counters.misbehaved > 0 && report.attack.registrations > 0, "{report}");
    assert_eq!(run(&scenario).map(|again| again.trace).ok(), Some(report.trace));
}
