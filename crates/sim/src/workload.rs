//! What agents can do and what others ask, with the right answers known without the matcher.
//!
//! A capability is drawn as a [`Spec`] of small integers and then declared in words; a question is drawn from a spec that exists.
//! Which specs answer it, and which of them are best, is decided on the integers alone, so that a fault in taxonomy, normalisers,
//! matcher, ranker or keys shows as a wrong recall instead of hiding in a shared helper. Some specs are twins of others that differ in
//! exactly one condition.

mod declare;
mod draw;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::random::Ppm;
use crate::scenario::units::{count, percent};

pub use declare::{ANSWERS_MAX, classes_max, digests};
pub use draw::Drawer;

/// Entities there are words for.
pub const PAIRS_MAX: u32 = 26 * 26 * 26;
/// Topics there are words for.
pub const TOPICS_MAX: u32 = 51 * 51 * 51;
/// Prices there are, the cheapest first.
pub const PRICES_MAX: u8 = 16;

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
    /// Classes in use, from the leaves of the taxonomy's domains; at most [`classes_max`].
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
    /// Most entities of a capability.
    pub pairs_each: u32,
    /// Words that capabilities are about in free text; each capability has one, drawn like entities. 0: no words.
    pub topics: u32,
    /// Prices in use; 0: none is declared. Questions then prefer the cheaper half.
    pub prices: u8,
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
            pairs_each: 3,
            topics: 0,
            prices: 0,
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
    /// What it is about in free text.
    pub topic: Option<u32>,
    /// Its price, the cheapest first.
    pub price: Option<u8>,
    /// Classes and topics it claims besides, to be found by whoever asks for them.
    pub stuffed: Option<(Vec<usize>, Vec<u32>)>,
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
    /// What it is about, asked in free text, with a word beside it that nobody declares.
    pub topic: Option<(u32, u32)>,
    /// Prices up to this are preferred; a preference refuses nobody.
    pub cheap: Option<u8>,
}

/// How good an answer is; greater is better, equal is equally good. It orders as the production ranker does
/// ([`comity_capability::rank`]) for candidates of whom nothing but their declaration is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Merit {
    preferred: bool,
    cheapness: u8,
}

impl Spec {
    /// Whether this is an answer to `question`.
    #[must_use]
    pub fn answers(&self, question: &Question) -> bool {
        self.has_class(question.class)
            && question.pair.is_none_or(|pair| self.pairs.contains(&pair))
            && question.years.is_none_or(|(from, to)| self.years.0 <= from && to <= self.years.1)
            && question.resolution.is_none_or(|coarsest| self.resolution <= coarsest)
            && question.name.as_ref().is_none_or(|name| *name == self.name)
            && question.topic.is_none_or(|(topic, _)| self.is_about(topic))
    }

    fn has_class(&self, wanted: Option<usize>) -> bool {
        wanted.is_none_or(|class| {
            class == self.class
                || self.stuffed.as_ref().is_some_and(|(classes, _)| classes.contains(&class))
        })
    }

    fn is_about(&self, topic: u32) -> bool {
        self.topic == Some(topic)
            || self.stuffed.as_ref().is_some_and(|(_, topics)| topics.contains(&topic))
    }

    /// How good an answer to `question` it is, if it is one.
    #[must_use]
    pub fn merit(&self, question: &Question) -> Merit {
        let preferred =
            question.cheap.is_some_and(|most| self.price.is_some_and(|price| price <= most));
        Merit { preferred, cheapness: self.price.map_or(0, |price| u8::MAX - price) }
    }
}

impl Question {
    /// What of it refuses candidates: free text and preferences only rank them.
    #[must_use]
    pub fn required(&self) -> Self {
        Self { topic: None, cheap: None, ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use comity_capability::keys::{KeyFamily, group_keys};
    use comity_capability::matching::evaluate_capability;
    use comity_capability::rank::{Candidate, Context, Declared, Signals, rank};
    use comity_core::{Identity, Time};

    use super::*;
    use crate::random::Random;

    fn workload() -> Workload {
        Workload {
            publishers: 60,
            twins: 500_000,
            classes: 4,
            pairs: 12,
            topics: 20,
            prices: 5,
            ..Workload::default()
        }
    }

    #[test]
    fn gold_and_matcher_agree_twins_included() {
        let mut random = Random::new(7, "test");
        let specs: Vec<_> = workload().draw_specs(&mut random, 60).into_iter().flatten().collect();
        let declared: Vec<_> = specs.iter().map(Spec::declare).collect();
        let drawer = Drawer::new(&workload(), 60);
        let (mut met, mut missed) = (0, 0);
        for spec in &specs {
            let question = drawer.question(&mut random, spec);
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

    /// The places that the production ranker gives, in merits.
    fn ranked(question: &Question, specs: &[Spec]) -> Vec<Merit> {
        let declared: Vec<_> = specs.iter().map(Spec::declare).collect();
        let agent = Identity::from_secret_bytes(&[1; 32]).id();
        let candidates: Vec<_> = declared
            .iter()
            .map(|capability| Candidate {
                agent,
                declared: Declared::Capability(capability),
                signals: Signals::default(),
            })
            .collect();
        let context = Context { now: Time::from_secs(1), seed: [0; 32] };
        let mut draft = question.query().into_draft();
        draft.k = 100;
        let ranking = rank(&draft.finish().unwrap(), &candidates, &context);
        ranking.results.iter().map(|place| specs[place.index].merit(question)).collect()
    }

    #[test]
    fn merits_order_as_the_production_ranker() {
        let mut random = Random::new(9, "test");
        let specs: Vec<_> = workload().draw_specs(&mut random, 40).into_iter().flatten().collect();
        let drawer = Drawer::new(&workload(), 40);
        let mut several = 0;
        for spec in &specs {
            let mut question = drawer.question(&mut random, spec);
            question.pair = None;
            let places = ranked(&question, &specs);
            assert!(places.is_sorted_by(|a, b| a >= b), "{question:?}: {places:?}");
            several += usize::from(places.first() > places.last());
        }
        assert!(several > 20, "prices differ: {several}");
    }

    #[test]
    fn text_finds_its_topic_first() {
        let mut random = Random::new(11, "test");
        let specs: Vec<_> = workload().draw_specs(&mut random, 40).into_iter().flatten().collect();
        let drawer = Drawer::new(&workload(), 40);
        for spec in &specs {
            let question = drawer.text(&mut random, spec).unwrap();
            let declared: Vec<_> = specs.iter().map(Spec::declare).collect();
            let agent = Identity::from_secret_bytes(&[1; 32]).id();
            let candidates: Vec<_> = declared
                .iter()
                .map(|capability| Candidate {
                    agent,
                    declared: Declared::Capability(capability),
                    signals: Signals::default(),
                })
                .collect();
            let context = Context { now: Time::from_secs(1), seed: [0; 32] };
            let ranking = rank(&question.query(), &candidates, &context);
            let first = &specs[ranking.results[0].index];
            assert!(first.answers(&question), "{question:?} found {first:?}");
        }
    }

    #[test]
    fn a_capability_with_one_entity_and_no_words_has_three_keys() {
        let mut random = Random::new(3, "test");
        let workload = Workload { pairs_each: 1, twins: 0, topics: 0, ..workload() };
        for spec in workload.draw_specs(&mut random, 20).into_iter().flatten() {
            let families: Vec<_> =
                group_keys(&spec.declare()).into_iter().map(|key| key.family).collect();
            assert_eq!(families, [KeyFamily::Name, KeyFamily::Entity, KeyFamily::ClassLeaf]);
        }
    }

    #[test]
    fn stuffers_answer_more_than_they_have() {
        let mut random = Random::new(5, "test");
        let drawer = Drawer::new(&workload(), 40);
        let honest = drawer.specs(&mut random, 0, &[]).remove(0);
        let stuffed = drawer.stuff(&mut random, honest.clone());
        let topic = stuffed.stuffed.as_ref().unwrap().1[0];
        let question = Question { topic: Some((topic, 1)), ..Question::default() };
        assert!(stuffed.answers(&question));
        assert!(stuffed.declare().tags.len() > honest.declare().tags.len());
    }
}
