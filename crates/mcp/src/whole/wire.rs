//! One HTTP exchange as a call: the request as its input, head and body as the items of its answer.

use std::collections::BTreeMap;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};

/// Longest request body, in bytes: a call carries 1 MiB, and JSON in JSON needs room for escapes.
pub const BODY_BYTES_MAX: usize = 900 << 10;
/// Most headers passed on in either direction.
pub const HEADERS_MAX: usize = 64;
/// Longest value of a header passed on, in bytes.
const HEADER_BYTES_MAX: usize = 4 << 10;
/// Longest piece of a body, in bytes.
pub(super) const PIECE_BYTES_MAX: usize = 64 << 10;

/// Request headers passed on, besides those that begin with `mcp-` or `a2a-`.
pub const REQUEST_HEADERS: [&str; 7] = [
    "accept",
    "accept-language",
    "content-type",
    "last-event-id",
    "traceparent",
    "tracestate",
    "x-a2a-extensions",
];
/// Response headers passed on, besides those that begin with `mcp-` or `a2a-`.
pub const RESPONSE_HEADERS: [&str; 5] =
    ["allow", "cache-control", "content-language", "content-type", "retry-after"];

/// Input of the call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exchange {
    /// `GET`, `POST` or `DELETE`.
    pub method: Method,
    /// Where at the server; empty for MCP, which has one place.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub path: String,
    /// Headers by lower-case name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// The body; MCP and A2A bodies are JSON and so text.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub body: String,
}

/// The methods of the streamable HTTP transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    /// Listen for messages of the server.
    Get,
    /// Send a message.
    Post,
    /// End a session.
    Delete,
}

/// First item of the answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// Status code.
    pub status: u16,
    /// Headers by lower-case name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
}

/// Further items of the answer: the body in pieces. Text where it is text, hexadecimal digits where it is not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Piece {
    /// A piece of text.
    Text(String),
    /// A piece of other bytes.
    Hex(String),
}

impl Piece {
    /// The bytes; `None` when the digits are none.
    #[must_use]
    pub fn into_bytes(self) -> Option<Vec<u8>> {
        match self {
            Self::Text(text) => Some(text.into_bytes()),
            Self::Hex(digits) => {
                let digits = digits.as_bytes();
                let nibble =
                    |byte: u8| char::from(byte).to_digit(16).and_then(|n| u8::try_from(n).ok());
                let (pairs, rest) = digits.as_chunks::<2>();
                if !rest.is_empty() {
                    return None;
                }
                pairs.iter().map(|[high, low]| Some(nibble(*high)? << 4 | nibble(*low)?)).collect()
            }
        }
    }
}

/// Cuts a body into pieces, characters kept whole.
#[derive(Debug, Default)]
pub(super) struct Cutter {
    /// The beginning of a character whose end has not come yet.
    left: Vec<u8>,
}

impl Cutter {
    /// The pieces of the next bytes of a body.
    pub(super) fn cut(&mut self, bytes: &[u8], pieces: &mut Vec<Piece>) {
        let mut all = std::mem::take(&mut self.left);
        all.extend_from_slice(bytes);
        let mut rest = all.as_slice();
        while !rest.is_empty() {
            let slice = &rest[..rest.len().min(PIECE_BYTES_MAX)];
            match std::str::from_utf8(slice) {
                Ok(text) => {
                    pieces.push(Piece::Text(text.to_owned()));
                    rest = &rest[slice.len()..];
                }
                Err(error) if error.valid_up_to() > 0 => {
                    let text = String::from_utf8_lossy(&slice[..error.valid_up_to()]).into_owned();
                    pieces.push(Piece::Text(text));
                    rest = &rest[error.valid_up_to()..];
                }
                Err(error) => match error.error_len() {
                    None if rest.len() < 4 => {
                        self.left = rest.to_vec();
                        return;
                    }
                    length => {
                        let bad = length.unwrap_or(1);
                        pieces.push(hex(&rest[..bad]));
                        rest = &rest[bad..];
                    }
                },
            }
        }
    }

    /// What is left at the end of a body.
    pub(super) fn finish(&mut self) -> Option<Piece> {
        let left = std::mem::take(&mut self.left);
        (!left.is_empty()).then(|| hex(&left))
    }
}

fn hex(bytes: &[u8]) -> Piece {
    Piece::Hex(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Whether a header belongs to a protocol that is relayed.
fn belongs(name: &str, known: &[&str]) -> bool {
    name.starts_with("mcp-") || name.starts_with("a2a-") || known.contains(&name)
}

/// The headers of a message that are passed on.
pub(super) fn passed_on(headers: &HeaderMap, known: &[&str]) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    for (name, value) in headers {
        let name = name.as_str();
        if belongs(name, known)
            && let Ok(value) = value.to_str()
            && value.len() <= HEADER_BYTES_MAX
            && out.len() < HEADERS_MAX
        {
            out.insert(name.to_owned(), value.to_owned());
        }
    }
    out
}

/// Headers as a peer sent them, checked by the same rule.
pub(super) fn taken(headers: &BTreeMap<String, String>, known: &[&str]) -> HeaderMap {
    let mut out = HeaderMap::new();
    for (name, value) in headers.iter().take(HEADERS_MAX) {
        if belongs(name, known)
            && value.len() <= HEADER_BYTES_MAX
            && let (Ok(name), Ok(value)) =
                (HeaderName::try_from(name), HeaderValue::try_from(value))
        {
            out.insert(name, value);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn through(body: &[u8], step: usize) -> Vec<u8> {
        let (mut cutter, mut pieces) = (Cutter::default(), Vec::new());
        for chunk in body.chunks(step) {
            cutter.cut(chunk, &mut pieces);
        }
        pieces.extend(cutter.finish());
        pieces
            .into_iter()
            .flat_map(|piece| {
                let json = serde_json::to_value(&piece).unwrap();
                serde_json::from_value::<Piece>(json).unwrap().into_bytes().unwrap()
            })
            .collect()
    }

    #[test]
    fn a_body_comes_out_as_it_went_in_however_it_is_cut() {
        let text = "data: {\"x\":\"žluťoučký 🐎\u{0}\"}\r\n\r\n".repeat(30);
        let mut noise: Vec<u8> =
            (0..3_000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[2]).collect();
        noise.extend_from_slice(&[0xf0, 0x9f, 0x90]);
        for step in [1, 2, 3, 7, 64, 5_000] {
            assert_eq!(through(text.as_bytes(), step), text.as_bytes(), "{step}");
            assert_eq!(through(&noise, step), noise, "{step}");
        }
        let long = "ř".repeat(PIECE_BYTES_MAX);
        assert_eq!(through(long.as_bytes(), usize::MAX), long.as_bytes());
    }

    #[test]
    fn digits_that_are_none_are_refused() {
        assert_eq!(Piece::Hex("0g".to_owned()).into_bytes(), None);
        assert_eq!(Piece::Hex("000".to_owned()).into_bytes(), None);
        assert_eq!(Piece::Hex("ff00".to_owned()).into_bytes(), Some(vec![255, 0]));
    }

    #[test]
    fn only_headers_of_the_protocols_travel() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("authorization", "Bearer x"),
            ("cookie", "a=b"),
            ("host", "h"),
            ("origin", "http://x"),
            ("mcp-session-id", "s"),
            ("accept", "text/event-stream"),
            ("x-forwarded-for", "1"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        let names: Vec<String> = passed_on(&headers, &REQUEST_HEADERS).into_keys().collect();
        assert_eq!(names, ["accept", "mcp-session-id"]);
        let hostile = BTreeMap::from([
            ("mcp-x\r\nhost".to_owned(), "y".to_owned()),
            ("mcp-y".to_owned(), "a\r\nb".to_owned()),
            ("authorization".to_owned(), "z".to_owned()),
            ("mcp-ok".to_owned(), "1".to_owned()),
        ]);
        assert_eq!(taken(&hostile, &REQUEST_HEADERS).len(), 1);
    }
}
