//! Behaviour of specialists at the public interface, a file a behaviour.
#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    clippy::cast_possible_truncation,
    reason = "a test that meets what it did not expect fails, and that is the point"
)]

mod common;
mod data;
mod exec;
mod function;
mod http;
mod manifest;
mod memory;
mod schema;
mod table_calls;
mod table_files;
mod table_model;
mod table_proofs;
