//! Everything of the Pilot wire that a stranger writes: what decodes encodes to the same bytes, and decodes to the same again.
#![no_main]

use comity_pilot::address::{Address, SocketAddress};
use comity_pilot::beacon::Beacon;
use comity_pilot::frame::Frame;
use comity_pilot::handshake;
use comity_pilot::identity::Identity;
use comity_pilot::packet::{HEADER_BYTES, Packet};
use comity_pilot::registry::binary;
use comity_pilot::registry::{
    NodeInfo, Received, Registered, Resolved, parse_handshakes, parse_nodes, parse_reply,
};
use comity_pilot::service::file;
use comity_pilot::stream::sack;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((which, data)) = data.split_first() else { return };
    match which % 8 {
        0 => packet(data),
        1 => drop(Frame::decode(data)),
        2 => {
            if let Ok(message) = Beacon::decode(data) {
                let bytes = message.to_vec();
                assert!(bytes.len() <= data.len());
                assert_eq!(Beacon::decode(&bytes), Ok(message));
            }
        }
        3 => {
            if let Ok(frame) = binary::Frame::decode(data) {
                assert_eq!(binary::Frame::decode(&frame.to_vec()[4..]), Ok(frame));
            }
        }
        4 => registry(data),
        5 => {
            if let Ok(message) = handshake::Message::decode(data) {
                assert_eq!(handshake::Message::decode(&message.to_vec()), Ok(message));
            }
        }
        6 => {
            if let Ok(message) = file::Message::decode(data) {
                let again = file::Message::decode(&message.to_payload());
                // A text that was no UTF-8 is mended once.
                assert!(again.is_ok());
            }
            if let Some(blocks) = sack::decode(data) {
                assert_eq!(sack::encode(&blocks), data);
            }
        }
        _ => text(data),
    }
});

fn packet(data: &[u8]) {
    let mut fixed = data.to_vec();
    for bytes in [data, mend(&mut fixed)] {
        if let Ok(packet) = Packet::decode(bytes) {
            assert_eq!(packet.to_vec(), bytes[..HEADER_BYTES + packet.payload.len()]);
        }
    }
}

/// The bytes with a checksum that fits, so that what lies behind it is reached.
fn mend(data: &mut Vec<u8>) -> &[u8] {
    if data.len() >= HEADER_BYTES {
        let payload = u16::try_from(data.len() - HEADER_BYTES).unwrap_or(u16::MAX);
        data[2..4].copy_from_slice(&payload.to_be_bytes());
        data[30..34].fill(0);
        let end = HEADER_BYTES + usize::from(payload);
        let sum = crc32fast::hash(&data[..end]);
        data[30..34].copy_from_slice(&sum.to_be_bytes());
    }
    data
}

fn registry(data: &[u8]) {
    if let Ok(received) = Received::decode(data) {
        let again = Received::decode(received.request.to_json().as_bytes());
        assert_eq!(again.map(|again| again.request), Ok(received.request));
    }
    if let Ok(fields) = parse_reply(data) {
        drop(NodeInfo::parse(&fields));
        drop(Registered::parse(&fields));
        drop(Resolved::parse(&fields));
        drop((parse_handshakes(&fields), parse_nodes(&fields)));
    }
}

fn text(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    if let Ok(address) = text.parse::<Address>() {
        assert_eq!(address.to_string().parse(), Ok(address));
        assert_eq!(Address::from_bytes(address.to_bytes()), address);
    }
    if let Ok(address) = text.parse::<SocketAddress>() {
        assert_eq!(address.to_string().parse(), Ok(address));
    }
    drop(Identity::from_file_text(text));
}
