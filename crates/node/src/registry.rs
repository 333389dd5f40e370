//! What this agent serves: declarations, the specialists behind them, and how they are doing.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use comity_capability::record::{Capability, CapabilityError, Visibility};
use comity_core::AgentId;
use comity_specialist::Specialist;

use crate::handler::offer_of;
use crate::rpc::Offer;

/// One served capability.
pub(crate) struct Served {
    /// The declaration as published.
    pub(crate) capability: Capability,
    /// What receipts say of it.
    pub(crate) offer: Arc<Offer>,
    /// Answers the calls.
    pub(crate) specialist: Arc<dyn Specialist>,
    /// What the specialist stands on, for people: a table's path, a program, an address.
    pub(crate) source: String,
    /// Calls begun.
    pub(crate) calls: AtomicU64,
    /// Calls that ended in an error that was not the caller's.
    pub(crate) failures: AtomicU64,
}

impl std::fmt::Debug for Served {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Served")
            .field("name", &self.capability.name)
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}

impl Served {
    /// Fails when the declaration breaks a limit.
    pub(crate) fn new(
        capability: Capability,
        specialist: Arc<dyn Specialist>,
        source: String,
    ) -> Result<Self, CapabilityError> {
        capability.check()?;
        let offer = Arc::new(offer_of(&capability, capability.hash()));
        let (calls, failures) = (AtomicU64::new(0), AtomicU64::new(0));
        Ok(Self { capability, offer, specialist, source, calls, failures })
    }

    /// Whether `caller` may know of and call this capability. Without a grant only the agent itself may call what is
    /// not public, and for everybody else a private capability does not exist.
    pub(crate) fn admits(&self, caller: &AgentId, me: &AgentId) -> bool {
        caller == me || self.capability.visibility == Visibility::Public
    }

    pub(crate) fn count(&self, failed: bool) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        if failed {
            self.failures.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// All served capabilities by name.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    served: RwLock<BTreeMap<String, Arc<Served>>>,
}

impl Registry {
    /// Serves `served`, in place of what had its name before.
    pub(crate) fn insert(&self, served: Served) -> Option<Arc<Served>> {
        let name = served.capability.name.clone();
        self.write().insert(name, Arc::new(served))
    }

    /// Stops serving `name`.
    pub(crate) fn remove(&self, name: &str) -> Option<Arc<Served>> {
        self.write().remove(name)
    }

    /// Puts back what an unsuccessful change took away.
    pub(crate) fn restore(&self, name: &str, previous: Option<Arc<Served>>) {
        match previous {
            Some(served) => self.write().insert(name.to_owned(), served),
            None => self.write().remove(name),
        };
    }

    pub(crate) fn get(&self, name: &str) -> Option<Arc<Served>> {
        self.read().get(name).cloned()
    }

    /// Everything served, by name.
    pub(crate) fn all(&self) -> Vec<Arc<Served>> {
        self.read().values().cloned().collect()
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, BTreeMap<String, Arc<Served>>> {
        self.served.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, BTreeMap<String, Arc<Served>>> {
        self.served.write().unwrap_or_else(PoisonError::into_inner)
    }
}
