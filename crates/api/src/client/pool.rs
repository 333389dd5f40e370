//! Connections to the node that have answered and wait for the next request.
//!
//! Each request still has a connection to itself while it runs, so that dropping it cancels that work and no other. What is kept is a
//! connection whose answer was read to its end; opening one costs a call about a tenth of a millisecond.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

/// Connections kept; a node takes some hundreds.
const IDLE_MAX: usize = 16;
/// A connection that waited for longer is not used again: the node closes idle ones after 30 s.
const IDLE_TIME: Duration = Duration::from_secs(10);
/// How long the end of an answer may be behind its last event.
const END_PATIENCE: Duration = Duration::from_secs(1);

/// Idle connections, the one used last at the end. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct Pool(Arc<Mutex<Vec<(Instant, Link)>>>);

/// A connection. Dropping it closes it.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) sender: SendRequest<Full<Bytes>>,
    _connection: Connection,
}

/// Owner of the task that drives a connection; closes the connection when dropped.
#[derive(Debug)]
struct Connection(JoinHandle<()>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Link {
    pub(super) async fn open(stream: UnixStream) -> Result<Self, hyper::Error> {
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        let connection = Connection(tokio::spawn(async move {
            // A failing connection shows as the failing request that waits on it.
            let _ = connection.await;
        }));
        Ok(Self { sender, _connection: connection })
    }
}

impl Pool {
    /// A connection that can take a request now.
    pub(super) fn take(&self) -> Option<Link> {
        let mut idle = self.lock();
        while let Some((since, link)) = idle.pop() {
            if since.elapsed() >= IDLE_TIME {
                // All others have waited longer.
                idle.clear();
            } else if link.sender.is_ready() {
                return Some(link);
            }
        }
        None
    }

    /// Keeps a connection once the rest of its answer, `body`, was read.
    pub(super) fn give_back(&self, mut link: Link, mut body: Incoming) {
        let pool = self.clone();
        let end = async move {
            while let Some(frame) = body.frame().await {
                frame?;
            }
            link.sender.ready().await?;
            Ok::<_, hyper::Error>(link)
        };
        tokio::spawn(async move {
            if let Ok(Ok(link)) = tokio::time::timeout(END_PATIENCE, end).await {
                let mut idle = pool.lock();
                if idle.len() >= IDLE_MAX {
                    idle.remove(0);
                }
                idle.push((Instant::now(), link));
            }
        });
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(Instant, Link)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What becomes of a request on one connection.
pub(super) enum Sent {
    Answered(hyper::Response<Incoming>),
    /// The connection was over before it took the request, which is unharmed.
    NotTaken(Request<Full<Bytes>>, hyper::Error),
    Failed(hyper::Error),
}

pub(super) async fn send(link: &mut Link, request: Request<Full<Bytes>>) -> Sent {
    match link.sender.try_send_request(request).await {
        Ok(response) => Sent::Answered(response),
        Err(mut error) => match error.take_message() {
            Some(request) => Sent::NotTaken(request, error.into_error()),
            None => Sent::Failed(error.into_error()),
        },
    }
}
