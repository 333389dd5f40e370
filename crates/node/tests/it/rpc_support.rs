//! Nodes on loopback, handlers that do as told, and the wire format written down a second time for hostile peers.

#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use comity::audit::Audit;
use comity::rpc::{
    CallFailure, CallHandler, CallRequest, Caller, Clock, ErrorCode, Hello, IncomingCall, Offer,
    Reply, Rpc, RpcConfig, RpcLimits,
};
use comity::transport::{IncomingExchange, KeyExchange, Limits, Transport, TransportConfig};
use comity_core::{AgentId, Hash, Identity, Sha256Digest, canonical};
use futures_util::future::BoxFuture;
use iroh::endpoint::{Connection, RecvStream, SendStream, presets};
use serde_json::Value;
use tokio::sync::mpsc;

pub(crate) type Answer = BoxFuture<'static, Result<Reply, CallFailure>>;
pub(crate) type Behaviour = Box<dyn Fn(IncomingCall) -> Answer + Send + Sync>;

/// A handler made of closures.
#[derive(Default)]
pub(crate) struct Scripted {
    pub(crate) offers: BTreeMap<String, (Arc<Offer>, Behaviour)>,
    pub(crate) record: Option<Bytes>,
    pub(crate) hello: Hello,
    /// Answer to every question about trust.
    pub(crate) trust: Option<Bytes>,
    /// Told who said hello, and what.
    pub(crate) greeted: Option<mpsc::Sender<(AgentId, Hash, Hello)>>,
}

impl Scripted {
    /// One that offers `echo`, which answers the request itself.
    pub(crate) fn echo() -> Self {
        Self::default()
            .with("echo", true, |call| Box::pin(async move { Ok(Reply::One(call.body)) }))
    }

    pub(crate) fn with(
        mut self,
        name: &str,
        idempotent: bool,
        behaviour: impl Fn(IncomingCall) -> Answer + Send + Sync + 'static,
    ) -> Self {
        self.offers
            .insert(name.to_owned(), (Arc::new(offer(name, idempotent)), Box::new(behaviour)));
        self
    }
}

pub(crate) fn offer(name: &str, idempotent: bool) -> Offer {
    Offer {
        name: name.try_into().unwrap(),
        descriptor: Hash::of(name.as_bytes()),
        interface: Sha256Digest::of(name.as_bytes()),
        idempotent,
        valid_for: Duration::from_secs(60),
        data_version: Some("v7".try_into().unwrap()),
        closed: None,
    }
}

impl CallHandler for Scripted {
    fn offer(&self, capability: &str, _: &Caller) -> Result<Arc<Offer>, CallFailure> {
        let offer = self.offers.get(capability).map(|(offer, _)| Arc::clone(offer));
        offer.ok_or_else(|| {
            let text = format!("this agent offers no capability `{}`", capability.escape_debug());
            CallFailure::new(ErrorCode::NotFound, text)
        })
    }

    fn call(&self, call: IncomingCall) -> Answer {
        self.offers[call.offer.name.as_str()].1(call)
    }

    fn hello(&self, _: &AgentId) -> Hello {
        self.hello.clone()
    }

    fn trust(&self, _: Caller, _: Bytes) -> BoxFuture<'static, Result<Bytes, CallFailure>> {
        let none = CallFailure::new(ErrorCode::NotFound, "nothing");
        Box::pin(std::future::ready(self.trust.clone().ok_or(none)))
    }

    fn greeted(&self, peer: &AgentId, session: &Hash, hello: &Hello) {
        if let Some(greeted) = &self.greeted {
            greeted.try_send((*peer, *session, hello.clone())).unwrap();
        }
    }

    fn record(&self, _hash: Option<&Hash>, _: &Caller) -> Option<Bytes> {
        self.record.clone()
    }
}

/// One node.
pub(crate) struct Peer {
    pub(crate) rpc: Rpc,
    pub(crate) transport: Transport,
    pub(crate) exchanges: mpsc::Receiver<IncomingExchange>,
    pub(crate) id: AgentId,
    pub(crate) addrs: Vec<SocketAddr>,
}

pub(crate) fn identity() -> Arc<Identity> {
    Arc::new(Identity::generate(&mut rand::rng()))
}

pub(crate) fn loopback() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

pub(crate) async fn start(handler: Scripted) -> Peer {
    start_with(identity(), loopback(), Limits::default(), RpcLimits::default(), handler).await
}

pub(crate) async fn start_with(
    identity: Arc<Identity>,
    listen: SocketAddr,
    limits: Limits,
    rpc_limits: RpcLimits,
    handler: Scripted,
) -> Peer {
    let config = TransportConfig {
        identity: Arc::clone(&identity),
        listen: vec![listen],
        limits,
        key_exchange: KeyExchange::default(),
        audit: Audit::default(),
    };
    let (transport, incoming) = Transport::bind(config).await.unwrap();
    let config = RpcConfig {
        identity,
        handler: Arc::new(handler),
        limits: rpc_limits,
        clock: Clock::default(),
        audit: Audit::default(),
    };
    let rpc = Rpc::start(transport.clone(), incoming.calls, config).unwrap();
    Peer {
        rpc,
        id: transport.id(),
        addrs: transport.local_addrs(),
        transport,
        exchanges: incoming.exchanges,
    }
}

/// Links are parked as soon as the sweeper sees them.
pub(crate) fn parks_at_once() -> Limits {
    Limits { park_after: Duration::from_millis(40), ..Limits::default() }
}

/// Waits until `peer` has `live` links.
pub(crate) async fn until_live(peer: &Peer, live: usize) {
    peer.transport.counts().wait_for(|counts| counts.live == live).await.unwrap();
}

pub(crate) fn cbor(value: &Value) -> Bytes {
    canonical::from_json(value).unwrap().into()
}

pub(crate) fn text(length: usize) -> Bytes {
    cbor(&Value::String("x".repeat(length)))
}

pub(crate) fn ask(capability: &str, body: &Value) -> CallRequest {
    CallRequest::from_json(capability, body).unwrap()
}

/// The request frame as another implementation would write it.
#[derive(Clone, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
pub(crate) struct Request {
    #[n(0)]
    pub(crate) method: u8,
    #[n(1)]
    pub(crate) number: u64,
    #[n(2)]
    pub(crate) deadline_ms: u32,
    #[n(3)]
    pub(crate) capability: String,
    #[cbor(n(4), with = "minicbor::bytes")]
    pub(crate) body: Vec<u8>,
    #[n(5)]
    pub(crate) repeatable: bool,
    #[n(6)]
    pub(crate) descriptor: Option<Hash>,
    #[n(7)]
    pub(crate) interface: Option<Sha256Digest>,
    #[n(8)]
    pub(crate) nonce: Option<Hash>,
    #[n(9)]
    pub(crate) membership: Option<Hash>,
    #[cbor(n(10), with = "minicbor::bytes")]
    pub(crate) grants: Option<Vec<u8>>,
}

impl Request {
    pub(crate) fn hello(body: Vec<u8>) -> Self {
        Self { method: 3, body, ..Self::call("", &Bytes::new()) }
    }

    pub(crate) fn call(capability: &str, body: &Bytes) -> Self {
        let (descriptor, interface, nonce) = (None, None, None);
        Self {
            method: 0,
            number: 0,
            deadline_ms: 10_000,
            capability: capability.to_owned(),
            body: body.to_vec(),
            repeatable: true,
            descriptor,
            interface,
            nonce,
            membership: None,
            grants: None,
        }
    }
}

/// The response frames as another implementation would write them.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub(crate) enum Response {
    #[n(0)]
    Whole {
        #[cbor(n(0), with = "minicbor::bytes")]
        body: Vec<u8>,
        #[cbor(n(1), with = "minicbor::bytes")]
        receipt: Vec<u8>,
    },
    #[n(1)]
    Head,
    #[n(2)]
    Chunk {
        #[cbor(n(0), with = "minicbor::bytes")]
        data: Vec<u8>,
        #[n(1)]
        last: bool,
    },
    #[n(3)]
    End {
        #[cbor(n(0), with = "minicbor::bytes")]
        receipt: Vec<u8>,
    },
    #[n(4)]
    Error {
        #[n(0)]
        code: u32,
        #[n(1)]
        message: String,
    },
}

pub(crate) fn framed(value: &impl minicbor::Encode<()>) -> Vec<u8> {
    let body = minicbor::to_vec(value).unwrap();
    let mut out = u32::try_from(body.len()).unwrap().to_be_bytes().to_vec();
    out.extend(body);
    out
}

pub(crate) async fn read_frame(recv: &mut RecvStream) -> Vec<u8> {
    let mut prefix = [0; 4];
    recv.read_exact(&mut prefix).await.unwrap();
    let mut body = vec![0; usize::try_from(u32::from_be_bytes(prefix)).unwrap()];
    recv.read_exact(&mut body).await.unwrap();
    body
}

pub(crate) async fn read_response(recv: &mut RecvStream) -> Response {
    minicbor::decode(&read_frame(recv).await).unwrap()
}

/// A bare iroh endpoint that speaks `alpn`.
pub(crate) async fn bare(identity: &Identity, alpn: &[u8]) -> iroh::Endpoint {
    iroh::Endpoint::builder(presets::Minimal)
        .secret_key(iroh::SecretKey::from_bytes(&identity.secret_bytes()))
        .alpns(vec![alpn.to_vec()])
        .clear_ip_transports()
        .bind_addr("127.0.0.1:0")
        .unwrap()
        .bind()
        .await
        .unwrap()
}

pub(crate) fn endpoint_addr(peer: &Peer) -> iroh::EndpointAddr {
    let id = iroh::EndpointId::from_bytes(peer.id.as_bytes()).unwrap();
    peer.addrs.iter().fold(iroh::EndpointAddr::new(id), |addr, &ip| addr.with_ip_addr(ip))
}

/// A bare connection to `peer`.
pub(crate) struct Bare {
    pub(crate) endpoint: iroh::Endpoint,
    pub(crate) conn: Connection,
}

impl Bare {
    pub(crate) async fn dial(peer: &Peer, alpn: &[u8]) -> Self {
        let endpoint = bare(&identity(), alpn).await;
        let conn = endpoint.connect(endpoint_addr(peer), alpn).await.unwrap();
        Self { endpoint, conn }
    }

    /// Opens a stream and writes `bytes` on it.
    pub(crate) async fn send(&self, bytes: &[u8]) -> (SendStream, RecvStream) {
        let (mut send, recv) = self.conn.open_bi().await.unwrap();
        send.write_all(bytes).await.unwrap();
        (send, recv)
    }
}
