//! Answers calls of peers: from the wire's form to the specialist's and back.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use comity_capability::record::Capability;
use comity_core::receipt::{ShortText, SignedReceipt};
use comity_core::{AgentId, Hash, Time, canonical};
use comity_specialist::{Answer, Invocation, SpecialistError};
use comity_trust::access::Ground;
use comity_trust::log::{Event, short_text};
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::access::{Asked, Gate, Question};
use crate::attest::Attest;
use crate::audit::Audit;
use crate::groups::Groups;
use crate::lineage::Lineage;
use crate::publisher::Publisher;
use crate::registry::{Registry, Served};
use crate::results::Results;
use crate::rpc::{
    CallFailure, CallHandler, Caller, Closed, Cosigned, ErrorCode, Features, Growth, Hello,
    IncomingCall, Offer, Outgoing, Reply, Written, named,
};
use crate::witnessing::Witnessing;

/// What this agent serves, as peers may use it.
#[derive(Debug)]
pub(crate) struct Handler {
    pub(crate) me: AgentId,
    pub(crate) registry: Arc<Registry>,
    pub(crate) publisher: Arc<Publisher>,
    pub(crate) groups: Arc<Groups>,
    pub(crate) witnessing: Witnessing,
    pub(crate) gate: Arc<Gate>,
    pub(crate) attest: Arc<Attest>,
    pub(crate) audit: Audit,
    pub(crate) lineage: Arc<Lineage>,
    pub(crate) results: Arc<Results>,
}

impl Handler {
    /// The capability and whether the caller is a member of the group it is served to; none if there is none, or only for members of others.
    pub(crate) fn served(&self, name: &str, caller: &Caller) -> Option<(Arc<Served>, bool)> {
        // Before the name is looked up, so that the time tells nothing about it.
        let member_of = self.groups.proved(caller, &self.me);
        let served = self.registry.get(name)?;
        match (served.group.as_deref(), member_of) {
            (None, _) => Some((served, false)),
            (Some(group), Some(proved)) if proved.name() == group => Some((served, true)),
            // A group is closed: not even a grant opens it to who holds no secret.
            (Some(_), _) => None,
        }
    }

    /// What the caller may call and does not see in public, other than as a member of a group.
    fn besides(&self, caller: &Caller) -> Vec<Arc<Served>> {
        let mut all = self.registry.all();
        all.retain(|served| {
            let asked = Asked {
                caller,
                name: &served.capability.name,
                served: Some(served),
                member: false,
                arguments: None,
            };
            served.group.is_none() && !served.is_public() && self.gate.preview(&asked).is_ok()
        });
        all
    }

    async fn log_ground(&self, call: &IncomingCall, ground: Ground) {
        let caller = call.caller.agent.into();
        let (Some(session), capability) = (call.caller.session, call.offer.name.clone()) else {
            return;
        };
        match ground {
            // The entry of the answer says all there is to say.
            Ground::Public => {}
            Ground::Rule { line } => {
                let rule = short_text(&format!("policy line {line}"));
                self.audit.record(Event::Allowed { caller, capability, rule, session }).await;
            }
            Ground::Grant { leaf } => {
                self.audit.record(Event::GrantUsed { grant: leaf, holder: caller, session }).await;
            }
        }
    }
}

impl CallHandler for Arc<Handler> {
    fn offer(&self, capability: &str, caller: &Caller) -> Result<Arc<Offer>, CallFailure> {
        let found = self.served(capability, caller);
        let served = found.as_ref().map(|(served, _)| &**served);
        let member = found.as_ref().is_some_and(|(_, member)| *member);
        let ground = self.gate.preview(&Asked {
            caller,
            name: capability,
            served,
            member,
            arguments: None,
        })?;
        let Some((served, _)) = found else {
            return Err(CallFailure::not_found(&named(capability)));
        };
        if caller.is_early() && ground != Ground::Public {
            // Whoever sends it again must not use up what it is allowed: only after the handshake.
            return Ok(Arc::new(Offer { idempotent: false, ..(*served.offer).clone() }));
        }
        Ok(Arc::clone(&served.offer))
    }

    fn call(&self, call: IncomingCall) -> BoxFuture<'static, Result<Reply, CallFailure>> {
        let name = call.offer.name.as_str();
        let found = self.served(name, &call.caller);
        let asked = Asked {
            caller: &call.caller,
            name,
            served: found.as_ref().map(|(served, _)| &**served),
            member: found.as_ref().is_some_and(|(_, member)| *member),
            arguments: Some(&call.body),
        };
        let admitted = self.gate.admit(&asked);
        let handler = Self::clone(self);
        Box::pin(async move {
            let mut admitted = admitted?;
            let Some((served, _)) = found else {
                return Err(CallFailure::not_found(&call.offer.name));
            };
            handler.gate.commit(&mut admitted).await?;
            handler.log_ground(&call, admitted.ground).await;
            let request = call.json().map_err(|error| {
                CallFailure::new(
                    ErrorCode::InvalidInput,
                    format!("the request has no JSON form: {error}"),
                )
            })?;
            let answering = served.begin();
            let answer =
                invoke(&served, call.caller.agent, request, Some(call.deadline), call.cancel).await;
            match answer.map_err(|error| failure(&error))? {
                Answer::One(value) => item(&value).map(Reply::One),
                Answer::Stream(parts) => Ok(Reply::Stream(
                    parts
                        .map(move |part| {
                            let _until_the_last = &answering;
                            part.map_err(|error| failure(&error)).and_then(|value| item(&value))
                        })
                        .boxed(),
                )),
            }
        })
    }

    fn hello(&self, _peer: &AgentId) -> Hello {
        let record = self.publisher.sealed_record().map(|sealed| Hash::of(&sealed));
        let checkpoint = self.witnessing.checkpoint();
        let revocations = Some(self.gate.revocation_state());
        let accusation = self.witnessing.accusation();
        let mut features = Features::GROUPS.with(Features::GRANTS);
        if self.gate.asks_evidence() {
            features = features.with(Features::EVIDENCE);
        }
        Hello { record, checkpoint, revocations, features, accusation }
    }

    fn greeted(&self, peer: &AgentId, _session: &Hash, hello: &Hello) {
        self.witnessing.greeted(peer, hello);
        if let Some(revocations) = &hello.revocations {
            self.gate.greeted(peer, revocations);
        }
    }

    fn succession(&self, key: &AgentId) -> Option<Vec<u8>> {
        self.lineage.since(key)
    }

    fn growth(&self, asked: Growth) -> BoxFuture<'static, Result<Bytes, CallFailure>> {
        self.witnessing.growth(asked)
    }

    fn cosigned(
        &self,
        peer: AgentId,
        cosigned: Cosigned,
    ) -> BoxFuture<'static, Result<(), CallFailure>> {
        self.witnessing.cosigned(peer, cosigned)
    }

    fn record(&self, hash: Option<&Hash>, caller: &Caller) -> Option<Bytes> {
        let member_of = self.groups.proved(caller, &self.me);
        let of_group = member_of.and_then(|group| group.told().sealed);
        let personal = self.publisher.sealed_with(&self.besides(caller));
        // A member that names no record wants the one it alone can ask for, and so does who may call more than others.
        let mut records =
            of_group.into_iter().chain(personal).chain(self.publisher.sealed_record());
        let sealed = records.find(|sealed| hash.is_none_or(|hash| Hash::of(sealed) == *hash))?;
        Some(Bytes::from_owner(sealed))
    }

    fn results(
        &self,
        caller: Caller,
        remote: Option<SocketAddr>,
        body: Bytes,
    ) -> BoxFuture<'static, Result<Bytes, CallFailure>> {
        let group = self.groups.proved(&caller, &self.me);
        let results = Arc::clone(&self.results);
        Box::pin(
            async move { results.answer(&caller.agent, group.as_deref(), remote, &body).await },
        )
    }

    fn piece(
        &self,
        caller: Caller,
        body: Bytes,
    ) -> BoxFuture<'static, Result<Outgoing, CallFailure>> {
        let group = self.groups.proved(&caller, &self.me);
        self.results.piece(caller.agent, group.as_deref(), &body)
    }

    fn promise(
        &self,
        caller: &AgentId,
        job: Hash,
        receipt: &Bytes,
        body: Bytes,
    ) -> Result<Hash, CallFailure> {
        self.results.promise(caller, job, receipt, body)
    }

    fn signed(&self, caller: &AgentId, receipt: SignedReceipt, bytes: &Bytes, statement: Hash) {
        self.results.served(caller, receipt, Written { bytes: bytes.clone(), statement });
    }

    fn trust(&self, caller: Caller, body: Bytes) -> BoxFuture<'static, Result<Bytes, CallFailure>> {
        if let Some(told) = self.witnessing.accusations(&body) {
            return Box::pin(std::future::ready(Ok(told)));
        }
        let handler = Self::clone(self);
        Box::pin(async move {
            // What is no question is refused where the others are answered.
            if let Some(question) = Question::decode(&body)
                && let Some(told) = handler.answer_evidence(&caller, question).await
            {
                return told.map(|told| told.encode().into());
            }
            handler.gate.answer(&caller.agent, caller.remote, &body).await
        })
    }
}

/// Has the specialist answer and counts the outcome.
pub(crate) async fn invoke(
    served: &Served,
    caller: AgentId,
    request: Value,
    deadline: Option<Duration>,
    cancel: CancellationToken,
) -> Result<Answer, SpecialistError> {
    let capability = served.capability.name.clone();
    let call = Invocation { capability, request, caller, deadline, cancel };
    let answer = served.specialist.call(call).await;
    let at_fault = match &answer {
        Ok(_) => false,
        Err(SpecialistError::InvalidRequest { .. } | SpecialistError::Cancelled) => false,
        Err(_) => true,
    };
    served.count(at_fault);
    answer
}

/// The statement that receipts of this capability make about it.
pub(crate) fn offer_of(capability: &Capability, descriptor: Hash) -> Offer {
    Offer {
        name: ShortText::try_from(capability.name.as_str())
            .expect("a capability's name has at most 64 characters of [a-z0-9-._], which a receipt's text can hold"),
        descriptor,
        interface: capability.interface.digest(),
        idempotent: capability.idempotent,
        valid_for: Duration::from_micros(capability.valid_for.micros()),
        data_version: (!capability.data_version.is_empty())
            .then(|| ShortText::try_from(capability.data_version.as_str()).ok())
            .flatten(),
        closed: capability.reuse.as_ref().and_then(|reuse| {
            let (until, time_field) = reuse.closed_until_ms.zip(reuse.time_field.clone())?;
            Some(Closed { until: Time::from_millis(until), time_field })
        }),
    }
}

/// One item of an answer in canonical form.
pub(crate) fn item(value: &Value) -> Result<Bytes, CallFailure> {
    canonical::from_json(value).map(Bytes::from).map_err(|error| {
        let text = format!("the specialist's answer has no canonical form: {error}");
        CallFailure::new(ErrorCode::SpecialistFailed, text)
    })
}

fn failure(error: &SpecialistError) -> CallFailure {
    let code = match error {
        SpecialistError::InvalidRequest { .. } => ErrorCode::InvalidInput,
        SpecialistError::RequestTooLarge { .. } | SpecialistError::AnswerTooLarge { .. } => {
            ErrorCode::TooLarge
        }
        SpecialistError::Timeout { .. } | SpecialistError::Cancelled => ErrorCode::Timeout,
        SpecialistError::Busy { .. } => ErrorCode::Busy,
        SpecialistError::Reported { .. }
        | SpecialistError::Crashed { .. }
        | SpecialistError::GarbageAnswer { .. }
        | SpecialistError::Unavailable { .. } => ErrorCode::SpecialistFailed,
    };
    CallFailure::new(code, error.to_string())
}
