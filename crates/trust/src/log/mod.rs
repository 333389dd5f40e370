//! The audit log: an append-only Merkle tree of what happened, with proofs that outlive the entries.
//!
//! Each agent keeps one log. Its [`Entry`]s are the leaves of an RFC 9162 [`tree`]; a [`SignedCheckpoint`] is the agent's signature over
//! the tree's size and root, as a C2SP signed note. From then on nothing in front of it can change unnoticed:
//!
//! * an [`InclusionProof`] shows that an entry is in the tree, to anybody, offline ([`EntryProof`] carries all that is needed);
//! * a [`ConsistencyProof`] shows that a later tree begins with an earlier one;
//! * every peer that is shown a checkpoint [`observe`](witness::observe)s it against the last one it was shown, and cosigns;
//! * who signs two histories is caught by whoever sees both, and an [`Equivocation`] proves it to everybody.
//!
//! What the log does not do: force an agent to log. It makes forgetting and rewriting visible, and both ends of a call log it.
//!
//! Source: TRUST.md section 2.6; RFC 9162; C2SP tlog-tiles, tlog-checkpoint, signed-note, tlog-cosignature; RFC 9942.
//!
//! ```
//! use comity_core::{Canonical, Identity, Time};
//! use comity_trust::log::{Checkpoint, Entry, EntryProof, Event, InclusionProof, SignedCheckpoint, tree};
//!
//! // A log of three entries.
//! let agent = Identity::from_secret_bytes(&[7; 32]);
//! let mut nodes = Vec::new();
//! let entries: Vec<Entry> = (0..3)
//!     .map(|second| Entry::new(Time::from_secs(second), Event::Stopped {}))
//!     .collect();
//! for (size, entry) in (0..).zip(&entries) {
//!     let hashes = tree::append(size, &entry.leaf_hash(), &nodes)?;
//!     nodes.extend(hashes);
//! }
//! let checkpoint = Checkpoint { log: agent.id(), size: 3, root: tree::root(3, &nodes)? };
//! let signed = SignedCheckpoint::sign(checkpoint, &agent)?;
//!
//! // Anybody can check one of them, with nothing else at hand.
//! let proof = EntryProof::new(&entries[1], InclusionProof::make(1, 3, &nodes)?, &signed);
//! let sent = proof.encode();
//! let verified = EntryProof::decode(&sent)?.verify()?;
//! assert_eq!((verified.log, verified.index), (agent.id(), 1));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod checkpoint;
mod cose;
mod entry;
mod equivocation;
mod note;
mod proof;
pub mod tile;
pub mod tree;
pub mod witness;

use comity_core::DecodeError;

pub use checkpoint::{
    Checkpoint, CheckpointError, Cosignature, MAX_COSIGNATURES, ORIGIN_PREFIX, SignedCheckpoint,
    WITNESS_PREFIX,
};
pub use cose::{CoseError, CoseReceipt, MAX_COSE_RECEIPT_LEN};
pub use entry::{Entry, Event, MAX_ENTRY_LEN, short_text};
pub use equivocation::{Caught, Equivocation, EquivocationError, MAX_EQUIVOCATION_LEN};
pub use note::{MAX_NOTE_LEN, MAX_NOTE_SIGNATURES, Note, NoteError, NoteSignature};
pub use proof::{EntryProof, EntryProofError, MAX_ENTRY_PROOF_LEN, VerifiedEntry};
pub use tree::{ConsistencyProof, InclusionProof, MAX_PROOF_LEN, TreeError};

/// Refuses what is longer than its kind ever is, before anything of it is read.
fn limit(bytes: &[u8], max: usize) -> Result<(), DecodeError> {
    if bytes.len() <= max { Ok(()) } else { Err(DecodeError::TooLong { length: bytes.len(), max }) }
}
