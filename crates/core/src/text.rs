//! The text forms of a 256-bit key.
//!
//! One key, several spellings, so that a comity agent can be named in the vocabulary of whatever system points at it.
//! Every form is a bijection on 32-byte strings: a decoder refuses whatever its encoder does not produce, except
//! letter case where the form's own rules say that case does not matter (hex, z-base-32, onion names).
//! The functions here move bytes; whether the bytes are an acceptable key is decided by
//! [`AgentId::from_bytes`](crate::AgentId::from_bytes).

use std::sync::LazyLock;

use data_encoding::{BASE32_NOPAD, Encoding, HEXLOWER, HEXLOWER_PERMISSIVE, Specification};
use sha3::Digest as _;

/// Length of every key in bytes.
const KEY_LEN: usize = 32;
/// Characters of a key in z-base-32, five bits each.
const ZBASE32_KEY_LEN: usize = 52;
/// Longest text a decoder looks at, in bytes; the longest form, a Tor onion name, has 62. Base58 is quadratic in its
/// input, so the bound comes before the decoding.
pub const MAX_TEXT_LEN: usize = 128;

/// z-base-32 (Zooko O'Whielacronx, "Human-oriented base-32 encoding", 2009); unused trailing bits must be zero.
static ZBASE32: LazyLock<Encoding> = LazyLock::new(|| {
    let mut specification = Specification::new();
    specification.symbols.push_str("ybndrfg8ejkmcpqxot1uwisza345h769");
    specification.translate.from.push_str("YBNDRFGEJKMCPQXOTUWISZAH");
    specification.translate.to.push_str("ybndrfgejkmcpqxotuwiszah");
    specification
        .encoding()
        .expect("32 distinct symbols and their capitals are a valid base-32 alphabet")
});

/// Protobuf of a libp2p public key: field 1 (type) = 1 (Ed25519), field 2 (data) = 32 bytes; wrapped in a multihash
/// with code 0x00 (identity) and length 36. Source: libp2p specs, `peer-ids/peer-ids.md`.
const PEER_ID_PREFIX: [u8; 6] = [0x00, 0x24, 0x08, 0x01, 0x12, 0x20];
/// CID version 1 and multicodec `libp2p-key` (0x72). Source: multiformats CID specification; libp2p `peer-ids.md`.
const PEER_CID_PREFIX: [u8; 2] = [0x01, 0x72];
/// Multicodec `ed25519-pub` (0xed) as an unsigned varint. Source: W3C CCG, "The did:key Method", section 3.
const DID_KEY_PREFIX: [u8; 2] = [0xed, 0x01];
const DID_KEY_SCHEME: &str = "did:key:";
/// Source: Tor specifications, `rend-spec/encoding-onion-addresses.md`.
const ONION_VERSION: u8 = 3;
const ONION_CHECKSUM_LABEL: &[u8] = b".onion checksum";
const ONION_SUFFIX: &str = ".onion";
const ONION_CHECKSUM_LEN: usize = 2;

/// Why a text is not the form it was read as.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// Longer than any key text.
    #[error("{length} bytes is longer than any form of a key ({MAX_TEXT_LEN}): give the key alone")]
    TooLong {
        /// Length of the text in bytes.
        length: usize,
    },
    /// A character outside the alphabet, or leftover bits that are not zero.
    #[error("not valid {form} text: copy it again, whole and unchanged")]
    Alphabet {
        /// Name of the form.
        form: &'static str,
    },
    /// The text decodes to another number of bytes than the form has.
    #[error(
        "{form} text of a key carries {expected} bytes, this one {found}: it is cut short or something is attached"
    )]
    Length {
        /// Name of the form.
        form: &'static str,
        /// Bytes that the form carries.
        expected: usize,
        /// Bytes found.
        found: usize,
    },
    /// The prefix names something else than an Ed25519 key (another key type, another codec, another version).
    #[error("this {form} does not name an Ed25519 key: ask for the Ed25519 form")]
    Prefix {
        /// Name of the form.
        form: &'static str,
    },
    /// The checksum inside the text does not fit the key.
    #[error("the checksum in this {form} is wrong: a character was mistyped")]
    Checksum {
        /// Name of the form.
        form: &'static str,
    },
}

/// The text forms of a key, for tools that let a user choose one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Form {
    /// 64 lower-case hex digits.
    Hex,
    /// 52 characters of z-base-32: comity's own form.
    ZBase32,
    /// libp2p peer id in base58btc, `12D3Koo…`.
    PeerIdBase58,
    /// libp2p peer id as a CIDv1 in base32, `bafz…`.
    PeerIdCid,
    /// Tor v3 onion name with `.onion`.
    OnionV3,
    /// `did:key:z6Mk…`.
    DidKey,
}

impl Form {
    /// Every form, in the order tools print them.
    pub const ALL: [Self; 6] = [
        Self::ZBase32,
        Self::Hex,
        Self::DidKey,
        Self::PeerIdBase58,
        Self::PeerIdCid,
        Self::OnionV3,
    ];

    /// Name of the form, as used in errors and tools.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hex => "hex",
            Self::ZBase32 => "z-base-32",
            Self::PeerIdBase58 => "libp2p peer id",
            Self::PeerIdCid => "libp2p peer id CID",
            Self::OnionV3 => "onion v3 name",
            Self::DidKey => "did:key",
        }
    }

    /// `key` in this form.
    #[must_use]
    pub fn encode(self, key: &[u8; KEY_LEN]) -> String {
        match self {
            Self::Hex => hex_encode(key),
            Self::ZBase32 => zbase32_encode(key),
            Self::PeerIdBase58 => peer_id_base58_encode(key),
            Self::PeerIdCid => peer_id_cid_encode(key),
            Self::OnionV3 => onion_v3_encode(key),
            Self::DidKey => did_key_encode(key),
        }
    }

    /// The 32 bytes that `text` spells in this form.
    ///
    /// # Errors
    /// [`TextError`] when `text` is not this form of an Ed25519 key.
    pub fn decode(self, text: &str) -> Result<[u8; KEY_LEN], TextError> {
        match self {
            Self::Hex => hex_decode(text),
            Self::ZBase32 => zbase32_decode(text),
            Self::PeerIdBase58 => peer_id_base58_decode(text),
            Self::PeerIdCid => peer_id_cid_decode(text),
            Self::OnionV3 => onion_v3_decode(text),
            Self::DidKey => did_key_decode(text),
        }
    }

    /// The form that `text` has the shape of, judged by prefix, suffix and length alone. The shapes do not overlap:
    /// hex has 64 characters; a base58 peer id begins with `12D3Koo`, and z-base-32 knows no `2`; z-base-32 may begin as a CID does and has another
    /// length.
    #[must_use]
    pub fn detect(text: &str) -> Option<Self> {
        let lower_suffix = text.len().checked_sub(ONION_SUFFIX.len()).and_then(|at| text.get(at..));
        if text.starts_with(DID_KEY_SCHEME) {
            Some(Self::DidKey)
        } else if lower_suffix.is_some_and(|suffix| suffix.eq_ignore_ascii_case(ONION_SUFFIX)) {
            Some(Self::OnionV3)
        } else if text.starts_with("12D3Koo") {
            Some(Self::PeerIdBase58)
        } else if text.starts_with("bafz") && text.len() != ZBASE32_KEY_LEN {
            Some(Self::PeerIdCid)
        } else {
            match text.len() {
                64 => Some(Self::Hex),
                ZBASE32_KEY_LEN => Some(Self::ZBase32),
                _ => None,
            }
        }
    }
}

/// Lower-case hex: 64 digits.
#[must_use]
pub fn hex_encode(key: &[u8; KEY_LEN]) -> String {
    HEXLOWER.encode(key)
}

/// 32 bytes from 64 hex digits of either case.
///
/// # Errors
/// [`TextError`] for another length or another character.
pub fn hex_decode(text: &str) -> Result<[u8; KEY_LEN], TextError> {
    exact(Form::Hex, &bounded(&HEXLOWER_PERMISSIVE, Form::Hex, text)?)
}

/// z-base-32: 52 lower-case characters.
#[must_use]
pub fn zbase32_encode(key: &[u8; KEY_LEN]) -> String {
    ZBASE32.encode(key)
}

/// 32 bytes from 52 characters of z-base-32, of either case; the last character's four unused bits must be zero.
///
/// # Errors
/// [`TextError`] for another length or another character.
pub fn zbase32_decode(text: &str) -> Result<[u8; KEY_LEN], TextError> {
    exact(Form::ZBase32, &bounded(&ZBASE32, Form::ZBase32, text)?)
}

/// libp2p peer id, the identity multihash in base58btc: `12D3Koo…`.
#[must_use]
pub fn peer_id_base58_encode(key: &[u8; KEY_LEN]) -> String {
    bs58::encode([&PEER_ID_PREFIX[..], key].concat()).into_string()
}

/// 32 bytes from a libp2p peer id in base58btc.
///
/// # Errors
/// [`TextError`] for other text, and for peer ids of other key types (`Qm…` and `16Uiu2…` carry no Ed25519 key).
pub fn peer_id_base58_decode(text: &str) -> Result<[u8; KEY_LEN], TextError> {
    strip(Form::PeerIdBase58, &[&PEER_ID_PREFIX], &base58(Form::PeerIdBase58, text)?)
}

/// libp2p peer id as CIDv1 with codec `libp2p-key`, multibase base32: `bafz…`.
#[must_use]
pub fn peer_id_cid_encode(key: &[u8; KEY_LEN]) -> String {
    let bytes = [&PEER_CID_PREFIX[..], &PEER_ID_PREFIX, key].concat();
    format!("b{}", BASE32_NOPAD.encode(&bytes).to_ascii_lowercase())
}

/// 32 bytes from a libp2p peer id in CIDv1 base32 form (lower case, as multibase `b` demands).
///
/// # Errors
/// [`TextError`] for other text, other codecs and other key types.
pub fn peer_id_cid_decode(text: &str) -> Result<[u8; KEY_LEN], TextError> {
    let form = Form::PeerIdCid;
    let digits = text.strip_prefix('b').ok_or_else(|| TextError::Prefix { form: form.name() })?;
    if digits.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err(TextError::Alphabet { form: form.name() });
    }
    let bytes = bounded(&BASE32_NOPAD, form, &digits.to_ascii_uppercase())?;
    strip(form, &[&PEER_CID_PREFIX, &PEER_ID_PREFIX], &bytes)
}

/// Tor v3 onion name: base32 of key, checksum and version, 56 lower-case characters, and `.onion`.
#[must_use]
pub fn onion_v3_encode(key: &[u8; KEY_LEN]) -> String {
    let bytes = [&key[..], &onion_checksum(key), &[ONION_VERSION]].concat();
    format!("{}{ONION_SUFFIX}", BASE32_NOPAD.encode(&bytes).to_ascii_lowercase())
}

/// 32 bytes from a Tor v3 onion name, of either case, with its `.onion`.
///
/// # Errors
/// [`TextError`] for other text, another version or a wrong checksum.
pub fn onion_v3_decode(text: &str) -> Result<[u8; KEY_LEN], TextError> {
    let form = Form::OnionV3;
    if text.len() > MAX_TEXT_LEN {
        return Err(TextError::TooLong { length: text.len() });
    }
    let lower = text.to_ascii_lowercase();
    let digits =
        lower.strip_suffix(ONION_SUFFIX).ok_or_else(|| TextError::Prefix { form: form.name() })?;
    let bytes = bounded(&BASE32_NOPAD, form, &digits.to_ascii_uppercase())?;
    let expected = KEY_LEN + ONION_CHECKSUM_LEN + 1;
    let length = TextError::Length { form: form.name(), expected, found: bytes.len() };
    let (key, rest) = bytes.split_first_chunk::<KEY_LEN>().ok_or_else(|| length.clone())?;
    let &[first, second, version] = rest else { return Err(length) };
    if version != ONION_VERSION {
        return Err(TextError::Prefix { form: form.name() });
    }
    if [first, second] != onion_checksum(key) {
        return Err(TextError::Checksum { form: form.name() });
    }
    Ok(*key)
}

/// `did:key:z6Mk…`: multicodec `ed25519-pub` and the key, multibase base58btc.
#[must_use]
pub fn did_key_encode(key: &[u8; KEY_LEN]) -> String {
    format!("{DID_KEY_SCHEME}z{}", bs58::encode([&DID_KEY_PREFIX[..], key].concat()).into_string())
}

/// 32 bytes from a `did:key` of an Ed25519 key; a fragment (`#…`) or path is refused, since it names more than a key.
///
/// # Errors
/// [`TextError`] for other text and other key types.
pub fn did_key_decode(text: &str) -> Result<[u8; KEY_LEN], TextError> {
    let form = Form::DidKey;
    let digits = text
        .strip_prefix(DID_KEY_SCHEME)
        .and_then(|rest| rest.strip_prefix('z'))
        .ok_or_else(|| TextError::Prefix { form: form.name() })?;
    strip(form, &[&DID_KEY_PREFIX], &base58(form, digits)?)
}

fn onion_checksum(key: &[u8; KEY_LEN]) -> [u8; ONION_CHECKSUM_LEN] {
    let digest = sha3::Sha3_256::new()
        .chain_update(ONION_CHECKSUM_LABEL)
        .chain_update(key)
        .chain_update([ONION_VERSION])
        .finalize();
    [digest[0], digest[1]]
}

fn bounded(encoding: &Encoding, form: Form, text: &str) -> Result<Vec<u8>, TextError> {
    if text.len() > MAX_TEXT_LEN {
        return Err(TextError::TooLong { length: text.len() });
    }
    encoding.decode(text.as_bytes()).map_err(|_| TextError::Alphabet { form: form.name() })
}

fn base58(form: Form, text: &str) -> Result<Vec<u8>, TextError> {
    if text.len() > MAX_TEXT_LEN {
        return Err(TextError::TooLong { length: text.len() });
    }
    bs58::decode(text).into_vec().map_err(|_| TextError::Alphabet { form: form.name() })
}

fn exact(form: Form, bytes: &[u8]) -> Result<[u8; KEY_LEN], TextError> {
    let length = TextError::Length { form: form.name(), expected: KEY_LEN, found: bytes.len() };
    bytes.try_into().map_err(|_| length)
}

fn strip(form: Form, prefixes: &[&[u8]], bytes: &[u8]) -> Result<[u8; KEY_LEN], TextError> {
    let mut rest = bytes;
    for prefix in prefixes {
        rest = rest.strip_prefix(*prefix).ok_or_else(|| TextError::Prefix { form: form.name() })?;
    }
    exact(form, rest)
}

/// Serialises a type as its `Display` text and reads it back through `FromStr`.
macro_rules! serde_as_text {
    ($name:ident) => {
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text =
                    <std::borrow::Cow<'de, str> as serde::Deserialize>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
pub(crate) use serde_as_text;
