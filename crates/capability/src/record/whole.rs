//! The record: everything an agent declares.

use std::net::SocketAddr;

use comity_core::canonical::{self, Canonical, DecodeError, Version};
use comity_core::envelope::{self, Kind, MAX_OVERHEAD, Opened};
use comity_core::{AgentId, Hash, Identity, Time};
use serde_json::{Value as Json, json};

use super::capability::Capability;
use super::digest::Digest;
use super::times::{DIGEST_LIFE, check_times};
use super::{MAX_FREE_TEXT, MAX_TITLE, RecordError};
use crate::text;
use crate::wire;

/// Longest sealed record, in bytes.
pub const MAX_RECORD: usize = 8192;
/// Most capabilities of a record.
pub const MAX_CAPABILITIES: usize = 32;
/// Most addresses of a record or peer record.
pub const MAX_ADDRS: usize = 8;

/// An agent's declaration. The signer of its envelope is the agent.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
pub struct Record {
    #[n(0)]
    version: Version<1>,
    /// Sequence number: the highest valid one wins.
    #[n(1)]
    pub seq: u64,
    /// When it is issued.
    #[cbor(n(2), with = "wire::millis")]
    pub issued: Time,
    /// When it ends, at most 26 h after `issued`.
    #[cbor(n(3), with = "wire::millis")]
    pub expires: Time,
    /// BLAKE3 of the agent's next public key: only who knows that key can succeed this one.
    #[n(4)]
    pub next: Hash,
    /// The agent's name for people, up to 96 bytes.
    #[n(5)]
    pub name: String,
    /// What the agent says of itself, up to 512 bytes. Data, never an instruction.
    #[n(6)]
    pub text: String,
    /// Where the agent is reachable directly, most useful first; at most eight.
    #[cbor(n(7), with = "wire::addrs")]
    pub endpoints: Vec<SocketAddr>,
    /// What the agent can do; at most 32, of different names.
    #[n(8)]
    pub capabilities: Vec<Capability>,
    /// The sealed record that this one replaces.
    #[n(9)]
    pub supersedes: Option<Hash>,
}

impl Record {
    /// A record that declares nothing yet. `next` is the BLAKE3 of the agent's next public key.
    pub fn new(seq: u64, issued: Time, expires: Time, next: Hash) -> Self {
        Self {
            version: Version,
            seq,
            issued: wire::whole_millis(issued),
            expires: wire::whole_millis(expires),
            next,
            name: String::new(),
            text: String::new(),
            endpoints: Vec::new(),
            capabilities: Vec::new(),
            supersedes: None,
        }
    }

    /// Checks every limit but the sealed size.
    ///
    /// # Errors
    /// The first [`RecordError`] found.
    pub fn check(&self) -> Result<(), RecordError> {
        text::check("the record's name", &self.name, MAX_TITLE).map_err(RecordError::Text)?;
        text::check("the record's text", &self.text, MAX_FREE_TEXT).map_err(RecordError::Text)?;
        for (what, count, limit) in [
            ("capabilities", self.capabilities.len(), MAX_CAPABILITIES),
            ("endpoints", self.endpoints.len(), MAX_ADDRS),
        ] {
            if count > limit {
                return Err(RecordError::TooMany { what, count, limit });
            }
        }
        for (index, capability) in self.capabilities.iter().enumerate() {
            capability.check().map_err(RecordError::Capability)?;
            if self.capabilities.iter().take(index).any(|other| other.name == capability.name) {
                return Err(RecordError::SameName { name: capability.name.clone() });
            }
        }
        Ok(())
    }

    /// Checks and signs it.
    ///
    /// # Errors
    /// As [`Record::check`], and [`RecordError::TooLarge`].
    pub fn seal(&self, identity: &Identity) -> Result<Vec<u8>, RecordError> {
        self.check()?;
        let sealed = envelope::seal(Kind::Record, self, identity);
        if sealed.len() > MAX_RECORD {
            return Err(RecordError::TooLarge { len: sealed.len(), limit: MAX_RECORD });
        }
        Ok(sealed)
    }

    /// Opens a sealed record: size, signature, limits and times.
    ///
    /// # Errors
    /// [`RecordError`] says which of them failed.
    pub fn open(bytes: &[u8], now: Time) -> Result<Opened<Self>, RecordError> {
        let opened = envelope::open::<Self>(Kind::Record, bytes, MAX_RECORD)
            .map_err(RecordError::Envelope)?;
        check_times(opened.payload.issued, opened.payload.expires, now, DIGEST_LIFE)
            .map_err(RecordError::Times)?;
        Ok(opened)
    }

    /// The digests of its public capabilities; `sealed` is the sealed form of this record.
    ///
    /// # Errors
    /// As [`Digest::summarise`].
    pub fn digests(&self, sealed: &[u8]) -> Result<Vec<Digest>, RecordError> {
        let hash = Hash::of(sealed);
        let mut digests = Vec::new();
        for (ordinal, _) in (0u16..).zip(&self.capabilities) {
            match Digest::summarise(self, ordinal, hash) {
                Ok(digest) => digests.push(digest),
                Err(RecordError::Private { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(digests)
    }

    /// The JSON view, for people and the local API.
    pub fn to_json(&self, agent: &AgentId) -> Json {
        json!({
            "v": 1,
            "agent": agent.to_string(),
            "seq": self.seq,
            "issued": self.issued.rfc3339(),
            "expires": self.expires.rfc3339(),
            "next": self.next.to_string(),
            "supersedes": self.supersedes.map(|hash| hash.to_string()),
            "name": self.name,
            "text": self.text,
            "endpoints": self.endpoints.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "capabilities": self.capabilities.iter().map(Capability::to_json).collect::<Vec<_>>(),
        })
    }
}

impl Canonical for Record {
    fn encode(&self) -> Vec<u8> {
        canonical::encode_minicbor(self)
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        /// The envelope adds at least 132 bytes; with the most it can add, no valid record is refused here.
        const MAX_PAYLOAD: usize = MAX_RECORD - (MAX_OVERHEAD - 9);
        if bytes.len() > MAX_PAYLOAD {
            return Err(DecodeError::TooLong { length: bytes.len(), max: MAX_PAYLOAD });
        }
        let record: Self = canonical::decode_minicbor(bytes)?;
        record.check().map_err(|error| DecodeError::Type { reason: super::explain(&error) })?;
        record.capabilities.iter().try_for_each(Capability::check_decoded)?;
        Ok(record)
    }
}
