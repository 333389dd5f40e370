//! The text form, written so that [`Query::parse_text`] gives the query back.

use std::fmt;

use serde_json::Value as Json;

use super::K_DEFAULT;
use super::ast::{Condition, Query, RankProfile, Test};
use super::build::{self, CLASS, Kind, Op};
use super::lexer::{ends_word, in_quotes};
use super::text::bare;
use crate::attribute::{Money, ValueKind};
use crate::profile;

impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("find")?;
        if let Some(text) = self.text() {
            write!(f, " {}", in_quotes(text))?;
        }
        if let Some(name) = self.name() {
            write!(f, " named {name}")?;
        }
        let (soft, hard): (Vec<&Condition>, Vec<&Condition>) =
            self.conditions().iter().partition(|c| c.soft);
        let (clauses, hard): (Vec<&Condition>, Vec<&Condition>) =
            hard.into_iter().partition(|c| own_clause(c));
        for condition in clauses {
            let word =
                if matches!(condition.test, Test::Interface(_)) { "interface" } else { "under" };
            write!(f, " {word} {}", list(condition))?;
        }
        for (word, between, conditions) in [
            ("where", " and ", hard),
            ("prefer", ", ", soft),
            ("exclude", ", ", self.exclude().iter().collect()),
        ] {
            for (index, condition) in conditions.into_iter().enumerate() {
                if index == 0 {
                    write!(f, " {word} {condition}")?;
                } else {
                    write!(f, "{between}{condition}")?;
                }
            }
        }
        if self.rank() != RankProfile::default() {
            write!(f, " rank {}", self.rank().name())?;
        }
        if self.k() != K_DEFAULT {
            write!(f, " top {}", self.k())?;
        }
        if self.probe() != 0 {
            write!(f, " probe {}", self.probe())?;
        }
        let budget = self.budget();
        if budget.ms.is_some() || budget.kb.is_some() {
            f.write_str(" budget")?;
        }
        if let Some(ms) = budget.ms {
            write!(f, " {ms}ms")?;
        }
        if let Some(kb) = budget.kb {
            write!(f, " {kb}kb")?;
        }
        if self.evidence() {
            f.write_str(" with evidence")?;
        }
        Ok(())
    }
}

/// Whether a hard condition is written as a clause of its own.
fn own_clause(condition: &Condition) -> bool {
    matches!(
        (condition.key.as_str(), &condition.test),
        (CLASS, Test::Under(_)) | (_, Test::Interface(_))
    )
}

impl fmt::Display for Condition {
    /// The condition as it stands after `where`, by the key's shortest name: `time covers 2021-01-01/2024-12-31`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = short_name(&self.key);
        let (kind, op, raw) = build::parts(self);
        let value = |index: usize| {
            raw.values.get(index).map_or_else(String::new, |json| written(kind, json))
        };
        match op {
            Op::Eq => write!(f, "{key} = {}", value(0)),
            Op::Ne => write!(f, "{key} != {}", value(0)),
            Op::Lt => write!(f, "{key} < {}", value(0)),
            Op::Lte | Op::FinerOrEqual => write!(f, "{key} <= {}", value(0)),
            Op::Gt => write!(f, "{key} > {}", value(0)),
            Op::Gte => write!(f, "{key} >= {}", value(0)),
            Op::Any | Op::All | Op::Under => write!(f, "{key} {} ({})", op.name(), list(self)),
            Op::Between => write!(f, "{key} between {} and {}", value(0), value(1)),
            Op::Covers | Op::Overlaps | Op::Within => write!(f, "{key} {} {}", op.name(), value(0)),
            Op::Semver => write!(
                f,
                "{key} semver {}",
                raw.values.first().and_then(Json::as_str).map_or_else(String::new, in_quotes)
            ),
            Op::Near => {
                let radius = raw.radius_m.unwrap_or(0);
                let (number, unit) =
                    if radius % 1000 == 0 { (radius / 1000, "km") } else { (radius, "m") };
                write!(f, "{key} near {} {number}{unit}", value(0))
            }
            Op::Exists => write!(f, "{key} exists"),
            Op::Interface => write!(f, "{key} = {}", value(0)),
        }
    }
}

/// The operands, separated by commas.
fn list(condition: &Condition) -> String {
    let (kind, _, raw) = build::parts(condition);
    raw.values.iter().map(|json| written(kind, json)).collect::<Vec<_>>().join(", ")
}

/// The shortest name that leads back to the key.
pub(super) fn short_name(key: &str) -> &str {
    let Some(spec) = profile::lookup(key) else { return key };
    let leads_back =
        |alias: &&&str| profile::lookup(alias).is_some_and(|found| found.key == spec.key);
    // A bare word is all that a key can be without quotes; profiles use nothing else.
    spec.aliases
        .iter()
        .filter(leads_back)
        .find(|alias| !alias.chars().any(ends_word))
        .copied()
        .unwrap_or(spec.key)
}

/// An operand as it is written after its operator.
fn written(kind: Kind, json: &Json) -> String {
    let Json::String(text) = json else { return json.to_string() };
    let plain = !text.is_empty() && !text.chars().any(|c| ends_word(c) || c == '!');
    let is_amount = |text: &str| {
        text.parse::<Money>().is_ok_and(|money| {
            money.to_string() == text && !["AND", "TOP"].contains(&money.currency.as_str())
        })
    };
    let text = if kind == Kind::Known(ValueKind::Interval) && !text.contains("..") {
        &text.replace('/', "..")
    } else {
        text
    };
    let bare_ok = match kind {
        Kind::Unknown => plain && bare(text) == *json,
        Kind::Known(ValueKind::Money) => is_amount(text),
        Kind::Known(_) | Kind::Class | Kind::Tags | Kind::Interface => plain,
    };
    if bare_ok { text.clone() } else { in_quotes(text) }
}
