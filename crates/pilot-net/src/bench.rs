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
        let port = node.listen(SINK, Access::Anyone);
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

/// What a measurement found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Kernel TCP.
    pub tcp: Transfer,
    /// A Pilot stream.
    pub pilot: Transfer,
    /// Pilot's share of TCP.
    pub ratio: f64,
    /// Segments sent again.
    pub retransmitted: u64,
    /// Times the retransmission timer fired.
    pub timeouts: u64,
    /// The smoothed round trip at the end, milliseconds.
    pub rtt_ms: Option<f64>,
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

/// Measures towards a [`BenchServer`]: `dials` connections, then a transfer each over TCP and Pilot.
///
/// # Errors
/// What the sockets or the connections say.
pub async fn measure(server: SocketAddr, limit: Limit, dials: u32) -> io::Result<Report> {
    let any =
        SocketAddr::new(if server.is_ipv4() { [0, 0, 0, 0].into() } else { [0u16; 8].into() }, 0);
    let (node, finding) = node(SERVER + 1, any, Some(server)).await?;
    let to = SocketAddress { address: Address::backbone(SERVER), port: SINK };
    let began = Instant::now();
    node.connect(to).await.map_err(unreachable)?;
    let first = began.elapsed();
    let mut took = Vec::new();
    for _dial in 0..dials.max(1) {
        let began = Instant::now();
        node.connect(to).await.map_err(unreachable)?;
        took.push(began.elapsed());
    }
    took.sort();
    let millis = |time: Duration| time.as_secs_f64() * 1000.0;

    let stream = TcpStream::connect(server).await?;
    let tcp = transfer(stream, limit).await?;
    let mut connection = node.connect(to).await.map_err(unreachable)?;
    let pilot = transfer(&mut connection, limit).await?;
    let counted: Option<Statistics> = connection.statistics();
    finding.abort();
    Ok(Report {
        ratio: pilot.megabytes_per_second / tcp.megabytes_per_second,
        tcp,
        pilot,
        retransmitted: counted.map_or(0, |counted| counted.retransmitted),
        timeouts: counted.map_or(0, |counted| counted.timeouts),
        rtt_ms: counted.and_then(|counted| counted.smoothed_rtt).map(millis),
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
