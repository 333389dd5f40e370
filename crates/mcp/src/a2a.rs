//! A2A: agents that speak it join the network, and clients that speak it find the network's agents.
//!
//! The HTTP exchanges of A2A travel as those of a whole MCP server do ([`crate::whole`]): heads and bodies as they come,
//! tasks stay at the agent, task ids mean nothing on the way. Two things are not left as they are:
//!
//! * The **card** ([`card`]). Its URLs name places at the agent's machine; on the way they are numbers, and at the client's
//!   machine they are URLs of the local endpoint, which signs the card anew.
//! * The **version**. A client of A2A 0.3 reaches an agent of 1.0 and the other way round: [`shim`] translates where the
//!   agent itself does not speak what the client speaks, for JSON-RPC.
//!
//! * The side that has the agent: [`agent`].
//! * The side that uses it: [`endpoint`], which is a catalog of what there is too.

pub mod agent;
pub mod card;
mod catalog;
pub mod endpoint;
mod kept;
mod lasting;
mod push;
pub mod shim;
mod sign;

pub use self::sign::KEY_FILE;

/// Tag of a capability that is a whole A2A agent.
pub const AGENT_TAG: &str = "a2a-agent";
/// Tag of a capability that is a skill of one.
pub const SKILL_TAG: &str = "a2a";
/// Names the extension of a card by which the bridge tells who is behind it.
pub const EXTENSION: &str = "urn:comity:a2a:1";
