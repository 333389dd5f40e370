//! Built-in services: echo, data exchange, event stream. The trust handshake is the agent's.

mod parts;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use comity_pilot::address::port::DATA;
use comity_pilot::address::{NodeId, SocketAddress};
use comity_pilot::service::{data, event, file};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{broadcast, mpsc};
use tokio::time::timeout;

use crate::agent::Agent;
use crate::clock::unix_micros;
use crate::node::Connection;
use parts::{Incoming, PART, Parts};

pub use parts::{FILE_BYTES_MAX, PART_AGE_MAX, PARTS_MAX, PARTS_PER_PEER_MAX};

/// Bytes read at a time.
const CHUNK_BYTES: usize = 64 << 10;
/// Files and messages kept; further ones are refused until some are removed.
pub const INBOX_ENTRIES_MAX: usize = 10_000;
/// Events that wait for a slow subscriber; further ones are lost to it.
const EVENTS_WAITING_MAX: usize = 64;

/// Patience with a peer that is told an answer on a connection of its own.
const ANSWER_BACK: Duration = Duration::from_secs(10);
/// Arrivals that a slow reader of [`Inbox::arrivals`] may be behind.
const ARRIVALS_MAX: usize = 256;

/// Bytes back.
pub(crate) async fn echo(mut connection: Connection) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        let count = connection.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        connection.write_all(&buffer[..count]).await?;
    }
}

/// Where messages and files are kept.
#[derive(Debug)]
pub struct Inbox {
    dir: PathBuf,
    parts: Parts,
    arrived: broadcast::Sender<Message>,
}

/// A message or file that was kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Where it is.
    pub path: PathBuf,
    /// Who sent it.
    pub from: NodeId,
    /// When it came, microseconds since the UNIX epoch.
    pub at: u64,
    /// `message.txt`, `message.json`, `message.bin`, or the name of a file.
    pub name: String,
}

impl Message {
    fn of(path: PathBuf) -> Option<Self> {
        let file = path.file_name()?.to_str()?;
        let (at, rest) = file.split_once('-')?;
        let (from, name) = rest.split_once('-')?;
        let (at, from, name) = (at.parse().ok()?, from.parse().ok()?, name.to_owned());
        Some(Self { path, from, at, name })
    }
}

/// A file name that stays in its directory: what else was in it is replaced.
fn safe_name(name: &str) -> String {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let clean: String = last
        .chars()
        .take(120)
        .map(|char| if char.is_alphanumeric() || ".-_ ".contains(char) { char } else { '_' })
        .collect();
    let clean = clean.trim_matches(['.', ' ']).to_owned();
    if clean.is_empty() { "unnamed".to_owned() } else { clean }
}

impl Inbox {
    /// An inbox in a directory, which is made.
    ///
    /// # Errors
    /// What the file system says.
    pub fn open(dir: &Path) -> io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt as _;
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        parts::forget_old(dir)?;
        let arrived = broadcast::channel(ARRIVALS_MAX).0;
        Ok(Self { dir: dir.to_owned(), parts: Parts::default(), arrived })
    }

    fn dir(&self) -> &Path {
        &self.dir
    }

    fn path(&self, from: SocketAddress, name: &str) -> io::Result<PathBuf> {
        if std::fs::read_dir(&self.dir)?.count() >= INBOX_ENTRIES_MAX {
            return Err(io::Error::other("the inbox is full"));
        }
        let sender = from.address.node;
        Ok(self.dir.join(format!("{}-{sender}-{}", unix_micros(), safe_name(name))))
    }

    fn keep(&self, from: SocketAddress, frame: &data::Frame) -> io::Result<PathBuf> {
        let malformed = |_error| io::Error::other("malformed file frame");
        let (path, content) = match frame.kind {
            data::Kind::File => {
                let (name, content) = frame.as_file().map_err(malformed)?;
                (self.path(from, name)?, content)
            }
            data::Kind::Json => (self.path(from, "message.json")?, frame.payload.as_slice()),
            data::Kind::Text => (self.path(from, "message.txt")?, frame.payload.as_slice()),
            data::Kind::Binary => (self.path(from, "message.bin")?, frame.payload.as_slice()),
            data::Kind::Trace | data::Kind::FileStream | data::Kind::Other(_) => {
                return Err(io::Error::other("frames of this kind are not kept"));
            }
        };
        std::fs::write(&path, content)?;
        self.tell(&path);
        Ok(path)
    }

    fn tell(&self, path: &Path) {
        if let Some(message) = Message::of(path.to_owned()) {
            // Nobody may be listening.
            let _receivers = self.arrived.send(message);
        }
    }

    /// What arrives from now on.
    #[must_use]
    pub fn arrivals(&self) -> broadcast::Receiver<Message> {
        self.arrived.subscribe()
    }

    /// What was received, oldest first.
    ///
    /// # Errors
    /// What the file system says.
    pub fn list(&self) -> io::Result<Vec<Message>> {
        let mut messages = Vec::new();
        for entry in std::fs::read_dir(&self.dir)? {
            let path = entry?.path();
            if path.extension().is_none_or(|end| end != PART) {
                messages.extend(Message::of(path));
            }
        }
        messages.sort_by(|one, other| one.path.cmp(&other.path));
        Ok(messages)
    }
}

/// Data exchange: keeps what comes and acknowledges it; what is offered on the port answers JSON.
pub(crate) async fn exchange(
    mut connection: Connection,
    agent: Arc<Agent>,
    port: u16,
) -> io::Result<()> {
    let mut incoming = Incoming::default();
    let outcome = exchange_frames(&mut connection, &agent, port, &mut incoming).await;
    agent.inbox().parts.end(&mut incoming);
    outcome
}

async fn exchange_frames(
    connection: &mut Connection,
    agent: &Arc<Agent>,
    port: u16,
    incoming: &mut Incoming,
) -> io::Result<()> {
    let from = connection.remote();
    let mut reader = data::Reader::new(data::PAYLOAD_BYTES_MAX);
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        let count = connection.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        reader.push(&buffer[..count]);
        while let Some(frame) = reader.next_frame().map_err(io::Error::other)? {
            if frame.kind == data::Kind::FileStream {
                let message = file::Message::decode(&frame.payload).map_err(io::Error::other)?;
                let (inbox, parts) = (agent.inbox(), &agent.inbox().parts);
                let answer = if matches!(message.body, file::Body::Init { .. }) {
                    parts.begin(inbox, from, &message, incoming).await?
                } else {
                    parts.take(inbox, from, &message, incoming).await?
                };
                let answer = data::Frame::new(data::Kind::FileStream, answer.to_payload());
                connection.write_all(&answer.to_vec()).await?;
                continue;
            }
            let frame = match frame.as_trace() {
                Ok((kind, _sent, payload)) if frame.kind == data::Kind::Trace => {
                    data::Frame::new(kind, payload)
                }
                _ => frame,
            };
            let offer = agent.offered_on(port).filter(|_offer| frame.kind == data::Kind::Json);
            let node = from.address.node;
            let answer = if offer.is_some() || (port == DATA && agent.answers().take(node, &frame))
            {
                data::Frame::acknowledgement(&frame)
            } else {
                keep(agent.inbox(), from, &frame)
            };
            connection.write_all(&answer.to_vec()).await?;
            if let Some(offer) = offer {
                let answer = (offer.handler)(node, frame.payload).await;
                let answer = data::Frame::new(data::Kind::Json, answer);
                // Whoever does not read it here gets it on a connection of its own.
                let here = connection.write_all(&answer.to_vec()).await;
                answer_back(Arc::clone(agent), node, answer);
                here?;
            }
        }
    }
}

fn keep(inbox: &Inbox, from: SocketAddress, frame: &data::Frame) -> data::Frame {
    match inbox.keep(from, frame) {
        Ok(_path) => data::Frame::acknowledgement(frame),
        Err(error) => {
            tracing::warn!(%from, %error, "pilot message not kept");
            data::Frame::new(data::Kind::Text, format!("ERR {} save failed", frame.kind.word()))
        }
    }
}

/// Sends an answer on a new connection, as Pilot's services do.
fn answer_back(agent: Arc<Agent>, node: NodeId, answer: data::Frame) {
    tokio::spawn(async move {
        let sent = timeout(ANSWER_BACK, agent.send(node, &answer)).await;
        if let Ok(Err(error)) = sent {
            tracing::debug!(node, %error, "answer not taken on a connection of its own");
        }
    });
}

/// Sends one frame over a fresh connection and waits for the answer.
///
/// # Errors
/// What the connection says; an answer that is no frame.
pub async fn send_frame(
    connection: &mut Connection,
    frame: &data::Frame,
) -> io::Result<data::Frame> {
    connection.write_all(&frame.to_vec()).await?;
    let mut reader = data::Reader::new(data::PAYLOAD_BYTES_MAX);
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        if let Some(answer) = reader.next_frame().map_err(io::Error::other)? {
            return Ok(answer);
        }
        let count = connection.read(&mut buffer).await?;
        if count == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
        }
        reader.push(&buffer[..count]);
    }
}

/// A broker of events.
#[derive(Debug, Default)]
pub struct Events {
    state: Mutex<(event::Broker, BTreeMap<u64, mpsc::Sender<Vec<u8>>>, u64)>,
}

impl Events {
    fn deliver(&self, to: &[u64], event: &event::Event) {
        let wire = event.to_vec();
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        for connection in to {
            if let Some(sender) = state.1.get(connection) {
                // A subscriber that does not read loses events, nobody else does.
                let _slow = sender.try_send(wire.clone());
            }
        }
    }

    /// Connections that subscribed.
    #[must_use]
    pub fn subscribers(&self) -> usize {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).0.connections()
    }

    /// Publishes an event of this node to its subscribers; to how many.
    pub fn publish(&self, event: &event::Event) -> usize {
        let to = {
            let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.0.subscribers(&event.topic)
        };
        self.deliver(&to, event);
        to.len()
    }

    /// Serves a connection.
    pub(crate) async fn serve(self: Arc<Self>, connection: Connection) -> io::Result<()> {
        let (sender, mut receiver) = mpsc::channel::<Vec<u8>>(EVENTS_WAITING_MAX);
        let id = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.2 += 1;
            let id = state.2;
            state.1.insert(id, sender);
            id
        };
        let (mut reading, mut writing) = tokio::io::split(connection);
        let incoming = async {
            let mut reader = event::Reader::default();
            let mut buffer = vec![0; CHUNK_BYTES];
            loop {
                let count = reading.read(&mut buffer).await?;
                if count == 0 {
                    return Ok(());
                }
                reader.push(&buffer[..count]);
                while let Some(event) = reader.next_event().map_err(io::Error::other)? {
                    let outcome = {
                        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
                        state.0.event(id, &event)
                    };
                    match outcome {
                        event::Outcome::Subscribed => {}
                        event::Outcome::Deliver(to) => self.deliver(&to, &event),
                        event::Outcome::Full => return Ok(()),
                    }
                }
            }
        };
        let outgoing = async {
            while let Some(event) = receiver.recv().await {
                writing.write_all(&event).await?;
            }
            Ok(())
        };
        let result: io::Result<()> = tokio::select! {
            result = incoming => result,
            result = outgoing => result,
        };
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.0.closed(id);
        state.1.remove(&id);
        result
    }
}
