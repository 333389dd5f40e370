//! Deterministic CBOR of typed payloads: whatever is spelled another way is refused, by name.

use std::collections::BTreeMap;

use comity_core::canonical::{Floats, MAX_DEPTH, Version, check};
use comity_core::{AgentId, Canonical, DecodeError, Hash, Identity, Time};
use proptest::prelude::*;

use crate::vectors::hex;

#[derive(Clone, Debug, PartialEq, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
struct Sample {
    #[n(0)]
    version: Version<1>,
    #[n(1)]
    number: u64,
    #[n(2)]
    text: Option<String>,
    #[cbor(n(3), with = "comity_core::canonical::sorted_map")]
    map: BTreeMap<String, i64>,
    #[n(24)]
    hash: Option<Hash>,
}
comity_core::impl_canonical!(Sample);

fn sample() -> Sample {
    Sample { version: Version, number: 300, text: None, map: BTreeMap::new(), hash: None }
}

fn decode(hex_text: &str) -> Result<Sample, DecodeError> {
    Sample::decode(&hex(hex_text))
}

#[test]
fn the_encoding_is_the_one_expected() {
    assert_eq!(sample().encode(), hex("a300010119012c03a0"));
    let text = Sample { text: Some("hi".into()), ..sample() };
    assert_eq!(text.encode(), hex("a400010119012c0262686903a0"));
}

#[test]
fn every_other_spelling_is_refused_by_name() {
    assert_eq!(decode("a300010119012c03a0"), Ok(sample()));
    let cases = [
        ("a300010119012c03a000", DecodeError::Trailing { offset: 9, count: 1 }),
        ("a300010119012c03", DecodeError::Truncated { offset: 8 }),
        ("", DecodeError::Truncated { offset: 0 }),
        ("b80300010119012c03a0", DecodeError::NotShortest { offset: 0 }),
        ("a30001011a0000012c03a0", DecodeError::NotShortest { offset: 4 }),
        ("a31800010119012c03a0", DecodeError::NotShortest { offset: 1 }),
        ("bf00010119012c03a0ff", DecodeError::Indefinite { offset: 0 }),
        ("a400010119012c0119012c03a0", DecodeError::DuplicateKey { offset: 7 }),
        ("a30119012c000103a0", DecodeError::UnsortedKey { offset: 5 }),
        ("a400010119012c02f603a0", DecodeError::NotCanonical),
        ("a400010119012c03a00400", DecodeError::NotCanonical),
        ("a300010119012c03c1a0", DecodeError::Forbidden { offset: 8, what: "a tag" }),
        (
            "a3000101f93e0003a0",
            DecodeError::Forbidden { offset: 4, what: "a floating-point number" },
        ),
        ("a3000101f7", DecodeError::Forbidden { offset: 4, what: "a simple value" }),
        ("a30001011c", DecodeError::Forbidden { offset: 4, what: "a reserved head" }),
        ("ff", DecodeError::Forbidden { offset: 0, what: "a break" }),
        ("a1f400", DecodeError::Forbidden { offset: 1, what: "a map key of this type" }),
        ("a400010119012c0262ff6803a0", DecodeError::Utf8 { offset: 8 }),
        ("a400010119012c03a261610161610218180a", DecodeError::DuplicateKey { offset: 12 }),
        ("9bffffffffffffffff", DecodeError::Truncated { offset: 9 }),
        ("5bffffffffffffffff", DecodeError::Truncated { offset: 9 }),
    ];
    for (bytes, expected) in cases {
        assert_eq!(decode(bytes), Err(expected), "{bytes}");
    }
}

#[test]
fn other_types_and_versions_are_refused_with_a_reason() {
    for (bytes, reason) in [
        ("a30002011903e803a0", "version 2"),
        ("a2000103a0", "missing"),
        ("a300010161610 3a0", ""),
        ("a400010119012c03a0181841aa", "Hash has 32 bytes"),
    ] {
        let error = decode(&bytes.replace(' ', "")).unwrap_err();
        let DecodeError::Type { reason: found } = &error else { panic!("{bytes}: {error}") };
        assert!(found.contains(reason), "{found}");
    }
}

#[test]
fn maps_with_text_keys_are_sorted_by_encoding() {
    let map = BTreeMap::from([("aa".to_owned(), 1), ("b".to_owned(), 2)]);
    let sample = Sample { map, ..sample() };
    assert_eq!(sample.encode(), hex("a300010119012c03a261620262616101"));
    assert_eq!(Sample::decode(&sample.encode()), Ok(sample));
    assert_eq!(
        decode("a300010119012c03a262616101616202"),
        Err(DecodeError::UnsortedKey { offset: 13 })
    );
}

#[test]
fn nesting_is_bounded_before_it_can_hurt() {
    let nested = |levels: usize| [vec![0x81; levels], vec![0x00]].concat();
    assert_eq!(check(&nested(MAX_DEPTH), MAX_DEPTH, Floats::Refused), Ok(()));
    let error = DecodeError::TooDeep { offset: MAX_DEPTH, max: MAX_DEPTH };
    assert_eq!(check(&nested(MAX_DEPTH + 1), MAX_DEPTH, Floats::Refused), Err(error.clone()));
    assert_eq!(check(&nested(1_000_000), MAX_DEPTH, Floats::Refused), Err(error));
}

#[test]
fn a_key_inside_a_payload_passes_intake() {
    #[derive(Debug, PartialEq, minicbor::Encode, minicbor::Decode)]
    #[cbor(map)]
    struct Named {
        #[n(0)]
        agent: AgentId,
        #[n(1)]
        at: Time,
    }
    comity_core::impl_canonical!(Named);
    let named = Named { agent: Identity::from_secret_bytes(&[1; 32]).id(), at: Time(5) };
    assert_eq!(Named::decode(&named.encode()), Ok(named));
    let weak = format!("a2005820{}{}0105", "01", "00".repeat(31));
    let error = Named::decode(&hex(&weak)).unwrap_err();
    assert!(
        matches!(&error, DecodeError::Type { reason } if reason.contains("small order")),
        "{error}"
    );
}

fn any_sample() -> impl Strategy<Value = Sample> {
    let map = prop::collection::btree_map("[a-z]{0,30}", any::<i64>(), 0..8);
    let hash = prop::option::of(any::<[u8; 32]>().prop_map(Hash));
    (any::<u64>(), prop::option::of(".{0,40}"), map, hash)
        .prop_map(|(number, text, map, hash)| Sample { version: Version, number, text, map, hash })
}

proptest! {
    #[test]
    fn values_round_trip(sample in any_sample()) {
        let bytes = sample.encode();
        prop_assert_eq!(check(&bytes, MAX_DEPTH, Floats::Refused), Ok(()));
        prop_assert_eq!(Sample::decode(&bytes), Ok(sample));
    }

    /// A second implementation agrees about what a well-formed item is, and ours accepts no other spelling of it.
    #[test]
    fn accepted_bytes_are_the_only_spelling(sample in any_sample(), at: prop::sample::Index, with: u8) {
        let mut bytes = sample.encode();
        let at = at.index(bytes.len());
        bytes[at] = with;
        match Sample::decode(&bytes) {
            Ok(changed) => {
                prop_assert_eq!(changed.encode(), bytes.clone());
                prop_assert!(ciborium::from_reader::<ciborium::Value, _>(&bytes[..]).is_ok());
            }
            Err(_) => prop_assert_ne!(bytes, sample.encode()),
        }
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let checked = check(&bytes, MAX_DEPTH, Floats::Shortest);
        if checked.is_ok() {
            prop_assert!(ciborium::from_reader::<ciborium::Value, _>(&bytes[..]).is_ok());
        }
        if let Ok(sample) = Sample::decode(&bytes) {
            prop_assert_eq!(sample.encode(), bytes);
        }
    }
}
