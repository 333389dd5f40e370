//! What the API server asks of a node.

use std::future::ready;

use comity_api::types::{
    AdmissionView, AdmitRequest, AppraiseRequest, AppraiseResponse, CanaryRequest, CanaryResponse,
    CharterCreateRequest, CharterGroup, CharterGroups, CharterJoinRequest, EvidenceAddRequest,
    EvidenceIdRequest, EvidenceItem, EvidenceItems, EvidenceShown, ExpelRequest, ProbeRequest,
    ProbeResponse, TraceCommitRequest, TraceDiscloseRequest, TraceDisclosure, TraceView, Traces,
};
use comity_api::types::{
    AuditPage, AuditPeers, AuditPeersRequest, AuditProof, AuditPruneRequest, AuditRequest,
    CallEvent, CallRequest, Capabilities, Done, ErrorCode, ErrorInfo, FindRequest, FindResponse,
    GrantKeepRequest, GrantRequest, GrantRevokeRequest, GrantView, Grants, GroupCreateRequest,
    GroupInvitation, GroupJoinRequest, Groups, Peers, PingRequest, PingResponse,
    PolicyExplainRequest, PolicyExplanation, PolicyStatus, PrivateGroup, PrivateGroups,
    ResolveRequest, ResolveResponse, ServeRequest, ServeResponse, ShowResponse, Status,
};
use comity_api::types::{EndorseRequest, EndorseRevokeRequest, EndorsementView, Endorsements};
use comity_api::types::{
    HandleMeaning, HandlePin, HandlePinRequest, HandlePins, HandleRequest, TrustAnswerRequest,
    TrustApproval, TrustApproveRequest, TrustList, TrustRequest, TrustRequestView,
};
use comity_api::types::{
    KeptReceipt, Receipts, ReceiptsRequest, ReputationRequest, ReputationView, Results,
    RetractRequest,
};
use futures_util::stream::BoxStream;

/// The events of one call, ending with `done` or `error`. Dropping it cancels the call at the far end.
pub type CallEvents = BoxStream<'static, CallEvent>;

/// What a backend that decides about no calls says.
fn not_here() -> ErrorInfo {
    ErrorInfo::new(ErrorCode::NotPermitted, "this backend decides about no calls")
}

/// What a backend that makes and serves no calls says.
fn no_calls() -> ErrorInfo {
    ErrorInfo::new(ErrorCode::NotPermitted, "this backend keeps nothing of calls")
}

/// The operations behind the local API. Implementations write plain `async fn`s.
///
/// Every future may be dropped at any await point (its client went away); what it started must then stop or finish on
/// its own without leaving half a change behind. Deadlines named in a request are the backend's to keep; the server
/// only guards against a backend that does not.
pub trait Backend: Send + Sync + 'static {
    /// `GET /v1/status`.
    fn status(&self) -> impl Future<Output = Result<Status, ErrorInfo>> + Send;

    /// `POST /v1/serve`, by the mode of the request. Findings of level `error` are an error `bad_manifest` only in mode
    /// `publish`; `check` and `dry_run` answer with them.
    fn serve(
        &self,
        request: ServeRequest,
    ) -> impl Future<Output = Result<ServeResponse, ErrorInfo>> + Send;

    /// `GET /v1/capabilities`.
    fn capabilities(&self) -> impl Future<Output = Result<Capabilities, ErrorInfo>> + Send;

    /// `DELETE /v1/capabilities/{name}`.
    fn unserve(&self, name: String) -> impl Future<Output = Result<Done, ErrorInfo>> + Send;

    /// `POST /v1/find`.
    fn find(
        &self,
        request: FindRequest,
    ) -> impl Future<Output = Result<FindResponse, ErrorInfo>> + Send;

    /// `GET /v1/show/{target}`.
    fn show(&self, target: String) -> impl Future<Output = Result<ShowResponse, ErrorInfo>> + Send;

    /// `POST /v1/call`, both forms: the server collects the events when the client wants one answer. An error that is
    /// known before the first event (bad query, bad input) is better returned here than as an event.
    fn call(
        &self,
        request: CallRequest,
    ) -> impl Future<Output = Result<CallEvents, ErrorInfo>> + Send;

    /// `POST /v1/ping`.
    fn ping(
        &self,
        request: PingRequest,
    ) -> impl Future<Output = Result<PingResponse, ErrorInfo>> + Send;

    /// `GET /v1/peers`.
    fn peers(&self) -> impl Future<Output = Result<Peers, ErrorInfo>> + Send;

    /// `GET /v1/groups`.
    fn groups(&self) -> impl Future<Output = Result<Groups, ErrorInfo>> + Send;

    /// `GET /v1/private-groups`.
    fn private_groups(&self) -> impl Future<Output = Result<PrivateGroups, ErrorInfo>> + Send;

    /// `POST /v1/private-groups`.
    fn group_create(
        &self,
        request: GroupCreateRequest,
    ) -> impl Future<Output = Result<GroupInvitation, ErrorInfo>> + Send;

    /// `POST /v1/invitations/accept`.
    fn group_join(
        &self,
        request: GroupJoinRequest,
    ) -> impl Future<Output = Result<PrivateGroup, ErrorInfo>> + Send;

    /// `GET /v1/private-groups/{name}`.
    fn group_show(
        &self,
        name: String,
    ) -> impl Future<Output = Result<PrivateGroup, ErrorInfo>> + Send;

    /// `GET /v1/private-groups/{name}/invitation`.
    fn group_invitation(
        &self,
        name: String,
    ) -> impl Future<Output = Result<GroupInvitation, ErrorInfo>> + Send;

    /// `DELETE /v1/private-groups/{name}`.
    fn group_leave(&self, name: String) -> impl Future<Output = Result<Done, ErrorInfo>> + Send;

    /// `GET /v1/charters`.
    fn charters(&self) -> impl Future<Output = Result<CharterGroups, ErrorInfo>> + Send {
        ready(Err(not_here()))
    }

    /// `POST /v1/charters`.
    fn charter_create(
        &self,
        request: CharterCreateRequest,
    ) -> impl Future<Output = Result<CharterGroup, ErrorInfo>> + Send {
        let _ = request;
        ready(Err(not_here()))
    }

    /// `POST /v1/charters/join`.
    fn charter_join(
        &self,
        request: CharterJoinRequest,
    ) -> impl Future<Output = Result<CharterGroup, ErrorInfo>> + Send {
        let _ = request;
        ready(Err(not_here()))
    }

    /// `GET /v1/charters/{name}`.
    fn charter_show(
        &self,
        name: String,
    ) -> impl Future<Output = Result<CharterGroup, ErrorInfo>> + Send {
        let _ = name;
        ready(Err(not_here()))
    }

    /// `DELETE /v1/charters/{name}`.
    fn charter_leave(&self, name: String) -> impl Future<Output = Result<Done, ErrorInfo>> + Send {
        let _ = name;
        ready(Err(not_here()))
    }

    /// `POST /v1/charters/{name}/admit`.
    fn charter_admit(
        &self,
        name: String,
        request: AdmitRequest,
    ) -> impl Future<Output = Result<AdmissionView, ErrorInfo>> + Send {
        let _ = (name, request);
        ready(Err(not_here()))
    }

    /// `POST /v1/charters/{name}/expel`.
    fn charter_expel(
        &self,
        name: String,
        request: ExpelRequest,
    ) -> impl Future<Output = Result<Done, ErrorInfo>> + Send {
        let _ = (name, request);
        ready(Err(not_here()))
    }

    /// `GET /v1/policy`.
    fn policy(&self) -> impl Future<Output = Result<PolicyStatus, ErrorInfo>> + Send {
        ready(Err(not_here()))
    }

    /// `POST /v1/policy/reload`.
    fn policy_reload(&self) -> impl Future<Output = Result<PolicyStatus, ErrorInfo>> + Send {
        ready(Err(not_here()))
    }

    /// `POST /v1/policy/explain`.
    fn policy_explain(
        &self,
        request: PolicyExplainRequest,
    ) -> impl Future<Output = Result<PolicyExplanation, ErrorInfo>> + Send {
        let _ = request;
        ready(Err(not_here()))
    }

    /// `GET /v1/grants`.
    fn grants(&self) -> impl Future<Output = Result<Grants, ErrorInfo>> + Send {
        ready(Err(not_here()))
    }

    /// `POST /v1/grants`.
    fn grant_create(
        &self,
        request: GrantRequest,
    ) -> impl Future<Output = Result<GrantView, ErrorInfo>> + Send {
        let _ = request;
        ready(Err(not_here()))
    }

    /// `POST /v1/grants/delegate`.
    fn grant_delegate(
        &self,
        request: GrantRequest,
    ) -> impl Future<Output = Result<GrantView, ErrorInfo>> + Send {
        let _ = request;
        ready(Err(not_here()))
    }

    /// `POST /v1/grants/keep`.
    fn grant_keep(
        &self,
        request: GrantKeepRequest,
    ) -> impl Future<Output = Result<GrantView, ErrorInfo>> + Send {
        let _ = request;
        ready(Err(not_here()))
    }

    /// `POST /v1/grants/revoke`.
    fn grant_revoke(
        &self,
        request: GrantRevokeRequest,
    ) -> impl Future<Output = Result<Done, ErrorInfo>> + Send {
        let _ = request;
        ready(Err(not_here()))
    }

    /// `GET /v1/trust`.
    fn trust(&self) -> impl Future<Output = Result<TrustList, ErrorInfo>> + Send {
        ready(Err(not_here()))
    }

    /// `POST /v1/trust/request`.
    fn trust_request(
        &self,
        request: TrustRequest,
    ) -> impl Future<Output = Result<TrustRequestView, ErrorInfo>> + Send {
        let _ = request;
        ready(Err(not_here()))
    }

    /// `POST /v1/trust/approve`.
    fn trust_approve(
        &self,
        request: TrustApproveRequest,
    ) -> impl Future<Output = Result<TrustApproval, ErrorInfo>> + Send {
        let _ = request;
        ready(Err(not_here()))
    }

    /// `POST /v1/trust/deny`.
    fn trust_deny(
        &self,
        request: TrustAnswerRequest,
    ) -> impl Future<Output = Result<Done, ErrorInfo>> + Send {
        let _ = request;
        ready(Err(not_here()))
    }

    /// `POST /v1/trust/revoke`.
    fn trust_revoke(
        &self,
        request: TrustAnswerRequest,
    ) -> impl Future<Output = Result<Done, ErrorInfo>> + Send {
        let _ = request;
        ready(Err(not_here()))
    }

    /// `GET /v1/endorsements`.
    fn endorsements(&self) -> impl Future<Output = Result<Endorsements, ErrorInfo>> + Send {
        ready(Err(not_here()))
    }

    /// `POST /v1/endorsements`.
    fn endorse(
        &self,
        request: EndorseRequest,
    ) -> impl Future<Output = Result<EndorsementView, ErrorInfo>> + Send {
        let _ = request;
        ready(Err(not_here()))
    }

    /// `POST /v1/endorsements/revoke`.
    fn endorse_revoke(
        &self,
        request: EndorseRevokeRequest,
    ) -> impl Future<Output = Result<Done, ErrorInfo>> + Send {
        let _ = request;
        ready(Err(not_here()))
    }

    /// `GET /v1/evidence`.
    fn evidence(&self) -> impl Future<Output = Result<EvidenceItems, ErrorInfo>> + Send {
        ready(Err(not_here()))
    }

    /// `POST /v1/evidence`.
    fn evidence_add(
        &self,
        request: EvidenceAddRequest,
    ) -> impl Future<Output = Result<EvidenceItem, ErrorInfo>> + Send {
        let _ = request;
        ready(Err(not_here()))
    }

    /// `POST /v1/evidence/show`.
    fn evidence_show(
        &self,
        request: EvidenceIdRequest,
    ) -> impl Future<Output = Result<EvidenceShown, ErrorInfo>> + Send {
        let _ = request;
        ready(Err(not_here()))
    }

    /// `POST /v1/evidence/remove`.
    fn evidence_remove(
        &self,
        request: EvidenceIdRequest,
    ) -> impl Future<Output = Result<Done, ErrorInfo>> + Send {
        let _ = request;
        ready(Err(not_here()))
    }

    /// `POST /v1/evidence/appraise`.
    fn appraise(
        &self,
        request: AppraiseRequest,
    ) -> impl Future<Output = Result<AppraiseResponse, ErrorInfo>> + Send {
        let _ = request;
        ready(Err(not_here()))
    }

    /// `POST /v1/evidence/canary`.
    fn canary(
        &self,
        request: CanaryRequest,
    ) -> impl Future<Output = Result<CanaryResponse, ErrorInfo>> + Send {
        let _ = request;
        ready(Err(not_here()))
    }

    /// `POST /v1/evidence/probe`.
    fn probe(
        &self,
        request: ProbeRequest,
    ) -> impl Future<Output = Result<ProbeResponse, ErrorInfo>> + Send {
        let _ = request;
        ready(Err(not_here()))
    }

    /// `GET /v1/traces`.
    fn traces(&self) -> impl Future<Output = Result<Traces, ErrorInfo>> + Send {
        ready(Err(not_here()))
    }

    /// `POST /v1/traces`.
    fn trace_commit(
        &self,
        request: TraceCommitRequest,
    ) -> impl Future<Output = Result<TraceView, ErrorInfo>> + Send {
        let _ = request;
        ready(Err(not_here()))
    }

    /// `POST /v1/traces/disclose`.
    fn trace_disclose(
        &self,
        request: TraceDiscloseRequest,
    ) -> impl Future<Output = Result<TraceDisclosure, ErrorInfo>> + Send {
        let _ = request;
        ready(Err(not_here()))
    }

    /// `POST /v1/resolve`.
    fn resolve(
        &self,
        request: ResolveRequest,
    ) -> impl Future<Output = Result<ResolveResponse, ErrorInfo>> + Send;

    /// `GET /v1/handles`.
    fn handles(&self) -> impl Future<Output = Result<HandlePins, ErrorInfo>> + Send;

    /// `POST /v1/handles/resolve`.
    fn handle_resolve(
        &self,
        request: HandleRequest,
    ) -> impl Future<Output = Result<HandleMeaning, ErrorInfo>> + Send;

    /// `POST /v1/handles/pin`.
    fn handle_pin(
        &self,
        request: HandlePinRequest,
    ) -> impl Future<Output = Result<HandlePin, ErrorInfo>> + Send;

    /// `POST /v1/handles/unpin`.
    fn handle_unpin(
        &self,
        request: HandleRequest,
    ) -> impl Future<Output = Result<Done, ErrorInfo>> + Send;

    /// `GET /v1/audit`.
    fn audit(
        &self,
        request: AuditRequest,
    ) -> impl Future<Output = Result<AuditPage, ErrorInfo>> + Send;

    /// `GET /v1/audit/peers`.
    fn audit_peers(
        &self,
        request: AuditPeersRequest,
    ) -> impl Future<Output = Result<AuditPeers, ErrorInfo>> + Send;

    /// `GET /v1/audit/{index}/proof`.
    fn audit_proof(&self, index: u64)
    -> impl Future<Output = Result<AuditProof, ErrorInfo>> + Send;

    /// `POST /v1/receipts`.
    fn receipts(
        &self,
        request: ReceiptsRequest,
    ) -> impl Future<Output = Result<Receipts, ErrorInfo>> + Send {
        let _ = request;
        ready(Err(no_calls()))
    }

    /// `GET /v1/receipts/{id}`.
    fn receipt(&self, id: String) -> impl Future<Output = Result<KeptReceipt, ErrorInfo>> + Send {
        let _ = id;
        ready(Err(no_calls()))
    }

    /// `GET /v1/results`.
    fn results(&self) -> impl Future<Output = Result<Results, ErrorInfo>> + Send {
        ready(Err(no_calls()))
    }

    /// `POST /v1/results/retract`.
    fn retract(
        &self,
        request: RetractRequest,
    ) -> impl Future<Output = Result<Done, ErrorInfo>> + Send {
        let _ = request;
        ready(Err(no_calls()))
    }

    /// `POST /v1/reputation`.
    fn reputation(
        &self,
        request: ReputationRequest,
    ) -> impl Future<Output = Result<ReputationView, ErrorInfo>> + Send {
        let _ = request;
        ready(Err(no_calls()))
    }

    /// `POST /v1/audit/prune`.
    fn audit_prune(
        &self,
        request: AuditPruneRequest,
    ) -> impl Future<Output = Result<Done, ErrorInfo>> + Send;

    /// `POST /v1/shutdown`: starts the shutdown and returns; it must not wait for the API server, which waits for this
    /// answer.
    fn shutdown(&self) -> impl Future<Output = Result<Done, ErrorInfo>> + Send;
}
