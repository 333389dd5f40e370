//! The HTTP shape of the API over a real socket, with a backend that answers from a script.
//!
//! What the operations do is tested with real nodes elsewhere; here it is who may ask, what malformed requests get,
//! that limits hold, and that a client that goes away stops its work.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use comity_api::types::{
    Attempt, AttemptOutcome, AuditPage, AuditPeers, AuditPeersRequest, AuditProof,
    AuditPruneRequest, AuditRequest, CallEvent, CallRequest, CallSummary, Capabilities, Chunk,
    Done, ErrorBody, ErrorCode, ErrorInfo, FindRequest, FindResponse, GroupCreateRequest,
    GroupInvitation, GroupJoinRequest, Groups, HandleMeaning, HandlePin, HandlePinRequest,
    HandlePins, HandleRequest, Output, Peers, PingRequest, PingResponse, PrivateGroup,
    PrivateGroups, Proof, ReceiptView, ResolveRequest, ResolveResponse, SearchSummary,
    ServeRequest, ServeResponse, ShowResponse, Source, Status,
};
use comity_api::types::{EndpointKind, EndpointRequest};
use comity_api::{Client, ClientError, Endpoints, OpenEndpoint};
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Api, ApiSocket, ApiSocketError, Backend, CallEvents, listener, router_with_limit};

/// Answers from a script; reports when work that never ends begins and when it is dropped.
struct Fake {
    reports: mpsc::Sender<Report>,
}

#[derive(Debug, PartialEq, Eq)]
enum Report {
    Begun,
    Dropped,
}

/// Reports its beginning and its end.
struct Guard(mpsc::Sender<Report>);

impl Guard {
    fn new(reports: &mpsc::Sender<Report>) -> Self {
        let _ = reports.try_send(Report::Begun);
        Self(reports.clone())
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.try_send(Report::Dropped);
    }
}

fn nothing() -> ErrorInfo {
    ErrorInfo::new(ErrorCode::NotFound, "nothing of that name").hint("look at `comity find`")
}

fn agent() -> comity_api::types::AgentName {
    comity_api::types::AgentName {
        agent: comity_core::Identity::from_secret_bytes(&[1; 32]).id(),
        address: "fd00::1".into(),
        handle: "1:0001.0002.0003#abcdefgh".into(),
    }
}

fn proof() -> Proof {
    let text = || "b3:00".to_owned();
    Proof {
        receipt_cbor: "a0".into(),
        receipt: ReceiptView {
            caller: "a".into(),
            callee: "b".into(),
            capability: "rates".into(),
            descriptor: text(),
            interface: text(),
            request: text(),
            response: text(),
            status: 0,
            received_at_ms: 1,
            answered_at_ms: 2,
            valid_until_ms: 3,
            data_version: None,
        },
    }
}

fn attempt(outcome: AttemptOutcome) -> CallEvent {
    CallEvent::Attempt(Attempt {
        number: 1,
        target: "fd00::1/rates".into(),
        agent: agent(),
        outcome,
    })
}

fn whole_call(streamed: bool, items: u64) -> Vec<CallEvent> {
    let mut events = vec![attempt(AttemptOutcome::Started)];
    events.extend(
        (0..items).map(|index| CallEvent::Chunk(Chunk { index, value: json!({"row": index}) })),
    );
    events.push(CallEvent::Receipt(proof()));
    events.push(attempt(AttemptOutcome::Answered { elapsed_us: 5 }));
    let target = "fd00::1/rates".to_owned();
    events.push(CallEvent::Done(CallSummary {
        target,
        streamed,
        items,
        bytes: 9,
        elapsed_us: 7,
        attempt_us: 5,
        origin: comity_api::types::Origin::Producer,
        voices: Vec::new(),
    }));
    events
}

impl Backend for Fake {
    async fn status(&self) -> Result<Status, ErrorInfo> {
        let _guard = Guard::new(&self.reports);
        std::future::pending().await
    }

    async fn serve(&self, request: ServeRequest) -> Result<ServeResponse, ErrorInfo> {
        Ok(ServeResponse {
            mode: request.mode,
            findings: vec![],
            declaration: None,
            table: None,
            published: None,
        })
    }

    async fn capabilities(&self) -> Result<Capabilities, ErrorInfo> {
        Ok(Capabilities { capabilities: vec![] })
    }

    async fn unserve(&self, name: String) -> Result<Done, ErrorInfo> {
        Ok(Done { message: format!("withdrawn: {name}") })
    }

    async fn find(&self, request: FindRequest) -> Result<FindResponse, ErrorInfo> {
        let search = SearchSummary {
            custodians_asked: 0,
            custodians_answered: 0,
            candidates: 0,
            rejected: 0,
            truncated: false,
            elapsed_ms: 0,
        };
        let query = format!("{:?}", request.query);
        Ok(FindResponse { query, matches: vec![], near_misses: vec![], search, explain: None })
    }

    async fn show(&self, target: String) -> Result<ShowResponse, ErrorInfo> {
        Err(ErrorInfo::new(ErrorCode::NotFound, target))
    }

    async fn call(&self, request: CallRequest) -> Result<CallEvents, ErrorInfo> {
        let events = match request.input["do"].as_str() {
            Some("answer") => whole_call(false, 1),
            Some("stream") => whole_call(true, 3),
            Some("fail") => vec![CallEvent::Error(nothing())],
            Some("stop short") => vec![attempt(AttemptOutcome::Started)],
            Some("hang") => {
                let guard = Guard::new(&self.reports);
                let first = futures_util::stream::iter([attempt(AttemptOutcome::Started)]);
                let never = futures_util::stream::pending().map(move |event: CallEvent| {
                    let _held = &guard;
                    event
                });
                return Ok(first.chain(never).boxed());
            }
            _ => return Err(nothing()),
        };
        Ok(futures_util::stream::iter(events).boxed())
    }

    async fn ping(&self, _: PingRequest) -> Result<PingResponse, ErrorInfo> {
        Err(nothing())
    }

    async fn peers(&self) -> Result<Peers, ErrorInfo> {
        Ok(Peers { peers: vec![] })
    }

    async fn groups(&self) -> Result<Groups, ErrorInfo> {
        Ok(Groups { groups: vec![] })
    }

    async fn private_groups(&self) -> Result<PrivateGroups, ErrorInfo> {
        Ok(PrivateGroups { private_groups: vec![group("team")] })
    }

    async fn group_create(
        &self,
        request: GroupCreateRequest,
    ) -> Result<GroupInvitation, ErrorInfo> {
        Ok(GroupInvitation { group: group(&request.name), invitation: "comity-group:x".into() })
    }

    async fn group_join(&self, request: GroupJoinRequest) -> Result<PrivateGroup, ErrorInfo> {
        Ok(group(request.name.as_deref().unwrap_or("invited")))
    }

    async fn group_show(&self, name: String) -> Result<PrivateGroup, ErrorInfo> {
        Ok(group(&name))
    }

    async fn group_invitation(&self, name: String) -> Result<GroupInvitation, ErrorInfo> {
        Ok(GroupInvitation { group: group(&name), invitation: "comity-group:x".into() })
    }

    async fn group_leave(&self, name: String) -> Result<Done, ErrorInfo> {
        Ok(Done { message: format!("left {name}") })
    }

    async fn resolve(&self, _: ResolveRequest) -> Result<ResolveResponse, ErrorInfo> {
        Err(nothing())
    }

    async fn audit(&self, request: AuditRequest) -> Result<AuditPage, ErrorInfo> {
        let size = request.from.unwrap_or(0) + u64::from(request.limit.unwrap_or(0));
        Ok(AuditPage { log: agent().agent, size, checkpoint: None, entries: Vec::new() })
    }

    async fn handles(&self) -> Result<HandlePins, ErrorInfo> {
        Ok(HandlePins { pins: Vec::new() })
    }

    async fn handle_resolve(&self, _: HandleRequest) -> Result<HandleMeaning, ErrorInfo> {
        Err(nothing())
    }

    async fn handle_pin(&self, _: HandlePinRequest) -> Result<HandlePin, ErrorInfo> {
        Err(nothing())
    }

    async fn handle_unpin(&self, request: HandleRequest) -> Result<Done, ErrorInfo> {
        Ok(Done { message: request.handle })
    }

    async fn audit_peers(&self, _: AuditPeersRequest) -> Result<AuditPeers, ErrorInfo> {
        Ok(AuditPeers { known: 0, peers: Vec::new() })
    }

    async fn audit_proof(&self, _index: u64) -> Result<AuditProof, ErrorInfo> {
        Err(nothing())
    }

    async fn audit_prune(&self, request: AuditPruneRequest) -> Result<Done, ErrorInfo> {
        Ok(Done { message: request.before.to_string() })
    }

    async fn shutdown(&self) -> Result<Done, ErrorInfo> {
        Ok(Done { message: "stopping".into() })
    }
}

/// A served API in a directory of its own.
struct Served {
    home: tempfile::TempDir,
    stop: CancellationToken,
    reports: mpsc::Receiver<Report>,
    task: tokio::task::JoinHandle<()>,
}

impl Served {
    fn new() -> Self {
        Self::with_limit(super::MAX_REQUESTS)
    }

    fn with_limit(max_requests: usize) -> Self {
        let home = tempfile::tempdir().unwrap();
        let socket = ApiSocket::bind(&home.path().join("api.sock")).unwrap();
        let (sender, reports) = mpsc::channel(8);
        let stop = CancellationToken::new();
        let router = router_with_limit(Arc::new(Fake { reports: sender }), max_requests);
        let task = tokio::spawn(listener::run(socket, router, stop.clone()));
        Self { home, stop, reports, task }
    }

    fn path(&self) -> PathBuf {
        self.home.path().join("api.sock")
    }

    async fn client(&self) -> Client {
        Client::connect(self.path()).await.unwrap()
    }

    /// Status and body of a raw request.
    async fn raw(&self, request: &str) -> (u16, String) {
        let mut stream = UnixStream::connect(self.path()).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    async fn post(&self, path: &str, body: &str) -> (u16, ErrorBody) {
        let length = body.len();
        let (status, body) = self
            .raw(&format!("POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"))
            .await;
        (status, serde_json::from_str(&body).unwrap_or_else(|_| panic!("no error body: {body}")))
    }
}

fn call(what: &str) -> CallRequest {
    CallRequest::new("rates", json!({"do": what}))
}

#[tokio::test]
async fn the_socket_is_private_and_goes_with_the_server() {
    let served = Served::new();
    let mode = std::fs::metadata(served.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    served.stop.cancel();
    served.task.await.unwrap();
    assert!(!served.home.path().join("api.sock").exists());
    let error = Client::connect(served.home.path().join("api.sock")).await.unwrap_err();
    assert!(matches!(error, ClientError::NotRunning { .. }));
}

#[tokio::test]
async fn a_socket_left_behind_is_taken_over_and_a_live_one_is_not() {
    let served = Served::new();
    assert!(matches!(ApiSocket::bind(&served.path()), Err(ApiSocketError::InUse(_))));
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("api.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    ApiSocket::bind(&path).unwrap();
    std::fs::write(&path, "a file").unwrap();
    assert!(matches!(ApiSocket::bind(&path), Err(ApiSocketError::NotASocket(_))));
    let long = home.path().join("x".repeat(120));
    assert!(matches!(ApiSocket::bind(&long), Err(ApiSocketError::TooLong(_))));
}

#[tokio::test]
async fn a_stranger_is_refused() {
    let app = router_with_limit(Arc::new(Fake { reports: mpsc::channel(1).0 }), 1);
    let app =
        app.layer(axum::Extension(axum::extract::ConnectInfo(listener::Caller { allowed: false })));
    let (near, far) = UnixStream::pair().unwrap();
    let service = hyper_util::service::TowerToHyperService::new(app);
    let server = tokio::spawn(
        hyper::server::conn::http1::Builder::new()
            .serve_connection(hyper_util::rt::TokioIo::new(far), service),
    );
    let mut near = near;
    near.write_all(b"GET /v1/peers HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    near.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 403") && answer.contains("\"not_permitted\""), "{answer}");
    server.await.unwrap().unwrap();
}

#[tokio::test]
async fn operations_reach_the_backend() {
    let served = Served::new();
    let client = served.client().await;
    assert!(client.peers().await.unwrap().peers.is_empty());
    assert_eq!(client.unserve("a b/c").await.unwrap().message, "withdrawn: a b/c");
    let shown = client.show("fd00::1#x/rates").await.unwrap_err().info();
    assert_eq!((shown.code, shown.message.as_str()), (ErrorCode::NotFound, "fd00::1#x/rates"));
    let found = client.find(&FindRequest::new("fx")).await.unwrap();
    assert_eq!(found.query, "Text(\"fx\")");
    let request = ServeRequest {
        source: Some(Source::Table { path: "/t.csv".into() }),
        ..ServeRequest::default()
    };
    client.serve(&request).await.unwrap();
    assert_eq!(client.shutdown().await.unwrap().message, "stopping");
}

#[tokio::test]
async fn every_documented_operation_is_served() {
    let served = Served::new();
    let document = serde_json::to_value(comity_api::openapi()).unwrap();
    for (path, operations) in document["paths"].as_object().unwrap() {
        let path = path.replace("{name}", "n").replace("{target}", "a/b");
        if path == "/v1/status" {
            continue; // this backend never answers it
        }
        for method in operations.as_object().unwrap().keys() {
            let method = method.to_uppercase();
            let (status, body) = served
                .raw(&format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"))
                .await;
            assert!(!body.contains("no_such_route"), "{method} {path}: {status} {body}");
        }
    }
}

#[tokio::test]
async fn malformed_requests_have_an_error_body() {
    let served = Served::new();
    for (path, body, status, code, says) in [
        ("/v1/find", "{", 400, ErrorCode::BadRequest, "is not JSON"),
        ("/v1/find", "{\"query\": 5}", 400, ErrorCode::BadRequest, "does not fit"),
        ("/v1/find", "{\"query\":\"a\",\"limits\":1}", 400, ErrorCode::BadRequest, "limits"),
        ("/v1/find", "{\"query\":\"a\",\"limit\":0}", 400, ErrorCode::BadRequest, "`limit` is 0"),
        (
            "/v1/find",
            "{\"query\":\"a\",\"timeout_ms\":0}",
            400,
            ErrorCode::BadRequest,
            "`timeout_ms` is 0",
        ),
        (
            "/v1/ping",
            "{\"target\":\"a\",\"count\":101}",
            400,
            ErrorCode::BadRequest,
            "`count` is 101",
        ),
        (
            "/v1/call",
            "{\"target\":\"a\",\"input\":1,\"max_attempts\":99}",
            400,
            ErrorCode::BadRequest,
            "1 to 20",
        ),
        ("/v1/serve", "{}", 400, ErrorCode::BadRequest, "nothing to serve"),
        (
            "/v1/serve",
            "{\"manifest\":{},\"manifest_path\":\"/m\"}",
            400,
            ErrorCode::BadRequest,
            "both",
        ),
        ("/v2/find", "{}", 404, ErrorCode::NoSuchRoute, "/v2/find"),
        ("/v1/peers", "{}", 404, ErrorCode::NoSuchRoute, "does not take POST"),
    ] {
        let (got, error) = served.post(path, body).await;
        assert_eq!((got, error.error.code), (status, code), "{path} {body}: {error:?}");
        assert!(error.error.message.contains(says), "{path} {body}: {error:?}");
    }
}

#[tokio::test]
async fn an_oversized_body_is_refused() {
    let served = Served::new();
    let body = format!("{{\"query\":\"{}\"}}", "x".repeat(comity_api::MAX_REQUEST_BYTES));
    let request: FindRequest = serde_json::from_str(&body).unwrap();
    let error = served.client().await.find(&request).await.unwrap_err();
    assert_eq!(error.info().code, ErrorCode::TooLarge, "{error:?}");
}

#[tokio::test]
async fn a_call_answers_in_one_piece_or_in_events() {
    let served = Served::new();
    let client = served.client().await;
    let one = client.call(&call("answer")).await.unwrap();
    assert_eq!(one.output, Output::Value(json!({"row": 0})));
    assert_eq!(one.attempts.len(), 1, "the outcome of an attempt replaces its start");
    assert!(matches!(one.attempts[0].outcome, AttemptOutcome::Answered { elapsed_us: 5 }));
    let many = client.call(&call("stream")).await.unwrap();
    assert_eq!(many.output.items().len(), 3);
    let mut stream = client.call_stream(&call("stream")).await.unwrap();
    let mut events = Vec::new();
    while let Some(event) = stream.next().await.unwrap() {
        events.push(event);
    }
    assert_eq!(events, whole_call(true, 3));
}

#[tokio::test]
async fn a_failing_call_says_so_in_both_forms() {
    let served = Served::new();
    let client = served.client().await;
    for what in ["fail", "refused at once"] {
        assert_eq!(client.call(&call(what)).await.unwrap_err().info(), nothing(), "{what}");
    }
    assert_eq!(client.call_stream(&call("refused at once")).await.unwrap_err().info(), nothing());
    let mut stream = client.call_stream(&call("fail")).await.unwrap();
    assert_eq!(stream.next().await.unwrap(), Some(CallEvent::Error(nothing())));
    assert_eq!(
        client.call(&call("stop short")).await.unwrap_err().info().code,
        ErrorCode::Internal
    );
}

#[tokio::test]
async fn going_away_stops_the_work() {
    let mut served = Served::new();
    let client = served.client().await;
    let mut stream = client.call_stream(&call("hang")).await.unwrap();
    assert_eq!(stream.next().await.unwrap().unwrap().name(), "attempt");
    assert_eq!(served.reports.recv().await, Some(Report::Begun));
    assert!(served.reports.try_recv().is_err(), "a call runs as long as somebody listens");
    drop(stream);
    assert_eq!(served.reports.recv().await, Some(Report::Dropped));

    for request in ["POST /v1/call", "GET /v1/status"] {
        let body = if request.starts_with("POST") {
            r#"{"target":"rates","input":{"do":"hang"}}"#
        } else {
            ""
        };
        let mut raw = UnixStream::connect(served.path()).await.unwrap();
        let length = body.len();
        let request =
            format!("{request} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n{body}");
        raw.write_all(request.as_bytes()).await.unwrap();
        assert_eq!(served.reports.recv().await, Some(Report::Begun));
        drop(raw);
        assert_eq!(served.reports.recv().await, Some(Report::Dropped));
    }
}

#[tokio::test]
async fn places_are_limited_and_given_back() {
    let mut served = Served::with_limit(1);
    let client = served.client().await;
    let mut stream = client.call_stream(&call("hang")).await.unwrap();
    stream.next().await.unwrap();
    assert_eq!(client.peers().await.unwrap_err().info().code, ErrorCode::Busy);
    drop(stream);
    assert_eq!(served.reports.recv().await, Some(Report::Begun));
    assert_eq!(served.reports.recv().await, Some(Report::Dropped));
    // The place is given back with the body, at most some turns of the server's tasks after the call was dropped.
    for _ in 0..1000 {
        match client.peers().await {
            Err(error) if error.info().code == ErrorCode::Busy => tokio::task::yield_now().await,
            other => return assert!(other.is_ok()),
        }
    }
    panic!("the place was not given back");
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_never_answers_is_given_up() {
    let served = Served::new();
    let error = served.client().await.status().await.unwrap_err();
    assert_eq!(error.info().code, ErrorCode::Timeout);
    let hanging = CallRequest { timeout_ms: Some(1000), ..call("hang") };
    assert_eq!(
        served.client().await.call(&hanging).await.unwrap_err().info().code,
        ErrorCode::Timeout
    );
}

#[tokio::test(start_paused = true)]
async fn stopping_does_not_wait_for_a_call_without_end() {
    let served = Served::new();
    let mut stream = served.client().await.call_stream(&call("hang")).await.unwrap();
    stream.next().await.unwrap();
    served.stop.cancel();
    served.task.await.unwrap();
    assert!(matches!(stream.next().await, Err(ClientError::Closed(_))));
}

fn group(name: &str) -> PrivateGroup {
    PrivateGroup {
        name: name.to_owned(),
        fingerprint: "0011223344556677".to_owned(),
        serves: Vec::new(),
        entries: 0,
    }
}

#[tokio::test]
async fn private_groups_are_made_joined_shown_and_left() {
    let node = Served::new();
    let client = node.client().await;
    assert_eq!(client.private_groups().await.unwrap().private_groups, [group("team")]);
    let made = client.group_create(&GroupCreateRequest { name: "a.b-c".into() }).await.unwrap();
    assert_eq!((made.group.name.as_str(), made.invitation.as_str()), ("a.b-c", "comity-group:x"));
    assert!(!format!("{made:?}").contains("comity-group"), "an invitation is not printed unawares");
    let join = GroupJoinRequest { invitation: "comity-group:x".into(), name: None };
    assert!(!format!("{join:?}").contains("comity-group"));
    assert_eq!(client.group_join(&join).await.unwrap().name, "invited");
    assert_eq!(client.group_show("join").await.unwrap().name, "join");
    assert_eq!(client.group_invitation("team").await.unwrap().group, group("team"));
    assert_eq!(client.group_leave("team").await.unwrap().message, "left team");
}

/// Opens endpoints that do nothing but tell of their beginning and their end, once the node they are in front of has answered.
#[derive(Debug)]
struct Opener(mpsc::Sender<Report>);

impl Endpoints for Opener {
    fn open(
        &self,
        node: Client,
        request: EndpointRequest,
    ) -> BoxFuture<'static, Result<OpenEndpoint, ErrorInfo>> {
        let reports = self.0.clone();
        async move {
            if request.listen.port() == 1 {
                return Err(ErrorInfo::new(ErrorCode::AddressInUse, "taken"));
            }
            assert_eq!(node.unserve("a b/c").await.unwrap().message, "withdrawn: a b/c");
            assert_eq!(node.call(&call("refused at once")).await.unwrap_err().info(), nothing());
            let mut stream = node.call_stream(&call("stream")).await.unwrap();
            let mut names = Vec::new();
            while let Some(event) = stream.next().await.unwrap() {
                names.push(event.name());
            }
            assert_eq!(names.join(" "), "attempt chunk chunk chunk receipt attempt done");
            let mut short = node.call_stream(&call("stop short")).await.unwrap();
            short.next().await.unwrap();
            let last = short.next().await.unwrap().unwrap();
            assert!(matches!(last, CallEvent::Error(_)), "{last:?}");
            let long = CallRequest { timeout_ms: Some(u64::MAX), ..call("answer") };
            let refused = node.call_stream(&long).await.unwrap_err().info();
            assert_eq!(refused.code, ErrorCode::BadRequest);
            let work = async move {
                let _guard = Guard::new(&reports);
                std::future::pending().await
            };
            Ok(OpenEndpoint { listen: request.listen, work: work.boxed() })
        }
        .boxed()
    }
}

fn endpoint(port: u16) -> EndpointRequest {
    EndpointRequest {
        listen: ([127, 0, 0, 1], port).into(),
        serves: EndpointKind::All {},
        origins: Vec::new(),
        unauthenticated: false,
    }
}

#[tokio::test]
async fn an_endpoint_ends_with_its_reader_and_with_the_server() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("api.sock");
    let socket = ApiSocket::bind(&path).unwrap();
    let (sender, mut reports) = mpsc::channel(8);
    let stop = CancellationToken::new();
    let backend = Arc::new(Fake { reports: mpsc::channel(8).0 });
    let api = Api::new(backend, stop.clone()).endpoints(Some(Arc::new(Opener(sender))));
    let task = tokio::spawn(api.serve(socket));
    let client = Client::connect(&path).await.unwrap();
    let refused = client.endpoint(&endpoint(1)).await.unwrap_err().info();
    assert_eq!(refused.code, ErrorCode::AddressInUse);

    let open = client.endpoint(&endpoint(8)).await.unwrap();
    assert_eq!(open.opened().listen, endpoint(8).listen);
    assert_eq!(reports.recv().await, Some(Report::Begun));
    drop(open);
    assert_eq!(reports.recv().await, Some(Report::Dropped));

    let mut open = client.endpoint(&endpoint(8)).await.unwrap();
    assert_eq!(reports.recv().await, Some(Report::Begun));
    stop.cancel();
    open.ended().await;
    assert_eq!(reports.recv().await, Some(Report::Dropped));
    drop(open);
    task.await.unwrap();
}

#[tokio::test]
async fn a_node_without_an_opener_says_so() {
    let served = Served::new();
    let refused = served.client().await.endpoint(&endpoint(8)).await.unwrap_err().info();
    assert_eq!(refused.code, ErrorCode::NotPermitted);
}
