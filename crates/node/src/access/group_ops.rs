//! What the local API asks about groups with a charter, and how a node keeps up with what is withdrawn in them.

use std::collections::BTreeSet;
use std::sync::Weak;
use std::time::Duration;

use comity_api::types::{
    AdmissionView, AdmitRequest, CharterCreateRequest, CharterGroup, CharterGroups,
    CharterJoinRequest, Done, ErrorCode, ErrorInfo, ExpelRequest,
};
use comity_core::receipt::ShortText;
use comity_core::{AgentId, Hash, Identity, Kind, Time, envelope};
use comity_trust::admission::{
    Admit, Charter, DEFAULT_STALE, MAX_ADMIT, MAX_LIFE, Membership, Rule,
};
use comity_trust::log::{Event, short_text};
use comity_trust::revoke::Withdrawn;
use comity_trust::{Pattern, RawKey};
use futures_util::StreamExt as _;
use tokio_util::sync::CancellationToken;

use super::charters::{CharterError, Known, ShownMembership};
use super::ops::reason_of;
use super::wire::{Question, Told};
use super::{Gate, locked};
use crate::node::{Inner, Node};

/// How often it is looked whether what is known of a group is still recent enough.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Members and stewards who are told of an expulsion at once; the others learn it when they ask.
const TOLD_MAX: usize = 64;
/// How many of them at the same time.
const TELL_AT_ONCE: usize = 16;
/// How long telling may take in all.
const TELL_PATIENCE: Duration = Duration::from_secs(5);

impl From<CharterError> for ErrorInfo {
    fn from(error: CharterError) -> Self {
        let text = crate::describe(&error);
        match &error {
            CharterError::Text | CharterError::Exists(_) | CharterError::Name(_) => {
                Self::new(ErrorCode::BadRequest, text)
            }
            CharterError::Refused(_) => Self::new(ErrorCode::NotVerified, text),
            CharterError::Full | CharterError::FullGroup => Self::new(ErrorCode::TooLarge, text),
            CharterError::Unknown(_) => {
                Self::new(ErrorCode::NotFound, text).hint("`comity group list` names them")
            }
            CharterError::Withdraw(_) => Self::new(ErrorCode::BadRequest, text),
            CharterError::Key(_) | CharterError::Io { .. } => Self::new(ErrorCode::KeyFile, text),
            CharterError::Storage(_) => Self::new(ErrorCode::Storage, text),
        }
    }
}

fn bad(text: String, hint: &str) -> ErrorInfo {
    ErrorInfo::new(ErrorCode::BadRequest, text).hint(hint)
}

impl Node {
    /// A private group and one with a charter do not share a name.
    pub(crate) fn is_no_charter(&self, name: &str) -> Result<(), ErrorInfo> {
        match self.inner.gate.charters.find(name) {
            Ok(_) => Err(CharterError::Exists(name.to_owned()).into()),
            Err(_) => Ok(()),
        }
    }

    fn is_no_private_group(&self, name: &str) -> Result<(), ErrorInfo> {
        match self.inner.groups.get(name) {
            Ok(_) => Err(CharterError::Exists(name.to_owned()).into()),
            Err(_) => Ok(()),
        }
    }

    /// Founds a group; this agent keeps its key and is one of its stewards.
    pub(crate) async fn found_group(
        &self,
        request: CharterCreateRequest,
    ) -> Result<CharterGroup, ErrorInfo> {
        self.is_no_private_group(&request.name)?;
        let mut endorsers: BTreeSet<RawKey> = [self.id().into()].into();
        for steward in &request.stewards {
            endorsers.insert(self.agent_named(steward).await?.into());
        }
        let rule = match (request.open, request.needed) {
            (true, None) if request.stewards.is_empty() => Rule::Open,
            (true, _) => {
                return Err(bad(
                    "an open group has no stewards: anybody belongs".to_owned(),
                    "leave stewards and their number out, or make it governed",
                ));
            }
            (false, needed) => Rule::Governed { needed: needed.unwrap_or(1), endorsers },
        };
        let name = ShortText::try_from(request.name.as_str())
            .map_err(|error| bad(error.to_string(), "choose a shorter name"))?;
        let stale = request.stale_ms.map_or(DEFAULT_STALE, Duration::from_millis);
        let now = self.inner.clock.now();
        let charter = Charter::new(1, name, rule, now, now + MAX_LIFE).hosted(self.id(), stale);
        let key = Identity::generate(&mut rand::rng());
        let gate = &self.inner.gate;
        let known =
            gate.charters.found(&request.name, &charter, key, &self.inner.storage, now).await?;
        self.log_signed(Hash::of(&known.sealed), "charter", known.group.id().into()).await;
        if !known.stewards().is_empty() {
            let all = AdmitRequest {
                agent: self.id().to_string(),
                capabilities: Pattern::any().to_string(),
                expires_in_ms: u64::try_from(MAX_LIFE.as_millis()).unwrap_or(u64::MAX),
            };
            self.admit_agent(&request.name, all).await?;
        }
        self.charter_group(&request.name)
    }

    async fn log_signed(&self, statement: Hash, kind: &str, subject: RawKey) {
        let kind = short_text(kind);
        self.inner.audit.record(Event::Signed { statement, kind, subject }).await;
    }

    /// Keeps a charter, and the admissions of this agent that came with it.
    pub(crate) async fn join_charter(
        &self,
        request: CharterJoinRequest,
    ) -> Result<CharterGroup, ErrorInfo> {
        let shown = ShownMembership::from_text(&request.charter).ok_or(CharterError::Text)?;
        let (gate, now) = (&self.inner.gate, self.inner.clock.now());
        if let Some(name) = &request.name {
            self.is_no_private_group(name)?;
        }
        let name = request.name.as_deref();
        let known = gate.charters.join(&shown, name, &self.id(), &self.inner.storage, now).await?;
        self.fetch_group(&known).await;
        self.charter_group(known.name.as_deref().unwrap_or_default())
    }

    pub(crate) fn charter_groups(&self) -> CharterGroups {
        let named = self.inner.gate.charters.named();
        CharterGroups { charters: named.iter().map(|known| self.charter_view(known)).collect() }
    }

    pub(crate) fn charter_group(&self, name: &str) -> Result<CharterGroup, ErrorInfo> {
        Ok(self.charter_view(&self.inner.gate.charters.find(name)?))
    }

    pub(crate) async fn leave_charter(&self, name: &str) -> Result<Done, ErrorInfo> {
        let known = self.inner.gate.charters.find(name)?;
        if known.is_founded() {
            let text = format!("this node keeps the key of {name}, and its members depend on it");
            return Err(ErrorInfo::new(ErrorCode::NotPermitted, text)
                .hint("expel its members; the group ends with its charter"));
        }
        self.inner.gate.charters.forget(&known.group.id(), &self.inner.storage).await?;
        let message = format!("{name} is forgotten, with the admissions of this agent");
        Ok(Done { message })
    }

    /// Admits an agent as one of the group's stewards, and tells it if it can be reached.
    pub(crate) async fn admit_agent(
        &self,
        name: &str,
        request: AdmitRequest,
    ) -> Result<AdmissionView, ErrorInfo> {
        let gate = &self.inner.gate;
        let known = gate.charters.find(name)?;
        if !known.stewards().contains(&self.id()) {
            let text = format!("this agent is no steward of {name} and admits nobody to it");
            return Err(ErrorInfo::new(ErrorCode::NotPermitted, text)
                .hint("`comity group show` names its stewards"));
        }
        let subject = self.agent_named(&request.agent).await?;
        if known.expelled().contains(&subject.into()) {
            return Err(bad(
                format!("{subject} was expelled from {name}, for good"),
                "another key of its owner's can be admitted",
            ));
        }
        let pattern: Pattern = request
            .capabilities
            .parse()
            .map_err(|error| bad(format!("{error}"), "name a capability, or * for all"))?;
        let now = self.inner.clock.now();
        let end = known.group.charter().not_after;
        let until = (now + Duration::from_millis(request.expires_in_ms)).min(end);
        let group = known.group.id();
        let admit = Admit::new(group, subject, pattern, now, until);
        let sealed = admit.seal(&gate.identity);
        gate.charters.gave(&group, &admit, &sealed, &self.inner.storage, now).await?;
        self.log_signed(Hash::of(&sealed), "admission", subject.into()).await;
        let delivered = if subject == self.id() {
            gate.charters.admitted(&group, &sealed, &subject, &self.inner.storage).await?;
            true
        } else {
            let question =
                Question::Admitted { group: group.into(), admission: sealed.clone().into() };
            self.question(subject, &question).await == Some(Told::Heard {})
        };
        let shown = ShownMembership { admissions: vec![sealed.clone().into()], ..known.shown() };
        Ok(AdmissionView {
            admission: Hash::of(&sealed).to_string(),
            steward: self.id().to_string(),
            agent: subject.to_string(),
            capabilities: admit.pattern.to_string(),
            until_ms: until.as_millis(),
            state: "good".to_owned(),
            delivered: Some(delivered),
            text: Some(shown.text()),
        })
    }

    /// Expels an agent: for good where the group's key is here, else by taking back what this agent gave.
    pub(crate) async fn expel_agent(
        &self,
        name: &str,
        request: ExpelRequest,
    ) -> Result<Done, ErrorInfo> {
        let gate = &self.inner.gate;
        let known = gate.charters.find(name)?;
        let group = known.group.id();
        let agent = self.agent_named(&request.agent).await?;
        let reason = reason_of(request.reason.as_deref())?;
        let now = self.inner.clock.now();
        let mut sets = Vec::new();
        let expelled =
            gate.charters.expel(&group, &agent, reason, &self.inner.storage, now).await?;
        if let Some(revocation) = expelled {
            let issuer = group.into();
            self.inner.audit.record(Event::Revoked { revocation, issuer }).await;
            if let Some(set) = gate.charters.own_set(&group, self.inner.clock.now()) {
                gate.take_in_set(&group, &set);
                sets.push(set.into());
            }
        }
        let mut taken_back = 0;
        let to_it = |given: &&super::charters::Given| given.agent == agent && given.until() > now;
        for given in known.given.iter().filter(to_it) {
            self.withdraw(Withdrawn::Statement(given.hash), given.until(), reason).await?;
            taken_back += 1;
        }
        if taken_back > 0 {
            sets.push(gate.own_set().into());
        }
        if sets.is_empty() {
            let text = format!("this agent has nothing to take back from {agent} in {name}");
            return Err(ErrorInfo::new(ErrorCode::NotPermitted, text)
                .hint("its stewards take back what they gave, and its host expels for good"));
        }
        let told =
            self.tell_members(&known, &agent, Question::GroupNews { group: group.into(), sets });
        let told = told.await;
        let how = if expelled.is_some() {
            "is expelled for good"
        } else {
            "is not admitted by this agent any more"
        };
        let stale = known.group.charter().stale().as_secs();
        let message = format!(
            "{agent} {how}; {told} members and stewards were told, and for everybody else it ends within {stale} s"
        );
        Ok(Done { message })
    }

    /// Tells those members and stewards who are known here, as far as they can be reached at once. Returns how many.
    async fn tell_members(&self, known: &Known, expelled: &AgentId, news: Question) -> usize {
        let now = self.inner.clock.now();
        let members = known.given.iter().filter(|given| given.until() > now);
        let members = members.filter_map(|given| given.agent.intake().ok());
        let host = known.group.charter().host.and_then(|host| host.intake().ok());
        let mut all: BTreeSet<AgentId> =
            members.chain(known.stewards().iter().copied()).chain(host).collect();
        all.remove(expelled);
        all.remove(&self.id());
        let news = &news;
        let asked = futures_util::stream::iter(all.into_iter().take(TOLD_MAX))
            .map(|agent| async move { self.question(agent, news).await == Some(Told::Heard {}) });
        let mut told = 0;
        let mut answers = std::pin::pin!(asked.buffer_unordered(TELL_AT_ONCE));
        let all_told = async {
            while let Some(heard) = answers.next().await {
                told += usize::from(heard);
            }
        };
        // Who does not answer in time asks by itself.
        let _ended = tokio::time::timeout(TELL_PATIENCE, all_told).await;
        told
    }

    /// What this agent shows of its membership when it calls `name`, and the withdrawals that the callee must know.
    pub(crate) async fn membership_for(
        &self,
        group: &AgentId,
        callee: &AgentId,
        name: &str,
    ) -> Result<(ShownMembership, Vec<Vec<u8>>), ErrorInfo> {
        let gate = &self.inner.gate;
        let unknown = || CharterError::Unknown(group.to_string());
        let known = gate.charters.get(group).ok_or_else(unknown)?;
        let set = self.fetch_group(&known).await;
        let known = gate.charters.get(group).ok_or_else(unknown)?;
        let (shown, membership) = self.own_membership(&known, name).map_err(|why| {
            let text = format!("this agent is no member of {} for `{name}`: {why}", label(&known));
            ErrorInfo::new(ErrorCode::NotPermitted, text)
                .hint("one of its stewards admits with `comity group admit`; `comity group show` names them")
        })?;
        let mut sets: Vec<Vec<u8>> = set.into_iter().collect();
        if membership.issuers().any(|issuer| issuer == self.id()) {
            sets.push(gate.own_set());
        }
        let others: BTreeSet<AgentId> = membership
            .issuers()
            .filter(|issuer| issuer != callee && *issuer != self.id() && issuer != group)
            .collect();
        sets.extend(self.newest_sets(others).await);
        Ok((shown, sets))
    }

    /// The own membership, by what is known here.
    fn own_membership(
        &self,
        known: &Known,
        name: &str,
    ) -> Result<(ShownMembership, Membership), String> {
        let (me, now) = (self.id(), self.inner.clock.now());
        self.inner.gate.with_revocations(|revocations| {
            let mut admissions: Vec<&[u8]> = Vec::new();
            let mut why = None;
            for admission in &known.received {
                match known.group.one_holds(&me, admission, name, revocations, now) {
                    Ok(()) => admissions.push(admission),
                    Err(error) => why = Some(error),
                }
            }
            let held = known.group.membership(&me, &admissions).and_then(|membership| {
                known.group.holds(&membership, name, revocations, now).map(|_| membership)
            });
            // What is wrong with what there is says more than that it is not enough.
            let membership =
                held.map_err(|error| crate::describe(why.as_ref().unwrap_or(&error)))?;
            let admissions = admissions.into_iter().map(|bytes| bytes.to_vec().into()).collect();
            Ok((ShownMembership { admissions, ..known.shown() }, membership))
        })
    }

    /// Asks the host for the group's newest charter and withdrawals, unless they were asked for a moment ago. The signed withdrawals.
    async fn fetch_group(&self, known: &Known) -> Option<Vec<u8>> {
        let gate = &self.inner.gate;
        let (group, now) = (known.group.id(), self.inner.clock.now());
        if known.is_founded() {
            return gate.charters.own_set(&group, now);
        }
        let host = known.group.charter().host?.intake().ok()?;
        let recent = locked(&gate.fetched_sets).get(&group).cloned();
        let age = super::ops::SET_AGE_MAX.min(known.group.charter().stale() / 4);
        if let Some((at, set)) = &recent
            && now.saturating_since(*at) < age
        {
            return Some(set.clone());
        }
        let question = Question::Group { group: group.into() };
        let Some(Told::Group { charter, set }) = self.question(host, &question).await else {
            return recent.map(|(_, set)| set);
        };
        if comity_trust::claimed_signer(&charter).is_some_and(|by| by == group) {
            gate.see_charter(&charter, now);
        }
        gate.take_in_set(&group, &set);
        gate.remember_set(group, now, set.to_vec());
        Some(set.into())
    }

    /// Asks for what is known of the policy's groups and would soon be too old.
    async fn refresh_groups(&self) {
        let gate = &self.inner.gate;
        for group in gate.policy_groups() {
            let Some(known) = gate.charters.get(&group).filter(|known| !known.is_founded()) else {
                continue;
            };
            let half = known.group.charter().stale() / 2;
            let now = self.inner.clock.now();
            let old = |issuer: &AgentId| {
                gate.with_revocations(|known| !known.is_fresh(issuer, now, half))
            };
            if old(&group) {
                self.fetch_group(&known).await;
            }
            let stewards = known.stewards().iter().filter(|steward| **steward != self.id());
            for steward in stewards {
                // Of who admitted nobody that called here nothing need be known.
                if gate.with_revocations(|known| known.knows(steward)) && old(steward) {
                    self.fetch_set(*steward).await;
                }
            }
        }
    }

    pub(crate) async fn fetch_set(&self, issuer: AgentId) {
        if let Some(Told::RevocationSet { set }) =
            self.question(issuer, &Question::RevocationSet {}).await
        {
            self.inner.gate.take_in_set(&issuer, &set);
        }
    }

    fn charter_view(&self, known: &Known) -> CharterGroup {
        let now = self.inner.clock.now();
        let charter = known.group.charter();
        let (rule, needed) = match &charter.rule {
            Rule::Open => ("open", 0),
            Rule::Governed { needed, .. } => ("governed", *needed),
            Rule::Private => ("private", 0),
        };
        let problem = self.own_membership(known, &a_name(known)).err();
        let admitted = known.given.iter().map(|given| {
            let withdrawn = self.inner.gate.with_revocations(|revocations| {
                let target = Withdrawn::Statement(given.hash);
                revocations.find(&self.id(), &target).is_some()
            }) || known.expelled().contains(&given.agent);
            AdmissionView {
                admission: given.hash.to_string(),
                steward: self.id().to_string(),
                agent: given.agent.to_string(),
                capabilities: given.capabilities.clone(),
                until_ms: given.until().as_millis(),
                state: state_of(withdrawn, given.until(), now),
                delivered: None,
                text: None,
            }
        });
        CharterGroup {
            name: label(known),
            group: known.group.id().to_string(),
            rule: rule.to_owned(),
            needed,
            stewards: known.stewards().iter().map(ToString::to_string).collect(),
            host: charter.host.map(|host| host.to_string()),
            founded: known.is_founded(),
            stale_ms: u64::try_from(charter.stale().as_millis()).unwrap_or(u64::MAX),
            until_ms: charter.not_after.as_millis(),
            member: problem.is_none(),
            problem,
            admissions: known
                .received
                .iter()
                .filter_map(|sealed| self.received_view(sealed, now))
                .collect(),
            admitted: admitted.collect(),
            expelled: known.expelled().iter().map(ToString::to_string).collect(),
            text: ShownMembership { admissions: Vec::new(), ..known.shown() }.text(),
        }
    }

    fn received_view(&self, sealed: &[u8], now: Time) -> Option<AdmissionView> {
        let opened = envelope::open::<Admit>(Kind::Admit, sealed, MAX_ADMIT).ok()?;
        let (steward, admit) = (opened.signer, opened.payload);
        let withdrawn = self.inner.gate.with_revocations(|revocations| {
            revocations.find(&steward, &Withdrawn::Statement(opened.hash)).is_some()
        });
        Some(AdmissionView {
            admission: opened.hash.to_string(),
            steward: steward.to_string(),
            agent: admit.subject.to_string(),
            capabilities: admit.pattern.to_string(),
            until_ms: admit.not_after.as_millis(),
            state: state_of(withdrawn, admit.not_after, now),
            delivered: None,
            text: None,
        })
    }
}

fn label(known: &Known) -> String {
    known.name.clone().unwrap_or_else(|| known.group.id().to_string())
}

/// A name that this agent's admissions are about: whether it is a member at all is asked with it.
fn a_name(known: &Known) -> String {
    let admit = known.received.iter().find_map(|sealed| {
        envelope::open::<Admit>(Kind::Admit, sealed, MAX_ADMIT).ok().map(|opened| opened.payload)
    });
    let pattern = admit.map(|admit| admit.pattern);
    pattern.map(|found| found.prefix().unwrap_or(found.as_str()).to_owned()).unwrap_or_default()
}

fn state_of(withdrawn: bool, until: Time, now: Time) -> String {
    let state = match (withdrawn, now < until) {
        (true, _) => "withdrawn",
        (false, true) => "good",
        (false, false) => "expired",
    };
    state.to_owned()
}

/// Keeps what is known of the policy's groups recent, and fetches the revocation sets that peers said have changed, until the node ends.
pub(crate) async fn attend(
    node: Weak<Inner>,
    mut changed: tokio::sync::mpsc::Receiver<AgentId>,
    cancel: CancellationToken,
) {
    let mut look = tokio::time::interval(LOOK_EVERY);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let work = async {
        loop {
            let peer = tokio::select! {
                peer = changed.recv() => peer,
                _ = look.tick() => None,
            };
            let Some(node) = node.upgrade().map(|inner| Node { inner }) else { return };
            match peer {
                Some(peer) => node.fetch_set(peer).await,
                None => node.refresh_groups().await,
            }
        }
    };
    tokio::select! {
        () = cancel.cancelled() => {}
        () = work => {}
    }
}

impl Gate {
    /// Remembers a signed set for the next call that must show it.
    pub(crate) fn remember_set(&self, issuer: AgentId, at: Time, set: Vec<u8>) {
        let mut fetched = locked(&self.fetched_sets);
        if fetched.len() >= super::ops::FETCHED_SETS_MAX {
            fetched.clear();
        }
        fetched.insert(issuer, (at, set));
    }
}
