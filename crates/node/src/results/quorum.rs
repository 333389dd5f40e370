//! Asking several producers, which commit to their answers before anybody reveals one. The pure machine decides
//! ([`comity_results::quorum::Quorum`]); here are its messages.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use comity_api::types::{
    Attempt, AttemptOutcome, CallEvent, CallSummary, ErrorCode, ErrorInfo, Part as ApiPart, Proof,
    Voice,
};
use comity_capability::record::{Capability, Determinism};
use comity_core::{AgentId, Hash, Time, canonical};
use comity_results::ack::Verdict;
use comity_results::contradiction::Contradiction;
use comity_results::quorum::{Action, Candidate, Outcome, Part, Prefix, Quorum, Spec, job};
use comity_results::result::{Accepted, Rules, SharedResult, accept};
use comity_results::terms::Terms;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use serde_json::Value;
use tokio::sync::mpsc;
use tracing::warn;

use super::reuse::{Producer, Reused, Wanted, micros};
use super::wire::{Question, Revealed};
use super::{Results, locked};
use crate::calls::call_error;
use crate::groups::PrivateGroup;
use crate::node::Node;
use crate::rpc::{self, Written};

/// Share of a call's time after which producers that have not committed are left out, in percent.
const COMMIT_PERCENT: u32 = 70;

/// A producer as it is asked.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) agent: AgentId,
    pub(crate) addrs: Vec<SocketAddr>,
    pub(crate) capability: Arc<Capability>,
    pub(crate) terms: Arc<Terms>,
    pub(crate) group: Option<Arc<PrivateGroup>>,
    pub(crate) request: rpc::CallRequest,
}

impl Asked {
    fn producer(&self) -> Producer<'_> {
        let Self { agent, capability, terms, group, .. } = self;
        Producer { agent: *agent, capability, terms, group: group.as_ref() }
    }
}

/// How long its producer says that working it out took.
fn took(answer: &Accepted) -> Duration {
    let receipt = &answer.verified.receipt;
    Duration::from_millis(receipt.finished_ms.saturating_sub(receipt.started_ms))
}

/// What a producer said.
enum Said {
    Committed(AgentId, Result<Hash, ErrorInfo>),
    Revealed(AgentId, Result<(Hash, Box<Accepted>), ErrorInfo>),
}

impl Node {
    /// The answer that enough of these producers, the best first, agree on.
    pub(crate) async fn by_quorum(
        &self,
        spec: Spec,
        producers: Vec<Asked>,
        (wanted, input): (&Wanted, &Value),
        events: &mpsc::Sender<CallEvent>,
        started: Instant,
        left: Duration,
    ) -> Result<CallSummary, ErrorInfo> {
        let mut producers = comparable(producers)?;
        // One's own answer is no second opinion, and needs no call.
        producers.retain(|asked| asked.agent != self.id());
        if let Some(first) = producers.first() {
            // Somebody may know better than to believe one of them.
            self.hear_retractions(&first.terms.descriptor).await;
        }
        producers
            .retain(|asked| locked(&self.inner.results.reputation).lied(&asked.agent).is_none());
        let request = canonical::hash_json(input).map_err(|error| {
            ErrorInfo::new(ErrorCode::BadInput, format!("the input has no canonical form: {error}"))
        })?;
        let me = self.id();
        let name = job(&me, &request, &Hash(rand::random()));
        let reuse = producers.first().and_then(|first| first.capability.reuse.clone());
        let candidates = producers.iter().map(candidate).collect();
        let now = self.inner.clock.now();
        let times = [now + left * COMMIT_PERCENT / 100, now + left];
        let (quorum, actions) =
            Quorum::begin(name, spec, reuse.unwrap_or_default(), candidates, times)
                .map_err(|error| ErrorInfo::new(ErrorCode::NoMatch, error.to_string()))?;
        let by_agent: BTreeMap<AgentId, Asked> =
            producers.iter().map(|asked| (asked.agent, asked.clone())).collect();
        let mut run = Run {
            node: self,
            events,
            by_agent: &by_agent,
            request,
            job: name,
            quorum,
            working: FuturesUnordered::new(),
            failures: BTreeMap::new(),
            began: BTreeMap::new(),
        };
        run.follow(actions, left).await;
        let Some(outcome) = run.finish(started + left).await else {
            return Err(ErrorInfo::new(ErrorCode::Timeout, "the quorum did not end in time"));
        };
        let failures = run.failures;
        self.remember_quorum(&outcome, &by_agent).await;
        self.judge(&outcome, &by_agent);
        for answer in outcome.answers.values() {
            let receipt = &answer.result.receipt;
            self.log_made(receipt, &Written::of(receipt)).await;
        }
        let Some(answer) = &outcome.answer else {
            return Err(self.disagreement(spec, &outcome, &failures));
        };
        if let Some(asked) = by_agent.get(&answer.producer()) {
            self.keep(wanted, &asked.producer(), input, answer.result.clone(), took(answer));
        }
        let known = Reused::agreed(answer);
        let summary = self.hand_out(known, events, started).await?;
        Ok(CallSummary { voices: self.voices(&outcome), ..summary })
    }

    fn voices(&self, outcome: &Outcome) -> Vec<Voice> {
        let voice = |(agent, part): (&AgentId, &Part)| Voice {
            agent: self.name_of(agent),
            part: shown(*part),
            proof: outcome.answers.get(agent).map(|one| Proof::from(&one.result.receipt)),
        };
        outcome.parts.iter().map(voice).collect()
    }

    /// Who agreed is known to have, for a while. Only producers that do not depend on each other are asked: each is a root of its own.
    async fn remember_quorum(&self, outcome: &Outcome, by_agent: &BTreeMap<AgentId, Asked>) {
        if outcome.answer.is_none() {
            return;
        }
        let agreed = |(agent, part): (&AgentId, &Part)| (*part == Part::Agreed).then_some(*agent);
        let agents: Vec<AgentId> = outcome.parts.iter().filter_map(agreed).collect();
        let capability = agents.first().and_then(|agent| by_agent.get(agent));
        if let Some(asked) = capability {
            let count = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
            let (all, roots) = (count(outcome.parts.len()), count(agents.len()));
            let name = &asked.capability.name;
            if let Err(error) = self.remember_agreement(&agents, name, all, roots).await {
                warn!(%error, "who agreed in a quorum is forgotten when this node stops");
            }
        }
    }

    /// What the outcome says of each producer.
    fn judge(&self, outcome: &Outcome, by_agent: &BTreeMap<AgentId, Asked>) {
        let results = &self.inner.results;
        let now = self.inner.clock.now();
        for (agent, part) in &outcome.parts {
            let mut reputation = locked(&results.reputation);
            let verdict = match part {
                // Without a majority nobody was found right or wrong.
                Part::Agreed | Part::Dissented if outcome.answer.is_none() => Verdict::Received,
                Part::Agreed => {
                    reputation.confirmed(*agent, now);
                    Verdict::Confirmed
                }
                Part::Dissented | Part::BrokeCommitment => {
                    reputation.disputed(*agent, now);
                    Verdict::Disputed
                }
                Part::Failed => {
                    reputation.failed(*agent, now);
                    continue;
                }
            };
            drop(reputation);
            let Some(answer) = outcome.answers.get(agent) else { continue };
            let receipt = &answer.result.receipt;
            results.receipts.made(receipt, &Written::of(receipt));
            results.receipts.judged(receipt, verdict);
            if let Some(before) = results.known_of(answer)
                && let Some(asked) = by_agent.get(agent)
                && let Ok(proof) = Contradiction::new(
                    &asked.capability,
                    (&before.result.receipt, &before.result.body),
                    (&answer.result.receipt, &answer.result.body),
                )
            {
                results.proved(*agent, &proof);
                self.accuse(&proof);
            }
        }
    }

    fn disagreement(
        &self,
        spec: Spec,
        outcome: &Outcome,
        failures: &BTreeMap<AgentId, ErrorInfo>,
    ) -> ErrorInfo {
        let told: Vec<String> = outcome
            .parts
            .iter()
            .map(|(agent, part)| {
                let what = match part {
                    Part::Agreed => "agreed".to_owned(),
                    Part::Dissented => "answered otherwise".to_owned(),
                    Part::BrokeCommitment => {
                        "revealed another answer than it committed to".to_owned()
                    }
                    Part::Failed => failures
                        .get(agent)
                        .map_or_else(|| "did not answer".to_owned(), |error| error.message.clone()),
                };
                format!("{}: {what}", self.name_of(agent).handle)
            })
            .collect();
        let text = format!(
            "no {spec} quorum: {} of {} agree ({})",
            outcome.agreeing,
            outcome.parts.len(),
            told.join("; ")
        );
        ErrorInfo::new(ErrorCode::NotVerified, text)
            .hint("do not rely on any of the answers; `comity receipts list` has them, signed")
    }
}

/// One quorum on its way.
struct Run<'a> {
    node: &'a Node,
    events: &'a mpsc::Sender<CallEvent>,
    by_agent: &'a BTreeMap<AgentId, Asked>,
    request: Hash,
    job: Hash,
    quorum: Quorum,
    working: FuturesUnordered<BoxFuture<'a, Said>>,
    failures: BTreeMap<AgentId, ErrorInfo>,
    began: BTreeMap<AgentId, (u32, Instant)>,
}

impl<'a> Run<'a> {
    async fn follow(&mut self, actions: Vec<Action>, left: Duration) {
        for action in actions {
            match action {
                Action::Ask(agent) => {
                    let Some(asked) = self.by_agent.get(&agent) else { continue };
                    let number = u32::try_from(self.began.len() + 1).unwrap_or(u32::MAX);
                    self.began.insert(agent, (number, Instant::now()));
                    self.report(agent, AttemptOutcome::Started).await;
                    let (rpc, job) = (self.node.inner.rpc.clone(), self.job);
                    let request = asked.request.clone().deadline(left);
                    self.working.push(Box::pin(async move {
                        let said = rpc.commit(agent, &asked.addrs, &request, job).await;
                        Said::Committed(agent, said.map_err(|error| call_error(&error)))
                    }));
                }
                Action::Reveal(agent) => {
                    let Some(asked) = self.by_agent.get(&agent) else { continue };
                    let (node, job, request) = (self.node, self.job, self.request);
                    self.working.push(Box::pin(async move {
                        Said::Revealed(agent, node.revealed(asked, job, request).await)
                    }));
                }
            }
        }
    }

    async fn finish(&mut self, until: Instant) -> Option<Outcome> {
        loop {
            if let Some(outcome) = self.quorum.outcome() {
                return Some(outcome);
            }
            let now = self.node.inner.clock.now();
            let wake = self.quorum.timeout().map_or(Duration::ZERO, |at| at.saturating_since(now));
            let left = until.saturating_duration_since(Instant::now());
            let actions = tokio::select! {
                Some(said) = self.working.next() => self.hear(said).await,
                () = tokio::time::sleep(wake) => self.quorum.at(self.now()),
            };
            self.follow(actions, left).await;
        }
    }

    fn now(&self) -> Time {
        self.node.inner.clock.now()
    }

    async fn hear(&mut self, said: Said) -> Vec<Action> {
        match said {
            Said::Committed(agent, Ok(commitment)) => self.quorum.committed(agent, commitment),
            Said::Revealed(agent, Ok((nonce, accepted))) => {
                let elapsed_us = self.elapsed(agent);
                self.report(agent, AttemptOutcome::Answered { elapsed_us }).await;
                let took = Duration::from_micros(elapsed_us);
                locked(&self.node.inner.results.reputation).answered(agent, took, self.now());
                self.quorum.revealed(agent, &nonce, *accepted)
            }
            Said::Committed(agent, Err(error)) | Said::Revealed(agent, Err(error)) => {
                let elapsed_us = self.elapsed(agent);
                let outcome = AttemptOutcome::Failed { elapsed_us, error: error.clone() };
                self.report(agent, outcome).await;
                self.failures.insert(agent, error);
                self.quorum.failed(agent)
            }
        }
    }

    fn elapsed(&self, agent: AgentId) -> u64 {
        self.began.get(&agent).map_or(0, |(_, began)| micros(began.elapsed()))
    }

    /// Tells the caller how a producer fares. What is sent later holds nothing of this, so that the call may move between threads.
    fn report(
        &self,
        agent: AgentId,
        outcome: AttemptOutcome,
    ) -> impl Future<Output = ()> + Send + use<'a> {
        let events = self.events;
        let attempt = self.by_agent.get(&agent).map(|asked| {
            let name = self.node.name_of(&agent);
            Attempt {
                number: self.began.get(&agent).map_or(0, |(number, _)| *number),
                target: format!("{}/{}", name.address, asked.capability.name),
                agent: name,
                outcome,
            }
        });
        async move {
            if let Some(attempt) = attempt {
                let _gone = events.send(CallEvent::Attempt(attempt)).await;
            }
        }
    }
}

impl Node {
    /// The answer a producer committed to, checked as any other.
    async fn revealed(
        &self,
        asked: &Asked,
        job: Hash,
        request: Hash,
    ) -> Result<(Hash, Box<Accepted>), ErrorInfo> {
        let question = Question::Reveal { job };
        let bytes = self.ask_about_results(asked.agent, &asked.addrs, &question, None).await;
        let bytes = bytes.map_err(|error| call_error(&error))?;
        let wrong = |what: String| ErrorInfo::new(ErrorCode::NotVerified, what);
        let revealed =
            Revealed::decode(&bytes).ok_or_else(|| wrong("it revealed no result".to_owned()))?;
        let result = SharedResult::decode(&revealed.result)
            .map_err(|error| wrong(format!("it revealed no result: {error}")))?;
        if result.receipt.receipt.caller != self.id() {
            return Err(wrong("it revealed an answer that was given to another caller".to_owned()));
        }
        let accepted = self
            .inner
            .results
            .accept_from(asked, &request, result)
            .map_err(|refusal| wrong(refusal.to_string()))?;
        Ok((revealed.nonce, Box::new(accepted)))
    }
}

impl Results {
    fn accept_from(
        &self,
        asked: &Asked,
        request: &Hash,
        result: SharedResult,
    ) -> Result<Accepted, comity_results::result::Refusal> {
        let only = BTreeSet::from([asked.agent]);
        let rules = Rules { producers: Some(&only), ..Rules::default() };
        let now = self.clock.now();
        accept(&asked.terms, request, result, &rules, &mut self.state().roots, now)
    }

    /// An earlier, different answer of the same producer to the same question.
    fn known_of(&self, answer: &Accepted) -> Option<Arc<Accepted>> {
        let now = self.clock.now();
        let state = self.state();
        let before = &state.store.peek(&answer.question, now)?.accepted;
        let differs =
            before.producer() == answer.producer() && before.result.body != answer.result.body;
        differs.then(|| Arc::clone(before))
    }
}

/// Producers whose answers can be compared with those of the first.
fn comparable(producers: Vec<Asked>) -> Result<Vec<Asked>, ErrorInfo> {
    let Some(first) = producers.first() else {
        return Err(ErrorInfo::new(ErrorCode::NoMatch, "there is nobody to ask"));
    };
    let interface = first.capability.interface.digest();
    let determinism = |capability: &Capability| {
        capability.reuse.as_ref().map_or(Determinism::Free, |reuse| reuse.determinism)
    };
    if determinism(&first.capability) == Determinism::Free {
        let text = format!(
            "the answers of `{}` cannot be compared: its declaration does not say that they are reproducible",
            first.capability.name
        );
        return Err(ErrorInfo::new(ErrorCode::BadRequest, text)
            .hint("its manifest would need [reuse] determinism = \"exact\" or \"comparable\""));
    }
    let mut producers = producers;
    producers.retain(|asked| {
        asked.capability.interface.digest() == interface
            && determinism(&asked.capability) > Determinism::Free
    });
    Ok(producers)
}

fn candidate(asked: &Asked) -> Candidate {
    let prefix = asked.addrs.first().and_then(|addr| Prefix::of(addr.ip()));
    let sources = asked.capability.reuse.as_ref().map(|reuse| reuse.sources.clone());
    Candidate { agent: asked.agent, prefix, sources: sources.unwrap_or_default() }
}

const fn shown(part: Part) -> ApiPart {
    match part {
        Part::Agreed => ApiPart::Agreed,
        Part::Dissented => ApiPart::Dissented,
        Part::BrokeCommitment => ApiPart::BrokeCommitment,
        Part::Failed => ApiPart::Failed,
    }
}
