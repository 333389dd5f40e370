//! What agents can do and what others ask, with the right answers known without the matcher.
//!
//! A capability is drawn as a [`Spec`] of small integers and then declared in words; a question is drawn from a spec that exists.
//! Which specs answer it is decided on the integers alone, so that a fault in taxonomy, normalisers, matcher or keys shows as a
//! wrong recall instead of hiding in a shared helper. Some specs are twins of others that differ in exactly one condition.

use std::collections::BTreeSet;

use comity_capability::keys::{self, Labelled};
use comity_capability::query::Query;
use comity_capability::record::{Capability, Digest, Record};
use comity_capability::taxonomy::{self, ClassKind};
use comity_core::canonical::Canonical;
use comity_core::{Hash, Time};
use comity_overlay as overlay;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::random::{Ppm, Random};
use crate::scenario::units::{count, percent};

const YEAR_FIRST: u16 = 2000;
const YEAR_LAST: u16 = 2025;
/// Resolutions, finest first.
const RESOLUTIONS: [&str; 4] = ["PT1M", "PT1H", "P1D", "P7D"];

/// How often the elements of a list occur.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Skew {
    /// All alike.
    #[default]
    Uniform,
    /// The n-th is drawn 1/n as often as the first: Zipf's law with exponent 1.
    Zipf,
}

/// What is published and asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Workload {
    /// How many nodes publish; all of them when it is more than there are, or `"all"`.
    #[serde(with = "count")]
    pub publishers: usize,
    /// Capabilities of each publisher.
    pub capabilities_each: usize,
    /// Specs that are near misses of an earlier one, in percent.
    #[serde(with = "percent")]
    pub twins: Ppm,
    /// Classes in use, from the leaves of the taxonomy's domains.
    pub classes: usize,
    /// How often each class is declared.
    pub class_skew: Skew,
    /// Agents that declare the first class, in percent; 0 leaves it to `class_skew`.
    #[serde(with = "percent")]
    pub head_class: Ppm,
    /// Entities (currency pairs) in use.
    pub pairs: u32,
    /// How often each entity is declared.
    pub pair_skew: Skew,
    /// How often each publisher's capabilities are asked for.
    pub question_skew: Skew,
    /// Questions that ask for a class with attributes but no entity, in percent of the structured ones.
    #[serde(with = "percent")]
    pub broad: Ppm,
    /// Words that capabilities are about in free text; each has one.
    pub topics: u32,
}

impl Default for Workload {
    fn default() -> Self {
        Self {
            publishers: 60,
            capabilities_each: 2,
            twins: 400_000,
            classes: 12,
            class_skew: Skew::Uniform,
            head_class: 0,
            pairs: 60,
            pair_skew: Skew::Uniform,
            question_skew: Skew::Uniform,
            broad: 0,
            topics: 0,
        }
    }
}

/// A capability in numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// Its name, unique in the simulation.
    pub name: String,
    /// Which of the workload's classes.
    pub class: usize,
    /// Which pairs it covers.
    pub pairs: BTreeSet<u32>,
    /// First and last year it covers.
    pub years: (u16, u16),
    /// Index into the resolutions, finest first.
    pub resolution: usize,
}

/// A question in numbers; every part that is there must be met.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Question {
    /// The class.
    pub class: Option<usize>,
    /// A pair to cover.
    pub pair: Option<u32>,
    /// Years to cover.
    pub years: Option<(u16, u16)>,
    /// Finer or equal to this.
    pub resolution: Option<usize>,
    /// The capability's name.
    pub name: Option<String>,
}

impl Spec {
    /// Whether this is an answer to `question`.
    #[must_use]
    pub fn answers(&self, question: &Question) -> bool {
        question.class.is_none_or(|class| class == self.class)
            && question.pair.is_none_or(|pair| self.pairs.contains(&pair))
            && question.years.is_none_or(|(from, to)| self.years.0 <= from && to <= self.years.1)
            && question.resolution.is_none_or(|coarsest| self.resolution <= coarsest)
            && question.name.as_ref().is_none_or(|name| *name == self.name)
    }

    /// The declaration of this spec.
    ///
    /// # Panics
    /// When the capability crate refuses a declaration that this generator is sure to be valid: a fault of one of the two.
    #[must_use]
    pub fn declare(&self) -> Capability {
        let mut capability = Capability::new(&self.name).expect("generated names are valid");
        capability.visibility = comity_capability::record::Visibility::Public;
        let class = class_text(self.class).parse().expect("taxonomy identifiers parse");
        capability.classes = vec![class];
        let pairs: Vec<_> = self.pairs.iter().map(|pair| pair_text(*pair)).collect();
        let values = [
            ("pair", json!(pairs)),
            ("time", json!(format!("{}-01-01/{}-12-31", self.years.0, self.years.1))),
            ("resolution", json!(RESOLUTIONS[self.resolution])),
        ];
        for (key, value) in values {
            capability.declare(key, &value).expect("generated attributes are valid");
        }
        capability
    }
}

impl Question {
    /// The question in the query language.
    ///
    /// # Panics
    /// When the capability crate refuses it: a fault of one of the two.
    #[must_use]
    pub fn query(&self) -> Query {
        let mut filter = serde_json::Map::new();
        if let Some(class) = self.class {
            filter.insert("class".to_owned(), json!({ "under": [class_text(class)] }));
        }
        if let Some(pair) = self.pair {
            filter.insert("pair".to_owned(), json!({ "all": [pair_text(pair)] }));
        }
        if let Some((from, to)) = self.years {
            filter
                .insert("time".to_owned(), json!({ "covers": format!("{from}-01-01/{to}-12-31") }));
        }
        if let Some(resolution) = self.resolution {
            filter.insert(
                "resolution".to_owned(),
                json!({ "finer_or_equal": RESOLUTIONS[resolution] }),
            );
        }
        let mut query = serde_json::Map::new();
        query.insert("filter".to_owned(), filter.into());
        if let Some(name) = &self.name {
            query.insert("name".to_owned(), json!(name));
        }
        Query::from_json(&json!({ "query": query })).expect("generated questions are valid")
    }

    /// The directory query that asks it of the overlay, every key of the plan if need be.
    #[must_use]
    pub fn command(&self) -> overlay::Query {
        let query = self.query();
        let steps = query.plan().steps.into_iter();
        let steps = steps.map(|step| overlay::QueryStep {
            keys: step.keys.iter().map(|key| key.key).collect(),
            complete: step.complete,
        });
        overlay::Query {
            steps: steps.collect(),
            query: query.encode(),
            want: 0,
            limit: 32,
            exclude: Vec::new(),
        }
    }
}

impl Workload {
    /// The specs of `publishers` nodes, one list each.
    pub fn draw_specs(&self, random: &mut Random, publishers: usize) -> Vec<Vec<Spec>> {
        let mut all: Vec<Spec> = Vec::new();
        let mut lists = Vec::new();
        for publisher in 0..publishers {
            let mut list = Vec::new();
            for ordinal in 0..self.capabilities_each {
                let name = format!("bars-{publisher}-{ordinal}");
                let model =
                    if random.happens(self.twins) { random.pick(&all).cloned() } else { None };
                let spec = match model {
                    Some(model) => self.twin(random, &model, name),
                    None => self.draw(random, name),
                };
                all.push(spec.clone());
                list.push(spec);
            }
            lists.push(list);
        }
        lists
    }

    fn draw(&self, random: &mut Random, name: String) -> Spec {
        let from = YEAR_FIRST + small(random.below(15));
        let to = (from + 3 + small(random.below(10))).min(YEAR_LAST);
        let count = 1 + random.index(3);
        let pairs = (0..count).map(|_| self.draw_pair(random)).collect();
        Spec {
            name,
            class: random.index(self.classes),
            pairs,
            years: (from, to),
            resolution: random.index(RESOLUTIONS.len() - 1),
        }
    }

    /// A spec like `model` that differs in one condition, so that it just fails the question made from the model.
    fn twin(&self, random: &mut Random, model: &Spec, name: String) -> Spec {
        let mut twin = Spec { name, ..model.clone() };
        match random.below(4) {
            0 => twin.class = (model.class + 1) % self.classes.max(1),
            1 => twin.pairs = BTreeSet::from([self.draw_pair(random)]),
            // Twins of twins get shorter, and end at one year.
            2 if model.years.1 > model.years.0 => twin.years.1 = model.years.1 - 1,
            _ => twin.resolution = model.resolution + 1,
        }
        twin.resolution = twin.resolution.min(RESOLUTIONS.len() - 1);
        twin
    }

    fn draw_pair(&self, random: &mut Random) -> u32 {
        u32::try_from(random.below(u64::from(self.pairs.max(1)))).expect("below a u32")
    }

    /// A question that `spec` answers, as narrow as it can be in the conditions it has.
    pub fn draw_question(&self, random: &mut Random, spec: &Spec) -> Question {
        let pairs: Vec<_> = spec.pairs.iter().copied().collect();
        let pair = random.pick(&pairs).copied();
        let (class, years, resolution) =
            (Some(spec.class), Some(spec.years), Some(spec.resolution));
        match random.below(10) {
            0..6 => Question { class, pair, years, resolution, name: None },
            6..8 => Question { class: None, pair, years, resolution, name: None },
            8 => Question { class, pair, years: None, resolution, name: None },
            _ => Question { name: Some(spec.name.clone()), years, ..Question::default() },
        }
    }
}

/// The digests of a publisher's specs, with the labels of the groups each belongs to.
///
/// # Panics
/// When the capability crate refuses what this generator is sure to be valid.
#[must_use]
pub fn digests(
    specs: &[Spec],
    seq: u64,
    issued: Time,
    expires: Time,
) -> Vec<(Digest, Vec<String>)> {
    let mut record = Record::new(seq, issued, expires, Hash([0; 32]));
    record.capabilities = specs.iter().map(Spec::declare).collect();
    let labels = |capability: &Capability| {
        keys::group_keys(capability).into_iter().map(|Labelled { label, .. }| label).collect()
    };
    let hash = Hash::of(&record.encode());
    let digest = |ordinal: usize| {
        let ordinal = u16::try_from(ordinal).expect("a record has few capabilities");
        Digest::summarise(&record, ordinal, hash).expect("generated capabilities are valid")
    };
    record
        .capabilities
        .iter()
        .enumerate()
        .map(|(ordinal, capability)| (digest(ordinal), labels(capability)))
        .collect()
}

fn class_text(class: usize) -> String {
    let leaves = taxonomy::leaves(ClassKind::Domain);
    leaves[class % leaves.len()].id.to_string()
}

/// Two distinct words of three letters for each number below 26^3.
fn pair_text(pair: u32) -> String {
    let word = |mut number: u32| -> String {
        let mut letters = Vec::new();
        for _ in 0..3 {
            letters.push(char::from(b'A' + u8::try_from(number % 26).expect("below 26")));
            number /= 26;
        }
        letters.into_iter().collect()
    };
    format!("{}/{}", word(pair), word(pair + 7_919))
}

fn small(number: u64) -> u16 {
    u16::try_from(number).expect("drawn below a small bound")
}

#[cfg(test)]
mod tests {
    use comity_capability::matching::evaluate_capability;

    use super::*;

    #[test]
    fn gold_and_matcher_agree_twins_included() {
        let workload = Workload {
            publishers: 60,
            capabilities_each: 2,
            twins: 500_000,
            classes: 4,
            pairs: 12,
            ..Workload::default()
        };
        let mut random = Random::new(7, "test");
        let specs: Vec<_> = workload.draw_specs(&mut random, 60).into_iter().flatten().collect();
        let declared: Vec<_> = specs.iter().map(Spec::declare).collect();
        let (mut met, mut missed) = (0, 0);
        for spec in &specs {
            let question = workload.draw_question(&mut random, spec);
            assert!(spec.answers(&question), "{spec:?} {question:?}");
            let query = question.query();
            for (other, capability) in specs.iter().zip(&declared) {
                let gold = other.answers(&question);
                assert_eq!(
                    evaluate_capability(&query, capability).passes(),
                    gold,
                    "{other:?} {question:?}"
                );
                if gold { met += 1 } else { missed += 1 }
            }
        }
        assert!(met > 60 && missed > 60, "both answers occur: {met}, {missed}");
    }

    #[test]
    fn twins_of_twins_still_cover_something() {
        let workload = Workload { publishers: 20_000, twins: 900_000, ..Workload::default() };
        let specs = workload.draw_specs(&mut Random::new(1, "test"), 20_000);
        let specs: Vec<_> = specs.into_iter().flatten().collect();
        assert!(specs.iter().all(|spec| spec.years.0 <= spec.years.1));
        assert!(specs.iter().any(|spec| spec.years.0 == spec.years.1), "chains are that long");
    }
}
