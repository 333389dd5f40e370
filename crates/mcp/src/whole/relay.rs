//! The side that has the server: calls become its requests.

use std::time::Duration;

use axum::http::header::{CONTENT_TYPE, HOST, HeaderName, HeaderValue};
use axum::http::{HeaderMap, Request, Uri};
use bytes::Bytes;
use comity_specialist::{Answer, Ends, Invocation, Specialist, SpecialistError};
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde_json::Value;

use super::stdio::Programs;
use super::wire::{
    BODY_BYTES_MAX, Cutter, Exchange, Head, Method, REQUEST_HEADERS, RESPONSE_HEADERS, passed_on,
    taken,
};

/// Longest one exchange may take when nothing else is said: a client that listens comes again afterwards.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(600);
/// Longest connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest body of a response, in bytes.
const RESPONSE_BYTES_MAX: usize = 60 << 20;
/// A body whose length is told beforehand and no more than this is read whole before anything of it is handed on.
const AT_ONCE_BYTES: u64 = 64 << 10;
/// Idle connections kept.
const IDLE_CONNECTIONS: usize = 16;
/// Tells the server who asks: the AgentId that the session proved.
const CALLER: HeaderName = HeaderName::from_static("comity-caller");

/// Why a server cannot be relayed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RelayError {
    /// Not an `http://` URL with a host and without a password.
    #[error("{url:?} is not an http:// URL of a server on this machine or behind a proxy on it")]
    Url {
        /// The text given.
        url: String,
    },
}

/// A whole server as a specialist.
#[derive(Debug)]
pub struct Relay {
    end: End,
    timeout: Duration,
}

#[derive(Debug)]
enum End {
    Http(Box<Http>),
    Programs(Programs),
}

/// Head and body of a response, the body as it comes.
pub(crate) struct Answered {
    pub(crate) head: Head,
    pub(crate) body: BoxStream<'static, Result<Bytes, SpecialistError>>,
}

impl Relay {
    /// In front of an HTTP server.
    #[must_use]
    pub fn http(http: Http, timeout: Option<Duration>) -> Self {
        Self { end: End::Http(Box::new(http)), timeout: timeout.unwrap_or(EXCHANGE_TIMEOUT) }
    }

    /// In front of a program that speaks MCP on its standard input and output.
    #[must_use]
    pub fn programs(programs: Programs, timeout: Option<Duration>) -> Self {
        Self { end: End::Programs(programs), timeout: timeout.unwrap_or(EXCHANGE_TIMEOUT) }
    }
}

impl Specialist for Relay {
    fn call(&self, call: Invocation) -> BoxFuture<'_, Result<Answer, SpecialistError>> {
        async move {
            let ends = call.ends(self.timeout);
            let exchange: Exchange = serde_json::from_value(call.request).map_err(|error| {
                SpecialistError::invalid(format!("not an HTTP exchange: {error}"))
            })?;
            if exchange.body.len() > BODY_BYTES_MAX {
                return Err(SpecialistError::RequestTooLarge {
                    bytes: exchange.body.len(),
                    limit: BODY_BYTES_MAX,
                });
            }
            if !exchange.path.is_empty() {
                return Err(SpecialistError::invalid("an MCP server has one place and no paths"));
            }
            let caller = call.caller.to_string();
            let answered = match &self.end {
                End::Http(http) => ends.bound(http.send(exchange, &caller)).await??,
                End::Programs(programs) => ends.bound(programs.send(exchange, &caller)).await??,
            };
            Ok(Answer::Stream(items(answered, ends)))
        }
        .boxed()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        match &self.end {
            End::Http(_) => {}
            End::Programs(programs) => programs.close(),
        }
        Box::pin(std::future::ready(()))
    }
}

/// The items of an answer: the head at once, the body in pieces, its length bounded.
pub(crate) fn items(
    answered: Answered,
    ends: Ends,
) -> BoxStream<'static, Result<Value, SpecialistError>> {
    struct Body {
        body: BoxStream<'static, Result<Bytes, SpecialistError>>,
        cutter: Cutter,
        left: usize,
        ends: Ends,
        over: bool,
    }
    let head = json(&answered.head);
    let body = Body {
        body: answered.body,
        cutter: Cutter::default(),
        left: RESPONSE_BYTES_MAX,
        ends,
        over: false,
    };
    let pieces = stream::unfold(body, move |mut state| async move {
        if state.over {
            return None;
        }
        let mut pieces = Vec::new();
        let next = state.ends.bound(state.body.next()).await;
        let next = match next {
            Ok(next) => next,
            Err(error) => Some(Err(error)),
        };
        match next {
            Some(Ok(bytes)) => match state.left.checked_sub(bytes.len()) {
                Some(left) => {
                    state.left = left;
                    state.cutter.cut(&bytes, &mut pieces);
                }
                None => {
                    state.over = true;
                    let error = SpecialistError::AnswerTooLarge { limit: RESPONSE_BYTES_MAX };
                    return Some((vec![Err(error)], state));
                }
            },
            Some(Err(error)) => {
                state.over = true;
                return Some((vec![Err(error)], state));
            }
            None => {
                state.over = true;
                pieces.extend(state.cutter.finish());
            }
        }
        Some((pieces.iter().map(json).collect(), state))
    });
    stream::once(async move { head }).chain(pieces.flat_map(stream::iter)).boxed()
}

fn json(value: &impl serde::Serialize) -> Result<Value, SpecialistError> {
    serde_json::to_value(value)
        .map_err(|error| SpecialistError::GarbageAnswer { what: error.to_string() })
}

/// An HTTP server.
#[derive(Debug, Clone)]
pub struct Http {
    client: Client<HttpConnector, Full<Bytes>>,
    uri: Uri,
}

impl Http {
    /// The server at `url`; does not connect yet.
    ///
    /// # Errors
    /// [`RelayError::Url`] when it is no `http://` URL.
    pub fn new(url: &str) -> Result<Self, RelayError> {
        let wrong = || RelayError::Url { url: crate::text::clean(url, 200) };
        let uri: Uri = url.parse().map_err(|_| wrong())?;
        let authority = uri.authority().ok_or_else(wrong)?;
        if uri.scheme_str() != Some("http") || authority.as_str().contains('@') {
            return Err(wrong());
        }
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .build(connector);
        Ok(Self { client, uri })
    }

    /// Where it is.
    pub(crate) fn uri(&self) -> &Uri {
        &self.uri
    }

    /// Posts to it with these headers alone, and returns the status.
    pub(crate) async fn notify(
        &self,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<u16, hyper_util::client::legacy::Error> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = hyper::Method::POST;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = headers;
        Ok(self.client.request(request).await?.status().as_u16())
    }

    pub(crate) async fn send(
        &self,
        exchange: Exchange,
        caller: &str,
    ) -> Result<Answered, SpecialistError> {
        self.send_to(self.uri.clone(), exchange, caller).await
    }

    /// As [`send`](Self::send), to another URI than the server's own; who calls sees to it that it is one of this server.
    pub(crate) async fn send_to(
        &self,
        uri: Uri,
        exchange: Exchange,
        caller: &str,
    ) -> Result<Answered, SpecialistError> {
        let host = uri.authority().and_then(|host| HeaderValue::try_from(host.as_str()).ok());
        let host = host.ok_or_else(|| SpecialistError::Unavailable {
            what: "the server behind it has no host".to_owned(),
        })?;
        let method = match exchange.method {
            Method::Get => hyper::Method::GET,
            Method::Post => hyper::Method::POST,
            Method::Delete => hyper::Method::DELETE,
        };
        let mut request = Request::new(Full::new(Bytes::from(exchange.body)));
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        *request.headers_mut() = taken(&exchange.headers, &REQUEST_HEADERS);
        request.headers_mut().insert(HOST, host);
        if !caller.is_empty()
            && let Ok(caller) = HeaderValue::try_from(caller)
        {
            request.headers_mut().insert(CALLER, caller);
        }
        let response = self.client.request(request).await.map_err(|error| {
            tracing::warn!(url = %self.uri, %error, "the server behind the bridge did not answer");
            if error.is_connect() {
                SpecialistError::Unavailable {
                    what: "the server behind it cannot be reached".to_owned(),
                }
            } else {
                SpecialistError::Crashed {
                    what: "the server behind it broke the connection".to_owned(),
                }
            }
        })?;
        let (parts, body) = response.into_parts();
        let head = Head {
            status: parts.status.as_u16(),
            headers: passed_on(&parts.headers, &RESPONSE_HEADERS),
        };
        let broken = || SpecialistError::Crashed {
            what: "the server behind it broke the answer".to_owned(),
        };
        let kind = parts.headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
        let length = hyper::body::Body::size_hint(&body).exact();
        if length.is_some_and(|bytes| bytes <= AT_ONCE_BYTES)
            && !kind.starts_with(b"text/event-stream")
        {
            // Nobody can use a part of it, so head and body travel together.
            let whole = body.collect().await.map_err(|_| broken())?.to_bytes();
            let whole = stream::iter((!whole.is_empty()).then_some(Ok(whole)));
            return Ok(Answered { head, body: whole.boxed() });
        }
        let body = body.into_data_stream().map(move |frame| frame.map_err(|_| broken()));
        Ok(Answered { head, body: body.boxed() })
    }
}
