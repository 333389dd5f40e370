//! Nodes as each other's witnesses, and what their logs say.

use std::path::Path;
use std::sync::Arc;

use comity::api::types::{AuditAccusation, AuditTwice};
use comity::audit::{
    Audit, Reader, WitnessError, Writer, accusation_file, verify_accusation_file, verify_directory,
};
use comity::rpc::{Hello, RpcLimits};
use comity::specialist::function::Function;
use comity::specialist::{Answer, Invocation, Specialist};
use comity::transport::Limits;
use comity::{Capability, Identity, Node, Visibility};
use comity_core::{Canonical, Sha256Digest, Time};
use comity_trust::log::witness::Refusal;
use comity_trust::log::{
    Caught, Checkpoint, Entry, Equivocation, Event, SignedCheckpoint, short_text,
};

use crate::rpc_support::{Scripted, loopback, start_with};
use serde_json::json;

fn identity(seed: u8) -> Identity {
    Identity::from_secret_bytes(&[seed; 32])
}

async fn node(home: &Path, seed: u8) -> Node {
    Node::builder().home(home).identity(identity(seed)).spawn().await.expect("a node starts")
}

fn event(number: u64) -> Event {
    Event::Lost { count: number, reason: short_text("test") }
}

async fn grow(audit: &Audit, entries: u64) -> SignedCheckpoint {
    for number in 0..entries {
        audit.record(event(number)).await;
    }
    audit.flush().await.expect("the disk works")
}

fn note(signed: &SignedCheckpoint) -> Vec<u8> {
    signed.note().to_string().into_bytes()
}

/// The kinds of entries of a log, in order.
async fn kinds(audit: &Audit) -> Vec<&'static str> {
    let page = audit.list(0, 256).await.expect("the disk works");
    let entry = |bytes: &Vec<u8>| Entry::decode(bytes).expect("ours").event.name();
    page.entries.iter().map(|listed| entry(listed.entry.as_ref().expect("not pruned"))).collect()
}

#[tokio::test]
async fn a_peer_cosigns_what_grew_and_the_proof_of_an_entry_carries_it() {
    let dir = tempfile::tempdir().unwrap();
    let (log, witness) =
        (node(&dir.path().join("a"), 1).await, node(&dir.path().join("b"), 2).await);
    let first = grow(log.audit(), 300).await;
    let line = witness.witness().observe(&log.id(), &note(&first), None).await.unwrap();
    log.audit().cosigned(witness.id(), line).await.unwrap();
    let proof = log.audit().prove(100).await.unwrap().verify().unwrap();
    assert_eq!(proof.cosigners.len(), 1);
    assert_eq!(proof.cosigners[0].witness, witness.id());

    let second = grow(log.audit(), 300).await;
    let (old, new) = (first.checkpoint().size, second.checkpoint().size);
    let missing = witness.witness().observe(&log.id(), &note(&second), None).await.unwrap_err();
    assert!(matches!(missing, WitnessError::Refused(Refusal::ProofMissing { .. })), "{missing}");
    let grown = log.audit().consistency(old, new).await.unwrap();
    let grown = Canonical::encode(&grown);
    let line = witness.witness().observe(&log.id(), &note(&second), Some(&grown)).await.unwrap();
    log.audit().cosigned(witness.id(), line.clone()).await.unwrap();
    let held = witness.witness().held(&log.id()).unwrap().unwrap();
    assert_eq!(held.checkpoint(), second.checkpoint());
    let proof = log.audit().prove(500).await.unwrap().verify().unwrap();
    assert_eq!((proof.checkpoint.size, proof.cosigners.len()), (new, 1));
    // A cosignature of somebody else's making is none.
    let forged = log.audit().cosigned(identity(3).id(), line.clone()).await;
    assert!(forged.is_err());

    // What was signed is kept, also for a reader of the log at rest.
    let mut at_rest = Reader::open(&dir.path().join("a/audit"), log.id()).unwrap();
    assert_eq!(at_rest.prove(500).unwrap().verify().unwrap().cosigners, proof.cosigners);
    log.shutdown().await;
    let log = node(&dir.path().join("a"), 1).await;
    let proof = log.audit().prove(500).await.unwrap().verify().unwrap();
    assert_eq!((proof.checkpoint.size, proof.cosigners.len()), (new, 1));
    // A checkpoint that nobody was shown lately is not looked for.
    let old = comity::audit::Observed { size: 7, ..line.clone() };
    let refused = log.audit().cosigned(witness.id(), old).await.unwrap_err();
    assert!(refused.to_string().contains("say hello"), "{refused}");

    // What a witness remembers, it remembers after a restart; the handle of the node that stopped keeps nobody out.
    witness.shutdown().await;
    let again = node(&dir.path().join("b"), 2).await;
    let held = again.witness().held(&log.id()).unwrap().unwrap();
    assert_eq!(held.checkpoint(), second.checkpoint());
}

/// T23 against a node: its peer signs two histories and shows the second to whoever saw the first.
#[tokio::test]
async fn t23_a_peer_with_two_histories_is_caught_and_the_proof_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let witness = node(dir.path(), 2).await;
    let liar = identity(1);
    let checkpoint = |size, root| {
        let checkpoint = Checkpoint { log: liar.id(), size, root: Sha256Digest([root; 32]) };
        SignedCheckpoint::sign(checkpoint, &liar).unwrap()
    };
    let (one, other) = (checkpoint(40, 1), checkpoint(40, 2));
    witness.witness().observe(&liar.id(), &note(&one), None).await.unwrap();
    let caught = witness.witness().observe(&liar.id(), &note(&other), None).await.unwrap_err();
    assert!(
        matches!(caught, WitnessError::Refused(Refusal::Equivocated(_))),
        "the second history is refused: {caught}"
    );
    let proof = witness.witness().proof(&liar.id()).unwrap().unwrap();
    assert_eq!(proof.verify(), Ok(Caught::TwoRoots { log: liar.id(), size: 40 }));
    // From now on nothing helps, not even the first history again.
    let again = witness.witness().observe(&liar.id(), &note(&one), None).await.unwrap_err();
    assert!(matches!(again, WitnessError::Caught { .. }), "{again}");
    assert!(kinds(witness.audit()).await.contains(&"equivocation"));

    // The proof convinces one who never met the liar.
    let elsewhere = tempfile::tempdir().unwrap();
    let stranger = node(elsewhere.path(), 3).await;
    let sent = Canonical::encode(&proof);
    let (received, _) = Equivocation::open(&sent).unwrap();
    assert!(stranger.witness().told(&received).await.unwrap());
    assert!(!stranger.witness().told(&received).await.unwrap(), "it is known already");
    let refused = stranger.witness().observe(&liar.id(), &note(&one), None).await.unwrap_err();
    assert!(matches!(refused, WitnessError::Caught { .. }), "{refused}");
    assert_eq!(stranger.witness().proofs().unwrap(), [received]);
}

fn echo() -> Arc<dyn Specialist> {
    Arc::new(Function::new(|call: Invocation| async move { Ok(Answer::One(call.request)) }))
}

#[tokio::test]
async fn nodes_that_call_each_other_are_each_others_witnesses() {
    for idempotent in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let server = node(&dir.path().join("a"), 1).await;
        let home = dir.path().join("b");
        let caller =
            Node::builder().home(&home).identity(identity(2)).join(server.ticket()).spawn();
        let caller = caller.await.unwrap();
        let mut capability = Capability::new("echo").unwrap();
        (capability.idempotent, capability.visibility) = (idempotent, Visibility::Public);
        capability.title = "echo of a test".to_owned();
        server.serve(capability, echo()).await.unwrap();
        caller.call(format!("{}/echo", server.id()).as_str(), json!({})).await.unwrap();
        for (log, witness) in [(&server, &caller), (&caller, &server)] {
            let mut signed = log.audit().witnessed().unwrap();
            let signed = signed.wait_for(Option::is_some).await.unwrap().clone().unwrap();
            assert_eq!(signed.cosigned_by(&[witness.id()]).len(), 1);
            let held = witness.witness().held(&log.id()).unwrap().unwrap();
            assert!(held.checkpoint().size >= signed.checkpoint().size);
        }
        // On the next link the log has grown, and proves it.
        let before = caller.witness().held(&server.id()).unwrap().unwrap();
        caller.shutdown().await;
        grow(server.audit(), 500).await;
        let caller =
            Node::builder().home(&home).identity(identity(2)).join(server.ticket()).spawn();
        let caller = caller.await.unwrap();
        let mut signed = server.audit().witnessed().unwrap();
        signed.mark_unchanged();
        caller.call(format!("{}/echo", server.id()).as_str(), json!({})).await.unwrap();
        let grown = |signed: &Option<SignedCheckpoint>| {
            signed.as_ref().is_some_and(|signed| signed.checkpoint().size >= 500)
        };
        signed.wait_for(grown).await.unwrap();
        let held = caller.witness().held(&server.id()).unwrap().unwrap();
        assert!(held.checkpoint().size >= before.checkpoint().size + 500);
    }
}

/// T23 and T24 on the wire: an agent that says hello with another history than before is caught, and the node says so to its operator.
#[tokio::test]
async fn t23_a_peer_that_says_hello_with_another_history_is_caught() {
    let dir = tempfile::tempdir().unwrap();
    let honest = node(dir.path(), 2).await;
    let addrs = honest.info().addrs.clone();
    let says = |size, root| {
        let checkpoint = Checkpoint { log: identity(1).id(), size, root: Sha256Digest([root; 32]) };
        let signed = SignedCheckpoint::sign(checkpoint, &identity(1)).unwrap();
        Hello { checkpoint: Some(signed.note().to_string()), ..Hello::default() }
    };
    let mut seen = honest.witness().seen();
    // Grown without a proof of it: not believed, and not remembered. Then the first size again with another root.
    for (count, hello, held) in
        [(1, says(40, 1), Some(40)), (2, says(50, 3), Some(40)), (3, says(40, 2), Some(40))]
    {
        let evil = Scripted { hello, ..Scripted::default() };
        let evil = start_with(
            Arc::new(identity(1)),
            loopback(),
            Limits::default(),
            RpcLimits::default(),
            evil,
        )
        .await;
        evil.rpc.greet(honest.id(), &addrs).await.unwrap();
        seen.wait_for(|seen| *seen >= count).await.unwrap();
        let known = honest.witness().held(&evil.id).unwrap();
        assert_eq!(known.map(|known| known.checkpoint().size), held);
        evil.transport.close().await;
    }
    let evil = identity(1).id();
    let proof = honest.witness().proof(&evil).unwrap().unwrap();
    assert_eq!(proof.verify(), Ok(Caught::TwoRoots { log: evil, size: 40 }));
    let file = accusation_file(&proof).unwrap();
    let peers = honest.witness().peers(None).unwrap();
    assert_eq!(peers.peers[0].accusation.as_ref(), Some(&file));
    // The file convinces anybody, and nobody when it says something else.
    let caught = verify_accusation_file(&file).unwrap();
    assert_eq!(caught, Caught::TwoRoots { log: evil, size: 40 });
    let about_another = AuditAccusation { log: honest.id(), ..file.clone() };
    let of_another_size = AuditAccusation { twice: AuditTwice::RootOf(41), ..file.clone() };
    let of_another_form = AuditAccusation { format: "comity-audit-proof/1".to_owned(), ..file };
    for lie in [about_another, of_another_size, of_another_form] {
        assert!(verify_accusation_file(&lie).is_err(), "{lie:?}");
    }
}

#[tokio::test]
async fn checkpoints_of_others_and_broken_ones_are_not_cosigned() {
    let dir = tempfile::tempdir().unwrap();
    let witness = node(dir.path(), 2).await;
    let (peer, other) = (identity(1), identity(3));
    let checkpoint = Checkpoint { log: other.id(), size: 4, root: Sha256Digest([1; 32]) };
    let signed = SignedCheckpoint::sign(checkpoint, &other).unwrap();
    // A peer answers for its own log: it cannot have a witness hold others to what it makes up or withholds.
    let refused = witness.witness().observe(&peer.id(), &note(&signed), None).await;
    assert!(matches!(refused, Err(WitnessError::Checkpoint(_))));
    let mut broken = note(&signed);
    broken[60] ^= 1;
    let refused = witness.witness().observe(&other.id(), &broken, None).await;
    assert!(matches!(refused, Err(WitnessError::Checkpoint(_))));
    assert!(witness.witness().held(&other.id()).unwrap().is_none());
    // A proof that is none, or as long as a stranger likes.
    witness.witness().observe(&other.id(), &note(&signed), None).await.unwrap();
    let grown = Checkpoint { size: 9, ..checkpoint };
    let grown = SignedCheckpoint::sign(grown, &other).unwrap();
    for proof in [vec![0; 10], vec![0; 1 << 20]] {
        let refused = witness.witness().observe(&other.id(), &note(&grown), Some(&proof)).await;
        assert!(refused.is_err());
    }
}

#[tokio::test]
async fn a_node_without_a_home_keeps_no_log_and_says_so() {
    let node = Node::builder().spawn().await.unwrap();
    assert!(!node.audit().is_kept());
    assert_eq!(node.audit().latest(), None);
    node.audit().record(event(1)).await;
    let refused = node.audit().list(0, 1).await.unwrap_err();
    assert!(refused.to_string().contains("no home directory"), "{refused}");
}

#[tokio::test]
async fn the_log_of_a_node_begins_with_its_start_and_ends_with_its_stop() {
    let dir = tempfile::tempdir().unwrap();
    let node = node(dir.path(), 1).await;
    assert_eq!(kinds(node.audit()).await.first(), Some(&"started"));
    let receipt = node.audit().receipt(0).await.unwrap();
    let proof = node.audit().prove(0).await.unwrap();
    let leaf = comity_trust::log::tree::leaf_hash(&proof.entry);
    assert!(receipt.verify(&leaf, &node.id()).is_ok());
    node.shutdown().await;
    let held = verify_directory(&dir.path().join("audit"), node.id()).unwrap();
    assert_eq!((held.unsigned, held.torn_bytes), (0, 0));
    let mut log = Reader::open(&dir.path().join("audit"), node.id()).unwrap();
    let last = log.list(held.entries - 1, 1).unwrap().entries.remove(0).entry.unwrap();
    assert_eq!(Entry::decode(&last).unwrap().event, Event::Stopped {});
    // It goes on where it stopped, in the same process and while a handle of before is around.
    let again = self::node(dir.path(), 1).await;
    let next = again.audit().list(held.entries, 1).await.unwrap().entries.remove(0).entry.unwrap();
    assert!(matches!(Entry::decode(&next).unwrap().event, Event::Started { .. }));
}

#[tokio::test]
async fn the_log_of_another_agent_keeps_a_node_from_starting() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Writer::open(&dir.path().join("audit"), Arc::new(identity(1))).unwrap();
    log.append(&[Entry::new(Time::from_secs(1), event(1))]).unwrap();
    log.checkpoint().unwrap();
    let refused = Node::builder().home(dir.path()).identity(identity(2)).spawn().await.unwrap_err();
    assert!(refused.to_string().contains("it is the log of"), "{refused}");
}

/// A liar's proof: two roots of one size, signed by the liar.
fn two_roots(liar: &Identity, size: u64) -> Equivocation {
    let checkpoint = |root| {
        let checkpoint = Checkpoint { log: liar.id(), size, root: Sha256Digest([root; 32]) };
        SignedCheckpoint::sign(checkpoint, liar).unwrap()
    };
    Equivocation::between(&checkpoint(1), &checkpoint(2)).unwrap()
}

#[tokio::test]
async fn a_proof_of_two_histories_goes_from_node_to_node() {
    let dir = tempfile::tempdir().unwrap();
    let liar = identity(9);
    let first = node(&dir.path().join("a"), 1).await;
    assert!(first.witness().told(&two_roots(&liar, 40)).await.unwrap());
    let mut capability = Capability::new("echo").unwrap();
    (capability.idempotent, capability.visibility) = (true, Visibility::Public);
    capability.title = "echo of a test".to_owned();
    let mut before = first;
    // Each meets only the one before it, and none of them ever met the liar.
    for seed in [2, 3] {
        let home = dir.path().join(seed.to_string());
        before.serve(capability.clone(), echo()).await.unwrap();
        let next = Node::builder().home(&home).identity(identity(seed)).join(before.ticket());
        let next = next.spawn().await.unwrap();
        let mut seen = next.witness().seen();
        next.call(format!("{}/echo", before.id()).as_str(), json!({})).await.unwrap();
        let known = || next.witness().proof(&liar.id()).unwrap().is_some();
        while !known() {
            seen.changed().await.unwrap();
        }
        assert!(kinds(next.audit()).await.contains(&"equivocation"));
        before = next;
    }
    // It outlives the node.
    before.shutdown().await;
    let again = node(&dir.path().join("3"), 3).await;
    assert!(again.witness().proof(&liar.id()).unwrap().is_some());
}

/// What a node answers that passes these bytes on as proofs.
fn passed_on(proofs: &[Vec<u8>]) -> bytes::Bytes {
    let mut told = Vec::new();
    let mut e = minicbor::Encoder::new(&mut told);
    e.array(2).unwrap().u8(5).unwrap().map(1).unwrap().u8(0).unwrap();
    e.array(proofs.len().try_into().unwrap()).unwrap();
    for proof in proofs {
        e.bytes(proof).unwrap();
    }
    told.into()
}

#[tokio::test]
async fn nobody_is_convicted_by_what_a_peer_makes_up() {
    let dir = tempfile::tempdir().unwrap();
    let honest = node(dir.path(), 2).await;
    let addrs = honest.info().addrs.clone();
    let (liar, victim) = (identity(9), identity(8));
    let good = Canonical::encode(&two_roots(&liar, 40));
    // The liar's name replaced by the victim's, a root changed, cut off, too long, and a good one behind a bad one.
    let text = String::from_utf8_lossy(&good).into_owned();
    assert!(text.contains(&liar.id().to_string()));
    let name = liar.id().to_string().into_bytes();
    let mut renamed = good.clone();
    while let Some(at) = renamed.windows(name.len()).position(|part| part == name) {
        renamed[at..at + name.len()].copy_from_slice(victim.id().to_string().as_bytes());
    }
    let mut flipped = good.clone();
    let at = flipped.len() / 2;
    flipped[at] ^= 1;
    for (count, proofs) in [
        vec![renamed.clone()],
        vec![flipped],
        vec![good[..good.len() - 1].to_vec()],
        vec![vec![0; 50_000]],
        vec![renamed, good.clone()],
        vec![Vec::new(); 100],
    ]
    .into_iter()
    .enumerate()
    {
        let hello = Hello {
            accusation: Some(comity_core::Hash([u8::try_from(count).unwrap(); 32])),
            ..Hello::default()
        };
        let evil = Scripted { hello, trust: Some(passed_on(&proofs)), ..Scripted::echo() };
        let (limits, rpc) = (Limits::default(), RpcLimits::default());
        let evil = start_with(Arc::new(identity(20)), loopback(), limits, rpc, evil).await;
        evil.rpc.greet(honest.id(), &addrs).await.unwrap();
        // The honest node asks on the same link; its own log is looked at after that.
        evil.rpc.ping(honest.id(), &addrs).await.unwrap();
        evil.transport.close().await;
    }
    assert_eq!(honest.witness().proofs().unwrap(), []);
    // The control: what holds is believed, whoever passes it on.
    let hello = Hello { accusation: Some(comity_core::Hash::of(&good)), ..Hello::default() };
    let evil = Scripted { hello, trust: Some(passed_on(&[good])), ..Scripted::echo() };
    let evil = start_with(
        Arc::new(identity(20)),
        loopback(),
        Limits::default(),
        RpcLimits::default(),
        evil,
    )
    .await;
    let mut seen = honest.witness().seen();
    evil.rpc.greet(honest.id(), &addrs).await.unwrap();
    while honest.witness().proof(&liar.id()).unwrap().is_none() {
        seen.changed().await.unwrap();
    }
    assert!(honest.witness().proof(&victim.id()).unwrap().is_none());
}
