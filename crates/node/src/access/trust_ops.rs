//! What the local API asks about requests for access and about trust both ways.

use std::net::SocketAddr;
use std::time::Duration;

use comity_api::types::{
    Done, ErrorCode, ErrorInfo, GrantRequest, TrustAnswerRequest, TrustApproval,
    TrustApproveRequest, TrustBond, TrustList, TrustRequest, TrustRequestView,
};
use comity_core::AgentId;
use comity_trust::bond::Standing;
use comity_trust::log::{Event, short_text};
use comity_trust::revoke::{Reason, Withdrawn};
use minicbor::bytes::ByteVec;

use super::requests::{Request, Subject, cleaned, is_name};
use super::wire::{Answer, Question, Told};
use super::{DeclareError, Role, Stage};
use crate::calls::call_error;
use crate::node::Node;
use crate::storage::StorageError;

/// How long a peer may take to say what became of a request.
const OUTCOME_PATIENCE: Duration = Duration::from_secs(2);
/// Own requests whose outcome is asked for at once, when they are listed.
const OUTCOMES_AT_ONCE: usize = 8;
/// Longest life of a declaration of trust that the API makes.
const TRUST_LIFE_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

impl From<DeclareError> for ErrorInfo {
    fn from(error: DeclareError) -> Self {
        let code = match &error {
            DeclareError::Refused(_) => ErrorCode::BadRequest,
            DeclareError::Storage(_) => ErrorCode::Storage,
        };
        Self::new(code, crate::describe(&error))
    }
}

fn storage(error: StorageError) -> ErrorInfo {
    ErrorInfo::new(ErrorCode::Storage, crate::describe(&error))
}

fn capability_name(name: Option<String>) -> Result<Option<String>, ErrorInfo> {
    match name {
        Some(name) if !is_name(&name) => {
            let text = format!("`{}` is no capability's name", cleaned(&name));
            Err(ErrorInfo::new(ErrorCode::BadRequest, text)
                .hint("a name has 1 to 64 of a-z 0-9 - . _"))
        }
        other => Ok(other),
    }
}

impl Node {
    /// Asks another agent for access.
    pub(crate) async fn request_trust(
        &self,
        request: TrustRequest,
    ) -> Result<TrustRequestView, ErrorInfo> {
        let capability = capability_name(request.capability)?;
        let resolved = self.resolve_text(&request.agent).await?;
        if resolved.agent == self.id() {
            return Err(ErrorInfo::new(ErrorCode::BadRequest, "an agent need not ask itself")
                .hint("name the agent that serves the capability"));
        }
        let now = self.inner.clock.now();
        let trust = match &capability {
            Some(_) => None,
            None => {
                let until = now + life(request.expires_in_ms);
                Some(ByteVec::from(self.inner.gate.declare(resolved.agent, until).await?))
            }
        };
        let message = cleaned(request.message.as_deref().unwrap_or_default());
        let question =
            Question::Ask { capability: capability.clone(), message: message.clone(), trust };
        let subject = (resolved.agent, capability);
        let asked = Request::new(&message, now);
        // First here, so that an answer that comes at once is taken.
        self.inner
            .gate
            .asked
            .put(&subject, asked.clone(), &self.inner.storage)
            .await
            .map_err(storage)?;
        let told = self.ask_peer(resolved.agent, &resolved.addrs, &question).await?;
        if told != (Told::Heard {}) {
            return Err(ErrorInfo::new(
                ErrorCode::NotVerified,
                "the agent answered something that was not asked",
            ));
        }
        Ok(self.request_view(&subject, &asked))
    }

    async fn ask_peer(
        &self,
        agent: AgentId,
        addrs: &[SocketAddr],
        question: &Question,
    ) -> Result<Told, ErrorInfo> {
        let told = self.inner.rpc.ask_trust(agent, addrs, &question.encode()).await;
        let told = told.map_err(|error| call_error(&error))?;
        Told::decode(&told).ok_or_else(|| {
            ErrorInfo::new(
                ErrorCode::NotVerified,
                "the agent's answer is none that this version knows",
            )
        })
    }

    /// Asks what became of an own request, and takes the answer in. Whether there is one now.
    pub(crate) async fn fetch_outcome(&self, subject: &Subject) -> bool {
        let gate = &self.inner.gate;
        if gate.asked.get(subject).is_none_or(|asked| asked.stage != Stage::Waiting) {
            return false;
        }
        let work = async {
            let reference = crate::resolve::Reference::Key(subject.0, Vec::new());
            let resolved = self.resolve_reference(&reference).await.ok()?;
            let question = Question::Outcome { capability: subject.1.clone() };
            match self.ask_peer(subject.0, &resolved.addrs, &question).await.ok()? {
                Told::Outcome { answer } => gate.take_answer(subject.clone(), answer).await.ok(),
                Told::RevocationSet { .. }
                | Told::Heard {}
                | Told::Endorsements { .. }
                | Told::EvidenceList { .. }
                | Told::Evidence { .. }
                | Told::Accusations { .. }
                | Told::Group { .. } => None,
            }
        };
        matches!(tokio::time::timeout(OUTCOME_PATIENCE, work).await, Ok(Some(())))
            && gate.asked.get(subject).is_some_and(|asked| asked.stage != Stage::Waiting)
    }

    /// Requests of others, own ones, and whom this agent trusts.
    pub(crate) async fn trust_list(&self) -> TrustList {
        let gate = &self.inner.gate;
        let waiting =
            gate.asked.all().into_iter().filter(|(_, asked)| asked.stage == Stage::Waiting);
        let fetched = waiting
            .take(OUTCOMES_AT_ONCE)
            .map(|(subject, _)| async move { self.fetch_outcome(&subject).await });
        futures_util::future::join_all(fetched).await;
        let view = |(subject, request): &(Subject, Request)| self.request_view(subject, request);
        let peers: Vec<AgentId> = gate.with_bonds(|bonds| bonds.peers().copied().collect());
        let bonds = peers.into_iter().filter_map(|peer| {
            let standing = gate.stands(&peer);
            let (mine, theirs) = gate.with_bonds(|bonds| bonds.sides(&peer));
            let until = mine.into_iter().chain(theirs).map(|side| side.not_after).min()?;
            let state = match standing {
                Standing::None => return None,
                Standing::Asked => "asked",
                Standing::Asks => "asks",
                Standing::Mutual => "mutual",
            };
            Some(TrustBond {
                agent: self.name_of(&peer),
                state: state.to_owned(),
                until_ms: until.as_millis(),
            })
        });
        TrustList {
            incoming: gate.requests.all().iter().map(view).collect(),
            outgoing: gate.asked.all().iter().map(view).collect(),
            bonds: bonds.collect(),
        }
    }

    fn request_view(&self, (agent, capability): &Subject, request: &Request) -> TrustRequestView {
        TrustRequestView {
            agent: self.name_of(agent),
            capability: capability.clone(),
            message: request.message.clone(),
            state: request.stage.as_str().to_owned(),
            asked_at_ms: request.at.as_millis(),
        }
    }

    /// Grants what an agent asked for, and tells it if it can be reached.
    pub(crate) async fn approve_trust(
        &self,
        request: TrustApproveRequest,
    ) -> Result<TrustApproval, ErrorInfo> {
        let (subject, mut asked) =
            self.waiting(&request.agent, capability_name(request.capability)?).await?;
        let gate = &self.inner.gate;
        let grant = match &subject.1 {
            Some(name) => {
                let grant = GrantRequest {
                    to: subject.0.to_string(),
                    capabilities: vec![name.clone()],
                    expires_in_ms: request.expires_in_ms,
                    count: request.count,
                    rate: request.rate,
                    depth: request.depth,
                    ..GrantRequest::default()
                };
                let made = self.create_grant(grant).await?;
                let bytes = super::grant_bytes(&made.text)
                    .map_err(|error| ErrorInfo::new(ErrorCode::Internal, error.to_string()))?;
                asked.chain = Some(bytes.into());
                Some(made)
            }
            None => {
                let until = self.inner.clock.now() + life(Some(request.expires_in_ms));
                asked.trust = Some(gate.declare(subject.0, until).await?.into());
                let (peer, how) = (subject.0.into(), short_text("both sides declared it"));
                self.inner.audit.record(Event::TrustOpened { peer, how }).await;
                None
            }
        };
        asked.stage = Stage::Approved;
        gate.requests.put(&subject, asked.clone(), &self.inner.storage).await.map_err(storage)?;
        let delivered = self.deliver(&subject, &asked).await;
        Ok(TrustApproval { request: self.request_view(&subject, &asked), grant, delivered })
    }

    /// Denies what an agent asked for.
    pub(crate) async fn deny_trust(&self, request: TrustAnswerRequest) -> Result<Done, ErrorInfo> {
        let (subject, mut asked) =
            self.waiting(&request.agent, capability_name(request.capability)?).await?;
        asked.stage = Stage::Denied;
        let gate = &self.inner.gate;
        gate.requests.put(&subject, asked.clone(), &self.inner.storage).await.map_err(storage)?;
        if subject.1.is_none() {
            gate.forget_bond(&subject.0).await.map_err(storage)?;
        }
        let told = if self.deliver(&subject, &asked).await {
            "it was told"
        } else {
            "it learns that when it asks again"
        };
        Ok(Done { message: format!("the request of {} is denied; {told}", subject.0) })
    }

    async fn deliver(&self, subject: &Subject, asked: &Request) -> bool {
        let (chain, trust) = (asked.chain.clone(), asked.trust.clone());
        let answer = Answer { stage: asked.stage, chain, trust };
        let question = Question::Deliver { capability: subject.1.clone(), answer };
        let work = async {
            let reference = crate::resolve::Reference::Key(subject.0, Vec::new());
            let resolved = self.resolve_reference(&reference).await.ok()?;
            self.ask_peer(subject.0, &resolved.addrs, &question).await.ok()
        };
        matches!(tokio::time::timeout(OUTCOME_PATIENCE, work).await, Ok(Some(Told::Heard {})))
    }

    /// The request that is meant: by agent and capability, or by agent alone if it made but one.
    async fn waiting(
        &self,
        agent: &str,
        capability: Option<String>,
    ) -> Result<(Subject, Request), ErrorInfo> {
        let agent = self.agent_named(agent).await?;
        let all = self.inner.gate.requests.all();
        let mut meant = all.into_iter().filter(|((by, name), request)| {
            *by == agent
                && request.stage == Stage::Waiting
                && (capability.is_none() || *name == capability)
        });
        match (meant.next(), meant.next()) {
            (Some(one), None) => Ok(one),
            (None, _) => Err(ErrorInfo::new(
                ErrorCode::NotFound,
                format!("no request of {agent} waits for an answer"),
            )
            .hint("`comity trust list` shows the requests there are")),
            (Some(_), Some(_)) => Err(ErrorInfo::new(
                ErrorCode::Ambiguous,
                format!("{agent} asked for several things"),
            )
            .hint("say which: --for CAPABILITY")),
        }
    }

    /// Takes back trust in an agent and every grant it holds from this one. It may ask again.
    pub(crate) async fn revoke_trust(
        &self,
        request: TrustAnswerRequest,
    ) -> Result<Done, ErrorInfo> {
        let agent = self.agent_named(&request.agent).await?;
        let gate = &self.inner.gate;
        let now = self.inner.clock.now();
        let (mine, _) = gate.with_bonds(|bonds| bonds.sides(&agent));
        let mut taken = Vec::new();
        if let Some(side) = mine.filter(|_| request.capability.is_none()) {
            self.withdraw(Withdrawn::Statement(side.hash), side.not_after, Reason::Ended).await?;
            gate.forget_bond(&agent).await.map_err(storage)?;
            let (peer, how) = (agent.into(), short_text("withdrawn here"));
            self.inner.audit.record(Event::TrustClosed { peer, how }).await;
            taken.push("trust".to_owned());
        }
        let mut grants = 0;
        for kept in gate.book.all() {
            let Some(last) = kept.links.last() else { continue };
            let meant = request.capability.as_ref().is_none_or(|name| kept.may_serve(name, now));
            if kept.role == Role::Given && last.grant.holder == agent && now < kept.until() && meant
            {
                self.withdraw(Withdrawn::Statement(last.hash), last.grant.not_after, Reason::Ended)
                    .await?;
                grants += 1;
            }
        }
        if grants > 0 {
            taken.push(format!("{grants} grant{}", if grants == 1 { "" } else { "s" }));
        }
        for (subject, _) in gate.requests.all() {
            if subject.0 == agent
                && (request.capability.is_none() || subject.1 == request.capability)
            {
                gate.requests.remove(&subject, &self.inner.storage).await.map_err(storage)?;
            }
        }
        if taken.is_empty() {
            return Err(ErrorInfo::new(
                ErrorCode::NotFound,
                format!("{agent} holds nothing by this agent's leave"),
            )
            .hint("`comity grant list` and `comity trust list` show who does"));
        }
        Ok(Done { message: format!("{} taken back from {agent}", taken.join(" and ")) })
    }
}

fn life(ms: Option<u64>) -> Duration {
    ms.map_or(TRUST_LIFE_MAX, Duration::from_millis).min(TRUST_LIFE_MAX)
}
