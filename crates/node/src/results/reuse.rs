//! The road of a call past what is known already: own store, derived from a larger answer, peers that hold it, and only then the producer.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use comity_api::types::{
    CallEvent, CallRequest, CallSummary, Chunk, ErrorCode, ErrorInfo, Origin, Proof, QueryInput,
};
use comity_capability::record::Capability;
use comity_core::receipt::SignedReceipt;
use comity_core::{AgentId, Hash, canonical};
use comity_results::ask::{Ask, Plan, Source};
use comity_results::contradiction::Contradiction;
use comity_results::key::{IndexKey, QuestionKey};
use comity_results::quorum::Spec;
use comity_results::result::{Accepted, MAX_BODY, SharedResult};
use comity_results::subsume::{self, Columns};
use comity_results::terms::Terms;
use serde_json::Value;
use tokio::sync::mpsc;
use tracing::{debug, warn};

use super::share::{Fit, Handed, Outside};
use super::working::Turn;
use super::{LARGER_MAX, Learned};
use crate::groups::PrivateGroup;
use crate::node::Node;

/// Share of a call's time that looking for a holder may take.
const LOOK_SHARE: u32 = 4;

/// What a caller wants, as far as answers known already are concerned.
#[derive(Debug)]
pub(crate) struct Wanted {
    ask: Ask,
    /// Hash of the canonical request; none for a request without canonical form, which every producer will refuse.
    request: Option<Hash>,
    /// Names target and request in the caller's words.
    alias: Hash,
    /// Names the target alone, and as whom it is called.
    pub(crate) target: Hash,
    /// Nothing is derived from the answer to a larger question.
    exact: bool,
    pub(crate) quorum: Option<Spec>,
}

/// An answer that nobody had to work out.
#[derive(Debug)]
pub(crate) struct Reused {
    accepted: Arc<Accepted>,
    /// The items, where they are not those of the kept answer.
    derived: Option<Vec<Value>>,
    origin: Origin,
}

impl Reused {
    /// The answer that several producers agreed on: somebody did work for it.
    pub(super) fn agreed(answer: &Accepted) -> Self {
        Self { accepted: Arc::new(answer.clone()), derived: None, origin: Origin::Producer }
    }
}

/// Whoever is called.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Producer<'a> {
    pub(crate) agent: AgentId,
    pub(crate) capability: &'a Arc<Capability>,
    pub(crate) terms: &'a Arc<Terms>,
    pub(crate) group: Option<&'a Arc<PrivateGroup>>,
}

/// How a call goes on.
#[derive(Debug)]
pub(crate) enum Road {
    /// It is answered.
    Known(Box<Reused>),
    /// Somebody has to work; others of this node that ask the same wait while this is held.
    Work(Option<Turn>),
}

impl Wanted {
    /// Reads what a call says of it.
    pub(crate) fn read(request: &CallRequest) -> Result<Self, ErrorInfo> {
        let wishes = request.reuse;
        let ask = Ask {
            fresh: wishes.fresh,
            max_age: wishes.max_age_ms.map(Duration::from_millis),
            only_shared: wishes.only_shared,
            private: wishes.private,
        };
        let bad = |text: String| ErrorInfo::new(ErrorCode::BadRequest, text);
        ask.check().map_err(|error| bad(error.to_string()))?;
        let quorum = request.quorum.as_deref().map(str::parse::<Spec>).transpose();
        let quorum = quorum.map_err(|error| bad(error.to_string()))?;
        if quorum.is_some() && ask.only_shared {
            let text = "a quorum asks several producers, and --only-shared asks none: drop one";
            return Err(bad(text.to_owned()));
        }
        let target = match &request.target {
            QueryInput::Text(text) => text.clone(),
            QueryInput::Json(object) => Value::Object(object.clone()).to_string(),
        };
        let input = canonical::from_json(&request.input).ok().map(|bytes| Hash::of(&bytes));
        let parts = [
            target.as_bytes(),
            input.as_ref().map_or(&[][..], |hash| hash.as_bytes()),
            request.group.as_deref().unwrap_or_default().as_bytes(),
            request.grant.as_deref().unwrap_or_default().as_bytes(),
        ];
        let [target, input_part, group, grant] = parts.map(Hash::of);
        let name = |parts: &[&Hash]| {
            let parts: Vec<&[u8]> = parts.iter().map(|part| &part.0[..]).collect();
            Hash::derive("comity/result/alias/v1", &parts)
        };
        let alias = name(&[&target, &input_part, &group, &grant]);
        let target = name(&[&target, &group, &grant]);
        Ok(Self { ask, request: input, alias, target, exact: wishes.exact, quorum })
    }
}

impl Node {
    /// The answer to what was asked in the same words before, if it is still good.
    pub(crate) fn recall(&self, wanted: &Wanted) -> Option<Reused> {
        if wanted.ask.fresh || wanted.quorum.is_some() {
            return None;
        }
        let (entry, age) = self.inner.results.recall(&wanted.alias, wanted.ask.max_age)?;
        let origin = Origin::Store { age_ms: millis(age), saved_us: micros(entry.took) };
        Some(Reused { accepted: entry.accepted, derived: None, origin })
    }

    /// The answer, if it is known here, can be derived, or a peer that had others has it. `producers`: whom the target meant a moment ago.
    pub(crate) async fn remembered(
        &self,
        wanted: &Wanted,
        input: &Value,
        producers: &[Producer<'_>],
    ) -> Option<Reused> {
        let request = wanted.request?;
        if wanted.ask.fresh || wanted.quorum.is_some() {
            return None;
        }
        let best = producers.first()?;
        let terms = best.terms;
        if let Some(reused) = self.stored(wanted, terms, &request).ok().flatten() {
            return Some(reused);
        }
        if !wanted.exact
            && let Some(reused) = self.derived(wanted, best.capability, terms, input)
        {
            return Some(reused);
        }
        let outside = self.outside(wanted, terms, &request, best.group)?;
        let accepted = same_declaration(producers, terms);
        let max_age = wanted.ask.max_age;
        let fit = Fit { terms, request, producers: &accepted, max_age };
        let found = self.held_by_helpers(&fit, &outside).await?;
        Some(self.take_over(wanted, input, (terms, &request), outside, found))
    }

    /// Looks for the answer everywhere but at its producers, the best of whom comes first.
    pub(crate) async fn road(
        &self,
        wanted: &Wanted,
        input: &Value,
        producers: &[Producer<'_>],
        left: Duration,
    ) -> Result<Road, ErrorInfo> {
        let (Some(request), Some(best)) = (wanted.request, producers.first()) else {
            return Ok(Road::Work(None));
        };
        if best.agent == self.id() {
            // What is here needs no way to get here.
            return Ok(Road::Work(None));
        }
        let mut seen = BTreeSet::new();
        for producer in producers {
            if seen.insert(producer.terms.descriptor)
                && let Some(reused) = self.stored(wanted, producer.terms, &request)?
            {
                return Ok(Road::Known(Box::new(reused)));
            }
        }
        let terms = best.terms;
        let question = QuestionKey::new(&terms.descriptor, &request);
        let plan = self.plan(wanted, terms, &question)?;
        if !wanted.ask.fresh
            && !wanted.exact
            && let Some(reused) = self.derived(wanted, best.capability, terms, input)
        {
            return Ok(Road::Known(Box::new(reused)));
        }
        // Fresh answers are not shared between callers, and what nobody may keep is not there afterwards.
        let turn = if terms.is_keepable() && !wanted.ask.fresh && !wanted.ask.only_shared {
            let flight = self.inner.results.flight(question).lock_owned();
            tokio::time::timeout(left, flight).await.ok()
        } else {
            None
        };
        if let Some(entry) =
            turn.as_ref().and_then(|_| self.inner.results.get(&question, wanted.ask.max_age))
        {
            let origin = Origin::Shared { saved_us: micros(entry.took) };
            let reused = Reused { accepted: entry.accepted, derived: None, origin };
            return Ok(Road::Known(Box::new(reused)));
        }
        if plan.uses(Source::Holders)
            && let Some(reused) =
                self.shared(wanted, input, (terms, &request), producers, left / LOOK_SHARE).await
        {
            return Ok(Road::Known(Box::new(reused)));
        }
        if plan.uses(Source::Specialist) {
            let outside = self.outside(wanted, terms, &request, best.group);
            return Ok(Road::Work(turn.map(|guard| self.begin_work(guard, question, outside))));
        }
        let reasons = plan.steps.iter().take(2).map(|step| step.reason.to_string());
        let reasons: BTreeSet<String> = reasons.collect();
        let reasons = reasons.into_iter().collect::<Vec<_>>().join("; ");
        let text = format!("no answer is known: {reasons}");
        Err(ErrorInfo::new(ErrorCode::NoMatch, text)
            .hint("without --only-shared a producer is asked to work it out"))
    }

    fn plan(
        &self,
        wanted: &Wanted,
        terms: &Terms,
        question: &QuestionKey,
    ) -> Result<Plan, ErrorInfo> {
        let local = self.inner.results.look(question);
        wanted
            .ask
            .plan(terms, local)
            .map_err(|error| ErrorInfo::new(ErrorCode::BadRequest, error.to_string()))
    }

    fn stored(
        &self,
        wanted: &Wanted,
        terms: &Terms,
        request: &Hash,
    ) -> Result<Option<Reused>, ErrorInfo> {
        let results = &self.inner.results;
        let question = QuestionKey::new(&terms.descriptor, request);
        if !self.plan(wanted, terms, &question)?.uses(Source::Local) {
            return Ok(None);
        }
        let Some(entry) = results.get(&question, wanted.ask.max_age) else { return Ok(None) };
        results.note_alias(wanted.alias, question);
        let age = self.inner.clock.now().saturating_since(entry.accepted.finished);
        let origin = Origin::Store { age_ms: millis(age), saved_us: micros(entry.took) };
        Ok(Some(Reused { accepted: entry.accepted, derived: None, origin }))
    }

    /// Derives the answer from one to a larger question.
    fn derived(
        &self,
        wanted: &Wanted,
        capability: &Capability,
        terms: &Terms,
        input: &Value,
    ) -> Option<Reused> {
        let candidates = self.inner.results.larger(&terms.descriptor, wanted.ask.max_age);
        if candidates.is_empty() {
            return None;
        }
        let columns = Columns::of_schema(&capability.interface.input_schema());
        for (larger, accepted) in candidates {
            let items: Option<Vec<Value>> = accepted.result.items().and_then(|items| {
                items.into_iter().map(|item| canonical::to_json(item).ok()).collect()
            });
            let receipt: &SignedReceipt = &accepted.result.receipt;
            let derived = items.and_then(|items| {
                subsume::derive_with_chain(&columns, receipt, &larger, &items, input).ok()
            });
            if let Some((items, chain)) = derived {
                let age = self.inner.clock.now().saturating_since(accepted.finished);
                let origin = Origin::Derived {
                    rule: chain.rule.to_owned(),
                    larger: (*larger).clone(),
                    response: chain.response.to_string(),
                    age_ms: millis(age),
                };
                return Some(Reused { accepted, derived: Some(items), origin });
            }
        }
        None
    }

    async fn shared(
        &self,
        wanted: &Wanted,
        input: &Value,
        (terms, request): (&Arc<Terms>, &Hash),
        producers: &[Producer<'_>],
        patience: Duration,
    ) -> Option<Reused> {
        let outside = self.outside(wanted, terms, request, producers.first()?.group)?;
        let accepted = same_declaration(producers, terms);
        let max_age = wanted.ask.max_age;
        let fit = Fit { terms, request: *request, producers: &accepted, max_age };
        let found = self.held_by_peers(&fit, &outside, patience).await?;
        Some(self.take_over(wanted, input, (terms, request), outside, found))
    }

    /// Keeps what a holder handed over.
    fn take_over(
        &self,
        wanted: &Wanted,
        input: &Value,
        (terms, request): (&Arc<Terms>, &Hash),
        outside: Outside,
        handed: Handed,
    ) -> Reused {
        let Handed { accepted, holder, awaited } = handed;
        let age = self.inner.clock.now().saturating_since(accepted.finished);
        let receipt = &accepted.verified.receipt;
        let took = receipt.finished_ms.saturating_sub(receipt.started_ms);
        let learned = Learned {
            terms: Arc::clone(terms),
            request: *request,
            input: input.clone(),
            result: accepted.result.clone(),
            took: Duration::from_millis(took),
            outside: Some(outside),
        };
        let question = accepted.question;
        let results = &self.inner.results;
        let kept = results.admit(learned, 1).unwrap_or_else(|_| Arc::new(accepted));
        results.note_alias(wanted.alias, question);
        self.announce(question, 2);
        let holder = self.name_of(&holder);
        let origin = Origin::Holder { holder, age_ms: millis(age), awaited };
        Reused { accepted: kept, derived: None, origin }
    }

    /// What peers know the question as, if it may be named among them.
    fn outside(
        &self,
        wanted: &Wanted,
        terms: &Terms,
        request: &Hash,
        group: Option<&Arc<PrivateGroup>>,
    ) -> Option<Outside> {
        if !terms.is_shareable() {
            return None;
        }
        let question = QuestionKey::new(&terms.descriptor, request);
        let secret = group.map(|group| group.secret());
        let key = IndexKey::new(terms, &question, secret, wanted.ask.private).ok()?;
        let group = group.map(|group| group.name().to_owned());
        Some(Outside { key, group })
    }

    /// Takes in what a producer answered.
    pub(crate) fn learn(
        &self,
        wanted: &Wanted,
        producer: &Producer<'_>,
        input: &Value,
        receipt: &SignedReceipt,
        body: Option<Vec<u8>>,
        took: Duration,
    ) {
        self.inner.results.receipts.made(receipt);
        self.hear_words(producer.agent);
        if let Some(body) = body {
            let result = SharedResult { receipt: receipt.clone(), body: body.into() };
            self.keep(wanted, producer, input, result, took);
        }
    }

    /// Keeps an answer of a producer, and tells peers of it if that is worth it.
    pub(super) fn keep(
        &self,
        wanted: &Wanted,
        producer: &Producer<'_>,
        input: &Value,
        result: SharedResult,
        took: Duration,
    ) {
        let Some(request) = wanted.request else { return };
        let terms = Arc::clone(producer.terms);
        if !terms.is_keepable() || producer.agent == self.id() {
            return;
        }
        if self.contradicts(producer.capability, &result) {
            return;
        }
        let outside = self.outside(wanted, &terms, &request, producer.group);
        let input = input.clone();
        let learned = Learned { terms, request, input, result, took, outside };
        let results = &self.inner.results;
        match results.admit(learned, 0) {
            Ok(accepted) => {
                results.note_alias(wanted.alias, accepted.question);
                self.announce(accepted.question, 1);
            }
            Err(refusal) => debug!(%refusal, "an answer is not kept for reuse"),
        }
    }

    /// Whether the producer answered otherwise before, to the same question over the same data: then that is proved, and nothing of it is
    /// believed here any more.
    fn contradicts(&self, capability: &Capability, answer: &SharedResult) -> bool {
        let receipt = &answer.receipt.receipt;
        let question = QuestionKey::new(&receipt.capability, &receipt.request);
        let Some(before) = self.inner.results.known(&question) else { return false };
        if before.producer() != receipt.callee || before.result.body == answer.body {
            return false;
        }
        let known = (&before.result.receipt, &before.result.body[..]);
        match Contradiction::new(capability, known, (&answer.receipt, &answer.body[..])) {
            Ok(proof) => {
                warn!(producer = %receipt.callee.short(), capability = %receipt.name, "an agent contradicted itself: the proof is kept");
                self.inner.results.proved(receipt.callee, &proof);
                self.accuse(&proof);
                true
            }
            Err(_) => false,
        }
    }

    /// Gives out an answer that is whole and verified.
    pub(crate) async fn hand_out(
        &self,
        reused: Reused,
        events: &mpsc::Sender<CallEvent>,
        started: Instant,
    ) -> Result<CallSummary, ErrorInfo> {
        let Reused { accepted, derived, origin } = reused;
        let items = match derived {
            Some(items) => items,
            None => {
                let items = accepted.result.items().unwrap_or_default();
                let items = items.into_iter().map(canonical::to_json);
                items.collect::<Result<Vec<Value>, _>>().map_err(|error| {
                    ErrorInfo::new(
                        ErrorCode::Internal,
                        format!("a kept answer is unreadable: {error}"),
                    )
                })?
            }
        };
        let count = items.len() as u64;
        let streamed = count != 1;
        for (index, value) in (0..).zip(items) {
            let _gone = events.send(CallEvent::Chunk(Chunk { index, value })).await;
        }
        let proof = Proof::from(&accepted.result.receipt);
        let _gone = events.send(CallEvent::Receipt(proof)).await;
        let receipt = &accepted.verified.receipt;
        let elapsed_us = micros(started.elapsed());
        Ok(CallSummary {
            target: format!("{}/{}", self.name_of(&receipt.callee).address, receipt.name),
            streamed,
            items: count,
            bytes: accepted.result.body.len() as u64,
            elapsed_us,
            attempt_us: elapsed_us,
            origin,
            voices: Vec::new(),
        })
    }
}

impl super::Results {
    fn note_alias(&self, alias: Hash, question: QuestionKey) {
        self.state().store.note_alias(alias, question);
    }

    /// What is kept of the question, valid or not asked for by anybody.
    fn known(&self, question: &QuestionKey) -> Option<Arc<Accepted>> {
        let now = self.clock.now();
        self.state().store.peek(question, now).map(|entry| Arc::clone(&entry.accepted))
    }

    /// Requests and answers of a capability, the largest first, out of which smaller ones may be answered.
    fn larger(
        &self,
        descriptor: &Hash,
        max_age: Option<Duration>,
    ) -> Vec<(Arc<Value>, Arc<Accepted>)> {
        let now = self.clock.now();
        let state = self.state();
        let of_capability = state.held.iter().filter(|(_, held)| held.descriptor == *descriptor);
        let mut found: Vec<(Arc<Value>, Arc<Accepted>)> = of_capability
            .filter_map(|(question, held)| {
                let accepted = Arc::clone(&state.store.peek(question, now)?.accepted);
                let age = now.saturating_since(accepted.finished);
                let fits = max_age.is_none_or(|max| age <= max);
                fits.then_some((Arc::clone(held.request.as_ref()?), accepted))
            })
            .collect();
        drop(state);
        found.sort_by_key(|(_, accepted)| std::cmp::Reverse(accepted.result.body.len()));
        found.truncate(LARGER_MAX);
        found
    }
}

/// Whose answers take each other's place: an answer of somebody whom this call would not have asked does not.
fn same_declaration(producers: &[Producer<'_>], terms: &Terms) -> BTreeSet<AgentId> {
    let same = producers.iter().filter(|one| one.terms.descriptor == terms.descriptor);
    same.map(|producer| producer.agent).collect()
}

/// Adds an item to a body that is being kept; what grows too long is not kept.
pub(crate) fn gather(body: &mut Option<Vec<u8>>, item: &[u8]) {
    let fits = body.as_ref().is_some_and(|body| body.len() + item.len() <= MAX_BODY);
    match body {
        Some(body) if fits => body.extend_from_slice(item),
        Some(_) => *body = None,
        None => {}
    }
}

pub(super) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
