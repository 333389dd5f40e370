//! A query made ready to be put to a thousand digests: every name looked up, every subtree spread out, every filter bit computed
//! once. What it decides is what [`super::judge`] decides.

use super::test::holds;
use crate::attribute::Value;
use crate::keys;
use crate::query::{CLASS, Condition, INTERFACE, Query, TAGS, Test};
use crate::record::{Bloom, Declared, Digest, Sought, word_bit};
use crate::taxonomy::{self, ClassId};

/// A query's conditions by the part they play.
pub(super) struct Compiled<'q> {
    required: Vec<Check<'q>>,
    excluded: Vec<Check<'q>>,
    preferred: Vec<Check<'q>>,
}

/// What a digest comes to on what is required and excluded.
pub(super) struct Standing {
    /// Conditions that refuse it.
    pub(super) failed: usize,
    /// Whether its record is needed to decide.
    pub(super) open: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Answer {
    Met,
    /// Unmet or undeclared.
    Not,
    Unknown,
}

enum Check<'q> {
    Name(&'q str),
    Classes(Classes),
    Tags(Option<Tags>),
    Interface(&'q Test),
    Attribute { key: &'q str, sought: Sought<'q>, words: Words, test: &'q Test },
}

/// A condition on classes.
enum Classes {
    /// One of these is declared: the packed numbers in order, and labels.
    Under(Vec<u64>, Vec<ClassId>),
    /// Operands as their classes.
    Members(Several, Vec<Vec<ClassId>>),
    /// Some class is declared and its test holds, or never does.
    Always(bool),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Several {
    Any,
    All,
    NotOne,
}

/// Tags that a filter can deny: of the operands any, or all, each with the filter of its own.
struct Tags(Several, Vec<Bloom>);

/// What the words of a value must have for a test to hold, as filter bits.
enum Words {
    /// Nothing that a filter could deny.
    Whatever,
    /// All the bits of one of these.
    OneOf(Vec<u64>),
}

impl<'q> Compiled<'q> {
    pub(super) fn of(query: &'q Query) -> Self {
        let (soft, hard): (Vec<&Condition>, Vec<&Condition>) =
            query.conditions().iter().partition(|condition| condition.is_soft());
        let checks = |conditions: Vec<&'q Condition>| {
            conditions.into_iter().map(Check::of).collect::<Vec<_>>()
        };
        let mut required = checks(hard);
        required.extend(query.name().map(Check::Name));
        Self {
            required,
            excluded: query.exclude().iter().map(Check::of).collect(),
            preferred: checks(soft),
        }
    }

    /// Preferences there are.
    pub(super) fn preferences(&self) -> usize {
        self.preferred.len()
    }

    /// Judges a digest. Gives up, with what it has counted, once more conditions failed than `worth_knowing`.
    pub(super) fn judge(&self, digest: &Digest, worth_knowing: usize) -> Standing {
        let mut standing = Standing { failed: 0, open: false };
        for (checks, refuses) in [(&self.required, Answer::Not), (&self.excluded, Answer::Met)] {
            for check in checks {
                let answer = check.answer(digest);
                standing.open |= answer == Answer::Unknown;
                standing.failed += usize::from(answer == refuses);
                if standing.failed > worth_knowing {
                    return standing;
                }
            }
        }
        standing
    }

    /// Preferences met.
    pub(super) fn preferred(&self, digest: &Digest) -> usize {
        self.preferred.iter().filter(|check| check.answer(digest) == Answer::Met).count()
    }
}

impl<'q> Check<'q> {
    fn of(condition: &'q Condition) -> Self {
        let test = condition.test();
        match condition.key() {
            CLASS => Self::Classes(Classes::of(test)),
            TAGS => Self::Tags(Tags::of(test)),
            INTERFACE => Self::Interface(test),
            key => Self::Attribute { key, sought: Sought::new(key), words: Words::of(test), test },
        }
    }

    fn answer(&self, digest: &Digest) -> Answer {
        let met = match self {
            Self::Name(wanted) => digest.name == *wanted,
            Self::Classes(classes) => return classes.answer(digest),
            Self::Tags(tags) => {
                // The filter proves absence only.
                let lacks = tags.as_ref().is_some_and(|tags| tags.are_missing(&digest.terms));
                return if lacks { Answer::Not } else { Answer::Unknown };
            }
            Self::Interface(Test::Interface(wanted)) => *wanted == digest.interface.0,
            Self::Interface(test) => **test == Test::Exists,
            Self::Attribute { key, sought, words, test } => match digest.seek(*sought, key) {
                (filter, Declared::Value(value)) => words.may_be_in(filter) && holds(test, value),
                (_, Declared::Omitted) => return Answer::Unknown,
                (_, Declared::Undeclared) => false,
            },
        };
        if met { Answer::Met } else { Answer::Not }
    }
}

impl Classes {
    fn of(test: &Test) -> Self {
        if let Test::Under(wanted) = test {
            let (mut numbers, mut labels) = (Vec::new(), Vec::new());
            for class in wanted.iter().flat_map(taxonomy::descendants) {
                match class.packed() {
                    Some(number) => numbers.push(number),
                    None => labels.push(class),
                }
            }
            numbers.sort_unstable();
            return Self::Under(numbers, labels);
        }
        let Some((several, operands)) = members(test) else {
            return Self::Always(*test == Test::Exists);
        };
        let classes = |value: &Value| value.words().filter_map(|word| word.parse().ok()).collect();
        Self::Members(several, operands.iter().map(classes).collect())
    }

    fn answer(&self, digest: &Digest) -> Answer {
        let declared = &digest.classes;
        if declared.is_empty() {
            return Answer::Not;
        }
        let has = |any: &Vec<ClassId>| any.iter().any(|class| declared.contains(class));
        let (met, settled_by) = match self {
            Self::Under(numbers, labels) => {
                let is = |class: &ClassId| match class.packed() {
                    Some(number) => numbers.binary_search(&number).is_ok(),
                    None => labels.contains(class),
                };
                (declared.iter().any(is), true)
            }
            Self::Members(Several::Any, operands) => (operands.iter().any(has), true),
            Self::Members(Several::All, operands) => (operands.iter().all(has), true),
            Self::Members(Several::NotOne, operands) => (!operands.iter().any(has), false),
            Self::Always(met) => (*met, true),
        };
        // What some classes show, further ones do not undo, except that all of them are others than the one asked for.
        if met != settled_by && digest.may_have_more_classes() {
            Answer::Unknown
        } else if met {
            Answer::Met
        } else {
            Answer::Not
        }
    }
}

/// The operands of a test on members, and how many of them it is about.
fn members(test: &Test) -> Option<(Several, &[Value])> {
    match test {
        Test::Eq(value) => Some((Several::Any, std::slice::from_ref(value))),
        Test::Ne(value) => Some((Several::NotOne, std::slice::from_ref(value))),
        Test::Any(values) => Some((Several::Any, values)),
        Test::All(values) => Some((Several::All, values)),
        Test::Under(_)
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
        | Test::Interface(_) => None,
    }
}

impl Tags {
    fn of(test: &Test) -> Option<Self> {
        let (several, operands) =
            members(test).filter(|(several, _)| *several != Several::NotOne)?;
        let filter = |value: &Value| {
            let mut filter = Bloom::default();
            value.words().for_each(|tag| filter.insert(&keys::tag_word(tag)));
            filter
        };
        Some(Self(several, operands.iter().map(filter).collect()))
    }

    fn are_missing(&self, terms: &Bloom) -> bool {
        let Self(several, operands) = self;
        let possible = |operand: &Bloom| terms.includes(operand);
        match several {
            Several::Any => !operands.iter().any(possible),
            Several::All => !operands.iter().all(possible),
            Several::NotOne => false,
        }
    }
}

impl Words {
    fn of(test: &Test) -> Self {
        let Some((several, operands)) = members(test) else { return Self::Whatever };
        let bits: Vec<u64> = operands
            .iter()
            .map(|value| value.words().map(word_bit).fold(0, |all, bit| all | bit))
            .collect();
        match several {
            Several::Any => Self::OneOf(bits),
            Several::All => Self::OneOf(vec![bits.into_iter().fold(0, |all, bit| all | bit)]),
            Several::NotOne => Self::Whatever,
        }
    }

    fn may_be_in(&self, filter: u64) -> bool {
        match self {
            Self::Whatever => true,
            Self::OneOf(bits) => bits.iter().any(|bits| filter & bits == *bits),
        }
    }
}
