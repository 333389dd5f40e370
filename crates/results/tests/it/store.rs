//! What is kept: bounded, verified, in time, and through scans.

use std::time::Duration;

use comity_core::{AgentId, Hash, Time};
use comity_results::ask::Local;
use comity_results::key::QuestionKey;
use comity_results::result::Accepted;
use comity_results::retract::{Retract, Retractions, Target};
use comity_results::store::{ENTRY_OVERHEAD, Limits, SHARE_MAX, Store, Unkept};
use proptest::prelude::*;
use serde_json::json;

use crate::common::{HOUR, NOW, accepted, identity};

const TOOK: Duration = Duration::from_millis(100);

/// The same verified answer under the key of another question, as many of them are kept.
fn under(number: u64, accepted: &Accepted) -> Accepted {
    let mut accepted = accepted.clone();
    accepted.question = QuestionKey(Hash::of(&number.to_be_bytes()));
    accepted
}

fn keep(store: &mut Store, accepted: Accepted, now: Time) -> Result<(), Unkept> {
    store.admit(accepted, TOOK, &Retractions::new(), now).map(|_| ())
}

#[test]
fn an_answer_is_given_again_until_its_validity_ends_and_not_a_moment_longer() {
    let mut store = Store::new(Limits::default(), 1);
    let answer = accepted(1, &json!({ "rate": 1.1 }), NOW);
    let question = answer.question;
    assert_eq!(store.look(&question, NOW), Local::Absent);
    assert!(store.get(&question, None, NOW).is_none());
    keep(&mut store, answer.clone(), NOW).unwrap();
    let found = store.get(&question, None, NOW + HOUR / 2).unwrap();
    assert_eq!((found.accepted.as_ref(), found.took, found.uses), (&answer, TOOK, 1));
    assert!(store.get(&question, Some(Duration::from_secs(1)), NOW + HOUR / 2).is_none());
    assert_eq!(store.look(&question, NOW + HOUR), Local::Expired);
    assert!(store.get(&question, None, NOW + HOUR).is_none());
    assert!(store.is_empty());
    let counts = store.counts();
    assert_eq!((counts.hits, counts.misses, counts.expired), (1, 3, 1));
    assert_eq!(keep(&mut store, answer, NOW + HOUR), Err(Unkept::NotValid));
}

#[test]
fn the_newer_answer_stays() {
    let mut store = Store::new(Limits::default(), 1);
    let (old, new) = (accepted(1, &json!(1), NOW), accepted(2, &json!(2), NOW + HOUR / 4));
    keep(&mut store, new.clone(), NOW + HOUR / 4).unwrap();
    assert_eq!(keep(&mut store, old, NOW + HOUR / 4), Err(Unkept::Older));
    let held = store.get(&new.question, None, NOW + HOUR / 4).unwrap();
    assert_eq!(held.accepted.producer(), identity(2).id());
    assert_eq!(store.len(), 1);
}

#[test]
fn withdrawn_answers_go_and_do_not_come_back() {
    let mut store = Store::new(Limits::default(), 1);
    let (one, two) = (accepted(1, &json!(1), NOW), accepted(2, &json!(2), NOW));
    for number in 0..10 {
        keep(&mut store, under(number, &one), NOW).unwrap();
        keep(&mut store, under(number + 100, &two), NOW).unwrap();
    }
    let mut retracted = Retractions::new();
    let target = Target::Response(one.verified.receipt.response);
    retracted.insert(&Retract::new(target, NOW).seal(&identity(1)), NOW).unwrap();
    assert_eq!(store.withdraw(&identity(1).id(), &retracted), 10);
    assert_eq!(store.admit(one, TOOK, &retracted, NOW), Err(Unkept::Retracted));
    assert_eq!(store.drop_producer(&identity(2).id()), 10);
    assert_eq!((store.len(), store.bytes(), store.counts().withdrawn), (0, 0, 20));
}

#[test]
fn a_result_that_would_push_out_everything_else_is_not_kept() {
    let limits = Limits { bytes_max: 64 * 1024 };
    let mut store = Store::new(limits, 1);
    let fits = limits.bytes_max / SHARE_MAX - ENTRY_OVERHEAD;
    let text = |length: usize| json!("x".repeat(length));
    keep(&mut store, accepted(1, &text(fits - 8), NOW), NOW).unwrap();
    let refused = keep(&mut store, accepted(1, &text(fits + 1), NOW + HOUR / 2), NOW + HOUR / 2);
    assert_eq!(refused, Err(Unkept::TooLarge));
}

#[test]
fn what_is_asked_for_again_survives_a_scan_ten_times_the_store() {
    let mut store = Store::new(Limits { bytes_max: 200 * ENTRY_OVERHEAD }, 7);
    let answer = accepted(1, &json!(1), NOW);
    let hot: Vec<u64> = (0..50).collect();
    for round in 0..4 {
        for number in &hot {
            if store.get(&under(*number, &answer).question, None, NOW).is_none() {
                assert_eq!(round, 0, "nothing is in the way yet");
                keep(&mut store, under(*number, &answer), NOW).unwrap();
            }
        }
    }
    for number in 1_000..3_000 {
        keep(&mut store, under(number, &answer), NOW).unwrap();
    }
    let kept = |number: &&u64| store.look(&under(**number, &answer).question, NOW) != Local::Absent;
    let survived = hot.iter().filter(kept).count();
    assert!(survived >= 45, "{survived} of 50");
    assert!(store.bytes() <= (200 * ENTRY_OVERHEAD) as u64);
}

#[test]
fn a_target_asked_again_finds_its_question_without_the_directory() {
    let mut store = Store::new(Limits::default(), 1);
    let answer = accepted(1, &json!(1), NOW);
    let alias = Hash::of(b"fx-rates ? EUR/USD");
    assert_eq!(store.alias(&alias), None);
    store.note_alias(alias, answer.question);
    assert_eq!(store.alias(&alias), Some(answer.question));
}

#[derive(Debug, Clone)]
enum Step {
    Keep { number: u64, bytes: usize, producer: u8 },
    Ask(u64),
    Drop(u8),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0u64..40, 1usize..3000, 1u8..4)
            .prop_map(|(number, bytes, producer)| Step::Keep { number, bytes, producer }),
        6 => (0u64..40).prop_map(Step::Ask),
        1 => (1u8..4).prop_map(Step::Drop),
        2 => (1u64..2000).prop_map(Step::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn the_store_never_grows_past_its_limit_and_gives_nothing_that_is_over(steps in prop::collection::vec(step(), 1..120), seed in any::<u64>()) {
        const BYTES_MAX: usize = 40 * 1024;
        let mut store = Store::new(Limits { bytes_max: BYTES_MAX }, seed);
        let mut now = NOW;
        let mut gone: Vec<(AgentId, Time)> = Vec::new();
        for step in steps {
            match step {
                Step::Keep { number, bytes, producer } => {
                    let answer = accepted(producer, &json!("x".repeat(bytes)), now);
                    keep(&mut store, under(number, &answer), now).unwrap();
                }
                Step::Ask(number) => {
                    let question = QuestionKey(Hash::of(&number.to_be_bytes()));
                    if let Some(entry) = store.get(&question, None, now) {
                        prop_assert!(entry.accepted.valid_until > now);
                        prop_assert_eq!(entry.accepted.question, question);
                        let dropped = |(producer, at): &(AgentId, Time)| {
                            *producer == entry.accepted.producer() && *at > entry.accepted.finished
                        };
                        prop_assert!(!gone.iter().any(dropped));
                    }
                }
                Step::Drop(producer) => {
                    let producer = identity(producer).id();
                    store.drop_producer(&producer);
                    gone.push((producer, now));
                    prop_assert!(store.iter().all(|entry| entry.accepted.producer() != producer));
                }
                Step::Wait(seconds) => now += Duration::from_secs(seconds),
            }
            prop_assert!(store.bytes() <= BYTES_MAX as u64);
        }
    }
}
