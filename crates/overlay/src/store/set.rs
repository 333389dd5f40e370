//! One shard's members and the running hashes over them.

use std::sync::{Arc, LazyLock};

use blake3::hazmat::ContextKey;
use comity_core::Hash;

use super::slab::Names;
use crate::derive::{context, hasher};
use crate::item::{ItemKey, ItemKind, Verified, VerifiedItem};
use crate::shard::ShardId;

static SET: LazyLock<ContextKey> = context!("comity/shard-set/v2");
static NAME: LazyLock<ContextKey> = context!("comity/shard-element/v1");
static STATE: LazyLock<ContextKey> = context!("comity/shard-state/v1");

/// A shard held here.
#[derive(Clone, Debug)]
pub(super) struct Shard {
    pub(super) id: ShardId,
    /// The label its group's key is the hash of; empty while only tombstones came.
    pub(super) label: Arc<str>,
    /// Entries and tombstones, by key.
    pub(super) members: Names,
    /// How many of them are entries, at most [`SHARD_DIGESTS_MAX`](crate::config::SHARD_DIGESTS_MAX).
    pub(super) digests: u16,
    /// See [`Shard::set`]; bytes, because a number would be aligned.
    set: [u8; 16],
    /// Sum over digests with their beats and tombstones, see [`state_of`].
    pub(super) state: u64,
}

const _: () = assert!(size_of::<Option<Shard>>() <= 104);

impl Shard {
    pub(super) fn new(id: ShardId) -> Self {
        Self { id, label: Arc::from(""), members: Names::new(), digests: 0, set: [0; 16], state: 0 }
    }

    /// Sum over the entries, see [`Custody::set_hash`](super::Custody::set_hash).
    pub(super) const fn set(&self) -> u128 {
        u128::from_be_bytes(self.set)
    }

    /// A member came: its hashes enter the sums.
    pub(super) fn count_in(&mut self, item: &VerifiedItem, beat: Option<&VerifiedItem>) {
        if item.content.kind().is_entry() {
            self.digests += 1;
            self.set = self.set().wrapping_add(item.set_part()).to_be_bytes();
        }
        self.state = self.state.wrapping_add(state_of(item, beat));
    }

    /// A member goes.
    pub(super) fn count_out(&mut self, item: &VerifiedItem, beat: Option<&VerifiedItem>) {
        if item.content.kind().is_entry() {
            self.digests -= 1;
            self.set = self.set().wrapping_sub(item.set_part()).to_be_bytes();
        }
        self.state = self.state.wrapping_sub(state_of(item, beat));
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
