//! The routing table: split-last k-buckets around the own overlay id.
//!
//! Bucket `i` holds contacts that share exactly `i` leading bits with the own id; the last bucket holds all that share at least as
//! many as its index, and splits when it is full. Old contacts beat new ones: a full bucket takes a newcomer only as a spare, which
//! moves up when an entry fails [`STRIKES_MAX`] times in a row (Maymounkov and Mazières 2002, section 2.2; the prefix caps
//! are those of discv5).

use std::collections::BTreeMap;
use std::time::Duration;

use comity_core::{AgentId, OverlayId, Time};

use crate::config::{
    BUCKETS_MAX, K, PREFIX_PER_BUCKET_MAX, PREFIX_PER_TABLE_MAX, SPARES_MAX, STRIKES_MAX,
};
use crate::contact::{Contact, Exempt, IpPrefix};
use crate::shard::halves;

/// A contact in the table and what is known of its health.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Who and where.
    pub contact: Contact,
    /// When it last answered.
    pub seen: Time,
    /// Unanswered requests since.
    pub strikes: u8,
}

#[derive(Clone, Debug)]
struct Bucket {
    /// Oldest first.
    entries: Vec<Entry>,
    /// Newest last.
    spares: Vec<Contact>,
    /// When a lookup last aimed here.
    refreshed: Time,
}

impl Bucket {
    const fn new(now: Time) -> Self {
        Self { entries: Vec::new(), spares: Vec::new(), refreshed: now }
    }
}

/// What became of a contact offered to the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// It is a new entry.
    Added,
    /// It was an entry already; `moved` when its addresses are new.
    Known {
        /// Its addresses changed.
        moved: bool,
    },
    /// The bucket is full; it waits as a spare. Pinging this entry, the one unseen longest, tells whether it may move up.
    Spare {
        /// The entry unseen longest.
        doubtful: Contact,
    },
    /// Not a candidate: oneself, a client, without address, or its IP prefix has its share.
    Refused,
}

/// What an unanswered request did to the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Struck {
    /// Not an entry, or it has strikes left.
    Kept,
    /// It left; the spare that took its place, if there was one, is untested and has to be pinged.
    Evicted {
        /// The newest spare of the bucket, already removed from the spares.
        candidate: Option<Contact>,
    },
}

/// The routing table.
#[derive(Clone, Debug)]
pub struct Table {
    me: OverlayId,
    buckets: Vec<Bucket>,
    /// Entries per counted prefix over all buckets.
    prefixes: BTreeMap<IpPrefix, usize>,
    exempt: Vec<Exempt>,
}

impl Table {
    /// An empty table around `me`. Contacts in `exempt` networks and on loopback do not count against the prefix caps.
    #[must_use]
    pub fn new(me: OverlayId, exempt: Vec<Exempt>, now: Time) -> Self {
        Self { me, buckets: vec![Bucket::new(now)], prefixes: BTreeMap::new(), exempt }
    }

    /// Number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.buckets.iter().map(|bucket| bucket.entries.len()).sum()
    }

    /// Whether there is no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.buckets.iter().all(|bucket| bucket.entries.is_empty())
    }

    /// Number of buckets, at least 1.
    #[must_use]
    pub fn buckets(&self) -> usize {
        self.buckets.len()
    }

    /// All entries, far buckets first, oldest first within a bucket.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> + '_ {
        self.buckets.iter().flat_map(|bucket| bucket.entries.iter())
    }

    /// The entry at `id`.
    #[must_use]
    pub fn get(&self, id: &OverlayId) -> Option<&Entry> {
        self.buckets
            .get(self.index(id))?
            .entries
            .iter()
            .find(|entry| entry.contact.overlay_id == *id)
    }

    /// Whether a contact at `id` that answers could enter its bucket now: room, or a split that would make some.
    #[must_use]
    pub fn has_room(&self, id: &OverlayId) -> bool {
        let index = self.index(id);
        *id != self.me && (self.buckets[index].entries.len() < K || self.splittable(index))
    }

    /// The `count` contacts nearest to `target`, nearest first.
    #[must_use]
    pub fn closest(&self, target: &OverlayId, count: usize) -> Vec<Contact> {
        let mut all: Vec<_> = self
            .entries()
            .map(|entry| (halves(&entry.contact.overlay_id, target), &entry.contact))
            .collect();
        if count < all.len() && count > 0 {
            all.select_nth_unstable_by_key(count - 1, |(distance, _)| *distance);
        }
        all.truncate(count);
        all.sort_unstable_by_key(|(distance, _)| *distance);
        all.into_iter().map(|(_, contact)| contact.clone()).collect()
    }

    /// How many entries lie nearer to `target` than `id` does.
    #[must_use]
    pub fn nearer_than(&self, target: &OverlayId, id: &OverlayId) -> usize {
        let limit = halves(id, target);
        self.entries().filter(|entry| halves(&entry.contact.overlay_id, target) < limit).count()
    }

    /// Offers a contact that has just answered.
    pub fn insert(&mut self, now: Time, contact: Contact) -> Inserted {
        if !contact.server || contact.overlay_id == self.me || contact.addrs.is_empty() {
            return Inserted::Refused;
        }
        let id = contact.overlay_id;
        let index = self.index(&id);
        if let Some(at) =
            self.buckets[index].entries.iter().position(|entry| entry.contact.overlay_id == id)
        {
            return self.refresh_entry(now, index, at, contact);
        }
        self.buckets[index].spares.retain(|spare| spare.overlay_id != id);
        if !self.prefix_allows(index, &contact) {
            return Inserted::Refused;
        }
        if self.buckets[index].entries.len() < K {
            self.push(now, index, contact);
            return Inserted::Added;
        }
        if self.splittable(index) {
            self.split();
            return self.insert(now, contact);
        }
        let bucket = &mut self.buckets[index];
        if bucket.spares.len() == SPARES_MAX {
            bucket.spares.remove(0);
        }
        bucket.spares.push(contact);
        let doubtful = bucket
            .entries
            .iter()
            .min_by_key(|entry| entry.seen)
            .expect("a full bucket has entries");
        Inserted::Spare { doubtful: doubtful.contact.clone() }
    }

    /// Notes that an entry was heard of (it asked something); nothing for others.
    pub fn heard(&mut self, now: Time, id: &OverlayId) {
        let index = self.index(id);
        if let Some(entry) =
            self.buckets[index].entries.iter_mut().find(|entry| entry.contact.overlay_id == *id)
        {
            entry.seen = now;
        }
    }

    /// Notes that a request to `id` was not answered.
    pub fn strike(&mut self, id: &OverlayId) -> Struck {
        let index = self.index(id);
        let bucket = &mut self.buckets[index];
        let Some(at) = bucket.entries.iter().position(|entry| entry.contact.overlay_id == *id)
        else {
            bucket.spares.retain(|spare| spare.overlay_id != *id);
            return Struck::Kept;
        };
        bucket.entries[at].strikes += 1;
        if bucket.entries[at].strikes < STRIKES_MAX {
            return Struck::Kept;
        }
        self.take(index, at);
        Struck::Evicted { candidate: self.buckets[index].spares.pop() }
    }

    /// Removes a contact that said it goes. Returns whether it was an entry.
    pub fn remove(&mut self, id: &OverlayId) -> bool {
        let index = self.index(id);
        self.buckets[index].spares.retain(|spare| spare.overlay_id != *id);
        match self.buckets[index].entries.iter().position(|entry| entry.contact.overlay_id == *id) {
            Some(at) => {
                self.take(index, at);
                true
            }
            None => false,
        }
    }

    /// Entries not seen for `idle`, the longest unseen first, at most `count`.
    #[must_use]
    pub fn unseen(&self, now: Time, idle: Duration, count: usize) -> Vec<Contact> {
        let mut unseen: Vec<_> =
            self.entries().filter(|entry| now.saturating_since(entry.seen) >= idle).collect();
        unseen.sort_by_key(|entry| entry.seen);
        unseen.into_iter().take(count).map(|entry| entry.contact.clone()).collect()
    }

    /// Notes that a lookup aims at `target`, which refreshes its bucket.
    pub fn aimed(&mut self, now: Time, target: &OverlayId) {
        let index = self.index(target);
        self.buckets[index].refreshed = now;
    }

    /// Buckets no lookup has aimed at for `idle`, far ones first.
    #[must_use]
    pub fn idle_buckets(&self, now: Time, idle: Duration) -> Vec<usize> {
        let is_idle = |bucket: &Bucket| now.saturating_since(bucket.refreshed) >= idle;
        (0..self.buckets.len()).filter(|index| is_idle(&self.buckets[*index])).collect()
    }

    /// A place inside bucket `index`: `noise` with the leading bits that put it there.
    #[must_use]
    pub fn place_in(&self, index: usize, noise: [u8; 32]) -> OverlayId {
        let last = index + 1 >= self.buckets.len();
        let mut place = noise;
        for (at, byte) in place.iter_mut().enumerate() {
            let shared = index.saturating_sub(at * 8).min(8);
            let mask = u8::try_from(0xff00_u16 >> shared & 0xff).expect("masked to a byte");
            *byte = (self.me.0[at] & mask) | (*byte & !mask);
            if !last && index / 8 == at {
                let bit = 0x80 >> (index % 8);
                *byte = (*byte & !bit) | (!self.me.0[at] & bit);
            }
        }
        OverlayId(place)
    }

    /// Which bucket covers `id`.
    fn index(&self, id: &OverlayId) -> usize {
        let shared = usize::try_from(self.me.distance(id).leading_zeros()).unwrap_or(BUCKETS_MAX);
        shared.min(self.buckets.len() - 1)
    }

    fn splittable(&self, index: usize) -> bool {
        index + 1 == self.buckets.len() && self.buckets.len() < BUCKETS_MAX
    }

    fn refresh_entry(&mut self, now: Time, index: usize, at: usize, contact: Contact) -> Inserted {
        let moved = self.buckets[index].entries[at].contact.addrs != contact.addrs;
        if moved && self.buckets[index].entries[at].contact.prefix() != contact.prefix() {
            let old = self.buckets[index].entries.remove(at);
            self.uncount(&old.contact);
            let allowed = self.prefix_allows(index, &contact);
            let kept = Entry {
                contact: if allowed { contact } else { old.contact },
                seen: now,
                strikes: 0,
            };
            self.count(&kept.contact);
            self.buckets[index].entries.insert(at, kept);
            return Inserted::Known { moved: allowed };
        }
        let entry = &mut self.buckets[index].entries[at];
        *entry = Entry { contact, seen: now, strikes: 0 };
        Inserted::Known { moved }
    }

    fn push(&mut self, now: Time, index: usize, contact: Contact) {
        self.count(&contact);
        self.buckets[index].entries.push(Entry { contact, seen: now, strikes: 0 });
    }

    fn take(&mut self, index: usize, at: usize) {
        let entry = self.buckets[index].entries.remove(at);
        self.uncount(&entry.contact);
    }

    fn split(&mut self) {
        let depth = self.buckets.len() - 1;
        let me = self.me;
        let nearer = |id: &OverlayId| {
            usize::try_from(me.distance(id).leading_zeros()).is_ok_and(|shared| shared > depth)
        };
        let last = &mut self.buckets[depth];
        let mut next = Bucket::new(last.refreshed);
        (next.entries, last.entries) = std::mem::take(&mut last.entries)
            .into_iter()
            .partition(|entry| nearer(&entry.contact.overlay_id));
        (next.spares, last.spares) = std::mem::take(&mut last.spares)
            .into_iter()
            .partition(|spare| nearer(&spare.overlay_id));
        self.buckets.push(next);
    }

    /// The prefix that counts against the caps; `None` for loopback and exempt networks.
    pub(crate) fn counted(&self, contact: &Contact) -> Option<IpPrefix> {
        let ip = contact.addrs.first()?.ip().to_canonical();
        let exempt = ip.is_loopback() || self.exempt.iter().any(|network| network.covers(ip));
        (!exempt).then(|| IpPrefix::of(ip))
    }

    fn prefix_allows(&self, index: usize, contact: &Contact) -> bool {
        let Some(prefix) = self.counted(contact) else { return true };
        let in_table = self.prefixes.get(&prefix).copied().unwrap_or(0);
        let same = |entry: &&Entry| self.counted(&entry.contact) == Some(prefix);
        in_table < PREFIX_PER_TABLE_MAX
            && self.buckets[index].entries.iter().filter(same).count() < PREFIX_PER_BUCKET_MAX
    }

    fn count(&mut self, contact: &Contact) {
        if let Some(prefix) = self.counted(contact) {
            *self.prefixes.entry(prefix).or_insert(0) += 1;
        }
    }

    fn uncount(&mut self, contact: &Contact) {
        let Some(prefix) = self.counted(contact) else { return };
        if let Some(count) = self.prefixes.get_mut(&prefix) {
            *count -= 1;
            if *count == 0 {
                self.prefixes.remove(&prefix);
            }
        }
    }
}

/// Looks an agent up by key, a linear search: for tools, not for the hot path.
#[must_use]
pub fn find_agent<'a>(table: &'a Table, agent: &AgentId) -> Option<&'a Entry> {
    table.entries().find(|entry| entry.contact.agent == *agent)
}
