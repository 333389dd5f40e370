//! Conditions from a key, an operator and raw values: the one place where both spellings meet the profiles.

use serde_json::Value as Json;

use super::ast::{Condition, Near, Test};
use super::display::short_name;
use super::error::{QueryError, quote};
use super::{KEY_BYTES_MAX, TEXT_BYTES_MAX, VALUES_MAX};
use crate::attribute::{Value, ValueError, ValueKind};
use crate::profile::{self, ProfileError};
use crate::taxonomy::{self, ClassId};
use crate::text::{MAX_TAG, clean};

/// The key of a capability's classes.
pub(crate) const CLASS: &str = "class";
/// The key of a capability's tags.
pub(crate) const TAGS: &str = "tags";
/// The key of a capability's interface digest.
pub(crate) const INTERFACE: &str = "interface";

/// The operators, by their names in the JSON form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Op {
    Eq,
    Ne,
    Any,
    All,
    Under,
    Lt,
    Lte,
    Gt,
    Gte,
    Between,
    Covers,
    Overlaps,
    Within,
    FinerOrEqual,
    Near,
    Semver,
    Exists,
    Interface,
}

impl Op {
    pub(super) const ALL: [Self; 18] = [
        Self::Eq,
        Self::Ne,
        Self::Any,
        Self::All,
        Self::Under,
        Self::Lt,
        Self::Lte,
        Self::Gt,
        Self::Gte,
        Self::Between,
        Self::Covers,
        Self::Overlaps,
        Self::Within,
        Self::FinerOrEqual,
        Self::Near,
        Self::Semver,
        Self::Exists,
        Self::Interface,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Eq => "eq",
            Self::Ne => "ne",
            Self::Any => "any",
            Self::All => "all",
            Self::Under => "under",
            Self::Lt => "lt",
            Self::Lte => "lte",
            Self::Gt => "gt",
            Self::Gte => "gte",
            Self::Between => "between",
            Self::Covers => "covers",
            Self::Overlaps => "overlaps",
            Self::Within => "within",
            Self::FinerOrEqual => "finer_or_equal",
            Self::Near => "near",
            Self::Semver => "semver",
            Self::Exists => "exists",
            Self::Interface => "interface",
        }
    }

    pub(super) fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|op| op.name() == name)
    }
}

/// What a key holds, as far as the language cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Class,
    Tags,
    Interface,
    Known(ValueKind),
    Unknown,
}

impl Kind {
    /// The kind with its article.
    pub(super) fn describe(self) -> String {
        match self {
            Self::Class => "a class".into(),
            Self::Tags => "a set of tags".into(),
            Self::Interface => "an interface digest".into(),
            Self::Known(kind) => {
                let name = kind.to_string();
                let article = if name.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
                format!("{article} {name}")
            }
            Self::Unknown => "a text, number or boolean (no profile knows the key)".into(),
        }
    }

    /// The operators this kind has.
    pub(super) fn operators(self) -> &'static [Op] {
        use Op::{
            All, Any, Between, Covers, Eq, Exists, FinerOrEqual, Gt, Gte, Interface, Lt, Lte, Ne,
            Near, Overlaps, Semver, Under, Within,
        };
        match self {
            Self::Class => &[Under, Eq, Ne, Any, All, Exists],
            Self::Tags | Self::Known(ValueKind::Set) => &[Eq, Ne, Any, All, Exists],
            Self::Interface => &[Interface, Exists],
            Self::Unknown => &[Eq, Ne, Any, All, Exists],
            Self::Known(kind) => match kind {
                ValueKind::Bool
                | ValueKind::Enum
                | ValueKind::Text
                | ValueKind::Bytes32
                | ValueKind::Set => &[Eq, Ne, Any, Exists],
                ValueKind::Int | ValueKind::Dec | ValueKind::Money => {
                    &[Eq, Ne, Any, Lt, Lte, Gt, Gte, Between, Exists]
                }
                ValueKind::Time => &[Eq, Ne, Any, Lt, Lte, Gt, Gte, Between, Within, Exists],
                ValueKind::Duration => {
                    &[FinerOrEqual, Eq, Ne, Any, Lt, Lte, Gt, Gte, Between, Exists]
                }
                ValueKind::Semver => &[Semver, Eq, Ne, Any, Lt, Lte, Gt, Gte, Between, Exists],
                ValueKind::Interval => &[Covers, Overlaps, Within, Eq, Ne, Any, Exists],
                ValueKind::Geo => &[Near, Covers, Overlaps, Within, Eq, Ne, Any, Exists],
            },
        }
    }

    /// A correct condition on `key`, in the text form.
    pub(super) fn example(self, key: &str) -> String {
        match self {
            Self::Class => "class under finance".into(),
            Self::Tags => "tags any (fx, ohlc)".into(),
            Self::Interface => "interface sha256:0f… (64 hexadecimal digits)".into(),
            Self::Unknown => format!("{key} = value"),
            Self::Known(kind) => match kind {
                ValueKind::Bool => format!("{key} = true"),
                ValueKind::Int => format!("{key} >= 1000"),
                ValueKind::Dec => format!("{key} >= 0.99"),
                ValueKind::Enum | ValueKind::Text => format!("{key} = word"),
                ValueKind::Set if key == "pair" => "pair = EUR/USD".into(),
                ValueKind::Set => format!("{key} any (one, two)"),
                ValueKind::Time => format!("{key} >= 2024-01-31"),
                ValueKind::Interval => format!("{key} covers 2021..2024"),
                ValueKind::Duration => format!("{key} <= 1d"),
                ValueKind::Geo => format!("{key} near \"52.52,13.405\" 50km"),
                ValueKind::Money => format!("{key} < 0.001 USD"),
                ValueKind::Semver => format!("{key} semver \"^1.2\""),
                ValueKind::Bytes32 => format!("{key} = 0f… (64 hexadecimal digits)"),
            },
        }
    }
}

/// The full name of a key and what it holds.
pub(super) fn resolve(name: &str) -> Result<(String, Kind), QueryError> {
    let name = name.trim();
    let bare = name.trim_start_matches("data.");
    match bare.to_ascii_lowercase().as_str() {
        "class" | "classes" => return Ok((CLASS.into(), Kind::Class)),
        "tag" | "tags" => return Ok((TAGS.into(), Kind::Tags)),
        "interface" => return Ok((INTERFACE.into(), Kind::Interface)),
        _ => {}
    }
    if let Some(spec) = profile::lookup(bare) {
        return Ok((spec.key.into(), Kind::Known(spec.kind)));
    }
    if bare.len() > KEY_BYTES_MAX {
        return Err(QueryError::Bound {
            bound: "KEY_BYTES_MAX",
            what: "bytes in one key",
            max: KEY_BYTES_MAX,
            got: bare.len(),
        });
    }
    match profile::canonical_key(bare) {
        Ok(key) => Ok((key, Kind::Unknown)),
        Err(error) => Err(QueryError::Value {
            key: quote(name),
            given: quote(name),
            kind: "a key".into(),
            why: error.to_string(),
            example: "where pair = EUR/USD".into(),
        }),
    }
}

/// Operands as they are written, before the profile has seen them.
#[derive(Clone, Debug, Default)]
pub(super) struct Raw {
    /// The values, each a JSON string, number, boolean, or for a few kinds an object.
    pub(super) values: Vec<Json>,
    /// Distance of `near`, in metres.
    pub(super) radius_m: Option<u32>,
}

impl Condition {
    /// A condition on `key` (full name or alias) with the operator of that JSON name, such as `eq` or `covers`, and its operands as JSON.
    /// `near` takes two: the place and the radius in metres.
    ///
    /// # Errors
    /// [`QueryError::Operator`] when the key's type has no such operator, [`QueryError::Value`] when an operand does not fit.
    pub fn new(key: &str, operator: &str, operands: &[Json]) -> Result<Self, QueryError> {
        let (full, kind) = resolve(key)?;
        let Some(op) = Op::by_name(operator) else {
            return Err(wrong_operator(&full, kind, operator));
        };
        let mut raw = Raw { values: operands.to_vec(), radius_m: None };
        if op == Op::Near && operands.len() == 2 {
            raw.radius_m = operands[1].as_u64().and_then(|n| u32::try_from(n).ok());
            raw.values.truncate(1);
        }
        condition(&full, kind, op, &raw)
    }
}

/// The condition `key op raw`, key and kind as [`resolve`] gave them. It is hard.
pub(super) fn condition(key: &str, kind: Kind, op: Op, raw: &Raw) -> Result<Condition, QueryError> {
    // An interface has one comparison, spelled `interface` in JSON and `=` by habit.
    let op = match (kind, op) {
        (Kind::Interface, Op::Eq) => Op::Interface,
        (Kind::Known(ValueKind::Duration), Op::Lte) => Op::FinerOrEqual,
        (_, op) => op,
    };
    if !kind.operators().contains(&op) {
        return Err(wrong_operator(key, kind, op.name()));
    }
    let values = &raw.values;
    if values.len() > VALUES_MAX {
        return Err(QueryError::Bound {
            bound: "VALUES_MAX",
            what: "values in one condition",
            max: VALUES_MAX,
            got: values.len(),
        });
    }
    let count_fits = match op {
        Op::Exists => values.is_empty(),
        Op::Between => values.len() == 2,
        Op::Any | Op::All | Op::Under => !values.is_empty(),
        Op::Eq
        | Op::Ne
        | Op::Lt
        | Op::Lte
        | Op::Gt
        | Op::Gte
        | Op::Covers
        | Op::Overlaps
        | Op::Within
        | Op::FinerOrEqual
        | Op::Near
        | Op::Semver
        | Op::Interface => values.len() == 1,
    };
    if !count_fits {
        return Err(wrong_value(key, kind, &Json::Array(values.clone()), arity(op)));
    }
    let one = || single(key, kind, &values[0]);
    let many = || members(key, kind, values);
    let test = match op {
        Op::Eq => match members(key, kind, values)? {
            several if several.len() > 1 => Test::All(several),
            mut single => Test::Eq(single.remove(0)),
        },
        Op::Ne => Test::Ne(one()?),
        Op::Any => Test::Any(many()?),
        Op::All => Test::All(many()?),
        Op::Under => {
            let mut classes =
                values.iter().map(|raw| class(key, raw)).collect::<Result<Vec<_>, _>>()?;
            classes.sort();
            classes.dedup();
            Test::Under(classes)
        }
        Op::Lt => Test::Lt(one()?),
        Op::Lte => Test::Lte(one()?),
        Op::Gt => Test::Gt(one()?),
        Op::Gte => Test::Gte(one()?),
        Op::Between => between(key, kind, values)?,
        Op::Covers => Test::Covers(extent(key, kind, &values[0])?),
        Op::Overlaps => Test::Overlaps(extent(key, kind, &values[0])?),
        Op::Within => Test::Within(extent(key, kind, &values[0])?),
        Op::FinerOrEqual => Test::FinerOrEqual(one()?),
        Op::Near => Test::Near(near(key, kind, raw)?),
        Op::Semver => Test::Semver(requirement(key, kind, &values[0])?),
        Op::Exists => Test::Exists,
        Op::Interface => Test::Interface(digest(key, kind, &values[0])?),
    };
    Ok(Condition { key: key.into(), test, soft: false })
}

/// How many operands an operator takes, in words.
fn arity(op: Op) -> &'static str {
    if op == Op::Exists {
        "exists takes no value"
    } else if op == Op::Between {
        "between takes two values, the lower first"
    } else if matches!(op, Op::Any | Op::All | Op::Under) {
        "at least one value is needed"
    } else {
        "exactly one value is needed; for alternatives use any (a, b)"
    }
}

/// The operands as single members, sorted, without repetitions: the order of alternatives means nothing. Never empty.
fn members(key: &str, kind: Kind, raws: &[Json]) -> Result<Vec<Value>, QueryError> {
    let mut out = Vec::new();
    for raw in raws {
        let value = operand(key, kind, raw)?;
        let Value::Set(words) = value else {
            out.push(value);
            continue;
        };
        for word in words {
            if kind != Kind::Unknown && word.contains(',') {
                return Err(wrong_value(key, kind, raw, "a word asked for has no comma"));
            }
            out.push(operand(key, kind, &Json::String(word))?);
        }
    }
    out.sort();
    out.dedup();
    match out.len() {
        0 => {
            Err(wrong_value(key, kind, &Json::Array(raws.to_vec()), "at least one value is needed"))
        }
        got if got > VALUES_MAX => Err(QueryError::Bound {
            bound: "VALUES_MAX",
            what: "values in one condition",
            max: VALUES_MAX,
            got,
        }),
        _ => Ok(out),
    }
}

/// One operand that is one member.
fn single(key: &str, kind: Kind, raw: &Json) -> Result<Value, QueryError> {
    let mut all = members(key, kind, std::slice::from_ref(raw))?;
    if all.len() > 1 {
        return Err(wrong_value(key, kind, raw, "exactly one value is needed here"));
    }
    Ok(all.remove(0))
}

/// One operand through the key's normaliser.
fn operand(key: &str, kind: Kind, raw: &Json) -> Result<Value, QueryError> {
    match kind {
        Kind::Class => class(key, raw).map(|class| Value::Enum(class.to_string())),
        Kind::Tags => match raw.as_str().map(|tag| clean(tag, TEXT_BYTES_MAX).to_lowercase()) {
            Some(tag) if (1..=MAX_TAG).contains(&tag.len()) => Ok(Value::Enum(tag)),
            Some(_) | None => Err(wrong_value(
                key,
                kind,
                raw,
                format_args!("a tag is a text of 1 to {MAX_TAG} bytes"),
            )),
        },
        Kind::Interface => Err(wrong_operator(key, kind, Op::Eq.name())),
        Kind::Known(_) => {
            profile::normalise(key, raw).map_err(|error| wrong_value(key, kind, raw, why(error)))
        }
        Kind::Unknown => {
            let value = profile::normalise(key, raw)
                .map_err(|error| wrong_value(key, kind, raw, why(error)))?;
            // `5.0` and `5` are one number and need one spelling.
            let whole = value.number().filter(|number| number.scale() == 0);
            Ok(whole.map_or(value, |number| Value::Int(number.mantissa())))
        }
    }
}

fn class(key: &str, raw: &Json) -> Result<ClassId, QueryError> {
    let wrong = |why: String| wrong_value(key, Kind::Class, raw, why);
    let text = raw
        .as_str()
        .ok_or_else(|| {
            wrong("a class is a name such as finance or an id such as oasf1.1:domain/2".into())
        })?
        .trim();
    match taxonomy::resolve(text) {
        Some(class) => Ok(class),
        None => text.parse().map_err(|error: taxonomy::ClassError| wrong(error.to_string())),
    }
}

fn between(key: &str, kind: Kind, values: &[Json]) -> Result<Test, QueryError> {
    let (low, high) = (single(key, kind, &values[0])?, single(key, kind, &values[1])?);
    match low.compare(&high) {
        Some(order) if order.is_le() => Ok(Test::Between(low, high)),
        Some(_) => Err(wrong_value(
            key,
            kind,
            &Json::Array(values.to_vec()),
            "the lower value comes first",
        )),
        None => Err(wrong_value(
            key,
            kind,
            &Json::Array(values.to_vec()),
            "the two values cannot be compared",
        )),
    }
}

/// The operand of an interval or area operator.
fn extent(key: &str, kind: Kind, raw: &Json) -> Result<Value, QueryError> {
    // A moment lies within an interval: the operator decides the operand's kind.
    let wanted = if kind == Kind::Known(ValueKind::Time) {
        ValueKind::Interval
    } else {
        return operand(key, kind, raw);
    };
    profile::normalise_as(key, wanted, raw).map_err(|error| wrong_value(key, kind, raw, why(error)))
}

fn near(key: &str, kind: Kind, raw: &Raw) -> Result<Near, QueryError> {
    let Value::Geo(place) = operand(key, kind, &raw.values[0])? else {
        return Err(wrong_value(key, kind, &raw.values[0], "near takes a place"));
    };
    let radius_m = raw.radius_m.ok_or_else(|| {
        wrong_value(key, kind, &raw.values[0], "near takes a radius of at most 4294967295 metres")
    })?;
    Ok(Near { place, radius_m })
}

fn requirement(key: &str, kind: Kind, raw: &Json) -> Result<semver::VersionReq, QueryError> {
    let wrong = |why: &dyn std::fmt::Display| wrong_value(key, kind, raw, why);
    let text = raw.as_str().ok_or_else(|| wrong(&"write a version requirement in quotes"))?;
    semver::VersionReq::parse(text).map_err(|error| wrong(&error))
}

fn digest(key: &str, kind: Kind, raw: &Json) -> Result<[u8; 32], QueryError> {
    let wrong = || {
        wrong_value(key, kind, raw, "an interface is named by sha256: and 64 hexadecimal digits")
    };
    parse_digest(raw.as_str().ok_or_else(wrong)?).ok_or_else(wrong)
}

/// Reads `sha256:` and 64 hexadecimal digits; the prefix may be missing.
pub(super) fn parse_digest(text: &str) -> Option<[u8; 32]> {
    let text = text.trim();
    let digits = text.strip_prefix("sha256:").unwrap_or(text);
    if digits.len() != 64 || !digits.is_ascii() {
        return None;
    }
    let mut out = [0; 32];
    for (byte, pair) in out.iter_mut().zip(digits.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(out)
}

/// The text form of an interface digest.
pub(crate) fn digest_text(digest: &[u8; 32]) -> String {
    let mut out = String::from("sha256:");
    for byte in digest {
        out.push_str(&format!("{byte:02x}"));
    }
    out
}

/// A condition taken apart again: the operator and operands that [`condition`] makes it from.
pub(super) fn parts(condition: &Condition) -> (Kind, Op, Raw) {
    // A key that made a condition resolves again.
    let kind = resolve(&condition.key).map_or(Kind::Unknown, |(_, kind)| kind);
    let one = |value: &Value| vec![json_of(kind, value)];
    let many = |values: &[Value]| values.iter().map(|value| json_of(kind, value)).collect();
    let (op, values) = match &condition.test {
        Test::Eq(value) => (Op::Eq, one(value)),
        Test::Ne(value) => (Op::Ne, one(value)),
        Test::Any(values) => (Op::Any, many(values)),
        Test::All(values) => (Op::All, many(values)),
        Test::Under(classes) => {
            (Op::Under, classes.iter().map(|class| Json::String(class.to_string())).collect())
        }
        Test::Lt(value) => (Op::Lt, one(value)),
        Test::Lte(value) => (Op::Lte, one(value)),
        Test::Gt(value) => (Op::Gt, one(value)),
        Test::Gte(value) => (Op::Gte, one(value)),
        Test::Between(low, high) => (Op::Between, vec![json_of(kind, low), json_of(kind, high)]),
        Test::Covers(value) => (Op::Covers, one(value)),
        Test::Overlaps(value) => (Op::Overlaps, one(value)),
        Test::Within(value) => (Op::Within, one(value)),
        Test::FinerOrEqual(value) => (Op::FinerOrEqual, one(value)),
        Test::Near(near) => {
            let raw = Raw {
                values: vec![Json::String(near.place.to_string())],
                radius_m: Some(near.radius_m),
            };
            return (kind, Op::Near, raw);
        }
        Test::Semver(requirement) => (Op::Semver, vec![Json::String(requirement.to_string())]),
        Test::Exists => (Op::Exists, Vec::new()),
        Test::Interface(digest) => (Op::Interface, vec![Json::String(digest_text(digest))]),
    };
    (kind, op, Raw { values, radius_m: None })
}

/// A value as JSON that the key's normaliser reads back.
fn json_of(kind: Kind, value: &Value) -> Json {
    match (kind, value) {
        // Without a profile the JSON type decides the kind, and a decimal written as text would come back as text.
        (Kind::Unknown, Value::Dec(number)) => {
            serde_json::from_str(&number.to_string()).unwrap_or(Json::Null)
        }
        // A set asked for is one word.
        (_, Value::Set(words)) => Json::String(words.iter().cloned().collect::<Vec<_>>().join(",")),
        (_, value) => value.to_json(),
    }
}

/// What a profile's error says beyond the key and the value, which the query's error names itself.
fn why(error: ProfileError) -> String {
    match error {
        ProfileError::BadValue { source: ValueError::Malformed { hint, .. }, .. } => hint.into(),
        ProfileError::BadValue { source, .. } => source.to_string(),
        other @ ProfileError::BadKey { .. } => other.to_string(),
    }
}

pub(super) fn wrong_operator(key: &str, kind: Kind, operator: &str) -> QueryError {
    let allowed = kind.operators().iter().map(|op| op.name()).collect::<Vec<_>>().join(", ");
    QueryError::Operator {
        key: key.into(),
        kind: kind.describe(),
        operator: quote(operator),
        allowed,
        example: kind.example(short_name(key)),
    }
}

pub(super) fn wrong_value(
    key: &str,
    kind: Kind,
    given: &Json,
    why: impl std::fmt::Display,
) -> QueryError {
    let given = given.as_str().map_or_else(|| given.to_string(), str::to_owned);
    QueryError::Value {
        key: key.into(),
        given: quote(&given),
        kind: kind.describe(),
        why: why.to_string(),
        example: kind.example(short_name(key)),
    }
}
