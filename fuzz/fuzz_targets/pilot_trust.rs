//! A hostile registry and hostile peers against what a node believes: whatever they say, a pinned key stays the same, nobody is trusted
//! without both sides, and nothing grows past its bound.
#![no_main]

use std::collections::{BTreeMap, BTreeSet};

use arbitrary::Arbitrary;
use comity_pilot::handshake::{Kind, Message};
use comity_pilot::identity::Identity;
use comity_pilot::registry::{NodeInfo, Resolved, parse_handshakes, parse_reply};
use comity_pilot::trust::{PENDING_MAX, REQUESTED_MAX, Trust};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
enum Step {
    /// The registry answers a look-up with these bytes.
    Lookup(Vec<u8>),
    /// The registry tells a key for a node.
    Told {
        node: u8,
        key: u8,
    },
    /// The registry relays requests and answers.
    Relayed(Vec<u8>),
    RelayedBy(u8),
    /// A peer whose tunnel proved this key says these bytes.
    Said {
        node: u8,
        key: u8,
        bytes: Vec<u8>,
    },
    /// A peer asks or accepts, signed for this node.
    Signed {
        node: u8,
        key: u8,
        accept: bool,
    },
    Ask(u8),
    Approve(u8),
    Reload,
    Wait(u16),
}

const ME: u32 = 1;

fn key(seed: u8) -> Identity {
    Identity::from_seed(&[seed % 8 + 1; 32])
}

fuzz_target!(|steps: Vec<Step>| {
    let me = key(200);
    let (mut trust, mut unix) = (Trust::default(), 1_800_000_000u64);
    let mut pins = BTreeMap::new();
    // Whom this node asked or approved: nobody else can come to be trusted.
    let mut consented = BTreeSet::new();
    for step in steps.into_iter().take(400) {
        match step {
            Step::Lookup(bytes) => {
                let Ok(fields) = parse_reply(&bytes) else { continue };
                drop(Resolved::parse(&fields));
                if let Ok(info) = NodeInfo::parse(&fields) {
                    let _refused = trust.pin(info.node, &info.key);
                }
            }
            Step::Told { node, key: seed } => {
                let _refused = trust.pin(node.into(), &key(seed).public());
            }
            Step::Relayed(bytes) => {
                let Ok(fields) = parse_reply(&bytes) else { continue };
                for request in parse_handshakes(&fields).requests {
                    let _full = trust.relayed(unix, request.from, &request.justification);
                }
            }
            Step::RelayedBy(node) => drop(trust.relayed(unix, node.into(), "told")),
            Step::Said { node, key: seed, bytes } => {
                drop(trust.receive(unix, ME, node.into(), &key(seed).public(), &bytes, &me));
            }
            Step::Signed { node, key: seed, accept } => {
                let kind = if accept { Kind::Accept } else { Kind::Request };
                let identity = key(seed);
                let message = Message::signed(kind, node.into(), ME, "please", unix, &identity);
                let bytes = message.to_vec();
                drop(trust.receive(unix, ME, node.into(), &identity.public(), &bytes, &me));
            }
            Step::Ask(node) => {
                consented.insert(u32::from(node));
                drop(trust.request(unix, ME, node.into(), "why", &me));
            }
            Step::Approve(node) => {
                consented.insert(u32::from(node));
                drop(trust.approve(unix, ME, node.into(), &me));
            }
            Step::Reload => {
                let text = trust.to_file_text();
                trust = Trust::from_file_text(&text).expect("what was written is read");
                assert_eq!(trust.to_file_text(), text);
            }
            Step::Wait(seconds) => unix += u64::from(seconds),
        }
        for node in 0..=255 {
            if let Some(pinned) = trust.pinned(node) {
                assert_eq!(
                    *pins.entry(node).or_insert(pinned),
                    pinned,
                    "node {node} has another key"
                );
            }
        }
        assert!(trust.trusted().all(|(node, _)| consented.contains(&node)));
        assert!(
            trust.pending().count() <= PENDING_MAX && trust.requested().count() <= REQUESTED_MAX
        );
    }
});
