//! What the local API asks about endorsements, and how well a claim is supported in this node's view.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use comity_api::types::{
    Done, EndorseRequest, EndorseRevokeRequest, EndorsementView, Endorsements as EndorsementsView,
    ErrorCode, ErrorInfo, StandingView,
};
use comity_capability::record::Capability;
use comity_core::{AgentId, Hash, Time};
use comity_trust::endorse::{Endorse, Endorsement, Ground, How, Standing, Support, standing};
use comity_trust::log::{Event, short_text};
use comity_trust::revoke::{Reason, Withdrawn};
use comity_trust::{RawKey, Scope, Target};

use super::endorsements::{EndorsementError, TOLD_MAX};
use super::wire::{Question, Told};
use crate::node::Node;
use crate::resolve::Reference;

/// How long an agent may take to hand out or take in endorsements.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long an agent may take to show its evidence; a program may have to make it.
const EVIDENCE_PATIENCE: Duration = Duration::from_secs(5);
/// How old what is known of an endorser's withdrawals may be before it is asked again.
const SET_AGE_MAX: Duration = Duration::from_secs(600);

impl From<EndorsementError> for ErrorInfo {
    fn from(error: EndorsementError) -> Self {
        let code = match &error {
            EndorsementError::Refused(_) => ErrorCode::NotVerified,
            EndorsementError::Foreign { .. } => ErrorCode::BadRequest,
            EndorsementError::Full => ErrorCode::TooLarge,
            EndorsementError::Storage(_) => ErrorCode::Storage,
        };
        Self::new(code, crate::describe(&error))
    }
}

fn bad(text: String, hint: &str) -> ErrorInfo {
    ErrorInfo::new(ErrorCode::BadRequest, text).hint(hint)
}

impl Node {
    /// Gives this agent's word for another's capability, and hands it to that agent if it can be reached.
    pub(crate) async fn endorse_agent(
        &self,
        request: EndorseRequest,
    ) -> Result<EndorsementView, ErrorInfo> {
        let subject = self.agent_named(&request.agent).await?;
        let scope: Scope = request.capability.parse().map_err(|error| {
            bad(format!("{error}"), "name the capability, or * for the agent as such")
        })?;
        let how = match request.how.as_str() {
            "operator" => How::Operator,
            "canary" => How::Canary,
            "audit" => How::Audit,
            other => {
                let text = format!("`{other}` is no ground for an endorsement");
                return Err(bad(
                    text,
                    "there are operator (you run it), canary (you tested it), audit (you examined it)",
                ));
            }
        };
        let mut proofs = BTreeSet::new();
        for proof in &request.proofs {
            let hash = proof.parse::<Hash>();
            proofs.insert(hash.map_err(|error| {
                bad(format!("`{proof}` is no hash: {error}"), "give b3: and 64 hex digits")
            })?);
        }
        let now = self.inner.clock.now();
        let until = now + Duration::from_millis(request.expires_in_ms);
        let mut endorse = Endorse::new(subject, scope, how, now, until);
        endorse.proofs = (!proofs.is_empty()).then_some(proofs);
        let gate = &self.inner.gate;
        let sealed = endorse
            .seal(&gate.identity)
            .map_err(|error| bad(crate::describe(&error), "name another agent"))?;
        let kept = gate.endorsements.keep(sealed.clone(), &self.inner.storage, now).await?;
        let (statement, kind) = (kept.hash, short_text("endorsement"));
        self.inner.audit.record(Event::Signed { statement, kind, subject: subject.into() }).await;
        let mut view = self.endorsement_view(&kept, now);
        let question = Question::Endorsed { endorsement: sealed.into() };
        view.delivered = Some(self.question(subject, &question).await == Some(Told::Heard {}));
        Ok(view)
    }

    /// Asks another agent about trust; none if it does not answer within a moment.
    pub(crate) async fn question(&self, agent: AgentId, question: &Question) -> Option<Told> {
        let work = async {
            let resolved = self.resolve_reference(&Reference::Key(agent, Vec::new())).await.ok()?;
            self.inner.rpc.ask_trust(agent, &resolved.addrs, &question.encode()).await.ok()
        };
        let told = tokio::time::timeout(PATIENCE, work).await.ok()??;
        Told::decode(&told)
    }

    pub(crate) fn endorsements_view(&self) -> EndorsementsView {
        let now = self.inner.clock.now();
        let (mut given, mut received) = (Vec::new(), Vec::new());
        for word in self.inner.gate.endorsements.all() {
            let view = self.endorsement_view(&word.endorsement, now);
            if word.endorsement.endorser == self.id() {
                given.push(view)
            } else {
                received.push(view)
            }
        }
        EndorsementsView { given, received }
    }

    fn endorsement_view(&self, found: &Endorsement, now: Time) -> EndorsementView {
        let endorse = &found.endorse;
        let withdrawn =
            self.inner.gate.with_revocations(|revocations| found.is_withdrawn(revocations));
        let state = match (withdrawn, now < endorse.not_after) {
            (true, _) => "revoked",
            (false, true) => "good",
            (false, false) => "expired",
        };
        EndorsementView {
            endorsement: found.hash.to_string(),
            endorser: found.endorser.to_string(),
            subject: endorse.subject.to_string(),
            capability: endorse.scope.to_string(),
            how: how_text(endorse.how).to_owned(),
            issued_at_ms: endorse.issued.as_millis(),
            until_ms: endorse.not_after.as_millis(),
            proofs: endorse.proofs.iter().flatten().map(ToString::to_string).collect(),
            state: state.to_owned(),
            delivered: None,
        }
    }

    pub(crate) async fn revoke_endorsement(
        &self,
        request: EndorseRevokeRequest,
    ) -> Result<Done, ErrorInfo> {
        let hash: Hash = request.endorsement.trim().parse().map_err(|_| {
            bad(
                format!("`{}` is no endorsement's hash", request.endorsement.trim()),
                "`comity endorse list` shows them",
            )
        })?;
        let all = self.inner.gate.endorsements.all();
        let given = all
            .iter()
            .find(|word| word.endorsement.hash == hash && word.endorsement.endorser == self.id());
        let Some(word) = given else {
            return Err(ErrorInfo::new(
                ErrorCode::NotFound,
                format!("this agent gave no endorsement {hash}"),
            )
            .hint("`comity endorse list` shows those it gave"));
        };
        let until = word.endorsement.endorse.not_after;
        self.withdraw(Withdrawn::Statement(hash), until, Reason::Ended).await?;
        Ok(Done { message: format!("{hash} is withdrawn; who asks this agent learns it") })
    }

    /// How well it is supported that `agent` can do what it declares, by what this node knows and can ask within a moment.
    pub(crate) async fn standing_of(
        &self,
        agent: AgentId,
        addrs: &[SocketAddr],
        capability: &Capability,
    ) -> Standing {
        let gate = &self.inner.gate;
        let levels = gate.with_policy(|policy| policy.levels().clone());
        let trusted: BTreeSet<RawKey> =
            levels.endorsers.iter().map(|id| RawKey::from(*id)).collect();
        let mut words = Vec::new();
        if !trusted.is_empty() && agent != self.id() {
            let capability = Some(capability.name.clone());
            let question = Question::Endorsements { capability }.encode();
            let asked = self.inner.rpc.ask_trust(agent, addrs, &question);
            if let Ok(Ok(told)) = tokio::time::timeout(PATIENCE, asked).await
                && let Some(Told::Endorsements { endorsements }) = Told::decode(&told)
            {
                let now = self.inner.clock.now();
                let counts = |sealed: &&minicbor::bytes::ByteVec| {
                    comity_trust::claimed_signer(sealed).is_some_and(|by| trusted.contains(&by))
                };
                let sealed = endorsements.iter().take(TOLD_MAX).filter(counts);
                words.extend(sealed.filter_map(|sealed| Endorsement::open(sealed, now).ok()));
            }
        }
        let asks = gate.with_policy(|policy| !policy.evidence().is_empty());
        let appraisals = if asks && agent != self.id() {
            // Who shows nothing, or is gone, has shown nothing.
            let looked = self.evidence_of(agent, addrs, &capability.name, false);
            let looked = tokio::time::timeout(EVIDENCE_PATIENCE, looked).await;
            looked.ok().and_then(Result::ok).map(|looked| looked.appraisals()).unwrap_or_default()
        } else {
            Vec::new()
        };
        // Whoever gave its word may have taken it back.
        let endorsers: BTreeSet<AgentId> = words.iter().map(|word| word.endorser).collect();
        for endorser in endorsers {
            let now = self.inner.clock.now();
            if !gate.with_revocations(|known| known.is_fresh(&endorser, now, SET_AGE_MAX))
                && let Some(Told::RevocationSet { set }) =
                    self.question(endorser, &Question::RevocationSet {}).await
            {
                gate.take_in_set(&endorser, &set);
            }
        }
        let now = self.inner.clock.now();
        let experiences = &self.inner.attest.experiences;
        let experience = experiences.of(&agent, &capability.name);
        let agreement = experiences.agreement(&agent, &capability.name);
        let support = Support {
            endorsements: &words,
            experience: (experience.acknowledged > 0).then_some(&experience),
            appraisals: &appraisals,
            agreement: agreement.as_ref(),
        };
        let target = Target {
            name: &capability.name,
            descriptor: capability.hash(),
            interface: capability.interface.digest(),
        };
        gate.with_revocations(|revocations| {
            standing(&agent, &target, &support, &levels, revocations, now)
        })
    }

    /// A standing as people see it.
    pub(crate) fn standing_view(&self, standing: &Standing) -> StandingView {
        let name = |agent: &AgentId| {
            let known =
                self.inner.gate.with_policy(|policy| policy.name_of(agent).map(str::to_owned));
            known.unwrap_or_else(|| agent.to_string())
        };
        let ground = |ground: &Ground| match ground {
            Ground::Endorsed { by } => {
                format!("endorsed by {}", by.iter().map(name).collect::<Vec<_>>().join(", "))
            }
            Ground::Proved { acknowledged, canaries } => {
                format!("{acknowledged} calls answered here, {canaries} canaries in a row")
            }
            Ground::Attested { kind, excludes } => {
                format!("evidence `{kind}`, which excludes {excludes}")
            }
            Ground::Agreed { agreed, asked } => format!("{agreed} of {asked} asked agreed"),
        };
        StandingView {
            level: standing.level.to_string(),
            meaning: standing.level.meaning().to_owned(),
            grounds: standing.grounds.iter().map(ground).collect(),
        }
    }
}

const fn how_text(how: How) -> &'static str {
    match how {
        How::Operator => "operator",
        How::Canary => "canary",
        How::Audit => "audit",
    }
}
