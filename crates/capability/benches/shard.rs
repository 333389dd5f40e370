//! A custodian's work: queries over a full shard, verifying digests, and the memory that parsed digests take.
//!
//! `cargo bench -p comity-capability --bench shard`

#![allow(missing_docs, reason = "criterion_group! makes a public function")]
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_types,
    reason = "a benchmark measures time and prints"
)]

use std::hint::black_box;
use std::time::Duration;

use comity_capability::matching::{ShardLimits, evaluate_shard};
use comity_capability::query::Query;
use comity_capability::record::{Capability, Digest, Record, Visibility};
use comity_capability::taxonomy;
use comity_capability::zone::ZoneMap;
use comity_core::{AgentId, Hash, Identity, Time};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rustix::time::{ClockId, clock_gettime};
use serde_json::json;

/// A full shard.
const MEMBERS: usize = 1_024;
const NOW: Time = Time::from_secs(1_768_003_200);
const CURRENCIES: [&str; 16] = [
    "USD", "JPY", "GBP", "CHF", "SEK", "NOK", "CAD", "AUD", "CNY", "INR", "BRL", "ZAR", "PLN",
    "CZK", "HUF", "DKK",
];
const SUBJECTS: [&str; 8] = [
    "Historical foreign exchange rates by the minute",
    "Daily reference rates of central banks",
    "Tick data of currency futures",
    "Weather observations by station",
    "Airports and their runways of the world",
    "Security advisories of packages",
    "Gene expression by tissue",
    "Company filings and ratios",
];
const RESOLUTIONS: [&str; 4] = ["PT1M", "PT1H", "P1D", "P7D"];

fn member(n: usize) -> Capability {
    let mut capability = Capability::new(&format!("table-{n}")).unwrap();
    capability.visibility = Visibility::Public;
    capability.title = SUBJECTS[n % SUBJECTS.len()].into();
    capability.text = format!(
        "{}, cleaned and checked against two other sources, from {}",
        SUBJECTS[n * 3 % SUBJECTS.len()],
        CURRENCIES[n % CURRENCIES.len()]
    );
    let classes = ["fx rates", "market_data", "geography", "technology"];
    capability.classes = vec![
        taxonomy::resolve(classes[n % classes.len()]).unwrap(),
        "oasf1.1:skill/80502".parse().unwrap(),
    ];
    capability.tags = [format!("tag{}", n % 40), "history".to_owned()].into();
    let pairs: Vec<String> = (0..1 + n % 4)
        .map(|k| format!("EUR/{}", CURRENCIES[(n * 7 + k * 5) % CURRENCIES.len()]))
        .collect();
    let from = 1995 + n % 25;
    for (key, value) in [
        ("pair", json!(pairs)),
        ("time", json!(format!("{from}-01-01/{}-12-31", from + 2 + n % 20))),
        ("resolution", json!(RESOLUTIONS[n / 3 % RESOLUTIONS.len()])),
        ("price", json!(format!("0.{:05} USD", 1 + n % 977))),
        ("availability", json!(format!("0.99{}", n % 10))),
        ("license", json!("CC-BY-4.0")),
    ] {
        capability.declare(key, &value).unwrap();
    }
    capability
}

fn sealed(n: usize) -> Vec<u8> {
    let mut record = Record::new(1, NOW, Time(NOW.0 + 3_600_000_000), Hash::of(b"next"));
    record.endpoints = vec!["192.0.2.7:4433".parse().unwrap()];
    record.capabilities = vec![member(n)];
    let digest = Digest::summarise(&record, 0, Hash::of(b"record")).unwrap();
    digest.seal(&identity(n))
}

fn identity(n: usize) -> Identity {
    Identity::from_secret_bytes(&Hash::of(&n.to_be_bytes()).0)
}

const QUERIES: [(&str, &str); 8] = [
    (
        "entity, interval, resolution",
        "find where pair = EUR/USD and time covers 2005..2010 and resolution <= 1h",
    ),
    ("class subtree", "find under finance"),
    (
        "class subtree, entity, interval",
        "find under finance where pair = EUR/USD and time covers 2008..2012",
    ),
    ("free text", "find \"historical exchange rates by the minute from a central bank\""),
    (
        "preferences",
        "find under finance where pair = EUR/JPY prefer price < 0.001 USD, availability >= 99.5%, resolution <= 1h",
    ),
    ("everything ties", "find where license = CC-BY-4.0"),
    (
        "tags and exclusions",
        "find where tags any (tag1, tag2, tag3) exclude pair any (EUR/SEK, EUR/NOK)",
    ),
    (
        "nothing passes",
        "find where package = serde and time covers 1900..2030 and resolution <= 1s",
    ),
];

fn shard(c: &mut Criterion) {
    let digests: Vec<(AgentId, Digest)> = (0..MEMBERS)
        .map(|n| {
            let opened = Digest::open(&sealed(n), NOW).unwrap();
            (opened.signer, opened.payload)
        })
        .collect();
    let mut group = c.benchmark_group("shard of 1024");
    for (name, text) in QUERIES {
        let query = Query::parse_text(text).unwrap();
        let run = || {
            let members = digests.iter().map(|(agent, digest)| (*agent, digest));
            evaluate_shard(&query, members, ShardLimits::DEFAULT)
        };
        println!("{name}: {} of {MEMBERS} match", run().matching);
        group.bench_function(name, |b| {
            b.iter_custom(|times| on_cpu(times, || drop(black_box(run()))))
        });
    }
    group.bench_function("zone map of it", |b| {
        b.iter_custom(|times| {
            on_cpu(times, || {
                let mut zone = ZoneMap::new();
                digests.iter().for_each(|(_, digest)| zone.add(digest));
                black_box(&zone);
            })
        });
    });
}

fn verify(c: &mut Criterion) {
    let envelopes: Vec<Vec<u8>> = (0..64).map(sealed).collect();
    let bytes: usize = envelopes.iter().map(Vec::len).sum();
    println!("mean sealed digest: {} bytes", bytes / envelopes.len());
    let mut group = c.benchmark_group("digest");
    group.throughput(Throughput::Elements(envelopes.len() as u64));
    group.bench_function("open and verify", |b| {
        b.iter_custom(|times| {
            on_cpu(times, || {
                for envelope in &envelopes {
                    black_box(Digest::open(envelope, NOW).unwrap());
                }
            })
        });
    });
}

/// Resident memory before and after parsing many digests.
fn memory(_: &mut Criterion) {
    const PARSED: usize = 64_000;
    let Some(before) = resident() else { return };
    let envelopes: Vec<Vec<u8>> = (0..500).map(sealed).collect();
    let parsed: Vec<Digest> =
        (0..PARSED).map(|n| Digest::open(&envelopes[n % 500], NOW).unwrap().payload).collect();
    let after = resident().unwrap_or(before);
    println!(
        "memory of 1,000 parsed digests: {} KB",
        (after - before) * 1_000 / black_box(&parsed).len() / 1_000
    );
}

/// Time that this thread spent on a processor doing something so many times: other programs on the machine do not count.
fn on_cpu(times: u64, mut work: impl FnMut()) -> Duration {
    let before = cpu();
    (0..times).for_each(|_| work());
    cpu().saturating_sub(before)
}

fn cpu() -> Duration {
    let spent = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(spent).unwrap()
}

/// Bytes of this process in memory, where the system says.
fn resident() -> Option<usize> {
    const PAGE: usize = 4_096;
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    Some(statm.split(' ').nth(1)?.parse::<usize>().ok()? * PAGE)
}

criterion_group!(benches, memory, shard, verify);
criterion_main!(benches);
