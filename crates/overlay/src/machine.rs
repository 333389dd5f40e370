//! The state machine: its parts, the public calls, and the timers.

mod audit;
mod former;
mod health;
mod noise;
mod peer;
mod publish;
mod quarantine;
mod query;
mod rate;
mod reconcile;
mod recovery;
mod routing;
mod serve;
mod summary;
mod timers;
mod traffic;
mod vitals;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use comity_core::{AgentId, OverlayId, Time};

use crate::config::{COMMANDS_MAX, Config, K, REGION_SLACK};
use crate::contact::Contact;
use crate::drive::{
    Action, Command, CommandError, CommandId, Cost, CustodyChange, CustodyRow, LookupReport,
    Outcome, Reason, RequestId, Stats,
};
use crate::estimate::{NetworkSize, RoundTrip};
use crate::few::Few;
use crate::item::{ItemKey, ItemKind, Reject, Services, VerifiedItem};
use crate::shard::{Place, Region};
use crate::store::{Custody, GroupName};
use crate::table::Table;

use audit::Audits;
use health::Health;
use noise::Noise;
use peer::PeerJob;
use publish::{PublishJob, Publishing};
use quarantine::Quarantine;
use query::QueryJob;
use rate::Rates;
use reconcile::Reconciling;
use routing::{JoinJob, LeaveJob, Upkeep};
use summary::Summaries;
pub use summary::{LeafReport, summary_of};
use timers::Timers;
use traffic::{InFlight, Lookups};
use vitals::Vitals;

/// One node's overlay. See the crate documentation for how to drive it.
#[derive(Debug)]
pub struct Overlay {
    // Given.
    config: Arc<Config>,
    me: Contact,
    rng: Noise,
    // Knowledge.
    table: Table,
    custody: Custody,
    rtt: RoundTrip,
    size: NetworkSize,
    vitals: Vitals,
    health: Health,
    // Work.
    jobs: Few<CommandId, Job>,
    lookups: Lookups,
    requests: Few<RequestId, InFlight>,
    publishing: Publishing,
    warm: query::Warm,
    audits: Audits,
    quarantine: Quarantine,
    summaries: Summaries,
    reconciling: Reconciling,
    upkeep: Upkeep,
    rates: Rates,
    // Out.
    actions: VecDeque<Action>,
    timers: Timers,
    // Names and counters.
    next_command: u64,
    next_request: u64,
    counters: Counters,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counters {
    sent: u64,
    failed: u64,
    unproven: u64,
    served: u64,
    refused: u64,
    rejected: u64,
    sweeps: u64,
    mass_failures: u64,
    merges: u64,
    audits: u64,
    omissions: u64,
    quarantined: u64,
}

/// A command being carried out, or the machine's own equivalent of one.
#[derive(Debug)]
struct Job {
    started: Time,
    cost: Cost,
    /// The machine started it itself: no outcome is reported.
    silent: bool,
    /// When it must end, if it has a timer.
    deadline: Option<Time>,
    task: Task,
}

#[derive(Debug)]
enum Task {
    Join(JoinJob),
    Publish(Box<PublishJob>),
    Peer(Box<PeerJob>),
    Query(Box<QueryJob>),
    Closest,
    Leave(LeaveJob),
}

/// What a timer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Slow(RequestId),
    Lost(RequestId),
    Lookup(traffic::LookupId),
    Command(CommandId),
    Republish,
    Summaries,
    Reconcile,
    Maintenance,
    Recovery,
}

impl Timer {
    const fn reason(self) -> Reason {
        match self {
            Self::Slow(_) => Reason::SlowRequest,
            Self::Lost(_) => Reason::LostRequest,
            Self::Lookup(_) => Reason::LookupDeadline,
            Self::Command(_) => Reason::CommandDeadline,
            Self::Republish => Reason::Republish,
            Self::Summaries | Self::Reconcile | Self::Maintenance | Self::Recovery => {
                Reason::Maintenance
            }
        }
    }
}

impl Overlay {
    /// A node that knows nobody yet. `rng_seed` decides every random choice it will make. Nodes of one process may share `config`.
    #[must_use]
    pub fn new(config: impl Into<Arc<Config>>, me: Contact, rng_seed: [u8; 32], now: Time) -> Self {
        let config = config.into();
        let mut overlay = Self {
            table: Table::new(me.overlay_id, config.exempt.clone(), now),
            custody: Custody::new(config.custody_bytes_max, config.shard_digests),
            rtt: RoundTrip::new(),
            size: NetworkSize::new(config.estimate_samples),
            vitals: Vitals::default(),
            health: Health::default(),
            publishing: Publishing::new(config.republish_max),
            summaries: Summaries::default(),
            reconciling: Reconciling::default(),
            config,
            me,
            rng: Noise::new(rng_seed),
            jobs: Few::new(),
            lookups: Lookups::default(),
            requests: Few::new(),
            warm: query::Warm::default(),
            audits: Audits::default(),
            quarantine: Quarantine::default(),
            upkeep: Upkeep::default(),
            rates: Rates::default(),
            actions: VecDeque::new(),
            timers: Timers::default(),
            next_command: 0,
            next_request: 0,
            counters: Counters::default(),
        };
        overlay.schedule_maintenance(now);
        overlay.schedule_reconciliation(now);
        overlay
    }

    /// Starts a command. Its outcome comes as [`Action::Done`], possibly in this drain.
    pub fn command(
        &mut self,
        now: Time,
        services: &mut dyn Services,
        command: Command,
    ) -> CommandId {
        self.note_call(now);
        let id = self.name_command();
        if self.jobs.values().filter(|job| !job.silent).count() >= COMMANDS_MAX {
            self.report(id, Outcome::Failed(CommandError::Busy));
            return id;
        }
        let started = match command {
            Command::Join { seeds } => self.start_join(now, id, seeds),
            Command::Publish { items } => self.start_publish(now, services, id, items),
            Command::Retire { tombstones } => self.start_retire(now, services, id, tombstones),
            Command::FindPeer(wanted) => self.start_find_peer(now, id, wanted),
            Command::Query(query) => self.start_query(now, services, id, query),
            Command::Lookup { target } => self.start_closest(now, id, target),
            Command::Leave => self.start_leave(now, id),
        };
        if let Err(error) = started {
            self.jobs.remove(&id);
            self.report(id, Outcome::Failed(error));
        }
        self.pump(now);
        id
    }

    /// Does what is due. Call when [`Self::poll_timeout`] says so; earlier calls do nothing.
    pub fn timeout(&mut self, now: Time) {
        self.note_call(now);
        while let Some((due, timer)) = self.timers.first() {
            if due > now {
                break;
            }
            self.timers.pop_first();
            match timer {
                Timer::Slow(id) => self.request_slow(now, id),
                Timer::Lost(id) => self.request_lost(now, id),
                Timer::Lookup(id) => self.lookup_expired(now, id),
                Timer::Command(id) => self.command_expired(now, id),
                Timer::Republish => self.republish(now),
                Timer::Summaries => self.report_leaves(now),
                Timer::Reconcile => self.reconcile(now),
                Timer::Maintenance => self.maintain(now),
                Timer::Recovery => self.recover(now),
            }
            self.pump(now);
        }
    }

    /// The next action, oldest first.
    pub fn poll_action(&mut self) -> Option<Action> {
        let action = self.actions.pop_front();
        if action.is_none() && self.actions.capacity() > 0 {
            // A process may hold many nodes, and most have nothing to do.
            self.actions = VecDeque::new();
        }
        action
    }

    /// When to call [`Self::timeout`] next, and why.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Time, Reason)> {
        self.timers.first().map(|(due, timer)| (due, timer.reason()))
    }

    /// This node's own contact.
    #[must_use]
    pub const fn me(&self) -> &Contact {
        &self.me
    }

    /// The own addresses or role changed. The peer record is the shell's to sign and publish again.
    pub fn set_me(&mut self, addrs: Vec<SocketAddr>, server: bool) {
        self.me = Contact::new(self.me.agent, self.me.overlay_id, addrs, server);
    }

    /// The routing table.
    #[must_use]
    pub const fn table(&self) -> &Table {
        &self.table
    }

    /// What this node stores.
    #[must_use]
    pub const fn custody(&self) -> &Custody {
        &self.custody
    }

    /// Counters and sizes.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats {
            peers: self.table.len(),
            buckets: self.table.buckets(),
            size_estimate: self.size_estimate(),
            rtt: self.rtt.get(),
            requests_in_flight: self.requests.len(),
            lookups: self.lookups.len(),
            commands: self.jobs.values().filter(|job| !job.silent).count(),
            published: self.publishing.len(),
            custody_items: self.custody.len(),
            custody_bytes: self.custody.bytes(),
            custody_shards: self.custody.shards().count(),
            requests_sent: self.counters.sent,
            requests_failed: self.counters.failed,
            requests_unproven: self.counters.unproven,
            stalls: self.health.stalls(),
            late: self.health.late(),
            requests_served: self.counters.served,
            requests_refused: self.counters.refused,
            items_rejected: self.counters.rejected,
            sweeps: self.counters.sweeps,
            mass_failures: self.counters.mass_failures,
            merges: self.counters.merges,
            audits: self.counters.audits,
            omissions: self.counters.omissions,
            quarantined: self.counters.quarantined,
            in_quarantine: self.quarantine.len(),
        }
    }

    /// Estimated number of nodes, this one included: the median of random samples, at least as many as are known to be there.
    #[must_use]
    pub fn size_estimate(&self) -> u64 {
        let known = self.table.len() + 1;
        self.size.get(known).max(known as u64)
    }

    /// The table's contacts, nearest first: what a restart needs to come back.
    #[must_use]
    pub fn export_peers(&self) -> Vec<Contact> {
        self.table.closest(&self.me.overlay_id, usize::MAX)
    }

    /// Contacts of an earlier run, the first 320. The next join asks them, and who answers enters the table.
    pub fn import_peers(&mut self, mut contacts: Vec<Contact>) {
        contacts.truncate(routing::IMPORTED_MAX);
        self.upkeep.imported = contacts;
    }

    /// Puts contacts into the table as if they had answered: for simulations that start from a built network.
    pub fn preload_peers(&mut self, now: Time, contacts: impl IntoIterator<Item = Contact>) {
        for contact in contacts {
            self.table.insert(now, contact);
        }
        self.table.shrink();
    }

    /// Makes the node as sure of the network's size as if all its samples had shown `size` nodes: for simulations that start from a
    /// built network. Preload the table first.
    pub fn preload_size(&mut self, now: Time, size: u64) {
        self.size.preload(size);
        self.noted_size(now);
    }

    /// Spreads what the node does now and then over its intervals, as if it had not started together with the others: for simulations
    /// that start from a built network.
    pub fn preload_phase(&mut self, now: Time) {
        self.timers.forget(Timer::Maintenance);
        let due = now + self.share(self.config.maintenance_every);
        self.timers.insert((due, Timer::Maintenance));
        let due = now + self.share(self.config.reconcile_every);
        self.reconcile_at(due);
    }

    /// Agents that this node shuts out for having left out what they acknowledged.
    pub fn quarantined(&self) -> impl Iterator<Item = &AgentId> + '_ {
        self.quarantine.agents()
    }

    /// Stores an item as if its publisher had offered it, without asking whether this node is a custodian of the place: for
    /// simulations that start from a built network. `group` is the shard's. Nothing is reported for persistence.
    ///
    /// # Errors
    /// [`Reject`] names the custody rule that refuses it.
    pub fn preload_custody(
        &mut self,
        now: Time,
        item: VerifiedItem,
        place: Place,
        group: &Arc<GroupName>,
    ) -> Result<(), Reject> {
        self.custody.offer_shared(now, item, place, group, &mut Vec::new())
    }

    /// [`Self::preload_custody`] for everything that this node is to hold, in one go. Returns how many were stored and how many refused.
    pub fn preload_whole_custody<'a>(
        &mut self,
        now: Time,
        offers: impl ExactSizeIterator<Item = (VerifiedItem, Place, &'a Arc<GroupName>)>,
    ) -> (u64, u64) {
        self.custody.preload(now, offers)
    }

    /// Everything stored, in key order.
    pub fn export_custody(&self) -> impl Iterator<Item = (ItemKey, CustodyRow)> + '_ {
        self.custody.rows()
    }

    /// Rows of an earlier run; they are verified again. Returns how many were kept; the others come out as
    /// [`CustodyChange::Remove`] when their key can still be read.
    pub fn import_custody(
        &mut self,
        now: Time,
        services: &mut dyn Services,
        rows: Vec<(ItemKey, CustodyRow)>,
    ) -> usize {
        // Digests first: a beat is kept only beside a digest.
        let (digests, others): (Vec<_>, Vec<_>) =
            rows.into_iter().partition(|(key, _)| key.kind == ItemKind::Digest);
        let mut kept = 0;
        for (key, row) in digests.into_iter().chain(others) {
            let mut unchanged = Vec::new();
            let restored = services.verify(now, &row.bytes);
            let restored =
                restored.and_then(|item| self.custody.restore(now, &item, &row, &mut unchanged));
            match restored {
                Ok(()) => kept += 1,
                Err(_) => self.actions.push_back(Action::Custody(CustodyChange::Remove { key })),
            }
        }
        self.touch_leaves(now);
        kept
    }

    fn start_closest(
        &mut self,
        now: Time,
        id: CommandId,
        target: OverlayId,
    ) -> Result<(), CommandError> {
        self.begin(now, id, Task::Closest, None);
        let breadth = self.near_breadth();
        self.look(now, traffic::Goal::Closest(id), target, breadth);
        Ok(())
    }

    fn closest_found(&mut self, now: Time, id: CommandId, closest: Vec<Contact>) {
        if let Some(job) = self.finish(now, id) {
            self.report_job(id, &job, Outcome::Closest(LookupReport { closest, cost: job.cost }));
        }
    }

    // ---- jobs ----

    const fn name_command(&mut self) -> CommandId {
        self.next_command += 1;
        CommandId(self.next_command)
    }

    fn begin(&mut self, now: Time, id: CommandId, task: Task, limit: Option<Duration>) {
        self.insert_job(now, id, false, task, limit);
    }

    /// Starts a job of the machine's own.
    fn begin_silent(&mut self, now: Time, task: Task, limit: Option<Duration>) -> CommandId {
        let id = self.name_command();
        self.insert_job(now, id, true, task, limit);
        id
    }

    fn insert_job(
        &mut self,
        now: Time,
        id: CommandId,
        silent: bool,
        task: Task,
        limit: Option<Duration>,
    ) {
        let deadline = limit.map(|limit| now + limit);
        self.timers.extend(deadline.map(|deadline| (deadline, Timer::Command(id))));
        self.jobs.insert(id, Job { started: now, cost: Cost::default(), silent, deadline, task });
    }

    /// Takes a job out, with its cost complete.
    fn finish(&mut self, now: Time, id: CommandId) -> Option<Job> {
        let mut job = self.jobs.remove(&id)?;
        if let Some(deadline) = job.deadline {
            self.timers.remove(&(deadline, Timer::Command(id)));
        }
        job.cost.elapsed = now.saturating_since(job.started);
        Some(job)
    }

    fn report_job(&mut self, id: CommandId, job: &Job, outcome: Outcome) {
        if !job.silent {
            self.report(id, outcome);
        }
    }

    fn report(&mut self, command: CommandId, outcome: Outcome) {
        self.actions.push_back(Action::Done { command, outcome });
    }

    fn command_expired(&mut self, now: Time, id: CommandId) {
        match self.jobs.get(&id).map(|job| &job.task) {
            Some(Task::Query(_)) => self.finish_query(now, id),
            Some(Task::Peer(_)) => self.finish_peer(now, id),
            Some(Task::Leave(_)) => self.finish_leave(now, id),
            Some(Task::Publish(_)) => self.finish_publish(now, id),
            Some(Task::Join(_) | Task::Closest) | None => {}
        }
    }

    // ---- small things shared by the parts ----

    /// Every call from outside begins here: how late it is says how late this node is.
    fn note_call(&mut self, now: Time) {
        self.health.note_call(now, self.timers.first().map(|(due, _)| due));
    }

    /// The region this node expects its places to be kept in.
    fn region(&self) -> Region {
        Region::expected(self.config.holders.max(1), self.size_estimate())
    }

    /// Whether this node is a custodian of `place`: inside the region with slack, or among the nearest it knows.
    fn keeps(&self, place: &OverlayId) -> bool {
        let inside = || self.region().times(REGION_SLACK).contains(place, &self.me.overlay_id);
        self.me.server && ((self.config.region && inside()) || self.table.nearer_than_me(place) < K)
    }

    fn random_id(&mut self) -> OverlayId {
        OverlayId(self.noise())
    }

    fn noise(&mut self) -> [u8; 32] {
        let mut noise = [0; 32];
        self.rng.fill_bytes(&mut noise);
        noise
    }

    /// `duration` between 90 and 110 %.
    fn jittered(&mut self, duration: Duration) -> Duration {
        let percent = 90 + self.rng.next_u32() % 21;
        duration * percent / 100
    }

    /// A random part of `duration`.
    fn share(&mut self, duration: Duration) -> Duration {
        duration * (self.rng.next_u32() % 1_000) / 1_000
    }

    fn record(&mut self, changes: Vec<CustodyChange>) {
        self.actions.extend(changes.into_iter().map(Action::Custody));
    }
}
