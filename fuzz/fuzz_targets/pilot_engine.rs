//! A node under datagrams from anywhere and a caller in any order: no panic, bounded state, nobody proven without a key.
#![no_main]

use std::net::SocketAddr;
use std::time::Duration;

use arbitrary::Arbitrary;
use comity_core::Time;
use comity_pilot::address::{Address, SocketAddress};
use comity_pilot::engine::{Access, Action, Config, Engine, OUT_MAX};
use comity_pilot::frame::SignedExchange;
use comity_pilot::identity::Identity;
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
enum Step {
    Datagram { from: u8, bytes: Vec<u8> },
    Beacon(Vec<u8>),
    Exchange { from: u8, node: u8, key: u8, signer: u8 },
    Connect { node: u8, port: u8 },
    Ping(u8),
    Send { node: u8, bytes: Vec<u8> },
    Found { node: u8, key: u8, at: u8 },
    Missing(u8),
    Wait(u16),
}

fn at(host: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, host], 4000))
}

fn key(seed: u8) -> Identity {
    Identity::from_seed(&[seed; 32])
}

fuzz_target!(|steps: Vec<Step>| {
    let mut now = Time::from_secs(1_800_000_000);
    let config = Config { beacon: Some(at(250)), ..Config::new(1) };
    let mut engine = Engine::new(config, key(1), [3; 32], now);
    engine.set_trusted((2..5).collect());
    for port in [7, 444] {
        assert!(engine.listen(port, if port == 7 { Access::Trusted } else { Access::Anyone }).is_ok());
    }
    let mut buffer = Vec::new();
    for step in steps.into_iter().take(300) {
        let to = |node: u8, port: u8| SocketAddress {
            address: Address::backbone(node.into()),
            port: port.into(),
        };
        match step {
            Step::Datagram { from, bytes } => engine.receive(now, at(from), &bytes),
            Step::Beacon(bytes) => engine.receive(now, at(250), &bytes),
            Step::Exchange { from, node, key: x25519, signer } => {
                let frame =
                    SignedExchange::sign(node.into(), [x25519; 32], key(signer).signing_key());
                engine.receive(now, at(from), &frame.to_vec());
            }
            Step::Connect { node, port } => drop(engine.connect(now, to(node, port))),
            Step::Ping(node) => engine.ping(now, node.into()),
            Step::Send { node, bytes } => engine.send_datagram(now, 9, to(node, 9), &bytes),
            Step::Found { node, key: seed, at: host } => {
                engine.found(now, node.into(), key(seed).public(), [at(host)]);
            }
            Step::Missing(node) => engine.missing(now, node.into()),
            Step::Wait(millis) => {
                now += Duration::from_millis(u64::from(millis));
                engine.timeout(now);
            }
        }
        let mut sent = 0;
        while let Some(transmit) = engine.poll_transmit(now, &mut buffer) {
            assert!(transmit.size == buffer.len() && transmit.segment <= transmit.size);
            sent += 1;
            assert!(sent <= OUT_MAX * 2, "endless talk");
        }
        while let Some(action) = engine.poll_action() {
            assert!(!matches!(action, Action::Up { .. } | Action::Connected(_) | Action::Accepted { .. }));
        }
    }
});
