//! What a query gives the planner to derive group keys from.

use super::ast::{Query, Test};
use crate::attribute::Value;
use crate::keys::{self, Plan};
use crate::profile;
use crate::taxonomy::ClassId;

/// The parts of a query that name groups. Only hard conditions count: a preference excludes nobody, so it must not steer the search away
/// from anybody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlanInputs {
    /// Per condition on the class, the classes of which a match lies under one (`under`) or is one (`eq`, `any`).
    pub classes: Vec<ClassChoice>,
    /// Per condition on an entity key (see [`profile::KeySpec::entity`]), the words of which a match has at least one.
    pub entities: Vec<EntityChoice>,
    /// Per condition on tags, the tags of which a match has at least one.
    pub tags: Vec<Vec<String>>,
    /// The free text, to cut terms from.
    pub text: Option<String>,
    /// The interface digest of a match.
    pub interface: Option<[u8; 32]>,
    /// The capability name of a match.
    pub name: Option<String>,
}

/// Classes of which a match has at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassChoice {
    /// The alternatives.
    pub any: Vec<ClassId>,
    /// Whether classes below them count too.
    pub subtree: bool,
}

/// Words of an entity key of which a match has at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntityChoice {
    /// The key, by its full name.
    pub key: String,
    /// The alternatives, normalised. Words that must all be there are several choices of one word.
    pub any: Vec<String>,
    /// The key's selectivity, 0 to 9 ([`profile::KeySpec::selectivity`]).
    pub selectivity: u8,
}

impl Query {
    /// The group keys to ask for this query.
    pub fn plan(&self) -> Plan {
        keys::plan(&self.plan_inputs())
    }

    /// What the planner derives keys from.
    pub fn plan_inputs(&self) -> PlanInputs {
        let mut inputs = PlanInputs {
            text: self.text().map(str::to_owned),
            name: self.name().map(str::to_owned),
            ..PlanInputs::default()
        };
        for condition in self.conditions().iter().filter(|c| !c.is_soft()) {
            match (condition.key(), condition.test()) {
                (super::build::CLASS, test) => inputs.classes.extend(class_choices(test)),
                (super::build::TAGS, test) => inputs.tags.extend(word_choices(test)),
                (_, Test::Interface(digest)) => inputs.interface = Some(*digest),
                (key, test) => {
                    if let Some(spec) = profile::lookup(key).filter(|spec| spec.entity) {
                        let choice = |any| EntityChoice {
                            key: spec.key.to_owned(),
                            any,
                            selectivity: spec.selectivity,
                        };
                        inputs.entities.extend(word_choices(test).into_iter().map(choice));
                    }
                }
            }
        }
        inputs
    }
}

fn class_choices(test: &Test) -> Vec<ClassChoice> {
    if let Test::Under(any) = test {
        return vec![ClassChoice { any: any.clone(), subtree: true }];
    }
    let parsed = |words: Vec<String>| words.iter().filter_map(|word| word.parse().ok()).collect();
    word_choices(test)
        .into_iter()
        .map(|words| ClassChoice { any: parsed(words), subtree: false })
        .collect()
}

/// The choices of words that a test on words leaves a match; none for a test that names no word.
fn word_choices(test: &Test) -> Vec<Vec<String>> {
    let words = |value: &Value| value.elements().into_iter().map(str::to_owned).collect::<Vec<_>>();
    let choices = match test {
        Test::Eq(value) => vec![words(value)],
        Test::Any(values) => vec![values.iter().flat_map(words).collect()],
        Test::All(values) => values.iter().map(words).collect(),
        Test::Ne(_)
        | Test::Under(_)
        | Test::Lt(_)
        | Test::Lte(_)
        | Test::Gt(_)
        | Test::Gte(_)
        | Test::Between(..)
        | Test::Covers(_)
        | Test::Overlaps(_)
        | Test::Within(_)
        | Test::FinerOrEqual(_)
        | Test::Near(_)
        | Test::Semver(_)
        | Test::Exists
        | Test::Interface(_) => Vec::new(),
    };
    choices.into_iter().filter(|choice| !choice.is_empty()).collect()
}
