//! How rare a word is in what people write of services, from a list that ships with the crate: publisher, asker and custodian
//! agree on it without any of them knowing the corpus.

use std::collections::BTreeMap;
use std::sync::OnceLock;

/// Words by the number of texts that hold them, of [`TEXTS`].
const LIST: &str = include_str!("../../data/words-1.tsv");
const TEXTS: u64 = 100_000;
/// What a word that is not in the list is taken to be in.
const UNLISTED: u64 = 5;

/// How rare a word ([`super::words`]) is, in 1,024ths of a bit: log2 of all texts by those that hold it. Words that the list lacks
/// are all alike, and rarer than any that it has.
pub fn rarity(word: &str) -> u64 {
    static WORDS: OnceLock<BTreeMap<&'static str, u64>> = OnceLock::new();
    let read = |line: &'static str| {
        let (word, count) = line.split_once('\t')?;
        Some((word, count.parse().ok()?))
    };
    let words = WORDS.get_or_init(|| LIST.lines().filter_map(read).collect());
    let holding = words.get(word).copied().unwrap_or(UNLISTED);
    log2(2 * TEXTS + 2).saturating_sub(log2(2 * holding + 1))
}

/// The binary logarithm of a number from 1 up to 2^31, in 1,024ths, rounded down.
fn log2(number: u64) -> u64 {
    const ONE: u64 = 1 << 32;
    let number = number.clamp(1, ONE >> 1);
    let whole = u64::from(number.ilog2());
    let (mut rest, mut fraction) = ((number << 32) >> whole, 0);
    for _ in 0..10 {
        // Below 2 before, below 4 when squared.
        let squared = (u128::from(rest) * u128::from(rest)) >> 32;
        rest = u64::try_from(squared).unwrap_or(u64::MAX);
        fraction <<= 1;
        if rest >= 2 * ONE {
            rest >>= 1;
            fraction |= 1;
        }
    }
    whole << 10 | fraction
}

#[cfg(test)]
mod tests {
    use super::{log2, rarity};

    #[test]
    fn logarithms_are_right_to_a_thousandth() {
        for number in [1, 2, 3, 7, 100, 1_023, 200_002, 1 << 31] {
            let exact = (number as f64).log2() * 1_024.0;
            assert!((log2(number) as f64 - exact).abs() <= 1.5, "{number}");
        }
    }

    #[test]
    fn the_list_is_in_order_and_in_the_spelling_of_terms() {
        let words: Vec<&str> =
            super::LIST.lines().map(|line| line.split('\t').next().unwrap()).collect();
        assert!(words.len() > 1_000 && words.is_sorted());
        assert!(words.iter().all(|word| word.is_ascii() && word.to_lowercase() == **word));
        assert!(rarity("librari") < rarity("weather") && rarity("weather") < rarity("zxqj"));
    }
}
