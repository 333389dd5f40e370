//! Server-sent events: however a stream is cut into pieces, the same events come out of it, and none beyond the limit.
#![no_main]

use arbitrary::Arbitrary;
use comity_api::{SseError, SseEvent, SseReader};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    limit: u8,
    cuts: Vec<u8>,
    stream: &'a [u8],
}

fuzz_target!(|input: Input<'_>| {
    let limit = usize::from(input.limit);
    let whole = read(limit, std::iter::once(input.stream));
    assert_eq!(read(limit, input.stream.chunks(1)), whole, "byte by byte");
    let mut rest = input.stream;
    let pieces = input.cuts.iter().map(|cut| {
        let (piece, after) = rest.split_at(usize::from(*cut).min(rest.len()));
        rest = after;
        piece
    });
    let mut pieces: Vec<_> = pieces.collect();
    pieces.push(rest);
    assert_eq!(read(limit, pieces.into_iter()), whole, "in pieces");
    let (events, result) = whole;
    for event in &events {
        assert!(
            event.data.len() <= limit
                && event.name.len() <= limit.max("message".len())
                && !event.name.is_empty()
        );
    }
    if result.is_ok() {
        // Written as the standard says, the events read back.
        let written: String = events
            .iter()
            .map(|SseEvent { name, data }| {
                let lines: String =
                    data.split('\n').map(|line| format!("data: {line}\n")).collect();
                format!("event: {name}\n{lines}\n")
            })
            .collect();
        assert_eq!(
            read(usize::MAX, std::iter::once(written.as_bytes())),
            (events, Ok(())),
            "{written:?}"
        );
    }
});

fn read<'a>(
    limit: usize,
    pieces: impl Iterator<Item = &'a [u8]>,
) -> (Vec<SseEvent>, Result<(), SseError>) {
    let mut reader = SseReader::new(limit);
    let mut events = Vec::new();
    for piece in pieces {
        if let Err(error) = reader.feed(piece, &mut events) {
            return (events, Err(error));
        }
    }
    (events, Ok(()))
}
