//! Custody: what this node stores for others, and the rules by which it does.
//!
//! A statement replaces older ones about the same thing (highest sequence number), nothing expired or dated in the future is
//! taken, a tombstone keeps what it retired from coming back until the retired digest would have expired anyway, a beat is kept only
//! beside a digest of its publisher, and every list has a quota.
//!
//! An item costs one slot of 40 bytes and two indexes of 4 beside the item itself, which is shared: a custodian of a large network holds
//! many small shards, and a simulation holds the custody of all custodians at once. A beat hangs on the slots of its signer's digests.

mod set;
mod slab;

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use comity_core::{AgentId, Hash, OverlayId, Time};

use crate::config::{
    BEAT_GRACE, BEAT_LIFETIME_MAX, CLOCK_TOLERANCE, ITEM_LIFETIME_MAX, ITEMS_PER_PREFIX_MAX,
    ITEMS_PER_PUBLISHER_MAX, SHARD_DIGESTS_MAX, SHARD_VEILED_MAX,
};
use crate::contact::IpPrefix;
use crate::drive::{CustodyChange, CustodyRow};
use crate::item::{Content, ITEM_BYTES_MAX, ItemKey, ItemKind, Reject, VerifiedItem};
use crate::shard::{Place, ShardId};
use set::{Shard, state_of};
pub use set::{element_name, element_state};
use slab::{Slab, grow, insert_sorted, remove_sorted};

/// Bookkeeping and parsed content counted for each item besides its bytes.
const ITEM_OVERHEAD_BYTES: usize = 256;

/// Makes the label of a shard's group, for a shard that has none yet.
type Label<'a> = &'a dyn Fn() -> Arc<str>;

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

#[derive(Clone, Debug)]
struct Slot {
    item: VerifiedItem,
    /// Of digests: their signer's beat.
    beat: Option<VerifiedItem>,
    /// The shard it is stored under, if it is in one.
    shard: Option<u32>,
    /// The network prefix it was stored for, if that counts.
    prefix: Option<IpPrefix>,
    /// Further shards; few have any.
    #[expect(clippy::box_collection, reason = "one word in every slot instead of three")]
    more: Option<Box<Vec<u32>>>,
}

impl Slot {
    fn shards(&self) -> impl Iterator<Item = u32> + '_ {
        self.shard.into_iter().chain(self.more.iter().flat_map(|more| more.iter().copied()))
    }

    fn add_shard(&mut self, shard: u32) {
        if self.shard.is_none() {
            self.shard = Some(shard);
        } else {
            self.more.get_or_insert_default().push(shard);
        }
    }

    fn drop_shard(&mut self, shard: u32) {
        let mut rest: Vec<_> = self.shards().filter(|kept| *kept != shard).collect();
        self.shard = rest.pop();
        self.more = (!rest.is_empty()).then(|| Box::new(rest));
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
    by_prefix: BTreeMap<IpPrefix, u32>,
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
            by_prefix: BTreeMap::new(),
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
    pub fn shards(&self) -> impl Iterator<Item = (&ShardId, usize)> + '_ {
        let shards = self.shard_order.iter().map(|shard| self.shards.get(*shard));
        shards.filter(|shard| shard.digests > 0).map(|shard| (&shard.id, shard.digests as usize))
    }

    /// All shards held, in order, with a fingerprint of what is held of each: digests, beats and tombstones.
    pub fn fingerprints(&self) -> impl Iterator<Item = (&ShardId, u64)> + '_ {
        self.shard_order
            .iter()
            .map(|shard| self.shards.get(*shard))
            .map(|shard| (&shard.id, shard.state))
    }

    /// The label of the group a shard belongs to, if a digest of it came here.
    #[must_use]
    pub fn label(&self, shard: &ShardId) -> Option<&Arc<str>> {
        let shard = self.shards.get(self.find_shard(shard).ok()?);
        Some(&shard.label).filter(|label| !label.is_empty())
    }

    /// Digests of a shard, shown or not.
    #[must_use]
    pub fn digests(&self, shard: &ShardId) -> usize {
        self.find_shard(shard).map_or(0, |shard| self.shards.get(shard).digests as usize)
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
        self.offer_labelled(now, item, place, &|| Arc::from(label), prefix, changes)
    }

    /// [`Custody::offer`] with a label that is shared: the custodians of a simulated network keep one copy.
    ///
    /// # Errors
    /// As [`Custody::offer`].
    pub(crate) fn offer_shared(
        &mut self,
        now: Time,
        item: VerifiedItem,
        place: Place,
        label: &Arc<str>,
        changes: &mut Vec<CustodyChange>,
    ) -> Result<(), Reject> {
        self.offer_labelled(now, item, place, &|| Arc::clone(label), None, changes)
    }

    fn offer_labelled(
        &mut self,
        now: Time,
        item: VerifiedItem,
        place: Place,
        label: Label<'_>,
        prefix: Option<IpPrefix>,
        changes: &mut Vec<CustodyChange>,
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
            Known::Same => self.add_place(&item.key(), shard, label, changes),
            Known::Older | Known::Nothing => self.put(item, shard, label, prefix, changes),
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
            return self.offer_beat(item.clone(), changes);
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
        if self.earliest > now {
            return;
        }
        let expired = self.slots.values().filter(|slot| slot.item.expires <= now);
        let expired: Vec<_> = expired.map(|slot| slot.item.key()).collect();
        for key in expired {
            self.remove(&key, changes);
        }
        let silent = self.slots.values().filter_map(|slot| slot.beat.as_ref());
        let silent = silent.filter(|beat| beat.expires <= now).map(|beat| beat.signer);
        let mut silent: Vec<_> = silent.collect();
        silent.sort_unstable();
        silent.dedup();
        for signer in silent {
            self.drop_beat(&signer, changes);
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
                name: element_name(&slot.item.key()),
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
        let held = self.find_shard(shard).map_or(0, |shard| self.shards.get(shard).set);
        if self.earliest > now {
            return set::set_hash(held);
        }
        let expired = self
            .slots_of(shard)
            .filter(|slot| slot.item.expires <= now && slot.item.content.kind().is_entry());
        set::set_hash(expired.fold(held, |sum, slot| sum.wrapping_sub(set::set_part(&slot.item))))
    }

    /// Whether `shard` takes an entry about `key`: it is there already, or there is room beside the entries that are shown.
    #[must_use]
    pub fn has_room(&self, now: Time, shard: &ShardId, key: &ItemKey) -> bool {
        let Ok(at) = self.find_shard(shard) else { return true };
        let held = self.shards.get(at);
        (held.digests as usize) < self.room_for(key.kind)
            || self.is_in(at, key)
            || self.silent_member(now, at).is_some()
    }

    /// Whether a digest of `signer` is held in `shard`.
    #[must_use]
    pub fn has_member(&self, shard: &ShardId, signer: &AgentId) -> bool {
        let Ok(shard) = self.find_shard(shard) else { return false };
        let digests = &self.order[self.of_kind(signer, ItemKind::Digest)];
        digests.iter().any(|id| self.slots.get(*id).shards().any(|at| at == shard))
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
        self.order.binary_search_by(|id| self.slots.get(*id).item.key().cmp(key))
    }

    fn find_shard(&self, shard: &ShardId) -> Result<u32, usize> {
        let at = self.shard_order.binary_search_by(|id| self.shards.get(*id).id.cmp(shard))?;
        Ok(self.shard_order[at])
    }

    fn slots_of(&self, shard: &ShardId) -> impl Iterator<Item = &Slot> + '_ {
        let members = self.find_shard(shard).map(|shard| self.shards.get(shard).members.as_slice());
        members.unwrap_or_default().iter().map(|id| self.slots.get(*id))
    }

    fn is_in(&self, shard: u32, key: &ItemKey) -> bool {
        self.find(key).is_ok_and(|at| self.slots.get(self.order[at]).shards().any(|id| id == shard))
    }

    /// An entry of the shard that is not shown, the longest expired or issued first.
    fn silent_member(&self, now: Time, shard: u32) -> Option<ItemKey> {
        let members = self.shards.get(shard).members.iter().map(|id| self.slots.get(*id));
        let silent = members.filter(|slot| {
            slot.item.content.kind().is_entry() && !is_shown(now, &slot.item, slot.beat.as_ref())
        });
        silent.min_by_key(|slot| slot.item.issued).map(|slot| slot.item.key())
    }

    /// All items of a signer and kind, as a range of the order.
    fn of_kind(&self, signer: &AgentId, kind: ItemKind) -> Range<usize> {
        let key = |id: &u32| {
            let item = &self.slots.get(*id).item;
            (item.signer, item.content.kind())
        };
        let first = self.order.partition_point(|id| key(id) < (*signer, kind));
        // A signer has few items: the next ones are looked at, not searched.
        let ours = |id: &&u32| key(id) == (*signer, kind);
        first..first + self.order[first..].iter().take_while(ours).count()
    }

    fn of_signer(&self, signer: &AgentId) -> usize {
        let first = self.order.partition_point(|id| self.slots.get(*id).item.signer < *signer);
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
        let mut shards: Vec<_> = slot.shards().map(|id| self.shards.get(id).id).collect();
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
        changes: &mut Vec<CustodyChange>,
    ) -> Result<(), Reject> {
        let freed = match known {
            Known::Older => self.get(&item.key()).map_or(0, |held| size(held.item)),
            Known::Same => size(item),
            Known::Nothing => {
                let of_prefix =
                    prefix.and_then(|prefix| self.by_prefix.get(&prefix)).copied().unwrap_or(0);
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
                self.make_room(now, &shard, &item.key(), changes)
            }
            _ => Ok(()),
        }
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
        changes: &mut Vec<CustodyChange>,
    ) -> Result<(), Reject> {
        let Ok(at) = self.find_shard(shard) else { return Ok(()) };
        let room = self.room_for(key.kind);
        if (self.shards.get(at).digests as usize) < room || self.is_in(at, key) {
            return Ok(());
        }
        let silent = self.silent_member(now, at).ok_or(Reject::Quota)?;
        self.remove(&silent, changes);
        Ok(())
    }

    /// Removes the entries that a tombstone retires.
    fn retire(&mut self, tombstone: &VerifiedItem, changes: &mut Vec<CustodyChange>) {
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

    fn offer_beat(
        &mut self,
        beat: VerifiedItem,
        changes: &mut Vec<CustodyChange>,
    ) -> Result<(), Reject> {
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
        let row = CustodyRow { bytes: beat.bytes.clone(), shards: Vec::new(), labels: Vec::new() };
        changes.push(CustodyChange::Put { key: beat.key(), row });
        Ok(())
    }

    fn set_beat(&mut self, id: u32, beat: Option<VerifiedItem>) {
        let slot = self.slots.get_mut(id);
        let before = state_of(&slot.item, slot.beat.as_ref());
        slot.beat = beat;
        let after = state_of(&slot.item, slot.beat.as_ref());
        for shard in slot.shards() {
            let state = &mut self.shards.get_mut(shard).state;
            *state = state.wrapping_sub(before).wrapping_add(after);
        }
    }

    fn drop_beat(&mut self, signer: &AgentId, changes: &mut Vec<CustodyChange>) {
        let Some(beat) = self.beat(signer).cloned() else { return };
        for at in self.of_kind(signer, ItemKind::Digest) {
            self.set_beat(self.order[at], None);
        }
        self.forget_beat(&beat, changes);
    }

    fn forget_beat(&mut self, beat: &VerifiedItem, changes: &mut Vec<CustodyChange>) {
        self.len -= 1;
        self.bytes -= size(beat);
        changes.push(CustodyChange::Remove { key: beat.key() });
    }

    fn add_place(
        &mut self,
        key: &ItemKey,
        shard: Option<ShardId>,
        label: Label<'_>,
        changes: &mut Vec<CustodyChange>,
    ) {
        let (Some(shard), Ok(at)) = (shard, self.find(key)) else { return };
        let id = self.order[at];
        if self.link(id, shard, label) {
            changes.push(self.put_change(id));
        }
    }

    fn put(
        &mut self,
        item: VerifiedItem,
        shard: Option<ShardId>,
        label: Label<'_>,
        prefix: Option<IpPrefix>,
        changes: &mut Vec<CustodyChange>,
    ) {
        let key = item.key();
        let beat = self.beat(&item.signer).filter(|_| key.kind == ItemKind::Digest).cloned();
        // A newer digest may belong elsewhere: its publisher offers it for each of its shards.
        let prefix = self.unlink(&key).map_or(prefix, |old| old.prefix);
        if let Some(prefix) = prefix {
            *self.by_prefix.entry(prefix).or_insert(0) += 1;
        }
        self.earliest = self.earliest.min(item.expires);
        self.bytes += size(&item);
        self.len += 1;
        let is_peer = matches!(item.content, Content::Peer(_));
        let id = self.slots.insert(Slot { item, beat, shard: None, prefix, more: None });
        let slots = &self.slots;
        insert_sorted(&mut self.order, id, |other| slots.get(*other).item.key().cmp(&key));
        if is_peer {
            let place = place_of(slots, id);
            insert_sorted(&mut self.peers, id, |other| place_of(slots, *other).cmp(&place));
        }
        if let Some(shard) = shard {
            self.link(id, shard, label);
        }
        changes.push(self.put_change(id));
    }

    /// Puts a slot under a shard. Returns whether it was not there yet.
    fn link(&mut self, id: u32, shard: ShardId, label: Label<'_>) -> bool {
        let at = match self.find_shard(&shard) {
            Ok(at) => at,
            Err(place) => {
                let at = self.shards.insert(Shard::new(shard));
                grow(&mut self.shard_order);
                self.shard_order.insert(place, at);
                at
            }
        };
        if self.slots.get(id).shards().any(|known| known == at) {
            return false;
        }
        self.slots.get_mut(id).add_shard(at);
        let slots = &self.slots;
        let slot = slots.get(id);
        let key = slot.item.key();
        let shard = self.shards.get_mut(at);
        insert_sorted(&mut shard.members, id, |other| slots.get(*other).item.key().cmp(&key));
        if shard.digests == 0 && key.kind.is_entry() {
            shard.label = label();
        }
        shard.count_in(&slot.item, slot.beat.as_ref());
        true
    }

    /// Removes an item, and the beat of a publisher whose last digest this was.
    fn remove(&mut self, key: &ItemKey, changes: &mut Vec<CustodyChange>) {
        let Some(slot) = self.unlink(key) else { return };
        changes.push(CustodyChange::Remove { key: *key });
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
        for shard in slots.get(id).shards().collect::<Vec<_>>() {
            self.leave_shard(id, shard);
        }
        let slot = self.slots.remove(id);
        if let Some(prefix) = slot.prefix
            && let Some(count) = self.by_prefix.get_mut(&prefix)
        {
            *count -= 1;
            if *count == 0 {
                self.by_prefix.remove(&prefix);
            }
        }
        self.bytes -= size(&slot.item);
        self.len -= 1;
        Some(slot)
    }

    fn leave_shard(&mut self, id: u32, shard: u32) {
        self.slots.get_mut(id).drop_shard(shard);
        let slots = &self.slots;
        let slot = slots.get(id);
        let key = slot.item.key();
        let held = self.shards.get_mut(shard);
        remove_sorted(&mut held.members, |other| slots.get(*other).item.key().cmp(&key));
        held.count_out(&slot.item, slot.beat.as_ref());
        if held.members.is_empty() {
            let id = held.id;
            let shards = &self.shards;
            remove_sorted(&mut self.shard_order, |other| shards.get(*other).id.cmp(&id));
            self.shards.remove(shard);
        }
    }
}

/// Where the agent of a peer record is.
fn place_of(slots: &Slab<Slot>, id: u32) -> Option<&OverlayId> {
    match &slots.get(id).item.content {
        Content::Peer(contact) => Some(&contact.overlay_id),
        Content::Digest(_) | Content::Veiled(_) | Content::Beat(_) | Content::Tombstone => None,
    }
}

/// How an offered item relates to the one held about the same thing.
fn order(held: &VerifiedItem, item: &VerifiedItem) -> Result<Known, Reject> {
    // All beats of one record have its number.
    let issued =
        |item: &VerifiedItem| matches!(item.content, Content::Beat(_)).then_some(item.issued);
    match (held.seq, issued(held)).cmp(&(item.seq, issued(item))) {
        Ordering::Greater => Err(Reject::Stale),
        Ordering::Less => Ok(Known::Older),
        Ordering::Equal if held.bytes == item.bytes => Ok(Known::Same),
        Ordering::Equal => Err(Reject::Conflict),
    }
}

/// How an offered item relates to what is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Nothing,
    Older,
    Same,
}

/// Expiry, clock tolerance and longest life.
///
/// # Errors
/// [`Reject::Future`], [`Reject::Expired`], [`Reject::Lifetime`].
pub fn check_times(now: Time, item: &VerifiedItem) -> Result<(), Reject> {
    if item.issued > now + CLOCK_TOLERANCE {
        return Err(Reject::Future);
    }
    if item.expires <= now || item.expires <= item.issued {
        return Err(Reject::Expired);
    }
    if item.expires.saturating_since(item.issued) > lifetime_max(item.content.kind()) {
        return Err(Reject::Lifetime);
    }
    Ok(())
}

const fn lifetime_max(kind: ItemKind) -> Duration {
    match kind {
        ItemKind::Digest | ItemKind::Tombstone | ItemKind::Peer => ITEM_LIFETIME_MAX,
        ItemKind::Beat | ItemKind::Veiled => BEAT_LIFETIME_MAX,
    }
}

fn check_place(item: &VerifiedItem, place: Place) -> Result<(), Reject> {
    if item.bytes.len() > ITEM_BYTES_MAX {
        return Err(Reject::Malformed);
    }
    match (&item.content, place) {
        (Content::Peer(contact), Place::Peer)
            if contact.agent == item.signer && item.subject.is_none() =>
        {
            Ok(())
        }
        (Content::Digest(_) | Content::Veiled(_), Place::Shard { shard, .. })
            if item.subject.is_some() =>
        {
            if shard.admits(&item.signer) {
                Ok(())
            } else {
                Err(Reject::Misplaced)
            }
        }
        (Content::Beat(_), Place::Shard { .. }) if item.subject.is_none() => Ok(()),
        (Content::Tombstone, Place::Shard { shard, .. }) => {
            if shard.admits(&item.signer) {
                Ok(())
            } else {
                Err(Reject::Misplaced)
            }
        }
        (Content::Peer(_) | Content::Digest(_) | Content::Veiled(_) | Content::Beat(_), _) => {
            Err(Reject::Malformed)
        }
        (Content::Tombstone, Place::Peer) => Err(Reject::Misplaced),
    }
}

/// Whether `id` starts with the first `bits` of `prefix`.
#[must_use]
pub fn shares_prefix(id: &OverlayId, prefix: &OverlayId, bits: u16) -> bool {
    id.distance(prefix).leading_zeros() >= u32::from(bits)
}
