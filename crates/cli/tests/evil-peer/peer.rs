//! The victim, the evil peer, and the wire format of calls written down a second time.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use comity_core::{AgentId, Hash, Identity, Sha256Digest};
use iroh::endpoint::{Connection, RecvStream, SendStream, presets};
use tokio::net::UdpSocket;

use crate::e2e_support::{Node, World, moody_program, notes};

pub(crate) const RPC: &[u8] = b"comity/rpc/1";
pub(crate) const OVERLAY: &[u8] = b"comity/overlay/1";

/// Numbers of errors on the wire.
pub(crate) mod code {
    use comity::rpc::ErrorCode;

    pub(crate) const NOT_FOUND: u32 = ErrorCode::NotFound.number();
    pub(crate) const DENIED: u32 = ErrorCode::Denied.number();
    pub(crate) const INVALID_INPUT: u32 = ErrorCode::InvalidInput.number();
    pub(crate) const BUSY: u32 = ErrorCode::Busy.number();
    pub(crate) const TOO_LARGE: u32 = ErrorCode::TooLarge.number();
    pub(crate) const TOO_EARLY: u32 = ErrorCode::TooEarly.number();
    pub(crate) const HELLO_FIRST: u32 = ErrorCode::HelloFirst.number();
}

/// A node that serves `echo` to everybody and `diary` to nobody, and notes what its programs were asked.
pub(crate) struct Victim {
    pub(crate) node: Node,
    pub(crate) id: AgentId,
    pub(crate) addr: SocketAddr,
    command: String,
    notes: PathBuf,
    pub(crate) world: World,
}

impl Victim {
    pub(crate) fn start() -> Self {
        let world = World::new();
        let node = world.node("victim", &[]);
        let (command, notes) = moody_program(&world, "echo");
        let id = node.agent().parse().unwrap();
        let addr = node.socket_address().parse().unwrap();
        let victim = Self { node, id, addr, command, notes, world };
        victim.serve("echo", "--public");
        victim.serve_private("diary");
        victim
    }

    pub(crate) fn serve(&self, name: &str, visibility: &str) {
        let (command, text) = (self.command.as_str(), "repeats what it hears");
        let line = ["serve", "--exec", command, "--name", name, "--description", text];
        self.node.ok(&[&line[..], &[visibility, "--yes"]].concat());
    }

    /// Serves another capability to nobody.
    pub(crate) fn serve_private(&self, name: &str) {
        self.serve(name, "--private");
    }

    /// The requests that reached its programs.
    pub(crate) fn executed(&self) -> Vec<String> {
        notes(&self.notes)
    }

    /// Resident memory, in KiB (proc(5)).
    pub(crate) fn memory_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.node.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// An honest peer is served.
    pub(crate) async fn serves_on(&self) {
        let honest = Evil::new().await;
        let link = honest.dial(self.id, self.addr, RPC).await;
        hello(&link).await;
        match ask(&link, &Request::call("echo", "{\"honest\":1}")).await {
            Said::Whole { receipt, .. } => assert!(!receipt.is_empty()),
            other => panic!("an honest peer is served: {other:?}"),
        }
    }
}

/// An endpoint without any of the node's scruples.
pub(crate) struct Evil {
    pub(crate) identity: Identity,
    pub(crate) endpoint: iroh::Endpoint,
}

impl Evil {
    pub(crate) async fn new() -> Self {
        Self::with(Identity::generate(&mut rand::rng())).await
    }

    /// One that has somebody's key.
    pub(crate) async fn with(identity: Identity) -> Self {
        let endpoint = iroh::Endpoint::builder(presets::Minimal)
            .secret_key(iroh::SecretKey::from_bytes(&identity.secret_bytes()))
            .alpns(vec![RPC.to_vec(), OVERLAY.to_vec()])
            .clear_ip_transports()
            .bind_addr("127.0.0.1:0")
            .unwrap()
            .bind()
            .await
            .unwrap();
        Self { identity, endpoint }
    }

    pub(crate) fn id(&self) -> AgentId {
        self.identity.id()
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.endpoint.bound_sockets()[0]
    }

    pub(crate) fn route(id: AgentId, addr: SocketAddr) -> iroh::EndpointAddr {
        let id = iroh::EndpointId::from_bytes(id.as_bytes()).unwrap();
        iroh::EndpointAddr::new(id).with_ip_addr(addr)
    }

    pub(crate) async fn dial(&self, id: AgentId, addr: SocketAddr, alpn: &[u8]) -> Connection {
        self.endpoint.connect(Self::route(id, addr), alpn).await.unwrap()
    }
}

/// The request frame as another implementation would write it.
#[derive(Clone, Debug, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
pub(crate) struct Request {
    #[n(0)]
    pub(crate) method: u8,
    #[n(1)]
    pub(crate) number: u64,
    #[n(2)]
    pub(crate) deadline_ms: u32,
    #[n(3)]
    pub(crate) capability: String,
    #[cbor(n(4), with = "minicbor::bytes")]
    pub(crate) body: Vec<u8>,
    #[n(5)]
    pub(crate) repeatable: bool,
    #[n(6)]
    pub(crate) descriptor: Option<Hash>,
    #[n(7)]
    pub(crate) interface: Option<Sha256Digest>,
    #[n(8)]
    pub(crate) nonce: Option<Hash>,
    #[n(9)]
    pub(crate) membership: Option<Hash>,
    #[cbor(n(10), with = "minicbor::bytes")]
    pub(crate) grants: Option<Vec<u8>>,
}

impl Request {
    pub(crate) fn of(method: u8, body: Vec<u8>) -> Self {
        Self {
            method,
            number: 1,
            deadline_ms: 20_000,
            capability: String::new(),
            body,
            repeatable: false,
            descriptor: None,
            interface: None,
            nonce: None,
            membership: None,
            grants: None,
        }
    }

    /// A call with a JSON text as its request.
    pub(crate) fn call(capability: &str, json: &str) -> Self {
        let value = serde_json::from_str(json).unwrap();
        let body = comity_core::canonical::from_json(&value).unwrap();
        Self { capability: capability.to_owned(), ..Self::of(0, body) }
    }
}

/// The response frames as another implementation would write them.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub(crate) enum Said {
    #[n(0)]
    Whole {
        #[cbor(n(0), with = "minicbor::bytes")]
        body: Vec<u8>,
        #[cbor(n(1), with = "minicbor::bytes")]
        receipt: Vec<u8>,
    },
    #[n(1)]
    Head,
    #[n(2)]
    Chunk {
        #[cbor(n(0), with = "minicbor::bytes")]
        data: Vec<u8>,
        #[n(1)]
        last: bool,
    },
    #[n(3)]
    End {
        #[cbor(n(0), with = "minicbor::bytes")]
        receipt: Vec<u8>,
    },
    #[n(4)]
    Error {
        #[n(0)]
        code: u32,
        #[n(1)]
        message: String,
    },
}

pub(crate) fn prefixed(body: &[u8]) -> Vec<u8> {
    let mut out = u32::try_from(body.len()).unwrap().to_be_bytes().to_vec();
    out.extend_from_slice(body);
    out
}

pub(crate) fn framed(value: &impl minicbor::Encode<()>) -> Vec<u8> {
    prefixed(&minicbor::to_vec(value).unwrap())
}

pub(crate) async fn frame(recv: &mut RecvStream) -> Option<Vec<u8>> {
    let mut prefix = [0; 4];
    recv.read_exact(&mut prefix).await.ok()?;
    let mut body = vec![0; usize::try_from(u32::from_be_bytes(prefix)).ok()?];
    recv.read_exact(&mut body).await.ok()?;
    Some(body)
}

pub(crate) async fn open(link: &Connection, bytes: &[u8]) -> (SendStream, RecvStream) {
    let (mut send, recv) = link.open_bi().await.unwrap();
    // The node may have refused before everything was written.
    let _ = send.write_all(bytes).await;
    (send, recv)
}

/// Sends bytes on a stream of their own; none when the node answered nothing.
pub(crate) async fn ask_bytes(link: &Connection, bytes: &[u8]) -> Option<Said> {
    let (_send, mut recv) = open(link, bytes).await;
    minicbor::decode(&frame(&mut recv).await?).ok()
}

pub(crate) async fn ask(link: &Connection, request: &Request) -> Said {
    ask_bytes(link, &framed(request)).await.expect("the node answers")
}

/// The error that the node answers with.
pub(crate) async fn refused(link: &Connection, request: &Request) -> u32 {
    match ask(link, request).await {
        Said::Error { code, .. } => code,
        other => panic!("it is refused: {request:?}: {other:?}"),
    }
}

/// Says an empty hello, as a peer does that has nothing to say.
pub(crate) async fn hello(link: &Connection) {
    let said = comity::rpc::Hello::default().encode();
    match ask(link, &Request::of(3, said)).await {
        Said::Whole { .. } => {}
        other => panic!("a hello is answered: {other:?}"),
    }
}

/// The exporter value of a session.
pub(crate) fn session(link: &Connection) -> Hash {
    let mut value = [0; 32];
    link.export_keying_material(&mut value, b"EXPORTER-comity/1", b"").unwrap();
    Hash(value)
}

/// Someone on the path: hands packets on both ways and keeps those to the victim.
pub(crate) struct Tap {
    pub(crate) addr: SocketAddr,
    recorded: Arc<Mutex<Vec<Vec<u8>>>>,
    out: Arc<UdpSocket>,
    victim: SocketAddr,
}

impl Tap {
    pub(crate) async fn on(victim: SocketAddr) -> Self {
        let inside = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let out = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let recorded = Arc::new(Mutex::new(Vec::new()));
        let addr = inside.local_addr().unwrap();
        let (kept, from, to) = (Arc::clone(&recorded), Arc::clone(&inside), Arc::clone(&out));
        tokio::spawn(async move {
            let mut packet = vec![0; 65_536];
            let mut caller = None;
            let mut back = vec![0; 65_536];
            loop {
                tokio::select! {
                    Ok((length, source)) = from.recv_from(&mut packet) => {
                        caller = Some(source);
                        kept.lock().unwrap().push(packet[..length].to_vec());
                        let _ = to.send_to(&packet[..length], victim).await;
                    }
                    Ok((length, _)) = to.recv_from(&mut back) => {
                        if let Some(caller) = caller {
                            let _ = from.send_to(&back[..length], caller).await;
                        }
                    }
                }
            }
        });
        Self { addr, recorded, out, victim }
    }

    /// Forgets what was recorded so far.
    pub(crate) fn rewind(&self) {
        self.recorded.lock().unwrap().clear();
    }

    /// Sends everything recorded once more: from where it came, and from elsewhere.
    pub(crate) async fn replay(&self) -> usize {
        let recorded = self.recorded.lock().unwrap().clone();
        let elsewhere = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        for packet in &recorded {
            let _ = self.out.send_to(packet, self.victim).await;
            let _ = elsewhere.send_to(packet, self.victim).await;
        }
        recorded.len()
    }
}

/// An envelope (COSE_Sign1) made by hand: whatever key, payload and signature.
pub(crate) fn envelope(
    key: &[u8; 32],
    payload: &[u8],
    sign: impl FnOnce(&[u8]) -> [u8; 64],
    kind: &str,
) -> Vec<u8> {
    let mut protected = Vec::new();
    let mut e = minicbor::Encoder::new(&mut protected);
    e.map(3).unwrap().u8(1).unwrap().i8(-19).unwrap();
    e.u8(3).unwrap().str("application/comity+cbor").unwrap().u8(4).unwrap().bytes(key).unwrap();
    let mut signed = Vec::new();
    let mut e = minicbor::Encoder::new(&mut signed);
    let aad = format!("comity/1/{kind}");
    e.array(4).unwrap().str("Signature1").unwrap().bytes(&protected).unwrap();
    e.bytes(aad.as_bytes()).unwrap().bytes(payload).unwrap();
    let signature = sign(&signed);
    let mut sealed = Vec::new();
    let mut e = minicbor::Encoder::new(&mut sealed);
    e.tag(minicbor::data::Tag::new(18)).unwrap().array(4).unwrap().bytes(&protected).unwrap();
    e.map(0).unwrap().bytes(payload).unwrap().bytes(&signature).unwrap();
    sealed
}

/// Canonical bytes of a payload.
pub(crate) fn payload(value: &impl comity_core::Canonical) -> Vec<u8> {
    value.encode()
}
