//! Evaluation of queries on digests and capabilities.

use comity_capability::matching::{
    Evaluation, Part, RESULTS_PER_AGENT, ShardLimits, Verdict, evaluate, evaluate_capability,
    evaluate_shard,
};
use comity_capability::record::{Capability, Digest};
use comity_core::AgentId;
use serde_json::json;

use crate::matching_fixture::{agent, capability, digest, ecb, fx, fx_question, parse};

fn failed_keys(evaluation: &Evaluation) -> Vec<&str> {
    evaluation.failed().map(|outcome| outcome.key.as_str()).collect()
}

#[test]
fn the_fx_question_finds_the_table_that_covers_it_and_no_other() {
    let day = fx_question("1d");
    let other_years = fx("other-years", json!(["EUR/USD"]), "2022-01-01/2026-10-30", "P1D");
    let ends_early = fx("ends-early", json!(["EUR/USD"]), "2015-01-01/2024-12-30", "P1D");
    let other_pairs =
        fx("other-pairs", json!(["USD/JPY", "GBP/USD"]), "2015-01-02/2026-10-30", "P1D");
    let coarser = fx("coarser", json!(["EUR/USD"]), "2015-01-02/2026-10-30", "P1W");
    let airports = capability("airports", "Airports of the world", &["transportation"], &[]);
    for (candidate, failing) in [
        (&ecb(), vec![]),
        (&other_years, vec!["schema:temporalCoverage"]),
        (&ends_early, vec!["schema:temporalCoverage"]),
        (&other_pairs, vec!["fin:pair"]),
        (&coarser, vec!["dcat:temporalResolution"]),
        (
            &airports,
            vec!["class", "dcat:temporalResolution", "fin:pair", "schema:temporalCoverage"],
        ),
    ] {
        for evaluation in [evaluate(&day, &digest(candidate)), evaluate_capability(&day, candidate)]
        {
            assert_eq!(failed_keys(&evaluation), failing, "{}", candidate.name);
            assert_eq!(evaluation.passes(), failing.is_empty(), "{}", candidate.name);
        }
    }
}

#[test]
fn to_the_minute_nothing_passes_and_the_nearest_miss_names_the_condition() {
    let minute = fx_question("1m");
    let declared = [ecb(), fx("other-pairs", json!(["USD/JPY"]), "2015/2026", "P1D")];
    let digests: Vec<Digest> = declared.iter().map(digest).collect();
    let answer = evaluate_shard(&minute, shard(&digests), ShardLimits::default());
    assert!(answer.found.is_empty());
    assert_eq!(answer.near_misses.len(), 2);
    assert_eq!(answer.near_misses[0].index, 0, "fewest failed conditions first");
    let failed: Vec<String> =
        answer.near_misses[0].failed.iter().map(ToString::to_string).collect();
    assert_eq!(failed, ["resolution <= PT1M: declared P1D"]);
}

#[test]
fn evidence_shows_what_was_wanted_and_what_is_declared() {
    let query = parse(
        "under finance where time covers 2021..2024 prefer availability >= 99% exclude license = MIT",
    );
    let evidence = evaluate_capability(&query, &ecb()).evidence();
    assert!(
        evidence.contains(
            &"met: time covers 2021-01-01..2024-12-31: declared 2015-01-02..2026-10-30".to_owned()
        ),
        "{evidence:#?}"
    );
    assert!(
        evidence.contains(&"undeclared: availability >= 0.99: undeclared".to_owned()),
        "{evidence:#?}"
    );
    assert!(
        evidence.contains(&"undeclared: not license = MIT: undeclared".to_owned()),
        "{evidence:#?}"
    );
}

/// Condition, and what becomes of it on `sample`: m(et), u(nmet), - (undeclared).
const TABLE: &[(&str, char)] = &[
    ("pair = EURUSD", 'm'),
    ("pair = eur-usd", 'm'),
    ("pair = EUR/CHF", 'u'),
    ("pair != EUR/CHF", 'm'),
    ("pair != EUR/USD", 'u'),
    ("pair any (EUR/CHF, EUR/USD)", 'm'),
    ("pair any (EUR/CHF, EUR/SEK)", 'u'),
    ("pair all (EUR/USD, EUR/JPY)", 'm'),
    ("pair all (EUR/USD, EUR/SEK)", 'u'),
    ("pair in (EUR/SEK)", 'u'),
    ("pair exists", 'm'),
    ("time covers 2021..2024", 'm'),
    ("time covers 2021 to 2024", 'm'),
    ("time covers 2014..2024", 'u'),
    ("time covers 2026-10-30", 'm'),
    ("time covers 2026-10-31", 'u'),
    ("time covers ../2024", 'u'),
    ("time overlaps 2014..2015", 'm'),
    ("time overlaps 2010..2014", 'u'),
    ("time within 2015..2026", 'm'),
    ("time within 2016..2026", 'u'),
    ("time within 2015/..", 'm'),
    ("resolution <= 1d", 'm'),
    ("resolution <= 1 day", 'm'),
    ("resolution <= daily", 'm'),
    ("resolution <= PT24H", 'm'),
    ("resolution <= 1w", 'm'),
    ("resolution <= 1m", 'u'),
    ("resolution <= 23h", 'u'),
    ("resolution finer_or_equal P1M", 'm'),
    ("resolution < 1d", 'u'),
    ("resolution > 1h", 'm'),
    ("resolution between 1h and 1w", 'm'),
    ("price < 0.001 USD", 'm'),
    ("price <= USD 0.0004", 'm'),
    ("price < 0.0004 USD", 'u'),
    ("price < 0.001 EUR", 'u'),
    ("price between (0 USD, 1 USD)", 'm'),
    ("availability >= 99%", 'm'),
    ("availability >= 0.997", 'm'),
    ("availability > 99.7%", 'u'),
    ("rows >= 1000", 'm'),
    ("rows = 3000", 'm'),
    ("rows between 1 and 2999", 'u'),
    ("version semver ^1.2", 'm'),
    ("version semver \">=1.3, <2\"", 'm'),
    ("version semver ~1.3", 'u'),
    ("version semver >=2", 'u'),
    ("version > 1.3.9", 'm'),
    ("area covers 50.11,8.68", 'm'),
    ("area covers \"0,0\"", 'u'),
    ("area overlaps \"10,50,40,60\"", 'm'),
    ("area within \"-180,-90,180,90\"", 'm'),
    ("area near \"52,31\" 100km", 'm'),
    ("area near (52, 31) 10 km", 'u'),
    ("updated > 2026-01-01", 'm'),
    ("updated within 2025", 'u'),
    ("free = true", 'm'),
    ("free = no", 'u'),
    ("license = cc0", 'm'),
    ("license any (MIT, Apache-2.0)", 'u'),
    ("language = english", '-'),
    ("language exists", '-'),
    ("class under finance", 'm'),
    ("class under (agriculture, finance)", 'm'),
    ("class under agriculture", 'u'),
    ("class = \"fx rates\"", 'm'),
    ("class != finance", 'm'),
    ("class = finance", 'u'),
    ("tags any (FX, other)", 'm'),
    ("tags = rates", 'm'),
    ("tags = synthetic", 'u'),
    ("tags all (fx, rates)", 'm'),
    ("x-desk = london", 'm'),
    ("x-desk = London", 'u'),
    ("x-desks exists", '-'),
    ("x-level = 5", 'm'),
    ("x-level = 5.0", 'm'),
    ("x-level any (1, 2)", 'u'),
];

fn sample() -> Capability {
    let mut sample = ecb();
    for (key, value) in [
        ("price", json!("0.0004 USD")),
        ("availability", json!("99.7%")),
        ("rows", json!(3000)),
        ("version", json!("1.4.0")),
        ("area", json!("5,45,30,55")),
        ("updated", json!("2026-10-30")),
        ("free", json!(true)),
        ("license", json!("CC0-1.0")),
        ("x-desk", json!("london")),
        ("x-level", json!(5)),
    ] {
        sample.declare(key, &value).unwrap();
    }
    sample
}

#[test]
fn every_operator_on_every_kind() {
    let sample = sample();
    for (condition, expected) in TABLE {
        let query = parse(&format!("where {condition}"));
        let evaluation = evaluate_capability(&query, &sample);
        let got = match evaluation.outcomes[0].verdict {
            Verdict::Met { .. } => 'm',
            Verdict::Unmet { .. } => 'u',
            Verdict::Undeclared => '-',
            Verdict::Unknown => '?',
        };
        assert_eq!(got, *expected, "{condition}: {evaluation:?}");
        assert_eq!(evaluation.passes(), *expected == 'm', "{condition}");
    }
}

#[test]
fn a_digest_never_contradicts_its_record() {
    let mut sample = sample();
    // More selective than all else, so that a digest keeps it and omits others.
    sample.declare("symbol", &json!((100..130).collect::<Vec<u32>>())).unwrap();
    let digest = digest(&sample);
    assert!(digest.omitted.len() > 2, "the sample has to be too rich for a digest");
    let mut unknown = 0;
    for (condition, _) in TABLE {
        let query = parse(&format!("where {condition}"));
        let (on_digest, on_record) =
            (evaluate(&query, &digest), evaluate_capability(&query, &sample));
        let (said, truth) = (&on_digest.outcomes[0].verdict, &on_record.outcomes[0].verdict);
        if *said == Verdict::Unknown {
            unknown += usize::from(digest.omitted.contains(&on_digest.outcomes[0].key));
            assert!(on_digest.is_open() && !on_digest.passes() && !on_digest.refused());
        } else {
            assert_eq!(said.name(), truth.name(), "{condition}");
        }
    }
    assert!(unknown > 0, "no condition fell on an omitted attribute");
    assert!(unknown < TABLE.len() / 2, "{unknown} conditions fell on omitted attributes");
}

#[test]
fn undeclared_fails_a_requirement_and_earns_nothing_as_a_preference() {
    let hard = evaluate_capability(&parse("where language = en"), &ecb());
    assert!(!hard.passes() && hard.refused());
    let soft = evaluate_capability(
        &parse("where pair = EUR/USD prefer language = en, resolution <= 1d"),
        &ecb(),
    );
    assert!(soft.passes());
    assert_eq!(soft.preferences(), (1, 2));
}

#[test]
fn exclusions_refuse_what_meets_them_and_nothing_else() {
    let mut synthetic = ecb();
    synthetic.tags.insert("synthetic".into());
    let query = parse("fx rates exclude tags any (synthetic)");
    assert!(evaluate_capability(&query, &ecb()).passes());
    let refused = evaluate_capability(&query, &synthetic);
    assert_eq!(refused.failed().map(|outcome| outcome.part).collect::<Vec<_>>(), [Part::Excluded]);
    // A digest's filter can only say that a tag is certainly not there.
    assert!(evaluate(&query, &digest(&ecb())).passes());
    assert!(evaluate(&query, &digest(&synthetic)).is_open());
    // What is undeclared excludes nobody.
    assert!(evaluate_capability(&parse("rates exclude license = MIT"), &ecb()).passes());
}

#[test]
fn names_and_interfaces_are_exact() {
    let ecb = ecb();
    assert!(evaluate(&parse("named ecb-rates"), &digest(&ecb)).passes());
    assert!(evaluate(&parse("named ecb-rate"), &digest(&ecb)).refused());
    let interface = ecb.interface.digest();
    assert!(evaluate(&parse(&format!("interface {interface}")), &digest(&ecb)).passes());
    assert!(
        evaluate(&parse(&format!("interface sha256:{}", "0".repeat(64))), &digest(&ecb)).refused()
    );
}

fn shard(digests: &[Digest]) -> impl Iterator<Item = (AgentId, &Digest)> {
    digests
        .iter()
        .enumerate()
        .map(|(index, digest)| (agent(u8::try_from(index % 250).unwrap() + 1), digest))
}

#[test]
fn a_shard_answers_with_the_best_within_its_limits() {
    let mut digests = vec![digest(&ecb())];
    digests.extend(
        (0..30).map(|n| digest(&fx(&format!("plain-{n}"), json!(["EUR/USD"]), "2015/2026", "P1D"))),
    );
    let query = parse("euro reference rates where pair = EUR/USD prefer resolution <= 1h");
    let limits = ShardLimits { results: 5, near_misses: 3, ..ShardLimits::DEFAULT };
    let answer = evaluate_shard(&query, shard(&digests), limits);
    assert_eq!(answer.found.len(), 5);
    assert_eq!(answer.found[0].index, 0, "its words are asked for");
    assert_eq!((answer.matching, answer.evaluated, answer.exhausted), (31, 31, false));
    assert_eq!(evaluate_shard(&query, shard(&digests), limits), answer);
}

#[test]
fn a_shard_stops_when_its_cost_is_spent() {
    let digests: Vec<Digest> = (0..20)
        .map(|n| digest(&fx(&format!("t-{n}"), json!(["EUR/USD"]), "2015/2026", "P1D")))
        .collect();
    let query = parse("where pair = EUR/USD");
    let limits = ShardLimits { cost: 10, ..ShardLimits::DEFAULT };
    let answer = evaluate_shard(&query, shard(&digests), limits);
    assert!(answer.exhausted && answer.cost <= 10 && answer.evaluated < 20, "{answer:?}");
    let nothing = evaluate_shard(&query, shard(&digests), ShardLimits { cost: 0, ..limits });
    assert!(nothing.exhausted && nothing.found.is_empty());
}

#[test]
fn tags_are_found_in_any_mix_of_capitals_and_spaces() {
    for (published, asked) in [
        ("iPhone", "IPHONE"),
        ("GraphQL", "graphql"),
        ("eurUsd", "EURusd"),
        ("open  data", "Open Data"),
        ("\u{39f}\u{394}\u{39f}\u{3a3}", "\u{3bf}\u{3b4}\u{3bf}\u{3c3}"),
        ("Stra\u{df}e", "STRASSE"),
        ("\u{130}stanbul", "\u{130}STANBUL"),
    ] {
        let mut candidate = capability("tagged", "x", &["finance"], &[]);
        candidate.tags = [published.to_owned()].into();
        let query = comity_capability::query::Query::from_json(
            &json!({"query": {"filter": {"tags": [asked]}}}),
        )
        .unwrap();
        let whole = evaluate_capability(&query, &candidate);
        assert!(whole.passes(), "{published} asked as {asked}: {:?}", whole.evidence());
        let short = evaluate(&query, &digest(&candidate));
        assert!(short.is_open(), "{published} asked as {asked}: {:?}", short.evidence());
    }
}

#[test]
fn one_agent_under_many_names_leaves_room_for_others() {
    let query = parse("find where pair = EUR/USD");
    let rates = |n: usize| digest(&fx(&format!("r-{n}"), json!(["EUR/USD"]), "2015/2026", "P1D"));
    let many: Vec<Digest> = (0..40).map(rates).collect();
    let others: Vec<Digest> = (40..43).map(rates).collect();
    let flood = many.iter().map(|digest| (agent(1), digest));
    let all: Vec<_> =
        flood.chain((0..).zip(&others).map(|(n, digest)| (agent(n + 2), digest))).collect();
    let found = |results: usize| -> Vec<usize> {
        let limits = ShardLimits { results, ..ShardLimits::default() };
        let answer = evaluate_shard(&query, all.iter().copied(), limits);
        assert_eq!(answer.matching, all.len());
        answer.found.iter().map(|found| found.index).collect()
    };
    for results in [5, 10] {
        let found = found(results);
        assert_eq!(found.len(), results, "no place stays empty");
        assert!((40..43).all(|other| found.contains(&other)), "{found:?}");
        let own = found.iter().filter(|index| **index < 40).count();
        assert_eq!(own, (results - 3).max(RESULTS_PER_AGENT));
    }
    assert_eq!(found(all.len()).len(), all.len());
}

#[test]
fn who_claims_everything_comes_after_who_claims_what_is_asked_for() {
    let query = parse("find where pair = EUR/USD");
    let years = "2015-01-02/2026-10-30";
    let precise: Vec<_> =
        (0..4).map(|n| fx(&format!("rates-{n}"), json!(["EUR/USD"]), years, "P1D")).collect();
    let pairs: Vec<String> =
        ["USD", "JPY", "GBP", "CHF", "SEK"].map(|to| format!("EUR/{to}")).into();
    let greedy: Vec<_> =
        (0..40).map(|n| fx(&format!("all-{n}"), json!(pairs), years, "P1D")).collect();
    let digests: Vec<Digest> = greedy.iter().chain(&precise).map(digest).collect();
    let limits = ShardLimits { results: precise.len(), ..ShardLimits::default() };
    let answer = evaluate_shard(&query, shard(&digests), limits);
    assert_eq!(answer.matching, digests.len());
    let found: Vec<_> = answer.found.iter().map(|found| found.index).collect();
    assert!(found.iter().all(|index| *index >= greedy.len()), "{found:?}");
}
