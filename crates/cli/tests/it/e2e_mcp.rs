//! MCP clients in front of a node, MCP servers behind one: real processes, nothing played.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

use crate::e2e_support::{Node, World, api, moody_program, notes, wait};

const MODERN: &str = "2026-07-28";

/// An MCP client: a `comity mcp …` process and its pipes.
pub(crate) struct Session {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Session {
    pub(crate) fn start(home: &Path, args: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_comity"));
        command.arg("--home").arg(home).arg("mcp").args(args);
        Self::spawn(command)
    }

    fn spawn(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Self { child, stdin, stdout }
    }

    pub(crate) fn send(&mut self, line: &str) {
        writeln!(self.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        assert!(self.stdout.read_line(&mut line).unwrap() > 0, "the server ended");
        line.trim_end().to_owned()
    }

    pub(crate) fn next(&mut self) -> Value {
        serde_json::from_str(&self.line()).unwrap()
    }

    pub(crate) fn ask(&mut self, id: u64, method: &str, params: &Value) -> Value {
        self.send(
            &json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).to_string(),
        );
        loop {
            let message = self.next();
            if message["id"] == json!(id) {
                return message;
            }
        }
    }

    pub(crate) fn initialize(&mut self) -> Value {
        let params = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
        let answer = self.ask(0, "initialize", &params);
        self.send(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
        answer["result"].clone()
    }

    pub(crate) fn tool(&mut self, id: u64, name: &str, arguments: &Value) -> Value {
        let answer = self.ask(id, "tools/call", &json!({"name": name, "arguments": arguments}));
        assert!(answer.get("result").is_some(), "{answer}");
        answer["result"].clone()
    }

    /// Closes its end and returns what is still said.
    fn finish(mut self) -> String {
        self.stdin = None;
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).unwrap();
        assert!(self.child.wait().unwrap().success());
        rest
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server node with a moody capability, and a node that has joined it.
pub(crate) fn two_nodes() -> (World, Node, Node, std::path::PathBuf) {
    let world = World::new();
    let server = world.node("server", &[]);
    let caller = world.joined("caller", &server);
    let (moody, noted) = moody_program(&world, "moody");
    server.ok(&[
        "serve",
        "--exec",
        &moody,
        "--name",
        "moody",
        "--title",
        "A moody program",
        "--description",
        "Echoes what it is told, in moods.",
        "--public",
        "--yes",
    ]);
    (world, server, caller, noted)
}

#[test]
fn an_mcp_client_finds_describes_and_calls() {
    let (_world, server, caller, _) = two_nodes();
    let mut client = Session::start(&caller.home, &[]);
    let info = client.initialize();
    assert_eq!(info["protocolVersion"], "2025-11-25");
    let tools = client.ask(1, "tools/list", &json!({}));
    let names: Vec<&str> = tools["result"]["tools"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tool| tool["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["discover", "describe", "call", "ask", "publish", "status"]);
    assert!(tools["result"].get("resultType").is_none(), "{tools}");

    let target = format!("{}/moody", server.address());
    let found = wait("the capability is found", || {
        let found = client.tool(2, "discover", &json!({"query": "moody program echoes"}));
        (found["structuredContent"]["matches"][0]["target"] == target).then_some(found)
    });
    assert!(!found["structuredContent"]["matches"][0]["evidence"].as_array().unwrap().is_empty());
    let text: Value = serde_json::from_str(found["content"][0]["text"].as_str().unwrap()).unwrap();
    assert_eq!(text, found["structuredContent"]);

    let described = client.tool(3, "describe", &json!({"target": target}));
    assert_eq!(described["structuredContent"]["capabilities"][0]["title"], "A moody program");
    let called = client.tool(
        4,
        "call",
        &json!({"target": target, "arguments": {"n": 1, "t": "a\u{202e}b"}}),
    );
    assert_eq!(called["structuredContent"]["output"], json!({"echo": {"n": 1, "t": "ab"}}));
    assert_eq!(called["structuredContent"]["from"]["agent"], server.agent());
    assert_eq!(called["structuredContent"]["verified"], true);
    let asked = client.tool(5, "ask", &json!({"query": "named moody", "arguments": {"n": 2}}));
    assert_eq!(asked["structuredContent"]["output"], json!({"echo": {"n": 2}}));
    let status = client.tool(6, "status", &json!({}));
    assert_eq!(
        (&status["structuredContent"]["joined"], &status["isError"]),
        (&json!(true), &json!(false))
    );

    // Failures are for the model to read; what cannot be routed is an error of the protocol.
    let failed = client.tool(7, "call", &json!({"target": target, "arguments": {"mode": "sorry"}}));
    assert_eq!(failed["isError"], true);
    assert!(
        failed["content"][0]["text"].as_str().unwrap().contains("no rates on Sundays"),
        "{failed}"
    );
    let odd = client.tool(8, "call", &json!({"target": target, "argumetns": {}}));
    assert_eq!(odd["isError"], true, "{odd}");
    assert_eq!(client.ask(9, "tools/call", &json!({"name": "nope"}))["error"]["code"], -32602);
    assert_eq!(client.ask(10, "no/such", &json!({}))["error"]["code"], -32601);
    assert_eq!(client.ask(11, "server/discover", &json!({}))["error"]["code"], -32602);
    client.send("{\"jsonrpc\": ");
    assert_eq!(client.next()["error"]["code"], -32700);
    client.send("[]");
    assert_eq!(client.next()["error"]["code"], -32600);

    // The other era, from the same process.
    let meta = json!({"io.modelcontextprotocol/protocolVersion": MODERN, "io.modelcontextprotocol/clientCapabilities": {}});
    let modern = client.ask(12, "tools/list", &json!({"_meta": meta}));
    assert_eq!(modern["result"]["resultType"], "complete");
    let discovered = client.ask(13, "server/discover", &json!({"_meta": meta}));
    assert_eq!(discovered["result"]["supportedVersions"][0], MODERN);
    assert_eq!(client.finish(), "");
}

#[test]
fn a_long_answer_is_linked_and_read_in_pages() {
    let (world, server, caller, _) = two_nodes();
    let rows: String = (0..3_000).map(|n| format!("{n},row number {n}\n")).collect();
    let file = world.file("rows.csv", &format!("id,text\n{rows}"));
    server.ok(&["serve", "--table", &file, "--name", "rows", "--public", "--yes"]);
    let mut client = Session::start(&caller.home, &[]);
    client.initialize();
    let target = format!("{}/rows", server.address());
    let called = client.tool(1, "call", &json!({"target": target, "arguments": {"limit": 3000}}));
    let body = &called["structuredContent"];
    assert!(body.get("output").is_none() && body.get("items").is_none(), "{called}");
    assert!(called.to_string().len() < 12_000, "{}", called.to_string().len());
    let (mut uri, mut whole) = (body["resource"].as_str().map(str::to_owned), String::new());
    while let Some(page) = uri {
        let read = client.ask(2, "resources/read", &json!({"uri": page}));
        let contents = &read["result"]["contents"][0];
        whole.push_str(contents["text"].as_str().unwrap());
        uri = contents["_meta"]["comity/next"].as_str().map(str::to_owned);
    }
    assert_eq!(whole.len() as u64, body["bytes"].as_u64().unwrap());
    assert!(whole.contains("row number 2999") && serde_json::from_str::<Value>(&whole).is_ok());
    assert_eq!(
        client.ask(3, "resources/read", &json!({"uri": "file:///etc/passwd"}))["error"]["code"],
        -32002
    );
}

#[test]
fn a_pinned_capability_is_a_tool_and_changes_are_told() {
    let (_world, server, caller, _) = two_nodes();
    let mut client = Session::start(&caller.home, &[]);
    client.initialize();
    let target = format!("{}/moody", server.address());
    let pinned = caller.ok(&["--json", "mcp", "pin", &target]).json();
    let name = pinned["name"].as_str().unwrap().to_owned();
    assert_eq!(client.next()["method"], "notifications/tools/list_changed");
    let tools = client.ask(1, "tools/list", &json!({}));
    let tool = tools["result"]["tools"]
        .as_array()
        .unwrap()
        .iter()
        .find(|tool| tool["name"] == *name)
        .unwrap()
        .clone();
    assert!(
        tool["description"].as_str().unwrap().starts_with("Capability of another agent"),
        "{tool}"
    );
    let called = client.tool(2, &name, &json!({"n": 3}));
    let text: Value = serde_json::from_str(called["content"][0]["text"].as_str().unwrap()).unwrap();
    assert_eq!(text, json!({"echo": {"n": 3}}));
    assert_eq!(called["_meta"]["comity/from"]["agent"], server.agent());
    caller.ok(&["mcp", "unpin", &name]);
    assert_eq!(client.next()["method"], "notifications/tools/list_changed");
    assert_eq!(client.ask(3, "tools/call", &json!({"name": name}))["error"]["code"], -32602);
}

#[test]
fn a_cancelled_call_ends_at_the_far_peer() {
    let (_world, server, caller, noted) = two_nodes();
    let mut client = Session::start(&caller.home, &[]);
    client.initialize();
    let target = format!("{}/moody", server.address());
    let params = json!({"name": "call", "arguments": {"target": target, "arguments": {"mode": "hang"}}, "_meta": {"progressToken": "p"}});
    client.send(
        &json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).to_string(),
    );
    let progress = client.next();
    assert_eq!(
        (&progress["method"], &progress["params"]["progressToken"]),
        (&json!("notifications/progress"), &json!("p"))
    );
    wait("the far program works on it", || (!notes(&noted).is_empty()).then_some(()));
    // An id that is in use is refused, and the first use of it goes on.
    client.send(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#);
    assert_eq!(client.next()["error"]["code"], -32600);
    client.send(r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#);
    wait("nothing runs at the far peer any more", || {
        let (_, status) = api(&server.home, "GET", "/v1/status", None).unwrap();
        (status["calls"]["in_flight"] == 0).then_some(())
    });
    // Too late, unknown and malformed cancellations are nothing.
    client.send(r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#);
    client
        .send(r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":{}}}"#);
    assert_eq!(client.ask(2, "ping", &json!({}))["result"], json!({}));
}

/// One HTTP exchange on a connection of its own: status, headers in lower case, body.
pub(crate) fn http(address: SocketAddr, request: &str, body: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    let length = body.len();
    write!(stream, "{request}\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head.to_lowercase(), body.to_owned())
}

#[test]
fn the_http_endpoint_lets_nobody_else_in() {
    let world = World::new();
    let node = world.node("node", &[]);
    let mut server = Session::start(&node.home, &["--http", "127.0.0.1:0"]);
    let url = server.line();
    let address: SocketAddr =
        url.strip_prefix("http://").unwrap().strip_suffix("/mcp").unwrap().parse().unwrap();
    let token = std::fs::read_to_string(node.home.join("mcp.token")).unwrap();
    let bearer = format!("authorization: Bearer {}", token.trim());
    let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    let post = |headers: &str, body: &str| {
        http(address, &format!("POST /mcp HTTP/1.1\r\n{headers}"), body)
    };
    assert_eq!(post("host: localhost", ping).0, 401);
    assert_eq!(post(&format!("host: evil.example\r\n{bearer}"), ping).0, 403);
    assert_eq!(
        post(&format!("host: localhost\r\norigin: https://evil.example\r\n{bearer}"), ping).0,
        403
    );
    let local = format!("host: localhost\r\n{bearer}");
    let hello = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}"#;
    let (status, head, body) = post(&local, hello);
    assert_eq!(status, 200, "{body}");
    assert_eq!(
        serde_json::from_str::<Value>(&body).unwrap()["result"]["protocolVersion"],
        "2025-06-18"
    );
    let session =
        head.lines().find(|line| line.starts_with("mcp-session-id: ")).unwrap().to_owned();
    assert_eq!(post(&format!("{local}\r\n{session}"), ping).0, 200);
    assert_eq!(post(&format!("{local}\r\nmcp-session-id: nobody"), ping).0, 404);
    assert_eq!(post(&local, ping).0, 400);
    assert_eq!(post(&local, "{").0, 400);
    assert_eq!(
        post(&format!("{local}\r\n{session}\r\nmcp-protocol-version: 1999-01-01"), ping).0,
        400
    );

    let meta = format!(
        r#""_meta":{{"io.modelcontextprotocol/protocolVersion":"{MODERN}","io.modelcontextprotocol/clientCapabilities":{{}}}}"#
    );
    let modern = format!(
        r#"{{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{{"name":"status",{meta}}}}}"#
    );
    let routed = format!(
        "{local}\r\nmcp-protocol-version: {MODERN}\r\nmcp-method: tools/call\r\nmcp-name: status"
    );
    let (status, _, body) = post(&routed, &modern);
    assert_eq!(status, 200, "{body}");
    assert_eq!(serde_json::from_str::<Value>(&body).unwrap()["result"]["resultType"], "complete");
    let (status, _, body) = post(&routed.replace("mcp-name: status", "mcp-name: publish"), &modern);
    assert_eq!(
        (status, serde_json::from_str::<Value>(&body).unwrap()["error"]["code"].as_i64()),
        (400, Some(-32020))
    );
    let unknown = modern.replace("tools/call", "no/such");
    assert_eq!(post(&routed.replace("tools/call", "no/such"), &unknown).0, 404);
    let outside = node.run(&["mcp", "--http", "0.0.0.0:0"]);
    assert_eq!(outside.code, 2, "{}", outside.stderr);
}

/// An MCP server in a few lines of shell. What it is told in `mood` decides what it does.
pub(crate) fn moody_server(world: &World) -> String {
    let script = r#"
echo "started" >&2
tools='[{"name":"Say_It","description":"Says what it is told, such as a weather forecast.\u001b[2J","inputSchema":{"type":"object","properties":{"mood":{"type":"string"}}},"annotations":{"readOnlyHint":true}},{"name":"private","inputSchema":{"type":"object"}}]'
while read -r line; do
  id=$(printf '%s' "$line" | sed -n 's/.*"id":\("[^"]*"\|[0-9]*\).*/\1/p')
  say() { printf '{"jsonrpc":"2.0","id":%s,"result":%s}\n' "$id" "$1"; }
  text() { say "{\"content\":[{\"type\":\"text\",\"text\":\"$1\"}]}"; }
  case "$line" in
    *'"initialize"'*) say '{"protocolVersion":"2025-11-25","capabilities":{"tools":{"listChanged":true}},"serverInfo":{"name":"Moody Server","version":"1"}}' ;;
    *'"tools/list"'*) say "{\"tools\":$tools}" ;;
    *'"sorry"'*) say '{"content":[{"type":"text","text":"not today"}],"isError":true}' ;;
    *'"die"'*) echo "goodbye" >&2; exit 3 ;;
    *'"junk"'*) echo 'this is no message'; echo '[1]'; echo '{"jsonrpc":"2.0","id":424242,"result":{}}'; text junk ;;
    *'"ask"'*) echo '{"jsonrpc":"2.0","id":"s1","method":"sampling/createMessage","params":{}}'; read -r answer; case "$answer" in *refused*) text refused ;; *) text odd ;; esac ;;
    *'"flood"'*) n=0; while [ $n -lt 3000 ]; do echo '{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"x"}}'; n=$((n+1)); done; text flooded ;;
    *'"change"'*) tools='[{"name":"Say_It","description":"Changed.","inputSchema":{"type":"object","properties":{"mood":{"type":"string"},"more":{"type":"integer"}}}}]'; echo '{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}'; text changed ;;
    *'"image"'*) say '{"content":[{"type":"image","data":"aGk=","mimeType":"image/png"},{"type":"text","text":"ž \\u0000 🐎"}]}' ;;
    *'"env"'*) text "secret=$SECRET given=$GIVEN" ;;
    *'"tools/call"'*) text said ;;
    *) ;;
  esac
done
"#;
    format!("/bin/sh {}", world.file("moody-server.sh", script))
}

#[test]
fn a_servers_tools_are_published_by_name_and_survive_its_moods() {
    let world = World::new();
    let server = world.node("server", &[]);
    let caller = world.joined("caller", &server);
    let command = moody_server(&world);
    let unnamed = server.run(&["serve", "--mcp", &command, "--public", "--yes"]);
    assert_eq!(unnamed.code, 5, "{}", unnamed.stderr);
    assert!(
        unnamed.stderr.contains("without being named") && unnamed.stderr.contains("Say_It"),
        "{}",
        unnamed.stderr
    );
    assert_eq!(server.serves(), Vec::<String>::new());
    // A domain is proposed, and taken only by who says so.
    let look =
        ["serve", "--mcp", &command, "--tool", "Say_It", "--mcp-env", "GIVEN=yes", "--public"];
    let draft = server.run(&[&look[..], &["--check"]].concat());
    assert!(draft.stderr.contains("say_it: geography/weather"), "{}", draft.stderr);
    let classes = || {
        let shown = caller.ok(&["--json", "show", &format!("{}/say_it", server.address())]).json();
        shown["capabilities"][0]["classes"].as_array().map_or(0, Vec::len)
    };
    server.ok(&[&look[..], &["--yes", "--proposed-classes"]].concat());
    assert_eq!(classes(), 1);
    server.ok(&["unserve", "say_it"]);
    server.ok(&[&look[..], &["--yes"]].concat());
    assert_eq!((server.serves(), classes()), (vec!["say_it".to_owned()], 0));

    let target = format!("{}/say_it", server.address());
    let call = |mood: &str| {
        let input = json!({ "mood": mood }).to_string();
        caller.run(&["--json", "call", &target, "--json", &input])
    };
    let said = |mood: &str| {
        let run = call(mood);
        assert_eq!(run.code, 0, "{mood}: {}\n{}", run.stderr, server.log());
        run.json()["output"]["value"]["content"][0]["text"].as_str().unwrap_or_default().to_owned()
    };
    assert_eq!(said("calm"), "said");
    assert_eq!(said("junk"), "junk");
    assert_eq!(said("ask"), "refused");
    assert_eq!(said("flood"), "flooded");
    assert_eq!(said("env"), "secret= given=yes");
    let image = call("image").json()["output"]["value"]["content"].clone();
    assert_eq!(image[0], json!({"type": "image", "data": "aGk=", "mimeType": "image/png"}));
    let sorry = call("sorry");
    assert_eq!((sorry.code, sorry.error_code().as_str()), (6, "specialist_failed"));
    assert!(sorry.stderr.contains("not today"), "{}", sorry.stderr);
    // It dies in the middle of a call, and is there again for the next.
    assert_eq!(call("die").code, 6);
    wait("the server is there again", || (call("calm").code == 0).then_some(()));
    let log = std::fs::read_to_string(server.home.join("mcp/moody-server.sh.log")).unwrap();
    assert!(log.contains("started") && log.contains("goodbye"), "{log}");
    // Arguments that do not fit never reach it.
    let unfit = caller.run(&["--json", "call", &target, "--json", "{\"mood\": 5}"]);
    assert_eq!(unfit.error_code(), "bad_input");

    // A client that has listed the tool meets another one when it calls.
    let before = caller.ok(&["--json", "mcp", "pin", &target, "--name", "before"]).json();
    let mut early = Session::start(&caller.home, &[]);
    early.initialize();
    let name = before["name"].as_str().unwrap().to_owned();
    assert!(early.ask(1, "tools/list", &json!({})).to_string().contains(&name));
    assert_eq!(said("change"), "changed");
    wait("the changed tool is published anew", || {
        let shown = caller.run(&["--json", "show", &target]).json();
        (shown["capabilities"][0]["description"] == "Changed.").then_some(())
    });
    let called = early.tool(2, &name, &json!({"mood": "image", "more": 1}));
    assert_eq!(called["content"][0]["type"], "image", "{called}");
    let unfit = early.tool(3, &name, &json!({"mood": "calm", "more": "much"}));
    assert_eq!(unfit["isError"], true, "{unfit}");
    let found = caller.ok(&["--json", "mcp", "pin", &target]).json();
    let mut client = Session::start(&caller.home, &[]);
    client.initialize();
    let called =
        client.tool(1, found["name"].as_str().unwrap(), &json!({"mood": "image", "more": 1}));
    assert_eq!(
        called["content"][0],
        json!({"type": "image", "data": "aGk=", "mimeType": "image/png"})
    );
}

#[test]
fn a_whole_server_behind_a_peer_is_the_server_itself() {
    let world = World::new();
    let server = world.node("server", &[]);
    let caller = world.joined("caller", &server);
    let command = moody_server(&world);
    server.ok(&["serve", "--mcp", &command, "--whole", "--public", "--yes"]);
    assert_eq!(server.serves(), ["moody-server"]);
    let target = format!("{}/moody-server", server.address());

    let words: Vec<&str> = command.split(' ').collect();
    let mut direct = Command::new(words[0]);
    direct.args(&words[1..]);
    let mut direct = Session::spawn(direct);
    let mut bridged = Session::start(&caller.home, &["connect", &target]);
    let lines = [
        r#"{"id":0,"jsonrpc":"2.0","method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}"#,
        r#"{"id":1,"jsonrpc":"2.0","method":"tools/list"}"#,
        r#"{"id":2,"jsonrpc":"2.0","method":"tools/call","params":{"name":"Say_It","arguments":{"mood":"image"}}}"#,
        r#"{"id":3,"jsonrpc":"2.0","method":"tools/call","params":{"name":"private","arguments":{}}}"#,
        r#"{"id":4,"jsonrpc":"2.0","method":"tools/call","params":{"name":"Say_It","arguments":{"mood":"sorry"}}}"#,
    ];
    for line in lines {
        direct.send(line);
        bridged.send(line);
        assert_eq!(direct.line(), bridged.line(), "{line}");
    }
    // The server asks its client, through the network and back.
    bridged.send(r#"{"id":5,"jsonrpc":"2.0","method":"tools/call","params":{"name":"Say_It","arguments":{"mood":"ask"}}}"#);
    assert_eq!(bridged.next()["method"], "sampling/createMessage");
    bridged
        .send(r#"{"id":"s1","jsonrpc":"2.0","error":{"code":-1,"message":"refused by the test"}}"#);
    assert_eq!(bridged.next()["result"]["content"][0]["text"], "refused");
    // It dies: the client is told, and a new session has a new program.
    bridged.send(r#"{"id":6,"jsonrpc":"2.0","method":"tools/call","params":{"name":"Say_It","arguments":{"mood":"die"}}}"#);
    assert_eq!(bridged.next()["error"]["code"], -32603);
    bridged.initialize();
    assert_eq!(bridged.ask(8, "tools/list", &json!({}))["result"]["tools"][0]["name"], "Say_It");

    let mut endpoint = Session::start(
        &caller.home,
        &["connect", &target, "--http", "127.0.0.1:0", "--allow-unauthenticated"],
    );
    let url = endpoint.line();
    let address: SocketAddr =
        url.strip_prefix("http://").unwrap().strip_suffix("/mcp").unwrap().parse().unwrap();
    let (status, head, body) = http(address, "POST /mcp HTTP/1.1\r\nhost: localhost", lines[0]);
    assert_eq!(status, 200, "{body}");
    assert!(head.contains(&format!("comity-producer: {}", server.address())), "{head}");
    assert!(body.contains("Moody Server"), "{body}");
    let (status, ..) = http(address, "POST /mcp HTTP/1.1\r\nhost: evil.example", lines[0]);
    assert_eq!(status, 403);

    let mut nobody =
        Session::start(&caller.home, &["connect", &format!("{}/nothing", server.address())]);
    nobody.send(lines[0]);
    let refused = nobody.next();
    assert!(refused["error"]["message"].as_str().unwrap().contains("no capability"), "{refused}");
}

#[test]
fn an_entry_is_shown_written_and_removed() {
    let world = World::new();
    let home = world.home("home");
    let file =
        world.file("mcp.json", "{\n  \"mcpServers\": {\"other\": {\"command\": \"x\"}}\n}\n");
    let before = std::fs::read_to_string(&file).unwrap();
    let run = |args: &[&str]| crate::support::comity(&home, args);
    let asked = run(&["mcp", "install", "cursor", "--file", &file]);
    assert_eq!(asked.code, 2, "{}", asked.stderr);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), before);
    let written = run(&["mcp", "install", "cursor", "--file", &file, "--yes"]);
    assert_eq!(written.code, 0, "{}", written.stderr);
    assert!(
        written.stdout.contains("+") && written.stdout.contains("comity"),
        "{}",
        written.stdout
    );
    let entry: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    assert_eq!(entry["mcpServers"]["other"]["command"], "x");
    assert_eq!(entry["mcpServers"]["comity"]["args"][2], "mcp");
    assert_eq!(run(&["mcp", "uninstall", "cursor", "--file", &file, "--yes"]).code, 0);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), before);
}
