//! Agents that come and go under watch, questions for a live peer, free text, and the report that holds it all.

use std::time::Duration;

use comity_sim::{Progress, Report, Scenario, run_with};

use crate::pass;

fn scenario() -> Scenario {
    let text = r#"
        preset = "bare"
        nodes = 80
        seed = 5
        askers = 10
        beat_life = "6m"
        [workload]
        publishers = 30
        capabilities_each = 1
        pairs_each = 1
        pairs = 12
        pair_skew = "zipf"
        class_skew = "zipf"
        question_skew = "zipf"
        head_class = 20
        topics = 10
        prices = 6
        broad = 30
        [measure]
        queries = 30
        texts = 10
        peers = 10
        finds = 5
        lookups = 2
        registrations = 3
        retirements = 3
        want = 5
        [demands]
        peers_live = 0.9
    "#;
    Scenario::from_toml(text).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn what_is_measured_is_in_the_report_and_survives_json() {
    let report = pass(&scenario());
    let before = report.phase("before").unwrap();
    assert_eq!(before.peers.ended, before.peers_warm.ended);
    assert!(before.peers.ended >= 9 && before.texts.ended >= 9, "{report}");
    assert!(before.recall_at_5.wanted > 30 && before.recall_at_5.share() > 0.95, "{report}");
    assert!(before.text_recall_at_5.wanted > 0, "{report}");
    assert_eq!(report.lifecycle.found.seconds.count + report.lifecycle.found.never, 3, "{report}");
    assert!(report.lifecycle.found.seconds.count >= 2, "{report}");
    assert!(report.custody.items.mean > 0.0 && report.custody.items.count == 80, "{report}");
    assert!(report.estimates.count > 0 && report.estimates.p50 > 0.3, "{report}");
    assert!(before.sent_per_second.count >= 80, "{report}");
    let asked: u64 = report.series.points.iter().map(|point| point.queries).sum();
    assert_eq!(asked, before.queries.ended, "every query is in the series");
    let json = report.json().to_string();
    let read: Report = serde_json::from_str(&json).unwrap();
    assert_eq!(read, report);
}

/// All 620 publishers are of one class: of a question for the class, custodians show the best 32 that match. Whether a
/// newcomer is among those is chance; watched is whether he can be found.
#[test]
fn who_registers_is_found_among_more_than_custodians_show() {
    let mut crowded = scenario();
    (crowded.nodes, crowded.workload.publishers) = (640, 620);
    crowded.workload.classes = 1;
    crowded.workload.broad = 1_000_000;
    crowded.measure.registrations = 12;
    (crowded.measure.queries, crowded.measure.texts, crowded.measure.peers) = (0, 0, 0);
    crowded.demands.peers_live = None;
    let report = pass(&crowded);
    assert_eq!(report.lifecycle.found.seconds.count, 12, "{report}");
    assert_eq!(report.lifecycle.found.never, 0, "{report}");
}

#[test]
fn progress_is_told_and_changes_nothing() {
    let mut quick = scenario();
    quick.measure.registrations = 0;
    quick.measure.retirements = 0;
    let mut told: Vec<Progress> = Vec::new();
    let report = run_with(&quick, &mut |progress| told.push(progress)).unwrap();
    assert_eq!(report.trace, pass(&quick).trace);
    assert!(told.len() > 100 && told.is_sorted_by_key(|progress| progress.done));
    let last = told.last().unwrap();
    assert_eq!(last.done, last.total);
    assert!(last.total > Duration::from_secs(60) && last.events > 0);
}
