use comity_core::Identity;

use super::*;

const BREADTH: Breadth =
    Breadth { paths: 1, path_k: K, want: K, region: None, alpha: 3, alpha_failing: 8 };

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
            Step::Done => return asked,
        }
    }
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
            Step::Wait => unreachable!(),
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

#[test]
fn a_crowded_region_is_searched_deeper() {
    let region = Some(Region::expected(200, 256));
    let narrow = Breadth { paths: 2, path_k: 3, want: 4, region, ..BREADTH };
    let seen = |lookup: &mut Lookup| run(lookup, |_| Some(contacts(1..60))).len();
    let mut lookup = search(narrow, contacts(1..40));
    assert!(seen(&mut lookup) > 40);
    assert!(lookup.escalated);
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
