//! Entries, checkpoints and proofs as the local API and files have them.

use std::collections::BTreeMap;

use comity_api::types::{
    AUDIT_ACCUSATION_FORMAT, AUDIT_PROOF_FORMAT, AuditAccusation, AuditCheckpoint, AuditCosigner,
    AuditEntry, AuditPeer, AuditPeers, AuditProof, AuditTwice, ErrorCode, ErrorInfo,
    MAX_AUDIT_PEERS, Proof,
};
use comity_core::receipt::SignedReceipt;
use comity_core::{AgentId, Canonical as _, DecodeError};
use comity_trust::log::{
    Caught, CoseError, CoseReceipt, Entry, EntryProof, EntryProofError, Equivocation,
    EquivocationError, Event, MAX_COSE_RECEIPT_LEN, MAX_ENTRY_PROOF_LEN, MAX_EQUIVOCATION_LEN,
    SignedCheckpoint, VerifiedEntry, tree,
};
use data_encoding::BASE64;
use serde_json::{Map, Value, json};

use super::{Audit, AuditError, Listed, Witness, WitnessError};

/// Why a file with a proof does not hold.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProofFileError {
    /// Of another form.
    #[error(
        "the file is of form `{found}`, neither {AUDIT_PROOF_FORMAT} nor {AUDIT_ACCUSATION_FORMAT}"
    )]
    Format {
        /// What it says it is.
        found: String,
    },
    /// Not base64, or longer than a proof.
    #[error("the proof in the file is not base64 of a proof's length")]
    Text,
    /// Not a proof.
    #[error("the proof in the file cannot be read: {0}")]
    Decode(DecodeError),
    /// The proof does not hold.
    #[error(transparent)]
    Proof(EntryProofError),
    /// The accusation does not hold.
    #[error("the accusation in the file does not hold")]
    Accusation(#[source] EquivocationError),
    /// The COSE receipt does not hold for the proof's entry.
    #[error("the COSE receipt in the file does not hold")]
    Cose(#[source] CoseError),
    /// What the file says beside the proof is not what the proof says.
    #[error("the file says something else than its proof")]
    Contradiction,
}

/// A checkpoint as the API has it. Cosignatures that do not hold are left out.
#[must_use]
pub fn checkpoint_view(signed: &SignedCheckpoint) -> AuditCheckpoint {
    AuditCheckpoint {
        size: signed.checkpoint().size,
        root: signed.checkpoint().root.to_string(),
        note: signed.note().to_string(),
        cosigners: signed
            .cosigners()
            .iter()
            .map(|one| AuditCosigner { witness: one.witness, at_ms: one.at.as_millis() })
            .collect(),
    }
}

/// An entry as the API has it.
#[must_use]
pub fn entry_view(listed: &Listed) -> AuditEntry {
    let index = listed.index;
    match listed.entry.as_deref().map(Entry::decode) {
        None => AuditEntry { index, at_ms: None, kind: "pruned".to_owned(), fields: Map::new() },
        Some(Err(_)) => {
            AuditEntry { index, at_ms: None, kind: "unknown".to_owned(), fields: Map::new() }
        }
        Some(Ok(entry)) => AuditEntry {
            index,
            at_ms: Some(entry.at_ms),
            kind: entry.event.name().to_owned(),
            fields: fields(&entry.event),
        },
    }
}

/// A verified entry as the API has it.
#[must_use]
pub fn verified_view(verified: &VerifiedEntry) -> AuditEntry {
    let entry = verified.entry.as_ref().ok().map(Entry::encode);
    // Bytes of an unknown kind: none decode as `unknown`, like any others.
    entry_view(&Listed { index: verified.index, entry: Some(entry.unwrap_or_default()) })
}

macro_rules! named {
    ($($name:ident),*) => {{
        let mut fields = Map::new();
        $(fields.insert(stringify!($name).to_owned(), json!($name));)*
        fields
    }};
}

fn fields(event: &Event) -> Map<String, Value> {
    match event {
        Event::Started { program } => {
            let program = program.as_str();
            named!(program)
        }
        Event::Stopped {} => Map::new(),
        Event::SessionOpened { session, peer, incoming } => named!(peer, incoming, session),
        Event::SessionClosed { session, peer } => named!(peer, session),
        Event::CallServed { receipt, caller, capability, session, number } => {
            let capability = capability.as_str();
            named!(caller, capability, number, session, receipt)
        }
        Event::CallMade { receipt, callee, capability, signed } => {
            let capability = capability.as_str();
            let mut fields = named!(callee, capability, receipt);
            if let Ok(signed) = SignedReceipt::decode(signed) {
                fields.insert("proof".to_owned(), json!(Proof::from(&signed)));
            }
            fields
        }
        Event::CallFailed { callee, capability, reason } => {
            let (capability, reason) = (capability.as_str(), reason.as_str());
            named!(callee, capability, reason)
        }
        Event::Denied { caller, capability, reason, count } => {
            let (capability, reason) = (capability.as_str(), reason.as_str());
            named!(caller, capability, reason, count)
        }
        Event::Allowed { caller, capability, rule, session } => {
            let (capability, rule) = (capability.as_str(), rule.as_str());
            named!(caller, capability, rule, session)
        }
        Event::GrantIssued { grant, holder, not_after_ms } => named!(holder, grant, not_after_ms),
        Event::GrantUsed { grant, holder, session } => named!(holder, grant, session),
        Event::TrustOpened { peer, how } | Event::TrustClosed { peer, how } => {
            let how = how.as_str();
            named!(peer, how)
        }
        Event::RecordPublished { record, sequence } => named!(sequence, record),
        Event::PolicyChanged { policy } => named!(policy),
        Event::Revoked { revocation, issuer } => named!(issuer, revocation),
        Event::Evidence { evidence, subject, session } => named!(subject, evidence, session),
        Event::Signed { statement, kind, subject } => {
            let kind = kind.as_str();
            named!(kind, subject, statement)
        }
        Event::Equivocation { log, proof } => named!(log, proof),
        Event::Lost { count, reason } => {
            let reason = reason.as_str();
            named!(count, reason)
        }
        Event::Pruned { before } => named!(before),
        // A kind that this crate's version of the log has and this list has not.
        _ => Map::new(),
    }
}

/// A proof as a file has it.
///
/// # Errors
/// [`EntryProofError`] for a proof that does not hold: none leaves.
pub fn proof_file(
    proof: &EntryProof,
    receipt: Option<&CoseReceipt>,
) -> Result<AuditProof, EntryProofError> {
    let verified = proof.verify()?;
    Ok(AuditProof {
        format: AUDIT_PROOF_FORMAT.to_owned(),
        log: verified.log,
        entry: verified_view(&verified),
        proof: BASE64.encode(&proof.encode()),
        cose_receipt: receipt.map(|receipt| BASE64.encode(&receipt.encode())),
    })
}

/// Verifies a file with a proof: offline, with nothing but the file.
///
/// # Errors
/// [`ProofFileError`] names what does not hold.
pub fn verify_proof_file(file: &AuditProof) -> Result<VerifiedEntry, ProofFileError> {
    if file.format != AUDIT_PROOF_FORMAT {
        return Err(ProofFileError::Format { found: file.format.clone() });
    }
    let proof = EntryProof::decode(&base64(&file.proof, MAX_ENTRY_PROOF_LEN)?)
        .map_err(ProofFileError::Decode)?;
    let verified = proof.verify().map_err(ProofFileError::Proof)?;
    if file.log != verified.log || file.entry != verified_view(&verified) {
        return Err(ProofFileError::Contradiction);
    }
    if let Some(receipt) = &file.cose_receipt {
        let receipt = CoseReceipt::decode(&base64(receipt, MAX_COSE_RECEIPT_LEN)?)
            .map_err(ProofFileError::Cose)?;
        receipt
            .verify(&tree::leaf_hash(&proof.entry), &verified.log)
            .map_err(ProofFileError::Cose)?;
        if receipt.index != verified.index {
            return Err(ProofFileError::Contradiction);
        }
    }
    Ok(verified)
}

/// An accusation as a file has it.
///
/// # Errors
/// [`EquivocationError`] for a proof that does not hold: none leaves.
pub fn accusation_file(proof: &Equivocation) -> Result<AuditAccusation, EquivocationError> {
    let (log, twice) = match proof.verify()? {
        Caught::TwoRoots { log, size } => (log, AuditTwice::RootOf(size)),
        Caught::TwoEntries { log, index } => (log, AuditTwice::EntryAt(index)),
    };
    let format = AUDIT_ACCUSATION_FORMAT.to_owned();
    Ok(AuditAccusation { format, log, twice, proof: BASE64.encode(&proof.encode()) })
}

/// Verifies a file with an accusation: offline, with nothing but the file.
///
/// # Errors
/// [`ProofFileError`] names what does not hold.
pub fn verify_accusation_file(file: &AuditAccusation) -> Result<Caught, ProofFileError> {
    if file.format != AUDIT_ACCUSATION_FORMAT {
        return Err(ProofFileError::Format { found: file.format.clone() });
    }
    let (proof, caught) = Equivocation::open(&base64(&file.proof, MAX_EQUIVOCATION_LEN)?)
        .map_err(ProofFileError::Accusation)?;
    match accusation_file(&proof) {
        Ok(said) if said == *file => Ok(caught),
        Ok(_) | Err(_) => Err(ProofFileError::Contradiction),
    }
}

impl Witness {
    /// What this node knows of the logs of its peers, or of one; those that were caught first.
    ///
    /// # Errors
    /// [`WitnessError::Storage`] when what was seen cannot be read.
    pub fn peers(&self, log: Option<AgentId>) -> Result<AuditPeers, WitnessError> {
        let (held, proofs) = match log {
            Some(log) => {
                (self.held(&log)?.into_iter().collect(), self.proof(&log)?.into_iter().collect())
            }
            None => (self.all()?, self.proofs()?),
        };
        let accused = |proof: &Equivocation| accusation_file(proof).ok();
        let mut caught: BTreeMap<AgentId, AuditAccusation> = proofs
            .iter()
            .filter_map(accused)
            .map(|accusation| (accusation.log, accusation))
            .collect();
        let mut peers: Vec<AuditPeer> = held
            .iter()
            .map(|signed| {
                let checkpoint = signed.checkpoint();
                AuditPeer {
                    log: checkpoint.log,
                    size: Some(checkpoint.size),
                    root: Some(checkpoint.root.to_string()),
                    accusation: caught.remove(&checkpoint.log),
                }
            })
            .collect();
        peers.extend(caught.into_values().map(|accusation| AuditPeer {
            log: accusation.log,
            size: None,
            root: None,
            accusation: Some(accusation),
        }));
        let known = peers.len() as u64;
        peers.sort_by_key(|peer| (peer.accusation.is_none(), peer.log));
        peers.truncate(MAX_AUDIT_PEERS as usize);
        Ok(AuditPeers { known, peers })
    }
}

fn base64(text: &str, max: usize) -> Result<Vec<u8>, ProofFileError> {
    if text.len() > BASE64.encode_len(max) {
        return Err(ProofFileError::Text);
    }
    BASE64.decode(text.as_bytes()).map_err(|_| ProofFileError::Text)
}

impl Audit {
    /// Entry `index` as a file that anybody can verify.
    ///
    /// # Errors
    /// [`AuditError`] when there is no such entry or it was pruned.
    pub async fn proof_file(&self, index: u64) -> Result<AuditProof, AuditError> {
        let proof = self.prove(index).await?;
        let receipt = self.receipt(index).await?;
        proof_file(&proof, Some(&receipt))
            .map_err(|error| AuditError::Damaged { what: error.to_string() })
    }
}

impl AuditError {
    /// The error's kind as the API names it.
    #[must_use]
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::NoSuchEntry { .. } | Self::Pruned { .. } | Self::Off | Self::Absent { .. } => {
                ErrorCode::NotFound
            }
            Self::Tree(_) | Self::NotShown { .. } | Self::Cosignature { .. } => {
                ErrorCode::BadRequest
            }
            Self::Unavailable { .. } | Self::Io { .. } => ErrorCode::Storage,
            Self::Damaged { .. } | Self::Truncated { .. } | Self::Rewritten { .. } => {
                ErrorCode::NotVerified
            }
        }
    }
}

impl From<WitnessError> for ErrorInfo {
    fn from(error: WitnessError) -> Self {
        Self::new(ErrorCode::Storage, crate::describe(&error))
    }
}

impl From<AuditError> for ErrorInfo {
    fn from(error: AuditError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}
