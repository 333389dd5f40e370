//! Finding by capability: plan the keys, ask custodians, verify, fetch the best records, probe, rank.
//!
//! Custodians are asked step by step, the most selective keys first; a step whose groups hold every match ends the
//! search ([`comity_overlay::Query`]). What they return is believed only as far as its publisher signed it, and evaluated and ranked again here.
//! Where too many of the best do not keep what they declare, custodians are asked again without them ([`Finder`]).

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use comity_capability::attribute::Value;
use comity_capability::keys::{self, GroupKey, KeyFamily, Labelled, Plan};
use comity_capability::matching::{self, Evaluation};
use comity_capability::query::Query;
use comity_capability::rank::{self, Candidate, Context, Declared, Score, Signals, Tally};
use comity_capability::record::{Beat, Capability, Digest, Record};
use comity_core::{AgentId, Canonical, Hash, Time};
use comity_overlay::{
    CommandError, Content, Cost, Finder, FinderLimits, FinderStep, FoundDigest, KeyReport,
    QUERY_KEYS_MAX, QueryReport, QueryStep, Trial,
};
use comity_results::repute::Beta;
use comity_trust::policy::{VIA_KEY, Via};
use futures_util::StreamExt;
use rand::Rng as _;
use tracing::debug;

use crate::groups::PrivateGroup;
use crate::node::Node;
use crate::rpc::CallError;

/// Digests that one custodian is asked for.
const DIGESTS_PER_CUSTODIAN: u16 = 32;
/// Candidates whose records are fetched, more only where they do not hold what the digest says.
const RECORDS_MAX: usize = 10;
/// Records fetched at once.
const FETCHES_AT_ONCE: usize = 8;
/// How long one candidate may take to hand out its record.
const FETCH_TIMEOUT: Duration = Duration::from_secs(3);
/// A search begins nothing new after this share of its time, as a divisor.
const LATE_DIVISOR: u32 = 2;
/// How much longer than the first to hand out its record the others may take.
const GRACE_FACTOR: u32 = 4;
const GRACE_MIN: Duration = Duration::from_millis(250);
/// Near misses whose records are consulted so that an omitted attribute is not reported as undeclared.
const NEAR_MISSES_MAX: usize = 5;

/// A candidate that was found, with all that is known of it.
#[derive(Debug, Clone)]
pub(crate) struct Hit {
    pub(crate) agent: AgentId,
    pub(crate) addrs: Vec<SocketAddr>,
    pub(crate) digest: Arc<Digest>,
    pub(crate) beat: Option<Arc<Beat>>,
    /// The full declaration, once its record was fetched and verified.
    pub(crate) capability: Option<Arc<Capability>>,
    pub(crate) returned_by: BTreeSet<AgentId>,
    pub(crate) keys: BTreeSet<GroupKey>,
    pub(crate) probe: Option<Result<Duration, String>>,
    pub(crate) evaluation: Evaluation,
    pub(crate) score: Option<Score>,
    pub(crate) explored: bool,
}

impl Hit {
    /// The record was fetched and its signature holds.
    pub(crate) fn verified(&self) -> bool {
        self.capability.is_some()
    }

    /// What it declares, by the full declaration where that is at hand.
    pub(crate) fn attribute(&self, key: &str) -> Option<&Value> {
        match &self.capability {
            Some(capability) => capability.attributes.get(key),
            None => self.digest.attributes.get(key),
        }
    }

    /// Takes the full declaration from the agent's record, if it is there.
    fn read(&mut self, query: &Query, record: &Record) {
        let mut declared = record.capabilities.iter();
        if let Some(capability) = declared.find(|known| known.name == self.digest.name) {
            self.evaluation = matching::evaluate_capability(query, capability);
            self.capability = Some(Arc::new(capability.clone()));
        }
    }
}

/// What is known of candidates, by agent and name.
type Hits = BTreeMap<(AgentId, String), Hit>;

/// What came of fetching a candidate's record.
fn trial_of(hit: &Hit) -> Trial {
    let is_answered = hit.probe.as_ref().is_some_and(Result::is_ok);
    if matches!(hit.probe, Some(Err(_))) || (hit.verified() && hit.evaluation.refused()) {
        Trial::Bad
    } else if hit.verified() {
        Trial::Good
    } else if is_answered {
        // It has a record, and not what its digest says in it.
        Trial::Bad
    } else {
        Trial::Open
    }
}

/// The question to the directory.
fn question(
    query: &Query,
    group: Option<&Arc<PrivateGroup>>,
    plan: &Plan,
) -> comity_overlay::Query {
    let mut room = QUERY_KEYS_MAX;
    let steps = plan
        .steps
        .iter()
        .map(|step| {
            let keys: Vec<GroupKey> = step.keys.iter().map(|key| key.key).take(room).collect();
            room -= keys.len();
            // A step that is not asked in full proves nothing about what it did not ask.
            QueryStep { complete: step.complete && keys.len() == step.keys.len(), keys }
        })
        .filter(|step| !step.keys.is_empty())
        .collect();
    comity_overlay::Query {
        steps,
        query: query.encode(),
        want: usize::try_from(query.k()).unwrap_or(usize::MAX),
        limit: DIGESTS_PER_CUSTODIAN,
        exclude: Vec::new(),
        fresh: false,
        secret: group.map(|group| group.secret().clone()),
    }
}

/// What a search found and how.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Matches, best first.
    pub(crate) hits: Vec<Hit>,
    /// What nearly matched, the nearest first.
    pub(crate) near: Vec<Hit>,
    /// Keys in the order of the plan.
    pub(crate) plan: Vec<Labelled>,
    /// What happened under each key that was asked.
    pub(crate) reports: Vec<KeyReport>,
    pub(crate) cost: Cost,
    pub(crate) phases: Vec<(&'static str, Duration)>,
    pub(crate) candidates: u32,
    pub(crate) elapsed: Duration,
}

/// Why a search could not be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SearchError {
    #[error(
        "the query names nothing the directory can look up: name a class, a pair, a word or a capability, such as `under finance`"
    )]
    Unselective,
    #[error("the directory could not carry out the search: {0}")]
    Directory(CommandError),
    #[error("the search took longer than {0:?}")]
    TimedOut(Duration),
}

impl Node {
    /// Searches for what answers `query`, in public or in a private group, probing the best `probe` of it, within `timeout`.
    pub(crate) async fn search(
        &self,
        query: &Query,
        group: Option<&Arc<PrivateGroup>>,
        probe: usize,
        timeout: Duration,
    ) -> Result<Found, SearchError> {
        let started = Instant::now();
        let work = Box::pin(self.search_steps(query, group, probe, timeout));
        let mut found = tokio::time::timeout(timeout, work)
            .await
            .map_err(|_| SearchError::TimedOut(timeout))??;
        found.elapsed = started.elapsed();
        Ok(found)
    }

    async fn search_steps(
        &self,
        query: &Query,
        group: Option<&Arc<PrivateGroup>>,
        probe: usize,
        timeout: Duration,
    ) -> Result<Found, SearchError> {
        let mut found = Found::default();
        let started = Instant::now();
        let mut plan = keys::plan(&query.plan_inputs());
        if let Some(group) = group {
            plan = keys::private_plan(&plan, group.secret());
        }
        found.plan = plan.keys().into_iter().cloned().collect();
        if found.plan.is_empty() {
            return Err(SearchError::Unselective);
        }
        found.phases.push(("plan", started.elapsed()));

        let at_once = RECORDS_MAX.max(probe);
        let want = usize::try_from(query.k()).unwrap_or(usize::MAX).min(at_once);
        let limits = FinderLimits { want, at_once, ..FinderLimits::default() };
        let mut finder = Finder::new(question(query, group, &plan), limits);
        let (mut asking, mut trying) = (Duration::ZERO, Duration::ZERO);
        let mut hits = Hits::new();
        loop {
            // What was found in time is worth more than what more searching might find.
            let is_late = started.elapsed() > timeout / LATE_DIVISOR;
            let since = Instant::now();
            match finder.step() {
                FinderStep::Ask(question) => {
                    let again = finder.rounds() > 1;
                    if again && is_late {
                        break;
                    }
                    let asked = self.inner.directory.query(question);
                    let report = if again {
                        let left = (timeout - timeout / LATE_DIVISOR / 2)
                            .saturating_sub(started.elapsed());
                        let Ok(Ok(report)) = tokio::time::timeout(left, asked).await else { break };
                        report
                    } else {
                        asked.await.map_err(SearchError::Directory)?
                    };
                    asking += since.elapsed();
                    let ranked = self.take_in(query, &mut hits, &mut found, &report);
                    finder.answered(&report, ranked);
                }
                FinderStep::Try(agents) => {
                    if finder.tries() > agents.len() && is_late {
                        break;
                    }
                    let probes = probe.saturating_sub(finder.good());
                    self.try_all(query, group, &mut hits, &mut finder, &agents, probes).await;
                    trying += since.elapsed();
                }
                FinderStep::Done => break,
            }
        }
        found.phases.push(("custodians", asking));
        found.candidates = u32::try_from(hits.len()).unwrap_or(u32::MAX);
        self.conclude(query, group, hits, trying, &mut found).await;
        Ok(found)
    }

    /// Ranks what was found and looks at the nearest misses.
    async fn conclude(
        &self,
        query: &Query,
        group: Option<&Arc<PrivateGroup>>,
        hits: Hits,
        trying: Duration,
        found: &mut Found,
    ) {
        let started = Instant::now();
        let Ordered { passing: mut all, refused } = self.order(query, hits.into_values().collect());
        all.extend(self.consult_near(query, group, refused).await);
        found.phases.push(("records and probes", trying + started.elapsed()));
        let started = Instant::now();
        let ranked = self.order(query, all);
        found.hits = ranked.passing;
        found.near = ranked.refused;
        found.near.truncate(NEAR_MISSES_MAX);
        found.phases.push(("rank", started.elapsed()));
    }

    /// Adds what custodians returned to what is known. Returns whose it is, the best first.
    fn take_in(
        &self,
        query: &Query,
        hits: &mut Hits,
        found: &mut Found,
        report: &QueryReport,
    ) -> Vec<AgentId> {
        found.cost = Cost {
            requests: found.cost.requests + report.cost.requests,
            failures: found.cost.failures + report.cost.failures,
            bytes_sent: found.cost.bytes_sent + report.cost.bytes_sent,
            bytes_received: found.cost.bytes_received + report.cost.bytes_received,
            hops: found.cost.hops.max(report.cost.hops),
            elapsed: found.cost.elapsed + report.cost.elapsed,
        };
        found.reports.extend(report.keys.iter().cloned());
        let mut new = Hits::new();
        for digest in report.matches.iter().chain(&report.near) {
            collect(query, &mut new, digest.clone());
        }
        let ranked = self.order(query, new.values().cloned().collect());
        for (key, hit) in new {
            hits.entry(key).or_insert(hit);
        }
        ranked.passing.iter().map(|hit| hit.agent).collect()
    }

    /// Fetches the records of some candidates, which also shows who is alive, and probes the first `probes` of them.
    async fn try_all(
        &self,
        query: &Query,
        group: Option<&Arc<PrivateGroup>>,
        hits: &mut Hits,
        finder: &mut Finder,
        agents: &[AgentId],
        probes: usize,
    ) {
        let now = self.inner.clock.now();
        let silent = |agent: &AgentId| self.inner.signals.of(agent).is_silent(now);
        let all_silent = agents.iter().all(silent);
        let mut fetch = Vec::new();
        for (place, agent) in agents.iter().enumerate() {
            let own =
                hits.values_mut().filter(|hit| hit.agent == *agent && !hit.evaluation.refused());
            // The record of one capability is the record of all.
            let Some(hit) = own.min_by_key(|hit| Reverse(hit.digest.seq)) else { continue };
            // Whoever kept silent a moment ago is not waited for again while there are others.
            if silent(agent) && !all_silent {
                hit.probe = Some(Err("kept silent a moment ago".to_owned()));
            } else {
                fetch.push((place, hit.clone()));
            }
        }
        let started = Instant::now();
        let mut fetched = futures_util::stream::iter(fetch)
            .map(|(place, hit)| self.fetch(query, group, hit, place < probes))
            .buffer_unordered(FETCHES_AT_ONCE);
        let mut patience = FETCH_TIMEOUT;
        // The slowest does not set the pace: once somebody answered, the others get a little longer than that took.
        while let Ok(Some(hit)) =
            tokio::time::timeout(patience.saturating_sub(started.elapsed()), fetched.next()).await
        {
            if hit.verified() {
                patience = patience.min(started.elapsed() * GRACE_FACTOR + GRACE_MIN);
            }
            self.share_record(query, hits, &hit);
            hits.insert((hit.agent, hit.digest.name.clone()), hit);
        }
        drop(fetched);
        for agent in agents {
            let trials = hits.values().filter(|hit| hit.agent == *agent).map(trial_of);
            let trial = trials.min_by_key(|trial| match trial {
                Trial::Good => 0,
                Trial::Bad => 1,
                Trial::Open => 2,
            });
            finder.tried(*agent, trial.unwrap_or(Trial::Bad));
        }
    }

    /// What the record of `told` says of other capabilities of the same agent.
    fn share_record(&self, query: &Query, hits: &mut Hits, told: &Hit) {
        for hit in hits.values_mut().filter(|hit| hit.agent == told.agent) {
            if let Some(record) = self.inner.records.get(&hit.digest.record) {
                hit.read(query, &record);
                hit.probe.clone_from(&told.probe);
            }
        }
    }

    /// Reads the records of near misses whose digest left something out.
    async fn consult_near(
        &self,
        query: &Query,
        group: Option<&Arc<PrivateGroup>>,
        mut near: Vec<Hit>,
    ) -> Vec<Hit> {
        near.truncate(NEAR_MISSES_MAX);
        let now = self.inner.clock.now();
        futures_util::stream::iter(near)
            .map(|hit| async move {
                let silent = self.inner.signals.of(&hit.agent).is_silent(now);
                if hit.digest.truncated() && !hit.verified() && !silent {
                    self.fetch(query, group, hit, false).await
                } else {
                    hit
                }
            })
            .buffered(FETCHES_AT_ONCE)
            .collect()
            .await
    }

    async fn fetch(
        &self,
        query: &Query,
        group: Option<&Arc<PrivateGroup>>,
        mut hit: Hit,
        probe: bool,
    ) -> Hit {
        let work = async {
            let record =
                self.record_of(hit.agent, &hit.addrs, Some(hit.digest.record), group).await?;
            let rtt = if probe || hit.agent == self.id() {
                Some(self.probe(hit.agent, &hit.addrs).await?)
            } else {
                None
            };
            Ok::<_, RecordFailure>((record, rtt))
        };
        match tokio::time::timeout(FETCH_TIMEOUT, work).await {
            Ok(Ok((record, rtt))) => {
                hit.read(query, &record);
                hit.probe = rtt.map(Ok);
            }
            Ok(Err(failure)) => {
                debug!(peer = %hit.agent.short(), %failure, "a candidate did not hand out its record");
                hit.probe = Some(Err(failure.to_string()));
                self.inner.signals.silent(&hit.agent, self.inner.clock.now());
            }
            Err(_) => {
                hit.probe = Some(Err(format!("no answer within {FETCH_TIMEOUT:?}")));
                self.inner.signals.silent(&hit.agent, self.inner.clock.now());
            }
        }
        hit
    }

    /// Round trip time to `peer`; nothing at all to oneself.
    pub(crate) async fn probe(
        &self,
        peer: AgentId,
        addrs: &[SocketAddr],
    ) -> Result<Duration, CallError> {
        if peer == self.id() {
            return Ok(Duration::ZERO);
        }
        let rtt = self.inner.rpc.ping(peer, addrs).await?;
        self.inner.signals.reached(&peer, rtt, self.inner.clock.now());
        Ok(rtt)
    }

    /// The verified record of `peer`, or the one it keeps for a private group: a remembered one if it is the one with this hash.
    pub(crate) async fn record_of(
        &self,
        peer: AgentId,
        addrs: &[SocketAddr],
        hash: Option<Hash>,
        group: Option<&Arc<PrivateGroup>>,
    ) -> Result<Arc<Record>, RecordFailure> {
        if let Some(record) = hash.and_then(|hash| self.inner.records.get(&hash)) {
            // Remembered declarations say nothing about who is alive.
            if peer != self.id()
                && !self.inner.transport.is_linked(&peer, crate::transport::Protocol::Rpc)
            {
                self.probe(peer, addrs).await?;
            }
            return Ok(record);
        }
        let bytes = if peer == self.id() {
            let sealed = match group {
                Some(group) => group.told().sealed,
                None => self.inner.publisher.sealed_record(),
            };
            let sealed = sealed.ok_or(RecordFailure::Absent)?;
            bytes::Bytes::from_owner(sealed)
        } else {
            // The hash is a hint: an agent that published again meanwhile has a newer record, just as good.
            match self.fetch_record(peer, addrs, hash, group).await {
                Err(CallError::Failed { .. }) if hash.is_some() => {
                    self.fetch_record(peer, addrs, None, group).await?
                }
                other => other?,
            }
        };
        self.opened_record(peer, &bytes).await
    }

    async fn fetch_record(
        &self,
        peer: AgentId,
        addrs: &[SocketAddr],
        hash: Option<Hash>,
        group: Option<&Arc<PrivateGroup>>,
    ) -> Result<bytes::Bytes, CallError> {
        let secret = group.map(|group| group.secret());
        self.inner.rpc.record(peer, addrs, hash, secret).await
    }

    /// The verified record that `peer` has for whoever shows these grants and wants `capability`.
    pub(crate) async fn record_for(
        &self,
        peer: AgentId,
        addrs: &[SocketAddr],
        capability: &str,
        grants: &[u8],
    ) -> Result<Arc<Record>, RecordFailure> {
        let bytes = self.inner.rpc.record_for(peer, addrs, capability, grants).await?;
        self.opened_record(peer, &bytes).await
    }

    async fn opened_record(
        &self,
        peer: AgentId,
        bytes: &[u8],
    ) -> Result<Arc<Record>, RecordFailure> {
        let opened = Record::open(bytes, self.inner.clock.now())
            .map_err(|error| RecordFailure::Invalid(crate::describe(&error)))?;
        if opened.signer != peer {
            return Err(RecordFailure::Invalid(format!("it is signed by {}", opened.signer)));
        }
        let record = Arc::new(opened.payload);
        self.note_successor(&peer, record.next).await;
        self.inner.records.insert(Hash::of(bytes), Arc::clone(&record));
        Ok(record)
    }

    /// Evaluates and ranks with everything known now. What the policy refuses for the network it is on is no candidate.
    fn order(&self, query: &Query, mut hits: Vec<Hit>) -> Ordered {
        let now = self.inner.clock.now();
        hits.retain(|hit| self.via(hit.attribute(VIA_KEY)) != Some(Via::Refuse));
        let candidates: Vec<Candidate<'_>> = hits
            .iter()
            .map(|hit| Candidate {
                agent: hit.agent,
                declared: match &hit.capability {
                    Some(capability) => Declared::Capability(capability),
                    None => Declared::Digest(&hit.digest),
                },
                signals: self.signals_of(hit),
            })
            .collect();
        let ranking = rank::rank(query, &candidates, &Context { now, seed: fresh_seed() });
        let mut hits: Vec<Option<Hit>> = hits.into_iter().map(Some).collect();
        let mut take = |index: usize| hits.get_mut(index).and_then(Option::take);
        let mut ordered = Ordered::default();
        for ranked in ranking.results {
            if let Some(mut hit) = take(ranked.index) {
                hit.evaluation = ranked.evaluation;
                hit.score = Some(ranked.score);
                hit.explored = ranked.exploratory;
                ordered.passing.push(hit);
            }
        }
        for refused in ranking.near_misses {
            if let Some(mut hit) = take(refused.index) {
                hit.evaluation = refused.evaluation;
                ordered.refused.push(hit);
            }
        }
        ordered
    }

    /// What the policy says of the network that a record names with [`VIA_KEY`]; nothing of a record that names none.
    pub(crate) fn via(&self, declared: Option<&Value>) -> Option<Via> {
        let declared = declared?;
        self.inner.gate.with_policy(|policy| {
            if let Value::Set(names) = declared {
                names.iter().map(|name| policy.via(name)).max()
            } else if let Value::Text(name) | Value::Enum(name) = declared {
                Some(policy.via(name))
            } else {
                Some(policy.via(&declared.to_string()))
            }
        })
    }

    fn signals_of(&self, hit: &Hit) -> Signals {
        let measured = self.inner.signals.of(&hit.agent);
        let now = self.inner.clock.now();
        let standing = self.inner.results.reputation().standing(&hit.agent, now);
        let tally = |beta: Beta| {
            let (good, total) = beta.counts();
            (total > 0).then_some(Tally { good, total })
        };
        let calls = tally(standing.success);
        // Answers that were checked say more than answers that came.
        let own_receipts = tally(standing.own_honesty).or(calls);
        let given = standing.honesty.good - standing.own_honesty.good;
        let peer_receipts = tally(Beta { good: given, bad: 0.0 });
        let beat_at: Option<Time> = hit.beat.as_ref().map(|beat| beat.issued);
        Signals {
            rtt_ms: measured.rtt.map(|rtt| u32::try_from(rtt.as_millis()).unwrap_or(u32::MAX)),
            calls,
            own_receipts,
            peer_receipts,
            last_seen: measured.seen.max(beat_at),
            probe: hit.probe.as_ref().map(Result::is_ok),
            declared_capabilities: None,
            bridged: self.via(hit.attribute(VIA_KEY)) == Some(Via::Lower),
        }
    }
}

/// Why a candidate's record is not at hand.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecordFailure {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("its record is not valid: {0}")]
    Invalid(String),
    #[error("it has published nothing")]
    Absent,
}

#[derive(Debug, Default)]
struct Ordered {
    passing: Vec<Hit>,
    refused: Vec<Hit>,
}

fn collect(query: &Query, hits: &mut Hits, found: FoundDigest) {
    let Content::Digest(parsed) = &found.item.content else { return };
    let Ok(digest) = Arc::clone(parsed).downcast::<Digest>() else { return };
    let beat = found.beat.as_ref().and_then(|item| match &item.content {
        Content::Beat(parsed) => Arc::clone(parsed).downcast::<Beat>().ok(),
        Content::Digest(_) | Content::Veiled(_) | Content::Tombstone | Content::Peer(_) => None,
    });
    let key = (found.item.signer, digest.name.clone());
    let hit = hits.entry(key).or_insert_with(|| Hit {
        agent: found.item.signer,
        addrs: digest.endpoints.clone(),
        digest: Arc::clone(&digest),
        beat: None,
        capability: None,
        returned_by: BTreeSet::new(),
        keys: BTreeSet::new(),
        probe: None,
        evaluation: matching::evaluate(query, &digest),
        score: None,
        explored: false,
    });
    if digest.seq > hit.digest.seq {
        hit.digest = Arc::clone(&digest);
        hit.addrs.clone_from(&digest.endpoints);
        hit.evaluation = matching::evaluate(query, &digest);
    }
    hit.beat = hit.beat.take().max_by_seq(beat);
    hit.returned_by.extend(found.returned_by);
    hit.keys.extend(found.keys);
}

trait MaxBySeq {
    fn max_by_seq(self, other: Self) -> Self;
}

impl MaxBySeq for Option<Arc<Beat>> {
    fn max_by_seq(self, other: Self) -> Self {
        match (self, other) {
            (Some(a), Some(b)) => Some(if b.seq > a.seq { b } else { a }),
            (a, b) => a.or(b),
        }
    }
}

/// A new seed for every search, so that searches of many askers do not all try the same newcomer.
fn fresh_seed() -> [u8; 32] {
    let mut seed = [0; 32];
    rand::rng().fill_bytes(&mut seed);
    seed
}

/// The family's name as the API shows it.
pub(crate) fn family_name(family: KeyFamily) -> &'static str {
    family.as_str()
}
