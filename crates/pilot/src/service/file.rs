//! FileStream: a file in chunks over a data exchange stream, resumable, checked by SHA-256.
//!
//! Pure: the caller reads and writes the file at the offsets that [`Sender`] and [`Receiver`] name.

use sha2::{Digest as _, Sha256};

/// Bytes of a chunk.
pub const CHUNK_BYTES_MAX: usize = 48 << 10;
/// Chunks sent and not acknowledged.
pub const WINDOW_CHUNKS: u64 = 16;
/// Bytes of a file name.
pub const NAME_BYTES_MAX: usize = 255;
/// Bytes of the text of an abort or a failure that are kept.
const TEXT_BYTES_MAX: usize = 512;

/// The first 16 bytes of the content's SHA-256: names a transfer, so that it can go on after a break.
pub type TransferId = [u8; 16];

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// 01: a file is coming.
    Init {
        /// Bytes of the file.
        size: u64,
        /// Of the content.
        sha256: [u8; 32],
        /// Bytes of a chunk.
        chunk: u32,
        /// The file's name; to be made safe before it becomes a path.
        name: String,
    },
    /// 02: content at an offset.
    Chunk {
        /// Where.
        offset: u64,
        /// What.
        data: Vec<u8>,
    },
    /// 03: everything before this offset is there.
    Ack(u64),
    /// 04: that was all.
    Done,
    /// 05: go on from this offset.
    InitAck(u64),
    /// 06: `None` when the content is complete and its hash right, otherwise why not.
    Complete(Option<String>),
    /// 07: no more of it, because.
    Abort(String),
}

/// A message of the type [`crate::service::data::Kind::FileStream`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Which transfer.
    pub id: TransferId,
    /// What.
    pub body: Body,
}

/// Why a payload is no message, or a message wrong here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// Not a message.
    #[error("malformed file transfer message")]
    Malformed,
    /// The file is larger than is taken.
    #[error("the file has {size} bytes; {max} are taken")]
    Large {
        /// Announced.
        size: u64,
        /// Allowed.
        max: u64,
    },
    /// Messages in an order that makes no sense.
    #[error("file transfer message out of turn")]
    Turn,
    /// The content's hash is not the announced one.
    #[error("the file's content does not have the announced hash")]
    Hash,
    /// The other side gave up.
    #[error("the peer broke the transfer off: {0}")]
    Peer(String),
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(TEXT_BYTES_MAX)]).into_owned()
}

impl Message {
    /// Reads the payload of a FileStream frame.
    ///
    /// # Errors
    /// [`FileError::Malformed`].
    pub fn decode(payload: &[u8]) -> Result<Self, FileError> {
        let (kind, rest) = payload.split_first().ok_or(FileError::Malformed)?;
        let (id, body) = rest.split_first_chunk::<16>().ok_or(FileError::Malformed)?;
        let number = || {
            let (number, rest) = body.split_first_chunk::<8>().ok_or(FileError::Malformed)?;
            Ok((u64::from_be_bytes(*number), rest))
        };
        let body = match kind {
            1 => decode_init(body).ok_or(FileError::Malformed)?,
            2 => {
                let (offset, data) = number()?;
                if data.len() > CHUNK_BYTES_MAX {
                    return Err(FileError::Malformed);
                }
                Body::Chunk { offset, data: data.to_vec() }
            }
            3 => Body::Ack(number()?.0),
            4 => Body::Done,
            5 => Body::InitAck(number()?.0),
            6 => match body.split_first().ok_or(FileError::Malformed)? {
                (0, _) => Body::Complete(None),
                (_, why) => Body::Complete(Some(text(why))),
            },
            7 => Body::Abort(text(body)),
            _ => return Err(FileError::Malformed),
        };
        Ok(Self { id: *id, body })
    }

    /// The payload of a FileStream frame.
    #[must_use]
    pub fn to_payload(&self) -> Vec<u8> {
        let with = |kind: u8, parts: &[&[u8]]| {
            let mut out = vec![kind];
            out.extend_from_slice(&self.id);
            parts.iter().for_each(|part| out.extend_from_slice(part));
            out
        };
        match &self.body {
            Body::Init { size, sha256, chunk, name } => {
                let length = u16::try_from(name.len()).unwrap_or(u16::MAX);
                with(
                    1,
                    &[
                        &size.to_be_bytes(),
                        sha256,
                        &chunk.to_be_bytes(),
                        &length.to_be_bytes(),
                        &name.as_bytes()[..length.into()],
                    ],
                )
            }
            Body::Chunk { offset, data } => with(2, &[&offset.to_be_bytes(), data]),
            Body::Ack(offset) => with(3, &[&offset.to_be_bytes()]),
            Body::Done => with(4, &[]),
            Body::InitAck(offset) => with(5, &[&offset.to_be_bytes()]),
            Body::Complete(None) => with(6, &[&[0]]),
            Body::Complete(Some(why)) => with(6, &[&[1], why.as_bytes()]),
            Body::Abort(why) => with(7, &[why.as_bytes()]),
        }
    }
}

fn decode_init(body: &[u8]) -> Option<Body> {
    let (size, rest) = body.split_first_chunk::<8>()?;
    let (sha256, rest) = rest.split_first_chunk::<32>()?;
    let (chunk, rest) = rest.split_first_chunk::<4>()?;
    let (length, rest) = rest.split_first_chunk::<2>()?;
    let name = rest.get(..usize::from(u16::from_be_bytes(*length)))?;
    Some(Body::Init {
        size: u64::from_be_bytes(*size),
        sha256: *sha256,
        chunk: u32::from_be_bytes(*chunk),
        name: str::from_utf8(name).ok()?.to_owned(),
    })
}

/// What a [`Sender`] wants next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Send this.
    Send(Message),
    /// Read that many bytes of the file there and give them to [`Sender::chunk`].
    Read {
        /// Where.
        offset: u64,
        /// How many.
        bytes: usize,
    },
    /// Wait for a message of the peer.
    Wait,
    /// The peer has the file.
    Finished,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Start,
    Offered,
    Sending,
    Done,
    Finished,
}

/// The sending side.
#[derive(Debug)]
pub struct Sender {
    id: TransferId,
    size: u64,
    sha256: [u8; 32],
    name: String,
    phase: Phase,
    next: u64,
    acked: u64,
}

impl Sender {
    /// A transfer of a file with this size, content hash and name (cut at [`NAME_BYTES_MAX`] bytes).
    #[must_use]
    pub fn new(size: u64, sha256: [u8; 32], name: &str) -> Self {
        let mut id = [0; 16];
        id.copy_from_slice(&sha256[..16]);
        let end = (0..=NAME_BYTES_MAX.min(name.len())).rev().find(|at| name.is_char_boundary(*at));
        let name = name[..end.unwrap_or(0)].to_owned();
        Self { id, size, sha256, name, phase: Phase::Start, next: 0, acked: 0 }
    }

    /// What to do; to be asked until [`Next::Wait`] or [`Next::Finished`].
    pub fn poll(&mut self) -> Next {
        let chunk = CHUNK_BYTES_MAX as u64;
        match self.phase {
            Phase::Start => {
                self.phase = Phase::Offered;
                let (size, sha256, name) = (self.size, self.sha256, self.name.clone());
                let chunk = u32::try_from(CHUNK_BYTES_MAX).unwrap_or(u32::MAX);
                self.message(Body::Init { size, sha256, chunk, name })
            }
            Phase::Sending if self.acked >= self.size => {
                self.phase = Phase::Done;
                self.message(Body::Done)
            }
            Phase::Sending
                if self.next < self.size && self.next < self.acked + WINDOW_CHUNKS * chunk =>
            {
                let bytes = (self.size - self.next).min(chunk);
                Next::Read {
                    offset: self.next,
                    bytes: usize::try_from(bytes).unwrap_or(CHUNK_BYTES_MAX),
                }
            }
            Phase::Offered | Phase::Sending | Phase::Done => Next::Wait,
            Phase::Finished => Next::Finished,
        }
    }

    fn message(&self, body: Body) -> Next {
        Next::Send(Message { id: self.id, body })
    }

    /// The bytes asked for by [`Next::Read`]: the message to send.
    pub fn chunk(&mut self, data: &[u8]) -> Message {
        let offset = self.next;
        self.next += data.len() as u64;
        Message { id: self.id, body: Body::Chunk { offset, data: data.to_vec() } }
    }

    /// A message of the peer; those of other transfers change nothing.
    ///
    /// # Errors
    /// [`FileError::Peer`], [`FileError::Turn`]; the transfer is over then.
    pub fn receive(&mut self, message: &Message) -> Result<(), FileError> {
        if message.id != self.id {
            return Ok(());
        }
        match (&message.body, self.phase) {
            (Body::InitAck(offset), Phase::Offered) if *offset <= self.size => {
                (self.phase, self.next, self.acked) = (Phase::Sending, *offset, *offset);
            }
            (Body::Ack(offset), Phase::Sending | Phase::Done) if *offset <= self.next => {
                self.acked = self.acked.max(*offset);
            }
            (Body::Complete(None), Phase::Done) => self.phase = Phase::Finished,
            (Body::Complete(Some(why)) | Body::Abort(why), _) => {
                return Err(FileError::Peer(why.clone()));
            }
            _ => return Err(FileError::Turn),
        }
        Ok(())
    }
}

/// What a message of the sender means for the receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Write the chunk there, then send the answer.
    Write {
        /// Where.
        offset: u64,
        /// The acknowledgement.
        answer: Message,
    },
    /// The file is complete and right: keep it, then send the answer.
    Keep(Message),
    /// The file is wrong: throw it away and send the answer.
    Discard(Message),
}

/// The receiving side of one transfer. It outlives connections: whoever keeps it, and what was written, can answer the next Init of the
/// same content with [`Receiver::begin`], and the sender goes on from there.
#[derive(Debug)]
pub struct Receiver {
    id: TransferId,
    size: u64,
    sha256: [u8; 32],
    /// The sender's name for the file; to be made safe before it becomes a path.
    pub name: String,
    received: u64,
    hash: Sha256,
}

impl Receiver {
    /// Begins with an Init message; [`Receiver::begin`] is the answer.
    ///
    /// # Errors
    /// [`FileError::Turn`] for any other; [`FileError::Large`]; [`FileError::Malformed`] when the transfer is not named after the content.
    pub fn new(message: &Message, size_max: u64) -> Result<Self, FileError> {
        let Body::Init { size, sha256, name, .. } = &message.body else {
            return Err(FileError::Turn);
        };
        if *size > size_max {
            return Err(FileError::Large { size: *size, max: size_max });
        }
        if name.len() > NAME_BYTES_MAX || message.id[..] != sha256[..16] {
            return Err(FileError::Malformed);
        }
        Ok(Self {
            id: message.id,
            size: *size,
            sha256: *sha256,
            name: name.clone(),
            received: 0,
            hash: Sha256::new(),
        })
    }

    /// Bytes of the file from its beginning that are there.
    #[must_use]
    pub const fn received(&self) -> u64 {
        self.received
    }

    /// Bytes of the file.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Takes the next bytes of what an earlier transfer left; false, and nothing taken, when that is more than the file has.
    pub fn have(&mut self, data: &[u8]) -> bool {
        let end = self.received + data.len() as u64;
        if end > self.size {
            return false;
        }
        self.hash.update(data);
        self.received = end;
        true
    }

    /// Whether an Init message is of this very content.
    #[must_use]
    pub fn is_of(&self, message: &Message) -> bool {
        matches!(&message.body, Body::Init { size, sha256, .. } if (*size, *sha256) == (self.size, self.sha256))
    }

    /// The answer to an Init message: go on from what is there.
    #[must_use]
    pub const fn begin(&self) -> Message {
        Message { id: self.id, body: Body::InitAck(self.received) }
    }

    /// Takes a message other than Init. Chunks come in order, because the stream below keeps it.
    ///
    /// # Errors
    /// See [`FileError`]; the connection is of no use then, what was received is.
    pub fn receive(&mut self, message: &Message) -> Result<Step, FileError> {
        if message.id != self.id {
            return Err(FileError::Turn);
        }
        let id = self.id;
        let answer = |body| Message { id, body };
        match &message.body {
            Body::Chunk { offset, data } if *offset == self.received => {
                if !self.have(data) {
                    let size = self.received + data.len() as u64;
                    return Err(FileError::Large { size, max: self.size });
                }
                Ok(Step::Write { offset: *offset, answer: answer(Body::Ack(self.received)) })
            }
            Body::Done if self.received == self.size => {
                let right = self.hash.clone().finalize()[..] == self.sha256;
                if right {
                    Ok(Step::Keep(answer(Body::Complete(None))))
                } else {
                    let why = FileError::Hash.to_string();
                    Ok(Step::Discard(answer(Body::Complete(Some(why)))))
                }
            }
            Body::Abort(why) => Err(FileError::Peer(why.clone())),
            Body::Init { .. }
            | Body::Chunk { .. }
            | Body::Ack(_)
            | Body::Done
            | Body::InitAck(_)
            | Body::Complete(_) => Err(FileError::Turn),
        }
    }
}
