//! One rule, and whether it applies.

use std::collections::{BTreeMap, BTreeSet};

use super::glob::Glob;
use super::when::When;
use super::{MAX_MEMBERSHIPS, Obligations, Request};
use crate::evidence::Attackers;
use crate::{Level, RawKey};

/// One rule of a file. Conditions that are empty or none hold always.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub(super) line: u32,
    pub(super) note: Option<String>,
    pub(super) deny: bool,
    pub(super) capabilities: Vec<Glob>,
    pub(super) who: Who,
    pub(super) level: Level,
    pub(super) evidence: BTreeSet<String>,
    /// Some fact must exclude all of these.
    pub(super) against: Attackers,
    pub(super) granted: bool,
    pub(super) trusted: bool,
    pub(super) max_cost: Option<u64>,
    pub(super) when: When,
    pub(super) obligations: Obligations,
}

/// Whom a rule names.
#[derive(Clone, Debug, Default)]
pub(super) struct Who {
    pub(super) agents: BTreeSet<RawKey>,
    /// Groups with a charter.
    pub(super) groups: BTreeSet<RawKey>,
    /// Lists in the file, by number.
    pub(super) lists: BTreeSet<u32>,
    pub(super) endorsers: BTreeSet<RawKey>,
}

impl Who {
    /// Whether it names groups or lists.
    pub(super) fn names_groups(&self) -> bool {
        !self.groups.is_empty() || !self.lists.is_empty()
    }
}

/// What is known of a call, in the form that rules ask for.
pub(super) struct Facts<'a> {
    pub(super) request: &'a Request<'a>,
    pub(super) caller: RawKey,
    pub(super) groups: Vec<RawKey>,
    pub(super) lists: &'a [u32],
    pub(super) endorsers: Vec<RawKey>,
}

impl<'a> Facts<'a> {
    pub(super) fn of(request: &'a Request<'a>, lists: &'a BTreeMap<RawKey, Vec<u32>>) -> Self {
        let caller = RawKey::from(request.caller);
        let raw = |agents: &[comity_core::AgentId]| {
            agents.iter().take(MAX_MEMBERSHIPS).map(|id| RawKey::from(*id)).collect()
        };
        Self {
            request,
            caller,
            groups: raw(request.groups),
            lists: lists.get(&caller).map(Vec::as_slice).unwrap_or_default(),
            endorsers: raw(request.endorsers),
        }
    }
}

impl Rule {
    /// Whether every condition holds.
    pub(super) fn applies(&self, facts: &Facts<'_>) -> bool {
        let request = facts.request;
        // What lies in the rule itself first: of a thousand rules, most need not be followed to what they point at.
        request.level >= self.level
            && (!self.granted || request.granted)
            && (!self.trusted || request.trusted)
            && self.max_cost.is_none_or(|max| request.cost <= max)
            && self.when.unmet(request.now).is_none()
            && self.capabilities.iter().any(|glob| glob.matches(request.capability))
            && self.who_unmet(facts).is_none()
            && self.evidence.iter().all(|kind| request.evidence.contains(&kind.as_str()))
            && self.is_against(request)
    }

    /// Whether one fact alone excludes everybody that the rule wants excluded.
    fn is_against(&self, request: &Request<'_>) -> bool {
        self.against.is_empty()
            || request.excluded.iter().any(|excluded| excluded.contains(self.against))
    }

    fn who_unmet(&self, facts: &Facts<'_>) -> Option<&'static str> {
        let who = &self.who;
        if !who.agents.is_empty() && !who.agents.contains(&facts.caller) {
            return Some("the caller is not one of its agents");
        }
        if who.names_groups()
            && !facts.groups.iter().any(|group| who.groups.contains(group))
            && !facts.lists.iter().any(|list| who.lists.contains(list))
        {
            return Some("the caller is in none of its groups");
        }
        if !who.endorsers.is_empty()
            && !facts.endorsers.iter().any(|endorser| who.endorsers.contains(endorser))
        {
            return Some("none of its endorsers endorses the caller");
        }
        None
    }

    /// The first condition that does not hold, in words; none if the rule applies.
    pub(super) fn unmet(&self, facts: &Facts<'_>) -> Option<String> {
        let request = facts.request;
        if !self.capabilities.iter().any(|glob| glob.matches(request.capability)) {
            let globs: Vec<String> = self.capabilities.iter().map(ToString::to_string).collect();
            return Some(format!("`{}` is not {}", request.capability, globs.join(" or ")));
        }
        if let Some(unmet) = self.who_unmet(facts) {
            return Some(unmet.to_owned());
        }
        if request.level < self.level {
            let meaning = self.level.meaning();
            return Some(format!(
                "the caller is {}, and {} ({meaning}) is asked for",
                request.level, self.level
            ));
        }
        if self.granted && !request.granted {
            return Some("the caller presented no grant that permits the call".to_owned());
        }
        if self.trusted && !request.trusted {
            return Some("this agent and the caller have not both declared trust".to_owned());
        }
        if let Some(max) = self.max_cost.filter(|max| request.cost > *max) {
            return Some(format!("the call costs {}, more than {max}", request.cost));
        }
        if let Some(kind) =
            self.evidence.iter().find(|kind| !request.evidence.contains(&kind.as_str()))
        {
            return Some(format!("no evidence `{kind}` was accepted in this session"));
        }
        if !self.is_against(request) {
            return Some(format!("no fact shown in this session excludes {}", self.against));
        }
        self.when.unmet(request.now).map(|unmet| unmet.to_string())
    }
}
