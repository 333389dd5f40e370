//! Random chains of grants, decided by this crate and by their translation to Biscuit, whose semantics others have defined and tested.
//!
//! The first link becomes the authority block, each further one a third-party block signed by the holder of the link before. A block states
//! `link(its number, its holder, its depth)` and checks what its link allows; whoever is delegated to is believed if the holder before signed it:
//!
//! ```text
//! check if links(1), caller({alice}) or links($n), $n > 1, link(2, $to, $depth), $depth < 2 trusting ed25519/{alice};
//! ```
//!
//! Counters and staleness have no counterpart and are left out.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use biscuit_auth::builder::{Algorithm, AuthorizerBuilder, BlockBuilder};
use biscuit_auth::datalog::RunLimits;
use biscuit_auth::{Biscuit, KeyPair, PrivateKey};
use comity_core::{Hash, Identity, Kind, Sha256Digest, Time, envelope, text};
use comity_trust::grant::{Ask, Chain, Context, Grant, Refusal};
use comity_trust::revoke::{Reason, Revocations, Withdrawn};
use comity_trust::{Level, Scope, Target};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

const NOW: Time = Time::from_secs(1_790_000_000);
const SKEW_S: u64 = 120;
const NAMES: [&str; 8] = ["a", "ab", "abc", "b", "b.c", "c", "fx.rates", "fx.list"];
const PATTERNS: [&str; 12] =
    ["a", "a*", "ab*", "abc", "b*", "b.c", "*", "c", "fx.*", "fx.rates", "fx.list", "f*"];
const KINDS: [&str; 2] = ["tdx", "provenance"];
/// Key 0 is the callee.
const KEYS: u8 = 6;

/// What came out.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) allowed: u64,
    pub(crate) refused: u64,
    pub(crate) reasons: BTreeMap<&'static str, u64>,
}

/// One link as drawn.
#[derive(Clone, Debug)]
struct Link {
    signer: u8,
    holder: u8,
    scopes: BTreeSet<Scope>,
    from: u64,
    until: u64,
    depth: u8,
    level: usize,
    delegates: Option<BTreeSet<u8>>,
    evidence: BTreeSet<&'static str>,
    revoked: bool,
}

#[derive(Clone, Debug)]
struct Case {
    links: Vec<Link>,
    caller: u8,
    name: &'static str,
    descriptor: u8,
    level: usize,
    evidence: BTreeSet<String>,
    now: u64,
}

struct Draw(ChaCha20Rng);

impl Draw {
    fn below(&mut self, n: u64) -> u64 {
        u64::from(self.0.next_u32()) % n
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        let n = u64::try_from(from.len()).unwrap_or(1);
        from[usize::try_from(self.below(n)).unwrap_or(0)]
    }

    fn key(&mut self) -> u8 {
        1 + u8::try_from(self.below(u64::from(KEYS) - 1)).unwrap_or(0)
    }

    fn scopes(&mut self, name: &str) -> BTreeSet<Scope> {
        let count = 1 + self.below(3);
        let mut scopes: BTreeSet<Scope> = (0..count).map(|_| self.scope()).collect();
        if !self.one_in(4) {
            scopes.insert(name.parse().expect("names are patterns"));
        }
        scopes
    }

    fn scope(&mut self) -> Scope {
        let mut scope: Scope = self.pick(&PATTERNS).parse().expect("patterns are");
        if self.one_in(5) {
            scope.descriptor = Some(descriptor(u8::from(self.one_in(3))));
        }
        scope
    }

    fn link(&mut self, signer: u8, depth: u8, name: &str) -> Link {
        let from = self.below(300);
        let depth = if self.one_in(12) { u8::try_from(self.below(4)).unwrap_or(0) } else { depth };
        Link {
            signer: if self.one_in(40) { self.key() } else { signer },
            holder: self.key(),
            scopes: self.scopes(name),
            from,
            until: from + 1 + self.below(2000),
            depth,
            level: if self.one_in(4) { 2 } else { 0 },
            // A list of delegates reaches past the next link, whose signer a Biscuit cannot know when the list is made.
            delegates: (depth <= 1 && self.one_in(4)).then(|| (0..4).map(|_| self.key()).collect()),
            evidence: if self.one_in(8) { [self.pick(&KINDS)].into() } else { BTreeSet::new() },
            revoked: self.one_in(30),
        }
    }

    fn case(&mut self) -> Case {
        let name = self.pick(&NAMES);
        let count = u8::try_from(1 + self.below(4)).unwrap_or(1);
        let mut links: Vec<Link> = Vec::new();
        for number in 0..count {
            let signer = links.last().map_or(0, |link| link.holder);
            links.push(self.link(signer, count - 1 - number, name));
        }
        let last = links.last().map_or(1, |link| link.holder);
        Case {
            caller: if self.one_in(10) { self.key() } else { last },
            name,
            descriptor: u8::from(self.one_in(4)),
            level: usize::try_from(self.below(4)).unwrap_or(0),
            evidence: KINDS
                .iter()
                .filter(|_| !self.one_in(3))
                .map(|kind| (*kind).to_owned())
                .collect(),
            now: self.below(1200),
            links,
        }
    }
}

fn descriptor(n: u8) -> Hash {
    Hash::of(&[n])
}

struct Keys {
    ours: Vec<Identity>,
    theirs: Vec<KeyPair>,
}

impl Keys {
    fn new() -> Self {
        let secret = |n: u8| [n + 1; 32];
        let key = |n: u8| {
            let private =
                PrivateKey::from_bytes(&secret(n), Algorithm::Ed25519).expect("any 32 bytes");
            KeyPair::from(&private)
        };
        Self {
            ours: (0..KEYS).map(|n| Identity::from_secret_bytes(&secret(n))).collect(),
            theirs: (0..KEYS).map(key).collect(),
        }
    }

    fn ours(&self, n: u8) -> &Identity {
        &self.ours[usize::from(n)]
    }

    fn theirs(&self, n: u8) -> &KeyPair {
        &self.theirs[usize::from(n)]
    }

    fn hex(&self, n: u8) -> String {
        text::hex_encode(self.ours(n).id().as_bytes())
    }
}

/// What this crate decides.
fn ours(case: &Case, keys: &Keys) -> Result<(), Refusal> {
    let me = keys.ours(0).id();
    let mut revocations = Revocations::new(me);
    let mut links: Vec<Vec<u8>> = Vec::new();
    for link in &case.links {
        let at = |second: u64| NOW + Duration::from_secs(second);
        let holder = keys.ours(link.holder).id();
        let mut grant =
            Grant::new(holder, link.scopes.iter().cloned(), at(link.from), at(link.until))
                .depth(link.depth)
                .min_level(Level::ALL[link.level]);
        if let Some(delegates) = &link.delegates {
            grant = grant.delegates(delegates.iter().map(|n| keys.ours(*n).id()));
        }
        for kind in &link.evidence {
            grant = grant.demand_evidence(kind);
        }
        grant.parent = links.last().map(|above| Hash::of(above));
        let sealed = envelope::seal(Kind::Grant, &grant, keys.ours(link.signer));
        if link.revoked {
            let statement = Withdrawn::Statement(Hash::of(&sealed));
            revocations.revoke(statement, Time::MAX, Reason::Ended, NOW).expect("there is room");
        }
        links.push(sealed);
    }
    let bytes = Chain::from_links(links)?.to_bytes();
    let chain = Chain::from_bytes(&bytes)?.verify(&me, &keys.ours(case.caller).id())?;
    let target = Target {
        name: case.name,
        descriptor: descriptor(case.descriptor),
        interface: Sha256Digest::of(b"i"),
    };
    let context = Context {
        now: NOW + Duration::from_secs(case.now),
        level: Level::ALL[case.level],
        evidence: &case.evidence,
        ..Context::at(NOW, &revocations)
    };
    chain.permits(&Ask { target, cost: 0, arguments: None }, &context)
}

/// A link as Datalog. `number` counts from 1.
fn block(link: &Link, number: usize, keys: &Keys) -> String {
    let holder = keys.hex(link.holder);
    let next = number + 1;
    let mut code = format!("link({number}, hex:{holder}, {});\n", link.depth);
    let mut alternatives = Vec::new();
    for scope in &link.scopes {
        let name = match scope.pattern.prefix() {
            Some(prefix) => format!("call($c), $c.starts_with(\"{prefix}\")"),
            None => format!("call(\"{}\")", scope.pattern),
        };
        let pin = scope
            .descriptor
            .map(|hash| format!(", descriptor(hex:{})", text::hex_encode(hash.as_bytes())));
        alternatives.push(name + &pin.unwrap_or_default());
    }
    let _ = writeln!(code, "check if {};", alternatives.join(" or "));
    let _ = writeln!(
        code,
        "check if time($t), $t + {SKEW_S} >= {}, $t < {} + {SKEW_S};",
        link.from, link.until
    );
    let _ = writeln!(code, "check if level($l), $l >= {};", link.level);
    for kind in &link.evidence {
        let _ = writeln!(code, "check if evidence(\"{kind}\");");
    }
    let among = link.delegates.as_ref().map_or_else(String::new, |delegates| {
        // A set of one would be read as a parameter: nobody's key makes it two.
        let none = "hex:00".to_owned();
        let keys: Vec<String> =
            delegates.iter().map(|n| format!("hex:{}", keys.hex(*n))).chain([none]).collect();
        format!(", {{{}}}.contains($to)", keys.join(", "))
    });
    let _ = writeln!(
        code,
        "check if links({number}), caller(hex:{holder}) or links($n), $n > {number}, link({next}, $to, $depth), $depth < {}{among} trusting ed25519/{holder};",
        link.depth
    );
    code
}

/// What Biscuit decides of the translation.
fn theirs(case: &Case, keys: &Keys) -> Result<(), biscuit_auth::error::Token> {
    let Some((first, rest)) = case.links.split_first() else { return Ok(()) };
    let mut token =
        Biscuit::builder().code(block(first, 1, keys))?.build(keys.theirs(first.signer))?;
    for (link, number) in rest.iter().zip(2..) {
        let signer = keys.theirs(link.signer);
        let signed = token.third_party_request()?.create_block(
            &signer.private(),
            BlockBuilder::new().code(block(link, number, keys))?,
        )?;
        token = token.append_third_party(signer.public(), signed)?;
    }
    let token = Biscuit::from(token.to_vec()?, keys.theirs(0).public())?;
    // Revocation is the application's part in Biscuit: it compares the identifiers of the blocks.
    assert_eq!(token.revocation_identifiers().len(), case.links.len());
    let mut facts = format!(
        "call(\"{}\"); descriptor(hex:{}); time({}); level({}); caller(hex:{}); links({});",
        case.name,
        text::hex_encode(descriptor(case.descriptor).as_bytes()),
        case.now,
        case.level,
        keys.hex(case.caller),
        case.links.len()
    );
    for kind in &case.evidence {
        let _ = write!(facts, " evidence(\"{kind}\");");
    }
    for number in
        case.links.iter().zip(1..).filter(|(link, _)| link.revoked).map(|(_, number)| number)
    {
        let _ = write!(facts, " revoked({number});");
    }
    facts.push_str(" deny if revoked($n); allow if true;");
    let limits = RunLimits { max_time: Duration::from_secs(10), ..RunLimits::default() };
    let mut authorizer = AuthorizerBuilder::new().code(facts)?.set_limits(limits).build(&token)?;
    authorizer.authorize().map(drop)
}

/// Decides `cases` random cases both ways.
pub(crate) fn compare(cases: u64, seed: u64) -> Result<Tally, String> {
    let keys = Keys::new();
    let mut draw = Draw(ChaCha20Rng::seed_from_u64(seed));
    let mut tally = Tally::default();
    for number in 0..cases {
        let case = draw.case();
        let (ours, theirs) = (ours(&case, &keys), theirs(&case, &keys));
        if ours.is_ok() != theirs.is_ok() {
            return Err(format!(
                "case {number} of seed {seed}: ours {ours:?}, Biscuit {theirs:?}\n{case:#?}"
            ));
        }
        match ours {
            Ok(()) => tally.allowed += 1,
            Err(refusal) => {
                tally.refused += 1;
                *tally.reasons.entry(refusal.code()).or_default() += 1;
            }
        }
    }
    Ok(tally)
}
