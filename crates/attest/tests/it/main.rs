//! Evidence of outsiders: published samples hold, and nothing else does.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up its world fails by panicking")]

mod directory;
mod quotes;
mod random;
mod sigstore;
mod support;
