//! Records for single callers: what is public, and what this caller may call besides.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use comity_capability::record::Record;
use comity_core::{Hash, Time};

use super::Publisher;
use crate::registry::Served;

/// Different such records that are kept signed; past it all are made anew when they are asked for.
const PERSONAL_MAX: usize = 64;
/// Life of such a record: a grant that is taken back soon has no record that shows what it was for.
const PERSONAL_LIFE: Duration = Duration::from_secs(3600);
/// What is left of its life when one is made anew.
const PERSONAL_LEFT_MIN: Duration = Duration::from_secs(1800);

/// Records that were signed, by what they declare.
#[derive(Debug, Default)]
pub(super) struct Personal(Mutex<BTreeMap<Hash, (Time, Arc<[u8]>)>>);

impl Publisher {
    /// A record of what is public and of `besides`, signed now or lately; without what is public if both do not fit. None if `besides` is empty
    /// or does not fit.
    pub(crate) fn sealed_with(&self, besides: &[Arc<Served>]) -> Option<Arc<[u8]>> {
        if besides.is_empty() {
            return None;
        }
        let all = self.registry.all();
        let public: Vec<&Arc<Served>> = all.iter().filter(|served| served.is_public()).collect();
        let name = {
            let declared = public.iter().copied().chain(besides);
            let hashes: Vec<[u8; 32]> = declared.map(|served| served.offer.descriptor.0).collect();
            Hash::of(&hashes.concat())
        };
        let now = self.clock.now();
        let mut made = self.personal.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((until, sealed)) = made.get(&name)
            && until.saturating_since(now) > PERSONAL_LEFT_MIN
        {
            return Some(Arc::clone(sealed));
        }
        let sealed = [public.as_slice(), &[]].iter().find_map(|public| {
            let mut record = Record::new(self.seq_now(now), now, now + PERSONAL_LIFE, self.next);
            record.endpoints.clone_from(&self.read().addrs);
            let declared = public.iter().copied().chain(besides);
            record.capabilities = declared.map(|served| served.capability.clone()).collect();
            record.seal(&self.identity).ok()
        })?;
        let sealed: Arc<[u8]> = sealed.into();
        if made.len() >= PERSONAL_MAX {
            made.clear();
        }
        made.insert(name, (now + PERSONAL_LIFE, Arc::clone(&sealed)));
        Some(sealed)
    }
}
