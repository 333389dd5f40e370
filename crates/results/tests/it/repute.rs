//! What moves a peer's standing, what does not, and what a ring gets for praising itself.

use std::time::Duration;

use comity_core::receipt::{RootCache, sign_batch};
use comity_core::{AgentId, Hash, Identity, Time};
use comity_results::ack::{Call, Verdict, countersign};
use comity_results::quorum::Prefix;
use comity_results::repute::{
    Beta, CHECK_FLOOR, EXPLORATION_PERCENT, HALF_LIFE, Reputation, TRUSTED_AFTER, VOUCH_BUDGET,
    VOUCHED_MAX, check_rate, is_checked,
};
use proptest::prelude::*;

use crate::common::{NOW, identity, statement, terms};

const QUICK: Duration = Duration::from_millis(50);

fn id(number: u8) -> AgentId {
    identity(number).id()
}

/// A verified call, number `number` of its session, between two.
fn call(caller: &Identity, callee: &Identity, number: u64, verdict: Verdict) -> Call {
    let mut receipt = statement(callee, caller, &terms(), b"\x01", NOW);
    receipt.number = number;
    receipt.session = Hash::of(&[*caller.id().as_bytes(), *callee.id().as_bytes()].concat());
    let receipt = sign_batch(callee, NOW, vec![receipt]).unwrap().remove(0);
    countersign(receipt, verdict, caller, NOW).verify(&mut RootCache::new()).unwrap()
}

/// `peer` answered and was found right, `times` times.
fn prove(reputation: &mut Reputation, peer: AgentId, times: u32, now: Time) {
    for _ in 0..times {
        reputation.answered(peer, QUICK, now);
        reputation.confirmed(peer, now);
    }
}

#[test]
fn three_good_calls_do_not_outrank_three_hundred() {
    let mut reputation = Reputation::new();
    prove(&mut reputation, id(1), 3, NOW);
    prove(&mut reputation, id(2), 300, NOW);
    let score = |peer| reputation.standing(&id(peer), NOW).score;
    assert!(score(3) < score(1) && score(1) < score(2), "{} {} {}", score(3), score(1), score(2));
    assert!((Beta::default().mean() - 0.5).abs() < 1e-12);
    assert!(Beta { good: 300.0, bad: 0.0 }.deviation() < Beta { good: 3.0, bad: 0.0 }.deviation());
}

#[test]
fn one_wrong_answer_costs_more_than_one_right_answer_brings() {
    let mut reputation = Reputation::new();
    prove(&mut reputation, id(1), 20, NOW);
    prove(&mut reputation, id(2), 5, NOW);
    reputation.disputed(id(1), NOW);
    let [liar, modest] = [1, 2].map(|peer| reputation.standing(&id(peer), NOW));
    assert!(liar.score < modest.score);
    assert_eq!((liar.streak, liar.check_rate.to_bits()), (0, 1.0_f64.to_bits()));
}

#[test]
fn a_proved_lie_ends_it() {
    let mut reputation = Reputation::new();
    prove(&mut reputation, id(1), 1000, NOW);
    let proof = Hash::of(b"proof");
    reputation.proved_liar(id(1), proof);
    let standing = reputation.standing(&id(1), NOW);
    assert_eq!((standing.score.to_bits(), standing.lied), (0.0_f64.to_bits(), Some(proof)));
    assert_eq!(reputation.choose(&[id(1)], 0, NOW), None);
    prove(&mut reputation, id(1), 1000, NOW);
    assert!(reputation.standing(&id(1), NOW).lied.is_some());
}

#[test]
fn half_of_the_evidence_is_gone_after_a_half_life() {
    let mut reputation = Reputation::new();
    prove(&mut reputation, id(1), 64, NOW);
    let weight = |at| reputation.standing(&id(1), at).own_honesty.weight();
    assert!((weight(NOW) - 64.0).abs() < 1e-9);
    assert!((weight(NOW + HALF_LIFE) - 32.0).abs() < 1e-9);
    assert!((weight(NOW + HALF_LIFE * 3) - 8.0).abs() < 1e-9);
    let [now, later] = [NOW, NOW + HALF_LIFE * 3].map(|at| reputation.standing(&id(1), at).score);
    assert!(later < now);
}

#[test]
fn slow_peers_come_after_quick_ones() {
    let mut reputation = Reputation::new();
    prove(&mut reputation, id(1), 20, NOW);
    for _ in 0..20 {
        reputation.answered(id(2), Duration::from_secs(10), NOW);
        reputation.confirmed(id(2), NOW);
    }
    let [quick, slow] = [1, 2].map(|peer| reputation.standing(&id(peer), NOW));
    assert!(quick.score > 2.0 * slow.score);
    assert_eq!(slow.latency, Some(Duration::from_secs(10)));
}

#[test]
fn a_ring_of_ten_with_mutual_praise_is_worth_a_newcomer() {
    let mut reputation = Reputation::new();
    prove(&mut reputation, id(100), 50, NOW);
    let ring: Vec<Identity> = (1..=10).map(identity).collect();
    for (i, caller) in ring.iter().enumerate() {
        for callee in ring.iter().enumerate().filter(|(j, _)| *j != i).map(|(_, callee)| callee) {
            for number in 0..3 {
                let call = call(caller, callee, number, Verdict::Confirmed);
                assert!(!reputation.witnessed(&call, None, NOW), "a stranger's word is not kept");
            }
        }
    }
    let newcomer = reputation.standing(&id(50), NOW);
    for member in &ring {
        assert_eq!(reputation.standing(&member.id(), NOW), newcomer);
    }
}

#[test]
fn a_ring_with_one_honest_face_shares_what_that_face_is_worth() {
    let mut reputation = Reputation::new();
    prove(&mut reputation, id(1), 200, NOW);
    for member in 2..=10 {
        for number in 0..20 {
            reputation.witnessed(
                &call(&identity(1), &identity(member), number, Verdict::Confirmed),
                None,
                NOW,
            );
        }
    }
    let standings: Vec<_> = (2..=10).map(|member| reputation.standing(&id(member), NOW)).collect();
    let given: f64 =
        standings.iter().flat_map(|standing| &standing.vouches).map(|vouch| vouch.counts).sum();
    assert!(given > 0.0 && given <= VOUCH_BUDGET, "{given}");
    // Nobody of them stands above a newcomer of whom nothing is known, and one right answer is worth more than all that praise.
    let newcomer = reputation.standing(&id(50), NOW).score;
    assert!(standings.iter().all(|standing| standing.score <= newcomer));
    prove(&mut reputation, id(50), 1, NOW);
    let newcomer = reputation.standing(&id(50), NOW).score;
    assert!(standings.iter().all(|standing| standing.score < newcomer));
}

#[test]
fn the_word_of_peers_known_to_be_honest_counts_and_is_explained() {
    let mut reputation = Reputation::new();
    prove(&mut reputation, id(1), 50, NOW);
    prove(&mut reputation, id(9), 1, NOW);
    let before = reputation.standing(&id(9), NOW).score;
    assert!(reputation.is_heard(&id(1), NOW) && !reputation.is_heard(&id(9), NOW));
    assert!(reputation.witnessed(
        &call(&identity(1), &identity(9), 0, Verdict::Confirmed),
        None,
        NOW
    ));
    assert!(
        !reputation.witnessed(&call(&identity(1), &identity(9), 0, Verdict::Confirmed), None, NOW),
        "twice"
    );
    let standing = reputation.standing(&id(9), NOW);
    assert!(standing.score > before);
    let [vouch] = standing.vouches[..] else { panic!("{standing:?}") };
    assert_eq!(vouch.witness, id(1));
    assert!(vouch.worth > 0.9 && vouch.confirmed > 0.99 && vouch.counts > 0.0);
    // Dispute outweighs praise, and a witness that lied is heard no more.
    reputation.witnessed(&call(&identity(1), &identity(9), 1, Verdict::Disputed), None, NOW);
    assert!(reputation.standing(&id(9), NOW).score < before);
    reputation.proved_liar(id(1), Hash::of(b"proof"));
    assert!((reputation.standing(&id(9), NOW).score - before).abs() < 1e-12);
    // That an answer came, nobody checked.
    prove(&mut reputation, id(2), 50, NOW);
    prove(&mut reputation, id(8), 1, NOW);
    reputation.witnessed(&call(&identity(2), &identity(8), 0, Verdict::Received), None, NOW);
    assert!((reputation.standing(&id(8), NOW).score - before).abs() < 1e-12);
}

#[test]
fn one_prefix_gives_once_and_all_together_up_to_a_cap() {
    let (mut apart, mut together) = (Reputation::new(), Reputation::new());
    for witness in 1..=20_u8 {
        let place = |last: u8| Prefix::of([10, 0, last, 1].into());
        for (reputation, prefix) in [(&mut apart, place(witness)), (&mut together, place(0))] {
            prove(reputation, id(witness), 50, NOW);
            reputation.witnessed(
                &call(&identity(witness), &identity(99), 0, Verdict::Confirmed),
                prefix,
                NOW,
            );
        }
    }
    prove(&mut apart, id(99), 10, NOW);
    prove(&mut together, id(99), 10, NOW);
    let given = |reputation: &Reputation| {
        let standing = reputation.standing(&id(99), NOW);
        standing.honesty.good - standing.own_honesty.good
    };
    assert!((given(&apart) - VOUCHED_MAX).abs() < 1e-9);
    assert!(given(&together) <= VOUCH_BUDGET);
    let counted = |reputation: &Reputation| {
        reputation.standing(&id(99), NOW).vouches.iter().filter(|vouch| vouch.counts > 0.0).count()
    };
    assert_eq!((counted(&apart), counted(&together)), (20, 1));
}

#[test]
fn newcomers_get_their_share_and_no_more() {
    let mut reputation = Reputation::new();
    prove(&mut reputation, id(1), 100, NOW);
    let peers: Vec<AgentId> = (1..=5).map(id).collect();
    let choices: Vec<(usize, bool)> =
        (0..10_000).map(|lot| reputation.choose(&peers, lot, NOW).unwrap()).collect();
    let tries = choices.iter().filter(|(_, exploring)| *exploring).count();
    assert_eq!(tries, 100 * EXPLORATION_PERCENT as usize);
    for newcomer in 1..5 {
        let tried = choices.iter().filter(|(index, _)| *index == newcomer).count();
        assert!(tried > tries / 5, "{tried} of {tries}");
    }
    assert!(choices.iter().all(|(index, exploring)| *exploring == (*index != 0)));
    // Among equals nobody is first by its key.
    let fresh = Reputation::new();
    let first = (0..1_000).map(|lot| fresh.choose(&peers, lot * 100, NOW).unwrap().0);
    let counts = first.fold([0; 5], |mut counts, index| {
        counts[index] += 1;
        counts
    });
    assert!(counts.iter().all(|count| *count > 100), "{counts:?}");
}

#[test]
fn trusted_producers_are_checked_rarely_new_ones_always_and_nobody_never() {
    assert!((0..TRUSTED_AFTER).all(|streak| is_checked(streak, u64::MAX)));
    assert!((check_rate(TRUSTED_AFTER) - 0.1).abs() < 1e-12);
    assert!((check_rate(u32::MAX) - CHECK_FLOOR).abs() < 1e-12);
    assert!(is_checked(u32::MAX, 0) && !is_checked(u32::MAX, u64::MAX));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn scores_stay_between_nothing_and_one(events in prop::collection::vec((0u8..5, 1u8..6, 0u64..1_000_000), 0..80)) {
        let mut reputation = Reputation::new();
        let mut now = NOW;
        for (what, who, seconds) in events {
            now += Duration::from_secs(seconds);
            match what {
                0 => reputation.answered(id(who), Duration::from_millis(seconds), now),
                1 => reputation.failed(id(who), now),
                2 => reputation.confirmed(id(who), now),
                3 => reputation.disputed(id(who), now),
                _ => {
                    let other = identity(who % 5 + 1);
                    let call = call(&identity(who), &other, seconds, Verdict::Confirmed);
                    reputation.witnessed(&call, None, now);
                }
            }
            for who in 1..6 {
                let standing = reputation.standing(&id(who), now);
                prop_assert!((0.0..=1.0).contains(&standing.score), "{standing:?}");
                prop_assert!((CHECK_FLOOR..=1.0).contains(&standing.check_rate));
            }
        }
    }
}
