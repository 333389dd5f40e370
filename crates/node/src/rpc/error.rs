//! What can go wrong with a call, by name, with what to do about it.

use std::time::Duration;

use comity_core::receipt::ReceiptError;
use comity_core::{AgentId, Hash, Sha256Digest};
use tokio::time::Instant;

use crate::transport::{CloseCode, ConnectError};

/// Kinds of failure that a callee reports. Wire format: never renumbered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ErrorCode {
    /// No such capability, or it changed.
    NotFound,
    /// The caller may not call it.
    Denied,
    /// The request does not fit the interface, or is malformed.
    InvalidInput,
    /// The program behind the capability failed.
    SpecialistFailed,
    /// The deadline passed.
    Timeout,
    /// A limit on calls in flight is reached.
    Busy,
    /// Request or answer exceeds its limit.
    TooLarge,
    /// The callee itself failed.
    Internal,
    /// The call may not travel in early data.
    TooEarly,
    /// The ends of the link have not told each other of themselves yet.
    HelloFirst,
    /// A kind this version does not know.
    Other(u32),
}

impl ErrorCode {
    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::NotFound => 1,
            Self::Denied => 2,
            Self::InvalidInput => 3,
            Self::SpecialistFailed => 4,
            Self::Timeout => 5,
            Self::Busy => 6,
            Self::TooLarge => 7,
            Self::Internal => 8,
            Self::TooEarly => 9,
            Self::HelloFirst => 10,
            Self::Other(number) => number,
        }
    }

    /// The kind with this number.
    #[must_use]
    pub const fn from_number(number: u32) -> Self {
        match number {
            1 => Self::NotFound,
            2 => Self::Denied,
            3 => Self::InvalidInput,
            4 => Self::SpecialistFailed,
            5 => Self::Timeout,
            6 => Self::Busy,
            7 => Self::TooLarge,
            8 => Self::Internal,
            9 => Self::TooEarly,
            10 => Self::HelloFirst,
            other => Self::Other(other),
        }
    }
}

impl ErrorCode {
    /// The kind in one word, as the audit log has it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotFound => "not-found",
            Self::Denied => "denied",
            Self::InvalidInput => "invalid-input",
            Self::SpecialistFailed => "specialist-failed",
            Self::Timeout => "timeout",
            Self::Busy => "busy",
            Self::TooLarge => "too-large",
            Self::Internal => "internal",
            Self::TooEarly => "too-early",
            Self::HelloFirst => "hello-first",
            Self::Other(_) => "other",
        }
    }
}

impl CallError {
    /// The kind in one word, as the audit log has it; of a failure that the callee reported, the callee's.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Connect(_) => "no-link",
            Self::Failed { code, .. } => code.name(),
            Self::TimedOut { .. } => "timeout",
            Self::Interrupted { .. } => "interrupted",
            Self::RequestTooLarge { .. } => "request-too-large",
            Self::AnswerTooLarge { .. } => "answer-too-large",
            Self::Protocol { .. } => "protocol",
            Self::Untrusted { .. } => "untrusted",
        }
    }
}

impl std::fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = match self {
            Self::NotFound => "not found",
            Self::Denied => "denied",
            Self::InvalidInput => "invalid input",
            Self::SpecialistFailed => "the specialist failed",
            Self::Timeout => "deadline passed",
            Self::Busy => "busy",
            Self::TooLarge => "too large",
            Self::Internal => "internal failure",
            Self::TooEarly => "not acceptable as early data",
            Self::HelloFirst => "no hello was said on this link",
            Self::Other(number) => return write!(f, "failure {number}"),
        };
        f.write_str(text)
    }
}

/// Why a call brought no answer that can be relied on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// No link.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The callee reported a failure.
    #[error("{peer} answered: {code}: {message}")]
    Failed {
        /// Who answered.
        peer: AgentId,
        /// The kind.
        code: ErrorCode,
        /// Its words: input from a stranger.
        message: String,
    },
    /// No answer in time.
    #[error("{peer} did not answer within {waited:?}: allow more time, or ask another")]
    TimedOut {
        /// Who was asked.
        peer: AgentId,
        /// The deadline.
        waited: Duration,
    },
    /// The link broke.
    #[error(
        "the link to {peer} broke before the answer was complete: whether the call was executed is unknown; repeat it if it is idempotent"
    )]
    Interrupted {
        /// Who was asked.
        peer: AgentId,
        /// The peer's close code, when it gave one.
        code: Option<CloseCode>,
    },
    /// The request is too long.
    #[error("the request of {bytes} bytes exceeds {limit}: shorten it")]
    RequestTooLarge {
        /// Its size.
        bytes: usize,
        /// The bound.
        limit: usize,
    },
    /// The answer is too long.
    #[error(
        "the answer of {peer} exceeds {limit} bytes: ask for less, or raise the limit of the call"
    )]
    AnswerTooLarge {
        /// Who answered.
        peer: AgentId,
        /// The bound.
        limit: u64,
    },
    /// The peer sent what the protocol does not allow.
    #[error(
        "{peer} broke the call protocol ({what}): its software is faulty or hostile; ask another"
    )]
    Protocol {
        /// Who did.
        peer: AgentId,
        /// What it did.
        what: String,
    },
    /// The answer came with a receipt that does not vouch for it.
    #[error("the answer of {peer} is refused: {reason}; do not use it, ask another")]
    Untrusted {
        /// Who answered.
        peer: AgentId,
        /// What does not hold.
        reason: Distrust,
    },
}

/// The part of a deadline by which the clocks of two hosts may differ over it.
const DRIFT_DIVISOR: u32 = 64;

impl CallError {
    /// Both ends of a call keep its deadline, and which of them is heard first means nothing: a callee that says at the caller's deadline that
    /// time is over says the same as silence. One that says so earlier has a shorter limit of its own, and stays as it is.
    pub(super) fn at_deadline(self, started: Instant, waited: Duration) -> Self {
        if let Self::Failed { peer, code: ErrorCode::Timeout, .. } = self
            && started.elapsed() + waited / DRIFT_DIVISOR >= waited
        {
            return Self::TimedOut { peer, waited };
        }
        self
    }
}

/// What does not hold about an answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Distrust {
    /// No receipt, or bytes that are none.
    #[error("it has no readable receipt ({0})")]
    Unreadable(String),
    /// The signature or the batch path fails.
    #[error("its receipt does not verify ({0})")]
    Signature(#[source] ReceiptError),
    /// Somebody else signed.
    #[error("its receipt is signed by {found}")]
    Signer {
        /// Who signed.
        found: AgentId,
    },
    /// The receipt is for another caller.
    #[error("its receipt is for another caller, {found}")]
    Caller {
        /// The caller it names.
        found: AgentId,
    },
    /// The receipt is of another session or call.
    #[error("its receipt is of another session or call")]
    Session,
    /// The receipt is for another question.
    #[error("its receipt is for another request")]
    Request,
    /// The body is not the one signed.
    #[error("its body is not the one that was signed")]
    Response,
    /// The receipt names another capability.
    #[error("its receipt names the capability `{found}`")]
    Capability {
        /// The name in it.
        found: String,
    },
    /// The receipt names another descriptor than the one asked for.
    #[error("its receipt is for descriptor {found}")]
    Descriptor {
        /// The descriptor in it.
        found: Hash,
    },
    /// The receipt names another interface than the one asked for.
    #[error("its receipt is for interface {found}")]
    Interface {
        /// The interface in it.
        found: Sha256Digest,
    },
    /// The receipt states a failure.
    #[error("its receipt states status {found} instead of success")]
    Status {
        /// The status in it.
        found: u64,
    },
    /// A record was returned that does not have the hash asked for.
    #[error("the record does not have the hash asked for")]
    Record,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_callee_that_says_at_the_deadline_that_it_passed_is_like_one_that_says_nothing() {
        let peer = comity_core::Identity::from_secret_bytes(&[1; 32]).id();
        let said = |code| CallError::Failed { peer, code, message: "over".to_owned() };
        let waited = Duration::from_secs(10);
        let at = |passed| Instant::now().checked_sub(passed).expect("the host is up longer");
        let heard = |code, passed| said(code).at_deadline(at(passed), waited);
        let timed_out = CallError::TimedOut { peer, waited };
        assert_eq!(heard(ErrorCode::Timeout, waited), timed_out);
        assert_eq!(heard(ErrorCode::Timeout, waited - Duration::from_millis(100)), timed_out);
        let early = heard(ErrorCode::Timeout, waited / 2);
        assert_eq!(early, said(ErrorCode::Timeout), "the callee has a shorter limit of its own");
        assert_eq!(heard(ErrorCode::Busy, waited), said(ErrorCode::Busy));
    }
}
