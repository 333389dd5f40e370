//! Exact decimals, currencies and money.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use super::{ValueError, ValueKind};

/// An exact decimal number, `mantissa / 10^scale`, kept without trailing zeros so that equal
/// numbers are equal values.
///
/// Range: up to 18 digits, of which up to 18 after the point. That holds every price, rate and
/// coordinate we know of, and two of them always compare without overflow in 128 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Decimal {
    mantissa: i64,
    scale: u8,
}

impl Decimal {
    /// Most digits after the decimal point.
    pub const MAX_SCALE: u8 = 18;
    /// Largest magnitude of the mantissa: 18 nines.
    pub const MAX_MANTISSA: i64 = 999_999_999_999_999_999;
    /// Zero.
    pub const ZERO: Self = Self { mantissa: 0, scale: 0 };

    /// `mantissa / 10^scale`, reduced; `None` beyond [`Self::MAX_SCALE`] or, after reduction, for a
    /// fraction with more than 18 digits.
    pub fn new(mantissa: i64, scale: u8) -> Option<Self> {
        Self::reduced(i128::from(mantissa), u32::from(scale))
    }

    /// The mantissa after reduction.
    pub fn mantissa(&self) -> i64 {
        self.mantissa
    }

    /// The number of digits after the point after reduction.
    pub fn scale(&self) -> u8 {
        self.scale
    }

    /// The nearest float, for scores and display only. Never compare declarations with it.
    pub fn approximate(&self) -> f64 {
        #[allow(clippy::cast_precision_loss, reason = "documented as approximate")]
        let mantissa = self.mantissa as f64;
        mantissa / 10f64.powi(i32::from(self.scale))
    }

    fn reduced(mut mantissa: i128, mut scale: u32) -> Option<Self> {
        while scale > 0 && mantissa % 10 == 0 {
            mantissa /= 10;
            scale -= 1;
        }
        // Integers keep the whole i64 range so that every `Int` is also a number here.
        let wide = scale == 0 && i64::try_from(mantissa).is_ok();
        if scale > u32::from(Self::MAX_SCALE)
            || (!wide && mantissa.unsigned_abs() > u128::from(Self::MAX_MANTISSA.unsigned_abs()))
        {
            return None;
        }
        Some(Self { mantissa: i64::try_from(mantissa).ok()?, scale: u8::try_from(scale).ok()? })
    }

    /// This number divided by a power of ten.
    pub fn shift_right(self, digits: u8) -> Option<Self> {
        Self::reduced(i128::from(self.mantissa), u32::from(self.scale) + u32::from(digits))
    }

    /// This number times a power of ten, rounded down; up to 10^18 it fits.
    pub(crate) fn scaled(self, digits: u8) -> i128 {
        let mantissa = i128::from(self.mantissa);
        match digits.checked_sub(self.scale) {
            Some(more) => mantissa * 10i128.pow(u32::from(more)),
            None => mantissa.div_euclid(10i128.pow(u32::from(self.scale - digits))),
        }
    }

    /// This number times `factor`, if the product is a whole number that fits.
    pub fn times_whole(self, factor: u64) -> Option<i128> {
        let product = i128::from(self.mantissa).checked_mul(i128::from(factor))?;
        let unit = 10i128.pow(u32::from(self.scale));
        (product % unit == 0).then_some(product / unit)
    }
}

impl From<i64> for Decimal {
    fn from(value: i64) -> Self {
        Self { mantissa: value, scale: 0 }
    }
}

impl Ord for Decimal {
    fn cmp(&self, other: &Self) -> Ordering {
        let scale = self.scale.max(other.scale);
        // |mantissa| < 2^63 and the factor is at most 10^18, so the product is below 2^123.
        let widen = |d: &Self| i128::from(d.mantissa) * 10i128.pow(u32::from(scale - d.scale));
        widen(self).cmp(&widen(other))
    }
}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.scale == 0 {
            return write!(f, "{}", self.mantissa);
        }
        let unit = 10u64.pow(u32::from(self.scale));
        let magnitude = self.mantissa.unsigned_abs();
        let sign = if self.mantissa < 0 { "-" } else { "" };
        let width = usize::from(self.scale);
        write!(f, "{sign}{}.{:0width$}", magnitude / unit, magnitude % unit)
    }
}

impl FromStr for Decimal {
    type Err = ValueError;

    /// Reads `-12`, `0.001`, `.5`, `1e-3`, `1_000_000`, with at most 18 digits after the point.
    fn from_str(text: &str) -> Result<Self, ValueError> {
        parse(text.trim()).ok_or_else(|| {
            super::json::malformed(
                ValueKind::Dec,
                text,
                "write a decimal of up to 18 digits such as 0.001",
            )
        })
    }
}

fn parse(text: &str) -> Option<Decimal> {
    let (number, exponent) = match text.split_once(['e', 'E']) {
        Some((number, exponent)) => (number, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (negative, digits) = match number.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, number.strip_prefix('+').unwrap_or(number)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let mut mantissa = 0i128;
    let mut seen = false;
    let mut scale = 0i32;
    for (part, counts) in [(whole, 0), (fraction, 1)] {
        for c in part.chars() {
            if c == '_' && seen {
                continue;
            }
            let digit = c.to_digit(10)?;
            mantissa = mantissa.checked_mul(10)?.checked_add(i128::from(digit))?;
            scale += counts;
            seen = true;
        }
    }
    if !seen {
        return None;
    }
    if negative {
        mantissa = -mantissa;
    }
    let scale = scale.checked_sub(exponent)?;
    if mantissa == 0 {
        return Some(Decimal::ZERO);
    }
    if scale >= 0 {
        return Decimal::reduced(mantissa, u32::try_from(scale).ok()?);
    }
    let zeros = scale.unsigned_abs();
    if zeros > 18 {
        return None;
    }
    Decimal::reduced(mantissa.checked_mul(10i128.pow(zeros))?, 0)
}

/// A currency code: three letters A-Z (the shape of ISO 4217; membership is not checked).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Currency([u8; 3]);

impl Currency {
    /// The three letters.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("XXX")
    }
}

impl FromStr for Currency {
    type Err = ValueError;

    /// Reads three ASCII letters in any case.
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let code: [u8; 3] = text
            .trim()
            .as_bytes()
            .try_into()
            .ok()
            .filter(|code: &[u8; 3]| code.iter().all(u8::is_ascii_alphabetic))
            .ok_or_else(|| {
                super::json::malformed(
                    ValueKind::Money,
                    text,
                    "a currency is three letters such as USD",
                )
            })?;
        Ok(Self(code.map(|c| c.to_ascii_uppercase())))
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An amount in a currency; amounts of different currencies are never compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Money {
    /// How much.
    pub amount: Decimal,
    /// Of what.
    pub currency: Currency,
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.amount, self.currency)
    }
}

impl FromStr for Money {
    type Err = ValueError;

    /// Reads `0.001 USD`, `USD 0.001` or `0.001USD`.
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let text = text.trim();
        let wrong = || {
            super::json::malformed(
                ValueKind::Money,
                text,
                "write an amount and a currency such as 0.001 USD",
            )
        };
        if !text.is_ascii() || text.len() < 4 {
            return Err(wrong());
        }
        let (head, tail) = text.split_at(text.len() - 3);
        let (amount, currency) = if tail.parse::<Currency>().is_ok() {
            (head, tail)
        } else {
            let (head, tail) = text.split_at(3);
            (tail, head)
        };
        Ok(Self {
            amount: amount.parse().map_err(|_| wrong())?,
            currency: currency.parse().map_err(|_| wrong())?,
        })
    }
}
