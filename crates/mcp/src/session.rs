//! One client's conversation with a program: each message of the program goes to whoever it belongs to.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};
use tokio::io::BufReader;
use tokio::process::ChildStdout;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::lines::{self, Line};
use crate::program::{LINE_BYTES_MAX, Process, Program, Restarts, StartError};

/// Messages that wait for a slow reader; then the program waits.
const OUT_LEN: usize = 64;
/// Messages kept while nobody listens; the oldest is forgotten first.
const KEPT_MAX: usize = 64;
/// Requests under way at once.
const WAITING_MAX: usize = 128;

/// What to do with requests the program makes of its client, such as sampling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Callbacks {
    /// Hand them to the client.
    PassOn,
    /// Refuse them: nobody is there to answer.
    Refuse,
}

/// A program and who waits for what of it.
#[derive(Debug)]
pub(crate) struct Session {
    process: Process,
    routes: Arc<Routes>,
    _reader: AbortOnDropHandle<()>,
}

#[derive(Debug)]
struct Routes {
    state: Mutex<State>,
    callbacks: Callbacks,
    tools_changed: Notify,
    refusals: mpsc::Sender<String>,
}

#[derive(Debug, Default)]
struct State {
    /// By id as JSON text.
    waiting: BTreeMap<String, Waiting>,
    /// Order in which they began.
    order: VecDeque<String>,
    listener: Option<mpsc::Sender<Vec<u8>>>,
    kept: VecDeque<Vec<u8>>,
    ended: bool,
}

#[derive(Debug)]
struct Waiting {
    out: mpsc::Sender<Vec<u8>>,
    progress: Option<String>,
}

impl Session {
    /// Starts a program for one client.
    pub(crate) fn start(
        program: &Program,
        restarts: &Arc<Restarts>,
        callbacks: Callbacks,
    ) -> Result<Arc<Self>, StartError> {
        let started = Instant::now();
        restarts.check(started)?;
        let (process, output) = match Process::start(program) {
            Ok(running) => running,
            Err(error) => {
                restarts.ended(started, started);
                return Err(error);
            }
        };
        let (refusals, refused) = mpsc::channel(OUT_LEN);
        let routes = Arc::new(Routes {
            state: Mutex::default(),
            callbacks,
            tools_changed: Notify::new(),
            refusals,
        });
        let reader = read(output, Arc::clone(&routes), Arc::clone(restarts), started);
        let session = Arc::new(Self {
            process,
            routes,
            _reader: AbortOnDropHandle::new(tokio::spawn(reader)),
        });
        if callbacks == Callbacks::Refuse {
            tokio::spawn(refuse(Arc::downgrade(&session), refused));
        }
        Ok(session)
    }

    /// Whether the program has ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.routes.lock().ended
    }

    /// Sends a request (its JSON text) and returns what comes for it: notifications, requests of the program, the answer
    /// as the last. Nothing more comes after the answer, and nothing at all when the program ends.
    pub(crate) async fn request(
        &self,
        id: &Value,
        progress: Option<&Value>,
        text: &[u8],
    ) -> Option<Answers> {
        let (out, answers) = mpsc::channel(OUT_LEN);
        let key = id.to_string();
        {
            let mut state = self.routes.lock();
            if state.ended || state.waiting.contains_key(&key) || state.waiting.len() >= WAITING_MAX
            {
                return None;
            }
            state
                .waiting
                .insert(key.clone(), Waiting { out, progress: progress.map(Value::to_string) });
            state.order.push_back(key.clone());
        }
        let answers = Answers { routes: Arc::clone(&self.routes), key, messages: answers };
        self.process.write(text).await.ok().map(|()| answers)
    }

    /// Sends a message that wants no answer.
    pub(crate) async fn tell(&self, text: &[u8]) -> bool {
        self.process.write(text).await.is_ok()
    }

    /// Takes over what belongs to no request, in place of whoever did before.
    pub(crate) fn listen(&self) -> mpsc::Receiver<Vec<u8>> {
        let (out, messages) = mpsc::channel(OUT_LEN.max(KEPT_MAX));
        let mut state = self.routes.lock();
        for message in state.kept.drain(..) {
            // There is room for all that is kept.
            let _ = out.try_send(message);
        }
        state.listener = (!state.ended).then_some(out);
        messages
    }

    /// Waits until the program says that its tools are others.
    pub(crate) async fn tools_changed(&self) {
        self.routes.tools_changed.notified().await;
    }
}

/// What comes for one request.
#[derive(Debug)]
pub(crate) struct Answers {
    routes: Arc<Routes>,
    key: String,
    messages: mpsc::Receiver<Vec<u8>>,
}

impl Answers {
    /// The next message; `None` after the answer, or when the program has ended.
    pub(crate) async fn next(&mut self) -> Option<Vec<u8>> {
        self.messages.recv().await
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        self.routes.lock().forget(&self.key);
    }
}

impl State {
    fn forget(&mut self, key: &str) -> Option<Waiting> {
        self.order.retain(|known| known != key);
        self.waiting.remove(key)
    }
}

impl Routes {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where a message goes, if anybody wants it.
    fn route(&self, message: &Value, line: &[u8]) -> Option<mpsc::Sender<Vec<u8>>> {
        let id = message.get("id").filter(|id| !id.is_null());
        let Some(method) = message.get("method").and_then(Value::as_str) else {
            // An answer ends what waits for it; one that nobody waits for is dropped.
            return self.lock().forget(&id?.to_string()).map(|waiting| waiting.out);
        };
        if let (Some(id), Callbacks::Refuse) = (id, self.callbacks) {
            let answer = if method == "ping" {
                json!({"jsonrpc": "2.0", "id": id, "result": {}})
            } else {
                let text = format!(
                    "{} is refused: a tool that is served by itself cannot ask its caller; a server that asks is served whole (comity serve --mcp … --whole)",
                    crate::text::clean(method, 80)
                );
                json!({"jsonrpc": "2.0", "id": id, "error": {"code": -32601, "message": text}})
            };
            // A program that floods gets some of its requests ignored.
            let _ = self.refusals.try_send(answer.to_string());
            return None;
        }
        if method == "notifications/tools/list_changed" {
            self.tools_changed.notify_one();
        }
        let mut state = self.lock();
        if method == "notifications/progress"
            && let Some(token) = message.pointer("/params/progressToken").map(Value::to_string)
            && let Some(waiting) =
                state.waiting.values().find(|one| one.progress.as_deref() == Some(&token))
        {
            return Some(waiting.out.clone());
        }
        if let Some(waiting) = state.order.back().and_then(|key| state.waiting.get(key)) {
            return Some(waiting.out.clone());
        }
        if let Some(listener) = state.listener.clone().filter(|listener| !listener.is_closed()) {
            return Some(listener);
        }
        if self.callbacks == Callbacks::PassOn {
            if state.kept.len() >= KEPT_MAX {
                state.kept.pop_front();
            }
            state.kept.push_back(line.to_vec());
        }
        None
    }
}

async fn read(
    mut output: BufReader<ChildStdout>,
    routes: Arc<Routes>,
    restarts: Arc<Restarts>,
    started: Instant,
) {
    loop {
        let line = match lines::next(&mut output, LINE_BYTES_MAX).await {
            Ok(Line::Whole(line)) => line,
            Ok(Line::TooLong) => {
                tracing::warn!(
                    "an MCP server wrote a line of more than {LINE_BYTES_MAX} bytes; it was dropped"
                );
                continue;
            }
            Ok(Line::End) | Err(_) => break,
        };
        match serde_json::from_slice::<Value>(&line) {
            Ok(message) if message.is_object() => {
                if let Some(out) = routes.route(&message, &line) {
                    // Whoever went away wants nothing any more.
                    let _ = out.send(line).await;
                }
            }
            Ok(_) | Err(_) if line.trim_ascii().is_empty() => {}
            Ok(_) | Err(_) => {
                tracing::warn!(
                    "an MCP server wrote something that is no message to its output; it was dropped"
                );
            }
        }
    }
    restarts.ended(started, Instant::now());
    let mut state = routes.lock();
    state.ended = true;
    state.waiting.clear();
    state.order.clear();
    state.listener = None;
    drop(state);
    routes.tools_changed.notify_one();
}

async fn refuse(session: std::sync::Weak<Session>, mut refusals: mpsc::Receiver<String>) {
    while let Some(answer) = refusals.recv().await {
        let Some(session) = session.upgrade() else { return };
        session.tell(answer.as_bytes()).await;
    }
}
