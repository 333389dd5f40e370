//! JSON-RPC and the two eras of MCP: sessions up to 2025-11-25, and the stateless 2026-07-28 in which each request says
//! in `_meta` which version it speaks.

use std::fmt;

use serde_json::{Map, Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Largest message taken, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 4 << 20;
/// The stateless version.
pub const MODERN: &str = "2026-07-28";
/// Versions with an `initialize` handshake, newest first.
pub const LEGACY: [&str; 4] = ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"];

/// `_meta` member that names the version of a request.
pub const META_VERSION: &str = "io.modelcontextprotocol/protocolVersion";
/// `_meta` member with what the client can do.
pub const META_CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
/// `_meta` member that names the server.
pub const META_SERVER: &str = "io.modelcontextprotocol/serverInfo";
/// `_meta` member that ties a notification to its subscription.
pub const META_SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";

/// Not JSON.
pub const PARSE_ERROR: i64 = -32700;
/// Not a request of JSON-RPC.
pub const INVALID_REQUEST: i64 = -32600;
/// No such method.
pub const METHOD_NOT_FOUND: i64 = -32601;
/// Parameters that do not fit.
pub const INVALID_PARAMS: i64 = -32602;
/// A failure here.
pub const INTERNAL_ERROR: i64 = -32603;
/// No such resource, to clients of the older era.
pub const RESOURCE_NOT_FOUND: i64 = -32002;
/// Headers that contradict the body.
pub const HEADER_MISMATCH: i64 = -32020;
/// A version that is not spoken here.
pub const UNSUPPORTED_VERSION: i64 = -32022;
/// More requests at once than are taken.
pub const TOO_BUSY: i64 = -32000;

/// Which rules a request is under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Era {
    /// A session, opened by `initialize`.
    Legacy,
    /// A request by itself.
    Modern,
}

/// An error answer.
#[derive(Debug, Clone, PartialEq)]
pub struct RpcError {
    /// Its code.
    pub code: i64,
    /// What is wrong.
    pub message: String,
    /// Particulars.
    pub data: Option<Value>,
}

impl RpcError {
    /// An error without particulars.
    pub fn new(code: i64, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), data: None }
    }

    /// The whole message that carries it.
    #[must_use]
    pub fn message(&self, id: &Value) -> Value {
        let mut error = json!({"code": self.code, "message": self.message});
        if let Some(data) = &self.data {
            error["data"] = data.clone();
        }
        json!({"jsonrpc": "2.0", "id": id, "error": error})
    }
}

impl fmt::Display for RpcError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.code)
    }
}

impl std::error::Error for RpcError {}

/// One request.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// A text or a number, returned with the answer.
    pub id: Value,
    /// What is asked for.
    pub method: String,
    /// With what.
    pub params: Map<String, Value>,
}

/// One message from a client.
#[derive(Debug, Clone, PartialEq)]
pub enum Incoming {
    /// Wants an answer.
    Request(Request),
    /// Wants none.
    Notification {
        /// What happened.
        method: String,
        /// Particulars.
        params: Map<String, Value>,
    },
    /// Answers a request of the server; this server makes none.
    Response,
}

/// Reads one message.
///
/// # Errors
/// [`RpcError`] with the id to answer to, as far as it can be told.
pub fn parse(bytes: &[u8]) -> Result<Incoming, (Value, RpcError)> {
    let value: Value = serde_json::from_slice(bytes)
        .map_err(|error| (Value::Null, RpcError::new(PARSE_ERROR, format!("not JSON: {error}"))))?;
    let Value::Object(mut object) = value else {
        let text = "expected one JSON-RPC message, an object; batches are not taken";
        return Err((Value::Null, RpcError::new(INVALID_REQUEST, text)));
    };
    let id = object.remove("id");
    let known = match &id {
        Some(id @ (Value::String(_) | Value::Number(_))) => id.clone(),
        Some(_) | None => Value::Null,
    };
    let invalid = |text: &str| (known.clone(), RpcError::new(INVALID_REQUEST, text));
    if object.get("jsonrpc") != Some(&Value::from("2.0")) {
        return Err(invalid("`jsonrpc` must be \"2.0\""));
    }
    let method = match object.remove("method") {
        Some(Value::String(method)) => method,
        Some(_) => return Err(invalid("`method` must be a text")),
        None if object.contains_key("result") || object.contains_key("error") => {
            return Ok(Incoming::Response);
        }
        None => return Err(invalid("`method` is missing")),
    };
    let params = match object.remove("params") {
        Some(Value::Object(params)) => params,
        None => Map::new(),
        Some(_) => return Err(invalid("`params` must be an object")),
    };
    match id {
        None => Ok(Incoming::Notification { method, params }),
        Some(Value::String(_) | Value::Number(_)) => {
            Ok(Incoming::Request(Request { id: known, method, params }))
        }
        Some(_) => Err(invalid("`id` must be a text or a number")),
    }
}

impl Request {
    /// A member of `_meta`.
    #[must_use]
    pub fn meta(&self, key: &str) -> Option<&Value> {
        self.params.get("_meta")?.get(key)
    }

    /// Under which rules it is. Requests of the modern era carry all they need.
    ///
    /// # Errors
    /// [`RpcError`] when it names a version that is not spoken, or leaves out what its version demands.
    pub fn era(&self) -> Result<Era, RpcError> {
        if self.method == "initialize" {
            return Ok(Era::Legacy);
        }
        let version = self.meta(META_VERSION);
        let Some(version) = version else {
            if self.method == "server/discover" {
                return Err(missing(META_VERSION));
            }
            return Ok(Era::Legacy);
        };
        let version = version.as_str().ok_or_else(|| missing(META_VERSION))?;
        if version != MODERN && !LEGACY.contains(&version) {
            return Err(unsupported(version));
        }
        if !self.meta(META_CAPABILITIES).is_some_and(Value::is_object) {
            return Err(missing(META_CAPABILITIES));
        }
        Ok(Era::Modern)
    }
}

fn missing(key: &str) -> RpcError {
    let text =
        format!("Invalid params: request _meta is missing or has malformed required fields: {key}");
    RpcError::new(INVALID_PARAMS, text)
}

/// The error for a version that is not spoken.
#[must_use]
pub fn unsupported(version: &str) -> RpcError {
    let supported: Vec<&str> = std::iter::once(MODERN).chain(LEGACY).collect();
    RpcError {
        code: UNSUPPORTED_VERSION,
        message: "Unsupported protocol version".to_owned(),
        data: Some(json!({"requested": crate::text::clean(version, 80), "supported": supported})),
    }
}

/// What goes with a request on its way.
#[derive(Debug, Clone)]
pub struct Context {
    /// Its rules.
    pub era: Era,
    /// Fires when the client wants no answer any more.
    pub cancel: CancellationToken,
    /// Takes notifications that belong to the request; full when the client does not read.
    pub out: mpsc::Sender<Value>,
    /// The client wants progress told under this token.
    pub progress: Option<Value>,
}

impl Context {
    /// Tells progress, if the client wants it and reads.
    pub async fn progress(&self, done: u32, message: impl FnOnce() -> String) {
        let Some(token) = &self.progress else { return };
        let params = json!({"progressToken": token, "progress": done, "message": message()});
        // A client that has gone has cancelled the request by that.
        let _ = self.out.send(notification("notifications/progress", params)).await;
    }
}

/// A notification.
#[must_use]
pub fn notification(method: &str, params: Value) -> Value {
    json!({"jsonrpc": "2.0", "method": method, "params": params})
}

/// An answer.
#[must_use]
pub fn response(id: &Value, outcome: Result<Value, RpcError>) -> Value {
    match outcome {
        Ok(result) => json!({"jsonrpc": "2.0", "id": id, "result": result}),
        Err(error) => error.message(id),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_message_is_answered_with_what_is_wrong() {
        let deep = "[".repeat(100_000);
        for (text, code, id) in [
            ("{", PARSE_ERROR, Value::Null),
            ("\"x\"", INVALID_REQUEST, Value::Null),
            ("[]", INVALID_REQUEST, Value::Null),
            ("[{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}]", INVALID_REQUEST, Value::Null),
            ("{\"jsonrpc\":\"1.0\",\"id\":7,\"method\":\"ping\"}", INVALID_REQUEST, json!(7)),
            ("{\"jsonrpc\":\"2.0\",\"id\":\"a\"}", INVALID_REQUEST, json!("a")),
            ("{\"jsonrpc\":\"2.0\",\"id\":null,\"method\":\"ping\"}", INVALID_REQUEST, Value::Null),
            ("{\"jsonrpc\":\"2.0\",\"id\":{},\"method\":\"ping\"}", INVALID_REQUEST, Value::Null),
            (
                "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\",\"params\":[1]}",
                INVALID_REQUEST,
                json!(1),
            ),
            ("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":5}", INVALID_REQUEST, json!(1)),
            (deep.as_str(), PARSE_ERROR, Value::Null),
            ("\u{feff}{}", PARSE_ERROR, Value::Null),
        ] {
            let (found, error) = parse(text.as_bytes()).unwrap_err();
            assert_eq!((error.code, found), (code, id), "{}", &text[..text.len().min(60)]);
        }
        assert!(parse(&[0xff, 0xfe]).is_err());
    }

    #[test]
    fn messages_are_told_apart() {
        let parsed = |text: &str| parse(text.as_bytes()).unwrap();
        assert!(matches!(
            parsed(r#"{"jsonrpc":"2.0","id":"x","method":"ping"}"#),
            Incoming::Request(_)
        ));
        assert!(matches!(
            parsed(r#"{"jsonrpc":"2.0","method":"n","params":{}}"#),
            Incoming::Notification { .. }
        ));
        assert_eq!(parsed(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#), Incoming::Response);
    }

    #[test]
    fn the_era_is_what_the_request_says() {
        let request = |method: &str, meta: Value| Request {
            id: json!(1),
            method: method.to_owned(),
            params: json!({"_meta": meta}).as_object().unwrap().clone(),
        };
        assert_eq!(request("tools/list", json!({})).era(), Ok(Era::Legacy));
        let whole = json!({META_VERSION: MODERN, META_CAPABILITIES: {}});
        assert_eq!(request("tools/list", whole.clone()).era(), Ok(Era::Modern));
        assert_eq!(request("initialize", whole).era(), Ok(Era::Legacy));
        let era = |meta: Value| request("tools/list", meta).era().unwrap_err().code;
        assert_eq!(
            era(json!({META_VERSION: "2099-01-01", META_CAPABILITIES: {}})),
            UNSUPPORTED_VERSION
        );
        assert_eq!(era(json!({META_VERSION: MODERN})), INVALID_PARAMS);
        assert_eq!(era(json!({META_VERSION: 3})), INVALID_PARAMS);
        assert_eq!(request("server/discover", json!({})).era().unwrap_err().code, INVALID_PARAMS);
    }
}
