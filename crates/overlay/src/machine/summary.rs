//! Split shards: who is full, what lies below, and telling the shards above.
//!
//! A group is a binary tree of shards. One that is full sends new members down; those it holds stay until they move or expire. The
//! custodians of every shard below the top report how many members it has, and what they have in common, to the custodians of the
//! summary shard above them: the one at depth 0, 6, 12 and so on. Those name the shards below to whoever asks them, and send
//! members down no more once there are few. A report is a claim of one node: it costs others lookups, never members.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use comity_capability::query::Query;
use comity_capability::record::VEILED_PREFIX;
use comity_capability::zone::ZoneMap;
use comity_core::{AgentId, Canonical, OverlayId, Time};

use super::traffic::{Goal, Purpose};
use super::{Overlay, Timer};
use crate::config::{REGION_SLACK, SHARD_DEPTH_MARGIN, SHARD_VEILED_MAX};
use crate::contact::Contact;
use crate::directory;
use crate::item::{Content, ItemBytes, ItemKind, VerifiedItem};
use crate::lookup::Lookup;
use crate::shard::{PLACEMENTS, SHARD_DEPTH_MAX, ShardId};
use crate::wire::{
    ErrorCode, LEAF_CUSTODIANS_MAX, LEAVES_CUSTODIANS_MAX, LeafView, Report, Request, Response,
};

/// Levels between one summary shard and the next.
const SUMMARY_LEVELS: u8 = 6;
/// Split shards, and shards that others reported below, that one node remembers.
const BRANCHES_MAX: usize = 1_024;
/// Reporters remembered of each placement of one leaf; the longest silent is forgotten first.
const REPORTERS_KEPT: usize = 4;
/// Reporting rounds after which a reporter is not named any more: each custodian of a summary shard hears one report of four or five.
const ROUNDS_NAMED: u32 = 12;
/// Custodians of a leaf's placement that report it: the nearest, as far as each knows.
const REPORTERS: usize = 4;
/// Custodians of each placement of the summary shard that hear a report with nothing new.
const HEARERS: usize = 2;
/// Custodians remembered of each placement of a summary shard.
const ABOVE_MAX: usize = 20;
/// Summary placements whose custodians are remembered.
const ABOVE_PLACES_MAX: usize = 1_024;
/// They are looked up again after this long.
const ABOVE_LIFE: Duration = Duration::from_secs(3_600);
/// A lookup of them that brought nothing is tried again after this long.
const ABOVE_RETRY: Duration = Duration::from_secs(30);
/// A leaf whose members changed is looked at so soon.
const REPORT_SOON: Duration = Duration::from_millis(500);
/// And not more often than this.
const REPORT_PAUSE: Duration = Duration::from_secs(2);
/// Leaves looked at in one turn; the others follow at once.
const LEAVES_PER_TURN: usize = 16;
/// Reporting rounds after which a report no longer counts.
const ROUNDS_KEPT: u32 = 3;
/// A split stays for so many reporting rounds before the lack of reports ends it.
const ROUNDS_SETTLING: u32 = 3;
/// Reporters whose word makes a shard split that was never full here.
const REPORTERS_BELIEVED: usize = 3;
/// A split ends when the shards below hold fewer than this share of a full one, as a divisor.
const MERGE_DIVISOR: usize = 4;

/// What this node knows of split shards.
#[derive(Debug, Default)]
pub(super) struct Summaries {
    /// Shards kept here that are split, or have others below.
    branches: BTreeMap<ShardId, Branch>,
    /// Shards below the top that are held here.
    leaves: BTreeMap<ShardId, Leaf>,
    /// Custodians of summary shards, by place.
    above: BTreeMap<OverlayId, Above>,
    /// The timer that is set, if one is.
    wake: Option<Time>,
}

#[derive(Debug, Default)]
struct Branch {
    /// New members are sent down since then.
    split: Option<Time>,
    /// Veiled entries came for it: it is full with fewer.
    veiled: bool,
    below: BTreeMap<ShardId, Vec<Heard>>,
}

/// A report as it is remembered.
#[derive(Debug)]
struct Heard {
    from: Contact,
    /// The placement of the leaf that it keeps.
    placement: u8,
    count: u32,
    /// One copy for all that report the same.
    zone: Option<Arc<ZoneMap>>,
    at: Time,
}

#[derive(Debug)]
struct Leaf {
    due: Time,
    looked: Time,
    /// What was reported last, and when.
    told: Option<(Time, u32, Option<ItemBytes>)>,
}

#[derive(Debug)]
struct Above {
    contacts: Vec<Contact>,
    until: Time,
}

/// A shard below the top of its group as its custodians have reported it: for simulations that start from a built network.
#[derive(Clone, Debug)]
pub struct LeafReport {
    /// The shard.
    pub shard: ShardId,
    /// Its members.
    pub count: u32,
    /// What they have in common.
    pub zone: ZoneMap,
    /// Who reported it, and the placement each keeps.
    pub reporters: Vec<(Contact, u8)>,
}

impl Branch {
    /// Members below, as the largest fresh report of each leaf has it, and how many different nodes reported.
    fn total(&self, now: Time, life: Duration) -> (usize, usize) {
        let mut reporters: Vec<_> = Vec::new();
        let mut total = 0;
        for heard in self.below.values() {
            let fresh = heard.iter().filter(|heard| now.saturating_since(heard.at) < life);
            total += fresh.clone().map(|heard| heard.count as usize).max().unwrap_or(0);
            reporters.extend(fresh.map(|heard| heard.from.agent));
        }
        reporters.sort_unstable();
        reporters.dedup();
        (total, reporters.len())
    }
}

/// The shard that `shard`'s members are reported to.
#[must_use]
pub fn summary_of(shard: &ShardId) -> ShardId {
    let above = shard.depth.saturating_sub(1);
    shard.ancestor(above - above % SUMMARY_LEVELS)
}

const fn is_summary(shard: &ShardId) -> bool {
    shard.depth.is_multiple_of(SUMMARY_LEVELS)
}

impl Overlay {
    // ---- being full ----

    /// The deepest shard that a network of this size needs: a lie about splits leads no further.
    pub(super) fn split_depth_max(&self, veiled: bool) -> u8 {
        let shards = (self.size_estimate() / self.shard_room(veiled).max(1) as u64).max(1);
        let depth = u8::try_from(shards.ilog2()).unwrap_or(SHARD_DEPTH_MAX);
        (depth + SHARD_DEPTH_MARGIN).min(SHARD_DEPTH_MAX)
    }

    /// Entries after which a shard is full.
    fn shard_room(&self, veiled: bool) -> usize {
        let room = self.config.shard_digests;
        if veiled { room.min(SHARD_VEILED_MAX) } else { room }
    }

    /// The depth a new member of `shard` is sent to, if it is sent down.
    pub(super) fn sent_down(
        &mut self,
        now: Time,
        item: &VerifiedItem,
        shard: &ShardId,
    ) -> Option<u8> {
        let veiled = item.content.kind() == ItemKind::Veiled;
        let is_full = match item.content {
            Content::Digest(_) | Content::Veiled(_) => {
                let held = self.custody.get(&item.key());
                if held.is_some_and(|held| held.shards.contains(shard)) {
                    return None;
                }
                !self.custody.has_room(now, shard, &item.key())
            }
            Content::Beat(_) if !self.custody.has_member(shard, &item.signer) => false,
            Content::Beat(_) | Content::Tombstone | Content::Peer(_) => return None,
        };
        let known = self.summaries.branches.len() < BRANCHES_MAX;
        if is_full && (known || self.summaries.branches.contains_key(shard)) {
            let branch = self.summaries.branches.entry(*shard);
            let branch = branch.or_default();
            branch.split.get_or_insert(now);
            branch.veiled = veiled;
        }
        let branch = self.summaries.branches.get(shard).filter(|branch| branch.split.is_some())?;
        let depth = self.depth_below(now, shard, branch, &item.signer, veiled);
        (depth <= self.split_depth_max(veiled)).then_some(depth)
    }

    /// Whether `shard` takes no entry that it does not hold yet.
    pub(super) fn is_closed(&self, shard: &ShardId) -> bool {
        let branch = self.summaries.branches.get(shard);
        branch.is_some_and(|branch| branch.split.is_some())
            || self.custody.digests(shard) >= self.shard_room(self.is_veiled(shard))
    }

    /// Whether what is held of a shard is of a private group.
    fn is_veiled(&self, shard: &ShardId) -> bool {
        self.custody.label(shard).is_some_and(|label| label.starts_with(VEILED_PREFIX))
    }

    /// The deepest reported shard of `signer` that is not full, or one level below the deepest.
    fn depth_below(
        &self,
        now: Time,
        shard: &ShardId,
        branch: &Branch,
        signer: &AgentId,
        veiled: bool,
    ) -> u8 {
        let room = self.shard_room(veiled);
        let life = self.config.report_every * ROUNDS_KEPT;
        let mut depth = shard.depth + 1;
        for (leaf, heard) in &branch.below {
            let fresh = heard.iter().filter(|heard| now.saturating_since(heard.at) < life);
            let Some(count) = fresh.map(|heard| heard.count as usize).max() else { continue };
            if leaf.admits(signer) {
                let full = count >= room;
                depth = depth.max(leaf.depth + u8::from(full));
            }
        }
        depth
    }

    /// Forgets old reports, ends splits that are needed no more, and believes those that enough others report.
    pub(super) fn review_splits(&mut self, now: Time) {
        let life = self.config.report_every * ROUNDS_KEPT;
        let (plain, veiled) = (self.shard_room(false), self.shard_room(true));
        let settling = self.config.report_every * ROUNDS_SETTLING;
        let named = self.config.report_every * ROUNDS_NAMED;
        let custody = &self.custody;
        self.summaries.branches.retain(|shard, branch| {
            let full = if branch.veiled { veiled } else { plain };
            let few = full / MERGE_DIVISOR;
            for heard in branch.below.values_mut() {
                heard.retain(|heard| now.saturating_since(heard.at) < named);
            }
            branch.below.retain(|_, heard| !heard.is_empty());
            let (total, reporters) = branch.total(now, life);
            let held = custody.digests(shard);
            let settled = branch.split.is_some_and(|since| now.saturating_since(since) >= settling);
            let merges =
                if is_summary(shard) { total < few && total + held < full } else { held < few };
            if settled && merges {
                branch.split = None;
            } else if branch.split.is_none() && reporters >= REPORTERS_BELIEVED && total >= few {
                branch.split = Some(now);
            }
            branch.split.is_some() || !branch.below.is_empty()
        });
    }

    // ---- answering ----

    /// The shards below `shard`, whether they may hold what `query` wants, and of those that are asked first who keeps their
    /// `placement`.
    pub(super) fn leaves_below(
        &self,
        now: Time,
        shard: &ShardId,
        query: &[u8],
        placement: u8,
    ) -> Vec<LeafView> {
        let Some(branch) = self.summaries.branches.get(shard) else { return Vec::new() };
        let life = self.config.report_every * ROUNDS_KEPT;
        let query = Query::decode(query).ok();
        let may_match = |heard: &Heard| match (&heard.zone, &query) {
            (Some(zone), Some(query)) => zone.may_match(query),
            (None, _) | (_, None) => true,
        };
        let mut views = Vec::new();
        for (leaf, heard) in &branch.below {
            let fresh = || {
                heard
                    .iter()
                    .filter(|heard| heard.count > 0 && now.saturating_since(heard.at) < life)
            };
            let Some(count) = fresh().map(|heard| heard.count).max() else { continue };
            let may_match = fresh().any(may_match);
            let (depth, prefix, custodians) = (leaf.depth, leaf.prefix, Vec::new());
            views.push(LeafView { depth, prefix, count, may_match, custodians });
        }
        // The largest are asked first. All custodians choose alike, as only those whom several name are believed to be there.
        let mut largest: Vec<_> = views.iter_mut().filter(|view| view.may_match).collect();
        largest.sort_by_key(|view| Reverse(view.count));
        for view in largest.into_iter().take(LEAVES_CUSTODIANS_MAX / LEAF_CUSTODIANS_MAX) {
            let leaf = ShardId { group: shard.group, depth: view.depth, prefix: view.prefix };
            let heard = branch.below.get(&leaf).into_iter().flatten();
            let position = leaf.position(placement);
            let mut keepers: Vec<_> = heard
                .filter(|heard| heard.placement == placement && heard.count > 0)
                .map(|heard| &heard.from)
                .filter(|keeper| !self.quarantine.holds(now, &keeper.agent))
                .collect();
            keepers.sort_by_key(|keeper| keeper.overlay_id.distance(&position));
            view.custodians = keepers.into_iter().take(LEAF_CUSTODIANS_MAX).cloned().collect();
        }
        views
    }

    pub(super) fn serve_report(&mut self, now: Time, from: &Contact, report: Report) -> Response {
        let above = summary_of(&report.shard);
        let region = self.region().times(REGION_SLACK);
        let position = report.shard.position(report.placement);
        let keeps = (0..PLACEMENTS).any(|index| self.keeps(&above.position(index)));
        if report.shard.depth == 0 || !keeps || !region.contains(&position, &from.overlay_id) {
            return Response::Error(ErrorCode::Invalid);
        }
        let zone = match report.zone.as_deref().map(ZoneMap::decode).transpose() {
            Ok(zone) => zone.map(Arc::new),
            Err(_) => return Response::Error(ErrorCode::Invalid),
        };
        let (count, placement) = (report.count, report.placement);
        let heard = Heard { from: from.clone(), placement, count, zone, at: now };
        self.take_report(above, report.shard, heard);
        Response::Done
    }

    /// Takes in a report. What is new in it, the shard above tells those above itself.
    fn take_report(&mut self, above: ShardId, leaf: ShardId, report: Heard) {
        let heard = self.summaries.branches.get(&above).and_then(|branch| branch.below.get(&leaf));
        let mut heard = heard.into_iter().flatten();
        let is_new = above.depth > 0 && heard.all(|heard| heard.zone != report.zone);
        let now = report.at;
        self.hear_report(above, leaf, report);
        if is_new {
            self.touch_leaf(now, &above);
        }
    }

    fn hear_report(&mut self, above: ShardId, leaf: ShardId, mut report: Heard) {
        let branches = &mut self.summaries.branches;
        if branches.len() >= BRANCHES_MAX && !branches.contains_key(&above) {
            return;
        }
        let branch = branches.entry(above).or_default();
        // At most 126: the leaves of six levels.
        let heard = branch.below.entry(leaf).or_default();
        heard.retain(|heard| heard.from.agent != report.from.agent);
        let same = |heard: &&Heard| heard.placement == report.placement;
        if heard.iter().filter(same).count() >= REPORTERS_KEPT
            && let Some(oldest) = (0..heard.len())
                .filter(|at| heard[*at].placement == report.placement)
                .min_by_key(|at| heard[*at].at)
        {
            heard.swap_remove(oldest);
        }
        if let Some(known) = heard.iter().find(|known| known.zone == report.zone) {
            report.zone.clone_from(&known.zone);
        }
        heard.push(report);
    }

    // ---- preloading ----

    /// Takes `report` as what this custodian told the shards above just now.
    pub fn preload_leaf(&mut self, now: Time, report: &LeafReport) {
        let due = now + self.share(self.config.report_every);
        let told = Some((now, report.count, Some(report.zone.encode().into())));
        self.summaries.leaves.insert(report.shard, Leaf { due, looked: now, told });
        self.schedule_reports();
    }

    /// Takes `below` as what custodians of the shards below `shard` reported just now, and `shard` as full if it `is_split`.
    pub fn preload_branch(
        &mut self,
        now: Time,
        shard: ShardId,
        is_split: bool,
        below: &[LeafReport],
    ) {
        if is_split && (self.summaries.branches.len() < BRANCHES_MAX) {
            let branch = self.summaries.branches.entry(shard);
            let branch = branch.or_default();
            branch.split = Some(now);
        }
        for LeafReport { shard: leaf, count, zone, reporters } in below {
            let zone = Some(Arc::new(zone.clone()));
            for (from, placement) in reporters {
                let (from, placement, count) = (from.clone(), *placement, *count);
                let heard = Heard { from, placement, count, zone: zone.clone(), at: now };
                self.hear_report(shard, *leaf, heard);
            }
        }
    }

    // ---- reporting ----

    /// Something changed in `shard`.
    pub(super) fn touch_leaf(&mut self, now: Time, shard: &ShardId) {
        if shard.depth == 0 {
            return;
        }
        let soon = now + self.jittered(REPORT_SOON);
        let leaf = self.summaries.leaves.entry(*shard).or_insert(Leaf {
            due: soon,
            looked: Time::ZERO,
            told: None,
        });
        leaf.due = leaf.due.min(soon.max(leaf.looked + REPORT_PAUSE));
        let due = leaf.due;
        if self.summaries.wake.is_none_or(|wake| due < wake) {
            self.schedule_reports();
        }
    }

    /// Every leaf held here is reported: after a restart.
    pub(super) fn touch_leaves(&mut self, now: Time) {
        let leaves: Vec<_> =
            self.custody.shards().map(|(shard, _)| shard).filter(|id| id.depth > 0).collect();
        for leaf in leaves {
            self.touch_leaf(now, &leaf);
        }
    }

    fn schedule_reports(&mut self) {
        if let Some(set) = self.summaries.wake.take() {
            self.timers.remove(&(set, Timer::Summaries));
        }
        if let Some(due) = self.summaries.leaves.values().map(|leaf| leaf.due).min() {
            self.timers.insert((due, Timer::Summaries));
            self.summaries.wake = Some(due);
        }
    }

    /// Looks at the leaves that are due.
    pub(super) fn report_leaves(&mut self, now: Time) {
        self.summaries.wake = None;
        let due = self.summaries.leaves.iter().filter(|(_, leaf)| leaf.due <= now);
        let due: Vec<_> = due.map(|(shard, _)| *shard).take(LEAVES_PER_TURN).collect();
        for shard in due {
            self.report_leaf(now, shard);
        }
        self.schedule_reports();
    }

    fn report_leaf(&mut self, now: Time, shard: ShardId) {
        let every = self.jittered(self.config.report_every);
        let (count, zone) = self.survey(now, &shard);
        let Some(leaf) = self.summaries.leaves.get_mut(&shard) else { return };
        (leaf.due, leaf.looked) = (now + every, now);
        let is_new = match &leaf.told {
            Some((_, told, known)) => *known != zone || (*told == 0) != (count == 0),
            None => count > 0,
        };
        let regular = leaf
            .told
            .as_ref()
            .is_none_or(|(at, ..)| now.saturating_since(*at) >= self.config.report_every / 2);
        let gone = count == 0 && self.custody.digests(&shard) == 0;
        if gone && leaf.told.as_ref().is_none_or(|(_, told, _)| *told == 0) {
            self.summaries.leaves.remove(&shard);
            return;
        }
        if is_new || regular {
            self.tell(now, shard, count, zone, is_new);
        }
    }

    /// How many members of a shard are shown, and what they and those of the shards it names to others have in common: whoever is told
    /// by a shard above that nothing matches here asks neither it nor what lies below it.
    fn survey(&self, now: Time, shard: &ShardId) -> (u32, Option<ItemBytes>) {
        let (mut count, mut zone) = (0, Some(ZoneMap::new()));
        for member in self.custody.members(now, shard) {
            count += 1;
            match (directory::digest(member.digest), zone.as_mut()) {
                (Some(digest), Some(zone)) => zone.add(digest),
                // Nothing is said of what is not understood.
                (None, _) | (_, None) => zone = None,
            }
        }
        let branch = self.summaries.branches.get(shard).filter(|_| is_summary(shard));
        let life = self.config.report_every * ROUNDS_KEPT;
        for heard in branch.into_iter().flat_map(|branch| branch.below.values().flatten()) {
            if heard.count > 0 && now.saturating_since(heard.at) < life {
                match (&heard.zone, zone.as_mut()) {
                    (Some(below), Some(zone)) => zone.merge(below),
                    (None, _) | (_, None) => zone = None,
                }
            }
        }
        (count, zone.map(|zone| zone.encode().into()))
    }

    /// Reports a leaf to custodians of its summary shard: to all of them what is new.
    fn tell(
        &mut self,
        now: Time,
        shard: ShardId,
        count: u32,
        zone: Option<ItemBytes>,
        is_new: bool,
    ) {
        let mine = (0..PLACEMENTS).filter(|index| {
            let position = shard.position(*index);
            self.keeps(&position) && self.table.nearer_than_me(&position) < REPORTERS
        });
        let above = summary_of(&shard);
        let mut complete = true;
        for placement in mine.collect::<Vec<_>>() {
            let report = Report { shard, placement, count, zone: zone.clone() };
            for index in 0..PLACEMENTS {
                complete &= self.tell_placement(now, above, index, &report, is_new);
            }
        }
        // What could not be sent yet is sent when the custodians above are found.
        if complete && let Some(leaf) = self.summaries.leaves.get_mut(&shard) {
            leaf.told = Some((now, count, zone));
        }
    }

    /// Returns whether the custodians of that placement are known.
    fn tell_placement(
        &mut self,
        now: Time,
        above: ShardId,
        index: u8,
        report: &Report,
        is_new: bool,
    ) -> bool {
        let position = above.position(index);
        if self.keeps(&position) {
            let zone =
                report.zone.as_deref().and_then(|zone| ZoneMap::decode(zone).ok()).map(Arc::new);
            let (count, placement) = (report.count, report.placement);
            let heard = Heard { from: self.me.clone(), placement, count, zone, at: now };
            self.take_report(above, report.shard, heard);
        }
        let Some(known) = self.summaries.above.get(&position).filter(|known| now < known.until)
        else {
            self.look_above(now, position);
            return false;
        };
        let mut hearers = known.contacts.clone();
        if !is_new {
            while hearers.len() > HEARERS {
                let at = self.rng.next_u32() as usize % hearers.len();
                hearers.swap_remove(at);
            }
        }
        for hearer in hearers {
            self.send(now, hearer, Request::Report(report.clone()), Purpose::Report);
        }
        true
    }

    fn look_above(&mut self, now: Time, position: OverlayId) {
        let above = &mut self.summaries.above;
        above.retain(|_, known| now < known.until);
        if above.len() >= ABOVE_PLACES_MAX || self.table.is_empty() {
            return;
        }
        // No second lookup while this one runs.
        above.insert(position, Above { contacts: Vec::new(), until: now + ABOVE_RETRY });
        let breadth = self.find_breadth(now);
        self.look(now, Goal::Above, position, breadth);
    }

    /// The custodians of a summary shard are known: what waits for them is sent.
    pub(super) fn above_found(&mut self, now: Time, lookup: &Lookup) {
        let mut contacts = lookup.result();
        contacts.truncate(ABOVE_MAX);
        if contacts.is_empty() {
            return;
        }
        let position = *lookup.target();
        self.summaries.above.insert(position, Above { contacts, until: now + ABOVE_LIFE });
        for (shard, leaf) in &mut self.summaries.leaves {
            let above = summary_of(shard);
            if (0..PLACEMENTS).any(|index| above.position(index) == position) {
                leaf.told = None;
                leaf.due = now;
            }
        }
        self.schedule_reports();
    }

    /// A custodian of a summary shard did not take a report.
    pub(super) fn report_failed(&mut self, to: &Contact) {
        for known in self.summaries.above.values_mut() {
            known.contacts.retain(|contact| contact.agent != to.agent);
        }
        self.summaries.above.retain(|_, known| !known.contacts.is_empty());
    }
}
