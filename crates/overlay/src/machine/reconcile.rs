//! Custodians compare what they hold and give each other what is missing.
//!
//! Every few minutes a node takes one neighbour and sends it a fingerprint of each shard both keep. Where they differ, ranges are
//! compared: equal ones are left, large ones divided, small ones listed, until each side knows what the other lacks (range-based set
//! reconciliation, Meyer 2022). What arrives is verified like any store. The answering side keeps no state; the asking side takes a
//! bounded number of steps, whatever it is told.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use comity_core::{AgentId, Time};

use super::traffic::Purpose;
use super::{Overlay, Timer};
use crate::config::REGION_SLACK;
use crate::contact::Contact;
use crate::few::Few;
use crate::item::{ItemBytes, Services, VerifiedItem};
use crate::shard::{PLACEMENTS, Place, ShardId};
use crate::store::{Element, element_state};
use crate::wire::{
    COMPARED_MAX, Compared, ELEMENTS_MAX, ElementRange, ElementState, ErrorCode, RANGES_MAX,
    RECONCILED_ITEMS_MAX, RangeHeld, Reconcile, Request, Response, STORE_ITEMS_MAX, StoreEntry,
};

/// Parts a differing range is divided into.
const FAN_OUT: u64 = 16;
/// Elements up to which a range is listed instead.
const LIST_MAX: usize = 16;
/// Sessions of one node at once.
const SESSIONS_MAX: usize = 4;
/// Requests of one session, pushes included.
const REQUESTS_PER_SESSION_MAX: u32 = 128;
/// Requests about one shard, pushes included.
const REQUESTS_PER_SHARD_MAX: u32 = 24;
/// Ranges that wait to be compared in one session.
const RANGES_WAITING_MAX: usize = 4 * RANGES_MAX;
/// Bytes of items in one message; lists and framing fit beside them.
const ITEMS_BYTES_MAX: usize = 20 * 1_024;
/// Neighbours that came lately and wait to be compared with.
const NEWCOMERS_MAX: usize = 8;
/// A newcomer is compared with after this long, so that it has joined.
const NEWCOMER_AFTER: Duration = Duration::from_secs(8);

/// What is being compared, and with whom.
#[derive(Debug, Default)]
pub(super) struct Reconciling {
    sessions: Few<AgentId, Session>,
    newcomers: VecDeque<Contact>,
    wake: Option<Time>,
}

#[derive(Debug)]
struct Session {
    fellow: Contact,
    /// Shards that differ, and the placement both keep.
    todo: Vec<(ShardId, u8)>,
    shard: Option<Comparison>,
    requests: u32,
}

/// The shard a session is at.
#[derive(Debug)]
struct Comparison {
    shard: ShardId,
    placement: u8,
    /// Ranges still to be asked about.
    ranges: VecDeque<(u64, u64)>,
    /// Names of elements the fellow lacks.
    wanted: VecDeque<u64>,
    requests: u32,
}

/// What a request of a session was about.
#[derive(Clone, Debug)]
pub(super) enum Asked {
    /// A comparison of these shards.
    Shards(Arc<[(ShardId, u8)]>),
    /// Ranges: the first and last name of each.
    Ranges(Arc<[(u64, u64)]>),
    /// Items given to the fellow.
    Push,
}

impl Overlay {
    // ---- when ----

    pub(super) fn schedule_reconciliation(&mut self, now: Time) {
        let wait = if self.reconciling.newcomers.is_empty() {
            self.config.reconcile_every
        } else {
            NEWCOMER_AFTER.min(self.config.reconcile_every)
        };
        let due = now + self.jittered(wait);
        self.reconcile_at(due);
    }

    pub(super) fn reconcile_at(&mut self, due: Time) {
        if let Some(set) = self.reconciling.wake.replace(due) {
            self.timers.remove(&(set, Timer::Reconcile));
        }
        self.timers.insert((due, Timer::Reconcile));
    }

    /// A contact entered the table: if it keeps what this node keeps, it is compared with soon.
    pub(super) fn note_neighbour(&mut self, now: Time, contact: &Contact) {
        let near = self.region().times(REGION_SLACK);
        let newcomers = &mut self.reconciling.newcomers;
        if self.custody.is_empty()
            || newcomers.len() >= NEWCOMERS_MAX
            || newcomers.contains(contact)
            || !near.contains(&self.me.overlay_id, &contact.overlay_id)
        {
            return;
        }
        newcomers.push_back(contact.clone());
        if newcomers.len() == 1 {
            self.schedule_reconciliation(now);
        }
    }

    /// Compares with one neighbour.
    pub(super) fn reconcile(&mut self, now: Time) {
        self.reconciling.wake = None;
        let mut changes = Vec::new();
        self.custody.sweep(now, &mut changes);
        self.record(changes);
        let fellow = match self.reconciling.newcomers.pop_front() {
            Some(newcomer) => Some(newcomer),
            None => self.random_neighbour(),
        };
        if let Some(fellow) = fellow {
            self.open_session(now, fellow);
        }
        self.schedule_reconciliation(now);
    }

    fn random_neighbour(&mut self) -> Option<Contact> {
        let mut near = self.table.closest(&self.me.overlay_id, 2 * self.config.holders);
        if near.is_empty() {
            return None;
        }
        let at = self.rng.next_u32() as usize % near.len();
        Some(near.swap_remove(at))
    }

    fn open_session(&mut self, now: Time, fellow: Contact) {
        let sessions = &self.reconciling.sessions;
        if sessions.len() >= SESSIONS_MAX || sessions.contains_key(&fellow.agent) {
            return;
        }
        let (mut sets, mut shards) = (Vec::new(), Vec::new());
        let held = self.custody.fingerprints().count();
        let from = if held > COMPARED_MAX { self.rng.next_u32() as usize % held } else { 0 };
        let all = || self.custody.fingerprints();
        let round = all().skip(from).chain(all().take(from));
        for (shard, fingerprint) in round {
            if let Some(placement) = self.common_placement(&shard, &fellow)
                && sets.len() < COMPARED_MAX
            {
                sets.push(Compared { shard: shard.name(), fingerprint });
                shards.push((shard, placement));
            }
        }
        if sets.is_empty() {
            return;
        }
        let (agent, asked) = (fellow.agent, Asked::Shards(shards.into()));
        let session =
            Session { fellow: fellow.clone(), todo: Vec::new(), shard: None, requests: 1 };
        if self.send(now, fellow, Request::Compare { sets }, Purpose::Reconcile(asked)) {
            self.reconciling.sessions.insert(agent, session);
        }
    }

    /// A placement of `shard` that both this node and `fellow` belong to, without slack: what is given to a node further out would
    /// be out of reach of its publisher's withdrawals.
    fn common_placement(&self, shard: &ShardId, fellow: &Contact) -> Option<u8> {
        let region = self.region();
        (0..PLACEMENTS).find(|index| {
            let position = shard.position(*index);
            region.contains(&position, &fellow.overlay_id)
                && (region.contains(&position, &self.me.overlay_id)
                    || self.table.nearer_than_me(&position) < self.config.holders)
        })
    }

    // ---- asking ----

    /// Returns whether the response fits the request.
    pub(super) fn reconcile_answered(
        &mut self,
        now: Time,
        services: &mut dyn Services,
        from: &Contact,
        asked: &Asked,
        response: Response,
    ) -> bool {
        match (asked, response) {
            (Asked::Shards(shards), Response::Differ { at }) => {
                if let Some(session) = self.reconciling.sessions.get_mut(&from.agent) {
                    session.todo =
                        at.iter().filter_map(|at| shards.get(usize::from(*at))).copied().collect();
                }
            }
            (Asked::Ranges(ranges), Response::Reconciled { ranges: theirs, items, wants }) => {
                self.take_items(now, services, from, &items);
                self.compare_ranges(now, from, ranges, &theirs, &wants);
            }
            (Asked::Push, Response::Stored { .. }) => {}
            _ => return false,
        }
        self.continue_session(now, &from.agent);
        true
    }

    pub(super) fn reconcile_failed(&mut self, fellow: &Contact) {
        self.reconciling.sessions.remove(&fellow.agent);
    }

    /// Stores what the fellow gave, by the rules of any store.
    fn take_items(
        &mut self,
        now: Time,
        services: &mut dyn Services,
        from: &Contact,
        items: &[ItemBytes],
    ) {
        let Some(session) = self.reconciling.sessions.get(&from.agent) else { return };
        let Some(comparison) = &session.shard else { return };
        let place = Place::Shard { shard: comparison.shard, index: comparison.placement };
        let label = self.custody.label(&comparison.shard).cloned().unwrap_or_else(|| "".into());
        let prefix = self.table.counted(from);
        for bytes in items {
            let checked = services.verify(now, bytes).and_then(|item| {
                self.check_custodian(&item, place)?;
                super::serve::check_group(services, &item, place, &label)?;
                Ok(item)
            });
            match checked {
                Ok(item) => {
                    let _outcome = self.take_in(now, item, place, &label, prefix);
                }
                Err(_) => self.counters.rejected += 1,
            }
        }
    }

    /// Notes what remains to be compared after the fellow's view of `asked`.
    fn compare_ranges(
        &mut self,
        now: Time,
        from: &Contact,
        asked: &[(u64, u64)],
        theirs: &[ElementRange],
        wants: &[u64],
    ) {
        let Some(session) = self.reconciling.sessions.get_mut(&from.agent) else { return };
        let Some(comparison) = session.shard.as_mut() else { return };
        let inside = |first, last| {
            asked.iter().any(|(from, to)| (*from..=*to).contains(&first) && last <= *to)
        };
        let elements = self.custody.elements(now, &comparison.shard);
        for range in theirs.iter().filter(|range| inside(range.first, range.last)) {
            let mine = within(&elements, range.first, range.last);
            let differs = match &range.held {
                RangeHeld::Sum(sum) => *sum != sum_of(now, mine),
                RangeHeld::List(list) => *list != list_of(now, mine),
            };
            if differs && comparison.ranges.len() < RANGES_WAITING_MAX {
                comparison.ranges.push_back((range.first, range.last));
            }
        }
        let room = ELEMENTS_MAX.saturating_sub(comparison.wanted.len());
        let wants = wants.iter().filter(|name| inside(**name, **name));
        comparison.wanted.extend(wants.take(room));
    }

    /// The next request of a session, or its end.
    fn continue_session(&mut self, now: Time, agent: &AgentId) {
        let Some(session) = self.reconciling.sessions.get_mut(agent) else { return };
        session.requests += 1;
        let fellow = session.fellow.clone();
        let next = (session.requests <= REQUESTS_PER_SESSION_MAX)
            .then(|| self.next_request(now, agent))
            .flatten();
        let sent = next.is_some_and(|(request, asked)| {
            self.send(now, fellow, request, Purpose::Reconcile(asked))
        });
        if !sent {
            self.reconciling.sessions.remove(agent);
        }
    }

    fn next_request(&mut self, now: Time, agent: &AgentId) -> Option<(Request, Asked)> {
        loop {
            let session = self.reconciling.sessions.get_mut(agent)?;
            if session.shard.is_none() {
                let (shard, placement) = session.todo.pop()?;
                let (ranges, wanted) = (VecDeque::from([(0, u64::MAX)]), VecDeque::new());
                session.shard = Some(Comparison { shard, placement, ranges, wanted, requests: 0 });
            }
            let comparison = session.shard.as_mut()?;
            comparison.requests += 1;
            if comparison.requests <= REQUESTS_PER_SHARD_MAX {
                let elements = self.custody.elements(now, &comparison.shard);
                let label = self.custody.label(&comparison.shard);
                let request = push_request(now, comparison, &elements, label)
                    .or_else(|| range_request(now, comparison, &elements, label));
                if let Some((mut request, asked)) = request {
                    if let Request::Reconcile(asked) = &mut request {
                        asked.closed = self.is_closed(&asked.shard);
                    }
                    return Some((request, asked));
                }
            }
            session.shard = None;
        }
    }

    // ---- answering ----

    pub(super) fn serve_compare(&mut self, now: Time, sets: &[Compared]) -> Response {
        let mut changes = Vec::new();
        self.custody.sweep(now, &mut changes);
        self.record(changes);
        let held: BTreeMap<_, _> = self
            .custody
            .fingerprints()
            .map(|(shard, fingerprint)| (shard.name(), fingerprint))
            .collect();
        let differing = (0..).zip(sets.iter().take(COMPARED_MAX)).filter(|(_, set)| {
            held.get(&set.shard).is_none_or(|fingerprint| *fingerprint != set.fingerprint)
        });
        Response::Differ { at: differing.map(|(at, _)| at).collect() }
    }

    pub(super) fn serve_reconcile(&mut self, now: Time, asked: &Reconcile) -> Response {
        if asked.placement >= PLACEMENTS || !self.keeps(&asked.shard.position(asked.placement)) {
            return Response::Error(ErrorCode::Invalid);
        }
        let closed = self.is_closed(&asked.shard);
        let elements = self.custody.elements(now, &asked.shard);
        let mut answer = Difference::new(now, closed, asked.closed);
        for range in asked.ranges.iter().take(RANGES_MAX) {
            answer.range(range, within(&elements, range.first, range.last));
        }
        Response::Reconciled { ranges: answer.ranges, items: answer.items, wants: answer.wants }
    }
}

/// The elements with names from `first` to `last`.
fn within<'a, 'b>(elements: &'b [Element<'a>], first: u64, last: u64) -> &'b [Element<'a>] {
    let from = elements.partition_point(|element| element.name < first);
    let to = elements.partition_point(|element| element.name <= last);
    elements.get(from..to).unwrap_or_default()
}

fn state_of(now: Time, element: &Element<'_>) -> ElementState {
    let live = element.beat.is_some_and(|beat| beat.expires > now);
    let beat = if live { element.beat_stamp() } else { 0 };
    ElementState { name: element.name, seq: element.item.seq, beat }
}

fn sum_of(now: Time, elements: &[Element<'_>]) -> u64 {
    let states = elements.iter().map(|element| state_of(now, element));
    states.fold(0, |sum, state| sum.wrapping_add(element_state(state.name, state.seq, state.beat)))
}

fn list_of(now: Time, elements: &[Element<'_>]) -> Vec<ElementState> {
    elements.iter().map(|element| state_of(now, element)).collect()
}

const fn is_tombstone(name: u64) -> bool {
    name & 1 == 1
}

/// The parts of a range, in order.
fn parts(first: u64, last: u64) -> Vec<(u64, u64)> {
    let width = (last - first) / FAN_OUT;
    if width == 0 {
        return vec![(first, last)];
    }
    let from = |part: u64| first + part * width;
    let whole = (0..FAN_OUT - 1).map(|part| (from(part), from(part + 1) - 1));
    whole.chain([(from(FAN_OUT - 1), last)]).collect()
}

/// What is held of a range: its list if that is short.
fn describe(now: Time, first: u64, last: u64, elements: &[Element<'_>]) -> ElementRange {
    let held = if elements.len() <= LIST_MAX {
        RangeHeld::List(list_of(now, elements))
    } else {
        RangeHeld::Sum(sum_of(now, elements))
    };
    ElementRange { first, last, held }
}

fn listed(range: &ElementRange) -> usize {
    match &range.held {
        RangeHeld::Sum(_) => 0,
        RangeHeld::List(list) => list.len(),
    }
}

/// Asks about as many waiting ranges as fit.
fn range_request(
    now: Time,
    comparison: &mut Comparison,
    elements: &[Element<'_>],
    label: Option<&Arc<str>>,
) -> Option<(Request, Asked)> {
    let (mut ranges, mut count) = (Vec::new(), 0);
    while let Some((first, last)) = comparison.ranges.front().copied() {
        let mine = within(elements, first, last);
        let pieces: Vec<_> = if mine.len() <= LIST_MAX {
            vec![describe(now, first, last, mine)]
        } else {
            let parts = parts(first, last).into_iter();
            parts.map(|(from, to)| describe(now, from, to, within(elements, from, to))).collect()
        };
        let more: usize = pieces.iter().map(listed).sum();
        if ranges.len() + pieces.len() > RANGES_MAX || count + more > ELEMENTS_MAX {
            break;
        }
        comparison.ranges.pop_front();
        count += more;
        ranges.extend(pieces);
    }
    if ranges.is_empty() {
        return None;
    }
    ranges.sort_by_key(|range| range.first);
    ranges.dedup_by(|later, earlier| later.first <= earlier.last);
    let asked: Vec<_> = ranges.iter().map(|range| (range.first, range.last)).collect();
    let label = label.cloned().unwrap_or_else(|| "".into());
    let (shard, placement) = (comparison.shard, comparison.placement);
    let request = Reconcile { shard, placement, label, closed: false, ranges };
    Some((Request::Reconcile(request), Asked::Ranges(asked.into())))
}

/// Gives the fellow as many of the wanted items as fit into one store.
fn push_request(
    now: Time,
    comparison: &mut Comparison,
    elements: &[Element<'_>],
    label: Option<&Arc<str>>,
) -> Option<(Request, Asked)> {
    let (mut items, mut beats, mut bytes) = (Vec::new(), Vec::<&VerifiedItem>::new(), 0);
    while let Some(name) = comparison.wanted.front().copied() {
        if let Ok(at) = elements.binary_search_by_key(&name, |element| element.name) {
            let beat = elements[at].beat.filter(|beat| beat.expires > now);
            let beat = beat.filter(|beat| beats.iter().all(|other| other.signer != beat.signer));
            let item = elements[at].item;
            let added = item.bytes.len() + beat.map_or(0, |beat| beat.bytes.len());
            let count = items.len() + beats.len() + 1 + usize::from(beat.is_some());
            if bytes + added > ITEMS_BYTES_MAX || count > STORE_ITEMS_MAX {
                break;
            }
            bytes += added;
            items.push(item);
            beats.extend(beat);
        }
        comparison.wanted.pop_front();
    }
    if items.is_empty() {
        return None;
    }
    let place = Place::Shard { shard: comparison.shard, index: comparison.placement };
    // A beat is kept only beside a digest.
    items.extend(beats);
    let entries = (0..).zip(&items).map(|(at, item)| {
        let labelled = item.content.kind().is_entry() && label.is_some();
        StoreEntry { item: at, place, label: labelled.then_some(0) }
    });
    let entries = entries.collect();
    let items = items.iter().map(|item| item.bytes.clone()).collect();
    let labels = label.iter().map(|label| label.to_string()).collect();
    Some((Request::Store { items, labels, entries }, Asked::Push))
}

/// An answer to ranges, within the bounds of a message.
struct Difference {
    now: Time,
    /// This node takes no digests it does not hold.
    closed: bool,
    asker_closed: bool,
    ranges: Vec<ElementRange>,
    listed: usize,
    items: Vec<ItemBytes>,
    bytes: usize,
    wants: Vec<u64>,
}

impl Difference {
    const fn new(now: Time, closed: bool, asker_closed: bool) -> Self {
        Self {
            now,
            closed,
            asker_closed,
            ranges: Vec::new(),
            listed: 0,
            items: Vec::new(),
            bytes: 0,
            wants: Vec::new(),
        }
    }

    /// Compares what the asker holds of a range with `mine`.
    fn range(&mut self, theirs: &ElementRange, mine: &[Element<'_>]) {
        let (first, last) = (theirs.first, theirs.last);
        match &theirs.held {
            RangeHeld::Sum(sum) if *sum == sum_of(self.now, mine) => {}
            RangeHeld::Sum(_) if mine.len() <= LIST_MAX => {
                self.describe(vec![describe(self.now, first, last, mine)]);
            }
            RangeHeld::Sum(_) => {
                let parts = parts(first, last).into_iter();
                let parts =
                    parts.map(|(from, to)| describe(self.now, from, to, within(mine, from, to)));
                self.describe(parts.collect());
            }
            RangeHeld::List(list) => {
                if !self.differences(list, mine) {
                    // The rest is for the next request.
                    let held = RangeHeld::Sum(sum_of(self.now, mine));
                    self.describe(vec![ElementRange { first, last, held }]);
                }
            }
        }
    }

    /// Adds ranges as far as there is room; what is left out is compared another time.
    fn describe(&mut self, ranges: Vec<ElementRange>) {
        let more: usize = ranges.iter().map(listed).sum();
        if self.ranges.len() + ranges.len() <= RANGES_MAX && self.listed + more <= ELEMENTS_MAX {
            self.listed += more;
            self.ranges.extend(ranges);
        }
    }

    /// Gives what the asker's list lacks, and wants what it has more. Returns whether everything had room.
    fn differences(&mut self, theirs: &[ElementState], mine: &[Element<'_>]) -> bool {
        let mut complete = true;
        for element in mine {
            let known = theirs.binary_search_by_key(&element.name, |state| state.name);
            complete &= self.give(element, known.ok().map(|at| theirs[at]));
        }
        for state in theirs {
            let held = mine.binary_search_by_key(&state.name, |element| element.name);
            let wanted = match held.map(|at| state_of(self.now, &mine[at])) {
                // Which of two beats is newer, its holder's rules decide.
                Ok(held) => held.seq < state.seq || (held.beat != state.beat && state.beat > 0),
                Err(_) => !self.closed || is_tombstone(state.name),
            };
            if wanted && self.wants.len() < ELEMENTS_MAX {
                self.wants.push(state.name);
            }
        }
        complete
    }

    fn give(&mut self, element: &Element<'_>, known: Option<ElementState>) -> bool {
        let mine = state_of(self.now, element);
        let is_entry = element.item.content.kind().is_entry();
        let gives_item = match known {
            Some(known) => known.seq < mine.seq,
            None => !(self.asker_closed && is_entry),
        };
        let gives_beat = known.map_or(gives_item, |known| known.beat != mine.beat);
        let beat = element.beat.filter(|beat| gives_beat && beat.expires > self.now);
        let item = Some(element.item).filter(|_| gives_item);
        let given = || item.into_iter().chain(beat).map(|item| &item.bytes);
        let added: usize = given().map(|bytes| bytes.len()).sum();
        if self.items.len() + 2 > RECONCILED_ITEMS_MAX || self.bytes + added > ITEMS_BYTES_MAX {
            return added == 0;
        }
        self.bytes += added;
        self.items.extend(given().cloned());
        true
    }
}
