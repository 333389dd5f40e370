//! HTTPS with hyper and rustls: HTTP/1.1 with keep-alive, and HTTP/2.

use std::{
    convert::Infallible,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Request, Response, StatusCode,
    body::Incoming,
    client::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::ServerName;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector, client::TlsStream};

use super::{
    After, Client, Contender, Service, Session, Target, Task, answer, burst_of_tasks, check,
    request, tls,
};

/// Which HTTP.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    /// HTTP/1.1, a connection per call in flight, kept alive.
    Http1,
    /// HTTP/2, one connection.
    Http2,
}

impl Version {
    fn alpn(self) -> &'static [u8] {
        match self {
            Self::Http1 => b"http/1.1",
            Self::Http2 => b"h2",
        }
    }
}

/// HTTPS POST.
pub(crate) struct Https {
    pub(crate) version: Version,
}

impl Contender for Https {
    fn name(&self) -> &'static str {
        match self.version {
            Version::Http1 => "https1",
            Version::Http2 => "https2",
        }
    }

    fn how(&self) -> &'static str {
        match self.version {
            Version::Http1 => {
                "HTTP/1.1 + TLS 1.3 keep-alive (hyper, rustls), a connection per call in flight"
            }
            Version::Http2 => "HTTP/2 + TLS 1.3 (hyper, rustls), one connection",
        }
    }

    fn serve(&self, bind: IpAddr) -> BoxFuture<'static, Result<Service>> {
        let version = self.version;
        Box::pin(async move {
            let certified = tls::certify()?;
            let acceptor = TlsAcceptor::from(tls::server(&certified, version.alpn())?);
            let listener = TcpListener::bind((bind, 0)).await.context("listen for HTTPS")?;
            let addr = listener.local_addr()?;
            let task = tokio::spawn(async move {
                while let Ok((tcp, _)) = listener.accept().await {
                    let acceptor = acceptor.clone();
                    // A connection that breaks shows at the client.
                    tokio::spawn(
                        async move { serve_connection(tcp, acceptor, version).await.ok() },
                    );
                }
            });
            Ok(Service {
                target: Target { addr, proof: certified.cert_pem },
                keep: Box::new(Task(task)),
            })
        })
    }

    fn client(&self, _bind: IpAddr, _after: After) -> BoxFuture<'static, Result<Arc<dyn Client>>> {
        let version = self.version;
        Box::pin(async move { Ok(Arc::new(HttpsClient { version }) as Arc<dyn Client>) })
    }
}

async fn serve_connection(tcp: TcpStream, acceptor: TlsAcceptor, version: Version) -> Result<()> {
    tcp.set_nodelay(true)?;
    let io = TokioIo::new(acceptor.accept(tcp).await?);
    match version {
        Version::Http1 => {
            hyper::server::conn::http1::Builder::new()
                .serve_connection(io, service_fn(reply))
                .await?;
        }
        Version::Http2 => {
            hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .serve_connection(io, service_fn(reply))
                .await?;
        }
    }
    Ok(())
}

async fn reply(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(match request.into_body().collect().await {
        Ok(body) => Response::new(Full::new(Bytes::from(answer(&body.to_bytes())))),
        Err(_) => {
            let mut bad = Response::new(Full::new(Bytes::new()));
            *bad.status_mut() = StatusCode::BAD_REQUEST;
            bad
        }
    })
}

struct HttpsClient {
    version: Version,
}

impl Client for HttpsClient {
    fn connect(&self, target: Target) -> BoxFuture<'_, Result<Arc<dyn Session>>> {
        Box::pin(async move {
            let tls = self.trust(&target)?;
            self.open(target, tls).await
        })
    }

    /// Reading the certificate is not part of connecting, so it stays outside the clock.
    fn first_call(&self, target: Target) -> BoxFuture<'_, Result<Duration>> {
        Box::pin(async move {
            let tls = self.trust(&target)?;
            let start = Instant::now();
            let session = self.open(target, tls).await?;
            session.call(0).await?;
            Ok(start.elapsed())
        })
    }
}

impl HttpsClient {
    fn trust(&self, target: &Target) -> Result<TlsConnector> {
        Ok(TlsConnector::from(tls::client(&target.proof, self.version.alpn())?))
    }

    async fn open(&self, target: Target, tls: TlsConnector) -> Result<Arc<dyn Session>> {
        Ok(match self.version {
            Version::Http1 => {
                let idle = Mutex::new(vec![connect_http1(&target, &tls).await?]);
                Arc::new(Http1Session { target, tls, idle })
            }
            Version::Http2 => {
                let io = TokioIo::new(connect_tls(&target, &tls).await?);
                let (sender, connection) = http2::Builder::new(TokioExecutor::new())
                    .timer(TokioTimer::new())
                    .handshake(io)
                    .await?;
                let task = Task(tokio::spawn(async move { drop(connection.await) }));
                Arc::new(Http2Session { sender, _task: task })
            }
        })
    }
}

async fn connect_tls(target: &Target, tls: &TlsConnector) -> Result<TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(target.addr)
        .await
        .with_context(|| format!("connect to {}", target.addr))?;
    tcp.set_nodelay(true)?;
    tls.connect(ServerName::try_from(tls::SERVER_NAME)?, tcp).await.context("TLS handshake")
}

async fn connect_http1(target: &Target, tls: &TlsConnector) -> Result<Http1Connection> {
    let io = TokioIo::new(connect_tls(target, tls).await?);
    let (sender, connection) = http1::handshake(io).await?;
    Ok(Http1Connection { sender, _task: Task(tokio::spawn(async move { drop(connection.await) })) })
}

struct Http1Connection {
    sender: http1::SendRequest<Full<Bytes>>,
    _task: Task,
}

struct Http1Session {
    target: Target,
    tls: TlsConnector,
    idle: Mutex<Vec<Http1Connection>>,
}

impl Http1Session {
    fn pool(&self) -> std::sync::MutexGuard<'_, Vec<Http1Connection>> {
        // A list of connections is whole at any moment.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session for Http1Session {
    fn call(&self, tag: u64) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let idle = self.pool().pop();
            let mut connection = match idle {
                Some(connection) => connection,
                None => connect_http1(&self.target, &self.tls).await?,
            };
            connection.sender.ready().await?;
            let response = connection.sender.send_request(post("/call", tag)?).await?;
            check_response(tag, response).await?;
            self.pool().push(connection);
            Ok(())
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

struct Http2Session {
    sender: http2::SendRequest<Full<Bytes>>,
    _task: Task,
}

impl Session for Http2Session {
    fn call(&self, tag: u64) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let mut sender = self.sender.clone();
            sender.ready().await?;
            let response = sender.send_request(post("https://localhost/call", tag)?).await?;
            check_response(tag, response).await
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

fn post(uri: &str, tag: u64) -> Result<Request<Full<Bytes>>> {
    let mut builder = Request::post(uri).header("content-type", "application/octet-stream");
    if uri.starts_with('/') {
        builder = builder.header("host", tls::SERVER_NAME);
    }
    Ok(builder.body(Full::new(Bytes::copy_from_slice(&request(tag))))?)
}

async fn check_response(tag: u64, response: Response<Incoming>) -> Result<()> {
    if response.status() != StatusCode::OK {
        bail!("HTTP status {}", response.status());
    }
    check(tag, &response.into_body().collect().await?.to_bytes())
}
