//! Endpoints for programs of other protocols, inside the node.
//!
//! What an endpoint is made of is another crate's business ([`comity_api::Endpoints`]); it is handed a client that reaches the API without the socket.
//! An endpoint that was asked for over the API is there for as long as the answer is being read, so that none outlives whoever asked.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::Request;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use comity_api::types::{
    CallEvent, CallRequest, EndpointOpened, EndpointRequest, ErrorBody, ErrorCode, ErrorInfo,
    OpenEndpointView,
};
use comity_api::{Client, Inside, MAX_RESPONSE_BYTES, OpenEndpoint};
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt as _, StreamExt as _};
use hyper::Method;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use tokio::sync::Semaphore;
use tokio_util::task::AbortOnDropHandle;

use super::handlers::{Node, begun, until};
use super::respond::{Failure, Json, busy};
use super::{Backend, KEEP_ALIVE, MAX_REQUESTS, Shared};
use crate::transport::locked;

/// The API for what runs inside the node. It has places of its own, so that neither side takes those of the other.
struct Here<B: Backend> {
    shared: Shared<B>,
    /// Its operations but calls.
    routes: Router,
}

impl<B: Backend> Here<B> {
    fn new(shared: Shared<B>) -> Self {
        Self { routes: super::routes(shared.clone()), shared }
    }
}

impl<B: Backend> std::fmt::Debug for Here<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Here")
    }
}

impl<B: Backend> Inside for Here<B> {
    fn ask(&self, method: Method, path: String, body: Bytes) -> BoxFuture<'static, (u16, Bytes)> {
        let routes = self.routes.clone();
        async move {
            let request = Request::builder()
                .method(method)
                .uri(path)
                .header("content-type", "application/json")
                .header("accept", "application/json")
                .body(Body::from(body));
            let request = match request {
                Ok(request) => request,
                Err(error) => return refusal(ErrorCode::BadRequest, &error.to_string()),
            };
            let response = match TowerToHyperService::new(routes).call(request).await {
                Ok(response) => response,
                Err(never) => match never {},
            };
            let status = response.status().as_u16();
            match axum::body::to_bytes(response.into_body(), MAX_RESPONSE_BYTES).await {
                Ok(body) => (status, body),
                Err(error) => refusal(ErrorCode::TooLarge, &error.to_string()),
            }
        }
        .boxed()
    }

    fn call(
        &self,
        request: CallRequest,
    ) -> BoxFuture<'static, Result<BoxStream<'static, CallEvent>, ErrorInfo>> {
        let shared = self.shared.clone();
        async move {
            let Ok(place) = Arc::clone(&shared.permits).try_acquire_owned() else {
                return Err(busy());
            };
            let (ends_at, events) = begun(&*shared.backend, request).await?;
            let events = until(ends_at, events).map(move |event| {
                let _held = &place;
                event
            });
            Ok(events.boxed())
        }
        .boxed()
    }
}

fn refusal(code: ErrorCode, text: &str) -> (u16, Bytes) {
    let body = serde_json::to_vec(&ErrorBody::from(ErrorInfo::new(code, text)));
    (code.http_status(), body.unwrap_or_default().into())
}

/// The endpoints that are open.
#[derive(Debug, Clone, Default)]
pub(super) struct Opened(Arc<Mutex<BTreeMap<SocketAddr, OpenEndpointView>>>);

impl Opened {
    /// All of them, by where they listen.
    pub(super) fn all(&self) -> Vec<OpenEndpointView> {
        locked(&self.0).values().cloned().collect()
    }

    /// Counts `view` among them for as long as what is returned is held.
    fn with(&self, view: OpenEndpointView) -> Counted {
        let listen = view.listen;
        locked(&self.0).insert(listen, view);
        Counted { all: self.clone(), listen }
    }
}

/// One of [`Opened`].
struct Counted {
    all: Opened,
    listen: SocketAddr,
}

impl Drop for Counted {
    fn drop(&mut self) {
        locked(&self.all.0).remove(&self.listen);
    }
}

impl<B: Backend> Shared<B> {
    /// Opens an endpoint in front of this node.
    pub(super) async fn open(&self, request: EndpointRequest) -> Result<OpenEndpoint, ErrorInfo> {
        let Some(endpoints) = self.endpoints.clone() else {
            let text = "this node opens no endpoints for other protocols";
            return Err(ErrorInfo::new(ErrorCode::NotPermitted, text));
        };
        let own = Self { permits: Arc::new(Semaphore::new(MAX_REQUESTS)), ..self.clone() };
        let (serves, unauthenticated) = (request.serves.clone(), request.unauthenticated);
        let open = endpoints.open(Client::inside(Arc::new(Here::new(own))), request).await?;
        let listen = open.listen;
        let counted = self.open.with(OpenEndpointView { listen, serves, unauthenticated });
        let work = async move {
            let _counted = counted;
            open.work.await;
        };
        Ok(OpenEndpoint { listen, work: work.boxed() })
    }
}

/// `POST /v1/endpoints`.
pub(super) async fn endpoint<B: Backend>(
    State(node): Node<B>,
    Json(request): Json<EndpointRequest>,
) -> Result<Response, Failure> {
    let open = node.open(request).await.map_err(Failure)?;
    let opened = serde_json::to_string(&EndpointOpened { listen: open.listen })
        .map_err(|error| Failure(ErrorInfo::new(ErrorCode::Internal, error.to_string())))?;
    let work = AbortOnDropHandle::new(tokio::spawn(open.work));
    let opened = stream::once(std::future::ready(Event::default().event("open").data(opened)));
    let stop = node.stop.clone();
    let rest = stream::once(async move {
        tokio::select! {
            () = stop.cancelled() => {}
            _ended = work => {}
        }
    })
    .filter_map(|()| std::future::ready(None));
    let events = opened.chain(rest).map(Ok::<_, Infallible>);
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response())
}
