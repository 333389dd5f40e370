//! What an operator allows: one TOML file, default deny.
//!
//! ```toml
//! [agents]                                  # names for keys, used below
//! alice = "…"
//!
//! [groups]
//! partners = ["alice", "…"]                 # a list of agents, or the key of a group with a charter
//! consortium = "…"
//!
//! [[rule]]
//! allow = ["fx.*", "weather"]               # capabilities: names with at most one *
//! groups = ["partners"]
//! rate = "60/min"
//!
//! [[rule]]
//! allow = "pay"
//! agents = ["alice"]
//! level = "L2"
//! days = "mon-fri"
//! hours = "08:00-18:00"
//! max_stale = "10min"
//!
//! [[rule]]
//! deny = "*"
//! agents = ["…"]
//!
//! [levels]                                  # what it takes to be more than self-said
//! endorsers = ["alice"]
//!
//! [evidence.model-signing]                  # whose evidence is believed
//! keys = "signers.pem"
//!
//! [via]                                     # services of other networks, in this agent's own searches and calls
//! pilot = "refuse"
//! ```
//!
//! * **Nothing is allowed unless a rule says so.** A capability that its agent declares public is allowed to everybody unless a rule denies it.
//! * **A deny always wins**, wherever it stands, so the order of rules decides nothing but which of several allowing ones sets the limits: the
//!   first.
//! * A rule applies if *all* of its conditions hold; of a list any entry will do. An `allow` names whom it means, or says `anyone = true`.
//! * A file with an error is refused whole, with line, column and what to write instead; the caller keeps the policy it has.
//!
//! [`Policy::decide`] says which line decided, [`Policy::explain`] why each other rule did not apply. Decisions are made from an index by agent,
//! group, endorser and capability.

mod evidence;
mod glob;
mod index;
mod parse;
mod rule;
mod via;
mod when;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use comity_core::{AgentId, Hash, Time};
use serde::{Deserialize, Serialize};

use crate::endorse::LevelRules;
use crate::evidence::Attackers;
use crate::grant::Rate;
use crate::{Level, RawKey};
use index::Index;
use rule::Rule;

pub use evidence::{EvidenceRules, KINDS, KindRules, MAX_VALUE, is_evidence_name};
pub use parse::{MAX_FILE, MAX_LIST, MAX_RULES, PolicyError, parse_rate};
pub use via::{VIA_KEY, VIA_NAME_MAX, Via};

/// Most groups and endorsers of a caller that are looked at.
pub const MAX_MEMBERSHIPS: usize = 64;

/// A policy that was read without error.
#[derive(Clone, Debug)]
pub struct Policy {
    rules: Vec<Rule>,
    allow: Index,
    deny: Index,
    /// The local lists: which of them an agent is in.
    lists: BTreeMap<RawKey, Vec<u32>>,
    /// The names of agents.
    names: BTreeMap<String, RawKey>,
    /// The names of groups with a charter.
    groups: BTreeMap<String, RawKey>,
    levels: LevelRules,
    evidence: EvidenceRules,
    via: via::ViaRules,
    hash: Hash,
}

/// A call to be decided: what the callee knows of it.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Who calls, as its session proved.
    pub caller: AgentId,
    /// The capability's name.
    pub capability: &'a str,
    /// Whether its agent declared it public.
    pub public: bool,
    /// Groups with a charter that admitted the caller.
    pub groups: &'a [AgentId],
    /// Agents whose endorsements of the caller hold.
    pub endorsers: &'a [AgentId],
    /// How well the caller's own claims are supported.
    pub level: Level,
    /// What was shown by evidence in the session: kinds, and `kind=value` ([`crate::evidence::Appraisal::names`]).
    pub evidence: &'a [&'a str],
    /// Whom the facts shown by it exclude, fact by fact.
    pub excluded: &'a [Attackers],
    /// Whether the caller presented a grant of this callee's that permits the call.
    pub granted: bool,
    /// Whether both sides declared that they trust each other.
    pub trusted: bool,
    /// What the call costs, in the callee's unit.
    pub cost: u64,
    /// The wall clock.
    pub now: Time,
}

impl<'a> Request<'a> {
    /// A call by a stranger, of whom nothing is known but the key.
    #[must_use]
    pub const fn new(caller: AgentId, capability: &'a str, now: Time) -> Self {
        Self {
            caller,
            capability,
            public: false,
            groups: &[],
            endorsers: &[],
            level: Level::L0,
            evidence: &[],
            excluded: &[],
            granted: false,
            trusted: false,
            cost: 0,
            now,
        }
    }
}

/// What is decided of a call, and by what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Decision {
    /// Whether it may go on.
    pub allowed: bool,
    /// The line of the file with the rule that decided; none if no rule did.
    pub line: Option<u32>,
    /// In words.
    pub reason: String,
    /// What is allowed only under conditions that must be kept by the caller of this function.
    pub obligations: Obligations,
}

/// What comes with being allowed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Obligations {
    /// At most so often, per caller and rule: [`Meter`] counts.
    pub rate: Option<Rate>,
    /// At most so much cost in a day, per caller and rule: [`Meter`] counts.
    pub budget_per_day: Option<u64>,
    /// How old revocation sets may be ([`crate::grant::Demands`]).
    pub max_stale: Option<Duration>,
    /// How long grants may live ([`crate::grant::Demands`]).
    pub max_grant_life: Option<Duration>,
}

/// One rule and why it applied or did not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Considered {
    /// Its line.
    pub line: u32,
    /// Its note, if it has one.
    pub note: Option<String>,
    /// `allow` or `deny`.
    pub effect: &'static str,
    /// What did not hold; none if it applied.
    pub unmet: Option<String>,
}

/// A decision with all rules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// What is decided.
    pub decision: Decision,
    /// Every rule, in the order of the file.
    pub rules: Vec<Considered>,
}

impl Policy {
    /// The policy that allows what is public and nothing else: that of an empty file.
    #[must_use]
    pub fn empty() -> Self {
        Self::of(parse::File::default(), Hash::of(b""))
    }

    /// Reads a file.
    ///
    /// # Errors
    /// [`PolicyError`] says where it is wrong and what to write.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        Ok(Self::of(parse::parse(text)?, Hash::of(text.as_bytes())))
    }

    fn of(file: parse::File, hash: Hash) -> Self {
        let parse::File { rules, lists, names, groups, levels, evidence, via } = file;
        let allow = Index::of(&rules, false);
        let deny = Index::of(&rules, true);
        Self { rules, allow, deny, lists, names, groups, levels, evidence, via, hash }
    }

    /// The agent that the file calls so.
    #[must_use]
    pub fn agent(&self, name: &str) -> Option<RawKey> {
        self.names.get(name).copied()
    }

    /// What the file calls an agent.
    #[must_use]
    pub fn name_of(&self, agent: &AgentId) -> Option<&str> {
        self.names.iter().find(|(_, key)| **key == *agent).map(|(name, _)| name.as_str())
    }

    /// What each level takes, and whose endorsements count.
    #[must_use]
    pub const fn levels(&self) -> &LevelRules {
        &self.levels
    }

    /// Whose evidence is believed, by kind.
    #[must_use]
    pub const fn evidence(&self) -> &EvidenceRules {
        &self.evidence
    }

    /// What becomes of capabilities that stand for a service of this network, in this agent's own searches and calls.
    #[must_use]
    pub fn via(&self, network: &str) -> Via {
        via::rule(&self.via, network)
    }

    /// Whether any rule asks what callers show by evidence, so that asking them for it can change a decision.
    #[must_use]
    pub fn asks_evidence(&self) -> bool {
        let asks = |rule: &Rule| {
            !rule.evidence.is_empty() || !rule.against.is_empty() || rule.level == Level::L3
        };
        self.rules.iter().any(asks)
    }

    /// Everybody whose endorsement of a caller can matter: who is named in a rule, or under `[levels]`.
    #[must_use]
    pub fn endorsers(&self) -> BTreeSet<RawKey> {
        let named = self.rules.iter().flat_map(|rule| rule.who.endorsers.iter().copied());
        named.chain(self.levels.endorsers.iter().map(|id| RawKey::from(*id))).collect()
    }

    /// The groups with a charter that some rule names: whose membership can matter.
    #[must_use]
    pub fn charter_groups(&self) -> BTreeSet<RawKey> {
        self.rules.iter().flat_map(|rule| rule.who.groups.iter().copied()).collect()
    }

    /// The group with a charter that the file calls so.
    #[must_use]
    pub fn charter_group(&self, name: &str) -> Option<RawKey> {
        self.groups.get(name).copied()
    }

    /// How many rules.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// BLAKE3 of the text it was read from: what an audit log names.
    #[must_use]
    pub const fn hash(&self) -> Hash {
        self.hash
    }

    /// Whether the call may go on, which line says so, and under which conditions.
    #[must_use]
    pub fn decide(&self, request: &Request<'_>) -> Decision {
        let facts = rule::Facts::of(request, &self.lists);
        if let Some(rule) = self.deny.first(&self.rules, &facts) {
            return self.decided(rule, false);
        }
        if let Some(rule) = self.allow.first(&self.rules, &facts) {
            return self.decided(rule, true);
        }
        let (allowed, reason) = if request.public {
            (true, "the capability is public, and no rule denies it")
        } else {
            (false, "no rule allows it, and what no rule allows is denied")
        };
        Decision {
            allowed,
            line: None,
            reason: reason.to_owned(),
            obligations: Obligations::default(),
        }
    }

    fn decided(&self, rule: u32, allowed: bool) -> Decision {
        let Some(rule) = usize::try_from(rule).ok().and_then(|rule| self.rules.get(rule)) else {
            // The index holds numbers of these rules only.
            return Decision {
                allowed: false,
                line: None,
                reason: String::new(),
                obligations: Obligations::default(),
            };
        };
        let verb = if allowed { "allows" } else { "denies" };
        let note = rule.note.as_ref().map(|note| format!(" ({note})")).unwrap_or_default();
        let reason = format!("the rule in line {} {verb} it{note}", rule.line);
        Decision { allowed, line: Some(rule.line), reason, obligations: rule.obligations }
    }

    /// The decision, and of every rule why it applied or what was missing.
    #[must_use]
    pub fn explain(&self, request: &Request<'_>) -> Explanation {
        let facts = rule::Facts::of(request, &self.lists);
        let considered = |rule: &Rule| Considered {
            line: rule.line,
            note: rule.note.clone(),
            effect: if rule.deny { "deny" } else { "allow" },
            unmet: rule.unmet(&facts),
        };
        Explanation {
            decision: self.decide(request),
            rules: self.rules.iter().map(considered).collect(),
        }
    }
}

/// Most callers and rules that a [`Meter`] counts at once.
pub const MAX_METERED: usize = 65_536;
/// The window of a budget.
const DAY: Duration = Duration::from_secs(24 * 3600);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Metered {
    window_start: Time,
    calls: u32,
    day_start: Time,
    spent: u64,
    until: Time,
}

/// Counts what [`Obligations`] limit, per caller and rule. Keyed by the rule's line: a policy that moves its rules begins to count anew.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meter {
    counts: BTreeMap<(AgentId, u32), Metered>,
}

/// Why an allowed call must wait.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MeterError {
    /// Too often.
    #[error("the rule in line {line} allows {calls} calls in {window_ms} ms: try again in {} ms", retry_after.as_millis())]
    Rate {
        /// The rule's line.
        line: u32,
        /// Calls in a window.
        calls: u32,
        /// The window in milliseconds.
        window_ms: u64,
        /// How long until the next.
        retry_after: Duration,
    },
    /// Too much.
    #[error(
        "the rule in line {line} allows calls of {budget} a day in all, and {left} is left of it"
    )]
    Budget {
        /// The rule's line.
        line: u32,
        /// The budget.
        budget: u64,
        /// What is left.
        left: u64,
    },
    /// More callers than are counted.
    #[error("this node counts as many callers as it can: try again later")]
    Full,
}

impl Meter {
    /// Nothing counted.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts a call that `decision` allowed.
    ///
    /// # Errors
    /// [`MeterError`]; nothing was counted then.
    pub fn count(
        &mut self,
        caller: &AgentId,
        decision: &Decision,
        cost: u64,
        now: Time,
    ) -> Result<(), MeterError> {
        let Obligations { rate, budget_per_day, .. } = decision.obligations;
        let Some(line) = decision.line.filter(|_| rate.is_some() || budget_per_day.is_some())
        else {
            return Ok(());
        };
        let key = (*caller, line);
        if self.counts.len() >= MAX_METERED && !self.counts.contains_key(&key) {
            self.counts.retain(|_, metered| metered.until > now);
            if self.counts.len() >= MAX_METERED {
                return Err(MeterError::Full);
            }
        }
        let new = Metered { window_start: now, calls: 0, day_start: now, spent: 0, until: now };
        let mut metered = self.counts.get(&key).copied().unwrap_or(new);
        let elapsed = |start: Time, window: Duration| now >= start + window || now < start;
        if let Some(Rate { calls, window_ms }) = rate {
            let window = Duration::from_millis(window_ms);
            if elapsed(metered.window_start, window) {
                (metered.window_start, metered.calls) = (now, 0);
            }
            if metered.calls >= calls {
                let retry_after = (metered.window_start + window).saturating_since(now);
                return Err(MeterError::Rate { line, calls, window_ms, retry_after });
            }
            metered.calls += 1;
            metered.until = metered.until.max(metered.window_start + window);
        }
        if let Some(budget) = budget_per_day {
            if elapsed(metered.day_start, DAY) {
                (metered.day_start, metered.spent) = (now, 0);
            }
            let left = budget.saturating_sub(metered.spent);
            if cost > left {
                return Err(MeterError::Budget { line, budget, left });
            }
            metered.spent = metered.spent.saturating_add(cost);
            metered.until = metered.until.max(metered.day_start + DAY);
        }
        self.counts.insert(key, metered);
        Ok(())
    }
}
