//! A rendezvous under requests, frames and datagrams of strangers: no panic, answers to everything, a key has one number, and its
//! state file is read back as it was.
#![no_main]

use std::net::SocketAddr;
use std::time::Duration;

use arbitrary::Arbitrary;
use comity_core::Time;
use comity_pilot::identity::Identity;
use comity_pilot::registry::binary::Frame;
use comity_pilot::rendezvous::{Client, Rendezvous};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
enum Step {
    /// Bytes as a JSON request.
    Json {
        client: u8,
        bytes: Vec<u8>,
    },
    /// Bytes as a frame of the binary mode.
    Binary {
        client: u8,
        bytes: Vec<u8>,
    },
    /// A registration, signed or not, for one of a few keys.
    Register {
        client: u8,
        key: u8,
        signed: bool,
        name: u8,
    },
    /// A request that names a node and a peer, signed by one of a few keys.
    Ask {
        client: u8,
        kind: u8,
        node: u8,
        peer: u8,
        key: u8,
    },
    /// Bytes to the beacon.
    Datagram {
        from: u8,
        bytes: Vec<u8>,
    },
    Wait(u16),
    Restart,
}

const KINDS: [&str; 8] = [
    "report_trust",
    "revoke_trust",
    "request_handshake",
    "respond_handshake",
    "poll_handshakes",
    "resolve",
    "heartbeat",
    "deregister",
];

fn at(host: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, host], 4000))
}

fn key(seed: u8) -> Identity {
    Identity::from_seed(&[seed % 6; 32])
}

fn ask(kind: &str, node: u8, peer: u8, signer: &Identity) -> String {
    let text = match kind {
        "report_trust" | "revoke_trust" => format!("{kind}:{node}:{peer}"),
        "request_handshake" => format!("handshake:{node}:{peer}"),
        "respond_handshake" => format!("respond:{node}:{peer}"),
        "resolve" => format!("resolve:{node}:{peer}"),
        _ => format!("{kind}:{node}"),
    };
    let signature = signer.sign_text(&text);
    format!(
        r#"{{"type":"{kind}","node_id":{node},"peer_id":{peer},"requester_id":{node},"from_node_id":{node},"to_node_id":{peer},"accept":true,"justification":"x","signature":"{signature}"}}"#
    )
}

fuzz_target!(|steps: Vec<Step>| {
    let mut now = Time::from_secs(1_800_000_000);
    let mut server = Rendezvous::new("192.0.2.250:9001");
    let mut clients: Vec<Client> = (0..8).map(|host| Client::new(now, at(host).ip())).collect();
    // Registrations with keys of the fuzzer's own.
    let mut others = 0;
    for step in steps.into_iter().take(300) {
        match step {
            Step::Json { client, bytes } => {
                others += 1;
                let answer = server.request(now, &mut clients[usize::from(client % 8)], &bytes);
                assert!(serde_json::from_slice::<serde_json::Value>(&answer).is_ok());
            }
            Step::Binary { client, bytes } => {
                others += 1;
                if let Ok(frame) = Frame::decode(&bytes) {
                    drop(server.frame(now, &mut clients[usize::from(client % 8)], &frame).to_vec());
                }
            }
            Step::Register { client, key: seed, signed, name } => {
                let (identity, listen) = (key(seed), at(client % 8));
                let public = identity.public_text();
                let signature = if signed {
                    identity.sign_text(&format!("register:{listen}:{public}"))
                } else {
                    String::new()
                };
                let request = format!(
                    r#"{{"type":"register","listen_addr":"{listen}","public_key":"{public}","hostname":"n{name}","signature":"{signature}"}}"#
                );
                drop(server.request(
                    now,
                    &mut clients[usize::from(client % 8)],
                    request.as_bytes(),
                ));
            }
            Step::Ask { client, kind, node, peer, key: seed } => {
                let request =
                    ask(KINDS[usize::from(kind) % KINDS.len()], node % 8, peer % 8, &key(seed));
                drop(server.request(
                    now,
                    &mut clients[usize::from(client % 8)],
                    request.as_bytes(),
                ));
            }
            Step::Datagram { from, bytes } => server.datagram(now, at(from), &bytes),
            Step::Wait(seconds) => now += Duration::from_secs(seconds.into()),
            Step::Restart => {
                let text = server.to_file_text();
                let again = Rendezvous::from_file_text(&text, "192.0.2.250:9001");
                let again = again.expect("what was written is read");
                assert_eq!(again.to_file_text(), text);
                server = again;
            }
        }
        let mut sent = 0;
        while let Some((to, _datagram)) = server.poll_transmit() {
            assert!(!to.ip().is_unspecified());
            sent += 1;
            assert!(sent <= 64, "one request, {sent} datagrams");
        }
        assert!(server.status(now).nodes <= 6 + others, "a key has one number");
    }
    drop(Rendezvous::from_file_text("{", "x"));
});
