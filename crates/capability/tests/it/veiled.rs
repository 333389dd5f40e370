//! Private groups: members read, custodians check, nobody else learns anything.

use std::time::Duration;

use comity_capability::keys::{GroupKey, group_keys, private_labels, private_plan};
use comity_capability::record::{
    BEAT_LIFE, Capability, Digest, GroupSecret, MAX_VEILED, Record, RecordError, UnveilError,
    Veiled, Visibility,
};
use comity_core::envelope::{self, EnvelopeError, Kind, Opened};
use comity_core::{Hash, Identity, Position, Time};
use proptest::prelude::*;
use serde_json::json;

const NOW: Time = Time::from_secs(1_800_000_000);
const LIFE: Duration = Duration::from_secs(1_800);
const LABEL: &str = "name/merger-model";

fn secret() -> GroupSecret {
    GroupSecret::from_bytes([7; 32])
}

fn agent() -> Identity {
    Identity::from_secret_bytes(&[3; 32])
}

fn digest(name: &str, tag: &str) -> Digest {
    let mut capability = Capability::new(name).unwrap();
    capability.visibility = Visibility::Public;
    capability.title = "Values both sides".to_owned();
    capability.tags.insert(tag.to_owned());
    capability.declare("pair", &json!("EUR/USD")).unwrap();
    let mut record = Record::new(1, NOW, NOW + LIFE, Hash([0; 32]));
    record.endpoints = vec!["192.0.2.77:4433".parse().unwrap()];
    record.capabilities = vec![capability];
    Digest::summarise(&record, 0, Hash([9; 32])).unwrap()
}

fn pseudonym() -> Identity {
    secret().pseudonym(&agent(), 0)
}

fn veil(digest: &Digest, label: &str, seq: u64) -> Vec<u8> {
    secret().veil(digest, &agent(), &pseudonym(), label, seq, NOW, NOW + LIFE).unwrap()
}

fn open(bytes: &[u8]) -> Opened<Veiled> {
    Veiled::open(bytes, NOW).unwrap()
}

fn holds(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[test]
fn a_member_reads_what_another_veiled() {
    let digest = digest("merger-model", "confidential");
    let item = open(&veil(&digest, LABEL, 5));
    let read = secret().unveil(&item, NOW).unwrap();
    assert_eq!((read.payload, read.signer), (digest, agent().id()));
    assert_eq!((item.signer, item.payload.seq), (pseudonym().id(), 5));
}

#[test]
fn a_custodian_holds_nothing_that_says_who_or_what() {
    let digest = digest("merger-model", "confidential");
    let bytes = veil(&digest, LABEL, 1);
    let agent = agent().id();
    let place = Position::of(&agent).overlay_id();
    let told: [(&str, &[u8]); 8] = [
        ("name", b"merger-model"),
        ("tag", b"confidential"),
        ("title", b"Values"),
        ("attribute", b"EUR"),
        ("label", LABEL.as_bytes()),
        ("key", agent.as_bytes()),
        ("place", &place.0),
        ("record", &[9; 32]),
    ];
    for (what, part) in told {
        assert!(!holds(&bytes, part), "the {what} can be read");
    }
    // What is sealed in the open has them: the search above can find something.
    let sealed = digest.seal(&Identity::from_secret_bytes(&[3; 32]));
    assert!(holds(&sealed, b"merger-model") && holds(&sealed, agent.as_bytes()));
    assert!(!format!("{:?}", secret()).contains('7'), "the secret is not printed");
}

#[test]
fn shards_are_the_same_for_members_and_mean_nothing_to_others() {
    let other = GroupSecret::from_bytes([8; 32]);
    let labels: Vec<String> = [secret(), secret(), other]
        .iter()
        .map(|secret| secret.shard_label("class/finance"))
        .collect();
    assert_eq!(labels[0], labels[1]);
    assert_ne!(labels[0], labels[2]);
    assert!(!labels[0].contains("finance"));
    let item = open(&veil(&digest("merger-model", "x"), "class/finance", 1));
    assert!(item.payload.admits(&labels[0]));
    assert!(!item.payload.admits(&labels[2]) && !item.payload.admits("class/finance"));
}

#[test]
fn the_wrong_secret_opens_nothing() {
    let item = open(&veil(&digest("merger-model", "x"), LABEL, 1));
    let wrong = GroupSecret::from_bytes([8; 32]).unveil(&item, NOW);
    assert_eq!(wrong.unwrap_err(), UnveilError::Sealed);
}

#[test]
fn all_items_have_one_length_but_for_the_numbers() {
    let small = digest("a", "b");
    let mut large = digest("merger-model-of-everything-and-all", "confidential");
    large.title = "A title that goes on for quite a while and then some more".to_owned();
    let lengths = [veil(&small, LABEL, 1), veil(&large, LABEL, 1)].map(|bytes| bytes.len());
    assert_eq!(lengths[0], lengths[1]);
    let longest = veil(&large, LABEL, u64::MAX).len();
    assert!(longest <= MAX_VEILED && MAX_VEILED - longest < 32, "{longest}");
}

#[test]
fn a_pseudonym_is_the_members_own_and_the_same_each_time() {
    let mine = secret().pseudonym(&agent(), 3);
    assert_eq!(mine.id(), secret().pseudonym(&agent(), 3).id());
    assert!(Position::of(&mine.id()).meets(3));
    let another = secret().pseudonym(&Identity::from_secret_bytes(&[4; 32]), 3);
    let elsewhere = GroupSecret::from_bytes([8; 32]).pseudonym(&agent(), 3);
    assert!(mine.id() != another.id() && mine.id() != elsewhere.id() && mine.id() != agent().id());
}

#[test]
fn one_capability_has_one_slot_in_a_shard_and_others_have_others() {
    let slot =
        |name: &str, label: &str, seq| open(&veil(&digest(name, "x"), label, seq)).payload.slot;
    assert_eq!(slot("a", LABEL, 1), slot("a", LABEL, 2), "a newer one replaces it");
    assert_ne!(slot("a", LABEL, 1), slot("b", LABEL, 1));
    assert_ne!(slot("a", LABEL, 1), slot("a", "class/finance", 1), "labels are not linked by it");
}

#[test]
fn it_lives_no_longer_than_a_beat() {
    let digest = digest("a", "b");
    let too_long = BEAT_LIFE + Duration::from_secs(1);
    let refused = secret().veil(&digest, &agent(), &pseudonym(), LABEL, 1, NOW, NOW + too_long);
    assert!(matches!(refused, Err(RecordError::Times(_))), "{refused:?}");
    let bytes = veil(&digest, LABEL, 1);
    let late = Veiled::open(&bytes, NOW + LIFE + Duration::from_secs(120));
    assert!(matches!(late, Err(RecordError::Times(_))), "{late:?}");
}

/// Somebody without the secret takes an item apart and seals its parts anew under a key of its own, or with a newer number.
#[test]
fn parts_of_an_item_are_of_no_use_in_another() {
    let bytes = veil(&digest("a", "b"), LABEL, 1);
    let thief = Identity::from_secret_bytes(&[5; 32]);
    let payload = || open(&bytes).payload;
    let (mut newer, mut longer, mut moved) = (payload(), payload(), payload());
    newer.seq = 99;
    longer.expires = NOW + LIFE * 2;
    moved.label = open(&veil(&digest("a", "b"), "class/finance", 1)).payload.label;
    for (what, payload, signer) in [
        ("signer", payload(), &thief),
        ("number", newer, &pseudonym()),
        ("life", longer, &pseudonym()),
        ("label", moved, &pseudonym()),
    ] {
        let resealed = envelope::seal(Kind::Veiled, &payload, signer);
        let read = secret().unveil(&open(&resealed), NOW);
        assert_eq!(read.unwrap_err(), UnveilError::Sealed, "{what}");
    }
}

/// A member may not show another's digest as an item of its own.
#[test]
fn a_member_speaks_for_itself_only() {
    let digest = digest("a", "b");
    let other = Identity::from_secret_bytes(&[4; 32]);
    let mine = secret().veil(&digest, &other, &pseudonym(), LABEL, 1, NOW, NOW + LIFE).unwrap();
    let read = secret().unveil(&open(&mine), NOW).unwrap();
    assert_eq!(read.signer, other.id(), "whoever sealed the digest is its agent");
}

#[test]
fn every_label_of_a_capability_can_be_blinded() {
    let mut capability = Capability::new("merger-model").unwrap();
    capability.declare("pair", &json!("EUR/USD")).unwrap();
    let labels: Vec<String> =
        group_keys(&capability).iter().map(|key| secret().shard_label(&key.label)).collect();
    assert!(labels.len() > 1);
    for label in &labels {
        assert!(
            label.len() < 128 && !label.contains("merger") && !label.contains("EUR"),
            "{label}"
        );
    }
}

proptest! {
    #[test]
    fn an_altered_item_is_refused(at in 0_usize..MAX_VEILED, flip in 1_u8..) {
        let mut bytes = veil(&digest("a", "b"), LABEL, 1);
        let at = at % bytes.len();
        bytes[at] ^= flip;
        prop_assert!(Veiled::open(&bytes, NOW).is_err());
    }

    #[test]
    fn arbitrary_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..MAX_VEILED + 8)) {
        let opened = Veiled::open(&bytes, NOW);
        let refused = matches!(opened, Err(RecordError::Envelope(_)));
        prop_assert!(refused);
        if bytes.len() > MAX_VEILED {
            prop_assert!(matches!(opened, Err(RecordError::Envelope(EnvelopeError::TooLong { .. }))), "size first");
        }
    }
}

#[test]
fn membership_is_proved_to_one_verifier_in_one_session() {
    let (session, other_session) = (Hash([1; 32]), Hash([2; 32]));
    let (me, you) = (agent().id(), pseudonym().id());
    let proof = secret().membership(&session, &me, &you);
    assert!(secret().is_membership(&proof, &session, &me, &you));
    assert!(!secret().is_membership(&proof, &other_session, &me, &you));
    assert!(!secret().is_membership(&proof, &session, &you, &me), "it cannot be sent back");
    assert!(!secret().is_membership(&proof, &session, &me, &me));
    let other = GroupSecret::from_bytes([8; 32]);
    assert!(!other.is_membership(&proof, &session, &me, &you));
    assert_ne!(other.fingerprint(), secret().fingerprint());
    assert!(!holds(secret().fingerprint().as_bytes(), &secret().as_bytes()[..8]));
}

#[test]
fn a_member_asks_where_members_publish() {
    let mut capability = Capability::new("merger-model").unwrap();
    capability.classes = vec![comity_capability::taxonomy::resolve("fx rates").unwrap()];
    capability.declare("pair", &json!("EUR/USD")).unwrap();
    let kept: Vec<_> = private_labels(&capability)
        .iter()
        .map(|label| GroupKey::of(&secret().shard_label(label)))
        .collect();
    let mut asked = Vec::new();
    for text in ["named merger-model", "under finance", "where pair = EUR/USD", "\"merger\""] {
        let query = comity_capability::query::Query::parse_text(text).unwrap();
        let plan = private_plan(&query.plan(), &secret());
        let last = plan.steps.last().unwrap();
        assert!(last.complete && last.keys.iter().all(|key| kept.contains(&key.key)), "{text}");
        assert!(
            plan.steps
                .iter()
                .all(|step| step.keys.iter().all(|key| key.key != GroupKey::of(&key.label)))
        );
        asked.push(plan.steps.len());
    }
    assert_eq!(asked[0], 2, "a name is asked first");
    assert_eq!(asked[2..], [1, 1], "an entity and a word have no groups of their own here");
}
