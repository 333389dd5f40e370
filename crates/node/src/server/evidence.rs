//! Operations on evidence.

use std::time::Duration;

use axum::extract::State;
use comity_api::types::{
    AppraiseRequest, AppraiseResponse, CanaryRequest, CanaryResponse, DEFAULT_CALL_TIMEOUT_MS,
    Done, EvidenceAddRequest, EvidenceIdRequest, EvidenceItem, EvidenceItems, EvidenceShown,
    MAX_CALL_TIMEOUT_MS, ProbeRequest, ProbeResponse, TraceCommitRequest, TraceDiscloseRequest,
    TraceDisclosure, TraceView, Traces,
};

use super::handlers::{Node, within};
use super::respond::{Answer, Json, answer};
use super::{Backend, DEADLINE_GRACE, REQUEST_TIMEOUT};

pub(crate) async fn evidence<B: Backend>(State(node): Node<B>) -> Answer<EvidenceItems> {
    answer(within(REQUEST_TIMEOUT, node.backend.evidence()).await)
}

pub(crate) async fn evidence_add<B: Backend>(
    State(node): Node<B>,
    Json(request): Json<EvidenceAddRequest>,
) -> Answer<EvidenceItem> {
    answer(within(REQUEST_TIMEOUT, node.backend.evidence_add(request)).await)
}

pub(crate) async fn evidence_show<B: Backend>(
    State(node): Node<B>,
    Json(request): Json<EvidenceIdRequest>,
) -> Answer<EvidenceShown> {
    answer(within(REQUEST_TIMEOUT, node.backend.evidence_show(request)).await)
}

pub(crate) async fn evidence_remove<B: Backend>(
    State(node): Node<B>,
    Json(request): Json<EvidenceIdRequest>,
) -> Answer<Done> {
    answer(within(REQUEST_TIMEOUT, node.backend.evidence_remove(request)).await)
}

pub(crate) async fn appraise<B: Backend>(
    State(node): Node<B>,
    Json(request): Json<AppraiseRequest>,
) -> Answer<AppraiseResponse> {
    answer(within(REQUEST_TIMEOUT, node.backend.appraise(request)).await)
}

pub(crate) async fn canary<B: Backend>(
    State(node): Node<B>,
    Json(request): Json<CanaryRequest>,
) -> Answer<CanaryResponse> {
    let timeout = request.timeout_ms.unwrap_or(DEFAULT_CALL_TIMEOUT_MS).min(MAX_CALL_TIMEOUT_MS);
    let timeout = Duration::from_millis(timeout) + DEADLINE_GRACE;
    answer(within(timeout, node.backend.canary(request)).await)
}

pub(crate) async fn probe<B: Backend>(
    State(node): Node<B>,
    Json(request): Json<ProbeRequest>,
) -> Answer<ProbeResponse> {
    let timeout = request.timeout_ms.unwrap_or(DEFAULT_CALL_TIMEOUT_MS).min(MAX_CALL_TIMEOUT_MS);
    let timeout = 3 * Duration::from_millis(timeout) + DEADLINE_GRACE;
    answer(within(timeout, node.backend.probe(request)).await)
}

pub(crate) async fn traces<B: Backend>(State(node): Node<B>) -> Answer<Traces> {
    answer(within(REQUEST_TIMEOUT, node.backend.traces()).await)
}

pub(crate) async fn trace_commit<B: Backend>(
    State(node): Node<B>,
    Json(request): Json<TraceCommitRequest>,
) -> Answer<TraceView> {
    answer(within(REQUEST_TIMEOUT, node.backend.trace_commit(request)).await)
}

pub(crate) async fn trace_disclose<B: Backend>(
    State(node): Node<B>,
    Json(request): Json<TraceDiscloseRequest>,
) -> Answer<TraceDisclosure> {
    answer(within(REQUEST_TIMEOUT, node.backend.trace_disclose(request)).await)
}
