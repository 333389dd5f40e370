//! Quotes of Intel TDX.
//!
//! The evidence is deterministic CBOR `{0: quote, 1: collateral}`, the collateral being what Intel signs about its platforms (revocation lists, state of
//! firmware, identity of the quoting enclave) in the JSON of `dcap-qvl`. The agent brings it along, so that nobody is asked; it is Intel's word, and
//! refused when it is out of date. Only platforms that Intel calls up to date are believed, and no trust domain that can be debugged.
//!
//! Source: Intel TDX DCAP Quoting Library API; the crate `dcap-qvl`.

use std::collections::BTreeSet;

use comity_core::{Time, canonical};
use comity_trust::evidence::{
    AppraisalError, EvidenceVerifier, Fact, MAX_BLOB, Presented, check_json,
};
use dcap_qvl::verify::QuoteVerifier;
use dcap_qvl::{QuoteCollateralV3, QuotePolicy};

use crate::pack::Quoted;
use crate::quote::{Quote, fact};

/// Longest quote, in bytes: those in use have 5 KiB.
const MAX_QUOTE: usize = 16 * 1024;
/// Longest collateral, in bytes: that in use has 24 KiB.
const MAX_COLLATERAL: usize = 48 * 1024;
const _: () = assert!(MAX_COLLATERAL < MAX_BLOB);

/// Reads evidence of kind `tdx`.
pub struct TdxQuotes {
    verifier: QuoteVerifier,
    accept: BTreeSet<String>,
}

impl std::fmt::Debug for TdxQuotes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TdxQuotes").field("accept", &self.accept).finish_non_exhaustive()
    }
}

impl TdxQuotes {
    /// Believes Intel about code of these measurements (MRTD), in hex.
    #[must_use]
    pub fn new(accept: BTreeSet<String>) -> Self {
        Self { verifier: QuoteVerifier::new_prod(), accept }
    }

    /// The same by another root certificate (DER).
    #[must_use]
    pub fn with_root(accept: BTreeSet<String>, root: Vec<u8>) -> Self {
        Self { verifier: QuoteVerifier::new(root), accept }
    }

    /// Verifies a quote, whatever it is bound to.
    ///
    /// # Errors
    /// [`AppraisalError`].
    pub fn verify(&self, blob: &[u8], now: Time) -> Result<Quote, AppraisalError> {
        let blob: Quoted = canonical::decode_minicbor(blob).map_err(|error| {
            AppraisalError::Malformed(format!("not a quote and its collateral: {error}"))
        })?;
        if blob.quote.len() > MAX_QUOTE {
            let text =
                format!("a quote of {} bytes, and at most {MAX_QUOTE} are read", blob.quote.len());
            return Err(AppraisalError::Malformed(text));
        }
        check_json(blob.collateral.as_bytes(), MAX_COLLATERAL)?;
        let collateral: QuoteCollateralV3 = serde_json::from_str(&blob.collateral)
            .map_err(|error| AppraisalError::Malformed(format!("the collateral: {error}")))?;
        for signed in [&collateral.tcb_info, &collateral.qe_identity] {
            check_json(signed.as_bytes(), MAX_COLLATERAL)?;
        }
        // Hosts of clouds have several packages, hyper-threads, and keys kept at registration: Intel's word on them is the state of the platform.
        let policy = QuotePolicy::strict(now.as_secs())
            .allow_dynamic_platform(true)
            .allow_cached_keys(true)
            .allow_smt(true);
        let claims = self
            .verifier
            .verify_with_policy(&blob.quote, collateral, now.as_secs(), &policy)
            .map_err(|error| AppraisalError::Untrusted(shown(&format!("{error:#}"))))?;
        let report = claims
            .report
            .as_td10()
            .ok_or_else(|| AppraisalError::Nothing("a quote of SGX, not of TDX".to_owned()))?;
        let platform = format!("Intel TDX, {}", claims.tcb.status);
        Ok(Quote { report_data: report.report_data, measurement: report.mr_td.to_vec(), platform })
    }
}

/// Errors of the crate repeat what strangers wrote.
fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(256).collect()
}

impl EvidenceVerifier for TdxQuotes {
    fn kind(&self) -> &'static str {
        "tdx"
    }

    fn appraise(&self, presented: &Presented, now: Time) -> Result<Vec<Fact>, AppraisalError> {
        let quote = self.verify(&presented.evidence.blob, now)?;
        fact(self.kind(), "Intel", quote, &self.accept, presented)
    }
}
