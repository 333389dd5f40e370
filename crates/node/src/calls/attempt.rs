//! One attempt to have one agent answer: checked before it leaves, watched while it lasts, verified before it counts.

use std::sync::Arc;
use std::time::{Duration, Instant};

use comity_api::types::{Attempt, AttemptOutcome, CallEvent, Chunk, ErrorCode, ErrorInfo};
use comity_core::canonical::Version;
use comity_core::receipt::{Receipt, SignedReceipt, sign_batch};
use comity_core::{AgentId, Hash, Time, canonical};
use comity_specialist::Answer;
use comity_specialist::schema::Validator;
use comity_trust::log::{Event, short_text};
use futures_util::StreamExt as _;
use rand::Rng as _;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Callee, call_error, no_capability};
use crate::handler::{invoke, item};
use crate::node::Node;
use crate::results::{Asked, Body, Gathered};
use crate::rpc::{self, Written};

/// Silence after which a called peer is pinged, again and again.
const PATIENCE: Duration = Duration::from_millis(500);
/// A peer that does not answer a ping for this long is given up.
const PING_TIMEOUT: Duration = Duration::from_secs(1);

impl Node {
    /// What does not fit the declared interface never leaves.
    pub(super) fn check_input(&self, callee: &Callee, input: &Value) -> Result<(), ErrorInfo> {
        let validator = match callee.validator.get() {
            Some(validator) => validator,
            None => {
                let schema = callee.capability.interface.input_schema();
                let validator = Validator::new(&schema).map_err(|error| {
                    let who = self.target_text(callee);
                    let text = format!("{who} declares an unusable interface: {error}");
                    ErrorInfo::new(ErrorCode::CallFailed, text)
                })?;
                callee.validator.get_or_init(|| validator)
            }
        };
        validator.check(input).map_err(|problems| self.bad_input(callee, problems.join("; ")))
    }

    pub(super) fn bad_input(&self, callee: &Callee, problem: String) -> ErrorInfo {
        let target = self.target_text(callee);
        let text = format!("the input does not fit what {target} takes: {problem}");
        ErrorInfo::new(ErrorCode::BadInput, text)
            .hint(format!("`comity show {target}` prints its input schema"))
    }

    /// The log keeps the signed receipt: it proves to others what the callee said.
    pub(crate) async fn log_made(&self, receipt: &SignedReceipt, written: &Written) {
        let answered = Event::CallMade {
            receipt: written.statement,
            callee: receipt.receipt.callee.into(),
            capability: receipt.receipt.name.clone(),
            signed: written.bytes.to_vec(),
        };
        self.inner.audit.record(answered).await;
    }

    /// Callees as a quorum asks them. Whom the input does not fit is left out, unless it fits nobody.
    pub(super) fn all_asked(
        &self,
        callees: &[Callee],
        input: &Value,
    ) -> Result<Vec<Asked>, ErrorInfo> {
        let (mut asked, mut misfit) = (Vec::new(), None);
        for callee in callees {
            match self.asked(callee, input) {
                Ok(one) => asked.push(one),
                Err(error) => misfit = Some(error),
            }
        }
        match misfit {
            Some(error) if asked.is_empty() => Err(error),
            _ => Ok(asked),
        }
    }

    fn asked(&self, callee: &Callee, input: &Value) -> Result<Asked, ErrorInfo> {
        self.check_input(callee, input)?;
        let request = callee.request(input);
        let request = request.map_err(|error| self.bad_input(callee, error.to_string()))?;
        let Callee { agent, addrs, capability, terms, group, .. } = callee.clone();
        Ok(Asked { agent, addrs, capability, terms, group, request })
    }
}

/// One attempt with one peer.
pub(super) struct Running<'a> {
    pub(super) node: &'a Node,
    pub(super) events: &'a mpsc::Sender<CallEvent>,
    pub(super) callee: &'a Callee,
    pub(super) number: u32,
    pub(super) started: Instant,
    /// Items of the answer were already handed on, so no other peer may continue it.
    pub(super) shown: bool,
    /// The answer is not handed on as it comes, and what it says of its producer is noted elsewhere: it is checked first.
    pub(super) quiet: bool,
}

pub(super) struct Done {
    pub(super) receipt: SignedReceipt,
    pub(super) written: Written,
    /// The items one after the other, where the answer may be kept.
    pub(super) body: Option<Body>,
    pub(super) streamed: bool,
    pub(super) items: u64,
    pub(super) bytes: u64,
}

pub(super) struct Failed {
    pub(super) error: ErrorInfo,
    pub(super) try_others: bool,
}

impl Running<'_> {
    pub(super) async fn report(&self, outcome: AttemptOutcome) {
        let names = self.node.names_of(self.callee);
        let attempt = Attempt {
            number: self.number,
            target: names.target.clone(),
            agent: names.agent.clone(),
            outcome,
        };
        let _gone = self.events.send(CallEvent::Attempt(attempt)).await;
    }

    pub(super) async fn run(&mut self, input: &Value, deadline: Duration) -> Result<Done, Failed> {
        let checked = self.node.check_input(self.callee, input);
        checked.map_err(|error| Failed { error, try_others: true })?;
        if self.callee.agent == self.node.id() {
            return Box::pin(self.run_here(input, deadline)).await;
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
                if !self.quiet {
                    node.results.reputation().answered(agent, self.started.elapsed(), now);
                }
                node.attest.experiences.acknowledged(&agent, &capability.name, now);
            }
            Err(
                rpc::CallError::Connect(_)
                | rpc::CallError::TimedOut { .. }
                | rpc::CallError::Interrupted { .. },
            ) => {
                let (agent, now) = (self.callee.agent, node.clock.now());
                node.signals.silent(&agent, now);
                if !self.quiet {
                    node.results.reputation().failed(agent, now);
                }
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
                match tokio::time::timeout(PING_TIMEOUT, Box::pin(rpc.ping(peer, &addrs))).await {
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
        let mut body = if self.callee.terms.is_keepable() {
            // What is compared is compared in memory.
            Gathered::new(self.node.inner.results.shelf().filter(|_| !self.quiet))
        } else {
            Gathered::nothing()
        };
        while let Some(item) = answer.next().await? {
            bytes += item.len() as u64;
            body.add(&item).await;
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
        let rpc::Finished { receipt, written, .. } = finished;
        self.node.log_made(&receipt, &written).await;
        let body = body.finish().await;
        Ok(Done { receipt, written, body, streamed: items != 1, items, bytes })
    }

    async fn hand_on(&mut self, index: u64, value: Value) {
        if self.quiet {
            return;
        }
        // A single item is not shown before its receipt is checked: both come in one frame.
        self.shown |= index > 0;
        let _gone = self.events.send(CallEvent::Chunk(Chunk { index, value })).await;
    }

    fn bad_input(&self, problem: String) -> Failed {
        let error = self.node.bad_input(self.callee, problem);
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
        let written = Written::of(&receipt);
        self.node.log_made(&receipt, &written).await;
        Ok(Done { receipt, written, body: None, streamed: items != 1, items, bytes })
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
