//! Answers that are checked: mostly while little is known of who answers, and now and then later, another producer is asked besides, and what comes
//! of it moves the reputation of all who answered. The pure machine decides ([`comity_results::adaptive`]); here are its calls.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use comity_api::types::{
    AttemptOutcome, CallEvent, CallSummary, Chunk, ErrorCode, ErrorInfo, Origin, Part, Proof, Voice,
};
use comity_capability::record::{Capability, Determinism};
use comity_core::{AgentId, canonical};
use comity_results::ack::Verdict;
use comity_results::adaptive::{Adaptive, Next, Settled};
use comity_results::compare::same;
use comity_results::quorum::{Candidate, Prefix};
use comity_results::repute::is_checked;
use comity_results::result::split_items;

use super::attempt::{Done, Running};
use super::{ATTEMPT_MIN, Call, Callee, Ended, micros, summarise, whole_millis};
use crate::node::Node;
use crate::results;

/// Answers are compared by their bytes, under what the capability declares.
type Body = Arc<[u8]>;

/// Who was asked, and what came of it.
#[derive(Default)]
struct Round {
    given: BTreeMap<AgentId, (Done, Duration)>,
    failures: BTreeMap<AgentId, ErrorInfo>,
}

impl Node {
    /// Those whose answers can be compared with the first one's, it among them; none when this call is not to be checked. What is private is shown to nobody besides.
    pub(super) fn to_check<'a>(
        &self,
        call: &Call<'_>,
        callees: &'a [Callee],
    ) -> Option<Vec<&'a Callee>> {
        let wishes = call.request.reuse;
        let first = callees.first()?;
        let only_one = call.request.max_attempts.is_some_and(|max| max < 2);
        if wishes.private || wishes.unchecked || only_one || first.agent == self.id() {
            return None;
        }
        let interface = first.terms.interface;
        // Two that know different things may differ, and neither is wrong.
        let data_version = &first.capability.data_version;
        let reputation = self.inner.results.reputation();
        let comparable: Vec<&Callee> = callees
            .iter()
            .filter(|callee| {
                is_checkable(callee)
                    && callee.terms.interface == interface
                    && callee.capability.data_version == *data_version
                    && callee.agent != self.id()
                    && reputation.lied(&callee.agent).is_none()
            })
            .collect();
        let chosen = comparable.first().filter(|chosen| chosen.agent == first.agent)?;
        let candidate_of_first = candidate(chosen);
        let another =
            comparable.iter().any(|other| candidate(other).is_independent_of(&candidate_of_first));
        let streak = reputation.standing(&first.agent, self.inner.clock.now()).streak;
        // Drawn here, so that no producer knows whether it is checked.
        (another && is_checked(streak, rand::random())).then_some(comparable)
    }

    /// Calls the first of these and checks its answer by others. None when no answer can be compared, which says nothing of any.
    pub(super) async fn checked(
        &self,
        call: &Call<'_>,
        callees: &[&Callee],
    ) -> Option<Result<CallSummary, Ended>> {
        let (first, others) = callees.split_first()?;
        let reuse = first.capability.reuse.clone()?;
        let others = others.iter().map(|callee| candidate(callee)).collect();
        let alike = move |a: &Body, b: &Body| same(&reuse, a, b);
        let (mut question, mut next) = Adaptive::checking(candidate(first), others, alike);
        let mut round = Round::default();
        while let Next::Ask(agent) = next {
            let left = call.timeout.saturating_sub(call.started.elapsed());
            let Some(callee) = callees.iter().find(|callee| callee.agent == agent) else { break };
            if left.is_zero() {
                break;
            }
            let now = self.inner.clock.now();
            next = match self.quietly(call, callee, left, &mut round).await {
                Some((body, took)) => {
                    question.answered(&self.inner.results.reputation(), body, took, now)
                }
                None => question.failed(&self.inner.results.reputation(), now),
            };
        }
        let now = self.inner.clock.now();
        let settled = question.finish(&mut self.inner.results.reputation(), now);
        if round.given.is_empty() {
            let failures: Vec<ErrorInfo> = round.failures.into_values().collect();
            let too_large = failures.iter().any(|error| error.code == ErrorCode::TooLarge);
            return (!too_large).then(|| Err(summarise(failures).into()));
        }
        Some(self.settle(call, callees, settled, round).await)
    }

    /// One call whose answer nobody sees yet.
    async fn quietly(
        &self,
        call: &Call<'_>,
        callee: &Callee,
        left: Duration,
        round: &mut Round,
    ) -> Option<(Body, Duration)> {
        let number = u32::try_from(round.given.len() + round.failures.len() + 1).ok()?;
        let started = Instant::now();
        let mut attempt = Running {
            node: self,
            events: call.events,
            callee,
            number,
            started,
            shown: false,
            quiet: true,
        };
        attempt.report(AttemptOutcome::Started).await;
        let share = whole_millis((left / 2).max(ATTEMPT_MIN).min(left));
        let result = attempt.run(&call.request.input, share).await;
        let took = started.elapsed();
        let elapsed_us = micros(took);
        let error = match result {
            Ok(mut done) => match done.body.take() {
                Some(results::Body::Whole(body)) => {
                    let body: Body = body.into();
                    attempt.report(AttemptOutcome::Answered { elapsed_us }).await;
                    let done = Done { body: Some(results::Body::Whole(body.to_vec())), ..done };
                    round.given.insert(callee.agent, (done, took));
                    return Some((body, took));
                }
                Some(results::Body::Spilled(_)) | None => {
                    let text = "its answer is too large to be compared with another";
                    ErrorInfo::new(ErrorCode::TooLarge, text)
                }
            },
            Err(failed) => failed.error,
        };
        attempt.report(AttemptOutcome::Failed { elapsed_us, error: error.clone() }).await;
        round.failures.insert(callee.agent, error);
        None
    }

    /// Notes who was found right and who was not, and gives out the accepted answer.
    async fn settle(
        &self,
        call: &Call<'_>,
        callees: &[&Callee],
        settled: Settled<Body>,
        mut round: Round,
    ) -> Result<CallSummary, Ended> {
        let voices = if round.given.len() > 1 { self.heard(&settled, &round) } else { Vec::new() };
        let accepted = settled.answer.as_ref().map(|(agent, _)| *agent);
        let receipts = &self.inner.results.receipts;
        for (agent, (done, _)) in &round.given {
            if Some(*agent) != accepted {
                receipts.made(&done.receipt, &done.written);
            }
            if settled.disputed.contains(agent) {
                receipts.judged(&done.receipt, Verdict::Disputed);
            }
        }
        let winner = accepted.and_then(|agent| {
            let callee = callees.iter().find(|callee| callee.agent == agent)?;
            Some((*callee, round.given.remove(&agent)?))
        });
        let Some((callee, (done, took))) = winner else {
            return Err(self.at_odds(&voices).into());
        };
        let items = match &done.body {
            Some(results::Body::Whole(body)) => split_items(body).unwrap_or_default(),
            // Those are not compared.
            Some(results::Body::Spilled(_)) | None => Vec::new(),
        };
        for (index, item) in (0..).zip(items) {
            let value = canonical::to_json(item).map_err(|error| {
                let text = format!("an answer that was verified is unreadable: {error}");
                ErrorInfo::new(ErrorCode::Internal, text)
            })?;
            let _gone = call.events.send(CallEvent::Chunk(Chunk { index, value })).await;
        }
        let input = &call.request.input;
        receipts.made(&done.receipt, &done.written);
        let proof = Proof::spelled(&done.receipt, &done.written.bytes);
        self.learn(&call.wanted, &callee.producer(), input, &done.receipt, done.body, took);
        if settled.confirmed.contains(&callee.agent) {
            receipts.judged(&done.receipt, Verdict::Confirmed);
        }
        let _gone = call.events.send(CallEvent::Receipt(proof)).await;
        Ok(CallSummary {
            target: self.target_text(callee),
            streamed: done.streamed,
            items: done.items,
            bytes: done.bytes,
            elapsed_us: micros(call.started.elapsed()),
            attempt_us: micros(took),
            origin: Origin::Producer,
            voices,
        })
    }

    fn heard(&self, settled: &Settled<Body>, round: &Round) -> Vec<Voice> {
        let given = round.given.iter().map(|(agent, (done, _))| Voice {
            agent: self.name_of(agent),
            part: if settled.disputed.contains(agent) || settled.answer.is_none() {
                Part::Dissented
            } else {
                Part::Agreed
            },
            proof: Some(Proof::from(&done.receipt)),
        });
        let failed = round.failures.keys().map(|agent| Voice {
            agent: self.name_of(agent),
            part: Part::Failed,
            proof: None,
        });
        given.chain(failed).collect()
    }

    fn at_odds(&self, voices: &[Voice]) -> ErrorInfo {
        let who: Vec<&str> = voices.iter().map(|voice| voice.agent.handle.as_str()).collect();
        let text = format!(
            "{} agents that were asked to check each other answered differently, and none has enough on its side: {}",
            who.len(),
            who.join(", ")
        );
        ErrorInfo::new(ErrorCode::NotVerified, text).hint(
            "`--quorum m/n` asks more of them; an agent that is called by its address, or with `--unchecked`, is not checked",
        )
    }
}

/// Its answers can be asked for twice, kept whole, and compared.
fn is_checkable(callee: &Callee) -> bool {
    let capability: &Capability = &callee.capability;
    let determinism = capability.reuse.as_ref().map(|reuse| reuse.determinism);
    capability.idempotent
        && !capability.streaming
        && callee.terms.is_keepable()
        && determinism.is_some_and(|determinism| determinism > Determinism::Free)
}

fn candidate(callee: &Callee) -> Candidate {
    let prefix = callee.addrs.first().and_then(|addr| Prefix::of(addr.ip()));
    let sources = callee.capability.reuse.as_ref().map(|reuse| reuse.sources.clone());
    Candidate { agent: callee.agent, prefix, sources: sources.unwrap_or_default() }
}
