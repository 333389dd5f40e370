//! Manifests: reading, checking, declaring.

use std::path::Path;

use comity_specialist::manifest::{
    self, Finding, Level, Manifest, ManifestError, OpenError, Visibility,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::common::{Files, data, one};

fn find<'f>(findings: &'f [Finding], field: &str) -> &'f Finding {
    findings
        .iter()
        .find(|finding| finding.field == field)
        .unwrap_or_else(|| panic!("no finding on {field}: {findings:#?}"))
}

fn toml(text: &str) -> Manifest {
    Manifest::from_toml(text).unwrap()
}

#[test]
fn a_table_file_alone_declares_itself() {
    let cache = tempfile::tempdir().unwrap();
    let served =
        manifest::open(&Manifest::for_table(data("ecb-reference-rates.csv")), cache.path())
            .unwrap();
    let capability = &served.declaration.capability;
    assert_eq!(
        (capability.name.as_str(), capability.title.as_str()),
        ("ecb-reference-rates", "ecb reference rates")
    );
    assert!(
        capability
            .text
            .starts_with("Table of 3029 rows, 2015-01-02 to 2026-10-30; columns date, USD")
    );
    for key in ["data:fields", "data:rows", "schema:temporalCoverage", "dcat:temporalResolution"] {
        assert!(capability.attributes.contains_key(key), "{key}");
    }
    assert!(
        capability.idempotent && capability.streaming && capability.data_version.starts_with("b3:")
    );
    assert_eq!(
        capability.to_json()["visibility"],
        json!("private"),
        "nothing is published unasked"
    );
    assert_eq!(find(&served.declaration.findings, "visibility").level, Level::Hint);
    assert_eq!(find(&served.declaration.findings, "classes").level, Level::Warning);
    capability.check().unwrap();
}

#[test]
fn names_are_derived_from_odd_file_names() {
    let files = Files::with("  Über Größe (final) v2.CSV", "a\n1\n");
    let served = manifest::open(&Manifest::for_table(&files.file), &files.cache()).unwrap();
    assert_eq!(served.declaration.capability.name, "ber-gr-e-final-v2");
}

#[test]
fn columns_named_like_known_sets_become_attributes() {
    let files = Files::with("t.csv", "pair,country,note\neurusd,ch,x\nEUR-JPY,uk,x\neurusd,ch,y\n");
    let served = manifest::open(&Manifest::for_table(&files.file), &files.cache()).unwrap();
    let attribute = |key: &str| served.declaration.capability.attributes[key].to_json();
    assert_eq!(attribute("fin:pair"), json!(["EUR/JPY", "EUR/USD"]));
    assert_eq!(attribute("geo:country"), json!(["CH", "GB"]));
}

#[test]
fn unknown_classes_are_kept_with_a_warning_and_the_nearest_known() {
    let manifest = toml(
        "name = 'x'\ndescription = 'x'\nclasses = ['fx', 'capital_market', 'acme:own', 'has space']\n[http]\nurl = 'http://127.0.0.1:1/'",
    );
    let findings = manifest::check(&manifest);
    let near = find(&findings, "classes[1]");
    assert_eq!(near.level, Level::Warning);
    assert!(near.fix.contains("finance_and_business/capital_markets"), "{near}");
    assert_eq!(find(&findings, "classes[2]").level, Level::Warning);
    assert_eq!(find(&findings, "classes[3]").level, Level::Error);
    assert!(!findings.iter().any(|finding| finding.field == "classes[0]"));
    let manifest =
        toml("name = 'x'\nclasses = ['acme:own', 'fx']\n[http]\nurl = 'http://127.0.0.1:1/'");
    let declaration = manifest::declare(&manifest, None).unwrap();
    let classes: Vec<String> =
        declaration.capability.classes.iter().map(ToString::to_string).collect();
    assert_eq!(classes, ["acme:own", "comity1:domain/10002"]);
}

#[test]
fn each_mistake_has_a_finding_that_says_what_to_mend() {
    let http = "[http]\nurl = 'http://127.0.0.1:1/'\n";
    for (text, field, words) in [
        (String::new(), "table", "nothing says what answers"),
        (http.to_owned(), "name", "no name"),
        (format!("name = 'Not A Name'\n{http}"), "name", "a-z 0-9"),
        (format!("name = 'x'\n{http}[exec]\ncommand = 'cat'"), "table", "several"),
        ("name = 'x'\n[http]\nurl = 'https://x/'".to_owned(), "http.url", "https"),
        ("name = 'x'\n[exec]\ncommand = \"echo 'open\"".to_owned(), "exec.command", "quotes"),
        ("name = 'x'\n[exec]\ncommand = []".to_owned(), "exec.command", "words"),
        (
            "name = 'x'\n[exec]\ncommand = 'cat'\nworkers = 1000".to_owned(),
            "exec.workers",
            "bounds",
        ),
        (
            "name = 'x'\n[exec]\ncommand = 'cat'\ntimeout = 'soon'".to_owned(),
            "exec.timeout",
            "not a time",
        ),
        (
            "name = 'x'\n[table]\nfile = '/nonexistent/x.csv'".to_owned(),
            "table.file",
            "/nonexistent/x.csv",
        ),
        ("name = 'x'\n[table]\nfile = '/'".to_owned(), "table.file", "not a file"),
        (
            "name = 'x'\n[table]\nfile = '/etc/passwd'\ndelimiter = 'é'".to_owned(),
            "table.delimiter",
            "ASCII",
        ),
        (format!("name = 'x'\nvalid_for = 'soon'\n{http}"), "valid_for", "duration"),
        (format!("name = 'x'\nprice = 'cheap'\n{http}"), "price", "offer:price"),
        (
            format!("name = 'x'\n[attributes]\ntime = 'whenever'\n{http}"),
            "attributes.time",
            "temporalCoverage",
        ),
        (
            format!("name = 'x'\n[attributes]\n'bad key' = 1\n{http}"),
            "attributes.bad key",
            "attribute key",
        ),
        (
            format!("name = 'x'\n[input_schema]\ntype = 5\n{http}"),
            "input_schema",
            "not a valid JSON Schema",
        ),
        (
            format!("name = 'x'\n[output_schema]\n'$ref' = 'http://x/'\n{http}"),
            "output_schema",
            "inside the document",
        ),
        (format!("name = 'x'\ntitle = '{}'\n{http}", "t".repeat(200)), "manifest", "limit"),
        (
            format!("name = 'x'\nexamples = ['a','b','c','d','e','f']\n{http}"),
            "manifest",
            "examples",
        ),
        (format!("name = 'x'\nclasses = ['a','b','c','d','e']\n{http}"), "classes", "limit is 4"),
    ] {
        let findings = manifest::check(&toml(&text));
        let finding = find(&findings, field);
        assert_eq!(finding.level, Level::Error, "{text}: {finding}");
        assert!(finding.message.contains(words) && !finding.fix.is_empty(), "{text}: {finding}");
        assert_eq!(findings[0].level, Level::Error, "worst first");
    }
}

#[test]
fn hints_say_what_would_be_found_more_easily() {
    let findings = manifest::check(&toml(
        "name = 'x'\n[attributes]\nresolutoin = 'P1D'\n[http]\nurl = 'http://127.0.0.1:1/'",
    ));
    for (field, level) in [
        ("description", Level::Warning),
        ("classes", Level::Warning),
        ("input_schema", Level::Warning),
        ("output_schema", Level::Hint),
        ("examples", Level::Hint),
        ("title", Level::Hint),
        ("visibility", Level::Hint),
        ("attributes.resolutoin", Level::Hint),
    ] {
        assert_eq!(find(&findings, field).level, level, "{field}");
    }
    assert!(find(&findings, "attributes.resolutoin").fix.contains("dcat:temporalResolution"));
}

#[test]
fn claims_beyond_the_file_are_noticed() {
    let files = Files::with("t.csv", "day,x\n2021-01-01,1\n2021-01-02,2\n");
    let mut manifest = Manifest::for_table(&files.file);
    manifest.attributes.insert("time".to_owned(), json!("2019/2024"));
    let served = manifest::open(&manifest, &files.cache()).unwrap();
    let finding = find(&served.declaration.findings, "attributes.time");
    assert!(finding.level == Level::Warning && finding.message.contains("2021-01-01"), "{finding}");
    manifest.attributes.insert("time".to_owned(), json!("2021-01-01"));
    let served = manifest::open(&manifest, &files.cache()).unwrap();
    assert!(!served.declaration.findings.iter().any(|finding| finding.field == "attributes.time"));
}

#[test]
fn misspelt_members_are_refused_with_what_would_be_right() {
    let error = Manifest::from_toml("name = 'x'\nclases = ['fx']").unwrap_err();
    assert!(
        error.contains("clases") && error.contains("line 2") && error.contains("classes"),
        "{error}"
    );
    let error = Manifest::from_toml("[exec]\ncomand = 'cat'").unwrap_err();
    assert!(error.contains("comand") && error.contains("command"), "{error}");
    let error = Manifest::from_json("{\"visibility\": \"secret\"}").unwrap_err();
    assert!(error.contains("secret") && error.contains("public"), "{error}");
    let files = Files::with("m.toml", "name = ");
    match Manifest::load(&files.file) {
        Err(ManifestError::Parse { problem, .. }) => {
            assert!(problem.contains("line 1"), "{problem}")
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(
        Manifest::load(Path::new("/nonexistent.toml")),
        Err(ManifestError::Read { .. })
    ));
    let files = Files::with("m.toml", format!("name = '{}'", "x".repeat(300_000)));
    assert!(matches!(Manifest::load(&files.file), Err(ManifestError::TooLarge { .. })));
}

#[test]
fn toml_and_json_say_the_same() {
    let from_toml = toml(
        "name = 'x'\ninput_schema = true\n[attributes]\nmodified = 2024-01-01\nrows = 5\n[exec]\ncommand = ['cat', '-u']\n[exec.env]\nA = 'b'",
    );
    let from_json = Manifest::from_json(&json!({ "name": "x", "input_schema": true, "attributes": { "modified": "2024-01-01", "rows": 5 },
        "exec": { "command": ["cat", "-u"], "env": { "A": "b" } } }).to_string()).unwrap();
    assert_eq!(from_toml, from_json);
}

#[test]
fn flags_win_over_the_file() {
    let file = toml(
        "name = 'x'\ntitle = 'kept'\nclasses = ['fx']\n[attributes]\na = 1\nb = 1\n[exec]\ncommand = 'cat'",
    );
    let flags = Manifest {
        name: Some("y".to_owned()),
        classes: vec!["airports".to_owned()],
        attributes: [("b".to_owned(), json!(2))].into(),
        visibility: Some(Visibility::Public),
        ..Manifest::for_table("t.csv")
    };
    let merged = file.merged(flags);
    assert_eq!((merged.name.as_deref(), merged.title.as_deref()), (Some("y"), Some("kept")));
    assert_eq!(merged.classes, ["airports"]);
    assert_eq!(merged.attributes, [("a".to_owned(), json!(1)), ("b".to_owned(), json!(2))].into());
    assert!(merged.table.is_some() && merged.exec.is_none(), "one source replaces the other");
}

#[tokio::test]
async fn a_program_is_served_behind_its_schemas() {
    let files = Files::with("schema.json", "{\"type\": \"object\", \"required\": [\"q\"]}");
    let manifest_file = files.directory.path().join("m.toml");
    std::fs::write(&manifest_file, "name = 'echo'\ndescription = 'echoes'\ninput_schema = 'schema.json'\noutput_schema = { required = ['a'] }\n[exec]\ncommand = 'cat'").unwrap();
    let manifest = Manifest::load(&manifest_file).unwrap();
    let served = manifest::open(&manifest, &files.cache()).unwrap();
    assert_eq!(
        one(&served.specialist, json!({ "q": 1, "a": 1 })).await,
        Ok(json!({ "q": 1, "a": 1 }))
    );
    assert_eq!(one(&served.specialist, json!({})).await.unwrap_err().code(), "invalid-request");
    assert_eq!(
        one(&served.specialist, json!({ "q": 1 })).await.unwrap_err().code(),
        "garbage-answer"
    );
    assert_eq!(
        served.declaration.capability.interface.input_schema(),
        json!({ "type": "object", "required": ["q"] })
    );
}

#[test]
fn errors_keep_a_manifest_from_being_served() {
    let files = Files::with("t.csv", "a\n1\n");
    let mut manifest = Manifest::for_table(&files.file);
    manifest.name = Some("NO".to_owned());
    assert!(matches!(
        manifest::open(&manifest, &files.cache()),
        Err(OpenError::Declaration { .. })
    ));
    manifest.name = None;
    manifest.input_schema = Some(json!({}));
    match manifest::open(&manifest, &files.cache()) {
        Err(OpenError::Declaration { findings }) => {
            assert!(find(&findings, "input_schema").fix.contains("describe"))
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_table_too_wide_for_a_record_says_how_to_narrow_it() {
    let names: Vec<String> = (0..200).map(|n| format!("a column with a long name {n}")).collect();
    let files =
        Files::with("wide.csv", format!("{}\n{}\n", names.join(","), vec!["1"; 200].join(",")));
    match manifest::open(&Manifest::for_table(&files.file), &files.cache()) {
        Err(OpenError::Declaration { findings }) => {
            assert!(findings[0].fix.contains("fewer columns"), "{findings:?}")
        }
        other => panic!("{other:?}"),
    }
    let mut narrow = Manifest::for_table(&files.file);
    narrow.table.as_mut().unwrap().columns = names[..5].to_vec();
    assert!(manifest::open(&narrow, &files.cache()).is_ok());
}

proptest! {
    #[test]
    fn no_text_panics(text in "[a-z=\\[\\]{}\"',.\\n0-9]{0,60}") {
        for manifest in [Manifest::from_toml(&text), Manifest::from_json(&text)].into_iter().flatten() {
            let _: Vec<Finding> = manifest::check(&manifest);
        }
    }

    #[test]
    fn no_attribute_panics(key in "\\PC{0,20}", value in prop_oneof![any::<i64>().prop_map(Value::from), any::<f64>().prop_map(Value::from), "\\PC{0,30}".prop_map(Value::from)]) {
        let mut manifest = Manifest { name: Some("x".to_owned()), ..Manifest::default() };
        manifest.attributes.insert(key, value);
        let _: Vec<Finding> = manifest::check(&manifest);
    }
}
