//! Local web services as specialists, against a small server on loopback.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use comity_specialist::http::{Http, HttpConfig, HttpError};
use comity_specialist::{Answer, Specialist, SpecialistError};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::common::{invocation, one, parts, within};

type Body = StreamBody<BoxStream<'static, Result<Frame<Bytes>, Infallible>>>;

fn body(chunks: impl futures_util::Stream<Item = Bytes> + Send + 'static) -> Body {
    StreamBody::new(chunks.map(|chunk| Ok(Frame::data(chunk))).boxed())
}

fn whole(text: impl Into<Bytes>) -> Body {
    body(futures_util::stream::iter([text.into()]))
}

/// Chunks without end, counted as they are taken.
fn endless(chunk: &'static [u8], taken: Arc<AtomicUsize>) -> Body {
    body(futures_util::stream::repeat_with(move || {
        taken.fetch_add(1, Ordering::Relaxed);
        Bytes::from_static(chunk)
    }))
}

async fn answer(
    request: Request<Incoming>,
    taken: Arc<AtomicUsize>,
) -> Result<Response<Body>, Infallible> {
    assert_eq!(request.method(), Method::POST);
    assert_eq!(request.headers()["content-type"], "application/json");
    let path = request.uri().path().to_owned();
    let sent = request.into_body().collect().await.unwrap().to_bytes();
    let status = path.strip_prefix("/status/").and_then(|code| code.parse().ok()).unwrap_or(200);
    let response = Response::builder().status(status);
    let ndjson = "application/x-ndjson; charset=utf-8";
    let response = match path.as_str() {
        "/echo" => response.header("content-type", "application/json").body(whole(sent)),
        "/garbage" => response.body(whole("<html>no</html>")),
        "/empty" => response.body(whole("")),
        "/report" => response.body(whole(r#"{"error":{"message":"not today"}}"#)),
        "/large" => response.body(whole(format!("\"{}\"", "x".repeat(100_000)))),
        "/endless" => response.body(endless(&[b' '; 4096], taken)),
        "/hang" => response.body(body(futures_util::stream::pending())),
        "/lines" => response.header("content-type", ndjson).body(body(futures_util::stream::iter(
            ["{\"n\":1}\n{\"n", "\":2}\r\n\n", "  \n{\"n\":3}"].map(Bytes::from),
        ))),
        "/lines/bad" => response.header("content-type", ndjson).body(whole("1\nnonsense\n3\n")),
        "/lines/report" => response
            .header("content-type", ndjson)
            .body(whole("1\n{\"error\":{\"message\":\"ran out\"}}\n3\n")),
        "/lines/endless" => {
            response.header("content-type", ndjson).body(endless(b"[1,2,3]\n", taken))
        }
        "/lines/long" => response.header("content-type", ndjson).body(endless(b"xxxxxxxx", taken)),
        "/lines/then-hang" => response.header("content-type", ndjson).body(body(
            futures_util::stream::iter([Bytes::from_static(b"1\n")])
                .chain(futures_util::stream::pending()),
        )),
        "/moved" => Response::builder().status(302).header("location", "/echo").body(whole("")),
        _ => response.body(whole(r#"{"error":{"message":"because"}}"#)),
    };
    Ok(response.unwrap())
}

struct Server {
    base: String,
    taken: Arc<AtomicUsize>,
}

async fn server() -> Server {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let taken = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&taken);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let counter = Arc::clone(&counter);
            let service = service_fn(move |request| answer(request, Arc::clone(&counter)));
            // A client that goes away mid-answer is part of the tests.
            tokio::spawn(async move {
                drop(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await,
                )
            });
        }
    });
    Server { base, taken }
}

impl Server {
    fn at(&self, path: &str) -> Http {
        Http::new(self.config(path)).unwrap()
    }

    fn config(&self, path: &str) -> HttpConfig {
        HttpConfig::new(format!("{}{path}", self.base))
    }
}

#[tokio::test]
async fn a_service_answers() {
    let server = server().await;
    let echo = server.at("/echo");
    for n in 0..3 {
        let request = json!({ "n": n, "text": "ünïcode" });
        assert_eq!(one(&echo, request.clone()).await, Ok(request));
    }
}

#[tokio::test]
async fn statuses_become_named_errors() {
    let server = server().await;
    for (status, code) in [
        (400, "invalid-request"),
        (422, "invalid-request"),
        (413, "invalid-request"),
        (401, "unavailable"),
        (403, "unavailable"),
        (404, "unavailable"),
        (405, "unavailable"),
        (408, "unavailable"),
        (409, "reported"),
        (429, "busy"),
        (500, "crashed"),
        (502, "unavailable"),
        (503, "busy"),
        (504, "unavailable"),
        (204, "garbage-answer"),
        (302, "garbage-answer"),
    ] {
        let error = one(&server.at(&format!("/status/{status}")), json!({})).await.unwrap_err();
        assert_eq!(error.code(), code, "{status}: {error}");
        if matches!(status, 400 | 409 | 422) {
            assert!(error.to_string().contains("because"), "the service's own words: {error}");
        }
    }
    assert_eq!(one(&server.at("/moved"), json!({})).await.unwrap_err().code(), "garbage-answer");
}

#[tokio::test]
async fn answers_that_are_none_are_named() {
    let server = server().await;
    for path in ["/garbage", "/empty"] {
        assert_eq!(
            one(&server.at(path), json!({})).await.unwrap_err().code(),
            "garbage-answer",
            "{path}"
        );
    }
    assert_eq!(
        one(&server.at("/report"), json!({})).await,
        Err(SpecialistError::reported("not today"))
    );
}

#[tokio::test]
async fn sizes_and_times_are_bounded() {
    let server = server().await;
    let limited = HttpConfig { max_body_bytes: 50_000, ..server.config("/large") };
    assert_eq!(
        one(&Http::new(limited).unwrap(), json!({})).await,
        Err(SpecialistError::AnswerTooLarge { limit: 50_000 })
    );
    let limited = HttpConfig { max_body_bytes: 1_000_000, ..server.config("/endless") };
    assert_eq!(
        one(&Http::new(limited).unwrap(), json!({})).await,
        Err(SpecialistError::AnswerTooLarge { limit: 1_000_000 })
    );
    let deadline = Duration::from_millis(30);
    let outcome = server.at("/hang").call(within(json!({}), deadline)).await;
    assert_eq!(outcome.unwrap_err(), SpecialistError::Timeout { after: deadline });
}

#[tokio::test]
async fn lines_are_streamed_whatever_the_chunks() {
    let server = server().await;
    assert_eq!(
        parts(&server.at("/lines"), json!({})).await,
        Ok(vec![json!({ "n": 1 }), json!({ "n": 2 }), json!({ "n": 3 })])
    );
}

#[tokio::test]
async fn a_bad_line_ends_the_stream() {
    let server = server().await;
    for (path, code) in [
        ("/lines/bad", "garbage-answer"),
        ("/lines/report", "reported"),
        ("/lines/long", "answer-too-large"),
    ] {
        let Answer::Stream(stream) = server.at(path).call(invocation(json!({}))).await.unwrap()
        else {
            panic!("{path}")
        };
        let items: Vec<_> = stream.collect().await;
        assert_eq!(items.last().unwrap().as_ref().unwrap_err().code(), code, "{path}");
        assert!(items.iter().filter(|item| item.is_err()).count() == 1);
    }
    let limited = HttpConfig { max_stream_bytes: 10_000, ..server.config("/lines/endless") };
    let outcome = parts(&Http::new(limited).unwrap(), json!({})).await;
    assert_eq!(outcome, Err(SpecialistError::AnswerTooLarge { limit: 10_000 }));
}

#[tokio::test]
async fn a_slow_reader_slows_the_service_down() {
    let server = server().await;
    let Answer::Stream(mut stream) =
        server.at("/lines/endless").call(invocation(json!({}))).await.unwrap()
    else {
        panic!("a stream was promised")
    };
    for _ in 0..10 {
        assert_eq!(stream.next().await, Some(Ok(json!([1, 2, 3]))));
    }
    // What is in flight is bounded by socket buffers (a few MiB), not by what the service could send.
    let sent = server.taken.load(Ordering::Relaxed) * 8;
    assert!(sent < 64 * 1024 * 1024, "{sent} bytes taken from the service");
}

#[tokio::test]
async fn cancelling_ends_a_stream() {
    let server = server().await;
    let call = invocation(json!({}));
    let cancel = call.cancel.clone();
    let Answer::Stream(mut stream) = server.at("/lines/then-hang").call(call).await.unwrap() else {
        panic!("a stream was promised")
    };
    assert_eq!(stream.next().await, Some(Ok(json!(1))));
    cancel.cancel();
    assert_eq!(stream.next().await, Some(Err(SpecialistError::Cancelled)));
    assert_eq!(stream.next().await, None);
}

#[tokio::test]
async fn a_service_that_is_not_there_is_unavailable() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    drop(listener);
    let gone = Http::new(HttpConfig::new(url)).unwrap();
    assert_eq!(one(&gone, Value::Null).await.unwrap_err().code(), "unavailable");
}

#[test]
fn urls_that_cannot_be_called_are_refused() {
    let refused = |url: &str| Http::new(HttpConfig::new(url)).unwrap_err();
    assert!(matches!(refused("https://example.org/"), HttpError::Https { .. }));
    assert!(refused("https://example.org/").to_string().contains("local proxy"));
    assert_eq!(refused("http://user:secret@example.org/"), HttpError::Credentials);
    for wrong in ["", "/path", "example.org", "ftp://example.org/", "http://", "not a url"] {
        assert!(matches!(refused(wrong), HttpError::NotAUrl { .. }), "{wrong}");
    }
}
