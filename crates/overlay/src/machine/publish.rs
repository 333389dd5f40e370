//! Own items: storing them where they belong, and keeping them stored.
//!
//! All places are looked up at once, and what belongs at a place is stored there as soon as its custodians are known: others find
//! an item under its most specific key first. Who was found to keep a place is remembered, so that most renewals need no lookup. Now and
//! then, and when custodians fail, some of the others are asked who came beside them, and rarely all are looked up again. In a network small enough to be seen whole by one lookup,
//! that lookup serves all places, and where places share most custodians, each custodian is asked once for all of them.

mod own;
mod packing;
mod places;
mod splits;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use comity_capability::keys::GroupKey;
use comity_capability::record::VEILED_PREFIX;
use comity_core::{AgentId, OverlayId, Time};

use super::audit::is_auditable;
use super::traffic::{Goal, Purpose};
use super::{Overlay, Task};
use crate::config::{K, PUBLISH_ITEMS_MAX, PUBLISHED_MAX};
use crate::contact::Contact;
use crate::drive::{
    CommandError, CommandId, Failure, ItemReport, Outcome, Publication, PublishReport,
};
use crate::item::{
    Content, ItemKind, LABEL_BYTES_MAX, LABELS_PER_ITEM_MAX, Reject, Services, VerifiedItem,
};
use crate::lookup::Lookup;
use crate::shard::{PLACEMENTS, Place, ShardId, peer_position};
use crate::store::check_times;
use crate::wire::{Response, StoreOutcome};

pub(super) use own::Publishing;
use own::{Published, Remembered};
use packing::{chunked, store_request};
use splits::Verdicts;

/// Lookups of one publication at once: the places of one capability and the peer record, most often. With eight requests each they
/// leave room for others within [`crate::REQUESTS_IN_FLIGHT_MAX`].
const LOOKUPS_PARALLEL: usize = 24;
/// Store requests of one publication at once.
const STORES_PARALLEL: usize = 96;
/// Custodians of a place that are asked who is beside them: one honest one is enough, others only repeat it. Of three, with 30 % of all
/// nodes lying, none is honest once in 37 times; others are asked the next time.
const CHECKED: usize = 3;
/// So many times the expected custodians are a crowd that a lookup has to look into.
const CHECK_CROWD: usize = 2;
/// How much wider than the expected region is where the next known node takes the part of a custodian that failed.
const REPLACEMENT_REGION_FACTOR: u32 = 2;
/// Longest one publication may take, lookups and stores included.
const PUBLISH_DEADLINE: Duration = Duration::from_secs(120);

/// A publication in progress.
#[derive(Debug)]
pub(super) struct PublishJob {
    items: Vec<ItemState>,
    retire: bool,
    /// Places to find custodians for, the most urgent last.
    todo: Vec<(OverlayId, Vec<(usize, Place)>)>,
    /// Stores wait for all lookups: the places share most custodians.
    gathers: bool,
    /// What each running lookup's target is for.
    looking: BTreeMap<OverlayId, Vec<(usize, Place)>>,
    /// Places whose remembered custodians are to be asked for newcomers; then those where they are being asked.
    checks: BTreeSet<OverlayId>,
    checking: BTreeSet<OverlayId>,
    /// What each custodian is to be offered.
    offers: BTreeMap<AgentId, (Contact, BTreeSet<(usize, Place)>)>,
    stores_running: usize,
    /// Store requests ready to go, last first.
    requests: Vec<(Contact, Vec<(usize, Place)>)>,
    /// Everyone, once a lookup has shown how few there are.
    everyone: Option<Vec<Contact>>,
    /// Who was offered something for each position, or failed.
    asked: BTreeMap<OverlayId, BTreeSet<AgentId>>,
    /// Custodians that failed once and were asked again.
    retried: BTreeSet<AgentId>,
    /// Nobody knows who of the custodians is left: a silent one has more likely gone than lost a message.
    is_doubtful: bool,
    verdicts: Verdicts,
}

#[derive(Debug)]
struct ItemState {
    item: VerifiedItem,
    labels: BTreeMap<GroupKey, String>,
    /// Its groups in the order the publisher named them, the most specific first.
    ranks: BTreeMap<GroupKey, usize>,
    places: BTreeSet<(Place, OverlayId)>,
    held: BTreeSet<Place>,
    holders: BTreeSet<AgentId>,
    rejected: Option<Reject>,
    split: bool,
}

impl ItemState {
    fn position(&self, place: &Place) -> Option<OverlayId> {
        self.places.iter().find(|(known, _)| known == place).map(|(_, position)| *position)
    }
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
                labels: labels.iter().map(|label| label.as_str().into()).collect(),
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
            labels.extend(self.publishing.labels_beside(&item.signer, item.subject));
            if labels.is_empty() {
                return Err(CommandError::Invalid(
                    "the tombstone has no place: give the labels of the digest it retires",
                ));
            }
        }
        for (tombstone, _) in &tombstones {
            self.publishing.items.retain(|key, published| {
                let covered = key.kind.is_entry()
                    && key.signer == tombstone.signer
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
            if item.content.kind().is_entry() && (labels.is_empty() || !labels.iter().all(admitted))
            {
                return Err(CommandError::Item { index, reject: Reject::Misplaced });
            }
            if item.signer != self.me.agent && !self.is_own_pseudonym(&item, &labels) {
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

    /// Veiled entries and their withdrawals are signed by pseudonyms of the node's agent, which only the shell knows; that a key was
    /// succeeded, by a key that the agent had before.
    fn is_own_pseudonym(&self, item: &VerifiedItem, labels: &[String]) -> bool {
        match item.content.kind() {
            ItemKind::Veiled => true,
            ItemKind::Tombstone => {
                let veiled = |label: &String| label.starts_with(VEILED_PREFIX);
                labels.iter().all(veiled)
                    && (!labels.is_empty() || self.publishing.is_pseudonym(&item.signer))
            }
            ItemKind::Peer => {
                matches!(&item.content, Content::Peer(contact) if contact.addrs.is_empty())
            }
            ItemKind::Digest | ItemKind::Beat => false,
        }
    }

    /// Starts storing `items`; silently when there is no command.
    fn begin_publish(
        &mut self,
        now: Time,
        command: Option<CommandId>,
        items: Vec<(VerifiedItem, Vec<String>)>,
        retire: bool,
    ) {
        let mut probed = BTreeMap::new();
        let mut states = Vec::new();
        for (item, labels) in items {
            states.push(self.item_state(item, labels, &mut probed));
        }
        let mut todo: BTreeMap<OverlayId, Vec<(usize, Place)>> = BTreeMap::new();
        for (index, state) in states.iter().enumerate() {
            for (place, position) in &state.places {
                todo.entry(*position).or_default().push((index, *place));
            }
        }
        let mut todo: Vec<_> = todo.into_iter().collect();
        todo.sort_by_cached_key(|(_, entries)| std::cmp::Reverse(urgency(&states, entries)));
        let holders = todo.len().saturating_mul(self.config.holders);
        let job = PublishJob {
            items: states,
            retire,
            todo,
            gathers: !retire && holders as u64 > self.size_estimate(),
            looking: BTreeMap::new(),
            checks: BTreeSet::new(),
            checking: BTreeSet::new(),
            offers: BTreeMap::new(),
            stores_running: 0,
            requests: Vec::new(),
            everyone: None,
            asked: BTreeMap::new(),
            retried: BTreeSet::new(),
            is_doubtful: false,
            verdicts: Verdicts::default(),
        };
        let task = Task::Publish(Box::new(job));
        let id = match command {
            Some(id) => {
                self.begin(now, id, task, Some(PUBLISH_DEADLINE));
                id
            }
            None => self.begin_silent(now, task, Some(PUBLISH_DEADLINE)),
        };
        self.assign_remembered(now, id);
        self.continue_publish(now, id);
    }

    /// An item with its places; `probed` says which groups begin at the top this time, and is completed.
    fn item_state(
        &mut self,
        item: VerifiedItem,
        labels: Vec<String>,
        probed: &mut BTreeMap<GroupKey, bool>,
    ) -> ItemState {
        let ranks = (0..).zip(&labels).map(|(rank, label)| (GroupKey::of(label), rank)).collect();
        let labels: BTreeSet<_> = match &item.content {
            Content::Digest(_) | Content::Veiled(_) | Content::Tombstone => {
                labels.into_iter().collect()
            }
            Content::Beat(_) => self.publishing.labels_beside(&item.signer, None),
            Content::Peer(_) => BTreeSet::new(),
        };
        let labels: BTreeMap<_, _> =
            labels.into_iter().map(|label| (GroupKey::of(&label), label)).collect();
        let mut places = BTreeSet::new();
        for group in labels.keys() {
            let probing = *probed.entry(*group).or_insert_with(|| self.publishing.is_probed(group));
            for depth in self.publishing.depths_of(group, item.content.kind(), probing) {
                let shard = ShardId::of(*group, depth, &item.signer);
                let placed = (0..PLACEMENTS)
                    .map(|index| (Place::Shard { shard, index }, shard.position(index)));
                places.extend(placed);
            }
        }
        if let Content::Peer(contact) = &item.content {
            places.insert((Place::Peer, contact.overlay_id));
            places.insert((Place::Peer, peer_position(&item.signer)));
        }
        ItemState {
            item,
            labels,
            ranks,
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

    /// Whether the custodians of a place are being asked for newcomers.
    pub(super) fn is_checking(&self, id: CommandId, position: &OverlayId) -> bool {
        match self.jobs.get(&id).map(|job| &job.task) {
            Some(Task::Publish(job)) => job.checking.contains(position),
            _ => false,
        }
    }

    fn continue_publish(&mut self, now: Time, id: CommandId) {
        // One lookup may show everyone.
        let parallel = if self.table.len() < K { 1 } else { LOOKUPS_PARALLEL };
        loop {
            let Some(job) = self.publish_job(id) else { return };
            if job.looking.len() >= parallel && job.everyone.is_none() {
                break;
            }
            let retire = job.retire;
            let Some((position, entries)) = job.todo.pop() else { break };
            if let Some(everyone) = job.everyone.clone() {
                // A withdrawal goes to everyone: they are few.
                let some = |all| self.custodians_among(&position, all);
                let contacts = if retire { everyone } else { some(everyone) };
                self.assign(now, id, &position, &entries, contacts);
                continue;
            }
            job.looking.insert(position, entries);
            if job.checks.remove(&position) {
                job.checking.insert(position);
                self.check_custodians(now, id, position);
                continue;
            }
            let breadth =
                if retire { self.withdrawal_breadth(now) } else { self.store_breadth(now) };
            self.look(now, Goal::Publish(id), position, breadth);
        }
        self.send_stores(now, id);
    }

    /// Assigns the places whose custodians are remembered, all at once. A withdrawal looks further than that.
    fn assign_remembered(&mut self, now: Time, id: CommandId) {
        let size = self.size_estimate();
        let Some(job) = self.publish_job(id) else { return };
        let retire = job.retire;
        for (position, entries) in std::mem::take(&mut job.todo) {
            let (known, is_known, is_checked) = match self.publishing.remembered(&position, size) {
                Remembered::Nothing => {
                    let known = self.neighbours(now, &position).filter(|_| !retire);
                    let is_known = known.is_some();
                    (known.unwrap_or_default(), is_known, false)
                }
                Remembered::Check(known) => (known, true, !retire),
                Remembered::Doubtful(known) => {
                    if let Some(job) = self.publish_job(id) {
                        job.is_doubtful = true;
                    }
                    (known, true, !retire)
                }
                Remembered::Known(known) => (known, true, false),
            };
            self.assign(now, id, &position, &entries, known);
            let Some(job) = self.publish_job(id) else { return };
            if is_checked {
                job.checks.insert(position);
            }
            if !is_known || is_checked || retire {
                job.todo.push((position, entries));
            }
        }
    }

    /// Who keeps the own place: the table knows its neighbours since it joined. `None` for every other place, in a network so small that
    /// one lookup shows everyone, and after many went.
    fn neighbours(&self, now: Time, position: &OverlayId) -> Option<Vec<Contact>> {
        let is_known = self.table.len() >= 2 * K && self.upkeep.is_calm(now);
        if *position != self.me.overlay_id || !is_known {
            return None;
        }
        let known = self.custodians_among(position, self.table.closest(position, 2 * K));
        Some(known).filter(|known| known.len() >= self.config.holders)
    }

    /// Own places are hashes: who is nearest to one tells the size of the network as well as a random place does, over more paths.
    fn note_place(&mut self, now: Time, lookup: &Lookup) {
        let found: Vec<_> =
            lookup.result().iter().take(K).map(|contact| contact.overlay_id).collect();
        let is_fit = found.len() == K && !lookup.is_escalated() && !lookup.is_failing();
        if is_fit && !lookup.is_crowded() {
            self.note_sample(now, lookup.target(), &found, false);
        }
    }

    /// Asks some of the custodians of a place, as chance has it, who is beside them.
    fn check_custodians(&mut self, now: Time, id: CommandId, position: OverlayId) {
        let known = self.publishing.custodians.get(&position);
        let mut seeds = known.map(|known| known.contacts.to_vec()).unwrap_or_default();
        while seeds.len() > CHECKED {
            let at = self.rng.next_u32() as usize % seeds.len();
            seeds.swap_remove(at);
        }
        let breadth = self.check_breadth(CHECKED);
        self.look_from(now, Goal::Publish(id), position, breadth, seeds);
    }

    /// Some custodians of a place told who is beside them. If none did, or they name a crowd, the place is looked up.
    fn place_checked(&mut self, now: Time, id: CommandId, lookup: &Lookup) {
        let position = *lookup.target();
        let named = lookup.named(self.region(), self.config.holders);
        let crowded = named.len() > self.config.holders * CHECK_CROWD;
        let Some(job) = self.publish_job(id) else { return };
        if lookup.answered() == 0 || crowded {
            let breadth = self.store_breadth(now);
            return self.look(now, Goal::Publish(id), position, breadth);
        }
        let Some(entries) = job.looking.remove(&position) else { return };
        self.publishing.remember_newcomers(&position, &named);
        self.assign(now, id, &position, &entries, named);
        self.continue_publish(now, id);
    }

    /// Who of `all` keeps a place: everyone in the region, and the nearest in any case.
    fn custodians_among(&self, position: &OverlayId, mut all: Vec<Contact>) -> Vec<Contact> {
        let region = self.region();
        all.sort_by_key(|contact| contact.overlay_id.distance(position));
        let nearest = all.into_iter().enumerate().filter(|(rank, contact)| {
            *rank < self.config.holders || region.contains(position, &contact.overlay_id)
        });
        nearest.map(|(_, contact)| contact).collect()
    }

    pub(super) fn place_found(&mut self, now: Time, id: CommandId, lookup: &Lookup) {
        let checked = self.publish_job(id).is_some_and(|job| job.checking.remove(lookup.target()));
        if checked {
            return self.place_checked(now, id, lookup);
        }
        let contacts = if lookup.is_exhaustive() { lookup.result() } else { lookup.custodians() };
        let Some(job) = self.publish_job(id) else { return };
        let Some(entries) = job.looking.remove(lookup.target()) else { return };
        if lookup.is_exhaustive() && !lookup.is_failing() {
            job.everyone = Some(lookup.everyone());
        }
        self.note_place(now, lookup);
        let size = self.size_estimate();
        self.publishing.remember(now, *lookup.target(), contacts.clone(), size);
        self.assign(now, id, lookup.target(), &entries, contacts);
        self.continue_publish(now, id);
    }

    /// A node answered the search for a place of a publication. Whoever lies in the region is a custodian whatever else is found: it is
    /// offered what belongs there at once, so that others find it, and splits are known, before the search has ended.
    pub(super) fn custodian_found(
        &mut self,
        now: Time,
        id: CommandId,
        position: OverlayId,
        contact: &Contact,
    ) {
        let inside = self.region().contains(&position, &contact.overlay_id);
        let Some(job) = self.publish_job(id).filter(|job| inside && !job.gathers) else { return };
        if job.checking.contains(&position) || job.everyone.is_some() {
            return;
        }
        let Some(entries) = job.looking.get(&position).cloned() else { return };
        job.offer(&position, &entries, contact.clone());
        self.send_stores(now, id);
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
        let Some(job) = self.publish_job(id) else { return };
        for contact in contacts {
            job.offer(position, entries, contact);
        }
        for (index, place) in entries.iter().filter(|_| mine) {
            self.store_own(now, id, *index, *place);
        }
    }

    /// Stores an own item here, where it belongs too.
    fn store_own(&mut self, now: Time, id: CommandId, index: usize, place: Place) {
        let Some(state) = self.publish_job(id).map(|job| &job.items[index]) else { return };
        let label = state.label(&place).cloned().unwrap_or_default();
        let item = state.item.clone();
        let outcome = self.take_in(now, item, place, &label, None);
        if let Some(job) = self.publish_job(id) {
            job.hear(index, place, outcome, None);
        }
    }

    /// Turns offers into requests and sends as many as may be in flight.
    fn send_stores(&mut self, now: Time, id: CommandId) {
        let Some(job) = self.publish_job(id) else { return };
        if job.gathers && job.is_looking() {
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
        let settled =
            self.publish_job(id).is_some_and(|job| job.stores_running == 0 && !job.is_looking());
        if settled && !self.follow_splits(now, id, false) {
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
        let (mut misplaced, mut acknowledged) = (BTreeSet::new(), Vec::new());
        for ((index, place), outcome) in entries.iter().zip(outcomes) {
            job.hear(*index, *place, outcome, Some(from.agent));
            let state = &job.items[*index];
            if outcome == StoreOutcome::Rejected(Reject::Misplaced) {
                misplaced.extend(state.position(place));
            }
            if outcome == StoreOutcome::Stored {
                acknowledged.push((state.item.clone(), *place));
            }
        }
        // It keeps another region than it did when custodians were looked up.
        for position in misplaced {
            self.publishing.lost_custodian(&position, &from.agent);
        }
        for (item, place) in acknowledged {
            self.acknowledged(now, &item, place, from);
        }
        self.follow_splits(now, id, true);
        self.store_settled(now, id);
        true
    }

    /// A custodian did not take what it was offered: it is asked once more if it may only have lost a message; otherwise the next
    /// node that is known takes its part.
    pub(super) fn store_failed(
        &mut self,
        now: Time,
        id: CommandId,
        to: &Contact,
        entries: &[(usize, Place)],
        failure: Failure,
    ) {
        let Some(job) = self.publish_job(id) else { return };
        let may_answer = matches!(failure, Failure::Timeout | Failure::Closed | Failure::Local);
        if may_answer && !job.is_doubtful && job.retried.insert(to.agent) {
            job.requests.push((to.clone(), entries.to_vec()));
            return self.store_settled(now, id);
        }
        let mut by_position: BTreeMap<OverlayId, Vec<(usize, Place)>> = BTreeMap::new();
        for (index, place) in entries {
            if let Some(position) = job.items[*index].position(place) {
                by_position.entry(position).or_default().push((*index, *place));
            }
        }
        for (position, entries) in by_position {
            self.pass_over(id, &position, to, entries);
        }
        self.store_settled(now, id);
    }

    /// Offers to the next known node near `position` what `failed` did not take.
    fn pass_over(
        &mut self,
        id: CommandId,
        position: &OverlayId,
        failed: &Contact,
        entries: Vec<(usize, Place)>,
    ) {
        self.publishing.lost_custodian(position, &failed.agent);
        // Who is further away would only say that it keeps nothing of that place.
        let region = self.region().times(REPLACEMENT_REGION_FACTOR);
        let mut near = self.table.closest(position, 2 * self.config.holders);
        near.retain(|contact| region.contains(position, &contact.overlay_id));
        let Some(job) = self.publish_job(id) else { return };
        let asked = job.asked.entry(*position).or_default();
        // Those who took the place of others are not replaced in turn: a dead region would be asked to its end.
        if asked.len() >= 2 * near.len() {
            return;
        }
        if let Some(next) = near.into_iter().find(|contact| asked.insert(contact.agent)) {
            job.requests.push((next, entries));
        }
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
        self.adapt_interval(now, publish);
        self.report_places(publish);
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
}

impl PublishJob {
    /// Notes that a custodian of a place is to be offered these, as far as they still go there, if it was not yet.
    fn offer(&mut self, position: &OverlayId, entries: &[(usize, Place)], contact: Contact) {
        let Self { items, asked, offers, .. } = self;
        let entries = entries
            .iter()
            .filter(|(index, place)| items[*index].places.contains(&(*place, *position)));
        let entries: Vec<_> = entries.copied().collect();
        if !entries.is_empty() && asked.entry(*position).or_default().insert(contact.agent) {
            let new = || (contact.clone(), BTreeSet::new());
            offers.entry(contact.agent).or_insert_with(new).1.extend(entries);
        }
    }

    fn is_looking(&self) -> bool {
        !self.looking.is_empty() || !self.todo.is_empty()
    }

    /// What became of one item at one custodian, `None` for this node.
    fn hear(&mut self, index: usize, place: Place, outcome: StoreOutcome, from: Option<AgentId>) {
        let split = if let StoreOutcome::Split { depth } = outcome { Some(depth) } else { None };
        if let Place::Shard { shard, .. } = place {
            self.verdicts.hear(shard, split);
        }
        let state = &mut self.items[index];
        match outcome {
            StoreOutcome::Stored => {
                state.held.insert(place);
                state.holders.extend(from);
            }
            StoreOutcome::Rejected(reject) if from.is_some() => state.rejected = Some(reject),
            StoreOutcome::Rejected(_) | StoreOutcome::Split { .. } => {}
        }
    }
}

/// How soon the custodians of a place are needed, the least first: digests under the most specific groups, then what goes nowhere
/// else, peer records last.
fn urgency(items: &[ItemState], entries: &[(usize, Place)]) -> (usize, usize) {
    let urgency = |(index, place): &(usize, Place)| {
        let state = &items[*index];
        match (&state.item.content, place) {
            (Content::Digest(_) | Content::Tombstone, Place::Shard { shard, .. }) => {
                (0, state.ranks.get(&shard.group).copied().unwrap_or(usize::MAX))
            }
            (Content::Peer(_), _) => (2, 0),
            _ => (1, 0),
        }
    };
    entries.iter().map(urgency).min().unwrap_or((2, 0))
}

impl ItemState {
    /// The label that proves that an entry belongs at `place`.
    fn label(&self, place: &Place) -> Option<&String> {
        match (&self.item.content, place) {
            (Content::Digest(_) | Content::Veiled(_), Place::Shard { shard, .. }) => {
                self.labels.get(&shard.group)
            }
            _ => None,
        }
    }

    fn report(&self) -> ItemReport {
        let places: BTreeSet<_> = self.places.iter().map(|(place, _)| place).collect();
        ItemReport {
            key: self.item.key(),
            holders: self.holders.len(),
            places_held: places.iter().filter(|place| self.held.contains(place)).count(),
            places: places.len(),
            rejected: self.rejected,
            split: self.split,
        }
    }
}
