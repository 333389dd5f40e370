//! A result as it is kept and handed on, and every check before anybody relies on it.
//!
//! The producer's receipt is made for one caller and one session, and vouches for the answer to anybody: it binds capability, request, answer,
//! time and validity. So a result needs no trust in who hands it over. What a receipt cannot show - that the producer is honest - is the
//! matter of [`repute`](crate::repute) and [`quorum`](crate::quorum).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use comity_core::canonical::{MAX_JSON_DEPTH, Version};
use comity_core::receipt::{
    MAX_SIGNED_RECEIPT_LEN, Receipt, ReceiptError, RootCache, SignedReceipt, VerifiedReceipt,
};
use comity_core::{AgentId, Canonical, DecodeError, Hash, Time};

use crate::key::QuestionKey;
use crate::retract::Retractions;
use crate::terms::{TTL_MAX, Terms};

/// Longest body that is kept in memory and handed on as one piece, in bytes; longer ones are kept and handed on as [`bulk`](crate::bulk) says.
pub const MAX_BODY: usize = crate::bulk::WHOLE_MAX;
/// Furthest that a receipt's time may lie ahead of the local clock.
pub const CLOCK_SKEW: Duration = Duration::from_secs(120);

/// An answer with its producer's receipt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedResult {
    /// The producer's signed statement.
    pub receipt: SignedReceipt,
    /// The items of the answer, one after the other (a CBOR sequence, RFC 8742): what the receipt's response hash is over.
    pub body: Arc<[u8]>,
}

#[derive(minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
struct Wire<'a> {
    #[n(0)]
    version: Version<1>,
    #[cbor(b(1), with = "minicbor::bytes")]
    receipt: &'a [u8],
    #[cbor(b(2), with = "minicbor::bytes")]
    body: &'a [u8],
}

/// Longest encoded result, in bytes.
pub const MAX_ENCODED: usize = MAX_BODY + MAX_SIGNED_RECEIPT_LEN + 32;

impl SharedResult {
    /// The bytes that a holder hands over: `{0: 1, 1: signed receipt, 2: body}`, both as byte strings.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let receipt = Canonical::encode(&self.receipt);
        let wire = Wire { version: Version, receipt: &receipt, body: &self.body };
        comity_core::canonical::encode_minicbor(&wire)
    }

    /// Reads what a holder handed over. Nothing is verified yet.
    ///
    /// # Errors
    /// [`DecodeError`] for anything that [`SharedResult::encode`] does not make.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.len() > MAX_ENCODED {
            return Err(DecodeError::TooLong { length: bytes.len(), max: MAX_ENCODED });
        }
        let wire: Wire<'_> = comity_core::canonical::decode_minicbor(bytes)?;
        if wire.body.len() > MAX_BODY {
            return Err(DecodeError::TooLong { length: wire.body.len(), max: MAX_BODY });
        }
        Ok(Self { receipt: SignedReceipt::decode(wire.receipt)?, body: wire.body.into() })
    }

    /// The items of the body. `None` when it is not a sequence of whole canonical items.
    #[must_use]
    pub fn items(&self) -> Option<Vec<&[u8]>> {
        split_items(&self.body)
    }
}

/// Cuts a sequence of canonical items apart.
#[must_use]
pub fn split_items(mut body: &[u8]) -> Option<Vec<&[u8]>> {
    let mut items = Vec::new();
    while !body.is_empty() {
        let mut decoder = minicbor::Decoder::new(body);
        decoder.skip().ok()?;
        let (item, rest) = body.split_at_checked(decoder.position())?;
        comity_core::canonical::check(
            item,
            MAX_JSON_DEPTH,
            comity_core::canonical::Floats::Shortest,
        )
        .ok()?;
        items.push(item);
        body = rest;
    }
    Some(items)
}

/// Whose answers are accepted, and how old.
#[derive(Debug, Clone, Default)]
pub struct Rules<'a> {
    /// Only these producers; everybody when absent.
    pub producers: Option<&'a BTreeSet<AgentId>>,
    /// Never these: caught lying, or blocked by the operator.
    pub distrusted: Option<&'a BTreeSet<AgentId>>,
    /// What producers took back.
    pub retracted: Option<&'a Retractions>,
    /// Oldest answer accepted, whatever its producer says of its validity.
    pub max_age: Option<Duration>,
}

/// Why a result is not used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// It answers something else.
    #[error("it answers another request")]
    Request,
    /// It is of another capability, or of another version of its declaration.
    #[error("it is of another capability, or of an earlier declaration of it")]
    Capability,
    /// It was given through another interface than the one declared.
    #[error("it was given through another interface")]
    Interface,
    /// The call failed; a failure is no result.
    #[error("its receipt is of a failed call (status {status})")]
    Status {
        /// The status.
        status: u64,
    },
    /// The data has changed since.
    #[error("it rests on another version of the data")]
    DataVersion,
    /// The producer is not among those accepted.
    #[error("its producer {producer} is not one the policy accepts")]
    Producer {
        /// Who produced it.
        producer: AgentId,
    },
    /// The producer is not believed any more.
    #[error("its producer {producer} is not believed here")]
    Distrusted {
        /// Who produced it.
        producer: AgentId,
    },
    /// The producer took it back.
    #[error("its producer took it back")]
    Retracted,
    /// Its validity is over.
    #[error("its validity ended {} s ago", since.as_secs())]
    Expired {
        /// How long ago.
        since: Duration,
    },
    /// It is older than the asker wants.
    #[error("it is {} s old, and at most {} s were asked for", age.as_secs(), max.as_secs())]
    TooOld {
        /// Its age.
        age: Duration,
        /// The oldest wanted.
        max: Duration,
    },
    /// It claims to come from the future.
    #[error("it is dated in the future; check the clocks")]
    Future,
    /// The body is not what the receipt is about.
    #[error("the answer is not the one its receipt vouches for")]
    Body,
    /// The body is not a sequence of items.
    #[error("the answer is not in canonical form")]
    Form,
    /// The receipt does not verify.
    #[error("its receipt does not verify")]
    Receipt(#[source] ReceiptError),
}

/// A result that passed every check. Only [`accept`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Accepted {
    /// The question it answers.
    pub question: QuestionKey,
    /// The result.
    pub result: SharedResult,
    /// The verified statement.
    pub verified: VerifiedReceipt,
    /// When the answer was whole, by its producer's clock.
    pub finished: Time,
    /// Until when it may be used: what its receipt says, at most [`TTL_MAX`] after it was given.
    pub valid_until: Time,
}

/// What a store and a pointer need to know of a result that passed every check.
pub trait Keepable {
    /// The question it answers.
    fn question(&self) -> QuestionKey;
    /// The producer's verified statement.
    fn statement(&self) -> &Receipt;
    /// When the answer was whole, by its producer's clock.
    fn finished(&self) -> Time;
    /// Until when it may be used.
    fn valid_until(&self) -> Time;
    /// Length of the body, in bytes.
    fn bytes(&self) -> u64;
}

impl Keepable for Accepted {
    fn question(&self) -> QuestionKey {
        self.question
    }

    fn statement(&self) -> &Receipt {
        &self.verified.receipt
    }

    fn finished(&self) -> Time {
        self.finished
    }

    fn valid_until(&self) -> Time {
        self.valid_until
    }

    fn bytes(&self) -> u64 {
        self.result.body.len() as u64
    }
}

impl<K: Keepable> Keepable for Arc<K> {
    fn question(&self) -> QuestionKey {
        K::question(self)
    }

    fn statement(&self) -> &Receipt {
        K::statement(self)
    }

    fn finished(&self) -> Time {
        K::finished(self)
    }

    fn valid_until(&self) -> Time {
        K::valid_until(self)
    }

    fn bytes(&self) -> u64 {
        K::bytes(self)
    }
}

impl Accepted {
    /// Who produced it.
    #[must_use]
    pub const fn producer(&self) -> AgentId {
        self.verified.receipt.callee
    }
}

/// Checks a result against the question it is to answer: cheap checks first, the signature last.
///
/// # Errors
/// [`Refusal`] names the first that fails.
pub fn accept(
    terms: &Terms,
    request: &Hash,
    result: SharedResult,
    rules: &Rules<'_>,
    roots: &mut RootCache,
    now: Time,
) -> Result<Accepted, Refusal> {
    let receipt = &result.receipt.receipt;
    let question = QuestionKey::new(&terms.descriptor, request);
    let (finished, valid_until) = check_statement(terms, request, receipt, rules, now)?;
    if Hash::of(&result.body) != receipt.response {
        return Err(Refusal::Body);
    }
    if result.items().is_none() {
        return Err(Refusal::Form);
    }
    let verified = result.receipt.verify_with(roots).map_err(Refusal::Receipt)?;
    Ok(Accepted { question, result, verified, finished, valid_until })
}

/// Checks what a receipt says, its signature not yet. Returns when the answer was given and until when it counts.
pub(crate) fn check_statement(
    terms: &Terms,
    request: &Hash,
    receipt: &Receipt,
    rules: &Rules<'_>,
    now: Time,
) -> Result<(Time, Time), Refusal> {
    if receipt.request != *request {
        return Err(Refusal::Request);
    }
    if receipt.capability != terms.descriptor || receipt.name.as_str() != terms.name {
        return Err(Refusal::Capability);
    }
    if receipt.interface != terms.interface {
        return Err(Refusal::Interface);
    }
    if receipt.status != 0 {
        return Err(Refusal::Status { status: receipt.status });
    }
    let version = receipt.data_version.as_ref().map(|version| version.as_str());
    if version != terms.data_version.as_deref() {
        return Err(Refusal::DataVersion);
    }
    let finished = Time::from_millis(receipt.finished_ms);
    let valid_until = valid_until(finished, Time::from_millis(receipt.valid_until_ms));
    check_times(finished, valid_until, rules.max_age, now)?;
    check_producer(receipt.callee, rules)?;
    if rules.retracted.is_some_and(|taken_back| taken_back.covers(receipt)) {
        return Err(Refusal::Retracted);
    }
    Ok((finished, valid_until))
}

/// Until when an answer counts.
pub(crate) fn valid_until(finished: Time, stated: Time) -> Time {
    stated.min(finished + TTL_MAX)
}

/// Whether an answer is in time.
pub(crate) fn check_times(
    finished: Time,
    valid_until: Time,
    max_age: Option<Duration>,
    now: Time,
) -> Result<(), Refusal> {
    if finished > now + CLOCK_SKEW {
        return Err(Refusal::Future);
    }
    if valid_until <= now {
        return Err(Refusal::Expired { since: now.saturating_since(valid_until) });
    }
    let age = now.saturating_since(finished);
    match max_age {
        Some(max) if age > max => Err(Refusal::TooOld { age, max }),
        Some(_) | None => Ok(()),
    }
}

fn check_producer(producer: AgentId, rules: &Rules<'_>) -> Result<(), Refusal> {
    if rules.producers.is_some_and(|accepted| !accepted.contains(&producer)) {
        return Err(Refusal::Producer { producer });
    }
    if rules.distrusted.is_some_and(|distrusted| distrusted.contains(&producer)) {
        return Err(Refusal::Distrusted { producer });
    }
    Ok(())
}
