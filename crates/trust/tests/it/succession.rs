//! Keys that follow keys, and what handles mean meanwhile: threats T1 and T8.

use comity_core::{AgentId, Hash, Kind, OverlayId};
use comity_trust::handle::{HandleError, How, Live, Pins};
use comity_trust::succession::{Pin, Rotate, Succession, SuccessionError, commitment};

use crate::common::{NOW, agent, no_flip_opens, opens_as_another, respelled, secs};

const THIEF: u8 = 66;

fn id(n: u8) -> AgentId {
    agent(n).id()
}

/// The first key, committed to the second.
fn pin() -> Pin {
    Pin::new(id(1), Some(commitment(&id(2))), NOW)
}

fn rotated(from: u8, to: u8, next: u8) -> Succession {
    Succession::new().rotate(&agent(from), &agent(to), commitment(&id(next)), NOW + secs(60))
}

fn follow(pin: &Pin, succession: &Succession) -> Result<Pin, SuccessionError> {
    Succession::from_bytes(&succession.to_bytes())?.follow(pin, NOW + secs(100))
}

#[test]
fn an_honest_rotation_is_followed_and_again() {
    let once = follow(&pin(), &rotated(1, 2, 3)).unwrap();
    assert_eq!(once, Pin::new(id(2), Some(commitment(&id(3))), NOW + secs(60)));
    let twice = rotated(1, 2, 3).rotate(&agent(2), &agent(3), commitment(&id(4)), NOW + secs(70));
    assert_eq!(follow(&pin(), &twice).unwrap().key, id(3));
    // A reader that has followed the first already passes it over.
    assert_eq!(follow(&once, &twice).unwrap().key, id(3));
}

/// T8: the key in use is stolen; the next one lies in a drawer.
#[test]
fn a_thief_cannot_rotate() {
    let stolen = 1;
    let refused = follow(&pin(), &rotated(stolen, THIEF, THIEF));
    assert_eq!(
        refused,
        Err(SuccessionError::NotCommitted { new: id(THIEF).into(), pinned: id(1) })
    );
    // Nor by signing a new record with a commitment of its own, since the first one seen counts.
    let mut seen = pin();
    assert!(!seen.saw_record(commitment(&id(THIEF))), "the change is noticed");
    assert!(seen.saw_record(commitment(&id(2))));
    assert!(follow(&seen, &rotated(stolen, THIEF, THIEF)).is_err());
    // Nor with the true next key's name, which it cannot sign for.
    let honest = rotated(1, 2, 3);
    let thiefs = rotated(1, THIEF, 3);
    let halves = |succession: &Succession| -> Vec<minicbor::bytes::ByteVec> {
        minicbor::decode(&succession.to_bytes()).unwrap()
    };
    let crossed = vec![halves(&honest)[0].clone(), halves(&thiefs)[1].clone()];
    let crossed = Succession::from_bytes(&minicbor::to_vec(crossed).unwrap()).unwrap();
    assert_eq!(crossed.follow(&pin(), NOW + secs(100)), Err(SuccessionError::Signers));
    let twice_old = vec![halves(&honest)[0].clone(), halves(&honest)[0].clone()];
    let twice_old = Succession::from_bytes(&minicbor::to_vec(twice_old).unwrap()).unwrap();
    assert_eq!(twice_old.follow(&pin(), NOW + secs(100)), Err(SuccessionError::Signers));
}

#[test]
fn what_was_pinned_without_a_record_has_no_successor() {
    let bare = Pin::new(id(1), None, NOW);
    assert_eq!(
        follow(&bare, &rotated(1, 2, 3)),
        Err(SuccessionError::NoCommitment { pinned: id(1) })
    );
    assert_eq!(
        follow(&Pin::new(id(5), None, NOW), &rotated(1, 2, 3)),
        Err(SuccessionError::OtherKey { old: id(1).into(), pinned: id(5) })
    );
    let early = Pin { since: NOW + secs(1000), ..pin() };
    assert!(matches!(follow(&early, &rotated(1, 2, 3)), Err(SuccessionError::Time { .. })));
    let mut long = rotated(1, 2, 3);
    for n in 2..7 {
        long = long.rotate(&agent(n), &agent(n + 1), commitment(&id(n + 2)), NOW + secs(60));
    }
    assert_eq!(follow(&pin(), &long).unwrap().key, id(5), "four are sent, and four are followed");
}

#[test]
fn rotations_stand_the_attacks_on_envelopes() {
    let bytes = rotated(1, 2, 3).to_bytes();
    no_flip_opens("rotate", std::slice::from_ref(&bytes), |bytes| {
        Succession::from_bytes(bytes)
            .and_then(|succession| succession.follow(&pin(), NOW + secs(100)))
            .is_ok()
    });
    let halves: Vec<minicbor::bytes::ByteVec> = minicbor::decode(&bytes).unwrap();
    assert!(!opens_as_another::<Rotate>(Kind::Rotate, &halves[0]));
    for half in respelled(&halves[0]) {
        let bytes = minicbor::to_vec(vec![half.into(), halves[1].clone()]).unwrap();
        let refused = Succession::from_bytes(&bytes).unwrap().follow(&pin(), NOW + secs(100));
        assert!(matches!(refused, Err(SuccessionError::Envelope { by: "old", .. })), "{refused:?}");
    }
}

/// Overlay ids that share their first 48 bits: what brute force finds, without the force.
fn live(agent: u8, tail: u8) -> Live {
    let mut overlay_id = [0xab; 32];
    overlay_id[10] = tail;
    Live { agent: id(agent), overlay_id: OverlayId(overlay_id) }
}

/// T1: a key made to collide is published before, together with, and after the one it imitates.
#[test]
fn a_colliding_key_takes_no_handle_over() {
    let (honest, evil) = (live(1, 1), live(THIEF, 2));
    let handle = honest.overlay_id.handle();
    assert_eq!(handle, evil.overlay_id.handle());
    // Together: nobody is picked, and both are named.
    let mut pins = Pins::new();
    let refused = pins.resolve(&handle, &[honest, evil], &[], NOW).unwrap_err();
    let HandleError::Ambiguous { count: 2, .. } = refused else { panic!("{refused}") };
    assert!(refused.to_string().contains(&honest.address().to_string()) && pins.is_empty());
    // After: the first stays, and the other is told of.
    let first = pins.resolve(&handle, &[honest], &[], NOW).unwrap();
    assert_eq!((first.agent, first.how), (id(1), How::First));
    let again = pins.resolve(&handle, &[honest, evil], &[], NOW).unwrap();
    assert_eq!((again.agent, again.how, again.conflicts), (id(1), How::Pinned, vec![evil]));
    // Alone, while the honest one is down: refused.
    let refused = pins.resolve(&handle, &[evil], &[], NOW).unwrap_err();
    assert!(matches!(refused, HandleError::Changed { pinned, .. } if pinned == id(1)), "{refused}");
    assert_eq!(pins.resolve(&handle, &[], &[], NOW).unwrap().agent, id(1));
    // The check tells them apart without a pin.
    let checked =
        pins.resolve_checked(&honest.overlay_id.checked_handle(), &[honest, evil]).unwrap();
    assert_eq!((checked.agent, checked.how, checked.conflicts), (id(1), How::Checked, vec![evil]));
    let stored = serde_json::to_string(&pins).unwrap();
    assert_eq!(serde_json::from_str::<Pins>(&stored).unwrap(), pins);
    let nobody = Pins::new().resolve(&handle, &[], &[], NOW).unwrap_err();
    assert_eq!(nobody, HandleError::NotFound { handle: handle.to_string() });
}

#[test]
fn a_handle_follows_its_key_to_the_successor() {
    let (honest, evil) = (live(1, 1), live(THIEF, 2));
    let handle = honest.overlay_id.handle();
    let mut pins = Pins::new();
    pins.resolve(&handle, &[honest], &[], NOW).unwrap();
    assert!(pins.saw_record(&handle, &id(1), commitment(&id(2))));
    let thiefs = rotated(1, THIEF, THIEF);
    let refused = pins.resolve(&handle, &[evil], &[thiefs], NOW + secs(100)).unwrap_err();
    let HandleError::Changed { succession: Some(why), .. } = refused else { panic!("{refused}") };
    assert!(matches!(*why, SuccessionError::NotCommitted { .. }));
    let found = pins.resolve(&handle, &[], &[rotated(1, 2, 3)], NOW + secs(100)).unwrap();
    assert_eq!((found.agent, found.how), (id(2), How::Succeeded));
    // From then on, whoever answers at the old place.
    let found = pins.resolve(&handle, &[honest, evil], &[], NOW + secs(200)).unwrap();
    assert_eq!((found.agent, found.how, found.conflicts), (id(2), How::Pinned, vec![evil]));
    assert_eq!(pins.get(&handle).unwrap().first, id(1));
    let _: Option<Hash> = pins.unpin(&handle).unwrap().pin.next;
    assert!(pins.is_empty());
}
