//! Attribute values: every form reads back, and normalising what is normal changes nothing.
#![no_main]

use std::cmp::Ordering;

use comity_capability::attribute::{Value, ValueKind};
use comity_capability::profile;
use comity_core::canonical::{decode_minicbor, encode_minicbor};
use libfuzzer_sys::fuzz_target;
use serde_json::Value as Json;

const KINDS: [ValueKind; 13] = [
    ValueKind::Bool,
    ValueKind::Int,
    ValueKind::Dec,
    ValueKind::Enum,
    ValueKind::Set,
    ValueKind::Text,
    ValueKind::Time,
    ValueKind::Interval,
    ValueKind::Duration,
    ValueKind::Geo,
    ValueKind::Money,
    ValueKind::Semver,
    ValueKind::Bytes32,
];

fuzz_target!(|data: &[u8]| {
    let Some((selector, rest)) = data.split_first() else { return };
    if let Ok(value) = decode_minicbor::<Value>(rest) {
        assert_eq!(encode_minicbor(&value), rest);
        of_value(&value);
    }
    let text = std::str::from_utf8(rest).ok().map(Json::from);
    for raw in comity_fuzz::json(rest).into_iter().chain(text) {
        let selector = usize::from(*selector);
        if let Ok(value) = Value::from_json(KINDS[selector % KINDS.len()], &raw) {
            assert_eq!(value.kind(), KINDS[selector % KINDS.len()]);
            of_value(&value);
        }
        if let Ok(value) = Value::infer(&raw) {
            of_value(&value);
        }
        let spec = &profile::keys()[selector % profile::keys().len()];
        if let Ok(value) = profile::normalise(spec.key, &raw) {
            assert_eq!(value.kind(), spec.kind);
            of_value(&value);
            assert_eq!(
                profile::normalise(spec.key, &value.to_json()).as_ref(),
                Ok(&value),
                "{} of {raw}",
                spec.key
            );
        }
    }
    if let Some(text) = std::str::from_utf8(rest).ok()
        && let Ok(key) = profile::canonical_key(text)
    {
        assert_eq!(profile::canonical_key(&key).as_ref(), Ok(&key), "from {text:?}");
    }
});

fn of_value(value: &Value) {
    assert_eq!(decode_minicbor::<Value>(&encode_minicbor(value)).as_ref(), Ok(value), "wire");
    let json = value.to_json();
    assert_eq!(Value::from_json(value.kind(), &json).as_ref(), Ok(value), "JSON: {json}");
    if value.kind() != ValueKind::Set {
        let text = value.to_string();
        assert_eq!(
            Value::from_json(value.kind(), &Json::from(text.as_str())).as_ref(),
            Ok(value),
            "text: {text}"
        );
    }
    assert_eq!(value.compare(value), Some(Ordering::Equal));
    assert!(value.same(value) && value.includes(value));
}
