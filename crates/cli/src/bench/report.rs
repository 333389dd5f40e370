//! What was measured, and how it is printed.

use serde::Serialize;

use super::machine::Machine;
use super::stats::{Counts, Latency, Spread};
use crate::render::{BAD, DIM, STRONG, UNSURE, bytes, clean, count, micros, table, wrapped};

/// The whole run. Times are microseconds, memory and traffic bytes.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) machine: Machine,
    pub(super) settings: Settings,
    pub(super) network: NetworkFacts,
    pub(super) find: Vec<Find>,
    pub(super) publish: Publish,
    pub(super) call: Calls,
    pub(super) failover: Failover,
    pub(super) memory: Vec<Memory>,
    /// Samples that failed; they are in no latency.
    pub(super) failures: u64,
    /// Different failures, in words.
    pub(super) problems: Vec<String>,
}

/// Bounds of each measurement.
#[derive(Debug, Serialize)]
pub(super) struct Settings {
    pub(super) samples: u32,
    pub(super) seconds: u64,
}

/// The network that was measured.
#[derive(Debug, Serialize)]
pub(super) struct NetworkFacts {
    /// Node processes.
    pub(super) nodes: usize,
    /// Those that serve a table.
    pub(super) serving: usize,
    /// Those that serve the same whole table.
    pub(super) replicas: usize,
    /// Nodes that keep custody for others.
    pub(super) custodians: usize,
    /// Until the API of every node answered.
    pub(super) started_us: u64,
    /// Until every node was in the network, from the same start.
    pub(super) joined_us: u64,
    /// Until every table was read and published.
    pub(super) published_us: u64,
}

/// How a question is put.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Question {
    /// With typed conditions.
    Structured,
    /// In words alone.
    Words,
}

/// Whether the node has asked before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Warmth {
    /// The node's first search.
    Cold,
    /// The node has asked the same before.
    Warm,
}

/// Searches of one kind.
#[derive(Debug, Serialize)]
pub(super) struct Find {
    pub(super) question: Question,
    pub(super) warmth: Warmth,
    pub(super) query: String,
    pub(super) latency: Option<Latency>,
    pub(super) custodians_asked: Option<Counts>,
    pub(super) requests: Option<Counts>,
    /// Overlay messages, both directions.
    pub(super) bytes: Option<Counts>,
}

/// From `serve` to the network.
#[derive(Debug, Serialize)]
pub(super) struct Publish {
    /// Until `serve` returned.
    pub(super) served: Option<Latency>,
    /// Until another node's search, repeated without pause, returned it.
    pub(super) found: Option<Latency>,
}

/// Calls and what they are compared with.
#[derive(Debug, Serialize)]
pub(super) struct Calls {
    pub(super) request_bytes: usize,
    pub(super) answer_bytes: usize,
    /// By name, the node's first request of any kind.
    pub(super) first: Option<Latency>,
    /// The contender whose ratio is 1.
    pub(super) reference: &'static str,
    pub(super) contenders: Vec<Contender>,
}

/// One way of asking and being answered.
#[derive(Debug, Serialize)]
pub(super) struct Contender {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    pub(super) latency: Option<Latency>,
    /// Median of a pass over the reference's median of the same pass.
    pub(super) ratio: Option<Spread>,
}

/// Calls whose best peer had just been killed.
#[derive(Debug, Serialize)]
pub(super) struct Failover {
    pub(super) after: Option<Latency>,
    pub(super) rounds: Vec<FailoverRound>,
}

/// One kill.
#[derive(Debug, Serialize)]
pub(super) struct FailoverRound {
    /// The call before it.
    pub(super) before_us: u64,
    /// From the kill to a verified answer by another.
    pub(super) after_us: u64,
    /// Peers tried for that.
    pub(super) attempts: usize,
    /// The next call.
    pub(super) next_us: Option<u64>,
}

/// Resident memory of processes.
#[derive(Debug, Serialize)]
pub(super) struct Memory {
    pub(super) when: &'static str,
    pub(super) who: &'static str,
    pub(super) nodes: usize,
    /// Bytes a process, with the pages of the program's file that all share; absent where the system does not tell.
    pub(super) resident: Option<Counts>,
    /// The part of it that is the process's own.
    pub(super) own: Option<Counts>,
}

/// The report for people.
pub(super) fn text(report: &Report, width: usize) -> String {
    let mut text = machine(report, width);
    text += &heading("find", "search through the local API of a node, best matches probed");
    text += &table(&find(&report.find));
    text += &heading("publish", "from `serve` of a new table until another node finds it");
    text += &table(&publish(&report.publish));
    let call = &report.call;
    let sizes = format!(
        "{} asked, {} answered, all alike",
        bytes_of(call.request_bytes),
        bytes_of(call.answer_bytes)
    );
    text += &heading("call", &format!("through the local API; {sizes}"));
    text += &table(&calls(call));
    for contender in &call.contenders {
        let line = format!("{DIM}{}: {}{DIM:#}", contender.name, contender.about);
        text += &wrapped(&line, "  ", "    ", width);
    }
    text += &heading("failover", "SIGKILL to the peer that answered last, then the same call");
    text += &table(&failover(&report.failover));
    text += &heading(
        "memory",
        "of a node process: resident, and its own part without the program's shared pages",
    );
    text += &table(&memory(&report.memory));
    if report.failures > 0 {
        let failed = count(report.failures, "sample failed", "samples failed");
        text += &format!("\n{BAD}{failed}{BAD:#}\n");
        for problem in &report.problems {
            text += &wrapped(&clean(problem), "  - ", "    ", width);
        }
    }
    text
}

fn machine(report: &Report, width: usize) -> String {
    let Report { machine, network, .. } = report;
    let load = |load: Option<f64>| load.map_or_else(|| "?".to_owned(), |load| format!("{load:.2}"));
    let mut text = format!(
        "{STRONG}{} nodes{STRONG:#} on {}, {}, {}\n",
        network.nodes,
        clean(machine.cpu.as_deref().unwrap_or("an unnamed processor")),
        count(u64::try_from(machine.cores).unwrap_or(u64::MAX), "core", "cores"),
        clean(&machine.kernel),
    );
    text += &format!(
        "comity {}, {} build, {}, load {} before, {} after\n",
        machine.comity,
        machine.profile,
        machine.at,
        load(machine.load_before),
        load(machine.load_after),
    );
    if machine.profile == "debug" {
        let warning = format!(
            "{UNSURE}Not optimised:{UNSURE:#} these numbers say nothing; run `cargo run --release -- bench`."
        );
        text += &wrapped(&warning, "", "", width);
    }
    text += &format!(
        "{} serve a table ({} the same one), {} keep custody; up in {}, joined after {}, tables published in {}\n",
        network.serving,
        network.replicas,
        network.custodians,
        micros(network.started_us),
        micros(network.joined_us),
        micros(network.published_us),
    );
    text
}

fn heading(name: &str, about: &str) -> String {
    format!("\n{STRONG}{name}{STRONG:#}  {DIM}{about}{DIM:#}\n")
}

fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).to_vec()
}

/// Samples and percentiles, four cells.
fn latency(latency: Option<Latency>) -> Vec<String> {
    latency.map_or_else(
        || row(["0", "-", "-", "-"]),
        |latency| {
            let times = [latency.p50_us, latency.p90_us, latency.p99_us].map(micros);
            std::iter::once(latency.samples.to_string()).chain(times).collect()
        },
    )
}

fn find(searches: &[Find]) -> Vec<Vec<String>> {
    let head = row(["", "n", "p50", "p90", "p99", "custodians", "requests", "traffic"]);
    let number = |counts: Option<Counts>| {
        counts.map_or_else(|| "-".to_owned(), |counts| counts.p50.to_string())
    };
    let rows = searches.iter().map(|find| {
        let question = match find.question {
            Question::Structured => "conditions",
            Question::Words => "words",
        };
        let warmth = match find.warmth {
            Warmth::Cold => "first",
            Warmth::Warm => "repeated",
        };
        let mut cells = vec![format!("{question}, {warmth}")];
        cells.extend(latency(find.latency));
        cells.push(number(find.custodians_asked));
        cells.push(number(find.requests));
        cells.push(find.bytes.map_or_else(|| "-".to_owned(), |counts| bytes(counts.p50)));
        cells
    });
    std::iter::once(head).chain(rows).collect()
}

fn publish(publish: &Publish) -> Vec<Vec<String>> {
    let line =
        |name: &str, measured| std::iter::once(name.to_owned()).chain(latency(measured)).collect();
    vec![
        row(["", "n", "p50", "p90", "p99"]),
        line("`serve` returned", publish.served),
        line("found by another", publish.found),
    ]
}

fn calls(calls: &Calls) -> Vec<Vec<String>> {
    let ratio_head = format!("ratio to {}", calls.reference);
    let head = row(["", "n", "p50", "p90", "p99", &ratio_head]);
    let mut first = row(["call-by-name, first"]);
    first.extend(latency(calls.first));
    let rows = calls.contenders.iter().map(|contender| {
        let ratio = contender.ratio.map_or_else(
            || "-".to_owned(),
            |ratio| format!("{:.2} ({:.2}-{:.2})", ratio.median, ratio.min, ratio.max),
        );
        let mut cells = row([contender.name]);
        cells.extend(latency(contender.latency));
        cells.push(ratio);
        cells
    });
    [head, first].into_iter().chain(rows).collect()
}

fn failover(failover: &Failover) -> Vec<Vec<String>> {
    let head = row(["kill", "call before", "call after", "peers tried", "next call"]);
    let rows = failover.rounds.iter().enumerate().map(|(index, round)| {
        vec![
            (index + 1).to_string(),
            micros(round.before_us),
            micros(round.after_us),
            round.attempts.to_string(),
            round.next_us.map_or_else(|| "failed".to_owned(), micros),
        ]
    });
    std::iter::once(head).chain(rows).collect()
}

fn memory(memory: &[Memory]) -> Vec<Vec<String>> {
    let head = row(["", "nodes", "p50", "largest", "own p50", "own largest"]);
    let rows = memory.iter().map(|measured| {
        let cell = |value: Option<u64>| value.map_or_else(|| "not told".to_owned(), bytes);
        let pair = |counts: Option<Counts>| {
            [cell(counts.map(|counts| counts.p50)), cell(counts.map(|counts| counts.max))]
        };
        let [resident, resident_max] = pair(measured.resident);
        let [own, own_max] = pair(measured.own);
        vec![
            format!("{}, {}", measured.when, measured.who),
            measured.nodes.to_string(),
            resident,
            resident_max,
            own,
            own_max,
        ]
    });
    std::iter::once(head).chain(rows).collect()
}

fn bytes_of(count: usize) -> String {
    bytes(u64::try_from(count).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_measured_is_a_dash_and_not_a_zero() {
        let nothing = Find {
            question: Question::Words,
            warmth: Warmth::Cold,
            query: String::new(),
            latency: None,
            custodians_asked: None,
            requests: None,
            bytes: None,
        };
        let rows = find(&[nothing]);
        assert_eq!(rows[1], ["words, first", "0", "-", "-", "-", "-", "-", "-"]);
        assert_eq!(rows[0].len(), rows[1].len());
    }

    #[test]
    fn a_contender_shows_its_ratio_with_the_spread() {
        let contender = Contender {
            name: "call-by-name",
            about: "",
            latency: Some(Latency {
                samples: 20,
                p50_us: 900,
                p90_us: 1_500,
                p99_us: 2_000,
                max_us: 2_000,
            }),
            ratio: Some(Spread { median: 3.0, min: 2.5, max: 4.25, passes: 10 }),
        };
        let calls_of = Calls {
            request_bytes: 100,
            answer_bytes: 1_000,
            first: None,
            reference: "http-unix",
            contenders: vec![contender],
        };
        let rows = calls(&calls_of);
        let wanted = ["call-by-name", "20", "900 us", "1.5 ms", "2.0 ms", "3.00 (2.50-4.25)"];
        assert_eq!(rows[2], wanted);
    }
}
