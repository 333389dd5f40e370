//! Own digests, asked for again at the custodians that said they keep them.
//!
//! A custodian that leaves a digest out of its answers can be proven wrong by its publisher alone: the custodian acknowledged the
//! store. So each place of each digest is audited, soon after publishing and about hourly, by an ordinary query that the
//! digest matches. Whoever leaves it out may have lost it; it is stored there once more. Left out again after that, the custodian is
//! put in quarantine: nothing is stored on it any more, its word counts no more, and others take its place.

use std::time::Duration;

use comity_core::{AgentId, Time};

use super::Overlay;
use super::traffic::Purpose;
use crate::config::K;
use crate::contact::Contact;
use crate::few::Few;
use crate::item::{ItemBytes, ItemKey, ItemKind, Services, VerifiedItem};
use crate::shard::{Place, ShardId};
use crate::wire::{
    Answer, FOUND_VEILED_MAX, Known, QueryOutcome, QueryRequest, Request, Response, StoreEntry,
    StoreOutcome,
};

/// Places of own digests that are audited.
const AUDITED_PLACES_MAX: usize = 4_096;
/// Custodians remembered for each.
const KEEPERS_MAX: usize = 24;
/// When a place is audited first, after its first custodian acknowledged: between one and two of these.
const AUDIT_SOON: Duration = Duration::from_secs(90);
/// Time between two audits of a place, give or take a quarter.
const AUDIT_EVERY: Duration = Duration::from_secs(3_600);
/// Custodians asked in the first audit of a place, and in each later one.
const AUDITED_FIRST: usize = 3;
const AUDITED_LATER: usize = 1;
/// Audits begun in one maintenance round.
const AUDITS_PER_ROUND: usize = 16;
/// Matches an audit asks for: like an ordinary query for one capability.
const AUDIT_LIMIT: u16 = 8;
/// Condition evaluations an audit allows.
const AUDIT_COST_MAX: u32 = 400_000;

/// A custodian that acknowledged a store.
#[derive(Debug)]
struct Keeper {
    contact: Contact,
    /// The version it acknowledged.
    seq: u64,
    /// When it was audited last, in seconds; 0 before. Two audits of a place are further apart.
    audited: u32,
    /// It left the digest out, and acknowledged it again since.
    suspect: bool,
}

const _: () = assert!(size_of::<Keeper>() <= 24);

#[derive(Debug)]
struct Audited {
    keepers: Vec<Keeper>,
    due: Time,
    first: bool,
}

/// Where a digest is kept: the shard and which of its placements.
type At = (ShardId, u8);

/// Who said to keep which own digest where.
#[derive(Debug, Default)]
pub(super) struct Audits {
    /// A query that the digest matches.
    questions: Few<ItemKey, ItemBytes>,
    places: Few<ItemKey, Few<At, Audited>>,
}

impl Audits {
    /// How to ask for an own digest.
    pub(super) fn ask_with(&mut self, key: ItemKey, question: ItemBytes) {
        self.questions.insert(key, question);
    }

    /// Forgets digests that are not published any more, and places that they moved away from: without new beats they are rightly
    /// left out there.
    fn retain(
        &mut self,
        is_published: impl Fn(&ItemKey) -> bool,
        is_current: impl Fn(&ShardId) -> bool,
    ) {
        self.questions.retain(|key, _| is_published(key));
        self.places.retain(|key, places| {
            places.retain(|(shard, _), _| is_current(shard));
            places.shrink();
            is_published(key) && places.len() > 0
        });
    }

    fn len(&self) -> usize {
        self.places.values().map(Few::len).sum()
    }

    fn audited(&mut self, key: &ItemKey, at: &At) -> Option<&mut Audited> {
        self.places.get_mut(key)?.get_mut(at)
    }

    fn keeper(&mut self, key: &ItemKey, at: &At, agent: &AgentId) -> Option<&mut Keeper> {
        let audited = self.audited(key, at)?;
        audited.keepers.iter_mut().find(|keeper| keeper.contact.agent == *agent)
    }

    fn drop_keeper(&mut self, key: &ItemKey, at: &At, agent: &AgentId) {
        if let Some(audited) = self.audited(key, at) {
            audited.keepers.retain(|keeper| keeper.contact.agent != *agent);
        }
    }
}

/// What an audit asks a custodian.
#[derive(Clone, Copy, Debug)]
pub(super) enum AuditStep {
    /// Whether it shows the digest.
    Ask,
    /// To keep the digest, which it left out.
    Store,
}

impl Overlay {
    /// `contact` said that it keeps an own item at `place`.
    pub(super) fn acknowledged(
        &mut self,
        now: Time,
        item: &VerifiedItem,
        place: Place,
        contact: &Contact,
    ) {
        let key = item.key();
        if !key.kind.is_entry() || !self.audits.questions.contains_key(&key) {
            return;
        }
        let Place::Shard { shard, index } = place else { return };
        let at = (shard, index);
        if let Some(keeper) = self.audits.keeper(&key, &at, &contact.agent) {
            keeper.seq = item.seq;
            return;
        }
        let full = self.audits.len() >= AUDITED_PLACES_MAX;
        if full && self.audits.audited(&key, &at).is_none() {
            return;
        }
        let due = now + AUDIT_SOON + self.part_of(AUDIT_SOON);
        let places = self.audits.places.get_or_insert_with(key, Few::new);
        let new = || Audited { keepers: Vec::new(), due, first: true };
        let audited = places.get_or_insert_with(at, new);
        if audited.keepers.len() < KEEPERS_MAX {
            if audited.keepers.len() == audited.keepers.capacity() {
                // Doubling would leave as much room again.
                audited.keepers.reserve_exact(2);
            }
            let contact = contact.clone();
            audited.keepers.push(Keeper { contact, seq: item.seq, audited: 0, suspect: false });
        }
    }

    /// Begins the audits that are due.
    pub(super) fn audit(&mut self, now: Time) {
        self.quarantine.sweep(now);
        let publishing = &self.publishing;
        self.audits
            .retain(|key| publishing.item(key).is_some(), |shard| publishing.is_current(shard));
        let alive = self.is_alive(now);
        let shown = self.audits.places.iter().filter(|(key, _)| is_shown(key, alive));
        let due = shown.flat_map(|(key, places)| {
            let due = places.iter().filter(|(_, audited)| audited.due <= now);
            due.map(|(at, _)| (*key, *at))
        });
        for (key, at) in due.take(AUDITS_PER_ROUND).collect::<Vec<_>>() {
            let again = AUDIT_EVERY * 3 / 4 + self.part_of(AUDIT_EVERY / 2);
            let shift = self.rng.next_u32();
            let Some(audited) = self.audits.audited(&key, &at) else { continue };
            let count = if audited.first { AUDITED_FIRST } else { AUDITED_LATER };
            audited.first = false;
            audited.due = now + again;
            // Chance decides among those audited equally long ago.
            let turn = usize::try_from(shift).unwrap_or(0) % audited.keepers.len().max(1);
            audited.keepers.rotate_left(turn);
            audited.keepers.sort_by_key(|keeper| (!keeper.suspect, keeper.audited));
            let mut chosen = Vec::new();
            for keeper in audited.keepers.iter_mut().take(count) {
                keeper.audited = u32::try_from(now.as_millis() / 1_000).unwrap_or(u32::MAX);
                chosen.push(keeper.contact.clone());
            }
            for contact in chosen {
                self.ask_keeper(now, key, at, contact);
            }
        }
    }

    fn is_alive(&self, now: Time) -> bool {
        self.publishing.beat().is_some_and(|beat| beat.expires > now)
    }

    fn ask_keeper(&mut self, now: Time, key: ItemKey, at: At, contact: Contact) {
        let (shard, index) = at;
        let Some(query) = self.audits.questions.get(&key).cloned() else { return };
        let position = shard.position(index);
        let near = self.table.closest(&position, K);
        let near: Vec<_> = near.iter().map(|known| known.overlay_id.distance(&position)).collect();
        let request = Request::Query(QueryRequest {
            shard,
            placement: index,
            query,
            limit: AUDIT_LIMIT,
            cost_max: AUDIT_COST_MAX,
            exclude: Vec::new(),
            // An ordinary query comes from a search that knows the neighbourhood.
            known: Known::of(&contact.overlay_id, &near),
        });
        self.counters.audits += 1;
        let place = Place::Shard { shard, index };
        self.send(now, contact, request, Purpose::Audit { key, place, step: AuditStep::Ask });
    }

    /// Returns whether the response fits the request.
    pub(super) fn audit_answered(
        &mut self,
        now: Time,
        services: &mut dyn Services,
        from: &Contact,
        (key, place, step): (ItemKey, Place, AuditStep),
        response: Response,
    ) -> bool {
        let Place::Shard { shard, index } = place else { return false };
        let at = (shard, index);
        match (step, response) {
            (AuditStep::Store, Response::Stored { outcomes }) => {
                if outcomes.first() == Some(&StoreOutcome::Stored) {
                    if let Some(keeper) = self.audits.keeper(&key, &at, &from.agent) {
                        keeper.suspect = true;
                    }
                    self.ask_keeper(now, key, at, from.clone());
                } else {
                    // It says that it does not keep it: nothing to prove.
                    self.audits.drop_keeper(&key, &at, &from.agent);
                }
                true
            }
            (AuditStep::Ask, Response::Found { answer, .. }) => {
                self.judge(now, services, from, key, at, answer);
                true
            }
            _ => false,
        }
    }

    fn judge(
        &mut self,
        now: Time,
        services: &mut dyn Services,
        from: &Contact,
        key: ItemKey,
        at: At,
        answer: QueryOutcome,
    ) {
        let Some(keeper) = self.audits.keeper(&key, &at, &from.agent) else { return };
        let (seq, suspect) = (keeper.seq, keeper.suspect);
        let shown = match answer {
            QueryOutcome::Split { .. } => return self.audits.drop_keeper(&key, &at, &from.agent),
            QueryOutcome::NotHeld => false,
            QueryOutcome::Answered(answer) => {
                if is_inconclusive(&answer) {
                    return;
                }
                let most = if key.kind == ItemKind::Veiled {
                    FOUND_VEILED_MAX
                } else {
                    AUDIT_LIMIT.into()
                };
                let items = answer.matches.iter().take(most);
                items
                    .filter_map(|bytes| services.verify(now, bytes).ok())
                    .any(|item| item.key() == key && item.seq >= seq)
            }
        };
        if shown {
            if let Some(keeper) = self.audits.keeper(&key, &at, &from.agent) {
                keeper.suspect = false;
            }
        } else if !is_shown(&key, self.is_alive(now)) {
            // Rightly left out.
        } else if suspect {
            self.convict(now, from);
        } else {
            self.counters.omissions += 1;
            self.store_once_more(now, key, at, from);
        }
    }

    /// Offers a custodian again what it left out, with the beat without which it would not show it.
    fn store_once_more(&mut self, now: Time, key: ItemKey, (shard, index): At, to: &Contact) {
        let place = Place::Shard { shard, index };
        let Some((item, labels)) = self.publishing.item(&key) else { return };
        let label =
            labels.iter().find(|label| comity_capability::keys::GroupKey::of(label) == shard.group);
        let Some(label) = label.cloned() else { return };
        let mut items = vec![item.bytes.clone()];
        let mut entries = vec![StoreEntry { item: 0, place, label: Some(0) }];
        // Beside a veiled entry the beat would say whose pseudonym it is.
        if let Some(beat) = self.publishing.beat().filter(|beat| beat.signer == key.signer) {
            items.push(beat.bytes.clone());
            entries.push(StoreEntry { item: 1, place, label: None });
        }
        let request = Request::Store { items, labels: vec![label.to_string()], entries };
        let purpose = Purpose::Audit { key, place, step: AuditStep::Store };
        self.send(now, to.clone(), request, purpose);
    }

    /// It acknowledged a digest twice and left it out twice.
    fn convict(&mut self, now: Time, custodian: &Contact) {
        self.counters.quarantined += 1;
        self.quarantine.add(now, custodian.agent);
        let mut robbed = Vec::new();
        for (key, places) in self.audits.places.iter_mut() {
            let mut is_robbed = false;
            for audited in places.values_mut() {
                let before = audited.keepers.len();
                audited.keepers.retain(|keeper| keeper.contact.agent != custodian.agent);
                is_robbed |= audited.keepers.len() < before;
            }
            robbed.extend(is_robbed.then_some(*key));
        }
        self.publishing.forget_custodian(&custodian.agent);
        for key in robbed {
            let delay = self.part_of(AUDIT_SOON);
            self.hasten_item(&key, now + delay);
        }
    }

    /// A random part of `duration`.
    fn part_of(&mut self, duration: Duration) -> Duration {
        duration * (self.rng.next_u32() % 1_000) / 1_000
    }
}

/// It showed as many as it was allowed to and has more, or ran out of its budget.
fn is_inconclusive(answer: &Answer) -> bool {
    answer.truncated
        || usize::try_from(answer.passed).is_ok_and(|passed| passed > answer.matches.len())
            && answer.matches.len() >= usize::from(AUDIT_LIMIT)
}

/// Whether an own item can be audited at all.
pub(super) fn is_auditable(item: &VerifiedItem) -> bool {
    item.content.kind().is_entry()
}

/// Custodians show digests of publishers with a live beat only, and veiled entries as long as they live.
fn is_shown(key: &ItemKey, alive: bool) -> bool {
    alive || key.kind == ItemKind::Veiled
}
