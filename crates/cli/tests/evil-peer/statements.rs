//! Statements for the directory that are forged, altered, replayed, respelled, or signed by keys that are none.

use std::time::Duration;

use comity_capability::keys::group_keys;
use comity_capability::record::{Capability, Digest, Record, Visibility};
use comity_core::{AgentId, Hash, Identity, Kind, OverlayId, Position, Time, envelope};
use comity_overlay::item::Reject;
use comity_overlay::wire::{StoreEntry, StoreOutcome, decode_response, encode_request};
use comity_overlay::{Place, Positions, Request, RequestFrame, Response, ShardId};
use curve25519_dalek::constants::EIGHT_TORSION;
use curve25519_dalek::edwards::CompressedEdwardsY;
use iroh::endpoint::Connection;

use crate::peer::{self, Evil, OVERLAY, Victim};

struct Places;

impl Positions for Places {
    fn position(&mut self, agent: &AgentId) -> Option<OverlayId> {
        Some(Position::of(agent).overlay_id())
    }
}

fn now() -> Time {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    Time::from_millis(u64::try_from(since.as_millis()).unwrap())
}

fn hours(n: u64) -> Duration {
    Duration::from_secs(n * 3600)
}

fn capability(title: &str) -> Capability {
    let mut capability = Capability::new("bait").unwrap();
    capability.visibility = Visibility::Public;
    capability.title = title.to_owned();
    capability
}

fn record(seq: u64, issued: Time, expires: Time, title: &str) -> Record {
    let mut record = Record::new(seq, issued, expires, Hash([9; 32]));
    record.capabilities.push(capability(title));
    record
}

fn digest(seq: u64, issued: Time, expires: Time, title: &str) -> Digest {
    let record = record(seq, issued, expires, title);
    Digest::summarise(&record, 0, Hash::of(b"record")).unwrap()
}

/// A digest as it should be.
fn honest(seq: u64) -> Digest {
    digest(seq, now(), now() + hours(1), "what it says")
}

/// Offers items to the victim under the group of the name `bait`, forty at a time.
async fn offer(link: &Connection, items: Vec<Vec<u8>>) -> Vec<StoreOutcome> {
    let group = group_keys(&capability("t")).into_iter().find(|key| key.label.starts_with("name/"));
    let group = group.expect("a capability is kept under its name");
    let mut outcomes = Vec::new();
    for some in items.chunks(40) {
        let place = Place::Shard { shard: ShardId::whole(group.key), index: 0 };
        let entries = (0..some.len()).map(|item| StoreEntry {
            item: u8::try_from(item).unwrap(),
            place,
            label: Some(0),
        });
        let request = Request::Store {
            // What kind of item an envelope holds stands before it (`Directory::verify`): a digest, whatever is inside.
            items: some.iter().map(|item| [&[0][..], item].concat().as_slice().into()).collect(),
            labels: vec![group.label.clone()],
            entries: entries.collect(),
        };
        let frame = RequestFrame { server: false, addrs: Vec::new(), request };
        let (mut send, mut recv) = peer::open(link, &encode_request(&frame)).await;
        send.finish().unwrap();
        let answer = recv.read_to_end(70_000).await.unwrap();
        match decode_response(&answer, &mut Places) {
            Ok(Response::Stored { outcomes: told }) => outcomes.extend(told),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(outcomes.len(), items.len());
    outcomes
}

async fn rejected(link: &Connection, items: Vec<Vec<u8>>, expected: &[Reject]) {
    for (n, outcome) in offer(link, items).await.into_iter().enumerate() {
        assert!(
            matches!(outcome, StoreOutcome::Rejected(why) if expected.contains(&why)),
            "item {n}: {outcome:?}"
        );
    }
}

/// Signs by hand under a key that differs from the honest one by a torsion point: verification that is merely strict takes it for some
/// nonces, because the challenge cancels the torsion.
fn aliases(seed: u8, payload: &[u8]) -> Vec<Vec<u8>> {
    use curve25519_dalek::scalar::Scalar;
    use sha2::{Digest as _, Sha512};
    let identity = Identity::from_secret_bytes(&[seed; 32]);
    let secret = ed25519_dalek::SigningKey::from_bytes(&[seed; 32]).to_scalar();
    let point = CompressedEdwardsY(*identity.id().as_bytes()).decompress().unwrap();
    let keys = EIGHT_TORSION[1..].iter().map(|torsion| (point + torsion).compress().to_bytes());
    keys.map(|key| {
        let sign = |message: &[u8]| {
            let signed = (1_u64..).find_map(|nonce| {
                let nonce = Scalar::from(nonce);
                let r = curve25519_dalek::EdwardsPoint::mul_base(&nonce).compress().to_bytes();
                let hashed = Sha512::new().chain_update(r).chain_update(key).chain_update(message);
                let challenge = Scalar::from_bytes_mod_order_wide(&hashed.finalize().into());
                let s = (nonce + challenge * secret).to_bytes();
                let signature = ed25519_dalek::Signature::from_components(r, s);
                let verifier = ed25519_dalek::VerifyingKey::from_bytes(&key).unwrap();
                verifier.verify_strict(message, &signature).is_ok().then(|| signature.to_bytes())
            });
            signed.unwrap()
        };
        peer::envelope(&key, payload, sign, "digest")
    })
    .collect()
}

/// T2, T12, T31, T32: nothing that its signer did not say in this one form is kept.
#[tokio::test]
async fn t31_forged_altered_and_respelled_statements_are_not_kept() {
    let victim = Victim::start();
    let evil = Evil::new().await;
    let link = evil.dial(victim.id, victim.addr, OVERLAY).await;
    let (me, sealed) = (&evil.identity, honest(5).seal(&evil.identity));
    let forged = [Reject::Malformed, Reject::Signature];

    // Single bits, in head, payload and signature alike.
    let flips = (0..sealed.len() * 8).step_by(29).map(|bit| {
        let mut flipped = sealed.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        flipped
    });
    rejected(&link, flips.collect(), &forged).await;
    // Respelled without a change to what is signed: the head, a tag more, bytes behind, another header beside the signed one.
    let respelled = [&[0xd2, 0x98, 0x04][..], &sealed[2..]].concat();
    let tagged = [&[0xd9, 0xd9, 0xf7][..], &sealed].concat();
    let longer = [&sealed[..], &[0]].concat();
    rejected(&link, vec![respelled, tagged, longer, sealed[..sealed.len() - 1].to_vec()], &forged)
        .await;
    // Signed as every other kind (T32).
    let kinds = Kind::ALL.into_iter().filter(|kind| *kind != Kind::Digest);
    let others = kinds.map(|kind| envelope::seal(kind, &honest(5), me));
    rejected(&link, others.collect(), &forged).await;
    // In the name of the victim; by the seven other names of one secret, and by keys that sign for everybody (T2).
    let payload = peer::payload(&honest(5));
    let named =
        peer::envelope(victim.id.as_bytes(), &payload, |message| me.sign(message), "digest");
    rejected(&link, vec![named], &forged).await;
    rejected(&link, aliases(1, &payload), &forged).await;
    let anybody = EIGHT_TORSION.map(|torsion| {
        let mut signature = [0; 64];
        signature[0] = 1;
        peer::envelope(&torsion.compress().to_bytes(), &payload, |_| signature, "digest")
    });
    rejected(&link, anybody.to_vec(), &forged).await;
    // The control: as it is, it is kept.
    assert_eq!(offer(&link, vec![sealed]).await, [StoreOutcome::Stored]);
    victim.serves_on().await;
}

/// T12: old statements, two under one number, of the past, of the future, for ever.
#[tokio::test]
async fn t12_stale_forked_and_ill_timed_statements_are_not_kept() {
    let victim = Victim::start();
    let evil = Evil::new().await;
    let link = evil.dial(victim.id, victim.addr, OVERLAY).await;
    let me = &evil.identity;
    let (first, second) =
        (honest(7).seal(me), digest(7, now(), now() + hours(1), "other").seal(me));
    assert_eq!(offer(&link, vec![first]).await, [StoreOutcome::Stored]);
    rejected(&link, vec![honest(6).seal(me)], &[Reject::Stale]).await;
    rejected(&link, vec![second], &[Reject::Conflict]).await;
    let ago = |n: u64| Time(now().0 - n * 3_600_000_000);
    let timed = [
        (digest(8, ago(3), ago(1), "past"), Reject::Expired),
        (digest(8, now() + hours(1), now() + hours(2), "future"), Reject::Future),
        (digest(8, now(), now() + hours(24 * 365), "for ever"), Reject::Lifetime),
    ];
    for (item, why) in timed {
        rejected(&link, vec![item.seal(me)], &[why]).await;
    }
    victim.serves_on().await;
}

/// T10: text that hides what it says, and names that look like others, do not get into the directory.
#[tokio::test]
async fn t10_poisoned_texts_and_look_alike_names_are_not_kept() {
    let victim = Victim::start();
    let evil = Evil::new().await;
    let link = evil.dial(victim.id, victim.addr, OVERLAY).await;
    let payload = peer::payload(&honest(5));
    let title = b"what it says";
    let at = payload.windows(title.len()).position(|window| window == title).unwrap();
    let name = payload.windows(4).position(|window| window == b"bait").unwrap();
    let mut items = Vec::new();
    // Twelve bytes each: right-to-left override, zero width, control, escape, not UTF-8.
    for poison in [
        "\u{202e}evil text".as_bytes(),
        "zero\u{200b}wide..".as_bytes(),
        b"line\nfeed...",
        b"esc\x1b[31mred.",
        b"bad\xff\xfebytes..",
    ] {
        let mut poisoned = payload.clone();
        poisoned[at..at + title.len()]
            .copy_from_slice(&[poison, b"............"].concat()[..title.len()]);
        items.push(poisoned);
    }
    // Capitals, a Cyrillic letter, a blank.
    for lookalike in ["Bait", "b\u{0430}t", "ba t"] {
        let mut poisoned = payload.clone();
        poisoned[name..name + 4].copy_from_slice(lookalike.as_bytes());
        items.push(poisoned);
    }
    let sealed = items.iter().map(|payload| {
        peer::envelope(
            evil.id().as_bytes(),
            payload,
            |message| evil.identity.sign(message),
            "digest",
        )
    });
    rejected(&link, sealed.collect(), &[Reject::Malformed]).await;
    victim.serves_on().await;
}
