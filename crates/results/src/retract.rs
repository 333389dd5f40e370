//! Taking answers back: a producer's signed word that what it said of a capability up to some moment no longer stands.

use std::collections::BTreeMap;

use comity_core::canonical::{Version, decode_minicbor, encode_minicbor};
use comity_core::envelope::{self, EnvelopeError, MAX_OVERHEAD};
use comity_core::receipt::Receipt;
use comity_core::{AgentId, Canonical, DecodeError, Hash, Identity, Kind, Time};

use crate::result::CLOCK_SKEW;
use crate::terms::TTL_MAX;

/// Longest sealed retraction, in bytes.
pub const MAX_RETRACT: usize = 80 + MAX_OVERHEAD;
/// Retractions remembered of one producer; past it, everything it said before the newest of them counts as taken back.
pub const PER_PRODUCER_MAX: usize = 256;
/// Producers whose retractions are remembered. A node keeps those of producers whose results it holds or uses, so strangers fill nothing.
pub const PRODUCERS_MAX: usize = 1024;

/// What is taken back.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, minicbor::Encode, minicbor::Decode,
)]
pub enum Target {
    /// Every answer of the capability with this descriptor.
    #[n(0)]
    Capability(#[n(0)] Hash),
    /// Every answer to the request with this hash.
    #[n(1)]
    Request(#[n(0)] Hash),
    /// The answer with this hash, whatever the question was.
    #[n(2)]
    Response(#[n(0)] Hash),
}

/// The statement; the signer of its envelope is the producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
pub struct Retract {
    /// Format version.
    #[n(0)]
    pub version: Version<1>,
    /// What.
    #[n(1)]
    pub target: Target,
    /// Answers given up to here are meant, in milliseconds since the UNIX epoch.
    #[n(2)]
    pub before_ms: u64,
}

impl Canonical for Retract {
    fn encode(&self) -> Vec<u8> {
        encode_minicbor(self)
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        decode_minicbor(bytes)
    }
}

impl Retract {
    /// Takes back what was answered up to `before`.
    #[must_use]
    pub const fn new(target: Target, before: Time) -> Self {
        Self { version: Version, target, before_ms: before.as_millis() }
    }

    /// Signs it.
    #[must_use]
    pub fn seal(&self, producer: &Identity) -> Vec<u8> {
        envelope::seal(Kind::Retract, self, producer)
    }
}

/// Why a retraction is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RetractError {
    /// The envelope or the payload in it.
    #[error("the retraction does not verify")]
    Envelope(#[source] EnvelopeError),
    /// It speaks of answers yet to come.
    #[error("the retraction is dated in the future; check the signer's clock")]
    Future,
}

/// Everything known to be taken back, bounded.
#[derive(Debug, Clone, Default)]
pub struct Retractions {
    producers: BTreeMap<AgentId, TakenBack>,
}

#[derive(Debug, Clone, Default)]
struct TakenBack {
    /// Up to when, by target.
    targets: BTreeMap<Target, u64>,
    /// Everything up to here, because there were too many to remember.
    all_before_ms: u64,
    newest_ms: u64,
}

impl Retractions {
    /// Nothing taken back.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Opens a sealed retraction and remembers it. Returns whose it is and what it says.
    ///
    /// # Errors
    /// [`RetractError`].
    pub fn insert(&mut self, sealed: &[u8], now: Time) -> Result<(AgentId, Retract), RetractError> {
        let opened = envelope::open::<Retract>(Kind::Retract, sealed, MAX_RETRACT)
            .map_err(RetractError::Envelope)?;
        let retract = opened.payload;
        if Time::from_millis(retract.before_ms) > now + CLOCK_SKEW {
            return Err(RetractError::Future);
        }
        if !self.producers.contains_key(&opened.signer) && self.producers.len() >= PRODUCERS_MAX {
            let oldest = self.producers.iter().min_by_key(|(_, taken)| taken.newest_ms);
            if let Some(oldest) = oldest.map(|(producer, _)| *producer) {
                self.producers.remove(&oldest);
            }
        }
        let taken = self.producers.entry(opened.signer).or_default();
        taken.newest_ms = taken.newest_ms.max(retract.before_ms);
        let before = taken.targets.entry(retract.target).or_default();
        *before = retract.before_ms.max(*before);
        if taken.targets.len() > PER_PRODUCER_MAX {
            // To forget one would bring a withdrawn answer back; to believe less is the safe side.
            taken.all_before_ms = taken.newest_ms;
            taken.targets.clear();
        }
        Ok((opened.signer, retract))
    }

    /// Whether the answer of this receipt was taken back by who gave it.
    #[must_use]
    pub fn covers(&self, receipt: &Receipt) -> bool {
        let Some(taken) = self.producers.get(&receipt.callee) else { return false };
        let targets = [
            Target::Capability(receipt.capability),
            Target::Request(receipt.request),
            Target::Response(receipt.response),
        ];
        let latest = targets.iter().filter_map(|target| taken.targets.get(target)).max();
        receipt.finished_ms <= latest.copied().unwrap_or(0).max(taken.all_before_ms)
    }

    /// Forgets what has no effect any more, because whatever it takes back has expired.
    pub fn forget_expired(&mut self, now: Time) {
        let oldest_ms = (now - TTL_MAX).as_millis();
        for taken in self.producers.values_mut() {
            taken.targets.retain(|_, before_ms| *before_ms >= oldest_ms);
        }
        self.producers.retain(|_, taken| taken.newest_ms >= oldest_ms);
    }

    /// How many producers took something back.
    #[must_use]
    pub fn len(&self) -> usize {
        self.producers.len()
    }

    /// Whether nothing was taken back.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.producers.is_empty()
    }
}
