//! Least and greatest values of the ordered keys.
//!
//! Values are brought to whole numbers by maps that never turn an order around ([`scalar`], [`hours`]), rounding down alike for what
//! members declare and for what queries ask. What compares one way exactly then compares the same way or equal here, so that bounds
//! that include their ends miss nobody.

use super::ORDERED_KEYS;
use crate::attribute::{Currency, Decimal, Geo, Interval, Value};

const MICROS_PER_HOUR: i64 = 3_600_000_000;
/// The end of an interval that has none.
const OPEN_START: i32 = i32::MIN;
const OPEN_END: i32 = i32::MAX;
/// Decimal digits after the point that are kept.
const SCALAR_DIGITS: u8 = 6;
/// Longitude of the antimeridian in 1e-7 degrees.
const ANTIMERIDIAN: i32 = 1_800_000_000;

/// A number, duration or moment as a whole number in their order; `None` for other kinds.
pub(super) fn scalar(value: &Value) -> Option<i64> {
    if let Value::Duration(period) = value {
        return Some(i64::try_from(period.micros()).unwrap_or(i64::MAX));
    }
    if let Value::Time(moment) = value {
        return Some(moment.micros());
    }
    value.number().map(|number| decimal(&number))
}

pub(super) fn decimal(number: &Decimal) -> i64 {
    let scaled = number.scaled(SCALAR_DIGITS);
    i64::try_from(scaled).unwrap_or(if scaled < 0 { i64::MIN } else { i64::MAX })
}

/// The hours of the first and last microsecond of an interval.
pub(super) fn hours(interval: &Interval) -> (i32, i32) {
    let hour = |micros: i64| i32::try_from(micros.div_euclid(MICROS_PER_HOUR));
    let from = interval.from().map_or(Ok(OPEN_START), |from| hour(from.micros()));
    let to = interval.to().map_or(Ok(OPEN_END), |to| hour(to.micros() - 1));
    let (from, to) = (from.unwrap_or(OPEN_START), to.unwrap_or(OPEN_END));
    (from, to)
}

/// The edges of a place. What touches or crosses the antimeridian is taken to go all the way round.
pub(super) fn area(place: &Geo) -> [i32; 4] {
    let (west, south, east, north) = place.edges();
    if west > east || west == -ANTIMERIDIAN || east == ANTIMERIDIAN {
        [-ANTIMERIDIAN, south, ANTIMERIDIAN, north]
    } else {
        [west, south, east, north]
    }
}

/// From the least to the greatest of several values, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Range {
    Scalar(i64, i64),
    Money(Currency, i64, i64),
    Hours(i32, i32),
    Area([i32; 4]),
}

impl Range {
    /// The range of one value; `None` for kinds that have no bounds.
    pub(super) fn of(value: &Value) -> Option<Self> {
        if let Some(number) = scalar(value) {
            return Some(Self::Scalar(number, number));
        }
        match value {
            Value::Money(money) => {
                let amount = decimal(&money.amount);
                Some(Self::Money(money.currency, amount, amount))
            }
            Value::Interval(interval) => {
                let (from, to) = hours(interval);
                Some(Self::Hours(from, to))
            }
            Value::Geo(place) => Some(Self::Area(area(place))),
            Value::Bool(_)
            | Value::Int(_)
            | Value::Dec(_)
            | Value::Enum(_)
            | Value::Set(_)
            | Value::Text(_)
            | Value::Time(_)
            | Value::Duration(_)
            | Value::Semver(_)
            | Value::Bytes32(_) => None,
        }
    }

    fn union(self, other: Self) -> Option<Self> {
        Some(match (self, other) {
            (Self::Scalar(a, b), Self::Scalar(c, d)) => Self::Scalar(a.min(c), b.max(d)),
            (Self::Money(mine, a, b), Self::Money(theirs, c, d)) if mine == theirs => {
                Self::Money(mine, a.min(c), b.max(d))
            }
            (Self::Hours(a, b), Self::Hours(c, d)) => Self::Hours(a.min(c), b.max(d)),
            (Self::Area([w, s, e, n]), Self::Area([w2, s2, e2, n2])) => {
                Self::Area([w.min(w2), s.min(s2), e.max(e2), n.max(n2)])
            }
            _ => return None,
        })
    }
}

/// A range per ordered key, by its position among [`ORDERED_KEYS`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Bounds([Option<Range>; ORDERED_KEYS.len()]);

impl Bounds {
    /// Takes in a value; false if the range of its key cannot hold it, and says nothing from now on.
    pub(super) fn add(&mut self, key: &str, value: Range) -> bool {
        let Some(slot) = slot(key).and_then(|slot| self.0.get_mut(slot)) else { return true };
        let widened = match slot {
            Some(range) => range.union(value),
            None => Some(value),
        };
        match widened {
            Some(range) => {
                *slot = Some(range);
                true
            }
            None => false,
        }
    }

    /// The range of a key, if any member is in it.
    pub(super) fn get(&self, key: &str) -> Option<Range> {
        slot(key).and_then(|slot| self.0[slot])
    }

    /// Takes in other ranges. Returns the mask of keys whose ranges do not mix: these say nothing from now on.
    pub(super) fn merge(&mut self, other: &Self) -> u128 {
        let mut unmixed = 0;
        for ((mine, theirs), key) in self.0.iter_mut().zip(other.0).zip(ORDERED_KEYS) {
            match (&mine, theirs) {
                (Some(range), Some(theirs)) => match range.union(theirs) {
                    Some(range) => *mine = Some(range),
                    None => unmixed |= super::masked(key).map_or(0, |spec| 1 << spec.id),
                },
                (None, theirs) => *mine = theirs,
                (Some(_), None) => {}
            }
        }
        unmixed
    }
}

fn slot(key: &str) -> Option<usize> {
    ORDERED_KEYS.iter().position(|ordered| *ordered == key)
}

/// `[sort, numbers...]` or null for each ordered key.
pub(super) mod wire {
    use minicbor::data::Type;
    use minicbor::decode::Error as DecodeError;
    use minicbor::encode::{Error as EncodeError, Write};
    use minicbor::{Decoder, Encoder};

    use super::{Bounds, ORDERED_KEYS, Range};
    use crate::attribute::ValueKind;

    const SCALAR: u8 = 0;
    const MONEY: u8 = 1;
    const HOURS: u8 = 2;
    const AREA: u8 = 3;

    pub(in crate::zone) fn encode<C, W: Write>(
        bounds: &Bounds,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), EncodeError<W::Error>> {
        e.array(ORDERED_KEYS.len() as u64)?;
        for range in bounds.0 {
            match range {
                None => e.null()?,
                Some(Range::Scalar(least, greatest)) => {
                    e.array(3)?.u8(SCALAR)?.i64(least)?.i64(greatest)?
                }
                Some(Range::Money(currency, least, greatest)) => {
                    e.array(4)?.u8(MONEY)?.str(currency.as_str())?.i64(least)?.i64(greatest)?
                }
                Some(Range::Hours(from, to)) => e.array(3)?.u8(HOURS)?.i32(from)?.i32(to)?,
                Some(Range::Area([west, south, east, north])) => {
                    e.array(5)?.u8(AREA)?.i32(west)?.i32(south)?.i32(east)?.i32(north)?
                }
            };
        }
        Ok(())
    }

    pub(in crate::zone) fn decode<C>(
        d: &mut Decoder<'_>,
        _: &mut C,
    ) -> Result<Bounds, DecodeError> {
        let at = d.position();
        let wrong = |what: &str| DecodeError::message(what).at(at);
        if d.array()? != Some(ORDERED_KEYS.len() as u64) {
            return Err(wrong("bounds of another number of keys"));
        }
        let mut bounds = Bounds::default();
        for (slot, key) in bounds.0.iter_mut().zip(ORDERED_KEYS) {
            if d.datatype()? == Type::Null {
                d.null()?;
                continue;
            }
            let range = range(d)?;
            let kind = super::super::masked(key).map(|spec| spec.kind);
            let sorted = match range {
                Range::Scalar(least, greatest) => {
                    !matches!(kind, Some(ValueKind::Money | ValueKind::Interval | ValueKind::Geo))
                        && least <= greatest
                }
                Range::Money(_, least, greatest) => {
                    kind == Some(ValueKind::Money) && least <= greatest
                }
                Range::Hours(from, to) => kind == Some(ValueKind::Interval) && from <= to,
                Range::Area([west, south, east, north]) => {
                    kind == Some(ValueKind::Geo) && west <= east && south <= north
                }
            };
            if !sorted {
                return Err(wrong("a range of another sort than its key, or the wrong way round"));
            }
            *slot = Some(range);
        }
        Ok(bounds)
    }

    fn range(d: &mut Decoder<'_>) -> Result<Range, DecodeError> {
        let at = d.position();
        let len = d.array()?;
        match (d.u8()?, len) {
            (SCALAR, Some(3)) => Ok(Range::Scalar(d.i64()?, d.i64()?)),
            (MONEY, Some(4)) => {
                let currency =
                    d.str()?.parse().map_err(|error| DecodeError::custom(error).at(at))?;
                Ok(Range::Money(currency, d.i64()?, d.i64()?))
            }
            (HOURS, Some(3)) => Ok(Range::Hours(d.i32()?, d.i32()?)),
            (AREA, Some(5)) => Ok(Range::Area([d.i32()?, d.i32()?, d.i32()?, d.i32()?])),
            _ => Err(DecodeError::message("a range of no known sort").at(at)),
        }
    }
}
