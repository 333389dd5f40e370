//! Receipts of inclusion as RFC 9942 has them (COSE Receipts), for readers that know COSE and not signed notes.
//!
//! ```text
//! 18([ << {1: -19, 395: 1, "size": size} >>, {396: {-1: [ << [size, index, [hash, …]] >> ]}}, nil, signature ])
//! ```
//!
//! The detached payload is the root that entry and proof lead to; 395 = 1 is the tree of RFC 9162 with SHA-256; the signature is the
//! log's. The external AAD is empty, as the RFC has it; every envelope of comity's own has one, so neither opens as the other (T32).
//!
//! The size is signed besides, in a header parameter of our own that other readers skip: the root alone does not fix it, and with another
//! size of the same shape the same path would prove another position.

use ciborium::Value;
use comity_core::{AgentId, Identity, Sha256Digest};
use coset::{
    CborSerializable as _, CoseSign1, CoseSign1Builder, HeaderBuilder, Label,
    TaggedCborSerializable as _, iana,
};

use super::tree::{InclusionProof, MAX_PATH, MAX_SIZE, node_hash};

/// Longest receipt, in bytes.
pub const MAX_COSE_RECEIPT_LEN: usize = MAX_PATH * 34 + 256;

/// Header parameter: which verifiable data structure.
const VDS: i64 = 395;
/// Header parameter: the proofs.
const VDP: i64 = 396;
/// The tree of RFC 9162 with SHA-256.
const RFC9162_SHA256: i64 = 1;
/// Header parameter of our own: entries of the tree.
const SIZE: &str = "size";
/// Among the proofs: inclusion.
const INCLUSION: i64 = -1;

/// Why a receipt is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CoseError {
    /// Longer than [`MAX_COSE_RECEIPT_LEN`].
    #[error("a receipt of {length} bytes where at most {MAX_COSE_RECEIPT_LEN} are accepted")]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// Not a receipt of inclusion in a tree of RFC 9162.
    #[error("not a receipt of inclusion (RFC 9942) under Ed25519 and SHA-256: {what}")]
    Form {
        /// What is wrong.
        what: &'static str,
    },
    /// Spelled otherwise than [`CoseReceipt::encode`] does.
    #[error("the receipt is not in canonical form: somebody re-encoded it")]
    NotCanonical,
    /// The log did not sign that this entry is there.
    #[error("the log did not sign that this entry is there")]
    Signature,
}

/// A log's signature that an entry is at a position. Who verifies needs the entry's leaf hash and the log's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoseReceipt {
    /// Entries of the tree.
    pub size: u64,
    /// Position of the entry.
    pub index: u64,
    /// The sibling hashes.
    pub path: Vec<Sha256Digest>,
    /// The log's signature over the root.
    pub signature: [u8; 64],
}

impl CoseReceipt {
    /// Signs the inclusion of an entry in the log of `identity`. The caller has checked that `proof` leads to `root`, a root the log
    /// has under a checkpoint.
    #[must_use]
    pub fn sign(identity: &Identity, proof: &InclusionProof, root: &Sha256Digest) -> Self {
        Self {
            size: proof.size,
            index: proof.index,
            path: proof.path.clone(),
            signature: identity.sign(&to_be_signed(proof.size, root)),
        }
    }

    /// Checks that `log` signed that the entry with this leaf hash is at [`index`](Self::index) of [`size`](Self::size). Returns the root.
    ///
    /// # Errors
    /// [`CoseError::Signature`] when it did not.
    pub fn verify(&self, leaf: &Sha256Digest, log: &AgentId) -> Result<Sha256Digest, CoseError> {
        let root = self.root(leaf).ok_or(CoseError::Signature)?;
        log.verify(&to_be_signed(self.size, &root), &self.signature)
            .map_err(|_| CoseError::Signature)?;
        Ok(root)
    }

    /// The root that leaf and path lead to (RFC 9162 section 2.1.3.2).
    fn root(&self, leaf: &Sha256Digest) -> Option<Sha256Digest> {
        if self.index >= self.size || self.size > MAX_SIZE {
            return None;
        }
        let (mut at, mut last, mut hash) = (self.index, self.size - 1, *leaf);
        for sibling in &self.path {
            if last == 0 {
                return None;
            }
            if at & 1 == 1 || at == last {
                hash = node_hash(sibling, &hash);
                while at & 1 == 0 && at != 0 {
                    at >>= 1;
                    last >>= 1;
                }
            } else {
                hash = node_hash(&hash, sibling);
            }
            at >>= 1;
            last >>= 1;
        }
        (last == 0).then_some(hash)
    }

    /// The receipt's bytes.
    ///
    /// # Panics
    /// Never: integers and byte strings always encode.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let path = self.path.iter().map(|hash| Value::Bytes(hash.0.to_vec())).collect();
        let proof = Value::Array(vec![self.size.into(), self.index.into(), Value::Array(path)]);
        let proof = proof.to_vec().expect("integers and byte strings always encode");
        let proofs =
            Value::Map(vec![(Value::from(INCLUSION), Value::Array(vec![Value::Bytes(proof)]))]);
        let unprotected = HeaderBuilder::new().value(VDP, proofs).build();
        let receipt = CoseSign1 {
            signature: self.signature.to_vec(),
            ..CoseSign1Builder::new()
                .protected(protected(self.size))
                .unprotected(unprotected)
                .build()
        };
        receipt.to_tagged_vec().expect("integers and byte strings always encode")
    }

    /// Reads a receipt in the one spelling that [`encode`](Self::encode) gives; it is not verified yet.
    ///
    /// # Errors
    /// [`CoseError`] names what is wrong.
    pub fn decode(bytes: &[u8]) -> Result<Self, CoseError> {
        if bytes.len() > MAX_COSE_RECEIPT_LEN {
            return Err(CoseError::TooLong { length: bytes.len() });
        }
        let form = |what| CoseError::Form { what };
        let cose = CoseSign1::from_tagged_slice(bytes).map_err(|_| form("no COSE_Sign1"))?;
        let signature = <[u8; 64]>::try_from(&cose.signature[..])
            .map_err(|_| form("the signature does not have 64 bytes"))?;
        let proofs = cose.unprotected.rest.iter().find(|(label, _)| *label == Label::Int(VDP));
        let inclusion = proofs.and_then(|(_, proofs)| first_inclusion(proofs));
        let inclusion = inclusion.ok_or_else(|| form("no proof of inclusion"))?;
        let proof = Value::from_slice(inclusion).map_err(|_| form("the proof is no CBOR"))?;
        let (size, index, path) = parts(&proof).ok_or_else(|| form("the proof is malformed"))?;
        let receipt = Self { size, index, path, signature };
        // Covers the protected header, everything beside the proof, and every other spelling.
        if receipt.encode() == bytes { Ok(receipt) } else { Err(CoseError::NotCanonical) }
    }
}

fn first_inclusion(proofs: &Value) -> Option<&[u8]> {
    let (_, list) = proofs.as_map()?.iter().find(|(key, _)| *key == Value::from(INCLUSION))?;
    list.as_array()?.first()?.as_bytes().map(Vec::as_slice)
}

fn parts(proof: &Value) -> Option<(u64, u64, Vec<Sha256Digest>)> {
    let [size, index, path] = proof.as_array()?.as_slice() else { return None };
    let number = |value: &Value| value.as_integer().and_then(|number| u64::try_from(number).ok());
    let path = path.as_array()?;
    if path.len() > MAX_PATH {
        return None;
    }
    let hash = |value: &Value| value.as_bytes()?.as_slice().try_into().ok().map(Sha256Digest);
    let path = path.iter().map(hash).collect::<Option<Vec<_>>>()?;
    Some((number(size)?, number(index)?, path))
}

fn protected(size: u64) -> coset::Header {
    HeaderBuilder::new()
        .algorithm(iana::Algorithm::Ed25519)
        .value(VDS, Value::from(RFC9162_SHA256))
        .text_value(SIZE.to_owned(), Value::from(size))
        .build()
}

/// What is signed: the Sig_structure of RFC 9052 section 4.4 with the root as payload.
fn to_be_signed(size: u64, root: &Sha256Digest) -> Vec<u8> {
    CoseSign1Builder::new().protected(protected(size)).build().tbs_detached_data(&root.0, b"")
}
