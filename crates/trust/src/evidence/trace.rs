//! Traces: committed now, disclosed later, whole or a step at a time.
//!
//! An agent that keeps a trace of its reasoning can be asked for it later, by whom it grants that. So that it cannot tell another story then,
//! it commits now, with one hash that reveals nothing: each step is hashed with a salt of its own, so that not even a guessed step can be confirmed
//! before it is disclosed.
//!
//! ```text
//! salt i = derive_key("comity/trace/salt/v1", secret ‖ i)        leaf i = derive_key("comity/trace/leaf/v1", salt i ‖ step i)
//! node   = derive_key("comity/trace/node/v1", left ‖ right)      root   = derive_key("comity/trace/root/v1", count ‖ top)
//! ```
//!
//! The tree is built level by level; a last node without a neighbour moves up as it is. A disclosed step comes with its salt and the neighbours on
//! its way to the top, at most ten of them, so that it says of the other steps only how many there are.
//!
//! It proves that the trace was not changed since, not that it is how the answer came about.

use comity_core::canonical;
use comity_core::{DecodeError, Hash, Time};
use zeroize::Zeroizing;

use super::{AppraisalError, Attackers, Claim, EvidenceVerifier, Fact, Presented};

/// Most steps of a trace.
pub const MAX_STEPS: usize = 1024;
/// Longest step, in bytes.
pub const MAX_STEP_BYTES: usize = 1 << 20;
const SALT: &str = "comity/trace/salt/v1";
const LEAF: &str = "comity/trace/leaf/v1";
const NODE: &str = "comity/trace/node/v1";
const ROOT: &str = "comity/trace/root/v1";
/// Most neighbours on the way from a leaf to the top: the binary logarithm of [`MAX_STEPS`].
const MAX_PATH: usize = 10;
/// Longest disclosure, in bytes: a step, its way to the top, and what stands around them.
pub const MAX_DISCLOSURE: usize = MAX_STEP_BYTES + MAX_PATH * 34 + 128;

/// A trace with its secret: what the agent keeps.
pub struct Trace {
    secret: Zeroizing<[u8; 32]>,
    steps: Vec<Vec<u8>>,
}

impl std::fmt::Debug for Trace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trace").field("steps", &self.steps.len()).finish_non_exhaustive()
    }
}

/// What the agent shows at once: the evidence of kind `trace`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
struct Commitment {
    #[n(0)]
    root: Hash,
    #[n(1)]
    steps: u32,
}

comity_core::impl_canonical!(Commitment);

/// One step of a committed trace, with what proves it.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
pub struct Disclosure {
    /// Its number, from 0.
    #[n(0)]
    pub index: u32,
    /// The step.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub step: Vec<u8>,
    /// Its salt.
    #[n(2)]
    pub salt: Hash,
    /// How many steps the trace has.
    #[n(3)]
    pub steps: u32,
    /// The neighbours on the way to the top, the leaf's own first.
    #[n(4)]
    pub path: Vec<Hash>,
}

comity_core::impl_canonical!(Disclosure);

/// Why a trace or a disclosure is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TraceError {
    /// Too many steps, or none.
    #[error("a trace has 1 to {MAX_STEPS} steps, and this one {count}: join some")]
    Steps {
        /// How many.
        count: usize,
    },
    /// A step is too long.
    #[error(
        "step {index} has {length} bytes, and a step has at most {MAX_STEP_BYTES}: commit to its hash instead"
    )]
    Step {
        /// Which.
        index: usize,
        /// Its length.
        length: usize,
    },
    /// There is no such step.
    #[error("the trace has no step {index}")]
    NoStep {
        /// Which.
        index: u32,
    },
    /// Not what was committed to.
    #[error("this is not what was committed to: the trace was changed afterwards")]
    Changed,
}

fn leaf(salt: &Hash, step: &[u8]) -> Hash {
    Hash::derive(LEAF, &[salt.as_bytes(), step])
}

fn node(left: &Hash, right: &Hash) -> Hash {
    Hash::derive(NODE, &[left.as_bytes(), right.as_bytes()])
}

fn root(count: u32, top: &Hash) -> Hash {
    Hash::derive(ROOT, &[&count.to_be_bytes(), top.as_bytes()])
}

/// The top of the tree over `level`, and the neighbours of the leaf at `place` on the way there.
fn climb(mut level: Vec<Hash>, mut place: usize) -> (Hash, Vec<Hash>) {
    let mut path = Vec::new();
    while level.len() > 1 {
        path.extend(level.get(place ^ 1).copied());
        let above = level.chunks(2).map(|pair| match pair {
            [left, right] => node(left, right),
            _ => pair[0],
        });
        level = above.collect();
        place /= 2;
    }
    (level.first().copied().unwrap_or(Hash([0; 32])), path)
}

impl Trace {
    /// A trace of these steps; `secret` is 32 random bytes, new for each trace.
    ///
    /// # Errors
    /// [`TraceError::Steps`] and [`TraceError::Step`].
    pub fn new(secret: [u8; 32], steps: Vec<Vec<u8>>) -> Result<Self, TraceError> {
        if !(1..=MAX_STEPS).contains(&steps.len()) {
            return Err(TraceError::Steps { count: steps.len() });
        }
        if let Some((index, step)) =
            steps.iter().enumerate().find(|(_, step)| step.len() > MAX_STEP_BYTES)
        {
            return Err(TraceError::Step { index, length: step.len() });
        }
        Ok(Self { secret: Zeroizing::new(secret), steps })
    }

    fn salt(&self, index: usize) -> Hash {
        let index = u32::try_from(index).unwrap_or(u32::MAX).to_be_bytes();
        Hash::derive(SALT, &[self.secret.as_slice(), &index])
    }

    fn leaves(&self) -> Vec<Hash> {
        self.steps.iter().enumerate().map(|(index, step)| leaf(&self.salt(index), step)).collect()
    }

    /// The root: what receipts and logs name.
    #[must_use]
    pub fn root(&self) -> Hash {
        root(self.count(), &climb(self.leaves(), 0).0)
    }

    /// How many steps it has.
    #[must_use]
    pub fn count(&self) -> u32 {
        u32::try_from(self.steps.len()).unwrap_or(u32::MAX)
    }

    /// The blob of evidence of kind `trace`.
    #[must_use]
    pub fn commitment(&self) -> Vec<u8> {
        canonical::encode_minicbor(&Commitment { root: self.root(), steps: self.count() })
    }

    /// One step, with what proves it, and nothing of the others.
    ///
    /// # Errors
    /// [`TraceError::NoStep`].
    pub fn disclose(&self, index: u32) -> Result<Disclosure, TraceError> {
        let place = usize::try_from(index).unwrap_or(usize::MAX);
        let step = self.steps.get(place).cloned().ok_or(TraceError::NoStep { index })?;
        let (_, path) = climb(self.leaves(), place);
        Ok(Disclosure { index, step, salt: self.salt(place), steps: self.count(), path })
    }
}

impl Disclosure {
    /// Whether this is the step that `committed` stands for.
    ///
    /// # Errors
    /// [`TraceError`] when it is not.
    pub fn verify(&self, committed: &Hash) -> Result<(), TraceError> {
        let count = usize::try_from(self.steps).unwrap_or(usize::MAX);
        if !(1..=MAX_STEPS).contains(&count) {
            return Err(TraceError::Steps { count });
        }
        if self.index >= self.steps {
            return Err(TraceError::NoStep { index: self.index });
        }
        let (mut place, mut width) = (self.index, self.steps);
        let mut at = leaf(&self.salt, &self.step);
        let mut path = self.path.iter();
        while width > 1 {
            // The last of an odd number has no neighbour and moves up as it is.
            if (place ^ 1) < width {
                let neighbour = path.next().ok_or(TraceError::Changed)?;
                at = if place % 2 == 0 { node(&at, neighbour) } else { node(neighbour, &at) };
            }
            (place, width) = (place / 2, width.div_ceil(2));
        }
        let holds = path.next().is_none() && root(self.steps, &at) == *committed;
        if holds { Ok(()) } else { Err(TraceError::Changed) }
    }

    /// The bytes that are handed over.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        canonical::encode_minicbor(self)
    }

    /// Reads a disclosure; its size is looked at first.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.len() > MAX_DISCLOSURE {
            return Err(DecodeError::TooLong { length: bytes.len(), max: MAX_DISCLOSURE });
        }
        canonical::decode_minicbor(bytes)
    }
}

/// Reads evidence of kind `trace`.
#[derive(Clone, Copy, Debug, Default)]
pub struct TraceCommitments;

impl EvidenceVerifier for TraceCommitments {
    fn kind(&self) -> &'static str {
        "trace"
    }

    fn appraise(&self, presented: &Presented, _: Time) -> Result<Vec<Fact>, AppraisalError> {
        let blob = &presented.evidence.blob;
        let commitment: Commitment = canonical::decode_minicbor(blob)
            .map_err(|error| AppraisalError::Malformed(error.to_string()))?;
        let steps = usize::try_from(commitment.steps).unwrap_or(usize::MAX);
        if !(1..=MAX_STEPS).contains(&steps) {
            return Err(AppraisalError::Malformed(TraceError::Steps { count: steps }.to_string()));
        }
        let claim = Claim::TraceCommitted { root: commitment.root, steps: commitment.steps };
        Ok(vec![Fact { claim, by: presented.agent.to_string(), excludes: Attackers::HINDSIGHT }])
    }
}
