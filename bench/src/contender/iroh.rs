//! iroh alone: what a comity call could at best cost on this engine.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, bail};
use futures_util::future::BoxFuture;
use iroh::{
    Endpoint, EndpointAddr, EndpointId, RelayMode, SecretKey,
    endpoint::{
        AckFrequencyConfig, Connection, Incoming, QuicTransportConfig, RecvStream, SendStream,
        VarInt, ZeroRttStatus, presets,
    },
};

use super::{
    ANSWER_LEN, After, Client, Contender, REQUEST_LEN, Service, Session, Target, Task, answer,
    burst_of_tasks, check, pacing::FirstFlightConfig, request,
};

const ALPN: &[u8] = b"comity-bench/echo/1";
/// Packets that may arrive before an acknowledgement leaves: spares most pure acknowledgement packets.
const ACK_THRESHOLD: u32 = 10;
/// Streams one client may have open on one connection.
const STREAMS_MAX: u32 = 1_024;
/// Length prefix of each message on a pooled stream, in bytes.
const PREFIX_LEN: usize = 4;

/// How calls map to streams.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Streams {
    /// Bidirectional streams that are reused, one call at a time on each.
    Pooled,
    /// A new bidirectional stream for each call.
    PerCall,
}

/// How packets are spread over time.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pacing {
    /// As the engine does by itself.
    Engine,
    /// With the first flight in one burst.
    FirstFlight,
}

/// Raw iroh streams.
pub(crate) struct Iroh {
    pub(crate) streams: Streams,
    pub(crate) pacing: Pacing,
}

impl Contender for Iroh {
    fn name(&self) -> &'static str {
        match (self.streams, self.pacing) {
            (Streams::Pooled, Pacing::Engine) => "iroh-pooled",
            (Streams::Pooled, Pacing::FirstFlight) => "iroh-burst",
            (Streams::PerCall, _) => "iroh-stream-per-call",
        }
    }

    fn how(&self) -> &'static str {
        match (self.streams, self.pacing) {
            (Streams::Pooled, Pacing::Engine) => {
                "raw iroh echo, pooled streams, one call at a time each, ACK frequency 10"
            }
            (Streams::Pooled, Pacing::FirstFlight) => {
                "the same, with the initial window in one burst"
            }
            (Streams::PerCall, _) => "raw iroh echo, a stream per call, ACK frequency 10",
        }
    }

    fn serve(&self, bind: IpAddr) -> BoxFuture<'static, Result<Service>> {
        let pacing = self.pacing;
        Box::pin(async move {
            let endpoint = endpoint(bind, pacing).await?;
            let addr = *endpoint.bound_sockets().first().context("iroh bound no socket")?;
            let proof = endpoint.id().to_string();
            let task = tokio::spawn(async move {
                while let Some(incoming) = endpoint.accept().await {
                    tokio::spawn(serve_connection(incoming));
                }
            });
            Ok(Service { target: Target { addr, proof }, keep: Box::new(Task(task)) })
        })
    }

    fn client(&self, bind: IpAddr, _after: After) -> BoxFuture<'static, Result<Arc<dyn Client>>> {
        let (streams, pacing) = (self.streams, self.pacing);
        Box::pin(async move {
            Ok(Arc::new(IrohClient { endpoint: endpoint(bind, pacing).await?, streams })
                as Arc<dyn Client>)
        })
    }

    fn resumes(&self) -> bool {
        true
    }
}

/// An endpoint that knows no relay, no address lookup and one address.
async fn endpoint(bind: IpAddr, pacing: Pacing) -> Result<Endpoint> {
    let mut ack = AckFrequencyConfig::default();
    ack.ack_eliciting_threshold(VarInt::from_u32(ACK_THRESHOLD));
    let mut transport = QuicTransportConfig::builder()
        .ack_frequency_config(Some(ack))
        .max_concurrent_bidi_streams(VarInt::from_u32(STREAMS_MAX));
    if pacing == Pacing::FirstFlight {
        transport = transport.congestion_controller_factory(Arc::new(FirstFlightConfig));
    }
    Endpoint::builder(presets::Minimal)
        .secret_key(SecretKey::generate())
        .relay_mode(RelayMode::Disabled)
        .clear_address_lookup()
        .clear_ip_transports()
        .bind_addr(SocketAddr::new(bind, 0))
        .map_err(|error| anyhow!("bad bind address {bind}: {error}"))?
        .alpns(vec![ALPN.to_vec()])
        .transport_config(transport.build())
        .bind()
        .await
        .context("bind an iroh endpoint")
}

/// Takes streams as soon as they come, also in the first flight; ends with the connection.
async fn serve_connection(incoming: Incoming) {
    let Ok(accepting) = incoming.accept() else { return };
    let connection = accepting.into_0rtt();
    while let Ok((send, recv)) = connection.accept_bi().await {
        // A stream that breaks shows at the client.
        tokio::spawn(async move { serve_stream(send, recv).await.ok() });
    }
}

/// Answers length-prefixed requests until the stream ends: the same for both ways of using streams.
async fn serve_stream(mut send: SendStream, mut recv: RecvStream) -> Result<()> {
    let mut prefix = [0; PREFIX_LEN];
    let mut body = [0; REQUEST_LEN];
    while recv.read_exact(&mut prefix).await.is_ok() {
        let len = u32::from_be_bytes(prefix) as usize;
        let body = body.get_mut(..len).context("request too long")?;
        recv.read_exact(body).await?;
        send.write_all(&framed(&answer(body))?).await?;
    }
    send.finish()?;
    Ok(())
}

/// Prefix and body in one buffer, so that they leave in one packet.
fn framed(body: &[u8]) -> Result<Vec<u8>> {
    let mut message = Vec::with_capacity(PREFIX_LEN + body.len());
    message.extend_from_slice(&u32::try_from(body.len())?.to_be_bytes());
    message.extend_from_slice(body);
    Ok(message)
}

struct IrohClient {
    endpoint: Endpoint,
    streams: Streams,
}

impl Client for IrohClient {
    fn connect(&self, target: Target) -> BoxFuture<'_, Result<Arc<dyn Session>>> {
        Box::pin(async move {
            let connection = self.endpoint.connect(address(&target)?, ALPN).await?;
            Ok(self.session(connection))
        })
    }

    fn repeat_call(&self, target: Target) -> BoxFuture<'_, Result<Duration>> {
        Box::pin(async move {
            let start = Instant::now();
            let connecting = self
                .endpoint
                .connect_with_opts(address(&target)?, ALPN, Default::default())
                .await?;
            let Ok(early) = connecting.into_0rtt() else {
                bail!("no session ticket for this server: call it once before");
            };
            let mut stream = early.open_bi().await?;
            exchange(&mut stream, 0).await?;
            let elapsed = start.elapsed();
            let connection = match early.handshake_completed().await? {
                ZeroRttStatus::Accepted(connection) => connection,
                ZeroRttStatus::Rejected(_) => bail!("the server refused 0-RTT"),
            };
            // One more round trip, so that the ticket for the next repeat has arrived.
            let session = self.session(connection);
            session.call(1).await?;
            session.close().await;
            Ok(elapsed)
        })
    }

    fn shut_down(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.endpoint.close())
    }
}

impl IrohClient {
    fn session(&self, connection: Connection) -> Arc<dyn Session> {
        Arc::new(IrohSession { connection, streams: self.streams, idle: Mutex::new(Vec::new()) })
    }
}

fn address(target: &Target) -> Result<EndpointAddr> {
    let id: EndpointId = target
        .proof
        .parse()
        .map_err(|error| anyhow!("bad endpoint id {:?}: {error}", target.proof))?;
    Ok(EndpointAddr::new(id).with_ip_addr(target.addr))
}

type Stream = (SendStream, RecvStream);

struct IrohSession {
    connection: Connection,
    streams: Streams,
    idle: Mutex<Vec<Stream>>,
}

impl IrohSession {
    async fn pooled_call(&self, tag: u64) -> Result<()> {
        let idle = self.pool().pop();
        let mut stream = match idle {
            Some(stream) => stream,
            None => self.connection.open_bi().await?,
        };
        exchange(&mut stream, tag).await?;
        self.pool().push(stream);
        Ok(())
    }

    async fn one_stream_call(&self, tag: u64) -> Result<()> {
        let (mut send, mut recv) = self.connection.open_bi().await?;
        send.write_all(&framed(&request(tag))?).await?;
        send.finish()?;
        let message = recv.read_to_end(PREFIX_LEN + ANSWER_LEN).await?;
        check(tag, message.get(PREFIX_LEN..).unwrap_or_default())
    }

    fn pool(&self) -> std::sync::MutexGuard<'_, Vec<Stream>> {
        // A list of streams is whole at any moment.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One call on a stream that stays usable.
async fn exchange((send, recv): &mut Stream, tag: u64) -> Result<()> {
    send.write_all(&framed(&request(tag))?).await?;
    let mut message = [0; PREFIX_LEN + ANSWER_LEN];
    recv.read_exact(&mut message).await?;
    check(tag, &message[PREFIX_LEN..])
}

impl Session for IrohSession {
    fn call(&self, tag: u64) -> BoxFuture<'_, Result<()>> {
        match self.streams {
            Streams::Pooled => Box::pin(self.pooled_call(tag)),
            Streams::PerCall => Box::pin(self.one_stream_call(tag)),
        }
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.connection.close(VarInt::from_u32(0), b"done");
        Box::pin(async {})
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
