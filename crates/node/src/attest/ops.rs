//! What the local API asks about evidence.

use std::time::Duration;

use comity_api::types::{
    AppraiseRequest, AppraiseResponse, CallRequest, CanaryRequest, CanaryResponse, Done, ErrorCode,
    ErrorInfo, EvidenceAddRequest, EvidenceItem, EvidenceItems, EvidenceShown, QueryInput,
};
use comity_core::AgentId;
use comity_trust::endorse::Agreement;
use comity_trust::evidence::MAX_BLOB;
use comity_trust::{Pattern, is_kind_name};
use data_encoding::BASE64;

use super::AGENT;
use super::shelf::{Item, ShelfError, Source};
use super::view::{fact_view, item_view, outcome_view};
use crate::node::Node;
use crate::storage::StorageError;

/// How long looking for the agent and asking it may take.
const PATIENCE: Duration = Duration::from_secs(20);

impl From<ShelfError> for ErrorInfo {
    fn from(error: ShelfError) -> Self {
        let code = match &error {
            ShelfError::Length { .. } | ShelfError::Full => ErrorCode::TooLarge,
            ShelfError::Name { count: 0, .. } => ErrorCode::NotFound,
            ShelfError::Name { .. } => ErrorCode::Ambiguous,
            ShelfError::Storage(_) => ErrorCode::Storage,
        };
        Self::new(code, crate::describe(&error))
    }
}

fn bad(text: impl Into<String>, hint: &str) -> ErrorInfo {
    ErrorInfo::new(ErrorCode::BadRequest, text.into()).hint(hint)
}

impl Node {
    /// Remembers that these agents gave the same answer when `asked` were asked for it, from `roots` distinct roots of trust (operators, networks, sources
    /// that do not depend on each other): the ground of level L4, for as long as the policy's `quorum_max_age` says.
    ///
    /// # Errors
    /// [`StorageError`]: it counts until this node stops, and not after that.
    pub async fn remember_agreement(
        &self,
        agents: &[AgentId],
        capability: &str,
        asked: u32,
        roots: u32,
    ) -> Result<(), StorageError> {
        let agreed = u32::try_from(agents.len()).unwrap_or(u32::MAX);
        let agreement = Agreement { agreed, asked, roots, at: self.inner.clock.now() };
        self.inner.attest.experiences.agreed(agents, capability, agreement).await
    }

    pub(crate) fn evidence_items(&self) -> EvidenceItems {
        EvidenceItems { items: self.inner.attest.shelf.all().iter().map(item_view).collect() }
    }

    /// Keeps evidence about this agent. It is not verified here: whom the reader believes is the reader's to say.
    pub(crate) async fn add_evidence(
        &self,
        request: EvidenceAddRequest,
    ) -> Result<EvidenceItem, ErrorInfo> {
        if !is_kind_name(&request.kind) {
            let text = format!("`{}` is no kind of evidence", request.kind);
            return Err(bad(text, "there are model-signing, provenance, trace, sev-snp, tdx"));
        }
        let capability: Pattern = request.capability.parse().map_err(|error| {
            bad(format!("{error}"), "name the capability, or * for the agent as such")
        })?;
        let source = match (request.blob, request.program) {
            (Some(blob), None) => {
                // Base64 makes four characters of three bytes.
                if blob.len() > MAX_BLOB.div_ceil(3) * 4 {
                    return Err(
                        ShelfError::Length { length: blob.len() / 4 * 3, max: MAX_BLOB }.into()
                    );
                }
                let bytes = BASE64.decode(blob.as_bytes());
                Source::Blob(
                    bytes.map_err(|_| bad("the evidence is not base64", "encode it"))?.into(),
                )
            }
            (None, Some(program))
                if shlex::split(&program).is_some_and(|words| !words.is_empty()) =>
            {
                Source::Program(program)
            }
            (None, Some(_)) => {
                return Err(bad("the program is no command line", "quote it as in a shell"));
            }
            (Some(_), Some(_)) | (None, None) => {
                return Err(bad("give the evidence or a program that makes it", "one of the two"));
            }
        };
        let item = Item::new(request.kind, capability, source, self.inner.clock.now())?;
        let view = item_view(&item);
        self.inner.attest.shelf.keep(item).await?;
        Ok(view)
    }

    pub(crate) fn show_evidence(&self, id: &str) -> Result<EvidenceShown, ErrorInfo> {
        let item = self.inner.attest.shelf.named(id)?;
        let (blob, result) = match &item.source {
            Source::Blob(blob) => {
                let verifiers = self.inner.gate.verifiers();
                let now = self.inner.clock.now();
                let result = verifiers.inspect(&item.kind, blob.to_vec(), &self.id(), now);
                (Some(BASE64.encode(blob)), result.map_err(|error| crate::describe(&error)))
            }
            Source::Program(_) => {
                let text = "a program makes it for each question: `comity attest verify` at another node asks";
                (None, Err(text.to_owned()))
            }
        };
        let (facts, refused) = match result {
            Ok(facts) => (facts.iter().map(fact_view).collect(), None),
            Err(why) => (Vec::new(), Some(why)),
        };
        Ok(EvidenceShown { item: item_view(&item), blob, facts, refused })
    }

    pub(crate) async fn remove_evidence(&self, id: &str) -> Result<Done, ErrorInfo> {
        let item = self.inner.attest.shelf.named(id)?;
        self.inner.attest.shelf.remove(&item.id).await?;
        let message = format!("{} is no longer shown; who has seen it has seen it", item.id);
        Ok(Done { message })
    }

    /// Asks an agent for its evidence and says what it shows, and how well its claim is supported altogether.
    pub(crate) async fn appraise_agent(
        &self,
        request: AppraiseRequest,
    ) -> Result<AppraiseResponse, ErrorInfo> {
        let work = Box::pin(self.appraise_now(request));
        tokio::time::timeout(PATIENCE, work).await.unwrap_or_else(|_| {
            let text = format!("the agent was not found or did not answer within {PATIENCE:?}");
            Err(ErrorInfo::new(ErrorCode::Timeout, text))
        })
    }

    async fn appraise_now(&self, request: AppraiseRequest) -> Result<AppraiseResponse, ErrorInfo> {
        let agent = self.agent_named(&request.agent).await?;
        if agent == self.id() {
            let hint = "`comity attest list` and `show` say what this agent keeps";
            return Err(bad("an agent does not appraise itself", hint));
        }
        let capability = request.capability.as_deref().unwrap_or(AGENT);
        if capability != AGENT && !crate::access::is_name(capability) {
            let text = format!("`{capability}` is no capability's name");
            return Err(bad(text, "a name has 1 to 64 of a-z 0-9 - . _"));
        }
        let looked = self
            .evidence_of(agent, &[], capability, true)
            .await
            .map_err(|error| ErrorInfo::new(ErrorCode::Unreachable, crate::describe(&error)))?;
        let standing = self.standing_by_name(agent, capability).await;
        Ok(AppraiseResponse {
            agent: self.name_of(&agent),
            capability: capability.to_owned(),
            appraisals: looked.outcomes.iter().map(outcome_view).collect(),
            unread: looked.unread.clone(),
            standing: standing.map(|standing| self.standing_view(&standing)),
        })
    }

    /// The standing of a capability that the agent's record has.
    async fn standing_by_name(
        &self,
        agent: AgentId,
        capability: &str,
    ) -> Option<comity_trust::endorse::Standing> {
        if capability == AGENT {
            return None;
        }
        let record = match self.to_show(&agent, capability, None, None).await.ok().flatten() {
            Some(shown) => self.record_for(agent, &[], capability, &shown).await.ok()?,
            None => self.record_of(agent, &[], None, None).await.ok()?,
        };
        let found = record.capabilities.iter().find(|known| known.name == capability)?;
        Some(self.standing_of(agent, &record.endpoints, found).await)
    }

    /// Asks what is known already, and remembers whether the answer was right.
    pub(crate) async fn canary_call(
        &self,
        request: CanaryRequest,
    ) -> Result<CanaryResponse, ErrorInfo> {
        let Some((_, capability)) = request.target.rsplit_once('/') else {
            let text = format!("`{}` names no agent's capability", request.target);
            return Err(bad(text, "a canary tests one agent: give ADDRESS/CAPABILITY"));
        };
        let capability = capability.to_owned();
        let target = QueryInput::Text(request.target.clone());
        let mut call = CallRequest::new(target, request.input);
        (call.timeout_ms, call.max_attempts) = (request.timeout_ms, Some(1));
        // What is known already says nothing of the agent.
        call.reuse.fresh = true;
        let answer = self.call_with(call).await?;
        if answer.agent == self.id() {
            return Err(bad("an agent does not test itself", "name another"));
        }
        let given = match <[serde_json::Value; 1]>::try_from(answer.items) {
            Ok([one]) => one,
            Err(items) => serde_json::Value::Array(items),
        };
        let passed = given == request.expect;
        let now = self.inner.clock.now();
        let experiences = &self.inner.attest.experiences;
        let known = experiences
            .canary(&answer.agent, &capability, passed, now)
            .await
            .map_err(|error| ErrorInfo::new(ErrorCode::Storage, crate::describe(&error)))?;
        Ok(CanaryResponse {
            agent: self.name_of(&answer.agent),
            capability,
            passed,
            answer: given,
            in_a_row: known.canaries_in_a_row,
            acknowledged: known.acknowledged,
        })
    }
}
