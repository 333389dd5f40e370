//! Trust: both sides, signed, fresh, once.

use comity_pilot::handshake::{Kind, Message};
use comity_pilot::trust::{Effect, Trust, TrustError};

use crate::net::identity;

const NOW: u64 = 1_800_000_000;

fn request(from: u32, to: u32, unix: u64) -> Message {
    Message::signed(Kind::Request, from, to, "want to talk", unix, &identity(from))
}

fn receive(trust: &mut Trust, message: &Message) -> Result<Effect, TrustError> {
    let from = message.node_id;
    trust.receive(NOW, 1, from, &identity(from).public(), &message.to_vec(), &identity(1))
}

#[test]
fn agreement_takes_both_sides() {
    let mut trust = Trust::default();
    assert_eq!(receive(&mut trust, &request(2, 1, NOW)), Ok(Effect::Waits));
    assert!(!trust.is_trusted(2), "the user was not asked yet");
    let answer = trust.approve(NOW, 1, 2, &identity(1)).unwrap();
    assert!(trust.is_trusted(2) && answer.is_signed_by(&identity(1).public(), 2));

    let mut theirs = Trust::default();
    let asked = theirs.request(NOW, 2, 1, "want to talk", &identity(2)).unwrap();
    assert!(!theirs.is_trusted(1) && asked.kind == Kind::Request);
    let key = identity(1).public();
    let effect = theirs.receive(NOW, 2, 1, &key, &answer.to_vec(), &identity(2));
    assert_eq!(effect, Ok(Effect::Agreed(None)));
    assert!(theirs.is_trusted(1));
    let again = Trust::from_file_text(&theirs.to_file_text()).unwrap();
    assert!(again.is_trusted(1));
}

#[test]
fn one_side_alone_is_not_trusted() {
    let mut trust = Trust::default();
    let accept = Message::signed(Kind::Accept, 2, 1, "", NOW, &identity(2));
    assert_eq!(receive(&mut trust, &accept), Err(TrustError::NotRequested(2)));
    trust.relayed(NOW, 3, "the registry says so").unwrap();
    assert_eq!(trust.approve(NOW, 1, 3, &identity(1)), Err(TrustError::Unsigned(3)));
    assert!(!trust.is_trusted(2) && !trust.is_trusted(3));
}

#[test]
fn requests_that_cross_are_an_agreement() {
    let mut trust = Trust::default();
    trust.request(NOW, 1, 2, "", &identity(1)).unwrap();
    let effect = receive(&mut trust, &request(2, 1, NOW)).unwrap();
    assert!(matches!(effect, Effect::Agreed(Some(Message { kind: Kind::Accept, .. }))));
    assert!(trust.is_trusted(2));
}

#[test]
fn messages_are_bound_to_session_key_peer_and_time() {
    let mut trust = Trust::default();
    let key = identity(2).public();
    let mut receive = |proven, key: &_, message: &Message| {
        trust.receive(NOW, 1, proven, key, &message.to_vec(), &identity(1))
    };
    let wrong_session = receive(3, &key, &request(2, 1, NOW));
    assert_eq!(wrong_session, Err(TrustError::Sender { claimed: 2, proven: 3 }));
    let wrong_key = receive(2, &identity(3).public(), &request(2, 1, NOW));
    assert_eq!(wrong_key, Err(TrustError::Signature(2)));
    assert_eq!(receive(2, &key, &request(2, 9, NOW)), Err(TrustError::Signature(2)), "for another");
    assert_eq!(receive(2, &key, &request(2, 1, NOW - 301)), Err(TrustError::Time(301)));
    assert_eq!(receive(2, &key, &request(2, 1, NOW + 31)), Err(TrustError::Time(-31)));
    assert_eq!(receive(2, &key, &request(2, 1, NOW)), Ok(Effect::Waits));
    assert_eq!(receive(2, &key, &request(2, 1, NOW)), Err(TrustError::Replayed));
}

#[test]
fn withdrawal_and_refusal() {
    let mut trust = Trust::default();
    trust.request(NOW, 1, 2, "", &identity(1)).unwrap();
    receive(&mut trust, &request(2, 1, NOW)).unwrap();
    let revoke = Message::unsigned(Kind::Revoke, 2, "", NOW);
    assert_eq!(receive(&mut trust, &revoke), Ok(Effect::Withdrawn));
    assert!(!trust.is_trusted(2));
    trust.request(NOW, 1, 3, "", &identity(1)).unwrap();
    let reject = Message::unsigned(Kind::Reject, 3, "no", NOW);
    assert_eq!(receive(&mut trust, &reject), Ok(Effect::Refused));
    assert_eq!(trust.requested().count(), 0);
}

#[test]
fn keys_are_pinned_and_lists_are_bounded() {
    let mut trust = Trust::default();
    trust.pin(2, &identity(2).public()).unwrap();
    assert_eq!(trust.pin(2, &identity(3).public()), Err(TrustError::KeyChanged(2)));
    assert_eq!(trust.pinned(2), Some(identity(2).public()));
    let mut full = 0;
    for node in 10..10 + 300 {
        full += usize::from(trust.relayed(NOW, node, "").is_err());
    }
    assert_eq!(full, 300 - comity_pilot::trust::PENDING_MAX);
}
