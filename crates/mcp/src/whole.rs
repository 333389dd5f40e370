//! A whole MCP server behind one peer, every feature in both directions.
//!
//! The streamable HTTP transport of MCP is requests with streamed answers, and so are calls of this network. One HTTP
//! request becomes one call, its response the streamed answer: first the head, then the body as it comes, neither parsed
//! on the way. Whatever travels inside, of either era, arrives byte for byte, each answer with the producer's receipt.
//!
//! * The side that has the server: [`Relay`] in front of an HTTP server or, through [`stdio`], of a program.
//! * The side that uses it: [`connect`].
//!
//! What is not passed on: headers outside [`REQUEST_HEADERS`] and [`RESPONSE_HEADERS`] (with all that begin with `mcp-`),
//! so neither this machine's tokens nor its host names reach the peer.

pub mod connect;
pub mod pipe;
mod relay;
pub mod stdio;
mod wire;

pub use self::relay::{Http, Relay, RelayError};
pub use self::wire::{
    BODY_BYTES_MAX, Exchange, HEADERS_MAX, Head, Method, Piece, REQUEST_HEADERS, RESPONSE_HEADERS,
};

pub(crate) use self::connect::headers_of;
pub(crate) use self::pipe::{Events, RESUMES_MAX, resuming};
pub(crate) use self::relay::{Answered, items};
