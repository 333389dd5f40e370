//! Errors: one body, stable codes, one table from code to HTTP status and process exit code.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Body of every answer that is not a success: `{"error":{"code":…,"message":…,"hint":…}}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema, thiserror::Error)]
#[error("{error}")]
pub struct ErrorBody {
    /// What went wrong and what to do about it.
    pub error: ErrorInfo,
}

/// What went wrong, in a form for programs ([`code`](Self::code)) and for people.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema, thiserror::Error)]
#[error("{message}")]
pub struct ErrorInfo {
    /// Stable machine-readable code.
    pub code: ErrorCode,
    /// One sentence: what went wrong, with the names and values involved.
    pub message: String,
    /// One sentence: what to do next. Empty when there is nothing to add.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hint: String,
    /// Particulars for programs, by code: schema violations for `bad_input` (`[{"path","message"}]`), findings for
    /// `bad_manifest` ([`Finding`](super::Finding) list), addresses for `ambiguous` (list of strings), attempts for
    /// `call_failed` ([`Attempt`](super::Attempt) list).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<serde_json::Value>,
}

impl ErrorInfo {
    /// An error with a code and a message and nothing else yet.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: String::new(), details: None }
    }

    /// Adds the sentence that says what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }

    /// Adds particulars for programs.
    #[must_use]
    pub fn details(mut self, details: serde_json::Value) -> Self {
        self.details = Some(details);
        self
    }
}

impl From<ErrorInfo> for ErrorBody {
    fn from(error: ErrorInfo) -> Self {
        Self { error }
    }
}

/// The stable codes. New ones may be added; a client that meets an unknown one reads it as [`Internal`](Self::Internal).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The request is malformed: not JSON, an unknown field, a value out of bounds.
    BadRequest,
    /// There is no such path or method in this version of the API.
    NoSuchRoute,
    /// The request body is larger than [`MAX_REQUEST_BYTES`](crate::MAX_REQUEST_BYTES).
    TooLarge,
    /// The connecting process runs as another user than the node.
    NotPermitted,
    /// The query does not parse or exceeds its bounds.
    BadQuery,
    /// The call's input violates the capability's declared schema.
    BadInput,
    /// The manifest or an override cannot be served as it stands.
    BadManifest,
    /// Nothing is known by that name, address, handle or AgentId.
    NotFound,
    /// Agents were asked and none satisfies the query.
    NoMatch,
    /// A handle or short form means several agents; the addresses are in `details`.
    Ambiguous,
    /// The agent is known but no attempt to reach it got through.
    Unreachable,
    /// The peer at that place proved a different key than the one asked for.
    WrongPeer,
    /// The far side refused: not public, not granted, or over its limits.
    Refused,
    /// The specialist behind the capability failed.
    SpecialistFailed,
    /// Every candidate was tried and failed; the attempts are in `details`.
    CallFailed,
    /// The deadline passed first.
    Timeout,
    /// The caller went away or asked for it.
    Cancelled,
    /// A signature, hash or receipt did not verify.
    NotVerified,
    /// Too many requests in flight here; try again.
    Busy,
    /// The local store failed: disk full, damaged, not readable.
    Storage,
    /// The key file is missing, unreadable, damaged, or open to other users.
    KeyFile,
    /// Another node already runs in this home directory.
    HomeInUse,
    /// The listening address is taken or not ours.
    AddressInUse,
    /// No node is running in the home directory (made by the client, never sent by a node).
    NotRunning,
    /// The node is shutting down.
    ShuttingDown,
    /// A defect in comity, or a code this version does not know.
    #[serde(other)]
    Internal,
}

/// Process exit codes of the command line, grouped by what a script would do next. Stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Exit {
    /// Success.
    Ok = 0,
    /// Failure without a better category; a defect.
    Failure = 1,
    /// The command line or query is wrong: mend it.
    Usage = 2,
    /// No node is running, or it is shutting down: start one.
    NotRunning = 3,
    /// Nothing found: widen the query or wait for more peers.
    NotFound = 4,
    /// Input or manifest violates its schema: mend the data.
    BadData = 5,
    /// A remote agent failed, refused or could not be reached.
    Remote = 6,
    /// The deadline passed: allow more time.
    Timeout = 7,
    /// A signature or hash did not verify: do not use the answer.
    NotVerified = 8,
    /// Something local is in the way: key file, address, disk, permissions.
    Local = 9,
    /// Interrupted (128 + SIGINT).
    Interrupted = 130,
}

impl Exit {
    /// Every exit code with its meaning, for help texts and man pages.
    pub const TABLE: &'static [(Self, &'static str)] = &[
        (Self::Ok, "success"),
        (Self::Failure, "failure without a better category"),
        (Self::Usage, "the command line or the query is wrong"),
        (Self::NotRunning, "no node is running in the home directory"),
        (Self::NotFound, "nothing found"),
        (Self::BadData, "input or manifest violates its schema"),
        (Self::Remote, "a remote agent failed, refused or could not be reached"),
        (Self::Timeout, "the deadline passed"),
        (Self::NotVerified, "a signature or hash did not verify"),
        (Self::Local, "something local is in the way: key file, address, disk, permissions"),
        (Self::Interrupted, "interrupted"),
    ];

    /// The number handed to the operating system.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }
}

impl ErrorCode {
    /// Every code, in declaration order.
    pub const ALL: &'static [Self] = &[
        Self::BadRequest,
        Self::NoSuchRoute,
        Self::TooLarge,
        Self::NotPermitted,
        Self::BadQuery,
        Self::BadInput,
        Self::BadManifest,
        Self::NotFound,
        Self::NoMatch,
        Self::Ambiguous,
        Self::Unreachable,
        Self::WrongPeer,
        Self::Refused,
        Self::SpecialistFailed,
        Self::CallFailed,
        Self::Timeout,
        Self::Cancelled,
        Self::NotVerified,
        Self::Busy,
        Self::Storage,
        Self::KeyFile,
        Self::HomeInUse,
        Self::AddressInUse,
        Self::NotRunning,
        Self::ShuttingDown,
        Self::Internal,
    ];

    /// HTTP status code of an answer with this code (RFC 9110 section 15).
    #[must_use]
    pub const fn http_status(self) -> u16 {
        match self {
            Self::BadRequest | Self::BadQuery => 400,
            Self::NotPermitted | Self::Refused => 403,
            Self::NoSuchRoute | Self::NotFound | Self::NoMatch => 404,
            Self::Ambiguous | Self::HomeInUse | Self::AddressInUse | Self::Cancelled => 409,
            Self::TooLarge => 413,
            Self::BadInput | Self::BadManifest => 422,
            Self::Busy => 429,
            Self::Storage | Self::KeyFile | Self::Internal => 500,
            Self::Unreachable
            | Self::WrongPeer
            | Self::SpecialistFailed
            | Self::CallFailed
            | Self::NotVerified => 502,
            Self::NotRunning | Self::ShuttingDown => 503,
            Self::Timeout => 504,
        }
    }

    /// Exit code of a command that ends with this error.
    #[must_use]
    pub const fn exit(self) -> Exit {
        match self {
            Self::BadRequest
            | Self::NoSuchRoute
            | Self::BadQuery
            | Self::TooLarge
            | Self::Ambiguous => Exit::Usage,
            Self::NotRunning | Self::ShuttingDown => Exit::NotRunning,
            Self::NotFound | Self::NoMatch => Exit::NotFound,
            Self::BadInput | Self::BadManifest => Exit::BadData,
            Self::Unreachable
            | Self::WrongPeer
            | Self::Refused
            | Self::SpecialistFailed
            | Self::CallFailed => Exit::Remote,
            Self::Timeout => Exit::Timeout,
            Self::NotVerified => Exit::NotVerified,
            Self::NotPermitted
            | Self::Storage
            | Self::KeyFile
            | Self::HomeInUse
            | Self::AddressInUse
            | Self::Busy => Exit::Local,
            Self::Cancelled => Exit::Interrupted,
            Self::Internal => Exit::Failure,
        }
    }
}
