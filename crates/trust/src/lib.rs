//! Who may claim, who may call, and who can prove what.
//!
//! A key is the agent; everything an agent says is a signed envelope under that key with a typed context; everything it may do is a chain of
//! grants that ends in the key its session proved; everything that happened is a leaf in its own Merkle log, and every peer it meets is a witness.
//!
//! The crate is pure: time, randomness and files are the caller's.

pub mod log;
