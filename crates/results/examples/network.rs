//! The whole network at work with this crate's own decisions: how much specialist work sharing saves, and what liars get through.
//!
//! `cargo run --release -p comity-results --example network [sharing|liars|rings]` prints Markdown. Every number follows from the seed it names.
//!
//! What runs is the production code: [`Store`], [`Ask`], [`Holders`], [`Announcer`], [`accept`] with real receipts, [`Reputation`] and
//! [`Adaptive`]. What is modelled: messages arrive at once and the result index is one table; how long a specialist needs is drawn once for each
//! capability. Signing is batched by the minute, as a busy producer's is.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "an example that prints a report and stops when its set-up fails"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use comity_capability::attribute::Period;
use comity_capability::record::{Capability, Determinism, Reuse, Scope};
use comity_core::canonical::Version;
use comity_core::receipt::{Receipt, RootCache, ShortText, sign_batch};
use comity_core::{AgentId, Hash, Identity, Time};
use comity_results::ack::{Verdict, countersign};
use comity_results::adaptive::{Adaptive, Lots, Next};
use comity_results::ask::{Ask, Source};
use comity_results::key::{IndexKey, QuestionKey};
use comity_results::pointer::{HOLDERS_ENOUGH, Holders, Pointer};
use comity_results::quorum::Candidate;
use comity_results::repute::Reputation;
use comity_results::result::{Rules, SharedResult, accept};
use comity_results::retract::Retractions;
use comity_results::store::{Limits, Store};
use comity_results::terms::Terms;
use comity_results::worth::{Announcer, Facts, Renewals};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng as _};

const START: Time = Time::from_secs(1_790_000_000);
const DAY_S: u64 = 86_400;

const AGENTS: usize = 10_000;
const CAPABILITIES: usize = 200;
const QUESTIONS: usize = 10_000;
const ASKS: usize = 100_000;

fn uniform(random: &mut ChaCha8Rng) -> f64 {
    (random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
}

fn below(random: &mut ChaCha8Rng, n: usize) -> usize {
    usize::try_from(random.next_u64() % n as u64).unwrap()
}

/// Ranks 0..n, the r-th with weight 1 / (r + 1)^s.
struct Zipf(Vec<f64>);

impl Zipf {
    fn new(n: usize, s: f64) -> Self {
        let mut sum = 0.0;
        Self(
            (1..=n)
                .map(|rank| {
                    sum += (rank as f64).powf(-s);
                    sum
                })
                .collect(),
        )
    }

    fn draw(&self, random: &mut ChaCha8Rng) -> usize {
        let at = uniform(random) * self.0.last().unwrap();
        self.0.partition_point(|sum| *sum < at)
    }
}

#[derive(Default, Clone, Copy)]
struct Tally {
    asks: u64,
    local: u64,
    shared: u64,
    worked: u64,
    announced: u64,
    stale: u64,
    vain: u64,
}

struct Network {
    terms: Vec<Terms>,
    took: Vec<Duration>,
    stores: Vec<Store>,
    announcers: Vec<Announcer>,
    holders: Holders,
    renewals: Vec<Renewals>,
    requests: BTreeMap<QuestionKey, (usize, Hash)>,
    agents: BTreeMap<AgentId, usize>,
    ids: Vec<AgentId>,
    producer: Identity,
    roots: RootCache,
}

impl Network {
    fn new(seed: u64, ttl: Duration) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut key = || {
            let mut secret = [0; 32];
            random.fill_bytes(&mut secret);
            Identity::from_secret_bytes(&secret)
        };
        let producer = key();
        let ids: Vec<AgentId> = (0..AGENTS).map(|_| key().id()).collect();
        let terms = (0..CAPABILITIES).map(|number| {
            let mut capability = Capability::new(&format!("c{number}")).unwrap();
            let micros = u64::try_from(ttl.as_micros()).unwrap();
            capability.valid_for = Period::from_micros(micros).unwrap();
            capability.data_version = "1".to_owned();
            let reuse =
                Reuse { scope: Scope::Public, determinism: Determinism::Exact, ..Reuse::default() };
            capability.reuse = Some(reuse);
            Terms::of(&capability)
        });
        let terms = terms.collect();
        // 50 ms to 2 s, most of them quick.
        let took = (0..CAPABILITIES)
            .map(|_| Duration::from_secs_f64(0.05 * 40_f64.powf(uniform(&mut random))))
            .collect();
        Self {
            terms,
            took,
            stores: (0..AGENTS)
                .map(|i| Store::new(Limits { bytes_max: 256 << 10 }, i as u64))
                .collect(),
            announcers: (0..AGENTS).map(|_| Announcer::new(START)).collect(),
            holders: Holders::new(),
            renewals: vec![Renewals::new(); AGENTS],
            requests: BTreeMap::new(),
            agents: ids.iter().enumerate().map(|(index, id)| (*id, index)).collect(),
            ids,
            producer,
            roots: RootCache::new(),
        }
    }

    fn receipt(
        &self,
        capability: usize,
        request: Hash,
        body: &[u8],
        caller: AgentId,
        now: Time,
    ) -> Receipt {
        let terms = &self.terms[capability];
        Receipt {
            version: Version,
            session: Hash::of(&now.as_micros().to_be_bytes()),
            number: 0,
            caller,
            callee: self.producer.id(),
            capability: terms.descriptor,
            request,
            response: Hash::of(body),
            status: 0,
            started_ms: now.as_millis(),
            finished_ms: now.as_millis(),
            cost: 0,
            evidence: None,
            leaf: None,
            interface: terms.interface,
            valid_until_ms: terms.valid_until(now, None).as_millis(),
            data_version: Some(ShortText::try_from("1").unwrap()),
            name: ShortText::try_from(terms.name.as_str()).unwrap(),
        }
    }

    fn keep(
        &mut self,
        agent: usize,
        capability: usize,
        request: Hash,
        result: SharedResult,
        asked: u32,
        now: Time,
        tally: &mut Tally,
    ) {
        let terms = &self.terms[capability];
        let accepted =
            accept(terms, &request, result, &Rules::default(), &mut self.roots, now).unwrap();
        tally.stale += u64::from(accepted.valid_until <= now);
        let took = self.took[capability];
        let valid_for = accepted.valid_until.saturating_since(now);
        let bytes = accepted.result.body.len() as u64;
        let kept = self.stores[agent].admit(accepted, took, &Retractions::new(), now).unwrap();
        let facts = Facts { descriptor: terms.descriptor, bytes, took, valid_for, asked };
        let question = QuestionKey::new(&terms.descriptor, &request);
        if self.announcers[agent].decide(&facts, now).announces() {
            let key = IndexKey::new(terms, &question, None, false).unwrap();
            if let Some(pointer) = Pointer::new(key, &kept, now) {
                tally.announced += 1;
                let valid_until = kept.valid_until;
                self.renewals[agent].announced(question, pointer.expires(), valid_until, now);
                self.requests.insert(question, (capability, request));
                self.holders.insert(self.ids[agent], pointer, now);
            }
        }
    }

    /// Announces again what ends within a minute and is still worth it.
    fn renew(&mut self, now: Time, tally: &mut Tally) {
        for agent in 0..self.ids.len() {
            while let Some((question, first)) =
                self.renewals[agent].next_ending(now + Duration::from_secs(60))
            {
                let (capability, _) = self.requests[&question];
                let terms = &self.terms[capability];
                let Some(entry) = self.stores[agent].peek(&question, now) else { continue };
                let key = IndexKey::new(terms, &question, None, false).unwrap();
                let others = self.holders.of(&key, now + Duration::from_secs(60));
                if others.len() >= HOLDERS_ENOUGH {
                    continue;
                }
                let facts = Facts {
                    descriptor: terms.descriptor,
                    bytes: entry.accepted.result.body.len() as u64,
                    took: entry.took,
                    valid_for: entry.accepted.valid_until.saturating_since(now),
                    asked: entry.uses + 1,
                };
                let age = now.saturating_since(first);
                if !self.announcers[agent].decide_again(&facts, age, now).announces() {
                    continue;
                }
                if let Some(pointer) = Pointer::new(key, &entry.accepted, now) {
                    tally.announced += 1;
                    let valid_until = entry.accepted.valid_until;
                    self.renewals[agent].announced(question, pointer.expires(), valid_until, now);
                    self.holders.insert(self.ids[agent], pointer, now);
                }
            }
        }
    }

    /// One question. Returns whether a specialist has to work.
    fn ask(
        &mut self,
        agent: usize,
        capability: usize,
        request: Hash,
        now: Time,
        tally: &mut Tally,
    ) -> bool {
        let terms = &self.terms[capability];
        let question = QuestionKey::new(&terms.descriptor, &request);
        tally.asks += 1;
        let plan = Ask::default().plan(terms, self.stores[agent].look(&question, now)).unwrap();
        let held = plan
            .uses(Source::Local)
            .then(|| self.stores[agent].get(&question, None, now))
            .flatten();
        if let Some(entry) = held {
            tally.local += 1;
            tally.stale += u64::from(entry.accepted.valid_until <= now);
            return false;
        }
        if plan.uses(Source::Holders) {
            let key = IndexKey::new(terms, &question, None, false).unwrap();
            let descriptor = terms.descriptor;
            for (holder, _) in self.holders.of(&key, now) {
                let holder = self.agents[&holder];
                let Some(entry) = self.stores[holder].get(&question, None, now) else {
                    tally.vain += 1;
                    continue;
                };
                self.announcers[holder].asked(descriptor, true, now);
                self.announcers[agent].asked(descriptor, true, now);
                let result = entry.accepted.result.clone();
                tally.shared += 1;
                self.keep(agent, capability, request, result, entry.uses, now, tally);
                return false;
            }
        }
        self.announcers[agent].asked(terms.descriptor, false, now);
        tally.worked += 1;
        true
    }
}

/// Asks of a day, minute by minute; what specialists worked out in a minute is signed at its end.
fn sharing(seed: u64, ttl: Duration) -> (Tally, [Tally; 4]) {
    let mut network = Network::new(seed, ttl);
    let mut random = ChaCha8Rng::seed_from_u64(seed ^ 0x5a5a);
    let popularity = Zipf::new(QUESTIONS, 1.0);
    let (mut all, mut by_decade) = (Tally::default(), [Tally::default(); 4]);
    let minutes = DAY_S / 60;
    for minute in 0..minutes {
        let now = START + Duration::from_secs(minute * 60);
        network.renew(now, &mut all);
        let mut pending: BTreeMap<Hash, (usize, Vec<usize>)> = BTreeMap::new();
        for _ in 0..ASKS / usize::try_from(minutes).unwrap() {
            let (agent, rank) = (below(&mut random, AGENTS), popularity.draw(&mut random));
            let (capability, request) = (rank % CAPABILITIES, Hash::of(&rank.to_be_bytes()));
            let decade = (rank + 1).ilog10().min(3) as usize;
            let mut tally = Tally::default();
            if network.ask(agent, capability, request, now, &mut tally) {
                let waiting = pending.entry(request).or_insert((capability, Vec::new()));
                waiting.1.push(agent);
            }
            add(&mut by_decade[decade], tally);
            add(&mut all, tally);
        }
        // Equal asks at one time are not coalesced here: each costs work, which errs against sharing.
        let mut asked: Vec<(usize, usize, Hash)> = Vec::new();
        let mut receipts = Vec::new();
        for (request, (capability, agents)) in pending {
            for agent in agents {
                let caller = network.ids[agent];
                receipts.push(network.receipt(
                    capability,
                    request,
                    &text_body(&request),
                    caller,
                    now,
                ));
                asked.push((agent, capability, request));
            }
        }
        for (batch, asked) in receipts.chunks(1024).zip(asked.chunks(1024)) {
            let signed = sign_batch(&network.producer, now, batch.to_vec()).unwrap();
            for (receipt, (agent, capability, request)) in signed.into_iter().zip(asked) {
                let result = SharedResult { receipt, body: text_body(request).into() };
                network.keep(*agent, *capability, *request, result, 1, now, &mut all);
            }
        }
    }
    (all, by_decade)
}

/// An answer: a CBOR text.
fn text_body(request: &Hash) -> Vec<u8> {
    comity_core::canonical::from_json(&serde_json::json!(request.to_string())).unwrap()
}

fn add(to: &mut Tally, tally: Tally) {
    to.asks += tally.asks;
    to.local += tally.local;
    to.shared += tally.shared;
    to.worked += tally.worked;
    to.announced += tally.announced;
    to.stale += tally.stale;
    to.vain += tally.vain;
}

fn percent(part: u64, whole: u64) -> f64 {
    100.0 * part as f64 / whole.max(1) as f64
}

fn report_sharing() {
    println!(
        "| time to live | asks | from the own store | from peers | specialist work | avoided | pointers per ask | asked in vain | stale |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for (ttl_s, name) in [(600, "10 min"), (3_600, "1 h"), (21_600, "6 h"), (DAY_S, "24 h")] {
        let (all, decades) = sharing(1, Duration::from_secs(ttl_s));
        println!(
            "| {name} | {} | {:.1} % | {:.1} % | {} | **{:.1} %** | {:.3} | {:.2} % | {} |",
            all.asks,
            percent(all.local, all.asks),
            percent(all.shared, all.asks),
            all.worked,
            100.0 - percent(all.worked, all.asks),
            all.announced as f64 / all.asks as f64,
            percent(all.vain, all.asks),
            all.stale
        );
        let curve: Vec<String> = decades
            .iter()
            .zip(["1-9", "10-99", "100-999", "1000-10000"])
            .map(|(tally, ranks)| {
                format!("ranks {ranks}: {:.1} %", 100.0 - percent(tally.worked, tally.asks))
            })
            .collect();
        eprintln!("{name}: avoided by popularity: {}", curve.join(", "));
    }
}

/// Wrong answers accepted and calls per answer, after the first 50 and in them.
struct Lies {
    wrong: u64,
    answers: u64,
    calls: u64,
    wrong_first: u64,
    calls_first: u64,
    first: u64,
}

const CALLERS: u64 = 100;
const CALLS: usize = 250;
const WARM: usize = 50;
const PRODUCERS: usize = 20;

fn liars(share_percent: usize, lie_percent: u64, together: bool) -> Lies {
    let ids: Vec<AgentId> = (0..PRODUCERS)
        .map(|number| Identity::from_secret_bytes(&[u8::try_from(number + 1).unwrap(); 32]).id())
        .collect();
    let producers: Vec<Candidate> = ids
        .iter()
        .map(|agent| Candidate { agent: *agent, prefix: None, sources: BTreeSet::new() })
        .collect();
    let liars = PRODUCERS * share_percent / 100;
    let mut lies =
        Lies { wrong: 0, answers: 0, calls: 0, wrong_first: 0, calls_first: 0, first: 0 };
    for caller in 0..CALLERS {
        let mut random = ChaCha8Rng::seed_from_u64(caller);
        let mut reputation = Reputation::new();
        for number in 0..CALLS {
            let now = START + Duration::from_secs(60 * number as u64);
            let lots = Lots { choice: random.next_u64(), check: random.next_u64() };
            let agreed_lie = random.next_u64() % 100 < lie_percent;
            let (mut question, mut next) = Adaptive::begin(
                &reputation,
                producers.clone(),
                lots,
                |a: &u64, b: &u64| a == b,
                now,
            );
            while let Next::Ask(agent) = next {
                let index = ids.iter().position(|id| *id == agent).unwrap();
                let alone = random.next_u64() % 100 < lie_percent;
                let answer = match (index < liars, together) {
                    (true, true) if agreed_lie => 666,
                    (true, false) if alone => 1_000 + index as u64,
                    _ => 1,
                };
                next = question.answered(&reputation, answer, Duration::from_millis(50), now);
            }
            let settled = question.finish(&mut reputation, now);
            let (wrong, calls) = (
                u64::from(settled.answer.is_some_and(|(_, answer)| answer != 1)),
                settled.calls as u64,
            );
            if number < WARM {
                lies.first += 1;
                lies.wrong_first += wrong;
                lies.calls_first += calls;
            } else {
                lies.answers += 1;
                lies.wrong += wrong;
                lies.calls += calls;
            }
        }
    }
    lies
}

fn report_liars() {
    println!(
        "| liars | lie | how | wrong accepted after {WARM} calls | calls per answer | in the first {WARM}: wrong | calls |"
    );
    println!("|---|---|---|---|---|---|---|");
    for share in [20, 30, 50] {
        for lie in [10, 30, 100] {
            for together in [false, true] {
                let lies = liars(share, lie, together);
                println!(
                    "| {share} % | {lie} % | {} | **{:.2} %** | {:.3} | {:.2} % | {:.2} |",
                    if together { "all the same lie" } else { "each its own" },
                    percent(lies.wrong, lies.answers),
                    lies.calls as f64 / lies.answers as f64,
                    percent(lies.wrong_first, lies.first),
                    lies.calls_first as f64 / lies.first as f64,
                );
            }
        }
    }
}

/// Ten that praise each other and ten newcomers that do not: who gets the exploring calls of a caller that knows ten honest producers.
fn report_rings() {
    let key = |number: u8| Identity::from_secret_bytes(&[number; 32]);
    let (known, ring, new): (Vec<_>, Vec<_>, Vec<_>) =
        ((1..=10).map(key).collect(), (11..=20).map(key).collect(), (21..=30).map(key).collect());
    println!(
        "| attack edges | praise a pair | best score in the ring | score of a newcomer | first choices: ring | newcomers |"
    );
    println!("|---|---|---|---|---|---|");
    let capability = Capability::new("c").unwrap();
    let terms = Terms::of(&capability);
    for (edges, praise) in [(0, 1), (0, 20), (1, 20), (3, 20)] {
        let mut reputation = Reputation::new();
        let honest = known.iter().chain(ring.iter().take(edges));
        for producer in honest {
            for _ in 0..50 {
                reputation.answered(producer.id(), Duration::from_millis(50), START);
                reputation.confirmed(producer.id(), START);
            }
        }
        let mut roots = RootCache::new();
        for caller in &ring {
            for callee in ring.iter().filter(|callee| callee.id() != caller.id()) {
                for number in 0..praise {
                    let receipt = Receipt {
                        version: Version,
                        session: Hash::of(
                            &[caller.id().as_bytes().as_slice(), callee.id().as_bytes()].concat(),
                        ),
                        number,
                        caller: caller.id(),
                        callee: callee.id(),
                        capability: terms.descriptor,
                        request: Hash::of(b"q"),
                        response: Hash::of(b"a"),
                        status: 0,
                        started_ms: START.as_millis(),
                        finished_ms: START.as_millis(),
                        cost: 0,
                        evidence: None,
                        leaf: None,
                        interface: terms.interface,
                        valid_until_ms: START.as_millis(),
                        data_version: None,
                        name: ShortText::try_from("c").unwrap(),
                    };
                    let receipt = sign_batch(callee, START, vec![receipt]).unwrap().remove(0);
                    let call = countersign(receipt, Verdict::Confirmed, caller, START)
                        .verify(&mut roots)
                        .unwrap();
                    reputation.witnessed(&call, None, START);
                }
            }
        }
        let score = |id: &AgentId| reputation.standing(id, START).score;
        let plain = ring.iter().skip(edges).map(Identity::id);
        let best = plain.clone().map(|id| score(&id)).fold(0.0, f64::max);
        // Among strangers alone, which is where praise could tell.
        let strangers: Vec<AgentId> = plain.chain(new.iter().map(Identity::id)).collect();
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let members = 10 - edges;
        let chosen =
            (0..2_000).filter_map(|_| reputation.choose(&strangers, random.next_u64(), START));
        let ring_first = chosen.filter(|(index, _)| *index < members).count();
        println!(
            "| {edges} | {praise} | {best:.3} | {:.3} | {:.1} % | {:.1} % |",
            score(&new[0].id()),
            ring_first as f64 / 20.0,
            100.0 - ring_first as f64 / 20.0
        );
    }
}

fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("sharing") => report_sharing(),
        Some("liars") => report_liars(),
        Some("rings") => report_rings(),
        _ => {
            report_sharing();
            report_liars();
            report_rings();
        }
    }
}
