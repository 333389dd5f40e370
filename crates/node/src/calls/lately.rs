//! Whom an address meant a moment ago: neither its place in the network nor its record is looked up for each of many calls.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use comity_api::types::{CallRequest, QueryInput};
use comity_core::Time;

use super::Callee;
use crate::node::Node;
use crate::resolve::Reference;
use crate::transport::Protocol;

/// For how long it is remembered whom an address meant, with the record read then.
const LATELY: Duration = Duration::from_secs(30);
/// Addresses that are remembered so.
const LATELY_MAX: usize = 1_024;

/// Whom addresses meant a moment ago.
#[derive(Debug, Default)]
pub(crate) struct Lately(Mutex<BTreeMap<String, (Time, Callee)>>);

impl Lately {
    fn get(&self, name: &str, now: Time) -> Option<Callee> {
        let (at, callee) = self.lock().get(name).cloned()?;
        (now.saturating_since(at) < LATELY).then_some(callee)
    }

    fn insert(&self, name: &str, callee: Callee, now: Time) {
        let mut known = self.lock();
        if known.len() >= LATELY_MAX {
            known.retain(|_, (at, _)| now.saturating_since(*at) < LATELY);
        }
        if known.len() < LATELY_MAX {
            known.insert(name.to_owned(), (now, callee));
        }
    }

    fn forget(&self, name: &str) {
        self.lock().remove(name);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, (Time, Callee)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The name under which a target is remembered: only what names an agent by its key or address means the same from one moment to the next.
fn lately_name(request: &CallRequest) -> Option<&str> {
    let QueryInput::Text(text) = &request.target else { return None };
    let plain = request.group.is_none() && request.grant.is_none();
    let (agent, _) = text.rsplit_once('/')?;
    match Reference::parse(agent)? {
        Reference::Key(..) | Reference::Address(_) => plain.then_some(text),
        Reference::CheckedHandle(_) | Reference::Handle(_) => None,
    }
}

impl Node {
    /// Whom this very target meant a moment ago, if it answered then and its link still lives: neither its place nor its record is looked up.
    pub(super) fn called_lately(&self, request: &CallRequest) -> Option<Callee> {
        if request.quorum.is_some() {
            return None;
        }
        let callee = self.inner.lately.get(lately_name(request)?, self.inner.clock.now())?;
        self.inner.transport.is_linked(&callee.agent, Protocol::Rpc).then_some(callee)
    }

    pub(super) fn note_lately(&self, request: &CallRequest, callee: &Callee) {
        let plain = callee.group.is_none() && callee.grants.is_none() && callee.agent != self.id();
        if let Some(name) = lately_name(request)
            && plain
            && !callee.remembered
        {
            let callee = Callee { remembered: true, ..callee.clone() };
            self.inner.lately.insert(name, callee, self.inner.clock.now());
        }
    }

    pub(super) fn forget_lately(&self, request: &CallRequest) {
        if let Some(name) = lately_name(request) {
            self.inner.lately.forget(name);
        }
    }
}
