//! The parts of a score, each in 0..=1.

use std::collections::BTreeSet;

use comity_core::Time;

use super::text::{Document, scores as text_scores, terms_of};
use super::{Candidate, Declared, Signals, Tally, Weights};
use crate::attribute::{Decimal, Money, Value};
use crate::matching::Evaluation;
use crate::matching::subject::{Declaration, Subject};
use crate::query::Query;

/// Factor on the text relevance of a declaration that addresses its reader as a program to be instructed.
pub const INSTRUCTION_DISCOUNT: f64 = 0.5;
/// Factor on quality and receipts of a capability that stands for a service of another network: who answers is one who passes on.
pub const BRIDGED_DISCOUNT: f64 = 0.5;
/// Round-trip time in milliseconds at which latency counts half.
pub const RTT_HALF_MS: f64 = 200.0;
/// Share of success in the quality part; the rest is latency.
pub const SUCCESS_SHARE: f64 = 0.6;
/// Receipts at which their part is half of what it can become: the first ones say most.
pub const RECEIPTS_HALF: f64 = 4.0;
/// Weight of other peers' receipts against own ones.
pub const PEER_RECEIPT_WEIGHT: f64 = 0.5;
/// Most receipts of other peers that count, so that a ring cannot outweigh own experience.
pub const PEER_RECEIPTS_MAX: u32 = 16;
/// Silence in milliseconds after which freshness counts half: the period of a beat.
pub const FRESHNESS_HALF_MS: f64 = 1_800_000.0;
/// Classes that a capability has for free; each further one adds [`CLASS_BREADTH`] to the breadth.
pub const CLASSES_FREE: usize = 2;
/// See [`CLASSES_FREE`].
pub const CLASS_BREADTH: f64 = 0.10;
/// Tags that a capability has for free; each further one adds [`TAG_BREADTH`] to the breadth.
pub const TAGS_FREE: usize = 6;
/// See [`TAGS_FREE`].
pub const TAG_BREADTH: f64 = 0.03;
/// Capabilities that an agent has for free; each further one adds [`CAPABILITY_BREADTH`] to the breadth.
pub const CAPABILITIES_FREE: u32 = 4;
/// See [`CAPABILITIES_FREE`].
pub const CAPABILITY_BREADTH: f64 = 0.05;
/// Largest breadth.
pub const BREADTH_MAX: f64 = 3.0;

/// Weight of the words of each field.
const TITLE_WEIGHT: f64 = 2.0;
const TAG_WEIGHT: f64 = 1.5;
const TEXT_WEIGHT: f64 = 1.0;
/// Length that a digest stands for: it holds terms, not texts.
const DIGEST_LENGTH: f64 = 24.0;
/// A part that nothing is known of.
const UNKNOWN: f64 = 0.5;

/// A score and its parts. Every part is in 0..=1; higher is better except for the price.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Score {
    /// Words of the question found, divided by the breadth.
    pub text: f64,
    /// Share of the preferences met.
    pub soft: f64,
    /// Measured success and latency; 0.5 when nothing is known.
    pub qos: f64,
    /// Verified receipts; 0 when there are none.
    pub receipts: f64,
    /// Recency of the last sign of life; 0 when there is none.
    pub freshness: f64,
    /// Price relative to the median of the candidates: 0 is free, 0.5 the median or unknown.
    pub price: f64,
    /// How widely the agent declares, from 1 up; the text part is divided by it.
    pub breadth: f64,
    /// The declaration addresses its reader as a program ([`looks_like_instructions`]).
    pub instructs: bool,
    /// Weighted mean of text and soft: how well it fits the question.
    pub relevance: f64,
    /// Weighted mean of qos, receipts and freshness: what is known of how it answers.
    pub trust: f64,
    /// The weighted sum that the order goes by.
    pub total: f64,
}

impl Score {
    /// The weighted parts by name, as an explanation shows them; they add up to [`Score::total`].
    pub fn contributions(&self, weights: &Weights) -> [(&'static str, f64); 6] {
        [
            ("text", weights.text * self.text),
            ("soft", weights.soft * self.soft),
            ("qos", weights.qos * self.qos),
            ("receipts", weights.receipts * self.receipts),
            ("freshness", weights.freshness * self.freshness),
            ("price", -weights.price * self.price),
        ]
    }
}

/// The scores of `candidates`, in their order.
pub(super) fn scores(
    query: &Query,
    candidates: &[Candidate<'_>],
    evaluations: &[Evaluation],
    now: Time,
) -> Vec<Score> {
    let weights = Weights::of(query.rank());
    let wanted = terms_of(query.text().unwrap_or_default());
    let documents: Vec<Document> =
        candidates.iter().map(|c| document(c.declared, &wanted)).collect();
    let texts = text_scores(&wanted, &documents);
    let prices: Vec<Option<Money>> = candidates.iter().map(|c| price(c.declared)).collect();
    let median = median(&prices);
    let mut out = Vec::with_capacity(candidates.len());
    for (index, candidate) in candidates.iter().enumerate() {
        let breadth = breadth(candidate);
        let instructs = instructs(candidate.declared);
        let discount = if instructs { INSTRUCTION_DISCOUNT } else { 1.0 };
        let text = texts[index] * discount / breadth;
        let soft = match evaluations[index].preferences() {
            (_, 0) => 0.0,
            (met, all) => met as f64 / all as f64,
        };
        let signals = &candidate.signals;
        let believed = if signals.bridged { BRIDGED_DISCOUNT } else { 1.0 };
        let (qos, receipts) = (believed * qos(signals), believed * receipts(signals));
        let freshness = freshness(signals, now);
        let price = relative_price(prices[index], median);
        let mut score = Score {
            text,
            soft,
            qos,
            receipts,
            freshness,
            price,
            breadth,
            instructs,
            relevance: (weights.text * text + weights.soft * soft) / (weights.text + weights.soft),
            trust: (weights.qos * qos
                + weights.receipts * receipts
                + weights.freshness * freshness)
                / (weights.qos + weights.receipts + weights.freshness),
            total: 0.0,
        };
        score.total = score.contributions(&weights).iter().map(|(_, part)| part).sum();
        out.push(score);
    }
    out
}

fn document(declared: Declared<'_>, wanted: &BTreeSet<String>) -> Document {
    match declared {
        Declared::Capability(capability) => {
            let mut document = Document::default();
            document.add(&capability.title, TITLE_WEIGHT);
            document.add(&capability.name, TITLE_WEIGHT);
            for tag in &capability.tags {
                document.add(tag, TAG_WEIGHT);
            }
            document.add(&capability.text, TEXT_WEIGHT);
            for example in &capability.examples {
                document.add(example, TEXT_WEIGHT);
            }
            document
        }
        Declared::Digest(digest) => {
            let mut document = Document::default();
            document.add(&digest.title, TITLE_WEIGHT);
            document.add(&digest.name, TITLE_WEIGHT);
            let terms = wanted.iter().filter(|term| digest.terms.may_contain(term));
            document.add_terms(terms, TEXT_WEIGHT, DIGEST_LENGTH)
        }
    }
}

/// How widely a candidate declares: a specialist is 1, and each class, tag or capability beyond what one needs makes all of them worth less.
fn breadth(candidate: &Candidate<'_>) -> f64 {
    let (classes, tags) = match candidate.declared {
        Declared::Capability(capability) => (capability.classes.len(), capability.tags.len()),
        Declared::Digest(digest) => (Subject::Digest(digest).classes().len(), 0),
    };
    let capabilities =
        candidate.signals.declared_capabilities.unwrap_or(1).saturating_sub(CAPABILITIES_FREE);
    let beyond = CLASS_BREADTH * classes.saturating_sub(CLASSES_FREE) as f64
        + TAG_BREADTH * tags.saturating_sub(TAGS_FREE) as f64
        + CAPABILITY_BREADTH * f64::from(capabilities);
    (1.0 + beyond).min(BREADTH_MAX)
}

fn qos(signals: &Signals) -> f64 {
    if signals.probe == Some(false) {
        return 0.0;
    }
    let Tally { good, total } = signals.calls.unwrap_or_default();
    // Laplace's rule of succession: no calls count as one good and one bad.
    let success = (f64::from(good.min(total)) + 1.0) / (f64::from(total) + 2.0);
    let latency = signals.rtt_ms.map_or(UNKNOWN, |ms| RTT_HALF_MS / (RTT_HALF_MS + f64::from(ms)));
    SUCCESS_SHARE * success + (1.0 - SUCCESS_SHARE) * latency
}

fn receipts(signals: &Signals) -> f64 {
    let own = signals.own_receipts.unwrap_or_default();
    let peers = signals.peer_receipts.unwrap_or_default();
    // A capped tally keeps its proportion of good ones.
    let scale = f64::from(PEER_RECEIPTS_MAX.min(peers.total)) / f64::from(peers.total.max(1))
        * PEER_RECEIPT_WEIGHT;
    let good = f64::from(own.good.min(own.total)) + scale * f64::from(peers.good.min(peers.total));
    let total = f64::from(own.total) + scale * f64::from(peers.total);
    good / (total + RECEIPTS_HALF)
}

fn freshness(signals: &Signals, now: Time) -> f64 {
    signals.last_seen.map_or(0.0, |seen| {
        let silent_ms = now.saturating_since(seen).as_secs_f64() * 1000.0;
        FRESHNESS_HALF_MS / (FRESHNESS_HALF_MS + silent_ms)
    })
}

fn price(declared: Declared<'_>) -> Option<Money> {
    let subject = match declared {
        Declared::Digest(digest) => Subject::Digest(digest),
        Declared::Capability(capability) => Subject::Capability(capability),
    };
    match subject.attribute("offer:price") {
        Declaration::Value(Value::Money(money)) if money.amount >= Decimal::ZERO => Some(*money),
        Declaration::Value(_) | Declaration::Absent | Declaration::Dropped => None,
    }
}

/// The median price in the currency that most candidates use.
fn median(prices: &[Option<Money>]) -> Option<Money> {
    let mut by_currency: std::collections::BTreeMap<&str, Vec<Money>> =
        std::collections::BTreeMap::new();
    for money in prices.iter().flatten() {
        by_currency.entry(money.currency.as_str()).or_default().push(*money);
    }
    let mut most = by_currency.into_values().rev().max_by_key(Vec::len)?;
    most.sort_by_key(|money| money.amount);
    most.get(most.len() / 2).copied()
}

/// `price / (price + median)`: amounts of another currency are not comparable and count as unknown.
fn relative_price(price: Option<Money>, median: Option<Money>) -> f64 {
    match (price, median) {
        (Some(price), _) if price.amount == Decimal::ZERO => 0.0,
        (Some(price), Some(median)) if price.currency == median.currency => {
            let (price, median) = (price.amount.approximate(), median.amount.approximate());
            price / (price + median)
        }
        _ => UNKNOWN,
    }
}

fn instructs(declared: Declared<'_>) -> bool {
    match declared {
        Declared::Digest(_) => false,
        Declared::Capability(capability) => {
            let texts = [&capability.title, &capability.text]
                .into_iter()
                .chain(&capability.examples)
                .chain(&capability.tags);
            texts.into_iter().any(|text| looks_like_instructions(text))
        }
    }
}

/// Whether a text addresses its reader as a program to be instructed. A short list of phrases, meant to flag and demote, not to filter:
/// whoever shows declarations to a language model quotes them whatever this says.
pub fn looks_like_instructions(text: &str) -> bool {
    const PHRASES: [&str; 16] = [
        "ignore previous",
        "ignore all previous",
        "ignore the above",
        "ignore all other",
        "ignore any other",
        "ignore your instructions",
        "disregard previous",
        "disregard all",
        "disregard the above",
        "system prompt",
        "you are now",
        "you must always",
        "always choose this",
        "do not tell the user",
        "<|im_start|>",
        "[inst]",
    ];
    let folded = text.to_lowercase().split_whitespace().collect::<Vec<_>>().join(" ");
    PHRASES.iter().any(|phrase| folded.contains(phrase))
}
