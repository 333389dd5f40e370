//! Messages, files and events to peers.

use std::io;
use std::path::Path;
use std::time::Duration;

use comity_pilot::address::{NodeId, port};
use comity_pilot::service::{data, event, file};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::{Agent, AgentError, at};
use crate::node::Connection;
use crate::services::send_frame;

/// How long a file's peer may take for one step.
const FILE_STEP: Duration = Duration::from_secs(60);
/// How long a peer may take to say that it knows FileStream.
const FILE_OFFER: Duration = Duration::from_secs(5);
/// Connections over which a file is sent, each going on where the one before broke, before that is an error.
const FILE_ATTEMPTS_MAX: u32 = 3;

impl Agent {
    /// Sends one data exchange frame; the peer's answer.
    ///
    /// # Errors
    /// See [`AgentError`].
    pub async fn send(&self, node: NodeId, frame: &data::Frame) -> Result<data::Frame, AgentError> {
        let mut connection = self.connect(node, port::DATA).await?;
        let to = connection.remote();
        send_frame(&mut connection, frame).await.map_err(|error| AgentError::Broken(to, error))
    }

    /// Sends a file: in pieces where the peer knows that, else in one frame. Bytes of the file. A connection that breaks is followed by
    /// another, which goes on where the first was; so does the next call for the same content.
    ///
    /// # Errors
    /// See [`AgentError`].
    pub async fn send_file(&self, node: NodeId, path: &Path) -> Result<u64, AgentError> {
        let mut file = tokio::fs::File::open(path).await.map_err(at(path))?;
        let mut hash = Sha256::new();
        let mut part = vec![0; 1 << 20];
        let mut size = 0;
        loop {
            let count = file.read(&mut part).await.map_err(at(path))?;
            if count == 0 {
                break;
            }
            hash.update(&part[..count]);
            size += count as u64;
        }
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        let name = name.unwrap_or_else(|| "unnamed".to_owned());
        let hash: [u8; 32] = hash.finalize().into();
        let mut attempt = 1;
        let (to, streamed) = loop {
            let mut connection = self.connect(node, port::DATA).await?;
            let to = connection.remote();
            let sender = file::Sender::new(size, hash, &name);
            match stream_file(&mut connection, &mut file, sender).await {
                Ok(streamed) => break (to, streamed),
                Err(error) if attempt < FILE_ATTEMPTS_MAX && is_break(&error) => attempt += 1,
                Err(error) => return Err(AgentError::Broken(to, error)),
            }
        };
        if !streamed {
            let most = data::PAYLOAD_BYTES_MAX.saturating_sub(2 + name.len()) as u64;
            if size > most {
                let file = path.display().to_string();
                return Err(AgentError::Large { file, bytes: size, to, max: most });
            }
            let content = tokio::fs::read(path).await.map_err(at(path))?;
            let answer = self.send(node, &data::Frame::file(&name, &content)).await?;
            if !answer.payload.starts_with(b"ACK") {
                let text = String::from_utf8_lossy(&answer.payload).into_owned();
                return Err(AgentError::Refused(to, text));
            }
        }
        Ok(size)
    }

    /// Publishes an event at a broker; at this node's own when `node` is its number.
    ///
    /// # Errors
    /// See [`AgentError`].
    pub async fn publish(
        &self,
        node: NodeId,
        topic: &str,
        payload: &[u8],
    ) -> Result<(), AgentError> {
        let event = event::Event { topic: topic.to_owned(), payload: payload.to_vec() };
        if node == self.id() {
            self.events.publish(&event);
            return Ok(());
        }
        let mut connection = self.connect(node, port::EVENTS).await?;
        let to = connection.remote();
        let sent = async {
            connection.write_all(&event::Event::subscription(topic).to_vec()).await?;
            connection.write_all(&event.to_vec()).await?;
            connection.flush().await?;
            connection.shutdown().await
        };
        sent.await.map_err(|error| AgentError::Broken(to, error))
    }

    /// Subscribes to a topic of a broker; events come through the receiver until either side ends.
    ///
    /// # Errors
    /// See [`AgentError`].
    pub async fn subscribe(
        &self,
        node: NodeId,
        topic: &str,
    ) -> Result<mpsc::Receiver<event::Event>, AgentError> {
        let mut connection = self.connect(node, port::EVENTS).await?;
        let to = connection.remote();
        let hello = event::Event::subscription(topic).to_vec();
        connection.write_all(&hello).await.map_err(|error| AgentError::Broken(to, error))?;
        let (sender, receiver) = mpsc::channel(64);
        tokio::spawn(async move {
            let mut reader = event::Reader::default();
            let mut buffer = vec![0; 65_536];
            while let Ok(count) = connection.read(&mut buffer).await {
                if count == 0 {
                    return;
                }
                reader.push(&buffer[..count]);
                while let Ok(Some(event)) = reader.next_event() {
                    if sender.send(event).await.is_err() {
                        return;
                    }
                }
            }
        });
        Ok(receiver)
    }
}

/// Whether the way there broke, and not what was sent.
fn is_break(error: &io::Error) -> bool {
    use io::ErrorKind::{
        BrokenPipe, ConnectionAborted, ConnectionReset, HostUnreachable, TimedOut, UnexpectedEof,
    };
    matches!(
        error.kind(),
        BrokenPipe
            | ConnectionAborted
            | ConnectionReset
            | HostUnreachable
            | TimedOut
            | UnexpectedEof
    )
}

/// Sends a file in pieces; false when the peer does not know how.
async fn stream_file(
    connection: &mut Connection,
    file: &mut tokio::fs::File,
    mut sender: file::Sender,
) -> io::Result<bool> {
    let mut reader = data::Reader::new(data::PAYLOAD_BYTES_MAX);
    let mut buffer = vec![0; 65_536];
    let mut answered = false;
    loop {
        match sender.poll() {
            file::Next::Finished => return Ok(true),
            file::Next::Send(message) => {
                let frame = data::Frame::new(data::Kind::FileStream, message.to_payload());
                connection.write_all(&frame.to_vec()).await?;
            }
            file::Next::Read { offset, bytes } => {
                let mut chunk = vec![0; bytes];
                file.seek(io::SeekFrom::Start(offset)).await?;
                file.read_exact(&mut chunk).await?;
                let payload = sender.chunk(&chunk).to_payload();
                let frame = data::Frame::new(data::Kind::FileStream, payload);
                connection.write_all(&frame.to_vec()).await?;
            }
            file::Next::Wait => {
                let patience = if answered { FILE_STEP } else { FILE_OFFER };
                let count = match timeout(patience, connection.read(&mut buffer)).await {
                    Ok(Ok(count)) if count > 0 => count,
                    Ok(Err(_)) | Ok(Ok(_)) | Err(_) if !answered => return Ok(false),
                    Ok(Ok(_)) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
                    Ok(Err(error)) => return Err(error),
                    Err(_late) => return Err(io::Error::from(io::ErrorKind::TimedOut)),
                };
                reader.push(&buffer[..count]);
                while let Some(frame) = reader.next_frame().map_err(io::Error::other)? {
                    if frame.kind != data::Kind::FileStream {
                        return Ok(false);
                    }
                    answered = true;
                    let message =
                        file::Message::decode(&frame.payload).map_err(io::Error::other)?;
                    sender.receive(&message).map_err(io::Error::other)?;
                }
            }
        }
    }
}
