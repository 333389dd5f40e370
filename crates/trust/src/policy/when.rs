//! When a rule applies: dates, days of the week, hours of the day.

use comity_core::Time;

const DAY_S: u64 = 86_400;
/// 1970-01-01 was a Thursday; days are counted from Monday.
const EPOCH_WEEKDAY: u64 = 3;
const NAMES: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// A window of time. All parts must hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct When {
    pub(super) from: Option<Time>,
    pub(super) until: Option<Time>,
    /// One bit for each day from Monday; none set = every day.
    pub(super) days: u8,
    /// Seconds of the day, end excluded; an end before the start is on the next day.
    pub(super) hours: Option<(u32, u32)>,
    /// Seconds east of Greenwich in which days and hours are meant.
    pub(super) offset_s: i32,
}

/// What of a window does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unmet {
    NotYet(Time),
    Past(Time),
    /// The hour and minute that it is there.
    Hours(u32, u32),
    /// The day that it is there.
    Day(u64),
}

impl std::fmt::Display for Unmet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotYet(from) => write!(f, "it begins at {from}"),
            Self::Past(until) => write!(f, "it ended at {until}"),
            Self::Hours(hour, minute) => {
                write!(f, "it is {hour:02}:{minute:02} there, outside of its hours")
            }
            Self::Day(day) => {
                let name =
                    usize::try_from(*day).ok().and_then(|day| NAMES.get(day)).unwrap_or(&"?");
                write!(f, "it is {name} there, not one of its days")
            }
        }
    }
}

impl When {
    /// What of it does not hold.
    pub(super) fn unmet(&self, now: Time) -> Option<Unmet> {
        if let Some(from) = self.from.filter(|from| now < *from) {
            return Some(Unmet::NotYet(from));
        }
        if let Some(until) = self.until.filter(|until| now >= *until) {
            return Some(Unmet::Past(until));
        }
        if self.days == 0 && self.hours.is_none() {
            return None;
        }
        let local = now.as_secs().saturating_add_signed(i64::from(self.offset_s));
        let (day, second) = (local / DAY_S, u32::try_from(local % DAY_S).unwrap_or(0));
        let mut weekday = (day + EPOCH_WEEKDAY) % 7;
        if let Some((start, end)) = self.hours {
            let over_midnight = start >= end;
            let inside = if over_midnight {
                second >= start || second < end
            } else {
                (start..end).contains(&second)
            };
            if !inside {
                return Some(Unmet::Hours(second / 3600, second / 60 % 60));
            }
            // The hours after midnight belong to the day on which the window began.
            if over_midnight && second < end {
                weekday = (weekday + 6) % 7;
            }
        }
        let on = self.days == 0 || self.days >> weekday & 1 == 1;
        (!on).then_some(Unmet::Day(weekday))
    }
}

/// `mon`, `mon-fri`, `sat-mon`: the bits of the days.
pub(super) fn days(text: &str) -> Option<u8> {
    let number = |name: &str| NAMES.iter().position(|known| *known == name);
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (number(first.trim())?, number(last.trim())?);
    let mut bits = 0;
    for step in 0..7 {
        let day = (first + step) % 7;
        bits |= 1 << day;
        if day == last {
            break;
        }
    }
    Some(bits)
}

/// `08:00-18:00` as seconds of the day.
pub(super) fn hours(text: &str) -> Option<(u32, u32)> {
    let (start, end) = text.split_once('-')?;
    let (start, end) = (clock(start.trim())?, clock(end.trim())?);
    (start != end && start < 86_400).then_some((start, end))
}

/// Midnight of a day of the Gregorian calendar, if there is one after 1970.
///
/// Source: Howard Hinnant, "chrono-compatible low-level date algorithms", `days_from_civil`.
pub(super) fn midnight(year: u64, month: u64, day: u64) -> Option<Time> {
    let year = if month <= 2 { year.checked_sub(1)? } else { year };
    let (era, year_of_era) = (year / 400, year % 400);
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day.checked_sub(1)?;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = (era * 146_097 + day_of_era).checked_sub(719_468)?;
    Some(Time::from_secs(days * DAY_S))
}

fn clock(text: &str) -> Option<u32> {
    let (hour, minute) = text.split_once(':')?;
    let digits = |part: &str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(hour) || !digits(minute) {
        return None;
    }
    let (hour, minute): (u32, u32) = (hour.parse().ok()?, minute.parse().ok()?);
    (minute < 60 && (hour < 24 || (hour == 24 && minute == 0))).then_some(hour * 3600 + minute * 60)
}

/// `+02:00`, `-05:30`, `Z` as seconds east.
pub(super) fn offset(text: &str) -> Option<i32> {
    if text == "Z" {
        return Some(0);
    }
    let (sign, rest) = match text.split_at_checked(1)? {
        ("+", rest) => (1, rest),
        ("-", rest) => (-1, rest),
        _ => return None,
    };
    let seconds = clock(rest).filter(|seconds| *seconds <= 14 * 3600)?;
    Some(sign * i32::try_from(seconds).ok()?)
}
