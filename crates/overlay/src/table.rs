//! The routing table: split-last k-buckets around the own overlay id.
//!
//! Bucket `i` holds contacts that share exactly `i` leading bits with the own id; the last bucket holds all that share at least as
//! many as its index, and splits when it is full. Old contacts beat new ones: a full bucket takes a newcomer only as a spare, which
//! moves up when an entry fails [`STRIKES_MAX`] times in a row (Maymounkov and Mazières 2002, section 2.2; the prefix caps
//! are those of discv5).

use std::cmp::Ordering;
use std::ops::Range;
use std::time::Duration;

use comity_core::{AgentId, OverlayId, Time};

use crate::config::{
    BUCKETS_MAX, K, PREFIX_PER_BUCKET_MAX, PREFIX_PER_TABLE_MAX, SPARES_MAX, STRIKES_MAX,
};
use crate::contact::{Contact, Exempt, IpPrefix};

/// Bits of [`Facts`], from the lowest: strikes, the [`lead`] of the overlay id, and above them when the entry last answered, in quarters of
/// a second since the table was begun (2^31 of them are 17 years; later counts as then).
const STRIKE_BITS: u32 = 1;
const LEAD_BITS: u32 = 8;
const SEEN_SHIFT: u32 = STRIKE_BITS + LEAD_BITS;
const SEEN_MAX: u64 = (1 << (FACTS_BITS - SEEN_SHIFT)) - 1;
const FACTS_BITS: u32 = 40;
/// Microseconds of a quarter of a second.
const SEEN_UNIT: u64 = 250_000;
/// One strike fits beside the others; the next one evicts.
const _: () = assert!(STRIKES_MAX <= 1 << STRIKE_BITS);
/// What an entry takes in a table.
pub const ENTRY_BYTES: usize = size_of::<Contact>() + size_of::<Facts>();
const _: () = assert!(ENTRY_BYTES == 13);

/// Counts of entries by prefix tag.
const CROWDS: usize = 64;
/// What [`tag`] gives an address that does not count against the prefix caps.
const UNCOUNTED: u32 = 0;

/// What is known of an entry's health, and a little of its place, so that a scan over a bucket follows few handles: five bytes, because
/// a simulation holds the tables of all nodes.
#[derive(Clone, Copy, Debug)]
struct Facts([u8; 5]);

impl Facts {
    const fn of(number: u64) -> Self {
        let [a, b, c, d, e, ..] = number.to_le_bytes();
        Self([a, b, c, d, e])
    }

    const fn number(self) -> u64 {
        let [a, b, c, d, e] = self.0;
        u64::from_le_bytes([a, b, c, d, e, 0, 0, 0])
    }

    fn new(lead: u8, seen: u64) -> Self {
        Self::of(seen << SEEN_SHIFT | u64::from(lead) << STRIKE_BITS)
    }

    /// When it last answered or asked, in [`SEEN_UNIT`]s since the table was begun.
    const fn seen(self) -> u64 {
        self.number() >> SEEN_SHIFT
    }

    const fn strikes(self) -> u8 {
        self.0[0] & ((1 << STRIKE_BITS) - 1)
    }

    fn lead(self) -> u8 {
        u8::try_from(self.number() >> STRIKE_BITS & 0xff).expect("masked to a byte")
    }

    fn lead_to(&mut self, lead: u8) {
        *self = Self::of(self.number() & !(0xff << STRIKE_BITS) | u64::from(lead) << STRIKE_BITS);
    }

    /// It answered: no strikes.
    const fn see(&mut self, seen: u64) {
        self.hear(seen);
        self.0[0] &= !((1 << STRIKE_BITS) - 1);
    }

    /// It asked something: its strikes stay.
    const fn hear(&mut self, seen: u64) {
        let rest = self.number() & ((1 << SEEN_SHIFT) - 1);
        *self = Self::of(seen << SEEN_SHIFT | rest);
    }

    /// One more strike; gives their number.
    const fn strike(&mut self) -> u8 {
        let strikes = self.strikes() + 1;
        self.0[0] |= 1;
        strikes
    }
}

/// A contact in the table and what is known of its health.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// Who and where.
    pub contact: &'a Contact,
    facts: Facts,
    began: u64,
}

impl Entry<'_> {
    /// When it last answered or asked, to a quarter of a second.
    #[must_use]
    pub const fn seen(&self) -> Time {
        Time((self.began + self.facts.seen()) * SEEN_UNIT)
    }

    /// Unanswered requests since it last answered.
    #[must_use]
    pub const fn strikes(&self) -> u8 {
        self.facts.strikes()
    }
}

/// Eight bits of an id that tell the members of bucket `index` apart: those behind the ones that all of them share.
fn lead(index: usize, id: &OverlayId) -> u8 {
    let byte = |at: usize| u16::from(id.0.get(at).copied().unwrap_or(0));
    let pair = byte(index / 8) << 8 | byte(index / 8 + 1);
    u8::try_from(pair << (index % 8) >> 8).expect("a shift by eight leaves a byte")
}

/// A number that equal prefixes share, different ones rarely, never [`UNCOUNTED`].
fn tag(prefix: IpPrefix) -> u32 {
    const TAGS: u32 = (1 << 10) - 1;
    let folded = match prefix {
        IpPrefix::V4([a, b, c]) => u32::from_be_bytes([0, a, b, c]),
        IpPrefix::V6([a, b, c, d, e, f]) => {
            u32::from_be_bytes([a, b, c, d]).rotate_left(16) ^ u32::from_be_bytes([0, 0, e, f])
        }
    };
    folded % TAGS + 1
}

/// A bucket's part of the table's lists.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// Entries; at most [`K`].
    len: u8,
    /// When a lookup last aimed here.
    refreshed: Time,
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

/// The routing table: lists of all entries, far buckets first, oldest first within a bucket. A list for each bucket would take as much
/// again where a process holds many tables.
#[derive(Clone, Debug)]
pub struct Table {
    me: OverlayId,
    contacts: Vec<Contact>,
    facts: Vec<Facts>,
    buckets: Vec<Bucket>,
    /// The bucket of each, and who waits for it; the newest last.
    spares: Vec<(u8, Contact)>,
    /// Entries by the last bits of their prefix tag: no prefix has more than its count says, and most counts say enough.
    crowds: [u8; CROWDS],
    exempt: Vec<Exempt>,
    /// When it was begun, in [`SEEN_UNIT`]s.
    began: u64,
}

impl Table {
    /// An empty table around `me`. Contacts in `exempt` networks and on loopback do not count against the prefix caps.
    #[must_use]
    pub fn new(me: OverlayId, exempt: Vec<Exempt>, now: Time) -> Self {
        Self {
            me,
            contacts: Vec::new(),
            facts: Vec::new(),
            buckets: vec![Bucket { len: 0, refreshed: now }],
            spares: Vec::new(),
            crowds: [0; CROWDS],
            exempt,
            began: now.as_micros() / SEEN_UNIT,
        }
    }

    /// Number of entries.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.contacts.len()
    }

    /// Whether there is no entry.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.contacts.is_empty()
    }

    /// Number of buckets, at least 1.
    #[must_use]
    pub const fn buckets(&self) -> usize {
        self.buckets.len()
    }

    /// Number of entries in a bucket.
    #[must_use]
    pub fn bucket_len(&self, index: usize) -> usize {
        self.buckets.get(index).map_or(0, |bucket| usize::from(bucket.len))
    }

    /// All entries, far buckets first, oldest first within a bucket.
    pub fn entries(&self) -> impl Iterator<Item = Entry<'_>> + '_ {
        self.within(0..self.contacts.len())
    }

    fn within(&self, range: Range<usize>) -> impl Iterator<Item = Entry<'_>> + '_ {
        let contacts = self.contacts[range.clone()].iter();
        let began = self.began;
        contacts.zip(&self.facts[range]).map(move |(contact, facts)| Entry {
            contact,
            facts: *facts,
            began,
        })
    }

    /// Where the entries of a bucket are.
    fn range(&self, index: usize) -> Range<usize> {
        let before = self.buckets[..index].iter().map(|bucket| usize::from(bucket.len));
        let start = before.sum();
        start..start + self.bucket_len(index)
    }

    /// Where the entry at `id` is, which is in bucket `index` if there is one.
    fn position(&self, index: usize, id: &OverlayId) -> Option<usize> {
        let (lead, range) = (lead(index, id), self.range(index));
        let is_there =
            |at: &usize| self.facts[*at].lead() == lead && self.contacts[*at].overlay_id == *id;
        range.into_iter().find(is_there)
    }

    /// `now` as it is noted of entries.
    fn quarters(&self, now: Time) -> u64 {
        (now.as_micros() / SEEN_UNIT).saturating_sub(self.began).min(SEEN_MAX)
    }

    /// Gives back the room that is not used.
    pub(crate) fn shrink(&mut self) {
        self.contacts.shrink_to_fit();
        self.facts.shrink_to_fit();
        self.buckets.shrink_to_fit();
    }

    /// The entry at `id`.
    #[must_use]
    pub fn get(&self, id: &OverlayId) -> Option<Entry<'_>> {
        let at = self.position(self.index(id), id)?;
        Some(Entry { contact: &self.contacts[at], facts: self.facts[at], began: self.began })
    }

    /// Whether a contact at `id` that answers could enter its bucket now: room, or a split that would make some.
    #[must_use]
    pub fn has_room(&self, id: &OverlayId) -> bool {
        let index = self.index(id);
        *id != self.me && (self.bucket_len(index) < K || self.splittable(index))
    }

    /// The `count` contacts nearest to `target`, nearest first.
    #[must_use]
    pub fn closest(&self, target: &OverlayId, count: usize) -> Vec<Contact> {
        let mut closest = Vec::with_capacity(count.min(self.len()));
        let mut order = Vec::with_capacity(K);
        for index in self.outwards(target) {
            let room = count - closest.len();
            if room == 0 {
                break;
            }
            let aim = lead(index, target);
            order.clear();
            order.extend(
                self.range(index).map(|at| (self.facts[at].lead() ^ aim, &self.contacts[at])),
            );
            order.sort_unstable_by(|a, b| nearer(*a, *b, target));
            closest.extend(order.iter().take(room).map(|(_, contact)| (*contact).clone()));
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
        let whole: usize = whole.map(|index| self.bucket_len(index)).sum();
        let mine = self.me.distance(target);
        let nearer = |contact: &&Contact| contact.overlay_id.distance(target) < mine;
        whole + self.contacts[self.range(last)].iter().filter(nearer).count()
    }

    /// Offers a contact that has just answered.
    pub fn insert(&mut self, now: Time, contact: Contact) -> Inserted {
        if !contact.server || contact.overlay_id == self.me || contact.addrs.is_empty() {
            return Inserted::Refused;
        }
        let id = contact.overlay_id;
        let index = self.index(&id);
        if let Some(at) = self.position(index, &id) {
            return self.refresh_entry(now, index, at, contact);
        }
        self.forget_spare(&id);
        if !self.prefix_allows(index, &contact) {
            return Inserted::Refused;
        }
        if self.bucket_len(index) < K {
            let facts = Facts::new(lead(index, &id), self.quarters(now));
            self.put(index, self.range(index).end, contact, facts);
            return Inserted::Added;
        }
        if self.splittable(index) {
            self.split();
            return self.insert(now, contact);
        }
        let mut waiting = self.spares.iter().filter(|(bucket, _)| usize::from(*bucket) == index);
        if waiting.clone().count() == SPARES_MAX
            && let Some(oldest) = waiting.next().map(|(_, oldest)| oldest.overlay_id)
        {
            self.forget_spare(&oldest);
        }
        self.spares.push((short(index), contact));
        let entries = self.within(self.range(index));
        let doubtful = entries.min_by_key(Entry::seen).expect("a full bucket has entries");
        Inserted::Spare { doubtful: doubtful.contact.clone() }
    }

    fn forget_spare(&mut self, id: &OverlayId) {
        self.spares.retain(|(_, spare)| spare.overlay_id != *id);
        if self.spares.is_empty() {
            self.spares = Vec::new();
        }
    }

    /// Notes that an entry was heard of (it asked something); nothing for others.
    pub fn heard(&mut self, now: Time, id: &OverlayId) {
        if let Some(at) = self.position(self.index(id), id) {
            let seen = self.quarters(now);
            self.facts[at].hear(seen);
        }
    }

    /// Notes that a request to `id` was not answered.
    pub fn strike(&mut self, id: &OverlayId) -> Struck {
        let index = self.index(id);
        let Some(at) = self.position(index, id) else {
            self.forget_spare(id);
            return Struck::Kept;
        };
        if self.facts[at].strike() < STRIKES_MAX {
            return Struck::Kept;
        }
        self.take(index, at);
        let newest = self.spares.iter().rposition(|(bucket, _)| usize::from(*bucket) == index);
        Struck::Evicted { candidate: newest.map(|at| self.spares.remove(at).1) }
    }

    /// Removes a contact that said it goes. Returns whether it was an entry.
    pub fn remove(&mut self, id: &OverlayId) -> bool {
        let index = self.index(id);
        self.forget_spare(id);
        match self.position(index, id) {
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
        unseen.sort_by_key(Entry::seen);
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

    const fn splittable(&self, index: usize) -> bool {
        index + 1 == self.buckets.len() && self.buckets.len() < BUCKETS_MAX
    }

    fn refresh_entry(&mut self, now: Time, index: usize, at: usize, contact: Contact) -> Inserted {
        let seen = self.quarters(now);
        self.facts[at].see(seen);
        let known = &self.contacts[at];
        if *known == contact {
            // The handle known already is the one others share.
            return Inserted::Known { moved: false };
        }
        let moved = known.addrs != contact.addrs;
        if moved && self.counted(known) != self.counted(&contact) {
            let (old, facts) = self.take(index, at);
            let allowed = self.prefix_allows(index, &contact);
            let new = Facts::new(lead(index, &contact.overlay_id), seen);
            let (kept, facts) = if allowed { (contact, new) } else { (old, facts) };
            self.put(index, at, kept, facts);
            return Inserted::Known { moved: allowed };
        }
        self.contacts[at] = contact;
        Inserted::Known { moved }
    }

    fn tag_of(&self, contact: &Contact) -> u32 {
        self.counted(contact).map_or(UNCOUNTED, tag)
    }

    fn take(&mut self, index: usize, at: usize) -> (Contact, Facts) {
        let (contact, facts) = (self.contacts.remove(at), self.facts.remove(at));
        self.buckets[index].len -= 1;
        let tag = self.tag_of(&contact);
        let count = &mut self.crowds[crowd(tag)];
        // A count that is at its end is not known any more.
        if *count < u8::MAX {
            *count -= u8::from(tag != UNCOUNTED);
        }
        (contact, facts)
    }

    fn put(&mut self, index: usize, at: usize, contact: Contact, facts: Facts) {
        let tag = self.tag_of(&contact);
        let count = &mut self.crowds[crowd(tag)];
        *count = count.saturating_add(u8::from(tag != UNCOUNTED));
        if self.contacts.len() == self.contacts.capacity() {
            // Doubling would leave room that a table never uses.
            self.contacts.reserve_exact(K / 2);
            self.facts.reserve_exact(K / 2);
        }
        self.contacts.insert(at, contact);
        self.facts.insert(at, facts);
        self.buckets[index].len += 1;
    }

    fn split(&mut self) {
        let depth = self.buckets.len() - 1;
        let me = self.me;
        let nearer = |id: &OverlayId| {
            usize::try_from(me.distance(id).leading_zeros()).is_ok_and(|shared| shared > depth)
        };
        let start = self.range(depth).start;
        let all: Vec<_> = self.contacts.drain(start..).zip(self.facts.drain(start..)).collect();
        let (next, last): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|(contact, _)| nearer(&contact.overlay_id));
        let refreshed = self.buckets[depth].refreshed;
        self.buckets[depth].len = short(last.len());
        // One more now and then: doubling would leave as much room again.
        if self.buckets.len() == self.buckets.capacity() {
            self.buckets.reserve_exact(2);
        }
        self.buckets.push(Bucket { len: short(next.len()), refreshed });
        for (contact, facts) in last {
            self.contacts.push(contact);
            self.facts.push(facts);
        }
        for (contact, mut facts) in next {
            facts.lead_to(lead(depth + 1, &contact.overlay_id));
            self.contacts.push(contact);
            self.facts.push(facts);
        }
        for (bucket, spare) in &mut self.spares {
            if usize::from(*bucket) == depth && nearer(&spare.overlay_id) {
                *bucket = short(depth + 1);
            }
        }
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
        // Tags may collide: where there are many, the address decides.
        let most = usize::from(self.crowds[crowd(tag(prefix))]);
        let same = |entry: &&Contact| self.counted(entry) == Some(prefix);
        (most < PREFIX_PER_TABLE_MAX
            || self.contacts.iter().filter(same).count() < PREFIX_PER_TABLE_MAX)
            && (most < PREFIX_PER_BUCKET_MAX
                || self.contacts[self.range(index)].iter().filter(same).count()
                    < PREFIX_PER_BUCKET_MAX)
    }
}

/// The number of a bucket, or of its entries.
fn short(number: usize) -> u8 {
    u8::try_from(number).expect("there are few buckets with few entries")
}

/// Where a prefix with this tag is counted.
fn crowd(tag: u32) -> usize {
    // Neighbouring prefixes, which one operator often has, are counted apart.
    usize::try_from(tag).unwrap_or(0) % CROWDS
}

/// Order by distance to `target` within a bucket; each comes with the bits of its distance that its [`lead`] tells.
fn nearer(a: (u8, &Contact), b: (u8, &Contact), target: &OverlayId) -> Ordering {
    a.0.cmp(&b.0).then_with(|| {
        let distance = |contact: &Contact| contact.overlay_id.distance(target);
        distance(a.1).cmp(&distance(b.1))
    })
}

/// Looks an agent up by key, a linear search: for tools, not for the hot path.
#[must_use]
pub fn find_agent<'a>(table: &'a Table, agent: &AgentId) -> Option<Entry<'a>> {
    table.entries().find(|entry| entry.contact.agent == *agent)
}
