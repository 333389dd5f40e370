//! The audit log: `GET /v1/audit`, `GET /v1/audit/peers`, `GET /v1/audit/{index}/proof`, `POST /v1/audit/prune`.

use comity_core::AgentId;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// Most entries in one answer of `GET /v1/audit`.
pub const MAX_AUDIT_ENTRIES: u32 = 256;
/// Entries in an answer whose request names no limit.
pub const DEFAULT_AUDIT_ENTRIES: u32 = 20;
/// Name and version of the form of [`AuditProof`].
pub const AUDIT_PROOF_FORMAT: &str = "comity-audit-proof/1";
/// Name and version of the form of [`AuditAccusation`].
pub const AUDIT_ACCUSATION_FORMAT: &str = "comity-audit-accusation/1";
/// Most logs of peers in one answer of `GET /v1/audit/peers`.
pub const MAX_AUDIT_PEERS: u32 = 1_000;
/// Longest file with an [`AuditProof`] or [`AuditAccusation`], in bytes.
pub const MAX_AUDIT_PROOF_BYTES: u64 = 128 * 1024;

/// Query of `GET /v1/audit`.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema, IntoParams,
)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct AuditRequest {
    /// First entry wanted, from 0; the last ones if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<u64>,
    /// Most entries wanted, 1 to [`MAX_AUDIT_ENTRIES`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// Answer of `GET /v1/audit`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AuditPage {
    /// Whose log.
    #[schema(value_type = String)]
    pub log: AgentId,
    /// Entries of the whole log.
    pub size: u64,
    /// The last checkpoint; absent in a log that has none yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<AuditCheckpoint>,
    /// The entries, in the order of the log.
    pub entries: Vec<AuditEntry>,
}

/// A signed state of a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditCheckpoint {
    /// Entries that it covers.
    pub size: u64,
    /// The root of the tree over them (`sha256:…`).
    pub root: String,
    /// The signed note, as C2SP tlog-checkpoint has it.
    pub note: String,
    /// Agents whose cosignature holds.
    pub cosigners: Vec<AuditCosigner>,
}

/// A witness's signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditCosigner {
    /// Who signed.
    #[schema(value_type = String)]
    pub witness: AgentId,
    /// When, by its clock.
    pub at_ms: u64,
}

/// One entry of a log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AuditEntry {
    /// Its position, from 0.
    pub index: u64,
    /// When, by the agent's own clock; absent for what was pruned or is of an unknown kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_ms: Option<u64>,
    /// What kind of thing happened; `pruned` if the contents are gone, `unknown` if a newer program wrote it.
    pub kind: String,
    /// The particulars, by name: hashes, agents, names and numbers.
    #[schema(value_type = Object)]
    pub fields: serde_json::Map<String, serde_json::Value>,
}

/// An entry with everything that shows it is in its log. Answer of `GET /v1/audit/{index}/proof`, and what `comity audit prove` writes.
///
/// `proof` alone is what counts; the rest repeats it for readers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AuditProof {
    /// [`AUDIT_PROOF_FORMAT`].
    pub format: String,
    /// Whose log.
    #[schema(value_type = String)]
    pub log: AgentId,
    /// The entry.
    pub entry: AuditEntry,
    /// Entry, inclusion and checkpoint, in CBOR, in base64.
    pub proof: String,
    /// The log's receipt of inclusion (RFC 9942), in base64: for readers of COSE.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cose_receipt: Option<String>,
}

/// Body of `POST /v1/audit/prune`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AuditPruneRequest {
    /// The first entry to keep. Entries go in groups of 256; what is in one group with it stays.
    pub before: u64,
}

/// Query of `GET /v1/audit/peers`.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema, IntoParams,
)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct AuditPeersRequest {
    /// The one log wanted; all if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    #[param(value_type = Option<String>)]
    pub log: Option<AgentId>,
}

/// Answer of `GET /v1/audit/peers`: the logs of peers as this node saw them, those that were caught first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditPeers {
    /// How many logs are remembered or were caught.
    pub known: u64,
    /// At most [`MAX_AUDIT_PEERS`] of them.
    pub peers: Vec<AuditPeer>,
}

/// What this node knows of the log of a peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditPeer {
    /// Whose log.
    #[schema(value_type = String)]
    pub log: AgentId,
    /// Entries of the last state of it that was found in order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// The root of the tree over them (`sha256:…`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<String>,
    /// The proof that it has two histories.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accusation: Option<AuditAccusation>,
}

/// Proof that a log has two histories: what `comity audit accuse` writes. `proof` alone is what counts; the rest repeats it for readers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditAccusation {
    /// [`AUDIT_ACCUSATION_FORMAT`].
    pub format: String,
    /// Whose log.
    #[schema(value_type = String)]
    pub log: AgentId,
    /// What it signed twice, differently.
    pub twice: AuditTwice,
    /// The two signed states, in CBOR, in base64.
    pub proof: String,
}

/// What a log signed twice, differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AuditTwice {
    /// The root of a tree of so many entries.
    RootOf(u64),
    /// The entry at this position.
    EntryAt(u64),
}
