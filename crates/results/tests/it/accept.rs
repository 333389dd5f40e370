//! No byte that its producer did not vouch for, for this question and this time, is accepted.

use std::collections::BTreeSet;
use std::time::Duration;

use comity_core::receipt::{ReceiptError, RootCache, ShortText};
use comity_core::{Canonical, Hash, Time};
use comity_results::result::{CLOCK_SKEW, Refusal, Rules, SharedResult, accept, split_items};
use comity_results::retract::{PER_PRODUCER_MAX, Retract, RetractError, Retractions, Target};
use comity_results::terms::TTL_MAX;
use proptest::prelude::*;
use serde_json::json;

use crate::common::{HOUR, NOW, body, identity, request_hash, result, signed, statement, terms};

fn check(result: SharedResult, rules: &Rules<'_>, now: Time) -> Result<(), Refusal> {
    accept(&terms(), &request_hash(), result, rules, &mut RootCache::new(), now).map(|_| ())
}

#[test]
fn an_answer_is_accepted_from_anybody_until_its_validity_ends() {
    let result = result(1, &json!({ "rate": 1.1 }), NOW);
    let again = SharedResult::decode(&result.encode()).unwrap();
    assert_eq!(again, result);
    let accepted = accept(
        &terms(),
        &request_hash(),
        again,
        &Rules::default(),
        &mut RootCache::new(),
        NOW + HOUR / 2,
    )
    .unwrap();
    assert_eq!(accepted.producer(), identity(1).id());
    assert_eq!(accepted.valid_until, NOW + HOUR);
    let late = check(result, &Rules::default(), NOW + HOUR);
    assert_eq!(late, Err(Refusal::Expired { since: Duration::ZERO }));
}

#[test]
fn what_differs_from_the_question_in_any_way_is_refused() {
    let (producer, caller, value) = (identity(1), identity(200), body(&json!(1)));
    let base = statement(&producer, &caller, &terms(), &value, NOW);
    let other = Hash::of(b"other");
    let cases = [
        (comity_core::receipt::Receipt { request: other, ..base.clone() }, Refusal::Request),
        (comity_core::receipt::Receipt { capability: other, ..base.clone() }, Refusal::Capability),
        (
            comity_core::receipt::Receipt {
                name: ShortText::try_from("x").unwrap(),
                ..base.clone()
            },
            Refusal::Capability,
        ),
        (
            comity_core::receipt::Receipt {
                interface: comity_core::Sha256Digest::of(b"x"),
                ..base.clone()
            },
            Refusal::Interface,
        ),
        (
            comity_core::receipt::Receipt { status: 3, ..base.clone() },
            Refusal::Status { status: 3 },
        ),
        (
            comity_core::receipt::Receipt { data_version: None, ..base.clone() },
            Refusal::DataVersion,
        ),
        (comity_core::receipt::Receipt { response: other, ..base.clone() }, Refusal::Body),
        (
            comity_core::receipt::Receipt {
                finished_ms: (NOW + CLOCK_SKEW + Duration::from_secs(1)).as_millis(),
                ..base
            },
            Refusal::Future,
        ),
    ];
    for (receipt, refusal) in cases {
        assert_eq!(check(signed(&producer, receipt, &value), &Rules::default(), NOW), Err(refusal));
    }
    let text = [0x61, b'a', 0xff];
    let receipt = statement(&producer, &caller, &terms(), &text, NOW);
    let broken = signed(&producer, receipt, &text);
    assert_eq!(check(broken, &Rules::default(), NOW), Err(Refusal::Form));
}

#[test]
fn an_answer_attributed_to_another_producer_does_not_verify() {
    let mut stolen = result(1, &json!(1), NOW);
    stolen.receipt.receipt.callee = identity(2).id();
    let refused = check(stolen, &Rules::default(), NOW);
    assert!(matches!(refused, Err(Refusal::Receipt(_))), "{refused:?}");
    let mut mixed = result(1, &json!(1), NOW);
    mixed.receipt.receipt.valid_until_ms += 1;
    assert_eq!(check(mixed, &Rules::default(), NOW), Err(Refusal::Receipt(ReceiptError::Path)));
}

#[test]
fn no_producer_is_believed_for_longer_than_a_year() {
    let (producer, value) = (identity(1), body(&json!(1)));
    let mut receipt = statement(&producer, &identity(200), &terms(), &value, NOW);
    receipt.valid_until_ms = u64::MAX;
    let eternal = signed(&producer, receipt, &value);
    assert_eq!(check(eternal.clone(), &Rules::default(), NOW + HOUR), Ok(()));
    let refused = check(eternal, &Rules::default(), NOW + TTL_MAX);
    assert!(matches!(refused, Err(Refusal::Expired { .. })), "{refused:?}");
}

#[test]
fn the_policy_decides_about_age_and_producers() {
    let answer = || result(1, &json!(1), NOW);
    let max = Duration::from_secs(60);
    let rules = Rules { max_age: Some(max), ..Rules::default() };
    assert_eq!(check(answer(), &rules, NOW + max), Ok(()));
    let age = max + Duration::from_secs(1);
    assert_eq!(check(answer(), &rules, NOW + age), Err(Refusal::TooOld { age, max }));
    let producer = identity(1).id();
    let [only_other, only_this] = [BTreeSet::from([identity(2).id()]), BTreeSet::from([producer])];
    let rules = Rules { producers: Some(&only_other), ..Rules::default() };
    assert_eq!(check(answer(), &rules, NOW), Err(Refusal::Producer { producer }));
    let rules = Rules { producers: Some(&only_this), ..Rules::default() };
    assert_eq!(check(answer(), &rules, NOW), Ok(()));
    let rules = Rules { distrusted: Some(&only_this), ..Rules::default() };
    assert_eq!(check(answer(), &rules, NOW), Err(Refusal::Distrusted { producer }));
}

#[test]
fn what_a_producer_takes_back_is_refused_and_what_it_says_later_is_not() {
    let mut retracted = Retractions::new();
    let target = Target::Capability(terms().descriptor);
    let sealed = Retract::new(target, NOW).seal(&identity(1));
    assert_eq!(retracted.insert(&sealed, NOW).unwrap().0, identity(1).id());
    let rules = Rules { retracted: Some(&retracted), ..Rules::default() };
    assert_eq!(check(result(1, &json!(1), NOW), &rules, NOW), Err(Refusal::Retracted));
    let later = NOW + Duration::from_millis(1);
    assert_eq!(check(result(1, &json!(1), later), &rules, later), Ok(()));
    // Nobody takes back what another said.
    assert_eq!(check(result(2, &json!(1), NOW), &rules, NOW), Ok(()));
    let future = Retract::new(target, NOW + HOUR).seal(&identity(1));
    assert_eq!(retracted.insert(&future, NOW), Err(RetractError::Future));
}

#[test]
fn a_flood_of_retractions_makes_a_producer_less_believed_never_more() {
    let mut retracted = Retractions::new();
    let answer = result(1, &json!(1), NOW);
    let own = Target::Response(answer.receipt.receipt.response);
    let flood = (0..=PER_PRODUCER_MAX).map(|i| Target::Request(Hash::of(&i.to_be_bytes())));
    for target in std::iter::once(own).chain(flood) {
        retracted.insert(&Retract::new(target, NOW).seal(&identity(1)), NOW).unwrap();
        assert!(retracted.covers(&answer.receipt.receipt));
    }
    retracted.forget_expired(NOW + TTL_MAX + HOUR);
    assert!(retracted.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn no_altered_byte_is_accepted(at in any::<prop::sample::Index>(), flip in 1u8..) {
        let mut bytes = result(1, &json!({ "rate": 1.25, "day": "2024-01-01" }), NOW).encode();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        if let Ok(altered) = SharedResult::decode(&bytes) {
            prop_assert!(check(altered, &Rules::default(), NOW).is_err(), "byte {at}");
        }
    }

    #[test]
    fn no_truncated_result_is_accepted(length in any::<prop::sample::Index>()) {
        let bytes = result(1, &json!([1, 2, 3]), NOW).encode();
        prop_assert!(SharedResult::decode(&bytes[..length.index(bytes.len())]).is_err());
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = (SharedResult::decode(&bytes), split_items(&bytes), Retract::decode(&bytes));
        let _ = Retractions::new().insert(&bytes, NOW);
    }

    #[test]
    fn items_are_cut_where_they_were_joined(values in prop::collection::vec(any::<i64>(), 0..20)) {
        let items: Vec<Vec<u8>> = values.iter().map(|value| body(&json!(value))).collect();
        let joined = items.concat();
        prop_assert_eq!(split_items(&joined).unwrap(), items);
    }
}
