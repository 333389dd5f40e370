//! Integration tests of the trust crate, one module per behaviour.

mod common;
mod grant;
mod grant_random;
mod log;
mod log_attacks;
mod revoke;
