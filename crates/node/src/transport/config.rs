//! What a transport is told, and every bound it keeps.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use comity_core::Identity;

use super::KeyExchange;
use crate::audit::Audit;

/// The protocols spoken over links; each has its own connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// Calls: [`crate::rpc`].
    Rpc,
    /// Directory messages: [`super::Transport::exchange`].
    Overlay,
}

impl Protocol {
    /// The name negotiated in TLS (ALPN, RFC 7301).
    #[must_use]
    pub const fn alpn(self) -> &'static [u8] {
        match self {
            Self::Rpc => b"comity/rpc/1",
            Self::Overlay => b"comity/overlay/1",
        }
    }

    pub(crate) fn from_alpn(alpn: &[u8]) -> Option<Self> {
        [Self::Rpc, Self::Overlay].into_iter().find(|protocol| protocol.alpn() == alpn)
    }
}

/// How to bind a [`super::Transport`].
#[derive(Clone, Debug)]
pub struct TransportConfig {
    /// The key that the links prove.
    pub identity: Arc<Identity>,
    /// Where to listen, and the only addresses packets leave from; port 0 lets the system choose. The first of each address family
    /// carries packets to destinations outside the other addresses' own hosts.
    pub listen: Vec<SocketAddr>,
    /// The bounds to keep.
    pub limits: Limits,
    /// How the secrets of links are agreed on.
    pub key_exchange: KeyExchange,
    /// Where sessions of the call protocol are logged.
    pub audit: Audit,
}

/// Every bound of the transport. The defaults suit a node with some thousand acquaintances.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Live links; beyond it the idlest is evicted, and if all are busy the new one is refused.
    pub links_max: usize,
    /// Live links with one peer for one protocol, retired ones included.
    pub links_per_peer_max: usize,
    /// Streams one peer may have open on one link.
    pub streams_per_link_max: u32,
    /// A link without use for this long is parked.
    pub park_after: Duration,
    /// A link on which nothing arrives for this long is dead (the peer vanished without a word).
    pub silence_max: Duration,
    /// How often a quiet link is probed; below a third of `silence_max`, at most 5 s.
    pub keep_alive: Duration,
    /// Overlay peers exempt from parking.
    pub warm_peers_max: usize,
    /// Dials under way at once; further ones wait.
    pub concurrent_dials_max: usize,
    /// Dials waiting for a slot; further ones are refused.
    pub dials_waiting_max: usize,
    /// How long a dial may take, from the first packet to the verified peer.
    pub dial_timeout: Duration,
    /// After a failed dial, the same peer at the same addresses is not tried again for this long; doubled with each failure.
    pub redial_backoff_min: Duration,
    /// The longest such pause.
    pub redial_backoff_max: Duration,
    /// Peers of whom addresses or failures are remembered while no link exists.
    pub path_hints_max: usize,
    /// Peers of whom TLS tickets for early data are remembered (about 1 KiB each).
    pub tickets_max: usize,
    /// New handshakes one source (IPv4 address, IPv6 /64) may begin per second, on average.
    pub handshakes_per_source_per_s: u32,
    /// New handshakes one source may begin at once.
    pub handshakes_burst_max: u32,
    /// Handshakes of strangers under way at once.
    pub handshakes_pending_max: usize,
    /// How long a stranger's handshake may take.
    pub handshake_timeout: Duration,
    /// How long an exchange may take, dial included, when its caller names nothing else; also how long a peer may take to
    /// send its request and this node to answer it.
    pub exchange_timeout: Duration,
    /// Requests of peers waiting for the owner; further ones are refused as busy.
    pub exchanges_queued_max: usize,
    /// Opened call streams waiting for the call server; the links that bring more wait.
    pub streams_queued_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            links_max: 1024,
            links_per_peer_max: 4,
            streams_per_link_max: 128,
            park_after: Duration::from_secs(30),
            silence_max: Duration::from_secs(20),
            keep_alive: Duration::from_secs(5),
            warm_peers_max: 64,
            concurrent_dials_max: 64,
            dials_waiting_max: 1024,
            dial_timeout: Duration::from_secs(5),
            redial_backoff_min: Duration::from_millis(250),
            redial_backoff_max: Duration::from_secs(15),
            path_hints_max: 16_384,
            tickets_max: 4096,
            handshakes_per_source_per_s: 100,
            handshakes_burst_max: 200,
            handshakes_pending_max: 256,
            handshake_timeout: Duration::from_secs(10),
            exchange_timeout: Duration::from_secs(5),
            exchanges_queued_max: 256,
            streams_queued_max: 256,
        }
    }
}

/// Bytes one peer may have on the way on one stream; 100 ms at 80 Mbit/s. Memory of a link that is not busy does not depend on it.
pub(super) const STREAM_WINDOW_BYTES: u32 = 1 << 20;
/// Bytes one peer may have on the way on all streams of a link.
pub(super) const LINK_WINDOW_BYTES: u32 = 4 << 20;
/// Unacknowledged bytes this node keeps for one peer.
pub(super) const SEND_WINDOW_BYTES: u64 = 4 << 20;

impl Limits {
    /// Parked promptly, yet without a busy timer.
    pub(crate) fn sweep_interval(&self) -> Duration {
        (self.park_after / 4).clamp(Duration::from_millis(10), Duration::from_secs(1))
    }
}
