//! Specialists: what answers calls.
//!
//! A specialist is anything that turns a JSON request into a JSON answer: a table file ([`table`]), a program kept
//! running ([`exec`]), a local web service ([`http`]) or a closure of the embedding program ([`function`]). All sit behind
//! one trait, [`Specialist`], take their limits from named constants, stop when the call is cancelled or its time is
//! over, and fail with a named [`SpecialistError`] that says what to do.
//!
//! What a specialist offers is declared in a [`manifest`]; requests and answers are held to the declared JSON Schemas by
//! [`schema`].

mod call;
mod error;
pub mod exec;
pub mod function;
pub mod http;
pub mod manifest;
pub mod mcp;
pub mod schema;
pub mod table;

pub use call::{Answer, Ends, Invocation, Specialist};
pub use error::{MAX_MESSAGE_BYTES, Retry, SpecialistError};
