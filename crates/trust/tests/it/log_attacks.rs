//! Attacks on logs, performed: split views (T23), removed and rewritten entries (T24), and forged accusations.

use comity_core::{Canonical, Time};
use comity_trust::log::witness::{Observation, Refusal, observe};
use comity_trust::log::{
    Caught, Equivocation, EquivocationError, MAX_EQUIVOCATION_LEN, SignedCheckpoint, tree,
};

use crate::log::{Log, entry, identity};

/// T23: the operator keeps two trees and shows each caller its own. Each is consistent for whoever sees it alone. The first caller who
/// is shown what a witness of the other tree holds has a proof that convinces a third party.
#[test]
fn t23_two_trees_for_two_callers_are_proven_when_they_meet() {
    let operator = identity(9);
    let (mut one, mut other) = (Log::numbered(200), Log::numbered(200));
    one.push(entry(7_000));
    other.push(entry(8_000));
    for number in 300..400 {
        one.push(entry(number));
        other.push(entry(number));
    }
    // Each caller in turn is satisfied, with proofs, and cosigns.
    let mut held = Vec::new();
    for tree in [&one, &other] {
        let mut last: Option<SignedCheckpoint> = None;
        for size in [150, 200, 240, 301] {
            let shown = tree.checkpoint(size, &operator);
            let from = last.as_ref().map_or(0, |last| last.checkpoint().size);
            let proof = tree.consistency(from, size);
            let seen = observe(last.as_ref(), &shown, Some(&proof)).unwrap();
            assert_eq!(seen, if last.is_none() { Observation::First } else { Observation::Grown });
            last = Some(shown);
        }
        held.push(last.unwrap());
    }
    let refusal = observe(Some(&held[0]), &held[1], None).unwrap_err();
    let Refusal::Equivocated(proof) = refusal else { panic!("{refusal}") };
    let bytes = Canonical::encode(&*proof);
    assert!(bytes.len() <= 600, "{} bytes", bytes.len());
    let (_, caught) = Equivocation::open(&bytes).unwrap();
    assert_eq!(caught, Caught::TwoRoots { log: operator.id(), size: 301 });
    // Whoever finds it, finds the same bytes: a proof has one name.
    let again = Equivocation::between(&held[1], &held[0]).unwrap();
    assert_eq!(Canonical::encode(&again), bytes);
}

/// T23 at different sizes: the operator lets the two views never have one size. No consistency proof exists between them.
#[test]
fn t23_views_of_different_sizes_cannot_be_joined() {
    let operator = identity(9);
    let (mut one, mut other) = (Log::numbered(200), Log::numbered(200));
    one.push(entry(7_000));
    other.push(entry(8_000));
    (0..50).for_each(|number| other.push(entry(number)));
    let (held, shown) = (one.checkpoint(201, &operator), other.checkpoint(251, &operator));
    let missing = observe(Some(&held), &shown, None).unwrap_err();
    assert_eq!(missing, Refusal::ProofMissing { old: 201, new: 251 });
    // The best it can offer: the honest proof of either of its trees.
    (0..50).for_each(|number| one.push(entry(number)));
    for tree in [&one, &other] {
        let refused = observe(Some(&held), &shown, Some(&tree.consistency(201, 251)));
        assert_eq!(refused, Err(Refusal::Inconsistent { old: 201, new: 251 }));
    }
}

/// T24: one entry is deleted and the tree is built anew, signed by the real key.
#[test]
fn t24_a_removed_entry_fails_at_the_next_contact() {
    let operator = identity(9);
    let honest = Log::numbered(500);
    let held = honest.checkpoint(500, &operator);
    let mut rebuilt = Log::of(
        honest
            .entries
            .iter()
            .enumerate()
            .filter(|(at, _)| *at != 123)
            .map(|(_, entry)| entry.clone()),
    );
    (1_000..1_101).for_each(|number| rebuilt.push(entry(number)));
    let shown = rebuilt.checkpoint(600, &operator);
    let refused = observe(Some(&held), &shown, Some(&rebuilt.consistency(500, 600)));
    assert_eq!(refused, Err(Refusal::Inconsistent { old: 500, new: 600 }));
    // A shorter log, as after deleting the end, is refused as well.
    let shorter = rebuilt.checkpoint(499, &operator);
    let refused = observe(Some(&held), &shorter, Some(&rebuilt.consistency(499, 500)));
    assert_eq!(refused, Err(Refusal::Inconsistent { old: 499, new: 500 }));
    // An honest earlier state with its proof is none.
    let earlier = honest.checkpoint(499, &operator);
    let seen = observe(Some(&held), &earlier, Some(&honest.consistency(499, 500)));
    assert_eq!(seen, Ok(Observation::Earlier));
}

/// T24: a caller kept the inclusion proof of its receipt. The entry is replaced later; the two inclusions convict the log.
#[test]
fn t24_a_rewritten_entry_is_proven_by_the_kept_inclusion() {
    let operator = identity(9);
    let honest = Log::numbered(500);
    let kept = (
        honest.checkpoint(500, &operator),
        tree::leaf_hash(&honest.entries[123]),
        honest.inclusion(123, 500),
    );
    let mut entries = honest.entries;
    entries[123] = entry(666);
    let rebuilt = Log::of(entries);
    let shown = rebuilt.checkpoint(450, &operator);
    let proof = Equivocation::rewritten(
        (&kept.0, kept.1, kept.2.clone()),
        (&shown, tree::leaf_hash(&entry(666)), rebuilt.inclusion(123, 450)),
    )
    .unwrap();
    let bytes = Canonical::encode(&proof);
    assert!(bytes.len() <= MAX_EQUIVOCATION_LEN);
    let (_, caught) = Equivocation::open(&bytes).unwrap();
    assert_eq!(caught, Caught::TwoEntries { log: operator.id(), index: 123 });
    // An honest log is not convicted by its own proofs, in whatever combination.
    let later = Log::numbered(600);
    let fresh = later.checkpoint(600, &operator);
    let same = Equivocation::rewritten(
        (&kept.0, kept.1, kept.2.clone()),
        (&fresh, tree::leaf_hash(&later.entries[123]), later.inclusion(123, 600)),
    );
    assert!(matches!(same, Err(EquivocationError::NoContradiction { .. })));
    let neighbour = Equivocation::rewritten(
        (&kept.0, kept.1, kept.2),
        (&fresh, tree::leaf_hash(&later.entries[124]), later.inclusion(124, 600)),
    );
    assert!(matches!(neighbour, Err(EquivocationError::NoContradiction { .. })));
}

/// Somebody wants an honest log to look guilty.
#[test]
fn nobody_can_forge_an_accusation() {
    let (victim, liar) = (identity(9), identity(10));
    let (log, lie) = (Log::numbered(10), Log::of((50..60).map(entry)));
    let (real, forged) = (log.checkpoint(10, &victim), lie.checkpoint(10, &liar));
    assert_eq!(Equivocation::between(&real, &forged), None, "logs of two agents");
    assert_eq!(Equivocation::between(&real, &real), None);
    // A split of its own, with every byte changed in turn to another: none names the victim, and hardly any holds at all.
    let proof = Equivocation::between(&forged, &log.checkpoint(10, &liar)).unwrap();
    let bytes = Canonical::encode(&proof);
    for bit in 0..bytes.len() * 8 {
        let mut changed = bytes.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(Equivocation::open(&changed).is_err(), "bit {bit}");
    }
    // Cosignatures do not make a second spelling.
    let mut cosigned = forged;
    let line = cosigned.cosign(&victim, Time::from_secs(1));
    cosigned.add(&victim.id(), line).unwrap();
    let again = Equivocation::between(&cosigned, &log.checkpoint(10, &liar)).unwrap();
    assert_eq!(Canonical::encode(&again), bytes);
}

/// A witness holds what it cosigned and nothing less.
#[test]
fn a_witness_is_not_led_back() {
    let operator = identity(9);
    let log = Log::numbered(100);
    let held = log.checkpoint(80, &operator);
    assert_eq!(observe(Some(&held), &held, None), Ok(Observation::Same));
    let empty = log.checkpoint(0, &operator);
    assert_eq!(observe(Some(&held), &empty, None), Ok(Observation::Earlier));
    assert_eq!(observe(Some(&empty), &held, None), Ok(Observation::Grown));
    let other = log.checkpoint(80, &identity(3));
    assert_eq!(observe(Some(&held), &other, None), Err(Refusal::OtherLog));
    // A proof of other sizes proves nothing here.
    let refused =
        observe(Some(&held), &log.checkpoint(100, &operator), Some(&log.consistency(70, 100)));
    assert_eq!(refused, Err(Refusal::ProofMissing { old: 80, new: 100 }));
}
