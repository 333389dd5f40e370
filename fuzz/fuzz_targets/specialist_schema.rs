//! JSON Schemas from strangers: a schema and a value, two JSON texts with a zero byte or line feed between them. Compiling
//! and checking are bounded (libFuzzer's timeout sees to that), and what is reported is too.
#![no_main]

use comity_specialist::schema::{MAX_PROBLEM_BYTES, MAX_PROBLEMS, MAX_SCHEMA_BYTES, Validator};
use libfuzzer_sys::fuzz_target;
use serde_json::json;

fuzz_target!(|data: &[u8]| {
    let cut = data.iter().position(|byte| matches!(byte, 0 | b'\n')).unwrap_or(data.len());
    let (schema, value) = data.split_at(cut);
    let Some(schema) = comity_fuzz::json(schema) else { return };
    let validator = match Validator::new(&schema) {
        Ok(validator) => validator,
        Err(error) => return assert!((1..=4096).contains(&error.to_string().len()), "{error}"),
    };
    assert!(schema.to_string().len() <= MAX_SCHEMA_BYTES);
    let value = value.get(1..).and_then(comity_fuzz::json);
    for value in value.into_iter().chain([
        json!(null),
        json!({}),
        json!([[1, "a"], { "a": { "a": 1.5 } }]),
        schema.clone(),
    ]) {
        let result = validator.check(&value);
        assert_eq!(validator.check(&value), result, "equal values, equal answers");
        if let Err(problems) = result {
            assert!((1..=MAX_PROBLEMS).contains(&problems.len()), "{problems:?}");
            // A sign that something was cut off comes on top.
            assert!(
                problems.iter().all(|problem| problem.len() <= MAX_PROBLEM_BYTES + '…'.len_utf8()),
                "{problems:?}"
            );
        }
    }
});
