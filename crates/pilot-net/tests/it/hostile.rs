//! A registry and a beacon that mean harm: they can refuse and delay. They cannot make a node take another key, believe in trust, crash, or
//! keep more and more.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use comity_pilot::beacon::Beacon;
use comity_pilot::identity::Identity;
use comity_pilot_net::{Agent, AgentError, Join, RegistryError};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::time::timeout;

use crate::support::PATIENCE;

/// What the registry says to the next look-up.
#[derive(Clone)]
enum Says {
    /// The key of this seed, for a node.
    Key { node: u64, seed: u8 },
    /// These bytes, with their length.
    Bytes(Vec<u8>),
    /// This length, and nothing more.
    Length(u32),
}

struct Hostile {
    registry: SocketAddr,
    beacon: SocketAddr,
    says: Arc<Mutex<Says>>,
}

fn key(seed: u8) -> Identity {
    Identity::from_seed(&[seed; 32])
}

async fn answer(stream: &mut TcpStream, says: &Mutex<Says>) -> std::io::Result<()> {
    loop {
        let mut request = vec![0; stream.read_u32().await? as usize];
        stream.read_exact(&mut request).await?;
        let request: Value = serde_json::from_slice(&request).unwrap();
        let bytes = match request["type"].as_str().unwrap() {
            "register" => json!({"type": "register_ok", "node_id": 1, "network_id": 0}).to_string(),
            "lookup" => {
                let says = says.lock().unwrap().clone();
                match says {
                    Says::Key { node, seed } => {
                        let key = key(seed).public_text();
                        let at = "127.0.0.1:9";
                        json!({"type": "lookup_ok", "node_id": node, "public_key": key, "public": true, "real_addr": at})
                            .to_string()
                    }
                    Says::Bytes(bytes) => {
                        stream.write_u32(u32::try_from(bytes.len()).unwrap()).await?;
                        stream.write_all(&bytes).await?;
                        continue;
                    }
                    Says::Length(length) => {
                        stream.write_u32(length).await?;
                        continue;
                    }
                }
            }
            "poll_handshakes" => {
                let many: Vec<Value> = (2..5000)
                    .map(|node| json!({"from_node_id": node, "justification": "x".repeat(60)}))
                    .collect();
                let agreed: Vec<Value> =
                    (2..100).map(|node| json!({"from_node_id": node, "accept": true})).collect();
                json!({"type": "poll_handshakes_ok", "requests": many, "responses": agreed})
                    .to_string()
            }
            _ => json!({"type": "ok"}).to_string(),
        };
        stream.write_u32(u32::try_from(bytes.len()).unwrap()).await?;
        stream.write_all(bytes.as_bytes()).await?;
    }
}

impl Hostile {
    async fn start() -> Self {
        let says = Arc::new(Mutex::new(Says::Key { node: 2, seed: 7 }));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let registry = listener.local_addr().unwrap();
        let script = Arc::clone(&says);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let says = Arc::clone(&script);
                tokio::spawn(async move { answer(&mut stream, &says).await });
            }
        });
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let beacon = socket.local_addr().unwrap();
        tokio::spawn(async move {
            let mut buffer = [0; 2048];
            while let Ok((count, from)) = socket.recv_from(&mut buffer).await {
                let mut said = vec![Beacon::DiscoverReply(from).to_vec(), vec![], vec![0xFF; 1500]];
                for byte in 0..16 {
                    said.push([&[byte], &buffer[..count]].concat());
                }
                // Packets in the clear, and punches at everybody.
                said.push(Beacon::PunchCommand("127.0.0.1:9".parse().unwrap()).to_vec());
                for datagram in said {
                    let _gone = socket.send_to(&datagram, from).await;
                }
            }
        });
        Self { registry, beacon, says }
    }

    fn say(&self, says: Says) {
        *self.says.lock().unwrap() = says;
    }
}

#[tokio::test]
async fn a_hostile_registry_and_beacon_can_refuse_and_no_more() {
    let hostile = Hostile::start().await;
    let home = TempDir::new().unwrap();
    let join = Join {
        home: home.path().join("me"),
        registry: hostile.registry.to_string(),
        pin: None,
        beacon: hostile.beacon.to_string(),
        listen: "127.0.0.1:0".parse().unwrap(),
        hostname: None,
        public: false,
    };
    let agent = Agent::join(join).await.unwrap();
    let first = agent.find("2").await.unwrap();
    assert_eq!(first.key, key(7).public());

    // Another key for the same number, another node's answer, nonsense of every size.
    hostile.say(Says::Key { node: 2, seed: 8 });
    let refused = agent.find("2").await.unwrap_err();
    assert!(matches!(refused, AgentError::Registry(RegistryError::KeyChanged(2))), "{refused}");
    hostile.say(Says::Key { node: 3, seed: 7 });
    agent.find("2").await.unwrap_err();
    let deep = "[".repeat(500_000);
    for bytes in [
        Vec::new(),
        b"null".to_vec(),
        vec![0xFF; 4096],
        deep.into_bytes(),
        br#"{"type":"lookup_ok","node_id":2,"public_key":"AAAA"}"#.to_vec(),
        br#"{"type":"lookup_ok","node_id":-1,"public_key":7,"tags":{},"networks":"x"}"#.to_vec(),
        br#"{"type":"error","error":"request failed"}"#.to_vec(),
    ] {
        hostile.say(Says::Bytes(bytes));
        agent.find("2").await.unwrap_err();
    }
    for length in [u32::MAX, 1 << 30] {
        hostile.say(Says::Length(length));
        timeout(PATIENCE, agent.find("2")).await.expect("it is not waited for").unwrap_err();
    }
    assert_eq!(agent.trust_snapshot().pinned(2), Some(key(7).public()));

    // Nobody is trusted for the registry's word, and what it relays is bounded.
    let trust = agent.trust_snapshot();
    assert_eq!(trust.trusted().count(), 0);
    assert!(trust.pending().count() <= comity_pilot::trust::PENDING_MAX);
    assert!(
        agent.node().peers().iter().all(|peer| peer.dialect.is_none()),
        "nobody has proven a key"
    );

    // And afterwards all is as before.
    hostile.say(Says::Key { node: 2, seed: 7 });
    assert_eq!(agent.find("2").await.unwrap().key, first.key);
}
