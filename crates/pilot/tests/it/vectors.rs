//! Golden vectors made by Pilot's own Go code (`tests/vectors/pilot.json` says which release made which).

use comity_pilot::address::{Address, SocketAddress};
use comity_pilot::beacon::Beacon;
use comity_pilot::crypto::{Cipher, Dialect, ExchangeKey, tunnel_key};
use comity_pilot::frame::{Frame, Nonce, SignedExchange, exchange_frame};
use comity_pilot::handshake;
use comity_pilot::identity::Identity;
use comity_pilot::packet::{Flags, Header, Packet, Protocol};
use comity_pilot::registry::binary::{self, LookupOk};
use comity_pilot::registry::{Received, Request, framed};
use comity_pilot::service::{data, event, file};
use comity_pilot::stream::sack;
use serde_json::Value;

fn vectors() -> Vec<Value> {
    let file: Value = serde_json::from_str(include_str!("../vectors/pilot.json")).unwrap();
    file["vectors"].as_array().unwrap().clone()
}

fn of(prefix: &str) -> Vec<Value> {
    let found: Vec<Value> =
        vectors().into_iter().filter(|v| v["name"].as_str().unwrap().starts_with(prefix)).collect();
    assert!(!found.is_empty(), "no vector is called {prefix}…");
    found
}

fn one(name: &str) -> Value {
    vectors().into_iter().find(|v| v["name"] == name).unwrap_or_else(|| panic!("no vector {name}"))
}

fn bytes(vector: &Value) -> Vec<u8> {
    hex::decode(vector["hex"].as_str().unwrap()).unwrap()
}

fn hex32(value: &Value) -> [u8; 32] {
    hex::decode(value.as_str().unwrap()).unwrap().try_into().unwrap()
}

fn number(value: &Value) -> u32 {
    value.as_u64().unwrap().try_into().unwrap()
}

fn keys() -> Value {
    one("keys")["out"].clone()
}

fn identity_a() -> Identity {
    Identity::from_seed(&hex32(&keys()["A_ed25519_seed"]))
}

const NODE_B: u32 = 0x00A3_F291;

#[test]
fn addresses() {
    for vector in of("addr/") {
        let address = Address::from_bytes(bytes(&vector).try_into().unwrap());
        let out = &vector["out"];
        assert_eq!(u32::from(address.network), number(&vector["in"]["network"]));
        assert_eq!(address.node, number(&vector["in"]["node"]));
        assert_eq!(address.to_string(), out["text"].as_str().unwrap());
        assert_eq!(address.is_broadcast(), out["is_broadcast"]);
        assert_eq!(address.is_zero(), out["is_zero"]);
        assert_eq!(address.to_bytes().to_vec(), bytes(&vector));
    }
    for vector in of("addrparse/") {
        let parsed = vector["in"]["text"].as_str().unwrap().parse::<Address>();
        assert_eq!(parsed.is_ok(), vector["out"]["ok"], "{vector}");
        if let Ok(address) = parsed {
            assert_eq!(address.to_string(), vector["out"]["text"].as_str().unwrap());
        }
    }
    for vector in of("sockaddrparse/") {
        let parsed = vector["in"]["text"].as_str().unwrap().parse::<SocketAddress>();
        assert_eq!(parsed.is_ok(), vector["out"]["ok"], "{vector}");
        if let Ok(address) = parsed {
            assert_eq!(address.to_string(), vector["out"]["text"].as_str().unwrap());
        }
    }
}

#[test]
fn packets() {
    for vector in of("packet/") {
        let wire = bytes(&vector);
        let decoded = Packet::decode(&wire);
        if vector["out"]["ok"] == false {
            assert!(decoded.is_err(), "{vector}");
            continue;
        }
        let input = &vector["in"];
        let end = |address: &str, port: &str| SocketAddress {
            address: input[address].as_str().unwrap().parse().unwrap(),
            port: number(&input[port]) as u16,
        };
        let header = Header {
            flags: Flags::from_bits(number(&input["flags"]) as u8),
            protocol: match number(&input["protocol"]) {
                1 => Protocol::Stream,
                2 => Protocol::Datagram,
                3 => Protocol::Control,
                other => Protocol::Other(other as u8),
            },
            source: end("src", "sport"),
            destination: end("dst", "dport"),
            sequence: number(&input["seq"]),
            acknowledgement: number(&input["ack"]),
            window: number(&input["window"]) as u16,
        };
        let payload = hex::decode(input["payload_hex"].as_str().unwrap()).unwrap();
        let packet = Packet { header, payload: &payload };
        assert_eq!(packet.to_vec(), wire, "{vector}");
        assert_eq!(decoded, Ok(packet));
        let mut longer = wire.clone();
        longer.extend_from_slice(b"ignored");
        assert_eq!(Packet::decode(&longer), decoded, "bytes behind the payload are ignored");
        for cut in 0..wire.len() {
            assert!(Packet::decode(&wire[..cut]).is_err());
        }
    }
}

#[test]
fn keys_of_both_dialects() {
    let keys = keys();
    let a = ExchangeKey::from_secret(hex32(&keys["A_x25519_priv"]));
    let b = ExchangeKey::from_secret(hex32(&keys["B_x25519_priv"]));
    assert_eq!(*a.public(), hex32(&keys["A_x25519_pub"]));
    assert_eq!(*b.public(), hex32(&keys["B_x25519_pub"]));
    let shared = a.agree(b.public()).unwrap();
    assert_eq!(*shared, hex32(&keys["x25519_shared"]));
    assert_eq!(*b.agree(a.public()).unwrap(), *shared);
    assert_eq!(*tunnel_key(Dialect::A, &shared), hex32(&keys["aes256_key_dialect_A"]));
    assert_eq!(*tunnel_key(Dialect::B, &shared), hex32(&keys["aes256_key_dialect_B"]));
    assert!(a.agree(&[0; 32]).is_none(), "a key of small order makes the secret public");
    let identity = identity_a();
    assert_eq!(identity.public_text(), keys["A_ed25519_pub_b64"].as_str().unwrap());
    let file = identity.to_file_text();
    let private = keys["A_ed25519_priv_b64_identity_file"].as_str().unwrap();
    assert!(file.contains(private));
    assert_eq!(Identity::from_file_text(&file).unwrap().public(), identity.public());
}

#[test]
fn tunnel_frames() {
    let keys = keys();
    let shared = hex32(&keys["x25519_shared"]);
    let packet = bytes(&one("packet/data_hello"));
    for (suffix, dialect) in [("", Dialect::A), ("_B", Dialect::B)] {
        for counter in [1, 2] {
            let vector = one(&format!("tunnel/PILS_A_to_B_counter{counter}{suffix}"));
            let cipher = Cipher::new(dialect, &shared);
            let nonce = Nonce { prefix: [0xC0, 0xFF, 0xEE, 0x01], counter };
            let mut out = Vec::new();
            cipher.seal(1, nonce, &mut out, |out| out.extend_from_slice(&packet));
            assert_eq!(out, bytes(&vector), "{vector}");
            let Ok(Frame::Sealed(sealed)) = Frame::decode(&out) else { panic!("not sealed") };
            assert_eq!((sealed.node, sealed.nonce), (1, nonce));
            let mut plain = Vec::new();
            assert!(cipher.open(&sealed, &mut plain));
            assert_eq!(plain, packet);
            let other = if dialect == Dialect::A { Dialect::B } else { Dialect::A };
            assert!(!Cipher::new(other, &shared).open(&sealed, &mut plain));
            assert!(plain.is_empty());
        }
    }
    let exchange =
        SignedExchange::sign(1, hex32(&keys["A_x25519_pub"]), identity_a().signing_key());
    assert_eq!(exchange.to_vec(), bytes(&one("tunnel/PILA_from_A")));
    assert!(exchange.verify(&identity_a().public()));
    assert_eq!(Frame::decode(&exchange.to_vec()), Ok(Frame::SignedExchange(exchange)));
    let unsigned = exchange_frame(1, &hex32(&keys["A_x25519_pub"]));
    assert_eq!(unsigned.to_vec(), bytes(&one("tunnel/PILK_from_A")));
    assert_eq!(Frame::decode(&bytes(&one("tunnel/PILP"))), Ok(Frame::Punch));
    assert_eq!(Frame::decode(&bytes(&one("tunnel/PILT"))), Ok(Frame::Plain(&packet)));
}

#[test]
fn selective_acknowledgements() {
    let blocks = [(4097, 8193), (12289, 16385)];
    assert_eq!(sack::encode(&blocks), bytes(&one("sack/two_blocks")));
    assert_eq!(sack::decode(&bytes(&one("sack/two_blocks"))), Some(blocks.to_vec()));
    assert!(sack::looks_like_one(&bytes(&one("sack/user_data_collision"))));
}

#[test]
fn beacon_messages() {
    for vector in of("beacon/") {
        let wire = bytes(&vector);
        let message = Beacon::decode(&wire).unwrap();
        assert_eq!(message.to_vec(), wire, "{vector}");
        let expected = match vector["name"].as_str().unwrap() {
            "beacon/01_discover" => Beacon::Discover { node: 1, key: None },
            "beacon/02_discover_reply_v4" => {
                Beacon::DiscoverReply("127.0.0.1:19101".parse().unwrap())
            }
            "beacon/03_punch_request" => {
                Beacon::PunchRequest { requester: 1, target: NODE_B, grant: None }
            }
            "beacon/04_punch_command" => Beacon::PunchCommand("127.0.0.1:19102".parse().unwrap()),
            "beacon/05_relay" => {
                Beacon::Relay { source: 1, destination: NODE_B, frame: &wire[9..] }
            }
            "beacon/06_relay_deliver" => Beacon::Deliver { source: 1, frame: &wire[5..] },
            "beacon/07_sync" => Beacon::Sync { beacon: 9, nodes: vec![1, NODE_B] },
            "beacon/08_discover_ex" => Beacon::DiscoverNamed { node: 1 },
            "beacon/09_relay_deliver_dest" => {
                Beacon::DeliverNamed { source: 1, destination: NODE_B, frame: &wire[9..] }
            }
            "beacon/0A_notify" => Beacon::Notify(1),
            other => panic!("{other} is not expected here"),
        };
        assert_eq!(message, expected);
    }
}

#[test]
fn registry_signatures() {
    let identity = identity_a();
    let mut seen = 0;
    for vector in of("regsig/") {
        let text = vector["in"]["text"].as_str().unwrap();
        assert_eq!(identity.sign_text(text), vector["out"]["sig_b64"].as_str().unwrap());
        let node = 1;
        let peer = NODE_B;
        let request = match text.split(':').next().unwrap() {
            "register" => Request::Register {
                listen_addr: "127.0.0.1:19101".to_owned(),
                public_key: identity.public_text(),
                hostname: None,
                owner: None,
                lan_addrs: Vec::new(),
                version: None,
            },
            "heartbeat" => Request::Heartbeat { node },
            "resolve" => Request::Resolve { node: peer, requester: node },
            "punch" => Request::Punch { requester: node, node_a: node, node_b: peer },
            "poll_handshakes" => Request::PollHandshakes { node },
            "handshake" => {
                Request::AskHandshake { from: node, to: peer, justification: String::new() }
            }
            "respond" => Request::RespondHandshake { node, peer, accept: true },
            "report_trust" => Request::ReportTrust { node, peer },
            "revoke_trust" => Request::RevokeTrust { node, peer },
            "set_visibility" => Request::SetVisibility { node, public: true },
            "set_hostname" => Request::SetHostname { node, hostname: "x".to_owned() },
            "set_tags" => Request::SetTags { node, tags: vec!["x".to_owned()] },
            "deregister" => Request::Deregister { node },
            "rotate" => Request::RotateKey { node, new_public_key: String::new() },
            "join_network" => Request::JoinNetwork { node, network: 9, token: None },
            "leave_network" => Request::LeaveNetwork { node, network: 9 },
            // Retired, and the transport over WebSockets, are not spoken here.
            "set_task_exec" | "compat_auth" => continue,
            other => panic!("{other} is not expected here"),
        };
        assert_eq!(request.signed_text().as_deref(), Some(text));
        seen += 1;
    }
    assert!(seen >= 15);
}

#[test]
fn registry_requests() {
    let identity = identity_a();
    let register = Request::Register {
        listen_addr: "127.0.0.1:19101".to_owned(),
        public_key: identity.public_text(),
        hostname: Some("agent-a".to_owned()),
        owner: None,
        lan_addrs: Vec::new(),
        version: None,
    };
    let cases = [
        ("registry/register", register.to_json(), register),
        ("registry/lookup", Request::Lookup { node: 1 }.to_json(), Request::Lookup { node: 1 }),
        (
            "registry/heartbeat",
            Request::Heartbeat { node: 1 }.to_signed_json(&identity),
            Request::Heartbeat { node: 1 },
        ),
        (
            "registry/resolve",
            Request::Resolve { node: NODE_B, requester: 1 }.to_signed_json(&identity),
            Request::Resolve { node: NODE_B, requester: 1 },
        ),
    ];
    for (name, json, request) in cases {
        assert_eq!(framed(json.as_bytes()), bytes(&one(name)), "{name}");
        assert_eq!(Received::decode(json.as_bytes()).unwrap().request, request);
    }
}

#[test]
fn registry_binary_mode() {
    assert_eq!(binary::HELLO.to_vec(), bytes(&one("registry_binary/hello")));
    let identity = identity_a();
    let sign = |text: &str| {
        use ed25519_dalek::Signer as _;
        identity.signing_key().sign(text.as_bytes()).to_bytes()
    };
    let frames = [
        ("01_heartbeat", binary::Frame::Heartbeat { node: 1, signature: sign("heartbeat:1") }),
        ("81_heartbeat_ok", binary::Frame::HeartbeatOk { unix: 1_786_000_000, key_expires: false }),
        ("02_lookup", binary::Frame::Lookup(NODE_B)),
        (
            "82_lookup_ok",
            binary::Frame::LookupOk(Box::new(LookupOk {
                node: NODE_B,
                public: true,
                tasks: false,
                networks: vec![0, 9],
                key: identity.public().to_bytes().to_vec(),
                hostname: "agent-b".to_owned(),
                tags: vec!["gpu".to_owned()],
                real_addr: "127.0.0.1:19102".to_owned(),
                external_id: String::new(),
            })),
        ),
        (
            "03_resolve",
            binary::Frame::Resolve {
                node: NODE_B,
                requester: 1,
                signature: sign(&format!("resolve:1:{NODE_B}")),
            },
        ),
        (
            "83_resolve_ok",
            binary::Frame::ResolveOk {
                node: NODE_B,
                real_addr: "127.0.0.1:19102".to_owned(),
                lan_addrs: vec!["192.168.1.5:4000".to_owned()],
                key_age_days: None,
            },
        ),
        ("FF_error", binary::Frame::Error("request failed".to_owned())),
        ("00_json", binary::Frame::Json(br#"{"node_id":1,"type":"lookup"}"#.to_vec())),
    ];
    for (name, frame) in frames {
        let wire = bytes(&one(&format!("registry_binary/{name}")));
        assert_eq!(frame.to_vec(), wire, "{name}");
        let length = binary::frame_bytes(wire[..4].try_into().unwrap()).unwrap();
        assert_eq!(length, wire.len() - 4);
        assert_eq!(binary::Frame::decode(&wire[4..]), Ok(frame));
    }
}

#[test]
fn handshakes() {
    let keys = keys();
    let b = Identity::from_seed(&hex32(&keys["B_ed25519_seed"]));
    let a = identity_a();
    let request = handshake::Message::signed(
        handshake::Kind::Request,
        1,
        NODE_B,
        "want to talk",
        1_772_000_000,
        &a,
    );
    let accept =
        handshake::Message::signed(handshake::Kind::Accept, NODE_B, 1, "", 1_772_000_001, &b);
    let reject = handshake::Message::unsigned(handshake::Kind::Reject, NODE_B, "no", 1_772_000_001);
    for (name, message) in [("request", &request), ("accept", &accept), ("reject", &reject)] {
        let wire = bytes(&one(&format!("handshake/{name}")));
        assert_eq!(message.to_vec(), wire);
        assert_eq!(handshake::Message::decode(&wire).as_ref(), Ok(message));
    }
    assert!(request.is_signed_by(&a.public(), NODE_B));
    assert!(!request.is_signed_by(&a.public(), 3), "for another peer");
    assert!(accept.is_signed_by(&b.public(), 1));
}

#[test]
fn data_exchange() {
    let text = data::Frame::new(data::Kind::Text, "hello");
    let cases = [
        ("dataexchange/text", text.clone()),
        ("dataexchange/json", data::Frame::new(data::Kind::Json, r#"{"a":1}"#)),
        ("dataexchange/binary", data::Frame::new(data::Kind::Binary, [0, 1, 2, 255])),
        ("dataexchange/file", data::Frame::file("a.txt", b"file body")),
        ("dataexchange/ack_text", data::Frame::acknowledgement(&text)),
        (
            "dataexchange/trace_text",
            data::Frame::trace(data::Kind::Text, 0x18C9_2589_90D9_0000, b"hello"),
        ),
    ];
    for (name, frame) in cases {
        let wire = bytes(&one(name));
        assert_eq!(hex::encode(frame.to_vec()), hex::encode(&wire), "{name}");
        let mut reader = data::Reader::new(1 << 20);
        for byte in &wire {
            assert_eq!(reader.next_frame(), Ok(None), "not whole yet");
            reader.push(&[*byte]);
        }
        assert_eq!(reader.next_frame(), Ok(Some(frame)));
        assert!(reader.is_empty());
    }
}

#[test]
fn events() {
    let cases = [
        ("subscribe_all", event::Event::subscription(event::ALL)),
        ("subscribe", event::Event::subscription("news")),
        ("publish", event::Event { topic: "news".to_owned(), payload: b"item 1".to_vec() }),
    ];
    for (name, event) in cases {
        let wire = bytes(&one(&format!("eventstream/{name}")));
        assert_eq!(event.to_vec(), wire, "{name}");
        let mut reader = event::Reader::default();
        for byte in &wire {
            assert_eq!(reader.next_event(), Ok(None));
            reader.push(&[*byte]);
        }
        assert_eq!(reader.next_event(), Ok(Some(event)));
    }
}

#[test]
fn file_streams() {
    use sha2::Digest as _;
    let sha256: [u8; 32] = sha2::Sha256::digest(b"file body").into();
    let id: [u8; 16] = sha256[..16].try_into().unwrap();
    let init = file::Body::Init { size: 9, sha256, chunk: 48 << 10, name: "a.txt".to_owned() };
    let cases = [
        ("01_init", init),
        ("05_init_ack", file::Body::InitAck(0)),
        ("02_chunk", file::Body::Chunk { offset: 0, data: b"file body".to_vec() }),
        ("03_ack", file::Body::Ack(9)),
        ("04_done", file::Body::Done),
        ("06_complete", file::Body::Complete(None)),
    ];
    for (name, body) in cases {
        let message = file::Message { id, body };
        let frame = data::Frame::new(data::Kind::FileStream, message.to_payload());
        assert_eq!(frame.to_vec(), bytes(&one(&format!("filestream/{name}"))), "{name}");
        assert_eq!(file::Message::decode(&frame.payload), Ok(message));
    }
}
