//! Private groups: capabilities that only those who share a secret can find, kept by custodians who can read nothing of them.
//!
//! From the secret come, by BLAKE3 key derivation with a context each:
//!
//! * **Shards.** [`GroupSecret::shard_label`] blinds a canonical label (`class/finance`) to `veiled/` and a keyed hash. Members compute
//!   the same label for the same words and so meet at the same custodians; nobody else can tell what a label stands for.
//! * **Pseudonyms.** [`GroupSecret::pseudonym`] gives each member a signing key that only it can derive. Custodians apply to it what they
//!   apply to every publisher - newest wins, expiry, quotas, the network's mint requirement - without learning whose it is.
//! * **Membership.** [`GroupSecret::membership`] proves it to another member within one session.
//! * **Sealing.** A [`Veiled`] item holds one signed [`Digest`] in XChaCha20-Poly1305, padded to one length, under one label. The cipher
//!   authenticates label, slot, sequence number, times and pseudonym beside the text, so that nothing of an item can be moved to another.
//!
//! A custodian cannot evaluate a query on what it cannot read: it returns the items of a shard, and the asker opens and evaluates them.
//!
//! What a custodian does see: that somebody with a pseudonym keeps so many items of one length under unreadable labels, how often they are
//! renewed, and from which session they came. Whoever holds the secret can read all of the group and publish in it, under a
//! key of its own; a member cannot speak in another's name, because the digest inside is signed by the agent it is about.

use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use comity_core::canonical::{self, Canonical, DecodeError, Version};
use comity_core::envelope::{self, EnvelopeError, Kind, Opened};
use comity_core::text::hex_encode;
use comity_core::{AgentId, Hash, Identity, Position, Time};
use zeroize::Zeroizing;

use super::RecordError;
use super::digest::{Digest, MAX_DIGEST};
use super::times::{BEAT_LIFE, check_times};
use crate::wire;

/// Longest sealed veiled item, in bytes. All are within a few bytes of it.
pub const MAX_VEILED: usize = 784;
/// Hexadecimal characters of a group's fingerprint.
const FINGERPRINT_CHARS: usize = 16;
/// First part of the label of every shard of a private group.
pub const VEILED_PREFIX: &str = "veiled/";

/// Bytes of an item's text before it is encrypted: a length, a sealed digest, zeros.
const PADDED: usize = 2 + MAX_DIGEST;
const NONCE: usize = 24;
const TAG: usize = 16;
/// Bytes of the encrypted part: nonce, text, tag.
const SEALED: usize = NONCE + PADDED + TAG;

/// Derivation contexts. Changing one makes another network of private groups.
const LABEL_CONTEXT: &str = "comity/private-group/label/v1";
const SLOT_CONTEXT: &str = "comity/private-group/slot/v1";
const CIPHER_CONTEXT: &str = "comity/private-group/cipher/v1";
const NONCE_CONTEXT: &str = "comity/private-group/nonce/v1";
const MEMBER_CONTEXT: &str = "comity/private-group/member/v1";
const ID_CONTEXT: &str = "comity/private-group/id/v1";
const PSEUDONYM_CONTEXT: &str = "comity/private-group/pseudonym/v1";

/// What the members of a private group share: 32 random bytes.
#[derive(Clone)]
pub struct GroupSecret(Zeroizing<[u8; 32]>);

impl std::fmt::Debug for GroupSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("GroupSecret(..)")
    }
}

/// Why a veiled item cannot be read with a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UnveilError {
    /// It is of another group, or was altered.
    #[error("this secret does not open it: it is of another group, or somebody altered it")]
    Sealed,
    /// What is inside is not a signed digest that is valid now.
    #[error("the digest inside is refused")]
    Digest(#[source] RecordError),
    /// What is inside does not belong where the item is kept.
    #[error("the digest inside belongs to another item than the one around it")]
    Misplaced,
}

impl GroupSecret {
    /// The secret with these bytes, which must be random.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes, to be kept as a key is kept.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The label under which members keep what belongs to the group with this canonical label.
    #[must_use]
    pub fn shard_label(&self, label: &str) -> String {
        veiled_label(&self.blinded(label))
    }

    /// A short name of the secret that gives nothing of it away, so that members can see whether they are in the same group.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let mut hex = hex_encode(&self.key(ID_CONTEXT));
        hex.truncate(FINGERPRINT_CHARS);
        hex
    }

    /// What `prover` shows `verifier` to prove that it is a member: a keyed hash (BLAKE3) over the TLS exporter of their session and
    /// both keys. Of no use in another session, to another verifier, or to anybody else; to one without the secret it is random.
    #[must_use]
    pub fn membership(&self, session: &Hash, prover: &AgentId, verifier: &AgentId) -> Hash {
        let mut hasher = blake3::Hasher::new_keyed(&self.key(MEMBER_CONTEXT));
        hasher.update(&session.0).update(prover.as_bytes()).update(verifier.as_bytes());
        Hash(*hasher.finalize().as_bytes())
    }

    /// Whether `shown` is that proof. Takes the same time whatever is wrong with it.
    #[must_use]
    pub fn is_membership(
        &self,
        shown: &Hash,
        session: &Hash,
        prover: &AgentId,
        verifier: &AgentId,
    ) -> bool {
        let proof = self.membership(session, prover, verifier);
        // blake3::Hash compares in constant time.
        blake3::Hash::from_bytes(proof.0) == blake3::Hash::from_bytes(shown.0)
    }

    /// The key that the agent signs veiled items with: the first of a series only it can compute that meets the network's mint requirement.
    ///
    /// Costs as much as minting: about 2^`mint_bits` derivations of a place at 0.7 ms each.
    #[must_use]
    pub fn pseudonym(&self, agent: &Identity, mint_bits: u32) -> Identity {
        let mut material = Zeroizing::new([0; 72]);
        material[..32].copy_from_slice(&self.0[..]);
        material[32..64].copy_from_slice(&agent.secret_bytes()[..]);
        let mut attempt = 0_u64;
        loop {
            material[64..].copy_from_slice(&attempt.to_be_bytes());
            let secret = Zeroizing::new(blake3::derive_key(PSEUDONYM_CONTEXT, &material[..]));
            let pseudonym = Identity::from_secret_bytes(&secret);
            if Position::of(&pseudonym.id()).meets(mint_bits) {
                return pseudonym;
            }
            attempt += 1;
        }
    }

    /// Veils the digest of a capability of `agent` for the shard of `label`, under the pseudonym of `agent`.
    ///
    /// An item with a higher `seq` replaces the one before it. Items of one sequence number under different labels are different
    /// items: custodians can tell that they are of one pseudonym, not that they are about one capability.
    ///
    /// # Errors
    /// [`RecordError::Times`] when the times are none that a veiled item may have: it lives as long as a beat, because it is one too.
    pub fn veil(
        &self,
        digest: &Digest,
        agent: &Identity,
        pseudonym: &Identity,
        label: &str,
        seq: u64,
        issued: Time,
        expires: Time,
    ) -> Result<Vec<u8>, RecordError> {
        let (issued, expires) = (wire::whole_millis(issued), wire::whole_millis(expires));
        check_times(issued, expires, issued, BEAT_LIFE).map_err(RecordError::Times)?;
        let inside = digest.seal(agent);
        let length = u16::try_from(inside.len()).ok().filter(|_| inside.len() <= MAX_DIGEST);
        let length = length.ok_or(RecordError::Envelope(EnvelopeError::TooLong {
            length: inside.len(),
            max: MAX_DIGEST,
        }))?;
        let mut text = Zeroizing::new([0; PADDED]);
        text[..2].copy_from_slice(&length.to_be_bytes());
        text[2..2 + inside.len()].copy_from_slice(&inside);
        let label = self.blinded(label);
        let slot = self.slot(&label, &agent.id(), &digest.name);
        let mut veiled =
            Veiled { version: Version, seq, issued, expires, label, slot, sealed: Vec::new() };
        veiled.sealed = self.encrypt(&text, &veiled.around(&pseudonym.id()));
        Ok(envelope::seal(Kind::Veiled, &veiled, pseudonym))
    }

    /// The digest in an opened item, with the agent that signed it.
    ///
    /// # Errors
    /// [`UnveilError`] says why there is none.
    pub fn unveil(&self, item: &Opened<Veiled>, now: Time) -> Result<Opened<Digest>, UnveilError> {
        let veiled = &item.payload;
        let text = self.decrypt(&veiled.sealed, &veiled.around(&item.signer))?;
        let (length, rest) = text.split_first_chunk::<2>().ok_or(UnveilError::Sealed)?;
        let length = usize::from(u16::from_be_bytes(*length));
        let (inside, padding) = rest.split_at_checked(length).ok_or(UnveilError::Sealed)?;
        if padding.iter().any(|byte| *byte != 0) {
            return Err(UnveilError::Sealed);
        }
        let digest = Digest::open(inside, now).map_err(UnveilError::Digest)?;
        // A member that repeats another's digest would make the same capability appear more than once in a shard.
        if veiled.slot != self.slot(&veiled.label, &digest.signer, &digest.payload.name) {
            return Err(UnveilError::Misplaced);
        }
        Ok(digest)
    }

    /// Which item of a shard is the one about this capability: 64 bits that mean nothing to others.
    fn slot(&self, label: &Hash, agent: &AgentId, name: &str) -> u64 {
        let mut hasher = blake3::Hasher::new_keyed(&self.key(SLOT_CONTEXT));
        hasher.update(&label.0).update(agent.as_bytes()).update(name.as_bytes());
        let hash = hasher.finalize();
        let (first, _) = hash.as_bytes().split_first_chunk::<8>().expect("a hash has 32 bytes");
        u64::from_be_bytes(*first)
    }

    /// The nonce is a keyed hash of all that is encrypted and authenticated: it repeats only where everything does, so that no
    /// randomness is needed and none can fail.
    fn encrypt(&self, text: &[u8; PADDED], around: &[u8]) -> Vec<u8> {
        let mut hasher = blake3::Hasher::new_keyed(&self.key(NONCE_CONTEXT));
        hasher.update(around).update(text);
        let mut nonce = [0; NONCE];
        hasher.finalize_xof().fill(&mut nonce);
        let encrypted = self
            .cipher()
            .encrypt(&XNonce::from(nonce), Payload { msg: text, aad: around })
            .expect("the text is far shorter than the cipher's limit");
        [&nonce[..], &encrypted].concat()
    }

    fn decrypt(&self, sealed: &[u8], around: &[u8]) -> Result<Zeroizing<Vec<u8>>, UnveilError> {
        let (nonce, encrypted) = sealed.split_first_chunk::<NONCE>().ok_or(UnveilError::Sealed)?;
        self.cipher()
            .decrypt(&XNonce::from(*nonce), Payload { msg: encrypted, aad: around })
            .map(Zeroizing::new)
            .map_err(|_| UnveilError::Sealed)
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(&Key::from(*self.key(CIPHER_CONTEXT)))
    }

    fn blinded(&self, label: &str) -> Hash {
        Hash(*blake3::keyed_hash(&self.key(LABEL_CONTEXT), label.as_bytes()).as_bytes())
    }

    fn key(&self, context: &str) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(blake3::derive_key(context, &self.0[..]))
    }
}

/// An item of a private group as custodians see it.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
pub struct Veiled {
    #[n(0)]
    version: Version<1>,
    /// Of items of one pseudonym with one slot the highest wins.
    #[n(1)]
    pub seq: u64,
    /// When it was issued.
    #[cbor(n(2), with = "wire::millis")]
    pub issued: Time,
    /// When it ends, at most 2.5 h after `issued`: it is a sign of life too.
    #[cbor(n(3), with = "wire::millis")]
    pub expires: Time,
    /// The blinded label of the one shard it belongs to.
    #[n(4)]
    pub label: Hash,
    /// Which item of its pseudonym under this label.
    #[n(5)]
    pub slot: u64,
    /// Nonce, encrypted text, tag.
    #[cbor(n(6), with = "minicbor::bytes")]
    sealed: Vec<u8>,
}

impl Veiled {
    /// Opens a sealed item as a custodian does: size, signature, form and times. What is inside stays unread.
    ///
    /// # Errors
    /// [`RecordError`] says which of them failed.
    pub fn open(bytes: &[u8], now: Time) -> Result<Opened<Self>, RecordError> {
        let opened = envelope::open::<Self>(Kind::Veiled, bytes, MAX_VEILED)
            .map_err(RecordError::Envelope)?;
        let Self { issued, expires, .. } = opened.payload;
        check_times(issued, expires, now, BEAT_LIFE).map_err(RecordError::Times)?;
        Ok(opened)
    }

    /// The label of the shard it belongs to, as it travels.
    #[must_use]
    pub fn shard_label(&self) -> String {
        veiled_label(&self.label)
    }

    /// Whether it belongs to the group with this label: what a custodian asks before it stores it.
    #[must_use]
    pub fn admits(&self, label: &str) -> bool {
        self.shard_label() == label
    }

    /// What the cipher authenticates beside the text.
    fn around(&self, pseudonym: &AgentId) -> Vec<u8> {
        let numbers = [self.slot, self.seq, self.issued.as_millis(), self.expires.as_millis()];
        let mut around = [&self.label.0[..], pseudonym.as_bytes()].concat();
        around.extend(numbers.into_iter().flat_map(u64::to_be_bytes));
        around
    }
}

impl Canonical for Veiled {
    fn encode(&self) -> Vec<u8> {
        canonical::encode_minicbor(self)
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let veiled: Self = canonical::decode_minicbor(bytes)?;
        if veiled.sealed.len() == SEALED {
            Ok(veiled)
        } else {
            let reason =
                format!("the encrypted part has {} bytes, not {SEALED}", veiled.sealed.len());
            Err(DecodeError::Type { reason })
        }
    }
}

fn veiled_label(blinded: &Hash) -> String {
    format!("{VEILED_PREFIX}{}", hex_encode(&blinded.0))
}
