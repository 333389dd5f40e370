//! Files as tables: types, nulls, and everything that can be wrong with a file.

use std::fs::OpenOptions;
use std::io::Write;

use comity_specialist::table::{
    ColumnType, Format, MAX_COLUMNS, MAX_RECORD_BYTES, Table, TableConfig, TableError,
};
use serde_json::{Value, json};

use crate::common::{Files, one};

async fn all(table: &Table) -> Value {
    one(table, json!({})).await.unwrap()["rows"].clone()
}

fn kinds(table: &Table) -> Vec<&'static str> {
    table.summary().columns.iter().map(|column| column.kind.name()).collect()
}

fn refused(name: &str, content: impl AsRef<[u8]>) -> (TableError, String) {
    let files = Files::with(name, content);
    let error = files.open().expect_err("must be refused");
    assert_eq!(files.cached(), Vec::<String>::new(), "nothing half-made is left");
    let text = error.to_string();
    assert!(text.contains(name), "names the file: {text}");
    (error, text)
}

#[tokio::test]
async fn types_are_decided_by_the_whole_file() {
    let mut csv = String::from("int,late text,decimal,bool,day,moment,zip,long,empty,mixed time\n");
    for _ in 0..2000 {
        csv.push_str("1,2,3,true,2024-01-01,2024-01-01T00:00:00Z,00501,1.5,,2024-01-01\n");
    }
    csv.push_str("-9223372036854775808,not a number,1.25,FALSE,2024-02-29,2024-02-29 13:00,10001,0.12345678901234567890,,2024-02-29T01:02:03.5+01:00\n");
    let table = Files::with("t.csv", csv);
    let table = table.open().unwrap();
    assert_eq!(
        kinds(&table),
        [
            "int",
            "text",
            "decimal",
            "bool",
            "date",
            "timestamp",
            "text",
            "text",
            "text",
            "timestamp"
        ]
    );
    let last = one(&table, json!({ "where": { "late text": "not a number" } })).await.unwrap();
    assert_eq!(
        last["rows"],
        json!([[
            i64::MIN,
            "not a number",
            1.25,
            false,
            "2024-02-29",
            "2024-02-29T13:00:00Z",
            "10001",
            "0.12345678901234567890",
            null,
            "2024-02-29T00:02:03.5Z"
        ]])
    );
}

#[tokio::test]
async fn quoted_fields_blank_lines_and_byte_order_marks_are_read() {
    let files = Files::with(
        "t.csv",
        "\u{feff}name,note\r\n\"a, b\",\"line one\nline \"\"two\"\"\"\r\n\r\nz,\r\n",
    );
    let table = files.open().unwrap();
    assert_eq!(table.summary().columns[0].name, "name");
    assert_eq!(all(&table).await, json!([["a, b", "line one\nline \"two\""], ["z", null]]));
}

#[tokio::test]
async fn json_lines_have_columns_in_order_of_appearance() {
    let lines = concat!(
        "{\"b\": 1, \"a\": \"x\"}\n",
        "\n",
        "{\"a\": \"y\\n\", \"c\": [\"p\", \"q\"], \"d\": {\"deep\": [1]}, \"e\": 1.50, \"f\": true}\r\n",
        "{\"c\": [], \"b\": null, \"d\": 5, \"e\": 12345678901234567890, \"f\": 7}",
    );
    let files = Files::with("t.jsonl", lines);
    let table = files.open().unwrap();
    let names: Vec<&str> =
        table.summary().columns.iter().map(|column| column.name.as_str()).collect();
    assert_eq!(names, ["b", "a", "c", "d", "e", "f"]);
    assert_eq!(kinds(&table), ["int", "text", "set", "json", "text", "text"]);
    assert_eq!(
        all(&table).await,
        json!([[1, "x", null, null, null, null],
               [null, "y\n", ["p", "q"], { "deep": [1] }, "1.50", "true"],
               [null, null, [], 5, "12345678901234567890", "7"]])
    );
}

#[tokio::test]
async fn null_values_delimiters_columns_and_formats_can_be_chosen() {
    let files = Files::with("t.dat", "day;x;y\n2024-01-01;N/A;1\n2024-01-02;5;2\n");
    assert!(matches!(files.open(), Err(TableError::UnknownFormat { .. })));
    let mut config = TableConfig::new(&files.file);
    config.format = Some(Format::Csv);
    config.delimiter = Some(b';');
    config.null_values = vec!["N/A".to_owned()];
    config.columns = vec!["x".to_owned(), "day".to_owned()];
    let table = Table::open(&config, &files.cache()).unwrap();
    assert_eq!(kinds(&table), ["int", "date"]);
    assert_eq!(all(&table).await, json!([[null, "2024-01-01"], [5, "2024-01-02"]]));
    config.columns = vec!["z".to_owned()];
    let error = Table::open(&config, &files.cache()).unwrap_err();
    assert!(
        matches!(&error, TableError::NoSuchColumn { column, known, .. } if column == "z" && known.len() == 3)
    );
    config.columns.clear();
    config.time_column = Some("x".to_owned());
    assert!(matches!(Table::open(&config, &files.cache()), Err(TableError::NoSuchColumn { .. })));
}

#[test]
fn headers_that_cannot_be_used_are_named() {
    for (content, words) in [
        ("a,b,a\n1,2,3\n", "column 3 has the same name as another: \"a\""),
        ("a,,c\n1,2,3\n", "column 2 has no name"),
        ("a,\"b\tc\"\n1,2\n", "column 2 has control characters"),
        ("a;b;c\n1;2;3\n", "delimiter"),
    ] {
        let (error, text) = refused("t.csv", content);
        assert!(
            matches!(error, TableError::Header { .. })
                && text.contains(words)
                && text.contains("line 1"),
            "{text}"
        );
    }
    let (_, text) = refused("t.csv", format!("{}\n1\n", "x".repeat(65)));
    assert!(text.contains("longer than 64"), "{text}");
    let wide: Vec<String> = (0..=MAX_COLUMNS).map(|n| format!("c{n}")).collect();
    let (_, text) = refused("t.csv", format!("{}\n", wide.join(",")));
    assert!(text.contains("one more than the 256"), "{text}");
    let (_, text) = refused("t.csv", b"a,\xff\n1,2\n");
    assert!(text.contains("UTF-8"), "{text}");
}

#[test]
fn rows_that_cannot_be_used_are_named_with_their_line() {
    for (name, content, line, words) in [
        ("t.csv", "a,b\n1,2\n3\n".as_bytes(), 3, "1 fields, but the header has 2"),
        ("t.csv", b"a,b\n1,2\n\"x\ny\",2\n1,2,3\n", 5, "3 fields"),
        ("t.csv", b"a,b\n1,2\n1,\xff\xfe\n", 3, "column \"b\" is not UTF-8"),
        ("t.jsonl", b"{\"a\":1}\n{\"a\":\n", 2, "not a JSON object"),
        ("t.jsonl", b"{\"a\":1}\n\n[1]\n", 3, "not a JSON object"),
        ("t.jsonl", b"{\"a\":1}\n{\"a\":1,\"a\":2}\n", 2, "appears twice"),
        ("t.jsonl", b"{\"a\":1}\n{\"\":2}\n", 2, "has no name"),
        ("t.jsonl", b"{\"a\":\"\xff\"}\n", 1, "UTF-8"),
        ("t.jsonl", b"{\"a\":\"\\ud800\"}\n", 1, ""),
        ("t.jsonl", b"{\"a\":1} {\"a\":2}\n", 1, "not a JSON object"),
    ] {
        let (error, text) = refused(name, content);
        match error {
            TableError::Row { line: at, problem, .. } => {
                assert_eq!(at, line, "{text}");
                assert!(problem.contains(words), "{text}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn records_without_an_end_do_not_fill_memory() {
    let (error, text) = refused("t.csv", format!("a,b\n1,\"{}", "x".repeat(2 * MAX_RECORD_BYTES)));
    assert!(matches!(error, TableError::Row { .. }) && text.contains("quote left open"), "{text}");
    let (error, _) =
        refused("t.jsonl", format!("{{\"a\":\"{}\"}}\n", "x".repeat(MAX_RECORD_BYTES)));
    assert!(matches!(error, TableError::Row { line: 1, .. }));
    let long = "x".repeat(MAX_RECORD_BYTES / 2);
    let files = Files::with("t.csv", format!("a,b\n1,{long}\n2,{long}\n3,{long}\n4,{long}\n"));
    assert_eq!(files.open().unwrap().summary().rows, 4);
}

#[test]
fn empty_and_missing_files_are_named() {
    for (name, content) in
        [("t.csv", ""), ("t.csv", "a,b\n"), ("t.jsonl", ""), ("t.jsonl", "\n\n"), ("t.csv", "\n\n")]
    {
        assert!(matches!(refused(name, content).0, TableError::Empty { .. }), "{name} {content:?}");
    }
    let files = Files::with("t.csv", "a\n1\n");
    let absent = TableConfig::new(files.directory.path().join("absent.csv"));
    assert!(matches!(Table::open(&absent, &files.cache()), Err(TableError::Read { .. })));
    let directory = files.directory.path().join("directory.csv");
    std::fs::create_dir(&directory).unwrap();
    assert!(matches!(
        Table::open(&TableConfig::new(directory), &files.cache()),
        Err(TableError::Read { .. })
    ));
}

#[tokio::test]
async fn an_import_is_made_once_and_anew_when_the_content_changes() {
    let files = Files::with("t.csv", "a\n1\n");
    let first = files.open().unwrap();
    let made = std::fs::metadata(first.database()).unwrap().modified().unwrap();
    let again = files.open().unwrap();
    assert_eq!(first.database(), again.database());
    assert_eq!(first.summary(), again.summary());
    assert_eq!(std::fs::metadata(again.database()).unwrap().modified().unwrap(), made);
    writeln!(OpenOptions::new().append(true).open(&files.file).unwrap(), "2").unwrap();
    let changed = files.open().unwrap();
    assert_ne!(changed.database(), first.database());
    assert_ne!(changed.summary().data_version, first.summary().data_version);
    assert_eq!(all(&changed).await, json!([[1], [2]]));
    assert_eq!(all(&first).await, json!([[1]]), "the first table still answers from its own data");
}

#[tokio::test]
async fn damaged_caches_are_made_anew() {
    let files = Files::with("t.csv", "a\n1\n");
    let database = files.open().unwrap().database().to_owned();
    let whole = std::fs::read(&database).unwrap();
    for damaged in [Vec::new(), b"not a database".to_vec(), whole[..whole.len() / 2].to_vec()] {
        std::fs::write(&database, damaged).unwrap();
        assert_eq!(all(&files.open().unwrap()).await, json!([[1]]));
    }
}

#[test]
fn a_cache_that_cannot_be_written_is_named() {
    let files = Files::with("t.csv", "a\n1\n");
    let error = Table::open(&TableConfig::new(&files.file), &files.file.join("cache")).unwrap_err();
    assert!(matches!(error, TableError::Cache { .. }), "{error:?}");
}

#[test]
fn resolution_is_the_usual_gap() {
    let csv = |times: &[&str]| times.iter().fold("t\n".to_owned(), |csv, time| csv + time + "\n");
    let cases: [(&[&str], Option<&str>); 10] = [
        (&["2024-01-05", "2024-01-08", "2024-01-09", "2024-01-10"], Some("P1D")),
        (&["2024-01-31", "2024-02-29", "2024-03-31", "2024-04-30"], Some("P1M")),
        (&["2020-01-01", "2021-01-01", "2022-01-01"], Some("P1Y")),
        (&["2024-01-01", "2024-04-01", "2024-07-01"], Some("P3M")),
        (&["2024-01-01", "2024-01-08", "2024-01-15"], Some("P7D")),
        (&["2024-01-01T00:00:00Z", "2024-01-01T00:01:00Z", "2024-01-01T00:02:00Z"], Some("PT1M")),
        (
            &["2024-01-01T00:00:00Z", "2024-01-01T01:30:00Z", "2024-01-01T03:00:00Z"],
            Some("PT1H30M"),
        ),
        (&["2024-01-01T00:00:00.000Z", "2024-01-01T00:00:00.250Z"], Some("PT0.25S")),
        (&["2024-01-01", "2024-01-02", "2024-01-10", "2024-03-01", "2024-03-05"], None),
        (&["2024-01-01", "2024-01-01"], None),
    ];
    for (times, expected) in cases {
        let table = Files::with("t.csv", csv(times));
        let table = table.open().unwrap();
        let time = table.summary().time.as_ref().unwrap();
        assert_eq!(time.resolution.as_deref(), expected, "{times:?}");
        assert_eq!(time.from.get(..10), times[0].get(..10));
    }
}

#[test]
fn value_sets_ranges_and_places_are_derived() {
    let mut csv = String::from("side,n,id,Latitude,LNG,flag\n");
    for n in 0..100 {
        csv.push_str(&format!(
            "{},{},k{n},{}.5,{},{}\n",
            ["buy", "sell"][n % 2],
            n % 12,
            n % 50,
            n,
            n % 2 == 0
        ));
    }
    let files = Files::with("t.csv", csv);
    let table = files.open().unwrap();
    let summary = table.summary();
    assert_eq!(
        summary.column("side").unwrap().values,
        Some(vec!["buy".to_owned(), "sell".to_owned()])
    );
    let expected: Vec<String> = (0..12).map(|n: i32| n.to_string()).collect();
    assert_eq!(
        summary.column("n").unwrap().values.as_ref(),
        Some(&expected),
        "numbers in their own order"
    );
    assert_eq!(summary.column("n").unwrap().range, Some(("0".to_owned(), "11".to_owned())));
    assert_eq!(summary.column("flag").unwrap().values.as_ref().unwrap().len(), 2);
    let id = summary.column("id").unwrap();
    assert!(id.unique && id.values.is_none() && id.kind == ColumnType::Text);
    let bbox = summary.bbox.unwrap();
    assert_eq!((bbox.south, bbox.west, bbox.north, bbox.east), (0.5, 0.0, 49.5, 99.0));
    let page = summary.to_string();
    for words in ["t.csv: 100 rows, 6 columns", "2 values: buy, sell", "unique", "0.5..49.5 N"] {
        assert!(page.contains(words), "{words}: {page}");
    }
}
