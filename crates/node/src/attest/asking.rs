//! The side that asks for evidence, and the side that presents some when it calls.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use comity_core::{AgentId, Hash, Time};
use comity_trust::evidence::{Appraisal, Asked, EvidenceError};
use comity_trust::log::Event;
use rand::RngExt as _;
use tracing::debug;

use super::shelf::Item;
use super::{AGENT, APPRAISED_AGE_MAX, APPRAISED_MAX, ASKED_MAX, LISTED_MAX};
use crate::access::{Listed, Question, Told, locked};
use crate::node::Node;
use crate::resolve::Reference;
use crate::rpc::{CallError, Features};

/// How long an agent may take to hand out one piece of evidence; a program may have to make it.
const PATIENCE: Duration = Duration::from_secs(6);
/// Callees of which it is remembered in which session evidence was presented to them.
const PRESENTED_MAX: usize = 1024;

/// In which session each callee was shown evidence.
pub(crate) type Presentations = BTreeMap<AgentId, (Hash, Time)>;

/// What came of one piece of evidence.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub(crate) kind: String,
    pub(crate) result: Result<Appraisal, String>,
}

/// What an agent showed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Looked {
    pub(crate) outcomes: Vec<Outcome>,
    /// Kinds that nobody here reads.
    pub(crate) unread: Vec<String>,
}

impl Looked {
    /// What holds.
    pub(crate) fn appraisals(&self) -> Vec<Appraisal> {
        self.outcomes.iter().filter_map(|outcome| outcome.result.clone().ok()).collect()
    }
}

impl Node {
    /// What `agent` can show for a capability, asked now unless it was asked a moment ago and `anew` is false.
    pub(crate) async fn evidence_of(
        &self,
        agent: AgentId,
        addrs: &[SocketAddr],
        capability: &str,
        anew: bool,
    ) -> Result<Arc<Looked>, CallError> {
        let attest = &self.inner.attest;
        let key = (agent, capability.to_owned());
        let policy = self.inner.gate.with_policy(comity_trust::policy::Policy::hash);
        let known = locked(&attest.appraised).get(&key).cloned();
        if let Some((at, under, looked)) = known
            && !anew
            && under == policy
            && self.inner.clock.now().saturating_since(at) < APPRAISED_AGE_MAX
        {
            return Ok(looked);
        }
        let looked = Arc::new(self.ask_evidence(agent, addrs, capability).await?);
        let mut appraised = locked(&attest.appraised);
        if appraised.len() >= APPRAISED_MAX && !appraised.contains_key(&key) {
            let oldest = appraised.iter().min_by_key(|(_, (at, _, _))| *at);
            if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                appraised.remove(&oldest);
            }
        }
        appraised.insert(key, (self.inner.clock.now(), policy, Arc::clone(&looked)));
        Ok(looked)
    }

    async fn ask_evidence(
        &self,
        agent: AgentId,
        addrs: &[SocketAddr],
        capability: &str,
    ) -> Result<Looked, CallError> {
        let addrs = self.where_is(agent, addrs).await;
        // A grant that covers the capability shows that this agent may know of it.
        let shown = self.to_show(&agent, capability, None, None).await.ok().flatten();
        let question = Question::EvidenceList { capability: capability.to_owned() }.encode();
        let rpc = &self.inner.rpc;
        let asked = rpc.ask_bound(agent, &addrs, &question, shown.as_deref());
        let (told, _) = asked.await?;
        let Some(Told::EvidenceList { mut items }) = Told::decode(&told) else {
            return Ok(Looked::default());
        };
        items.truncate(LISTED_MAX);
        let verifiers = self.inner.gate.verifiers();
        let mut looked = Looked::default();
        for item in items {
            if !verifiers.kinds().any(|kind| kind == item.kind) {
                if comity_trust::is_kind_name(&item.kind) {
                    looked.unread.push(item.kind);
                }
            } else if looked.outcomes.len() < ASKED_MAX {
                let piece = self.ask_piece(agent, &addrs, capability, &item, shown.as_deref());
                let result = match tokio::time::timeout(PATIENCE, piece).await {
                    Ok(result) => result,
                    Err(_) => Err(format!("the agent did not hand it out within {PATIENCE:?}")),
                };
                looked.outcomes.push(Outcome { kind: item.kind, result });
            }
        }
        Ok(looked)
    }

    async fn ask_piece(
        &self,
        agent: AgentId,
        addrs: &[SocketAddr],
        capability: &str,
        item: &Listed,
        shown: Option<&[u8]>,
    ) -> Result<Appraisal, String> {
        let nonce = Hash(rand::rng().random());
        let question =
            Question::Evidence { capability: capability.to_owned(), item: item.item, nonce }
                .encode();
        let asked = self.inner.rpc.ask_bound(agent, addrs, &question, shown);
        let (told, session) = asked.await.map_err(|error| crate::describe(&error))?;
        let Some(Told::Evidence { evidence }) = Told::decode(&told) else {
            return Err("the agent answered with something else".to_owned());
        };
        let (verifiers, now) = (self.inner.gate.verifiers(), self.inner.clock.now());
        let (capability, kind) = (capability.to_owned(), item.kind.clone());
        let work = move || {
            let asked = Asked { nonce, capability: &capability };
            let appraisal = verifiers.appraise_asked(&evidence, &session, &agent, &asked, now)?;
            if appraisal.kind == kind { Ok(appraisal) } else { Err(EvidenceError::Binding) }
        };
        let appraisal = self
            .inner
            .attest
            .verifying
            .run(work)
            .await
            .ok_or_else(|| "this node is stopping".to_owned())?
            .map_err(|error| crate::describe(&error))?;
        let (evidence, subject) = (appraisal.evidence, agent.into());
        self.inner.audit.record(Event::Evidence { evidence, subject, session }).await;
        Ok(appraisal)
    }

    async fn where_is(&self, agent: AgentId, addrs: &[SocketAddr]) -> Vec<SocketAddr> {
        if !addrs.is_empty() {
            return addrs.to_vec();
        }
        let resolved = self.resolve_reference(&Reference::Key(agent, Vec::new())).await;
        resolved.map(|resolved| resolved.addrs).unwrap_or_default()
    }

    /// Shows `callee` what this agent keeps about itself, if the callee's policy asks for it and it has not seen it in this session. Whether it has
    /// seen any.
    pub(crate) async fn present_evidence(&self, callee: AgentId, addrs: &[SocketAddr]) -> bool {
        let attest = &self.inner.attest;
        let mut items = attest.shelf.about(AGENT);
        items.truncate(ASKED_MAX);
        if items.is_empty() {
            return false;
        }
        Box::pin(self.present(callee, addrs, items)).await
    }

    async fn present(&self, callee: AgentId, addrs: &[SocketAddr], items: Vec<Item>) -> bool {
        let (attest, rpc) = (&self.inner.attest, &self.inner.rpc);
        match rpc.greet(callee, addrs).await {
            Ok(hello) if hello.features.has(Features::EVIDENCE) => {}
            Ok(_) | Err(_) => return false,
        }
        let Some(session) = rpc.session(&callee) else { return false };
        let now = self.inner.clock.now();
        {
            let mut presented = locked(&attest.presentations);
            let recently = |at: Time| now.saturating_since(at) < APPRAISED_AGE_MAX;
            if presented.get(&callee).is_some_and(|(known, at)| *known == session && recently(*at))
            {
                return true;
            }
            if presented.len() >= PRESENTED_MAX {
                presented.retain(|_, (_, at)| recently(*at));
            }
            if presented.len() < PRESENTED_MAX {
                presented.insert(callee, (session, now));
            }
        }
        for item in items {
            let Some(sealed) = attest.presented(&self.inner.gate, &item, &session).await else {
                continue;
            };
            let question = Question::Present { evidence: sealed.into() }.encode();
            if let Err(error) = rpc.ask_bound(callee, addrs, &question, None).await {
                debug!(kind = item.kind, error = %crate::describe(&error), "evidence was not taken");
            }
        }
        true
    }

    /// A call was refused: whatever was shown is shown again before the next.
    pub(crate) fn forget_presented(&self, callee: &AgentId) {
        locked(&self.inner.attest.presentations).remove(callee);
    }
}
