//! Schemas of strangers.

use comity_specialist::function::Function;
use comity_specialist::schema::{Checked, MAX_PROBLEM_BYTES, MAX_PROBLEMS, SchemaError, Validator};
use comity_specialist::{Answer, SpecialistError};
use futures_util::StreamExt;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::common::{one, parts};

fn refused(schema: &Value) -> SchemaError {
    Validator::new(schema).expect_err("must be refused")
}

#[test]
fn problems_are_readable_and_few() {
    let schema = json!({ "type": "object", "required": ["pair"], "additionalProperties": false,
        "properties": { "pair": { "type": "string", "pattern": "^[A-Z]{3}/[A-Z]{3}$" }, "n": { "type": "integer", "maximum": 5 } } });
    let validator = Validator::new(&schema).unwrap();
    assert_eq!(validator.check(&json!({ "pair": "EUR/USD", "n": 5 })), Ok(()));
    let problems = validator.check(&json!({ "pair": "eurusd", "n": 9 })).unwrap_err();
    assert_eq!(problems.len(), 2);
    assert!(problems.iter().any(|problem| problem.starts_with("'/n': 9")), "{problems:?}");
    let many: Value =
        (0..1000).map(|n| (format!("k{n}"), json!(n))).collect::<serde_json::Map<_, _>>().into();
    let each = Validator::new(&json!({ "additionalProperties": { "type": "string" } })).unwrap();
    let problems = each.check(&many).unwrap_err();
    assert_eq!(problems.len(), MAX_PROBLEMS);
    let long = each.check(&json!({ "x": ["y".repeat(10_000)] })).unwrap_err();
    assert!(long[0].len() <= MAX_PROBLEM_BYTES + '…'.len_utf8());
}

#[test]
fn nothing_outside_the_document_is_fetched() {
    for reference in
        ["http://example.org/x.json", "file:///etc/passwd", "other.json", "#anchor", "//host/x"]
    {
        assert!(
            matches!(
                refused(&json!({ "items": { "$ref": reference } })),
                SchemaError::Reference { .. }
            ),
            "{reference}"
        );
    }
    assert!(matches!(refused(&json!({ "$dynamicRef": "#x" })), SchemaError::Reference { .. }));
    assert!(matches!(
        refused(&json!({ "$defs": { "a": { "$id": "http://x/" } } })),
        SchemaError::Reference { .. }
    ));
    assert!(matches!(refused(&json!({ "$ref": "#/$defs/absent" })), SchemaError::Missing { .. }));
}

#[test]
fn a_property_may_be_called_like_a_keyword() {
    let schema =
        json!({ "properties": { "$ref": { "type": "string" }, "pattern": { "type": "integer" } } });
    assert!(Validator::new(&schema).unwrap().check(&json!({ "$ref": "x", "pattern": 1 })).is_ok());
}

#[test]
fn circles_and_multiplying_references_are_refused() {
    assert!(matches!(refused(&json!({ "$ref": "#" })), SchemaError::Circular { .. }));
    let pair = json!({ "$ref": "#/$defs/a", "$defs": { "a": { "anyOf": [{ "$ref": "#/$defs/b" }] }, "b": { "not": { "$ref": "#/$defs/a" } } } });
    assert!(matches!(refused(&pair), SchemaError::Circular { .. }));
    // 2^40 checks of one value.
    let mut definitions = serde_json::Map::new();
    for n in 0..40 {
        let next = json!({ "$ref": format!("#/$defs/d{}", n + 1) });
        definitions.insert(format!("d{n}"), json!({ "allOf": [next, next] }));
    }
    definitions.insert("d40".to_owned(), json!(true));
    assert_eq!(
        refused(&json!({ "$ref": "#/$defs/d0", "$defs": definitions })),
        SchemaError::TooMuchWork
    );
    // 2^depth checks, each level of the value doubling them.
    let nested = json!({ "properties": { "a": { "allOf": [{ "$ref": "#" }, { "$ref": "#" }] } } });
    assert_eq!(refused(&nested), SchemaError::TooMuchWork);
}

#[test]
fn honest_recursion_works() {
    let tree = json!({ "$ref": "#/$defs/node", "$defs": { "node": { "type": "object", "required": ["v"],
        "properties": { "v": { "type": "integer" }, "left": { "$ref": "#/$defs/node" }, "right": { "$ref": "#/$defs/node" },
                        "list": { "type": "array", "items": { "$ref": "#/$defs/node" } } } } } });
    let validator = Validator::new(&tree).unwrap();
    assert!(validator.check(&json!({ "v": 1, "left": { "v": 2 }, "list": [{ "v": 3 }] })).is_ok());
    assert!(validator.check(&json!({ "v": 1, "left": { "v": 2, "right": {} } })).is_err());
}

#[test]
fn patterns_are_linear_and_bounded() {
    let evil = Validator::new(&json!({ "pattern": "^(a+)+$" })).unwrap();
    assert!(evil.check(&json!(format!("{}!", "a".repeat(50_000)))).is_err());
    for pattern in ["(?=x)y", r"(a)\1", "(", "(?:a{1000}){1000}"] {
        assert!(
            matches!(refused(&json!({ "pattern": pattern })), SchemaError::Invalid { .. }),
            "{pattern}"
        );
    }
    let many: Vec<Value> = (0..100).map(|n| json!({ "pattern": format!("x{n}") })).collect();
    assert_eq!(refused(&json!({ "anyOf": many })), SchemaError::TooManyPatterns);
}

#[test]
fn large_and_deep_schemas_and_values_are_refused() {
    assert!(matches!(
        refused(&json!({ "description": "x".repeat(70_000) })),
        SchemaError::TooLarge { .. }
    ));
    let deep = (0..60).fold(json!(true), |inner, _| json!({ "items": inner }));
    assert_eq!(refused(&deep), SchemaError::TooDeep);
    let anything = Validator::new(&json!(true)).unwrap();
    let value = (0..30).fold(json!(1), |inner, _| json!([inner]));
    assert!(anything.check(&value).unwrap_err()[0].contains("deeper"));
    assert!(matches!(refused(&json!({ "type": 5 })), SchemaError::Invalid { .. }));
    assert!(matches!(refused(&json!("text")), SchemaError::Invalid { .. }));
}

#[tokio::test]
async fn requests_and_answers_are_held_to_their_schemas() {
    let inner = Function::new(|call| async move {
        Ok(match call.request["kind"].as_str() {
            Some("stream") => {
                Answer::Stream(futures_util::stream::iter([json!(1), json!("two")]).map(Ok).boxed())
            }
            Some("wrong") => Answer::One(json!("text")),
            _ => Answer::One(json!(1)),
        })
    });
    let input = Validator::new(
        &json!({ "type": "object", "properties": { "kind": { "type": "string" } } }),
    )
    .unwrap();
    let output = Validator::new(&json!({ "type": "integer" })).unwrap();
    let checked = Checked::new(inner, Some(input), Some(output));
    assert_eq!(one(&checked, json!({})).await, Ok(json!(1)));
    assert!(matches!(
        one(&checked, json!({ "kind": 5 })).await,
        Err(SpecialistError::InvalidRequest { .. })
    ));
    assert!(matches!(
        one(&checked, json!({ "kind": "wrong" })).await,
        Err(SpecialistError::GarbageAnswer { .. })
    ));
    assert!(matches!(
        parts(&checked, json!({ "kind": "stream" })).await,
        Err(SpecialistError::GarbageAnswer { .. })
    ));
}

fn schemas() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::Bool),
        prop_oneof![
            Just("object"),
            Just("array"),
            Just("string"),
            Just("integer"),
            Just("nonsense")
        ]
        .prop_map(|kind| json!({ "type": kind })),
        prop_oneof![
            Just("#"),
            Just("#/items"),
            Just("#/properties/a"),
            Just("#/allOf/0"),
            Just("#/%61"),
            Just("#/x")
        ]
        .prop_map(|target| json!({ "$ref": target })),
        "[a-z(*+\\[\\]]{0,6}".prop_map(|pattern| json!({ "pattern": pattern })),
    ];
    leaf.prop_recursive(5, 40, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 1..4).prop_map(|parts| json!({ "allOf": parts })),
            prop::collection::vec(inner.clone(), 1..4).prop_map(|parts| json!({ "anyOf": parts })),
            (inner.clone(), inner.clone()).prop_map(
                |(a, b)| json!({ "properties": { "a": a, "b": b }, "items": { "$ref": "#" } })
            ),
            inner.clone().prop_map(|items| json!({ "items": items })),
            (inner.clone(), inner).prop_map(
                |(a, b)| json!({ "if": a, "else": b, "additionalProperties": { "$ref": "#" } })
            ),
        ]
    })
}

proptest! {
    #[test]
    fn no_schema_and_value_panics_or_runs_away(schema in schemas(), depth in 0_usize..20) {
        if let Ok(validator) = Validator::new(&schema) {
            let value = (0..depth).fold(json!({ "a": "x" }), |inner, n| if n % 2 == 0 { json!([inner]) } else { json!({ "a": inner, "c": 1 }) });
            if let Err(problems) = validator.check(&value) {
                prop_assert!(!problems.is_empty() && problems.len() <= MAX_PROBLEMS);
            }
        }
    }
}
