//! Three-valued evaluation of a query on a digest or a capability.
//!
//! A declared value meets a condition or does not; an undeclared one fails a hard condition and earns nothing on a soft one, and the
//! evidence says which of the two it was. A digest is a summary: what was left out of it is [`Verdict::Unknown`], and the asker settles it on
//! the full record. Whatever is decided on a digest is decided the same way on the record behind it.

mod compiled;
mod points;
mod shard;
pub(crate) mod subject;
mod test;

use std::fmt;

use crate::query::{Condition, Query};
use crate::record::{Capability, Digest};

pub use points::POINTS_MAX;
pub use shard::{Found, NearMiss, RESULTS_PER_AGENT, ShardAnswer, ShardLimits, evaluate_shard};
use subject::Subject;
use test::Judgement;

/// Longest declared value repeated in evidence, in characters.
pub const EVIDENCE_CHARS_MAX: usize = 120;

/// What became of one condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The declared value is as asked.
    Met {
        /// The declared value, for people.
        declared: String,
    },
    /// The declared value is another.
    Unmet {
        /// The declared value, for people.
        declared: String,
    },
    /// Nothing is declared.
    Undeclared,
    /// The digest does not say; the record does.
    Unknown,
}

impl Verdict {
    /// The verdict's name in JSON.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Met { .. } => "met",
            Self::Unmet { .. } => "unmet",
            Self::Undeclared => "undeclared",
            Self::Unknown => "unknown",
        }
    }
}

/// What part a condition plays in a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// It must hold.
    Required,
    /// It ranks.
    Preferred,
    /// It must not hold.
    Excluded,
}

/// One condition and its verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The condition in the text form.
    pub wanted: String,
    /// Full name of the key.
    pub key: String,
    /// The part it plays.
    pub part: Part,
    /// What became of it.
    pub verdict: Verdict,
}

impl Outcome {
    /// Whether this outcome alone refuses the candidate.
    pub fn refuses(&self) -> bool {
        match (self.part, &self.verdict) {
            (Part::Required, Verdict::Unmet { .. } | Verdict::Undeclared)
            | (Part::Excluded, Verdict::Met { .. }) => true,
            (Part::Required | Part::Excluded, _) | (Part::Preferred, _) => false,
        }
    }

    /// Whether the record is needed to tell if this outcome refuses the candidate.
    pub fn is_open(&self) -> bool {
        self.verdict == Verdict::Unknown && self.part != Part::Preferred
    }
}

impl fmt::Display for Outcome {
    /// Evidence for people: `time covers 2021-01-01..2024-12-31: declared 2015-01-02..2026-10-30`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.part == Part::Excluded {
            f.write_str("not ")?;
        }
        match &self.verdict {
            Verdict::Met { declared } | Verdict::Unmet { declared } => {
                write!(f, "{}: declared {declared}", self.wanted)
            }
            Verdict::Undeclared => write!(f, "{}: undeclared", self.wanted),
            Verdict::Unknown => write!(f, "{}: not in the digest, the record says", self.wanted),
        }
    }
}

/// Every condition of a query with its verdict on one candidate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evaluation {
    /// Required conditions first (the name among them), then preferred ones, then exclusions.
    pub outcomes: Vec<Outcome>,
}

impl Evaluation {
    /// Every required condition is met and no exclusion is: the candidate is an answer.
    pub fn passes(&self) -> bool {
        !self.outcomes.iter().any(|outcome| outcome.refuses() || outcome.is_open())
    }

    /// Nothing refuses the candidate, but the digest leaves something open: fetch the record and evaluate that.
    pub fn is_open(&self) -> bool {
        !self.refused() && self.outcomes.iter().any(Outcome::is_open)
    }

    /// The candidate is no answer, whatever the record adds.
    pub fn refused(&self) -> bool {
        self.outcomes.iter().any(Outcome::refuses)
    }

    /// The outcomes that refuse the candidate.
    pub fn failed(&self) -> impl Iterator<Item = &Outcome> {
        self.outcomes.iter().filter(|outcome| outcome.refuses())
    }

    /// Preferences: how many are met, and how many there are.
    pub fn preferences(&self) -> (usize, usize) {
        let preferred = || self.outcomes.iter().filter(|outcome| outcome.part == Part::Preferred);
        (
            preferred().filter(|outcome| matches!(outcome.verdict, Verdict::Met { .. })).count(),
            preferred().count(),
        )
    }

    /// One line per outcome, for people.
    pub fn evidence(&self) -> Vec<String> {
        self.outcomes
            .iter()
            .map(|outcome| format!("{}: {outcome}", outcome.verdict.name()))
            .collect()
    }
}

/// Evaluates `query` on what an index holds of a capability.
pub fn evaluate(query: &Query, digest: &Digest) -> Evaluation {
    evaluate_subject(query, Subject::Digest(digest))
}

/// Evaluates `query` on a full declaration. Nothing is [`Verdict::Unknown`].
pub fn evaluate_capability(query: &Query, capability: &Capability) -> Evaluation {
    evaluate_subject(query, Subject::Capability(capability))
}

fn evaluate_subject(query: &Query, subject: Subject<'_>) -> Evaluation {
    let outcome = |(asked, judgement): (Asked<'_>, Judgement<'_>)| Outcome {
        wanted: asked.wanted(),
        key: asked.key().into(),
        part: asked.part(),
        verdict: judgement.verdict(),
    };
    Evaluation { outcomes: judge(query, subject).map(outcome).collect() }
}

/// One thing that a query asks.
#[derive(Clone, Copy)]
enum Asked<'q> {
    Name(&'q str),
    Condition(Part, &'q Condition),
}

impl<'q> Asked<'q> {
    fn part(self) -> Part {
        match self {
            Self::Name(_) => Part::Required,
            Self::Condition(part, _) => part,
        }
    }

    fn key(self) -> &'q str {
        match self {
            Self::Name(_) => "name",
            Self::Condition(_, condition) => condition.key(),
        }
    }

    fn wanted(self) -> String {
        match self {
            Self::Name(name) => format!("named {name}"),
            Self::Condition(_, condition) => condition.to_string(),
        }
    }
}

/// Everything that `query` asks, judged on `subject`.
fn judge<'q, 's>(
    query: &'q Query,
    subject: Subject<'s>,
) -> impl Iterator<Item = (Asked<'q>, Judgement<'s>)> {
    let part = |c: &Condition| if c.is_soft() { Part::Preferred } else { Part::Required };
    let conditions = query.conditions().iter().map(move |c| Asked::Condition(part(c), c));
    let exclusions = query.exclude().iter().map(|c| Asked::Condition(Part::Excluded, c));
    let asked = query.name().map(Asked::Name).into_iter().chain(conditions).chain(exclusions);
    asked.map(move |asked| {
        let judgement = match asked {
            Asked::Name(name) => subject.named(name),
            Asked::Condition(_, condition) => test::judge(condition, subject),
        };
        (asked, judgement)
    })
}
