//! The local API: HTTP/JSON with server-sent events on the Unix socket `HOME/api.sock`.
//!
//! This module owns HTTP and nothing else: routes, limits, who may connect, the shape of errors. What the operations
//! do is behind [`Backend`], which the node implements. The socket is created with mode 0600, and every connection's
//! peer credentials (SO_PEERCRED) have to name the node's own user, so that neither a loose directory nor a passed file
//! descriptor opens the API to others.
//!
//! Invariants:
//! * Closing a connection drops the future, or the stream, of the request it carried; backends cancel on drop.
//! * Every failure, also of routing and parsing, has the body `{"error":{…}}`.
//! * Nothing is unbounded: connections, requests in flight, body size, header time, time per request.

mod backend;
mod endpoint;
mod evidence;
mod handlers;
mod listener;
mod respond;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use axum::routing::{delete, get, post};
use comity_api::types::{EndpointRequest, ErrorInfo};
use comity_api::{Endpoints, MAX_REQUEST_BYTES, OpenEndpoint};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

pub use backend::{Backend, CallEvents};
pub use listener::{ApiSocket, ApiSocketError};

/// Requests served at a time; one more is answered with `busy`. A streamed call counts until its last event.
pub const MAX_REQUESTS: usize = 256;

/// Time limit of a request that names none of its own.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// How long after a request's own deadline the server gives up on a backend that does not keep it.
pub const DEADLINE_GRACE: Duration = Duration::from_secs(5);

/// Silence on an event stream after which a comment is sent, so that a reader that went away is noticed.
pub const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// How long requests in flight may take to end when the server stops.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// What every handler gets.
pub(crate) struct Shared<B> {
    backend: Arc<B>,
    permits: Arc<Semaphore>,
    endpoints: Option<Arc<dyn Endpoints>>,
    /// Those that are open.
    open: endpoint::Opened,
    /// Cancelled when the server stops: what lasts as long as its reader wants ends then.
    stop: CancellationToken,
}

impl<B> Clone for Shared<B> {
    fn clone(&self) -> Self {
        Self {
            backend: Arc::clone(&self.backend),
            permits: Arc::clone(&self.permits),
            endpoints: self.endpoints.clone(),
            open: self.open.clone(),
            stop: self.stop.clone(),
        }
    }
}

/// The API over a backend, without a socket.
pub struct Api<B>(Shared<B>);

impl<B> Clone for Api<B> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<B> std::fmt::Debug for Api<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Api").field("endpoints", &self.0.endpoints).finish_non_exhaustive()
    }
}

impl<B: Backend> Api<B> {
    /// Serves until `stop` is cancelled.
    pub fn new(backend: Arc<B>, stop: CancellationToken) -> Self {
        let permits = Arc::new(Semaphore::new(MAX_REQUESTS));
        let open = endpoint::Opened::default();
        Self(Shared { backend, permits, endpoints: None, open, stop })
    }

    /// Has `endpoints` open endpoints for programs of other protocols.
    #[must_use]
    pub fn endpoints(mut self, endpoints: Option<Arc<dyn Endpoints>>) -> Self {
        self.0.endpoints = endpoints;
        self
    }

    /// Opens an endpoint in front of this node, to be served by whoever polls it.
    ///
    /// # Errors
    /// When the address cannot be had, or there is nothing to open endpoints with.
    pub async fn open(&self, request: EndpointRequest) -> Result<OpenEndpoint, ErrorInfo> {
        self.0.open(request).await
    }

    /// Serves on `socket`; requests in flight get [`DRAIN_TIMEOUT`] to end when it is to stop.
    ///
    /// The socket file is removed at the end.
    pub async fn serve(self, socket: ApiSocket) {
        let stop = self.0.stop.clone();
        listener::run(socket, routes(self.0), stop).await;
    }
}

/// The routes of the API over a backend, without a socket. [`Api::serve`] is what a node uses.
pub fn router<B: Backend>(backend: Arc<B>) -> Router {
    routes(Api::new(backend, CancellationToken::new()).0)
}

#[cfg(test)]
fn router_with_limit<B: Backend>(backend: Arc<B>, max_requests: usize) -> Router {
    let permits = Arc::new(Semaphore::new(max_requests));
    routes(Shared { permits, ..Api::new(backend, CancellationToken::new()).0 })
}

fn routes<B: Backend>(shared: Shared<B>) -> Router {
    Router::new()
        .route("/v1/status", get(handlers::status::<B>))
        .route("/v1/serve", post(handlers::serve::<B>))
        .route("/v1/capabilities", get(handlers::capabilities::<B>))
        .route("/v1/capabilities/{name}", delete(handlers::unserve::<B>))
        .route("/v1/find", post(handlers::find::<B>))
        .route("/v1/show/{*target}", get(handlers::show::<B>))
        .route("/v1/call", post(handlers::call::<B>))
        .route("/v1/ping", post(handlers::ping::<B>))
        .route("/v1/peers", get(handlers::peers::<B>))
        .route("/v1/groups", get(handlers::groups::<B>))
        .route(
            "/v1/private-groups",
            get(handlers::private_groups::<B>).post(handlers::group_create::<B>),
        )
        .route("/v1/invitations/accept", post(handlers::group_join::<B>))
        .route(
            "/v1/private-groups/{name}",
            get(handlers::group_show::<B>).delete(handlers::group_leave::<B>),
        )
        .route("/v1/private-groups/{name}/invitation", get(handlers::group_invitation::<B>))
        .route("/v1/charters", get(handlers::charters::<B>).post(handlers::charter_create::<B>))
        .route("/v1/charters/join", post(handlers::charter_join::<B>))
        .route(
            "/v1/charters/{name}",
            get(handlers::charter_show::<B>).delete(handlers::charter_leave::<B>),
        )
        .route("/v1/charters/{name}/admit", post(handlers::charter_admit::<B>))
        .route("/v1/charters/{name}/expel", post(handlers::charter_expel::<B>))
        .route("/v1/policy", get(handlers::policy::<B>))
        .route("/v1/policy/reload", post(handlers::policy_reload::<B>))
        .route("/v1/policy/explain", post(handlers::policy_explain::<B>))
        .route("/v1/grants", get(handlers::grants::<B>).post(handlers::grant_create::<B>))
        .route("/v1/grants/delegate", post(handlers::grant_delegate::<B>))
        .route("/v1/grants/keep", post(handlers::grant_keep::<B>))
        .route("/v1/grants/revoke", post(handlers::grant_revoke::<B>))
        .route("/v1/trust", get(handlers::trust::<B>))
        .route("/v1/trust/request", post(handlers::trust_request::<B>))
        .route("/v1/trust/approve", post(handlers::trust_approve::<B>))
        .route("/v1/trust/deny", post(handlers::trust_deny::<B>))
        .route("/v1/trust/revoke", post(handlers::trust_revoke::<B>))
        .route("/v1/endorsements", get(handlers::endorsements::<B>).post(handlers::endorse::<B>))
        .route("/v1/endorsements/revoke", post(handlers::endorse_revoke::<B>))
        .route("/v1/evidence", get(evidence::evidence::<B>).post(evidence::evidence_add::<B>))
        .route("/v1/evidence/show", post(evidence::evidence_show::<B>))
        .route("/v1/evidence/remove", post(evidence::evidence_remove::<B>))
        .route("/v1/evidence/appraise", post(evidence::appraise::<B>))
        .route("/v1/evidence/canary", post(evidence::canary::<B>))
        .route("/v1/evidence/probe", post(evidence::probe::<B>))
        .route("/v1/traces", get(evidence::traces::<B>).post(evidence::trace_commit::<B>))
        .route("/v1/traces/disclose", post(evidence::trace_disclose::<B>))
        .route("/v1/resolve", post(handlers::resolve::<B>))
        .route("/v1/handles", get(handlers::handles::<B>))
        .route("/v1/handles/resolve", post(handlers::handle_resolve::<B>))
        .route("/v1/handles/pin", post(handlers::handle_pin::<B>))
        .route("/v1/handles/unpin", post(handlers::handle_unpin::<B>))
        .route("/v1/audit", get(handlers::audit::<B>))
        .route("/v1/audit/peers", get(handlers::audit_peers::<B>))
        .route("/v1/audit/{index}/proof", get(handlers::audit_proof::<B>))
        .route("/v1/receipts", post(handlers::receipts::<B>))
        .route("/v1/receipts/{id}", get(handlers::receipt::<B>))
        .route("/v1/results", get(handlers::results::<B>))
        .route("/v1/results/retract", post(handlers::retract::<B>))
        .route("/v1/reputation", post(handlers::reputation::<B>))
        .route("/v1/audit/prune", post(handlers::audit_prune::<B>))
        .route("/v1/endpoints", post(endpoint::endpoint::<B>))
        .route("/v1/shutdown", post(handlers::shutdown::<B>))
        .fallback(handlers::no_such_route)
        .method_not_allowed_fallback(handlers::no_such_method)
        .layer(middleware::from_fn_with_state(shared.clone(), respond::admit::<B>))
        .layer(DefaultBodyLimit::max(MAX_REQUEST_BYTES))
        .with_state(shared)
}
