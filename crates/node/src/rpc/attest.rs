//! What the ends of a link ask each other about their audit logs, once they said hello: that a log only grew, and a signature under what was seen.

use comity_core::canonical::{decode_minicbor, encode_minicbor};
use comity_core::{Canonical, DecodeError};

/// Longest cosignature on the wire, in bytes: a line of a signed note.
pub const COSIGNED_BYTES_MAX: usize = 512;

/// Asks for the proof that the first `old` entries of the callee's log are unchanged at `new`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
pub struct Growth {
    /// The smaller size.
    #[n(0)]
    pub old: u64,
    /// The larger size.
    #[n(1)]
    pub new: u64,
}

/// Tells a log that its checkpoint was found in order.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
pub struct Cosigned {
    /// Entries under the checkpoint.
    #[n(0)]
    pub size: u64,
    /// The line that the witness adds to its note (C2SP `tlog-cosignature`).
    #[n(1)]
    pub line: String,
}

impl Canonical for Growth {
    fn encode(&self) -> Vec<u8> {
        encode_minicbor(self)
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        decode_minicbor(bytes)
    }
}

impl Canonical for Cosigned {
    fn encode(&self) -> Vec<u8> {
        encode_minicbor(self)
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.len() > COSIGNED_BYTES_MAX {
            return Err(DecodeError::TooLong { length: bytes.len(), max: COSIGNED_BYTES_MAX });
        }
        decode_minicbor(bytes)
    }
}
