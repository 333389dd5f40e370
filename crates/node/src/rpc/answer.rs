//! The answer as the caller receives it: item by item, or whole; believed only when its receipt verifies.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use comity_core::receipt::SignedReceipt;
use comity_core::{AgentId, Canonical as _, DecodeError, Hash, canonical};
use iroh::endpoint::ReadError;
use tokio::time::Instant;

use super::client::{Shared, Want};
use super::verify::{Expected, Written};
use super::wire::{self, ResponseFrame, Unreadable};
use super::{CallError, ErrorCode};
use crate::transport::{BiStream, Loan, StreamCode, peer_code};

/// Where the time of a call went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timings {
    /// From the start to a connection that could carry the request; nothing when a link was live.
    pub connect: Duration,
    /// From the start to the first frame of the answer.
    pub first: Duration,
    /// From the start to the verified end.
    pub total: Duration,
    /// Of it, checking the receipt.
    pub verify: Duration,
    /// Whether the answer came to a request in early data.
    pub early: bool,
}

/// A verified answer.
#[derive(Clone, Debug)]
pub struct CallAnswer {
    /// The items, one after the other: a CBOR sequence.
    pub body: Bytes,
    /// Where each item ends in `body`.
    pub ends: Vec<usize>,
    /// The callee's statement, verified.
    pub receipt: SignedReceipt,
    /// Where the time went.
    pub timings: Timings,
}

impl CallAnswer {
    /// The items as the callee cut them.
    pub fn items(&self) -> impl Iterator<Item = Bytes> + '_ {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, &end)| self.body.slice(start..end))
    }

    /// The items as JSON.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] when the callee signed something that is not canonical CBOR with a JSON form.
    pub fn values(&self) -> Result<Vec<serde_json::Value>, DecodeError> {
        self.items().map(|item| canonical::to_json(&item)).collect()
    }
}

/// What a finished stream leaves.
#[derive(Clone, Debug)]
pub struct Finished {
    /// The callee's statement about all items, verified.
    pub receipt: SignedReceipt,
    /// The same as it came.
    pub(crate) written: Written,
    /// Where the time went.
    pub timings: Timings,
}

/// The items of an answer as they arrive. They are not to be relied on before [`AnswerStream::finish`] returns. Dropping the stream
/// cancels the call.
#[derive(Debug)]
pub struct AnswerStream {
    shared: Arc<Shared>,
    carrier: Carrier,
    expected: Expected,
    deadline: Instant,
    waited: Duration,
    limit: u64,
    /// Longest single item.
    item_max: u64,
    received: u64,
    hasher: Box<blake3::Hasher>,
    state: State,
    started: Instant,
    timings: Timings,
}

#[derive(Debug)]
enum State {
    /// An answer of one item that has not been handed out.
    Whole { body: Bytes, receipt: Bytes },
    /// Frames are to come.
    Open,
    /// All items are handed out.
    Ended { receipt: Bytes },
    /// The call failed; nothing more can be had.
    Failed,
}

/// The stream that carries the call.
#[derive(Debug)]
pub(super) enum Carrier {
    /// From the pool of a link.
    Pooled(Loan),
    /// Of a connection whose handshake may still go on.
    Early(EarlyStream),
}

/// A stream that carries one call and is then over.
#[derive(Debug)]
pub(super) struct EarlyStream(pub(super) BiStream);

impl Drop for EarlyStream {
    fn drop(&mut self) {
        // After the end of the answer this says nothing.
        let _ = self.0.recv.stop(StreamCode::Cancelled.varint());
    }
}

impl Carrier {
    pub(super) fn stream(&mut self) -> &mut BiStream {
        match self {
            Self::Pooled(loan) => loan.stream(),
            Self::Early(stream) => &mut stream.0,
        }
    }
}

/// Why an attempt at a call brought nothing.
pub(super) enum Attempt {
    /// The callee certainly did not begin to execute it.
    NotBegun,
    /// The connection died without a word before any answer.
    Lost(CallError),
    /// Anything else.
    Final(CallError),
}

impl Attempt {
    pub(super) fn connection(peer: AgentId, error: &iroh::endpoint::ConnectionError) -> Self {
        match peer_code(error) {
            Some(code) if code.is_clean() => Self::NotBegun,
            code => Self::Lost(CallError::Interrupted { peer, code }),
        }
    }

    fn reported(peer: AgentId, code: ErrorCode, message: &str) -> Self {
        if code == ErrorCode::TooEarly {
            return Self::NotBegun;
        }
        let message = wire::cut(message).to_owned();
        Self::Final(CallError::Failed { peer, code, message })
    }

    fn unreadable(peer: AgentId, error: &Unreadable) -> Self {
        match error {
            Unreadable::Truncated => Self::Final(protocol(peer, "a frame cut short")),
            Unreadable::Broken(ReadError::ConnectionLost(error)) => Self::connection(peer, error),
            Unreadable::Broken(ReadError::ZeroRttRejected) => Self::NotBegun,
            Unreadable::Broken(ReadError::Reset(code))
                if code.into_inner() == StreamCode::TooEarly.number() =>
            {
                Self::NotBegun
            }
            Unreadable::Broken(ReadError::Reset(_) | ReadError::ClosedStream) => {
                Self::Final(CallError::Interrupted { peer, code: None })
            }
        }
    }

    pub(super) fn into_error(self, peer: AgentId) -> CallError {
        match self {
            Self::NotBegun => CallError::Interrupted { peer, code: None },
            Self::Lost(error) | Self::Final(error) => error,
        }
    }
}

fn protocol(peer: AgentId, what: impl Into<String>) -> CallError {
    CallError::Protocol { peer, what: what.into() }
}

/// Reads one response frame.
async fn read_frame(peer: AgentId, stream: &mut BiStream) -> Result<Bytes, Attempt> {
    let length = match wire::read_length(stream).await {
        Ok(Some(length)) => length,
        Ok(None) => {
            return Err(Attempt::Final(protocol(peer, "the answer ends without a receipt")));
        }
        Err(error) => return Err(Attempt::unreadable(peer, &error)),
    };
    if length > wire::RESPONSE_FRAME_MAX {
        return Err(Attempt::Final(protocol(peer, format!("a frame of {length} bytes"))));
    }
    wire::read_body(stream, length).await.map_err(|error| Attempt::unreadable(peer, &error))
}

/// One response frame, out of the buffer it came in.
enum Frame {
    Whole { body: Bytes, receipt: Bytes },
    Head,
    Chunk { data: Bytes, last: bool },
    End { receipt: Bytes },
}

async fn next_frame(peer: AgentId, stream: &mut BiStream) -> Result<Frame, Attempt> {
    let bytes = read_frame(peer, stream).await?;
    match ResponseFrame::decode(&bytes) {
        Ok(ResponseFrame::Whole { body, receipt }) => {
            Ok(Frame::Whole { body: bytes.slice_ref(body), receipt: bytes.slice_ref(receipt) })
        }
        Ok(ResponseFrame::Head) => Ok(Frame::Head),
        Ok(ResponseFrame::Chunk { data, last }) => {
            Ok(Frame::Chunk { data: bytes.slice_ref(data), last })
        }
        Ok(ResponseFrame::End { receipt }) => Ok(Frame::End { receipt: bytes.slice_ref(receipt) }),
        Ok(ResponseFrame::Error { code, message }) => {
            Err(Attempt::reported(peer, ErrorCode::from_number(code), message))
        }
        Err(error) => Err(Attempt::Final(protocol(peer, format!("a malformed frame: {error}")))),
    }
}

/// Reads the head of an answer whose bytes follow as they are.
pub(super) async fn read_head(peer: AgentId, stream: &mut BiStream) -> Result<(), Attempt> {
    match next_frame(peer, stream).await? {
        Frame::Head => Ok(()),
        Frame::Whole { .. } | Frame::Chunk { .. } | Frame::End { .. } => {
            Err(Attempt::Final(protocol(peer, "a frame where bytes belong")))
        }
    }
}

/// Reads an answer that nobody signs.
pub(super) async fn read_plain(
    peer: AgentId,
    stream: &mut BiStream,
    limit: usize,
) -> Result<Bytes, Attempt> {
    match next_frame(peer, stream).await? {
        Frame::Whole { body, .. } if body.len() <= limit => Ok(body),
        Frame::Whole { .. } => {
            Err(Attempt::Final(CallError::AnswerTooLarge { peer, limit: limit as u64 }))
        }
        Frame::Head => read_pieces(peer, stream, limit).await,
        Frame::Chunk { .. } | Frame::End { .. } => {
            Err(Attempt::Final(protocol(peer, "items where none belong")))
        }
    }
}

/// A long answer that nobody signs: the pieces of one item.
async fn read_pieces(peer: AgentId, stream: &mut BiStream, limit: usize) -> Result<Bytes, Attempt> {
    let (mut whole, mut complete) = (BytesMut::new(), false);
    loop {
        match next_frame(peer, stream).await? {
            Frame::Chunk { data, last } if !complete => {
                if whole.len() + data.len() > limit {
                    let error = CallError::AnswerTooLarge { peer, limit: limit as u64 };
                    return Err(Attempt::Final(error));
                }
                whole.extend_from_slice(&data);
                complete = last;
            }
            Frame::End { .. } if complete => return Ok(whole.freeze()),
            Frame::Whole { .. } | Frame::Head | Frame::Chunk { .. } | Frame::End { .. } => {
                return Err(Attempt::Final(protocol(peer, "pieces out of order")));
            }
        }
    }
}

impl AnswerStream {
    /// Waits for the first frame of the answer.
    pub(super) async fn begin(
        shared: &Arc<Shared>,
        mut carrier: Carrier,
        expected: Expected,
        want: &Want<'_>,
        connect: Duration,
    ) -> Result<Self, Attempt> {
        let early = matches!(carrier, Carrier::Early(_));
        let state = match next_frame(expected.callee, carrier.stream()).await? {
            Frame::Whole { body, receipt } => State::Whole { body, receipt },
            Frame::Head => State::Open,
            Frame::Chunk { .. } | Frame::End { .. } => {
                return Err(Attempt::Final(protocol(expected.callee, "an answer without a head")));
            }
        };
        let timings =
            Timings { connect, first: want.started.elapsed(), early, ..Timings::default() };
        Ok(Self {
            shared: Arc::clone(shared),
            carrier,
            expected,
            deadline: want.started + want.request.deadline,
            waited: want.request.deadline,
            limit: want.request.answer_bytes_max.unwrap_or(shared.stream_bytes_max),
            item_max: want.request.answer_bytes_max.unwrap_or(shared.answer_bytes_max),
            received: 0,
            hasher: Box::default(),
            state,
            started: want.started,
            timings,
        })
    }

    /// Whom the answer comes from.
    #[must_use]
    pub fn peer(&self) -> AgentId {
        self.expected.callee
    }

    /// The next item, in canonical CBOR; none when all have come.
    ///
    /// # Errors
    ///
    /// [`CallError`], after which nothing more comes.
    pub async fn next(&mut self) -> Result<Option<Bytes>, CallError> {
        let timed_out = CallError::TimedOut { peer: self.expected.callee, waited: self.waited };
        let result =
            tokio::time::timeout_at(self.deadline, self.advance()).await.unwrap_or(Err(timed_out));
        if result.is_err() {
            self.state = State::Failed;
        }
        result.map_err(|error| error.at_deadline(self.started, self.waited))
    }

    /// Takes the items not yet taken and verifies the receipt over all of them.
    ///
    /// # Errors
    ///
    /// [`CallError::Untrusted`] when the receipt does not vouch for the items; other [`CallError`]s as [`AnswerStream::next`].
    pub async fn finish(mut self) -> Result<Finished, CallError> {
        while self.next().await?.is_some() {}
        self.verify()
    }

    /// Takes all items into one body and verifies the receipt. The caller keeps the deadline.
    pub(super) async fn collect(mut self) -> Result<CallAnswer, CallError> {
        self.limit = self.limit.min(self.item_max);
        let mut ends = Vec::new();
        let body = if let State::Whole { .. } = self.state {
            self.advance().await?.unwrap_or_default()
        } else {
            let mut body = BytesMut::new();
            while let Some(item) = self.advance().await? {
                body.extend_from_slice(&item);
                ends.push(body.len());
            }
            body.freeze()
        };
        if let State::Ended { .. } = self.state
            && ends.is_empty()
            && body.has_remaining()
        {
            ends.push(body.len());
        }
        let Finished { receipt, timings, .. } = self.verify()?;
        Ok(CallAnswer { body, ends, receipt, timings })
    }

    async fn advance(&mut self) -> Result<Option<Bytes>, CallError> {
        match std::mem::replace(&mut self.state, State::Failed) {
            State::Whole { body, receipt } => {
                self.count(&body)?;
                self.state = State::Ended { receipt };
                Ok(Some(body))
            }
            State::Ended { receipt } => {
                self.state = State::Ended { receipt };
                Ok(None)
            }
            State::Failed => Err(protocol(self.expected.callee, "it failed before")),
            State::Open => {
                let item = self.read_item().await?;
                if item.is_some() {
                    self.state = State::Open;
                }
                Ok(item)
            }
        }
    }

    /// Puts the pieces of one item together; none at the end of the answer.
    async fn read_item(&mut self) -> Result<Option<Bytes>, CallError> {
        let peer = self.expected.callee;
        let mut pieces = BytesMut::new();
        loop {
            match next_frame(peer, self.carrier.stream())
                .await
                .map_err(|attempt| attempt.into_error(peer))?
            {
                Frame::Chunk { data, last } => {
                    self.count(&data)?;
                    if last && pieces.is_empty() {
                        return Ok(Some(data));
                    }
                    if (pieces.len() + data.len()) as u64 > self.item_max {
                        return Err(CallError::AnswerTooLarge { peer, limit: self.item_max });
                    }
                    pieces.extend_from_slice(&data);
                    if last {
                        return Ok(Some(pieces.freeze()));
                    }
                }
                Frame::End { receipt } if pieces.is_empty() => {
                    self.state = State::Ended { receipt };
                    return Ok(None);
                }
                Frame::End { .. } => return Err(protocol(peer, "the last item is cut short")),
                Frame::Whole { .. } | Frame::Head => return Err(protocol(peer, "a second head")),
            }
        }
    }

    fn count(&mut self, data: &[u8]) -> Result<(), CallError> {
        let peer = self.expected.callee;
        if data.is_empty() {
            return Err(protocol(peer, "an empty piece"));
        }
        self.received = self.received.saturating_add(data.len() as u64);
        if self.received > self.limit {
            return Err(CallError::AnswerTooLarge { peer, limit: self.limit });
        }
        self.hasher.update(data);
        Ok(())
    }

    fn verify(mut self) -> Result<Finished, CallError> {
        let peer = self.expected.callee;
        let State::Ended { receipt } = std::mem::replace(&mut self.state, State::Failed) else {
            return Err(protocol(peer, "it is not complete"));
        };
        let response = Hash(*self.hasher.finalize().as_bytes());
        let before = Instant::now();
        let bytes = receipt;
        let receipt = self
            .shared
            .roots
            .verify(&bytes, response, &self.expected)
            .map_err(|reason| CallError::Untrusted { peer, reason })?;
        let statement = Hash::of(&receipt.receipt.encode());
        let written = Written { bytes, statement };
        let timings =
            Timings { verify: before.elapsed(), total: self.started.elapsed(), ..self.timings };
        match self.carrier {
            Carrier::Pooled(loan) if self.received <= wire::REUSE_BYTES_MAX => loan.give_back(),
            Carrier::Pooled(loan) => loan.retire(),
            Carrier::Early(_) => {}
        }
        Ok(Finished { receipt, written, timings })
    }
}
