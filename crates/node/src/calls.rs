//! Calls as a user means them: by name, query or address; the best peer first, the next best when it fails; nothing
//! believed that is not signed.

mod attempt;
mod check;
mod lately;
mod probe;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use comity_api::types::{
    AgentName, Attempt, AttemptOutcome, CallEvent, CallRequest, CallSummary,
    DEFAULT_CALL_TIMEOUT_MS, DEFAULT_MAX_ATTEMPTS, ErrorCode, ErrorInfo, MAX_ATTEMPTS,
    MAX_CALL_TIMEOUT_MS, Origin, Proof, QueryInput,
};
use comity_capability::query::Query;
use comity_capability::record::{Capability, Visibility};
use comity_core::canonical::JsonError;
use comity_core::{AgentId, Identity, canonical};
use comity_results::repute::Reputation;
use comity_results::terms::Terms;
use comity_specialist::schema::Validator;
use comity_trust::policy::{VIA_KEY, Via};
use futures_util::{Stream, StreamExt};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use self::attempt::Running;
pub(crate) use self::lately::Lately;
use crate::access::Presented;
use crate::error::describe;
use crate::groups::PrivateGroup;
use crate::node::Node;
use crate::resolve::Reference;
use crate::results::{Producer, Road, Wanted};
use crate::rpc;
use crate::search::SearchError;

/// Events that wait for a slow reader; then the answer waits, and QUIC makes its producer wait.
const EVENTS_LEN: usize = 32;
/// Share of a call's time that finding the peer may take.
const SEARCH_SHARE: u32 = 2;
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
    /// What the capability says of its answers.
    terms: Arc<Terms>,
    /// What checks inputs, compiled when first needed: dearer than all else that is done before a call.
    validator: Arc<OnceLock<Validator>>,
    /// What it is called in reports, spelled when first needed.
    names: Arc<OnceLock<Names>>,
    /// As whose member it is called.
    group: Option<Arc<PrivateGroup>>,
    /// What it is shown.
    grants: Option<Bytes>,
    /// Its record was not read for this call: it says itself whether its declaration is still the same.
    remembered: bool,
}

/// What a callee is called in reports.
#[derive(Debug)]
struct Names {
    agent: AgentName,
    /// `ADDRESS/CAPABILITY`.
    target: String,
}

impl Callee {
    fn new(agent: AgentId, addrs: Vec<SocketAddr>, capability: Arc<Capability>) -> Self {
        let terms = Arc::new(Terms::of(&capability));
        let (validator, names) = (Arc::default(), Arc::default());
        let (group, grants, remembered) = (None, None, false);
        Self { agent, addrs, capability, terms, validator, names, group, grants, remembered }
    }

    /// Nothing is shown to it, so one call to it is like another.
    const fn is_plain(&self) -> bool {
        self.group.is_none() && self.grants.is_none()
    }

    fn producer(&self) -> Producer<'_> {
        let Self { agent, capability, terms, group, .. } = self;
        Producer { agent: *agent, capability, terms, group: group.as_ref() }
    }

    /// The call itself.
    fn request(&self, input: &Value) -> Result<rpc::CallRequest, JsonError> {
        let body = canonical::from_json(input)?;
        let capability = &self.capability;
        let mut request = rpc::CallRequest::new(capability.name.clone(), body.into());
        request.idempotent = capability.idempotent;
        request.interface = Some(self.terms.interface);
        request.descriptor = self.remembered.then_some(self.terms.descriptor);
        request.group = self.group.as_ref().map(|group| group.secret().clone());
        request.grants.clone_from(&self.grants);
        Ok(request)
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

    /// What few calls need is boxed, so that all others carry no room for it: a call is a task, and is moved several times.
    async fn run_call(
        &self,
        request: CallRequest,
        events: &mpsc::Sender<CallEvent>,
    ) -> Result<CallSummary, ErrorInfo> {
        let started = Instant::now();
        let wanted = Wanted::read(&request)?;
        if let Some(known) = self.recall(&wanted) {
            return Box::pin(self.hand_out(known, events, started)).await;
        }
        let timeout =
            request.timeout_ms.unwrap_or(DEFAULT_CALL_TIMEOUT_MS).clamp(1, MAX_CALL_TIMEOUT_MS);
        let timeout = Duration::from_millis(timeout);
        let target = wanted.target;
        if let Some(meant) = self.meant(&target) {
            let producers: Vec<Producer<'_>> = meant.iter().map(Callee::producer).collect();
            let known = self.remembered(&wanted, &request.input, &producers, timeout).await;
            if let Some(known) = known {
                return Box::pin(self.hand_out(known, events, started)).await;
            }
        }
        let call = Call { wanted, request: &request, events, started, timeout };
        if let Some(callee) = self.straight_to(&target, &request) {
            match self.try_callees(&call, &[callee]).await {
                Err(Ended { again: true, .. }) => self.forget_meaning(&target),
                ended => return ended.map_err(|ended| ended.error),
            }
        }
        let search = timeout.saturating_sub(started.elapsed()) / SEARCH_SHARE;
        let callees = tokio::time::timeout(timeout, Box::pin(self.callees(&request, search)))
            .await
            .map_err(|_| {
                ErrorInfo::new(
                    ErrorCode::Timeout,
                    format!("nobody to call was found within {timeout:?}"),
                )
            })??;
        if let Some(spec) = call.wanted.quorum {
            let input = &request.input;
            let asked = self.all_asked(&callees, input)?;
            let left = timeout.saturating_sub(started.elapsed());
            let question = (&call.wanted, input);
            return Box::pin(self.by_quorum(spec, asked, question, events, started, left)).await;
        }
        self.try_callees(&call, &callees).await.map_err(|ended| ended.error)
    }

    /// Has one of these answer, the first that does, unless the answer is known.
    async fn try_callees(&self, call: &Call<'_>, callees: &[Callee]) -> Result<CallSummary, Ended> {
        let Call { wanted, request, events, started, timeout } = call;
        let attempts_max =
            request.max_attempts.unwrap_or(DEFAULT_MAX_ATTEMPTS).clamp(1, MAX_ATTEMPTS);
        self.note_meaning(wanted.target, callees);
        let producers: Vec<Producer<'_>> = callees.iter().map(Callee::producer).collect();
        let left = timeout.saturating_sub(started.elapsed());
        // Held until the answer is there, so that others who ask the same wait for it.
        let _turn = match self.road(wanted, &request.input, &producers, left).await? {
            Road::Known(known) => {
                return Ok(Box::pin(self.hand_out(*known, events, *started)).await?);
            }
            Road::Work(turn) => turn,
        };

        if let Some(comparable) = self.to_check(call, callees)
            && let Some(ended) = Box::pin(self.checked(call, &comparable)).await
        {
            return ended;
        }
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
                quiet: false,
            };
            attempt.report(AttemptOutcome::Started).await;
            match attempt.run(&request.input, share).await {
                Ok(done) => {
                    let took = attempt.started.elapsed();
                    let elapsed_us = micros(took);
                    attempt.report(AttemptOutcome::Answered { elapsed_us }).await;
                    let producer = callee.producer();
                    let (input, receipt) = (&request.input, &done.receipt);
                    self.inner.results.receipts.made(receipt, &done.written);
                    let proof = Proof::spelled(receipt, &done.written.bytes);
                    self.learn(wanted, &producer, input, receipt, done.body, took);
                    // The receipt comes last: whoever has it has everything it covers.
                    let _gone = events.send(CallEvent::Receipt(proof)).await;
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
                callees.push(Callee { group, grants, ..Callee::new(agent, addrs, capability) });
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
            Some(Callee::new(self.id(), Vec::new(), capability))
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
        if let Some(error) = self.refuses(capability) {
            return Err(error);
        }
        let addrs =
            if resolved.addrs.is_empty() { record.endpoints.clone() } else { resolved.addrs };
        let capability = Arc::new(capability.clone());
        let group = group.cloned();
        Ok(Some(Callee { group, grants, ..Callee::new(resolved.agent, addrs, capability) }))
    }

    /// Why this agent's policy does not let it call a capability for the network it is on.
    fn refuses(&self, capability: &Capability) -> Option<ErrorInfo> {
        let network = capability.attributes.get(VIA_KEY)?;
        (self.via(Some(network))? == Via::Refuse).then(|| {
            let name = &capability.name;
            let text = format!("{name} stands for a service of another network, via {network}");
            ErrorInfo::new(ErrorCode::Refused, text)
                .hint("[via] of this agent's policy file refuses those: allow or lower lets them be called")
        })
    }

    fn target_text(&self, callee: &Callee) -> String {
        self.names_of(callee).target.clone()
    }

    fn names_of<'a>(&self, callee: &'a Callee) -> &'a Names {
        callee.names.get_or_init(|| {
            let agent = self.name_of(&callee.agent);
            Names { target: format!("{}/{}", agent.address, callee.capability.name), agent }
        })
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
    pub(crate) fn into_info(self, agent: &AgentName) -> ErrorInfo {
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
