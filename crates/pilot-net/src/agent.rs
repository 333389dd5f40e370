//! A node that has joined a Pilot network: registered, reachable, with trust that lasts and the built-in services.

mod bridge;
mod tasks;
mod transfer;
mod trusting;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use comity_pilot::address::{Address, NodeId, SocketAddress};
use comity_pilot::beacon::Beacon;
use comity_pilot::engine::Config;
use comity_pilot::identity::{Identity, IdentityError};
use comity_pilot::registry::{NodeInfo, Request};
use comity_pilot::stream::Failure;
use comity_pilot::trust::{Trust, TrustError};
use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::node::{Connection, Node};
use crate::registry::{Registry, RegistryError, local_ip};
use crate::services::{Events, Inbox};
use crate::tls::Fingerprint;

pub use bridge::Handler;
pub(crate) use bridge::{Answers, Offer};

/// Patience with the beacon's answer at the start.
const DISCOVER: Duration = Duration::from_secs(2);
/// How to join.
#[derive(Clone, Debug)]
pub struct Join {
    /// Directory of identity, trust and inbox; made with mode 0700.
    pub home: PathBuf,
    /// The registry, `HOST:PORT`.
    pub registry: String,
    /// What the registry's certificate must be, when it speaks TLS.
    pub pin: Option<Fingerprint>,
    /// The beacon, `HOST:PORT`.
    pub beacon: String,
    /// Where to bind UDP.
    pub listen: SocketAddr,
    /// A name to be found by.
    pub hostname: Option<String>,
    /// Whether anybody may learn this node's endpoint. Who may connect does not depend on it.
    pub public: bool,
}

/// Why a node did not join, or a command failed.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// A file or socket.
    #[error("{0}: {1}")]
    Io(String, io::Error),
    /// The identity file.
    #[error("{0}: {1}")]
    Identity(String, IdentityError),
    /// The registry.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// Trust.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// A connection.
    #[error("{0}: {1}")]
    Stream(SocketAddress, Failure),
    /// A stream that broke, or an answer that made no sense.
    #[error("{0}: {1}")]
    Broken(SocketAddress, io::Error),
    /// No such host.
    #[error("{0} names no host; write HOST:PORT")]
    Host(String),
    /// No answer.
    #[error("node {0} does not answer")]
    Silent(NodeId),
    /// The node's own number.
    #[error("node {0} is this node; name another")]
    Own(NodeId),
    /// A file that the peer cannot take.
    #[error(
        "{file} has {bytes} bytes; {to} takes files in one piece only, of at most {max} bytes with this name: split it"
    )]
    Large {
        /// It.
        file: String,
        /// Its size.
        bytes: u64,
        /// Whom it was for.
        to: SocketAddress,
        /// What the peer takes.
        max: u64,
    },
    /// What the peer said to a message.
    #[error("{0} did not keep it: {1}")]
    Refused(SocketAddress, String),
    /// No answer to a request.
    #[error("{0} did not answer within {1:?}")]
    Unanswered(SocketAddress, Duration),
    /// A port that is served already.
    #[error("port {0} is in use; offer the capability on another")]
    Port(u16),
}

/// A joined node.
#[derive(Debug)]
pub struct Agent {
    node: Node,
    registry: Registry,
    identity: Identity,
    trust: Mutex<Trust>,
    trust_changed: watch::Sender<u64>,
    home: PathBuf,
    beacon: SocketAddr,
    endpoint: Mutex<SocketAddr>,
    hostname: Option<String>,
    public: bool,
    events: Arc<Events>,
    inbox: Arc<Inbox>,
    /// The registry is comity's: it takes signatures over values, and its beacon says when something waits.
    bound: bool,
    /// The endpoint that the registry has.
    registered: Mutex<SocketAddr>,
    answers: Answers,
    offers: Mutex<BTreeMap<u16, Offer>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn at<'a>(path: &'a Path) -> impl FnOnce(io::Error) -> AgentError + 'a {
    move |error| AgentError::Io(path.display().to_string(), error)
}

/// Writes a file that only its owner can read, whole or not at all.
pub(crate) fn write_private(path: &Path, text: &str) -> io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let part = path.with_added_extension("part");
    let _left_over = std::fs::remove_file(&part);
    let mut file =
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&part, path)
}

pub(crate) fn load_identity(path: &Path) -> Result<Identity, AgentError> {
    use std::os::unix::fs::PermissionsExt as _;
    match std::fs::read_to_string(path) {
        Ok(text) => {
            let mode = std::fs::metadata(path).map_err(at(path))?.permissions().mode();
            if mode & 0o077 != 0 {
                let why = io::Error::other("others can read it; run chmod 600 on it");
                return Err(at(path)(why));
            }
            Identity::from_file_text(&text)
                .map_err(|error| AgentError::Identity(path.display().to_string(), error))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let identity = Identity::from_seed(&rand::random());
            write_private(path, &identity.to_file_text()).map_err(at(path))?;
            Ok(identity)
        }
        Err(error) => Err(at(path)(error)),
    }
}

/// Makes a directory that only its owner can look into.
///
/// # Errors
/// [`AgentError::Io`].
pub fn make_private_dir(path: &Path) -> Result<(), AgentError> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(at(path))
}

async fn host(text: &str) -> Result<SocketAddr, AgentError> {
    let unknown = || AgentError::Host(text.to_owned());
    let mut found = tokio::net::lookup_host(text).await.map_err(|_error| unknown())?;
    found.next().ok_or_else(unknown)
}

/// Asks the beacon what this socket looks like from outside.
async fn discover(socket: &UdpSocket, beacon: SocketAddr) -> Option<SocketAddr> {
    let ask = Beacon::Discover { node: 0, key: None }.to_vec();
    let mut buffer = [0; 64];
    for _try in 0..2 {
        socket.send_to(&ask, beacon).await.ok()?;
        let answer = timeout(DISCOVER / 2, socket.recv_from(&mut buffer)).await;
        if let Ok(Ok((count, from))) = answer
            && from == beacon
            && let Ok(Beacon::DiscoverReply(at)) = Beacon::decode(&buffer[..count])
        {
            return Some(at);
        }
    }
    None
}

impl Agent {
    /// Joins: binds, learns the endpoint, registers, serves.
    ///
    /// # Errors
    /// See [`AgentError`].
    pub async fn join(join: Join) -> Result<Arc<Self>, AgentError> {
        let home = join.home;
        make_private_dir(&home)?;
        let identity = load_identity(&home.join("identity.json"))?;
        let trust_path = home.join("trust.json");
        let trust = match std::fs::read_to_string(&trust_path) {
            Ok(text) => Trust::from_file_text(&text)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Trust::default(),
            Err(error) => return Err(at(&trust_path)(error)),
        };
        let inbox = home.join("inbox");
        let inbox = Arc::new(Inbox::open(&inbox).map_err(at(&inbox))?);
        let beacon = host(&join.beacon).await?;
        let bind = |error| AgentError::Io(format!("UDP {}", join.listen), error);
        let socket = UdpSocket::bind(join.listen).await.map_err(bind)?;
        let local = socket.local_addr().map_err(bind)?;
        let endpoint = match discover(&socket, beacon).await {
            Some(endpoint) => endpoint,
            None => SocketAddr::new(local_ip(beacon).unwrap_or_else(|| local.ip()), local.port()),
        };
        let registry = Registry::new(&join.registry, join.pin, identity.clone());
        let registered =
            registry.register(endpoint, join.hostname.clone(), lan_addrs(local, beacon)).await?;
        let config = Config { beacon: Some(beacon), ..Config::new(registered.node) };
        let (node, notices) = Node::start(socket, config, identity.clone()).map_err(bind)?;
        let agent = Arc::new(Self {
            node,
            registry,
            identity,
            trust: Mutex::new(trust),
            trust_changed: watch::Sender::new(0),
            home,
            beacon,
            endpoint: Mutex::new(endpoint),
            hostname: join.hostname,
            public: join.public,
            events: Arc::new(Events::default()),
            inbox,
            bound: registered.bound,
            registered: Mutex::new(endpoint),
            answers: Answers::default(),
            offers: Mutex::new(BTreeMap::new()),
        });
        agent.renew_trusted();
        // Before anybody hears of the node, so that nothing relayed to it is lost.
        agent.greet_beacon();
        agent
            .registry
            .request(&Request::SetVisibility { node: registered.node, public: join.public })
            .await?;
        agent.serve(notices);
        Ok(agent)
    }

    fn trust(&self) -> MutexGuard<'_, Trust> {
        lock(&self.trust)
    }

    fn renew_trusted(&self) {
        let trusted: BTreeSet<NodeId> = self.trust().trusted().map(|(node, _)| node).collect();
        self.node.set_trusted(trusted);
    }

    /// Keeps trust on disk and tells the engine.
    fn keep_trust(&self) -> Result<(), AgentError> {
        let path = self.home.join("trust.json");
        let text = self.trust().to_file_text();
        write_private(&path, &text).map_err(at(&path))?;
        self.renew_trusted();
        self.trust_changed.send_modify(|changes| *changes += 1);
        Ok(())
    }

    /// Counts changes of trust and of requests for it; [`Agent::trust_snapshot`] says what they are now.
    #[must_use]
    pub fn trust_changes(&self) -> watch::Receiver<u64> {
        self.trust_changed.subscribe()
    }

    /// This node's number.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.node.id()
    }

    /// The node below.
    #[must_use]
    pub const fn node(&self) -> &Node {
        &self.node
    }

    /// The registry, `HOST:PORT`.
    #[must_use]
    pub fn registry(&self) -> &str {
        self.registry.address()
    }

    /// The beacon.
    #[must_use]
    pub const fn beacon(&self) -> SocketAddr {
        self.beacon
    }

    /// This node's Pilot identity.
    #[must_use]
    pub const fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Where others reach this node.
    #[must_use]
    pub fn endpoint(&self) -> SocketAddr {
        *lock(&self.endpoint)
    }

    /// The name asked for.
    #[must_use]
    pub fn hostname(&self) -> Option<&str> {
        self.hostname.as_deref()
    }

    /// Whether anybody may learn the endpoint.
    #[must_use]
    pub const fn is_public(&self) -> bool {
        self.public
    }

    /// Trust as it is now.
    #[must_use]
    pub fn trust_snapshot(&self) -> Trust {
        self.trust().clone()
    }

    /// The broker of this node.
    #[must_use]
    pub fn events(&self) -> &Events {
        &self.events
    }

    /// Tells the registry that the node leaves. Connections end with the last handle.
    pub async fn leave(&self) {
        let request = Request::Deregister { node: self.id() };
        if let Err(error) = self.registry.request(&request).await {
            tracing::debug!(%error, "the registry was not told");
        }
    }

    pub(crate) const fn answers(&self) -> &Answers {
        &self.answers
    }

    /// What was received.
    #[must_use]
    pub fn inbox(&self) -> &Inbox {
        &self.inbox
    }

    /// A node by number, address or host name, with the key that its tunnel must prove.
    ///
    /// # Errors
    /// See [`AgentError`].
    pub async fn find(&self, target: &str) -> Result<NodeInfo, AgentError> {
        let node = self.number(target).await?;
        Ok(self.known(node).await?)
    }

    /// A node's number.
    ///
    /// # Errors
    /// See [`AgentError`].
    pub async fn number(&self, target: &str) -> Result<NodeId, AgentError> {
        if let Ok(address) = target.parse::<Address>() {
            return Ok(address.node);
        }
        match target.parse() {
            Ok(node) => Ok(node),
            Err(_text) => Ok(self.registry.resolve_hostname(target, self.id()).await?),
        }
    }

    /// Looks a node up; its key is pinned at first sight and held against the registry afterwards.
    async fn known(&self, node: NodeId) -> Result<NodeInfo, RegistryError> {
        let info = self.registry.lookup(node).await?;
        let pinned = self.trust().pin(node, &info.key);
        if let Err(TrustError::KeyChanged(_)) = pinned {
            return Err(RegistryError::KeyChanged(node));
        }
        Ok(info)
    }

    /// A sign of life, through the tunnel.
    ///
    /// # Errors
    /// [`AgentError::Silent`].
    pub async fn ping(&self, node: NodeId) -> Result<Duration, AgentError> {
        self.node.ping(node).await.ok_or(AgentError::Silent(node))
    }

    /// Opens a stream.
    ///
    /// # Errors
    /// See [`AgentError`].
    pub async fn connect(&self, node: NodeId, port: u16) -> Result<Connection, AgentError> {
        if node == self.id() {
            return Err(AgentError::Own(node));
        }
        let to = SocketAddress { address: Address::backbone(node), port };
        self.node.connect(to).await.map_err(|failure| AgentError::Stream(to, failure))
    }
}

fn lan_addrs(local: SocketAddr, beacon: SocketAddr) -> Vec<String> {
    let ip = if local.ip().is_unspecified() { local_ip(beacon) } else { Some(local.ip()) };
    ip.map(|ip| SocketAddr::new(ip, local.port()).to_string()).into_iter().collect()
}
