//! Own items between publications: what is kept stored, who keeps it, when it is due again.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use comity_capability::keys::GroupKey;
use comity_core::{AgentId, OverlayId, Time};

use super::super::{Overlay, Timer};
use super::PublishJob;
use crate::config::{HOLDERS_MAX, PUBLISH_ITEMS_MAX, PUBLISHED_MAX};
use crate::contact::Contact;
use crate::drive::Action;
use crate::few::Few;
use crate::item::{Content, ItemKey, ItemKind, LABELS_PER_ITEM_MAX, Subject, VerifiedItem};
use crate::shard::{PLACEMENTS, ShardId};

/// Places whose custodians are remembered.
pub(super) const CUSTODIANS_MAX: usize = 8_192;
/// Split groups whose depth is remembered.
const DEPTHS_MAX: usize = 8_192;
/// Every how many-th renewal of a group begins at the top if it is split.
const PROBE_EVERY: u8 = 4;
/// Every how many-th renewal of a place asks some of its custodians who came beside them.
const CHECK_EVERY: u8 = 4;
/// So does a renewal after one in so many of them failed.
const CHECK_AFTER_LOST: usize = 4;
/// Every how many-th renewal of a place looks all of its custodians up again, over disjoint paths.
const LOOKUP_EVERY: u8 = 16;
/// So does a renewal when fewer than one in so many of those that were found are left.
const LOOKUP_BELOW: usize = 4;
/// Some of them are asked for newcomers when the region has grown or shrunk by half since, and all are looked up again when it did twice.
const REGION_CHANGE: u64 = 2;
const REGION_CHANGE_MUCH: u64 = 4;
/// Items due within this time of each other are renewed together.
const BATCH_WITHIN: Duration = Duration::from_secs(60);
/// Share of the life left, as a divisor, below which the shell is asked for a successor.
const RENEW_DIVISOR: u32 = 4;

/// Own items that are kept stored.
#[derive(Debug)]
pub(in super::super) struct Publishing {
    pub(super) items: Few<ItemKey, Published>,
    pub(super) custodians: Few<OverlayId, Custodians>,
    /// Groups that are split, or were.
    pub(super) depths: Few<GroupKey, Depth>,
    /// Time between two stores of an item; adapts to how fast custodians disappear.
    pub(super) interval: Duration,
    /// The timer that is set, if one is.
    wake: Option<Time>,
}

#[derive(Debug)]
pub(super) struct Published {
    pub(super) item: VerifiedItem,
    pub(super) labels: Box<[Arc<str>]>,
    pub(super) due: Time,
    /// Custodians besides this node at the last store.
    pub(super) holders: usize,
}

/// Where own items of a group go.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Depth {
    /// Depth of the shard they go to.
    pub(super) now: u8,
    /// Bit per depth they ever went to: a withdrawal goes there too.
    pub(super) used: u64,
    /// Renewals since the top of the group was asked.
    rounds: u8,
}

/// Who keeps a place: those a lookup found, without those that failed since, and who came beside them.
#[derive(Debug)]
pub(super) struct Custodians {
    /// Shared by who publishes at the same place in a simulation.
    pub(super) contacts: Arc<[Contact]>,
    pub(super) uses: u8,
    /// Those that failed since they were last looked up or checked, and since `renewed`.
    pub(super) failed: u16,
    pub(super) lost: u16,
    /// When all of them were last offered something.
    pub(super) renewed: Time,
    /// How many the lookup found, and the estimated size of the network then.
    pub(super) found: u16,
    pub(super) size: u64,
    /// The shell does not know of the last change yet.
    pub(super) unsaved: bool,
}

/// Custodians that failed, when nobody knows how many did.
pub(super) const UNKNOWN: u16 = u16::MAX;

/// What is remembered of a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Remembered {
    /// Nothing, or it is too old: it is looked up.
    Nothing,
    /// Its custodians; some of them are asked for newcomers.
    Check(Vec<Contact>),
    /// The same, and nobody knows who of them is left.
    Doubtful(Vec<Contact>),
    /// Its custodians.
    Known(Vec<Contact>),
}

/// A number of custodians of one place, of whom there are at most [`HOLDERS_MAX`].
fn short(count: usize) -> u16 {
    u16::try_from(count).unwrap_or(u16::MAX)
}

impl Custodians {
    /// One of them is none any more; gives how many that were.
    fn drop_custodian(&mut self, agent: &AgentId) -> u16 {
        let stays = |contact: &&Contact| contact.agent != *agent;
        let left = self.contacts.iter().filter(stays).count();
        let gone = short(self.contacts.len() - left);
        if gone > 0 {
            self.unsaved = true;
            self.contacts = self.contacts.iter().filter(stays).cloned().collect();
        }
        gone
    }
}

impl Publishing {
    pub(in super::super) const fn new(interval: Duration) -> Self {
        Self { items: Few::new(), custodians: Few::new(), depths: Few::new(), interval, wake: None }
    }

    pub(in super::super) fn len(&self) -> usize {
        self.items.len()
    }

    /// A published item and its labels.
    pub(in super::super) fn item(&self, key: &ItemKey) -> Option<(&VerifiedItem, &[Arc<str>])> {
        self.items.get(key).map(|published| (&published.item, &*published.labels))
    }

    /// The own beat, if one is published.
    pub(in super::super) fn beat(&self) -> Option<&VerifiedItem> {
        let mut items = self.items.values().map(|published| &published.item);
        items.find(|item| matches!(item.content, Content::Beat(_)))
    }

    /// Whether own items of the group go to this shard now: elsewhere their custodians may let them go.
    pub(in super::super) fn is_current(&self, shard: &ShardId) -> bool {
        self.depths.get(&shard.group).map_or(0, |depth| depth.now) == shard.depth
    }

    /// Nothing is stored on `agent` any more without a lookup that finds it again.
    pub(in super::super) fn forget_custodian(&mut self, agent: &AgentId) {
        for known in self.custodians.values_mut() {
            known.drop_custodian(agent);
        }
    }

    /// Whether veiled entries signed by this key are published.
    pub(super) fn is_pseudonym(&self, signer: &AgentId) -> bool {
        self.items.keys().any(|key| key.kind == ItemKind::Veiled && key.signer == *signer)
    }

    /// The groups of the own entries that an item of `signer` about `subject` belongs beside.
    pub(super) fn labels_beside(
        &self,
        signer: &AgentId,
        subject: Option<Subject>,
    ) -> BTreeSet<String> {
        let digests = self.items.iter().filter(|(key, _)| {
            key.kind.is_entry()
                && key.signer == *signer
                && (subject.is_none() || key.subject == subject)
        });
        digests
            .flat_map(|(_, published)| published.labels.iter().map(ToString::to_string))
            .collect()
    }

    /// The depths at which an item of this kind goes to `group`, ascending.
    pub(super) fn depths_of(&self, group: &GroupKey, kind: ItemKind, probing: bool) -> Vec<u8> {
        let depth = self.depths.get(group).copied().unwrap_or_default();
        if kind == ItemKind::Tombstone {
            let used = depth.used | 1 | 1 << depth.now;
            return (0..=crate::shard::SHARD_DEPTH_MAX)
                .filter(|bit| used >> bit & 1 == 1)
                .collect();
        }
        let top = (probing && depth.now > 0).then_some(0);
        top.into_iter().chain([depth.now]).collect()
    }

    /// Counts a renewal of items of `group`. Returns whether it should begin at the top.
    pub(super) fn is_probed(&mut self, group: &GroupKey) -> bool {
        let Some(depth) = self.depths.get_mut(group).filter(|depth| depth.now > 0) else {
            return false;
        };
        depth.rounds = (depth.rounds + 1) % PROBE_EVERY;
        depth.rounds == 0
    }

    /// Own items of `group` go to shards of depth `now` from here on.
    pub(super) fn set_depth(&mut self, group: GroupKey, now: u8) {
        if self.depths.len() >= DEPTHS_MAX && !self.depths.contains_key(&group) {
            return;
        }
        let depth = self.depths.get_or_insert_with(group, Depth::default);
        depth.used |= 1 << depth.now | 1 << now;
        depth.now = now;
    }

    /// Remembers who keeps a place.
    pub(super) fn remember(
        &mut self,
        now: Time,
        position: OverlayId,
        contacts: impl Into<Arc<[Contact]>>,
        size: u64,
    ) {
        if self.custodians.len() < CUSTODIANS_MAX || self.custodians.contains_key(&position) {
            let contacts = contacts.into();
            let found = short(contacts.len());
            let (uses, failed, lost, renewed) = (0, 0, 0, now);
            let unsaved = true;
            let known = Custodians { contacts, uses, failed, lost, renewed, found, size, unsaved };
            self.custodians.insert(position, known);
        }
    }

    /// Adds to the custodians of a place who came beside them.
    pub(super) fn remember_newcomers(&mut self, position: &OverlayId, contacts: &[Contact]) {
        let Some(known) = self.custodians.get_mut(position) else { return };
        let mut all = known.contacts.to_vec();
        for contact in contacts {
            let is_new = all.iter().all(|other| other.agent != contact.agent);
            if is_new && all.len() < HOLDERS_MAX {
                all.push(contact.clone());
            }
        }
        if all.len() > known.contacts.len() {
            known.contacts = all.into();
            known.unsaved = true;
        }
    }

    /// One of the custodians of a place does not keep it any more.
    pub(super) fn lost_custodian(&mut self, position: &OverlayId, agent: &AgentId) {
        let Some(known) = self.custodians.get_mut(position) else { return };
        let gone = known.drop_custodian(agent);
        known.failed = known.failed.saturating_add(gone);
        known.lost = known.lost.saturating_add(gone);
    }

    /// The custodians of all places are looked up again when they are needed.
    fn look_up_all(&mut self) {
        self.custodians.values_mut().for_each(|known| known.uses = LOOKUP_EVERY);
    }

    /// The custodians of a place, while they are good enough to skip the lookup.
    pub(super) fn remembered(&mut self, position: &OverlayId, size: u64) -> Remembered {
        let Some(known) = self.custodians.get_mut(position) else { return Remembered::Nothing };
        known.uses = known.uses.saturating_add(1);
        let before = known.size;
        let moved =
            |by: u64| size >= before.saturating_mul(by) || before >= size.saturating_mul(by);
        if known.uses >= LOOKUP_EVERY
            || known.contacts.len() * LOOKUP_BELOW < usize::from(known.found)
            || known.contacts.is_empty()
            || moved(REGION_CHANGE_MUCH)
        {
            self.custodians.remove(position);
            return Remembered::Nothing;
        }
        if moved(REGION_CHANGE) {
            known.size = size;
            known.failed = known.failed.max(short(known.contacts.len()));
        }
        if known.failed == UNKNOWN {
            known.failed = 0;
            return Remembered::Doubtful(known.contacts.to_vec());
        }
        if known.uses.is_multiple_of(CHECK_EVERY)
            || usize::from(known.failed) * CHECK_AFTER_LOST > known.contacts.len()
        {
            known.failed = 0;
            return Remembered::Check(known.contacts.to_vec());
        }
        Remembered::Known(known.contacts.to_vec())
    }
}

impl Overlay {
    /// The custodians' half-life, estimated from how many of the remembered ones were lost since the last renewal and how long that
    /// was; slowly to the maximum while none is. What leaves between two renewals, custodians make up for among themselves.
    pub(super) fn adapt_interval(&mut self, now: Time, publish: &PublishJob) {
        let positions: BTreeSet<_> = publish
            .items
            .iter()
            .flat_map(|state| state.places.iter().map(|(_, position)| position))
            .collect();
        let (mut observed, mut lost) = (0_u64, 0_u64);
        for position in positions {
            let Some(known) = self.publishing.custodians.get_mut(position) else { continue };
            let seconds = now.saturating_since(known.renewed).as_secs();
            observed += seconds * (known.contacts.len() as u64 + u64::from(known.lost));
            lost += u64::from(known.lost);
            (known.renewed, known.lost) = (now, 0);
        }
        if observed == 0 {
            return;
        }
        let interval = self.publishing.interval;
        // Maximum likelihood for exponential lives: time observed over losses, times ln 2.
        let half_life = observed.saturating_mul(693) / 1_000;
        let half_life = half_life.checked_div(lost).map(Duration::from_secs);
        let adapted = half_life.map_or(interval * 2, |half| (interval + half) / 2);
        self.publishing.interval =
            adapted.clamp(self.config.republish_min, self.config.republish_max);
    }

    /// The shard that own items of `group` go to.
    #[must_use]
    pub fn own_shard(&self, group: GroupKey) -> ShardId {
        let depth = self.publishing.depths.get(&group).map_or(0, |depth| depth.now);
        ShardId::of(group, depth, &self.me.agent)
    }

    // ---- preloading ----

    /// Takes own items as published without sending anything, and `custodians` as found by lookups for these places: renewals run as if
    /// all had been published from here. For simulations that start from a built network; items beyond the bounds are left out.
    pub fn preload_published(
        &mut self,
        now: Time,
        items: Vec<(VerifiedItem, Vec<Arc<str>>)>,
        custodians: Vec<(OverlayId, Arc<[Contact]>)>,
    ) {
        let holders = custodians.iter().map(|(_, contacts)| contacts.len()).max().unwrap_or(0);
        let room = PUBLISHED_MAX.saturating_sub(self.publishing.items.len());
        for (item, mut labels) in items.into_iter().take(room) {
            labels.truncate(LABELS_PER_ITEM_MAX);
            let labels = labels.into();
            let due = now + self.share(self.publishing.interval);
            self.publishing.items.insert(item.key(), Published { item, labels, due, holders });
        }
        let size = self.size_estimate();
        for (position, contacts) in custodians {
            self.publishing.remember(now, position, contacts, size);
        }
        self.publishing.items.shrink();
        self.publishing.custodians.shrink();
        self.schedule_republish();
    }

    /// Takes own items of `group` as published in its shards of this depth.
    pub fn preload_depth(&mut self, group: GroupKey, depth: u8) {
        self.publishing.set_depth(group, depth);
    }

    // ---- renewal ----

    /// Sets the timer to the earliest item due.
    pub(super) fn schedule_republish(&mut self) {
        let earliest = self
            .publishing
            .items
            .values()
            .map(|published| published.due)
            .min()
            .filter(|due| *due != Time::MAX);
        if let Some(set) = self.publishing.wake.take() {
            self.timers.remove(&(set, Timer::Republish));
        }
        if let Some(due) = earliest {
            self.timers.insert((due, Timer::Republish));
            self.publishing.wake = Some(due);
        }
    }

    /// Stores again what is due, and what is nearly so.
    pub(in super::super) fn republish(&mut self, now: Time) {
        self.publishing.wake = None;
        self.publishing.items.retain(|_, published| published.item.expires > now);
        let mut due = Vec::new();
        for published in self.publishing.items.values_mut() {
            if published.due <= now + BATCH_WITHIN && due.len() < PUBLISH_ITEMS_MAX {
                published.due = Time::MAX;
                let labels = published.labels.iter().map(ToString::to_string).collect();
                due.push((published.item.clone(), labels));
            }
        }
        if !due.is_empty() {
            self.begin_publish(now, None, due, false);
        }
        self.schedule_republish();
    }

    /// Stores an own item again at `due` at the latest, by custodians looked up anew.
    pub(in super::super) fn hasten_item(&mut self, key: &ItemKey, due: Time) {
        let Some(published) = self.publishing.items.get_mut(key) else { return };
        if published.due != Time::MAX {
            published.due = published.due.min(due);
        }
        let labels = published.labels.clone();
        for group in labels.iter().map(|label| GroupKey::of(label)) {
            for depth in self.publishing.depths_of(&group, ItemKind::Digest, true) {
                let shard = ShardId::of(group, depth, &key.signer);
                for index in 0..PLACEMENTS {
                    self.publishing.custodians.remove(&shard.position(index));
                }
            }
        }
        self.schedule_republish();
    }

    /// Stores all own items again at `due` at the latest, by custodians looked up anew: the network is not the one they were looked up in.
    pub(in super::super) fn restore_by(&mut self, due: Time) {
        self.publishing.look_up_all();
        for published in self.publishing.items.values_mut() {
            if published.due != Time::MAX {
                published.due = published.due.min(due);
            }
        }
        self.schedule_republish();
    }

    /// Asks the shell for successors of own items near their expiry.
    pub(in super::super) fn ask_renewals(&mut self, now: Time) {
        for (key, published) in self.publishing.items.iter() {
            let life = published.item.expires.saturating_since(published.item.issued);
            if published.item.expires.saturating_since(now) <= life / RENEW_DIVISOR {
                self.actions.push_back(Action::Renew(*key));
            }
        }
    }

    /// Brings forward the renewal of items that fewer nodes keep than could: stored while the network was smaller, or hit by failures.
    pub(in super::super) fn hasten_thin_items(&mut self, now: Time) {
        let possible = self.table.len().min(self.config.holders);
        let mut hastened = false;
        // A beat beside nothing goes nowhere.
        let is_beside = self.publishing.items.keys().any(|key| key.kind.is_entry());
        for (key, published) in self.publishing.items.iter_mut() {
            if key.kind == ItemKind::Beat && !is_beside {
                continue;
            }
            if published.due != Time::MAX && published.holders * 2 < possible {
                published.due = now;
                hastened = true;
            }
        }
        if hastened {
            // Who was remembered is who is too few.
            self.publishing.look_up_all();
            self.schedule_republish();
        }
    }
}
