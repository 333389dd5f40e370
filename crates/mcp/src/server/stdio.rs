//! The server on standard input and output: one message a line.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::Network;
use crate::lines::{self, Line};
use crate::protocol::{
    Context, INVALID_REQUEST, Incoming, MESSAGE_BYTES_MAX, Request, RpcError, TOO_BUSY,
    notification, parse, response,
};

/// Most requests answered at once.
const REQUESTS_MAX: usize = 64;
/// Messages that wait for a slow reader; then the work that makes them waits.
const OUT_LEN: usize = 64;
/// How long requests may still take after the client has closed its end.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// Requests being answered, by id as JSON text.
type Running = Arc<Mutex<BTreeMap<String, CancellationToken>>>;

/// Serves one client until it closes its end.
///
/// # Errors
/// When its lines cannot be read or written any more.
pub async fn serve(
    network: Network,
    input: impl AsyncRead + Unpin,
    output: impl AsyncWrite + Unpin + Send + 'static,
) -> io::Result<()> {
    let (out, queue) = mpsc::channel(OUT_LEN);
    let writer = tokio::spawn(write(output, queue));
    let client =
        Client { network, out, running: Running::default(), ended: CancellationToken::new() };
    let mut input = BufReader::new(input);
    let mut work = JoinSet::new();
    let mut changes: Option<AbortOnDropHandle<()>> = None;
    loop {
        let line = lines::next(&mut input, MESSAGE_BYTES_MAX).await?;
        while work.try_join_next().is_some() {}
        match line {
            Line::End => break,
            Line::TooLong => {
                let text = format!("a message has more than {MESSAGE_BYTES_MAX} bytes");
                client.say(RpcError::new(INVALID_REQUEST, text).message(&Value::Null)).await;
            }
            Line::Whole(line) if line.trim_ascii().is_empty() => {}
            Line::Whole(line) => match parse(&line) {
                Err((id, error)) => client.say(error.message(&id)).await,
                Ok(Incoming::Response) => {}
                Ok(Incoming::Notification { method, params }) => match method.as_str() {
                    "notifications/cancelled" => client.cancel(params.get("requestId")),
                    "notifications/initialized" if changes.is_none() => {
                        let tell = tell_changes(client.network.clone(), client.out.clone());
                        changes = Some(AbortOnDropHandle::new(tokio::spawn(tell)));
                    }
                    _ => {}
                },
                Ok(Incoming::Request(request)) => client.begin(request, &mut work).await,
            },
        }
    }
    drop(changes);
    client.finish(work, writer).await
}

struct Client {
    network: Network,
    out: mpsc::Sender<Value>,
    running: Running,
    /// The client has closed its end: subscriptions are over.
    ended: CancellationToken,
}

impl Client {
    async fn say(&self, message: Value) {
        // Without a reader the client has gone, which the end of its input tells as well.
        let _ = self.out.send(message).await;
    }

    async fn begin(&self, request: Request, work: &mut JoinSet<()>) {
        let era = match request.era() {
            Ok(era) => era,
            Err(error) => return self.say(error.message(&request.id)).await,
        };
        let key = request.id.to_string();
        let listens = request.method == "subscriptions/listen";
        let cancel = if listens { self.ended.child_token() } else { CancellationToken::new() };
        let refused = {
            let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            if running.contains_key(&key) {
                Some(RpcError::new(
                    INVALID_REQUEST,
                    "a request with this id is still being answered",
                ))
            } else if running.len() >= REQUESTS_MAX {
                Some(RpcError::new(
                    TOO_BUSY,
                    format!("{REQUESTS_MAX} requests are being answered; wait for one"),
                ))
            } else {
                running.insert(key.clone(), cancel.clone());
                None
            }
        };
        if let Some(error) = refused {
            return self.say(error.message(&request.id)).await;
        }
        let progress = request.meta("progressToken").cloned();
        let context = Context { era, cancel, out: self.out.clone(), progress };
        let (network, running) = (self.network.clone(), Arc::clone(&self.running));
        work.spawn(async move {
            let outcome = network.answer(&request, &context).await;
            running.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
            // Whoever cancelled a request wants no answer to it; a subscription ends with its result all the same.
            if !context.cancel.is_cancelled() || listens {
                let _ = context.out.send(response(&request.id, outcome)).await;
            }
        });
    }

    fn cancel(&self, id: Option<&Value>) {
        let Some(id) = id else { return };
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        // Too late when it is not there any more, which is no fault of the client's.
        if let Some(cancel) = running.get(&id.to_string()) {
            cancel.cancel();
        }
    }

    /// Lets what is under way be answered, for a while.
    async fn finish(
        self,
        mut work: JoinSet<()>,
        writer: tokio::task::JoinHandle<io::Result<()>>,
    ) -> io::Result<()> {
        self.ended.cancel();
        let answered = async { while work.join_next().await.is_some() {} };
        // Whatever is left is cancelled by being dropped, at the far end too.
        let _ = tokio::time::timeout(LAST_WORDS, answered).await;
        work.shutdown().await;
        drop(self);
        writer.await.map_err(io::Error::other)?
    }
}

async fn tell_changes(network: Network, out: mpsc::Sender<Value>) {
    let mut changes = network.changes();
    while changes.changed().await.is_ok() {
        if out.send(notification("notifications/tools/list_changed", json!({}))).await.is_err() {
            return;
        }
    }
}

async fn write(
    mut output: impl AsyncWrite + Unpin,
    mut queue: mpsc::Receiver<Value>,
) -> io::Result<()> {
    while let Some(message) = queue.recv().await {
        let mut line = message.to_string();
        line.push('\n');
        output.write_all(line.as_bytes()).await?;
        output.flush().await?;
    }
    Ok(())
}
