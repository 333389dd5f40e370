//! What a call costs whoever answers it, in time on the processor, thread by thread: bare, of something public, under grants, under a policy of a
//! thousand rules, with a count on disk.
//!
//! `TMPDIR=/dev/shm cargo bench -p comity --bench callee`; Linux, because the time of each thread is read from proc(5). The callee is a whole node in a
//! process of its own (this program once more), the caller is the node's call protocol without a directory. Contenders take turns.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark that cannot set up its case fails, and reports on standard output"
)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use comity::audit::Audit;
use comity::rpc::{CallRequest, NoCapabilities, Rpc, RpcConfig, RpcLimits};
use comity::specialist::{Answer, function::Function};
use comity::transport::{Incoming, KeyExchange, Limits, Transport, TransportConfig};
use comity::{AgentId, Capability, Identity, Node, Visibility};
use comity_core::Time;
use comity_trust::grant::{Chain, Grant};
use iroh::endpoint::{Connection, RecvStream, SendStream, presets};
use serde_json::{Value, json};

/// Tells the process which callee to be.
const ROLE: &str = "COMITY_BENCH_CALLEE";
/// Calls of one pass, and before the first.
const CALLS: u32 = 4_000;
const WARM_UP: u32 = 500;
const PASSES: usize = 5;
/// Calls under way at once: one after the other, and as a busy callee has them.
const IN_FLIGHT: [u32; 2] = [1, 64];
/// Bytes of the request's text and of the answer's, as `bench/` has them.
const REQUEST_LEN: usize = 256;
const ANSWER_LEN: usize = 1024;
const RULES: u32 = 1_000;
const BARE: &[u8] = b"comity-bench/bare";

fn agent(n: u8) -> Identity {
    Identity::from_secret_bytes(&[n; 32])
}

const CALLEE: u8 = 1;
const DELEGATOR: u8 = 2;
const CALLER: u8 = 3;

/// How a call is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Raw streams of the QUIC stack: nothing is checked, signed or logged.
    Bare,
    /// A public capability.
    Public,
    /// A private one, under a grant of so many links, counted on disk or not.
    Granted { links: u8, counted: bool },
}

struct Contender {
    name: &'static str,
    /// The kind of callee.
    role: &'static str,
    way: Way,
}

const CONTENDERS: [Contender; 7] = [
    Contender { name: "bare QUIC streams", role: "bare", way: Way::Bare },
    Contender { name: "public, no audit log", role: "memory", way: Way::Public },
    Contender { name: "public", role: "home", way: Way::Public },
    Contender {
        name: "grant of 1 link",
        role: "home",
        way: Way::Granted { links: 1, counted: false },
    },
    Contender {
        name: "grant of 2 links",
        role: "home",
        way: Way::Granted { links: 2, counted: false },
    },
    Contender {
        name: "the same, 1,000 rules",
        role: "ruled",
        way: Way::Granted { links: 2, counted: false },
    },
    Contender {
        name: "the same, uses counted on disk",
        role: "ruled",
        way: Way::Granted { links: 2, counted: true },
    },
];

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    match std::env::var(ROLE) {
        Ok(role) => runtime.block_on(answer(&role)),
        Err(_) => runtime.block_on(measure()),
    }
}

// The callee.

async fn answer(role: &str) {
    if role == "bare" {
        return answer_bare().await;
    }
    let home = tempfile::tempdir().unwrap();
    let mut builder = Node::builder().identity(agent(CALLEE));
    if role != "memory" {
        builder = builder.home(home.path());
    }
    if role == "ruled" {
        std::fs::write(home.path().join("policy.toml"), rules()).unwrap();
    }
    let node = builder.spawn().await.unwrap();
    for (name, visibility) in [("open", Visibility::Public), ("closed", Visibility::Private)] {
        let mut capability = Capability::new(name).unwrap();
        capability.title = "Repeats a text".to_owned();
        capability.visibility = visibility;
        let repeat = Function::new(|call| async move {
            let text = call.request["text"].as_str().unwrap_or_default();
            Ok(Answer::One(json!({ "text": text.repeat(ANSWER_LEN / REQUEST_LEN) })))
        });
        node.serve(capability, Arc::new(repeat)).await.unwrap();
    }
    println!("{} {}", node.id(), node.contact().addrs[0]);
    until_told().await;
    node.shutdown().await;
}

/// Until the parent lets go of the standard input.
async fn until_told() {
    tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()))
        .await
        .unwrap()
        .unwrap();
}

async fn answer_bare() {
    let endpoint = bare(CALLEE).await;
    println!("{} {}", agent(CALLEE).id(), endpoint.bound_sockets()[0]);
    let accepting = async {
        while let Some(incoming) = endpoint.accept().await {
            let link = incoming.await.unwrap();
            tokio::spawn(async move {
                while let Ok((send, recv)) = link.accept_bi().await {
                    tokio::spawn(repeat_bare(send, recv));
                }
            });
        }
    };
    tokio::select! {
        () = accepting => {}
        () = until_told() => {}
    }
}

async fn repeat_bare(mut send: SendStream, mut recv: RecvStream) {
    let mut request = [0; REQUEST_LEN];
    while recv.read_exact(&mut request).await.is_ok() {
        let answer = request.repeat(ANSWER_LEN / REQUEST_LEN);
        if send.write_all(&answer).await.is_err() {
            return;
        }
    }
}

async fn bare(secret: u8) -> iroh::Endpoint {
    iroh::Endpoint::builder(presets::Minimal)
        .secret_key(iroh::SecretKey::from_bytes(&[secret; 32]))
        .alpns(vec![BARE.to_vec()])
        .clear_ip_transports()
        .bind_addr("127.0.0.1:0")
        .unwrap()
        .bind()
        .await
        .unwrap()
}

/// A thousand rules for others, and one at the end that lets the holder of a grant in.
fn rules() -> String {
    let mut text = String::new();
    for n in 0..RULES {
        let mut secret = [9; 32];
        secret[..4].copy_from_slice(&n.to_be_bytes());
        let key = Identity::from_secret_bytes(&secret).id();
        let name = ["cap-", "fx.*.", "*.rates-"][n as usize % 3];
        let _ = write!(text, "[[rule]]\nallow = \"{name}{n}\"\nagents = \"{key}\"\n");
    }
    text + "[[rule]]\nallow = \"closed\"\ngrant = true\n"
}

// The caller.

struct Callee {
    child: Child,
    id: AgentId,
    addr: SocketAddr,
}

impl Callee {
    fn start(role: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .env(ROLE, role)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let (id, addr) = line.trim().split_once(' ').unwrap();
        Self { id: id.parse().unwrap(), addr: addr.parse().unwrap(), child }
    }

    /// Nanoseconds that each of its threads spent on a processor (proc(5), `schedstat`), by the thread's name.
    fn spent(&self) -> BTreeMap<String, u64> {
        let tasks = format!("/proc/{}/task", self.child.id());
        let mut spent = BTreeMap::new();
        for task in std::fs::read_dir(tasks).unwrap() {
            let task = task.unwrap().path();
            let read = |name: &str| std::fs::read_to_string(task.join(name)).unwrap_or_default();
            let nanos = read("schedstat").split(' ').next().and_then(|text| text.parse().ok());
            *spent.entry(part(read("comm").trim()).to_owned()).or_default() += nanos.unwrap_or(0);
        }
        spent
    }
}

impl Drop for Callee {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ended = self.child.wait();
    }
}

/// What a thread does. The kernel keeps 15 letters of a name.
fn part(thread: &str) -> &'static str {
    match thread {
        "comity-sign" => "receipts",
        "comity-audit" => "audit log",
        "comity-storage" => "storage",
        "comity-director" => "directory",
        "comity-net" => "network",
        _ if thread.starts_with("callee") => "network",
        _ => "other",
    }
}

const PARTS: [&str; 6] = ["network", "receipts", "audit log", "storage", "directory", "other"];

#[derive(Clone)]
enum Road {
    Bare(Connection),
    Calls { rpc: Rpc, callee: AgentId, addr: SocketAddr, request: Box<CallRequest> },
}

impl Road {
    async fn open(callee: &Callee, way: Way) -> Self {
        if way == Way::Bare {
            let endpoint = bare(CALLER).await;
            let id = iroh::EndpointId::from_bytes(callee.id.as_bytes()).unwrap();
            let to = iroh::EndpointAddr::new(id).with_ip_addr(callee.addr);
            let link = endpoint.connect(to, BARE).await.unwrap();
            // An endpoint that is dropped closes its connections.
            std::mem::forget(endpoint);
            return Self::Bare(link);
        }
        let identity = Arc::new(agent(CALLER));
        let config = TransportConfig {
            identity: Arc::clone(&identity),
            listen: vec!["127.0.0.1:0".parse().unwrap()],
            limits: Limits { park_after: Duration::from_secs(600), ..Limits::default() },
            key_exchange: KeyExchange::default(),
            audit: Audit::default(),
        };
        let (transport, Incoming { exchanges, calls }) = Transport::bind(config).await.unwrap();
        std::mem::forget(exchanges);
        let config = RpcConfig {
            identity,
            handler: Arc::new(NoCapabilities),
            limits: RpcLimits::default(),
            clock: Default::default(),
            audit: Audit::default(),
        };
        let rpc = Rpc::start(transport, calls, config).unwrap();
        let (name, grants) = match way {
            Way::Granted { links, counted } => ("closed", Some(shown(links, counted))),
            Way::Bare | Way::Public => ("open", None),
        };
        let text = json!({ "text": "x".repeat(REQUEST_LEN) });
        let request = CallRequest { grants, ..CallRequest::from_json(name, &text).unwrap() };
        let request = Box::new(request);
        Self::Calls { rpc, callee: callee.id, addr: callee.addr, request }
    }

    async fn make(self, calls: u32) {
        match self {
            Self::Bare(link) => {
                let (mut send, mut recv) = link.open_bi().await.unwrap();
                let mut answer = [0; ANSWER_LEN];
                for _ in 0..calls {
                    send.write_all(&[b'x'; REQUEST_LEN]).await.unwrap();
                    recv.read_exact(&mut answer).await.unwrap();
                }
            }
            Self::Calls { rpc, callee, addr, request } => {
                for _ in 0..calls {
                    let answer = rpc.call(callee, &[addr], (*request).clone()).await.unwrap();
                    let [Value::Object(got)] = &answer.values().unwrap()[..] else { panic!("one") };
                    assert_eq!(got["text"].as_str().unwrap().len(), ANSWER_LEN);
                }
            }
        }
    }

    async fn make_at_once(&self, calls: u32, in_flight: u32) {
        let each = (0..in_flight).map(|_| tokio::spawn(self.clone().make(calls / in_flight)));
        for task in each.collect::<Vec<_>>() {
            task.await.unwrap();
        }
    }
}

/// What a caller shows: a chain of grants for `closed`, in the frame of the call protocol (`{0: 1, 1: chain}`).
fn shown(links: u8, counted: bool) -> Bytes {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let now = Time::from_millis(u64::try_from(now.as_millis()).unwrap());
    let grant = |holder: u8, depth: u8| {
        let until = now + Duration::from_secs(3600);
        let grant = Grant::new(agent(holder).id(), ["closed".parse().unwrap()], now, until);
        let grant = grant.depth(depth);
        if counted { grant.uses(u64::MAX) } else { grant }
    };
    let chain = if links == 1 {
        Chain::issue(grant(CALLER, 0), &agent(CALLEE)).unwrap()
    } else {
        let first = Chain::issue(grant(DELEGATOR, 1), &agent(CALLEE)).unwrap();
        first.delegate(grant(CALLER, 0), &agent(DELEGATOR)).unwrap()
    };
    let mut bytes = Vec::new();
    let mut encoder = minicbor::Encoder::new(&mut bytes);
    encoder.map(2).unwrap().u8(0).unwrap().u8(1).unwrap().u8(1).unwrap();
    encoder.bytes(&chain.to_bytes()).unwrap();
    bytes.into()
}

async fn measure() {
    assert!(Path::new("/proc/self/schedstat").exists(), "the kernel counts no time per thread");
    for in_flight in IN_FLIGHT {
        let mut callees = Vec::new();
        for contender in &CONTENDERS {
            let callee = Callee::start(contender.role);
            let road = Road::open(&callee, contender.way).await;
            road.make_at_once(WARM_UP.max(in_flight), in_flight).await;
            callees.push((callee, road));
        }
        let mut spent = vec![Vec::new(); CONTENDERS.len()];
        for pass in 0..PASSES {
            for turn in 0..CONTENDERS.len() {
                let n = (turn + pass) % CONTENDERS.len();
                let (callee, road) = &callees[n];
                let calls = CALLS / in_flight * in_flight;
                let before = callee.spent();
                road.make_at_once(calls, in_flight).await;
                let after = callee.spent();
                spent[n].push(PARTS.map(|part| {
                    let of = |at: &BTreeMap<String, u64>| at.get(part).copied().unwrap_or(0);
                    (of(&after).saturating_sub(of(&before))) as f64 / f64::from(calls) / 1_000.0
                }));
            }
        }
        report(in_flight, &spent);
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn report(in_flight: u32, spent: &[Vec<[f64; PARTS.len()]>]) {
    println!(
        "\nMicroseconds on the processor per call at the callee, {in_flight} in flight; median of {PASSES} passes of {CALLS} calls\n"
    );
    println!("| call | {} | all | over bare (lowest to highest pass) |", PARTS.join(" | "));
    println!("|---|{}---:|---:|", "---:|".repeat(PARTS.len()));
    let all = |passes: &[[f64; PARTS.len()]]| -> Vec<f64> {
        passes.iter().map(|parts| parts.iter().sum()).collect()
    };
    let bare = all(&spent[0]);
    for (contender, passes) in CONTENDERS.iter().zip(spent) {
        let parts: Vec<String> = (0..PARTS.len())
            .map(|n| format!("{:.1}", median(passes.iter().map(|parts| parts[n]).collect())))
            .collect();
        let whole = all(passes);
        let over: Vec<f64> = whole.iter().zip(&bare).map(|(all, bare)| all - bare).collect();
        let (low, high) = over
            .iter()
            .fold((f64::MAX, f64::MIN), |(low, high), value| (low.min(*value), high.max(*value)));
        println!(
            "| {} | {} | {:.1} | {:.1} ({low:.1} to {high:.1}) |",
            contender.name,
            parts.join(" | "),
            median(whole),
            median(over)
        );
    }
}
