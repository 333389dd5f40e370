//! Tunnel frames: what a UDP datagram between two nodes holds, directly or inside a beacon's relay message.

use ed25519_dalek::{Signature, SigningKey, VerifyingKey};

use crate::address::NodeId;

/// A packet in the clear. Read only where the operator asked for it.
pub const PLAIN: [u8; 4] = *b"PILT";
/// A packet sealed with AES-256-GCM.
pub const SEALED: [u8; 4] = *b"PILS";
/// An unauthenticated key exchange.
pub const EXCHANGE: [u8; 4] = *b"PILK";
/// A key exchange signed by the node's identity.
pub const SIGNED_EXCHANGE: [u8; 4] = *b"PILA";
/// Opens a hole in a NAT, carries nothing.
pub const PUNCH: [u8; 4] = *b"PILP";

/// Bytes of a sealed frame before its ciphertext: magic, sender, nonce.
pub const SEALED_HEADER_BYTES: usize = 20;
/// Bytes of the authentication tag behind the ciphertext.
pub const TAG_BYTES: usize = 16;
/// Bytes of a signed key exchange.
pub const SIGNED_EXCHANGE_BYTES: usize = 136;
/// Bytes of an unsigned key exchange.
pub const EXCHANGE_BYTES: usize = 40;

/// A frame as received, told apart by its first four bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// [`PLAIN`]: the packet.
    Plain(&'a [u8]),
    /// [`SEALED`].
    Sealed(Sealed<'a>),
    /// [`EXCHANGE`].
    Exchange {
        /// Who says so.
        node: NodeId,
        /// Its X25519 key.
        x25519: [u8; 32],
    },
    /// [`SIGNED_EXCHANGE`].
    SignedExchange(SignedExchange),
    /// [`PUNCH`].
    Punch,
}

/// The parts of a sealed frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sealed<'a> {
    /// The claimed sender, authenticated in dialect B only (it is the associated data there).
    pub node: NodeId,
    /// Four random bytes of the sender's session, then its counter from 1.
    pub nonce: Nonce,
    /// Ciphertext and tag.
    pub ciphertext: &'a [u8],
}

/// The twelve bytes of an AES-GCM nonce as Pilot divides them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Nonce {
    /// Drawn once for a session object.
    pub prefix: [u8; 4],
    /// 1 in the first frame.
    pub counter: u64,
}

impl Nonce {
    /// The wire form.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 12] {
        let [a, b, c, d] = self.prefix;
        let [e, f, g, h, i, j, k, l] = self.counter.to_be_bytes();
        [a, b, c, d, e, f, g, h, i, j, k, l]
    }
}

/// A signed key exchange (PILA).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignedExchange {
    /// Who says so.
    pub node: NodeId,
    /// The X25519 key of this exchange.
    pub x25519: [u8; 32],
    /// The identity that signed; it means something only when it is the key known for `node`.
    pub ed25519: [u8; 32],
    /// Over `auth`, the node and the X25519 key.
    pub signature: [u8; 64],
}

/// Why a datagram is no tunnel frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Too short for what its first bytes say it is.
    #[error("frame of {0} bytes is cut short")]
    Short(usize),
    /// The first four bytes are none of the known.
    #[error("frame begins with {0:02X?}, which is no Pilot frame")]
    Magic([u8; 4]),
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

impl<'a> Frame<'a> {
    /// Reads one frame.
    ///
    /// # Errors
    /// See [`FrameError`].
    pub fn decode(bytes: &'a [u8]) -> Result<Self, FrameError> {
        let short = FrameError::Short(bytes.len());
        let magic: [u8; 4] = array(bytes, 0).ok_or(short)?;
        match magic {
            PLAIN => Ok(Self::Plain(&bytes[4..])),
            PUNCH => Ok(Self::Punch),
            SEALED => {
                let node = u32::from_be_bytes(array(bytes, 4).ok_or(short)?);
                let prefix = array(bytes, 8).ok_or(short)?;
                let counter = u64::from_be_bytes(array(bytes, 12).ok_or(short)?);
                let ciphertext = bytes.get(SEALED_HEADER_BYTES..).ok_or(short)?;
                if ciphertext.len() < TAG_BYTES {
                    return Err(short);
                }
                Ok(Self::Sealed(Sealed { node, nonce: Nonce { prefix, counter }, ciphertext }))
            }
            EXCHANGE => Ok(Self::Exchange {
                node: u32::from_be_bytes(array(bytes, 4).ok_or(short)?),
                x25519: array(bytes, 8).ok_or(short)?,
            }),
            SIGNED_EXCHANGE => {
                // Anything behind the signature is ignored: a fork appends a trailer there.
                Ok(Self::SignedExchange(SignedExchange {
                    node: u32::from_be_bytes(array(bytes, 4).ok_or(short)?),
                    x25519: array(bytes, 8).ok_or(short)?,
                    ed25519: array(bytes, 40).ok_or(short)?,
                    signature: array(bytes, 72).ok_or(short)?,
                }))
            }
            other => Err(FrameError::Magic(other)),
        }
    }
}

impl SignedExchange {
    /// What the signature is over.
    #[must_use]
    pub fn signed_bytes(node: NodeId, x25519: &[u8; 32]) -> [u8; 40] {
        let mut out = [0; 40];
        out[..4].copy_from_slice(b"auth");
        out[4..8].copy_from_slice(&node.to_be_bytes());
        out[8..].copy_from_slice(x25519);
        out
    }

    /// Signs an exchange key with the node's identity.
    #[must_use]
    pub fn sign(node: NodeId, x25519: [u8; 32], identity: &SigningKey) -> Self {
        use ed25519_dalek::Signer as _;
        let signature = identity.sign(&Self::signed_bytes(node, &x25519)).to_bytes();
        Self { node, x25519, ed25519: identity.verifying_key().to_bytes(), signature }
    }

    /// Whether this is signed by `key`, the identity known for the node, and names it. Strict verification (no small-order keys).
    #[must_use]
    pub fn verify(&self, key: &VerifyingKey) -> bool {
        key.as_bytes() == &self.ed25519
            && key
                .verify_strict(
                    &Self::signed_bytes(self.node, &self.x25519),
                    &Signature::from_bytes(&self.signature),
                )
                .is_ok()
    }

    /// The frame.
    #[must_use]
    pub fn to_vec(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(SIGNED_EXCHANGE_BYTES);
        out.extend_from_slice(&SIGNED_EXCHANGE);
        out.extend_from_slice(&self.node.to_be_bytes());
        out.extend_from_slice(&self.x25519);
        out.extend_from_slice(&self.ed25519);
        out.extend_from_slice(&self.signature);
        out
    }
}

/// An unsigned exchange frame (PILK), which comity reads but never acts upon.
#[must_use]
pub fn exchange_frame(node: NodeId, x25519: &[u8; 32]) -> [u8; EXCHANGE_BYTES] {
    let mut out = [0; EXCHANGE_BYTES];
    out[..4].copy_from_slice(&EXCHANGE);
    out[4..8].copy_from_slice(&node.to_be_bytes());
    out[8..].copy_from_slice(x25519);
    out
}
