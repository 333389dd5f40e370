//! Requests to a table of every column type: each gets rows that fit the output schema, or a named refusal; the declared
//! input schema and the table agree about what can be asked.
#![no_main]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::OnceLock;

use comity_fuzz::identity;
use comity_specialist::schema::Validator;
use comity_specialist::table::{Table, TableConfig, interface};
use comity_specialist::{Answer, Invocation, Specialist, SpecialistError};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

const ROWS: &str = r#"{"day":"2024-01-02","at":"2024-01-02T10:00:00Z","n":1,"x":0.5,"ok":true,"name":"Zürich","tags":["a","b"],"nested":{"a":1}}
{"day":"2024-01-03","at":"2024-01-03T10:00:00.000001Z","n":-2,"x":-1e3,"ok":false,"name":"it's","tags":[],"nested":null}
{"day":"2024-02-29","at":"1969-12-31T23:59:59Z","n":9007199254740993,"x":2.25,"ok":true,"name":"","tags":["c"],"nested":{"b":[1]}}
{"day":null,"at":null,"n":null,"x":null,"ok":null,"name":null,"tags":null,"nested":null}
"#;

struct Served {
    table: Table,
    input: Validator,
    output: Validator,
    runtime: tokio::runtime::Runtime,
}

fn served() -> &'static Served {
    static SERVED: OnceLock<Served> = OnceLock::new();
    SERVED.get_or_init(|| {
        let directory = tempfile::tempdir().expect("a directory for temporary files");
        let file = directory.path().join("rows.jsonl");
        std::fs::write(&file, ROWS).expect("written");
        let table = open(&file, directory.path());
        // The file stays open for as long as the process runs; its name need not.
        let warm = Served {
            input: Validator::new(&interface::input_schema(table.summary(), &BTreeMap::new()))
                .expect("a valid schema"),
            output: Validator::new(&interface::output_schema(table.summary()))
                .expect("a valid schema"),
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .build()
                .expect("a runtime"),
            table,
        };
        std::mem::forget(directory);
        warm
    })
}

fn open(file: &Path, cache: &Path) -> Table {
    Table::open(&TableConfig::new(file), cache).expect("the table opens")
}

fuzz_target!(|data: &[u8]| {
    let Some(request) = comity_fuzz::json(data) else { return };
    let served = served();
    let declared = served.input.check(&request);
    let call = Invocation {
        capability: "rows".to_owned(),
        request: request.clone(),
        caller: identity(0).id(),
        deadline: None,
        cancel: CancellationToken::new(),
    };
    match served.runtime.block_on(served.table.call(call)) {
        Ok(Answer::One(answer)) => {
            assert_eq!(served.output.check(&answer), Ok(()), "{request} got {answer}");
            assert_eq!(declared, Ok(()), "answered although its own schema refuses {request}");
            of_answer(&request, &answer);
        }
        Ok(Answer::Stream(_)) => panic!("four rows are no stream"),
        // Days that are not in the calendar and the like are beyond what a schema says.
        Err(SpecialistError::InvalidRequest { problems }) => assert!(!problems.is_empty()),
        Err(error) => panic!("{request}: {error}"),
    }
});

fn of_answer(request: &Value, answer: &Value) {
    let columns = answer["columns"].as_array().expect("columns");
    let rows = answer["rows"].as_array().expect("rows");
    assert!(rows.iter().all(|row| row.as_array().is_some_and(|row| row.len() == columns.len())));
    assert!(rows.len() as u64 <= request["limit"].as_u64().unwrap_or(u64::MAX));
    if let Some(wanted) = request.get("columns") {
        assert_eq!(wanted, &answer["columns"]);
    }
    if let Some(total) = answer["total"].as_u64() {
        assert!(total >= rows.len() as u64 && total <= 4);
    }
}
