//! The query language: text form, JSON form, wire form, bounds and errors.

use comity_capability::attribute::Value;
use comity_capability::query::{
    CONDITIONS_MAX, Condition, Draft, K_MAX, Query, QueryError, RankProfile, TEXT_BYTES_MAX, Test,
    VALUES_MAX, WIRE_BYTES_MAX,
};
use comity_core::Canonical;
use proptest::prelude::*;
use serde_json::{Value as Json, json};

use crate::matching_fixture::parse;

const PAGE: &str = r#"find "structured historical FX data" under finance where pair = EUR/USD and time covers 2021..2024
    and resolution <= 1d prefer price < 0.001 USD, availability >= 99% top 5 probe 3"#;

#[test]
fn the_text_form_of_the_design_page() {
    let query = parse(PAGE);
    assert_eq!(query.text(), Some("structured historical FX data"));
    assert_eq!((query.k(), query.probe()), (5, 3));
    let keys: Vec<(&str, bool)> =
        query.conditions().iter().map(|c| (c.key(), c.is_soft())).collect();
    assert_eq!(
        keys,
        [
            ("class", false),
            ("dcat:temporalResolution", false),
            ("fin:pair", false),
            ("schema:temporalCoverage", false),
            ("offer:price", true),
            ("qos:avail_30d", true),
        ]
    );
    assert!(matches!(query.conditions()[1].test(), Test::FinerOrEqual(Value::Duration(_))));
    assert!(matches!(query.conditions()[4].test(), Test::Lt(Value::Money(_))));
    assert_eq!(
        query.to_string(),
        "find \"structured historical FX data\" under oasf1.1:domain/2 where resolution <= P1D and pair = EUR/USD \
         and time covers 2021-01-01..2024-12-31 prefer price < 0.001 USD, availability >= 0.99 top 5 probe 3"
    );
}

#[test]
fn the_json_form_of_the_design_page() {
    let query = Query::from_json(&json!({"query":{"text":"structured historical FX data",
        "filter":{"class":{"under":["oasf1.1:domain/2"]},
            "data.fin:pair":{"all":["EUR/USD"]},
            "data.schema:temporalCoverage":{"covers":"2021-01-01/2024-12-31"},
            "data.dcat:temporalResolution":{"finer_or_equal":"PT1M"},
            "offer.price":{"lte":"0.001","currency":"USD","soft":true},
            "qos.avail_30d":{"gte":0.99,"soft":true}},
        "exclude":{"tags":{"any":["synthetic"]}}},
        "rank":"balanced","k":5,"probe":3,"budget":{"ms":2500,"kb":400},"evidence":true}))
    .unwrap();
    let text = parse(
        "structured historical FX data under finance where pair all (EUR/USD) and time covers 2021..2024 and resolution <= 1m \
         prefer price <= 0.001 USD, availability >= 99% exclude tags any (synthetic) top 5 probe 3 budget 2500ms 400kb with evidence",
    );
    assert_eq!(query, text);
}

#[test]
fn both_spellings_mean_the_same() {
    for (text, json) in [
        ("weather in europe", json!({"query": {"text": "weather in europe"}})),
        ("weather", json!({"query": "weather"})),
        ("weather", json!({"text": "weather"})),
        ("where pair = EUR/USD", json!({"filter": {"pair": "EURUSD"}})),
        (
            "where pair any (EUR/USD, EUR/GBP)",
            json!({"query": {"filter": {"pair": ["EUR/USD", "EUR/GBP"]}}}),
        ),
        ("where pair = (EUR/USD, EUR/GBP)", json!({"filter": {"pair": ["EUR/USD", "EUR/GBP"]}})),
        ("where rows >= 10 and rows < 100", json!({"filter": {"rows": {"gte": 10, "lt": 100}}})),
        (
            "where rows >= 10 prefer rows > 100",
            json!({"filter": {"rows": [{"gte": 10}, {"gt": 100, "soft": true}]}}),
        ),
        ("where license exists", json!({"filter": {"license": {"exists": true}}})),
        (
            "where area near \"52.52,13.405\" 50km",
            json!({"filter": {"area": {"near": {"place": "52.52,13.405", "radius_m": 50000}}}}),
        ),
        (
            "where area near 52.52, 13.405 r 50 km",
            json!({"filter": {"area": {"near": {"place": [13.405, 52.52], "radius_m": 50000}}}}),
        ),
        ("where version semver ^1.2", json!({"filter": {"version": {"semver": "^1.2"}}})),
        (
            "where desk = london and level = 5 and open = true",
            json!({"filter": {"desk": "london", "level": 5, "open": true}}),
        ),
        ("where latency <= 200", json!({"filter": {"latency": {"lte": 200}}})),
        (
            "where latency <= 200 ms",
            json!({"filter": {"qos.p95_ms": {"finer_or_equal": "PT0.2S"}}}),
        ),
        (
            "named fx-history rank cheapest",
            json!({"query": {"name": "fx-history"}, "rank": "cheapest"}),
        ),
        (
            "under finance, agriculture",
            json!({"filter": {"class": {"under": ["agriculture", "finance"]}}}),
        ),
        (
            "where price between 0 USD and 1 USD",
            json!({"filter": {"price": {"between": [0, "1"], "currency": "usd"}}}),
        ),
        (
            "FIND Rates WHERE Pair IN (eurusd) AND Time COVERING 2021 to 2024",
            json!({"text": "Rates", "filter": {"pair": ["EUR/USD"], "time": {"covers": "2021/2024"}}}),
        ),
    ] {
        assert_eq!(
            parse(text),
            Query::from_json(&json).unwrap_or_else(|e| panic!("{json}: {e}")),
            "{text}"
        );
    }
}

#[test]
fn order_and_repetition_mean_nothing() {
    let one = parse(
        "where pair = EUR/USD and rows > 5 and pair = eurusd prefer free = true, price < 1 USD",
    );
    let other = parse("prefer cost < 1 USD, free = yes where rows > 5 and pair = EUR-USD");
    assert_eq!(one, other);
    assert_eq!(Canonical::encode(&one), Canonical::encode(&other));
}

#[test]
fn words_that_also_begin_clauses_stay_words_without_what_the_clause_needs() {
    for text in [
        "top selling books",
        "user interface design",
        "probe the market",
        "rank and file",
        "budget airlines",
        "going with friends",
        "hello, world (again)!",
    ] {
        let query = parse(text);
        assert!(query.conditions().is_empty() && query.k() == 10, "{text}");
    }
    assert_eq!(
        parse("find \"life under the sea, where top 5\"").text(),
        Some("life under the sea, where top 5")
    );
}

#[test]
fn free_text_is_one_clean_line() {
    let query = parse("\"rates\\n\\u{202e}of  \u{200b}the\teuro\"");
    assert_eq!(query.text(), Some("rates of the euro"));
}

#[test]
fn errors_point_at_the_column_and_show_how_it_is_written() {
    let mut wrong = Vec::new();
    for (text, column, expected) in [
        ("fx where pair", 14, "an operator for pair"),
        ("fx where pair = ", 17, "a set of words for pair"),
        ("fx where pair >= EUR/USD", 15, "one of eq, ne, any, all, exists"),
        ("fx where time covers soon", 22, "2021-01-01/2024-12-31"),
        ("fx where rows between 1", 24, "'and' and the upper value"),
        ("fx where rows between 5 and 1", 23, "the lower value comes first"),
        ("fx where price < 0.001", 18, "an amount and a currency"),
        ("fx where resolution <= fast", 24, "ISO 8601 duration"),
        ("fx where license = MIT or license = ISC", 24, "any (a, b)"),
        ("fx where pair = EUR/USD sort price", 25, "a clause"),
        ("fx where pair any (EUR/USD", 27, "the closing bracket"),
        ("fx where desk > 5", 15, "one of eq, ne, any, all, exists"),
        ("pair = EUR/USD", 6, "'where' before a condition"),
        ("fx under", 9, "a class"),
        ("\"fx", 1, "a closing quote"),
        ("fx \"a\\q\"", 6, "one of the escapes"),
        ("fx interface sha256:12", 14, "64 hexadecimal digits"),
        ("fx where version semver x.y.z.w", 25, "a version for version"),
        ("fx where area near 52,13 soon", 30, "a distance"),
    ] {
        let error = Query::parse_text(text).expect_err(text);
        let QueryError::Syntax { column: at, expected: what, example, .. } = &error else {
            panic!("{text}: {error:?}")
        };
        assert!(what.contains(expected), "{text}: {error}");
        if *at != column {
            wrong.push(format!("{column}: {text}: {error}"));
        }
        assert!(
            !example.is_empty()
                && error.to_string().starts_with(&format!("column {at}: expected ")),
            "{error}"
        );
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn examples_in_errors_are_themselves_correct() {
    for text in [
        "fx where time = ",
        "fx where rows = ",
        "fx where pair ~",
        "fx where price = ",
        "fx where resolution ~",
        "fx where version ~",
        "fx where area ~",
        "fx where free ~",
        "fx where updated ~",
        "fx where license ~",
        "fx where desk ~",
    ] {
        let QueryError::Syntax { example, .. } = Query::parse_text(text).expect_err(text) else {
            panic!("{text}")
        };
        Query::parse_text(&format!("where {example}"))
            .unwrap_or_else(|error| panic!("{text} suggests {example}: {error}"));
    }
}

#[test]
fn json_errors_name_the_path() {
    for (json, path) in [
        (json!([]), "the query"),
        (json!({"query": 5}), "query"),
        (json!({"query": {"txt": "x"}}), "query.txt"),
        (json!({"query": {"text": "x"}, "limit": 3}), "limit"),
        (json!({"query": {"text": "x"}, "text": "y"}), "text"),
        (json!({"text": "x", "k": -1}), "k"),
        (json!({"text": "x", "rank": "best"}), "rank"),
        (json!({"filter": {"pair": {"like": "x"}}}), "filter.pair.like"),
        (json!({"filter": {"time": {"covers": "soon"}}}), "filter.time.covers"),
        (json!({"filter": {"pair": {}}}), "filter.pair"),
        (json!({"filter": {"pair": null}}), "filter.pair"),
        (json!({"filter": {"pair": [{"any": ["EUR/USD"]}, "x"]}}), "filter.pair"),
        (json!({"filter": {"rows": {"gte": 5, "soft": "yes"}}}), "filter.rows.soft"),
        (json!({"filter": {"license": {"exists": false}}}), "filter.license.exists"),
        (json!({"filter": {"no spaces": 1}}), "filter.no spaces"),
        (json!({"text": "x", "budget": {"minutes": 1}}), "budget.minutes"),
    ] {
        match Query::from_json(&json) {
            Err(QueryError::Json { path: at, .. }) => assert_eq!(at, path, "{json}"),
            other => panic!("{json}: {other:?}"),
        }
    }
}

#[test]
fn asking_for_nothing_is_refused() {
    for text in [
        "",
        "   ",
        "find",
        "top 5",
        "prefer price < 1 USD",
        "exclude license = MIT",
        "\"\u{200b}\"",
    ] {
        assert_eq!(Query::parse_text(text), Err(QueryError::Empty), "{text}");
    }
    assert_eq!(Query::from_json(&json!({})), Err(QueryError::Empty));
}

#[test]
fn every_bound_is_named_when_it_is_exceeded() {
    let bound_of = |result: Result<Query, QueryError>| match result {
        Err(QueryError::Bound { bound, .. }) => bound,
        other => panic!("{other:?}"),
    };
    let words = |n: usize| (0..n).map(|i| format!("w{i}")).collect::<Vec<_>>();
    let conditions = |n: usize| {
        format!(
            "where {}",
            words(n).iter().map(|w| format!("{w} = 1")).collect::<Vec<_>>().join(" and ")
        )
    };
    let values = |n: usize| format!("where desk any ({})", words(n).join(", "));

    assert!(Query::parse_text(&conditions(CONDITIONS_MAX)).is_ok());
    assert_eq!(bound_of(Query::parse_text(&conditions(CONDITIONS_MAX + 1))), "CONDITIONS_MAX");
    assert!(Query::parse_text(&values(VALUES_MAX)).is_ok());
    assert_eq!(bound_of(Query::parse_text(&values(VALUES_MAX + 1))), "VALUES_MAX");
    assert!(Query::parse_text(&"x".repeat(TEXT_BYTES_MAX)).is_ok());
    assert_eq!(bound_of(Query::parse_text(&"x".repeat(TEXT_BYTES_MAX + 1))), "TEXT_BYTES_MAX");
    assert!(Query::parse_text(&format!("x top {K_MAX}")).is_ok());
    assert_eq!(bound_of(Query::parse_text(&format!("x top {}", K_MAX + 1))), "K_MAX");
    assert_eq!(bound_of(Query::parse_text("x probe 21")), "PROBE_MAX");
    assert_eq!(bound_of(Query::parse_text("x budget 9999999ms")), "BUDGET_MS_MAX");
    assert_eq!(bound_of(Query::parse_text(&"x ".repeat(20_000))), "TEXT_FORM_BYTES_MAX");
    let long = (0..VALUES_MAX).map(|i| format!("{i}{}", "y".repeat(50))).collect::<Vec<_>>();
    let wide = json!({"filter": {"a": long, "b": long}});
    assert_eq!(bound_of(Query::from_json(&wide)), "WIRE_BYTES_MAX");
    assert_eq!(
        bound_of(Query::from_json(&json!({"filter": {"z".repeat(65): 1}}))),
        "KEY_BYTES_MAX"
    );
}

#[test]
fn the_wire_form_accepts_only_what_a_person_could_have_asked() {
    let query = parse(PAGE);
    let bytes = Canonical::encode(&query);
    assert!(bytes.len() < 300, "{} bytes", bytes.len());
    assert_eq!(<Query as Canonical>::decode(&bytes).unwrap(), query);
    // A pair that skipped the normaliser.
    let spelled = Canonical::encode(&parse("where pair = EUR/USD"));
    let at = spelled.windows(7).position(|w| w == b"EUR/USD").unwrap();
    let mut raw = spelled;
    raw[at..at + 7].copy_from_slice(b"eur/usd");
    assert!(<Query as Canonical>::decode(&raw).is_err());
    // An alias in place of the full name.
    let mut alias = Canonical::encode(&parse("where fin:isin = AB"));
    let at = alias.windows(8).position(|w| w == b"fin:isin").unwrap();
    alias[at..at + 8].copy_from_slice(b"currency");
    assert!(<Query as Canonical>::decode(&alias).is_err());
    assert!(<Query as Canonical>::decode(&[&bytes[..], &[0]].concat()).is_err());
    assert!(<Query as Canonical>::decode(&vec![0xa0; WIRE_BYTES_MAX + 1]).is_err());
    assert!(<Query as Canonical>::decode(&[0xa0]).is_err(), "an empty query");
}

#[test]
fn plan_inputs_are_the_hard_parts() {
    let query = parse(
        "euro rates named fx-history under finance where pair any (EUR/USD, EUR/GBP) and class = \"fx rates\" and tags = fx \
         prefer country = DE exclude symbol = X",
    );
    let inputs = query.plan_inputs();
    assert_eq!(inputs.text.as_deref(), Some("euro rates"));
    assert_eq!(inputs.name.as_deref(), Some("fx-history"));
    assert_eq!(
        inputs.classes.iter().map(|c| (c.any.len(), c.subtree)).collect::<Vec<_>>(),
        [(1, false), (1, true)]
    );
    assert_eq!(inputs.entities.len(), 1);
    assert_eq!(
        (inputs.entities[0].key.as_str(), inputs.entities[0].any.as_slice()),
        ("fin:pair", ["EUR/GBP".to_owned(), "EUR/USD".to_owned()].as_slice())
    );
    assert_eq!(inputs.tags, [["fx"]]);
    assert!(query.plan().keys().iter().any(|key| key.label == "entity/fin:pair=EUR/USD"));
}

/// Conditions in JSON whose operator fits the key, values of every kind.
fn condition() -> impl Strategy<Value = Condition> {
    let word = || "[a-zA-Z][a-zA-Z0-9 /.-]{0,10}|\\PC{1,12}".prop_map(Json::from);
    let year = || 1000..3000i32;
    let degrees = || (-90_0000i32..90_0000).prop_map(|n| format!("{:.4}", f64::from(n) / 10_000.0));
    let scalar_ops = || prop::sample::select(vec!["eq", "ne", "lt", "lte", "gt", "gte"]);
    prop_oneof![
        (
            prop::sample::select(vec!["any", "all"]),
            prop::collection::vec("[A-Z]{3}/[A-Z]{3}", 1..5)
        )
            .prop_map(|(op, pairs)| (
                "pair".to_owned(),
                op,
                pairs.into_iter().map(Json::from).collect()
            )),
        (
            prop::sample::select(vec![
                "tags",
                "symbol",
                "fields",
                "license",
                "publisher",
                "city",
                "package",
                "desk",
                "level"
            ]),
            prop::sample::select(vec!["eq", "ne", "any"]),
            word()
        )
            .prop_map(|(key, op, value)| (key.to_owned(), op, vec![value])),
        (
            "[a-z][a-z0-9:._-]{0,20}",
            prop_oneof![
                any::<i64>().prop_map(Json::from),
                any::<bool>().prop_map(Json::from),
                (-1e6..1e6f64).prop_map(Json::from),
                word()
            ]
        )
            .prop_map(|(key, value)| (key, "eq", vec![value])),
        (prop::sample::select(vec!["covers", "overlaps", "within"]), year(), 0..50i32).prop_map(
            |(op, from, years)| (
                "time".to_owned(),
                op,
                vec![json!(format!("{from}/{}", from + years))]
            )
        ),
        (prop::sample::select(vec!["covers", "overlaps", "within"]), year(), any::<bool>())
            .prop_map(|(op, year, open_end)| (
                "time".to_owned(),
                op,
                vec![json!(if open_end {
                    format!("{year}/..")
                } else {
                    format!("../{year}-03-01T10:00:00Z")
                })]
            )),
        (
            prop::sample::select(vec!["resolution", "latency"]),
            scalar_ops(),
            0..100_000u32,
            prop::sample::select(vec!["us", "ms", "s", "m", "h", "d", "w", "mo", "y"])
        )
            .prop_filter("within ten thousand years", |(_, _, n, unit)| *unit != "y" || *n < 10_000)
            .prop_map(|(key, op, n, unit)| (
                key.to_owned(),
                op,
                vec![json!(format!("{n}{unit}"))]
            )),
        (scalar_ops(), -1_000_000i64..1_000_000, 0..6u32, "[A-Z]{3}").prop_map(
            |(op, n, scale, currency)| (
                "price".to_owned(),
                op,
                vec![json!(format!("{n}e-{scale} {currency}"))]
            )
        ),
        (scalar_ops(), any::<i64>()).prop_map(|(op, n)| ("rows".to_owned(), op, vec![json!(n)])),
        (0..100i64, 0..100i64).prop_map(|(low, more)| (
            "rows".to_owned(),
            "between",
            vec![json!(low), json!(low + more)]
        )),
        (scalar_ops(), 0..10_001u32).prop_map(|(op, n)| (
            "availability".to_owned(),
            op,
            vec![json!(format!("{}%", f64::from(n) / 100.0))]
        )),
        (degrees(), degrees(), any::<u32>()).prop_map(|(lat, lon, radius)| (
            "area".to_owned(),
            "near",
            vec![json!(format!("{lat},{lon}")), json!(radius)]
        )),
        (degrees(), degrees()).prop_map(|(lat, lon)| (
            "area".to_owned(),
            "covers",
            vec![json!(format!("{lat},{lon}"))]
        )),
        prop::sample::select(vec!["^1.2", ">=1.3, <2", "~0.4.1", "*", "=1.0.0-rc.1"])
            .prop_map(|req| ("version".to_owned(), "semver", vec![json!(req)])),
        (
            prop::sample::select(vec!["under", "any", "eq", "ne"]),
            prop::sample::select(vec![
                "finance",
                "agriculture",
                "my-label",
                "oasf1.1:skill/8",
                "comity1:domain/999999",
                "x:y/z",
                "Fx Rates"
            ])
        )
            .prop_map(|(op, class)| ("class".to_owned(), op, vec![json!(class)])),
        any::<[u8; 32]>().prop_map(|bytes| (
            "interface".to_owned(),
            "interface",
            vec![json!(format!("sha256:{}", comity_core::text::hex_encode(&bytes)))]
        )),
        prop::sample::select(vec!["pair", "time", "tags", "class", "desk", "interface"])
            .prop_map(|key| (key.to_owned(), "exists", vec![])),
    ]
    .prop_filter_map("the operator and value fit the key", |(key, op, values)| {
        Condition::new(&key, op, &values).ok()
    })
}

fn query() -> impl Strategy<Value = Query> {
    let clauses = (
        prop::option::of("\\PC{0,60}"),
        prop::option::of("[a-z0-9._-]{1,20}"),
        prop::collection::vec((condition(), any::<bool>()), 0..8),
        prop::collection::vec(condition(), 0..3),
    );
    let numbers = (
        prop::sample::select(RankProfile::ALL.to_vec()),
        1..=K_MAX,
        0..=20u32,
        prop::option::of(0..600_000u32),
        prop::option::of(0..1_000_000u32),
        any::<bool>(),
    );
    (clauses, numbers).prop_filter_map(
        "asks for something",
        |((text, name, conditions, exclude), (rank, k, probe, ms, kb, evidence))| {
            let conditions =
                conditions.into_iter().map(|(condition, soft)| condition.soft(soft)).collect();
            let budget = comity_capability::query::Budget { ms, kb };
            Draft { text, name, conditions, exclude, rank, k, probe, budget, evidence }
                .finish()
                .ok()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn text_gives_the_query_back(query in query()) {
        let text = query.to_string();
        let again = Query::parse_text(&text).map_err(|error| TestCaseError::fail(format!("{text}: {error}")))?;
        prop_assert_eq!(again, query, "{}", text);
    }

    #[test]
    fn json_gives_the_query_back(query in query()) {
        let json = query.to_json();
        let again = Query::from_json(&json).map_err(|error| TestCaseError::fail(format!("{json}: {error}")))?;
        prop_assert_eq!(&again, &query);
        let reread: Json = serde_json::from_str(&json.to_string()).unwrap();
        prop_assert_eq!(Query::from_json(&reread).unwrap(), query);
    }

    #[test]
    fn wire_gives_the_query_back(query in query()) {
        let bytes = Canonical::encode(&query);
        prop_assert!(bytes.len() <= WIRE_BYTES_MAX);
        prop_assert_eq!(<Query as Canonical>::decode(&bytes).map_err(|error| TestCaseError::fail(format!("{query}: {error}")))?, query);
    }

    #[test]
    fn any_text_parses_or_is_refused(text in "\\PC{0,200}|[ -~]{0,200}") {
        if let Ok(query) = Query::parse_text(&text) {
            prop_assert_eq!(Query::parse_text(&query.to_string()), Ok(query.clone()), "{}", query);
        }
    }

    #[test]
    fn near_queries_parse_or_are_refused(words in prop::collection::vec(prop::sample::select(FRAGMENTS.to_vec()), 0..16)) {
        let text = words.join(" ");
        if let Ok(query) = Query::parse_text(&text) {
            prop_assert_eq!(Query::parse_text(&query.to_string()), Ok(query.clone()), "{} -> {}", text, query);
            prop_assert_eq!(Query::from_json(&query.to_json()), Ok(query.clone()), "{}", text);
            prop_assert_eq!(<Query as Canonical>::decode(&Canonical::encode(&query)), Ok(query), "{}", text);
        }
    }

    #[test]
    fn any_json_is_read_or_refused(text in "[\\[\\]{}\",:0-9a-z]{0,80}", key in "[a-z:.]{1,12}", op in "[a-z_]{1,8}") {
        if let Ok(json) = serde_json::from_str::<Json>(&text) {
            let _ = Query::from_json(&json);
            let _ = Query::from_json(&json!({"filter": {key: {op: json}}}));
        }
    }

    #[test]
    fn any_bytes_decode_or_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = <Query as Canonical>::decode(&bytes);
    }

    #[test]
    fn damaged_bytes_decode_canonically_or_are_refused(query in query(), at in any::<prop::sample::Index>(), to in any::<u8>()) {
        let mut bytes = Canonical::encode(&query);
        let at = at.index(bytes.len());
        bytes[at] = to;
        if let Ok(other) = <Query as Canonical>::decode(&bytes) {
            prop_assert_eq!(Canonical::encode(&other), bytes);
            prop_assert_eq!(Query::parse_text(&other.to_string()), Ok(other.clone()), "{}", other);
            prop_assert_eq!(Query::from_json(&other.to_json()), Ok(other));
        }
    }
}

/// What queries are made of, to be put together at random.
const FRAGMENTS: &[&str] = &[
    "find",
    "rates",
    "\"quoted text\"",
    "under",
    "finance",
    "where",
    "prefer",
    "exclude",
    "and",
    "or",
    ",",
    "(",
    ")",
    "pair",
    "=",
    "!=",
    "<",
    "<=",
    ">",
    ">=",
    "EUR/USD",
    "time",
    "covers",
    "overlaps",
    "within",
    "2021..2024",
    "2021",
    "to",
    "resolution",
    "1m",
    "1",
    "day",
    "price",
    "0.001",
    "USD",
    "TOP",
    "top",
    "5",
    "probe",
    "3",
    "rank",
    "cheapest",
    "named",
    "fx",
    "interface",
    "availability",
    "99%",
    "any",
    "all",
    "in",
    "between",
    "near",
    "52.5,13.4",
    "50km",
    "area",
    "version",
    "semver",
    "^1.2",
    "exists",
    "tags",
    "class",
    "budget",
    "100ms",
    "9kb",
    "with",
    "evidence",
    "desk",
    "!",
];

#[test]
fn misspelt_names_get_a_hint() {
    let hints =
        parse("under finanse where piar = EUR/USD and license = MIT exclude tags = x").hints();
    assert_eq!(hints.len(), 2, "{hints:?}");
    assert!(
        hints[0].contains("'finanse'") && hints[0].contains("finance_and_business"),
        "{hints:?}"
    );
    assert!(hints[1].contains("'piar'") && hints[1].contains("Did you mean pair"), "{hints:?}");
    assert!(parse(PAGE).hints().is_empty());
}
