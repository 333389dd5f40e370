//! The committed document is the one the types generate. `UPDATE_OPENAPI=1 cargo test -p comity-api` rewrites it.

use std::path::Path;

use comity_api::openapi;

fn committed_path() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi.json")
}

#[test]
fn the_committed_document_is_current() {
    let generated = openapi().to_pretty_json().unwrap() + "\n";
    let path = committed_path();
    if std::env::var_os("UPDATE_OPENAPI").is_some_and(|value| value == "1") {
        std::fs::write(&path, &generated).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == generated,
        "{} is not what the types generate; run the tests with UPDATE_OPENAPI=1 and commit the difference",
        path.display()
    );
}

#[test]
fn every_reference_resolves() {
    let document = serde_json::to_value(openapi()).unwrap();
    let mut references = Vec::new();
    collect_references(&document, &mut references);
    assert!(references.len() > 30, "only {} references found", references.len());
    for reference in references {
        let pointer = reference.strip_prefix('#').expect("references are local");
        assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
}

#[test]
fn every_operation_promises_the_error_body() {
    let document = serde_json::to_value(openapi()).unwrap();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let schema =
                &operation["responses"]["default"]["content"]["application/json"]["schema"]["$ref"];
            assert_eq!(schema, "#/components/schemas/ErrorBody", "{method} {path}");
        }
    }
}

fn collect_references(value: &serde_json::Value, found: &mut Vec<String>) {
    if let Some(map) = value.as_object() {
        for (key, value) in map {
            match value.as_str() {
                Some(reference) if key == "$ref" => found.push(reference.to_owned()),
                Some(_) | None => collect_references(value, found),
            }
        }
    }
    for item in value.as_array().into_iter().flatten() {
        collect_references(item, found);
    }
}
