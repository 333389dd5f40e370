//! Who may do what, and on what grounds: the policy, grants, trust, endorsements, evidence, traces.

use super::{Client, ClientError, Method};
use crate::types::{
    AppraiseRequest, AppraiseResponse, CanaryRequest, CanaryResponse, Done, EndorseRequest,
    EndorseRevokeRequest, EndorsementView, Endorsements, EvidenceAddRequest, EvidenceIdRequest,
    EvidenceItem, EvidenceItems, EvidenceShown, GrantKeepRequest, GrantRequest, GrantRevokeRequest,
    GrantView, Grants, PolicyExplainRequest, PolicyExplanation, PolicyStatus, ProbeRequest,
    ProbeResponse, TraceCommitRequest, TraceDiscloseRequest, TraceDisclosure, TraceView, Traces,
    TrustAnswerRequest, TrustApproval, TrustApproveRequest, TrustList, TrustRequest,
    TrustRequestView,
};

impl Client {
    /// `GET /v1/policy`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn policy(&self) -> Result<PolicyStatus, ClientError> {
        self.get("/v1/policy").await
    }

    /// `POST /v1/policy/reload`: reads the policy file now.
    ///
    /// # Errors
    /// [`ClientError`]; code `bad_manifest` when the file is refused, and the old one stays in force.
    pub async fn policy_reload(&self) -> Result<PolicyStatus, ClientError> {
        self.json(Method::POST, "/v1/policy/reload", None).await
    }

    /// `POST /v1/policy/explain`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn policy_explain(
        &self,
        request: &PolicyExplainRequest,
    ) -> Result<PolicyExplanation, ClientError> {
        self.post("/v1/policy/explain", request).await
    }

    /// `GET /v1/grants`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn grants(&self) -> Result<Grants, ClientError> {
        self.get("/v1/grants").await
    }

    /// `POST /v1/grants`: signs a grant of this agent's.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn grant_create(&self, request: &GrantRequest) -> Result<GrantView, ClientError> {
        self.post("/v1/grants", request).await
    }

    /// `POST /v1/grants/delegate`: passes part of a held grant on.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn grant_delegate(&self, request: &GrantRequest) -> Result<GrantView, ClientError> {
        self.post("/v1/grants/delegate", request).await
    }

    /// `POST /v1/grants/keep`: keeps a grant that somebody handed over.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn grant_keep(&self, request: &GrantKeepRequest) -> Result<GrantView, ClientError> {
        self.post("/v1/grants/keep", request).await
    }

    /// `POST /v1/grants/revoke`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn grant_revoke(&self, request: &GrantRevokeRequest) -> Result<Done, ClientError> {
        self.post("/v1/grants/revoke", request).await
    }

    /// `GET /v1/trust`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn trust(&self) -> Result<TrustList, ClientError> {
        self.get("/v1/trust").await
    }

    /// `POST /v1/trust/request`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn trust_request(
        &self,
        request: &TrustRequest,
    ) -> Result<TrustRequestView, ClientError> {
        self.post("/v1/trust/request", request).await
    }

    /// `POST /v1/trust/approve`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn trust_approve(
        &self,
        request: &TrustApproveRequest,
    ) -> Result<TrustApproval, ClientError> {
        self.post("/v1/trust/approve", request).await
    }

    /// `POST /v1/trust/deny`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn trust_deny(&self, request: &TrustAnswerRequest) -> Result<Done, ClientError> {
        self.post("/v1/trust/deny", request).await
    }

    /// `POST /v1/trust/revoke`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn trust_revoke(&self, request: &TrustAnswerRequest) -> Result<Done, ClientError> {
        self.post("/v1/trust/revoke", request).await
    }

    /// `GET /v1/endorsements`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn endorsements(&self) -> Result<Endorsements, ClientError> {
        self.get("/v1/endorsements").await
    }

    /// `POST /v1/endorsements`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn endorse(&self, request: &EndorseRequest) -> Result<EndorsementView, ClientError> {
        self.post("/v1/endorsements", request).await
    }

    /// `POST /v1/endorsements/revoke`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn endorse_revoke(
        &self,
        request: &EndorseRevokeRequest,
    ) -> Result<Done, ClientError> {
        self.post("/v1/endorsements/revoke", request).await
    }

    /// `GET /v1/evidence`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn evidence(&self) -> Result<EvidenceItems, ClientError> {
        self.get("/v1/evidence").await
    }

    /// `POST /v1/evidence`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn evidence_add(
        &self,
        request: &EvidenceAddRequest,
    ) -> Result<EvidenceItem, ClientError> {
        self.post("/v1/evidence", request).await
    }

    /// `POST /v1/evidence/show`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn evidence_show(
        &self,
        request: &EvidenceIdRequest,
    ) -> Result<EvidenceShown, ClientError> {
        self.post("/v1/evidence/show", request).await
    }

    /// `POST /v1/evidence/remove`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn evidence_remove(&self, request: &EvidenceIdRequest) -> Result<Done, ClientError> {
        self.post("/v1/evidence/remove", request).await
    }

    /// `POST /v1/evidence/appraise`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn appraise(
        &self,
        request: &AppraiseRequest,
    ) -> Result<AppraiseResponse, ClientError> {
        self.post("/v1/evidence/appraise", request).await
    }

    /// `POST /v1/evidence/canary`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn canary(&self, request: &CanaryRequest) -> Result<CanaryResponse, ClientError> {
        self.post("/v1/evidence/canary", request).await
    }

    /// `POST /v1/evidence/probe`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn probe(&self, request: &ProbeRequest) -> Result<ProbeResponse, ClientError> {
        self.post("/v1/evidence/probe", request).await
    }

    /// `GET /v1/traces`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn traces(&self) -> Result<Traces, ClientError> {
        self.get("/v1/traces").await
    }

    /// `POST /v1/traces`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn trace_commit(
        &self,
        request: &TraceCommitRequest,
    ) -> Result<TraceView, ClientError> {
        self.post("/v1/traces", request).await
    }

    /// `POST /v1/traces/disclose`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn trace_disclose(
        &self,
        request: &TraceDiscloseRequest,
    ) -> Result<TraceDisclosure, ClientError> {
        self.post("/v1/traces/disclose", request).await
    }
}
