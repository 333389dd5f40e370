//! A report for people.

use std::fmt;

use super::{Hits, PhaseReport, Report, Sample, Spread, Wait, float};

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scenario, counters) = (&self.scenario, &self.counters);
        writeln!(
            f,
            "{} with {} nodes, seed {}, {:.0} s simulated",
            scenario.name, scenario.nodes, scenario.seed, self.virtual_seconds
        )?;
        writeln!(f, "trace   {}", self.trace)?;
        writeln!(
            f,
            "events  {}; {} messages, {:.1} MB; {} lost, {} cut, {} to nodes that were down, {} twice, {} late, {} misbehaviours",
            counters.events,
            counters.messages,
            float(counters.bytes) / 1e6,
            counters.lost,
            counters.cut,
            counters.to_dead,
            counters.duplicated,
            counters.reordered,
            counters.misbehaved
        )?;
        writeln!(
            f,
            "nodes   {} crashes, {} restarts, {} departures",
            counters.crashes, counters.restarts, counters.departures
        )?;
        writeln!(
            f,
            "state   {} B at most a node; {} table entries, {:.1} % of them down; {} signatures checked",
            self.peak_state_bytes,
            self.entries.wanted,
            100.0 * (1.0 - self.entries.share()),
            self.signatures
        )?;
        spread(f, "custody", "items", &self.custody.items)?;
        writeln!(f, "stored  on {:.2} % of the true custodians", 100.0 * self.stored.share())?;
        if self.estimates.count > 0 {
            spread(f, "size", "times the truth", &self.estimates)?;
        }
        if self.stall.nodes > 0 {
            stalls(f, self)?;
        }
        for (what, wait) in [
            ("found", self.lifecycle.found),
            ("retired", self.lifecycle.retired),
            ("crashed", self.lifecycle.crashed),
        ] {
            self::wait(f, what, &wait)?;
        }
        writeln!(
            f,
            "{:24} {:>5} {:>8} {:>7} {:>7} {:>7} {:>6} {:>5} {:>4} {:>8}",
            "", "n", "success", "p50 ms", "p90 ms", "p99 ms", "reqs", "hops", "max", "bytes"
        )?;
        row(f, "joins", &self.joins)?;
        row(f, "publications", &self.publications)?;
        row(f, "renewals", &self.renewals)?;
        for one in &self.phases {
            phase(f, one)?;
        }
        for violation in &self.violations {
            writeln!(f, "WRONG   {violation}")?;
        }
        if self.violations_total > self.violations.len() as u64 {
            writeln!(f, "WRONG   {} violations in all", self.violations_total)?;
        }
        Ok(())
    }
}

fn stalls(f: &mut fmt::Formatter<'_>, report: &Report) -> fmt::Result {
    let stall = &report.stall;
    write!(
        f,
        "stalls  {} of {} nodes; their tables: {:.1} entries before, {:.1} at least since; messages a node and second: {:.2} before, {:.2} at most; mass failures believed: {}; normal ",
        report.counters.stalls,
        stall.nodes,
        stall.entries_before,
        stall.entries_least,
        stall.messages_before,
        stall.messages_most,
        stall.mass_failures
    )?;
    match stall.normal_after_seconds {
        Some(seconds) => writeln!(f, "after {seconds:.0} s")?,
        None => writeln!(f, "never")?,
    }
    for phase in report.phases.iter().filter(|phase| phase.recall_stalled.wanted > 0) {
        writeln!(
            f,
            "  recall {}: {:.3} % where nodes stand still, {:.3} % elsewhere",
            phase.label,
            100.0 * phase.recall_stalled.share(),
            100.0 * phase.recall_running.share()
        )?;
    }
    Ok(())
}

fn phase(f: &mut fmt::Formatter<'_>, phase: &PhaseReport) -> fmt::Result {
    for (kind, sample) in [
        ("queries", &phase.queries),
        ("texts", &phase.texts),
        ("live peers", &phase.peers),
        ("live peers again", &phase.peers_warm),
        ("finds", &phase.finds),
        ("lookups", &phase.lookups),
    ] {
        row(f, &format!("{} {kind}", phase.label), sample)?;
    }
    let hits = |hits: Hits| format!("{:.3} % of {}", 100.0 * hits.share(), hits.wanted);
    write!(f, "  recall {}, @5 {}", hits(phase.recall), hits(phase.recall_at_5))?;
    if phase.recall_kept.wanted < phase.recall.wanted {
        write!(f, ", of what is kept {}", hits(phase.recall_kept))?;
    }
    if phase.text_recall_at_5.wanted > 0 {
        write!(f, "; texts {}, @5 {}", hits(phase.text_recall), hits(phase.text_recall_at_5))?;
    }
    let (shown, sent) = (&phase.shown, &phase.sent_per_second);
    writeln!(
        f,
        "; {:.2} % of the true 20 found; sent a node and second: {:.0} B, p99 {:.0}, max {:.0}; shown: {} gone, {} retired, {} stale, {} lies",
        100.0 * phase.nearest.share(),
        sent.mean,
        sent.p99,
        sent.max,
        shown.gone,
        shown.retired,
        shown.stale,
        shown.lies
    )?;
    if phase.traffic.is_empty() {
        return Ok(());
    }
    write!(f, "  sent a node and second:")?;
    for kind in &phase.traffic {
        write!(f, " {} {:.1} B,", kind.kind, kind.bytes_per_second)?;
    }
    write!(f, "\n  for:")?;
    for errand in &phase.errand_traffic {
        write!(f, " {} {:.1} B,", errand.kind, errand.bytes_per_second)?;
    }
    writeln!(f)
}

fn row(f: &mut fmt::Formatter<'_>, name: &str, sample: &Sample) -> fmt::Result {
    if sample.started == 0 {
        return Ok(());
    }
    writeln!(
        f,
        "{name:24} {:>5} {:>7.2}% {:>7.0} {:>7.0} {:>7.0} {:>6.1} {:>5.2} {:>4} {:>8.0}",
        sample.ended,
        100.0 * sample.success(),
        sample.latency_ms.p50,
        sample.latency_ms.p90,
        sample.latency_ms.p99,
        sample.requests.mean,
        sample.hops.mean,
        sample.hops.max,
        sample.bytes.mean
    )
}

fn spread(f: &mut fmt::Formatter<'_>, name: &str, unit: &str, spread: &Spread) -> fmt::Result {
    writeln!(
        f,
        "{name:7} mean {:.2} {unit}, p50 {:.2}, p99 {:.2}, max {:.2}",
        spread.mean, spread.p50, spread.p99, spread.max
    )
}

fn wait(f: &mut fmt::Formatter<'_>, what: &str, wait: &Wait) -> fmt::Result {
    let seconds = &wait.seconds;
    if seconds.count + wait.never == 0 {
        return Ok(());
    }
    writeln!(
        f,
        "{what:7} after p50 {:.1} s, p95 {:.1} s, at most {:.1} s; {} of {} never",
        seconds.p50,
        seconds.p95,
        seconds.max,
        wait.never,
        seconds.count + wait.never
    )
}
