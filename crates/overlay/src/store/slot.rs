//! The slot of a stored item, and what few slots need beside it.

use comity_core::AgentId;

use super::slab::{Slab, insert_sorted, remove_sorted};
use crate::contact::IpPrefix;
use crate::item::{ItemKey, VerifiedItem};

/// The name of nothing.
const NONE: u32 = u32::MAX;

/// One stored item: 32 bytes, because a simulation holds as many as its custodians do together.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub(super) item: VerifiedItem,
    /// Of digests: their signer's beat.
    pub(super) beat: Option<VerifiedItem>,
    /// The [`lead`] of its signer: what a search looks at before it follows the handle.
    lead: u32,
    /// The shard it is stored under, [`NONE`] when it is in none.
    shard: u32,
    /// Further shards, a name in [`Further`]; few have any.
    more: u32,
    /// The network prefix it was stored for, a name in [`Prefixes`]; [`NONE`] when that does not count.
    prefix: u32,
}

const _: () = assert!(size_of::<Option<Slot>>() <= 32);

/// Leading bits of a signer: signers with different leads are in the order of their leads.
pub(super) const fn lead(signer: &AgentId) -> u32 {
    let [a, b, c, d, ..] = *signer.as_bytes();
    u32::from_be_bytes([a, b, c, d])
}

impl Slot {
    pub(super) fn new(item: VerifiedItem, beat: Option<VerifiedItem>, prefix: Option<u32>) -> Self {
        let lead = lead(&item.signer);
        let prefix = prefix.unwrap_or(NONE);
        Self { item, beat, lead, shard: NONE, more: NONE, prefix }
    }

    /// The order of keys. `lead` is that of the key's signer.
    pub(super) fn cmp_key(&self, lead: u32, key: &ItemKey) -> std::cmp::Ordering {
        self.lead.cmp(&lead).then_with(|| self.item.key().cmp(key))
    }

    /// Whether the signer is before the one with this lead.
    pub(super) fn is_before(&self, lead: u32, signer: &AgentId) -> bool {
        self.lead < lead || self.lead == lead && self.item.signer < *signer
    }

    pub(super) fn prefix(&self) -> Option<u32> {
        some(self.prefix)
    }
}

fn some(name: u32) -> Option<u32> {
    (name != NONE).then_some(name)
}

/// The shards of slots that are in more than one.
#[derive(Clone, Debug)]
pub(super) struct Further(Slab<Vec<u32>>);

impl Further {
    pub(super) const fn new() -> Self {
        Self(Slab::new())
    }

    /// The shards that `slot` is in.
    pub(super) fn shards<'a>(&'a self, slot: &Slot) -> impl Iterator<Item = u32> + 'a + use<'a> {
        let more = some(slot.more).map(|name| self.0.get(name).as_slice()).unwrap_or_default();
        some(slot.shard).into_iter().chain(more.iter().copied())
    }

    pub(super) fn add(&mut self, slot: &mut Slot, shard: u32) {
        match (some(slot.shard), some(slot.more)) {
            (None, _) => slot.shard = shard,
            (Some(_), Some(name)) => self.0.get_mut(name).push(shard),
            (Some(_), None) => slot.more = self.0.insert(vec![shard]),
        }
    }

    pub(super) fn remove(&mut self, slot: &mut Slot, shard: u32) {
        let mut rest: Vec<_> = self.shards(slot).filter(|kept| *kept != shard).collect();
        slot.shard = rest.pop().unwrap_or(NONE);
        if let Some(name) = some(std::mem::replace(&mut slot.more, NONE)) {
            self.0.remove(name);
        }
        if !rest.is_empty() {
            slot.more = self.0.insert(rest);
        }
    }
}

/// How many items each network prefix has.
#[derive(Clone, Debug)]
pub(super) struct Prefixes {
    counts: Slab<(IpPrefix, u32)>,
    /// Names by prefix.
    order: Vec<u32>,
}

impl Prefixes {
    pub(super) const fn new() -> Self {
        Self { counts: Slab::new(), order: Vec::new() }
    }

    fn find(&self, prefix: &IpPrefix) -> Option<u32> {
        let at = self.order.binary_search_by(|name| self.counts.get(*name).0.cmp(prefix)).ok()?;
        Some(self.order[at])
    }

    pub(super) fn get(&self, name: u32) -> IpPrefix {
        self.counts.get(name).0
    }

    pub(super) fn count(&self, prefix: &IpPrefix) -> u32 {
        self.find(prefix).map_or(0, |name| self.counts.get(name).1)
    }

    /// One item more; gives the prefix's name.
    pub(super) fn add(&mut self, prefix: IpPrefix) -> u32 {
        if let Some(name) = self.find(&prefix) {
            self.counts.get_mut(name).1 += 1;
            return name;
        }
        let name = self.counts.insert((prefix, 1));
        let counts = &self.counts;
        insert_sorted(&mut self.order, name, |other| counts.get(*other).0.cmp(&prefix));
        name
    }

    /// One item less.
    pub(super) fn remove(&mut self, name: u32) {
        let (prefix, count) = self.counts.get_mut(name);
        *count -= 1;
        if *count == 0 {
            let prefix = *prefix;
            let counts = &self.counts;
            remove_sorted(&mut self.order, |other| counts.get(*other).0.cmp(&prefix));
            self.counts.remove(name);
        }
    }
}
