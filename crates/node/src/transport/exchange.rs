//! One request, one answer, one stream: what directory messages travel in.
//!
//! The request is all bytes of one direction, the answer all bytes of the other; each ends with the end of its direction. What
//! they mean is the owner's business.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use comity_core::AgentId;
use iroh::endpoint::{ConnectionError, ReadError, ReadToEndError, VarInt, WriteError};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::oneshot;

use super::link::peer_code;
use super::{
    BiStream, CloseCode, ExchangeError, InUse, Protocol, Reach, Shared, StreamCode, Transport,
};

/// Longest request and longest answer, in bytes.
pub const EXCHANGE_BYTES_MAX: usize = 64 * 1024;
/// A request that a parked link never began is sent again this often.
const ATTEMPTS_MAX: usize = 3;

/// How an exchange is made.
#[derive(Clone, Copy, Debug, Default)]
pub struct ExchangeOptions {
    /// How long it may take, dial included; [`super::Limits::exchange_timeout`] if not given.
    pub timeout: Option<Duration>,
    /// Whether the request may be executed twice, and so travel in early data when the peer is parked.
    pub repeatable: bool,
}

/// A request of a peer.
#[derive(Debug)]
pub struct IncomingExchange {
    /// Who asks; proved by its key.
    pub peer: AgentId,
    /// Where it was seen, if directly.
    pub remote: Option<SocketAddr>,
    /// The request; at most [`EXCHANGE_BYTES_MAX`] bytes, otherwise unchecked.
    pub bytes: Bytes,
    /// Whether it came in early data. Anyone who recorded it can deliver it again, so it must not be executed if executing it
    /// twice differs from executing it once.
    pub early: bool,
    /// Where the answer goes.
    pub reply: ReplyHandle,
}

/// Answers one [`IncomingExchange`]. Dropping it declines.
#[derive(Debug)]
pub struct ReplyHandle(oneshot::Sender<Bytes>);

impl ReplyHandle {
    /// Sends the answer. It is lost if the peer gave up meanwhile, and declined if it exceeds [`EXCHANGE_BYTES_MAX`].
    pub fn send(self, answer: Bytes) {
        let _ = self.0.send(answer);
    }
}

impl Transport {
    /// Sends `request` to `peer` and waits for its answer, with the default [`ExchangeOptions`].
    ///
    /// # Errors
    ///
    /// As [`Transport::exchange_with`].
    pub async fn exchange(
        &self,
        peer: AgentId,
        addrs: &[SocketAddr],
        request: Bytes,
    ) -> Result<Bytes, ExchangeError> {
        self.exchange_with(peer, addrs, request, ExchangeOptions::default()).await
    }

    /// Sends `request` to `peer` and waits for its answer. `addrs` are used if there is no link yet; remembered ones besides.
    ///
    /// # Errors
    ///
    /// [`ExchangeError::Connect`] when no link comes about, [`ExchangeError::TimedOut`] when the answer does not come in time,
    /// [`ExchangeError::Declined`] when the peer says so, [`ExchangeError::Interrupted`] when the link breaks, and
    /// [`ExchangeError::RequestTooLarge`] and [`ExchangeError::AnswerTooLarge`] beyond [`EXCHANGE_BYTES_MAX`].
    pub async fn exchange_with(
        &self,
        peer: AgentId,
        addrs: &[SocketAddr],
        request: Bytes,
        options: ExchangeOptions,
    ) -> Result<Bytes, ExchangeError> {
        if request.len() > EXCHANGE_BYTES_MAX {
            return Err(ExchangeError::RequestTooLarge {
                bytes: request.len(),
                limit: EXCHANGE_BYTES_MAX,
            });
        }
        let waited = options.timeout.unwrap_or(self.0.limits.exchange_timeout);
        let work = self.0.exchange(peer, addrs, request, options.repeatable);
        tokio::time::timeout(waited, work)
            .await
            .unwrap_or(Err(ExchangeError::TimedOut { peer, waited }))
    }
}

impl Shared {
    async fn exchange(
        self: &Arc<Self>,
        peer: AgentId,
        addrs: &[SocketAddr],
        request: Bytes,
        repeatable: bool,
    ) -> Result<Bytes, ExchangeError> {
        let mut attempts = 1;
        loop {
            let result = match self
                .reach(peer, addrs, Protocol::Overlay, || repeatable.then(|| request.clone()))
                .await?
            {
                Reach::Link(link) => {
                    let link = link.begin();
                    ask(peer, link.conn.open_bi().await, &request).await
                }
                Reach::Early(mut early) => {
                    let stream = early.stream.take();
                    let asking = async {
                        match stream {
                            Some(stream) => listen(peer, Abandon(stream)).await,
                            None => Err(Failure::NotBegun),
                        }
                    };
                    let result = tokio::select! {
                        biased;
                        result = asking => result,
                        error = early.failed() => return Err(error.into()),
                    };
                    if matches!(result, Err(Failure::NotBegun)) {
                        early.settled().await?;
                    }
                    result
                }
            };
            match result {
                Err(Failure::NotBegun) if attempts < ATTEMPTS_MAX => attempts += 1,
                result => return result.map_err(|failure| failure.named(peer)),
            }
        }
    }
}

enum Failure {
    /// The peer certainly did not begin to execute the request.
    NotBegun,
    Named(ExchangeError),
}

impl Failure {
    fn named(self, peer: AgentId) -> ExchangeError {
        match self {
            Self::NotBegun => ExchangeError::Interrupted { peer, code: None },
            Self::Named(error) => error,
        }
    }

    fn link(peer: AgentId, error: &ConnectionError) -> Self {
        match peer_code(error) {
            Some(code) if code.is_clean() => Self::NotBegun,
            code => Self::Named(ExchangeError::Interrupted { peer, code }),
        }
    }

    fn declined(peer: AgentId, code: VarInt) -> Self {
        let code = StreamCode::from_number(code.into_inner());
        if code == StreamCode::TooEarly {
            return Self::NotBegun;
        }
        Self::Named(ExchangeError::Declined { peer, code })
    }
}

type Opened = Result<(iroh::endpoint::SendStream, iroh::endpoint::RecvStream), ConnectionError>;

async fn ask(peer: AgentId, opened: Opened, request: &Bytes) -> Result<Bytes, Failure> {
    let mut stream = Abandon(BiStream::new(opened.map_err(|error| Failure::link(peer, &error))?));
    let BiStream { send, .. } = &mut stream.0;
    let written = match send.write_chunk(request.clone()).await {
        Ok(()) => Ok(()),
        Err(WriteError::Stopped(code)) => Err(Failure::declined(peer, code)),
        Err(WriteError::ConnectionLost(error)) => Err(Failure::link(peer, &error)),
        Err(WriteError::ZeroRttRejected) => Err(Failure::NotBegun),
        Err(WriteError::ClosedStream) => {
            Err(Failure::Named(ExchangeError::Interrupted { peer, code: None }))
        }
    };
    written?;
    let _ = send.finish();
    listen(peer, stream).await
}

/// Reads the answer to a request that was sent.
async fn listen(peer: AgentId, mut stream: Abandon) -> Result<Bytes, Failure> {
    match stream.0.recv.read_to_end(EXCHANGE_BYTES_MAX).await {
        Ok(answer) => Ok(Bytes::from(answer)),
        Err(ReadToEndError::TooLong) => {
            Err(Failure::Named(ExchangeError::AnswerTooLarge { peer, limit: EXCHANGE_BYTES_MAX }))
        }
        Err(ReadToEndError::Read(ReadError::Reset(code))) => Err(Failure::declined(peer, code)),
        Err(ReadToEndError::Read(ReadError::ConnectionLost(error))) => {
            Err(Failure::link(peer, &error))
        }
        Err(ReadToEndError::Read(ReadError::ZeroRttRejected)) => Err(Failure::NotBegun),
        Err(ReadToEndError::Read(ReadError::ClosedStream)) => {
            Err(Failure::Named(ExchangeError::Interrupted { peer, code: None }))
        }
    }
}

/// Tells the peer when nobody waits for the answer any more; after the last byte this says nothing.
struct Abandon(BiStream);

impl Drop for Abandon {
    fn drop(&mut self) {
        let _ = self.0.recv.stop(StreamCode::Cancelled.varint());
        let _ = self.0.send.finish();
    }
}

/// A stream that a peer opened for a request.
pub(super) struct Inbound {
    pub(super) peer: AgentId,
    pub(super) remote: Option<SocketAddr>,
    /// Absent in early data.
    pub(super) link: Option<InUse>,
    pub(super) stream: BiStream,
}

/// Reads the request, has the owner answer it, and writes the answer; each in bounded time.
pub(super) async fn serve(shared: Arc<Shared>, inbound: Inbound) {
    let Inbound { peer, remote, link, mut stream } = inbound;
    let patience = shared.limits.exchange_timeout;
    let early = stream.recv.is_0rtt();
    let request =
        match tokio::time::timeout(patience, stream.recv.read_to_end(EXCHANGE_BYTES_MAX)).await {
            Ok(Ok(request)) => Bytes::from(request),
            Ok(Err(ReadToEndError::TooLong)) => return stream.abandon(StreamCode::TooLarge),
            Ok(Err(ReadToEndError::Read(_))) => return stream.abandon(StreamCode::Cancelled),
            Err(_) => return stream.abandon(StreamCode::TimedOut),
        };
    let (reply, answer) = oneshot::channel();
    let exchange =
        IncomingExchange { peer, remote, bytes: request, early, reply: ReplyHandle(reply) };
    match shared.exchanges.try_send(exchange) {
        Ok(()) => {}
        Err(TrySendError::Full(_)) => return stream.abandon(StreamCode::Busy),
        Err(TrySendError::Closed(_)) => return stream.abandon(StreamCode::NoAnswer),
    }
    let answer = match tokio::time::timeout(patience, answer).await {
        Ok(Ok(answer)) if answer.len() <= EXCHANGE_BYTES_MAX => answer,
        Ok(Ok(_)) => return stream.abandon(StreamCode::TooLarge),
        Ok(Err(_)) => return stream.abandon(StreamCode::NoAnswer),
        Err(_) => return stream.abandon(StreamCode::TimedOut),
    };
    if let Ok(Ok(())) = tokio::time::timeout(patience, stream.send.write_chunk(answer)).await {
        let _ = stream.send.finish();
    } else {
        stream.abandon(StreamCode::TimedOut);
    }
    drop(link);
}

impl ExchangeError {
    /// Whether the peer's node, not this request, is at fault, so that another peer should be asked.
    #[must_use]
    pub const fn is_peer_gone(&self) -> bool {
        match self {
            Self::Connect(_) | Self::TimedOut { .. } => true,
            Self::Interrupted { code, .. } => matches!(code, None | Some(CloseCode::Shutdown)),
            Self::RequestTooLarge { .. } | Self::AnswerTooLarge { .. } | Self::Declined { .. } => {
                false
            }
        }
    }
}
