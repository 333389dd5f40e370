//! The index entry of one capability: what custodians hold and evaluate queries on.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use comity_core::canonical::{self, Canonical, DecodeError, Version};
use comity_core::envelope::{self, Kind, MAX_OVERHEAD, Opened};
use comity_core::{Hash, Identity, Sha256Digest, Time};
use serde_json::{Value as Json, json};

use super::attributes::{Attributes, Sought};
use super::capability::{MAX_CLASSES, Visibility, check_name};
use super::times::{DIGEST_LIFE, check_times};
use super::whole::Record;
use super::{MAX_TITLE, RecordError};
use crate::attribute::Value;
use crate::keys;
use crate::profile;
use crate::taxonomy::ClassId;
use crate::text;
use crate::wire;

/// Longest sealed digest, in bytes.
pub const MAX_DIGEST: usize = 512;
/// Most attributes in a digest.
pub const MAX_ATTRIBUTES: usize = 16;
/// Longest packed endpoint hint, in bytes: four IPv4 addresses, or one IPv6 and one IPv4.
pub const MAX_ENDPOINTS: usize = 28;
/// Longest encoded payload of a digest, in bytes.
const MAX_PAYLOAD: usize = MAX_DIGEST - MAX_OVERHEAD;
/// Unknown keys have no entry in the profile; they go before an entity and after a mere description.
const UNKNOWN_SELECTIVITY: u8 = 4;

/// A set of words that can only be asked about: 256 bits, four per word. Says yes to every word put in, and to a
/// word that was not with a probability of about 1 % at 24 words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bloom([u8; 32]);

impl Bloom {
    /// Puts a word in.
    pub fn insert(&mut self, word: &str) {
        for bit in Self::bits(word) {
            self.0[usize::from(bit / 8)] |= 1 << (bit % 8);
        }
    }

    /// Whether the word may have been put in.
    pub fn may_contain(&self, word: &str) -> bool {
        Self::bits(word).into_iter().all(|bit| self.0[usize::from(bit / 8)] & (1 << (bit % 8)) != 0)
    }

    /// Puts in every word that is in `other`.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine |= theirs;
        }
    }

    /// The filter of this word alone.
    pub(crate) fn of(word: &str) -> Self {
        let mut filter = Self::default();
        filter.insert(word);
        filter
    }

    /// Whether everything that is in `other` may have been put in.
    pub(crate) fn includes(&self, other: &Self) -> bool {
        self.0.iter().zip(other.0).fold(0, |missing, (mine, theirs)| missing | (theirs & !mine))
            == 0
    }

    /// The 32 bytes; bit `i` is bit `i % 8` of byte `i / 8`.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    fn bits(word: &str) -> [u8; 4] {
        let hash = blake3::derive_key("comity/digest/bloom/v1", word.as_bytes());
        [hash[0], hash[1], hash[2], hash[3]]
    }
}

impl<C> minicbor::Encode<C> for Bloom {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.bytes(&self.0)?.ok()
    }
}

impl<'b, C> minicbor::Decode<'b, C> for Bloom {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        let at = d.position();
        let bytes: Result<[u8; 32], _> = d.bytes()?.try_into();
        bytes
            .map(Self)
            .map_err(|_| minicbor::decode::Error::message("a Bloom filter has 32 bytes").at(at))
    }
}

/// What a digest says of an attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Declared<'a> {
    /// This value.
    Value(&'a Value),
    /// It is (or, of a key without a number, may be) declared, but did not fit: the record has it.
    Omitted,
    /// Nothing.
    Undeclared,
}

/// The digest of one capability of a record, made by [`Digest::summarise`].
///
/// To fit [`MAX_DIGEST`] it gives up, in this order and only as far as needed: the end of the title and then all of
/// it; attributes from the least selective key on (of equals the larger, then the later by name), the sixteen most
/// selective at most; endpoints after the first; classes after the first. [`Digest::truncated`] tells that something
/// was given up, [`Digest::omitted`] names the attributes.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
pub struct Digest {
    #[n(0)]
    version: Version<1>,
    /// The sequence number of the record.
    #[n(1)]
    pub seq: u64,
    /// When the record was issued.
    #[cbor(n(2), with = "wire::millis")]
    pub issued: Time,
    /// When this ends.
    #[cbor(n(3), with = "wire::millis")]
    pub expires: Time,
    /// BLAKE3 of the sealed record.
    #[n(4)]
    pub record: Hash,
    /// Which capability of the record, from 0.
    #[n(5)]
    pub ordinal: u16,
    /// The capability's name.
    #[n(6)]
    pub name: String,
    /// The capability's title, as much of it as fits.
    #[n(7)]
    pub title: String,
    /// The capability's classes.
    #[cbor(n(8), with = "wire::classes")]
    pub classes: Vec<ClassId>,
    /// The capability's attributes, at most sixteen.
    #[cbor(n(9), with = "wire::packed_attributes")]
    pub attributes: Attributes,
    /// Keys of attributes that the capability declares and this digest leaves out: up to sixteen that have a number.
    #[cbor(n(10), with = "wire::key_set")]
    pub omitted: BTreeSet<String>,
    /// The capability's tags (as `#tag`, folded) and words ([`keys::vocabulary`]).
    #[n(11)]
    pub terms: Bloom,
    /// The digest of the capability's interface.
    #[n(12)]
    pub interface: Sha256Digest,
    /// Where the agent was reachable.
    #[cbor(n(13), with = "wire::addrs")]
    pub endpoints: Vec<SocketAddr>,
    #[n(14)]
    flags: u8,
    /// Words of title and name, each by [`head_of`]: derived, not sent.
    #[cbor(skip)]
    heads: Box<[u32]>,
}

const IDEMPOTENT: u8 = 1;
const STREAMING: u8 = 2;
const CACHEABLE: u8 = 4;
const TRUNCATED: u8 = 8;
/// An attribute is left out and not listed either: its key has no number, or the list is full.
const UNLISTED: u8 = 16;
const ALL_FLAGS: u8 = IDEMPOTENT | STREAMING | CACHEABLE | TRUNCATED | UNLISTED;

impl Digest {
    /// The digest of capability number `ordinal` of `record`, whose sealed form has the hash `record_hash`.
    ///
    /// # Errors
    /// [`RecordError::NoSuchCapability`], [`RecordError::Private`] for a capability that is not for the directory, and
    /// [`RecordError::Capability`] for one beyond its limits.
    pub fn summarise(
        record: &Record,
        ordinal: u16,
        record_hash: Hash,
    ) -> Result<Self, RecordError> {
        if let Some(capability) = record.capabilities.get(usize::from(ordinal))
            && capability.visibility == Visibility::Private
        {
            return Err(RecordError::Private { name: capability.name.clone() });
        }
        Self::summarise_for_members(record, ordinal, record_hash)
    }

    /// The same of a capability of any visibility, to be veiled: it must not be published as it is.
    ///
    /// # Errors
    /// As [`Digest::summarise`], [`RecordError::Private`] aside.
    pub fn summarise_for_members(
        record: &Record,
        ordinal: u16,
        record_hash: Hash,
    ) -> Result<Self, RecordError> {
        let capability = record
            .capabilities
            .get(usize::from(ordinal))
            .ok_or(RecordError::NoSuchCapability { ordinal })?;
        capability.check().map_err(RecordError::Capability)?;
        let mut terms = Bloom::default();
        for tag in &capability.tags {
            terms.insert(&keys::tag_word(tag));
        }
        for term in keys::vocabulary(capability) {
            terms.insert(&term);
        }
        let flag = |on: bool, flag: u8| if on { flag } else { 0 };
        let mut digest = Self {
            version: Version,
            seq: record.seq,
            issued: wire::whole_millis(record.issued),
            expires: wire::whole_millis(record.expires),
            record: record_hash,
            ordinal,
            name: capability.name.clone(),
            title: capability.title.clone(),
            classes: capability.classes.clone(),
            attributes: capability.attributes.clone().into(),
            omitted: BTreeSet::new(),
            terms,
            interface: capability.interface.digest(),
            endpoints: hint(&record.endpoints),
            flags: flag(capability.idempotent, IDEMPOTENT)
                | flag(capability.streaming, STREAMING)
                | flag(capability.valid_for.micros() > 0, CACHEABLE),
            heads: Box::default(),
        };
        if digest.endpoints.len() < record.endpoints.len() {
            digest.flags |= TRUNCATED;
        }
        digest.fit();
        digest.derive_heads();
        Ok(digest)
    }

    /// The words of title and name, each by [`head_of`], as often as they stand there.
    pub(crate) fn heads(&self) -> &[u32] {
        &self.heads
    }

    fn derive_heads(&mut self) {
        let words = keys::words(&self.title).into_iter().chain(keys::words(&self.name));
        self.heads = words.map(|word| head_of(&word)).collect();
    }

    /// What the capability declares under this full key name.
    pub fn declared(&self, key: &str) -> Declared<'_> {
        if let Some(value) = self.attributes.get(key) {
            return Declared::Value(value);
        }
        if self.may_omit(key) { Declared::Omitted } else { Declared::Undeclared }
    }

    /// What the capability declares under a key, as [`Digest::declared`], with the filter of the value's words.
    pub(crate) fn seek(&self, sought: Sought<'_>, key: &str) -> (u64, Declared<'_>) {
        match self.attributes.seek(sought) {
            Some((words, value)) => (words, Declared::Value(value)),
            None if self.may_omit(key) => (0, Declared::Omitted),
            None => (0, Declared::Undeclared),
        }
    }

    /// Whether a key without a value here may have one in the record.
    fn may_omit(&self, key: &str) -> bool {
        if self.omitted.is_empty() && self.flags & UNLISTED == 0 {
            return false;
        }
        let unlisted = self.flags & UNLISTED != 0
            && (!has_number(key) || self.omitted.len() == MAX_ATTRIBUTES);
        unlisted || self.omitted.contains(key)
    }

    /// Whether calling it twice does no more than calling it once.
    pub fn idempotent(&self) -> bool {
        self.flags & IDEMPOTENT != 0
    }

    /// Whether it may answer with a stream.
    pub fn streaming(&self) -> bool {
        self.flags & STREAMING != 0
    }

    /// Whether its answers may be reused for a time.
    pub fn cacheable(&self) -> bool {
        self.flags & CACHEABLE != 0
    }

    /// How much it claims: its classes, and the words of its sets.
    pub fn breadth(&self) -> usize {
        let words = self
            .attributes
            .iter()
            .map(|(_, value)| if let Value::Set(words) = value { words.len() } else { 0 });
        words.sum::<usize>() + self.classes.len()
    }

    /// Whether something was given up to fit.
    pub fn truncated(&self) -> bool {
        self.flags & TRUNCATED != 0
    }

    /// Whether there may be more classes than [`Digest::classes`] has: classes are given up last, one by one from the end, when
    /// nothing else is left.
    pub(crate) fn may_have_more_classes(&self) -> bool {
        self.truncated()
            && self.title.is_empty()
            && self.attributes.is_empty()
            && self.endpoints.len() <= 1
            && (1..MAX_CLASSES).contains(&self.classes.len())
    }

    /// Whether attributes are left out that [`Digest::omitted`] does not name.
    pub(crate) fn has_unlisted_keys(&self) -> bool {
        self.flags & UNLISTED != 0
    }

    /// Whether [`Digest::omitted`] is full.
    pub(crate) fn omits_as_many_as_it_can(&self) -> bool {
        self.omitted.len() >= MAX_ATTRIBUTES
    }

    /// Whether the capability may carry this tag (see [`Bloom`] for how sure a yes is).
    pub fn may_have_tag(&self, tag: &str) -> bool {
        self.terms.may_contain(&keys::tag_word(tag))
    }

    /// Signs it.
    pub fn seal(&self, identity: &Identity) -> Vec<u8> {
        envelope::seal(Kind::Digest, self, identity)
    }

    /// Opens a sealed digest: size, signature, limits and times.
    ///
    /// # Errors
    /// [`RecordError`] says which of them failed.
    pub fn open(bytes: &[u8], now: Time) -> Result<Opened<Self>, RecordError> {
        let opened = envelope::open::<Self>(Kind::Digest, bytes, MAX_DIGEST)
            .map_err(RecordError::Envelope)?;
        opened.payload.check_times(now)?;
        Ok(opened)
    }

    /// Whether it is valid at `now`.
    ///
    /// # Errors
    /// [`RecordError::Times`].
    pub fn check_times(&self, now: Time) -> Result<(), RecordError> {
        check_times(self.issued, self.expires, now, DIGEST_LIFE).map_err(RecordError::Times)
    }

    /// The JSON view, for people and the local API.
    pub fn to_json(&self) -> Json {
        json!({
            "seq": self.seq,
            "issued": self.issued.rfc3339(),
            "expires": self.expires.rfc3339(),
            "record": self.record.to_string(),
            "ordinal": self.ordinal,
            "id": self.name,
            "title": self.title,
            "classes": self.classes,
            "data": self.attributes,
            "omitted": self.omitted,
            "interface": self.interface.to_string(),
            "endpoints": self.endpoints.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "idempotent": self.idempotent(),
            "streaming": self.streaming(),
            "cacheable": self.cacheable(),
            "truncated": self.truncated(),
        })
    }

    /// Gives up parts until the payload fits, in the order stated at the type.
    fn fit(&mut self) {
        self.limit_attributes();
        while let Some(excess) = self.excess() {
            self.flags |= TRUNCATED;
            if !self.title.is_empty() {
                let keep = self.title.len().saturating_sub(excess);
                text::cut(&mut self.title, keep);
            } else if !self.omit_least_selective()
                && !drop_after_first(&mut self.endpoints)
                && !drop_after_first(&mut self.classes)
            {
                // One class and one endpoint always fit (a test holds the arithmetic); this ends the loop regardless.
                return;
            }
        }
    }

    fn limit_attributes(&mut self) {
        while self.attributes.len() > MAX_ATTRIBUTES {
            self.flags |= TRUNCATED;
            self.omit_least_selective();
        }
    }

    /// How many bytes too long the payload is.
    fn excess(&self) -> Option<usize> {
        let len = Canonical::encode(self).len();
        (len > MAX_PAYLOAD).then(|| len - MAX_PAYLOAD)
    }

    /// Moves one attribute to the omitted ones; false if none is left.
    fn omit_least_selective(&mut self) -> bool {
        let next = self
            .attributes
            .iter()
            .min_by_key(|(key, value)| {
                (selectivity(key), std::cmp::Reverse((value_len(value), *key)))
            })
            .map(|(key, _)| key.to_owned());
        let Some(key) = next else { return false };
        self.attributes.remove(&key);
        if !has_number(&key) || self.omitted.len() == MAX_ATTRIBUTES {
            self.flags |= UNLISTED;
        } else {
            self.omitted.insert(key);
        }
        true
    }

    fn check_decoded(&self) -> Result<(), String> {
        check_name(&self.name).map_err(|error| error.to_string())?;
        text::check("the title", &self.title, MAX_TITLE).map_err(|error| error.to_string())?;
        let within = self.classes.len() <= MAX_CLASSES
            && self.attributes.len() <= MAX_ATTRIBUTES
            && wire::addrs::pack(&self.endpoints).len() <= MAX_ENDPOINTS
            && self.flags & !ALL_FLAGS == 0
            && self.omitted.iter().all(|key| has_number(key) && !self.attributes.contains_key(key));
        if within { Ok(()) } else { Err("a part of the digest exceeds its limit".to_owned()) }
    }
}

/// What stands for a word of a title or name (FNV-1a).
pub(crate) fn head_of(word: &str) -> u32 {
    word.bytes()
        .fold(0x811c_9dc5, |hash: u32, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// As many leading endpoints as the hint has room for.
fn hint(endpoints: &[SocketAddr]) -> Vec<SocketAddr> {
    let mut hint = Vec::new();
    for endpoint in endpoints {
        hint.push(SocketAddr::new(endpoint.ip(), endpoint.port()));
        if wire::addrs::pack(&hint).len() > MAX_ENDPOINTS {
            hint.pop();
        }
    }
    hint
}

fn drop_after_first<T>(list: &mut Vec<T>) -> bool {
    let more = list.len() > 1;
    if more {
        list.pop();
    }
    more
}

fn selectivity(key: &str) -> u8 {
    profile::lookup(key).map_or(UNKNOWN_SELECTIVITY, |spec| spec.selectivity)
}

/// Whether the key costs a number on the wire, not a name.
fn has_number(key: &str) -> bool {
    key.starts_with('#') || profile::by_name(key).is_some()
}

fn value_len(value: &Value) -> usize {
    canonical::encode_minicbor(value).len()
}

impl Canonical for Digest {
    fn encode(&self) -> Vec<u8> {
        canonical::encode_minicbor(self)
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.len() > MAX_PAYLOAD {
            return Err(DecodeError::TooLong { length: bytes.len(), max: MAX_PAYLOAD });
        }
        let mut digest: Self = canonical::decode_minicbor(bytes)?;
        digest.derive_heads();
        digest.check_decoded().map_err(|reason| DecodeError::Type { reason })?;
        Ok(digest)
    }
}
