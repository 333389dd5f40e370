//! How quantities are written in a scenario file: durations as `"25ms"` or `"1h30m"`, shares in percent, counts as a number or `"all"`.

use std::fmt;
use std::time::Duration;

use serde::de::{self, Deserializer, Visitor};
use serde::ser::Serializer;

use crate::random::{PPM_ONE, Ppm};

const UNITS: [(&str, u64); 6] = [
    ("d", 86_400_000_000),
    ("h", 3_600_000_000),
    ("m", 60_000_000),
    ("s", 1_000_000),
    ("ms", 1_000),
    ("us", 1),
];

/// The duration in words: `90 s` is `1m30s`.
#[must_use]
pub fn duration_text(duration: Duration) -> String {
    let mut rest = crate::random::micros(duration);
    let mut text = String::new();
    for (unit, micros) in UNITS {
        let count = rest / micros;
        // Days are written as hours: `36h` reads better than `1d12h`.
        if count > 0 && unit != "d" {
            text.push_str(&format!("{count}{unit}"));
            rest -= count * micros;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// Reads a duration such as `"25ms"`, `"6h"`, `"1h30m"` or `"1.5s"`.
///
/// # Errors
/// Says what is wrong with `text` and how it should look.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || {
        format!(
            "{text:?} is not a duration: write a number with a unit, such as \"25ms\", \"90s\", \"1h30m\""
        )
    };
    let mut micros = 0_u64;
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.' && c != '_')
            .filter(|len| *len > 0)
            .ok_or_else(wrong)?;
        let (number, tail) = rest.split_at(digits);
        let letters = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let (_, scale) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        let part = scaled(&number.replace('_', ""), *scale).ok_or_else(wrong)?;
        micros = micros.checked_add(part).ok_or_else(wrong)?;
        rest = tail.trim_start();
    }
    Ok(Duration::from_micros(micros))
}

/// `number` times `scale`, exactly; at most nine decimals.
fn scaled(number: &str, scale: u64) -> Option<u64> {
    let (whole, decimals) = number.split_once('.').unwrap_or((number, ""));
    if decimals.len() > 9 || (whole.is_empty() && decimals.is_empty()) {
        return None;
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let fraction: u64 = if decimals.is_empty() { 0 } else { decimals.parse().ok()? };
    let places = 10_u128.pow(u32::try_from(decimals.len()).ok()?);
    let part = u64::try_from(u128::from(fraction) * u128::from(scale) / places).ok()?;
    whole.checked_mul(scale)?.checked_add(part)
}

struct DurationVisitor;

impl Visitor<'_> for DurationVisitor {
    type Value = Duration;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a duration with its unit, such as \"25ms\" or \"6h\"")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Duration, E> {
        parse_duration(text).map_err(E::custom)
    }
}

/// For `#[serde(with = "…")]`: a [`Duration`] as text.
pub mod duration {
    use super::{Deserializer, Duration, DurationVisitor, Serializer, duration_text};

    /// As [`duration_text`].
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&duration_text(*duration))
    }

    /// As [`super::parse_duration`].
    ///
    /// # Errors
    /// When it is not a text, or not a duration.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        from.deserialize_str(DurationVisitor)
    }
}

/// For `#[serde(with = "…")]`: an optional [`Duration`] as text.
pub mod duration_option {
    use super::{Deserializer, Duration, Serializer, duration};

    /// As [`duration::serialize`], nothing for `None`.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(duration: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => duration::serialize(duration, to),
            None => to.serialize_none(),
        }
    }

    /// As [`duration::deserialize`]; JSON may also say `null`.
    ///
    /// # Errors
    /// When it is neither nothing nor a duration.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
        #[derive(serde::Deserialize)]
        struct Wrapped(#[serde(with = "duration")] Duration);
        <Option<Wrapped> as serde::Deserialize>::deserialize(from)
            .map(|wrapped| wrapped.map(|Wrapped(duration)| duration))
    }
}

struct PercentVisitor;

impl Visitor<'_> for PercentVisitor {
    type Value = Ppm;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a share in percent, a number from 0 to 100")
    }

    fn visit_i64<E: de::Error>(self, percent: i64) -> Result<Ppm, E> {
        match u32::try_from(percent) {
            Ok(percent @ 0..=100) => Ok(percent * (PPM_ONE / 100)),
            _ => Err(E::custom(format!("{percent} is not a share: write percent, 0 to 100"))),
        }
    }

    fn visit_u64<E: de::Error>(self, percent: u64) -> Result<Ppm, E> {
        self.visit_i64(i64::try_from(percent).unwrap_or(i64::MAX))
    }

    fn visit_f64<E: de::Error>(self, percent: f64) -> Result<Ppm, E> {
        if !(0.0..=100.0).contains(&percent) {
            return Err(E::custom(format!("{percent} is not a share: write percent, 0 to 100")));
        }
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "0 to 1,000,000 by the check above"
        )]
        Ok((percent * 10_000.0).round() as Ppm)
    }
}

/// For `#[serde(with = "…")]`: a [`Ppm`] as a number of percent.
pub mod percent {
    use super::{Deserializer, PercentVisitor, Ppm, Serializer};

    /// A whole number when it is one.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(share: &Ppm, to: S) -> Result<S::Ok, S::Error> {
        if share.is_multiple_of(10_000) {
            to.serialize_u32(share / 10_000)
        } else {
            to.serialize_f64(f64::from(*share) / 10_000.0)
        }
    }

    /// A number from 0 to 100.
    ///
    /// # Errors
    /// When it is not one.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Ppm, D::Error> {
        from.deserialize_any(PercentVisitor)
    }
}

struct CountVisitor;

impl Visitor<'_> for CountVisitor {
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number, or \"all\"")
    }

    fn visit_i64<E: de::Error>(self, count: i64) -> Result<usize, E> {
        usize::try_from(count).map_err(|_| E::custom(format!("{count} is not a count")))
    }

    fn visit_u64<E: de::Error>(self, count: u64) -> Result<usize, E> {
        usize::try_from(count).map_err(|_| E::custom(format!("{count} is too many")))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<usize, E> {
        if text == "all" {
            Ok(usize::MAX)
        } else {
            Err(E::custom(format!("{text:?} is not a count: write a number or \"all\"")))
        }
    }
}

/// For `#[serde(with = "…")]`: a count that may be `"all"`, which is `usize::MAX`.
pub mod count {
    use super::{CountVisitor, Deserializer, Serializer};

    /// A number, or `"all"`.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(count: &usize, to: S) -> Result<S::Ok, S::Error> {
        if *count == usize::MAX { to.serialize_str("all") } else { to.serialize_u64(*count as u64) }
    }

    /// A number, or `"all"`.
    ///
    /// # Errors
    /// When it is neither.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<usize, D::Error> {
        from.deserialize_any(CountVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_people_write_them() {
        for (text, micros) in [
            ("25ms", 25_000),
            ("6h", 21_600_000_000),
            ("1h30m", 5_400_000_000),
            ("1.5s", 1_500_000),
            ("2d", 172_800_000_000),
            ("0s", 0),
            ("90 us", 90),
        ] {
            let text_without_blank = text.replace(' ', "");
            assert_eq!(parse_duration(&text_without_blank), Ok(Duration::from_micros(micros)));
        }
        for wrong in ["", "5", "h", "5 parsecs", "-3s", "1.s.s", "99999999999999h"] {
            let error = parse_duration(wrong).unwrap_err();
            assert!(error.contains("1h30m"), "{error}");
        }
    }

    #[test]
    fn durations_are_written_as_they_are_read() {
        for micros in [0, 1, 999, 1_000, 61_000_000, 5_400_000_000, 1_234_567_890_123] {
            let duration = Duration::from_micros(micros);
            assert_eq!(parse_duration(&duration_text(duration)), Ok(duration));
        }
    }
}
