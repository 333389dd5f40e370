//! What a handle means, when several agents could have it.
//!
//! A handle has 48 bits, and whoever does not care whom he hits can make a key that shares somebody's (see `comity_core`). So:
//!
//! 1. A handle that leads to several live keys and is not pinned is refused, with their addresses; nobody is picked.
//! 2. The first key found under a handle is pinned. Later keys under it change nothing, and are reported.
//! 3. A pinned key that is gone makes way for another only through a [`Succession`] from it. A handle then follows its first key's successors.
//! 4. `handle#check`, 88 bits, needs no pin: making a second key for one takes 2^40 times as much. Two under one are refused all the same.
//!
//! Source: DESIGN.md section 3, TRUST.md section 2.1 (conflict resolution) and T1.

use std::collections::BTreeMap;

use comity_core::{Address, AgentId, CheckedHandle, Handle, Hash, OverlayId, Time};
use serde::{Deserialize, Serialize};

use crate::succession::{Pin, Succession, SuccessionError};

/// Most handles that are pinned.
pub const MAX_PINS: usize = 65_536;
/// Most keys that an error names.
pub const MAX_NAMED: usize = 8;

/// A key that answers under a handle now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Live {
    /// The key.
    pub agent: AgentId,
    /// Its place, derived from the key.
    pub overlay_id: OverlayId,
}

impl Live {
    /// Its address.
    #[must_use]
    pub fn address(&self) -> Address {
        self.overlay_id.address()
    }
}

/// Whom a handle means, and how that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The agent.
    pub agent: AgentId,
    /// How.
    pub how: How,
    /// Other live keys under the handle, at most [`MAX_NAMED`]: accidents are rare, so somebody may have made them.
    pub conflicts: Vec<Live>,
}

/// How it is known whom a handle means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// It was the only one, and is pinned now.
    First,
    /// It is the pinned one.
    Pinned,
    /// It succeeded the pinned one, and is pinned now.
    Succeeded,
    /// The check is its.
    Checked,
}

/// Why a handle is not resolved.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandleError {
    /// Nobody answers.
    #[error("no agent answers to {handle}: check the handle, and that the agent is up")]
    NotFound {
        /// The handle as given.
        handle: String,
    },
    /// Several answer.
    #[error(
        "{handle} means {count} agents; use the address of the one you mean, or its handle#check: {}",
        agents.iter().map(|live| live.address().to_string()).collect::<Vec<_>>().join(", ")
    )]
    Ambiguous {
        /// The handle as given.
        handle: String,
        /// How many.
        count: usize,
        /// Some of them.
        agents: Vec<Live>,
    },
    /// Somebody else answers than the pinned key.
    #[error("{handle} has meant {pinned} since {since}, and now {} answers: if its owner confirms the new key, pin it", found.agent)]
    Changed {
        /// The handle.
        handle: Handle,
        /// The pinned key.
        pinned: AgentId,
        /// Since when.
        since: Time,
        /// Who answers.
        found: Live,
        /// Why no succession leads there, if one was presented.
        succession: Option<Box<SuccessionError>>,
    },
    /// As many are pinned as can be.
    #[error("{MAX_PINS} handles are pinned and no more can be: use addresses, or unpin some")]
    Full,
}

/// What a handle is pinned to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pinned {
    /// The key it was pinned to first.
    pub first: AgentId,
    /// That key, or the last that succeeded it.
    #[serde(flatten)]
    pub pin: Pin,
}

/// The keys that handles mean to this node. To be stored whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pins {
    pins: BTreeMap<Handle, Pinned>,
}

impl Pins {
    /// None.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pins.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pins.is_empty()
    }

    /// Every pin.
    pub fn iter(&self) -> impl Iterator<Item = (&Handle, &Pinned)> {
        self.pins.iter()
    }

    /// What a handle is pinned to.
    #[must_use]
    pub fn get(&self, handle: &Handle) -> Option<&Pinned> {
        self.pins.get(handle)
    }

    /// Pins by the operator's word.
    ///
    /// # Errors
    /// [`HandleError::Full`].
    pub fn pin(
        &mut self,
        handle: Handle,
        key: AgentId,
        next: Option<Hash>,
        now: Time,
    ) -> Result<(), HandleError> {
        if self.pins.len() >= MAX_PINS && !self.pins.contains_key(&handle) {
            return Err(HandleError::Full);
        }
        self.pins.insert(handle, Pinned { first: key, pin: Pin::new(key, next, now) });
        Ok(())
    }

    /// Puts back a pin that was kept; more than can be pinned are left out.
    pub fn restore(&mut self, handle: Handle, pinned: Pinned) {
        if self.pins.len() < MAX_PINS || self.pins.contains_key(&handle) {
            self.pins.insert(handle, pinned);
        }
    }

    /// Forgets a pin by the operator's word.
    pub fn unpin(&mut self, handle: &Handle) -> Option<Pinned> {
        self.pins.remove(handle)
    }

    /// Takes note of a record of `agent`; returns whether it agrees with what was seen before (see [`Pin::saw_record`]).
    pub fn saw_record(&mut self, handle: &Handle, agent: &AgentId, next: Hash) -> bool {
        match self.pins.get_mut(handle) {
            Some(pinned) if pinned.pin.key == *agent => pinned.pin.saw_record(next),
            Some(_) | None => true,
        }
    }

    /// Whom `handle` means. `live` are the keys that answer under it; `successions` were presented by whoever claims to have succeeded.
    ///
    /// # Errors
    /// [`HandleError`]; nothing is pinned then.
    pub fn resolve(
        &mut self,
        handle: &Handle,
        live: &[Live],
        successions: &[Succession],
        now: Time,
    ) -> Result<Resolved, HandleError> {
        let mut under: Vec<Live> =
            live.iter().filter(|live| handle.matches(&live.overlay_id)).copied().collect();
        under.sort();
        under.dedup();
        let Some(Pinned { first, pin }) = self.pins.get(handle).copied() else {
            let only = only_one(&under, || handle.to_string())?;
            self.pin(*handle, only.agent, None, now)?;
            return Ok(Resolved { agent: only.agent, how: How::First, conflicts: Vec::new() });
        };
        let mut refused = None;
        for succession in successions {
            match succession.follow(&pin, now) {
                Ok(successor) => {
                    self.pins.insert(*handle, Pinned { first, pin: successor });
                    let conflicts = others(&under, &[first, pin.key, successor.key]);
                    return Ok(Resolved { agent: successor.key, how: How::Succeeded, conflicts });
                }
                Err(error) => refused = Some(Box::new(error)),
            }
        }
        let conflicts = others(&under, &[first, pin.key]);
        // A successor has a place and a handle of its own: that it does not answer under this one says nothing.
        let gone = pin.key == first && !under.iter().any(|live| live.agent == first);
        match conflicts.first() {
            Some(found) if gone => {
                let (handle, pinned, since, found) = (*handle, pin.key, pin.since, *found);
                Err(HandleError::Changed { handle, pinned, since, found, succession: refused })
            }
            Some(_) | None => Ok(Resolved { agent: pin.key, how: How::Pinned, conflicts }),
        }
    }

    /// Whom `handle#check` means.
    ///
    /// # Errors
    /// [`HandleError::NotFound`] and [`HandleError::Ambiguous`].
    pub fn resolve_checked(
        &self,
        handle: &CheckedHandle,
        live: &[Live],
    ) -> Result<Resolved, HandleError> {
        let mut under: Vec<Live> =
            live.iter().filter(|live| handle.matches(&live.overlay_id)).copied().collect();
        under.sort();
        under.dedup();
        let only = only_one(&under, || handle.to_string())?;
        let same_handle: Vec<Live> =
            live.iter().filter(|live| handle.handle.matches(&live.overlay_id)).copied().collect();
        let conflicts = others(&same_handle, &[only.agent]);
        Ok(Resolved { agent: only.agent, how: How::Checked, conflicts })
    }
}

fn others(under: &[Live], known: &[AgentId]) -> Vec<Live> {
    under.iter().filter(|live| !known.contains(&live.agent)).take(MAX_NAMED).copied().collect()
}

fn only_one(under: &[Live], handle: impl Fn() -> String) -> Result<Live, HandleError> {
    match under {
        [] => Err(HandleError::NotFound { handle: handle() }),
        [only] => Ok(*only),
        several => Err(HandleError::Ambiguous {
            handle: handle(),
            count: several.len(),
            agents: several.iter().take(MAX_NAMED).copied().collect(),
        }),
    }
}
