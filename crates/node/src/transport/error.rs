//! What can go wrong between two agents, by name, with what to do about it.

use std::net::SocketAddr;
use std::time::Duration;

use comity_core::AgentId;

use super::{CloseCode, StreamCode};

/// Why a transport could not be bound.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// Another socket has the address.
    #[error(
        "{0} is in use: stop the program that listens there, or choose another port (0 lets the system choose)"
    )]
    AddressInUse(SocketAddr),
    /// The system refuses the address.
    #[error("cannot listen on {addr}: give an address of this host, and a port you may use")]
    Address {
        /// The address asked for.
        addr: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// No address was given.
    #[error("no listen address: give at least one, such as 127.0.0.1:0")]
    NoListenAddress,
    /// The endpoint could not be made.
    #[error("cannot create the QUIC endpoint: {reason}")]
    Endpoint {
        /// What was said about it.
        reason: String,
    },
}

/// Why there is no link to a peer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The caller named itself.
    #[error("the peer is this node itself: answer locally instead of calling")]
    Myself,
    /// No address of the peer is known.
    #[error("no address of {peer} is known: look it up, or give one")]
    NoAddress {
        /// Who was wanted.
        peer: AgentId,
    },
    /// Nothing answered.
    #[error(
        "{peer} did not answer within {waited:?} at {addrs:?}: it may be gone or behind a firewall; look up fresh addresses"
    )]
    Unreachable {
        /// Who was wanted.
        peer: AgentId,
        /// The addresses tried.
        addrs: Vec<SocketAddr>,
        /// How long the dial took.
        waited: Duration,
    },
    /// Somebody else answered.
    #[error(
        "whoever answers at {addrs:?} does not hold the key of {expected}: the address changed hands or is being impersonated; look up fresh addresses"
    )]
    WrongKey {
        /// The agent dialled.
        expected: AgentId,
        /// The addresses tried.
        addrs: Vec<SocketAddr>,
    },
    /// The peer answered and declined.
    #[error("{peer} refused the link ({reason}): try later, or another peer")]
    RefusedByPeer {
        /// Who refused.
        peer: AgentId,
        /// Its reason.
        reason: String,
    },
    /// Handshake begun, then broken.
    #[error("the handshake with {peer} failed: {reason}")]
    Handshake {
        /// Who was wanted.
        peer: AgentId,
        /// What was said about it.
        reason: String,
    },
    /// All links are busy.
    #[error("all {limit} links are busy: wait for calls to finish, or raise links_max")]
    TooManyLinks {
        /// The bound.
        limit: usize,
    },
    /// Too many dials wait.
    #[error("{limit} dials are waiting already: slow down, or raise dials_waiting_max")]
    TooManyDials {
        /// The bound.
        limit: usize,
    },
    /// The transport is closed.
    #[error("this node is shutting down")]
    Closed,
}

/// Why a directory exchange brought no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExchangeError {
    /// No link.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The request exceeds [`super::EXCHANGE_BYTES_MAX`].
    #[error("the request of {bytes} bytes exceeds {limit}: split it")]
    RequestTooLarge {
        /// Its size.
        bytes: usize,
        /// The bound.
        limit: usize,
    },
    /// The answer exceeds [`super::EXCHANGE_BYTES_MAX`].
    #[error("{peer} sent an answer beyond {limit} bytes: it breaks the protocol; ask another")]
    AnswerTooLarge {
        /// Who answered.
        peer: AgentId,
        /// The bound.
        limit: usize,
    },
    /// No answer in time.
    #[error("{peer} did not answer within {waited:?}: ask another, or try later")]
    TimedOut {
        /// Who was asked.
        peer: AgentId,
        /// How long was waited.
        waited: Duration,
    },
    /// The peer declined this request.
    #[error("{peer} declined the request ({code}): ask another, or try later")]
    Declined {
        /// Who declined.
        peer: AgentId,
        /// Its reason.
        code: StreamCode,
    },
    /// The link broke between request and answer.
    #[error("the link to {peer} broke before the answer came: ask again")]
    Interrupted {
        /// Who was asked.
        peer: AgentId,
        /// The peer's close code, when it gave one.
        code: Option<CloseCode>,
    },
}
