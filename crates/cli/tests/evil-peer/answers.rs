//! Answers that no caller should believe.

use std::sync::Arc;

use comity_capability::record::{Capability, Record, Visibility};
use comity_core::canonical::Version;
use comity_core::receipt::{Receipt, SignedReceipt, sign_batch};
use comity_core::{AgentId, Canonical as _, Hash, Identity, Time};
use iroh::endpoint::Connection;

use crate::peer::{Evil, Request, Said, Victim, frame, framed, session};

/// What an evil callee makes of an answer that it should have given.
struct Answer {
    body: Vec<u8>,
    receipt: Receipt,
    signer: Arc<Identity>,
    /// Changed after signing.
    after: fn(&mut SignedReceipt),
}

type Lie = fn(&mut Answer);

fn now() -> Time {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    Time::from_millis(u64::try_from(since.as_millis()).unwrap())
}

fn capability() -> Capability {
    let mut capability = Capability::new("ask").unwrap();
    capability.visibility = Visibility::Public;
    capability.title = "answers".to_owned();
    capability
}

/// Serves one link: hello, record, ping, and each call with the next lie.
async fn serve(link: Connection, identity: Arc<Identity>, lie: Lie) {
    let record = {
        let expires = now() + std::time::Duration::from_secs(3600);
        let mut record = Record::new(1, now(), expires, Hash([9; 32]));
        record.capabilities.push(capability());
        record.seal(&identity).unwrap()
    };
    while let Ok((mut send, mut recv)) = link.accept_bi().await {
        while let Some(bytes) = frame(&mut recv).await {
            let request: Request = minicbor::decode(&bytes).unwrap();
            let said = match request.method {
                2 => Said::Whole { body: record.clone(), receipt: Vec::new() },
                3 => Said::Whole {
                    body: comity::rpc::Hello::default().encode(),
                    receipt: Vec::new(),
                },
                0 => answer(&link, &identity, &request, lie),
                _ => Said::Whole { body: Vec::new(), receipt: Vec::new() },
            };
            if send.write_all(&framed(&said)).await.is_err() {
                break;
            }
        }
    }
}

fn answer(link: &Connection, identity: &Arc<Identity>, request: &Request, lie: Lie) -> Said {
    let body = comity_core::canonical::from_json(&serde_json::json!("the truth")).unwrap();
    let at = now().as_millis();
    let receipt = Receipt {
        version: Version,
        session: session(link),
        number: request.number,
        caller: AgentId::from_bytes(link.remote_id().as_bytes()).unwrap(),
        callee: identity.id(),
        capability: capability().hash(),
        request: Hash::of(&request.body),
        response: Hash::of(&body),
        status: 0,
        started_ms: at,
        finished_ms: at,
        cost: 0,
        evidence: None,
        leaf: None,
        interface: capability().interface.digest(),
        valid_until_ms: at,
        data_version: None,
        name: "ask".try_into().unwrap(),
    };
    let mut told = Answer { body, receipt, signer: Arc::clone(identity), after: |_| {} };
    lie(&mut told);
    let mut signed = sign_batch(&told.signer, now(), vec![told.receipt]).unwrap().remove(0);
    (told.after)(&mut signed);
    Said::Whole { body: told.body, receipt: signed.encode() }
}

/// T6, T7, T22: altered, of another session, call, caller, question or signer, edited after signing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t22_answers_without_a_receipt_for_this_call_are_shown_to_nobody() {
    let victim = Victim::start();
    // The hash of the capability's declaration is missing here: who calls an address without having seen a record has nothing to compare it with.
    let lies: [(&str, Lie); 12] = [
        ("truth", |_| {}),
        ("body", |told| told.body = vec![0x01]),
        ("response", |told| told.receipt.response = Hash([0; 32])),
        ("request", |told| told.receipt.request = Hash([0; 32])),
        ("session", |told| told.receipt.session = Hash([0; 32])),
        ("number", |told| told.receipt.number += 1),
        ("caller", |told| told.receipt.caller = told.receipt.callee),
        ("name", |told| told.receipt.name = "other".try_into().unwrap()),
        ("signer", |told| {
            let other = Arc::new(Identity::from_secret_bytes(&[3; 32]));
            told.receipt.callee = other.id();
            told.signer = other;
        }),
        ("edited", |told| told.after = |signed| signed.receipt.valid_until_ms += 1),
        ("path", |told| told.after = |signed| signed.path.push(Hash([0; 32]))),
        ("root", |told| told.after = |signed| signed.root.clear()),
    ];
    for (name, lie) in lies {
        let evil = Evil::new().await;
        let (endpoint, secret) = (evil.endpoint.clone(), evil.identity.secret_bytes());
        let identity = Arc::new(Identity::from_secret_bytes(&secret));
        let serving = tokio::spawn(async move {
            while let Some(incoming) = endpoint.accept().await {
                let Ok(link) = incoming.await else { continue };
                tokio::spawn(serve(link, Arc::clone(&identity), lie));
            }
        });
        let target = format!("{}@{}/ask", evil.id(), evil.addr());
        let run = victim.node.run(&["--json", "call", &target, "--json", "{}"]);
        if name == "truth" {
            assert_eq!(run.code, 0, "the control must pass: {}", run.stderr);
            assert!(run.stdout.contains("the truth"));
        } else {
            assert_ne!(run.code, 0, "{name}: {}", run.stdout);
            assert!(!run.stdout.contains("the truth"), "{name}: {}", run.stdout);
        }
        serving.abort();
    }
}
