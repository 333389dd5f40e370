//! The OpenAPI document, from the types and the operations listed here.

use utoipa::OpenApi;

use crate::types::{
    AdmissionView, AdmitRequest, AppraiseRequest, AppraiseResponse, CanaryRequest, CanaryResponse,
    CharterCreateRequest, CharterGroup, CharterGroups, CharterJoinRequest, EvidenceAddRequest,
    EvidenceIdRequest, EvidenceItem, EvidenceItems, EvidenceShown, ExpelRequest, ProbeRequest,
    ProbeResponse, TraceCommitRequest, TraceDiscloseRequest, TraceDisclosure, TraceView, Traces,
};
use crate::types::{
    AuditPage, AuditPeers, AuditPeersRequest, AuditProof, AuditPruneRequest, AuditRequest,
    CallEvent, CallRequest, CallResponse, Capabilities, Done, ErrorBody, FindRequest, FindResponse,
    GrantKeepRequest, GrantRequest, GrantRevokeRequest, GrantView, Grants, GroupCreateRequest,
    GroupInvitation, GroupJoinRequest, Groups, Peers, PingRequest, PingResponse,
    PolicyExplainRequest, PolicyExplanation, PolicyStatus, PrivateGroup, PrivateGroups,
    ResolveRequest, ResolveResponse, ServeRequest, ServeResponse, ShowResponse, Status,
};
use crate::types::{EndorseRequest, EndorseRevokeRequest, EndorsementView, Endorsements};
use crate::types::{EndpointOpened, EndpointRequest};
use crate::types::{
    HandleMeaning, HandlePin, HandlePinRequest, HandlePins, HandleRequest, TrustAnswerRequest,
    TrustApproval, TrustApproveRequest, TrustList, TrustRequest, TrustRequestView,
};

use crate::types::{
    KeptReceipt, Receipts, ReceiptsRequest, ReputationRequest, ReputationView, Results,
    RetractRequest,
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
        charters,
        charter_create,
        charter_join,
        charter_show,
        charter_leave,
        charter_admit,
        charter_expel,
        policy,
        policy_reload,
        policy_explain,
        grants,
        grant_create,
        grant_delegate,
        grant_keep,
        grant_revoke,
        trust,
        trust_request,
        trust_approve,
        trust_deny,
        trust_revoke,
        endorsements,
        endorse,
        endorse_revoke,
        evidence,
        evidence_add,
        evidence_show,
        evidence_remove,
        appraise,
        canary,
        probe,
        traces,
        trace_commit,
        trace_disclose,
        resolve,
        handles,
        handle_resolve,
        handle_pin,
        handle_unpin,
        audit,
        audit_peers,
        audit_proof,
        audit_prune,
        receipts,
        receipt,
        results,
        retract,
        reputation,
        endpoint,
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

/// Groups with a charter that this agent founded or joined.
#[utoipa::path(get, path = "/v1/charters", responses(
    (status = 200, body = CharterGroups), (status = "default", body = ErrorBody)))]
#[expect(dead_code, reason = "carries an operation's description")]
fn charters() {}

/// Found a group with a charter.
#[utoipa::path(post, path = "/v1/charters", request_body = CharterCreateRequest, responses(
    (status = 200, body = CharterGroup), (status = "default", body = ErrorBody)))]
#[expect(dead_code, reason = "carries an operation's description")]
fn charter_create() {}

/// Keep a group's charter, and admissions that came with it.
#[utoipa::path(post, path = "/v1/charters/join", request_body = CharterJoinRequest, responses(
    (status = 200, body = CharterGroup), (status = "default", body = ErrorBody)))]
#[expect(dead_code, reason = "carries an operation's description")]
fn charter_join() {}

/// One group with a charter.
#[utoipa::path(get, path = "/v1/charters/{name}",
    params(("name" = String, Path, description = "What the group is called here")), responses(
    (status = 200, body = CharterGroup), (status = "default", body = ErrorBody)))]
#[expect(dead_code, reason = "carries an operation's description")]
fn charter_show() {}

/// Forget a group and the admissions to it.
#[utoipa::path(delete, path = "/v1/charters/{name}",
    params(("name" = String, Path, description = "What the group is called here")), responses(
    (status = 200, body = Done), (status = "default", body = ErrorBody)))]
#[expect(dead_code, reason = "carries an operation's description")]
fn charter_leave() {}

/// Admit an agent to a group as one of its stewards.
#[utoipa::path(post, path = "/v1/charters/{name}/admit", request_body = AdmitRequest,
    params(("name" = String, Path, description = "What the group is called here")), responses(
    (status = 200, body = AdmissionView), (status = "default", body = ErrorBody)))]
#[expect(dead_code, reason = "carries an operation's description")]
fn charter_admit() {}

/// Expel an agent from a group: for good where this node keeps the group's key, else by taking back the own admissions.
#[utoipa::path(post, path = "/v1/charters/{name}/expel", request_body = ExpelRequest,
    params(("name" = String, Path, description = "What the group is called here")), responses(
    (status = 200, body = Done), (status = "default", body = ErrorBody)))]
#[expect(dead_code, reason = "carries an operation's description")]
fn charter_expel() {}

/// Which policy is in force, and whether the file is in order.
#[utoipa::path(get, path = "/v1/policy", responses(
    (status = 200, body = PolicyStatus), (status = "default", body = ErrorBody)))]
#[expect(dead_code, reason = "carries an operation's description")]
fn policy() {}

/// Read the policy file now. A file with an error is refused, and the old policy stays in force.
#[utoipa::path(post, path = "/v1/policy/reload", responses(
    (status = 200, body = PolicyStatus), (status = "default", body = ErrorBody)))]
#[expect(dead_code, reason = "carries an operation's description")]
fn policy_reload() {}

/// Would this call be let through, and which line decides?
#[utoipa::path(post, path = "/v1/policy/explain", request_body = PolicyExplainRequest, responses(
    (status = 200, body = PolicyExplanation), (status = "default", body = ErrorBody)))]
#[expect(dead_code, reason = "carries an operation's description")]
fn policy_explain() {}

/// Grants this agent gave, and those it holds.
#[utoipa::path(get, path = "/v1/grants", responses(
    (status = 200, body = Grants), (status = "default", body = ErrorBody)))]
#[expect(dead_code, reason = "carries an operation's description")]
fn grants() {}

/// Sign a grant: let an agent call some capabilities of this one for a while.
#[utoipa::path(post, path = "/v1/grants", request_body = GrantRequest, responses(
    (status = 200, body = GrantView), (status = "default", body = ErrorBody)))]
#[expect(dead_code, reason = "carries an operation's description")]
fn grant_create() {}

/// Pass part of a held grant on.
#[utoipa::path(post, path = "/v1/grants/delegate", request_body = GrantRequest, responses(
    (status = 200, body = GrantView), (status = "default", body = ErrorBody)))]
#[expect(dead_code, reason = "carries an operation's description")]
fn grant_delegate() {}

/// Keep a grant that somebody handed over; calls show it by themselves from then on.
#[utoipa::path(post, path = "/v1/grants/keep", request_body = GrantKeepRequest, responses(
    (status = 200, body = GrantView), (status = "default", body = ErrorBody)))]
#[expect(dead_code, reason = "carries an operation's description")]
fn grant_keep() {}

/// Take a grant back, or everything that an agent holds by this agent's leave.
#[utoipa::path(post, path = "/v1/grants/revoke", request_body = GrantRevokeRequest, responses(
    (status = 200, body = Done), (status = "default", body = ErrorBody)))]
#[expect(dead_code, reason = "carries an operation's description")]
fn grant_revoke() {}

/// Requests for access, of others and own ones, and whom this agent trusts.
#[utoipa::path(get, path = "/v1/trust", responses(
    (status = 200, body = TrustList), (status = "default", body = ErrorBody)))]
#[expect(dead_code, reason = "carries an operation's description")]
fn trust() {}

/// Ask an agent for access to a capability, or for trust both ways.
#[utoipa::path(post, path = "/v1/trust/request", request_body = TrustRequest, responses(
    (status = 200, body = TrustRequestView), (status = "default", body = ErrorBody)))]
#[expect(dead_code, reason = "carries an operation's description")]
fn trust_request() {}

/// Grant what an agent asked for.
#[utoipa::path(post, path = "/v1/trust/approve", request_body = TrustApproveRequest, responses(
    (status = 200, body = TrustApproval), (status = "default", body = ErrorBody)))]
#[expect(dead_code, reason = "carries an operation's description")]
fn trust_approve() {}

/// Deny what an agent asked for.
#[utoipa::path(post, path = "/v1/trust/deny", request_body = TrustAnswerRequest, responses(
    (status = 200, body = Done), (status = "default", body = ErrorBody)))]
#[expect(dead_code, reason = "carries an operation's description")]
fn trust_deny() {}

/// Take back trust in an agent, and the grants it holds from this one.
#[utoipa::path(post, path = "/v1/trust/revoke", request_body = TrustAnswerRequest, responses(
    (status = 200, body = Done), (status = "default", body = ErrorBody)))]
#[expect(dead_code, reason = "carries an operation's description")]
fn trust_revoke() {}

/// Endorsements this agent gave, and those it received.
#[utoipa::path(get, path = "/v1/endorsements", responses(
    (status = 200, body = Endorsements), (status = "default", body = ErrorBody)))]
#[expect(dead_code, reason = "carries an operation's description")]
fn endorsements() {}

/// Give this agent's word for another's capability.
#[utoipa::path(post, path = "/v1/endorsements", request_body = EndorseRequest, responses(
    (status = 200, body = EndorsementView), (status = "default", body = ErrorBody)))]
#[expect(dead_code, reason = "carries an operation's description")]
fn endorse() {}

/// Take an endorsement back.
#[utoipa::path(post, path = "/v1/endorsements/revoke", request_body = EndorseRevokeRequest, responses(
    (status = 200, body = Done), (status = "default", body = ErrorBody)))]
#[expect(dead_code, reason = "carries an operation's description")]
fn endorse_revoke() {}

/// Evidence about this agent that it keeps for whoever asks.
#[utoipa::path(get, path = "/v1/evidence", responses(
    (status = 200, body = EvidenceItems), (status = "default", body = ErrorBody)))]
#[expect(dead_code, reason = "carries an operation's description")]
fn evidence() {}

/// Keep evidence about this agent.
#[utoipa::path(post, path = "/v1/evidence", request_body = EvidenceAddRequest, responses(
    (status = 200, body = EvidenceItem), (status = "default", body = ErrorBody)))]
#[expect(dead_code, reason = "carries an operation's description")]
fn evidence_add() {}

/// One piece of kept evidence, and what it shows by this node's own policy.
#[utoipa::path(post, path = "/v1/evidence/show", request_body = EvidenceIdRequest, responses(
    (status = 200, body = EvidenceShown), (status = "default", body = ErrorBody)))]
#[expect(dead_code, reason = "carries an operation's description")]
fn evidence_show() {}

/// Forget a piece of evidence.
#[utoipa::path(post, path = "/v1/evidence/remove", request_body = EvidenceIdRequest, responses(
    (status = 200, body = Done), (status = "default", body = ErrorBody)))]
#[expect(dead_code, reason = "carries an operation's description")]
fn evidence_remove() {}

/// Ask an agent for its evidence, and say what it shows.
#[utoipa::path(post, path = "/v1/evidence/appraise", request_body = AppraiseRequest, responses(
    (status = 200, body = AppraiseResponse), (status = "default", body = ErrorBody)))]
#[expect(dead_code, reason = "carries an operation's description")]
fn appraise() {}

/// Ask an agent what is known already, and remember whether it was right.
#[utoipa::path(post, path = "/v1/evidence/canary", request_body = CanaryRequest, responses(
    (status = 200, body = CanaryResponse), (status = "default", body = ErrorBody)))]
#[expect(dead_code, reason = "carries an operation's description")]
fn canary() {}

/// Have rows of a table proved, and remember whether they were.
#[utoipa::path(post, path = "/v1/evidence/probe", request_body = ProbeRequest, responses(
    (status = 200, body = ProbeResponse), (status = "default", body = ErrorBody)))]
#[expect(dead_code, reason = "carries an operation's description")]
fn probe() {}

/// Traces this agent committed to.
#[utoipa::path(get, path = "/v1/traces", responses(
    (status = 200, body = Traces), (status = "default", body = ErrorBody)))]
#[expect(dead_code, reason = "carries an operation's description")]
fn traces() {}

/// Commit to a trace.
#[utoipa::path(post, path = "/v1/traces", request_body = TraceCommitRequest, responses(
    (status = 200, body = TraceView), (status = "default", body = ErrorBody)))]
#[expect(dead_code, reason = "carries an operation's description")]
fn trace_commit() {}

/// Disclose steps of a committed trace.
#[utoipa::path(post, path = "/v1/traces/disclose", request_body = TraceDiscloseRequest, responses(
    (status = 200, body = TraceDisclosure), (status = "default", body = ErrorBody)))]
#[expect(dead_code, reason = "carries an operation's description")]
fn trace_disclose() {}

/// Any text form of an agent to all of them and to its network addresses.
#[utoipa::path(post, path = "/v1/resolve", request_body = ResolveRequest, responses(
    (status = 200, body = ResolveResponse), (status = "default", body = ErrorBody)))]
#[expect(dead_code, reason = "carries an operation's description")]
fn resolve() {}

/// The pinned handles.
#[utoipa::path(get, path = "/v1/handles", responses(
    (status = 200, body = HandlePins), (status = "default", body = ErrorBody)))]
#[expect(dead_code, reason = "carries an operation's description")]
fn handles() {}

/// Whom a handle means: the key it is pinned to, or that key's successor, or the only one under it, which is pinned.
#[utoipa::path(post, path = "/v1/handles/resolve", request_body = HandleRequest, responses(
    (status = 200, body = HandleMeaning), (status = "default", body = ErrorBody)))]
#[expect(dead_code, reason = "carries an operation's description")]
fn handle_resolve() {}

/// Have a handle mean this agent from now on, by the operator's word.
#[utoipa::path(post, path = "/v1/handles/pin", request_body = HandlePinRequest, responses(
    (status = 200, body = HandlePin), (status = "default", body = ErrorBody)))]
#[expect(dead_code, reason = "carries an operation's description")]
fn handle_pin() {}

/// Forget whom a handle means: the next one found under it is pinned.
#[utoipa::path(post, path = "/v1/handles/unpin", request_body = HandleRequest, responses(
    (status = 200, body = Done), (status = "default", body = ErrorBody)))]
#[expect(dead_code, reason = "carries an operation's description")]
fn handle_unpin() {}

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

/// Receipts of calls that this agent made and served.
#[utoipa::path(post, path = "/v1/receipts", request_body = ReceiptsRequest, responses(
    (status = 200, body = Receipts), (status = "default", body = ErrorBody)))]
#[expect(dead_code, reason = "carries an operation's description")]
fn receipts() {}

/// One receipt by its hash, or by the first eight or more digits of it.
#[utoipa::path(get, path = "/v1/receipts/{id}",
    params(("id" = String, Path, description = "Hash of the receipt, with or without `b3:`")), responses(
    (status = 200, body = KeptReceipt), (status = "default", body = ErrorBody)))]
#[expect(dead_code, reason = "carries an operation's description")]
fn receipt() {}

/// Answers kept for reuse.
#[utoipa::path(get, path = "/v1/results", responses(
    (status = 200, body = Results), (status = "default", body = ErrorBody)))]
#[expect(dead_code, reason = "carries an operation's description")]
fn results() {}

/// Take back answers given so far.
#[utoipa::path(post, path = "/v1/results/retract", request_body = RetractRequest, responses(
    (status = 200, body = Done), (status = "default", body = ErrorBody)))]
#[expect(dead_code, reason = "carries an operation's description")]
fn retract() {}

/// What this node thinks of a peer, and why.
#[utoipa::path(post, path = "/v1/reputation", request_body = ReputationRequest, responses(
    (status = 200, body = ReputationView), (status = "default", body = ErrorBody)))]
#[expect(dead_code, reason = "carries an operation's description")]
fn reputation() {}

/// Delete the contents of old entries; their hashes, and all proofs, stay.
#[utoipa::path(post, path = "/v1/audit/prune", request_body = AuditPruneRequest, responses(
    (status = 200, body = Done), (status = "default", body = ErrorBody)))]
#[expect(dead_code, reason = "carries an operation's description")]
fn audit_prune() {}

/// Open an endpoint on this machine for programs of another protocol. The answer is an event stream whose first event, `open`, says where it
/// listens; the endpoint is there until the connection is closed.
#[utoipa::path(post, path = "/v1/endpoints", request_body = EndpointRequest, responses(
    (status = 200, content((EndpointOpened = "text/event-stream"))),
    (status = "default", body = ErrorBody)))]
#[expect(dead_code, reason = "carries an operation's description")]
fn endpoint() {}

/// Stop the node. It answers first.
#[utoipa::path(post, path = "/v1/shutdown", responses(
    (status = 200, body = Done), (status = "default", body = ErrorBody)))]
#[expect(dead_code, reason = "carries an operation's description")]
fn shutdown() {}
