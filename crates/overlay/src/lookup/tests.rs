use std::collections::BTreeSet;

use comity_core::Identity;

use super::*;

const BREADTH: Breadth = Breadth {
    paths: 1,
    path_k: K,
    want: K,
    region: None,
    expected: 0,
    trust_names: true,
    grown: false,
    alpha: 3,
    alpha_failing: 8,
    failing: false,
    strained: false,
    first: 0,
};

fn contact(index: u8) -> Contact {
    let mut id = [0; 32];
    id[0] = index;
    id[1] = 1;
    let agent = Identity::from_secret_bytes(&[index; 32]).id();
    Contact::server(agent, OverlayId(id), vec!["127.0.0.1:1".parse().unwrap()])
}

fn contacts(range: std::ops::Range<u8>) -> Vec<Contact> {
    range.map(contact).collect()
}

fn search(breadth: Breadth, seeds: Vec<Contact>) -> Lookup {
    Lookup::new(OverlayId([0; 32]), OverlayId([0xff; 32]), breadth, seeds)
}

/// Asks until nothing is to be asked, answering each with `answer`. Returns who was asked.
fn run(
    lookup: &mut Lookup,
    mut answer: impl FnMut(&Contact) -> Option<Vec<Contact>>,
) -> Vec<Contact> {
    let mut asked = Vec::new();
    loop {
        match lookup.step() {
            Step::Ask(contact) => {
                asked.push(contact.clone());
                match answer(&contact) {
                    Some(contacts) => lookup.on_success(&contact.overlay_id, contacts),
                    None => lookup.on_failure(&contact.overlay_id),
                }
            }
            Step::Wait => panic!("every request is settled at once"),
            Step::Widen => lookup.widen(Vec::new()),
            Step::Sweep(sweeps) => sweeps.iter().for_each(|_| lookup.swept(Vec::new(), true)),
            Step::Done => return asked,
        }
    }
}

#[test]
fn those_that_are_known_to_lie_there_are_heard_before_anybody_else_is_asked() {
    let seeds = vec![contact(90), contact(80), contact(70), contact(10)];
    let mut lookup = search(Breadth { first: 2, ..BREADTH }, seeds);
    let asked: BTreeSet<_> = [lookup.step(), lookup.step()].map(|step| format!("{step:?}")).into();
    let first = [contact(90), contact(80)].map(|contact| format!("{:?}", Step::Ask(contact)));
    assert_eq!(asked, first.into());
    assert_eq!(lookup.step(), Step::Wait, "both are to be heard");
    lookup.on_success(&contact(90).overlay_id, vec![contact(5)]);
    assert_eq!(lookup.step(), Step::Wait, "the other is to be heard too");
    lookup.on_slow(&contact(80).overlay_id);
    assert_eq!(lookup.step(), Step::Ask(contact(5)), "then the search goes on as any does");
}

#[test]
fn converges_on_the_nearest() {
    let mut lookup = search(BREADTH, vec![contact(100)]);
    run(&mut lookup, |contact| {
        let near = contact.overlay_id.0[0].saturating_sub(20).max(1);
        Some(contacts(near..near + 20))
    });
    let result = lookup.result();
    assert_eq!(result.len(), K);
    assert_eq!(result[0], contact(1));
    assert!(result.is_sorted_by_key(|contact| contact.overlay_id.0));
}

#[test]
fn asks_nobody_twice_and_never_itself() {
    let me = contact(9).with_overlay_id(OverlayId([0xff; 32]));
    let mut lookup = search(Breadth { paths: 4, path_k: 6, ..BREADTH }, contacts(1..9));
    let asked =
        run(&mut lookup, |_| Some(contacts(1..40).into_iter().chain([me.clone()]).collect()));
    let distinct: BTreeSet<_> = asked.iter().map(|contact| contact.overlay_id).collect();
    assert_eq!(distinct.len(), asked.len());
    assert!(!distinct.contains(&me.overlay_id));
}

#[test]
fn slow_peers_free_their_slot_and_still_count() {
    let mut lookup = search(BREADTH, contacts(1..5));
    let mut asked = Vec::new();
    while let Step::Ask(contact) = lookup.step() {
        asked.push(contact);
    }
    assert_eq!(asked.len(), 3);
    lookup.on_slow(&asked[0].overlay_id);
    assert!(matches!(lookup.step(), Step::Ask(_)));
    assert_eq!(lookup.step(), Step::Wait);
    lookup.on_success(&asked[0].overlay_id, Vec::new());
    assert_eq!(lookup.answered(), 1);
}

#[test]
fn an_unsolicited_answer_changes_nothing() {
    let mut lookup = search(BREADTH, contacts(1..3));
    lookup.on_success(&contact(2).overlay_id, contacts(5..9));
    lookup.on_failure(&contact(50).overlay_id);
    assert_eq!((lookup.answered(), lookup.failed), (0, 0));
    assert_eq!(run(&mut lookup, |_| Some(Vec::new())).len(), 2);
}

#[test]
fn widens_once_when_everyone_is_dead() {
    let mut lookup = search(BREADTH, contacts(1..9));
    let mut widened = 0;
    let mut asked = 0;
    loop {
        match lookup.step() {
            Step::Ask(contact) => {
                asked += 1;
                lookup.on_failure(&contact.overlay_id);
            }
            Step::Widen => {
                widened += 1;
                lookup.widen(contacts(20..30));
            }
            Step::Wait | Step::Sweep(_) => unreachable!(),
            Step::Done => break,
        }
    }
    assert_eq!((widened, asked), (1, 18));
    assert!(lookup.is_failing());
}

#[test]
fn a_region_takes_more_than_k() {
    let region = Some(Region::expected(60, 256));
    let mut lookup = search(Breadth { paths: 8, path_k: 6, region, ..BREADTH }, contacts(1..100));
    run(&mut lookup, |_| Some(Vec::new()));
    let result = lookup.result();
    assert!(result.len() >= 59, "{}", result.len());
    assert!(result.len() < 99);
}

/// Ten of 64 nodes are expected within 40 of 256 parts.
fn custody() -> Breadth {
    Breadth {
        paths: 4,
        path_k: 6,
        want: 10,
        region: Some(Region::expected(10, 64)),
        expected: 10,
        ..BREADTH
    }
}

#[test]
fn a_crowd_is_searched_around_from_the_outside_in() {
    // Named by everyone: a crowd at 1 to 30. Whoever is honest stands at 35, 50, 70 and is known in their subtree alone.
    let honest = [contact(35), contact(50), contact(70)];
    let mut lookup = search(custody(), contacts(1..31));
    let (mut asked, mut sweeps) = (Vec::new(), 0);
    loop {
        match lookup.step() {
            Step::Ask(contact) => {
                asked.push(contact.clone());
                lookup.on_success(&contact.overlay_id, contacts(1..31));
            }
            Step::Sweep(parts) => {
                assert_eq!(u32::try_from(parts.len()), Ok(SWEEPS));
                for Sweep { bits, region } in &parts {
                    let aim = sibling(&OverlayId([0; 32]), *bits, [0x5a; 32]);
                    assert_eq!(aim.distance(&OverlayId([0; 32])).leading_zeros(), *bits);
                    let inside = |c: &&Contact| region.contains(&aim, &c.overlay_id);
                    let found = honest.iter().filter(inside).cloned().collect();
                    lookup.swept(found, true);
                    sweeps += 1;
                }
            }
            Step::Widen => lookup.widen(Vec::new()),
            Step::Wait => panic!("every request is settled at once"),
            Step::Done => break,
        }
    }
    assert_eq!(sweeps, SWEEPS);
    let result = lookup.result();
    assert!(honest.iter().all(|contact| result.contains(contact)), "{result:?}");
    let place = |wanted: &Contact| asked.iter().position(|contact| contact == wanted).unwrap();
    assert!(place(&honest[2]) < place(&honest[1]) && place(&honest[1]) < place(&honest[0]));
    assert!(place(&honest[0]) < asked.len() / 2, "before the crowd");
}

#[test]
fn paths_led_astray_leave_a_thin_result() {
    // Liars at 50, 60, … name each other alone; ten of 64 nodes are expected within 40 of 256 parts.
    let liars: Vec<_> = (5..25).map(|index| contact(index * 10)).collect();
    let mut lookup = search(custody(), liars.clone());
    run(&mut lookup, |_| Some(liars.clone()));
    assert!(lookup.is_thin() && !lookup.is_crowded());
    let even: Vec<_> = (1..60).map(|index| contact(index * 4)).collect();
    let mut lookup = search(custody(), even.clone());
    run(&mut lookup, |_| Some(even.clone()));
    assert!(!lookup.is_thin());
}

#[test]
fn no_crowd_no_sweep() {
    // Four apart: ten within 40.
    let even: Vec<_> = (1..60).map(|index| contact(index * 4)).collect();
    let mut lookup = search(custody(), even.clone());
    run(&mut lookup, |_| Some(even.clone()));
    assert!(!lookup.is_crowded() && !lookup.is_escalated());
}

#[test]
fn a_miss_opens_more_paths_from_the_whole_table() {
    let mut lookup = search(Breadth { paths: 1, path_k: 3, want: 3, ..BREADTH }, contacts(1..4));
    assert_eq!(run(&mut lookup, |_| Some(Vec::new())).len(), 3);
    assert!(lookup.escalate());
    assert_eq!(lookup.step(), Step::Widen);
    lookup.widen(contacts(1..40));
    assert_eq!(run(&mut lookup, |_| Some(Vec::new())).len(), 36);
    assert!(!lookup.escalate(), "without a region there is nothing to sweep");
}

#[test]
fn a_path_cannot_use_up_what_the_others_need() {
    // A liar names ever nearer nodes that do not exist.
    let id = |n: u32| {
        let mut id = [0; 32];
        id[..4].copy_from_slice(&(u32::MAX / 2 - n * 1_000).to_be_bytes());
        Contact::server(contact(1).agent, OverlayId(id), vec!["127.0.0.1:1".parse().unwrap()])
    };
    let mut lookup = search(Breadth { paths: 4, ..BREADTH }, vec![id(0)]);
    let mut next = 0;
    while lookup.stage == Stage::Paths {
        let Step::Ask(contact) = lookup.step() else { panic!("there is always one more to ask") };
        if lookup.stage == Stage::Paths {
            next += 1;
            lookup.on_success(&contact.overlay_id, vec![id(next)]);
        }
    }
    assert_eq!(next, lookup.path_requests_max());
    assert!(next < LOOKUP_REQUESTS_MAX / 2);
}

#[test]
fn when_the_region_has_grown_the_nearest_that_are_left_are_heard() {
    let even: Vec<_> = (1..16).map(|index| contact(index * 4)).collect();
    let grown = || search(Breadth { grown: true, paths: 1, ..custody() }, even.clone());
    let oldest = |silent: &[usize], heard: &[usize]| {
        let mut lookup = grown();
        for (index, contact) in even.iter().enumerate() {
            let Step::Ask(_) = lookup.step() else { break };
            if silent.contains(&index) {
                lookup.on_slow(&contact.overlay_id);
            }
            if heard.contains(&index) {
                lookup.on_success(&contact.overlay_id, Vec::new());
            }
        }
        lookup.surroundings().oldest
    };
    assert_eq!(oldest(&[], &[]), Oldest::Unheard);
    assert_eq!(oldest(&[], &[1, 2]), Oldest::Unheard, "the nearest is not heard");
    assert_eq!(oldest(&[], &[0, 1]), Oldest::Heard);
    assert_eq!(oldest(&[0], &[1, 2]), Oldest::Heard, "who does not answer in time is gone");
    let calm = search(custody(), even.clone());
    assert_eq!(calm.surroundings().oldest, Oldest::Alike);
}

#[test]
fn a_path_that_meets_silence_asks_more_at_once() {
    let mut lookup = search(Breadth { paths: 4, ..BREADTH }, contacts(1..60));
    let ask = |lookup: &mut Lookup| {
        let Step::Ask(contact) = lookup.step() else { panic!("there is room for one more") };
        contact.overlay_id
    };
    let first: Vec<_> = (0..4).map(|_| ask(&mut lookup)).collect();
    assert_eq!(lookup.step(), Step::Wait);
    lookup.on_slow(&first[0]);
    let (second, third) = (ask(&mut lookup), ask(&mut lookup));
    assert_eq!(lookup.step(), Step::Wait, "one in the place of the slow one, one beyond");
    lookup.on_success(&second, Vec::new());
    lookup.on_success(&third, Vec::new());
    ask(&mut lookup);
    assert_eq!(lookup.step(), Step::Wait, "an answer ends it");
}

#[test]
fn exhaustive_only_when_all_were_asked() {
    let mut lookup = search(BREADTH, contacts(1..6));
    assert!(!lookup.is_exhaustive());
    run(&mut lookup, |_| Some(contacts(1..6)));
    assert!(lookup.is_exhaustive());
    let mut lookup = search(BREADTH, contacts(1..60));
    run(&mut lookup, |_| Some(Vec::new()));
    assert!(!lookup.is_exhaustive());
}
