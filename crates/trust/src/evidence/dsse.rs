//! DSSE: JSON envelopes around statements of outsiders.
//!
//! `signature over "DSSEv1" SP len(type) SP type SP len(body) SP body`. Source: the DSSE protocol, v1.0
//! (github.com/secure-systems-lab/dsse). The body is looked at after a signature of a trusted key held, never before.

use data_encoding::{BASE64, BASE64URL};
use serde::Deserialize;

use super::keys::TrustedKeys;

/// Most signatures of an envelope.
pub const MAX_SIGNATURES: usize = 8;
/// Most keys that are tried on an envelope, all signatures together: each takes up to a quarter of a millisecond, and as much again to hash the
/// longest body. A signature that names its key needs one.
const MAX_TRIES: usize = 2;
/// The type of in-toto statements.
pub const IN_TOTO_TYPE: &str = "application/vnd.in-toto+json";

/// Why a DSSE envelope is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DsseError {
    /// Not JSON of an envelope.
    #[error("not a DSSE envelope: {0}")]
    Json(#[source] serde_json::Error),
    /// The body or a signature is not base64.
    #[error("the {0} is not base64")]
    Base64(&'static str),
    /// Of another type than expected.
    #[error("the envelope holds `{found}`, and `{IN_TOTO_TYPE}` is expected")]
    Type {
        /// Its type.
        found: String,
    },
    /// No signature or too many.
    #[error("{count} signatures, and an envelope has 1 to {MAX_SIGNATURES}")]
    Signatures {
        /// How many.
        count: usize,
    },
    /// No signature of a trusted key holds.
    #[error(
        "no signature by a trusted key holds ({trusted} keys are trusted for this, and {MAX_TRIES} tried where none is named): add the signer's public key, or do not believe it"
    )]
    Untrusted {
        /// How many keys are trusted.
        trusted: usize,
    },
}

#[derive(Deserialize)]
struct Envelope {
    payload: String,
    #[serde(rename = "payloadType")]
    payload_type: String,
    signatures: Vec<Signature>,
}

#[derive(Deserialize)]
struct Signature {
    #[serde(default)]
    keyid: String,
    sig: String,
}

/// A body that a trusted key signed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifiedDsse {
    /// The body.
    pub body: Vec<u8>,
    /// The name under which the key is trusted.
    pub signer: String,
}

/// An envelope taken apart, with nothing of it believed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DsseParts {
    /// The body.
    pub body: Vec<u8>,
    /// What was signed: [`pre_authentication`] of the body.
    pub message: Vec<u8>,
    /// What each signature says of its key, and the signature.
    pub signatures: Vec<(String, Vec<u8>)>,
}

impl DsseParts {
    /// Takes an envelope around an in-toto statement apart.
    ///
    /// # Errors
    /// [`DsseError`], never [`DsseError::Untrusted`].
    pub fn read(json: &[u8]) -> Result<Self, DsseError> {
        let envelope: Envelope = serde_json::from_slice(json).map_err(DsseError::Json)?;
        if envelope.payload_type != IN_TOTO_TYPE {
            let found = envelope.payload_type.chars().take(64).collect();
            return Err(DsseError::Type { found });
        }
        let count = envelope.signatures.len();
        if !(1..=MAX_SIGNATURES).contains(&count) {
            return Err(DsseError::Signatures { count });
        }
        let body = base64(&envelope.payload).ok_or(DsseError::Base64("body"))?;
        let message = pre_authentication(&envelope.payload_type, &body);
        let bytes = |signature: Signature| {
            let bytes = base64(&signature.sig).ok_or(DsseError::Base64("signature"))?;
            Ok((signature.keyid, bytes))
        };
        let signatures = envelope.signatures.into_iter().map(bytes).collect::<Result<_, _>>()?;
        Ok(Self { body, message, signatures })
    }

    /// The name under which the key of one of the signatures is trusted; `hint` names the key where the signature does not.
    ///
    /// # Errors
    /// [`DsseError::Untrusted`].
    pub fn signer<'k>(&self, keys: &'k TrustedKeys, hint: &str) -> Result<&'k str, DsseError> {
        let mut tries = 0;
        for (id, signature) in &self.signatures {
            let id = if id.is_empty() { hint } else { id };
            for (name, key) in keys.candidates(id) {
                tries += 1;
                if tries > MAX_TRIES {
                    break;
                }
                if key.verifies(&self.message, signature) {
                    return Ok(name);
                }
            }
        }
        Err(DsseError::Untrusted { trusted: keys.len() })
    }
}

/// Opens an envelope around an in-toto statement that one of `keys` signed; `hint` names the key where the signature does not.
///
/// # Errors
/// [`DsseError`].
pub fn open_dsse(json: &[u8], keys: &TrustedKeys, hint: &str) -> Result<VerifiedDsse, DsseError> {
    let parts = DsseParts::read(json)?;
    let signer = parts.signer(keys, hint)?.to_owned();
    Ok(VerifiedDsse { body: parts.body, signer })
}

/// What a DSSE signature is over.
#[must_use]
pub fn pre_authentication(kind: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {kind} {} ", kind.len(), body.len());
    [head.as_bytes(), body].concat()
}

/// Standard or URL-safe base64, padded: signers write either.
fn base64(text: &str) -> Option<Vec<u8>> {
    BASE64.decode(text.as_bytes()).or_else(|_| BASE64URL.decode(text.as_bytes())).ok()
}
