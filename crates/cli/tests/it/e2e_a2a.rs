//! A2A clients in front of a node, A2A agents behind one: real processes, real HTTP.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::e2e_support::{Node, World, wait};

/// One request as an agent saw it.
#[derive(Debug, Clone)]
struct Seen {
    line: String,
    head: String,
    body: String,
}

/// An A2A agent in a thread: a card, JSON-RPC in one version, HTTP+JSON.
struct Agent {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    /// Told when a client of a stream has gone.
    gone: Receiver<()>,
}

impl Agent {
    fn start(version: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let (tell, gone) = channel();
        let notes = Arc::clone(&seen);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (notes, tell) = (Arc::clone(&notes), tell.clone());
                std::thread::spawn(move || {
                    let mut reader = BufReader::new(stream.try_clone().unwrap());
                    let Some(request) = read(&mut reader) else { return };
                    notes.lock().unwrap().push(request.clone());
                    if answer(stream, &request, address, version).is_err() {
                        let _ = tell.send(());
                    }
                });
            }
        });
        Self { address, seen, gone }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn last(&self) -> Seen {
        self.seen.lock().unwrap().last().unwrap().clone()
    }
}

fn read(reader: &mut impl std::io::BufRead) -> Option<Seen> {
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let lower = line.trim_end().to_lowercase();
        if let Some(value) = lower.strip_prefix("content-length: ") {
            length = value.parse().unwrap();
        }
        if lower.is_empty() {
            break;
        }
        head.push_str(&format!("{lower}\n"));
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let line = head.lines().next()?.to_owned();
    Some(Seen { line, head, body: String::from_utf8(body).unwrap() })
}

fn card(address: SocketAddr, version: &str) -> Value {
    let skill = json!({"id": "Hello", "name": "Says hello", "description": "Greets whom it is told to greet.\u{202e}", "tags": ["greeting"], "examples": ["greet Ada"]});
    if version == "1.0" {
        json!({
            "name": "Greeter", "description": "An agent that greets.", "version": "7",
            "supportedInterfaces": [
                {"url": format!("http://{address}/rpc"), "protocolBinding": "JSONRPC", "protocolVersion": "1.0"},
                {"url": format!("http://{address}/rest"), "protocolBinding": "HTTP+JSON", "protocolVersion": "1.0"},
                {"url": "http://169.254.169.254/", "protocolBinding": "JSONRPC", "protocolVersion": "1.0"},
            ],
            "capabilities": {"streaming": true, "extendedAgentCard": true, "pushNotifications": true}, "defaultInputModes": ["text/plain"], "defaultOutputModes": ["text/plain"],
            "skills": [skill], "signatures": [{"protected": "e30", "signature": "AA"}],
        })
    } else {
        json!({
            "name": "Old greeter", "description": "An agent that greets.", "version": "7", "protocolVersion": "0.3.0",
            "url": format!("http://{address}/rpc"), "preferredTransport": "JSONRPC", "capabilities": {"streaming": true},
            "defaultInputModes": ["text/plain"], "defaultOutputModes": ["text/plain"], "skills": [skill],
        })
    }
}

/// A task in the words of a version.
fn task(version: &str, text: &str) -> Value {
    let (state, role) = if version == "1.0" {
        ("TASK_STATE_COMPLETED", "ROLE_AGENT")
    } else {
        ("completed", "agent")
    };
    let mut part = json!({ "text": text });
    let mut message = json!({"messageId": "m", "role": role, "parts": []});
    let mut task = json!({"id": "t1", "contextId": "c1", "status": {"state": state, "timestamp": "2026-01-01T00:00:00Z"}});
    if version != "1.0" {
        part["kind"] = json!("text");
        message["kind"] = json!("message");
        task["kind"] = json!("task");
    }
    message["parts"] = json!([part.clone()]);
    task["artifacts"] = json!([{"artifactId": "a", "parts": [part]}]);
    task["history"] = json!([message]);
    task
}

fn answer(
    mut out: TcpStream,
    request: &Seen,
    address: SocketAddr,
    version: &str,
) -> std::io::Result<()> {
    let json = |out: &mut TcpStream, value: &str| {
        write!(
            out,
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{value}",
            value.len()
        )
    };
    if request.line.starts_with("get /.well-known/agent-card.json ") {
        return json(&mut out, &card(address, version).to_string());
    }
    if request.line.starts_with("post /rest/message:send") {
        // Spelled as no parser would write it, to see whether it comes as it is.
        return json(
            &mut out,
            "{\"message\" : {\"messageId\":\"\\u006d\", \"role\":\"ROLE_AGENT\",\"parts\":[{\"data\":1.50}]}}",
        );
    }
    if !request.line.starts_with("post /rpc ") {
        return write!(
            out,
            "HTTP/1.1 404 Not Found\r\ncontent-type: application/problem+json\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{{}}"
        );
    }
    let message: Value = serde_json::from_str(&request.body).unwrap();
    let reply = |result: Value| {
        json!({"jsonrpc": "2.0", "id": message["id"], "result": result}).to_string()
    };
    let wrapped = |task: Value| if version == "1.0" { json!({ "task": task }) } else { task };
    match message["method"].as_str().unwrap() {
        "SendMessage" | "message/send" => {
            let text = message["params"]["message"]["parts"][0]["text"].as_str().unwrap_or_default();
            json(&mut out, &reply(wrapped(task(version, &format!("Hello {text}")))))
        }
        "GetTask" if message["params"]["id"] == "none" => json(&mut out, &json!({"jsonrpc": "2.0", "id": message["id"], "error": {"code": -32001, "message": "no such task"}}).to_string()),
        "GetTask" | "tasks/get" => {
            let mut task = task(version, "again");
            let id = message["params"]["id"].as_str().unwrap_or_default();
            let waits = id.strip_prefix("until:").is_some_and(|file| !Path::new(file).exists());
            if id == "busy" || waits {
                task["status"]["state"] = json!("TASK_STATE_WORKING");
            }
            json(&mut out, &reply(task))
        }
        // A stream that breaks off before the task is done.
        "SubscribeToTask" if message["params"]["id"] == "t1" => {
            let mut working = task(version, "");
            working["status"]["state"] = json!("TASK_STATE_WORKING");
            let update = json!({"artifactUpdate": {"taskId": "t1", "contextId": "c1", "artifact": {"artifactId": "a", "parts": []}}});
            write!(out, "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")?;
            write!(out, "data: {}\n\ndata: {}\n\n", reply(json!({ "task": working })), reply(update))
        }
        "GetExtendedAgentCard" => {
            let mut card = card(address, version);
            card["description"] = json!("The extended card.");
            json(&mut out, &reply(card))
        }
        // Less comes than was promised, as when a connection breaks.
        "SendStreamingMessage" if request.body.contains("broken") => {
            let event = reply(json!({"artifactUpdate": {"taskId": "t1", "contextId": "c1", "artifact": {"artifactId": "first", "parts": []}}}));
            write!(out, "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 9999\r\n\r\ndata: {event}\n\n")
        }
        "SendStreamingMessage" | "message/stream" => {
            write!(out, "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")?;
            let forever = request.body.contains("forever");
            for n in 0_u32.. {
                let update = json!({"taskId": "t1", "contextId": "c1", "artifact": {"artifactId": "a", "parts": []}, "append": n > 0});
                let event = if version == "1.0" {
                    json!({ "artifactUpdate": update })
                } else {
                    let mut update = update;
                    update["kind"] = json!("artifact-update");
                    update
                };
                if n == 3 && !forever {
                    break;
                }
                write!(out, "id: {n}\ndata: {}\n\n", reply(event))?;
                out.flush()?;
            }
            write!(out, "data: {}\n\n", reply(wrapped(task(version, "streamed"))))
        }
        _ => json(&mut out, &json!({"jsonrpc": "2.0", "id": message["id"], "error": {"code": -32601, "message": "no such method"}}).to_string()),
    }
}

/// `comity a2a` in front of `node`, and the card URL it prints.
struct Endpoint {
    child: Child,
    card: String,
    address: SocketAddr,
}

impl Endpoint {
    fn start(node: &Node, args: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_comity"));
        command.arg("--home").arg(&node.home).arg("a2a").args(args);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut card = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut card).unwrap();
        let card = card.trim().to_owned();
        let rest = card.strip_prefix("http://").unwrap_or_else(|| panic!("no URL: {card:?}"));
        let address = rest.split('/').next().unwrap().parse().unwrap();
        Self { child, card, address }
    }

    /// One exchange: status, headers in lower case, body without its chunks' lengths.
    fn ask(&self, method: &str, url: &str, headers: &str, body: &str) -> (u16, String, String) {
        let path = url.strip_prefix(&format!("http://{}", self.address)).unwrap_or(url);
        let mut stream = TcpStream::connect(self.address).unwrap();
        let length = body.len();
        write!(stream, "{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ncontent-type: application/json\r\n{headers}content-length: {length}\r\n\r\n{body}", self.address).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let head = head.to_lowercase();
        let body = if head.contains("transfer-encoding: chunked") {
            unchunked(body)
        } else {
            body.to_owned()
        };
        (status, head, body)
    }

    fn get_card(&self) -> Value {
        let (status, head, body) = self.ask("GET", &self.card, "", "");
        assert_eq!(status, 200, "{body}");
        assert!(head.contains("etag: ") && head.contains("cache-control: max-age"), "{head}");
        serde_json::from_str(&body).unwrap()
    }

    fn rpc(&self, url: &str, method: &str, params: &Value) -> Value {
        let message = json!({"jsonrpc": "2.0", "id": "x", "method": method, "params": params});
        let (status, _, body) = self.ask("POST", url, "a2a-version: 1.0\r\n", &message.to_string());
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn unchunked(mut body: &str) -> String {
    let mut out = String::new();
    while let Some((length, rest)) = body.split_once("\r\n") {
        let length = usize::from_str_radix(length.trim(), 16).unwrap();
        if length == 0 {
            break;
        }
        out.push_str(&rest[..length]);
        body = &rest[length + 2..];
    }
    out
}

fn events(body: &str) -> Vec<Value> {
    body.lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|data| serde_json::from_str(data).unwrap())
        .collect()
}

fn url_of(card: &Value, binding: &str, version: &str) -> String {
    let found = card["supportedInterfaces"]
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["protocolBinding"] == binding && one["protocolVersion"] == version);
    found.unwrap_or_else(|| panic!("{card}"))["url"].as_str().unwrap().to_owned()
}

fn say(text: &str) -> Value {
    json!({"message": {"messageId": "1", "role": "ROLE_USER", "parts": [{ "text": text }]}})
}

fn say_03(text: &str) -> Value {
    json!({"message": {"kind": "message", "messageId": "1", "role": "user", "parts": [{"kind": "text", "text": text}]}})
}

#[test]
fn an_agent_of_1_0_is_used_through_the_network_by_both_versions() {
    let agent = Agent::start("1.0");
    let world = World::new();
    let server = world.node("server", &[]);
    let caller = world.joined("caller", &server);
    server.ok(&["serve", "--a2a", &agent.url(), "--public", "--yes"]);
    assert_eq!(server.serves(), ["greeter"]);
    let target = format!("{}/greeter", server.address());
    let endpoint = Endpoint::start(&caller, &[&target, "--allow-unauthenticated"]);

    let card = endpoint.get_card();
    assert!(!card.to_string().contains(&agent.address.to_string()), "{card}");
    assert!(
        !card.to_string().contains("169.254") && !card.to_string().contains('\u{202e}'),
        "{card}"
    );
    let about = &card["capabilities"]["extensions"][0]["params"];
    assert_eq!(
        (&about["address"], &about["agent"]),
        (&json!(server.address()), &json!(server.agent()))
    );
    assert!(about["receipt"].is_string() && about["signatures"].is_array(), "{about}");
    let rpc = url_of(&card, "JSONRPC", "1.0");

    // Byte for byte: the HTTP binding's odd spelling, its path with a colon, an error of the agent's.
    let rest = url_of(&card, "HTTP+JSON", "1.0");
    let (status, head, body) = endpoint.ask(
        "POST",
        &format!("{rest}/message:send?x=%2F"),
        "a2a-version: 1.0\r\nauthorization: Bearer mine\r\n",
        "{\"a\" : 1.50}",
    );
    assert_eq!(
        (status, body.as_str()),
        (
            200,
            "{\"message\" : {\"messageId\":\"\\u006d\", \"role\":\"ROLE_AGENT\",\"parts\":[{\"data\":1.50}]}}"
        )
    );
    assert!(head.contains(&format!("comity-producer: {}", server.address())), "{head}");
    let seen = agent.last();
    assert_eq!(
        (seen.body.as_str(), seen.line.as_str()),
        ("{\"a\" : 1.50}", "post /rest/message:send?x=%2f http/1.1")
    );
    assert!(
        seen.head.contains("a2a-version: 1.0")
            && seen.head.contains(&format!("comity-caller: {}", caller.agent())),
        "{}",
        seen.head
    );
    assert!(!seen.head.contains("bearer mine"), "{}", seen.head);
    let (status, head, body) = endpoint.ask("GET", &format!("{rest}/tasks/none"), "", "");
    assert_eq!((status, body.as_str()), (404, "{}"));
    assert!(head.contains("application/problem+json"), "{head}");
    assert_eq!(endpoint.ask("GET", &format!("{rest}/../secret"), "", "").0, 422);

    let sent = endpoint.rpc(&rpc, "SendMessage", &say("Ada"));
    assert_eq!(
        (&sent["result"]["task"]["artifacts"][0]["parts"][0]["text"], &sent["id"]),
        (&json!("Hello Ada"), &json!("x"))
    );
    let message =
        json!({"jsonrpc": "2.0", "id": 1, "method": "SendStreamingMessage", "params": say("x")})
            .to_string();
    let (_, head, body) =
        endpoint.ask("POST", &format!("{rpc}/"), "a2a-version: 1.0\r\n", &message);
    assert!(head.contains("text/event-stream"), "{head}");
    assert_eq!(events(&body).len(), 4, "{body}");
    assert!(body.starts_with("id: 0\ndata: "), "{body}");

    // The extended card names no place of the far machine either, and is signed here.
    let extended = endpoint.rpc(&rpc, "GetExtendedAgentCard", &json!({}))["result"].clone();
    assert_eq!(extended["description"], "The extended card.");
    assert_eq!(url_of(&extended, "JSONRPC", "1.0"), rpc);
    assert!(extended["signatures"][0]["signature"].is_string());

    // The same agent for a client of 0.3.
    let old = card["url"].as_str().unwrap();
    let sent = endpoint.rpc(old, "message/send", &say_03("Bob"));
    assert_eq!(
        (&sent["result"]["kind"], &sent["result"]["status"]["state"]),
        (&json!("task"), &json!("completed"))
    );
    assert_eq!(
        sent["result"]["artifacts"][0]["parts"][0],
        json!({"kind": "text", "text": "Hello Bob"})
    );
    assert_eq!(
        serde_json::from_str::<Value>(&agent.last().body).unwrap()["params"]["message"]["role"],
        "ROLE_USER"
    );
    let message =
        json!({"jsonrpc": "2.0", "id": 1, "method": "message/stream", "params": say_03("x")})
            .to_string();
    let (_, _, body) = endpoint.ask("POST", old, "", &message);
    let kinds: Vec<Value> =
        events(&body).iter().map(|event| event["result"]["kind"].clone()).collect();
    assert_eq!(kinds, ["artifact-update", "artifact-update", "artifact-update", "task"]);
    assert_eq!(endpoint.rpc(old, "tasks/get", &json!({"id": "t1"}))["result"]["kind"], "task");
    assert_eq!(endpoint.rpc(old, "no/such", &json!({}))["error"]["code"], -32601);
    assert_eq!(endpoint.rpc(old, "message/send", &json!([]))["error"]["code"], -32602);
    assert!(endpoint.ask("POST", old, "", "{").2.contains("-32700"));

    // A catalog leads to the registry, and the registry to the agent's card here.
    let (_, _, body) = endpoint.ask("GET", "/.well-known/ai-catalog.json", "", "");
    let catalog: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(catalog["entries"][0]["url"], format!("http://{}/v1", endpoint.address));
    let query = json!({"query": {"text": "greets whom it is told", "filter": {"type": ["application/a2a-agent-card+json"]}}, "pageSize": 5});
    let entry = wait("the registry finds the agent", || {
        let (status, _, body) = endpoint.ask("POST", "/v1/search", "", &query.to_string());
        assert_eq!(status, 200, "{body}");
        let found: Value = serde_json::from_str(&body).unwrap();
        found["results"].get(0).cloned()
    });
    assert_eq!((&entry["url"], &entry["displayName"]), (&json!(endpoint.card), &json!("Greeter")));
    assert!(entry["score"].as_i64().is_some_and(|score| (1..=100).contains(&score)), "{entry}");
    let path = format!("/v1/agents/{}", entry["identifier"].as_str().unwrap().replace(':', "%3A"));
    let (status, _, body) = endpoint.ask("GET", &path, "", "");
    let whole: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &whole["representativeQueries"]), (200, &json!(["greet Ada"])), "{body}");
    assert_eq!(endpoint.ask("GET", "/v1/agents/urn%3Aair%3Aacme.com%3Ax", "", "").0, 400);
    for wrong in [
        "{}",
        "{\"query\":{\"text\":\"x\",\"filter\":{\"publisher\":[\"y\"]}}}",
        "{\"query\":{\"text\":\"x\"},\"pageToken\":\"z\"}",
    ] {
        assert_eq!(endpoint.ask("POST", "/v1/search", "", wrong).0, 400, "{wrong}");
    }

    // A stream that breaks off is taken up again, in the words of the client's request.
    let message = json!({"jsonrpc": "2.0", "id": "mine", "method": "SendStreamingMessage", "params": say("broken")});
    let (_, _, body) = endpoint.ask("POST", &rpc, "a2a-version: 1.0\r\n", &message.to_string());
    let all = events(&body);
    assert!(all.iter().all(|event| event["id"] == "mine"), "{body}");
    assert_eq!(all[0]["result"]["artifactUpdate"]["artifact"]["artifactId"], "first");
    assert_eq!(all[1]["result"]["task"]["status"]["state"], "TASK_STATE_WORKING", "{body}");
    assert_eq!(all[2]["result"]["artifactUpdate"]["artifact"]["artifactId"], "a");

    // A stream whose reader has gone ends at the agent.
    let message = json!({"jsonrpc": "2.0", "id": 1, "method": "SendStreamingMessage", "params": say("forever")}).to_string();
    let path = rpc.strip_prefix(&format!("http://{}", endpoint.address)).unwrap().to_owned();
    let mut stream = TcpStream::connect(endpoint.address).unwrap();
    write!(stream, "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{message}", message.len()).unwrap();
    let mut some = [0; 500];
    stream.read_exact(&mut some).unwrap();
    drop(stream);
    agent.gone.recv_timeout(std::time::Duration::from_secs(40)).unwrap();

    // The peer's address alone is enough, and what is no agent says so.
    let (status, _, body) = endpoint.ask(
        "GET",
        &format!("/a2a/{}/.well-known/agent-card.json", server.address()),
        "",
        "",
    );
    assert_eq!(status, 200, "{body}");
    let (status, _, body) = endpoint.ask(
        "GET",
        &format!("/a2a/{}~nothing/.well-known/agent-card.json", server.address()),
        "",
        "",
    );
    assert!(status >= 400, "{body}");
    assert_eq!(
        endpoint.rpc(&rpc.replace("greeter", "nothing"), "SendMessage", &say("x"))["error"]["code"],
        -32603
    );
}

#[test]
fn an_agent_of_0_3_is_used_by_clients_of_1_0_and_its_skills_are_capabilities() {
    let agent = Agent::start("0.3");
    let world = World::new();
    let server = world.node("server", &[]);
    let caller = world.joined("caller", &server);
    let wrong =
        server.run(&["serve", "--a2a", &agent.url(), "--skill", "nope", "--public", "--yes"]);
    assert!(wrong.code != 0 && wrong.stderr.contains("Hello"), "{}", wrong.stderr);
    server.ok(&["serve", "--a2a", &agent.url(), "--name", "old", "--public", "--yes"]);
    server.ok(&["serve", "--a2a", &agent.url(), "--all-skills", "--public", "--yes"]);
    assert_eq!(server.serves(), ["hello", "old"]);

    let target = format!("{}/hello", server.address());
    let called = caller.ok(&["--json", "call", &target, "--json", "{\"text\": \"Ada\"}"]).json();
    assert_eq!(
        called["output"]["value"],
        json!({"taskId": "t1", "contextId": "c1", "state": "completed", "text": "Hello Ada", "parts": [{"text": "Hello Ada"}]})
    );
    assert_eq!(caller.run(&["--json", "call", &target, "--json", "{}"]).error_code(), "bad_input");

    // Found by what its skill says.
    let endpoint = wait("the agent is found", || {
        let found = caller.run(&["--json", "find", "greets tag a2a-agent"]);
        found
            .stdout
            .contains("/old")
            .then(|| Endpoint::start(&caller, &[&format!("{}/old", server.address())]))
    });
    // Cards are there for everybody on this machine, the rest is not.
    let card = endpoint.get_card();
    assert_eq!(card["securitySchemes"]["comity"]["httpAuthSecurityScheme"]["scheme"], "bearer");
    let rpc = url_of(&card, "JSONRPC", "1.0");
    let message = json!({"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": say("Bob")})
        .to_string();
    assert_eq!(endpoint.ask("POST", &rpc, "", &message).0, 401);
    let token = std::fs::read_to_string(caller.home.join("mcp.token")).unwrap();
    let bearer = format!("authorization: Bearer {}\r\n", token.trim());
    for (headers, status) in [
        (format!("{bearer}origin: https://evil.example\r\n"), 403),
        (format!("{bearer}host: evil.example\r\n"), 403),
        (bearer.clone(), 200),
    ] {
        assert_eq!(endpoint.ask("POST", &rpc, &headers, &message).0, status, "{headers}");
    }
    assert_eq!(endpoint.ask("GET", &endpoint.card, "origin: https://evil.example\r\n", "").0, 403);
    let (_, _, body) = endpoint.ask("POST", &rpc, &bearer, &message);
    let sent: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(sent["result"]["task"]["status"]["state"], "TASK_STATE_COMPLETED", "{body}");
    assert_eq!(sent["result"]["task"]["artifacts"][0]["parts"], json!([{"text": "Hello Bob"}]));
    let message =
        json!({"jsonrpc": "2.0", "id": 1, "method": "SendStreamingMessage", "params": say("x")})
            .to_string();
    let (_, _, body) = endpoint.ask("POST", &rpc, &bearer, &message);
    let names: Vec<String> = events(&body)
        .iter()
        .map(|event| event["result"].as_object().unwrap().keys().next().unwrap().clone())
        .collect();
    assert_eq!(names, ["artifactUpdate", "artifactUpdate", "artifactUpdate", "task"]);
    let message =
        json!({"jsonrpc": "2.0", "id": 1, "method": "ListTasks", "params": {}}).to_string();
    assert!(endpoint.ask("POST", &rpc, &bearer, &message).2.contains("-32004"));
}

/// A webhook at this machine, and what it was told.
fn webhook() -> (String, Receiver<Seen>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let (tell, told) = channel();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let seen = read(&mut BufReader::new(stream.try_clone().unwrap()));
            let _ = write!(stream, "HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n");
            if seen.is_none_or(|seen| tell.send(seen).is_err()) {
                return;
            }
        }
    });
    (url, told)
}

#[test]
fn webhooks_of_the_clients_machine_are_called_there() {
    let agent = Agent::start("1.0");
    let world = World::new();
    let server = world.node("server", &[]);
    let caller = world.joined("caller", &server);
    server.ok(&["serve", "--a2a", &agent.url(), "--public", "--yes"]);
    let target = format!("{}/greeter", server.address());
    let endpoint = Endpoint::start(&caller, &[&target, "--allow-unauthenticated"]);
    let card = endpoint.get_card();
    let rpc = url_of(&card, "JSONRPC", "1.0");
    let (hook, told) = webhook();
    let next = || told.recv_timeout(std::time::Duration::from_secs(40)).unwrap();
    let body = |seen: &Seen| serde_json::from_str::<Value>(&seen.body).unwrap();

    let auth = json!({"scheme": "Bearer", "credentials": "c"});
    let config = json!({"taskId": "t1", "url": hook, "token": "secret", "authentication": auth});
    let set = endpoint.rpc(&rpc, "CreateTaskPushNotificationConfig", &config);
    assert_eq!(
        (&set["result"]["url"], &set["result"]["id"]),
        (&json!(hook), &json!("webhook-0")),
        "{set}"
    );
    // What happens, as it happens; the stream breaks off, and the end comes all the same.
    let first = next();
    assert!(first.head.contains("x-a2a-notification-token: secret"), "{}", first.head);
    assert!(first.head.contains("authorization: bearer c"), "{}", first.head);
    assert_eq!(body(&first)["artifactUpdate"]["taskId"], "t1");
    assert_eq!(body(&next())["task"]["status"]["state"], "TASK_STATE_COMPLETED");

    // A client of 0.3 brings its webhook with the message, and is told in its own words.
    let mut message = say_03("Ada");
    message["configuration"] = json!({"pushNotificationConfig": {"url": hook}});
    let sent = endpoint.rpc(card["url"].as_str().unwrap(), "message/send", &message);
    assert_eq!(sent["result"]["artifacts"][0]["parts"][0]["text"], "Hello Ada");
    let task = body(&next());
    assert_eq!((&task["kind"], &task["status"]["state"]), (&json!("task"), &json!("completed")));
    assert_eq!(body(&next())["status"]["state"], "completed");

    // HTTP+JSON; what is kept here is shown and taken off here.
    let rest = format!("{}/tasks/busy/pushNotificationConfigs", url_of(&card, "HTTP+JSON", "1.0"));
    let kept = json!({"id": "mine", "url": hook}).to_string();
    let (status, _, set) = endpoint.ask("POST", &rest, "", &kept);
    assert_eq!((status, set.contains("\"taskId\":\"busy\"")), (200, true), "{set}");
    let listed = endpoint.rpc(&rpc, "ListTaskPushNotificationConfigs", &json!({"taskId": "busy"}));
    assert_eq!(listed["result"]["configs"][0]["id"], "mine", "{listed}");
    let one = json!({"taskId": "busy", "id": "mine"});
    assert_eq!(endpoint.rpc(&rpc, "GetTaskPushNotificationConfig", &one)["result"]["url"], hook);
    assert_eq!(endpoint.ask("DELETE", &format!("{rest}/mine"), "", "").0, 200);
    assert_eq!(endpoint.rpc(&rpc, "GetTaskPushNotificationConfig", &one)["error"]["code"], -32601);

    // The agent learns of none of them; of others', all.
    let of_hooks = |seen: &Seen| seen.body.contains(&hook);
    assert!(!agent.seen.lock().unwrap().iter().any(of_hooks));
    let none = json!({"taskId": "none", "url": hook});
    let refused = endpoint.rpc(&rpc, "CreateTaskPushNotificationConfig", &none);
    assert_eq!(refused["error"]["code"], -32001, "{refused}");
    let others = json!({"taskId": "t1", "url": "https://hooks.example/x"});
    endpoint.rpc(&rpc, "CreateTaskPushNotificationConfig", &others);
    assert!(agent.last().body.contains("https://hooks.example/x"));
}

#[test]
fn a_webhook_outlasts_the_endpoint_that_keeps_it() {
    let agent = Agent::start("1.0");
    let world = World::new();
    let server = world.node("server", &[]);
    let caller = world.joined("caller", &server);
    server.ok(&["serve", "--a2a", &agent.url(), "--public", "--yes"]);
    let target = format!("{}/greeter", server.address());
    let (hook, told) = webhook();
    let done = caller.home.join("done");
    let task = format!("until:{}", done.display());
    let config = json!({"taskId": task, "id": "mine", "url": hook, "token": "secret"});
    let one = json!({"taskId": task, "id": "mine"});

    let endpoint = Endpoint::start(&caller, &[&target, "--allow-unauthenticated"]);
    let rpc = url_of(&endpoint.get_card(), "JSONRPC", "1.0");
    let set = endpoint.rpc(&rpc, "CreateTaskPushNotificationConfig", &config);
    assert_eq!(set["result"]["id"], "mine", "{set}");
    // Killed, so that it can say nothing at its end.
    drop(endpoint);
    std::fs::write(&done, "").unwrap();

    let endpoint = Endpoint::start(&caller, &[&target, "--allow-unauthenticated"]);
    let rpc = url_of(&endpoint.get_card(), "JSONRPC", "1.0");
    let first = told.recv_timeout(std::time::Duration::from_secs(40)).unwrap();
    assert!(first.head.contains("x-a2a-notification-token: secret"), "{}", first.head);
    let body: Value = serde_json::from_str(&first.body).unwrap();
    assert_eq!(body["task"]["status"]["state"], "TASK_STATE_COMPLETED", "{body}");
    // Nothing more can happen to it, so nothing is kept of it.
    wait("the webhook is forgotten", || {
        let asked = endpoint.rpc(&rpc, "GetTaskPushNotificationConfig", &one);
        asked["error"].is_object().then_some(())
    });
    let kept = std::fs::read_to_string(caller.home.join("a2a-webhooks.json")).unwrap();
    assert!(!kept.contains("secret"), "{kept}");
}
