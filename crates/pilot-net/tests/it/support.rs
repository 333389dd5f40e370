//! A rendezvous and nodes that join it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use comity_pilot_net::{Agent, Fingerprint, Join, RendezvousServer, ServeRendezvous};
use tempfile::TempDir;
use tokio::time::timeout;

/// Nothing here takes this long; a test that waits in vain ends.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Network {
    pub(crate) server: RendezvousServer,
    pub(crate) dir: TempDir,
}

impl Network {
    pub(crate) async fn start() -> Self {
        let dir = TempDir::new().unwrap();
        let server = RendezvousServer::start(Self::serve(dir.path().join("server"), false));
        Self { server: server.await.unwrap(), dir }
    }

    pub(crate) fn serve(home: PathBuf, tls: bool) -> ServeRendezvous {
        let at = "127.0.0.1:0".parse().unwrap();
        ServeRendezvous { home, registry: at, beacon: at, told_beacon: None, tls }
    }

    pub(crate) fn join(&self, name: &str, pin: Option<Fingerprint>) -> Join {
        Join {
            home: self.dir.path().join(name),
            registry: self.server.registry().to_string(),
            pin,
            beacon: self.server.beacon().to_string(),
            listen: "127.0.0.1:0".parse().unwrap(),
            hostname: Some(name.to_owned()),
            public: false,
        }
    }

    pub(crate) async fn agent(&self, name: &str) -> Arc<Agent> {
        Agent::join(self.join(name, self.server.fingerprint())).await.unwrap()
    }

    /// Two nodes that trust each other.
    pub(crate) async fn pair(&self) -> (Arc<Agent>, Arc<Agent>) {
        let (one, two) = (self.agent("one").await, self.agent("two").await);
        befriend(&one, &two).await;
        (one, two)
    }
}

/// Waits until an agent's trust is as wanted.
pub(crate) async fn until_trust(agent: &Agent, wanted: impl Fn(&Agent) -> bool) {
    let mut changes = agent.trust_changes();
    let wait = async {
        while !wanted(agent) {
            changes.changed().await.unwrap();
        }
    };
    timeout(PATIENCE, wait).await.expect("trust did not come about");
}

pub(crate) async fn befriend(one: &Arc<Agent>, two: &Arc<Agent>) {
    assert!(!one.handshake(two.id(), "a test").await.unwrap());
    let asked = one.id();
    until_trust(two, |agent| agent.trust_snapshot().pending().any(|(node, _)| node == asked)).await;
    two.approve(asked).await.unwrap();
    let approver = two.id();
    until_trust(one, |agent| agent.trust_snapshot().is_trusted(approver)).await;
}
