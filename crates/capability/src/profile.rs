//! Profiles: the vocabulary of attribute keys, with the type, unit, aliases and normaliser of each.
//!
//! A key has a full name such as `fin:pair`, any number of aliases such as `pair`, and a number that
//! stands for it in a digest. [`normalise`] is the one way from JSON to a value and runs both when a
//! capability is published and when it is asked for, so that `EURUSD`, `eur-usd` and `EUR/USD` meet.
//! A key that no profile knows is kept under its own name and matches by equality only.

mod normalise;
mod pair;
mod table;

use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde_json::Value as Json;

use crate::attribute::{Value, ValueError, ValueKind};

pub use normalise::Normaliser;

/// Longest attribute key, in bytes.
pub const MAX_KEY: usize = 64;

/// The profiles that ship with the crate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Profile {
    /// What any capability may state: languages, licence, price, quality of service.
    Core,
    /// Data sets: coverage, resolution, fields.
    Data,
    /// Finance.
    Fin,
    /// Places.
    Geo,
    /// Life science.
    Bio,
    /// Software.
    Code,
}

/// One key of a profile.
#[derive(Debug)]
pub struct KeySpec {
    /// The full name, the one stored and compared.
    pub key: &'static str,
    /// The number of this key in a digest; never reused.
    pub id: u16,
    /// The profile that owns it.
    pub profile: Profile,
    /// The kind of its values.
    pub kind: ValueKind,
    /// The unit of its values, or "" where the value carries it.
    pub unit: &'static str,
    /// Other names accepted for it, lower case.
    pub aliases: &'static [&'static str],
    /// How a raw value becomes a canonical one.
    pub normaliser: Normaliser,
    /// Whether each of its words is worth a group key of its own ([`crate::keys`]).
    pub entity: bool,
    /// How much a condition on it narrows a search, 0 to 9; digests drop the least selective first.
    pub selectivity: u8,
    /// What it means, in a line.
    pub doc: &'static str,
}

/// Why a key or its value was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProfileError {
    /// The key's name is empty, too long or has characters outside `A-Z a-z 0-9 : . _ -`.
    #[error(
        "`{key}` cannot be an attribute key: use 1 to {MAX_KEY} of the characters A-Z a-z 0-9 : . _ -"
    )]
    BadKey {
        /// The name, shortened.
        key: String,
    },
    /// The value does not fit the key.
    #[error("attribute `{key}`: {source}")]
    BadValue {
        /// The full name of the key.
        key: String,
        /// What is wrong with the value.
        source: ValueError,
    },
}

/// Every key of every profile, ordered by number.
pub fn keys() -> &'static [KeySpec] {
    table::KEYS
}

/// The key with this full name or alias, in any case, with or without a `data.` prefix.
pub fn lookup(name: &str) -> Option<&'static KeySpec> {
    let name = name.trim();
    let find = |name: &str| {
        keys().iter().find(|spec| spec.key.eq_ignore_ascii_case(name)).or_else(|| {
            keys()
                .iter()
                .find(|spec| spec.aliases.iter().any(|alias| alias.eq_ignore_ascii_case(name)))
        })
    };
    find(name).or_else(|| find(name.strip_prefix("data.")?))
}

/// The key with exactly this full name.
pub(crate) fn by_name(name: &str) -> Option<&'static KeySpec> {
    static BY_NAME: OnceLock<BTreeMap<&'static str, &'static KeySpec>> = OnceLock::new();
    let by_name = || keys().iter().map(|spec| (spec.key, spec)).collect();
    BY_NAME.get_or_init(by_name).get(name).copied()
}

/// The key with this digest number.
pub fn by_id(id: u16) -> Option<&'static KeySpec> {
    keys().binary_search_by_key(&id, |spec| spec.id).ok().map(|index| &keys()[index])
}

/// The full name of a key: of a known one its own, of an unknown one the name as given, without
/// surrounding space and without a `data.` prefix.
///
/// # Errors
/// [`ProfileError::BadKey`] for a name that cannot be a key.
pub fn canonical_key(name: &str) -> Result<String, ProfileError> {
    if let Some(spec) = lookup(name) {
        return Ok(spec.key.to_owned());
    }
    let name = name.trim();
    let name = name.strip_prefix("data.").unwrap_or(name);
    check_key(name)?;
    Ok(name.to_owned())
}

/// The canonical value of `raw` under the key `name` (full name or alias). The same code runs when
/// publishing and when asking.
///
/// # Errors
/// [`ProfileError`] says which key and what is wrong with the value.
pub fn normalise(name: &str, raw: &Json) -> Result<Value, ProfileError> {
    let bad = |key: &str, source| ProfileError::BadValue { key: key.to_owned(), source };
    match lookup(name) {
        Some(spec) => spec.normaliser.apply(spec.kind, raw).map_err(|source| bad(spec.key, source)),
        None => {
            let key = canonical_key(name)?;
            Value::infer(raw).map_err(|source| bad(&key, source))
        }
    }
}

/// Normalises a query's operand where the operator, not the key, decides the kind: `pair = EUR/USD`
/// compares one word with a set, `time covers 2024` wants an interval whatever the key holds.
///
/// # Errors
/// As [`normalise`].
pub fn normalise_as(name: &str, kind: ValueKind, raw: &Json) -> Result<Value, ProfileError> {
    let key = canonical_key(name)?;
    let normaliser = lookup(name).map_or(Normaliser::None, |spec| spec.normaliser);
    normaliser.apply(kind, raw).map_err(|source| ProfileError::BadValue { key, source })
}

/// Whether an unknown name may be a key at all.
pub(crate) fn check_key(key: &str) -> Result<(), ProfileError> {
    let fits = (1..=MAX_KEY).contains(&key.len())
        && key.bytes().all(|b| b.is_ascii_alphanumeric() || b":._-".contains(&b));
    if fits {
        return Ok(());
    }
    Err(ProfileError::BadKey { key: key.chars().take(80).collect() })
}
