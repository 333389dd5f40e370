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
use comity_results::bulk::Large;
use comity_results::contradiction::Contradiction;
use comity_results::key::{IndexKey, QuestionKey};
use comity_results::quorum::Spec;
use comity_results::result::{Accepted, SharedResult};
use comity_results::store::Entry;
use comity_results::subsume::{self, Asked, Columns};
use comity_results::terms::Terms;
use serde_json::Value;
use tokio::sync::mpsc;
use tracing::{debug, warn};

use super::bulk::LearnedLarge;
use super::share::{Came, Fit, Handed, Outside};
use super::shelf::{Arrived, Body, Spilled};
use super::working::Turn;
use super::{COMPARED_MAX, LARGER_MAX, Learned};
use crate::groups::PrivateGroup;
use crate::node::Node;

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
    answer: Answer,
    origin: Origin,
}

/// The answer itself.
#[derive(Debug)]
enum Answer {
    /// In memory.
    Kept(Arc<Accepted>),
    /// Items derived from another, which is proved.
    Derived(Arc<Accepted>, Vec<Value>),
    /// On disk.
    Large(Arc<Large>),
}

/// A kept answer.
#[derive(Debug)]
struct Found {
    answer: Answer,
    took: Duration,
    age: Duration,
}

impl Found {
    fn stored(self) -> Reused {
        let origin = Origin::Store { age_ms: millis(self.age), saved_us: micros(self.took) };
        Reused { answer: self.answer, origin }
    }
}

impl Reused {
    /// The answer that several producers agreed on: somebody did work for it.
    pub(super) fn agreed(answer: &Accepted) -> Self {
        Self { answer: Answer::Kept(Arc::new(answer.clone())), origin: Origin::Producer }
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
        let results = &self.inner.results;
        let question = results.state().store.alias(&wanted.alias)?;
        results.find(&question, wanted.ask.max_age).map(Found::stored)
    }

    /// The answer, if it is known here, can be derived, or a peer that had others has it. `producers`: whom the target meant a moment ago.
    pub(crate) async fn remembered(
        &self,
        wanted: &Wanted,
        input: &Value,
        producers: &[Producer<'_>],
        left: Duration,
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
        let found = Box::pin(self.held_by_helpers(&fit, &outside, left)).await?;
        self.take_over(wanted, input, (terms, &request), outside, found)
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
        if let Some(Found { answer, took, .. }) =
            turn.as_ref().and_then(|_| self.inner.results.find(&question, wanted.ask.max_age))
        {
            let origin = Origin::Shared { saved_us: micros(took) };
            return Ok(Road::Known(Box::new(Reused { answer, origin })));
        }
        if plan.uses(Source::Holders)
            && let Some(reused) =
                Box::pin(self.shared(wanted, input, (terms, &request), producers, left)).await
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
        let Some(found) = results.find(&question, wanted.ask.max_age) else { return Ok(None) };
        results.note_alias(wanted.alias, question);
        Ok(Some(found.stored()))
    }

    /// Derives the answer from one to a larger question.
    fn derived(
        &self,
        wanted: &Wanted,
        capability: &Capability,
        terms: &Terms,
        input: &Value,
    ) -> Option<Reused> {
        let asked = Asked::read(input)?;
        if !self.inner.results.has_larger(&terms.descriptor) {
            return None;
        }
        let columns = Columns::of_schema(&capability.interface.input_schema());
        let within = |larger: &Value| asked.is_within(&columns, larger);
        let candidates = self.inner.results.larger(&terms.descriptor, wanted.ask.max_age, within);
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
                return Some(Reused { answer: Answer::Derived(accepted, items), origin });
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
        left: Duration,
    ) -> Option<Reused> {
        let outside = self.outside(wanted, terms, request, producers.first()?.group)?;
        let accepted = same_declaration(producers, terms);
        let max_age = wanted.ask.max_age;
        let fit = Fit { terms, request: *request, producers: &accepted, max_age };
        let nobody_else = wanted.ask.only_shared;
        let found = self.held_by_peers(&fit, &outside, left, nobody_else).await?;
        self.take_over(wanted, input, (terms, request), outside, found)
    }

    /// Keeps what holders handed over.
    fn take_over(
        &self,
        wanted: &Wanted,
        input: &Value,
        (terms, request): (&Arc<Terms>, &Hash),
        outside: Outside,
        handed: Handed,
    ) -> Option<Reused> {
        let Handed { came, holder, awaited } = handed;
        let results = &self.inner.results;
        let (terms, request, outside) = (Arc::clone(terms), *request, Some(outside));
        let took = |receipt: &SignedReceipt| {
            let receipt = &receipt.receipt;
            Duration::from_millis(receipt.finished_ms.saturating_sub(receipt.started_ms))
        };
        let (answer, question, finished) = match came {
            Came::Whole(accepted) => {
                let (input, took) = (input.clone(), took(&accepted.result.receipt));
                let kept = results.take_in(Learned { terms, input, took, outside }, accepted, 1);
                let (question, finished) = (kept.question, kept.finished);
                (Answer::Kept(kept), question, finished)
            }
            Came::Large(large, part) => {
                let (offer, took) = (large.offer(), took(&large.receipt));
                let body = Arrived::Moved(part);
                let learned = LearnedLarge { terms, request, offer, body, took, outside };
                let kept = results.admit_large(learned, 1);
                let kept =
                    kept.inspect_err(|why| warn!(%why, "a large answer is not kept")).ok()?;
                let (question, finished) = (kept.question, kept.finished);
                (Answer::Large(kept), question, finished)
            }
        };
        let age = self.inner.clock.now().saturating_since(finished);
        results.note_alias(wanted.alias, question);
        self.announce(question, 2);
        let holder = self.name_of(&holder);
        let origin = Origin::Holder { holder, age_ms: millis(age), awaited };
        Some(Reused { answer, origin })
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
        body: Option<Body>,
        took: Duration,
    ) {
        self.hear_words(producer.agent);
        match body {
            Some(Body::Whole(body)) => {
                let result = SharedResult { receipt: receipt.clone(), body: body.into() };
                self.keep(wanted, producer, input, result, took);
            }
            Some(Body::Spilled(spilled)) => {
                self.keep_spilled(wanted, producer, receipt, spilled, took);
            }
            None => {}
        }
    }

    /// Keeps a large answer of a producer, and tells peers of it if that is worth it.
    fn keep_spilled(
        &self,
        wanted: &Wanted,
        producer: &Producer<'_>,
        receipt: &SignedReceipt,
        spilled: Spilled,
        took: Duration,
    ) {
        let Some(request) = wanted.request else { return };
        let terms = Arc::clone(producer.terms);
        if !terms.is_keepable()
            || producer.agent == self.id()
            || self.contradicts(producer.capability, receipt, &[])
        {
            return;
        }
        let outside = self.outside(wanted, &terms, &request, producer.group);
        if let Some(large) = self.keep_large(terms, request, receipt, spilled, took, outside) {
            self.inner.results.note_alias(wanted.alias, large.question);
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
        if self.contradicts(producer.capability, &result.receipt, &result.body) {
            return;
        }
        let outside = self.outside(wanted, &terms, &request, producer.group);
        let input = input.clone();
        let learned = Learned { terms, input, took, outside };
        let results = &self.inner.results;
        match results.admit(learned, &request, result, 0) {
            Ok(accepted) => {
                results.note_alias(wanted.alias, accepted.question);
                self.announce(accepted.question, 1);
            }
            Err(refusal) => debug!(%refusal, "an answer is not kept for reuse"),
        }
    }

    /// Whether the producer answered otherwise before, to the same question over the same data: then that is proved, and nothing of it is
    /// believed here any more.
    /// Without bodies, which are on disk, only answers that are exact prove it.
    fn contradicts(&self, capability: &Capability, receipt: &SignedReceipt, body: &[u8]) -> bool {
        let stated = &receipt.receipt;
        let question = QuestionKey::new(&stated.capability, &stated.request);
        let Some(before) = self.inner.results.known(&question) else { return false };
        let known = match &before {
            Answer::Kept(known) | Answer::Derived(known, _) => {
                (&known.result.receipt, &known.result.body[..])
            }
            Answer::Large(known) => (&known.receipt, &[][..]),
        };
        let said = &known.0.receipt;
        if said.callee != stated.callee || said.response == stated.response {
            return false;
        }
        match Contradiction::new(capability, known, (receipt, body)) {
            Ok(proof) => {
                warn!(producer = %stated.callee.short(), capability = %stated.name, "an agent contradicted itself: the proof is kept");
                self.inner.results.proved(stated.callee, &proof);
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
        let Reused { answer, origin } = reused;
        let (accepted, derived) = match answer {
            Answer::Kept(accepted) => (accepted, None),
            Answer::Derived(accepted, items) => (accepted, Some(items)),
            Answer::Large(large) => {
                return self.hand_out_large(&large, origin, events, started).await;
            }
        };
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

    /// The answer to a question, if one is kept.
    fn find(&self, question: &QuestionKey, max_age: Option<Duration>) -> Option<Found> {
        let now = self.clock.now();
        let small = self.state().store.get(question, max_age, now);
        if let Some(Entry { accepted, took, .. }) = small {
            let age = now.saturating_since(accepted.finished);
            return Some(Found { answer: Answer::Kept(accepted), took, age });
        }
        let Entry { accepted, took, .. } = self.large(question, max_age)?;
        let age = now.saturating_since(accepted.finished);
        Some(Found { answer: Answer::Large(accepted), took, age })
    }

    /// What is kept of the question, without counting as a use.
    fn known(&self, question: &QuestionKey) -> Option<Answer> {
        let (state, now) = (self.state(), self.clock.now());
        let small = state.store.peek(question, now);
        let small = small.map(|entry| Answer::Kept(Arc::clone(&entry.accepted)));
        small.or_else(|| {
            let large = state.large.peek(question, now)?;
            Some(Answer::Large(Arc::clone(&large.accepted)))
        })
    }

    fn has_larger(&self, descriptor: &Hash) -> bool {
        self.state().held.of(descriptor).next().is_some()
    }

    /// Requests and answers of a capability, the longest first, whose request says that a smaller one may be answered from them.
    fn larger(
        &self,
        descriptor: &Hash,
        max_age: Option<Duration>,
        within: impl Fn(&Value) -> bool,
    ) -> Vec<(Arc<Value>, Arc<Accepted>)> {
        let now = self.clock.now();
        let known: Vec<(Arc<Value>, Arc<Accepted>)> = {
            let state = self.state();
            let of_declaration = state.held.of(descriptor).take(COMPARED_MAX);
            let kept = of_declaration.filter_map(|(question, request)| {
                let accepted = Arc::clone(&state.store.peek(question, now)?.accepted);
                Some((Arc::clone(request), accepted))
            });
            kept.collect()
        };
        let fits = |accepted: &Accepted| {
            let age = now.saturating_since(accepted.finished);
            max_age.is_none_or(|max| age <= max)
        };
        let fit = known.into_iter().filter(|(request, kept)| fits(kept) && within(request));
        fit.take(LARGER_MAX).collect()
    }
}

/// Whose answers take each other's place: an answer of somebody whom this call would not have asked does not.
fn same_declaration(producers: &[Producer<'_>], terms: &Terms) -> BTreeSet<AgentId> {
    let same = producers.iter().filter(|one| one.terms.descriptor == terms.descriptor);
    same.map(|producer| producer.agent).collect()
}

pub(super) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
