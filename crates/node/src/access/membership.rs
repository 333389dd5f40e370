//! Whether a caller is a member of a group that the policy names, and what peers ask and tell about groups.

use comity_core::{AgentId, Time};
use comity_trust::RawKey;
use comity_trust::access::Access;
use comity_trust::admission::{AdmissionError, Membership};
use comity_trust::revoke;
use minicbor::bytes::ByteVec;
use tracing::debug;

use super::charters::ShownMembership;
use super::presented::Shown;
use super::wire::Told;
use super::{Gate, OWN_SET_AGE_MAX, State, locked};
use crate::rpc::{CallFailure, ErrorCode};

/// Sets told in one piece of news: the group's and the teller's own.
pub(super) const NEWS_SETS_MAX: usize = 2;

impl Gate {
    /// The membership that a caller shows, if the policy asks for it. Whatever else is shown costs no signature.
    pub(super) fn open_membership(
        &self,
        state: &State,
        peer: &AgentId,
        shown: &ShownMembership,
        now: Time,
    ) -> Option<Membership> {
        let claimed = comity_trust::claimed_signer(&shown.charter)?;
        if !state.groups.contains(&claimed) {
            return None;
        }
        let group = match self.charters.same(&claimed, &shown.charter) {
            Some(group) => group,
            None => self.see_charter(&shown.charter, now)?,
        };
        let admissions: Vec<&[u8]> = shown.admissions.iter().map(|bytes| &bytes[..]).collect();
        let membership = self.charters.with(&group, |known| known.membership(peer, &admissions))?;
        membership
            .inspect_err(|error| debug!(peer = %peer.short(), error = %crate::describe(error), "a membership is refused"))
            .ok()
    }

    /// Takes in a charter of a group that matters here, if it holds.
    pub(super) fn see_charter(&self, sealed: &[u8], now: Time) -> Option<AgentId> {
        match self.charters.see(sealed, now) {
            Ok((group, changed)) => {
                if changed {
                    self.dirty.notify_one();
                }
                Some(group)
            }
            Err(error) => {
                debug!(error = %crate::describe(&error), "a charter is refused");
                None
            }
        }
    }

    /// Whether a membership counts for a capability of this name now; none if its group is not known any more.
    pub(super) fn counts(
        &self,
        access: &mut Access,
        membership: &Membership,
        name: &str,
        now: Time,
    ) -> Option<Result<AgentId, AdmissionError>> {
        let group = membership.group();
        // Of a group founded here this node knows everything.
        if !access.revocations.is_fresh(&group, now, OWN_SET_AGE_MAX)
            && let Some(set) = self.charters.own_set(&group, now)
        {
            let _applied = access.revocations.apply_set(&set, now);
        }
        let revocations = &access.revocations;
        self.charters.with(&group, |known| {
            known.holds(membership, name, revocations, now)?;
            known.fresh(membership, revocations, now)?;
            Ok(group)
        })
    }

    /// What is wrong with a membership whose signatures hold: its holder may be told, because it does not depend on what there is.
    pub(super) fn membership_refused(&self, shown: &Shown, name: &str) -> Option<AdmissionError> {
        let membership = shown.membership.as_ref()?;
        let now = self.clock.now();
        let mut state = locked(&self.state);
        self.counts(&mut state.access, membership, name, now)?.err()
    }

    /// The groups that the policy names.
    pub(crate) fn policy_groups(&self) -> Vec<AgentId> {
        let groups = locked(&self.state).groups.clone();
        groups.iter().filter_map(|key| key.intake().ok()).collect()
    }

    /// Answers who asks for a group founded here.
    pub(super) fn group_for(&self, group: &RawKey) -> Told {
        let now = self.clock.now();
        let told = group.intake().ok().and_then(|group| {
            let set = self.charters.own_set(&group, now)?;
            let known = self.charters.get(&group)?;
            Some(Told::Group { charter: known.sealed.into(), set: set.into() })
        });
        told.unwrap_or(Told::Heard {})
    }

    /// A steward brings its admission of this agent.
    pub(super) async fn take_admission(
        &self,
        caller: &AgentId,
        group: &RawKey,
        admission: &[u8],
    ) -> Result<(), CallFailure> {
        let refused = |text: String| CallFailure::new(ErrorCode::InvalidInput, text);
        if comity_trust::claimed_signer(admission).is_none_or(|by| by != *caller) {
            return Err(refused("an admission is brought by the steward who signed it".to_owned()));
        }
        let group = group.intake().map_err(|error| refused(error.to_string()))?;
        let taken = self.charters.admitted(&group, admission, &self.me, &self.storage).await;
        taken.map_err(|error| refused(crate::describe(&error)))
    }

    /// Who keeps a known group's key, or is one of its stewards, tells what was withdrawn. Of anybody else nothing is read.
    pub(super) fn group_news(&self, caller: &AgentId, group: &RawKey, sets: &[ByteVec]) {
        let Ok(group) = group.intake() else { return };
        let may_tell = self.charters.with(&group, |known| {
            known.charter().host.is_some_and(|host| host == *caller)
                || known.stewards().contains(caller)
        });
        if may_tell != Some(true) {
            return;
        }
        let now = self.clock.now();
        for set in sets.iter().take(NEWS_SETS_MAX) {
            if revoke::claimed_issuer(set).is_some_and(|by| by == group || by == *caller) {
                self.take_in(&mut locked(&self.state), set, now);
            }
        }
    }
}
