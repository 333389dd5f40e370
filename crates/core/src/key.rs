//! Agent keys: the public half with its intake rules, the secret half, signing and verifying.

use std::cell::RefCell;
use std::fmt;
use std::str::FromStr;

use curve25519_dalek::edwards::CompressedEdwardsY;
use curve25519_dalek::traits::IsIdentity as _;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use rand_core::CryptoRng;
use zeroize::Zeroizing;

use crate::Position;
use crate::text::{self, Form, TextError};

/// Most mint bits any network may demand: 2^32 attempts are a month of one core, past any honest use.
pub const MAX_MINT_BITS: u32 = 32;

/// Keys remembered as having passed intake, on each thread: the few that one agent has to do with at a time.
const PASSED_LEN: usize = 64;

/// A key that passed intake, and its point once a signature under it was checked: finding the point is a tenth of that.
#[derive(Clone, Copy)]
struct Passed {
    bytes: [u8; 32],
    point: Option<VerifyingKey>,
}

thread_local! {
    /// By the low bits of the first byte. Whoever makes keys that share them makes others be checked anew, and nothing else.
    static PASSED: RefCell<[Option<Passed>; PASSED_LEN]> = const { RefCell::new([None; PASSED_LEN]) };
}

/// An agent: its Ed25519 public key, which passed intake.
///
/// *Intake* means canonical encoding, not of small order and free of torsion. Without the last, one secret has eight
/// public keys that all verify (`verify_strict` accepts each of them), so one agent would have eight names; without
/// the others, keys exist under which a signature holds for any message. The order of ids is that of their bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct AgentId([u8; 32]);

crate::place::by_number!(AgentId);

/// Why 32 bytes are refused as a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The bytes name no point of the curve.
    #[error("not an Ed25519 public key: the bytes are no point of the curve")]
    NotAPoint,
    /// The point has a second, shorter spelling; only that one is accepted.
    #[error("not a canonical Ed25519 public key: the same point has another encoding")]
    NotCanonical,
    /// A point of order 1, 2, 4 or 8: signatures under it hold for many messages.
    #[error("a weak Ed25519 public key (small order): make a new key")]
    SmallOrder,
    /// The point has a torsion component: it is an alias of another key.
    #[error("not a proper Ed25519 public key (it has a torsion component): make a new key")]
    Torsion,
}

/// The signature does not hold for this key and message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the signature does not hold for this key and message: the data was changed or somebody else signed it"
)]
pub struct SignatureError;

/// Why a text names no agent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AgentIdTextError {
    /// The text has the shape of none of the forms.
    #[error(
        "not a key: write it as 52 characters of z-base-32, 64 hex digits, did:key:z6Mk…, 12D3Koo…, bafz… or ….onion"
    )]
    UnknownForm,
    /// The text has the shape of a form and is not one.
    #[error("not a key in {} form", form.name())]
    Text {
        /// The form it looks like.
        form: Form,
        /// What is wrong.
        source: TextError,
    },
    /// The text spells 32 bytes that are refused as a key.
    #[error("the text is well-formed, the key in it is refused")]
    Key(#[source] KeyError),
}

/// Ordered and hashed as its bytes, so that collections can be searched by bytes that have not passed intake.
impl std::borrow::Borrow<[u8; 32]> for AgentId {
    fn borrow(&self) -> &[u8; 32] {
        &self.0
    }
}

/// Where a key is remembered.
fn place_of(bytes: &[u8; 32]) -> usize {
    usize::from(bytes[0]) % PASSED_LEN
}

impl AgentId {
    /// Accepts a public key after the intake rules; about 70 µs on a slow core for a new key. Messages name the same few keys
    /// again and again, so those that passed a moment ago are only compared.
    ///
    /// Source: TRUST.md section 2.1 and T2; Chalkias, Garillot, Nikolaenko, "Taming the many EdDSAs" (2020).
    ///
    /// # Errors
    /// [`KeyError`] names the rule that is broken.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, KeyError> {
        let place = place_of(bytes);
        if PASSED.with_borrow(|passed| passed[place].is_some_and(|one| one.bytes == *bytes)) {
            return Ok(Self(*bytes));
        }
        let id = Self::intake(bytes)?;
        PASSED
            .with_borrow_mut(|passed| passed[place] = Some(Passed { bytes: *bytes, point: None }));
        Ok(id)
    }

    /// The key's point, from memory where it was needed a moment ago.
    fn point(&self) -> Result<VerifyingKey, SignatureError> {
        let place = place_of(&self.0);
        let known = PASSED.with_borrow(|passed| {
            passed[place].filter(|one| one.bytes == self.0).and_then(|one| one.point)
        });
        if let Some(point) = known {
            return Ok(point);
        }
        let point = VerifyingKey::from_bytes(&self.0).map_err(|_| SignatureError)?;
        let passed = Passed { bytes: self.0, point: Some(point) };
        PASSED.with_borrow_mut(|all| all[place] = Some(passed));
        Ok(point)
    }

    fn intake(bytes: &[u8; 32]) -> Result<Self, KeyError> {
        let point = CompressedEdwardsY(*bytes).decompress().ok_or(KeyError::NotAPoint)?;
        if point.compress().as_bytes() != bytes {
            return Err(KeyError::NotCanonical);
        }
        if point.is_identity() || point.is_small_order() {
            return Err(KeyError::SmallOrder);
        }
        if !point.is_torsion_free() {
            return Err(KeyError::Torsion);
        }
        Ok(Self(*bytes))
    }

    /// The 32 bytes of the public key.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Checks an Ed25519 signature (RFC 8032, with the strict rules: S below the group order, R not of small order,
    /// no cofactor). Signed data of comity's own is checked with [`envelope::open`](crate::envelope::open) instead,
    /// which binds the signature to what it means.
    ///
    /// # Errors
    /// [`SignatureError`] when it does not hold.
    pub fn verify(&self, message: &[u8], signature: &[u8; 64]) -> Result<(), SignatureError> {
        let signature = Signature::from_bytes(signature);
        self.point()?.verify_strict(message, &signature).map_err(|_| SignatureError)
    }

    /// The key in another system's spelling.
    #[must_use]
    pub fn to_text(self, form: Form) -> String {
        form.encode(&self.0)
    }

    /// The first eight characters of the text form, for log lines. Not a name: anybody can make a key that shares them.
    #[must_use]
    pub fn short(&self) -> String {
        let mut text = text::zbase32_encode(&self.0);
        text.truncate(8);
        text
    }
}

impl fmt::Display for AgentId {
    /// z-base-32, 52 characters.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&text::zbase32_encode(&self.0))
    }
}

impl fmt::Debug for AgentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AgentId({})", text::zbase32_encode(&self.0))
    }
}

impl FromStr for AgentId {
    type Err = AgentIdTextError;

    /// Reads every text form of [`Form`], told apart by shape, and applies the intake rules.
    fn from_str(text: &str) -> Result<Self, AgentIdTextError> {
        let form = Form::detect(text).ok_or(AgentIdTextError::UnknownForm)?;
        let bytes = form.decode(text).map_err(|source| AgentIdTextError::Text { form, source })?;
        Self::from_bytes(&bytes).map_err(AgentIdTextError::Key)
    }
}

crate::text::serde_as_text!(AgentId);

impl<C> minicbor::Encode<C> for AgentId {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _ctx: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.bytes(&self.0)?.ok()
    }
}

impl<'b, C> minicbor::Decode<'b, C> for AgentId {
    /// Reads a byte string of 32 and applies the intake rules.
    fn decode(
        d: &mut minicbor::Decoder<'b>,
        _ctx: &mut C,
    ) -> Result<Self, minicbor::decode::Error> {
        let position = d.position();
        let bytes = <&[u8; 32]>::try_from(d.bytes()?)
            .map_err(|_| minicbor::decode::Error::message("a key has 32 bytes").at(position))?;
        Self::from_bytes(bytes).map_err(|error| minicbor::decode::Error::custom(error).at(position))
    }
}

/// An agent's secret key. Wiped from memory when dropped; `Debug` shows the public half alone.
///
/// Every public key made from a secret passes intake: the secret scalar is clamped (RFC 8032 section 5.1.5) to a
/// non-zero multiple of the cofactor below eight times the group order, times a base point of prime order.
pub struct Identity {
    signing: SigningKey,
}

impl Identity {
    /// A new key from 32 random bytes, for networks without minting.
    pub fn generate<R: CryptoRng + ?Sized>(rng: &mut R) -> Self {
        let mut secret = Zeroizing::new([0u8; 32]);
        rng.fill_bytes(secret.as_mut_slice());
        Self::from_secret_bytes(&secret)
    }

    /// A new key whose stretch begins with `mint_bits` zero bits, as a network demands of its members.
    ///
    /// Takes 2^`mint_bits` attempts on average, of under a millisecond each; callers that show progress or can be
    /// cancelled call [`mint_attempt`](Self::mint_attempt) in a loop of their own. `mint_bits` above
    /// [`MAX_MINT_BITS`] counts as that.
    pub fn mint<R: CryptoRng + ?Sized>(rng: &mut R, mint_bits: u32) -> Self {
        loop {
            if let Some(identity) = Self::mint_attempt(rng, mint_bits) {
                return identity;
            }
        }
    }

    /// One attempt at [`mint`](Self::mint): a new key if it happens to have the bits (probability 2^-`mint_bits`).
    pub fn mint_attempt<R: CryptoRng + ?Sized>(rng: &mut R, mint_bits: u32) -> Option<Self> {
        let identity = Self::generate(rng);
        let position = Position::of(&identity.id());
        position.meets(mint_bits.min(MAX_MINT_BITS)).then_some(identity)
    }

    /// The key with this secret (the seed of RFC 8032 section 5.1.5); any 32 bytes are one.
    #[must_use]
    pub fn from_secret_bytes(secret: &[u8; 32]) -> Self {
        Self { signing: SigningKey::from_bytes(secret) }
    }

    /// The secret itself, for the key file. The copy wipes itself.
    #[must_use]
    pub fn secret_bytes(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.signing.to_bytes())
    }

    /// The public half.
    #[must_use]
    pub fn id(&self) -> AgentId {
        AgentId(self.signing.verifying_key().to_bytes())
    }

    /// An Ed25519 signature over `message` as it is.
    ///
    /// For handshakes of foreign protocols. Anything of comity's own is signed with
    /// [`envelope::seal`](crate::envelope::seal), so that no signature can be passed off as one about something else.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.signing.sign(message).to_bytes()
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("id", &self.id()).finish_non_exhaustive()
    }
}
