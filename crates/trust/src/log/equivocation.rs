//! Proof that a log has two histories: portable, small, and convincing to anybody who has the log's name.
//!
//! Two forms. *Two roots*: two checkpoints of one size with different roots (T23). *Two entries*: at one position two different entries,
//! each included under a checkpoint that the log signed, of whatever sizes (T24). Everything is signed by the log itself, so nobody
//! can forge one; whoever asks for it decides what it means.

use comity_core::canonical::{Version, decode_minicbor, encode_minicbor};
use comity_core::{AgentId, Canonical, DecodeError, Sha256Digest};

use super::checkpoint::{CheckpointError, ORIGIN_PREFIX, SignedCheckpoint};
use super::tree::{InclusionProof, MAX_PROOF_LEN, TreeError};

/// Longest encoded proof, in bytes.
pub const MAX_EQUIVOCATION_LEN: usize = 2 * MAX_PROOF_LEN + 2 * 512 + 128;

/// A proof that the log of one agent has two histories. Made by [`between`](Self::between) and [`rewritten`](Self::rewritten), or decoded;
/// [`verify`](Self::verify) says whether it holds.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
pub struct Equivocation {
    #[n(0)]
    version: Version<1>,
    /// The two checkpoints as notes with the log's signature alone, ordered by text.
    #[n(1)]
    first: String,
    #[n(2)]
    second: String,
    /// For two entries: where they are.
    #[n(3)]
    entries: Option<TwoEntries>,
}

#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
struct TwoEntries {
    #[n(0)]
    first_leaf: Sha256Digest,
    #[n(1)]
    first: InclusionProof,
    #[n(2)]
    second_leaf: Sha256Digest,
    #[n(3)]
    second: InclusionProof,
}

/// What a proof that holds shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caught {
    /// The log signed two roots of one size.
    TwoRoots {
        /// Whose log.
        log: AgentId,
        /// The size.
        size: u64,
    },
    /// The log signed two entries at one position.
    TwoEntries {
        /// Whose log.
        log: AgentId,
        /// The position.
        index: u64,
    },
}

/// Why a proof does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EquivocationError {
    /// The bytes are no proof.
    #[error("not a proof of equivocation")]
    Decode(#[source] DecodeError),
    /// One of the checkpoints does not hold.
    #[error("a checkpoint of the proof is refused")]
    Checkpoint(#[source] CheckpointError),
    /// One of the entries is not in its log.
    #[error("an entry of the proof is not where it says")]
    Entry(#[source] TreeError),
    /// Everything holds and nothing contradicts.
    #[error("the proof contradicts nothing: {what}")]
    NoContradiction {
        /// Why not.
        what: &'static str,
    },
}

impl Canonical for Equivocation {
    fn encode(&self) -> Vec<u8> {
        encode_minicbor(self)
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        super::limit(bytes, MAX_EQUIVOCATION_LEN)?;
        decode_minicbor(bytes)
    }
}

impl Equivocation {
    /// The proof that two checkpoints of one log and size have different roots; none if they do not.
    #[must_use]
    pub fn between(a: &SignedCheckpoint, b: &SignedCheckpoint) -> Option<Self> {
        let (one, other) = (a.checkpoint(), b.checkpoint());
        if one.log != other.log || one.size != other.size || one.root == other.root {
            return None;
        }
        let (first, second) = (a.bare().note().to_string(), b.bare().note().to_string());
        let (first, second) = if first < second { (first, second) } else { (second, first) };
        Some(Self { version: Version, first, second, entries: None })
    }

    /// The proof that one position held two entries: each given as checkpoint, leaf hash and inclusion.
    ///
    /// # Errors
    /// [`EquivocationError`] when something does not hold or nothing contradicts.
    pub fn rewritten(
        a: (&SignedCheckpoint, Sha256Digest, InclusionProof),
        b: (&SignedCheckpoint, Sha256Digest, InclusionProof),
    ) -> Result<Self, EquivocationError> {
        let note = |checkpoint: &SignedCheckpoint| checkpoint.bare().note().to_string();
        let (a, b) = ((note(a.0), a.1, a.2), (note(b.0), b.1, b.2));
        let (a, b) = if a.0 < b.0 { (a, b) } else { (b, a) };
        let entries = TwoEntries { first_leaf: a.1, first: a.2, second_leaf: b.1, second: b.2 };
        let proof = Self { version: Version, first: a.0, second: b.0, entries: Some(entries) };
        proof.verify()?;
        Ok(proof)
    }

    /// Entries of the first checkpoint, for messages; not verified.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.first.lines().nth(1).and_then(|size| size.parse().ok()).unwrap_or(0)
    }

    /// Whose log it is said to accuse, before anything is verified: to leave alone what is known already.
    #[must_use]
    pub fn claimed_log(&self) -> Option<AgentId> {
        self.first.lines().next()?.strip_prefix(ORIGIN_PREFIX)?.parse().ok()
    }

    /// Reads and verifies a proof. Costs a key intake and two signatures at most.
    ///
    /// # Errors
    /// [`EquivocationError`] names what does not hold.
    pub fn open(bytes: &[u8]) -> Result<(Self, Caught), EquivocationError> {
        let proof = Self::decode(bytes).map_err(EquivocationError::Decode)?;
        let caught = proof.verify()?;
        Ok((proof, caught))
    }

    /// Verifies the proof on its own.
    ///
    /// # Errors
    /// [`EquivocationError`] names what does not hold.
    pub fn verify(&self) -> Result<Caught, EquivocationError> {
        let nothing = |what| EquivocationError::NoContradiction { what };
        if self.first >= self.second {
            return Err(nothing("its checkpoints are the same, or not in order"));
        }
        let a =
            SignedCheckpoint::open(self.first.as_bytes()).map_err(EquivocationError::Checkpoint)?;
        let log = a.checkpoint().log;
        let b = SignedCheckpoint::open_of(self.second.as_bytes(), &log)
            .map_err(EquivocationError::Checkpoint)?;
        // Spelled otherwise, one contradiction would have many proofs, each with a hash of its own.
        if a.bare().note().to_string() != self.first || b.bare().note().to_string() != self.second {
            return Err(nothing("its checkpoints carry more than the log's signature"));
        }
        let (a, b) = (a.checkpoint(), b.checkpoint());
        let Some(entries) = &self.entries else {
            if a.size != b.size || a.root == b.root {
                return Err(nothing("checkpoints of different sizes may have different roots"));
            }
            return Ok(Caught::TwoRoots { log, size: a.size });
        };
        let TwoEntries { first_leaf, first, second_leaf, second } = entries;
        if first.index != second.index || first_leaf == second_leaf {
            return Err(nothing("different positions may hold different entries"));
        }
        if first.size != a.size || second.size != b.size {
            return Err(nothing("its inclusions are of other checkpoints"));
        }
        first.verify(first_leaf, &a.root).map_err(EquivocationError::Entry)?;
        second.verify(second_leaf, &b.root).map_err(EquivocationError::Entry)?;
        Ok(Caught::TwoEntries { log, index: first.index })
    }
}
