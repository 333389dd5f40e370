//! The handle of a running node.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use comity_api::types::{AgentName, ErrorCode, ErrorInfo, JoinFailure, JoinState};
use comity_api::{JoinAddress, Ticket};
use comity_capability::record::{Capability, RecordError};
use comity_core::{AgentId, OverlayId, Time};
use comity_overlay::Contact;
use comity_specialist::Specialist;
use comity_specialist::mcp::McpOpener;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::access::Gate;
use crate::attest::Attest;
use crate::audit::{Audit, Witness};
use crate::builder::Builder;
use crate::calls::{Lately, LocalSigner};
use crate::clock::Clock;
use crate::directory::{self, Directory, PositionCache};
use crate::error::{JoinError, describe};
use crate::groups::Groups;
use crate::handles::Handles;
use crate::home::{Home, HomeLock};
use crate::publisher::{PublishError, Published, Publisher};
use crate::records::RecordCache;
use crate::registry::{Registry, Served};
use crate::results::Results;
use crate::rpc::Rpc;
use crate::runtime::Threads;
use crate::signals::Signals;
use crate::storage::Storage;
use crate::transport::{LinkCounts, LinkTraffic, Protocol, Transport};

/// How long a node that stops may take to withdraw what it published and say goodbye.
const FAREWELL_MAX: Duration = Duration::from_secs(3);

/// A running node. Cheap to clone; the node runs until [`Node::shutdown`] or until the last clone is dropped.
#[derive(Debug, Clone)]
pub struct Node {
    pub(crate) inner: Arc<Inner>,
}

/// Who and where a node is.
#[derive(Debug, Clone)]
pub struct NodeInfo {
    /// The agent it carries.
    pub agent: AgentId,
    /// Its place in the overlay.
    pub overlay_id: OverlayId,
    /// Where peers reach it.
    pub addrs: Vec<SocketAddr>,
    /// What others join by.
    pub ticket: Ticket,
    /// The network's name, for people.
    pub network: String,
    /// Leading zero bits that keys of the network are minted with.
    pub mint_bits: u32,
    /// When it was started.
    pub started: Time,
}

pub(crate) struct Inner {
    // Constant.
    pub(crate) info: NodeInfo,
    pub(crate) home: Option<Home>,
    pub(crate) local_signer: LocalSigner,
    pub(crate) clock: Clock,
    // Handles.
    pub(crate) positions: PositionCache,
    pub(crate) storage: Storage,
    pub(crate) directory: Directory,
    pub(crate) publisher: Arc<Publisher>,
    pub(crate) transport: Transport,
    pub(crate) rpc: Rpc,
    pub(crate) audit: Audit,
    pub(crate) witness: Witness,
    pub(crate) handles: Handles,
    // Synchronised by themselves.
    pub(crate) registry: Arc<Registry>,
    pub(crate) mcp: Option<Arc<dyn McpOpener>>,
    pub(crate) groups: Arc<Groups>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) results: Arc<Results>,
    pub(crate) attest: Arc<Attest>,
    pub(crate) signals: Signals,
    pub(crate) records: RecordCache,
    pub(crate) lately: Lately,
    pub(crate) counts: Counts,
    pub(crate) joining: RwLock<JoinProgress>,
    /// Held while what is served changes, so that disk, registry and directory change together.
    pub(crate) serving: Mutex<()>,
    /// Nobody else may use the home directory while this is held: until the node has stopped, whoever keeps a handle to it.
    pub(crate) lock: std::sync::Mutex<Option<HomeLock>>,
    pub(crate) threads: Threads,
    /// The local API was asked to stop the node.
    pub(crate) stop_requested: tokio::sync::Notify,
    pub(crate) cancel: CancellationToken,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node").field("info", &self.info).finish_non_exhaustive()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.cancel.cancel();
        self.threads.stop();
    }
}

/// Calls counted since the start.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) made: AtomicU64,
    pub(crate) made_failed: AtomicU64,
    pub(crate) in_flight: AtomicU32,
}

/// How far this node got into the network.
#[derive(Debug, Clone)]
pub(crate) enum JoinProgress {
    Alone,
    Joining(Vec<JoinFailure>),
    Joined,
    Failed(Vec<JoinFailure>),
}

impl Node {
    /// A node to be configured and started.
    #[must_use]
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(crate) fn new(inner: Inner) -> Self {
        Self { inner: Arc::new(inner) }
    }

    /// The agent this node carries.
    #[must_use]
    pub fn id(&self) -> AgentId {
        self.inner.info.agent
    }

    /// Who and where this node is.
    #[must_use]
    pub fn info(&self) -> &NodeInfo {
        &self.inner.info
    }

    /// What another node joins by.
    #[must_use]
    pub fn ticket(&self) -> Ticket {
        self.inner.info.ticket.clone()
    }

    /// What peers know this node by.
    #[must_use]
    pub fn contact(&self) -> Contact {
        let NodeInfo { agent, overlay_id, addrs, .. } = &self.inner.info;
        Contact::server(*agent, *overlay_id, addrs.clone())
    }

    /// The directory below this node: single overlay commands and counters.
    #[must_use]
    pub fn directory(&self) -> &Directory {
        &self.inner.directory
    }

    /// How many links this node has and had.
    #[must_use]
    pub fn link_counts(&self) -> LinkCounts {
        *self.inner.transport.counts().borrow()
    }

    /// What the links of a protocol carried on the wire since the start.
    #[must_use]
    pub fn link_traffic(&self, protocol: Protocol) -> LinkTraffic {
        self.inner.transport.traffic(protocol)
    }

    /// The audit log of this node.
    #[must_use]
    pub fn audit(&self) -> &Audit {
        &self.inner.audit
    }

    /// What this node remembers of the logs of its peers.
    #[must_use]
    pub fn witness(&self) -> &Witness {
        &self.inner.witness
    }

    /// Enters the network through any of `addresses`.
    ///
    /// # Errors
    /// [`JoinError`] says for each address why it did not let this node in.
    pub async fn join(&self, addresses: &[JoinAddress]) -> Result<(), JoinError> {
        self.set_joining(JoinProgress::Joining(Vec::new()));
        let mut failed = Vec::new();
        let mut seeds = Vec::new();
        let dials =
            addresses.iter().map(|address| async move { (address, self.dial(address).await) });
        for (address, dialled) in futures_util::future::join_all(dials).await {
            match dialled {
                Ok(contact) => seeds.push(contact),
                Err(reason) => failed.push(JoinFailure { address: address.to_string(), reason }),
            }
        }
        if seeds.is_empty() {
            self.set_joining(JoinProgress::Failed(failed.clone()));
            return Err(JoinError { failed });
        }
        match self.inner.directory.join(seeds).await {
            Ok(report) => {
                info!(peers = report.peers, size = report.size_estimate, "joined the network");
                self.set_joining(JoinProgress::Joined);
                self.publish_or_warn().await;
                Ok(())
            }
            Err(error) => {
                failed.push(JoinFailure {
                    address: "every address".to_owned(),
                    reason: error.to_string(),
                });
                self.set_joining(JoinProgress::Failed(failed.clone()));
                Err(JoinError { failed })
            }
        }
    }

    /// Enters the network through peers remembered from earlier runs. Returns whether any of them answered.
    pub async fn rejoin(&self) -> bool {
        let joined = self.rejoin_through(Vec::new()).await;
        if !joined {
            // So that this node's own directory has it: whoever joins through this node finds it there.
            self.publish_or_warn().await;
        }
        joined
    }

    /// Enters the network through `remembered` and the peers known already.
    pub(crate) async fn rejoin_through(&self, remembered: Vec<Contact>) -> bool {
        let joined =
            self.inner.directory.join(remembered).await.is_ok_and(|report| report.peers > 0);
        self.set_joining(if joined { JoinProgress::Joined } else { JoinProgress::Alone });
        if joined {
            self.publish_or_warn().await;
        }
        joined
    }

    /// Peers of earlier runs.
    pub(crate) async fn remembered_peers(&self) -> Vec<Contact> {
        let loaded = directory::load_peers(&self.inner.storage, &self.inner.positions).await;
        loaded.unwrap_or_else(|error| {
            warn!(%error, "the peers of earlier runs cannot be read");
            Vec::new()
        })
    }

    /// Checks that the agent answers at the address, by name if it does not.
    async fn dial(&self, address: &JoinAddress) -> Result<Contact, String> {
        let agent = address.agent();
        if agent == self.id() {
            return Err("this is the node itself".to_owned());
        }
        let Some(overlay_id) = self.inner.positions.get(&agent) else {
            return Err(format!(
                "its key is not minted with {} bits, as this network asks",
                self.inner.info.mint_bits
            ));
        };
        match self.inner.rpc.ping(agent, address.addrs()).await {
            Ok(_) => Ok(Contact::server(agent, overlay_id, address.addrs().to_vec())),
            Err(error) => Err(describe(&error)),
        }
    }

    /// Serves a capability: callable at once, found by others as soon as custodians have it. Replaces a capability of the
    /// same name. It lasts as long as the node; what a daemon serves through its API lasts across restarts.
    ///
    /// # Errors
    /// [`PublishError`] when the declaration breaks a limit or cannot be published; then nothing has changed.
    pub async fn serve(
        &self,
        capability: Capability,
        specialist: Arc<dyn Specialist>,
    ) -> Result<Published, PublishError> {
        let served = Served::new(capability, specialist, "embedded".to_owned(), None)
            .map_err(|error| PublishError::Record(RecordError::Capability(error)))?;
        let _turn = self.inner.serving.lock().await;
        self.serve_locked(served).await
    }

    pub(crate) async fn serve_locked(&self, served: Served) -> Result<Published, PublishError> {
        let (name, group) = (served.capability.name.clone(), served.group.clone());
        let unseen = is_unseen(&served);
        let previous = self.inner.registry.insert(served);
        if unseen && previous.as_deref().is_none_or(is_unseen) && self.has_published() {
            return Ok(self.inner.publisher.last());
        }
        match self.publish_change(previous.as_deref(), group.as_deref()).await {
            Ok(published) => Ok(published),
            Err(error) => {
                self.inner.registry.restore(&name, previous);
                Err(error)
            }
        }
    }

    /// Stops serving `name` and withdraws it. Returns whether it was served.
    ///
    /// # Errors
    /// [`PublishError`] when custodians could not be told; calls are refused all the same.
    pub async fn unserve(&self, name: &str) -> Result<bool, PublishError> {
        let _turn = self.inner.serving.lock().await;
        self.unserve_locked(name).await
    }

    pub(crate) async fn unserve_locked(&self, name: &str) -> Result<bool, PublishError> {
        let Some(previous) = self.inner.registry.remove(name) else { return Ok(false) };
        if is_unseen(&previous) && self.has_published() {
            return Ok(true);
        }
        self.publish_change(Some(&previous), previous.group.as_deref()).await?;
        Ok(true)
    }

    fn has_published(&self) -> bool {
        self.inner.publisher.sealed_record().is_some()
    }

    /// Publishes where a capability is served now, after withdrawing it from where it was served before: to a private group, or to all.
    async fn publish_change(
        &self,
        previous: Option<&Served>,
        group: Option<&str>,
    ) -> Result<Published, PublishError> {
        let publisher = &self.inner.publisher;
        if let Some(previous) = previous
            && previous.group.as_deref() != group
        {
            self.publish_to(previous.group.as_deref(), true).await?;
        }
        let withdraw = previous.is_some_and(|previous| previous.group.as_deref() == group);
        if group.is_some() && publisher.sealed_record().is_none() {
            // Peers find the agent's address by its peer record, which goes with the public part.
            publisher.publish(false).await?;
        }
        self.publish_to(group, withdraw).await
    }

    async fn publish_to(
        &self,
        group: Option<&str>,
        withdraw: bool,
    ) -> Result<Published, PublishError> {
        let group = group.map(|name| self.inner.groups.get(name)).transpose();
        match group.map_err(PublishError::Group)? {
            Some(group) => self.inner.publisher.publish_group(&group, withdraw).await,
            None => self.inner.publisher.publish(withdraw).await,
        }
    }

    /// Withdraws what this agent published, says goodbye to the neighbours and stops. Other clones of the handle are of no
    /// use afterwards, and another node may use the home directory.
    pub async fn shutdown(&self) {
        let farewell = async {
            if let Err(error) = self.inner.publisher.retire().await {
                warn!(error = %describe(&error), "custodians were not told that this agent goes");
            }
            self.inner.directory.leave().await;
        };
        if tokio::time::timeout(FAREWELL_MAX, farewell).await.is_err() {
            warn!("peers did not take leave in time");
        }
        self.inner.transport.close().await;
        // Programs do not outlive the node that runs them.
        let served = self.inner.registry.all();
        let specialists = served.iter().map(|served| served.specialist.close());
        let ended = futures_util::future::join_all(specialists);
        if tokio::time::timeout(FAREWELL_MAX, ended).await.is_err() {
            warn!("not every program that was served has ended in time");
        }
        self.inner.audit.stop().await;
        self.inner.results.flush().await;
        self.inner.cancel.cancel();
        self.inner.storage.close().await;
        drop(self.inner.lock.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// Completes when the node is shut down.
    pub async fn closed(&self) {
        self.inner.cancel.cancelled().await;
    }

    async fn publish_or_warn(&self) {
        if let Err(error) = self.inner.publisher.publish(false).await {
            warn!(error = %describe(&error), "what this agent serves was not published");
        }
        self.inner.publisher.publish_groups().await;
    }

    fn set_joining(&self, progress: JoinProgress) {
        let mut current = self.inner.joining.write().unwrap_or_else(PoisonError::into_inner);
        // One who is in stays in, also when a further address lets nobody in.
        if !matches!(*current, JoinProgress::Joined) {
            *current = progress;
        }
    }

    pub(crate) fn join_state(&self) -> JoinState {
        match self.inner.joining.read().unwrap_or_else(PoisonError::into_inner).clone() {
            JoinProgress::Alone => JoinState::Alone,
            JoinProgress::Joining(failed) => JoinState::Joining { failed },
            JoinProgress::Joined => JoinState::Joined,
            JoinProgress::Failed(failed) => JoinState::Failed { failed },
        }
    }

    /// The names of an agent as people see them.
    pub(crate) fn name_of(&self, agent: &AgentId) -> AgentName {
        // A key that this network does not accept is only ever named to say so.
        let place = self.inner.positions.get(agent);
        let text =
            |form: fn(&OverlayId) -> String| place.as_ref().map_or_else(|| "-".to_owned(), form);
        AgentName {
            agent: *agent,
            address: text(|id| id.address().to_string()),
            handle: text(|id| id.checked_handle().to_string()),
        }
    }
}

impl Counts {
    pub(crate) fn ended(&self, ok: bool) {
        self.made.fetch_add(1, Ordering::Relaxed);
        if !ok {
            self.made_failed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl From<PublishError> for ErrorInfo {
    fn from(error: PublishError) -> Self {
        let code = match &error {
            PublishError::Record(_) => ErrorCode::BadManifest,
            PublishError::Storage(_) => ErrorCode::Storage,
            PublishError::Directory(_) => ErrorCode::Busy,
            PublishError::Group(_) => ErrorCode::NotFound,
        };
        Self::new(code, describe(&error))
    }
}

/// Whether nobody learns of it from what is published: then nothing is published anew because of it, since a new number of the record would tell
/// strangers that something changed.
fn is_unseen(served: &Served) -> bool {
    !served.is_public() && served.group.is_none()
}
