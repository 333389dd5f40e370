//! The caller: finds or makes a link, sends the request, hands out the answer.

mod pieces;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use comity_capability::record::GroupSecret;
use comity_core::canonical::{self, JsonError};
use comity_core::{AgentId, Canonical as _, Hash, Sha256Digest};
use comity_trust::log::MAX_PROOF_LEN;
use comity_trust::succession::MAX_SUCCESSION;
use iroh::endpoint::WriteError;
use rand::RngExt as _;
use tokio::time::Instant;
use tracing::debug;

use super::answer::{Attempt, Carrier, EarlyStream};
use super::server::Server;
use super::signer::Signer;
use super::verify::{Expected, Roots};
use super::wire::{self, Method, RequestFrame};
use super::{
    AnswerStream, CallAnswer, CallError, CallHandler, Cosigned, Distrust, ErrorCode, Growth,
    HELLO_BYTES_MAX, Hello, RpcConfig,
};
use crate::transport::{
    BiStream, CallStreams, CloseCode, EarlyLink, Link, Protocol, Reach, Transport, peer_code,
};

/// How often a call is sent at most: again only if the callee never began it, or if it is idempotent and its link died.
const ATTEMPTS_MAX: usize = 3;

/// The deadline of a call that names none.
const DEADLINE: Duration = Duration::from_secs(30);
/// The deadline of a ping and of a record.
const CONTROL_DEADLINE: Duration = Duration::from_secs(10);

/// A link on which nothing at all arrives for this long after a ping was sent is dead: the peer was killed, or has moved.
const LINK_SILENCE_MAX: Duration = Duration::from_millis(900);

/// A call to make.
#[derive(Clone, Debug)]
pub struct CallRequest {
    /// Name of the capability.
    pub capability: String,
    /// Canonical CBOR of the request; at most [`super::REQUEST_BYTES_MAX`] bytes.
    pub body: Bytes,
    /// BLAKE3 of the descriptor the caller has read. The call fails if the callee offers another by now.
    pub descriptor: Option<Hash>,
    /// SHA-256 of the interface the caller has read. The call fails if the callee speaks another by now.
    pub interface: Option<Sha256Digest>,
    /// How long the caller waits, from the call to the verified answer.
    pub deadline: Duration,
    /// Whether the call may be executed twice: then it may travel in early data, and is repeated if its link dies.
    pub idempotent: bool,
    /// Longest answer the caller wants, in bytes; [`super::RpcLimits::answer_bytes_max`] if not given.
    pub answer_bytes_max: Option<u64>,
    /// The secret of the private group as whose member the caller calls.
    pub group: Option<GroupSecret>,
    /// Grants to present, at most [`super::GRANTS_BYTES_MAX`].
    pub grants: Option<Bytes>,
}

impl CallRequest {
    /// A call that waits 30 s, expects nothing in particular, and must not be executed twice.
    pub fn new(capability: impl Into<String>, body: Bytes) -> Self {
        Self {
            capability: capability.into(),
            body,
            descriptor: None,
            interface: None,
            deadline: DEADLINE,
            idempotent: false,
            answer_bytes_max: None,
            group: None,
            grants: None,
        }
    }

    /// Whether the ends must have told each other of themselves first.
    fn needs_hello(&self) -> bool {
        !self.may_be_early()
    }

    /// Whether it may travel in early data: executing it twice is executing it once, and it shows nothing that is bound to a session.
    fn may_be_early(&self) -> bool {
        self.idempotent && self.group.is_none() && self.grants.is_none()
    }

    /// The same, from JSON.
    ///
    /// # Errors
    ///
    /// [`JsonError`] for JSON without canonical encoding.
    pub fn from_json(
        capability: impl Into<String>,
        request: &serde_json::Value,
    ) -> Result<Self, JsonError> {
        Ok(Self::new(capability, canonical::from_json(request)?.into()))
    }

    /// Declares that the call may be executed twice.
    #[must_use]
    pub fn idempotent(mut self) -> Self {
        self.idempotent = true;
        self
    }

    /// Sets how long the caller waits.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }
}

/// Calls peers, and answers theirs; cheap to clone.
#[derive(Clone, Debug)]
pub struct Rpc(Arc<Shared>);

/// Shared by all clones and answers.
pub(super) struct Shared {
    transport: Transport,
    /// What this node says of itself, and who is told what others say.
    handler: Arc<dyn CallHandler>,
    pub(super) roots: Roots,
    pub(super) answer_bytes_max: u64,
    pub(super) stream_bytes_max: u64,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rpc").field("transport", &self.transport).finish_non_exhaustive()
    }
}

/// What a method that signs nothing asks.
#[derive(Clone, Copy, Debug)]
struct Asked<'a> {
    method: Method,
    body: &'a [u8],
    /// The group as whose member it is asked.
    group: Option<&'a GroupSecret>,
    /// Grants shown along.
    grants: Option<&'a [u8]>,
    /// The capability that is meant, where one is.
    capability: &'a str,
}

impl<'a> Asked<'a> {
    const fn of(method: Method, body: &'a [u8]) -> Self {
        Self { method, body, group: None, grants: None, capability: "" }
    }
}

/// What is wanted of a peer, for all attempts.
#[derive(Debug)]
pub(super) struct Want<'a> {
    pub(super) peer: AgentId,
    pub(super) addrs: &'a [SocketAddr],
    pub(super) request: &'a CallRequest,
    pub(super) request_hash: Hash,
    pub(super) started: Instant,
}

impl Rpc {
    /// Starts answering the calls that arrive on `streams`, on the runtime of the transport, and signing on a thread of its own.
    ///
    /// # Errors
    ///
    /// When the system refuses the signing thread.
    pub fn start(
        transport: Transport,
        streams: CallStreams,
        config: RpcConfig,
    ) -> std::io::Result<Self> {
        let RpcConfig { identity, handler, limits, clock, audit } = config;
        let signer = Signer::spawn(Arc::clone(&identity), clock.clone())?;
        let (answer_bytes_max, stream_bytes_max) =
            (limits.answer_bytes_max, limits.stream_bytes_max);
        let runtime = transport.0.runtime.clone();
        let answers = Arc::clone(&handler);
        let server =
            Server::new(identity.id(), answers, limits, clock, signer, audit, runtime.clone());
        runtime.spawn(Arc::new(server).run(streams));
        let roots = Roots::default();
        Ok(Self(Arc::new(Shared { transport, handler, roots, answer_bytes_max, stream_bytes_max })))
    }

    /// The transport underneath.
    #[must_use]
    pub fn transport(&self) -> &Transport {
        &self.0.transport
    }

    /// Calls `peer` and returns its verified answer. `addrs` are used if there is no link yet; remembered ones besides. Dropping the
    /// future cancels the call.
    ///
    /// # Errors
    ///
    /// [`CallError`]; in particular [`CallError::Untrusted`] for an answer whose receipt does not vouch for it.
    pub async fn call(
        &self,
        peer: AgentId,
        addrs: &[SocketAddr],
        request: CallRequest,
    ) -> Result<CallAnswer, CallError> {
        let (started, waited) = (Instant::now(), request.deadline);
        let work = async { Box::pin(self.0.open(peer, addrs, &request)).await?.collect().await };
        let timed_out = CallError::TimedOut { peer, waited };
        let result = tokio::time::timeout(waited, work).await.unwrap_or(Err(timed_out));
        result.map_err(|error| error.at_deadline(started, waited))
    }

    /// Calls `peer` and returns as soon as its answer begins, for answers whose items are wanted as they come.
    ///
    /// # Errors
    ///
    /// [`CallError`].
    pub async fn open(
        &self,
        peer: AgentId,
        addrs: &[SocketAddr],
        request: CallRequest,
    ) -> Result<AnswerStream, CallError> {
        let (started, waited) = (Instant::now(), request.deadline);
        let work = self.0.open(peer, addrs, &request);
        let timed_out = CallError::TimedOut { peer, waited };
        let result = tokio::time::timeout(waited, work).await.unwrap_or(Err(timed_out));
        result.map_err(|error| error.at_deadline(started, waited))
    }

    /// How long `peer` takes to answer nothing, a link included if there is none.
    ///
    /// # Errors
    ///
    /// [`CallError`].
    pub async fn ping(&self, peer: AgentId, addrs: &[SocketAddr]) -> Result<Duration, CallError> {
        let started = Instant::now();
        self.0.control(peer, addrs, Asked::of(Method::Ping, &[]), 0).await?;
        Ok(started.elapsed())
    }

    /// What `peer` says of itself in its session with this node, which says the same of itself if it has not yet.
    ///
    /// # Errors
    ///
    /// [`CallError`].
    pub async fn greet(
        &self,
        peer: AgentId,
        addrs: &[SocketAddr],
    ) -> Result<Arc<Hello>, CallError> {
        let waited = CONTROL_DEADLINE;
        let work = async {
            let link = self.0.link(peer, addrs).await?;
            self.0.greet(peer, &link).await.map_err(|attempt| attempt.into_error(peer))
        };
        tokio::time::timeout(waited, work)
            .await
            .unwrap_or(Err(CallError::TimedOut { peer, waited }))
    }

    /// Says hello on the link to `peer` if there is one and nobody has yet, without anybody waiting for it.
    pub fn greet_meanwhile(&self, peer: AgentId) {
        let Some(link) = self.0.transport.0.table().preferred(peer, Protocol::Rpc) else { return };
        if link.greeting.theirs().is_some() {
            return;
        }
        let shared = Arc::clone(&self.0);
        self.0.transport.0.runtime.spawn(async move {
            let greeted = tokio::time::timeout(CONTROL_DEADLINE, shared.greet(peer, &link)).await;
            if !matches!(greeted, Ok(Ok(_))) {
                debug!(peer = %peer.short(), "a peer did not answer a hello");
            }
        });
    }

    /// The proof of `peer` that its audit log only grew, in canonical bytes; unchecked. It must have said hello.
    ///
    /// # Errors
    ///
    /// [`CallError`].
    pub async fn growth(&self, peer: AgentId, asked: Growth) -> Result<Bytes, CallError> {
        let body = asked.encode();
        self.0.control(peer, &[], Asked::of(Method::Growth, &body), MAX_PROOF_LEN).await
    }

    /// The passages from `key` to the key of `peer`, unchecked ([`comity_trust::succession::Succession::from_bytes`]).
    ///
    /// # Errors
    ///
    /// [`CallError`]; in particular that the peer never had that key.
    pub async fn succession(
        &self,
        peer: AgentId,
        addrs: &[SocketAddr],
        key: &AgentId,
    ) -> Result<Bytes, CallError> {
        let asked = Asked::of(Method::Succession, key.as_bytes());
        self.0.control(peer, addrs, asked, MAX_SUCCESSION).await
    }

    /// Leaves a signature under a checkpoint of the audit log of `peer`. It must have said hello.
    ///
    /// # Errors
    ///
    /// [`CallError`].
    pub async fn cosign(&self, peer: AgentId, cosigned: &Cosigned) -> Result<(), CallError> {
        let body = cosigned.encode();
        self.0.control(peer, &[], Asked::of(Method::Cosign, &body), 0).await.map(drop)
    }

    /// The signed record of `peer` for whoever shows these grants and wants `capability`. Its signature is for the caller to check.
    ///
    /// # Errors
    ///
    /// [`CallError`]; in particular what is wrong with the grants, if they do not allow it.
    pub async fn record_for(
        &self,
        peer: AgentId,
        addrs: &[SocketAddr],
        capability: &str,
        grants: &[u8],
    ) -> Result<Bytes, CallError> {
        let asked = Asked { grants: Some(grants), capability, ..Asked::of(Method::Record, &[]) };
        self.0.control(peer, addrs, asked, super::RECORD_BYTES_MAX).await
    }

    /// The signed record of `peer`: the latest, or the one with this hash; with the secret of a private group, the one for its members.
    /// Its signature is for the caller to check.
    ///
    /// # Errors
    ///
    /// [`CallError`]; in particular [`CallError::Untrusted`] for a record of another hash.
    pub async fn record(
        &self,
        peer: AgentId,
        addrs: &[SocketAddr],
        hash: Option<Hash>,
        group: Option<&GroupSecret>,
    ) -> Result<Bytes, CallError> {
        let body = hash.as_ref().map_or(&[][..], |hash| hash.as_bytes());
        let asked = Asked { group, ..Asked::of(Method::Record, body) };
        let record = self.0.control(peer, addrs, asked, super::RECORD_BYTES_MAX).await?;
        match hash {
            Some(hash) if Hash::of(&record) != hash => {
                Err(CallError::Untrusted { peer, reason: Distrust::Record })
            }
            Some(_) | None => Ok(record),
        }
    }

    /// Asks `peer` something about results that are shared, as a member of `group` if one is given; the answer has at most `limit` bytes.
    ///
    /// # Errors
    ///
    /// [`CallError`].
    pub(crate) async fn ask_results(
        &self,
        peer: AgentId,
        addrs: &[SocketAddr],
        question: &[u8],
        group: Option<&GroupSecret>,
        limit: usize,
    ) -> Result<Bytes, CallError> {
        let asked = Asked { group, ..Asked::of(Method::Results, question) };
        self.0.control(peer, addrs, asked, limit).await
    }

    /// Has `peer` work out an answer and commit to it under the name `job`; [`crate::results`] asks for the answer afterwards.
    ///
    /// # Errors
    ///
    /// [`CallError`].
    pub(crate) async fn commit(
        &self,
        peer: AgentId,
        addrs: &[SocketAddr],
        request: &CallRequest,
        job: Hash,
    ) -> Result<Hash, CallError> {
        let waited = request.deadline;
        let work = self.0.commit(peer, addrs, request, job);
        tokio::time::timeout(waited, work)
            .await
            .unwrap_or(Err(CallError::TimedOut { peer, waited }))
    }

    /// Asks `peer` something about trust.
    ///
    /// # Errors
    ///
    /// [`CallError`].
    pub async fn ask_trust(
        &self,
        peer: AgentId,
        addrs: &[SocketAddr],
        question: &[u8],
    ) -> Result<Bytes, CallError> {
        let asked = Asked::of(Method::Trust, question);
        self.0.control(peer, addrs, asked, super::TRUST_BYTES_MAX).await
    }

    /// Asks `peer` something about trust whose answer is bound to the session, and returns in which session it was answered. `grants` are shown
    /// along, at most [`super::GRANTS_BYTES_MAX`] of them.
    ///
    /// # Errors
    ///
    /// [`CallError`].
    pub async fn ask_bound(
        &self,
        peer: AgentId,
        addrs: &[SocketAddr],
        question: &[u8],
        grants: Option<&[u8]>,
    ) -> Result<(Bytes, Hash), CallError> {
        let asked = Asked { grants, ..Asked::of(Method::Trust, question) };
        let waited = CONTROL_DEADLINE;
        let work = async {
            let mut attempts = 1;
            loop {
                let link = self.0.link(peer, addrs).await?;
                match self.0.control_on(peer, &link, asked, super::TRUST_BYTES_MAX).await? {
                    Ok(answer) => return Ok((answer, link.session)),
                    Err(_) if attempts < ATTEMPTS_MAX => attempts += 1,
                    Err(error) => return Err(error),
                }
            }
        };
        tokio::time::timeout(waited, work)
            .await
            .unwrap_or(Err(CallError::TimedOut { peer, waited }))
    }

    /// The session of the link that a call to `peer` would take, if there is one.
    #[must_use]
    pub fn session(&self, peer: &AgentId) -> Option<Hash> {
        let link = self.0.transport.0.table().preferred(*peer, Protocol::Rpc)?;
        Some(link.session)
    }
}

impl Shared {
    async fn open(
        self: &Arc<Self>,
        peer: AgentId,
        addrs: &[SocketAddr],
        request: &CallRequest,
    ) -> Result<AnswerStream, CallError> {
        if request.body.len() > wire::REQUEST_BYTES_MAX {
            return Err(CallError::RequestTooLarge {
                bytes: request.body.len(),
                limit: wire::REQUEST_BYTES_MAX,
            });
        }
        if let Some(grants) = &request.grants
            && grants.len() > wire::GRANTS_BYTES_MAX
        {
            return Err(CallError::RequestTooLarge {
                bytes: grants.len(),
                limit: wire::GRANTS_BYTES_MAX,
            });
        }
        let want = Want {
            peer,
            addrs,
            request,
            request_hash: Hash::of(&request.body),
            started: Instant::now(),
        };
        let mut attempts = 1;
        loop {
            match self.attempt(&want).await? {
                Ok(answer) => return Ok(answer),
                Err(Attempt::NotBegun) if attempts < ATTEMPTS_MAX => attempts += 1,
                Err(Attempt::Lost(_)) if request.idempotent && attempts < ATTEMPTS_MAX => {
                    attempts += 1
                }
                Err(attempt) => return Err(attempt.into_error(peer)),
            }
        }
    }

    async fn attempt(
        self: &Arc<Self>,
        want: &Want<'_>,
    ) -> Result<Result<AnswerStream, Attempt>, CallError> {
        let mut nonce = None;
        let early = || {
            want.request.may_be_early().then(|| {
                let nonce = *nonce.insert(Hash(rand::rng().random()));
                wire::frame(&RequestFrame { nonce: Some(nonce), ..want.frame(0, None) })
            })
        };
        let reach = self.transport.0.reach(want.peer, want.addrs, Protocol::Rpc, early).await?;
        let connect = want.started.elapsed();
        match (reach, nonce) {
            (Reach::Link(link), _) => Ok(self.ask(want, &link, connect).await),
            (Reach::Early(mut early), nonce) => {
                let result = match (early.stream.take(), nonce) {
                    (Some(stream), Some(nonce)) => tokio::select! {
                        biased;
                        result = Box::pin(self.listen_early(want, stream, nonce, connect)) => result,
                        error = early.failed() => return Err(error.into()),
                    },
                    (Some(_) | None, _) => Err(Attempt::NotBegun),
                };
                if let Err(Attempt::NotBegun) = result {
                    return Box::pin(self.after_handshake(want, early, connect)).await;
                }
                Ok(result)
            }
        }
    }

    /// The callee did not take the request as early data.
    async fn after_handshake(
        self: &Arc<Self>,
        want: &Want<'_>,
        early: EarlyLink,
        connect: Duration,
    ) -> Result<Result<AnswerStream, Attempt>, CallError> {
        let link = early.settled().await?;
        Ok(self.ask(want, &link, connect).await)
    }

    async fn ask(
        self: &Arc<Self>,
        want: &Want<'_>,
        link: &Arc<Link>,
        connect: Duration,
    ) -> Result<AnswerStream, Attempt> {
        if want.request.needs_hello() && link.greeting.theirs().is_none() {
            Box::pin(self.greet(want.peer, link)).await?;
        }
        let mut loan =
            link.borrow().await.map_err(|error| Attempt::connection(want.peer, &error))?;
        let number = link.next_number();
        let membership = want
            .request
            .group
            .as_ref()
            .map(|group| group.membership(&link.session, &self.transport.id(), &want.peer));
        let frame = wire::frame(&want.frame(number, membership));
        let written = loan.stream().send.write_chunk(frame).await;
        if !matches!(written, Ok(()) | Err(WriteError::Stopped(_))) {
            return Err(written.map_or_else(|error| want.unwritten(&error), |()| Attempt::NotBegun));
        }
        let expected = want.expected(self.transport.id(), link.session, number);
        let begun = AnswerStream::begin(self, Carrier::Pooled(loan), expected, want, connect).await;
        match (written, begun) {
            // The callee minds repetition though the caller does not.
            (_, Err(Attempt::Final(CallError::Failed { code: ErrorCode::HelloFirst, .. })))
                if link.greeting.theirs().is_none() =>
            {
                Box::pin(self.greet(want.peer, link)).await?;
                Err(Attempt::NotBegun)
            }
            (Ok(()), begun) => begun,
            // The callee did not read it all. It may have said why; if not, it had given up this stream since the last call.
            (Err(_), Err(Attempt::Final(said @ CallError::Failed { .. }))) => {
                Err(Attempt::Final(said))
            }
            (Err(_), _) => Err(Attempt::NotBegun),
        }
    }

    async fn commit(
        self: &Arc<Self>,
        peer: AgentId,
        addrs: &[SocketAddr],
        request: &CallRequest,
        job: Hash,
    ) -> Result<Hash, CallError> {
        let want = Want {
            peer,
            addrs,
            request,
            request_hash: Hash::of(&request.body),
            started: Instant::now(),
        };
        let link = self.link(peer, addrs).await?;
        let failed = |attempt: Attempt| attempt.into_error(peer);
        self.greet(peer, &link).await.map_err(failed)?;
        let broken = |error| failed(Attempt::connection(peer, &error));
        let mut loan = link.borrow().await.map_err(broken)?;
        let membership = request
            .group
            .as_ref()
            .map(|group| group.membership(&link.session, &self.transport.id(), &peer));
        let frame = RequestFrame { job: Some(job), ..want.frame(link.next_number(), membership) };
        let stream = loan.stream();
        let written = stream.send.write_chunk(wire::frame(&frame)).await;
        written.map_err(|error| failed(want.unwritten(&error)))?;
        let said = super::answer::read_plain(peer, stream, 32).await.map_err(failed)?;
        loan.give_back();
        let commitment: [u8; 32] = (&said[..]).try_into().map_err(|_| CallError::Protocol {
            peer,
            what: format!("a commitment of {} bytes", said.len()),
        })?;
        Ok(Hash(commitment))
    }

    async fn listen_early(
        self: &Arc<Self>,
        want: &Want<'_>,
        stream: BiStream,
        nonce: Hash,
        connect: Duration,
    ) -> Result<AnswerStream, Attempt> {
        let me = self.transport.id();
        let expected = want.expected(me, super::early_session(&me, &want.peer, &nonce), 0);
        AnswerStream::begin(self, Carrier::Early(EarlyStream(stream)), expected, want, connect)
            .await
    }

    /// Tells the peer of this node and hears what it says of itself, once on a link.
    async fn greet(&self, peer: AgentId, link: &Arc<Link>) -> Result<Arc<Hello>, Attempt> {
        let _turn = link.greeting.turn.lock().await;
        // Whoever said hello first, the other has answered.
        if let Some(known) = link.greeting.theirs() {
            return Ok(known);
        }
        let mine = self.handler.hello(&peer).encode();
        let asked = Asked::of(Method::Hello, &mine[..]);
        let said = match self.control_on(peer, link, asked, HELLO_BYTES_MAX).await {
            Ok(Ok(said)) => said,
            // Nothing was executed.
            Ok(Err(_)) => return Err(Attempt::NotBegun),
            Err(error) => return Err(Attempt::Final(error)),
        };
        let hello = Hello::decode(&said).map_err(|error| {
            Attempt::Final(CallError::Protocol {
                peer,
                what: format!("a malformed hello: {error}"),
            })
        })?;
        let hello = Arc::new(hello);
        if link.greeting.hear(Arc::clone(&hello)) {
            self.handler.greeted(&peer, &link.session, &hello);
        }
        Ok(hello)
    }

    async fn link(&self, peer: AgentId, addrs: &[SocketAddr]) -> Result<Arc<Link>, CallError> {
        match self.transport.0.reach(peer, addrs, Protocol::Rpc, || None).await? {
            Reach::Link(link) => Ok(link),
            Reach::Early(early) => Ok(early.settled().await?),
        }
    }

    /// A method that signs nothing.
    async fn control(
        &self,
        peer: AgentId,
        addrs: &[SocketAddr],
        asked: Asked<'_>,
        limit: usize,
    ) -> Result<Bytes, CallError> {
        let waited = CONTROL_DEADLINE;
        let work = async {
            let mut attempts = 1;
            loop {
                match self.control_once(peer, addrs, asked, limit).await? {
                    Ok(answer) => return Ok(answer),
                    Err(_) if attempts < ATTEMPTS_MAX => attempts += 1,
                    Err(error) => return Err(error),
                }
            }
        };
        tokio::time::timeout(waited, work)
            .await
            .unwrap_or(Err(CallError::TimedOut { peer, waited }))
    }

    /// The inner error is worth another attempt.
    async fn control_once(
        &self,
        peer: AgentId,
        addrs: &[SocketAddr],
        asked: Asked<'_>,
        limit: usize,
    ) -> Result<Result<Bytes, CallError>, CallError> {
        let link = self.link(peer, addrs).await?;
        self.control_on(peer, &link, asked, limit).await
    }

    async fn control_on(
        &self,
        peer: AgentId,
        link: &Arc<Link>,
        asked: Asked<'_>,
        limit: usize,
    ) -> Result<Result<Bytes, CallError>, CallError> {
        let interrupted = |error: &iroh::endpoint::ConnectionError| CallError::Interrupted {
            peer,
            code: peer_code(error),
        };
        let mut loan = match link.borrow().await {
            Ok(loan) => loan,
            Err(error) => return Ok(Err(interrupted(&error))),
        };
        let deadline_ms = u32::try_from(CONTROL_DEADLINE.as_millis()).unwrap_or(u32::MAX);
        let Asked { method, body, group, grants, capability } = asked;
        let request = RequestFrame {
            method,
            number: link.next_number(),
            deadline_ms,
            capability,
            body,
            repeatable: true,
            descriptor: None,
            interface: None,
            nonce: None,
            membership: group
                .map(|group| group.membership(&link.session, &self.transport.id(), &peer)),
            grants,
            job: None,
        };
        let stream = loan.stream();
        if stream.send.write_chunk(wire::frame(&request)).await.is_err() {
            return Ok(Err(CallError::Interrupted { peer, code: None }));
        }
        let heard = link.received();
        let read = {
            let mut reading = std::pin::pin!(super::answer::read_plain(peer, stream, limit));
            match tokio::time::timeout(LINK_SILENCE_MAX, reading.as_mut()).await {
                Ok(read) => read,
                // Not even an acknowledgement: what waits on this link waits for nobody. The next attempt dials.
                Err(_) if link.received() == heard => {
                    link.close(CloseCode::Silent);
                    return Ok(Err(CallError::Interrupted { peer, code: None }));
                }
                Err(_) => reading.await,
            }
        };
        match read {
            Ok(answer) => {
                if answer.len() as u64 <= wire::REUSE_BYTES_MAX {
                    loan.give_back();
                }
                Ok(Ok(answer))
            }
            Err(Attempt::Final(error)) => Err(error),
            Err(attempt) => Ok(Err(attempt.into_error(peer))),
        }
    }
}

impl Want<'_> {
    fn frame(&self, number: u64, membership: Option<Hash>) -> RequestFrame<'_> {
        let left = self.request.deadline.saturating_sub(self.started.elapsed());
        RequestFrame {
            method: Method::Call,
            number,
            // Rounded up, so that the callee never ends before the caller.
            deadline_ms: u32::try_from(left.as_micros().div_ceil(1_000)).unwrap_or(u32::MAX),
            capability: &self.request.capability,
            body: &self.request.body,
            repeatable: self.request.idempotent,
            descriptor: self.request.descriptor,
            interface: self.request.interface,
            nonce: None,
            membership,
            grants: self.request.grants.as_deref(),
            job: None,
        }
    }

    fn expected(&self, caller: AgentId, session: Hash, number: u64) -> Expected {
        Expected {
            callee: self.peer,
            caller,
            session,
            number,
            request: self.request_hash,
            capability: self.request.capability.clone(),
            descriptor: self.request.descriptor,
            interface: self.request.interface,
        }
    }

    fn unwritten(&self, error: &WriteError) -> Attempt {
        match error {
            WriteError::ConnectionLost(error) => Attempt::connection(self.peer, error),
            WriteError::ZeroRttRejected => Attempt::NotBegun,
            WriteError::Stopped(_) | WriteError::ClosedStream => Attempt::NotBegun,
        }
    }
}
