//! Nonsense on the API socket: a named error or a closed connection, and the node goes on.

use std::io::Write;
use std::os::unix::net::UnixStream;

use serde_json::{Value, json};

use crate::e2e_support::{World, api, raw_request};

/// Largest request body (`comity_api::MAX_REQUEST_BYTES`).
const BODY_MAX: usize = comity_api::MAX_REQUEST_BYTES;

fn head(method: &str, path: &str, length: &str) -> String {
    format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    )
}

fn post(path: &str, body: &str) -> String {
    head("POST", path, &body.len().to_string()) + body
}

fn code_of(answer: &str) -> (u16, String) {
    let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let body: Value = serde_json::from_str(body).unwrap_or(Value::Null);
    (status, body["error"]["code"].as_str().unwrap_or_default().to_owned())
}

#[test]
fn nonsense_on_the_socket_is_refused_and_the_node_goes_on() {
    let world = World::new();
    let mut node = world.node("a", &[]);
    let alive = || {
        let (code, status) = api(&node.home, "GET", "/v1/status", None).unwrap();
        assert_eq!((code, &status["network"]), (200, &json!("test")));
    };

    // No HTTP, or too much of it: answered 400 or 431, or just closed.
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(200_000));
    let headers =
        format!("GET /v1/status HTTP/1.1\r\nhost: x\r\n{}\r\n", "a: b\r\n".repeat(20_000));
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"hello\r\n\r\n",
        b"\0\0\0\0\r\n\r\n",
        long.as_bytes(),
        headers.as_bytes(),
    ] {
        let answer = raw_request(&node.home, &[bytes]).unwrap_or_default();
        let (status, _) = code_of(&answer);
        assert!(answer.is_empty() || (400..500).contains(&status), "{answer}");
        alive();
    }

    // HTTP that the API does not speak.
    for (request, status, code) in [
        (head("GET", "/v1/nothing", "0"), 404, "no_such_route"),
        (head("PUT", "/v1/find", "0"), 404, "no_such_route"),
        (post("/v1/find", ""), 400, "bad_request"),
        (post("/v1/call", "[]"), 400, "bad_request"),
        (post("/v1/serve", "\"\u{0}\u{1}ab\""), 400, "bad_request"),
        (post("/v1/find", "{\"query\": \"fx where\"}"), 400, "bad_query"),
        (head("GET", "/v1/show/nobody", "0"), 400, "bad_request"),
        (head("DELETE", "/v1/capabilities/nothing", "0"), 404, "not_found"),
    ] {
        let answer = raw_request(&node.home, &[request.as_bytes()]).unwrap();
        let got = code_of(&answer);
        assert_eq!((got.0, got.1.as_str()), (status, code), "{request}\n{answer}");
        alive();
    }

    // Bodies larger than allowed: said in advance, or found out on the way; and deep ones.
    let body = vec![b' '; BODY_MAX + 1];
    let announced = head("POST", "/v1/find", &body.len().to_string());
    let got = code_of(&raw_request(&node.home, &[announced.as_bytes(), &body]).unwrap());
    assert_eq!((got.0, got.1.as_str()), (413, "too_large"));
    let chunked = "POST /v1/find HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n";
    let size = format!("{:x}\r\n", body.len());
    let got =
        raw_request(&node.home, &[chunked.as_bytes(), size.as_bytes(), &body, b"\r\n0\r\n\r\n"])
            .unwrap();
    assert_eq!(code_of(&got).0, 413, "{got}");
    let deep = format!("{{\"query\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    let request = post("/v1/find", &deep);
    assert_eq!(code_of(&raw_request(&node.home, &[request.as_bytes()]).unwrap()).0, 400);
    alive();

    // Connections that say nothing, say half, or leave in the middle, keep nobody else waiting.
    let mut held = Vec::new();
    for start in ["", "POST /v1/find HTTP/1.1\r\n", &head("POST", "/v1/find", "100")] {
        let mut stream = UnixStream::connect(node.home.join("api.sock")).unwrap();
        stream.write_all(start.as_bytes()).unwrap();
        held.push(stream);
        let mut leaving = UnixStream::connect(node.home.join("api.sock")).unwrap();
        leaving.write_all(start.as_bytes()).unwrap();
    }
    alive();
    assert!(node.runs());
    node.down();
    drop(held);
}
