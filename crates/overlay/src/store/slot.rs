//! The slot of a stored item, and what some slots need beside it.

use comity_core::AgentId;

use super::slab::{Slab, insert_sorted, remove_sorted};
use crate::contact::IpPrefix;
use crate::item::{ItemKey, VerifiedItem};

/// The name of nothing.
const NONE: u32 = u32::MAX;

/// One stored item: 24 bytes, because a simulation holds as many as its custodians do together.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub(super) item: VerifiedItem,
    /// Of digests: their signer's beat.
    pub(super) beat: Option<VerifiedItem>,
    /// The [`lead`] of its signer: what a search looks at before it follows the handle.
    lead: u32,
    /// [`NONE`], the name of the only shard it is stored under, or, with [`MORE`] set, a name in [`Further`].
    place: u32,
}

const _: () = assert!(size_of::<Option<Slot>>() <= 24);

/// Marks a name in [`Further`].
const MORE: u32 = 1 << 31;

/// Leading bits of a signer: signers with different leads are in the order of their leads.
pub(super) const fn lead(signer: &AgentId) -> u32 {
    let [a, b, c, d, ..] = *signer.as_bytes();
    u32::from_be_bytes([a, b, c, d])
}

impl Slot {
    pub(super) fn new(item: VerifiedItem, beat: Option<VerifiedItem>) -> Self {
        let lead = lead(&item.signer);
        Self { item, beat, lead, place: NONE }
    }

    /// The order of keys. `lead` is that of the key's signer.
    pub(super) fn cmp_key(&self, lead: u32, key: &ItemKey) -> std::cmp::Ordering {
        self.lead.cmp(&lead).then_with(|| self.item.key().cmp(key))
    }

    /// Whether the signer is before the one with this lead.
    pub(super) fn is_before(&self, lead: u32, signer: &AgentId) -> bool {
        self.lead < lead || self.lead == lead && self.item.signer < *signer
    }

    /// Its name in [`Further`], if it has one.
    const fn further(&self) -> Option<u32> {
        if self.place != NONE && self.place & MORE != 0 { Some(self.place & !MORE) } else { None }
    }

    /// The only shard it is in, as a list.
    fn only_shard(&self) -> &[u32] {
        if self.place & MORE == 0 { std::slice::from_ref(&self.place) } else { &[] }
    }
}

/// What slots have that does not fit into them: more than one shard, or a network prefix they were stored for, a name in [`Prefixes`].
#[derive(Clone, Debug)]
pub(super) struct Further(Slab<Rest>);

#[derive(Clone, Debug, Default)]
struct Rest {
    shards: Vec<u32>,
    prefix: Option<u32>,
}

impl Further {
    pub(super) const fn new() -> Self {
        Self(Slab::new())
    }

    /// The shards that `slot` is in.
    pub(super) fn shards<'a>(&'a self, slot: &'a Slot) -> impl Iterator<Item = u32> + 'a {
        let shards = match slot.further() {
            Some(name) => self.0.get(name).shards.as_slice(),
            None => slot.only_shard(),
        };
        shards.iter().copied()
    }

    /// The prefix that counts for `slot`.
    pub(super) fn prefix(&self, slot: &Slot) -> Option<u32> {
        self.0.get(slot.further()?).prefix
    }

    pub(super) fn add(&mut self, slot: &mut Slot, shard: u32) {
        if slot.place == NONE {
            debug_assert!(shard & MORE == 0, "custody is bounded in bytes");
            slot.place = shard;
        } else {
            self.rest(slot).shards.push(shard);
        }
    }

    pub(super) fn set_prefix(&mut self, slot: &mut Slot, prefix: u32) {
        self.rest(slot).prefix = Some(prefix);
    }

    pub(super) fn remove(&mut self, slot: &mut Slot, shard: u32) {
        match slot.further() {
            Some(name) => self.0.get_mut(name).shards.retain(|kept| *kept != shard),
            None => slot.place = NONE,
        }
    }

    /// Forgets a slot that is going; gives the prefix that counted for it.
    pub(super) fn forget(&mut self, slot: &Slot) -> Option<u32> {
        self.0.remove(slot.further()?).prefix
    }

    /// Where more about `slot` is, moved there if it was not.
    fn rest(&mut self, slot: &mut Slot) -> &mut Rest {
        let name = match slot.further() {
            Some(name) => name,
            None => {
                let shards = if slot.place == NONE { Vec::new() } else { vec![slot.place] };
                let name = self.0.insert(Rest { shards, prefix: None });
                slot.place = name | MORE;
                name
            }
        };
        self.0.get_mut(name)
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
