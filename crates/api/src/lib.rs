//! The local API of a comity node: what the command line, SDKs and a dashboard use to talk to it.
//!
//! A node listens on the Unix socket `HOME/api.sock` (mode 0600) and speaks HTTP/1.1 with JSON bodies; streamed answers
//! are server-sent events. [`types`] defines every body, [`openapi()`] the document generated from them (committed as
//! `openapi.json`), [`Client`] is the typed client.
//!
//! ```no_run
//! # async fn example() -> Result<(), comity_api::ClientError> {
//! use comity_api::{Client, types::FindRequest};
//!
//! let node = Client::connect("/home/me/.local/share/comity/api.sock").await?;
//! let found = node.find(&FindRequest::new("where pair = EUR/USD and resolution <= 1d")).await?;
//! for one in &found.matches {
//!     println!("{} {}", one.target, one.title);
//! }
//! # Ok(()) }
//! ```
//!
//! Streams: [`Client::call_stream`] returns [`CallStream`]; dropping it closes the connection, which cancels the call
//! at the far end.

mod client;
mod convert;
mod inside;
mod invitation;
mod openapi;
mod proof;
mod sse;
mod ticket;
pub mod types;

pub use client::{CallStream, Client, ClientError, EndpointStream};
pub use inside::{Endpoints, Inside, OpenEndpoint};
pub use invitation::{
    Invitation, InvitationError, MAX_GROUP_NAME, MAX_INVITATION_CHARS, check_group_name,
};
pub use openapi::openapi;
pub use proof::{ProofError, ProofFile, ProofFormat};
pub use sse::{SseError, SseEvent, SseReader};
pub use ticket::{
    JoinAddress, JoinAddressError, MAX_TICKET_ADDRS, MAX_TICKET_CHARS, Ticket, TicketError,
};

/// Name of the socket inside a node's home directory.
pub const SOCKET_NAME: &str = "api.sock";

/// Largest request body a node accepts: 4 MiB.
pub const MAX_REQUEST_BYTES: usize = 4 << 20;

/// Largest answer that is not a stream: 64 MiB. A larger answer of a call has to be streamed.
pub const MAX_RESPONSE_BYTES: usize = 64 << 20;

/// Largest single server-sent event, that is one item of a streamed answer as JSON: 16 MiB.
pub const MAX_EVENT_BYTES: usize = 16 << 20;
