//! What a stream takes, gives and tells.

use std::time::Duration;

use super::SEGMENT_BYTES_SAFE;
use crate::packet::Flags;

/// Sizes of one end.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Bytes of data in a segment sent, at most [`SEGMENT_BYTES_MAX`](super::SEGMENT_BYTES_MAX).
    pub segment_bytes: usize,
    /// Bytes the receiver keeps for the application; rounded down to units of 4,096, at least one.
    pub receive_bytes: usize,
    /// Bytes written and not acknowledged.
    pub send_bytes: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { segment_bytes: SEGMENT_BYTES_SAFE, receive_bytes: 4 << 20, send_bytes: 4 << 20 }
    }
}

/// The parts of a packet that a stream sees.
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a> {
    /// SYN, ACK, FIN, RST.
    pub flags: Flags,
    /// Of the first payload byte.
    pub sequence: u32,
    /// The next byte the peer expects.
    pub acknowledgement: u32,
    /// The peer's free buffer in units of 4,096 bytes.
    pub window: u16,
    /// Data, or a selective acknowledgement.
    pub payload: &'a [u8],
}

/// A segment to be sent; [`Stream::payload`](super::Stream::payload) appends its payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// SYN, ACK, FIN, RST.
    pub flags: Flags,
    /// Of the first payload byte.
    pub sequence: u32,
    /// The next byte expected.
    pub acknowledgement: u32,
    /// Free buffer in units of 4,096 bytes.
    pub window: u16,
    /// What follows the header.
    pub body: Body,
}

/// What follows the header of a segment to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Nothing.
    Empty,
    /// A selective acknowledgement, encoded.
    Sack(Vec<u8>),
    /// That many bytes of the stream from there (positions are the machine's own).
    Data {
        /// Position of the first byte.
        start: u64,
        /// How many.
        bytes: usize,
    },
}

impl Body {
    /// Bytes of the payload.
    #[must_use]
    pub const fn len(&self) -> usize {
        match self {
            Self::Empty => 0,
            Self::Sack(bytes) => bytes.len(),
            Self::Data { bytes, .. } => *bytes,
        }
    }

    /// Whether there is no payload.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Why a connection ended other than by a close after the last acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Nobody answered [`SYN_ATTEMPTS_MAX`](super::SYN_ATTEMPTS_MAX) SYNs: no such node, no listener, or not trusted there (Pilot says nothing then).
    #[error(
        "no answer: the peer is away, does not listen on this port or does not trust this node"
    )]
    Unreachable,
    /// The peer has no such connection or listener.
    #[error("the peer refused or reset the connection")]
    Reset,
    /// Silence for too long.
    #[error("the peer fell silent")]
    TimedOut,
    /// The peer closed, and data it sent before never came.
    #[error("the peer closed before all it had sent arrived")]
    Truncated,
    /// The peer closed before it acknowledged that much of what was written here.
    #[error("the peer closed with {0} bytes written here not acknowledged")]
    PeerClosed(u64),
    /// Given up here.
    #[error("the connection was aborted")]
    Aborted,
}

/// What a read found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// That many bytes were put into the buffer.
    Data(usize),
    /// Nothing yet.
    Blocked,
    /// The peer closed and everything was read.
    End,
}

/// What changed since it was last asked, for whoever wakes readers and writers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// The connection opened.
    pub established: bool,
    /// There is something to read, or the end.
    pub readable: bool,
    /// There is room to write, everything written was acknowledged, or the end.
    pub writable: bool,
}

/// Counters of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Smoothed round trip, once measured.
    pub smoothed_rtt: Option<Duration>,
    /// Congestion window in bytes.
    pub congestion_window: u64,
    /// Bytes sent and neither acknowledged nor lost.
    pub in_flight: u64,
    /// The congestion window in bytes: the mean over all segments sent.
    pub mean_window: u64,
    /// Bytes of data in a segment, at most.
    pub segment_bytes: usize,
    /// Segments with data that were sent, those sent again included.
    pub segments: u64,
    /// Segments sent again.
    pub retransmitted: u64,
    /// Times the congestion window was reduced because a loss was found.
    pub reductions: u64,
    /// Times the retransmission timer fired.
    pub timeouts: u64,
    /// Bytes acknowledged by the peer.
    pub acknowledged: u64,
    /// Bytes given in order to the application's buffer.
    pub received: u64,
}

/// What [`Stream::poll_timeout`](super::Stream::poll_timeout) waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    /// A SYN, a FIN or data was not acknowledged.
    Retransmit,
    /// The end of what is under way is sounded, before the retransmission timer does worse.
    Tail,
    /// What looked overtaken is lost.
    Reorder,
    /// An acknowledgement was held back.
    Acknowledge,
    /// The peer's window is closed.
    Probe,
    /// Nothing was sent for long.
    KeepAlive,
    /// The peer said nothing for long.
    Idle,
    /// A FIN waits for data it overtook.
    Truncated,
    /// The state of a closed connection goes.
    TimeWait,
}
