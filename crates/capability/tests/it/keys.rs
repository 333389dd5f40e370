//! Group keys: golden labels, limits, and that publisher and asker meet.

use std::collections::BTreeSet;

use comity_capability::keys::{self, GroupKey, KeyFamily, MAX_PLAN_KEYS, MAX_RARE_KEYS, Plan};
use comity_capability::matching::evaluate_capability;
use comity_capability::query::{ClassChoice, EntityChoice, PlanInputs, Query};
use comity_capability::record::{Capability, Digest, Interface};
use comity_core::Hash;
use proptest::prelude::*;
use serde_json::json;

use crate::common::{advisories, airports, ecb, record};

fn labels(capability: &Capability) -> Vec<String> {
    keys::group_keys(capability).into_iter().map(|key| key.label).collect()
}

fn families(plan: &Plan) -> Vec<KeyFamily> {
    plan.steps.iter().map(|step| step.family).collect()
}

fn under(id: &str) -> ClassChoice {
    ClassChoice { any: vec![id.parse().unwrap()], subtree: true }
}

fn pair(word: &str) -> EntityChoice {
    EntityChoice { key: "fin:pair".into(), any: vec![word.into()], selectivity: 9 }
}

#[test]
fn an_interface_that_accepts_anything_has_no_group_and_is_not_asked_for() {
    for (input, output) in
        [(json!({}), json!({})), (json!(true), json!({})), (json!(true), json!(true))]
    {
        let mut capability = Capability::new("anything").unwrap();
        capability.visibility = comity_capability::record::Visibility::Public;
        capability.interface = Interface::new(&input, &output).unwrap();
        assert!(!labels(&capability).iter().any(|label| label.starts_with("interface")));
        let query = Query::parse_text(&format!(
            "find anything interface {}",
            capability.interface.digest()
        ))
        .unwrap();
        assert!(evaluate_capability(&query, &capability).passes());
        assert!(!families(&query.plan()).contains(&KeyFamily::Interface));
    }
    let query = Query::parse_text(&format!("find interface {}", ecb().interface.digest())).unwrap();
    assert_eq!(families(&query.plan()), [KeyFamily::Interface]);
}

#[test]
fn keys_are_blake3_of_labels() {
    let golden = [
        (
            "entity/fin:pair=EUR/USD",
            "970274d98b19b204ce68048e379ee63bc39d07569a0c80416e9fc658d0e4facb",
        ),
        (
            "class/comity1:domain/10002",
            "867906dae67cf0df2e36b7548cef240f10fb10c6648fb7b6b64f952ce73ba8ca",
        ),
    ];
    for (label, key) in golden {
        assert_eq!(GroupKey::of(label).to_string(), key, "{label}");
        assert_eq!(GroupKey::of(label).0, blake3::derive_key("comity/group/v1", label.as_bytes()));
    }
}

#[test]
fn the_ecb_table_has_these_labels() {
    let digest = ecb().interface.digest();
    let labels = labels(&ecb());
    let expected: Vec<String> = [
        format!("interface/{digest}"),
        "name/fx-reference-rates".into(),
        "entity/fin:pair=EUR/AUD".into(),
        "entity/fin:pair=EUR/CAD".into(),
        "entity/fin:pair=EUR/CHF".into(),
        "entity/fin:pair=EUR/CNY".into(),
        "entity/fin:pair=EUR/GBP".into(),
        "entity/fin:pair=EUR/INR".into(),
        "entity/fin:pair=EUR/JPY".into(),
        "entity/fin:pair=EUR/NOK".into(),
        "entity/fin:pair=EUR/SEK".into(),
        "entity/fin:pair=EUR/USD".into(),
        "term/ecb".into(),
        "term/fx".into(),
        "term/euro".into(),
        "term/foreign".into(),
        "term/exchang".into(),
        "term/refer".into(),
        "cell/comity1:domain/10002+oasf1.1:skill/8".into(),
        "class/oasf1.1:skill/80502".into(),
        "class/comity1:domain/10002".into(),
    ]
    .into();
    assert_eq!(labels, expected);
}

#[test]
fn entity_lists_take_turns() {
    let mut capability = airports();
    let codes: Vec<String> = (0..200).map(|n| format!("A{n:03}")).collect();
    capability.declare("icao", &json!(codes)).unwrap();
    let labels = labels(&capability);
    for country in ["DE", "FR", "GB"] {
        assert!(labels.contains(&format!("entity/geo:country={country}")), "{labels:?}");
    }
    assert!(labels.contains(&"term/airport".to_owned()));
}

#[test]
fn plans_ask_the_selective_keys_first() {
    let plan = keys::plan(&PlanInputs {
        classes: vec![under("oasf1.1:domain/2"), under("oasf1.1:skill/8")],
        entities: vec![
            EntityChoice { key: "geo:country".into(), any: vec!["DE".into()], selectivity: 7 },
            pair("EUR/USD"),
        ],
        tags: vec![vec!["fx".into()]],
        text: Some("structured historical FX data for EUR/USD".into()),
        interface: Some([7; 32]),
        name: Some("fx".into()),
    });
    assert_eq!(
        families(&plan),
        [
            KeyFamily::Interface,
            KeyFamily::Name,
            KeyFamily::Entity,
            KeyFamily::Entity,
            KeyFamily::ClassCell,
            KeyFamily::Term,
            KeyFamily::Term,
            KeyFamily::ClassLeaf,
        ]
    );
    assert_eq!(plan.steps[2].keys[0].label, "entity/fin:pair=EUR/USD");
    assert_eq!(
        plan.steps.iter().map(|step| step.complete).collect::<Vec<_>>(),
        [true, true, false, false, true, false, false, false]
    );
    let terms: Vec<&str> = plan.steps[6].keys.iter().map(|key| key.label.as_str()).collect();
    assert_eq!(
        terms,
        ["term/fx", "term/eurusd", "term/eur", "term/usd", "term/histor"],
        "the rarest first"
    );
    let named: Vec<&str> = plan.steps[7].keys.iter().map(|key| key.label.as_str()).collect();
    assert_eq!(named, ["class/comity1:domain/10002"]);
    let all = plan.keys();
    let different: BTreeSet<_> = all.iter().map(|key| key.key).collect();
    assert_eq!(different.len(), all.len());
}

#[test]
fn written_questions_reach_the_example_tables() {
    for (question, capability) in [
        (
            "find \"structured historical FX data\" under finance where pair = eurusd and time covers 2021..2024",
            ecb(),
        ),
        ("find \"airports in Germany\" where country = de", airports()),
        ("find under technology where package = abi_stable and ecosystem = rust", advisories()),
    ] {
        let published: BTreeSet<GroupKey> =
            keys::group_keys(&capability).iter().map(|key| key.key).collect();
        let query =
            Query::parse_text(question).unwrap_or_else(|error| panic!("{question}: {error}"));
        let plan = keys::plan(&query.plan_inputs());
        assert_eq!(plan.steps[0].family, KeyFamily::Entity, "{question}");
        for step in
            plan.steps.iter().filter(|step| step.complete || step.family == KeyFamily::Entity)
        {
            assert!(
                step.keys.iter().any(|key| published.contains(&key.key)),
                "{question}: {step:?}"
            );
        }
    }
}

#[test]
fn subtrees_are_bounded_and_say_so() {
    let plan = keys::plan(&PlanInputs {
        classes: vec![under("oasf1.1:domain/2")],
        ..PlanInputs::default()
    });
    assert!(
        plan.steps[0].complete && plan.steps[0].keys.len() == 18,
        "{}",
        plan.steps[0].keys.len()
    );
    let everything = ClassChoice {
        any: (1..=24).map(|n| format!("oasf1.1:domain/{n}").parse().unwrap()).collect(),
        subtree: true,
    };
    let wide = PlanInputs { classes: vec![everything], ..PlanInputs::default() };
    let plan = keys::plan(&wide);
    assert!(!plan.steps[0].complete && plan.steps[0].keys.len() == MAX_PLAN_KEYS);
    let plan = keys::plan(&PlanInputs {
        tags: vec![vec!["fx".into()]],
        text: Some("ohlc candles".into()),
        ..wide.clone()
    });
    assert_eq!(families(&plan), [KeyFamily::Term, KeyFamily::Term, KeyFamily::ClassLeaf]);
    assert!(plan.steps.iter().all(|step| !step.complete));
    // A narrower condition beside it decides.
    let mut narrowed = wide;
    narrowed.classes.push(under("comity1:domain/10002"));
    let plan = keys::plan(&narrowed);
    assert!(plan.steps[0].complete && plan.steps[0].keys.len() == 1);
    assert_eq!(keys::plan(&PlanInputs::default()), Plan::default());
}

#[test]
fn digests_are_admitted_to_their_groups_only() {
    for capability in [ecb(), airports(), advisories()] {
        let digest =
            Digest::summarise(&record(vec![capability.clone()]), 0, Hash::of(b"x")).unwrap();
        for label in labels(&capability) {
            assert!(keys::admits(&digest, &label), "{label}");
        }
    }
    let digest = Digest::summarise(&record(vec![airports()]), 0, Hash::of(b"x")).unwrap();
    assert!(!digest.truncated() || digest.title.is_empty() || digest.title == airports().title);
    for label in labels(&ecb()).iter().filter(|label| !label.starts_with("interface")) {
        assert!(!keys::admits(&digest, label), "{label}");
    }
    for label in ["", "entity", "entity/", "class/", "cell/x", "unknown/airports", "term/zzz"] {
        assert!(!keys::admits(&digest, label), "{label}");
    }
}

#[test]
fn a_digest_that_lost_classes_is_admitted_under_them_and_a_cut_title_admits_nobody_elsewhere() {
    let label = |n: usize| format!("{n}{}", "x".repeat(63)).parse().unwrap();
    let mut wide = Capability::new(&"n".repeat(64)).unwrap();
    wide.visibility = comity_capability::record::Visibility::Public;
    wide.classes = (0..4).map(label).collect();
    wide.classes[3] = "oasf1.1:skill/80502".parse().unwrap();
    let digest = Digest::summarise(&record(vec![wide.clone()]), 0, Hash::of(b"x")).unwrap();
    assert!((1..4).contains(&digest.classes.len()), "{:?}", digest.classes);
    for label in labels(&wide) {
        assert!(keys::admits(&digest, &label), "{label}");
    }
    // A digest that only gave up the end of its title has all its classes.
    let mut wordy = ecb();
    wordy.classes.truncate(1);
    wordy.title = "Euro foreign exchange reference rates ".repeat(2).trim_end().into();
    let digest = Digest::summarise(&record(vec![wordy]), 0, Hash::of(b"x")).unwrap();
    assert!(digest.truncated() && !digest.classes.is_empty());
    for label in ["class/oasf1.1:domain/2", "cell/comity1:domain/10002+oasf1.1:skill/1"] {
        assert!(!keys::admits(&digest, label), "{label}");
    }
}

#[test]
fn words_are_folded_and_common_ones_left_out() {
    assert_eq!(
        keys::words("The API returns Structured DATA for 2021, exchange-rates!"),
        ["exchang", "rate"]
    );
    assert_eq!(keys::words("EUR/USD eur/usd"), ["eurusd", "eur", "usd", "eur", "usd"]);
    assert_eq!(keys::words("ＥＣＢ Zürich"), ["ecb", "zürich"]);
}

proptest! {
    #[test]
    fn publisher_and_asker_meet_on_every_family(word in "[a-z]{3,10}", other in "[a-z]{3,10}", class in prop::sample::select(vec!["comity1:domain/10002", "oasf1.1:domain/208"])) {
        let mut capability = Capability::new("x").unwrap();
        capability.visibility = comity_capability::record::Visibility::Public;
        capability.title = format!("{word} {other}");
        capability.classes = vec![class.parse().unwrap(), "oasf1.1:skill/80502".parse().unwrap()];
        capability.declare("pair", &json!("eur-usd")).unwrap();
        let published: BTreeSet<GroupKey> = keys::group_keys(&capability).iter().map(|key| key.key).collect();
        let plan = keys::plan(&PlanInputs {
            classes: vec![under("oasf1.1:domain/2"), under("oasf1.1:skill/805")],
            entities: vec![pair("EUR/USD")],
            name: Some("x".into()),
            text: Some(format!("find {} and {}", other.to_uppercase(), word)),
            ..PlanInputs::default()
        });
        let text_has_terms = !keys::words(&format!("{word} {other}")).is_empty();
        for step in &plan.steps {
            let named = step.family == KeyFamily::ClassLeaf; // classes that the words happen to name
            prop_assert!(named || step.keys.iter().any(|key| published.contains(&key.key)), "{:?}", step);
        }
        prop_assert_eq!(plan.steps.iter().any(|step| step.family == KeyFamily::Term), text_has_terms);
    }

    #[test]
    fn rare_keys_are_bounded_and_different(pairs in prop::collection::btree_set("[A-Z]{3}/[A-Z]{3}", 0..40), text in "\\PC{0,200}") {
        let mut capability = Capability::new("x").unwrap();
        capability.visibility = comity_capability::record::Visibility::Public;
        capability.text = comity_capability::record::clean(&text, 512);
        capability.declare("pair", &json!(pairs)).unwrap();
        let keys = keys::group_keys(&capability);
        let rare = keys.iter().filter(|key| matches!(key.family, KeyFamily::Entity | KeyFamily::Term)).count();
        prop_assert!(rare <= MAX_RARE_KEYS);
        let different: BTreeSet<_> = keys.iter().map(|key| key.key).collect();
        prop_assert_eq!(different.len(), keys.len());
    }
}
