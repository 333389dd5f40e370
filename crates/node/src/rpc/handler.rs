//! What a node offers to callers: the interface between calls on the wire and the specialists that answer them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use comity_core::receipt::{ShortText, SignedReceipt};
use comity_core::{AgentId, DecodeError, Hash, Sha256Digest, Time, canonical};
use comity_results::terms::TTL_MAX;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use tokio_util::sync::CancellationToken;

use super::{Cosigned, ErrorCode, Growth, Hello, Outgoing};

/// Answers calls. Called on the network runtime: work that computes for long belongs on another thread.
pub trait CallHandler: Send + Sync + 'static {
    /// What is signed about answers of the capability named `capability`.
    ///
    /// # Errors
    /// That there is no such capability for this caller, which it must not be able to tell from there being none at all; or why what it
    /// showed does not help. Decided before anything about the request is looked at, and counts nothing.
    fn offer(&self, capability: &str, caller: &Caller) -> Result<Arc<Offer>, CallFailure>;

    /// Answers one call.
    ///
    /// When [`IncomingCall::cancel`] fires, nobody waits any more: the future has [`super::RpcLimits::cancel_grace`] to wind down and
    /// is then dropped. An item stream is dropped at once.
    fn call(&self, call: IncomingCall) -> BoxFuture<'static, Result<Reply, CallFailure>>;

    /// The node's signed record for this caller: the latest, or the one with this hash. None if there is no such record for it.
    fn record(&self, hash: Option<&Hash>, caller: &Caller) -> Option<Bytes>;

    /// What this node says of itself to `peer`, within the bounds of [`Hello`].
    fn hello(&self, peer: &AgentId) -> Hello {
        let _ = peer;
        Hello::default()
    }

    /// Told what `peer` said of itself in the session with this exporter value, once for each link.
    fn greeted(&self, peer: &AgentId, session: &Hash, hello: &Hello) {
        let _ = (peer, session, hello);
    }

    /// The proof that this node's audit log only grew, in canonical bytes. Asked by peers that said hello.
    fn growth(&self, asked: Growth) -> BoxFuture<'static, Result<Bytes, CallFailure>> {
        let _ = asked;
        Box::pin(std::future::ready(Err(no_log())))
    }

    /// Takes in the signature of `peer` under a checkpoint of this node's audit log.
    fn cosigned(
        &self,
        peer: AgentId,
        cosigned: Cosigned,
    ) -> BoxFuture<'static, Result<(), CallFailure>> {
        let _ = (peer, cosigned);
        Box::pin(std::future::ready(Err(no_log())))
    }

    /// Answers a question about trust, at most [`super::TRUST_BYTES_MAX`] both ways. Never in early data.
    fn trust(&self, caller: Caller, body: Bytes) -> BoxFuture<'static, Result<Bytes, CallFailure>> {
        let _ = (caller, body);
        let text = "this agent answers no questions about trust";
        Box::pin(std::future::ready(Err(CallFailure::new(ErrorCode::NotFound, text))))
    }

    /// Answers a question about results that are shared. `remote`: where the caller was seen, if directly. Never in early data.
    fn results(
        &self,
        caller: Caller,
        remote: Option<SocketAddr>,
        body: Bytes,
    ) -> BoxFuture<'static, Result<Bytes, CallFailure>> {
        let _ = (caller, remote, body);
        let text = "this agent shares no results";
        Box::pin(std::future::ready(Err(CallFailure::new(ErrorCode::NotFound, text))))
    }

    /// A piece of a large result. Never in early data.
    fn piece(
        &self,
        caller: Caller,
        body: Bytes,
    ) -> BoxFuture<'static, Result<Outgoing, CallFailure>> {
        let _ = (caller, body);
        let text = "this agent shares no results";
        Box::pin(std::future::ready(Err(CallFailure::new(ErrorCode::NotFound, text))))
    }

    /// Keeps an answer that was committed to until the caller asks for it, and returns the commitment. `receipt` and `body` are whole.
    fn promise(
        &self,
        caller: &AgentId,
        job: Hash,
        receipt: &Bytes,
        body: Bytes,
    ) -> Result<Hash, CallFailure> {
        let _ = (caller, job, receipt, body);
        Err(CallFailure::new(ErrorCode::NotFound, "this agent commits to no answers"))
    }

    /// The signed passages from `key`, which this node's agent had once, to its own; none if it never had it.
    fn succession(&self, key: &AgentId) -> Option<Vec<u8>> {
        let _ = key;
        None
    }

    /// Told of each receipt this node signed, its canonical bytes and the hash of its statement, before the caller has it.
    fn signed(&self, caller: &AgentId, receipt: SignedReceipt, bytes: &Bytes, statement: Hash) {
        let _ = (caller, receipt, bytes, statement);
    }
}

/// A handler that offers nothing, for nodes that only call.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoCapabilities;

impl CallHandler for NoCapabilities {
    fn offer(&self, capability: &str, _caller: &Caller) -> Result<Arc<Offer>, CallFailure> {
        Err(CallFailure::not_found(&super::named(capability)))
    }

    fn call(&self, call: IncomingCall) -> BoxFuture<'static, Result<Reply, CallFailure>> {
        Box::pin(std::future::ready(Err(CallFailure::not_found(&call.offer.name))))
    }

    fn record(&self, _hash: Option<&Hash>, _caller: &Caller) -> Option<Bytes> {
        None
    }
}

/// One capability as its receipts state it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Its name.
    pub name: ShortText,
    /// BLAKE3 of the capability's descriptor bytes.
    pub descriptor: Hash,
    /// SHA-256 of its interface.
    pub interface: Sha256Digest,
    /// Whether executing a call twice is the same as executing it once. Only such calls are taken from early data.
    pub idempotent: bool,
    /// For how long the node stands by an answer.
    pub valid_for: Duration,
    /// Version of the data behind the answers.
    pub data_version: Option<ShortText>,
    /// What does not change any more, so that answers about it alone do not grow stale.
    pub closed: Option<Closed>,
}

/// Data about times up to some time does not change any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    /// Up to when.
    pub until: Time,
    /// The field of a request's `where` that says which time it is about.
    pub time_field: String,
}

impl Offer {
    /// For how long the node stands by the answer to this request.
    pub(crate) fn valid_for(&self, request: &[u8]) -> Duration {
        let Some(closed) = &self.closed else { return self.valid_for };
        let latest = canonical::to_json(request)
            .ok()
            .and_then(|request| comity_results::subsume::latest_time(&request, &closed.time_field));
        if latest.is_some_and(|latest| latest <= closed.until) { TTL_MAX } else { self.valid_for }
    }
}

/// Who calls, and what it shows beside its key.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Who; proved by its key.
    pub agent: AgentId,
    /// The TLS exporter of the session. None in early data, which anyone may have sent again: nothing can be proved there, and nothing
    /// that counts its uses must count.
    pub session: Option<Hash>,
    /// What it said of itself on this link. Always there for calls whose repetition would matter, and for those that show anything.
    pub hello: Option<Arc<Hello>>,
    /// Said to prove membership of a private group.
    pub membership: Option<Hash>,
    /// What it shows besides: grants and what belongs to them, at most [`super::GRANTS_BYTES_MAX`]; unchecked.
    pub grants: Option<Bytes>,
    /// Where it was seen, if directly.
    pub remote: Option<SocketAddr>,
}

impl Caller {
    /// Whether the request came in early data, and so may be a repetition.
    #[must_use]
    pub const fn is_early(&self) -> bool {
        self.session.is_none()
    }
}

/// One call to answer.
#[derive(Clone, Debug)]
pub struct IncomingCall {
    /// The capability called.
    pub offer: Arc<Offer>,
    /// The request: canonical CBOR, checked.
    pub body: Bytes,
    /// Who calls, and what it shows for it.
    pub caller: Caller,
    /// Where the caller was seen, if directly.
    pub remote: Option<SocketAddr>,
    /// How long the caller will wait from now.
    pub deadline: Duration,
    /// Fires when the caller has gone, cancelled, or waited long enough.
    pub cancel: CancellationToken,
    /// Number of the call within its session, as the receipt will state it.
    pub number: u64,
}

impl IncomingCall {
    /// The request as JSON.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] for canonical CBOR that has no JSON form, such as byte strings.
    pub fn json(&self) -> Result<serde_json::Value, DecodeError> {
        canonical::to_json(&self.body)
    }
}

/// An answer: items of canonical CBOR.
pub enum Reply {
    /// One item.
    One(Bytes),
    /// Items as they come. An error ends the call as failed.
    Stream(BoxStream<'static, Result<Bytes, CallFailure>>),
}

impl std::fmt::Debug for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::One(item) => f.debug_tuple("One").field(&item.len()).finish(),
            Self::Stream(_) => f.write_str("Stream"),
        }
    }
}

/// Why a call is not answered, as the caller is told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct CallFailure {
    /// What kind of failure.
    pub code: ErrorCode,
    /// What to do about it; cut to [`super::ERROR_TEXT_MAX`] bytes on the wire.
    pub message: String,
    /// Why, in a word for the own audit log. Never sent.
    pub(crate) reason: Option<&'static str>,
}

impl CallFailure {
    /// A failure with its explanation.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), reason: None }
    }

    /// Adds what the own audit log says of it.
    #[must_use]
    pub(crate) fn reason(self, reason: &'static str) -> Self {
        Self { reason: Some(reason), ..self }
    }

    pub(crate) fn not_found(name: &impl std::fmt::Display) -> Self {
        Self::new(
            ErrorCode::NotFound,
            format!(
                "this agent offers no capability `{name}`: fetch its record to see what it offers"
            ),
        )
    }
}

fn no_log() -> CallFailure {
    CallFailure::new(ErrorCode::NotFound, "this agent keeps no audit log")
}
