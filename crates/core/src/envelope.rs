//! The one signed form: COSE_Sign1 with a context that says what is signed.
//!
//! ```text
//! 18([ << {1: -19, 3: "application/comity+cbor", 4: key} >>, {}, payload bstr, signature bstr .size 64 ])
//! external_aad = "comity/1/" kind
//! ```
//!
//! * alg -19 is Ed25519 (RFC 9864); `kid` is the signer's whole public key, in the protected header.
//! * The kind is in the external AAD (RFC 9052 section 4.3): it is signed and not sent, so that the reader's own
//!   expectation decides, and a signature over one kind never opens as another.
//! * **The envelope is canonical too**: what is received must be, byte for byte, what [`seal`] would have written.
//!   Otherwise the array head `84` could be respelled `98 04` without touching the signature, and the copy would have
//!   another hash: enough to evade a revocation by hash (TRUST.md, "Attacks executed here").

use coset::{CoseSign1, CoseSign1Builder, HeaderBuilder, TaggedCborSerializable as _, iana};

use crate::{AgentId, Canonical, DecodeError, Hash, Identity, KeyError, SignatureError};

/// Content type of every payload.
const CONTENT_TYPE: &str = "application/comity+cbor";
/// First part of the external AAD: protocol and version.
const CONTEXT: &str = "comity/1/";
/// Bytes that an envelope adds to a payload, at most: 134, and up to 9 for the head of the payload's byte string.
pub const MAX_OVERHEAD: usize = 143;

/// What is signed. A kind is never reused for another meaning, and each name is its AAD for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// An agent's whole self-description.
    Record,
    /// The index entry of one capability, made from a record.
    Digest,
    /// A sign of life that extends a digest's validity.
    Beat,
    /// The withdrawal of a record or digest.
    Tombstone,
    /// An agent's transport addresses.
    Peer,
    /// A statement of what was asked and answered, signed alone.
    Receipt,
    /// The root of a batch of receipts.
    ReceiptRoot,
    /// A caller's countersignature and verdict on a receipt.
    Ack,
    /// One link of a chain of permissions.
    Grant,
    /// The withdrawal of a signed statement or a key.
    Revoke,
    /// A third party's statement about a capability.
    Endorse,
    /// Evidence about how an agent runs.
    Evidence,
    /// The passage from one key to the next.
    Rotate,
    /// A commitment to an answer before it is shown.
    Commit,
    /// An index entry of a private group, under a pseudonym.
    Veiled,
    /// Everything that an issuer withdrew, as one hash, and up to when that is all.
    RevokeSet,
    /// The rules of a group, signed by the group's key.
    Charter,
    /// The admission of an agent to a governed group.
    Admit,
    /// One side of the trust between two agents.
    Trust,
    /// Word that its signer holds a result and hands it out.
    Holder,
    /// A producer's withdrawal of answers that it gave.
    Retract,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 21] = [
        Self::Record,
        Self::Digest,
        Self::Beat,
        Self::Tombstone,
        Self::Peer,
        Self::Receipt,
        Self::ReceiptRoot,
        Self::Ack,
        Self::Grant,
        Self::Revoke,
        Self::Endorse,
        Self::Evidence,
        Self::Rotate,
        Self::Commit,
        Self::Veiled,
        Self::RevokeSet,
        Self::Charter,
        Self::Admit,
        Self::Trust,
        Self::Holder,
        Self::Retract,
    ];

    /// The kind's part of the external AAD.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Record => "record",
            Self::Digest => "digest",
            Self::Beat => "beat",
            Self::Tombstone => "tombstone",
            Self::Peer => "peer",
            Self::Receipt => "receipt",
            Self::ReceiptRoot => "receipt-root",
            Self::Ack => "ack",
            Self::Grant => "grant",
            Self::Revoke => "revoke",
            Self::Endorse => "endorse",
            Self::Evidence => "evidence",
            Self::Rotate => "rotate",
            Self::Commit => "commit",
            Self::Veiled => "veiled",
            Self::RevokeSet => "revoke-set",
            Self::Charter => "charter",
            Self::Admit => "admit",
            Self::Trust => "trust",
            Self::Holder => "holder",
            Self::Retract => "retract",
        }
    }

    fn aad(self) -> Vec<u8> {
        [CONTEXT, self.name()].concat().into_bytes()
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// Why an envelope is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// Longer than the caller accepts; nothing of it was read.
    #[error("an envelope of {length} bytes where at most {max} are accepted")]
    TooLong {
        /// Length of the envelope in bytes.
        length: usize,
        /// The caller's limit.
        max: usize,
    },
    /// Not a tagged COSE_Sign1 at all.
    #[error("not a signed envelope (COSE_Sign1): {reason}")]
    Malformed {
        /// What the COSE decoder says.
        reason: String,
    },
    /// A COSE_Sign1, but not with the fields of ours.
    #[error("a signed envelope, but not of comity's form: {what}")]
    Form {
        /// Which rule is broken.
        what: &'static str,
    },
    /// The envelope spells something another way than [`seal`] does.
    #[error("the envelope is not in canonical form: somebody re-encoded it")]
    NotCanonical,
    /// The signer's key is refused.
    #[error("the signer's key is refused")]
    Key(#[source] KeyError),
    /// The signature does not hold for this kind.
    #[error("the signature does not hold for a {kind}")]
    Signature {
        /// The kind it was opened as.
        kind: Kind,
        /// That the signature does not hold.
        source: SignatureError,
    },
    /// Signed, but the payload is not what this kind carries.
    #[error("the signature holds, but the payload is not a valid {kind}")]
    Payload {
        /// The kind it was opened as.
        kind: Kind,
        /// What is wrong with the payload.
        source: DecodeError,
    },
}

/// An opened envelope: `signer` signed `payload`. Only [`open`] makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Opened<T> {
    /// Who signed.
    pub signer: AgentId,
    /// What was signed.
    pub payload: T,
    /// BLAKE3 of the envelope as received: the name of this statement.
    pub hash: Hash,
}

/// An envelope that was parsed and **not** verified: anybody can have made it. Only [`open_unverified`] makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unverified<T> {
    /// Who is said to have signed. The key itself passed intake; the signature was not looked at.
    pub claimed_signer: AgentId,
    /// What is said to be signed.
    pub unverified_payload: T,
    /// BLAKE3 of the envelope as received.
    pub hash: Hash,
}

/// Signs `payload` as `kind`. The same arguments give the same bytes (Ed25519 is deterministic).
pub fn seal<T: Canonical>(kind: Kind, payload: &T, identity: &Identity) -> Vec<u8> {
    let (key, payload) = (identity.id(), payload.encode());
    let signature = identity.sign(&signed_text(key.as_bytes(), kind, &payload));
    let mut bytes = Vec::with_capacity(payload.len() + MAX_OVERHEAD);
    bytes.extend_from_slice(HEAD);
    bytes.extend_from_slice(key.as_bytes());
    bytes.push(EMPTY_MAP);
    push_bytes(&mut bytes, &payload);
    bytes.extend_from_slice(SIGNATURE_HEAD);
    bytes.extend_from_slice(&signature);
    bytes
}

/// Verifies an envelope and decodes its payload: length, form, canonical form, key, signature, payload, in this order.
///
/// `max_len` is in bytes, of the whole envelope, and is checked before anything is parsed.
///
/// # Errors
/// [`EnvelopeError`] names the first rule that is broken.
pub fn open<T: Canonical>(
    kind: Kind,
    bytes: &[u8],
    max_len: usize,
) -> Result<Opened<T>, EnvelopeError> {
    open_parsed(kind, bytes, Parsed::read(bytes, max_len, AgentId::from_bytes)?)
}

/// As [`open`], for a caller that expects `signer`: its key passed intake before and is not checked again, which saves half of the
/// time. An envelope of another signer opens just as well; [`Opened::signer`] says whose it is.
///
/// # Errors
/// As [`open`].
pub fn open_expecting<T: Canonical>(
    kind: Kind,
    bytes: &[u8],
    max_len: usize,
    signer: &AgentId,
) -> Result<Opened<T>, EnvelopeError> {
    let intake = |key: &[u8; 32]| match signer {
        known if known.as_bytes() == key => Ok(*known),
        _ => AgentId::from_bytes(key),
    };
    open_with_intake(kind, bytes, max_len, intake)
}

/// As [`open`], for a caller that remembers keys which passed intake: `intake` answers for the signer's key as
/// [`AgentId::from_bytes`] would, from memory where it can.
///
/// # Errors
/// As [`open`].
pub fn open_with_intake<T: Canonical>(
    kind: Kind,
    bytes: &[u8],
    max_len: usize,
    intake: impl FnOnce(&[u8; 32]) -> Result<AgentId, KeyError>,
) -> Result<Opened<T>, EnvelopeError> {
    open_parsed(kind, bytes, Parsed::read(bytes, max_len, intake)?)
}

fn open_parsed<T: Canonical>(
    kind: Kind,
    bytes: &[u8],
    parsed: Parsed<'_>,
) -> Result<Opened<T>, EnvelopeError> {
    let message = signed_text(parsed.signer.as_bytes(), kind, parsed.payload);
    let verified = parsed.signer.verify(&message, &parsed.signature);
    verified.map_err(|source| EnvelopeError::Signature { kind, source })?;
    let payload =
        T::decode(parsed.payload).map_err(|source| EnvelopeError::Payload { kind, source })?;
    Ok(Opened { signer: parsed.signer, payload, hash: Hash::of(bytes) })
}

/// Parses an envelope **without checking its signature or kind**.
///
/// For a caller that knows the signature to hold already (it verified these very bytes before, and remembers their
/// hash). Everything else uses [`open`].
///
/// # Errors
/// As [`open`], without [`EnvelopeError::Signature`]; `kind` is named in errors only.
pub fn open_unverified<T: Canonical>(
    kind: Kind,
    bytes: &[u8],
    max_len: usize,
) -> Result<Unverified<T>, EnvelopeError> {
    let parsed = Parsed::read(bytes, max_len, AgentId::from_bytes)?;
    let payload =
        T::decode(parsed.payload).map_err(|source| EnvelopeError::Payload { kind, source })?;
    Ok(Unverified {
        claimed_signer: parsed.signer,
        unverified_payload: payload,
        hash: Hash::of(bytes),
    })
}

/// The canonical envelope up to the key: tag 18, an array of four, the protected header as a byte string of 63 bytes, which is a map of
/// algorithm -19, the content type, and a key id of 32 bytes.
const HEAD: &[u8] = b"\xd2\x84\x58\x3f\xa3\x01\x32\x03\x77application/comity+cbor\x04\x58\x20";
/// Where in [`HEAD`] the protected header begins.
const PROTECTED_AT: usize = 4;
/// The unprotected header.
const EMPTY_MAP: u8 = 0xa0;
/// The head of a byte string of 64 bytes.
const SIGNATURE_HEAD: &[u8] = b"\x58\x40";
/// What is signed, up to the protected header: an array of four, the context, a byte string of 63 bytes (RFC 9052, section 4.4).
const SIGNED_HEAD: &[u8] = b"\x84\x6aSignature1\x58\x3f";

/// Appends a byte string in its shortest spelling.
fn push_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    push_head(out, bytes.len());
    out.extend_from_slice(bytes);
}

fn push_head(out: &mut Vec<u8>, length: usize) {
    let wide = (length as u64).to_be_bytes();
    match length {
        0..=0x17 => out.push(0x40 | wide[7]),
        0x18..=0xff => out.extend_from_slice(&[0x58, wide[7]]),
        0x100..=0xffff => out.extend_from_slice(&[0x59, wide[6], wide[7]]),
        0x1_0000..=0xffff_ffff => {
            out.push(0x5a);
            out.extend_from_slice(&wide[4..]);
        }
        _ => {
            out.push(0x5b);
            out.extend_from_slice(&wide);
        }
    }
}

/// What a signature of `key` over `payload` covers.
fn signed_text(key: &[u8; 32], kind: Kind, payload: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(payload.len() + 128);
    text.extend_from_slice(SIGNED_HEAD);
    text.extend_from_slice(&HEAD[PROTECTED_AT..]);
    text.extend_from_slice(key);
    push_bytes(&mut text, &kind.aad());
    push_bytes(&mut text, payload);
    text
}

/// The parts of an envelope that is spelled exactly as [`seal`] spells it.
fn split(bytes: &[u8]) -> Option<(&[u8; 32], &[u8], &[u8; 64])> {
    let (key, rest) = bytes.strip_prefix(HEAD)?.split_first_chunk::<32>()?;
    let rest = rest.strip_prefix(&[EMPTY_MAP])?;
    let (rest, signature) = rest.split_last_chunk::<64>()?;
    let rest = rest.strip_suffix(SIGNATURE_HEAD)?;
    // The head of the payload takes at most nine bytes, and says how long what follows it is in one way only.
    let mut head = Vec::with_capacity(9);
    [1, 2, 3, 5, 9].into_iter().find_map(|length| {
        let (found, payload) = rest.split_at_checked(length)?;
        head.clear();
        push_head(&mut head, payload.len());
        (found == head).then_some((key, payload, signature))
    })
}

/// An envelope of our form in canonical spelling; the signature is not checked.
struct Parsed<'b> {
    payload: &'b [u8],
    signer: AgentId,
    signature: [u8; 64],
}

impl<'b> Parsed<'b> {
    /// `intake` checks the signer's key, or knows that it passed.
    fn read(
        bytes: &'b [u8],
        max_len: usize,
        intake: impl FnOnce(&[u8; 32]) -> Result<AgentId, KeyError>,
    ) -> Result<Self, EnvelopeError> {
        if bytes.len() > max_len {
            return Err(EnvelopeError::TooLong { length: bytes.len(), max: max_len });
        }
        let (key, payload, signature) = split(bytes).ok_or_else(|| refusal(bytes))?;
        let signer = intake(key).map_err(EnvelopeError::Key)?;
        Ok(Self { payload, signer, signature: *signature })
    }
}

/// The first rule that is broken by bytes that are not spelled as [`seal`] spells an envelope.
fn refusal(bytes: &[u8]) -> EnvelopeError {
    let cose = match CoseSign1::from_tagged_slice(bytes) {
        Ok(cose) => cose,
        Err(error) => return EnvelopeError::Malformed { reason: error.to_string() },
    };
    let form = |what| EnvelopeError::Form { what };
    let Some(payload) = cose.payload else { return form("the payload is detached") };
    if cose.signature.len() != 64 {
        return form("the signature does not have 64 bytes");
    }
    let Ok(key) = <[u8; 32]>::try_from(&cose.protected.header.key_id[..]) else {
        return form("the protected header holds no key id of 32 bytes");
    };
    if build_for_key(&key, payload).protected.header != cose.protected.header {
        return form("the protected header is not alg Ed25519, content type and key id");
    }
    if !cose.unprotected.is_empty() {
        return form("the unprotected header is not empty");
    }
    EnvelopeError::NotCanonical
}

/// The envelope of our form as the library of the standard makes it, without a signature.
fn build_for_key(key: &[u8; 32], payload: Vec<u8>) -> CoseSign1 {
    let protected = HeaderBuilder::new()
        .algorithm(iana::Algorithm::Ed25519)
        .content_type(CONTENT_TYPE.to_owned())
        .key_id(key.to_vec())
        .build();
    CoseSign1Builder::new().protected(protected).payload(payload).build()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The spelling by hand is the library's, for payloads around each length of a head.
    #[test]
    fn what_is_spelled_by_hand_is_what_the_library_of_the_standard_spells() {
        let key = [7; 32];
        for length in [0, 1, 23, 24, 255, 256, 4_000, 65_535, 65_536, 70_000] {
            let payload = vec![0x5a; length];
            for kind in Kind::ALL {
                let cose = build_for_key(&key, payload.clone());
                let text = signed_text(&key, kind, &payload);
                assert!(text == cose.tbs_data(&kind.aad()), "{length} {kind}");
            }
            let cose = CoseSign1 { signature: vec![9; 64], ..build_for_key(&key, payload.clone()) };
            let bytes = cose.to_tagged_vec().unwrap();
            let found = split(&bytes);
            assert!(found == Some((&key, &payload[..], &[9; 64])), "{length}");
            assert_eq!(refusal(&bytes), EnvelopeError::NotCanonical);
            for cut in [0, 1, 40, 70, bytes.len() - 1] {
                assert_eq!(split(&bytes[..cut]), None);
            }
            let longer = [&bytes[..], &[0]].concat();
            assert_eq!(split(&longer), None);
        }
    }
}
