//! Embed a comity node: an agent that is found by what it can do and called directly, encrypted and verified.
//!
//! # A tour
//!
//! Two nodes on one machine. The first offers a capability; the second, which knows nothing but the first one's ticket, finds it by
//! what it does and calls it.
//!
//! ```
//! use std::sync::Arc;
//!
//! use comity::specialist::{Answer, function::Function};
//! use comity::{Capability, Node, Visibility};
//! use serde_json::json;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let server = Node::builder().spawn().await?;
//! let mut capability = Capability::new("word-count")?;
//! capability.title = "Counts words".to_owned();
//! capability.visibility = Visibility::Public;
//! let count = Function::new(|call| async move {
//!     let text = call.request["text"].as_str().unwrap_or_default().to_owned();
//!     Ok(Answer::One(json!({ "words": text.split_whitespace().count() })))
//! });
//! server.serve(capability, Arc::new(count)).await?;
//!
//! let caller = Node::builder().join(server.ticket()).spawn().await?;
//! let found = caller.find("counts words").await?;
//! assert_eq!(found.matches[0].agent.agent, server.id());
//!
//! let answer = caller.call("word-count", json!({ "text": "peers, not terminals" })).await?;
//! assert_eq!(answer.value()["words"], 3);
//! assert_eq!(answer.agent, server.id()); // signed by it, and verified before it got here
//! # caller.shutdown().await;
//! # server.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! # How it is built
//!
//! [`Node`] is the handle. Below it, [`transport`] owns the QUIC endpoint and [`rpc`] makes and answers calls; a thread of its own
//! drives the pure overlay of `comity-overlay` and keeps custody on disk. [`daemon`] is a node with a home directory and the local
//! API of [`server`], which is all that the `comity` command talks to.
//!
//! Nothing is contacted but addresses that the caller, or peers reached through them, name.

pub mod access;
pub mod attest;
pub mod audit;
mod backend;
mod builder;
mod calls;
mod clock;
pub mod daemon;
mod directory;
mod error;
mod find;
mod groups;
mod handler;
mod handles;
pub mod home;
pub mod key_file;
pub mod lineage;
mod node;
mod publisher;
mod records;
mod registry;
mod resolve;
mod results;
pub mod rpc;
mod runtime;
mod search;
mod serve;
pub mod server;
mod signals;
mod storage;
pub mod transport;
mod witnessing;

pub use builder::{Builder, overlay_config};
pub use calls::CallAnswer;
pub use directory::{Counters, Directory, Traffic};
pub use error::{JoinError, SpawnError, describe};
pub use groups::GroupError;
pub use node::{Node, NodeInfo};
pub use publisher::{PublishError, Published};
pub use runtime::NetworkRuntime;
pub use storage::StorageError;

pub use comity_api as api;
pub use comity_api::{JoinAddress, Ticket};
pub use comity_capability::attribute::Period;
pub use comity_capability::record::{Capability, Determinism, Reuse, Scope, Visibility};
pub use comity_core as core;
pub use comity_core::{AgentId, Identity};
pub use comity_overlay as overlay;
pub use comity_specialist as specialist;
