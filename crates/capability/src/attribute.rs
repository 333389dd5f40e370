//! Typed attribute values: what a capability declares and what a query compares against.
//!
//! Everything is exact: decimals are scaled integers, times are whole microseconds, coordinates
//! are whole 1e-7 degrees. There are no floats in a value, in its wire form or in a comparison.
//!
//! A value has three forms:
//! * **wire**: the CBOR array `[kind, payload]` (no tags, no floats; RFC 8949 §4.2 deterministic),
//! * **JSON**: [`Value::to_json`] and [`Value::from_json`] with the [`ValueKind`] that the key's
//!   profile states, or [`Value::infer`] for a key nobody knows,
//! * **text**: [`Display`](std::fmt::Display), which `from_json` accepts back as a JSON string.

mod codec;
mod decimal;
mod geo;
mod json;
mod span;

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::fmt;

pub use decimal::{Currency, Decimal, Money};
pub use geo::Geo;
pub use span::{Interval, Moment, Period};

/// Longest text in a value, in bytes of UTF-8. Longer text belongs in the capability's `text`.
pub const MAX_TEXT: usize = 512;
/// Longest element of a set or enum, in bytes of UTF-8.
pub const MAX_ELEMENT: usize = 64;
/// Most elements of a set.
pub const MAX_SET: usize = 256;

/// Why a value was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ValueError {
    /// The text or JSON is not a value of the wanted kind.
    #[error("`{got}` is not a {kind}: {hint}")]
    Malformed {
        /// The kind that was wanted.
        kind: ValueKind,
        /// What was given, shortened to 80 characters.
        got: String,
        /// How to write it.
        hint: &'static str,
    },
    /// A limit of this module was exceeded.
    #[error("{what} exceeds the limit of {limit}; shorten it")]
    TooLarge {
        /// What was too large.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// Text with control, bidirectional-override or zero-width characters.
    #[error(
        "text contains the character U+{0:04X}, which is refused in declarations; remove it and try again"
    )]
    ForbiddenCharacter(u32),
}

/// The kinds of value, numbered as on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ValueKind {
    /// `true` or `false`.
    Bool,
    /// A 64-bit signed integer.
    Int,
    /// An exact decimal.
    Dec,
    /// One word out of a vocabulary.
    Enum,
    /// A set of words.
    Set,
    /// Free text.
    Text,
    /// A moment.
    Time,
    /// A half-open interval of time, either end possibly open.
    Interval,
    /// A nominal length of time.
    Duration,
    /// A point or a bounding box on the Earth.
    Geo,
    /// An amount in a currency.
    Money,
    /// A semantic version.
    Semver,
    /// 32 bytes, such as a hash.
    Bytes32,
}

impl fmt::Display for ValueKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bool => "bool",
            Self::Int => "integer",
            Self::Dec => "decimal",
            Self::Enum => "word",
            Self::Set => "set of words",
            Self::Text => "text",
            Self::Time => "time",
            Self::Interval => "interval",
            Self::Duration => "duration",
            Self::Geo => "place",
            Self::Money => "amount of money",
            Self::Semver => "version",
            Self::Bytes32 => "32-byte value",
        })
    }
}

/// One attribute value.
///
/// `Ord` is a total order for use in ordered collections; whether one value is *less* than another
/// in the sense of a query is [`Value::compare`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Value {
    /// See [`ValueKind::Bool`].
    Bool(bool),
    /// See [`ValueKind::Int`].
    Int(i64),
    /// See [`ValueKind::Dec`].
    Dec(Decimal),
    /// See [`ValueKind::Enum`].
    Enum(String),
    /// See [`ValueKind::Set`].
    Set(BTreeSet<String>),
    /// See [`ValueKind::Text`].
    Text(String),
    /// See [`ValueKind::Time`].
    Time(Moment),
    /// See [`ValueKind::Interval`].
    Interval(Interval),
    /// See [`ValueKind::Duration`].
    Duration(Period),
    /// See [`ValueKind::Geo`].
    Geo(Geo),
    /// See [`ValueKind::Money`].
    Money(Money),
    /// See [`ValueKind::Semver`]. Build metadata is dropped on the way in: it has no order.
    Semver(semver::Version),
    /// See [`ValueKind::Bytes32`].
    Bytes32([u8; 32]),
}

impl Value {
    /// The kind of this value.
    pub fn kind(&self) -> ValueKind {
        match self {
            Self::Bool(_) => ValueKind::Bool,
            Self::Int(_) => ValueKind::Int,
            Self::Dec(_) => ValueKind::Dec,
            Self::Enum(_) => ValueKind::Enum,
            Self::Set(_) => ValueKind::Set,
            Self::Text(_) => ValueKind::Text,
            Self::Time(_) => ValueKind::Time,
            Self::Interval(_) => ValueKind::Interval,
            Self::Duration(_) => ValueKind::Duration,
            Self::Geo(_) => ValueKind::Geo,
            Self::Money(_) => ValueKind::Money,
            Self::Semver(_) => ValueKind::Semver,
            Self::Bytes32(_) => ValueKind::Bytes32,
        }
    }

    /// The order of two values of compatible kinds; `None` where no order is defined.
    ///
    /// Integers and decimals compare with each other by value, money only within one currency,
    /// durations by nominal length, versions by SemVer 2.0 precedence, moments by time. A word and
    /// a text are equal or unordered. Sets, intervals and places have containment, not order:
    /// they are equal or unordered.
    pub fn compare(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Time(a), Self::Time(b)) => Some(a.cmp(b)),
            (Self::Duration(a), Self::Duration(b)) => Some(a.cmp(b)),
            (Self::Money(a), Self::Money(b)) if a.currency == b.currency => {
                Some(a.amount.cmp(&b.amount))
            }
            (Self::Semver(a), Self::Semver(b)) => Some(a.cmp_precedence(b)),
            (a, b) => match (a.number(), b.number()) {
                (Some(a), Some(b)) => Some(a.cmp(&b)),
                (Some(_), None) | (None, Some(_)) => None,
                (None, None) => a.same(b).then_some(Ordering::Equal),
            },
        }
    }

    /// Whether the two mean the same: equal values, equal numbers of different kinds, or a word, a
    /// text and a set of one that read the same.
    pub fn same(&self, other: &Self) -> bool {
        if let (Some(a), Some(b)) = (self.number(), other.number()) {
            return a == b;
        }
        if self == other {
            return true;
        }
        let len = self.words().count();
        len > 0 && len == other.words().count() && other.words().all(|word| self.has_word(word))
    }

    /// Whether every element of `other` is an element of this value (a word counts as a set of one).
    pub fn includes(&self, other: &Self) -> bool {
        if other.words().next().is_none() {
            return self.same(other);
        }
        other.words().all(|word| self.has_word(word))
    }

    /// Whether the two have an element in common (a word counts as a set of one).
    pub fn intersects(&self, other: &Self) -> bool {
        if other.words().next().is_none() {
            return self.same(other);
        }
        other.words().any(|word| self.has_word(word))
    }

    /// The words of a set, or the one word of an enum or text; empty for every other kind.
    pub fn elements(&self) -> BTreeSet<&str> {
        self.words().collect()
    }

    /// The [`elements`](Self::elements), without a set around them.
    pub(crate) fn words(&self) -> impl Iterator<Item = &str> {
        let (one, many) = match self {
            Self::Enum(word) | Self::Text(word) => (Some(word.as_str()), None),
            Self::Set(words) => (None, Some(words)),
            Self::Bool(_)
            | Self::Int(_)
            | Self::Dec(_)
            | Self::Time(_)
            | Self::Interval(_)
            | Self::Duration(_)
            | Self::Geo(_)
            | Self::Money(_)
            | Self::Semver(_)
            | Self::Bytes32(_) => (None, None),
        };
        one.into_iter().chain(many.into_iter().flatten().map(String::as_str))
    }

    fn has_word(&self, wanted: &str) -> bool {
        match self {
            Self::Enum(word) | Self::Text(word) => word == wanted,
            Self::Set(words) => words.contains(wanted),
            Self::Bool(_)
            | Self::Int(_)
            | Self::Dec(_)
            | Self::Time(_)
            | Self::Interval(_)
            | Self::Duration(_)
            | Self::Geo(_)
            | Self::Money(_)
            | Self::Semver(_)
            | Self::Bytes32(_) => false,
        }
    }

    /// The number in an integer or decimal.
    pub fn number(&self) -> Option<Decimal> {
        match self {
            Self::Int(n) => Some(Decimal::from(*n)),
            Self::Dec(n) => Some(*n),
            Self::Bool(_)
            | Self::Enum(_)
            | Self::Set(_)
            | Self::Text(_)
            | Self::Time(_)
            | Self::Interval(_)
            | Self::Duration(_)
            | Self::Geo(_)
            | Self::Money(_)
            | Self::Semver(_)
            | Self::Bytes32(_) => None,
        }
    }

    /// The interval of an interval, or the one microsecond of a moment.
    pub fn interval(&self) -> Option<Interval> {
        match self {
            Self::Interval(interval) => Some(*interval),
            Self::Time(moment) => Some(Interval::at(*moment)),
            Self::Bool(_)
            | Self::Int(_)
            | Self::Dec(_)
            | Self::Enum(_)
            | Self::Set(_)
            | Self::Text(_)
            | Self::Duration(_)
            | Self::Geo(_)
            | Self::Money(_)
            | Self::Semver(_)
            | Self::Bytes32(_) => None,
        }
    }
}
