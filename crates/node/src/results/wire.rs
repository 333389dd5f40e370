//! Questions about results and their answers, as they travel: deterministic CBOR, `[kind, {fields}]`.

use comity_core::{AgentId, Hash, canonical};
use comity_results::key::IndexKey;
use comity_results::result::MAX_ENCODED;
use minicbor::bytes::ByteVec;

/// Longest question, in bytes.
pub(crate) const QUESTION_BYTES_MAX: usize = 32 * 1024;
/// Longest answer that is a whole result, in bytes.
pub(crate) const RESULT_BYTES_MAX: usize = MAX_ENCODED;
/// Longest answer of another kind, in bytes: that is [`PROOFS_MAX`] proofs, or [`WORDS_MAX`] receipts.
pub(crate) const TOLD_BYTES_MAX: usize = 128 * 1024;
/// Longest answer that is revealed, in bytes.
pub(crate) const REVEALED_BYTES_MAX: usize = super::PROMISE_BYTES_MAX + 4 * 1024;
/// Pointers in one message, either way.
pub(crate) const POINTERS_MAX: usize = 16;
/// Proofs of contradiction in one answer.
pub(crate) const PROOFS_MAX: usize = 4;
/// Longest proof that is passed on, in bytes; one of answers that are only comparable carries both of them, and may be longer.
pub(crate) const PROOF_BYTES_MAX: usize = 24 * 1024;
/// Counter-signed receipts in one answer, each of another caller.
pub(crate) const WORDS_MAX: usize = 16;
/// Countersignatures in one message.
pub(crate) const ACKS_MAX: usize = 64;

/// What a peer asks. Kinds and fields are never reused.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub(crate) enum Question {
    /// The caller holds results and hands them out: its sealed pointers, to be kept for others to find.
    #[n(0)]
    #[cbor(map)]
    Announce {
        #[n(0)]
        pointers: Vec<ByteVec>,
    },
    /// Who holds the result of this name?
    #[n(1)]
    #[cbor(map)]
    Holders {
        #[n(0)]
        key: IndexKey,
    },
    /// The result of this name. Under a name that is keyed for a group, only to its members.
    #[n(2)]
    #[cbor(map)]
    Fetch {
        #[n(0)]
        key: IndexKey,
    },
    /// The caller's countersignatures under receipts of the asked agent.
    #[n(3)]
    #[cbor(map)]
    Acknowledge {
        #[n(0)]
        acks: Vec<Acked>,
    },
    /// What was taken back of the capability with this declaration, as far as the asked agent knows.
    #[n(4)]
    #[cbor(map)]
    Retracted {
        #[n(0)]
        descriptor: Hash,
    },
    /// The asked agent's answer to a call that it committed to (`comity_results::quorum`).
    #[n(5)]
    #[cbor(map)]
    Reveal {
        /// Name of the call: what the caller had it commit for.
        #[n(0)]
        job: Hash,
    },
    /// The caller takes back answers to the capability with this declaration: its sealed retractions, to be kept for others to find.
    #[n(6)]
    #[cbor(map)]
    Retract {
        #[n(0)]
        descriptor: Hash,
        #[n(1)]
        sealed: Vec<ByteVec>,
    },
    /// Counter-signed receipts in which callers confirm the asked agent's answers.
    #[n(8)]
    #[cbor(map)]
    Words {},
    /// The caller works out the answer of this name right now: who asks may wait for it.
    #[n(9)]
    #[cbor(map)]
    Begin {
        #[n(0)]
        key: IndexKey,
    },
    /// The result of this name, as soon as the asked agent has it, which works it out.
    #[n(10)]
    #[cbor(map)]
    Await {
        #[n(0)]
        key: IndexKey,
    },
    /// A proof that a producer contradicted itself, to be kept for others to find. Whoever brings it: it proves itself.
    #[n(7)]
    #[cbor(map)]
    Accuse {
        #[n(0)]
        proof: ByteVec,
    },
}

/// What is answered; to [`Question::Fetch`], [`Question::Await`] and [`Question::Reveal`], a result follows in its own form.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub(crate) enum Told {
    /// That it arrived, and of how many something was made.
    #[n(0)]
    #[cbor(map)]
    Heard {
        #[n(0)]
        kept: u64,
    },
    /// Who holds the result, the newest answer first.
    #[n(1)]
    #[cbor(map)]
    Holders {
        #[n(0)]
        holders: Vec<HeldBy>,
        /// Who is about to have it.
        #[n(1)]
        working: Option<Vec<WorkedBy>>,
    },
    /// Counter-signed receipts.
    #[n(3)]
    #[cbor(map)]
    Words {
        #[n(0)]
        receipts: Vec<ByteVec>,
    },
    /// Signed retractions, and proofs that a producer contradicted itself.
    #[n(2)]
    #[cbor(map)]
    Retracted {
        #[n(0)]
        sealed: Vec<ByteVec>,
        #[n(1)]
        proofs: Vec<ByteVec>,
    },
}

/// One countersignature.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
pub(crate) struct Acked {
    /// Hash of the receipt: looked up before anything is verified.
    #[n(0)]
    pub(crate) receipt: Hash,
    /// The sealed `comity_results::ack::Ack`.
    #[n(1)]
    pub(crate) ack: ByteVec,
}

/// A holder: its own word, and where the teller saw it, which is a hint.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
pub(crate) struct HeldBy {
    /// Its sealed pointer.
    #[n(0)]
    pub(crate) pointer: ByteVec,
    /// Its address, `IP:PORT`.
    #[n(1)]
    pub(crate) addr: Option<String>,
}

/// Somebody who works out the answer, by the word of who tells it.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
pub(crate) struct WorkedBy {
    #[n(0)]
    pub(crate) agent: AgentId,
    /// Its address, `IP:PORT`.
    #[n(1)]
    pub(crate) addr: Option<String>,
}

/// What a producer reveals: the answer it committed to, and what makes the commitment open.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
pub(crate) struct Revealed {
    #[n(0)]
    pub(crate) nonce: Hash,
    /// The result, as a holder would hand it over.
    #[n(1)]
    pub(crate) result: ByteVec,
}

impl Question {
    /// Longest answer to it.
    pub(crate) const fn answer_limit(&self) -> usize {
        match self {
            Self::Fetch { .. } | Self::Await { .. } => RESULT_BYTES_MAX,
            Self::Reveal { .. } => REVEALED_BYTES_MAX,
            Self::Announce { .. }
            | Self::Holders { .. }
            | Self::Acknowledge { .. }
            | Self::Retracted { .. }
            | Self::Retract { .. }
            | Self::Accuse { .. }
            | Self::Begin { .. }
            | Self::Words {} => TOLD_BYTES_MAX,
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        canonical::encode_minicbor(self)
    }

    /// None for whatever this version does not know.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > QUESTION_BYTES_MAX {
            return None;
        }
        let question: Self = canonical::decode_minicbor(bytes).ok()?;
        let fits = match &question {
            Self::Announce { pointers } => pointers.len() <= POINTERS_MAX,
            Self::Acknowledge { acks } => acks.len() <= ACKS_MAX,
            Self::Retract { sealed, .. } => sealed.len() <= POINTERS_MAX,
            Self::Holders { .. }
            | Self::Accuse { .. }
            | Self::Words {}
            | Self::Fetch { .. }
            | Self::Begin { .. }
            | Self::Await { .. }
            | Self::Retracted { .. }
            | Self::Reveal { .. } => true,
        };
        fits.then_some(question)
    }
}

impl Told {
    pub(crate) fn encode(&self) -> Vec<u8> {
        canonical::encode_minicbor(self)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        canonical::decode_minicbor(bytes).ok()
    }
}

impl Revealed {
    pub(crate) fn encode(&self) -> Vec<u8> {
        canonical::encode_minicbor(self)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        canonical::decode_minicbor(bytes).ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn too_many_of_anything_are_no_question() {
        let pointers = vec![ByteVec::from(vec![1]); POINTERS_MAX + 1];
        assert_eq!(Question::decode(&Question::Announce { pointers }.encode()), None);
        let ack = Acked { receipt: Hash::of(b"receipt"), ack: ByteVec::from(vec![1]) };
        let acks = vec![ack; ACKS_MAX + 1];
        assert_eq!(Question::decode(&Question::Acknowledge { acks }.encode()), None);
        let job = Question::Reveal { job: Hash::of(b"job") };
        assert_eq!(Question::decode(&job.encode()), Some(job));
    }

    proptest! {
        #[test]
        fn whatever_decodes_encodes_to_the_same_bytes(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            if let Some(question) = Question::decode(&bytes) {
                prop_assert_eq!(question.encode(), bytes.clone());
            }
            if let Some(told) = Told::decode(&bytes) {
                prop_assert_eq!(told.encode(), bytes.clone());
            }
            if let Some(revealed) = Revealed::decode(&bytes) {
                prop_assert_eq!(revealed.encode(), bytes);
            }
        }
    }
}
