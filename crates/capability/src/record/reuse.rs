//! What may be done with an answer once it was given: the part of a declaration that the result store, the result index and quorums go by.
//!
//! How long an answer may be reused ([`Capability::valid_for`](super::Capability::valid_for)) and the version of the data behind it
//! ([`Capability::data_version`](super::Capability::data_version)) are older fields; without this one, answers stay with who asked.

use std::collections::{BTreeMap, BTreeSet};

use comity_core::canonical::sorted_map;
use serde_json::{Value as Json, json};

use crate::text::{self, TextError};

/// Most fields with a tolerance of their own.
pub const MAX_TOLERANCES: usize = 16;
/// Most data sources.
pub const MAX_SOURCES: usize = 8;
/// Longest name of a field or source, in bytes.
pub const MAX_REUSE_NAME: usize = 64;
/// The field name whose tolerance holds for every number without one of its own.
pub const ANY_FIELD: &str = "*";

/// Among whom an answer may be shared.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, minicbor::Encode, minicbor::Decode,
)]
#[cbor(index_only)]
pub enum Scope {
    /// Nobody but who asked.
    #[default]
    #[n(0)]
    Asker,
    /// Those who may call the capability themselves: holders pass it on to whom the producer named.
    #[n(1)]
    Holders,
    /// The members of the private group it is served to; found by keyed names only.
    #[n(2)]
    Group,
    /// Everybody: the request is public too, and holders may announce it.
    #[n(3)]
    Public,
}

impl Scope {
    /// As manifests and the API spell it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Asker => "asker",
            Self::Holders => "holders",
            Self::Group => "group",
            Self::Public => "public",
        }
    }

    /// The scope of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [Self::Asker, Self::Holders, Self::Group, Self::Public]
            .into_iter()
            .find(|scope| scope.name() == name)
    }
}

/// What two answers to one question have to do with each other.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, minicbor::Encode, minicbor::Decode,
)]
#[cbor(index_only)]
pub enum Determinism {
    /// Nothing: a model's prose, a random draw. Such answers are neither compared nor shared.
    #[default]
    #[n(0)]
    Free,
    /// Numbers may differ within the tolerances, all else is equal.
    #[n(1)]
    Comparable,
    /// Equal to the byte, as long as the data version is the same. Two different ones prove a lie.
    #[n(2)]
    Exact,
}

impl Determinism {
    /// As manifests and the API spell it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Comparable => "comparable",
            Self::Exact => "exact",
        }
    }

    /// The one of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [Self::Free, Self::Comparable, Self::Exact].into_iter().find(|found| found.name() == name)
    }
}

/// How far two numbers may lie apart: within either bound is enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, minicbor::Encode, minicbor::Decode)]
#[cbor(array)]
pub struct Tolerance {
    /// Relative to the larger magnitude, in millionths.
    #[n(0)]
    pub relative_ppm: u32,
    /// Absolute, in billionths of the field's unit.
    #[n(1)]
    pub absolute_nano: u64,
}

/// How answers may be reused, shared and compared.
#[derive(Debug, Clone, PartialEq, Eq, Default, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
pub struct Reuse {
    /// Among whom.
    #[n(0)]
    pub scope: Scope,
    /// What equal questions bring.
    #[n(1)]
    pub determinism: Determinism,
    /// Tolerances by name of the field, [`ANY_FIELD`] for all others; none for exact answers.
    #[cbor(n(2), with = "sorted_map")]
    pub tolerances: BTreeMap<String, Tolerance>,
    /// Data about times up to here does not change any more, in milliseconds since the UNIX epoch: an answer that is about nothing later
    /// does not grow stale.
    #[n(3)]
    pub closed_until_ms: Option<u64>,
    /// The field of a request's `where` that says which time it is about.
    #[n(4)]
    pub time_field: Option<String>,
    /// Where the data comes from, so that a quorum does not ask one source twice.
    #[cbor(n(5), with = "crate::wire::tag_set")]
    pub sources: BTreeSet<String>,
}

/// Why a declaration of reuse is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReuseError {
    /// Too many of something.
    #[error("{count} {what}, the limit is {limit}; keep the most telling ones")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many.
        count: usize,
        /// The limit.
        limit: usize,
    },
    /// A name breaks the rules for texts.
    #[error("a name in it is refused")]
    Text(#[source] TextError),
    /// Tolerances of answers that are exact, or not comparable at all.
    #[error("tolerances are for comparable answers; set determinism to comparable or remove them")]
    Tolerances,
    /// A closed time without the field that says what a request is about.
    #[error("closed_until needs time_field, or no request can be told to lie before it")]
    TimeField,
    /// Answers that mean nothing to anybody else are shared.
    #[error(
        "answers that are not reproducible cannot be shared; set scope to asker or say how they compare"
    )]
    Unshareable,
}

impl Reuse {
    /// Checks the limits and that the parts go together.
    ///
    /// # Errors
    /// [`ReuseError`] names the first that does not.
    pub fn check(&self) -> Result<(), ReuseError> {
        let counts = [
            ("tolerances", self.tolerances.len(), MAX_TOLERANCES),
            ("sources", self.sources.len(), MAX_SOURCES),
        ];
        for (what, count, limit) in counts {
            if count > limit {
                return Err(ReuseError::TooMany { what, count, limit });
            }
        }
        let names = self.tolerances.keys().chain(&self.sources).chain(&self.time_field);
        for name in names {
            text::check("a name", name, MAX_REUSE_NAME).map_err(ReuseError::Text)?;
        }
        if !self.tolerances.is_empty() && self.determinism != Determinism::Comparable {
            return Err(ReuseError::Tolerances);
        }
        if self.closed_until_ms.is_some() && self.time_field.is_none() {
            return Err(ReuseError::TimeField);
        }
        if self.scope != Scope::Asker && self.determinism == Determinism::Free {
            return Err(ReuseError::Unshareable);
        }
        Ok(())
    }

    /// The JSON view, for people and the local API.
    #[must_use]
    pub fn to_json(&self) -> Json {
        let tolerances: BTreeMap<&str, Json> = self
            .tolerances
            .iter()
            .map(|(name, tolerance)| {
                let Tolerance { relative_ppm, absolute_nano } = tolerance;
                (
                    name.as_str(),
                    json!({ "relative_ppm": relative_ppm, "absolute_nano": absolute_nano }),
                )
            })
            .collect();
        json!({
            "scope": self.scope.name(),
            "determinism": self.determinism.name(),
            "tolerances": tolerances,
            "closed_until_ms": self.closed_until_ms,
            "time_field": self.time_field,
            "sources": self.sources,
        })
    }

    /// The tolerance of a field.
    #[must_use]
    pub fn tolerance(&self, field: &str) -> Tolerance {
        self.tolerances
            .get(field)
            .or_else(|| self.tolerances.get(ANY_FIELD))
            .copied()
            .unwrap_or_default()
    }
}
