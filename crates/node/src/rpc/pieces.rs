//! Pieces of large results (`comity_results::bulk`): bytes that nobody signs here, because whoever asks for them can verify them.
//!
//! The answer to [`Method::Piece`](super::wire::Method) is a head, then the bytes of the piece as they are, then the end of the direction.

use std::fmt;
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::CallError;
use crate::transport::locked;

/// Bytes that are written at once.
pub(super) const PART_BYTES: usize = 64 * 1024;
/// A peer that takes nothing of a piece, or sends nothing of it, for this long is given up.
pub(crate) const PIECE_PATIENCE: Duration = Duration::from_secs(10);

/// One piece, on its way to a peer.
pub struct Outgoing {
    /// The bytes.
    pub bytes: Bytes,
    /// How fast they may go.
    pub pace: std::sync::Arc<Pace>,
    /// Held until they are gone: a place among the pieces that are sent at a time.
    pub place: Box<dyn Send>,
}

impl fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outgoing").field("bytes", &self.bytes.len()).finish_non_exhaustive()
    }
}

/// How many bytes of large results leave in a second, to all peers together.
#[derive(Debug)]
pub struct Pace {
    bytes_per_s: Option<u64>,
    /// When the next byte may leave.
    next: Mutex<Instant>,
}

impl Pace {
    /// At most so many; as many as go, if not given.
    #[must_use]
    pub fn new(bytes_per_s: Option<u64>) -> Self {
        Self { bytes_per_s: bytes_per_s.map(|rate| rate.max(1)), next: Mutex::new(Instant::now()) }
    }

    /// Waits until so many bytes may leave.
    pub(super) async fn take(&self, bytes: usize) {
        let Some(rate) = self.bytes_per_s else { return };
        let takes = Duration::from_secs_f64(bytes as f64 / rate as f64);
        let begin = {
            let mut next = locked(&self.next);
            let begin = (*next).max(Instant::now());
            *next = begin + takes;
            begin
        };
        tokio::time::sleep_until(begin).await;
    }
}

/// Why a piece did not come.
#[derive(Debug)]
pub(crate) enum NoPiece {
    /// The peer has too much to do.
    Busy,
    /// The peer does not have the result, or not any more.
    NotHeld,
    /// The peer ended it before it was whole, in order; or sent more than there is.
    Cut,
    /// Anything else.
    Failed(CallError),
}
