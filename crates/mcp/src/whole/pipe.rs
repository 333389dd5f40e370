//! A whole remote server on standard input and output: each line a message, each answer as it comes.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::connect::{Answer, Remote, error_message, headers_of};
use super::wire::{Exchange, Method};
use crate::lines::{self, Line};
use crate::protocol::{
    INVALID_REQUEST, Incoming, MESSAGE_BYTES_MAX, META_VERSION, RpcError, parse,
};

/// Messages that wait for a slow reader.
const OUT_LEN: usize = 64;
/// How long requests may still take after the client has closed its end.
const LAST_WORDS: Duration = Duration::from_secs(10);
/// Longest event of a stream, in bytes.
const EVENT_BYTES_MAX: usize = 60 << 20;
/// Pause before listening again, when the far side ended it.
const LISTEN_AGAIN: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
struct State {
    session: Option<String>,
    version: Option<String>,
}

#[derive(Clone)]
struct Pipe {
    remote: Remote,
    out: mpsc::Sender<Vec<u8>>,
    state: Arc<Mutex<State>>,
}

/// Serves one client until it closes its end.
///
/// # Errors
/// When its lines cannot be read or written any more.
pub async fn serve(
    remote: Remote,
    input: impl AsyncRead + Unpin,
    output: impl AsyncWrite + Unpin + Send + 'static,
) -> io::Result<()> {
    let (out, queue) = mpsc::channel(OUT_LEN);
    let writer = tokio::spawn(write(output, queue));
    let pipe = Pipe { remote, out, state: Arc::default() };
    let mut input = BufReader::new(input);
    let mut work = JoinSet::new();
    let mut listener: Option<tokio_util::task::AbortOnDropHandle<()>> = None;
    loop {
        let line = lines::next(&mut input, MESSAGE_BYTES_MAX).await?;
        while work.try_join_next().is_some() {}
        let line = match line {
            Line::End => break,
            Line::TooLong => {
                let error = RpcError::new(
                    INVALID_REQUEST,
                    format!("a message has more than {MESSAGE_BYTES_MAX} bytes"),
                );
                pipe.say(error.message(&Value::Null).to_string().into_bytes()).await;
                continue;
            }
            Line::Whole(line) if line.trim_ascii().is_empty() => continue,
            Line::Whole(line) => line,
        };
        match parse(&line) {
            Err((id, error)) => pipe.say(error.message(&id).to_string().into_bytes()).await,
            // The session has to be known before anything else is sent in it.
            Ok(Incoming::Request(request)) if request.method == "initialize" => {
                pipe.locked().session = None;
                pipe.exchange(line, Some(request.id)).await;
            }
            Ok(Incoming::Request(request)) => {
                let pipe = pipe.clone();
                work.spawn(async move { pipe.exchange(line, Some(request.id)).await });
            }
            // In order: a cancellation overtaking its request would be lost.
            Ok(Incoming::Notification { method, .. }) => {
                pipe.exchange(line, None).await;
                if method == "notifications/initialized" && pipe.locked().session.is_some() {
                    let pipe = pipe.clone();
                    listener =
                        Some(tokio_util::task::AbortOnDropHandle::new(tokio::spawn(async move {
                            pipe.listen().await;
                        })));
                }
            }
            Ok(Incoming::Response) => pipe.exchange(line, None).await,
        }
    }
    let answered = async { while work.join_next().await.is_some() {} };
    // Whatever is left is cancelled at the far end by being dropped.
    let _ = tokio::time::timeout(LAST_WORDS, answered).await;
    work.shutdown().await;
    drop(listener);
    pipe.end().await;
    drop(pipe);
    writer.await.map_err(io::Error::other)?
}

impl Pipe {
    fn locked(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn say(&self, line: Vec<u8>) {
        // Without a reader the client has gone, which the end of its input tells as well.
        let _ = self.out.send(line).await;
    }

    /// Sends one message and hands on what comes back. A request is answered in any case.
    async fn exchange(&self, line: Vec<u8>, id: Option<Value>) {
        let message: Value = serde_json::from_slice(&line).unwrap_or_default();
        let (session, version) = {
            let state = self.locked();
            let own = message.pointer("/params/_meta").and_then(|meta| meta[META_VERSION].as_str());
            (state.session.clone(), own.map(str::to_owned).or_else(|| state.version.clone()))
        };
        let headers = headers_of(session.as_deref(), version.as_deref(), &message);
        let body = String::from_utf8_lossy(&line).into_owned();
        let exchange = Exchange { method: Method::Post, path: String::new(), headers, body };
        let outcome = match self.remote.send(&exchange).await {
            Ok(answer) => {
                self.hand_on(answer, message["method"] == "initialize", id.as_ref()).await
            }
            Err(error) => Err(error_message(id.as_ref().unwrap_or(&Value::Null), &error)),
        };
        if let (Err(error), Some(_)) = (outcome, id) {
            self.say(error.to_string().into_bytes()).await;
        }
    }

    async fn hand_on(
        &self,
        mut answer: Answer,
        opens: bool,
        id: Option<&Value>,
    ) -> Result<(), Value> {
        if opens {
            self.locked().session = answer.head.headers.get("mcp-session-id").cloned();
        }
        let kind = answer.head.headers.get("content-type").cloned().unwrap_or_default();
        let streams = kind.starts_with("text/event-stream");
        let mut events = Events::default();
        let mut answered = id.is_none();
        let mut whole = Vec::new();
        for _ in 0..RESUMES_MAX {
            while let Some(bytes) = answer.next().await {
                let bytes =
                    bytes.map_err(|error| error_message(id.unwrap_or(&Value::Null), &error))?;
                if !streams {
                    whole.extend_from_slice(&bytes);
                    continue;
                }
                for event in events.feed(&bytes) {
                    answered |= self.deliver(event, opens, id).await;
                }
            }
            if !streams || answered {
                break;
            }
            let Some(more) = self.resume(&mut events).await else { break };
            answer = more;
        }
        if !streams && !whole.trim_ascii().is_empty() {
            let is_json =
                serde_json::from_slice::<Value>(&whole).is_ok_and(|value| value.is_object());
            if is_json && id.is_some() {
                let message: Value = serde_json::from_slice(&whole).unwrap_or_default();
                // An error about the HTTP request alone names no id.
                if message["id"].is_null() && message["error"].is_object() {
                    let mut message = message;
                    message["id"] = id.cloned().unwrap_or_default();
                    return Err(message);
                }
                answered |= self.deliver(whole, opens, id).await;
            }
        }
        if answered {
            return Ok(());
        }
        let text =
            format!("the MCP server answered with status {} and no message", answer.head.status);
        Err(RpcError::new(crate::protocol::INTERNAL_ERROR, text)
            .message(id.unwrap_or(&Value::Null)))
    }

    /// Takes up a stream that ended before its answer, if the server can.
    async fn resume(&self, events: &mut Events) -> Option<Answer> {
        let last = events.last_id()?.to_owned();
        tokio::time::sleep(events.pause()).await;
        events.again();
        let headers = {
            let state = self.locked();
            headers_of(state.session.as_deref(), state.version.as_deref(), &Value::Null)
        };
        let exchange = resuming(headers, last);
        self.remote.send(&exchange).await.ok().filter(|answer| answer.head.status == 200)
    }

    /// Hands one message on; tells whether it is the answer to `id`.
    async fn deliver(&self, event: Vec<u8>, opens: bool, id: Option<&Value>) -> bool {
        let message: Value = serde_json::from_slice(&event).unwrap_or_default();
        if !message.is_object() {
            return false;
        }
        let is_answer = message.get("method").is_none() && id.is_some() && message.get("id") == id;
        if opens && is_answer {
            self.locked().version = message
                .pointer("/result/protocolVersion")
                .and_then(Value::as_str)
                .map(str::to_owned);
        }
        self.say(event).await;
        is_answer
    }

    /// Listens for what the server says unasked, as long as it lets.
    async fn listen(&self) {
        loop {
            let (session, version) = {
                let state = self.locked();
                (state.session.clone(), state.version.clone())
            };
            let mut headers = headers_of(session.as_deref(), version.as_deref(), &Value::Null);
            headers.insert("accept".to_owned(), "text/event-stream".to_owned());
            let exchange =
                Exchange { method: Method::Get, path: String::new(), headers, body: String::new() };
            let Ok(mut answer) = self.remote.send(&exchange).await else { return };
            if answer.head.status != 200 {
                return;
            }
            let mut events = Events::default();
            while let Some(Ok(bytes)) = answer.next().await {
                for event in events.feed(&bytes) {
                    self.deliver(event, false, None).await;
                }
            }
            tokio::time::sleep(LISTEN_AGAIN).await;
        }
    }

    /// Ends the session at the far side, which may not know how.
    async fn end(&self) {
        let (session, version) = {
            let state = self.locked();
            (state.session.clone(), state.version.clone())
        };
        if session.is_none() {
            return;
        }
        let headers = headers_of(session.as_deref(), version.as_deref(), &Value::Null);
        let exchange =
            Exchange { method: Method::Delete, path: String::new(), headers, body: String::new() };
        let _ = tokio::time::timeout(LAST_WORDS, self.remote.send(&exchange)).await;
    }
}

/// The request that takes a stream up again after the event `last`.
pub(crate) fn resuming(mut headers: BTreeMap<String, String>, last: String) -> Exchange {
    headers.remove("content-type");
    headers.insert("accept".to_owned(), "text/event-stream".to_owned());
    headers.insert("last-event-id".to_owned(), last);
    Exchange { method: Method::Get, path: String::new(), headers, body: String::new() }
}

async fn write(
    mut output: impl AsyncWrite + Unpin,
    mut queue: mpsc::Receiver<Vec<u8>>,
) -> io::Result<()> {
    while let Some(mut line) = queue.recv().await {
        line.retain(|byte| !matches!(byte, b'\n' | b'\r'));
        line.push(b'\n');
        output.write_all(&line).await?;
        output.flush().await?;
    }
    Ok(())
}

/// Cuts a stream of server-sent events into their data (WHATWG HTML, section 9.2.6).
#[derive(Debug, Default)]
pub(crate) struct Events {
    line: Vec<u8>,
    data: Vec<u8>,
    has_data: bool,
    after_return: bool,
    last_id: Option<String>,
    retry: Option<Duration>,
}

/// Longest id of an event that is remembered, in bytes.
const EVENT_ID_MAX: usize = 1 << 10;
/// How often a stream that ended before its answer is taken up again.
pub(crate) const RESUMES_MAX: u32 = 16;
/// Pause before that when the server names none, and the longest it may name.
const RETRY: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(10);

impl Events {
    /// The id by which the stream can be taken up again after what was read of it.
    pub(crate) fn last_id(&self) -> Option<&str> {
        self.last_id.as_deref()
    }

    /// How long to wait before that.
    pub(crate) fn pause(&self) -> Duration {
        self.retry.unwrap_or(RETRY).min(RETRY_MAX)
    }

    /// The next bytes come from another response: what was cut off is forgotten.
    pub(crate) fn again(&mut self) {
        *self = Self { last_id: self.last_id.take(), retry: self.retry, ..Self::default() };
    }

    /// The data of the events that the next bytes complete. Too long an event is dropped.
    pub(crate) fn feed(&mut self, bytes: &Bytes) -> Vec<Vec<u8>> {
        let mut done = Vec::new();
        for &byte in bytes {
            let after_return = std::mem::replace(&mut self.after_return, byte == b'\r');
            match byte {
                b'\n' if after_return => {}
                b'\n' | b'\r' => self.end_of_line(&mut done),
                _ if self.line.len() < EVENT_BYTES_MAX => self.line.push(byte),
                _ => {}
            }
        }
        done
    }

    fn end_of_line(&mut self, done: &mut Vec<Vec<u8>>) {
        let line = std::mem::take(&mut self.line);
        if line.is_empty() {
            if std::mem::take(&mut self.has_data) {
                let data = std::mem::take(&mut self.data);
                // The first event of a stream may carry an id alone, to begin with.
                if !data.is_empty() {
                    done.push(data);
                }
            }
            return;
        }
        let field = |name: &[u8]| {
            let value = line.strip_prefix(name)?;
            std::str::from_utf8(value.strip_prefix(b" ").unwrap_or(value)).ok()
        };
        if let Some(id) = field(b"id:") {
            self.last_id = (!id.is_empty() && id.len() <= EVENT_ID_MAX).then(|| id.to_owned());
        } else if let Some(pause) = field(b"retry:") {
            self.retry = pause.parse().ok().map(Duration::from_millis).or(self.retry);
        }
        let Some(value) = line.strip_prefix(b"data:") else { return };
        let value = value.strip_prefix(b" ").unwrap_or(value);
        if self.has_data {
            self.data.push(b'\n');
        }
        if self.data.len() + value.len() <= EVENT_BYTES_MAX {
            self.data.extend_from_slice(value);
        }
        self.has_data = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_taken_up_after_the_last_event_that_had_an_id() {
        let mut events = Events::default();
        assert_eq!((events.last_id(), events.pause()), (None, RETRY));
        events.feed(&Bytes::from_static(b"id: e1\nretry: 250\ndata:\n\ndata: cut"));
        assert_eq!((events.last_id(), events.pause()), (Some("e1"), Duration::from_millis(250)));
        events.again();
        let found = events.feed(&Bytes::from_static(b"retry: x\nretry: 99999999\ndata: 1\n\n"));
        assert_eq!((found, events.last_id()), (vec![b"1".to_vec()], Some("e1")));
        assert_eq!(events.pause(), RETRY_MAX);
    }

    #[test]
    fn events_are_the_same_however_their_bytes_come() {
        let text = b": hi\n\nid: 1\ndata:\n\nevent: message\r\ndata: {\"a\":\r\ndata: 1}\r\n\r\ndata:x\rdata: y\r\rdata: cut";
        for step in 1..text.len() {
            let mut events = Events::default();
            let found: Vec<Vec<u8>> = text
                .chunks(step)
                .flat_map(|chunk| events.feed(&Bytes::copy_from_slice(chunk)))
                .collect();
            assert_eq!(found, [b"{\"a\":\n1}".to_vec(), b"x\ny".to_vec()], "{step}");
        }
    }
}
