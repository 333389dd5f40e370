//! Zone maps: they never deny a member, they do leave out shards, and nothing but a canonical map decodes.

use comity_capability::matching::evaluate;
use comity_capability::query::Query;
use comity_capability::record::{Capability, Digest};
use comity_capability::zone::{ZONE_BYTES_MAX, ZoneMap};
use comity_core::Canonical;
use proptest::prelude::*;
use serde_json::json;

use crate::matching_fixture::{capability, digest, ecb, fx, fx_question, parse};
use crate::plausible::Draw;

fn zone<'a>(digests: impl IntoIterator<Item = &'a Digest>) -> ZoneMap {
    let mut zone = ZoneMap::new();
    for digest in digests {
        zone.add(digest);
    }
    zone
}

fn of(capabilities: &[Capability]) -> ZoneMap {
    zone(&capabilities.iter().map(digest).collect::<Vec<_>>())
}

#[test]
fn a_shard_is_left_out_by_every_part_of_the_question() {
    let table = of(&[ecb(), fx("older", json!(["EUR/SEK"]), "1999-01-01/2014-12-31", "P7D")]);
    assert!(table.may_match(&fx_question("1d")));
    for pruned in [
        r#"find where pair = "USD/JPY""#,
        "find where pair in (USD/JPY, GBP/USD)",
        "find where time covers 1980..1990",
        "find where time covers 2021..2030",
        "find where time overlaps 1990..1998",
        "find where resolution <= 1h",
        "find where country = DE",
        "find where price < 1 USD",
        "find under healthcare",
        "find where x:one = 1",
        "find where tags = weather",
    ] {
        assert!(!table.may_match(&parse(pruned)), "{pruned}");
    }
    for kept in [
        "find where time covers 2000..2003",
        "find where resolution <= 1d",
        "find under finance",
        "find under finance prefer price < 1 USD",
        "find where tags = fx",
        "find \"weather in Oslo\"",
    ] {
        assert!(table.may_match(&parse(kept)), "{kept}");
    }
}

#[test]
fn prices_places_and_numbers_have_bounds() {
    let priced = |name: &str, price: &str, bbox: [f64; 4], rows: u32| {
        let attributes = [("price", json!(price)), ("bbox", json!(bbox)), ("rows", json!(rows))];
        capability(name, "Weather", &["geography"], &attributes)
    };
    let shard = of(&[
        priced("alps", "0.002 EUR", [5.0, 43.0, 17.0, 48.0], 1_000),
        priced("cheap", "0.001 EUR", [6.0, 45.0, 11.0, 47.0], 20_000),
    ]);
    for (question, may) in [
        ("find where price <= 0.001 EUR", true),
        ("find where price < 0.0005 EUR", false),
        ("find where price < 5 USD", false),
        ("find where rows >= 20000", true),
        ("find where rows > 30000", false),
        ("find where rows between 5 and 900", false),
        ("find where bbox covers 46.5,8.0", true),
        ("find where bbox covers 59.9,10.7", false),
        ("find where bbox overlaps 100,10,110,20", false),
    ] {
        assert_eq!(shard.may_match(&parse(question)), may, "{question}");
    }
    // Another currency joins: nothing is said of prices any more.
    let mut mixed = shard;
    mixed.merge(&of(&[priced("dollars", "3 USD", [0.0, 0.0, 1.0, 1.0], 5)]));
    assert!(mixed.may_match(&parse("find where price < 0.0005 EUR")));
}

#[test]
fn shards_that_can_meet_more_preferences_promise_more() {
    let question = parse("find under finance prefer resolution <= 1h, pair = EUR/USD");
    let daily = of(&[ecb()]);
    let hourly = of(&[fx("hourly", json!(["EUR/USD"]), "2020/2021", "PT1H")]);
    assert_eq!(daily.promise(&question), Some(1));
    assert_eq!(hourly.promise(&question), Some(2));
    assert_eq!(of(&[capability("a", "b", &["geography"], &[])]).promise(&question), None);
    assert_eq!(ZoneMap::new().promise(&question), None);
}

#[test]
fn a_full_map_fits_and_leaves_out_most_of_what_is_not_there() {
    // 1,024 members over 160 of 10,000 pairs, as in one leaf of a large class.
    let pair = |n: usize| {
        let letter = |n: usize| char::from(b'A' + u8::try_from(n % 26).unwrap());
        let word =
            |n: usize| [letter(n), letter(n / 26), letter(n / 676)].iter().collect::<String>();
        format!("{}/{}", word(n), word(n + 7_919))
    };
    let members: Vec<Capability> = (0..1_024)
        .map(|n| {
            let time = format!("{}-01-01/{}-12-31", 1990 + n % 15, 2010 + n % 13);
            let mut member = fx(&format!("bars-{n}"), json!([pair(n * 37 % 160)]), &time, "PT1M");
            member.declare("price", &json!(format!("0.{:06} USD", 1 + n))).unwrap();
            member.declare("bbox", &json!([-12.5, -33.1234567, 99.7654321, 60.5])).unwrap();
            member.declare("rows", &json!(i64::MAX)).unwrap();
            member
        })
        .collect();
    let shard = of(&members);
    assert!(shard.encode().len() <= ZONE_BYTES_MAX, "{}", shard.encode().len());
    for present in 0..160 {
        assert!(shard.may_match(&parse(&format!("find where pair = {}", pair(present)))));
    }
    let absent = 160..1_160;
    let kept = absent
        .filter(|n| shard.may_match(&parse(&format!("find where pair = {}", pair(*n)))))
        .count();
    // 161 words of two bits in 2,048 leave 2 % of others.
    assert!(kept < 60, "{kept} of 1,000 absent pairs are not left out");
}

#[test]
fn altered_maps_are_refused() {
    let bytes = of(&[ecb()]).encode();
    for end in 0..bytes.len() {
        assert!(ZoneMap::decode(&bytes[..end]).is_err());
    }
    let longer = [bytes.as_slice(), &[0]].concat();
    assert!(ZoneMap::decode(&longer).is_err());
    assert!(ZoneMap::decode(&vec![0xa0; ZONE_BYTES_MAX + 1]).is_err());
    // The flags are the second member; no program of ours sets the highest bits.
    let mut flagged = bytes;
    assert_eq!(flagged[3..5], [1, 0], "map head, key 0, version, key 1, flags");
    flagged[4] = 0x17;
    assert!(ZoneMap::decode(&flagged).is_err());
}

/// Some digests and some questions about them.
fn case(seed: u64) -> (Vec<Digest>, Vec<Query>) {
    let mut draw = Draw(seed);
    let (mut digests, mut queries) = (Vec::new(), Vec::new());
    for _ in 0..1 + draw.below(5) {
        let capability = draw.capability();
        digests.push(draw.digest(&capability));
        queries.extend((0..6).filter_map(|_| draw.query(&capability)));
    }
    (digests, queries)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn nobody_who_may_pass_is_denied(seed in any::<u64>()) {
        let (digests, queries) = case(seed);
        let whole = zone(&digests);
        let (left, right) = digests.split_at(digests.len() / 2);
        let (mut merged, mut back) = (zone(left), zone(right));
        back.merge(&merged);
        merged.merge(&zone(right));
        let decoded = ZoneMap::decode(&whole.encode()).unwrap();
        prop_assert_eq!(&decoded, &whole);
        prop_assert!(whole.encode().len() <= ZONE_BYTES_MAX);
        for query in &queries {
            let possible = digests.iter().any(|digest| !evaluate(query, digest).refused());
            for (zone, what) in [(&whole, "added"), (&merged, "merged"), (&back, "merged the other way"), (&decoded, "decoded")] {
                prop_assert!(zone.may_match(query) || !possible, "{}: {}", what, query);
            }
        }
    }

    #[test]
    fn bytes_of_strangers_decode_to_what_they_encode(mut bytes in Just(of(&[ecb()]).encode()), at in 0usize..360, to in any::<u8>()) {
        let at = at % bytes.len();
        bytes[at] = to;
        if let Ok(zone) = ZoneMap::decode(&bytes) {
            prop_assert_eq!(zone.encode(), bytes);
            let _ = zone.may_match(&fx_question("1d"));
        }
    }
}

#[test]
fn many_unanswerable_questions_leave_a_small_shard_out() {
    // Drawn at random, with names, interfaces, exclusions and undecidable tags that no map can tell.
    let (mut unanswerable, mut left_out) = (0, 0);
    for seed in 0..400 {
        let (digests, queries) = case(seed);
        let zone = zone(&digests);
        for query in queries {
            if digests.iter().all(|digest| evaluate(&query, digest).refused()) {
                unanswerable += 1;
                left_out += usize::from(!zone.may_match(&query));
            }
        }
    }
    assert!(left_out * 100 > unanswerable * 40, "{left_out} of {unanswerable}");
}
