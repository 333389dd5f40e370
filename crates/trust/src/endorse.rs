//! What others say of an agent's capability, and how well a claim is supported altogether.
//!
//! An endorsement is one agent's signed word for another's capability. It counts for readers who chose to trust the endorser, and for nobody
//! else: there is no global score to buy. [`standing`] sums up what a reader knows - endorsements, its own receipts, appraised evidence,
//! quorum calls - as a [`Level`], with the grounds. Source: TRUST.md section 2.3 and T9.

use std::collections::BTreeSet;
use std::time::Duration;

use comity_capability::record::{TimesError, check_times};
use comity_core::canonical::Version;
use comity_core::envelope::{self, EnvelopeError, MAX_OVERHEAD};
use comity_core::{AgentId, Hash, Identity, Kind, Time};
use serde::{Deserialize, Serialize};

use crate::evidence::{Appraisal, Attackers};
use crate::revoke::{Revocations, Withdrawn};
use crate::wire::{self, checked_payload};
use crate::{Fit, Level, RawKey, Scope, Target};

/// Longest sealed endorsement, in bytes.
pub const MAX_ENDORSE: usize = 1024;
/// Most hashes of proofs in an endorsement.
pub const MAX_PROOFS: usize = 16;
/// Longest life of an endorsement.
pub const MAX_LIFE: Duration = Duration::from_secs(366 * 24 * 3600);

/// How the endorser came to its word.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode, Serialize, Deserialize,
)]
#[cbor(index_only)]
#[serde(rename_all = "kebab-case")]
pub enum How {
    /// It operates the agent, or knows who does.
    #[n(0)]
    Operator,
    /// It asked what it knew the answer to.
    #[n(1)]
    Canary,
    /// It looked at how the agent is made.
    #[n(2)]
    Audit,
}

/// One agent's word for another's capability; the signer of its envelope is the endorser.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode, Serialize)]
#[cbor(map)]
pub struct Endorse {
    /// Format version.
    #[n(0)]
    #[serde(skip)]
    pub version: Version<1>,
    /// Who is endorsed.
    #[n(1)]
    pub subject: RawKey,
    /// For what.
    #[n(2)]
    pub scope: Scope,
    /// Since when.
    #[cbor(n(3), with = "crate::wire::millis")]
    pub issued: Time,
    /// Until when.
    #[cbor(n(4), with = "crate::wire::millis")]
    pub not_after: Time,
    /// On what ground.
    #[n(5)]
    pub how: How,
    /// Hashes of what it rests on: receipts, reports.
    #[n(6)]
    pub proofs: Option<BTreeSet<Hash>>,
}

/// Why an endorsement is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EndorseError {
    /// The envelope or the payload in it.
    #[error("the endorsement does not verify")]
    Envelope(#[source] EnvelopeError),
    /// The times.
    #[error("the endorsement is not valid now")]
    Times(#[source] TimesError),
    /// Too many proofs, or an empty list of them.
    #[error(
        "an endorsement names 1 to {MAX_PROOFS} proofs or leaves them out, and this one has {count}"
    )]
    Proofs {
        /// How many.
        count: usize,
    },
    /// Nobody's word for itself counts.
    #[error("{agent} endorses itself, which says nothing")]
    Itself {
        /// Who.
        agent: AgentId,
    },
}

impl Endorse {
    /// `subject` can do what `scope` means, from `issued` until `not_after`.
    pub fn new(subject: AgentId, scope: Scope, how: How, issued: Time, not_after: Time) -> Self {
        Self {
            version: Version,
            subject: subject.into(),
            scope,
            issued: wire::whole_millis(issued),
            not_after: wire::whole_millis(not_after),
            how,
            proofs: None,
        }
    }

    /// Checks the proofs' number.
    ///
    /// # Errors
    /// [`EndorseError::Proofs`].
    pub fn check(&self) -> Result<(), EndorseError> {
        let count = self.proofs.as_ref().map_or(1, BTreeSet::len);
        if (1..=MAX_PROOFS).contains(&count) { Ok(()) } else { Err(EndorseError::Proofs { count }) }
    }

    /// Signs it.
    ///
    /// # Errors
    /// As [`Endorse::check`], and [`EndorseError::Itself`].
    pub fn seal(&self, endorser: &Identity) -> Result<Vec<u8>, EndorseError> {
        self.check()?;
        if self.subject == endorser.id() {
            return Err(EndorseError::Itself { agent: endorser.id() });
        }
        Ok(envelope::seal(Kind::Endorse, self, endorser))
    }
}

checked_payload!(Endorse, MAX_ENDORSE - (MAX_OVERHEAD - 9));

/// An endorsement whose signature holds. Only [`Endorsement::open`] makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Endorsement {
    /// Its name: hash of its envelope.
    pub hash: Hash,
    /// Whose word it is.
    pub endorser: AgentId,
    /// What it says.
    pub endorse: Endorse,
}

impl Endorsement {
    /// Opens a sealed endorsement: size, signature, limits and times.
    ///
    /// # Errors
    /// [`EndorseError`].
    pub fn open(bytes: &[u8], now: Time) -> Result<Self, EndorseError> {
        let opened = envelope::open::<Endorse>(Kind::Endorse, bytes, MAX_ENDORSE)
            .map_err(EndorseError::Envelope)?;
        let endorse = opened.payload;
        check_times(endorse.issued, endorse.not_after, now, MAX_LIFE)
            .map_err(EndorseError::Times)?;
        if endorse.subject == opened.signer {
            return Err(EndorseError::Itself { agent: opened.signer });
        }
        Ok(Self { hash: opened.hash, endorser: opened.signer, endorse })
    }

    /// Whether it stands for this capability of `subject` now: it fits, is in time, and its endorser has not taken it back.
    #[must_use]
    pub fn stands_for(
        &self,
        subject: &AgentId,
        target: &Target<'_>,
        revocations: &Revocations,
        now: Time,
    ) -> bool {
        self.endorse.subject == *subject
            && self.endorse.scope.fit(target) == Fit::Yes
            && check_times(self.endorse.issued, self.endorse.not_after, now, MAX_LIFE).is_ok()
            && !self.is_withdrawn(revocations)
    }

    /// Whether its endorser took it back, or turned from the subject, or declared its own key lost.
    #[must_use]
    pub fn is_withdrawn(&self, revocations: &Revocations) -> bool {
        let own = Withdrawn::Key(self.endorser.into());
        [Withdrawn::Statement(self.hash), Withdrawn::Key(self.endorse.subject), own]
            .iter()
            .any(|target| revocations.find(&self.endorser, target).is_some())
    }
}

/// What a reader's own receipts say of one capability of one agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Experience {
    /// Calls whose receipts the reader acknowledged.
    pub acknowledged: u64,
    /// Canaries passed since the last that was failed.
    pub canaries_in_a_row: u64,
    /// When the last of all this happened.
    pub last: Time,
}

impl Experience {
    /// One more call, acknowledged.
    pub fn acknowledge(&mut self, now: Time) {
        self.acknowledged = self.acknowledged.saturating_add(1);
        self.last = self.last.max(now);
    }

    /// One more canary. A failed one begins the count anew, as one lie outweighs many truths that cost nothing.
    pub fn canary(&mut self, passed: bool, now: Time) {
        self.canaries_in_a_row = if passed { self.canaries_in_a_row.saturating_add(1) } else { 0 };
        self.last = self.last.max(now);
    }
}

/// What came of asking several agents the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agreement {
    /// How many answered as this one did, itself included.
    pub agreed: u32,
    /// How many were asked.
    pub asked: u32,
    /// From how many distinct roots of trust those that agreed came.
    pub roots: u32,
    /// When.
    pub at: Time,
}

/// What each level takes, in one reader's view.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LevelRules {
    /// Whose endorsements count.
    pub endorsers: BTreeSet<AgentId>,
    /// How many of them it takes for L1.
    pub endorsements_min: usize,
    /// Acknowledged calls for L2.
    pub acknowledged_min: u64,
    /// Canaries in a row for L2.
    pub canaries_min: u64,
    /// How long experience counts after the last call.
    pub experience_max_age: Duration,
    /// Which attackers some appraised fact must exclude for L3; none = L3 is never reached.
    pub attested_against: Attackers,
    /// How many must have agreed for L4.
    pub quorum_min: u32,
    /// From how many roots.
    pub quorum_roots_min: u32,
    /// How long an agreement counts.
    pub quorum_max_age: Duration,
}

impl Default for LevelRules {
    /// One trusted endorser; ten calls with three canaries in a row within 30 days (BOINC trusts after ten valid results); evidence against
    /// software of strangers, co-tenants and the operator; three of three roots within a day.
    fn default() -> Self {
        Self {
            endorsers: BTreeSet::new(),
            endorsements_min: 1,
            acknowledged_min: 10,
            canaries_min: 3,
            experience_max_age: Duration::from_secs(30 * 24 * 3600),
            attested_against: Attackers::SOFTWARE,
            quorum_min: 3,
            quorum_roots_min: 3,
            quorum_max_age: Duration::from_secs(24 * 3600),
        }
    }
}

/// What a reader knows in support of a claim.
#[derive(Clone, Copy, Debug, Default)]
pub struct Support<'a> {
    /// Endorsements that opened.
    pub endorsements: &'a [Endorsement],
    /// The reader's own receipts.
    pub experience: Option<&'a Experience>,
    /// Evidence of the subject that was appraised in the reader's session with it.
    pub appraisals: &'a [Appraisal],
    /// The last quorum call the subject took part in.
    pub agreement: Option<&'a Agreement>,
}

/// Why a level is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "ground")]
pub enum Ground {
    /// These trusted agents endorse it.
    Endorsed {
        /// Who.
        by: Vec<AgentId>,
    },
    /// So many calls and canaries.
    Proved {
        /// Calls acknowledged.
        acknowledged: u64,
        /// Canaries in a row.
        canaries: u64,
    },
    /// Evidence of this kind excludes the attackers demanded.
    Attested {
        /// Kind of evidence.
        kind: String,
        /// Whom it excludes.
        excludes: Attackers,
    },
    /// So many of so many agreed.
    Agreed {
        /// How many.
        agreed: u32,
        /// Of how many.
        asked: u32,
    },
}

/// How well a claim is supported, and by what.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Standing {
    /// The highest level that any ground reaches.
    pub level: Level,
    /// Every ground there is.
    pub grounds: Vec<Ground>,
}

/// How well it is supported, in the reader's view, that `subject` can do what `target` names. What the subject says of itself is not asked.
#[must_use]
pub fn standing(
    subject: &AgentId,
    target: &Target<'_>,
    support: &Support<'_>,
    rules: &LevelRules,
    revocations: &Revocations,
    now: Time,
) -> Standing {
    let mut standing = Standing::default();
    let mut reach = |level: Level, ground: Ground| {
        standing.level = standing.level.max(level);
        standing.grounds.push(ground);
    };
    let counts = |endorsement: &&Endorsement| {
        rules.endorsers.contains(&endorsement.endorser)
            && endorsement.stands_for(subject, target, revocations, now)
    };
    let by: BTreeSet<AgentId> =
        support.endorsements.iter().filter(counts).map(|found| found.endorser).collect();
    if !by.is_empty() && by.len() >= rules.endorsements_min {
        reach(Level::L1, Ground::Endorsed { by: by.into_iter().collect() });
    }
    if let Some(experience) = support.experience
        && experience.acknowledged >= rules.acknowledged_min
        && experience.canaries_in_a_row >= rules.canaries_min
        && now.saturating_since(experience.last) <= rules.experience_max_age
    {
        let canaries = experience.canaries_in_a_row;
        reach(Level::L2, Ground::Proved { acknowledged: experience.acknowledged, canaries });
    }
    for appraisal in
        support.appraisals.iter().filter(|found| found.agent == *subject && found.is_valid(now))
    {
        if !rules.attested_against.is_empty()
            && let Some(fact) = appraisal.excluding(rules.attested_against)
        {
            let ground = Ground::Attested { kind: appraisal.kind.clone(), excludes: fact.excludes };
            reach(Level::L3, ground);
        }
    }
    if let Some(agreement) = support.agreement
        && agreement.agreed >= rules.quorum_min.max(2)
        && agreement.agreed.saturating_mul(2) > agreement.asked
        && agreement.roots >= rules.quorum_roots_min
        && now.saturating_since(agreement.at) <= rules.quorum_max_age
    {
        reach(Level::L4, Ground::Agreed { agreed: agreement.agreed, asked: agreement.asked });
    }
    standing
}

/// Whether a caller without a rule of its own should call an agent of this level: what nobody vouches for is good enough for calls that cost
/// nothing and can do no harm when repeated.
#[must_use]
pub const fn acceptable_by_default(level: Level, free: bool, idempotent: bool) -> bool {
    !matches!(level, Level::L0) || (free && idempotent)
}
