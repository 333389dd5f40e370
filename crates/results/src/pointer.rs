//! Pointers: small, expiring, signed words of a node that it holds a result and hands it out.
//!
//! A pointer is a hint. What it leads to is verified like anything else ([`accept`](crate::result::accept)), so a false one costs its reader one
//! round trip, after which its signer is [avoided](Holders::failed).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use comity_core::canonical::{Version, decode_minicbor, encode_minicbor};
use comity_core::envelope::{self, EnvelopeError, MAX_OVERHEAD};
use comity_core::{AgentId, Canonical, DecodeError, Hash, Identity, Kind, Time};

use crate::key::IndexKey;
use crate::result::{CLOCK_SKEW, Keepable};

/// Longest sealed pointer, in bytes.
pub const MAX_POINTER: usize = 200 + MAX_OVERHEAD;
/// Longest life of a pointer: a holder that is gone is asked in vain for no longer.
pub const POINTER_LIFE: Duration = Duration::from_secs(3600);
/// Shortest remaining validity of a result that is announced.
pub const VALIDITY_LEFT_MIN: Duration = Duration::from_secs(60);
/// Holders of one result that are remembered; the ones that expire last stay.
pub const HOLDERS_PER_KEY_MAX: usize = 16;
/// While so many others' pointers to a result live, a holder does not announce it again.
pub const HOLDERS_ENOUGH: usize = 4;
/// Pointers of one holder that are remembered.
pub const POINTERS_PER_HOLDER_MAX: usize = 1024;
/// Pointers remembered altogether.
pub const POINTERS_MAX: usize = 65_536;
/// How long a holder that handed out something wrong, or nothing, is not asked again.
pub const AVOIDED_FOR: Duration = Duration::from_secs(3600);
/// Holders that are avoided at a time.
pub const AVOIDED_MAX: usize = 4096;

/// The statement; the signer of its envelope is the holder.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
pub struct Pointer {
    /// Format version.
    #[n(0)]
    pub version: Version<1>,
    /// What is held.
    #[n(1)]
    pub key: IndexKey,
    /// Key of the producer, as bytes: it is compared before anybody pays for its intake.
    #[n(2)]
    pub producer: Hash,
    /// Hash of the answer.
    #[n(3)]
    pub response: Hash,
    /// Its length in bytes.
    #[n(4)]
    pub bytes: u64,
    /// When the answer was given.
    #[n(5)]
    pub finished_ms: u64,
    /// When the pointer was signed.
    #[n(6)]
    pub issued_ms: u64,
    /// Until when it counts: at most [`POINTER_LIFE`] after it was signed, and never after the answer's validity.
    #[n(7)]
    pub expires_ms: u64,
}

impl Canonical for Pointer {
    fn encode(&self) -> Vec<u8> {
        encode_minicbor(self)
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        decode_minicbor(bytes)
    }
}

/// Why a pointer is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PointerError {
    /// The envelope or the payload in it.
    #[error("the pointer does not verify")]
    Envelope(#[source] EnvelopeError),
    /// It has expired.
    #[error("the pointer has expired")]
    Expired,
    /// It is dated in the future.
    #[error("the pointer is dated in the future; check the signer's clock")]
    Future,
    /// It claims to live too long.
    #[error("a pointer lives {} s at most; sign it again", POINTER_LIFE.as_secs())]
    Life,
}

impl Pointer {
    /// A pointer to a result that the signer holds. `None` when its validity is all but over.
    #[must_use]
    pub fn new(key: IndexKey, held: &impl Keepable, now: Time) -> Option<Self> {
        let left = held.valid_until().saturating_since(now);
        let stated = held.statement();
        (left >= VALIDITY_LEFT_MIN).then(|| Self {
            version: Version,
            key,
            producer: Hash(*stated.callee.as_bytes()),
            response: stated.response,
            bytes: held.bytes(),
            finished_ms: held.finished().as_millis(),
            issued_ms: now.as_millis(),
            expires_ms: held.valid_until().min(now + POINTER_LIFE).as_millis(),
        })
    }

    /// Signs it.
    #[must_use]
    pub fn seal(&self, holder: &Identity) -> Vec<u8> {
        envelope::seal(Kind::Holder, self, holder)
    }

    /// Opens a sealed pointer. Returns the holder and what it says.
    ///
    /// # Errors
    /// [`PointerError`].
    pub fn open(sealed: &[u8], now: Time) -> Result<(AgentId, Self), PointerError> {
        let opened = envelope::open::<Self>(Kind::Holder, sealed, MAX_POINTER)
            .map_err(PointerError::Envelope)?;
        let pointer = opened.payload;
        let (issued, expires) = (Time::from_millis(pointer.issued_ms), pointer.expires());
        if issued > now + CLOCK_SKEW {
            return Err(PointerError::Future);
        }
        if expires > issued + POINTER_LIFE {
            return Err(PointerError::Life);
        }
        if expires <= now {
            return Err(PointerError::Expired);
        }
        Ok((opened.signer, pointer))
    }

    /// Until when it counts.
    #[must_use]
    pub const fn expires(&self) -> Time {
        Time::from_millis(self.expires_ms)
    }
}

/// Known holders: of a node that looks for results, or of one that keeps a part of the result index. `T` is what is remembered of each
/// besides its pointer, such as the sealed form that others are shown.
#[derive(Debug, Clone)]
pub struct Holders<T = ()> {
    pointers: BTreeMap<IndexKey, BTreeMap<AgentId, (Pointer, T)>>,
    of_holder: BTreeMap<AgentId, BTreeSet<IndexKey>>,
    by_expiry: BTreeSet<(u64, IndexKey, AgentId)>,
    avoided: BTreeMap<AgentId, Time>,
}

/// What became of a pointer that was offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// It is remembered.
    Yes,
    /// A newer one of the same holder is known.
    Older,
    /// The holder has its share.
    HolderFull,
    /// Enough holders with longer-lived pointers are known.
    KeyFull,
    /// The holder disappointed a moment ago.
    Avoided,
}

impl<T> Default for Holders<T> {
    fn default() -> Self {
        Self {
            pointers: BTreeMap::new(),
            of_holder: BTreeMap::new(),
            by_expiry: BTreeSet::new(),
            avoided: BTreeMap::new(),
        }
    }
}

impl Holders {
    /// Remembers an opened pointer.
    pub fn insert(&mut self, holder: AgentId, pointer: Pointer, now: Time) -> Kept {
        self.insert_with(holder, pointer, (), now)
    }
}

impl<T: Clone> Holders<T> {
    /// Knows nobody.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Remembers an opened pointer, and something with it.
    pub fn insert_with(&mut self, holder: AgentId, pointer: Pointer, with: T, now: Time) -> Kept {
        self.forget_expired(now);
        if self.avoided.contains_key(&holder) {
            return Kept::Avoided;
        }
        let key = pointer.key;
        let known = self.pointers.get(&key).and_then(|known| known.get(&holder));
        if known.is_some_and(|(known, _)| known.issued_ms >= pointer.issued_ms) {
            return Kept::Older;
        }
        self.remove(&key, &holder);
        if self.of_holder.get(&holder).is_some_and(|keys| keys.len() >= POINTERS_PER_HOLDER_MAX) {
            return Kept::HolderFull;
        }
        if let Some(others) =
            self.pointers.get(&key).filter(|known| known.len() >= HOLDERS_PER_KEY_MAX)
        {
            let soonest =
                others.iter().map(|(holder, (known, _))| (known.expires_ms, *holder)).min();
            match soonest {
                Some((expires_ms, soonest)) if expires_ms < pointer.expires_ms => {
                    self.remove(&key, &soonest)
                }
                Some(_) | None => return Kept::KeyFull,
            }
        }
        while self.by_expiry.len() >= POINTERS_MAX
            && let Some((_, key, holder)) = self.by_expiry.first().copied()
        {
            self.remove(&key, &holder);
        }
        self.by_expiry.insert((pointer.expires_ms, key, holder));
        self.of_holder.entry(holder).or_default().insert(key);
        self.pointers.entry(key).or_default().insert(holder, (pointer, with));
        Kept::Yes
    }

    /// Who holds it, the newest answer first, then whose pointer lives longest.
    #[must_use]
    pub fn of(&mut self, key: &IndexKey, now: Time) -> Vec<(AgentId, Pointer)> {
        let known = self.of_with(key, now);
        known.into_iter().map(|(holder, pointer, _)| (holder, pointer)).collect()
    }

    /// The same, with what was remembered of each.
    #[must_use]
    pub fn of_with(&mut self, key: &IndexKey, now: Time) -> Vec<(AgentId, Pointer, T)> {
        self.forget_expired(now);
        let known = self.pointers.get(key);
        let mut found: Vec<(AgentId, Pointer, T)> = known
            .into_iter()
            .flatten()
            .map(|(holder, (pointer, with))| (*holder, pointer.clone(), with.clone()))
            .collect();
        found.sort_by_key(|(holder, pointer, _)| {
            (std::cmp::Reverse((pointer.finished_ms, pointer.expires_ms)), *holder)
        });
        found
    }

    /// A holder handed out something wrong, or nothing: it is not asked again for [`AVOIDED_FOR`], and its pointers are forgotten.
    pub fn failed(&mut self, holder: AgentId, now: Time) {
        for key in self.of_holder.get(&holder).cloned().unwrap_or_default() {
            self.remove(&key, &holder);
        }
        if self.avoided.len() >= AVOIDED_MAX
            && let Some(soonest) = self.avoided.iter().min_by_key(|(_, until)| **until)
        {
            let soonest = *soonest.0;
            self.avoided.remove(&soonest);
        }
        self.avoided.insert(holder, now + AVOIDED_FOR);
    }

    /// Whether the holder disappointed a moment ago.
    #[must_use]
    pub fn is_avoided(&self, holder: &AgentId, now: Time) -> bool {
        self.avoided.get(holder).is_some_and(|until| *until > now)
    }

    /// How many pointers are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_expiry.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_expiry.is_empty()
    }

    fn forget_expired(&mut self, now: Time) {
        while let Some((expires_ms, key, holder)) = self.by_expiry.first().copied()
            && Time::from_millis(expires_ms) <= now
        {
            self.remove(&key, &holder);
        }
        self.avoided.retain(|_, until| *until > now);
    }

    fn remove(&mut self, key: &IndexKey, holder: &AgentId) {
        let Some(known) = self.pointers.get_mut(key) else { return };
        let Some((pointer, _)) = known.remove(holder) else { return };
        if known.is_empty() {
            self.pointers.remove(key);
        }
        self.by_expiry.remove(&(pointer.expires_ms, *key, *holder));
        if let Some(keys) = self.of_holder.get_mut(holder) {
            keys.remove(key);
            if keys.is_empty() {
                self.of_holder.remove(holder);
            }
        }
    }
}
