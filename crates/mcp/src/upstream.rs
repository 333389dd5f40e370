//! A client of one MCP server, of either era, over a program's pipes or streamable HTTP: what capabilities stand on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use comity_specialist::{Ends, SpecialistError};
use futures_util::StreamExt as _;
use serde_json::{Map, Value, json};
use tokio::sync::Mutex;

use crate::program::{Program, Restarts};
use crate::protocol::{LEGACY, META_CAPABILITIES, META_VERSION, MODERN, UNSUPPORTED_VERSION};
use crate::session::{Callbacks, Session};
use crate::text::clean;
use crate::whole::stdio::unavailable;
use crate::whole::{Answered, Events, Exchange, Http, Method, RESUMES_MAX, headers_of, resuming};

/// How long a server may take to be ready.
const READY_MAX: Duration = Duration::from_secs(30);
/// Between two looks at the tools of a server at a URL.
const LOOK_AGAIN: Duration = Duration::from_secs(20);
/// Most pages of a list that are asked for.
const PAGES_MAX: usize = 32;
/// Most entries of a list that are taken.
pub const ENTRIES_MAX: usize = 1_000;
/// Longest answer, in bytes.
const ANSWER_BYTES_MAX: usize = 48 << 20;

/// One server and the conversation with it, begun when somebody wants something and again when it was broken off.
#[derive(Debug)]
pub struct Upstream {
    end: End,
    live: Mutex<Option<Arc<Live>>>,
    next: AtomicU64,
}

#[derive(Debug)]
enum End {
    Program(Program, Arc<Restarts>),
    Http(Http),
}

/// An open conversation.
#[derive(Debug)]
struct Live {
    line: Line,
    /// The version agreed on; the stateless one when there was no handshake.
    version: String,
    server: Value,
}

#[derive(Debug)]
enum Line {
    Program(Arc<Session>),
    Http { session: Option<String> },
}

/// What went wrong, and whether a new conversation could mend it.
#[derive(Debug)]
enum Failure {
    /// The conversation is over.
    Broken(SpecialistError),
    /// The server answered with an error.
    Rpc(i64, String),
    /// Anything else.
    Other(SpecialistError),
}

impl From<Failure> for SpecialistError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Broken(error) | Failure::Other(error) => error,
            Failure::Rpc(-32602, message) => Self::invalid(clean(&message, 500)),
            Failure::Rpc(_, message) => Self::reported(&message),
        }
    }
}

impl Upstream {
    /// A program, started when needed.
    #[must_use]
    pub fn program(program: Program) -> Self {
        Self::new(End::Program(program, Arc::new(Restarts::default())))
    }

    /// A server at a URL.
    #[must_use]
    pub fn http(http: Http) -> Self {
        Self::new(End::Http(http))
    }

    fn new(end: End) -> Self {
        Self { end, live: Mutex::new(None), next: AtomicU64::new(1) }
    }

    /// What the server says of itself at the handshake; null when there was none.
    ///
    /// # Errors
    /// When it cannot be reached or does not speak MCP.
    pub async fn server(&self) -> Result<Value, SpecialistError> {
        Ok(self.live().await?.server.clone())
    }

    /// All tools.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses.
    pub async fn tools(&self) -> Result<Vec<Value>, SpecialistError> {
        self.list("tools/list", "tools").await
    }

    /// All resources; none when the server has no such thing.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub async fn resources(&self) -> Result<Vec<Value>, SpecialistError> {
        match self.list("resources/list", "resources").await {
            Err(SpecialistError::Reported { .. }) => Ok(Vec::new()),
            other => other,
        }
    }

    async fn list(&self, method: &str, member: &str) -> Result<Vec<Value>, SpecialistError> {
        let mut all = Vec::new();
        let mut cursor = None;
        for _ in 0..PAGES_MAX {
            let mut params = Map::new();
            if let Some(cursor) = cursor.take() {
                params.insert("cursor".to_owned(), cursor);
            }
            let work = self.request(method, params);
            let mut page = tokio::time::timeout(READY_MAX, work)
                .await
                .map_err(|_| SpecialistError::Timeout { after: READY_MAX })??;
            if let Value::Array(entries) = page[member].take() {
                all.extend(entries);
            }
            cursor = page.get("nextCursor").filter(|cursor| cursor.is_string()).cloned();
            if cursor.is_none() || all.len() >= ENTRIES_MAX {
                break;
            }
        }
        all.truncate(ENTRIES_MAX);
        Ok(all)
    }

    /// Waits until the server says that its tools are others, or ends. A server at a URL is not listened to; it counts as changed
    /// after [`LOOK_AGAIN`].
    pub async fn tools_changed(&self) {
        match self.live().await.as_deref() {
            Ok(Live { line: Line::Program(session), .. }) => session.tools_changed().await,
            Ok(Live { line: Line::Http { .. }, .. }) | Err(_) => {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        }
    }

    /// Makes one request within `ends`; tells the server when the answer is not wanted any more.
    ///
    /// # Errors
    /// [`SpecialistError`].
    pub async fn bounded(
        &self,
        method: &str,
        params: Map<String, Value>,
        ends: &Ends,
    ) -> Result<Value, SpecialistError> {
        let mut cancel = Cancel { id: 0, live: None };
        let outcome = ends.bound(self.tracked(method, params, &mut cancel)).await;
        match outcome {
            Ok(outcome) => outcome.map_err(SpecialistError::from),
            Err(error) => {
                if let Some(live) = &cancel.live {
                    let note = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": cancel.id, "reason": error.code()}});
                    // Best effort: the caller waits no longer for this.
                    let _ =
                        tokio::time::timeout(Duration::from_secs(1), self.tell(live, &note)).await;
                }
                Err(error)
            }
        }
    }

    async fn request(
        &self,
        method: &str,
        params: Map<String, Value>,
    ) -> Result<Value, SpecialistError> {
        let mut cancel = Cancel { id: 0, live: None };
        self.tracked(method, params, &mut cancel).await.map_err(SpecialistError::from)
    }

    /// A conversation that broke before the request was sent is begun again, once.
    async fn tracked(
        &self,
        method: &str,
        params: Map<String, Value>,
        cancel: &mut Cancel,
    ) -> Result<Value, Failure> {
        let live = self.live().await.map_err(Failure::Other)?;
        cancel.id = self.next.fetch_add(1, Ordering::Relaxed);
        cancel.live = Some(Arc::clone(&live));
        let outcome = self.ask(&live, cancel.id, method, params).await;
        cancel.live = None;
        if let Err(Failure::Broken(_)) = &outcome {
            let mut current = self.live.lock().await;
            if current.as_ref().is_some_and(|current| Arc::ptr_eq(current, &live)) {
                *current = None;
            }
        }
        outcome
    }

    async fn live(&self) -> Result<Arc<Live>, SpecialistError> {
        let mut current = self.live.lock().await;
        if let Some(live) = &*current
            && !matches!(&live.line, Line::Program(session) if session.has_ended())
        {
            return Ok(Arc::clone(live));
        }
        *current = None;
        let begun = tokio::time::timeout(READY_MAX, self.begin()).await;
        let live = Arc::new(begun.map_err(|_| SpecialistError::Unavailable {
            what: format!("its MCP server was not ready within {} s", READY_MAX.as_secs()),
        })??);
        *current = Some(Arc::clone(&live));
        Ok(live)
    }

    /// A handshake; with a server that knows none, the stateless era.
    async fn begin(&self) -> Result<Live, SpecialistError> {
        let line = match &self.end {
            End::Program(program, restarts) => Line::Program(
                Session::start(program, restarts, Callbacks::Refuse)
                    .map_err(|error| unavailable(&error))?,
            ),
            End::Http(_) => Line::Http { session: None },
        };
        let mut live = Live { line, version: LEGACY[0].to_owned(), server: Value::Null };
        let params = json!({
            "protocolVersion": LEGACY[0],
            "capabilities": {},
            "clientInfo": {"name": "comity", "version": env!("CARGO_PKG_VERSION")},
        });
        let params = params.as_object().cloned().unwrap_or_default();
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (answer, session) = match self.ask_opening(&live, id, params).await {
            Ok(opened) => opened,
            Err(Failure::Rpc(UNSUPPORTED_VERSION | -32601 | -32600 | -32602, _)) => {
                live.version = MODERN.to_owned();
                return Ok(live);
            }
            Err(failure) => return Err(failure.into()),
        };
        let version = answer["protocolVersion"].as_str().unwrap_or_default();
        if !LEGACY.contains(&version) {
            return Err(SpecialistError::GarbageAnswer {
                what: format!(
                    "its MCP server speaks version {}, which is not spoken here",
                    clean(version, 40)
                ),
            });
        }
        live.version = version.to_owned();
        live.server = answer;
        if let Line::Http { session: slot } = &mut live.line {
            *slot = session;
        }
        self.tell(&live, &json!({"jsonrpc": "2.0", "method": "notifications/initialized"})).await;
        Ok(live)
    }

    async fn ask_opening(
        &self,
        live: &Live,
        id: u64,
        params: Map<String, Value>,
    ) -> Result<(Value, Option<String>), Failure> {
        let message = json!({"jsonrpc": "2.0", "id": id, "method": "initialize", "params": params});
        match (&live.line, &self.end) {
            (Line::Http { .. }, End::Http(http)) => self.over_http(http, live, id, &message).await,
            _ => Ok((self.ask(live, id, "initialize", params).await?, None)),
        }
    }

    async fn ask(
        &self,
        live: &Live,
        id: u64,
        method: &str,
        mut params: Map<String, Value>,
    ) -> Result<Value, Failure> {
        if live.version == MODERN {
            let meta = json!({
                META_VERSION: MODERN,
                META_CAPABILITIES: {},
                "io.modelcontextprotocol/clientInfo": {"name": "comity", "version": env!("CARGO_PKG_VERSION")},
            });
            params.insert("_meta".to_owned(), meta);
        }
        let message = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        match (&live.line, &self.end) {
            (Line::Program(session), _) => {
                let broken = || {
                    Failure::Broken(SpecialistError::Crashed {
                        what: "its MCP server ended".to_owned(),
                    })
                };
                let text = message.to_string();
                let mut answers =
                    session.request(&json!(id), None, text.as_bytes()).await.ok_or_else(broken)?;
                while let Some(line) = answers.next().await {
                    if let Some(outcome) = outcome_of(&line, id) {
                        return outcome;
                    }
                }
                Err(broken())
            }
            (Line::Http { .. }, End::Http(http)) => {
                Ok(self.over_http(http, live, id, &message).await?.0)
            }
            (Line::Http { .. }, End::Program(..)) => {
                Err(Failure::Other(SpecialistError::Unavailable {
                    what: "its MCP server has no address".to_owned(),
                }))
            }
        }
    }

    async fn over_http(
        &self,
        http: &Http,
        live: &Live,
        id: u64,
        message: &Value,
    ) -> Result<(Value, Option<String>), Failure> {
        let Line::Http { session } = &live.line else {
            return Err(Failure::Other(SpecialistError::Unavailable {
                what: "it is a program".to_owned(),
            }));
        };
        let opens = message["method"] == "initialize";
        let version = (!opens).then_some(live.version.as_str());
        let mut headers = headers_of(session.as_deref(), version, message);
        if live.version != MODERN {
            headers.retain(|name, _| name != "mcp-method" && name != "mcp-name");
        }
        let exchange = Exchange {
            method: Method::Post,
            path: String::new(),
            headers,
            body: serde_json::to_string(message).unwrap_or_default(),
        };
        let mut answered = http.send(exchange, "").await.map_err(Failure::Broken)?;
        if answered.head.status == 404 && session.is_some() {
            let what = "its MCP server has forgotten the session".to_owned();
            return Err(Failure::Broken(SpecialistError::Unavailable { what }));
        }
        let streams = answered
            .head
            .headers
            .get("content-type")
            .is_some_and(|kind| kind.starts_with("text/event-stream"));
        let given = answered.head.headers.get("mcp-session-id").cloned();
        let mut answer = Reading { id, streams, ..Reading::default() };
        let mut found = answer.read(&mut answered).await?;
        let mut resumed = 0;
        while found.is_none() && resumed < RESUMES_MAX {
            let Some(last) = answer.events.last_id().map(str::to_owned) else { break };
            tokio::time::sleep(answer.events.pause()).await;
            answer.events.again();
            resumed += 1;
            let headers = headers_of(session.as_deref(), version, &Value::Null);
            let more = http.send(resuming(headers, last), "").await.map_err(Failure::Broken)?;
            if more.head.status != 200 {
                break;
            }
            answered = more;
            found = answer.read(&mut answered).await?;
        }
        if let Some(outcome) = found {
            return outcome.map(|value| (value, given));
        }
        let whole = answer.whole;
        if let Some(outcome) = outcome_of(&whole, id) {
            return outcome.map(|value| (value, given));
        }
        let what = format!("status {} and no message", answered.head.status);
        // A server of the stateless era may refuse a handshake by the status alone.
        if opens && (400..500).contains(&answered.head.status) {
            return Err(Failure::Rpc(UNSUPPORTED_VERSION, what));
        }
        Err(Failure::Broken(SpecialistError::GarbageAnswer { what }))
    }

    async fn tell(&self, live: &Live, message: &Value) {
        match (&live.line, &self.end) {
            (Line::Program(session), _) => {
                session.tell(message.to_string().as_bytes()).await;
            }
            (Line::Http { session }, End::Http(http)) if live.version != MODERN => {
                let mut headers = headers_of(session.as_deref(), Some(&live.version), message);
                headers.retain(|name, _| name != "mcp-method" && name != "mcp-name");
                let exchange = Exchange {
                    method: Method::Post,
                    path: String::new(),
                    headers,
                    body: message.to_string(),
                };
                // A server that does not hear it notices by other means.
                let _ = http.send(exchange, "").await;
            }
            _ => {}
        }
    }
}

/// What has been read of an answer over HTTP.
#[derive(Default)]
struct Reading {
    id: u64,
    streams: bool,
    events: Events,
    whole: Vec<u8>,
    read: usize,
}

impl Reading {
    /// Reads to the answer, or to the end.
    async fn read(
        &mut self,
        answered: &mut Answered,
    ) -> Result<Option<Result<Value, Failure>>, Failure> {
        while let Some(bytes) = answered.body.next().await {
            let bytes = bytes.map_err(Failure::Broken)?;
            self.read += bytes.len();
            if self.read > ANSWER_BYTES_MAX {
                let limit = ANSWER_BYTES_MAX;
                return Err(Failure::Other(SpecialistError::AnswerTooLarge { limit }));
            }
            if !self.streams {
                self.whole.extend_from_slice(&bytes);
                continue;
            }
            for event in self.events.feed(&bytes) {
                if let Some(outcome) = outcome_of(&event, self.id) {
                    return Ok(Some(outcome));
                }
            }
        }
        Ok(None)
    }
}

struct Cancel {
    id: u64,
    live: Option<Arc<Live>>,
}

/// The answer to request `id`, if this message is that.
fn outcome_of(line: &[u8], id: u64) -> Option<Result<Value, Failure>> {
    let mut message: Value = serde_json::from_slice(line).ok()?;
    if message.get("method").is_some() {
        return None;
    }
    if message.get("error").is_some_and(Value::is_object) {
        // An error about the message as such names no id.
        let about = &message["id"];
        if !(about.is_null() || *about == json!(id)) {
            return None;
        }
        let code = message["error"]["code"].as_i64().unwrap_or(0);
        let text = message["error"]["message"]
            .as_str()
            .unwrap_or("it refuses without a reason")
            .to_owned();
        return Some(Err(Failure::Rpc(code, text)));
    }
    if message["id"] != json!(id) {
        return None;
    }
    Some(Ok(message["result"].take()))
}
