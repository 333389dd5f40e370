//! Trust between two agents: it holds when both have signed it.
//!
//! One side's [`Trust`] sent to the other is a request; the other's back is the approval. Either ends it by withdrawing its own
//! ([`crate::revoke`]) or by letting it run out. What trusted agents may do is the policy's to say (`trusted = true`).

use std::collections::BTreeMap;
use std::time::Duration;

use comity_capability::record::{TimesError, check_times};
use comity_core::canonical::Version;
use comity_core::envelope::{self, EnvelopeError, MAX_OVERHEAD};
use comity_core::{AgentId, Hash, Identity, Kind, Time};
use serde::{Deserialize, Serialize};

use crate::RawKey;
use crate::revoke::{Revocations, Withdrawn};
use crate::wire::{self, checked_payload};

/// Longest sealed declaration, in bytes.
pub const MAX_TRUST: usize = 256;
/// Most agents with whom trust was declared from here.
pub const MAX_BONDS: usize = 4096;
/// Most requests of strangers that wait for an answer; the oldest makes way.
pub const MAX_REQUESTS: usize = 256;
/// Longest life of a declaration.
pub const MAX_LIFE: Duration = Duration::from_secs(366 * 24 * 3600);

/// One side: the signer trusts the peer.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
pub struct Trust {
    /// Format version.
    #[n(0)]
    pub version: Version<1>,
    /// Whom.
    #[n(1)]
    pub peer: RawKey,
    /// Since when.
    #[cbor(n(2), with = "crate::wire::millis")]
    pub issued: Time,
    /// Until when.
    #[cbor(n(3), with = "crate::wire::millis")]
    pub not_after: Time,
}

impl Trust {
    const fn check(&self) -> Result<(), BondError> {
        let _ = self;
        Ok(())
    }
}

checked_payload!(Trust, MAX_TRUST - (MAX_OVERHEAD - 9));

/// Why a declaration is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BondError {
    /// The envelope or the payload in it.
    #[error("the declaration of trust does not verify")]
    Envelope(#[source] EnvelopeError),
    /// The times.
    #[error("the declaration of trust is not valid now")]
    Times(#[source] TimesError),
    /// To somebody else.
    #[error("{by} declares trust in {peer}, not in this agent")]
    NotMe {
        /// Who declares it.
        by: AgentId,
        /// In whom.
        peer: RawKey,
    },
    /// In oneself.
    #[error("an agent need not declare trust in itself")]
    Itself,
    /// As many as there can be.
    #[error("trust is declared in {MAX_BONDS} agents, and in no more can it be: use a group")]
    Full,
}

/// One side's word, as kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Side {
    /// Hash of the sealed declaration: what a withdrawal names.
    pub hash: Hash,
    /// Since when.
    pub issued: Time,
    /// Until when.
    pub not_after: Time,
}

/// How two agents stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// Neither declared anything that holds.
    None,
    /// This agent asked.
    Asked,
    /// The other asked: to be approved or denied.
    Asks,
    /// Both declared it.
    Mutual,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Sides {
    mine: Option<Side>,
    theirs: Option<Side>,
}

/// What was declared, by this agent and to it. To be stored whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bonds {
    me: AgentId,
    sides: BTreeMap<AgentId, Sides>,
}

impl Bonds {
    /// Nothing declared.
    #[must_use]
    pub const fn new(me: AgentId) -> Self {
        Self { me, sides: BTreeMap::new() }
    }

    /// Whose they are.
    #[must_use]
    pub const fn me(&self) -> AgentId {
        self.me
    }

    /// The same after this agent's key was succeeded by `me`: nothing that either side said of the old key is said of the new one. Returns how
    /// many bonds ended; they are asked for anew.
    #[must_use]
    pub fn succeeded(self, me: AgentId) -> (Self, usize) {
        if me == self.me {
            return (self, 0);
        }
        let ended = self.sides.values().filter(|sides| sides.mine.is_some()).count();
        (Self::new(me), ended)
    }

    /// Declares trust in `peer` until `not_after`: a request, or the approval of one. Returns what to send to the peer.
    ///
    /// # Errors
    /// [`BondError::Itself`], [`BondError::Times`], [`BondError::Full`].
    pub fn declare(
        &mut self,
        identity: &Identity,
        peer: AgentId,
        now: Time,
        not_after: Time,
    ) -> Result<Vec<u8>, BondError> {
        if peer == self.me {
            return Err(BondError::Itself);
        }
        let (issued, not_after) = (wire::whole_millis(now), wire::whole_millis(not_after));
        check_times(issued, not_after, now, MAX_LIFE).map_err(BondError::Times)?;
        let declared = self.sides.values().filter(|sides| sides.mine.is_some()).count();
        if declared >= MAX_BONDS && self.sides.get(&peer).is_none_or(|sides| sides.mine.is_none()) {
            return Err(BondError::Full);
        }
        let trust = Trust { version: Version, peer: peer.into(), issued, not_after };
        let sealed = envelope::seal(Kind::Trust, &trust, identity);
        let side = Side { hash: Hash::of(&sealed), issued, not_after };
        self.sides.entry(peer).or_default().mine = Some(side);
        Ok(sealed)
    }

    /// Takes in the declaration of another, and returns who it is.
    ///
    /// # Errors
    /// [`BondError`].
    pub fn receive(&mut self, bytes: &[u8], now: Time) -> Result<AgentId, BondError> {
        let opened =
            envelope::open::<Trust>(Kind::Trust, bytes, MAX_TRUST).map_err(BondError::Envelope)?;
        let (by, trust) = (opened.signer, opened.payload);
        if trust.peer != self.me {
            return Err(BondError::NotMe { by, peer: trust.peer });
        }
        if by == self.me {
            return Err(BondError::Itself);
        }
        check_times(trust.issued, trust.not_after, now, MAX_LIFE).map_err(BondError::Times)?;
        if !self.sides.contains_key(&by) {
            self.make_room();
        }
        let side = Side { hash: opened.hash, issued: trust.issued, not_after: trust.not_after };
        let theirs = &mut self.sides.entry(by).or_default().theirs;
        // An older one that somebody replays does not take the place of a newer.
        if theirs.is_none_or(|held| held.issued <= side.issued) {
            *theirs = Some(side);
        }
        Ok(by)
    }

    /// A request too many takes the place of the oldest that nobody answered.
    fn make_room(&mut self) {
        let waiting = || self.sides.iter().filter(|(_, sides)| sides.mine.is_none());
        if waiting().count() >= MAX_REQUESTS {
            let oldest = waiting().min_by_key(|(_, sides)| sides.theirs.map(|side| side.issued));
            if let Some(oldest) = oldest.map(|(id, _)| *id) {
                self.sides.remove(&oldest);
            }
        }
    }

    /// How this agent and `peer` stand now. What either withdrew does not count.
    #[must_use]
    pub fn standing(&self, peer: &AgentId, revocations: &Revocations, now: Time) -> Standing {
        let Some(sides) = self.sides.get(peer) else { return Standing::None };
        let holds = |side: Option<Side>, by: &AgentId, of: &AgentId| {
            side.is_some_and(|side| {
                let back = [
                    Withdrawn::Statement(side.hash),
                    Withdrawn::Key((*of).into()),
                    Withdrawn::Key((*by).into()),
                ];
                check_times(side.issued, side.not_after, now, MAX_LIFE).is_ok()
                    && !back.iter().any(|target| revocations.find(by, target).is_some())
            })
        };
        match (holds(sides.mine, &self.me, peer), holds(sides.theirs, peer, &self.me)) {
            (true, true) => Standing::Mutual,
            (true, false) => Standing::Asked,
            (false, true) => Standing::Asks,
            (false, false) => Standing::None,
        }
    }

    /// Both sides' words with `peer`, own first.
    #[must_use]
    pub fn sides(&self, peer: &AgentId) -> (Option<Side>, Option<Side>) {
        self.sides.get(peer).map_or((None, None), |sides| (sides.mine, sides.theirs))
    }

    /// Everybody who is named.
    pub fn peers(&self) -> impl Iterator<Item = &AgentId> {
        self.sides.keys()
    }

    /// Denies a request, or forgets a bond that was withdrawn.
    pub fn forget(&mut self, peer: &AgentId) {
        self.sides.remove(peer);
    }
}
