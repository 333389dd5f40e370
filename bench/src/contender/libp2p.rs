//! libp2p request-response over QUIC, with lazy protocol negotiation (its faster way).
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "events and address parts of a foreign crate: all others are none of our business"
)]

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, bail};
use futures_util::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, StreamExt as _, future::BoxFuture,
};
use libp2p::{
    Multiaddr, PeerId, Swarm, SwarmBuilder,
    core::upgrade::Version,
    multiaddr::Protocol,
    request_response::{self, Codec, Event, Message, OutboundRequestId, ProtocolSupport},
    swarm::SwarmEvent,
};
use tokio::sync::{mpsc, oneshot};

use super::{
    ANSWER_LEN, After, Client, Contender, REQUEST_LEN, Service, Session, Target, Task, answer,
    burst_of_tasks, check, request,
};

const PROTOCOL: &str = "/comity-bench/echo/1";
/// Calls waiting for the swarm's attention.
const WAITING_MAX: usize = 1_024;
/// Streams the behaviour may have open on one connection.
const STREAMS_MAX: usize = 1_024;
/// Long enough that no connection is closed for idleness while others are measured.
const IDLE_TIMEOUT_S: u64 = 3_600;

/// libp2p's own request-response behaviour.
pub(crate) struct Libp2p;

impl Contender for Libp2p {
    fn name(&self) -> &'static str {
        "libp2p"
    }

    fn how(&self) -> &'static str {
        "libp2p request-response over QUIC, lazy negotiation, one swarm task per end"
    }

    fn serve(&self, bind: IpAddr) -> BoxFuture<'static, Result<Service>> {
        Box::pin(async move {
            let mut swarm = swarm()?;
            let proof = swarm.local_peer_id().to_string();
            swarm.listen_on(quic_address(SocketAddr::new(bind, 0)))?;
            let addr = loop {
                match swarm.next().await.context("the swarm ended")? {
                    SwarmEvent::NewListenAddr { address, .. } => break socket_address(&address)?,
                    SwarmEvent::ListenerClosed { reason, .. } => {
                        bail!("listener closed: {reason:?}")
                    }
                    _ => {}
                }
            };
            let task = tokio::spawn(serve_swarm(swarm));
            Ok(Service { target: Target { addr, proof }, keep: Box::new(Task(task)) })
        })
    }

    fn client(&self, _bind: IpAddr, _after: After) -> BoxFuture<'static, Result<Arc<dyn Client>>> {
        Box::pin(async move {
            let swarm = swarm()?;
            let (calls, inbox) = mpsc::channel(WAITING_MAX);
            let task = Task(tokio::spawn(call_swarm(swarm, inbox)));
            Ok(Arc::new(Libp2pClient { calls, _task: task }) as Arc<dyn Client>)
        })
    }
}

type Behaviour = request_response::Behaviour<EchoCodec>;

fn swarm() -> Result<Swarm<Behaviour>> {
    let config = request_response::Config::default().with_max_concurrent_streams(STREAMS_MAX);
    Ok(SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_quic()
        .with_behaviour(|_| Behaviour::new([(PROTOCOL, ProtocolSupport::Full)], config))?
        .with_swarm_config(|config| {
            config
                .with_idle_connection_timeout(Duration::from_secs(IDLE_TIMEOUT_S))
                .with_substream_upgrade_protocol_override(Version::V1Lazy)
        })
        .build())
}

fn quic_address(addr: SocketAddr) -> Multiaddr {
    Multiaddr::from(addr.ip()).with(Protocol::Udp(addr.port())).with(Protocol::QuicV1)
}

fn socket_address(address: &Multiaddr) -> Result<SocketAddr> {
    let mut ip = None;
    let mut port = None;
    for part in address {
        match part {
            Protocol::Ip4(v4) => ip = Some(IpAddr::from(v4)),
            Protocol::Ip6(v6) => ip = Some(IpAddr::from(v6)),
            Protocol::Udp(udp) => port = Some(udp),
            _ => {}
        }
    }
    ip.zip(port).map(SocketAddr::from).with_context(|| format!("no UDP address in {address}"))
}

async fn serve_swarm(mut swarm: Swarm<Behaviour>) {
    loop {
        if let SwarmEvent::Behaviour(Event::Message {
            message: Message::Request { request, channel, .. },
            ..
        }) = swarm.select_next_some().await
        {
            // A caller that went away needs no answer.
            let _ = swarm.behaviour_mut().send_response(channel, answer(&request));
        }
    }
}

struct Call {
    peer: PeerId,
    address: Multiaddr,
    request: Vec<u8>,
    reply: oneshot::Sender<Result<Vec<u8>>>,
}

/// Owns the client's swarm: takes calls, hands answers back by request id. Dials when a peer is not connected.
async fn call_swarm(mut swarm: Swarm<Behaviour>, mut inbox: mpsc::Receiver<Call>) {
    let mut waiting: BTreeMap<OutboundRequestId, oneshot::Sender<Result<Vec<u8>>>> =
        BTreeMap::new();
    loop {
        tokio::select! {
            call = inbox.recv() => {
                let Some(Call { peer, address, request, reply }) = call else { return };
                let id = swarm.behaviour_mut().send_request_with_addresses(&peer, request, vec![address]);
                waiting.insert(id, reply);
            }
            event = swarm.select_next_some() => match event {
                SwarmEvent::Behaviour(Event::Message {
                    message: Message::Response { request_id, response },
                    ..
                }) => {
                    if let Some(reply) = waiting.remove(&request_id) {
                        let _ = reply.send(Ok(response));
                    }
                }
                SwarmEvent::Behaviour(Event::OutboundFailure { request_id, error, .. }) => {
                    if let Some(reply) = waiting.remove(&request_id) {
                        let _ = reply.send(Err(anyhow!("call failed: {error}")));
                    }
                }
                _ => {}
            }
        }
    }
}

struct Libp2pClient {
    calls: mpsc::Sender<Call>,
    _task: Task,
}

impl Client for Libp2pClient {
    /// Dials with the first call: the behaviour has no other way in.
    fn connect(&self, target: Target) -> BoxFuture<'_, Result<Arc<dyn Session>>> {
        Box::pin(async move {
            let peer: PeerId = target.proof.parse().context("bad peer id")?;
            let address = quic_address(target.addr);
            Ok(Arc::new(Libp2pSession { peer, address, calls: self.calls.clone() })
                as Arc<dyn Session>)
        })
    }
}

struct Libp2pSession {
    peer: PeerId,
    address: Multiaddr,
    calls: mpsc::Sender<Call>,
}

impl Session for Libp2pSession {
    fn call(&self, tag: u64) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let (reply, response) = oneshot::channel();
            let call = Call {
                peer: self.peer,
                address: self.address.clone(),
                request: request(tag).to_vec(),
                reply,
            };
            self.calls.send(call).await.map_err(|_| anyhow!("the swarm ended"))?;
            check(tag, &response.await.context("the swarm ended")??)
        })
    }

    fn burst(
        self: Arc<Self>,
        in_flight: usize,
        calls: u64,
        limit: Duration,
    ) -> BoxFuture<'static, Result<u64>> {
        burst_of_tasks(self, in_flight, calls, limit)
    }
}

/// Messages of known length, as they are.
#[derive(Clone, Default)]
struct EchoCodec;

impl Codec for EchoCodec {
    type Protocol = &'static str;
    type Request = Vec<u8>;
    type Response = Vec<u8>;

    async fn read_request<T>(&mut self, _: &Self::Protocol, io: &mut T) -> io::Result<Vec<u8>>
    where
        T: AsyncRead + Unpin + Send,
    {
        read_exactly(io, REQUEST_LEN).await
    }

    async fn read_response<T>(&mut self, _: &Self::Protocol, io: &mut T) -> io::Result<Vec<u8>>
    where
        T: AsyncRead + Unpin + Send,
    {
        read_exactly(io, ANSWER_LEN).await
    }

    async fn write_request<T>(
        &mut self,
        _: &Self::Protocol,
        io: &mut T,
        request: Vec<u8>,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        io.write_all(&request).await
    }

    async fn write_response<T>(
        &mut self,
        _: &Self::Protocol,
        io: &mut T,
        response: Vec<u8>,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        io.write_all(&response).await
    }
}

async fn read_exactly<T: AsyncRead + Unpin + Send>(io: &mut T, len: usize) -> io::Result<Vec<u8>> {
    let mut message = vec![0; len];
    io.read_exact(&mut message).await?;
    Ok(message)
}
