//! Streams of Pilot's services: the same frames however the stream is cut, nothing over the bounds.
#![no_main]

use comity_pilot::service::{data, event, file};
use libfuzzer_sys::fuzz_target;

const PAYLOAD_MAX: usize = 4096;

fn frames(bytes: &[u8], step: usize) -> (Vec<data::Frame>, bool) {
    let (mut reader, mut out) = (data::Reader::new(PAYLOAD_MAX), Vec::new());
    for piece in bytes.chunks(step.max(1)) {
        reader.push(piece);
        loop {
            match reader.next_frame() {
                Ok(Some(frame)) => out.push(frame),
                Ok(None) => break,
                Err(_) => return (out, false),
            }
        }
    }
    (out, true)
}

fn events(bytes: &[u8], step: usize) -> Vec<event::Event> {
    let (mut reader, mut out) = (event::Reader::default(), Vec::new());
    for piece in bytes.chunks(step.max(1)) {
        reader.push(piece);
        while let Ok(Some(event)) = reader.next_event() {
            out.push(event);
        }
    }
    out
}

fuzz_target!(|input: &[u8]| {
    let Some((step, bytes)) = input.split_first() else { return };
    let (whole, _) = frames(bytes, bytes.len());
    assert_eq!(frames(bytes, usize::from(*step)).0, whole);
    let mut written = Vec::new();
    let mut receiver: Option<file::Receiver> = None;
    for frame in &whole {
        drop((frame.as_file().is_ok(), frame.as_trace().is_ok(), data::Frame::acknowledgement(frame)));
        written.extend(frame.to_vec());
        let Ok(message) = file::Message::decode(&frame.payload) else { continue };
        receiver = match receiver {
            Some(mut receiver) => receiver.receive(&message).is_ok().then_some(receiver),
            None => file::Receiver::new(&message, 1 << 20).ok(),
        };
    }
    assert!(bytes.starts_with(&written));
    let whole = events(bytes, bytes.len());
    let cut = events(bytes, usize::from(*step));
    assert_eq!(cut, whole);
    let mut broker = event::Broker::default();
    for (at, event) in whole.iter().enumerate() {
        drop(broker.event(at as u64 % 5, event));
        broker.closed(at as u64 % 7);
    }
});
