//! Requests in flight and the lookups they serve.

use std::collections::{BTreeSet, VecDeque};

use comity_core::{AgentId, OverlayId, Time};

use super::audit::AuditStep;
use super::health::Patience;
use super::{Overlay, Timer};
use crate::config::{K, LOOKUP_SEEDS_MAX, LOOKUPS_MAX, REQUESTS_IN_FLIGHT_MAX};
use crate::contact::Contact;
use crate::drive::{Action, CommandId, Errand, Failure, RequestId};
use crate::few::Few;
use crate::item::{ItemKey, Services};
use crate::lookup::{Breadth, Lookup, Step, Surroundings, Sweep, sibling};
use crate::shard::Place;
use crate::wire::{
    ErrorCode, Known, QueryRequest, Request, Response, encoded_request_len, encoded_response_len,
};

/// Contacts each path of the search for the own place follows; then the `K` nearest of all paths are asked.
const JOIN_PATH_K: usize = 5;
/// Contacts each path of a lookup into a sibling subtree follows, beside everyone in the subtree.
const SWEEP_PATH_K: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LookupId(u64);

/// Whom a lookup is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Goal {
    /// The first lookup of a join, for the own id.
    Join(CommandId),
    /// Fills a bucket; part of a join, or a refresh.
    Fill(Option<CommandId>),
    /// A size sample; part of a join, or upkeep.
    Sample(Option<CommandId>),
    Closest(CommandId),
    /// Who keeps the summary shard at the target.
    Above,
    /// Where to store what belongs at the target.
    Publish(CommandId),
    Peer(CommandId),
    Query {
        command: CommandId,
        /// Index into the plan's keys.
        key: usize,
        placement: u8,
    },
    /// Finds who is in a sibling subtree of another lookup's target.
    Sweep {
        parent: LookupId,
        command: Option<CommandId>,
    },
}

impl Goal {
    /// Its result is, or is heard from, custodians: nodes in quarantine have no part in it.
    const fn asks_custodians(&self) -> bool {
        match self {
            Self::Publish(_) | Self::Peer(_) | Self::Query { .. } | Self::Sweep { .. } => true,
            Self::Join(_) | Self::Fill(_) | Self::Sample(_) | Self::Closest(_) | Self::Above => {
                false
            }
        }
    }

    const fn command(&self) -> Option<CommandId> {
        match self {
            Self::Join(id)
            | Self::Closest(id)
            | Self::Publish(id)
            | Self::Peer(id)
            | Self::Query { command: id, .. } => Some(*id),
            Self::Fill(id) | Self::Sample(id) | Self::Sweep { command: id, .. } => *id,
            Self::Above => None,
        }
    }
}

#[derive(Debug)]
struct Running {
    lookup: Lookup,
    goal: Goal,
    deadline: Time,
}

#[derive(Debug)]
struct Waiting {
    goal: Goal,
    target: OverlayId,
    breadth: Breadth,
    seeds: Vec<Contact>,
}

/// All lookups.
#[derive(Debug, Default)]
pub(super) struct Lookups {
    next: u64,
    running: Few<LookupId, Running>,
    /// Not started for want of room; bounded by what the bounded number of jobs starts at once.
    waiting: VecDeque<Waiting>,
    /// Those that may have something to do.
    ready: BTreeSet<LookupId>,
    /// Those that wait for a free request.
    stalled: BTreeSet<LookupId>,
}

impl Lookups {
    pub(super) fn len(&self) -> usize {
        self.running.len()
    }

    /// What the lookup for `goal` knows of the nodes around its target.
    pub(super) fn surroundings(&self, goal: &Goal) -> Surroundings {
        let running = self.running.values().find(|running| running.goal == *goal);
        running.map_or_else(Surroundings::default, |running| running.lookup.surroundings())
    }

    /// Ends the lookups of `command` that `which` selects.
    pub(super) fn stop(&mut self, command: CommandId, which: impl Fn(&Goal) -> bool) {
        for (id, running) in self.running.iter_mut() {
            if running.goal.command() == Some(command) && which(&running.goal) {
                running.lookup.stop();
                self.ready.insert(*id);
            }
        }
        self.waiting
            .retain(|waiting| waiting.goal.command() != Some(command) || !which(&waiting.goal));
    }
}

/// A request without answer yet.
#[derive(Debug)]
pub(super) struct InFlight {
    to: Contact,
    sent: Time,
    slow_at: Time,
    lost_at: Time,
    patience: Patience,
    purpose: Purpose,
}

/// What a request is for.
#[derive(Clone, Debug)]
pub(super) enum Purpose {
    /// Is a table entry, or a candidate for one, alive?
    Ping(Errand),
    /// Is a contact of an earlier run there, asks a join.
    Greet(CommandId),
    Lookup(LookupId),
    /// Stores; `entries` index the job's items and places.
    Store {
        command: CommandId,
        entries: Vec<(usize, Place)>,
    },
    Leave(CommandId),
    /// Does a custodian show the own digest it said it keeps?
    Audit {
        key: ItemKey,
        place: Place,
        step: AuditStep,
    },
    /// Tells a custodian of a summary shard about a leaf.
    Report,
    /// Compares what is held with a fellow custodian.
    Reconcile(super::reconcile::Asked),
}

impl Purpose {
    /// Whether success or failure says something about the other entries of the table: not when this one was chosen because it is likely
    /// to be gone.
    const fn tells(&self) -> bool {
        !matches!(self, Self::Ping(Errand::Ping | Errand::Probe))
    }
}

impl Overlay {
    /// An authenticated peer answers request `id`. Answers nobody waits for are ignored.
    pub fn response(
        &mut self,
        now: Time,
        services: &mut dyn Services,
        from: &AgentId,
        id: RequestId,
        response: Response,
    ) {
        self.note_call(now);
        let Some(in_flight) = self.requests.get(&id) else { return };
        if in_flight.to.agent != *from {
            return;
        }
        if let Response::Error(code) = response {
            self.settle_failed(now, id, Failure::Refused(code));
            self.pump(now);
            return;
        }
        let Some(in_flight) = self.take_request(id) else { return };
        let own = in_flight.patience.own_delay(&self.health);
        self.rtt.sample(now.saturating_since(in_flight.sent).saturating_sub(own));
        self.answered(now, in_flight.to.clone(), in_flight.purpose.tells());
        self.count_bytes_received(&in_flight.purpose, &response);
        let understood = match in_flight.purpose.clone() {
            Purpose::Ping(_) | Purpose::Leave(_) => {
                self.left_told(now, &in_flight.purpose);
                true
            }
            Purpose::Greet(command) => {
                self.greeted(now, command, None);
                true
            }
            Purpose::Lookup(lookup) => {
                self.lookup_answered(now, services, lookup, &in_flight.to, response)
            }
            Purpose::Store { command, entries } => {
                self.store_answered(now, command, &in_flight.to, &entries, response)
            }
            Purpose::Audit { key, place, step } => {
                self.audit_answered(now, services, &in_flight.to, (key, place, step), response)
            }
            Purpose::Report => true,
            Purpose::Reconcile(asked) => {
                self.reconcile_answered(now, services, &in_flight.to, &asked, response)
            }
        };
        if !understood {
            self.purpose_failed(now, &in_flight, Failure::Malformed);
        }
        self.pump(now);
    }

    /// Request `id` could not be delivered or answered. Unknown ids are ignored.
    pub fn failed(&mut self, now: Time, id: RequestId, failure: Failure) {
        self.note_call(now);
        self.settle_failed(now, id, failure);
        self.pump(now);
    }

    /// Sends a request if there is room for one more.
    pub(super) fn send(
        &mut self,
        now: Time,
        to: Contact,
        request: Request,
        purpose: Purpose,
    ) -> bool {
        if self.requests.len() >= REQUESTS_IN_FLIGHT_MAX || to.overlay_id == self.me.overlay_id {
            return false;
        }
        self.next_request += 1;
        let id = RequestId(self.next_request);
        let failing = self.is_failing()
            || match &purpose {
                Purpose::Lookup(lookup) => self
                    .lookups
                    .running
                    .get(lookup)
                    .is_some_and(|running| running.lookup.is_failing()),
                Purpose::Ping(_)
                | Purpose::Greet(_)
                | Purpose::Store { .. }
                | Purpose::Leave(_)
                | Purpose::Audit { .. }
                | Purpose::Report
                | Purpose::Reconcile(_) => false,
            };
        let hard =
            if failing { self.config.hard_timeout_failing } else { self.config.hard_timeout };
        let soft = (self.rtt.get() * 2).max(self.config.soft_timeout_min).min(hard);
        let in_flight = InFlight {
            to: to.clone(),
            sent: now,
            slow_at: now + soft,
            lost_at: now + hard,
            patience: Patience::new(&self.health),
            purpose,
        };
        self.timers.insert((in_flight.slow_at, Timer::Slow(id)));
        self.timers.insert((in_flight.lost_at, Timer::Lost(id)));
        self.counters.sent += 1;
        let errand = self.errand(&in_flight.purpose);
        let addrs = self.me.addrs.len();
        if let Some(job) =
            self.command_of(&in_flight.purpose).and_then(|command| self.jobs.get_mut(&command))
        {
            job.cost.requests += 1;
            job.cost.bytes_sent += encoded_request_len(&request, addrs) as u64;
        }
        self.requests.insert(id, in_flight);
        self.actions.push_back(Action::Send { to, id, request, errand });
        true
    }

    fn errand(&self, purpose: &Purpose) -> Errand {
        match purpose {
            Purpose::Ping(errand) => *errand,
            Purpose::Greet(_) => Errand::Join,
            Purpose::Leave(_) => Errand::Leave,
            Purpose::Lookup(id) => {
                let running = self.lookups.running.get(id);
                running.map_or(Errand::Refresh, |running| self.errand_of(running))
            }
            Purpose::Store { command, .. } if self.is_silent_job(*command) => Errand::Renewal,
            Purpose::Store { .. } => Errand::Store,
            Purpose::Audit { .. } => Errand::Audit,
            Purpose::Report => Errand::Report,
            Purpose::Reconcile(_) => Errand::Reconcile,
        }
    }

    fn errand_of(&self, running: &Running) -> Errand {
        match running.goal {
            Goal::Join(_) | Goal::Fill(Some(_)) | Goal::Sample(Some(_)) => Errand::Join,
            Goal::Fill(None) | Goal::Sample(None) if self.upkeep.is_recovering() => {
                Errand::Recovery
            }
            Goal::Fill(None) => Errand::Refresh,
            Goal::Sample(None) => Errand::Sample,
            Goal::Publish(id) if self.is_checking(id, running.lookup.target()) => Errand::Check,
            Goal::Publish(id) if self.is_silent_job(id) => Errand::PlaceAgain,
            Goal::Publish(_) => Errand::Place,
            Goal::Peer(_) | Goal::Closest(_) => Errand::Find,
            Goal::Query { .. } => Errand::Query,
            // A sweep has no sweeps.
            Goal::Sweep { parent, .. } => {
                let parent = self.lookups.running.get(&parent);
                parent.map_or(Errand::Query, |parent| self.errand_of(parent))
            }
            Goal::Above => Errand::Report,
        }
    }

    /// Whether the machine began a job of its own accord.
    fn is_silent_job(&self, id: CommandId) -> bool {
        self.jobs.get(&id).is_some_and(|job| job.silent)
    }

    /// Whom requests in flight went to, and what for.
    pub(super) fn requests_to(&self) -> impl Iterator<Item = (&Contact, &Purpose)> + '_ {
        self.requests.values().map(|in_flight| (&in_flight.to, &in_flight.purpose))
    }

    /// The job a request works for.
    fn command_of(&self, purpose: &Purpose) -> Option<CommandId> {
        match purpose {
            Purpose::Ping(_) | Purpose::Audit { .. } | Purpose::Report | Purpose::Reconcile(_) => {
                None
            }
            Purpose::Lookup(id) => self.lookups.running.get(id)?.goal.command(),
            Purpose::Store { command, .. } | Purpose::Leave(command) | Purpose::Greet(command) => {
                Some(*command)
            }
        }
    }

    fn count_bytes_received(&mut self, purpose: &Purpose, response: &Response) {
        if let Some(job) = self.command_of(purpose).and_then(|command| self.jobs.get_mut(&command))
        {
            job.cost.bytes_received += encoded_response_len(response) as u64;
        }
    }

    fn take_request(&mut self, id: RequestId) -> Option<InFlight> {
        let in_flight = self.requests.remove(&id)?;
        self.timers.remove(&(in_flight.slow_at, Timer::Slow(id)));
        self.timers.remove(&(in_flight.lost_at, Timer::Lost(id)));
        let stalled = std::mem::take(&mut self.lookups.stalled);
        self.lookups.ready.extend(stalled);
        Some(in_flight)
    }

    pub(super) fn request_slow(&mut self, now: Time, id: RequestId) {
        let Some(in_flight) = self.requests.get_mut(&id) else { return };
        if in_flight.patience.defers_slow(&self.health) {
            in_flight.slow_at = now + in_flight.slow_at.saturating_since(in_flight.sent);
            self.timers.insert((in_flight.slow_at, Timer::Slow(id)));
            return;
        }
        if let Purpose::Lookup(lookup) = in_flight.purpose
            && let Some(running) = self.lookups.running.get_mut(&lookup)
        {
            running.lookup.on_slow(&in_flight.to.overlay_id);
            self.lookups.ready.insert(lookup);
        }
    }

    pub(super) fn request_lost(&mut self, now: Time, id: RequestId) {
        if self.grant_grace(now, id) {
            return;
        }
        self.settle_failed(now, id, Failure::Timeout);
    }

    /// Gives a request more time that waited for this node itself.
    fn grant_grace(&mut self, now: Time, id: RequestId) -> bool {
        let (min, max) = (self.config.soft_timeout_min, self.config.hard_timeout);
        let Some(in_flight) = self.requests.get_mut(&id) else { return false };
        let Some(own) = in_flight.patience.grace(&self.health) else { return false };
        in_flight.lost_at = now + own.max(min).min(max);
        self.timers.insert((in_flight.lost_at, Timer::Lost(id)));
        true
    }

    fn settle_failed(&mut self, now: Time, id: RequestId, failure: Failure) {
        let Some(in_flight) = self.take_request(id) else { return };
        match failure {
            Failure::Refused(ErrorCode::NotServing) => self.forget(&in_flight.to),
            Failure::Refused(_) | Failure::Local => {}
            Failure::Timeout | Failure::Unreachable | Failure::Closed
                if in_flight.patience.is_excused(&self.health) =>
            {
                self.counters.failed += 1;
                self.counters.unproven += 1;
            }
            Failure::Timeout
            | Failure::Unreachable
            | Failure::WrongIdentity
            | Failure::Malformed
            | Failure::Closed => {
                self.counters.failed += 1;
                // Others on a machine that is too slow are late when this node is: that many are silent then is no sign that they went.
                let tells = in_flight.purpose.tells() && in_flight.patience.is_plain();
                self.silent_peer(now, &in_flight.to, tells);
            }
        }
        self.purpose_failed(now, &in_flight, failure);
    }

    fn purpose_failed(&mut self, now: Time, in_flight: &InFlight, failure: Failure) {
        if let Some(job) =
            self.command_of(&in_flight.purpose).and_then(|command| self.jobs.get_mut(&command))
        {
            job.cost.failures += 1;
        }
        match &in_flight.purpose {
            // A custodian that is silent proves nothing.
            Purpose::Ping(_) | Purpose::Audit { .. } => {}
            Purpose::Report => self.report_failed(&in_flight.to),
            Purpose::Reconcile(_) => self.reconcile_failed(&in_flight.to),
            Purpose::Leave(_) => self.left_told(now, &in_flight.purpose),
            Purpose::Greet(command) => self.greeted(now, *command, Some(&in_flight.to)),
            Purpose::Lookup(lookup) => {
                let Some(running) = self.lookups.running.get_mut(lookup) else { return };
                running.lookup.on_failure(&in_flight.to.overlay_id);
                self.lookups.ready.insert(*lookup);
                if let Goal::Query { command, key, placement } = running.goal {
                    self.custodian_failed(command, key, placement, &in_flight.to, failure);
                }
            }
            Purpose::Store { command, entries } => {
                self.store_failed(now, *command, &in_flight.to, entries, failure)
            }
        }
    }

    // ---- lookups ----

    /// Breadth of a lookup for the nodes nearest to a place.
    pub(super) fn near_breadth(&self) -> Breadth {
        Breadth {
            paths: self.config.find_paths,
            path_k: self.config.find_path_k,
            want: K,
            region: None,
            expected: 0,
            trust_names: false,
            grown: false,
            alpha: self.config.alpha,
            alpha_failing: self.config.alpha_failing,
            failing: self.is_failing(),
            strained: self.health.is_strained(),
            first: 0,
        }
    }

    /// Breadth of a lookup that reads what custodians keep.
    pub(super) fn find_breadth(&self, now: Time) -> Breadth {
        let region = self.config.region.then(|| self.region());
        let holders = self.config.holders.max(1);
        let trust_names = self.upkeep.is_calm(now);
        let grown = self.has_shrunk(now);
        let near = self.near_breadth();
        Breadth { want: holders, region, expected: holders, trust_names, grown, ..near }
    }

    /// Breadth of a lookup that finds where to store.
    pub(super) fn store_breadth(&self, now: Time) -> Breadth {
        let (paths, path_k) = (self.config.store_paths, self.config.store_path_k);
        // The twenty nearest: of ten, liars could be most.
        Breadth { paths, path_k, want: K, ..self.find_breadth(now) }
    }

    /// Breadth of a lookup that asks some known custodians, `asked` at least, who is beside them.
    pub(super) fn check_breadth(&self, asked: usize) -> Breadth {
        Breadth { paths: asked, path_k: 1, want: 1, ..self.near_breadth() }
    }

    /// Breadth of a lookup for a withdrawal: further out than any store went whose region was a little larger.
    pub(super) fn withdrawal_breadth(&self, now: Time) -> Breadth {
        let stored = self.store_breadth(now);
        let region = stored.region.map(|region| region.times(2));
        Breadth { want: 2 * self.config.holders, region, ..stored }
    }

    /// Breadth of a lookup that only refreshes the table.
    pub(super) fn refresh_breadth(&self) -> Breadth {
        Breadth {
            paths: 1,
            path_k: self.config.refresh_k,
            want: self.config.refresh_k,
            ..self.near_breadth()
        }
    }

    /// Breadth of the search for the own place: one for its neighbours, whom it tells that it is there.
    pub(super) fn join_breadth(&self) -> Breadth {
        Breadth { path_k: JOIN_PATH_K, ..self.near_breadth() }
    }

    /// Starts a lookup from the table.
    pub(super) fn look(&mut self, now: Time, goal: Goal, target: OverlayId, breadth: Breadth) {
        let seeds = self.seeds(now, &target);
        self.look_from(now, goal, target, breadth, seeds);
    }

    /// The contacts a search begins with. While most requests fail, those that have just failed are passed over.
    pub(super) fn seeds(&self, now: Time, target: &OverlayId) -> Vec<Contact> {
        if self.vitals.is_failing() {
            let mut seeds = self.table.closest(target, LOOKUP_SEEDS_MAX);
            seeds.retain(|seed| !self.is_silent(now, &seed.overlay_id));
            seeds.truncate(K);
            if !seeds.is_empty() {
                return seeds;
            }
        }
        self.table.closest(target, K)
    }

    /// Whether most requests fail, and searches should go on with more at once: not while this node gets behind with what it does.
    fn is_failing(&self) -> bool {
        self.vitals.is_failing() && !self.health.is_strained()
    }

    /// Whether a peer is not worth asking or naming now. For a while after many went, the names of those who did are told by nodes that
    /// have not noticed: of them, one failure is enough.
    pub(super) fn is_silent(&self, now: Time, id: &OverlayId) -> bool {
        let doubtful = !self.upkeep.is_calm(now) && self.table.get(id).is_none();
        self.vitals.is_silent(now, id, doubtful)
    }

    /// Starts a lookup, or queues it when too many run.
    pub(super) fn look_from(
        &mut self,
        now: Time,
        goal: Goal,
        target: OverlayId,
        breadth: Breadth,
        seeds: Vec<Contact>,
    ) {
        // Their parents hold a slot and wait for them.
        let is_part = matches!(goal, Goal::Sweep { .. });
        if self.lookups.running.len() >= LOOKUPS_MAX && !is_part {
            self.lookups.waiting.push_back(Waiting { goal, target, breadth, seeds });
            return;
        }
        self.lookups.next += 1;
        let id = LookupId(self.lookups.next);
        let deadline = now + self.config.lookup_deadline;
        self.timers.insert((deadline, Timer::Lookup(id)));
        self.table.aimed(now, &target);
        let mut seeds = seeds;
        if goal.asks_custodians() {
            seeds.retain(|seed| !self.quarantine.holds(now, &seed.agent));
        }
        let lookup = Lookup::new(target, self.me.overlay_id, breadth, seeds);
        self.lookups.running.insert(id, Running { lookup, goal, deadline });
        self.lookups.ready.insert(id);
    }

    /// Lets every lookup that may have something to do go on until none has.
    pub(super) fn pump(&mut self, now: Time) {
        while let Some(id) = self.lookups.ready.pop_first() {
            self.advance(now, id);
            while self.lookups.running.len() < LOOKUPS_MAX
                && let Some(waiting) = self.lookups.waiting.pop_front()
            {
                self.look_from(now, waiting.goal, waiting.target, waiting.breadth, waiting.seeds);
            }
        }
    }

    fn advance(&mut self, now: Time, id: LookupId) {
        loop {
            if self.requests.len() >= REQUESTS_IN_FLIGHT_MAX {
                self.lookups.stalled.insert(id);
                return;
            }
            let is_answered = self.is_answered(id);
            let Some(running) = self.lookups.running.get_mut(&id) else { return };
            if is_answered {
                running.lookup.stop();
            }
            match running.lookup.step() {
                Step::Ask(contact) => {
                    let (goal, target) = (running.goal, *running.lookup.target());
                    let known = running.lookup.known_for(&contact.overlay_id);
                    let request = self.question(&goal, target, &contact, known);
                    if !self.send(now, contact.clone(), request, Purpose::Lookup(id))
                        && let Some(running) = self.lookups.running.get_mut(&id)
                    {
                        running.lookup.on_failure(&contact.overlay_id);
                    }
                }
                Step::Wait => return,
                Step::Widen => {
                    let wide = self.table.closest(running.lookup.target(), LOOKUP_SEEDS_MAX);
                    running.lookup.widen(wide);
                }
                Step::Sweep(sweeps) => {
                    let (goal, target) = (running.goal, *running.lookup.target());
                    self.sweep(now, id, goal, target, &sweeps);
                }
                Step::Done if self.is_missed(id) => {}
                Step::Done => return self.lookup_done(now, id),
            }
        }
    }

    /// Whether those that did not answer leave nobody worth asking: answers are judged as they come, silence is here.
    fn is_answered(&self, id: LookupId) -> bool {
        let running =
            self.lookups.running.get(&id).filter(|running| running.lookup.judges_silence());
        let Some(Running { lookup, goal: Goal::Query { command, key, placement }, .. }) = running
        else {
            return false;
        };
        self.is_query_enough(*command, *key, *placement, lookup.surroundings())
    }

    /// Whether a lookup that has nothing more to ask found too little, and was widened for that.
    fn is_missed(&mut self, id: LookupId) -> bool {
        let Some(Running { lookup, goal, .. }) = self.lookups.running.get(&id) else {
            return false;
        };
        if lookup.is_stopped() || lookup.is_exhaustive() {
            return false;
        }
        let missed = match *goal {
            Goal::Query { command, key, .. } => {
                self.is_query_doubtful(command, key, lookup.surroundings(), lookup.settled())
            }
            Goal::Peer(command) => !lookup.is_escalated() && self.is_peer_missed(command),
            Goal::Publish(_) => lookup.is_thin(),
            Goal::Join(_)
            | Goal::Fill(_)
            | Goal::Sample(_)
            | Goal::Closest(_)
            | Goal::Above
            | Goal::Sweep { .. } => false,
        };
        missed && self.lookups.running.get_mut(&id).is_some_and(|running| running.lookup.escalate())
    }

    /// Looks into the sibling subtrees of a lookup's target.
    fn sweep(
        &mut self,
        now: Time,
        parent: LookupId,
        goal: Goal,
        target: OverlayId,
        sweeps: &[Sweep],
    ) {
        self.counters.sweeps += 1;
        let command = goal.command();
        for Sweep { bits, region } in sweeps {
            let aim = sibling(&target, *bits, self.noise());
            let breadth = Breadth {
                path_k: SWEEP_PATH_K,
                want: SWEEP_PATH_K,
                region: Some(*region),
                ..self.near_breadth()
            };
            self.look(now, Goal::Sweep { parent, command }, aim, breadth);
        }
    }

    fn swept(&mut self, parent: LookupId, contacts: Vec<Contact>) {
        let Some(running) = self.lookups.running.get_mut(&parent) else { return };
        // The same question as a sweep's own, and an answer to it.
        let asks_the_way = matches!(running.goal, Goal::Publish(_));
        running.lookup.swept(contacts, !asks_the_way);
        self.lookups.ready.insert(parent);
    }

    /// What a lookup asks a contact.
    fn question(&self, goal: &Goal, target: OverlayId, contact: &Contact, known: Known) -> Request {
        let plain = |known| Request::FindNode { target, known };
        match goal {
            Goal::Query { command, key, placement } => {
                let query = self.custody_question(*command, *key, *placement, target, contact);
                match query {
                    Some(query) => Request::Query(QueryRequest { known, ..query }),
                    None => plain(known),
                }
            }
            Goal::Peer(command) => match self.peer_question(*command) {
                Some((prefix, bits)) => Request::FindPeer { prefix, bits, target, known },
                None => plain(known),
            },
            Goal::Join(_)
            | Goal::Fill(_)
            | Goal::Sample(_)
            | Goal::Closest(_)
            | Goal::Above
            | Goal::Publish(_)
            | Goal::Sweep { .. } => plain(known),
        }
    }

    /// Returns whether the response is one that the lookup can have asked for.
    fn lookup_answered(
        &mut self,
        now: Time,
        services: &mut dyn Services,
        id: LookupId,
        from: &Contact,
        response: Response,
    ) -> bool {
        let Some(running) = self.lookups.running.get(&id) else { return true };
        let goal = running.goal;
        let contacts = match (response, goal) {
            (Response::Nodes { contacts }, _) => contacts,
            (Response::Found { answer, closer }, Goal::Query { command, key, placement }) => {
                self.custodian_answered(now, services, command, key, placement, from, answer);
                closer
            }
            (Response::Peer { records, closer }, Goal::Peer(command)) => {
                self.records_found(now, services, command, from, records);
                closer
            }
            _ => return false,
        };
        let mut contacts = contacts;
        let trusted = |contact: &Contact| {
            !goal.asks_custodians() || !self.quarantine.holds(now, &contact.agent)
        };
        contacts.retain(|contact| trusted(contact) && !self.is_silent(now, &contact.overlay_id));
        if let Some(running) = self.lookups.running.get_mut(&id) {
            running.lookup.on_success(&from.overlay_id, contacts);
            self.lookups.ready.insert(id);
            if let Goal::Publish(command) = goal {
                let position = *running.lookup.target();
                self.custodian_found(now, command, position, from);
            }
        }
        true
    }

    pub(super) fn lookup_expired(&mut self, now: Time, id: LookupId) {
        if self.lookups.running.contains_key(&id) {
            self.lookup_done(now, id);
        }
    }

    fn lookup_done(&mut self, now: Time, id: LookupId) {
        let Some(running) = self.lookups.running.remove(&id) else { return };
        self.timers.remove(&(running.deadline, Timer::Lookup(id)));
        self.lookups.stalled.remove(&id);
        let Running { lookup, goal, .. } = running;
        for (part, running) in self.lookups.running.iter_mut() {
            if matches!(running.goal, Goal::Sweep { parent, .. } if parent == id) {
                running.lookup.stop();
                self.lookups.ready.insert(*part);
            }
        }
        if let Some(job) = goal.command().and_then(|command| self.jobs.get_mut(&command)) {
            job.cost.hops = job.cost.hops.max(lookup.hops());
        }
        match goal {
            Goal::Join(command) => self.joined_self(now, command, &lookup),
            Goal::Fill(command) => self.filled(now, command, &lookup),
            Goal::Sample(command) => self.sampled(now, command, &lookup),
            Goal::Closest(command) => self.closest_found(now, command, lookup.result()),
            Goal::Above => self.above_found(now, &lookup),
            Goal::Publish(command) => self.place_found(now, command, &lookup),
            Goal::Peer(command) => self.peer_searched(now, command, &lookup),
            Goal::Query { command, key, .. } => self.placement_searched(now, command, key, &lookup),
            Goal::Sweep { parent, .. } => self.swept(parent, lookup.result()),
        }
    }
}
