//! Who is trusted, and how that came about: requests, approvals, withdrawals, and the keys that node ids were seen with.
//!
//! Trust holds when **both** sides said so: the user here (or a request the user made), and the peer with a signature under the key that
//! its tunnel session proved. What a registry says about a pair opens nothing.

use std::collections::BTreeMap;

use ed25519_dalek::VerifyingKey;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::address::NodeId;
use crate::handshake::{AGE_SECS_MAX, AHEAD_SECS_MAX, Kind, Message, MessageError};
use crate::identity::{Identity, key_text, parse_key};
use crate::registry::JUSTIFICATION_CHARS_MAX;

/// Requests that wait for the user.
pub const PENDING_MAX: usize = 256;
/// Own requests that wait for a peer.
pub const REQUESTED_MAX: usize = 1024;
/// Trusted peers.
pub const TRUSTED_MAX: usize = 65_536;
/// Node ids whose key is remembered.
pub const PINS_MAX: usize = 65_536;
/// Messages remembered against replay; they expire with [`AGE_SECS_MAX`].
pub const SEEN_MAX: usize = 4096;

/// A peer both sides agreed on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trusted {
    /// Its key, base64.
    pub public_key: String,
    /// Seconds since the UNIX epoch.
    pub approved_at: u64,
    /// Its signature over the handshake text.
    pub signature: String,
}

/// A request that waits for the user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// Its key, base64.
    pub public_key: String,
    /// Why the peer asks, as it says.
    pub justification: String,
    /// Seconds since the UNIX epoch.
    pub received_at: u64,
    /// Its signature over the handshake text; empty when the registry relayed the request, which proves nothing.
    pub signature: String,
}

/// What a received message changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// A request waits for the user.
    Waits,
    /// Both sides agreed; the answer, if any, is to be sent to the peer's port 444.
    Agreed(Option<Message>),
    /// The peer refused.
    Refused,
    /// The peer withdrew.
    Withdrawn,
    /// Nothing: a refusal of what was not asked, a withdrawal of what was not there.
    None,
}

/// Why a message or command had no effect.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// No handshake message.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// The node in the message is not the one whose key the tunnel proved.
    #[error("the message speaks for node {claimed}, the session is node {proven}'s")]
    Sender {
        /// In the message.
        claimed: NodeId,
        /// By the tunnel.
        proven: NodeId,
    },
    /// The key in the message is not the node's, or the signature does not verify under it.
    #[error("node {0}'s signature does not verify under its key")]
    Signature(NodeId),
    /// Too old, or from the future.
    #[error(
        "the message is {0} seconds off this clock; {AGE_SECS_MAX} behind and {AHEAD_SECS_MAX} ahead are allowed"
    )]
    Time(i64),
    /// Seen before.
    #[error("the message was received before")]
    Replayed,
    /// A list is full.
    #[error("{0} are as many as are kept; remove some")]
    Full(usize),
    /// An acceptance that nobody asked for.
    #[error("node {0} accepts a request that was not made")]
    NotRequested(NodeId),
    /// Nothing of the kind is there.
    #[error("there is no request of node {0} to answer")]
    NoRequest(NodeId),
    /// The request came through the registry and is not signed: the peer has to be asked directly.
    #[error(
        "the request of node {0} came without its signature; ask it for a handshake instead, which will then be mutual"
    )]
    Unsigned(NodeId),
    /// Another key than the one remembered.
    #[error(
        "node {0} comes with another key than before; if that is right, forget the old one first"
    )]
    KeyChanged(NodeId),
    /// The file is not what this wrote.
    #[error("the trust file cannot be read: {0}")]
    File(String),
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct File {
    trusted: BTreeMap<NodeId, Trusted>,
    pending: BTreeMap<NodeId, Pending>,
    requested: BTreeMap<NodeId, u64>,
    pins: BTreeMap<NodeId, String>,
}

/// The state; [`Trust::to_file_text`] makes it last.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    file: File,
    seen: BTreeMap<[u8; 32], u64>,
}

impl Trust {
    /// Reads [`Trust::to_file_text`].
    ///
    /// # Errors
    /// [`TrustError::File`].
    pub fn from_file_text(text: &str) -> Result<Self, TrustError> {
        let file: File =
            serde_json::from_str(text).map_err(|json| TrustError::File(json.to_string()))?;
        Ok(Self { file, seen: BTreeMap::new() })
    }

    /// As JSON.
    #[must_use]
    pub fn to_file_text(&self) -> String {
        serde_json::to_string_pretty(&self.file).expect("maps of texts and numbers are JSON")
    }

    /// Whether both sides agreed.
    #[must_use]
    pub fn is_trusted(&self, node: NodeId) -> bool {
        self.file.trusted.contains_key(&node)
    }

    /// Everybody both sides agreed on.
    pub fn trusted(&self) -> impl Iterator<Item = (NodeId, &Trusted)> {
        self.file.trusted.iter().map(|(node, trusted)| (*node, trusted))
    }

    /// Requests that wait for the user.
    pub fn pending(&self) -> impl Iterator<Item = (NodeId, &Pending)> {
        self.file.pending.iter().map(|(node, pending)| (*node, pending))
    }

    /// Own requests that wait for the peer, and since when (seconds since the UNIX epoch).
    pub fn requested(&self) -> impl Iterator<Item = (NodeId, u64)> {
        self.file.requested.iter().map(|(node, since)| (*node, *since))
    }

    /// The key a node id was first seen with.
    #[must_use]
    pub fn pinned(&self, node: NodeId) -> Option<VerifyingKey> {
        parse_key(self.file.pins.get(&node)?).ok()
    }

    /// Remembers the key of a node id; a registry that later says otherwise is not believed.
    ///
    /// # Errors
    /// [`TrustError::KeyChanged`]; [`TrustError::Full`] when no more are kept.
    pub fn pin(&mut self, node: NodeId, key: &VerifyingKey) -> Result<(), TrustError> {
        let text = key_text(key);
        match self.file.pins.get(&node) {
            Some(known) if *known == text => Ok(()),
            Some(_) => Err(TrustError::KeyChanged(node)),
            None if self.file.pins.len() >= PINS_MAX => Err(TrustError::Full(PINS_MAX)),
            None => {
                self.file.pins.insert(node, text);
                Ok(())
            }
        }
    }

    /// Forgets a node: its key, trust and requests.
    pub fn forget(&mut self, node: NodeId) {
        self.file.pins.remove(&node);
        self.file.trusted.remove(&node);
        self.file.pending.remove(&node);
        self.file.requested.remove(&node);
    }

    /// Asks a peer. When its own signed request waits here, that is agreement.
    ///
    /// # Errors
    /// [`TrustError::Full`].
    pub fn request(
        &mut self,
        unix: u64,
        me: NodeId,
        peer: NodeId,
        justification: &str,
        identity: &Identity,
    ) -> Result<Message, TrustError> {
        if self.file.pending.get(&peer).is_some_and(|pending| !pending.signature.is_empty()) {
            return self.approve(unix, me, peer, identity);
        }
        if self.file.requested.len() >= REQUESTED_MAX && !self.file.requested.contains_key(&peer) {
            return Err(TrustError::Full(REQUESTED_MAX));
        }
        self.file.requested.insert(peer, unix);
        let why: String = justification.chars().take(JUSTIFICATION_CHARS_MAX).collect();
        Ok(Message::signed(Kind::Request, me, peer, &why, unix, identity))
    }

    /// Agrees to a peer's request: the message to send it.
    ///
    /// # Errors
    /// [`TrustError::NoRequest`], [`TrustError::Unsigned`], [`TrustError::Full`].
    pub fn approve(
        &mut self,
        unix: u64,
        me: NodeId,
        peer: NodeId,
        identity: &Identity,
    ) -> Result<Message, TrustError> {
        let pending = self.file.pending.get(&peer).ok_or(TrustError::NoRequest(peer))?;
        if pending.signature.is_empty() {
            return Err(TrustError::Unsigned(peer));
        }
        let (public_key, signature) = (pending.public_key.clone(), pending.signature.clone());
        self.agree(unix, peer, public_key, signature)?;
        Ok(Message::signed(Kind::Accept, me, peer, "", unix, identity))
    }

    /// Refuses a peer's request: the message to send it.
    ///
    /// # Errors
    /// [`TrustError::NoRequest`].
    pub fn reject(
        &mut self,
        unix: u64,
        me: NodeId,
        peer: NodeId,
        reason: &str,
    ) -> Result<Message, TrustError> {
        self.file.pending.remove(&peer).ok_or(TrustError::NoRequest(peer))?;
        Ok(Message::unsigned(Kind::Reject, me, reason, unix))
    }

    /// Withdraws trust: the message to send the peer, `None` when there was none.
    pub fn revoke(&mut self, unix: u64, me: NodeId, peer: NodeId) -> Option<Message> {
        self.file.requested.remove(&peer);
        self.file.trusted.remove(&peer)?;
        Some(Message::unsigned(Kind::Revoke, me, "", unix))
    }

    /// Notes a request the registry relayed. It is shown to the user and opens nothing.
    ///
    /// # Errors
    /// [`TrustError::Full`].
    pub fn relayed(
        &mut self,
        unix: u64,
        peer: NodeId,
        justification: &str,
    ) -> Result<(), TrustError> {
        if self.is_trusted(peer) || self.file.pending.contains_key(&peer) {
            return Ok(());
        }
        if self.file.pending.len() >= PENDING_MAX {
            return Err(TrustError::Full(PENDING_MAX));
        }
        let pending = Pending {
            public_key: String::new(),
            justification: justification.chars().take(JUSTIFICATION_CHARS_MAX).collect(),
            received_at: unix,
            signature: String::new(),
        };
        self.file.pending.insert(peer, pending);
        Ok(())
    }

    /// Takes a message that arrived on port 444 in a session of node `proven`, whose key is `key`.
    ///
    /// # Errors
    /// See [`TrustError`]; nothing has changed then.
    pub fn receive(
        &mut self,
        unix: u64,
        me: NodeId,
        proven: NodeId,
        key: &VerifyingKey,
        bytes: &[u8],
        identity: &Identity,
    ) -> Result<Effect, TrustError> {
        let message = Message::decode(bytes)?;
        if message.node_id != proven {
            return Err(TrustError::Sender { claimed: message.node_id, proven });
        }
        let off = i64::try_from(unix).unwrap_or(i64::MAX)
            - i64::try_from(message.timestamp).unwrap_or(i64::MAX);
        if off > AGE_SECS_MAX.cast_signed() || -off > AHEAD_SECS_MAX.cast_signed() {
            return Err(TrustError::Time(off));
        }
        if matches!(message.kind, Kind::Request | Kind::Accept) {
            Self::check(me, key, &message)?;
        }
        self.note(unix, &message, bytes)?;
        match message.kind {
            Kind::Request => self.requested_by(unix, me, key, message, identity),
            Kind::Accept => self.accepted_by(unix, key, message),
            Kind::Reject => {
                let asked = self.file.requested.remove(&proven).is_some();
                Ok(if asked { Effect::Refused } else { Effect::None })
            }
            Kind::Revoke => {
                let held = self.file.trusted.remove(&proven).is_some();
                Ok(if held { Effect::Withdrawn } else { Effect::None })
            }
        }
    }

    /// Remembers a message until it is too old to be taken; a full memory refuses rather than forget.
    fn note(&mut self, unix: u64, message: &Message, bytes: &[u8]) -> Result<(), TrustError> {
        let digest: [u8; 32] = Sha256::digest(bytes).into();
        self.seen.retain(|_digest, until| *until >= unix);
        if self.seen.contains_key(&digest) {
            return Err(TrustError::Replayed);
        }
        if self.seen.len() >= SEEN_MAX {
            return Err(TrustError::Full(SEEN_MAX));
        }
        self.seen.insert(digest, message.timestamp.saturating_add(AGE_SECS_MAX));
        Ok(())
    }

    fn requested_by(
        &mut self,
        unix: u64,
        me: NodeId,
        key: &VerifyingKey,
        message: Message,
        identity: &Identity,
    ) -> Result<Effect, TrustError> {
        let peer = message.node_id;
        let answer = |unix| Message::signed(Kind::Accept, me, peer, "", unix, identity);
        if self.is_trusted(peer) || self.file.requested.contains_key(&peer) {
            self.agree(unix, peer, key_text(key), message.signature)?;
            return Ok(Effect::Agreed(Some(answer(unix))));
        }
        if self.file.pending.len() >= PENDING_MAX && !self.file.pending.contains_key(&peer) {
            return Err(TrustError::Full(PENDING_MAX));
        }
        let pending = Pending {
            public_key: key_text(key),
            justification: message.justification.chars().take(JUSTIFICATION_CHARS_MAX).collect(),
            received_at: unix,
            signature: message.signature,
        };
        self.file.pending.insert(peer, pending);
        Ok(Effect::Waits)
    }

    fn accepted_by(
        &mut self,
        unix: u64,
        key: &VerifyingKey,
        message: Message,
    ) -> Result<Effect, TrustError> {
        let peer = message.node_id;
        if self.is_trusted(peer) {
            return Ok(Effect::None);
        }
        if !self.file.requested.contains_key(&peer) {
            return Err(TrustError::NotRequested(peer));
        }
        self.agree(unix, peer, key_text(key), message.signature)?;
        Ok(Effect::Agreed(None))
    }

    fn check(me: NodeId, key: &VerifyingKey, message: &Message) -> Result<(), TrustError> {
        let signed = parse_key(&message.public_key).is_ok_and(|claimed| claimed == *key)
            && message.is_signed_by(key, me);
        if signed { Ok(()) } else { Err(TrustError::Signature(message.node_id)) }
    }

    fn agree(
        &mut self,
        unix: u64,
        peer: NodeId,
        public_key: String,
        signature: String,
    ) -> Result<(), TrustError> {
        if self.file.trusted.len() >= TRUSTED_MAX && !self.is_trusted(peer) {
            return Err(TrustError::Full(TRUSTED_MAX));
        }
        self.file.pending.remove(&peer);
        self.file.requested.remove(&peer);
        let trusted = Trusted { public_key, approved_at: unix, signature };
        self.file.trusted.entry(peer).or_insert(trusted);
        Ok(())
    }
}
