//! Keys as strangers write them.

use std::fmt;
use std::str::FromStr;

use comity_core::{AgentId, AgentIdTextError, KeyError, text};

/// 32 bytes that are said to be a key. They are compared with keys that passed intake, and nothing is verified with them.
///
/// Intake takes some 70 µs, and a statement of 8 KiB can name two hundred keys: it is paid for the keys that matter, when they do.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RawKey(pub [u8; 32]);

impl RawKey {
    /// The key, if it passes intake.
    ///
    /// # Errors
    /// [`KeyError`] names the rule that is broken.
    pub fn intake(&self) -> Result<AgentId, KeyError> {
        AgentId::from_bytes(&self.0)
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<AgentId> for RawKey {
    fn from(id: AgentId) -> Self {
        Self(*id.as_bytes())
    }
}

impl PartialEq<AgentId> for RawKey {
    fn eq(&self, other: &AgentId) -> bool {
        self.0 == *other.as_bytes()
    }
}

impl fmt::Display for RawKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&text::zbase32_encode(&self.0))
    }
}

impl fmt::Debug for RawKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RawKey({self})")
    }
}

impl FromStr for RawKey {
    type Err = AgentIdTextError;

    /// Reads every text form of a key, and applies the intake rules: a person wrote it, once.
    fn from_str(text: &str) -> Result<Self, AgentIdTextError> {
        text.parse::<AgentId>().map(Self::from)
    }
}

impl serde::Serialize for RawKey {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for RawKey {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str> as serde::Deserialize>::deserialize(deserializer)?;
        text::zbase32_decode(&text).map(Self).map_err(serde::de::Error::custom)
    }
}

impl<C> minicbor::Encode<C> for RawKey {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.bytes(&self.0)?.ok()
    }
}

impl<'b, C> minicbor::Decode<'b, C> for RawKey {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        let at = d.position();
        <[u8; 32]>::try_from(d.bytes()?)
            .map(Self)
            .map_err(|_| minicbor::decode::Error::message("a key has 32 bytes").at(at))
    }
}
