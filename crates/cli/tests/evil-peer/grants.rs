//! Grants stolen, widened, stripped, moved, respelled, revoked, too many.

use std::time::Duration;

use comity_core::{AgentId, Hash, Identity, Kind, Time, envelope};
use comity_trust::grant::Grant;
use iroh::endpoint::Connection;

use crate::peer::{Evil, RPC, Request, Said, Victim, ask, hello};

fn now() -> Time {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    Time::from_millis(u64::try_from(since.as_millis()).unwrap())
}

/// A grant of the victim's for `diary`, as its only link, and its name.
fn granted(victim: &Victim, holder: AgentId, more: &[&str]) -> (Vec<u8>, String) {
    let holder = holder.to_string();
    let line = ["--json", "grant", "create", "--to", &holder, "--for", "diary"];
    let made = victim.node.ok(&[&line[..], more].concat()).json();
    let chain = comity::access::grant_bytes(made["text"].as_str().unwrap()).unwrap();
    let links: Vec<minicbor::bytes::ByteVec> = minicbor::decode(&chain).unwrap();
    (links[0].to_vec(), made["grant"].as_str().unwrap().to_owned())
}

/// The chain as it is shown with a call.
fn shown(links: &[&[u8]]) -> Vec<u8> {
    let mut chain = Vec::new();
    let mut e = minicbor::Encoder::new(&mut chain);
    e.array(links.len().try_into().unwrap()).unwrap();
    for link in links {
        e.bytes(link).unwrap();
    }
    let mut shown = Vec::new();
    let mut e = minicbor::Encoder::new(&mut shown);
    e.map(2).unwrap().u8(0).unwrap().u8(1).unwrap().u8(1).unwrap().bytes(&chain).unwrap();
    shown
}

/// A link under another, with no look at whether it may be.
fn link(
    under: &[u8],
    signer: &Identity,
    holder: AgentId,
    scope: &str,
    change: impl FnOnce(&mut Grant),
) -> Vec<u8> {
    let until = now() + Duration::from_secs(600);
    let mut grant = Grant::new(holder, [scope.parse().unwrap()], now(), until);
    grant.parent = Some(Hash::of(under));
    change(&mut grant);
    envelope::seal(Kind::Grant, &grant, signer)
}

/// The same envelope in other bytes: its signature still holds.
fn respelled(sealed: &[u8]) -> Vec<u8> {
    [&[0xd2, 0x98, 0x04][..], &sealed[2..]].concat()
}

async fn session(victim: &Victim, peer: &Evil) -> Connection {
    let link = peer.dial(victim.id, victim.addr, RPC).await;
    hello(&link).await;
    link
}

fn call(name: &str, links: &[&[u8]]) -> Request {
    Request { grants: Some(shown(links)), ..Request::call(name, "{\"granted\":true}") }
}

async fn allowed(link: &Connection, links: &[&[u8]]) {
    match ask(link, &call("diary", links)).await {
        Said::Whole { .. } => {}
        other => panic!("the control must pass: {other:?}"),
    }
}

async fn denied(link: &Connection, name: &str, links: &[&[u8]], what: &str) {
    let answer = ask(link, &call(name, links)).await;
    assert!(matches!(answer, Said::Error { .. }), "{what}: {answer:?}");
}

/// T14, T7: copied from the wire, byte for byte, in a session of another key.
#[tokio::test]
async fn t14_a_stolen_grant_is_worth_nothing_to_another_key() {
    let victim = Victim::start();
    let (alice, thief) = (Evil::new().await, Evil::new().await);
    let (root, _) = granted(&victim, alice.id(), &[]);
    let (hers, his) = (session(&victim, &alice).await, session(&victim, &thief).await);
    allowed(&hers, &[&root]).await;
    denied(&his, "diary", &[&root], "stolen").await;
    // With a link to himself: by himself, and in her name.
    let own = link(&root, &thief.identity, thief.id(), "diary", |_| {});
    denied(&his, "diary", &[&root, &own], "passed on by the thief").await;
    let root_of_his = envelope::seal(
        Kind::Grant,
        &Grant::new(thief.id(), ["*".parse().unwrap()], now(), now() + Duration::from_secs(600)),
        &thief.identity,
    );
    denied(&his, "diary", &[&root_of_his], "granted by the thief").await;
    assert_eq!(victim.executed().len(), 1);
    victim.serves_on().await;
}

/// T15: more than was given, deeper, without what is above, under something else, edited anywhere.
#[tokio::test]
async fn t15_no_delegation_gives_more_than_it_was_given() {
    let victim = Victim::start();
    let (alice, bob, carol) = (Evil::new().await, Evil::new().await, Evil::new().await);
    let (root, _) = granted(&victim, alice.id(), &["--depth", "1"]);
    let (flat, _) = granted(&victim, alice.id(), &["--count", "5"]);
    let by_alice = |change: fn(&mut Grant)| link(&root, &alice.identity, bob.id(), "diary", change);
    let good = by_alice(|_| {});
    let bobs = session(&victim, &bob).await;
    allowed(&bobs, &[&root, &good]).await;

    let wide = link(&root, &alice.identity, bob.id(), "*", |_| {});
    // `hidden` is served to nobody; the link's own scope would cover it.
    victim.serve_private("hidden");
    denied(&bobs, "hidden", &[&root, &wide], "wider than its parent").await;
    denied(&bobs, "diary", &[&root, &by_alice(|grant| grant.depth = 1)], "as deep as its parent")
        .await;
    let late = by_alice(|grant| grant.not_before = now() + Duration::from_secs(400));
    denied(&bobs, "diary", &[&root, &late], "not yet").await;
    let over = by_alice(|grant| {
        (grant.not_before, grant.not_after) = (Time::from_secs(1_000), Time::from_secs(2_000));
    });
    denied(&bobs, "diary", &[&root, &over], "over").await;
    let level = by_alice(|grant| grant.min_level = comity_trust::Level::L4);
    denied(&bobs, "diary", &[&root, &level], "a level that he has not").await;
    let under_flat = link(&flat, &alice.identity, bob.id(), "diary", |_| {});
    denied(&bobs, "diary", &[&flat, &under_flat], "under one that may not be passed on").await;
    denied(&bobs, "diary", &[&good], "stripped").await;
    denied(&bobs, "diary", &[&flat, &good], "moved under another").await;
    denied(&bobs, "diary", &[&good, &root], "turned round").await;
    denied(&bobs, "diary", &[&root, &good, &good], "twice").await;
    denied(&bobs, "diary", &[&root, &respelled(&good)], "respelled").await;
    denied(&bobs, "diary", &[&respelled(&root), &good], "its parent respelled").await;
    let carols = session(&victim, &carol).await;
    let third = link(&good, &bob.identity, carol.id(), "diary", |_| {});
    denied(&carols, "diary", &[&root, &good, &third], "deeper than the first link allows").await;
    for bit in (0..good.len() * 8).step_by(53) {
        let mut flipped = good.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        denied(&bobs, "diary", &[&root, &flipped], &format!("bit {bit}")).await;
    }
    assert_eq!(victim.executed().len(), 1, "{:?}", victim.executed());
    victim.serves_on().await;
}

/// T17: taken back, shown again as it was, in other bytes, and by those below.
#[tokio::test]
async fn t17_a_withdrawn_grant_is_refused_however_it_is_spelled() {
    let victim = Victim::start();
    let (alice, bob) = (Evil::new().await, Evil::new().await);
    let (root, name) = granted(&victim, alice.id(), &["--depth", "1"]);
    let good = link(&root, &alice.identity, bob.id(), "diary", |_| {});
    let (hers, his) = (session(&victim, &alice).await, session(&victim, &bob).await);
    allowed(&hers, &[&root]).await;
    allowed(&his, &[&root, &good]).await;
    victim.node.ok(&["grant", "revoke", &name, "--reason", "misused"]);
    // In the sessions that showed it before, where it was verified already.
    for (link, links) in [
        (&hers, vec![&root[..]]),
        (&his, vec![&root, &good]),
        (&hers, vec![&respelled(&root)]),
        (&his, vec![&respelled(&root), &good]),
    ] {
        denied(link, "diary", &links, "taken back").await;
    }
    // In a new one, which takes the old one's place.
    denied(&session(&victim, &alice).await, "diary", &[&root], "taken back").await;
    assert_eq!(victim.executed().len(), 2);
    victim.serves_on().await;
}

/// T16: what is dear to read or to check is refused by size and shape.
#[tokio::test]
async fn t16_bombs_shown_as_grants_are_refused_and_the_node_goes_on() {
    let victim = Victim::start();
    let evil = Evil::new().await;
    let link = session(&victim, &evil).await;
    let own = envelope::seal(
        Kind::Grant,
        &Grant::new(evil.id(), ["*".parse().unwrap()], now(), now() + Duration::from_secs(600)),
        &evil.identity,
    );
    let many = vec![&own[..]; 20];
    let empty = vec![&[][..]; 2_000];
    for bomb in [
        shown(&many),
        shown(&empty),
        vec![0x81; 24_000],
        vec![0x9f; 24_000],
        [&[0xa2, 0x00, 0x01, 0x01, 0x5b, 0x7f][..], &[0xff; 7], &[0; 100]].concat(),
        [&[0xbb, 0x7f][..], &[0xff; 7], &[0; 8_000]].concat(),
        vec![0; 24 * 1024],
        vec![0; 64 * 1024],
    ] {
        let request = Request { grants: Some(bomb.clone()), ..Request::call("diary", "{}") };
        let answer = ask(&link, &request).await;
        assert!(matches!(answer, Said::Error { .. }), "{:02x?}: {answer:?}", &bomb[..8]);
    }
    assert_eq!(victim.executed(), Vec::<String>::new());
    victim.serves_on().await;
}
