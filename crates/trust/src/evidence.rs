//! Evidence about how an agent runs, and what it is worth.
//!
//! Roles are those of RFC 9334: an agent attests, a verifier appraises, whoever relies on it decides. The agent seals evidence of some *kind*
//! for one session; a verifier of that kind turns it into facts, and each fact names the attackers it excludes. There is no verdict: a signed
//! manifest excludes that a model was swapped on its way to the operator, and says nothing about an operator who runs another one.
//!
//! Evidence is bound: `binds = blake3(sid ‖ key ‖ kind)`, with the session's exporter value and the agent's key. A relay
//! cannot pass off another's evidence as its own, and yesterday's is worth nothing today (TRUST.md section 2.5, T7 and T28). Kinds that
//! sign themselves (quotes of hardware) must carry the same value inside.
//!
//! What no evidence can show from outside: that a model was *not* trained on something, or not altered against a policy.

mod dsse;
mod in_toto;
mod json;
mod keys;
mod trace;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use comity_capability::record::CLOCK_SKEW;
use comity_core::canonical::Version;
use comity_core::envelope::{self, EnvelopeError, MAX_OVERHEAD};
use comity_core::{AgentId, Hash, Identity, Kind, Sha256Digest, Time};
use serde::{Deserialize, Serialize};

use crate::wire::{self, checked_payload};
use crate::{MAX_KIND_NAME, is_kind_name};

pub use dsse::{
    DsseError, DsseParts, IN_TOTO_TYPE, MAX_SIGNATURES, VerifiedDsse, open_dsse, pre_authentication,
};
pub use in_toto::{ModelSigning, Provenance, SignedFile, SignedModel, build_claims};
pub use json::{MAX_JSON_DEPTH, check_json};
pub use keys::{KeyFileError, MAX_KEYS, PublicKey, TrustedKeys};
pub use trace::{
    Disclosure, MAX_DISCLOSURE, MAX_STEP_BYTES, MAX_STEPS, Trace, TraceCommitments, TraceError,
};

/// Longest sealed evidence, in bytes.
pub const MAX_EVIDENCE: usize = 64 * 1024;
/// Longest evidence itself, in bytes.
pub const MAX_BLOB: usize = MAX_EVIDENCE - 1024;
/// Most facts of an appraisal.
pub const MAX_FACTS: usize = 16;
/// How long evidence counts after it was made, unless its verifier says less.
pub const EVIDENCE_LIFE: Duration = Duration::from_secs(24 * 3600);

/// Some of the attackers that a fact may exclude. Text form: their names with `+` between.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Attackers(u8);

const ATTACKERS: [(u8, &str, &str); 6] = [
    (1, "hindsight", "the agent itself, telling another story afterwards"),
    (2, "distribution", "whoever stores or ships what the agent runs"),
    (4, "remote-software", "software elsewhere"),
    (8, "co-tenant", "other tenants of the machine"),
    (16, "operator-software", "the operator's own software, up to the hypervisor"),
    (32, "operator-physical", "the operator with hands on the machine"),
];

impl Attackers {
    /// Nobody.
    pub const NONE: Self = Self(0);
    /// The agent itself, telling another story afterwards.
    pub const HINDSIGHT: Self = Self(1);
    /// Whoever stores or ships what the agent runs.
    pub const DISTRIBUTION: Self = Self(2);
    /// Software elsewhere.
    pub const REMOTE_SOFTWARE: Self = Self(4);
    /// Other tenants of the machine.
    pub const CO_TENANT: Self = Self(8);
    /// The operator's own software, up to the hypervisor.
    pub const OPERATOR_SOFTWARE: Self = Self(16);
    /// The operator with hands on the machine. Quotes of today's hardware do not exclude it (TEE.fail, 2025; T29).
    pub const OPERATOR_PHYSICAL: Self = Self(32);
    /// All software: what a quote of confidential hardware excludes.
    pub const SOFTWARE: Self = Self(4 | 8 | 16);

    /// These and those.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` are among these.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Each with its name and who that is.
    pub fn each(self) -> impl Iterator<Item = (&'static str, &'static str)> {
        ATTACKERS
            .into_iter()
            .filter(move |(bit, _, _)| self.0 & bit != 0)
            .map(|(_, name, who)| (name, who))
    }
}

impl fmt::Display for Attackers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.pad("none");
        }
        let names: Vec<&str> = self.each().map(|(name, _)| name).collect();
        f.pad(&names.join("+"))
    }
}

impl fmt::Debug for Attackers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Attackers({self})")
    }
}

/// The text names no attackers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{name}` is no attacker: there are hindsight, distribution, remote-software, co-tenant, operator-software, operator-physical; `none` for nobody"
)]
pub struct AttackersTextError {
    /// What was read.
    pub name: String,
}

impl std::str::FromStr for Attackers {
    type Err = AttackersTextError;

    fn from_str(text: &str) -> Result<Self, AttackersTextError> {
        if text == "none" {
            return Ok(Self::NONE);
        }
        text.split('+').try_fold(Self::NONE, |all, name| {
            let found = ATTACKERS.into_iter().find(|(_, known, _)| *known == name);
            let error = || AttackersTextError { name: name.chars().take(64).collect() };
            found.map(|(bit, _, _)| Self(all.0 | bit)).ok_or_else(error)
        })
    }
}

impl Serialize for Attackers {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Attackers {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str> as Deserialize>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// What evidence of `kind` by `key` in session `sid` must carry.
#[must_use]
pub fn bind(sid: &Hash, key: &AgentId, kind: &str) -> Hash {
    Hash::of(&[sid.as_bytes(), key.as_bytes(), kind.as_bytes()].concat())
}

/// What one agent asks another for evidence with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked<'a> {
    /// 32 random bytes of the asker's, new for each question.
    pub nonce: Hash,
    /// The capability that the evidence is to speak for; `*` for the agent as such.
    pub capability: &'a str,
}

/// What evidence must carry that was asked for: as [`bind`], and over the asker's nonce and the capability.
///
/// `derive_key("comity/evidence/asked/v1", sid ‖ key ‖ nonce ‖ length of kind in one byte ‖ kind ‖ capability)`
#[must_use]
pub fn bind_asked(sid: &Hash, key: &AgentId, kind: &str, asked: &Asked<'_>) -> Hash {
    // Kinds have at most 64 bytes; a longer one is refused before its binding is looked at.
    let length = [u8::try_from(kind.len()).unwrap_or(u8::MAX)];
    let parts: [&[u8]; 6] = [
        sid.as_bytes(),
        key.as_bytes(),
        asked.nonce.as_bytes(),
        &length,
        kind.as_bytes(),
        asked.capability.as_bytes(),
    ];
    Hash::derive("comity/evidence/asked/v1", &parts)
}

/// Evidence for one session; the signer of its envelope is the agent it is about.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
pub struct Evidence {
    /// Format version.
    #[n(0)]
    pub version: Version<1>,
    /// What kind it is: which verifier reads it.
    #[n(1)]
    pub kind: String,
    /// The evidence, in its kind's own form.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub blob: Vec<u8>,
    /// What it is bound to.
    #[n(3)]
    pub binds: Hash,
    /// When it was made.
    #[cbor(n(4), with = "crate::wire::millis")]
    pub at: Time,
}

/// Why evidence is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvidenceError {
    /// The envelope or the payload in it.
    #[error("the evidence does not verify")]
    Envelope(#[source] EnvelopeError),
    /// The kind has no proper name.
    #[error("a kind of evidence has 1 to {MAX_KIND_NAME} of the characters a-z 0-9 - . _ /")]
    Kind,
    /// Too long.
    #[error(
        "evidence of {length} bytes, and at most {MAX_BLOB} are carried: send its hash and serve the rest"
    )]
    TooLong {
        /// Its length.
        length: usize,
    },
    /// Another agent's.
    #[error("this is evidence about {agent}, and the session is with {peer}")]
    Agent {
        /// Whose.
        agent: AgentId,
        /// Whose it should be.
        peer: AgentId,
    },
    /// Made for another session.
    #[error(
        "this evidence was made for another session or question: it is replayed or relayed, and shows nothing here"
    )]
    Binding,
    /// Too old, or from the future.
    #[error("this evidence is of {at}, and here it is {now}: attest anew")]
    Age {
        /// When it was made.
        at: Time,
        /// The time here.
        now: Time,
    },
    /// Nobody here reads this kind.
    #[error("no verifier for evidence of kind `{kind}` here: there are {known}")]
    NoVerifier {
        /// The kind.
        kind: String,
        /// The kinds that are read.
        known: String,
    },
    /// The verifier found fault.
    #[error("evidence of kind `{kind}` does not hold")]
    Refused {
        /// The kind.
        kind: String,
        /// What is wrong.
        source: AppraisalError,
    },
}

/// What a verifier found wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppraisalError {
    /// Not in the kind's form.
    #[error("it is malformed: {0}")]
    Malformed(String),
    /// A DSSE envelope does not hold.
    #[error(transparent)]
    Dsse(#[from] DsseError),
    /// It says nothing that this verifier looks for.
    #[error("it states nothing of this kind: {0}")]
    Nothing(String),
    /// It contradicts itself.
    #[error("it contradicts itself: {0}")]
    Inconsistent(String),
    /// Nobody who is trusted here vouches for it, or for the time it names.
    #[error("nobody trusted vouches for it: {0}")]
    Untrusted(String),
    /// It holds, and is not among what the operator accepts.
    #[error(
        "it shows {found}, which is not among the {accepted} values that [evidence.{kind}] accepts"
    )]
    Unaccepted {
        /// The kind.
        kind: String,
        /// What it shows.
        found: String,
        /// How many values are accepted.
        accepted: usize,
    },
    /// It was made for another session, question or agent: what signs itself carries another binding.
    #[error(
        "it is signed for something else: it carries {found}, and this session asks for {expected}"
    )]
    Binding {
        /// What it carries, in hex.
        found: String,
        /// What it should.
        expected: Hash,
    },
}

impl Evidence {
    /// Evidence by `agent` for session `sid`.
    #[must_use]
    pub fn new(agent: &AgentId, sid: &Hash, kind: &str, blob: Vec<u8>, at: Time) -> Self {
        let (binds, at) = (bind(sid, agent, kind), wire::whole_millis(at));
        Self { version: Version, kind: kind.to_owned(), blob, binds, at }
    }

    /// Evidence by `agent` for session `sid`, as it was asked for.
    #[must_use]
    pub fn answering(
        agent: &AgentId,
        sid: &Hash,
        asked: &Asked<'_>,
        kind: &str,
        blob: Vec<u8>,
        at: Time,
    ) -> Self {
        let binds = bind_asked(sid, agent, kind, asked);
        Self { binds, ..Self::new(agent, sid, kind, blob, at) }
    }

    /// Checks kind and length.
    ///
    /// # Errors
    /// [`EvidenceError::Kind`] and [`EvidenceError::TooLong`].
    pub fn check(&self) -> Result<(), EvidenceError> {
        if !is_kind_name(&self.kind) {
            return Err(EvidenceError::Kind);
        }
        if self.blob.len() > MAX_BLOB {
            return Err(EvidenceError::TooLong { length: self.blob.len() });
        }
        Ok(())
    }

    /// Signs it.
    ///
    /// # Errors
    /// As [`Evidence::check`].
    pub fn seal(&self, agent: &Identity) -> Result<Vec<u8>, EvidenceError> {
        self.check()?;
        Ok(envelope::seal(Kind::Evidence, self, agent))
    }
}

checked_payload!(Evidence, MAX_EVIDENCE - (MAX_OVERHEAD - 9));

/// Evidence whose signature and binding hold. Only [`Presented::open`] makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Presented {
    /// Hash of its envelope: how receipts name it.
    pub hash: Hash,
    /// Whom it is about.
    pub agent: AgentId,
    /// The session it was made for.
    pub session: Hash,
    /// What was presented.
    pub evidence: Evidence,
}

impl Presented {
    /// Opens evidence that `peer` presented in session `sid`: size, signature, whose, which session, age.
    ///
    /// # Errors
    /// [`EvidenceError`].
    pub fn open(
        bytes: &[u8],
        sid: &Hash,
        peer: &AgentId,
        now: Time,
    ) -> Result<Self, EvidenceError> {
        Self::open_bound(bytes, sid, peer, now, |kind| bind(sid, peer, kind))
    }

    /// The same of evidence that answers a question.
    ///
    /// # Errors
    /// [`EvidenceError`]; [`EvidenceError::Binding`] also for what answers another question, such as an earlier one.
    pub fn open_asked(
        bytes: &[u8],
        sid: &Hash,
        peer: &AgentId,
        asked: &Asked<'_>,
        now: Time,
    ) -> Result<Self, EvidenceError> {
        Self::open_bound(bytes, sid, peer, now, |kind| bind_asked(sid, peer, kind, asked))
    }

    fn open_bound(
        bytes: &[u8],
        sid: &Hash,
        peer: &AgentId,
        now: Time,
        binds: impl Fn(&str) -> Hash,
    ) -> Result<Self, EvidenceError> {
        let opened =
            envelope::open_expecting::<Evidence>(Kind::Evidence, bytes, MAX_EVIDENCE, peer)
                .map_err(EvidenceError::Envelope)?;
        let evidence = opened.payload;
        if opened.signer != *peer {
            return Err(EvidenceError::Agent { agent: opened.signer, peer: *peer });
        }
        if evidence.binds != binds(&evidence.kind) {
            return Err(EvidenceError::Binding);
        }
        let (at, early) = (evidence.at, evidence.at.saturating_since(now) > CLOCK_SKEW);
        if early || now.saturating_since(at) > EVIDENCE_LIFE {
            return Err(EvidenceError::Age { at, now });
        }
        Ok(Self { hash: opened.hash, agent: *peer, session: *sid, evidence })
    }
}

/// What a fact says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "claim")]
#[non_exhaustive]
pub enum Claim {
    /// The agent committed to a trace of its work, to be disclosed later.
    TraceCommitted {
        /// Root over the trace's steps.
        root: Hash,
        /// How many steps.
        steps: u32,
    },
    /// Somebody signed the files of a model.
    ModelSigned {
        /// The model's name.
        name: String,
        /// Digest over its files, as the manifest has it.
        digest: Sha256Digest,
        /// How many files.
        files: u32,
    },
    /// Somebody built an artifact.
    Built {
        /// Its name.
        name: String,
        /// Its digest.
        digest: Sha256Digest,
        /// Who built it, by the builder's own name.
        builder: String,
        /// How, by the builder's own name.
        build_type: String,
    },
    /// Confidential hardware runs code of this measurement.
    Measured {
        /// Which hardware.
        platform: String,
        /// The measurement, in hex.
        measurement: String,
    },
    /// Something that a verifier of others' making states.
    Other {
        /// What.
        what: String,
    },
}

impl Claim {
    /// The values by which policies name what is claimed: digests, measurements, a builder. See [`Appraisal::names`].
    #[must_use]
    pub fn values(&self) -> Vec<String> {
        match self {
            Self::TraceCommitted { root, .. } => vec![root.to_string()],
            Self::ModelSigned { digest, .. } => vec![digest.to_string()],
            Self::Built { digest, builder, .. } => vec![digest.to_string(), builder.clone()],
            Self::Measured { measurement, .. } => vec![measurement.clone()],
            Self::Other { what } => vec![what.clone()],
        }
    }
}

/// One thing that evidence shows, who says so, and who could not have faked it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    /// What.
    pub claim: Claim,
    /// Whose word it is: a trusted key's name, a hardware maker, the agent itself.
    pub by: String,
    /// Who could not have faked it.
    pub excludes: Attackers,
}

/// What came of appraising one piece of evidence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Appraisal {
    /// About whom.
    pub agent: AgentId,
    /// Kind of the evidence.
    pub kind: String,
    /// The session it was made for.
    pub session: Hash,
    /// Hash of the evidence as presented.
    pub evidence: Hash,
    /// When the evidence was made.
    pub at: Time,
    /// Until when it counts.
    pub until: Time,
    /// What it shows.
    pub facts: Vec<Fact>,
}

impl Appraisal {
    /// Whether it counts now.
    #[must_use]
    pub fn is_valid(&self, now: Time) -> bool {
        now < self.until
    }

    /// How policies name it: by its kind, and by `kind=value` for each value that its facts claim and that somebody beside the agent itself
    /// vouches for. What nobody is excluded from faking has no name.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let shown = self.facts.iter().filter(|fact| !fact.excludes.is_empty());
        let values: Vec<String> = shown.flat_map(|fact| fact.claim.values()).collect();
        if values.is_empty() {
            return Vec::new();
        }
        let named = values.into_iter().map(|value| format!("{}={value}", self.kind));
        std::iter::once(self.kind.clone()).chain(named).collect()
    }

    /// The first single fact that excludes all of `attackers`. Facts that each exclude some do not add up: whoever can fake one of them can lie.
    #[must_use]
    pub fn excluding(&self, attackers: Attackers) -> Option<&Fact> {
        self.facts.iter().find(|fact| fact.excludes.contains(attackers))
    }
}

/// Reads evidence of one kind.
pub trait EvidenceVerifier {
    /// The kind.
    fn kind(&self) -> &str;

    /// What the evidence shows. Its envelope, binding and age were checked; evidence that signs itself must be checked to carry
    /// `presented.evidence.binds` inside. Must end within a millisecond of work or so: strangers choose the bytes.
    ///
    /// # Errors
    /// [`AppraisalError`] when it shows nothing.
    fn appraise(&self, presented: &Presented, now: Time) -> Result<Vec<Fact>, AppraisalError>;
}

/// The verifiers of a node, by kind.
#[derive(Default)]
pub struct Verifiers {
    by_kind: BTreeMap<String, Box<dyn EvidenceVerifier + Send + Sync>>,
}

impl fmt::Debug for Verifiers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.by_kind.keys()).finish()
    }
}

impl Verifiers {
    /// None.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one; the later of two for one kind counts.
    #[must_use]
    pub fn with(mut self, verifier: impl EvidenceVerifier + Send + Sync + 'static) -> Self {
        self.by_kind.insert(verifier.kind().to_owned(), Box::new(verifier));
        self
    }

    /// The kinds that are read.
    pub fn kinds(&self) -> impl Iterator<Item = &str> {
        self.by_kind.keys().map(String::as_str)
    }

    /// Opens and appraises evidence that `peer` presented in session `sid`.
    ///
    /// # Errors
    /// [`EvidenceError`].
    pub fn appraise(
        &self,
        bytes: &[u8],
        sid: &Hash,
        peer: &AgentId,
        now: Time,
    ) -> Result<Appraisal, EvidenceError> {
        self.appraise_presented(&Presented::open(bytes, sid, peer, now)?, now)
    }

    /// The same of evidence that answers a question.
    ///
    /// # Errors
    /// [`EvidenceError`].
    pub fn appraise_asked(
        &self,
        bytes: &[u8],
        sid: &Hash,
        peer: &AgentId,
        asked: &Asked<'_>,
        now: Time,
    ) -> Result<Appraisal, EvidenceError> {
        self.appraise_presented(&Presented::open_asked(bytes, sid, peer, asked, now)?, now)
    }

    /// Appraises what was opened.
    ///
    /// # Errors
    /// [`EvidenceError::NoVerifier`] and [`EvidenceError::Refused`].
    pub fn appraise_presented(
        &self,
        presented: &Presented,
        now: Time,
    ) -> Result<Appraisal, EvidenceError> {
        let kind = presented.evidence.kind.clone();
        let Some(verifier) = self.by_kind.get(&kind) else {
            let mut known = self.kinds().collect::<Vec<_>>().join(", ");
            if known.is_empty() {
                known.push_str("none");
            }
            return Err(EvidenceError::NoVerifier { kind, known });
        };
        let mut facts = verifier
            .appraise(presented, now)
            .map_err(|source| EvidenceError::Refused { kind: kind.clone(), source })?;
        facts.truncate(MAX_FACTS);
        Ok(Appraisal {
            agent: presented.agent,
            kind,
            session: presented.session,
            evidence: presented.hash,
            at: presented.evidence.at,
            until: presented.evidence.at + EVIDENCE_LIFE,
            facts,
        })
    }

    /// What a file would show if it were presented: nothing of whose it is, and of whether it is fresh. For looking at evidence at rest; kinds
    /// that sign themselves for a session refuse it.
    ///
    /// # Errors
    /// [`EvidenceError::NoVerifier`] and [`EvidenceError::Refused`].
    pub fn inspect(
        &self,
        kind: &str,
        blob: Vec<u8>,
        agent: &AgentId,
        now: Time,
    ) -> Result<Vec<Fact>, EvidenceError> {
        let session = Hash([0; 32]);
        let evidence = Evidence::new(agent, &session, kind, blob, now);
        evidence.check()?;
        let hash = Hash::of(&evidence.blob);
        let presented = Presented { hash, agent: *agent, session, evidence };
        self.appraise_presented(&presented, now).map(|appraisal| appraisal.facts)
    }
}
