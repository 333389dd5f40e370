//! The wire form: deterministic CBOR, integer keys, absent means default.
//!
//! ```text
//! query     = { ? 0: tstr text, ? 1: tstr name, ? 2: [+ condition], ? 3: [+ condition] exclude, ? 4: uint rank,
//!               ? 5: uint k, ? 6: uint probe, ? 7: uint ms, ? 8: uint kb, ? 9: true evidence }
//! condition = [tstr key, uint operator, bool soft, [* operand]]
//! operand   = value                    ; crate::attribute::Value
//!           / tstr                     ; class identifier or version requirement
//!           / bstr .size 32            ; interface digest
//! near      = [value place, uint metres]
//! ```
//!
//! A decoded condition is taken apart, built again like one that a person wrote, and must come out the same: a stranger's query obeys the
//! same types and normalisers as our own.

use comity_core::canonical::{Canonical, DecodeError, decode_minicbor, encode_minicbor};
use minicbor::decode::Error as ReadError;
use minicbor::encode::{Error as WriteError, Write};
use minicbor::{Decode, Decoder, Encode, Encoder};

use super::ast::{Condition, Draft, Near, Query, RankProfile, Test};
use super::build::{self, Op};
use super::{CONDITIONS_MAX, K_DEFAULT, VALUES_MAX, WIRE_BYTES_MAX};
use crate::attribute::Value;
use crate::taxonomy::ClassId;

impl Canonical for Query {
    fn encode(&self) -> Vec<u8> {
        encode(self)
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.len() > WIRE_BYTES_MAX {
            return Err(DecodeError::TooLong { length: bytes.len(), max: WIRE_BYTES_MAX });
        }
        decode_minicbor(bytes)
    }
}

pub(super) fn encode(query: &Query) -> Vec<u8> {
    encode_minicbor(query)
}

/// The bytes that order conditions.
pub(super) fn encode_condition(condition: &Condition) -> Vec<u8> {
    encode_minicbor(condition)
}

impl<C> Encode<C> for Query {
    fn encode<W: Write>(
        &self,
        e: &mut Encoder<W>,
        ctx: &mut C,
    ) -> Result<(), WriteError<W::Error>> {
        let budget = self.budget();
        let numbers = [
            (
                4,
                RankProfile::ALL
                    .iter()
                    .position(|p| *p == self.rank())
                    .and_then(|n| u32::try_from(n).ok())
                    .filter(|n| *n != 0),
            ),
            (5, Some(self.k()).filter(|k| *k != K_DEFAULT)),
            (6, Some(self.probe()).filter(|n| *n != 0)),
            (7, budget.ms),
            (8, budget.kb),
        ];
        let lists = [(2, self.conditions()), (3, self.exclude())];
        let texts = [(0, self.text()), (1, self.name())];
        let entries = texts.iter().filter(|(_, t)| t.is_some()).count()
            + lists.iter().filter(|(_, l)| !l.is_empty()).count()
            + numbers.iter().filter(|(_, n)| n.is_some()).count()
            + usize::from(self.evidence());
        e.map(entries as u64)?;
        for (key, text) in texts {
            if let Some(text) = text {
                e.u8(key)?.str(text)?;
            }
        }
        for (key, list) in lists {
            if !list.is_empty() {
                e.u8(key)?.array(list.len() as u64)?;
                for condition in list {
                    condition.encode(e, ctx)?;
                }
            }
        }
        for (key, number) in numbers {
            if let Some(number) = number {
                e.u8(key)?.u32(number)?;
            }
        }
        if self.evidence() {
            e.u8(9)?.bool(true)?;
        }
        Ok(())
    }
}

impl<'b, C> Decode<'b, C> for Query {
    fn decode(d: &mut Decoder<'b>, ctx: &mut C) -> Result<Self, ReadError> {
        let at = d.position();
        let mut draft = Draft::default();
        for _ in 0..definite(d.map()?, 16)? {
            match d.u8()? {
                0 => draft.text = Some(d.str()?.to_owned()),
                1 => draft.name = Some(d.str()?.to_owned()),
                2 => draft.conditions = conditions(d, ctx)?,
                3 => draft.exclude = conditions(d, ctx)?,
                4 => {
                    let code = d.u8()?;
                    let profile = RankProfile::ALL.get(usize::from(code)).copied();
                    draft.rank =
                        profile.ok_or_else(|| ReadError::message("no such rank profile"))?;
                }
                5 => draft.k = d.u32()?,
                6 => draft.probe = d.u32()?,
                7 => draft.budget.ms = Some(d.u32()?),
                8 => draft.budget.kb = Some(d.u32()?),
                9 => draft.evidence = d.bool()?,
                other => return Err(ReadError::message(format!("a query has no member {other}"))),
            }
        }
        draft.finish().map_err(|error| ReadError::custom(error).at(at))
    }
}

fn conditions<'b, C>(d: &mut Decoder<'b>, ctx: &mut C) -> Result<Vec<Condition>, ReadError> {
    let count = definite(d.array()?, CONDITIONS_MAX)?;
    (0..count).map(|_| Condition::decode(d, ctx)).collect()
}

impl<C> Encode<C> for Condition {
    fn encode<W: Write>(
        &self,
        e: &mut Encoder<W>,
        ctx: &mut C,
    ) -> Result<(), WriteError<W::Error>> {
        let op = operator(&self.test);
        let code = Op::ALL.iter().position(|known| *known == op).unwrap_or(0);
        e.array(4)?.str(&self.key)?.u64(code as u64)?.bool(self.soft)?;
        match &self.test {
            Test::Eq(v) | Test::Ne(v) | Test::Lt(v) | Test::Lte(v) | Test::Gt(v) | Test::Gte(v) => {
                values(e, ctx, std::slice::from_ref(v))
            }
            Test::Covers(v) | Test::Overlaps(v) | Test::Within(v) | Test::FinerOrEqual(v) => {
                values(e, ctx, std::slice::from_ref(v))
            }
            Test::Any(vs) | Test::All(vs) => values(e, ctx, vs),
            Test::Between(low, high) => {
                e.array(2)?;
                low.encode(e, ctx)?;
                high.encode(e, ctx)
            }
            Test::Under(classes) => {
                e.array(classes.len() as u64)?;
                for class in classes {
                    e.str(&class.to_string())?;
                }
                Ok(())
            }
            Test::Near(near) => {
                e.array(2)?;
                Value::Geo(near.place).encode(e, ctx)?;
                e.u32(near.radius_m)?.ok()
            }
            Test::Semver(requirement) => e.array(1)?.str(&requirement.to_string())?.ok(),
            Test::Exists => e.array(0)?.ok(),
            Test::Interface(digest) => e.array(1)?.bytes(digest)?.ok(),
        }
    }
}

fn values<C, W: Write>(
    e: &mut Encoder<W>,
    ctx: &mut C,
    values: &[Value],
) -> Result<(), WriteError<W::Error>> {
    e.array(values.len() as u64)?;
    for value in values {
        value.encode(e, ctx)?;
    }
    Ok(())
}

fn operator(test: &Test) -> Op {
    match test {
        Test::Eq(_) => Op::Eq,
        Test::Ne(_) => Op::Ne,
        Test::Any(_) => Op::Any,
        Test::All(_) => Op::All,
        Test::Under(_) => Op::Under,
        Test::Lt(_) => Op::Lt,
        Test::Lte(_) => Op::Lte,
        Test::Gt(_) => Op::Gt,
        Test::Gte(_) => Op::Gte,
        Test::Between(..) => Op::Between,
        Test::Covers(_) => Op::Covers,
        Test::Overlaps(_) => Op::Overlaps,
        Test::Within(_) => Op::Within,
        Test::FinerOrEqual(_) => Op::FinerOrEqual,
        Test::Near(_) => Op::Near,
        Test::Semver(_) => Op::Semver,
        Test::Exists => Op::Exists,
        Test::Interface(_) => Op::Interface,
    }
}

impl<'b, C> Decode<'b, C> for Condition {
    fn decode(d: &mut Decoder<'b>, ctx: &mut C) -> Result<Self, ReadError> {
        let at = d.position();
        definite(d.array()?, 4)?;
        let key = d.str()?.to_owned();
        let op = Op::ALL
            .get(usize::from(d.u8()?))
            .copied()
            .ok_or_else(|| ReadError::message("no such operator").at(at))?;
        let soft = d.bool()?;
        let count = definite(d.array()?, VALUES_MAX)?;
        let mut operands: Vec<Value> = Vec::new();
        let mut classes: Vec<ClassId> = Vec::new();
        let mut rest = None;
        for index in 0..count {
            if op == Op::Under {
                classes.push(d.str()?.parse().map_err(|error| ReadError::custom(error).at(at))?);
            } else if op == Op::Semver {
                rest = Some(Test::Semver(
                    d.str()?.parse().map_err(|error| ReadError::custom(error).at(at))?,
                ));
            } else if op == Op::Interface {
                rest = Some(Test::Interface(exactly_32(d)?));
            } else if let (Op::Near, 1, Some(Value::Geo(place))) = (op, index, operands.first()) {
                rest = Some(Test::Near(Near { place: *place, radius_m: d.u32()? }));
            } else {
                operands.push(Value::decode(d, ctx)?);
            }
        }
        let test = test_of(op, operands, classes, rest)
            .ok_or_else(|| ReadError::message("operands do not fit the operator").at(at))?;
        let read = Self { key, test, soft };
        let again = rebuilt(&read).map_err(|error| ReadError::custom(error).at(at))?;
        if again == read {
            Ok(read)
        } else {
            Err(ReadError::message("a key or value is not in its normal form").at(at))
        }
    }
}

/// The test of an operator, from whichever kind of operands it has.
fn test_of(
    op: Op,
    operands: Vec<Value>,
    classes: Vec<ClassId>,
    rest: Option<Test>,
) -> Option<Test> {
    let one = |make: fn(Value) -> Test, operands: Vec<Value>| {
        let [value] = <[Value; 1]>::try_from(operands).ok()?;
        Some(make(value))
    };
    match op {
        Op::Eq => one(Test::Eq, operands),
        Op::Ne => one(Test::Ne, operands),
        Op::Lt => one(Test::Lt, operands),
        Op::Lte => one(Test::Lte, operands),
        Op::Gt => one(Test::Gt, operands),
        Op::Gte => one(Test::Gte, operands),
        Op::Covers => one(Test::Covers, operands),
        Op::Overlaps => one(Test::Overlaps, operands),
        Op::Within => one(Test::Within, operands),
        Op::FinerOrEqual => one(Test::FinerOrEqual, operands),
        Op::Any => Some(Test::Any(operands)),
        Op::All => Some(Test::All(operands)),
        Op::Between => {
            let [low, high] = <[Value; 2]>::try_from(operands).ok()?;
            Some(Test::Between(low, high))
        }
        Op::Under => Some(Test::Under(classes)),
        Op::Exists => operands.is_empty().then_some(Test::Exists),
        Op::Near | Op::Semver | Op::Interface => rest,
    }
}

/// The condition as a person's spelling of it would come out.
fn rebuilt(condition: &Condition) -> Result<Condition, super::QueryError> {
    let (key, kind) = build::resolve(&condition.key)?;
    let (_, op, raw) = build::parts(condition);
    Ok(build::condition(&key, kind, op, &raw)?.soft(condition.soft))
}

fn exactly_32(d: &mut Decoder<'_>) -> Result<[u8; 32], ReadError> {
    let at = d.position();
    d.bytes()?.try_into().map_err(|_| ReadError::message("an interface digest has 32 bytes").at(at))
}

/// A definite length of at most `max`.
fn definite(length: Option<u64>, max: usize) -> Result<usize, ReadError> {
    match length.and_then(|n| usize::try_from(n).ok()) {
        Some(n) if n <= max => Ok(n),
        Some(n) => Err(ReadError::message(format!("{n} items where at most {max} are allowed"))),
        None => Err(ReadError::message("a length is indefinite")),
    }
}
