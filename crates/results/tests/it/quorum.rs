//! m of n: independence, commitments, disagreement, and every order of events.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use comity_capability::record::Reuse;
use comity_core::{AgentId, Hash, Time};
use comity_results::quorum::{
    Action, Candidate, NotEnough, Part, Prefix, Quorum, Spec, commitment, job,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::common::{NOW, accepted, capability, identity, request_hash};

const COMMIT_BY: Time = Time::from_secs(1_790_000_010);
const REVEAL_BY: Time = Time::from_secs(1_790_000_020);

fn id(number: u8) -> AgentId {
    identity(number).id()
}

fn candidate(number: u8) -> Candidate {
    Candidate { agent: id(number), prefix: None, sources: BTreeSet::new() }
}

fn reuse() -> Reuse {
    capability().reuse.unwrap()
}

fn this_job() -> Hash {
    job(&id(200), &request_hash(), &Hash::of(b"random"))
}

fn nonce(number: u8) -> Hash {
    Hash::of(&[number])
}

fn begin(spec: &str, candidates: Vec<Candidate>) -> Result<(Quorum, Vec<Action>), NotEnough> {
    Quorum::begin(this_job(), spec.parse().unwrap(), reuse(), candidates, [COMMIT_BY, REVEAL_BY])
}

fn commit(quorum: &mut Quorum, number: u8, value: &Value) -> Vec<Action> {
    let response = accepted(number, value, NOW).verified.receipt.response;
    quorum.committed(id(number), commitment(&this_job(), &response, &nonce(number), &id(number)))
}

fn reveal(quorum: &mut Quorum, number: u8, value: &Value) -> Vec<Action> {
    quorum.revealed(id(number), &nonce(number), accepted(number, value, NOW))
}

#[test]
fn nobody_is_asked_to_reveal_before_everybody_committed() {
    let (mut quorum, actions) =
        begin("2/3", vec![candidate(1), candidate(2), candidate(3)]).unwrap();
    assert_eq!(actions, [1, 2, 3].map(|number| Action::Ask(id(number))));
    assert!(commit(&mut quorum, 1, &json!(1)).is_empty());
    assert!(commit(&mut quorum, 2, &json!(1)).is_empty());
    assert!(quorum.outcome().is_none());
    let reveals = commit(&mut quorum, 3, &json!(666));
    assert_eq!(reveals, [1, 2, 3].map(|number| Action::Reveal(id(number))));
    for (number, value) in [(3, 666), (2, 1), (1, 1)] {
        assert!(reveal(&mut quorum, number, &json!(value)).is_empty());
    }
    let outcome = quorum.outcome().unwrap();
    assert_eq!(outcome.answer.unwrap().producer(), id(1), "of equals the preferred one's");
    let parts = [(1, Part::Agreed), (2, Part::Agreed), (3, Part::Dissented)];
    assert_eq!(outcome.parts, parts.map(|(number, part)| (id(number), part)).into());
    assert_eq!((outcome.agreeing, outcome.answers.len()), (2, 3));
}

#[test]
fn a_copied_commitment_and_a_changed_mind_do_not_open() {
    let (mut quorum, _) = begin("2/3", vec![candidate(1), candidate(2), candidate(3)]).unwrap();
    let response = accepted(1, &json!(1), NOW).verified.receipt.response;
    let honest = commitment(&this_job(), &response, &nonce(1), &id(1));
    for number in [1, 2] {
        quorum.committed(id(number), honest);
    }
    commit(&mut quorum, 3, &json!(3));
    reveal(&mut quorum, 1, &json!(1));
    // The copycat has the same answer and even the nonce by now.
    quorum.revealed(id(2), &nonce(1), accepted(2, &json!(1), NOW));
    // The waverer would rather agree.
    reveal(&mut quorum, 3, &json!(1));
    let outcome = quorum.outcome().unwrap();
    assert!(outcome.answer.is_none());
    assert_eq!(outcome.parts[&id(2)], Part::BrokeCommitment);
    assert_eq!(outcome.parts[&id(3)], Part::BrokeCommitment);
}

#[test]
fn an_answer_of_another_does_not_count_as_ones_own() {
    let (mut quorum, _) = begin("2/2", vec![candidate(1), candidate(2)]).unwrap();
    commit(&mut quorum, 1, &json!(1));
    commit(&mut quorum, 2, &json!(1));
    reveal(&mut quorum, 1, &json!(1));
    quorum.revealed(id(2), &nonce(2), accepted(1, &json!(1), NOW));
    assert!(quorum.outcome().unwrap().answer.is_none());
}

#[test]
fn who_fails_is_replaced_while_there_is_time_and_left_out_after() {
    let (mut quorum, _) = begin("2/2", (1..=4).map(candidate).collect()).unwrap();
    assert_eq!(quorum.failed(id(1)), [Action::Ask(id(3))]);
    assert!(quorum.failed(id(1)).is_empty(), "failing twice asks nobody twice");
    commit(&mut quorum, 2, &json!(1));
    let reveals = commit(&mut quorum, 3, &json!(1));
    assert_eq!(reveals, [Action::Reveal(id(2)), Action::Reveal(id(3))]);
    reveal(&mut quorum, 2, &json!(1));
    assert!(quorum.failed(id(3)).is_empty(), "nobody new can commit now");
    let outcome = quorum.outcome().unwrap();
    assert!(outcome.answer.is_none());
    assert_eq!(outcome.parts[&id(3)], Part::Failed);
}

#[test]
fn the_silent_cannot_hold_up_a_call() {
    let (mut quorum, _) = begin("2/3", (1..=3).map(candidate).collect()).unwrap();
    commit(&mut quorum, 1, &json!(1));
    commit(&mut quorum, 2, &json!(1));
    assert_eq!(quorum.timeout(), Some(COMMIT_BY));
    assert_eq!(quorum.at(COMMIT_BY), [Action::Reveal(id(1)), Action::Reveal(id(2))]);
    // Too late: it may have seen the answers by now.
    assert!(commit(&mut quorum, 3, &json!(1)).is_empty());
    reveal(&mut quorum, 1, &json!(1));
    assert_eq!(quorum.timeout(), Some(REVEAL_BY));
    quorum.at(REVEAL_BY);
    let outcome = quorum.outcome().unwrap();
    assert_eq!((outcome.answer.is_some(), outcome.agreeing), (false, 1));
    assert_eq!(quorum.timeout(), None);
}

#[test]
fn too_few_commitments_ask_nobody_to_reveal() {
    let (mut quorum, _) = begin("2/2", vec![candidate(1), candidate(2)]).unwrap();
    commit(&mut quorum, 1, &json!(1));
    assert!(quorum.at(COMMIT_BY).is_empty());
    assert!(quorum.outcome().unwrap().answer.is_none());
}

#[test]
fn one_operator_or_one_source_is_one_voice() {
    let place = |text: &str| Prefix::of(text.parse::<IpAddr>().unwrap());
    let at = |number, prefix, sources: &[&str]| Candidate {
        prefix,
        sources: sources.iter().map(|source| (*source).to_owned()).collect(),
        ..candidate(number)
    };
    let candidates = vec![
        at(1, place("192.0.2.1"), &["ecb"]),
        at(2, place("192.0.2.200"), &["fed"]),
        at(3, place("198.51.100.1"), &["ecb", "boe"]),
        at(4, place("2001:db8:1:2::1"), &[]),
        at(1, None, &[]),
        at(5, place("2001:db8:1:ffff::1"), &[]),
        at(6, place("203.0.113.9"), &["snb"]),
    ];
    let (_, actions) = begin("2/3", candidates.clone()).unwrap();
    assert_eq!(actions, [1, 4, 6].map(|number| Action::Ask(id(number))));
    let refused = begin("3/4", candidates).unwrap_err();
    assert_eq!(refused, NotEnough { independent: 3, wanted: 4 });
    assert_eq!(place("127.0.0.1"), None);
    assert_eq!(place("::ffff:192.0.2.7"), place("192.0.2.1"));
}

#[test]
fn a_quorum_is_a_majority() {
    for text in ["2/2", "2/3", "3/5", "5/9"] {
        assert_eq!(text.parse::<Spec>().unwrap().to_string(), text);
    }
    for text in ["1/1", "1/2", "2/4", "4/3", "6/10", "0/0", "", "2", "a/b", "-1/2", "2/3/4"] {
        assert!(text.parse::<Spec>().is_err(), "{text}");
    }
}

#[derive(Debug, Clone)]
enum Event {
    Commit(u8, u8),
    Reveal(u8, u8),
    Fail(u8),
    Time(u64),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (0u8..8, 0u8..3).prop_map(|(who, what)| Event::Commit(who, what)),
        4 => (0u8..8, 0u8..3).prop_map(|(who, what)| Event::Reveal(who, what)),
        1 => (0u8..8).prop_map(Event::Fail),
        1 => (0u64..25).prop_map(Event::Time),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_happens_it_ends_and_accepts_only_what_m_revealed(events in prop::collection::vec(event(), 0..60), which in 0usize..4) {
        let spec = ["2/2", "2/3", "3/4", "3/5"][which];
        let (mut quorum, first) = begin(spec, (0..8).map(candidate).collect()).unwrap();
        let mut asked: BTreeSet<AgentId> = BTreeSet::new();
        let mut revealed: BTreeSet<AgentId> = BTreeSet::new();
        let mut seen = first;
        for event in events {
            for action in std::mem::take(&mut seen) {
                match action {
                    Action::Ask(agent) => prop_assert!(asked.insert(agent), "nobody is asked twice"),
                    Action::Reveal(agent) => {
                        prop_assert!(asked.contains(&agent));
                        prop_assert!(revealed.insert(agent), "nobody reveals twice");
                    }
                }
            }
            seen = match event {
                Event::Commit(who, what) => commit(&mut quorum, who, &json!(what)),
                Event::Reveal(who, what) => reveal(&mut quorum, who, &json!(what)),
                Event::Fail(who) => quorum.failed(id(who)),
                Event::Time(seconds) => quorum.at(NOW + Duration::from_secs(seconds)),
            };
        }
        quorum.at(COMMIT_BY);
        quorum.at(REVEAL_BY);
        let outcome = quorum.outcome().unwrap();
        let spec: Spec = spec.parse().unwrap();
        if let Some(answer) = outcome.answer {
            let same = outcome.answers.values().filter(|known| known.result.body == answer.result.body);
            prop_assert!(same.count() >= spec.m());
            let agreed = outcome.parts.values().filter(|part| **part == Part::Agreed);
            prop_assert!(agreed.count() >= spec.m());
        }
    }
}
