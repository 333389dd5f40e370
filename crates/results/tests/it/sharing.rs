//! Announcing, finding and avoiding holders.

use std::time::Duration;

use comity_core::{Canonical, Hash, Time};
use comity_results::key::{IndexKey, QuestionKey};
use comity_results::pointer::{
    AVOIDED_FOR, HOLDERS_PER_KEY_MAX, Holders, Kept, MAX_POINTER, POINTER_LIFE,
    POINTERS_PER_HOLDER_MAX, Pointer, PointerError, VALIDITY_LEFT_MIN,
};
use comity_results::result::CLOCK_SKEW;
use comity_results::worth::{Announcer, BURST, Facts, PER_HOUR, Renewals, Worth};
use proptest::prelude::*;
use serde_json::json;

use crate::common::{HOUR, NOW, accepted, identity};

fn key(number: u64) -> IndexKey {
    IndexKey(Hash::of(&number.to_be_bytes()))
}

fn pointer(number: u64, now: Time) -> Pointer {
    Pointer::new(key(number), &accepted(1, &json!(1), now), now).unwrap()
}

#[test]
fn a_pointer_is_small_and_lives_no_longer_than_the_answer() {
    let answer = accepted(1, &json!(1), NOW);
    let now = NOW + HOUR / 2;
    let pointer = Pointer::new(key(1), &answer, now).unwrap();
    assert_eq!(pointer.expires(), answer.valid_until);
    let sealed = pointer.seal(&identity(9));
    assert!(sealed.len() <= MAX_POINTER, "{} bytes", sealed.len());
    assert_eq!(Pointer::open(&sealed, now).unwrap(), (identity(9).id(), pointer));
    assert_eq!(Pointer::open(&sealed, NOW + HOUR), Err(PointerError::Expired));
    assert_eq!(Pointer::new(key(1), &answer, NOW + HOUR - VALIDITY_LEFT_MIN / 2), None);
}

#[test]
fn a_pointer_cannot_be_made_to_last_or_dated_ahead() {
    let long = Pointer { expires_ms: (NOW + POINTER_LIFE).as_millis() + 1, ..pointer(1, NOW) };
    assert_eq!(Pointer::open(&long.seal(&identity(9)), NOW), Err(PointerError::Life));
    let ahead = pointer(1, NOW + CLOCK_SKEW + Duration::from_secs(1));
    assert_eq!(Pointer::open(&ahead.seal(&identity(9)), NOW), Err(PointerError::Future));
}

#[test]
fn a_holder_that_disappoints_is_asked_once_and_then_avoided() {
    let mut holders = Holders::new();
    let (poisoned, good) = (identity(8).id(), identity(9).id());
    assert_eq!(holders.insert(poisoned, pointer(1, NOW), NOW), Kept::Yes);
    assert_eq!(holders.insert(poisoned, pointer(2, NOW), NOW), Kept::Yes);
    assert_eq!(holders.insert(good, pointer(1, NOW), NOW), Kept::Yes);
    holders.failed(poisoned, NOW);
    let found: Vec<_> = holders.of(&key(1), NOW).into_iter().map(|(holder, _)| holder).collect();
    assert_eq!(found, [good]);
    assert!(holders.of(&key(2), NOW).is_empty());
    assert!(holders.is_avoided(&poisoned, NOW));
    assert_eq!(holders.insert(poisoned, pointer(1, NOW), NOW), Kept::Avoided);
    let later = NOW + AVOIDED_FOR;
    assert_eq!(holders.insert(poisoned, pointer(1, later), later), Kept::Yes);
}

#[test]
fn neither_one_holder_nor_one_key_fills_the_index() {
    let mut holders = Holders::new();
    let one = pointer(0, NOW);
    for number in 0..POINTERS_PER_HOLDER_MAX as u64 {
        let pointer = Pointer { key: key(number), ..one.clone() };
        assert_eq!(holders.insert(identity(1).id(), pointer, NOW), Kept::Yes);
    }
    let more = Pointer { key: key(u64::MAX), ..one };
    assert_eq!(holders.insert(identity(1).id(), more, NOW), Kept::HolderFull);
    let mut holders = Holders::new();
    for number in 0..HOLDERS_PER_KEY_MAX {
        let holder = identity(u8::try_from(number).unwrap() + 1).id();
        assert_eq!(holders.insert(holder, one.clone(), NOW), Kept::Yes);
    }
    assert_eq!(holders.insert(identity(100).id(), one.clone(), NOW), Kept::KeyFull);
    let longer = Pointer { expires_ms: one.expires_ms + 1, ..one };
    assert_eq!(holders.insert(identity(100).id(), longer, NOW), Kept::Yes);
    assert_eq!(holders.of(&key(0), NOW).len(), HOLDERS_PER_KEY_MAX);
    let old = Pointer { issued_ms: one.issued_ms - 1, ..one };
    assert_eq!(holders.insert(identity(100).id(), old, NOW), Kept::Older);
    assert!(holders.of(&key(0), NOW + HOUR * 2).is_empty());
    assert!(holders.is_empty());
}

fn facts(took_ms: u64, asked: u32) -> Facts {
    Facts {
        descriptor: Hash::of(b"capability"),
        bytes: 1000,
        took: Duration::from_millis(took_ms),
        valid_for: HOUR,
        asked,
    }
}

#[test]
fn only_what_saves_more_than_it_costs_is_announced() {
    let decide = |facts: Facts| Announcer::new(NOW).decide(&facts, NOW);
    assert!(decide(facts(500, 1)).announces());
    assert!(matches!(decide(facts(6, 1)), Worth::TooCheap { .. }));
    // The same cheap answer pays once it is asked for again and again.
    assert!(decide(facts(10, 10)).announces());
    let huge = Facts { bytes: 100 << 20, ..facts(500, 1) };
    assert!(matches!(decide(huge), Worth::TooCheap { .. }));
    let fleeting = Facts { valid_for: VALIDITY_LEFT_MIN / 2, ..facts(500, 100) };
    assert_eq!(decide(fleeting), Worth::TooShort);
}

#[test]
fn what_is_never_asked_twice_stops_being_announced() {
    let mut announcer = Announcer::new(NOW);
    for _ in 0..200 {
        announcer.asked(facts(1, 1).descriptor, false, NOW);
    }
    assert!(matches!(announcer.decide(&facts(500, 1), NOW), Worth::TooCheap { .. }));
    for _ in 0..200 {
        announcer.asked(facts(1, 1).descriptor, true, NOW);
    }
    assert!(announcer.decide(&facts(500, 1), NOW).announces());
}

#[test]
fn announcements_have_a_budget() {
    let mut announcer = Announcer::new(NOW);
    let announced = |announcer: &mut Announcer, now| {
        (0..10_000).filter(|_| announcer.decide(&facts(5_000, 5), now).announces()).count()
    };
    assert_eq!(announced(&mut announcer, NOW), BURST as usize);
    assert_eq!(announcer.decide(&facts(5_000, 5), NOW), Worth::Budget);
    assert_eq!(announced(&mut announcer, NOW + HOUR / 20), (PER_HOUR / 20) as usize);
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_no_pointer(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(Pointer::open(&bytes, NOW).is_err());
        let _ = Pointer::decode(&bytes);
    }
}

#[test]
fn what_is_asked_for_seldom_is_announced_again_for_a_while_and_then_no_more() {
    let again = |took_ms: u64, asked: u32, hours: u32| {
        Announcer::new(NOW).decide_again(&facts(took_ms, asked), HOUR * hours, NOW).announces()
    };
    // A second of work, once asked for: worth a pointer an hour for two days, not for three.
    assert!(again(1_000, 1, 47));
    assert!(!again(1_000, 1, 72));
    assert!(again(1_000, 10, 72));
    assert!(!again(30, 1, 1));
}

#[test]
fn an_ending_pointer_comes_up_once_with_the_time_it_was_first_announced() {
    let mut renewals = Renewals::new();
    let question = |n: u64| QuestionKey(Hash::of(&n.to_be_bytes()));
    let day = NOW + HOUR * 24;
    renewals.announced(question(1), NOW + HOUR, day, NOW);
    renewals.announced(question(2), NOW + HOUR * 2, day, NOW);
    // This one's answer ends with its pointer: there is nothing to announce again.
    renewals.announced(question(4), NOW + HOUR, NOW + HOUR, NOW);
    assert!(renewals.is_announced(&question(1), NOW) && !renewals.is_announced(&question(3), NOW));
    assert_eq!(renewals.next_ending(NOW), None);
    assert_eq!(renewals.next_ending(NOW + HOUR), Some((question(1), NOW)));
    assert_eq!(renewals.next_ending(NOW + HOUR), None);
    renewals.announced(question(2), NOW + HOUR * 3, day, NOW + HOUR);
    assert_eq!(renewals.next_ending(NOW + HOUR * 2), None);
    assert_eq!(renewals.next_ending(NOW + HOUR * 3), Some((question(2), NOW)));
}
