//! Keys of outsiders that the operator trusts, read from files.

use std::fmt;

use comity_core::AgentId;
use data_encoding::{BASE64, HEXLOWER};
use p256::ecdsa::signature::Verifier as _;
use p256::ecdsa::{Signature, VerifyingKey};
use sha2::{Digest as _, Sha256};

/// Most keys that are trusted for one kind of evidence.
pub const MAX_KEYS: usize = 64;
/// Longest key file, in bytes.
const MAX_FILE: usize = 64 * 1024;
const BEGIN: &str = "-----BEGIN PUBLIC KEY-----";
const END: &str = "-----END PUBLIC KEY-----";
/// The `SubjectPublicKeyInfo` (RFC 5280) of an Ed25519 key up to its 32 bytes (RFC 8410 section 4).
const ED25519_SPKI: [u8; 12] =
    [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// The same of a key on P-256 up to its uncompressed point of 65 bytes (RFC 5480 section 2).
const P256_SPKI: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// A key that outsiders sign with.
#[derive(Clone, PartialEq)]
pub enum PublicKey {
    /// Ed25519, by comity's own strict rules.
    Ed25519(AgentId),
    /// ECDSA on P-256 with SHA-256, signatures in ASN.1.
    P256(Box<VerifyingKey>),
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ed25519(_) => "PublicKey::Ed25519",
            Self::P256(_) => "PublicKey::P256",
        })
    }
}

impl PublicKey {
    /// Whether the signature holds.
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Ed25519(key) => {
                signature.try_into().is_ok_and(|bytes| key.verify(message, bytes).is_ok())
            }
            Self::P256(key) => Signature::from_der(signature)
                .is_ok_and(|signature| key.verify(message, &signature).is_ok()),
        }
    }

    /// Reads a `SubjectPublicKeyInfo` (RFC 5280) of an Ed25519 key or of one on P-256; none for any other.
    #[must_use]
    pub fn from_spki(der: &[u8]) -> Option<Self> {
        if let Some(key) = der.strip_prefix(&ED25519_SPKI) {
            AgentId::from_bytes(key.try_into().ok()?).ok().map(Self::Ed25519)
        } else if let Some(point) = der.strip_prefix(&P256_SPKI) {
            VerifyingKey::from_sec1_bytes(point).ok().map(|key| Self::P256(Box::new(key)))
        } else {
            None
        }
    }
}

/// Why a key file is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyFileError {
    /// There is no key in it.
    #[error("`{name}` holds no public key: it must be PEM and begin with {BEGIN}")]
    NoKey {
        /// The file.
        name: String,
    },
    /// A block is not PEM of a key.
    #[error(
        "public key {index} in `{name}` is not readable: only Ed25519 and ECDSA P-256 keys are (PEM, SubjectPublicKeyInfo)"
    )]
    Unreadable {
        /// The file.
        name: String,
        /// Which, from 1.
        index: usize,
    },
    /// Too long or too many keys.
    #[error("`{name}` is too long, or there are more than {MAX_KEYS} keys")]
    TooMany {
        /// The file.
        name: String,
    },
}

#[derive(Clone, Debug)]
struct Trusted {
    name: String,
    /// What signers call a key: SHA-256, in hex, of its DER or of its PEM text.
    ids: [String; 2],
    key: PublicKey,
}

/// The keys that an operator trusts for some kind of evidence.
#[derive(Clone, Debug, Default)]
pub struct TrustedKeys {
    keys: Vec<Trusted>,
}

impl TrustedKeys {
    /// None: nothing is believed.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the keys of a PEM file; `name` is what facts will say whose word they are.
    ///
    /// # Errors
    /// [`KeyFileError`].
    pub fn add_pem(&mut self, name: &str, text: &str) -> Result<(), KeyFileError> {
        if text.len() > MAX_FILE {
            return Err(KeyFileError::TooMany { name: name.to_owned() });
        }
        let mut rest = text;
        let mut index = 0;
        while let Some(at) = rest.find(BEGIN) {
            index += 1;
            let block = &rest[at..];
            let unreadable = || KeyFileError::Unreadable { name: name.to_owned(), index };
            let end = block.find(END).ok_or_else(unreadable)?;
            let body: String = block[BEGIN.len()..end].split_whitespace().collect();
            let der = BASE64.decode(body.as_bytes()).map_err(|_| unreadable())?;
            let key = PublicKey::from_spki(&der).ok_or_else(unreadable)?;
            if self.keys.len() >= MAX_KEYS {
                return Err(KeyFileError::TooMany { name: name.to_owned() });
            }
            let pem = format!("{}\n", &block[..end + END.len()]);
            let id = |bytes: &[u8]| HEXLOWER.encode(&Sha256::digest(bytes));
            self.keys.push(Trusted {
                name: name.to_owned(),
                ids: [id(&der), id(pem.as_bytes())],
                key,
            });
            rest = &block[end..];
        }
        if index == 0 { Err(KeyFileError::NoKey { name: name.to_owned() }) } else { Ok(()) }
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The keys to try for a signature that says this of its key: those so called, else all.
    pub(super) fn candidates(&self, id: &str) -> impl Iterator<Item = (&str, &PublicKey)> {
        let called =
            |trusted: &&Trusted| trusted.name == id || trusted.ids.iter().any(|known| known == id);
        let named: Vec<&Trusted> = self.keys.iter().filter(called).collect();
        let chosen =
            if named.is_empty() || id.is_empty() { self.keys.iter().collect() } else { named };
        chosen.into_iter().map(|trusted: &Trusted| (trusted.name.as_str(), &trusted.key))
    }
}
