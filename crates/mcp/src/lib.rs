//! MCP and A2A in front of a comity node, so that agents join without a line of code.
//!
//! * [`server`]: the network as an MCP server: `discover`, `describe`, `call`, `ask`, `publish`, `status`, and pinned
//!   capabilities as tools of their own. Over standard input and output, or streamable HTTP on loopback.
//! * [`pins`]: which capabilities are tools of their own.
//! * [`whole`]: a whole MCP server behind one peer, every feature both ways.
//! * [`host`]: MCP servers as capabilities: what a node opens, over [`upstream`].
//! * [`a2a`]: A2A agents for the network, and agents of the network for A2A clients, over the same relay.
//! * [`endpoint`]: any of these over HTTP, inside the node or beside it.
//! * [`http`]: what guards an HTTP endpoint: token, host and origin.
//! * [`install`]: the entry in a client's configuration.
//!
//! Whatever a peer says is data here: its length is capped, characters that steer terminals or hide text are removed
//! ([`text`]), it is labelled with who said it, and it never becomes part of the server's own instructions.

pub mod a2a;
pub mod endpoint;
pub mod host;
pub mod http;
pub mod install;
mod lines;
pub mod pins;
pub mod program;
pub mod protocol;
pub mod server;
mod session;
pub mod text;
pub mod upstream;
pub mod whole;
