//! One capability: its declaration, limits, and the hashes that name it.

use std::collections::{BTreeMap, BTreeSet};

use comity_core::canonical::{self, Canonical, DecodeError};
use comity_core::{Hash, Sha256Digest};
use serde_json::{Value as Json, json};

use super::reuse::{Reuse, ReuseError};
use crate::attribute::{Period, Value};
use crate::profile::{self, ProfileError};
use crate::taxonomy::ClassId;
use crate::text::{self, MAX_FREE_TEXT, MAX_TAG, MAX_TITLE, TextError};

/// Most classes of a capability.
pub const MAX_CLASSES: usize = 4;
/// Most examples of a capability.
pub const MAX_EXAMPLES: usize = 5;
/// Most tags of a capability.
pub const MAX_TAGS: usize = 16;
/// Longest capability name, in bytes.
pub const MAX_NAME: usize = 64;
/// Longest schema of an interface, in bytes of its canonical CBOR.
pub const MAX_SCHEMA: usize = 4096;
/// Most attributes in a declaration.
pub const MAX_DECLARED_ATTRIBUTES: usize = 64;

/// Who may learn of a capability.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, minicbor::Encode, minicbor::Decode)]
#[cbor(index_only)]
pub enum Visibility {
    /// Listed in the directory and callable by anyone.
    #[n(0)]
    Public,
    /// Not in the directory; callable by whom the agent allows.
    #[default]
    #[n(1)]
    Private,
}

/// The callable interface: the JSON Schemas of request and response.
///
/// Kept as canonical CBOR of the JSON, so that equal schemas have equal bytes however they were
/// spelled, and the digest of the interface does not depend on a JSON library.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(array)]
pub struct Interface {
    #[cbor(n(0), with = "minicbor::bytes")]
    input: Vec<u8>,
    #[cbor(n(1), with = "minicbor::bytes")]
    output: Vec<u8>,
}

/// One thing an agent can do. Its canonical encoding is the *descriptor*, see [`Capability::hash`].
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
pub struct Capability {
    /// Its name within the agent: 1 to 64 of `a-z 0-9 - . _`.
    #[n(0)]
    pub name: String,
    /// A line for people, up to 96 bytes.
    #[n(1)]
    pub title: String,
    /// What it does, up to 512 bytes. Data, never an instruction.
    #[n(2)]
    pub text: String,
    /// Up to five requests it answers, in words, each up to 512 bytes.
    #[n(3)]
    pub examples: Vec<String>,
    /// Up to four classes, most fitting first.
    #[cbor(n(4), with = "crate::wire::classes")]
    pub classes: Vec<ClassId>,
    /// Up to sixteen tags.
    #[cbor(n(5), with = "crate::wire::tag_set")]
    pub tags: BTreeSet<String>,
    /// How it is called.
    #[n(6)]
    pub interface: Interface,
    /// Typed attributes by full key name; [`Capability::declare`] adds one.
    #[cbor(n(7), with = "crate::wire::attributes")]
    pub attributes: BTreeMap<String, Value>,
    /// Who may learn of it.
    #[n(8)]
    pub visibility: Visibility,
    /// Whether calling it twice does no more than calling it once.
    #[n(9)]
    pub idempotent: bool,
    /// Whether it may answer with a stream.
    #[n(10)]
    pub streaming: bool,
    /// Version of the data behind it, up to 64 bytes, "" if it has none.
    #[n(11)]
    pub data_version: String,
    /// How long an answer stays reusable; zero = not at all.
    #[cbor(n(12), with = "crate::wire::period")]
    pub valid_for: Period,
    /// How answers may be shared and compared; not at all when absent.
    #[n(13)]
    pub reuse: Option<Reuse>,
}

/// Why a capability was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CapabilityError {
    /// The name is not one.
    #[error(
        "`{name}` cannot name a capability: use 1 to {MAX_NAME} of the characters a-z 0-9 - . _"
    )]
    Name {
        /// The name, shortened.
        name: String,
    },
    /// A text breaks the rules for texts.
    #[error("capability `{name}`: {source}")]
    Text {
        /// The capability.
        name: String,
        /// Which text, and why.
        source: TextError,
    },
    /// Too many of something.
    #[error(
        "capability `{name}` has {count} {what}, the limit is {limit}; keep the most telling ones"
    )]
    TooMany {
        /// The capability.
        name: String,
        /// What there is too much of.
        what: &'static str,
        /// How many or how long.
        count: usize,
        /// The limit.
        limit: usize,
    },
    /// An attribute is not one, or not under its full name.
    #[error("capability `{name}`: {source}")]
    Attribute {
        /// The capability.
        name: String,
        /// What is wrong.
        source: ProfileError,
    },
    /// An attribute of a known key has a value that its profile would write otherwise.
    #[error(
        "capability `{name}`: attribute `{key}` is not in the form its profile gives it; normalise it"
    )]
    NotNormal {
        /// The capability.
        name: String,
        /// The key.
        key: String,
    },
    /// How answers may be reused is contradictory or too long.
    #[error("capability `{name}`: {source}")]
    Reuse {
        /// The capability.
        name: String,
        /// What is wrong.
        source: ReuseError,
    },
    /// A schema cannot be encoded.
    #[error("the {which} schema cannot be part of an interface: {reason}")]
    Schema {
        /// `input` or `output`.
        which: &'static str,
        /// Why.
        reason: String,
    },
}

impl Interface {
    /// The interface of these JSON Schemas; `true` or `{}` accepts anything.
    ///
    /// # Errors
    /// [`CapabilityError::Schema`] for a schema of over [`MAX_SCHEMA`] bytes in canonical CBOR or one
    /// that has none (too deep, numbers out of range).
    pub fn new(input: &Json, output: &Json) -> Result<Self, CapabilityError> {
        Ok(Self { input: schema_bytes("input", input)?, output: schema_bytes("output", output)? })
    }

    /// The schema of requests.
    pub fn input_schema(&self) -> Json {
        // The bytes were checked when the interface was made or decoded.
        canonical::to_json(&self.input).unwrap_or(Json::Bool(true))
    }

    /// The schema of responses, or of each item of a streamed one.
    pub fn output_schema(&self) -> Json {
        canonical::to_json(&self.output).unwrap_or(Json::Bool(true))
    }

    /// SHA-256 over the canonical encoding of `{"input": …, "output": …}`: equal for equal schemas
    /// however they were spelled.
    pub fn digest(&self) -> Sha256Digest {
        // A map of two text keys in canonical order (both 5 and 6 bytes long) around the two items.
        let mut bytes = vec![0xa2];
        for (name, schema) in [("input", &self.input), ("output", &self.output)] {
            bytes.push(0x60 | u8::try_from(name.len()).unwrap_or(0));
            bytes.extend_from_slice(name.as_bytes());
            bytes.extend_from_slice(schema);
        }
        Sha256Digest::of(&bytes)
    }

    /// Whether this is the digest of an interface that says nothing ([`Interface::is_unconstrained`]), in whichever of its spellings.
    pub fn is_unconstrained_digest(digest: &Sha256Digest) -> bool {
        let free = [vec![EMPTY_MAP], vec![TRUE]];
        free.iter().any(|input| {
            free.iter().any(|output| {
                Self { input: input.clone(), output: output.clone() }.digest() == *digest
            })
        })
    }

    /// Whether it says nothing: any request, any response.
    pub fn is_unconstrained(&self) -> bool {
        let free = |schema: Json| schema == Json::Bool(true) || schema == json!({});
        free(self.input_schema()) && free(self.output_schema())
    }
}

impl Default for Interface {
    /// Any request, any response: both schemas are `{}`.
    fn default() -> Self {
        Self { input: vec![EMPTY_MAP], output: vec![EMPTY_MAP] }
    }
}

/// CBOR of `{}`.
const EMPTY_MAP: u8 = 0xa0;
/// CBOR of `true`.
const TRUE: u8 = 0xf5;

fn schema_bytes(which: &'static str, schema: &Json) -> Result<Vec<u8>, CapabilityError> {
    let refuse = |reason: String| CapabilityError::Schema { which, reason };
    if !schema.is_object() && !schema.is_boolean() {
        return Err(refuse("a JSON Schema is an object or a boolean".to_owned()));
    }
    let bytes = canonical::from_json(schema).map_err(|error| refuse(error.to_string()))?;
    if bytes.len() > MAX_SCHEMA {
        return Err(refuse(format!(
            "it takes {} bytes, the limit is {MAX_SCHEMA}; simplify it",
            bytes.len()
        )));
    }
    Ok(bytes)
}

impl Capability {
    /// A capability of this name that says nothing else yet. It is private until its visibility says otherwise.
    ///
    /// # Errors
    /// [`CapabilityError::Name`].
    pub fn new(name: &str) -> Result<Self, CapabilityError> {
        check_name(name)?;
        Ok(Self {
            name: name.to_owned(),
            title: String::new(),
            text: String::new(),
            examples: Vec::new(),
            classes: Vec::new(),
            tags: BTreeSet::new(),
            interface: Interface::default(),
            attributes: BTreeMap::new(),
            visibility: Visibility::Private,
            idempotent: false,
            streaming: false,
            data_version: String::new(),
            valid_for: Period::ZERO,
            reuse: None,
        })
    }

    /// Declares an attribute by full name or alias, normalising the value. Returns the full name.
    ///
    /// # Errors
    /// [`CapabilityError::Attribute`].
    pub fn declare(&mut self, key: &str, raw: &Json) -> Result<String, CapabilityError> {
        let wrong = |source| CapabilityError::Attribute { name: self.name.clone(), source };
        let full = profile::canonical_key(key).map_err(wrong)?;
        let value = profile::normalise(key, raw).map_err(wrong)?;
        self.attributes.insert(full.clone(), value);
        Ok(full)
    }

    /// Checks every limit of this module, and that attributes are in the form of their profiles.
    ///
    /// # Errors
    /// The first [`CapabilityError`] found.
    pub fn check(&self) -> Result<(), CapabilityError> {
        check_name(&self.name)?;
        let text_error = |source| CapabilityError::Text { name: self.name.clone(), source };
        text::check("the title", &self.title, MAX_TITLE).map_err(text_error)?;
        text::check("the text", &self.text, MAX_FREE_TEXT).map_err(text_error)?;
        text::check("the data version", &self.data_version, MAX_NAME).map_err(text_error)?;
        for example in &self.examples {
            text::check("an example", example, MAX_FREE_TEXT).map_err(text_error)?;
        }
        for tag in &self.tags {
            text::check("a tag", tag, MAX_TAG).map_err(text_error)?;
        }
        let counts = [
            ("examples", self.examples.len(), MAX_EXAMPLES),
            ("classes", self.classes.len(), MAX_CLASSES),
            ("tags", self.tags.len(), MAX_TAGS),
            ("attributes", self.attributes.len(), MAX_DECLARED_ATTRIBUTES),
        ];
        for (what, count, limit) in counts {
            if count > limit {
                return Err(CapabilityError::TooMany {
                    name: self.name.clone(),
                    what,
                    count,
                    limit,
                });
            }
        }
        if let Some(reuse) = &self.reuse {
            let name = || self.name.clone();
            reuse.check().map_err(|source| CapabilityError::Reuse { name: name(), source })?;
        }
        self.attributes.iter().try_for_each(|(key, value)| self.check_attribute(key, value))
    }

    fn check_attribute(&self, key: &str, value: &Value) -> Result<(), CapabilityError> {
        let unknown_number =
            key.strip_prefix('#').is_some_and(|number| number.parse::<u16>().is_ok());
        if unknown_number {
            return Ok(()); // of a newer program's profile, see `wire`
        }
        let wrong = |source| CapabilityError::Attribute { name: self.name.clone(), source };
        let full = profile::canonical_key(key).map_err(wrong)?;
        let normal = match profile::lookup(key) {
            // Whoever skips the normaliser would be found by nobody who uses it.
            Some(spec) => {
                value.kind() == spec.kind
                    && spec.normaliser.apply(spec.kind, &value.to_json()).as_ref() == Ok(value)
            }
            None => true,
        };
        if full != key || !normal {
            return Err(CapabilityError::NotNormal {
                name: self.name.clone(),
                key: key.to_owned(),
            });
        }
        Ok(())
    }

    /// BLAKE3 of the canonical encoding: what receipts and grants name the capability by.
    pub fn hash(&self) -> Hash {
        Hash::of(&Canonical::encode(self))
    }

    /// The JSON view, for people and the local API.
    pub fn to_json(&self) -> Json {
        json!({
            "id": self.name,
            "title": self.title,
            "text": self.text,
            "examples": self.examples,
            "classes": self.classes,
            "tags": self.tags,
            "interface": {
                "input_schema": self.interface.input_schema(),
                "output_schema": self.interface.output_schema(),
                "digest": self.interface.digest().to_string(),
            },
            "data": self.attributes,
            "visibility": match self.visibility {
                Visibility::Public => "public",
                Visibility::Private => "private",
            },
            "idempotent": self.idempotent,
            "streaming": self.streaming,
            "data_version": self.data_version,
            "valid_for": self.valid_for.to_string(),
            "reuse": self.reuse.as_ref().map(Reuse::to_json),
            "hash": self.hash().to_string(),
        })
    }
}

/// Checks the spelling of a capability name.
pub(crate) fn check_name(name: &str) -> Result<(), CapabilityError> {
    let fits = (1..=MAX_NAME).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-._".contains(&b));
    if fits {
        return Ok(());
    }
    Err(CapabilityError::Name { name: name.chars().take(80).collect() })
}

impl Canonical for Capability {
    fn encode(&self) -> Vec<u8> {
        canonical::encode_minicbor(self)
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let capability: Self = canonical::decode_minicbor(bytes)?;
        capability.check_decoded()?;
        Ok(capability)
    }
}

impl Capability {
    /// [`Self::check`], and the schemas' bytes, as an error of decoding.
    pub(crate) fn check_decoded(&self) -> Result<(), DecodeError> {
        self.check().map_err(|error| DecodeError::Type { reason: error.to_string() })?;
        for schema in [&self.interface.input, &self.interface.output] {
            if schema.len() > MAX_SCHEMA {
                return Err(DecodeError::TooLong { length: schema.len(), max: MAX_SCHEMA });
            }
            let value = canonical::to_json(schema)?;
            if !value.is_object() && !value.is_boolean() {
                return Err(DecodeError::Type {
                    reason: "a JSON Schema is an object or a boolean".to_owned(),
                });
            }
        }
        Ok(())
    }
}
