//! Being a witness of other logs: remembering what each peer showed, and keeping the proof when one shows two histories.

use std::sync::Arc;

use comity_core::{AgentId, Canonical as _, Hash, Identity};
use comity_trust::log::witness::{Observation, Refusal, observe};
use comity_trust::log::{
    Caught, CheckpointError, ConsistencyProof, Equivocation, Event, MAX_PROOF_LEN, NoteSignature,
    SignedCheckpoint,
};
use tokio::sync::{Mutex, watch};
use tracing::{error, warn};

use super::Audit;
use super::accusations::{Accusations, PASSED_ON_MAX};
use crate::clock::Clock;
use crate::storage::{Change, Storage, StorageError, Table};

/// Logs remembered. One who was never met before is not remembered past it, and gets no cosignature.
const WITNESSED_MAX: usize = 65_536;
/// Proofs of equivocation kept.
const PROOFS_MAX: usize = 4_096;

/// Why a peer's checkpoint is not cosigned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WitnessError {
    /// The checkpoint does not hold.
    #[error("the peer's checkpoint is refused")]
    Checkpoint(#[source] CheckpointError),
    /// The proof cannot be read.
    #[error("the peer's consistency proof cannot be read")]
    Proof(#[source] comity_core::DecodeError),
    /// The checkpoint does not continue what the peer showed before.
    #[error(transparent)]
    Refused(Refusal),
    /// The log was caught before, and is not believed again.
    #[error("the log of {log} was caught with two histories: nothing it says is cosigned")]
    Caught {
        /// Whose log.
        log: AgentId,
    },
    /// Too many logs are remembered already.
    #[error("{WITNESSED_MAX} logs are remembered, and this one is not among them")]
    Full,
    /// What was seen cannot be kept.
    #[error(transparent)]
    Storage(StorageError),
}

/// What a witness says of a checkpoint that it found in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// Entries under the checkpoint.
    pub size: u64,
    /// The witness's signature under it.
    pub signature: NoteSignature,
}

/// What a node remembers of the logs of its peers. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Witness {
    identity: Arc<Identity>,
    clock: Clock,
    storage: Storage,
    audit: Audit,
    /// Held while one checkpoint is judged, so that two of one log cannot both follow the same third. Counts the logs known.
    turn: Arc<Mutex<Option<usize>>>,
    /// Counts what was taken note of.
    seen: watch::Sender<u64>,
    /// Proofs of two histories that are passed on.
    accusations: Accusations,
}

impl Witness {
    pub(crate) fn new(
        identity: Arc<Identity>,
        clock: Clock,
        storage: Storage,
        audit: Audit,
    ) -> Self {
        let (turn, seen, accusations) = Default::default();
        let witness = Self { identity, clock, storage, audit, turn, seen, accusations };
        // What was learned in earlier runs is passed on again, as far as it can be read now.
        let kept = witness.storage.read_all(Table::Equivocations, PROOFS_MAX).unwrap_or_default();
        for (log, proof) in kept {
            let met = witness.storage.read(Table::Witnessed, &log).is_ok_and(|note| note.is_some());
            witness.accusations.learn(&proof, met);
        }
        witness
    }

    /// What is passed on to peers.
    pub(crate) fn accusations(&self) -> &Accusations {
        &self.accusations
    }

    /// Counts the checkpoints that were looked at, whatever became of them, and the proofs that came.
    #[must_use]
    pub fn seen(&self) -> watch::Receiver<u64> {
        self.seen.subscribe()
    }

    /// Every log that is remembered, by its last checkpoint that was found in order.
    ///
    /// # Errors
    /// [`WitnessError::Storage`] when what was seen cannot be read.
    pub fn all(&self) -> Result<Vec<SignedCheckpoint>, WitnessError> {
        let rows = self
            .storage
            .read_all(Table::Witnessed, WITNESSED_MAX)
            .map_err(WitnessError::Storage)?;
        Ok(rows.iter().filter_map(|(_, note)| SignedCheckpoint::open(note).ok()).collect())
    }

    /// The last checkpoint of this log that was found in order.
    ///
    /// # Errors
    /// [`WitnessError::Storage`] when what was seen cannot be read.
    pub fn held(&self, log: &AgentId) -> Result<Option<SignedCheckpoint>, WitnessError> {
        let note =
            self.storage.read(Table::Witnessed, log.as_bytes()).map_err(WitnessError::Storage)?;
        // What does not read any more was never written by this program; then the log is met anew.
        Ok(note.and_then(|note| SignedCheckpoint::open_of(&note, log).ok()))
    }

    /// The proof that this log has two histories, if one is known.
    ///
    /// # Errors
    /// [`WitnessError::Storage`] when what was seen cannot be read.
    pub fn proof(&self, log: &AgentId) -> Result<Option<Equivocation>, WitnessError> {
        let bytes = self
            .storage
            .read(Table::Equivocations, log.as_bytes())
            .map_err(WitnessError::Storage)?;
        Ok(bytes.and_then(|bytes| Equivocation::decode(&bytes).ok()))
    }

    /// Every proof that is kept.
    ///
    /// # Errors
    /// [`WitnessError::Storage`] when what was seen cannot be read.
    pub fn proofs(&self) -> Result<Vec<Equivocation>, WitnessError> {
        let rows = self
            .storage
            .read_all(Table::Equivocations, PROOFS_MAX)
            .map_err(WitnessError::Storage)?;
        Ok(rows.iter().filter_map(|(_, bytes)| Equivocation::decode(bytes).ok()).collect())
    }

    /// Judges the checkpoint that `peer` shows of its log, with the proof that came along (canonical bytes; for [`Refusal::ProofMissing`] ask
    /// for one between these sizes and come again). Remembers it before the cosignature is returned.
    ///
    /// # Errors
    /// [`WitnessError`]; a proof of two histories is kept and logged before it is returned.
    pub async fn observe(
        &self,
        peer: &AgentId,
        note: &[u8],
        proof: Option<&[u8]>,
    ) -> Result<Observed, WitnessError> {
        let shown = SignedCheckpoint::open_of(note, peer).map_err(WitnessError::Checkpoint)?.bare();
        let proof = proof.filter(|bytes| bytes.len() <= MAX_PROOF_LEN);
        let proof = proof.map(ConsistencyProof::decode).transpose().map_err(WitnessError::Proof)?;
        let mut turn = self.turn.lock().await;
        // Dropped on every way out.
        let _seen = Counted(&self.seen);
        if self.proof(peer)?.is_some() {
            return Err(WitnessError::Caught { log: *peer });
        }
        let held = self.held(peer)?;
        match observe(held.as_ref(), &shown, proof.as_ref()) {
            Ok(Observation::Same | Observation::Earlier) => {}
            Ok(Observation::Grown) => self.keep(&shown).await?,
            Ok(Observation::First) => {
                let known = self.known(&mut turn)?;
                if known >= WITNESSED_MAX {
                    return Err(WitnessError::Full);
                }
                self.keep(&shown).await?;
                *turn = Some(known + 1);
            }
            Err(refusal) => {
                self.refused(peer, &refusal).await?;
                return Err(WitnessError::Refused(refusal));
            }
        }
        let signature = shown.cosign(&self.identity, self.clock.now());
        Ok(Observed { size: shown.checkpoint().size, signature })
    }

    /// Takes a proof that somebody else found. Returns whether it was new; it is passed on then. Of logs that were never met only so many are
    /// kept.
    ///
    /// # Errors
    /// [`WitnessError::Storage`] when it cannot be kept. What does not hold is not kept.
    pub async fn told(&self, proof: &Equivocation) -> Result<bool, WitnessError> {
        let _seen = Counted(&self.seen);
        if self.is_known(proof)? {
            return Ok(false);
        }
        let Ok(Caught::TwoRoots { log, .. } | Caught::TwoEntries { log, .. }) = proof.verify()
        else {
            return Ok(false);
        };
        let _turn = self.turn.lock().await;
        if self.proof(&log)?.is_some() || (self.held(&log)?.is_none() && self.is_full()?) {
            return Ok(false);
        }
        self.convict(&log, proof).await?;
        Ok(true)
    }

    /// Takes the proofs that a peer passed on (canonical bytes). Returns how many were new. The first that does not hold ends it: who passes on
    /// what it did not verify is not worth another signature.
    pub(crate) async fn told_all(&self, proofs: &[minicbor::bytes::ByteVec]) -> usize {
        let mut new = 0;
        for bytes in proofs.iter().take(PASSED_ON_MAX) {
            let Ok(proof) = Equivocation::decode(bytes) else { break };
            match (self.is_known(&proof), self.told(&proof).await) {
                (Ok(true), Ok(_)) => {}
                (Ok(false), Ok(true)) => new += 1,
                (Ok(false), Ok(false)) if proof.verify().is_ok() => {}
                (Ok(_) | Err(_), Ok(_) | Err(_)) => break,
            }
        }
        new
    }

    fn is_known(&self, proof: &Equivocation) -> Result<bool, WitnessError> {
        let Some(log) = proof.claimed_log() else { return Ok(false) };
        Ok(self.proof(&log)?.is_some())
    }

    fn is_full(&self) -> Result<bool, WitnessError> {
        let kept = self.storage.read_all(Table::Equivocations, PROOFS_MAX);
        Ok(kept.map_err(WitnessError::Storage)?.len() >= PROOFS_MAX)
    }

    fn known(&self, turn: &mut Option<usize>) -> Result<usize, WitnessError> {
        if let Some(known) = turn {
            return Ok(*known);
        }
        let rows = self
            .storage
            .read_all(Table::Witnessed, WITNESSED_MAX)
            .map_err(WitnessError::Storage)?;
        Ok(*turn.insert(rows.len()))
    }

    async fn keep(&self, shown: &SignedCheckpoint) -> Result<(), WitnessError> {
        let key = shown.checkpoint().log.as_bytes().to_vec();
        let value = shown.note().to_string().into_bytes();
        let change = Change::Put { table: Table::Witnessed, key, value };
        self.storage.commit(vec![change]).await.map_err(WitnessError::Storage)
    }

    async fn refused(&self, peer: &AgentId, refusal: &Refusal) -> Result<(), WitnessError> {
        match refusal {
            Refusal::Equivocated(proof) => self.convict(peer, proof).await,
            Refusal::Inconsistent { old, new } => {
                warn!(log = %peer, old, new, "a peer cannot show that its audit log only grew");
                Ok(())
            }
            Refusal::ProofMissing { .. } | Refusal::OtherLog => Ok(()),
        }
    }

    async fn convict(&self, log: &AgentId, proof: &Equivocation) -> Result<(), WitnessError> {
        let bytes = proof.encode();
        let hash = Hash::of(&bytes);
        error!(%log, proof = %hash, "a peer's audit log has two histories; the proof is kept");
        let change =
            Change::Put { table: Table::Equivocations, key: log.as_bytes().to_vec(), value: bytes };
        self.storage.commit(vec![change]).await.map_err(WitnessError::Storage)?;
        self.accusations.learn(&proof.encode(), self.held(log)?.is_some());
        self.audit.record(Event::Equivocation { log: (*log).into(), proof: hash }).await;
        Ok(())
    }
}

struct Counted<'a>(&'a watch::Sender<u64>);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|seen| *seen += 1);
    }
}
