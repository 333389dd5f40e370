//! Generated tables and requests, answered by the engine and by a plain model in memory.

use comity_specialist::schema::Validator;
use comity_specialist::table::interface;
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use std::cmp::Ordering;

use crate::common::{Files, parts};

const COLUMNS: [&str; 5] = ["i", "d", "day", "text", "set"];

/// A row: values as the table must give them back.
type Row = [Value; 5];

fn text() -> impl Strategy<Value = String> {
    prop_oneof![Just("a".to_owned()), Just("b".to_owned()), "[ab,\"\n';%é ]{1,4}"]
}

fn day() -> impl Strategy<Value = String> {
    (2020..2023_i32, 1..=12_u8, 1..=28_u8).prop_map(|(y, m, d)| format!("{y}-{m:02}-{d:02}"))
}

fn or_null(value: impl Strategy<Value = Value>) -> impl Strategy<Value = Value> {
    prop_oneof![4 => value, 1 => Just(Value::Null)]
}

fn int() -> impl Strategy<Value = Value> {
    prop_oneof![(-3..4_i64).prop_map(Value::from), any::<i64>().prop_map(Value::from)]
}

/// Decimals of few digits, so that their JSON text is what was written.
fn decimal() -> impl Strategy<Value = Value> {
    (-400..400_i64, 0..3_u32).prop_map(|(n, scale)| {
        let value: f64 = format!("{n}e-{scale}").parse().unwrap();
        if value.fract() == 0.0 { json!(value as i64) } else { json!(value) }
    })
}

fn set() -> impl Strategy<Value = Value> {
    prop::collection::vec(text(), 0..3).prop_map(|items| json!(items))
}

fn row() -> impl Strategy<Value = Row> {
    let values = (
        or_null(int()),
        or_null(decimal()),
        or_null(day().prop_map(Value::from)),
        or_null(text().prop_map(Value::from)),
        or_null(set()),
    );
    values.prop_map(|(i, d, day, text, set)| [i, d, day, text, set])
}

/// The first row fixes every column's type.
fn table() -> impl Strategy<Value = Vec<Row>> {
    let first: Row = [json!(1), json!(0.5), json!("2021-06-15"), json!("word"), json!(["a"])];
    prop::collection::vec(row(), 0..40)
        .prop_map(move |rows| std::iter::once(first.clone()).chain(rows).collect())
}

fn range(value: impl Strategy<Value = Value> + Clone) -> impl Strategy<Value = Value> {
    (prop::option::of(value.clone()), prop::option::of(value)).prop_filter_map(
        "not empty",
        |(from, to)| {
            let mut words = Map::new();
            words.extend(from.map(|from| ("from".to_owned(), from)));
            words.extend(to.map(|to| ("to".to_owned(), to)));
            (!words.is_empty()).then_some(Value::Object(words))
        },
    )
}

fn condition_of(column: usize) -> BoxedStrategy<Value> {
    fn scalar(value: BoxedStrategy<Value>) -> BoxedStrategy<Value> {
        let list = prop::collection::vec(or_null(value.clone()), 1..4)
            .prop_map(|items| json!({ "in": items }));
        prop_oneof![or_null(value.clone()), list, range(value)].boxed()
    }
    match column {
        0 => scalar(int().boxed()),
        1 => scalar(decimal().boxed()),
        2 => scalar(day().prop_map(Value::from).boxed()),
        3 => prop_oneof![
            scalar(text().prop_map(Value::from).boxed()),
            text().prop_map(|text| json!({ "contains": text }))
        ]
        .boxed(),
        _ => prop_oneof![
            Just(Value::Null),
            text().prop_map(|text| json!({ "contains": text })),
            prop::collection::vec(text(), 1..3).prop_map(|texts| json!({ "contains": texts }))
        ]
        .boxed(),
    }
}

fn condition() -> impl Strategy<Value = (String, Value)> {
    (0..5_usize).prop_flat_map(|column| {
        condition_of(column).prop_map(move |condition| (COLUMNS[column].to_owned(), condition))
    })
}

fn request() -> impl Strategy<Value = Value> {
    let order =
        prop::option::of((0..4_usize, any::<bool>()).prop_map(|(column, down)| {
            format!("{}{}", if down { "-" } else { "" }, COLUMNS[column])
        }));
    let columns = prop::option::of(prop::sample::subsequence(COLUMNS.to_vec(), 1..=5));
    (
        prop::collection::vec(condition(), 0..3),
        order,
        columns,
        prop::option::of(0..20_u64),
        prop::option::of(0..5_u64),
        any::<bool>(),
    )
        .prop_map(|(conditions, order, columns, limit, offset, count)| {
            let mut request = json!({ "where": Map::from_iter(conditions), "count": count });
            for (key, value) in [
                ("order", order.map(Value::from)),
                ("columns", columns.map(|names| json!(names))),
                ("limit", limit.map(Value::from)),
                ("offset", offset.map(Value::from)),
            ] {
                if let Some(value) = value {
                    request[key] = value;
                }
            }
            request
        })
}

fn compare(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::Null, Value::Null) => Ordering::Equal,
        (Value::Null, _) => Ordering::Less,
        (_, Value::Null) => Ordering::Greater,
        (Value::String(a), Value::String(b)) => a.cmp(b),
        (a, b) => match (a.as_i64(), b.as_i64()) {
            (Some(a), Some(b)) => a.cmp(&b),
            _ => a.as_f64().unwrap().total_cmp(&b.as_f64().unwrap()),
        },
    }
}

fn equal(a: &Value, b: &Value) -> bool {
    a.is_null() == b.is_null() && compare(a, b) == Ordering::Equal
}

fn holds(value: &Value, condition: &Value) -> bool {
    let Value::Object(words) = condition else { return equal(value, condition) };
    words.iter().all(|(word, wanted)| match word.as_str() {
        "in" => wanted.as_array().unwrap().iter().any(|wanted| equal(value, wanted)),
        "from" => !value.is_null() && compare(value, wanted) != Ordering::Less,
        "to" => !value.is_null() && compare(value, wanted) != Ordering::Greater,
        _ => {
            let wanted: Vec<&str> = match wanted {
                Value::String(text) => vec![text],
                many => {
                    many.as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect()
                }
            };
            wanted.iter().all(|wanted| match value {
                Value::String(text) => text.contains(wanted),
                Value::Array(items) => items.iter().any(|item| item == wanted),
                _ => false,
            })
        }
    })
}

fn model(rows: &[Row], request: &Value) -> (Vec<Value>, bool, usize) {
    let index = |name: &str| COLUMNS.iter().position(|column| *column == name).unwrap();
    let conditions = request["where"].as_object().unwrap();
    let mut found: Vec<&Row> = rows
        .iter()
        .filter(|row| {
            conditions.iter().all(|(name, condition)| holds(&row[index(name)], condition))
        })
        .collect();
    if let Some(order) = request["order"].as_str() {
        let column = index(order.trim_start_matches('-'));
        found.sort_by(|a, b| {
            if order.starts_with('-') {
                compare(&b[column], &a[column])
            } else {
                compare(&a[column], &b[column])
            }
        });
    }
    let total = found.len();
    let offset = request["offset"].as_u64().unwrap_or(0) as usize;
    let limit = request["limit"].as_u64().unwrap_or(1000) as usize;
    let columns: Vec<usize> = match request.get("columns") {
        Some(names) => {
            names.as_array().unwrap().iter().map(|name| index(name.as_str().unwrap())).collect()
        }
        None => (0..5).collect(),
    };
    let given = found
        .iter()
        .skip(offset)
        .take(limit)
        .map(|row| columns.iter().map(|column| row[*column].clone()).collect())
        .collect();
    (given, total > offset.saturating_add(limit), total)
}

fn csv_of(rows: &[Row]) -> Vec<u8> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(&COLUMNS[..4]).unwrap();
    for row in rows {
        let fields = row[..4].iter().map(|value| match value {
            Value::Null => String::new(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        });
        writer.write_record(fields).unwrap();
    }
    writer.into_inner().unwrap()
}

fn jsonl_of(rows: &[Row]) -> String {
    rows.iter()
        .map(|row| {
            let members: Map<String, Value> =
                COLUMNS.iter().map(|name| (*name).to_owned()).zip(row.clone()).collect();
            format!("{}\n", Value::Object(members))
        })
        .collect()
}

fn check(files: &Files, rows: &[Row], requests: &[Value]) -> Result<(), TestCaseError> {
    let table = files.open().map_err(|error| TestCaseError::fail(error.to_string()))?;
    let schema =
        Validator::new(&interface::input_schema(table.summary(), &Default::default())).unwrap();
    let output = Validator::new(&interface::output_schema(table.summary())).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    prop_assert_eq!(table.summary().rows as usize, rows.len());
    for request in requests {
        prop_assert_eq!(schema.check(request), Ok(()), "{}", request);
        let given = runtime.block_on(parts(&table, request.clone()));
        let given = given.map_err(|error| TestCaseError::fail(format!("{request}: {error}")))?;
        for part in &given {
            prop_assert_eq!(output.check(part), Ok(()));
        }
        let (expected, truncated, total) = model(rows, request);
        let given_rows: Vec<Value> =
            given.iter().flat_map(|part| part["rows"].as_array().unwrap().clone()).collect();
        prop_assert_eq!(given_rows, expected, "{}", request);
        let last = given.last().unwrap();
        prop_assert_eq!(&last["truncated"], &json!(truncated), "{}", request);
        if request["count"] == json!(true) {
            prop_assert_eq!(&last["total"], &json!(total), "{}", request);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn csv_tables_answer_like_the_model(rows in table(), requests in prop::collection::vec(request(), 1..8)) {
        let four = |request: &Value| request["where"].get("set").is_none();
        let requests: Vec<Value> = requests.into_iter().filter(four).map(|mut request| {
            let named = request["columns"].as_array().map(|names| names.iter().filter(|name| **name != "set").cloned().collect::<Vec<_>>());
            request["columns"] = named.filter(|names| !names.is_empty()).map_or_else(|| json!(["i", "d", "day", "text"]), Value::from);
            request
        }).collect();
        check(&Files::with("t.csv", csv_of(&rows)), &rows, &requests)?;
    }

    #[test]
    fn json_tables_answer_like_the_model(rows in table(), requests in prop::collection::vec(request(), 1..8)) {
        let requests: Vec<Value> = requests.into_iter().map(|mut request| {
            if request.get("columns").is_none() { request["columns"] = json!(COLUMNS); }
            request
        }).collect();
        check(&Files::with("t.jsonl", jsonl_of(&rows)), &rows, &requests)?;
    }

    #[test]
    fn no_file_panics(content in prop::collection::vec(prop_oneof![Just(b','), Just(b'"'), Just(b'\n'), Just(b'{'), Just(b'}'), Just(b':'), Just(b'1'), Just(b'a'), any::<u8>()], 0..80), json in any::<bool>()) {
        let files = Files::with(if json { "t.jsonl" } else { "t.csv" }, content);
        if let Ok(table) = files.open() {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let outcome = runtime.block_on(parts(&table, json!({})));
            prop_assert!(outcome.is_ok());
        }
    }
}
