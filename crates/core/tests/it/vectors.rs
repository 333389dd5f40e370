//! Reading the committed vectors; each file names the implementation that made it.

use comity_core::Identity;
use data_encoding::HEXLOWER;
use serde_json::Value;

pub(crate) fn text_forms() -> Value {
    parse(include_str!("../vectors/text_forms.json"))
}

pub(crate) fn positions() -> Value {
    parse(include_str!("../vectors/positions.json"))
}

pub(crate) fn envelopes() -> Value {
    parse(include_str!("../vectors/envelopes.json"))
}

pub(crate) fn receipts() -> Value {
    parse(include_str!("../vectors/receipts.json"))
}

pub(crate) fn json() -> Value {
    parse(include_str!("../vectors/json.json"))
}

fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

pub(crate) fn rows<'v>(value: &'v Value, field: &str) -> &'v [Value] {
    let rows = value[field].as_array().unwrap();
    assert!(!rows.is_empty());
    rows
}

pub(crate) fn text<'v>(row: &'v Value, field: &str) -> &'v str {
    row[field].as_str().unwrap_or_else(|| panic!("no {field} in {row}"))
}

pub(crate) fn bytes(row: &Value, field: &str) -> Vec<u8> {
    hex(text(row, field))
}

pub(crate) fn bytes32(row: &Value, field: &str) -> [u8; 32] {
    bytes(row, field).try_into().unwrap()
}

pub(crate) fn identity(row: &Value) -> Identity {
    Identity::from_secret_bytes(&bytes32(row, "secret"))
}

pub(crate) fn hex(text: &str) -> Vec<u8> {
    HEXLOWER.decode(text.as_bytes()).unwrap()
}
