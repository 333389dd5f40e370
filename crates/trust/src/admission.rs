//! Who may publish in a group.
//!
//! A group is a key. Its charter, signed with that key, says who belongs: anybody (open), whom m of n named endorsers admit (governed), or
//! who holds the group's secret (private). The custodians of a governed group's shards ask for the admission along with the digest, and check it
//! with nothing but the charter and what was withdrawn: no member list, no call to anyone. In a private group there is nothing to check, because custodians
//! see veiled items only; the secret itself decides. Source: DESIGN.md section 6.
//!
//! A caller shows the same to a callee whose policy names the group: charter and admissions, once for a session ([`Group::membership`]); whether they
//! still hold is asked in every call ([`Group::holds`]), and so is whether what is known of the group's and the endorsers' withdrawals is recent
//! enough ([`Group::fresh`]): who keeps an expulsion from a callee gains the time that the charter states, and no more.

mod membership;

use std::collections::BTreeSet;
use std::time::Duration;

use comity_capability::record::{TimesError, check_times};
use comity_core::canonical::Version;
use comity_core::envelope::{self, EnvelopeError, MAX_OVERHEAD};
use comity_core::receipt::ShortText;
use comity_core::{AgentId, Hash, Identity, KeyError, Kind, Time};
use serde::Serialize;

use crate::revoke::{Revocations, Withdrawn};
use crate::wire::{self, checked_payload};
use crate::{Pattern, RawKey};

/// Longest sealed charter, in bytes.
pub const MAX_CHARTER: usize = 3072;
/// Longest sealed admission, in bytes.
pub const MAX_ADMIT: usize = 512;
/// Most endorsers that a charter names. Their keys pass intake once per charter, so that an admission costs its signatures alone: nine take some
/// 0.6 ms each way.
pub const MAX_ENDORSERS: usize = 9;
/// Most agents that a charter expels by name; more are expelled by withdrawing their admissions.
pub const MAX_EXPELLED: usize = 64;
/// Longest life of an admission, and of a charter before it must be signed anew.
pub const MAX_LIFE: Duration = Duration::from_secs(366 * 24 * 3600);
/// How old what is known of a group's withdrawals may be where its charter does not say.
pub const DEFAULT_STALE: Duration = Duration::from_secs(600);
/// Longest that a charter can say.
pub const MAX_STALE: Duration = Duration::from_secs(7 * 24 * 3600);

pub use membership::Membership;

/// Who belongs to a group.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode, Serialize)]
#[serde(rename_all = "kebab-case", tag = "rule")]
pub enum Rule {
    /// Anybody.
    #[n(0)]
    Open,
    /// Whom so many of the named endorsers admit, or the group's own key.
    #[n(1)]
    Governed {
        /// How many.
        #[n(0)]
        needed: u8,
        /// Of whom.
        #[n(1)]
        endorsers: BTreeSet<RawKey>,
    },
    /// Who holds the group's secret.
    #[n(2)]
    Private,
}

/// The rules of a group; the signer of its envelope is the group.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode, Serialize)]
#[cbor(map)]
pub struct Charter {
    /// Format version.
    #[n(0)]
    #[serde(skip)]
    pub version: Version<1>,
    /// Grows with each charter; the highest counts.
    #[n(1)]
    pub seq: u64,
    /// The group's name for people. Data, never an instruction.
    #[n(2)]
    #[serde(serialize_with = "short_text")]
    pub name: ShortText,
    /// Who belongs.
    #[n(3)]
    pub rule: Rule,
    /// Since when.
    #[cbor(n(4), with = "crate::wire::millis")]
    pub issued: Time,
    /// Until when.
    #[cbor(n(5), with = "crate::wire::millis")]
    pub not_after: Time,
    /// Who does not, whoever admitted them.
    #[n(6)]
    pub expelled: Option<BTreeSet<RawKey>>,
    /// How many milliseconds old what is known of the withdrawals of the group and of who admits may be before no membership counts; none:
    /// [`DEFAULT_STALE`].
    #[n(7)]
    pub stale_ms: Option<u64>,
    /// The agent whose node keeps the group's key, and hands out its charter and what it withdrew.
    #[n(8)]
    pub host: Option<RawKey>,
}

/// An endorser's admission of an agent to a governed group.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode, Serialize)]
#[cbor(map)]
pub struct Admit {
    /// Format version.
    #[n(0)]
    #[serde(skip)]
    pub version: Version<1>,
    /// To which group.
    #[n(1)]
    pub group: RawKey,
    /// Who.
    #[n(2)]
    pub subject: RawKey,
    /// With which capabilities.
    #[n(3)]
    pub pattern: Pattern,
    /// Since when.
    #[cbor(n(4), with = "crate::wire::millis")]
    pub issued: Time,
    /// Until when.
    #[cbor(n(5), with = "crate::wire::millis")]
    pub not_after: Time,
}

/// Why a charter or an admission is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AdmissionError {
    /// The charter's envelope or payload.
    #[error("the charter does not verify")]
    Charter(#[source] EnvelopeError),
    /// An admission's envelope or payload.
    #[error("the admission does not verify")]
    Admit(#[source] EnvelopeError),
    /// The times.
    #[error("the {what} is not valid now")]
    Times {
        /// `charter` or `admission`.
        what: &'static str,
        /// Why.
        source: TimesError,
    },
    /// A charter names nobody, too many, or needs more than it names.
    #[error(
        "a governed group needs 1 to n of n endorsers, n at most {MAX_ENDORSERS}; this charter needs {needed} of {named}"
    )]
    Endorsers {
        /// How many it needs.
        needed: u8,
        /// How many it names.
        named: usize,
    },
    /// A charter expels too many.
    #[error(
        "a charter expels 1 to {MAX_EXPELLED} agents by name or leaves the list out, and this one has {count}: withdraw their admissions instead"
    )]
    Expelled {
        /// How many.
        count: usize,
    },
    /// A charter asks for what is never or hardly ever fresh.
    #[error(
        "a group's withdrawals may be known since 1 ms to {} days, and this charter says {stale_ms} ms", MAX_STALE.as_secs() / 86_400
    )]
    StaleBound {
        /// What it says.
        stale_ms: u64,
    },
    /// What is known of somebody's withdrawals is too old, or nothing is.
    #[error(
        "the group needs to know what {issuer} withdrew since {max_s} s ago or later, {}: its node must be reachable once in that time",
        as_of.map_or_else(|| "and nothing is known here".to_owned(), |at| format!("and what is known here is of {at}"))
    )]
    Stale {
        /// Whose.
        issuer: AgentId,
        /// Of when the newest known set is.
        as_of: Option<Time>,
        /// How many seconds old it may be.
        max_s: u64,
    },
    /// A charter names an endorser that is no proper key.
    #[error("the charter names an endorser that is not a proper key: {key}")]
    Key {
        /// Which.
        key: RawKey,
        /// Why.
        source: KeyError,
    },
    /// The agent was expelled.
    #[error("{subject} was expelled from the group")]
    Out {
        /// Who.
        subject: AgentId,
    },
    /// More admissions than there can be endorsers.
    #[error(
        "{count} admissions, and a group has at most {MAX_ENDORSERS} endorsers: send as many as are needed"
    )]
    TooMany {
        /// How many.
        count: usize,
    },
    /// Whoever signed is no endorser of this group.
    #[error("{signer} is no endorser of this group, and its admission says nothing here")]
    NotAnEndorser {
        /// Who.
        signer: RawKey,
    },
    /// Two admissions by one endorser.
    #[error("{signer} admits twice, and counts once")]
    Twice {
        /// Who.
        signer: AgentId,
    },
    /// About another agent, group or capability.
    #[error("the admission by {signer} is of another {what}")]
    Other {
        /// Who signed.
        signer: AgentId,
        /// What differs.
        what: &'static str,
    },
    /// Taken back.
    #[error("{signer} took its admission back at {at}")]
    Withdrawn {
        /// Who.
        signer: AgentId,
        /// When.
        at: Time,
    },
    /// Not enough.
    #[error(
        "the group needs {needed} admissions, and {found} hold: ask its endorsers, `comity group` names them"
    )]
    TooFew {
        /// How many are needed.
        needed: u8,
        /// How many hold.
        found: usize,
    },
}

impl Charter {
    /// A charter from `issued` until `not_after`. `seq` must be higher than that of the one before.
    pub fn new(seq: u64, name: ShortText, rule: Rule, issued: Time, not_after: Time) -> Self {
        Self {
            version: Version,
            seq,
            name,
            rule,
            issued: wire::whole_millis(issued),
            not_after: wire::whole_millis(not_after),
            expelled: None,
            stale_ms: None,
            host: None,
        }
    }

    /// The charter of a group whose key `host` keeps, and in which an expulsion counts everywhere within `stale`.
    #[must_use]
    pub fn hosted(self, host: AgentId, stale: Duration) -> Self {
        let stale_ms = u64::try_from(stale.as_millis()).unwrap_or(u64::MAX);
        Self { host: Some(host.into()), stale_ms: Some(stale_ms), ..self }
    }

    /// How old what is known of withdrawals may be.
    #[must_use]
    pub fn stale(&self) -> Duration {
        self.stale_ms.map_or(DEFAULT_STALE, Duration::from_millis)
    }

    /// Checks the numbers of endorsers and expelled, and the bound on staleness.
    ///
    /// # Errors
    /// [`AdmissionError::Endorsers`], [`AdmissionError::Expelled`] and [`AdmissionError::StaleBound`].
    pub fn check(&self) -> Result<(), AdmissionError> {
        if let Rule::Governed { needed, endorsers } = &self.rule {
            let named = endorsers.len();
            if named > MAX_ENDORSERS || !(1..=named).contains(&usize::from(*needed)) {
                return Err(AdmissionError::Endorsers { needed: *needed, named });
            }
        }
        let stale_max = u64::try_from(MAX_STALE.as_millis()).unwrap_or(u64::MAX);
        if let Some(stale_ms) = self.stale_ms
            && !(1..=stale_max).contains(&stale_ms)
        {
            return Err(AdmissionError::StaleBound { stale_ms });
        }
        let count = self.expelled.as_ref().map_or(1, BTreeSet::len);
        if (1..=MAX_EXPELLED).contains(&count) {
            Ok(())
        } else {
            Err(AdmissionError::Expelled { count })
        }
    }

    /// Signs it with the group's key.
    ///
    /// # Errors
    /// As [`Charter::check`].
    pub fn seal(&self, group: &Identity) -> Result<Vec<u8>, AdmissionError> {
        self.check()?;
        Ok(envelope::seal(Kind::Charter, self, group))
    }
}

impl Admit {
    /// `subject` belongs to `group` with what `pattern` names, from `issued` until `not_after`.
    pub fn new(
        group: AgentId,
        subject: AgentId,
        pattern: Pattern,
        issued: Time,
        not_after: Time,
    ) -> Self {
        Self {
            version: Version,
            group: group.into(),
            subject: subject.into(),
            pattern,
            issued: wire::whole_millis(issued),
            not_after: wire::whole_millis(not_after),
        }
    }

    /// Signs it.
    #[must_use]
    pub fn seal(&self, endorser: &Identity) -> Vec<u8> {
        envelope::seal(Kind::Admit, self, endorser)
    }

    #[expect(
        clippy::unused_self,
        clippy::unnecessary_wraps,
        reason = "the shape of every payload's check"
    )]
    const fn check(&self) -> Result<(), AdmissionError> {
        Ok(())
    }
}

checked_payload!(Charter, MAX_CHARTER - (MAX_OVERHEAD - 9));
checked_payload!(Admit, MAX_ADMIT - (MAX_OVERHEAD - 9));

/// A group whose charter verified. Only [`Group::open`] makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    id: AgentId,
    hash: Hash,
    charter: Charter,
    endorsers: Vec<AgentId>,
}

/// Why an agent belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Admitted {
    /// Anybody does.
    Open,
    /// These admit it; until when.
    By {
        /// Who.
        endorsers: Vec<AgentId>,
        /// The end of the admission that ends first.
        until: Time,
    },
    /// It is for those with the secret to see.
    Veiled,
}

impl Group {
    /// Opens a sealed charter: size, signature, limits, times, and the keys of its endorsers.
    ///
    /// # Errors
    /// [`AdmissionError`].
    pub fn open(bytes: &[u8], now: Time) -> Result<Self, AdmissionError> {
        let opened = envelope::open::<Charter>(Kind::Charter, bytes, MAX_CHARTER)
            .map_err(AdmissionError::Charter)?;
        let charter = opened.payload;
        check_times(charter.issued, charter.not_after, now, MAX_LIFE)
            .map_err(|source| AdmissionError::Times { what: "charter", source })?;
        let mut endorsers = Vec::new();
        if let Rule::Governed { endorsers: named, .. } = &charter.rule {
            for key in named {
                endorsers.push(
                    key.intake().map_err(|source| AdmissionError::Key { key: *key, source })?,
                );
            }
        }
        Ok(Self { id: opened.signer, hash: opened.hash, charter, endorsers })
    }

    /// The group: its key.
    #[must_use]
    pub const fn id(&self) -> AgentId {
        self.id
    }

    /// Hash of the sealed charter.
    #[must_use]
    pub const fn hash(&self) -> Hash {
        self.hash
    }

    /// What the charter says.
    #[must_use]
    pub const fn charter(&self) -> &Charter {
        &self.charter
    }

    /// Whether this charter takes the place of `other`: of the same group, and newer. Of equals the one held stays.
    #[must_use]
    pub fn replaces(&self, other: &Self) -> bool {
        self.id == other.id
            && (self.charter.seq, self.charter.issued) > (other.charter.seq, other.charter.issued)
    }

    /// Whether `subject` may publish a capability of this name in the group now; `admissions` are the sealed [`Admit`]s it sent along.
    ///
    /// What a custodian checks before it stores a digest. Costs at most as many signatures as the charter needs, and none for what comes from
    /// somebody who is no endorser.
    ///
    /// # Errors
    /// [`AdmissionError`] says what is missing.
    pub fn admits(
        &self,
        subject: &AgentId,
        name: &str,
        admissions: &[&[u8]],
        revocations: &Revocations,
        now: Time,
    ) -> Result<Admitted, AdmissionError> {
        self.belongs_at_all(subject, revocations, now)?;
        let membership = self.membership(subject, admissions)?;
        self.holds(&membership, name, revocations, now)
    }

    /// That the charter is in force and does not shut the agent out.
    fn belongs_at_all(
        &self,
        subject: &AgentId,
        revocations: &Revocations,
        now: Time,
    ) -> Result<(), AdmissionError> {
        check_times(self.charter.issued, self.charter.not_after, now, MAX_LIFE)
            .map_err(|source| AdmissionError::Times { what: "charter", source })?;
        let key = RawKey::from(*subject);
        let expelled = self.charter.expelled.as_ref().is_some_and(|out| out.contains(&key))
            || revocations.find(&self.id, &Withdrawn::Key(key)).is_some();
        if expelled { Err(AdmissionError::Out { subject: *subject }) } else { Ok(()) }
    }

    /// Which endorser is said to have signed.
    fn endorser_of(&self, bytes: &[u8]) -> Result<AgentId, AdmissionError> {
        let signer = wire::claimed_signer(bytes).unwrap_or(RawKey([0; 32]));
        let known = self.endorsers.iter().chain([&self.id]).find(|known| signer == **known);
        known.copied().ok_or(AdmissionError::NotAnEndorser { signer })
    }
}

fn short_text<S: serde::Serializer>(text: &ShortText, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(text.as_str())
}
