//! Sending a peer one piece of a large result.

use std::panic::AssertUnwindSafe;

use bytes::Bytes;
use futures_util::future::FutureExt as _;

use super::{BULK_PRIORITY, End, Session, TRUST_PATIENCE, deadline_passed, panicked, too_early};
use crate::rpc::Caller;
use crate::rpc::pieces::{Outgoing, PART_BYTES, PIECE_PATIENCE};
use crate::rpc::wire::{self, ResponseFrame};

impl Session {
    /// Answers with the piece that is asked for. The stream is over after it.
    pub(super) async fn send_piece(&mut self, caller: Caller, body: Bytes) -> Result<(), End> {
        if caller.is_early() {
            return too_early();
        }
        let work = AssertUnwindSafe(self.server.handler.piece(caller, body)).catch_unwind();
        let found = match tokio::time::timeout(TRUST_PATIENCE, work).await {
            Ok(Ok(found)) => found?,
            Ok(Err(_)) => return panicked(),
            Err(_) => return deadline_passed(),
        };
        let Outgoing { bytes, pace, place } = found;
        // Calls of the same link go first.
        let _ = self.stream.send.set_priority(BULK_PRIORITY);
        self.write_part(wire::frame(&ResponseFrame::Head)).await?;
        for at in (0..bytes.len()).step_by(PART_BYTES) {
            let part = bytes.slice(at..bytes.len().min(at + PART_BYTES));
            pace.take(part.len()).await;
            self.write_part(part).await?;
        }
        let _ = self.stream.send.finish();
        drop(place);
        Ok(())
    }

    /// Writes as fast as the peer takes it; one that takes nothing is given up.
    async fn write_part(&mut self, part: Bytes) -> Result<(), End> {
        match tokio::time::timeout(PIECE_PATIENCE, self.stream.send.write_chunk(part)).await {
            Ok(written) => Ok(written?),
            Err(_) => Err(End::Gone),
        }
    }
}
