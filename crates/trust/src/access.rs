//! May this call go on? Policy, grants, withdrawals and counts, asked in one order.
//!
//! 1. A rule that denies ends it, whatever else was presented.
//! 2. A grant that permits the call allows it: the operator signed its first link. A rule that also applies adds its limits and demands.
//! 3. Without a grant that permits it, a rule that asks for none allows it, or the capability is public.
//! 4. Else it is denied, and the answer says why: what was wrong with the grant, or that no rule allows it.
//!
//! [`Access`] is all the state there is, owned by one place; its parts are public to be changed and stored. A policy is replaced by assigning
//! the new one, so that a file with an error leaves the old in force.

use std::collections::BTreeSet;

use comity_core::{AgentId, Hash, Time};

use crate::Target;
use crate::grant::{Ask, Context, Counters, Demands, Refusal, Spent, VerifiedChain};
use crate::policy::{Decision, Meter, MeterError, Policy, Request};
use crate::revoke::Revocations;

/// What decides about calls.
#[derive(Clone, Debug)]
pub struct Access {
    /// The operator's rules.
    pub policy: Policy,
    /// What was withdrawn, by this agent and by others.
    pub revocations: Revocations,
    /// What grants have used up.
    pub counters: Counters,
    /// What rules have used up. Not stored: it looks back a day at most.
    pub meter: Meter,
}

/// A call, and what its caller presented. `request.granted` and `request.evidence` are filled in from the rest.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// What is known of caller and capability.
    pub request: Request<'a>,
    /// The capability, as grants name it.
    pub target: Target<'a>,
    /// The chain that the caller presented, verified for this session.
    pub chain: Option<&'a VerifiedChain>,
    /// Kinds of evidence that were appraised in this session.
    pub evidence: &'a BTreeSet<String>,
    /// The request in canonical CBOR; none before there is one. A call without one has no arguments.
    pub arguments: Option<&'a [u8]>,
}

/// By what a call is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case", tag = "ground")]
pub enum Ground {
    /// The capability is public.
    Public,
    /// A rule.
    Rule {
        /// Its line.
        line: u32,
    },
    /// A grant.
    Grant {
        /// Hash of its last link.
        leaf: Hash,
    },
}

/// That a call may go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permit {
    /// By what.
    pub ground: Ground,
    /// What it used up of a grant: [`Counters::refund`] gives it back if the call never runs.
    pub spent: Option<Spent>,
}

/// Why a call may not go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Denial {
    /// A rule denies it, or none allows it.
    #[error("{}", .0.reason)]
    Policy(Decision),
    /// The grant does not permit it, and no rule allows it without.
    #[error(transparent)]
    Grant(#[from] Refusal),
    /// Too often or too much.
    #[error(transparent)]
    Meter(#[from] MeterError),
}

impl Denial {
    /// A word for the kind of denial, the same for ever.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Policy(Decision { line: Some(_), .. }) => "policy-denied",
            Self::Policy(_) => "policy-no-rule",
            Self::Grant(refusal) => refusal.code(),
            Self::Meter(MeterError::Rate { .. }) => "policy-rate",
            Self::Meter(MeterError::Budget { .. }) => "policy-budget",
            Self::Meter(_) => "policy-busy",
        }
    }
}

impl Access {
    /// Nothing allowed but what is public.
    #[must_use]
    pub fn new(me: AgentId) -> Self {
        Self {
            policy: Policy::empty(),
            revocations: Revocations::new(me),
            counters: Counters::new(),
            meter: Meter::new(),
        }
    }

    /// Decides, and counts what is allowed.
    ///
    /// # Errors
    /// [`Denial`]; nothing was counted then.
    pub fn admit(&mut self, call: &Call<'_>) -> Result<Permit, Denial> {
        let kinds: Vec<&str> = call.evidence.iter().map(String::as_str).collect();
        let request = Request { evidence: &kinds, granted: false, ..call.request };
        let Some(chain) = call.chain else { return self.by_policy(&request) };
        let decision = self.policy.decide(&Request { granted: true, ..request });
        if !decision.allowed && decision.line.is_some() {
            return Err(Denial::Policy(decision));
        }
        match self.by_grant(call, chain, &decision, request.now) {
            Ok(permit) => Ok(permit),
            // What is allowed without a grant is not lost by presenting a bad one.
            Err(refused) => self.by_policy(&request).map_err(|denied| match denied {
                Denial::Policy(_) => refused,
                Denial::Grant(_) | Denial::Meter(_) => denied,
            }),
        }
    }

    /// By what the call would be allowed, if nothing that is counted stood against it. Counts nothing: for what comes before a call, such as
    /// whether the caller may know of the capability at all.
    ///
    /// # Errors
    /// As [`Access::admit`], less what counts say.
    pub fn preview(&self, call: &Call<'_>) -> Result<Ground, Denial> {
        let kinds: Vec<&str> = call.evidence.iter().map(String::as_str).collect();
        let request = Request { evidence: &kinds, granted: false, ..call.request };
        let mut refused = None;
        if let Some(chain) = call.chain {
            let decision = self.policy.decide(&Request { granted: true, ..request });
            if !decision.allowed && decision.line.is_some() {
                return Err(Denial::Policy(decision));
            }
            match self.permits(call, None, chain, &decision, request.now) {
                Ok(()) => return Ok(Ground::Grant { leaf: chain.leaf() }),
                Err(refusal) => refused = Some(refusal),
            }
        }
        let decision = self.policy.decide(&request);
        if decision.allowed {
            return Ok(decision.line.map_or(Ground::Public, |line| Ground::Rule { line }));
        }
        Err(refused.map_or(Denial::Policy(decision), Denial::Grant))
    }

    fn permits(
        &self,
        call: &Call<'_>,
        arguments: Option<&[u8]>,
        chain: &VerifiedChain,
        decision: &Decision,
        now: Time,
    ) -> Result<(), Refusal> {
        let obligations = decision.obligations;
        let demands =
            Demands { max_stale: obligations.max_stale, max_life: obligations.max_grant_life };
        let context = Context {
            now,
            level: call.request.level,
            evidence: call.evidence,
            revocations: &self.revocations,
            demands,
        };
        let ask = Ask { target: call.target, cost: call.request.cost, arguments };
        chain.permits(&ask, &context)
    }

    fn by_grant(
        &mut self,
        call: &Call<'_>,
        chain: &VerifiedChain,
        decision: &Decision,
        now: Time,
    ) -> Result<Permit, Denial> {
        let cost = call.request.cost;
        let arguments = Some(call.arguments.unwrap_or_default());
        self.permits(call, arguments, chain, decision, now)?;
        let spent = self.counters.spend(chain, cost, now)?;
        if let Err(error) = self.meter.count(&call.request.caller, decision, cost, now) {
            self.counters.refund(&spent);
            return Err(error.into());
        }
        Ok(Permit { ground: Ground::Grant { leaf: chain.leaf() }, spent: Some(spent) })
    }

    fn by_policy(&mut self, request: &Request<'_>) -> Result<Permit, Denial> {
        let decision = self.policy.decide(request);
        if !decision.allowed {
            return Err(Denial::Policy(decision));
        }
        self.meter.count(&request.caller, &decision, request.cost, request.now)?;
        let ground = decision.line.map_or(Ground::Public, |line| Ground::Rule { line });
        Ok(Permit { ground, spent: None })
    }
}
