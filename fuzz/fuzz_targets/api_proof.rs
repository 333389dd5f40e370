//! Proof files: whatever a file says, only a genuine receipt about exactly this request and this answer verifies.
#![no_main]

use arbitrary::{Arbitrary, Unstructured};
use comity_api::ProofFile;
use comity_api::types::{CallEvent, CallRequest, FindRequest, Output, Proof};
use comity_core::canonical::{Version, hash_json};
use comity_core::receipt::{Receipt, ShortText, sign_batch};
use comity_core::{Hash, Sha256Digest};
use comity_fuzz::{Edit, NOW, edited, identity, plausible};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|data: &[u8]| {
    bodies(data);
    if let Ok(proof) = serde_json::from_slice::<ProofFile>(data) {
        check(&proof);
    }
    let _ = changed(&mut Unstructured::new(data));
});

/// A genuine proof, its text changed on the way.
fn changed(u: &mut Unstructured<'_>) -> arbitrary::Result<()> {
    let (request, response) = (plausible::value(u)?, plausible::value(u)?);
    let (Ok(asked), Ok(answered)) = (hash_json(&request), hash_json(&response)) else {
        return Ok(());
    };
    let receipt = Receipt {
        version: Version,
        session: Hash([3; 32]),
        number: 0,
        caller: identity(1).id(),
        callee: identity(0).id(),
        capability: Hash([4; 32]),
        request: asked,
        response: answered,
        status: 0,
        started_ms: 1,
        finished_ms: 2,
        cost: 0,
        evidence: None,
        leaf: None,
        interface: Sha256Digest([7; 32]),
        valid_until_ms: 3,
        data_version: None,
        name: ShortText::try_from("fx-history").expect("a short text"),
    };
    let signed = sign_batch(identity(0), NOW, vec![receipt]).expect("one receipt");
    let genuine = ProofFile::new(request, Output::Value(response), Proof::from(&signed[0]));
    genuine.verify().expect("genuine");
    let text = serde_json::to_vec(&genuine).expect("JSON");
    let received = edited(&text, &text, &Vec::<Edit>::arbitrary(u)?);
    let Ok(proof) = serde_json::from_slice::<ProofFile>(&received) else { return Ok(()) };
    if proof.verify().is_ok() {
        // Equal up to what canonical encoding calls equal (1.0 is 1), to one item written as a list, and to letter case of hex.
        let hashes = |proof: &ProofFile| {
            (
                hash_json(&proof.request),
                proof.response.items().iter().map(hash_json).collect::<Vec<_>>(),
            )
        };
        assert_eq!(hashes(&proof), hashes(&genuine), "forged: {proof:?}");
        assert_eq!(proof.proof.receipt, genuine.proof.receipt);
        assert!(proof.proof.receipt_cbor.eq_ignore_ascii_case(&genuine.proof.receipt_cbor));
    }
    Ok(())
}

fn check(proof: &ProofFile) {
    let text = serde_json::to_string(proof).expect("JSON");
    assert_eq!(
        &serde_json::from_str::<ProofFile>(&text).expect("what was written can be read"),
        proof
    );
    if let Err(error) = proof.verify() {
        assert!(!error.to_string().is_empty());
    }
}

/// Bodies of the local API: what is read is written and read again the same.
fn bodies(data: &[u8]) {
    macro_rules! body {
        ($($name:ty),+) => {
            $(if let Ok(body) = serde_json::from_slice::<$name>(data) {
                let value: Value = serde_json::to_value(&body).expect("JSON");
                assert_eq!(serde_json::from_value::<$name>(value).as_ref().ok(), Some(&body));
            })+
        };
    }
    body!(CallRequest, CallEvent, FindRequest);
}
