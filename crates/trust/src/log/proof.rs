//! An entry with everything that shows it is in a log: what `comity audit prove` writes.

use comity_core::canonical::{Version, decode_minicbor, encode_minicbor};
use comity_core::{AgentId, Canonical, DecodeError};

use super::checkpoint::{Checkpoint, CheckpointError, Cosignature, SignedCheckpoint};
use super::entry::{Entry, MAX_ENTRY_LEN};
use super::note::MAX_NOTE_LEN;
use super::tree::{InclusionProof, MAX_PROOF_LEN, TreeError, leaf_hash};

/// Longest encoded proof, in bytes.
pub const MAX_ENTRY_PROOF_LEN: usize = MAX_ENTRY_LEN + MAX_PROOF_LEN + MAX_NOTE_LEN + 64;

/// An entry, its inclusion and the checkpoint it is included under. Verifies alone, offline.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
pub struct EntryProof {
    /// Format version.
    #[n(0)]
    pub version: Version<1>,
    /// The entry as it was logged.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub entry: Vec<u8>,
    /// Where it is.
    #[n(2)]
    pub inclusion: InclusionProof,
    /// The checkpoint, with cosignatures, as a note.
    #[n(3)]
    pub checkpoint: String,
}

/// Why a proof does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryProofError {
    /// The checkpoint does not hold.
    #[error("the checkpoint of the proof is refused")]
    Checkpoint(#[source] CheckpointError),
    /// The proof is for another size than the checkpoint's.
    #[error("the proof is for a log of {proof} entries and its checkpoint is of {checkpoint}")]
    Size {
        /// Entries by the proof.
        proof: u64,
        /// Entries by the checkpoint.
        checkpoint: u64,
    },
    /// The entry is not in the log.
    #[error("the entry is not in the log where the proof says")]
    Tree(#[source] TreeError),
}

/// A proof that holds.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifiedEntry {
    /// Whose log.
    pub log: AgentId,
    /// Position of the entry, from 0.
    pub index: u64,
    /// The entry; an error for one that a newer program wrote, whose inclusion holds all the same.
    pub entry: Result<Entry, DecodeError>,
    /// The checkpoint it is included under.
    pub checkpoint: Checkpoint,
    /// Witnesses whose cosignature of the checkpoint holds.
    pub cosigners: Vec<Cosignature>,
}

impl Canonical for EntryProof {
    fn encode(&self) -> Vec<u8> {
        encode_minicbor(self)
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        super::limit(bytes, MAX_ENTRY_PROOF_LEN)?;
        decode_minicbor(bytes)
    }
}

impl EntryProof {
    /// Puts a proof together.
    #[must_use]
    pub fn new(entry: &Entry, inclusion: InclusionProof, checkpoint: &SignedCheckpoint) -> Self {
        Self::of_bytes(Canonical::encode(entry), inclusion, checkpoint)
    }

    /// Puts a proof together from an entry's bytes.
    #[must_use]
    pub fn of_bytes(
        entry: Vec<u8>,
        inclusion: InclusionProof,
        checkpoint: &SignedCheckpoint,
    ) -> Self {
        Self { version: Version, entry, inclusion, checkpoint: checkpoint.note().to_string() }
    }

    /// The canonical bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        Canonical::encode(self)
    }

    /// Reads a proof; it is not verified yet.
    ///
    /// # Errors
    /// [`DecodeError`] for other bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        Canonical::decode(bytes)
    }

    /// Verifies the proof on its own.
    ///
    /// # Errors
    /// [`EntryProofError`] names what does not hold.
    pub fn verify(&self) -> Result<VerifiedEntry, EntryProofError> {
        let signed = SignedCheckpoint::open(self.checkpoint.as_bytes())
            .map_err(EntryProofError::Checkpoint)?;
        let checkpoint = *signed.checkpoint();
        if self.inclusion.size != checkpoint.size {
            return Err(EntryProofError::Size {
                proof: self.inclusion.size,
                checkpoint: checkpoint.size,
            });
        }
        self.inclusion
            .verify(&leaf_hash(&self.entry), &checkpoint.root)
            .map_err(EntryProofError::Tree)?;
        Ok(VerifiedEntry {
            log: checkpoint.log,
            index: self.inclusion.index,
            entry: Entry::decode(&self.entry),
            checkpoint,
            cosigners: signed.cosigners(),
        })
    }
}
