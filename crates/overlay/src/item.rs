//! Stored items as the overlay sees them, and the two services it is given: verification and query evaluation.

use std::any::Any;
use std::ops::Deref;
use std::sync::Arc;

use comity_capability::record::GroupSecret;
use comity_core::{AgentId, Time};

use crate::contact::Contact;
use crate::store::{element_name, set_part};

/// The sealed envelope of one item, shared rather than copied.
pub type ItemBytes = Arc<[u8]>;

/// What a [`Verifier`] parsed out of an item, for the [`Evaluator`] that belongs to it; opaque to the overlay.
pub type Parsed = Arc<dyn Any + Send + Sync>;

/// Longest sealed item the overlay carries or stores, in bytes (a digest of 512 B and its envelope, or a peer record of 1 KiB).
pub const ITEM_BYTES_MAX: usize = 1_280;
/// Most groups one digest may be stored under.
pub const LABELS_PER_ITEM_MAX: usize = 64;
/// Longest label of a group, in bytes.
pub const LABEL_BYTES_MAX: usize = 256;
/// Longest query in canonical wire form, in bytes.
pub const QUERY_BYTES_MAX: usize = 4_096;

/// What kind of statement an item is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ItemKind {
    /// The index entry of one capability.
    Digest,
    /// A short-lived statement that the publisher is alive.
    Beat,
    /// The publisher's withdrawal of a digest.
    Tombstone,
    /// Where the publisher can be dialled.
    Peer,
    /// The index entry of one capability of a private group, unreadable to custodians.
    Veiled,
}

impl ItemKind {
    /// Whether it is an index entry, which a shard has members of: a digest, or a veiled one.
    #[must_use]
    pub const fn is_entry(self) -> bool {
        matches!(self, Self::Digest | Self::Veiled)
    }
}

/// Which of a signer's capabilities an item is about: the leading 64 bits of a hash of its name. Only names of one signer are
/// compared, so a collision harms nobody but the signer who made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subject(pub u64);

impl Subject {
    /// The subject of the capability called `name`.
    #[must_use]
    pub fn of(name: &str) -> Self {
        let hash = blake3::derive_key("comity/subject/v1", name.as_bytes());
        let [a, b, c, d, e, f, g, h, ..] = hash;
        Self(u64::from_be_bytes([a, b, c, d, e, f, g, h]))
    }
}

/// What an item is about: newer statements about the same thing replace older ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ItemKey {
    /// Who signed it.
    pub signer: AgentId,
    /// What kind of statement.
    pub kind: ItemKind,
    /// Which of the signer's capabilities; `None` for statements about the signer as a whole.
    pub subject: Option<Subject>,
}

/// The parsed content of an item, as far as the overlay or the evaluator needs it.
#[derive(Clone, Debug)]
pub enum Content {
    /// A digest, kept parsed so that a query over a shard parses nothing.
    Digest(Parsed),
    /// A beat.
    Beat(Parsed),
    /// A tombstone: it retires the digest of its subject, or all the signer's digests when the subject is `None`,
    /// as far as their sequence number is not above the tombstone's own.
    Tombstone,
    /// A peer record with the place already derived from the signer's key.
    Peer(Contact),
    /// A veiled entry, kept parsed so that it is opened once.
    Veiled(Parsed),
}

impl Content {
    /// The kind of statement.
    #[must_use]
    pub const fn kind(&self) -> ItemKind {
        match self {
            Self::Digest(_) => ItemKind::Digest,
            Self::Beat(_) => ItemKind::Beat,
            Self::Tombstone => ItemKind::Tombstone,
            Self::Peer(_) => ItemKind::Peer,
            Self::Veiled(_) => ItemKind::Veiled,
        }
    }
}

/// An item whose signature a [`Verifier`] has checked; a handle to it, shared rather than copied.
#[derive(Clone, Debug)]
pub struct VerifiedItem(Arc<Named>);

/// An item beside what all its custodians would hash it to.
#[derive(Debug)]
struct Named {
    verified: Verified,
    /// See [`element_name`].
    name: u64,
    /// See [`set_part`].
    part: [u8; 16],
}

/// What a [`VerifiedItem`] is a handle to.
#[derive(Clone, Debug)]
pub struct Verified {
    /// Who signed it.
    pub signer: AgentId,
    /// Which of the signer's capabilities it is about, of a veiled entry its slot; `None`: the signer as a whole.
    pub subject: Option<Subject>,
    /// The signer's sequence number; the highest wins. Among beats of one number the one issued last wins.
    pub seq: u64,
    /// When it was signed, by the signer's clock.
    pub issued: Time,
    /// When it stops counting.
    pub expires: Time,
    /// What it says.
    pub content: Content,
    /// The sealed bytes, as they are stored and passed on.
    pub bytes: ItemBytes,
}

impl From<Verified> for VerifiedItem {
    fn from(verified: Verified) -> Self {
        let (name, part) = (element_name(&verified.key()), set_part(&verified).to_be_bytes());
        Self(Arc::new(Named { verified, name, part }))
    }
}

impl Deref for VerifiedItem {
    type Target = Verified;

    fn deref(&self) -> &Verified {
        &self.0.verified
    }
}

impl VerifiedItem {
    /// Where the item stands in the order that custodians reconcile in: its [`element_name`].
    #[must_use]
    pub fn name(&self) -> u64 {
        self.0.name
    }

    /// What an entry adds to the set of its shard.
    pub(crate) fn set_part(&self) -> u128 {
        u128::from_be_bytes(self.0.part)
    }
}

impl Verified {
    /// What this item is about.
    #[must_use]
    pub const fn key(&self) -> ItemKey {
        ItemKey { signer: self.signer, kind: self.content.kind(), subject: self.subject }
    }
}

/// Why an item was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum Reject {
    /// Not an item, or not in canonical form.
    #[error("the item does not parse: seal it again with this version's encoder")]
    Malformed,
    /// The signature does not verify.
    #[error("the item's signature is not valid: seal it again with the signer's key")]
    Signature,
    /// The signer's key does not meet this network's mint requirement.
    #[error("the signer's key is not minted for this network: make a new identity")]
    Mint,
    /// Already expired.
    #[error("the item has expired: sign a new one")]
    Expired,
    /// Issued further in the future than the clock tolerance, or before its time.
    #[error("the item is dated in the future: check the signer's clock")]
    Future,
    /// Valid for longer than its kind may be.
    #[error("the item's lifetime is too long for its kind: sign it with an earlier expiry")]
    Lifetime,
    /// A newer statement, or a tombstone, is already held.
    #[error("a newer item or a tombstone is known: publish with a higher sequence number")]
    Stale,
    /// The same sequence number with different content: evidence of equivocation.
    #[error(
        "another item with this sequence number is known: publish with a higher sequence number"
    )]
    Conflict,
    /// The place it was sent for is not this node's to keep, or not one of the item's groups.
    #[error("this node does not keep that place: look the place up again")]
    Misplaced,
    /// A beat whose publisher has no digest here.
    #[error("no digest of this publisher is held: store the digest first")]
    Orphan,
    /// The publisher, its network prefix, the shard or the whole custody is at its limit.
    #[error(
        "the custodian's quota for this item is used up: store elsewhere or retire older items"
    )]
    Quota,
}

/// Checks items: production opens the envelope, a simulation remembers what it already checked.
pub trait Verifier {
    /// Checks signature, form and the signer's key, and parses what the overlay needs.
    ///
    /// Time rules (expiry, clock tolerance) are the overlay's own; `now` is for verifiers whose rules depend on it.
    ///
    /// # Errors
    /// [`Reject`] says what is wrong with the item.
    fn verify(&mut self, now: Time, bytes: &ItemBytes) -> Result<VerifiedItem, Reject>;

    /// Whether a verified entry belongs to the group with this label. A custodian asks before it stores one there.
    fn admits(&mut self, entry: &VerifiedItem, label: &str) -> bool;

    /// The digest in a veiled entry, verified as one that came unveiled would be, times aside. `None` when this secret does not open it.
    fn unveil(
        &mut self,
        now: Time,
        item: &VerifiedItem,
        secret: &GroupSecret,
    ) -> Option<VerifiedItem> {
        let _ = (now, item, secret);
        None
    }
}

/// One digest offered to an [`Evaluator`].
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// The parsed digest.
    pub digest: &'a Parsed,
    /// Who signed it.
    pub signer: &'a AgentId,
    /// The publisher's newest live beat, if one is held.
    pub beat: Option<&'a Parsed>,
}

/// Bounds of one evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EvaluationLimits {
    /// Most matches to return.
    pub matches_max: usize,
    /// Most near misses to return.
    pub near_max: usize,
    /// Most condition evaluations to spend; the evaluator stops there and says so.
    pub cost_max: u32,
}

/// What an evaluation found; indexes into the candidates, best first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evaluation {
    /// Candidates that pass every hard condition.
    pub matches: Vec<usize>,
    /// Candidates that fail few conditions.
    pub near: Vec<usize>,
    /// How many candidates passed before truncation to the limit.
    pub passed: u32,
    /// The cost budget ran out before all candidates were seen.
    pub truncated: bool,
}

/// Why a query could not be evaluated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the query cannot be evaluated: {0}; build it with this version's query encoder")]
pub struct QueryReject(pub String);

/// Evaluates queries over digests: a custodian for others, an asker to check what custodians returned.
pub trait Evaluator {
    /// Evaluates `query` (canonical wire form, at most [`QUERY_BYTES_MAX`]) over `candidates`.
    ///
    /// # Errors
    /// [`QueryReject`] when the query does not parse.
    fn evaluate(
        &mut self,
        now: Time,
        query: &[u8],
        candidates: &[Candidate<'_>],
        limits: EvaluationLimits,
    ) -> Result<Evaluation, QueryReject>;

    /// A query (canonical wire form) that a digest matches and few others do, to ask custodians whether they show it; it must look
    /// like anybody's. A veiled entry is asked for by the empty query. `None`: it is not audited.
    fn question_for(&mut self, digest: &VerifiedItem) -> Option<ItemBytes> {
        let _ = digest;
        None
    }
}

/// Everything the state machine needs from outside besides time and seed. Implemented for all that verify and evaluate.
pub trait Services: Verifier + Evaluator {}

impl<T: Verifier + Evaluator> Services for T {}
