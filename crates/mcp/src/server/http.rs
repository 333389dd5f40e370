//! The server over streamable HTTP, both eras from one endpoint.
//!
//! Requests of the modern era stand alone and are answered with JSON, or with a stream of events where something comes
//! before the answer. The older era has sessions: an `initialize` makes one, its id goes with every request, and a GET
//! listens for changes.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::Response;
use axum::routing::any;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http_body_util::{BodyExt as _, Limited};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::Network;
use crate::protocol::{
    Context, Era, HEADER_MISMATCH, INVALID_PARAMS, INVALID_REQUEST, Incoming, LEGACY,
    MESSAGE_BYTES_MAX, META_VERSION, METHOD_NOT_FOUND, MODERN, Request, RpcError, TOO_BUSY,
    UNSUPPORTED_VERSION, notification, parse, response,
};

/// Most sessions at once; the one unused for longest makes room.
const SESSIONS_MAX: usize = 128;
/// A session unused for so long is forgotten.
const SESSION_IDLE: Duration = Duration::from_secs(1_800);
/// Most requests of one session answered at once.
const REQUESTS_MAX: usize = 64;
/// Events that wait for a slow reader.
const OUT_LEN: usize = 32;
/// Pause after which a stream says that it is still there.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
const SESSION_HEADER: &str = "mcp-session-id";
const VERSION_HEADER: &str = "mcp-protocol-version";

/// The endpoint, at `/mcp`.
pub fn router(network: Network, random: fn(&mut [u8])) -> Router {
    let endpoint = Endpoint(Arc::new(Inner { network, random, sessions: Mutex::default() }));
    Router::new().route("/mcp", any(handle)).route("/mcp/", any(handle)).with_state(endpoint)
}

#[derive(Clone)]
struct Endpoint(Arc<Inner>);

struct Inner {
    network: Network,
    random: fn(&mut [u8]),
    sessions: Mutex<BTreeMap<String, Arc<Session>>>,
}

struct Session {
    running: Mutex<BTreeMap<String, CancellationToken>>,
    used: Mutex<Instant>,
    closed: CancellationToken,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.closed.cancel();
    }
}

async fn handle(State(endpoint): State<Endpoint>, request: axum::extract::Request) -> Response {
    let (parts, body) = request.into_parts();
    match parts.method {
        Method::POST => {}
        Method::GET => return endpoint.listen(&parts.headers),
        Method::DELETE => return endpoint.end(&parts.headers),
        _ => {
            let mut response = plain(
                StatusCode::METHOD_NOT_ALLOWED,
                "POST a message, GET changes, DELETE a session",
            );
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, POST, DELETE"));
            return response;
        }
    }
    let kind =
        parts.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if !kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json") {
        return plain(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "the content type must be application/json",
        );
    }
    let body = match Limited::new(body, MESSAGE_BYTES_MAX).collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) => return plain(StatusCode::PAYLOAD_TOO_LARGE, "a message has at most 4 MiB"),
    };
    endpoint.post(&parts.headers, &body).await
}

impl Endpoint {
    async fn post(&self, headers: &HeaderMap, body: &[u8]) -> Response {
        let request = match parse(body) {
            Err((id, error)) => return message(StatusCode::BAD_REQUEST, &error.message(&id)),
            Ok(Incoming::Response) => return empty(StatusCode::ACCEPTED),
            Ok(Incoming::Notification { method, params }) => {
                if method == "notifications/cancelled"
                    && let (Ok(session), Some(id)) =
                        (self.session(headers), params.get("requestId"))
                    && let Some(cancel) = locked(&session.running).get(&id.to_string())
                {
                    cancel.cancel();
                }
                return empty(StatusCode::ACCEPTED);
            }
            Ok(Incoming::Request(request)) => request,
        };
        let refused = |error: RpcError| message(status_of(&error), &error.message(&request.id));
        let era =
            match request.era().and_then(|era| check_headers(headers, &request, era).map(|()| era))
            {
                Ok(era) => era,
                Err(error) => return refused(error),
            };
        if era == Era::Modern {
            return self.run(request, Era::Modern, None).await;
        }
        if request.method == "initialize" {
            let id = self.open();
            let mut response = self.run(request, Era::Legacy, None).await;
            if let Ok(id) = HeaderValue::try_from(id) {
                response.headers_mut().insert(SESSION_HEADER, id);
            }
            return response;
        }
        match self.session(headers) {
            Ok(session) => self.run(request, Era::Legacy, Some(session)).await,
            Err(status) => {
                let error =
                    RpcError::new(INVALID_REQUEST, "there is no such session: initialize first");
                message(status, &error.message(&request.id))
            }
        }
    }

    /// Answers with JSON when nothing comes before the answer, else with a stream of events.
    async fn run(&self, request: Request, era: Era, session: Option<Arc<Session>>) -> Response {
        let cancel = CancellationToken::new();
        let key = request.id.to_string();
        if let Some(session) = &session {
            let mut running = locked(&session.running);
            let error = if running.contains_key(&key) {
                Some(RpcError::new(
                    INVALID_REQUEST,
                    "a request with this id is still being answered",
                ))
            } else if running.len() >= REQUESTS_MAX {
                Some(RpcError::new(
                    TOO_BUSY,
                    "too many requests of this session are being answered",
                ))
            } else {
                running.insert(key.clone(), cancel.clone());
                None
            };
            if let Some(error) = error {
                return message(StatusCode::OK, &error.message(&request.id));
            }
        }
        // Whether the client goes or the answer is there: what is left of the work ends.
        let done = Done { session, key, _cancel: cancel.clone().drop_guard() };
        let progress = request.meta("progressToken").cloned();
        let streams = progress.is_some() || request.method == "subscriptions/listen";
        let (out, notes) = mpsc::channel(OUT_LEN);
        let context = Context { era, cancel, out, progress };
        let network = self.0.network.clone();
        let work = async move {
            let outcome = network.answer(&request, &context).await;
            let status = match (&outcome, context.era) {
                (Err(error), Era::Modern) => status_of(error),
                _ => StatusCode::OK,
            };
            drop(done);
            (status, response(&request.id, outcome))
        };
        if !streams {
            let (status, answer) = work.await;
            return message(status, &answer);
        }
        events(stream_of(work, notes))
    }

    fn listen(&self, headers: &HeaderMap) -> Response {
        let session = match self.session(headers) {
            Ok(session) => session,
            Err(StatusCode::NOT_FOUND) => {
                return plain(StatusCode::NOT_FOUND, "there is no such session");
            }
            Err(_) => {
                let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "only sessions listen");
                response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
                return response;
            }
        };
        let state = (self.0.network.changes(), session.closed.clone());
        let changes = stream::unfold(state, |(mut changes, closed)| async move {
            tokio::select! {
                () = closed.cancelled() => None,
                changed = changes.changed() => {
                    changed.ok()?;
                    let note = notification("notifications/tools/list_changed", json!({}));
                    Some((note, (changes, closed)))
                }
            }
        });
        events(changes)
    }

    fn end(&self, headers: &HeaderMap) -> Response {
        let id = headers.get(SESSION_HEADER).and_then(|id| id.to_str().ok()).unwrap_or_default();
        match locked(&self.0.sessions).remove(id) {
            Some(session) => {
                session.closed.cancel();
                locked(&session.running).values().for_each(CancellationToken::cancel);
                empty(StatusCode::NO_CONTENT)
            }
            None => plain(StatusCode::NOT_FOUND, "there is no such session"),
        }
    }

    fn open(&self) -> String {
        let mut bytes = [0; 16];
        (self.0.random)(&mut bytes);
        let id: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let now = Instant::now();
        let session = Arc::new(Session {
            running: Mutex::default(),
            used: Mutex::new(now),
            closed: CancellationToken::new(),
        });
        let mut sessions = locked(&self.0.sessions);
        sessions.retain(|_, session| {
            now.duration_since(*locked(&session.used)) < SESSION_IDLE
                || !locked(&session.running).is_empty()
        });
        while sessions.len() >= SESSIONS_MAX {
            let oldest = sessions.iter().min_by_key(|(_, session)| *locked(&session.used));
            let Some(oldest) = oldest.map(|(id, _)| id.clone()) else { break };
            if let Some(session) = sessions.remove(&oldest) {
                session.closed.cancel();
            }
        }
        sessions.insert(id.clone(), session);
        id
    }

    fn session(&self, headers: &HeaderMap) -> Result<Arc<Session>, StatusCode> {
        let id = headers.get(SESSION_HEADER).ok_or(StatusCode::BAD_REQUEST)?;
        let id = id.to_str().map_err(|_| StatusCode::NOT_FOUND)?;
        let session = locked(&self.0.sessions).get(id).cloned().ok_or(StatusCode::NOT_FOUND)?;
        *locked(&session.used) = Instant::now();
        Ok(session)
    }
}

/// Ends with its request: forgets it, and stops what still works for it.
struct Done {
    session: Option<Arc<Session>>,
    key: String,
    _cancel: DropGuard,
}

impl Drop for Done {
    fn drop(&mut self) {
        if let Some(session) = &self.session {
            locked(&session.running).remove(&self.key);
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Headers that route a request must say what its body says, or whoever reads only them is led astray.
fn check_headers(headers: &HeaderMap, request: &Request, era: Era) -> Result<(), RpcError> {
    let version = only(headers, VERSION_HEADER)?;
    if era == Era::Legacy {
        let known = |version: &str| version == MODERN || LEGACY.contains(&version);
        if let Some(version) = version.filter(|version| !known(version)) {
            return Err(crate::protocol::unsupported(version));
        }
        if version == Some(MODERN) && request.method != "initialize" {
            let text = format!(
                "Invalid params: request _meta is missing or has malformed required fields: {META_VERSION}"
            );
            return Err(RpcError {
                data: Some(json!({"malformed": true})),
                ..RpcError::new(INVALID_PARAMS, text)
            });
        }
        return Ok(());
    }
    let said = request.meta(META_VERSION).and_then(Value::as_str).unwrap_or_default();
    if version != Some(said) {
        return Err(mismatch(format!(
            "the MCP-Protocol-Version header must be {said}, as in _meta"
        )));
    }
    match only(headers, "mcp-method")? {
        Some(method) if method == request.method => {}
        _ => return Err(mismatch(format!("the Mcp-Method header must be {}", request.method))),
    }
    let name = match request.method.as_str() {
        "tools/call" | "prompts/get" => request.params.get("name"),
        "resources/read" => request.params.get("uri"),
        _ => None,
    };
    if let Some(name) = name.and_then(Value::as_str) {
        let given =
            only(headers, "mcp-name")?.ok_or_else(|| mismatch("the Mcp-Name header is missing"))?;
        if decoded(given).as_deref() != Some(name) {
            return Err(mismatch("the Mcp-Name header does not name what the body names"));
        }
    }
    Ok(())
}

fn mismatch(text: impl Into<String>) -> RpcError {
    RpcError::new(HEADER_MISMATCH, text)
}

/// The value of a header that may be there once.
fn only<'h>(headers: &'h HeaderMap, name: &str) -> Result<Option<&'h str>, RpcError> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(mismatch(format!("the header {name} is given twice")));
    }
    value.to_str().map(Some).map_err(|_| mismatch(format!("the header {name} is not plain text")))
}

/// A header value: as it is, or `=?base64?…?=` where plain text cannot say it.
fn decoded(value: &str) -> Option<String> {
    let Some(inner) = value.strip_prefix("=?base64?").and_then(|rest| rest.strip_suffix("?="))
    else {
        return Some(value.to_owned());
    };
    let bytes = data_encoding::BASE64.decode(inner.as_bytes()).ok()?;
    String::from_utf8(bytes).ok()
}

/// The HTTP status that goes with an error of the modern era.
fn status_of(error: &RpcError) -> StatusCode {
    match error.code {
        UNSUPPORTED_VERSION | HEADER_MISMATCH => StatusCode::BAD_REQUEST,
        INVALID_PARAMS if error.message.starts_with("Invalid params: request _meta") => {
            StatusCode::BAD_REQUEST
        }
        METHOD_NOT_FOUND => StatusCode::NOT_FOUND,
        _ => StatusCode::OK,
    }
}

/// The notifications of a request as they come, then its answer.
fn stream_of(
    work: impl Future<Output = (StatusCode, Value)> + Send + 'static,
    notes: mpsc::Receiver<Value>,
) -> impl futures_util::Stream<Item = Value> + Send {
    enum Step<F> {
        Running(std::pin::Pin<Box<F>>, mpsc::Receiver<Value>),
        Last(mpsc::Receiver<Value>, Value),
        Over,
    }
    stream::unfold(Step::Running(Box::pin(work), notes), |step| async move {
        match step {
            Step::Running(mut work, mut notes) => tokio::select! {
                biased;
                Some(note) = notes.recv() => Some((note, Step::Running(work, notes))),
                (_, answer) = &mut work => match notes.try_recv() {
                    Ok(note) => Some((note, Step::Last(notes, answer))),
                    Err(_) => Some((answer, Step::Over)),
                },
            },
            Step::Last(mut notes, answer) => match notes.try_recv() {
                Ok(note) => Some((note, Step::Last(notes, answer))),
                Err(_) => Some((answer, Step::Over)),
            },
            Step::Over => None,
        }
    })
}

fn events(messages: impl futures_util::Stream<Item = Value> + Send + 'static) -> Response {
    let pings = stream::unfold(Box::pin(messages), |mut messages| async move {
        let text = match tokio::time::timeout(KEEP_ALIVE, messages.next()).await {
            Ok(Some(message)) => format!("event: message\ndata: {message}\n\n"),
            Ok(None) => return None,
            Err(_) => ": still here\n\n".to_owned(),
        };
        Some((Ok::<_, Infallible>(Bytes::from(text)), messages))
    });
    let mut response = Response::new(Body::from_stream(pings));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

fn message(status: StatusCode, message: &Value) -> Response {
    // Writing a tree of values cannot fail, and a vector takes it quicker than a formatter.
    let body = serde_json::to_vec(message).unwrap_or_default();
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn plain(status: StatusCode, text: &'static str) -> Response {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}
