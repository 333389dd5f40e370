//! The rendezvous: what it grants, and what it does not.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use comity_core::Time;
use comity_pilot::beacon::{Beacon, PunchGrant};
use comity_pilot::identity::Identity;
use comity_pilot::registry::binary::Frame;
use comity_pilot::registry::{
    NodeInfo, Registered, Request, Resolved, parse_handshakes, parse_reply,
};
use comity_pilot::rendezvous::{Client, Rendezvous, WAITING_MAX};
use ed25519_dalek::Signer as _;
use proptest::prelude::*;
use serde_json::{Value, json};

const START: Time = Time::from_secs(1_800_000_000);

/// How a node signs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Signs {
    /// As daemons of before 1.7: everything but registering, without value and time.
    Daemon,
    /// As comity.
    Bound,
}

struct Peer {
    id: u32,
    identity: Identity,
    signs: Signs,
    client: Client,
    at: SocketAddr,
}

struct World {
    server: Rendezvous,
    now: Time,
    time: u64,
}

impl World {
    fn new() -> Self {
        Self { server: Rendezvous::new("192.0.2.250:9001"), now: START, time: START.as_micros() }
    }

    fn register_text(peer: &Peer) -> Request {
        Request::Register {
            listen_addr: peer.at.to_string(),
            public_key: peer.identity.public_text(),
            hostname: None,
            owner: None,
            lan_addrs: Vec::new(),
            version: None,
        }
    }

    fn register(&mut self, peer: &mut Peer) {
        let request = Self::register_text(peer);
        let json = match peer.signs {
            Signs::Daemon => request.to_json(),
            Signs::Bound => self.bound(&peer.identity, &request),
        };
        let reply = self.raw(&mut peer.client, &json).unwrap();
        peer.id =
            Registered::parse(&parse_reply(reply.to_string().as_bytes()).unwrap()).unwrap().node;
    }

    fn peer(&mut self, number: u8, signs: Signs) -> Peer {
        let at = SocketAddr::new([192, 0, 2, number].into(), 4000);
        let identity = Identity::from_seed(&[number; 32]);
        let client = Client::new(self.now, at.ip());
        let mut peer = Peer { id: 0, identity, signs, client, at };
        self.register(&mut peer);
        peer
    }

    fn bound(&mut self, identity: &Identity, request: &Request) -> String {
        self.time = (self.time + 1).max(self.now.as_micros());
        request.to_bound_json(identity, self.time)
    }

    fn raw(&mut self, client: &mut Client, json: &str) -> Result<Value, String> {
        let reply = self.server.request(self.now, client, json.as_bytes());
        let reply: Value = serde_json::from_slice(&reply).unwrap();
        match reply["type"].as_str() {
            Some("error") => Err(reply["error"].as_str().unwrap().to_owned()),
            _ => Ok(reply),
        }
    }

    fn ask(&mut self, peer: &mut Peer, request: &Request) -> Result<Value, String> {
        let json = match peer.signs {
            Signs::Daemon => request.to_signed_json(&peer.identity),
            Signs::Bound => self.bound(&peer.identity, request),
        };
        self.raw(&mut peer.client, &json)
    }

    fn trust(&mut self, one: &mut Peer, other: &mut Peer) {
        let (a, b) = (one.id, other.id);
        self.ask(one, &Request::ReportTrust { node: a, peer: b }).unwrap();
        self.ask(other, &Request::ReportTrust { node: b, peer: a }).unwrap();
    }

    fn datagram(&mut self, from: SocketAddr, message: &Beacon<'_>) -> Vec<(SocketAddr, Vec<u8>)> {
        self.server.datagram(self.now, from, &message.to_vec());
        std::iter::from_fn(|| self.server.poll_transmit()).collect()
    }

    fn discover(&mut self, peer: &Peer) {
        let sent = self.datagram(peer.at, &Beacon::Discover { node: peer.id, key: None });
        assert_eq!(sent, [(peer.at, Beacon::DiscoverReply(peer.at).to_vec())]);
    }
}

fn both() -> [Signs; 2] {
    [Signs::Daemon, Signs::Bound]
}

fn resolve(requester: &Peer, node: &Peer) -> Request {
    Request::Resolve { node: node.id, requester: requester.id }
}

#[test]
fn a_key_has_one_number_for_ever() {
    let mut world = World::new();
    let mut one = world.peer(1, Signs::Daemon);
    let two = world.peer(2, Signs::Bound);
    assert_eq!((one.id, two.id), (1, 2));
    world.ask(&mut one, &Request::Deregister { node: 1 }).unwrap();
    assert_eq!(world.peer(3, Signs::Daemon).id, 3);
    world.register(&mut one);
    assert_eq!(one.id, 1);
    let reply = world.raw(&mut one.client, &Request::Lookup { node: 1 }.to_json()).unwrap();
    let info = NodeInfo::parse(&parse_reply(reply.to_string().as_bytes()).unwrap()).unwrap();
    assert_eq!(info.key, one.identity.public());
    assert_eq!(info.real_addr, None, "a private node's endpoint is not told");
}

#[test]
fn trust_takes_both_sides() {
    for signs in both() {
        let mut world = World::new();
        let (mut one, mut two) = (world.peer(1, signs), world.peer(2, signs));
        let ask = resolve(&one, &two);
        world.ask(&mut one, &Request::ReportTrust { node: 1, peer: 2 }).unwrap();
        world.ask(&mut one, &ask).unwrap_err();
        world.ask(&mut two, &Request::ReportTrust { node: 2, peer: 1 }).unwrap();
        let reply = world.ask(&mut one, &ask).unwrap();
        let told = Resolved::parse(&parse_reply(reply.to_string().as_bytes()).unwrap()).unwrap();
        assert_eq!(told.real_addr, two.at);
        world.ask(&mut two, &Request::RevokeTrust { node: 2, peer: 1 }).unwrap();
        world.ask(&mut one, &ask).unwrap_err();
    }
}

#[test]
fn an_answered_request_is_the_word_of_both() {
    let mut world = World::new();
    let (mut one, mut two) = (world.peer(1, Signs::Daemon), world.peer(2, Signs::Bound));
    // An acceptance of what nobody asked is the word of one.
    world.ask(&mut two, &Request::RespondHandshake { node: 2, peer: 1, accept: true }).unwrap();
    assert!(!world.server.trust(1, 2));
    let ask = Request::AskHandshake { from: 1, to: 2, justification: "hello".to_owned() };
    world.ask(&mut one, &ask).unwrap();
    assert!(world.server.trust(1, 2));
    let reply = world.ask(&mut two, &Request::PollHandshakes { node: 2 }).unwrap();
    let waiting = parse_handshakes(&parse_reply(reply.to_string().as_bytes()).unwrap());
    assert_eq!(waiting.requests[0].from, 1);
    assert_eq!(waiting.requests[0].justification, "hello");
    let again = world.ask(&mut two, &Request::PollHandshakes { node: 2 }).unwrap();
    assert_eq!(again["requests"], json!([]));
    world.ask(&mut two, &Request::RespondHandshake { node: 2, peer: 1, accept: false }).unwrap();
    assert!(!world.server.trust(1, 2));
}

#[test]
fn every_request_needs_its_nodes_signature() {
    for signs in both() {
        let mut world = World::new();
        let (mut one, mut two) = (world.peer(1, signs), world.peer(2, signs));
        let requests = [
            Request::Heartbeat { node: 1 },
            Request::SetVisibility { node: 1, public: true },
            Request::SetHostname { node: 1, hostname: "mine".to_owned() },
            Request::SetTags { node: 1, tags: vec!["a".to_owned()] },
            Request::ReportTrust { node: 1, peer: 2 },
            Request::RevokeTrust { node: 1, peer: 2 },
            Request::AskHandshake { from: 1, to: 2, justification: String::new() },
            Request::PollHandshakes { node: 1 },
            Request::RespondHandshake { node: 1, peer: 2, accept: true },
            Request::Punch { requester: 1, node_a: 1, node_b: 1 },
            Request::Resolve { requester: 1, node: 1 },
            Request::Deregister { node: 1 },
        ];
        for request in &requests {
            world.raw(&mut two.client, &request.to_json()).unwrap_err();
            world.ask(&mut two, request).unwrap_err();
            world.ask(&mut one, request).unwrap();
        }
    }
}

#[test]
fn a_recorded_request_of_ours_is_not_taken_again_nor_for_another_value() {
    let mut world = World::new();
    let mut one = world.peer(1, Signs::Bound);
    let request = Request::SetVisibility { node: 1, public: false };
    let json = world.bound(&one.identity, &request);
    world.raw(&mut one.client, &json.replace("false", "true")).unwrap_err();
    world.raw(&mut one.client, &json).unwrap();
    world.raw(&mut one.client, &json).unwrap_err();
    // Nor do Pilot's own signatures suffice any more, for this or for registering.
    world.raw(&mut one.client, &request.to_signed_json(&one.identity)).unwrap_err();
    let register = World::register_text(&one);
    world.raw(&mut one.client, &register.to_json()).unwrap_err();
    world.raw(&mut one.client, &register.to_signed_json(&one.identity)).unwrap_err();
    world.now += Duration::from_secs(3600);
    world.raw(&mut one.client, &request.to_bound_json(&one.identity, world.time + 5)).unwrap_err();
}

#[test]
fn a_daemons_recorded_signature_changes_nothing_from_elsewhere() {
    let mut world = World::new();
    let mut one = world.peer(1, Signs::Daemon);
    let recorded = Request::SetVisibility { node: 1, public: true }.to_signed_json(&one.identity);
    let mut thief = Client::new(world.now, IpAddr::from([203, 0, 113, 9]));
    world.raw(&mut thief, &recorded).unwrap_err();
    world.raw(&mut one.client, &recorded).unwrap();
    let new_public_key = Identity::from_seed(&[9; 32]).public_text();
    let rotate = Request::RotateKey { node: 1, new_public_key };
    world.ask(&mut one, &rotate).unwrap_err();
    let mut two = world.peer(2, Signs::Bound);
    let new_public_key = Identity::from_seed(&[8; 32]).public_text();
    world.ask(&mut two, &Request::RotateKey { node: 2, new_public_key }).unwrap();
}

#[test]
fn who_knows_a_key_cannot_move_its_node() {
    let mut world = World::new();
    let mut one = world.peer(1, Signs::Daemon);
    world.ask(&mut one, &Request::SetVisibility { node: 1, public: true }).unwrap();
    let mut two = world.peer(2, Signs::Daemon);
    let ask = resolve(&two, &one);
    let place = |reply: &Value| reply["real_addr"].as_str().unwrap().to_owned();
    // Everybody can look the key up and register it, unsigned as daemons do.
    let thief_at: IpAddr = [203, 0, 113, 9].into();
    let mut thief = Client::new(world.now, thief_at);
    let reply = world.raw(&mut thief, &World::register_text(&one).to_json()).unwrap();
    assert_eq!(reply["node_id"], 1);
    assert_eq!(place(&world.ask(&mut two, &ask).unwrap()), one.at.to_string());
    // The daemon itself moves with its next signed request.
    let moved: SocketAddr = "198.51.100.4:5000".parse().unwrap();
    (one.at, one.client) = (moved, Client::new(world.now, moved.ip()));
    world.register(&mut one);
    world.ask(&mut one, &Request::Heartbeat { node: 1 }).unwrap();
    assert_eq!(place(&world.ask(&mut two, &ask).unwrap()), moved.to_string());
}

#[test]
fn frames_are_relayed_for_who_is_where_it_registered() {
    let mut world = World::new();
    let (one, two) = (world.peer(1, Signs::Daemon), world.peer(2, Signs::Bound));
    let frame = b"PILSxxxx";
    let relay = Beacon::Relay { source: 1, destination: 2, frame };
    assert_eq!(world.datagram(one.at, &relay), [], "neither told the beacon where it is");
    world.discover(&one);
    world.discover(&two);
    let deliver = Beacon::Deliver { source: 1, frame }.to_vec();
    assert_eq!(world.datagram(one.at, &relay), [(two.at, deliver.clone())]);
    // A thief claims both numbers: it learns its own address, and nothing is sent to it or taken from it.
    let thief: SocketAddr = "203.0.113.9:4000".parse().unwrap();
    for node in [1, 2] {
        let sent = world.datagram(thief, &Beacon::Discover { node, key: None });
        assert_eq!(sent, [(thief, Beacon::DiscoverReply(thief).to_vec())]);
    }
    assert_eq!(world.datagram(thief, &relay), []);
    assert_eq!(world.datagram(one.at, &relay), [(two.at, deliver)]);
    assert_eq!(world.server.status(world.now).relayed, 2);
}

#[test]
fn a_hole_is_punched_for_who_is_trusted_or_has_a_grant() {
    let mut world = World::new();
    let (mut one, mut two) = (world.peer(1, Signs::Bound), world.peer(2, Signs::Daemon));
    world.discover(&one);
    world.discover(&two);
    let ask = |grant| Beacon::PunchRequest { requester: 1, target: 2, grant };
    assert_eq!(world.datagram(one.at, &ask(None)), []);
    let expiry = world.now.as_secs() + 60;
    let text = PunchGrant::signed_text(1, 2, expiry);
    let sign = |peer: &Peer| peer.identity.signing_key().sign(text.as_bytes()).to_bytes();
    let forged = PunchGrant { expiry, signature: sign(&one) };
    assert_eq!(world.datagram(one.at, &ask(Some(forged))), []);
    let granted = PunchGrant { expiry, signature: sign(&two) };
    let holes = [
        (two.at, Beacon::PunchCommand(one.at).to_vec()),
        (one.at, Beacon::PunchCommand(two.at).to_vec()),
    ];
    assert_eq!(world.datagram(one.at, &ask(Some(granted))), holes);
    world.trust(&mut one, &mut two);
    assert_eq!(world.datagram(one.at, &ask(None)), holes);
    assert_eq!(world.datagram("203.0.113.9:4000".parse().unwrap(), &ask(None)), []);
}

#[test]
fn who_knows_the_message_hears_that_a_request_waits() {
    let mut world = World::new();
    let (mut one, two) = (world.peer(1, Signs::Bound), world.peer(2, Signs::Bound));
    world.datagram(two.at, &Beacon::DiscoverNamed { node: 2 });
    let ask = Request::AskHandshake { from: 1, to: 2, justification: String::new() };
    world.ask(&mut one, &ask).unwrap();
    let sent: Vec<_> = std::iter::from_fn(|| world.server.poll_transmit()).collect();
    assert_eq!(sent, [(two.at, Beacon::Notify(1).to_vec())]);
}

#[test]
fn nothing_grows_without_bound() {
    let mut world = World::new();
    let _target = world.peer(1, Signs::Daemon);
    let mut refused = 0;
    for number in 2..=u8::try_from(WAITING_MAX + 10).unwrap() {
        let mut peer = world.peer(number, Signs::Daemon);
        let ask = Request::AskHandshake { from: peer.id, to: 1, justification: String::new() };
        refused += usize::from(world.ask(&mut peer, &ask).is_err());
    }
    assert_eq!(refused, 9);
    // One address gets so many numbers, others still get theirs.
    let mut client = Client::new(world.now, [198, 51, 100, 1].into());
    let mut given = 0;
    for number in 0..1000u32 {
        let seed: [u8; 32] = std::array::from_fn(|at| number.to_be_bytes()[at % 4] ^ 0x55);
        let register = Request::Register {
            listen_addr: "0.0.0.0:1".to_owned(),
            public_key: Identity::from_seed(&seed).public_text(),
            hostname: None,
            owner: None,
            lan_addrs: Vec::new(),
            version: None,
        };
        given += usize::from(world.raw(&mut client, &register.to_json()).is_ok());
    }
    assert!((100..=256).contains(&given), "{given} numbers for one address");
    world.peer(200, Signs::Daemon);
    // Answers to discoveries from one address, real or claimed, are few.
    let flooder: SocketAddr = "203.0.113.7:1".parse().unwrap();
    let answers = (0..5000)
        .map(|_at| world.datagram(flooder, &Beacon::Discover { node: 0, key: None }).len())
        .sum::<usize>();
    assert!((1..2000).contains(&answers), "{answers} answers");
}

#[test]
fn names_are_valid_and_one_nodes() {
    let mut world = World::new();
    let (mut one, mut two) = (world.peer(1, Signs::Daemon), world.peer(2, Signs::Daemon));
    let name = |node, name: &str| Request::SetHostname { node, hostname: name.to_owned() };
    for bad in ["-a", "a-", "A", "a.b", "localhost", "ü"] {
        world.ask(&mut one, &name(1, bad)).unwrap_err();
    }
    world.ask(&mut one, &name(1, "weather")).unwrap();
    world.ask(&mut two, &name(2, "weather")).unwrap_err();
    let find = Request::ResolveHostname { hostname: "weather".to_owned(), requester: None };
    assert_eq!(world.raw(&mut two.client, &find.to_json()).unwrap()["node_id"], 1);
    world.ask(&mut one, &name(1, "")).unwrap();
    world.ask(&mut two, &name(2, "weather")).unwrap();
}

#[test]
fn it_goes_on_where_it_was_after_a_restart() {
    let mut world = World::new();
    let (mut one, mut two) = (world.peer(1, Signs::Bound), world.peer(2, Signs::Daemon));
    world.trust(&mut one, &mut two);
    let replay = world.bound(&one.identity, &Request::Heartbeat { node: 1 });
    world.raw(&mut one.client, &replay).unwrap();
    assert!(world.server.take_changed());
    let text = world.server.to_file_text();
    world.server = Rendezvous::from_file_text(&text, "192.0.2.250:9001").unwrap();
    world.raw(&mut one.client, &replay).unwrap_err();
    let ask = resolve(&one, &two);
    assert_eq!(world.ask(&mut one, &ask).unwrap()["real_addr"], two.at.to_string());
    assert_eq!(world.peer(3, Signs::Daemon).id, 3);
    assert!(Rendezvous::from_file_text("{}", "").is_err());
}

#[test]
fn the_binary_mode_says_the_same() {
    let mut world = World::new();
    let (mut one, mut two) = (world.peer(1, Signs::Daemon), world.peer(2, Signs::Daemon));
    world.trust(&mut one, &mut two);
    let sign =
        |peer: &Peer, text: &str| peer.identity.signing_key().sign(text.as_bytes()).to_bytes();
    let now = world.now;
    let heartbeat = Frame::Heartbeat { node: 1, signature: sign(&one, "heartbeat:1") };
    let answer = world.server.frame(now, &mut one.client, &heartbeat);
    assert_eq!(answer, Frame::HeartbeatOk { unix: now.as_secs(), key_expires: false });
    let forged = Frame::Heartbeat { node: 1, signature: sign(&two, "heartbeat:1") };
    assert!(matches!(world.server.frame(now, &mut two.client, &forged), Frame::Error(_)));
    let Frame::LookupOk(found) = world.server.frame(now, &mut one.client, &Frame::Lookup(2)) else {
        panic!("not found")
    };
    assert_eq!(found.info().unwrap().key, two.identity.public());
    let ask = Frame::Resolve { node: 2, requester: 1, signature: sign(&one, "resolve:1:2") };
    let Frame::ResolveOk { real_addr, .. } = world.server.frame(now, &mut one.client, &ask) else {
        panic!("not resolved")
    };
    assert_eq!(real_addr, two.at.to_string());
}

/// Messages that are nearly right: the field names of the wire with values of any kind.
fn message() -> impl Strategy<Value = String> {
    let kinds = prop::sample::select(vec![
        "register",
        "lookup",
        "resolve",
        "resolve_hostname",
        "heartbeat",
        "punch",
        "set_hostname",
        "set_visibility",
        "set_tags",
        "report_trust",
        "revoke_trust",
        "check_trust",
        "request_handshake",
        "poll_handshakes",
        "respond_handshake",
        "rotate_key",
        "deregister",
        "list_nodes",
        "list_networks",
        "beacon_list",
        "join_network",
        "create_network",
        "",
    ]);
    let names = prop::sample::select(vec![
        "node_id",
        "peer_id",
        "requester_id",
        "node_a",
        "node_b",
        "from_node_id",
        "to_node_id",
        "listen_addr",
        "public_key",
        "hostname",
        "signature",
        "lan_addrs",
        "tags",
        "public",
        "accept",
        "network_id",
        "justification",
        "new_public_key",
        "comity_time",
        "comity_signature",
    ]);
    let key = Identity::from_seed(&[7; 32]).public_text();
    let value = prop_oneof![
        (0..4u64).prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        ".{0,80}".prop_map(Value::from),
        Just(json!(key)),
        prop::collection::vec(".{0,40}", 0..12).prop_map(Value::from),
        Just(Value::Null),
    ];
    (kinds, prop::collection::btree_map(names, value, 0..8)).prop_map(|(kind, fields)| {
        let mut object = json!(fields);
        object["type"] = kind.into();
        object.to_string()
    })
}

proptest! {
    #[test]
    fn whatever_strangers_send_is_answered_and_changes_no_trust(
        messages in prop::collection::vec(message(), 1..40),
        datagrams in prop::collection::vec((0u8..16, prop::collection::vec(any::<u8>(), 0..120)), 0..40),
        garbage in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut world = World::new();
        let (mut one, mut two) = (world.peer(1, Signs::Daemon), world.peer(2, Signs::Bound));
        world.trust(&mut one, &mut two);
        world.discover(&one);
        let place = resolve(&two, &one);
        let mut stranger = Client::new(world.now, [203, 0, 113, 9].into());
        for text in &messages {
            // An answer there is, whether it grants or refuses.
            let _granted = world.raw(&mut stranger, text);
        }
        let answer = world.server.request(world.now, &mut stranger, &garbage);
        prop_assert!(serde_json::from_slice::<Value>(&answer).is_ok());
        for (code, body) in datagrams {
            let bytes = [&[code][..], &body].concat();
            world.server.datagram(world.now, "203.0.113.9:9".parse().unwrap(), &bytes);
        }
        while let Some((to, _bytes)) = world.server.poll_transmit() {
            prop_assert_eq!(to, "203.0.113.9:9".parse().unwrap(), "a stranger made it speak to others");
        }
        prop_assert!(world.server.trust(1, 2));
        let told = world.ask(&mut two, &place).unwrap();
        prop_assert_eq!(&told["real_addr"], &json!(one.at.to_string()));
    }
}
