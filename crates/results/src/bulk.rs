//! Answers too large to be handed over as one piece: what is said of them, and how any part of one is verified by itself.
//!
//! The receipt's response hash is the BLAKE3 hash of the whole body, and BLAKE3 is a tree. Its *outline* is the chaining values of the subtrees over
//! [`PIECE`] bytes each: 32 bytes for each mebibyte, which merge to the response hash, so a false outline is refused before a byte of the body
//! has come. Each piece is then verified alone, whoever sent it and in whatever order, and nothing has to be remembered of what was verified before: a
//! file that was left half-written proves again which of its pieces are right.
//!
//! **The length** is not in the receipt. An outline that names a false one can merge to the right hash (by naming the inner nodes of a smaller
//! tree), but then its last piece cannot be shown: BLAKE3 tells chunks from parents, and the last chunk binds its length. So nothing of an outline
//! is believed before its last piece has verified ([`transfer`](crate::transfer) asks for that piece first).
//!
//! The tree functions are those of the `blake3` crate (`hazmat`); the `bao-tree` crate does the same for any range of chunks, interleaved with
//! proofs, at the price of nine more dependencies. Here every range is a piece, and all proofs together are the outline.

use std::sync::Arc;

use blake3::hazmat::{
    ChainingValue, HasherExt as _, Mode, left_subtree_len, merge_subtrees_non_root,
    merge_subtrees_root,
};
use comity_core::canonical::{
    self, Floats, MAX_JSON_DEPTH, Version, decode_minicbor, encode_minicbor,
};
use comity_core::receipt::{
    MAX_SIGNED_RECEIPT_LEN, Receipt, RootCache, SignedReceipt, VerifiedReceipt,
};
use comity_core::{AgentId, Canonical, DecodeError, Hash, Time};

use crate::key::{IndexKey, QuestionKey};
use crate::result::{Keepable, Refusal, Rules, check_statement};
use crate::terms::Terms;

/// Bytes of one piece, the unit that is asked for and verified; the last piece of a body may be shorter. A power of two, as subtrees of
/// BLAKE3 are. A holder that lies costs its asker one piece.
pub const PIECE: u64 = 1 << 20;
/// A body up to this length is kept in memory and handed over whole ([`SharedResult`](crate::result::SharedResult)), in bytes; a longer one is kept on disk and moves in
/// pieces.
pub const WHOLE_MAX: usize = 4 << 20;
/// Longest body that is kept and moved in pieces, in bytes.
pub const BULK_BYTES_MAX: u64 = 1 << 30;
/// Most pieces of one body.
pub const PIECES_MAX: usize = 1 << 10;
/// Longest encoded [`Offer`], in bytes.
pub const MAX_OFFER: usize = MAX_SIGNED_RECEIPT_LEN + 32 * PIECES_MAX + 32;
/// Longest encoded [`PieceAsk`], in bytes.
pub const MAX_PIECE_ASK: usize = 80;

/// Length and chaining values of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outline {
    size: u64,
    values: Vec<ChainingValue>,
}

impl Outline {
    /// An outline of `size` bytes from the [values](piece_value) of its pieces. `None` when their number does not fit the size, or the size is
    /// not one of a body that moves in pieces.
    #[must_use]
    pub fn new(size: u64, values: Vec<ChainingValue>) -> Option<Self> {
        let pieces = usize::try_from(size.div_ceil(PIECE)).ok()?;
        let fits = size > WHOLE_MAX as u64 && size <= BULK_BYTES_MAX && values.len() == pieces;
        fits.then_some(Self { size, values })
    }

    /// Length of the body, in bytes.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// How many pieces it has.
    #[must_use]
    pub fn pieces(&self) -> u32 {
        u32::try_from(self.values.len()).unwrap_or(u32::MAX)
    }

    /// The last piece: the one that proves the length.
    #[must_use]
    pub fn last(&self) -> u32 {
        self.pieces().saturating_sub(1)
    }

    /// Where a piece begins, in bytes.
    #[must_use]
    pub fn start(&self, piece: u32) -> u64 {
        u64::from(piece) * PIECE
    }

    /// Length of a piece, in bytes; 0 for one there is not.
    #[must_use]
    pub fn len_of(&self, piece: u32) -> usize {
        usize::try_from(self.size.saturating_sub(self.start(piece)).min(PIECE)).unwrap_or(0)
    }

    /// The BLAKE3 hash that a body with these pieces has.
    #[must_use]
    pub fn root(&self) -> Hash {
        let (left, right) = halves(&self.values, self.size);
        Hash(*merge_subtrees_root(&left, &right, Mode::Hash).as_bytes())
    }

    /// Whether `bytes` are the piece.
    #[must_use]
    pub fn is_piece(&self, piece: u32, bytes: &[u8]) -> bool {
        let value = usize::try_from(piece).ok().and_then(|piece| self.values.get(piece));
        value.is_some_and(|value| {
            bytes.len() == self.len_of(piece) && piece_value(piece, bytes) == *value
        })
    }

    fn encoded_values(&self) -> Vec<u8> {
        self.values.concat()
    }
}

/// The chaining values of the two subtrees below the root of this part of the tree, which has more than one piece.
fn halves(values: &[ChainingValue], size: u64) -> (ChainingValue, ChainingValue) {
    let left_size = left_subtree_len(size);
    let (left, right) = values.split_at(usize::try_from(left_size / PIECE).unwrap_or(0));
    (merged(left, left_size), merged(right, size - left_size))
}

/// The chaining value of a subtree; as deep as the tree, which is ten at most.
fn merged(values: &[ChainingValue], size: u64) -> ChainingValue {
    match values {
        [value] => *value,
        _ => {
            let (left, right) = halves(values, size);
            merge_subtrees_non_root(&left, &right, Mode::Hash)
        }
    }
}

/// The chaining value of a piece of at most [`PIECE`] bytes, none of which is missing. Whatever is longer has the value of its beginning, which
/// [`Outline::is_piece`] never asks for, and nothing has the value zero.
#[must_use]
pub fn piece_value(piece: u32, bytes: &[u8]) -> ChainingValue {
    let end = usize::try_from(PIECE).unwrap_or(usize::MAX).min(bytes.len());
    if end == 0 {
        return [0; 32];
    }
    let mut hasher = blake3::Hasher::new();
    hasher.set_input_offset(u64::from(piece) * PIECE);
    hasher.update(&bytes[..end]);
    hasher.finalize_non_root()
}

/// What a holder says of a large result when it is asked for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// The producer's signed statement.
    pub receipt: SignedReceipt,
    /// The outline of the body.
    pub outline: Outline,
}

/// A [`SharedResult`](crate::result::SharedResult) is version 1.
#[derive(minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
struct Wire<'a> {
    #[n(0)]
    version: Version<2>,
    #[cbor(b(1), with = "minicbor::bytes")]
    receipt: &'a [u8],
    #[n(2)]
    size: u64,
    #[cbor(b(3), with = "minicbor::bytes")]
    values: &'a [u8],
}

impl Offer {
    /// `{0: 2, 1: signed receipt, 2: size, 3: chaining values}`, the values one after the other in a byte string.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let (receipt, values) = (Canonical::encode(&self.receipt), self.outline.encoded_values());
        let size = self.outline.size;
        encode_minicbor(&Wire { version: Version, receipt: &receipt, size, values: &values })
    }

    /// Reads what a holder said. Nothing is verified yet.
    ///
    /// # Errors
    /// [`DecodeError`] for anything that [`Offer::encode`] does not make.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.len() > MAX_OFFER {
            return Err(DecodeError::TooLong { length: bytes.len(), max: MAX_OFFER });
        }
        let wire: Wire<'_> = decode_minicbor(bytes)?;
        let (values, rest) = wire.values.as_chunks::<32>();
        let outline = Outline::new(wire.size, values.to_vec()).filter(|_| rest.is_empty());
        let outline = outline.ok_or_else(|| DecodeError::Type {
            reason: "an outline that fits no body".to_owned(),
        })?;
        Ok(Self { receipt: SignedReceipt::decode(wire.receipt)?, outline })
    }
}

/// What a holder is asked for: one piece of the answer of this name whose hash is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
pub struct PieceAsk {
    /// What others know the answer as. Under a name that is keyed for a group, only its members are answered.
    #[n(0)]
    pub key: IndexKey,
    /// Hash of the answer.
    #[n(1)]
    pub response: Hash,
    /// Which piece.
    #[n(2)]
    pub piece: u32,
}

impl PieceAsk {
    /// Its canonical bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        encode_minicbor(self)
    }

    /// Reads what a peer asks.
    ///
    /// # Errors
    /// [`DecodeError`] for anything that [`PieceAsk::encode`] does not make.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.len() > MAX_PIECE_ASK {
            return Err(DecodeError::TooLong { length: bytes.len(), max: MAX_PIECE_ASK });
        }
        decode_minicbor(bytes)
    }
}

/// A large result whose statement passed every check and whose outline is that of the answer. Only [`accept_offer`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Large {
    /// The question it answers.
    pub question: QuestionKey,
    /// The producer's signed statement.
    pub receipt: SignedReceipt,
    /// How its pieces are verified.
    pub outline: Arc<Outline>,
    /// The verified statement.
    pub verified: VerifiedReceipt,
    /// When the answer was whole, by its producer's clock.
    pub finished: Time,
    /// Until when it may be used.
    pub valid_until: Time,
}

impl Keepable for Large {
    fn question(&self) -> QuestionKey {
        self.question
    }

    fn statement(&self) -> &Receipt {
        &self.verified.receipt
    }

    fn finished(&self) -> Time {
        self.finished
    }

    fn valid_until(&self) -> Time {
        self.valid_until
    }

    fn bytes(&self) -> u64 {
        self.outline.size
    }
}

impl Large {
    /// Who produced it.
    #[must_use]
    pub const fn producer(&self) -> AgentId {
        self.verified.receipt.callee
    }

    /// Hash of the answer.
    #[must_use]
    pub const fn response(&self) -> Hash {
        self.verified.receipt.response
    }

    /// What is said of it to others.
    #[must_use]
    pub fn offer(&self) -> Offer {
        Offer { receipt: self.receipt.clone(), outline: Outline::clone(&self.outline) }
    }
}

/// Longest item that is taken out of a body on disk, in bytes: what handing such a body out takes of memory.
pub const ITEM_MAX: usize = 16 << 20;

/// Cuts a body that comes in pieces into its items (a CBOR sequence, RFC 8742).
#[derive(Debug, Default)]
pub struct Items {
    held: Vec<u8>,
    /// Where the next item begins.
    at: usize,
}

/// Why no item can be cut.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ItemError {
    /// The bytes are no item in canonical form.
    #[error("the answer is not in canonical form")]
    Form(#[source] DecodeError),
    /// An item exceeds [`ITEM_MAX`].
    #[error("an item of the answer has more than {ITEM_MAX} bytes")]
    TooLong,
    /// The body ends inside an item.
    #[error("the answer ends inside an item")]
    Cut,
}

impl Items {
    /// Nothing has come yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in the next bytes of the body.
    pub fn push(&mut self, bytes: &[u8]) {
        self.held.drain(..self.at);
        self.at = 0;
        self.held.extend_from_slice(bytes);
    }

    /// The next item, if it is whole.
    ///
    /// # Errors
    /// [`ItemError`], after which nothing sensible follows.
    pub fn next_item(&mut self) -> Result<Option<&[u8]>, ItemError> {
        let rest = &self.held[self.at..];
        if rest.is_empty() {
            return Ok(None);
        }
        let mut decoder = minicbor::Decoder::new(rest);
        match decoder.skip() {
            Ok(()) => {}
            Err(error) if error.is_end_of_input() && rest.len() <= ITEM_MAX => return Ok(None),
            Err(error) if error.is_end_of_input() => return Err(ItemError::TooLong),
            Err(_) => {
                // It says better what is wrong.
                let form = canonical::check(rest, MAX_JSON_DEPTH, Floats::Shortest);
                return Err(form.map_or_else(ItemError::Form, |()| ItemError::Cut));
            }
        }
        let end = decoder.position().min(rest.len());
        if end > ITEM_MAX {
            return Err(ItemError::TooLong);
        }
        let item = &self.held[self.at..self.at + end];
        canonical::check(item, MAX_JSON_DEPTH, Floats::Shortest).map_err(ItemError::Form)?;
        self.at += end;
        Ok(Some(item))
    }

    /// Whether all that came was whole items, taken out.
    ///
    /// # Errors
    /// [`ItemError::Cut`].
    pub fn finish(self) -> Result<(), ItemError> {
        if self.at == self.held.len() { Ok(()) } else { Err(ItemError::Cut) }
    }
}

/// Checks what a holder says of a large result against the question that is to be answered: everything that
/// [`accept`](crate::result::accept) checks, except the body, which is checked piece by piece.
///
/// # Errors
/// [`Refusal`] names the first that fails.
pub fn accept_offer(
    terms: &Terms,
    request: &Hash,
    offer: Offer,
    rules: &Rules<'_>,
    roots: &mut RootCache,
    now: Time,
) -> Result<Large, Refusal> {
    let Offer { receipt, outline } = offer;
    let stated = &receipt.receipt;
    let (finished, valid_until) = check_statement(terms, request, stated, rules, now)?;
    if outline.root() != stated.response {
        return Err(Refusal::Body);
    }
    let verified = receipt.verify_with(roots).map_err(Refusal::Receipt)?;
    let question = QuestionKey::new(&terms.descriptor, request);
    let outline = Arc::new(outline);
    Ok(Large { question, receipt, outline, verified, finished, valid_until })
}
