//! Why a call to a specialist did not give an answer.

use std::time::Duration;

/// Why a call failed, each with what the caller can do about it.
///
/// The text is shown to the caller, so it never holds the specialist's environment, paths or stderr. `code` is the
/// stable machine-readable name and `retry` says what another attempt is worth.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecialistError {
    /// The request does not fit the declared interface; nothing was run.
    #[error("the request does not fit the interface: {}; mend the request (the capability's input schema says how)", problems.join("; "))]
    InvalidRequest {
        /// One readable sentence a problem, at most [`crate::schema::MAX_PROBLEMS`].
        problems: Vec<String>,
    },
    /// The request is larger than this specialist takes; nothing was run.
    #[error("the request has {bytes} bytes and the limit is {limit}; ask for less at a time")]
    RequestTooLarge {
        /// Size of the request as JSON, bytes.
        bytes: usize,
        /// Largest accepted size, bytes.
        limit: usize,
    },
    /// The specialist worked and reported a problem of its own.
    #[error("the specialist reports: {message}")]
    Reported {
        /// The specialist's own words, control characters removed, at most [`MAX_MESSAGE_BYTES`].
        message: String,
    },
    /// No answer in time; what was running has been stopped.
    #[error("no answer within {} ms; allow more time or ask for less", after.as_millis())]
    Timeout {
        /// How long the specialist was given.
        after: Duration,
    },
    /// The caller withdrew the call.
    #[error("the call was cancelled by its caller")]
    Cancelled,
    /// As many calls as the specialist takes are already running and waiting.
    #[error("the specialist is busy; try again shortly or ask another peer")]
    Busy {
        /// Calls waiting when this one was refused.
        waiting: usize,
    },
    /// The specialist died (or panicked) while it worked on this call.
    #[error("the specialist crashed during the call ({what}); try again once, then another peer")]
    Crashed {
        /// How it ended, for example `exit status 3` or `signal 9`.
        what: String,
    },
    /// What came back is not an answer; it was thrown away.
    #[error(
        "the specialist gave an unusable answer ({what}); ask another peer, and tell its operator"
    )]
    GarbageAnswer {
        /// What is wrong with it.
        what: String,
    },
    /// The answer is larger than allowed; it was cut off and thrown away.
    #[error("the answer exceeds {limit} bytes; ask for less at a time")]
    AnswerTooLarge {
        /// Largest accepted size, bytes.
        limit: usize,
    },
    /// The specialist is not running or not reachable; nothing was run.
    #[error("the specialist is not available ({what}); ask another peer or try again later")]
    Unavailable {
        /// Why, as far as the caller may know.
        what: String,
    },
}

/// What another attempt is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// The same request fails anywhere: mend it first.
    Never,
    /// Another peer may do better, this one will not.
    Elsewhere,
    /// This peer may do better after a moment, another one at once.
    Later,
}

/// Longest message taken over from a specialist, bytes.
pub const MAX_MESSAGE_BYTES: usize = 1024;

impl SpecialistError {
    /// Stable name of the error for machines: `invalid-request`, `timeout`, …
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::InvalidRequest { .. } => "invalid-request",
            Self::RequestTooLarge { .. } => "request-too-large",
            Self::Reported { .. } => "reported",
            Self::Timeout { .. } => "timeout",
            Self::Cancelled => "cancelled",
            Self::Busy { .. } => "busy",
            Self::Crashed { .. } => "crashed",
            Self::GarbageAnswer { .. } => "garbage-answer",
            Self::AnswerTooLarge { .. } => "answer-too-large",
            Self::Unavailable { .. } => "unavailable",
        }
    }

    /// What another attempt is worth, for callers that choose the next peer.
    #[must_use]
    pub fn retry(&self) -> Retry {
        match self {
            Self::InvalidRequest { .. } | Self::Cancelled => Retry::Never,
            Self::RequestTooLarge { .. }
            | Self::Reported { .. }
            | Self::GarbageAnswer { .. }
            | Self::AnswerTooLarge { .. } => Retry::Elsewhere,
            Self::Timeout { .. }
            | Self::Busy { .. }
            | Self::Crashed { .. }
            | Self::Unavailable { .. } => Retry::Later,
        }
    }

    /// An [`Self::InvalidRequest`] with one problem.
    pub fn invalid(problem: impl Into<String>) -> Self {
        Self::InvalidRequest { problems: vec![problem.into()] }
    }

    /// A [`Self::Reported`] whose text is made safe to print: control characters become spaces, length is bounded.
    #[must_use]
    pub fn reported(message: &str) -> Self {
        Self::Reported { message: printable(message, MAX_MESSAGE_BYTES) }
    }
}

/// `text` without control characters, cut at a character boundary to at most `max` bytes (and an ellipsis).
pub(crate) fn printable(text: &str, max: usize) -> String {
    let mut out = String::with_capacity(text.len().min(max));
    for c in text.chars() {
        if out.len() + c.len_utf8() > max {
            out.push('…');
            break;
        }
        out.push(if c.is_control() { ' ' } else { c });
    }
    out
}
