//! What all requests have in common: who may ask, how many at a time, how bodies and errors look.

use axum::body::{Body, Bytes};
use axum::extract::rejection::{BytesRejection, FailedToBufferBody};
use axum::extract::{ConnectInfo, FromRequest, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use comity_api::MAX_REQUEST_BYTES;
use comity_api::types::{ErrorBody, ErrorCode, ErrorInfo};
use futures_util::StreamExt;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::listener::Caller;
use super::{Backend, Shared};

/// An error on its way out: HTTP status by its code, body [`ErrorBody`].
pub(crate) struct Failure(pub(crate) ErrorInfo);

impl From<ErrorInfo> for Failure {
    fn from(info: ErrorInfo) -> Self {
        Self(info)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.code.http_status())
            .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, axum::Json(ErrorBody::from(self.0))).into_response()
    }
}

/// A JSON answer or an error.
pub(crate) type Answer<T> = Result<axum::Json<T>, Failure>;

/// Makes a backend's result an answer.
pub(crate) fn answer<T: Serialize>(result: Result<T, ErrorInfo>) -> Answer<T> {
    result.map(axum::Json).map_err(Failure)
}

/// A JSON request body whose every defect is a [`Failure`] that says where it is.
pub(crate) struct Json<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &S) -> Result<Self, Failure> {
        let bytes = Bytes::from_request(request, state).await.map_err(unreadable)?;
        serde_json::from_slice(&bytes).map(Self).map_err(|error| {
            let what = if error.is_data() { "does not fit the operation" } else { "is not JSON" };
            Failure(
                ErrorInfo::new(ErrorCode::BadRequest, format!("the request body {what}: {error}"))
                    .hint("the OpenAPI document describes the body: `comity openapi`"),
            )
        })
    }
}

fn unreadable(rejection: BytesRejection) -> ErrorInfo {
    let too_large = matches!(
        rejection,
        BytesRejection::FailedToBufferBody(FailedToBufferBody::LengthLimitError(_))
    );
    if too_large {
        let message = format!("the request body is larger than {MAX_REQUEST_BYTES} bytes");
        return ErrorInfo::new(ErrorCode::TooLarge, message).hint("send less in one request");
    }
    ErrorInfo::new(ErrorCode::BadRequest, format!("the request body cannot be read: {rejection}"))
}

/// Lets a request in when it comes from the node's own user and a place is free; holds the place until the last byte of
/// the answer is out or the client is gone.
pub(crate) async fn admit<B: Backend>(
    State(shared): State<Shared<B>>,
    request: Request,
    next: Next,
) -> Response {
    let caller = request.extensions().get::<ConnectInfo<Caller>>().map(|info| info.0);
    if let Some(Caller { allowed: false }) = caller {
        let info = ErrorInfo::new(
            ErrorCode::NotPermitted,
            "this socket answers only the user the node runs as",
        )
        .hint("run the command as the user that started the node");
        return Failure(info).into_response();
    }
    let Ok(permit) = shared.permits.clone().try_acquire_owned() else {
        return Failure(busy()).into_response();
    };
    let mut response = next.run(request).await;
    if is_event_stream(&response) {
        let (parts, body) = response.into_parts();
        // The permit lives in the closure, so as long as the body.
        let body = body.into_data_stream().map(move |piece| {
            let _held = &permit;
            piece
        });
        response = Response::from_parts(parts, Body::from_stream(body));
    }
    response
}

/// There is no place.
pub(super) fn busy() -> ErrorInfo {
    ErrorInfo::new(ErrorCode::Busy, "too many requests in flight on this node")
        .hint("wait for one to end and try again")
}

fn is_event_stream(response: &Response) -> bool {
    response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"text/event-stream"))
}
