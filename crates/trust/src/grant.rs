//! Who may call: chains of grants.
//!
//! A grant is one signed link: its signer lets its holder call some capabilities of one agent for a while. A chain begins with a link that the callee
//! itself signed and ends with one whose holder is the peer of the session; each link between is signed by the holder of the one before. There
//! is no bearer token: whoever copies a chain can do nothing with it.
//!
//! ```text
//! callee ─signs─► link 1 {holder: A, depth 2, fx.*, until Friday}
//!                   A ─signs─► link 2 {parent: hash of 1, holder: B, depth 1, fx.rates, 100 uses}
//!                                B ─signs─► link 3 {parent: hash of 2, holder: C, depth 0, fx.rates, until today}
//! what C may do: fx.rates, until today, out of the 100 uses of link 2
//! ```
//!
//! **The effective right is the intersection of all links**: every link must allow the call by itself, so that no link can widen another, and
//! what a link is worth never needs to be computed. There is no policy language in a token; the vocabulary is fixed, a chain has at most
//! [`MAX_LINKS`] links and [`MAX_CHAIN`] bytes, and its worst case is a handful of signatures. What is counted (`uses`, `budget`, `rate`) the
//! callee counts per link, so a delegate spends its parent's allowance.
//!
//! [`Chain::verify`] does what does not depend on the time or the call, and its result serves for the whole session ([`SessionGrants`]);
//! [`VerifiedChain::permits`] does the rest, and [`Counters::spend`] counts. Source: DESIGN.md section 6, TRUST.md section 2.3.
//!
//! ```
//! use std::time::Duration;
//! use comity_core::{Hash, Identity, Sha256Digest, Time};
//! use comity_trust::grant::{Ask, Chain, Context, Counters, Grant};
//! use comity_trust::revoke::Revocations;
//! use comity_trust::Target;
//!
//! let [callee, alice, bob] = [1, 2, 3].map(|n| Identity::from_secret_bytes(&[n; 32]));
//! let now = Time::from_secs(1_790_000_000);
//! let root = Grant::new(alice.id(), ["fx.*".parse()?], now, now + Duration::from_secs(3600)).depth(1);
//! let alices = Chain::issue(root, &callee)?;
//! let link = Grant::new(bob.id(), ["fx.rates".parse()?], now, now + Duration::from_secs(60)).uses(1);
//! let bobs = alices.delegate(link, &alice)?.to_bytes();
//!
//! // At the callee, in a session whose peer proved to be Bob:
//! let chain = Chain::from_bytes(&bobs)?.verify(&callee.id(), &bob.id())?;
//! let target = Target { name: "fx.rates", descriptor: Hash::of(b"d"), interface: Sha256Digest::of(b"i") };
//! let ask = Ask { target, cost: 0, arguments: None };
//! let revocations = Revocations::new(callee.id());
//! let mut counters = Counters::new();
//! let context = Context::at(now, &revocations);
//! chain.permits(&ask, &context)?;
//! counters.spend(&chain, ask.cost, now)?;
//! assert!(counters.spend(&chain, ask.cost, now).is_err(), "one use, and it is used up");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod arguments;
mod cache;
mod chain;
mod counters;
mod refusal;

use std::collections::BTreeSet;
use std::time::Duration;

use comity_core::canonical::Version;
use comity_core::envelope::MAX_OVERHEAD;
use comity_core::{AgentId, Hash, Time};
use serde::{Deserialize, Serialize};

pub use arguments::{
    Argument, ArgumentTextError, Limit, MAX_ARGUMENT_TEXT, MAX_ARGUMENT_VALUES, MAX_ARGUMENTS,
    Value,
};
pub use cache::{SESSION_CHAINS_MAX, SessionGrants};
pub use chain::{Ask, Chain, Context, Demands, Link, NO_EVIDENCE, VerifiedChain, verify};
pub use counters::{Counters, MAX_COUNTERS, MAX_COUNTERS_PER_ROOT, Spent};
pub use refusal::{IssueError, Refusal};

use crate::wire::{self, checked_payload};
use crate::{Level, RawKey, Scope};

/// Most links of a chain.
pub const MAX_LINKS: usize = 4;
/// Longest chain, in bytes, envelopes and all.
pub const MAX_CHAIN: usize = 8192;
/// Deepest delegation that a link can allow: as many links as still fit below it.
pub const MAX_DEPTH: u8 = 3;
/// Most scopes of a link.
pub const MAX_SCOPES: usize = 64;
/// Most agents that a link can name as delegates.
pub const MAX_DELEGATES: usize = 64;
/// Most kinds of evidence that a link can demand.
pub const MAX_EVIDENCE: usize = 8;
/// Longest life of a link.
pub const MAX_LIFE: Duration = Duration::from_secs(366 * 24 * 3600);
/// Longest window of a rate.
pub const MAX_RATE_WINDOW: Duration = Duration::from_secs(31 * 24 * 3600);
/// Longest payload of a link, in bytes: the chain's own limit holds it down further.
const MAX_PAYLOAD: usize = MAX_CHAIN - (MAX_OVERHEAD - 9);

/// At most `calls` calls in any window that begins with one.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode, Serialize, Deserialize,
)]
#[cbor(array)]
pub struct Rate {
    /// Calls in a window.
    #[n(0)]
    pub calls: u32,
    /// Length of the window in milliseconds.
    #[n(1)]
    pub window_ms: u64,
}

/// One link: what its signer allows its holder. Build it with [`Grant::new`] and the methods that narrow it.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode, Serialize)]
#[cbor(map)]
pub struct Grant {
    /// Format version.
    #[n(0)]
    #[serde(skip)]
    pub version: Version<1>,
    /// Hash of the envelope of the link before; none in the first. Set when the link is signed.
    #[n(1)]
    pub parent: Option<Hash>,
    /// Who may use it.
    #[n(2)]
    pub holder: RawKey,
    /// Which capabilities: any of these.
    #[n(3)]
    pub scopes: BTreeSet<Scope>,
    /// From when.
    #[cbor(n(4), with = "crate::wire::millis")]
    pub not_before: Time,
    /// Until when.
    #[cbor(n(5), with = "crate::wire::millis")]
    pub not_after: Time,
    /// How often, over the link's life and by everybody below it together.
    #[n(6)]
    pub uses: Option<u64>,
    /// How many links may follow.
    #[n(7)]
    pub depth: u8,
    /// How well the caller's own claims must be supported.
    #[n(8)]
    pub min_level: Level,
    /// How much the calls may cost together, in the callee's unit.
    #[n(9)]
    pub budget: Option<u64>,
    /// How often in a while.
    #[n(10)]
    pub rate: Option<Rate>,
    /// The only agents that may hold the links below; none = any.
    #[n(11)]
    pub delegates: Option<BTreeSet<RawKey>>,
    /// Kinds of evidence that must have been appraised in the session.
    #[n(12)]
    pub evidence: Option<BTreeSet<String>>,
    /// What calls may say; none = anything.
    #[n(13)]
    pub arguments: Option<BTreeSet<Argument>>,
}

impl Grant {
    /// Lets `holder` call what any of `scopes` means from `not_before` until `not_after`, without limits and without the right to delegate.
    pub fn new(
        holder: AgentId,
        scopes: impl IntoIterator<Item = Scope>,
        not_before: Time,
        not_after: Time,
    ) -> Self {
        Self {
            version: Version,
            parent: None,
            holder: holder.into(),
            scopes: scopes.into_iter().collect(),
            not_before: wire::whole_millis(not_before),
            not_after: wire::whole_millis(not_after),
            uses: None,
            depth: 0,
            min_level: Level::L0,
            budget: None,
            rate: None,
            delegates: None,
            evidence: None,
            arguments: None,
        }
    }

    /// Lets `depth` links follow.
    #[must_use]
    pub fn depth(self, depth: u8) -> Self {
        Self { depth, ..self }
    }

    /// Allows so many calls in all.
    #[must_use]
    pub fn uses(self, uses: u64) -> Self {
        Self { uses: Some(uses), ..self }
    }

    /// Allows calls of so much cost in all.
    #[must_use]
    pub fn budget(self, budget: u64) -> Self {
        Self { budget: Some(budget), ..self }
    }

    /// Allows `calls` calls in any `window` that begins with one.
    #[must_use]
    pub fn rate(self, calls: u32, window: Duration) -> Self {
        let window_ms = u64::try_from(window.as_millis()).unwrap_or(u64::MAX);
        Self { rate: Some(Rate { calls, window_ms }), ..self }
    }

    /// Demands that the caller's claims be supported so well.
    #[must_use]
    pub fn min_level(self, min_level: Level) -> Self {
        Self { min_level, ..self }
    }

    /// Names the only agents that may hold the links below.
    #[must_use]
    pub fn delegates(self, delegates: impl IntoIterator<Item = AgentId>) -> Self {
        Self { delegates: Some(delegates.into_iter().map(RawKey::from).collect()), ..self }
    }

    /// Demands evidence of this kind.
    #[must_use]
    pub fn demand_evidence(mut self, kind: &str) -> Self {
        self.evidence.get_or_insert_default().insert(kind.to_owned());
        self
    }

    /// Limits what calls may say.
    #[must_use]
    pub fn argument(mut self, argument: Argument) -> Self {
        self.arguments.get_or_insert_default().insert(argument);
        self
    }

    /// Whether anything about it must be counted.
    #[must_use]
    pub const fn is_counted(&self) -> bool {
        self.uses.is_some() || self.budget.is_some() || self.rate.is_some()
    }

    /// Checks every limit of one link.
    ///
    /// # Errors
    /// [`IssueError`] names the first that is broken and what to do.
    pub fn check(&self) -> Result<(), IssueError> {
        let too_many = |what, count, limit| Err(IssueError::TooMany { what, count, limit });
        if self.scopes.is_empty() {
            return Err(IssueError::NoScopes);
        }
        if self.scopes.len() > MAX_SCOPES {
            return too_many("scopes", self.scopes.len(), MAX_SCOPES);
        }
        if self.not_after <= self.not_before {
            return Err(IssueError::Never {
                not_before: self.not_before,
                not_after: self.not_after,
            });
        }
        if self.not_after.saturating_since(self.not_before) > MAX_LIFE {
            return Err(IssueError::TooLongLived);
        }
        if self.depth > MAX_DEPTH {
            return Err(IssueError::TooDeep { depth: self.depth });
        }
        let window_max = u64::try_from(MAX_RATE_WINDOW.as_millis()).unwrap_or(u64::MAX);
        if self
            .rate
            .is_some_and(|rate| rate.calls == 0 || !(1..=window_max).contains(&rate.window_ms))
        {
            return Err(IssueError::Rate);
        }
        if self.uses == Some(0) {
            return Err(IssueError::NoUses);
        }
        if let Some(delegates) = &self.delegates
            && delegates.len() > MAX_DELEGATES
        {
            return too_many("delegates", delegates.len(), MAX_DELEGATES);
        }
        if let Some(kinds) = &self.evidence {
            if kinds.is_empty() || kinds.len() > MAX_EVIDENCE {
                return too_many("kinds of evidence", kinds.len(), MAX_EVIDENCE);
            }
            if let Some(kind) = kinds.iter().find(|kind| !crate::is_kind_name(kind)) {
                return Err(IssueError::EvidenceName {
                    name: kind.chars().take(crate::MAX_KIND_NAME).collect(),
                });
            }
        }
        if let Some(arguments) = &self.arguments {
            if arguments.is_empty() || arguments.len() > MAX_ARGUMENTS {
                return too_many("limits of arguments", arguments.len(), MAX_ARGUMENTS);
            }
            if let Some(argument) = arguments.iter().find(|argument| !argument.is_proper()) {
                let name = argument.name.chars().take(MAX_ARGUMENT_TEXT).collect();
                return Err(IssueError::Argument { name });
            }
        }
        Ok(())
    }
}

checked_payload!(Grant, MAX_PAYLOAD);
