//! MCP and A2A clients of this machine at ports of the node itself.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use serde_json::{Value, json};

use crate::e2e_mcp::{Session, http, moody_server, two_nodes};
use crate::e2e_support::{Node, World, api, notes, wait};

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

/// A node with a port for programs of this machine, where it listens, and what a request there says of itself.
fn with_port(world: &World, server: &Node) -> (Node, SocketAddr, String) {
    let ticket = server.ticket();
    let node = world.node("caller", &["--join", &ticket, "--http", "127.0.0.1:0"]);
    node.wait_joined();
    let open = &endpoints(&node)[0];
    assert_eq!((&open["serves"]["kind"], &open["unauthenticated"]), (&json!("all"), &json!(false)));
    let listen = open["listen"].as_str().unwrap().parse().unwrap();
    let token = std::fs::read_to_string(node.home.join("mcp.token")).unwrap();
    (node, listen, format!("host: localhost\r\nauthorization: Bearer {}", token.trim()))
}

/// What the node says that it has open.
fn endpoints(node: &Node) -> Vec<Value> {
    let status = node.ok(&["--json", "status"]).json();
    status["endpoints"].as_array().cloned().unwrap_or_default()
}

#[test]
fn a_nodes_own_port_has_everything_and_lets_nobody_else_in() {
    let world = World::new();
    let server = world.node("server", &[]);
    let (caller, listen, bearer) = with_port(&world, &server);
    server.ok(&["serve", "--mcp", &moody_server(&world), "--whole", "--public", "--yes"]);
    let whole = format!("/mcp/{}/moody-server", server.address());
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
    let shown = json!({"listen": address, "serves": {"kind": "network", "allow_exec": false}, "unauthenticated": true});
    assert_eq!(endpoints(&caller), [shown]);
    let told = caller.ok(&["status"]).stdout;
    assert!(told.contains(&format!("http://{address}/mcp")), "{told}");
    // It is the node that listens, and it stops when the command is killed, which can say nothing.
    drop(first);
    wait("nobody listens any more", || TcpStream::connect(address).is_err().then_some(()));
    assert_eq!(endpoints(&caller), Vec::<Value>::new());

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

#[test]
fn a_servers_moods_come_through_a_nodes_own_port_and_end_there() {
    let world = World::new();
    let server = world.node("server", &[]);
    let (_caller, listen, bearer) = with_port(&world, &server);
    server.ok(&["serve", "--mcp", &moody_server(&world), "--whole", "--public", "--yes"]);
    let line = format!("POST /mcp/{}/moody-server HTTP/1.1\r\n{bearer}", server.address());
    let open = || {
        let (_, head, _) = http(listen, &line, HELLO);
        let session = head.lines().find(|line| line.starts_with("mcp-session-id: ")).unwrap();
        format!("{line}\r\n{session}")
    };
    let line = open();
    let say = |id: u32, mood: &str| {
        let params = json!({"name": "Say_It", "arguments": {"mood": mood}});
        let call = json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params});
        http(listen, &line, &call.to_string()).2
    };
    // Junk on its output, thousands of notifications, other tools than were listed.
    let junk = say(1, "junk");
    assert!(junk.contains("\"text\":\"junk\"") && !junk.contains("no message"), "{junk}");
    let flood = say(2, "flood");
    assert_eq!(flood.matches("notifications/message").count(), 3_000);
    assert!(flood.contains("\"text\":\"flooded\""));
    assert!(say(3, "change").contains("\"text\":\"changed\""));
    let list = r#"{"jsonrpc":"2.0","id":4,"method":"tools/list"}"#;
    assert!(http(listen, &line, list).2.contains("\"more\""));
    assert!(say(5, "sorry").contains("\"isError\":true"));

    // It never answers: its id is taken for as long as the client waits, cancelling what is not under way is nothing, and a client that
    // goes away ends the call at the far peer.
    let silent = r#"{"jsonrpc":"2.0","id":7,"method":"prompts/list"}"#;
    let mut waiting = TcpStream::connect(listen).unwrap();
    let length = silent.len();
    write!(
        waiting,
        "{line}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{silent}"
    )
    .unwrap();
    let in_flight =
        || api(&server.home, "GET", "/v1/status", None).unwrap().1["calls"]["in_flight"].clone();
    wait("the far peer works on it", || (in_flight() == 1).then_some(()));
    let again = say(7, "calm");
    assert!(again.contains("-32603") && again.contains("under way"), "{again}");
    let late = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":99}}"#;
    assert_eq!(http(listen, &line, late).0, 202);
    drop(waiting);
    wait("nothing runs at the far peer any more", || (in_flight() == 0).then_some(()));
    assert!(say(7, "calm").contains("\"text\":\"said\""));

    // It dies in the middle: the client is told, its session is over, and the next one has a new program.
    let died = say(8, "die");
    assert!(died.contains("-32603") && died.contains("ended"), "{died}");
    assert_eq!(http(listen, &line, list).0, 404);
    let line = open();
    assert!(http(listen, &line, list).2.contains("\"private\""));
}

#[test]
fn malformed_messages_at_a_nodes_own_port_get_the_errors_of_json_rpc() {
    let world = World::new();
    let server = world.node("server", &[]);
    let (_caller, listen, bearer) = with_port(&world, &server);
    let line = format!("POST /mcp HTTP/1.1\r\n{bearer}");
    let (_, head, _) = http(listen, &line, HELLO);
    let session = head.lines().find(|line| line.starts_with("mcp-session-id: ")).unwrap();
    let line = format!("{line}\r\n{session}");
    let deep = format!(
        "{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\",\"params\":{}{}}}",
        "[".repeat(5_000),
        "]".repeat(5_000)
    );
    for (body, status, code) in [
        ("nonsense", 400, -32700),
        ("\"text\"", 400, -32600),
        (r#"{"id":1,"method":"ping"}"#, 400, -32600),
        (r#"{"jsonrpc":"2.0","id":{},"method":"ping"}"#, 400, -32600),
        (r#"{"jsonrpc":"2.0","id":1,"method":7}"#, 400, -32600),
        (r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":3}"#, 400, -32600),
        (deep.as_str(), 400, -32700),
        (r#"{"jsonrpc":"2.0","id":1,"method":"no/such"}"#, 200, -32601),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"call","arguments":[]}}"#,
            200,
            -32602,
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"no-such-tool"}}"#,
            200,
            -32602,
        ),
    ] {
        let (found, _, text) = http(listen, &line, body);
        let error: Value = serde_json::from_str(&text).unwrap_or_default();
        let seen = (found, error["error"]["code"].as_i64());
        assert_eq!(seen, (status, Some(code)), "{}: {text}", &body[..body.len().min(80)]);
    }
    let large = format!("{PING}{}", " ".repeat(4 << 20));
    let mut stream = TcpStream::connect(listen).unwrap();
    // The refusal comes before all of it was taken.
    let _ = write!(
        stream,
        "{line}\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{large}",
        large.len()
    );
    let mut head = [0; 12];
    stream.read_exact(&mut head).unwrap();
    assert_eq!(&head, b"HTTP/1.1 413");
    let version = format!("{line}\r\nmcp-protocol-version: 1999-01-01");
    assert_eq!(http(listen, &version, PING).0, 400);
    let text = line.replace("POST", "PUT");
    assert_eq!(http(listen, &text, PING).0, 405);
    assert_eq!(http(listen, &line, PING).0, 200);
}
