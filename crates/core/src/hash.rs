//! Content hashes: BLAKE3 for everything of ours, SHA-256 for what outsiders hash too.

use std::fmt;
use std::str::FromStr;

use sha2::Digest as _;

use crate::canonical::byte_newtype_codec;
use crate::text::{self, TextError};

/// A 256-bit BLAKE3 hash; text form `b3:` and 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// BLAKE3 of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// BLAKE3 in key-derivation mode: a hash of `parts`, laid end to end, that no other `context` can produce.
    ///
    /// `context` is a constant of the program, never input (BLAKE3 paper, section 2.3). The parts are not delimited:
    /// callers give parts of fixed length, or one alone.
    #[must_use]
    pub fn derive(context: &'static str, parts: &[&[u8]]) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key(context);
        for part in parts {
            hasher.update(part);
        }
        Self(*hasher.finalize().as_bytes())
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// A 256-bit SHA-256 digest, of an interface (its two JSON Schemas); text form `sha256:` and 64 lower-case hex digits.
///
/// Interfaces come from outside (MCP and A2A tools), where SHA-256 is what others compute for the same bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sha256Digest(pub [u8; 32]);

impl Sha256Digest {
    /// SHA-256 of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(sha2::Sha256::digest(bytes).into())
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// Why a text is no hash.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HashTextError {
    /// The algorithm prefix is missing or another one.
    #[error(
        "a hash of this kind is written `{expected}` and 64 hex digits; this text does not begin with `{expected}`"
    )]
    Prefix {
        /// The prefix wanted.
        expected: &'static str,
    },
    /// What follows the prefix is not 64 hex digits.
    #[error("after the prefix a hash has 64 hex digits: copy it again, whole")]
    Digits(#[source] TextError),
}

macro_rules! prefixed_hex {
    ($name:ident, $prefix:literal) => {
        byte_newtype_codec!($name, 32);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), text::hex_encode(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = HashTextError;

            fn from_str(s: &str) -> Result<Self, HashTextError> {
                let digits =
                    s.strip_prefix($prefix).ok_or(HashTextError::Prefix { expected: $prefix })?;
                text::hex_decode(digits).map(Self).map_err(HashTextError::Digits)
            }
        }

        crate::text::serde_as_text!($name);
    };
}

prefixed_hex!(Hash, "b3:");
prefixed_hex!(Sha256Digest, "sha256:");
