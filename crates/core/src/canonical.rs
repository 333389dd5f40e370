//! Deterministic CBOR: the one encoding of everything that is signed or hashed.
//!
//! Two rules make equal things have equal bytes, and so equal hashes and signatures:
//!
//! 1. The *shape* is that of RFC 8949 section 4.2.1: shortest heads, definite lengths, map keys strictly ascending
//!    in the byte order of their encodings, nothing after the item. Besides, there are no tags and no `undefined`,
//!    and outside of [`from_json`] no floats. [`check`] enforces this for any bytes.
//! 2. The *type* encodes back to the very bytes it was decoded from: [`Canonical::decode`] compares. This refuses what
//!    no rule about shape can see, such as unknown fields, optional fields spelled out as null, or unsorted sets.
//!
//! Source: TRUST.md section 2.4 and T31.

mod json;
mod reader;

use minicbor::encode::write::Cursor;

pub use json::{JsonError, MAX_JSON_DEPTH, from_json, hash_json, to_json};
pub use reader::{Floats, check};

/// Deepest nesting of arrays and maps in a signed payload.
pub const MAX_DEPTH: usize = 16;

/// A type with exactly one encoding of each value.
///
/// Implement it with [`impl_canonical!`](crate::impl_canonical) for types that derive minicbor's `Encode` and `Decode`
/// with `#[cbor(map)]` and integer keys; by hand only where a type has more to check. Derive them by path
/// (`#[derive(minicbor::Encode, minicbor::Decode)]`): with minicbor's traits imported too, `value.encode()` is ambiguous.
pub trait Canonical: Sized {
    /// The one encoding of `self`.
    fn encode(&self) -> Vec<u8>;

    /// The value that has exactly this encoding.
    ///
    /// # Errors
    /// [`DecodeError`] for any other bytes; in particular `decode(bytes)?.encode() == bytes` holds.
    fn decode(bytes: &[u8]) -> Result<Self, DecodeError>;
}

/// Why bytes are not the canonical encoding of a value. Offsets count bytes from the start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The item ends before it is whole.
    #[error("the data is cut short: it ends at byte {offset} inside an item")]
    Truncated {
        /// Where the data ends.
        offset: usize,
    },
    /// Bytes follow the item.
    #[error("{count} bytes follow the item that ends at byte {offset}")]
    Trailing {
        /// Where the item ends.
        offset: usize,
        /// How many bytes follow.
        count: usize,
    },
    /// A head, number or length has a shorter spelling.
    #[error("a number or length at byte {offset} is not spelled the shortest way")]
    NotShortest {
        /// Where it begins.
        offset: usize,
    },
    /// A string, array or map of indefinite length.
    #[error("an item of indefinite length at byte {offset}")]
    Indefinite {
        /// Where it begins.
        offset: usize,
    },
    /// A map key appears twice.
    #[error("a map key appears a second time at byte {offset}")]
    DuplicateKey {
        /// Where the second begins.
        offset: usize,
    },
    /// A map key belongs before the one in front of it.
    #[error("the map key at byte {offset} is out of order")]
    UnsortedKey {
        /// Where it begins.
        offset: usize,
    },
    /// Nested deeper than allowed.
    #[error("nested deeper than {max} levels at byte {offset}")]
    TooDeep {
        /// Where the level too many begins.
        offset: usize,
        /// The limit.
        max: usize,
    },
    /// CBOR that canonical data never has: tags, `undefined`, other simple values, reserved heads, non-finite numbers,
    /// floats where none are allowed, map keys that are neither integer, byte string nor text.
    #[error("{what} at byte {offset} is not allowed here")]
    Forbidden {
        /// Where it begins.
        offset: usize,
        /// What it is.
        what: &'static str,
    },
    /// A text string that is not UTF-8.
    #[error("the text at byte {offset} is not UTF-8")]
    Utf8 {
        /// Where it begins.
        offset: usize,
    },
    /// Longer than this type ever is.
    #[error("{length} bytes, more than the {max} that this kind of data may have")]
    TooLong {
        /// Length found.
        length: usize,
        /// The limit.
        max: usize,
    },
    /// Well-formed, but not this type: a missing or mistyped field, or a value outside its range.
    #[error("well-formed data, but not of the expected type: {reason}")]
    Type {
        /// What the typed decoder says.
        reason: String,
    },
    /// Decodes to a value that is encoded differently: unknown fields, spelled-out absences, unsorted sets.
    #[error(
        "not the canonical encoding of its value: it has unknown fields or spells something a second way"
    )]
    NotCanonical,
}

/// Encodes a minicbor type whose `Encode` writes canonical form: structs as `#[cbor(map)]` or `#[cbor(array)]`, maps
/// with text keys through [`sorted_map`].
///
/// # Panics
/// When `Encode` returns an error of its own making. Writing to a vector cannot fail and derived code makes no errors;
/// a hand-written `Encode` must not either: check values where they are made, not where they are written.
pub fn encode_minicbor<T: minicbor::Encode<()>>(value: &T) -> Vec<u8> {
    // Most are short: written here first, they take one allocation of their length.
    let mut short = Cursor::new([0; SHORT_LEN]);
    if minicbor::encode(value, &mut short).is_ok() {
        return short.get_ref()[..short.position()].to_vec();
    }
    minicbor::to_vec(value)
        .expect("encoding into a vector fails only by an error that an Encode of ours makes up")
}

/// What is no longer is encoded without growing a vector on the way, in bytes.
const SHORT_LEN: usize = 1024;

/// Takes what is written as long as it is what is expected.
struct Same<'b> {
    left: &'b [u8],
}

/// Something else was written.
#[derive(Debug)]
struct Differs;

impl minicbor::encode::Write for Same<'_> {
    type Error = Differs;

    fn write_all(&mut self, bytes: &[u8]) -> Result<(), Differs> {
        self.left = self.left.strip_prefix(bytes).ok_or(Differs)?;
        Ok(())
    }
}

/// Decodes a minicbor type under both rules of the [module](self), nested at most [`MAX_DEPTH`] deep.
///
/// # Errors
/// [`DecodeError`] when `bytes` are not exactly what [`encode_minicbor`] makes of a value.
pub fn decode_minicbor<'b, T>(bytes: &'b [u8]) -> Result<T, DecodeError>
where
    T: minicbor::Encode<()> + minicbor::Decode<'b, ()>,
{
    check(bytes, MAX_DEPTH, Floats::Refused)?;
    let value: T =
        minicbor::decode(bytes).map_err(|error| DecodeError::Type { reason: describe(&error) })?;
    let mut same = Same { left: bytes };
    match minicbor::encode(&value, &mut same) {
        Ok(()) if same.left.is_empty() => Ok(value),
        Ok(()) | Err(_) => Err(DecodeError::NotCanonical),
    }
}

/// A minicbor error with its causes, since its own text leaves a custom cause out.
fn describe(error: &minicbor::decode::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// Implements [`Canonical`] for types that have minicbor's `Encode<()>` and `Decode<'_, ()>`.
///
/// ```
/// use comity_core::{Canonical, DecodeError};
///
/// #[derive(Debug, PartialEq, minicbor::Encode, minicbor::Decode)]
/// #[cbor(map)]
/// struct Point {
///     #[n(0)]
///     x: u8,
///     #[n(1)]
///     y: Option<u8>,
/// }
/// comity_core::impl_canonical!(Point);
///
/// let bytes = Canonical::encode(&Point { x: 7, y: None });
/// assert_eq!(bytes, [0xa1, 0x00, 0x07]);
/// assert_eq!(<Point as Canonical>::decode(&bytes), Ok(Point { x: 7, y: None }));
/// assert_eq!(<Point as Canonical>::decode(&[0xa1, 0x00, 0x18, 0x07]), Err(DecodeError::NotShortest { offset: 2 }));
/// ```
#[macro_export]
macro_rules! impl_canonical {
    ($($name:ty),+ $(,)?) => {
        $(
            impl $crate::canonical::Canonical for $name {
                fn encode(&self) -> ::std::vec::Vec<u8> {
                    $crate::canonical::encode_minicbor(self)
                }

                fn decode(bytes: &[u8]) -> ::std::result::Result<Self, $crate::canonical::DecodeError> {
                    $crate::canonical::decode_minicbor(bytes)
                }
            }
        )+
    };
}

/// The format version inside a payload: encodes as the number `N`, decodes from no other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version<const N: u64>;

impl<C, const N: u64> minicbor::Encode<C> for Version<N> {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _ctx: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.u64(N)?.ok()
    }
}

impl<'b, C, const N: u64> minicbor::Decode<'b, C> for Version<N> {
    fn decode(
        d: &mut minicbor::Decoder<'b>,
        _ctx: &mut C,
    ) -> Result<Self, minicbor::decode::Error> {
        let position = d.position();
        match d.u64()? {
            version if version == N => Ok(Self),
            version => Err(minicbor::decode::Error::message(format!(
                "format version {version}, and this program reads version {N}: update the older of the two"
            ))
            .at(position)),
        }
    }
}

/// For `#[cbor(with = "comity_core::canonical::sorted_map")]` on a `BTreeMap<String, V>`.
///
/// RFC 8949 orders keys by their encoding, in which the length comes first (`"b"` before `"aa"`); the map's own order
/// is alphabetical, and written in that order it would be refused.
pub mod sorted_map {
    use std::collections::BTreeMap;

    use minicbor::encode::{Error as EncodeError, Write};
    use minicbor::{Decode, Decoder, Encode, Encoder};

    /// Writes the entries ordered by length of key, then alphabetically.
    ///
    /// # Errors
    /// Those of the writer and of `V`.
    pub fn encode<C, V: Encode<C>, W: Write>(
        map: &BTreeMap<String, V>,
        e: &mut Encoder<W>,
        ctx: &mut C,
    ) -> Result<(), EncodeError<W::Error>> {
        let mut entries: Vec<_> = map.iter().collect();
        entries.sort_by_key(|(key, _)| (key.len(), key.as_str()));
        e.map(u64::try_from(entries.len()).unwrap_or(u64::MAX))?;
        for (key, value) in entries {
            e.str(key)?;
            value.encode(e, ctx)?;
        }
        Ok(())
    }

    /// Reads a map of definite length.
    ///
    /// # Errors
    /// Those of the reader and of `V`.
    pub fn decode<'b, C, V: Decode<'b, C>>(
        d: &mut Decoder<'b>,
        ctx: &mut C,
    ) -> Result<BTreeMap<String, V>, minicbor::decode::Error> {
        BTreeMap::decode(d, ctx)
    }

    /// Never absent: an empty map is written.
    #[must_use]
    pub fn nil<V>() -> Option<BTreeMap<String, V>> {
        None
    }

    /// Never absent: an empty map is written.
    #[must_use]
    pub fn is_nil<V>(_map: &BTreeMap<String, V>) -> bool {
        false
    }
}

/// Encodes and decodes a newtype over `[u8; N]` as a byte string of exactly that length.
macro_rules! byte_newtype_codec {
    ($name:ident, $len:literal) => {
        impl<C> minicbor::Encode<C> for $name {
            fn encode<W: minicbor::encode::Write>(
                &self,
                e: &mut minicbor::Encoder<W>,
                _ctx: &mut C,
            ) -> Result<(), minicbor::encode::Error<W::Error>> {
                e.bytes(&self.0)?.ok()
            }
        }

        impl<'b, C> minicbor::Decode<'b, C> for $name {
            fn decode(
                d: &mut minicbor::Decoder<'b>,
                _ctx: &mut C,
            ) -> Result<Self, minicbor::decode::Error> {
                let position = d.position();
                <[u8; $len]>::try_from(d.bytes()?).map(Self).map_err(|_| {
                    let name = stringify!($name);
                    minicbor::decode::Error::message(format!("{name} has {} bytes", $len))
                        .at(position)
                })
            }
        }
    };
}
pub(crate) use byte_newtype_codec;
