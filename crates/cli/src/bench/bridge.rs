//! `comity bench mcp`: what an MCP tool call costs through the network, against the same call straight over HTTP.
//!
//! Two node processes on loopback, an MCP server in a process of its own behind one of them, and three ways to it, taken in
//! turns so that all meet the same machine: straight, through `comity mcp connect` (the server served whole), and through
//! `comity mcp` (its tool as a pinned capability). Then each with many calls at once, memory, and how long a starting
//! `comity mcp` takes to its first list of tools.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use clap::Args;
use comity_api::types::{Exit, Overrides, ServeMode, ServeRequest, Visibility};
use comity_mcp::host::{tool_manifest, upstream_of, whole_manifest};
use comity_mcp::pins::{Pins, resolve};
use comity_specialist::manifest::Manifest;
use comity_specialist::mcp::McpSection;
use futures_util::future::join_all;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST, HeaderName};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};

use super::Progress;
use super::machine::{Machine, load, usage};
use super::stats::Latency;
use crate::output::Output;
use crate::process::{Launch, Process};
use crate::render;

/// Calls made before any is measured.
const WARM_UP: usize = 50;
/// Starts of `comity mcp` measured.
const STARTS: usize = 20;
/// Name of the tool and of its pin.
const TOOL: &str = "lookup";
/// A record as large as one answer of a directory: 200 bytes.
const RECORD: &str = r#"{"id":10959,"name":"Meteorological station 10959","lat":47.3769,"lon":8.5417,"height_m":408,"from":"1901-01-01","kind":"synoptic","country":"CH","operator":"federal office","quality":"checked"}"#;
const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");

/// Options of the measurement.
#[derive(Debug, Clone, Args)]
pub(crate) struct BridgeArgs {
    /// Print one JSON document instead of a table.
    #[arg(long)]
    pub(crate) json: bool,

    /// Calls each way, one after the other.
    #[arg(long, default_value_t = 1_000, value_name = "N",
        value_parser = clap::value_parser!(u32).range(10..=100_000))]
    calls: u32,

    /// Calls at once when throughput is measured.
    #[arg(long, default_value_t = 16, value_name = "N",
        value_parser = clap::value_parser!(u16).range(1..=64))]
    at_once: u16,

    /// Measure this MCP server (streamable HTTP, sessions) instead of one that answers at once.
    #[arg(long, value_name = "URL", requires = "tool")]
    url: Option<String>,

    /// The tool of that server that is called.
    #[arg(long, value_name = "NAME", requires = "url")]
    tool: Option<String>,

    /// With these arguments, a JSON object.
    #[arg(long, value_name = "JSON", requires = "url", value_parser = object)]
    arguments: Option<Value>,

    /// Be the MCP server of another `comity bench mcp`.
    #[arg(long, hide = true)]
    server: bool,
}

fn object(text: &str) -> Result<Value, String> {
    let value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if value.is_object() { Ok(value) } else { Err("expected a JSON object".to_owned()) }
}

/// One way to the server.
#[derive(Debug, Serialize)]
struct Way {
    name: &'static str,
    latency: Option<Latency>,
    /// Difference of the medians to the straight way, in microseconds.
    added_p50_us: i64,
    calls_per_s: f64,
}

#[derive(Debug, Serialize)]
struct Report {
    machine: Machine,
    ways: Vec<Way>,
    at_once: u16,
    /// From the start of the process to its first list of tools.
    start: Option<Latency>,
    /// Resident bytes of `comity mcp connect`, one process for a bridged server.
    connect_resident: Option<u64>,
    /// Resident bytes that the serving node gained by serving and answering.
    server_node_gained: Option<i64>,
}

/// Runs the measurement.
pub(crate) async fn run(args: &BridgeArgs, out: &Output) -> Result<ExitCode> {
    if args.server {
        return serve(out).await;
    }
    let directory =
        TempDir::with_prefix("comity-bench-").context("cannot create a directory for the nodes")?;
    let progress = Progress::new(out);
    progress.step("starting two nodes and an MCP server");
    let launch = Launch { directory: directory.path(), network: "bench", keep: false };
    let mut far = launch.start("far", None).await?;
    let mut near = launch.start("near", Some(&far.ticket())).await?;
    let measured = Box::pin(measure(args, &far, &near, &progress)).await;
    let _ = far.kill().await;
    let _ = near.kill().await;
    progress.end();
    out.answer(&measured?, text)?;
    Ok(ExitCode::from(Exit::Ok.code()))
}

async fn measure(
    args: &BridgeArgs,
    far: &Process,
    near: &Process,
    progress: &Progress,
) -> Result<Report> {
    let machine = Machine::here();
    let (_server, direct, tool, arguments) = server_of(args, &far.home).await?;
    let before = usage(far.pid());
    let section = McpSection { url: Some(direct.clone()), ..McpSection::default() };
    publish(far, whole_manifest(&section, &json!({}), "whole".to_owned())).await?;
    publish(far, tool_manifest(&section, &tool, TOOL.to_owned())).await?;
    let target = |name: &str| format!("{}/{name}", far.status.agent.address);
    let pin = resolve(&near.client, &target(TOOL), None, TOOL).await?;
    Pins::open(&near.home)?.put(pin)?;
    let whole = target("whole");
    let open = ["--http", "127.0.0.1:0", "--allow-unauthenticated"];
    let (connect, connected) =
        spawned(&[&["mcp", "connect", whole.as_str()], &open[..]].concat(), Some(&near.home))
            .await?;
    let (_mcp, pinned) = spawned(&[&["mcp"], &open[..]].concat(), Some(&near.home)).await?;

    let names = ["straight", "whole server (mcp connect)", "pinned tool (comity mcp)"];
    let own = json!({"name": tool["name"], "arguments": arguments});
    let of_pin = json!({"name": TOOL, "arguments": arguments});
    let urls = [(direct, &own), (connected, &own), (pinned, &of_pin)];
    let mut clients = Vec::new();
    for (url, params) in &urls {
        clients.push(Session::open(url, params).await?);
    }
    progress.step("one call after the other");
    let mut samples = vec![Vec::new(); urls.len()];
    for round in 0..WARM_UP + args.calls as usize {
        for (client, samples) in clients.iter_mut().zip(&mut samples) {
            let took = client.call().await?;
            if round >= WARM_UP {
                samples.push(took);
            }
        }
    }
    drop(clients);
    progress.step("many calls at once");
    let mut ways: Vec<Way> = Vec::new();
    for ((name, (url, params)), samples) in names.into_iter().zip(&urls).zip(&samples) {
        let at_once = usize::from(args.at_once);
        let calls_per_s = throughput(url, params, at_once, args.calls as usize).await?;
        let latency = Latency::of(samples);
        let p50 = |latency: Option<Latency>| latency.map_or(0, |one| one.p50_us.cast_signed());
        let straight = ways.first().map_or_else(|| p50(latency), |first| p50(first.latency));
        ways.push(Way { name, latency, added_p50_us: p50(latency) - straight, calls_per_s });
    }
    progress.step("starting `comity mcp`");
    let mut starts = Vec::new();
    for _ in 0..STARTS {
        starts.push(start_up(&near.home).await?);
    }
    let after = usage(far.pid());
    let gained = before
        .zip(after)
        .map(|(before, after)| after.resident.cast_signed() - before.resident.cast_signed());
    let connect_resident = connect.id().and_then(usage).map(|usage| usage.resident);
    Ok(Report {
        machine: Machine { load_after: load(), ..machine },
        ways,
        at_once: args.at_once,
        start: Latency::of(&starts),
        connect_resident,
        server_node_gained: gained,
    })
}

/// The server that is measured against, its process if it is of this measurement, the tool, and what it is called with.
async fn server_of(
    args: &BridgeArgs,
    logs: &Path,
) -> Result<(Option<Child>, String, Value, Value)> {
    let (Some(url), Some(name)) = (&args.url, &args.tool) else {
        let (server, url) = spawned(&["bench", "mcp", "--server"], None).await?;
        return Ok((Some(server), url, tool(), json!({"id": 10959})));
    };
    let section = McpSection { url: Some(url.clone()), ..McpSection::default() };
    let upstream = upstream_of(&section, logs).map_err(anyhow::Error::msg)?;
    let tools = upstream.tools().await.context("the MCP server cannot be used")?;
    let tool = tools.into_iter().find(|tool| tool["name"] == **name);
    let tool = tool.with_context(|| format!("the MCP server has no tool {name}"))?;
    let arguments = args.arguments.clone().unwrap_or_else(|| json!({}));
    Ok((None, url.clone(), tool, arguments))
}

async fn publish(node: &Process, manifest: Manifest) -> Result<()> {
    let manifest = Manifest { visibility: None, ..manifest };
    let request = ServeRequest {
        manifest: Some(serde_json::to_value(manifest)?),
        overrides: Overrides { visibility: Some(Visibility::Public), ..Overrides::default() },
        mode: ServeMode::Publish,
        ..ServeRequest::default()
    };
    node.client.serve(&request).await.context("the MCP server cannot be published")?;
    Ok(())
}

/// A comity process that prints a URL first.
async fn spawned(args: &[&str], home: Option<&Path>) -> Result<(Child, String)> {
    let mut command = comity(home)?;
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().context("cannot start a process")?;
    let stdout = child.stdout.take().context("a process without output")?;
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line).await?;
    let line = line.trim().to_owned();
    ensure!(line.starts_with("http://"), "`comity {}` printed no URL", args.join(" "));
    Ok((child, line))
}

fn comity(home: Option<&Path>) -> Result<Command> {
    let exe = std::env::current_exe().context("cannot find the comity program itself")?;
    let mut command = Command::new(exe);
    if let Some(home) = home {
        command.arg("--home").arg(home);
    }
    command.kill_on_drop(true);
    Ok(command)
}

/// From the start of `comity mcp` on its pipes to its first list of tools.
async fn start_up(home: &Path) -> Result<Duration> {
    let started = Instant::now();
    let mut command = comity(Some(home))?;
    command.arg("mcp").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn()?;
    let mut stdin = child.stdin.take().context("a process without input")?;
    let mut lines =
        BufReader::new(child.stdout.take().context("a process without output")?).lines();
    let mut hello = Vec::new();
    for message in
        [initialize(), initialized(), json!({"jsonrpc": "2.0", "id": 2, "method": "tools/list"})]
    {
        hello.extend_from_slice(format!("{message}\n").as_bytes());
    }
    stdin.write_all(&hello).await?;
    while let Some(line) = lines.next_line().await? {
        let message: Value = serde_json::from_str(&line)?;
        if message["id"] == 2 {
            ensure!(message["result"]["tools"].is_array(), "no list of tools: {message}");
            return Ok(started.elapsed());
        }
    }
    anyhow::bail!("`comity mcp` ended without a list of tools")
}

fn initialize() -> Value {
    json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "bench", "version": "1"},
    }})
}

fn initialized() -> Value {
    json!({"jsonrpc": "2.0", "method": "notifications/initialized"})
}

/// One session over one connection.
struct Session {
    sender: SendRequest<Full<Bytes>>,
    host: String,
    session: Option<String>,
    params: Value,
    next: u64,
}

impl Session {
    async fn open(url: &str, params: &Value) -> Result<Self> {
        let host = url.trim_start_matches("http://").trim_end_matches("/mcp").to_owned();
        let address: SocketAddr = host.parse()?;
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let mut session = Self { sender, host, session: None, params: params.clone(), next: 10 };
        let (head, _) = session.post(&initialize()).await?;
        session.session =
            head.headers.get(SESSION).and_then(|id| id.to_str().ok()).map(str::to_owned);
        session.post(&initialized()).await?;
        Ok(session)
    }

    async fn post(&mut self, message: &Value) -> Result<(hyper::http::response::Parts, Bytes)> {
        self.sender.ready().await?;
        let mut request = Request::post("/mcp")
            .header(HOST, &self.host)
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, "application/json, text/event-stream");
        if let Some(session) = &self.session {
            request = request.header(SESSION, session);
        }
        let request = request.body(Full::new(Bytes::from(message.to_string())))?;
        let (head, body) = self.sender.send_request(request).await?.into_parts();
        Ok((head, body.collect().await?.to_bytes()))
    }

    async fn call(&mut self) -> Result<Duration> {
        self.next += 1;
        let message = json!({"jsonrpc": "2.0", "id": self.next, "method": "tools/call", "params": self.params});
        let started = Instant::now();
        let (_, body) = self.post(&message).await?;
        let took = started.elapsed();
        ensure!(
            has(&body, b"\"result\"")
                && !has(&body, b"\"error\"")
                && !has(&body, b"\"isError\":true"),
            "the call failed: {}",
            render::clean(&String::from_utf8_lossy(&body))
        );
        Ok(took)
    }
}

fn has(body: &[u8], text: &[u8]) -> bool {
    body.windows(text.len()).any(|part| part == text)
}

async fn throughput(url: &str, params: &Value, at_once: usize, calls: usize) -> Result<f64> {
    let mut sessions = Vec::new();
    for _ in 0..at_once {
        sessions.push(Session::open(url, params).await?);
    }
    let each = calls.div_ceil(at_once);
    let started = Instant::now();
    let work = sessions.into_iter().map(|mut session| async move {
        for _ in 0..each {
            session.call().await?;
        }
        anyhow::Ok(())
    });
    for done in join_all(work).await {
        done?;
    }
    #[expect(clippy::cast_precision_loss, reason = "a count of calls is far below 2^52")]
    let made = (each * at_once) as f64;
    Ok(made / started.elapsed().as_secs_f64())
}

fn text(report: &Report, _width: usize) -> String {
    let ms = |us: u64| format!("{}.{:03} ms", us / 1_000, us % 1_000);
    let mut rows = vec![["", "p50", "p90", "p99", "added", "calls/s"].map(str::to_owned).to_vec()];
    for way in &report.ways {
        let Some(latency) = way.latency else { continue };
        rows.push(vec![
            way.name.to_owned(),
            ms(latency.p50_us),
            ms(latency.p90_us),
            ms(latency.p99_us),
            format!("{} us", way.added_p50_us),
            format!("{:.0} at {}", way.calls_per_s, report.at_once),
        ]);
    }
    let mut out = render::table(&rows);
    if let Some(start) = report.start {
        out.push_str(&format!(
            "start of `comity mcp` to its first list of tools: p50 {}, p90 {}\n",
            ms(start.p50_us),
            ms(start.p90_us)
        ));
    }
    let kib = |bytes: i64| format!("{} KiB", bytes / 1024);
    if let (Some(connect), Some(gained)) = (report.connect_resident, report.server_node_gained) {
        out.push_str(&format!(
            "memory: `mcp connect` {}, gained by the serving node {}\n",
            kib(connect.cast_signed()),
            kib(gained)
        ));
    }
    out
}

fn tool() -> Value {
    json!({
        "name": TOOL, "description": "Looks a record up.",
        "inputSchema": {"type": "object", "properties": {"id": {"type": "integer"}}, "required": ["id"]},
        "annotations": {"readOnlyHint": true},
    })
}

/// The MCP server that is measured against; ends when standard input closes.
async fn serve(out: &Output) -> Result<ExitCode> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("cannot listen")?;
    out.raw(&format!("http://{}/mcp\n", listener.local_addr()?))?;
    let (mut lifeline, mut sink) = (tokio::io::stdin(), tokio::io::sink());
    let mut closed = std::pin::pin!(tokio::io::copy(&mut lifeline, &mut sink));
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let stream = accepted?.0;
                stream.set_nodelay(true)?;
                tokio::spawn(async move {
                    let connection = hyper::server::conn::http1::Builder::new();
                    let _ = connection.serve_connection(TokioIo::new(stream), service_fn(answer)).await;
                });
            }
            _closed = &mut closed => return Ok(ExitCode::SUCCESS),
        }
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let empty = |status: StatusCode| {
        let mut response = Response::new(Full::default());
        *response.status_mut() = status;
        Ok(response)
    };
    if request.method() != Method::POST {
        return empty(StatusCode::METHOD_NOT_ALLOWED);
    }
    let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let message: Value = serde_json::from_slice(&body).unwrap_or_default();
    if message["id"].is_null() {
        return empty(StatusCode::ACCEPTED);
    }
    let result = match message["method"].as_str().unwrap_or_default() {
        "initialize" => json!({
            "protocolVersion": "2025-11-25", "capabilities": {"tools": {}},
            "serverInfo": {"name": "bench", "version": "1"},
        }),
        "tools/list" => json!({"tools": [tool()]}),
        "tools/call" => json!({"content": [{"type": "text", "text": RECORD}]}),
        _ => json!({}),
    };
    let body = json!({"jsonrpc": "2.0", "id": message["id"], "result": result}).to_string();
    let mut response = Response::new(Full::new(Bytes::from(body)));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("application/json"));
    Ok(response)
}
