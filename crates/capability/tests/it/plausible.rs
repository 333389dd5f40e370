//! Declarations and questions drawn from a seed: values near each other, so that comparisons go both ways.

use comity_capability::attribute::Value;
use comity_capability::profile;
use comity_capability::query::{Condition, Draft, Query};
use comity_capability::record::{Capability, Digest, Interface, Record, Visibility};
use comity_capability::taxonomy;
use comity_core::{Hash, Time};
use serde_json::{Value as Json, json};

const WORDS: [&str; 46] = [
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
    "0.0000001",
    "0.001 USD",
    "USD 5",
    "12 EUR",
    "0.0000004 EUR",
    "47.4,8.5",
    "46 7 48 9",
    "170,-10,-170,10",
    "-90 -180 90 180",
    "10,180",
    "1.2.3",
    "^1.2",
    "CC0-1.0",
    "mit",
    "en",
    "de-CH",
    "CH",
    "cargo",
    "serde",
    "homo sapiens",
    "true",
    "close",
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
const CLASSES: [&str; 7] =
    ["finance", "fx rates", "data_engineering", "nlp", "technology", "translation", "market_data"];
const TAGS: [&str; 8] =
    ["fx", "FX", "eurUsd", "iPhone", "open data", "\u{130}", "rates", "Stra\u{df}e"];
const TEXTS: [&str; 6] = [
    "structured historical FX data",
    "foreign exchange rates, daily",
    "airports of the world",
    "security advisories",
    "",
    "na\u{ef}ve 2024 rates",
];
const NAMES: [&str; 4] = ["fx-history", "fx", "airports", "a.b_c-1"];

/// Numbers from a seed (SplitMix64).
pub(crate) struct Draw(pub(crate) u64);

impl Draw {
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % bound as u64).unwrap()
    }

    /// True once in `n`.
    pub(crate) fn once_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn pick<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.below(of.len())]
    }

    fn raw(&mut self) -> Json {
        match self.below(8) {
            0 => json!(self.below(7) as i64 - 3),
            1 => json!(self.once_in(2)),
            2 => (0..self.below(4)).map(|_| json!(self.pick(&WORDS))).collect(),
            _ => json!(self.pick(&WORDS)),
        }
    }

    fn key(&mut self) -> String {
        if self.once_in(8) {
            return self.pick(&["x:one", "x:two", "colour"]).to_owned();
        }
        let keys = profile::keys();
        keys[self.below(keys.len())].key.to_owned()
    }

    pub(crate) fn capability(&mut self) -> Capability {
        let mut capability = Capability::new(self.pick(&NAMES)).unwrap();
        capability.visibility = Visibility::Public;
        capability.title = self.pick(&TEXTS).repeat(1 + self.below(3));
        capability.text = self.pick(&TEXTS).to_owned();
        for _ in 0..self.below(4) {
            let class = taxonomy::resolve(self.pick(&CLASSES))
                .unwrap_or_else(|| "a-label".parse().unwrap());
            let opaque = "unheard-of".parse().unwrap();
            capability.classes.push(if self.once_in(5) { opaque } else { class });
        }
        capability.classes.dedup();
        for _ in 0..self.below(4) {
            capability.tags.insert(self.pick(&TAGS).to_owned());
        }
        let many = if self.once_in(4) { 40 } else { 8 };
        for _ in 0..self.below(many) {
            let (key, value) = (self.key(), self.raw());
            let _ = capability.declare(&key, &value);
        }
        if self.once_in(2) {
            let schema = json!({ "type": "object", "title": self.pick(&WORDS) });
            capability.interface = Interface::new(&schema, &json!({})).unwrap();
        }
        capability
    }

    /// The digest of a capability; one in eight has an attribute of a kind that its key never has, as a stranger may sign.
    pub(crate) fn digest(&mut self, capability: &Capability) -> Digest {
        let mut digest = digest(capability);
        if self.once_in(8) {
            let value = Value::infer(&self.raw()).unwrap_or(Value::Bool(true));
            let key = self.key();
            digest.omitted.remove(&key);
            let own = digest.attributes.iter().filter(|(known, _)| *known != key);
            digest.attributes = own.chain([(key.as_str(), &value)]).collect();
        }
        digest
    }

    /// A question, often one that `capability` answers.
    pub(crate) fn query(&mut self, capability: &Capability) -> Option<Query> {
        let mut draft = Draft::default();
        if self.once_in(2) {
            draft.text = Some(self.pick(&TEXTS).to_owned());
        }
        if self.once_in(8) {
            draft.name = Some(self.pick(&NAMES).to_owned());
        }
        for _ in 0..1 + self.below(5) {
            if let Some(condition) = self.condition(capability) {
                let condition = condition.soft(self.once_in(3));
                let list = if self.once_in(6) { &mut draft.exclude } else { &mut draft.conditions };
                list.push(condition);
            }
        }
        draft.finish().ok()
    }

    fn condition(&mut self, capability: &Capability) -> Option<Condition> {
        let operator = self.pick(&OPERATORS);
        let (key, own) = match self.below(10) {
            0 | 1 => ("class".to_owned(), capability.classes.first().map(|c| json!(c.to_string()))),
            2 => ("tags".to_owned(), capability.tags.first().map(|tag| json!(tag))),
            3 => ("interface".to_owned(), Some(json!(capability.interface.digest().to_string()))),
            4..=8 if !capability.attributes.is_empty() => {
                let at = self.below(capability.attributes.len());
                let (key, value) = capability.attributes.iter().nth(at).unwrap();
                (key.clone(), Some(value.to_json()))
            }
            _ => (self.key(), None),
        };
        let count = match operator {
            "exists" => 0,
            "between" | "near" => 2,
            "any" | "all" | "under" => 1 + self.below(3),
            _ => 1,
        };
        let mut operands: Vec<Json> = (0..count)
            .map(|_| match &own {
                Some(Json::Array(words)) if !words.is_empty() && self.once_in(2) => {
                    words[self.below(words.len())].clone()
                }
                Some(own) if !self.once_in(4) => own.clone(),
                _ if key == "class" => json!(self.pick(&CLASSES)),
                _ => self.raw(),
            })
            .collect();
        if let ("near", Some(radius)) = (operator, operands.get_mut(1)) {
            *radius = json!(self.below(2_000_000));
        }
        Condition::new(&key, operator, &operands).ok()
    }
}

/// The digest of a capability as its agent publishes it.
pub(crate) fn digest(capability: &Capability) -> Digest {
    let mut record =
        Record::new(1, Time::from_millis(0), Time::from_millis(3_600_000), Hash::of(b"next"));
    record.capabilities.push(capability.clone());
    Digest::summarise(&record, 0, Hash::of(b"record")).unwrap()
}
