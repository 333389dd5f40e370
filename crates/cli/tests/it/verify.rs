//! `comity verify` offline.

use comity_api::ProofFile;
use comity_api::types::{Output, Proof};
use comity_core::canonical::{Version, from_json, hash_json};
use comity_core::receipt::{Receipt, ShortText, sign_batch};
use comity_core::{Hash, Identity, Sha256Digest, Time};
use serde_json::json;

use crate::support::comity;

fn proof() -> ProofFile {
    let producer = Identity::from_secret_bytes(&[2; 32]);
    let (request, answer) = (json!({"pair": "EUR/USD"}), json!({"rate": 1.25}));
    let receipt = Receipt {
        version: Version,
        session: Hash::of(b"session"),
        number: 1,
        caller: Identity::from_secret_bytes(&[1; 32]).id(),
        callee: producer.id(),
        capability: Hash::of(b"capability"),
        request: hash_json(&request).unwrap(),
        response: Hash::of(&from_json(&answer).unwrap()),
        status: 0,
        started_ms: 1_768_000_000_000,
        finished_ms: 1_768_000_001_000,
        cost: 0,
        evidence: None,
        leaf: None,
        interface: Sha256Digest::of(b"interface"),
        valid_until_ms: 1_768_000_002_000,
        data_version: None,
        name: ShortText::try_from("ecb-rates").unwrap(),
    };
    let signed =
        sign_batch(&producer, Time::from_millis(1_768_000_001_000), vec![receipt]).unwrap();
    ProofFile::new(request, Output::Value(answer), Proof::from(&signed[0]))
}

#[test]
fn a_kept_answer_verifies_and_a_changed_one_does_not() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("proof.json");
    let file = path.to_str().unwrap();
    std::fs::write(&path, serde_json::to_string(&proof()).unwrap()).unwrap();
    let good = comity(home.path(), &["verify", file]);
    assert_eq!(good.code, 0, "{}", good.stderr);
    let producer = Identity::from_secret_bytes(&[2; 32]).id().to_string();
    for said in ["verified", "ecb-rates", "2026-01-09T23:06:41Z", producer.as_str()] {
        assert!(good.stdout.contains(said), "{said} is missing from:\n{}", good.stdout);
    }
    assert_eq!(comity(home.path(), &["verify", file, "--json"]).json()["callee"], producer);

    let mut changed = proof();
    changed.response = Output::Value(json!({"rate": 1.26}));
    std::fs::write(&path, serde_json::to_string(&changed).unwrap()).unwrap();
    let bad = comity(home.path(), &["--json", "verify", file]);
    assert_eq!((bad.code, bad.error_code().as_str()), (8, "not_verified"));

    std::fs::write(&path, "{}").unwrap();
    assert_eq!(comity(home.path(), &["verify", file]).code, 8);
    assert_eq!(comity(home.path(), &["verify", "/nonexistent/proof"]).code, 2);
}
