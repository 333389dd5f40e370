//! Calls: one request, one answer of one or many items, and a signed receipt that binds the two.
//!
//! A call names a capability and carries a canonical request. The callee executes it and sends the items of the answer, the last of
//! them with a receipt: its signature over the session, the caller, the capability, the request and the answer. The caller checks all
//! of that before it returns the answer ([`Rpc::call`]), or when the stream of items is finished ([`AnswerStream::finish`]).
//!
//! # On the wire
//!
//! Protocol `comity/rpc/1`. Calls travel on bidirectional QUIC streams, one call at a time on each; a stream serves many calls, one
//! after the other. Frames are a 32-bit big-endian length and canonical CBOR. The request is one frame, so a small
//! question leaves in one packet; a short answer comes back in one frame with its receipt.
//!
//! * Request hash: BLAKE3 of the request's canonical bytes.
//! * Response hash: BLAKE3 of the items of the answer, one after the other (a CBOR sequence, RFC 8742).
//! * Session: 32 bytes of the TLS exporter `EXPORTER-comity/1` with empty context.
//!
//! # Hello
//!
//! Before the first call on a link whose repetition would matter, or that shows a membership or grants, the two ends tell each other of
//! themselves ([`Hello`]): the caller in a request of its own, the callee in the answer. The callee enforces it
//! ([`ErrorCode::HelloFirst`]). It costs one round trip for each link that carries such calls. Who said hello may ask for the proof that the
//! other's audit log only grew ([`Growth`]) and leave its signature under what it saw ([`Cosigned`]).
//!
//! # Early data
//!
//! A call to a parked peer may leave in the first packet (0-RTT). Anyone who records such a packet can send it again. Three rules make
//! that harmless: the caller does it only for calls it declared idempotent; the callee executes it only if the capability is declared
//! idempotent as well, and otherwise answers [`ErrorCode::TooEarly`], whereupon the caller repeats it after the handshake; and whoever
//! replays it can read no answer, because the answer is encrypted to the original caller's ephemeral key. A call that shows a membership or
//! grants never travels so, at either end, because what it shows could be shown again. The TLS exporter does not exist yet at that
//! point, so the request carries 32 random bytes from which both ends derive the session of this one call.
//!
//! # Cancelling
//!
//! Dropping a call resets its stream. The callee's [`IncomingCall::cancel`] fires then, and also when the deadline passes or the
//! connection dies.

mod answer;
mod attest;
mod client;
mod error;
mod handler;
mod hello;
mod pieces;
mod server;
mod signer;
mod verify;
mod wire;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use comity_core::{AgentId, Hash, Identity, Time};

use crate::audit::Audit;

pub use self::answer::{AnswerStream, CallAnswer, Finished, Timings};
pub use self::attest::{COSIGNED_BYTES_MAX, Cosigned, Growth};
pub use self::client::{CallRequest, Rpc};
pub use self::error::{CallError, Distrust, ErrorCode};
pub use self::handler::{
    CallFailure, CallHandler, Caller, Closed, IncomingCall, NoCapabilities, Offer, Reply,
};
pub(crate) use self::hello::Greeting;
pub use self::hello::{CHECKPOINT_BYTES_MAX, Features, HELLO_BYTES_MAX, Hello, RevocationState};
pub(crate) use self::pieces::NoPiece;
pub use self::pieces::{Outgoing, Pace};
pub(crate) use self::verify::Written;
pub use self::wire::{
    CHUNK_BYTES_MAX, ERROR_TEXT_MAX, GRANTS_BYTES_MAX, REQUEST_BYTES_MAX, TRUST_BYTES_MAX,
};

/// A capability's name as a stranger wrote it, in the form that errors repeat it.
pub(crate) fn named(capability: &str) -> String {
    wire::cut(capability).escape_debug().to_string()
}

/// Longest record that a peer may return, in bytes.
pub const RECORD_BYTES_MAX: usize = 16 * 1024;

/// How to start [`Rpc`].
#[derive(Clone)]
pub struct RpcConfig {
    /// The key that signs receipts: the one of the transport.
    pub identity: Arc<Identity>,
    /// What answers calls.
    pub handler: Arc<dyn CallHandler>,
    /// The bounds to keep.
    pub limits: RpcLimits,
    /// Where the times in receipts come from.
    pub clock: Clock,
    /// Where calls of peers are logged, answered and refused.
    pub audit: Audit,
}

impl fmt::Debug for RpcConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RpcConfig")
            .field("identity", &self.identity)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// Every bound of the call protocol that is not fixed by its wire format.
#[derive(Clone, Debug)]
pub struct RpcLimits {
    /// Calls being executed for all peers together.
    pub calls_max: usize,
    /// Calls being executed for one peer.
    pub calls_per_peer_max: usize,
    /// Bytes of requests being received or executed, for all peers together; requests of up to 16 KiB are not counted.
    pub request_bytes_total_max: usize,
    /// Longest answer that is taken into memory, and longest item of any, in bytes: what this node sends, and what it accepts unless the
    /// call says otherwise.
    pub answer_bytes_max: u64,
    /// Longest answer that is taken item by item, in bytes: what this node sends in items, and what it accepts so.
    pub stream_bytes_max: u64,
    /// Longest deadline granted to a caller.
    pub deadline_max: Duration,
    /// How long a caller may take to send its request once it began.
    pub request_patience: Duration,
    /// How long a cancelled handler may take to wind down.
    pub cancel_grace: Duration,
}

impl Default for RpcLimits {
    fn default() -> Self {
        Self {
            calls_max: 4096,
            calls_per_peer_max: 128,
            request_bytes_total_max: 64 << 20,
            answer_bytes_max: 64 << 20,
            stream_bytes_max: comity_results::bulk::BULK_BYTES_MAX,
            deadline_max: Duration::from_secs(600),
            request_patience: Duration::from_secs(10),
            cancel_grace: Duration::from_secs(5),
        }
    }
}

/// A source of time for receipts.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Time + Send + Sync>);

impl Clock {
    /// A clock of the caller's.
    pub fn new(now: impl Fn() -> Time + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    pub(crate) fn now(&self) -> Time {
        (self.0)()
    }
}

impl Default for Clock {
    /// The system's wall clock.
    fn default() -> Self {
        Self::new(|| {
            let micros =
                SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros());
            Time(u64::try_from(micros).unwrap_or(u64::MAX))
        })
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

/// The session of one call in early data, in place of the TLS exporter.
fn early_session(caller: &AgentId, callee: &AgentId, nonce: &Hash) -> Hash {
    Hash::derive(
        "comity/rpc/early-session/v1",
        &[caller.as_bytes(), callee.as_bytes(), nonce.as_bytes()],
    )
}
