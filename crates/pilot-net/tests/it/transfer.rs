//! Messages, files and events.

use comity_pilot::address::port;
use comity_pilot::service::data::{self, Frame, Kind};
use comity_pilot::service::file::{Body, Message, Next, Sender};
use comity_pilot_net::{Connection, Join};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
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

/// The next message of a file's receiver.
async fn answer(connection: &mut Connection, reader: &mut data::Reader) -> Message {
    let mut buffer = [0; 4096];
    loop {
        if let Some(frame) = reader.next_frame().unwrap() {
            return Message::decode(&frame.payload).unwrap();
        }
        let count = timeout(PATIENCE, connection.read(&mut buffer)).await.unwrap().unwrap();
        assert!(count > 0, "the receiver hung up");
        reader.push(&buffer[..count]);
    }
}

/// Sends at most so many chunks of a file and drops the connection; where the receiver began, and how much it acknowledged.
async fn send_some(connection: Connection, content: &[u8], chunks: usize) -> (u64, u64) {
    let (mut connection, mut reader) = (connection, data::Reader::new(1 << 20));
    let hash = Sha256::digest(content).into();
    let mut sender = Sender::new(content.len() as u64, hash, "half.bin");
    let (mut begun, mut sent) = (None, 0);
    loop {
        let message = match sender.poll() {
            Next::Send(message) => message,
            Next::Read { offset, bytes } if sent < chunks => {
                sent += 1;
                let from = usize::try_from(offset).unwrap();
                sender.chunk(&content[from..from + bytes])
            }
            Next::Wait | Next::Read { .. } => {
                let message = answer(&mut connection, &mut reader).await;
                sender.receive(&message).unwrap();
                if let Body::InitAck(offset) = message.body {
                    begun = Some(offset);
                } else if let Body::Ack(there) = message.body {
                    let began = begun.unwrap();
                    if there == began + (chunks * file_chunk()) as u64 {
                        return (began, there);
                    }
                }
                continue;
            }
            Next::Finished => panic!("it was to break off"),
        };
        let frame = Frame::new(Kind::FileStream, message.to_payload());
        connection.write_all(&frame.to_vec()).await.unwrap();
    }
}

const fn file_chunk() -> usize {
    comity_pilot::service::file::CHUNK_BYTES_MAX
}

#[tokio::test]
async fn a_file_goes_on_where_the_connection_broke() {
    let network = Network::start().await;
    let (one, two) = network.pair().await;
    let content: Vec<u8> =
        (0..2_000_000u32).map(|at| (at % 251) as u8 ^ ((at >> 16) & 63) as u8).collect();
    let chunk = file_chunk() as u64;
    let to = two.id();
    let connect = || one.connect(to, port::DATA);
    // The first connection breaks; the second takes over while the third is older and still there.
    assert_eq!(send_some(connect().await.unwrap(), &content, 3).await, (0, 3 * chunk));
    let mut old = connect().await.unwrap();
    let hash: [u8; 32] = Sha256::digest(&content).into();
    let mut sender = Sender::new(content.len() as u64, hash, "half.bin");
    let Next::Send(init) = sender.poll() else { panic!("an Init is first") };
    old.write_all(&Frame::new(Kind::FileStream, init.to_payload()).to_vec()).await.unwrap();
    let mut reader = data::Reader::new(1 << 20);
    let went_on = answer(&mut old, &mut reader).await;
    assert_eq!(went_on.body, Body::InitAck(3 * chunk));
    assert_eq!(send_some(connect().await.unwrap(), &content, 2).await, (3 * chunk, 5 * chunk));
    // What the older one still says does not count, and ends it.
    let stale = Message { id: init.id, body: Body::Chunk { offset: 5 * chunk, data: vec![0; 9] } };
    old.write_all(&Frame::new(Kind::FileStream, stale.to_payload()).to_vec()).await.unwrap();
    let mut byte = [0];
    assert!(matches!(timeout(PATIENCE, old.read(&mut byte)).await.unwrap(), Ok(0) | Err(_)));
    // The receiver starts anew; what it had is still there, and the whole arrives.
    let (home, parts) = (network.dir.path().join("two/inbox"), |dir: &std::path::Path| {
        let names = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        names.filter(|path| path.extension().is_some_and(|end| end == "part")).count()
    });
    assert_eq!(parts(&home), 1);
    assert_eq!(two.inbox().list().unwrap(), []);
    two.leave().await;
    drop(two);
    let join: Join = network.join("two", network.server.fingerprint());
    let two = comity_pilot_net::Agent::join(join).await.unwrap();
    two.ping(one.id()).await.unwrap();
    let (began, there) =
        send_some(one.connect(two.id(), port::DATA).await.unwrap(), &content, 1).await;
    assert_eq!((began, there), (5 * chunk, 6 * chunk));
    let mut arrivals = two.inbox().arrivals();
    let path = network.dir.path().join("half.bin");
    std::fs::write(&path, &content).unwrap();
    assert_eq!(one.send_file(two.id(), &path).await.unwrap(), content.len() as u64);
    let message = arrivals.recv().await.unwrap();
    assert!(std::fs::read(&message.path).unwrap() == content);
    assert_eq!(parts(&home), 0);
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
