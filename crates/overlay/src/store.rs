//! Custody: what this node stores for others, and the rules by which it does.
//!
//! A statement replaces older ones about the same thing (highest sequence number), nothing expired or dated in the future is
//! taken, a tombstone keeps what it retired from coming back until the retired digest would have expired anyway, a beat is kept only
//! beside a digest of its publisher, and every list has a quota.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use comity_core::{AgentId, Hash, OverlayId, Time};

use crate::config::{
    BEAT_LIFETIME_MAX, CLOCK_TOLERANCE, ITEM_LIFETIME_MAX, ITEMS_PER_PREFIX_MAX,
    ITEMS_PER_PUBLISHER_MAX, SHARD_DIGESTS_MAX,
};
use crate::contact::IpPrefix;
use crate::drive::{CustodyChange, CustodyRow};
use crate::item::{Content, ITEM_BYTES_MAX, ItemKey, ItemKind, Reject, Subject, VerifiedItem};
use crate::shard::{Place, ShardId};

/// Bookkeeping counted for each item besides its bytes.
const ITEM_OVERHEAD_BYTES: usize = 256;
const SET_HASH_CONTEXT: &str = "comity/shard-set/v1";

/// One stored item.
#[derive(Clone, Debug)]
pub struct Held {
    /// The item.
    pub item: VerifiedItem,
    /// The shards it is stored under; only digests have any.
    pub shards: BTreeSet<ShardId>,
    /// The network prefix it was stored for, if that counts.
    prefix: Option<IpPrefix>,
}

impl Held {
    fn row(&self) -> CustodyRow {
        CustodyRow { bytes: self.item.bytes.clone(), shards: self.shards.iter().copied().collect() }
    }

    fn size(&self) -> usize {
        self.item.bytes.len() + ITEM_OVERHEAD_BYTES
    }
}

/// A digest of a shard with its publisher's beat.
#[derive(Clone, Copy, Debug)]
pub struct Member<'a> {
    /// The digest.
    pub digest: &'a VerifiedItem,
    /// The publisher's live beat.
    pub beat: Option<&'a VerifiedItem>,
}

/// Everything this node stores.
#[derive(Clone, Debug)]
pub struct Custody {
    items: BTreeMap<ItemKey, Held>,
    shards: BTreeMap<ShardId, BTreeSet<ItemKey>>,
    /// Peer records by place.
    peers: BTreeMap<OverlayId, AgentId>,
    by_prefix: BTreeMap<IpPrefix, usize>,
    by_expiry: BTreeSet<(Time, ItemKey)>,
    bytes: usize,
    bytes_max: usize,
}

impl Custody {
    /// An empty custody that holds at most `bytes_max` bytes of items, overhead counted.
    #[must_use]
    pub const fn new(bytes_max: usize) -> Self {
        Self {
            items: BTreeMap::new(),
            shards: BTreeMap::new(),
            peers: BTreeMap::new(),
            by_prefix: BTreeMap::new(),
            by_expiry: BTreeSet::new(),
            bytes: 0,
            bytes_max,
        }
    }

    /// Number of items.
    #[must_use]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether nothing is stored.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Bytes held, overhead counted.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Shards with at least one digest, and how many each holds.
    pub fn shards(&self) -> impl Iterator<Item = (&ShardId, usize)> + '_ {
        self.shards.iter().map(|(shard, members)| (shard, members.len()))
    }

    /// Everything, in key order.
    pub fn iter(&self) -> impl Iterator<Item = (&ItemKey, &Held)> + '_ {
        self.items.iter()
    }

    /// The item about `key`, expired or not.
    #[must_use]
    pub fn get(&self, key: &ItemKey) -> Option<&Held> {
        self.items.get(key)
    }

    /// Everything, as rows to persist.
    pub fn rows(&self) -> impl Iterator<Item = (ItemKey, CustodyRow)> + '_ {
        self.items.iter().map(|(key, held)| (*key, held.row()))
    }

    /// Offers `item` for `place` on behalf of a peer in `prefix` (`None`: not counted). Whether this node is a custodian of the place
    /// and a digest belongs to the group is the caller's to check. What changed is appended to `changes`.
    ///
    /// # Errors
    /// [`Reject`] names the rule; nothing was stored. A tombstone over quota still retires what it names.
    pub fn offer(
        &mut self,
        now: Time,
        item: VerifiedItem,
        place: Place,
        prefix: Option<IpPrefix>,
        changes: &mut Vec<CustodyChange>,
    ) -> Result<(), Reject> {
        check_times(now, &item)?;
        check_place(&item, place)?;
        match item.content {
            Content::Digest(_) if self.is_retired(now, &item) => return Err(Reject::Stale),
            Content::Beat(_) if !self.has_digest(&item.signer) => return Err(Reject::Orphan),
            Content::Digest(_) | Content::Beat(_) | Content::Tombstone | Content::Peer(_) => {}
        }
        let shard = match (&item.content, place) {
            (Content::Digest(_), Place::Shard { shard, .. }) => Some(shard),
            _ => None,
        };
        let known = self.compare(&item)?;
        if matches!(item.content, Content::Tombstone) {
            self.retire(&item, changes);
        }
        self.check_quotas(&item, shard, known, prefix)?;
        match known {
            Known::Same => self.add_place(&item.key(), shard, changes),
            Known::Older | Known::Nothing => self.put(item, shard, prefix, changes),
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
        item: VerifiedItem,
        shards: &[ShardId],
        changes: &mut Vec<CustodyChange>,
    ) -> Result<(), Reject> {
        if matches!(item.content, Content::Peer(_)) {
            return self.offer(now, item, Place::Peer, None, changes);
        }
        if matches!(item.content, Content::Beat(_) | Content::Tombstone) {
            let anywhere = ShardId::whole(comity_capability::keys::GroupKey([0; 32]));
            return self.offer(
                now,
                item,
                Place::Shard { shard: anywhere, index: 0 },
                None,
                changes,
            );
        }
        for shard in shards {
            self.offer(now, item.clone(), Place::Shard { shard: *shard, index: 0 }, None, changes)?;
        }
        Ok(())
    }

    /// Removes what has expired.
    pub fn sweep(&mut self, now: Time, changes: &mut Vec<CustodyChange>) {
        while let Some((expires, key)) = self.by_expiry.first().copied() {
            if expires > now {
                break;
            }
            self.remove(&key, changes);
        }
    }

    /// The live digests of `shard`, by signer and subject.
    pub fn members(&self, now: Time, shard: &ShardId) -> impl Iterator<Item = Member<'_>> + '_ {
        let keys = self.shards.get(shard).into_iter().flatten();
        keys.filter_map(move |key| {
            let digest = &self.items.get(key)?.item;
            (digest.expires > now).then(|| Member { digest, beat: self.beat(now, &key.signer) })
        })
    }

    /// Hash over (signer, subject, seq) of the live digests of `shard`, in order.
    #[must_use]
    pub fn set_hash(&self, now: Time, shard: &ShardId) -> Hash {
        let mut hasher = blake3::Hasher::new_derive_key(SET_HASH_CONTEXT);
        for member in self.members(now, shard) {
            hasher.update(member.digest.signer.as_bytes());
            hasher.update(&member.digest.subject.map_or(0, |subject| subject.0).to_be_bytes());
            hasher.update(&member.digest.seq.to_be_bytes());
        }
        Hash(*hasher.finalize().as_bytes())
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
        let matching =
            self.peers.range(prefix..).take_while(|(id, _)| shares_prefix(id, prefix, bits));
        let held = matching.filter_map(|(_, agent)| {
            self.items.get(&ItemKey { signer: *agent, kind: ItemKind::Peer, subject: None })
        });
        held.map(|held| &held.item).filter(|item| item.expires > now).take(count).collect()
    }

    fn beat(&self, now: Time, signer: &AgentId) -> Option<&VerifiedItem> {
        let held =
            self.items.get(&ItemKey { signer: *signer, kind: ItemKind::Beat, subject: None })?;
        (held.item.expires > now).then_some(&held.item)
    }

    /// All items of a signer and kind.
    fn of_kind(
        &self,
        signer: AgentId,
        kind: ItemKind,
    ) -> impl Iterator<Item = (&ItemKey, &Held)> + '_ {
        let first = ItemKey { signer, kind, subject: None };
        let last = ItemKey { signer, kind, subject: Some(Subject::MAX) };
        self.items.range(first..=last)
    }

    fn has_digest(&self, signer: &AgentId) -> bool {
        self.of_kind(*signer, ItemKind::Digest).next().is_some()
    }

    fn is_retired(&self, now: Time, digest: &VerifiedItem) -> bool {
        self.of_kind(digest.signer, ItemKind::Tombstone).any(|(key, tombstone)| {
            let covers = key.subject.is_none() || key.subject == digest.subject;
            covers && tombstone.item.seq >= digest.seq && tombstone.item.expires > now
        })
    }

    fn compare(&self, item: &VerifiedItem) -> Result<Known, Reject> {
        let Some(held) = self.items.get(&item.key()) else { return Ok(Known::Nothing) };
        // All beats of one record have its number.
        let issued =
            |item: &VerifiedItem| matches!(item.content, Content::Beat(_)).then_some(item.issued);
        match (held.item.seq, issued(&held.item)).cmp(&(item.seq, issued(item))) {
            std::cmp::Ordering::Greater => Err(Reject::Stale),
            std::cmp::Ordering::Less => Ok(Known::Older),
            std::cmp::Ordering::Equal if held.item.bytes == item.bytes => Ok(Known::Same),
            std::cmp::Ordering::Equal => Err(Reject::Conflict),
        }
    }

    fn check_quotas(
        &self,
        item: &VerifiedItem,
        shard: Option<ShardId>,
        known: Known,
        prefix: Option<IpPrefix>,
    ) -> Result<(), Reject> {
        let key = item.key();
        let full_shard = shard
            .and_then(|shard| self.shards.get(&shard))
            .is_some_and(|members| members.len() >= SHARD_DIGESTS_MAX && !members.contains(&key));
        if full_shard {
            return Err(Reject::Quota);
        }
        let freed = match known {
            Known::Same => return Ok(()),
            Known::Older => self.items.get(&key).map_or(0, Held::size),
            Known::Nothing => {
                let publisher =
                    ItemKey { signer: item.signer, kind: ItemKind::Digest, subject: None };
                let theirs = self
                    .items
                    .range(publisher..)
                    .take_while(|(key, _)| key.signer == item.signer)
                    .count();
                let of_prefix =
                    prefix.and_then(|prefix| self.by_prefix.get(&prefix)).copied().unwrap_or(0);
                if theirs >= ITEMS_PER_PUBLISHER_MAX || of_prefix >= ITEMS_PER_PREFIX_MAX {
                    return Err(Reject::Quota);
                }
                0
            }
        };
        let after = self.bytes - freed + item.bytes.len() + ITEM_OVERHEAD_BYTES;
        if after > self.bytes_max { Err(Reject::Quota) } else { Ok(()) }
    }

    /// Removes the digests that a tombstone retires.
    fn retire(&mut self, tombstone: &VerifiedItem, changes: &mut Vec<CustodyChange>) {
        let covered = self.of_kind(tombstone.signer, ItemKind::Digest).filter(|(key, held)| {
            (tombstone.subject.is_none() || tombstone.subject == key.subject)
                && held.item.seq <= tombstone.seq
        });
        let covered: Vec<_> = covered.map(|(key, _)| *key).collect();
        for key in covered {
            self.remove(&key, changes);
        }
    }

    fn add_place(
        &mut self,
        key: &ItemKey,
        shard: Option<ShardId>,
        changes: &mut Vec<CustodyChange>,
    ) {
        let (Some(shard), Some(held)) = (shard, self.items.get_mut(key)) else { return };
        if held.shards.insert(shard) {
            self.shards.entry(shard).or_default().insert(*key);
            changes.push(CustodyChange::Put { key: *key, row: held.row() });
        }
    }

    fn put(
        &mut self,
        item: VerifiedItem,
        shard: Option<ShardId>,
        prefix: Option<IpPrefix>,
        changes: &mut Vec<CustodyChange>,
    ) {
        let key = item.key();
        let mut held = Held { item, shards: BTreeSet::new(), prefix };
        if let Some(old) = self.unlink(&key) {
            // A newer digest may belong elsewhere: its publisher offers it for each of its shards.
            held.prefix = old.prefix;
        }
        held.shards.extend(shard);
        for shard in &held.shards {
            self.shards.entry(*shard).or_default().insert(key);
        }
        if let Content::Peer(contact) = &held.item.content {
            self.peers.insert(contact.overlay_id, key.signer);
        }
        if let Some(prefix) = held.prefix {
            *self.by_prefix.entry(prefix).or_insert(0) += 1;
        }
        self.by_expiry.insert((held.item.expires, key));
        self.bytes += held.size();
        changes.push(CustodyChange::Put { key, row: held.row() });
        self.items.insert(key, held);
    }

    /// Removes an item, and the beat of a publisher whose last digest this was.
    fn remove(&mut self, key: &ItemKey, changes: &mut Vec<CustodyChange>) {
        if self.unlink(key).is_some() {
            changes.push(CustodyChange::Remove { key: *key });
        }
        let beat = ItemKey { signer: key.signer, kind: ItemKind::Beat, subject: None };
        if key.kind == ItemKind::Digest
            && !self.has_digest(&key.signer)
            && self.unlink(&beat).is_some()
        {
            changes.push(CustodyChange::Remove { key: beat });
        }
    }

    /// Takes an item out of every index.
    fn unlink(&mut self, key: &ItemKey) -> Option<Held> {
        let held = self.items.remove(key)?;
        for shard in &held.shards {
            if let Some(members) = self.shards.get_mut(shard) {
                members.remove(key);
                if members.is_empty() {
                    self.shards.remove(shard);
                }
            }
        }
        if let Content::Peer(contact) = &held.item.content {
            self.peers.remove(&contact.overlay_id);
        }
        if let Some(prefix) = held.prefix
            && let Some(count) = self.by_prefix.get_mut(&prefix)
        {
            *count -= 1;
            if *count == 0 {
                self.by_prefix.remove(&prefix);
            }
        }
        self.by_expiry.remove(&(held.item.expires, *key));
        self.bytes -= held.size();
        Some(held)
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
        ItemKind::Beat => BEAT_LIFETIME_MAX,
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
        (Content::Digest(_), Place::Shard { shard, .. }) if item.subject.is_some() => {
            // Only whole groups are kept yet: a deeper shard is nobody's.
            if shard.depth == 0 && shard.is_canonical() { Ok(()) } else { Err(Reject::Misplaced) }
        }
        (Content::Beat(_), Place::Shard { .. }) if item.subject.is_none() => Ok(()),
        (Content::Tombstone, Place::Shard { .. }) => Ok(()),
        (Content::Peer(_) | Content::Digest(_) | Content::Beat(_), _) => Err(Reject::Malformed),
        (Content::Tombstone, Place::Peer) => Err(Reject::Misplaced),
    }
}

/// Whether `id` starts with the first `bits` of `prefix`.
#[must_use]
pub fn shares_prefix(id: &OverlayId, prefix: &OverlayId, bits: u16) -> bool {
    id.distance(prefix).leading_zeros() >= u32::from(bits)
}
