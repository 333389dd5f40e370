//! Values: wire, JSON and text forms; comparison; exactness.

use std::cmp::Ordering;

use comity_capability::attribute::{Decimal, Geo, Period, Value, ValueError, ValueKind};
use comity_core::canonical::{decode_minicbor, encode_minicbor};
use proptest::prelude::*;
use serde_json::json;

use crate::common::{decimal, geo, period, value};

fn read(kind: ValueKind, raw: serde_json::Value) -> Value {
    Value::from_json(kind, &raw).unwrap_or_else(|error| panic!("{raw}: {error}"))
}

fn compare(kind: ValueKind, a: &str, b: &str) -> Option<Ordering> {
    read(kind, json!(a)).compare(&read(kind, json!(b)))
}

#[test]
fn wire_form_is_an_array_of_kind_and_payload() {
    let bytes = |value: &Value| {
        encode_minicbor(value).iter().map(|b| format!("{b:02x}")).collect::<String>()
    };
    assert_eq!(bytes(&read(ValueKind::Bool, json!(true))), "8200f5");
    assert_eq!(bytes(&read(ValueKind::Int, json!(-3))), "820122");
    assert_eq!(bytes(&read(ValueKind::Dec, json!("0.0010"))), "8202820103");
    assert_eq!(bytes(&read(ValueKind::Set, json!(["b", "a"]))), "82048261616162");
    assert_eq!(bytes(&read(ValueKind::Duration, json!("PT1M"))), "82081a03938700");
    assert_eq!(bytes(&read(ValueKind::Interval, json!("1970-01-01/.."))), "82078200f6");
    assert_eq!(bytes(&read(ValueKind::Money, json!("1.5 usd"))), "820a830f0163555344");
}

#[test]
fn numbers_are_exact() {
    assert!(read(ValueKind::Dec, json!(0.1)).same(&read(ValueKind::Dec, json!("0.10"))));
    assert!(read(ValueKind::Dec, json!(1e-7)).same(&read(ValueKind::Dec, json!("0.0000001"))));
    assert_eq!(compare(ValueKind::Dec, "0.30000000000000001", "0.3"), Some(Ordering::Greater));
    assert!(read(ValueKind::Int, json!(5)).same(&read(ValueKind::Dec, json!("5.000"))));
    assert_eq!(
        read(ValueKind::Int, json!(5)).compare(&read(ValueKind::Dec, json!("5.5"))),
        Some(Ordering::Less)
    );
    assert!(Value::from_json(ValueKind::Dec, &json!("1234567890123456789.5")).is_err());
    assert!(Value::from_json(ValueKind::Int, &json!(1.5)).is_err());
    assert_eq!(read(ValueKind::Int, json!(i64::MIN)), Value::Int(i64::MIN));
}

#[test]
fn unlike_values_have_no_order() {
    assert_eq!(compare(ValueKind::Money, "1 USD", "1 EUR"), None);
    assert_eq!(compare(ValueKind::Money, "0.001 USD", "USD 0.0009"), Some(Ordering::Greater));
    assert_eq!(read(ValueKind::Int, json!(1)).compare(&read(ValueKind::Text, json!("1"))), None);
    assert_eq!(compare(ValueKind::Enum, "a", "b"), None);
    assert_eq!(compare(ValueKind::Enum, "a", "a"), Some(Ordering::Equal));
    assert_eq!(
        read(ValueKind::Enum, json!("a")).compare(&read(ValueKind::Text, json!("a"))),
        Some(Ordering::Equal)
    );
}

#[test]
fn versions_follow_semver_precedence() {
    assert_eq!(compare(ValueKind::Semver, "1.4.0-rc.1", "v1.4"), Some(Ordering::Less));
    assert_eq!(compare(ValueKind::Semver, "1.10.0", "1.9.0"), Some(Ordering::Greater));
    assert_eq!(
        read(ValueKind::Semver, json!("1.4.0+build5")),
        read(ValueKind::Semver, json!("1.4.0"))
    );
}

#[test]
fn durations_are_nominal() {
    let micros = |text: &str| text.parse::<Period>().unwrap().micros();
    assert_eq!(micros("PT1M"), 60_000_000);
    assert_eq!(micros("1m"), micros("PT1M"));
    assert_eq!(micros("1h"), micros("PT60M"));
    assert_eq!(micros("P1D"), micros("1d"));
    assert_eq!(micros("daily"), micros("PT24H"));
    assert_eq!(micros("P1M") * 12, micros("P1Y"));
    assert!(micros("P30D") < micros("P1M") && micros("1mo") < micros("P31D"));
    assert_eq!(micros("180ms"), 180_000);
    assert_eq!("PT90S".parse::<Period>().unwrap().to_string(), "PT1M30S");
    for bad in ["", "P", "-PT1M", "fast", "P99999999999999Y", "1 parsec"] {
        assert!(bad.parse::<Period>().is_err(), "{bad}");
    }
}

#[test]
fn places_contain_and_overlap_across_the_antimeridian() {
    let place = |text: &str| text.parse::<Geo>().unwrap();
    let europe = place("-25,34,45,72");
    let pacific = place("170,-50,-120,20");
    assert!(europe.contains(&place("52.5,13.4")));
    assert!(!europe.contains(&pacific));
    assert!(pacific.contains(&place("0,-179")) && pacific.contains(&place("0,175")));
    assert!(!pacific.contains(&place("0,0")));
    assert!(Geo::EARTH.contains(&pacific) && Geo::EARTH.contains(&europe));
    assert!(!pacific.contains(&Geo::EARTH));
    assert!(
        pacific.overlaps(&place("-130,0,-100,10")) && !pacific.overlaps(&place("-110,0,-100,10"))
    );
    assert_eq!(read(ValueKind::Geo, json!([-25, 34, 45, 72])), Value::Geo(europe));
    assert_eq!(
        read(ValueKind::Geo, json!({"lat": 52.5, "lon": 13.4})),
        Value::Geo(place("52.5,13.4"))
    );
    assert_eq!(read(ValueKind::Geo, json!({"box": "34 -25 72 45"})), Value::Geo(europe));
    assert_eq!(read(ValueKind::Geo, json!([13.4, 52.5])), Value::Geo(place("52.5,13.4")));
    for bad in ["91,0", "0,181", "1", "1,2,3", "0,10,1,5", "a,b"] {
        assert!(bad.parse::<Geo>().is_err(), "{bad}");
    }
}

#[test]
fn distances_are_great_circles() {
    let place = |text: &str| text.parse::<Geo>().unwrap();
    // Frankfurt to New York: 6,206 km by published great-circle tables.
    let km = place("50.0333,8.5706").distance_m(&place("40.6398,-73.7789")) / 1000.0;
    assert!((6185.0..6215.0).contains(&km), "{km}");
    assert_eq!(place("-25,34,45,72").distance_m(&place("52.5,13.4")), 0.0);
    let km = place("0,179.5").distance_m(&place("0,-179.5")) / 1000.0;
    assert!((111.0..111.4).contains(&km), "{km}");
}

#[test]
fn text_is_cleaned_and_bounded() {
    assert_eq!(read(ValueKind::Text, json!("a\u{202E}b\u{0}\n c")), Value::Text("ab c".into()));
    assert!(matches!(
        Value::from_json(ValueKind::Enum, &json!("x".repeat(65))),
        Err(ValueError::TooLarge { .. })
    ));
    assert!(
        Value::from_json(ValueKind::Set, &json!(vec!["x"; 400])).is_ok(),
        "repetitions do not count"
    );
    let many: Vec<String> = (0..400).map(|n| n.to_string()).collect();
    assert!(Value::from_json(ValueKind::Set, &json!(many)).is_err());
    assert!(Value::from_json(ValueKind::Text, &json!("x".repeat(513))).is_err());
    assert!(Value::infer(&json!(null)).is_err());
    assert!(Value::infer(&json!({"a": 1})).is_err());
}

#[test]
fn decoding_refuses_what_encoding_never_writes() {
    let refused = |hex: &str| {
        let bytes: Vec<u8> = (0..hex.len())
            .step_by(2)
            .map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap())
            .collect();
        assert!(decode_minicbor::<Value>(&bytes).is_err(), "{hex}");
    };
    refused("820282181e01"); // 30 with one digit: 3.0 is 3
    refused("82048261626161"); // unsorted set
    refused("82048261616161"); // repeated element
    refused("8207820500"); // interval that ends before it begins
    refused("82078200"); // cut
    refused("820d00"); // unknown kind
    refused("820582f500"); // not a text
    refused("8200f4f4"); // trailing bytes
    refused("820360"); // empty word
    refused("820a82010163555344"); // money without a part
    refused("8205641b5b6d21"); // control character
    refused("820ba0"); // no version
}

proptest! {
    #[test]
    fn every_form_reads_back(value in value()) {
        let from_wire: Value = decode_minicbor(&encode_minicbor(&value)).unwrap();
        prop_assert_eq!(&from_wire, &value);
        let from_json = Value::from_json(value.kind(), &value.to_json()).unwrap();
        prop_assert_eq!(&from_json, &value);
        if !matches!(value, Value::Set(_)) {
            let from_text = Value::from_json(value.kind(), &json!(value.to_string())).unwrap();
            prop_assert_eq!(&from_text, &value);
        }
    }

    #[test]
    fn decoding_never_panics_and_is_canonical(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        if let Ok(value) = decode_minicbor::<Value>(&bytes) {
            prop_assert_eq!(encode_minicbor(&value), bytes);
        }
    }

    #[test]
    fn flipped_bytes_never_panic(value in value(), at in any::<prop::sample::Index>(), flip in 1u8..) {
        let mut bytes = encode_minicbor(&value);
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        if let Ok(value) = decode_minicbor::<Value>(&bytes) {
            prop_assert_eq!(encode_minicbor(&value), bytes);
        }
    }

    #[test]
    fn reading_text_never_panics(text in "\\PC{0,40}|[0-9PTYMDHS:./eE+-]{0,24}") {
        for kind in [
            ValueKind::Bool, ValueKind::Int, ValueKind::Dec, ValueKind::Enum, ValueKind::Set, ValueKind::Text,
            ValueKind::Time, ValueKind::Interval, ValueKind::Duration, ValueKind::Geo, ValueKind::Money,
            ValueKind::Semver, ValueKind::Bytes32,
        ] {
            if let Ok(value) = Value::from_json(kind, &json!(text)) {
                prop_assert_eq!(Value::from_json(kind, &value.to_json()).unwrap(), value);
            }
        }
    }

    #[test]
    fn decimals_order_like_fractions(a in decimal(), b in decimal()) {
        // a.m / 10^a.s ? b.m / 10^b.s by cross multiplication, an independent path.
        let cross = (i128::from(a.mantissa()) * 10i128.pow(b.scale().into())).cmp(&(i128::from(b.mantissa()) * 10i128.pow(a.scale().into())));
        prop_assert_eq!(a.cmp(&b), cross);
        prop_assert_eq!(a.to_string().parse::<Decimal>().unwrap(), a);
    }

    #[test]
    fn comparison_is_antisymmetric(a in value(), b in value()) {
        prop_assert_eq!(a.compare(&b), b.compare(&a).map(Ordering::reverse));
        prop_assert_eq!(a.compare(&a), Some(Ordering::Equal));
    }

    #[test]
    fn periods_order_by_length(a in period(), b in period()) {
        prop_assert_eq!(a.cmp(&b), a.micros().cmp(&b.micros()));
    }

    #[test]
    fn containment_implies_overlap(a in geo(), b in geo()) {
        prop_assert!(a.contains(&a) && a.overlaps(&a));
        prop_assert_eq!(a.overlaps(&b), b.overlaps(&a));
        if a.contains(&b) {
            prop_assert!(a.overlaps(&b));
            prop_assert_eq!(a.distance_m(&b), 0.0);
        }
    }
}
