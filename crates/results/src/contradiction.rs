//! Proof that a producer lied: two of its signed answers to one question that cannot both be right.
//!
//! The proof carries the capability's declaration, whose hash is in both receipts, because the declaration is where the producer promised that
//! its answers are reproducible. Whoever receives a proof checks it against nothing but itself.

use comity_capability::record::{Capability, Determinism};
use comity_core::canonical::{Version, decode_minicbor, encode_minicbor};
use comity_core::receipt::{ReceiptError, SignedReceipt};
use comity_core::{AgentId, Canonical, DecodeError, Hash};

use crate::compare::same;

/// Longest declaration in a proof, in bytes.
pub const MAX_DECLARATION: usize = 8 * 1024;
/// Longest answer in a proof, in bytes; exact answers are compared by their hashes and carry none.
pub const MAX_PROOF_BODY: usize = 32 * 1024;
/// Longest encoded proof, in bytes.
pub const MAX_PROOF: usize = MAX_DECLARATION + 2 * MAX_PROOF_BODY + 2 * 1536 + 64;

/// Two answers of one producer and the declaration that makes them contradict each other.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
pub struct Contradiction {
    /// Format version.
    #[n(0)]
    pub version: Version<1>,
    /// Canonical encoding of the capability.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub capability: Vec<u8>,
    /// One answer.
    #[n(2)]
    pub first: SignedReceipt,
    /// The other.
    #[n(3)]
    pub second: SignedReceipt,
    /// Both answers, of a capability whose answers are comparable within tolerances.
    #[n(4)]
    pub bodies: Option<Bodies>,
}

/// The answers themselves.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(array)]
pub struct Bodies {
    /// The one of the first receipt.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub first: Vec<u8>,
    /// The one of the second.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub second: Vec<u8>,
}

impl Canonical for Contradiction {
    fn encode(&self) -> Vec<u8> {
        encode_minicbor(self)
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.len() > MAX_PROOF {
            return Err(DecodeError::TooLong { length: bytes.len(), max: MAX_PROOF });
        }
        decode_minicbor(bytes)
    }
}

/// Why two answers prove nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoProof {
    /// Something is longer than a proof carries.
    #[error("{what} has {length} bytes, and a proof carries {max}")]
    TooLong {
        /// What.
        what: &'static str,
        /// Its length.
        length: usize,
        /// The limit.
        max: usize,
    },
    /// Two producers may differ, which is evidence for a quorum and proof of nothing.
    #[error("the answers are of two producers, and either may be right")]
    Producers,
    /// Not one question.
    #[error("the answers are to two questions")]
    Questions,
    /// A failed call answers nothing.
    #[error("one of the calls failed")]
    Status,
    /// The data may have changed between.
    #[error("the answers rest on two versions of the data")]
    DataVersion,
    /// Without a data version: one was given after the other's validity was over.
    #[error("one was given when the other was not valid any more")]
    Windows,
    /// The declaration is not the one the receipts name, or no declaration.
    #[error("the declaration is not the one that the answers were given under")]
    Declaration,
    /// The declaration does not promise that answers are reproducible.
    #[error("the capability does not promise reproducible answers")]
    Free,
    /// The bodies are needed and missing, or are not those the receipts vouch for.
    #[error(
        "the answers themselves are needed to compare them within tolerances, and are missing or altered"
    )]
    Bodies,
    /// They say the same.
    #[error("the answers agree")]
    Agree,
    /// A signature does not hold.
    #[error("a receipt does not verify")]
    Receipt(#[source] ReceiptError),
}

impl Contradiction {
    /// A proof out of two answers to one question. It is verified before it is returned, so that nobody accuses anybody in error.
    ///
    /// # Errors
    /// [`NoProof`] when they prove nothing.
    pub fn new(
        capability: &Capability,
        first: (&SignedReceipt, &[u8]),
        second: (&SignedReceipt, &[u8]),
    ) -> Result<Self, NoProof> {
        let comparable = capability
            .reuse
            .as_ref()
            .is_some_and(|reuse| reuse.determinism == Determinism::Comparable);
        let bodies =
            comparable.then(|| Bodies { first: first.1.to_vec(), second: second.1.to_vec() });
        let proof = Self {
            version: Version,
            capability: Canonical::encode(capability),
            first: first.0.clone(),
            second: second.0.clone(),
            bodies,
        };
        proof.verify().map(|_| proof)
    }

    /// Checks the proof, signatures last. Returns who lied.
    ///
    /// # Errors
    /// [`NoProof`] names what is missing.
    pub fn verify(&self) -> Result<AgentId, NoProof> {
        let (a, b) = (&self.first.receipt, &self.second.receipt);
        if a.callee != b.callee {
            return Err(NoProof::Producers);
        }
        if (a.capability, a.interface, a.request) != (b.capability, b.interface, b.request) {
            return Err(NoProof::Questions);
        }
        if a.status != 0 || b.status != 0 {
            return Err(NoProof::Status);
        }
        if a.data_version != b.data_version {
            return Err(NoProof::DataVersion);
        }
        // Without a version the data may change; but who stands by an answer until some moment gives no other before it.
        let overlap = a.finished_ms < b.valid_until_ms && b.finished_ms < a.valid_until_ms;
        if a.data_version.is_none() && !overlap {
            return Err(NoProof::Windows);
        }
        if a.response == b.response {
            return Err(NoProof::Agree);
        }
        self.check_promise()?;
        self.first.verify().map_err(NoProof::Receipt)?;
        self.second.verify().map_err(NoProof::Receipt)?;
        Ok(a.callee)
    }

    /// That the declaration is the one of the receipts, promises reproducible answers, and these are not alike by it.
    fn check_promise(&self) -> Result<(), NoProof> {
        let too_long = |what, length, max| NoProof::TooLong { what, length, max };
        let length = self.capability.len();
        if length > MAX_DECLARATION {
            return Err(too_long("the declaration", length, MAX_DECLARATION));
        }
        if Hash::of(&self.capability) != self.first.receipt.capability {
            return Err(NoProof::Declaration);
        }
        let capability = Capability::decode(&self.capability).map_err(|_| NoProof::Declaration)?;
        let reuse = capability.reuse.unwrap_or_default();
        match (reuse.determinism, &self.bodies) {
            (Determinism::Free, _) => Err(NoProof::Free),
            (Determinism::Exact, None) => Ok(()),
            (Determinism::Exact, Some(_)) | (Determinism::Comparable, None) => Err(NoProof::Bodies),
            (Determinism::Comparable, Some(Bodies { first, second })) => {
                let longest = first.len().max(second.len());
                if longest > MAX_PROOF_BODY {
                    return Err(too_long("an answer", longest, MAX_PROOF_BODY));
                }
                let vouched = Hash::of(first) == self.first.receipt.response
                    && Hash::of(second) == self.second.receipt.response;
                if !vouched {
                    return Err(NoProof::Bodies);
                }
                if same(&reuse, first, second) { Err(NoProof::Agree) } else { Ok(()) }
            }
        }
    }
}
