//! Whether two answers say the same: byte for byte where a capability is exact, within declared tolerances where it is comparable.

use comity_capability::record::{Determinism, Reuse, Tolerance};
use comity_core::canonical::to_json;
use serde_json::Value;

use crate::result::split_items;

/// Whether two bodies (CBOR sequences) answer alike under the declaration. Answers of a `free` capability are never alike: nothing is known.
#[must_use]
pub fn same(reuse: &Reuse, a: &[u8], b: &[u8]) -> bool {
    match reuse.determinism {
        Determinism::Free => false,
        Determinism::Exact => a == b,
        Determinism::Comparable => {
            a == b || values(a).zip(values(b)).is_some_and(|(a, b)| comparable(reuse, &a, &b))
        }
    }
}

fn values(body: &[u8]) -> Option<Vec<Value>> {
    split_items(body)?.into_iter().map(|item| to_json(item).ok()).collect()
}

fn comparable(reuse: &Reuse, a: &[Value], b: &[Value]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| alike(reuse, "", a, b))
}

/// `field` is the last object member above the values. Depth is bounded by the canonical form, which both have.
fn alike(reuse: &Reuse, field: &str, a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(x), Value::Number(y)) => {
            x == y
                || x.as_f64()
                    .zip(y.as_f64())
                    .is_some_and(|(x, y)| near(reuse.tolerance(field), x, y))
        }
        (Value::Array(x), Value::Array(y)) => {
            x.len() == y.len() && x.iter().zip(y).all(|(x, y)| alike(reuse, field, x, y))
        }
        (Value::Object(x), Value::Object(y)) => {
            let named = x.get("columns").and_then(Value::as_array);
            x.len() == y.len()
                && x.iter().all(|(name, x)| {
                    y.get(name).is_some_and(|y| match (name.as_str(), named) {
                        ("rows", Some(columns)) => rows(reuse, columns, x, y),
                        _ => alike(reuse, name, x, y),
                    })
                })
        }
        _ => a == b,
    }
}

/// The rows of a table's answer: each value has the tolerance of its column.
fn rows(reuse: &Reuse, columns: &[Value], a: &Value, b: &Value) -> bool {
    let (Value::Array(a), Value::Array(b)) = (a, b) else { return a == b };
    a.len() == b.len()
        && a.iter().zip(b).all(|(a, b)| {
            let (Value::Array(a), Value::Array(b)) = (a, b) else { return a == b };
            a.len() == b.len()
                && a.iter().zip(b).enumerate().all(|(i, (a, b))| {
                    let column = columns.get(i).and_then(Value::as_str).unwrap_or_default();
                    alike(reuse, column, a, b)
                })
        })
}

fn near(tolerance: Tolerance, a: f64, b: f64) -> bool {
    let apart = (a - b).abs();
    let relative = f64::from(tolerance.relative_ppm) * 1e-6 * a.abs().max(b.abs());
    let absolute = tolerance.absolute_nano as f64 * 1e-9;
    apart <= relative.max(absolute)
}
