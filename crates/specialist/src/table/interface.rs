//! The interface of a table as JSON Schemas.
//!
//! One `$defs` entry a type keeps the schema small (a record holds 8 KiB), and everything a request may say is in it, so
//! a caller that checks against the schema is not refused afterwards, except for a day that does not exist.

use std::collections::BTreeMap;

use comity_capability::rows::PROVED_MAX;
use serde_json::{Map, Value, json};

use super::request::{DEFAULT_ROWS, MAX_ORDER_COLUMNS, MAX_ROWS, MAX_VALUES};
use super::summary::{ColumnSummary, TableSummary, abridged};
use super::value::ColumnType;

/// Characters of a listed value set shown in the schema.
const SHOWN_CHARS: usize = 160;

/// The schema a request to this table fits. `notes` adds a description to columns, by name.
#[must_use]
pub fn input_schema(summary: &TableSummary, notes: &BTreeMap<String, String>) -> Value {
    let names: Vec<&str> = summary.columns.iter().map(|column| column.name.as_str()).collect();
    let mut conditions = Map::new();
    let mut definitions = Map::new();
    for column in &summary.columns {
        let mut condition = json!({ "$ref": format!("#/$defs/{}", column.kind.name()) });
        if let Some(text) = describe(column, notes.get(&column.name)) {
            condition["description"] = Value::String(text);
        }
        conditions.insert(column.name.clone(), condition);
        definitions.entry(column.kind.name()).or_insert_with(|| definition(column.kind));
    }
    let sortable: Vec<&str> = summary
        .columns
        .iter()
        .filter(|column| column.kind.is_ordered())
        .map(|column| column.name.as_str())
        .collect();
    let orders: Vec<String> = sortable
        .iter()
        .map(|name| (*name).to_owned())
        .chain(sortable.iter().map(|name| format!("-{name}")))
        .collect();
    definitions.insert("column".to_owned(), json!({ "enum": names }));
    let mut properties = Map::new();
    properties.insert(
        "where".to_owned(),
        json!({ "description": "Conditions by column, all of which must hold.",
                "type": "object", "properties": conditions, "additionalProperties": false }),
    );
    properties.insert(
        "columns".to_owned(),
        json!({ "description": "Columns wanted; all when absent.",
                "type": "array", "items": { "$ref": "#/$defs/column" }, "minItems": 1, "uniqueItems": true }),
    );
    if !orders.is_empty() {
        definitions.insert("order".to_owned(), json!({ "enum": orders }));
        properties.insert(
            "order".to_owned(),
            json!({ "description": "Column to sort by, descending with a leading '-'; file order when absent.",
                    "anyOf": [{ "$ref": "#/$defs/order" },
                              { "type": "array", "items": { "$ref": "#/$defs/order" },
                                "minItems": 1, "maxItems": MAX_ORDER_COLUMNS }] }),
        );
    }
    properties.insert(
        "limit".to_owned(),
        json!({ "description": "Most rows wanted.", "type": "integer", "minimum": 0, "maximum": MAX_ROWS, "default": DEFAULT_ROWS }),
    );
    properties.insert(
        "offset".to_owned(),
        json!({ "type": "integer", "minimum": 0, "maximum": u32::MAX, "default": 0 }),
    );
    properties.insert(
        "count".to_owned(),
        json!({ "description": "Also count all matching rows.", "type": "boolean", "default": false }),
    );
    properties.insert(
        "prove".to_owned(),
        json!({ "description": "Rows by number, with proofs.", "type": "array",
                "items": { "type": "integer" }, "maxItems": PROVED_MAX }),
    );
    json!({ "type": "object", "properties": properties, "additionalProperties": false, "$defs": definitions })
}

/// The schema of an answer, and of every part of a streamed one.
#[must_use]
pub fn output_schema(summary: &TableSummary) -> Value {
    let names: Vec<&str> = summary.columns.iter().map(|column| column.name.as_str()).collect();
    json!({
        "type": "object",
        "properties": {
            "columns": { "type": "array", "items": { "enum": names } },
            "rows": { "description": "Values in the order of `columns`.", "type": "array", "items": { "type": "array" } },
            "truncated": { "description": "More rows match than were given. In the last part.", "type": "boolean" },
            "proof": { "type": "object" },
            "total": { "description": "All matching rows, when counted or known. In the last part.", "type": "integer" }
        },
        "required": ["columns", "rows"],
        "additionalProperties": false
    })
}

fn describe(column: &ColumnSummary, note: Option<&String>) -> Option<String> {
    let derived = match (&column.values, &column.range) {
        (Some(values), _) => Some(format!("one of: {}", abridged(values, SHOWN_CHARS))),
        (None, Some((from, to))) => Some(format!("{from} to {to}")),
        (None, None) => None,
    };
    match (note, derived) {
        (Some(note), Some(derived)) => Some(format!("{note}; {derived}")),
        (Some(text), None) => Some(text.clone()),
        (None, derived) => derived,
    }
}

/// What a condition on a column of this type may be.
fn definition(kind: ColumnType) -> Value {
    let scalar = |kind: &str| json!({ "type": kind });
    match kind {
        ColumnType::Bool => json!({ "type": ["boolean", "null"] }),
        ColumnType::Json => json!({ "type": "null" }),
        ColumnType::Int => condition(&scalar("integer"), Some(&scalar("integer")), None),
        ColumnType::Decimal => condition(&scalar("number"), Some(&scalar("number")), None),
        ColumnType::Text => {
            condition(&scalar("string"), Some(&scalar("string")), Some("the text contains these"))
        }
        ColumnType::Set => json!({ "anyOf": [{ "type": "null" }, {
            "type": "object", "properties": { "contains": contains("the set contains these") },
            "required": ["contains"], "additionalProperties": false }] }),
        ColumnType::Date => {
            let day = json!({ "type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$" });
            let part = json!({ "type": "string", "pattern": "^[0-9]{4}(-[0-9]{2}(-[0-9]{2})?)?$",
                               "description": "A day, month or year; `to` includes its last day." });
            condition(&day, Some(&part), None)
        }
        ColumnType::Timestamp => {
            let moment = json!({ "type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}([Tt ].+)?$",
                                 "description": "RFC 3339" });
            let part = json!({ "type": "string", "pattern": "^[0-9]{4}(-[0-9]{2}(-[0-9]{2}([Tt ].+)?)?)?$",
                               "description": "RFC 3339, or a day, month or year; `to` includes all of it." });
            condition(&moment, Some(&part), None)
        }
    }
}

/// A scalar (equals), null, or an object of `in`, `from`, `to` and `contains`, all of which must hold.
fn condition(scalar: &Value, range: Option<&Value>, containing: Option<&str>) -> Value {
    let mut words = Map::new();
    words.insert(
        "in".to_owned(),
        json!({ "type": "array", "items": { "anyOf": [scalar, { "type": "null" }] }, "minItems": 1, "maxItems": MAX_VALUES }),
    );
    if let Some(range) = range {
        words.insert("from".to_owned(), range.clone());
        words.insert("to".to_owned(), range.clone());
    }
    if let Some(text) = containing {
        words.insert("contains".to_owned(), contains(text));
    }
    json!({ "anyOf": [scalar, { "type": "null" },
        { "type": "object", "properties": words, "additionalProperties": false, "minProperties": 1 }] })
}

fn contains(text: &str) -> Value {
    json!({ "description": text, "anyOf": [{ "type": "string" },
        { "type": "array", "items": { "type": "string" }, "minItems": 1, "maxItems": MAX_VALUES }] })
}
