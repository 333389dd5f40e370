//! Statements of outsiders: signed models and build provenance, signed with keys or with certificates.

use std::collections::BTreeSet;

use comity_core::Time;
use comity_trust::evidence::{
    AppraisalError, Attackers, Claim, DsseParts, EvidenceVerifier, Fact, MAX_BLOB, Presented,
    SignedModel, TrustedKeys, build_claims, check_json,
};

use crate::sigstore::bundle::Bundle;
use crate::sigstore::{Identity, TrustedRoot};

/// Longest bundle that is read from a file, in bytes: its body may be as long as a manifest may be.
pub const MAX_BUNDLE: usize = 6 << 20;

/// Who is believed about one kind of statement.
#[derive(Clone, Debug, Default)]
pub struct Authorities {
    /// Keys.
    pub keys: TrustedKeys,
    /// Logs and certificate authorities.
    pub roots: Vec<TrustedRoot>,
    /// Whose certificates count.
    pub identities: Vec<Identity>,
}

/// A statement whose signature holds.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Statement {
    /// The in-toto statement, in JSON.
    pub body: Vec<u8>,
    /// Whose word it is: the name of a key file, or name and issuer of a certificate.
    pub signer: String,
}

impl Authorities {
    /// Opens a sigstore bundle or a bare DSSE envelope of at most `max` bytes.
    ///
    /// # Errors
    /// [`AppraisalError`].
    pub fn open(&self, json: &[u8], max: usize, now: Time) -> Result<Statement, AppraisalError> {
        check_json(json, max)?;
        let bundle = match Bundle::read(json) {
            Ok(bundle) => bundle,
            Err(error) => {
                let Ok(parts) = DsseParts::read(json) else { return Err(error) };
                return self.by_key(parts, "");
            }
        };
        let parts = bundle.envelope()?;
        if let Some(hint) = bundle.key_hint() {
            return self.by_key(parts, hint);
        }
        let found = bundle.check(&parts, &self.roots, &self.identities, now.as_secs())?;
        Ok(Statement { body: parts.body, signer: found.to_string() })
    }

    fn by_key(&self, parts: DsseParts, hint: &str) -> Result<Statement, AppraisalError> {
        let signer = parts.signer(&self.keys, hint)?.to_owned();
        Ok(Statement { body: parts.body, signer })
    }
}

/// Refuses claims of which no value is among those accepted; nothing is refused if none is named.
pub(crate) fn accepted(
    kind: &str,
    claim: &Claim,
    accept: &BTreeSet<String>,
) -> Result<(), AppraisalError> {
    let values = claim.values();
    if accept.is_empty() || values.iter().any(|value| accept.contains(value)) {
        return Ok(());
    }
    let (found, accepted) = (values.join(", "), accept.len());
    Err(AppraisalError::Unaccepted { kind: kind.to_owned(), found, accepted })
}

/// Reads evidence of kind `model-signing`: a bundle of OpenSSF model-signing. Nothing is said of whether the agent runs the model.
#[derive(Clone, Debug)]
pub struct SignedModels {
    authorities: Authorities,
    accept: BTreeSet<String>,
}

impl SignedModels {
    /// Believes these signers, about these models if any are named.
    #[must_use]
    pub const fn new(authorities: Authorities, accept: BTreeSet<String>) -> Self {
        Self { authorities, accept }
    }
}

impl EvidenceVerifier for SignedModels {
    fn kind(&self) -> &'static str {
        "model-signing"
    }

    fn appraise(&self, presented: &Presented, now: Time) -> Result<Vec<Fact>, AppraisalError> {
        let opened = self.authorities.open(&presented.evidence.blob, MAX_BLOB, now)?;
        let claim = SignedModel::read(&opened.body)?.claim();
        accepted(self.kind(), &claim, &self.accept)?;
        Ok(vec![Fact { claim, by: opened.signer, excludes: Attackers::DISTRIBUTION }])
    }
}

/// Reads evidence of kind `provenance`: SLSA provenance in a DSSE envelope or a sigstore bundle.
#[derive(Clone, Debug)]
pub struct SignedBuilds {
    authorities: Authorities,
    accept: BTreeSet<String>,
}

impl SignedBuilds {
    /// Believes these builders, about these artifacts or of these builders' names if any are named.
    #[must_use]
    pub const fn new(authorities: Authorities, accept: BTreeSet<String>) -> Self {
        Self { authorities, accept }
    }
}

impl EvidenceVerifier for SignedBuilds {
    fn kind(&self) -> &'static str {
        "provenance"
    }

    fn appraise(&self, presented: &Presented, now: Time) -> Result<Vec<Fact>, AppraisalError> {
        let opened = self.authorities.open(&presented.evidence.blob, MAX_BLOB, now)?;
        let mut facts = Vec::new();
        for claim in build_claims(&opened.body)? {
            accepted(self.kind(), &claim, &self.accept)?;
            let by = opened.signer.clone();
            facts.push(Fact { claim, by, excludes: Attackers::DISTRIBUTION });
        }
        Ok(facts)
    }
}
