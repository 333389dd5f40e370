//! A comity call: JSON in and out, canonical CBOR on the wire, the answer signed by the callee and verified by the
//! caller. It uses the transport and the call protocol of the node, with sockets on the stage's own runtime; the
//! directory is not involved.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use comity::audit::Audit;
use comity::{
    rpc::{
        CallAnswer, CallFailure, CallHandler, CallRequest, Caller, ErrorCode, IncomingCall,
        NoCapabilities, Offer, Reply, Rpc, RpcConfig, RpcLimits,
    },
    transport::{Incoming, KeyExchange, Limits, Protocol, Transport, TransportConfig},
};
use comity_core::{AgentId, Hash, Identity, Sha256Digest, canonical};
use futures_util::future::BoxFuture;
use iroh::SecretKey;
use serde_json::Value;

use super::{
    ANSWER_LEN, After, Client, Contender, REQUEST_LEN, Service, Session, Target, burst_of_tasks,
};

const CAPABILITY: &str = "echo";
/// Links that are to stay open: longer than any run.
const KEEP_FOR_S: u64 = 3_600;
/// Links that are to be parked: soon after their call.
const PARK_AFTER_MS: u64 = 50;
/// How long a link may take to be parked, and how often to look.
const PARKED_WITHIN_S: u64 = 10;
const PARKED_LOOK_MS: u64 = 5;
/// All clients share one address here, as they do not elsewhere.
const HANDSHAKES_PER_S: u32 = 10_000;
/// Hexadecimal digits of a tag.
const TAG_LEN: usize = 16;

/// A node's calls.
pub(crate) struct Comity;

impl Contender for Comity {
    fn name(&self) -> &'static str {
        "comity"
    }

    fn how(&self) -> &'static str {
        "comity call: JSON through canonical CBOR, answer signed and verified, pooled streams on iroh"
    }

    fn serve(&self, bind: IpAddr) -> BoxFuture<'static, Result<Service>> {
        Box::pin(async move {
            let peer = Peer::start(bind, After::Keep, Arc::new(Echo::new()?)).await?;
            let addr =
                *peer.rpc.transport().local_addrs().first().context("comity bound no socket")?;
            let proof = peer.rpc.transport().id().to_string();
            Ok(Service { target: Target { addr, proof }, keep: Box::new(peer) })
        })
    }

    fn client(&self, bind: IpAddr, after: After) -> BoxFuture<'static, Result<Arc<dyn Client>>> {
        Box::pin(async move {
            let peer = Peer::start(bind, after, Arc::new(NoCapabilities)).await?;
            Ok(Arc::new(ComityClient { peer }) as Arc<dyn Client>)
        })
    }

    fn resumes(&self) -> bool {
        true
    }
}

/// The calling and answering part of a node.
struct Peer {
    rpc: Rpc,
    /// Directory requests of peers: none come here, and the transport wants a receiver.
    _exchanges: Box<dyn std::any::Any + Send + Sync>,
}

impl Peer {
    async fn start(bind: IpAddr, after: After, handler: Arc<dyn CallHandler>) -> Result<Self> {
        let identity = Arc::new(Identity::from_secret_bytes(&SecretKey::generate().to_bytes()));
        let limits = Limits {
            park_after: match after {
                After::Keep => Duration::from_secs(KEEP_FOR_S),
                After::Park => Duration::from_millis(PARK_AFTER_MS),
            },
            handshakes_per_source_per_s: HANDSHAKES_PER_S,
            handshakes_burst_max: HANDSHAKES_PER_S,
            ..Limits::default()
        };
        let listen = vec![SocketAddr::new(bind, 0)];
        let config = TransportConfig {
            identity: identity.clone(),
            listen,
            limits,
            key_exchange: KeyExchange::default(),
            audit: Audit::default(),
        };
        let (transport, Incoming { exchanges, calls }) = Transport::bind(config).await?;
        let config = RpcConfig {
            identity,
            handler,
            limits: RpcLimits::default(),
            clock: Default::default(),
            audit: Audit::default(),
        };
        let rpc = Rpc::start(transport, calls, config).context("start answering calls")?;
        Ok(Self { rpc, _exchanges: Box::new(exchanges) })
    }
}

/// Offers one idempotent capability that repeats a text.
struct Echo {
    offer: Arc<Offer>,
}

impl Echo {
    fn new() -> Result<Self> {
        let offer = Offer {
            name: CAPABILITY.try_into()?,
            descriptor: Hash::of(CAPABILITY.as_bytes()),
            interface: Sha256Digest::of(CAPABILITY.as_bytes()),
            idempotent: true,
            valid_for: Duration::from_secs(KEEP_FOR_S),
            data_version: None,
            closed: None,
        };
        Ok(Self { offer: Arc::new(offer) })
    }
}

impl CallHandler for Echo {
    fn offer(&self, capability: &str, _: &Caller) -> Result<Arc<Offer>, CallFailure> {
        let missing = || CallFailure::new(ErrorCode::NotFound, "no such capability");
        (capability == CAPABILITY).then(|| self.offer.clone()).ok_or_else(missing)
    }

    fn call(&self, call: IncomingCall) -> BoxFuture<'static, Result<Reply, CallFailure>> {
        Box::pin(async move {
            let invalid = |reason: String| CallFailure::new(ErrorCode::InvalidInput, reason);
            let request = call.json().map_err(|error| invalid(error.to_string()))?;
            let text = request.as_str().ok_or_else(|| invalid("a text is wanted".to_owned()))?;
            let answer = Value::from(text.repeat(ANSWER_LEN / REQUEST_LEN));
            let item = canonical::from_json(&answer).map_err(|error| invalid(error.to_string()))?;
            Ok(Reply::One(item.into()))
        })
    }

    fn record(&self, _hash: Option<&Hash>, _: &Caller) -> Option<Bytes> {
        None
    }
}

struct ComityClient {
    peer: Peer,
}

impl Client for ComityClient {
    /// Links are made by the first call.
    fn connect(&self, target: Target) -> BoxFuture<'_, Result<Arc<dyn Session>>> {
        Box::pin(async move {
            let callee = callee(&target)?;
            Ok(Arc::new(ComitySession { rpc: self.peer.rpc.clone(), callee, addr: target.addr })
                as Arc<dyn Session>)
        })
    }

    fn repeat_call(&self, target: Target) -> BoxFuture<'_, Result<Duration>> {
        Box::pin(async move {
            let callee = callee(&target)?;
            self.parked(&callee).await?;
            let start = Instant::now();
            let answer =
                self.peer.rpc.call(callee, &[target.addr], request(0)?.idempotent()).await?;
            check(0, &answer)?;
            let elapsed = start.elapsed();
            ensure!(
                answer.timings.early,
                "the call did not leave in the first flight, or was refused there"
            );
            // One more round trip, so that the ticket for the next repeat has arrived.
            let again = self.peer.rpc.call(callee, &[target.addr], request(1)?).await?;
            check(1, &again)?;
            Ok(elapsed)
        })
    }

    fn shut_down(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.peer.rpc.transport().close())
    }
}

impl ComityClient {
    /// Waits until the node has parked its link to `callee`.
    async fn parked(&self, callee: &AgentId) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(PARKED_WITHIN_S);
        while self.peer.rpc.transport().is_linked(callee, Protocol::Rpc) {
            if Instant::now() >= deadline {
                bail!("the link was not parked within {PARKED_WITHIN_S} s");
            }
            tokio::time::sleep(Duration::from_millis(PARKED_LOOK_MS)).await;
        }
        Ok(())
    }
}

fn callee(target: &Target) -> Result<AgentId> {
    target.proof.parse().with_context(|| format!("bad agent id {:?}", target.proof))
}

/// A text of [`REQUEST_LEN`] characters that starts with the tag.
fn text(tag: u64) -> String {
    format!("{tag:0TAG_LEN$x}").repeat(REQUEST_LEN / TAG_LEN)
}

fn request(tag: u64) -> Result<CallRequest> {
    Ok(CallRequest::from_json(CAPABILITY, &Value::from(text(tag)))?)
}

/// Fails unless `answer` is the whole answer to the request for `tag`.
fn check(tag: u64, answer: &CallAnswer) -> Result<()> {
    let values = answer.values()?;
    let [Value::String(got)] = values.as_slice() else {
        bail!("{} items instead of one text", values.len());
    };
    ensure!(
        *got == text(tag).repeat(ANSWER_LEN / REQUEST_LEN),
        "the answer to call {tag} belongs to another call"
    );
    Ok(())
}

struct ComitySession {
    rpc: Rpc,
    callee: AgentId,
    addr: SocketAddr,
}

impl Session for ComitySession {
    fn call(&self, tag: u64) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let answer = self.rpc.call(self.callee, &[self.addr], request(tag)?).await?;
            check(tag, &answer)
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
