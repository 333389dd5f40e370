//! One shard's members and the running hashes over them.

use std::sync::{Arc, LazyLock};

use blake3::hazmat::ContextKey;
use comity_capability::keys::GroupKey;
use comity_core::Hash;

use super::slab::{Slab, insert_sorted, remove_sorted};
use super::slot::{Slot, lead};
use crate::derive::{context, hasher};
use crate::item::{ItemKey, ItemKind, Verified, VerifiedItem};
use crate::shard::ShardId;

static SET: LazyLock<ContextKey> = context!("comity/shard-set/v2");
static NAME: LazyLock<ContextKey> = context!("comity/shard-element/v1");
static STATE: LazyLock<ContextKey> = context!("comity/shard-state/v1");

/// A group as whoever keeps shards of it names it: a copy for each shard, or, where one process holds many custodians, one for all.
#[derive(Debug)]
pub struct GroupName {
    /// Its key.
    pub key: GroupKey,
    /// The label that `key` is the hash of; empty while only tombstones of the group came.
    pub label: Arc<str>,
}

impl GroupName {
    /// The group with this label.
    #[must_use]
    pub fn of(label: Arc<str>) -> Self {
        Self { key: GroupKey::of(&label), label }
    }
}

/// A shard held here: 32 bytes, because a simulation holds as many as its custodians do together, and most have one member.
#[derive(Clone, Debug)]
pub(super) struct Shard {
    pub(super) group: Arc<GroupName>,
    members: Members,
    prefix: [u8; 4],
    depth: u8,
}

const _: () = assert!(size_of::<Option<Shard>>() <= 32);

/// Entries and tombstones, by key.
#[derive(Clone, Debug)]
enum Members {
    /// One, which says all that there is to say.
    One(u32),
    Many(Box<Many>),
}

#[derive(Clone, Debug, Default)]
struct Many {
    names: Vec<u32>,
    sums: Sums,
}

/// What is kept of the members of a shard together.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sums {
    /// Sum over the entries, see [`Custody::set_hash`](super::Custody::set_hash); bytes, because a number would be aligned.
    set: [u8; 16],
    /// Sum over digests with their beats and tombstones, see [`state_of`].
    pub(super) state: u64,
    /// How many are entries, at most [`SHARD_DIGESTS_MAX`](crate::config::SHARD_DIGESTS_MAX).
    pub(super) entries: u16,
}

impl Sums {
    /// Of one member.
    fn of(slot: &Slot) -> Self {
        let mut sums = Self::default();
        sums.count_in(slot);
        sums
    }

    /// See [`Sums::set`].
    pub(super) const fn set(&self) -> u128 {
        u128::from_be_bytes(self.set)
    }

    fn count_in(&mut self, slot: &Slot) {
        if slot.item.content.kind().is_entry() {
            self.entries += 1;
            self.set = self.set().wrapping_add(slot.item.set_part()).to_be_bytes();
        }
        self.state = self.state.wrapping_add(state_of(&slot.item, slot.beat.as_ref()));
    }

    fn count_out(&mut self, slot: &Slot) {
        if slot.item.content.kind().is_entry() {
            self.entries -= 1;
            self.set = self.set().wrapping_sub(slot.item.set_part()).to_be_bytes();
        }
        self.state = self.state.wrapping_sub(state_of(&slot.item, slot.beat.as_ref()));
    }
}

impl Shard {
    /// A shard with its first member.
    pub(super) const fn new(id: ShardId, group: Arc<GroupName>, member: u32) -> Self {
        Self { group, members: Members::One(member), prefix: id.prefix, depth: id.depth }
    }

    pub(super) fn id(&self) -> ShardId {
        ShardId { group: self.group.key, depth: self.depth, prefix: self.prefix }
    }

    /// Slots of its members in the order of their keys.
    pub(super) fn members(&self) -> &[u32] {
        match &self.members {
            Members::One(name) => std::slice::from_ref(name),
            Members::Many(many) => &many.names,
        }
    }

    pub(super) fn sums(&self, slots: &Slab<Slot>) -> Sums {
        match &self.members {
            Members::One(name) => Sums::of(slots.get(*name)),
            Members::Many(many) => many.sums,
        }
    }

    /// How many members are entries.
    pub(super) fn entries(&self, slots: &Slab<Slot>) -> u16 {
        match &self.members {
            Members::One(name) => u16::from(slots.get(*name).item.content.kind().is_entry()),
            Members::Many(many) => many.sums.entries,
        }
    }

    /// A member comes that is none yet.
    pub(super) fn add(&mut self, id: u32, slots: &Slab<Slot>) {
        let slot = slots.get(id);
        if let Members::One(first) = self.members {
            let many = Many { names: vec![first], sums: Sums::of(slots.get(first)) };
            self.members = Members::Many(Box::new(many));
        }
        if let Members::Many(many) = &mut self.members {
            let (key, lead) = (slot.item.key(), lead(&slot.item.signer));
            insert_sorted(&mut many.names, id, |other| slots.get(*other).cmp_key(lead, &key));
            many.sums.count_in(slot);
        }
    }

    /// A member goes, whose slot is still filled. Returns whether it was the last one.
    pub(super) fn remove(&mut self, id: u32, slots: &Slab<Slot>) -> bool {
        let Members::Many(many) = &mut self.members else { return true };
        let slot = slots.get(id);
        let (key, lead) = (slot.item.key(), lead(&slot.item.signer));
        remove_sorted(&mut many.names, |other| slots.get(*other).cmp_key(lead, &key));
        many.sums.count_out(slot);
        if let [last] = many.names[..] {
            self.members = Members::One(last);
        }
        false
    }

    /// The state of a member changed from `before` to `after`, see [`state_of`].
    pub(super) fn restate(&mut self, before: u64, after: u64) {
        if let Members::Many(many) = &mut self.members {
            many.sums.state = many.sums.state.wrapping_sub(before).wrapping_add(after);
        }
    }

    /// Gives back the room that is not used.
    pub(super) fn shrink(&mut self) {
        if let Members::Many(many) = &mut self.members {
            many.names.shrink_to_fit();
        }
    }
}

/// What an entry adds to the set: signer, subject, sequence number.
pub(crate) fn set_part(item: &Verified) -> u128 {
    let mut hasher = hasher(&SET);
    hasher.update(item.signer.as_bytes());
    hasher.update(&item.subject.map_or(0, |subject| subject.0).to_be_bytes());
    hasher.update(&item.seq.to_be_bytes());
    let mut part = [0; 16];
    part.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    u128::from_be_bytes(part)
}

/// The hash that custodians compare.
pub(super) fn set_hash(set: u128) -> Hash {
    Hash(*hasher(&SET).update(&set.to_be_bytes()).finalize().as_bytes())
}

/// Where an item stands in the order that custodians reconcile in. Names of tombstones are odd, those of entries even.
#[must_use]
pub fn element_name(key: &ItemKey) -> u64 {
    let mut hasher = hasher(&NAME);
    hasher.update(key.signer.as_bytes());
    let is_tombstone = key.kind == ItemKind::Tombstone;
    let kind = u8::from(is_tombstone) | u8::from(key.kind == ItemKind::Veiled) << 1;
    hasher.update(&[kind, u8::from(key.subject.is_some())]);
    hasher.update(&key.subject.map_or(0, |subject| subject.0).to_be_bytes());
    leading(&hasher) & !1 | u64::from(is_tombstone)
}

/// What an element adds to a fingerprint: its name, its sequence number and when its beat was issued.
#[must_use]
pub fn element_state(name: u64, seq: u64, beat: u64) -> u64 {
    let mut hasher = hasher(&STATE);
    for number in [name, seq, beat] {
        hasher.update(&number.to_be_bytes());
    }
    leading(&hasher)
}

/// The beat's issue time as it counts for reconciliation, in milliseconds; 0 without one.
pub(super) fn beat_stamp(beat: Option<&VerifiedItem>) -> u64 {
    beat.map_or(0, |beat| beat.issued.as_millis())
}

pub(super) fn state_of(item: &VerifiedItem, beat: Option<&VerifiedItem>) -> u64 {
    element_state(item.name(), item.seq, beat_stamp(beat))
}

fn leading(hasher: &blake3::Hasher) -> u64 {
    let mut part = [0; 8];
    part.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    u64::from_be_bytes(part)
}
