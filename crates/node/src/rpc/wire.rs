//! Frames of the call protocol: a 32-bit big-endian length, then that many bytes of canonical CBOR.
//!
//! A caller sends one request frame and reads response frames until one ends the call: `Whole`, `End` or `Error`. Then either side may
//! use the stream for the next call, except after an `Error`, after an answer of more than [`REUSE_BYTES_MAX`], and in early data.

use bytes::{Bytes, BytesMut};
use comity_core::canonical::{decode_minicbor, encode_minicbor};
use comity_core::{DecodeError, Hash, Sha256Digest};
use iroh::endpoint::ReadError;

use crate::transport::BiStream;

/// Longest request body, in bytes of canonical CBOR.
pub const REQUEST_BYTES_MAX: usize = 1 << 20;
/// Longest of what a caller shows besides, in bytes: a chain of grants, the revocation sets of its delegators, endorsements.
pub const GRANTS_BYTES_MAX: usize = 24 * 1024;
/// Longest question and longest answer about trust, in bytes.
pub const TRUST_BYTES_MAX: usize = CHUNK_BYTES_MAX;
/// Longest request frame: the body, the grants and everything around them.
pub(crate) const REQUEST_FRAME_MAX: usize = REQUEST_BYTES_MAX + GRANTS_BYTES_MAX + 512;
/// Most answer bytes in one frame; a longer answer is cut into several.
pub const CHUNK_BYTES_MAX: usize = 64 * 1024;
/// Longest response frame.
pub(crate) const RESPONSE_FRAME_MAX: usize =
    CHUNK_BYTES_MAX + comity_core::receipt::MAX_SIGNED_RECEIPT_LEN + 64;
/// Longest text in an error frame, in bytes.
pub const ERROR_TEXT_MAX: usize = 512;
/// A stream that carried a longer answer than this is not used again.
pub(crate) const REUSE_BYTES_MAX: u64 = 256 * 1024;
/// How much is set aside for a frame before its bytes have arrived.
const RESERVE_MAX: usize = 64 * 1024;

/// Length of the prefix.
const PREFIX: usize = 4;

/// What a caller asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(index_only)]
pub(crate) enum Method {
    /// Execute a capability.
    #[n(0)]
    Call,
    /// Answer with nothing.
    #[n(1)]
    Ping,
    /// Answer with the agent's signed record: the latest, or the one whose hash is the body.
    #[n(2)]
    Record,
    /// Take in what the caller says of itself (the body), and answer with the same of the callee: see [`super::Hello`].
    #[n(3)]
    Hello,
    /// Answer with the proof that the audit log only grew between two sizes (the body): see [`super::Growth`].
    #[n(4)]
    Growth,
    /// Take in the caller's signature under a checkpoint of the audit log (the body): see [`super::Cosigned`].
    #[n(5)]
    Cosign,
    /// Answer with the passages from the key that is the body to the callee's own (`comity_trust::succession`).
    #[n(6)]
    Succession,
    /// A question about trust, and its answer: `crate::access::wire` has both.
    #[n(8)]
    Trust,
    /// A question about results that are shared, and its answer: `crate::results::wire` has both.
    #[n(9)]
    Results,
    /// A piece of a large result (the body: `comity_results::bulk::PieceAsk`): see [`super::pieces`].
    #[n(10)]
    Piece,
}

/// The request frame.
#[derive(Clone, Copy, Debug, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
pub(crate) struct RequestFrame<'a> {
    #[n(0)]
    pub(crate) method: Method,
    /// Number of the call in its session.
    #[n(1)]
    pub(crate) number: u64,
    /// How long the caller waits, in milliseconds from the arrival of the request.
    #[n(2)]
    pub(crate) deadline_ms: u32,
    /// Name of the capability that is called, or that a record is asked for; else empty.
    #[b(3)]
    pub(crate) capability: &'a str,
    /// Canonical CBOR of the request.
    #[cbor(b(4), with = "minicbor::bytes")]
    pub(crate) body: &'a [u8],
    /// Whether the caller accepts that the call is executed twice.
    #[n(5)]
    pub(crate) repeatable: bool,
    /// The descriptor the caller expects.
    #[n(6)]
    pub(crate) descriptor: Option<Hash>,
    /// The interface the caller expects.
    #[n(7)]
    pub(crate) interface: Option<Sha256Digest>,
    /// Makes the session of a request in early data, which has no TLS exporter yet: 32 random bytes.
    #[n(8)]
    pub(crate) nonce: Option<Hash>,
    /// Proof that the caller is a member of a private group, bound to the session and both keys; absent in early data, which has no
    /// session that cannot be repeated.
    #[n(9)]
    pub(crate) membership: Option<Hash>,
    /// Grants that the caller presents, at most [`GRANTS_BYTES_MAX`]; absent in early data for the same reason.
    #[cbor(b(10), with = "minicbor::bytes")]
    pub(crate) grants: Option<&'a [u8]>,
    /// Not the answer is wanted but a commitment to it, under this name (`comity_results::quorum`); the answer follows when it is asked for.
    #[n(11)]
    pub(crate) job: Option<Hash>,
}

/// The response frames.
#[derive(Clone, Copy, Debug, minicbor::Encode, minicbor::Decode)]
pub(crate) enum ResponseFrame<'a> {
    /// A short answer of one item, and its receipt (empty for methods that sign none).
    #[n(0)]
    Whole {
        #[cbor(b(0), with = "minicbor::bytes")]
        body: &'a [u8],
        #[cbor(b(1), with = "minicbor::bytes")]
        receipt: &'a [u8],
    },
    /// Items follow.
    #[n(1)]
    Head,
    /// A piece of an item.
    #[n(2)]
    Chunk {
        #[cbor(b(0), with = "minicbor::bytes")]
        data: &'a [u8],
        /// Whether the item is complete.
        #[n(1)]
        last: bool,
    },
    /// All items were sent.
    #[n(3)]
    End {
        #[cbor(b(0), with = "minicbor::bytes")]
        receipt: &'a [u8],
    },
    /// The call failed; nothing follows on this stream.
    #[n(4)]
    Error {
        #[n(0)]
        code: u32,
        #[b(1)]
        message: &'a str,
    },
}

/// The frame with its prefix.
pub(crate) fn frame<T: minicbor::Encode<()>>(value: &T) -> Bytes {
    let body = encode_minicbor(value);
    let mut out = BytesMut::with_capacity(PREFIX + body.len());
    push(&mut out, &body);
    out.freeze()
}

/// Appends the frame with its prefix.
pub(crate) fn push_frame<T: minicbor::Encode<()>>(out: &mut BytesMut, value: &T) {
    push(out, &encode_minicbor(value));
}

fn push(out: &mut BytesMut, body: &[u8]) {
    // Frames of ours are far below 4 GiB; the receiver refuses whatever this would make of a longer one.
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(body);
}

impl<'a> RequestFrame<'a> {
    pub(crate) fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let frame: Self = decode_minicbor(bytes)?;
        match frame.grants {
            Some(grants) if grants.len() > GRANTS_BYTES_MAX => {
                Err(DecodeError::TooLong { length: grants.len(), max: GRANTS_BYTES_MAX })
            }
            Some(_) | None => Ok(frame),
        }
    }
}

impl<'a> ResponseFrame<'a> {
    pub(crate) fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        decode_minicbor(bytes)
    }
}

/// Why no frame could be read.
#[derive(Debug)]
pub(crate) enum Unreadable {
    /// The peer ended its direction inside a frame.
    Truncated,
    /// The stream or its connection broke.
    Broken(ReadError),
}

/// Reads the length of the next frame; none when the peer ended its direction between frames.
pub(crate) async fn read_length(stream: &mut BiStream) -> Result<Option<usize>, Unreadable> {
    while stream.held.len() < PREFIX {
        match stream.recv.read_chunk(usize::MAX).await.map_err(Unreadable::Broken)? {
            Some(chunk) if stream.held.is_empty() => stream.held = chunk,
            Some(chunk) => stream.held = [&stream.held[..], &chunk[..]].concat().into(),
            None if stream.held.is_empty() => return Ok(None),
            None => return Err(Unreadable::Truncated),
        }
    }
    let mut prefix = [0; PREFIX];
    prefix.copy_from_slice(&stream.held.split_to(PREFIX));
    Ok(Some(usize::try_from(u32::from_be_bytes(prefix)).unwrap_or(usize::MAX)))
}

/// Reads `length` bytes, which the caller has found acceptable.
pub(crate) async fn read_body(stream: &mut BiStream, length: usize) -> Result<Bytes, Unreadable> {
    if stream.held.len() >= length {
        return Ok(stream.held.split_to(length));
    }
    let mut body = BytesMut::with_capacity(length.min(RESERVE_MAX));
    body.extend_from_slice(&std::mem::take(&mut stream.held));
    while body.len() < length {
        let filled = body.len();
        body.resize(length.min(filled + RESERVE_MAX), 0);
        match stream.recv.read(&mut body[filled..]).await.map_err(Unreadable::Broken)? {
            Some(read) => body.truncate(filled + read),
            None => return Err(Unreadable::Truncated),
        }
    }
    Ok(body.freeze())
}

/// Cuts a text to at most [`ERROR_TEXT_MAX`] bytes, at a character.
pub(crate) fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(ERROR_TEXT_MAX)]
}
