//! Integration tests of the node library, a module for each behaviour.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up its world fails by panicking")]

mod audit;
mod node_embed;
mod rpc;
mod rpc_hostile;
mod rpc_support;
mod transport;
