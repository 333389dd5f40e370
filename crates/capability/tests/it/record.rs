//! Signed objects: limits, sizes, times, forgeries, and what a digest gives up.

use std::collections::BTreeMap;
use std::net::{Ipv6Addr, SocketAddr};
use std::time::Duration;

use comity_capability::attribute::Value;
use comity_capability::profile;
use comity_capability::record::{
    ANY_FIELD, BEAT_LIFE, Beat, Bloom, Capability, CapabilityError, DIGEST_LIFE, Declared,
    Determinism, Digest, Interface, Load, MAX_BEAT, MAX_DIGEST, MAX_PEER, MAX_RECORD,
    MAX_TOMBSTONE, PeerRecord, Record, RecordError, Reuse, Scope, Sequenced, Status, TimesError,
    Tolerance, Tombstone, Visibility, check_times, clean,
};
use comity_core::canonical::Canonical;
use comity_core::envelope::{self, Kind};
use comity_core::{Hash, Time};
use proptest::prelude::*;
use serde_json::json;

use crate::common::{NOW, advisories, airports, ecb, identity, record, value, word};

const DAY: Duration = Duration::from_secs(86_400);

fn after(time: Time, seconds: u64) -> Time {
    time + Duration::from_secs(seconds)
}

fn digest_of(capability: Capability) -> Digest {
    let record = record(vec![capability]);
    Digest::summarise(&record, 0, Hash::of(b"sealed")).unwrap()
}

#[test]
fn a_sealed_record_opens_and_yields_its_digests() {
    let mut hidden = airports();
    hidden.visibility = Visibility::Private;
    let record = record(vec![ecb(), hidden, advisories()]);
    let sealed = record.seal(&identity(1)).unwrap();
    assert!(sealed.len() < MAX_RECORD);
    let opened = Record::open(&sealed, NOW).unwrap();
    assert_eq!((opened.payload, opened.signer), (record.clone(), identity(1).id()));

    let digests = record.digests(&sealed).unwrap();
    assert_eq!(
        digests.iter().map(|d| (d.ordinal, d.name.as_str())).collect::<Vec<_>>(),
        [(0, "fx-reference-rates"), (2, "rustsec")]
    );
    for digest in digests {
        let sealed_digest = digest.seal(&identity(1));
        assert!(sealed_digest.len() <= MAX_DIGEST, "{}", sealed_digest.len());
        let opened = Digest::open(&sealed_digest, NOW).unwrap();
        assert_eq!(opened.payload, digest);
        assert_eq!(opened.payload.record, Hash::of(&sealed));
    }
    assert_eq!(
        Digest::summarise(&record, 1, Hash::of(&sealed)),
        Err(RecordError::Private { name: "airports".into() })
    );
    assert_eq!(
        Digest::summarise(&record, 9, Hash::of(&sealed)),
        Err(RecordError::NoSuchCapability { ordinal: 9 })
    );
}

#[test]
fn the_example_digests_keep_what_queries_ask() {
    let digest = digest_of(ecb());
    for key in ["fin:pair", "schema:temporalCoverage", "dcat:temporalResolution"] {
        assert!(
            matches!(digest.declared(key), Declared::Value(_)),
            "{key} in {:?}",
            digest.omitted
        );
    }
    assert!(digest.idempotent() && !digest.streaming() && !digest.cacheable());
    assert!(
        digest.may_have_tag("FX")
            && digest.may_have_tag("ecb")
            && !digest.may_have_tag("synthetic")
    );
    assert_eq!(digest.declared("fin:base"), Declared::Undeclared);
    assert_eq!(digest.interface, ecb().interface.digest());
    // Small is what keeps a shard of a thousand digests in one answer.
    for (capability, most) in [(ecb(), MAX_DIGEST), (airports(), 430), (advisories(), 430)] {
        let len = digest_of(capability).seal(&identity(1)).len();
        assert!((300..=most).contains(&len), "{len}");
    }
    let digest = digest_of(airports());
    assert!(matches!(digest.declared("schema:spatialCoverage"), Declared::Value(Value::Geo(_))));
}

#[test]
fn a_digest_gives_up_the_title_then_the_least_selective() {
    let mut capability = ecb();
    capability.title = "T".repeat(96);
    let pairs: Vec<String> = (0..16u8).map(|n| format!("EUR/XX{}", char::from(b'A' + n))).collect();
    capability.declare("pair", &json!(pairs)).unwrap();
    capability.declare("synthetic", &json!(false)).unwrap();
    let digest = digest_of(capability);
    assert!(digest.truncated() && digest.title.is_empty());
    assert!(matches!(digest.declared("fin:pair"), Declared::Value(_)));
    assert!(!digest.omitted.is_empty());
    let kept = digest
        .attributes
        .keys()
        .map(|key| profile::lookup(key).unwrap().selectivity)
        .min()
        .unwrap();
    let lost =
        digest.omitted.iter().map(|key| profile::lookup(key).unwrap().selectivity).max().unwrap();
    assert!(lost <= kept, "{:?} was given up for {:?}", digest.omitted, digest.attributes);
    for key in &digest.omitted {
        assert_eq!(digest.declared(key), Declared::Omitted);
    }
    assert_eq!(digest.declared("bio:gene"), Declared::Undeclared);

    let mut capability = Capability::new("many").unwrap();
    capability.visibility = Visibility::Public;
    for n in 0..20 {
        capability.declare(&format!("my:key{n}"), &json!(n)).unwrap();
    }
    let digest = digest_of(capability);
    assert_eq!(
        digest.declared("my:other"),
        Declared::Omitted,
        "a key that is not listed may be among those given up"
    );
    assert_eq!(digest.declared("bio:gene"), Declared::Undeclared);
}

#[test]
fn limits_are_enforced_where_declarations_are_made_and_read() {
    for bad in ["", "Upper", "sp ace", "é", "x".repeat(65).as_str()] {
        assert!(matches!(Capability::new(bad), Err(CapabilityError::Name { .. })), "{bad}");
    }
    let broken: [fn(&mut Capability); 8] = [
        |c| c.text = "x".repeat(513),
        |c| c.title = "bidi \u{202E}".into(),
        |c| c.text = "zero\u{200B}width".into(),
        |c| c.title = "e\u{301}".into(),
        |c| c.examples = vec![String::new(); 6],
        |c| c.classes = vec!["a".parse().unwrap(); 5],
        |c| {
            c.attributes.insert("fin:pair".into(), Value::Set(["EURUSD".to_owned()].into()));
        },
        |c| {
            c.attributes.insert("pair".into(), Value::Text("EUR/USD".into()));
        },
    ];
    for (index, breaks) in broken.into_iter().enumerate() {
        let mut capability = ecb();
        breaks(&mut capability);
        assert!(capability.check().is_err(), "case {index}");
        assert!(Capability::decode(&capability.encode()).is_err(), "case {index}");
        let record = record(vec![capability]);
        assert!(record.seal(&identity(1)).is_err(), "case {index}");
        // Signed by somebody who skips the checks.
        let forced = envelope::seal(Kind::Record, &record, &identity(1));
        assert!(
            matches!(Record::open(&forced, NOW), Err(RecordError::Envelope(_))),
            "case {index}"
        );
    }
    assert_eq!(
        record(vec![ecb(), ecb()]).check(),
        Err(RecordError::SameName { name: "fx-reference-rates".into() })
    );
    let bulky = (0..32).map(|n| {
        let mut capability = Capability::new(&format!("c{n}")).unwrap();
        capability.visibility = Visibility::Public;
        capability.text = "x".repeat(500);
        capability
    });
    assert!(matches!(
        record(bulky.collect()).seal(&identity(1)),
        Err(RecordError::TooLarge { .. })
    ));
}

#[test]
fn interfaces_are_named_by_what_they_say() {
    let a = Interface::new(&json!({"type": "object", "minimum": 1.0}), &json!(true)).unwrap();
    let b = Interface::new(&json!({"minimum": 1, "type": "object"}), &json!(true)).unwrap();
    assert_eq!((a.digest(), &a), (b.digest(), &b));
    assert_ne!(a.digest(), Interface::default().digest());
    assert_eq!(
        a.digest(),
        comity_core::Sha256Digest::of(
            &comity_core::canonical::from_json(
                &json!({"output": true, "input": {"type": "object", "minimum": 1}})
            )
            .unwrap()
        )
    );
    assert_eq!(a.input_schema(), json!({"minimum": 1, "type": "object"}));
    assert!(Interface::default().is_unconstrained() && !a.is_unconstrained());
    assert!(Interface::new(&json!([]), &json!(true)).is_err());
    assert!(Interface::new(&json!({"title": "x".repeat(5000)}), &json!(true)).is_err());
}

#[test]
fn the_descriptor_hash_follows_the_content() {
    assert_eq!(ecb().hash(), ecb().hash());
    let mut other = ecb();
    other.streaming = true;
    assert_ne!(other.hash(), ecb().hash());
    assert_eq!(Capability::decode(&ecb().encode()).unwrap(), ecb());
}

#[test]
fn times_allow_for_two_minutes_of_skew() {
    let (issued, expires) = (NOW, after(NOW, 3600));
    let check = |now| check_times(issued, expires, now, DIGEST_LIFE);
    assert_eq!(check(NOW), Ok(()));
    assert_eq!(check(Time(NOW.0 - 120_000_000)), Ok(()));
    assert!(matches!(check(Time(NOW.0 - 120_000_001)), Err(TimesError::NotYet { .. })));
    assert_eq!(check(Time(expires.0 + 119_999_999)), Ok(()));
    assert!(matches!(check(after(expires, 120)), Err(TimesError::Expired { .. })));
    assert_eq!(check_times(NOW, NOW + DIGEST_LIFE, NOW, DIGEST_LIFE), Ok(()));
    let long = NOW + DIGEST_LIFE + Duration::from_millis(1);
    assert!(matches!(
        check_times(NOW, long, NOW, DIGEST_LIFE),
        Err(TimesError::TooLongLived { .. })
    ));
    assert!(matches!(check_times(NOW, NOW, NOW, DIGEST_LIFE), Err(TimesError::Never { .. })));
    assert_eq!(check_times(Time::ZERO, Time::MAX, NOW, Duration::MAX), Ok(()));
}

#[test]
fn a_key_that_was_succeeded_has_a_successor_and_nothing_else() {
    let (me, heir) = (identity(3), identity(4));
    let moved = PeerRecord::succeeded(9, NOW, NOW + DAY, &heir.id());
    let sealed = moved.seal(&me);
    assert!(sealed.len() <= MAX_PEER);
    let opened = PeerRecord::open(&sealed, NOW).unwrap().payload;
    assert_eq!(opened.successor, Some(*heir.id().as_bytes()));
    assert!(opened.addrs.is_empty() && !opened.server);
    let (mut reached, mut serving) = (moved.clone(), moved);
    reached.addrs.push("192.0.2.1:1".parse().unwrap());
    serving.server = true;
    for lie in [reached, serving] {
        assert!(matches!(PeerRecord::open(&lie.seal(&me), NOW), Err(RecordError::Envelope(_))));
    }
}

#[test]
fn every_kind_refuses_what_is_expired_altered_oversized_or_of_another_kind() {
    let me = identity(3);
    let late = after(NOW, 40 * 3600);
    let tombstone = Tombstone::new(9, NOW, NOW + DAY, Some("fx".into())).unwrap();
    let peer = PeerRecord::new(9, NOW, NOW + DAY, &["192.0.2.1:1".parse().unwrap(); 12], true);
    assert_eq!(peer.addrs.len(), 8);
    let beat = Beat::new(9, NOW, NOW + BEAT_LIFE, Status::Warm, Load::Busy);
    let sealed: [(Vec<u8>, fn(&[u8], Time) -> Result<(), RecordError>, usize); 5] = [
        (
            record(vec![ecb()]).seal(&me).unwrap(),
            |b, now| Record::open(b, now).map(drop),
            MAX_RECORD,
        ),
        (digest_of(ecb()).seal(&me), |b, now| Digest::open(b, now).map(drop), MAX_DIGEST),
        (beat.seal(&me), |b, now| Beat::open(b, now).map(drop), MAX_BEAT),
        (tombstone.seal(&me), |b, now| Tombstone::open(b, now).map(drop), MAX_TOMBSTONE),
        (peer.seal(&me), |b, now| PeerRecord::open(b, now).map(drop), MAX_PEER),
    ];
    for (index, (bytes, open, limit)) in sealed.iter().enumerate() {
        assert!(bytes.len() <= *limit);
        assert_eq!(open(bytes, NOW), Ok(()), "{index}");
        assert!(
            matches!(open(bytes, late), Err(RecordError::Times(TimesError::Expired { .. }))),
            "{index}"
        );
        for at in (0..bytes.len()).step_by(7) {
            let mut altered = bytes.clone();
            altered[at] ^= 0x10;
            assert!(
                matches!(open(&altered, NOW), Err(RecordError::Envelope(_))),
                "{index} at {at}"
            );
        }
        assert!(open(&bytes[..bytes.len() - 1], NOW).is_err());
        assert!(open(&[bytes.as_slice(), &vec![0; *limit]].concat(), NOW).is_err());
        for (other, (_, open_other, _)) in sealed.iter().enumerate() {
            assert_eq!(open_other(bytes, NOW).is_ok(), index == other, "{index} opened as {other}");
        }
    }
    assert!((140..=180).contains(&sealed[2].0.len()), "a beat has {} bytes", sealed[2].0.len());
}

#[test]
fn a_beat_may_not_promise_more_than_its_life() {
    let beat =
        Beat::new(1, NOW, NOW + BEAT_LIFE + Duration::from_secs(1), Status::Cold, Load::Idle);
    assert!(matches!(
        Beat::open(&beat.seal(&identity(1)), NOW),
        Err(RecordError::Times(TimesError::TooLongLived { .. }))
    ));
}

#[test]
fn tombstones_cover_older_digests() {
    let one = Tombstone::new(9, NOW, NOW + DAY, Some("fx".into())).unwrap();
    assert!(
        one.covers("fx", 9)
            && one.covers("fx", 3)
            && !one.covers("fx", 10)
            && !one.covers("other", 3)
    );
    let all = Tombstone::new(9, NOW, NOW + DAY, None).unwrap();
    assert!(all.covers("other", 9) && !all.covers("other", 10));
    assert!(Tombstone::new(9, NOW, NOW + DAY, Some("Not a name".into())).is_err());
}

#[test]
fn the_newest_wins() {
    let beat =
        |seq, at| Beat::new(seq, after(NOW, at), after(NOW, at + 60), Status::Warm, Load::Idle);
    assert!(beat(2, 0).replaces(&beat(1, 50)));
    assert!(beat(2, 10).replaces(&beat(2, 0)));
    assert!(!beat(2, 0).replaces(&beat(2, 0)) && !beat(1, 99).replaces(&beat(2, 0)));
}

#[test]
fn digests_of_newer_profiles_survive() {
    // Attribute number 60000 is in no profile of this program: it is kept and re-encodes to the same bytes.
    let mut digest = digest_of(advisories());
    digest.attributes = BTreeMap::from([("#60000".to_owned(), Value::Int(1))]).into();
    let bytes = digest.encode();
    let read = Digest::decode(&bytes).unwrap();
    assert_eq!((read.encode(), &read), (bytes, &digest));
}

#[test]
fn the_filter_forgets_nothing_and_rarely_invents() {
    let mut filter = Bloom::default();
    let words: Vec<String> = (0..24).map(|n| format!("word{n}")).collect();
    words.iter().for_each(|word| filter.insert(word));
    assert!(words.iter().all(|word| filter.may_contain(word)));
    let invented = (0..10_000).filter(|n| filter.may_contain(&format!("other{n}"))).count();
    assert!(invented < 300, "{invented} of 10000");
}

#[test]
fn cleaning_leaves_no_hidden_text() {
    assert_eq!(clean("  a\t\u{202E}b\u{200B}\r\n\u{E0041}c  ", 512), "a b c");
    assert_eq!(clean("é".repeat(10).as_str(), 5), "éé");
    assert_eq!(clean("e\u{301}", 10), "\u{e9}");
}

/// Any capability that declarations allow.
fn capability() -> impl Strategy<Value = Capability> {
    let class = prop_oneof![
        (0u32..=u32::MAX).prop_map(|uid| format!("oasf1.1:domain/{uid}")),
        (0u32..=u32::MAX).prop_map(|uid| format!("comity1:skill/{uid}")),
        "[a-z:]{1,64}",
    ];
    let known = prop::collection::vec((any::<prop::sample::Index>(), value()), 0..24);
    let own = prop::collection::vec(("[a-zA-Z0-9:._-]{1,64}", value()), 0..24);
    (
        "[a-z0-9._-]{1,64}",
        "\\PC{0,60}",
        prop::collection::vec(class, 0..=4),
        prop::collection::btree_set(word(), 0..10),
        known,
        own,
        any::<[bool; 2]>(),
    )
        .prop_map(|(name, title, classes, tags, known, own, flags)| {
            let mut capability = Capability::new(&name).unwrap();
            capability.visibility = Visibility::Public;
            capability.title = clean(&title, 96);
            capability.classes = classes.iter().filter_map(|class| class.parse().ok()).collect();
            capability.tags = tags.into_iter().map(|tag| clean(&tag, 32)).collect();
            [capability.idempotent, capability.streaming] = flags;
            for (index, value) in known {
                let spec = &profile::keys()[index.index(profile::keys().len())];
                let _ = capability.declare(spec.key, &value.to_json());
            }
            for (key, value) in own.into_iter().filter(|(key, _)| profile::lookup(key).is_none()) {
                let _ = capability.declare(&key, &value.to_json());
            }
            capability
        })
}

fn addrs() -> impl Strategy<Value = Vec<SocketAddr>> {
    let v4 = (any::<[u8; 4]>(), any::<u16>()).prop_map(|(ip, port)| SocketAddr::from((ip, port)));
    let v6 = (any::<u128>(), any::<u16>())
        .prop_map(|(ip, port)| SocketAddr::from((Ipv6Addr::from(ip), port)));
    prop::collection::vec(prop_oneof![v4, v6], 0..=8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_digest_fits_and_reads_back(capability in capability(), endpoints in addrs(), seq in any::<u64>(), ordinal_pad in 0u8..2) {
        let mut record = record(vec![capability.clone()]);
        record.endpoints = endpoints;
        record.seq = seq;
        if ordinal_pad == 1 {
            record.capabilities.insert(0, Capability::new("zz.first").unwrap());
        }
        let digest = Digest::summarise(&record, ordinal_pad.into(), Hash::of(b"x")).unwrap();
        let sealed = digest.seal(&identity(2));
        prop_assert!(sealed.len() <= MAX_DIGEST, "{} bytes", sealed.len());
        prop_assert_eq!(&Digest::open(&sealed, NOW).unwrap().payload, &digest);
        for (key, value) in &capability.attributes {
            // Never "undeclared" what is declared.
            match digest.declared(key) {
                Declared::Value(kept) => prop_assert_eq!(kept, value),
                other @ (Declared::Omitted | Declared::Undeclared) => prop_assert_eq!(other, Declared::Omitted),
            }
        }
        prop_assert_eq!(digest.truncated(), digest.title != capability.title
            || digest.attributes != capability.attributes || digest.endpoints != record.endpoints || digest.classes != capability.classes);
    }

    #[test]
    fn any_record_reads_back(capability in capability(), endpoints in addrs()) {
        let mut record = record(vec![capability]);
        record.endpoints = endpoints;
        prop_assert_eq!(Record::decode(&record.encode()).unwrap(), record);
    }

    #[test]
    fn decoding_arbitrary_bytes_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = (Record::decode(&bytes), Digest::decode(&bytes), Capability::decode(&bytes));
        let _ = (Beat::decode(&bytes), Tombstone::decode(&bytes), PeerRecord::decode(&bytes));
    }

    #[test]
    fn decoding_altered_payloads_never_panics_and_stays_canonical(capability in capability(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = digest_of(capability).encode();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(digest) = Digest::decode(&bytes) {
            prop_assert_eq!(digest.encode(), bytes);
        }
    }
}

#[test]
fn how_answers_are_reused_is_part_of_the_descriptor_and_of_nothing_that_leaves_it_out() {
    let plain = Capability::new("rates").unwrap();
    let mut shared = plain.clone();
    shared.reuse = Some(Reuse {
        scope: Scope::Public,
        determinism: Determinism::Comparable,
        tolerances: [(ANY_FIELD.to_owned(), Tolerance { relative_ppm: 5, absolute_nano: 0 })]
            .into(),
        closed_until_ms: Some(1_735_689_600_000),
        time_field: Some("time".to_owned()),
        sources: ["ecb".to_owned()].into(),
    });
    assert_eq!(Capability::decode(&shared.encode()).unwrap(), shared);
    assert_ne!(plain.hash(), shared.hash());
    assert_eq!(shared.reuse.as_ref().unwrap().tolerance("close").relative_ppm, 5);
    assert_eq!(shared.to_json()["reuse"]["scope"], "public");
    assert_eq!(plain.to_json()["reuse"], serde_json::Value::Null);
}

#[test]
fn contradictory_reuse_is_refused() {
    let tolerances = [("x".to_owned(), Tolerance::default())].into();
    let wrong = [
        Reuse { tolerances, determinism: Determinism::Exact, ..Reuse::default() },
        Reuse { closed_until_ms: Some(1), determinism: Determinism::Exact, ..Reuse::default() },
        Reuse { scope: Scope::Public, ..Reuse::default() },
        Reuse { sources: (0..9).map(|i| i.to_string()).collect(), ..Reuse::default() },
        Reuse { time_field: Some("a\u{202e}b".to_owned()), ..Reuse::default() },
    ];
    for reuse in wrong {
        let mut capability = Capability::new("rates").unwrap();
        capability.reuse = Some(reuse);
        assert!(matches!(capability.check(), Err(CapabilityError::Reuse { .. })), "{capability:?}");
        assert!(Capability::decode(&capability.encode()).is_err());
    }
}
