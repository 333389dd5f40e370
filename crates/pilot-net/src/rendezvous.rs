//! A rendezvous on sockets: the registry on TCP, with TLS where wanted, and the beacon on UDP.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use comity_pilot::registry::binary::{Frame, HELLO, frame_bytes};
use comity_pilot::registry::framed;
use comity_pilot::rendezvous::{Client, Rendezvous, StateError, Status};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{interval, timeout};
use tokio_rustls::TlsAcceptor;

use crate::agent::{AgentError, load_identity, make_private_dir, write_private};
use crate::clock::Clock;
use crate::tls::{Fingerprint, acceptor};

/// Connections at once.
pub const CONNECTIONS_MAX: usize = 4096;
/// Connections at once of one address.
pub const CONNECTIONS_PER_SOURCE_MAX: usize = 256;
/// Bytes of a request. Pilot's server takes a mebibyte; no request that is served comes near this.
pub const REQUEST_BYTES_MAX: usize = 64 << 10;
/// A connection that asks nothing for this long is closed.
const IDLE: Duration = Duration::from_secs(300);
/// After a connection could not be accepted, for want of file descriptors most likely.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);
/// How often what changed is written down.
const SAVE_EVERY: Duration = Duration::from_secs(5);
const STATE_FILE: &str = "rendezvous.json";

/// How to serve.
#[derive(Clone, Debug)]
pub struct ServeRendezvous {
    /// Directory of its state; made with mode 0700.
    pub home: PathBuf,
    /// Where the registry listens, TCP.
    pub registry: SocketAddr,
    /// Where the beacon listens, UDP.
    pub beacon: SocketAddr,
    /// What nodes that ask are told as the beacon's address; where it listens when absent.
    pub told_beacon: Option<String>,
    /// Whether the registry speaks TLS, with a certificate of its own making.
    pub tls: bool,
}

/// A running rendezvous. Dropping it ends it; [`RendezvousServer::close`] writes down what changed last.
#[derive(Debug)]
pub struct RendezvousServer {
    shared: Arc<Shared>,
    registry: SocketAddr,
    beacon: SocketAddr,
    fingerprint: Option<Fingerprint>,
    tasks: [JoinHandle<()>; 3],
}

#[derive(Debug)]
struct Shared {
    state: Mutex<Rendezvous>,
    connections: Mutex<BTreeMap<IpAddr, usize>>,
    clock: Clock,
    socket: UdpSocket,
    path: PathBuf,
}

impl Drop for RendezvousServer {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Rendezvous> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn save(&self) -> io::Result<()> {
        let text = {
            let mut state = self.lock();
            if !state.take_changed() {
                return Ok(());
            }
            state.to_file_text()
        };
        write_private(&self.path, &text)
    }

    /// Sends what a change of state left to be sent. A full socket buffer loses it, as any network may.
    fn flush(&self) {
        let mut state = self.lock();
        while let Some((to, bytes)) = state.poll_transmit() {
            let _lost = self.socket.try_send_to(&bytes, to);
        }
    }

    /// Counts a connection of an address; `None` when that has too many.
    fn enter(self: &Arc<Self>, source: IpAddr) -> Option<Seat> {
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        let count = connections.entry(source).or_default();
        if *count >= CONNECTIONS_PER_SOURCE_MAX {
            return None;
        }
        *count += 1;
        Some(Seat { shared: Arc::clone(self), source })
    }
}

struct Seat {
    shared: Arc<Shared>,
    source: IpAddr,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let connections = &self.shared.connections;
        let mut connections = connections.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = connections.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                connections.remove(&self.source);
            }
        }
    }
}

fn load(path: &Path, beacon: &str) -> Result<Rendezvous, AgentError> {
    let unusable = |error: StateError| {
        AgentError::Io(
            path.display().to_string(),
            io::Error::new(io::ErrorKind::InvalidData, error),
        )
    };
    match std::fs::read_to_string(path) {
        Ok(text) => Rendezvous::from_file_text(&text, beacon).map_err(unusable),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Rendezvous::new(beacon)),
        Err(error) => Err(AgentError::Io(path.display().to_string(), error)),
    }
}

impl RendezvousServer {
    /// Binds both sockets and serves.
    ///
    /// # Errors
    /// See [`AgentError`].
    pub async fn start(serve: ServeRendezvous) -> Result<Self, AgentError> {
        make_private_dir(&serve.home)?;
        let bind = |what: &str, at: SocketAddr| {
            let what = format!("{what} {at}");
            move |error| AgentError::Io(what, error)
        };
        let listener =
            TcpListener::bind(serve.registry).await.map_err(bind("TCP", serve.registry))?;
        let registry = listener.local_addr().map_err(bind("TCP", serve.registry))?;
        let socket = UdpSocket::bind(serve.beacon).await.map_err(bind("UDP", serve.beacon))?;
        let beacon = socket.local_addr().map_err(bind("UDP", serve.beacon))?;
        let tls = if serve.tls {
            let identity = load_identity(&serve.home.join("tls.json"))?;
            let made = acceptor(&identity);
            Some(made.map_err(|error| AgentError::Io("TLS".to_owned(), error))?)
        } else {
            None
        };
        let path = serve.home.join(STATE_FILE);
        let told = serve.told_beacon.unwrap_or_else(|| beacon.to_string());
        let state = load(&path, &told)?;
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            connections: Mutex::new(BTreeMap::new()),
            clock: Clock::start(),
            socket,
            path,
        });
        let (acceptor, fingerprint) = tls.unzip();
        let tasks = [
            tokio::spawn(accept(Arc::clone(&shared), listener, acceptor)),
            tokio::spawn(datagrams(Arc::clone(&shared))),
            tokio::spawn(save(Arc::clone(&shared))),
        ];
        Ok(Self { shared, registry, beacon, fingerprint, tasks })
    }

    /// Where the registry listens.
    #[must_use]
    pub const fn registry(&self) -> SocketAddr {
        self.registry
    }

    /// Where the beacon listens.
    #[must_use]
    pub const fn beacon(&self) -> SocketAddr {
        self.beacon
    }

    /// What nodes pin, when TLS is spoken.
    #[must_use]
    pub const fn fingerprint(&self) -> Option<Fingerprint> {
        self.fingerprint
    }

    /// Numbers.
    #[must_use]
    pub fn status(&self) -> Status {
        self.shared.lock().status(self.shared.clock.now())
    }

    /// Writes down what changed and ends.
    ///
    /// # Errors
    /// What the file system says.
    pub fn close(self) -> io::Result<()> {
        self.shared.save()
    }
}

async fn save(shared: Arc<Shared>) {
    let mut tick = interval(SAVE_EVERY);
    loop {
        tick.tick().await;
        let saving = Arc::clone(&shared);
        let saved = tokio::task::spawn_blocking(move || saving.save()).await;
        if let Ok(Err(error)) = saved {
            tracing::error!(path = %shared.path.display(), %error, "rendezvous not saved");
        }
    }
}

async fn datagrams(shared: Arc<Shared>) {
    let mut buffer = vec![0; 65_536];
    loop {
        match shared.socket.recv_from(&mut buffer).await {
            Ok((count, from)) => {
                shared.lock().datagram(shared.clock.now(), from, &buffer[..count]);
                shared.flush();
            }
            // Answers of hosts that have no such port.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            Err(error) => tracing::warn!(%error, "beacon socket"),
        }
    }
}

async fn accept(shared: Arc<Shared>, listener: TcpListener, tls: Option<TlsAcceptor>) {
    let mut tasks = JoinSet::new();
    loop {
        let (stream, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, most likely: wait until a connection ends.
                tracing::warn!(%error, "registry connection not accepted");
                tokio::time::sleep(ACCEPT_AGAIN).await;
                tasks.join_next().await;
                continue;
            }
        };
        while tasks.try_join_next().is_some() {}
        let source = from.ip().to_canonical();
        if tasks.len() >= CONNECTIONS_MAX {
            continue;
        }
        let Some(seat) = shared.enter(source) else { continue };
        let (shared, tls) = (Arc::clone(&shared), tls.clone());
        tasks.spawn(async move {
            if let Err(error) = connection(&shared, stream, source, tls).await {
                tracing::debug!(%source, %error, "registry connection ended");
            }
            drop(seat);
        });
    }
}

async fn connection(
    shared: &Shared,
    stream: TcpStream,
    source: IpAddr,
    tls: Option<TlsAcceptor>,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    match tls {
        None => talk(shared, stream, source).await,
        Some(tls) => talk(shared, timeout(IDLE, tls.accept(stream)).await??, source).await,
    }
}

async fn talk(
    shared: &Shared,
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    source: IpAddr,
) -> io::Result<()> {
    let mut client = Client::new(shared.clock.now(), source);
    let mut binary = false;
    loop {
        let mut length = [0; 4];
        timeout(IDLE, stream.read_exact(&mut length)).await??;
        // Binary mode begins with five bytes, once.
        if !binary && length == HELLO[..4] {
            let version = timeout(IDLE, stream.read_u8()).await??;
            if version != HELLO[4] {
                return Err(io::Error::other("unknown version of the binary mode"));
            }
            binary = true;
            continue;
        }
        let bytes = frame_bytes(length).map_err(io::Error::other)?;
        if bytes > REQUEST_BYTES_MAX {
            return Err(io::Error::other("request too long"));
        }
        let mut message = vec![0; bytes];
        timeout(IDLE, stream.read_exact(&mut message)).await??;
        let now = shared.clock.now();
        let answer = if binary {
            let frame = Frame::decode(&message).map_err(io::Error::other)?;
            shared.lock().frame(now, &mut client, &frame).to_vec()
        } else {
            framed(&shared.lock().request(now, &mut client, &message))
        };
        shared.flush();
        timeout(IDLE, stream.write_all(&answer)).await??;
    }
}
