//! Behaviour of the overlay at its public interface.

#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test that meets what it does not expect has to panic"
)]

mod custody;
mod determinism;
mod directory;
mod disaster;
mod eclipse;
mod fake;
mod lateness;
mod limits;
mod net;
mod network;
mod reconcile;
mod returns;
mod small;
mod splits;
mod table;
mod veiled;
mod wire;
