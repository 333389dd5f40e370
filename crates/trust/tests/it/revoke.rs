//! Sets of withdrawals: they only grow, whoever passes them on.

use comity_core::envelope::EnvelopeError;
use comity_core::{Hash, Kind, Time};
use comity_trust::revoke::{
    Applied, MAX_ENTRIES, MAX_ISSUERS, MAX_SET, Reason, Revocations, Revoke, RevokeError, SetHead,
    Withdrawn,
};

use crate::common::{HOUR, NOW, agent, no_flip_opens, opens_as_another, respelled, secs};

const ME: u8 = 1;
const ISSUER: u8 = 2;

fn statement(n: u64) -> Withdrawn {
    Withdrawn::Statement(Hash::of(&n.to_be_bytes()))
}

fn issuer() -> Revocations {
    Revocations::new(agent(ISSUER).id())
}

fn me() -> Revocations {
    Revocations::new(agent(ME).id())
}

fn withdraw(set: &mut Revocations, n: u64, now: Time) -> Revoke {
    set.revoke(statement(n), now + secs(HOUR), Reason::Ended, now).unwrap()
}

#[test]
fn a_set_is_taken_in_whole_and_only_grows() {
    let (mut theirs, mut mine) = (issuer(), me());
    let id = agent(ISSUER).id();
    withdraw(&mut theirs, 1, NOW);
    let first = theirs.publish(&agent(ISSUER), NOW);
    let applied = mine.apply_set(&first, NOW).unwrap();
    assert_eq!(applied, Applied { issuer: id, added: 1, newer: true, missing: 0 });
    assert_eq!(mine.as_of(&id, NOW), Some(NOW));
    withdraw(&mut theirs, 2, NOW + secs(5));
    let second = theirs.publish(&agent(ISSUER), NOW + secs(5));
    let applied = mine.apply_set(&second, NOW + secs(6)).unwrap();
    assert_eq!((applied.added, applied.newer), (1, true));
    // An old set replayed changes nothing.
    let applied = mine.apply_set(&first, NOW + secs(7)).unwrap();
    assert_eq!((applied.added, applied.newer), (0, false));
    assert_eq!(mine.as_of(&id, NOW), Some(NOW + secs(5)));
    for n in [1, 2] {
        assert!(mine.find(&id, &statement(n)).is_some());
        assert!(
            mine.find(&agent(3).id(), &statement(n)).is_none(),
            "withdrawn by its issuer alone"
        );
    }
    let stored = serde_json::to_string(&mine).unwrap();
    assert_eq!(serde_json::from_str::<Revocations>(&stored).unwrap(), mine);
}

/// An issuer, or a thief with its key, that leaves an entry out of a newer set takes nothing back.
#[test]
fn what_was_withdrawn_cannot_be_restored() {
    let (mut theirs, mut mine) = (issuer(), me());
    withdraw(&mut theirs, 1, NOW);
    mine.apply_set(&theirs.publish(&agent(ISSUER), NOW), NOW).unwrap();
    let emptied = issuer().publish(&agent(ISSUER), NOW + secs(60));
    let applied = mine.apply_set(&emptied, NOW + secs(60)).unwrap();
    assert_eq!((applied.newer, applied.missing), (true, 1), "the omission is told");
    assert!(mine.find(&agent(ISSUER).id(), &statement(1)).is_some());
}

#[test]
fn two_sets_under_one_number_are_caught() {
    let (mut left, mut right, mut mine) = (issuer(), issuer(), me());
    withdraw(&mut left, 1, NOW);
    mine.apply_set(&left.publish(&agent(ISSUER), NOW), NOW).unwrap();
    withdraw(&mut right, 2, NOW);
    let refused = mine.apply_set(&right.publish(&agent(ISSUER), NOW), NOW).unwrap_err();
    let seq = NOW.as_millis();
    assert_eq!(refused, RevokeError::Equivocation { issuer: agent(ISSUER).id(), seq });
}

#[test]
fn entries_cannot_be_added_removed_or_swapped_on_the_way() {
    let mut theirs = issuer();
    for n in 0..3 {
        withdraw(&mut theirs, n, NOW);
    }
    let set = theirs.publish(&agent(ISSUER), NOW);
    no_flip_opens("revocation set", std::slice::from_ref(&set), |bytes| {
        me().apply_set(bytes, NOW).is_ok()
    });
    let mut other = issuer();
    withdraw(&mut other, 9, NOW);
    let other = other.publish(&agent(ISSUER), NOW);
    // The head of one and the entries of the other.
    let at = set.len() - 1;
    assert!(me().apply_set(&set[..at], NOW).is_err());
    let ((head, _), (_, entries)) = (split_at_entries(&set), split_at_entries(&other));
    let spliced = [head, entries].concat();
    assert_eq!(
        me().apply_set(&spliced, NOW),
        Err(RevokeError::Root { issuer: agent(ISSUER).id() })
    );
}

/// A signed set is `{0: head, 1: entries}`: cut before key 1.
fn split_at_entries(set: &[u8]) -> (Vec<u8>, Vec<u8>) {
    assert_eq!(set[..3], [0xa2, 0x00, 0x58]);
    let at = 4 + usize::from(set[3]);
    assert_eq!(set[at], 0x01);
    (set[..at].to_vec(), set[at..].to_vec())
}

#[test]
fn heads_and_single_withdrawals_stand_the_attacks_on_envelopes() {
    let mut theirs = issuer();
    let revokes: Vec<Vec<u8>> =
        (0..3).map(|n| withdraw(&mut theirs, n, NOW).seal(&agent(ISSUER))).collect();
    no_flip_opens("revoke", &revokes, |bytes| me().apply(bytes, NOW).is_ok());
    assert!(!opens_as_another::<Revoke>(Kind::Revoke, &revokes[0]));
    for bytes in respelled(&revokes[0]) {
        assert!(me().apply(&bytes, NOW).is_err());
    }
    let set = theirs.publish(&agent(ISSUER), NOW);
    let head = set[4..4 + usize::from(set[3])].to_vec();
    assert!(!opens_as_another::<SetHead>(Kind::RevokeSet, &head));
    assert!(matches!(
        me().apply(&head, NOW),
        Err(RevokeError::Envelope(EnvelopeError::Signature { .. }))
    ));
}

#[test]
fn one_withdrawal_counts_at_once_and_says_nothing_of_freshness() {
    let (mut theirs, mut mine) = (issuer(), me());
    let revoke = withdraw(&mut theirs, 1, NOW);
    let applied = mine.apply(&revoke.seal(&agent(ISSUER)), NOW).unwrap();
    assert_eq!((applied.added, applied.newer), (1, false));
    let id = agent(ISSUER).id();
    assert!(mine.find(&id, &statement(1)).is_some());
    assert!(!mine.is_fresh(&id, NOW, secs(1)));
    assert!(mine.is_fresh(&agent(ME).id(), NOW, secs(0)), "of oneself one knows everything");
}

#[test]
fn sets_from_the_future_and_withdrawals_of_nothing_are_refused() {
    let mut theirs = issuer();
    let early = theirs.publish(&agent(ISSUER), NOW + secs(121));
    assert!(matches!(me().apply_set(&early, NOW), Err(RevokeError::NotYet { .. })));
    assert!(me().apply_set(&early, NOW + secs(1)).is_ok());
    let refused = theirs.revoke(statement(1), NOW, Reason::Ended, NOW).unwrap_err();
    assert_eq!(refused, RevokeError::Never { at: NOW, until: NOW });
}

#[test]
fn memory_is_bounded_and_what_is_over_is_forgotten() {
    let mut theirs = issuer();
    for n in 0..MAX_ENTRIES as u64 {
        withdraw(&mut theirs, n, NOW);
    }
    let refused =
        theirs.revoke(statement(1 << 40), NOW + secs(HOUR), Reason::Ended, NOW).unwrap_err();
    assert_eq!(refused, RevokeError::SetFull { issuer: agent(ISSUER).id() });
    let full = theirs.publish(&agent(ISSUER), NOW);
    assert!(full.len() <= MAX_SET, "{}", full.len());
    let mut mine = me();
    assert_eq!(mine.apply_set(&full, NOW).unwrap().added, MAX_ENTRIES);
    assert_eq!(
        mine.apply_set(&vec![0; MAX_SET + 1], NOW),
        Err(RevokeError::TooLong { length: MAX_SET + 1 })
    );
    // After the end of what was withdrawn, both sides forget.
    let later = NOW + secs(2 * HOUR);
    theirs.revoke(statement(7), later + secs(1), Reason::Ended, later).unwrap();
    let applied = mine.apply_set(&theirs.publish(&agent(ISSUER), later), later).unwrap();
    assert_eq!((applied.added, applied.missing), (0, 0));
    mine.prune(later);
    assert!(mine.find(&agent(ISSUER).id(), &statement(3)).is_none());
    // A withdrawn key is remembered for ever.
    let key = Withdrawn::Key(agent(9).id().into());
    theirs.revoke(key, Time::MAX, Reason::KeyCompromised, later).unwrap();
    mine.apply_set(&theirs.publish(&agent(ISSUER), later + secs(1)), later + secs(1)).unwrap();
    mine.prune(later + secs(1_000_000_000));
    assert!(mine.find(&agent(ISSUER).id(), &key).is_some());
}

#[test]
fn issuers_without_entries_make_room_for_others() {
    let mut mine = me();
    let mut theirs = issuer();
    withdraw(&mut theirs, 1, NOW);
    mine.apply_set(&theirs.publish(&agent(ISSUER), NOW), NOW).unwrap();
    for n in 0..MAX_ISSUERS as u64 + 5 {
        let mut secret = [7; 32];
        secret[..8].copy_from_slice(&n.to_be_bytes());
        let identity = comity_core::Identity::from_secret_bytes(&secret);
        mine.apply_set(&Revocations::new(identity.id()).publish(&identity, NOW + secs(1)), NOW)
            .unwrap();
    }
    assert_eq!(mine.issuers(), MAX_ISSUERS);
    assert!(
        mine.find(&agent(ISSUER).id(), &statement(1)).is_some(),
        "entries are never pushed out"
    );
}

#[test]
fn a_root_said_in_a_session_makes_the_set_it_names_fresh() {
    let (mut theirs, mut mine) = (issuer(), me());
    let id = agent(ISSUER).id();
    withdraw(&mut theirs, 1, NOW);
    let root = theirs.own_root(NOW);
    assert!(!mine.confirm(&id, &root, NOW, NOW), "nothing is held yet");
    assert!(!mine.knows(&id));
    mine.apply_set(&theirs.publish(&agent(ISSUER), NOW), NOW).unwrap();
    let later = NOW + secs(30);
    assert!(mine.confirm(&id, &theirs.own_root(later), later, later));
    assert_eq!(mine.as_of(&id, later), Some(later));
    assert!(mine.confirm(&id, &root, NOW + secs(500), later), "a clock that is ahead");
    assert_eq!(mine.as_of(&id, later), Some(later));
    assert!(mine.confirm(&id, &root, NOW, later), "older news takes nothing back");
    assert_eq!(mine.as_of(&id, later), Some(later));
    withdraw(&mut theirs, 2, later);
    assert!(!mine.confirm(&id, &theirs.own_root(later), later, later), "it must be fetched");
    assert_eq!(mine.as_of(&id, later), Some(later));
}

#[test]
fn what_was_withdrawn_before_a_rotation_stays_withdrawn() {
    const NEW: u8 = 9;
    let mut before = me();
    let entry = withdraw(&mut before, 1, NOW);
    before.publish(&agent(ME), NOW);
    let mut after = before.succeeded(agent(NEW).id());
    assert_eq!(after.me(), agent(NEW).id());
    for issuer in [ME, NEW] {
        assert_eq!(after.find(&agent(issuer).id(), &statement(1)), Some(&entry), "{issuer}");
    }
    let mut peer = issuer();
    let applied = peer.apply_set(&after.publish(&agent(NEW), NOW), NOW).unwrap();
    assert_eq!((applied.issuer, applied.added), (agent(NEW).id(), 1));
    let stored = serde_json::to_string(&after).unwrap();
    assert_eq!(serde_json::from_str::<Revocations>(&stored).unwrap(), after);
}
