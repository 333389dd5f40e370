//! Strangers: rate limits, handshakes, early data; and the streams that peers open on links.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use comity_core::AgentId;
use iroh::endpoint::{Incoming, IncomingAddr, IncomingZeroRttConnection};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::link::{self, Initiator};
use super::rate::SourceRates;
use super::{BiStream, CallStream, CloseCode, Link, Protocol, Shared, StreamCode, exchange};

/// Accepts until the transport closes.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut rates = SourceRates::new(
        shared.limits.handshakes_per_source_per_s,
        shared.limits.handshakes_burst_max,
    );
    let pending = Arc::new(Semaphore::new(shared.limits.handshakes_pending_max));
    while let Some(Some(incoming)) =
        shared.closing.run_until_cancelled(shared.endpoint.accept()).await
    {
        let remote = direct(&incoming);
        // What comes through a relay shares one bucket: its own address is not known before the handshake.
        let source = remote.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |addr| addr.ip());
        let slot = Arc::clone(&pending)
            .try_acquire_owned()
            .ok()
            .filter(|_| rates.admit(source, Instant::now()));
        match slot {
            Some(slot) => {
                shared.runtime.spawn(handshake(Arc::clone(&shared), incoming, remote, slot));
            }
            // A forged source address never gets past this, and costs no state.
            None if !incoming.remote_addr_validated() => {
                let _ = incoming.retry();
            }
            None => incoming.refuse(),
        }
    }
}

fn direct(incoming: &Incoming) -> Option<SocketAddr> {
    if let IncomingAddr::Ip(addr) = incoming.remote_addr() { Some(addr) } else { None }
}

/// Brings one handshake to a link, serving early data meanwhile.
async fn handshake(
    shared: Arc<Shared>,
    incoming: Incoming,
    remote: Option<SocketAddr>,
    slot: OwnedSemaphorePermit,
) {
    let Ok(mut accepting) = incoming.accept() else { return };
    let deadline = tokio::time::Instant::now() + shared.limits.handshake_timeout;
    let Ok(Ok(alpn)) = tokio::time::timeout_at(deadline, accepting.alpn()).await else { return };
    let Some(protocol) = Protocol::from_alpn(&alpn) else { return };
    let early = accepting.into_0rtt();
    let mut waiting = Vec::new();
    let complete = tokio::time::timeout_at(
        deadline,
        serve_early(&shared, &early, protocol, remote, &mut waiting),
    )
    .await;
    let Ok(Some(conn)) = complete else {
        return early.close(StreamCode::TimedOut.varint(), b"");
    };
    drop(slot);
    let streams_max = shared.limits.streams_per_link_max;
    let Some(link) = Link::new(conn, protocol, Initiator::Peer, remote, streams_max).map(Arc::new)
    else {
        return;
    };
    {
        let mut table = shared.table();
        if table.adopt(Arc::clone(&link), &shared.limits).is_err() {
            return;
        }
        table.remember(link.peer, remote, &shared.limits);
    }
    shared.publish_counts();
    serve_link(shared, link, waiting).await;
}

/// Serves streams of early data until the handshake is complete. Streams opened after that, but accepted before this side noticed,
/// are left in `waiting`.
async fn serve_early(
    shared: &Arc<Shared>,
    early: &IncomingZeroRttConnection,
    protocol: Protocol,
    remote: Option<SocketAddr>,
    waiting: &mut Vec<BiStream>,
) -> Option<iroh::endpoint::Connection> {
    let mut complete = std::pin::pin!(early.handshake_completed());
    loop {
        let stream = tokio::select! {
            biased;
            conn = &mut complete => return conn.ok(),
            stream = early.accept_bi() => BiStream::new(stream.ok()?),
        };
        if !stream.recv.is_0rtt() {
            waiting.push(stream);
            continue;
        }
        // In a resumed session the ticket says whose it is, before the handshake proves it again.
        match early.remote_id().ok().and_then(|id| AgentId::from_bytes(id.as_bytes()).ok()) {
            Some(peer) => dispatch(shared, peer, protocol, remote, None, stream).await,
            None => refuse(stream, StreamCode::TooEarly),
        }
    }
}

/// Accepts the peer's streams on a link until it closes, then removes it from the table.
pub(super) async fn serve_link(shared: Arc<Shared>, link: Arc<Link>, waiting: Vec<BiStream>) {
    for stream in waiting {
        dispatch(&shared, link.peer, link.protocol, link.remote, Some(&link), stream).await;
    }
    while let Ok(stream) = link.conn.accept_bi().await {
        dispatch(
            &shared,
            link.peer,
            link.protocol,
            link.remote,
            Some(&link),
            BiStream::new(stream),
        )
        .await;
    }
    // Whatever ended it, nothing will come of it any more.
    link::close(&link.conn, CloseCode::Replaced);
    shared.table().forget(&link);
    shared.publish_counts();
}

async fn dispatch(
    shared: &Arc<Shared>,
    peer: AgentId,
    protocol: Protocol,
    remote: Option<SocketAddr>,
    link: Option<&Arc<Link>>,
    stream: BiStream,
) {
    match protocol {
        Protocol::Overlay => {
            let request = exchange::Inbound { peer, remote, link: link.map(Link::begin), stream };
            shared.runtime.spawn(exchange::serve(Arc::clone(shared), request));
        }
        Protocol::Rpc => {
            let call = CallStream { peer, remote, link: link.cloned(), stream };
            if let Err(refused) = shared.calls.send(call).await {
                refuse(refused.0.stream, StreamCode::NoAnswer);
            }
        }
    }
}

fn refuse(mut stream: BiStream, code: StreamCode) {
    stream.abandon(code);
}
