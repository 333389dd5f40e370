//! The running engine: one task that moves datagrams and time, and handles that read and write streams.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use comity_core::Time;
use comity_pilot::address::{NodeId, SocketAddress};
use comity_pilot::engine::{
    Access, Action, Config, ConnectionId, Dropped, Engine, PeerStatus, Transmit,
};
use comity_pilot::identity::Identity;
use comity_pilot::stream::{Failure, Read, Statistics};
use ed25519_dalek::VerifyingKey;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UdpSocket;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::clock::Clock;
use crate::udp::{Buffers, Udp};

/// Datagram batches taken before anything is sent.
const RECEIVE_ROUNDS_MAX: usize = 4;
/// Things found by the engine that wait for the agent.
const NOTICES_MAX: usize = 1024;

/// What the engine asks of, or tells, the agent around it.
#[derive(Debug)]
pub enum Notice {
    /// Find a node's key and endpoints, then call [`Node::found`] or [`Node::missing`].
    Find(NodeId),
    /// A datagram.
    Datagram {
        /// Who sent it.
        from: SocketAddress,
        /// The port here.
        port: u16,
        /// What.
        data: Vec<u8>,
    },
    /// This node's address from outside.
    Endpoint(SocketAddr),
    /// Something waits at the registry.
    Poll,
}

#[derive(Default)]
struct Waiting {
    open: Option<oneshot::Sender<()>>,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

struct State {
    engine: Engine,
    waiting: BTreeMap<ConnectionId, Waiting>,
    accepts: BTreeMap<u16, mpsc::Sender<Connection>>,
    pings: BTreeMap<NodeId, Vec<oneshot::Sender<Duration>>>,
    buffer: Vec<u8>,
    pending: Option<Transmit>,
    sleeping_until: Option<Time>,
    /// The driver is at work: it will look at timers and the socket itself.
    driving: bool,
}

struct Shared {
    state: Mutex<State>,
    kick: Notify,
    udp: Udp,
    clock: Clock,
    notices: mpsc::Sender<Notice>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends what is to be sent and wakes who waits. Called with every change, by whoever made it.
    fn pump(self: &Arc<Self>, state: &mut State, now: Time) {
        loop {
            if let Some(transmit) = state.pending.take() {
                match self.udp.send(&transmit, &state.buffer) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        state.pending = Some(transmit);
                        if !state.driving {
                            self.kick.notify_one();
                        }
                        break;
                    }
                    Err(error) => tracing::debug!(to = %transmit.to, %error, "datagram not sent"),
                    Ok(()) => {}
                }
            }
            match state.engine.poll_transmit(now, &mut state.buffer) {
                Some(transmit) => state.pending = Some(transmit),
                None => break,
            }
        }
        while let Some(action) = state.engine.poll_action() {
            self.act(state, action);
        }
        if let Some(due) = state.engine.poll_timeout()
            && !state.driving
            && state.sleeping_until.is_none_or(|until| due < until)
        {
            self.kick.notify_one();
        }
    }

    fn act(self: &Arc<Self>, state: &mut State, action: Action) {
        match action {
            Action::Connected(id) => {
                if let Some(open) = state.waiting.get_mut(&id).and_then(|w| w.open.take()) {
                    let _gone = open.send(());
                }
            }
            Action::Readable(id) => {
                if let Some(waiting) = state.waiting.get_mut(&id) {
                    if state.engine.stream(id).is_some_and(|stream| stream.failure().is_some())
                        && let Some(open) = waiting.open.take()
                    {
                        let _gone = open.send(());
                    }
                    if let Some(waker) = waiting.reader.take() {
                        waker.wake();
                    }
                }
            }
            Action::Writable(id) => {
                if let Some(waker) = state.waiting.get_mut(&id).and_then(|w| w.writer.take()) {
                    waker.wake();
                }
            }
            Action::Accepted { connection, port, from } => {
                let Some(sender) = state.accepts.get(&port) else {
                    return state.engine.abort(connection);
                };
                match sender.try_reserve() {
                    Ok(permit) => {
                        state.engine.accept(connection);
                        state.waiting.insert(connection, Waiting::default());
                        permit.send(Connection {
                            shared: Arc::clone(self),
                            id: connection,
                            remote: from,
                        });
                    }
                    Err(_full) => state.engine.abort(connection),
                }
            }
            Action::Pong { node, after } => {
                for waiting in state.pings.remove(&node).unwrap_or_default() {
                    let _gone = waiting.send(after);
                }
            }
            Action::Up { node, dialect, path } => {
                tracing::debug!(node, dialect = dialect.name(), ?path, "pilot tunnel up");
            }
            Action::Down(node) => tracing::debug!(node, "pilot tunnel forgotten"),
            Action::Find(node) => self.notice(Notice::Find(node)),
            Action::Endpoint(at) => self.notice(Notice::Endpoint(at)),
            Action::Poll => self.notice(Notice::Poll),
            Action::Datagram { from, port, data } => {
                self.notice(Notice::Datagram { from, port, data });
            }
        }
    }

    fn notice(&self, notice: Notice) {
        if self.notices.try_send(notice).is_err() {
            tracing::warn!("pilot: the agent is too busy, a notice is dropped");
        }
    }

    fn with<R>(self: &Arc<Self>, change: impl FnOnce(&mut Engine, Time) -> R) -> R {
        let mut state = self.lock();
        let now = self.clock.now();
        let result = change(&mut state.engine, now);
        self.pump(&mut state, now);
        result
    }
}

/// A Pilot node on a UDP socket. Dropping it ends every connection without a word.
pub struct Node {
    shared: Arc<Shared>,
    driver: JoinHandle<()>,
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node").finish_non_exhaustive()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Node {
    /// Starts a node on a bound socket. What it needs to know comes through the receiver.
    ///
    /// # Errors
    /// What the socket refuses.
    pub fn start(
        socket: UdpSocket,
        config: Config,
        identity: Identity,
    ) -> io::Result<(Self, mpsc::Receiver<Notice>)> {
        let clock = Clock::start();
        let (notices, receiver) = mpsc::channel(NOTICES_MAX);
        let engine = Engine::new(config, identity, rand::random(), clock.now());
        let state = State {
            engine,
            waiting: BTreeMap::new(),
            accepts: BTreeMap::new(),
            pings: BTreeMap::new(),
            buffer: Vec::new(),
            pending: None,
            sleeping_until: None,
            driving: false,
        };
        let udp = Udp::new(socket)?;
        let shared =
            Arc::new(Shared { state: Mutex::new(state), kick: Notify::new(), udp, clock, notices });
        let driver = tokio::spawn(drive(Arc::clone(&shared)));
        Ok((Self { shared, driver }, receiver))
    }

    /// The node's number.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.shared.lock().engine.node()
    }

    /// Where the socket is bound.
    ///
    /// # Errors
    /// What the socket says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.shared.udp.local_addr()
    }

    /// Sends a datagram that is no frame: to the beacon.
    pub fn send_raw(&self, to: SocketAddr, datagram: &[u8]) {
        let transmit = Transmit { to, segment: datagram.len(), size: datagram.len() };
        let _lost = self.shared.udp.send(&transmit, datagram);
    }

    /// The answer to [`Notice::Find`].
    pub fn found(&self, node: NodeId, key: VerifyingKey, endpoints: Vec<SocketAddr>) {
        self.shared.with(|engine, now| engine.found(now, node, key, endpoints));
    }

    /// The answer to [`Notice::Find`] when there is none.
    pub fn missing(&self, node: NodeId) {
        self.shared.with(|engine, now| engine.missing(now, node));
    }

    /// Who may open connections to trusted listeners.
    pub fn set_trusted(&self, trusted: BTreeSet<NodeId>) {
        self.shared.lock().engine.set_trusted(trusted);
    }

    /// Tunnels.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerStatus> {
        self.shared.lock().engine.peers()
    }

    /// What was dropped.
    #[must_use]
    pub fn dropped(&self) -> Dropped {
        self.shared.lock().engine.dropped()
    }

    /// The key a peer's tunnel proved.
    #[must_use]
    pub fn peer_key(&self, node: NodeId) -> Option<VerifyingKey> {
        self.shared.lock().engine.peer_key(node)
    }

    /// Takes connections to a port, `None` when the port is taken.
    #[must_use]
    pub fn listen(&self, port: u16, access: Access) -> Option<mpsc::Receiver<Connection>> {
        let (sender, receiver) = mpsc::channel(comity_pilot::engine::BACKLOG_MAX);
        let mut state = self.shared.lock();
        state.engine.listen(port, access).ok()?;
        state.accepts.insert(port, sender);
        Some(receiver)
    }

    /// Opens a connection.
    ///
    /// # Errors
    /// [`Failure`] of the attempt; [`Failure::Aborted`] when too many connections are open.
    pub async fn connect(&self, to: SocketAddress) -> Result<Connection, Failure> {
        let (open, opened) = oneshot::channel();
        let id = {
            let mut state = self.shared.lock();
            let now = self.shared.clock.now();
            let id = state.engine.connect(now, to).ok_or(Failure::Aborted)?;
            state.waiting.insert(id, Waiting { open: Some(open), ..Waiting::default() });
            self.shared.pump(&mut state, now);
            id
        };
        let connection = Connection { shared: Arc::clone(&self.shared), id, remote: to };
        let _ended = opened.await;
        match self.shared.lock().engine.stream(id).and_then(|stream| stream.failure()) {
            Some(failure) => Err(failure),
            None => Ok(connection),
        }
    }

    /// Asks a peer for a sign of life; how long it took.
    pub async fn ping(&self, node: NodeId) -> Option<Duration> {
        let (sender, receiver) = oneshot::channel();
        {
            let mut state = self.shared.lock();
            state.pings.entry(node).or_default().push(sender);
            let now = self.shared.clock.now();
            state.engine.ping(now, node);
            self.shared.pump(&mut state, now);
        }
        tokio::time::timeout(Duration::from_secs(10), receiver).await.ok()?.ok()
    }

    /// Sends a datagram to a port of a peer.
    pub fn send_datagram(&self, from_port: u16, to: SocketAddress, data: &[u8]) {
        self.shared.with(|engine, now| engine.send_datagram(now, from_port, to, data));
    }
}

async fn drive(shared: Arc<Shared>) {
    let mut buffers = Buffers::default();
    loop {
        let due = {
            let mut state = shared.lock();
            let now = shared.clock.now();
            state.driving = true;
            for _round in 0..RECEIVE_ROUNDS_MAX {
                let engine = &mut state.engine;
                match shared
                    .udp
                    .receive(&mut buffers, |from, bytes| engine.receive(now, from, bytes))
                {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(error) => {
                        tracing::warn!(%error, "pilot socket");
                        break;
                    }
                }
            }
            state.engine.timeout(now);
            shared.pump(&mut state, now);
            state.driving = false;
            state.sleeping_until = state.engine.poll_timeout();
            (state.sleeping_until, state.pending.is_some())
        };
        let (due, blocked) = due;
        let sleep = async {
            match due {
                Some(due) => tokio::time::sleep_until(shared.clock.instant(due).into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ready = shared.udp.readable() => {}
            _ready = shared.udp.writable(), if blocked => {}
            () = shared.kick.notified() => {}
            () = sleep => {}
        }
    }
}

/// A stream to a peer's port.
pub struct Connection {
    shared: Arc<Shared>,
    id: ConnectionId,
    remote: SocketAddress,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Connection({} to {})", self.id.0, self.remote)
    }
}

impl Connection {
    /// The other end.
    #[must_use]
    pub const fn remote(&self) -> SocketAddress {
        self.remote
    }

    /// Counters.
    #[must_use]
    pub fn statistics(&self) -> Option<Statistics> {
        self.shared.lock().engine.statistics(self.id)
    }

    /// Gives the connection up and tells the peer.
    pub fn abort(self) {
        let id = self.id;
        self.shared.with(|engine, _now| engine.abort(id));
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.waiting.remove(&self.id);
        let now = self.shared.clock.now();
        state.engine.release(now, self.id);
        self.shared.pump(&mut state, now);
    }
}

fn broken(failure: Failure) -> io::Error {
    let kind = match failure {
        Failure::Unreachable => io::ErrorKind::HostUnreachable,
        Failure::Reset => io::ErrorKind::ConnectionReset,
        Failure::TimedOut => io::ErrorKind::TimedOut,
        Failure::Truncated => io::ErrorKind::UnexpectedEof,
        Failure::PeerClosed(_) => io::ErrorKind::BrokenPipe,
        Failure::Aborted => io::ErrorKind::ConnectionAborted,
    };
    io::Error::new(kind, failure)
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut state = self.shared.lock();
        let now = self.shared.clock.now();
        let read = state.engine.read(now, self.id, out.initialize_unfilled());
        match read {
            Ok(Read::Data(count)) => {
                out.advance(count);
                self.shared.pump(&mut state, now);
                Poll::Ready(Ok(()))
            }
            Ok(Read::End) => Poll::Ready(Ok(())),
            Ok(Read::Blocked) => {
                let waker = context.waker().clone();
                state.waiting.entry(self.id).or_default().reader = Some(waker);
                Poll::Pending
            }
            Err(failure) => Poll::Ready(Err(broken(failure))),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut state = self.shared.lock();
        let now = self.shared.clock.now();
        match state.engine.write(self.id, data) {
            Ok(0) if !data.is_empty() => {
                let waker = context.waker().clone();
                state.waiting.entry(self.id).or_default().writer = Some(waker);
                Poll::Pending
            }
            Ok(count) => {
                self.shared.pump(&mut state, now);
                Poll::Ready(Ok(count))
            }
            Err(failure) => Poll::Ready(Err(broken(failure))),
        }
    }

    /// Waits until the peer has everything: whoever flushes wants to know.
    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.shared.lock();
        let Some(stream) = state.engine.stream(self.id) else {
            return Poll::Ready(Err(broken(Failure::Aborted)));
        };
        if let Some(failure) = stream.failure() {
            return Poll::Ready(Err(broken(failure)));
        }
        if stream.is_flushed() {
            return Poll::Ready(Ok(()));
        }
        let waker = context.waker().clone();
        state.waiting.entry(self.id).or_default().writer = Some(waker);
        Poll::Pending
    }

    fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let id = self.id;
        self.shared.with(|engine, now| engine.close(now, id));
        Poll::Ready(Ok(()))
    }
}
