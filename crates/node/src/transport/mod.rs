//! Authenticated, encrypted links between agents: one iroh endpoint, used sparingly.
//!
//! A [`Transport`] owns the UDP sockets of one agent and a table of live *links*: QUIC connections, at most one preferred
//! link for each (peer, [`Protocol`]). Whoever wants to talk names the peer by its [`AgentId`] and by the socket addresses it
//! may be found at; the transport reuses the live link, joins a dial already under way, or dials.
//!
//! * **Nothing is contacted but the addresses given.** No relay, no DNS, no address lookup service, no port mapping and no
//!   probes: a machine without internet behaves like any other.
//! * **The key is the peer.** TLS proves the peer's Ed25519 key; keys that fail the intake of `comity-core` are refused.
//! * **Handshakes are dear and idle connections are fat** (milliseconds of CPU; about 100 KiB). So links are shared, single-flight,
//!   and *parked* when idle: closed, keeping a TLS ticket and the addresses, from which the next dial resumes in 0-RTT.
//! * **Every resource is bounded** by a field of [`Limits`] or a constant beside it.
//!
//! # Closing without losing calls
//!
//! A side closes a link on its own accord only while it executes nothing for the peer on it, and then says so in the close
//! code ([`CloseCode::is_clean`]). A peer that had just sent a request knows from such a code that the request was never begun,
//! and sends it again on a new link, whether or not it is idempotent.
//!
//! # Two links at once
//!
//! When two nodes dial each other at the same moment, both keep serving both links, and both prefer the one whose *initiator*
//! has the smaller [`AgentId`]; the other drains and is closed. A link that arrives later than that moment replaces the older one,
//! because a peer that still had it would not have dialled.
//!
//! # Peers that were killed or moved
//!
//! QUIC notices a peer that vanished without a word only after [`Limits::silence_max`], and as long as one link to it is open, iroh
//! sends new handshakes along that link's path alone. So a link ends early when a ping on it brings back nothing at all, when the
//! peer itself dials from elsewhere or again while the old link is idle, and when a dial to the peer does not get through.
//!
//! # Early data
//!
//! A dial to a parked peer may carry a request in its first packet (TLS 1.3 0-RTT). Such a packet can be recorded and sent again by
//! anyone, so only requests that may be executed twice travel in it, and the receiver is told ([`IncomingExchange::early`]).

mod accept;
mod code;
mod config;
mod dial;
mod endpoint;
mod error;
mod exchange;
mod kx;
mod link;
mod pacing;
mod rate;
mod table;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use comity_core::AgentId;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;

pub use self::code::{CloseCode, StreamCode};
pub use self::config::{Limits, Protocol, TransportConfig};
pub use self::error::{BindError, ConnectError, ExchangeError};
pub use self::exchange::{EXCHANGE_BYTES_MAX, ExchangeOptions, IncomingExchange, ReplyHandle};
pub use self::kx::KeyExchange;
pub use self::table::{LinkCounts, LinkTraffic};

pub(crate) use self::dial::{EarlyLink, Reach};
pub(crate) use self::link::{BiStream, InUse, Link, Loan, peer_code};

/// What a transport hands to its owner: the work that peers bring.
#[derive(Debug)]
pub struct Incoming {
    /// Directory requests of peers, each with the handle that answers it. When the owner falls behind, further requests are
    /// refused as busy; nothing queues without bound.
    pub exchanges: mpsc::Receiver<IncomingExchange>,
    /// Streams of the call protocol, for [`crate::rpc::Rpc`].
    pub calls: CallStreams,
}

/// The streams that peers opened for calls; give it to [`crate::rpc::Rpc::start`].
#[derive(Debug)]
pub struct CallStreams(pub(crate) mpsc::Receiver<CallStream>);

/// One stream a peer opened on the call protocol.
#[derive(Debug)]
pub(crate) struct CallStream {
    /// Who opened it.
    pub(crate) peer: AgentId,
    /// Where the peer was seen, if directly.
    pub(crate) remote: Option<SocketAddr>,
    /// The link it belongs to; absent for a stream of early data, whose handshake is not complete.
    pub(crate) link: Option<Arc<Link>>,
    /// The two directions.
    pub(crate) stream: BiStream,
}

/// The network side of one agent; cheap to clone, all clones are the same endpoint.
///
/// Its tasks run on the runtime on which [`Transport::bind`] was awaited, whichever runtime its methods are called from.
#[derive(Clone, Debug)]
pub struct Transport(pub(crate) Arc<Shared>);

/// State shared by the handles and tasks of one transport.
pub(crate) struct Shared {
    // Constant after bind.
    pub(crate) me: AgentId,
    pub(crate) limits: Limits,
    pub(crate) endpoint: iroh::Endpoint,
    pub(crate) runtime: tokio::runtime::Handle,
    pub(crate) closing: CancellationToken,
    exchanges: mpsc::Sender<IncomingExchange>,
    calls: mpsc::Sender<CallStream>,
    // Synchronised by themselves.
    dial_slots: Semaphore,
    counts: watch::Sender<LinkCounts>,
    // Never held across an await.
    table: Mutex<table::Table>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transport")
            .field("me", &self.me)
            .field("links", &*self.counts.borrow())
            .finish_non_exhaustive()
    }
}

impl Transport {
    /// Binds the sockets and starts accepting.
    ///
    /// # Errors
    ///
    /// [`BindError::AddressInUse`] when another process has the address; [`BindError::NoListenAddress`] when none is given;
    /// [`BindError::Address`] for one this host does not have; [`BindError::Endpoint`] for anything else the system refuses.
    pub async fn bind(config: TransportConfig) -> Result<(Self, Incoming), BindError> {
        let endpoint = endpoint::bind(&config).await?;
        let limits = config.limits;
        let (exchanges, incoming_exchanges) = mpsc::channel(limits.exchanges_queued_max);
        let (calls, incoming_calls) = mpsc::channel(limits.streams_queued_max);
        let shared = Arc::new(Shared {
            me: config.identity.id(),
            endpoint,
            runtime: tokio::runtime::Handle::current(),
            closing: CancellationToken::new(),
            exchanges,
            calls,
            dial_slots: Semaphore::new(limits.concurrent_dials_max),
            counts: watch::Sender::new(LinkCounts::default()),
            table: Mutex::new(table::Table::new(config.audit)),
            limits,
        });
        shared.runtime.spawn(accept::run(Arc::clone(&shared)));
        shared.runtime.spawn(table::sweep(
            Arc::downgrade(&shared),
            shared.closing.clone(),
            shared.limits.sweep_interval(),
        ));
        Ok((
            Self(shared),
            Incoming { exchanges: incoming_exchanges, calls: CallStreams(incoming_calls) },
        ))
    }

    /// The agent this transport speaks for.
    #[must_use]
    pub fn id(&self) -> AgentId {
        self.0.me
    }

    /// The socket addresses bound, with the ports the system chose.
    #[must_use]
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.0.endpoint.bound_sockets()
    }

    /// The limits in force.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.0.limits
    }

    /// Live and parked peers, followed as they change.
    #[must_use]
    pub fn counts(&self) -> watch::Receiver<LinkCounts> {
        self.0.counts.subscribe()
    }

    /// What all links of `protocol` carried so far, those that are closed included.
    #[must_use]
    pub fn traffic(&self, protocol: Protocol) -> LinkTraffic {
        self.0.table().traffic(protocol)
    }

    /// Keeps overlay links to `peers` from being parked or evicted, and releases all others named before.
    ///
    /// At most [`Limits::warm_peers_max`] are kept, in the order of their ids. Links are not opened by this, only kept.
    pub fn keep_warm(&self, peers: impl IntoIterator<Item = AgentId>) {
        let warm: BTreeSet<AgentId> =
            peers.into_iter().take(self.0.limits.warm_peers_max).collect();
        self.0.table().warm = warm;
    }

    /// Whether a live link to `peer` for `protocol` exists now.
    #[must_use]
    pub fn is_linked(&self, peer: &AgentId, protocol: Protocol) -> bool {
        self.0.table().preferred(*peer, protocol).is_some()
    }

    /// Closes all links, tells the peers, and stops accepting. Calls in progress fail.
    pub async fn close(&self) {
        self.0.closing.cancel();
        for link in self.0.table().all() {
            link.close(CloseCode::Shutdown);
        }
        self.0.endpoint.close().await;
    }
}

impl Shared {
    pub(crate) fn table(&self) -> MutexGuard<'_, table::Table> {
        locked(&self.table)
    }
}

/// Locks, taking over from a panicked holder: every critical section of this crate leaves its data valid at each step.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
