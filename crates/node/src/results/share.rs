//! The result index, and handing results over.
//!
//! The name of a question ([`IndexKey`]) is a place in the overlay. Who holds the answer tells the nodes nearest to that place, by a signed
//! pointer that lives an hour at most; who looks for the answer asks the same nodes, then a holder. Nodes keep pointers in memory only: they are
//! gone before a database would have paid for them.
//!
//! A pointer is a hint and its keeper may lie: what a holder hands over is verified like any answer, whoever led to it.

use std::collections::{BTreeMap, BTreeSet};
use std::future::ready;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use comity_capability::record::GroupSecret;
use comity_core::{AgentId, Hash, OverlayId};
use comity_results::bulk::{Large, Offer, accept_offer};
use comity_results::key::IndexKey;
use comity_results::pointer::{HOLDERS_ENOUGH, Pointer};
use comity_results::result::{Accepted, Refusal, Rules, SharedResult, accept};
use comity_results::terms::Terms;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::bulk::{NotMoved, Source};
use super::shelf::Part;
use super::wire::{HeldBy, POINTERS_MAX, Question, Told, WorkedBy};
use super::working::MARKS_OF_KEY;
use super::{Results, locked};
use crate::groups::PrivateGroup;
use crate::node::{Inner, Node};
use crate::rpc::{CallError, CallFailure, ErrorCode};
use crate::transport::Protocol;

/// Nodes that a pointer is told to.
const TELL: usize = 4;
/// Nodes that are asked for pointers at once.
const ASK: usize = 3;
/// Holders that are tried for one question.
const TRY: usize = 16;
/// After such a silence others are asked besides: one, then twice as many each time, so that it does not take long to get past holders that
/// have left.
const NEXT_AFTER: Duration = Duration::from_millis(150);
/// The same while one of those asked is linked.
const NEXT_AFTER_LINKED: Duration = Duration::from_secs(1);
/// Declarations of which it is remembered who handed out answers.
const HELPED_MAX: usize = 1_024;
/// Peers that are remembered of one.
const HELPERS_MAX: usize = 4;
/// Peers that are asked at once for what they may not have.
const HELPERS_ASKED: usize = 2;
/// Whoever had nothing so often in a row is looked up again.
const MISSES_MAX: u32 = 4;
/// How long asking them may take.
const HELP_FOR: Duration = Duration::from_millis(400);
/// How long looking for a holder may take; less when the call's own time is short.
const LOOK_FOR: Duration = Duration::from_millis(1_500);
/// Share of a call's time that looking for a holder may take.
const LOOK_SHARE: u32 = 4;
/// How long handing an answer over may take; a large one is only told of so.
const FETCH_FOR: Duration = Duration::from_secs(4);
/// How long telling of a result may take.
const TELL_FOR: Duration = Duration::from_secs(5);
/// How often pointers that are about to end are looked for.
const RENEW_EVERY: Duration = Duration::from_secs(60);
/// After so many rounds what was taken back is told again.
const RETELL_ROUNDS: u32 = 30;

/// What a question is called outside of the node, and in whose circle.
#[derive(Debug, Clone)]
pub(crate) struct Outside {
    pub(crate) key: IndexKey,
    /// The private group, by its name here, among whose members the answer may be shared.
    pub(crate) group: Option<String>,
}

/// What is remembered with a pointer.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    sealed: Arc<[u8]>,
    addr: Option<SocketAddr>,
}

/// What an answer of a peer must be to be used.
pub(super) struct Fit<'a> {
    pub(super) terms: &'a Terms,
    pub(super) request: Hash,
    pub(super) producers: &'a BTreeSet<AgentId>,
    pub(super) max_age: Option<Duration>,
}

impl Results {
    /// Answers a peer's question. `group`: of which private group it proved to be a member.
    pub(crate) async fn answer(
        &self,
        caller: &AgentId,
        group: Option<&PrivateGroup>,
        remote: Option<SocketAddr>,
        question: &[u8],
    ) -> Result<Bytes, CallFailure> {
        let question = Question::decode(question).ok_or_else(|| {
            let text = "this is no question about results that this version knows";
            CallFailure::new(ErrorCode::InvalidInput, text)
        })?;
        let told = match question {
            Question::Announce { pointers } => {
                let kept = pointers.iter().filter(|sealed| self.note(caller, remote, sealed));
                Told::Heard { kept: kept.count() as u64 }
            }
            Question::Holders { key } => {
                let working = Some(self.told_working(&key)).filter(|known| !known.is_empty());
                Told::Holders { holders: self.told_holders(&key), working }
            }
            Question::Begin { key } => {
                Told::Heard { kept: self.note_work(caller, remote, key).into() }
            }
            Question::Await { key } => return self.awaited(&key, group).await,
            Question::Fetch { key } => {
                let found = self.offer(&key, group).or_else(|| self.hand_over(&key, group));
                return found.map(Bytes::from).ok_or_else(not_held);
            }
            Question::Acknowledge { acks } => {
                let kept = self.receipts.acknowledged(caller, &acks);
                Told::Heard { kept: kept as u64 }
            }
            Question::Retracted { descriptor } => {
                let (sealed, proofs) = self.warnings(&descriptor);
                let sealed = sealed.into_iter().map(Into::into).collect();
                let proofs = proofs.into_iter().map(Into::into).collect();
                Told::Retracted { sealed, proofs }
            }
            Question::Words {} => {
                let receipts = self.receipts.words().into_iter().map(Into::into).collect();
                Told::Words { receipts }
            }
            Question::Accuse { proof } => Told::Heard { kept: self.accused(&proof).into() },
            Question::Retract { descriptor, sealed } => {
                let kept =
                    sealed.iter().filter(|one| self.note_retraction(caller, descriptor, one));
                Told::Heard { kept: kept.count() as u64 }
            }
            Question::Reveal { job } => {
                return self.reveal(caller, job).map(Bytes::from).ok_or_else(not_held);
            }
        };
        Ok(told.encode().into())
    }

    /// Keeps the pointer of a holder that brings it itself.
    fn note(&self, holder: &AgentId, remote: Option<SocketAddr>, sealed: &[u8]) -> bool {
        use comity_results::pointer::Kept;
        if comity_trust::claimed_signer(sealed).is_none_or(|signer| signer != *holder) {
            return false;
        }
        let now = self.clock.now();
        let Ok((holder, pointer)) = Pointer::open(sealed, now) else { return false };
        let known = Known { sealed: sealed.into(), addr: remote };
        self.state().index.insert_with(holder, pointer, known, now) == Kept::Yes
    }

    fn told_holders(&self, key: &IndexKey) -> Vec<HeldBy> {
        let known = self.state().index.of_with(key, self.clock.now());
        let told = known.into_iter().take(POINTERS_MAX).map(|(_, _, known)| HeldBy {
            pointer: known.sealed.to_vec().into(),
            addr: known.addr.map(|addr| addr.to_string()),
        });
        told.collect()
    }

    /// A kept answer, for a peer that knows its name and, if it is a group's, is a member.
    pub(super) fn hand_over(
        &self,
        key: &IndexKey,
        group: Option<&PrivateGroup>,
    ) -> Option<Vec<u8>> {
        let now = self.clock.now();
        let mut state = self.state();
        let question = *state.named.get(key)?;
        let held = state.held.get(&question)?;
        let (outside, descriptor) = (held.outside.clone()?, held.descriptor);
        if outside.group.is_some() && outside.group.as_deref() != group.map(PrivateGroup::name) {
            return None;
        }
        let entry = state.store.get(&question, None, now)?;
        state.announcer.asked(descriptor, true, now);
        drop(state);
        Some(entry.accepted.result.encode())
    }

    /// Whether a peer that points to a result is to be asked for it.
    fn usable(&self, fit: &Fit<'_>, key: &IndexKey, told: &HeldBy) -> Option<Lead> {
        let now = self.clock.now();
        let (holder, pointer) = Pointer::open(&told.pointer, now).ok()?;
        if holder == self.me.id() || self.state().disappointing.is_avoided(&holder, now) {
            return None;
        }
        let producer = AgentId::from_bytes(pointer.producer.as_bytes()).ok()?;
        let fresh = fit.max_age.is_none_or(|max| {
            now.saturating_since(comity_core::Time::from_millis(pointer.finished_ms)) <= max
        });
        if pointer.key != *key || !fresh || !fit.producers.contains(&producer) {
            return None;
        }
        let addrs = told.addr.as_deref().and_then(|addr| addr.parse().ok()).into_iter().collect();
        let response = Some(pointer.response);
        Some(Lead { holder, addrs, finished_ms: pointer.finished_ms, response })
    }

    /// Takes in what somebody says of who holds an answer.
    fn heed_holders(
        &self,
        fit: &Fit<'_>,
        key: &IndexKey,
        told: Vec<HeldBy>,
        leads: &mut Vec<Lead>,
    ) {
        for held in told.into_iter().take(POINTERS_MAX) {
            if let Some(lead) = self.usable(fit, key, &held)
                && !leads.iter().any(|known| known.holder == lead.holder)
            {
                leads.push(lead);
            }
        }
    }

    pub(super) fn disappointed(&self, holder: AgentId) {
        self.state().disappointing.failed(holder, self.clock.now());
    }

    pub(super) fn is_disappointing(&self, agent: &AgentId) -> bool {
        self.state().disappointing.is_avoided(agent, self.clock.now())
    }

    fn check(&self, fit: &Fit<'_>, bytes: &[u8]) -> Result<Given, Wrong> {
        let said = match SharedResult::decode(bytes) {
            Ok(result) => Ok(result),
            Err(_) => Err(Offer::decode(bytes).map_err(|_| Wrong::Unreadable)?),
        };
        let receipt = said.as_ref().map_or_else(|offer| &offer.receipt, |result| &result.receipt);
        let liars = super::liars(&locked(&self.reputation), &[receipt.receipt.callee]);
        let mut guard = self.state();
        let state = &mut *guard;
        let rules = Rules {
            producers: Some(fit.producers),
            distrusted: Some(&liars),
            retracted: Some(&state.retracted),
            max_age: fit.max_age,
        };
        let now = self.clock.now();
        let roots = &mut state.roots;
        match said {
            Ok(result) => {
                accept(fit.terms, &fit.request, result, &rules, roots, now).map(Given::Whole)
            }
            Err(offer) => {
                accept_offer(fit.terms, &fit.request, offer, &rules, roots, now).map(Given::Large)
            }
        }
        .map_err(Wrong::Refused)
    }
}

/// Peers that handed out answers, by the capability's declaration: they are asked for others at once, which saves looking them up.
#[derive(Debug, Default)]
pub(super) struct Helpful(BTreeMap<Hash, Vec<Helper>>);

#[derive(Debug, Clone)]
struct Helper {
    agent: AgentId,
    addrs: Vec<SocketAddr>,
    /// Questions in a row to which it had no answer.
    misses: u32,
}

impl Helpful {
    fn helped(&mut self, descriptor: Hash, agent: AgentId, addrs: &[SocketAddr]) {
        if self.0.len() >= HELPED_MAX && !self.0.contains_key(&descriptor) {
            self.0.pop_first();
        }
        let helpers = self.0.entry(descriptor).or_default();
        helpers.retain(|known| known.agent != agent);
        helpers.insert(0, Helper { agent, addrs: addrs.to_vec(), misses: 0 });
        helpers.truncate(HELPERS_MAX);
    }

    fn missed(&mut self, descriptor: &Hash, agent: &AgentId) {
        if let Some(helpers) = self.0.get_mut(descriptor) {
            for helper in helpers.iter_mut().filter(|helper| helper.agent == *agent) {
                helper.misses += 1;
            }
            helpers.retain(|helper| helper.misses < MISSES_MAX);
        }
    }
}

/// What a peer answered with, verified as far as it goes.
#[derive(Debug)]
pub(super) enum Given {
    Whole(Accepted),
    /// What is said of a large answer; its pieces are to be fetched.
    Large(Large),
}

/// An answer that came from peers.
#[derive(Debug)]
pub(super) enum Came {
    Whole(Accepted),
    /// All of its pieces are in the file.
    Large(Large, Arc<Part>),
}

/// The same, with who handed it over; of several, who was asked first.
#[derive(Debug)]
pub(super) struct Handed {
    pub(super) came: Came,
    pub(super) holder: AgentId,
    /// The peer was working it out when it was asked.
    pub(super) awaited: bool,
}

/// A holder worth asking.
#[derive(Debug, Clone)]
pub(super) struct Lead {
    holder: AgentId,
    addrs: Vec<SocketAddr>,
    finished_ms: u64,
    /// Hash of the answer that it points to.
    response: Option<Hash>,
}

impl Lead {
    /// A peer that has announced nothing.
    pub(super) const fn unannounced(holder: AgentId, addrs: Vec<SocketAddr>) -> Self {
        Self { holder, addrs, finished_ms: 0, response: None }
    }

    fn source(&self) -> Source {
        Source { agent: self.holder, addrs: self.addrs.clone() }
    }
}

/// What is wrong with what a holder handed over.
#[derive(Debug, thiserror::Error)]
pub(super) enum Wrong {
    #[error("it is no result")]
    Unreadable,
    #[error(transparent)]
    Refused(Refusal),
    #[error(transparent)]
    Call(CallError),
    #[error("it did not come in time")]
    Late,
}

pub(super) fn not_held() -> CallFailure {
    CallFailure::new(ErrorCode::NotFound, "this agent holds nothing of that name")
}

/// The place of a question's name in the overlay.
const fn place(key: &IndexKey) -> OverlayId {
    OverlayId(key.0.0)
}

impl Node {
    /// Asks a peer about results. The answer is no longer than that question's may be.
    pub(super) async fn ask_about_results(
        &self,
        peer: AgentId,
        addrs: &[SocketAddr],
        question: &Question,
        group: Option<&GroupSecret>,
    ) -> Result<Bytes, CallError> {
        let limit = question.answer_limit();
        self.inner.rpc.ask_results(peer, addrs, &question.encode(), group, limit).await
    }

    /// The answer from a peer that holds it or is about to, which, and whether it was waited for. `nobody_else`: no producer is asked if none has it.
    pub(super) async fn held_by_peers(
        &self,
        fit: &Fit<'_>,
        outside: &Outside,
        left: Duration,
        nobody_else: bool,
    ) -> Option<Handed> {
        let (started, share) = (Instant::now(), left / LOOK_SHARE);
        // Nodes that have left make a search slow. Where nobody would work the answer out instead, there is no reason to end it.
        let patience = if nobody_else { left / 2 } else { share.min(LOOK_FOR) };
        let own = self.own_leads(fit, &outside.key);
        if !own.is_empty() {
            let heard = self.hear_retractions(&fit.terms.descriptor);
            let _late = tokio::time::timeout(patience, heard).await;
            // If they lead nowhere, there may be others: anybody may have brought them here.
            if let Some(found) = self.first_held(fit, outside, own, started + left).await {
                return Some(found);
            }
        }
        let looked = futures_util::future::join(
            tokio::time::timeout(patience, self.leads(fit, &outside.key)),
            // Keepers of retractions that keep silent do not take away what others say.
            tokio::time::timeout(patience, self.hear_retractions(&fit.terms.descriptor)),
        );
        let (Ok((leads, workers)), Ok(()) | Err(_)) = looked.await else { return None };
        if let Some(found) = self.first_held(fit, outside, leads, started + left).await {
            return Some(found);
        }
        let (given, worker) = self.held_by_workers(fit, outside, &workers, share).await?;
        let left = left.saturating_sub(started.elapsed());
        let came = self.bring(outside, given, &worker, ready(Vec::new()), left).await.ok()?;
        Some(Handed { came, holder: worker.holder, awaited: true })
    }

    async fn first_held(
        &self,
        fit: &Fit<'_>,
        outside: &Outside,
        known: Vec<Lead>,
        deadline: Instant,
    ) -> Option<Handed> {
        let mut leads = known.iter().take(TRY);
        let (mut asked, mut silent) = (FuturesUnordered::new(), BTreeSet::new());
        let mut at_once = 1;
        loop {
            // One after the other, but who keeps silent is not waited for: holders come and go.
            for lead in leads.by_ref().take(at_once) {
                silent.insert(lead.holder);
                asked.push(async move { (lead, self.fetch_result(fit, outside, lead).await) });
            }
            // Who is linked is there, and may need its time for a long answer, which is not to come several times.
            let is_there =
                silent.iter().any(|holder| self.inner.transport.is_linked(holder, Protocol::Rpc));
            let patience = if is_there { NEXT_AFTER_LINKED } else { NEXT_AFTER };
            let last = leads.len() == 0;
            let (lead, fetched) = tokio::select! {
                biased;
                Some(fetched) = asked.next() => fetched,
                () = tokio::time::sleep(patience), if !last => {
                    at_once = if is_there { 1 } else { 2 * at_once };
                    continue;
                }
                else => return None,
            };
            silent.remove(&lead.holder);
            at_once = 1;
            match fetched {
                Ok(given) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    let came =
                        match self.bring(outside, given, lead, ready(known.clone()), left).await {
                            Ok(came) => came,
                            // Another may say something better of it.
                            Err(NotMoved::Source) => continue,
                            Err(NotMoved::Holders { .. } | NotMoved::Disk(_)) => return None,
                        };
                    let mut state = self.inner.results.state();
                    state.helpful.helped(fit.terms.descriptor, lead.holder, &lead.addrs);
                    return Some(Handed { came, holder: lead.holder, awaited: false });
                }
                // It has it, and others to serve.
                Err(Wrong::Call(CallError::Failed { code: ErrorCode::Busy, .. })) => {}
                Err(wrong) => {
                    // Once: it is not asked again for an hour.
                    debug!(holder = %lead.holder.short(), %wrong, "a holder did not have what it announced");
                    self.inner.results.disappointed(lead.holder);
                }
            }
        }
    }

    /// The same from peers that had other answers of the capability, one of whom may have this one: a round trip, without looking anybody up.
    pub(super) async fn held_by_helpers(
        &self,
        fit: &Fit<'_>,
        outside: &Outside,
        left: Duration,
    ) -> Option<Handed> {
        let results = &self.inner.results;
        let helpers = results.state().helpful.0.get(&fit.terms.descriptor).cloned()?;
        let mut asked: FuturesUnordered<_> = helpers
            .into_iter()
            .take(HELPERS_ASKED)
            .map(|Helper { agent, addrs, .. }| async move {
                let lead = Lead::unannounced(agent, addrs);
                let fetched = self.fetch_result(fit, outside, &lead).await;
                (lead, fetched)
            })
            .collect();
        let found = async {
            while let Some((lead, fetched)) = asked.next().await {
                let holder = lead.holder;
                match fetched {
                    Ok(given) => return Some((given, lead)),
                    // It had announced nothing, so having nothing is no fault.
                    Err(Wrong::Call(_)) => {
                        results.state().helpful.missed(&fit.terms.descriptor, &holder);
                    }
                    Err(wrong @ (Wrong::Unreadable | Wrong::Refused(_) | Wrong::Late)) => {
                        debug!(holder = %holder.short(), %wrong, "a holder handed out what cannot be used");
                        results.disappointed(holder);
                        let mut state = results.state();
                        state.helpful.0.remove(&fit.terms.descriptor);
                    }
                }
            }
            None
        };
        let (given, lead) = tokio::time::timeout(HELP_FOR, found).await.ok().flatten()?;
        // Who else has it makes a large one come faster.
        let others = async {
            let own = self.own_leads(fit, &outside.key);
            if own.is_empty() { self.leads(fit, &outside.key).await.0 } else { own }
        };
        let came = self.bring(outside, given, &lead, others, left).await.ok()?;
        Some(Handed { came, holder: lead.holder, awaited: false })
    }

    /// Has what a holder said of an answer followed by the answer.
    async fn bring(
        &self,
        outside: &Outside,
        given: Given,
        lead: &Lead,
        others: impl Future<Output = Vec<Lead>> + Send,
        left: Duration,
    ) -> Result<Came, NotMoved> {
        let large = match given {
            Given::Whole(accepted) => return Ok(Came::Whole(accepted)),
            Given::Large(large) => large,
        };
        let response = large.response();
        let others = async {
            let same = |one: &Lead| {
                one.holder != lead.holder
                    && one.response == Some(response)
                    && !self.inner.results.is_disappointing(&one.holder)
            };
            others.await.into_iter().filter(same).map(|lead| lead.source()).collect()
        };
        let moved = self.move_large(outside, &large, lead.source(), others);
        let moved = tokio::time::timeout(left, moved).await;
        let moved = moved.unwrap_or_else(|_| {
            debug!(?left, "a large answer did not get here in time: its pieces are kept");
            Err(NotMoved::Holders { missing: 0 })
        });
        let part = moved.inspect_err(|why| debug!(%why, "a large answer did not get here"))?;
        Ok(Came::Large(large, part))
    }

    /// Who told this node to hold the answer, the newest first.
    fn own_leads(&self, fit: &Fit<'_>, key: &IndexKey) -> Vec<Lead> {
        let results = &self.inner.results;
        let mut leads = Vec::new();
        results.heed_holders(fit, key, results.told_holders(key), &mut leads);
        self.sort_leads(&mut leads);
        leads
    }

    /// Who told others to hold the answer, the newest first, and who is said to work it out.
    async fn leads(&self, fit: &Fit<'_>, key: &IndexKey) -> (Vec<Lead>, Vec<WorkedBy>) {
        let results = &self.inner.results;
        let mut workers = results.told_working(key);
        let mut leads = Vec::new();
        let keepers = self.nearest(key, ASK).await;
        let question = Question::Holders { key: *key };
        let mut asked: FuturesUnordered<_> = keepers
            .iter()
            .map(|(agent, addrs)| self.ask_about_results(*agent, addrs, &question, None))
            .collect();
        // The first who knows a holder is enough: what comes from there is verified.
        while leads.is_empty()
            && let Some(answer) = asked.next().await
        {
            if let Ok(answer) = answer
                && let Some(Told::Holders { holders, working }) = Told::decode(&answer)
            {
                results.heed_holders(fit, key, holders, &mut leads);
                workers.extend(working.into_iter().flatten().take(MARKS_OF_KEY));
            }
        }
        self.sort_leads(&mut leads);
        (leads, workers)
    }

    /// Of equally new answers, first from who is known to be there.
    fn sort_leads(&self, leads: &mut [Lead]) {
        leads.sort_by_cached_key(|lead| {
            let linked = self.inner.transport.is_linked(&lead.holder, Protocol::Rpc);
            (std::cmp::Reverse(lead.finished_ms), !linked)
        });
    }

    async fn fetch_result(
        &self,
        fit: &Fit<'_>,
        outside: &Outside,
        lead: &Lead,
    ) -> Result<Given, Wrong> {
        let question = Question::Fetch { key: outside.key };
        self.fetched(fit, outside, lead.holder, &lead.addrs, &question, FETCH_FOR).await
    }

    /// What a peer hands over, verified.
    pub(super) async fn fetched(
        &self,
        fit: &Fit<'_>,
        outside: &Outside,
        peer: AgentId,
        addrs: &[SocketAddr],
        question: &Question,
        patience: Duration,
    ) -> Result<Given, Wrong> {
        let group = outside.group.as_deref().and_then(|name| self.inner.groups.get(name).ok());
        let secret = group.as_ref().map(|group| group.secret());
        let work = self.ask_about_results(peer, addrs, question, secret);
        let bytes = tokio::time::timeout(patience, work)
            .await
            .map_err(|_| Wrong::Late)?
            .map_err(Wrong::Call)?;
        self.inner.results.check(fit, &bytes)
    }

    /// The nodes nearest to a question's name. This node is not among them.
    pub(super) async fn nearest(
        &self,
        key: &IndexKey,
        count: usize,
    ) -> Vec<(AgentId, Vec<SocketAddr>)> {
        self.nearest_to(place(key), count).await
    }

    pub(super) async fn nearest_to(
        &self,
        place: OverlayId,
        count: usize,
    ) -> Vec<(AgentId, Vec<SocketAddr>)> {
        let Ok(found) = self.inner.directory.lookup(place).await else { return Vec::new() };
        let nearest = found.closest.iter().take(count);
        nearest.map(|contact| (contact.agent, contact.addrs.clone())).collect()
    }

    /// Tells the nodes nearest to the name that the answer is held here.
    async fn tell(&self, outside: &Outside, sealed: Vec<u8>) {
        let me = self.inner.info.overlay_id;
        let keepers = self.nearest(&outside.key, TELL).await;
        let place = place(&outside.key);
        // Where the network is small, or this node happens to be near, it keeps the pointer as well.
        let farthest = keepers.last().and_then(|(agent, _)| self.inner.positions.get(agent));
        if keepers.len() < TELL
            || farthest.is_some_and(|id| me.distance(&place) < id.distance(&place))
        {
            self.inner.results.note(&self.id(), self.info().addrs.first().copied(), &sealed);
        }
        let question = Question::Announce { pointers: vec![sealed.into()] };
        let told = keepers
            .iter()
            .map(|(agent, addrs)| self.ask_about_results(*agent, addrs, &question, None));
        let told = futures_util::future::join_all(told);
        let kept = tokio::time::timeout(TELL_FOR, told).await;
        let kept = kept.map_or(0, |told| told.iter().filter(|said| said.is_ok()).count());
        debug!(key = ?outside.key, kept, "peers were told of a result held here");
    }

    /// Tells peers of a result if that is worth it; beside the call, not in it.
    pub(super) fn announce(&self, question: comity_results::key::QuestionKey, asked: u32) {
        let Some((outside, sealed)) = self.inner.results.announcement(&question, asked) else {
            return;
        };
        let node = self.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = node.tell(&outside, sealed) => {}
                () = node.inner.cancel.cancelled() => {}
            }
        });
    }

    /// Announces again what is still worth it, until the node stops.
    pub(crate) async fn renew_pointers(node: Weak<Inner>, cancel: CancellationToken) {
        let mut rounds = 0_u32;
        loop {
            tokio::select! {
                () = tokio::time::sleep(RENEW_EVERY) => {}
                () = cancel.cancelled() => return,
            }
            let Some(inner) = node.upgrade() else { return };
            let node = Self { inner };
            tokio::select! {
                () = node.renew_once() => {}
                () = cancel.cancelled() => return,
            }
            rounds = rounds.wrapping_add(1);
            if rounds.is_multiple_of(RETELL_ROUNDS) {
                node.retell_retractions().await;
            }
        }
    }

    async fn renew_once(&self) {
        let results = &self.inner.results;
        let then = results.clock.now() + 2 * RENEW_EVERY;
        while let Some((question, outside)) = results.ending(then) {
            if self.others_hold(&outside.key).await < HOLDERS_ENOUGH
                && let Some(sealed) = results.renewed(&question, &outside)
            {
                self.tell(&outside, sealed).await;
            }
        }
        results.sweep_shelf().await;
        results.flush().await;
    }

    /// How many others say to hold the result.
    async fn others_hold(&self, key: &IndexKey) -> usize {
        let question = Question::Holders { key: *key };
        for (agent, addrs) in self.nearest(key, 1).await {
            let answer = self.ask_about_results(agent, &addrs, &question, None).await;
            if let Ok(answer) = answer
                && let Some(Told::Holders { holders, .. }) = Told::decode(&answer)
            {
                let now = self.inner.clock.now() + 2 * RENEW_EVERY;
                let others: BTreeSet<AgentId> = holders
                    .iter()
                    .filter_map(|held| Pointer::open(&held.pointer, now).ok())
                    .map(|(holder, _)| holder)
                    .filter(|holder| *holder != self.id())
                    .collect();
                return others.len();
            }
        }
        0
    }
}
