//! The node's end of the control socket.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use comity_pilot::address::NodeId;
use comity_pilot::service::{data, event};
use comity_pilot::stream::Failure;
use comity_pilot::trust::TrustError;
use data_encoding::BASE64;
use serde::Serialize;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Notify, broadcast};
use tokio::task::{JoinHandle, JoinSet};

use super::views::path_text;
use super::{
    Ask, BenchView, Content, EventView, Failed, FailedKind, LINE_BYTES_MAX, Line, MessageView,
    NodeView, OfferView, PingView, SOCKET, SentView, StatusView, TrustView,
};
use crate::agent::{Agent, AgentError, Handler};
use crate::registry::RegistryError;

/// Questions answered at once.
const ASKED_MAX: usize = 64;
/// Pings of one question.
const PINGS_MAX: u32 = 1000;
/// Between two pings.
const PING_EVERY: Duration = Duration::from_millis(200);
/// Bytes of one measurement, and its dials.
const BENCH_BYTES_MAX: u64 = 1 << 32;
const BENCH_DIALS_MAX: u32 = 10_000;

/// Makes what answers for a capability; the program around the node knows how.
pub type Offers = Arc<dyn Fn(String) -> Handler + Send + Sync>;

/// A control socket. Dropping it closes and removes it.
#[derive(Debug)]
pub struct ControlServer {
    path: PathBuf,
    stopped: Arc<Notify>,
    task: JoinHandle<()>,
    /// Held as long as the node runs, so that two never share a directory.
    _lock: File,
}

impl Drop for ControlServer {
    fn drop(&mut self) {
        self.task.abort();
        let _gone = std::fs::remove_file(&self.path);
    }
}

impl ControlServer {
    /// Takes the directory for this process.
    ///
    /// # Errors
    /// [`io::ErrorKind::AddrInUse`] when another node runs there; else what the file system says.
    pub fn lock(home: &Path) -> io::Result<File> {
        let file =
            File::options().create(true).truncate(false).write(true).open(home.join("lock"))?;
        file.try_lock().map_err(|_held| {
            io::Error::new(io::ErrorKind::AddrInUse, "a Pilot node runs in this directory already")
        })?;
        Ok(file)
    }

    /// Listens in a directory whose `lock` this process holds.
    ///
    /// # Errors
    /// What the file system says.
    pub fn start(agent: Arc<Agent>, home: &Path, lock: File, offers: Offers) -> io::Result<Self> {
        use std::os::unix::fs::PermissionsExt as _;
        let path = home.join(SOCKET);
        // Left by a process that died: the lock says that none is there.
        let _left_over = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        let stopped = Arc::new(Notify::new());
        let task = tokio::spawn(accept(listener, agent, offers, Arc::clone(&stopped)));
        Ok(Self { path, stopped, task, _lock: lock })
    }

    /// Resolves when somebody asked the node to stop.
    pub async fn stopped(&self) {
        self.stopped.notified().await;
    }
}

async fn accept(listener: UnixListener, agent: Arc<Agent>, offers: Offers, stopped: Arc<Notify>) {
    let mut tasks = JoinSet::new();
    while let Ok((stream, _peer)) = listener.accept().await {
        while tasks.try_join_next().is_some() {}
        if tasks.len() >= ASKED_MAX {
            continue;
        }
        let (agent, offers, stopped) =
            (Arc::clone(&agent), Arc::clone(&offers), Arc::clone(&stopped));
        tasks.spawn(async move {
            // Who asked may be gone before the answer is.
            let _gone = serve(stream, &agent, &offers, &stopped).await;
        });
    }
}

struct Asker {
    out: OwnedWriteHalf,
    /// Says nothing more; ends when the asker goes.
    input: BufReader<OwnedReadHalf>,
}

impl Asker {
    async fn line(&mut self, line: &Line) -> io::Result<()> {
        let mut bytes = serde_json::to_vec(line).map_err(io::Error::other)?;
        bytes.push(b'\n');
        self.out.write_all(&bytes).await
    }

    async fn item(&mut self, item: &impl Serialize) -> io::Result<()> {
        self.line(&Line::Item(serde_json::to_value(item).map_err(io::Error::other)?)).await
    }

    async fn gone(&mut self) {
        let mut byte = [0; 64];
        while matches!(self.input.read(&mut byte).await, Ok(count) if count > 0) {}
    }
}

async fn serve(
    stream: UnixStream,
    agent: &Arc<Agent>,
    offers: &Offers,
    stopped: &Notify,
) -> io::Result<()> {
    let (input, out) = stream.into_split();
    let mut input = BufReader::new(input);
    let mut line = Vec::new();
    (&mut input).take(LINE_BYTES_MAX).read_until(b'\n', &mut line).await?;
    let mut asker = Asker { out, input };
    let ask = match serde_json::from_slice::<Ask>(&line) {
        Ok(ask) => ask,
        Err(error) => {
            let message = format!("not a question of this control socket: {error}");
            let failed = Failed { kind: FailedKind::Question, message, hint: String::new() };
            return asker.line(&Line::Failed(failed)).await;
        }
    };
    let stop = ask == Ask::Stop;
    let answered = Box::pin(answer(agent, offers, &mut asker, ask)).await;
    let line = match answered {
        Ok(value) => Line::Done(value),
        Err(Trouble::Gone) => return Ok(()),
        Err(Trouble::Failed(failed)) => Line::Failed(failed),
    };
    asker.line(&line).await?;
    if stop {
        stopped.notify_one();
    }
    Ok(())
}

enum Trouble {
    Gone,
    Failed(Failed),
}

impl From<AgentError> for Trouble {
    fn from(error: AgentError) -> Self {
        Self::Failed(Failed::from(&error))
    }
}

fn gone(_error: io::Error) -> Trouble {
    Trouble::Gone
}

fn question(message: impl Into<String>) -> Trouble {
    let (kind, hint) = (FailedKind::Question, String::new());
    Trouble::Failed(Failed { kind, message: message.into(), hint })
}

fn value(of: &impl Serialize) -> Result<Value, Trouble> {
    serde_json::to_value(of).map_err(|error| question(error.to_string()))
}

impl From<&AgentError> for Failed {
    fn from(error: &AgentError) -> Self {
        let (kind, hint) = match error {
            AgentError::Io(..) | AgentError::Identity(..) => (FailedKind::Local, ""),
            AgentError::Registry(RegistryError::Io(..) | RegistryError::Silent(_)) => {
                (FailedKind::Unreachable, "check --registry, and --pin where it speaks TLS")
            }
            AgentError::Registry(RegistryError::KeyChanged(_)) => (FailedKind::NotVerified, ""),
            AgentError::Registry(RegistryError::Reply(_)) => (FailedKind::Refused, ""),
            AgentError::Trust(TrustError::NoRequest(_)) => {
                (FailedKind::NotFound, "`comity pilot trust` lists the requests that wait")
            }
            AgentError::Trust(TrustError::KeyChanged(_)) => (FailedKind::NotVerified, ""),
            AgentError::Trust(_) | AgentError::Refused(..) => (FailedKind::Refused, ""),
            AgentError::Stream(_, Failure::Reset) => {
                (FailedKind::Refused, "nothing listens on that port there")
            }
            AgentError::Stream(..) => (
                FailedKind::Unreachable,
                "it may be away, or not trust this node: `comity pilot handshake NODE` asks for trust",
            ),
            AgentError::Broken(..) => (FailedKind::Unreachable, ""),
            AgentError::Silent(_) | AgentError::Unanswered(..) => (FailedKind::Timeout, ""),
            AgentError::Host(_) | AgentError::Own(_) | AgentError::Large { .. } => {
                (FailedKind::Question, "")
            }
            AgentError::Port(_) => (FailedKind::Busy, ""),
        };
        Self { kind, message: error.to_string(), hint: hint.to_owned() }
    }
}

async fn answer(
    agent: &Arc<Agent>,
    offers: &Offers,
    asker: &mut Asker,
    ask: Ask,
) -> Result<Value, Trouble> {
    let sent = |node| SentView { node, bytes: None, answer: None, agreed: None };
    match ask {
        Ask::Status => value(&StatusView::of(agent)),
        Ask::Find { target } => value(&NodeView::of(agent, agent.find(&target).await?)),
        Ask::Ping { target, count } => ping(agent, asker, &target, count).await,
        Ask::Handshake { target, why } => {
            let node = other(agent, &target).await?;
            let agreed = agent.handshake(node, &why).await?;
            value(&SentView { agreed: Some(agreed), ..sent(node) })
        }
        Ask::Approve { target } => {
            let node = other(agent, &target).await?;
            agent.approve(node).await?;
            let agreed = agent.trust_snapshot().is_trusted(node);
            value(&SentView { agreed: Some(agreed), ..sent(node) })
        }
        Ask::Reject { target, reason } => {
            let node = other(agent, &target).await?;
            agent.reject(node, &reason).await?;
            value(&SentView { agreed: Some(false), ..sent(node) })
        }
        Ask::Revoke { target } => {
            let node = other(agent, &target).await?;
            agent.revoke(node).await?;
            value(&SentView { agreed: Some(false), ..sent(node) })
        }
        Ask::Forget { target } => {
            let node = other(agent, &target).await?;
            agent.forget(node)?;
            value(&SentView { agreed: Some(false), ..sent(node) })
        }
        Ask::Trust => value(&TrustView::of(agent)),
        Ask::Send { target, kind, content } => {
            let frame = frame(kind, content)?;
            let node = other(agent, &target).await?;
            let said = agent.send(node, &frame).await?;
            let said = String::from_utf8_lossy(&said.payload).into_owned();
            let bytes = Some(frame.payload.len() as u64);
            value(&SentView { bytes, answer: Some(said), ..sent(node) })
        }
        Ask::SendFile { target, path } => {
            let node = other(agent, &target).await?;
            let bytes = agent.send_file(node, &path).await?;
            value(&SentView { bytes: Some(bytes), ..sent(node) })
        }
        Ask::Recv { follow } => receive(agent, asker, follow).await,
        Ask::Publish { target, topic, payload } => {
            let node = broker(agent, &target).await?;
            agent.publish(node, &topic, payload.as_bytes()).await?;
            value(&SentView { bytes: Some(payload.len() as u64), ..sent(node) })
        }
        Ask::Subscribe { target, topic } => subscribe(agent, asker, &target, &topic).await,
        Ask::Request { target, port, input, timeout_ms } => {
            let node = other(agent, &target).await?;
            let json = input.to_string();
            let patience = Duration::from_millis(timeout_ms);
            let answer = agent.request(node, port, json.as_bytes(), patience).await?;
            let text = String::from_utf8_lossy(&answer.payload).into_owned();
            Ok(serde_json::from_str(&text).unwrap_or(Value::String(text)))
        }
        Ask::Offer { capability, port } => {
            agent.offer(&capability, port, offers(capability.clone()))?;
            value(&OfferView { port, capability })
        }
        Ask::Bench { target, bytes, dials } => {
            let node = other(agent, &target).await?;
            value(&bench(agent, node, bytes, dials).await?)
        }
        Ask::Stop => Ok(Value::Null),
    }
}

/// A node that is not this one, and whose key is known.
async fn other(agent: &Agent, target: &str) -> Result<NodeId, Trouble> {
    let node = agent.number(target).await?;
    if node == agent.id() {
        return Err(AgentError::Own(node).into());
    }
    Ok(node)
}

async fn broker(agent: &Agent, target: &str) -> Result<NodeId, Trouble> {
    if target.is_empty() { Ok(agent.id()) } else { Ok(agent.number(target).await?) }
}

fn frame(kind: Content, content: String) -> Result<data::Frame, Trouble> {
    let frame = match kind {
        Content::Text => data::Frame::new(data::Kind::Text, content),
        Content::Json => {
            if let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(&content) {
                return Err(question(format!("the content is no JSON: {error}")));
            }
            data::Frame::new(data::Kind::Json, content)
        }
        Content::Binary => {
            let bytes = BASE64.decode(content.as_bytes());
            let bytes = bytes.map_err(|_text| question("the content is no base64"))?;
            data::Frame::new(data::Kind::Binary, bytes)
        }
    };
    if frame.payload.len() > data::PAYLOAD_BYTES_MAX {
        let max = data::PAYLOAD_BYTES_MAX;
        return Err(question(format!("a message has at most {max} bytes; send a file instead")));
    }
    Ok(frame)
}

async fn ping(
    agent: &Agent,
    asker: &mut Asker,
    target: &str,
    count: u32,
) -> Result<Value, Trouble> {
    let node = agent.number(target).await?;
    for round in 0..count.min(PINGS_MAX) {
        if round > 0 {
            tokio::time::sleep(PING_EVERY).await;
        }
        let ms = agent.ping(node).await?.as_secs_f64() * 1000.0;
        asker.item(&PingView { node, ms, path: path_to(agent, node) }).await.map_err(gone)?;
    }
    Ok(Value::Null)
}

fn path_to(agent: &Agent, node: NodeId) -> Option<String> {
    let peers = agent.node().peers();
    peers.iter().find(|peer| peer.node == node)?.path.map(path_text)
}

async fn receive(agent: &Agent, asker: &mut Asker, follow: bool) -> Result<Value, Trouble> {
    let mut arrivals = agent.inbox().arrivals();
    let local = |error| AgentError::Io("the inbox".to_owned(), error);
    for message in agent.inbox().list().map_err(local)? {
        asker.item(&MessageView::of(&message)).await.map_err(gone)?;
    }
    if !follow {
        return Ok(Value::Null);
    }
    loop {
        let arrived = tokio::select! {
            arrived = arrivals.recv() => arrived,
            () = asker.gone() => return Err(Trouble::Gone),
        };
        match arrived {
            Ok(message) => asker.item(&MessageView::of(&message)).await.map_err(gone)?,
            // They are in the inbox all the same.
            Err(broadcast::error::RecvError::Lagged(_count)) => {}
            Err(broadcast::error::RecvError::Closed) => return Ok(Value::Null),
        }
    }
}

async fn subscribe(
    agent: &Agent,
    asker: &mut Asker,
    target: &str,
    topic: &str,
) -> Result<Value, Trouble> {
    let node = other(agent, target).await?;
    let topic = if topic.is_empty() { event::ALL } else { topic };
    let mut events = agent.subscribe(node, topic).await?;
    loop {
        let event = tokio::select! {
            event = events.recv() => event,
            () = asker.gone() => return Err(Trouble::Gone),
        };
        let Some(event) = event else {
            return Err(AgentError::Silent(node).into());
        };
        let (text, data) = match String::from_utf8(event.payload) {
            Ok(text) => (Some(text), None),
            Err(bytes) => (None, Some(BASE64.encode(bytes.as_bytes()))),
        };
        asker.item(&EventView { topic: event.topic, text, data }).await.map_err(gone)?;
    }
}

async fn bench(
    agent: &Agent,
    node: NodeId,
    bytes: u64,
    dials: u32,
) -> Result<BenchView, AgentError> {
    const ECHO: u16 = comity_pilot::address::port::ECHO;
    let bytes = bytes.min(BENCH_BYTES_MAX);
    let mut took = Vec::new();
    // The first makes the tunnel.
    agent.connect(node, ECHO).await?;
    for _dial in 0..dials.clamp(1, BENCH_DIALS_MAX) {
        let began = Instant::now();
        agent.connect(node, ECHO).await?;
        took.push(began.elapsed());
    }
    took.sort();
    let connection = agent.connect(node, ECHO).await?;
    let to = connection.remote();
    let broken = |error| AgentError::Broken(to, error);
    let (mut reading, mut writing) = tokio::io::split(connection);
    let began = Instant::now();
    let write = async {
        let block = vec![0x5A; 1 << 18];
        let mut left = bytes;
        while left > 0 {
            let count = left.min(block.len() as u64);
            let part = usize::try_from(count).unwrap_or(block.len());
            writing.write_all(&block[..part]).await?;
            left -= count;
        }
        io::Result::Ok(())
    };
    let read = async {
        let mut buffer = vec![0; 1 << 18];
        let mut left = bytes;
        while left > 0 {
            match reading.read(&mut buffer).await? {
                0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
                count => left = left.saturating_sub(count as u64),
            }
        }
        Ok(())
    };
    let (wrote, got) = tokio::join!(write, read);
    wrote.map_err(broken)?;
    got.map_err(broken)?;
    let seconds = began.elapsed().as_secs_f64();
    let connection = reading.unsplit(writing);
    Ok(BenchView {
        node,
        path: path_to(agent, node),
        bytes,
        megabytes_per_second: bytes as f64 / 1e6 / seconds,
        dial_ms: took[took.len() / 2].as_secs_f64() * 1000.0,
        retransmitted: connection.statistics().map_or(0, |counted| counted.retransmitted),
    })
}
