//! The abstract form of a query.

use super::{
    BUDGET_KB_MAX, BUDGET_MS_MAX, CONDITIONS_MAX, K_DEFAULT, K_MAX, NAME_BYTES_MAX, PROBE_MAX,
    QueryError, TEXT_BYTES_MAX, TEXT_FORM_BYTES_MAX, WIRE_BYTES_MAX, wire,
};
use crate::attribute::{Geo, Value};
use crate::taxonomy::ClassId;
use crate::text::clean;

/// A question for capabilities, within the bounds of this module. Built from text, JSON or wire bytes, or from a [`Draft`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    draft: Draft,
}

/// The parts of a query, unchecked. [`Draft::finish`] makes it a [`Query`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// Free text, for relevance and rare-term keys. Cleaned of invisible characters ([`crate::record::clean`]).
    pub text: Option<String>,
    /// Capability name that must be equal, `[a-z0-9-._]{1,64}`.
    pub name: Option<String>,
    /// What must hold, and what is preferred ([`Condition::is_soft`]).
    pub conditions: Vec<Condition>,
    /// What must not hold. An undeclared or unknown attribute excludes nobody.
    pub exclude: Vec<Condition>,
    /// How to weigh the parts of the score.
    pub rank: RankProfile,
    /// How many results, 1..=[`super::K_MAX`].
    pub k: u32,
    /// How many of them to probe before answering, 0..=[`super::PROBE_MAX`].
    pub probe: u32,
    /// What the search may cost.
    pub budget: Budget,
    /// Whether results carry their evidence.
    pub evidence: bool,
}

impl Default for Draft {
    fn default() -> Self {
        Self {
            text: None,
            name: None,
            conditions: Vec::new(),
            exclude: Vec::new(),
            rank: RankProfile::Balanced,
            k: K_DEFAULT,
            probe: 0,
            budget: Budget::default(),
            evidence: false,
        }
    }
}

/// What a search may cost before it answers with what it has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    /// Milliseconds.
    pub ms: Option<u32>,
    /// Kilobytes of 1,000 bytes, both ways.
    pub kb: Option<u32>,
}

/// A named set of ranking weights; the numbers are in [`crate::rank::Weights::of`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum RankProfile {
    /// Relevance first, then measured quality, trust and price.
    #[default]
    Balanced,
    /// Price counts most among the relevant.
    Cheapest,
    /// Measured latency and success count most among the relevant.
    Fastest,
    /// Receipts count most among the relevant.
    Trusted,
}

impl RankProfile {
    /// Every profile, in the order of their wire codes.
    pub const ALL: [Self; 4] = [Self::Balanced, Self::Cheapest, Self::Fastest, Self::Trusted];

    /// The profile's name in text and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Balanced => "balanced",
            Self::Cheapest => "cheapest",
            Self::Fastest => "fastest",
            Self::Trusted => "trusted",
        }
    }

    /// The profile of that name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|profile| profile.name().eq_ignore_ascii_case(name))
    }
}

/// One condition: a key, a test of its declared value, and whether it filters (hard) or ranks (soft).
///
/// Made by [`Condition::new`], which resolves aliases and normalises values, so that a condition that exists can be evaluated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    pub(super) key: String,
    pub(super) test: Test,
    pub(super) soft: bool,
}

impl Condition {
    /// The key, by its full name: `class`, `tags`, `interface`, or an attribute such as `fin:pair`.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// What is asked of the declared value.
    pub fn test(&self) -> &Test {
        &self.test
    }

    /// True when the condition ranks instead of filtering.
    pub fn is_soft(&self) -> bool {
        self.soft
    }

    /// How many values the declared one is compared with; a measure of work.
    pub fn operands(&self) -> usize {
        match &self.test {
            Test::Any(values) | Test::All(values) => values.len(),
            Test::Under(classes) => classes.len(),
            Test::Between(..) => 2,
            Test::Eq(_)
            | Test::Ne(_)
            | Test::Lt(_)
            | Test::Lte(_)
            | Test::Gt(_)
            | Test::Gte(_)
            | Test::Covers(_)
            | Test::Overlaps(_)
            | Test::Within(_)
            | Test::FinerOrEqual(_)
            | Test::Near(_)
            | Test::Semver(_)
            | Test::Exists
            | Test::Interface(_) => 1,
        }
    }

    /// The same condition as a preference (`true`) or a requirement (`false`).
    #[must_use]
    pub fn soft(self, soft: bool) -> Self {
        Self { soft, ..self }
    }
}

/// What a condition asks of the declared value.
///
/// On keys that hold several values (sets, classes, tags), operands are single members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Test {
    /// The declared value is this one; of a set: contains it.
    Eq(Value),
    /// The declared value is another one; of a set: does not contain it.
    Ne(Value),
    /// The declared value is one of these; of a set: contains at least one.
    Any(Vec<Value>),
    /// Of a set: contains all of these.
    All(Vec<Value>),
    /// A declared class lies in the subtree of one of these, the class itself included.
    Under(Vec<ClassId>),
    /// Less than.
    Lt(Value),
    /// Less or equal.
    Lte(Value),
    /// Greater than.
    Gt(Value),
    /// Greater or equal.
    Gte(Value),
    /// Between the two, both included.
    Between(Value, Value),
    /// The declared interval or area contains this one.
    Covers(Value),
    /// The declared interval or area has something in common with this one.
    Overlaps(Value),
    /// The declared interval or area lies in this one.
    Within(Value),
    /// The declared duration is this one or shorter, as a resolution is.
    FinerOrEqual(Value),
    /// The declared area comes within a distance of a point.
    Near(Near),
    /// The declared version satisfies a requirement.
    Semver(semver::VersionReq),
    /// The attribute is declared, whatever its value.
    Exists,
    /// The declared interface has this digest.
    Interface([u8; 32]),
}

/// A place and a distance from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Near {
    /// The centre: a point, or an area.
    pub place: Geo,
    /// Great-circle distance in metres from the nearest point of the centre.
    pub radius_m: u32,
}

impl Draft {
    /// Checks the bounds and brings the parts in their one order.
    ///
    /// # Errors
    /// [`QueryError::Empty`] when nothing is asked, [`QueryError::Bound`] when a bound of the language is exceeded.
    pub fn finish(mut self) -> Result<Query, QueryError> {
        self.text =
            self.text.map(|text| clean(&text, TEXT_FORM_BYTES_MAX)).filter(|text| !text.is_empty());
        order(&mut self.conditions);
        order(&mut self.exclude);
        // An exclusion either holds or not: it has no soft form.
        if self.exclude.iter().any(Condition::is_soft) {
            self.exclude = self.exclude.into_iter().map(|c| c.soft(false)).collect();
            order(&mut self.exclude);
        }
        let bound = |bound, what, max: usize, got: usize| {
            if got > max { Err(QueryError::Bound { bound, what, max, got }) } else { Ok(()) }
        };
        bound(
            "TEXT_BYTES_MAX",
            "bytes of free text",
            TEXT_BYTES_MAX,
            self.text.as_deref().map_or(0, str::len),
        )?;
        bound(
            "CONDITIONS_MAX",
            "conditions",
            CONDITIONS_MAX,
            self.conditions.len() + self.exclude.len(),
        )?;
        bound("K_MAX", "results asked for", K_MAX as usize, self.k as usize)?;
        bound("PROBE_MAX", "probes asked for", PROBE_MAX as usize, self.probe as usize)?;
        bound(
            "BUDGET_MS_MAX",
            "milliseconds of budget",
            BUDGET_MS_MAX as usize,
            self.budget.ms.unwrap_or(0) as usize,
        )?;
        bound(
            "BUDGET_KB_MAX",
            "kilobytes of budget",
            BUDGET_KB_MAX as usize,
            self.budget.kb.unwrap_or(0) as usize,
        )?;
        self.k = self.k.max(1);
        if let Some(name) = &self.name {
            check_name(name)?;
        }
        if self.text.is_none() && self.name.is_none() && !self.conditions.iter().any(|c| !c.soft) {
            return Err(QueryError::Empty);
        }
        let query = Query { draft: self };
        let length = wire::encode(&query).len();
        bound("WIRE_BYTES_MAX", "bytes on the wire", WIRE_BYTES_MAX, length)?;
        Ok(query)
    }
}

impl Query {
    /// The free text.
    pub fn text(&self) -> Option<&str> {
        self.draft.text.as_deref()
    }

    /// The capability name asked for.
    pub fn name(&self) -> Option<&str> {
        self.draft.name.as_deref()
    }

    /// Hard conditions first, then soft ones; each by key.
    pub fn conditions(&self) -> &[Condition] {
        &self.draft.conditions
    }

    /// What must not hold.
    pub fn exclude(&self) -> &[Condition] {
        &self.draft.exclude
    }

    /// The weights to rank with.
    pub fn rank(&self) -> RankProfile {
        self.draft.rank
    }

    /// How many results.
    pub fn k(&self) -> u32 {
        self.draft.k
    }

    /// How many results to probe.
    pub fn probe(&self) -> u32 {
        self.draft.probe
    }

    /// What the search may cost.
    pub fn budget(&self) -> Budget {
        self.draft.budget
    }

    /// Whether results carry their evidence.
    pub fn evidence(&self) -> bool {
        self.draft.evidence
    }

    /// The parts, to change some and [`Draft::finish`] again.
    pub fn into_draft(self) -> Draft {
        self.draft
    }
}

/// Brings conditions in their one order and drops repetitions.
fn order(conditions: &mut Vec<Condition>) {
    let mut keyed: Vec<_> = conditions
        .drain(..)
        .map(|c| ((c.soft, c.key != "class", c.key.clone(), wire::encode_condition(&c)), c))
        .collect();
    keyed.sort_by(|a, b| a.0.cmp(&b.0));
    keyed.dedup_by(|a, b| a.0 == b.0);
    conditions.extend(keyed.into_iter().map(|(_, c)| c));
}

/// Accepts the names that records accept.
fn check_name(name: &str) -> Result<(), QueryError> {
    let legal = name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_'));
    if legal && (1..=NAME_BYTES_MAX).contains(&name.len()) {
        return Ok(());
    }
    Err(QueryError::Value {
        key: "name".into(),
        given: super::error::quote(name),
        kind: "a capability name".into(),
        why: format!("it has 1 to {NAME_BYTES_MAX} characters out of a-z, 0-9, '-', '.' and '_'"),
        example: "named fx-history".into(),
    })
}
