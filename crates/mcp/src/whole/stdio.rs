//! Programs behind the HTTP shape of a whole server.
//!
//! A client of the older era has a program of its own for as long as its session lasts. Requests of the stateless era
//! stand alone, so each borrows a program for its duration and nothing of it has to be renamed. Messages go through as they
//! are, byte for byte.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use comity_specialist::SpecialistError;
use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::relay::Answered;
use super::wire::{Exchange, Head, Method};
use crate::program::{Program, Restarts, StartError};
use crate::protocol::{Incoming, META_VERSION, MODERN, Request, RpcError, parse};
use crate::session::{Answers, Callbacks, Session};

/// Most programs of one server at once.
pub const PROGRAMS_MAX: usize = 16;
/// Programs kept ready for the next stateless request.
const IDLE_MAX: usize = 2;
/// A session unused for so long ends, and its program with it.
const SESSION_IDLE: Duration = Duration::from_secs(1_800);

/// One program a client.
#[derive(Debug)]
pub struct Programs(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    program: Program,
    restarts: Arc<Restarts>,
    /// By caller and session id: nobody can speak in another's session.
    sessions: Mutex<BTreeMap<(String, String), Open>>,
    idle: Mutex<Vec<Arc<Session>>>,
    busy: AtomicUsize,
    next: AtomicU64,
}

#[derive(Debug)]
struct Open {
    session: Arc<Session>,
    used: Instant,
}

impl Programs {
    /// A server that is started when somebody wants it.
    #[must_use]
    pub fn new(program: Program) -> Self {
        Self(Arc::new(Inner {
            program,
            restarts: Arc::new(Restarts::default()),
            sessions: Mutex::default(),
            idle: Mutex::default(),
            busy: AtomicUsize::new(0),
            next: AtomicU64::new(1),
        }))
    }

    /// Ends all its programs.
    pub fn close(&self) {
        locked(&self.0.sessions).clear();
        locked(&self.0.idle).clear();
    }

    pub(super) async fn send(
        &self,
        exchange: Exchange,
        caller: &str,
    ) -> Result<Answered, SpecialistError> {
        let session = exchange.headers.get("mcp-session-id").map(String::as_str);
        match exchange.method {
            Method::Post => {}
            Method::Get => {
                let Some(open) = session.and_then(|id| self.session(caller, id)) else {
                    return Ok(status(if session.is_some() { 404 } else { 405 }));
                };
                let messages = open.listen();
                return Ok(events(200, None, listening(messages, open)));
            }
            Method::Delete => {
                let key = (caller.to_owned(), session.unwrap_or_default().to_owned());
                let found = locked(&self.0.sessions).remove(&key).is_some();
                return Ok(status(if found { 204 } else { 404 }));
            }
        }
        let text = exchange.body.as_bytes();
        let request = match parse(text) {
            Err((id, error)) => return Ok(message(400, &error.message(&id))),
            Ok(Incoming::Notification { .. } | Incoming::Response) => {
                return Ok(match session.map(|id| self.session(caller, id)) {
                    Some(Some(open)) => status(if open.tell(text).await { 202 } else { 404 }),
                    Some(None) => status(404),
                    // A stateless notification has nobody to go to.
                    None => status(202),
                });
            }
            Ok(Incoming::Request(request)) => request,
        };
        let version = exchange.headers.get("mcp-protocol-version").map(String::as_str);
        let modern = request.method != "initialize"
            && session.is_none()
            && (version == Some(MODERN) || request.meta(META_VERSION).is_some());
        if modern {
            return self.stateless(&request, text).await;
        }
        if request.method == "initialize" {
            return self.initialize(&request, text, caller).await;
        }
        let Some(open) = session.and_then(|id| self.session(caller, id)) else {
            let error = RpcError::new(
                crate::protocol::INVALID_REQUEST,
                "there is no such session: initialize first",
            );
            return Ok(message(
                if session.is_some() { 404 } else { 400 },
                &error.message(&request.id),
            ));
        };
        Ok(ask(open, &request, text, None, None).await)
    }

    async fn initialize(
        &self,
        request: &Request,
        text: &[u8],
        caller: &str,
    ) -> Result<Answered, SpecialistError> {
        let now = Instant::now();
        locked(&self.0.sessions)
            .retain(|_, open| !open.session.has_ended() && now - open.used < SESSION_IDLE);
        let session = self.start()?;
        let id = format!("s{}", self.0.next.fetch_add(1, Ordering::Relaxed));
        let open = Open { session: Arc::clone(&session), used: now };
        locked(&self.0.sessions).insert((caller.to_owned(), id.clone()), open);
        Ok(ask(session, request, text, Some(id), None).await)
    }

    async fn stateless(&self, request: &Request, text: &[u8]) -> Result<Answered, SpecialistError> {
        let ready = locked(&self.0.idle).pop().filter(|session| !session.has_ended());
        let session = match ready {
            Some(session) => session,
            None => self.start()?,
        };
        self.0.busy.fetch_add(1, Ordering::Relaxed);
        let loan =
            Loan { inner: Arc::clone(&self.0), session: Arc::clone(&session), answered: false };
        Ok(ask(session, request, text, None, Some(loan)).await)
    }

    fn start(&self) -> Result<Arc<Session>, SpecialistError> {
        let running = locked(&self.0.sessions).len() + self.0.busy.load(Ordering::Relaxed);
        if running >= PROGRAMS_MAX {
            return Err(SpecialistError::Busy { waiting: running });
        }
        Session::start(&self.0.program, &self.0.restarts, Callbacks::PassOn)
            .map_err(|error| unavailable(&error))
    }

    fn session(&self, caller: &str, id: &str) -> Option<Arc<Session>> {
        let mut sessions = locked(&self.0.sessions);
        let open = sessions.get_mut(&(caller.to_owned(), id.to_owned()))?;
        open.used = Instant::now();
        (!open.session.has_ended()).then(|| Arc::clone(&open.session))
    }
}

pub(crate) fn unavailable(error: &StartError) -> SpecialistError {
    SpecialistError::Unavailable { what: error.to_string() }
}

/// A program borrowed for one request. Only one that has answered is as good as new.
struct Loan {
    inner: Arc<Inner>,
    session: Arc<Session>,
    answered: bool,
}

impl Drop for Loan {
    fn drop(&mut self) {
        self.inner.busy.fetch_sub(1, Ordering::Relaxed);
        let mut idle = locked(&self.inner.idle);
        if self.answered && !self.session.has_ended() && idle.len() < IDLE_MAX {
            idle.push(Arc::clone(&self.session));
        }
    }
}

/// Sends a request and answers with what comes for it.
async fn ask(
    session: Arc<Session>,
    request: &Request,
    text: &[u8],
    new: Option<String>,
    loan: Option<Loan>,
) -> Answered {
    let progress = request.meta("progressToken").cloned();
    match session.request(&request.id, progress.as_ref(), text).await {
        Some(answers) => events(200, new, answering(answers, session, request.id.clone(), loan)),
        None => {
            let text = "the MCP server does not take it: it has ended, or a request with this id is under way";
            message(200, &RpcError::new(crate::protocol::INTERNAL_ERROR, text).message(&request.id))
        }
    }
}

fn answering(
    answers: Answers,
    session: Arc<Session>,
    id: Value,
    loan: Option<Loan>,
) -> stream::BoxStream<'static, Vec<u8>> {
    // The session is kept for as long as somebody reads.
    let state = Some((answers, session, loan));
    stream::unfold((state, id), |(state, id)| async move {
        let (mut answers, session, mut loan) = state?;
        match answers.next().await {
            Some(line) => {
                let last = is_answer(&line, &id);
                if last && let Some(loan) = &mut loan {
                    loan.answered = true;
                }
                Some((line, ((!last).then_some((answers, session, loan)), id)))
            }
            None => {
                let error = RpcError::new(
                    crate::protocol::INTERNAL_ERROR,
                    "the MCP server ended before it had answered",
                );
                Some((error.message(&id).to_string().into_bytes(), (None, id)))
            }
        }
    })
    .boxed()
}

fn is_answer(line: &[u8], id: &Value) -> bool {
    serde_json::from_slice::<Value>(line)
        .is_ok_and(|message| message.get("method").is_none() && message.get("id") == Some(id))
}

fn listening(
    messages: mpsc::Receiver<Vec<u8>>,
    session: Arc<Session>,
) -> stream::BoxStream<'static, Vec<u8>> {
    stream::unfold((messages, session), |(mut messages, session)| async move {
        messages.recv().await.map(|line| (line, (messages, session)))
    })
    .boxed()
}

/// A stream of server-sent events, one a message.
fn events(
    code: u16,
    session: Option<String>,
    lines: stream::BoxStream<'static, Vec<u8>>,
) -> Answered {
    let mut headers = BTreeMap::from([
        ("content-type".to_owned(), "text/event-stream".to_owned()),
        ("cache-control".to_owned(), "no-cache".to_owned()),
    ]);
    headers.extend(session.map(|id| ("mcp-session-id".to_owned(), id)));
    let body = lines.map(|line| {
        let mut event = b"event: message\ndata: ".to_vec();
        event.extend(line.into_iter().filter(|byte| !matches!(byte, b'\n' | b'\r')));
        event.extend_from_slice(b"\n\n");
        Ok(Bytes::from(event))
    });
    Answered { head: Head { status: code, headers }, body: body.boxed() }
}

fn message(code: u16, message: &Value) -> Answered {
    let headers = BTreeMap::from([("content-type".to_owned(), "application/json".to_owned())]);
    let body = Bytes::from(message.to_string());
    Answered {
        head: Head { status: code, headers },
        body: stream::once(async move { Ok(body) }).boxed(),
    }
}

fn status(code: u16) -> Answered {
    if code < 400 {
        let head = Head { status: code, headers: BTreeMap::new() };
        return Answered { head, body: stream::empty().boxed() };
    }
    message(
        code,
        &json!({"jsonrpc": "2.0", "id": null, "error": {"code": -32600, "message": "there is no such session"}}),
    )
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
