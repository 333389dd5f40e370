//! What is compared: each contender answers a 256-byte request with 1 KiB, encrypted and authenticated
//! unless it says otherwise.

use std::{
    any::Any,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};

mod comity;
mod grpc;
mod http;
mod iroh;
mod libp2p;
mod pacing;
pub(crate) mod tls;
mod udp;

/// Length of a request, in bytes.
pub(crate) const REQUEST_LEN: usize = 256;
/// Length of an answer, in bytes: the request four times over, so that each answer proves which request it is for.
pub(crate) const ANSWER_LEN: usize = 1024;

/// One way to call a peer.
pub(crate) trait Contender: Send + Sync {
    /// Short name, used in tables and with `--only`.
    fn name(&self) -> &'static str;

    /// One line: how it is used.
    fn how(&self) -> &'static str;

    /// Starts a server on the calling runtime, bound to `bind` with a port of the system's choice.
    fn serve(&self, bind: IpAddr) -> BoxFuture<'static, Result<Service>>;

    /// Makes a client that has never met any server and is bound to `bind`. `after` tells those that manage their
    /// connections themselves what to do with them.
    fn client(&self, bind: IpAddr, after: After) -> BoxFuture<'static, Result<Arc<dyn Client>>>;

    /// Whether [`Client::repeat_call`] sends its request before the handshake is over (0-RTT).
    fn resumes(&self) -> bool {
        false
    }
}

/// What becomes of a connection after its call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum After {
    /// It stays open and idle.
    Keep,
    /// It is closed soon; what a later call needs is kept.
    Park,
}

/// A running server.
pub(crate) struct Service {
    /// How clients reach it.
    pub(crate) target: Target,
    /// Stops the server when dropped.
    pub(crate) keep: Box<dyn Any + Send>,
}

/// How a client reaches a server; travels between processes as JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Target {
    /// Where it listens.
    pub(crate) addr: SocketAddr,
    /// What proves its identity: a certificate, key or peer id in the contender's own text form.
    pub(crate) proof: String,
}

/// A client without connections of its own making so far.
pub(crate) trait Client: Send + Sync {
    /// Opens a session that later calls reuse.
    fn connect(&self, target: Target) -> BoxFuture<'_, Result<Arc<dyn Session>>>;

    /// Connects, calls once, stops the clock and closes.
    fn first_call(&self, target: Target) -> BoxFuture<'_, Result<Duration>> {
        Box::pin(async move {
            let start = Instant::now();
            let session = self.connect(target).await?;
            session.call(0).await?;
            let elapsed = start.elapsed();
            session.close().await;
            Ok(elapsed)
        })
    }

    /// Like [`Client::first_call`] to a server met before: the request leaves in the first flight. Fails when the
    /// server did not accept it there.
    fn repeat_call(&self, _target: Target) -> BoxFuture<'_, Result<Duration>> {
        Box::pin(async { bail!("this contender has no 0-RTT") })
    }

    /// Closes the client's sockets in good order.
    fn shut_down(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

/// An open session.
pub(crate) trait Session: Send + Sync {
    /// One call; checks that the answer belongs to `tag`.
    fn call(&self, tag: u64) -> BoxFuture<'_, Result<()>>;

    /// Says good-bye to the peer.
    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }

    /// At most `calls` calls, `in_flight` at a time, until `limit` has passed. Returns how many were answered.
    fn burst(
        self: Arc<Self>,
        in_flight: usize,
        calls: u64,
        limit: Duration,
    ) -> BoxFuture<'static, Result<u64>>;
}

/// The usual [`Session::burst`]: `in_flight` tasks that call one after the other.
pub(crate) fn burst_of_tasks<S: Session + 'static>(
    session: Arc<S>,
    in_flight: usize,
    calls: u64,
    limit: Duration,
) -> BoxFuture<'static, Result<u64>> {
    Box::pin(async move {
        let deadline = Instant::now() + limit;
        let next = Arc::new(AtomicU64::new(0));
        let tasks: Vec<_> = (0..in_flight)
            .map(|_| {
                let (session, next) = (session.clone(), next.clone());
                tokio::spawn(async move {
                    let mut done = 0u64;
                    loop {
                        let tag = next.fetch_add(1, Ordering::Relaxed);
                        if tag >= calls || Instant::now() >= deadline {
                            return anyhow::Ok(done);
                        }
                        session.call(tag).await?;
                        done += 1;
                    }
                })
            })
            .collect();
        let mut done = 0;
        for task in tasks {
            done += task.await.context("a calling task panicked")??;
        }
        Ok(done)
    })
}

/// The request for `tag`.
pub(crate) fn request(tag: u64) -> [u8; REQUEST_LEN] {
    let mut request = [0x5a; REQUEST_LEN];
    for (to, from) in request.iter_mut().zip(tag.to_be_bytes()) {
        *to = from;
    }
    request
}

/// The answer to `request`.
pub(crate) fn answer(request: &[u8]) -> Vec<u8> {
    request.repeat(ANSWER_LEN / REQUEST_LEN)
}

/// Fails unless `answer` is the whole answer to the request for `tag`.
pub(crate) fn check(tag: u64, answer: &[u8]) -> Result<()> {
    if answer.len() != ANSWER_LEN {
        bail!("answer of {} bytes instead of {ANSWER_LEN}", answer.len());
    }
    let request = request(tag);
    if answer.chunks(REQUEST_LEN).any(|part| part != request) {
        bail!("the answer to call {tag} belongs to another call");
    }
    Ok(())
}

/// Aborts its task when dropped.
pub(crate) struct Task(pub(crate) tokio::task::JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Name of the contender that ratios refer to: iroh used the best way.
pub(crate) const REFERENCE: &str = "iroh-pooled";

/// Everything that can be measured warm, comity first.
pub(crate) fn all() -> Vec<Arc<dyn Contender>> {
    vec![
        Arc::new(comity::Comity),
        Arc::new(iroh::Iroh { streams: iroh::Streams::Pooled, pacing: iroh::Pacing::Engine }),
        Arc::new(iroh::Iroh { streams: iroh::Streams::PerCall, pacing: iroh::Pacing::Engine }),
        Arc::new(iroh::Iroh { streams: iroh::Streams::Pooled, pacing: iroh::Pacing::FirstFlight }),
        Arc::new(http::Https { version: http::Version::Http1 }),
        Arc::new(http::Https { version: http::Version::Http2 }),
        Arc::new(grpc::Grpc),
        Arc::new(libp2p::Libp2p),
        Arc::new(udp::Udp),
    ]
}

/// The contenders named in `only` (all of `all` when empty), in table order.
pub(crate) fn select(
    all: Vec<Arc<dyn Contender>>,
    only: &[String],
) -> Result<Vec<Arc<dyn Contender>>> {
    let known: Vec<_> = all.iter().map(|c| c.name()).collect();
    if let Some(unknown) = only.iter().find(|name| !known.contains(&name.as_str())) {
        bail!("no contender {unknown:?} here; there are: {}", known.join(", "));
    }
    Ok(all
        .into_iter()
        .filter(|c| only.is_empty() || only.iter().any(|name| name == c.name()))
        .collect())
}

/// `only`, or when it is empty those of `default` that this build knows.
pub(crate) fn or_default(only: &[String], default: &[&str]) -> Vec<String> {
    if !only.is_empty() {
        return only.to_vec();
    }
    let known: Vec<_> = all().iter().map(|c| c.name()).collect();
    default.iter().filter(|name| known.contains(name)).map(|&name| name.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_belongs_to_its_request() {
        let good = answer(&request(7));
        assert!(check(7, &good).is_ok());
        assert!(check(8, &good).is_err());
        assert!(check(7, &good[1..]).is_err());
        assert!(check(7, &[]).is_err());
    }

    #[test]
    fn names_are_unique_and_unknown_ones_refused() {
        let names: std::collections::BTreeSet<_> = all().iter().map(|c| c.name()).collect();
        assert_eq!(names.len(), all().len());
        assert!(names.contains(REFERENCE));
        assert!(select(all(), &["nonesuch".to_owned()]).is_err());
        assert_eq!(select(all(), &["udp".to_owned()]).unwrap().len(), 1);
    }
}
