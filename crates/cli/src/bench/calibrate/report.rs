//! What the calibration found, and how it is printed.

use std::time::Duration;

use comity_sim::calibrate::Compared;
use serde::Serialize;

use crate::bench::machine::Machine;
use crate::bench::stats::micros as whole_micros;
use crate::render::{BAD, DIM, GOOD, STRONG, bytes, micros, table, wrapped};

/// How far the two sides may be apart, as a share of the simulated value, beside what chance alone explains.
pub(super) const TOLERANCE: f64 = 0.1;

/// The whole comparison.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) machine: Machine,
    pub(super) nodes: usize,
    pub(super) seed: u64,
    /// Share by which metrics may differ.
    pub(super) tolerance: f64,
    /// Wall time of the simulation.
    pub(super) simulated_us: u64,
    pub(super) metrics: Vec<Metric>,
    pub(super) footprint: Footprint,
    /// All bounded metrics agree.
    pub(super) agrees: bool,
}

/// One metric on both sides.
#[derive(Debug, Serialize)]
pub(super) struct Metric {
    pub(super) metric: String,
    pub(super) simulated: f64,
    pub(super) real: f64,
    /// Real over simulated.
    pub(super) ratio: f64,
    /// Two standard errors, as a share, where the metric is a mean over commands.
    pub(super) chance: f64,
    /// Absent for what is not expected to agree, such as times.
    pub(super) agrees: Option<bool>,
}

/// What the real nodes cost this machine.
#[derive(Debug, Default, Serialize)]
pub(super) struct Footprint {
    /// Until a node listens, without joining.
    pub(super) start_us_each: u64,
    /// Own memory of the process at the end, by node.
    pub(super) memory_bytes_each: Option<u64>,
    /// Processor time by node from the first start to the last publication.
    pub(super) processor_join_publish_us_each: Option<u64>,
    /// Processor time by node and second while nothing was asked.
    pub(super) processor_idle_us_per_s_each: Option<f64>,
    /// How late a step of the plan was carried out at most: more than a few milliseconds says that this machine was too busy.
    pub(super) late_us_max: u64,
    /// All nodes' overlay messages and what carried them, at the three moments of counting.
    pub(super) wire: Vec<Wire>,
}

/// Overlay messages since the start and the UDP datagrams that carried them.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(super) struct Wire {
    pub(super) messages: u64,
    /// As encoded.
    pub(super) message_bytes: u64,
    /// Links that were ever made.
    pub(super) links: u64,
    /// Links that are open.
    pub(super) live: u64,
    pub(super) datagrams: u64,
    /// UDP payload: handshakes, acknowledgements and keep-alives included.
    pub(super) datagram_bytes: u64,
}

impl Report {
    pub(super) fn new(
        machine: Machine,
        nodes: usize,
        seed: u64,
        simulated_in: Duration,
        compared: &[Compared],
        footprint: Footprint,
    ) -> Self {
        let metrics: Vec<Metric> = compared.iter().map(Metric::of).collect();
        Self {
            machine,
            nodes,
            seed,
            tolerance: TOLERANCE,
            simulated_us: whole_micros(simulated_in),
            agrees: metrics.iter().all(|metric| metric.agrees != Some(false)),
            metrics,
            footprint,
        }
    }
}

impl Metric {
    fn of(compared: &Compared) -> Self {
        Self {
            metric: compared.metric.clone(),
            simulated: compared.simulated,
            real: compared.real,
            ratio: compared.ratio(),
            chance: compared.chance,
            agrees: compared.bound.then(|| compared.agrees(TOLERANCE)),
        }
    }
}

/// The comparison for people.
pub(super) fn text(report: &Report, width: usize) -> String {
    let mut rows: Vec<Vec<String>> = vec![
        ["", "simulated", "real", "ratio", "chance", ""]
            .map(|title| format!("{DIM}{title}{DIM:#}"))
            .to_vec(),
    ];
    rows.extend(report.metrics.iter().map(row));
    let verdict = if report.agrees {
        format!("{GOOD}every bounded metric agrees within {:.0} %{GOOD:#}", 100.0 * TOLERANCE)
    } else {
        let apart = report.metrics.iter().filter(|metric| metric.agrees == Some(false)).count();
        format!("{BAD}{apart} metrics differ by more than {:.0} %{BAD:#}", 100.0 * TOLERANCE)
    };
    let mut text = format!(
        "{STRONG}{} nodes, seed {}: simulated in {}, real on {}{STRONG:#}\n\n{}\n{verdict}\n\n",
        report.nodes,
        report.seed,
        micros(report.simulated_us),
        report.machine.cpu.as_deref().unwrap_or("an unnamed processor"),
        table(&rows),
    );
    for line in footprint(&report.footprint) {
        text += &wrapped(&line, "  ", "    ", width);
    }
    text
}

fn row(metric: &Metric) -> Vec<String> {
    let verdict = match metric.agrees {
        Some(true) => format!("{GOOD}agrees{GOOD:#}"),
        Some(false) => format!("{BAD}DIFFERS{BAD:#}"),
        None => String::new(),
    };
    let chance = if metric.chance > 0.0 {
        format!("±{:.0} %", 100.0 * metric.chance)
    } else {
        String::new()
    };
    vec![
        metric.metric.clone(),
        number(metric.simulated),
        number(metric.real),
        format!("{:.3}", metric.ratio),
        chance,
        verdict,
    ]
}

fn number(value: f64) -> String {
    if value >= 1_000.0 { format!("{value:.0}") } else { format!("{value:.3}") }
}

fn footprint(footprint: &Footprint) -> Vec<String> {
    let mut lines =
        vec![format!("a node listens after {} on average", micros(footprint.start_us_each))];
    if let Some(memory) = footprint.memory_bytes_each {
        lines.push(format!("memory of the process by node: {}", bytes(memory)));
    }
    if let (Some(join), Some(idle)) =
        (footprint.processor_join_publish_us_each, footprint.processor_idle_us_per_s_each)
    {
        lines.push(format!(
            "processor time by node: {} to join and publish, {idle:.0} us a second when nothing is asked",
            micros(join)
        ));
    }
    lines.push(format!("steps of the plan were late by at most {}", micros(footprint.late_us_max)));
    if let [joined, idle, end] = footprint.wire[..] {
        let spans = [
            ("until idle", Wire::default(), joined),
            ("idle", joined, idle),
            ("while asked", idle, end),
        ];
        for (when, from, to) in spans {
            lines.push(wire(when, from, to));
        }
    }
    lines
}

#[allow(clippy::cast_precision_loss, reason = "for people")]
fn wire(when: &str, from: Wire, to: Wire) -> String {
    let messages = (to.messages - from.messages).max(1) as f64;
    let encoded = (to.message_bytes - from.message_bytes) as f64;
    let carried = to.datagram_bytes.saturating_sub(from.datagram_bytes) as f64;
    let datagrams = to.datagrams.saturating_sub(from.datagrams) as f64;
    format!(
        "{when}: {:.1} datagrams and {:.0} bytes of UDP a message of {:.0} bytes; {} links made, {} open at the end",
        datagrams / messages,
        carried / messages,
        encoded / messages,
        to.links - from.links,
        to.live,
    )
}
