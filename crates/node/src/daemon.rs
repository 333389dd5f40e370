//! A node with a home directory and the local API: what `comity up` runs.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use comity_api::types::{EndpointRequest, ErrorCode, ErrorInfo};
use comity_api::{Endpoints, JoinAddress};
use comity_specialist::mcp::McpOpener;
use thiserror::Error;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

use crate::error::SpawnError;
use crate::home::Home;
use crate::node::Node;
use crate::server::{Api, ApiSocket, ApiSocketError};
use crate::transport::KeyExchange;

/// First pause between attempts to join; doubles up to the longest.
const REJOIN_PAUSE_MIN: Duration = Duration::from_secs(1);
const REJOIN_PAUSE_MAX: Duration = Duration::from_secs(60);

/// How a daemon runs.
#[derive(Debug, Clone)]
pub struct DaemonConfig {
    /// Its home directory, where the key must already be.
    pub home: PathBuf,
    /// Where to listen (UDP).
    pub listen: Vec<SocketAddr>,
    /// Running nodes to enter through; remembered peers are tried besides.
    pub join: Vec<JoinAddress>,
    /// Leading zero bits that keys of the network are minted with.
    pub mint_bits: u32,
    /// The network's name, for people.
    pub network: String,
    /// How the secrets of links are agreed on.
    pub key_exchange: KeyExchange,
    /// Stop when standard input ends, so that the daemon cannot outlive the program that started it.
    pub until_stdin_closes: bool,
    /// Runs the node's clock ahead of the system's by so many seconds: for tests of clock skew.
    pub clock_offset_secs: i64,
    /// How many bytes of large answers it hands out in a second; as many as go, if not given.
    pub share_bytes_per_s: Option<u64>,
    /// Opens MCP servers; without it they cannot be served.
    pub mcp: Option<Arc<dyn McpOpener>>,
    /// Opens endpoints for programs of other protocols, inside the node; without it there are none.
    pub endpoints: Option<Arc<dyn Endpoints>>,
    /// Endpoints that are there for as long as the node.
    pub open: Vec<EndpointRequest>,
}

/// Why a daemon does not run.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DaemonError {
    /// The node could not be started.
    #[error(transparent)]
    Spawn(SpawnError),
    /// The local API's socket could not be created.
    #[error(transparent)]
    Socket(ApiSocketError),
    /// An endpoint could not be opened.
    #[error("{}", .0.message)]
    Endpoint(ErrorInfo),
    /// Signals cannot be received.
    #[error("signals cannot be received, so the node could not be stopped in order")]
    Signals(#[source] std::io::Error),
}

/// Runs a node until it is told to stop: by the API, by SIGINT or SIGTERM, or by the end of standard input.
///
/// # Errors
/// [`DaemonError`] when it cannot start; a node that started stops in order.
pub async fn run(config: DaemonConfig) -> Result<(), DaemonError> {
    let home = Home::at(&config.home);
    let mut interrupt = signal(SignalKind::interrupt()).map_err(DaemonError::Signals)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(DaemonError::Signals)?;
    let mut builder = Node::builder();
    if let Some(opener) = config.mcp {
        builder = builder.mcp(opener);
    }
    if let Some(rate) = config.share_bytes_per_s {
        builder = builder.share_rate(rate);
    }
    let node = builder
        .home(&config.home)
        .listen(config.listen)
        .mint_bits(config.mint_bits)
        .network(config.network)
        .key_exchange(config.key_exchange)
        .clock_offset_secs(config.clock_offset_secs)
        .start()
        .await
        .map_err(DaemonError::Spawn)?;
    let socket = match ApiSocket::bind(&home.socket()) {
        Ok(socket) => socket,
        Err(error) => {
            node.shutdown().await;
            return Err(DaemonError::Socket(error));
        }
    };
    info!(agent = %node.id(), addrs = ?node.info().addrs, "the node is up");

    let stop = CancellationToken::new();
    let network = node.inner.threads.network();
    let api = Api::new(Arc::new(node.clone()), stop.clone()).endpoints(config.endpoints);
    let mut serving = Vec::new();
    for request in config.open {
        // Where its work runs is where its listener belongs.
        let opener = api.clone();
        let opened = network.spawn(async move { opener.open(request).await }).await;
        let opened = opened
            .unwrap_or_else(|error| Err(ErrorInfo::new(ErrorCode::Internal, error.to_string())));
        match opened {
            Ok(open) => {
                info!(listen = %open.listen, "an endpoint is open");
                serving.push(AbortOnDropHandle::new(network.spawn(open.work)));
            }
            Err(error) => {
                node.shutdown().await;
                return Err(DaemonError::Endpoint(error));
            }
        }
    }
    let api = network.spawn(api.serve(socket));
    let background = tokio::spawn(settle(node.clone(), config.join));
    tokio::select! {
        () = node.inner.stop_requested.notified() => info!("stopping: asked through the API"),
        _ = interrupt.recv() => info!("stopping: interrupted"),
        _ = terminate.recv() => info!("stopping: terminated"),
        () = stdin_closed(), if config.until_stdin_closes => info!("stopping: standard input ended"),
    }
    background.abort();
    drop(serving);
    node.shutdown().await;
    stop.cancel();
    if api.await.is_err() {
        warn!("the local API ended out of order");
    }
    Ok(())
}

/// Serves again what was served before and enters the network, trying until it succeeds.
async fn settle(node: Node, join: Vec<JoinAddress>) {
    node.restore_served().await;
    let mut pause = REJOIN_PAUSE_MIN;
    if node.rejoin().await && join.is_empty() {
        return;
    }
    if join.is_empty() {
        let remembered = node.remembered_peers().await;
        if remembered.is_empty() {
            info!("no peers: this is the first node of a network, or give an address with --join");
            return;
        }
        loop {
            warn!("no peer of earlier runs answers; trying again in {pause:?}");
            tokio::time::sleep(pause).await;
            if node.rejoin_through(remembered.clone()).await {
                return;
            }
            pause = (pause * 2).min(REJOIN_PAUSE_MAX);
        }
    }
    while let Err(error) = node.join(&join).await {
        warn!(%error, "trying again in {pause:?}");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(REJOIN_PAUSE_MAX);
    }
}

async fn stdin_closed() {
    // Whatever is written to a daemon's standard input means nothing; its end does.
    let mut sink = tokio::io::sink();
    if tokio::io::copy(&mut tokio::io::stdin(), &mut sink).await.is_err() {
        warn!("standard input cannot be read any more");
    }
}
