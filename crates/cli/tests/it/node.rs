//! Commands against a node that answers from a script: what reaches it, and which exit code comes of its answer.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::sync::mpsc;

use serde_json::{Value, json};

use crate::support::{Run, comity};

/// A node that gives every request the same answer and reports the requests.
struct Script {
    home: tempfile::TempDir,
    requests: mpsc::Receiver<(String, Value)>,
}

impl Script {
    fn new(status: u16, kind: &'static str, body: impl Into<String>) -> Self {
        let home = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(home.path().join("api.sock")).unwrap();
        let (sender, requests) = mpsc::channel();
        let body = body.into();
        // Ends with the process; it holds nothing but its socket.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let Some(request) = read_request(&mut stream) else { continue };
                if sender.send(request).is_err() {
                    return;
                }
                let head = format!(
                    "HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                    body.len()
                );
                let _ = stream.write_all((head + &body).as_bytes());
            }
        });
        Self { home, requests }
    }

    fn json(status: u16, body: &Value) -> Self {
        Self::new(status, "application/json", body.to_string())
    }

    fn run(&self, args: &[&str]) -> Run {
        comity(self.home.path(), args)
    }

    /// The requests that came in so far, without the connections that only knocked.
    fn requests(&self) -> Vec<(String, Value)> {
        self.requests.try_iter().collect()
    }
}

/// First line and JSON body of a request; `None` when the client only knocked.
fn read_request(stream: &mut impl Read) -> Option<(String, Value)> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .filter_map(|line| line.split_once(": "))
                .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
                .map_or(0, |(_, value)| value.parse::<usize>().unwrap());
            if body.len() >= length {
                let line = head.lines().next().unwrap().trim_end_matches(" HTTP/1.1").to_owned();
                return Some((line, serde_json::from_str(body).unwrap_or(Value::Null)));
            }
        }
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return None,
            Ok(read) => bytes.extend_from_slice(&buffer[..read]),
        }
    }
}

fn nothing_found() -> Value {
    json!({
        "query": "fx", "matches": [], "near_misses": [],
        "search": {"custodians_asked": 2, "custodians_answered": 2, "candidates": 0, "rejected": 0,
                   "truncated": false, "elapsed_ms": 3}
    })
}

#[test]
fn finding_nothing_is_an_answer_with_an_exit_code_of_its_own() {
    let node = Script::json(200, &nothing_found());
    let run = node.run(&["find", "historical", "FX", "--explain", "--top", "3", "--timeout", "2s"]);
    assert_eq!(run.code, 4, "{}", run.stderr);
    assert!(run.stdout.contains("none: no capability satisfies every condition"));
    let wanted = json!({"query": "historical FX", "explain": true, "limit": 3, "timeout_ms": 2000});
    assert_eq!(node.requests(), [("POST /v1/find".to_owned(), wanted)]);
    let run = node.run(&["find", "{\"text\": \"fx\"}", "--json"]);
    assert_eq!((run.code, run.json()), (4, nothing_found()));
    assert_eq!(node.requests()[0].1["query"], json!({"text": "fx"}));
}

#[test]
fn every_code_of_the_api_has_its_exit_code() {
    for (code, status, exit) in [
        ("bad_query", 400, 2),
        ("not_found", 404, 4),
        ("bad_input", 422, 5),
        ("unreachable", 502, 6),
        ("timeout", 504, 7),
    ] {
        let body =
            json!({"error": {"code": code, "message": "what happened", "hint": "what to do"}});
        let node = Script::json(status, &body);
        for args in [&["peers"][..], &["find", "fx"], &["call", "rates"], &["show", "fd00::1"]] {
            let run = node.run(args);
            assert_eq!(run.code, exit, "{code} {args:?}");
            assert_eq!(run.stderr, "error: what happened\nhint: what to do\n");
        }
        let error: Value = serde_json::from_str(&node.run(&["--json", "peers"]).stderr).unwrap();
        assert_eq!(error, body);
    }
}

#[test]
fn a_call_sends_its_input_and_its_options() {
    let node = Script::new(
        200,
        "text/event-stream",
        "event: error\ndata: {\"code\":\"call_failed\",\"message\":\"nobody answered\"}\n\n",
    );
    let args = [
        "call",
        "fd00::1/rates",
        "--json",
        "{\"limit\": 3}",
        "--timeout",
        "500ms",
        "--attempts",
        "2",
    ];
    let run = node.run(&args);
    assert_eq!((run.code, run.stderr.as_str()), (6, "error: nobody answered\n"));
    let wanted = json!({"target": "fd00::1/rates", "input": {"limit": 3}, "timeout_ms": 500, "max_attempts": 2});
    assert_eq!(node.requests(), [("POST /v1/call".to_owned(), wanted)]);
    let input = node.home.path().join("input.json");
    std::fs::write(&input, "[1]").unwrap();
    node.run(&["call", "rates", "--input", input.to_str().unwrap()]);
    assert_eq!(node.requests()[0].1, json!({"target": "rates", "input": [1]}));
}

#[test]
fn an_answer_whose_receipt_does_not_fit_is_not_shown() {
    let receipt = json!({
        "receipt_cbor": "a0",
        "receipt": {"caller": "a", "callee": "b", "capability": "c", "descriptor": "d", "interface": "i", "request": "r",
                    "response": "r", "status": 0, "received_at_ms": 1, "answered_at_ms": 2, "valid_until_ms": 3}
    });
    let done = json!({"target": "t", "streamed": false, "items": 1, "bytes": 1, "elapsed_us": 1, "attempt_us": 1});
    let chunk = "event: chunk\ndata: {\"index\":0,\"value\":\"secret answer\"}\n\n";
    let forged = format!("{chunk}event: receipt\ndata: {receipt}\n\nevent: done\ndata: {done}\n\n");
    let without = format!("{chunk}event: done\ndata: {done}\n\n");
    for events in [forged, without] {
        let run = Script::new(200, "text/event-stream", events).run(&["call", "rates"]);
        assert_eq!(run.code, 8, "{}", run.stderr);
        assert!(
            !run.stdout.contains("secret answer") && run.stderr.contains("do not use"),
            "{}",
            run.stderr
        );
    }
}

#[test]
fn serving_asks_first_and_sends_absolute_paths() {
    let draft = json!({"mode": "dry_run", "findings": []});
    let node = Script::json(200, &draft);
    let table = node.home.path().join("t.csv");
    std::fs::write(&table, "a,b\n1,2\n").unwrap();
    let run = node.run(&[
        "serve",
        "--table",
        table.to_str().unwrap(),
        "--name",
        "t",
        "--attribute",
        "my:rows=5",
    ]);
    assert_eq!(run.code, 2, "nobody is there to confirm: {}", run.stderr);
    assert!(run.stderr.contains("--yes"), "{}", run.stderr);
    let requests = node.requests();
    assert_eq!(requests.len(), 1, "nothing was published");
    assert_eq!(requests[0].1["mode"], "dry_run");
    let path = std::fs::canonicalize(&table).unwrap();
    assert_eq!(requests[0].1["source"], json!({"kind": "table", "path": path}));
    assert_eq!(requests[0].1["overrides"], json!({"name": "t", "attributes": {"my:rows": 5}}));

    assert_eq!(node.run(&["serve", "--exec", "run 'a b'", "--yes"]).code, 0);
    let requests = node.requests();
    assert_eq!((requests.len(), &requests[0].1["mode"]), (1, &json!("publish")));
    assert_eq!(requests[0].1["source"]["command"], json!(["run", "a b"]));
}

#[test]
fn a_check_with_errors_is_bad_data() {
    let finding =
        json!({"level": "error", "field": "name", "message": "is missing", "fix": "add --name"});
    let node = Script::json(200, &json!({"mode": "check", "findings": [finding]}));
    let run = node.run(&["serve", "--exec", "run", "--check"]);
    assert_eq!(run.code, 5);
    assert!(
        run.stdout.contains("error name: is missing") && run.stdout.contains("not publishable"),
        "{}",
        run.stdout
    );
}

#[test]
fn a_second_node_in_one_home_is_refused() {
    let node = Script::json(200, &json!({}));
    for args in [&["--json", "up"][..], &["--json", "up", "--detach"]] {
        let run = node.run(args);
        assert_eq!((run.code, run.error_code().as_str()), (9, "home_in_use"), "{args:?}");
    }
}
