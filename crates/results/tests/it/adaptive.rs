//! The default way to ask: what it costs and what it lets through.

use std::collections::BTreeSet;
use std::time::Duration;

use comity_core::{AgentId, Hash};
use comity_results::adaptive::{ASKED_MAX, Adaptive, Lots, Next, Settled};
use comity_results::quorum::Candidate;
use comity_results::repute::Reputation;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

use crate::common::{NOW, identity};

const QUICK: Duration = Duration::from_millis(50);

fn candidates(count: u8) -> Vec<Candidate> {
    let candidate =
        |number| Candidate { agent: identity(number).id(), prefix: None, sources: BTreeSet::new() };
    (0..count).map(candidate).collect()
}

/// Asks once; `answer` says what a producer answers, nothing when it fails.
fn ask(
    reputation: &mut Reputation,
    candidates: Vec<Candidate>,
    lots: Lots,
    mut answer: impl FnMut(&AgentId) -> Option<u32>,
) -> Settled<u32> {
    let (mut question, mut next) =
        Adaptive::begin(reputation, candidates, lots, |a: &u32, b: &u32| a == b, NOW);
    while let Next::Ask(agent) = next {
        assert_eq!(question.asking(), Some(agent));
        next = match answer(&agent) {
            Some(value) => question.answered(reputation, value, QUICK, NOW),
            None => question.failed(reputation, NOW),
        };
    }
    question.finish(reputation, NOW)
}

const LOTS: Lots = Lots { choice: 50, check: u64::MAX };

#[test]
fn a_trusted_producer_is_asked_alone_and_a_new_one_is_checked() {
    let mut reputation = Reputation::new();
    let mut calls = Vec::new();
    for _ in 0..20 {
        let settled = ask(&mut reputation, candidates(2), LOTS, |_| Some(1));
        assert_eq!(settled.answer.map(|(_, answer)| answer), Some(1));
        calls.push(settled.calls);
    }
    assert_eq!(calls[..10], [2; 10]);
    assert_eq!(calls[10..], [1; 10]);
    // Checked all the same when the lot says so.
    let checked = ask(&mut reputation, candidates(2), Lots { check: 0, ..LOTS }, |_| Some(1));
    assert!(checked.checked && checked.confirmed.len() == 2);
}

#[test]
fn a_trusted_producer_that_turns_is_caught_and_outvoted() {
    let mut reputation = Reputation::new();
    for _ in 0..30 {
        ask(&mut reputation, candidates(4), LOTS, |_| Some(1));
    }
    let mut ranked: Vec<AgentId> =
        candidates(4).into_iter().map(|candidate| candidate.agent).collect();
    ranked.sort_by(|a, b| {
        let score = |agent| reputation.standing(agent, NOW).score;
        score(b).total_cmp(&score(a))
    });
    let turned = ranked[0];
    let check = Lots { check: 0, ..LOTS };
    let settled = ask(&mut reputation, candidates(4), check, |agent| {
        Some(if *agent == turned { 666 } else { 1 })
    });
    assert_eq!(settled.answer.map(|(_, answer)| answer), Some(1));
    assert_eq!(settled.disputed, [turned]);
    let after = ask(&mut reputation, candidates(4), LOTS, |agent| {
        assert_ne!(*agent, turned, "it is not the first any more");
        Some(1)
    });
    assert!(after.answer.is_some());
}

#[test]
fn when_everybody_says_something_else_nothing_is_accepted() {
    let mut reputation = Reputation::new();
    let mut next = 0;
    let settled = ask(&mut reputation, candidates(20), LOTS, |_| {
        next += 1;
        Some(next)
    });
    assert_eq!((settled.answer, settled.calls), (None, ASKED_MAX));
    assert!(settled.disputed.is_empty(), "nobody is blamed without a majority");
}

#[test]
fn failures_are_made_up_for_and_one_answer_of_one_is_taken() {
    let mut reputation = Reputation::new();
    let only = identity(3).id();
    let settled = ask(&mut reputation, candidates(4), LOTS, |agent| (*agent == only).then_some(1));
    assert_eq!((settled.answer, settled.calls, settled.checked), (Some((only, 1)), 4, false));
    assert_eq!(ask(&mut Reputation::new(), Vec::new(), LOTS, |_| Some(1)).calls, 0);
    reputation.proved_liar(only, Hash::of(b"proof"));
    let settled = ask(&mut reputation, candidates(4), LOTS, |agent| {
        assert_ne!(*agent, only, "a proved liar is not asked");
        None
    });
    assert_eq!(settled.answer, None);
}

/// Four of twenty producers lie in 30 % of their answers, all alike, so that they confirm each other.
#[test]
fn colluding_liars_get_less_than_one_wrong_answer_in_a_hundred_through() {
    let (mut wrong, mut calls, mut answers) = (0, 0, 0);
    let producers = candidates(20);
    let liars: Vec<AgentId> = producers.iter().take(4).map(|liar| liar.agent).collect();
    for seed in 0..20 {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut reputation = Reputation::new();
        for number in 0..150 {
            let lots = Lots { choice: random.next_u64(), check: random.next_u64() };
            let lie = random.next_u64() % 100 < 30;
            let settled = ask(&mut reputation, producers.clone(), lots, |agent| {
                Some(if lie && liars.contains(agent) { 666 } else { 1 })
            });
            if number >= 50 {
                answers += 1;
                calls += settled.calls;
                wrong += u32::from(settled.answer.is_some_and(|(_, answer)| answer != 1));
            }
        }
    }
    let (share, overhead) =
        (f64::from(wrong) / f64::from(answers), calls as f64 / f64::from(answers));
    assert!(share < 0.01, "{wrong} of {answers} wrong");
    assert!(overhead < 1.3, "{overhead} calls an answer");
}
