//! Calls as a user means them: by name, query or address; the best peer first, the next best when it fails; nothing
//! believed that is not signed.

mod lately;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use comity_api::types::{
    Attempt, AttemptOutcome, CallEvent, CallRequest, CallSummary, Chunk, DEFAULT_CALL_TIMEOUT_MS,
    DEFAULT_MAX_ATTEMPTS, ErrorCode, ErrorInfo, MAX_ATTEMPTS, MAX_CALL_TIMEOUT_MS, Origin, Proof,
    QueryInput,
};
use comity_capability::query::Query;
use comity_capability::record::{Capability, Visibility};
use comity_core::canonical::{JsonError, Version};
use comity_core::receipt::{Receipt, SignedReceipt, sign_batch};
use comity_core::{AgentId, Canonical as _, Hash, Identity, Time, canonical};
use comity_results::repute::Reputation;
use comity_specialist::Answer;
use comity_specialist::schema::Validator;
use comity_trust::log::{Event, short_text};
use futures_util::{Stream, StreamExt};
use rand::Rng as _;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

pub(crate) use self::lately::Lately;
use crate::access::Presented;
use crate::error::describe;
use crate::groups::PrivateGroup;
use crate::handler::{invoke, item};
use crate::node::Node;
use crate::resolve::Reference;
use crate::results::{Asked, Producer, Road, Wanted, gather, may_keep};
use crate::rpc;
use crate::search::SearchError;

/// Events that wait for a slow reader; then the answer waits, and QUIC makes its producer wait.
const EVENTS_LEN: usize = 32;
/// Share of a call's time that finding the peer may take.
const SEARCH_SHARE: u32 = 2;
/// Silence after which a called peer is pinged, again and again.
const PATIENCE: Duration = Duration::from_millis(500);
/// A peer that does not answer a ping for this long is given up.
const PING_TIMEOUT: Duration = Duration::from_secs(1);
/// Least time left to an attempt while others could follow.
const ATTEMPT_MIN: Duration = Duration::from_secs(1);

/// A verified answer.
#[derive(Debug, Clone)]
pub struct CallAnswer {
    /// Who answered.
    pub agent: AgentId,
    /// The items of the answer; one, unless it was streamed.
    pub items: Vec<Value>,
    /// The producer's signed statement, verified.
    pub proof: Proof,
    /// Everyone tried, the producer last; nobody, when the answer was known already.
    pub attempts: Vec<Attempt>,
    /// Times and sizes.
    pub summary: CallSummary,
}

impl CallAnswer {
    /// The answer of a capability that does not stream.
    #[must_use]
    pub fn value(&self) -> &Value {
        self.items.first().unwrap_or(&Value::Null)
    }
}

/// A call on its way.
struct Call<'a> {
    wanted: Wanted,
    request: &'a CallRequest,
    events: &'a mpsc::Sender<CallEvent>,
    started: Instant,
    timeout: Duration,
}

/// Why nobody of some callees answered.
struct Ended {
    error: ErrorInfo,
    /// Others may be asked: nothing was executed that must not be twice, and nothing was handed on.
    again: bool,
}

impl From<ErrorInfo> for Ended {
    fn from(error: ErrorInfo) -> Self {
        Self { error, again: false }
    }
}

/// Signs receipts of calls that an agent makes to itself.
#[derive(Debug)]
pub(crate) struct LocalSigner(Arc<Identity>);

impl LocalSigner {
    pub(crate) fn new(identity: Arc<Identity>) -> Self {
        Self(identity)
    }
}

/// Somebody to call.
#[derive(Debug, Clone)]
struct Callee {
    agent: AgentId,
    addrs: Vec<SocketAddr>,
    capability: Arc<Capability>,
    /// As whose member it is called.
    group: Option<Arc<PrivateGroup>>,
    /// What it is shown.
    grants: Option<Bytes>,
    /// Its record was not read for this call: it says itself whether its declaration is still the same.
    remembered: bool,
}

impl Callee {
    fn producer(&self) -> Producer<'_> {
        let group = self.group.as_ref();
        Producer { agent: self.agent, capability: &self.capability, group }
    }

    /// The call itself.
    fn request(&self, input: &Value) -> Result<rpc::CallRequest, JsonError> {
        let body = canonical::from_json(input)?;
        let capability = &self.capability;
        let mut request = rpc::CallRequest::new(capability.name.clone(), body.into());
        request.idempotent = capability.idempotent;
        request.interface = Some(capability.interface.digest());
        request.descriptor = self.remembered.then(|| capability.hash());
        request.group = self.group.as_ref().map(|group| group.secret().clone());
        request.grants.clone_from(&self.grants);
        Ok(request)
    }

    /// The same for a quorum.
    fn asked(&self, input: &Value) -> Result<Asked, ErrorInfo> {
        let request = self.request(input).map_err(|error| {
            let text = format!("the input has no canonical form: {error}");
            ErrorInfo::new(ErrorCode::BadInput, text)
        })?;
        let (agent, addrs) = (self.agent, self.addrs.clone());
        Ok(Asked { agent, addrs, capability: Arc::clone(&self.capability), request })
    }
}

impl Node {
    /// Calls `target` - a capability's name, a query, or `ADDRESS/CAPABILITY` - and waits for the verified answer.
    ///
    /// # Errors
    /// [`ErrorInfo`]: what failed, with which peer, and what to do.
    pub async fn call(
        &self,
        target: impl Into<QueryInput>,
        input: Value,
    ) -> Result<CallAnswer, ErrorInfo> {
        self.call_with(CallRequest::new(target, input)).await
    }

    /// The same with a deadline and a bound on attempts.
    ///
    /// # Errors
    /// As [`Node::call`].
    pub async fn call_with(&self, request: CallRequest) -> Result<CallAnswer, ErrorInfo> {
        let mut events = Box::pin(self.call_events(request));
        let (mut items, mut attempts, mut proof) = (Vec::new(), Vec::<Attempt>::new(), None);
        while let Some(event) = events.next().await {
            match event {
                CallEvent::Attempt(attempt) => {
                    if attempt.outcome == AttemptOutcome::Started {
                        items.clear();
                    }
                    attempts.retain(|known| known.number != attempt.number);
                    attempts.push(attempt);
                }
                CallEvent::Chunk(chunk) => items.push(chunk.value),
                CallEvent::Receipt(verified) => proof = Some(verified),
                CallEvent::Done(summary) => {
                    let Some(proof) = proof else { break };
                    let Ok(agent) = proof.receipt.callee.parse() else { break };
                    return Ok(CallAnswer { agent, items, proof, attempts, summary });
                }
                CallEvent::Error(error) => return Err(error),
            }
        }
        Err(ErrorInfo::new(ErrorCode::Internal, "the call ended without an answer"))
    }

    /// Calls and reports as it goes: attempts, items as they arrive (not to be relied on before the receipt), the verified
    /// receipt, the end. Dropping the stream cancels the call at the far end.
    pub fn call_events(
        &self,
        request: CallRequest,
    ) -> impl Stream<Item = CallEvent> + Send + use<> {
        let (events, receiver) = mpsc::channel(EVENTS_LEN);
        let node = self.clone();
        let task = tokio::spawn(async move {
            node.inner.counts.in_flight.fetch_add(1, Ordering::Relaxed);
            let _guard = InFlight(node.clone());
            let result = node.run_call(request, &events).await;
            node.inner.counts.ended(result.is_ok());
            let last = match result {
                Ok(summary) => CallEvent::Done(summary),
                Err(error) => CallEvent::Error(error),
            };
            // A reader that went away has cancelled the call and needs no last word.
            let _gone = events.send(last).await;
        });
        let task = AbortOnDropHandle::new(task);
        futures_util::stream::unfold((receiver, task), |(mut receiver, task)| async move {
            receiver.recv().await.map(|event| (event, (receiver, task)))
        })
    }

    async fn run_call(
        &self,
        request: CallRequest,
        events: &mpsc::Sender<CallEvent>,
    ) -> Result<CallSummary, ErrorInfo> {
        let started = Instant::now();
        let wanted = Wanted::read(&request)?;
        if let Some(known) = self.recall(&wanted) {
            return self.hand_out(known, events, started).await;
        }
        if let Some(known) = self.remembered(&wanted, &request.input).await {
            return self.hand_out(known, events, started).await;
        }
        let timeout =
            request.timeout_ms.unwrap_or(DEFAULT_CALL_TIMEOUT_MS).clamp(1, MAX_CALL_TIMEOUT_MS);
        let timeout = Duration::from_millis(timeout);
        let call = Call { wanted, request: &request, events, started, timeout };
        if let Some(callee) = self.called_lately(&request) {
            match self.try_callees(&call, &[callee]).await {
                Err(Ended { again: true, .. }) => self.forget_lately(&request),
                ended => return ended.map_err(|ended| ended.error),
            }
        }
        let search = timeout.saturating_sub(started.elapsed()) / SEARCH_SHARE;
        let callees = tokio::time::timeout(timeout, self.callees(&request, search))
            .await
            .map_err(|_| {
                ErrorInfo::new(
                    ErrorCode::Timeout,
                    format!("nobody to call was found within {timeout:?}"),
                )
            })??;
        if let Some(spec) = call.wanted.quorum {
            let asked = callees.iter().map(|callee| callee.asked(&request.input));
            let asked = asked.collect::<Result<_, _>>()?;
            let left = timeout.saturating_sub(started.elapsed());
            return self.by_quorum(spec, asked, &request.input, events, started, left).await;
        }
        self.try_callees(&call, &callees).await.map_err(|ended| ended.error)
    }

    /// Has one of these answer, the first that does, unless the answer is known.
    async fn try_callees(&self, call: &Call<'_>, callees: &[Callee]) -> Result<CallSummary, Ended> {
        let Call { wanted, request, events, started, timeout } = call;
        let attempts_max =
            request.max_attempts.unwrap_or(DEFAULT_MAX_ATTEMPTS).clamp(1, MAX_ATTEMPTS);
        let producers: Vec<Producer<'_>> = callees.iter().map(Callee::producer).collect();
        let left = timeout.saturating_sub(started.elapsed());
        // Held until the answer is there, so that others who ask the same wait for it.
        let _turn = match self.road(wanted, &request.input, &producers, left).await? {
            Road::Known(known) => return Ok(self.hand_out(*known, events, *started).await?),
            Road::Work(turn) => turn,
        };

        let (mut failures, mut again) = (Vec::<ErrorInfo>::new(), true);
        let others = callees.len().min(usize::try_from(attempts_max).unwrap_or(usize::MAX));
        for (index, callee) in callees.iter().take(others).enumerate() {
            let left = timeout.saturating_sub(started.elapsed());
            if left.is_zero() {
                failures.push(ErrorInfo::new(
                    ErrorCode::Timeout,
                    format!("no time was left of {timeout:?}"),
                ));
                break;
            }
            if let Some(proof) = self.inner.results.reputation().lied(&callee.agent) {
                let who = self.target_text(callee);
                let text = format!("{who} contradicted itself, which {proof} proves");
                failures.push(ErrorInfo::new(ErrorCode::NotVerified, text));
                continue;
            }
            let is_last = index + 1 == others;
            let share =
                whole_millis(if is_last { left } else { (left / 2).max(ATTEMPT_MIN).min(left) });
            let number = u32::try_from(index + 1).unwrap_or(u32::MAX);
            let mut attempt = Running {
                node: self,
                events,
                callee,
                number,
                started: Instant::now(),
                shown: false,
            };
            attempt.report(AttemptOutcome::Started).await;
            match attempt.run(&request.input, share).await {
                Ok(done) => {
                    let took = attempt.started.elapsed();
                    let elapsed_us = micros(took);
                    attempt.report(AttemptOutcome::Answered { elapsed_us }).await;
                    let producer = callee.producer();
                    let (input, receipt) = (&request.input, &done.receipt);
                    self.learn(wanted, &producer, input, receipt, done.body, took);
                    self.note_lately(request, callee);
                    // The receipt comes last: whoever has it has everything it covers.
                    let _gone = events.send(CallEvent::Receipt(Proof::from(&done.receipt))).await;
                    return Ok(CallSummary {
                        target: self.target_text(callee),
                        streamed: done.streamed,
                        items: done.items,
                        bytes: done.bytes,
                        elapsed_us: micros(started.elapsed()),
                        attempt_us: elapsed_us,
                        origin: Origin::Producer,
                        voices: Vec::new(),
                    });
                }
                Err(failure) => {
                    let elapsed_us = micros(attempt.started.elapsed());
                    let error = failure.error.clone();
                    attempt.report(AttemptOutcome::Failed { elapsed_us, error }).await;
                    let stop = attempt.shown || !failure.try_others;
                    failures.push(failure.error);
                    if stop {
                        again = false;
                        break;
                    }
                }
            }
        }
        Err(Ended { error: summarise(failures), again })
    }

    /// Whom to call, the best first.
    async fn callees(
        &self,
        request: &CallRequest,
        timeout: Duration,
    ) -> Result<Vec<Callee>, ErrorInfo> {
        let (group, charter) = self.group_meant(request.group.as_deref())?;
        let charter = charter.as_ref();
        let query = match &request.target {
            QueryInput::Text(text) => {
                match self.direct(text, group.as_ref(), charter, request).await? {
                    Some(callee) => return Ok(vec![callee]),
                    None => parse_target(text)?,
                }
            }
            QueryInput::Json(object) => {
                Query::from_json(&Value::Object(object.clone())).map_err(bad_query)?
            }
        };
        let found =
            self.search(&query, group.as_ref(), 0, timeout).await.map_err(ErrorInfo::from)?;
        let mut callees: Vec<Callee> = Vec::new();
        for hit in found.hits {
            if let Some(capability) = hit.capability {
                let group = group.clone();
                let (agent, addrs, given) = (hit.agent, hit.addrs, request.grant.as_deref());
                // A grant that is about another agent does not help with this one, and does not stand in its way.
                // What is public asks for nothing else to be shown, which would keep the call out of early data.
                let now = self.inner.clock.now();
                let kept = self.inner.gate.book.for_call(&agent, &capability.name, now);
                let grants = if given.is_some() || kept.is_some() || charter.is_some() {
                    self.to_show(&agent, &capability.name, given, charter).await?
                } else {
                    None
                };
                callees.push(Callee { agent, addrs, capability, group, grants, remembered: false });
            }
        }
        // Who was proved to have lied is not asked at all.
        let liars = liars(&self.inner.results.reputation(), &callees);
        callees.retain(|callee| !liars.contains(&callee.agent));
        // Whoever kept silent a moment ago is asked last, not never: it may be the only one left.
        let now = self.inner.clock.now();
        callees.sort_by_key(|callee| self.inner.signals.of(&callee.agent).is_silent(now));
        if callees.is_empty() {
            let near: Vec<String> = found
                .near
                .iter()
                .flat_map(|hit| {
                    hit.evaluation.failed().map(|failed| format!("{}: {failed}", hit.digest.name))
                })
                .collect();
            let error =
                ErrorInfo::new(ErrorCode::NoMatch, format!("no reachable agent offers {query}"));
            return Err(if near.is_empty() {
                error.hint("`comity find` shows what there is")
            } else {
                error.hint(format!("nearest: {}", near.join("; ")))
            });
        }
        Ok(callees)
    }

    /// The group that a call is made in: a private one, or one with a charter whose membership is shown.
    fn group_meant(
        &self,
        name: Option<&str>,
    ) -> Result<(Option<Arc<PrivateGroup>>, Option<AgentId>), ErrorInfo> {
        let Some(name) = name else { return Ok((None, None)) };
        match self.inner.gate.charters.find(name) {
            Ok(known) => Ok((None, Some(known.group.id()))),
            Err(_) => Ok((Some(self.inner.groups.get(name)?), None)),
        }
    }

    /// `ADDRESS/CAPABILITY`, or the name of a capability of this very agent.
    async fn direct(
        &self,
        text: &str,
        group: Option<&Arc<PrivateGroup>>,
        charter: Option<&AgentId>,
        request: &CallRequest,
    ) -> Result<Option<Callee>, ErrorInfo> {
        let mine = |name: &str| {
            let served = self.inner.registry.get(name)?;
            let capability = Arc::new(served.capability.clone());
            let (agent, addrs) = (self.id(), Vec::new());
            Some(Callee { agent, addrs, capability, group: None, grants: None, remembered: false })
        };
        if let Some(callee) = mine(text) {
            return Ok(Some(callee));
        }
        let Some((agent, name)) = text.rsplit_once('/') else { return Ok(None) };
        let Some(reference) = Reference::parse(agent) else { return Ok(None) };
        let resolved = self.resolve_reference(&reference).await?;
        if resolved.agent == self.id() {
            return mine(name).ok_or_else(|| no_capability(text)).map(Some);
        }
        let given = request.grant.as_deref();
        let mut grants = self.to_show(&resolved.agent, name, given, charter).await?;
        if self.present_evidence(resolved.agent, &resolved.addrs).await && grants.is_none() {
            // What this agent showed of itself may let it know of more than others do.
            grants = Some(Presented::new(None, Vec::new(), Vec::new()).encode());
        }
        let record = match &grants {
            Some(grants) => self.record_for(resolved.agent, &resolved.addrs, name, grants).await,
            None => self.record_of(resolved.agent, &resolved.addrs, None, group).await,
        };
        let record = record.map_err(|failure| {
            self.forget_presented(&resolved.agent);
            failure.into_info(&self.name_of(&resolved.agent))
        })?;
        let capability =
            record.capabilities.iter().find(|known| known.name == name).ok_or_else(|| {
                self.forget_presented(&resolved.agent);
                no_capability(text)
            })?;
        let addrs =
            if resolved.addrs.is_empty() { record.endpoints.clone() } else { resolved.addrs };
        let capability = Arc::new(capability.clone());
        let group = group.cloned();
        let agent = resolved.agent;
        Ok(Some(Callee { agent, addrs, capability, group, grants, remembered: false }))
    }

    fn target_text(&self, callee: &Callee) -> String {
        format!("{}/{}", self.name_of(&callee.agent).address, callee.capability.name)
    }
}

fn liars(reputation: &Reputation, callees: &[Callee]) -> BTreeSet<AgentId> {
    let agents: Vec<AgentId> = callees.iter().map(|callee| callee.agent).collect();
    crate::results::liars(reputation, &agents)
}

struct InFlight(Node);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.inner.counts.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One attempt with one peer.
struct Running<'a> {
    node: &'a Node,
    events: &'a mpsc::Sender<CallEvent>,
    callee: &'a Callee,
    number: u32,
    started: Instant,
    /// Items of the answer were already handed on, so no other peer may continue it.
    shown: bool,
}

struct Done {
    receipt: SignedReceipt,
    /// The items one after the other, where the answer may be kept.
    body: Option<Vec<u8>>,
    streamed: bool,
    items: u64,
    bytes: u64,
}

struct Failed {
    error: ErrorInfo,
    try_others: bool,
}

impl Running<'_> {
    async fn report(&self, outcome: AttemptOutcome) {
        let attempt = Attempt {
            number: self.number,
            target: self.node.target_text(self.callee),
            agent: self.node.name_of(&self.callee.agent),
            outcome,
        };
        let _gone = self.events.send(CallEvent::Attempt(attempt)).await;
    }

    async fn run(&mut self, input: &Value, deadline: Duration) -> Result<Done, Failed> {
        self.check_input(input)?;
        if self.callee.agent == self.node.id() {
            return self.run_here(input, deadline).await;
        }
        let capability = &self.callee.capability;
        let request = self.callee.request(input);
        let request =
            request.map_err(|error| self.bad_input(error.to_string()))?.deadline(deadline);
        let node = &self.node.inner;
        self.node.present_evidence(self.callee.agent, &self.callee.addrs).await;
        let result = self.watched(request).await;
        match &result {
            Ok(_) => {
                let (agent, now) = (self.callee.agent, node.clock.now());
                node.signals.answered(&agent, now);
                node.results.reputation().answered(agent, self.started.elapsed(), now);
                node.attest.experiences.acknowledged(&agent, &capability.name, now);
            }
            Err(
                rpc::CallError::Connect(_)
                | rpc::CallError::TimedOut { .. }
                | rpc::CallError::Interrupted { .. },
            ) => {
                let (agent, now) = (self.callee.agent, node.clock.now());
                node.signals.silent(&agent, now);
                node.results.reputation().failed(agent, now);
            }
            Err(
                rpc::CallError::Failed { .. }
                | rpc::CallError::RequestTooLarge { .. }
                | rpc::CallError::AnswerTooLarge { .. }
                | rpc::CallError::Protocol { .. }
                | rpc::CallError::Untrusted { .. },
            ) => {
                node.signals.failed(&self.callee.agent);
                self.node.forget_presented(&self.callee.agent);
            }
        }
        if let Err(error) = &result {
            let (callee, capability) = (self.callee.agent.into(), short_text(&capability.name));
            let reason = short_text(error.name());
            node.audit.record(Event::CallFailed { callee, capability, reason }).await;
        }
        result.map_err(|error| {
            // Whether a broken call was executed is unknown; another peer may do it only if twice is once.
            let try_others = match &error {
                rpc::CallError::Interrupted { .. } | rpc::CallError::TimedOut { .. } => {
                    self.callee.capability.idempotent
                }
                rpc::CallError::Connect(_)
                | rpc::CallError::Failed { .. }
                | rpc::CallError::RequestTooLarge { .. }
                | rpc::CallError::AnswerTooLarge { .. }
                | rpc::CallError::Protocol { .. }
                | rpc::CallError::Untrusted { .. } => true,
            };
            Failed { error: call_error(&error), try_others }
        })
    }

    /// Calls, and looks after the peer while it keeps silent: a live link to a dead peer looks like a slow specialist, but
    /// only the specialist's node answers a ping.
    async fn watched(&mut self, request: rpc::CallRequest) -> Result<Done, rpc::CallError> {
        let (peer, addrs) = (self.callee.agent, self.callee.addrs.clone());
        let rpc = self.node.inner.rpc.clone();
        let watch = async move {
            loop {
                tokio::time::sleep(PATIENCE).await;
                match tokio::time::timeout(PING_TIMEOUT, rpc.ping(peer, &addrs)).await {
                    Ok(Ok(_)) => {}
                    Ok(Err(error)) => return error,
                    Err(_) => {
                        return rpc::CallError::TimedOut { peer, waited: PATIENCE + PING_TIMEOUT };
                    }
                }
            }
        };
        tokio::select! {
            biased;
            result = self.exchange(request) => result,
            error = watch => Err(error),
        }
    }

    async fn exchange(&mut self, request: rpc::CallRequest) -> Result<Done, rpc::CallError> {
        let peer = self.callee.agent;
        let mut answer = self.node.inner.rpc.open(peer, &self.callee.addrs, request).await?;
        let (mut items, mut bytes) = (0, 0);
        let mut body = may_keep(&self.callee.capability).then(Vec::new);
        while let Some(item) = answer.next().await? {
            bytes += item.len() as u64;
            gather(&mut body, &item);
            let value = canonical::to_json(&item).map_err(|error| rpc::CallError::Protocol {
                peer,
                what: format!("an item of its answer has no JSON form: {error}"),
            })?;
            self.hand_on(items, value).await;
            items += 1;
        }
        let finished = answer.finish().await?;
        if !finished.timings.early {
            // Calls that may be repeated need no hello, and their ends are each other's witnesses all the same.
            self.node.inner.rpc.greet_meanwhile(peer);
        }
        self.log_answer(&finished.receipt).await;
        Ok(Done { receipt: finished.receipt, body, streamed: items != 1, items, bytes })
    }

    /// The log keeps the signed receipt: it proves to others what the callee said.
    async fn log_answer(&self, receipt: &SignedReceipt) {
        let answered = Event::CallMade {
            receipt: Hash::of(&receipt.receipt.encode()),
            callee: receipt.receipt.callee.into(),
            capability: receipt.receipt.name.clone(),
            signed: receipt.encode(),
        };
        self.node.inner.audit.record(answered).await;
    }

    async fn hand_on(&mut self, index: u64, value: Value) {
        // A single item is not shown before its receipt is checked: both come in one frame.
        self.shown |= index > 0;
        let _gone = self.events.send(CallEvent::Chunk(Chunk { index, value })).await;
    }

    /// What does not fit the declared interface never leaves.
    fn check_input(&self, input: &Value) -> Result<(), Failed> {
        let schema = self.callee.capability.interface.input_schema();
        let validator = Validator::new(&schema).map_err(|error| Failed {
            error: ErrorInfo::new(
                ErrorCode::CallFailed,
                format!(
                    "{} declares an unusable interface: {error}",
                    self.node.target_text(self.callee)
                ),
            ),
            try_others: true,
        })?;
        validator.check(input).map_err(|problems| self.bad_input(problems.join("; ")))
    }

    fn bad_input(&self, problem: String) -> Failed {
        let target = self.node.target_text(self.callee);
        let error = ErrorInfo::new(
            ErrorCode::BadInput,
            format!("the input does not fit what {target} takes: {problem}"),
        )
        .hint(format!("`comity show {target}` prints its input schema"));
        Failed { error, try_others: true }
    }

    /// A call to one's own capability: the same checks and the same proof, without a network in between.
    async fn run_here(&mut self, input: &Value, deadline: Duration) -> Result<Done, Failed> {
        let me = self.node.id();
        let inner = Arc::clone(&self.node.inner);
        let failed = |error: ErrorInfo| Failed { error, try_others: false };
        let served = inner
            .registry
            .get(&self.callee.capability.name)
            .ok_or_else(|| failed(no_capability(&self.callee.capability.name)))?;
        let request =
            canonical::from_json(input).map_err(|error| self.bad_input(error.to_string()))?;
        let started = inner.clock.now();
        let cancel = CancellationToken::new();
        let _cancel_when_dropped = cancel.clone().drop_guard();
        let specialist_failed = |error: &dyn std::error::Error| {
            failed(ErrorInfo::new(ErrorCode::SpecialistFailed, error.to_string()))
        };
        let answer = invoke(&served, me, input.clone(), Some(deadline), cancel)
            .await
            .map_err(|error| specialist_failed(&error))?;
        let mut parts = match answer {
            Answer::One(value) => futures_util::stream::iter([Ok(value)]).boxed(),
            Answer::Stream(parts) => parts,
        };
        let mut body = blake3::Hasher::new();
        let (mut items, mut bytes) = (0, 0);
        while let Some(part) = parts.next().await {
            let value = part.map_err(|error| specialist_failed(&error))?;
            let encoded = item(&value).map_err(|error| specialist_failed(&error))?;
            body.update(&encoded);
            bytes += encoded.len() as u64;
            self.hand_on(items, value).await;
            items += 1;
        }
        let response = Hash(*body.finalize().as_bytes());
        let times = [started, inner.clock.now()];
        let valid_for = served.offer.valid_for(&request);
        let receipt =
            own_receipt(me, &served.offer, (Hash::of(&request), response), times, valid_for);
        let signed = sign_batch(&inner.local_signer.0, inner.clock.now(), vec![receipt])
            .map_err(|error| specialist_failed(&error))?;
        let receipt = signed.into_iter().next().ok_or_else(|| {
            failed(ErrorInfo::new(ErrorCode::Internal, "a batch of one receipt came back empty"))
        })?;
        self.log_answer(&receipt).await;
        Ok(Done { receipt, body: None, streamed: items != 1, items, bytes })
    }
}

fn own_receipt(
    me: AgentId,
    offer: &rpc::Offer,
    (request, response): (Hash, Hash),
    [started, finished]: [Time; 2],
    valid_for: Duration,
) -> Receipt {
    let mut session = [0; 32];
    rand::rng().fill_bytes(&mut session);
    Receipt {
        version: Version,
        session: Hash(session),
        number: 0,
        caller: me,
        callee: me,
        capability: offer.descriptor,
        request,
        response,
        status: 0,
        started_ms: started.as_millis(),
        finished_ms: finished.as_millis(),
        cost: 0,
        evidence: None,
        leaf: None,
        interface: offer.interface,
        valid_until_ms: (finished + valid_for).as_millis(),
        data_version: offer.data_version.clone(),
        name: offer.name.clone(),
    }
}

/// A capability's name asks for it by name; everything else is a query.
fn parse_target(text: &str) -> Result<Query, ErrorInfo> {
    let is_name = !text.is_empty()
        && text.bytes().all(|byte| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-._".contains(&byte)
        });
    let text = if is_name { format!("named {text}") } else { text.to_owned() };
    Query::parse_text(&text).map_err(bad_query)
}

pub(crate) fn bad_query(error: comity_capability::query::QueryError) -> ErrorInfo {
    ErrorInfo::new(ErrorCode::BadQuery, describe(&error))
}

fn no_capability(target: &str) -> ErrorInfo {
    ErrorInfo::new(ErrorCode::NotFound, format!("there is no capability {target}"))
        .hint("`comity show ADDRESS` lists what an agent offers publicly; what is not public only its own agent may call")
}

/// A deadline as it is told to people.
fn whole_millis(duration: Duration) -> Duration {
    Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).max(1))
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// One failure speaks for itself; several are told together.
fn summarise(failures: Vec<ErrorInfo>) -> ErrorInfo {
    let count = failures.len();
    let all: Vec<String> = failures.iter().map(|failure| failure.message.clone()).collect();
    match failures.into_iter().next_back() {
        Some(only) if count == 1 => only,
        Some(last) => ErrorInfo {
            message: format!("all {count} agents tried failed: {}", all.join("; ")),
            ..last
        },
        None => ErrorInfo::new(ErrorCode::CallFailed, "nobody was tried"),
    }
}

/// An error of the call protocol as users see it.
pub(crate) fn call_error(error: &rpc::CallError) -> ErrorInfo {
    use crate::transport::ConnectError;
    let code = match error {
        rpc::CallError::Connect(connect) => match connect {
            ConnectError::WrongKey { .. } => ErrorCode::WrongPeer,
            ConnectError::RefusedByPeer { .. } => ErrorCode::Refused,
            ConnectError::TooManyLinks { .. } | ConnectError::TooManyDials { .. } => {
                ErrorCode::Busy
            }
            ConnectError::Closed => ErrorCode::ShuttingDown,
            ConnectError::Myself => ErrorCode::BadRequest,
            ConnectError::NoAddress { .. }
            | ConnectError::Unreachable { .. }
            | ConnectError::Handshake { .. } => ErrorCode::Unreachable,
        },
        rpc::CallError::Failed { code, .. } => match code {
            rpc::ErrorCode::NotFound => ErrorCode::NotFound,
            rpc::ErrorCode::Denied => ErrorCode::Refused,
            rpc::ErrorCode::InvalidInput => ErrorCode::BadInput,
            rpc::ErrorCode::SpecialistFailed => ErrorCode::SpecialistFailed,
            rpc::ErrorCode::Timeout => ErrorCode::Timeout,
            rpc::ErrorCode::Busy => ErrorCode::Busy,
            rpc::ErrorCode::TooLarge => ErrorCode::TooLarge,
            rpc::ErrorCode::Internal
            | rpc::ErrorCode::TooEarly
            | rpc::ErrorCode::HelloFirst
            | rpc::ErrorCode::Other(_) => ErrorCode::CallFailed,
        },
        rpc::CallError::TimedOut { .. } => ErrorCode::Timeout,
        rpc::CallError::Interrupted { .. } => ErrorCode::CallFailed,
        rpc::CallError::RequestTooLarge { .. } | rpc::CallError::AnswerTooLarge { .. } => {
            ErrorCode::TooLarge
        }
        rpc::CallError::Protocol { .. } | rpc::CallError::Untrusted { .. } => {
            ErrorCode::NotVerified
        }
    };
    ErrorInfo::new(code, describe(error))
}

impl From<SearchError> for ErrorInfo {
    fn from(error: SearchError) -> Self {
        let code = match &error {
            SearchError::Unselective => ErrorCode::BadQuery,
            SearchError::Directory(_) => ErrorCode::Busy,
            SearchError::TimedOut(_) => ErrorCode::Timeout,
        };
        Self::new(code, error.to_string())
    }
}

impl crate::search::RecordFailure {
    pub(crate) fn into_info(self, agent: &comity_api::types::AgentName) -> ErrorInfo {
        match self {
            Self::Call(error) => call_error(&error),
            Self::Invalid(reason) => ErrorInfo::new(
                ErrorCode::NotVerified,
                format!("the record of {} is refused: {reason}", agent.address),
            ),
            Self::Absent => ErrorInfo::new(
                ErrorCode::NotFound,
                format!("{} has published nothing", agent.address),
            ),
        }
    }
}

/// Whether the declaration is for everybody.
pub(crate) fn is_public(capability: &Capability) -> bool {
    capability.visibility == Visibility::Public
}
