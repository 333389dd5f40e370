//! What a log says: one entry for each thing that happened.
//!
//! An entry is deterministic CBOR `{0: version, 1: milliseconds since the UNIX epoch, 2: [kind, {fields}]}`. It names keys, hashes and short
//! names and never carries what was asked or answered. Keys in entries are 32 bytes as logged: the intake rules applied when the
//! session proved them, and applying them again to each of a million entries would take a minute.

use comity_core::canonical::Version;
use comity_core::receipt::{MAX_SIGNED_RECEIPT_LEN, ShortText, ShortTextError};
use comity_core::{Canonical, DecodeError, Hash, Sha256Digest};

use super::tree;
use crate::RawKey;

/// Longest entry, in bytes: a signed receipt and what stands around it.
pub const MAX_ENTRY_LEN: usize = MAX_SIGNED_RECEIPT_LEN + 512;

/// A name for an entry made of any text: cut to what a receipt's text may hold, without control characters. What strangers send appears in
/// entries only this way.
#[must_use]
pub fn short_text(text: &str) -> ShortText {
    let mut kept = String::new();
    for c in text.chars() {
        let mut buffer = [0; 4];
        let one = match ShortText::try_from(&*c.encode_utf8(&mut buffer)) {
            Ok(_) => c,
            Err(ShortTextError::Control { .. } | ShortTextError::TooLong { .. }) => '\u{fffd}',
        };
        if kept.len() + one.len_utf8() > comity_core::receipt::MAX_SHORT_TEXT {
            break;
        }
        kept.push(one);
    }
    ShortText::try_from(kept.as_str()).expect("cut to the length, and every character was tried")
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
pub struct Entry {
    /// Format version.
    #[n(0)]
    pub version: Version<1>,
    /// When, by the agent's own clock. Witnesses' times in cosignatures bound it from outside.
    #[n(1)]
    pub at_ms: u64,
    /// What.
    #[n(2)]
    pub event: Event,
}

impl Entry {
    /// An entry of now.
    #[must_use]
    pub fn new(at: comity_core::Time, event: Event) -> Self {
        Self { version: Version, at_ms: at.as_millis(), event }
    }

    /// The hash of the entry as a leaf.
    #[must_use]
    pub fn leaf_hash(&self) -> Sha256Digest {
        tree::leaf_hash(&Canonical::encode(self))
    }
}

impl Canonical for Entry {
    fn encode(&self) -> Vec<u8> {
        comity_core::canonical::encode_minicbor(self)
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        super::limit(bytes, MAX_ENTRY_LEN)?;
        comity_core::canonical::decode_minicbor(bytes)
    }
}

/// What happened. The numbers of kinds and fields are never reused.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[non_exhaustive]
pub enum Event {
    /// The node started: entries in front of it that were not under a checkpoint may be missing after a loss of power.
    #[n(0)]
    #[cbor(map)]
    Started {
        /// Version of the program.
        #[n(0)]
        program: ShortText,
    },
    /// The node stopped in order.
    #[n(1)]
    #[cbor(map)]
    Stopped {},
    /// A session with a peer began.
    #[n(2)]
    #[cbor(map)]
    SessionOpened {
        /// The session: 32 bytes both ends derive from the connection's secrets.
        #[n(0)]
        session: Hash,
        /// The key that the peer proved.
        #[n(1)]
        peer: RawKey,
        /// Whether the peer began it.
        #[n(2)]
        incoming: bool,
    },
    /// A session ended.
    #[n(3)]
    #[cbor(map)]
    SessionClosed {
        /// The session.
        #[n(0)]
        session: Hash,
        /// The peer.
        #[n(1)]
        peer: RawKey,
    },
    /// This agent answered a call.
    #[n(4)]
    #[cbor(map)]
    CallServed {
        /// BLAKE3 of the receipt's canonical bytes, which bind session, request and answer.
        #[n(0)]
        receipt: Hash,
        /// Who asked.
        #[n(1)]
        caller: RawKey,
        /// Name of the capability.
        #[n(2)]
        capability: ShortText,
        /// The session.
        #[n(3)]
        session: Hash,
        /// Number of the call within the session.
        #[n(4)]
        number: u64,
    },
    /// This agent called and holds the answer's receipt.
    #[n(5)]
    #[cbor(map)]
    CallMade {
        /// BLAKE3 of the receipt's canonical bytes.
        #[n(0)]
        receipt: Hash,
        /// Who answered.
        #[n(1)]
        callee: RawKey,
        /// Name of the capability.
        #[n(2)]
        capability: ShortText,
        /// The signed receipt itself, so that the log proves to third parties what the other side said (T22). Pruning the entry
        /// removes it and keeps its hash.
        #[cbor(n(3), with = "minicbor::bytes")]
        signed: Vec<u8>,
    },
    /// This agent called and got no answer it could believe.
    #[n(6)]
    #[cbor(map)]
    CallFailed {
        /// Who was asked.
        #[n(0)]
        callee: RawKey,
        /// Name of the capability.
        #[n(1)]
        capability: ShortText,
        /// What went wrong, as the call protocol's kind of error.
        #[n(2)]
        reason: ShortText,
    },
    /// A call was not let through, or ended without an answer.
    #[n(7)]
    #[cbor(map)]
    Denied {
        /// Who asked.
        #[n(0)]
        caller: RawKey,
        /// What was asked for, as far as it is a name.
        #[n(1)]
        capability: ShortText,
        /// Which rule or error decided.
        #[n(2)]
        reason: ShortText,
        /// How many such calls this entry stands for: alike ones of one second share an entry, so that a flood of refused calls cannot
        /// fill the log.
        #[n(3)]
        count: u64,
    },
    /// A decision of policy let a call through.
    #[n(8)]
    #[cbor(map)]
    Allowed {
        /// Who asked.
        #[n(0)]
        caller: RawKey,
        /// Name of the capability.
        #[n(1)]
        capability: ShortText,
        /// Which rule decided.
        #[n(2)]
        rule: ShortText,
        /// The session.
        #[n(3)]
        session: Hash,
    },
    /// This agent signed a grant.
    #[n(9)]
    #[cbor(map)]
    GrantIssued {
        /// BLAKE3 of the grant's envelope.
        #[n(0)]
        grant: Hash,
        /// Who holds it.
        #[n(1)]
        holder: RawKey,
        /// Until when, in milliseconds since the UNIX epoch.
        #[n(2)]
        not_after_ms: u64,
    },
    /// A grant was used with this agent.
    #[n(10)]
    #[cbor(map)]
    GrantUsed {
        /// BLAKE3 of the last link's envelope.
        #[n(0)]
        grant: Hash,
        /// Who used it.
        #[n(1)]
        holder: RawKey,
        /// The session.
        #[n(2)]
        session: Hash,
    },
    /// This agent began to trust another.
    #[n(11)]
    #[cbor(map)]
    TrustOpened {
        /// Whom.
        #[n(0)]
        peer: RawKey,
        /// How it came about.
        #[n(1)]
        how: ShortText,
    },
    /// This agent ceased to trust another.
    #[n(12)]
    #[cbor(map)]
    TrustClosed {
        /// Whom.
        #[n(0)]
        peer: RawKey,
        /// How it came about.
        #[n(1)]
        how: ShortText,
    },
    /// This agent published a record.
    #[n(13)]
    #[cbor(map)]
    RecordPublished {
        /// BLAKE3 of the record's envelope.
        #[n(0)]
        record: Hash,
        /// Its sequence number.
        #[n(1)]
        sequence: u64,
    },
    /// Another policy came into force.
    #[n(14)]
    #[cbor(map)]
    PolicyChanged {
        /// BLAKE3 of the policy's text.
        #[n(0)]
        policy: Hash,
    },
    /// Something was revoked, by this agent or by another it listens to.
    #[n(15)]
    #[cbor(map)]
    Revoked {
        /// BLAKE3 of the revocation's envelope.
        #[n(0)]
        revocation: Hash,
        /// Who revoked.
        #[n(1)]
        issuer: RawKey,
    },
    /// Evidence was given or appraised.
    #[n(16)]
    #[cbor(map)]
    Evidence {
        /// BLAKE3 of the evidence's envelope.
        #[n(0)]
        evidence: Hash,
        /// Whom it is about.
        #[n(1)]
        subject: RawKey,
        /// The session it is bound to.
        #[n(2)]
        session: Hash,
    },
    /// This agent signed an endorsement or statement of another kind.
    #[n(17)]
    #[cbor(map)]
    Signed {
        /// BLAKE3 of the envelope.
        #[n(0)]
        statement: Hash,
        /// Its kind.
        #[n(1)]
        kind: ShortText,
        /// Whom it is about.
        #[n(2)]
        subject: RawKey,
    },
    /// Another log was caught with two histories.
    #[n(18)]
    #[cbor(map)]
    Equivocation {
        /// Whose log.
        #[n(0)]
        log: RawKey,
        /// BLAKE3 of the proof.
        #[n(1)]
        proof: Hash,
    },
    /// Entries were lost before they were written, because the disk failed or the queue was full.
    #[n(19)]
    #[cbor(map)]
    Lost {
        /// How many.
        #[n(0)]
        count: u64,
        /// Why.
        #[n(1)]
        reason: ShortText,
    },
    /// Entries before `before` were deleted on purpose; their hashes stay.
    #[n(20)]
    #[cbor(map)]
    Pruned {
        /// The first entry kept.
        #[n(0)]
        before: u64,
    },
}

impl Event {
    /// The name of the kind, as `comity audit list` prints it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Started { .. } => "started",
            Self::Stopped { .. } => "stopped",
            Self::SessionOpened { .. } => "session-opened",
            Self::SessionClosed { .. } => "session-closed",
            Self::CallServed { .. } => "call-served",
            Self::CallMade { .. } => "call-made",
            Self::CallFailed { .. } => "call-failed",
            Self::Denied { .. } => "denied",
            Self::Allowed { .. } => "allowed",
            Self::GrantIssued { .. } => "grant-issued",
            Self::GrantUsed { .. } => "grant-used",
            Self::TrustOpened { .. } => "trust-opened",
            Self::TrustClosed { .. } => "trust-closed",
            Self::RecordPublished { .. } => "record-published",
            Self::PolicyChanged { .. } => "policy-changed",
            Self::Revoked { .. } => "revoked",
            Self::Evidence { .. } => "evidence",
            Self::Signed { .. } => "signed",
            Self::Equivocation { .. } => "equivocation",
            Self::Lost { .. } => "lost",
            Self::Pruned { .. } => "pruned",
        }
    }
}
