//! What trust costs a callee: chains by their links, the worst that a stranger or a holder can send, policies, sets, groups, evidence.
//!
//! Measured in time on the processor, so that a busy machine changes little.
//!
//! `cargo bench -p comity-trust --bench trust`

#![allow(missing_docs, reason = "criterion_group! makes a public function")]
#![allow(clippy::unwrap_used, reason = "a benchmark that cannot set up its case fails")]

use std::fmt::Write as _;
use std::hint::black_box;
use std::time::Duration;

use comity_core::receipt::{Receipt, ShortText, sign_batch};
use comity_core::{Hash, Identity, Sha256Digest, Time};
use comity_trust::access::{Access, Call};
use comity_trust::admission::{Admit, Charter, Group, MAX_ENDORSERS, Rule};
use comity_trust::evidence::{Evidence, ModelSigning, Provenance, TrustedKeys, Verifiers};
use comity_trust::grant::{
    Ask, Chain, Context, Counters, Grant, MAX_CHAIN, NO_EVIDENCE, SessionGrants,
};
use comity_trust::policy::{Policy, Request};
use comity_trust::revoke::{MAX_ENTRIES, Reason, Revocations, Withdrawn};
use comity_trust::succession::{MAX_STEPS, Pin, Succession, commitment};
use comity_trust::{Level, Scope, Target};
use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use criterion::{Criterion, criterion_group, criterion_main};
use rustix::time::{ClockId, clock_gettime};

const NOW: Time = Time::from_secs(1_790_000_000);

/// Time that this thread spent on the processor.
struct CpuTime;

type Bench = Criterion<CpuTime>;

fn on_processor() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap(), u32::try_from(time.tv_nsec).unwrap())
}

impl Measurement for CpuTime {
    type Intermediate = Duration;
    type Value = Duration;

    fn start(&self) -> Duration {
        on_processor()
    }

    fn end(&self, start: Duration) -> Duration {
        on_processor() - start
    }

    fn add(&self, a: &Duration, b: &Duration) -> Duration {
        *a + *b
    }

    fn zero(&self) -> Duration {
        Duration::ZERO
    }

    fn to_f64(&self, value: &Duration) -> f64 {
        WallTime.to_f64(value)
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        WallTime.formatter()
    }
}

fn agent(n: u8) -> Identity {
    Identity::from_secret_bytes(&[n; 32])
}

fn grant(holder: u8, scopes: usize, depth: u8) -> Grant {
    let name = |n: usize| -> Scope {
        format!("a.capability-with-a-fairly-long-name.{n}*").parse().unwrap()
    };
    let scopes = (0..scopes).map(name);
    Grant::new(agent(holder).id(), scopes, NOW, NOW + Duration::from_secs(3600))
        .depth(depth)
        .uses(u64::MAX)
}

/// The callee is agent 1; link n is held by agent n + 1.
fn chain(links: u8, scopes: usize) -> Chain {
    let mut chain = Chain::issue(grant(2, scopes, links - 1), &agent(1)).unwrap();
    for n in 2..=links {
        chain = chain.delegate(grant(n + 1, scopes, links - n), &agent(n)).unwrap();
    }
    chain
}

fn chains(c: &mut Bench) {
    let me = agent(1).id();
    let mut group = c.benchmark_group("chain");
    for links in 1..=4 {
        let (bytes, peer) = (chain(links, 2).to_bytes(), agent(links + 1).id());
        group.bench_function(format!("verify/{links} links, {} B", bytes.len()), |b| {
            b.iter(|| Chain::from_bytes(black_box(&bytes)).unwrap().verify(&me, &peer).unwrap());
        });
    }
    // The largest that fits: four links of as many scopes as there is room for.
    let largest =
        (1..=64).rev().map(|scopes| chain_if_fits(4, scopes)).find_map(|found| found).unwrap();
    let peer = agent(5).id();
    group.bench_function(format!("worst of a holder/4 links, {} B", largest.len()), |b| {
        b.iter(|| Chain::from_bytes(black_box(&largest)).unwrap().verify(&me, &peer).unwrap());
    });
    let stolen = agent(66).id();
    group.bench_function("worst of a thief: a whole chain of others, 4 links", |b| {
        b.iter(|| {
            Chain::from_bytes(black_box(&largest)).unwrap().verify(&me, &stolen).unwrap_err()
        });
    });
    let elsewhere = agent(9).id();
    group.bench_function("worst of a stranger: a chain rooted elsewhere", |b| {
        b.iter(|| {
            Chain::from_bytes(black_box(&largest)).unwrap().verify(&elsewhere, &stolen).unwrap_err()
        });
    });
    let mut forged = largest.clone();
    forged[200] ^= 1;
    group.bench_function("worst of a stranger: a forged first link", |b| {
        b.iter(|| Chain::from_bytes(black_box(&forged)).unwrap().verify(&me, &peer).unwrap_err());
    });
    for (name, bytes) in [("array heads", vec![0x81; MAX_CHAIN]), ("zeros", vec![0; MAX_CHAIN])] {
        group.bench_function(format!("garbage/{name}"), |b| {
            b.iter(|| Chain::from_bytes(black_box(&bytes)).unwrap_err())
        });
    }
    group.finish();
}

fn chain_if_fits(links: u8, scopes: usize) -> Option<Vec<u8>> {
    let mut chain = Chain::issue(grant(2, scopes, links - 1), &agent(1)).ok()?;
    for n in 2..=links {
        chain = chain.delegate(grant(n + 1, scopes, links - n), &agent(n)).ok()?;
    }
    Some(chain.to_bytes())
}

fn calls(c: &mut Bench) {
    let (me, peer) = (agent(1).id(), agent(3).id());
    let bytes = chain(2, 2).to_bytes();
    let name = "a.capability-with-a-fairly-long-name.1";
    let target = Target { name, descriptor: Hash::of(b"d"), interface: Sha256Digest::of(b"i") };
    let ask = Ask { target, cost: 1, arguments: None };
    let revocations = Revocations::new(me);
    let mut group = c.benchmark_group("call under a chain verified before, 2 links");
    let mut session = SessionGrants::new(me, peer);
    session.verify(&bytes).unwrap();
    group
        .bench_function("session cache", |b| b.iter(|| session.verify(black_box(&bytes)).unwrap()));
    let verified = session.verify(&bytes).unwrap();
    group.bench_function("permits", |b| {
        b.iter(|| verified.permits(black_box(&ask), &Context::at(NOW, &revocations)).unwrap());
    });
    let mut counters = Counters::new();
    group.bench_function("count", |b| b.iter(|| counters.spend(&verified, 1, NOW).unwrap()));
    group.finish();
    c.bench_function("chain/issue", |b| {
        b.iter(|| Chain::issue(grant(2, 2, 1), &agent(1)).unwrap())
    });
}

/// What deciding adds to a call, all of it, against what a call of something public costs where there is no policy.
fn admissions(c: &mut Bench) {
    let (me, peer) = (agent(1).id(), agent(3).id());
    let bytes = chain(2, 2).to_bytes();
    let name = "a.capability-with-a-fairly-long-name.1";
    let target = Target { name, descriptor: Hash::of(b"d"), interface: Sha256Digest::of(b"i") };
    let chain = Chain::from_bytes(&bytes).unwrap().verify(&me, &peer).unwrap();
    let request = Request::new(peer, name, NOW);
    let public = Call {
        request: Request { public: true, ..request },
        target,
        chain: None,
        evidence: &NO_EVIDENCE,
        arguments: None,
    };
    let granted = Call { request, chain: Some(&chain), ..public };
    let mut group = c.benchmark_group("admit");
    let mut open = Access::new(me);
    group.bench_function("public, no policy (baseline)", |b| {
        b.iter(|| open.admit(black_box(&public)).unwrap());
    });
    group.bench_function("grant of 2 links, no policy", |b| {
        b.iter(|| open.admit(black_box(&granted)).unwrap());
    });
    let policy = Policy::parse(&rules(true)).unwrap();
    let mut ruled = Access { policy, ..Access::new(me) };
    group.bench_function("public, 1,000 rules", |b| {
        b.iter(|| ruled.admit(black_box(&public)).unwrap());
    });
    group.bench_function("grant of 2 links, 1,000 rules", |b| {
        b.iter(|| ruled.admit(black_box(&granted)).unwrap());
    });
    group.bench_function(
        "as a node does: chain looked up, previewed, admitted, counts encoded",
        |b| {
            let mut session = SessionGrants::new(me, peer);
            b.iter(|| {
                let chain = session.verify(black_box(&bytes)).unwrap();
                let call = Call { chain: Some(&chain), ..granted };
                ruled.preview(&call).unwrap();
                let permit = ruled.admit(&call).unwrap();
                permit.spent.map(|spent| ruled.counters.rows(&spent).collect::<Vec<_>>())
            });
        },
    );
    group.finish();
    let (answered, signer) = (receipt(me, peer), agent(1));
    c.bench_function("receipt, signed", |b| {
        b.iter(|| sign_batch(&signer, NOW, vec![answered.clone()]).unwrap());
    });
}

fn receipt(callee: comity_core::AgentId, caller: comity_core::AgentId) -> Receipt {
    let hash = Hash::of(b"x");
    Receipt {
        version: comity_core::canonical::Version,
        session: hash,
        number: 1,
        caller,
        callee,
        capability: hash,
        request: hash,
        response: hash,
        status: 0,
        started_ms: 1,
        finished_ms: 2,
        cost: 0,
        evidence: None,
        leaf: None,
        interface: Sha256Digest::of(b"i"),
        valid_until_ms: 3,
        data_version: None,
        name: "a.capability-with-a-fairly-long-name.1".try_into().unwrap(),
    }
}

/// A thousand rules: for agents, groups, endorsers and everybody, by name, beginning and end.
fn rules(mixed: bool) -> String {
    let mut text = format!("[groups]\nkey = \"{}\"\n", agent(90).id());
    for n in 0..1000u32 {
        let mut secret = [1; 32];
        secret[..4].copy_from_slice(&n.to_be_bytes());
        let key = Identity::from_secret_bytes(&secret).id();
        let (glob, who) = match (mixed, n % 8) {
            (false, _) => ("*".to_owned(), "anyone = true\nhours = \"03:00-03:01\"".to_owned()),
            (true, 0..=2) => (format!("cap-{n}"), format!("agents = [\"{key}\"]")),
            (true, 3) => (format!("fx.{}.*", n % 50), "groups = [\"key\"]".to_owned()),
            (true, 4) => (format!("*.{}", n % 50), format!("endorsed_by = [\"{key}\"]")),
            (true, 5) => (format!("cap-{}", n % 50), "anyone = true\nlevel = \"L2\"".to_owned()),
            (true, 6) => (format!("c*p-{n}"), "anyone = true".to_owned()),
            (true, _) => ("*".to_owned(), format!("agents = [\"{key}\"]\nhours = \"08:00-18:00\"")),
        };
        let effect = if n % 10 == 9 { "deny" } else { "allow" };
        let who = if effect == "deny" { who.replace("anyone = true", "") } else { who };
        let _ = write!(text, "[[rule]]\n{effect} = \"{glob}\"\n{who}\n");
    }
    text
}

fn policies(c: &mut Bench) {
    let mut group = c.benchmark_group("policy, 1,000 rules");
    let text = rules(true);
    group.bench_function("parse", |b| b.iter(|| Policy::parse(black_box(&text)).unwrap()));
    let (policy, worst) = (Policy::parse(&text).unwrap(), Policy::parse(&rules(false)).unwrap());
    let groups = [agent(90).id()];
    let endorsers: Vec<_> = (100..108).map(|n| agent(n).id()).collect();
    let base = Request {
        groups: &groups,
        endorsers: &endorsers,
        ..Request::new(agent(5).id(), "cap-13", NOW)
    };
    for (name, request) in [
        ("denied to a stranger", base),
        ("allowed to a group", Request { capability: "fx.3.rates", ..base }),
        ("allowed by level", Request { level: Level::L2, ..base }),
    ] {
        group.bench_function(format!("decide/{name}"), |b| {
            b.iter(|| policy.decide(black_box(&request)))
        });
    }
    group.bench_function("decide/all rules alike, for everybody and everything", |b| {
        b.iter(|| worst.decide(black_box(&base)))
    });
    group.bench_function("explain", |b| b.iter(|| policy.explain(black_box(&base))));
    group.finish();
}

fn statements(c: &mut Bench) {
    let mut theirs = Revocations::new(agent(2).id());
    for n in 0..MAX_ENTRIES as u64 {
        let statement = Withdrawn::Statement(Hash::of(&n.to_be_bytes()));
        theirs.revoke(statement, Time::MAX, Reason::Ended, NOW).unwrap();
    }
    let full = theirs.publish(&agent(2), NOW);
    let mut mine = Revocations::new(agent(1).id());
    c.bench_function(&format!("revocation set, {MAX_ENTRIES} entries, {} B", full.len()), |b| {
        b.iter(|| mine.apply_set(black_box(&full), NOW).unwrap());
    });

    let endorsers = (10..10 + u8::try_from(MAX_ENDORSERS).unwrap()).collect::<Vec<u8>>();
    let rule = Rule::Governed {
        needed: u8::try_from(MAX_ENDORSERS).unwrap(),
        endorsers: endorsers.iter().map(|n| agent(*n).id().into()).collect(),
    };
    let until = NOW + Duration::from_secs(3600);
    let charter = Charter::new(1, ShortText::try_from("g").unwrap(), rule, NOW, until)
        .seal(&agent(9))
        .unwrap();
    c.bench_function("charter, most endorsers", |b| {
        b.iter(|| Group::open(black_box(&charter), NOW).unwrap())
    });
    let group = Group::open(&charter, NOW).unwrap();
    let admit = |by: &u8| {
        Admit::new(group.id(), agent(2).id(), "*".parse().unwrap(), NOW, until).seal(&agent(*by))
    };
    let admissions: Vec<Vec<u8>> = endorsers.iter().map(admit).collect();
    let admissions: Vec<&[u8]> = admissions.iter().map(Vec::as_slice).collect();
    c.bench_function("admission, most endorsers", |b| {
        b.iter(|| group.admits(&agent(2).id(), "x", black_box(&admissions), &mine, NOW).unwrap());
    });

    let membership = group.membership(&agent(2).id(), &admissions).unwrap();
    c.bench_function("membership shown before, most endorsers", |b| {
        b.iter(|| group.holds(black_box(&membership), "x", &mine, NOW).unwrap());
    });
    let mut forged = charter.clone();
    forged[300] ^= 1;
    c.bench_function("worst of a stranger: a forged charter", |b| {
        b.iter(|| Group::open(black_box(&forged), NOW).unwrap_err());
    });

    let mut succession = Succession::new();
    for n in 1..=u8::try_from(MAX_STEPS).unwrap() {
        succession =
            succession.rotate(&agent(n), &agent(n + 1), commitment(&agent(n + 2).id()), NOW);
    }
    let (bytes, pin) =
        (succession.to_bytes(), Pin::new(agent(1).id(), Some(commitment(&agent(2).id())), NOW));
    c.bench_function("succession, most steps", |b| {
        b.iter(|| Succession::from_bytes(black_box(&bytes)).unwrap().follow(&pin, NOW).unwrap());
    });
}

fn evidence(c: &mut Bench) {
    let vectors: serde_json::Value =
        serde_json::from_str(include_str!("../tests/vectors/dsse.json")).unwrap();
    let (sid, me) = (Hash::of(b"s"), agent(2));
    let sealed = |kind: &str, blob: &str| {
        Evidence::new(&me.id(), &sid, kind, blob.as_bytes().to_vec(), NOW).seal(&me).unwrap()
    };
    let keys = |pem: &str, times: usize| {
        let mut keys = TrustedKeys::new();
        (0..times).for_each(|_| keys.add_pem("k", pem).unwrap());
        keys
    };
    let mut group = c.benchmark_group("evidence");
    for case in vectors["cases"].as_array().unwrap() {
        let pem = case["public_key"].as_str().unwrap();
        let bytes = sealed("provenance", case["envelope"].as_str().unwrap());
        let verifiers = Verifiers::new().with(Provenance::new(keys(pem, 1)));
        group.bench_function(format!("provenance, {}", case["alg"].as_str().unwrap()), |b| {
            b.iter(|| verifiers.appraise(black_box(&bytes), &sid, &me.id(), NOW).unwrap());
        });
    }
    let model = &vectors["model_signing"];
    let bytes = sealed("model-signing", model["bundle"].as_str().unwrap());
    let verifiers =
        Verifiers::new().with(ModelSigning::new(keys(model["public_key"].as_str().unwrap(), 1)));
    group.bench_function("model-signing, p256", |b| {
        b.iter(|| verifiers.appraise(black_box(&bytes), &sid, &me.id(), NOW).unwrap());
    });
    // Every signature wrong, every key tried, the body as long as it may be.
    let wrong = vectors["cases"][1]["envelope"]
        .as_str()
        .unwrap()
        .replace("\"payload\": \"", &format!("\"payload\": \"{}", "e30g".repeat(15_000)));
    let pem = vectors["cases"][1]["public_key"].as_str().unwrap();
    let verifiers = Verifiers::new().with(Provenance::new(keys(pem, 8)));
    let bytes = sealed("provenance", &wrong);
    group.bench_function(format!("worst of a stranger, {} B", bytes.len()), |b| {
        b.iter(|| verifiers.appraise(black_box(&bytes), &sid, &me.id(), NOW).unwrap_err());
    });
    group.finish();
}

criterion_group! {
    name = trust;
    config = Criterion::default().with_measurement(CpuTime).measurement_time(Duration::from_millis(800)).warm_up_time(Duration::from_millis(200));
    targets = chains, calls, admissions, policies, statements, evidence
}
criterion_main!(trust);
