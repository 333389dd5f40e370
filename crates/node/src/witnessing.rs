//! Being held to one history by everybody met: each peer that says hello shows the state of its audit log, and gets a signature under it if it
//! continues what it showed before.
//!
//! This happens beside the calls, after the first hello of a link: compare, ask for the proof that the log only grew, remember, sign. A peer that
//! shows another history than before is logged and its proof of two histories kept (see [`crate::audit::Witness`]).

use std::sync::Arc;

use bytes::Bytes;
use comity_core::{AgentId, Canonical as _, Hash};
use comity_trust::log::NoteSignature;
use comity_trust::log::witness::Refusal;
use futures_util::StreamExt as _;
use futures_util::future::{BoxFuture, TryFutureExt as _};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::access::{Question, Told};
use crate::audit::{Accusations, Audit, AuditError, Observed, Witness, WitnessError};
use crate::rpc::{CallFailure, Cosigned, ErrorCode, Growth, Hello, Rpc};

/// Hellos that wait to be looked at; of more, the log is looked at on the next link.
const HEARD_LEN: usize = 256;
/// Peers whose logs are looked at at once.
const AT_ONCE: usize = 8;
/// Questions of peers about this node's log that are answered at once; of more, the peer hears that it is busy. They share the log's
/// thread with what this agent does itself.
const ASKED_AT_ONCE: usize = 4;

/// What a peer said of logs at its hello.
#[derive(Debug)]
pub(crate) struct Shown {
    peer: AgentId,
    /// The state of its own.
    note: Option<String>,
    /// It knows of a proof of two histories that this node does not.
    accuses: bool,
}

/// What peers are shown and asked, and what they ask.
#[derive(Debug, Clone)]
pub(crate) struct Witnessing {
    audit: Audit,
    accusations: Accusations,
    heard: mpsc::Sender<Shown>,
    asked: Arc<Semaphore>,
}

impl Witnessing {
    /// What the peers show is to be given to [`attend`].
    pub(crate) fn new(audit: Audit, accusations: Accusations) -> (Self, mpsc::Receiver<Shown>) {
        let (heard, shown) = mpsc::channel(HEARD_LEN);
        (Self { audit, accusations, heard, asked: Arc::new(Semaphore::new(ASKED_AT_ONCE)) }, shown)
    }

    /// The state of this node's log, for a hello.
    pub(crate) fn checkpoint(&self) -> Option<String> {
        self.audit.latest().map(|signed| signed.note().to_string())
    }

    /// The proof of two histories that this node learned of last, for a hello.
    pub(crate) fn accusation(&self) -> Option<Hash> {
        self.accusations.newest()
    }

    /// Answers the question for the newest proofs of two histories; none if it is another.
    pub(crate) fn accusations(&self, question: &[u8]) -> Option<Bytes> {
        if Question::decode(question)? != (Question::Accusations {}) {
            return None;
        }
        let proofs = self.accusations.all().into_iter().map(Into::into).collect();
        Some(Told::Accusations { proofs }.encode().into())
    }

    /// Takes in what a peer shows of its log.
    pub(crate) fn greeted(&self, peer: &AgentId, hello: &Hello) {
        let note = hello.checkpoint.clone();
        let accuses = hello.accusation.is_some_and(|hash| self.accusations.is_news(&hash));
        if note.is_none() && !accuses {
            return;
        }
        if self.heard.try_send(Shown { peer: *peer, note, accuses }).is_err() {
            debug!(peer = %peer.short(), "too many peers said hello at once to look at its audit log");
        }
    }

    /// The proof that this node's log only grew.
    pub(crate) fn growth(&self, asked: Growth) -> BoxFuture<'static, Result<Bytes, CallFailure>> {
        let this = self.clone();
        Box::pin(async move {
            let _turn = this.asked.try_acquire().map_err(|_| busy())?;
            let proof = this.audit.consistency(asked.old, asked.new).await;
            proof.map(|proof| proof.encode().into()).map_err(|error| refused(&error))
        })
    }

    /// Takes in a peer's signature under this node's log.
    pub(crate) fn cosigned(
        &self,
        peer: AgentId,
        cosigned: Cosigned,
    ) -> BoxFuture<'static, Result<(), CallFailure>> {
        let this = self.clone();
        Box::pin(async move {
            let _turn = this.asked.try_acquire().map_err(|_| busy())?;
            let signature = NoteSignature::from_line(cosigned.line.as_bytes())
                .map_err(|error| CallFailure::new(ErrorCode::InvalidInput, error.to_string()))?;
            let observed = Observed { size: cosigned.size, signature };
            this.audit.cosigned(peer, observed).map_err(|error| refused(&error)).await
        })
    }
}

fn busy() -> CallFailure {
    CallFailure::new(ErrorCode::Busy, "too many ask about the audit log: try again later")
}

fn refused(error: &AuditError) -> CallFailure {
    let code = match error {
        AuditError::Tree(_)
        | AuditError::NoSuchEntry { .. }
        | AuditError::NotShown { .. }
        | AuditError::Cosignature { .. }
        | AuditError::Pruned { .. } => ErrorCode::InvalidInput,
        AuditError::Off | AuditError::Absent { .. } => ErrorCode::NotFound,
        AuditError::Io { .. }
        | AuditError::Damaged { .. }
        | AuditError::Truncated { .. }
        | AuditError::Rewritten { .. }
        | AuditError::Unavailable { .. } => {
            // What is wrong with this node's disk is not for strangers.
            return CallFailure::new(ErrorCode::Internal, "the audit log is not available now");
        }
    };
    CallFailure::new(code, error.to_string())
}

/// Looks at what peers show, until nobody can any more.
pub(crate) async fn attend(
    rpc: Rpc,
    witness: Witness,
    shown: mpsc::Receiver<Shown>,
    cancel: CancellationToken,
) {
    let shown = futures_util::stream::unfold(shown, |mut shown| async {
        shown.recv().await.map(|next| (next, shown))
    });
    let looked = shown.for_each_concurrent(AT_ONCE, |Shown { peer, note, accuses }| {
        let (rpc, witness) = (&rpc, &witness);
        async move {
            if accuses {
                hear_accusations(rpc, witness, peer).await;
            }
            if let Some(note) = note
                && let Err(reason) = look(rpc, witness, &peer, &note).await
            {
                debug!(peer = %peer.short(), reason, "the audit log of a peer was not looked at to the end");
            }
        }
    });
    tokio::select! {
        () = cancel.cancelled() => {}
        () = looked => {}
    }
}

/// Asks a peer for the proofs that it knows, and keeps those that hold.
async fn hear_accusations(rpc: &Rpc, witness: &Witness, peer: AgentId) {
    let question = Question::Accusations {}.encode();
    let Ok(told) = rpc.ask_trust(peer, &[], &question).await else { return };
    if let Some(Told::Accusations { proofs }) = Told::decode(&told) {
        let new = witness.told_all(&proofs).await;
        debug!(peer = %peer.short(), new, "a peer passed proofs of two histories on");
    }
}

async fn look(rpc: &Rpc, witness: &Witness, peer: &AgentId, note: &str) -> Result<(), String> {
    let mut observed = witness.observe(peer, note.as_bytes(), None).await;
    if let Err(WitnessError::Refused(Refusal::ProofMissing { old, new })) = observed {
        let proof = rpc.growth(*peer, Growth { old, new }).await.map_err(|e| e.to_string())?;
        observed = witness.observe(peer, note.as_bytes(), Some(&proof)).await;
    }
    match observed {
        Ok(Observed { size, signature }) => {
            let cosigned = Cosigned { size, line: signature.to_string() };
            rpc.cosign(*peer, &cosigned).await.map_err(|error| error.to_string())
        }
        Err(error @ (WitnessError::Checkpoint(_) | WitnessError::Proof(_))) => {
            warn!(peer = %peer.short(), error = %crate::describe(&error), "a peer showed something that is no state of its audit log");
            Ok(())
        }
        Err(error) => Err(error.to_string()),
    }
}
