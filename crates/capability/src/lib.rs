//! Capability declarations of the comity network: taxonomy, records, query language, matching and ranking.
//!
//! An agent says what it can do in a signed [`record::Record`]; custodians index the much smaller
//! [`record::Digest`] of each capability under its [`keys::GroupKey`]s; an asker writes a
//! [`query`], plans the keys to ask, and re-evaluates every digest it gets with [`matching`] and
//! [`rank`] itself, because custodians are trusted for completeness only, never for content or order.
//!
//! ```
//! use comity_capability::{attribute::Value, profile, taxonomy::ClassId};
//! use serde_json::json;
//!
//! // The same normaliser runs when a capability is published and when it is asked for.
//! let published = profile::normalise("fin:pair", &json!(["EURUSD", "usd-jpy"]))?;
//! let asked = profile::normalise("pair", &json!("eur/usd"))?;
//! assert!(published.includes(&asked));
//!
//! // Coverage is exact: a year is the whole year, an end date is the whole day.
//! let covered = profile::normalise("time", &json!("2019-01-01/2024-12-31"))?;
//! let wanted = profile::normalise("time", &json!("2021..2024"))?;
//! assert!(covered.interval().unwrap().covers(&wanted.interval().unwrap()));
//!
//! // Classes come from OASF 1.1.1 and a few extension classes; unknown labels stay as they are.
//! let fx = comity_capability::taxonomy::resolve("fx rates").unwrap();
//! let finance: ClassId = "oasf1.1:domain/2".parse()?;
//! assert!(comity_capability::taxonomy::is_under(&fx, &finance));
//! # let _: Value = asked;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The crate is pure: no clock, socket, thread or random number generator. Times are arguments.
//!
//! # Modules
//!
//! | module | what it owns |
//! |---|---|
//! | [`taxonomy`] | class identifiers, the OASF tree compiled in, our extension classes |
//! | [`attribute`] | typed attribute values, exact decimals, intervals, durations, areas |
//! | [`profile`] | attribute keys: type, unit, aliases, normaliser |
//! | [`record`] | record, digest, beat, tombstone, peer record: limits, wire form, validity |
//! | [`keys`] | the group keys a capability is stored under and a query asks |
//! | [`query`] | the query language: text form, JSON form, wire form |
//! | [`matching`] | three-valued evaluation of a query on a digest or capability |
//! | [`rank`] | local ranking of candidates |
//! | [`zone`] | what the members of a shard have in common, to leave out shards that cannot match |

pub mod attribute;
pub mod keys;
pub mod matching;
pub mod profile;
pub mod query;
pub mod rank;
pub mod record;
pub mod rows;
pub mod taxonomy;
mod text;
mod wire;
pub mod zone;
