//! Questions about trust and their answers, as they travel: deterministic CBOR, `[kind, {fields}]`.

use comity_core::{Hash, canonical};
use comity_trust::RawKey;
use minicbor::bytes::ByteVec;

use super::requests::Stage;

/// What a peer asks. Kinds and fields are never reused.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub(crate) enum Question {
    /// The asked agent's own revocation set, signed now.
    #[n(0)]
    #[cbor(map)]
    RevocationSet {},
    /// The caller asks for access: to a capability, or for trust both ways.
    #[n(1)]
    #[cbor(map)]
    Ask {
        /// Which; none for trust both ways.
        #[n(0)]
        capability: Option<String>,
        /// What the caller says for itself.
        #[n(1)]
        message: String,
        /// The caller's signed declaration of trust, where that is asked for.
        #[n(2)]
        trust: Option<ByteVec>,
    },
    /// What became of an earlier request of the caller's.
    #[n(2)]
    #[cbor(map)]
    Outcome {
        /// As in the request.
        #[n(0)]
        capability: Option<String>,
    },
    /// The caller answers an earlier request of the asked agent's.
    #[n(3)]
    #[cbor(map)]
    Deliver {
        /// As in the request.
        #[n(0)]
        capability: Option<String>,
        /// The answer.
        #[n(1)]
        answer: Answer,
    },
    /// Endorsements that the asked agent received, of one capability or of all.
    #[n(4)]
    #[cbor(map)]
    Endorsements {
        /// Which; none for all.
        #[n(0)]
        capability: Option<String>,
    },
    /// The caller endorses the asked agent.
    #[n(5)]
    #[cbor(map)]
    Endorsed {
        /// The sealed endorsement.
        #[n(0)]
        endorsement: ByteVec,
    },
    /// The charter and the newest withdrawals of a group whose key the asked agent keeps.
    #[n(6)]
    #[cbor(map)]
    Group {
        /// The group's key.
        #[n(0)]
        group: RawKey,
    },
    /// The caller, a steward, admits the asked agent to a group.
    #[n(7)]
    #[cbor(map)]
    Admitted {
        /// The group's key.
        #[n(0)]
        group: RawKey,
        /// The sealed admission.
        #[n(1)]
        admission: ByteVec,
    },
    /// The proofs of two histories that the asked agent learned of last.
    #[n(9)]
    #[cbor(map)]
    Accusations {},
    /// The caller, who keeps a group's key or is one of its stewards, tells what was withdrawn in it.
    #[n(8)]
    #[cbor(map)]
    GroupNews {
        /// The group's key.
        #[n(0)]
        group: RawKey,
        /// Signed sets, of the group and of the caller.
        #[n(1)]
        sets: Vec<ByteVec>,
    },
    /// What evidence the asked agent has for a capability; `*` for the agent as such.
    #[n(20)]
    #[cbor(map)]
    EvidenceList {
        /// Which.
        #[n(0)]
        capability: String,
    },
    /// One piece of it, for this question.
    #[n(21)]
    #[cbor(map)]
    Evidence {
        /// As in the list.
        #[n(0)]
        capability: String,
        /// Which.
        #[n(1)]
        item: Hash,
        /// 32 random bytes, new for each question: the answer is bound to them.
        #[n(2)]
        nonce: Hash,
    },
    /// The caller presents evidence of itself.
    #[n(22)]
    #[cbor(map)]
    Present {
        /// The sealed evidence, bound to the session.
        #[n(0)]
        evidence: ByteVec,
    },
}

/// A piece of evidence in a list.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
pub(crate) struct Listed {
    /// Its name at the asked agent.
    #[n(0)]
    pub(crate) item: Hash,
    /// What kind it is.
    #[n(1)]
    pub(crate) kind: String,
    /// Its length in bytes; none if it is yet to be made.
    #[n(2)]
    pub(crate) length: Option<u32>,
}

/// The answer to a request for access.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
pub(crate) struct Answer {
    /// Where it stands.
    #[n(0)]
    pub(crate) stage: Stage,
    /// The grant.
    #[n(1)]
    pub(crate) chain: Option<ByteVec>,
    /// The signed declaration of trust.
    #[n(2)]
    pub(crate) trust: Option<ByteVec>,
}

impl Answer {
    /// That there is none yet: also of what was never asked, or dropped.
    pub(crate) const fn none() -> Self {
        Self { stage: Stage::Waiting, chain: None, trust: None }
    }
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub(crate) enum Told {
    /// A signed revocation set.
    #[n(0)]
    #[cbor(map)]
    RevocationSet {
        #[n(0)]
        set: ByteVec,
    },
    /// That the question arrived, and nothing else.
    #[n(1)]
    #[cbor(map)]
    Heard {},
    /// The answer to a request.
    #[n(2)]
    #[cbor(map)]
    Outcome {
        #[n(0)]
        answer: Answer,
    },
    /// Sealed endorsements.
    #[n(3)]
    #[cbor(map)]
    Endorsements {
        #[n(0)]
        endorsements: Vec<ByteVec>,
    },
    /// Proofs of two histories, the newest first.
    #[n(5)]
    #[cbor(map)]
    Accusations {
        #[n(0)]
        proofs: Vec<ByteVec>,
    },
    /// A group.
    #[n(4)]
    #[cbor(map)]
    Group {
        /// Its newest charter.
        #[n(0)]
        charter: ByteVec,
        /// What it withdrew, signed now.
        #[n(1)]
        set: ByteVec,
    },
    /// What evidence there is.
    #[n(20)]
    #[cbor(map)]
    EvidenceList {
        #[n(0)]
        items: Vec<Listed>,
    },
    /// One piece, sealed for the session and the question.
    #[n(21)]
    #[cbor(map)]
    Evidence {
        #[n(0)]
        evidence: ByteVec,
    },
}

impl Question {
    pub(crate) fn encode(&self) -> Vec<u8> {
        canonical::encode_minicbor(self)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        canonical::decode_minicbor(bytes).ok()
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
