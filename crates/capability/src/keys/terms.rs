//! Words worth a key: cut, folded, stripped of common words, stemmed. Publisher and asker run the same code.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::OnceLock;

use rust_stemmers::{Algorithm, Stemmer};
use unicode_normalization::UnicodeNormalization;

use super::rarity::rarity;
use crate::profile;
use crate::record::Capability;

/// Most terms of a capability.
pub const MAX_TERMS: usize = 16;
/// Most words in a digest's filter. At 40 words of four bits it says yes to 5 % of others.
pub const MAX_FILTER_WORDS: usize = 40;
/// Shortest and longest word that can be a term, in characters.
const TERM_LENGTH: std::ops::RangeInclusive<usize> = 2..=32;

/// Words that nearly every declaration or question has: function words, and what any service says of itself.
/// Compared before stemming.
const COMMON: &str = "a about above after again all also am an and any are as at be because been before being below \
    between both but by can could did do does doing down during each few for from further get gets give given gives \
    had has have having he her here hers him his how i if in into is it its just me more most my no nor not of off on \
    once only or other our out over own per same she should so some such than that the their them then there these \
    they this those through to too under until up us very was we were what when where which while who whom why will \
    with would you your \
    access agent agents answer answers api apis based capability capabilities data dataset datasets fetch find finds \
    free information list lists lookup offer offers provide provided provider provides query request requests result \
    results return returns search serve serves service services show structured support supports table tables tool \
    tools use used user users using value values via want wants";

/// The words of a text in order of appearance, with repetitions: compatibility form (NFKC), lower case, split at
/// everything that is neither letter nor digit, common words and bare numbers left out, English endings
/// stripped ([`stem`]). A currency pair such as `EUR/USD` also gives `eurusd`.
pub fn words(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for chunk in text.split_whitespace() {
        let chunk: String = chunk.nfkc().collect();
        let bare = chunk.trim_matches(|c: char| !c.is_alphanumeric());
        let pieces = bare.split(|c: char| !c.is_alphanumeric()).filter(|piece| !piece.is_empty());
        if let Some(pair) = as_pair(bare) {
            found.push(pair);
        }
        found.extend(
            pieces.map(str::to_lowercase).filter(|word| is_telling(word)).map(|word| stem(&word)),
        );
    }
    found
}

/// A word in lower case without its English ending (Snowball "Porter2"); other languages' words mostly stay.
pub fn stem(word: &str) -> String {
    Stemmer::create(Algorithm::English).stem(word).into_owned()
}

/// `eurusd` for `EUR/USD`, `EUR-USD` and the like, with a separator: without one it is an ordinary word anyway.
fn as_pair(chunk: &str) -> Option<String> {
    let upper =
        chunk.len() == 7 && chunk.bytes().all(|b| b.is_ascii_uppercase() || b"/-_".contains(&b));
    let word = upper.then(|| profile::Normaliser::Pair.word(chunk))?;
    let (base, quote) = word.split_once('/')?;
    Some(stem(&format!("{base}{quote}").to_lowercase()))
}

fn is_telling(word: &str) -> bool {
    TERM_LENGTH.contains(&word.chars().count())
        && !word.chars().all(char::is_numeric)
        && !is_common(word)
}

fn is_common(word: &str) -> bool {
    static WORDS: OnceLock<BTreeSet<&'static str>> = OnceLock::new();
    WORDS.get_or_init(|| COMMON.split_ascii_whitespace().collect()).contains(word)
}

/// Different words of a capability: of tags, title, name, examples and text, in this order, at most [`MAX_FILTER_WORDS`]. A
/// digest's filter holds them.
pub fn vocabulary(capability: &Capability) -> Vec<String> {
    let name = capability.name.replace(['-', '_', '.'], " ");
    let texts = capability
        .tags
        .iter()
        .map(String::as_str)
        .chain([capability.title.as_str(), name.as_str()])
        .chain(capability.examples.iter().map(String::as_str))
        .chain([capability.text.as_str()]);
    let mut seen = BTreeSet::new();
    texts.flat_map(words).filter(|term| seen.insert(term.clone())).take(MAX_FILTER_WORDS).collect()
}

/// The terms of a capability, at most [`MAX_TERMS`]: the rarest words of its [`vocabulary`] ([`rarity`]), in the order of that. The
/// group of a common word is large, costs the asker much and says little.
pub fn terms(capability: &Capability) -> Vec<String> {
    rarest(vocabulary(capability), MAX_TERMS)
}

/// The rarest of some words, of equals the first, in their order.
pub(super) fn rarest(mut words: Vec<String>, most: usize) -> Vec<String> {
    if words.len() > most {
        let mut order: Vec<usize> = (0..words.len()).collect();
        order.sort_by_key(|at| (Reverse(rarity(&words[*at])), *at));
        order.truncate(most);
        order.sort_unstable();
        words = order.into_iter().map(|at| std::mem::take(&mut words[at])).collect();
    }
    words
}
