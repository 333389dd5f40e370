//! Why a chain is refused, and why a link cannot be made.

use std::time::Duration;

use comity_core::envelope::EnvelopeError;
use comity_core::{AgentId, DecodeError, KeyError, Time};

use super::{MAX_CHAIN, MAX_DEPTH, MAX_LIFE, MAX_LINKS, MAX_RATE_WINDOW};
use crate::revoke::Reason;
use crate::{Level, RawKey};

/// Why a call is refused under a chain. Links are counted from 1, the callee's own.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Longer than a chain may be; nothing of it was read.
    #[error(
        "the grant has {length} bytes, and at most {MAX_CHAIN} are read: ask its issuer for one with fewer links or scopes"
    )]
    TooLong {
        /// Its length.
        length: usize,
    },
    /// Not a list of byte strings in canonical CBOR.
    #[error("this is not a grant: copy it again, whole")]
    Form(#[source] DecodeError),
    /// No link, or more than a chain may have.
    #[error("a grant has 1 to {MAX_LINKS} links, and this one {count}")]
    Links {
        /// How many.
        count: usize,
    },
    /// A link's envelope or payload.
    #[error("link {link} of the grant does not verify")]
    Link {
        /// Which.
        link: usize,
        /// Why.
        source: EnvelopeError,
    },
    /// The first link is another agent's.
    #[error(
        "this grant was issued by {issuer}, and opens nothing here: ask this agent for a grant of its own"
    )]
    NotMine {
        /// Who is said to have signed the first link.
        issuer: RawKey,
    },
    /// The signer of a link does not hold the one before.
    #[error("link {link} is signed by {signer}, who does not hold link {}: the holder {holder} must sign it", link - 1)]
    WrongSigner {
        /// Which.
        link: usize,
        /// Who is said to have signed.
        signer: RawKey,
        /// Who should have.
        holder: RawKey,
    },
    /// The holder of a link has no proper key.
    #[error("the holder of link {link} is not a proper key")]
    HolderKey {
        /// Which.
        link: usize,
        /// Why.
        source: KeyError,
    },
    /// A link names another parent than the link before it, or the first names one.
    #[error("link {link} was made for another chain: it does not name the link before it")]
    WrongParent {
        /// Which.
        link: usize,
    },
    /// The link before does not allow one below, or allows fewer below this than it claims.
    #[error("link {link} delegates deeper than link {} allows: ask its holder for a grant with more depth", link - 1)]
    TooDeep {
        /// Which.
        link: usize,
    },
    /// A link above names its delegates, and the holder is not among them.
    #[error(
        "link {above} may be delegated to named agents only, and {holder}, who holds link {link}, is not one"
    )]
    NotADelegate {
        /// Which.
        link: usize,
        /// The link that names delegates.
        above: usize,
        /// The holder.
        holder: RawKey,
    },
    /// The peer of the session is not the holder: the chain was copied.
    #[error(
        "this grant belongs to {holder} and works in its own sessions only; this session is {peer}'s"
    )]
    NotHolder {
        /// Who holds it.
        holder: RawKey,
        /// Who presented it.
        peer: AgentId,
    },
    /// Too early.
    #[error("link {link} is valid from {not_before}, and here it is {now}")]
    NotYet {
        /// Which.
        link: usize,
        /// From when.
        not_before: Time,
        /// The time here.
        now: Time,
    },
    /// Too late.
    #[error(
        "link {link} expired at {not_after}, and here it is {now}: ask its issuer for a new one"
    )]
    Expired {
        /// Which.
        link: usize,
        /// Until when.
        not_after: Time,
        /// The time here.
        now: Time,
    },
    /// The chain lives longer than this capability allows.
    #[error(
        "grants for `{name}` may live {max_s} s, and this one lives {life_s} s: ask for a shorter one"
    )]
    LivesTooLong {
        /// The capability.
        name: String,
        /// Seconds that the chain lives.
        life_s: u64,
        /// Seconds that it may.
        max_s: u64,
    },
    /// A link, or the key that holds it, was withdrawn.
    #[error("link {link} was revoked by {by} at {at}: {reason}")]
    Revoked {
        /// Which.
        link: usize,
        /// Who withdrew it.
        by: AgentId,
        /// When.
        at: Time,
        /// Why.
        reason: Reason,
    },
    /// What is known of a delegator's withdrawals is too old for this capability, or nothing is.
    #[error(
        "`{name}` needs the revocation set of {issuer} no older than {max_s} s, {}: send its newest set along with the grant",
        as_of.map_or_else(|| "and none is known here".to_owned(), |at| format!("and the newest known here is of {at}"))
    )]
    Stale {
        /// The capability.
        name: String,
        /// Whose set.
        issuer: AgentId,
        /// Of when the newest known one is.
        as_of: Option<Time>,
        /// How many seconds old it may be.
        max_s: u64,
    },
    /// A link is about other capabilities.
    #[error("link {link} does not cover `{name}`: ask for a grant that does")]
    Capability {
        /// Which.
        link: usize,
        /// The capability.
        name: String,
    },
    /// What was approved is no longer what is called.
    #[error(
        "`{name}` is no longer what link {link} approved (its descriptor changed): look at it again and ask for a new grant"
    )]
    DescriptorChanged {
        /// Which.
        link: usize,
        /// The capability.
        name: String,
    },
    /// The interface is no longer the approved one.
    #[error(
        "`{name}` no longer has the interface that link {link} approved: look at it again and ask for a new grant"
    )]
    InterfaceChanged {
        /// Which.
        link: usize,
        /// The capability.
        name: String,
    },
    /// The caller's own standing is too low.
    #[error("link {link} asks for a caller of {needed} ({}), and this one is {has}", needed.meaning())]
    Level {
        /// Which.
        link: usize,
        /// The level asked for.
        needed: Level,
        /// The caller's.
        has: Level,
    },
    /// Evidence is missing.
    #[error(
        "link {link} asks for evidence of kind `{kind}`, and none was accepted in this session: attest first"
    )]
    Evidence {
        /// Which.
        link: usize,
        /// The kind.
        kind: String,
    },
    /// The call says what a link does not allow.
    #[error("link {link} allows calls with {limit}, and this one has {found}")]
    Argument {
        /// Which.
        link: usize,
        /// The limit, as text.
        limit: String,
        /// What the call says.
        found: String,
    },
    /// All uses are used.
    #[error("the {uses} uses of link {link} are used up: ask its issuer for a new one")]
    UsedUp {
        /// Which.
        link: usize,
        /// How many there were.
        uses: u64,
    },
    /// The budget does not hold this call.
    #[error("this call costs {cost}, and of the budget of link {link} {left} is left")]
    Budget {
        /// Which.
        link: usize,
        /// What is left.
        left: u64,
        /// What the call costs.
        cost: u64,
    },
    /// Too many calls in the window.
    #[error("link {link} allows {calls} calls in {window_ms} ms: try again in {} ms", retry_after.as_millis())]
    Rate {
        /// Which.
        link: usize,
        /// Calls in a window.
        calls: u32,
        /// Length of the window in milliseconds.
        window_ms: u64,
        /// How long until the next call is allowed.
        retry_after: Duration,
    },
    /// More is being counted than this node keeps.
    #[error(
        "this node counts as many grants as it can; link {link} cannot be counted and is refused: use a grant without limits, or fewer delegations of one"
    )]
    CountersFull {
        /// Which.
        link: usize,
    },
}

impl Refusal {
    /// A word for the kind of refusal, the same for ever: for logs, metrics and programs.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::TooLong { .. } => "grant-too-long",
            Self::Form(_) => "grant-malformed",
            Self::Links { .. } => "grant-links",
            Self::Link { .. } => "grant-link-invalid",
            Self::NotMine { .. } => "grant-not-mine",
            Self::WrongSigner { .. } => "grant-wrong-signer",
            Self::HolderKey { .. } => "grant-holder-key",
            Self::WrongParent { .. } => "grant-wrong-parent",
            Self::TooDeep { .. } => "grant-too-deep",
            Self::NotADelegate { .. } => "grant-not-a-delegate",
            Self::NotHolder { .. } => "grant-not-holder",
            Self::NotYet { .. } => "grant-not-yet",
            Self::Expired { .. } => "grant-expired",
            Self::LivesTooLong { .. } => "grant-lives-too-long",
            Self::Revoked { .. } => "grant-revoked",
            Self::Stale { .. } => "grant-stale",
            Self::Capability { .. } => "grant-capability",
            Self::DescriptorChanged { .. } => "descriptor-changed",
            Self::InterfaceChanged { .. } => "interface-changed",
            Self::Level { .. } => "grant-level",
            Self::Evidence { .. } => "grant-evidence",
            Self::Argument { .. } => "grant-argument",
            Self::UsedUp { .. } => "grant-used-up",
            Self::Budget { .. } => "grant-budget",
            Self::Rate { .. } => "grant-rate",
            Self::CountersFull { .. } => "grant-counters-full",
        }
    }
}

/// Why a link cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IssueError {
    /// It allows nothing.
    #[error("the grant covers no capability: name at least one (`*` for all)")]
    NoScopes,
    /// Too many of something.
    #[error("{count} {what}, and a grant holds 1 to {limit}: make two grants")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many.
        count: usize,
        /// The limit.
        limit: usize,
    },
    /// It ends before it begins.
    #[error("a grant from {not_before} until {not_after} is never valid")]
    Never {
        /// From when.
        not_before: Time,
        /// Until when.
        not_after: Time,
    },
    /// It lives too long.
    #[error("a grant lives at most {} days: make it shorter and renew it", MAX_LIFE.as_secs() / 86_400)]
    TooLongLived,
    /// It allows deeper delegation than a chain has links.
    #[error("a depth of {depth}, and at most {MAX_DEPTH} links can follow")]
    TooDeep {
        /// The depth asked for.
        depth: u8,
    },
    /// The rate allows nothing or looks back too far.
    #[error("a rate is at least one call in a window of 1 ms to {} days", MAX_RATE_WINDOW.as_secs() / 86_400)]
    Rate,
    /// No uses.
    #[error("a grant of no uses allows nothing: leave the limit out, or give one")]
    NoUses,
    /// A kind of evidence has no proper name.
    #[error("`{name}` is not a kind of evidence: 1 to 64 of the characters a-z 0-9 - . _ /")]
    EvidenceName {
        /// The name, shortened.
        name: String,
    },
    /// A limit of an argument is past its bounds.
    #[error(
        "the limit of `{name}` is none: `comity grant create --help` says what limits there are"
    )]
    Argument {
        /// The argument, shortened.
        name: String,
    },
    /// The chain to delegate does not verify.
    #[error("the grant to delegate is not in order")]
    Parent(#[source] Box<Refusal>),
    /// Only the holder can delegate.
    #[error("the grant belongs to {holder}, and {signer} cannot delegate it")]
    NotHolder {
        /// Who holds it.
        holder: RawKey,
        /// Who tried.
        signer: AgentId,
    },
    /// The chain cannot be delegated so deep.
    #[error(
        "this grant allows {allowed} more links, and the new one is to allow {depth} below it: give it less depth"
    )]
    Depth {
        /// How many links may follow the last.
        allowed: u8,
        /// The depth of the new link.
        depth: u8,
    },
    /// The new holder is not among the named delegates.
    #[error("this grant may be delegated to named agents only, and {holder} is not one of them")]
    NotADelegate {
        /// The new holder.
        holder: RawKey,
    },
    /// The new link would allow what the chain does not.
    #[error("the chain does not cover `{scope}`, and a link cannot add it: leave it out")]
    Wider {
        /// The scope.
        scope: String,
    },
    /// The chain would be too long.
    #[error(
        "the chain would have {length} bytes, and at most {MAX_CHAIN} are read: name fewer scopes"
    )]
    TooLong {
        /// Its length.
        length: usize,
    },
}
