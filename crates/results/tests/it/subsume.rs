//! Derived answers are those the table would have given; what cannot be derived with certainty is left to it.

use comity_core::Hash;
use comity_core::canonical::hash_json;
use comity_results::subsume::{Asked, Columns, NotContained, PART_ROWS, derive, derive_with_chain};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::common::{NOW, body, result};

const NAMES: [&str; 4] = ["day", "pair", "rate", "note"];

fn columns() -> Columns {
    Columns::of_schema(&json!({ "properties": { "where": { "properties": {
        "day": { "$ref": "#/$defs/date" },
        "pair": { "$ref": "#/$defs/text" },
        "rate": { "$ref": "#/$defs/decimal", "description": "x" },
        "note": { "$ref": "#/$defs/text" },
    } } } }))
}

fn row(n: usize) -> Vec<Value> {
    let pair = ["EUR/USD", "USD/JPY", "GBP/USD"][n % 3];
    let note = if n.is_multiple_of(4) { Value::Null } else { json!(format!("note {n}")) };
    vec![
        json!(format!("2024-{:02}-{:02}", n / 28 % 12 + 1, n % 28 + 1)),
        json!(pair),
        json!(n % 17),
        note,
    ]
}

/// The table itself, as simple as can be: `rows` rows, equality, `in`, `from` and `to` on days and numbers.
fn table(rows: usize, request: &Value) -> Vec<Value> {
    let none = json!({});
    let conditions = request.get("where").unwrap_or(&none).as_object().unwrap();
    let holds = |row: &Vec<Value>| {
        conditions.iter().all(|(name, condition)| {
            let value = &row[NAMES.iter().position(|known| known == name).unwrap()];
            let Value::Object(words) = condition else { return value == condition };
            let number = |value: &Value| value.as_f64();
            let below = |a: &Value, b: &Value, last: &str| match (a.as_str(), b.as_str()) {
                // A month's last day is below any day of the next.
                (Some(a), Some(b)) => a <= [b, last].concat().as_str(),
                _ => number(a) <= number(b),
            };
            !value.is_null()
                && words.iter().all(|(word, edge)| match word.as_str() {
                    "in" => edge.as_array().unwrap().contains(value),
                    "to" => below(value, edge, "~"),
                    _ => below(edge, value, ""),
                })
        })
    };
    let wanted: Vec<&str> = match request.get("columns") {
        Some(names) => {
            names.as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect()
        }
        None => NAMES.to_vec(),
    };
    let found: Vec<Vec<Value>> = (0..rows).map(row).filter(holds).collect();
    let number = |key: &str, default: usize| {
        request.get(key).map_or(default, |value| usize::try_from(value.as_u64().unwrap()).unwrap())
    };
    let (limit, offset) = (number("limit", 1000), number("offset", 0));
    let after = found.iter().skip(offset);
    let truncated = after.clone().count() > limit;
    let shown: Vec<Value> = after
        .take(limit)
        .map(|row| {
            wanted
                .iter()
                .map(|name| row[NAMES.iter().position(|known| known == name).unwrap()].clone())
                .collect()
        })
        .collect();
    let mut parts: Vec<Value> =
        shown.chunks(PART_ROWS).map(|rows| json!({ "columns": wanted, "rows": rows })).collect();
    if parts.is_empty() {
        parts.push(json!({ "columns": wanted, "rows": [] }));
    }
    let last = parts.last_mut().unwrap();
    last["truncated"] = json!(truncated);
    if request.get("count") == Some(&json!(true)) {
        last["total"] = json!(found.len());
    } else if !truncated && (!shown.is_empty() || offset == 0) {
        last["total"] = json!(offset + shown.len());
    }
    parts
}

fn derived(rows: usize, larger: &Value, request: &Value) -> Result<Vec<Value>, NotContained> {
    derive(&columns(), larger, &table(rows, larger), request)
}

#[test]
fn a_smaller_range_and_fewer_columns_come_out_of_a_larger_answer() {
    let larger =
        json!({ "where": { "day": { "from": "2024-01", "to": "2024-06" } }, "limit": 1000 });
    let request = json!({
        "where": { "day": { "from": "2024-02-03", "to": "2024-02" }, "pair": "EUR/USD" },
        "columns": ["rate", "day"],
    });
    let derived = derived(300, &larger, &request).unwrap();
    assert_eq!(derived, table(300, &request));
    assert!(!derived[0]["rows"].as_array().unwrap().is_empty());
}

#[test]
fn long_answers_are_cut_into_the_parts_that_the_table_makes() {
    let request = json!({ "where": { "rate": { "from": 1 } }, "limit": 1000 });
    let derived = derived(700, &json!({ "limit": 1000 }), &request).unwrap();
    assert_eq!(derived.len(), 3);
    assert_eq!(derived, table(700, &request));
}

#[test]
fn what_is_not_contained_is_left_to_the_table() {
    use NotContained::{Columns, Condition, Form, Incomplete, Order, Rows};
    let range = |from: &str, to: &str| json!({ "where": { "day": { "from": from, "to": to } } });
    let all = json!({ "limit": 1000 });
    let cases = [
        (range("2024-02", "2024-03"), range("2024-01", "2024-03"), Rows),
        (range("2024-02", "2024-03"), json!({}), Rows),
        (
            json!({ "where": { "pair": "EUR/USD" } }),
            json!({ "where": { "pair": "USD/JPY" } }),
            Rows,
        ),
        (json!({ "limit": 5 }), json!({ "limit": 2 }), Incomplete),
        (json!({ "offset": 5 }), json!({}), Incomplete),
        (json!({ "columns": ["day"] }), json!({ "columns": ["rate"] }), Columns),
        (json!({ "columns": ["day"] }), json!({}), Columns),
        (
            json!({ "columns": ["day"] }),
            json!({ "columns": ["day"], "where": { "rate": 1 } }),
            Columns,
        ),
        (all.clone(), json!({ "where": { "nothing": 1 } }), Columns),
        (all.clone(), json!({ "order": "rate" }), Order),
        (all.clone(), json!({ "where": { "note": { "contains": "x" } } }), Condition),
        (all.clone(), json!({ "where": { "note": { "from": "a" } } }), Condition),
        (all.clone(), json!({ "where": { "day": "2024-01-01T00:00:00Z" } }), Condition),
        (all.clone(), json!({ "where": { "rate": "1" } }), Condition),
        (all.clone(), json!({ "where": { "day": { "from": "2024-02-30" } } }), Condition),
        (all.clone(), json!({ "columns": ["day", "day"] }), Form),
        (all.clone(), json!({ "columns": [] }), Form),
        (all.clone(), json!({ "limit": 100_001 }), Form),
        (all.clone(), json!({ "group": "day" }), Form),
        (all, json!([]), Form),
    ];
    for (larger, request, why) in cases {
        assert_eq!(derived(100, &larger, &request), Err(why), "{larger} {request}");
        // What the requests alone tell is known before an answer is opened.
        let told = matches!(why, Rows | Order | Form);
        let within =
            Asked::read(&request).is_some_and(|asked| asked.is_within(&columns(), &larger));
        assert!(!(told && within), "{larger} {request}");
    }
}

#[test]
fn a_null_is_in_no_range_and_equals_only_null() {
    for request in [json!({ "where": { "note": null } }), json!({ "where": { "note": "note 5" } })]
    {
        assert_eq!(derived(50, &json!({ "limit": 100 }), &request).unwrap(), table(50, &request));
    }
}

#[test]
fn the_chain_names_what_a_derived_answer_rests_on() {
    let (larger, request) = (json!({ "limit": 100 }), json!({ "where": { "rate": 3 } }));
    let receipt = result(1, &json!(1), NOW).receipt;
    let items = table(50, &larger);
    let (derived, chain) =
        derive_with_chain(&columns(), &receipt, &larger, &items, &request).unwrap();
    assert_eq!((chain.receipt, chain.larger), (receipt, larger));
    assert_eq!(chain.request, hash_json(&request).unwrap());
    assert_eq!(chain.response, Hash::of(&derived.iter().flat_map(body).collect::<Vec<u8>>()));
}

fn day() -> impl Strategy<Value = String> {
    prop_oneof![
        (1u8..13).prop_map(|month| format!("2024-{month:02}")),
        (1u8..13, 1u8..29).prop_map(|(month, day)| format!("2024-{month:02}-{day:02}")),
        Just("2024".to_owned()),
    ]
}

fn request() -> impl Strategy<Value = Value> {
    let range = (prop::option::of(day()), prop::option::of(day()));
    let pair = prop::option::of(prop_oneof![
        Just(json!("EUR/USD")),
        Just(json!({ "in": ["EUR/USD", "GBP/USD"] })),
        Just(json!({ "in": ["USD/JPY"] })),
    ]);
    let rate = prop::option::of(
        (0u8..17, 0u8..17).prop_map(|(from, to)| json!({ "from": from, "to": to })),
    );
    let columns = prop::option::of(prop::sample::subsequence(NAMES.to_vec(), 1..=4).prop_shuffle());
    let limit = prop::option::of(0u16..200);
    (range, pair, rate, columns, limit, 0u8..6, any::<bool>()).prop_map(
        |((from, to), pair, rate, columns, limit, offset, count)| {
            let mut conditions = serde_json::Map::new();
            let mut days = serde_json::Map::new();
            days.extend(from.map(|from| ("from".to_owned(), json!(from))));
            days.extend(to.map(|to| ("to".to_owned(), json!(to))));
            if !days.is_empty() {
                conditions.insert("day".to_owned(), json!(days));
            }
            conditions.extend(pair.map(|pair| ("pair".to_owned(), pair)));
            conditions.extend(rate.map(|rate| ("rate".to_owned(), rate)));
            let mut request = json!({ "where": conditions });
            if let Some(columns) = columns {
                request["columns"] = json!(columns);
            }
            if let Some(limit) = limit {
                request["limit"] = json!(limit);
            }
            if offset > 3 {
                request["offset"] = json!(offset);
            }
            if count {
                request["count"] = json!(true);
            }
            request
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn whatever_is_derived_is_what_the_table_says(larger in request(), smaller in request()) {
        if let Ok(derived) = derived(300, &larger, &smaller) {
            prop_assert_eq!(derived, table(300, &smaller), "from {}", larger);
            prop_assert!(Asked::read(&smaller).is_some_and(|asked| asked.is_within(&columns(), &larger)));
        }
    }

    #[test]
    fn everything_comes_out_of_everything(smaller in request()) {
        let derived = derived(300, &json!({ "limit": 1000 }), &smaller).unwrap();
        prop_assert_eq!(derived, table(300, &smaller));
    }
}
