//! Specialists that misbehave: a named error each, and other calls do not notice.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};

use serde_json::{Value, json};

use crate::e2e_support::{Node, World, alive, copies, moody_program, notes, wait};

struct Cast {
    _world: World,
    server: Node,
    caller: Node,
    target: String,
    notes: std::path::PathBuf,
}

/// A moody program with a time limit of two seconds and a well-behaved one, on one node; and a caller on another.
fn cast() -> Cast {
    let world = World::new();
    let server = world.node("server", &[]);
    let caller = world.joined("caller", &server);
    let (moody, notes) = moody_program(&world, "moody");
    let (steady, _) = moody_program(&world, "steady");
    for (name, command) in [("moody", &moody), ("steady", &steady)] {
        server.ok(&[
            "serve",
            "--exec",
            command,
            "--name",
            name,
            "--call-timeout",
            "2s",
            "--public",
            "--yes",
        ]);
    }
    let target = format!("{}/moody", server.address());
    Cast { _world: world, server, caller, target, notes }
}

impl Cast {
    fn fails(&self, mode: &str) -> (i32, String, String) {
        let input = json!({ "mode": mode }).to_string();
        let run = self.caller.run(&["--json", "call", &self.target, "--json", &input]);
        let error: Value = serde_json::from_str(&run.stderr)
            .unwrap_or_else(|_| panic!("{mode}: {}{}", run.stdout, run.stderr));
        let text = |name: &str| error["error"][name].as_str().unwrap().to_owned();
        (run.code, text("code"), text("message"))
    }

    fn works(&self) {
        // The program is being started again after what it did: until then the answer is "not available".
        wait("the program answers again", || {
            let run = self.caller.run(&["call", &self.target, "--json", "{\"n\": 1}"]);
            (run.code == 0 && run.json() == json!({"echo": {"n": 1}})).then_some(())
        });
    }
}

#[test]
fn a_program_that_misbehaves_gives_named_errors_and_recovers() {
    let cast = cast();
    cast.works();
    for (mode, exit, code, said) in [
        ("crash", 6, "specialist_failed", "crashed during the call (exit status: 3"),
        ("garbage", 6, "specialist_failed", "unusable answer"),
        ("sorry", 6, "specialist_failed", "no rates on Sundays"),
        ("flood", 2, "too_large", "exceeds 4194304 bytes"),
        ("hang", 7, "timeout", "no answer within"),
    ] {
        let (got_exit, got_code, message) = cast.fails(mode);
        assert_eq!((got_exit, got_code.as_str()), (exit, code), "{mode}: {message}");
        assert!(message.contains(said), "{mode}: {message}");
        cast.works();
    }
    // Endless output: the first line may count as the answer, but whoever asks next gets its own answer or a named error.
    let input = r#"{"mode": "chatter"}"#;
    let run = cast.caller.run(&["call", &cast.target, "--json", input]);
    assert!(run.code == 6 || run.json() == json!({"a": 1}), "{}{}", run.stdout, run.stderr);
    cast.works();
}

#[test]
fn a_hanging_program_delays_nobody_else() {
    let cast = cast();
    let steady = format!("{}/steady", cast.server.address());
    let deadline = ["--timeout", "30s"];
    let mut line = vec!["call", &cast.target, "--json", r#"{"mode": "hang"}"#];
    line.extend(deadline);
    let mut hanging = cast.caller.background(&line);
    wait("it hangs", || (!notes(&cast.notes).is_empty()).then_some(()));
    for n in 0..5 {
        let input = json!({ "n": n });
        let run = cast.caller.ok(&["call", &steady, "--json", &input.to_string()]);
        assert_eq!(run.json(), json!({ "echo": input }));
        assert!(cast.caller.finds("named steady").contains(&steady));
    }
    assert_eq!(hanging.wait().unwrap().code(), Some(7), "its own time limit ends it");
    let calls = &cast.server.status()["calls"];
    assert_eq!((&calls["served"], &calls["served_failed"]), (&json!(6), &json!(1)), "{calls}");
}

#[test]
fn a_callers_own_deadline_is_kept_and_named() {
    let cast = cast();
    let line =
        ["--json", "call", &cast.target, "--json", r#"{"mode": "hang"}"#, "--timeout", "300ms"];
    let run = cast.caller.run(&line);
    assert_eq!((run.code, run.error_code().as_str()), (7, "timeout"), "{}", run.stderr);
    wait("its program was stopped", || {
        copies(&cast.notes).first().is_some_and(|pid| !alive(pid)).then_some(())
    });
    cast.works();
}

#[test]
fn what_cannot_be_started_is_refused_when_it_is_served() {
    let world = World::new();
    let server = world.node("server", &[]);
    let run =
        server.run(&["--json", "serve", "--exec", "/nonexistent/program", "--name", "x", "--yes"]);
    assert_eq!((run.code, run.error_code().as_str()), (5, "bad_manifest"), "{}", run.stderr);
    assert!(run.stderr.contains("/nonexistent/program"), "{}", run.stderr);
    assert!(server.serves().is_empty());
}

/// What a web service does with one request, by the request's `mode`.
fn web_answer(mode: &str, request: &Value, stream: &mut TcpStream) -> std::io::Result<()> {
    let (head, body) = match mode {
        "fail" => {
            ("500 Internal Server Error", json!({"error": "no rates on Sundays"}).to_string())
        }
        "garbage" => ("200 OK", "<html>welcome</html>".to_owned()),
        "moved" => ("302 Found", String::new()),
        "large" => ("200 OK", json!("x".repeat(9 << 20)).to_string()),
        // The connection is closed without an answer.
        "gone" => return Ok(()),
        _ => ("200 OK", json!({ "echo": request }).to_string()),
    };
    write!(
        stream,
        "HTTP/1.1 {head}\r\ncontent-type: application/json\r\nlocation: /elsewhere\r\n"
    )?;
    write!(stream, "connection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

fn web_request(stream: &TcpStream) -> std::io::Result<Value> {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let line = line.trim().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(serde_json::from_slice(&body).unwrap())
}

/// A web service on a free port; ends with the test process.
fn web_service() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let mut stream = stream;
                let Ok(request) = web_request(&stream) else { return };
                let mode = request["mode"].as_str().unwrap_or_default().to_owned();
                if mode == "hang" {
                    // Until the other side gives up.
                    let _ = stream.read(&mut [0]);
                    return;
                }
                let _ = web_answer(&mode, &request, &mut stream);
            });
        }
    });
    format!("http://{address}/answer")
}

#[test]
fn a_web_service_is_called_and_its_failures_are_named() {
    let world = World::new();
    let server = world.node("server", &[]);
    let caller = world.joined("caller", &server);
    let url = web_service();
    server.ok(&[
        "serve",
        "--http",
        &url,
        "--name",
        "web",
        "--call-timeout",
        "2s",
        "--public",
        "--yes",
    ]);
    let target = format!("{}/web", server.address());
    let call = |mode: &str| {
        let input = json!({ "mode": mode }).to_string();
        caller.run(&["--json", "call", &target, "--json", &input])
    };
    for (mode, exit, code) in [
        ("fail", 6, "specialist_failed"),
        ("garbage", 6, "specialist_failed"),
        ("moved", 6, "specialist_failed"),
        ("gone", 6, "specialist_failed"),
        ("large", 2, "too_large"),
        ("hang", 7, "timeout"),
    ] {
        let run = call(mode);
        assert_eq!((run.code, run.error_code().as_str()), (exit, code), "{mode}: {}", run.stderr);
        let fine = call("fine");
        assert_eq!(fine.code, 0, "{}", fine.stderr);
        assert_eq!(fine.json()["output"]["value"], json!({"echo": {"mode": "fine"}}));
    }
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{nobody}/");
    server.ok(&["serve", "--http", &url, "--name", "web", "--public", "--yes"]);
    let run = call("fine");
    assert_eq!((run.code, run.error_code().as_str()), (6, "specialist_failed"), "{}", run.stderr);
    assert!(run.stderr.contains("not available"), "{}", run.stderr);
}
