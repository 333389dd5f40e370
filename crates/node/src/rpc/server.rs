//! The callee: reads requests from the streams peers open, has the handler answer, signs, sends.

mod pieces;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use comity_core::canonical::{self, Floats, MAX_JSON_DEPTH};
use comity_core::receipt::{Receipt, ShortText};
use comity_core::{AgentId, Canonical as _, DecodeError, Hash};
use comity_trust::log::{Event, short_text};
use futures_util::future::{BoxFuture, FutureExt as _, TryFutureExt as _};
use futures_util::stream::{BoxStream, StreamExt as _};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::signer::Signer;
use super::wire::{self, Method, RequestFrame, ResponseFrame};
use super::{
    CallFailure, CallHandler, Caller, Clock, Cosigned, ErrorCode, Growth, Hello, IncomingCall,
    Offer, Reply, RpcLimits,
};
use crate::audit::Audit;
use crate::transport::{BiStream, CallStream, CallStreams, InUse, Link, StreamCode, locked};

/// Requests up to this length are not counted against [`RpcLimits::request_bytes_total_max`].
const SMALL_REQUEST_BYTES: usize = 16 * 1024;
/// The unit in which longer requests are counted.
const BUDGET_UNIT_BYTES: usize = 1024;
/// Items of a streamed answer are gathered up to this many bytes while they come without a pause.
const GATHER_BYTES: usize = 32 * 1024;
/// How long an answer about trust may take to make: it is written to disk at most.
const TRUST_PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of whole answers that nobody signs here - results handed over, above all - on their way at once.
const PLAIN_BYTES_TOTAL_MAX: usize = 64 << 20;
/// How long handing one over may take: a peer that does not read it keeps others from theirs.
const PLAIN_PATIENCE: Duration = Duration::from_secs(30);
/// Large answers give way to small ones of the same link.
const BULK_PRIORITY: i32 = -1;

/// Shared by all streams.
pub(super) struct Server {
    pub(super) me: AgentId,
    pub(super) handler: Arc<dyn CallHandler>,
    pub(super) limits: RpcLimits,
    pub(super) clock: Clock,
    pub(super) signer: Signer,
    pub(super) audit: Audit,
    pub(super) runtime: tokio::runtime::Handle,
    running: Arc<AtomicUsize>,
    budget: Arc<Semaphore>,
    plain: Arc<Semaphore>,
    peers: Mutex<HashMap<AgentId, Weak<AtomicUsize>>>,
}

impl Server {
    pub(super) fn new(
        me: AgentId,
        handler: Arc<dyn CallHandler>,
        limits: RpcLimits,
        clock: Clock,
        signer: Signer,
        audit: Audit,
        runtime: tokio::runtime::Handle,
    ) -> Self {
        let units =
            (limits.request_bytes_total_max / BUDGET_UNIT_BYTES).min(Semaphore::MAX_PERMITS);
        Self {
            me,
            handler,
            limits,
            clock,
            signer,
            audit,
            runtime,
            running: Arc::default(),
            budget: Arc::new(Semaphore::new(units)),
            plain: Arc::new(Semaphore::new(PLAIN_BYTES_TOTAL_MAX / BUDGET_UNIT_BYTES)),
            peers: Mutex::default(),
        }
    }

    /// Serves the streams that peers open until the transport is gone.
    pub(super) async fn run(self: Arc<Self>, mut streams: CallStreams) {
        while let Some(CallStream { peer, remote, link, stream }) = streams.0.recv().await {
            let running = self.running_of(peer);
            let session =
                Session { server: Arc::clone(&self), peer, remote, link, running, stream };
            self.runtime.spawn(session.serve());
        }
    }

    /// The count of calls of one peer, shared by its streams and gone with the last of them.
    fn running_of(&self, peer: AgentId) -> Arc<AtomicUsize> {
        let mut peers = locked(&self.peers);
        if let Some(count) = peers.get(&peer).and_then(Weak::upgrade) {
            return count;
        }
        peers.retain(|_, count| count.strong_count() > 0);
        let count = Arc::default();
        peers.insert(peer, Arc::downgrade(&count));
        count
    }
}

/// One place among the calls in flight, of the node and of the peer.
struct Place([Arc<AtomicUsize>; 2]);

impl Place {
    fn take(places: [(&Arc<AtomicUsize>, usize); 2]) -> Option<Self> {
        let place = Self(places.map(|(count, _)| {
            count.fetch_add(1, Ordering::AcqRel);
            Arc::clone(count)
        }));
        let fits = places.iter().all(|(count, limit)| count.load(Ordering::Acquire) <= *limit);
        fits.then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for count in &self.0 {
            count.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

/// One stream of one peer.
struct Session {
    server: Arc<Server>,
    peer: AgentId,
    remote: Option<SocketAddr>,
    link: Option<Arc<Link>>,
    running: Arc<AtomicUsize>,
    stream: BiStream,
}

/// Why a call ended without an answer.
enum End {
    /// The caller is told why; the stream is over.
    Failed(CallFailure),
    /// There is nobody to tell.
    Gone,
}

impl From<CallFailure> for End {
    fn from(failure: CallFailure) -> Self {
        Self::Failed(failure)
    }
}

impl From<iroh::endpoint::WriteError> for End {
    fn from(_: iroh::endpoint::WriteError) -> Self {
        Self::Gone
    }
}

fn fail<T>(code: ErrorCode, message: impl Into<String>) -> Result<T, End> {
    Err(CallFailure::new(code, message).into())
}

/// What a call holds while it is executed.
struct Held {
    _place: Place,
    _budget: Option<OwnedSemaphorePermit>,
    _link: Option<InUse>,
}

/// A request that may be executed.
struct Accepted {
    offer: Arc<Offer>,
    caller: Caller,
    session: Hash,
    number: u64,
    request: Hash,
    deadline: Instant,
    started_ms: u64,
    valid_for: Duration,
    /// The caller wants a commitment to the answer, under this name.
    job: Option<Hash>,
}

impl Session {
    async fn serve(mut self) {
        loop {
            let length = match wire::read_length(&mut self.stream).await {
                Ok(Some(length)) => length,
                Ok(None) => {
                    let _ = self.stream.send.finish();
                    return;
                }
                Err(_) => return self.stream.abandon(StreamCode::Malformed),
            };
            match self.serve_one(length).await {
                Ok(()) => {}
                Err(End::Gone) => return self.stream.abandon(StreamCode::Cancelled),
                Err(End::Failed(failure)) => return self.report(&failure).await,
            }
        }
    }

    /// Tells the caller why, and ends the stream: what else the caller may have sent on it is of no interest.
    async fn report(&mut self, failure: &CallFailure) {
        let frame = wire::frame(&ResponseFrame::Error {
            code: failure.code.number(),
            message: wire::cut(&failure.message),
        });
        let written = tokio::time::timeout(
            self.server.limits.request_patience,
            self.stream.send.write_chunk(frame),
        )
        .await;
        if !matches!(written, Ok(Ok(()))) {
            return self.stream.abandon(StreamCode::Cancelled);
        }
        let _ = self.stream.send.finish();
        let _ = self.stream.recv.stop(StreamCode::NoAnswer.varint());
    }

    async fn serve_one(&mut self, length: usize) -> Result<(), End> {
        let link = self.link.as_ref().map(Link::begin);
        let limits = &self.server.limits;
        if length > wire::REQUEST_FRAME_MAX {
            return fail(
                ErrorCode::TooLarge,
                format!("a request has at most {} bytes", wire::REQUEST_BYTES_MAX),
            );
        }
        let Some(place) = Place::take([
            (&self.server.running, limits.calls_max),
            (&self.running, limits.calls_per_peer_max),
        ]) else {
            return fail(
                ErrorCode::Busy,
                "too many calls in flight: wait for one to end, then try again",
            );
        };
        let budget = self.reserve(length)?;
        let held = Held { _place: place, _budget: budget, _link: link };
        let bytes = match tokio::time::timeout(
            limits.request_patience,
            wire::read_body(&mut self.stream, length),
        )
        .await
        {
            Ok(Ok(bytes)) => bytes,
            Ok(Err(_)) => return Err(End::Gone),
            Err(_) => return fail(ErrorCode::Timeout, "the request did not arrive in time"),
        };
        let request = match RequestFrame::decode(&bytes) {
            Ok(request) => request,
            Err(error) => {
                return fail(ErrorCode::InvalidInput, format!("malformed request frame: {error}"));
            }
        };
        match request.method {
            Method::Ping => Ok(self.send_whole(&[], &[]).await?),
            Method::Hello => self.greet(&request).await,
            Method::Growth | Method::Cosign => self.attest(&request).await,
            Method::Succession => {
                let Ok(key) = <[u8; 32]>::try_from(request.body) else {
                    return fail(ErrorCode::InvalidInput, "a key has 32 bytes");
                };
                // What is no proper key was never anybody's.
                let key = AgentId::from_bytes(&key).ok();
                let Some(passages) = key.and_then(|key| self.server.handler.succession(&key))
                else {
                    return fail(ErrorCode::NotFound, "this agent never had that key");
                };
                Ok(self.send_whole(&passages, &[]).await?)
            }
            Method::Record => {
                let caller = self.caller(&request, &bytes);
                self.send_record(&request, &caller).await
            }
            Method::Trust => {
                let caller = self.caller(&request, &bytes);
                self.answer_trust(caller, bytes.slice_ref(request.body)).await
            }
            Method::Results => {
                let caller = self.caller(&request, &bytes);
                self.answer_results(caller, bytes.slice_ref(request.body)).await
            }
            Method::Piece => {
                let caller = self.caller(&request, &bytes);
                self.send_piece(caller, bytes.slice_ref(request.body)).await
            }
            Method::Call => {
                let name = short_text(request.capability);
                let done = match self.accept(&request, self.caller(&request, &bytes)) {
                    Ok(accepted) => {
                        self.execute(accepted, bytes.slice_ref(request.body), held).await
                    }
                    Err(end) => Err(end),
                };
                self.log_end(name, &done);
                done
            }
        }
    }

    /// Answers are logged where they are signed; here, that there was none.
    fn log_end(&self, capability: ShortText, done: &Result<(), End>) {
        let reason = match done {
            // The caller repeats it after the handshake, or after a hello.
            Ok(())
            | Err(End::Failed(CallFailure {
                code: ErrorCode::TooEarly | ErrorCode::HelloFirst,
                ..
            })) => return,
            Err(End::Failed(failure)) => failure.reason.unwrap_or_else(|| failure.code.name()),
            Err(End::Gone) => "caller-gone",
        };
        self.server.audit.denied(&self.peer, capability, reason);
    }

    fn reserve(&self, length: usize) -> Result<Option<OwnedSemaphorePermit>, End> {
        if length <= SMALL_REQUEST_BYTES {
            return Ok(None);
        }
        let units = u32::try_from(length.div_ceil(BUDGET_UNIT_BYTES)).unwrap_or(u32::MAX);
        match Arc::clone(&self.server.budget).try_acquire_many_owned(units) {
            Ok(permit) => Ok(Some(permit)),
            Err(_) => fail(ErrorCode::Busy, "too many large requests in flight: try again soon"),
        }
    }

    /// Who asks, and what it shows. In early data nothing is shown.
    fn caller(&self, request: &RequestFrame<'_>, frame: &Bytes) -> Caller {
        let link = self.link.as_ref().filter(|_| !self.stream.recv.is_0rtt());
        let session = link.map(|link| link.session).filter(|_| request.nonce.is_none());
        Caller {
            agent: self.peer,
            session,
            hello: link.and_then(|link| link.greeting.theirs()),
            membership: request.membership.filter(|_| session.is_some()),
            grants: request
                .grants
                .filter(|_| session.is_some())
                .map(|grants| frame.slice_ref(grants)),
            remote: self.remote,
        }
    }

    /// Takes in what the caller says of itself, and answers with the same of this node.
    async fn greet(&mut self, request: &RequestFrame<'_>) -> Result<(), End> {
        let link = self.link.as_ref().filter(|_| !self.stream.recv.is_0rtt());
        let Some(link) = link.map(Arc::clone) else { return too_early() };
        let hello = match Hello::decode(request.body) {
            Ok(hello) => Arc::new(hello),
            Err(error) => {
                return malformed("hello", &error);
            }
        };
        if link.greeting.hear(Arc::clone(&hello)) {
            self.server.handler.greeted(&self.peer, &link.session, &hello);
        }
        let mine = self.server.handler.hello(&self.peer).encode();
        Ok(self.send_whole(&mine, &[]).await?)
    }

    /// What a peer that said hello asks of the audit log, or says of it.
    async fn attest(&mut self, request: &RequestFrame<'_>) -> Result<(), End> {
        let link = self.link.as_ref().filter(|_| !self.stream.recv.is_0rtt());
        if link.is_none_or(|link| link.greeting.theirs().is_none()) {
            return fail(ErrorCode::HelloFirst, "say hello on this link first");
        }
        let handler = &self.server.handler;
        let work: BoxFuture<'static, Result<Bytes, CallFailure>> = if request.method
            == Method::Growth
        {
            match Growth::decode(request.body) {
                Ok(asked) => handler.growth(asked),
                Err(error) => return malformed("question about growth", &error),
            }
        } else {
            match Cosigned::decode(request.body) {
                Ok(said) => Box::pin(handler.cosigned(self.peer, said).map_ok(|()| Bytes::new())),
                Err(error) => return malformed("cosignature", &error),
            }
        };
        let patience = self.server.limits.request_patience;
        match tokio::time::timeout(patience, work).await {
            Ok(Ok(answer)) => Ok(self.send_whole(&answer, &[]).await?),
            Ok(Err(failure)) => Err(End::Failed(failure)),
            Err(_) => fail(ErrorCode::Busy, "the audit log is busy: try again later"),
        }
    }

    async fn answer_trust(&mut self, caller: Caller, body: Bytes) -> Result<(), End> {
        if caller.is_early() {
            return too_early();
        }
        if body.len() > wire::TRUST_BYTES_MAX {
            let text =
                format!("a question about trust has at most {} bytes", wire::TRUST_BYTES_MAX);
            return fail(ErrorCode::TooLarge, text);
        }
        let work = AssertUnwindSafe(self.server.handler.trust(caller, body)).catch_unwind();
        match tokio::time::timeout(TRUST_PATIENCE, work).await {
            Ok(Ok(Ok(answer))) if answer.len() <= wire::TRUST_BYTES_MAX => {
                Ok(self.send_whole(&answer, &[]).await?)
            }
            Ok(Ok(Ok(_))) => fail(ErrorCode::Internal, "the answer is too long to send"),
            Ok(Ok(Err(failure))) => Err(failure.into()),
            Ok(Err(_)) => panicked(),
            Err(_) => deadline_passed(),
        }
    }

    async fn answer_results(&mut self, caller: Caller, body: Bytes) -> Result<(), End> {
        if caller.is_early() {
            return too_early();
        }
        let work = self.server.handler.results(caller, self.remote, body);
        let work = AssertUnwindSafe(work).catch_unwind();
        match tokio::time::timeout(TRUST_PATIENCE, work).await {
            Ok(Ok(Ok(answer))) => self.send_plain(&answer).await,
            Ok(Ok(Err(failure))) => Err(failure.into()),
            Ok(Err(_)) => panicked(),
            Err(_) => deadline_passed(),
        }
    }

    /// Sends what nobody signs here, in one frame or in several.
    async fn send_plain(&mut self, answer: &Bytes) -> Result<(), End> {
        if answer.len() <= wire::CHUNK_BYTES_MAX {
            return Ok(self.send_whole(answer, &[]).await?);
        }
        let units = u32::try_from(answer.len().div_ceil(BUDGET_UNIT_BYTES)).unwrap_or(u32::MAX);
        let budget = Arc::clone(&self.server.plain).try_acquire_many_owned(units);
        let Ok(_budget) = budget else {
            return fail(ErrorCode::Busy, "too many large answers on their way: try again soon");
        };
        let deadline = Instant::now() + PLAIN_PATIENCE;
        let mut out = BytesMut::new();
        wire::push_frame(&mut out, &ResponseFrame::Head);
        self.send_item(answer, &mut out, deadline).await?;
        wire::push_frame(&mut out, &ResponseFrame::End { receipt: &[] });
        self.flush(&mut out, deadline).await?;
        let _ = self.stream.send.set_priority(0);
        Ok(())
    }

    async fn send_record(
        &mut self,
        request: &RequestFrame<'_>,
        caller: &Caller,
    ) -> Result<(), End> {
        let hash = match <[u8; 32]>::try_from(request.body) {
            Ok(hash) => Some(Hash(hash)),
            Err(_) if request.body.is_empty() => None,
            Err(_) => {
                return fail(
                    ErrorCode::InvalidInput,
                    "a record is asked for by 32 bytes of hash, or none for the latest",
                );
            }
        };
        if !request.capability.is_empty() {
            // Who names what it wants the record for is told as a call would be.
            self.server.handler.offer(request.capability, caller)?;
        }
        match self.server.handler.record(hash.as_ref(), caller) {
            Some(record) if record.len() <= super::RECORD_BYTES_MAX => {
                Ok(self.send_whole(&record, &[]).await?)
            }
            Some(_) => fail(ErrorCode::Internal, "the record is too long to send"),
            None => fail(ErrorCode::NotFound, "no such record: ask for the latest"),
        }
    }

    /// Decides whether a call may be executed.
    fn accept(&self, request: &RequestFrame<'_>, caller: Caller) -> Result<Accepted, End> {
        // What a call shows for itself is bound to a session, and early data has none that cannot be repeated.
        if caller.is_early() && (request.membership.is_some() || request.grants.is_some()) {
            return too_early();
        }
        let offer = self.server.handler.offer(request.capability, &caller)?;
        if request.descriptor.is_some_and(|wanted| wanted != offer.descriptor)
            || request.interface.is_some_and(|wanted| wanted != offer.interface)
        {
            return fail(
                ErrorCode::NotFound,
                format!("`{}` has changed: fetch the record again", offer.name),
            );
        }
        let session = match (request.nonce, caller.session) {
            // Nothing but what may be executed twice is taken from early data, whatever the caller says about it.
            (Some(nonce), _) if request.repeatable && offer.idempotent => {
                super::early_session(&self.peer, &self.server.me, &nonce)
            }
            (None, Some(session)) => session,
            (Some(_), _) | (None, None) => return too_early(),
        };
        let shows = request.membership.is_some() || request.grants.is_some();
        if caller.hello.is_none() && (shows || !(request.repeatable && offer.idempotent)) {
            return fail(
                ErrorCode::HelloFirst,
                "say hello on this link first, then repeat the call",
            );
        }
        if let Err(error) = canonical::check(request.body, MAX_JSON_DEPTH, Floats::Shortest) {
            return fail(
                ErrorCode::InvalidInput,
                format!("the request is not canonical CBOR: {error}"),
            );
        }
        let deadline =
            Duration::from_millis(request.deadline_ms.into()).min(self.server.limits.deadline_max);
        Ok(Accepted {
            valid_for: offer.valid_for(request.body),
            job: request.job,
            offer,
            caller,
            session,
            number: request.number,
            request: Hash::of(request.body),
            deadline: Instant::now() + deadline,
            started_ms: self.server.clock.now().as_millis(),
        })
    }

    async fn execute(&mut self, accepted: Accepted, body: Bytes, held: Held) -> Result<(), End> {
        let cancel = CancellationToken::new();
        let call = IncomingCall {
            offer: Arc::clone(&accepted.offer),
            body,
            caller: accepted.caller.clone(),
            remote: self.remote,
            deadline: accepted.deadline.saturating_duration_since(Instant::now()),
            cancel: cancel.clone(),
            number: accepted.number,
        };
        // Whatever way this call ends, its handler is told that nobody waits.
        let _cancelled = cancel.clone().drop_guard();
        let handler = Arc::clone(&self.server.handler);
        let Ok(mut work) = std::panic::catch_unwind(AssertUnwindSafe(|| handler.call(call))) else {
            return panicked();
        };
        let reply = tokio::select! {
            biased;
            reply = AssertUnwindSafe(&mut work).catch_unwind() => reply,
            () = gone(&mut self.stream) => {
                self.wind_down(&cancel, work, held);
                return Err(End::Gone);
            }
            () = tokio::time::sleep_until(accepted.deadline) => {
                self.wind_down(&cancel, work, held);
                return deadline_passed();
            }
        };
        match reply {
            Ok(Ok(reply)) if accepted.job.is_some() => self.commit(&accepted, reply).await,
            Ok(Ok(Reply::One(item))) => self.send_one(&accepted, &item).await,
            Ok(Ok(Reply::Stream(items))) => self.send_items(&accepted, items).await,
            Ok(Err(failure)) => Err(failure.into()),
            Err(_) => panicked(),
        }
    }

    /// Signs the whole answer and keeps it, and sends what it was committed to.
    async fn commit(&mut self, accepted: &Accepted, reply: Reply) -> Result<(), End> {
        let Some(job) = accepted.job else { return fail(ErrorCode::Internal, "no job") };
        let limit = crate::results::PROMISE_BYTES_MAX;
        let mut body = BytesMut::new();
        let mut items = match reply {
            Reply::One(item) => futures_util::stream::once(std::future::ready(Ok(item))).boxed(),
            Reply::Stream(items) => items,
        };
        loop {
            let next = AssertUnwindSafe(items.next()).catch_unwind();
            match tokio::time::timeout_at(accepted.deadline, next).await {
                Ok(Ok(Some(item))) => body.extend_from_slice(&item?),
                Ok(Ok(None)) => break,
                Ok(Err(_)) => return panicked(),
                Err(_) => return deadline_passed(),
            }
            if body.len() > limit {
                let text = format!("an answer that is committed to has at most {limit} bytes");
                return fail(ErrorCode::TooLarge, text);
            }
        }
        let body = body.freeze();
        let receipt = self.sign(accepted, Hash::of(&body)).await?;
        let commitment = self.server.handler.promise(&self.peer, job, &receipt, body)?;
        Ok(self.send_whole(commitment.as_bytes(), &[]).await?)
    }

    /// Lets a cancelled handler end in its own way, for a while; it keeps its place among the calls in flight until then.
    fn wind_down(
        &self,
        cancel: &CancellationToken,
        work: BoxFuture<'static, Result<Reply, CallFailure>>,
        held: Held,
    ) {
        cancel.cancel();
        let grace = self.server.limits.cancel_grace;
        self.server.runtime.spawn(async move {
            let _ = tokio::time::timeout(grace, AssertUnwindSafe(work).catch_unwind()).await;
            drop(held);
        });
    }

    async fn send_one(&mut self, accepted: &Accepted, item: &Bytes) -> Result<(), End> {
        within_limit(item.len() as u64, self.server.limits.answer_bytes_max)?;
        if item.len() <= wire::CHUNK_BYTES_MAX {
            let receipt = self.sign(accepted, Hash::of(item)).await?;
            return Ok(self.send_whole(item, &receipt).await?);
        }
        let items = futures_util::stream::once(std::future::ready(Ok(item.clone())));
        self.send_items(accepted, items.boxed()).await
    }

    async fn send_whole(
        &mut self,
        body: &[u8],
        receipt: &[u8],
    ) -> Result<(), iroh::endpoint::WriteError> {
        self.stream.send.write_chunk(wire::frame(&ResponseFrame::Whole { body, receipt })).await
    }

    async fn send_items(
        &mut self,
        accepted: &Accepted,
        mut items: BoxStream<'static, Result<Bytes, CallFailure>>,
    ) -> Result<(), End> {
        let mut hasher = blake3::Hasher::new();
        let mut sent = 0_u64;
        let mut out = BytesMut::new();
        wire::push_frame(&mut out, &ResponseFrame::Head);
        loop {
            let mut next = AssertUnwindSafe(items.next()).catch_unwind().now_or_never();
            if next.is_none() && !out.is_empty() {
                // What is about to be there shares a packet with what is: whoever makes it may be waiting for this thread.
                tokio::task::yield_now().await;
                next = AssertUnwindSafe(items.next()).catch_unwind().now_or_never();
            }
            let next = match next {
                Some(next) => next,
                None => {
                    self.flush(&mut out, accepted.deadline).await?;
                    tokio::select! {
                        biased;
                        next = AssertUnwindSafe(items.next()).catch_unwind() => next,
                        () = gone(&mut self.stream) => return Err(End::Gone),
                        () = tokio::time::sleep_until(accepted.deadline) => return deadline_passed(),
                    }
                }
            };
            let item = match next {
                Ok(Some(Ok(item))) => item,
                Ok(Some(Err(failure))) => {
                    // What came before it is the caller's.
                    if sent > 0 {
                        self.flush(&mut out, accepted.deadline).await?;
                    }
                    return Err(failure.into());
                }
                Ok(None) => break,
                Err(_) => return panicked(),
            };
            hasher.update(&item);
            sent = sent.saturating_add(item.len() as u64);
            within_limit(item.len() as u64, self.server.limits.answer_bytes_max)?;
            within_limit(sent, self.server.limits.stream_bytes_max)?;
            self.send_item(&item, &mut out, accepted.deadline).await?;
        }
        let receipt = self.sign(accepted, Hash(*hasher.finalize().as_bytes())).await?;
        wire::push_frame(&mut out, &ResponseFrame::End { receipt: &receipt });
        self.flush(&mut out, accepted.deadline).await?;
        let _ = self.stream.send.set_priority(0);
        Ok(())
    }

    /// Appends one item in chunks, writing whenever enough has gathered.
    async fn send_item(
        &mut self,
        item: &[u8],
        out: &mut BytesMut,
        deadline: Instant,
    ) -> Result<(), End> {
        if item.is_empty() {
            return fail(ErrorCode::Internal, "the capability made an empty item");
        }
        let pieces = item.len().div_ceil(wire::CHUNK_BYTES_MAX);
        for (index, data) in item.chunks(wire::CHUNK_BYTES_MAX).enumerate() {
            wire::push_frame(out, &ResponseFrame::Chunk { data, last: index + 1 == pieces });
            if out.len() >= GATHER_BYTES {
                let _ = self.stream.send.set_priority(BULK_PRIORITY);
                self.flush(out, deadline).await?;
            }
        }
        Ok(())
    }

    /// Writes what has gathered; waits for a slow caller at most until the deadline.
    async fn flush(&mut self, out: &mut BytesMut, deadline: Instant) -> Result<(), End> {
        if out.is_empty() {
            return Ok(());
        }
        match tokio::time::timeout_at(deadline, self.stream.send.write_chunk(out.split().freeze()))
            .await
        {
            Ok(written) => Ok(written?),
            // What was written of the frame cannot be taken back, so there is no place for an error frame.
            Err(_) => Err(End::Gone),
        }
    }

    async fn sign(&self, accepted: &Accepted, response: Hash) -> Result<Bytes, End> {
        let finished_ms = self.server.clock.now().as_millis();
        let offer = &accepted.offer;
        let valid_for = u64::try_from(accepted.valid_for.as_millis()).unwrap_or(u64::MAX);
        let receipt = Receipt {
            version: canonical::Version,
            session: accepted.session,
            number: accepted.number,
            caller: self.peer,
            callee: self.server.me,
            capability: offer.descriptor,
            request: accepted.request,
            response,
            status: 0,
            started_ms: accepted.started_ms,
            finished_ms,
            cost: 0,
            evidence: None,
            leaf: None,
            interface: offer.interface,
            valid_until_ms: finished_ms.saturating_add(valid_for),
            data_version: offer.data_version.clone(),
            name: offer.name.clone(),
        };
        let statement = Hash::of(&receipt.encode());
        let served = Event::CallServed {
            receipt: statement,
            caller: self.peer.into(),
            capability: offer.name.clone(),
            session: accepted.session,
            number: accepted.number,
        };
        let Some((signed, bytes)) = self.server.signer.sign(receipt).await else {
            return fail(ErrorCode::Internal, "signing failed: the node needs a restart");
        };
        // Its entry has a place before the caller has the receipt.
        self.server.audit.record(served).await;
        self.server.handler.signed(&self.peer, signed, &bytes, statement);
        Ok(bytes)
    }
}

/// Returns when the caller no longer wants the answer: it reset the stream, or the connection is gone.
async fn gone(stream: &mut BiStream) {
    if let Ok(None) = stream.recv.received_reset().await {
        // The caller ended its direction in order, and may still wait for the answer.
        let _ = stream.send.stopped().await;
    }
}

fn within_limit(bytes: u64, limit: u64) -> Result<(), End> {
    if bytes > limit {
        let text = format!("the answer exceeds {limit} bytes: ask for less");
        return fail(ErrorCode::TooLarge, text);
    }
    Ok(())
}

fn too_early<T>() -> Result<T, End> {
    fail(ErrorCode::TooEarly, "repeat the call after the handshake")
}

fn malformed<T>(what: &str, error: &DecodeError) -> Result<T, End> {
    fail(ErrorCode::InvalidInput, format!("malformed {what}: {error}"))
}

fn deadline_passed<T>() -> Result<T, End> {
    fail(ErrorCode::Timeout, "the deadline passed before the answer was complete")
}

fn panicked<T>() -> Result<T, End> {
    fail(ErrorCode::Internal, "the capability's program ended abnormally")
}
