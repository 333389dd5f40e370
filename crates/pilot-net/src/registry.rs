//! The registry's client: one connection, one request at a time, made anew when it breaks.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use comity_pilot::address::NodeId;
use comity_pilot::identity::Identity;
use comity_pilot::registry::{
    Handshakes, MESSAGE_BYTES_MAX, NodeInfo, Registered, ReplyError, Request, Resolved, framed,
    parse_handshakes, parse_reply,
};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::timeout;

use tokio_rustls::rustls::pki_types::ServerName;

use crate::clock::unix_micros;
use crate::tls::{Fingerprint, connector};

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Patience with the registry, for connecting and for each answer.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The connection.
    #[error("registry {0}: {1}")]
    Io(String, io::Error),
    /// No answer in [`PATIENCE`].
    #[error("registry {0} does not answer; check the address, or try again later")]
    Silent(String),
    /// The answer.
    #[error(transparent)]
    Reply(#[from] ReplyError),
    /// The key of a node is not the one it was first seen with.
    #[error(
        "the registry tells another key for node {0} than before; if that is right, run `comity pilot forget {0}`"
    )]
    KeyChanged(NodeId),
}

/// A client.
#[derive(Debug)]
pub struct Registry {
    address: String,
    pin: Option<Fingerprint>,
    identity: Identity,
    connection: Mutex<Link>,
}

#[derive(Default)]
struct Link {
    stream: Option<Box<dyn Stream>>,
    /// The server understands signatures over values and time.
    bound: bool,
    last_time: u64,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("bound", &self.bound).finish_non_exhaustive()
    }
}

impl Registry {
    /// A client of the registry at `HOST:PORT`, over TLS with the certificate of that fingerprint where one is given. Connects with the
    /// first request.
    #[must_use]
    pub fn new(address: &str, pin: Option<Fingerprint>, identity: Identity) -> Self {
        let connection = Mutex::new(Link::default());
        Self { address: address.to_owned(), pin, identity, connection }
    }

    /// The registry's address.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    fn io(&self, error: io::Error) -> RegistryError {
        RegistryError::Io(self.address.clone(), error)
    }

    /// Asks; the fields of the answer.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub async fn request(
        &self,
        request: &Request,
    ) -> Result<BTreeMap<String, Value>, RegistryError> {
        let mut link = self.connection.lock().await;
        // Servers that do not know the second signature ignore it; one that does must see it from the first request on.
        let json = if link.bound || matches!(request, Request::Register { .. }) {
            link.last_time = unix_micros().max(link.last_time + 1);
            request.to_bound_json(&self.identity, link.last_time)
        } else {
            request.to_signed_json(&self.identity)
        };
        // A connection kept from before may be dead: one more try on a new one.
        let kept = link.stream.is_some();
        let mut answer = self.exchange(&mut link, json.as_bytes()).await;
        if kept && matches!(answer, Err(RegistryError::Io(..))) {
            answer = self.exchange(&mut link, json.as_bytes()).await;
        }
        Ok(parse_reply(&answer?)?)
    }

    async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        let stream = TcpStream::connect(&self.address).await?;
        stream.set_nodelay(true)?;
        let Some(pin) = self.pin else { return Ok(Box::new(stream)) };
        // The certificate's fingerprint is what counts, so the name asked for does not.
        let name = ServerName::from(stream.peer_addr()?.ip());
        Ok(Box::new(connector(pin)?.connect(name, stream).await?))
    }

    async fn exchange(&self, link: &mut Link, json: &[u8]) -> Result<Vec<u8>, RegistryError> {
        let mut stream = match link.stream.take() {
            Some(stream) => stream,
            None => timeout(PATIENCE, self.connect())
                .await
                .map_err(|_late| RegistryError::Silent(self.address.clone()))?
                .map_err(|error| self.io(error))?,
        };
        let talk = async {
            stream.write_all(&framed(json)).await?;
            read_message(&mut stream).await
        };
        let answer = timeout(PATIENCE, talk)
            .await
            .map_err(|_late| RegistryError::Silent(self.address.clone()))?
            .map_err(|error| self.io(error))?;
        link.stream = Some(stream);
        Ok(answer)
    }

    /// Registers: the node's number, the same for the same key.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub async fn register(
        &self,
        endpoint: SocketAddr,
        hostname: Option<String>,
        lan_addrs: Vec<String>,
    ) -> Result<Registered, RegistryError> {
        let request = Request::Register {
            listen_addr: endpoint.to_string(),
            public_key: self.identity.public_text(),
            hostname,
            owner: None,
            lan_addrs,
            version: Some(concat!("comity/", env!("CARGO_PKG_VERSION")).to_owned()),
        };
        let registered = Registered::parse(&self.request(&request).await?)?;
        self.connection.lock().await.bound = registered.bound;
        Ok(registered)
    }

    /// What the registry says of a node.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub async fn lookup(&self, node: NodeId) -> Result<NodeInfo, RegistryError> {
        let info = NodeInfo::parse(&self.request(&Request::Lookup { node }).await?)?;
        if info.node == node { Ok(info) } else { Err(ReplyError::Field("node_id").into()) }
    }

    /// Where a node is.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub async fn resolve(&self, node: NodeId, me: NodeId) -> Result<Resolved, RegistryError> {
        let request = Request::Resolve { node, requester: me };
        Ok(Resolved::parse(&self.request(&request).await?)?)
    }

    /// Which node has a name.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub async fn resolve_hostname(
        &self,
        hostname: &str,
        me: NodeId,
    ) -> Result<NodeId, RegistryError> {
        let request =
            Request::ResolveHostname { hostname: hostname.to_owned(), requester: Some(me) };
        let fields = self.request(&request).await?;
        let node = fields.get("node_id").and_then(Value::as_u64);
        Ok(node.and_then(|node| node.try_into().ok()).ok_or(ReplyError::Field("node_id"))?)
    }

    /// Trust requests and answers that wait.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub async fn poll(&self, me: NodeId) -> Result<Handshakes, RegistryError> {
        Ok(parse_handshakes(&self.request(&Request::PollHandshakes { node: me }).await?))
    }
}

/// Reads a message with its length.
async fn read_message(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let length = usize::try_from(stream.read_u32().await?).unwrap_or(usize::MAX);
    if length > MESSAGE_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "message too long"));
    }
    let mut message = vec![0; length];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

/// Where this host would send from towards `to`: its address in the local network.
pub(crate) fn local_ip(to: SocketAddr) -> Option<IpAddr> {
    let any: SocketAddr =
        if to.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
    let socket = std::net::UdpSocket::bind(any).ok()?;
    socket.connect(to).ok()?;
    Some(socket.local_addr().ok()?.ip())
}
