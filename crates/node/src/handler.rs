//! Answers calls of peers: from the wire's form to the specialist's and back.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use comity_capability::record::{Capability, Visibility};
use comity_core::receipt::ShortText;
use comity_core::{AgentId, Hash, canonical};
use comity_specialist::{Answer, Invocation, SpecialistError};
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::publisher::Publisher;
use crate::registry::{Registry, Served};
use crate::rpc::{CallFailure, CallHandler, ErrorCode, IncomingCall, Offer, Reply};

/// What this agent serves, as peers may use it.
#[derive(Debug)]
pub(crate) struct Handler {
    pub(crate) me: AgentId,
    pub(crate) registry: Arc<Registry>,
    pub(crate) publisher: Arc<Publisher>,
}

impl CallHandler for Handler {
    fn offer(&self, capability: &str) -> Option<Arc<Offer>> {
        // What is private does not exist for peers: not even its interface can be told from nothing.
        let served = self.registry.get(capability)?;
        let public = served.capability.visibility == Visibility::Public;
        public.then(|| Arc::clone(&served.offer))
    }

    fn call(&self, call: IncomingCall) -> BoxFuture<'static, Result<Reply, CallFailure>> {
        let name = call.offer.name.as_str();
        let served = self.registry.get(name).filter(|served| served.admits(&call.caller, &self.me));
        let Some(served) = served else {
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
                invoke(&served, call.caller, request, Some(call.deadline), call.cancel).await;
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

    fn record(&self, hash: Option<&Hash>) -> Option<Bytes> {
        let sealed = self.publisher.sealed_record()?;
        hash.is_none_or(|hash| Hash::of(&sealed) == *hash).then(|| Bytes::from_owner(sealed))
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
