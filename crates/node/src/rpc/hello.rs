//! What two peers tell each other of themselves once on a link, before the first call whose repetition would matter.
//!
//! A hello travels inside the session, which has proved both keys, so it is not signed again. It makes of every peer a witness: who was
//! told a checkpoint of an audit log or a set of revocations can tell later that another was shown to somebody else.

use std::sync::Arc;

use comity_core::canonical::{decode_minicbor, encode_minicbor};
use comity_core::{DecodeError, Hash, Time};

/// Longest hello, in bytes of canonical CBOR.
pub const HELLO_BYTES_MAX: usize = 2 * 1024;
/// Longest checkpoint note in a hello, in bytes.
pub const CHECKPOINT_BYTES_MAX: usize = 1024;

/// What a peer says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
pub struct Hello {
    /// BLAKE3 of its latest sealed record; none if it has published nothing.
    #[n(0)]
    pub record: Option<Hash>,
    /// The latest checkpoint of its audit log as a signed note (C2SP `tlog-checkpoint`), at most [`CHECKPOINT_BYTES_MAX`]; none
    /// if it keeps no log.
    #[n(1)]
    pub checkpoint: Option<String>,
    /// The revocations it goes by; none if it knows of none.
    #[n(2)]
    pub revocations: Option<RevocationState>,
    /// What it can do beyond the first version of the protocol.
    #[n(3)]
    pub features: Features,
    /// Hash of the proof of two histories that it learned of last; none if it knows of none. Who does not know it asks for it.
    #[n(4)]
    pub accusation: Option<Hash>,
}

/// Which set of revocations a peer goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
pub struct RevocationState {
    /// Hash over the set.
    #[n(0)]
    pub root: Hash,
    /// When it was issued, in milliseconds since the UNIX epoch.
    #[n(1)]
    pub issued_ms: u64,
}

impl RevocationState {
    /// When it was issued.
    #[must_use]
    pub const fn issued(&self) -> Time {
        Time::from_millis(self.issued_ms)
    }
}

/// Abilities, one bit each. Bits a version does not know mean nothing to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(transparent)]
pub struct Features(#[n(0)] pub u64);

impl Features {
    /// It takes proofs of membership in private groups.
    pub const GROUPS: Self = Self(1);
    /// It reads the grants a call presents.
    pub const GRANTS: Self = Self(1 << 1);
    /// Its policy asks what callers show by evidence: they may present it in the session.
    pub const EVIDENCE: Self = Self(1 << 8);

    /// Whether all of `others` are among them.
    #[must_use]
    pub const fn has(self, others: Self) -> bool {
        self.0 & others.0 == others.0
    }

    /// Both.
    #[must_use]
    pub const fn with(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }
}

impl Hello {
    /// The bytes that travel.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        encode_minicbor(self)
    }

    /// Reads a hello: its size, its one encoding, its bounds.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.len() > HELLO_BYTES_MAX {
            return Err(DecodeError::TooLong { length: bytes.len(), max: HELLO_BYTES_MAX });
        }
        let hello: Self = decode_minicbor(bytes)?;
        match &hello.checkpoint {
            Some(note) if note.len() > CHECKPOINT_BYTES_MAX => {
                Err(DecodeError::TooLong { length: note.len(), max: CHECKPOINT_BYTES_MAX })
            }
            Some(_) | None => Ok(hello),
        }
    }
}

/// What the peer of a link said, and whether it heard what this node says.
#[derive(Debug, Default)]
pub(crate) struct Greeting {
    /// Said by the peer, in its request or in its answer; the latest counts.
    theirs: std::sync::Mutex<Option<Arc<Hello>>>,
    /// Held while this node says hello, so that calls at once say it once.
    pub(super) turn: tokio::sync::Mutex<()>,
}

impl Greeting {
    pub(crate) fn theirs(&self) -> Option<Arc<Hello>> {
        crate::transport::locked(&self.theirs).clone()
    }

    /// Returns whether it is the first on this link.
    pub(crate) fn hear(&self, hello: Arc<Hello>) -> bool {
        crate::transport::locked(&self.theirs).replace(hello).is_none()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hello() -> impl Strategy<Value = Hello> {
        let note = proptest::option::of("[ -~\n]{0,1024}");
        let revoked = proptest::option::of(any::<([u8; 32], u64)>());
        let accused = any::<Option<[u8; 32]>>();
        (any::<Option<[u8; 32]>>(), note, revoked, any::<u64>(), accused).prop_map(
            |(record, checkpoint, revoked, features, accused)| Hello {
                record: record.map(Hash),
                checkpoint,
                revocations: revoked
                    .map(|(root, issued_ms)| RevocationState { root: Hash(root), issued_ms }),
                features: Features(features),
                accusation: accused.map(Hash),
            },
        )
    }

    proptest! {
        #[test]
        fn it_comes_back_as_it_was_and_in_one_form_alone(hello in hello(), at in any::<prop::sample::Index>(), bit in 0_u32..8) {
            let mut bytes = hello.encode();
            prop_assert!(bytes.len() <= HELLO_BYTES_MAX);
            prop_assert_eq!(Hello::decode(&bytes).ok(), Some(hello));
            bytes.push(0);
            prop_assert!(Hello::decode(&bytes).is_err());
            bytes.pop();
            let at = at.index(bytes.len());
            bytes[at] ^= 1_u8 << bit;
            if let Ok(other) = Hello::decode(&bytes) {
                prop_assert_eq!(other.encode(), bytes);
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(hello) = Hello::decode(&bytes) {
                prop_assert_eq!(hello.encode(), bytes);
            }
        }
    }

    #[test]
    fn its_bounds_hold() {
        let long =
            Hello { checkpoint: Some("x".repeat(CHECKPOINT_BYTES_MAX + 1)), ..Hello::default() };
        assert!(Hello::decode(&long.encode()).is_err());
        assert!(Hello::decode(&vec![0; HELLO_BYTES_MAX + 1]).is_err());
        let both = Features::GROUPS.with(Features::GRANTS);
        assert!(both.has(Features::GROUPS) && !Features::GROUPS.has(both));
    }
}
