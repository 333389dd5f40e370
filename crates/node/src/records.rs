//! Records of other agents, remembered by their hash: what was verified once need not be fetched again.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use comity_capability::record::Record;
use comity_core::Hash;

/// Records remembered (each at most 8 KiB sealed); the oldest is forgotten first.
const RECORDS_MAX: usize = 512;

#[derive(Debug, Default)]
pub(crate) struct RecordCache {
    inner: Mutex<Remembered>,
}

#[derive(Debug, Default)]
struct Remembered {
    records: BTreeMap<Hash, Arc<Record>>,
    order: VecDeque<Hash>,
}

impl RecordCache {
    pub(crate) fn get(&self, hash: &Hash) -> Option<Arc<Record>> {
        self.lock().records.get(hash).cloned()
    }

    pub(crate) fn insert(&self, hash: Hash, record: Arc<Record>) {
        let mut remembered = self.lock();
        if remembered.records.insert(hash, record).is_none() {
            remembered.order.push_back(hash);
        }
        if remembered.order.len() > RECORDS_MAX
            && let Some(oldest) = remembered.order.pop_front()
        {
            remembered.records.remove(&oldest);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Remembered> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
