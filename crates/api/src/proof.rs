//! A call kept as proof: question, answer and signed receipt in one JSON file that verifies offline.

use comity_core::canonical::{from_json, hash_json};
use comity_core::receipt::{ReceiptError, SignedReceipt, VerifiedReceipt};
use comity_core::{Canonical, DecodeError, Hash};
use data_encoding::HEXLOWER_PERMISSIVE;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::types::{Output, Proof};

/// A call kept as proof; written by `comity call --receipt FILE`, checked by `comity verify FILE`.
///
/// The response hash of a receipt is BLAKE3 over the canonical CBOR of the answer's items, laid end to end (one item
/// when the answer is a single value); the request hash is BLAKE3 over the request's canonical CBOR.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProofFile {
    /// Names the format; always `comity/proof/1`.
    pub format: ProofFormat,
    /// The request as it was asked.
    pub request: Value,
    /// The answer as it came.
    pub response: Output,
    /// The receipt, binary in hex and readable.
    pub proof: Proof,
}

/// The formats of proof files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProofFormat {
    /// The first.
    #[serde(rename = "comity/proof/1")]
    V1,
}

/// Why a proof proves nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProofError {
    /// The receipt is not the hex of a signed receipt's canonical CBOR.
    #[error("the receipt is not hexadecimal; the file is damaged")]
    NotHex,
    /// The receipt's bytes are no signed receipt.
    #[error("the receipt cannot be decoded: {0}")]
    Decode(DecodeError),
    /// Signature or batch path do not hold.
    #[error("the receipt does not verify: {}", with_cause(.0))]
    Receipt(ReceiptError),
    /// The request or answer is not something a call can carry.
    #[error("the {what} has no canonical form: {reason}")]
    NotCanonical {
        /// `request` or `response`.
        what: &'static str,
        /// Why.
        reason: String,
    },
    /// The receipt is about another request or answer.
    #[error("the receipt is about another {what}: it states {stated}, the {what} here is {actual}")]
    Mismatch {
        /// `request` or `response`.
        what: &'static str,
        /// The hash in the receipt.
        stated: Hash,
        /// The hash of what is here.
        actual: Hash,
    },
    /// The readable form beside the receipt says something else than the receipt.
    #[error(
        "the readable receipt says something else than the signed one; somebody changed the file"
    )]
    View,
}

impl ProofFile {
    /// Puts a call's parts together.
    #[must_use]
    pub fn new(request: Value, response: Output, proof: Proof) -> Self {
        Self { format: ProofFormat::V1, request, response, proof }
    }

    /// Checks everything: signature, batch path, that the receipt is about this request and this answer, and that the
    /// readable form is the receipt's. Uses nothing but the file.
    ///
    /// What it cannot say is who the callee ought to be: compare [`receipt.callee`](comity_core::receipt::Receipt) with
    /// whom you meant to ask.
    ///
    /// # Errors
    /// [`ProofError`] for the first check that fails.
    pub fn verify(&self) -> Result<VerifiedReceipt, ProofError> {
        let bytes = HEXLOWER_PERMISSIVE
            .decode(self.proof.receipt_cbor.as_bytes())
            .map_err(|_| ProofError::NotHex)?;
        let signed = SignedReceipt::decode(&bytes).map_err(ProofError::Decode)?;
        let verified = signed.verify().map_err(ProofError::Receipt)?;
        let request = hash_json(&self.request).map_err(|error| ProofError::NotCanonical {
            what: "request",
            reason: error.to_string(),
        })?;
        matches("request", verified.receipt.request, request)?;
        matches("response", verified.receipt.response, response_hash(&self.response)?)?;
        if Proof::from(&signed).receipt != self.proof.receipt {
            return Err(ProofError::View);
        }
        Ok(verified)
    }
}

fn response_hash(response: &Output) -> Result<Hash, ProofError> {
    let mut bytes = Vec::new();
    for item in response.items() {
        let item = from_json(item).map_err(|error| ProofError::NotCanonical {
            what: "response",
            reason: error.to_string(),
        })?;
        bytes.extend_from_slice(&item);
    }
    Ok(Hash::of(&bytes))
}

fn matches(what: &'static str, stated: Hash, actual: Hash) -> Result<(), ProofError> {
    if stated == actual { Ok(()) } else { Err(ProofError::Mismatch { what, stated, actual }) }
}

fn with_cause(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", with_cause(source)),
        None => error.to_string(),
    }
}
