//! The wire form of queries, which strangers send: it has one encoding, and a stranger's query reads back from the
//! spellings for people like one's own.
#![no_main]

use comity_capability::query::{Query, WIRE_BYTES_MAX};
use comity_core::Canonical;
use comity_fuzz::properties;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| match <Query as Canonical>::decode(data) {
    Ok(query) => {
        assert!(data.len() <= WIRE_BYTES_MAX);
        assert_eq!(Canonical::encode(&query), data);
        properties::of_query(&query);
    }
    Err(error) => assert!(!error.to_string().is_empty()),
});
