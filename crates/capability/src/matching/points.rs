//! The order in which a custodian returns what passes: as near to the asker's own ([`crate::rank`]) as a digest allows, in whole
//! numbers, so that custodians on different machines agree.

use std::collections::BTreeMap;

use crate::attribute::{Currency, Decimal, Money, Value};
use crate::keys::rarity;
use crate::query::Query;
use crate::rank::{CLASS_BREADTH, CLASSES_FREE, TERM_SATURATION, Weights, terms_of};
use crate::record::{Bloom, Declared, Digest, Sought, head_of};

/// The highest score.
pub const POINTS_MAX: u32 = 1_000_000;
/// Words of a question that count; further ones in alphabetical order do not.
const WORDS_MAX: usize = 64;
/// The attribute that says what a call costs.
const PRICE: &str = "offer:price";
/// The unit of shares and weights here.
const UNIT: u64 = 1_000;

/// What the digests that pass are worth, each by itself and then against each other.
pub(super) struct Points {
    words: Vec<Word>,
    /// Bits of the words' heads, to pass over other heads quickly.
    heads: u64,
    preferences: u64,
    weights: [u64; 3],
    price: Sought<'static>,
    members: Vec<Member>,
}

struct Word {
    filter: Bloom,
    head: u32,
    rarity: u64,
}

struct Member {
    /// Bit per word that it holds.
    held: u64,
    /// Bit per word that its title or name holds, and per word that both hold.
    headed: [u64; 2],
    preferred: u64,
    classes: u64,
    price: Option<Money>,
}

impl Points {
    pub(super) fn new(query: &Query, preferences: usize) -> Self {
        let weights = Weights::of(query.rank());
        let words: Vec<Word> = terms_of(query.text().unwrap_or_default())
            .into_iter()
            .take(WORDS_MAX)
            .map(|word| Word {
                filter: Bloom::of(&word),
                head: head_of(&word),
                rarity: rarity(&word),
            })
            .collect();
        Self {
            heads: words
                .iter()
                .map(|word| 1 << (word.head % 64))
                .fold(0, |all, bit: u64| all | bit),
            words,
            preferences: preferences as u64,
            weights: [weights.text, weights.soft, weights.price].map(thousandths),
            price: Sought::new(PRICE),
            members: Vec::new(),
        }
    }

    /// How many words of the question count.
    pub(super) fn words(&self) -> usize {
        self.words.len()
    }

    /// Takes in a digest that passes and meets this many preferences.
    pub(super) fn take(&mut self, digest: &Digest, preferred: usize) {
        let mut member = Member {
            held: 0,
            headed: [0; 2],
            preferred: preferred as u64,
            classes: digest.classes.len() as u64,
            price: price(digest, self.price),
        };
        for (at, word) in self.words.iter().enumerate() {
            member.held |= u64::from(digest.terms.includes(&word.filter)) << at;
        }
        for head in digest.heads().iter().filter(|head| self.heads >> (**head % 64) & 1 == 1) {
            for (at, _) in self.words.iter().enumerate().filter(|(_, word)| word.head == *head) {
                let [once, twice] = &mut member.headed;
                *twice |= *once & 1 << at;
                *once |= 1 << at;
            }
        }
        self.members.push(member);
    }

    /// The scores, in the order taken in.
    pub(super) fn scores(self) -> impl Iterator<Item = u32> {
        let words = self.words;
        let all: u64 = words.iter().map(|word| word.rarity).sum::<u64>().max(1);
        let median = median(&self.members);
        let [text_weight, soft_weight, price_weight] = self.weights;
        let preferences = self.preferences.max(1);
        let saturated = [0, 1, 2, 4].map(saturation);
        self.members.into_iter().map(move |member| {
            let mut text = 0;
            for (at, word) in words.iter().enumerate() {
                text += word.rarity * saturated[member.found(at)];
            }
            let text = text * UNIT / all / breadth(member.classes);
            let soft = UNIT * member.preferred / preferences;
            let saved = UNIT - relative_price(member.price, median);
            let score = text_weight * text + soft_weight * soft + price_weight * saved;
            u32::try_from(score).unwrap_or(POINTS_MAX).min(POINTS_MAX)
        })
    }
}

impl Member {
    /// Where it has a word: 0 nowhere, 1 somewhere, 2 in title or name, 3 in both.
    fn found(&self, word: usize) -> usize {
        let has = |bits: u64| bits >> word & 1 == 1;
        match self.headed {
            [_, twice] if has(twice) => 3,
            [once, _] if has(once) => 2,
            _ => usize::from(has(self.held)),
        }
    }
}

/// What a word adds that counts `tf` times, in thousandths: tf / (tf + [`TERM_SATURATION`]), with tf 1 for a word somewhere, 2 for one in
/// title or name, 4 for one in both.
fn saturation(tf: u64) -> u64 {
    UNIT * UNIT * tf / (UNIT * tf + thousandths(TERM_SATURATION))
}

/// Two classes are free, each further one makes the words worth a tenth less, as in [`crate::rank`].
fn breadth(classes: u64) -> u64 {
    UNIT + thousandths(CLASS_BREADTH) * classes.saturating_sub(CLASSES_FREE as u64)
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "shares of one")]
fn thousandths(share: f64) -> u64 {
    (share * 1_000.0).round() as u64
}

fn price(digest: &Digest, sought: Sought<'_>) -> Option<Money> {
    match digest.seek(sought, PRICE) {
        (_, Declared::Value(Value::Money(money))) if money.amount >= Decimal::ZERO => Some(*money),
        (_, Declared::Value(_) | Declared::Omitted | Declared::Undeclared) => None,
    }
}

/// The median price in the currency that most members use, in billionths.
fn median(members: &[Member]) -> Option<(Currency, u128)> {
    let mut by_currency: BTreeMap<&str, Vec<Money>> = BTreeMap::new();
    for money in members.iter().filter_map(|member| member.price.as_ref()) {
        by_currency.entry(money.currency.as_str()).or_default().push(*money);
    }
    let mut most = by_currency.into_values().rev().max_by_key(Vec::len)?;
    let middle = most.len() / 2;
    let (_, median, _) = most.select_nth_unstable_by_key(middle, |money| money.amount);
    Some((median.currency, billionths(&median.amount)))
}

/// `price / (price + median)` in thousandths; an amount of another currency counts half.
fn relative_price(price: Option<Money>, median: Option<(Currency, u128)>) -> u64 {
    match (price, median) {
        (Some(price), _) if price.amount == Decimal::ZERO => 0,
        (Some(price), Some((currency, median))) if price.currency == currency => {
            share_of(billionths(&price.amount), median)
        }
        _ => UNIT / 2,
    }
}

/// `part / (part + rest)` in thousandths.
fn share_of(part: u128, rest: u128) -> u64 {
    // Numbers of 128 bits take ten times as long to divide, and prices are small.
    if let (Ok(part), Ok(rest)) = (u64::try_from(part), u64::try_from(rest))
        && let (Some(scaled), Some(whole)) = (part.checked_mul(UNIT), part.checked_add(rest))
    {
        return scaled / whole.max(1);
    }
    let share = part * u128::from(UNIT) / (part + rest).max(1);
    u64::try_from(share).unwrap_or(UNIT)
}

fn billionths(amount: &Decimal) -> u128 {
    u128::try_from(amount.scaled(9)).unwrap_or(0)
}
