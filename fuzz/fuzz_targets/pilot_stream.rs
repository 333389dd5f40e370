//! A stream under segments that nobody would send: no panic, bounded buffers, no endless talk.
#![no_main]

use std::time::Duration;

use arbitrary::Arbitrary;
use comity_core::Time;
use comity_pilot::packet::Flags;
use comity_pilot::stream::{Config, Read, Segment, Stream};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
enum Step {
    Receive { flags: u8, sequence: u32, near: bool, acknowledgement: u32, window: u16, payload: Vec<u8> },
    Write(u16),
    Read(u16),
    Wait(u32),
    Segment(u16),
    Close,
    Abort,
}

const BUFFER: usize = 16_384;

fuzz_target!(|input: (bool, Vec<Step>)| {
    let (passive, steps) = input;
    let mut now = Time::from_secs(1);
    let config = Config { segment_bytes: 1152, receive_bytes: BUFFER, send_bytes: BUFFER };
    let syn = Segment { flags: Flags::SYN, sequence: 7, acknowledgement: 0, window: 4, payload: &[] };
    let mut stream =
        if passive { Stream::accept(now, &config, &syn) } else { Stream::connect(now, &config) };
    let (mut next, mut acked) = (0u32, 0u32);
    for step in steps.into_iter().take(400) {
        match step {
            Step::Receive { flags, sequence, near, acknowledgement, window, payload } => {
                let segment = Segment {
                    flags: Flags::from_bits(flags),
                    sequence: if near { acked.wrapping_add(sequence % 8) } else { sequence },
                    acknowledgement: if near { next.wrapping_sub(acknowledgement % 4) } else { acknowledgement },
                    window,
                    payload: &payload,
                };
                stream.receive(now, &segment);
            }
            Step::Write(count) => drop(stream.write(&vec![b'S'; usize::from(count)])),
            Step::Read(count) => {
                let mut buffer = vec![0; usize::from(count)];
                if let Ok(Read::Data(got)) = stream.read(now, &mut buffer) {
                    assert!(got <= buffer.len() && got <= BUFFER + 4096);
                }
            }
            Step::Wait(millis) => {
                now += Duration::from_millis(u64::from(millis % 200_000));
                stream.timeout(now);
            }
            Step::Segment(bytes) => stream.set_segment_bytes(usize::from(bytes)),
            Step::Close => stream.close(now),
            Step::Abort => stream.abort(),
        }
        let mut sent = 0;
        while let Some(outgoing) = stream.poll_transmit(now) {
            let mut payload = Vec::new();
            stream.payload(&outgoing, &mut payload);
            assert_eq!(payload.len(), outgoing.body.len());
            next = outgoing.sequence.wrapping_add(payload.len() as u32);
            acked = outgoing.acknowledgement;
            sent += 1;
            assert!(sent < 40_000, "endless talk");
        }
        assert!(stream.statistics().in_flight <= BUFFER as u64);
        let _changes = stream.take_changes();
    }
});
