//! The baseline: a process that answers plain HTTP/1.1 with as many bytes as it is asked for, and the client for it.
//!
//! Its client works as the client of the local API does, so that the difference between the two is what comity adds.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, BufReader};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::process::{Child, ChildStdin, Command};
use tokio::task::JoinHandle;

use crate::output::Output;

/// Most bytes an answer may have: 1 MiB.
const ANSWER_MAX: usize = 1 << 20;

/// Answers on a Unix socket and on loopback until standard input closes; prints the loopback port first.
pub(crate) async fn serve(socket: &Path, out: &Output) -> Result<ExitCode> {
    let unix = UnixListener::bind(socket).context("cannot listen on the socket")?;
    let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("cannot listen")?;
    out.raw(&format!("{}\n", tcp.local_addr()?.port()))?;
    let mut lifeline = tokio::io::stdin();
    let mut sink = tokio::io::sink();
    let mut closed = std::pin::pin!(tokio::io::copy(&mut lifeline, &mut sink));
    loop {
        tokio::select! {
            accepted = unix.accept() => { tokio::spawn(answer_all(accepted?.0)); }
            accepted = tcp.accept() => {
                let stream = accepted?.0;
                stream.set_nodelay(true)?;
                tokio::spawn(answer_all(stream));
            }
            _closed = &mut closed => return Ok(ExitCode::SUCCESS),
        }
    }
}

async fn answer_all(stream: impl AsyncRead + AsyncWrite + Unpin) {
    let connection = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service_fn(answer));
    // A caller that goes away has nobody left to tell.
    let _ = connection.await;
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let size = request.uri().path().trim_start_matches('/').parse::<usize>();
    let size = size.unwrap_or(0).min(ANSWER_MAX);
    // A body that ends early ends the connection; there is nothing to answer then.
    let _read = request.into_body().collect().await;
    Ok(Response::new(Full::new(Bytes::from(vec![b'.'; size]))))
}

/// The running echo process.
#[derive(Debug)]
pub(crate) struct Echo {
    socket: PathBuf,
    tcp: SocketAddr,
    child: Child,
    /// It ends when this closes.
    _lifeline: Option<ChildStdin>,
}

impl Echo {
    /// Starts it with its socket below `directory`.
    pub(crate) async fn start(directory: &Path) -> Result<Self> {
        let socket = directory.join("echo.sock");
        let exe = std::env::current_exe().context("cannot find the comity program itself")?;
        let mut child = Command::new(exe)
            .args(["bench".as_ref(), "--echo".as_ref(), socket.as_os_str()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .context("cannot start the echo process")?;
        let lifeline = child.stdin.take();
        let mut line = String::new();
        let stdout = child.stdout.take().context("the echo process has an output")?;
        BufReader::new(stdout).read_line(&mut line).await.context("the echo process failed")?;
        let port: u16 = line.trim().parse().context("the echo process named no port")?;
        Ok(Self { socket, tcp: (Ipv4Addr::LOCALHOST, port).into(), child, _lifeline: lifeline })
    }

    /// One request over a new connection to the Unix socket.
    pub(crate) async fn over_unix(&self, body: &[u8], answer: usize) -> Result<()> {
        Kept::connect(UnixStream::connect(&self.socket).await?).await?.request(body, answer).await
    }

    /// One request over a new TCP connection.
    pub(crate) async fn over_tcp(&self, body: &[u8], answer: usize) -> Result<()> {
        self.keep_tcp().await?.request(body, answer).await
    }

    /// A TCP connection for many requests.
    pub(crate) async fn keep_tcp(&self) -> Result<Kept> {
        let stream = TcpStream::connect(self.tcp).await?;
        stream.set_nodelay(true)?;
        Kept::connect(stream).await
    }

    /// Ends it and waits for its end.
    pub(crate) async fn stop(mut self) {
        // It may have ended by itself.
        let _ = self.child.kill().await;
    }
}

/// A connection to the echo process.
#[derive(Debug)]
pub(crate) struct Kept {
    sender: SendRequest<Full<Bytes>>,
    connection: JoinHandle<()>,
}

impl Kept {
    async fn connect(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Result<Self> {
        let (sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(async move {
            // A failing connection shows as the failing request that waits on it.
            let _ = connection.await;
        });
        Ok(Self { sender, connection })
    }

    /// One request with `body`, answered by `answer` bytes.
    pub(crate) async fn request(&mut self, body: &[u8], answer: usize) -> Result<()> {
        self.sender.ready().await?;
        let request = Request::post(format!("/{answer}"))
            .header(HOST, "echo")
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::copy_from_slice(body)))?;
        let response = self.sender.send_request(request).await?;
        let got = response.into_body().collect().await?.to_bytes().len();
        if got != answer {
            bail!("the echo process answered {got} bytes instead of {answer}");
        }
        Ok(())
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.connection.abort();
    }
}
