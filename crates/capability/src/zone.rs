//! Zone maps: what the members of a shard have in common, small enough to travel with every summary.
//!
//! A custodian that reports a shard adds each digest of it to a [`ZoneMap`]; whoever looks for members asks the map first and
//! leaves out the shards that cannot hold one. A map errs on one side only: it may promise members that are not there, and it
//! never denies one that is.
//!
//! It holds, in at most [`ZONE_BYTES_MAX`] bytes: which known keys any member declares, and which any member's digest leaves to
//! the record; least and greatest value of the [ordered keys](ORDERED_KEYS); a Bloom filter of entity words, other words and
//! classes; the union of the members' own filters of tags and terms.

mod bounds;
mod judge;

use comity_core::canonical::{self, Canonical, DecodeError, Version};

use bounds::{Bounds, Range};

use crate::attribute::{Value, ValueKind};
use crate::profile::{self, KeySpec};
use crate::record::{Bloom, Digest};
use crate::taxonomy::{self, ClassId};

/// Longest encoded zone map, in bytes.
pub const ZONE_BYTES_MAX: usize = 512;
/// Keys whose least and greatest value a map holds.
pub const ORDERED_KEYS: [&str; 8] = [
    "schema:temporalCoverage",
    "dcat:temporalResolution",
    "offer:price",
    "qos:p95",
    "qos:avail_30d",
    "data:rows",
    "schema:dateModified",
    "schema:spatialCoverage",
];
/// Bytes of the filter of words and classes. At two bits a word it says yes to 3 % of other words when it holds 200, to 40 % when it
/// holds 1,000.
const WORDS_BYTES: usize = 256;
/// Keys have numbers below this while they are masked; others are filed in the filter by name.
const MASKED_KEYS: u16 = 128;
/// Its words differ from record to record, and nobody asks for one alone: they would only fill the filter.
const UNFILED_KEY: &str = "data:fields";

/// A member has classes that its digest gave up.
const MORE_CLASSES: u8 = 1;
/// A member declares keys without a number that its digest does not name.
const UNNAMED_KEYS: u8 = 2;
/// A member declares keys that its digest does not name.
const UNLISTED_KEYS: u8 = 4;
const ALL_FLAGS: u8 = MORE_CLASSES | UNNAMED_KEYS | UNLISTED_KEYS;

/// What the digests of a shard have in common.
///
/// ```
/// # use comity_capability::{query::Query, zone::ZoneMap};
/// use comity_core::Canonical;
///
/// let nobody = ZoneMap::new();
/// assert!(!nobody.may_match(&Query::parse_text("find where pair = EUR/USD")?));
/// assert_eq!(ZoneMap::decode(&nobody.encode()).as_ref(), Ok(&nobody));
/// # Ok::<(), comity_capability::query::QueryError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
pub struct ZoneMap {
    #[n(0)]
    version: Version<1>,
    #[n(1)]
    flags: u8,
    /// Bit per key number: a member declares it.
    #[cbor(n(2), with = "mask")]
    declared: u128,
    /// Bit per key number: a member may declare it, with a value that this map says nothing of.
    #[cbor(n(3), with = "mask")]
    open: u128,
    #[n(4)]
    words: Words,
    /// The union of the members' filters.
    #[n(5)]
    terms: Bloom,
    #[cbor(n(6), with = "bounds::wire")]
    bounds: Bounds,
}

impl ZoneMap {
    /// The map of no members: nothing matches.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a member.
    pub fn add(&mut self, digest: &Digest) {
        if digest.may_have_more_classes() {
            self.flags |= MORE_CLASSES;
        }
        if digest.has_unlisted_keys() {
            self.flags |=
                if digest.omits_as_many_as_it_can() { UNLISTED_KEYS } else { UNNAMED_KEYS };
        }
        self.words.insert(Filed::AnyClass, "", !digest.classes.is_empty());
        for class in &digest.classes {
            self.add_class(class);
        }
        for (key, value) in digest.attributes.iter() {
            match masked(key) {
                Some(spec) => self.add_value(spec, value),
                None => self.add_foreign(key),
            }
        }
        for key in &digest.omitted {
            match masked(key) {
                Some(spec) => self.open |= 1 << spec.id,
                None => self.add_foreign(key),
            }
        }
        self.terms.merge(&digest.terms);
    }

    /// Adds all members of another map.
    pub fn merge(&mut self, other: &Self) {
        self.flags |= other.flags;
        self.declared |= other.declared;
        self.open |= other.open;
        for (mine, theirs) in self.words.0.iter_mut().zip(other.words.0) {
            *mine |= theirs;
        }
        self.terms.merge(&other.terms);
        self.open |= self.bounds.merge(&other.bounds);
    }

    /// A key that the profiles here have no bit for. One that came by number may be known to whoever asks.
    fn add_foreign(&mut self, key: &str) {
        self.words.insert(Filed::Key, key, true);
        let number = key.strip_prefix('#').and_then(|number| number.parse::<u16>().ok());
        if let Some(number) = number.filter(|number| *number < MASKED_KEYS) {
            self.open |= 1 << number;
        }
    }

    fn add_class(&mut self, class: &ClassId) {
        let text = class.to_string();
        self.words.insert(Filed::Class, &text, true);
        self.words.insert(Filed::Subtree, &text, true);
        for above in taxonomy::ancestors(class) {
            self.words.insert(Filed::Subtree, &above.to_string(), true);
        }
    }

    fn add_value(&mut self, spec: &'static KeySpec, value: &Value) {
        let bit = 1 << spec.id;
        self.declared |= bit;
        if value.kind() != spec.kind {
            // No program of ours writes it; whatever it is, it must not be lost.
            self.open |= bit;
        } else if filed(spec) {
            for word in value.elements() {
                self.words.insert(Filed::Word(spec.id), word, true);
            }
        } else if let Some(range) = Range::of(value)
            && !self.bounds.add(spec.key, range)
        {
            self.open |= bit;
        }
    }
}

/// The key, if the masks have a bit for it.
fn masked(key: &str) -> Option<&'static KeySpec> {
    profile::lookup(key).filter(|spec| spec.key == key && spec.id < MASKED_KEYS)
}

/// Whether the words of this key are in the filter.
fn filed(spec: &KeySpec) -> bool {
    matches!(spec.kind, ValueKind::Enum | ValueKind::Set) && spec.key != UNFILED_KEY
}

/// What the filter of words holds, apart from each other.
#[derive(Clone, Copy)]
enum Filed {
    /// A word under the key of this number.
    Word(u16),
    /// A key that the masks have no bit for.
    Key,
    /// A declared class.
    Class,
    /// A declared class, or one above it.
    Subtree,
    /// That some member declares a class.
    AnyClass,
}

/// A Bloom filter of two bits a word.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Words([u8; WORDS_BYTES]);

impl Default for Words {
    fn default() -> Self {
        Self([0; WORDS_BYTES])
    }
}

impl Words {
    fn insert(&mut self, filed: Filed, word: &str, really: bool) {
        if really {
            for (byte, bit) in Self::bits(filed, word) {
                self.0[byte] |= bit;
            }
        }
    }

    fn may_contain(&self, filed: Filed, word: &str) -> bool {
        Self::bits(filed, word).into_iter().all(|(byte, bit)| self.0[byte] & bit != 0)
    }

    fn bits(filed: Filed, word: &str) -> [(usize, u8); 2] {
        let (sort, number): (u8, u16) = match filed {
            Filed::Word(id) => (0, id),
            Filed::Key => (1, 0),
            Filed::Class => (2, 0),
            Filed::Subtree => (3, 0),
            Filed::AnyClass => (4, 0),
        };
        let mut hasher = blake3::Hasher::new_derive_key("comity/zone/words/v1");
        hasher.update(&[sort]).update(&number.to_be_bytes()).update(word.as_bytes());
        let hash = hasher.finalize();
        let [a, b, c, d, ..] = *hash.as_bytes();
        [(usize::from(a), 1 << (b % 8)), (usize::from(c), 1 << (d % 8))]
    }
}

impl<C> minicbor::Encode<C> for Words {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.bytes(&self.0)?.ok()
    }
}

impl<'b, C> minicbor::Decode<'b, C> for Words {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        let at = d.position();
        let bytes: Result<[u8; WORDS_BYTES], _> = d.bytes()?.try_into();
        bytes
            .map(Self)
            .map_err(|_| minicbor::decode::Error::message("a filter of words has 256 bytes").at(at))
    }
}

/// A mask of keys as 16 bytes, big-endian.
mod mask {
    use minicbor::decode::Error as DecodeError;
    use minicbor::encode::{Error as EncodeError, Write};
    use minicbor::{Decoder, Encoder};

    pub(super) fn encode<C, W: Write>(
        mask: &u128,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), EncodeError<W::Error>> {
        e.bytes(&mask.to_be_bytes())?.ok()
    }

    pub(super) fn decode<C>(d: &mut Decoder<'_>, _: &mut C) -> Result<u128, DecodeError> {
        let at = d.position();
        let bytes: Result<[u8; 16], _> = d.bytes()?.try_into();
        bytes
            .map(u128::from_be_bytes)
            .map_err(|_| DecodeError::message("a mask of keys has 16 bytes").at(at))
    }
}

impl Canonical for ZoneMap {
    fn encode(&self) -> Vec<u8> {
        canonical::encode_minicbor(self)
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.len() > ZONE_BYTES_MAX {
            return Err(DecodeError::TooLong { length: bytes.len(), max: ZONE_BYTES_MAX });
        }
        let map: Self = canonical::decode_minicbor(bytes)?;
        if map.flags & !ALL_FLAGS == 0 {
            Ok(map)
        } else {
            Err(DecodeError::Type { reason: "a zone map has flags of no meaning".to_owned() })
        }
    }
}
