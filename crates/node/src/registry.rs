//! What this agent serves: declarations, the specialists behind them, and how they are doing.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use comity_capability::record::{Capability, CapabilityError, Visibility};
use comity_specialist::Specialist;

use crate::handler::offer_of;
use crate::rpc::Offer;

/// One served capability.
pub(crate) struct Served {
    /// The declaration as published.
    pub(crate) capability: Capability,
    /// The private group it is served to, by its name here.
    pub(crate) group: Option<String>,
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
    /// Calls being answered.
    running: Arc<AtomicU32>,
}

/// A call counts as being answered for as long as this is held.
#[derive(Debug)]
#[must_use]
pub(crate) struct InAnswer(Arc<AtomicU32>);

impl Drop for InAnswer {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
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
        group: Option<String>,
    ) -> Result<Self, CapabilityError> {
        capability.check()?;
        let offer = Arc::new(offer_of(&capability, capability.hash()));
        let (calls, failures) = (AtomicU64::new(0), AtomicU64::new(0));
        let running = Arc::default();
        Ok(Self { capability, group, offer, specialist, source, calls, failures, running })
    }

    /// Begins to answer a call.
    pub(crate) fn begin(&self) -> InAnswer {
        self.running.fetch_add(1, Ordering::Relaxed);
        InAnswer(Arc::clone(&self.running))
    }

    /// Calls being answered now.
    pub(crate) fn running(&self) -> u32 {
        self.running.load(Ordering::Relaxed)
    }

    /// Whether everybody may find it.
    pub(crate) fn is_public(&self) -> bool {
        self.group.is_none() && self.capability.visibility == Visibility::Public
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

    /// What is served to a private group, by name.
    pub(crate) fn of_group(&self, group: &str) -> Vec<Arc<Served>> {
        let mut all = self.all();
        all.retain(|served| served.group.as_deref() == Some(group));
        all
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
