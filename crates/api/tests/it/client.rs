//! The client against nodes that misbehave; its good days are tested with the server.

use std::path::PathBuf;

use comity_api::types::{CallEvent, CallRequest, ErrorCode, Exit};
use comity_api::{Client, ClientError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;

/// A socket whose every connection reads a request head and answers with `answer`, then closes. Serves until dropped.
struct Script {
    home: tempfile::TempDir,
    task: tokio::task::JoinHandle<()>,
}

impl Script {
    fn new(answer: impl Into<Vec<u8>>) -> Self {
        let home = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(home.path().join("api.sock")).unwrap();
        let answer = answer.into();
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = vec![0; 65536];
                if matches!(stream.read(&mut head).await, Ok(n) if n > 0) {
                    let _ = stream.write_all(&answer).await;
                }
            }
        });
        Self { home, task }
    }

    fn socket(&self) -> PathBuf {
        self.home.path().join("api.sock")
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn http(status: &str, kind: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[tokio::test]
async fn no_node_is_said_plainly() {
    let home = tempfile::tempdir().unwrap();
    let error = Client::connect(home.path().join("api.sock")).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("no node is running in {}: start one with `comity up`", home.path().display())
    );
    assert_eq!(error.exit(), Exit::NotRunning);
}

#[tokio::test]
async fn a_socket_left_behind_is_no_node_either() {
    let home = tempfile::tempdir().unwrap();
    let socket = home.path().join("api.sock");
    drop(UnixListener::bind(&socket).unwrap());
    assert!(socket.exists());
    assert!(matches!(Client::connect(&socket).await, Err(ClientError::NotRunning { .. })));
}

#[tokio::test]
async fn errors_of_the_node_keep_code_and_hint() {
    let body = r#"{"error":{"code":"bad_query","message":"what?","hint":"say more"}}"#;
    let node = Script::new(http("400 Bad Request", "application/json", body));
    let error = Client::connect(node.socket()).await.unwrap().status().await.unwrap_err();
    let info = error.info();
    assert_eq!(
        (info.code, info.message.as_str(), info.hint.as_str()),
        (ErrorCode::BadQuery, "what?", "say more")
    );
    assert_eq!(error.exit(), Exit::Usage);
}

#[tokio::test]
async fn answers_of_another_shape_are_named() {
    for answer in [
        http("200 OK", "application/json", "{\"version\":1}"),
        http("200 OK", "text/html", "<html>"),
        http("502 Bad Gateway", "text/html", "<html>"),
    ] {
        let node = Script::new(answer.clone());
        let error = Client::connect(node.socket()).await.unwrap().status().await.unwrap_err();
        assert!(
            matches!(&error, ClientError::NotUnderstood { route, .. } if route == "GET /v1/status"),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn a_connection_cut_short_is_an_error() {
    for answer in ["", "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"vers"] {
        let node = Script::new(answer);
        let error = Client::connect(node.socket()).await.unwrap().status().await.unwrap_err();
        assert!(matches!(error, ClientError::Closed(_)), "{error:?}");
    }
}

#[tokio::test]
async fn an_answer_beyond_the_limit_is_refused_before_it_is_read() {
    let node = Script::new(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", u64::MAX / 2));
    let error = Client::connect(node.socket()).await.unwrap().status().await.unwrap_err();
    assert!(matches!(error, ClientError::TooLarge { .. } | ClientError::Closed(_)), "{error:?}");
}

async fn events_of(body: &str) -> Result<Vec<CallEvent>, ClientError> {
    let node =
        Script::new(format!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n{body}"));
    let request = CallRequest::new("rates", serde_json::json!({}));
    let mut stream = Client::connect(node.socket()).await?.call_stream(&request).await?;
    let mut events = Vec::new();
    while let Some(event) = stream.next().await? {
        events.push(event);
    }
    assert!(stream.next().await?.is_none(), "the end stays the end");
    Ok(events)
}

#[tokio::test]
async fn a_stream_ends_with_its_last_event() {
    let events = events_of(
        "event: chunk\ndata: {\"index\":0,\"value\":[1]}\n\nevent: later\ndata: ?\n\n: still here\n\n\
         event: error\ndata: {\"code\":\"timeout\",\"message\":\"late\"}\n\nevent: chunk\ndata: {}\n\n",
    )
    .await
    .unwrap();
    assert_eq!(events.iter().map(CallEvent::name).collect::<Vec<_>>(), ["chunk", "error"]);
}

#[tokio::test]
async fn a_stream_without_a_last_event_is_an_error() {
    let error = events_of("event: chunk\ndata: {\"index\":0,\"value\":1}\n\n").await.unwrap_err();
    assert!(matches!(error, ClientError::Closed(_)), "{error:?}");
}

#[tokio::test]
async fn a_stream_of_something_else_is_refused() {
    let node = Script::new(http("200 OK", "application/json", "{}"));
    let client = Client::connect(node.socket()).await.unwrap();
    let error =
        client.call_stream(&CallRequest::new("rates", serde_json::json!({}))).await.unwrap_err();
    assert!(matches!(error, ClientError::NotUnderstood { .. }), "{error:?}");
}
