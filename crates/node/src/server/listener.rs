//! The socket: created private, its callers identified, its connections driven and bounded.

use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::DRAIN_TIMEOUT;

/// Connections open at a time; further ones wait in the kernel's queue.
pub(super) const MAX_CONNECTIONS: usize = 512;

/// Time a connection may take for the head of a request, and the longest it may idle between requests.
pub(super) const HEADER_TIMEOUT: Duration = Duration::from_secs(30);

/// Largest head of a request.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// Pause after a failed accept (out of file descriptors), so that a full table does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Whether the process at the other end of a connection may use the API.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caller {
    pub(crate) allowed: bool,
}

/// The bound socket of the API, mode 0600. Dropping it removes the file.
#[derive(Debug)]
pub struct ApiSocket {
    listener: UnixListener,
    path: PathBuf,
    own_uid: u32,
}

/// Why the socket could not be created.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ApiSocketError {
    /// Another node answers on it.
    #[error("another node is running in this home directory: it answers on {}; stop it with `comity down`", .0.display())]
    InUse(PathBuf),
    /// Something that is no socket has its name.
    #[error("{} is in the way: it is no socket; move it away", .0.display())]
    NotASocket(PathBuf),
    /// The path does not fit a socket address (about 107 bytes).
    #[error("the path {} is too long for a Unix socket; choose a shorter home directory", .0.display())]
    TooLong(PathBuf),
    /// The operating system refused.
    #[error("cannot create the API socket {}: {source}", path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Longest path of a Unix socket on every supported system (104 bytes on macOS, 108 on Linux, both with the final NUL).
const MAX_SOCKET_PATH: usize = 103;

impl ApiSocket {
    /// Creates the socket, taking over a file left behind by a node that died.
    ///
    /// The caller holds the home directory's lock, so that two nodes never do this at the same time.
    ///
    /// # Errors
    /// [`ApiSocketError`].
    pub fn bind(path: &Path) -> Result<Self, ApiSocketError> {
        if path.as_os_str().len() > MAX_SOCKET_PATH {
            return Err(ApiSocketError::TooLong(path.to_owned()));
        }
        let failed = |source| ApiSocketError::Io { path: path.to_owned(), source };
        remove_stale(path)?;
        let listener = std::os::unix::net::UnixListener::bind(path).map_err(failed)?;
        // Between bind and chmod the directory's own mode (0700) and the credential check guard the socket.
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let listener = UnixListener::from_std(listener).map_err(failed)?;
        Ok(Self { listener, path: path.to_owned(), own_uid: rustix::process::geteuid().as_raw() })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn identify(&self, stream: &UnixStream) -> Caller {
        let allowed = match stream.peer_cred() {
            Ok(credentials) => credentials.uid() == self.own_uid,
            Err(error) => {
                warn!(%error, "cannot tell who connected to the API socket");
                false
            }
        };
        Caller { allowed }
    }
}

impl Drop for ApiSocket {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            debug!(%error, path = %self.path.display(), "the API socket was already gone");
        }
    }
}

fn remove_stale(path: &Path) -> Result<(), ApiSocketError> {
    let failed = |source| ApiSocketError::Io { path: path.to_owned(), source };
    let metadata = match std::fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    if !metadata.file_type().is_socket() {
        return Err(ApiSocketError::NotASocket(path.to_owned()));
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => Err(ApiSocketError::InUse(path.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(failed)
        }
        Err(error) => Err(failed(error)),
    }
}

/// Accepts and drives connections until `stop`.
pub(crate) async fn run(socket: ApiSocket, router: Router, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(_) = connections.join_next() => continue,
            accepted = accept(&socket, &places) => accepted,
        };
        let Some((stream, place)) = accepted else { continue };
        let caller = socket.identify(&stream);
        let router = router.clone();
        let stop = stop.clone();
        connections.spawn(async move {
            drive(stream, caller, router, stop).await;
            drop(place);
        });
    }
    let drained = tokio::time::timeout(DRAIN_TIMEOUT, async {
        while connections.join_next().await.is_some() {}
    })
    .await;
    if drained.is_err() {
        debug!(open = connections.len(), "closing API connections that did not end in time");
    }
    // The rest of the set is aborted on drop.
}

async fn accept(
    socket: &ApiSocket,
    places: &Arc<Semaphore>,
) -> Option<(UnixStream, tokio::sync::OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    match socket.listener.accept().await {
        Ok((stream, _)) => Some((stream, place)),
        Err(error) => {
            warn!(%error, "cannot accept a connection on the API socket");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

async fn drive(stream: UnixStream, caller: Caller, router: Router, stop: CancellationToken) {
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(caller));
        router.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        debug!(%error, "an API connection ended early");
    }
}
