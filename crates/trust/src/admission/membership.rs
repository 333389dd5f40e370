//! What an agent shows of its membership: signatures checked once, everything that can change in every call.

use comity_capability::record::check_times;
use comity_core::{AgentId, Hash, Kind, Time, envelope};

use super::{AdmissionError, Admit, Admitted, Group, MAX_ADMIT, MAX_ENDORSERS, MAX_LIFE, Rule};
use crate::RawKey;
use crate::revoke::{Revocations, Withdrawn};

/// An admission whose signature holds.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Signed {
    hash: Hash,
    signer: AgentId,
    admit: Admit,
}

/// The admissions of one agent to one group, with signatures that hold. Only [`Group::membership`] makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    group: AgentId,
    subject: AgentId,
    admissions: Vec<Signed>,
}

impl Membership {
    /// Of which group.
    #[must_use]
    pub const fn group(&self) -> AgentId {
        self.group
    }

    /// Whose.
    #[must_use]
    pub const fn subject(&self) -> AgentId {
        self.subject
    }

    /// Whose withdrawals can end it: the group itself, and everybody whose admission it rests on.
    pub fn issuers(&self) -> impl Iterator<Item = AgentId> {
        [self.group].into_iter().chain(self.admissions.iter().map(|signed| signed.signer))
    }
}

impl Group {
    /// The agents who admit, in order of their keys; none in an open group.
    #[must_use]
    pub fn stewards(&self) -> &[AgentId] {
        &self.endorsers
    }

    /// Checks one sealed admission of `subject`, and returns whose it is. Times and withdrawals are not asked.
    ///
    /// # Errors
    /// [`AdmissionError`].
    pub fn admission(&self, subject: &AgentId, bytes: &[u8]) -> Result<AgentId, AdmissionError> {
        let signer = self.endorser_of(bytes)?;
        self.signed(bytes, signer, subject).map(|signed| signed.signer)
    }

    /// Whether one sealed admission of `subject` holds now for a capability of this name, whatever else the charter asks for: to choose which
    /// ones to show.
    ///
    /// # Errors
    /// [`AdmissionError`].
    pub fn one_holds(
        &self,
        subject: &AgentId,
        bytes: &[u8],
        name: &str,
        revocations: &Revocations,
        now: Time,
    ) -> Result<(), AdmissionError> {
        let signer = self.endorser_of(bytes)?;
        let signed = self.signed(bytes, signer, subject)?;
        self.still_holds(&signed, name, revocations, now)
    }

    /// The membership of `subject` that these sealed [`Admit`]s show: as many as are needed are looked at, from the first on, and all of
    /// these must be in order. An open group asks for none.
    ///
    /// Costs at most as many signatures as the charter needs, and none for what comes from somebody who is no endorser. The result serves for a
    /// whole session; [`Group::holds`] and [`Group::fresh`] say whether it counts now.
    ///
    /// # Errors
    /// [`AdmissionError`].
    pub fn membership(
        &self,
        subject: &AgentId,
        admissions: &[&[u8]],
    ) -> Result<Membership, AdmissionError> {
        let mut membership =
            Membership { group: self.id, subject: *subject, admissions: Vec::new() };
        let needed = match &self.charter.rule {
            Rule::Open | Rule::Private => return Ok(membership),
            Rule::Governed { needed, .. } => *needed,
        };
        if admissions.len() > MAX_ENDORSERS {
            return Err(AdmissionError::TooMany { count: admissions.len() });
        }
        for bytes in admissions {
            let signer = self.endorser_of(bytes)?;
            if membership.admissions.iter().any(|signed| signed.signer == signer) {
                return Err(AdmissionError::Twice { signer });
            }
            membership.admissions.push(self.signed(bytes, signer, subject)?);
            // The group's own word is enough.
            if membership.admissions.len() >= usize::from(needed) || signer == self.id {
                return Ok(membership);
            }
        }
        Err(AdmissionError::TooFew { needed, found: membership.admissions.len() })
    }

    fn signed(
        &self,
        bytes: &[u8],
        signer: AgentId,
        subject: &AgentId,
    ) -> Result<Signed, AdmissionError> {
        let opened = envelope::open_expecting::<Admit>(Kind::Admit, bytes, MAX_ADMIT, &signer)
            .map_err(AdmissionError::Admit)?;
        if opened.signer != signer {
            return Err(AdmissionError::NotAnEndorser { signer: opened.signer.into() });
        }
        let admit = opened.payload;
        if admit.group != self.id {
            return Err(AdmissionError::Other { signer, what: "group" });
        }
        if admit.subject != *subject {
            return Err(AdmissionError::Other { signer, what: "agent" });
        }
        Ok(Signed { hash: opened.hash, signer, admit })
    }

    /// Whether the membership holds now for a capability of this name, by this charter and by what is known to be withdrawn.
    ///
    /// The charter may be a newer one than that by which the membership was shown: who is no endorser any more admits nobody any more.
    ///
    /// # Errors
    /// [`AdmissionError`] says what ended it.
    pub fn holds(
        &self,
        membership: &Membership,
        name: &str,
        revocations: &Revocations,
        now: Time,
    ) -> Result<Admitted, AdmissionError> {
        self.belongs_at_all(&membership.subject, revocations, now)?;
        let needed = match &self.charter.rule {
            Rule::Open => return Ok(Admitted::Open),
            Rule::Private => return Ok(Admitted::Veiled),
            Rule::Governed { needed, .. } => *needed,
        };
        let (mut endorsers, mut until) = (Vec::new(), self.charter.not_after);
        for signed in &membership.admissions {
            self.still_holds(signed, name, revocations, now)?;
            until = until.min(signed.admit.not_after);
            endorsers.push(signed.signer);
        }
        if endorsers.len() < usize::from(needed) && !endorsers.contains(&self.id) {
            return Err(AdmissionError::TooFew { needed, found: endorsers.len() });
        }
        Ok(Admitted::By { endorsers, until })
    }

    fn still_holds(
        &self,
        signed: &Signed,
        name: &str,
        revocations: &Revocations,
        now: Time,
    ) -> Result<(), AdmissionError> {
        let Signed { hash, signer, admit } = signed;
        if *signer != self.id && !self.endorsers.contains(signer) {
            return Err(AdmissionError::NotAnEndorser { signer: (*signer).into() });
        }
        if admit.group != self.id {
            return Err(AdmissionError::Other { signer: *signer, what: "group" });
        }
        if !admit.pattern.matches(name) {
            return Err(AdmissionError::Other { signer: *signer, what: "capability" });
        }
        check_times(admit.issued, admit.not_after, now, MAX_LIFE)
            .map_err(|source| AdmissionError::Times { what: "admission", source })?;
        let back = [
            Withdrawn::Statement(*hash),
            Withdrawn::Key(admit.subject),
            Withdrawn::Key(RawKey::from(*signer)),
        ];
        match back.iter().find_map(|target| revocations.find(signer, target)) {
            Some(revoke) => Err(AdmissionError::Withdrawn { signer: *signer, at: revoke.at }),
            None => Ok(()),
        }
    }

    /// Whether what is known of everybody's withdrawals who can end the membership is as recent as the charter asks for.
    ///
    /// # Errors
    /// [`AdmissionError::Stale`] names the first of whom it is not.
    pub fn fresh(
        &self,
        membership: &Membership,
        revocations: &Revocations,
        now: Time,
    ) -> Result<(), AdmissionError> {
        let stale = self.charter.stale();
        match membership.issuers().find(|issuer| !revocations.is_fresh(issuer, now, stale)) {
            None => Ok(()),
            Some(issuer) => Err(AdmissionError::Stale {
                issuer,
                as_of: revocations.as_of(&issuer, now),
                max_s: stale.as_secs(),
            }),
        }
    }
}
