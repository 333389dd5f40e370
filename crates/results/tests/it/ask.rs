//! Where an answer is taken from, and what is said about why.

use std::time::Duration;

use comity_capability::record::{Determinism, GroupSecret, Scope};
use comity_core::{Hash, Time};
use comity_results::ask::{Ask, AskError, Local, Reason, Source};
use comity_results::key::{IndexKey, NoIndexKey, QuestionKey};
use comity_results::subsume::latest_time;
use comity_results::terms::{TTL_MAX, Terms};
use serde_json::json;

use crate::common::{HOUR, NOW, capability, request, terms};

fn sources(ask: Ask, terms: &Terms, local: Local) -> Vec<Source> {
    ask.plan(terms, local).unwrap().sources().collect()
}

#[test]
fn the_store_comes_first_then_holders_then_the_specialist() {
    use Source::{Holders, Local as Store, Specialist};
    let age = Duration::from_secs(50);
    let held = Local::Valid { age };
    let minute = |n: u64| Some(Duration::from_secs(n * 60));
    let cases = [
        (Ask::default(), held, vec![Store]),
        (Ask::default(), Local::Absent, vec![Holders, Specialist]),
        (Ask::default(), Local::Expired, vec![Holders, Specialist]),
        (Ask { fresh: true, ..Ask::default() }, held, vec![Specialist]),
        (Ask { max_age: minute(1), ..Ask::default() }, held, vec![Store]),
        (Ask { max_age: Some(age / 2), ..Ask::default() }, held, vec![Holders, Specialist]),
        (Ask { only_shared: true, ..Ask::default() }, held, vec![Store]),
        (Ask { only_shared: true, ..Ask::default() }, Local::Absent, vec![Holders]),
        (Ask { private: true, ..Ask::default() }, Local::Absent, vec![Specialist]),
    ];
    for (ask, local, expected) in cases {
        assert_eq!(sources(ask, &terms(), local), expected, "{ask:?} {local:?}");
    }
    let contradictory = Ask { fresh: true, only_shared: true, ..Ask::default() };
    assert_eq!(contradictory.plan(&terms(), held), Err(AskError::FreshAndShared));
}

#[test]
fn every_step_says_why() {
    let age = Duration::from_secs(90);
    let max = Duration::from_secs(60);
    let ask = Ask { max_age: Some(max), ..Ask::default() };
    let plan = ask.plan(&terms(), Local::Valid { age }).unwrap();
    assert_eq!(plan.steps[0].reason, Reason::TooOld { age, max });
    assert_eq!(
        plan.steps[0].reason.to_string(),
        "the copy held here is 90 s old, over the 60 s wanted"
    );
    assert_eq!(plan.steps[1].reason, Reason::Shared);
    assert!(plan.uses(Source::Specialist));
}

#[test]
fn a_capability_that_says_nothing_shares_nothing() {
    let mut silent = capability();
    silent.reuse = None;
    let silent = Terms::of(&silent);
    assert_eq!(sources(Ask::default(), &silent, Local::Absent), [Source::Specialist]);
    // What has a time to live is still kept by who asked.
    let held = Local::Valid { age: Duration::ZERO };
    assert_eq!(sources(Ask::default(), &silent, held), [Source::Local]);
    let unkept = Terms { ttl: Duration::ZERO, ..silent };
    assert_eq!(sources(Ask::default(), &unkept, held), [Source::Specialist]);
}

#[test]
fn a_private_question_has_no_name_outside() {
    let secret = GroupSecret::from_bytes([1; 32]);
    let question = QuestionKey::of_json(&terms().descriptor, &request()).unwrap();
    let with_scope = |scope| {
        let mut terms = terms();
        terms.reuse.scope = scope;
        terms
    };
    let public = IndexKey::new(&with_scope(Scope::Public), &question, None, false).unwrap();
    assert_ne!(public.0, question.0);
    let private = IndexKey::new(&with_scope(Scope::Public), &question, None, true);
    assert_eq!(private, Err(NoIndexKey::Private));
    for scope in [Scope::Asker, Scope::Holders] {
        let named = IndexKey::new(&with_scope(scope), &question, Some(&secret), false);
        assert_eq!(named, Err(NoIndexKey::Scope { scope }));
    }
    let group = with_scope(Scope::Group);
    assert_eq!(IndexKey::new(&group, &question, None, false), Err(NoIndexKey::Secret));
    let blinded = IndexKey::new(&group, &question, Some(&secret), false).unwrap();
    let other = IndexKey::new(&group, &question, Some(&GroupSecret::from_bytes([2; 32])), false);
    assert_ne!(blinded, public);
    assert_ne!(blinded, other.unwrap());
}

#[test]
fn question_keys_follow_the_meaning_of_the_request() {
    let descriptor = Hash::of(b"descriptor");
    let key = |request| QuestionKey::of_json(&descriptor, &request).unwrap();
    assert_eq!(key(json!({ "a": 1, "b": 2 })), key(json!({ "b": 2.0, "a": 1 })));
    assert_ne!(key(json!({ "a": 1 })), key(json!({ "a": 2 })));
    let elsewhere = QuestionKey::of_json(&Hash::of(b"other"), &json!({ "a": 1 })).unwrap();
    assert_ne!(key(json!({ "a": 1 })), elsewhere);
}

#[test]
fn what_is_about_a_closed_time_does_not_grow_stale() {
    let mut closed = terms();
    closed.reuse.determinism = Determinism::Exact;
    closed.reuse.closed_until_ms = Some(1_735_689_599_999); // the end of 2024
    closed.reuse.time_field = Some("day".to_owned());
    let latest =
        |to: &str| latest_time(&json!({ "where": { "day": { "from": "2021", "to": to } } }), "day");
    assert_eq!(latest("2024"), Some(Time::from_micros(1_735_689_600_000_000 - 1)));
    assert_eq!(closed.valid_until(NOW, latest("2023-12")), NOW + TTL_MAX);
    assert_eq!(closed.valid_until(NOW, latest("2024-12-30")), NOW + TTL_MAX);
    assert_eq!(closed.valid_until(NOW, latest("2025-01-01")), NOW + HOUR);
    assert_eq!(closed.valid_until(NOW, None), NOW + HOUR);
    assert_eq!(latest_time(&json!({ "where": { "day": { "from": "2021" } } }), "day"), None);
    assert_eq!(latest_time(&json!({ "where": { "day": "2023-02-30" } }), "day"), None);
    let one_of = json!({ "where": { "day": { "in": ["2021-01-01", "2020-01-01"] } } });
    assert_eq!(
        latest_time(&one_of, "day").map(Time::rfc3339).unwrap(),
        "2021-01-01T23:59:59.999999Z"
    );
}
