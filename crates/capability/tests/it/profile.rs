//! Keys and normalisers.

use std::collections::BTreeSet;

use comity_capability::attribute::{Value, ValueKind};
use comity_capability::profile::{self, ProfileError};
use proptest::prelude::*;
use serde_json::json;

#[test]
fn keys_and_aliases_are_unambiguous() {
    let mut names = BTreeSet::new();
    let mut last = 0;
    for spec in profile::keys() {
        assert!(spec.id > last, "{} is out of order", spec.key);
        last = spec.id;
        assert!(spec.selectivity <= 9 && !spec.doc.is_empty());
        assert!(
            !spec.entity || matches!(spec.kind, ValueKind::Set | ValueKind::Enum),
            "{}",
            spec.key
        );
        for name in std::iter::once(&spec.key).chain(spec.aliases) {
            assert!(names.insert(name.to_lowercase()), "{name} names two keys");
            assert_eq!(profile::lookup(name).unwrap().key, spec.key);
        }
        assert_eq!(profile::by_id(spec.id).unwrap().key, spec.key);
    }
}

#[test]
fn aliases_name_their_keys() {
    for (alias, key) in [
        ("pair", "fin:pair"),
        ("Time", "schema:temporalCoverage"),
        ("coverage", "schema:temporalCoverage"),
        ("data.schema:temporalCoverage", "schema:temporalCoverage"),
        ("resolution", "dcat:temporalResolution"),
        ("data.fin:pair", "fin:pair"),
        ("offer.price", "offer:price"),
        ("qos.avail_30d", "qos:avail_30d"),
        ("language", "schema:inLanguage"),
        ("package", "code:package"),
        ("data.my:own", "my:own"),
    ] {
        assert_eq!(profile::canonical_key(alias).unwrap(), key);
    }
    for bad in ["", "two words", "semi;colon", "#40", "é", "x".repeat(65).as_str()] {
        assert!(matches!(profile::canonical_key(bad), Err(ProfileError::BadKey { .. })), "{bad}");
    }
}

fn set(words: &[&str]) -> Value {
    Value::Set(words.iter().map(|word| (*word).to_owned()).collect())
}

#[test]
fn pairs_have_one_spelling() {
    for spelling in ["EURUSD", "eur-usd", "EUR_USD", "eur/usd", "EUR USD", "Eur:Usd", "EUR/USD"] {
        assert_eq!(
            profile::normalise("pair", &json!(spelling)).unwrap(),
            set(&["EUR/USD"]),
            "{spelling}"
        );
    }
    assert_eq!(
        profile::normalise("pair", &json!("EURUSD, usd-jpy")).unwrap(),
        set(&["EUR/USD", "USD/JPY"])
    );
    assert_eq!(profile::normalise("pair", &json!("abc/xyz")).unwrap(), set(&["ABC/XYZ"]));
    assert_eq!(
        profile::normalise("pair", &json!("abcxyz")).unwrap(),
        set(&["ABCXYZ"]),
        "no code known: not split"
    );
    let measured = json!([{"fin:pair": "EUR/USD"}, {"fin:pair": "USD/JPY"}]);
    assert_eq!(profile::normalise("pair", &measured).unwrap(), set(&["EUR/USD", "USD/JPY"]));
}

#[test]
fn other_vocabularies_have_one_spelling() {
    for (key, raw, normal) in [
        ("country", json!("uk"), json!(["GB"])),
        ("ecosystem", json!("Rust"), json!(["cargo"])),
        ("ecosystem", json!(["crates-io", "Go"]), json!(["cargo", "golang"])),
        ("package", json!(["abi_stable", "pkg:cargo/serde@1.0.1"]), json!(["abi-stable", "serde"])),
        ("package", json!("@scope/Name"), json!(["@scope/name"])),
        ("package", json!("pkg:npm/@scope/name@2"), json!(["@scope/name"])),
        ("license", json!("apache-2.0"), json!("Apache-2.0")),
        ("language", json!("English"), json!(["en"])),
        ("organism", json!("Human"), json!(["homo sapiens"])),
        ("availability", json!("99.5%"), json!("0.995")),
        ("latency", json!(180), json!("PT0.18S")),
        ("qos.p95_ms", json!("2s"), json!("PT2S")),
        ("price", json!({"price": "0.0004", "priceCurrency": "USD"}), json!("0.0004 USD")),
        ("time", json!({"from": "2021", "to": "2024"}), json!("2021-01-01/2024-12-31")),
        ("my:own", json!(["b", "a"]), json!(["a", "b"])),
    ] {
        assert_eq!(profile::normalise(key, &raw).unwrap().to_json(), normal, "{key} {raw}");
    }
}

#[test]
fn errors_name_the_key() {
    let error = profile::normalise("resolution", &json!("quickly")).unwrap_err().to_string();
    assert!(
        error.contains("dcat:temporalResolution")
            && error.contains("quickly")
            && error.contains("PT1M"),
        "{error}"
    );
}

proptest! {
    #[test]
    fn normalising_twice_changes_nothing(index in any::<prop::sample::Index>(), raw in "[ -~]{0,20}|\\PC{0,16}|[a-zA-Z]{6}|[a-zA-Z]{3}[-_/ ][a-zA-Z]{3}|pkg:[a-z/@_.]{0,16}") {
        let spec = &profile::keys()[index.index(profile::keys().len())];
        if let Ok(value) = profile::normalise(spec.key, &json!(raw)) {
            prop_assert_eq!(value.kind(), spec.kind);
            prop_assert_eq!(profile::normalise(spec.key, &value.to_json()).unwrap(), value);
        }
    }

    #[test]
    fn publisher_and_asker_meet(base in "[A-Z]{3}", quote in prop::sample::select(vec!["USD", "JPY", "EUR"]), published in 0usize..4, asked in 0usize..4) {
        let spell = |style: usize| match style {
            0 => format!("{base}{quote}"),
            1 => format!("{base}/{quote}"),
            2 => format!("{base}-{quote}").to_lowercase(),
            _ => format!("{base}_{quote}"),
        };
        let published = profile::normalise("fin:pair", &json!([spell(published)])).unwrap();
        let asked = profile::normalise_as("pair", ValueKind::Enum, &json!(spell(asked))).unwrap();
        prop_assert!(published.includes(&asked), "{:?} {:?}", published, asked);
    }
}
