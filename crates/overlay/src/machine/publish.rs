//! Own items: storing them where they belong, and keeping them stored.
//!
//! Places are worked through in key order. Who was found to keep a place is remembered, so that most renewals need no lookup; every
//! [`LOOKUP_EVERY`]th does one, and so does one whose custodians failed. In a network small enough to be seen whole by one lookup,
//! that lookup serves all places.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use comity_capability::keys::GroupKey;
use comity_core::{AgentId, OverlayId, Time};

use super::audit::is_auditable;
use super::traffic::{Goal, Purpose};
use super::{Overlay, Task, Timer};
use crate::config::{K, PUBLISH_ITEMS_MAX, PUBLISHED_MAX};
use crate::contact::Contact;
use crate::drive::{
    Action, CommandError, CommandId, ItemReport, Outcome, Publication, PublishReport,
};
use crate::item::{
    Content, ItemKey, ItemKind, LABEL_BYTES_MAX, LABELS_PER_ITEM_MAX, Reject, Services, Subject,
    VerifiedItem,
};
use crate::lookup::Lookup;
use crate::shard::{PLACEMENTS, Place, ShardId, peer_position};
use crate::store::check_times;
use crate::wire::{Request, Response, STORE_ITEMS_MAX, STORE_LABELS_MAX, StoreEntry, StoreOutcome};

/// Lookups of one publication at once.
const LOOKUPS_PARALLEL: usize = 4;
/// Store requests of one publication at once.
const STORES_PARALLEL: usize = 16;
/// Bytes of items in one store request; entries and framing fit beside them.
const STORE_BYTES_MAX: usize = 44 * 1_024;
/// Places whose custodians are remembered.
const CUSTODIANS_MAX: usize = 8_192;
/// Every how many-th renewal of a place looks its custodians up again.
const LOOKUP_EVERY: u8 = 4;
/// Items due within this time of each other are renewed together.
const BATCH_WITHIN: Duration = Duration::from_secs(60);
/// Share of the life left, as a divisor, below which the shell is asked for a successor.
const RENEW_DIVISOR: u32 = 4;
/// Longest one publication may take, lookups and stores included.
const PUBLISH_DEADLINE: Duration = Duration::from_secs(120);

/// Own items that are kept stored.
#[derive(Debug)]
pub(super) struct Publishing {
    items: BTreeMap<ItemKey, Published>,
    custodians: BTreeMap<OverlayId, Custodians>,
    /// Time between two stores of an item; adapts to how fast custodians disappear.
    interval: Duration,
    /// The timer that is set, if one is.
    wake: Option<Time>,
}

#[derive(Debug)]
struct Published {
    item: VerifiedItem,
    labels: Vec<String>,
    due: Time,
    /// Custodians besides this node at the last store.
    holders: usize,
}

/// Who keeps a place, as of the last lookup.
#[derive(Debug)]
struct Custodians {
    contacts: Vec<Contact>,
    uses: u8,
    failed: usize,
}

impl Publishing {
    pub(super) const fn new(interval: Duration) -> Self {
        Self { items: BTreeMap::new(), custodians: BTreeMap::new(), interval, wake: None }
    }

    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    /// A published item and its labels.
    pub(super) fn item(&self, key: &ItemKey) -> Option<(&VerifiedItem, &[String])> {
        self.items.get(key).map(|published| (&published.item, &*published.labels))
    }

    /// The own beat, if one is published.
    pub(super) fn beat(&self) -> Option<&VerifiedItem> {
        let mut items = self.items.values().map(|published| &published.item);
        items.find(|item| matches!(item.content, Content::Beat(_)))
    }

    /// Nothing is stored on `agent` any more without a lookup that finds it again.
    pub(super) fn forget_custodian(&mut self, agent: &AgentId) {
        for known in self.custodians.values_mut() {
            known.contacts.retain(|contact| contact.agent != *agent);
        }
    }

    /// The groups of the own digests that an item about `subject` belongs beside.
    fn labels_beside(&self, subject: Option<Subject>) -> BTreeSet<String> {
        let digests = self.items.iter().filter(|(key, _)| {
            key.kind == ItemKind::Digest && (subject.is_none() || key.subject == subject)
        });
        digests.flat_map(|(_, published)| published.labels.iter().cloned()).collect()
    }
}

/// A publication in progress.
#[derive(Debug)]
pub(super) struct PublishJob {
    items: Vec<ItemState>,
    retire: bool,
    /// Places to find custodians for, last in key order first.
    todo: Vec<(OverlayId, Vec<(usize, Place)>)>,
    /// What each running lookup's target is for.
    looking: BTreeMap<OverlayId, Vec<(usize, Place)>>,
    /// What each custodian is to be offered.
    offers: BTreeMap<AgentId, (Contact, BTreeSet<(usize, Place)>)>,
    stores_running: usize,
    /// Store requests ready to go, last first.
    requests: Vec<(Contact, Vec<(usize, Place)>)>,
    /// Everyone, once a lookup has shown how few there are.
    everyone: Option<Vec<Contact>>,
}

#[derive(Debug)]
struct ItemState {
    item: VerifiedItem,
    labels: BTreeMap<GroupKey, String>,
    places: BTreeSet<(Place, OverlayId)>,
    held: BTreeSet<Place>,
    holders: BTreeSet<AgentId>,
    rejected: Option<Reject>,
    split: bool,
}

impl Overlay {
    pub(super) fn start_publish(
        &mut self,
        now: Time,
        services: &mut dyn Services,
        id: CommandId,
        items: Vec<Publication>,
    ) -> Result<(), CommandError> {
        let items = self.verify_own(now, services, items)?;
        if items.iter().any(|(item, _)| matches!(item.content, Content::Tombstone)) {
            return Err(CommandError::Invalid("tombstones are not published: use Retire"));
        }
        let known: BTreeSet<_> = self
            .publishing
            .items
            .keys()
            .copied()
            .chain(items.iter().map(|(item, _)| item.key()))
            .collect();
        if known.len() > PUBLISHED_MAX {
            return Err(CommandError::TooMany {
                what: "published items",
                given: known.len(),
                max: PUBLISHED_MAX,
            });
        }
        for (item, labels) in &items {
            let published = Published {
                item: item.clone(),
                labels: labels.clone(),
                due: Time::MAX,
                holders: 0,
            };
            self.publishing.items.insert(item.key(), published);
            if is_auditable(item)
                && let Some(question) = services.question_for(item)
            {
                self.audits.ask_with(item.key(), question);
            }
        }
        self.begin_publish(now, Some(id), items, false);
        Ok(())
    }

    pub(super) fn start_retire(
        &mut self,
        now: Time,
        services: &mut dyn Services,
        id: CommandId,
        tombstones: Vec<Publication>,
    ) -> Result<(), CommandError> {
        let mut tombstones = self.verify_own(now, services, tombstones)?;
        if tombstones.iter().any(|(item, _)| !matches!(item.content, Content::Tombstone)) {
            return Err(CommandError::Invalid("only tombstones retire"));
        }
        for (item, labels) in &mut tombstones {
            labels.extend(self.publishing.labels_beside(item.subject));
            if labels.is_empty() {
                return Err(CommandError::Invalid(
                    "the tombstone has no place: give the labels of the digest it retires",
                ));
            }
        }
        for (tombstone, _) in &tombstones {
            self.publishing.items.retain(|key, published| {
                let covered = key.kind == ItemKind::Digest
                    && (tombstone.subject.is_none() || tombstone.subject == key.subject);
                !covered || published.item.seq > tombstone.seq
            });
        }
        self.begin_publish(now, Some(id), tombstones, true);
        Ok(())
    }

    fn verify_own(
        &self,
        now: Time,
        services: &mut dyn Services,
        items: Vec<Publication>,
    ) -> Result<Vec<(VerifiedItem, Vec<String>)>, CommandError> {
        if items.is_empty() {
            return Err(CommandError::Invalid("no item is given"));
        }
        if items.len() > PUBLISH_ITEMS_MAX {
            return Err(CommandError::TooMany {
                what: "items",
                given: items.len(),
                max: PUBLISH_ITEMS_MAX,
            });
        }
        let mut verified = Vec::new();
        for (index, publication) in items.into_iter().enumerate() {
            let Publication { item: bytes, labels } = publication;
            if labels.len() > LABELS_PER_ITEM_MAX
                || labels.iter().any(|label| label.len() > LABEL_BYTES_MAX)
            {
                return Err(CommandError::TooMany {
                    what: "labels of an item",
                    given: labels.len(),
                    max: LABELS_PER_ITEM_MAX,
                });
            }
            let item = services
                .verify(now, &bytes)
                .and_then(|item| check_times(now, &item).map(|()| item));
            let item = item.map_err(|reject| CommandError::Item { index, reject })?;
            let admitted = |label: &String| services.admits(&item, label);
            if matches!(item.content, Content::Digest(_))
                && (labels.is_empty() || !labels.iter().all(admitted))
            {
                return Err(CommandError::Item { index, reject: Reject::Misplaced });
            }
            if item.signer != self.me.agent {
                return Err(CommandError::ForeignItem { index });
            }
            let known = self.publishing.items.get(&item.key());
            if known.is_some_and(|known| known.item.seq > item.seq) {
                return Err(CommandError::Item { index, reject: Reject::Stale });
            }
            verified.push((item, labels));
        }
        Ok(verified)
    }

    /// Starts storing `items`; silently when there is no command.
    fn begin_publish(
        &mut self,
        now: Time,
        command: Option<CommandId>,
        items: Vec<(VerifiedItem, Vec<String>)>,
        retire: bool,
    ) {
        let states: Vec<_> =
            items.into_iter().map(|(item, labels)| self.item_state(item, labels)).collect();
        let mut todo: BTreeMap<OverlayId, Vec<(usize, Place)>> = BTreeMap::new();
        for (index, state) in states.iter().enumerate() {
            for (place, position) in &state.places {
                todo.entry(*position).or_default().push((index, *place));
            }
        }
        let job = PublishJob {
            items: states,
            retire,
            todo: todo.into_iter().rev().collect(),
            looking: BTreeMap::new(),
            offers: BTreeMap::new(),
            stores_running: 0,
            requests: Vec::new(),
            everyone: None,
        };
        let task = Task::Publish(Box::new(job));
        let id = match command {
            Some(id) => {
                self.begin(now, id, task, Some(PUBLISH_DEADLINE));
                id
            }
            None => self.begin_silent(now, task, Some(PUBLISH_DEADLINE)),
        };
        self.continue_publish(now, id);
    }

    fn item_state(&self, item: VerifiedItem, labels: Vec<String>) -> ItemState {
        let labels: BTreeSet<_> = match &item.content {
            Content::Digest(_) | Content::Tombstone => labels.into_iter().collect(),
            Content::Beat(_) => self.publishing.labels_beside(None),
            Content::Peer(_) => BTreeSet::new(),
        };
        let labels: BTreeMap<_, _> =
            labels.into_iter().map(|label| (GroupKey::of(&label), label)).collect();
        let shards = labels.keys().copied().map(ShardId::whole);
        let mut places: BTreeSet<_> = shards
            .flat_map(|shard| {
                (0..PLACEMENTS)
                    .map(move |index| (Place::Shard { shard, index }, shard.position(index)))
            })
            .collect();
        if let Content::Peer(contact) = &item.content {
            places.insert((Place::Peer, contact.overlay_id));
            places.insert((Place::Peer, peer_position(&item.signer)));
        }
        ItemState {
            item,
            labels,
            places,
            held: BTreeSet::new(),
            holders: BTreeSet::new(),
            rejected: None,
            split: false,
        }
    }

    fn publish_job(&mut self, id: CommandId) -> Option<&mut PublishJob> {
        match self.jobs.get_mut(&id).map(|job| &mut job.task) {
            Some(Task::Publish(job)) => Some(job),
            _ => None,
        }
    }

    fn continue_publish(&mut self, now: Time, id: CommandId) {
        loop {
            let Some(job) = self.publish_job(id) else { return };
            if job.looking.len() >= LOOKUPS_PARALLEL {
                return;
            }
            let Some((position, entries)) = job.todo.pop() else { break };
            let custodians = job.everyone.clone().or_else(|| self.remembered(&position));
            match custodians {
                Some(contacts) => self.assign(now, id, &position, &entries, contacts),
                None => {
                    let Some(job) = self.publish_job(id) else { return };
                    job.looking.insert(position, entries);
                    let breadth = self.store_breadth(now);
                    self.look(now, Goal::Publish(id), position, breadth);
                }
            }
        }
        self.send_stores(now, id);
    }

    /// The custodians of a place, while they are good enough to skip the lookup.
    fn remembered(&mut self, position: &OverlayId) -> Option<Vec<Contact>> {
        let known = self.publishing.custodians.get_mut(position)?;
        known.uses += 1;
        if known.uses >= LOOKUP_EVERY
            || known.failed * 4 > known.contacts.len()
            || known.contacts.is_empty()
        {
            self.publishing.custodians.remove(position);
            return None;
        }
        Some(known.contacts.clone())
    }

    pub(super) fn place_found(&mut self, now: Time, id: CommandId, lookup: &Lookup) {
        let contacts = if lookup.is_exhaustive() { lookup.result() } else { lookup.custodians() };
        let Some(job) = self.publish_job(id) else { return };
        let Some(entries) = job.looking.remove(lookup.target()) else { return };
        if lookup.is_exhaustive() && !lookup.is_failing() {
            job.everyone = Some(contacts.clone());
        }
        if self.publishing.custodians.len() < CUSTODIANS_MAX {
            let custodians = Custodians { contacts: contacts.clone(), uses: 0, failed: 0 };
            self.publishing.custodians.insert(*lookup.target(), custodians);
        }
        self.assign(now, id, lookup.target(), &entries, contacts);
        self.continue_publish(now, id);
    }

    /// Notes what each custodian is to be offered, and stores here what belongs here.
    fn assign(
        &mut self,
        now: Time,
        id: CommandId,
        position: &OverlayId,
        entries: &[(usize, Place)],
        contacts: Vec<Contact>,
    ) {
        let mine = self.keeps(position);
        let mut changes = Vec::new();
        let Some(Task::Publish(job)) = self.jobs.get_mut(&id).map(|job| &mut job.task) else {
            return;
        };
        for contact in contacts {
            let (_, offer) =
                job.offers.entry(contact.agent).or_insert_with(|| (contact, BTreeSet::new()));
            offer.extend(entries.iter().copied());
        }
        for (index, place) in entries.iter().filter(|_| mine) {
            let state = &mut job.items[*index];
            let label = state.label(place).map_or("", String::as_str);
            let offered =
                self.custody.offer(now, state.item.clone(), *place, label, None, &mut changes);
            if offered.is_ok() {
                state.held.insert(*place);
            }
        }
        self.record(changes);
    }

    /// Turns offers into requests once every place is assigned, and sends as many as may be in flight.
    fn send_stores(&mut self, now: Time, id: CommandId) {
        let Some(job) = self.publish_job(id) else { return };
        if !job.looking.is_empty() || !job.todo.is_empty() {
            return;
        }
        for (_, (contact, offer)) in std::mem::take(&mut job.offers) {
            let chunks = chunked(&job.items, offer);
            job.requests.extend(chunks.into_iter().map(|entries| (contact.clone(), entries)));
        }
        loop {
            let Some(job) = self.publish_job(id) else { return };
            if job.stores_running >= STORES_PARALLEL {
                return;
            }
            let Some((contact, entries)) = job.requests.pop() else { break };
            let request = store_request(&job.items, &entries);
            job.stores_running += 1;
            if !self.send(
                now,
                contact.clone(),
                request,
                Purpose::Store { command: id, entries: entries.clone() },
            ) {
                let Some(job) = self.publish_job(id) else { return };
                job.stores_running -= 1;
                if job.stores_running > 0 {
                    job.requests.push((contact, entries));
                    return;
                }
            }
        }
        if self.publish_job(id).is_some_and(|job| job.stores_running == 0) {
            self.finish_publish(now, id);
        }
    }

    /// Returns whether the response fits the request.
    pub(super) fn store_answered(
        &mut self,
        now: Time,
        id: CommandId,
        from: &Contact,
        entries: &[(usize, Place)],
        response: Response,
    ) -> bool {
        let Response::Stored { outcomes } = response else { return false };
        if outcomes.len() != entries.len() {
            return false;
        }
        let Some(job) = self.publish_job(id) else { return true };
        let mut acknowledged = Vec::new();
        for ((index, place), outcome) in entries.iter().zip(outcomes) {
            let state = &mut job.items[*index];
            match outcome {
                StoreOutcome::Stored => {
                    state.held.insert(*place);
                    state.holders.insert(from.agent);
                    acknowledged.push((state.item.clone(), *place));
                }
                StoreOutcome::Rejected(reject) => state.rejected = Some(reject),
                StoreOutcome::Split { .. } => state.split = true,
            }
        }
        for (item, place) in acknowledged {
            self.acknowledged(now, &item, place, from);
        }
        self.store_settled(now, id);
        true
    }

    pub(super) fn store_failed(
        &mut self,
        now: Time,
        id: CommandId,
        to: &Contact,
        entries: &[(usize, Place)],
    ) {
        let Some(job) = self.publish_job(id) else { return };
        let mut positions = BTreeSet::new();
        for (index, place) in entries {
            let places = &job.items[*index].places;
            positions.extend(
                places.iter().filter(|(known, _)| known == place).map(|(_, position)| *position),
            );
        }
        for position in positions {
            if let Some(known) = self.publishing.custodians.get_mut(&position)
                && known.contacts.iter().any(|contact| contact.agent == to.agent)
            {
                known.failed += 1;
            }
        }
        self.store_settled(now, id);
    }

    fn store_settled(&mut self, now: Time, id: CommandId) {
        if let Some(job) = self.publish_job(id) {
            job.stores_running = job.stores_running.saturating_sub(1);
            self.send_stores(now, id);
        }
    }

    pub(super) fn finish_publish(&mut self, now: Time, id: CommandId) {
        self.lookups.stop(id, |_| true);
        let Some(job) = self.finish(now, id) else { return };
        let Task::Publish(publish) = &job.task else { return };
        self.adapt_interval(publish);
        let interval = self.publishing.interval;
        for state in &publish.items {
            let due = now + self.jittered(interval);
            if let Some(published) = self.publishing.items.get_mut(&state.item.key())
                && published.item.seq == state.item.seq
            {
                published.due = due;
                published.holders = state.holders.len();
            }
        }
        self.schedule_republish();
        let report = PublishReport {
            items: publish.items.iter().map(ItemState::report).collect(),
            cost: job.cost,
        };
        let outcome =
            if publish.retire { Outcome::Retired(report) } else { Outcome::Published(report) };
        self.report_job(id, &job, outcome);
    }

    /// Half of the custodians' half-life, estimated from how many of the remembered ones failed since the last renewal; slowly back
    /// to the maximum while none fails.
    fn adapt_interval(&mut self, publish: &PublishJob) {
        let positions: BTreeSet<_> = publish
            .items
            .iter()
            .flat_map(|state| state.places.iter().map(|(_, position)| position))
            .collect();
        let renewed = positions
            .into_iter()
            .filter_map(|position| self.publishing.custodians.get(position))
            .filter(|known| known.uses > 0);
        let (mut total, mut failed) = (0_u32, 0_u32);
        for known in renewed {
            total = total.saturating_add(u32::try_from(known.contacts.len()).unwrap_or(u32::MAX));
            failed = failed.saturating_add(u32::try_from(known.failed).unwrap_or(u32::MAX));
        }
        if total == 0 {
            return;
        }
        let interval = self.publishing.interval;
        let adapted =
            if failed == 0 { interval * 2 } else { interval.saturating_mul(total) / (4 * failed) };
        self.publishing.interval =
            adapted.clamp(self.config.republish_min, self.config.republish_max);
    }

    // ---- preloading ----

    /// Takes own items as published without sending anything, and `custodians` as found by lookups for these places: renewals run as if
    /// all had been published from here. For simulations that start from a built network; items beyond the bounds are left out.
    pub fn preload_published(
        &mut self,
        now: Time,
        items: Vec<(VerifiedItem, Vec<String>)>,
        custodians: Vec<(OverlayId, Vec<Contact>)>,
    ) {
        let holders = custodians.iter().map(|(_, contacts)| contacts.len()).max().unwrap_or(0);
        let room = PUBLISHED_MAX.saturating_sub(self.publishing.items.len());
        for (item, mut labels) in items.into_iter().take(room) {
            labels.truncate(LABELS_PER_ITEM_MAX);
            let due = now + self.share(self.publishing.interval);
            self.publishing.items.insert(item.key(), Published { item, labels, due, holders });
        }
        let room = CUSTODIANS_MAX.saturating_sub(self.publishing.custodians.len());
        for (position, contacts) in custodians.into_iter().take(room) {
            let known = Custodians { contacts, uses: 0, failed: 0 };
            self.publishing.custodians.insert(position, known);
        }
        self.schedule_republish();
    }

    // ---- renewal ----

    /// Sets the timer to the earliest item due.
    fn schedule_republish(&mut self) {
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
    pub(super) fn republish(&mut self, now: Time) {
        self.publishing.wake = None;
        self.publishing.items.retain(|_, published| published.item.expires > now);
        let mut due = Vec::new();
        for published in self.publishing.items.values_mut() {
            if published.due <= now + BATCH_WITHIN && due.len() < PUBLISH_ITEMS_MAX {
                published.due = Time::MAX;
                due.push((published.item.clone(), published.labels.clone()));
            }
        }
        if !due.is_empty() {
            self.begin_publish(now, None, due, false);
        }
        self.schedule_republish();
    }

    /// Stores an own item again at `due` at the latest, by custodians looked up anew.
    pub(super) fn hasten_item(&mut self, key: &ItemKey, due: Time) {
        let Some(published) = self.publishing.items.get_mut(key) else { return };
        if published.due != Time::MAX {
            published.due = published.due.min(due);
        }
        let labels = published.labels.clone();
        for group in labels.iter().map(|label| GroupKey::of(label)) {
            for index in 0..PLACEMENTS {
                self.publishing.custodians.remove(&ShardId::whole(group).position(index));
            }
        }
        self.schedule_republish();
    }

    /// Stores all own items again at `due` at the latest, by custodians looked up anew: the network is not the one they were looked up in.
    pub(super) fn restore_by(&mut self, due: Time) {
        self.publishing.custodians.clear();
        for published in self.publishing.items.values_mut() {
            if published.due != Time::MAX {
                published.due = published.due.min(due);
            }
        }
        self.schedule_republish();
    }

    /// Asks the shell for successors of own items near their expiry.
    pub(super) fn ask_renewals(&mut self, now: Time) {
        for (key, published) in &self.publishing.items {
            let life = published.item.expires.saturating_since(published.item.issued);
            if published.item.expires.saturating_since(now) <= life / RENEW_DIVISOR {
                self.actions.push_back(Action::Renew(*key));
            }
        }
    }

    /// Brings forward the renewal of items that fewer nodes keep than could: stored while the network was smaller, or hit by failures.
    pub(super) fn hasten_thin_items(&mut self, now: Time) {
        let possible = self.table.len().min(K);
        let mut hastened = false;
        for published in self.publishing.items.values_mut() {
            if published.due != Time::MAX && published.holders * 2 < possible {
                published.due = now;
                hastened = true;
            }
        }
        if hastened {
            // Who was remembered is who is too few.
            self.publishing.custodians.clear();
            self.schedule_republish();
        }
    }
}

impl ItemState {
    /// The label that proves that a digest belongs at `place`.
    fn label(&self, place: &Place) -> Option<&String> {
        match (&self.item.content, place) {
            (Content::Digest(_), Place::Shard { shard, .. }) => self.labels.get(&shard.group),
            _ => None,
        }
    }

    fn report(&self) -> ItemReport {
        let places: BTreeSet<_> = self.places.iter().map(|(place, _)| place).collect();
        ItemReport {
            key: self.item.key(),
            holders: self.holders.len(),
            places_held: self.held.len(),
            places: places.len(),
            rejected: self.rejected,
            split: self.split,
        }
    }
}

/// Cuts what one custodian is offered into requests within the bounds.
fn chunked(items: &[ItemState], offer: BTreeSet<(usize, Place)>) -> Vec<Vec<(usize, Place)>> {
    let mut chunks = Vec::new();
    let (mut chunk, mut bytes, mut distinct, mut last) = (Vec::new(), 0, 0, None);
    let mut ordered: Vec<_> = offer.into_iter().collect();
    ordered.sort_by_key(|(index, place)| (items[*index].item.content.kind(), *index, *place));
    for (index, place) in ordered {
        let size = items[index].item.bytes.len();
        let label = items[index].label(&place).map_or(0, String::len);
        let is_new = last != Some(index);
        // Counts a label again for each item: an upper bound.
        let added = label + if is_new { size } else { 0 };
        let full = chunk.len() >= STORE_LABELS_MAX
            || (is_new && distinct == STORE_ITEMS_MAX)
            || bytes + added > STORE_BYTES_MAX;
        if full && !chunk.is_empty() {
            chunks.push(std::mem::take(&mut chunk));
            (bytes, distinct) = (0, 0);
        }
        bytes += label;
        if is_new || chunk.is_empty() {
            bytes += size;
            distinct += 1;
        }
        last = Some(index);
        chunk.push((index, place));
    }
    chunks.push(chunk);
    // Sent from the back.
    chunks.reverse();
    chunks
}

fn store_request(items: &[ItemState], entries: &[(usize, Place)]) -> Request {
    let (mut sent, mut labels) = (Vec::new(), Vec::new());
    let mut wire = Vec::new();
    for (index, place) in entries {
        let label = items[*index].label(place).map(|label| place_of(&mut labels, label.clone()));
        wire.push(StoreEntry { item: place_of(&mut sent, *index), place: *place, label });
    }
    Request::Store {
        items: sent.into_iter().map(|index| items[index].item.bytes.clone()).collect(),
        labels,
        entries: wire,
    }
}

/// Where `value` is in `list`, added if it was not there.
fn place_of<T: PartialEq>(list: &mut Vec<T>, value: T) -> u8 {
    let at = list.iter().position(|known| *known == value).unwrap_or_else(|| {
        list.push(value);
        list.len() - 1
    });
    u8::try_from(at).expect("a request carries at most 40 items and 128 labels")
}
