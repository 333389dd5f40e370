//! A shard's answer is the one that the plain rules give: evaluate each digest by itself, score it, sort.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use comity_capability::attribute::{Decimal, Money, Value};
use comity_capability::keys;
use comity_capability::matching::{Evaluation, POINTS_MAX, ShardLimits, evaluate, evaluate_shard};
use comity_capability::query::Query;
use comity_capability::rank::{CLASS_BREADTH, CLASSES_FREE, TERM_SATURATION, Weights};
use comity_capability::record::{Declared, Digest};
use comity_core::canonical::Canonical;
use comity_core::{AgentId, Hash};
use proptest::prelude::*;
use serde_json::json;

use crate::matching_fixture::{agent, capability, digest, fx, parse};
use crate::plausible::Draw;

/// What the rules say, without any preparation.
struct Plain {
    found: Vec<(usize, bool, u32)>,
    missed: Vec<usize>,
    matching: usize,
}

fn plain(query: &Query, digests: &[(AgentId, &Digest)], limits: ShardLimits) -> Plain {
    let evaluations: Vec<Evaluation> =
        digests.iter().map(|(_, digest)| evaluate(query, digest)).collect();
    let failed = |at: usize| evaluations[at].failed().count();
    let (passing, refused): (Vec<usize>, Vec<usize>) =
        (0..digests.len()).partition(|at| failed(*at) == 0);
    let seed = Hash::derive("comity/shard/lot/v1", &[&query.encode()]);
    let half = |at: usize| u64::from_le_bytes(seed.0[at..at + 8].try_into().unwrap());
    #[allow(deprecated, reason = "an implementation that is not ours")]
    let lot = |at: usize| {
        let mut hasher = std::hash::SipHasher::new_with_keys(half(0), half(8));
        std::hash::Hasher::write(&mut hasher, digests[at].0.as_bytes());
        std::hash::Hasher::finish(&hasher)
    };
    let scores = scores(query, digests, &evaluations, &passing);
    let claims = |at: usize| {
        let Digest { classes, attributes, .. } = digests[at].1;
        let words = |value: &Value| if let Value::Set(words) = value { words.len() } else { 0 };
        classes.len() + attributes.iter().map(|(_, value)| words(value)).sum::<usize>()
    };
    let mut found: Vec<_> = passing
        .iter()
        .map(|at| {
            let order =
                (evaluations[*at].is_open(), Reverse(scores[at]), claims(*at), lot(*at), *at);
            (order, *at)
        })
        .collect();
    found.sort();
    let mut missed: Vec<_> = refused
        .iter()
        .map(|at| ((failed(*at), Reverse(evaluations[*at].preferences().0), lot(*at), *at), *at))
        .collect();
    missed.sort();
    Plain {
        found: found
            .iter()
            .take(limits.results)
            .map(|((open, Reverse(score), ..), at)| (*at, *open, *score))
            .collect(),
        missed: missed.iter().take(limits.near_misses).map(|(_, at)| *at).collect(),
        matching: passing.len(),
    }
}

fn scores(
    query: &Query,
    digests: &[(AgentId, &Digest)],
    evaluations: &[Evaluation],
    passing: &[usize],
) -> BTreeMap<usize, u32> {
    let thousandths = |share: f64| {
        (0..=u64::from(u16::MAX)).find(|n| *n as f64 >= share * 1_000.0 - 0.5).unwrap()
    };
    let weights = Weights::of(query.rank());
    let words: BTreeSet<String> =
        keys::words(query.text().unwrap_or_default()).into_iter().collect();
    let holds = |at: usize, word: &str| digests[at].1.terms.may_contain(word);
    let rarity: Vec<(&String, u64)> = words.iter().map(|word| (word, keys::rarity(word))).collect();
    let all = rarity.iter().map(|(_, rarity)| rarity).sum::<u64>().max(1);
    let median = median(passing.iter().filter_map(|at| price(digests[*at].1)).collect());
    passing
        .iter()
        .map(|at| {
            let digest = digests[*at].1;
            let heads: Vec<String> =
                keys::words(&digest.title).into_iter().chain(keys::words(&digest.name)).collect();
            let text: u64 = rarity
                .iter()
                .map(|(word, rarity)| {
                    let tf = match heads.iter().filter(|head| head == word).count() {
                        0 => u64::from(holds(*at, word)),
                        1 => 2,
                        _ => 4,
                    };
                    rarity * (1_000_000 * tf / (1_000 * tf + thousandths(TERM_SATURATION)))
                })
                .sum();
            let broad = digest.classes.len().saturating_sub(CLASSES_FREE) as u64;
            let text = text * 1_000 / all / (1_000 + thousandths(CLASS_BREADTH) * broad);
            let (met, preferences) = evaluations[*at].preferences();
            let soft = 1_000 * met as u64 / preferences.max(1) as u64;
            let price = match (price(digest), median) {
                (Some(price), _) if price.amount == Decimal::ZERO => 0,
                (Some(price), Some(median)) if price.currency == median.currency => {
                    let billionths = |amount: Decimal| amount.times_whole(1_000_000_000).unwrap();
                    let (price, median) = (billionths(price.amount), billionths(median.amount));
                    u64::try_from(price * 1_000 / (price + median)).unwrap()
                }
                _ => 500,
            };
            let score = thousandths(weights.text) * text
                + thousandths(weights.soft) * soft
                + thousandths(weights.price) * (1_000 - price);
            (*at, u32::try_from(score).unwrap())
        })
        .collect()
}

fn price(digest: &Digest) -> Option<Money> {
    match digest.declared("offer:price") {
        Declared::Value(Value::Money(money)) if money.amount >= Decimal::ZERO => Some(*money),
        Declared::Value(_) | Declared::Omitted | Declared::Undeclared => None,
    }
}

fn median(mut prices: Vec<Money>) -> Option<Money> {
    let count =
        |money: &Money| prices.iter().filter(|other| other.currency == money.currency).count();
    let most = prices
        .iter()
        .max_by_key(|money| (count(money), Reverse(money.currency.as_str().to_owned())))?
        .currency;
    prices.retain(|money| money.currency == most);
    prices.sort_by_key(|money| money.amount);
    prices.get(prices.len() / 2).copied()
}

fn compare(query: &Query, shard: &[(AgentId, &Digest)], limits: ShardLimits) {
    let answer = evaluate_shard(query, shard.iter().copied(), limits);
    let expected = plain(query, shard, limits);
    let found: Vec<_> =
        answer.found.iter().map(|found| (found.index, found.open, found.score)).collect();
    assert_eq!(found, expected.found, "{query}");
    assert!(answer.found.iter().all(|found| found.score <= POINTS_MAX));
    let missed: Vec<usize> = answer.near_misses.iter().map(|miss| miss.index).collect();
    assert_eq!(missed, expected.missed, "{query}");
    assert_eq!(answer.matching, expected.matching, "{query}");
    for miss in &answer.near_misses {
        assert!(evaluate(query, shard[miss.index].1).failed().eq(&miss.failed));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn a_shard_answers_by_the_plain_rules(seed in any::<u64>()) {
        let mut draw = Draw(seed);
        let models: Vec<_> = (0..1 + draw.below(12)).map(|_| draw.capability()).collect();
        // Twins and triplets, so that ties are drawn.
        let digests: Vec<Digest> = (0..1 + draw.below(60))
            .map(|_| { let at = draw.below(models.len()); draw.digest(&models[at]) })
            .collect();
        let shard: Vec<(AgentId, &Digest)> = (0..).zip(&digests).map(|(n, digest)| (agent(n + 1), digest)).collect();
        for _ in 0..8 {
            let at = draw.below(models.len());
            let Some(query) = draw.query(&models[at]) else { continue };
            let limits = ShardLimits { results: draw.below(12), near_misses: draw.below(6), ..ShardLimits::DEFAULT };
            compare(&query, &shard, limits);
        }
    }
}

#[test]
fn a_shard_prefers_what_the_asker_prefers() {
    let mut cheap = fx("cheap", json!(["EUR/USD"]), "2015/2026", "P1D");
    cheap.declare("price", &json!("0.001 USD")).unwrap();
    let mut dear = fx("dear", json!(["EUR/USD"]), "2015/2026", "P1D");
    dear.declare("price", &json!("0.5 USD")).unwrap();
    let minute = fx("minute", json!(["EUR/USD"]), "2015/2026", "PT1M");
    let weather = capability("weather", "Weather by the hour", &["geography"], &[]);
    let digests = [dear, cheap, minute, weather].each_ref().map(digest);
    let shard: Vec<(AgentId, &Digest)> =
        (0..).zip(&digests).map(|(n, digest)| (agent(n + 1), digest)).collect();
    let order = |question: &str| -> Vec<usize> {
        let answer =
            evaluate_shard(&parse(question), shard.iter().copied(), ShardLimits::default());
        answer.found.iter().map(|found| found.index).collect()
    };
    assert_eq!(order("find where pair = EUR/USD prefer resolution <= 1h"), [2, 1, 0]);
    assert_eq!(order("find where pair = EUR/USD rank cheapest")[0], 1);
    assert_eq!(order("find \"hourly weather\"")[0], 3);
}
