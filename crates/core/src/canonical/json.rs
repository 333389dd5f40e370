//! JSON to deterministic CBOR and back, so that equal questions have equal hashes.
//!
//! Two JSON texts that mean the same (other spacing, other key order, `1.0` for `1`, `1e2` for `100`, `\u0041` for
//! `A`) become the same bytes. Strings are taken as they are: Unicode normalisation (NFC) is *not* applied, because
//! nodes with different Unicode tables would then disagree about a hash, and because a specialist may well be asked
//! about the difference. What should be equal although spelled differently is normalised where its meaning is known,
//! by the attribute profiles.
//!
//! JSON text must be read with correctly rounded numbers. serde_json does so only with its feature `float_roundtrip`,
//! which this crate turns on for everything it is built with. Of an object with a key twice serde_json keeps the last.

use serde_json::{Map, Number, Value};

use super::reader::{CanonicalNumber, FloatWidth, Item, KeyOrder, Reader, canonical_number};
use super::{DecodeError, Floats, check};
use crate::Hash;

/// Deepest nesting of arrays and objects in a request or an answer.
pub const MAX_JSON_DEPTH: usize = 32;

/// Why a JSON value has no canonical encoding.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// Nested deeper than [`MAX_JSON_DEPTH`].
    #[error("the JSON is nested deeper than {MAX_JSON_DEPTH} levels: flatten it")]
    TooDeep,
    /// A number that fits neither 64 bits nor a finite float.
    #[error("the number {number} does not fit 64 bits nor a finite float: send it as a string")]
    Number {
        /// The number as written.
        number: String,
    },
}

/// The deterministic encoding of a JSON value.
///
/// Numbers: integers of the ranges of `i64` and `u64` as such; other numbers as an integer when they have no fraction
/// and are within ±2^53 (so `1.0` is `1` and `-0.0` is `0`), else as the shortest of half, single and double precision
/// that holds the value exactly (RFC 8949 section 4.2.1). Object keys are sorted by their encodings.
///
/// # Errors
/// [`JsonError`] for values nested too deep and for numbers out of range.
pub fn from_json(value: &Value) -> Result<Vec<u8>, JsonError> {
    let mut out = Vec::new();
    write(value, MAX_JSON_DEPTH, &mut out)?;
    Ok(out)
}

/// BLAKE3 of the deterministic encoding: the request hash and the response hash of a call.
///
/// # Errors
/// As [`from_json`].
pub fn hash_json(value: &Value) -> Result<Hash, JsonError> {
    from_json(value).map(|bytes| Hash::of(&bytes))
}

/// The JSON value with this deterministic encoding: the inverse of [`from_json`].
///
/// # Errors
/// [`DecodeError`] for bytes that [`from_json`] does not make; CBOR's own types (byte strings, keys that are no text,
/// integers below `i64`) have no JSON.
pub fn to_json(bytes: &[u8]) -> Result<Value, DecodeError> {
    check(bytes, MAX_JSON_DEPTH, Floats::Shortest)?;
    read(&mut Reader::new(bytes))
}

fn write(value: &Value, depth_left: usize, out: &mut Vec<u8>) -> Result<(), JsonError> {
    match value {
        Value::Null => out.push(0xf6),
        Value::Bool(false) => out.push(0xf4),
        Value::Bool(true) => out.push(0xf5),
        Value::Number(number) => write_number(number, out)?,
        Value::String(text) => write_text(text, out),
        Value::Array(items) => {
            let depth_left = depth_left.checked_sub(1).ok_or(JsonError::TooDeep)?;
            write_head(4, items.len() as u64, out);
            for item in items {
                write(item, depth_left, out)?;
            }
        }
        Value::Object(entries) => {
            let depth_left = depth_left.checked_sub(1).ok_or(JsonError::TooDeep)?;
            write_head(5, entries.len() as u64, out);
            // The encoding of a text begins with its length, so shorter keys come first.
            let mut sorted: Vec<_> = entries.iter().collect();
            sorted.sort_by_key(|(key, _)| (key.len(), key.as_str()));
            for (key, value) in sorted {
                write_text(key, out);
                write(value, depth_left, out)?;
            }
        }
    }
    Ok(())
}

fn write_number(number: &Number, out: &mut Vec<u8>) -> Result<(), JsonError> {
    if let Some(unsigned) = number.as_u64() {
        write_head(0, unsigned, out);
        return Ok(());
    }
    if let Some(signed) = number.as_i64() {
        write_integer(signed, out);
        return Ok(());
    }
    let out_of_range = || JsonError::Number { number: number.to_string() };
    let float = number.as_f64().ok_or_else(out_of_range)?;
    match canonical_number(float).ok_or_else(out_of_range)? {
        CanonicalNumber::Integer(integer) => write_integer(integer, out),
        CanonicalNumber::Float(width) => write_float(float, width, out),
    }
    Ok(())
}

fn write_integer(integer: i64, out: &mut Vec<u8>) {
    if integer < 0 {
        // -1 - n has the magnitude of n with all bits flipped.
        write_head(1, !integer.cast_unsigned(), out);
    } else {
        write_head(0, integer.cast_unsigned(), out);
    }
}

#[allow(
    clippy::cast_possible_truncation,
    reason = "the width was chosen because it holds the value exactly"
)]
fn write_float(value: f64, width: FloatWidth, out: &mut Vec<u8>) {
    match width {
        FloatWidth::Half => {
            out.push(0xf9);
            out.extend(half::f16::from_f64(value).to_be_bytes());
        }
        FloatWidth::Single => {
            out.push(0xfa);
            out.extend((value as f32).to_be_bytes());
        }
        FloatWidth::Double => {
            out.push(0xfb);
            out.extend(value.to_be_bytes());
        }
    }
}

fn write_text(text: &str, out: &mut Vec<u8>) {
    write_head(3, text.len() as u64, out);
    out.extend(text.as_bytes());
}

/// Head with the shortest argument (RFC 8949 section 4.2.1).
#[allow(clippy::cast_possible_truncation, reason = "each arm's range fits its type")]
fn write_head(major: u8, argument: u64, out: &mut Vec<u8>) {
    let major = major << 5;
    match argument {
        0..=23 => out.push(major | argument as u8),
        24..=0xff => out.extend([major | 24, argument as u8]),
        0x100..=0xffff => {
            out.push(major | 25);
            out.extend((argument as u16).to_be_bytes());
        }
        0x1_0000..=0xffff_ffff => {
            out.push(major | 26);
            out.extend((argument as u32).to_be_bytes());
        }
        _ => {
            out.push(major | 27);
            out.extend(argument.to_be_bytes());
        }
    }
}

/// Reads an item that [`check`] has passed, so recursion is bounded already.
fn read(reader: &mut Reader<'_>) -> Result<Value, DecodeError> {
    let offset = reader.offset();
    match reader.item()? {
        Item::Null => Ok(Value::Null),
        Item::Bool(bool) => Ok(Value::Bool(bool)),
        Item::Unsigned(unsigned) => Ok(Value::from(unsigned)),
        Item::Negative(flipped) => match i64::try_from(flipped) {
            Ok(flipped) => Ok(Value::from(!flipped)),
            Err(_) => {
                Err(DecodeError::Forbidden { offset, what: "an integer below the 64-bit range" })
            }
        },
        Item::Float(float) => {
            let number = Number::from_f64(float);
            let what = "a number that is not finite";
            number.map(Value::Number).ok_or(DecodeError::Forbidden { offset, what })
        }
        Item::Text(text) => Ok(Value::from(text)),
        Item::Bytes(_) => {
            Err(DecodeError::Forbidden { offset, what: "a byte string, which JSON does not have," })
        }
        Item::Array(count) => {
            let mut items = Vec::new();
            for _ in 0..count {
                items.push(read(reader)?);
            }
            Ok(Value::Array(items))
        }
        Item::Map(count) => {
            let mut entries = Map::new();
            let mut keys = KeyOrder::default();
            for _ in 0..count {
                let offset = reader.offset();
                let Item::Text(key) = keys.next(reader)? else {
                    return Err(DecodeError::Forbidden {
                        offset,
                        what: "an object key that is no text",
                    });
                };
                entries.insert(key.to_owned(), read(reader)?);
            }
            Ok(Value::Object(entries))
        }
    }
}
