//! Who may call: `/v1/policy`, `/v1/grants`.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::AgentName;

/// Most capabilities that one grant names in a request; more need a pattern.
pub const MAX_GRANT_SCOPES: usize = 64;

/// Answer of `GET /v1/policy` and `POST /v1/policy/reload`, and part of the status: which policy is in force.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PolicyStatus {
    /// The file; empty for a node without a home directory.
    pub path: String,
    /// Whether the file is there. Without one, what is public is allowed and everything else denied.
    pub present: bool,
    /// BLAKE3 of the text that is in force, as the audit log names it.
    pub hash: String,
    /// Rules in force.
    pub rules: u32,
    /// When what is in force was read.
    pub loaded_at_ms: u64,
    /// What is wrong with the file as it is now. What was in force before stays so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<PolicyProblem>,
}

/// Why the policy file, as it is now, is not in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PolicyProblem {
    /// What is wrong.
    pub message: String,
    /// The line, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// The column in characters, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<u32>,
    /// What to write instead.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hint: String,
    /// When it was noticed.
    pub seen_at_ms: u64,
}

/// Body of `POST /v1/policy/explain`: would this call be let through, and which line decides?
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyExplainRequest {
    /// The caller: a name of the policy file, or an agent in any text form.
    pub caller: String,
    /// The capability's name.
    pub capability: String,
    /// Suppose that a grant was shown which permits the call.
    #[serde(default)]
    pub granted: bool,
    /// Suppose that both sides declared trust. What the node knows of it counts anyway.
    #[serde(default)]
    pub trusted: bool,
    /// Suppose that the caller is a member of this group with a charter: a name of the policy file, or the group's key.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// Suppose that this agent, named in any way, endorses the caller for the capability.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub endorsed_by: Vec<String>,
    /// Suppose that the caller's claims are supported so well: `L0` to `L4`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<String>,
    /// Suppose that evidence of these kinds was accepted in the session.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<String>,
    /// Suppose that it is then; now when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_ms: Option<u64>,
}

/// Answer of `POST /v1/policy/explain`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PolicyExplanation {
    /// The caller's key.
    pub caller: String,
    /// What the policy file calls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caller_name: Option<String>,
    /// The capability.
    pub capability: String,
    /// Whether it is served and public; absent when no node was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public: Option<bool>,
    /// Whether this node serves it; absent when no node was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub served: Option<bool>,
    /// Whether the call would go on.
    pub allowed: bool,
    /// The line of the policy file with the rule that decided; none if no rule did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// Why, in words.
    pub reason: String,
    /// Under which conditions it is allowed, in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<String>,
    /// Grants for it that this agent gave the caller and that are good now. Shown in a call, they allow it unless a rule denies it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub grants: Vec<String>,
    /// Every rule of the file, in its order.
    pub rules: Vec<PolicyRuleView>,
    /// BLAKE3 of the policy's text.
    pub policy: String,
}

/// One rule and why it applied or did not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PolicyRuleView {
    /// Its line.
    pub line: u32,
    /// `allow` or `deny`.
    pub effect: String,
    /// Its note.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// What did not hold; none if it applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unmet: Option<String>,
}

/// Body of `POST /v1/grants` and, less `grant`, what a new link says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GrantRequest {
    /// Who may use it: an agent in any text form.
    pub to: String,
    /// For which capabilities: names, or beginnings and a star, optionally pinned (`name@sha256:…` ends with the interface as it is).
    pub capabilities: Vec<String>,
    /// How long it is good, in milliseconds.
    pub expires_in_ms: u64,
    /// How many calls it allows in all; absent = any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// How often, such as `60/min`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<String>,
    /// How many times it may be passed on.
    #[serde(default)]
    pub depth: u8,
    /// The only agents it may be passed on to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub delegates: Vec<String>,
    /// How well the caller's own claims must be supported: `L0` to `L4`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_level: Option<String>,
    /// Kinds of evidence that must have been accepted in the session.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<String>,
    /// What calls may say, such as `amount<=100`, `currency=EUR|USD`, `to=acme-*`: limits of members of the request, which must be there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub arguments: Vec<String>,
    /// Pins each named capability, which must be served here, to its interface as it is now.
    #[serde(default)]
    pub pin: bool,
    /// For `POST /v1/grants/delegate`: the grant to pass on, as text or by the hash under which it is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<String>,
}

/// Body of `POST /v1/grants/keep`: keep a grant that somebody handed over, to be shown by itself when it serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GrantKeepRequest {
    /// The grant as text.
    pub grant: String,
}

/// Body of `POST /v1/grants/revoke`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GrantRevokeRequest {
    /// The grant: its text, or its hash (`b3:…`); or an agent, to take back everything it holds by this agent's leave, for good.
    pub target: String,
    /// Why: `unspecified`, `key-compromised`, `superseded`, `ended`, `misused`, `mistake`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Answer of `GET /v1/grants`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Grants {
    /// Grants this agent gave or passed on.
    pub given: Vec<GrantView>,
    /// Grants it holds.
    pub held: Vec<GrantView>,
}

/// A grant, opened: nothing in it is left to be believed but the times.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GrantView {
    /// Its name: BLAKE3 of its last link.
    pub grant: String,
    /// Whose capabilities it is about.
    pub issuer: String,
    /// Who may use it.
    pub holder: String,
    /// The holder's address and handle, where a node was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder_name: Option<AgentName>,
    /// From when all links are good.
    pub from_ms: u64,
    /// Until when.
    pub until_ms: u64,
    /// `good`, `not-yet`, `expired`, `revoked`, as far as is known here.
    pub state: String,
    /// Calls counted under its last link, at the agent it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<u64>,
    /// Its links, the issuer's first. Every one must allow a call.
    pub links: Vec<GrantLink>,
    /// The grant itself, to be handed to its holder. It is no secret: it works in its holder's sessions only.
    pub text: String,
}

/// One link of a grant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GrantLink {
    /// BLAKE3 of its envelope.
    pub link: String,
    /// Who signed it.
    pub signer: String,
    /// Who may use it.
    pub holder: String,
    /// For which capabilities.
    pub capabilities: Vec<String>,
    /// From when.
    pub from_ms: u64,
    /// Until when.
    pub until_ms: u64,
    /// How many calls in all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// How often, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<String>,
    /// How many links may follow.
    pub depth: u8,
    /// The only agents it may be passed on to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub delegates: Vec<String>,
    /// How well the caller's claims must be supported.
    pub min_level: String,
    /// Kinds of evidence that must have been accepted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<String>,
    /// What calls may say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub arguments: Vec<String>,
}
