//! How a node is put together.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use comity_api::{JoinAddress, Ticket};
use comity_core::{Hash, Identity, Position};
use comity_overlay::{Config, Contact, Exempt, Overlay};
use comity_specialist::mcp::McpOpener;
use rand::Rng as _;
use tokio::sync::{Mutex, mpsc};
use tokio_util::sync::CancellationToken;

use crate::access::{self, Gate};
use crate::attest::Attest;
use crate::audit::{Audit, Witness};
use crate::calls::{Lately, LocalSigner};
use crate::clock::Clock;
use crate::directory::{self, Actor, Directory, Parts, PositionCache, TransportCarrier};
use crate::error::SpawnError;
use crate::groups::Groups;
use crate::handler::Handler;
use crate::handles::Handles;
use crate::home::{Home, HomeLock};
use crate::key_file::Keys;
use crate::lineage::Lineage;
use crate::node::{Inner, Node};
use crate::publisher::{Publisher, RENEWALS_LEN};
use crate::records::RecordCache;
use crate::registry::Registry;
use crate::results::{Bulk, Results};
use crate::rpc::{self, Rpc, RpcConfig, RpcLimits};
use crate::runtime::{NetworkRuntime, Threads};
use crate::signals::Signals;
use crate::storage::Storage;
use crate::transport::{KeyExchange, Limits, Transport, TransportConfig};
use crate::witnessing::{self, Witnessing};
use crate::{NodeInfo, key_file};

/// How often the overlay looks after itself. Items that too few custodians hold are offered again then, so this is also
/// how soon a network that just got its second node has two copies.
const MAINTENANCE_EVERY: Duration = Duration::from_secs(5);

/// Settings of a node; [`Builder::spawn`] starts it.
#[derive(Debug)]
pub struct Builder {
    home: Option<PathBuf>,
    keys: Option<Keys>,
    listen: Vec<SocketAddr>,
    advertise: Vec<SocketAddr>,
    join: Vec<Ticket>,
    mint_bits: u32,
    network: String,
    clock_offset_secs: i64,
    runtime: NetworkRuntime,
    limits: Limits,
    key_exchange: KeyExchange,
    rpc_limits: RpcLimits,
    share_bytes_per_s: Option<u64>,
    overlay: Config,
    places: Option<PositionCache>,
    mcp: Option<Arc<dyn McpOpener>>,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            home: None,
            keys: None,
            listen: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))],
            advertise: Vec::new(),
            join: Vec::new(),
            mint_bits: 0,
            network: "private".to_owned(),
            clock_offset_secs: 0,
            runtime: NetworkRuntime::default(),
            limits: Limits::default(),
            key_exchange: KeyExchange::default(),
            rpc_limits: RpcLimits::default(),
            share_bytes_per_s: None,
            overlay: overlay_config(),
            places: None,
            mcp: None,
        }
    }
}

impl Builder {
    /// Keeps everything in the directory `home` and uses the key there. Without a home, key and storage last as long as
    /// the node.
    #[must_use]
    pub fn home(mut self, home: impl Into<PathBuf>) -> Self {
        self.home = Some(home.into());
        self
    }

    /// Uses `identity` instead of a new or stored one. Its records commit to a successor nobody has.
    #[must_use]
    pub fn identity(mut self, identity: Identity) -> Self {
        self.keys = Some(Keys { next: unknown_successor(), identity });
        self
    }

    /// Listens on `addrs` (UDP). Default: a free port of 127.0.0.1, which only this machine reaches.
    #[must_use]
    pub fn listen(mut self, addrs: impl IntoIterator<Item = SocketAddr>) -> Self {
        self.listen = addrs.into_iter().collect();
        self
    }

    /// Tells peers these addresses instead of those listened on, as behind a port forwarding.
    #[must_use]
    pub fn advertise(mut self, addrs: impl IntoIterator<Item = SocketAddr>) -> Self {
        self.advertise = addrs.into_iter().collect();
        self
    }

    /// Enters the network through a running node; may be given several times. Nodes remembered from earlier runs are
    /// tried besides.
    #[must_use]
    pub fn join(mut self, ticket: impl Into<Ticket>) -> Self {
        self.join.push(ticket.into());
        self
    }

    /// Leading zero bits that keys of this network must be minted with. 0, the default, suits private networks; all
    /// nodes of a network have to agree.
    #[must_use]
    pub fn mint_bits(mut self, bits: u32) -> Self {
        self.mint_bits = bits;
        self
    }

    /// A name for the network, shown to people; it separates nothing.
    #[must_use]
    pub fn network(mut self, name: impl Into<String>) -> Self {
        self.network = name.into();
        self
    }

    /// Where network tasks run.
    #[must_use]
    pub fn runtime(mut self, runtime: NetworkRuntime) -> Self {
        self.runtime = runtime;
        self
    }

    /// Bounds of the transport.
    #[must_use]
    pub fn transport_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// How the secrets of links are agreed on; by X25519 alone unless said otherwise.
    #[must_use]
    pub fn key_exchange(mut self, key_exchange: KeyExchange) -> Self {
        self.key_exchange = key_exchange;
        self
    }

    /// Bounds of calls.
    #[must_use]
    pub fn rpc_limits(mut self, limits: RpcLimits) -> Self {
        self.rpc_limits = limits;
        self
    }

    /// How many bytes of large answers this node hands out in a second, to all peers together; without it, as many as go.
    #[must_use]
    pub fn share_rate(mut self, bytes_per_s: u64) -> Self {
        self.share_bytes_per_s = Some(bytes_per_s);
        self
    }

    /// Parameters of the overlay; all but timeouts should be those of the network's other nodes.
    #[must_use]
    pub fn overlay(mut self, config: Config) -> Self {
        self.overlay = config;
        self
    }

    /// Remembers places together with `node`, which must demand the same mint bits: deriving one costs 0.7 ms and 1 MiB, and
    /// of many nodes in one process each would derive them all.
    #[must_use]
    pub fn places_of(mut self, node: &Node) -> Self {
        self.mint_bits = node.inner.info.mint_bits;
        self.places = Some(node.inner.positions.clone());
        self
    }

    /// Lets MCP servers be served, which `opener` opens.
    #[must_use]
    pub fn mcp(mut self, opener: Arc<dyn McpOpener>) -> Self {
        self.mcp = Some(opener);
        self
    }

    /// Runs the node's clock ahead of the system's by so many seconds: for tests of clock skew.
    #[must_use]
    pub fn clock_offset_secs(mut self, seconds: i64) -> Self {
        self.clock_offset_secs = seconds;
        self
    }

    /// Starts the node and enters the network. With join addresses, returns once one of them let it in.
    ///
    /// # Errors
    /// [`SpawnError`] names what is in the way: the home, the key, the database, a listen address, or join addresses
    /// none of which answers.
    pub async fn spawn(mut self) -> Result<Node, SpawnError> {
        let join = std::mem::take(&mut self.join);
        let node = self.start().await?;
        if join.is_empty() {
            node.rejoin().await;
        } else {
            // A ticket without an address leads nowhere; were all so, the join would say that nobody could be asked.
            let addresses: Vec<JoinAddress> =
                join.into_iter().filter_map(|ticket| JoinAddress::try_from(ticket).ok()).collect();
            node.join(&addresses).await.map_err(SpawnError::Join)?;
        }
        Ok(node)
    }

    /// Starts the node without entering a network: [`Node::join`] does that.
    ///
    /// # Errors
    /// As [`Builder::spawn`], less the join.
    pub async fn start(self) -> Result<Node, SpawnError> {
        let clock = Clock::new(self.clock_offset_secs);
        let (keys, storage, home, lock) = open_home(self.home, self.keys, self.mint_bits)?;
        let identity = Arc::new(keys.identity);
        let me = identity.id();
        let positions = self.places.unwrap_or_else(|| PositionCache::new(self.mint_bits));
        let overlay_id = positions.get(&me).ok_or_else(|| SpawnError::Mint {
            wanted: self.mint_bits,
            found: Position::of(&me).mint_bits(),
        })?;

        let mut threads = Threads::start(self.runtime).map_err(SpawnError::Thread)?;
        let network = threads.network().clone();
        let cancel = CancellationToken::new();
        let lineage = match &home {
            Some(home) => Lineage::load(home, &me).map_err(SpawnError::Lineage)?,
            None => Lineage::default(),
        };
        let lineage = Arc::new(lineage);
        let handles = Handles::open(storage.clone()).map_err(SpawnError::Storage)?;
        let audit = match &home {
            Some(home) => Audit::start(
                &home.audit(),
                Arc::clone(&identity),
                &clock,
                &mut threads,
                cancel.clone(),
            )
            .map_err(SpawnError::Audit)?,
            None => Audit::default(),
        };
        let config = TransportConfig {
            identity: Arc::clone(&identity),
            listen: self.listen,
            limits: self.limits,
            key_exchange: self.key_exchange,
            audit: audit.clone(),
        };
        let (transport, incoming) = network
            .spawn(async move { Transport::bind(config).await })
            .await
            .map_err(|_| SpawnError::Runtime)?
            .map_err(SpawnError::Bind)?;
        let addrs = advertised(&self.advertise, &transport.local_addrs());

        let contact = Contact::server(me, overlay_id, addrs.clone());
        let mut seed = [0; 32];
        rand::rng().fill_bytes(&mut seed);
        let mut overlay = Overlay::new(self.overlay, contact, seed, clock.now());
        let remembered =
            directory::load_peers(&storage, &positions).await.map_err(SpawnError::Storage)?;
        overlay.import_peers(remembered);
        let places =
            directory::load_places(&storage, &positions).await.map_err(SpawnError::Storage)?;
        overlay.import_places(clock.now(), places);
        let rows = directory::load_custody(&storage).map_err(SpawnError::Storage)?;
        let mut services = comity_overlay::directory::Directory::with_places(positions.clone());
        overlay.import_custody(clock.now(), &mut services, rows);

        let (asks, inbox) = mpsc::channel(directory::INBOX_LEN);
        let (requests, delivered) = mpsc::channel(directory::INCOMING_LEN);
        let (renew, renewals) = mpsc::channel(RENEWALS_LEN);
        let carrier = TransportCarrier { transport: transport.clone(), network: network.clone() };
        let parts = Parts {
            overlay,
            services,
            clock: clock.clone(),
            positions: positions.clone(),
            carrier: Box::new(carrier),
            storage: storage.clone(),
            inbox,
            incoming: delivered,
            renew,
            cancel: cancel.clone(),
        };
        threads.run_apart("comity-directory", Actor::run(parts)).map_err(SpawnError::Thread)?;
        network.spawn(directory::deliver(incoming.exchanges, requests));

        let directory = Directory::new(asks);
        let registry = Arc::new(Registry::default());
        let groups = Arc::new(Groups::open(home.as_ref().map(Home::groups)));
        let publisher = Arc::new(Publisher::new(
            Arc::clone(&identity),
            keys.next,
            clock.clone(),
            storage.clone(),
            directory.clone(),
            Arc::clone(&registry),
            (Arc::clone(&groups), self.mint_bits),
            addrs.clone(),
            (audit.clone(), Arc::clone(&lineage)),
        ));
        network.spawn(Arc::clone(&publisher).renew(renewals));
        let witness =
            Witness::new(Arc::clone(&identity), clock.clone(), storage.clone(), audit.clone());
        let (witnessing, shown) = Witnessing::new(audit.clone(), witness.accusations().clone());
        let gate = Gate::open(
            Arc::clone(&identity),
            clock.clone(),
            storage.clone(),
            home.as_ref().map(Home::policy),
            home.as_ref().map(Home::groups),
        );
        let (gate, changed_sets) = gate.map_err(SpawnError::Access)?;
        let gate = Arc::new(gate);
        let attest = Arc::new(Attest::open(&storage, clock.now()).map_err(SpawnError::Access)?);
        network.spawn(Arc::clone(&gate).keep(audit.clone(), cancel.clone()));
        let bulk = Bulk::open(home.as_ref().map(Home::results), self.share_bytes_per_s);
        let (key, seed) = (Arc::clone(&identity), rand::random());
        let results = Results::open(key, clock.clone(), storage.clone(), bulk, seed);
        let results = Arc::new(results.map_err(SpawnError::Storage)?);
        let handler = Arc::new(Handler {
            me,
            results: Arc::clone(&results),
            registry: Arc::clone(&registry),
            publisher: Arc::clone(&publisher),
            groups: Arc::clone(&groups),
            witnessing,
            gate: Arc::clone(&gate),
            attest: Arc::clone(&attest),
            audit: audit.clone(),
            lineage,
        });
        let rpc_clock = clock.clone();
        let rpc_config = RpcConfig {
            identity: Arc::clone(&identity),
            handler: Arc::new(handler),
            limits: self.rpc_limits,
            clock: rpc::Clock::new(move || rpc_clock.now()),
            audit: audit.clone(),
        };
        let rpc = Rpc::start(transport.clone(), incoming.calls, rpc_config)
            .map_err(SpawnError::Thread)?;

        network.spawn(witnessing::attend(rpc.clone(), witness.clone(), shown, cancel.clone()));
        let started = clock.now();
        let info = NodeInfo {
            agent: me,
            overlay_id,
            addrs: addrs.clone(),
            ticket: Ticket::new(me, addrs),
            network: self.network,
            mint_bits: self.mint_bits,
            started,
        };
        let node = Node::new(Inner {
            info,
            results,
            home,
            lock: std::sync::Mutex::new(lock),
            local_signer: LocalSigner::new(identity),
            clock,
            positions,
            storage,
            directory,
            registry,
            mcp: self.mcp,
            groups,
            gate,
            attest,
            publisher,
            transport,
            rpc,
            audit,
            witness,
            handles,
            signals: Signals::default(),
            records: RecordCache::default(),
            lately: Lately::default(),
            counts: crate::node::Counts::default(),
            joining: std::sync::RwLock::new(crate::node::JoinProgress::Alone),
            serving: Mutex::new(()),
            threads,
            stop_requested: tokio::sync::Notify::new(),
            cancel,
        });
        let weak = Arc::downgrade(&node.inner);
        network.spawn(Node::keep_receipts(weak.clone(), node.inner.cancel.clone()));
        network.spawn(Node::renew_pointers(weak, node.inner.cancel.clone()));
        let stop = node.inner.cancel.clone();
        network.spawn(access::attend(Arc::downgrade(&node.inner), changed_sets, stop));
        node.serve_traces();
        Ok(node)
    }
}

/// The overlay parameters of a node unless [`Builder::overlay`] says otherwise.
#[must_use]
pub fn overlay_config() -> Config {
    Config { exempt: local_networks(), maintenance_every: MAINTENANCE_EVERY, ..Config::default() }
}

/// Networks that are never routed on the internet (RFC 1918, RFC 4193, RFC 4291): a whole private network may share one
/// prefix, and nobody outside can pretend to be reachable there.
pub(crate) fn local_networks() -> Vec<Exempt> {
    let v4 = [([10, 0, 0, 0], 8), ([172, 16, 0, 0], 12), ([192, 168, 0, 0], 16)];
    let v4 = v4.map(|(network, bits)| Exempt { network: IpAddr::from(network), bits });
    let v6 = [(0xfc00, 7), (0xfe80, 10)];
    let v6 = v6
        .map(|(first, bits)| Exempt { network: IpAddr::from([first, 0, 0, 0, 0, 0, 0, 0]), bits });
    v4.into_iter().chain(v6).collect()
}

type Opened = (Keys, Storage, Option<Home>, Option<HomeLock>);

fn open_home(
    home: Option<PathBuf>,
    keys: Option<Keys>,
    mint_bits: u32,
) -> Result<Opened, SpawnError> {
    let Some(root) = home else {
        let storage = Storage::in_memory().map_err(SpawnError::Storage)?;
        let keys = keys.unwrap_or_else(|| Keys {
            identity: Identity::mint(&mut rand::rng(), mint_bits),
            next: unknown_successor(),
        });
        return Ok((keys, storage, None, None));
    };
    let home = Home::at(root);
    home.create().map_err(SpawnError::Home)?;
    let lock = home.lock().map_err(SpawnError::Home)?;
    let keys = match keys {
        Some(keys) => keys,
        None => key_file::load(&home.key_file()).map_err(SpawnError::Key)?,
    };
    let storage = Storage::open(&home.database()).map_err(SpawnError::Storage)?;
    Ok((keys, storage, Some(home), Some(lock)))
}

/// A commitment that nobody can ever open: this identity cannot be succeeded.
fn unknown_successor() -> Hash {
    let mut bytes = [0; 32];
    rand::rng().fill_bytes(&mut bytes);
    Hash(bytes)
}

/// What peers are told: what the operator says, or what is listened on, with unspecified addresses made specific.
fn advertised(given: &[SocketAddr], bound: &[SocketAddr]) -> Vec<SocketAddr> {
    if !given.is_empty() {
        return given.to_vec();
    }
    bound
        .iter()
        .map(|addr| {
            if addr.ip().is_unspecified() {
                SocketAddr::new(outgoing_ip(addr.ip()), addr.port())
            } else {
                *addr
            }
        })
        .collect()
}

/// The address this host would use towards the outside. Nothing is sent: connecting a UDP socket only picks a route.
fn outgoing_ip(unspecified: IpAddr) -> IpAddr {
    // Documentation prefixes (RFC 5737, RFC 3849): routed like any outside address, owned by nobody.
    let (outside, loopback): (SocketAddr, IpAddr) = match unspecified {
        IpAddr::V4(_) => (([192, 0, 2, 1], 9).into(), Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(_) => {
            (([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], 9).into(), std::net::Ipv6Addr::LOCALHOST.into())
        }
    };
    let socket = UdpSocket::bind((unspecified, 0));
    let chosen =
        socket.and_then(|socket| socket.connect(outside).and_then(|()| socket.local_addr()));
    chosen.map_or(loopback, |addr| addr.ip())
}
