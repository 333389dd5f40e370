//! A bundle, and whose signature on it holds.

use comity_trust::evidence::{AppraisalError, DsseParts};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::certificate::{self, Identity, MAX_CERTIFICATE};
use super::entry::{Entry, Signed};
use super::root::TrustedRoot;
use super::{base64, malformed, untrusted};

/// Most log entries of a bundle.
const MAX_ENTRIES: usize = 4;
/// The forms of bundles that are read. Version 0.1 does not have to prove that the log has its entry.
const MEDIA_TYPES: [&str; 3] = [
    "application/vnd.dev.sigstore.bundle+json;version=0.2",
    "application/vnd.dev.sigstore.bundle+json;version=0.3",
    "application/vnd.dev.sigstore.bundle.v0.3+json",
];

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Bundle<'a> {
    #[serde(default)]
    media_type: String,
    verification_material: Material,
    #[serde(borrow)]
    dsse_envelope: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Material {
    public_key: Option<KeyHint>,
    certificate: Option<RawBytes>,
    #[serde(rename = "x509CertificateChain")]
    chain: Option<Chain>,
    #[serde(default)]
    tlog_entries: Vec<Entry>,
}

#[derive(Deserialize)]
struct KeyHint {
    #[serde(default)]
    hint: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawBytes {
    raw_bytes: String,
}

#[derive(Deserialize)]
struct Chain {
    certificates: Vec<RawBytes>,
}

impl<'a> Bundle<'a> {
    pub(crate) fn read(json: &'a [u8]) -> Result<Self, AppraisalError> {
        serde_json::from_slice(json)
            .map_err(|error| malformed(format!("no sigstore bundle: {error}")))
    }

    pub(crate) fn envelope(&self) -> Result<DsseParts, AppraisalError> {
        let envelope = self.dsse_envelope.ok_or_else(|| {
            AppraisalError::Nothing(
                "the bundle signs bare bytes, and no statement in DSSE".to_owned(),
            )
        })?;
        Ok(DsseParts::read(envelope.get().as_bytes())?)
    }

    /// What it says of the key it is signed with; none if it is signed with a certificate.
    pub(crate) fn key_hint(&self) -> Option<&str> {
        let key = self.verification_material.public_key.as_ref()?;
        Some(key.hint.as_deref().unwrap_or_default())
    }

    /// Checks all that a certificate needs, by the first of `roots` that knows the log and the authority. Returns whose it is.
    pub(crate) fn check(
        &self,
        parts: &DsseParts,
        roots: &[TrustedRoot],
        identities: &[Identity],
        now: u64,
    ) -> Result<Identity, AppraisalError> {
        if !MEDIA_TYPES.contains(&self.media_type.as_str()) {
            return Err(AppraisalError::Nothing(
                "a bundle of another version than 0.2 and 0.3".to_owned(),
            ));
        }
        let [(_, signature)] = parts.signatures.as_slice() else {
            return Err(malformed("a bundle's envelope has one signature"));
        };
        let certificate = self.certificate()?;
        let entries = &self.verification_material.tlog_entries;
        if entries.is_empty() || entries.len() > MAX_ENTRIES {
            return Err(untrusted(format!(
                "{} log entries, and 1 to {MAX_ENTRIES} are read: without one, nobody says when it was signed",
                entries.len()
            )));
        }
        let signed = Signed { body: &parts.body, signature, certificate: &certificate };
        let mut refused = untrusted("the policy file names no trusted root: set `roots`");
        for root in roots {
            for entry in entries {
                let found = entry.check(root, &signed, now).and_then(|at| {
                    certificate::check(
                        &certificate,
                        root,
                        identities,
                        at,
                        &parts.message,
                        signature,
                    )
                });
                match found {
                    Ok(identity) => return Ok(identity),
                    Err(error) => refused = error,
                }
            }
        }
        Err(refused)
    }

    fn certificate(&self) -> Result<Vec<u8>, AppraisalError> {
        let material = &self.verification_material;
        let leaf = match (&material.certificate, &material.chain) {
            (Some(certificate), None) => Some(certificate),
            // The root is the verifier's own; what leads to it comes from the trusted root too.
            (None, Some(chain)) => chain.certificates.first(),
            (Some(_), Some(_)) | (None, None) => None,
        };
        let leaf =
            leaf.ok_or_else(|| untrusted("the bundle names neither a key nor a certificate"))?;
        if leaf.raw_bytes.len() > MAX_CERTIFICATE.div_ceil(3) * 4 {
            return Err(malformed(format!("a certificate of more than {MAX_CERTIFICATE} bytes")));
        }
        base64(&leaf.raw_bytes, "certificate")
    }
}
