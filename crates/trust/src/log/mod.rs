//! The audit log: an append-only Merkle tree of what happened, with proofs that outlive the entries.
