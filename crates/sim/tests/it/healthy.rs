//! Networks in which nothing goes wrong but the ordinary loss of messages, and what they may cost.

use comity_sim::Scenario;

use crate::{pass, with_split_groups};

#[test]
fn three_hundred_nodes_that_joined_find_everything() {
    let mut scenario = Scenario::healthy(300, 1);
    scenario.workload.publishers = 10;
    let report = pass(&scenario);
    let before = report.phase("before").unwrap();
    assert!((before.recall() - 1.0).abs() < f64::EPSILON);
    assert!(
        before.recall.wanted >= 100,
        "a hundred questions have answers: {}",
        before.recall.wanted
    );
    assert!((before.finds.success() - 1.0).abs() < f64::EPSILON);
    assert!(before.finds.hops.mean <= 3.5, "{report}");
    assert_eq!(report.joins.ended, 300);
}

#[test]
fn two_thousand_nodes_stay_within_the_budgets() {
    let mut scenario = Scenario::healthy(2_000, 2);
    scenario.workload.publishers = 10;
    scenario.workload.capabilities_each = 1;
    scenario.askers = 10;
    scenario.measure.queries = 40;
    scenario.measure.finds = 40;
    scenario.measure.lookups = 40;
    let report = pass(&scenario);
    let before = report.phase("before").unwrap();
    assert!(before.finds.hops.mean <= 3.5, "{report}");
    assert!((before.finds.success() - 1.0).abs() < f64::EPSILON, "{report}");
    assert!((before.recall() - 1.0).abs() < f64::EPSILON, "{report}");
    assert!(report.stored_on_true_20() >= 0.98, "{report}");
    assert!(before.nearest_found() >= 0.98, "{report}");
    assert!(before.finds.latency_ms.p50 <= 500.0, "{report}");
    assert!(before.queries.bytes.mean <= 120_000.0, "{report}");
}

/// Both groups of a question with two conditions have more than sixty shards, and few members answer it: every shard of one of them has
/// to be asked.
#[test]
fn of_groups_with_a_hundred_shards_the_rarest_answers_are_found() {
    let mut scenario = with_split_groups(Scenario::healthy(1_500, 1));
    scenario.askers = 40;
    scenario.measure.queries = 80;
    (scenario.measure.finds, scenario.measure.lookups) = (0, 0);
    let report = pass(&scenario);
    let before = report.phase("before").unwrap();
    let best = before.recall_at_5;
    assert_eq!(best.found, best.wanted, "{report}");
    assert!(best.wanted > 200, "most questions have several answers: {}", best.wanted);
    assert!(report.custody.shard_digests.max <= 6.0, "{report}");
}
