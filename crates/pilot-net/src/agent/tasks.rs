//! What a joined node does by itself: answers its engine, stays registered, serves the built-in ports.

use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use comity_pilot::address::{NodeId, port};
use comity_pilot::beacon::Beacon;
use comity_pilot::engine::Access;
use comity_pilot::registry::Request;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::interval;

use super::{Agent, lock};
use crate::clock::unix;
use crate::node::{Connection, Notice};
use crate::services::{echo, exchange};

/// How often the registry hears that the node is there.
const HEARTBEAT: Duration = Duration::from_secs(30);
/// How often the beacon does: within the time a NAT keeps a mapping.
const BEACON_REFRESH: Duration = Duration::from_secs(20);
/// Streams served at once, for each port; searches for peers at once.
const SERVED_MAX: usize = 512;

impl Agent {
    pub(super) fn serve(self: &Arc<Self>, notices: mpsc::Receiver<Notice>) {
        let weak = Arc::downgrade(self);
        tokio::spawn(async move { run_notices(weak, notices).await });
        let weak = Arc::downgrade(self);
        tokio::spawn(async move { keep_registered(weak).await });
        for (port, access) in [
            (port::ECHO, Access::Trusted),
            (port::DATA, Access::Trusted),
            (port::EVENTS, Access::Trusted),
            (port::HANDSHAKE, Access::Anyone),
        ] {
            if let Some(connections) = self.node.listen(port, access) {
                let weak = Arc::downgrade(self);
                tokio::spawn(async move { serve_port(weak, port, connections).await });
            }
        }
    }

    pub(super) async fn answer_find(&self, node: NodeId) {
        let info = match self.known(node).await {
            Ok(info) => info,
            Err(error) => {
                tracing::info!(node, %error, "pilot peer not found");
                return self.node.missing(node);
            }
        };
        let mut endpoints: Vec<SocketAddr> = info.real_addr.into_iter().collect();
        match self.registry.resolve(node, self.id()).await {
            Ok(resolved) if !resolved.relay_only => {
                endpoints.push(resolved.real_addr);
                // Addresses of its own network mean something only in the same one.
                if resolved.real_addr.ip() == self.endpoint().ip() {
                    endpoints.extend(resolved.lan_addrs);
                }
            }
            Ok(_relay_only) => endpoints.clear(),
            Err(error) => tracing::debug!(node, %error, "pilot peer not resolved, by relay then"),
        }
        self.node.found(node, info.key, endpoints);
    }

    /// Tells the beacon where the node is.
    pub(super) fn greet_beacon(&self) {
        let node = self.id();
        let hello = if self.bound {
            Beacon::DiscoverNamed { node }
        } else {
            Beacon::Discover { node, key: None }
        };
        self.node.send_raw(self.beacon, &hello.to_vec());
    }
}

async fn run_notices(agent: Weak<Agent>, mut notices: mpsc::Receiver<Notice>) {
    let mut tasks = JoinSet::new();
    while let Some(notice) = notices.recv().await {
        let Some(agent) = agent.upgrade() else { return };
        while tasks.try_join_next().is_some() {}
        match notice {
            Notice::Find(node) if tasks.len() < SERVED_MAX => {
                tasks.spawn(async move { agent.answer_find(node).await });
            }
            Notice::Find(node) => agent.node.missing(node),
            Notice::Endpoint(at) => {
                *lock(&agent.endpoint) = at;
            }
            Notice::Poll => poll_registry(&agent).await,
            Notice::Datagram { from, port, data } => {
                tracing::debug!(%from, port, bytes = data.len(), "pilot datagram");
            }
        }
    }
}

async fn poll_registry(agent: &Agent) {
    match agent.registry.poll(agent.id()).await {
        Err(error) => tracing::debug!(%error, "handshakes not polled"),
        Ok(handshakes) => {
            let news = !handshakes.requests.is_empty();
            for request in handshakes.requests {
                let noted = agent.trust().relayed(unix(), request.from, &request.justification);
                if let Err(error) = noted {
                    tracing::warn!(from = request.from, %error, "request not kept");
                }
            }
            if news && let Err(error) = agent.keep_trust() {
                tracing::warn!(%error, "trust not kept");
            }
            for response in handshakes.responses {
                // The registry's word is no agreement: the peer's own signed message is.
                tracing::info!(
                    from = response.from,
                    accept = response.accept,
                    "handshake answered"
                );
            }
        }
    }
}

async fn keep_registered(agent: Weak<Agent>) {
    let mut beat = interval(HEARTBEAT);
    let mut refresh = interval(BEACON_REFRESH);
    // The node has just registered, here and there.
    beat.reset();
    refresh.reset();
    loop {
        tokio::select! {
            _tick = refresh.tick() => {
                let Some(agent) = agent.upgrade() else { return };
                agent.greet_beacon();
            }
            _tick = beat.tick() => {
                let Some(agent) = agent.upgrade() else { return };
                beat_once(&agent).await;
                poll_registry(&agent).await;
            }
        }
    }
}

/// Tells the registry that the node is there; registers again where that is news to it, or where the node's endpoint changed.
async fn beat_once(agent: &Agent) {
    let beat = agent.registry.request(&Request::Heartbeat { node: agent.id() }).await;
    let endpoint = agent.endpoint();
    match beat {
        Ok(_fields) if endpoint == *lock(&agent.registered) => return,
        Ok(_fields) => tracing::info!(%endpoint, "this node's endpoint changed"),
        Err(error) => tracing::info!(%error, "registry does not know this node, registering again"),
    }
    let again = agent.registry.register(endpoint, agent.hostname.clone(), Vec::new()).await;
    match again {
        Ok(registered) if registered.node != agent.id() => {
            tracing::error!(node = registered.node, "the registry gave another number; join again");
        }
        Ok(_same) => {
            *lock(&agent.registered) = endpoint;
            agent.greet_beacon();
        }
        Err(error) => tracing::warn!(%error, "not registered"),
    }
}

pub(super) async fn serve_port(
    agent: Weak<Agent>,
    port: u16,
    mut connections: mpsc::Receiver<Connection>,
) {
    let mut tasks = JoinSet::new();
    while let Some(connection) = connections.recv().await {
        let Some(agent) = agent.upgrade() else { return };
        while tasks.try_join_next().is_some() {}
        if tasks.len() >= SERVED_MAX {
            connection.abort();
            continue;
        }
        tasks.spawn(async move {
            let result = match port {
                port::ECHO => echo(connection).await,
                port::EVENTS => Arc::clone(&agent.events).serve(connection).await,
                port::HANDSHAKE => {
                    agent.receive_handshake(connection).await;
                    Ok(())
                }
                port => exchange(connection, agent, port).await,
            };
            if let Err(error) = result {
                tracing::debug!(port, %error, "pilot stream ended");
            }
        });
    }
}
