//! A local web service as a specialist: each request is a POST of JSON.
//!
//! The answer is the response body as one JSON value, or with content type `application/x-ndjson` a stream of one value a
//! line. Only `http` is spoken: the service is meant to be on this machine or behind a proxy on it. Redirects are not
//! followed, no cookies are kept, and proxies of the environment are not used.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, stream};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST, USER_AGENT};
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde_json::Value;

use crate::call::{Answer, Ends, Invocation, Specialist};
use crate::error::{SpecialistError, printable};

/// Longest one call may take when nothing else is configured, stream included.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest connecting may take.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Largest whole answer when nothing else is configured, bytes.
pub const DEFAULT_BODY_BYTES: usize = 8 * 1024 * 1024;
/// Largest streamed answer when nothing else is configured, bytes.
pub const DEFAULT_STREAM_BYTES: usize = 256 * 1024 * 1024;
/// Longest line of a streamed answer, bytes.
pub const MAX_STREAM_LINE_BYTES: usize = 1024 * 1024;
/// Longest part of an error body that is read for its message, bytes.
const MAX_ERROR_BODY_BYTES: usize = 64 * 1024;
/// Idle connections kept.
const IDLE_CONNECTIONS: usize = 8;

/// Which service to call and within which limits.
#[derive(Debug, Clone)]
pub struct HttpConfig {
    /// Where to POST, `http://host[:port]/path`.
    pub url: String,
    /// Longest one call may take.
    pub timeout: Duration,
    /// Largest whole answer, bytes.
    pub max_body_bytes: usize,
    /// Largest streamed answer, bytes.
    pub max_stream_bytes: usize,
}

impl HttpConfig {
    /// The configuration for `url` with the default limits.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            timeout: DEFAULT_TIMEOUT,
            max_body_bytes: DEFAULT_BODY_BYTES,
            max_stream_bytes: DEFAULT_STREAM_BYTES,
        }
    }
}

/// Why a URL cannot be served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HttpError {
    /// Not a URL with a host.
    #[error("{url:?} is not a URL of a service; write http://host:port/path")]
    NotAUrl {
        /// The text given.
        url: String,
    },
    /// `https`.
    #[error(
        "{url:?} uses https, which is not spoken here; put a local proxy before the service and give its http:// URL"
    )]
    Https {
        /// The text given.
        url: String,
    },
    /// A user name or password in the URL.
    #[error(
        "the URL holds a user name or password; give access by other means, the URL is shown in logs"
    )]
    Credentials,
}

/// A web service.
#[derive(Debug)]
pub struct Http {
    client: Client<HttpConnector, Full<Bytes>>,
    uri: Uri,
    config: HttpConfig,
}

impl Http {
    /// Prepares calls to the service; does not connect yet.
    ///
    /// # Errors
    /// [`HttpError`] when the URL is not one that can be called.
    pub fn new(config: HttpConfig) -> Result<Self, HttpError> {
        let uri = check_url(&config.url)?;
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .build(connector);
        Ok(Self { client, uri, config })
    }

    async fn post(
        &self,
        request: &Value,
        ends: &Ends,
    ) -> Result<Response<Incoming>, SpecialistError> {
        let message = Request::builder()
            .method(Method::POST)
            .uri(self.uri.clone())
            .header(HOST, self.uri.authority().map_or("", |authority| authority.as_str()))
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, "application/json, application/x-ndjson")
            .header(USER_AGENT, concat!("comity/", env!("CARGO_PKG_VERSION")))
            .body(Full::new(Bytes::from(request.to_string())))
            .map_err(|error| SpecialistError::Unavailable { what: error.to_string() })?;
        ends.bound(self.client.request(message)).await?.map_err(|error| {
            tracing::warn!(target: "comity::specialist::http", url = %self.uri, %error, "the service did not answer");
            if error.is_connect() {
                SpecialistError::Unavailable { what: "its service cannot be reached".to_owned() }
            } else {
                SpecialistError::Crashed { what: "its service broke the connection".to_owned() }
            }
        })
    }
}

/// Checks that `url` is one [`Http`] can call.
pub(crate) fn check_url(url: &str) -> Result<Uri, HttpError> {
    let shown = || printable(url, 200);
    let uri: Uri = url.parse().map_err(|_| HttpError::NotAUrl { url: shown() })?;
    let Some(authority) = uri.authority() else { return Err(HttpError::NotAUrl { url: shown() }) };
    if authority.as_str().contains('@') {
        return Err(HttpError::Credentials);
    }
    match uri.scheme_str() {
        Some("http") => Ok(uri),
        Some("https") => Err(HttpError::Https { url: shown() }),
        _ => Err(HttpError::NotAUrl { url: shown() }),
    }
}

impl Specialist for Http {
    fn call(&self, call: Invocation) -> BoxFuture<'_, Result<Answer, SpecialistError>> {
        async move {
            let ends = call.ends(self.config.timeout);
            let response = self.post(&call.request, &ends).await?;
            if response.status() != StatusCode::OK {
                return Err(refusal(response, &ends).await);
            }
            if is_ndjson(&response) {
                return Ok(Answer::Stream(self.lines(response.into_body(), ends)));
            }
            let body = read(response.into_body(), self.config.max_body_bytes, &ends).await?;
            let value: Value =
                serde_json::from_slice(&body).map_err(|error| SpecialistError::GarbageAnswer {
                    what: format!("its body of {} bytes is not JSON: {error}", body.len()),
                })?;
            crate::exec::reported(&value).map_or(Ok(Answer::One(value)), Err)
        }
        .boxed()
    }
}

impl Http {
    fn lines(
        &self,
        body: Incoming,
        ends: Ends,
    ) -> stream::BoxStream<'static, Result<Value, SpecialistError>> {
        let lines = Lines {
            body,
            buffer: BytesMut::new(),
            left: self.config.max_stream_bytes,
            limit: self.config.max_stream_bytes,
        };
        stream::unfold(Some((lines, ends)), |state| async move {
            let (mut lines, ends) = state?;
            let next = ends.bound(lines.next()).await.unwrap_or_else(|error| Some(Err(error)))?;
            let next = next.and_then(|value| crate::exec::reported(&value).map_or(Ok(value), Err));
            let state = next.is_ok().then_some((lines, ends));
            Some((next, state))
        })
        .boxed()
    }
}

/// Splits a body into JSON lines.
struct Lines {
    body: Incoming,
    buffer: BytesMut,
    left: usize,
    limit: usize,
}

impl Lines {
    async fn next(&mut self) -> Option<Result<Value, SpecialistError>> {
        // How much of the buffer is known to hold no line end.
        let mut searched = 0;
        loop {
            let end = self
                .buffer
                .get(searched..)
                .and_then(|rest| rest.iter().position(|byte| *byte == b'\n'));
            if let Some(end) = end {
                let line = self.buffer.split_to(searched + end + 1);
                searched = 0;
                if !line.trim_ascii().is_empty() {
                    return Some(json_line(&line));
                }
                continue;
            }
            searched = self.buffer.len();
            if self.buffer.len() > MAX_STREAM_LINE_BYTES {
                return Some(Err(SpecialistError::AnswerTooLarge { limit: MAX_STREAM_LINE_BYTES }));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    let Ok(data) = frame.into_data() else { continue };
                    let Some(left) = self.left.checked_sub(data.len()) else {
                        return Some(Err(SpecialistError::AnswerTooLarge { limit: self.limit }));
                    };
                    self.left = left;
                    self.buffer.extend_from_slice(&data);
                }
                Some(Err(_)) => {
                    return Some(Err(SpecialistError::Crashed {
                        what: "its service broke the stream".to_owned(),
                    }));
                }
                None if self.buffer.trim_ascii().is_empty() => return None,
                None => {
                    let line = self.buffer.split();
                    return Some(json_line(&line));
                }
            }
        }
    }
}

fn json_line(line: &[u8]) -> Result<Value, SpecialistError> {
    serde_json::from_slice(line).map_err(|error| SpecialistError::GarbageAnswer {
        what: format!("a line of its stream is not JSON: {error}"),
    })
}

fn is_ndjson(response: &Response<Incoming>) -> bool {
    let kind =
        response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or("");
    let kind = kind.split(';').next().unwrap_or("").trim();
    ["application/x-ndjson", "application/jsonl"]
        .iter()
        .any(|known| kind.eq_ignore_ascii_case(known))
}

async fn read(mut body: Incoming, limit: usize, ends: &Ends) -> Result<BytesMut, SpecialistError> {
    let mut read = BytesMut::new();
    while let Some(frame) = ends.bound(body.frame()).await? {
        let frame = frame.map_err(|_| SpecialistError::Crashed {
            what: "its service broke the answer".to_owned(),
        })?;
        if let Ok(data) = frame.into_data() {
            if read.len() + data.len() > limit {
                return Err(SpecialistError::AnswerTooLarge { limit });
            }
            read.extend_from_slice(&data);
        }
    }
    Ok(read)
}

/// What a status other than 200 means. The service's own message is passed on where the request is to blame.
async fn refusal(response: Response<Incoming>, ends: &Ends) -> SpecialistError {
    let status = response.status();
    let code = status.as_u16();
    let body = match read(response.into_body(), MAX_ERROR_BODY_BYTES, ends).await {
        Ok(body) => body,
        Err(error @ (SpecialistError::Cancelled | SpecialistError::Timeout { .. })) => {
            return error;
        }
        Err(_) => BytesMut::new(),
    };
    match code {
        400 | 422 => {
            SpecialistError::invalid(message(&body).unwrap_or_else(|| format!("status {code}")))
        }
        413 => SpecialistError::invalid("the service finds it too large (status 413)"),
        429 | 503 => SpecialistError::Busy { waiting: 0 },
        401 | 403 | 404 | 405 | 415 => SpecialistError::Unavailable {
            what: format!(
                "its service refuses calls with status {code}; its operator should check the URL"
            ),
        },
        408 | 502 | 504 => SpecialistError::Unavailable {
            what: format!("its service answered with status {code}"),
        },
        500..=599 => {
            SpecialistError::Crashed { what: format!("its service answered with status {code}") }
        }
        400..=499 => {
            SpecialistError::reported(&message(&body).unwrap_or_else(|| format!("status {code}")))
        }
        _ => SpecialistError::GarbageAnswer {
            what: format!("status {code}; only 200 is an answer and redirects are not followed"),
        },
    }
}

/// The message in a JSON error body, or a short text body as it is.
fn message(body: &[u8]) -> Option<String> {
    let text = match serde_json::from_slice::<Value>(body) {
        Ok(value) => {
            let found = [
                value.pointer("/error/message"),
                value.get("message"),
                value.get("error"),
                value.get("detail"),
            ];
            found.into_iter().flatten().find_map(Value::as_str)?.to_owned()
        }
        Err(_) => std::str::from_utf8(body).ok()?.trim().to_owned(),
    };
    (!text.is_empty()).then(|| printable(&text, 300))
}
