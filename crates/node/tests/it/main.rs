//! Integration tests of the node library, a module for each behaviour.

mod node_embed;
mod rpc;
mod rpc_hostile;
mod rpc_support;
mod transport;
