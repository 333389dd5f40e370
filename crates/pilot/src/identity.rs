//! The Ed25519 identity of a Pilot node, in the file format of Pilot's own daemons.

use data_encoding::BASE64;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// A node's key pair. A registry binds it to a node id; nothing in the id shows the key.
#[derive(Clone)]
pub struct Identity(SigningKey);

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Identity({})", self.public_text())
    }
}

/// Why a text is no identity or no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// No JSON object with `public_key` and `private_key`.
    #[error("a Pilot identity file is a JSON object with public_key and private_key")]
    Format,
    /// Not base64 (standard alphabet, padding) of the right length.
    #[error("a Pilot key is base64 (standard alphabet, with padding) of {0} bytes")]
    Key(usize),
    /// The two halves of the private key do not belong together.
    #[error("the public key of the identity file does not belong to its private key")]
    Mismatch,
    /// Not a point on the curve, or one of small order.
    #[error("that is no usable Ed25519 public key")]
    Weak,
}

#[derive(Serialize, Deserialize)]
struct File {
    public_key: String,
    private_key: String,
}

impl Identity {
    /// From a 32-byte seed.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// Reads `identity.json` as Pilot writes it.
    ///
    /// # Errors
    /// See [`IdentityError`].
    pub fn from_file_text(text: &str) -> Result<Self, IdentityError> {
        let file: File = serde_json::from_str(text).map_err(|_json| IdentityError::Format)?;
        let private = Zeroizing::new(
            BASE64.decode(file.private_key.as_bytes()).map_err(|_text| IdentityError::Key(64))?,
        );
        let pair: &[u8; 64] =
            private.as_slice().try_into().map_err(|_length| IdentityError::Key(64))?;
        let key =
            SigningKey::from_keypair_bytes(pair).map_err(|_halves| IdentityError::Mismatch)?;
        if parse_key(&file.public_key)? != key.verifying_key() {
            return Err(IdentityError::Mismatch);
        }
        Ok(Self(key))
    }

    /// What [`Identity::from_file_text`] reads. Secret: to be written with mode 0600 only.
    #[must_use]
    pub fn to_file_text(&self) -> Zeroizing<String> {
        let pair = Zeroizing::new(self.0.to_keypair_bytes());
        let file =
            File { public_key: self.public_text(), private_key: BASE64.encode(pair.as_slice()) };
        Zeroizing::new(serde_json::to_string(&file).expect("two strings are JSON"))
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> VerifyingKey {
        self.0.verifying_key()
    }

    /// The public half as text.
    #[must_use]
    pub fn public_text(&self) -> String {
        key_text(&self.public())
    }

    /// A plain Ed25519 signature over `text`, as base64.
    #[must_use]
    pub fn sign_text(&self, text: &str) -> String {
        BASE64.encode(&self.0.sign(text.as_bytes()).to_bytes())
    }

    /// The key, for what signs bytes.
    #[must_use]
    pub const fn signing_key(&self) -> &SigningKey {
        &self.0
    }
}

/// A public key as the base64 of the wire.
#[must_use]
pub fn key_text(key: &VerifyingKey) -> String {
    BASE64.encode(key.as_bytes())
}

/// Reads [`key_text`].
///
/// # Errors
/// [`IdentityError::Key`] and [`IdentityError::Weak`].
pub fn parse_key(text: &str) -> Result<VerifyingKey, IdentityError> {
    let bytes = BASE64.decode(text.as_bytes()).map_err(|_text| IdentityError::Key(32))?;
    key_from_bytes(&bytes)
}

/// A public key from its 32 bytes.
///
/// # Errors
/// [`IdentityError::Key`] and [`IdentityError::Weak`].
pub fn key_from_bytes(bytes: &[u8]) -> Result<VerifyingKey, IdentityError> {
    let bytes: &[u8; 32] = bytes.try_into().map_err(|_length| IdentityError::Key(32))?;
    let key = VerifyingKey::from_bytes(bytes).map_err(|_point| IdentityError::Weak)?;
    if key.is_weak() { Err(IdentityError::Weak) } else { Ok(key) }
}

/// Whether `signature` (base64) is `key`'s over `text`. Strict verification.
#[must_use]
pub fn verify_text(key: &VerifyingKey, text: &str, signature: &str) -> bool {
    let Ok(bytes) = BASE64.decode(signature.as_bytes()) else { return false };
    let Ok(bytes) = <[u8; 64]>::try_from(bytes.as_slice()) else { return false };
    key.verify_strict(text.as_bytes(), &Signature::from_bytes(&bytes)).is_ok()
}
