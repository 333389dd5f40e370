//! Integration tests of the results crate, one module per behaviour.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up its case fails")]

mod accept;
mod adaptive;
mod ask;
mod bulk;
mod common;
mod proofs;
mod quorum;
mod repute;
mod sharing;
mod store;
mod subsume;
mod transfer;
mod vectors;
