//! Entering the network, keeping the table alive, leaving.

use std::time::Duration;

use comity_core::Time;

use super::former::Former;
use super::recovery::{NAMES_TOLD_FOR, Recovery, Returns};
use super::traffic::{Goal, Purpose};
use super::{Overlay, Task, Timer};
use crate::config::{K, PROBES_MAX, SEEDS_MAX};
use crate::contact::Contact;
use crate::drive::{Action, CommandError, CommandId, Errand, JoinReport, Outcome, PeerChange};
use crate::lookup::Lookup;
use crate::table::{Inserted, Struck};
use crate::wire::Request;
use comity_core::OverlayId;

/// Lookups of one join at once.
const JOIN_LOOKUPS_PARALLEL: usize = 3;
/// Entries pinged in one maintenance round.
const PINGS_PER_ROUND: usize = 32;
/// An entry is pinged when it was unseen for this share, as a divisor, of the time in which half of them go: then about 6 % of the
/// entries are dead at a time.
const PING_DIVISOR: u32 = 6;
/// Requests to table entries in one maintenance round that tell of the whole table: where other work makes fewer, some are pinged as chance
/// has it, so that the failure of many is noticed within a few minutes by a node that has nothing to do.
const HEARTBEATS_PER_ROUND: usize = 4;
/// Buckets next to the own id whose lookups are no samples of the network's size.
const NEIGHBOURHOOD_BUCKETS: usize = 4;
/// Buckets refreshed in one maintenance round.
const REFRESHES_PER_ROUND: usize = 2;
/// A newcomer makes a table entry doubtful that was unseen for half as long as would have it pinged, at least for so long.
const DOUBT_AFTER_MIN: Duration = Duration::from_secs(60);
const DOUBT_DIVISOR: u32 = 2 * PING_DIVISOR;
/// Contacts of an earlier run that a returning node asks whether they are there: as many as the table of a network of a million has.
pub(super) const IMPORTED_MAX: usize = 320;
/// A returning node looks into the buckets that are not filled to this share, as a divisor, by those it knew.
const FILLED_DIVISOR: u64 = 2;
/// How long neighbours have to hear of a departure.
const LEAVE_DEADLINE: Duration = Duration::from_secs(2);

/// What the machine does of its own accord.
#[derive(Debug, Default)]
pub(super) struct Upkeep {
    /// Seeds of the last join, asked again when the table runs empty.
    seeds: Vec<Contact>,
    /// Contacts of an earlier run, used by the next join.
    pub(super) imported: Vec<Contact>,
    pub(super) former: Former,
    pub(super) returns: Returns,
    pub(super) recovery: Option<Recovery>,
    /// When a recovery last began.
    pub(super) suspected: Time,
    /// When many last went at once, and how many nodes the network was thought to have before.
    pub(super) struck: Time,
    pub(super) size_before: u64,
    last_sample: Time,
    /// Buckets at the last sample: one more means that the network has doubled, which makes old samples worthless.
    sampled_at: usize,
}

impl Upkeep {
    /// Cleaning up after a mass failure.
    pub(super) fn is_recovering(&self) -> bool {
        self.recovery.is_some_and(Recovery::is_mass)
    }

    /// No mass failure of late.
    pub(super) fn is_calm(&self, now: Time) -> bool {
        self.struck == Time::ZERO || now.saturating_since(self.struck) >= NAMES_TOLD_FOR
    }
}

/// A join in progress.
#[derive(Debug)]
pub(super) struct JoinJob {
    tried: usize,
    /// Lookups still to make, last first; `None` until those are known, after the search for the own place.
    todo: Option<Vec<(Goal, OverlayId)>>,
    running: usize,
    /// Contacts of an earlier run it asked, and those that were silent.
    imported: Vec<Contact>,
    silent: Vec<Contact>,
    /// Those it has not heard from yet.
    greeting: usize,
    /// The search for the own place has ended; it showed everyone there is.
    searched: bool,
    seen_whole: bool,
}

impl JoinJob {
    /// A join whose first lookup is about to begin.
    pub(super) const fn new() -> Self {
        Self {
            tried: 0,
            todo: None,
            running: 1,
            imported: Vec::new(),
            silent: Vec::new(),
            greeting: 0,
            searched: false,
            seen_whole: false,
        }
    }
}

/// A departure in progress.
#[derive(Debug)]
pub(super) struct LeaveJob {
    untold: usize,
}

impl Overlay {
    // ---- the table ----

    /// `contact` has just answered: it may enter the table. `tells`: see [`Purpose::tells`].
    pub(super) fn answered(&mut self, now: Time, contact: Contact, tells: bool) {
        self.vitals.note_answer(&contact.overlay_id);
        if let Some(entry) = self.table.get(&contact.overlay_id) {
            self.vitals.note_life(now.saturating_since(entry.seen()));
            if tells {
                self.vitals.note_entry(false);
            }
        }
        self.note_return(now, &contact);
        match self.table.insert(now, contact.clone()) {
            Inserted::Added | Inserted::Known { moved: true } => {
                self.note_neighbour(now, &contact);
                self.actions.push_back(Action::Peers(PeerChange::Added(contact)))
            }
            Inserted::Spare { doubtful } => {
                let unseen = self
                    .table
                    .get(&doubtful.overlay_id)
                    .map(|entry| now.saturating_since(entry.seen()));
                let enough =
                    self.adapted(DOUBT_DIVISOR, DOUBT_AFTER_MIN, self.config.ping_after / 2);
                if unseen.is_some_and(|unseen| unseen >= enough) {
                    self.send(now, doubtful, Request::Ping, Purpose::Ping(Errand::Probe));
                }
            }
            Inserted::Known { moved: false } | Inserted::Refused => {}
        }
    }

    /// `contact` asked something: it lives.
    pub(super) fn heard(&mut self, now: Time, contact: &Contact) {
        self.note_call(now);
        if let Some(entry) = self.table.get(&contact.overlay_id) {
            self.vitals.note_life(now.saturating_since(entry.seen()));
        }
        self.table.heard(now, &contact.overlay_id);
    }

    /// `contact` did not answer.
    pub(super) fn silent_peer(&mut self, now: Time, contact: &Contact, tells: bool) {
        self.vitals.note_silence(now, contact.overlay_id);
        if tells && self.table.get(&contact.overlay_id).is_some() {
            if self.vitals.note_entry(true) {
                self.mass_failure(now);
            } else if self.vitals.is_suspicious() {
                self.suspicion(now);
            }
        }
        if let Struck::Evicted { candidate } = self.table.strike(&contact.overlay_id) {
            self.actions.push_back(Action::Peers(PeerChange::Removed(contact.agent)));
            let cut = self.upkeep.recovery.is_some_and(|recovery| recovery.is_mass());
            if !cut {
                self.vitals.note_death();
            }
            self.upkeep.former.add(now, &self.me.overlay_id, contact.clone(), cut);
            if let Some(candidate) = candidate {
                self.send(now, candidate, Request::Ping, Purpose::Ping(Errand::Probe));
            }
        }
    }

    /// Asks contacts that fell silent, and now and then a seed, whether they are back.
    fn ask_former(&mut self, now: Time) {
        let mut due = self.upkeep.former.due(now);
        if !due.is_empty() && !self.upkeep.seeds.is_empty() {
            self.upkeep.seeds.rotate_left(1);
            let seed = &self.upkeep.seeds[0];
            if self.table.get(&seed.overlay_id).is_none() {
                due.push(seed.clone());
            }
        }
        for contact in due {
            self.send(now, contact, Request::Ping, Purpose::Ping(Errand::Recovery));
        }
    }

    /// `contact` goes, or does not serve.
    pub(super) fn forget(&mut self, contact: &Contact) {
        if self.table.remove(&contact.overlay_id) {
            self.actions.push_back(Action::Peers(PeerChange::Removed(contact.agent)));
        }
    }

    /// An unknown peer that says it serves asked something: dial back before it enters the table.
    pub(super) fn probe(&mut self, now: Time, from: &Contact) {
        if from.server
            && !from.addrs.is_empty()
            && self.table.get(&from.overlay_id).is_none()
            && self.table.has_room(&from.overlay_id)
        {
            let (mut pings, mut known) = (0, false);
            for (to, purpose) in self.requests_to() {
                pings += usize::from(matches!(purpose, Purpose::Ping(_)));
                known |= to.overlay_id == from.overlay_id;
            }
            if pings < PROBES_MAX && !known {
                self.send(now, from.clone(), Request::Ping, Purpose::Ping(Errand::Probe));
            }
        }
    }

    // ---- join ----

    pub(super) fn start_join(
        &mut self,
        now: Time,
        id: CommandId,
        seeds: Vec<Contact>,
    ) -> Result<(), CommandError> {
        if seeds.len() > SEEDS_MAX {
            return Err(CommandError::TooMany {
                what: "seeds",
                given: seeds.len(),
                max: SEEDS_MAX,
            });
        }
        if !seeds.is_empty() {
            self.upkeep.seeds = seeds;
        }
        let task = Task::Join(JoinJob::new());
        self.begin(now, id, task, None);
        self.enter(now, id);
        Ok(())
    }

    pub(super) fn enter(&mut self, now: Time, id: CommandId) {
        let imported = std::mem::take(&mut self.upkeep.imported);
        let mut seeds = self.table.closest(&self.me.overlay_id, K);
        seeds.extend(self.upkeep.seeds.iter().chain(&imported).cloned());
        seeds.retain(|seed| seed.overlay_id != self.me.overlay_id);
        let seeds: Vec<_> = seeds.into_iter().map(|seed| seed.with_server(true)).collect();
        let mut greeting = 0;
        for contact in &imported {
            let contact = contact.clone().with_server(true);
            greeting += usize::from(self.send(now, contact, Request::Ping, Purpose::Greet(id)));
        }
        if let Some(Task::Join(join)) = self.jobs.get_mut(&id).map(|job| &mut job.task) {
            join.tried = seeds.len();
            join.imported = imported;
            join.greeting = greeting;
        }
        let breadth = self.join_breadth();
        self.look_from(now, Goal::Join(id), self.me.overlay_id, breadth, seeds);
    }

    pub(super) fn joined_self(&mut self, now: Time, id: CommandId, lookup: &Lookup) {
        let Some(Task::Join(join)) = self.jobs.get_mut(&id).map(|job| &mut job.task) else {
            return;
        };
        join.running = 0;
        (join.searched, join.seen_whole) = (true, lookup.is_exhaustive());
        if lookup.answered() == 0 && join.tried > 0 {
            // Perhaps those of an earlier run come back later than this node.
            let (tried, imported) = (join.tried, std::mem::take(&mut join.imported));
            self.upkeep.imported = imported;
            if let Some(job) = self.finish(now, id) {
                self.report_job(id, &job, Outcome::Failed(CommandError::NoSeedAnswered { tried }));
            }
            return;
        }
        if lookup.is_exhaustive() {
            let found: Vec<_> = lookup.result().iter().map(|contact| contact.overlay_id).collect();
            self.note_sample(now, lookup.target(), &found, true);
        }
        self.plan_join(now, id);
    }

    /// A contact of an earlier run answered, or was silent.
    pub(super) fn greeted(&mut self, now: Time, id: CommandId, silent: Option<&Contact>) {
        let Some(Task::Join(join)) = self.jobs.get_mut(&id).map(|job| &mut job.task) else {
            return;
        };
        join.greeting = join.greeting.saturating_sub(1);
        join.silent.extend(silent.cloned());
        self.plan_join(now, id);
    }

    /// Once the own place was searched and all contacts of an earlier run were heard or not: decides what is left to look up.
    ///
    /// Who comes back knows most of its table still: a ping tells whether an entry is there for a tenth of what finding another costs.
    fn plan_join(&mut self, now: Time, id: CommandId) {
        let Some(Task::Join(join)) = self.jobs.get_mut(&id).map(|job| &mut job.task) else {
            return;
        };
        if !join.searched || join.greeting > 0 || join.todo.is_some() {
            return;
        }
        let (imported, silent) =
            (std::mem::take(&mut join.imported), std::mem::take(&mut join.silent));
        let (returns, seen_whole) = (!imported.is_empty(), join.seen_whole);
        // When most are silent, it may be this node that was cut off, or the others come back later than it.
        let cut = silent.len() * 2 > imported.len();
        for contact in silent {
            if self.table.get(&contact.overlay_id).is_none() {
                self.upkeep.former.add(now, &self.me.overlay_id, contact, cut);
            }
        }
        let mut todo = Vec::new();
        if !seen_whole {
            // The nearest bucket was filled by the lookup for the own id.
            let buckets = self.table.buckets().saturating_sub(1);
            let thin = |bucket: &usize| !(returns && self.is_filled(*bucket));
            let thin: Vec<_> = (0..buckets).filter(thin).collect();
            let free = thin.iter().filter(|bucket| self.is_sample(**bucket)).count();
            let known = self.size.samples() + free;
            for _ in known..self.config.estimate_samples_join {
                todo.push((Goal::Sample(Some(id)), self.random_id()));
            }
            for bucket in thin {
                let noise = self.noise();
                todo.push((Goal::Fill(Some(id)), self.table.place_in(bucket, noise)));
            }
        }
        if let Some(Task::Join(join)) = self.jobs.get_mut(&id).map(|job| &mut job.task) {
            join.todo = Some(todo);
        }
        self.continue_join(now, id);
    }

    /// Whether a bucket holds half of the nodes that it would after it was looked up, as far as the size of the network tells.
    fn is_filled(&self, bucket: usize) -> bool {
        let level = u32::try_from(bucket + 1).unwrap_or(u32::MAX);
        let there = self.size_estimate().checked_shr(level).unwrap_or(0).min(K as u64);
        self.table.bucket_len(bucket) as u64 * FILLED_DIVISOR >= there
    }

    fn continue_join(&mut self, now: Time, id: CommandId) {
        loop {
            let Some(Task::Join(join)) = self.jobs.get_mut(&id).map(|job| &mut job.task) else {
                return;
            };
            if join.running >= JOIN_LOOKUPS_PARALLEL {
                return;
            }
            let Some((goal, target)) = join.todo.as_mut().and_then(Vec::pop) else { break };
            join.running += 1;
            let breadth = if matches!(goal, Goal::Sample(_)) {
                self.sample_breadth()
            } else {
                self.refresh_breadth()
            };
            self.look(now, goal, target, breadth);
        }
        let is_idle = |join: &JoinJob| join.running == 0 && join.todo.is_some();
        let idle = matches!(self.jobs.get(&id).map(|job| &job.task), Some(Task::Join(join)) if is_idle(join));
        if idle && let Some(job) = self.finish(now, id) {
            let report = JoinReport {
                peers: self.table.len(),
                size_estimate: self.size_estimate(),
                cost: job.cost,
            };
            self.report_job(id, &job, Outcome::Joined(report));
        }
    }

    fn join_step_done(&mut self, now: Time, id: Option<CommandId>) {
        let Some(id) = id else { return };
        if let Some(Task::Join(join)) = self.jobs.get_mut(&id).map(|job| &mut job.task) {
            join.running = join.running.saturating_sub(1);
            self.continue_join(now, id);
        }
    }

    /// A bucket was looked up: at a place that chance decided, so that it tells the size of the network too.
    pub(super) fn filled(&mut self, now: Time, command: Option<CommandId>, lookup: &Lookup) {
        let shared = lookup.target().distance(&self.me.overlay_id).leading_zeros();
        let bucket = usize::try_from(shared).unwrap_or(usize::MAX);
        if self.is_sample(bucket)
            && let Some((named, permille)) = lookup.sample()
        {
            self.size.sample_named(lookup.target(), &named, permille);
            self.noted_size(now);
        }
        self.join_step_done(now, command);
    }

    /// Whether a lookup in this bucket is a sample of the network's size: not one near the own id, which somebody may have crowded.
    fn is_sample(&self, bucket: usize) -> bool {
        self.is_large() && bucket + NEIGHBOURHOOD_BUCKETS < self.table.buckets()
    }

    /// More nodes than one lookup finds.
    fn is_large(&self) -> bool {
        self.table.len() >= 2 * K
    }

    pub(super) fn sampled(&mut self, now: Time, command: Option<CommandId>, lookup: &Lookup) {
        if let Some((named, permille)) = lookup.sample().filter(|_| !lookup.is_exhaustive()) {
            self.size.sample_named(lookup.target(), &named, permille);
            self.noted_size(now);
            return self.join_step_done(now, command);
        }
        let found: Vec<_> = lookup.result().iter().map(|contact| contact.overlay_id).collect();
        if !found.is_empty() {
            self.note_sample(now, lookup.target(), &found, lookup.is_exhaustive());
        }
        self.join_step_done(now, command);
    }

    pub(super) fn note_sample(
        &mut self,
        now: Time,
        target: &OverlayId,
        found: &[OverlayId],
        exhaustive: bool,
    ) {
        self.size.sample(target, found, exhaustive);
        self.noted_size(now);
    }

    /// The size is known as of now.
    pub(super) fn noted_size(&mut self, now: Time) {
        self.upkeep.last_sample = now;
        self.upkeep.sampled_at = self.table.buckets().max(self.buckets_expected());
    }

    /// Buckets in the table of a node that knows a network of the estimated size, one more than most have: a table that is being filled
    /// is no network that grows.
    fn buckets_expected(&self) -> usize {
        let full = self.size_estimate() / K as u64;
        full.checked_ilog2().map_or(1, |levels| levels as usize + 2)
    }

    /// One path is enough for a sample; of many nodes, the names around the nearest tell as much as asking them would.
    pub(super) fn sample_breadth(&self) -> crate::lookup::Breadth {
        let want = if self.is_large() { self.config.refresh_k } else { K };
        crate::lookup::Breadth { path_k: want, want, ..self.refresh_breadth() }
    }

    // ---- upkeep ----

    pub(super) fn schedule_maintenance(&mut self, now: Time) {
        let every = self.jittered(self.config.maintenance_every);
        self.timers.insert((now + every, Timer::Maintenance));
    }

    pub(super) fn maintain(&mut self, now: Time) {
        let mut changes = Vec::new();
        self.custody.sweep(now, &mut changes);
        self.record(changes);
        self.ping_entries(now);
        self.refresh_buckets(now);
        self.review_splits(now);
        self.maintain_samples(now);
        self.rejoin(now);
        self.ask_former(now);
        self.restore_again(now);
        self.audit(now);
        self.ask_renewals(now);
        // Few may keep them because this node was too late to hear them say so; then it would store everything again each time.
        if !self.health.is_strained() {
            self.hasten_thin_items(now);
        }
        self.forget_places(now);
        self.schedule_maintenance(now);
    }

    /// Entries that missed their last request, and those unseen for a share of the time that entries live.
    fn ping_entries(&mut self, now: Time) {
        let struck = self.table.entries().filter(|entry| entry.strikes() > 0);
        let mut due: Vec<_> =
            struck.take(PINGS_PER_ROUND).map(|entry| entry.contact.clone()).collect();
        let idle = self.adapted(PING_DIVISOR, self.config.ping_after_min, self.config.ping_after);
        let unseen = self.table.unseen(now, idle, PINGS_PER_ROUND);
        due.extend(unseen);
        let mut due: Vec<_> = due.into_iter().map(|contact| (contact, Errand::Ping)).collect();
        let noted = self.vitals.take_noted();
        if noted < HEARTBEATS_PER_ROUND {
            let unheard = self.table.unseen(now, self.config.maintenance_every, usize::MAX);
            let some = self.some_of(unheard, HEARTBEATS_PER_ROUND - noted);
            due.extend(some.into_iter().map(|contact| (contact, Errand::Heartbeat)));
        }
        due.sort_by_key(|(contact, errand)| (contact.overlay_id, *errand));
        due.dedup_by_key(|(contact, _)| contact.overlay_id);
        for (contact, errand) in due.into_iter().take(PINGS_PER_ROUND) {
            self.send(now, contact, Request::Ping, Purpose::Ping(errand));
        }
    }

    fn refresh_buckets(&mut self, now: Time) {
        let idle = self.adapted(1, self.config.refresh_after_min, self.config.refresh_after);
        for bucket in self.table.idle_buckets(now, idle).into_iter().take(REFRESHES_PER_ROUND) {
            let noise = self.noise();
            let target = self.table.place_in(bucket, noise);
            let breadth = self.refresh_breadth();
            self.look(now, Goal::Fill(None), target, breadth);
        }
    }

    /// The half-life of table entries over `divisor`, between bounds; the upper one while it is not known.
    fn adapted(&self, divisor: u32, min: Duration, max: Duration) -> Duration {
        self.vitals.half_life().map_or(max, |half| (half / divisor).clamp(min.min(max), max))
    }

    fn maintain_samples(&mut self, now: Time) {
        if self.table.is_empty() {
            return;
        }
        let few = self.size.samples() < self.config.estimate_samples;
        let old = now.saturating_since(self.upkeep.last_sample) >= self.config.estimate_every;
        let grown = self.table.buckets() > self.upkeep.sampled_at;
        if grown {
            self.size.restart();
        }
        let count = if grown {
            self.upkeep.sampled_at = self.table.buckets();
            self.config.estimate_samples_join
        } else {
            usize::from(few || old)
        };
        for _ in 0..count {
            let target = self.random_id();
            let breadth = self.sample_breadth();
            self.look(now, Goal::Sample(None), target, breadth);
        }
    }

    /// A table that ran empty is filled from the seeds again.
    fn rejoin(&mut self, now: Time) {
        let joining = self.jobs.values().any(|job| matches!(job.task, Task::Join(_)));
        let known = !self.upkeep.seeds.is_empty() || !self.upkeep.imported.is_empty();
        if self.table.is_empty() && known && !joining {
            let id = self.begin_silent(now, Task::Join(JoinJob::new()), None);
            self.enter(now, id);
        }
    }

    // ---- leave ----

    pub(super) fn start_leave(&mut self, now: Time, id: CommandId) -> Result<(), CommandError> {
        let neighbours = self.table.closest(&self.me.overlay_id, K);
        self.begin(
            now,
            id,
            Task::Leave(LeaveJob { untold: neighbours.len() }),
            Some(LEAVE_DEADLINE),
        );
        let mut untold = 0;
        for neighbour in neighbours {
            untold += usize::from(self.send(now, neighbour, Request::Leaving, Purpose::Leave(id)));
        }
        if let Some(Task::Leave(leave)) = self.jobs.get_mut(&id).map(|job| &mut job.task) {
            leave.untold = untold;
        }
        if untold == 0 {
            self.finish_leave(now, id);
        }
        Ok(())
    }

    /// A neighbour knows, or will never.
    pub(super) fn left_told(&mut self, now: Time, purpose: &Purpose) {
        let Purpose::Leave(id) = purpose else { return };
        if let Some(Task::Leave(leave)) = self.jobs.get_mut(id).map(|job| &mut job.task) {
            leave.untold = leave.untold.saturating_sub(1);
            if leave.untold == 0 {
                self.finish_leave(now, *id);
            }
        }
    }

    pub(super) fn finish_leave(&mut self, now: Time, id: CommandId) {
        if let Some(job) = self.finish(now, id) {
            self.report_job(id, &job, Outcome::Left);
        }
    }
}
