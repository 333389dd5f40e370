//! The small signed objects: sign of life, withdrawal, addresses.

use std::net::SocketAddr;

use comity_core::canonical::{self, Canonical, DecodeError, Version};
use comity_core::envelope::{self, Kind, Opened};
use comity_core::{AgentId, Identity, Time};

use super::RecordError;
use super::capability::check_name;
use super::times::{BEAT_LIFE, DIGEST_LIFE, check_times};
use super::whole::MAX_ADDRS;
use crate::wire;

/// Longest sealed beat, in bytes.
pub const MAX_BEAT: usize = 192;
/// Longest sealed tombstone, in bytes.
pub const MAX_TOMBSTONE: usize = 256;
/// Longest sealed peer record, in bytes.
pub const MAX_PEER: usize = 384;

/// How ready an agent is.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, minicbor::Encode, minicbor::Decode,
)]
#[cbor(index_only)]
pub enum Status {
    /// Answers at once.
    #[n(0)]
    Warm,
    /// Answers after a start.
    #[n(1)]
    Cold,
    /// Finishes what it has and takes nothing new.
    #[n(2)]
    Draining,
}

/// How busy an agent is.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, minicbor::Encode, minicbor::Decode,
)]
#[cbor(index_only)]
pub enum Load {
    /// Under a quarter of what it can do.
    #[n(0)]
    Idle,
    /// Under three quarters.
    #[n(1)]
    Normal,
    /// Nearly all it can do.
    #[n(2)]
    Busy,
    /// More than it can do: calls wait or are refused.
    #[n(3)]
    Overloaded,
}

/// A sign of life of an agent, for all its capabilities.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
pub struct Beat {
    #[n(0)]
    version: Version<1>,
    /// The sequence number of the record it speaks of; among beats of one record the later `issued` wins.
    #[n(1)]
    pub seq: u64,
    /// When it was issued.
    #[cbor(n(2), with = "wire::millis")]
    pub issued: Time,
    /// When it ends, at most 2.5 h after `issued`.
    #[cbor(n(3), with = "wire::millis")]
    pub expires: Time,
    /// How ready the agent is.
    #[n(4)]
    pub status: Status,
    /// How busy the agent is.
    #[n(5)]
    pub load: Load,
}

/// The withdrawal of a capability, or of all of an agent's. Kept until it expires, so that an older digest that
/// somebody replays stays refused.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
pub struct Tombstone {
    #[n(0)]
    version: Version<1>,
    /// Withdraws records and digests with this or a lower sequence number.
    #[n(1)]
    pub seq: u64,
    /// When it was issued.
    #[cbor(n(2), with = "wire::millis")]
    pub issued: Time,
    /// When it ends: not before what it withdraws.
    #[cbor(n(3), with = "wire::millis")]
    pub expires: Time,
    /// The capability it withdraws, or `None` for all.
    #[n(4)]
    pub capability: Option<String>,
}

/// Where an agent is reachable: the answer to a lookup of its overlay id.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
pub struct PeerRecord {
    #[n(0)]
    version: Version<1>,
    /// Sequence number: the highest valid one wins.
    #[n(1)]
    pub seq: u64,
    /// When it was issued.
    #[cbor(n(2), with = "wire::millis")]
    pub issued: Time,
    /// When it ends, at most 26 h after `issued`.
    #[cbor(n(3), with = "wire::millis")]
    pub expires: Time,
    /// Socket addresses, most useful first; at most eight.
    #[cbor(n(4), with = "wire::addrs")]
    pub addrs: Vec<SocketAddr>,
    /// Whether the agent's node routes and keeps custody for others.
    #[n(5)]
    pub server: bool,
    /// The key that took this one's place. A pointer and no more: who follows it has the passage from key to key proved. With it there are no
    /// addresses, since nobody answers under this key.
    #[cbor(n(6), with = "minicbor::bytes")]
    pub successor: Option<[u8; 32]>,
}

impl Beat {
    /// A beat; times are cut to whole milliseconds.
    pub fn new(seq: u64, issued: Time, expires: Time, status: Status, load: Load) -> Self {
        let (issued, expires) = (wire::whole_millis(issued), wire::whole_millis(expires));
        Self { version: Version, seq, issued, expires, status, load }
    }

    /// Signs it.
    pub fn seal(&self, identity: &Identity) -> Vec<u8> {
        envelope::seal(Kind::Beat, self, identity)
    }

    /// Opens a sealed beat: size, signature and times.
    ///
    /// # Errors
    /// [`RecordError`] says which of them failed.
    pub fn open(bytes: &[u8], now: Time) -> Result<Opened<Self>, RecordError> {
        let opened =
            envelope::open::<Self>(Kind::Beat, bytes, MAX_BEAT).map_err(RecordError::Envelope)?;
        check_times(opened.payload.issued, opened.payload.expires, now, BEAT_LIFE)
            .map_err(RecordError::Times)?;
        Ok(opened)
    }
}

comity_core::impl_canonical!(Beat);

impl Tombstone {
    /// A withdrawal; times are cut to whole milliseconds.
    ///
    /// # Errors
    /// [`RecordError::Capability`] for a name that is none.
    pub fn new(
        seq: u64,
        issued: Time,
        expires: Time,
        capability: Option<String>,
    ) -> Result<Self, RecordError> {
        if let Some(name) = &capability {
            check_name(name).map_err(RecordError::Capability)?;
        }
        let (issued, expires) = (wire::whole_millis(issued), wire::whole_millis(expires));
        Ok(Self { version: Version, seq, issued, expires, capability })
    }

    /// Whether it withdraws the digest of capability `name` with sequence number `seq` of the same agent.
    pub fn covers(&self, name: &str, seq: u64) -> bool {
        seq <= self.seq && self.capability.as_deref().is_none_or(|withdrawn| withdrawn == name)
    }

    /// Signs it.
    pub fn seal(&self, identity: &Identity) -> Vec<u8> {
        envelope::seal(Kind::Tombstone, self, identity)
    }

    /// Opens a sealed tombstone: size, signature, limits and times.
    ///
    /// # Errors
    /// [`RecordError`] says which of them failed.
    pub fn open(bytes: &[u8], now: Time) -> Result<Opened<Self>, RecordError> {
        let opened = envelope::open::<Self>(Kind::Tombstone, bytes, MAX_TOMBSTONE)
            .map_err(RecordError::Envelope)?;
        check_times(opened.payload.issued, opened.payload.expires, now, DIGEST_LIFE)
            .map_err(RecordError::Times)?;
        Ok(opened)
    }
}

impl Canonical for Tombstone {
    fn encode(&self) -> Vec<u8> {
        canonical::encode_minicbor(self)
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let tombstone: Self = canonical::decode_minicbor(bytes)?;
        if let Some(name) = &tombstone.capability {
            check_name(name).map_err(|error| DecodeError::Type { reason: error.to_string() })?;
        }
        Ok(tombstone)
    }
}

impl PeerRecord {
    /// A peer record of the first [`MAX_ADDRS`] addresses; times are cut to whole milliseconds.
    pub fn new(seq: u64, issued: Time, expires: Time, addrs: &[SocketAddr], server: bool) -> Self {
        let (issued, expires) = (wire::whole_millis(issued), wire::whole_millis(expires));
        // Scope ids and flow labels mean nothing elsewhere.
        let addrs = addrs
            .iter()
            .take(MAX_ADDRS)
            .map(|addr| SocketAddr::new(addr.ip(), addr.port()))
            .collect();
        Self { version: Version, seq, issued, expires, addrs, server, successor: None }
    }

    /// That another key took this one's place.
    #[must_use]
    pub fn succeeded(seq: u64, issued: Time, expires: Time, by: &AgentId) -> Self {
        let successor = Some(*by.as_bytes());
        Self { successor, ..Self::new(seq, issued, expires, &[], false) }
    }

    /// Signs it.
    pub fn seal(&self, identity: &Identity) -> Vec<u8> {
        envelope::seal(Kind::Peer, self, identity)
    }

    /// Opens a sealed peer record: size, signature, limits and times.
    ///
    /// # Errors
    /// [`RecordError`] says which of them failed.
    pub fn open(bytes: &[u8], now: Time) -> Result<Opened<Self>, RecordError> {
        let opened =
            envelope::open::<Self>(Kind::Peer, bytes, MAX_PEER).map_err(RecordError::Envelope)?;
        check_times(opened.payload.issued, opened.payload.expires, now, DIGEST_LIFE)
            .map_err(RecordError::Times)?;
        Ok(opened)
    }
}

impl Canonical for PeerRecord {
    fn encode(&self) -> Vec<u8> {
        canonical::encode_minicbor(self)
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let peer: Self = canonical::decode_minicbor(bytes)?;
        if peer.addrs.len() > MAX_ADDRS {
            return Err(DecodeError::TooLong { length: peer.addrs.len(), max: MAX_ADDRS });
        }
        if peer.successor.is_some() && (!peer.addrs.is_empty() || peer.server) {
            let reason = "a key that was succeeded has no addresses and serves nobody".to_owned();
            return Err(DecodeError::Type { reason });
        }
        Ok(peer)
    }
}
