//! Counts in how many texts each word occurs, for `data/words-1.tsv`.
//!
//! `cargo run --release -p comity-capability --example word_list -- texts.tsv > crates/capability/data/words-1.tsv`
//!
//! Each line of the input is a text after its last tab; lines of fewer than 40 characters are left out. A line of the output is a word
//! as [`comity_capability::keys::words`] cuts it and the number of texts that hold it, of 100,000; words in fewer than ten are left out.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::disallowed_methods, reason = "a tool")]

use std::collections::{BTreeMap, BTreeSet};

use comity_capability::keys;

/// Texts that counts are brought to.
const PER: usize = 100_000;
/// Words in fewer of them are left out.
const LEAST: usize = 10;

fn main() {
    let path = std::env::args().nth(1).unwrap();
    let texts = std::fs::read_to_string(path).unwrap();
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut seen = 0;
    for text in texts.lines().filter_map(|line| line.rsplit('\t').next()).filter(|t| t.len() > 40) {
        seen += 1;
        for word in keys::words(text).into_iter().collect::<BTreeSet<_>>() {
            *counts.entry(word).or_insert(0) += 1;
        }
    }
    for (word, count) in counts {
        let share = count * PER / seen;
        if share >= LEAST && word.is_ascii() {
            println!("{word}\t{share}");
        }
    }
}
