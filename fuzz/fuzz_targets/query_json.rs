//! The JSON form of queries: whatever is read has three spellings that read back as the same query.
#![no_main]

use comity_capability::query::Query;
use comity_fuzz::properties;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some(json) = comity_fuzz::json(data) else { return };
    match Query::from_json(&json) {
        Ok(query) => properties::of_query(&query),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
