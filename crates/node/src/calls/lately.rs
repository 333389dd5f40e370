//! Whom a target meant a moment ago: of many calls, not each looks up the agent's place in the network and reads its record.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use comity_api::types::{CallRequest, QueryInput};
use comity_core::{Hash, Time};

use super::Callee;
use crate::node::Node;
use crate::resolve::Reference;
use crate::transport::Protocol;

/// For how long it is remembered.
const LATELY: Duration = Duration::from_secs(30);
/// Targets that are remembered.
const LATELY_MAX: usize = 1_024;
/// Agents that are remembered of one, the best first.
const CALLEES_MAX: usize = 16;

/// Targets and whom they meant.
#[derive(Debug, Default)]
pub(crate) struct Lately(Mutex<BTreeMap<Hash, (Time, Arc<[Callee]>)>>);

impl Lately {
    fn get(&self, target: &Hash, now: Time) -> Option<Arc<[Callee]>> {
        let (at, callees) = self.lock().get(target).cloned()?;
        (now.saturating_since(at) < LATELY).then_some(callees)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Hash, (Time, Arc<[Callee]>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Node {
    /// Whom the target of this name meant. None of them, once one of them was proved to lie or the policy refuses one.
    pub(super) fn meant(&self, target: &Hash) -> Option<Arc<[Callee]>> {
        let callees = self.inner.lately.get(target, self.inner.clock.now())?;
        let honest = super::liars(&self.inner.results.reputation(), &callees).is_empty();
        let may = |callee: &Callee| self.refuses(&callee.capability).is_none();
        (honest && callees.iter().all(may)).then_some(callees)
    }

    /// The agent that an address meant, if its link still lives: it is called without another look. It says itself whether its declaration
    /// is still the one that is remembered.
    pub(super) fn straight_to(&self, target: &Hash, request: &CallRequest) -> Option<Callee> {
        if request.quorum.is_some() || !names_an_agent(request) {
            return None;
        }
        let callees = self.meant(target)?;
        let callee = callees.first().filter(|callee| callee.is_plain())?;
        let linked = self.inner.transport.is_linked(&callee.agent, Protocol::Rpc);
        linked.then(|| Callee { remembered: true, ..callee.clone() })
    }

    pub(super) fn note_meaning(&self, target: Hash, callees: &[Callee]) {
        if callees.first().is_none_or(|best| best.remembered || best.agent == self.id()) {
            return;
        }
        let now = self.inner.clock.now();
        let mut known = self.inner.lately.lock();
        if known.len() >= LATELY_MAX {
            known.retain(|_, (at, _)| now.saturating_since(*at) < LATELY);
        }
        if known.len() < LATELY_MAX {
            let callees = callees.iter().take(CALLEES_MAX).cloned().collect();
            known.insert(target, (now, callees));
        }
    }

    pub(super) fn forget_meaning(&self, target: &Hash) {
        self.inner.lately.lock().remove(target);
    }
}

/// Whether the target names an agent by its key or address: that means the same from one moment to the next. Handles and queries do not.
fn names_an_agent(request: &CallRequest) -> bool {
    let QueryInput::Text(text) = &request.target else { return false };
    let agent = text.rsplit_once('/').and_then(|(agent, _)| Reference::parse(agent));
    match agent {
        Some(Reference::Key(..) | Reference::Address(_)) => {
            request.group.is_none() && request.grant.is_none()
        }
        Some(Reference::CheckedHandle(_) | Reference::Handle(_)) | None => false,
    }
}
