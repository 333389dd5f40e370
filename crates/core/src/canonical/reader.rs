//! A reader of CBOR heads that accepts deterministic encoding alone, and the check of whole items made of it.

use super::DecodeError;

/// Whether floating-point numbers may appear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Floats {
    /// None: signed payloads of comity's own.
    Refused,
    /// Finite ones, in the shortest form that keeps the value, and only for values that [`from_json`](super::from_json)
    /// does not write as integers: requests and answers.
    Shortest,
}

/// Checks that `bytes` are one item in deterministic encoding (rule 1 of the [module](super)), nested at most
/// `max_depth` deep. Linear in the length, no allocation, recursion bounded by `max_depth`.
///
/// # Errors
/// [`DecodeError`] names the first thing that is wrong and where.
pub fn check(bytes: &[u8], max_depth: usize, floats: Floats) -> Result<(), DecodeError> {
    let mut reader = Reader::new(bytes);
    check_item(&mut reader, max_depth, max_depth, floats)?;
    reader.finish()
}

fn check_item(
    reader: &mut Reader<'_>,
    depth_left: usize,
    max: usize,
    floats: Floats,
) -> Result<(), DecodeError> {
    let offset = reader.offset();
    match reader.item()? {
        Item::Unsigned(_)
        | Item::Negative(_)
        | Item::Bytes(_)
        | Item::Text(_)
        | Item::Bool(_)
        | Item::Null => Ok(()),
        Item::Float(_) if floats == Floats::Shortest => Ok(()),
        Item::Float(_) => Err(DecodeError::Forbidden { offset, what: "a floating-point number" }),
        Item::Array(count) => {
            let depth_left =
                depth_left.checked_sub(1).ok_or(DecodeError::TooDeep { offset, max })?;
            for _ in 0..count {
                check_item(reader, depth_left, max, floats)?;
            }
            Ok(())
        }
        Item::Map(count) => {
            let depth_left =
                depth_left.checked_sub(1).ok_or(DecodeError::TooDeep { offset, max })?;
            let mut keys = KeyOrder::default();
            for _ in 0..count {
                keys.next(reader)?;
                check_item(reader, depth_left, max, floats)?;
            }
            Ok(())
        }
    }
}

/// One CBOR item, or the head of a container.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Item<'b> {
    Unsigned(u64),
    /// The number -1 - n.
    Negative(u64),
    Bytes(&'b [u8]),
    Text(&'b str),
    Array(u64),
    Map(u64),
    Bool(bool),
    Null,
    Float(f64),
}

/// Demands that each map key is a scalar and sorts after the one before it.
#[derive(Debug, Default)]
pub(super) struct KeyOrder<'b> {
    previous: Option<&'b [u8]>,
}

impl<'b> KeyOrder<'b> {
    /// Reads the next key of a map.
    pub(super) fn next(&mut self, reader: &mut Reader<'b>) -> Result<Item<'b>, DecodeError> {
        let offset = reader.offset();
        let item = reader.item()?;
        match item {
            Item::Unsigned(_) | Item::Negative(_) | Item::Bytes(_) | Item::Text(_) => {}
            Item::Array(_) | Item::Map(_) | Item::Bool(_) | Item::Null | Item::Float(_) => {
                return Err(DecodeError::Forbidden { offset, what: "a map key of this type" });
            }
        }
        let key = reader.since(offset);
        if let Some(previous) = self.previous {
            match key.cmp(previous) {
                std::cmp::Ordering::Greater => {}
                std::cmp::Ordering::Equal => return Err(DecodeError::DuplicateKey { offset }),
                std::cmp::Ordering::Less => return Err(DecodeError::UnsortedKey { offset }),
            }
        }
        self.previous = Some(key);
        Ok(item)
    }
}

/// Reads items one after the other. Numbers and lengths must be spelled the shortest way.
#[derive(Debug)]
pub(super) struct Reader<'b> {
    bytes: &'b [u8],
    offset: usize,
}

impl<'b> Reader<'b> {
    pub(super) const fn new(bytes: &'b [u8]) -> Self {
        Self { bytes, offset: 0 }
    }

    pub(super) const fn offset(&self) -> usize {
        self.offset
    }

    /// Everything read since `offset`.
    fn since(&self, offset: usize) -> &'b [u8] {
        self.bytes.get(offset..self.offset).unwrap_or_default()
    }

    /// Demands that everything is read.
    pub(super) fn finish(&self) -> Result<(), DecodeError> {
        match self.bytes.len() - self.offset {
            0 => Ok(()),
            count => Err(DecodeError::Trailing { offset: self.offset, count }),
        }
    }

    fn take(&mut self, count: u64) -> Result<&'b [u8], DecodeError> {
        let rest = &self.bytes[self.offset..];
        let taken = usize::try_from(count).ok().and_then(|count| rest.get(..count));
        let taken = taken.ok_or(DecodeError::Truncated { offset: self.bytes.len() })?;
        self.offset += taken.len();
        Ok(taken)
    }

    fn take_array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let rest = &self.bytes[self.offset..];
        let taken =
            rest.first_chunk().ok_or(DecodeError::Truncated { offset: self.bytes.len() })?;
        self.offset += N;
        Ok(*taken)
    }

    /// The next item; of a container, its head alone.
    pub(super) fn item(&mut self) -> Result<Item<'b>, DecodeError> {
        let offset = self.offset;
        let [initial] = self.take_array()?;
        let (major, info) = (initial >> 5, initial & 0x1f);
        if major == 7 {
            return self.simple(offset, info);
        }
        let argument = self.argument(offset, info)?;
        match major {
            0 => Ok(Item::Unsigned(argument)),
            1 => Ok(Item::Negative(argument)),
            2 => self.take(argument).map(Item::Bytes),
            3 => {
                let text = std::str::from_utf8(self.take(argument)?);
                text.map(Item::Text).map_err(|_| DecodeError::Utf8 { offset })
            }
            4 => Ok(Item::Array(argument)),
            5 => Ok(Item::Map(argument)),
            _ => Err(DecodeError::Forbidden { offset, what: "a tag" }),
        }
    }

    /// The number in a head. Source: RFC 8949 section 3 and 4.2.1.
    fn argument(&mut self, offset: usize, info: u8) -> Result<u64, DecodeError> {
        let (argument, least) = match info {
            0..=23 => (u64::from(info), 0),
            24 => (u64::from(u8::from_be_bytes(self.take_array()?)), 24),
            25 => (u64::from(u16::from_be_bytes(self.take_array()?)), 1 << 8),
            26 => (u64::from(u32::from_be_bytes(self.take_array()?)), 1 << 16),
            27 => (u64::from_be_bytes(self.take_array()?), 1 << 32),
            31 => return Err(DecodeError::Indefinite { offset }),
            _ => return Err(DecodeError::Forbidden { offset, what: "a reserved head" }),
        };
        if argument < least { Err(DecodeError::NotShortest { offset }) } else { Ok(argument) }
    }

    fn simple(&mut self, offset: usize, info: u8) -> Result<Item<'b>, DecodeError> {
        let (value, width) = match info {
            20 => return Ok(Item::Bool(false)),
            21 => return Ok(Item::Bool(true)),
            22 => return Ok(Item::Null),
            25 => (half::f16::from_be_bytes(self.take_array()?).to_f64(), FloatWidth::Half),
            26 => (f64::from(f32::from_be_bytes(self.take_array()?)), FloatWidth::Single),
            27 => (f64::from_be_bytes(self.take_array()?), FloatWidth::Double),
            31 => return Err(DecodeError::Forbidden { offset, what: "a break" }),
            _ => return Err(DecodeError::Forbidden { offset, what: "a simple value" }),
        };
        match canonical_number(value) {
            Some(CanonicalNumber::Float(shortest)) if shortest == width => Ok(Item::Float(value)),
            Some(_) => Err(DecodeError::NotShortest { offset }),
            None => Err(DecodeError::Forbidden { offset, what: "a number that is not finite" }),
        }
    }
}

/// The widths of a CBOR float.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FloatWidth {
    Half,
    Single,
    Double,
}

/// How a number is written canonically.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CanonicalNumber {
    Integer(i64),
    Float(FloatWidth),
}

/// Largest magnitude up to which a float without a fraction is written as an integer: every integer up to here has a
/// float of its own, so both spellings surely mean the same number.
const INTEGRAL_FLOAT_MAX: f64 = 9_007_199_254_740_992.0;

/// How `value` is written; nothing for infinities and not-a-number.
#[allow(
    clippy::float_cmp,
    reason = "the question is whether a narrower format holds exactly this value"
)]
#[allow(clippy::cast_possible_truncation, reason = "guarded by the exactness tests around it")]
pub(super) fn canonical_number(value: f64) -> Option<CanonicalNumber> {
    if !value.is_finite() {
        None
    } else if value.fract() == 0.0 && value.abs() <= INTEGRAL_FLOAT_MAX {
        Some(CanonicalNumber::Integer(value as i64))
    } else if half::f16::from_f64(value).to_f64() == value {
        Some(CanonicalNumber::Float(FloatWidth::Half))
    } else if f64::from(value as f32) == value {
        Some(CanonicalNumber::Float(FloatWidth::Single))
    } else {
        Some(CanonicalNumber::Float(FloatWidth::Double))
    }
}
