//! Moments, half-open intervals and nominal lengths of time.

use std::fmt;
use std::str::FromStr;

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};

use super::json::malformed;
use super::{ValueError, ValueKind};

const MICROS_PER_DAY: i64 = 86_400_000_000;

/// A moment: whole microseconds since 1970-01-01T00:00:00Z, negative before.
///
/// Range: years 1 to 9999. (Not [`comity_core::Time`], which starts in 1970: data may be older.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(i64);

impl Moment {
    /// The start of year 1.
    pub const MIN: Self = Self(-62_135_596_800_000_000);
    /// The start of year 10000: only ever the excluded end of an interval.
    pub const END: Self = Self(253_402_300_800_000_000);

    /// A moment, if it lies in `MIN..=END`.
    pub fn from_micros(micros: i64) -> Option<Self> {
        (Self::MIN.0..=Self::END.0).contains(&micros).then_some(Self(micros))
    }

    /// Microseconds since the epoch.
    pub fn micros(self) -> i64 {
        self.0
    }

    fn from_date(date: Date) -> Option<Self> {
        Self::from_civil(date.at(0, 0, 0, 0))
    }

    fn from_civil(civil: DateTime) -> Option<Self> {
        let stamp = civil.to_zoned(TimeZone::UTC).ok()?.timestamp();
        Self::from_micros(stamp.as_microsecond())
    }

    fn is_midnight(self) -> bool {
        self.0.rem_euclid(MICROS_PER_DAY) == 0
    }

    fn date_text(self) -> String {
        Timestamp::from_microsecond(self.0)
            .map(|stamp| stamp.to_zoned(TimeZone::UTC).date().to_string())
            .unwrap_or_default()
    }
}

impl From<comity_core::Time> for Moment {
    /// The same moment; times after the year 9999 become [`Moment::END`].
    fn from(time: comity_core::Time) -> Self {
        i64::try_from(time.as_micros()).ok().and_then(Self::from_micros).unwrap_or(Self::END)
    }
}

impl fmt::Display for Moment {
    /// RFC 3339 in UTC with as many fraction digits as needed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Timestamp::from_microsecond(self.0) {
            Ok(stamp) => write!(f, "{stamp}"),
            Err(_) => f.write_str("10000-01-01T00:00:00Z"),
        }
    }
}

impl FromStr for Moment {
    type Err = ValueError;

    /// Reads an RFC 3339 time, a local time (taken as UTC), or a date, month or year (its start).
    fn from_str(text: &str) -> Result<Self, ValueError> {
        written(text.trim()).map(|written| written.first).ok_or_else(|| {
            malformed(
                ValueKind::Time,
                text,
                "write a date such as 2024-12-31 or a time such as 2024-12-31T16:00:00Z",
            )
        })
    }
}

/// What a written date or time denotes: `first` is included, `after` is the first moment past it.
/// For a time of day the two are equal: it is an instant, not a unit.
struct Written {
    first: Moment,
    after: Moment,
}

fn written(text: &str) -> Option<Written> {
    if text.contains('[') {
        return None; // zone annotations would need a zone database
    }
    if text.len() > 10 {
        let micros = match text.parse::<Timestamp>() {
            Ok(stamp) => stamp.as_microsecond(),
            Err(_) => {
                return text.parse::<DateTime>().ok().and_then(Moment::from_civil).map(instant);
            }
        };
        return Moment::from_micros(micros).map(instant);
    }
    let digits = |part: &str, len: usize| {
        (part.len() == len && part.bytes().all(|b| b.is_ascii_digit()))
            .then(|| part.parse::<i16>().ok())
            .flatten()
    };
    let mut parts = text.split('-');
    let year = digits(parts.next()?, 4).filter(|year| *year >= 1)?;
    let month = parts.next();
    let day = parts.next();
    if parts.next().is_some() {
        return None;
    }
    let small = |part: &str| digits(part, 2).and_then(|n| i8::try_from(n).ok());
    let (first, last) = match (month, day) {
        (None, _) => (Date::new(year, 1, 1).ok()?, Date::new(year, 12, 31).ok()?),
        (Some(month), None) => {
            let first = Date::new(year, small(month)?, 1).ok()?;
            (first, first.last_of_month())
        }
        (Some(month), Some(day)) => {
            let date = Date::new(year, small(month)?, small(day)?).ok()?;
            (date, date)
        }
    };
    Some(Written {
        first: Moment::from_date(first)?,
        after: Moment::from_micros(Moment::from_date(last)?.0 + MICROS_PER_DAY)?,
    })
}

fn instant(moment: Moment) -> Written {
    Written { first: moment, after: moment }
}

/// A non-empty half-open interval of time: `from` is in it, `to` is not. `None` is an open end.
///
/// Written ends that are dates, months or years denote the whole of it (ISO 8601-1 §5.5 reduced
/// precision): `2021-01-01/2024-12-31` ends where 2025 begins, and `2021..2024` is the same. An end
/// with a time of day is an instant, and as `to` it is excluded; a lone instant is the one
/// microsecond that starts there. Use [`Interval::closed`] for the first and last instant of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Interval {
    from: Option<Moment>,
    to: Option<Moment>,
}

impl Interval {
    /// All time.
    pub const ALWAYS: Self = Self { from: None, to: None };

    /// The moments at or after `from` and before `to`; `None` if there are none.
    pub fn new(from: Option<Moment>, to: Option<Moment>) -> Option<Self> {
        match (from, to) {
            (Some(from), Some(to)) if from >= to => None,
            (Some(from), None) if from >= Moment::END => None,
            (None, Some(to)) if to <= Moment::MIN => None,
            _ => Some(Self { from, to }),
        }
    }

    /// From `first` to `last`, both included; `None` if `last` is earlier.
    pub fn closed(first: Moment, last: Moment) -> Option<Self> {
        Self::new(Some(first), Some(Moment::from_micros(last.0 + 1)?))
    }

    /// The one microsecond that starts at `moment`.
    pub fn at(moment: Moment) -> Self {
        let after = Moment(moment.0.saturating_add(1).min(Moment::END.0));
        let moment = Moment(moment.0.min(Moment::END.0 - 1));
        Self { from: Some(moment), to: Some(after) }
    }

    /// The first moment in it, or `None` for an open start.
    pub fn from(&self) -> Option<Moment> {
        self.from
    }

    /// The first moment after it, or `None` for an open end.
    pub fn to(&self) -> Option<Moment> {
        self.to
    }

    /// Whether the moment lies in it.
    pub fn contains(&self, moment: Moment) -> bool {
        self.from.is_none_or(|from| from <= moment) && self.to.is_none_or(|to| moment < to)
    }

    /// Whether every moment of `other` lies in this interval. An open end is later than every end.
    pub fn covers(&self, other: &Self) -> bool {
        let starts = match (self.from, other.from) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(mine), Some(theirs)) => mine <= theirs,
        };
        let ends = match (self.to, other.to) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(mine), Some(theirs)) => mine >= theirs,
        };
        starts && ends
    }

    /// Whether every moment of this interval lies in `other`.
    pub fn within(&self, other: &Self) -> bool {
        other.covers(self)
    }

    /// Whether the two have a moment in common.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.intersection(other).is_some()
    }

    /// The moments in both, if any.
    pub fn intersection(&self, other: &Self) -> Option<Self> {
        let from = match (self.from, other.from) {
            (Some(a), Some(b)) => Some(a.max(b)),
            (a, b) => a.or(b),
        };
        let to = match (self.to, other.to) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        Self::new(from, to)
    }
}

impl fmt::Display for Interval {
    /// `first day/last day` where both ends fall on midnight UTC, RFC 3339 instants otherwise.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.from {
            None => f.write_str("..")?,
            Some(from) if from.is_midnight() => f.write_str(&from.date_text())?,
            Some(from) => write!(f, "{from}")?,
        }
        f.write_str("/")?;
        match self.to {
            None => f.write_str(".."),
            Some(to) if to.is_midnight() => f.write_str(&Moment(to.0 - MICROS_PER_DAY).date_text()),
            Some(to) => write!(f, "{to}"),
        }
    }
}

impl FromStr for Interval {
    type Err = ValueError;

    /// Reads `A/B`, `A..B` or `A`, where an end is a date, month, year, time, `..`, or nothing (open).
    /// One end of `A/B` may be an ISO 8601 duration, counted by the calendar from the other end.
    fn from_str(text: &str) -> Result<Self, ValueError> {
        parse_interval(text.trim()).ok_or_else(|| {
            malformed(
                ValueKind::Interval,
                text,
                "write it as 2021-01-01/2024-12-31, 2021..2024, 2021 or 2021/.. (start before end)",
            )
        })
    }
}

fn parse_interval(text: &str) -> Option<Interval> {
    let (start, end) = match text.split_once('/').or_else(|| text.split_once("..")) {
        Some((start, end)) => (start.trim(), end.trim()),
        None => {
            let written = written(text)?;
            return if written.first == written.after {
                Some(Interval::at(written.first))
            } else {
                Interval::new(Some(written.first), Some(written.after))
            };
        }
    };
    let open = |end: &str| end.is_empty() || end == "..";
    if open(start) && open(end) {
        // `/` and `..` alone say nothing; all time is written `../..`.
        return (start == ".." && end == "..").then_some(Interval::ALWAYS);
    }
    if end.starts_with('P') {
        let from = written(start)?.first;
        return Interval::new(Some(from), Some(add(from, end, 1)?));
    }
    if start.starts_with('P') {
        let to = written(end)?.after;
        return Interval::new(Some(add(to, start, -1)?), Some(to));
    }
    let from = if open(start) { None } else { Some(written(start)?.first) };
    let to = if open(end) { None } else { Some(written(end)?.after) };
    Interval::new(from, to)
}

/// `moment` plus (`sign` 1) or minus (-1) an ISO 8601 duration by the UTC calendar.
fn add(moment: Moment, duration: &str, sign: i64) -> Option<Moment> {
    let span: Span = duration.parse().ok()?;
    if span.is_negative() {
        return None;
    }
    let at = Timestamp::from_microsecond(moment.0).ok()?.to_zoned(TimeZone::UTC);
    let moved = at.checked_add(span.checked_mul(sign).ok()?).ok()?;
    Moment::from_micros(moved.timestamp().as_microsecond())
}

/// A nominal length of time in whole microseconds, for resolutions, update periods and latencies.
///
/// Months and years have no fixed length; here a year is 365.2425 days (the Gregorian mean) and a
/// month is a twelfth of it, so `P1M` is 30.436875 days: coarser than `P30D`, finer than `P31D`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Period(u64);

impl Period {
    /// No time at all.
    pub const ZERO: Self = Self(0);
    /// The longest: ten thousand nominal years.
    pub const MAX: Self = Self(10_000 * Self::YEAR);
    /// Microseconds of a nominal year.
    pub const YEAR: u64 = 31_556_952_000_000;
    /// Microseconds of a nominal month.
    pub const MONTH: u64 = Self::YEAR / 12;
    /// Microseconds of a day.
    pub const DAY: u64 = 86_400_000_000;

    /// A length, if it is at most [`Period::MAX`].
    pub fn from_micros(micros: u64) -> Option<Self> {
        (micros <= Self::MAX.0).then_some(Self(micros))
    }

    /// Microseconds.
    pub fn micros(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Period {
    /// ISO 8601, in years or months where the length is a whole number of them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.0;
        if micros == 0 {
            return f.write_str("PT0S");
        }
        if micros.is_multiple_of(Self::YEAR) {
            return write!(f, "P{}Y", micros / Self::YEAR);
        }
        if micros.is_multiple_of(Self::MONTH) {
            return write!(f, "P{}M", micros / Self::MONTH);
        }
        f.write_str("P")?;
        let (days, rest) = (micros / Self::DAY, micros % Self::DAY);
        if days > 0 {
            write!(f, "{days}D")?;
        }
        if rest == 0 {
            return Ok(());
        }
        f.write_str("T")?;
        let (hours, rest) = (rest / 3_600_000_000, rest % 3_600_000_000);
        let (minutes, rest) = (rest / 60_000_000, rest % 60_000_000);
        let (seconds, fraction) = (rest / 1_000_000, rest % 1_000_000);
        if hours > 0 {
            write!(f, "{hours}H")?;
        }
        if minutes > 0 {
            write!(f, "{minutes}M")?;
        }
        match (seconds, fraction) {
            (0, 0) => Ok(()),
            (_, 0) => write!(f, "{seconds}S"),
            _ => write!(f, "{seconds}.{}S", format!("{fraction:06}").trim_end_matches('0')),
        }
    }
}

impl FromStr for Period {
    type Err = ValueError;

    /// Reads ISO 8601 (`PT1M`, `P1D`, `P1M` = a month), short forms (`1m` = a minute, `1mo`, `1h`,
    /// `1d`, `1h 30m`), and the words daily, hourly, weekly, monthly, yearly and their units.
    fn from_str(text: &str) -> Result<Self, ValueError> {
        parse_period(text.trim()).ok_or_else(|| {
            malformed(
                ValueKind::Duration,
                text,
                "write an ISO 8601 duration such as PT1M or P1D, or 1m, 1h, 1d, 1mo, 1y",
            )
        })
    }
}

fn parse_period(text: &str) -> Option<Period> {
    let word = text.to_ascii_lowercase();
    let text = match word.as_str() {
        "second" | "secondly" => "1s",
        "minute" | "minutely" | "min" => "1m",
        "hour" | "hourly" => "1h",
        "day" | "daily" => "1d",
        "week" | "weekly" => "1w",
        "month" | "monthly" => "1mo",
        "quarter" | "quarterly" => "3mo",
        "year" | "yearly" | "annual" | "annually" => "1y",
        _ => text,
    };
    let span: Span = text.parse().ok()?;
    if span.is_negative() || span.get_nanoseconds() % 1000 != 0 {
        return None;
    }
    let units = [
        (i64::from(span.get_years()), Period::YEAR),
        (i64::from(span.get_months()), Period::MONTH),
        (i64::from(span.get_weeks()), 7 * Period::DAY),
        (i64::from(span.get_days()), Period::DAY),
        (i64::from(span.get_hours()), 3_600_000_000),
        (span.get_minutes(), 60_000_000),
        (span.get_seconds(), 1_000_000),
        (span.get_milliseconds(), 1_000),
        (span.get_microseconds(), 1),
        (span.get_nanoseconds() / 1000, 1),
    ];
    let mut micros = 0u64;
    for (count, unit) in units {
        micros = micros.checked_add(u64::try_from(count).ok()?.checked_mul(unit)?)?;
    }
    Period::from_micros(micros)
}
