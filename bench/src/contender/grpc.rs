//! gRPC with tonic and TLS. The message is the bytes themselves: no protobuf work is counted against it.

use std::{
    convert::Infallible,
    net::IpAddr,
    sync::Arc,
    task::{Context as TaskContext, Poll},
    time::Duration,
};

use anyhow::{Context as _, Result};
use bytes::{Buf as _, BufMut as _, Bytes};
use futures_util::future::BoxFuture;
use hyper::http::{self, uri::PathAndQuery};
use tonic::{
    Request, Response, Status,
    body::Body,
    client,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    server::{self, NamedService, UnaryService},
    transport::{
        Certificate, Channel, ClientTlsConfig, Endpoint, Identity, Server, ServerTlsConfig,
        server::TcpIncoming,
    },
};
use tower_service::Service as TowerService;

use super::{
    After, Client, Contender, REQUEST_LEN, Service, Session, Target, Task, answer, burst_of_tasks,
    check, request, tls,
};

const CALL_PATH: &str = "/bench.Echo/Call";

/// A unary gRPC call.
pub(crate) struct Grpc;

impl Contender for Grpc {
    fn name(&self) -> &'static str {
        "grpc"
    }

    fn how(&self) -> &'static str {
        "gRPC + TLS 1.3 (tonic), unary, one channel, bytes instead of protobuf"
    }

    fn serve(&self, bind: IpAddr) -> BoxFuture<'static, Result<Service>> {
        Box::pin(async move {
            let certified = tls::certify()?;
            let incoming = TcpIncoming::bind((bind, 0).into())
                .context("listen for gRPC")?
                .with_nodelay(Some(true));
            let addr = incoming.local_addr()?;
            let identity = Identity::from_pem(&certified.cert_pem, &certified.key_pem);
            let router = Server::builder()
                .tls_config(ServerTlsConfig::new().identity(identity))?
                .add_service(EchoServer);
            // A server that breaks shows at the client.
            let task =
                tokio::spawn(async move { drop(router.serve_with_incoming(incoming).await) });
            Ok(Service {
                target: Target { addr, proof: certified.cert_pem },
                keep: Box::new(Task(task)),
            })
        })
    }

    fn client(&self, _bind: IpAddr, _after: After) -> BoxFuture<'static, Result<Arc<dyn Client>>> {
        Box::pin(async move { Ok(Arc::new(GrpcClient) as Arc<dyn Client>) })
    }
}

/// What protoc would have generated for `service Echo { rpc Call(bytes) returns (bytes); }`.
#[derive(Clone)]
struct EchoServer;

impl NamedService for EchoServer {
    const NAME: &'static str = "bench.Echo";
}

impl TowerService<http::Request<Body>> for EchoServer {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(async move {
            if request.uri().path() != CALL_PATH {
                return Ok(Status::unimplemented("no such method").into_http());
            }
            Ok(server::Grpc::new(RawCodec).unary(Echo, request).await)
        })
    }
}

struct Echo;

impl UnaryService<Bytes> for Echo {
    type Response = Bytes;
    type Future = std::future::Ready<Result<Response<Bytes>, Status>>;

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let reply = match request.into_inner() {
            body if body.len() == REQUEST_LEN => Ok(Response::new(Bytes::from(answer(&body)))),
            _ => Err(Status::invalid_argument("wrong request length")),
        };
        std::future::ready(reply)
    }
}

/// The message is the bytes.
#[derive(Clone, Copy)]
struct RawCodec;

impl Codec for RawCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put(item);
        Ok(())
    }
}

impl Decoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        let len = from.remaining();
        Ok(Some(from.copy_to_bytes(len)))
    }
}

struct GrpcClient;

impl Client for GrpcClient {
    fn connect(&self, target: Target) -> BoxFuture<'_, Result<Arc<dyn Session>>> {
        Box::pin(async move {
            let trust = ClientTlsConfig::new()
                .ca_certificate(Certificate::from_pem(&target.proof))
                .domain_name(tls::SERVER_NAME);
            let channel = Endpoint::from_shared(format!("https://{}", target.addr))?
                .tls_config(trust)?
                .tcp_nodelay(true)
                .connect()
                .await
                .with_context(|| format!("connect to {}", target.addr))?;
            Ok(Arc::new(GrpcSession { channel }) as Arc<dyn Session>)
        })
    }
}

struct GrpcSession {
    channel: Channel,
}

impl Session for GrpcSession {
    fn call(&self, tag: u64) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let mut grpc = client::Grpc::new(self.channel.clone());
            grpc.ready().await?;
            let ask = Request::new(Bytes::copy_from_slice(&request(tag)));
            let reply = grpc.unary(ask, PathAndQuery::from_static(CALL_PATH), RawCodec).await?;
            check(tag, &reply.into_inner())
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
