//! Server-sent events: any cutting into pieces reads the same, and memory stays bounded.

use comity_api::{SseError, SseEvent, SseReader};
use proptest::prelude::*;

fn read(pieces: &[&[u8]]) -> Result<Vec<SseEvent>, SseError> {
    let mut reader = SseReader::new(1 << 16);
    let mut events = Vec::new();
    for piece in pieces {
        reader.feed(piece, &mut events)?;
    }
    Ok(events)
}

fn event(name: &str, data: &str) -> SseEvent {
    SseEvent { name: name.to_owned(), data: data.to_owned() }
}

#[test]
fn reads_what_the_standard_describes() {
    let text = "\u{feff}: comment\nevent: chunk\ndata: {\"a\":1}\n\ndata:no space\ndata:  two spaces\nid: 7\n\n\
                event: nothing\n\ndata\n\ndata: unfinished";
    let events = read(&[text.as_bytes()]).unwrap();
    assert_eq!(
        events,
        [
            event("chunk", "{\"a\":1}"),
            event("message", "no space\n two spaces"),
            event("message", "")
        ]
    );
}

#[test]
fn all_line_ends_are_the_same() {
    for end in ["\n", "\r", "\r\n"] {
        let text = format!("event: a{end}data: 1{end}{end}data: 2{end}{end}");
        assert_eq!(
            read(&[text.as_bytes()]).unwrap(),
            [event("a", "1"), event("message", "2")],
            "{end:?}"
        );
    }
}

#[test]
fn an_endless_line_is_refused() {
    let mut reader = SseReader::new(100);
    let mut events = Vec::new();
    let fed = (0..50).try_for_each(|_| reader.feed(b"data", &mut events));
    assert_eq!(fed, Err(SseError::TooLarge { limit: 100 }));
}

#[test]
fn an_endless_event_is_refused() {
    let mut reader = SseReader::new(100);
    let mut events = Vec::new();
    let fed = (0..50).try_for_each(|_| reader.feed(b"data: 0123456789\n", &mut events));
    assert_eq!(fed, Err(SseError::TooLarge { limit: 100 }));
}

#[test]
fn bytes_that_are_no_text_are_refused() {
    assert_eq!(read(&[b"data: \xff\n\n"]), Err(SseError::NotUtf8));
}

proptest! {
    #[test]
    fn cutting_changes_nothing(
        events in prop::collection::vec(("[a-z]{1,8}", "[^\r\n]{0,20}(\n[^\r\n]{0,9}){0,2}"), 0..6),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        end in prop::sample::select(vec!["\n", "\r", "\r\n"]),
    ) {
        let mut text = String::new();
        for (name, data) in &events {
            text += &format!("event: {name}{end}");
            for line in data.split('\n') {
                text += &format!("data: {line}{end}");
            }
            text += end;
        }
        let bytes = text.as_bytes();
        let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        places.extend([0, bytes.len()]);
        places.sort_unstable();
        let pieces: Vec<&[u8]> = places.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
        let wanted: Vec<SseEvent> = events.iter().map(|(name, data)| event(name, data)).collect();
        prop_assert_eq!(read(&pieces).unwrap(), wanted);
    }

    #[test]
    fn no_bytes_make_it_panic(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..64), 0..8)) {
        let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
        let _ = read(&pieces);
    }
}
