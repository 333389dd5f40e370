//! Measurements: Pilot streams between two nodes that need no registry, beside kernel TCP between the same hosts in the same run.
//!
//! The nodes' keys are made from their numbers, so anybody can be one: nothing but bytes to be counted is exchanged, and the server ends
//! with the measurement.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use comity_pilot::address::{Address, NodeId, SocketAddress};
use comity_pilot::engine::{Access, Config};
use comity_pilot::identity::Identity;
use comity_pilot::stream::{Failure, Statistics};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::node::{Connection, Node, Notice};

/// The server's number; its clients count from the next.
const SERVER: NodeId = 1;
/// Clients that the server trusts: a stranger's connections have the buffers of a stranger.
const CLIENTS_MAX: NodeId = 4096;
/// Where bytes are counted.
const SINK: u16 = 9;
/// Bytes written and read at a time.
const BLOCK_BYTES: usize = 1 << 18;
/// The first byte of the last block.
const LAST: u8 = 0;

fn identity(node: NodeId) -> Identity {
    let seed = Sha256::digest([b"comity pilot bench".as_slice(), &node.to_be_bytes()].concat());
    Identity::from_seed(&seed.into())
}

/// Starts a node that finds its peers by the number alone; the server is at `server`.
async fn node(
    number: NodeId,
    listen: SocketAddr,
    server: Option<SocketAddr>,
) -> io::Result<(Arc<Node>, JoinHandle<()>)> {
    let socket = UdpSocket::bind(listen).await?;
    let (node, mut notices) = Node::start(socket, Config::new(number), identity(number))?;
    let node = Arc::new(node);
    let finding = Arc::downgrade(&node);
    let task = tokio::spawn(async move {
        while let Some(notice) = notices.recv().await {
            let Some(node) = finding.upgrade() else { return };
            if let Notice::Find(peer) = notice {
                let at = server.filter(|_at| peer == SERVER);
                node.found(peer, identity(peer).public(), at.into_iter().collect());
            }
        }
    });
    Ok((node, task))
}

/// The receiving end of measurements, over Pilot (UDP) and TCP at the same address.
#[derive(Debug)]
pub struct BenchServer {
    at: SocketAddr,
    node: Arc<Node>,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for BenchServer {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl BenchServer {
    /// Listens.
    ///
    /// # Errors
    /// What the sockets refuse.
    pub async fn start(listen: SocketAddr) -> io::Result<Self> {
        let tcp = TcpListener::bind(listen).await?;
        let at = tcp.local_addr()?;
        let (node, finding) = node(SERVER, at, None).await?;
        node.set_trusted((SERVER + 1..=SERVER + CLIENTS_MAX).collect());
        let port = node.listen(SINK, Access::Trusted);
        let connections = port.ok_or_else(|| io::Error::other("the sink's port is taken"))?;
        let tasks =
            vec![finding, tokio::spawn(sink_streams(connections)), tokio::spawn(sink_tcp(tcp))];
        Ok(Self { at, node, tasks })
    }

    /// Where it listens.
    #[must_use]
    pub const fn at(&self) -> SocketAddr {
        self.at
    }

    /// Peers with a tunnel.
    #[must_use]
    pub fn peers(&self) -> usize {
        self.node.peers().len()
    }
}

async fn sink_streams(mut connections: mpsc::Receiver<Connection>) {
    while let Some(connection) = connections.recv().await {
        tokio::spawn(async move { sink(connection).await.ok() });
    }
}

async fn sink_tcp(listener: TcpListener) {
    while let Ok((stream, _from)) = listener.accept().await {
        tokio::spawn(async move { sink(stream).await.ok() });
    }
}

/// Counts blocks until the one that says it is the last, and tells how many bytes they were. A Pilot stream that is closed one way is closed,
/// so the end cannot be told as TCP would.
async fn sink(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    let mut block = vec![0; BLOCK_BYTES];
    let mut total = 0u64;
    loop {
        stream.read_exact(&mut block).await?;
        total += BLOCK_BYTES as u64;
        if block[0] == LAST {
            stream.write_all(&total.to_be_bytes()).await?;
            total = 0;
        }
    }
}

/// What one transfer came to.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Transfer {
    /// Bytes carried.
    pub bytes: u64,
    /// From the first write to the word that all is there.
    pub seconds: f64,
    /// Millions of bytes a second.
    pub megabytes_per_second: f64,
}

async fn transfer(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    limit: Limit,
) -> io::Result<Transfer> {
    let mut block = vec![0x5A; BLOCK_BYTES];
    let began = Instant::now();
    let mut bytes = 0;
    while block[0] != LAST {
        bytes += BLOCK_BYTES as u64;
        if bytes >= limit.bytes || began.elapsed() >= limit.time {
            block[0] = LAST;
        }
        stream.write_all(&block).await?;
    }
    let counted = stream.read_u64().await?;
    if counted != bytes {
        return Err(io::Error::other(format!("{counted} of {bytes} bytes were counted")));
    }
    let seconds = began.elapsed().as_secs_f64();
    let megabytes_per_second = bytes as f64 / 1e6 / seconds;
    Ok(Transfer { bytes, seconds, megabytes_per_second })
}

/// How much is carried: so many bytes, or for so long, whichever ends first.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    /// Bytes, rounded up to blocks of 256 KiB.
    pub bytes: u64,
    /// Time of writing.
    pub time: Duration,
}

/// Counters of a Pilot stream at its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Counters {
    /// Segments with data that were sent, those sent again included.
    pub segments: u64,
    /// Segments sent again.
    pub retransmitted: u64,
    /// Times the congestion window was reduced because a loss was found.
    pub reductions: u64,
    /// Times the retransmission timer fired.
    pub timeouts: u64,
    /// The smoothed round trip, milliseconds.
    pub rtt_ms: Option<f64>,
    /// Bytes of data in a segment.
    pub segment_bytes: usize,
    /// The congestion window in segments: the mean over all segments sent.
    pub window_mean: f64,
}

impl From<Statistics> for Counters {
    fn from(counted: Statistics) -> Self {
        Self {
            segments: counted.segments,
            retransmitted: counted.retransmitted,
            reductions: counted.reductions,
            timeouts: counted.timeouts,
            rtt_ms: counted.smoothed_rtt.map(millis),
            segment_bytes: counted.segment_bytes,
            window_mean: counted.mean_window as f64 / counted.segment_bytes.max(1) as f64,
        }
    }
}

/// What a measurement found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Kernel TCP.
    pub tcp: Transfer,
    /// Its congestion control, where one was asked for.
    pub congestion: Option<String>,
    /// A Pilot stream.
    pub pilot: Transfer,
    /// Pilot's share of TCP.
    pub ratio: f64,
    /// Of the Pilot stream.
    pub counters: Counters,
    /// Opening the first connection, tunnel and all, milliseconds.
    pub first_dial_ms: f64,
    /// Median of opening further ones.
    pub dial_ms: f64,
    /// The slowest hundredth of them begins here.
    pub dial_p99_ms: f64,
}

fn unreachable(failure: Failure) -> io::Error {
    io::Error::other(format!("the bench server is not reached: {failure}"))
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// The measuring end.
#[derive(Clone, Debug)]
pub struct BenchClient {
    server: SocketAddr,
    node: Arc<Node>,
    _finding: Arc<Finding>,
}

#[derive(Debug)]
struct Finding(JoinHandle<()>);

impl Drop for Finding {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl BenchClient {
    /// A node that will measure towards a [`BenchServer`].
    ///
    /// # Errors
    /// What the socket refuses.
    pub async fn start(server: SocketAddr) -> io::Result<Self> {
        let any = if server.is_ipv4() { [0, 0, 0, 0].into() } else { [0u16; 8].into() };
        let (node, finding) = node(SERVER + 1, SocketAddr::new(any, 0), Some(server)).await?;
        Ok(Self { server, node, _finding: Arc::new(Finding(finding)) })
    }

    async fn connect(&self) -> io::Result<Connection> {
        let to = SocketAddress { address: Address::backbone(SERVER), port: SINK };
        self.node.connect(to).await.map_err(unreachable)
    }

    /// How long it takes to open a connection.
    ///
    /// # Errors
    /// What the connection says.
    pub async fn dial(&self) -> io::Result<Duration> {
        let began = Instant::now();
        self.connect().await?;
        Ok(began.elapsed())
    }

    /// One transfer over kernel TCP, under the congestion control of this name where one is given (Linux).
    ///
    /// # Errors
    /// What the connection says; a congestion control that this kernel does not have.
    pub async fn tcp(&self, limit: Limit, congestion: Option<&str>) -> io::Result<Transfer> {
        let stream = TcpStream::connect(self.server).await?;
        if let Some(name) = congestion {
            choose_congestion(&stream, name)?;
        }
        transfer(stream, limit).await
    }

    /// One transfer over a Pilot stream.
    ///
    /// # Errors
    /// What the connection says.
    pub async fn pilot(&self, limit: Limit) -> io::Result<(Transfer, Counters)> {
        let mut connection = self.connect().await?;
        let transfer = transfer(&mut connection, limit).await?;
        Ok((transfer, connection.statistics().unwrap_or_default().into()))
    }
}

#[cfg(target_os = "linux")]
fn choose_congestion(stream: &TcpStream, name: &str) -> io::Result<()> {
    socket2::SockRef::from(stream).set_tcp_congestion(name.as_bytes()).map_err(|error| {
        let list = "/proc/sys/net/ipv4/tcp_available_congestion_control";
        let known = std::fs::read_to_string(list).unwrap_or_default();
        let text =
            format!("no TCP congestion control {name:?} ({error}); there are: {}", known.trim());
        io::Error::new(error.kind(), text)
    })
}

#[cfg(not(target_os = "linux"))]
fn choose_congestion(_stream: &TcpStream, name: &str) -> io::Result<()> {
    let text = format!("the congestion control of TCP cannot be chosen on this system: {name:?}");
    Err(io::Error::new(io::ErrorKind::Unsupported, text))
}

/// Measures towards a [`BenchServer`]: `dials` connections, then a transfer each over TCP (see [`BenchClient::tcp`]) and Pilot.
///
/// # Errors
/// What the sockets or the connections say.
pub async fn measure(
    server: SocketAddr,
    limit: Limit,
    dials: u32,
    congestion: Option<&str>,
) -> io::Result<Report> {
    let client = BenchClient::start(server).await?;
    let first = client.dial().await?;
    let mut took = Vec::new();
    for _dial in 0..dials.max(1) {
        took.push(client.dial().await?);
    }
    took.sort();
    let tcp = client.tcp(limit, congestion).await?;
    let (pilot, counters) = client.pilot(limit).await?;
    Ok(Report {
        ratio: pilot.megabytes_per_second / tcp.megabytes_per_second,
        tcp,
        congestion: congestion.map(str::to_owned),
        pilot,
        counters,
        first_dial_ms: millis(first),
        dial_ms: millis(took[took.len() / 2]),
        dial_p99_ms: millis(took[took.len() * 99 / 100]),
    })
}

/// Peers that do nothing but stay connected to a [`BenchServer`].
#[derive(Debug)]
pub struct Idlers {
    _nodes: Vec<(Arc<Node>, JoinHandle<()>, Connection)>,
}

impl Idlers {
    /// Connects so many.
    ///
    /// # Errors
    /// What the sockets or the connections say.
    pub async fn connect(server: SocketAddr, count: u32) -> io::Result<Self> {
        let any = SocketAddr::new(server.ip(), 0);
        let to = SocketAddress { address: Address::backbone(SERVER), port: SINK };
        let mut nodes = Vec::new();
        for number in 0..count {
            let (node, finding) = node(SERVER + 2 + number, any, Some(server)).await?;
            let connection = node.connect(to).await.map_err(unreachable)?;
            nodes.push((node, finding, connection));
        }
        Ok(Self { _nodes: nodes })
    }
}
