//! Values of a table: which types a text can have, and the form each is stored in.

use jiff::civil::{Date, DateTime};
use jiff::tz::{Offset, TimeZone};
use serde::{Deserialize, Serialize};

/// Type of a column; every value of the column has it or is null.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ColumnType {
    /// `true` or `false` (any letter case in CSV).
    Bool,
    /// Whole numbers of 64 bits.
    Int,
    /// Decimal numbers that a double gives back exactly: up to 15 significant digits, or the shortest text of a double.
    ///
    /// They come back equal in value to what the file says, without trailing zeros (`143.10` as `143.1`). A column in
    /// which one number has more digits than that is [`Self::Text`], so no digit is ever lost.
    Decimal,
    /// Days, `2022-03-01`.
    Date,
    /// Moments, microseconds precise; RFC 3339, or without an offset and then UTC. They come back in UTC.
    Timestamp,
    /// JSON arrays of strings, filtered by what they contain.
    Set,
    /// Any text.
    Text,
    /// Nested or mixed JSON; given back as it is, filtered only by being null.
    Json,
}

impl ColumnType {
    /// Name for people and schemas.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Decimal => "decimal",
            Self::Date => "date",
            Self::Timestamp => "timestamp",
            Self::Set => "set",
            Self::Text => "text",
            Self::Json => "json",
        }
    }

    /// Whether values have an order that ranges and sorting mean something in.
    #[must_use]
    pub fn is_ordered(self) -> bool {
        match self {
            Self::Int | Self::Decimal | Self::Date | Self::Timestamp | Self::Text => true,
            Self::Bool | Self::Set | Self::Json => false,
        }
    }

    /// Whether values are days or moments.
    #[must_use]
    pub fn is_time(self) -> bool {
        matches!(self, Self::Date | Self::Timestamp)
    }

    pub(super) fn sql(self) -> &'static str {
        match self {
            Self::Bool | Self::Int | Self::Timestamp => "INTEGER",
            Self::Decimal => "REAL",
            Self::Date | Self::Set | Self::Text | Self::Json => "TEXT",
        }
    }
}

/// One value as a file gives it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Cell<'a> {
    Null,
    /// CSV: a text whose type is open.
    Field(&'a str),
    /// JSON string, unescaped.
    Text(std::borrow::Cow<'a, str>),
    /// JSON number as written.
    Number(&'a str),
    Bool(bool),
    /// JSON array of strings, as compact JSON.
    Set(String),
    /// Any other JSON, as written.
    Json(&'a str),
}

/// The types a column can still have after the values seen so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Candidates(u8);

const BOOL: u8 = 1;
const INT: u8 = 1 << 1;
const DECIMAL: u8 = 1 << 2;
const DATE: u8 = 1 << 3;
const TIMESTAMP: u8 = 1 << 4;
const SET: u8 = 1 << 5;
const TEXT: u8 = 1 << 6;
const JSON: u8 = 1 << 7;

impl Candidates {
    pub(super) const ALL: Self = Self(u8::MAX);

    pub(super) fn see(&mut self, cell: &Cell<'_>) {
        let possible = match cell {
            Cell::Null => return,
            Cell::Field(text) => self.of_field(text),
            Cell::Text(text) => TEXT | JSON | self.times(text),
            Cell::Number(text) => TEXT | JSON | number(text),
            Cell::Bool(_) => BOOL | TEXT | JSON,
            Cell::Set(_) => SET | JSON,
            Cell::Json(_) => JSON,
        };
        self.0 &= possible;
    }

    /// A type ruled out already needs no second look, which is what makes long text columns cheap.
    fn of_field(self, text: &str) -> u8 {
        let mut possible = TEXT;
        if self.0 & (INT | DECIMAL) != 0 {
            possible |= number(text);
        }
        if self.0 & BOOL != 0 && parse_bool(text).is_some() {
            possible |= BOOL;
        }
        possible | self.times(text)
    }

    fn times(self, text: &str) -> u8 {
        if self.0 & (DATE | TIMESTAMP) == 0 {
            return 0;
        }
        if parse_date(text).is_some() {
            DATE | TIMESTAMP
        } else if parse_timestamp(text).is_some() {
            TIMESTAMP
        } else {
            0
        }
    }

    /// The narrowest type left; a column without values is text.
    pub(super) fn decide(self) -> ColumnType {
        if self == Self::ALL {
            return ColumnType::Text;
        }
        let order = [
            (BOOL, ColumnType::Bool),
            (INT, ColumnType::Int),
            (DECIMAL, ColumnType::Decimal),
            (DATE, ColumnType::Date),
            (TIMESTAMP, ColumnType::Timestamp),
            (SET, ColumnType::Set),
            (TEXT, ColumnType::Text),
        ];
        order.iter().find(|(bit, _)| self.0 & bit != 0).map_or(ColumnType::Json, |(_, kind)| *kind)
    }
}

fn number(text: &str) -> u8 {
    if !is_json_number(text) {
        return 0;
    }
    let whole = text.parse::<i64>().is_ok();
    match parse_decimal(text) {
        Some(_) if whole => INT | DECIMAL,
        Some(_) => DECIMAL,
        None if whole => INT,
        None => 0,
    }
}

/// The number grammar of RFC 8259 section 6; `007`, `+5`, `.5` and `NaN` are texts.
fn is_json_number(text: &str) -> bool {
    let digits = |s: &str| s.bytes().take_while(u8::is_ascii_digit).count();
    let rest = text.strip_prefix('-').unwrap_or(text);
    let whole = digits(rest);
    if whole == 0 || (whole > 1 && rest.starts_with('0')) {
        return false;
    }
    let mut rest = rest.get(whole..).unwrap_or("");
    if let Some(fraction) = rest.strip_prefix('.') {
        let n = digits(fraction);
        if n == 0 {
            return false;
        }
        rest = fraction.get(n..).unwrap_or("");
    }
    if let Some(exponent) = rest.strip_prefix(['e', 'E']) {
        let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        let n = digits(exponent);
        return n > 0 && n == exponent.len();
    }
    rest.is_empty()
}

/// The double for a decimal text, if the double's shortest text has the same value; so no digit is lost or invented.
pub(super) fn parse_decimal(text: &str) -> Option<f64> {
    if !is_json_number(text) {
        return None;
    }
    let value: f64 = text.parse().ok()?;
    if !value.is_finite() {
        return None;
    }
    // Any decimal of up to 15 digits comes back from its double (C's DBL_DIG); most numbers end here.
    if text.len() <= 15 && !text.contains(['e', 'E']) {
        return Some(value);
    }
    let (digits, power) = significant(text)?;
    let (shortest, shortest_power) = significant(&format!("{value:e}"))?;
    (digits == shortest && power == shortest_power).then_some(value)
}

/// Significant digits without zeros at either end, and the power of ten of the last one.
fn significant(text: &str) -> Option<(Vec<u8>, i64)> {
    let text = text.strip_prefix('-').unwrap_or(text);
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let mut power: i64 = exponent.parse().ok()?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    power = power.checked_sub(i64::try_from(fraction.len()).ok()?)?;
    let mut digits: Vec<u8> =
        whole.bytes().chain(fraction.bytes()).skip_while(|&d| d == b'0').collect();
    while digits.last() == Some(&b'0') {
        digits.pop();
        power += 1;
    }
    Some(if digits.is_empty() { (digits, 0) } else { (digits, power) })
}

pub(super) fn parse_bool(text: &str) -> Option<bool> {
    if text.eq_ignore_ascii_case("true") {
        Some(true)
    } else if text.eq_ignore_ascii_case("false") {
        Some(false)
    } else {
        None
    }
}

/// A day, exactly `YYYY-MM-DD`.
pub(super) fn parse_date(text: &str) -> Option<Date> {
    let bytes = text.as_bytes();
    if bytes.len() != 10 || bytes[4] != b'-' || bytes[7] != b'-' {
        return None;
    }
    let number = |range: std::ops::Range<usize>| {
        bytes[range]
            .iter()
            .try_fold(0_i16, |n, d| d.is_ascii_digit().then(|| n * 10 + i16::from(d - b'0')))
    };
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    Date::new(year, i8::try_from(month).ok()?, i8::try_from(day).ok()?).ok()
}

/// A moment in microseconds since the UNIX epoch: a day, or `YYYY-MM-DD` `T` or blank `HH:MM[:SS[.f]]` and an optional
/// offset (UTC without one). `None` also when it is finer than a microsecond.
pub(super) fn parse_timestamp(text: &str) -> Option<i64> {
    let date = parse_date(text.get(..10)?)?;
    let rest = text.get(10..)?;
    if rest.is_empty() {
        return micros(date.to_datetime(jiff::civil::Time::midnight()), Offset::UTC);
    }
    let rest = rest.strip_prefix(['T', 't', ' '])?;
    let end = rest.find(['Z', 'z', '+', '-']).unwrap_or(rest.len());
    let (clock, offset) = rest.split_at(end);
    let offset = parse_offset(offset)?;
    let two = |s: Option<&str>| {
        s.filter(|s| s.bytes().all(|b| b.is_ascii_digit())).and_then(|s| s.parse::<i8>().ok())
    };
    let (hour, minute) = (two(clock.get(0..2))?, two(clock.get(3..5))?);
    if clock.as_bytes().get(2) != Some(&b':') {
        return None;
    }
    let (second, nano) = match clock.get(5..) {
        Some("") => (0, 0),
        Some(tail) if tail.starts_with(':') => (two(tail.get(1..3))?, fraction(tail.get(3..)?)?),
        _ => return None,
    };
    micros(date.at(hour_checked(hour)?, sixty(minute)?, sixty(second)?, nano), offset)
}

fn hour_checked(hour: i8) -> Option<i8> {
    (0..24).contains(&hour).then_some(hour)
}

fn sixty(value: i8) -> Option<i8> {
    (0..60).contains(&value).then_some(value)
}

/// Nanoseconds of `.123456`; only whole microseconds.
fn fraction(text: &str) -> Option<i32> {
    if text.is_empty() {
        return Some(0);
    }
    let digits = text.strip_prefix('.')?;
    if digits.is_empty() || digits.len() > 9 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let nano: i32 = format!("{digits:0<9}").parse().ok()?;
    (nano % 1000 == 0).then_some(nano)
}

fn parse_offset(text: &str) -> Option<Offset> {
    if text.is_empty() || text.eq_ignore_ascii_case("z") {
        return Some(Offset::UTC);
    }
    let sign = if text.starts_with('-') { -1 } else { 1 };
    let digits: String = text.get(1..)?.split(':').collect();
    if !matches!((digits.len(), text.len()), (2, 3) | (4, 5..=6))
        || !digits.bytes().all(|b| b.is_ascii_digit())
    {
        return None;
    }
    let hours: i32 = digits.get(..2)?.parse().ok()?;
    let minutes: i32 =
        digits.get(2..).filter(|m| !m.is_empty()).map_or(Some(0), |m| m.parse().ok())?;
    (hours < 24 && minutes < 60)
        .then(|| Offset::from_seconds(sign * (hours * 3600 + minutes * 60)).ok())
        .flatten()
}

fn micros(at: DateTime, offset: Offset) -> Option<i64> {
    TimeZone::fixed(offset).to_timestamp(at).ok().map(jiff::Timestamp::as_microsecond)
}

/// RFC 3339 in UTC, with as many digits of a second as needed.
pub(super) fn timestamp_text(micros: i64) -> String {
    jiff::Timestamp::from_microsecond(micros)
        .map_or_else(|_| micros.to_string(), |at| at.to_string())
}

/// The JSON number of a stored decimal: whole values as integers, so `143` stays `143`.
pub(super) fn decimal_json(value: f64) -> serde_json::Value {
    // Every whole double below 2^53 is exactly an integer.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if value.fract() == 0.0 && value.abs() < EXACT {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "whole and below 2^53, checked above"
        )]
        return serde_json::Value::from(value as i64);
    }
    serde_json::Value::from(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_only_if_no_digit_is_lost() {
        for (text, expected) in [
            ("1.1162", Some(1.1162)),
            ("143", Some(143.0)),
            ("-80.275729", Some(-80.275_729)),
            ("1e5", Some(100_000.0)),
            ("0.000", Some(0.0)),
            ("1.10", Some(1.1)),
            ("52.361900000000006", Some(52.361_900_000_000_006)),
            ("0.1234567890123456789", None),
            ("18446744073709551615", None),
            ("007", None),
            ("+5", None),
            (".5", None),
            ("5.", None),
            ("1e", None),
            ("1e999", None),
            ("NaN", None),
            ("", None),
            ("-", None),
        ] {
            assert_eq!(parse_decimal(text), expected, "{text}");
        }
    }

    #[test]
    fn moments_are_read_in_the_usual_forms() {
        let at = parse_timestamp("2024-02-29T12:30:00Z");
        assert!(at.is_some());
        for same in [
            "2024-02-29 12:30",
            "2024-02-29t12:30:00.000z",
            "2024-02-29T14:30:00+02:00",
            "2024-02-29T07:00:00-0530",
            "2024-02-29T13:30+01",
        ] {
            assert_eq!(parse_timestamp(same), at, "{same}");
        }
        for wrong in [
            "2023-02-29T12:30:00Z",
            "2024-02-29T24:00",
            "2024-02-29T12:60",
            "2024-02-29T12:30:00.0000001Z",
            "2024-02-29X12:30",
            "2024-02-29T1:30",
            "2024-02-29T12:30:00+1",
            "2024-02-29T12-30",
            "2024-02-29Té2:30",
            "12:30",
        ] {
            assert_eq!(parse_timestamp(wrong), None, "{wrong}");
        }
        assert_eq!(timestamp_text(at.unwrap()), "2024-02-29T12:30:00Z");
    }
}
