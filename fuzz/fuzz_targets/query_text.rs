//! The text form of queries: whatever parses has three spellings that read back as the same query.
#![no_main]

use comity_capability::query::Query;
use comity_fuzz::properties;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| match Query::parse_text(text) {
    Ok(query) => properties::of_query(&query),
    Err(error) => assert!(!error.to_string().is_empty()),
});
