//! Answers that were worked out before: how a call may use them, where one came from, and the receipts and opinions that calls leave behind.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{AgentName, Proof};

/// What a caller wants of the age and the origin of an answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct ReuseWishes {
    /// Straight from an agent that works it out, whatever is known already.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub fresh: bool,
    /// Not older than this many milliseconds, however long its producer stands by it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_age_ms: Option<u64>,
    /// Nobody is made to work it out: what is known already, or nothing.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub only_shared: bool,
    /// The question is nobody else's business: it is neither looked up among peers nor announced.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub private: bool,
    /// The proof must be of this very question and answer: nothing is derived from an answer to a larger question.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub exact: bool,
    /// No other producer is asked now and then to check the answer.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub unchecked: bool,
}

/// Where an answer came from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "from", rename_all = "snake_case")]
pub enum Origin {
    /// The producer worked it out for this call.
    #[default]
    Producer,
    /// It was known here.
    Store {
        /// Milliseconds since it was given.
        age_ms: u64,
        /// Microseconds that working it out took then.
        saved_us: u64,
    },
    /// A peer held it.
    Holder {
        /// Which.
        holder: AgentName,
        /// Milliseconds since it was given.
        age_ms: u64,
        /// It was working it out when it was asked, and was waited for.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        awaited: bool,
    },
    /// It was derived here from a larger answer; the proof is of that one.
    Derived {
        /// The rule by which.
        rule: String,
        /// The larger request.
        larger: serde_json::Value,
        /// Hash of the derived answer, `b3:` + hex.
        response: String,
        /// Milliseconds since the larger answer was given.
        age_ms: u64,
    },
    /// Another call of this node had asked the same a moment before, and both got its answer.
    Shared {
        /// Microseconds that working it out took.
        saved_us: u64,
    },
}

/// One producer's part in an answer that several were asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Voice {
    /// Who.
    #[serde(flatten)]
    pub agent: AgentName,
    /// What became of it.
    pub part: Part,
    /// Its signed receipt, where it answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<Proof>,
}

/// What a producer did in a quorum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Its answer is the one given.
    Agreed,
    /// Its answer is another one.
    Dissented,
    /// It committed to one answer and revealed another.
    BrokeCommitment,
    /// It gave none.
    Failed,
}

/// Which receipts to list: `POST /v1/receipts`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ReceiptsRequest {
    /// Only of calls with this agent: an address, handle or AgentId.
    pub agent: Option<String>,
    /// Only of this capability.
    pub capability: Option<String>,
    /// Only of calls this agent made, or only of those it served.
    pub side: Option<Side>,
    /// At most so many, the newest first; [`DEFAULT_RECEIPTS`] otherwise.
    pub limit: Option<u32>,
}

/// Receipts listed by a request that does not say.
pub const DEFAULT_RECEIPTS: u32 = 50;
/// Most receipts in one answer.
pub const MAX_RECEIPTS: u32 = 1_000;

/// Which end of a call this agent was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// It called.
    Made,
    /// It answered.
    Served,
}

/// Answer of `POST /v1/receipts`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Receipts {
    /// Receipts kept altogether.
    pub kept: u64,
    /// The newest first.
    pub receipts: Vec<KeptReceipt>,
}

/// A receipt of a call, with what the caller said of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeptReceipt {
    /// Hash of the receipt, `b3:` + hex: its name.
    pub id: String,
    /// Whether this agent called or answered.
    pub side: Side,
    /// The other end.
    #[serde(flatten)]
    pub agent: AgentName,
    /// The signed receipt.
    pub proof: Proof,
    /// The counter-signed receipt in canonical CBOR, lower-case hex: proof that both ends agree the call took place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub countersigned_cbor: Option<String>,
    /// What the caller said of the answer: `received`, `confirmed` or `disputed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<String>,
}

/// Answer of `GET /v1/results`: answers kept for reuse.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Results {
    /// Bytes they take.
    pub bytes: u64,
    /// Bytes they may take.
    pub bytes_max: u64,
    /// Calls answered from here.
    pub hits: u64,
    /// Calls of which nothing usable was kept.
    pub misses: u64,
    /// Pointers of peers to results that they hold, kept for others to find.
    pub pointers: u64,
    /// Large answers, which are kept on disk and move in pieces.
    pub large: LargeResults,
    /// The kept answers, the most used first; at most [`MAX_RECEIPTS`].
    pub results: Vec<KeptResult>,
}

/// Large answers: the bytes they take on disk, and the pieces of a mebibyte that moved since the node was started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LargeResults {
    /// Bytes they take.
    pub bytes: u64,
    /// Bytes they may take.
    pub bytes_max: u64,
    /// Pieces that came from peers and were right.
    pub pieces_fetched: u64,
    /// Pieces that were there already when a transfer was taken up again.
    pub pieces_resumed: u64,
    /// Pieces that came from peers and were wrong.
    pub pieces_refused: u64,
    /// Pieces that peers asked for and were sent.
    pub pieces_sent: u64,
}

/// One kept answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeptResult {
    /// Name of the capability.
    pub capability: String,
    /// Who produced it.
    #[serde(flatten)]
    pub producer: AgentName,
    /// Hash of the canonical request, `b3:` + hex.
    pub request: String,
    /// Length of the answer in bytes.
    pub bytes: u64,
    /// Whether it is one of the large ones, which are on disk.
    pub on_disk: bool,
    /// When it was given.
    pub finished_at_ms: u64,
    /// Until when it may be used.
    pub valid_until_ms: u64,
    /// How often it was used.
    pub uses: u32,
    /// Microseconds that working it out took.
    pub took_us: u64,
    /// Whether peers are told that it is held here.
    pub announced: bool,
}

/// What to take back: `POST /v1/results/retract`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RetractRequest {
    /// Name of a capability this agent serves: all its answers so far, unless a request is named.
    pub capability: String,
    /// Only answers to this request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<serde_json::Value>,
}

/// Whose reputation is wanted: `POST /v1/reputation`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReputationRequest {
    /// An address, handle or AgentId.
    pub agent: String,
}

/// What this node thinks of a peer, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ReputationView {
    /// Of whom.
    #[serde(flatten)]
    pub agent: AgentName,
    /// What can be counted on: honesty × √success × speed, each a deviation below its mean; 0 to 1.
    pub score: f64,
    /// Own calls that were answered.
    pub success: Estimate,
    /// Own checks of its answers.
    pub own_honesty: Estimate,
    /// Own checks and others' word together.
    pub honesty: Estimate,
    /// Smoothed time to answer, microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_us: Option<u64>,
    /// What latency leaves of the score, 0 to 1.
    pub speed: f64,
    /// Answers found right in a row.
    pub streak: u32,
    /// The share of its answers that is checked against another producer when a quorum is adaptive.
    pub check_rate: f64,
    /// Others' word.
    pub vouches: Vec<VouchView>,
    /// Hash of the proof that it contradicted itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lied: Option<String>,
}

/// A share, with how sure it is: a Beta posterior from a uniform prior.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Estimate {
    /// Evidence for, decayed.
    pub good: f64,
    /// Evidence against, decayed.
    pub bad: f64,
    /// Its mean.
    pub mean: f64,
    /// A standard deviation below the mean: what the score counts.
    pub lower: f64,
}

/// What one peer's counter-signed receipts say of another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct VouchView {
    /// Who says it.
    #[serde(flatten)]
    pub witness: AgentName,
    /// What its word is worth here.
    pub worth: f64,
    /// Calls it confirmed, decayed.
    pub confirmed: f64,
    /// Calls it disputed, decayed.
    pub disputed: f64,
    /// What that counts, in checked answers.
    pub counts: f64,
}
