//! Private groups: `/v1/private-groups`.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Body of `POST /v1/private-groups`: make a group with a new secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GroupCreateRequest {
    /// What to call it here: 1 to 64 of `a-z 0-9 - _ .`, a letter or digit first.
    pub name: String,
}

/// Body of `POST /v1/invitations/accept`: become a member by an invitation.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GroupJoinRequest {
    /// The invitation, which carries the group's secret.
    pub invitation: String,
    /// What to call the group here; as in the invitation when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

impl std::fmt::Debug for GroupJoinRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GroupJoinRequest").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Answer of `POST /v1/private-groups` and `GET /v1/private-groups/{name}/invitation`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GroupInvitation {
    /// The group.
    #[serde(flatten)]
    pub group: PrivateGroup,
    /// The invitation. Whoever has it is a member, and cannot be made to forget it.
    pub invitation: String,
}

impl std::fmt::Debug for GroupInvitation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GroupInvitation").field("group", &self.group).finish_non_exhaustive()
    }
}

/// Answer of `GET /v1/private-groups`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PrivateGroups {
    /// The groups this agent is a member of, by name.
    pub private_groups: Vec<PrivateGroup>,
}

/// A private group this agent is a member of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PrivateGroup {
    /// What it is called here.
    pub name: String,
    /// The same for all members, whatever they call it: a short hash that gives nothing of the secret away.
    pub fingerprint: String,
    /// Own capabilities served to it.
    pub serves: Vec<String>,
    /// Veiled entries of theirs that custodians hold.
    pub entries: u32,
}
