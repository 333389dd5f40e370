//! Builders and strategies shared by the tests.

use std::collections::BTreeSet;

use comity_capability::attribute::{
    Currency, Decimal, Geo, Interval, MAX_ELEMENT, Moment, Money, Period, Value,
};
use comity_capability::record::{Capability, Interface, Record};
use comity_core::{Hash, Identity, Time};
use proptest::prelude::*;
use serde_json::json;

/// 2026-01-10T00:00:00Z.
pub(crate) const NOW: Time = Time::from_secs(1_768_003_200);

pub(crate) fn identity(seed: u8) -> Identity {
    Identity::from_secret_bytes(&[seed; 32])
}

/// The European Central Bank's euro reference rates, as a table specialist would declare them.
pub(crate) fn ecb() -> Capability {
    let mut capability = Capability::new("fx-reference-rates").unwrap();
    capability.visibility = comity_capability::record::Visibility::Public;
    capability.title = "Euro foreign exchange reference rates".into();
    capability.text = "Daily reference rates of the European Central Bank against the euro".into();
    capability.examples = vec!["EUR/USD reference rate on 2022-03-01".into()];
    capability.classes =
        vec!["comity1:domain/10002".parse().unwrap(), "oasf1.1:skill/80502".parse().unwrap()];
    capability.tags = BTreeSet::from(["fx".into(), "ecb".into()]);
    capability.interface = Interface::new(
        &json!({"type": "object", "properties": {"where": {"type": "object"}, "limit": {"type": "integer", "maximum": 1000}}}),
        &json!({"type": "array", "items": {"type": "object"}}),
    )
    .unwrap();
    let pairs: Vec<String> = ["USD", "JPY", "GBP", "CHF", "SEK", "NOK", "CAD", "AUD", "CNY", "INR"]
        .iter()
        .map(|c| format!("EUR{c}"))
        .collect();
    capability.declare("pair", &json!(pairs)).unwrap();
    capability.declare("time", &json!("2015-01-02/2025-12-31")).unwrap();
    capability.declare("resolution", &json!("P1D")).unwrap();
    capability.declare("fields", &json!(["date", "USD", "JPY"])).unwrap();
    capability.declare("license", &json!("cc-by-4.0")).unwrap();
    capability.declare("rows", &json!(2816)).unwrap();
    capability.idempotent = true;
    capability
}

pub(crate) fn airports() -> Capability {
    let mut capability = Capability::new("airports").unwrap();
    capability.visibility = comity_capability::record::Visibility::Public;
    capability.title = "Airports of the world".into();
    capability.classes = vec!["comity1:domain/10102".parse().unwrap()];
    capability.declare("bbox", &json!([-180, -90, 180, 83.5])).unwrap();
    capability.declare("country", &json!(["de", "fr", "uk"])).unwrap();
    capability.declare("feature", &json!("airport")).unwrap();
    capability
}

pub(crate) fn advisories() -> Capability {
    let mut capability = Capability::new("rustsec").unwrap();
    capability.visibility = comity_capability::record::Visibility::Public;
    capability.title = "RustSec advisories".into();
    capability.classes = vec!["comity1:domain/10201".parse().unwrap()];
    capability.declare("ecosystem", &json!("cargo")).unwrap();
    capability.declare("package", &json!(["abi_stable", "openssl"])).unwrap();
    capability
}

pub(crate) fn record(capabilities: Vec<Capability>) -> Record {
    let mut record = Record::new(17, NOW, Time(NOW.0 + 24 * 3_600_000_000), Hash::of(b"next key"));
    record.name = "Rates".into();
    record.endpoints =
        vec!["192.0.2.7:4433".parse().unwrap(), "[2001:db8::7]:4433".parse().unwrap()];
    record.capabilities = capabilities;
    record
}

pub(crate) fn moment() -> impl Strategy<Value = Moment> {
    (Moment::MIN.micros()..Moment::END.micros())
        .prop_map(|micros| Moment::from_micros(micros).unwrap())
}

pub(crate) fn interval() -> impl Strategy<Value = Interval> {
    let day =
        (-700_000i64..2_900_000).prop_map(|day| Moment::from_micros(day * 86_400_000_000).unwrap());
    let end = prop_oneof![day, moment()];
    (prop::option::of(end.clone()), prop::option::of(end)).prop_filter_map("empty", |(from, to)| {
        Interval::new(from, to).or_else(|| Interval::new(to, from))
    })
}

pub(crate) fn period() -> impl Strategy<Value = Period> {
    prop_oneof![
        0..Period::MAX.micros(),
        (0..9000u64).prop_map(|n| n * Period::YEAR),
        (0..9000u64).prop_map(|n| n * Period::MONTH),
        (0..9000u64).prop_map(|n| n * Period::DAY),
        (0..9000u64).prop_map(|n| n * 60_000_000),
    ]
    .prop_map(|micros| Period::from_micros(micros).unwrap())
}

pub(crate) fn decimal() -> impl Strategy<Value = Decimal> {
    (-Decimal::MAX_MANTISSA..=Decimal::MAX_MANTISSA, 0..=Decimal::MAX_SCALE)
        .prop_map(|(mantissa, scale)| Decimal::new(mantissa, scale).unwrap())
}

/// A word as it is stored: clean, not empty, at most [`MAX_ELEMENT`] bytes.
pub(crate) fn word() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9/._-]{1,12}|\\PC{1,12}".prop_filter_map("empty", |text| {
        let word = comity_capability::record::clean(&text, MAX_ELEMENT);
        (!word.is_empty()).then_some(word)
    })
}

pub(crate) fn geo() -> impl Strategy<Value = Geo> {
    let lat = || (-90_0000000i64..=90_0000000).prop_map(|units| Decimal::new(units, 7).unwrap());
    let lon = || (-180_0000000i64..=180_0000000).prop_map(|units| Decimal::new(units, 7).unwrap());
    prop_oneof![
        (lat(), lon()).prop_map(|(lat, lon)| Geo::point(lat, lon).unwrap()),
        (lon(), lat(), lon(), lat()).prop_map(|(west, a, east, b)| Geo::bounds(
            west,
            a.min(b),
            east,
            a.max(b)
        )
        .unwrap()),
    ]
}

pub(crate) fn value() -> impl Strategy<Value = Value> {
    let currency = "[A-Z]{3}".prop_map(|code| code.parse::<Currency>().unwrap());
    let version = (0..99u64, 0..99u64, 0..99u64, "(-[a-z]{1,5})?")
        .prop_map(|(a, b, c, pre)| format!("{a}.{b}.{c}{pre}").parse().unwrap());
    prop_oneof![
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Int),
        decimal().prop_map(Value::Dec),
        word().prop_map(Value::Enum),
        prop::collection::btree_set(word(), 0..8).prop_map(Value::Set),
        "\\PC{0,60}".prop_map(|text| Value::Text(comity_capability::record::clean(&text, 512))),
        moment().prop_map(Value::Time),
        interval().prop_map(Value::Interval),
        period().prop_map(Value::Duration),
        geo().prop_map(Value::Geo),
        (decimal(), currency)
            .prop_map(|(amount, currency)| Value::Money(Money { amount, currency })),
        version.prop_map(Value::Semver),
        any::<[u8; 32]>().prop_map(Value::Bytes32),
    ]
}
