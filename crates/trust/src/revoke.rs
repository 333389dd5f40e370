//! Taking back what was signed: statements of withdrawal, kept in one growing set per issuer.
//!
//! What can be withdrawn is a signed statement, by the hash of its envelope, or a key. A withdrawal counts against whatever its issuer could have
//! refused in the first place: who signed a statement takes it back, who granted something takes back everything that hangs from it, and a
//! key's owner declares the key lost. Nobody's withdrawal touches what is somebody else's, so sets can be taken from anyone.
//!
//! An issuer signs the root of its set ([`SetHead`]) with the time at which that was everything. A reader who demands that a capability be
//! no staler than so long refuses a chain whose delegators' newest heads are older: withholding a withdrawal then buys an attacker that long and
//! no more (TRUST.md section 2.3 and T17). Sets only grow: what a newer head leaves out stays withdrawn here, and the omission is reported.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use comity_capability::record::CLOCK_SKEW;
use comity_core::canonical::{self, Version};
use comity_core::envelope::{self, EnvelopeError, MAX_OVERHEAD};
use comity_core::text::zbase32_decode;
use comity_core::{AgentId, Canonical as _, DecodeError, Hash, Identity, Kind, Time};
use serde::{Deserialize, Serialize};

use crate::RawKey;
use crate::wire::{self, checked_payload};

/// Most withdrawals in one issuer's set.
pub const MAX_ENTRIES: usize = 1024;
/// Most issuers whose sets are held.
pub const MAX_ISSUERS: usize = 4096;
/// Most withdrawals held of all issuers together: some 10 MB.
pub const MAX_ENTRIES_TOTAL: usize = 65_536;
/// Longest sealed withdrawal, in bytes.
pub const MAX_REVOKE: usize = 256;
/// Longest sealed head of a set, in bytes.
pub const MAX_SET_HEAD: usize = 256;
/// Longest signed set, in bytes.
pub const MAX_SET: usize = MAX_SET_HEAD + MAX_ENTRIES * MAX_ENTRY + 16;
/// Longest encoded withdrawal, in bytes.
const MAX_ENTRY: usize = 72;
const ROOT_CONTEXT: &str = "comity/revoke/set/v1";

/// What is withdrawn. Text form: `b3:…` for a statement, a key for a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Withdrawn {
    /// The statement whose envelope has this hash.
    Statement(Hash),
    /// Everything that this key holds by the issuer's leave; the key itself, if the issuer is its owner.
    Key(RawKey),
}

/// Why.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Default,
    minicbor::Encode,
    minicbor::Decode,
    Serialize,
    Deserialize,
)]
#[cbor(index_only)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// Not said.
    #[default]
    #[n(0)]
    Unspecified,
    /// The key is or may be in other hands.
    #[n(1)]
    KeyCompromised,
    /// Something newer replaces it.
    #[n(2)]
    Superseded,
    /// No longer needed.
    #[n(3)]
    Ended,
    /// It was misused.
    #[n(4)]
    Misused,
    /// It was never meant.
    #[n(5)]
    Mistake,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Unspecified => "no reason given",
            Self::KeyCompromised => "the key is compromised",
            Self::Superseded => "superseded",
            Self::Ended => "no longer needed",
            Self::Misused => "misused",
            Self::Mistake => "issued by mistake",
        })
    }
}

/// One withdrawal.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode, Serialize, Deserialize,
)]
#[cbor(map)]
pub struct Revoke {
    /// What.
    #[n(0)]
    pub target: Withdrawn,
    /// Since when.
    #[cbor(n(1), with = "crate::wire::millis")]
    pub at: Time,
    /// Until when it must be remembered: the end of what is withdrawn. [`Time::MAX`] for keys.
    #[cbor(n(2), with = "crate::wire::millis")]
    pub until: Time,
    /// Why.
    #[n(3)]
    pub reason: Reason,
}

/// An issuer's statement that its set, at a time, was this.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode, Serialize, Deserialize,
)]
#[cbor(map)]
pub struct SetHead {
    /// Format version.
    #[n(0)]
    #[serde(skip)]
    pub version: Version<1>,
    /// Grows with each head.
    #[n(1)]
    pub seq: u64,
    /// When this was everything.
    #[cbor(n(2), with = "crate::wire::millis")]
    pub at: Time,
    /// How many withdrawals.
    #[n(3)]
    pub count: u32,
    /// Hash over them, in order of what they withdraw.
    #[n(4)]
    pub root: Hash,
}

/// A head and what it is the head of, for the wire.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
struct SignedSet {
    #[cbor(n(0), with = "minicbor::bytes")]
    head: Vec<u8>,
    #[n(1)]
    entries: Vec<Revoke>,
}

/// Why a withdrawal or a set is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RevokeError {
    /// Longer than a set may be.
    #[error("a revocation set of {length} bytes, and at most {MAX_SET} are read")]
    TooLong {
        /// Length in bytes.
        length: usize,
    },
    /// Not a signed set.
    #[error("not a revocation set")]
    Form(#[source] DecodeError),
    /// The signature or form of the envelope.
    #[error("the signed part of the revocation set is refused")]
    Envelope(#[source] EnvelopeError),
    /// It withdraws for no time at all.
    #[error("a withdrawal from {at} until {until} withdraws nothing")]
    Never {
        /// Its beginning.
        at: Time,
        /// Its end.
        until: Time,
    },
    /// From the future.
    #[error(
        "the revocation set of {issuer} is of {at} and here it is {now}: check both clocks (they may differ by 120 s)"
    )]
    NotYet {
        /// Whose.
        issuer: AgentId,
        /// Its time.
        at: Time,
        /// The time here.
        now: Time,
    },
    /// The entries are not those that were signed.
    #[error(
        "the revocation set of {issuer} does not have the root that was signed: somebody left entries out or put some in"
    )]
    Root {
        /// Whose.
        issuer: AgentId,
    },
    /// The issuer signed two different sets under one number.
    #[error(
        "{issuer} signed two different revocation sets number {seq}: it tells different peers different things; keep both as proof"
    )]
    Equivocation {
        /// Whose.
        issuer: AgentId,
        /// The number.
        seq: u64,
    },
    /// The set is full.
    #[error(
        "the revocation set of {issuer} is full ({MAX_ENTRIES} entries): withdraw a key or a parent instead of single statements"
    )]
    SetFull {
        /// Whose.
        issuer: AgentId,
    },
    /// This node holds as many sets as it may.
    #[error(
        "this node holds as many revocation sets as it may; chains through {issuer} count as stale"
    )]
    Full {
        /// Whose set did not fit.
        issuer: AgentId,
    },
}

/// What applying did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Whose.
    pub issuer: AgentId,
    /// Withdrawals that were not known before.
    pub added: usize,
    /// Whether the head is newer than the one held.
    pub newer: bool,
    /// Withdrawals that are held, still matter, and are missing from the newer head: the issuer tries to un-revoke.
    pub missing: usize,
}

impl Revoke {
    /// Checks the times.
    ///
    /// # Errors
    /// [`RevokeError::Never`].
    pub fn check(&self) -> Result<(), RevokeError> {
        if self.until > self.at {
            Ok(())
        } else {
            Err(RevokeError::Never { at: self.at, until: self.until })
        }
    }

    /// Signs it alone, to be passed on at once.
    #[must_use]
    pub fn seal(&self, identity: &Identity) -> Vec<u8> {
        envelope::seal(Kind::Revoke, self, identity)
    }

    /// Whether it need not be remembered any more.
    fn is_over(&self, now: Time) -> bool {
        now.saturating_since(self.until) > 2 * CLOCK_SKEW
    }
}

impl SetHead {
    const fn check(&self) -> Result<(), RevokeError> {
        Ok(())
    }
}

checked_payload!(Revoke, MAX_ENTRY);
checked_payload!(SetHead, MAX_SET_HEAD - (MAX_OVERHEAD - 9));

/// Who is said to have signed a set, without any cryptography: to leave alone what is not asked for before it costs a signature.
#[must_use]
pub fn claimed_issuer(bytes: &[u8]) -> Option<RawKey> {
    if bytes.len() > MAX_SET {
        return None;
    }
    let set: SignedSet = canonical::decode_minicbor(bytes).ok()?;
    wire::claimed_signer(&set.head)
}

/// The withdrawals of one issuer that are known here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Held {
    seq: u64,
    root: Option<Hash>,
    /// Of the newest head.
    as_of: Option<Time>,
    entries: BTreeMap<Withdrawn, Revoke>,
}

/// The own set and those of others, as far as they are known. Bounded; to be stored whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocations {
    me: AgentId,
    own: Held,
    #[serde(with = "as_pairs")]
    others: BTreeMap<AgentId, Held>,
}

impl Revocations {
    /// Nothing withdrawn by anyone.
    #[must_use]
    pub fn new(me: AgentId) -> Self {
        Self { me, own: Held::default(), others: BTreeMap::new() }
    }

    /// Whose own set this is.
    #[must_use]
    pub const fn me(&self) -> AgentId {
        self.me
    }

    /// Adds to the own set; in force here at once. [`Revocations::publish`] tells the others.
    ///
    /// `until` is the end of what is withdrawn, [`Time::MAX`] for a key.
    ///
    /// # Errors
    /// [`RevokeError::Never`] and [`RevokeError::SetFull`].
    pub fn revoke(
        &mut self,
        target: Withdrawn,
        until: Time,
        reason: Reason,
        now: Time,
    ) -> Result<Revoke, RevokeError> {
        let entry = Revoke {
            target,
            at: wire::whole_millis(now),
            until: wire::whole_millis(until),
            reason,
        };
        entry.check()?;
        self.own.entries.retain(|_, held| !held.is_over(now));
        if self.own.entries.len() >= MAX_ENTRIES && !self.own.entries.contains_key(&target) {
            return Err(RevokeError::SetFull { issuer: self.me });
        }
        Ok(*self.own.entries.entry(target).or_insert(entry))
    }

    /// Signs the own set as it is now, for peers to apply. `identity` must be the one of [`Revocations::me`].
    pub fn publish(&mut self, identity: &Identity, now: Time) -> Vec<u8> {
        self.own.entries.retain(|_, held| !held.is_over(now));
        // The clock in the number keeps it growing when the state was lost.
        self.own.seq = (self.own.seq + 1).max(now.as_millis());
        let entries: Vec<Revoke> = self.own.entries.values().copied().collect();
        let head = SetHead {
            version: Version,
            seq: self.own.seq,
            at: wire::whole_millis(now),
            count: u32::try_from(entries.len()).unwrap_or(u32::MAX),
            root: root_of(&entries),
        };
        self.own.root = Some(head.root);
        self.own.as_of = Some(head.at);
        let set = SignedSet { head: envelope::seal(Kind::RevokeSet, &head, identity), entries };
        canonical::encode_minicbor(&set)
    }

    /// Root of the own set as it is now, unsigned: what is said to a peer in a session that proves who says it.
    #[must_use]
    pub fn own_root(&self, now: Time) -> Hash {
        let entries = self.own.entries.values().filter(|entry| !entry.is_over(now));
        root_of(&entries.copied().collect::<Vec<_>>())
    }

    /// Takes note that `issuer`, whose word it provably is, says that its set has this root at `at`. If it is the set held, that one is as
    /// recent now, and nothing need be fetched; else it must be, and this returns false.
    #[must_use]
    pub fn confirm(&mut self, issuer: &AgentId, root: &Hash, at: Time, now: Time) -> bool {
        if *issuer == self.me {
            return true;
        }
        let Some(held) = self.others.get_mut(issuer).filter(|held| held.root == Some(*root)) else {
            return false;
        };
        // A clock that is ahead makes nothing fresher than now.
        held.as_of = held.as_of.max(Some(at.min(now)));
        true
    }

    /// Whether anything is held of this issuer.
    #[must_use]
    pub fn knows(&self, issuer: &AgentId) -> bool {
        self.held(issuer).is_some()
    }

    /// The same after this agent's key was succeeded by `me`: what the old key withdrew stays withdrawn in its name, and is withdrawn in the
    /// new one's too, since whoever lost the old one's leave did not get the new one's.
    #[must_use]
    pub fn succeeded(mut self, me: AgentId) -> Self {
        if me == self.me {
            return self;
        }
        let old = std::mem::replace(&mut self.me, me);
        let entries = self.own.entries.clone();
        self.others.insert(old, std::mem::take(&mut self.own));
        self.own.entries = entries;
        // What was taken in under the new key, before it was this agent's, is its own now.
        if let Some(held) = self.others.remove(&me) {
            for (target, entry) in held.entries {
                self.own.entries.entry(target).or_insert(entry);
            }
            self.own.seq = held.seq;
        }
        self
    }

    /// The own withdrawals.
    pub fn own(&self) -> impl Iterator<Item = &Revoke> {
        self.own.entries.values()
    }

    /// Takes in a set that somebody passed on; whose it is says its signature.
    ///
    /// Callers staple the sets of their delegators to a chain, and peers exchange their own when they meet. One signature is verified.
    ///
    /// # Errors
    /// [`RevokeError`] says what is wrong; nothing was taken in then.
    pub fn apply_set(&mut self, bytes: &[u8], now: Time) -> Result<Applied, RevokeError> {
        if bytes.len() > MAX_SET {
            return Err(RevokeError::TooLong { length: bytes.len() });
        }
        let set: SignedSet = canonical::decode_minicbor(bytes).map_err(RevokeError::Form)?;
        let opened = envelope::open::<SetHead>(Kind::RevokeSet, &set.head, MAX_SET_HEAD)
            .map_err(RevokeError::Envelope)?;
        let (issuer, head) = (opened.signer, opened.payload);
        not_from_the_future(issuer, head.at, now)?;
        // The root fixes the entries to the bit; that they are sorted and distinct is the issuer's word, which the map below does not need.
        let counted = usize::try_from(head.count) == Ok(set.entries.len())
            && set.entries.len() <= MAX_ENTRIES;
        if !counted || root_of(&set.entries) != head.root {
            return Err(RevokeError::Root { issuer });
        }
        set.entries.iter().try_for_each(Revoke::check)?;
        if issuer == self.me {
            return Ok(Applied { issuer, added: 0, newer: false, missing: 0 });
        }
        self.merge(issuer, Some(&head), set.entries, now)
    }

    /// Takes in one withdrawal that somebody passed on.
    ///
    /// # Errors
    /// As [`Revocations::apply_set`].
    pub fn apply(&mut self, bytes: &[u8], now: Time) -> Result<Applied, RevokeError> {
        let opened = envelope::open::<Revoke>(Kind::Revoke, bytes, MAX_REVOKE)
            .map_err(RevokeError::Envelope)?;
        not_from_the_future(opened.signer, opened.payload.at, now)?;
        if opened.signer == self.me {
            // Signed with this key, and not by this node: it counts, as everything else its key says does.
            let Revoke { target, until, reason, .. } = opened.payload;
            let added = usize::from(!self.own.entries.contains_key(&target));
            self.revoke(target, until, reason, now)?;
            return Ok(Applied { issuer: self.me, added, newer: false, missing: 0 });
        }
        self.merge(opened.signer, None, vec![opened.payload], now)
    }

    fn merge(
        &mut self,
        issuer: AgentId,
        head: Option<&SetHead>,
        entries: Vec<Revoke>,
        now: Time,
    ) -> Result<Applied, RevokeError> {
        self.make_room(issuer, entries.len(), now)?;
        let held = self.others.entry(issuer).or_default();
        if let Some(head) = head
            && head.seq == held.seq
            && held.root.is_some_and(|root| root != head.root)
        {
            return Err(RevokeError::Equivocation { issuer, seq: head.seq });
        }
        let listed: BTreeMap<Withdrawn, Revoke> = entries
            .into_iter()
            .filter(|entry| !entry.is_over(now))
            .map(|entry| (entry.target, entry))
            .collect();
        let new = listed.keys().filter(|target| !held.entries.contains_key(target)).count();
        if held.entries.len() + new > MAX_ENTRIES {
            return Err(RevokeError::SetFull { issuer });
        }
        let newer = head.filter(|head| held.root.is_none() || head.seq > held.seq);
        let missing = newer.map_or(0, |head| {
            let mattered = |held: &&Revoke| held.at <= head.at && !held.is_over(now);
            held.entries
                .values()
                .filter(mattered)
                .filter(|held| !listed.contains_key(&held.target))
                .count()
        });
        if let Some(head) = newer {
            (held.seq, held.root, held.as_of) = (head.seq, Some(head.root), Some(head.at));
        }
        for (target, entry) in listed {
            held.entries.entry(target).or_insert(entry);
        }
        Ok(Applied { issuer, added: new, newer: newer.is_some(), missing })
    }

    /// Makes room for an issuer's entries: what is over goes, then an issuer of whom only the time is known.
    fn make_room(&mut self, issuer: AgentId, entries: usize, now: Time) -> Result<(), RevokeError> {
        let total: usize = self.others.values().map(|held| held.entries.len()).sum();
        if total + entries > MAX_ENTRIES_TOTAL {
            self.prune(now);
            let total: usize = self.others.values().map(|held| held.entries.len()).sum();
            if total + entries > MAX_ENTRIES_TOTAL {
                return Err(RevokeError::Full { issuer });
            }
        }
        if self.others.len() >= MAX_ISSUERS && !self.others.contains_key(&issuer) {
            let idle = self.others.iter().filter(|(_, held)| held.entries.is_empty());
            let oldest = idle.min_by_key(|(_, held)| held.as_of).map(|(id, _)| *id);
            let oldest = oldest.ok_or(RevokeError::Full { issuer })?;
            self.others.remove(&oldest);
        }
        Ok(())
    }

    /// Forgets what need not be remembered any more.
    pub fn prune(&mut self, now: Time) {
        for held in self.others.values_mut() {
            held.entries.retain(|_, entry| !entry.is_over(now));
        }
    }

    /// The withdrawal of `target` by `issuer`, if one is known.
    #[must_use]
    pub fn find(&self, issuer: &AgentId, target: &Withdrawn) -> Option<&Revoke> {
        self.held(issuer)?.entries.get(target)
    }

    /// When the newest known set of `issuer` was everything. The own set always is: `now`.
    #[must_use]
    pub fn as_of(&self, issuer: &AgentId, now: Time) -> Option<Time> {
        if *issuer == self.me { Some(now) } else { self.held(issuer)?.as_of }
    }

    /// Whether what is known of `issuer` is no older than `max_stale`.
    #[must_use]
    pub fn is_fresh(&self, issuer: &AgentId, now: Time, max_stale: Duration) -> bool {
        self.as_of(issuer, now).is_some_and(|at| now.saturating_since(at) <= max_stale)
    }

    /// How many issuers besides the own are held.
    #[must_use]
    pub fn issuers(&self) -> usize {
        self.others.len()
    }

    fn held(&self, issuer: &AgentId) -> Option<&Held> {
        if *issuer == self.me { Some(&self.own) } else { self.others.get(issuer) }
    }
}

fn not_from_the_future(issuer: AgentId, at: Time, now: Time) -> Result<(), RevokeError> {
    if at.saturating_since(now) > CLOCK_SKEW {
        Err(RevokeError::NotYet { issuer, at, now })
    } else {
        Ok(())
    }
}

fn root_of(entries: &[Revoke]) -> Hash {
    let mut bytes = Vec::with_capacity(entries.len() * MAX_ENTRY);
    for entry in entries {
        // Each is a CBOR item, which says itself where it ends.
        bytes.extend_from_slice(&entry.encode());
    }
    Hash::derive(ROOT_CONTEXT, &[&bytes])
}

impl fmt::Display for Withdrawn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Statement(hash) => fmt::Display::fmt(hash, f),
            Self::Key(key) => fmt::Display::fmt(key, f),
        }
    }
}

/// The text is neither a hash nor a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("give what to withdraw: the hash of a signed statement (b3:…) or an agent's key")]
pub struct WithdrawnTextError;

impl FromStr for Withdrawn {
    type Err = WithdrawnTextError;

    fn from_str(text: &str) -> Result<Self, WithdrawnTextError> {
        if text.starts_with("b3:") {
            text.parse().map(Self::Statement).map_err(|_| WithdrawnTextError)
        } else {
            text.parse().map(Self::Key).map_err(|_| WithdrawnTextError)
        }
    }
}

impl Serialize for Withdrawn {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Withdrawn {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Keys as issuers wrote them: what was taken in must be read again, whatever it is.
        let text = <std::borrow::Cow<'de, str> as Deserialize>::deserialize(deserializer)?;
        let withdrawn = if text.starts_with("b3:") {
            text.parse().ok().map(Self::Statement)
        } else {
            zbase32_decode(&text).ok().map(|bytes| Self::Key(RawKey(bytes)))
        };
        withdrawn.ok_or_else(|| serde::de::Error::custom(WithdrawnTextError))
    }
}

impl<C> minicbor::Encode<C> for Withdrawn {
    /// `[0, hash]` or `[1, key]`.
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        ctx: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        match self {
            Self::Statement(hash) => e.array(2)?.u8(0)?.encode_with(hash, ctx)?.ok(),
            Self::Key(key) => e.array(2)?.u8(1)?.encode_with(key, ctx)?.ok(),
        }
    }
}

impl<'b, C> minicbor::Decode<'b, C> for Withdrawn {
    fn decode(d: &mut minicbor::Decoder<'b>, ctx: &mut C) -> Result<Self, minicbor::decode::Error> {
        let at = d.position();
        let len = d.array()?;
        let tag = d.u8()?;
        match (len, tag) {
            (Some(2), 0) => d.decode_with(ctx).map(Self::Statement),
            (Some(2), 1) => d.decode_with(ctx).map(Self::Key),
            _ => {
                Err(minicbor::decode::Error::message("what is withdrawn is [0, hash] or [1, key]")
                    .at(at))
            }
        }
    }
}

/// Maps whose keys are agents, as lists of pairs: their text form passes intake once more when read.
mod as_pairs {
    use std::collections::BTreeMap;

    use comity_core::AgentId;
    use serde::{Deserialize, Deserializer, Serializer};

    use super::Held;

    pub(super) fn serialize<S: Serializer>(
        map: &BTreeMap<AgentId, Held>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(map)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<AgentId, Held>, D::Error> {
        Vec::<(AgentId, Held)>::deserialize(deserializer).map(|pairs| pairs.into_iter().collect())
    }
}
