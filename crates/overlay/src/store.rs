//! Custody: what this node stores for others, and the rules by which it does.
//!
//! A statement replaces older ones about the same thing (highest sequence number), nothing expired or dated in the future is
//! taken, a tombstone keeps what it retired from coming back until the retired digest would have expired anyway, a beat is kept only
//! beside a digest of its publisher, and every list has a quota.
//!
//! An item costs one slot of 24 bytes and two indexes of 4 beside the item itself, which is shared: a custodian of a large network holds
//! many small shards, and a simulation holds the custody of all custodians at once. A beat hangs on the slots of its signer's digests.

mod rules;
mod set;
mod slab;
mod slot;

use std::ops::Range;
use std::sync::Arc;

use comity_capability::keys::GroupKey;
use comity_core::{AgentId, Hash, OverlayId, Time};

use crate::config::{
    BEAT_GRACE, ITEMS_PER_PREFIX_MAX, ITEMS_PER_PUBLISHER_MAX, SHARD_DIGESTS_MAX,
    SHARD_PER_PREFIX_DIVISOR, SHARD_PER_PREFIX_MIN, SHARD_VEILED_MAX,
};
use crate::contact::IpPrefix;
use crate::drive::{CustodyChange, CustodyRow};
use crate::item::{Content, ItemKey, ItemKind, Reject, VerifiedItem};
use crate::shard::{Place, ShardId};
use rules::{Known, check_place, order};
pub use rules::{check_times, shares_prefix};
pub(crate) use set::set_part;
pub use set::{GroupName, element_name, element_state};
use set::{Shard, state_of};
use slab::{Slab, grow, insert_sorted, remove_sorted};
use slot::{Further, Prefixes, Slot, lead};

/// Bookkeeping and parsed content counted for each item besides its bytes.
const ITEM_OVERHEAD_BYTES: usize = 256;

/// Makes the name of a shard's group, for a shard that has none yet.
type Naming<'a> = &'a dyn Fn() -> Arc<GroupName>;

/// Where changes are noted, if anybody wants to know them.
struct Changes<'a>(Option<&'a mut Vec<CustodyChange>>);

impl<'a> Changes<'a> {
    const fn to(list: &'a mut Vec<CustodyChange>) -> Self {
        Self(Some(list))
    }

    const fn dropped() -> Self {
        Self(None)
    }

    fn note(&mut self, change: impl FnOnce() -> CustodyChange) {
        if let Some(list) = &mut self.0 {
            list.push(change());
        }
    }
}

/// One stored item.
#[derive(Clone, Debug)]
pub struct Held<'a> {
    /// The item.
    pub item: &'a VerifiedItem,
    /// The shards it is stored under, in order; only entries and tombstones have any.
    pub shards: Vec<ShardId>,
}

/// An entry of a shard with its publisher's beat.
#[derive(Clone, Copy, Debug)]
pub struct Member<'a> {
    /// The digest or veiled entry.
    pub digest: &'a VerifiedItem,
    /// The publisher's live beat.
    pub beat: Option<&'a VerifiedItem>,
}

/// A digest or a tombstone of a shard as custodians compare it.
#[derive(Clone, Copy, Debug)]
pub struct Element<'a> {
    /// Where it stands in the order of comparison.
    pub name: u64,
    /// The item.
    pub item: &'a VerifiedItem,
    /// The publisher's beat, if the item is a digest and a beat is held.
    pub beat: Option<&'a VerifiedItem>,
}

impl Element<'_> {
    /// When the beat was issued, in milliseconds; 0 without one.
    #[must_use]
    pub fn beat_stamp(&self) -> u64 {
        set::beat_stamp(self.beat)
    }
}

fn size(item: &VerifiedItem) -> usize {
    item.bytes.len() + ITEM_OVERHEAD_BYTES
}

fn is_shown(now: Time, item: &VerifiedItem, beat: Option<&VerifiedItem>) -> bool {
    // A veiled entry lives as long as a beat: it is one too.
    item.expires > now
        && (item.content.kind() == ItemKind::Veiled
            || beat.is_some_and(|beat| beat.expires > now)
            || now.saturating_since(item.issued) < BEAT_GRACE)
}

/// Everything this node stores.
#[derive(Clone, Debug)]
pub struct Custody {
    slots: Slab<Slot>,
    /// Slots by the key of their item.
    order: Vec<u32>,
    /// Slots of peer records by place.
    peers: Vec<u32>,
    shards: Slab<Shard>,
    /// Shards by id.
    shard_order: Vec<u32>,
    /// Of slots in more than one, or with a prefix.
    further: Further,
    prefixes: Prefixes,
    /// Nothing expires before.
    earliest: Time,
    /// Items, beats included.
    len: usize,
    bytes: usize,
    bytes_max: usize,
    shard_max: usize,
}

impl Custody {
    /// An empty custody that holds at most `bytes_max` bytes of items, overhead counted, and `shard_max` digests of a shard (at most
    /// [`SHARD_DIGESTS_MAX`]).
    #[must_use]
    pub fn new(bytes_max: usize, shard_max: usize) -> Self {
        Self {
            shard_max: shard_max.min(SHARD_DIGESTS_MAX),
            slots: Slab::new(),
            order: Vec::new(),
            peers: Vec::new(),
            shards: Slab::new(),
            shard_order: Vec::new(),
            further: Further::new(),
            prefixes: Prefixes::new(),
            earliest: Time::MAX,
            len: 0,
            bytes: 0,
            bytes_max,
        }
    }

    /// Number of items.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is stored.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes held, overhead counted.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Shards with at least one digest, and how many each holds.
    pub fn shards(&self) -> impl Iterator<Item = (ShardId, usize)> + '_ {
        let shards = self.shard_order.iter().map(|shard| self.shards.get(*shard));
        let counted = shards.map(|shard| (shard, usize::from(shard.entries(&self.slots))));
        counted.filter(|(_, entries)| *entries > 0).map(|(shard, entries)| (shard.id(), entries))
    }

    /// All shards held, in order, with a fingerprint of what is held of each: digests, beats and tombstones.
    pub fn fingerprints(&self) -> impl Iterator<Item = (ShardId, u64)> + '_ {
        self.shard_order
            .iter()
            .map(|shard| self.shards.get(*shard))
            .map(|shard| (shard.id(), shard.sums(&self.slots).state))
    }

    /// The label of the group a shard belongs to, if a digest of it came here.
    #[must_use]
    pub fn label(&self, shard: &ShardId) -> Option<&Arc<str>> {
        let shard = self.shards.get(self.find_shard(shard).ok()?);
        Some(&shard.group.label).filter(|label| !label.is_empty())
    }

    /// Digests of a shard, shown or not.
    #[must_use]
    pub fn digests(&self, shard: &ShardId) -> usize {
        self.find_shard(shard).map_or(0, |shard| self.entries_of(shard))
    }

    fn entries_of(&self, shard: u32) -> usize {
        usize::from(self.shards.get(shard).entries(&self.slots))
    }

    /// Everything, in key order.
    pub fn iter(&self) -> impl Iterator<Item = (ItemKey, Held<'_>)> + '_ {
        self.order.iter().enumerate().flat_map(|(at, id)| {
            let slot = self.slots.get(*id);
            let key = slot.item.key();
            let beat = slot.beat.as_ref().filter(|_| self.is_last_digest(at, &key));
            let beat = beat.map(|beat| (beat.key(), Held { item: beat, shards: Vec::new() }));
            std::iter::once((key, self.held(slot))).chain(beat)
        })
    }

    /// The item about `key`, expired or not.
    #[must_use]
    pub fn get(&self, key: &ItemKey) -> Option<Held<'_>> {
        if key.kind == ItemKind::Beat {
            return self.beat(&key.signer).map(|item| Held { item, shards: Vec::new() });
        }
        let at = self.find(key).ok()?;
        Some(self.held(self.slots.get(self.order[at])))
    }

    /// Everything, as rows to persist.
    pub fn rows(&self) -> impl Iterator<Item = (ItemKey, CustodyRow)> + '_ {
        self.iter().map(|(key, held)| (key, self.row(&held)))
    }

    /// Offers `item` for `place` on behalf of a peer in `prefix` (`None`: not counted). Whether this node is a custodian of the place
    /// and a digest belongs to the group with this `label` is the caller's to check. What changed is appended to `changes`.
    ///
    /// # Errors
    /// [`Reject`] names the rule; nothing was stored. A tombstone over quota still retires what it names.
    pub fn offer(
        &mut self,
        now: Time,
        item: VerifiedItem,
        place: Place,
        label: &str,
        prefix: Option<IpPrefix>,
        changes: &mut Vec<CustodyChange>,
    ) -> Result<(), Reject> {
        let key = match place {
            Place::Shard { shard, .. } => shard.group,
            Place::Peer => GroupKey([0; 32]),
        };
        self.offer_named(
            now,
            item,
            place,
            &|| Arc::new(GroupName { key, label: Arc::from(label) }),
            prefix,
            &mut Changes::to(changes),
        )
    }

    /// [`Custody::offer`] with the name of the place's group, which is shared: the custodians of a simulated network keep one copy.
    ///
    /// # Errors
    /// As [`Custody::offer`].
    pub(crate) fn offer_shared(
        &mut self,
        now: Time,
        item: VerifiedItem,
        place: Place,
        group: &Arc<GroupName>,
        changes: &mut Vec<CustodyChange>,
    ) -> Result<(), Reject> {
        self.offer_named(now, item, place, &|| Arc::clone(group), None, &mut Changes::to(changes))
    }

    /// [`Custody::offer_shared`] for all that an empty custody is to hold: takes no more room than that needs, and reports nothing.
    /// Returns how many were stored and how many refused.
    pub(crate) fn preload<'a>(
        &mut self,
        now: Time,
        offers: impl ExactSizeIterator<Item = (VerifiedItem, Place, &'a Arc<GroupName>)>,
    ) -> (u64, u64) {
        self.slots.reserve(offers.len());
        self.order.reserve_exact(offers.len());
        let (mut stored, mut refused) = (0, 0);
        for (item, place, group) in offers {
            let naming: Naming<'_> = &|| Arc::clone(group);
            let kept = self.offer_named(now, item, place, naming, None, &mut Changes::dropped());
            stored += u64::from(kept.is_ok());
            refused += u64::from(kept.is_err());
        }
        self.slots.shrink();
        self.order.shrink_to_fit();
        self.peers.shrink_to_fit();
        self.shards.shrink();
        self.shard_order.shrink_to_fit();
        self.shards.values_mut().for_each(Shard::shrink);
        (stored, refused)
    }

    fn offer_named(
        &mut self,
        now: Time,
        item: VerifiedItem,
        place: Place,
        naming: Naming<'_>,
        prefix: Option<IpPrefix>,
        changes: &mut Changes<'_>,
    ) -> Result<(), Reject> {
        check_times(now, &item)?;
        check_place(&item, place)?;
        match item.content {
            Content::Digest(_) | Content::Veiled(_) if self.is_retired(now, &item) => {
                return Err(Reject::Stale);
            }
            Content::Beat(_) => return self.offer_beat(item, changes),
            Content::Digest(_) | Content::Veiled(_) | Content::Tombstone | Content::Peer(_) => {}
        }
        let shard = match place {
            Place::Shard { shard, .. } => Some(shard),
            Place::Peer => None,
        };
        let known = self.compare(&item)?;
        if matches!(item.content, Content::Tombstone) {
            self.retire(&item, changes);
        }
        self.check_quotas(now, &item, shard, known, prefix, changes)?;
        match known {
            Known::Same => self.add_place(&item.key(), shard, naming, changes),
            Known::Older | Known::Nothing => self.put(item, shard, naming, prefix, changes),
        }
        Ok(())
    }

    /// Puts back a row of an earlier run.
    ///
    /// # Errors
    /// [`Reject`] when the rules would not take it today.
    pub fn restore(
        &mut self,
        now: Time,
        item: &VerifiedItem,
        row: &CustodyRow,
        changes: &mut Vec<CustodyChange>,
    ) -> Result<(), Reject> {
        if matches!(item.content, Content::Peer(_)) {
            return self.offer(now, item.clone(), Place::Peer, "", None, changes);
        }
        if matches!(item.content, Content::Beat(_)) {
            check_times(now, item)?;
            return self.offer_beat(item.clone(), &mut Changes::to(changes));
        }
        if row.shards.is_empty() {
            return Err(Reject::Misplaced);
        }
        for (at, shard) in row.shards.iter().enumerate() {
            let label = row.labels.get(at).map_or("", |label| &**label);
            let place = Place::Shard { shard: *shard, index: 0 };
            self.offer(now, item.clone(), place, label, None, changes)?;
        }
        Ok(())
    }

    /// Removes what has expired.
    pub fn sweep(&mut self, now: Time, changes: &mut Vec<CustodyChange>) {
        let mut changes = Changes::to(changes);
        if self.earliest > now {
            return;
        }
        let expired = self.slots.values().filter(|slot| slot.item.expires <= now);
        let expired: Vec<_> = expired.map(|slot| slot.item.key()).collect();
        for key in expired {
            self.remove(&key, &mut changes);
        }
        let silent = self.slots.values().filter_map(|slot| slot.beat.as_ref());
        let silent = silent.filter(|beat| beat.expires <= now).map(|beat| beat.signer);
        let mut silent: Vec<_> = silent.collect();
        silent.sort_unstable();
        silent.dedup();
        for signer in silent {
            self.drop_beat(&signer, &mut changes);
        }
        let ends = self.slots.values().flat_map(|slot| [Some(&slot.item), slot.beat.as_ref()]);
        self.earliest = ends.flatten().map(|item| item.expires).min().unwrap_or(Time::MAX);
    }

    /// The entries of `shard` that are shown, by signer and subject: digests with a live beat, new ones, and veiled ones.
    pub fn members(&self, now: Time, shard: &ShardId) -> impl Iterator<Item = Member<'_>> + '_ {
        self.slots_of(shard).filter_map(move |slot| {
            let shown = slot.item.content.kind().is_entry()
                && is_shown(now, &slot.item, slot.beat.as_ref());
            let beat = slot.beat.as_ref().filter(|beat| beat.expires > now);
            shown.then_some(Member { digest: &slot.item, beat })
        })
    }

    /// The entries and tombstones of `shard`, shown or not, in the order of their names.
    #[must_use]
    pub fn elements(&self, now: Time, shard: &ShardId) -> Vec<Element<'_>> {
        let live = self.slots_of(shard).filter(|slot| slot.item.expires > now);
        let mut elements: Vec<_> = live
            .map(|slot| Element {
                name: slot.item.name(),
                item: &slot.item,
                beat: slot.beat.as_ref(),
            })
            .collect();
        elements.sort_unstable_by_key(|element| element.name);
        elements
    }

    /// Hash over (signer, subject, seq) of the unexpired entries of `shard`, whatever their order and their beats.
    #[must_use]
    pub fn set_hash(&self, now: Time, shard: &ShardId) -> Hash {
        let held = self
            .find_shard(shard)
            .map_or(0, |shard| self.shards.get(shard).sums(&self.slots).set());
        if self.earliest > now {
            return set::set_hash(held);
        }
        let expired = self
            .slots_of(shard)
            .filter(|slot| slot.item.expires <= now && slot.item.content.kind().is_entry());
        set::set_hash(expired.fold(held, |sum, slot| sum.wrapping_sub(slot.item.set_part())))
    }

    /// Whether `shard` takes an entry about `key`: it is there already, or there is room beside the entries that are shown.
    #[must_use]
    pub fn has_room(&self, now: Time, shard: &ShardId, key: &ItemKey) -> bool {
        let Ok(at) = self.find_shard(shard) else { return true };
        self.entries_of(at) < self.room_for(key.kind)
            || self.is_in(at, key)
            || self.silent_member(now, at).is_some()
    }

    /// Whether a digest of `signer` is held in `shard`.
    #[must_use]
    pub fn has_member(&self, shard: &ShardId, signer: &AgentId) -> bool {
        let Ok(shard) = self.find_shard(shard) else { return false };
        let digests = &self.order[self.of_kind(signer, ItemKind::Digest)];
        digests.iter().any(|id| self.further.shards(self.slots.get(*id)).any(|at| at == shard))
    }

    /// Live peer records of agents whose overlay id starts with the first `bits` of `prefix`, at most `count`.
    #[must_use]
    pub fn peer_records(
        &self,
        now: Time,
        prefix: &OverlayId,
        bits: u16,
        count: usize,
    ) -> Vec<&VerifiedItem> {
        let first = self.peers.partition_point(|id| place_of(&self.slots, *id) < Some(prefix));
        let records = self.peers[first..].iter().take_while(|id| {
            place_of(&self.slots, **id).is_some_and(|place| shares_prefix(place, prefix, bits))
        });
        let records = records.map(|id| &self.slots.get(*id).item);
        records.filter(|item| item.expires > now).take(count).collect()
    }

    // ---- finding ----

    fn find(&self, key: &ItemKey) -> Result<usize, usize> {
        let lead = lead(&key.signer);
        self.order.binary_search_by(|id| self.slots.get(*id).cmp_key(lead, key))
    }

    fn find_shard(&self, shard: &ShardId) -> Result<u32, usize> {
        let at = self.shard_order.binary_search_by(|id| self.shards.get(*id).id().cmp(shard))?;
        Ok(self.shard_order[at])
    }

    fn slots_of(&self, shard: &ShardId) -> impl Iterator<Item = &Slot> + '_ {
        let members = self.find_shard(shard).map(|shard| self.shards.get(shard).members());
        members.unwrap_or_default().iter().map(|id| self.slots.get(*id))
    }

    fn is_in(&self, shard: u32, key: &ItemKey) -> bool {
        let slot = self.find(key).map(|at| self.slots.get(self.order[at]));
        slot.is_ok_and(|slot| self.further.shards(slot).any(|id| id == shard))
    }

    /// An entry of the shard that is not shown, the longest expired or issued first.
    fn silent_member(&self, now: Time, shard: u32) -> Option<ItemKey> {
        let members = self.shards.get(shard).members().iter().map(|id| self.slots.get(*id));
        let silent = members.filter(|slot| {
            slot.item.content.kind().is_entry() && !is_shown(now, &slot.item, slot.beat.as_ref())
        });
        silent.min_by_key(|slot| slot.item.issued).map(|slot| slot.item.key())
    }

    /// All items of a signer and kind, as a range of the order.
    fn of_kind(&self, signer: &AgentId, kind: ItemKind) -> Range<usize> {
        let first = self.first_of(signer);
        // A signer has few items: they are looked at, not searched.
        let kinds = self.order[first..].iter().map_while(|id| {
            let item = &self.slots.get(*id).item;
            (item.signer == *signer).then(|| item.content.kind())
        });
        let mut range = first..first;
        for found in kinds.take_while(|found| *found <= kind) {
            range.end += 1;
            if found < kind {
                range.start += 1;
            }
        }
        range
    }

    /// Where the items of a signer begin in the order.
    fn first_of(&self, signer: &AgentId) -> usize {
        let lead = lead(signer);
        self.order.partition_point(|id| self.slots.get(*id).is_before(lead, signer))
    }

    fn of_signer(&self, signer: &AgentId) -> usize {
        let first = self.first_of(signer);
        let ours = |id: &&u32| self.slots.get(**id).item.signer == *signer;
        self.order[first..].iter().take_while(ours).count()
    }

    fn is_last_digest(&self, at: usize, key: &ItemKey) -> bool {
        let next = self.order.get(at + 1).map(|id| self.slots.get(*id).item.key());
        key.kind == ItemKind::Digest
            && next.is_none_or(|next| next.signer != key.signer || next.kind != ItemKind::Digest)
    }

    fn beat(&self, signer: &AgentId) -> Option<&VerifiedItem> {
        let digests = self.of_kind(signer, ItemKind::Digest);
        self.order[digests].first().and_then(|id| self.slots.get(*id).beat.as_ref())
    }

    fn held<'a>(&'a self, slot: &'a Slot) -> Held<'a> {
        let mut shards: Vec<_> =
            self.further.shards(slot).map(|id| self.shards.get(id).id()).collect();
        shards.sort_unstable();
        Held { item: &slot.item, shards }
    }

    fn row(&self, held: &Held<'_>) -> CustodyRow {
        // A tombstone's row does not change when the first digest brings the label.
        let labelled = held.item.content.kind().is_entry();
        let label = |shard| {
            let known = self.label(shard).filter(|_| labelled);
            known.cloned().unwrap_or_else(|| Arc::from(""))
        };
        CustodyRow {
            bytes: held.item.bytes.clone(),
            labels: held.shards.iter().map(label).collect(),
            shards: held.shards.clone(),
        }
    }

    fn put_change(&self, id: u32) -> CustodyChange {
        let slot = self.slots.get(id);
        CustodyChange::Put { key: slot.item.key(), row: self.row(&self.held(slot)) }
    }

    // ---- rules ----

    fn is_retired(&self, now: Time, digest: &VerifiedItem) -> bool {
        self.order[self.of_kind(&digest.signer, ItemKind::Tombstone)].iter().any(|id| {
            let tombstone = &self.slots.get(*id).item;
            let covers = tombstone.subject.is_none() || tombstone.subject == digest.subject;
            covers && tombstone.seq >= digest.seq && tombstone.expires > now
        })
    }

    fn compare(&self, item: &VerifiedItem) -> Result<Known, Reject> {
        match self.get(&item.key()) {
            Some(held) => order(held.item, item),
            None => Ok(Known::Nothing),
        }
    }

    fn check_quotas(
        &mut self,
        now: Time,
        item: &VerifiedItem,
        shard: Option<ShardId>,
        known: Known,
        prefix: Option<IpPrefix>,
        changes: &mut Changes<'_>,
    ) -> Result<(), Reject> {
        let freed = match known {
            Known::Older => self.get(&item.key()).map_or(0, |held| size(held.item)),
            Known::Same => size(item),
            Known::Nothing => {
                let of_prefix = prefix.map_or(0, |prefix| self.prefixes.count(&prefix));
                if self.of_signer(&item.signer) >= ITEMS_PER_PUBLISHER_MAX
                    || of_prefix as usize >= ITEMS_PER_PREFIX_MAX
                {
                    return Err(Reject::Quota);
                }
                0
            }
        };
        if self.bytes - freed + size(item) > self.bytes_max {
            return Err(Reject::Quota);
        }
        match shard {
            Some(shard) if item.content.kind().is_entry() => {
                self.check_share(&shard, &item.key(), prefix)?;
                self.make_room(now, &shard, &item.key(), changes)
            }
            _ => Ok(()),
        }
    }

    /// A prefix that has its share of a shard enters no more into it, unless the shard holds the entry already.
    fn check_share(
        &self,
        shard: &ShardId,
        key: &ItemKey,
        prefix: Option<IpPrefix>,
    ) -> Result<(), Reject> {
        let share = (self.room_for(key.kind) / SHARD_PER_PREFIX_DIVISOR).max(SHARD_PER_PREFIX_MIN);
        let (Some(prefix), Ok(at)) = (prefix, self.find_shard(shard)) else { return Ok(()) };
        if (self.prefixes.count(&prefix) as usize) < share || self.is_in(at, key) {
            return Ok(());
        }
        let members = self.shards.get(at).members().iter().map(|id| self.slots.get(*id));
        let same = |slot: &&Slot| {
            slot.item.content.kind().is_entry()
                && self.further.prefix(slot).is_some_and(|name| self.prefixes.get(name) == prefix)
        };
        if members.filter(same).count() < share { Ok(()) } else { Err(Reject::Quota) }
    }

    /// The network prefix an item was stored for, if that counts.
    #[must_use]
    pub fn prefix(&self, key: &ItemKey) -> Option<IpPrefix> {
        let at = self.find(key).ok()?;
        let name = self.further.prefix(self.slots.get(self.order[at]))?;
        Some(self.prefixes.get(name))
    }

    /// Entries of this kind that one shard takes.
    fn room_for(&self, kind: ItemKind) -> usize {
        if kind == ItemKind::Veiled { self.shard_max.min(SHARD_VEILED_MAX) } else { self.shard_max }
    }

    /// A full shard gives up an entry that is not shown for one that is new.
    fn make_room(
        &mut self,
        now: Time,
        shard: &ShardId,
        key: &ItemKey,
        changes: &mut Changes<'_>,
    ) -> Result<(), Reject> {
        let Ok(at) = self.find_shard(shard) else { return Ok(()) };
        let room = self.room_for(key.kind);
        if self.entries_of(at) < room || self.is_in(at, key) {
            return Ok(());
        }
        let silent = self.silent_member(now, at).ok_or(Reject::Quota)?;
        self.remove(&silent, changes);
        Ok(())
    }

    /// Removes the entries that a tombstone retires.
    fn retire(&mut self, tombstone: &VerifiedItem, changes: &mut Changes<'_>) {
        let entries = [ItemKind::Digest, ItemKind::Veiled].into_iter();
        let entries = entries.flat_map(|kind| &self.order[self.of_kind(&tombstone.signer, kind)]);
        let entries = entries.map(|id| &self.slots.get(*id).item);
        let covered = entries.filter(|digest| {
            (tombstone.subject.is_none() || tombstone.subject == digest.subject)
                && digest.seq <= tombstone.seq
        });
        for key in covered.map(|digest| digest.key()).collect::<Vec<_>>() {
            self.remove(&key, changes);
        }
    }

    // ---- changing ----

    fn offer_beat(&mut self, beat: VerifiedItem, changes: &mut Changes<'_>) -> Result<(), Reject> {
        let digests = self.of_kind(&beat.signer, ItemKind::Digest);
        if digests.is_empty() {
            return Err(Reject::Orphan);
        }
        let held = self.beat(&beat.signer);
        if let Some(held) = held
            && order(held, &beat)? == Known::Same
        {
            return Ok(());
        }
        let freed = held.map_or(0, size);
        if self.bytes - freed + size(&beat) > self.bytes_max {
            return Err(Reject::Quota);
        }
        self.len += usize::from(held.is_none());
        self.bytes = self.bytes - freed + size(&beat);
        self.earliest = self.earliest.min(beat.expires);
        for at in digests {
            self.set_beat(self.order[at], Some(beat.clone()));
        }
        changes.note(|| put_beat(&beat));
        Ok(())
    }

    fn set_beat(&mut self, id: u32, beat: Option<VerifiedItem>) {
        let slot = self.slots.get_mut(id);
        let before = state_of(&slot.item, slot.beat.as_ref());
        slot.beat = beat;
        let after = state_of(&slot.item, slot.beat.as_ref());
        for shard in self.further.shards(slot) {
            self.shards.get_mut(shard).restate(before, after);
        }
    }

    fn drop_beat(&mut self, signer: &AgentId, changes: &mut Changes<'_>) {
        let Some(beat) = self.beat(signer).cloned() else { return };
        for at in self.of_kind(signer, ItemKind::Digest) {
            self.set_beat(self.order[at], None);
        }
        self.forget_beat(&beat, changes);
    }

    fn forget_beat(&mut self, beat: &VerifiedItem, changes: &mut Changes<'_>) {
        self.len -= 1;
        self.bytes -= size(beat);
        changes.note(|| CustodyChange::Remove { key: beat.key() });
    }

    fn add_place(
        &mut self,
        key: &ItemKey,
        shard: Option<ShardId>,
        naming: Naming<'_>,
        changes: &mut Changes<'_>,
    ) {
        let (Some(shard), Ok(at)) = (shard, self.find(key)) else { return };
        let id = self.order[at];
        if self.link(id, shard, naming) {
            changes.note(|| self.put_change(id));
        }
    }

    fn put(
        &mut self,
        item: VerifiedItem,
        shard: Option<ShardId>,
        naming: Naming<'_>,
        prefix: Option<IpPrefix>,
        changes: &mut Changes<'_>,
    ) {
        let key = item.key();
        let beat = self.beat(&item.signer).filter(|_| key.kind == ItemKind::Digest).cloned();
        // A newer digest may belong elsewhere: its publisher offers it for each of its shards.
        let known = self.find(&key).is_ok();
        let prefix = if known { self.prefix(&key) } else { prefix };
        self.unlink(&key);
        self.earliest = self.earliest.min(item.expires);
        self.bytes += size(&item);
        self.len += 1;
        let is_peer = matches!(item.content, Content::Peer(_));
        let lead = lead(&item.signer);
        let mut slot = Slot::new(item, beat);
        if let Some(prefix) = prefix {
            self.further.set_prefix(&mut slot, self.prefixes.add(prefix));
        }
        let id = self.slots.insert(slot);
        let slots = &self.slots;
        insert_sorted(&mut self.order, id, |other| slots.get(*other).cmp_key(lead, &key));
        if is_peer {
            let place = place_of(slots, id);
            insert_sorted(&mut self.peers, id, |other| place_of(slots, *other).cmp(&place));
        }
        if let Some(shard) = shard {
            self.link(id, shard, naming);
        }
        changes.note(|| self.put_change(id));
    }

    /// Puts a slot under a shard. Returns whether it was not there yet.
    fn link(&mut self, id: u32, shard: ShardId, naming: Naming<'_>) -> bool {
        let found = self.find_shard(&shard);
        if found.is_ok_and(|at| self.further.shards(self.slots.get(id)).any(|known| known == at)) {
            return false;
        }
        let is_entry = self.slots.get(id).item.content.kind().is_entry();
        // Tombstones bring no label; the first entry does.
        let named = || {
            let group = naming();
            let key = shard.group;
            if group.key == key {
                group
            } else {
                Arc::new(GroupName { key, label: group.label.clone() })
            }
        };
        let at = match found {
            Ok(at) => {
                let held = self.shards.get_mut(at);
                if is_entry && held.entries(&self.slots) == 0 {
                    held.group = named();
                }
                held.add(id, &self.slots);
                at
            }
            Err(place) => {
                let group = if is_entry {
                    named()
                } else {
                    Arc::new(GroupName { key: shard.group, label: Arc::from("") })
                };
                let at = self.shards.insert(Shard::new(shard, group, id));
                grow(&mut self.shard_order);
                self.shard_order.insert(place, at);
                at
            }
        };
        self.further.add(self.slots.get_mut(id), at);
        true
    }

    /// Removes an item, and the beat of a publisher whose last digest this was.
    fn remove(&mut self, key: &ItemKey, changes: &mut Changes<'_>) {
        let Some(slot) = self.unlink(key) else { return };
        changes.note(|| CustodyChange::Remove { key: *key });
        if let Some(beat) = slot.beat
            && self.of_kind(&key.signer, ItemKind::Digest).is_empty()
        {
            self.forget_beat(&beat, changes);
        }
    }

    /// Takes an item out of every index. Its beat stays counted.
    fn unlink(&mut self, key: &ItemKey) -> Option<Slot> {
        let at = self.find(key).ok()?;
        let id = self.order.remove(at);
        let slots = &self.slots;
        if matches!(slots.get(id).item.content, Content::Peer(_)) {
            let place = place_of(slots, id);
            remove_sorted(&mut self.peers, |other| place_of(slots, *other).cmp(&place));
        }
        for shard in self.further.shards(slots.get(id)).collect::<Vec<_>>() {
            self.leave_shard(id, shard);
        }
        let slot = self.slots.remove(id);
        if let Some(name) = self.further.forget(&slot) {
            self.prefixes.remove(name);
        }
        self.bytes -= size(&slot.item);
        self.len -= 1;
        Some(slot)
    }

    fn leave_shard(&mut self, id: u32, shard: u32) {
        self.further.remove(self.slots.get_mut(id), shard);
        let held = self.shards.get_mut(shard);
        if held.remove(id, &self.slots) {
            let id = held.id();
            let shards = &self.shards;
            remove_sorted(&mut self.shard_order, |other| shards.get(*other).id().cmp(&id));
            self.shards.remove(shard);
        }
    }
}

fn put_beat(beat: &VerifiedItem) -> CustodyChange {
    let row = CustodyRow { bytes: beat.bytes.clone(), shards: Vec::new(), labels: Vec::new() };
    CustodyChange::Put { key: beat.key(), row }
}

/// Where the agent of a peer record is.
fn place_of(slots: &Slab<Slot>, id: u32) -> Option<&OverlayId> {
    match &slots.get(id).item.content {
        Content::Peer(contact) => Some(&contact.overlay_id),
        Content::Digest(_) | Content::Veiled(_) | Content::Beat(_) | Content::Tombstone => None,
    }
}
