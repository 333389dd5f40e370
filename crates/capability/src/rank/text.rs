//! Text relevance: BM25 over the few documents of one answer.
//!
//! Why an own index of a hundred lines: it lives for one ranking of at most a few hundred candidates that are already in memory. A search
//! engine crate brings segments, writers and files; the small BM25 crates bring float hashing and a language detector of their own, and
//! terms here must be cut by the same code that derives the rare-term keys.
//!
//! Source of the formula: Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond" (2009), with the field weights
//! of section 3.6 (BM25F). How rare a word is comes from the list of [`crate::keys::rarity`], not from the candidates: all of these
//! hold the words that they were found by, which would make the most telling words count least.

use std::collections::{BTreeMap, BTreeSet};

use crate::keys::{rarity, words};

/// Saturation of repeated terms: the tenth repetition of a word adds almost nothing, so that stuffing a word does not pay.
pub const TERM_SATURATION: f64 = 1.2;

/// Share of length normalisation: a text twice as long as the average needs more repetitions for the same score.
pub const LENGTH_NORMALISATION: f64 = 0.75;

/// One searchable text: terms with weights, and its weighted length.
#[derive(Clone, Debug, Default)]
pub(super) struct Document {
    weights: BTreeMap<String, f64>,
    length: f64,
}

impl Document {
    /// Adds the terms of one field, each counting `weight` times.
    pub(super) fn add(&mut self, field: &str, weight: f64) {
        for term in words(field) {
            *self.weights.entry(term).or_insert(0.0) += weight;
            self.length += weight;
        }
    }

    /// With a text known only to hold `terms`; the whole is taken to have `length`.
    pub(super) fn add_terms<'a>(
        mut self,
        terms: impl Iterator<Item = &'a String>,
        weight: f64,
        length: f64,
    ) -> Self {
        for term in terms {
            let held = self.weights.entry(term.clone()).or_insert(0.0);
            *held = held.max(weight);
        }
        self.length = length;
        self
    }
}

/// BM25 of `wanted` over `documents`, each score in 0..=1: the share of the best score that any document could reach for these terms.
pub(super) fn scores(wanted: &BTreeSet<String>, documents: &[Document]) -> Vec<f64> {
    let count = documents.len() as f64;
    let average = (documents.iter().map(|d| d.length).sum::<f64>() / count.max(1.0)).max(1.0);
    let rarity: Vec<(&String, f64)> =
        wanted.iter().map(|term| (term, rarity(term) as f64)).collect();
    let best: f64 = rarity.iter().map(|(_, idf)| idf * (TERM_SATURATION + 1.0)).sum();
    documents
        .iter()
        .map(|document| {
            let norm = TERM_SATURATION
                * (1.0 - LENGTH_NORMALISATION + LENGTH_NORMALISATION * document.length / average);
            let sum: f64 = rarity
                .iter()
                .filter_map(|(term, idf)| {
                    document
                        .weights
                        .get(*term)
                        .map(|tf| idf * tf * (TERM_SATURATION + 1.0) / (tf + norm))
                })
                .sum();
            if best > 0.0 { (sum / best).clamp(0.0, 1.0) } else { 0.0 }
        })
        .collect()
}

/// The terms of a question.
pub(crate) fn terms_of(text: &str) -> BTreeSet<String> {
    words(text).into_iter().collect()
}
