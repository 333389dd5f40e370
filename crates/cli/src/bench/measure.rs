//! The measurements. Each is bounded in count and in time, and goes on after a sample that fails.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use comity_api::Client;
use comity_api::types::{CallRequest, CallResponse, FindRequest, FindResponse, MAX_LIMIT};
use serde_json::{Value, json};

use super::Progress;
use super::cast::{Cut, REPLICATED};
use super::echo::{Echo, Kept};
use super::machine::usage;
use super::network::Network;
use super::report::{
    Calls, Contender, Failover, FailoverRound, Find, Memory, Publish, Question, Warmth,
};
use super::stats::{Bound, Counts, Latency, Spread, micros};
use crate::process::Process;

/// The question with conditions.
const STRUCTURED: &str = "structured historical fx data where pair = EUR/USD and time covers 2021..2024 and resolution <= 1d";
/// The same wish in words alone.
const WORDS: &str = "daily euro exchange rates against the dollar";
/// Deadline of one search.
const FIND_TIMEOUT_MS: u64 = 5_000;
/// Deadline of one call.
const CALL_TIMEOUT_MS: u64 = 15_000;
/// A new capability that is not found by then counts as failed.
const FOUND_PATIENCE: Duration = Duration::from_secs(15);
/// Between two searches for a new capability.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// Most new capabilities published one after another.
const PUBLISHED_MAX: usize = 12;
/// Passes of the comparison of calls; the contenders take turns within each.
const PASSES: usize = 10;
/// Most different failures that are reported in words.
const PROBLEMS_MAX: usize = 8;
/// Words of no language, one for each published capability.
const UNUSED_WORDS: [&str; PUBLISHED_MAX] = [
    "zalquora",
    "brevonix",
    "quintarel",
    "moxipher",
    "vundrake",
    "jelphora",
    "krastimo",
    "wexalune",
    "thorvipa",
    "yuldequa",
    "ploxiram",
    "gwendusk",
];

/// Takes the samples and remembers what failed.
#[derive(Debug)]
pub(super) struct Lab<'a> {
    samples: usize,
    span: Duration,
    progress: &'a Progress,
    failures: u64,
    problems: Vec<String>,
}

/// Samples of one kind of search.
#[derive(Debug, Default)]
struct Searches {
    latencies: Vec<Duration>,
    custodians: Vec<u64>,
    requests: Vec<u64>,
    bytes: Vec<u64>,
}

impl Searches {
    fn add(&mut self, elapsed: Duration, found: &FindResponse) {
        self.latencies.push(elapsed);
        self.custodians.push(u64::from(found.search.custodians_asked));
        if let Some(explain) = &found.explain {
            self.requests.push(u64::from(explain.rpcs));
            self.bytes.push(explain.bytes_sent + explain.bytes_received);
        }
    }

    fn summary(&self, question: Question, warmth: Warmth) -> Find {
        Find {
            question,
            warmth,
            query: text_of(question).to_owned(),
            latency: Latency::of(&self.latencies),
            custodians_asked: Counts::of(&self.custodians),
            requests: Counts::of(&self.requests),
            bytes: Counts::of(&self.bytes),
        }
    }
}

fn text_of(question: Question) -> &'static str {
    match question {
        Question::Structured => STRUCTURED,
        Question::Words => WORDS,
    }
}

impl<'a> Lab<'a> {
    pub(super) fn new(samples: u32, span: Duration, progress: &'a Progress) -> Self {
        let samples = usize::try_from(samples).unwrap_or(usize::MAX);
        Self { samples, span, progress, failures: 0, problems: Vec::new() }
    }

    /// How many samples failed, and how.
    pub(super) fn finish(self) -> (u64, Vec<String>) {
        (self.failures, self.problems)
    }

    /// What each node's first search, or first call, costs: every asker takes one sample of one kind.
    pub(super) async fn cold(&mut self, network: &Network) -> (Vec<Find>, Option<Latency>) {
        self.progress.step("first searches and first calls");
        let (mut structured, mut words) = (Searches::default(), Searches::default());
        let mut calls = Vec::new();
        let mut bound = Bound::new(network.askers.len(), self.span);
        for (asker, number) in network.askers.iter().zip(std::iter::from_fn(|| bound.another())) {
            self.progress.say(&format!(
                "first searches and first calls: {} of {}",
                number + 1,
                network.askers.len()
            ));
            match number % 3 {
                0 => self.search(asker, Question::Structured, &mut structured).await,
                1 => self.search(asker, Question::Words, &mut words).await,
                _ => {
                    let started = Instant::now();
                    let answered = call(&asker.client, REPLICATED).await;
                    let elapsed = started.elapsed();
                    calls.extend(self.keep("first call", answered).map(|_answer| elapsed));
                }
            }
        }
        let find = vec![
            structured.summary(Question::Structured, Warmth::Cold),
            words.summary(Question::Words, Warmth::Cold),
        ];
        (find, Latency::of(&calls))
    }

    /// What a search costs on a node that has asked the same before; the questions take turns.
    pub(super) async fn warm(&mut self, network: &Network) -> Vec<Find> {
        self.progress.step("repeated searches");
        let (mut structured, mut words) = (Searches::default(), Searches::default());
        let by_turn = |turn: usize| network.askers.iter().skip(turn).step_by(3).cycle();
        let mut nodes = by_turn(0).zip(by_turn(1));
        let mut bound = Bound::new(self.samples, self.span * 2);
        while let (Some(number), Some((first, second))) = (bound.another(), nodes.next()) {
            self.progress.say(&format!("repeated searches: {} of {}", number + 1, self.samples));
            self.search(first, Question::Structured, &mut structured).await;
            self.search(second, Question::Words, &mut words).await;
        }
        vec![
            structured.summary(Question::Structured, Warmth::Warm),
            words.summary(Question::Words, Warmth::Warm),
        ]
    }

    async fn search(&mut self, asker: &Process, question: Question, searches: &mut Searches) {
        let mut request = FindRequest::new(text_of(question));
        request.explain = true;
        request.timeout_ms = Some(FIND_TIMEOUT_MS);
        let started = Instant::now();
        let found = asker.client.find(&request).await.map_err(anyhow::Error::new);
        let elapsed = started.elapsed();
        let found = found.and_then(|found| {
            if found.matches.iter().any(|hit| hit.capability == REPLICATED) {
                Ok(found)
            } else {
                bail!("`{REPLICATED}` is not among {} matches", found.matches.len())
            }
        });
        if let Some(found) = self.keep("search", found) {
            searches.add(elapsed, &found);
        }
    }

    /// How long it takes from serving something new until another node finds it.
    pub(super) async fn publish(&mut self, network: &Network) -> Result<Publish> {
        self.progress.step("publishing something new");
        let (mut served, mut found) = (Vec::new(), Vec::new());
        let publishers = network.others.iter().cycle();
        let finders = network.askers.iter().rev().cycle();
        let mut bound = Bound::new(self.samples.min(PUBLISHED_MAX), self.span);
        for (publisher, finder) in publishers.zip(finders) {
            let Some(number) = bound.another() else { break };
            let name = format!("bench-airports-{number}");
            let word = UNUSED_WORDS[number % UNUSED_WORDS.len()];
            let request = Cut::country(number, &name, word).prepare(&publisher.home)?;
            let started = Instant::now();
            let serving = async {
                let answer = publisher.client.serve(&request).await;
                (answer, started.elapsed())
            };
            let seen = until_found(&finder.client, publisher, &name, word);
            let ((answer, answered), seen) = tokio::join!(serving, seen);
            served.extend(self.keep("publish", answer.map_err(Into::into)).map(|_| answered));
            found.extend(self.keep("find something new", seen).map(|()| started.elapsed()));
            let withdrawn = publisher.client.unserve(&name).await;
            self.keep("withdraw", withdrawn.map_err(Into::into));
        }
        Ok(Publish { served: Latency::of(&served), found: Latency::of(&found) })
    }

    /// Calls through the local API against plain HTTP of the same sizes; they take turns.
    pub(super) async fn calls(
        &mut self,
        network: &Network,
        echo: &Echo,
        first: Option<Latency>,
    ) -> Result<Calls> {
        self.progress.step("calls");
        let caller = network.askers.last().context("there are nodes that ask")?;
        let replica = network.replicas.first().context("there are nodes that serve")?;
        let by_address = format!("{}/{REPLICATED}", replica.status.agent.address);
        // Not counted: sessions open, the sizes become known.
        call(&caller.client, &by_address).await.context("the first call failed")?;
        let answer = call(&caller.client, REPLICATED).await.context("the first call failed")?;
        let request = serde_json::to_vec(&call_request(REPLICATED))?;
        let answer_bytes = serde_json::to_vec(&answer)?.len();
        let mut stage = Stage {
            client: &caller.client,
            by_address: &by_address,
            echo,
            kept: echo.keep_tcp().await?,
            request: &request,
            answer_bytes,
        };

        let mut entries = Entry::ALL.map(|entry| (entry, Vec::new(), Vec::new()));
        let per_pass = self.samples.div_ceil(PASSES);
        let mut passes = Bound::new(self.samples.min(PASSES), self.span);
        while let Some(pass) = passes.another() {
            self.progress.say(&format!("calls: pass {} of {PASSES}", pass + 1));
            entries.rotate_left(1);
            for (entry, all, medians) in &mut entries {
                let mut samples = Vec::new();
                let share = self.span / u32::try_from(PASSES * Entry::ALL.len()).unwrap_or(1);
                let mut bound = Bound::new(per_pass, share);
                while bound.another().is_some() {
                    let started = Instant::now();
                    let outcome = stage.take(*entry).await;
                    let elapsed = started.elapsed();
                    samples.extend(self.keep(entry.name(), outcome).map(|()| elapsed));
                }
                medians.push(Latency::of(&samples).map(|latency| latency.p50_us));
                all.extend(samples);
            }
        }
        entries.sort_by_key(|(entry, ..)| *entry);
        let reference = entries.iter().find(|(entry, ..)| *entry == Entry::REFERENCE);
        let reference = reference.map(|(_, _, medians)| medians.clone()).unwrap_or_default();
        let contenders = entries
            .iter()
            .map(|(entry, samples, medians)| Contender {
                name: entry.name(),
                about: entry.about(),
                latency: Latency::of(samples),
                ratio: Spread::of(&ratios(medians, &reference)),
            })
            .collect();
        Ok(Calls {
            request_bytes: request.len(),
            answer_bytes,
            first,
            reference: Entry::REFERENCE.name(),
            contenders,
        })
    }

    /// How long a call takes when the peer that answered the last one was killed, as often as there are replicas to lose.
    pub(super) async fn failover(&mut self, network: &mut Network) -> Result<Failover> {
        self.progress.step("failover");
        let mut rounds = Vec::new();
        let mut bound = Bound::new(network.replicas.len().saturating_sub(1), self.span * 2);
        while let Some(number) = bound.another() {
            let asker = &network.askers[number % network.askers.len()];
            let client = asker.client.clone();
            let before = timed_call(&client).await;
            let Some((answer, before)) = self.keep("call before a kill", before) else { continue };
            let callee = answer.proof.receipt.callee;
            let killed = network
                .replicas
                .iter_mut()
                .find(|process| process.status.agent.agent.to_string() == callee)
                .context("the answer came from a node that does not serve the table")?;
            killed.kill().await?;
            let after = timed_call(&client).await;
            let Some((answer, after)) = self.keep("call after a kill", after) else { continue };
            if answer.proof.receipt.callee == callee {
                bail!("the killed node seems to have answered");
            }
            let next = timed_call(&client).await;
            rounds.push(FailoverRound {
                before_us: micros(before),
                after_us: micros(after),
                attempts: answer.attempts.len(),
                next_us: self.keep("second call after a kill", next).map(|(_, next)| micros(next)),
            });
        }
        let after: Vec<Duration> =
            rounds.iter().map(|round| Duration::from_micros(round.after_us)).collect();
        Ok(Failover { after: Latency::of(&after), rounds })
    }

    /// The outcome of a sample, if it succeeded; counted and noted otherwise.
    fn keep<T>(&mut self, what: &str, outcome: Result<T>) -> Option<T> {
        outcome
            .map_err(|error| {
                self.failures += 1;
                let problem = format!("{what}: {error:#}");
                if self.problems.len() < PROBLEMS_MAX && !self.problems.contains(&problem) {
                    self.problems.push(problem);
                }
            })
            .ok()
    }
}

/// Searches until `publisher`'s capability of this name is among the matches.
async fn until_found(client: &Client, publisher: &Process, name: &str, word: &str) -> Result<()> {
    let mut request = FindRequest::new(format!("airports {word}"));
    request.limit = Some(MAX_LIMIT.min(10));
    request.probe = Some(0);
    request.timeout_ms = Some(FIND_TIMEOUT_MS);
    let agent = publisher.status.agent.agent;
    let look = async {
        loop {
            let found = client.find(&request).await?;
            if found.matches.iter().any(|hit| hit.agent.agent == agent && hit.capability == name) {
                return Ok(());
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    };
    tokio::time::timeout(FOUND_PATIENCE, look)
        .await
        .with_context(|| format!("`{name}` is not found after {FOUND_PATIENCE:?}"))?
}

fn call_request(target: &str) -> CallRequest {
    let input = json!({ "where": { "date": "2022-03-01" }, "columns": ["date", "USD"] });
    let mut request = CallRequest::new(target, input);
    request.reuse.fresh = true;
    request.timeout_ms = Some(CALL_TIMEOUT_MS);
    request
}

/// One row of the table; the node has verified the answer.
async fn call(client: &Client, target: &str) -> Result<CallResponse> {
    let response = client.call(&call_request(target)).await?;
    let rows = response.output.items().first().and_then(|item| item.get("rows")).cloned();
    let count = rows.as_ref().and_then(Value::as_array).map(Vec::len);
    if count != Some(1) {
        bail!("one row was asked for, {} came", rows.unwrap_or_default());
    }
    Ok(response)
}

async fn timed_call(client: &Client) -> Result<(CallResponse, Duration)> {
    let started = Instant::now();
    let answer = call(client, REPLICATED).await?;
    Ok((answer, started.elapsed()))
}

/// What is compared, in the order of the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Entry {
    Name,
    Address,
    Unix,
    Tcp,
    Kept,
}

impl Entry {
    const ALL: [Self; 5] = [Self::Name, Self::Address, Self::Unix, Self::Tcp, Self::Kept];
    /// Plain HTTP as the local API itself uses it.
    const REFERENCE: Self = Self::Unix;

    fn name(self) -> &'static str {
        match self {
            Self::Name => "call-by-name",
            Self::Address => "call-by-address",
            Self::Unix => "http-unix",
            Self::Tcp => "http-tcp",
            Self::Kept => "http-tcp-kept",
        }
    }

    fn about(self) -> &'static str {
        match self {
            Self::Name => "search, best peer, one row of its table, signed and verified",
            Self::Address => "the same without the search",
            Self::Unix => "HTTP/1.1 echo, new connection to a Unix socket",
            Self::Tcp => "HTTP/1.1 echo, new TCP connection",
            Self::Kept => "HTTP/1.1 echo, one TCP connection for all",
        }
    }
}

/// What the contenders need.
struct Stage<'a> {
    client: &'a Client,
    by_address: &'a str,
    echo: &'a Echo,
    kept: Kept,
    request: &'a [u8],
    answer_bytes: usize,
}

impl Stage<'_> {
    async fn take(&mut self, entry: Entry) -> Result<()> {
        match entry {
            Entry::Name => call(self.client, REPLICATED).await.map(drop),
            Entry::Address => call(self.client, self.by_address).await.map(drop),
            Entry::Unix => self.echo.over_unix(self.request, self.answer_bytes).await,
            Entry::Tcp => self.echo.over_tcp(self.request, self.answer_bytes).await,
            Entry::Kept => self.kept.request(self.request, self.answer_bytes).await,
        }
    }
}

/// The ratio of each pass that both have.
fn ratios(medians: &[Option<u64>], reference: &[Option<u64>]) -> Vec<f64> {
    medians
        .iter()
        .zip(reference)
        .filter_map(|(median, reference)| Some((*median.as_ref()?, *reference.as_ref()?)))
        .filter(|(_, reference)| *reference > 0)
        .map(|(median, reference)| median as f64 / reference as f64)
        .collect()
}

/// Resident memory of the node processes, by what they do.
pub(super) fn memory(when: &'static str, network: &Network) -> Vec<Memory> {
    let serving: Vec<&Process> = network.replicas.iter().chain(&network.others).collect();
    let asking: Vec<&Process> = network.askers.iter().collect();
    [("serve a table", serving), ("ask only", asking)]
        .into_iter()
        .map(|(who, processes)| {
            let usages: Vec<_> =
                processes.iter().filter_map(|process| usage(process.pid())).collect();
            let resident: Vec<u64> = usages.iter().map(|usage| usage.resident).collect();
            let own: Vec<u64> = usages.iter().map(|usage| usage.own).collect();
            Memory {
                when,
                who,
                nodes: processes.len(),
                resident: Counts::of(&resident),
                own: Counts::of(&own),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_need_both_sides_of_a_pass() {
        let medians = [Some(300), None, Some(100), Some(5)];
        let reference = [Some(100), Some(100), None, Some(0)];
        assert_eq!(ratios(&medians, &reference), [3.0]);
    }
}
