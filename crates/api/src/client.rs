//! The typed client over the node's Unix socket, or inside the node's own process.
//!
//! A request has a connection to itself while it runs, which makes the simplest possible rule for cancellation: dropping a
//! future or a [`CallStream`] closes its connection, and the node stops that work and no other. Connections whose answers were
//! read to the end are used again.

mod charters;
mod pool;
mod stream;
mod trust;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST};
use hyper::{Method, Request, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use self::pool::{Link, Pool, Sent};
pub use self::stream::{CallStream, EndpointStream};
use crate::Inside;
use crate::MAX_RESPONSE_BYTES;
use crate::types::{
    AuditPage, AuditPeers, AuditPeersRequest, AuditProof, AuditPruneRequest, AuditRequest,
    CallRequest, CallResponse, Capabilities, Done, ErrorBody, ErrorCode, ErrorInfo, Exit,
    FindRequest, FindResponse, GroupCreateRequest, GroupInvitation, GroupJoinRequest, Groups,
    HandleMeaning, HandlePin, HandlePinRequest, HandlePins, HandleRequest, KeptReceipt, Peers,
    PingRequest, PingResponse, PrivateGroup, PrivateGroups, Receipts, ReceiptsRequest,
    ReputationRequest, ReputationView, ResolveRequest, ResolveResponse, Results, RetractRequest,
    ServeRequest, ServeResponse, ShowResponse, Status,
};

/// Why a request to the node failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// Nothing listens on the socket.
    #[error("no node is running in {}: start one with `comity up`", home.display())]
    NotRunning {
        /// The home directory the socket belongs to.
        home: PathBuf,
    },
    /// The socket exists but cannot be used.
    #[error("cannot talk to the node at {}: {source}", socket.display())]
    Connect {
        /// The socket.
        socket: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The node closed the connection before the answer was complete.
    #[error("the node closed the connection before it had answered; its log says why")]
    Closed(#[source] Option<hyper::Error>),
    /// The answer exceeds [`MAX_RESPONSE_BYTES`] (or an event [`MAX_EVENT_BYTES`](crate::MAX_EVENT_BYTES)).
    #[error("the answer is larger than {limit} bytes; ask for a stream or for less")]
    TooLarge {
        /// The limit it exceeds.
        limit: usize,
    },
    /// The answer is not what this version of the API promises.
    #[error(
        "the node's answer to {route} is not understood ({reason}); are node and client of the same version?"
    )]
    NotUnderstood {
        /// Method and path.
        route: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The request cannot be written as JSON.
    #[error("the request cannot be written as JSON: {0}")]
    Request(serde_json::Error),
    /// The node answered with an error.
    #[error("{0}")]
    Api(ErrorInfo),
}

impl ClientError {
    /// The error as the API would state it, with code and hint, for output.
    #[must_use]
    pub fn info(&self) -> ErrorInfo {
        let code = match self {
            Self::Api(info) => return info.clone(),
            Self::NotRunning { .. } => ErrorCode::NotRunning,
            Self::Connect { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                ErrorCode::NotPermitted
            }
            Self::Connect { .. } => ErrorCode::NotRunning,
            Self::TooLarge { .. } => ErrorCode::TooLarge,
            Self::Request(_) => ErrorCode::BadRequest,
            Self::Closed(_) | Self::NotUnderstood { .. } => ErrorCode::Internal,
        };
        ErrorInfo::new(code, self.to_string())
    }

    /// Exit code of a command that ends with this error.
    #[must_use]
    pub fn exit(&self) -> Exit {
        self.info().code.exit()
    }
}

/// A client of one node. Cheap to clone; clones share the idle connections.
#[derive(Debug, Clone)]
pub struct Client(Way);

/// How the node is reached.
#[derive(Debug, Clone)]
enum Way {
    Socket(Socket),
    /// It is in this process.
    Inside(Arc<dyn Inside>),
}

/// A socket and its idle connections.
#[derive(Debug, Clone)]
struct Socket {
    path: PathBuf,
    pool: Pool,
}

impl Client {
    /// A client of the node that listens on `socket`, which is tried once.
    ///
    /// # Errors
    /// [`ClientError::NotRunning`] when nobody listens there, [`ClientError::Connect`] when the socket cannot be used.
    pub async fn connect(socket: impl Into<PathBuf>) -> Result<Self, ClientError> {
        let socket = Socket { path: socket.into(), pool: Pool::default() };
        socket.dial().await?;
        Ok(Self(Way::Socket(socket)))
    }

    /// A client of the node that listens on `socket`, now or later: requests dial by themselves, so a request fails
    /// with [`ClientError::NotRunning`] while nobody listens.
    #[must_use]
    pub fn at(socket: impl Into<PathBuf>) -> Self {
        Self(Way::Socket(Socket { path: socket.into(), pool: Pool::default() }))
    }

    /// A client of the node that this process is.
    #[must_use]
    pub fn inside(node: Arc<dyn Inside>) -> Self {
        Self(Way::Inside(node))
    }

    /// `GET /v1/status`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn status(&self) -> Result<Status, ClientError> {
        self.get("/v1/status").await
    }

    /// `POST /v1/serve`: checks, tries out or publishes a capability.
    ///
    /// # Errors
    /// [`ClientError`]; code `bad_manifest` carries the findings.
    pub async fn serve(&self, request: &ServeRequest) -> Result<ServeResponse, ClientError> {
        self.post("/v1/serve", request).await
    }

    /// `GET /v1/capabilities`: what the node serves.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn capabilities(&self) -> Result<Capabilities, ClientError> {
        self.get("/v1/capabilities").await
    }

    /// `DELETE /v1/capabilities/{name}`: stops serving and withdraws the declaration.
    ///
    /// # Errors
    /// [`ClientError`]; code `not_found` when nothing of that name is served.
    pub async fn unserve(&self, name: &str) -> Result<Done, ClientError> {
        self.json(Method::DELETE, &format!("/v1/capabilities/{}", path_segment(name)), None).await
    }

    /// `GET /v1/handles`: the pinned handles.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn handles(&self) -> Result<HandlePins, ClientError> {
        self.get("/v1/handles").await
    }

    /// `POST /v1/handles/resolve`: whom a handle means.
    ///
    /// # Errors
    /// [`ClientError`]; code `ambiguous` when that cannot be said, `not_verified` when a succession does not hold.
    pub async fn handle_resolve(
        &self,
        request: &HandleRequest,
    ) -> Result<HandleMeaning, ClientError> {
        self.post("/v1/handles/resolve", request).await
    }

    /// `POST /v1/handles/pin`: has a handle mean this agent from now on.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn handle_pin(&self, request: &HandlePinRequest) -> Result<HandlePin, ClientError> {
        self.post("/v1/handles/pin", request).await
    }

    /// `POST /v1/handles/unpin`: forgets whom a handle means.
    ///
    /// # Errors
    /// [`ClientError`]; code `not_found` when it is not pinned.
    pub async fn handle_unpin(&self, request: &HandleRequest) -> Result<Done, ClientError> {
        self.post("/v1/handles/unpin", request).await
    }

    /// `GET /v1/audit`: entries of the audit log.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn audit(&self, request: &AuditRequest) -> Result<AuditPage, ClientError> {
        let from = request.from.map(|from| format!("from={from}"));
        let limit = request.limit.map(|limit| format!("limit={limit}"));
        let query: Vec<String> = [from, limit].into_iter().flatten().collect();
        self.get(&format!("/v1/audit?{}", query.join("&"))).await
    }

    /// `GET /v1/audit/{index}/proof`: an entry with everything that shows it is in the log.
    ///
    /// # Errors
    /// [`ClientError`]; code `not_found` when there is no such entry or it was pruned.
    pub async fn audit_proof(&self, index: u64) -> Result<AuditProof, ClientError> {
        self.get(&format!("/v1/audit/{index}/proof")).await
    }

    /// `GET /v1/audit/peers`: the logs of peers as the node saw them.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn audit_peers(
        &self,
        request: &AuditPeersRequest,
    ) -> Result<AuditPeers, ClientError> {
        match request.log {
            Some(log) => self.get(&format!("/v1/audit/peers?log={log}")).await,
            None => self.get("/v1/audit/peers").await,
        }
    }

    /// `POST /v1/receipts`: receipts of calls that the agent made and served.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn receipts(&self, request: &ReceiptsRequest) -> Result<Receipts, ClientError> {
        self.post("/v1/receipts", request).await
    }

    /// `GET /v1/receipts/{id}`: one receipt, by its hash or the beginning of it, in hex.
    ///
    /// # Errors
    /// [`ClientError`]; code `not_found` when there is none, `bad_request` when several begin like this.
    pub async fn receipt(&self, id: &str) -> Result<KeptReceipt, ClientError> {
        self.get(&format!("/v1/receipts/{id}")).await
    }

    /// `GET /v1/results`: answers kept for reuse.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn results(&self) -> Result<Results, ClientError> {
        self.get("/v1/results").await
    }

    /// `POST /v1/results/retract`: takes back answers given so far.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn retract(&self, request: &RetractRequest) -> Result<Done, ClientError> {
        self.post("/v1/results/retract", request).await
    }

    /// `POST /v1/reputation`: what the node thinks of a peer, and why.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn reputation(
        &self,
        request: &ReputationRequest,
    ) -> Result<ReputationView, ClientError> {
        self.post("/v1/reputation", request).await
    }

    /// `POST /v1/audit/prune`: deletes the contents of old entries.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn audit_prune(&self, request: &AuditPruneRequest) -> Result<Done, ClientError> {
        self.post("/v1/audit/prune", request).await
    }

    /// `POST /v1/find`.
    ///
    /// # Errors
    /// [`ClientError`]; code `bad_query` when the query does not parse.
    pub async fn find(&self, request: &FindRequest) -> Result<FindResponse, ClientError> {
        self.post("/v1/find", request).await
    }

    /// `GET /v1/show/{target}`; `target` is an agent in any text form or `AGENT/CAPABILITY`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn show(&self, target: &str) -> Result<ShowResponse, ClientError> {
        let path = target.split('/').map(path_segment).collect::<Vec<_>>().join("/");
        self.get(&format!("/v1/show/{path}")).await
    }

    /// `POST /v1/call`, the answer in one piece.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn call(&self, request: &CallRequest) -> Result<CallResponse, ClientError> {
        self.post("/v1/call", request).await
    }

    /// `POST /v1/ping`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn ping(&self, request: &PingRequest) -> Result<PingResponse, ClientError> {
        self.post("/v1/ping", request).await
    }

    /// `GET /v1/peers`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn peers(&self) -> Result<Peers, ClientError> {
        self.get("/v1/peers").await
    }

    /// `GET /v1/groups`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn groups(&self) -> Result<Groups, ClientError> {
        self.get("/v1/groups").await
    }

    /// `GET /v1/private-groups`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn private_groups(&self) -> Result<PrivateGroups, ClientError> {
        self.get("/v1/private-groups").await
    }

    /// `POST /v1/private-groups`: makes a group with a new secret.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn group_create(
        &self,
        request: &GroupCreateRequest,
    ) -> Result<GroupInvitation, ClientError> {
        self.post("/v1/private-groups", request).await
    }

    /// `POST /v1/invitations/accept`.
    ///
    /// # Errors
    /// [`ClientError`]; code `bad_request` when the invitation is none.
    pub async fn group_join(
        &self,
        request: &GroupJoinRequest,
    ) -> Result<PrivateGroup, ClientError> {
        self.post("/v1/invitations/accept", request).await
    }

    /// `GET /v1/private-groups/{name}`.
    ///
    /// # Errors
    /// [`ClientError`]; code `not_found` when this agent is in no group of that name.
    pub async fn group_show(&self, name: &str) -> Result<PrivateGroup, ClientError> {
        self.get(&format!("/v1/private-groups/{}", path_segment(name))).await
    }

    /// `GET /v1/private-groups/{name}/invitation`: the group's secret, to be handed to a new member.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn group_invitation(&self, name: &str) -> Result<GroupInvitation, ClientError> {
        self.get(&format!("/v1/private-groups/{}/invitation", path_segment(name))).await
    }

    /// `DELETE /v1/private-groups/{name}`: leaves the group and forgets its secret.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn group_leave(&self, name: &str) -> Result<Done, ClientError> {
        let route = format!("/v1/private-groups/{}", path_segment(name));
        self.json(Method::DELETE, &route, None).await
    }

    /// `POST /v1/resolve`.
    ///
    /// # Errors
    /// [`ClientError`]; code `ambiguous` when a handle means several agents.
    pub async fn resolve(&self, request: &ResolveRequest) -> Result<ResolveResponse, ClientError> {
        self.post("/v1/resolve", request).await
    }

    /// `POST /v1/shutdown`: asks the node to stop. It answers first.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn shutdown(&self) -> Result<Done, ClientError> {
        self.json(Method::POST, "/v1/shutdown", None).await
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.json(Method::GET, path, None).await
    }

    async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        let body = serde_json::to_vec(body).map_err(ClientError::Request)?;
        self.json(Method::POST, path, Some(body)).await
    }

    async fn json<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
    ) -> Result<T, ClientError> {
        let route = format!("{method} {path}");
        let bytes = match &self.0 {
            Way::Socket(socket) => {
                let (link, mut response) =
                    socket.send(method, path, body, "application/json").await?;
                if !response.status().is_success() {
                    return Err(error_of(&route, response).await);
                }
                let bytes = collect(&mut response).await?;
                socket.pool.give_back(link, response.into_body());
                bytes
            }
            Way::Inside(node) => {
                let body = Bytes::from(body.unwrap_or_default());
                let (status, bytes) = node.ask(method, path.to_owned(), body).await;
                if !(200..300).contains(&status) {
                    return Err(error_in(&route, &status.to_string(), &bytes));
                }
                bytes
            }
        };
        serde_json::from_slice(&bytes).map_err(|error| not_understood(&route, &error.to_string()))
    }
}

impl Socket {
    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
        accept: &str,
    ) -> Result<(Link, Response<Incoming>), ClientError> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, "comity")
            .header(ACCEPT, accept)
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body.unwrap_or_default())))
            .map_err(|error| not_understood(path, &error.to_string()))?;
        loop {
            let (mut link, is_new) = match self.pool.take() {
                Some(link) => (link, false),
                None => {
                    let opened = Link::open(self.dial().await?).await;
                    (opened.map_err(|error| ClientError::Closed(Some(error)))?, true)
                }
            };
            match pool::send(&mut link, request).await {
                Sent::Answered(response) => return Ok((link, response)),
                // The node has closed it meanwhile; there is another, or a new one.
                Sent::NotTaken(unharmed, _) if !is_new => request = unharmed,
                Sent::NotTaken(_, error) | Sent::Failed(error) => {
                    return Err(ClientError::Closed(Some(error)));
                }
            }
        }
    }

    async fn dial(&self) -> Result<UnixStream, ClientError> {
        UnixStream::connect(&self.path).await.map_err(|source| {
            if matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) {
                let home = self.path.parent().unwrap_or(&self.path).to_owned();
                ClientError::NotRunning { home }
            } else {
                ClientError::Connect { socket: self.path.clone(), source }
            }
        })
    }
}

async fn error_of(route: &str, mut response: Response<Incoming>) -> ClientError {
    let status = response.status().to_string();
    match collect(&mut response).await {
        Ok(bytes) => error_in(route, &status, &bytes),
        Err(error) => error,
    }
}

fn error_in(route: &str, status: &str, bytes: &[u8]) -> ClientError {
    match serde_json::from_slice::<ErrorBody>(bytes) {
        Ok(body) => ClientError::Api(body.error),
        Err(_) => not_understood(route, &format!("status {status} without an error body")),
    }
}

async fn collect(response: &mut Response<Incoming>) -> Result<Bytes, ClientError> {
    match Limited::new(response.body_mut(), MAX_RESPONSE_BYTES).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) => Err(match error.downcast::<hyper::Error>() {
            Ok(error) => ClientError::Closed(Some(*error)),
            Err(_) => ClientError::TooLarge { limit: MAX_RESPONSE_BYTES },
        }),
    }
}

fn not_understood(route: &str, reason: &str) -> ClientError {
    ClientError::NotUnderstood { route: route.to_owned(), reason: reason.to_owned() }
}

/// Percent-encodes one path segment (RFC 3986 section 3.3): everything but unreserved characters and `:`, `@`.
fn path_segment(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b':' | b'@' => {
                out.push(char::from(byte));
            }
            _ => {
                out.push('%');
                for nibble in [byte >> 4, byte & 15] {
                    out.push(char::from(b"0123456789ABCDEF"[usize::from(nibble)]));
                }
            }
        }
    }
    out
}
