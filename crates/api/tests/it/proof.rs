//! Proof files: whole ones verify, and every changed part is noticed.

use comity_api::types::{AgentForms, Output, Proof};
use comity_api::{ProofError, ProofFile};
use comity_core::canonical::{Version, hash_json};
use comity_core::receipt::{Receipt, ShortText, sign_batch};
use comity_core::{Hash, Identity, Position, Sha256Digest, Time};
use serde_json::{Value, json};

fn sealed(request: &Value, items: &[Value]) -> Proof {
    let producer = Identity::from_secret_bytes(&[2; 32]);
    let bytes: Vec<u8> =
        items.iter().flat_map(|item| comity_core::canonical::from_json(item).unwrap()).collect();
    let receipt = Receipt {
        version: Version,
        session: Hash::of(b"session"),
        number: 1,
        caller: Identity::from_secret_bytes(&[1; 32]).id(),
        callee: producer.id(),
        capability: Hash::of(b"capability"),
        request: hash_json(request).unwrap(),
        response: Hash::of(&bytes),
        status: 0,
        started_ms: 1,
        finished_ms: 2,
        cost: 0,
        evidence: None,
        leaf: None,
        interface: Sha256Digest::of(b"interface"),
        valid_until_ms: 3,
        data_version: Some(ShortText::try_from("2026-01-09").unwrap()),
        name: ShortText::try_from("rates").unwrap(),
    };
    Proof::from(&sign_batch(&producer, Time::from_millis(2), vec![receipt]).unwrap()[0])
}

fn file() -> ProofFile {
    let request = json!({"pair": "EUR/USD"});
    let items = [json!({"rate": 1.25}), json!({"rate": 2})];
    let proof = sealed(&request, &items);
    ProofFile::new(request, Output::Items(items.to_vec()), proof)
}

#[test]
fn a_whole_file_verifies_after_a_trip_to_disk() {
    let text = serde_json::to_string(&file()).unwrap();
    let back: ProofFile = serde_json::from_str(&text).unwrap();
    let verified = back.verify().unwrap();
    assert_eq!(verified.receipt.callee, Identity::from_secret_bytes(&[2; 32]).id());
    assert_eq!(back.proof.receipt.capability, "rates");
    assert!(text.contains("comity/proof/1"));
}

#[test]
fn each_changed_part_is_noticed() {
    type Change = fn(&mut ProofFile);
    type Expected = fn(&ProofError) -> bool;
    let changes: [(Change, Expected); 7] = [
        (
            |f| f.request = json!({"pair": "EUR/GBP"}),
            |e| matches!(e, ProofError::Mismatch { what: "request", .. }),
        ),
        (
            |f| f.response = Output::Value(json!(1)),
            |e| matches!(e, ProofError::Mismatch { what: "response", .. }),
        ),
        (
            |f| f.response = Output::Items(f.response.items().iter().rev().cloned().collect()),
            |e| matches!(e, ProofError::Mismatch { what: "response", .. }),
        ),
        (|f| f.proof.receipt_cbor = "xyz".into(), |e| matches!(e, ProofError::NotHex)),
        (|f| f.proof.receipt_cbor.truncate(100), |e| matches!(e, ProofError::Decode(_))),
        (|f| f.proof.receipt.status = 1, |e| matches!(e, ProofError::View)),
        (
            |f| {
                let last = f.proof.receipt_cbor.len() - 1;
                let flipped = if f.proof.receipt_cbor.ends_with('0') { "1" } else { "0" };
                f.proof.receipt_cbor.replace_range(last.., flipped);
            },
            |e| matches!(e, ProofError::Receipt(_) | ProofError::Decode(_)),
        ),
    ];
    for (number, (change, expected)) in changes.into_iter().enumerate() {
        let mut file = file();
        change(&mut file);
        let error = file.verify().unwrap_err();
        assert!(expected(&error), "change {number}: {error:?}");
    }
}

#[test]
fn another_format_is_refused() {
    let mut value = serde_json::to_value(file()).unwrap();
    value["format"] = json!("comity/proof/9");
    assert!(serde_json::from_value::<ProofFile>(value).is_err());
}

#[test]
fn every_form_of_an_agent_leads_back_to_it() {
    let agent = Identity::from_secret_bytes(&[9; 32]).id();
    let forms = AgentForms::of(&agent, &Position::of(&agent));
    for text in [
        &forms.hex,
        &forms.did_key,
        &forms.peer_id,
        &forms.peer_id_cid,
        &forms.onion,
        &agent.to_string(),
    ] {
        assert_eq!(text.parse::<comity_core::AgentId>().unwrap(), agent, "{text}");
    }
    assert!(forms.address.starts_with("fd"));
    assert!(forms.handle.contains('#'));
}
