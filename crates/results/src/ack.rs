//! The caller's countersignature: with it, a receipt shows that both sides agree the call took place, and what the caller thought of it.
//!
//! Counter-signed receipts are the only word of others that [`repute`](crate::repute) counts. A callee alone can sign any number of receipts of
//! calls that never were; a pair of keys can sign any number for each other, which is why they count only along one's own acquaintances.

use comity_core::canonical::{Version, decode_minicbor, encode_minicbor};
use comity_core::envelope::{self, EnvelopeError, MAX_OVERHEAD};
use comity_core::receipt::{
    MAX_SIGNED_RECEIPT_LEN, ReceiptError, RootCache, SignedReceipt, VerifiedReceipt,
};
use comity_core::{AgentId, Canonical, DecodeError, Hash, Identity, Kind, Time};

/// Longest sealed countersignature, in bytes.
pub const MAX_ACK: usize = 64 + MAX_OVERHEAD;
/// Longest encoded counter-signed receipt, in bytes.
pub const MAX_COUNTERSIGNED: usize = MAX_SIGNED_RECEIPT_LEN + MAX_ACK + 16;

/// What the caller made of the answer.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, minicbor::Encode, minicbor::Decode,
)]
#[cbor(index_only)]
pub enum Verdict {
    /// It came, and verified.
    #[n(0)]
    Received,
    /// It agreed with independent answers, or with what was known.
    #[n(1)]
    Confirmed,
    /// It disagreed with them.
    #[n(2)]
    Disputed,
}

/// The statement; the signer of its envelope is the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
pub struct Ack {
    /// Format version.
    #[n(0)]
    pub version: Version<1>,
    /// Hash of the receipt's encoding.
    #[n(1)]
    pub receipt: Hash,
    /// What the caller made of it.
    #[n(2)]
    pub verdict: Verdict,
    /// When, in milliseconds since the UNIX epoch.
    #[n(3)]
    pub at_ms: u64,
}

impl Canonical for Ack {
    fn encode(&self) -> Vec<u8> {
        encode_minicbor(self)
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        decode_minicbor(bytes)
    }
}

/// A receipt and its caller's word on it.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
pub struct CounterSigned {
    /// The callee's statement.
    #[n(0)]
    pub receipt: SignedReceipt,
    /// The caller's sealed [`Ack`].
    #[cbor(n(1), with = "minicbor::bytes")]
    pub ack: Vec<u8>,
}

impl Canonical for CounterSigned {
    fn encode(&self) -> Vec<u8> {
        encode_minicbor(self)
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.len() > MAX_COUNTERSIGNED {
            return Err(DecodeError::TooLong { length: bytes.len(), max: MAX_COUNTERSIGNED });
        }
        decode_minicbor(bytes)
    }
}

/// Why a counter-signed receipt is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AckError {
    /// The receipt does not verify.
    #[error("the receipt does not verify")]
    Receipt(#[source] ReceiptError),
    /// The countersignature does not verify.
    #[error("the countersignature does not verify")]
    Envelope(#[source] EnvelopeError),
    /// Somebody else than the caller signed it.
    #[error("the call was made by {caller}, but {signer} countersigned it")]
    Signer {
        /// Who called.
        caller: AgentId,
        /// Who signed.
        signer: AgentId,
    },
    /// It is about another receipt.
    #[error("the countersignature is of another receipt")]
    Other,
    /// A call to oneself proves nothing about anybody.
    #[error("caller and callee are one agent, which says nothing")]
    Itself,
}

/// A counter-signed receipt whose signatures both hold.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Call {
    /// The callee's statement.
    pub verified: VerifiedReceipt,
    /// The caller's word on it.
    pub verdict: Verdict,
    /// When the caller signed, by its clock.
    pub at: Time,
}

/// Countersigns a receipt. The caller has verified it, and names in `verdict` what it knows of the answer.
#[must_use]
pub fn countersign(
    receipt: SignedReceipt,
    verdict: Verdict,
    caller: &Identity,
    now: Time,
) -> CounterSigned {
    let hash = Hash::of(&Canonical::encode(&receipt.receipt));
    let ack = Ack { version: Version, receipt: hash, verdict, at_ms: now.as_millis() };
    CounterSigned { receipt, ack: envelope::seal(Kind::Ack, &ack, caller) }
}

impl CounterSigned {
    /// Checks both signatures, and that they are about one call between two agents.
    ///
    /// # Errors
    /// [`AckError`].
    pub fn verify(&self, roots: &mut RootCache) -> Result<Call, AckError> {
        let receipt = &self.receipt.receipt;
        if receipt.caller == receipt.callee {
            return Err(AckError::Itself);
        }
        let opened =
            envelope::open_expecting::<Ack>(Kind::Ack, &self.ack, MAX_ACK, &receipt.caller)
                .map_err(AckError::Envelope)?;
        if opened.signer != receipt.caller {
            return Err(AckError::Signer { caller: receipt.caller, signer: opened.signer });
        }
        if opened.payload.receipt != Hash::of(&Canonical::encode(receipt)) {
            return Err(AckError::Other);
        }
        let verified = self.receipt.verify_with(roots).map_err(AckError::Receipt)?;
        let Ack { verdict, at_ms, .. } = opened.payload;
        Ok(Call { verified, verdict, at: Time::from_millis(at_ms) })
    }
}
