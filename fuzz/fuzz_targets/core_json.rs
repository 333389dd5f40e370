//! Canonical CBOR of JSON: what decodes has exactly one encoding; JSON text in any spelling has one too.
#![no_main]

use comity_core::canonical::{Floats, MAX_JSON_DEPTH, check, from_json, hash_json, to_json};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(value) = to_json(data) {
        let again = from_json(&value).expect("what was decoded can be encoded");
        assert_eq!(again, data, "{value}");
    }
    let Some(value) = comity_fuzz::json(data) else { return };
    match from_json(&value) {
        Ok(bytes) => {
            check(&bytes, MAX_JSON_DEPTH, Floats::Shortest)
                .expect("the encoding is deterministic CBOR");
            let read = to_json(&bytes).expect("what was encoded can be decoded");
            assert_eq!(from_json(&read).as_ref(), Ok(&bytes), "{value} became {read}");
            let respelled =
                comity_fuzz::json(read.to_string().as_bytes()).expect("JSON text of a JSON value");
            assert_eq!(hash_json(&respelled), hash_json(&value), "{value} became {respelled}");
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
