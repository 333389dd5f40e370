//! The routing table: split-last k-buckets around the own overlay id.
//!
//! Bucket `i` holds contacts that share exactly `i` leading bits with the own id; the last bucket holds all that share at least as
//! many as its index, and splits when it is full. Old contacts beat new ones: a full bucket takes a newcomer only as a spare, which
//! moves up when an entry fails [`STRIKES_MAX`] times in a row (Maymounkov and Mazières 2002, section 2.2; the prefix caps
//! are those of discv5).

use std::cmp::Ordering;
use std::time::Duration;

use comity_core::{AgentId, OverlayId, Time};

use crate::config::{
    BUCKETS_MAX, K, PREFIX_PER_BUCKET_MAX, PREFIX_PER_TABLE_MAX, SPARES_MAX, STRIKES_MAX,
};
use crate::contact::{Contact, Exempt, IpPrefix};

/// Bits of [`Entry`]'s facts, from the lowest: strikes, the [`tag`] of its prefix, the [`lead`] of its overlay id, and above them when it
/// last answered, in quarters of a second (2^34 of them last until the year 2106).
const STRIKE_BITS: u32 = 1;
const TAG_BITS: u32 = 10;
const LEAD_BITS: u32 = 19;
const SEEN_SHIFT: u32 = STRIKE_BITS + TAG_BITS + LEAD_BITS;
/// Microseconds of a quarter of a second.
const SEEN_UNIT: u64 = 250_000;
/// One strike fits beside the others; the next one evicts.
const _: () = assert!(STRIKES_MAX <= 1 << STRIKE_BITS);
const _: () = assert!(size_of::<Entry>() == 16);

/// Counts of entries by prefix tag.
const CROWDS: usize = 64;
/// What [`tag`] gives an address that does not count against the prefix caps.
const UNCOUNTED: u32 = 0;

/// A contact in the table and what is known of its health: 16 bytes, so that a scan over a bucket stays within a few cache lines and
/// follows the handle only to break a tie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Who and where.
    pub contact: Contact,
    /// See [`SEEN_SHIFT`].
    facts: u64,
}

impl Entry {
    /// `prefix` is a [`tag`], [`UNCOUNTED`] when the caps ignore the address.
    fn new(contact: Contact, seen: Time, prefix: u32) -> Self {
        let lead = u64::from(lead(&contact.overlay_id));
        let facts = (lead << TAG_BITS | u64::from(prefix)) << STRIKE_BITS;
        let mut entry = Self { contact, facts };
        entry.see(seen);
        entry
    }

    /// When it last answered or asked, to a quarter of a second.
    #[must_use]
    pub const fn seen(&self) -> Time {
        Time((self.facts >> SEEN_SHIFT) * SEEN_UNIT)
    }

    /// Unanswered requests since it last answered.
    #[must_use]
    pub fn strikes(&self) -> u8 {
        u8::try_from(self.bits(0, STRIKE_BITS)).expect("masked to a bit")
    }

    fn prefix(&self) -> u32 {
        self.bits(STRIKE_BITS, TAG_BITS)
    }

    fn lead(&self) -> u32 {
        self.bits(STRIKE_BITS + TAG_BITS, LEAD_BITS)
    }

    fn bits(&self, from: u32, count: u32) -> u32 {
        u32::try_from(self.facts >> from & ((1 << count) - 1)).expect("fewer than 32 bits")
    }

    /// It answered: no strikes.
    const fn see(&mut self, now: Time) {
        self.hear(now);
        self.facts &= !((1 << STRIKE_BITS) - 1);
    }

    /// It asked something: its strikes stay.
    const fn hear(&mut self, now: Time) {
        let rest = self.facts & ((1 << SEEN_SHIFT) - 1);
        self.facts = (now.as_micros() / SEEN_UNIT) << SEEN_SHIFT | rest;
    }

    /// One more strike; gives their number.
    fn strike(&mut self) -> u8 {
        let strikes = self.strikes() + 1;
        self.facts |= 1;
        strikes
    }

    fn is_at(&self, lead: u32, id: &OverlayId) -> bool {
        self.lead() == lead && self.contact.overlay_id == *id
    }
}

/// The leading bits of an id: enough to order most of a bucket.
const fn lead(id: &OverlayId) -> u32 {
    let [a, b, c, d, ..] = id.0;
    u32::from_be_bytes([a, b, c, d]) >> (u32::BITS - LEAD_BITS)
}

/// A number that equal prefixes share, different ones rarely, never [`UNCOUNTED`].
fn tag(prefix: IpPrefix) -> u32 {
    const TAGS: u32 = (1 << TAG_BITS) - 1;
    let folded = match prefix {
        IpPrefix::V4([a, b, c]) => u32::from_be_bytes([0, a, b, c]),
        IpPrefix::V6([a, b, c, d, e, f]) => {
            u32::from_be_bytes([a, b, c, d]).rotate_left(16) ^ u32::from_be_bytes([0, 0, e, f])
        }
    };
    folded % TAGS + 1
}

#[derive(Clone, Debug)]
struct Bucket {
    /// Oldest first; at most [`K`].
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

    fn position(&self, id: &OverlayId) -> Option<usize> {
        let lead = lead(id);
        self.entries.iter().position(|entry| entry.is_at(lead, id))
    }

    fn push(&mut self, entry: Entry) {
        if self.entries.len() == self.entries.capacity() && self.entries.len() >= K / 4 {
            // Doubling would leave room that a bucket never uses.
            self.entries.reserve_exact(K.saturating_sub(self.entries.len()));
        }
        self.entries.push(entry);
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
    /// Entries by the last bits of their prefix tag: no prefix has more than its count says, and most counts say enough.
    crowds: [u8; CROWDS],
    exempt: Vec<Exempt>,
}

impl Table {
    /// An empty table around `me`. Contacts in `exempt` networks and on loopback do not count against the prefix caps.
    #[must_use]
    pub fn new(me: OverlayId, exempt: Vec<Exempt>, now: Time) -> Self {
        Self { me, buckets: vec![Bucket::new(now)], crowds: [0; CROWDS], exempt }
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

    /// Number of entries in a bucket.
    #[must_use]
    pub fn bucket_len(&self, index: usize) -> usize {
        self.buckets.get(index).map_or(0, |bucket| bucket.entries.len())
    }

    /// All entries, far buckets first, oldest first within a bucket.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> + '_ {
        self.buckets.iter().flat_map(|bucket| bucket.entries.iter())
    }

    /// The entry at `id`.
    #[must_use]
    pub fn get(&self, id: &OverlayId) -> Option<&Entry> {
        let bucket = self.buckets.get(self.index(id))?;
        bucket.entries.get(bucket.position(id)?)
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
        let mut closest = Vec::with_capacity(count.min(self.len()));
        let mut order = Vec::with_capacity(K);
        for index in self.outwards(target) {
            let entries = &self.buckets[index].entries;
            let room = count - closest.len();
            if room == 0 {
                break;
            }
            order.clear();
            order.extend(entries.iter().map(|entry| (entry.lead() ^ lead(target), entry)));
            order.sort_unstable_by(|a, b| nearer(*a, *b, target));
            closest.extend(order.iter().take(room).map(|(_, entry)| entry.contact.clone()));
        }
        closest
    }

    /// All buckets, the one nearest to `target` first.
    ///
    /// Whoever is in bucket `i` differs from the own id in bit `i`, whoever is in a later one does not. So where `target` differs in
    /// bit `i` too, all of bucket `i` is nearer to it than all later buckets, and otherwise farther.
    fn outwards(&self, target: &OverlayId) -> impl Iterator<Item = usize> + '_ {
        let last = self.buckets.len() - 1;
        let target = *target;
        let differs = move |index: &usize| self.differs(*index, &target);
        let nearer = (0..last).filter(differs);
        let farther = (0..last).rev().filter(move |index| !differs(index));
        nearer.chain([last]).chain(farther)
    }

    /// Whether `target` and the own id differ in bit `index`.
    fn differs(&self, index: usize, target: &OverlayId) -> bool {
        let (byte, bit) = (index / 8, 0x80_u8 >> (index % 8));
        (self.me.0[byte] ^ target.0[byte]) & bit != 0
    }

    /// How many entries lie nearer to `target` than the own id does.
    #[must_use]
    pub fn nearer_than_me(&self, target: &OverlayId) -> usize {
        let last = self.buckets.len() - 1;
        let whole = (0..last).filter(|index| self.differs(*index, target));
        let whole: usize = whole.map(|index| self.buckets[index].entries.len()).sum();
        let mine = self.me.distance(target);
        let nearer = |entry: &&Entry| entry.contact.overlay_id.distance(target) < mine;
        whole + self.buckets[last].entries.iter().filter(nearer).count()
    }

    /// Offers a contact that has just answered.
    pub fn insert(&mut self, now: Time, contact: Contact) -> Inserted {
        if !contact.server || contact.overlay_id == self.me || contact.addrs.is_empty() {
            return Inserted::Refused;
        }
        let id = contact.overlay_id;
        let index = self.index(&id);
        if let Some(at) = self.buckets[index].position(&id) {
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
            .min_by_key(|entry| entry.seen())
            .expect("a full bucket has entries");
        Inserted::Spare { doubtful: doubtful.contact.clone() }
    }

    /// Notes that an entry was heard of (it asked something); nothing for others.
    pub fn heard(&mut self, now: Time, id: &OverlayId) {
        let index = self.index(id);
        let bucket = &mut self.buckets[index];
        if let Some(at) = bucket.position(id) {
            bucket.entries[at].hear(now);
        }
    }

    /// Notes that a request to `id` was not answered.
    pub fn strike(&mut self, id: &OverlayId) -> Struck {
        let index = self.index(id);
        let bucket = &mut self.buckets[index];
        let Some(at) = bucket.position(id) else {
            bucket.spares.retain(|spare| spare.overlay_id != *id);
            return Struck::Kept;
        };
        if bucket.entries[at].strike() < STRIKES_MAX {
            return Struck::Kept;
        }
        self.take(index, at);
        Struck::Evicted { candidate: self.buckets[index].spares.pop() }
    }

    /// Removes a contact that said it goes. Returns whether it was an entry.
    pub fn remove(&mut self, id: &OverlayId) -> bool {
        let index = self.index(id);
        self.buckets[index].spares.retain(|spare| spare.overlay_id != *id);
        match self.buckets[index].position(id) {
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
            self.entries().filter(|entry| now.saturating_since(entry.seen()) >= idle).collect();
        unseen.sort_by_key(|entry| entry.seen());
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
        let known = &mut self.buckets[index].entries[at];
        known.see(now);
        if known.contact == contact {
            // The handle known already is the one others share.
            return Inserted::Known { moved: false };
        }
        let moved = known.contact.addrs != contact.addrs;
        if moved && known.contact.prefix() != contact.prefix() {
            let old = self.take(index, at);
            let allowed = self.prefix_allows(index, &contact);
            let kept = if allowed { self.entry(now, contact) } else { old };
            self.count(kept.prefix());
            self.buckets[index].entries.insert(at, kept);
            return Inserted::Known { moved: allowed };
        }
        known.contact = contact;
        Inserted::Known { moved }
    }

    fn entry(&self, now: Time, contact: Contact) -> Entry {
        let prefix = self.counted(&contact).map_or(UNCOUNTED, tag);
        Entry::new(contact, now, prefix)
    }

    fn take(&mut self, index: usize, at: usize) -> Entry {
        let entry = self.buckets[index].entries.remove(at);
        let count = &mut self.crowds[crowd(entry.prefix())];
        // A count that is at its end is not known any more.
        if *count < u8::MAX {
            *count -= u8::from(entry.prefix() != UNCOUNTED);
        }
        entry
    }

    fn count(&mut self, prefix: u32) {
        let count = &mut self.crowds[crowd(prefix)];
        *count = count.saturating_add(u8::from(prefix != UNCOUNTED));
    }

    fn push(&mut self, now: Time, index: usize, contact: Contact) {
        let entry = self.entry(now, contact);
        self.count(entry.prefix());
        self.buckets[index].push(entry);
    }

    fn split(&mut self) {
        let depth = self.buckets.len() - 1;
        let me = self.me;
        let nearer = |id: &OverlayId| {
            usize::try_from(me.distance(id).leading_zeros()).is_ok_and(|shared| shared > depth)
        };
        let last = &mut self.buckets[depth];
        let mut next = Bucket::new(last.refreshed);
        let entries = std::mem::take(&mut last.entries);
        // Room for those there are: collecting them would leave as much again.
        let count = entries.iter().filter(|entry| nearer(&entry.contact.overlay_id)).count();
        next.entries.reserve_exact(count);
        last.entries.reserve_exact(entries.len() - count);
        for entry in entries {
            let bucket = if nearer(&entry.contact.overlay_id) { &mut next } else { &mut *last };
            bucket.entries.push(entry);
        }
        (next.spares, last.spares) = std::mem::take(&mut last.spares)
            .into_iter()
            .partition(|spare| nearer(&spare.overlay_id));
        // One more now and then: doubling would leave as much room again.
        if self.buckets.len() == self.buckets.capacity() {
            self.buckets.reserve_exact(2);
        }
        self.buckets.push(next);
    }

    /// The prefix that counts against the caps; `None` for loopback and exempt networks.
    pub(crate) fn counted(&self, contact: &Contact) -> Option<IpPrefix> {
        let prefix = contact.prefix()?;
        if self.exempt.is_empty() && matches!(prefix, IpPrefix::V4(_)) {
            return (!prefix.is_loopback()).then_some(prefix);
        }
        let ip = contact.addrs.first()?.ip().to_canonical();
        let exempt = ip.is_loopback() || self.exempt.iter().any(|network| network.covers(ip));
        (!exempt).then_some(prefix)
    }

    fn prefix_allows(&self, index: usize, contact: &Contact) -> bool {
        let Some(prefix) = self.counted(contact) else { return true };
        let tag = tag(prefix);
        // Tags may collide: the address decides.
        let same =
            |entry: &&Entry| entry.prefix() == tag && self.counted(&entry.contact) == Some(prefix);
        (usize::from(self.crowds[crowd(tag)]) < PREFIX_PER_TABLE_MAX
            || self.entries().filter(same).count() < PREFIX_PER_TABLE_MAX)
            && self.buckets[index].entries.iter().filter(same).count() < PREFIX_PER_BUCKET_MAX
    }
}

/// Where a prefix with this tag is counted.
fn crowd(tag: u32) -> usize {
    // Neighbouring prefixes, which one operator often has, are counted apart.
    usize::try_from(tag).unwrap_or(0) % CROWDS
}

/// Order by distance to `target`; each comes with the leading bits of its distance.
fn nearer(a: (u32, &Entry), b: (u32, &Entry), target: &OverlayId) -> Ordering {
    a.0.cmp(&b.0).then_with(|| {
        let distance = |entry: &Entry| entry.contact.overlay_id.distance(target);
        distance(a.1).cmp(&distance(b.1))
    })
}

/// Looks an agent up by key, a linear search: for tools, not for the hot path.
#[must_use]
pub fn find_agent<'a>(table: &'a Table, agent: &AgentId) -> Option<&'a Entry> {
    table.entries().find(|entry| entry.contact.agent == *agent)
}
