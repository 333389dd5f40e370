//! Calls: `POST /v1/call`, `POST /v1/ping`.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::{AgentName, ErrorInfo, Origin, QueryInput, ReuseWishes, Voice};

/// Body of `POST /v1/call`.
///
/// With `Accept: text/event-stream` the answer is a stream of [`CallEvent`]s, otherwise one [`CallResponse`]. Closing
/// the connection cancels the call at the far end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CallRequest {
    /// Whom to call: `ADDRESS/CAPABILITY` (also with a handle or AgentId before the slash), a capability name, or a
    /// query in text or JSON form. Name and query go to the best peer, then the next best.
    pub target: QueryInput,
    /// The request, checked against the declared schema before it leaves.
    pub input: Value,
    /// Look for the peer in this private group, by the name it has here, and call it as a member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// A grant to show, as text. Without one, a kept grant that serves is shown by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<String>,
    /// Deadline for the whole call, all attempts together, in milliseconds; [`DEFAULT_CALL_TIMEOUT_MS`] otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// Peers to try at most, one after another; [`DEFAULT_MAX_ATTEMPTS`] otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u32>,
    /// How far an answer that is known already will do.
    #[serde(default, skip_serializing_if = "is_default")]
    pub reuse: ReuseWishes,
    /// Ask several independent producers: `m/n`, m of n have to agree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quorum: Option<String>,
}

fn is_default(wishes: &ReuseWishes) -> bool {
    *wishes == ReuseWishes::default()
}

/// Deadline of a call that names none: 30 s.
pub const DEFAULT_CALL_TIMEOUT_MS: u64 = 30_000;

/// Longest deadline a call may name: one hour.
pub const MAX_CALL_TIMEOUT_MS: u64 = 3_600_000;

/// Peers tried by a call that does not say.
pub const DEFAULT_MAX_ATTEMPTS: u32 = 3;

/// Most peers a call may try.
pub const MAX_ATTEMPTS: u32 = 20;

impl CallRequest {
    /// A call with the default deadline and number of attempts.
    pub fn new(target: impl Into<QueryInput>, input: Value) -> Self {
        Self {
            target: target.into(),
            input,
            group: None,
            grant: None,
            timeout_ms: None,
            max_attempts: None,
            reuse: ReuseWishes::default(),
            quorum: None,
        }
    }
}

/// Answer of `POST /v1/call`. The producer's signature over it was checked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CallResponse {
    /// What the specialist answered.
    pub output: Output,
    /// The proof that it did.
    pub proof: Proof,
    /// Peers tried, the successful one last.
    pub attempts: Vec<Attempt>,
    /// Time and volume.
    pub summary: CallSummary,
}

/// What a specialist answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Output {
    /// One value.
    Value(Value),
    /// The items of a streamed answer, in order.
    Items(Vec<Value>),
}

impl Output {
    /// The answer as a list of items; a single value is a list of one.
    #[must_use]
    pub fn items(&self) -> &[Value] {
        match self {
            Self::Value(value) => std::slice::from_ref(value),
            Self::Items(items) => items,
        }
    }
}

/// A signed receipt, readable and in its binary form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Proof {
    /// The signed receipt in canonical CBOR, lower-case hex.
    pub receipt_cbor: String,
    /// Its content, for reading; only `receipt_cbor` proves anything.
    pub receipt: ReceiptView,
}

/// What a receipt states.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReceiptView {
    /// AgentId of the caller.
    pub caller: String,
    /// AgentId of the producer, who signed.
    pub callee: String,
    /// Name of the capability.
    pub capability: String,
    /// Hash of the capability descriptor, `b3:` + hex.
    pub descriptor: String,
    /// SHA-256 of the interface, `sha256:` + hex.
    pub interface: String,
    /// Hash of the canonical request, `b3:` + hex.
    pub request: String,
    /// Hash of the canonical response, `b3:` + hex.
    pub response: String,
    /// 0 = answered; otherwise the specialist's failure code.
    pub status: u64,
    /// When the request arrived, by the producer's clock.
    pub received_at_ms: u64,
    /// When the answer was complete, by the producer's clock.
    pub answered_at_ms: u64,
    /// Until when the producer stands by it.
    pub valid_until_ms: u64,
    /// Version of the data behind it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_version: Option<String>,
}

/// One peer tried by a call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Attempt {
    /// Counts from 1.
    pub number: u32,
    /// `ADDRESS/CAPABILITY`.
    pub target: String,
    /// Whose.
    #[serde(flatten)]
    pub agent: AgentName,
    /// How it stands.
    #[serde(flatten)]
    pub outcome: AttemptOutcome,
}

/// How an attempt stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum AttemptOutcome {
    /// The request is on its way.
    Started,
    /// The answer is complete and verified.
    Answered {
        /// Microseconds from the start of the attempt.
        elapsed_us: u64,
    },
    /// It failed; the next peer is tried if there is one and time is left.
    Failed {
        /// Microseconds from the start of the attempt.
        elapsed_us: u64,
        /// Why.
        error: ErrorInfo,
    },
}

/// One piece of a streamed answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Chunk {
    /// Counts from 0 within the answer.
    pub index: u64,
    /// The item. It is proven only once the receipt has come.
    pub value: Value,
}

/// Time and volume of a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CallSummary {
    /// `ADDRESS/CAPABILITY` that answered.
    pub target: String,
    /// Whether the answer came as a stream of items.
    pub streamed: bool,
    /// Items in the answer.
    pub items: u64,
    /// Bytes of the answer in canonical CBOR.
    pub bytes: u64,
    /// Microseconds from request to verified answer, all attempts and the search included.
    pub elapsed_us: u64,
    /// Microseconds of the successful attempt alone.
    pub attempt_us: u64,
    /// Where the answer came from.
    #[serde(default)]
    pub origin: Origin,
    /// Who agreed and who did not, where several producers were asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub voices: Vec<Voice>,
}

/// One server-sent event of a streamed call. Event name = variant name, data = its content as JSON.
///
/// Order: `attempt` (started, and when it failed), then `chunk`s, `receipt`, `done`; or `error` at any point, which is
/// the last. After the first `chunk` no other peer is tried, so chunks never have to be taken back; chunks not followed
/// by `done` are not verified.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "event", content = "data", rename_all = "snake_case")]
pub enum CallEvent {
    /// A peer is being tried, or failed.
    Attempt(Attempt),
    /// A piece of the answer.
    Chunk(Chunk),
    /// The producer's signed receipt; checked.
    Receipt(Proof),
    /// The answer is complete and verified.
    Done(CallSummary),
    /// The call failed.
    Error(ErrorInfo),
}

impl CallEvent {
    /// Name of the server-sent event.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Attempt(_) => "attempt",
            Self::Chunk(_) => "chunk",
            Self::Receipt(_) => "receipt",
            Self::Done(_) => "done",
            Self::Error(_) => "error",
        }
    }

    /// Whether the stream ends with this event.
    #[must_use]
    pub const fn is_last(&self) -> bool {
        matches!(self, Self::Done(_) | Self::Error(_))
    }

    /// The `data` of the server-sent event, one line of JSON.
    ///
    /// # Errors
    /// None in practice: the types serialise to JSON by construction.
    pub fn data(&self) -> Result<String, serde_json::Error> {
        match self {
            Self::Attempt(data) => serde_json::to_string(data),
            Self::Chunk(data) => serde_json::to_string(data),
            Self::Receipt(data) => serde_json::to_string(data),
            Self::Done(data) => serde_json::to_string(data),
            Self::Error(data) => serde_json::to_string(data),
        }
    }

    /// Puts an event together again. `None` for event names this version does not know, which a reader skips.
    ///
    /// # Errors
    /// When `data` is not the JSON that belongs to `name`.
    pub fn parse(name: &str, data: &str) -> Result<Option<Self>, serde_json::Error> {
        Ok(Some(match name {
            "attempt" => Self::Attempt(serde_json::from_str(data)?),
            "chunk" => Self::Chunk(serde_json::from_str(data)?),
            "receipt" => Self::Receipt(serde_json::from_str(data)?),
            "done" => Self::Done(serde_json::from_str(data)?),
            "error" => Self::Error(serde_json::from_str(data)?),
            _ => return Ok(None),
        }))
    }
}

/// Body of `POST /v1/ping`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PingRequest {
    /// Address, handle, AgentId, `AgentId@ip:port` or ticket.
    pub target: String,
    /// How often; 1 to [`MAX_PINGS`].
    #[serde(default = "one")]
    pub count: u32,
    /// Time limit for each, in milliseconds; [`DEFAULT_PING_TIMEOUT_MS`] otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// Most pings of one request.
pub const MAX_PINGS: u32 = 100;

/// Time limit of a ping that names none: 5 s.
pub const DEFAULT_PING_TIMEOUT_MS: u64 = 5_000;

const fn one() -> u32 {
    1
}

/// Answer of `POST /v1/ping`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PingResponse {
    /// Who answered, by the key it proved.
    #[serde(flatten)]
    pub agent: AgentName,
    /// Network path of the session, e.g. `direct 127.0.0.1:4433`.
    pub path: String,
    /// Microseconds to establish the session; absent when one was open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connect_us: Option<u64>,
    /// Each ping in order.
    pub pings: Vec<Ping>,
}

/// One ping.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Ping {
    /// Counts from 1.
    pub number: u32,
    /// Round trip in microseconds; absent when it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtt_us: Option<u64>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorInfo>,
}
