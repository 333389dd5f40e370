//! The control socket of a joined node: one question a connection, as a line of JSON, answered by lines of JSON.
//!
//! The socket lies in the node's own directory, which only its user can enter; who can connect is that user.

mod serve;
mod views;

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;

pub use serve::{ControlServer, Offers};
pub use views::{
    BenchView, DroppedView, EventView, MessageView, NodeView, OfferView, PeerView, PendingView,
    PingView, SentView, StatusView, TrustView, TrustedView,
};

/// The control socket's name in the node's directory.
pub const SOCKET: &str = "control.sock";
/// Bytes of one line: a message of 16 MiB in base64, and what is around it.
pub const LINE_BYTES_MAX: u64 = 24 << 20;

/// What a message holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// UTF-8.
    Text,
    /// JSON.
    Json,
    /// Anything; base64 in the question.
    Binary,
}

/// A question. Targets are node numbers, addresses or host names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
#[expect(missing_docs, reason = "the fields say what they are")]
pub enum Ask {
    /// [`StatusView`].
    Status,
    /// [`NodeView`].
    Find { target: String },
    /// Items of [`PingView`].
    Ping { target: String, count: u32 },
    /// Asks for trust: [`SentView`], `agreed` when it is mutual already.
    Handshake { target: String, why: String },
    /// Agrees to a request.
    Approve { target: String },
    /// Refuses a request.
    Reject { target: String, reason: String },
    /// Withdraws trust.
    Revoke { target: String },
    /// Forgets key and trust of a node.
    Forget { target: String },
    /// [`TrustView`].
    Trust,
    /// Sends a message: [`SentView`].
    Send { target: String, kind: Content, content: String },
    /// Sends a file: [`SentView`].
    SendFile { target: String, path: PathBuf },
    /// Items of [`MessageView`]: what is there, and then what arrives.
    Recv { follow: bool },
    /// Publishes an event at a node, or here for an empty target: [`SentView`].
    Publish { target: String, topic: String, payload: String },
    /// Items of [`EventView`], until the connection ends.
    Subscribe { target: String, topic: String },
    /// Sends JSON to a port and waits for the answer, which is the answer.
    Request { target: String, port: u16, input: Value, timeout_ms: u64 },
    /// Answers JSON on a port by a capability: [`OfferView`].
    Offer { capability: String, port: u16 },
    /// Sends bytes through a peer's echo and measures: [`BenchView`].
    Bench { target: String, bytes: u64, dials: u32 },
    /// Leaves.
    Stop,
}

/// A line of an answer. Items come first, then one of the others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    /// One of several.
    Item(Value),
    /// The answer; nothing follows.
    Done(Value),
    /// It failed; nothing follows.
    Failed(Failed),
}

/// What kind of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailedKind {
    /// The question cannot be answered by anybody.
    Question,
    /// There is no such node.
    NotFound,
    /// The node or the registry refused.
    Refused,
    /// The node or the registry cannot be reached.
    Unreachable,
    /// No answer in time.
    Timeout,
    /// A key is not what it was.
    NotVerified,
    /// A file or socket here.
    Local,
    /// Two things want the same.
    Busy,
}

/// A failure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Failed {
    /// Of which kind.
    pub kind: FailedKind,
    /// What failed, on what.
    pub message: String,
    /// What to do next; empty for nothing in particular.
    #[serde(default)]
    pub hint: String,
}

/// The lines of an answer.
#[derive(Debug)]
pub struct Lines(BufReader<UnixStream>);

impl Lines {
    /// The next line; `None` when the node ended.
    ///
    /// # Errors
    /// What the socket says; [`io::ErrorKind::InvalidData`] for a line that is none.
    pub async fn next(&mut self) -> io::Result<Option<Line>> {
        let mut line = Vec::new();
        let count = (&mut self.0).take(LINE_BYTES_MAX).read_until(b'\n', &mut line).await?;
        if count == 0 {
            return Ok(None);
        }
        serde_json::from_slice(&line).map(Some).map_err(io::Error::from)
    }
}

/// Asks the node whose directory is `home`.
///
/// # Errors
/// What the socket says: [`io::ErrorKind::NotFound`] and [`io::ErrorKind::ConnectionRefused`] when no node runs there.
pub async fn ask(home: &Path, question: &Ask) -> io::Result<Lines> {
    let mut stream = UnixStream::connect(home.join(SOCKET)).await?;
    let mut line = serde_json::to_vec(question).map_err(io::Error::other)?;
    line.push(b'\n');
    stream.write_all(&line).await?;
    Ok(Lines(BufReader::new(stream)))
}
