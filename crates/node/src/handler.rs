//! Answers calls of peers: from the wire's form to the specialist's and back.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use comity_capability::record::Capability;
use comity_core::receipt::ShortText;
use comity_core::{AgentId, Hash, canonical};
use comity_specialist::{Answer, Invocation, SpecialistError};
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::admission::{Context, admit};
use crate::groups::Groups;
use crate::publisher::Publisher;
use crate::registry::{Registry, Served};
use crate::rpc::{
    CallFailure, CallHandler, Caller, Cosigned, ErrorCode, Features, Growth, Hello, IncomingCall,
    Offer, Reply,
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
}

impl Handler {
    /// The capability, if there is one of that name for this caller.
    fn served(&self, name: &str, caller: &Caller) -> Option<Arc<Served>> {
        // Before the name is looked up, so that the time tells nothing about it.
        let member_of = self.groups.proved(caller, &self.me);
        let served = self.registry.get(name)?;
        let context = Context {
            me: &self.me,
            served_to: served.group.as_deref(),
            member_of: member_of.as_ref().map(|group| group.name()),
            grants: caller.grants.as_deref(),
        };
        admit(&caller.agent, &served.capability, &context).is_allowed().then_some(served)
    }
}

impl CallHandler for Handler {
    fn offer(&self, capability: &str, caller: &Caller) -> Option<Arc<Offer>> {
        // What is not for a caller does not exist for it: not even its interface can be told from nothing.
        self.served(capability, caller).map(|served| Arc::clone(&served.offer))
    }

    fn call(&self, call: IncomingCall) -> BoxFuture<'static, Result<Reply, CallFailure>> {
        let name = call.offer.name.as_str();
        let Some(served) = self.served(name, &call.caller) else {
            return Box::pin(std::future::ready(Err(CallFailure::not_found(&call.offer.name))));
        };
        Box::pin(async move {
            let request = call.json().map_err(|error| {
                CallFailure::new(
                    ErrorCode::InvalidInput,
                    format!("the request has no JSON form: {error}"),
                )
            })?;
            let answer =
                invoke(&served, call.caller.agent, request, Some(call.deadline), call.cancel).await;
            match answer.map_err(|error| failure(&error))? {
                Answer::One(value) => item(&value).map(Reply::One),
                Answer::Stream(parts) => Ok(Reply::Stream(
                    parts
                        .map(|part| {
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
        Hello { record, checkpoint, features: Features::GROUPS, ..Hello::default() }
    }

    fn greeted(&self, peer: &AgentId, _session: &Hash, hello: &Hello) {
        self.witnessing.greeted(peer, hello);
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
        // A member that names no record wants the one it alone can ask for.
        let mut records = of_group.into_iter().chain(self.publisher.sealed_record());
        let sealed = records.find(|sealed| hash.is_none_or(|hash| Hash::of(sealed) == *hash))?;
        Some(Bytes::from_owner(sealed))
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
