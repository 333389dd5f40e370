//! Keys and ciphers of the tunnel: X25519, two ways to derive the AES key, sealing and opening of packets.

use aes_gcm::aead::{AeadInOut as _, KeyInit as _};
use aes_gcm::{Aes256Gcm, Key, Tag};
use curve25519_dalek::montgomery::MontgomeryPoint;
use hkdf::Hkdf;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::address::NodeId;
use crate::frame::{Nonce, SEALED, SEALED_HEADER_BYTES, Sealed, TAG_BYTES};

/// The two wires in use. Nothing announces which one a peer speaks: what opens its first sealed frame tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dialect {
    /// Releases before 1.6: a plain hash as key derivation, no associated data.
    A,
    /// Releases from 1.6: HKDF, and the sender's node id as associated data.
    B,
}

impl Dialect {
    /// `A` or `B`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::B => "B",
        }
    }
}

const TUNNEL_LABEL: &[u8] = b"pilot-tunnel-v1";

/// The AES-256 key that a dialect derives from an X25519 agreement for the tunnel.
#[must_use]
pub fn tunnel_key(dialect: Dialect, shared: &[u8; 32]) -> Zeroizing<[u8; 32]> {
    derive(dialect, TUNNEL_LABEL, shared)
}

fn derive(dialect: Dialect, label: &[u8], shared: &[u8; 32]) -> Zeroizing<[u8; 32]> {
    let mut key = Zeroizing::new([0; 32]);
    match dialect {
        Dialect::A => {
            let mut hash = Sha256::new();
            hash.update(label);
            hash.update(b":");
            hash.update(shared);
            key.copy_from_slice(&hash.finalize());
        }
        Dialect::B => {
            Hkdf::<Sha256>::new(None, shared)
                .expand(label, &mut *key)
                .expect("32 bytes are one block of HKDF-SHA256");
        }
    }
    key
}

/// Our half of an X25519 exchange.
pub struct ExchangeKey {
    secret: Zeroizing<[u8; 32]>,
    public: [u8; 32],
}

impl std::fmt::Debug for ExchangeKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ExchangeKey").finish_non_exhaustive()
    }
}

impl ExchangeKey {
    /// From 32 random bytes, clamped as RFC 7748 says.
    #[must_use]
    pub fn from_secret(secret: [u8; 32]) -> Self {
        let public = MontgomeryPoint::mul_base_clamped(secret).to_bytes();
        Self { secret: Zeroizing::new(secret), public }
    }

    /// What goes on the wire.
    #[must_use]
    pub const fn public(&self) -> &[u8; 32] {
        &self.public
    }

    /// The shared secret with a peer; `None` for keys of small order, which would make it known to everybody.
    #[must_use]
    pub fn agree(&self, peer: &[u8; 32]) -> Option<Zeroizing<[u8; 32]>> {
        let shared = Zeroizing::new(MontgomeryPoint(*peer).mul_clamped(*self.secret).to_bytes());
        (*shared != [0; 32]).then_some(shared)
    }
}

/// One dialect's cipher for one pair of exchange keys; both directions share it and are kept apart by nonce prefixes.
pub struct Cipher {
    aead: Aes256Gcm,
    dialect: Dialect,
}

impl std::fmt::Debug for Cipher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cipher").field("dialect", &self.dialect).finish_non_exhaustive()
    }
}

impl Cipher {
    /// From an agreement.
    #[must_use]
    pub fn new(dialect: Dialect, shared: &[u8; 32]) -> Self {
        let key = tunnel_key(dialect, shared);
        Self { aead: Aes256Gcm::new(&Key::<Aes256Gcm>::from(*key)), dialect }
    }

    /// The dialect it speaks.
    #[must_use]
    pub const fn dialect(&self) -> Dialect {
        self.dialect
    }

    fn associated(&self, node: &[u8; 4]) -> ([u8; 4], usize) {
        (*node, if self.dialect == Dialect::B { 4 } else { 0 })
    }

    /// Appends one sealed frame from `node` to `out`; `packet` appends the plaintext.
    pub fn seal(
        &self,
        node: NodeId,
        nonce: Nonce,
        out: &mut Vec<u8>,
        packet: impl FnOnce(&mut Vec<u8>),
    ) {
        let node = node.to_be_bytes();
        out.extend_from_slice(&SEALED);
        out.extend_from_slice(&node);
        out.extend_from_slice(&nonce.to_bytes());
        let body = out.len();
        packet(out);
        let (associated, length) = self.associated(&node);
        let tag = self
            .aead
            .encrypt_inout_detached(
                &nonce.to_bytes().into(),
                &associated[..length],
                (&mut out[body..]).into(),
            )
            .expect("a packet is far below the limit of AES-GCM (64 GiB)");
        out.extend_from_slice(&tag);
    }

    /// Opens a sealed frame: the packet's bytes in `plain`, which is emptied before. False, with nothing in `plain`, when the tag does not fit.
    pub fn open(&self, sealed: &Sealed<'_>, plain: &mut Vec<u8>) -> bool {
        plain.clear();
        let Some(split) = sealed.ciphertext.len().checked_sub(TAG_BYTES) else { return false };
        let (body, tag) = sealed.ciphertext.split_at(split);
        let Ok(tag) = <[u8; TAG_BYTES]>::try_from(tag) else { return false };
        plain.extend_from_slice(body);
        let (associated, length) = self.associated(&sealed.node.to_be_bytes());
        let opened = self.aead.decrypt_inout_detached(
            &sealed.nonce.to_bytes().into(),
            &associated[..length],
            plain.as_mut_slice().into(),
            &Tag::from(tag),
        );
        if opened.is_err() {
            plain.clear();
        }
        opened.is_ok()
    }
}

/// What a sealed frame costs on top of its packet, in bytes.
pub const SEALED_OVERHEAD_BYTES: usize = SEALED_HEADER_BYTES + TAG_BYTES;
