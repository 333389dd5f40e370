//! Being a witness: what a peer's checkpoint means to one who has seen an earlier one.
//!
//! A witness keeps, for each log, the largest checkpoint it found consistent with all before. It cosigns only what continues that one.
//! Two trees shown to two witnesses cannot both be continued before both, and the first to see both holds an [`Equivocation`].

use super::checkpoint::SignedCheckpoint;
use super::equivocation::Equivocation;
use super::tree::ConsistencyProof;

/// What a checkpoint that is in order adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Observation {
    /// The first of this log: from now on it is held to it.
    First,
    /// The one held already.
    Same,
    /// It continues the one held and takes its place.
    Grown,
    /// It is an earlier state of the one held, which stays.
    Earlier,
}

/// Why a checkpoint is not accepted, and not cosigned.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The checkpoints are of different logs: a mistake of the caller's.
    #[error("checkpoints of two logs cannot be compared")]
    OtherLog,
    /// Nothing shows that the two belong to one history. Ask for a proof between these sizes.
    #[error(
        "no proof came that the log's first {old} entries are unchanged at {new}: ask it for one"
    )]
    ProofMissing {
        /// The smaller size.
        old: u64,
        /// The larger size.
        new: u64,
    },
    /// The proof between the two does not hold: entries were removed or rewritten, or the proof is of something else (T24).
    #[error(
        "the log cannot show that its first {old} entries are unchanged at {new}: entries were removed or rewritten"
    )]
    Inconsistent {
        /// The smaller size.
        old: u64,
        /// The larger size.
        new: u64,
    },
    /// The log signed two roots of one size (T23). The proof convinces anybody.
    #[error("the log signed two histories of {} entries", .0.size())]
    Equivocated(Box<Equivocation>),
}

/// Judges `presented` by the checkpoint `held` of the same log and by the proof that came along.
///
/// # Errors
/// [`Refusal`]; after any but [`Refusal::ProofMissing`] the log is not to be believed.
pub fn observe(
    held: Option<&SignedCheckpoint>,
    presented: &SignedCheckpoint,
    proof: Option<&ConsistencyProof>,
) -> Result<Observation, Refusal> {
    let Some(held) = held else { return Ok(Observation::First) };
    let (known, shown) = (held.checkpoint(), presented.checkpoint());
    if known.log != shown.log {
        return Err(Refusal::OtherLog);
    }
    if known.size == shown.size {
        return match Equivocation::between(held, presented) {
            None => Ok(Observation::Same),
            Some(proof) => Err(Refusal::Equivocated(Box::new(proof))),
        };
    }
    let (older, newer) = if known.size < shown.size { (known, shown) } else { (shown, known) };
    let (old, new) = (older.size, newer.size);
    // Everything continues the log without entries, and no proof of it says more than the roots.
    let nothing;
    let proof = match proof {
        Some(proof) if proof.old == old && proof.new == new => proof,
        Some(_) | None if old == 0 => {
            nothing = ConsistencyProof {
                version: comity_core::canonical::Version,
                old,
                new,
                path: Vec::new(),
            };
            &nothing
        }
        Some(_) | None => return Err(Refusal::ProofMissing { old, new }),
    };
    proof.verify(&older.root, &newer.root).map_err(|_| Refusal::Inconsistent { old, new })?;
    Ok(if known.size < shown.size { Observation::Grown } else { Observation::Earlier })
}
