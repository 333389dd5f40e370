//! Canonical requests: equal questions have equal bytes, and bytes lead back to the question.

use comity_core::canonical::{JsonError, MAX_JSON_DEPTH, from_json, hash_json, to_json};
use comity_core::{DecodeError, Hash};
use proptest::prelude::*;
use serde_json::{Number, Value, json};

use crate::vectors::{self, hex};

#[test]
fn the_encoding_agrees_with_an_independent_implementation() {
    for row in vectors::rows(&vectors::json(), "cases") {
        let value: Value = serde_json::from_str(vectors::text(row, "json")).unwrap();
        let bytes = from_json(&value).unwrap();
        assert_eq!(bytes, vectors::bytes(row, "cbor"), "{value}");
        assert_eq!(hash_json(&value).unwrap().to_string(), vectors::text(row, "hash"));
        assert_eq!(from_json(&to_json(&bytes).unwrap()).unwrap(), bytes, "{value}");
    }
}

/// RFC 8949, appendix A: the floats that this encoding can produce.
#[test]
fn floats_are_those_of_rfc_8949() {
    for (text, expected) in [
        ("1.1", "fb3ff199999999999a"),
        ("1.5", "f93e00"),
        ("3.4028234663852886e+38", "fa7f7fffff"),
        ("1.0e+300", "fb7e37e43c8800759c"),
        ("5.960464477539063e-8", "f90001"),
        ("0.00006103515625", "f90400"),
        ("-4.1", "fbc010666666666666"),
    ] {
        let value: Value = serde_json::from_str(text).unwrap();
        assert_eq!(from_json(&value).unwrap(), hex(expected), "{text}");
        assert_eq!(to_json(&hex(expected)).unwrap(), value, "{text}");
    }
}

#[test]
fn equal_questions_have_equal_hashes() {
    let same = [
        r#"{"limit":100,"pair":"EUR/USD","span":[0,1]}"#,
        "{ \"pair\" : \"EUR\\/USD\",\n \"span\":[-0.0, 1.0], \"limit\": 1e2 }",
        r#"{"span":[0.0,1e0],"limit":100.0,"pair":"\u0045UR/USD"}"#,
    ];
    let hash = |text: &str| hash_json(&serde_json::from_str(text).unwrap()).unwrap();
    assert_eq!(hash(same[0]), hash(same[1]));
    assert_eq!(hash(same[0]), hash(same[2]));
    for other in [
        r#"{"limit":100,"pair":"EUR/USD","span":[1,0]}"#,
        r#"{"limit":"100","pair":"EUR/USD","span":[0,1]}"#,
        r#"{"limit":100.5,"pair":"EUR/USD","span":[0,1]}"#,
        r#"{"limit":100,"pair":"EUR/USD","span":[0,true]}"#,
        r#"{"limit":100,"pair":"EUR/USD","span":[0,1],"x":null}"#,
    ] {
        assert_ne!(hash(same[0]), hash(other), "{other}");
    }
}

/// Composed and decomposed u-umlaut: strings are taken as they are, so that no Unicode table is part of a hash.
#[test]
fn strings_are_not_normalised() {
    assert_ne!(hash_json(&json!("\u{fc}")), hash_json(&json!("u\u{308}")));
}

#[test]
fn integers_keep_the_range_of_both_64_bit_types() {
    for value in [
        json!(u64::MAX),
        json!(i64::MIN),
        json!(i64::MAX),
        json!(0),
        json!(-1),
        json!((1u64 << 53) + 1),
    ] {
        assert_eq!(to_json(&from_json(&value).unwrap()).unwrap(), value);
    }
    let edge = 9_007_199_254_740_992.0;
    assert_eq!(from_json(&json!(edge)), from_json(&json!(1u64 << 53)));
    assert_eq!(from_json(&json!(-edge)), from_json(&json!(-(1i64 << 53))));
    assert_ne!(from_json(&json!(edge * 2.0)), from_json(&json!(1u64 << 54)));
}

#[test]
fn depth_is_bounded_on_both_sides() {
    let nested = |levels: usize| (0..levels).fold(json!(0), |inner, _| json!([inner]));
    let deepest = from_json(&nested(MAX_JSON_DEPTH)).unwrap();
    assert_eq!(to_json(&deepest).unwrap(), nested(MAX_JSON_DEPTH));
    assert_eq!(from_json(&nested(MAX_JSON_DEPTH + 1)), Err(JsonError::TooDeep));
    let too_deep = [vec![0x81], deepest].concat();
    assert!(matches!(to_json(&too_deep), Err(DecodeError::TooDeep { .. })));
    let objects = (0..=MAX_JSON_DEPTH).fold(json!(0), |inner, _| json!({ "a": inner }));
    assert_eq!(from_json(&objects), Err(JsonError::TooDeep));
}

#[test]
fn bytes_that_no_json_makes_are_refused() {
    for (bytes, what) in [
        ("4101", "a byte string"),
        ("a10102", "a map key that is a number"),
        ("3bffffffffffffffff", "an integer below 64 bits"),
        ("c100", "a tag"),
        ("f7", "undefined"),
        ("f97e00", "not a number"),
        ("f97c00", "infinity"),
        ("fb7ff8000000000000", "not a number, wide"),
        ("f93c00", "one, as a float"),
        ("f98000", "negative zero"),
        ("fa3fc00000", "one and a half, too wide"),
        ("fb3ff8000000000000", "one and a half, much too wide"),
        ("fb4340000000000000", "2^53, as a float"),
        ("a2616202616101", "keys out of order"),
        ("a2616101616102", "a key twice"),
        ("a262616101616201", "a longer key first"),
        ("9f01ff", "an indefinite array"),
        ("7f6161ff", "an indefinite text"),
        ("1801", "a long one"),
        ("780161", "a long length"),
        ("0000", "two items"),
        ("82 00", "half an array"),
        ("61ff", "no UTF-8"),
        ("62c3", "half a character"),
    ] {
        let bytes = hex(&bytes.replace(' ', ""));
        assert!(to_json(&bytes).is_err(), "{what}: {:?}", to_json(&bytes));
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let float = any::<f64>().prop_filter_map("finite", Number::from_f64).prop_map(Value::Number);
    let narrow = any::<f32>()
        .prop_filter_map("finite", |f| Number::from_f64(f.into()))
        .prop_map(Value::Number);
    let quarter = any::<i16>().prop_map(|n| json!(f64::from(n) / 4.0));
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (-300i64..300).prop_map(Value::from),
        float,
        narrow,
        quarter,
        ".{0,30}".prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 64, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
            prop::collection::btree_map(".{0,12}", inner, 0..8)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// Rewrites a value without changing what it means: integers within 2^53 become floats.
fn respell(value: &Value) -> Value {
    match value {
        Value::Number(number) => match number.as_i64() {
            #[allow(clippy::cast_precision_loss, reason = "every integer within 2^53 has a float")]
            Some(integer) if integer.unsigned_abs() <= 1 << 53 => json!(integer as f64),
            _ => value.clone(),
        },
        Value::Array(items) => items.iter().map(respell).collect(),
        Value::Object(entries) => Value::Object(
            entries.iter().rev().map(|(key, value)| (key.clone(), respell(value))).collect(),
        ),
        Value::Null | Value::Bool(_) | Value::String(_) => value.clone(),
    }
}

proptest! {
    #[test]
    fn bytes_round_trip(value in any_json()) {
        let bytes = from_json(&value).unwrap();
        let back = to_json(&bytes).unwrap();
        prop_assert_eq!(hash_json(&value).unwrap(), Hash::of(&bytes));
        prop_assert_eq!(from_json(&back).unwrap(), bytes);
    }

    #[test]
    fn respelled_questions_have_the_same_hash(value in any_json()) {
        prop_assert_eq!(hash_json(&respell(&value)), hash_json(&value));
    }

    #[test]
    fn text_round_trip_keeps_the_hash(value in any_json()) {
        let text = serde_json::to_string_pretty(&to_json(&from_json(&value).unwrap()).unwrap()).unwrap();
        let back: Value = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(hash_json(&back), hash_json(&value));
    }

    /// A second decoder reads the same structure out of the bytes.
    #[test]
    fn ciborium_reads_the_same(value in any_json()) {
        let read: ciborium::Value = ciborium::from_reader(&from_json(&value).unwrap()[..]).unwrap();
        let as_json = read.deserialized::<Value>().unwrap();
        prop_assert_eq!(hash_json(&as_json), hash_json(&value));
    }

    #[test]
    fn no_bytes_panic_and_none_have_two_meanings(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        if let Ok(value) = to_json(&bytes) {
            prop_assert_eq!(from_json(&value).unwrap(), bytes);
        }
    }

    #[test]
    fn a_changed_byte_is_another_value_or_none(value in any_json(), at: prop::sample::Index, with: u8) {
        let mut bytes = from_json(&value).unwrap();
        let at = at.index(bytes.len());
        bytes[at] = with;
        if let Ok(changed) = to_json(&bytes) {
            prop_assert_eq!(from_json(&changed).unwrap(), bytes);
        }
    }
}
