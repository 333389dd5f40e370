//! Overlay messages over the transport.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use comity_overlay::{Contact, Failure, Request};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::actor::{Carrier, Incoming};
use crate::transport::{ConnectError, ExchangeError, ExchangeOptions, IncomingExchange, Transport};

/// The overlay gives up on a request sooner; this only frees what a silent peer holds here.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(5);

/// Sends overlay requests over QUIC.
#[derive(Debug)]
pub(crate) struct TransportCarrier {
    pub(crate) transport: Transport,
    /// Where the transport runs.
    pub(crate) network: Handle,
}

impl Carrier for TransportCarrier {
    fn exchange(
        &self,
        to: &Contact,
        request: &Request,
        frame: Vec<u8>,
    ) -> Pin<Box<dyn Future<Output = Result<Bytes, Failure>> + Send + 'static>> {
        let transport = self.transport.clone();
        let (peer, addrs) = (to.agent, to.addrs.clone());
        let options =
            ExchangeOptions { timeout: Some(EXCHANGE_TIMEOUT), repeatable: is_repeatable(request) };
        Box::pin(async move {
            transport
                .exchange_with(peer, &addrs, Bytes::from(frame), options)
                .await
                .map_err(|error| failure(&error))
        })
    }

    fn flush(&self) -> Pin<Box<dyn Future<Output = ()> + Send + 'static>> {
        // Its turn comes after those of the tasks that wait for theirs now.
        let turn = self.network.spawn(std::future::ready(()));
        Box::pin(async move {
            // A runtime that is shutting down passes nothing on any more.
            let _ended = turn.await;
        })
    }
}

/// Whether executing the request twice is harmless, so that it may travel in early data: all but those that change what
/// the receiver keeps. (Storing is idempotent by sequence number; it stays out because a replay would be charged to the
/// publisher's quota.)
fn is_repeatable(request: &Request) -> bool {
    match request {
        Request::Ping
        | Request::FindNode { .. }
        | Request::Query(_)
        | Request::FindPeer { .. }
        | Request::Compare { .. }
        | Request::Reconcile(_) => true,
        Request::Store { .. } | Request::Leaving | Request::Report(_) => false,
    }
}

fn failure(error: &ExchangeError) -> Failure {
    match error {
        ExchangeError::Connect(error) => match error {
            ConnectError::WrongKey { .. } => Failure::WrongIdentity,
            ConnectError::Unreachable { .. }
            | ConnectError::NoAddress { .. }
            | ConnectError::RefusedByPeer { .. }
            | ConnectError::Handshake { .. } => Failure::Unreachable,
            ConnectError::Myself
            | ConnectError::TooManyLinks { .. }
            | ConnectError::TooManyDials { .. }
            | ConnectError::Closed => Failure::Local,
        },
        ExchangeError::RequestTooLarge { .. } => Failure::Local,
        ExchangeError::AnswerTooLarge { .. } => Failure::Malformed,
        ExchangeError::TimedOut { .. } => Failure::Timeout,
        ExchangeError::Declined { .. } | ExchangeError::Interrupted { .. } => Failure::Closed,
    }
}

/// Hands the transport's incoming overlay requests to the directory's thread until either side ends.
pub(crate) async fn deliver(
    mut from: mpsc::Receiver<IncomingExchange>,
    to: mpsc::Sender<Incoming>,
) {
    while let Some(exchange) = from.recv().await {
        let IncomingExchange { peer, bytes, early, reply, remote: _ } = exchange;
        // A full inbox declines: dropping the reply says so to the peer.
        let _busy = to.try_send(Incoming { peer, request: bytes, early, reply });
    }
}
