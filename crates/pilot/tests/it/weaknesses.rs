//! Weaknesses of released Pilot daemons, each shown not to be here.

use std::net::SocketAddr;
use std::time::Duration;

use comity_pilot::crypto::{Cipher, Dialect, ExchangeKey};
use comity_pilot::engine::{Access, Action};
use comity_pilot::frame::{Frame, Nonce, PLAIN, SignedExchange, exchange_frame};
use comity_pilot::packet::{Flags, Header, Packet, Protocol};
use comity_pilot::replay::{Replay, Verdict, Window};
use comity_pilot::session::Path;

use crate::net::{Net, at, identity, port_of};

fn attacker() -> SocketAddr {
    "198.51.100.66:666".parse().unwrap()
}

fn packet(from: u32, to: u32, flags: Flags, port: u16) -> Vec<u8> {
    let header = Header {
        flags,
        protocol: Protocol::Stream,
        source: port_of(from, 50_000),
        destination: port_of(to, port),
        sequence: 0,
        acknowledgement: 0,
        window: 512,
    };
    Packet { header, payload: &[] }.to_vec()
}

#[test]
fn a_forged_plaintext_frame_is_not_accepted() {
    let mut net = Net::new(2);
    net.node(2).listen(7, Access::Trusted).unwrap();
    net.connect(1, 2, 7);
    net.actions.clear();
    let frame = [&PLAIN[..], &packet(1, 2, Flags::SYN, 7)].concat();
    let now = net.now;
    net.node(2).receive(now, at(1), &frame);
    net.node(2).receive(now, at(1), &exchange_frame(1, &[9; 32]));
    net.run(Duration::from_secs(2));
    assert!(
        !net.actions.entry(2).or_default().iter().any(|a| matches!(a, Action::Accepted { .. }))
    );
    assert_eq!(net.node(2).dropped().plain, 2);
}

#[test]
fn a_replayed_exchange_redirects_nothing() {
    let mut net = Net::new(2);
    net.node(2).listen(7, Access::Trusted).unwrap();
    let (here, there) = net.connect(1, 2, 7);
    let recorded = net
        .seen
        .iter()
        .find(|(from, _, bytes)| *from == at(1) && bytes.starts_with(b"PILA"))
        .map(|(_, _, bytes)| bytes.clone())
        .unwrap();
    for _time in 0..20 {
        let now = net.now;
        net.node(2).receive(now, attacker(), &recorded);
        net.run(Duration::from_secs(1));
    }
    assert_eq!(net.node(2).peers()[0].path, Some(Path::Direct(at(1))));
    let to_attacker = net.seen.iter().filter(|(_, to, _)| *to == attacker());
    for (_, _, bytes) in to_attacker {
        assert!(bytes.starts_with(b"PILA"), "only exchanges, never data, go there");
    }
    assert_eq!(net.carry((2, there), (1, here), b"still here").unwrap(), b"still here");
}

#[test]
fn a_recorded_exchange_of_an_earlier_life_replaces_nothing() {
    let mut net = Net::new(2);
    net.node(2).listen(7, Access::Trusted).unwrap();
    let old = SignedExchange::sign(1, [7; 32], identity(1).signing_key()).to_vec();
    let (here, there) = net.connect(1, 2, 7);
    for _time in 0..5 {
        let now = net.now;
        net.node(2).receive(now, attacker(), &old);
        assert_eq!(net.carry((2, there), (1, here), b"on it goes").unwrap(), b"on it goes");
        net.run(Duration::from_secs(3));
    }
    assert_eq!(net.node(2).peers()[0].path, Some(Path::Direct(at(1))));
}

#[test]
fn an_exchange_signed_by_another_key_is_not_accepted() {
    let mut net = Net::new(2);
    let forged =
        SignedExchange { node: 1, ..SignedExchange::sign(1, [7; 32], identity(9).signing_key()) };
    let now = net.now;
    net.node(2).receive(now, attacker(), &forged.to_vec());
    net.run(Duration::from_secs(2));
    assert_eq!(net.node(2).dropped().forged, 1);
    assert_eq!(net.node(2).peer_key(1), None);
}

#[test]
fn one_forged_frame_with_a_huge_counter_locks_nobody_out() {
    let mut net = Net::new(2);
    net.node(2).listen(7, Access::Trusted).unwrap();
    let (here, there) = net.connect(1, 2, 7);
    net.run(Duration::from_millis(100));
    let genuine = net
        .seen
        .iter()
        .rfind(|(from, _, bytes)| *from == at(1) && bytes.starts_with(b"PILS"))
        .map(|(_, _, bytes)| bytes.clone())
        .unwrap();
    let Ok(Frame::Sealed(sealed)) = Frame::decode(&genuine) else { panic!("not sealed") };
    let huge = Nonce { prefix: sealed.nonce.prefix, counter: u64::MAX };
    let mut forged = genuine.clone();
    forged[8..20].copy_from_slice(&huge.to_bytes());
    let now = net.now;
    net.node(2).receive(now, attacker(), &forged);
    net.node(2).receive(now, attacker(), &genuine);
    assert_eq!((net.node(2).dropped().unopened, net.node(2).dropped().replayed), (1, 1));
    assert_eq!(net.carry((1, here), (2, there), b"hello").unwrap(), b"hello");
    assert_eq!(net.node(2).peers()[0].path, Some(Path::Direct(at(1))));
}

#[test]
fn a_peer_speaks_for_nobody_else() {
    // Node 3 has a session of its own with node 2, and puts the number of node 1, which is trusted, into a packet.
    let mut net = Net::new(2);
    net.node(2).listen(7, Access::Trusted).unwrap();
    let ours = ExchangeKey::from_secret([5; 32]);
    let hello = SignedExchange::sign(3, *ours.public(), identity(3).signing_key());
    let now = net.now;
    net.node(2).receive(now, at(3), &hello.to_vec());
    net.run(Duration::from_millis(100));
    let answer = net.seen.iter().find(|(_, to, bytes)| *to == at(3) && bytes.starts_with(b"PILA"));
    let Ok(Frame::SignedExchange(theirs)) = Frame::decode(&answer.unwrap().2) else {
        panic!("no exchange")
    };
    let cipher = Cipher::new(Dialect::B, &ours.agree(&theirs.x25519).unwrap());
    for (counter, source) in [(1, 3), (2, 1)] {
        let mut frame = Vec::new();
        let nonce = Nonce { prefix: [3; 4], counter };
        cipher.seal(3, nonce, &mut frame, |out| out.extend(packet(source, 2, Flags::SYN, 7)));
        let now = net.now;
        net.node(2).receive(now, at(3), &frame);
    }
    net.run(Duration::from_secs(1));
    let dropped = net.node(2).dropped();
    assert_eq!((dropped.untrusted, dropped.malformed), (1, 1), "{dropped:?}");
    assert!(
        !net.actions.entry(2).or_default().iter().any(|a| matches!(a, Action::Accepted { .. }))
    );
}

#[test]
fn strangers_cannot_make_state_grow() {
    let mut net = Net::new(1);
    for node in 2..4000u32 {
        let exchange = SignedExchange::sign(node, [7; 32], identity(9).signing_key());
        let now = net.now;
        net.node(1).receive(now, attacker(), &exchange.to_vec());
        let sealed = [&b"PILS"[..], &node.to_be_bytes(), &[0; 40]].concat();
        net.node(1).receive(now, attacker(), &sealed);
    }
    // All in one moment: what a second's allowance lets through.
    assert!(net.node(1).peers().len() <= 450, "{} peers", net.node(1).peers().len());
    assert!(net.node(1).dropped().limited > 3000);
}

#[test]
fn the_replay_window_tells_every_counter_once() {
    let mut window = Window::default();
    assert!(!window.accept(0), "the first counter is 1");
    for counter in [1, 3, 2, 1024, 500, 1500] {
        assert!(window.accept(counter), "{counter}");
        assert!(!window.accept(counter), "{counter} again");
    }
    assert!(!window.accept(476), "older than the window");
    assert!(window.accept(477));
    assert!(window.accept(u64::MAX));
    assert!(!window.accept(u64::MAX) && !window.accept(1501));
    let mut replay = Replay::default();
    assert_eq!(replay.accept([1; 4], 5), Verdict::Newest);
    assert_eq!(replay.accept([1; 4], 4), Verdict::Fresh);
    assert_eq!(replay.accept([2; 4], 1), Verdict::Newest);
    assert_eq!(replay.accept([1; 4], 6), Verdict::Fresh, "of an older epoch");
    assert_eq!(replay.accept([1; 4], 5), Verdict::Replayed, "an epoch is never forgotten");
}
