//! How well a claim to a capability is supported.

use std::fmt;
use std::str::FromStr;

/// How well it is known that an agent can do what it says. Each level names who would have to lie, or be fooled, for it to be wrong.
///
/// Source: TRUST.md section 2.3.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    minicbor::Encode,
    minicbor::Decode,
    serde::Serialize,
    serde::Deserialize,
)]
#[cbor(index_only)]
pub enum Level {
    /// The agent says so itself.
    #[default]
    #[n(0)]
    L0,
    /// An agent that the reader trusts says so.
    #[n(1)]
    L1,
    /// The reader's own receipts say so: enough calls acknowledged, with canaries passed.
    #[n(2)]
    L2,
    /// Evidence about how the agent runs was appraised, and excludes the attackers that the reader demands.
    #[n(3)]
    L3,
    /// Independent agents gave the same answers, lately.
    #[n(4)]
    L4,
}

impl Level {
    /// Every level, lowest first.
    pub const ALL: [Self; 5] = [Self::L0, Self::L1, Self::L2, Self::L3, Self::L4];

    /// `L0` to `L4`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::L0 => "L0",
            Self::L1 => "L1",
            Self::L2 => "L2",
            Self::L3 => "L3",
            Self::L4 => "L4",
        }
    }

    /// What it takes to reach it.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::L0 => "self-said",
            Self::L1 => "endorsed by a key you trust",
            Self::L2 => "proved by acknowledged calls and canaries",
            Self::L3 => "attested by appraised evidence",
            Self::L4 => "verified by a quorum",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The text names no level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a level: write L0 (self-said), L1 (endorsed), L2 (proved), L3 (attested) or L4 (quorum)"
)]
pub struct LevelTextError;

impl FromStr for Level {
    type Err = LevelTextError;

    fn from_str(text: &str) -> Result<Self, LevelTextError> {
        Self::ALL.into_iter().find(|level| level.as_str() == text).ok_or(LevelTextError)
    }
}
