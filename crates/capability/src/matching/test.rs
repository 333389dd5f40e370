//! One condition on one declaration.

use std::collections::BTreeSet;

use super::subject::{Declaration, Subject};
use super::{EVIDENCE_CHARS_MAX, Verdict};
use crate::attribute::{Value, ValueKind};
use crate::query::{CLASS, Condition, INTERFACE, TAGS, Test, digest_text};
use crate::taxonomy::{self, ClassId};

/// What `condition` comes to on `subject`.
pub(super) fn judge<'a>(condition: &Condition, subject: Subject<'a>) -> Judgement<'a> {
    match condition.key() {
        CLASS => on_classes(condition.test(), subject),
        TAGS => subject.on_tags(condition.test()),
        INTERFACE => on_interface(condition.test(), subject),
        key => match subject.attribute(key) {
            Declaration::Value(value) => said(holds(condition.test(), value), Shown::Value(value)),
            Declaration::Absent => Judgement::Undeclared,
            Declaration::Dropped => Judgement::Unknown,
        },
    }
}

fn on_classes<'a>(test: &Test, subject: Subject<'a>) -> Judgement<'a> {
    let classes = subject.classes();
    if classes.is_empty() {
        return Judgement::Undeclared;
    }
    let is = |value: &Value| {
        value
            .elements()
            .iter()
            .any(|wanted| classes.iter().any(|class| class.to_string() == *wanted))
    };
    let met = if let Test::Under(wanted) = test {
        classes.iter().any(|class| wanted.iter().any(|above| taxonomy::is_under(class, above)))
    } else {
        on_members(test, is).unwrap_or(false)
    };
    // What some classes show, further ones do not undo, except that all of them are others than the one asked for.
    let settled = met != matches!(test, Test::Ne(_));
    if !settled && subject.may_have_more_classes() {
        Judgement::Unknown
    } else {
        said(met, Shown::Classes(classes))
    }
}

fn on_interface<'a>(test: &Test, subject: Subject<'a>) -> Judgement<'a> {
    let declared = subject.interface();
    let met =
        matches!(test, Test::Interface(wanted) if *wanted == declared) || *test == Test::Exists;
    said(met, Shown::Interface(declared))
}

/// A test on members, given which members there are; `None` for a test of another sort.
pub(super) fn on_members(test: &Test, has: impl Fn(&Value) -> bool) -> Option<bool> {
    match test {
        Test::Eq(value) => Some(has(value)),
        Test::Ne(value) => Some(!has(value)),
        Test::Any(values) => Some(values.iter().any(has)),
        Test::All(values) => Some(values.iter().all(has)),
        Test::Exists => Some(true),
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
        | Test::Interface(_) => None,
    }
}

/// Whether a whole declared value is as asked. A value of another kind than the operator compares is not.
pub(super) fn holds(test: &Test, declared: &Value) -> bool {
    let order = |wanted: &Value| declared.compare(wanted);
    match test {
        Test::Eq(_) | Test::Ne(_) | Test::Any(_) | Test::All(_) | Test::Exists => {
            on_members(test, |wanted| declared.includes(wanted)).unwrap_or(false)
        }
        Test::Lt(wanted) => order(wanted).is_some_and(|o| o.is_lt()),
        Test::Lte(wanted) | Test::FinerOrEqual(wanted) => order(wanted).is_some_and(|o| o.is_le()),
        Test::Gt(wanted) => order(wanted).is_some_and(|o| o.is_gt()),
        Test::Gte(wanted) => order(wanted).is_some_and(|o| o.is_ge()),
        Test::Between(low, high) => {
            order(low).is_some_and(|o| o.is_ge()) && order(high).is_some_and(|o| o.is_le())
        }
        Test::Covers(wanted) => extents(declared, wanted, |a, b| a.covers(b), |a, b| a.contains(b)),
        Test::Overlaps(wanted) => {
            extents(declared, wanted, |a, b| a.overlaps(b), |a, b| a.overlaps(b))
        }
        Test::Within(wanted) => extents(declared, wanted, |a, b| a.within(b), |a, b| b.contains(a)),
        Test::Near(near) => {
            matches!(declared, Value::Geo(place) if place.distance_m(&near.place) <= f64::from(near.radius_m))
        }
        Test::Semver(requirement) => {
            matches!(declared, Value::Semver(version) if requirement.matches(version))
        }
        // Only classes and interfaces have these, and they are not attributes.
        Test::Under(_) | Test::Interface(_) => false,
    }
}

fn extents(
    declared: &Value,
    wanted: &Value,
    in_time: fn(&crate::attribute::Interval, &crate::attribute::Interval) -> bool,
    in_space: fn(&crate::attribute::Geo, &crate::attribute::Geo) -> bool,
) -> bool {
    match (declared, wanted) {
        (Value::Geo(declared), Value::Geo(wanted)) => in_space(declared, wanted),
        (declared, wanted) => match (declared.interval(), wanted.interval()) {
            (Some(declared), Some(wanted)) => in_time(&declared, &wanted),
            _ => false,
        },
    }
}

/// What a condition comes to, before anybody puts it in words: a shard judges a thousand digests and words a few.
pub(super) enum Judgement<'a> {
    Met(Shown<'a>),
    Unmet(Shown<'a>),
    Undeclared,
    Unknown,
}

/// A declared thing that evidence can show.
pub(super) enum Shown<'a> {
    Value(&'a Value),
    Classes(&'a [ClassId]),
    Tags(&'a BTreeSet<String>),
    /// Tags that are only known not to be the ones asked for.
    OtherTags,
    Interface([u8; 32]),
    Name(&'a str),
}

impl Judgement<'_> {
    pub(super) fn verdict(&self) -> Verdict {
        match self {
            Self::Met(shown) => Verdict::Met { declared: shown.text() },
            Self::Unmet(shown) => Verdict::Unmet { declared: shown.text() },
            Self::Undeclared => Verdict::Undeclared,
            Self::Unknown => Verdict::Unknown,
        }
    }
}

pub(super) fn said(met: bool, shown: Shown<'_>) -> Judgement<'_> {
    if met { Judgement::Met(shown) } else { Judgement::Unmet(shown) }
}

impl Shown<'_> {
    fn text(&self) -> String {
        match self {
            Self::Value(value) => show(value),
            Self::Classes(classes) => show_classes(classes),
            Self::Tags(tags) => {
                shortened(&tags.iter().map(String::as_str).collect::<Vec<_>>().join(", "))
            }
            Self::OtherTags => "other tags or none".into(),
            Self::Interface(digest) => digest_text(digest),
            Self::Name(name) => shortened(name),
        }
    }
}

/// A declared value as evidence repeats it.
fn show(value: &Value) -> String {
    let text = value.to_string();
    let text = if value.kind() == ValueKind::Interval && !text.contains("..") {
        text.replace('/', "..")
    } else {
        text
    };
    shortened(&text)
}

/// Classes by the last part of their path, with the identifier.
fn show_classes(classes: &[ClassId]) -> String {
    let named = classes.iter().map(|id| {
        taxonomy::by_id(id).map_or_else(|| id.to_string(), |class| format!("{} ({id})", class.path))
    });
    shortened(&named.collect::<Vec<_>>().join(", "))
}

/// Cut to [`EVIDENCE_CHARS_MAX`].
fn shortened(text: &str) -> String {
    match text.char_indices().nth(EVIDENCE_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
