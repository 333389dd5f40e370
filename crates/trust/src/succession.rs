//! From one key to the next.
//!
//! Each record commits to the hash of the agent's next key ([`commitment`]). A [`Rotate`] reveals it and is signed by both keys. Whoever steals the
//! key in use cannot rotate: it does not have the next one, which can lie in a drawer until it is needed. For that, readers keep the first
//! commitment they saw of a key and no later one, since a thief can sign records too.
//!
//! A rotation commits to the key after, so that a chain of them verifies from a pinned key with nothing else. Source: TRUST.md section 2.1
//! (rule 5) and T8, DESIGN.md section 3.

use comity_capability::record::CLOCK_SKEW;
use comity_core::canonical::{self, Version};
use comity_core::envelope::{self, EnvelopeError, MAX_OVERHEAD, Opened};
use comity_core::{AgentId, DecodeError, Hash, Identity, KeyError, Kind, Time};
use serde::{Deserialize, Serialize};

use crate::RawKey;
use crate::wire::{self, checked_payload};

/// Longest sealed rotation, in bytes.
pub const MAX_ROTATE: usize = 320;
/// Most rotations in one chain; a reader that missed more follows it in parts, since each advances its pin. Four take 0.8 ms.
pub const MAX_STEPS: usize = 4;
/// Longest chain, in bytes.
pub const MAX_SUCCESSION: usize = MAX_STEPS * 2 * (MAX_ROTATE + 4) + 8;

/// What a record says of the next key.
#[must_use]
pub fn commitment(next: &AgentId) -> Hash {
    Hash::of(next.as_bytes())
}

/// `new` takes the place of `old`. Sealed twice: by the old key and by the new.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
pub struct Rotate {
    /// Format version.
    #[n(0)]
    pub version: Version<1>,
    /// The key that ends.
    #[n(1)]
    pub old: RawKey,
    /// The key that begins.
    #[n(2)]
    pub new: RawKey,
    /// Commitment to the key after it.
    #[n(3)]
    pub next: Hash,
    /// When.
    #[cbor(n(4), with = "crate::wire::millis")]
    pub at: Time,
}

impl Rotate {
    const fn check(&self) -> Result<(), SuccessionError> {
        let _ = self;
        Ok(())
    }
}

checked_payload!(Rotate, MAX_ROTATE - (MAX_OVERHEAD - 9));

/// What a reader knows of a key, to follow it to its successors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// The key.
    pub key: AgentId,
    /// The first commitment seen to the key after it; none if no record was seen yet.
    pub next: Option<Hash>,
    /// Since when it is the key.
    pub since: Time,
}

/// Why a succession is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SuccessionError {
    /// Too long.
    #[error("a succession of {length} bytes, and at most {MAX_SUCCESSION} are read")]
    TooLong {
        /// Its length.
        length: usize,
    },
    /// Not a list of pairs.
    #[error("not a succession")]
    Form(#[source] DecodeError),
    /// None or too many.
    #[error("a succession has 1 to {MAX_STEPS} rotations, and this one {count}")]
    Steps {
        /// How many.
        count: usize,
    },
    /// One of the two signatures, or what they sign.
    #[error("the rotation does not verify as signed by the {by} key")]
    Envelope {
        /// `old` or `new`.
        by: &'static str,
        /// Why.
        source: EnvelopeError,
    },
    /// The two halves differ, or are signed by other keys than they say.
    #[error("the rotation is not signed by the two keys it names")]
    Signers,
    /// About another key.
    #[error("the rotation is of the key {old}, and the pinned one is {pinned}")]
    OtherKey {
        /// The key it ends.
        old: RawKey,
        /// The pinned key.
        pinned: AgentId,
    },
    /// No commitment of the pinned key is known.
    #[error(
        "{pinned} was pinned before any record of it was seen, so that no successor can be told from a thief's: confirm the new key with its owner and pin it"
    )]
    NoCommitment {
        /// The pinned key.
        pinned: AgentId,
    },
    /// Not the key that was committed to.
    #[error(
        "{new} is not the key that {pinned} committed to: whoever signed this may have stolen the key"
    )]
    NotCommitted {
        /// The key it begins.
        new: RawKey,
        /// The pinned key.
        pinned: AgentId,
    },
    /// The new key is no proper key.
    #[error("the new key is not a proper key")]
    Key(#[source] KeyError),
    /// Before the pin, or from the future.
    #[error("the rotation is of {at}; the key before is of {since}, and here it is {now}")]
    Time {
        /// When it says it was.
        at: Time,
        /// Since when the key before counts.
        since: Time,
        /// The time here.
        now: Time,
    },
}

/// Rotations one after the other, as they travel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Succession {
    steps: Vec<[Vec<u8>; 2]>,
}

impl Succession {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the passage from `old` to `new`; `next` is [`commitment`] of the key after. `new` must be the key that `old` committed to.
    #[must_use]
    pub fn rotate(mut self, old: &Identity, new: &Identity, next: Hash, at: Time) -> Self {
        let (from, to, at) = (old.id().into(), new.id().into(), wire::whole_millis(at));
        let rotate = Rotate { version: Version, old: from, new: to, next, at };
        self.steps.push([old, new].map(|identity| envelope::seal(Kind::Rotate, &rotate, identity)));
        self
    }

    /// This succession and then the other: the passages of one agent, kept one by one. Whether they fit is for [`follow`](Self::follow) to say.
    #[must_use]
    pub fn then(mut self, other: Self) -> Self {
        self.steps.extend(other.steps);
        self
    }

    /// What leads on from `key`; none if no rotation here is said to be of it.
    #[must_use]
    pub fn since(&self, key: &AgentId) -> Option<Self> {
        let of_key = |step: &[Vec<u8>; 2]| {
            let [by_old, _] = step;
            wire::claimed_signer(by_old).is_some_and(|signer| signer == *key)
        };
        let at = self.steps.iter().position(of_key)?;
        Some(Self { steps: self.steps.get(at..)?.to_vec() })
    }

    /// The key that the first rotation is said to end, and the one it is said to begin. Nothing is verified.
    #[must_use]
    pub fn begins_with(&self) -> Option<(RawKey, RawKey)> {
        let [by_old, by_new] = self.steps.first()?;
        Some((wire::claimed_signer(by_old)?, wire::claimed_signer(by_new)?))
    }

    /// The key that the last rotation is said to begin; none if there is no rotation or nothing can be read. Nothing is verified.
    #[must_use]
    pub fn ends_at(&self) -> Option<RawKey> {
        let [_, by_new] = self.steps.last()?;
        wire::claimed_signer(by_new)
    }

    /// How many rotations.
    #[must_use]
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Its bytes: a CBOR array of byte strings, two for each rotation. Of more than [`MAX_STEPS`], the first.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let halves = self.steps.iter().take(MAX_STEPS).flatten();
        canonical::encode_minicbor(&Wire(halves.map(|half| half.clone().into()).collect()))
    }

    /// The succession in these bytes. Nothing is verified.
    ///
    /// # Errors
    /// [`SuccessionError::TooLong`], [`SuccessionError::Form`], [`SuccessionError::Steps`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SuccessionError> {
        if bytes.len() > MAX_SUCCESSION {
            return Err(SuccessionError::TooLong { length: bytes.len() });
        }
        let wire: Wire = canonical::decode_minicbor(bytes).map_err(SuccessionError::Form)?;
        let count = wire.0.len() / 2;
        let mut steps = Vec::with_capacity(count);
        let mut halves = wire.0.into_iter().map(Vec::from);
        while let Some(old) = halves.next() {
            let new = halves.next().ok_or(SuccessionError::Steps { count })?;
            steps.push([old, new]);
        }
        if (1..=MAX_STEPS).contains(&count) {
            Ok(Self { steps })
        } else {
            Err(SuccessionError::Steps { count })
        }
    }

    /// The pin after following the rotations from `pin`. Those before it are passed over.
    ///
    /// # Errors
    /// The first [`SuccessionError`]; nothing may be concluded then.
    pub fn follow(&self, pin: &Pin, now: Time) -> Result<Pin, SuccessionError> {
        let mut pin = *pin;
        let mut followed = 0;
        for [by_old, by_new] in &self.steps {
            if followed == 0 && wire::claimed_signer(by_old).is_some_and(|signer| signer != pin.key)
            {
                continue;
            }
            pin = step(&pin, by_old, by_new, now)?;
            followed += 1;
        }
        match (followed, self.steps.first()) {
            (0, Some([by_old, _])) => {
                let old = wire::claimed_signer(by_old).unwrap_or(RawKey([0; 32]));
                Err(SuccessionError::OtherKey { old, pinned: pin.key })
            }
            (0, None) => Err(SuccessionError::Steps { count: 0 }),
            _ => Ok(pin),
        }
    }
}

/// One rotation: the commitment is looked at first, since it costs nothing.
fn step(pin: &Pin, by_old: &[u8], by_new: &[u8], now: Time) -> Result<Pin, SuccessionError> {
    let failed = |by| move |source| SuccessionError::Envelope { by, source };
    let old: Opened<Rotate> = envelope::open_expecting(Kind::Rotate, by_old, MAX_ROTATE, &pin.key)
        .map_err(failed("old"))?;
    let rotate = &old.payload;
    if rotate.old != pin.key {
        return Err(SuccessionError::OtherKey { old: rotate.old, pinned: pin.key });
    }
    let committed = pin.next.ok_or(SuccessionError::NoCommitment { pinned: pin.key })?;
    if Hash::of(rotate.new.as_bytes()) != committed {
        return Err(SuccessionError::NotCommitted { new: rotate.new, pinned: pin.key });
    }
    let key = rotate.new.intake().map_err(SuccessionError::Key)?;
    let new: Opened<Rotate> =
        envelope::open_expecting(Kind::Rotate, by_new, MAX_ROTATE, &key).map_err(failed("new"))?;
    if old.signer != pin.key || new.signer != key || new.payload != *rotate {
        return Err(SuccessionError::Signers);
    }
    if rotate.at.saturating_since(now) > CLOCK_SKEW || rotate.at + CLOCK_SKEW < pin.since {
        return Err(SuccessionError::Time { at: rotate.at, since: pin.since, now });
    }
    Ok(Pin { key, next: Some(rotate.next), since: rotate.at })
}

impl Pin {
    /// A key as it was first met: with the commitment of its record, if that was seen.
    #[must_use]
    pub const fn new(key: AgentId, next: Option<Hash>, since: Time) -> Self {
        Self { key, next, since }
    }

    /// Takes note of a record of the pinned key. Returns whether its commitment is the known one: another one is no reason to believe it, and a
    /// reason to ask who has the key.
    pub fn saw_record(&mut self, next: Hash) -> bool {
        *self.next.get_or_insert(next) == next
    }
}

/// The halves as they travel.
#[derive(minicbor::Encode, minicbor::Decode)]
#[cbor(transparent)]
struct Wire(#[n(0)] Vec<minicbor::bytes::ByteVec>);
