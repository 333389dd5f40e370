//! What the tests share.

use std::io;
use std::path::PathBuf;

use comity_attest::{ConfigError, verifiers};
use comity_core::{AgentId, Hash, Identity, Time};
use comity_trust::evidence::{Appraisal, Asked, Evidence, EvidenceError, Verifiers};
use comity_trust::policy::Policy;

/// 2026-10-20T00:00:00Z.
pub(crate) const NOW: Time = Time::from_secs(1_792_454_400);
pub(crate) const SESSION: Hash = Hash([7; 32]);

pub(crate) fn agent() -> Identity {
    Identity::from_secret_bytes(&[2; 32])
}

pub(crate) fn me() -> AgentId {
    agent().id()
}

pub(crate) fn vectors() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors")
}

pub(crate) fn vector(name: &str) -> Vec<u8> {
    std::fs::read(vectors().join(name)).unwrap()
}

/// The verifiers of a policy whose files are the vectors.
pub(crate) fn believing(policy: &str) -> Result<Verifiers, ConfigError> {
    let policy = Policy::parse(policy).unwrap();
    let mut read = |name: &str| -> io::Result<Vec<u8>> { std::fs::read(vectors().join(name)) };
    verifiers(policy.evidence(), &mut read)
}

pub(crate) const ASKED: Asked<'static> = Asked { nonce: Hash([9; 32]), capability: "translate" };

/// What comes of presenting a blob as it was asked for.
pub(crate) fn present(
    verifiers: &Verifiers,
    kind: &str,
    blob: &[u8],
    now: Time,
) -> Result<Appraisal, EvidenceError> {
    let evidence = Evidence::answering(&me(), &SESSION, &ASKED, kind, blob.to_vec(), now);
    let sealed = evidence.seal(&agent())?;
    verifiers.appraise_asked(&sealed, &SESSION, &me(), &ASKED, now)
}
