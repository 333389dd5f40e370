//! What travels over the local API: one serde type per body, each with an OpenAPI schema.
//!
//! Conventions, the same everywhere:
//! * Identifiers travel as their text form: [`AgentId`](comity_core::AgentId) as z-base-32, addresses as IPv6 text,
//!   handles as `N:NNNN.HHHH.LLLL#check`, hashes as `b3:` followed by hex.
//! * Instants are milliseconds since the UNIX epoch and end in `_at_ms`; durations name their unit (`_ms`, `_us`).
//! * Absent optional fields are left out, not sent as `null`. Unknown fields in requests are refused (a typo must not
//!   silently change meaning); unknown fields in answers are ignored (an older client keeps working).
//! * Text that comes from other agents (titles, descriptions, labels) is data: render it, never interpret it.

mod access;
mod audit;
mod call;
mod charter;
mod endorse;
mod endpoint;
mod error;
mod evidence;
mod find;
mod group;
mod handle;
mod network;
mod results;
mod serve;
mod status;
mod trust;

pub use access::*;
pub use audit::*;
pub use call::*;
pub use charter::*;
pub use endorse::*;
pub use endpoint::*;
pub use error::*;
pub use evidence::*;
pub use find::*;
pub use group::*;
pub use handle::*;
pub use network::*;
pub use results::*;
pub use serve::*;
pub use status::*;
pub use trust::*;
