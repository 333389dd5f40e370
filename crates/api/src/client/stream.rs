//! Answers that are streams of events.

use std::collections::VecDeque;
use std::fmt;

use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use http_body_util::BodyExt as _;
use hyper::Method;
use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;

use super::pool::{Link, Pool};
use super::{Client, ClientError, Way, error_of, not_understood};
use crate::types::{CallEvent, CallRequest, EndpointOpened, EndpointRequest, ErrorCode, ErrorInfo};
use crate::{MAX_EVENT_BYTES, SseError, SseEvent, SseReader};

impl Client {
    /// `POST /v1/call` as a stream of events. Dropping the stream cancels the call at the far end.
    ///
    /// # Errors
    /// [`ClientError`] when the call is refused before the stream starts; later failures are an event.
    pub async fn call_stream(&self, request: &CallRequest) -> Result<CallStream, ClientError> {
        match &self.0 {
            Way::Socket(_) => {
                let body = serde_json::to_vec(request).map_err(ClientError::Request)?;
                Ok(CallStream(Source::Socket(self.events("/v1/call", body).await?)))
            }
            Way::Inside(node) => {
                let events = node.call(request.clone()).await.map_err(ClientError::Api)?;
                Ok(CallStream(Source::Inside { events, ended: false }))
            }
        }
    }

    /// `POST /v1/endpoints`: has the node open an endpoint, which is there until the stream is dropped.
    ///
    /// # Errors
    /// [`ClientError`]; code `address_in_use` when the address cannot be had.
    pub async fn endpoint(&self, request: &EndpointRequest) -> Result<EndpointStream, ClientError> {
        let body = serde_json::to_vec(request).map_err(ClientError::Request)?;
        let mut events = self.events("/v1/endpoints", body).await?;
        let unlike = |what: &str| not_understood(events_route("/v1/endpoints").as_str(), what);
        match events.next().await? {
            Some(event) if event.name == "open" => {
                let opened: EndpointOpened = serde_json::from_str(&event.data)
                    .map_err(|error| unlike(&error.to_string()))?;
                Ok(EndpointStream { opened, events })
            }
            Some(_) | None => Err(unlike("the endpoint is not open")),
        }
    }

    /// Posts, and reads what comes of it as events.
    async fn events(&self, path: &'static str, body: Vec<u8>) -> Result<Events, ClientError> {
        let Way::Socket(socket) = &self.0 else {
            let text = "a node does not ask itself for streams other than calls";
            return Err(ClientError::Api(ErrorInfo::new(ErrorCode::BadRequest, text)));
        };
        let (link, response) =
            socket.send(Method::POST, path, Some(body), "text/event-stream").await?;
        let route = events_route(path);
        if !response.status().is_success() {
            return Err(error_of(&route, response).await);
        }
        let events = response
            .headers()
            .get(CONTENT_TYPE)
            .is_some_and(|value| value.as_bytes().starts_with(b"text/event-stream"));
        if !events {
            return Err(not_understood(&route, "not an event stream"));
        }
        Ok(Events {
            route,
            open: Some((link, response.into_body())),
            pool: socket.pool.clone(),
            reader: SseReader::new(MAX_EVENT_BYTES),
            ready: VecDeque::new(),
        })
    }
}

fn events_route(path: &str) -> String {
    format!("POST {path}")
}

/// A streamed call. Dropping it closes the connection, which cancels the call at the far end.
#[derive(Debug)]
pub struct CallStream(Source);

enum Source {
    Socket(Events),
    Inside { events: BoxStream<'static, CallEvent>, ended: bool },
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(events) => events.fmt(f),
            Self::Inside { ended, .. } => f.debug_struct("Inside").field("ended", ended).finish(),
        }
    }
}

impl CallStream {
    /// The next event; `None` after the last one (`done` or `error`). Cancel-safe.
    ///
    /// # Errors
    /// [`ClientError::Closed`] when the node goes away before the last event; the call's outcome is then unknown.
    pub async fn next(&mut self) -> Result<Option<CallEvent>, ClientError> {
        match &mut self.0 {
            Source::Inside { ended: true, .. } => Ok(None),
            Source::Inside { events, ended } => match events.next().await {
                Some(event) => {
                    *ended = event.is_last();
                    Ok(Some(event))
                }
                None => Err(ClientError::Closed(None)),
            },
            Source::Socket(events) => loop {
                let Some(event) = events.next().await? else { return Ok(None) };
                let event = CallEvent::parse(&event.name, &event.data)
                    .map_err(|error| not_understood(&events.route, &error.to_string()))?;
                let Some(event) = event else { continue };
                if event.is_last() {
                    events.end();
                }
                return Ok(Some(event));
            },
        }
    }
}

/// An endpoint that a node serves for as long as this is held.
#[derive(Debug)]
pub struct EndpointStream {
    opened: EndpointOpened,
    events: Events,
}

impl EndpointStream {
    /// Where it listens.
    #[must_use]
    pub fn opened(&self) -> &EndpointOpened {
        &self.opened
    }

    /// Waits until the node ends it, which it does only when it ends itself.
    pub async fn ended(&mut self) {
        while let Ok(Some(_)) = self.events.next().await {}
    }
}

/// The events of one answer that comes over the socket.
#[derive(Debug)]
struct Events {
    route: String,
    /// None after the last event.
    open: Option<(Link, Incoming)>,
    pool: Pool,
    reader: SseReader,
    ready: VecDeque<SseEvent>,
}

impl Events {
    /// The next event; `None` after [`Events::end`]. Cancel-safe.
    async fn next(&mut self) -> Result<Option<SseEvent>, ClientError> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(Some(event));
            }
            let Some((_, body)) = &mut self.open else { return Ok(None) };
            let frame = match body.frame().await {
                Some(Ok(frame)) => frame,
                Some(Err(error)) => return Err(ClientError::Closed(Some(error))),
                None => return Err(ClientError::Closed(None)),
            };
            let Ok(bytes) = frame.into_data() else { continue };
            let mut events = Vec::new();
            self.reader.feed(&bytes, &mut events).map_err(|error| match error {
                SseError::TooLarge { limit } => ClientError::TooLarge { limit },
                SseError::NotUtf8 => not_understood(&self.route, &error.to_string()),
            })?;
            self.ready.extend(events);
        }
    }

    /// What comes yet is of no interest; the connection is.
    fn end(&mut self) {
        self.ready.clear();
        if let Some((link, body)) = self.open.take() {
            self.pool.give_back(link, body);
        }
    }
}
