//! Declarations and questions that get past the first check: made of values that people write, some of them broken.

use arbitrary::{Arbitrary, Result, Unstructured};
use comity_capability::profile;
use comity_capability::query::{Condition, Draft, Query, RankProfile};
use comity_capability::record::{Capability, Interface};
use comity_capability::taxonomy;
use serde_json::{Value as Json, json};

/// Values of every kind, near each other so that comparisons go both ways.
pub const WORDS: [&str; 64] = [
    "EUR/USD",
    "eurusd",
    "USD/JPY",
    "gbp",
    "EUR",
    "usd",
    "2021",
    "2021..2024",
    "2021-01-01",
    "2021-01-01/2024-12-31",
    "../2023",
    "2022-06-01T12:00:00Z",
    "2024/..",
    "P1D",
    "PT1M",
    "1d",
    "5min",
    "1h",
    "P1Y",
    "0",
    "1",
    "-3",
    "0.99",
    "99%",
    "1e3",
    "0.001 USD",
    "USD 5",
    "12 EUR",
    "47.4,8.5",
    "46 7 48 9",
    "-90 -180 90 180",
    "8.5 47.4",
    "1.2.3",
    "^1.2",
    ">=1, <2",
    "v2",
    "CC0-1.0",
    "mit",
    "Apache-2.0",
    "en",
    "English",
    "de-CH",
    "CH",
    "uk",
    "cargo",
    "cargo",
    "pkg:cargo/serde",
    "serde_json",
    "homo sapiens",
    "mouse",
    "close",
    "open, high, low",
    "true",
    "false",
    "finance",
    "oasf1.1:domain/208",
    "comity1:domain/10001",
    "unheard of",
    "",
    "sha256:0000000000000000000000000000000000000000000000000000000000000000",
    "\u{130}stanbul",
    "\u{df}",
    "a\u{300}",
    "200ms",
];

const OPERATORS: [&str; 18] = [
    "eq",
    "ne",
    "any",
    "all",
    "under",
    "lt",
    "lte",
    "gt",
    "gte",
    "between",
    "covers",
    "overlaps",
    "within",
    "finer_or_equal",
    "near",
    "semver",
    "exists",
    "interface",
];

const TAGS: [&str; 8] =
    ["fx", "FX", "daily", "Daily", "open data", "\u{130}", "rates", "Stra\u{df}e"];
const TEXTS: [&str; 8] = [
    "structured historical FX data",
    "foreign exchange rates, daily",
    "airports of the world",
    "security advisories",
    "",
    "x",
    "the of and",
    "\u{df}\u{130} na\u{ef}ve 2024",
];

/// A JSON value that could be an attribute's.
pub fn value(u: &mut Unstructured<'_>) -> Result<Json> {
    Ok(match u.int_in_range(0..=9)? {
        0 => json!(u.arbitrary::<i64>()?),
        1 => json!(u.int_in_range(-3..=3)?),
        2 => json!(u.arbitrary::<f64>()?),
        3 => json!(u.arbitrary::<bool>()?),
        4 => Json::from(
            (0..u.int_in_range(0..=4)?).map(|_| word(u)).collect::<Result<Vec<String>>>()?,
        ),
        5 => json!({ "from": word(u)?, "to": word(u)? }),
        6 => json!(<&str>::arbitrary(u)?),
        _ => json!(word(u)?),
    })
}

fn word(u: &mut Unstructured<'_>) -> Result<String> {
    Ok((*u.choose(&WORDS)?).to_owned())
}

/// A key of the profiles, or one of nobody's.
fn key(u: &mut Unstructured<'_>) -> Result<String> {
    Ok(match u.int_in_range(0..=7)? {
        0 => (*u.choose(&["x:one", "x:two", "colour", "Fin:Pair", "data.pair"])?).to_owned(),
        _ => u.choose(profile::keys())?.key.to_owned(),
    })
}

/// A capability within its limits.
pub fn capability(u: &mut Unstructured<'_>) -> Result<Capability> {
    let name = *u.choose(&["fx-history", "fx", "airports", "a.b_c-1"])?;
    let mut capability = Capability::new(name).expect("a valid name");
    capability.visibility = comity_capability::record::Visibility::Public;
    capability.title = (*u.choose(&TEXTS)?).to_owned();
    capability.text = (*u.choose(&TEXTS)?).repeat(u.int_in_range(0..=4)?);
    for _ in 0..u.int_in_range(0..=4)? {
        let class = taxonomy::resolve(*u.choose(&[
            "finance",
            "fx rates",
            "data_engineering",
            "nlp",
            "technology",
            "translation",
        ])?);
        match class {
            Some(class) if u.arbitrary()? => capability.classes.push(class),
            _ => capability.classes.extend(word(u)?.parse()),
        }
    }
    capability.classes.dedup();
    for _ in 0..u.int_in_range(0..=4)? {
        capability.tags.insert((*u.choose(&TAGS)?).to_owned());
    }
    // Many attributes, so that digests have to leave some out.
    for _ in 0..u.int_in_range(0..=24)? {
        let (key, value) = (key(u)?, value(u)?);
        let _ = capability.declare(&key, &value);
    }
    if u.arbitrary()? {
        let schema = json!({ "type": "object", "title": word(u)? });
        capability.interface = Interface::new(&schema, &json!({})).expect("a small schema");
    }
    capability.idempotent = u.arbitrary()?;
    capability.streaming = u.arbitrary()?;
    Ok(capability)
}

/// A query; often one that asks what `capability` declares.
pub fn query(u: &mut Unstructured<'_>, capability: &Capability) -> Result<Option<Query>> {
    let mut draft = Draft::default();
    if u.arbitrary()? {
        draft.text = Some((*u.choose(&TEXTS)?).to_owned());
    }
    if u.ratio(1, 8)? {
        draft.name = Some((*u.choose(&["fx-history", "fx", "airports"])?).to_owned());
    }
    for _ in 0..u.int_in_range(0..=8)? {
        if let Some(condition) = condition(u, capability)? {
            let condition = condition.soft(u.ratio(1, 4)?);
            if u.ratio(1, 5)? {
                draft.exclude.push(condition)
            } else {
                draft.conditions.push(condition)
            }
        }
    }
    draft.rank = *u.choose(&RankProfile::ALL)?;
    draft.k = u.int_in_range(1..=100)?;
    Ok(draft.finish().ok())
}

fn condition(u: &mut Unstructured<'_>, capability: &Capability) -> Result<Option<Condition>> {
    let operator = *u.choose(&OPERATORS)?;
    let (key, own) = match u.int_in_range(0..=9)? {
        0 => ("class".to_owned(), capability.classes.first().map(|class| json!(class.to_string()))),
        1 => ("tags".to_owned(), capability.tags.first().map(|tag| json!(tag))),
        2 => ("interface".to_owned(), Some(json!(capability.interface.digest().to_string()))),
        3..=6 if !capability.attributes.is_empty() => {
            let at = u.choose_index(capability.attributes.len())?;
            let (key, value) =
                capability.attributes.iter().nth(at).expect("chosen below the length");
            (key.clone(), Some(value.to_json()))
        }
        _ => (key(u)?, None),
    };
    let mut operands = Vec::new();
    let wanted = match operator {
        "exists" => 0,
        "between" | "near" => 2,
        "any" | "all" | "under" => u.int_in_range(1..=3)?,
        _ => 1,
    };
    for _ in 0..wanted {
        let operand = match &own {
            Some(Json::Array(words)) if !words.is_empty() && u.arbitrary()? => {
                u.choose(words)?.clone()
            }
            Some(own) if u.ratio(3, 4)? => own.clone(),
            _ => value(u)?,
        };
        operands.push(operand);
    }
    if let ("near", Some(radius)) = (operator, operands.get_mut(1)) {
        *radius = json!(u.arbitrary::<u32>()?);
    }
    Ok(Condition::new(&key, operator, &operands).ok())
}
