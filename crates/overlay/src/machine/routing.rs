//! Entering the network, keeping the table alive, leaving.

use std::collections::VecDeque;

use comity_core::Time;

use super::traffic::{Goal, Purpose};
use super::{Overlay, Task, Timer};
use crate::config::{K, PROBES_MAX, SEEDS_MAX};
use crate::contact::Contact;
use crate::drive::{Action, CommandError, CommandId, JoinReport, Outcome, PeerChange};
use crate::lookup::Lookup;
use crate::table::{Inserted, Struck};
use crate::wire::Request;
use comity_core::OverlayId;

/// Lookups of one join at once.
const JOIN_LOOKUPS_PARALLEL: usize = 3;
/// Entries pinged in one maintenance round.
const PINGS_PER_ROUND: usize = 16;
/// Buckets refreshed in one maintenance round.
const REFRESHES_PER_ROUND: usize = 2;
/// How long a table entry may be unseen before a newcomer makes it doubtful.
const DOUBT_AFTER: std::time::Duration = std::time::Duration::from_secs(60);
/// How long neighbours have to hear of a departure.
const LEAVE_DEADLINE: std::time::Duration = std::time::Duration::from_secs(2);

/// Contacts that left the table in silence and are asked again now and then; the longest gone is forgotten first.
const FORMER_MAX: usize = 64;
/// One of them is asked this often, or as often as maintenance comes round if that is rarer.
const FORMER_EVERY: std::time::Duration = std::time::Duration::from_secs(60);
/// Once one came back, others probably can: so many are asked in a round, for so long.
const FORMER_AFTER_RETURN: usize = 4;
const RETURN_COUNTS_FOR: std::time::Duration = std::time::Duration::from_secs(1_800);
/// Contacts that come back within this long are one return.
const RETURN_PAUSE: std::time::Duration = std::time::Duration::from_secs(10);

/// What the machine does of its own accord.
#[derive(Debug, Default)]
pub(super) struct Upkeep {
    /// Seeds of the last join, asked again when the table runs empty.
    seeds: Vec<Contact>,
    /// Contacts of an earlier run, used by the next join.
    pub(super) imported: Vec<Contact>,
    /// Contacts that fell silent and left the table, the longest gone first: the only way back after a partition, when
    /// neither half has the other in its tables any more.
    former: VecDeque<Contact>,
    former_asked: Time,
    /// When one of them last came back.
    returned: Time,
    last_sample: Time,
    /// Table size at the last sample: a table that doubled makes old samples worthless.
    sampled_at: usize,
}

/// A join in progress.
#[derive(Debug)]
pub(super) struct JoinJob {
    tried: usize,
    /// Lookups still to make, last first.
    todo: Vec<(Goal, OverlayId)>,
    running: usize,
}

/// A departure in progress.
#[derive(Debug)]
pub(super) struct LeaveJob {
    untold: usize,
}

impl Overlay {
    // ---- the table ----

    /// `contact` has just answered: it may enter the table.
    pub(super) fn answered(&mut self, now: Time, contact: Contact) {
        self.note_return(now, &contact);
        match self.table.insert(now, contact.clone()) {
            Inserted::Added | Inserted::Known { moved: true } => {
                self.actions.push_back(Action::Peers(PeerChange::Added(contact)))
            }
            Inserted::Spare { doubtful } => {
                let unseen = self
                    .table
                    .get(&doubtful.overlay_id)
                    .map(|entry| now.saturating_since(entry.seen()));
                if unseen.is_some_and(|unseen| unseen >= DOUBT_AFTER) {
                    self.send(now, doubtful, Request::Ping, Purpose::Ping);
                }
            }
            Inserted::Known { moved: false } | Inserted::Refused => {}
        }
    }

    /// `contact` did not answer.
    pub(super) fn silent_peer(&mut self, now: Time, contact: &Contact) {
        if let Struck::Evicted { candidate } = self.table.strike(&contact.overlay_id) {
            self.actions.push_back(Action::Peers(PeerChange::Removed(contact.agent)));
            if self.upkeep.former.len() >= FORMER_MAX {
                self.upkeep.former.pop_front();
            }
            self.upkeep.former.push_back(contact.clone());
            if let Some(candidate) = candidate {
                self.send(now, candidate, Request::Ping, Purpose::Ping);
            }
        }
    }

    /// A contact that had fallen silent answers again: perhaps it is the other half of a network that was cut. Whom it knows
    /// is looked up, and custodians remembered from the time apart are looked up anew.
    fn note_return(&mut self, now: Time, contact: &Contact) {
        let before = self.upkeep.former.len();
        self.upkeep.former.retain(|former| former.overlay_id != contact.overlay_id);
        let came_back = self.upkeep.former.len() < before;
        if came_back && now.saturating_since(self.upkeep.returned) >= RETURN_PAUSE {
            self.upkeep.returned = now;
            self.publishing.forget_custodians();
            let breadth = self.find_breadth();
            let seeds = vec![contact.clone()];
            self.look_from(now, Goal::Fill(None), self.me.overlay_id, breadth, seeds);
        }
    }

    /// Asks contacts that fell silent whether they are back.
    fn ask_former(&mut self, now: Time) {
        let returning = self.upkeep.returned != Time::ZERO
            && now.saturating_since(self.upkeep.returned) < RETURN_COUNTS_FOR;
        let due = now.saturating_since(self.upkeep.former_asked) >= FORMER_EVERY;
        if !due && !returning {
            return;
        }
        self.upkeep.former_asked = now;
        let count = if returning { FORMER_AFTER_RETURN } else { 1 };
        for _ in 0..count.min(self.upkeep.former.len()) {
            if let Some(contact) = self.upkeep.former.pop_front() {
                self.upkeep.former.push_back(contact.clone());
                self.send(now, contact, Request::Ping, Purpose::Ping);
            }
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
                pings += usize::from(matches!(purpose, Purpose::Ping));
                known |= to.overlay_id == from.overlay_id;
            }
            if pings < PROBES_MAX && !known {
                self.send(now, from.clone(), Request::Ping, Purpose::Ping);
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
        let task = Task::Join(JoinJob { tried: 0, todo: Vec::new(), running: 1 });
        self.begin(now, id, task, None);
        self.enter(now, id);
        Ok(())
    }

    fn enter(&mut self, now: Time, id: CommandId) {
        let imported = std::mem::take(&mut self.upkeep.imported);
        let mut seeds = self.table.closest(&self.me.overlay_id, K);
        seeds.extend(self.upkeep.seeds.iter().cloned().chain(imported));
        seeds.retain(|seed| seed.overlay_id != self.me.overlay_id);
        let seeds: Vec<_> = seeds.into_iter().map(|seed| seed.with_server(true)).collect();
        if let Some(Task::Join(join)) = self.jobs.get_mut(&id).map(|job| &mut job.task) {
            join.tried = seeds.len();
        }
        let breadth = self.find_breadth();
        self.look_from(now, Goal::Join(id), self.me.overlay_id, breadth, seeds);
    }

    pub(super) fn joined_self(&mut self, now: Time, id: CommandId, lookup: &Lookup) {
        let Some(Task::Join(join)) = self.jobs.get_mut(&id).map(|job| &mut job.task) else {
            return;
        };
        join.running = 0;
        if lookup.answered() == 0 && join.tried > 0 {
            let tried = join.tried;
            if let Some(job) = self.finish(now, id) {
                self.report_job(id, &job, Outcome::Failed(CommandError::NoSeedAnswered { tried }));
            }
            return;
        }
        let mut todo = Vec::new();
        if lookup.is_exhaustive() {
            let found: Vec<_> = lookup.result().iter().map(|contact| contact.overlay_id).collect();
            self.note_sample(now, lookup.target(), &found, true);
        } else {
            for _ in 0..self.config.estimate_samples_join {
                todo.push((Goal::Sample(Some(id)), self.random_id()));
            }
            // The nearest bucket was filled by the lookup for the own id.
            for bucket in 0..self.table.buckets().saturating_sub(1) {
                let noise = self.noise();
                todo.push((Goal::Fill(Some(id)), self.table.place_in(bucket, noise)));
            }
        }
        if let Some(Task::Join(join)) = self.jobs.get_mut(&id).map(|job| &mut job.task) {
            join.todo = todo;
        }
        self.continue_join(now, id);
    }

    fn continue_join(&mut self, now: Time, id: CommandId) {
        loop {
            let Some(Task::Join(join)) = self.jobs.get_mut(&id).map(|job| &mut job.task) else {
                return;
            };
            if join.running >= JOIN_LOOKUPS_PARALLEL {
                return;
            }
            let Some((goal, target)) = join.todo.pop() else { break };
            join.running += 1;
            let breadth = if matches!(goal, Goal::Sample(_)) {
                self.sample_breadth()
            } else {
                self.refresh_breadth()
            };
            self.look(now, goal, target, breadth);
        }
        let idle = matches!(self.jobs.get(&id).map(|job| &job.task), Some(Task::Join(join)) if join.running == 0);
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

    pub(super) fn filled(&mut self, now: Time, command: Option<CommandId>) {
        self.join_step_done(now, command);
    }

    pub(super) fn sampled(&mut self, now: Time, command: Option<CommandId>, lookup: &Lookup) {
        let found: Vec<_> = lookup.result().iter().map(|contact| contact.overlay_id).collect();
        if !found.is_empty() {
            self.note_sample(now, lookup.target(), &found, lookup.is_exhaustive());
        }
        self.join_step_done(now, command);
    }

    fn note_sample(
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
        self.upkeep.sampled_at = self.table.len();
    }

    /// One path is enough for a sample, but it must find the `K` nearest.
    fn sample_breadth(&self) -> crate::lookup::Breadth {
        crate::lookup::Breadth { path_k: K, want: K, ..self.refresh_breadth() }
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
        for contact in self.table.unseen(now, self.config.ping_after, PINGS_PER_ROUND) {
            self.send(now, contact, Request::Ping, Purpose::Ping);
        }
        for bucket in self
            .table
            .idle_buckets(now, self.config.refresh_after)
            .into_iter()
            .take(REFRESHES_PER_ROUND)
        {
            let noise = self.noise();
            let target = self.table.place_in(bucket, noise);
            let breadth = self.refresh_breadth();
            self.look(now, Goal::Fill(None), target, breadth);
        }
        self.maintain_samples(now);
        self.rejoin(now);
        self.ask_former(now);
        self.ask_renewals(now);
        self.hasten_thin_items(now);
        self.schedule_maintenance(now);
    }

    fn maintain_samples(&mut self, now: Time) {
        let few = self.size.samples() < self.config.estimate_samples;
        let old = now.saturating_since(self.upkeep.last_sample) >= self.config.estimate_every;
        let doubled = self.table.len() > 2 * self.upkeep.sampled_at;
        if !self.table.is_empty() && (few || old || doubled) {
            let target = self.random_id();
            let breadth = self.sample_breadth();
            self.look(now, Goal::Sample(None), target, breadth);
        }
    }

    /// A table that ran empty is filled from the seeds again.
    fn rejoin(&mut self, now: Time) {
        let joining = self.jobs.values().any(|job| matches!(job.task, Task::Join(_)));
        if self.table.is_empty() && !self.upkeep.seeds.is_empty() && !joining {
            let id = self.begin_silent(
                now,
                Task::Join(JoinJob { tried: 0, todo: Vec::new(), running: 1 }),
                None,
            );
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
