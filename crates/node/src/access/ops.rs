//! What the local API asks about policies and grants.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use comity_api::types::{
    Done, ErrorCode, ErrorInfo, GrantKeepRequest, GrantRequest, GrantRevokeRequest, GrantView,
    Grants, MAX_GRANT_SCOPES, PolicyExplainRequest, PolicyExplanation, PolicyStatus,
};
use comity_core::{AgentId, Hash, Time};
use comity_trust::bond::Standing;
use comity_trust::grant::{Chain, Grant, IssueError};
use comity_trust::log::Event;
use comity_trust::policy::{Request, parse_rate};
use comity_trust::revoke::{Reason, Revoke, Withdrawn};
use comity_trust::{Fit, Level, Scope, Target};

use super::presented::ENDORSEMENTS_MAX;
use super::view::{NO_FILE, named_agent, named_groups, view_of};
use super::wire::{Question, Told};
use super::{
    AccessError, Kept, KeptError, Presented, Role, WithdrawError, explain_policy, grant_bytes,
    locked,
};
use crate::node::Node;
use crate::resolve::Reference;

/// How long an offline delegator may keep a call waiting for its newest revocation set.
const SET_PATIENCE: Duration = Duration::from_secs(2);
/// How long a fetched set is shown before its signer is asked for a newer one.
pub(super) const SET_AGE_MAX: Duration = Duration::from_secs(60);
/// Fetched sets that are kept.
pub(super) const FETCHED_SETS_MAX: usize = 256;

impl From<KeptError> for ErrorInfo {
    fn from(error: KeptError) -> Self {
        let code = match &error {
            KeptError::Refused(_) => ErrorCode::NotVerified,
            KeptError::Foreign { .. } => ErrorCode::BadRequest,
            KeptError::Full => ErrorCode::TooLarge,
            KeptError::Storage(_) => ErrorCode::Storage,
        };
        Self::new(code, crate::describe(&error))
    }
}

impl From<WithdrawError> for ErrorInfo {
    fn from(error: WithdrawError) -> Self {
        let code = match &error {
            WithdrawError::Refused(_) => ErrorCode::BadRequest,
            WithdrawError::Storage(_) => ErrorCode::Storage,
        };
        Self::new(code, crate::describe(&error))
    }
}

impl From<AccessError> for ErrorInfo {
    fn from(error: AccessError) -> Self {
        Self::new(ErrorCode::Storage, crate::describe(&error))
    }
}

fn issue_error(error: &IssueError) -> ErrorInfo {
    let parent = matches!(error, IssueError::Parent(_));
    let code = if parent { ErrorCode::NotVerified } else { ErrorCode::BadRequest };
    ErrorInfo::new(code, crate::describe(error))
}

/// The reason for a withdrawal that a text names.
pub(super) fn reason_of(text: Option<&str>) -> Result<Reason, ErrorInfo> {
    let Some(text) = text else { return Ok(Reason::Unspecified) };
    serde_json::from_value(serde_json::Value::String(text.to_owned())).map_err(|_| {
        ErrorInfo::new(ErrorCode::BadRequest, format!("`{text}` is no reason"))
            .hint("there are unspecified, key-compromised, superseded, ended, misused, mistake")
    })
}

fn bad<E: std::fmt::Display>(what: &str, error: E) -> ErrorInfo {
    ErrorInfo::new(ErrorCode::BadRequest, format!("{what}: {error}"))
}

impl Node {
    pub(crate) fn policy_status(&self) -> PolicyStatus {
        self.inner.gate.status()
    }

    pub(crate) async fn reload_policy(&self) -> Result<PolicyStatus, ErrorInfo> {
        let (status, changed) = self.inner.gate.reload().map_err(|error| error.info())?;
        if let Some(policy) = changed {
            self.log_policy(policy).await;
        }
        Ok(status)
    }

    pub(crate) async fn explain_call(
        &self,
        request: PolicyExplainRequest,
    ) -> Result<PolicyExplanation, ErrorInfo> {
        let caller = self.agent_named(&request.caller).await?;
        let mut endorsers = Vec::new();
        for endorser in &request.endorsed_by {
            endorsers.push(self.agent_named(endorser).await?);
        }
        let level: Level = match &request.level {
            Some(level) => level.parse().map_err(|error| bad("the level", error))?,
            None => Level::L0,
        };
        let groups = self.inner.gate.with_policy(|policy| named_groups(policy, &request.groups));
        let groups = groups.map_err(|text| bad("the groups", text))?;
        let evidence: Vec<&str> = request.evidence.iter().map(String::as_str).collect();
        let served = self.inner.registry.get(&request.capability);
        let now = self.inner.clock.now();
        let asked = Request {
            public: served.as_ref().is_some_and(|served| served.is_public()),
            groups: &groups,
            endorsers: &endorsers,
            level,
            evidence: &evidence,
            granted: request.granted,
            trusted: request.trusted || self.inner.gate.stands(&caller) == Standing::Mutual,
            ..Request::new(caller, &request.capability, now)
        };
        let asked = Request { now: request.at_ms.map_or(now, Time::from_millis), ..asked };
        let mut explained = self.inner.gate.with_policy(|policy| explain_policy(policy, &asked));
        if !self.inner.gate.status().present {
            explained.reason += &format!("; {NO_FILE}");
        }
        explained.public = Some(asked.public);
        explained.served = Some(served.is_some());
        let target = served.as_ref().map(|served| Target {
            name: &served.capability.name,
            descriptor: served.offer.descriptor,
            interface: served.offer.interface,
        });
        let good = |kept: &Kept| {
            kept.issuer() == Some(self.id())
                && kept.links.last().is_some_and(|last| last.grant.holder == caller)
                && kept.may_serve(&request.capability, now)
                && !self.is_withdrawn(kept)
                && target.as_ref().is_none_or(|target| {
                    let fits = |scope: &Scope| scope.fit(target) == Fit::Yes;
                    kept.links.iter().all(|link| link.grant.scopes.iter().any(fits))
                })
        };
        let grants = self.inner.gate.book.all();
        explained.grants =
            grants.iter().filter(|kept| good(kept)).map(|kept| kept.leaf().to_string()).collect();
        if let Some(group) = served.as_ref().and_then(|served| served.group.as_ref()) {
            explained.reason += &format!(
                "; it is served to the private group `{group}`: members count as if it were public, and for others it does not exist"
            );
        }
        Ok(explained)
    }

    /// The agent a person means: by a name of the policy file, or any text form.
    pub(crate) async fn agent_named(&self, text: &str) -> Result<AgentId, ErrorInfo> {
        let known = self.inner.gate.with_policy(|policy| named_agent(policy, text.trim()));
        match known {
            Some(agent) => Ok(agent),
            None => Ok(self.resolve_text(text).await?.agent),
        }
    }

    pub(crate) fn grants_view(&self) -> Grants {
        let now = self.inner.clock.now();
        let (mut given, mut held) = (Vec::new(), Vec::new());
        for kept in self.inner.gate.book.all() {
            let view = self.view_kept(&kept, now);
            match kept.role {
                Role::Given => given.push(view),
                Role::Held => held.push(view),
            }
        }
        given.sort_by_key(|view| view.until_ms);
        held.sort_by_key(|view| view.until_ms);
        Grants { given, held }
    }

    pub(crate) fn view_kept(&self, kept: &Kept, now: Time) -> GrantView {
        let mut view = view_of(&kept.chain, &kept.links, now);
        if self.is_withdrawn(kept) {
            view.state = "revoked".to_owned();
        }
        if kept.issuer() == Some(self.id()) {
            view.used = Some(self.inner.gate.used(&kept.leaf()));
        }
        let holder = kept.links.last().and_then(|last| last.grant.holder.intake().ok());
        view.holder_name = holder.map(|holder| self.name_of(&holder));
        view
    }

    /// Whether a link, or a key that holds one, was withdrawn by whoever may, as far as it is known here.
    fn is_withdrawn(&self, kept: &Kept) -> bool {
        self.inner.gate.with_revocations(|revocations| {
            kept.links.iter().enumerate().any(|(index, link)| {
                let targets = [Withdrawn::Statement(link.hash), Withdrawn::Key(link.grant.holder)];
                let mut above = kept.links.iter().take(index + 1);
                above.any(|above| {
                    targets.iter().any(|target| revocations.find(&above.signer, target).is_some())
                })
            })
        })
    }

    /// Signs a grant of this agent's.
    pub(crate) async fn create_grant(&self, request: GrantRequest) -> Result<GrantView, ErrorInfo> {
        let grant = self.grant_of(&request).await?;
        let chain =
            Chain::issue(grant, &self.inner.gate.identity).map_err(|error| issue_error(&error))?;
        self.keep_given(chain).await
    }

    /// Passes part of a held grant on.
    pub(crate) async fn delegate_grant(
        &self,
        request: GrantRequest,
    ) -> Result<GrantView, ErrorInfo> {
        let Some(text) = &request.grant else {
            return Err(ErrorInfo::new(
                ErrorCode::BadRequest,
                "which grant is to be passed on is not said",
            )
            .hint("give `grant`: its text, or the hash that `comity grant list` shows"));
        };
        let parent = self.chain_of(text)?;
        let grant = self.grant_of(&request).await?;
        let chain = parent
            .delegate(grant, &self.inner.gate.identity)
            .map_err(|error| issue_error(&error))?;
        self.keep_given(chain).await
    }

    async fn keep_given(&self, chain: Chain) -> Result<GrantView, ErrorInfo> {
        let now = self.inner.clock.now();
        let kept = self.inner.gate.book.keep(chain, &self.inner.storage, now).await?;
        self.log_issued(&kept).await;
        Ok(self.view_kept(&kept, now))
    }

    /// Keeps a grant that was handed over.
    pub(crate) async fn keep_grant(
        &self,
        request: GrantKeepRequest,
    ) -> Result<GrantView, ErrorInfo> {
        let bytes = grant_bytes(&request.grant)
            .map_err(|error| ErrorInfo::new(ErrorCode::BadRequest, crate::describe(&error)))?;
        let chain = Chain::from_bytes(&bytes).map_err(KeptError::Refused)?;
        let now = self.inner.clock.now();
        let kept = self.inner.gate.book.keep(chain, &self.inner.storage, now).await?;
        Ok(self.view_kept(&kept, now))
    }

    /// The chain that a text or a hash names.
    fn chain_of(&self, text: &str) -> Result<Chain, ErrorInfo> {
        if let Ok(hash) = text.trim().parse::<Hash>() {
            let kept = self.inner.gate.book.get(&hash);
            return kept.map(|kept| kept.chain).ok_or_else(|| {
                ErrorInfo::new(ErrorCode::NotFound, format!("no grant {hash} is kept here"))
                    .hint("`comity grant list` shows what is kept; a grant's text works too")
            });
        }
        let bytes = grant_bytes(text)
            .map_err(|error| ErrorInfo::new(ErrorCode::BadRequest, crate::describe(&error)))?;
        Chain::from_bytes(&bytes)
            .map_err(|error| ErrorInfo::new(ErrorCode::BadRequest, crate::describe(&error)))
    }

    async fn grant_of(&self, request: &GrantRequest) -> Result<Grant, ErrorInfo> {
        let holder = self.agent_named(&request.to).await?;
        if holder == self.id() {
            return Err(ErrorInfo::new(
                ErrorCode::BadRequest,
                "an agent needs no grant for its own capabilities",
            )
            .hint("name the agent that is to call"));
        }
        let named = &request.capabilities;
        if named.is_empty() || named.len() > MAX_GRANT_SCOPES {
            let text = format!(
                "{} capabilities are named; a grant names 1 to {MAX_GRANT_SCOPES}",
                named.len()
            );
            return Err(ErrorInfo::new(ErrorCode::BadRequest, text).hint("a name may end in *"));
        }
        let mut scopes = BTreeSet::new();
        for text in named {
            let mut scope: Scope = text.parse().map_err(|error| bad("the grant", error))?;
            if request.pin {
                scope.interface = Some(self.interface_of(&scope)?);
            }
            scopes.insert(scope);
        }
        let now = self.inner.clock.now();
        let until = now + Duration::from_millis(request.expires_in_ms);
        let mut grant = Grant::new(holder, scopes, now, until).depth(request.depth);
        if let Some(count) = request.count {
            grant = grant.uses(count);
        }
        if let Some(text) = &request.rate {
            let rate = parse_rate(text).ok_or_else(|| {
                ErrorInfo::new(ErrorCode::BadRequest, format!("`{text}` is not a rate")).hint(
                    "write it as 60/min: so many in s, min, h, day, or a length such as 10min",
                )
            })?;
            grant.rate = Some(rate);
        }
        if let Some(level) = &request.min_level {
            grant = grant.min_level(level.parse().map_err(|error| bad("the level", error))?);
        }
        if !request.delegates.is_empty() {
            let mut delegates = Vec::new();
            for text in &request.delegates {
                delegates.push(self.agent_named(text).await?);
            }
            grant = grant.delegates(delegates);
        }
        for kind in &request.evidence {
            grant = grant.demand_evidence(kind);
        }
        for text in &request.arguments {
            grant = grant.argument(text.parse().map_err(|error| bad("the arguments", error))?);
        }
        Ok(grant)
    }

    fn interface_of(&self, scope: &Scope) -> Result<comity_core::Sha256Digest, ErrorInfo> {
        let name = scope.pattern.as_str();
        let served = self.inner.registry.get(name);
        served.map(|served| served.offer.interface).ok_or_else(|| {
            ErrorInfo::new(
                ErrorCode::NotFound,
                format!("`{name}` is not served here, so its interface cannot be pinned"),
            )
            .hint("serve it first, or leave the pin out")
        })
    }

    /// Takes back a grant, or everything an agent holds by this agent's leave.
    pub(crate) async fn revoke_grant(
        &self,
        request: GrantRevokeRequest,
    ) -> Result<Done, ErrorInfo> {
        let reason = reason_of(request.reason.as_deref())?;
        let text = request.target.trim();
        if let Ok(chain) = self.chain_of(text) {
            let links = chain.show().map_err(KeptError::Refused)?;
            let mine: Vec<_> = links.iter().filter(|link| link.signer == self.id()).collect();
            let Some(link) = mine.last() else {
                return Err(ErrorInfo::new(
                    ErrorCode::NotPermitted,
                    "this agent signed no link of that grant and cannot take it back",
                )
                .hint(
                    "its issuer, or whoever passed it on, can; `comity grant forget` drops it here",
                ));
            };
            // As long as the chain below it lives, and no longer.
            self.withdraw(Withdrawn::Statement(link.hash), link.grant.not_after, reason).await?;
            let message = format!("{} is revoked; this node refuses it from now on", link.hash);
            return Ok(Done { message });
        }
        if let Ok(hash) = text.parse::<Hash>() {
            // Not kept here any more, or of another machine with the same key: its end is not known.
            self.withdraw(Withdrawn::Statement(hash), Time::MAX, reason).await?;
            return Ok(Done {
                message: format!("{hash} is revoked, though no such grant is kept here"),
            });
        }
        if text.starts_with("b3:") {
            let said = format!(
                "`{text}` is not the hash of a grant: that is `b3:` and 64 hexadecimal digits"
            );
            return Err(ErrorInfo::new(ErrorCode::BadRequest, said)
                .hint("`comity grant list` shows the hashes"));
        }
        let agent = self.agent_named(text).await?;
        if agent == self.id() {
            return Err(ErrorInfo::new(ErrorCode::BadRequest, "that is this agent's own key")
                .hint("to take back one grant, give its hash"));
        }
        self.withdraw(Withdrawn::Key(agent.into()), Time::MAX, reason).await?;
        let message =
            format!("everything that {agent} holds by this agent's leave is revoked, for good");
        Ok(Done { message })
    }

    pub(crate) async fn withdraw(
        &self,
        target: Withdrawn,
        until: Time,
        reason: Reason,
    ) -> Result<(), ErrorInfo> {
        let entry = self.inner.gate.withdraw(target, until, reason).await?;
        self.log_revoked(&entry).await;
        Ok(())
    }

    async fn log_policy(&self, policy: Hash) {
        self.inner.audit.record(Event::PolicyChanged { policy }).await;
    }

    async fn log_issued(&self, kept: &Kept) {
        let Some(last) = kept.links.last() else { return };
        let (holder, not_after_ms) = (last.grant.holder, last.grant.not_after.as_millis());
        let issued = Event::GrantIssued { grant: last.hash, holder, not_after_ms };
        self.inner.audit.record(issued).await;
    }

    async fn log_revoked(&self, entry: &Revoke) {
        let revocation = Hash::of(&entry.seal(&self.inner.gate.identity));
        let issuer = self.id().into();
        self.inner.audit.record(Event::Revoked { revocation, issuer }).await;
    }

    /// The revocation set that `agent` signs now; none if it does not answer.
    async fn revocation_set_of(&self, agent: AgentId) -> Option<Vec<u8>> {
        let resolved = self.resolve_reference(&Reference::Key(agent, Vec::new())).await.ok()?;
        let question = Question::RevocationSet {}.encode();
        let told = self.inner.rpc.ask_trust(agent, &resolved.addrs, &question).await.ok()?;
        match Told::decode(&told)? {
            Told::RevocationSet { set } => Some(set.into()),
            Told::Heard {}
            | Told::Outcome { .. }
            | Told::Endorsements { .. }
            | Told::EvidenceList { .. }
            | Told::Evidence { .. }
            | Told::Accusations { .. }
            | Told::Group { .. } => None,
        }
    }

    /// What to show to `callee` when calling `name`: the given grant, or a kept one that serves, and the membership of a group with a charter if
    /// one is named; none if there is nothing.
    pub(crate) async fn to_show(
        &self,
        callee: &AgentId,
        name: &str,
        given: Option<&str>,
        group: Option<&AgentId>,
    ) -> Result<Option<Bytes>, ErrorInfo> {
        let (membership, mut sets) = match group {
            None => (None, Vec::new()),
            Some(group) => {
                let (shown, sets) = self.membership_for(group, callee, name).await?;
                (Some(shown), sets)
            }
        };
        let kept = match given {
            Some(text) => Some(Kept::open(self.chain_of(text)?, &self.id())?),
            None => self.kept_for(callee, name).await,
        };
        // What others say of this agent may be what the callee's policy asks for.
        let now = self.inner.clock.now();
        let words = self.inner.gate.endorsements.received(Some(name), now, ENDORSEMENTS_MAX);
        let Some(kept) = kept else {
            if words.is_empty() && membership.is_none() {
                return Ok(None);
            }
            return Ok(Some(Presented::new(None, sets, words).of_group(membership).encode()));
        };
        if kept.role != Role::Held {
            return Err(ErrorInfo::new(
                ErrorCode::BadRequest,
                "this agent gave that grant to another and cannot use it itself",
            )
            .hint("hand it to its holder"));
        }
        sets.extend(self.sets_for(&kept, callee).await);
        let presented = Presented::new(Some(kept.chain.to_bytes()), sets, words);
        Ok(Some(presented.of_group(membership).encode()))
    }

    /// The kept grant that serves; if there is none and one was asked for, what became of that.
    async fn kept_for(&self, callee: &AgentId, name: &str) -> Option<Kept> {
        let book = &self.inner.gate.book;
        let kept = book.for_call(callee, name, self.inner.clock.now());
        if kept.is_some() || !self.fetch_outcome(&(*callee, Some(name.to_owned()))).await {
            return kept;
        }
        book.for_call(callee, name, self.inner.clock.now())
    }

    /// The newest revocation sets of those who passed the grant on, as far as they can be had.
    async fn sets_for(&self, kept: &Kept, callee: &AgentId) -> Vec<Vec<u8>> {
        let delegators: BTreeSet<AgentId> = kept
            .links
            .iter()
            .map(|link| link.signer)
            .filter(|signer| signer != callee && *signer != self.id())
            .collect();
        self.newest_sets(delegators).await
    }

    /// The newest revocation sets of these, as far as they can be had within a moment.
    pub(super) async fn newest_sets(&self, issuers: BTreeSet<AgentId>) -> Vec<Vec<u8>> {
        let fetched = &self.inner.gate.fetched_sets;
        let mut sets = Vec::new();
        for delegator in issuers {
            let now = self.inner.clock.now();
            let known = locked(fetched).get(&delegator).cloned();
            if let Some((at, set)) = &known
                && now.saturating_since(*at) < SET_AGE_MAX
            {
                sets.push(set.clone());
                continue;
            }
            let asked = tokio::time::timeout(SET_PATIENCE, self.revocation_set_of(delegator)).await;
            if let Ok(Some(set)) = asked {
                self.inner.gate.remember_set(delegator, now, set.clone());
                sets.push(set);
            } else if let Some((_, set)) = known {
                // Old news of who cannot be reached now may still be fresh enough for the callee.
                sets.push(set);
            }
        }
        sets
    }
}
