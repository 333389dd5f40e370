//! A capability, its producers, and answers signed by them.

use std::time::Duration;

use comity_capability::attribute::Period;
use comity_capability::record::{Capability, Determinism, Reuse, Scope};
use comity_core::canonical::{Version, from_json};
use comity_core::receipt::{Receipt, RootCache, ShortText, sign_batch};
use comity_core::{Hash, Identity, Time};
use comity_results::result::{Accepted, Rules, SharedResult, accept};
use comity_results::terms::Terms;
use serde_json::{Value, json};

pub(crate) const NOW: Time = Time::from_secs(1_790_000_000);
pub(crate) const HOUR: Duration = Duration::from_secs(3600);

pub(crate) fn identity(number: u8) -> Identity {
    Identity::from_secret_bytes(&[number; 32])
}

/// Answers for an hour, exact, for everybody.
pub(crate) fn capability() -> Capability {
    let mut capability = Capability::new("fx-rates").unwrap();
    capability.valid_for = Period::from_micros(3_600_000_000).unwrap();
    capability.data_version = "7".to_owned();
    capability.reuse =
        Some(Reuse { scope: Scope::Public, determinism: Determinism::Exact, ..Reuse::default() });
    capability
}

pub(crate) fn terms() -> Terms {
    Terms::of(&capability())
}

pub(crate) fn request() -> Value {
    json!({ "pair": "EUR/USD" })
}

pub(crate) fn request_hash() -> Hash {
    Hash::of(&from_json(&request()).unwrap())
}

/// What a producer says, before it is signed: a successful answer of `body` to [`request`], given at `at`.
pub(crate) fn statement(
    producer: &Identity,
    caller: &Identity,
    terms: &Terms,
    body: &[u8],
    at: Time,
) -> Receipt {
    Receipt {
        version: Version,
        session: Hash::of(b"session"),
        number: 1,
        caller: caller.id(),
        callee: producer.id(),
        capability: terms.descriptor,
        request: request_hash(),
        response: Hash::of(body),
        status: 0,
        started_ms: at.as_millis(),
        finished_ms: at.as_millis(),
        cost: 0,
        evidence: None,
        leaf: None,
        interface: terms.interface,
        valid_until_ms: (at + terms.ttl).as_millis(),
        data_version: terms.data_version.as_deref().map(|text| ShortText::try_from(text).unwrap()),
        name: ShortText::try_from(terms.name.as_str()).unwrap(),
    }
}

pub(crate) fn signed(producer: &Identity, receipt: Receipt, body: &[u8]) -> SharedResult {
    let at = Time::from_millis(receipt.finished_ms);
    let receipt = sign_batch(producer, at, vec![receipt]).unwrap().remove(0);
    SharedResult { receipt, body: body.into() }
}

pub(crate) fn body(value: &Value) -> Vec<u8> {
    from_json(value).unwrap()
}

/// An answer to [`request`] by producer `number`, given at `at`.
pub(crate) fn result(number: u8, value: &Value, at: Time) -> SharedResult {
    let (producer, body) = (identity(number), body(value));
    let receipt = statement(&producer, &identity(200), &terms(), &body, at);
    signed(&producer, receipt, &body)
}

pub(crate) fn accepted(number: u8, value: &Value, at: Time) -> Accepted {
    let result = result(number, value, at);
    accept(&terms(), &request_hash(), result, &Rules::default(), &mut RootCache::new(), at).unwrap()
}
