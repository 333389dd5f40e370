//! JSON and text forms of values.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde_json::{Value as Json, json};

use super::geo::degrees;
use super::{
    Currency, Decimal, Geo, Interval, MAX_ELEMENT, MAX_SET, MAX_TEXT, Moment, Money, Period, Value,
    ValueError, ValueKind,
};
use crate::text;

/// The error for something that cannot be read, with what was given cut to a readable length.
pub(crate) fn malformed(kind: ValueKind, got: &str, hint: &'static str) -> ValueError {
    let got = got.chars().filter(|c| !text::forbidden(*c)).take(80).collect();
    ValueError::Malformed { kind, got, hint }
}

/// The kinds whose text form alone is read from JSON.
fn from_text<T: FromStr<Err = ValueError>>(
    raw: &Json,
    kind: ValueKind,
    hint: &'static str,
) -> Result<T, ValueError> {
    match raw {
        Json::String(text) => {
            check_length(text)?;
            text.parse()
        }
        Json::Number(number) => number.to_string().parse(),
        Json::Null | Json::Bool(_) | Json::Array(_) | Json::Object(_) => {
            Err(malformed(kind, &raw.to_string(), hint))
        }
    }
}

/// Bounds the work of every parser behind this module.
fn check_length(text: &str) -> Result<(), ValueError> {
    if text.len() > MAX_TEXT {
        return Err(ValueError::TooLarge { what: "text of a value in bytes", limit: MAX_TEXT });
    }
    Ok(())
}

impl Value {
    /// Reads a value of the given kind. Every kind reads its own text form; besides, integers and
    /// decimals read JSON numbers, sets read arrays or one word, intervals read `{"from", "to"}`,
    /// money reads `{"amount" or "price", "currency" or "priceCurrency"}`, places read GeoJSON's
    /// `[west, south, east, north]` and `[lon, lat]`, `{"lat", "lon"}` and `{"box": "s w n e"}`.
    ///
    /// JSON numbers with a fraction are read by their shortest decimal spelling.
    ///
    /// # Errors
    /// [`ValueError`] if it is not of that kind or exceeds a limit.
    pub fn from_json(kind: ValueKind, raw: &Json) -> Result<Self, ValueError> {
        Ok(match kind {
            ValueKind::Bool => Self::Bool(read_bool(raw)?),
            ValueKind::Int => Self::Int(read_int(raw)?),
            ValueKind::Dec => Self::Dec(from_text(raw, kind, "write a number such as 0.001")?),
            ValueKind::Enum => Self::Enum(read_word(raw, kind)?),
            ValueKind::Set => Self::Set(read_set(raw)?),
            ValueKind::Text => Self::Text(read_free_text(raw)?),
            ValueKind::Time => Self::Time(read_moment(raw)?),
            ValueKind::Interval => Self::Interval(read_interval(raw)?),
            ValueKind::Duration => {
                Self::Duration(from_text(raw, kind, "write an ISO 8601 duration such as PT1M")?)
            }
            ValueKind::Geo => Self::Geo(read_geo(raw)?),
            ValueKind::Money => Self::Money(read_money(raw)?),
            ValueKind::Semver => Self::Semver(read_version(raw)?),
            ValueKind::Bytes32 => Self::Bytes32(read_bytes32(raw)?),
        })
    }

    /// The value of a key that no profile knows: `bool`, `int`, `dec`, a set of words for an array
    /// of short scalars, and text for any string.
    ///
    /// # Errors
    /// [`ValueError`] for null, objects and nested arrays, and beyond the limits.
    pub fn infer(raw: &Json) -> Result<Self, ValueError> {
        match raw {
            Json::Bool(value) => Ok(Self::Bool(*value)),
            Json::Number(number) => match number.as_i64() {
                Some(int) => Ok(Self::Int(int)),
                None => number.to_string().parse().map(Self::Dec),
            },
            Json::String(_) => Ok(Self::Text(read_free_text(raw)?)),
            Json::Array(_) => Ok(Self::Set(read_set(raw)?)),
            Json::Null | Json::Object(_) => Err(malformed(
                ValueKind::Text,
                &raw.to_string(),
                "an attribute without a profile is a text, number, boolean or list of words",
            )),
        }
    }

    /// The JSON form: booleans, integers and arrays as such, everything else as its text.
    pub fn to_json(&self) -> Json {
        match self {
            Self::Bool(value) => json!(value),
            Self::Int(value) => json!(value),
            Self::Set(words) => json!(words),
            Self::Dec(_)
            | Self::Enum(_)
            | Self::Text(_)
            | Self::Time(_)
            | Self::Interval(_)
            | Self::Duration(_)
            | Self::Geo(_)
            | Self::Money(_)
            | Self::Semver(_)
            | Self::Bytes32(_) => Json::String(self.to_string()),
        }
    }
}

impl serde::Serialize for Value {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_json().serialize(serializer)
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => write!(f, "{value}"),
            Self::Int(value) => write!(f, "{value}"),
            Self::Dec(value) => write!(f, "{value}"),
            Self::Enum(word) | Self::Text(word) => f.write_str(word),
            Self::Set(words) => {
                for (index, word) in words.iter().enumerate() {
                    let comma = if index == 0 { "" } else { ", " };
                    write!(f, "{comma}{word}")?;
                }
                Ok(())
            }
            Self::Time(value) => write!(f, "{value}"),
            Self::Interval(value) => write!(f, "{value}"),
            Self::Duration(value) => write!(f, "{value}"),
            Self::Geo(value) => write!(f, "{value}"),
            Self::Money(value) => write!(f, "{value}"),
            Self::Semver(value) => write!(f, "{value}"),
            Self::Bytes32(bytes) => f.write_str(&comity_core::text::hex_encode(bytes)),
        }
    }
}

fn read_bool(raw: &Json) -> Result<bool, ValueError> {
    match raw {
        Json::Bool(value) => Ok(*value),
        Json::String(text) if ["true", "yes"].iter().any(|yes| text.eq_ignore_ascii_case(yes)) => {
            Ok(true)
        }
        Json::String(text) if ["false", "no"].iter().any(|no| text.eq_ignore_ascii_case(no)) => {
            Ok(false)
        }
        Json::String(_) | Json::Null | Json::Number(_) | Json::Array(_) | Json::Object(_) => {
            Err(malformed(ValueKind::Bool, &raw.to_string(), "write true or false"))
        }
    }
}

fn read_int(raw: &Json) -> Result<i64, ValueError> {
    let hint = "write a whole number";
    let number: Decimal = from_text(raw, ValueKind::Int, hint)?;
    if number.scale() > 0 {
        return Err(malformed(ValueKind::Int, &number.to_string(), hint));
    }
    Ok(number.mantissa())
}

/// A word: cleaned text of at most [`MAX_ELEMENT`] bytes, never empty.
fn read_word(raw: &Json, kind: ValueKind) -> Result<String, ValueError> {
    let word = match raw {
        Json::String(text) => text.clone(),
        Json::Number(number) => number.to_string(),
        Json::Bool(value) => value.to_string(),
        Json::Null | Json::Array(_) | Json::Object(_) => {
            return Err(malformed(kind, &raw.to_string(), "write a word"));
        }
    };
    check_length(&word)?;
    let word = text::clean(&word, MAX_TEXT);
    if word.len() > MAX_ELEMENT {
        return Err(ValueError::TooLarge { what: "a word in bytes", limit: MAX_ELEMENT });
    }
    if word.is_empty() {
        return Err(malformed(kind, "", "write a word"));
    }
    Ok(word)
}

fn read_set(raw: &Json) -> Result<BTreeSet<String>, ValueError> {
    match raw {
        Json::Array(items) => {
            let mut words = BTreeSet::new();
            for item in items {
                words.insert(read_word(item, ValueKind::Set)?);
                if words.len() > MAX_SET {
                    return Err(ValueError::TooLarge { what: "a set in elements", limit: MAX_SET });
                }
            }
            Ok(words)
        }
        Json::String(list) => list
            .split(',')
            .map(|word| read_word(&Json::String(word.to_owned()), ValueKind::Set))
            .collect(),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::Object(_) => {
            Ok(BTreeSet::from([read_word(raw, ValueKind::Set)?]))
        }
    }
}

fn read_free_text(raw: &Json) -> Result<String, ValueError> {
    let Json::String(given) = raw else {
        return Err(malformed(ValueKind::Text, &raw.to_string(), "write text in quotes"));
    };
    check_length(given)?;
    Ok(text::clean(given, MAX_TEXT))
}

fn read_moment(raw: &Json) -> Result<Moment, ValueError> {
    from_text(raw, ValueKind::Time, "write a date or an RFC 3339 time")
}

fn read_interval(raw: &Json) -> Result<Interval, ValueError> {
    if let Json::Object(fields) = raw {
        let end = |name: &str| match fields.get(name) {
            None | Some(Json::Null) => Some("..".to_owned()),
            Some(Json::String(text)) => Some(text.clone()),
            Some(Json::Number(year)) => Some(year.to_string()),
            Some(Json::Bool(_) | Json::Array(_) | Json::Object(_)) => None,
        };
        let known = fields.keys().all(|name| name == "from" || name == "to");
        if let (true, Some(from), Some(to)) = (known, end("from"), end("to")) {
            check_length(&from)?;
            check_length(&to)?;
            return format!("{from}/{to}").parse();
        }
    }
    from_text(
        raw,
        ValueKind::Interval,
        "write it as 2021-01-01/2024-12-31 or {\"from\": …, \"to\": …}",
    )
}

fn read_geo(raw: &Json) -> Result<Geo, ValueError> {
    let hint = "write lat,lon or west,south,east,north in degrees, or {\"lat\": …, \"lon\": …}";
    let wrong = || malformed(ValueKind::Geo, &raw.to_string(), hint);
    let number = |raw: &Json| from_text::<Decimal>(raw, ValueKind::Geo, hint);
    match raw {
        Json::Array(items) if items.len() == 2 || items.len() == 4 => {
            let numbers = items.iter().map(number).collect::<Result<Vec<_>, _>>()?;
            match numbers.as_slice() {
                [lon, lat] => Geo::point(*lat, *lon),
                [west, south, east, north] => Geo::bounds(*west, *south, *east, *north),
                _ => None,
            }
            .ok_or_else(wrong)
        }
        Json::Object(fields) => {
            let field = |names: [&str; 2]| names.iter().find_map(|name| fields.get(*name));
            if let (Some(lat), Some(lon)) =
                (field(["lat", "latitude"]), field(["lon", "longitude"]))
            {
                return Geo::point(number(lat)?, number(lon)?).ok_or_else(wrong);
            }
            match field(["box", "bbox"]) {
                Some(inner @ (Json::String(_) | Json::Array(_))) => read_geo(inner),
                _ => Err(wrong()),
            }
        }
        Json::String(_) => from_text(raw, ValueKind::Geo, hint),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::Array(_) => Err(wrong()),
    }
}

fn read_money(raw: &Json) -> Result<Money, ValueError> {
    let hint = "write an amount and a currency such as 0.001 USD";
    let Json::Object(fields) = raw else {
        return from_text(raw, ValueKind::Money, hint);
    };
    let field = |names: [&str; 2]| names.iter().find_map(|name| fields.get(*name));
    let (Some(amount), Some(Json::String(currency))) =
        (field(["amount", "price"]), field(["currency", "priceCurrency"]))
    else {
        return Err(malformed(ValueKind::Money, &raw.to_string(), hint));
    };
    let currency: Currency = currency.parse()?;
    Ok(Money { amount: from_text(amount, ValueKind::Money, hint)?, currency })
}

fn read_version(raw: &Json) -> Result<semver::Version, ValueError> {
    let hint = "write a version of three numbers such as 1.4.0";
    let text = match raw {
        Json::String(text) => text.trim(),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::Array(_) | Json::Object(_) => {
            return Err(malformed(ValueKind::Semver, &raw.to_string(), hint));
        }
    };
    let wrong = || malformed(ValueKind::Semver, text, hint);
    if text.len() > MAX_ELEMENT {
        return Err(ValueError::TooLarge { what: "a version in bytes", limit: MAX_ELEMENT });
    }
    let bare = text.strip_prefix(['v', 'V']).unwrap_or(text);
    let numbers = bare.split(['-', '+']).next().unwrap_or(bare);
    // `1` and `1.4` are common short spellings of `1.0.0` and `1.4.0`.
    let padding = match numbers.matches('.').count() {
        0 => ".0.0",
        1 => ".0",
        _ => "",
    };
    let padded = format!("{numbers}{padding}{}", &bare[numbers.len()..]);
    let mut version: semver::Version = padded.parse().map_err(|_| wrong())?;
    version.build = semver::BuildMetadata::EMPTY;
    Ok(version)
}

fn read_bytes32(raw: &Json) -> Result<[u8; 32], ValueError> {
    let hint = "write 64 hexadecimal digits";
    let Json::String(text) = raw else {
        return Err(malformed(ValueKind::Bytes32, &raw.to_string(), hint));
    };
    let digits = text.trim();
    let digits =
        digits.strip_prefix("b3:").or_else(|| digits.strip_prefix("sha256:")).unwrap_or(digits);
    let digits = digits.strip_prefix("0x").unwrap_or(digits).to_ascii_lowercase();
    comity_core::text::hex_decode(&digits).map_err(|_| malformed(ValueKind::Bytes32, text, hint))
}

impl Geo {
    /// West, south, east, north in degrees; a point is a box of no extent.
    pub fn degrees(&self) -> [Decimal; 4] {
        let (west, south, east, north) = self.edges();
        [west, south, east, north].map(degrees)
    }
}

impl Moment {
    /// The length from `earlier` to this moment, zero if it is not earlier.
    pub fn since(self, earlier: Self) -> Option<Period> {
        u64::try_from(self.micros() - earlier.micros()).ok().and_then(Period::from_micros)
    }
}
