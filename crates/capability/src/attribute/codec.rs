//! The wire form of a value: `[kind, payload]`, with limits checked while decoding.

use std::collections::BTreeSet;

use minicbor::data::Type;
use minicbor::decode::Error as DecodeError;
use minicbor::encode::{Error as EncodeError, Write};
use minicbor::{Decode, Decoder, Encode, Encoder};

use super::{
    Decimal, Geo, Interval, MAX_ELEMENT, MAX_SET, MAX_TEXT, Moment, Money, Period, Value, ValueKind,
};
use crate::text;

impl ValueKind {
    /// The number of the kind on the wire.
    fn number(self) -> u8 {
        match self {
            Self::Bool => 0,
            Self::Int => 1,
            Self::Dec => 2,
            Self::Enum => 3,
            Self::Set => 4,
            Self::Text => 5,
            Self::Time => 6,
            Self::Interval => 7,
            Self::Duration => 8,
            Self::Geo => 9,
            Self::Money => 10,
            Self::Semver => 11,
            Self::Bytes32 => 12,
        }
    }
}

impl<C> Encode<C> for Value {
    fn encode<W: Write>(&self, e: &mut Encoder<W>, _: &mut C) -> Result<(), EncodeError<W::Error>> {
        e.array(2)?.u8(self.kind().number())?;
        match self {
            Self::Bool(value) => e.bool(*value)?.ok(),
            Self::Int(value) => e.i64(*value)?.ok(),
            Self::Dec(value) => e.array(2)?.i64(value.mantissa())?.u8(value.scale())?.ok(),
            Self::Enum(word) | Self::Text(word) => e.str(word)?.ok(),
            Self::Set(words) => {
                e.array(u64::try_from(words.len()).unwrap_or(u64::MAX))?;
                for word in words {
                    e.str(word)?;
                }
                Ok(())
            }
            Self::Time(moment) => e.i64(moment.micros())?.ok(),
            Self::Interval(interval) => {
                e.array(2)?;
                for end in [interval.from(), interval.to()] {
                    match end {
                        Some(moment) => e.i64(moment.micros())?,
                        None => e.null()?,
                    };
                }
                Ok(())
            }
            Self::Duration(period) => e.u64(period.micros())?.ok(),
            Self::Geo(Geo::Point { lat, lon }) => e.array(2)?.i32(*lat)?.i32(*lon)?.ok(),
            Self::Geo(Geo::Box { west, south, east, north }) => {
                e.array(4)?.i32(*west)?.i32(*south)?.i32(*east)?.i32(*north)?.ok()
            }
            Self::Money(money) => e
                .array(3)?
                .i64(money.amount.mantissa())?
                .u8(money.amount.scale())?
                .str(money.currency.as_str())?
                .ok(),
            Self::Semver(version) => e.str(&version.to_string())?.ok(),
            Self::Bytes32(bytes) => e.bytes(bytes)?.ok(),
        }
    }
}

impl<'b, C> Decode<'b, C> for Value {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, DecodeError> {
        array_of(d, 2)?;
        let at = d.position();
        Ok(match d.u8()? {
            0 => Self::Bool(d.bool()?),
            1 => Self::Int(d.i64()?),
            2 => {
                array_of(d, 2)?;
                Self::Dec(decimal(d)?)
            }
            3 => Self::Enum(word(d)?),
            4 => Self::Set(set(d)?),
            5 => Self::Text(checked_text(d, MAX_TEXT)?),
            6 => Self::Time(moment(d)?),
            7 => Self::Interval(interval(d)?),
            8 => {
                let at = d.position();
                let period = Period::from_micros(d.u64()?);
                Self::Duration(period.ok_or_else(|| {
                    DecodeError::message("duration beyond ten thousand years").at(at)
                })?)
            }
            9 => Self::Geo(geo(d)?),
            10 => Self::Money(money(d)?),
            11 => Self::Semver(version(d)?),
            12 => {
                let at = d.position();
                let bytes: Result<[u8; 32], _> = d.bytes()?.try_into();
                Self::Bytes32(
                    bytes.map_err(|_| DecodeError::message("a hash has 32 bytes").at(at))?,
                )
            }
            kind => {
                return Err(DecodeError::message(format!(
                    "value kind {kind} is unknown: a newer program wrote it"
                ))
                .at(at));
            }
        })
    }
}

fn array_of(d: &mut Decoder<'_>, len: u64) -> Result<(), DecodeError> {
    let at = d.position();
    match d.array()? {
        Some(found) if found == len => Ok(()),
        _ => Err(DecodeError::message(format!("an array of {len} was expected")).at(at)),
    }
}

fn checked_text(d: &mut Decoder<'_>, limit: usize) -> Result<String, DecodeError> {
    let at = d.position();
    let given = d.str()?;
    text::check("text of a value", given, limit)
        .map_err(|error| DecodeError::custom(error).at(at))?;
    Ok(given.to_owned())
}

fn word(d: &mut Decoder<'_>) -> Result<String, DecodeError> {
    let at = d.position();
    let word = checked_text(d, MAX_ELEMENT)?;
    if word.is_empty() {
        return Err(DecodeError::message("a word is empty").at(at));
    }
    Ok(word)
}

fn set(d: &mut Decoder<'_>) -> Result<BTreeSet<String>, DecodeError> {
    let at = d.position();
    let len = d.array()?.unwrap_or(u64::MAX);
    if len > u64::try_from(MAX_SET).unwrap_or(u64::MAX) {
        return Err(DecodeError::message(format!("a set has at most {MAX_SET} elements")).at(at));
    }
    (0..len).map(|_| word(d)).collect()
}

fn decimal(d: &mut Decoder<'_>) -> Result<Decimal, DecodeError> {
    let at = d.position();
    let (mantissa, scale) = (d.i64()?, d.u8()?);
    Decimal::new(mantissa, scale)
        .ok_or_else(|| DecodeError::message("a decimal of more than 18 digits").at(at))
}

fn moment(d: &mut Decoder<'_>) -> Result<Moment, DecodeError> {
    let at = d.position();
    Moment::from_micros(d.i64()?)
        .ok_or_else(|| DecodeError::message("a time outside the years 1 to 9999").at(at))
}

fn interval(d: &mut Decoder<'_>) -> Result<Interval, DecodeError> {
    let at = d.position();
    array_of(d, 2)?;
    let mut ends = [None, None];
    for end in &mut ends {
        if d.datatype()? == Type::Null {
            d.null()?;
        } else {
            *end = Some(moment(d)?);
        }
    }
    Interval::new(ends[0], ends[1])
        .ok_or_else(|| DecodeError::message("an interval that holds no moment").at(at))
}

fn geo(d: &mut Decoder<'_>) -> Result<Geo, DecodeError> {
    let at = d.position();
    let place = match d.array()? {
        Some(2) => Geo::checked_point(d.i32()?, d.i32()?),
        Some(4) => Geo::checked_box(d.i32()?, d.i32()?, d.i32()?, d.i32()?),
        _ => None,
    };
    place.ok_or_else(|| DecodeError::message("neither a point nor a box on the Earth").at(at))
}

fn money(d: &mut Decoder<'_>) -> Result<Money, DecodeError> {
    array_of(d, 3)?;
    let amount = decimal(d)?;
    let at = d.position();
    let currency = d.str()?.parse().map_err(|error| DecodeError::custom(error).at(at))?;
    Ok(Money { amount, currency })
}

fn version(d: &mut Decoder<'_>) -> Result<semver::Version, DecodeError> {
    let at = d.position();
    let text = checked_text(d, MAX_ELEMENT)?;
    let version: semver::Version =
        text.parse().map_err(|error| DecodeError::custom(error).at(at))?;
    if !version.build.is_empty() {
        return Err(DecodeError::message("a version with build metadata").at(at));
    }
    Ok(version)
}
