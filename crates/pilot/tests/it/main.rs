//! The Pilot Protocol at this crate's public interface: golden vectors, streams over bad links, nodes among friends and attackers.

#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    clippy::cast_possible_truncation,
    reason = "a test that meets what it does not expect has to panic"
)]

mod net;
mod nodes;
mod rendezvous;
mod streams;
mod trust;
mod vectors;
mod weaknesses;
