//! One live connection to one peer, and the pool of its streams.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use comity_core::{AgentId, Hash};
use iroh::endpoint::{Connection, ConnectionError, RecvStream, SendStream, VarInt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{CloseCode, Protocol, StreamCode, locked};
use crate::rpc::Greeting;

/// Label of the TLS exporter (RFC 8446, section 7.5) that names a session; its context is empty.
const SESSION_LABEL: &[u8] = b"EXPORTER-comity/1";

/// A connection that proved its peer's key.
#[derive(Debug)]
pub(crate) struct Link {
    // Constant.
    pub(crate) peer: AgentId,
    pub(crate) protocol: Protocol,
    pub(crate) conn: Connection,
    /// Where the peer was seen when the link was made, if directly.
    pub(crate) remote: Option<SocketAddr>,
    /// The session id, the same at both ends and of no other connection: 32 bytes of the TLS exporter.
    pub(crate) session: Hash,
    pub(crate) initiator: AgentId,
    /// What its ends told each other of themselves.
    pub(crate) greeting: Greeting,
    pub(super) established: Instant,
    // Whoever uses the link.
    active: AtomicUsize,
    used_ms: AtomicU64,
    pub(super) retired: AtomicBool,
    // Our own calls.
    calls: AtomicU64,
    idle: Mutex<Vec<BiStream>>,
    slots: Arc<Semaphore>,
}

/// A bidirectional stream and the bytes of it that were received but not consumed.
#[derive(Debug)]
pub(crate) struct BiStream {
    pub(crate) send: SendStream,
    pub(crate) recv: RecvStream,
    pub(crate) held: Bytes,
}

impl BiStream {
    pub(crate) fn new((send, recv): (SendStream, RecvStream)) -> Self {
        Self { send, recv, held: Bytes::new() }
    }

    /// Gives up both directions, telling the peer why.
    pub(crate) fn abandon(&mut self, code: StreamCode) {
        // An error means the direction is closed already, which is what is wanted.
        let _ = self.send.reset(code.varint());
        let _ = self.recv.stop(code.varint());
    }
}

/// Keeps a link from being parked or evicted while it lives.
#[derive(Debug)]
pub(crate) struct InUse(Arc<Link>);

impl Drop for InUse {
    fn drop(&mut self) {
        self.0.touch();
        self.0.active.fetch_sub(1, Ordering::AcqRel);
    }
}

impl std::ops::Deref for InUse {
    type Target = Arc<Link>;

    fn deref(&self) -> &Arc<Link> {
        &self.0
    }
}

/// A pooled stream on loan: returned with [`Loan::give_back`], or else abandoned when dropped.
#[derive(Debug)]
pub(crate) struct Loan {
    stream: Option<BiStream>,
    _slot: OwnedSemaphorePermit,
    pub(crate) link: InUse,
}

impl Loan {
    pub(crate) fn stream(&mut self) -> &mut BiStream {
        self.stream.as_mut().expect("a loan holds its stream until it is consumed")
    }

    /// Returns a stream on which nothing is under way to the pool.
    pub(crate) fn give_back(mut self) {
        if let Some(stream) = self.stream.take() {
            locked(&self.link.idle).push(stream);
        }
    }

    /// Ends a stream that served once, orderly.
    pub(crate) fn retire(mut self) {
        if let Some(mut stream) = self.stream.take() {
            let _ = stream.send.finish();
        }
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        if let Some(stream) = &mut self.stream {
            stream.abandon(StreamCode::Cancelled);
        }
    }
}

impl Link {
    /// Takes a connection whose handshake is complete. None when the peer's key fails the intake (the connection is then closed) or
    /// the connection is already gone.
    pub(super) fn new(
        conn: Connection,
        protocol: Protocol,
        initiator: Initiator,
        remote: Option<SocketAddr>,
        streams_max: u32,
    ) -> Option<Self> {
        let Ok(peer) = AgentId::from_bytes(conn.remote_id().as_bytes()) else {
            close(&conn, CloseCode::BadKey);
            return None;
        };
        let mut session = [0; 32];
        conn.export_keying_material(&mut session, SESSION_LABEL, b"").ok()?;
        let initiator = match initiator {
            Initiator::Me(me) => me,
            Initiator::Peer => peer,
        };
        Some(Self {
            peer,
            protocol,
            conn,
            remote,
            session: Hash(session),
            initiator,
            greeting: Greeting::default(),
            established: Instant::now(),
            active: AtomicUsize::new(0),
            used_ms: AtomicU64::new(0),
            retired: AtomicBool::new(false),
            calls: AtomicU64::new(0),
            idle: Mutex::default(),
            slots: Arc::new(Semaphore::new(streams_max as usize)),
        })
    }

    /// The number of our next call on this link.
    pub(crate) fn next_number(&self) -> u64 {
        self.calls.fetch_add(1, Ordering::Relaxed)
    }

    /// Marks the link as used until the answer is dropped.
    pub(crate) fn begin(self: &Arc<Self>) -> InUse {
        self.active.fetch_add(1, Ordering::AcqRel);
        self.touch();
        InUse(Arc::clone(self))
    }

    /// A stream with nothing under way on it, opened if none is idle; waits while all slots are taken.
    pub(crate) async fn borrow(self: &Arc<Self>) -> Result<Loan, ConnectionError> {
        let link = self.begin();
        let slot = match Arc::clone(&self.slots).try_acquire_owned() {
            Ok(slot) => slot,
            Err(_) => Arc::clone(&self.slots)
                .acquire_owned()
                .await
                .map_err(|_| ConnectionError::LocallyClosed)?,
        };
        let idle = locked(&self.idle).pop();
        let stream = match idle {
            Some(stream) => stream,
            None => BiStream::new(self.conn.open_bi().await?),
        };
        Ok(Loan { stream: Some(stream), _slot: slot, link })
    }

    pub(crate) fn close(&self, code: CloseCode) {
        close(&self.conn, code);
    }

    /// UDP datagrams received on it so far. When something was sent and the number stays, the peer is not there.
    pub(crate) fn received(&self) -> u64 {
        self.conn.stats().udp_rx.datagrams
    }

    pub(crate) fn is_open(&self) -> bool {
        self.conn.close_reason().is_none()
    }

    pub(super) fn is_busy(&self) -> bool {
        self.active.load(Ordering::Acquire) > 0
    }

    pub(super) fn idle_for(&self) -> Duration {
        let used = Duration::from_millis(self.used_ms.load(Ordering::Relaxed));
        self.established.elapsed().saturating_sub(used)
    }

    fn touch(&self) {
        let used = u64::try_from(self.established.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.used_ms.store(used, Ordering::Relaxed);
    }
}

/// Which end dialled.
#[derive(Clone, Copy, Debug)]
pub(super) enum Initiator {
    Me(AgentId),
    Peer,
}

pub(super) fn close(conn: &Connection, code: CloseCode) {
    conn.close(code.varint(), b"");
}

/// The code with which the peer closed the connection, when it did.
pub(crate) fn peer_code(error: &ConnectionError) -> Option<CloseCode> {
    match error {
        ConnectionError::ApplicationClosed(close) => {
            Some(CloseCode::from_number(VarInt::into_inner(close.error_code)))
        }
        ConnectionError::VersionMismatch
        | ConnectionError::TransportError(_)
        | ConnectionError::ConnectionClosed(_)
        | ConnectionError::Reset
        | ConnectionError::TimedOut
        | ConnectionError::LocallyClosed
        | ConnectionError::CidsExhausted => None,
    }
}
