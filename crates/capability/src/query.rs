//! The query language: what a searcher asks of a capability.
//!
//! One abstract form, [`Query`], with three spellings:
//! * **text**, for people: [`Query::parse_text`] and [`Display`](std::fmt::Display);
//! * **JSON**, for programs: [`Query::from_json`] and [`Query::to_json`], a superset of the Agentic Resource Discovery
//!   `query {text, filter}`, whose bare arrays mean "any of these";
//! * **wire**, for custodians: deterministic CBOR of at most [`WIRE_BYTES_MAX`] bytes through [`comity_core::canonical::Canonical`].
//!
//! ```
//! use comity_capability::query::Query;
//!
//! let query = Query::parse_text(
//!     r#"find "structured historical FX data" under finance where pair = EUR/USD and time covers 2021..2024
//!        and resolution <= 1d prefer price < 0.001 USD, availability >= 99% top 5 probe 3"#,
//! )?;
//! assert_eq!(query.k(), 5);
//! assert_eq!(query.conditions().iter().filter(|c| c.is_soft()).count(), 2);
//! assert_eq!(Query::parse_text(&query.to_string())?, query);
//! # Ok::<(), comity_capability::query::QueryError>(())
//! ```
//!
//! Whatever the spelling, values go through the normalisers of [`crate::profile`], the ones that publishers' values went through, and
//! conditions are put in one order without repetitions: equal questions are equal values, equal bytes and equal hashes.

mod ast;
mod build;
mod display;
mod error;
mod hints;
mod inputs;
mod json;
mod lexer;
mod text;
mod wire;

pub(crate) use build::{CLASS, INTERFACE, TAGS, digest_text};

pub use ast::{Budget, Condition, Draft, Near, Query, RankProfile, Test};
pub use error::QueryError;
pub use inputs::{ClassChoice, EntityChoice, PlanInputs};

/// Most conditions of one query, exclusions included.
pub const CONDITIONS_MAX: usize = 32;
/// Most values of one condition.
pub const VALUES_MAX: usize = 64;
/// Longest free text, in bytes.
pub const TEXT_BYTES_MAX: usize = 512;
/// Longest attribute key, in bytes.
pub const KEY_BYTES_MAX: usize = crate::profile::MAX_KEY;
/// Longest capability name, in bytes.
pub const NAME_BYTES_MAX: usize = 64;
/// Most results a query can ask for.
pub const K_MAX: u32 = 100;
/// Most results a query can have probed before they are answered.
pub const PROBE_MAX: u32 = 20;
/// Longest time budget, in milliseconds.
pub const BUDGET_MS_MAX: u32 = 600_000;
/// Largest traffic budget, in kilobytes of 1,000 bytes.
pub const BUDGET_KB_MAX: u32 = 1_000_000;
/// Longest wire form, in bytes.
pub const WIRE_BYTES_MAX: usize = 4096;
/// Longest text form that is read, in bytes. The text form of a query of [`WIRE_BYTES_MAX`] bytes is shorter.
pub const TEXT_FORM_BYTES_MAX: usize = 32 * 1024;
/// Results asked for when the query does not say.
pub const K_DEFAULT: u32 = 10;
