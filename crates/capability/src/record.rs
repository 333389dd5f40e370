//! The signed objects of the directory: record, digest, beat, tombstone and peer record.
//!
//! | object | sealed size | lives | says |
//! |---|---|---|---|
//! | [`Record`] | up to 8 KiB | up to 26 h | everything the agent declares; held by the agent |
//! | [`Digest`] | up to 512 B | up to 26 h | what custodians index of one capability |
//! | [`Beat`] | about 160 B | up to 2.5 h | that the agent is up, and how loaded |
//! | [`Tombstone`] | about 170 B | up to 26 h | that a capability, or all of them, is gone |
//! | [`PeerRecord`] | up to 384 B | up to 26 h | where the agent can be reached |
//! | [`Veiled`] | about 770 B | up to 2.5 h | a digest for the members of a private group; signed by a pseudonym |
//!
//! Each travels in a [`comity_core::envelope`] whose signer is the agent it speaks for (of a veiled item: its pseudonym); the payload
//! never repeats the key. Times are whole milliseconds on the wire and are truncated when encoded.
//! `open` of each checks signature, size, limits and times; `decode` alone checks all but
//! the signature and the times.

mod attributes;
mod capability;
mod digest;
mod reuse;
mod signal;
mod times;
mod veiled;
mod whole;

use comity_core::Time;
use comity_core::envelope::EnvelopeError;

pub use crate::text::{MAX_FREE_TEXT, MAX_TAG, MAX_TITLE, TextError, clean};
pub use attributes::Attributes;
pub(crate) use attributes::{Sought, word_bit};
pub use capability::{
    Capability, CapabilityError, Interface, MAX_CLASSES, MAX_DECLARED_ATTRIBUTES, MAX_EXAMPLES,
    MAX_NAME, MAX_SCHEMA, MAX_TAGS, Visibility,
};
pub(crate) use digest::head_of;
pub use digest::{Bloom, Declared, Digest, MAX_ATTRIBUTES, MAX_DIGEST, MAX_ENDPOINTS};
pub use reuse::{
    ANY_FIELD, Determinism, MAX_REUSE_NAME, MAX_SOURCES, MAX_TOLERANCES, Reuse, ReuseError, Scope,
    Tolerance,
};
pub use signal::{Beat, Load, MAX_BEAT, MAX_PEER, MAX_TOMBSTONE, PeerRecord, Status, Tombstone};
pub use times::{BEAT_LIFE, CLOCK_SKEW, DIGEST_LIFE, TimesError, check_times};
pub use veiled::{GroupSecret, MAX_VEILED, UnveilError, VEILED_PREFIX, Veiled};
pub use whole::{MAX_ADDRS, MAX_CAPABILITIES, MAX_RECORD, Record};

/// Why a signed object was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// The envelope or the payload in it.
    #[error("the envelope is refused")]
    Envelope(#[source] EnvelopeError),
    /// The times.
    #[error("not valid now")]
    Times(#[source] TimesError),
    /// A capability.
    #[error("a capability is refused")]
    Capability(#[source] CapabilityError),
    /// A text of the record itself.
    #[error("a text is refused")]
    Text(#[source] TextError),
    /// Too many of something.
    #[error("{count} {what}, the limit is {limit}; split the agent or drop some")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many.
        count: usize,
        /// The limit.
        limit: usize,
    },
    /// Two capabilities of one name.
    #[error("two capabilities are named `{name}`; rename one")]
    SameName {
        /// The name.
        name: String,
    },
    /// The sealed record is too large.
    #[error(
        "the signed record has {len} bytes, the limit is {limit}; shorten texts, examples or schemas"
    )]
    TooLarge {
        /// Its length.
        len: usize,
        /// The limit.
        limit: usize,
    },
    /// There is no capability of this number.
    #[error("the record has no capability number {ordinal}")]
    NoSuchCapability {
        /// The number.
        ordinal: u16,
    },
    /// The capability is not for the directory.
    #[error("capability `{name}` is private and gets no digest; make it public to list it")]
    Private {
        /// The capability.
        name: String,
    },
}

/// An error with its causes in one line, for errors that carry a reason as text.
fn explain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// An object of which only the newest counts.
pub trait Sequenced {
    /// Its sequence number.
    fn seq(&self) -> u64;
    /// When it was issued, which decides between equal sequence numbers.
    fn issued(&self) -> Time;

    /// Whether this one replaces `other` of the same agent (and, for digests, capability): the higher sequence number
    /// wins, then the later issue time; of equals the one already held stays.
    fn replaces(&self, other: &Self) -> bool {
        (self.seq(), self.issued()) > (other.seq(), other.issued())
    }
}

macro_rules! sequenced {
    ($($name:ty),+) => {
        $(
            impl Sequenced for $name {
                fn seq(&self) -> u64 {
                    self.seq
                }

                fn issued(&self) -> Time {
                    self.issued
                }
            }
        )+
    };
}

sequenced!(Record, Digest, Beat, Tombstone, PeerRecord);
