//! Evidence replayed, relayed, made up, too much of it.

use comity_core::{AgentId, Hash, Identity, Time};
use comity_trust::evidence::{Asked, Evidence, Trace, bind};
use iroh::endpoint::Connection;

use crate::peer::code::{BUSY, INVALID_INPUT};
use crate::peer::{Evil, RPC, Request, Said, Victim, ask, hello, refused, session};

const TRUST: u8 = 8;

fn now() -> Time {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    Time::from_millis(u64::try_from(since.as_millis()).unwrap())
}

/// A victim whose diary is for whoever committed to a trace.
fn victim() -> Victim {
    let victim = Victim::start();
    let rule = "[[rule]]\nallow = \"diary\"\nanyone = true\nevidence = \"trace\"\n";
    std::fs::write(victim.node.home.join("policy.toml"), rule).unwrap();
    victim.node.ok(&["policy", "reload"]);
    victim
}

fn commitment() -> Vec<u8> {
    Trace::new([7; 32], vec![b"thought".to_vec()]).unwrap().commitment()
}

fn sealed(by: &Identity, session: &Hash) -> Vec<u8> {
    Evidence::new(&by.id(), session, "trace", commitment(), now()).seal(by).unwrap()
}

fn presenting(evidence: &[u8]) -> Request {
    let mut body = Vec::new();
    let mut e = minicbor::Encoder::new(&mut body);
    e.array(2).unwrap().u8(22).unwrap().map(1).unwrap().u8(0).unwrap().bytes(evidence).unwrap();
    Request::of(TRUST, body)
}

async fn linked(victim: &Victim, peer: &Evil) -> Connection {
    let link = peer.dial(victim.id, victim.addr, RPC).await;
    hello(&link).await;
    link
}

async fn is_let_in(link: &Connection) -> bool {
    matches!(ask(link, &Request::call("diary", "{}")).await, Said::Whole { .. })
}

/// T7, T28: what another showed, what was shown in another session, what answers a question that nobody asked.
#[tokio::test]
async fn t28_evidence_serves_the_session_and_the_agent_it_was_made_for() {
    let victim = victim();
    let (alice, thief) = (Evil::new().await, Evil::new().await);
    let (hers, his) = (linked(&victim, &alice).await, linked(&victim, &thief).await);
    let shown = sealed(&alice.identity, &session(&hers));
    assert!(!is_let_in(&hers).await);
    assert!(matches!(ask(&hers, &presenting(&shown)).await, Said::Whole { .. }), "the control");
    assert!(is_let_in(&hers).await, "the control must pass");

    let copied = |key: &AgentId| Evidence {
        binds: bind(&session(&hers), key, "trace"),
        ..Evidence::new(&thief.id(), &session(&his), "trace", commitment(), now())
    };
    let asked = Asked { nonce: Hash([1; 32]), capability: "diary" };
    let unasked =
        Evidence::answering(&thief.id(), &session(&his), &asked, "trace", commitment(), now());
    let lies = [
        shown.clone(),
        copied(&alice.id()).seal(&thief.identity).unwrap(),
        copied(&thief.id()).seal(&thief.identity).unwrap(),
        unasked.seal(&thief.identity).unwrap(),
    ];
    for (n, lie) in lies.iter().enumerate() {
        assert_eq!(refused(&his, &presenting(lie)).await, INVALID_INPUT, "lie {n}");
    }
    assert!(!is_let_in(&his).await);
    // That was all this session may try: not even what holds is looked at now.
    let late = sealed(&thief.identity, &session(&his));
    assert_eq!(refused(&his, &presenting(&late)).await, BUSY);

    // Her own, in her next session.
    let next = linked(&victim, &alice).await;
    assert_eq!(refused(&next, &presenting(&shown)).await, INVALID_INPUT, "replayed");
    assert!(!is_let_in(&next).await);
    assert_eq!(victim.executed().len(), 1);
    victim.serves_on().await;
}

/// What is no evidence, or of a kind that nobody here reads.
#[tokio::test]
async fn malformed_evidence_shows_nothing_and_harms_nobody() {
    let victim = victim();
    let peer = Evil::new().await;
    let link = linked(&victim, &peer).await;
    let id = peer.id();
    let of = |kind: &str, blob: Vec<u8>| {
        Evidence::new(&id, &session(&link), kind, blob, now()).seal(&peer.identity).unwrap()
    };
    let deep = [vec![b'['; 30_000], vec![b']'; 30_000]].concat();
    let mut longer = of("trace", commitment());
    longer.push(0);
    for bytes in [Vec::new(), longer, of("tdx", deep), of("trace", vec![0xa0])] {
        assert_eq!(refused(&link, &presenting(&bytes)).await, INVALID_INPUT);
    }
    assert!(!is_let_in(&link).await);
    victim.serves_on().await;
}
