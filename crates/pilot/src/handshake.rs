//! The trust handshake's message: one JSON object on a fresh stream to port 444.

use ed25519_dalek::VerifyingKey;
use serde::{Deserialize, Serialize};

use crate::address::NodeId;
use crate::identity::{Identity, verify_text};

/// Bytes of a message that are read.
pub const MESSAGE_BYTES_MAX: usize = 8 << 10;
/// How old a message may be, in seconds.
pub const AGE_SECS_MAX: u64 = 300;
/// How far in the future a message may be, in seconds: clocks differ.
pub const AHEAD_SECS_MAX: u64 = 30;

/// What a message says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// The sender trusts and asks for the same.
    #[serde(rename = "handshake_request")]
    Request,
    /// The sender agrees.
    #[serde(rename = "handshake_accept")]
    Accept,
    /// The sender does not.
    #[serde(rename = "handshake_reject")]
    Reject,
    /// The sender does not any more.
    #[serde(rename = "handshake_revoke")]
    Revoke,
}

/// A message. All fields are always present on the wire, in this order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// What it says.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// Who says so; believed only where the tunnel authenticated the same node.
    pub node_id: NodeId,
    /// Its identity, base64; empty in refusals.
    #[serde(default)]
    pub public_key: String,
    /// Why, in a request.
    #[serde(default)]
    pub justification: String,
    /// Over [`signed_text`], base64; empty in refusals.
    #[serde(default)]
    pub signature: String,
    /// Why, in a refusal.
    #[serde(default)]
    pub reason: String,
    /// Seconds since the UNIX epoch.
    pub timestamp: u64,
}

/// What a request's and an acceptance's signature is over. It says neither which of the two nor when, so it proves only together with a
/// tunnel session of the same key.
#[must_use]
pub fn signed_text(from: NodeId, to: NodeId) -> String {
    format!("handshake:{from}:{to}")
}

/// Why bytes are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// Over [`MESSAGE_BYTES_MAX`].
    #[error("a handshake message has at most {MESSAGE_BYTES_MAX} bytes")]
    Long,
    /// Not the JSON object it should be.
    #[error("not a handshake message")]
    Json,
}

impl Message {
    /// A signed request or acceptance.
    #[must_use]
    pub fn signed(
        kind: Kind,
        from: NodeId,
        to: NodeId,
        justification: &str,
        unix: u64,
        identity: &Identity,
    ) -> Self {
        Self {
            kind,
            node_id: from,
            public_key: identity.public_text(),
            justification: justification.to_owned(),
            signature: identity.sign_text(&signed_text(from, to)),
            reason: String::new(),
            timestamp: unix,
        }
    }

    /// A refusal or withdrawal, unsigned as Pilot's are: the tunnel authenticates it.
    #[must_use]
    pub fn unsigned(kind: Kind, from: NodeId, reason: &str, unix: u64) -> Self {
        Self {
            kind,
            node_id: from,
            public_key: String::new(),
            justification: String::new(),
            signature: String::new(),
            reason: reason.to_owned(),
            timestamp: unix,
        }
    }

    /// Reads one.
    ///
    /// # Errors
    /// See [`MessageError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, MessageError> {
        if bytes.len() > MESSAGE_BYTES_MAX {
            return Err(MessageError::Long);
        }
        serde_json::from_slice(bytes).map_err(|_json| MessageError::Json)
    }

    /// The bytes of the wire.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a struct of texts and numbers is JSON")
    }

    /// Whether the signature is `key`'s, from this message's node to `to`.
    #[must_use]
    pub fn is_signed_by(&self, key: &VerifyingKey, to: NodeId) -> bool {
        verify_text(key, &signed_text(self.node_id, to), &self.signature)
    }
}
