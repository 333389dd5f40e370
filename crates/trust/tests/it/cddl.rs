//! The committed grammar against the code: samples of every kind fit their rule, and what does not fit, the code does not read.
//!
//! The part of CDDL that the grammar uses is read here by a hundred lines: maps with integer keys, arrays, choices, ranges, sizes.

use std::collections::BTreeMap;

use ciborium::Value;
use comity_capability::attribute;
use comity_capability::record::{
    Beat, Capability, Digest, GroupSecret, Load, MAX_VEILED, PeerRecord, Record, Status, Tombstone,
    Veiled, Visibility,
};
use comity_core::canonical::Version;
use comity_core::receipt::{Receipt, ReceiptRoot, ShortText, sign_batch};
use comity_core::{AgentId, Canonical, Hash, Kind, Sha256Digest, envelope};
use comity_results::ack::{Ack, Verdict, countersign};
use comity_results::key::IndexKey;
use comity_results::pointer::Pointer;
use comity_results::retract::{Retract, Target};
use comity_trust::admission::{Admit, Charter, Rule};
use comity_trust::bond::Trust;
use comity_trust::endorse::{Endorse, How};
use comity_trust::evidence::Evidence;
use comity_trust::grant::{Chain, Grant};
use comity_trust::revoke::{Reason, Revocations, Revoke, SetHead, Withdrawn};
use comity_trust::succession::{Rotate, Succession, commitment};
use comity_trust::{Level, RawKey};

use crate::common::{HOUR, NOW, agent, secs};

const GRAMMAR: &str = include_str!("../../cddl/comity.cddl");

#[derive(Clone, Debug)]
enum Type {
    Name(String),
    Range(i128, i128),
    Bytes(Option<usize>),
    Text(Option<(usize, usize)>),
    Bool,
    Null,
    Array(Vec<(Occurs, Self)>),
    Map(Vec<(bool, i128, Self)>),
    /// Any number of members with such keys and such values.
    Dictionary(Box<Self>, Box<Self>),
    Tagged(u64, Box<Self>),
    Choice(Vec<Self>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Occurs {
    Once,
    Any,
    Some,
}

struct Parser {
    tokens: Vec<String>,
    at: usize,
}

fn tokens(text: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    for line in text.lines() {
        let line = line.split(';').next().unwrap_or_default();
        let mut rest = line.trim();
        while let Some(first) = rest.chars().next() {
            let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '#');
            let length =
                if word(first) { rest.find(|c| !word(c)).unwrap_or(rest.len()) } else { 1 };
            tokens.push(rest[..length].to_owned());
            rest = rest[length..].trim_start();
        }
    }
    tokens
}

impl Parser {
    fn peek(&self) -> &str {
        self.tokens.get(self.at).map_or("", String::as_str)
    }

    fn next(&mut self) -> String {
        self.at += 1;
        self.tokens[self.at - 1].clone()
    }

    fn eat(&mut self, token: &str) -> bool {
        let found = self.peek() == token;
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, token: &str) {
        assert!(self.eat(token), "expected {token}, found {} at {}", self.peek(), self.at);
    }

    fn grammar(mut self) -> BTreeMap<String, Type> {
        let mut rules = BTreeMap::new();
        while self.at < self.tokens.len() {
            let name = self.next();
            self.expect("=");
            let rule = self.choice();
            assert!(rules.insert(name.clone(), rule).is_none(), "{name} twice");
        }
        rules
    }

    fn choice(&mut self) -> Type {
        let mut types = vec![self.one()];
        while self.eat("/") {
            types.push(self.one());
        }
        if types.len() == 1 { types.remove(0) } else { Type::Choice(types) }
    }

    fn size(&mut self) -> Option<(usize, usize)> {
        if !self.eat(".size") {
            return None;
        }
        let range = |text: &str| {
            let (low, high) = text.split_once("..").unwrap_or((text, text));
            (low.parse().unwrap(), high.parse().unwrap())
        };
        if self.eat("(") {
            let found = range(&self.next());
            self.expect(")");
            Some(found)
        } else {
            Some(range(&self.next()))
        }
    }

    fn one(&mut self) -> Type {
        let token = self.next();
        match token.as_str() {
            "[" => {
                let mut items = Vec::new();
                while !self.eat("]") {
                    let occurs = if self.eat("*") {
                        Occurs::Any
                    } else if self.eat("+") {
                        Occurs::Some
                    } else {
                        Occurs::Once
                    };
                    items.push((occurs, self.choice()));
                    self.eat(",");
                }
                Type::Array(items)
            }
            "{" if self.eat("*") => {
                let key = self.choice();
                self.expect("=");
                self.expect(">");
                let value = self.choice();
                self.expect("}");
                Type::Dictionary(Box::new(key), Box::new(value))
            }
            "(" => {
                let inner = self.choice();
                self.expect(")");
                inner
            }
            "{" => {
                let mut members = Vec::new();
                while !self.eat("}") {
                    let optional = self.eat("?");
                    let key = self.next().parse().unwrap();
                    self.expect(":");
                    members.push((optional, key, self.choice()));
                    self.eat(",");
                }
                Type::Map(members)
            }
            "bstr" => Type::Bytes(self.size().map(|(size, _)| size)),
            "tstr" => Type::Text(self.size()),
            "bool" => Type::Bool,
            "null" => Type::Null,
            "uint" => Type::Range(0, i128::from(u64::MAX)),
            "int" => Type::Range(-i128::from(u64::MAX) - 1, i128::from(u64::MAX)),
            tag if tag.starts_with("#6.") => {
                self.expect("(");
                let inner = self.choice();
                self.expect(")");
                Type::Tagged(tag[3..].parse().unwrap(), Box::new(inner))
            }
            number if number.starts_with(|c: char| c.is_ascii_digit()) => {
                let (low, high) = number.split_once("..").unwrap_or((number, number));
                Type::Range(low.parse().unwrap(), high.parse().unwrap())
            }
            name => Type::Name(name.to_owned()),
        }
    }
}

fn grammar() -> BTreeMap<String, Type> {
    Parser { tokens: tokens(GRAMMAR), at: 0 }.grammar()
}

fn fits(rules: &BTreeMap<String, Type>, rule: &Type, value: &Value) -> bool {
    match (rule, value) {
        (Type::Name(name), value) => {
            fits(rules, rules.get(name).unwrap_or_else(|| panic!("no rule {name}")), value)
        }
        (Type::Choice(types), value) => types.iter().any(|rule| fits(rules, rule, value)),
        (Type::Range(low, high), Value::Integer(number)) => {
            (*low..=*high).contains(&i128::from(*number))
        }
        (Type::Bytes(size), Value::Bytes(bytes)) => size.is_none_or(|size| bytes.len() == size),
        (Type::Text(size), Value::Text(text)) => {
            size.is_none_or(|(low, high)| (low..=high).contains(&text.len()))
        }
        (Type::Bool, Value::Bool(_)) | (Type::Null, Value::Null) => true,
        (Type::Dictionary(key, member), Value::Map(entries)) => {
            entries.iter().all(|(name, value)| fits(rules, key, name) && fits(rules, member, value))
        }
        (Type::Tagged(tag, inner), Value::Tag(found, value)) => {
            tag == found && fits(rules, inner, value)
        }
        (Type::Map(members), Value::Map(entries)) => {
            let find = |key: i128| {
                entries.iter().find(|(found, _)| *found == Value::Integer(key.try_into().unwrap()))
            };
            let known = |found: &Value| {
                members
                    .iter()
                    .any(|(_, key, _)| *found == Value::Integer((*key).try_into().unwrap()))
            };
            entries.iter().all(|(key, _)| known(key))
                && members.iter().all(|(optional, key, rule)| {
                    find(*key).map_or(*optional, |(_, value)| fits(rules, rule, value))
                })
        }
        (Type::Array(items), Value::Array(values)) => match items.as_slice() {
            [(Occurs::Any, rule)] => values.iter().all(|value| fits(rules, rule, value)),
            [(Occurs::Some, rule)] => {
                !values.is_empty() && values.iter().all(|value| fits(rules, rule, value))
            }
            items => {
                items.len() == values.len()
                    && items.iter().zip(values).all(|((_, rule), value)| fits(rules, rule, value))
            }
        },
        _ => false,
    }
}

fn value(bytes: &[u8]) -> Value {
    ciborium::from_reader(bytes).unwrap()
}

fn bytes(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    ciborium::into_writer(value, &mut bytes).unwrap();
    bytes
}

/// Payload bytes, and whether the code reads payloads of its kind.
struct Sample {
    rule: &'static str,
    bytes: Vec<u8>,
    reads: fn(&[u8]) -> bool,
}

fn sample<T: Canonical>(rule: &'static str, payload: &T) -> Sample {
    Sample { rule, bytes: payload.encode(), reads: |bytes| T::decode(bytes).is_ok() }
}

fn id(n: u8) -> AgentId {
    agent(n).id()
}

fn full_grant() -> Grant {
    let scopes =
        ["a", "fx.*@b3:0000000000000000000000000000000000000000000000000000000000000000", "*"];
    let mut grant =
        Grant::new(id(2), scopes.map(|text| text.parse().unwrap()), NOW, NOW + secs(HOUR))
            .depth(2)
            .uses(5)
            .budget(9)
            .rate(3, secs(60))
            .min_level(Level::L2)
            .delegates([id(3), id(4)])
            .demand_evidence("provenance")
            .argument("amount=1..100".parse().unwrap())
            .argument("currency=EUR|7|true".parse().unwrap())
            .argument("to=acme-*".parse().unwrap());
    grant.parent = Some(Hash::of(b"parent"));
    grant
}

/// What the directory keeps.
fn directory_samples() -> Vec<Sample> {
    let until = NOW + secs(HOUR);
    let mut record = Record::new(3, NOW, until, Hash::of(b"next"));
    record.name = "Rates Ltd".to_owned();
    record.text = "Keeps tables".to_owned();
    record.endpoints = vec!["127.0.0.1:4433".parse().unwrap(), "[::1]:4433".parse().unwrap()];
    record.supersedes = Some(Hash::of(b"before"));
    let mut capability = Capability::new("fx.rates").unwrap();
    capability.visibility = Visibility::Public;
    capability.title = "Exchange rates".to_owned();
    capability.examples = vec!["EUR to USD".to_owned()];
    capability.tags = ["fx".to_owned()].into();
    for (key, value) in [
        ("x-bool", attribute::Value::Bool(true)),
        ("x-int", attribute::Value::Int(-5)),
        ("x-text", attribute::Value::Text("some words".to_owned())),
    ] {
        capability.attributes.insert(key.to_owned(), value);
    }
    record.capabilities = vec![capability, Capability::new("plain").unwrap()];
    let digest = Digest::summarise(&record, 0, Hash::of(b"record")).unwrap();
    let gone = |name: Option<&str>| Tombstone::new(1, NOW, until, name.map(str::to_owned)).unwrap();
    let addrs = ["127.0.0.1:4433".parse().unwrap()];
    let secret = GroupSecret::from_bytes([7; 32]);
    let veiled = secret
        .veil(&digest, &agent(1), &secret.pseudonym(&agent(1), 0), "class/finance", 1, NOW, until)
        .unwrap();
    let veiled = envelope::open::<Veiled>(Kind::Veiled, &veiled, MAX_VEILED).unwrap().payload;
    vec![
        sample("record", &record),
        sample("record", &Record::new(1, NOW, until, Hash::of(b"next"))),
        sample("digest", &digest),
        sample("beat", &Beat::new(1, NOW, until, Status::Draining, Load::Overloaded)),
        sample("tombstone", &gone(Some("fx.rates"))),
        sample("tombstone", &gone(None)),
        sample("peer", &PeerRecord::new(1, NOW, until, &addrs, true)),
        sample("veiled", &veiled),
    ]
}

fn samples() -> Vec<Sample> {
    let mut all = trust_samples();
    all.extend(directory_samples());
    all.extend(result_samples());
    all
}

/// What is said of answers.
fn result_samples() -> Vec<Sample> {
    let pointer = Pointer {
        version: Version,
        key: IndexKey(Hash::of(b"name")),
        producer: Hash::of(b"producer"),
        response: Hash::of(b"answer"),
        bytes: 9,
        finished_ms: 1,
        issued_ms: 2,
        expires_ms: 3,
    };
    let mut all = vec![sample("holder", &pointer)];
    for verdict in [Verdict::Received, Verdict::Confirmed, Verdict::Disputed] {
        let receipt = Hash::of(b"receipt");
        all.push(sample("ack", &Ack { version: Version, receipt, verdict, at_ms: 4 }));
    }
    let hash = Hash::of(b"x");
    for target in [Target::Capability(hash), Target::Request(hash), Target::Response(hash)] {
        all.push(sample("retract", &Retract::new(target, NOW)));
    }
    all
}

fn receipt() -> Receipt {
    let short = |text| ShortText::try_from(text).unwrap();
    Receipt {
        version: Version,
        session: Hash::of(b"s"),
        number: 7,
        caller: id(2),
        callee: id(1),
        capability: Hash::of(b"c"),
        request: Hash::of(b"q"),
        response: Hash::of(b"a"),
        status: 0,
        started_ms: 1,
        finished_ms: 2,
        cost: 3,
        evidence: Some(Hash::of(b"e")),
        leaf: Some(9),
        interface: Sha256Digest::of(b"i"),
        valid_until_ms: 5,
        data_version: Some(short("v1")),
        name: short("fx.rates"),
    }
}

fn trust_samples() -> Vec<Sample> {
    let until = NOW + secs(HOUR);
    let mut endorse = Endorse::new(id(2), "fx.*".parse().unwrap(), How::Audit, NOW, until);
    endorse.proofs = Some([Hash::of(b"1"), Hash::of(b"2")].into());
    let name = || ShortText::try_from("group").unwrap();
    let endorsers = [id(3), id(4)].map(RawKey::from).into();
    let mut governed = Charter::new(4, name(), Rule::Governed { needed: 2, endorsers }, NOW, until);
    governed.expelled = Some([RawKey::from(id(9))].into());
    let governed = governed.hosted(id(5), secs(HOUR));
    let revoke = |target| Revoke { target, at: NOW, until, reason: Reason::Misused };
    let head = SetHead { version: Version, seq: 3, at: NOW, count: 1, root: Hash::of(b"r") };
    vec![
        sample("grant", &full_grant()),
        sample("grant", &Grant::new(id(2), ["a".parse().unwrap()], NOW, until)),
        sample("revoke", &revoke(Withdrawn::Statement(Hash::of(b"x")))),
        sample("revoke", &revoke(Withdrawn::Key(id(2).into()))),
        sample("revoke-set", &head),
        sample("endorse", &endorse),
        sample("evidence", &Evidence::new(&id(2), &Hash::of(b"s"), "trace", b"blob".to_vec(), NOW)),
        sample(
            "rotate",
            &Rotate {
                version: Version,
                old: id(1).into(),
                new: id(2).into(),
                next: Hash::of(b"n"),
                at: NOW,
            },
        ),
        sample("charter", &governed),
        sample("charter", &Charter::new(1, name(), Rule::Open, NOW, until)),
        sample("charter", &Charter::new(1, name(), Rule::Private, NOW, until)),
        sample("admit", &Admit::new(id(9), id(2), "fx.*".parse().unwrap(), NOW, until)),
        sample(
            "trust",
            &Trust { version: Version, peer: id(2).into(), issued: NOW, not_after: until },
        ),
        sample(
            "receipt-root",
            &ReceiptRoot { version: Version, root: Hash::of(b"r"), size: 3, at_ms: 9 },
        ),
        sample("receipt", &receipt()),
    ]
}

#[test]
fn every_sample_fits_its_rule_and_no_other_kinds() {
    let rules = grammar();
    for sample in samples() {
        let value = value(&sample.bytes);
        assert!(fits(&rules, &rules[sample.rule], &value), "{}: {value:?}", sample.rule);
        assert!((sample.reads)(&sample.bytes));
        assert_eq!(bytes(&value), sample.bytes, "ciborium writes the same bytes");
    }
    let sealed = envelope::seal(Kind::Grant, &full_grant(), &agent(1));
    assert!(fits(&rules, &rules["envelope"], &value(&sealed)));
    let chain = Chain::issue(full_grant(), &agent(1)).unwrap();
    assert!(fits(&rules, &rules["chain"], &value(&chain.to_bytes())));
    let set = Revocations::new(id(1)).publish(&agent(1), NOW);
    assert!(fits(&rules, &rules["signed-set"], &value(&set)));
    let succession = Succession::new().rotate(&agent(1), &agent(2), commitment(&id(3)), NOW);
    assert!(fits(&rules, &rules["succession"], &value(&succession.to_bytes())));
    let signed = sign_batch(&agent(1), NOW, vec![receipt()]).unwrap().remove(0);
    assert!(fits(&rules, &rules["signed-receipt"], &value(&Canonical::encode(&signed))));
    let both = countersign(signed, Verdict::Confirmed, &agent(2), NOW);
    assert!(fits(&rules, &rules["counter-signed"], &value(&both.encode())));
}

/// Every kind of signed statement has a rule of its name, or a line that says why it has none.
#[test]
fn every_kind_has_a_rule() {
    let rules = grammar();
    let sampled: Vec<&str> = samples().iter().map(|sample| sample.rule).collect();
    for kind in Kind::ALL {
        let name = kind.name();
        assert!(GRAMMAR.contains(&format!("kind \"{name}\"")) || name == "receipt", "{name}");
        if kind != Kind::Commit {
            assert!(rules.contains_key(name) && sampled.contains(&name), "{name}");
        }
    }
}

/// Every member dropped, doubled in type, added or put out of range: where the grammar says no, so does the code, and the other way about for
/// members that the grammar calls optional.
#[test]
fn what_the_grammar_refuses_the_code_refuses() {
    let rules = grammar();
    let mut refused = 0;
    for sample in samples() {
        let Value::Map(members) = value(&sample.bytes) else { panic!("payloads are maps") };
        let mut altered = Vec::new();
        for n in 0..members.len() {
            let mut without = members.clone();
            without.remove(n);
            altered.push(without);
            for other in [
                Value::Null,
                Value::Bool(true),
                Value::Text("x".repeat(70)),
                Value::Bytes(vec![0; 31]),
                Value::Integer((-1).into()),
                Value::Integer(u64::MAX.into()),
                Value::Array(Vec::new()),
                Value::Array(vec![Value::Integer(9.into())]),
                Value::Map(Vec::new()),
                Value::Float(1.5),
            ] {
                let mut with = members.clone();
                with[n].1 = other;
                altered.push(with);
            }
        }
        let mut more = members.clone();
        more.push((Value::Integer(23.into()), Value::Integer(0.into())));
        altered.push(more);
        for members in altered {
            let value = Value::Map(members);
            let (grammar, code) =
                (fits(&rules, &rules[sample.rule], &value), (sample.reads)(&bytes(&value)));
            assert!(grammar || !code, "{} is read and does not fit: {value:?}", sample.rule);
            refused += u32::from(!grammar);
        }
        // What is optional in the grammar may be left out.
        let Type::Map(known) = &rules[sample.rule] else { panic!("payloads are maps") };
        for (optional, key, _) in known {
            let mut without = members.clone();
            without.retain(|(found, _)| *found != Value::Integer((*key).try_into().unwrap()));
            if without.len() < members.len() {
                assert_eq!(
                    (sample.reads)(&bytes(&Value::Map(without))),
                    *optional,
                    "{} {key}",
                    sample.rule
                );
            }
        }
    }
    assert!(refused > 500, "{refused}");
}
