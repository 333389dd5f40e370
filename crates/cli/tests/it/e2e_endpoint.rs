//! MCP and A2A clients of this machine at ports of the node itself.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};

use serde_json::{Value, json};

use crate::e2e_mcp::{Session, http, moody_server, two_nodes};
use crate::e2e_support::{World, api, notes, wait};

const HELLO: &str = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}"#;
const PING: &str = r#"{"jsonrpc":"2.0","id":5,"method":"ping"}"#;

/// Where a command that serves HTTP says that it listens.
fn place(session: &mut Session) -> SocketAddr {
    let url = session.line();
    url.strip_prefix("http://").unwrap().strip_suffix("/mcp").unwrap().parse().unwrap()
}

/// The body of what comes of a post with these headers besides, if anybody listens.
fn posted(address: SocketAddr, headers: &str, body: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    let length = body.len();
    write!(stream, "POST /mcp HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{headers}content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned())
}

#[test]
fn a_nodes_own_port_has_everything_and_lets_nobody_else_in() {
    let world = World::new();
    let server = world.node("server", &[]);
    // Free a moment ago.
    let listen = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let ticket = server.ticket();
    let caller = world.node("caller", &["--join", &ticket, "--http", &listen.to_string()]);
    caller.wait_joined();
    server.ok(&["serve", "--mcp", &moody_server(&world), "--whole", "--public", "--yes"]);
    let whole = format!("/mcp/{}/moody-server", server.address());
    let token = std::fs::read_to_string(caller.home.join("mcp.token")).unwrap();
    let bearer = format!("host: localhost\r\nauthorization: Bearer {}", token.trim());
    let ask = |line: &str, headers: &str, body: &str| {
        http(listen, &format!("{line} HTTP/1.1\r\n{headers}"), body)
    };
    for path in ["/mcp", &whole, "/v1/search", "/a2a/x/0", "/nothing"] {
        let line = format!("POST {path}");
        assert_eq!(ask(&line, "host: localhost", HELLO).0, 401, "{path}");
        let named = bearer.replace("localhost", "evil.example");
        assert_eq!(ask(&line, &named, HELLO).0, 403, "{path}");
        let page = format!("{bearer}\r\norigin: https://evil.example");
        assert_eq!(ask(&line, &page, HELLO).0, 403, "{path}");
    }
    assert_eq!(ask("GET /a2a/keys.json", "host: localhost", "").0, 200);
    assert_eq!(ask("POST /nothing", &bearer, HELLO).0, 404);

    let (status, head, body) = ask("POST /mcp", &bearer, HELLO);
    assert_eq!(status, 200, "{body}");
    assert!(head.contains("mcp-session-id: ") && body.contains("\"comity\""), "{head} {body}");
    let (status, head, body) = ask(&format!("POST {whole}"), &bearer, HELLO);
    assert_eq!(status, 200, "{body}");
    assert!(head.contains(&format!("comity-producer: {}", server.address())), "{head}");
    assert!(body.contains("Moody Server"), "{body}");
    let nothing = format!("POST /mcp/{}/nothing", server.address());
    let (_, _, body) = ask(&nothing, &bearer, HELLO);
    assert!(body.contains("no capability"), "{body}");
    let (_, _, body) = ask(&format!("POST {whole}?group=nobodys"), &bearer, HELLO);
    assert!(body.contains("nobodys"), "{body}");

    // Over the API as over the command line: this machine alone.
    for listen in ["0.0.0.0:0", "[::]:0", "192.0.2.1:80"] {
        let request = json!({"listen": listen, "serves": {"kind": "all"}});
        let (status, body) = caller.post("/v1/endpoints", &request);
        assert_eq!((status, &body["error"]["code"]), (400, &json!("bad_request")), "{listen}");
    }
    let taken = caller.run(&["--json", "mcp", "--http", &listen.to_string()]);
    assert_eq!(taken.error_code(), "address_in_use", "{}", taken.stderr);
}

#[test]
fn an_endpoint_is_there_for_as_long_as_whoever_asked_for_it() {
    let (_world, server, mut caller, _) = two_nodes();
    drop(server);
    let open = ["--http", "127.0.0.1:0", "--allow-unauthenticated"];
    let mut first = Session::start(&caller.home, &open);
    let address = place(&mut first);
    assert!(posted(address, "", HELLO).unwrap().contains("comity"));
    // It is the node that listens, and it stops when the command is killed, which can say nothing.
    drop(first);
    wait("nobody listens any more", || TcpStream::connect(address).is_err().then_some(()));

    // When the node ends, the command goes on in its place.
    let mut second = Session::start(&caller.home, &open);
    let address = place(&mut second);
    assert!(posted(address, "", HELLO).is_some());
    caller.down();
    let status = r#"{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"status","_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}"#;
    let routed =
        "mcp-protocol-version: 2026-07-28\r\nmcp-method: tools/call\r\nmcp-name: status\r\n";
    wait("it is told that no node runs", || {
        posted(address, routed, status)?.contains("no node is running").then_some(())
    });
}

#[test]
fn clients_over_http_reuse_ids_cancel_late_and_go_away() {
    let (_world, server, caller, noted) = two_nodes();
    let open = ["--http", "127.0.0.1:0", "--allow-unauthenticated"];
    let mut command = Session::start(&caller.home, &open);
    let address = place(&mut command);
    let (_, head, _) = http(address, "POST /mcp HTTP/1.1\r\nhost: localhost", HELLO);
    let session = head.lines().find(|line| line.starts_with("mcp-session-id: ")).unwrap();
    let post = |body: &str| {
        http(address, &format!("POST /mcp HTTP/1.1\r\nhost: localhost\r\n{session}"), body)
    };
    let target = format!("{}/moody", server.address());
    let params =
        json!({"name": "call", "arguments": {"target": target, "arguments": {"mode": "hang"}}});
    let hang = json!({"jsonrpc": "2.0", "id": 5, "method": "tools/call", "params": params});
    let hang = hang.to_string();
    let mut going = TcpStream::connect(address).unwrap();
    let length = hang.len();
    write!(going, "POST /mcp HTTP/1.1\r\nhost: localhost\r\n{session}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{hang}").unwrap();
    wait("the far program works on it", || (!notes(&noted).is_empty()).then_some(()));
    let code = |body: &str| serde_json::from_str::<Value>(body).unwrap()["error"]["code"].clone();
    let (_, _, refused) = post(PING);
    assert_eq!(code(&refused), -32600, "{refused}");
    // Of what was never asked or is not of this form.
    for id in ["99", "{}", "null", "\"5\""] {
        let late = format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#
        );
        assert_eq!(post(&late).0, 202, "{id}");
    }
    let in_flight =
        || api(&server.home, "GET", "/v1/status", None).unwrap().1["calls"]["in_flight"].clone();
    assert_eq!(code(&post(PING).2), -32600);
    drop(going);
    wait("nothing runs at the far peer any more", || (in_flight() == 0).then_some(()));
    // The id is free again.
    wait("the id is free again", || post(PING).2.contains("\"result\"").then_some(()));
}

#[test]
fn malformed_requests_at_a_whole_servers_endpoint_harm_nothing() {
    let world = World::new();
    let server = world.node("server", &[]);
    let caller = world.joined("caller", &server);
    server.ok(&["serve", "--mcp", &moody_server(&world), "--whole", "--public", "--yes"]);
    let target = format!("{}/moody-server", server.address());
    let open = ["connect", &target, "--http", "127.0.0.1:0", "--allow-unauthenticated"];
    let mut command = Session::start(&caller.home, &open);
    let address = place(&mut command);
    let post = |body: &str| http(address, "POST /mcp HTTP/1.1\r\nhost: localhost", body);
    for (body, status) in [
        ("{", 400),
        ("[]", 400),
        ("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":7}", 400),
        ("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"no/such\"}", 400),
        (PING, 400),
    ] {
        let (found, _, text) = post(body);
        assert_eq!(found, status, "{body}: {text}");
        assert!(text.contains("\"error\""), "{body}: {text}");
    }
    let large = format!("{HELLO}{}", " ".repeat(1 << 20));
    assert_eq!(post(&large).0, 413);
    let put = http(address, "PUT /mcp HTTP/1.1\r\nhost: localhost", HELLO);
    assert_eq!(put.0, 405);
    let nobody = "GET /mcp HTTP/1.1\r\nhost: localhost\r\nmcp-session-id: nobody";
    assert_eq!(http(address, nobody, "").0, 404);
    assert!(post(HELLO).2.contains("Moody Server"));
}
