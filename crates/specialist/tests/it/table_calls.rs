//! Requests to a table.

use std::time::Duration;

use comity_specialist::schema::Validator;
use comity_specialist::table::{CHUNK_ROWS, MAX_READERS, MAX_ROWS, MAX_WAITING, Table, interface};
use comity_specialist::{Answer, Specialist, SpecialistError};
use futures_util::{FutureExt, StreamExt};
use serde_json::{Value, json};

use crate::common::{Files, invocation, one, parts, within};

fn trades() -> (Files, Table) {
    let files = Files::with(
        "trades.jsonl",
        [
            json!({ "at": "2024-01-01T09:00:00Z", "day": "2024-01-01", "pair": "EUR/USD", "n": 1, "price": 1.1, "open": true, "tags": ["a", "b"], "raw": { "x": 1 } }),
            json!({ "at": "2024-01-02T09:00:00Z", "day": "2024-01-02", "pair": "EUR/JPY", "n": 2, "price": 143, "open": false, "tags": [], "raw": null }),
            json!({ "at": "2024-02-01T23:59:59.999999Z", "day": "2024-02-01", "pair": "USD/JPY", "n": 3, "price": null, "open": null, "tags": ["b"], "raw": [1] }),
            json!({ "at": "2025-01-01T00:00:00Z", "day": "2025-01-01", "pair": null, "n": null, "price": 1.1, "open": true, "tags": null, "raw": null }),
        ]
        .map(|row| row.to_string())
        .join("\n"),
    );
    let table = files.open().unwrap();
    (files, table)
}

async fn numbers(table: &Table, mut request: Value) -> Result<Value, SpecialistError> {
    request["columns"] = json!(["n"]);
    let rows = one(table, request).await?["rows"].clone();
    Ok(rows.as_array().unwrap().iter().map(|row| row[0].clone()).collect())
}

#[tokio::test]
async fn every_condition_finds_its_rows() {
    let (_files, table) = trades();
    let schema =
        Validator::new(&interface::input_schema(table.summary(), &Default::default())).unwrap();
    for (condition, expected) in [
        (json!({}), json!([1, 2, 3, null])),
        (json!({ "pair": "EUR/USD" }), json!([1])),
        (json!({ "pair": null }), json!([null])),
        (json!({ "pair": { "in": ["EUR/USD", "USD/JPY", "nope"] } }), json!([1, 3])),
        (json!({ "pair": { "in": ["EUR/USD", null] } }), json!([1, null])),
        (json!({ "pair": { "in": [null] } }), json!([null])),
        (json!({ "pair": { "contains": "JPY" } }), json!([2, 3])),
        (json!({ "pair": { "contains": ["EUR", "JPY"] } }), json!([2])),
        (json!({ "pair": { "contains": "jpy" } }), json!([])),
        (json!({ "pair": { "from": "EUR/K", "to": "EUR/~" } }), json!([1])),
        (json!({ "n": 2 }), json!([2])),
        (json!({ "n": 2.0 }), json!([2])),
        (json!({ "n": { "from": 2 } }), json!([2, 3])),
        (json!({ "n": { "to": 2, "in": [1, 3] } }), json!([1])),
        (json!({ "price": 1.1 }), json!([1, null])),
        (json!({ "price": 143 }), json!([2])),
        (json!({ "price": { "from": 1.1, "to": 143 } }), json!([1, 2, null])),
        (json!({ "open": true }), json!([1, null])),
        (json!({ "open": false }), json!([2])),
        (json!({ "open": null }), json!([3])),
        (json!({ "tags": { "contains": "b" } }), json!([1, 3])),
        (json!({ "tags": { "contains": ["a", "b"] } }), json!([1])),
        (json!({ "tags": null }), json!([null])),
        (json!({ "raw": null }), json!([2, null])),
        (json!({ "day": "2024-01-02" }), json!([2])),
        (json!({ "day": { "from": "2024-01-02", "to": "2024-02" } }), json!([2, 3])),
        (json!({ "day": { "from": "2024", "to": "2024" } }), json!([1, 2, 3])),
        (json!({ "at": "2024-01-01T10:00:00+01:00" }), json!([1])),
        (json!({ "at": { "to": "2024-02-01" } }), json!([1, 2, 3])),
        (json!({ "at": { "from": "2024-01-02T09:00:00Z", "to": "2024" } }), json!([2, 3])),
        (json!({ "at": { "from": "2024-02" } }), json!([3, null])),
        (json!({ "pair": "EUR/USD", "n": 2 }), json!([])),
    ] {
        let request = json!({ "where": condition });
        assert_eq!(schema.check(&request), Ok(()), "the interface allows {request}");
        assert_eq!(numbers(&table, request).await.as_ref(), Ok(&expected), "{condition}");
    }
}

#[tokio::test]
async fn rows_are_sorted_cut_and_counted() {
    let (_files, table) = trades();
    for (request, expected) in [
        (json!({ "order": "-n" }), json!([3, 2, 1, null])),
        (json!({ "order": "n" }), json!([null, 1, 2, 3])),
        (json!({ "order": ["price", "-n"] }), json!([3, 1, null, 2])),
        (json!({ "order": "price" }), json!([3, 1, null, 2])),
        (json!({ "limit": 2 }), json!([1, 2])),
        (json!({ "limit": 2, "offset": 1 }), json!([2, 3])),
        (json!({ "offset": 10 }), json!([])),
        (json!({ "limit": 0 }), json!([])),
    ] {
        assert_eq!(numbers(&table, request.clone()).await.as_ref(), Ok(&expected), "{request}");
    }
    let cut = one(&table, json!({ "limit": 2, "columns": ["n"] })).await.unwrap();
    assert_eq!(cut, json!({ "columns": ["n"], "rows": [[1], [2]], "truncated": true }));
    let counted =
        one(&table, json!({ "limit": 2, "columns": ["n"], "count": true })).await.unwrap();
    assert_eq!(counted["total"], json!(4));
    let exact = one(&table, json!({ "limit": 4, "columns": ["n"] })).await.unwrap();
    assert_eq!((&exact["truncated"], &exact["total"]), (&json!(false), &json!(4)));
    let offset = one(&table, json!({ "offset": 10 })).await.unwrap();
    assert_eq!(
        offset.get("total"),
        None,
        "nothing is known about rows before an offset past the end"
    );
    assert_eq!(
        one(&table, json!({ "columns": ["tags", "day"], "limit": 1 })).await.unwrap()["rows"],
        json!([[["a", "b"], "2024-01-01"]])
    );
}

#[tokio::test]
async fn requests_that_do_not_fit_are_explained() {
    let (_files, table) = trades();
    let schema =
        Validator::new(&interface::input_schema(table.summary(), &Default::default())).unwrap();
    for (request, words) in [
        (json!([]), "must be an object"),
        (json!({ "filter": {} }), "'filter' is not known here; use where"),
        (json!({ "where": [] }), "where must be an object"),
        (json!({ "where": { "Pair": "x" } }), "no column 'Pair'; columns are "),
        (json!({ "where": { "pair": 5 } }), "column 'pair': '5' is not a string"),
        (json!({ "where": { "pair": { "like": "E%" } } }), "'like' is not a condition on a text"),
        (json!({ "where": { "pair": {} } }), "the condition is empty"),
        (json!({ "where": { "pair": { "in": [] } } }), "in takes a list of 1 to 256"),
        (json!({ "where": { "pair": { "in": "EUR/USD" } } }), "in takes a list"),
        (json!({ "where": { "pair": ["EUR/USD"] } }), "is not a string"),
        (json!({ "where": { "pair": { "contains": 5 } } }), "contains takes"),
        (json!({ "where": { "n": 1.5 } }), "'1.5' is not a whole number"),
        (json!({ "where": { "n": "1" } }), "is not a whole number"),
        (json!({ "where": { "n": { "from": null } } }), "is not a whole number"),
        (json!({ "where": { "open": { "from": true } } }), "'from' is not a condition on a bool"),
        (json!({ "where": { "tags": "a" } }), "a set takes {\"contains\""),
        (json!({ "where": { "raw": { "x": 1 } } }), "'x' is not a condition on a json"),
        (json!({ "where": { "day": "2024" } }), "is not a day (YYYY-MM-DD)"),
        (
            json!({ "where": { "day": { "from": "yesterday" } } }),
            "is not a day (YYYY-MM-DD), a month or a year",
        ),
        (json!({ "columns": [] }), "at least one column"),
        (json!({ "columns": ["n", "n"] }), "names 'n' twice"),
        (json!({ "columns": ["nope"] }), "no column 'nope'"),
        (json!({ "order": "nope" }), "no column 'nope'"),
        (json!({ "order": "--n" }), "no column '-n'"),
        (json!({ "order": "tags" }), "a set has no order"),
        (json!({ "order": [] }), "order must be"),
        (json!({ "limit": -1 }), "limit must be a whole number from 0 to 100000"),
        (json!({ "limit": MAX_ROWS + 1 }), "limit must be"),
        (json!({ "limit": "all" }), "limit must be"),
        (json!({ "offset": 1.5 }), "offset must be"),
        (json!({ "count": 1 }), "count must be true or false"),
    ] {
        match one(&table, request.clone()).await {
            Err(SpecialistError::InvalidRequest { problems }) => {
                assert!(problems[0].contains(words), "{request}: {problems:?}")
            }
            other => panic!("{request}: {other:?}"),
        }
        assert!(schema.check(&request).is_err(), "the interface refuses {request} too");
    }
    // Well-formed days that do not exist pass a schema's pattern and are refused here.
    assert!(one(&table, json!({ "where": { "day": "2023-02-29" } })).await.is_err());
}

#[tokio::test]
async fn names_and_values_are_never_part_of_a_statement() {
    let evil = "x\"; DROP TABLE data; --";
    let files = Files::with(
        "evil.jsonl",
        [
            json!({ evil: "'; DELETE FROM data; --", "c0": 1, "rowid": 2, "it's": "a", "-c0": 5 }),
            json!({ evil: "%_?1", "c0": 2, "rowid": 1, "it's": "b", "-c0": 4 }),
        ]
        .map(|row| row.to_string())
        .join("\n"),
    );
    let table = files.open().unwrap();
    let everything = one(&table, json!({})).await.unwrap();
    for (request, rows) in [
        (json!({ "where": { evil: "'; DELETE FROM data; --" } }), 1),
        (json!({ "where": { evil: "' OR '1'='1" } }), 0),
        (json!({ "where": { evil: { "contains": "%" } } }), 1),
        (json!({ "where": { evil: { "in": ["') OR 1=1 --", "?1"] } } }), 0),
        (json!({ "where": { "it's": "a' --" } }), 0),
        (json!({ "order": [format!("-{evil}"), "it's"] }), 2),
        (json!({ "columns": [evil, "rowid"] }), 2),
    ] {
        let answer = one(&table, request.clone()).await.unwrap();
        assert_eq!(answer["rows"].as_array().unwrap().len(), rows, "{request}");
    }
    // A column named with a minus is itself, not another one descending.
    let ordered = one(&table, json!({ "order": "-c0", "columns": ["-c0"] })).await.unwrap();
    assert_eq!(ordered["rows"], json!([[4], [5]]));
    for request in [
        json!({ "where": { "c0; DROP TABLE data": 1 } }),
        json!({ "order": "rowid; DROP TABLE data" }),
        json!({ "columns": ["sqlite_version()"] }),
        json!({ "limit": "1; DROP TABLE data" }),
    ] {
        assert!(matches!(one(&table, request).await, Err(SpecialistError::InvalidRequest { .. })));
    }
    assert_eq!(one(&table, json!({})).await.unwrap(), everything);
}

fn large(rows: usize) -> (Files, Table) {
    let mut csv = String::from("n,m\n");
    for n in 0..rows {
        csv.push_str(&format!("{n},{}\n", n * 7 % 1000));
    }
    let files = Files::with("large.csv", csv);
    let table = files.open().unwrap();
    (files, table)
}

#[tokio::test]
async fn large_answers_are_streamed_in_parts() {
    let (_files, table) = large(1000);
    let given = parts(&table, json!({ "columns": ["n"] })).await.unwrap();
    let sizes: Vec<usize> =
        given.iter().map(|part| part["rows"].as_array().unwrap().len()).collect();
    assert_eq!(sizes, [CHUNK_ROWS, CHUNK_ROWS, CHUNK_ROWS, 1000 - 3 * CHUNK_ROWS]);
    let numbers: Vec<&Value> =
        given.iter().flat_map(|part| part["rows"].as_array().unwrap()).map(|row| &row[0]).collect();
    assert!(numbers.iter().enumerate().all(|(n, value)| **value == json!(n)));
    assert!(given[..3].iter().all(|part| part.get("truncated").is_none()));
    assert_eq!((&given[3]["truncated"], &given[3]["total"]), (&json!(false), &json!(1000)));
    // Exactly one part is an answer, not a stream.
    assert_eq!(
        one(&table, json!({ "limit": CHUNK_ROWS })).await.unwrap()["truncated"],
        json!(true)
    );
}

#[tokio::test]
async fn parts_are_bounded_in_bytes_too() {
    let text = "x".repeat(100_000);
    let files = Files::with("wide.csv", format!("a\n{}", format!("{text}\n").repeat(20)));
    let given = parts(&files.open().unwrap(), json!({})).await.unwrap();
    assert!(
        given.len() >= 5 && given.iter().all(|part| part["rows"].as_array().unwrap().len() <= 4)
    );
    assert_eq!(given.iter().map(|part| part["rows"].as_array().unwrap().len()).sum::<usize>(), 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_query_stops_when_its_call_is_over() {
    // Every row is searched for 256 members from its far end: minutes of work before the first answer.
    let members: Vec<String> = (0..4000).map(|n| format!("m{n}")).collect();
    let rows: String =
        (0..200).map(|n| format!("{}\n", json!({ "n": n, "members": members }))).collect();
    let files = Files::with("slow.jsonl", rows);
    let table = files.open().unwrap();
    let endless =
        json!({ "where": { "members": { "contains": members[4000 - 256..] } }, "count": true });
    // More of them than there are readers, so that the last call finds none free if one went on.
    for _ in 0..2 * MAX_READERS {
        let outcome = table.call(within(endless.clone(), Duration::from_millis(5))).await;
        assert_eq!(
            outcome.unwrap_err(),
            SpecialistError::Timeout { after: Duration::from_millis(5) }
        );
        let call = invocation(endless.clone());
        let cancel = call.cancel.clone();
        let mut running = table.call(call);
        assert!((&mut running).now_or_never().is_none());
        cancel.cancel();
        assert_eq!(running.await.unwrap_err(), SpecialistError::Cancelled);
        let mut abandoned = table.call(invocation(endless.clone()));
        assert!((&mut abandoned).now_or_never().is_none());
    }
    assert_eq!(
        one(&table, json!({ "where": { "n": 5 }, "columns": ["n"] })).await.unwrap()["rows"],
        json!([[5]])
    );
}

#[tokio::test]
async fn too_many_conditions_are_refused_and_as_many_as_allowed_work() {
    let names: Vec<String> = (0..200).map(|n| format!("t{n}")).collect();
    let files =
        Files::with("wide.csv", format!("{}\n{}\n", names.join(","), vec!["word"; 200].join(",")));
    let table = files.open().unwrap();
    let all = |columns: usize, condition: Value| {
        let conditions: serde_json::Map<String, Value> =
            names.iter().take(columns).map(|name| (name.clone(), condition.clone())).collect();
        json!({ "where": conditions })
    };
    let texts = |n: usize| vec!["or"; n];
    let found = one(&table, all(2, json!({ "contains": texts(256) }))).await.unwrap();
    assert_eq!(found["rows"].as_array().unwrap().len(), 1);
    let found = one(&table, all(32, json!({ "in": vec!["word"; 256] }))).await.unwrap();
    assert_eq!(found["rows"].as_array().unwrap().len(), 1);
    for request in [all(3, json!({ "contains": texts(256) })), all(33, json!({ "in": texts(256) }))]
    {
        assert!(matches!(one(&table, request).await, Err(SpecialistError::InvalidRequest { .. })));
    }
}

#[tokio::test]
async fn cancelling_ends_a_stream_and_frees_its_reader() {
    let (_files, table) = large(20_000);
    for _ in 0..3 * MAX_READERS {
        let call = invocation(json!({ "limit": 20_000 }));
        let cancel = call.cancel.clone();
        let Answer::Stream(mut stream) = table.call(call).await.unwrap() else {
            panic!("a stream was promised")
        };
        assert!(stream.next().await.unwrap().is_ok());
        cancel.cancel();
        assert_eq!(stream.next().await, Some(Err(SpecialistError::Cancelled)));
        assert_eq!(stream.next().await, None);
    }
    assert_eq!(one(&table, json!({ "limit": 1 })).await.unwrap()["rows"], json!([[0, 0]]));
}

#[tokio::test]
async fn abandoned_streams_free_their_readers() {
    let (_files, table) = large(20_000);
    for _ in 0..3 * MAX_READERS {
        let Answer::Stream(mut stream) =
            table.call(invocation(json!({ "limit": 20_000 }))).await.unwrap()
        else {
            panic!("a stream was promised")
        };
        assert!(stream.next().await.unwrap().is_ok());
    }
    assert_eq!(one(&table, json!({ "limit": 1 })).await.unwrap()["rows"], json!([[0, 0]]));
}

#[tokio::test]
async fn more_calls_than_readers_wait_and_too_many_are_refused() {
    let (_files, table) = large(20_000);
    let mut held = Vec::new();
    for _ in 0..MAX_READERS {
        // A stream that nobody reads on holds its reader.
        held.push(table.call(invocation(json!({ "limit": 20_000 }))).await.unwrap());
    }
    let mut waiting: Vec<_> =
        (0..MAX_WAITING).map(|_| table.call(invocation(json!({ "limit": 1 })))).collect();
    assert!(waiting.iter_mut().all(|call| call.now_or_never().is_none()));
    assert_eq!(
        one(&table, json!({ "limit": 1 })).await,
        Err(SpecialistError::Busy { waiting: MAX_WAITING })
    );
    drop(held);
    for outcome in futures_util::future::join_all(waiting).await {
        assert!(outcome.is_ok(), "{outcome:?}");
    }
}
