//! Asking a peer for one piece of a large result.

use std::net::SocketAddr;

use comity_capability::record::GroupSecret;
use comity_core::AgentId;
use comity_results::bulk::PieceAsk;

use super::{CONTROL_DEADLINE, LINK_SILENCE_MAX, Rpc};
use crate::rpc::answer::{Attempt, read_head};
use crate::rpc::pieces::{NoPiece, PIECE_PATIENCE};
use crate::rpc::wire::{self, Method, RequestFrame};
use crate::rpc::{CallError, ErrorCode};
use crate::transport::{CloseCode, peer_code};

impl Rpc {
    /// The bytes that `peer` says are the piece; `length` of them, for the caller to verify. Dropping the future tells the peer to stop.
    ///
    /// # Errors
    ///
    /// [`NoPiece`].
    pub(crate) async fn piece(
        &self,
        peer: AgentId,
        addrs: &[SocketAddr],
        ask: &PieceAsk,
        group: Option<&GroupSecret>,
        length: usize,
    ) -> Result<Vec<u8>, NoPiece> {
        let waited = CONTROL_DEADLINE;
        let linked = tokio::time::timeout(waited, self.0.link(peer, addrs)).await;
        let linked = linked.unwrap_or(Err(CallError::TimedOut { peer, waited }));
        let link = linked.map_err(NoPiece::Failed)?;
        let interrupted = |code| NoPiece::Failed(CallError::Interrupted { peer, code });
        let mut loan = link.borrow().await.map_err(|error| interrupted(peer_code(&error)))?;
        let body = ask.encode();
        let request = RequestFrame {
            method: Method::Piece,
            number: link.next_number(),
            deadline_ms: u32::try_from(waited.as_millis()).unwrap_or(u32::MAX),
            capability: "",
            body: &body,
            repeatable: true,
            descriptor: None,
            interface: None,
            nonce: None,
            membership: group
                .map(|group| group.membership(&link.session, &self.0.transport.id(), &peer)),
            grants: None,
            job: None,
        };
        let stream = loan.stream();
        let written = stream.send.write_chunk(wire::frame(&request)).await;
        written.map_err(|_| interrupted(None))?;
        let heard = link.received();
        {
            let mut head = std::pin::pin!(read_head(peer, stream));
            let read = match tokio::time::timeout(LINK_SILENCE_MAX, head.as_mut()).await {
                Ok(read) => read,
                Err(_) if link.received() == heard => {
                    // Not even an acknowledgement: whatever waits on this link waits for nobody.
                    link.close(CloseCode::Silent);
                    return Err(interrupted(None));
                }
                Err(_) => {
                    tokio::time::timeout(PIECE_PATIENCE, head).await.map_err(|_| late(peer))?
                }
            };
            read.map_err(|attempt| refused(peer, attempt))?;
        }
        let mut piece = Vec::with_capacity(length);
        let held = std::mem::take(&mut stream.held);
        if held.len() > length {
            return Err(NoPiece::Cut);
        }
        piece.extend_from_slice(&held);
        while piece.len() < length {
            let more = stream.recv.read_chunk(length - piece.len());
            match tokio::time::timeout(PIECE_PATIENCE, more).await {
                Ok(Ok(Some(more))) => piece.extend_from_slice(&more),
                Ok(Ok(None)) => return Err(NoPiece::Cut),
                Ok(Err(_)) => return Err(interrupted(None)),
                Err(_) => return Err(late(peer)),
            }
        }
        loan.retire();
        Ok(piece)
    }
}

fn late(peer: AgentId) -> NoPiece {
    NoPiece::Failed(CallError::TimedOut { peer, waited: PIECE_PATIENCE })
}

fn refused(peer: AgentId, attempt: Attempt) -> NoPiece {
    let error = attempt.into_error(peer);
    if let CallError::Failed { code, .. } = &error {
        if *code == ErrorCode::Busy {
            return NoPiece::Busy;
        }
        if *code == ErrorCode::NotFound {
            return NoPiece::NotHeld;
        }
    }
    NoPiece::Failed(error)
}
