//! Receipts: the callee's signed statement of what was asked and what it answered.
//!
//! Signing is batched: the receipts that fall due together become the leaves of a Merkle tree, and one envelope of
//! kind [`Kind::ReceiptRoot`] signs its root. A [`SignedReceipt`] carries one receipt, its path and that envelope, so
//! that each verifies alone, offline, against nothing but itself. A single answer is a batch of one with an empty path.
//!
//! Leaf = `BLAKE3.derive_key("comity/receipt/leaf/v1", receipt)`, node = `derive_key("comity/receipt/node/v1", left ‖
//! right)`, tree shaped as in RFC 9162 section 2.1. Source: DESIGN.md section 7, TRUST.md section 2.4.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use crate::canonical::{Version, decode_minicbor, encode_minicbor};
use crate::envelope::{self, EnvelopeError, Opened};
use crate::merkle::{Contexts, Tree};
use crate::{AgentId, Canonical, DecodeError, Hash, Identity, Kind, Sha256Digest, Time};

/// How the trees over receipts are hashed.
const TREE: Contexts = Contexts { leaf: "comity/receipt/leaf/v1", node: "comity/receipt/node/v1" };

/// Most receipts under one root.
pub const MAX_BATCH: usize = 1024;
/// Most hashes in a path: the height of a tree of [`MAX_BATCH`] leaves.
pub const MAX_PATH: usize = 10;
/// Longest text field of a receipt, in bytes.
pub const MAX_SHORT_TEXT: usize = 64;
/// Longest encoded receipt, in bytes (the fields at their largest take 487).
pub const MAX_RECEIPT_LEN: usize = 640;
/// Longest sealed root, in bytes.
pub const MAX_ROOT_LEN: usize = 256;
/// Longest encoded [`SignedReceipt`], in bytes.
pub const MAX_SIGNED_RECEIPT_LEN: usize = 1536;
/// Roots that a [`RootCache`] remembers.
pub const ROOT_CACHE_MAX: usize = 256;

/// A text of at most [`MAX_SHORT_TEXT`] bytes without control characters and without characters that reorder text:
/// receipts are printed on terminals by people who trust neither side.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShortText(String);

/// Why a text is refused in a receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShortTextError {
    /// Longer than [`MAX_SHORT_TEXT`].
    #[error("{length} bytes of text, and a receipt holds {MAX_SHORT_TEXT}: shorten it")]
    TooLong {
        /// Length in bytes.
        length: usize,
    },
    /// Contains a control character or one that reorders text.
    #[error("the text contains a control character (U+{code:04X}): remove it")]
    Control {
        /// Its code point.
        code: u32,
    },
}

impl ShortText {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<&str> for ShortText {
    type Error = ShortTextError;

    fn try_from(text: &str) -> Result<Self, ShortTextError> {
        if text.len() > MAX_SHORT_TEXT {
            return Err(ShortTextError::TooLong { length: text.len() });
        }
        match text.chars().find(|&c| c.is_control() || reorders(c)) {
            Some(found) => Err(ShortTextError::Control { code: u32::from(found) }),
            None => Ok(Self(text.to_owned())),
        }
    }
}

/// The bidirectional controls of Unicode (property `Bidi_Control`) and the line and paragraph separators.
const fn reorders(c: char) -> bool {
    matches!(c, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

impl fmt::Display for ShortText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl<C> minicbor::Encode<C> for ShortText {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _ctx: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.str(&self.0)?.ok()
    }
}

impl<'b, C> minicbor::Decode<'b, C> for ShortText {
    fn decode(
        d: &mut minicbor::Decoder<'b>,
        _ctx: &mut C,
    ) -> Result<Self, minicbor::decode::Error> {
        let position = d.position();
        Self::try_from(d.str()?)
            .map_err(|error| minicbor::decode::Error::custom(error).at(position))
    }
}

/// What the callee states. All times are milliseconds since the UNIX epoch.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
pub struct Receipt {
    /// Format version.
    #[n(0)]
    pub version: Version<1>,
    /// The session: 32 bytes both ends derive from the connection's secrets (TRUST.md section 2.2).
    #[n(1)]
    pub session: Hash,
    /// Number of the call within the session.
    #[n(2)]
    pub number: u64,
    /// Who asked.
    #[n(3)]
    pub caller: AgentId,
    /// Who answered, and signs.
    #[n(4)]
    pub callee: AgentId,
    /// Hash of the capability's descriptor bytes.
    #[n(5)]
    pub capability: Hash,
    /// Hash of the canonical request.
    #[n(6)]
    pub request: Hash,
    /// Hash of the answer; of a stream, of its items in order.
    #[n(7)]
    pub response: Hash,
    /// Outcome: 0 is success, others are the call protocol's error codes.
    #[n(8)]
    pub status: u64,
    /// When the request was whole.
    #[n(9)]
    pub started_ms: u64,
    /// When the answer was whole.
    #[n(10)]
    pub finished_ms: u64,
    /// Price, in the unit that the capability states.
    #[n(11)]
    pub cost: u64,
    /// Hash of evidence about how the answer came to be.
    #[n(12)]
    pub evidence: Option<Hash>,
    /// Index of the call in the callee's audit log.
    #[n(13)]
    pub leaf: Option<u64>,
    /// SHA-256 of the interface (input and output schema) that was spoken.
    #[n(14)]
    pub interface: Sha256Digest,
    /// Until when the callee stands by the answer.
    #[n(15)]
    pub valid_until_ms: u64,
    /// Version of the data behind the answer.
    #[n(16)]
    pub data_version: Option<ShortText>,
    /// Name of the capability.
    #[n(17)]
    pub name: ShortText,
}

impl Canonical for Receipt {
    fn encode(&self) -> Vec<u8> {
        encode_minicbor(self)
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        limit(bytes, MAX_RECEIPT_LEN)?;
        decode_minicbor(bytes)
    }
}

/// The signed root of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
pub struct ReceiptRoot {
    /// Format version.
    #[n(0)]
    pub version: Version<1>,
    /// Root of the tree.
    #[n(1)]
    pub root: Hash,
    /// Number of receipts, 1 to [`MAX_BATCH`].
    #[n(2)]
    pub size: u32,
    /// When the batch was signed, in milliseconds since the UNIX epoch.
    #[n(3)]
    pub at_ms: u64,
}

crate::impl_canonical!(ReceiptRoot);

/// One receipt with everything needed to verify it offline.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
pub struct SignedReceipt {
    /// The statement.
    #[n(0)]
    pub receipt: Receipt,
    /// Its index in the batch, from 0.
    #[n(1)]
    pub index: u32,
    /// The sibling hashes from its leaf up to the root.
    #[n(2)]
    pub path: Vec<Hash>,
    /// The sealed [`ReceiptRoot`].
    #[cbor(n(3), with = "minicbor::bytes")]
    pub root: Vec<u8>,
}

impl Canonical for SignedReceipt {
    fn encode(&self) -> Vec<u8> {
        encode_minicbor(self)
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        limit(bytes, MAX_SIGNED_RECEIPT_LEN)?;
        decode_minicbor(bytes)
    }
}

fn limit(bytes: &[u8], max: usize) -> Result<(), DecodeError> {
    if bytes.len() <= max { Ok(()) } else { Err(DecodeError::TooLong { length: bytes.len(), max }) }
}

/// A receipt whose signature and path hold. Only the `verify` methods make one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifiedReceipt {
    /// The statement; `receipt.callee` signed it.
    pub receipt: Receipt,
    /// When the batch was signed, by the callee's clock.
    pub signed_at: Time,
    /// Hash of the sealed root.
    pub root_hash: Hash,
}

/// Why a batch cannot be signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignBatchError {
    /// More receipts than one root covers.
    #[error("{count} receipts in a batch of at most {MAX_BATCH}: sign them in several")]
    TooMany {
        /// How many there are.
        count: usize,
    },
    /// A receipt names another callee than the signer: it would never verify.
    #[error(
        "receipt {index} of the batch is of callee {callee}, not of the signer: nobody signs for another"
    )]
    NotOurs {
        /// Index in the batch.
        index: usize,
        /// The callee that it names.
        callee: AgentId,
    },
}

/// Why a signed receipt is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    /// The envelope of the root is refused.
    #[error("the signed root of the receipt is refused")]
    Root(#[source] EnvelopeError),
    /// The root names a size of zero or above [`MAX_BATCH`].
    #[error("the signed root covers {size} receipts, and a batch has 1 to {MAX_BATCH}")]
    Size {
        /// The size it names.
        size: u32,
    },
    /// The root is signed by somebody else than the callee.
    #[error("the receipt is of callee {callee}, but {signer} signed it")]
    Signer {
        /// Who is said to have answered.
        callee: AgentId,
        /// Who signed.
        signer: AgentId,
    },
    /// The path does not lead from this receipt to the signed root.
    #[error("the receipt is not part of the signed batch: receipt, index or path was changed")]
    Path,
}

/// Signs receipts as one batch, at `now`; one signature however many there are. An empty batch gives nothing.
///
/// # Errors
/// [`SignBatchError`] for too many receipts, or one of another callee.
pub fn sign_batch(
    identity: &Identity,
    now: Time,
    receipts: Vec<Receipt>,
) -> Result<Vec<SignedReceipt>, SignBatchError> {
    let count = receipts.len();
    let size = u32::try_from(count)
        .ok()
        .filter(|_| count <= MAX_BATCH)
        .ok_or(SignBatchError::TooMany { count })?;
    let id = identity.id();
    if let Some((index, receipt)) =
        receipts.iter().enumerate().find(|(_, receipt)| receipt.callee != id)
    {
        return Err(SignBatchError::NotOurs { index, callee: receipt.callee });
    }
    let leaves: Vec<Hash> = receipts.iter().map(|receipt| TREE.leaf(&receipt.encode())).collect();
    let tree = Tree::new(&TREE, leaves);
    let Some(root) = tree.root() else { return Ok(Vec::new()) };
    let root = ReceiptRoot { version: Version, root, size, at_ms: now.as_millis() };
    let root = envelope::seal(Kind::ReceiptRoot, &root, identity);
    let signed = receipts.into_iter().enumerate().zip(0u32..);
    Ok(signed
        .map(|((place, receipt), index)| SignedReceipt {
            receipt,
            index,
            path: tree.path(place),
            root: root.clone(),
        })
        .collect())
}

impl SignedReceipt {
    /// Verifies the receipt on its own.
    ///
    /// # Errors
    /// [`ReceiptError`] names what does not hold.
    pub fn verify(&self) -> Result<VerifiedReceipt, ReceiptError> {
        let root = open_root(&self.root, &self.receipt.callee)?;
        self.verify_against(&root)
    }

    /// Verifies the receipt, checking the signature of each batch once: roots that held are remembered in `cache`.
    ///
    /// # Errors
    /// As [`verify`](Self::verify).
    pub fn verify_with(&self, cache: &mut RootCache) -> Result<VerifiedReceipt, ReceiptError> {
        let root = cache.open(&self.root, &self.receipt.callee)?;
        self.verify_against(&root)
    }

    fn verify_against(&self, root: &Opened<ReceiptRoot>) -> Result<VerifiedReceipt, ReceiptError> {
        let ReceiptRoot { root: expected, size, at_ms, .. } = root.payload;
        if root.signer != self.receipt.callee {
            return Err(ReceiptError::Signer { callee: self.receipt.callee, signer: root.signer });
        }
        let leaf = TREE.leaf(&self.receipt.encode());
        let led = TREE.root_from_path(leaf, self.index.into(), size.into(), &self.path);
        if led != Some(expected) {
            return Err(ReceiptError::Path);
        }
        let signed_at = Time::from_millis(at_ms);
        Ok(VerifiedReceipt { receipt: self.receipt.clone(), signed_at, root_hash: root.hash })
    }
}

fn open_root(bytes: &[u8], signer: &AgentId) -> Result<Opened<ReceiptRoot>, ReceiptError> {
    let root: Opened<ReceiptRoot> =
        envelope::open_expecting(Kind::ReceiptRoot, bytes, MAX_ROOT_LEN, signer)
            .map_err(ReceiptError::Root)?;
    let size = root.payload.size;
    let in_range = usize::try_from(size).is_ok_and(|size| (1..=MAX_BATCH).contains(&size));
    if in_range { Ok(root) } else { Err(ReceiptError::Size { size }) }
}

/// The last [`ROOT_CACHE_MAX`] roots that verified, by hash of their envelope, the oldest dropped first.
#[derive(Clone, Debug, Default)]
pub struct RootCache {
    roots: BTreeMap<Hash, Opened<ReceiptRoot>>,
    order: VecDeque<Hash>,
}

impl RootCache {
    /// An empty cache.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many roots it remembers.
    #[must_use]
    pub fn len(&self) -> usize {
        self.roots.len()
    }

    /// Whether it remembers none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.roots.is_empty()
    }

    fn open(
        &mut self,
        bytes: &[u8],
        signer: &AgentId,
    ) -> Result<Opened<ReceiptRoot>, ReceiptError> {
        // The hash covers the whole envelope, signature included: a hit is a root that verified, to the byte.
        let hash = Hash::of(bytes);
        if let Some(root) = self.roots.get(&hash) {
            return Ok(root.clone());
        }
        let root = open_root(bytes, signer)?;
        if self.order.len() >= ROOT_CACHE_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.roots.remove(&oldest);
        }
        self.order.push_back(hash);
        self.roots.insert(hash, root.clone());
        Ok(root)
    }
}
