//! Trust: asked for, agreed to, withdrawn.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use comity_pilot::address::{NodeId, port};
use comity_pilot::handshake;
use comity_pilot::registry::Request;
use comity_pilot::trust::{Effect, TrustError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use super::{Agent, AgentError};
use crate::clock::unix;
use crate::node::Connection;

/// Patience with a handshake message.
const HANDSHAKE: Duration = Duration::from_secs(10);

impl Agent {
    async fn tell(&self, node: NodeId, message: &handshake::Message) -> Result<(), AgentError> {
        let mut connection = self.connect(node, port::HANDSHAKE).await?;
        let to = connection.remote();
        let sent = async {
            connection.write_all(&message.to_vec()).await?;
            connection.flush().await?;
            connection.shutdown().await
        };
        sent.await.map_err(|error| AgentError::Broken(to, error))
    }

    /// Asks a peer for trust: directly, or through the registry where it cannot be reached. True when it is agreed already.
    ///
    /// # Errors
    /// See [`AgentError`].
    pub async fn handshake(self: &Arc<Self>, node: NodeId, why: &str) -> Result<bool, AgentError> {
        let me = self.id();
        let message = self.trust().request(unix(), me, node, why, &self.identity)?;
        self.keep_trust()?;
        if let Err(error) = self.tell(node, &message).await {
            tracing::info!(node, %error, "handshake goes through the registry");
            let request =
                Request::AskHandshake { from: me, to: node, justification: why.to_owned() };
            self.registry.request(&request).await?;
        }
        self.report(node).await;
        let agreed = self.trust().is_trusted(node);
        if agreed {
            self.seek(node);
        }
        Ok(agreed)
    }

    /// Looks a newly trusted node up again: now the registry tells where it is, and the relay is not needed any more.
    fn seek(self: &Arc<Self>, node: NodeId) {
        let agent = Arc::downgrade(self);
        tokio::spawn(async move {
            if let Some(agent) = agent.upgrade() {
                agent.answer_find(node).await;
            }
        });
    }

    /// Agrees to a peer's request.
    ///
    /// # Errors
    /// See [`AgentError`].
    pub async fn approve(self: &Arc<Self>, node: NodeId) -> Result<(), AgentError> {
        let approved = self.trust().approve(unix(), self.id(), node, &self.identity);
        let message = match approved {
            // What the registry relayed carries no signature: asking back makes both sides say it in their own words.
            Err(TrustError::Unsigned(_)) => {
                let respond =
                    Request::RespondHandshake { node: self.id(), peer: node, accept: true };
                self.registry.request(&respond).await?;
                self.handshake(node, "").await?;
                return Ok(());
            }
            approved => approved?,
        };
        self.keep_trust()?;
        self.report(node).await;
        self.tell(node, &message).await?;
        self.seek(node);
        Ok(())
    }

    /// Refuses a peer's request.
    ///
    /// # Errors
    /// See [`AgentError`].
    pub async fn reject(&self, node: NodeId, reason: &str) -> Result<(), AgentError> {
        let message = self.trust().reject(unix(), self.id(), node, reason)?;
        self.keep_trust()?;
        self.tell(node, &message).await
    }

    /// Withdraws trust.
    ///
    /// # Errors
    /// See [`AgentError`].
    pub async fn revoke(&self, node: NodeId) -> Result<(), AgentError> {
        let message = self.trust().revoke(unix(), self.id(), node);
        self.keep_trust()?;
        self.registry.request(&Request::RevokeTrust { node: self.id(), peer: node }).await?;
        match message {
            Some(message) => self.tell(node, &message).await,
            None => Ok(()),
        }
    }

    /// Forgets a node's key and trust.
    ///
    /// # Errors
    /// See [`AgentError`].
    pub fn forget(&self, node: NodeId) -> Result<(), AgentError> {
        self.trust().forget(node);
        self.keep_trust()
    }

    /// Tells the registry what both sides agreed on, so that it lets them resolve each other.
    async fn report(&self, node: NodeId) {
        if self.trust().is_trusted(node) {
            let request = Request::ReportTrust { node: self.id(), peer: node };
            if let Err(error) = self.registry.request(&request).await {
                tracing::warn!(node, %error, "trust not reported");
            }
        }
    }

    pub(super) async fn receive_handshake(self: &Arc<Self>, mut connection: Connection) {
        let node = connection.remote().address.node;
        let mut bytes = Vec::new();
        let limit = handshake::MESSAGE_BYTES_MAX as u64 + 1;
        let read = async {
            let mut part = [0; 4096];
            while (bytes.len() as u64) < limit {
                let count = connection.read(&mut part).await?;
                bytes.extend_from_slice(&part[..count]);
                // Some daemons leave the stream open for a moment: a whole object is enough.
                if count == 0 || handshake::Message::decode(&bytes).is_ok() {
                    break;
                }
            }
            io::Result::Ok(())
        };
        let _late = timeout(HANDSHAKE, read).await;
        let Some(key) = self.node.peer_key(node) else { return };
        let effect = self.trust().receive(unix(), self.id(), node, &key, &bytes, &self.identity);
        match effect {
            Err(error) => tracing::info!(node, %error, "handshake message refused"),
            Ok(effect) => {
                if let Err(error) = self.keep_trust() {
                    tracing::warn!(%error, "trust not kept");
                }
                if let Effect::Agreed(answer) = effect {
                    self.report(node).await;
                    if let Some(answer) = answer
                        && let Err(error) = self.tell(node, &answer).await
                    {
                        tracing::info!(node, %error, "acceptance not delivered");
                    }
                    self.seek(node);
                }
            }
        }
    }
}
