//! The side that is asked for evidence, and the side that is shown some.

use std::sync::Arc;

use comity_core::Hash;
use comity_trust::evidence::{Asked, Evidence, bind, bind_asked};
use comity_trust::log::Event;

use super::program::ProgramError;
use super::shelf::{Item, Source};
use super::{AGENT, Attest};
use crate::access::{Asked as AskedFor, Gate, Listed, Question, Told, is_name, locked};
use crate::handler::Handler;
use crate::rpc::{CallFailure, Caller, ErrorCode};

fn failure(code: ErrorCode, text: impl Into<String>) -> CallFailure {
    CallFailure::new(code, text)
}

impl Handler {
    /// Answers what is asked about evidence; none if the question is about something else.
    pub(crate) async fn answer_evidence(
        &self,
        caller: &Caller,
        question: Question,
    ) -> Option<Result<Told, CallFailure>> {
        Some(match question {
            Question::EvidenceList { capability } => Ok(self.list(caller, &capability)),
            Question::Evidence { capability, item, nonce } => {
                self.hand_out(caller, &capability, &item, nonce).await
            }
            Question::Present { evidence } => self.take_in_evidence(caller, evidence.into()).await,
            Question::Group { .. }
            | Question::Admitted { .. }
            | Question::Accusations {}
            | Question::GroupNews { .. }
            | Question::RevocationSet {}
            | Question::Ask { .. }
            | Question::Outcome { .. }
            | Question::Deliver { .. }
            | Question::Endorsements { .. }
            | Question::Endorsed { .. } => return None,
        })
    }

    /// Whether the caller may know what there is for a capability. Of what it may not know, it gets the answer for what never existed.
    fn may_know(&self, caller: &Caller, capability: &str) -> bool {
        if capability == AGENT {
            return true;
        }
        if !is_name(capability) {
            return false;
        }
        let found = self.served(capability, caller);
        let served = found.as_ref().map(|(served, _)| &**served);
        let member = found.as_ref().is_some_and(|(_, member)| *member);
        let asked = AskedFor { caller, name: capability, served, member, arguments: None };
        self.gate.preview(&asked).is_ok()
    }

    fn list(&self, caller: &Caller, capability: &str) -> Told {
        let known = self.may_know(caller, capability);
        let items = if known { self.attest.shelf.about(capability) } else { Vec::new() };
        let listed = |item: Item| Listed {
            item: item.id,
            length: item.length().and_then(|length| u32::try_from(length).ok()),
            kind: item.kind,
        };
        Told::EvidenceList { items: items.into_iter().map(listed).collect() }
    }

    async fn hand_out(
        &self,
        caller: &Caller,
        capability: &str,
        item: &Hash,
        nonce: Hash,
    ) -> Result<Told, CallFailure> {
        let none = || failure(ErrorCode::NotFound, "this agent has no such evidence");
        let session =
            caller.session.ok_or_else(|| failure(ErrorCode::TooEarly, "after the handshake"))?;
        if !self.may_know(caller, capability) {
            return Err(none());
        }
        let found = self.attest.shelf.get(item).filter(|item| item.capability.matches(capability));
        let item = found.ok_or_else(none)?;
        let asked = Asked { nonce, capability };
        let binds = bind_asked(&session, &self.me, &item.kind, &asked);
        let blob = self.attest.made(&item, &binds).await.map_err(|error| {
            let code = if matches!(error, ProgramError::Busy) {
                ErrorCode::Busy
            } else {
                ErrorCode::Internal
            };
            failure(code, error.to_string())
        })?;
        let now = self.gate.clock.now();
        let evidence = Evidence::answering(&self.me, &session, &asked, &item.kind, blob, now);
        let sealed = evidence
            .seal(&self.gate.identity)
            .map_err(|error| failure(ErrorCode::Internal, error.to_string()))?;
        Ok(Told::Evidence { evidence: sealed.into() })
    }

    /// A caller presents evidence of itself.
    async fn take_in_evidence(
        &self,
        caller: &Caller,
        sealed: Vec<u8>,
    ) -> Result<Told, CallFailure> {
        let session =
            caller.session.ok_or_else(|| failure(ErrorCode::TooEarly, "after the handshake"))?;
        if !self.gate.asks_evidence() {
            return Ok(Told::Heard {});
        }
        if !locked(&self.gate.shown_evidence).take_try(session) {
            let text = "this session has presented as much evidence as is looked at";
            return Err(failure(ErrorCode::Busy, text));
        }
        let (verifiers, now, agent) = (self.gate.verifiers(), self.gate.clock.now(), caller.agent);
        let work = move || verifiers.appraise(&sealed, &session, &agent, now);
        let appraised = self.attest.verifying.run(work).await;
        let appraisal = appraised
            .ok_or_else(|| failure(ErrorCode::Busy, "this node verifies nothing more now"))?
            .map_err(|error| failure(ErrorCode::InvalidInput, crate::describe(&error)))?;
        let evidence = appraisal.evidence;
        self.audit.record(Event::Evidence { evidence, subject: agent.into(), session }).await;
        locked(&self.gate.shown_evidence).keep(appraisal);
        Ok(Told::Heard {})
    }
}

impl Attest {
    /// The evidence of an item, made for `binds` if it has to be.
    async fn made(&self, item: &Item, binds: &Hash) -> Result<Vec<u8>, ProgramError> {
        match &item.source {
            Source::Blob(blob) => Ok(blob.to_vec()),
            Source::Program(command) => self.runner.run(command, binds).await,
        }
    }

    /// What this agent presents of itself in a session in which it calls; none if it cannot be made.
    pub(super) async fn presented(
        &self,
        gate: &Gate,
        item: &Item,
        session: &Hash,
    ) -> Option<Vec<u8>> {
        let me = gate.identity.id();
        let blob = self.made(item, &bind(session, &me, &item.kind)).await.ok()?;
        Evidence::new(&me, session, &item.kind, blob, gate.clock.now()).seal(&gate.identity).ok()
    }
}

/// Verifies away from the thread that the network runs on, a few at a time.
#[derive(Clone, Debug)]
pub(crate) struct Verifying(Arc<tokio::sync::Semaphore>);

impl Default for Verifying {
    fn default() -> Self {
        Self(Arc::new(tokio::sync::Semaphore::new(super::VERIFIED_AT_ONCE)))
    }
}

impl Verifying {
    /// What `work` finds; none if it panicked or the node is stopping.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let _turn = self.0.acquire().await.ok()?;
        tokio::task::spawn_blocking(work).await.ok()
    }
}
