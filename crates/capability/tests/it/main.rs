//! Behaviour of comity-capability at its public interface.

#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test, in helpers too")]

mod attribute;
mod common;
mod interval;
mod keys;
mod matching;
mod matching_fixture;
mod plausible;
mod profile;
mod query;
mod rank;
mod record;
mod shard;
mod taxonomy;
mod veiled;
mod zone;
