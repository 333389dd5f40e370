//! The side that uses a whole server: a local MCP endpoint whose requests become calls of one peer's capability.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Query, Request, State};
use axum::http::header::{ALLOW, CONTENT_TYPE};
use axum::http::{HeaderValue, Method as HttpMethod, StatusCode};
use axum::response::Response;
use axum::routing::any;
use bytes::Bytes;
use comity_api::types::{AttemptOutcome, CallEvent, CallRequest, ErrorCode, ErrorInfo};
use comity_api::{CallStream, Client};
use futures_util::stream;
use http_body_util::{BodyExt as _, Limited};
use serde::Deserialize;
use serde_json::{Value, json};

use super::wire::{
    BODY_BYTES_MAX, Exchange, Head, Method, Piece, REQUEST_HEADERS, RESPONSE_HEADERS, passed_on,
    taken,
};
use crate::text::clean;

/// Longest one exchange may take, in milliseconds; the far side grants as much.
const EXCHANGE_TIMEOUT_MS: u64 = 600_000;
/// Names the agent that answered, in the response to the local client.
const PRODUCER_HEADER: &str = "comity-producer";

/// One remote server.
#[derive(Debug, Clone)]
pub struct Remote(Arc<Server>);

#[derive(Debug)]
struct Server {
    client: Client,
    target: String,
    group: Option<String>,
}

/// The beginning of an answer; the rest comes by [`Answer::next`].
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) head: Head,
    /// Who answers: address and AgentId.
    pub(crate) producer: Option<(String, String)>,
    /// The signed receipt, once the body has been read to its end.
    pub(crate) receipt: Option<String>,
    stream: CallStream,
}

impl Remote {
    /// The server that `target` (`ADDRESS/CAPABILITY`, or what finds it) names; nothing is asked yet.
    #[must_use]
    pub fn new(client: Client, target: impl Into<String>, group: Option<String>) -> Self {
        Self(Arc::new(Server { client, target: target.into(), group }))
    }

    /// Makes one exchange. Dropping what comes back cancels it at the far end.
    pub(crate) async fn send(&self, exchange: &Exchange) -> Result<Answer, ErrorInfo> {
        let input = serde_json::to_value(exchange)
            .map_err(|error| ErrorInfo::new(ErrorCode::Internal, error.to_string()))?;
        let mut request = CallRequest::new(self.0.target.clone(), input);
        // An exchange is not a question: each one is the server's to answer.
        request.reuse.fresh = true;
        request.group.clone_from(&self.0.group);
        request.timeout_ms = Some(EXCHANGE_TIMEOUT_MS);
        request.max_attempts = Some(1);
        let mut stream = self.0.client.call_stream(&request).await.map_err(|error| error.info())?;
        let mut producer = None;
        loop {
            match stream.next().await.map_err(|error| error.info())? {
                Some(CallEvent::Attempt(attempt)) => match attempt.outcome {
                    AttemptOutcome::Started => {
                        let agent = attempt.agent.agent.to_string();
                        producer = Some((attempt.agent.address, agent));
                    }
                    AttemptOutcome::Answered { .. } | AttemptOutcome::Failed { .. } => {}
                },
                Some(CallEvent::Chunk(chunk)) => {
                    let head = serde_json::from_value(chunk.value).map_err(|_| not_a_server())?;
                    return Ok(Answer { head, producer, receipt: None, stream });
                }
                Some(CallEvent::Error(error)) => return Err(error),
                Some(CallEvent::Receipt(_) | CallEvent::Done(_)) | None => {
                    return Err(not_a_server());
                }
            }
        }
    }
}

fn not_a_server() -> ErrorInfo {
    ErrorInfo::new(ErrorCode::CallFailed, "the capability answers, but not as a whole server does")
        .hint("its agent serves it with `comity serve --mcp … --whole` or `--a2a …`; all else is called with `comity call`")
}

impl Answer {
    /// The next bytes of the body; `None` at its verified end.
    pub(crate) async fn next(&mut self) -> Option<Result<Bytes, ErrorInfo>> {
        loop {
            return match self.stream.next().await {
                Ok(Some(CallEvent::Chunk(chunk))) => {
                    let piece = serde_json::from_value::<Piece>(chunk.value)
                        .ok()
                        .and_then(Piece::into_bytes);
                    Some(piece.map(Bytes::from).ok_or_else(not_a_server))
                }
                Ok(Some(CallEvent::Attempt(_))) => continue,
                Ok(Some(CallEvent::Receipt(proof))) => {
                    self.receipt = Some(proof.receipt_cbor);
                    continue;
                }
                Ok(Some(CallEvent::Done(_)) | None) => None,
                Ok(Some(CallEvent::Error(error))) => Some(Err(error)),
                Err(error) => Some(Err(error.info())),
            };
        }
    }
}

impl Answer {
    /// The whole body, of at most `max` bytes.
    pub(crate) async fn whole(&mut self, max: usize) -> Result<Vec<u8>, ErrorInfo> {
        let mut whole = Vec::new();
        while let Some(bytes) = self.next().await {
            let bytes = bytes?;
            if whole.len() + bytes.len() > max {
                let text = format!("the answer has more than {max} bytes");
                return Err(ErrorInfo::new(ErrorCode::TooLarge, text));
            }
            whole.extend_from_slice(&bytes);
        }
        Ok(whole)
    }
}

/// The local endpoint, at `/mcp`.
pub fn router(remote: Remote) -> Router {
    Router::new().route("/mcp", any(handle)).route("/mcp/", any(handle)).with_state(remote)
}

/// The local endpoints of all whole servers that `client`'s node can reach, at `/mcp/PEER/SERVER`; `?group=NAME` calls as a member.
pub fn all(client: Client) -> Router {
    Router::new()
        .route("/mcp/{peer}/{server}", any(handle_named))
        .route("/mcp/{peer}/{server}/", any(handle_named))
        .with_state(client)
}

#[derive(Deserialize)]
struct AsMember {
    group: Option<String>,
}

async fn handle_named(
    State(client): State<Client>,
    Path((peer, server)): Path<(String, String)>,
    Query(AsMember { group }): Query<AsMember>,
    request: Request,
) -> Response {
    let remote = Remote::new(client, format!("{peer}/{server}"), group);
    handle(State(remote), request).await
}

async fn handle(State(remote): State<Remote>, request: Request) -> Response {
    let exchange = match exchange_of(request, String::new()).await {
        Ok(exchange) => exchange,
        Err(refusal) => return refusal,
    };
    match remote.send(&exchange).await {
        Ok(answer) => respond(answer),
        Err(error) => refused(&error),
    }
}

/// A local request as an exchange with the far side, or why it is none.
pub(crate) async fn exchange_of(request: Request, path: String) -> Result<Exchange, Response> {
    let (parts, body) = request.into_parts();
    let method = match parts.method {
        HttpMethod::POST => Method::Post,
        HttpMethod::GET => Method::Get,
        HttpMethod::DELETE => Method::Delete,
        _ => {
            let error =
                ErrorInfo::new(ErrorCode::BadRequest, "GET, POST and DELETE are all there is");
            let mut response = failure(StatusCode::METHOD_NOT_ALLOWED, &error);
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, POST, DELETE"));
            return Err(response);
        }
    };
    let body = match Limited::new(body, BODY_BYTES_MAX).collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) => {
            let text = format!("a message to another agent has at most {BODY_BYTES_MAX} bytes");
            return Err(failure(
                StatusCode::PAYLOAD_TOO_LARGE,
                &ErrorInfo::new(ErrorCode::TooLarge, text),
            ));
        }
    };
    let Ok(body) = String::from_utf8(body.into()) else {
        let error = ErrorInfo::new(ErrorCode::BadRequest, "the message is not text");
        return Err(failure(StatusCode::BAD_REQUEST, &error));
    };
    Ok(Exchange { method, path, headers: passed_on(&parts.headers, &REQUEST_HEADERS), body })
}

/// An exchange that failed on this side of the network, or on the way.
pub(crate) fn refused(error: &ErrorInfo) -> Response {
    let status = StatusCode::from_u16(error.code.http_status()).unwrap_or(StatusCode::BAD_GATEWAY);
    failure(status, error)
}

/// A response with the status and the headers of the far side's, and no body yet.
pub(crate) fn response_of(answer: &Answer) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() =
        StatusCode::from_u16(answer.head.status).unwrap_or(StatusCode::BAD_GATEWAY);
    let mut headers = taken(&answer.head.headers, &RESPONSE_HEADERS);
    let producer = answer.producer.as_ref().map(|(address, _)| HeaderValue::try_from(address));
    if let Some(Ok(producer)) = producer {
        headers.insert(PRODUCER_HEADER, producer);
    }
    *response.headers_mut() = headers;
    response
}

/// Hands the far side's response on as it comes.
pub(crate) fn respond(answer: Answer) -> Response {
    respond_seen(answer, |_| {})
}

/// The same, where `seen` is shown the body as it passes, and at its end nothing.
pub(crate) fn respond_seen(
    answer: Answer,
    seen: impl FnMut(Option<&Bytes>) + Send + 'static,
) -> Response {
    let mut response = response_of(&answer);
    let headers = response.headers();
    let listens = headers
        .get(CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
    let body = stream::unfold(Some((answer, seen)), move |state| async move {
        let (mut answer, mut seen) = state?;
        let Some(next) = answer.next().await else {
            seen(None);
            return None;
        };
        match next {
            Ok(bytes) => {
                seen(Some(&bytes));
                Some((Ok(bytes), Some((answer, seen))))
            }
            // A listener whose time is over comes again; any other answer must not look whole.
            Err(error) if listens && error.code == ErrorCode::Timeout => None,
            Err(error) => Some((Err(std::io::Error::other(error.message)), None)),
        }
    });
    *response.body_mut() = Body::from_stream(body);
    response
}

/// An error of this side of the network, as JSON-RPC says errors.
fn failure(status: StatusCode, error: &ErrorInfo) -> Response {
    let body = error_message(&Value::Null, error);
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

pub(super) fn error_message(id: &Value, error: &ErrorInfo) -> Value {
    let mut text = clean(&error.message, 1_000);
    if !error.hint.is_empty() {
        text = format!("{text}. {}", clean(&error.hint, 1_000));
    }
    json!({"jsonrpc": "2.0", "id": id, "error": {"code": -32000, "message": text, "data": {"comity": error.code}}})
}

/// Headers of a request that a client on standard input makes.
pub(crate) fn headers_of(
    session: Option<&str>,
    version: Option<&str>,
    message: &Value,
) -> BTreeMap<String, String> {
    let mut headers = BTreeMap::from([
        ("accept".to_owned(), "application/json, text/event-stream".to_owned()),
        ("content-type".to_owned(), "application/json".to_owned()),
    ]);
    let mut put = |name: &str, value: Option<&str>| {
        if let Some(value) = value {
            headers.insert(name.to_owned(), value.to_owned());
        }
    };
    put("mcp-session-id", session);
    put("mcp-protocol-version", version);
    if let Some(method) = message["method"].as_str().filter(|_| session.is_none()) {
        put("mcp-method", Some(method));
        let name = match method {
            "tools/call" | "prompts/get" => message["params"]["name"].as_str(),
            "resources/read" => message["params"]["uri"].as_str(),
            _ => None,
        };
        put("mcp-name", name.map(encoded).as_deref());
    }
    headers
}

/// A header value as it is where plain text can say it, else in base64 (`=?base64?…?=`).
fn encoded(value: &str) -> String {
    let plain = value.bytes().all(|byte| (0x20..0x7f).contains(&byte))
        && value.trim() == value
        && !value.starts_with("=?base64?");
    if plain {
        value.to_owned()
    } else {
        format!("=?base64?{}?=", data_encoding::BASE64.encode(value.as_bytes()))
    }
}
