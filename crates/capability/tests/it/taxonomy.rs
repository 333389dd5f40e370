//! Classes: identifiers, lookups, descent, suggestions.

use comity_capability::taxonomy::{self, ClassId, ClassKind};
use proptest::prelude::*;

fn id(text: &str) -> ClassId {
    text.parse().unwrap()
}

#[test]
fn the_whole_table_is_there() {
    // OASF 1.1.1 has 24 domain categories, 168 domain leaves and 18 skill categories; one root and 12 leaves are ours,
    // and `technology/security` is no leaf any more.
    assert_eq!(taxonomy::roots(ClassKind::Domain).len(), 24 + 1);
    assert_eq!(taxonomy::roots(ClassKind::Skill).len(), 18);
    let leaves = taxonomy::leaves(ClassKind::Domain);
    let ours = leaves.iter().filter(|class| class.id.to_string().starts_with("comity1:")).count();
    assert_eq!(leaves.len() - ours, 168 - 1);
    assert_eq!(taxonomy::leaves(ClassKind::Skill).len(), 392);
    for class in leaves {
        let above = taxonomy::ancestors(&class.id);
        assert_eq!(above.len() + 1, class.depth, "{}", class.path);
        assert!(class.depth == class.path.split('/').count() && !class.description.is_empty());
    }
}

#[test]
fn identifiers_keep_their_spelling() {
    for text in [
        "oasf1.1:domain/208",
        "oasf1.1:skill/80502",
        "comity1:domain/10002",
        "oasf1.1:module/203",
        "oasf1.1:domain/999999",
    ] {
        assert_eq!(id(text).to_string(), text);
        assert!(!matches!(id(text), ClassId::Opaque(_)));
    }
    for text in
        ["acme:widgets", "oasf1.1:domain/0208", "oasf1.1:domain/+2", "oasf9:domain/2", "métier"]
    {
        assert_eq!(id(text), ClassId::Opaque(text.into()));
    }
    for bad in ["", "two words", "bidi\u{202E}", "x".repeat(65).as_str()] {
        assert!(bad.parse::<ClassId>().is_err());
    }
}

#[test]
fn people_find_classes_by_any_name() {
    for (name, path) in [
        ("finance", "finance_and_business"),
        ("Finance and Business", "finance_and_business"),
        ("finance_and_business/finance", "finance_and_business/finance"),
        ("finance-and-business/capital markets", "finance_and_business/capital_markets"),
        ("Capital Markets and Trading", "finance_and_business/capital_markets"),
        ("capital_markets", "finance_and_business/capital_markets"),
        ("oasf1.1:domain/208", "finance_and_business/capital_markets"),
        ("FX", "finance_and_business/market_data/fx_rates"),
        ("exchange rates", "finance_and_business/market_data/fx_rates"),
        ("airports", "transportation/aviation/airports"),
        ("security advisories", "technology/security/software_advisories"),
        ("skill:time series forecasting", "ai_ml_engineering/classical_ml/time_series_forecasting"),
    ] {
        let found = taxonomy::resolve(name).unwrap_or_else(|| panic!("{name}"));
        assert_eq!(taxonomy::by_id(&found).unwrap().path, path, "{name}");
    }
    assert_eq!(taxonomy::resolve("acme:widgets"), None);
    assert_eq!(taxonomy::resolve(""), None);
    assert_eq!(taxonomy::resolve("skill:finance"), None);
}

#[test]
fn every_class_is_found_by_its_path_within_its_kind() {
    for kind in [ClassKind::Domain, ClassKind::Skill, ClassKind::Module] {
        for root in taxonomy::roots(kind) {
            for class in taxonomy::descendants(&root) {
                let path = taxonomy::by_id(&class).unwrap().path;
                let found = taxonomy::resolve(&format!("{}:{path}", kind.as_str()));
                // A path that is also an alias means the alias: there is none that differs.
                assert_eq!(found, Some(class), "{path}");
            }
        }
    }
}

#[test]
fn descent_crosses_both_families() {
    let fx = id("comity1:domain/10002");
    assert!(taxonomy::is_under(&fx, &id("oasf1.1:domain/2")));
    assert!(taxonomy::is_under(&fx, &id("comity1:domain/10001")));
    assert!(taxonomy::is_under(&fx, &fx));
    assert!(!taxonomy::is_under(&id("oasf1.1:domain/2"), &fx));
    assert!(!taxonomy::is_under(&fx, &id("oasf1.1:domain/208")));
    assert!(
        !taxonomy::is_under(&id("oasf1.1:skill/8"), &id("oasf1.1:domain/8")),
        "kinds do not mix"
    );
    assert!(taxonomy::is_under(&id("comity1:domain/10201"), &id("oasf1.1:domain/107")));
    assert!(
        taxonomy::is_under(&id("acme:x"), &id("acme:x"))
            && !taxonomy::is_under(&id("acme:x"), &id("acme:y"))
    );
    assert!(taxonomy::children(&id("oasf1.1:domain/2")).contains(&id("comity1:domain/10001")));
    assert_eq!(taxonomy::skill_category(&id("oasf1.1:skill/80502")), Some(id("oasf1.1:skill/8")));
    assert_eq!(taxonomy::skill_category(&fx), None);
}

#[test]
fn misspelled_classes_get_suggestions() {
    let first = |name: &str| taxonomy::nearest(name, 3).first().map(|class| class.path);
    assert_eq!(first("capitol_markets"), Some("finance_and_business/capital_markets"));
    assert_eq!(first("airprots"), Some("transportation/aviation/airports"));
    assert_eq!(taxonomy::nearest("finance", 5).len(), 5);
    assert!(taxonomy::nearest("zzzzqqqq", 5).is_empty());
    assert!(taxonomy::nearest(&"long ".repeat(10_000), 2).len() <= 2);
}

proptest! {
    #[test]
    fn labels_read_back_and_json_agrees(text in "\\PC{0,70}|(oasf1.1|comity1):(domain|skill|module)/[0-9]{1,11}") {
        if let Ok(class) = text.parse::<ClassId>() {
            prop_assert_eq!(class.to_string(), text);
            let json = serde_json::to_string(&class).unwrap();
            prop_assert_eq!(serde_json::from_str::<ClassId>(&json).unwrap(), class);
        }
    }

    #[test]
    fn descendants_are_exactly_what_is_under(index in any::<prop::sample::Index>()) {
        let all: Vec<ClassId> = taxonomy::roots(ClassKind::Domain).iter().flat_map(taxonomy::descendants).collect();
        let top = &all[index.index(all.len())];
        let below = taxonomy::descendants(top);
        for class in &all {
            prop_assert_eq!(below.contains(class), taxonomy::is_under(class, top));
        }
    }
}
