//! Asking custodians: which keys, whom, and when enough is known.
//!
//! The keys of the plan are worked through a few at a time, most selective first, until enough digests match. Under each key both
//! placements are searched; a custodian candidate near the placement is asked the query itself (its answer names closer
//! nodes too), others are asked for the way. What a custodian returns is verified and evaluated again here: it can omit, not invent.

mod enough;
mod leaves;
mod warm;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use comity_capability::keys::GroupKey;
use comity_capability::record::GroupSecret;
use comity_core::{AgentId, OverlayId, Time};

use super::traffic::Goal;
use super::{Overlay, Task};
use crate::config::{BEAT_GRACE, QUERY_KEYS_MAX};
use crate::contact::Contact;
use crate::drive::{
    CommandError, CommandId, CustodianReport, CustodianSaid, Failure, FoundDigest, KeyReport,
    Outcome, Query, QueryReport,
};
use crate::item::{
    Candidate, Content, EvaluationLimits, ItemBytes, ItemKey, QUERY_BYTES_MAX, Services,
    VerifiedItem,
};
use crate::lookup::{Breadth, Lookup, Surroundings};
use crate::shard::{PLACEMENTS, ShardId};
use crate::store::check_times;
use crate::wire::{
    Answer, EXCLUDE_MAX, FOUND_MATCHES_MAX, FOUND_VEILED_MAX, Known, LeafView, QueryOutcome,
    QueryRequest,
};

use enough::{Custodian, Rule, Witnesses};
use leaves::{Below, Named, Next, Way};
pub(super) use warm::Warm;

/// How much wider than the expected region is where nodes are asked the query itself: publishers see other sizes of the network.
const ASKED_REGION_FACTOR: u32 = 2;
/// How many times as many keys are asked at once while most requests fail: each takes long.
const KEYS_PARALLEL_FAILING: usize = 3;
/// Distinct digests one query collects, and near misses.
const FOUND_MAX: usize = 1_024;
/// Condition evaluations an asker allows a custodian.
const COST_MAX: u32 = 400_000;

/// A query in progress.
#[derive(Debug)]
pub(super) struct QueryJob {
    query: Query,
    /// All keys in order of asking.
    keys: Vec<PlanKey>,
    /// The query as custodians evaluate it; empty in a private group.
    sent: ItemBytes,
    /// What this node holds itself.
    local: BTreeMap<ShardId, Checked>,
    /// Indexes of the keys of the plan not asked yet.
    waiting: VecDeque<usize>,
    /// Shards below them.
    below: Below,
    /// Who is said to keep them.
    named: BTreeMap<usize, Named>,
    active: BTreeMap<usize, KeyState>,
    reports: BTreeMap<usize, KeyReport>,
    matches: BTreeMap<ItemKey, FoundDigest>,
    near: BTreeMap<ItemKey, FoundDigest>,
}

#[derive(Clone, Copy, Debug)]
struct PlanKey {
    shard: ShardId,
    /// Index of its step.
    step: usize,
    /// How its custodians are found.
    way: Way,
}

/// The searches under one key.
#[derive(Debug, Default)]
struct KeyState {
    searches: usize,
    witnesses: Witnesses,
    /// Shards below, as custodians name them.
    leaves: leaves::Leaves,
}

/// A custodian's answer after verification and evaluation here.
#[derive(Debug)]
struct Checked {
    leaves: Vec<LeafView>,
    matches: Vec<(VerifiedItem, Option<VerifiedItem>)>,
    near: Vec<VerifiedItem>,
    said: CustodianSaid,
}

impl Overlay {
    pub(super) fn start_query(
        &mut self,
        now: Time,
        services: &mut dyn Services,
        id: CommandId,
        mut query: Query,
    ) -> Result<(), CommandError> {
        let bounds = [
            ("keys", query.steps.iter().map(|step| step.keys.len()).sum(), QUERY_KEYS_MAX),
            ("steps", query.steps.len(), QUERY_KEYS_MAX),
            ("query bytes", query.query.len(), QUERY_BYTES_MAX),
            ("excluded agents", query.exclude.len(), EXCLUDE_MAX),
        ];
        if let Some((what, given, max)) = bounds.into_iter().find(|(_, given, max)| given > max) {
            return Err(CommandError::TooMany { what, given, max });
        }
        // A key asked twice would count its custodians twice.
        let mut seen = BTreeMap::new();
        let mut keys = Vec::new();
        for (step, plan) in query.steps.iter().enumerate() {
            let new = plan.keys.iter().filter(|key| seen.insert(**key, step).is_none());
            let whole = |group: &GroupKey| ShardId::whole(*group);
            keys.extend(new.map(|group| PlanKey { shard: whole(group), step, way: Way::Searched }));
        }
        query.limit = query.limit.clamp(1, u16::try_from(FOUND_MATCHES_MAX).unwrap_or(u16::MAX));
        let sent = if query.secret.is_some() { Vec::new() } else { query.query.clone() };
        let sent: ItemBytes = sent.into();
        let limits = EvaluationLimits { matches_max: 0, near_max: 0, cost_max: COST_MAX };
        services
            .evaluate(now, &query.query, &[], limits)
            .map_err(|reject| CommandError::Query(reject.to_string()))?;
        let mut job = QueryJob {
            waiting: (0..keys.len()).collect(),
            query,
            keys,
            sent,
            local: BTreeMap::new(),
            below: Below::default(),
            named: BTreeMap::new(),
            active: BTreeMap::new(),
            reports: BTreeMap::new(),
            matches: BTreeMap::new(),
            near: BTreeMap::new(),
        };
        for PlanKey { shard, .. } in job.keys.clone() {
            let held = self.evaluate_here(now, services, &job.query, job.request(shard, 0));
            job.local.extend(held);
        }
        self.begin(now, id, Task::Query(Box::new(job)), Some(self.config.query_deadline));
        self.continue_query(now, id);
        Ok(())
    }

    /// What this node itself holds of a shard, as an answer.
    fn evaluate_here(
        &self,
        now: Time,
        services: &mut dyn Services,
        query: &Query,
        request: QueryRequest,
    ) -> Option<(ShardId, Checked)> {
        let answer = self.evaluate_shard(now, services, &request).ok();
        let answer = answer.filter(|answer| answer.held > 0 || !answer.leaves.is_empty())?;
        Some((request.shard, check_answer(now, services, query, &request, answer)))
    }

    fn query_job(&mut self, id: CommandId) -> Option<&mut QueryJob> {
        match self.jobs.get_mut(&id).map(|job| &mut job.task) {
            Some(Task::Query(job)) => Some(job),
            _ => None,
        }
    }

    /// Starts the next keys, or ends the query when it is satisfied or has no more.
    fn continue_query(&mut self, now: Time, id: CommandId) {
        let spread = if self.vitals.is_failing() { KEYS_PARALLEL_FAILING } else { 1 };
        let parallel = self.config.query_keys_parallel.max(1) * spread;
        let me = self.me.agent;
        loop {
            let Some(job) = self.query_job(id) else { return };
            let next = if job.is_satisfied() { Next::Nothing } else { job.next(parallel) };
            let index = match next {
                Next::Key(index) => index,
                // What is still being asked below other keys is needed no more.
                Next::Nothing if job.is_idle() => return self.finish_query(now, id),
                Next::Nothing | Next::Later => return,
            };
            let positions = job.activate(index, me);
            let fresh = job.query.fresh;
            let named = job.named.remove(&index).unwrap_or_default();
            let region = self.region();
            for (placement, position) in (0..).zip(positions) {
                let (mut seeds, mut others) =
                    if fresh { Default::default() } else { self.warm_custodians(now, &position) };
                let (mut believed, claimed) = named.at(&position, region);
                believed.retain(|known| !self.quarantine.holds(now, &known.agent));
                if seeds.is_empty() && !fresh {
                    seeds = believed;
                } else {
                    others.extend(believed);
                }
                others.extend(claimed);
                let breadth = Breadth { first: seeds.len(), ..self.find_breadth(now) };
                seeds.extend(others);
                seeds.extend(self.seeds(now, &position));
                let goal = Goal::Query { command: id, key: index, placement };
                self.look_from(now, goal, position, breadth, seeds);
            }
        }
    }

    /// Whether custodians of a shard are remembered from an earlier question.
    fn is_warm(&self, now: Time, shard: &ShardId) -> bool {
        let mut placements = (0..PLACEMENTS).map(|placement| shard.position(placement));
        placements.any(|position| !self.warm.custodians(now, &position).is_empty())
    }

    /// Whom to ask first for a place, and whom next.
    fn warm_custodians(&self, now: Time, position: &OverlayId) -> (Vec<Contact>, Vec<Contact>) {
        let trusted = |known: &[Contact]| {
            let held = |contact: &&Contact| !self.quarantine.holds(now, &contact.agent);
            known.iter().filter(held).cloned().collect()
        };
        (trusted(self.warm.custodians(now, position)), trusted(self.warm.others(now, position)))
    }

    /// The question for a custodian candidate; `None` for a node too far away to be one.
    pub(super) fn custody_question(
        &self,
        id: CommandId,
        key: usize,
        placement: u8,
        target: OverlayId,
        contact: &Contact,
    ) -> Option<QueryRequest> {
        let Some(Task::Query(job)) = self.jobs.get(&id).map(|job| &job.task) else { return None };
        let near = self.region().times(ASKED_REGION_FACTOR).contains(&target, &contact.overlay_id);
        let shard = job.keys.get(key)?.shard;
        near.then(|| job.request(shard, placement))
    }

    pub(super) fn custodian_answered(
        &mut self,
        now: Time,
        services: &mut dyn Services,
        id: CommandId,
        key: usize,
        placement: u8,
        from: &Contact,
        answer: QueryOutcome,
    ) {
        let region = self.config.region.then(|| self.region());
        let prefix = self.table.counted(from);
        let surroundings = self.lookups.surroundings(&Goal::Query { command: id, key, placement });
        let Some(job) = self.query_job(id) else { return };
        let Some(PlanKey { shard, .. }) = job.keys.get(key).copied() else { return };
        let request = job.request(shard, placement);
        let checked = match answer {
            QueryOutcome::Answered(answer) => {
                check_answer(now, services, &job.query, &request, answer)
            }
            QueryOutcome::NotHeld => Checked::only(CustodianSaid::NotHeld),
            QueryOutcome::Split { depth } => Checked::only(CustodianSaid::Split { depth }),
        };
        let target = request.shard.position(placement);
        let inside = region.is_none_or(|region| region.contains(&target, &from.overlay_id));
        let custodian = Custodian { agent: from.agent, prefix, inside };
        let keeps = inside && checked.is_proof_of_custody();
        job.hear(key, placement, custodian, checked);
        if surroundings.crowded {
            self.warm.forget_place(&target);
        } else if keeps {
            self.warm.note(now, target, from);
        } else {
            self.warm.forget(&target, &from.agent);
        }
        let is_enough = self.is_query_enough(id, key, placement, surroundings);
        if is_enough {
            self.lookups.stop(id, |goal| matches!(goal, Goal::Query { key: k, placement: p, .. } if *k == key && *p == placement));
        }
    }

    /// Whether the custodians of a placement have said enough.
    pub(super) fn is_query_enough(
        &self,
        id: CommandId,
        key: usize,
        placement: u8,
        surroundings: Surroundings,
    ) -> bool {
        let Some(rule) = self.query_rule(id, surroundings) else { return false };
        let Some(Task::Query(job)) = self.jobs.get(&id).map(|job| &job.task) else { return false };
        job.active.get(&key).is_some_and(|state| state.witnesses.is_enough(placement, rule))
    }

    fn query_rule(&self, id: CommandId, around: Surroundings) -> Option<Rule> {
        let Some(Task::Query(job)) = self.jobs.get(&id).map(|job| &job.task) else { return None };
        let agreeing = self.config.query_custodians.max(1);
        Some(Rule { agreeing, fresh: job.query.fresh, around })
    }

    /// Whether a search that has asked everyone it knew must be widened.
    pub(super) fn is_query_doubtful(
        &self,
        id: CommandId,
        key: usize,
        surroundings: Surroundings,
        settled: usize,
    ) -> bool {
        let Some(rule) = self.query_rule(id, surroundings) else { return false };
        let Some(Task::Query(job)) = self.jobs.get(&id).map(|job| &job.task) else { return false };
        job.active.get(&key).is_some_and(|state| state.witnesses.is_doubtful(rule, settled))
    }

    pub(super) fn custodian_failed(
        &mut self,
        id: CommandId,
        key: usize,
        placement: u8,
        to: &Contact,
        failure: Failure,
    ) {
        let Some(job) = self.query_job(id) else { return };
        let position = job.keys.get(key).map(|key| key.shard.position(placement));
        let said = if let Failure::Refused(code) = failure {
            CustodianSaid::Refused(code)
        } else {
            CustodianSaid::Silent(failure)
        };
        if let Some(report) = job.reports.get_mut(&key) {
            report.custodians.push(CustodianReport { agent: to.agent, placement, said });
        }
        if let Some(position) = position {
            self.warm.forget(&position, &to.agent);
        }
    }

    pub(super) fn placement_searched(
        &mut self,
        now: Time,
        id: CommandId,
        key: usize,
        lookup: &Lookup,
    ) {
        // Of a search that was cut short too: who was named is there whatever became of the question.
        self.warm.note_others(lookup.target(), lookup.named(self.region(), 0));
        let depths = [false, true].map(|veiled| self.split_depth_max(veiled));
        let Some(job) = self.query_job(id) else { return };
        let deepest = depths[usize::from(job.query.secret.is_some())];
        if let Some(report) = job.reports.get_mut(&key) {
            report.requests += lookup.sent;
        }
        let state = job.active.get_mut(&key);
        let ended = state.is_some_and(|state| {
            state.searches = state.searches.saturating_sub(1);
            state.searches == 0
        });
        let ended = if ended { job.active.remove(&key) } else { None };
        if let Some(state) = ended {
            let leaves =
                state.leaves.ranked(deepest, self.region(), |leaf| self.is_warm(now, leaf));
            if let Some(job) = self.query_job(id) {
                job.key_ended(key, leaves);
            }
        }
        self.continue_query(now, id);
    }

    pub(super) fn finish_query(&mut self, now: Time, id: CommandId) {
        self.lookups.stop(id, |_| true);
        let Some(mut job) = self.finish(now, id) else { return };
        let Task::Query(query) = &mut job.task else { return };
        let mut matches = std::mem::take(&mut query.matches);
        // What expired since it was heard is not shown.
        let is_private = query.query.secret.is_some();
        matches.retain(|_, found| {
            found.beat = found.beat.take().filter(|beat| beat.expires > now);
            let lives = is_private || is_alive(now, &found.item, found.beat.as_ref());
            lives && found.item.expires > now
        });
        let matches = by_custodians(matches);
        let mut near = std::mem::take(&mut query.near);
        near.retain(|key, found| {
            found.item.expires > now && !matches.iter().any(|found| found.item.key() == *key)
        });
        let unasked = query.has_unasked();
        let keys = std::mem::take(&mut query.reports).into_values().collect();
        let near = by_custodians(near);
        let report = QueryReport { matches, near, keys, unasked, cost: job.cost };
        self.report_job(id, &job, Outcome::Answers(report));
    }
}

impl QueryJob {
    fn request(&self, shard: ShardId, placement: u8) -> QueryRequest {
        QueryRequest {
            shard,
            placement,
            query: self.sent.clone(),
            limit: self.query.limit,
            cost_max: COST_MAX,
            exclude: self.query.exclude.clone(),
            known: Known::default(),
        }
    }

    /// Enough matches, or a complete step answered in full.
    fn is_satisfied(&self) -> bool {
        let enough = self.query.want > 0 && self.matches.len() >= self.query.want;
        enough || self.is_complete()
    }

    /// A complete step is answered in full: nothing more is to be found.
    fn is_complete(&self) -> bool {
        (0..self.query.steps.len())
            .any(|step| self.query.steps[step].complete && self.is_answered_in_full(step))
    }

    /// Whether a key or shard that may hold more was not asked to the end.
    fn has_unasked(&self) -> bool {
        let is_open = !self.active.is_empty() || !self.waiting.is_empty() || self.below.is_open();
        is_open && !self.is_complete()
    }

    /// Whether custodians answered for every key of a step and the shards below it, and none held anything back.
    fn is_answered_in_full(&self, step: usize) -> bool {
        if self.is_cut(step) {
            return false;
        }
        let mut keys = self.keys.iter().enumerate().filter(|(_, key)| key.step == step).peekable();
        keys.peek().is_some()
            && keys.all(|(index, _)| {
                let answers =
                    self.reports.get(&index).into_iter().flat_map(|report| &report.custodians);
                let mut truncated = answers.filter_map(|custodian| match custodian.said {
                    CustodianSaid::Answered { truncated, .. } => Some(truncated),
                    CustodianSaid::NotHeld
                    | CustodianSaid::Split { .. }
                    | CustodianSaid::Refused(_)
                    | CustodianSaid::Silent(_) => None,
                });
                let answered = truncated.next();
                !self.active.contains_key(&index)
                    && answered == Some(false)
                    && !truncated.any(|truncated| truncated)
            })
    }

    /// A complete step before `step` is still being asked: it may make `step` needless.
    fn awaits_step(&self, step: usize) -> bool {
        self.active.keys().any(|index| {
            self.keys[*index].step < step && self.query.steps[self.keys[*index].step].complete
        })
    }

    /// Opens a key with what this node holds itself; returns where its placements are.
    fn activate(&mut self, index: usize, me: AgentId) -> Vec<OverlayId> {
        let shard = self.keys[index].shard;
        let report = KeyReport { key: shard.group, shard, custodians: Vec::new(), requests: 0 };
        self.reports.insert(index, report);
        self.active
            .insert(index, KeyState { searches: usize::from(PLACEMENTS), ..KeyState::default() });
        if let Some(local) = self.local.remove(&shard) {
            let custodian = Custodian { agent: me, prefix: None, inside: true };
            self.hear(index, 0, custodian, local);
        }
        (0..PLACEMENTS).map(|placement| shard.position(placement)).collect()
    }

    /// Takes in what a custodian said.
    fn hear(&mut self, key: usize, placement: u8, custodian: Custodian, checked: Checked) {
        let agent = custodian.agent;
        let (Some(report), Some(state)) = (self.reports.get_mut(&key), self.active.get_mut(&key))
        else {
            return;
        };
        state.witnesses.hear(placement, custodian, self.query.limit, &checked);
        state.leaves.hear(&report.shard, &checked.leaves);
        report.custodians.push(CustodianReport { agent, placement, said: checked.said });
        let group = report.key;
        for (digest, beat) in checked.matches {
            merge(&mut self.matches, digest, beat, agent, group);
        }
        for digest in checked.near {
            merge(&mut self.near, digest, None, agent, group);
        }
    }
}

impl Checked {
    const fn only(said: CustodianSaid) -> Self {
        Self { leaves: Vec::new(), matches: Vec::new(), near: Vec::new(), said }
    }

    /// Everything shown verified, and something was, or it names shards below.
    fn is_proof_of_custody(&self) -> bool {
        let shown = !self.matches.is_empty() || !self.near.is_empty() || !self.leaves.is_empty();
        shown && matches!(self.said, CustodianSaid::Answered { bad: 0, .. })
    }
}

/// Verifies and evaluates what a custodian returned.
fn check_answer(
    now: Time,
    services: &mut dyn Services,
    query: &Query,
    request: &QueryRequest,
    answer: Answer,
) -> Checked {
    if let Some(secret) = &query.secret {
        return check_veiled(now, services, query, secret, answer);
    }
    let mut bad = 0_u16;
    let mut verify = |bytes: &ItemBytes, services: &mut dyn Services| {
        let item = services
            .verify(now, bytes)
            .and_then(|item| check_times(now, &item).map(|()| item))
            .ok();
        let item = item.filter(|item| !request.exclude.contains(&item.signer));
        bad += u16::from(item.is_none());
        item
    };
    let beats: Vec<_> = answer
        .beats
        .iter()
        .take(FOUND_MATCHES_MAX)
        .filter_map(|bytes| verify(bytes, services))
        .collect();
    let beats: Vec<_> =
        beats.into_iter().filter(|item| matches!(item.content, Content::Beat(_))).collect();
    let claimed: Vec<_> = answer
        .matches
        .iter()
        .take(usize::from(request.limit))
        .filter_map(|bytes| verify(bytes, services))
        .collect();
    let near: Vec<_> = answer.near.iter().filter_map(|bytes| verify(bytes, services)).collect();
    let passing = passing(now, services, &request.query, &claimed);
    let mut matches = Vec::new();
    for (index, item) in claimed.into_iter().enumerate() {
        if passing.contains(&index) {
            let beat = beats.iter().find(|beat| beat.signer == item.signer).cloned();
            // Who is neither new nor says that it is alive is not shown, whatever the custodian says.
            if is_alive(now, &item, beat.as_ref()) {
                matches.push((item, beat));
            }
        } else {
            bad += 1;
        }
    }
    let near: Vec<_> =
        near.into_iter().filter(|item| matches!(item.content, Content::Digest(_))).collect();
    let said = CustodianSaid::Answered {
        held: answer.held,
        passed: answer.passed,
        matches: u16::try_from(matches.len()).unwrap_or(u16::MAX),
        near: u16::try_from(near.len()).unwrap_or(u16::MAX),
        bad,
        set_hash: answer.set_hash,
        truncated: answer.truncated,
    };
    Checked { leaves: answer.leaves, matches, near, said }
}

/// Whether the publisher of a digest is new or said that it is alive.
fn is_alive(now: Time, digest: &VerifiedItem, beat: Option<&VerifiedItem>) -> bool {
    beat.is_some() || now.saturating_since(digest.issued) < BEAT_GRACE
}

/// Opens and evaluates what a custodian returned of a private group. It could not choose, so what does not match is no fault of its.
fn check_veiled(
    now: Time,
    services: &mut dyn Services,
    query: &Query,
    secret: &GroupSecret,
    answer: Answer,
) -> Checked {
    let returned = answer.matches.len().min(FOUND_VEILED_MAX);
    let mut opened = Vec::new();
    for bytes in answer.matches.iter().take(FOUND_VEILED_MAX) {
        let item = services.verify(now, bytes).ok().filter(|item| check_times(now, item).is_ok());
        opened.extend(item.and_then(|item| services.unveil(now, &item, secret)));
    }
    let bad = returned - opened.len();
    opened.retain(|item| !query.exclude.contains(&item.signer));
    let passing = passing(now, services, &query.query, &opened);
    let (mut matches, mut near) = (Vec::new(), Vec::new());
    for (index, item) in opened.into_iter().enumerate() {
        if passing.contains(&index) {
            matches.push((item, None));
        } else {
            near.push(item);
        }
    }
    let count = |count: usize| u16::try_from(count).unwrap_or(u16::MAX);
    let said = CustodianSaid::Answered {
        held: answer.held,
        passed: count(matches.len()).into(),
        matches: count(matches.len()),
        near: count(near.len()),
        bad: count(bad),
        set_hash: answer.set_hash,
        truncated: answer.truncated,
    };
    Checked { leaves: answer.leaves, matches, near, said }
}

/// Which of the digests match the query by this node's own evaluation.
fn passing(
    now: Time,
    services: &mut dyn Services,
    query: &[u8],
    items: &[VerifiedItem],
) -> BTreeSet<usize> {
    let digests = items.iter().enumerate().filter_map(|(index, item)| match &item.content {
        Content::Digest(digest) => {
            Some((index, Candidate { digest, signer: &item.signer, beat: None }))
        }
        Content::Veiled(_) | Content::Beat(_) | Content::Tombstone | Content::Peer(_) => None,
    });
    let (indexes, candidates): (Vec<_>, Vec<_>) = digests.unzip();
    let limits =
        EvaluationLimits { matches_max: candidates.len(), near_max: 0, cost_max: COST_MAX };
    let evaluation = services.evaluate(now, query, &candidates, limits).unwrap_or_default();
    evaluation.matches.into_iter().filter_map(|at| indexes.get(at).copied()).collect()
}

/// Adds a digest to what was found: the newest version stays, every custodian and key is noted.
fn merge(
    found: &mut BTreeMap<ItemKey, FoundDigest>,
    item: VerifiedItem,
    beat: Option<VerifiedItem>,
    agent: AgentId,
    key: GroupKey,
) {
    if found.len() >= FOUND_MAX && !found.contains_key(&item.key()) {
        return;
    }
    let known = found.entry(item.key()).or_insert_with(|| FoundDigest {
        item: item.clone(),
        beat: None,
        returned_by: Vec::new(),
        keys: Vec::new(),
    });
    if item.seq > known.item.seq {
        known.item = item;
    }
    if let Some(beat) = beat
        && known.beat.as_ref().is_none_or(|old| beat.seq > old.seq)
    {
        known.beat = Some(beat);
    }
    if !known.returned_by.contains(&agent) {
        known.returned_by.push(agent);
    }
    if !known.keys.contains(&key) {
        known.keys.push(key);
    }
}

/// Most custodians first; equal ones by key, so that the order says nothing about who answered first.
fn by_custodians(found: BTreeMap<ItemKey, FoundDigest>) -> Vec<FoundDigest> {
    let mut found: Vec<_> = found.into_values().collect();
    found.sort_by_key(|digest| std::cmp::Reverse(digest.returned_by.len()));
    found
}
