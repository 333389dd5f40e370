//! The local API as its users see it: bodies, errors, tickets, streams, the committed document.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up its world fails by panicking")]

mod client;
mod errors;
mod openapi;
mod proof;
mod sse;
mod ticket;
mod types;
