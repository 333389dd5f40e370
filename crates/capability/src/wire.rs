//! Encodings shared by the signed objects, for `#[cbor(with = "…")]`.

use std::collections::BTreeMap;

use comity_core::Time;
use minicbor::data::Type;
use minicbor::decode::Error as DecodeError;
use minicbor::encode::{Error as EncodeError, Write};
use minicbor::{Decode, Decoder, Encode, Encoder};

use crate::attribute::Value;
use crate::profile;
use crate::taxonomy::ClassId;

/// The length of a collection for an array or map head.
fn len_of(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

/// Reads an array head of at most `max` items; indefinite length is refused.
pub(crate) fn bounded_array(
    d: &mut Decoder<'_>,
    max: usize,
    what: &str,
) -> Result<usize, DecodeError> {
    let at = d.position();
    let len = d.array()?.and_then(|len| usize::try_from(len).ok());
    len.filter(|len| *len <= max)
        .ok_or_else(|| DecodeError::message(format!("at most {max} {what}")).at(at))
}

/// Times as whole milliseconds since the epoch.
pub(crate) mod millis {
    use super::{DecodeError, Decoder, EncodeError, Encoder, Time, Write};

    pub(crate) fn encode<C, W: Write>(
        time: &Time,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), EncodeError<W::Error>> {
        e.u64(time.as_millis())?.ok()
    }

    pub(crate) fn decode<C>(d: &mut Decoder<'_>, _: &mut C) -> Result<Time, DecodeError> {
        let at = d.position();
        let millis = d.u64()?;
        match millis.checked_mul(1000) {
            Some(micros) => Ok(Time::from_micros(micros)),
            None => Err(DecodeError::message("a time beyond the range of the clock").at(at)),
        }
    }
}

/// Drops what the wire does not carry, so that a decoded object equals the one that was encoded.
pub(crate) fn whole_millis(time: Time) -> Time {
    Time::from_micros(time.as_micros() / 1000 * 1000)
}

/// Nominal lengths as microseconds.
pub(crate) mod period {
    use super::{DecodeError, Decoder, EncodeError, Encoder, Write};
    use crate::attribute::Period;

    pub(crate) fn encode<C, W: Write>(
        period: &Period,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), EncodeError<W::Error>> {
        e.u64(period.micros())?.ok()
    }

    pub(crate) fn decode<C>(d: &mut Decoder<'_>, _: &mut C) -> Result<Period, DecodeError> {
        let at = d.position();
        let period = Period::from_micros(d.u64()?);
        period.ok_or_else(|| DecodeError::message("a duration beyond ten thousand years").at(at))
    }
}

/// Socket addresses in one byte string: for each `4` or `6`, the address, the port (big-endian).
pub(crate) mod addrs {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

    use super::{DecodeError, Decoder, EncodeError, Encoder, Write};

    pub(crate) fn pack(addrs: &[SocketAddr]) -> Vec<u8> {
        let mut packed = Vec::new();
        for addr in addrs {
            match addr.ip() {
                IpAddr::V4(ip) => {
                    packed.push(4);
                    packed.extend_from_slice(&ip.octets());
                }
                IpAddr::V6(ip) => {
                    packed.push(6);
                    packed.extend_from_slice(&ip.octets());
                }
            }
            packed.extend_from_slice(&addr.port().to_be_bytes());
        }
        packed
    }

    fn unpack(mut packed: &[u8]) -> Option<Vec<SocketAddr>> {
        let mut addrs = Vec::new();
        while let Some((family, rest)) = packed.split_first() {
            let (ip, rest): (IpAddr, &[u8]) = match family {
                4 => rest
                    .split_first_chunk::<4>()
                    .map(|(ip, rest)| (Ipv4Addr::from(*ip).into(), rest))?,
                6 => rest
                    .split_first_chunk::<16>()
                    .map(|(ip, rest)| (Ipv6Addr::from(*ip).into(), rest))?,
                _ => return None,
            };
            let (port, rest) = rest.split_first_chunk::<2>()?;
            addrs.push(SocketAddr::new(ip, u16::from_be_bytes(*port)));
            packed = rest;
        }
        Some(addrs)
    }

    pub(crate) fn encode<C, W: Write>(
        addrs: &[SocketAddr],
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), EncodeError<W::Error>> {
        e.bytes(&pack(addrs))?.ok()
    }

    pub(crate) fn decode<C>(
        d: &mut Decoder<'_>,
        _: &mut C,
    ) -> Result<Vec<SocketAddr>, DecodeError> {
        let at = d.position();
        unpack(d.bytes()?).ok_or_else(|| {
            DecodeError::message("packed socket addresses are cut or of an unknown family").at(at)
        })
    }
}

/// Classes as an array of numbers (known families) and labels.
pub(crate) mod classes {
    use super::{
        ClassId, DecodeError, Decoder, EncodeError, Encoder, Type, Write, bounded_array, len_of,
    };
    use crate::record::MAX_CLASSES;

    pub(crate) fn encode<C, W: Write>(
        classes: &[ClassId],
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), EncodeError<W::Error>> {
        e.array(len_of(classes.len()))?;
        for class in classes {
            match class.packed() {
                Some(packed) => e.u64(packed)?,
                None => e.str(&class.to_string())?,
            };
        }
        Ok(())
    }

    pub(crate) fn decode<C>(d: &mut Decoder<'_>, _: &mut C) -> Result<Vec<ClassId>, DecodeError> {
        let len = bounded_array(d, MAX_CLASSES, "classes")?;
        (0..len).map(|_| class(d)).collect()
    }

    fn class(d: &mut Decoder<'_>) -> Result<ClassId, DecodeError> {
        let at = d.position();
        if d.datatype()? == Type::String {
            let id: ClassId =
                d.str()?.parse().map_err(|error| DecodeError::custom(error).at(at))?;
            return Ok(id);
        }
        ClassId::from_packed(d.u64()?)
            .ok_or_else(|| DecodeError::message("a class number of no known family").at(at))
    }
}

/// An attribute key on the wire: the number of a known key, the name of any other.
///
/// A number that this program's profiles lack reads as the name `#<number>`, so that digests of newer
/// programs are kept and re-encode to the same bytes; no declared key can have that name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum WireKey {
    Number(u16),
    // RFC 8949 §4.2.1 sorts by encoding, where the length comes before the content.
    Name(usize, String),
}

impl WireKey {
    fn of(key: &str) -> Self {
        let number = key.strip_prefix('#').and_then(|number| number.parse().ok());
        match number.or_else(|| profile::by_name(key).map(|spec| spec.id)) {
            Some(number) => Self::Number(number),
            None => Self::Name(key.len(), key.to_owned()),
        }
    }

    fn into_key(self) -> String {
        match self {
            Self::Number(number) => profile::by_id(number)
                .map_or_else(|| format!("#{number}"), |spec| spec.key.to_owned()),
            Self::Name(_, name) => name,
        }
    }

    fn write<W: Write>(&self, e: &mut Encoder<W>) -> Result<(), EncodeError<W::Error>> {
        match self {
            Self::Number(number) => e.u16(*number)?.ok(),
            Self::Name(_, name) => e.str(name)?.ok(),
        }
    }

    fn read(d: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let at = d.position();
        if d.datatype()? != Type::String {
            return d.u16().map(Self::Number);
        }
        let name = d.str()?;
        profile::check_key(name).map_err(|error| DecodeError::custom(error).at(at))?;
        Ok(Self::Name(name.len(), name.to_owned()))
    }
}

/// Attributes as a map from numbers and names to values.
pub(crate) mod attributes {
    use super::{
        BTreeMap, Decode, DecodeError, Decoder, Encode, EncodeError, Encoder, Value, WireKey,
        Write, len_of,
    };
    use crate::record::MAX_DECLARED_ATTRIBUTES;

    pub(crate) fn encode<C, W: Write>(
        attributes: &BTreeMap<String, Value>,
        e: &mut Encoder<W>,
        ctx: &mut C,
    ) -> Result<(), EncodeError<W::Error>> {
        write(attributes.iter().map(|(key, value)| (key.as_str(), value)), e, ctx)
    }

    pub(super) fn write<'a, C, W: Write>(
        attributes: impl Iterator<Item = (&'a str, &'a Value)>,
        e: &mut Encoder<W>,
        ctx: &mut C,
    ) -> Result<(), EncodeError<W::Error>> {
        let sorted: BTreeMap<WireKey, &Value> =
            attributes.map(|(key, value)| (WireKey::of(key), value)).collect();
        e.map(len_of(sorted.len()))?;
        for (key, value) in sorted {
            key.write(e)?;
            value.encode(e, ctx)?;
        }
        Ok(())
    }

    pub(crate) fn decode<C>(
        d: &mut Decoder<'_>,
        ctx: &mut C,
    ) -> Result<BTreeMap<String, Value>, DecodeError> {
        let at = d.position();
        let len = d.map()?.and_then(|len| usize::try_from(len).ok());
        let Some(len) = len.filter(|len| *len <= MAX_DECLARED_ATTRIBUTES) else {
            return Err(DecodeError::message(format!(
                "at most {MAX_DECLARED_ATTRIBUTES} attributes"
            ))
            .at(at));
        };
        let mut attributes = BTreeMap::new();
        for _ in 0..len {
            let key = WireKey::read(d)?.into_key();
            attributes.insert(key, Value::decode(d, ctx)?);
        }
        Ok(attributes)
    }
}

/// The attributes of a digest, in the same form.
pub(crate) mod packed_attributes {
    use super::{DecodeError, Decoder, EncodeError, Encoder, Write, attributes};
    use crate::record::Attributes;

    pub(crate) fn encode<C, W: Write>(
        packed: &Attributes,
        e: &mut Encoder<W>,
        ctx: &mut C,
    ) -> Result<(), EncodeError<W::Error>> {
        attributes::write(packed.iter(), e, ctx)
    }

    pub(crate) fn decode<C>(d: &mut Decoder<'_>, ctx: &mut C) -> Result<Attributes, DecodeError> {
        attributes::decode(d, ctx).map(Attributes::from)
    }
}

/// A sorted array of attribute keys.
pub(crate) mod key_set {
    use std::collections::BTreeSet;

    use super::{
        DecodeError, Decoder, EncodeError, Encoder, WireKey, Write, bounded_array, len_of,
    };
    use crate::record::MAX_ATTRIBUTES;

    pub(crate) fn encode<C, W: Write>(
        keys: &BTreeSet<String>,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), EncodeError<W::Error>> {
        let sorted: BTreeSet<WireKey> = keys.iter().map(|key| WireKey::of(key)).collect();
        e.array(len_of(sorted.len()))?;
        for key in sorted {
            key.write(e)?;
        }
        Ok(())
    }

    pub(crate) fn decode<C>(
        d: &mut Decoder<'_>,
        _: &mut C,
    ) -> Result<BTreeSet<String>, DecodeError> {
        let len = bounded_array(d, MAX_ATTRIBUTES, "omitted attributes")?;
        (0..len).map(|_| WireKey::read(d).map(WireKey::into_key)).collect()
    }
}

/// A sorted array of tags.
pub(crate) mod tag_set {
    use std::collections::BTreeSet;

    use super::{DecodeError, Decoder, EncodeError, Encoder, Write, bounded_array, len_of};
    use crate::record::MAX_TAGS;

    pub(crate) fn encode<C, W: Write>(
        tags: &BTreeSet<String>,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), EncodeError<W::Error>> {
        e.array(len_of(tags.len()))?;
        for tag in tags {
            e.str(tag)?;
        }
        Ok(())
    }

    pub(crate) fn decode<C>(
        d: &mut Decoder<'_>,
        _: &mut C,
    ) -> Result<BTreeSet<String>, DecodeError> {
        let len = bounded_array(d, MAX_TAGS, "tags")?;
        (0..len).map(|_| d.str().map(str::to_owned)).collect()
    }
}
