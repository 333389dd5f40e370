//! Reaching a peer: reuse, join a dial under way, or dial.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use comity_core::AgentId;
use iroh::endpoint::{
    ConnectOptions, ConnectWithOptsError, ConnectingError, Connection, ConnectionError,
    OutgoingZeroRttConnection, TransportErrorCode, ZeroRttStatus,
};
use iroh::{EndpointAddr, EndpointId, TransportAddr};
use tokio::sync::{oneshot, watch};

use super::link::{self, Initiator};
use super::{BiStream, CloseCode, ConnectError, Link, Protocol, Shared, accept};

/// Addresses tried for one peer at once.
const DIAL_ADDRS_MAX: usize = 8;
/// A dial that is not through by then may be on a dead path. Below the first repetition of a handshake's packets (RFC 9002,
/// section 6.2: 1 s, then twice that each time).
const STUCK_AFTER: Duration = Duration::from_millis(700);
/// From then until links with calls under way are given up if nothing arrives on them: below the second repetition.
const STUCK_AGAIN_AFTER: Duration = Duration::from_millis(2000);
/// TLS alert `unknown_ca`: the certificate is not of the key that was dialled.
const ALERT_UNKNOWN_CA: u8 = 48;
/// TLS alert `no_application_protocol`.
const ALERT_NO_APPLICATION_PROTOCOL: u8 = 120;

/// How far a dial is.
#[derive(Clone, Debug)]
pub(super) enum DialState {
    /// The handshake is under way.
    Pending,
    /// The same, but early data can be sent.
    Early(OutgoingZeroRttConnection),
    /// It is over.
    Done(Result<Arc<Link>, ConnectError>),
}

/// What can carry a request to a peer now.
#[derive(Debug)]
pub(crate) enum Reach {
    /// A link.
    Link(Arc<Link>),
    /// A handshake under way that takes early data.
    Early(EarlyLink),
}

/// A request on its way as early data, while the handshake goes on.
#[derive(Debug)]
pub(crate) struct EarlyLink {
    /// The stream with the request written and its direction ended; none if the connection died or the peer has no stream to spare.
    pub(crate) stream: Option<BiStream>,
    dial: watch::Receiver<DialState>,
    /// Without a handle the connection would be closed.
    _conn: OutgoingZeroRttConnection,
}

impl EarlyLink {
    /// The link, when the handshake is complete.
    pub(crate) async fn settled(mut self) -> Result<Arc<Link>, ConnectError> {
        outcome(&mut self.dial).await
    }

    /// Why the handshake failed, when it does; never returns if it succeeds.
    pub(crate) async fn failed(&mut self) -> ConnectError {
        match outcome(&mut self.dial).await {
            Ok(_) => std::future::pending().await,
            Err(error) => error,
        }
    }
}

impl Shared {
    /// A link to `peer`; or, if there is none and `early` gives a request that may be repeated and the peer takes early data, that request
    /// on its way.
    pub(crate) async fn reach(
        self: &Arc<Self>,
        peer: AgentId,
        addrs: &[SocketAddr],
        protocol: Protocol,
        early: impl FnOnce() -> Option<Bytes>,
    ) -> Result<Reach, ConnectError> {
        let linked = self.table().preferred(peer, protocol);
        if let Some(link) = linked {
            return Ok(Reach::Link(link));
        }
        let request = early();
        let mut found = match self.link_or_dial(peer, addrs, protocol, request.clone())? {
            Ok(link) => return Ok(Reach::Link(link)),
            Err(found) => found,
        };
        if let Some(request) = request {
            let state = found
                .dial
                .wait_for(|state| !matches!(state, DialState::Pending))
                .await
                .map_err(|_| ConnectError::Closed)?
                .clone();
            if let DialState::Early(conn) = state {
                let stream = match found.written {
                    Some(written) => written.await.ok(),
                    None => send_early(&conn, request).await,
                };
                return Ok(Reach::Early(EarlyLink { stream, dial: found.dial, _conn: conn }));
            }
        }
        match outcome(&mut found.dial).await {
            Ok(link) => Ok(Reach::Link(link)),
            // The peer may have dialled us meanwhile.
            Err(error) => self.table().preferred(peer, protocol).map(Reach::Link).ok_or(error),
        }
    }

    /// Finds a live link, or the dial to wait for, starting it if there is none.
    fn link_or_dial(
        self: &Arc<Self>,
        peer: AgentId,
        addrs: &[SocketAddr],
        protocol: Protocol,
        request: Option<Bytes>,
    ) -> Result<Result<Arc<Link>, Found>, ConnectError> {
        if self.closing.is_cancelled() {
            return Err(ConnectError::Closed);
        }
        if peer == self.me {
            return Err(ConnectError::Myself);
        }
        let mut table = self.table();
        if let Some(link) = table.preferred(peer, protocol) {
            return Ok(Ok(link));
        }
        if let Some(dial) = table.dials.get(&(peer, protocol)) {
            return Ok(Err(Found { dial: dial.clone(), written: None }));
        }
        let addrs = table.addrs_of(peer, addrs, DIAL_ADDRS_MAX);
        if addrs.is_empty() {
            return Err(ConnectError::NoAddress { peer });
        }
        if let Some(error) = table.cooling(peer, protocol, &addrs) {
            return Err(error);
        }
        if table.dials.len()
            >= self.limits.concurrent_dials_max.saturating_add(self.limits.dials_waiting_max)
        {
            return Err(ConnectError::TooManyDials { limit: self.limits.dials_waiting_max });
        }
        let (progress, dial) = watch::channel(DialState::Pending);
        table.dials.insert((peer, protocol), dial.clone());
        drop(table);
        // On its own task: others may wait for it when this caller has gone.
        let (sent, written) = oneshot::channel();
        let early = request.map(|request| (request, sent));
        self.runtime.spawn(run(Arc::clone(self), Dial { peer, addrs, protocol }, early, progress));
        Ok(Err(Found { dial, written: Some(written) }))
    }
}

/// A dial to wait for.
struct Found {
    dial: watch::Receiver<DialState>,
    /// Where the stream comes with our early request, if we started the dial.
    written: Option<oneshot::Receiver<BiStream>>,
}

/// What a dial sends before its handshake, and where the stream goes.
type EarlyRequest = Option<(Bytes, oneshot::Sender<BiStream>)>;

/// Writes a whole request on a new stream. Neither step waits on a connection that has just begun.
async fn send_early(conn: &OutgoingZeroRttConnection, request: Bytes) -> Option<BiStream> {
    let mut stream = BiStream::new(conn.open_bi().await.ok()?);
    stream.send.write_chunk(request).await.ok()?;
    stream.send.finish().ok()?;
    Some(stream)
}

async fn outcome(dial: &mut watch::Receiver<DialState>) -> Result<Arc<Link>, ConnectError> {
    match dial.wait_for(|state| matches!(state, DialState::Done(_))).await.as_deref() {
        Ok(DialState::Done(result)) => result.clone(),
        Ok(DialState::Pending | DialState::Early(_)) | Err(_) => Err(ConnectError::Closed),
    }
}

struct Dial {
    peer: AgentId,
    addrs: Vec<SocketAddr>,
    protocol: Protocol,
}

async fn run(
    shared: Arc<Shared>,
    dial: Dial,
    early: EarlyRequest,
    progress: watch::Sender<DialState>,
) {
    let result = match shared.dial_slots.acquire().await {
        Ok(_slot) => {
            let work = tokio::time::timeout(
                shared.limits.dial_timeout,
                unstuck(&shared, dial.peer, connect(&shared, &dial, early, &progress)),
            );
            match shared.closing.run_until_cancelled(work).await {
                Some(Ok(result)) => result,
                Some(Err(_)) => Err(dial.unreachable(shared.limits.dial_timeout)),
                None => Err(ConnectError::Closed),
            }
        }
        Err(_) => Err(ConnectError::Closed),
    };
    let result = result.and_then(|conn| admit(&shared, &dial, conn));
    {
        let mut table = shared.table();
        table.dials.remove(&(dial.peer, dial.protocol));
        match &result {
            Ok(link) => table.remember(dial.peer, link.remote, &shared.limits),
            Err(error) => table.failed(
                dial.peer,
                dial.protocol,
                dial.addrs.clone(),
                error.clone(),
                &shared.limits,
            ),
        }
    }
    shared.publish_counts();
    // Nobody may be waiting any more; the link is in the table all the same.
    progress.send_replace(DialState::Done(result));
}

/// Carries out a dial; when it does not get through at once, makes way for it.
///
/// While any connection to a peer is open, iroh sends a new handshake along that connection's path alone, and if the peer is
/// not there any more, nowhere else. Once the last one is closed, what the handshake repeats goes to all addresses.
async fn unstuck<T>(shared: &Shared, peer: AgentId, dial: impl Future<Output = T>) -> T {
    let mut dial = std::pin::pin!(dial);
    if let Ok(done) = tokio::time::timeout(STUCK_AFTER, dial.as_mut()).await {
        return done;
    }
    // First what costs nothing: idle links, and directory messages, which are asked again elsewhere.
    let (cheap, dear): (Vec<_>, Vec<_>) = shared
        .table()
        .links_to(peer)
        .into_iter()
        .partition(|link| link.protocol == Protocol::Overlay || !link.is_busy());
    for link in cheap {
        if link.is_busy() {
            // Not a clean end: what the peer asked for on it may be under way.
            link.close(CloseCode::Silent);
        } else {
            shared.table().replace(&link);
        }
    }
    let heard: Vec<_> = dear.into_iter().map(|link| (link.received(), link)).collect();
    if let Ok(done) = tokio::time::timeout(STUCK_AGAIN_AFTER, dial.as_mut()).await {
        return done;
    }
    for (heard, link) in heard {
        if link.received() == heard {
            link.close(CloseCode::Silent);
        }
    }
    dial.await
}

/// From addresses to a connection that proved the key dialled.
async fn connect(
    shared: &Shared,
    dial: &Dial,
    early: EarlyRequest,
    progress: &watch::Sender<DialState>,
) -> Result<Connection, ConnectError> {
    let id =
        EndpointId::from_bytes(dial.peer.as_bytes()).map_err(|error| dial.handshake(&error))?;
    let addr = EndpointAddr::from_parts(id, dial.addrs.iter().copied().map(TransportAddr::Ip));
    let started = Instant::now();
    let connecting = shared
        .endpoint
        .connect_with_opts(addr, dial.protocol.alpn(), ConnectOptions::new())
        .await
        .map_err(|error| {
            let closed = matches!(error, ConnectWithOptsError::EndpointClosed { .. });
            if closed { ConnectError::Closed } else { dial.handshake(&error) }
        })?;
    let connected = match early {
        Some((request, sent)) => match connecting.into_0rtt() {
            Ok(conn) => {
                // At once, so that it leaves in the first packet, before the task that drives the connection runs.
                if let Some(stream) = send_early(&conn, request).await {
                    let _ = sent.send(stream);
                }
                progress.send_replace(DialState::Early(conn.clone()));
                conn.handshake_completed().await.map(|status| settled(shared, status))
            }
            Err(connecting) => connecting.await,
        },
        None => connecting.await,
    };
    connected.map_err(|error| dial.refused(&error, started))
}

fn settled(shared: &Shared, status: ZeroRttStatus) -> Connection {
    match status {
        ZeroRttStatus::Accepted(conn) => {
            shared.table().early_data_taken();
            conn
        }
        ZeroRttStatus::Rejected(conn) => conn,
    }
}

/// Makes the connection a link of the table and starts serving it.
fn admit(shared: &Arc<Shared>, dial: &Dial, conn: Connection) -> Result<Arc<Link>, ConnectError> {
    let remote = direct_path(&conn).or_else(|| dial.addrs.first().copied());
    let link = Link::new(
        conn,
        dial.protocol,
        Initiator::Me(shared.me),
        remote,
        shared.limits.streams_per_link_max,
    )
    .ok_or_else(|| dial.handshake(&"it ended as soon as it was complete"))?;
    let link = Arc::new(link);
    shared.table().adopt(Arc::clone(&link), &shared.limits)?;
    shared.runtime.spawn(accept::serve_link(Arc::clone(shared), Arc::clone(&link), Vec::new()));
    Ok(link)
}

fn direct_path(conn: &Connection) -> Option<SocketAddr> {
    let paths = conn.paths();
    let selected = paths.iter().find(|path| path.is_selected())?;
    if let TransportAddr::Ip(addr) = selected.remote_addr() { Some(*addr) } else { None }
}

impl Dial {
    fn unreachable(&self, waited: Duration) -> ConnectError {
        ConnectError::Unreachable { peer: self.peer, addrs: self.addrs.clone(), waited }
    }

    fn handshake(&self, reason: &dyn std::fmt::Display) -> ConnectError {
        ConnectError::Handshake { peer: self.peer, reason: reason.to_string() }
    }

    fn refused_by_peer(&self, reason: &dyn std::fmt::Display) -> ConnectError {
        ConnectError::RefusedByPeer { peer: self.peer, reason: reason.to_string() }
    }

    /// Names what ended a handshake.
    fn refused(&self, error: &ConnectingError, started: Instant) -> ConnectError {
        let ConnectingError::ConnectionError { source, .. } = error else {
            return self.handshake(error);
        };
        match source {
            ConnectionError::TransportError(inner)
                if inner.code == TransportErrorCode::crypto(ALERT_UNKNOWN_CA) =>
            {
                ConnectError::WrongKey { expected: self.peer, addrs: self.addrs.clone() }
            }
            ConnectionError::ConnectionClosed(close)
                if close.error_code == TransportErrorCode::CONNECTION_REFUSED =>
            {
                self.refused_by_peer(&"too many handshakes at once")
            }
            ConnectionError::ConnectionClosed(close)
                if close.error_code
                    == TransportErrorCode::crypto(ALERT_NO_APPLICATION_PROTOCOL) =>
            {
                self.refused_by_peer(&format_args!(
                    "it does not speak {}",
                    String::from_utf8_lossy(self.protocol.alpn())
                ))
            }
            ConnectionError::ApplicationClosed(_) => match link::peer_code(source) {
                Some(code) => self.refused_by_peer(&code),
                None => self.refused_by_peer(source),
            },
            ConnectionError::TimedOut => self.unreachable(started.elapsed()),
            ConnectionError::VersionMismatch
            | ConnectionError::TransportError(_)
            | ConnectionError::ConnectionClosed(_)
            | ConnectionError::Reset
            | ConnectionError::LocallyClosed
            | ConnectionError::CidsExhausted => self.handshake(source),
        }
    }
}
