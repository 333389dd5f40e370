//! The attributes of a digest, packed: custodians hold many thousands of them and compare them with every query.

use std::collections::BTreeMap;
use std::fmt;

use crate::attribute::Value;
use crate::profile::{self, KeySpec};

/// Values by full key name, in the order of the names.
///
/// One allocation for all of them, known keys by their profile's entry, and for each value a filter of its words, so that a query
/// passes over most values without reading their words.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Attributes(Box<[Attribute]>);

#[derive(Clone, PartialEq, Eq)]
struct Attribute {
    key: Key,
    /// A bit per word of the value ([`word_bit`]); none for a value that is no words.
    words: u64,
    value: Value,
}

#[derive(Clone)]
enum Key {
    Known(&'static KeySpec),
    Other(Box<str>),
}

impl Key {
    fn name(&self) -> &str {
        match self {
            Self::Known(spec) => spec.key,
            Self::Other(name) => name,
        }
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for Key {}

/// A key as a query looks it up in many digests.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sought<'a> {
    name: &'a str,
    id: Option<u16>,
}

impl<'a> Sought<'a> {
    /// By full name.
    pub(crate) fn new(name: &'a str) -> Self {
        Self { name, id: profile::by_name(name).map(|spec| spec.id) }
    }
}

impl Attributes {
    /// The value of a key, by its full name.
    pub fn get(&self, key: &str) -> Option<&Value> {
        let found = self.0.binary_search_by(|attribute| attribute.key.name().cmp(key));
        found.ok().map(|at| &self.0[at].value)
    }

    /// The value of a key and the filter of its words.
    pub(crate) fn seek(&self, sought: Sought<'_>) -> Option<(u64, &Value)> {
        let found = self.0.iter().find(|attribute| match (&attribute.key, sought.id) {
            (Key::Known(spec), Some(id)) => spec.id == id,
            (Key::Other(name), None) => **name == *sought.name,
            (Key::Known(_), None) | (Key::Other(_), Some(_)) => false,
        })?;
        Some((found.words, &found.value))
    }

    /// Whether a key has a value.
    pub fn contains_key(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Keys and values, in the order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|attribute| (attribute.key.name(), &attribute.value))
    }

    /// The full names, in order.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.iter().map(|(key, _)| key)
    }

    /// Takes a value out.
    pub(crate) fn remove(&mut self, key: &str) {
        let mut all = std::mem::take(&mut self.0).into_vec();
        all.retain(|attribute| attribute.key.name() != key);
        self.0 = all.into_boxed_slice();
    }
}

/// The bit that stands for a word in a filter of 64 (FNV-1a, the highest bits).
pub(crate) fn word_bit(word: &str) -> u64 {
    let hash = word.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    1 << (hash >> 58)
}

impl From<BTreeMap<String, Value>> for Attributes {
    fn from(map: BTreeMap<String, Value>) -> Self {
        let packed = |(key, value): (String, Value)| Attribute {
            key: match profile::by_name(&key) {
                Some(spec) => Key::Known(spec),
                None => Key::Other(key.into_boxed_str()),
            },
            words: value.elements().into_iter().map(word_bit).fold(0, |all, bit| all | bit),
            value,
        };
        Self(map.into_iter().map(packed).collect())
    }
}

impl<'a> FromIterator<(&'a str, &'a Value)> for Attributes {
    fn from_iter<I: IntoIterator<Item = (&'a str, &'a Value)>>(all: I) -> Self {
        let map: BTreeMap<String, Value> =
            all.into_iter().map(|(key, value)| (key.to_owned(), value.clone())).collect();
        Self::from(map)
    }
}

impl PartialEq<BTreeMap<String, Value>> for Attributes {
    fn eq(&self, other: &BTreeMap<String, Value>) -> bool {
        self.iter().eq(other.iter().map(|(key, value)| (key.as_str(), value)))
    }
}

impl fmt::Debug for Attributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl serde::Serialize for Attributes {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}
