//! One function per operation.

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, Method, Uri, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use comity_api::types::{
    AdmissionView, AdmitRequest, CharterCreateRequest, CharterGroup, CharterGroups,
    CharterJoinRequest, ExpelRequest,
};
use comity_api::types::{
    AttemptOutcome, AuditPage, AuditPeers, AuditPeersRequest, AuditProof, AuditPruneRequest,
    AuditRequest, CallEvent, CallRequest, CallResponse, Capabilities, DEFAULT_CALL_TIMEOUT_MS,
    DEFAULT_PING_TIMEOUT_MS, Done, ErrorCode, ErrorInfo, FindRequest, FindResponse,
    GrantKeepRequest, GrantRequest, GrantRevokeRequest, GrantView, Grants, GroupCreateRequest,
    GroupInvitation, GroupJoinRequest, Groups, HandleMeaning, HandlePin, HandlePinRequest,
    HandlePins, HandleRequest, MAX_ATTEMPTS, MAX_AUDIT_ENTRIES, MAX_CALL_TIMEOUT_MS, MAX_LIMIT,
    MAX_PINGS, Output, Peers, PingRequest, PingResponse, PolicyExplainRequest, PolicyExplanation,
    PolicyStatus, PrivateGroup, PrivateGroups, ResolveRequest, ResolveResponse, ServeRequest,
    ServeResponse, ShowResponse, Status,
};
use comity_api::types::{EndorseRequest, EndorseRevokeRequest, EndorsementView, Endorsements};
use comity_api::types::{
    KeptReceipt, MAX_RECEIPTS, Receipts, ReceiptsRequest, ReputationRequest, ReputationView,
    Results, RetractRequest,
};
use comity_api::types::{
    TrustAnswerRequest, TrustApproval, TrustApproveRequest, TrustList, TrustRequest,
    TrustRequestView,
};
use comity_api::{MAX_EVENT_BYTES, MAX_RESPONSE_BYTES};
use futures_util::stream::{self, BoxStream};
use futures_util::{Stream, StreamExt};

use super::respond::{Answer, Failure, Json, answer};
use super::{Backend, CallEvents, DEADLINE_GRACE, KEEP_ALIVE, REQUEST_TIMEOUT, Shared};

/// Most bytes of items, as JSON, that are put into one answer; the rest of [`MAX_RESPONSE_BYTES`] is for its frame.
const MAX_COLLECTED_BYTES: usize = MAX_RESPONSE_BYTES - (1 << 20);
/// The news that an attempt has begun waits this long for what comes of it.
const HELD_BACK: Duration = Duration::from_millis(2);

pub(super) type Node<B> = State<Shared<B>>;

pub(crate) async fn status<B: Backend>(State(node): Node<B>) -> Answer<Status> {
    let status = within(REQUEST_TIMEOUT, node.backend.status()).await;
    answer(status.map(|status| Status { endpoints: node.open.all(), ..status }))
}

pub(crate) async fn serve<B: Backend>(
    State(node): Node<B>,
    Json(request): Json<ServeRequest>,
) -> Answer<ServeResponse> {
    if request.manifest.is_none() && request.manifest_path.is_none() && request.source.is_none() {
        return Err(Failure(
            ErrorInfo::new(
                ErrorCode::BadRequest,
                "nothing to serve: no manifest and no source is given",
            )
            .hint("give one of `manifest`, `manifest_path`, `source`"),
        ));
    }
    if request.manifest.is_some() && request.manifest_path.is_some() {
        return Err(Failure(
            ErrorInfo::new(ErrorCode::BadRequest, "both `manifest` and `manifest_path` are given")
                .hint("give one"),
        ));
    }
    // Reading a large table takes its time; the client going away ends it.
    answer(within(Duration::from_millis(MAX_CALL_TIMEOUT_MS), node.backend.serve(request)).await)
}

pub(crate) async fn capabilities<B: Backend>(State(node): Node<B>) -> Answer<Capabilities> {
    answer(within(REQUEST_TIMEOUT, node.backend.capabilities()).await)
}

pub(crate) async fn unserve<B: Backend>(
    State(node): Node<B>,
    Path(name): Path<String>,
) -> Answer<Done> {
    answer(within(REQUEST_TIMEOUT, node.backend.unserve(name)).await)
}

pub(crate) async fn find<B: Backend>(
    State(node): Node<B>,
    Json(request): Json<FindRequest>,
) -> Answer<FindResponse> {
    if let Some(limit) = request.limit {
        in_range("limit", u64::from(limit), 1, u64::from(MAX_LIMIT))?;
    }
    let limit = deadline(request.timeout_ms, None)?;
    answer(within(limit, node.backend.find(request)).await)
}

pub(crate) async fn show<B: Backend>(
    State(node): Node<B>,
    Path(target): Path<String>,
) -> Answer<ShowResponse> {
    answer(within(REQUEST_TIMEOUT, node.backend.show(target)).await)
}

pub(crate) async fn ping<B: Backend>(
    State(node): Node<B>,
    Json(request): Json<PingRequest>,
) -> Answer<PingResponse> {
    in_range("count", u64::from(request.count), 1, u64::from(MAX_PINGS))?;
    let each = deadline(request.timeout_ms, Some(DEFAULT_PING_TIMEOUT_MS))?;
    answer(
        within(each.saturating_mul(request.count.saturating_add(1)), node.backend.ping(request))
            .await,
    )
}

pub(crate) async fn peers<B: Backend>(State(node): Node<B>) -> Answer<Peers> {
    answer(within(REQUEST_TIMEOUT, node.backend.peers()).await)
}

pub(crate) async fn groups<B: Backend>(State(node): Node<B>) -> Answer<Groups> {
    answer(within(REQUEST_TIMEOUT, node.backend.groups()).await)
}

pub(crate) async fn private_groups<B: Backend>(State(node): Node<B>) -> Answer<PrivateGroups> {
    answer(within(REQUEST_TIMEOUT, node.backend.private_groups()).await)
}

pub(crate) async fn group_create<B: Backend>(
    State(node): Node<B>,
    Json(request): Json<GroupCreateRequest>,
) -> Answer<GroupInvitation> {
    answer(within(REQUEST_TIMEOUT, node.backend.group_create(request)).await)
}

pub(crate) async fn group_join<B: Backend>(
    State(node): Node<B>,
    Json(request): Json<GroupJoinRequest>,
) -> Answer<PrivateGroup> {
    answer(within(REQUEST_TIMEOUT, node.backend.group_join(request)).await)
}

pub(crate) async fn group_show<B: Backend>(
    State(node): Node<B>,
    Path(name): Path<String>,
) -> Answer<PrivateGroup> {
    answer(within(REQUEST_TIMEOUT, node.backend.group_show(name)).await)
}

pub(crate) async fn group_invitation<B: Backend>(
    State(node): Node<B>,
    Path(name): Path<String>,
) -> Answer<GroupInvitation> {
    answer(within(REQUEST_TIMEOUT, node.backend.group_invitation(name)).await)
}

pub(crate) async fn group_leave<B: Backend>(
    State(node): Node<B>,
    Path(name): Path<String>,
) -> Answer<Done> {
    answer(within(REQUEST_TIMEOUT, node.backend.group_leave(name)).await)
}

pub(crate) async fn charters<B: Backend>(State(node): Node<B>) -> Answer<CharterGroups> {
    answer(within(REQUEST_TIMEOUT, node.backend.charters()).await)
}

pub(crate) async fn charter_create<B: Backend>(
    State(node): Node<B>,
    Json(request): Json<CharterCreateRequest>,
) -> Answer<CharterGroup> {
    answer(within(REQUEST_TIMEOUT, node.backend.charter_create(request)).await)
}

pub(crate) async fn charter_join<B: Backend>(
    State(node): Node<B>,
    Json(request): Json<CharterJoinRequest>,
) -> Answer<CharterGroup> {
    answer(within(REQUEST_TIMEOUT, node.backend.charter_join(request)).await)
}

pub(crate) async fn charter_show<B: Backend>(
    State(node): Node<B>,
    Path(name): Path<String>,
) -> Answer<CharterGroup> {
    answer(within(REQUEST_TIMEOUT, node.backend.charter_show(name)).await)
}

pub(crate) async fn charter_leave<B: Backend>(
    State(node): Node<B>,
    Path(name): Path<String>,
) -> Answer<Done> {
    answer(within(REQUEST_TIMEOUT, node.backend.charter_leave(name)).await)
}

pub(crate) async fn charter_admit<B: Backend>(
    State(node): Node<B>,
    Path(name): Path<String>,
    Json(request): Json<AdmitRequest>,
) -> Answer<AdmissionView> {
    answer(within(REQUEST_TIMEOUT, node.backend.charter_admit(name, request)).await)
}

pub(crate) async fn charter_expel<B: Backend>(
    State(node): Node<B>,
    Path(name): Path<String>,
    Json(request): Json<ExpelRequest>,
) -> Answer<Done> {
    answer(within(REQUEST_TIMEOUT, node.backend.charter_expel(name, request)).await)
}

pub(crate) async fn resolve<B: Backend>(
    State(node): Node<B>,
    Json(request): Json<ResolveRequest>,
) -> Answer<ResolveResponse> {
    let limit = deadline(request.timeout_ms, None)?;
    answer(within(limit, node.backend.resolve(request)).await)
}

pub(crate) async fn handles<B: Backend>(State(node): Node<B>) -> Answer<HandlePins> {
    answer(within(REQUEST_TIMEOUT, node.backend.handles()).await)
}

pub(crate) async fn handle_resolve<B: Backend>(
    State(node): Node<B>,
    Json(request): Json<HandleRequest>,
) -> Answer<HandleMeaning> {
    answer(within(REQUEST_TIMEOUT, node.backend.handle_resolve(request)).await)
}

pub(crate) async fn handle_pin<B: Backend>(
    State(node): Node<B>,
    Json(request): Json<HandlePinRequest>,
) -> Answer<HandlePin> {
    answer(within(REQUEST_TIMEOUT, node.backend.handle_pin(request)).await)
}

pub(crate) async fn handle_unpin<B: Backend>(
    State(node): Node<B>,
    Json(request): Json<HandleRequest>,
) -> Answer<Done> {
    answer(within(REQUEST_TIMEOUT, node.backend.handle_unpin(request)).await)
}

pub(crate) async fn audit<B: Backend>(
    State(node): Node<B>,
    query: Result<Query<AuditRequest>, QueryRejection>,
) -> Answer<AuditPage> {
    let Query(request) = query.map_err(|error| {
        Failure(
            ErrorInfo::new(ErrorCode::BadRequest, error.body_text()).hint("give from and limit"),
        )
    })?;
    if let Some(limit) = request.limit {
        in_range("limit", u64::from(limit), 1, u64::from(MAX_AUDIT_ENTRIES))?;
    }
    answer(within(REQUEST_TIMEOUT, node.backend.audit(request)).await)
}

pub(crate) async fn audit_peers<B: Backend>(
    State(node): Node<B>,
    query: Result<Query<AuditPeersRequest>, QueryRejection>,
) -> Answer<AuditPeers> {
    let Query(request) = query.map_err(|error| {
        let error = ErrorInfo::new(ErrorCode::BadRequest, error.body_text());
        Failure(error.hint("give log, an AgentId, or nothing"))
    })?;
    answer(within(REQUEST_TIMEOUT, node.backend.audit_peers(request)).await)
}

pub(crate) async fn receipts<B: Backend>(
    State(node): Node<B>,
    Json(request): Json<ReceiptsRequest>,
) -> Answer<Receipts> {
    if let Some(limit) = request.limit {
        in_range("limit", u64::from(limit), 1, u64::from(MAX_RECEIPTS))?;
    }
    answer(within(REQUEST_TIMEOUT, node.backend.receipts(request)).await)
}

pub(crate) async fn receipt<B: Backend>(
    State(node): Node<B>,
    Path(id): Path<String>,
) -> Answer<KeptReceipt> {
    answer(within(REQUEST_TIMEOUT, node.backend.receipt(id)).await)
}

pub(crate) async fn results<B: Backend>(State(node): Node<B>) -> Answer<Results> {
    answer(within(REQUEST_TIMEOUT, node.backend.results()).await)
}

pub(crate) async fn retract<B: Backend>(
    State(node): Node<B>,
    Json(request): Json<RetractRequest>,
) -> Answer<Done> {
    answer(within(REQUEST_TIMEOUT, node.backend.retract(request)).await)
}

pub(crate) async fn reputation<B: Backend>(
    State(node): Node<B>,
    Json(request): Json<ReputationRequest>,
) -> Answer<ReputationView> {
    answer(within(REQUEST_TIMEOUT, node.backend.reputation(request)).await)
}

pub(crate) async fn audit_proof<B: Backend>(
    State(node): Node<B>,
    Path(index): Path<String>,
) -> Answer<AuditProof> {
    let index = index.parse().map_err(|_| {
        Failure(ErrorInfo::new(
            ErrorCode::BadRequest,
            format!("`{index}` is no position of an entry: give a number from 0 on"),
        ))
    })?;
    answer(within(REQUEST_TIMEOUT, node.backend.audit_proof(index)).await)
}

pub(crate) async fn audit_prune<B: Backend>(
    State(node): Node<B>,
    Json(request): Json<AuditPruneRequest>,
) -> Answer<Done> {
    answer(within(REQUEST_TIMEOUT, node.backend.audit_prune(request)).await)
}

pub(crate) async fn shutdown<B: Backend>(State(node): Node<B>) -> Answer<Done> {
    answer(within(REQUEST_TIMEOUT, node.backend.shutdown()).await)
}

pub(crate) async fn call<B: Backend>(
    State(node): Node<B>,
    headers: HeaderMap,
    Json(request): Json<CallRequest>,
) -> Result<Response, Failure> {
    let (ends_at, events) = begun(&*node.backend, request).await?;
    if wants_events(&headers) {
        let events = together(until(ends_at, events).fuse().boxed());
        let events = events.map(|event| Ok::<_, Infallible>(to_sse(&event)));
        return Ok(Sse::new(events)
            .keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
            .into_response());
    }
    let response = collect(until(ends_at, events)).await?;
    Ok(axum::Json(response).into_response())
}

/// Begins a call; until when its events may come.
pub(super) async fn begun<B: Backend>(
    backend: &B,
    request: CallRequest,
) -> Result<(tokio::time::Instant, CallEvents), ErrorInfo> {
    if let Some(attempts) = request.max_attempts {
        in_range("max_attempts", u64::from(attempts), 1, u64::from(MAX_ATTEMPTS))?;
    }
    let limit = deadline(request.timeout_ms, Some(DEFAULT_CALL_TIMEOUT_MS))?;
    let ends_at = tokio::time::Instant::now() + limit;
    Ok((ends_at, within(limit, backend.call(request)).await?))
}

/// Holds back that an attempt has begun until something comes of it, or a moment: most calls then need the reader's attention once.
fn together(events: BoxStream<'static, CallEvent>) -> impl Stream<Item = CallEvent> + Send {
    stream::unfold((events, None), |(mut events, held)| async move {
        if let Some(held) = held {
            return Some((held, (events, None)));
        }
        let first = events.next().await?;
        let begun =
            matches!(&first, CallEvent::Attempt(one) if one.outcome == AttemptOutcome::Started);
        let next =
            if begun { tokio::time::timeout(HELD_BACK, events.next()).await.ok() } else { None };
        Some((first, (events, next.flatten())))
    })
}

pub(crate) async fn policy<B: Backend>(State(node): Node<B>) -> Answer<PolicyStatus> {
    answer(within(REQUEST_TIMEOUT, node.backend.policy()).await)
}

pub(crate) async fn policy_reload<B: Backend>(State(node): Node<B>) -> Answer<PolicyStatus> {
    answer(within(REQUEST_TIMEOUT, node.backend.policy_reload()).await)
}

pub(crate) async fn policy_explain<B: Backend>(
    State(node): Node<B>,
    Json(request): Json<PolicyExplainRequest>,
) -> Answer<PolicyExplanation> {
    answer(within(REQUEST_TIMEOUT, node.backend.policy_explain(request)).await)
}

pub(crate) async fn grants<B: Backend>(State(node): Node<B>) -> Answer<Grants> {
    answer(within(REQUEST_TIMEOUT, node.backend.grants()).await)
}

pub(crate) async fn grant_create<B: Backend>(
    State(node): Node<B>,
    Json(request): Json<GrantRequest>,
) -> Answer<GrantView> {
    answer(within(REQUEST_TIMEOUT, node.backend.grant_create(request)).await)
}

pub(crate) async fn grant_delegate<B: Backend>(
    State(node): Node<B>,
    Json(request): Json<GrantRequest>,
) -> Answer<GrantView> {
    answer(within(REQUEST_TIMEOUT, node.backend.grant_delegate(request)).await)
}

pub(crate) async fn grant_keep<B: Backend>(
    State(node): Node<B>,
    Json(request): Json<GrantKeepRequest>,
) -> Answer<GrantView> {
    answer(within(REQUEST_TIMEOUT, node.backend.grant_keep(request)).await)
}

pub(crate) async fn grant_revoke<B: Backend>(
    State(node): Node<B>,
    Json(request): Json<GrantRevokeRequest>,
) -> Answer<Done> {
    answer(within(REQUEST_TIMEOUT, node.backend.grant_revoke(request)).await)
}

pub(crate) async fn trust<B: Backend>(State(node): Node<B>) -> Answer<TrustList> {
    answer(within(REQUEST_TIMEOUT, node.backend.trust()).await)
}

pub(crate) async fn trust_request<B: Backend>(
    State(node): Node<B>,
    Json(request): Json<TrustRequest>,
) -> Answer<TrustRequestView> {
    answer(within(REQUEST_TIMEOUT, node.backend.trust_request(request)).await)
}

pub(crate) async fn trust_approve<B: Backend>(
    State(node): Node<B>,
    Json(request): Json<TrustApproveRequest>,
) -> Answer<TrustApproval> {
    answer(within(REQUEST_TIMEOUT, node.backend.trust_approve(request)).await)
}

pub(crate) async fn trust_deny<B: Backend>(
    State(node): Node<B>,
    Json(request): Json<TrustAnswerRequest>,
) -> Answer<Done> {
    answer(within(REQUEST_TIMEOUT, node.backend.trust_deny(request)).await)
}

pub(crate) async fn trust_revoke<B: Backend>(
    State(node): Node<B>,
    Json(request): Json<TrustAnswerRequest>,
) -> Answer<Done> {
    answer(within(REQUEST_TIMEOUT, node.backend.trust_revoke(request)).await)
}

pub(crate) async fn endorsements<B: Backend>(State(node): Node<B>) -> Answer<Endorsements> {
    answer(within(REQUEST_TIMEOUT, node.backend.endorsements()).await)
}

pub(crate) async fn endorse<B: Backend>(
    State(node): Node<B>,
    Json(request): Json<EndorseRequest>,
) -> Answer<EndorsementView> {
    answer(within(REQUEST_TIMEOUT, node.backend.endorse(request)).await)
}

pub(crate) async fn endorse_revoke<B: Backend>(
    State(node): Node<B>,
    Json(request): Json<EndorseRevokeRequest>,
) -> Answer<Done> {
    answer(within(REQUEST_TIMEOUT, node.backend.endorse_revoke(request)).await)
}

pub(crate) async fn no_such_route(uri: Uri) -> Failure {
    Failure(
        ErrorInfo::new(ErrorCode::NoSuchRoute, format!("there is no {}", uri.path()))
            .hint("`comity openapi` prints all paths"),
    )
}

pub(crate) async fn no_such_method(method: Method, uri: Uri) -> Failure {
    Failure(
        ErrorInfo::new(ErrorCode::NoSuchRoute, format!("{} does not take {method}", uri.path()))
            .hint("`comity openapi` prints all paths and their methods"),
    )
}

/// Runs a backend's future against the server's own limit.
pub(super) async fn within<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, ErrorInfo>>,
) -> Result<T, ErrorInfo> {
    tokio::time::timeout(limit, work).await.unwrap_or_else(|_| Err(too_late()))
}

fn too_late() -> ErrorInfo {
    ErrorInfo::new(ErrorCode::Timeout, "the node did not answer in time")
        .hint("allow more time (`timeout_ms`), or look at the node's log")
}

/// The server's limit for a request: its own deadline, or a default, plus [`DEADLINE_GRACE`].
fn deadline(timeout_ms: Option<u64>, default_ms: Option<u64>) -> Result<Duration, ErrorInfo> {
    if let Some(timeout_ms) = timeout_ms {
        in_range("timeout_ms", timeout_ms, 1, MAX_CALL_TIMEOUT_MS)?;
    }
    Ok(timeout_ms
        .or(default_ms)
        .map_or(REQUEST_TIMEOUT, |ms| Duration::from_millis(ms) + DEADLINE_GRACE))
}

fn in_range(name: &str, value: u64, min: u64, max: u64) -> Result<(), ErrorInfo> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    Err(ErrorInfo::new(
        ErrorCode::BadRequest,
        format!("`{name}` is {value}; it must be {min} to {max}"),
    ))
}

fn wants_events(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.split(',').any(|one| one.trim().starts_with("text/event-stream")))
}

/// The events up to and including the last one; an `error` event when the time is up or the backend ends early.
pub(super) fn until(
    ends_at: tokio::time::Instant,
    events: CallEvents,
) -> impl Stream<Item = CallEvent> + Send {
    stream::unfold(Some(events), move |events| async move {
        let mut events = events?;
        let event = match tokio::time::timeout_at(ends_at, events.next()).await {
            Ok(Some(event)) => event,
            Ok(None) => CallEvent::Error(
                ErrorInfo::new(ErrorCode::Internal, "the call ended without an outcome")
                    .hint("look at the node's log"),
            ),
            Err(_) => CallEvent::Error(too_late()),
        };
        let rest = (!event.is_last()).then_some(events);
        Some((event, rest))
    })
}

fn to_sse(event: &CallEvent) -> Event {
    let (name, data) = match event.data() {
        Ok(data) if data.len() <= MAX_EVENT_BYTES => (event.name(), data),
        Ok(data) => {
            error_data(&format!("an item of {} bytes is too large for an event", data.len()))
        }
        Err(error) => error_data(&format!("an event cannot be written: {error}")),
    };
    Event::default().event(name).data(data)
}

fn error_data(message: &str) -> (&'static str, String) {
    ("error", serde_json::json!({"code": ErrorCode::TooLarge, "message": message}).to_string())
}

/// A whole answer from the events of a call, in bounded memory.
async fn collect(events: impl Stream<Item = CallEvent>) -> Result<CallResponse, ErrorInfo> {
    let mut events = std::pin::pin!(events);
    let (mut items, mut attempts, mut proof) =
        (Vec::new(), Vec::<comity_api::types::Attempt>::new(), None);
    let mut bytes = 0;
    while let Some(event) = events.next().await {
        match event {
            CallEvent::Attempt(attempt) => {
                // A later report about an attempt replaces the earlier one.
                attempts.retain(|known| known.number != attempt.number);
                attempts.push(attempt);
            }
            CallEvent::Chunk(chunk) => {
                bytes += json_len(&chunk.value);
                if bytes > MAX_COLLECTED_BYTES {
                    return Err(ErrorInfo::new(
                        ErrorCode::TooLarge,
                        "the answer is too large for one response",
                    )
                    .hint("ask with `Accept: text/event-stream`, or for less"));
                }
                items.push(chunk.value);
            }
            CallEvent::Receipt(receipt) => proof = Some(receipt),
            CallEvent::Done(summary) => {
                let proof = proof.ok_or_else(|| {
                    ErrorInfo::new(ErrorCode::NotVerified, "the answer came without a receipt")
                })?;
                let output = match (summary.streamed, items.len()) {
                    (false, 1) => Output::Value(items.swap_remove(0)),
                    _ => Output::Items(items),
                };
                return Ok(CallResponse { output, proof, attempts, summary });
            }
            CallEvent::Error(error) => return Err(error),
        }
    }
    Err(ErrorInfo::new(ErrorCode::Internal, "the call ended without an outcome"))
}

/// Length of a value as JSON without writing it anywhere.
fn json_len(value: &serde_json::Value) -> usize {
    struct Count(usize);
    impl io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    match serde_json::to_writer(&mut count, value) {
        Ok(()) => count.0,
        Err(_) => usize::MAX / 4,
    }
}
