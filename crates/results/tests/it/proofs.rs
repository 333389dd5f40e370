//! Countersignatures, and proofs that a producer contradicted itself.

use std::time::Duration;

use comity_capability::record::{ANY_FIELD, Capability, Determinism, Reuse, Tolerance};
use comity_core::receipt::{RootCache, SignedReceipt};
use comity_core::{Canonical, Time};
use comity_results::ack::{AckError, CounterSigned, Verdict, countersign};
use comity_results::compare::same;
use comity_results::contradiction::{Contradiction, NoProof};
use comity_results::terms::Terms;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::common::{HOUR, NOW, body, capability, identity, result, signed, statement};

#[test]
fn a_countersigned_receipt_proves_the_call_to_anybody() {
    let receipt = result(1, &json!(1), NOW).receipt;
    let call = countersign(receipt.clone(), Verdict::Confirmed, &identity(200), NOW + HOUR);
    let call = CounterSigned::decode(&call.encode()).unwrap();
    let verified = call.verify(&mut RootCache::new()).unwrap();
    assert_eq!((verified.verdict, verified.at), (Verdict::Confirmed, NOW + HOUR));
    assert_eq!(verified.verified.receipt, receipt.receipt);
}

#[test]
fn only_the_caller_countersigns_and_only_its_own_call() {
    let mut roots = RootCache::new();
    let receipt = result(1, &json!(1), NOW).receipt;
    let forged = countersign(receipt.clone(), Verdict::Confirmed, &identity(1), NOW);
    assert!(matches!(forged.verify(&mut roots), Err(AckError::Signer { .. })));
    let mut moved = countersign(receipt.clone(), Verdict::Confirmed, &identity(200), NOW);
    moved.receipt = result(1, &json!(2), NOW).receipt;
    assert_eq!(moved.verify(&mut roots), Err(AckError::Other));
    let mut altered = countersign(receipt, Verdict::Confirmed, &identity(200), NOW);
    altered.receipt.receipt.cost = 5;
    assert_eq!(altered.verify(&mut roots), Err(AckError::Other));
    let terms = Terms::of(&capability());
    let itself = statement(&identity(1), &identity(1), &terms, &body(&json!(1)), NOW);
    let itself = signed(&identity(1), itself, &body(&json!(1))).receipt;
    let praise = countersign(itself, Verdict::Confirmed, &identity(1), NOW);
    assert_eq!(praise.verify(&mut roots), Err(AckError::Itself));
}

fn answer(
    capability: &Capability,
    producer: u8,
    value: &Value,
    at: Time,
) -> (SignedReceipt, Vec<u8>) {
    let (producer, body) = (identity(producer), body(value));
    let receipt = statement(&producer, &identity(200), &Terms::of(capability), &body, at);
    (signed(&producer, receipt, &body).receipt, body)
}

fn prove(
    capability: &Capability,
    first: &(SignedReceipt, Vec<u8>),
    second: &(SignedReceipt, Vec<u8>),
) -> Result<Contradiction, NoProof> {
    Contradiction::new(capability, (&first.0, &first.1), (&second.0, &second.1))
}

#[test]
fn two_answers_to_one_exact_question_prove_a_lie_to_anybody() {
    let capability = capability();
    let one = answer(&capability, 1, &json!(1), NOW);
    let other = answer(&capability, 1, &json!(2), NOW + HOUR * 100);
    let proof = prove(&capability, &one, &other).unwrap();
    assert_eq!(proof.bodies, None);
    let proof = Contradiction::decode(&proof.encode()).unwrap();
    assert_eq!(proof.verify(), Ok(identity(1).id()));
}

#[test]
fn nobody_is_accused_without_proof() {
    let exact = capability();
    let one = answer(&exact, 1, &json!(1), NOW);
    assert_eq!(prove(&exact, &one, &one), Err(NoProof::Agree));
    let stranger = answer(&exact, 2, &json!(2), NOW);
    assert_eq!(prove(&exact, &one, &stranger), Err(NoProof::Producers));
    let mut newer = exact.clone();
    newer.data_version = "8".to_owned();
    let after = answer(&newer, 1, &json!(2), NOW);
    assert_eq!(prove(&exact, &one, &after), Err(NoProof::Questions));
    // A declaration that promises more than the one the answers were given under.
    let mut free = exact.clone();
    free.reuse = None;
    let [a, b] = [1, 2].map(|value| answer(&free, 1, &json!(value), NOW));
    assert_eq!(prove(&free, &a, &b), Err(NoProof::Free));
    assert_eq!(prove(&exact, &a, &b), Err(NoProof::Declaration));
    // Without a version, an answer given after the other's validity contradicts nothing.
    let mut live = exact;
    live.data_version.clear();
    let [now, later, overlapping] =
        [NOW, NOW + HOUR, NOW + HOUR / 2].map(|at| answer(&live, 1, &json!(at.as_secs()), at));
    assert_eq!(prove(&live, &now, &later), Err(NoProof::Windows));
    assert!(prove(&live, &now, &overlapping).is_ok());
    let mut unsigned = prove(&live, &now, &overlapping).unwrap();
    unsigned.second.receipt.response = comity_core::Hash::of(b"made up");
    assert!(matches!(unsigned.verify(), Err(NoProof::Receipt(_))));
}

fn comparable(ppm: u32) -> Capability {
    let mut capability = capability();
    capability.reuse = Some(Reuse {
        determinism: Determinism::Comparable,
        tolerances: [
            (ANY_FIELD.to_owned(), Tolerance { relative_ppm: ppm, absolute_nano: 0 }),
            ("n".to_owned(), Tolerance { relative_ppm: 0, absolute_nano: 500_000_000 }),
        ]
        .into(),
        ..capability.reuse.unwrap()
    });
    capability
}

#[test]
fn answers_within_tolerance_are_no_lie_and_beyond_it_are() {
    let capability = comparable(1_000);
    let [one, near, far] =
        [1.0, 1.000_5, 1.01].map(|rate| answer(&capability, 1, &json!({ "rate": rate }), NOW));
    assert_eq!(prove(&capability, &one, &near), Err(NoProof::Agree));
    let proof = prove(&capability, &one, &far).unwrap();
    assert_eq!(Contradiction::decode(&proof.encode()).unwrap().verify(), Ok(identity(1).id()));
    let mut altered = proof.clone();
    altered.bodies.as_mut().unwrap().second = body(&json!({ "rate": 5 }));
    assert_eq!(altered.verify(), Err(NoProof::Bodies));
    let missing = Contradiction { bodies: None, ..proof };
    assert_eq!(missing.verify(), Err(NoProof::Bodies));
}

#[test]
fn each_field_has_its_own_tolerance_also_in_the_rows_of_a_table() {
    let reuse = comparable(1_000).reuse.unwrap();
    let alike = |a: Value, b: Value| same(&reuse, &body(&a), &body(&b));
    assert!(alike(json!({ "n": 10, "x": 1 }), json!({ "n": 10.5, "x": 1 })));
    assert!(!alike(json!({ "n": 10, "x": 1 }), json!({ "n": 10, "x": 1.5 })));
    assert!(!alike(json!({ "n": 10 }), json!({ "n": 10, "y": 1 })));
    assert!(!alike(json!({ "x": "a" }), json!({ "x": "b" })));
    let table =
        |rate: f64, n: f64| json!({ "columns": ["rate", "n"], "rows": [[rate, n]], "total": 1 });
    assert!(alike(table(1.0, 3.0), table(1.000_9, 3.4)));
    assert!(!alike(table(1.0, 3.0), table(1.4, 3.0)));
    assert!(!alike(json!([1, 2]), json!([1])));
    let free = Reuse::default();
    assert!(!same(&free, &body(&json!(1)), &body(&json!(1))), "nothing is known of free answers");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn altered_proofs_accuse_nobody(at in any::<prop::sample::Index>(), flip in 1u8..) {
        let capability = capability();
        let proof = prove(
            &capability,
            &answer(&capability, 1, &json!(1), NOW),
            &answer(&capability, 1, &json!(2), NOW + Duration::from_secs(1)),
        ).unwrap();
        let mut bytes = proof.encode();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        if let Ok(altered) = Contradiction::decode(&bytes) {
            prop_assert!(altered.verify().is_err(), "byte {at}");
        }
    }

    #[test]
    fn altered_countersignatures_prove_nothing(at in any::<prop::sample::Index>(), flip in 1u8..) {
        let call = countersign(result(1, &json!(1), NOW).receipt, Verdict::Received, &identity(200), NOW);
        let mut bytes = call.encode();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        if let Ok(altered) = CounterSigned::decode(&bytes) {
            prop_assert!(altered.verify(&mut RootCache::new()).is_err(), "byte {at}");
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = (Contradiction::decode(&bytes), CounterSigned::decode(&bytes));
    }
}
