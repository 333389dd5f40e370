//! Evidence as people see it.

use std::path::Path;

use comity_api::types::{AppraisalView, ErrorCode, ErrorInfo, EvidenceItem, Excluded, FactView};
use comity_core::AgentId;
use comity_trust::evidence::{Appraisal, Claim, EvidenceError, Fact, Verifiers};

use super::asking::Outcome;
use super::shelf::{Item, Source};
use crate::access::{PolicyFileError, read_believed};
use crate::clock::Clock;

pub(super) fn item_view(item: &Item) -> EvidenceItem {
    let program = match &item.source {
        Source::Blob(_) => None,
        Source::Program(command) => Some(command.clone()),
    };
    EvidenceItem {
        id: item.id.to_string(),
        kind: item.kind.clone(),
        capability: item.capability.to_string(),
        length: item.length(),
        program,
        added_at_ms: item.added.as_millis(),
    }
}

pub(super) fn fact_view(fact: &Fact) -> FactView {
    let excluded = |(attacker, who): (&str, &str)| Excluded {
        attacker: attacker.to_owned(),
        who: who.to_owned(),
    };
    FactView {
        claim: serde_json::to_value(&fact.claim).unwrap_or_default(),
        text: in_words(&fact.claim),
        by: fact.by.clone(),
        excludes: fact.excludes.each().map(excluded).collect(),
    }
}

fn in_words(claim: &Claim) -> String {
    match claim {
        Claim::TraceCommitted { root, steps } => {
            format!("it committed to a trace of {steps} steps with root {root}")
        }
        Claim::ModelSigned { name, digest, files } => {
            format!("the {files} files of model `{name}` with digest {digest} were signed")
        }
        Claim::Built { name, digest, builder, build_type } => {
            format!("`{name}` with digest {digest} was built by {builder} as {build_type}")
        }
        Claim::Measured { platform, measurement } => {
            format!("{platform} runs code of measurement {measurement}")
        }
        Claim::Other { what } => what.clone(),
        _ => "something this version has no words for".to_owned(),
    }
}

pub(super) fn appraisal_view(appraisal: &Appraisal) -> AppraisalView {
    AppraisalView {
        kind: appraisal.kind.clone(),
        evidence: Some(appraisal.evidence.to_string()),
        session: Some(appraisal.session.to_string()),
        at_ms: Some(appraisal.at.as_millis()),
        facts: appraisal.facts.iter().map(fact_view).collect(),
        names: appraisal.names(),
        refused: None,
    }
}

pub(super) fn outcome_view(outcome: &Outcome) -> AppraisalView {
    match &outcome.result {
        Ok(appraisal) => appraisal_view(appraisal),
        Err(why) => AppraisalView {
            kind: outcome.kind.clone(),
            evidence: None,
            session: None,
            at_ms: None,
            facts: Vec::new(),
            names: Vec::new(),
            refused: Some(why.clone()),
        },
    }
}

/// Why a file of evidence cannot be looked at.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InspectError {
    /// The policy file, which says who is believed.
    #[error(transparent)]
    Policy(#[from] PolicyFileError),
    /// The evidence.
    #[error(transparent)]
    Evidence(#[from] EvidenceError),
}

impl InspectError {
    /// The same for the command.
    #[must_use]
    pub fn info(&self) -> ErrorInfo {
        match self {
            Self::Policy(error) => error.info(),
            Self::Evidence(error) => {
                ErrorInfo::new(ErrorCode::NotVerified, crate::describe(error)).hint(
                    "[evidence.KIND] in the policy file says whose evidence is believed; docs/ATTESTATION.md has its keys",
                )
            }
        }
    }
}

/// What evidence at rest shows by a policy file, without a node: nothing of whose it is, nor of whether it is fresh. Without a file, nobody is
/// believed.
///
/// # Errors
/// [`InspectError`].
pub fn inspect_file(
    policy: Option<&Path>,
    kind: &str,
    blob: Vec<u8>,
    agent: &AgentId,
) -> Result<Vec<FactView>, InspectError> {
    let verifiers = match policy {
        Some(path) => read_believed(path)?.1,
        None => Verifiers::new(),
    };
    let facts = verifiers.inspect(kind, blob, agent, Clock::new(0).now())?;
    Ok(facts.iter().map(fact_view).collect())
}
