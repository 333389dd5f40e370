//! What peers ask about trust, and what they bring: requests for access, answers to own requests, endorsements, news of groups.

use std::net::SocketAddr;

use bytes::Bytes;
use comity_core::AgentId;
use comity_overlay::IpPrefix;
use comity_trust::grant::Chain;
use tracing::info;

use super::endorsements::{EndorsementError, TOLD_MAX};
use super::requests::{self, source_of};
use super::wire::Answer;
use super::{Gate, Question, Role, Stage, Told, is_name, locked, not_stored};
use crate::rpc::{CallFailure, ErrorCode};

impl Gate {
    /// Answers a question about trust.
    pub(crate) async fn answer(
        &self,
        caller: &AgentId,
        remote: Option<SocketAddr>,
        question: &[u8],
    ) -> Result<Bytes, CallFailure> {
        let question = Question::decode(question).ok_or_else(|| {
            let text = "this is no question about trust that this version knows";
            CallFailure::new(ErrorCode::InvalidInput, text)
        })?;
        let told = match question {
            Question::RevocationSet {} => Told::RevocationSet { set: self.own_set().into() },
            Question::Ask { capability, message, trust } => {
                let source = source_of(remote);
                let trust = trust.as_deref().map(Vec::as_slice);
                self.hear(*caller, capability, &message, trust, source).await?;
                Told::Heard {}
            }
            Question::Outcome { capability } => {
                Told::Outcome { answer: self.outcome_for((*caller, capability)) }
            }
            Question::Endorsements { capability } => {
                let now = self.clock.now();
                let told = self.endorsements.received(capability.as_deref(), now, TOLD_MAX);
                Told::Endorsements { endorsements: told.into_iter().map(Into::into).collect() }
            }
            Question::Endorsed { endorsement } => {
                self.endorsed(caller, endorsement.into()).await?;
                Told::Heard {}
            }
            // The witness answers it, before it comes here.
            Question::Accusations {} => Told::Accusations { proofs: Vec::new() },
            Question::Group { group } => self.group_for(&group),
            Question::Admitted { group, admission } => {
                self.take_admission(caller, &group, &admission).await?;
                Told::Heard {}
            }
            Question::GroupNews { group, sets } => {
                self.group_news(caller, &group, &sets);
                Told::Heard {}
            }
            Question::Deliver { capability, answer } => {
                self.take_answer((*caller, capability), answer).await?;
                Told::Heard {}
            }
            Question::EvidenceList { .. }
            | Question::Evidence { .. }
            | Question::Present { .. } => {
                let text = "a question about evidence is asked in a session";
                return Err(CallFailure::new(ErrorCode::InvalidInput, text));
            }
        };
        Ok(told.encode().into())
    }

    /// An agent brings its own word for this one.
    async fn endorsed(&self, caller: &AgentId, sealed: Vec<u8>) -> Result<(), CallFailure> {
        if comity_trust::claimed_signer(&sealed).is_none_or(|by| by != *caller) {
            let text = "an endorsement is brought by its endorser";
            return Err(CallFailure::new(ErrorCode::InvalidInput, text));
        }
        match self.endorsements.keep(sealed, &self.storage, self.clock.now()).await {
            Ok(_) => Ok(()),
            Err(EndorsementError::Storage(error)) => Err(not_stored(&error)),
            Err(error) => Err(CallFailure::new(ErrorCode::InvalidInput, crate::describe(&error))),
        }
    }

    /// A stranger asks for access. Whatever becomes of it, it is told the same.
    pub(super) async fn hear(
        &self,
        caller: AgentId,
        capability: Option<String>,
        message: &str,
        trust: Option<&[u8]>,
        source: Option<IpPrefix>,
    ) -> Result<(), CallFailure> {
        if capability.as_deref().is_some_and(|name| !is_name(name)) {
            return Err(CallFailure::new(
                ErrorCode::InvalidInput,
                "a capability's name has 1 to 64 of a-z 0-9 - . _",
            ));
        }
        let now = self.clock.now();
        let subject = (caller, capability);
        if !self.requests.has_room(&subject, source, now) {
            return Ok(());
        }
        if subject.1.is_none() {
            let declared = {
                let mut state = locked(&self.state);
                trust.is_some_and(|sealed| {
                    state.bonds.receive(sealed, now).is_ok_and(|by| by == caller)
                })
            };
            if !declared {
                return Err(CallFailure::new(
                    ErrorCode::InvalidInput,
                    "a request for trust carries the caller's own signed declaration",
                ));
            }
            self.store_bonds().await.map_err(|error| not_stored(&error))?;
        }
        let heard = self.requests.hear(&subject, message, source, now, &self.storage).await;
        if heard.map_err(|error| not_stored(&error))? {
            info!(caller = %caller.short(), "an agent asks for access: `comity trust list` shows it");
        }
        Ok(())
    }

    fn outcome_for(&self, subject: requests::Subject) -> Answer {
        let Some(request) = self.requests.get(&subject) else { return Answer::none() };
        Answer { stage: request.stage, chain: request.chain, trust: request.trust }
    }

    /// The answer to a request of this agent's own; what was not asked for is left alone.
    pub(crate) async fn take_answer(
        &self,
        subject: requests::Subject,
        answer: Answer,
    ) -> Result<(), CallFailure> {
        let Some(mut asked) = self.asked.get(&subject) else { return Ok(()) };
        let now = self.clock.now();
        if answer.stage == Stage::Waiting || asked.stage == Stage::Approved {
            return Ok(());
        }
        let refused = |text: String| CallFailure::new(ErrorCode::InvalidInput, text);
        if let Some(chain) = &answer.chain {
            let chain = Chain::from_bytes(chain).map_err(|error| refused(error.to_string()))?;
            let issuer = chain.issuer().map_err(|error| refused(error.to_string()))?;
            if issuer != subject.0 {
                return Err(refused("the grant is another agent's".to_owned()));
            }
            let kept = self.book.keep(chain, &self.storage, now).await;
            let kept = kept.map_err(|error| refused(crate::describe(&error)))?;
            if kept.role != Role::Held {
                return Err(refused("the grant is not for this agent".to_owned()));
            }
        }
        if let Some(trust) = &answer.trust {
            let received = locked(&self.state).bonds.receive(trust, now);
            if received.is_ok_and(|by| by == subject.0) {
                self.store_bonds().await.map_err(|error| not_stored(&error))?;
            }
        }
        asked.stage = answer.stage;
        self.asked.put(&subject, asked, &self.storage).await.map_err(|error| not_stored(&error))
    }
}
