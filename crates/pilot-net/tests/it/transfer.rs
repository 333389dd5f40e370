//! Messages, files and events.

use comity_pilot::service::data::{Frame, Kind};
use tokio::time::timeout;

use crate::support::{Network, PATIENCE};

#[tokio::test]
async fn text_json_and_bytes_are_kept_and_acknowledged() {
    let network = Network::start().await;
    let (one, two) = network.pair().await;
    let mut arrivals = two.inbox().arrivals();
    for (kind, content, name) in [
        (Kind::Text, &b"SACK\x01 is no acknowledgement"[..], "message.txt"),
        (Kind::Json, b"{\"a\":1}", "message.json"),
        (Kind::Binary, &[0, 255, 7], "message.bin"),
    ] {
        let answer = one.send(two.id(), &Frame::new(kind, content)).await.unwrap();
        assert_eq!(answer, Frame::acknowledgement(&Frame::new(kind, content)));
        let message = arrivals.recv().await.unwrap();
        assert_eq!((message.from, message.name.as_str()), (one.id(), name));
        assert_eq!(std::fs::read(&message.path).unwrap(), content);
    }
    assert_eq!(two.inbox().list().unwrap().len(), 3);
}

#[tokio::test]
async fn a_file_arrives_whole_under_a_harmless_name() {
    let network = Network::start().await;
    let (one, two) = network.pair().await;
    let content: Vec<u8> = (0..3_000_000u32).map(|at| (at % 251) as u8).collect();
    let path = network.dir.path().join("..name with\u{202e} tricks");
    std::fs::write(&path, &content).unwrap();
    let mut arrivals = two.inbox().arrivals();
    assert_eq!(one.send_file(two.id(), &path).await.unwrap(), content.len() as u64);
    let message = arrivals.recv().await.unwrap();
    assert!(std::fs::read(&message.path).unwrap() == content);
    assert_eq!(message.path.parent().unwrap(), network.dir.path().join("two/inbox"));
    assert_eq!(message.name, "name with_ tricks");
}

#[tokio::test]
async fn events_reach_subscribers_of_their_topic() {
    let network = Network::start().await;
    let (one, two) = network.pair().await;
    let mut all = one.subscribe(two.id(), "*").await.unwrap();
    let mut prices = one.subscribe(two.id(), "prices").await.unwrap();
    // The broker takes subscriptions in its own time; what is published after both are there reaches both.
    let reached = async {
        while two.events().subscribers() < 2 {
            one.ping(two.id()).await.unwrap();
        }
    };
    timeout(PATIENCE, reached).await.unwrap();
    two.publish(two.id(), "weather", b"sun").await.unwrap();
    one.publish(two.id(), "prices", b"7").await.unwrap();
    let event = all.recv().await.unwrap();
    assert_eq!((event.topic.as_str(), &event.payload[..]), ("weather", &b"sun"[..]));
    for events in [&mut all, &mut prices] {
        let event = timeout(PATIENCE, events.recv()).await.unwrap().unwrap();
        assert_eq!((event.topic.as_str(), &event.payload[..]), ("prices", &b"7"[..]));
    }
}
