//! Much of everything: half requests, streams, forged packets, long messages.

use iroh::endpoint::{ReadError, ReadExactError};
use tokio::net::UdpSocket;

use crate::peer::{Evil, OVERLAY, RPC, Request, Tap, Victim, framed, hello, open};

/// Slow-loris: more connections and streams than one peer has a use for, each with a request that never ends.
#[tokio::test]
async fn requests_that_never_end_keep_nobody_out() {
    let victim = Victim::start();
    victim.serves_on().await;
    let before = victim.memory_kib();
    let beginning = framed(&Request::call("echo", "{\"slow\":true}"));
    let mut held = Vec::new();
    for _ in 0..8 {
        let evil = Evil::new().await;
        let link = evil.dial(victim.id, victim.addr, RPC).await;
        for n in 0..100 {
            // In the announced length, behind it, and before the last byte.
            let length = [2, 4, beginning.len() - 1][n % 3];
            held.push(open(&link, &beginning[..length]).await);
        }
        held.truncate(held.len());
        // One that announces a megabyte and sends a byte of it, over and over.
        for _ in 0..20 {
            held.push(open(&link, &[0, 0x10, 0, 0, 0xa0]).await);
        }
        std::mem::forget(evil);
    }
    victim.serves_on().await;
    let grown = victim.memory_kib().saturating_sub(before);
    assert!(grown < 96 * 1024, "{grown} KiB for {} streams", held.len());
    assert!(victim.executed().iter().all(|line| !line.contains("slow")));
}

/// A message to the directory that is longer than any may be is cut off before it is read.
#[tokio::test]
async fn endless_directory_messages_are_cut_off() {
    let victim = Victim::start();
    let evil = Evil::new().await;
    let link = evil.dial(victim.id, victim.addr, OVERLAY).await;
    for bytes in [vec![0x9f; 300_000], vec![0; 70_000]] {
        let (mut send, mut recv) = link.open_bi().await.unwrap();
        let _ = send.write_all(&bytes).await;
        let _ = send.finish();
        let answer = recv.read_exact(&mut [0; 1]).await;
        assert!(
            matches!(answer, Err(ReadExactError::ReadError(ReadError::Reset(_)))),
            "{answer:?}"
        );
    }
    // Short ones that are nonsense are answered by nothing either, and the link goes on.
    for bytes in [&[][..], &[0xff], &[0x81; 5000], &[0xd9, 0xd9, 0xf7, 0x80]] {
        let (mut send, mut recv) = link.open_bi().await.unwrap();
        send.write_all(bytes).await.unwrap();
        send.finish().unwrap();
        let _ = recv.read_to_end(70_000).await;
    }
    victim.serves_on().await;
}

/// Packets that are forged.
const FORGED: u32 = 100_000;

/// T5: packets that look like a session's, with any contents, move nothing.
#[tokio::test]
async fn t5_forged_packets_do_not_touch_a_session() {
    let victim = Victim::start();
    let tap = Tap::on(victim.addr).await;
    let honest = Evil::new().await;
    let link = honest.dial(victim.id, tap.addr, RPC).await;
    hello(&link).await;
    let liar = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut packet = [0_u8; 1200];
    for n in 0..FORGED {
        // Long and short headers, every connection id and number, cut to every length.
        for (at, byte) in packet.iter_mut().enumerate() {
            *byte =
                (n.wrapping_mul(2_654_435_761) >> (at % 24)).to_le_bytes()[0] ^ at.to_le_bytes()[0];
        }
        packet[0] = if n % 2 == 0 { 0x40 | packet[0] & 0x3f } else { 0xc0 | packet[0] & 0x3f };
        let length = 1 + n as usize % packet.len();
        let _ = liar.send_to(&packet[..length], victim.addr).await;
        if n % (FORGED / 10) == 0 {
            let call = Request { number: n.into(), ..Request::call("echo", "{}") };
            let answer = crate::peer::ask(&link, &call).await;
            assert!(matches!(answer, crate::peer::Said::Whole { .. }), "{answer:?}");
        }
    }
    assert_eq!(victim.executed().len(), 10);
    victim.serves_on().await;
}

/// Lets everybody in, and answers nothing.
fn accepting(peer: &Evil) -> tokio::task::JoinHandle<()> {
    let answering = peer.endpoint.clone();
    tokio::spawn(async move {
        while let Some(incoming) = answering.accept().await {
            if let Ok(link) = incoming.await {
                link.closed().await;
            }
        }
    })
}

/// T4, T6: whoever answers at an address without the key is not talked to; nor is who stole the caller's own key.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t4_another_key_at_the_address_is_refused() {
    let victim = Victim::start();
    let wanted = Evil::new().await;
    let own = comity::key_file::load(&victim.node.home.join("identity.key")).unwrap().identity;
    for impostor in [Evil::new().await, Evil::with(own).await] {
        let accepting = accepting(&impostor);
        let target = format!("{}@{}/echo", wanted.id(), impostor.addr());
        let run = victim.node.run(&["--json", "call", &target, "--json", "{}"]);
        assert_ne!(run.code, 0, "{}", run.stdout);
        assert!(run.stderr.contains("does not hold the key"), "{}", run.stderr);
        accepting.abort();
    }
    victim.serves_on().await;
}
