//! Behaviour of `comity-core` at its public interface, against vectors of independent implementations and attacks.

#![allow(clippy::unwrap_used, reason = "helpers of tests are not seen as tests by the lint")]

mod canonical;
mod envelope;
mod json;
mod keys;
mod place;
mod receipt;
mod text;
mod time;
mod vectors;
