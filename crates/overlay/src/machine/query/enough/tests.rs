use std::net::Ipv4Addr;
use std::sync::Arc;

use comity_core::{Hash, Identity, Time};

use super::*;
use crate::item::{Content, Subject, Verified, VerifiedItem};

const CALM: Surroundings =
    Surroundings { crowded: false, silent: 0, exhausted: false, oldest: Oldest::Alike };
const CROWD: Surroundings = Surroundings { crowded: true, ..CALM };
const RULE: Rule = Rule { agreeing: 2, fresh: false, around: CALM };
const LIMIT: u16 = 10;

fn agent(index: u8) -> AgentId {
    Identity::from_secret_bytes(&[index; 32]).id()
}

fn digest(subject: u64, seq: u64) -> VerifiedItem {
    VerifiedItem::from(Verified {
        signer: agent(200),
        subject: Some(Subject(subject)),
        seq,
        issued: Time::ZERO,
        expires: Time::MAX,
        content: Content::Digest(Arc::new(subject)),
        bytes: Vec::new().into(),
    })
}

/// An answer that shows these (subject, version) pairs.
fn shows(items: &[(u64, u64)], truncated: bool) -> Checked {
    let matches = items.iter().map(|(subject, seq)| (digest(*subject, *seq), None)).collect();
    let count = u16::try_from(items.len()).unwrap();
    let said = said(3, count, 0, truncated);
    Checked { leaves: Vec::new(), matches, near: Vec::new(), said }
}

fn said(held: u32, matches: u16, near: u16, truncated: bool) -> CustodianSaid {
    let set_hash = Hash::of(&[]);
    CustodianSaid::Answered {
        held,
        passed: u32::from(matches),
        matches,
        near,
        bad: 0,
        set_hash,
        truncated,
    }
}

fn empty() -> Checked {
    Checked::only(said(0, 0, 0, false))
}

fn near_miss() -> Checked {
    Checked { near: vec![digest(9, 1)], ..Checked::only(said(3, 0, 1, false)) }
}

/// Custodians that speak in order, at `placement`.
fn heard(placement: u8, answers: &[Checked]) -> Witnesses {
    let mut witnesses = Witnesses::default();
    hear(&mut witnesses, placement, answers);
    witnesses
}

fn hear(witnesses: &mut Witnesses, placement: u8, answers: &[Checked]) {
    let before = u8::try_from(witnesses.placements[at(placement)].len()).unwrap();
    for (index, answer) in (before..).zip(answers) {
        let custodian =
            Custodian { agent: agent(index + 100 * placement), prefix: None, inside: true };
        witnesses.hear(placement, custodian, LIMIT, answer);
    }
}

#[test]
fn two_that_agree_are_enough() {
    let mut witnesses = heard(0, &[shows(&[(1, 1), (2, 1)], false)]);
    assert!(!witnesses.is_enough(0, RULE));
    hear(&mut witnesses, 0, &[shows(&[(1, 1), (2, 1)], false)]);
    assert!(witnesses.is_enough(0, RULE));
    assert!(!witnesses.is_enough(1, RULE), "each placement speaks for itself");
}

#[test]
fn one_agent_left_out_makes_the_query_ask_on() {
    let honest = || shows(&[(1, 1), (2, 1)], false);
    let mut witnesses = heard(0, &[honest(), shows(&[(1, 1)], false)]);
    assert!(!witnesses.is_enough(0, RULE));
    hear(&mut witnesses, 0, &[honest()]);
    assert!(witnesses.is_enough(0, RULE));

    // Liars that agree are found out by the other placement.
    let mut witnesses = heard(0, &[shows(&[(1, 1)], false), shows(&[(1, 1)], false)]);
    assert!(witnesses.is_enough(0, RULE));
    hear(&mut witnesses, 1, &[honest()]);
    assert!(!witnesses.is_enough(0, RULE));
}

#[test]
fn all_left_out_makes_the_query_ask_on() {
    let mut witnesses = heard(0, &[shows(&[(1, 1)], false), empty(), near_miss()]);
    assert!(!witnesses.is_enough(0, RULE));
    hear(&mut witnesses, 0, &[shows(&[(1, 1)], false)]);
    assert!(witnesses.is_enough(0, RULE));
}

#[test]
fn empty_answers_are_believed_from_many() {
    let say = |count| heard(0, &(0..count).map(|_| empty()).collect::<Vec<_>>());
    assert!(!say(EMPTY_CUSTODIANS_ENOUGH - 1).is_enough(0, RULE));
    assert!(say(EMPTY_CUSTODIANS_ENOUGH).is_enough(0, RULE));
    // Those who say that they keep nothing are no witnesses.
    let strangers: Vec<_> = (0..30).map(|_| Checked::only(CustodianSaid::NotHeld)).collect();
    assert!(!heard(0, &strangers).is_enough(0, RULE));
    // Few that could be asked leave doubts; where all were asked, or are dead, what they said is what there is.
    assert!(say(3).is_doubtful(RULE, 3));
    assert!(!say(3).is_doubtful(RULE, EMPTY_CUSTODIANS_ENOUGH));
}

#[test]
fn neighbours_of_the_region_add_what_they_have_and_vouch_for_nothing() {
    let mut witnesses = Witnesses::default();
    for (index, answer) in [shows(&[(1, 1)], false), near_miss(), near_miss()].iter().enumerate() {
        let agent = agent(u8::try_from(index).unwrap());
        let custodian = Custodian { agent, prefix: None, inside: false };
        witnesses.hear(0, custodian, LIMIT, answer);
    }
    assert!(!witnesses.is_enough(0, RULE));
    assert!(witnesses.newest.len() == 1 && witnesses.is_doubtful(RULE, 3));
}

#[test]
fn a_crowd_is_not_believed_about_nothing() {
    let crowded = Rule { around: CROWD, ..RULE };
    let liars: Vec<_> = (0..60).map(|_| empty()).collect();
    assert!(!heard(0, &liars).is_enough(0, crowded));
    assert!(heard(0, &liars).is_doubtful(crowded, 60));
    // Nor when two of it show something.
    let two = [shows(&[(1, 1)], false), shows(&[(1, 1)], false)];
    assert!(!heard(0, &two).is_enough(0, crowded));
    let five: Vec<_> = (0..5).map(|_| shows(&[(1, 1)], false)).collect();
    assert!(heard(0, &five).is_enough(0, crowded));
}

#[test]
fn near_misses_prove_that_the_shard_is_kept() {
    assert!(heard(0, &[near_miss(), near_miss()]).is_enough(0, RULE));
    // Who says it holds something and proves nothing is no proof, and casts doubt.
    let hiding = || Checked::only(said(5, 0, 0, false));
    assert!(!heard(0, &[hiding(), hiding()]).is_enough(0, RULE));
    assert!(!heard(0, &[hiding(), near_miss(), near_miss()]).is_enough(0, RULE));
}

#[test]
fn a_stale_version_makes_the_query_ask_on() {
    let mut witnesses = heard(0, &[shows(&[(1, 1)], false), shows(&[(1, 2)], false)]);
    assert!(!witnesses.is_enough(0, RULE));
    hear(&mut witnesses, 0, &[shows(&[(1, 2)], false)]);
    assert!(witnesses.is_enough(0, RULE));
}

#[test]
fn truncated_answers_agree_as_far_as_they_go() {
    let many: Vec<_> = (0..u64::from(LIMIT)).map(|subject| (subject, 1)).collect();
    let others: Vec<_> = (5..u64::from(LIMIT) + 5).map(|subject| (subject, 1)).collect();
    assert!(heard(0, &[shows(&many, true), shows(&others, true)]).is_enough(0, RULE));
    // Short of the limit the excuse does not count.
    assert!(!heard(0, &[shows(&many, true), shows(&many[..3], true)]).is_enough(0, RULE));
}

#[test]
fn disagreement_is_accepted_in_the_end() {
    let different: Vec<_> =
        (0..DISPUTED_CUSTODIANS_MAX as u64).map(|subject| shows(&[(subject, 1)], false)).collect();
    assert!(!heard(0, &different[1..]).is_enough(0, RULE));
    assert!(heard(0, &different).is_enough(0, RULE));
}

#[test]
fn the_dead_are_not_waited_for() {
    let after_a_kill = |silent| Rule { around: Surroundings { silent, ..CALM }, ..RULE };
    assert!(!heard(0, &[empty()]).is_enough(0, after_a_kill(6)));
    assert!(heard(0, &[empty()]).is_enough(0, after_a_kill(7)));
    assert!(heard(0, &[shows(&[(1, 1)], false)]).is_enough(0, after_a_kill(7)));
    assert!(!heard(0, &[]).is_enough(0, after_a_kill(20)), "somebody has to say it");
    let exhausted = Rule { around: Surroundings { exhausted: true, ..CALM }, ..RULE };
    assert!(heard(0, &[]).is_enough(0, exhausted), "unless nobody is left");
    let crowded = Rule { around: Surroundings { silent: 20, ..CROWD }, ..RULE };
    assert!(!heard(0, &[empty(), empty()]).is_enough(0, crowded));
}

#[test]
fn when_the_region_has_grown_newcomers_decide_nothing() {
    let rule = |oldest| Rule { around: Surroundings { oldest, ..CALM }, ..RULE };
    // Two that keep what was stored since and agree.
    let newcomers = || heard(0, &[shows(&[(1, 1)], false), shows(&[(1, 1)], false)]);
    assert!(newcomers().is_enough(0, rule(Oldest::Alike)));
    assert!(!newcomers().is_enough(0, rule(Oldest::Unheard)));
    let different = || heard(0, &[shows(&[(1, 1)], false), shows(&[(1, 1), (2, 1)], false)]);
    assert!(!different().is_enough(0, rule(Oldest::Alike)));
    assert!(different().is_enough(0, rule(Oldest::Heard)), "that they differ is no wonder");
    assert!(!different().is_doubtful(rule(Oldest::Heard), 0));
    let crowded = Surroundings { oldest: Oldest::Heard, ..CROWD };
    assert!(!different().is_enough(0, Rule { around: crowded, ..RULE }), "the nearest may lie");
}

#[test]
fn a_fresh_query_hears_five_copies() {
    let fresh = Rule { fresh: true, ..RULE };
    let copy = || shows(&[(1, 1)], false);
    let mut witnesses = heard(0, &[copy(), copy()]);
    hear(&mut witnesses, 1, &[copy(), copy()]);
    assert!(!witnesses.is_enough(0, fresh));
    hear(&mut witnesses, 1, &[copy()]);
    assert!(witnesses.is_enough(0, fresh) && witnesses.is_enough(1, fresh));
}

#[test]
fn one_network_counts_twice_at_most() {
    let network = |index: u8| Some(IpPrefix::of(Ipv4Addr::new(192, 0, 2, index).into()));
    let mut witnesses = Witnesses::default();
    for index in 0..20 {
        let custodian = Custodian { agent: agent(index), prefix: network(index), inside: true };
        witnesses.hear(0, custodian, LIMIT, &empty());
    }
    assert!(!witnesses.is_enough(0, RULE));
    assert_eq!(witnesses.placements[0].len(), WITNESSES_PER_PREFIX_MAX);
}
