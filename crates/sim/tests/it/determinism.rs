//! The seed decides everything.

use comity_sim::{Messages, Report, Scenario};

use crate::pass;

fn small(seed: u64) -> Scenario {
    let mut scenario = Scenario::loss(20, seed, 3);
    scenario.workload.publishers = 4;
    scenario.measure.queries = 12;
    scenario.measure.finds = 6;
    scenario.measure.lookups = 3;
    scenario.demands.recall_during = None;
    scenario
}

#[test]
fn equal_seeds_give_equal_traces_and_reports() {
    let (first, second) = (pass(&small(11)), pass(&small(11)));
    assert_eq!(first.trace, second.trace);
    assert_eq!(first, second);
}

#[test]
fn other_seeds_give_other_traces() {
    assert_ne!(pass(&small(11)).trace, pass(&small(12)).trace);
}

#[test]
fn encoded_messages_change_nothing() {
    let values = small(13);
    let encoded = Scenario { messages: Messages::Encoded, ..values.clone() };
    let by_value = pass(&values);
    assert_eq!(by_value, Report { scenario: values, ..pass(&encoded) });
}
