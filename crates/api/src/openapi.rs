//! The OpenAPI document, from the types and the operations listed here.

use utoipa::OpenApi;

use crate::types::{
    AuditPage, AuditPeers, AuditPeersRequest, AuditProof, AuditPruneRequest, AuditRequest,
    CallEvent, CallRequest, CallResponse, Capabilities, Done, ErrorBody, FindRequest, FindResponse,
    GroupCreateRequest, GroupInvitation, GroupJoinRequest, Groups, Peers, PingRequest,
    PingResponse, PrivateGroup, PrivateGroups, ResolveRequest, ResolveResponse, ServeRequest,
    ServeResponse, ShowResponse, Status,
};

/// The document for this version of the API, as committed in `openapi.json`.
#[must_use]
pub fn openapi() -> utoipa::openapi::OpenApi {
    Document::openapi()
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "comity local API",
        description = "HTTP/1.1 with JSON bodies on the Unix socket HOME/api.sock (mode 0600, same user only). \
                       Every answer that is not a success has the body ErrorBody.",
    ),
    paths(
        status,
        serve,
        capabilities,
        unserve,
        find,
        show,
        call,
        ping,
        peers,
        groups,
        private_groups,
        group_create,
        group_join,
        group_show,
        group_invitation,
        group_leave,
        resolve,
        audit,
        audit_peers,
        audit_proof,
        audit_prune,
        shutdown
    ),
    components(schemas(CallEvent, ErrorBody))
)]
struct Document;

/// Who the node is and how it is doing.
#[utoipa::path(get, path = "/v1/status", responses(
    (status = 200, body = Status), (status = "default", body = ErrorBody)))]
#[expect(dead_code, reason = "carries an operation's description")]
fn status() {}

/// Check, try out or publish a capability.
#[utoipa::path(post, path = "/v1/serve", request_body = ServeRequest, responses(
    (status = 200, body = ServeResponse), (status = "default", body = ErrorBody)))]
#[expect(dead_code, reason = "carries an operation's description")]
fn serve() {}

/// What this node serves.
#[utoipa::path(get, path = "/v1/capabilities", responses(
    (status = 200, body = Capabilities), (status = "default", body = ErrorBody)))]
#[expect(dead_code, reason = "carries an operation's description")]
fn capabilities() {}

/// Stop serving a capability and withdraw its declaration.
#[utoipa::path(delete, path = "/v1/capabilities/{name}",
    params(("name" = String, Path, description = "Name of the capability")), responses(
    (status = 200, body = Done), (status = "default", body = ErrorBody)))]
#[expect(dead_code, reason = "carries an operation's description")]
fn unserve() {}

/// Find agents by capability.
#[utoipa::path(post, path = "/v1/find", request_body = FindRequest, responses(
    (status = 200, body = FindResponse), (status = "default", body = ErrorBody)))]
#[expect(dead_code, reason = "carries an operation's description")]
fn find() {}

/// An agent's record in full, or one of its capabilities. The target may contain a slash.
#[utoipa::path(get, path = "/v1/show/{target}",
    params(("target" = String, Path, description = "AGENT or AGENT/CAPABILITY; the agent in any text form")), responses(
    (status = 200, body = ShowResponse), (status = "default", body = ErrorBody)))]
#[expect(dead_code, reason = "carries an operation's description")]
fn show() {}

/// Call a capability. With `Accept: text/event-stream` the answer is a stream of the events described by `CallEvent`:
/// the event's name is its `event`, the event's data its `data`. Closing the connection cancels the call.
#[utoipa::path(post, path = "/v1/call", request_body = CallRequest, responses(
    (status = 200, content((CallResponse = "application/json"), (CallEvent = "text/event-stream"))),
    (status = "default", body = ErrorBody)))]
#[expect(dead_code, reason = "carries an operation's description")]
fn call() {}

/// Measure the round trip to an agent.
#[utoipa::path(post, path = "/v1/ping", request_body = PingRequest, responses(
    (status = 200, body = PingResponse), (status = "default", body = ErrorBody)))]
#[expect(dead_code, reason = "carries an operation's description")]
fn ping() {}

/// Known peers.
#[utoipa::path(get, path = "/v1/peers", responses(
    (status = 200, body = Peers), (status = "default", body = ErrorBody)))]
#[expect(dead_code, reason = "carries an operation's description")]
fn peers() {}

/// Groups this node publishes to or keeps.
#[utoipa::path(get, path = "/v1/groups", responses(
    (status = 200, body = Groups), (status = "default", body = ErrorBody)))]
#[expect(dead_code, reason = "carries an operation's description")]
fn groups() {}

/// Private groups this agent is a member of.
#[utoipa::path(get, path = "/v1/private-groups", responses(
    (status = 200, body = PrivateGroups), (status = "default", body = ErrorBody)))]
#[expect(dead_code, reason = "carries an operation's description")]
fn private_groups() {}

/// Make a private group with a new secret.
#[utoipa::path(post, path = "/v1/private-groups", request_body = GroupCreateRequest, responses(
    (status = 200, body = GroupInvitation), (status = "default", body = ErrorBody)))]
#[expect(dead_code, reason = "carries an operation's description")]
fn group_create() {}

/// Become a member of a private group by an invitation.
#[utoipa::path(post, path = "/v1/invitations/accept", request_body = GroupJoinRequest, responses(
    (status = 200, body = PrivateGroup), (status = "default", body = ErrorBody)))]
#[expect(dead_code, reason = "carries an operation's description")]
fn group_join() {}

/// One private group.
#[utoipa::path(get, path = "/v1/private-groups/{name}",
    params(("name" = String, Path, description = "What the group is called here")), responses(
    (status = 200, body = PrivateGroup), (status = "default", body = ErrorBody)))]
#[expect(dead_code, reason = "carries an operation's description")]
fn group_show() {}

/// The invitation to a private group. It carries the group's secret.
#[utoipa::path(get, path = "/v1/private-groups/{name}/invitation",
    params(("name" = String, Path, description = "What the group is called here")), responses(
    (status = 200, body = GroupInvitation), (status = "default", body = ErrorBody)))]
#[expect(dead_code, reason = "carries an operation's description")]
fn group_invitation() {}

/// Leave a private group and forget its secret.
#[utoipa::path(delete, path = "/v1/private-groups/{name}",
    params(("name" = String, Path, description = "What the group is called here")), responses(
    (status = 200, body = Done), (status = "default", body = ErrorBody)))]
#[expect(dead_code, reason = "carries an operation's description")]
fn group_leave() {}

/// Any text form of an agent to all of them and to its network addresses.
#[utoipa::path(post, path = "/v1/resolve", request_body = ResolveRequest, responses(
    (status = 200, body = ResolveResponse), (status = "default", body = ErrorBody)))]
#[expect(dead_code, reason = "carries an operation's description")]
fn resolve() {}

/// Entries of the audit log.
#[utoipa::path(get, path = "/v1/audit", params(AuditRequest), responses(
    (status = 200, body = AuditPage), (status = "default", body = ErrorBody)))]
#[expect(dead_code, reason = "carries an operation's description")]
fn audit() {}

/// The audit logs of peers as this node saw them, and proofs of those that have two histories.
#[utoipa::path(get, path = "/v1/audit/peers", params(AuditPeersRequest), responses(
    (status = 200, body = AuditPeers), (status = "default", body = ErrorBody)))]
#[expect(dead_code, reason = "carries an operation's description")]
fn audit_peers() {}

/// An entry of the audit log with everything that shows it is there, to be verified offline by anybody.
#[utoipa::path(get, path = "/v1/audit/{index}/proof",
    params(("index" = u64, Path, description = "Position of the entry, from 0")), responses(
    (status = 200, body = AuditProof), (status = "default", body = ErrorBody)))]
#[expect(dead_code, reason = "carries an operation's description")]
fn audit_proof() {}

/// Delete the contents of old entries; their hashes, and all proofs, stay.
#[utoipa::path(post, path = "/v1/audit/prune", request_body = AuditPruneRequest, responses(
    (status = 200, body = Done), (status = "default", body = ErrorBody)))]
#[expect(dead_code, reason = "carries an operation's description")]
fn audit_prune() {}

/// Stop the node. It answers first.
#[utoipa::path(post, path = "/v1/shutdown", responses(
    (status = 200, body = Done), (status = "default", body = ErrorBody)))]
#[expect(dead_code, reason = "carries an operation's description")]
fn shutdown() {}
