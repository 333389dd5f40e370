//! Requests and answers over the data exchange: a service of this node for Pilot peers, and theirs for this node.
//!
//! Pilot has no such call. Its services take a JSON frame on port 1001 and answer with one, on the same connection or on a new one back to
//! the asker's port 1001, with nothing that says which question it answers. Here an offer answers both ways, and who asks takes whichever
//! comes first.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use comity_pilot::address::{NodeId, port};
use comity_pilot::engine::Access;
use comity_pilot::service::data;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::oneshot;

use super::{Agent, AgentError, lock, tasks};
use crate::node::Connection;

/// Requests of this node that wait for one peer.
const WAITING_MAX: usize = 64;
/// Answers remembered, so that their copies on a connection of their own are not taken for messages.
const GIVEN_MAX: usize = 256;

/// Answers a request of a peer: the JSON it sent to the JSON it gets.
pub type Handler =
    Arc<dyn Fn(NodeId, Vec<u8>) -> Pin<Box<dyn Future<Output = Vec<u8>> + Send>> + Send + Sync>;

/// What answers on a port.
#[derive(Clone)]
pub(crate) struct Offer {
    pub(crate) name: String,
    pub(crate) handler: Handler,
}

impl std::fmt::Debug for Offer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Offer").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Answers that are waited for.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    waiting: Mutex<BTreeMap<NodeId, VecDeque<oneshot::Sender<data::Frame>>>>,
    given: Mutex<VecDeque<(NodeId, [u8; 32])>>,
}

impl Answers {
    fn wait(&self, node: NodeId) -> Option<oneshot::Receiver<data::Frame>> {
        let mut waiting = lock(&self.waiting);
        waiting.retain(|_node, queue| {
            queue.retain(|sender| !sender.is_closed());
            !queue.is_empty()
        });
        let queue = waiting.entry(node).or_default();
        if queue.len() >= WAITING_MAX {
            return None;
        }
        let (sender, receiver) = oneshot::channel();
        queue.push_back(sender);
        Some(receiver)
    }

    /// An answer came on the connection of its request: a copy may follow.
    fn give(&self, node: NodeId, frame: &data::Frame) {
        let mut given = lock(&self.given);
        if given.len() >= GIVEN_MAX {
            given.pop_front();
        }
        given.push_back((node, Sha256::digest(&frame.payload).into()));
    }

    /// Whether a frame that came by itself is an answer, or the copy of one; it is handed to the request that waits longest.
    pub(crate) fn take(&self, node: NodeId, frame: &data::Frame) -> bool {
        if !matches!(frame.kind, data::Kind::Json | data::Kind::Text) {
            return false;
        }
        let digest: [u8; 32] = Sha256::digest(&frame.payload).into();
        let mut given = lock(&self.given);
        if let Some(at) = given.iter().position(|known| *known == (node, digest)) {
            given.remove(at);
            return true;
        }
        drop(given);
        let mut waiting = lock(&self.waiting);
        let Some(queue) = waiting.get_mut(&node) else { return false };
        while let Some(sender) = queue.pop_front() {
            if sender.send(frame.clone()).is_ok() {
                return true;
            }
        }
        false
    }
}

impl Agent {
    /// Answers JSON frames on a port with `handler`. Only trusted peers reach it. On port 1001 everything but JSON still goes to the inbox.
    ///
    /// # Errors
    /// [`AgentError::Port`].
    pub fn offer(
        self: &Arc<Self>,
        name: &str,
        port: u16,
        handler: Handler,
    ) -> Result<(), AgentError> {
        let built_in = [port::ECHO, port::EVENTS, port::HANDSHAKE].contains(&port);
        if built_in || lock(&self.offers).contains_key(&port) {
            return Err(AgentError::Port(port));
        }
        if port != port::DATA {
            let connections =
                self.node.listen(port, Access::Trusted).ok_or(AgentError::Port(port))?;
            tokio::spawn(tasks::serve_port(Arc::downgrade(self), port, connections));
        }
        lock(&self.offers).insert(port, Offer { name: name.to_owned(), handler });
        Ok(())
    }

    /// Names and ports of what is offered.
    #[must_use]
    pub fn offers(&self) -> Vec<(u16, String)> {
        lock(&self.offers).iter().map(|(port, offer)| (*port, offer.name.clone())).collect()
    }

    pub(crate) fn offered_on(&self, port: u16) -> Option<Offer> {
        lock(&self.offers).get(&port).cloned()
    }

    /// Sends JSON to a port of a peer and waits for its answer, on the same connection or on a new one back.
    ///
    /// # Errors
    /// See [`AgentError`].
    pub async fn request(
        &self,
        node: NodeId,
        port: u16,
        json: &[u8],
        patience: Duration,
    ) -> Result<data::Frame, AgentError> {
        let back = self.answers.wait(node);
        let mut connection = self.connect(node, port).await?;
        let to = connection.remote();
        let broken = |error| AgentError::Broken(to, error);
        let ask = data::Frame::new(data::Kind::Json, json);
        connection.write_all(&ask.to_vec()).await.map_err(broken)?;
        let on_this = async {
            match answer_on(&mut connection).await {
                Ok(Some(frame)) => {
                    self.answers.give(node, &frame);
                    Ok(frame)
                }
                Ok(None) => std::future::pending().await,
                Err(error) => Err(AgentError::Refused(to, error.to_string())),
            }
        };
        let by_itself = async {
            match back {
                Some(back) => match back.await {
                    Ok(frame) => frame,
                    Err(_gone) => std::future::pending().await,
                },
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            answer = on_this => answer,
            frame = by_itself => Ok(frame),
            () = tokio::time::sleep(patience) => Err(AgentError::Unanswered(to, patience)),
        }
    }
}

/// The first frame that is no acknowledgement; `None` when the connection ends without one.
async fn answer_on(connection: &mut Connection) -> io::Result<Option<data::Frame>> {
    let mut reader = data::Reader::new(data::PAYLOAD_BYTES_MAX);
    let mut buffer = vec![0; 65_536];
    loop {
        while let Some(frame) = reader.next_frame().map_err(io::Error::other)? {
            if frame.kind != data::Kind::Text || !frame.payload.starts_with(b"ACK ") {
                return Ok(Some(frame));
            }
        }
        match connection.read(&mut buffer).await {
            Ok(0) | Err(_) => return Ok(None),
            Ok(count) => reader.push(&buffer[..count]),
        }
    }
}
