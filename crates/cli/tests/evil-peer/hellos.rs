//! Lies in the greeting: histories, encodings, floods.

use comity::rpc::Hello;
use comity_core::Sha256Digest;
use comity_trust::log::{Checkpoint, SignedCheckpoint};
use iroh::endpoint::Connection;

use crate::e2e_support::wait;
use crate::peer::{Evil, RPC, Request, Said, Victim, ask, code, hello, refused};

/// The checkpoint of a log of `signer`'s, said by whoever says the hello.
fn shown(signer: &comity_core::Identity, size: u64, root: u8) -> Vec<u8> {
    let checkpoint = Checkpoint { log: signer.id(), size, root: Sha256Digest([root; 32]) };
    let note = SignedCheckpoint::sign(checkpoint, signer).unwrap().note().to_string();
    Hello { checkpoint: Some(note), ..Hello::default() }.encode()
}

async fn say(link: &Connection, said: Vec<u8>) {
    let answer = ask(link, &Request::of(3, said)).await;
    assert!(matches!(answer, Said::Whole { .. }), "{answer:?}");
}

/// T23: one history for one session, another for the next.
#[tokio::test]
async fn t23_two_histories_shown_to_one_node_convict_their_signer() {
    let victim = Victim::start();
    let liar = Evil::new().await;
    for root in [1, 2] {
        let link = liar.dial(victim.id, victim.addr, RPC).await;
        say(&link, shown(&liar.identity, 40, root)).await;
        link.close(0_u32.into(), b"");
    }
    let name = liar.id().to_string();
    wait("the node holds the proof", || {
        let peers = victim.node.ok(&["audit", "peers", "--json"]).json();
        let peers = peers["peers"].as_array()?.clone();
        let accused =
            peers.iter().any(|peer| peer["log"] == name.as_str() && !peer["accusation"].is_null());
        accused.then_some(())
    });
    // The proof convinces whoever has nothing but the file.
    let file = victim.world.dir.path().join("accusation.json");
    let file = file.to_str().unwrap();
    victim.node.ok(&["audit", "accuse", &name, "--file", file]);
    victim.node.ok(&["audit", "verify", "--accusation", file]);
    victim.serves_on().await;
}

/// T23 turned round: nobody can be accused with what he did not sign.
#[tokio::test]
async fn nobody_is_accused_by_the_histories_that_another_shows() {
    let victim = Victim::start();
    let (liar, framed) = (Evil::new().await, Evil::new().await);
    for root in [1, 2] {
        let link = liar.dial(victim.id, victim.addr, RPC).await;
        // Signed by the one to be framed or by the liar: neither is a checkpoint of the liar's log.
        say(&link, shown(&framed.identity, 40, root)).await;
        let mut note = String::from_utf8_lossy(&shown(&liar.identity, 40, root)).into_owned();
        note = note.replace(&liar.id().to_string(), &framed.id().to_string());
        let answer = ask(&link, &Request::of(3, note.into_bytes())).await;
        assert!(matches!(answer, Said::Whole { .. } | Said::Error { .. }));
        link.close(0_u32.into(), b"");
    }
    victim.serves_on().await;
    let peers = victim.node.ok(&["audit", "peers", "--json"]).stdout;
    assert!(!peers.contains(&framed.id().to_string()), "{peers}");
}

/// A hello that is none does not open what waits for one.
#[tokio::test]
async fn a_malformed_hello_opens_nothing() {
    let victim = Victim::start();
    let evil = Evil::new().await;
    let link = evil.dial(victim.id, victim.addr, RPC).await;
    let good = Hello::default().encode();
    let respelled = [&[0xb8, good[0] & 0x1f][..], &good[1..]].concat();
    let long = Hello { checkpoint: Some("x".repeat(1025)), ..Hello::default() }.encode();
    for said in [vec![], vec![0xff], vec![0; 4096], respelled, [&good[..], &[0]].concat(), long] {
        assert_eq!(refused(&link, &Request::of(3, said)).await, code::INVALID_INPUT);
        assert_eq!(refused(&link, &Request::call("echo", "{}")).await, code::HELLO_FIRST);
    }
    assert_eq!(victim.executed(), Vec::<String>::new());
    victim.serves_on().await;
}

/// Thousands of hellos, each with another history, cost a bounded amount of memory.
#[tokio::test]
async fn floods_of_hellos_leave_nothing_behind() {
    let victim = Victim::start();
    victim.serves_on().await;
    let before = victim.memory_kib();
    for n in 0..20_u64 {
        let evil = Evil::new().await;
        let link = evil.dial(victim.id, victim.addr, RPC).await;
        for k in 1..=50 {
            // Sizes that grow without a proof that the log did.
            say(&link, shown(&evil.identity, n * 100 + k, 7)).await;
        }
        hello(&link).await;
        link.close(0_u32.into(), b"");
    }
    victim.serves_on().await;
    let grown = victim.memory_kib().saturating_sub(before);
    assert!(grown < 64 * 1024, "{grown} KiB");
}

/// The record that the victim hands to a stranger, its hello, and what it says to questions about itself.
async fn seen_by_a_stranger(victim: &Victim) -> Vec<Vec<u8>> {
    let stranger = Evil::new().await;
    let link = stranger.dial(victim.id, victim.addr, RPC).await;
    let mut seen = Vec::new();
    let hello = Request::of(3, Hello::default().encode());
    let record = Request::of(2, Vec::new());
    let endorsements = Request::of(8, vec![0x82, 4, 0xa0]);
    for (request, what) in [(hello, "hello"), (record, "record"), (endorsements, "endorsements")] {
        match ask(&link, &request).await {
            // What a hello says of time and log differs with each; its record is what it says of what it has.
            Said::Whole { body, .. } if what == "hello" => {
                let said = Hello::decode(&body).unwrap();
                seen.push(said.record.map(|hash| hash.0.to_vec()).unwrap_or_default());
                seen.push(said.features.0.to_be_bytes().to_vec());
            }
            Said::Whole { body, .. } => seen.push(body),
            Said::Error { code, message } => seen.push(format!("{code} {message}").into_bytes()),
            other => panic!("{what}: {other:?}"),
        }
    }
    seen
}

/// What is served to nobody, or to some who hold a grant, leaves no trace in what anybody else can ask for: not the record, not its number.
#[tokio::test]
async fn what_is_served_privately_changes_nothing_that_strangers_see() {
    let victim = Victim::start();
    victim.node.ok(&["unserve", "echo"]);
    victim.node.ok(&["unserve", "diary"]);
    let bare = seen_by_a_stranger(&victim).await;
    victim.serve_private("diary");
    assert_eq!(seen_by_a_stranger(&victim).await, bare, "served to nobody");
    let friend = Evil::new().await;
    let line = ["grant", "create", "--to", &friend.id().to_string(), "--for", "diary"];
    victim.node.ok(&line);
    assert_eq!(seen_by_a_stranger(&victim).await, bare, "granted to a friend");
    victim.serve_private("second-diary");
    victim.node.ok(&["unserve", "diary"]);
    assert_eq!(seen_by_a_stranger(&victim).await, bare, "and taken away again");
    let stranger = Evil::new().await;
    let link = stranger.dial(victim.id, victim.addr, RPC).await;
    hello(&link).await;
    let mut said = Vec::new();
    for name in ["second-diary", "never-served"] {
        match ask(&link, &Request::call(name, "{}")).await {
            Said::Error { code, message } => said.push((code, message.replace(name, "NAME"))),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(said[0], said[1]);
    // The control: what is published is seen.
    victim.serve("open", "--public");
    assert_ne!(seen_by_a_stranger(&victim).await, bare);
}
