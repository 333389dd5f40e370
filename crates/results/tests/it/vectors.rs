//! The bytes and keys of this crate, as an independent implementation makes them.

use comity_capability::record::{GroupSecret, Scope};
use comity_core::canonical::Version;
use comity_core::{AgentId, Canonical, Hash, Identity, Kind, Time, envelope};
use comity_results::ack::{Ack, Verdict};
use comity_results::key::{IndexKey, QuestionKey};
use comity_results::pointer::Pointer;
use comity_results::quorum::{commitment, job};
use comity_results::retract::{Retract, Target};
use serde_json::Value;

use crate::common::terms;

fn vectors() -> Value {
    serde_json::from_str(include_str!("../vectors/results.json")).unwrap()
}

fn bytes(row: &Value, name: &str) -> Vec<u8> {
    let text = row[name].as_str().unwrap();
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

fn hash(row: &Value, name: &str) -> Hash {
    Hash(bytes(row, name).try_into().unwrap())
}

fn number(row: &Value, name: &str) -> u64 {
    row[name].as_u64().unwrap()
}

fn signer(row: &Value) -> Identity {
    Identity::from_secret_bytes(&hash(row, "secret").0)
}

#[test]
fn questions_have_these_names() {
    let row = &vectors()["keys"];
    let question = QuestionKey::new(&hash(row, "descriptor"), &hash(row, "request"));
    assert_eq!(question.0, hash(row, "question"));
    let mut terms = terms();
    let public = IndexKey::new(&terms, &question, None, false).unwrap();
    assert_eq!(public.0, hash(row, "public"));
    terms.reuse.scope = Scope::Group;
    let secret = GroupSecret::from_bytes(hash(row, "group_secret").0);
    assert_eq!(
        IndexKey::new(&terms, &question, Some(&secret), false).unwrap().0,
        hash(row, "group")
    );
}

#[test]
fn commitments_are_these() {
    let row = &vectors()["quorum"];
    let agent = |name| AgentId::from_bytes(&hash(row, name).0).unwrap();
    let job = job(&agent("caller"), &hash(row, "request"), &hash(row, "random"));
    assert_eq!(job, hash(row, "job"));
    let made = commitment(&job, &hash(row, "response"), &hash(row, "nonce"), &agent("producer"));
    assert_eq!(made, hash(row, "commitment"));
}

#[test]
fn pointers_are_these_bytes() {
    let row = &vectors()["pointer"];
    let pointer = Pointer {
        version: Version,
        key: IndexKey(hash(row, "key")),
        producer: hash(row, "producer"),
        response: hash(row, "response"),
        bytes: number(row, "bytes"),
        finished_ms: number(row, "finished_ms"),
        issued_ms: number(row, "issued_ms"),
        expires_ms: number(row, "expires_ms"),
    };
    assert_eq!(Canonical::encode(&pointer), bytes(row, "payload"));
    assert_eq!(pointer.seal(&signer(row)), bytes(row, "envelope"));
    let opened = Pointer::open(&bytes(row, "envelope"), Time::from_millis(pointer.issued_ms));
    assert_eq!(opened.unwrap(), (signer(row).id(), pointer));
}

#[test]
fn retractions_and_countersignatures_are_these_bytes() {
    let vectors = vectors();
    for row in vectors["retract"].as_array().unwrap() {
        let hash = hash(row, "hash");
        let target = match row["target"].as_str().unwrap() {
            "capability" => Target::Capability(hash),
            "request" => Target::Request(hash),
            _ => Target::Response(hash),
        };
        let retract = Retract::new(target, Time::from_millis(number(row, "before_ms")));
        assert_eq!(Canonical::encode(&retract), bytes(row, "payload"));
        assert_eq!(retract.seal(&signer(row)), bytes(row, "envelope"));
    }
    for (row, verdict) in vectors["ack"].as_array().unwrap().iter().zip([
        Verdict::Received,
        Verdict::Confirmed,
        Verdict::Disputed,
    ]) {
        let ack = Ack {
            version: Version,
            receipt: hash(row, "receipt"),
            verdict,
            at_ms: number(row, "at_ms"),
        };
        assert_eq!(Canonical::encode(&ack), bytes(row, "payload"));
        assert_eq!(envelope::seal(Kind::Ack, &ack, &signer(row)), bytes(row, "envelope"));
    }
}
