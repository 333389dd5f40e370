//! Limits on what a call says: a link may allow payments of up to 100, or in two currencies, and no others.
//!
//! A limit is about one argument: a member of the request, which is then an object. The member must be there, and be a number, text or truth
//! value that the limit allows; what a specialist would take a missing one for is not known here. Two limits of one argument must both hold. The
//! vocabulary is fixed and a request is read once, whatever a holder writes into its links.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use minicbor::Decoder;
use minicbor::data::Type;
use serde::Serialize;

use super::refusal::Refusal;

/// Most limits of arguments in one link.
pub const MAX_ARGUMENTS: usize = 16;
/// Longest name of an argument, and longest text that a limit names, in bytes.
pub const MAX_ARGUMENT_TEXT: usize = 64;
/// Most values that one limit names.
pub const MAX_ARGUMENT_VALUES: usize = 16;
/// Whole numbers up to here are the same as numbers with a fraction (IEEE 754 binary64).
const EXACT: i64 = 1 << 53;
/// Characters of a refused value that an error repeats.
const MAX_SHOWN: usize = 32;

/// The limit of one argument. Text form: `amount<=100`, `amount>=1`, `amount=1..100`, `currency=EUR|USD`, `account=acme-*`.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, minicbor::Encode, minicbor::Decode,
)]
#[cbor(array)]
pub struct Argument {
    /// Which member of the request.
    #[n(0)]
    pub name: String,
    /// What it may be.
    #[n(1)]
    pub limit: Limit,
}

/// What an argument may be.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, minicbor::Encode, minicbor::Decode,
)]
pub enum Limit {
    /// One of these.
    #[n(0)]
    OneOf(#[n(0)] BTreeSet<Value>),
    /// Text that begins so.
    #[n(1)]
    Beginning(#[n(0)] String),
    /// A number from the first to the second; [`i64::MIN`] and [`i64::MAX`] are no bounds.
    #[n(2)]
    Between(#[n(0)] i64, #[n(1)] i64),
}

/// A value that a limit names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Value {
    /// True or false.
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// Text.
    Text(String),
}

/// A text is no limit of an argument.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` limits no argument: write NAME=VALUE, NAME=ONE|OTHER, NAME=BEGINNING*, NAME=1..100, NAME<=100 or NAME>=1 (whole numbers below 2^53, texts of at most {MAX_ARGUMENT_TEXT} bytes, at most {MAX_ARGUMENT_VALUES} values)"
)]
pub struct ArgumentTextError {
    /// The text, shortened.
    pub text: String,
}

impl Argument {
    /// Whether its texts and numbers are within their bounds.
    #[must_use]
    pub fn is_proper(&self) -> bool {
        let text = |text: &str| (1..=MAX_ARGUMENT_TEXT).contains(&text.len());
        let exact = |number: i64| (-EXACT..=EXACT).contains(&number);
        let named = text(&self.name) && !self.name.contains(['<', '>', '=', '|']);
        named
            && match &self.limit {
                Limit::OneOf(values) => {
                    (1..=MAX_ARGUMENT_VALUES).contains(&values.len())
                        && values.iter().all(|value| match value {
                            Value::Bool(_) => true,
                            Value::Integer(number) => exact(*number),
                            Value::Text(value) => text(value),
                        })
                }
                Limit::Beginning(beginning) => text(beginning),
                Limit::Between(least, most) => {
                    least <= most
                        && (*least == i64::MIN || exact(*least))
                        && (*most == i64::MAX || exact(*most))
                }
            }
    }
}

/// What a request says of an argument.
#[derive(Clone, Debug, PartialEq)]
enum Said<'a> {
    Bool(bool),
    Integer(i64),
    Fraction(f64),
    Text(&'a str),
    /// Null, a list, an object, bytes, a number past 64 bits.
    Other,
}

impl Said<'_> {
    fn read<'b>(d: &mut Decoder<'b>) -> Option<Said<'b>> {
        Some(match d.datatype().ok()? {
            Type::Bool => Said::Bool(d.bool().ok()?),
            Type::U8
            | Type::U16
            | Type::U32
            | Type::U64
            | Type::I8
            | Type::I16
            | Type::I32
            | Type::I64
            | Type::Int => {
                let number = i128::from(d.int().ok()?);
                i64::try_from(number).map_or(Said::Other, Said::Integer)
            }
            Type::F16 => Said::Fraction(half(d)?),
            Type::F32 | Type::F64 => Said::Fraction(d.f64().ok()?),
            Type::String => Said::Text(d.str().ok()?),
            Type::Null
            | Type::Undefined
            | Type::Simple
            | Type::Bytes
            | Type::BytesIndef
            | Type::StringIndef
            | Type::Array
            | Type::ArrayIndef
            | Type::Map
            | Type::MapIndef
            | Type::Tag
            | Type::Break
            | Type::Unknown(_) => {
                d.skip().ok()?;
                Said::Other
            }
        })
    }

    fn is(&self, value: &Value) -> bool {
        match (self, value) {
            (Said::Bool(said), Value::Bool(value)) => said == value,
            (Said::Integer(said), Value::Integer(value)) => said == value,
            (Said::Fraction(said), Value::Integer(value)) => same(*said, *value),
            (Said::Text(said), Value::Text(value)) => said == value,
            (
                Said::Bool(_) | Said::Integer(_) | Said::Fraction(_) | Said::Text(_) | Said::Other,
                Value::Bool(_) | Value::Integer(_) | Value::Text(_),
            ) => false,
        }
    }

    fn fits(&self, limit: &Limit) -> bool {
        match limit {
            Limit::OneOf(values) => values.iter().any(|value| self.is(value)),
            Limit::Beginning(beginning) => {
                matches!(self, Said::Text(said) if said.starts_with(beginning.as_str()))
            }
            Limit::Between(least, most) => match self {
                Said::Integer(said) => (least..=most).contains(&said),
                Said::Fraction(said) => {
                    said.is_finite()
                        && (*least == i64::MIN || *said >= exact(*least))
                        && (*most == i64::MAX || *said <= exact(*most))
                }
                Said::Bool(_) | Said::Text(_) | Said::Other => false,
            },
        }
    }

    fn shown(&self) -> String {
        match self {
            Said::Bool(said) => said.to_string(),
            Said::Integer(said) => said.to_string(),
            Said::Fraction(said) => said.to_string(),
            Said::Text(said) => {
                let text: String =
                    said.chars().filter(|c| !c.is_control()).take(MAX_SHOWN).collect();
                format!("`{text}`")
            }
            Said::Other => "something that is no number, text or truth value".to_owned(),
        }
    }
}

/// A number in half precision, the shortest form that deterministic CBOR gives a fraction (RFC 8949 section 4.2.1).
fn half(d: &mut Decoder<'_>) -> Option<f64> {
    let at = d.position();
    let bytes = d.input().get(at + 1..at + 3)?;
    d.set_position(at + 3);
    Some(half::f16::from_be_bytes(bytes.try_into().ok()?).to_f64())
}

#[expect(clippy::cast_precision_loss, reason = "the numbers of limits are below 2^53")]
fn exact(number: i64) -> f64 {
    number as f64
}

/// Equal to the bit: what is nearly allowed is not allowed.
fn same(said: f64, number: i64) -> bool {
    said.to_bits() == exact(number).to_bits()
}

/// Whether a request (canonical CBOR) says what all limits allow; each comes with the number of its link. The request is read once.
pub(super) fn check<'g>(
    request: &[u8],
    limits: impl Iterator<Item = (usize, &'g Argument)>,
) -> Result<(), Refusal> {
    let mut open: Vec<(usize, &Argument)> = limits.collect();
    if open.is_empty() {
        return Ok(());
    }
    let refuse = |(link, argument): (usize, &Argument), found: String| Refusal::Argument {
        link,
        limit: argument.to_string(),
        found,
    };
    let mut d = Decoder::new(request);
    let members = d.map().ok().flatten().unwrap_or(0);
    for _ in 0..members {
        let Ok(name) = d.str() else { break };
        if !open.iter().any(|(_, argument)| argument.name == name) {
            if d.skip().is_err() {
                break;
            }
            continue;
        }
        let Some(said) = Said::read(&mut d) else { break };
        let (of_it, rest): (Vec<_>, Vec<_>) =
            open.into_iter().partition(|(_, argument)| argument.name == name);
        if let Some(broken) = of_it.into_iter().find(|(_, argument)| !said.fits(&argument.limit)) {
            return Err(refuse(broken, said.shown()));
        }
        open = rest;
    }
    open.first().map_or(Ok(()), |missing| Err(refuse(*missing, format!("no `{}`", missing.1.name))))
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => write!(f, "{value}"),
            Self::Integer(value) => write!(f, "{value}"),
            // What would be read as something else stands between quotes.
            Self::Text(text)
                if text.trim() == text && matches!(Self::read(text), Some(Self::Text(_))) =>
            {
                f.write_str(text)
            }
            Self::Text(text) => write!(f, "\"{text}\""),
        }
    }
}

impl Value {
    fn read(text: &str) -> Option<Self> {
        let quoted = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
        Some(match (quoted, text) {
            (Some(text), _) => Self::Text(text.to_owned()),
            (None, "true") => Self::Bool(true),
            (None, "false") => Self::Bool(false),
            (None, "") => return None,
            (None, text) if text.contains(['"', '*']) || text.contains("..") => return None,
            (None, text) => {
                text.parse().map_or_else(|_| Self::Text(text.to_owned()), Self::Integer)
            }
        })
    }
}

impl fmt::Display for Argument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.name;
        match &self.limit {
            Limit::OneOf(values) => {
                let values: Vec<String> = values.iter().map(ToString::to_string).collect();
                write!(f, "{name}={}", values.join("|"))
            }
            Limit::Beginning(beginning) => write!(f, "{name}={beginning}*"),
            Limit::Between(i64::MIN, most) => write!(f, "{name}<={most}"),
            Limit::Between(least, i64::MAX) => write!(f, "{name}>={least}"),
            Limit::Between(least, most) => write!(f, "{name}={least}..{most}"),
        }
    }
}

impl FromStr for Argument {
    type Err = ArgumentTextError;

    fn from_str(text: &str) -> Result<Self, ArgumentTextError> {
        let read = |text: &str| {
            let (name, limit) = if let Some((name, most)) = text.split_once("<=") {
                (name, Limit::Between(i64::MIN, most.trim().parse().ok()?))
            } else if let Some((name, least)) = text.split_once(">=") {
                (name, Limit::Between(least.trim().parse().ok()?, i64::MAX))
            } else {
                let (name, values) = text.split_once('=')?;
                (name, one_of(values.trim())?)
            };
            let argument = Self { name: name.trim().to_owned(), limit };
            argument.is_proper().then_some(argument)
        };
        let shortened = || text.chars().take(MAX_ARGUMENT_TEXT).collect();
        read(text).ok_or_else(|| ArgumentTextError { text: shortened() })
    }
}

fn one_of(text: &str) -> Option<Limit> {
    if let Some((least, most)) = text.split_once("..")
        && let (Ok(least), Ok(most)) = (least.trim().parse(), most.trim().parse())
    {
        return Some(Limit::Between(least, most));
    }
    if let Some(beginning) = text.strip_suffix('*') {
        let plain = !beginning.contains(['*', '|', '"']);
        return plain.then(|| Limit::Beginning(beginning.to_owned()));
    }
    let values: Option<BTreeSet<Value>> = text.split('|').map(|v| Value::read(v.trim())).collect();
    values.map(Limit::OneOf)
}

impl Serialize for Argument {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<C> minicbor::Encode<C> for Value {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        match self {
            Self::Bool(value) => e.bool(*value)?.ok(),
            Self::Integer(value) => e.i64(*value)?.ok(),
            Self::Text(value) => e.str(value)?.ok(),
        }
    }
}

impl<'b, C> minicbor::Decode<'b, C> for Value {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        let at = d.position();
        match Said::read(d) {
            Some(Said::Bool(value)) => Ok(Self::Bool(value)),
            Some(Said::Integer(value)) => Ok(Self::Integer(value)),
            Some(Said::Text(value)) => Ok(Self::Text(value.to_owned())),
            Some(Said::Fraction(_) | Said::Other) | None => Err(minicbor::decode::Error::message(
                "a limit names whole numbers, texts and truth values",
            )
            .at(at)),
        }
    }
}
