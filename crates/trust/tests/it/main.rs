//! Integration tests of the trust crate, one module per behaviour.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up its case fails")]

mod access;
mod biscuit;
mod bond;
mod cddl;
mod claims;
mod common;
mod evidence;
mod golden;
mod grant;
mod grant_biscuit;
mod grant_random;
mod log;
mod log_attacks;
mod policy;
mod revoke;
mod succession;
