//! The binary as a shell sees it: options, exit codes, generated files. Networks are exercised elsewhere.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up its world fails by panicking")]

mod cli;
mod identity;
mod node;
mod support;
mod verify;
