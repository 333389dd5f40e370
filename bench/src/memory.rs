//! What a peer costs in memory: the slope of a process's resident memory over the number of peers it is connected
//! to, was called by, or has called. The measured process holds one endpoint; all its peers live in another process.

use std::{collections::BTreeMap, sync::Arc, thread, time::Duration};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use serde::Serialize;

use crate::{
    contender::{self, After, Contender},
    report::{self, Bound, Goal, Report, progress, table},
    stats::{Slope, Spread, slope},
    worker::Remote,
};

/// What is measured unless `--only` says otherwise.
const DEFAULT: [&str; 2] = ["comity", "iroh-pooled"];
/// Peers met before the first reading, so that one-time allocations are not counted.
const WARM_UP_PEERS: usize = 10;
/// Peers that join at a time; a short pause follows, within what servers admit per second and source.
const GROUP: usize = 25;
/// Pause after each group, in milliseconds.
const GROUP_PAUSE_MS: u64 = 300;
/// Pause before a reading of live connections, in milliseconds.
const LIVE_PAUSE_MS: u64 = 1_500;
const KIB_PER_MIB: f64 = 1_024.0;

/// Options of `memory`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// Fewest peers at a reading
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    from: u16,
    /// Most peers at a reading
    #[arg(long, default_value_t = 250, value_parser = clap::value_parser!(u16).range(2..=10_000))]
    to: u16,
    /// Readings between the two, both included
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(2..=100))]
    readings: u16,
    /// Seconds to wait before each reading of parked peers: iroh forgets its working state of a peer after 60
    #[arg(long, default_value_t = 75, value_parser = clap::value_parser!(u64).range(0..=600))]
    settle_s: u64,
    /// Only these contenders (comma separated), of all that `warm` knows
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
}

/// What the peers have to do with the measured process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Situation {
    /// Connected to it, called once, idle.
    Idle,
    /// Called it once, parked.
    ParkedCaller,
    /// Were called by it once, parked.
    ParkedCallee,
}

impl Situation {
    const ALL: [Self; 3] = [Self::Idle, Self::ParkedCaller, Self::ParkedCallee];

    fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle, connected to the measured process",
            Self::ParkedCaller => "parked, had called the measured process",
            Self::ParkedCallee => "parked, had been called by it",
        }
    }
}

/// One contender in one situation.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    name: &'static str,
    situation: Situation,
    /// Peers and resident memory in KiB.
    readings: Vec<(f64, f64)>,
    /// KiB per peer.
    slope: Slope,
}

/// Measures and prints.
pub(crate) fn run(options: &Options, json: bool) -> Result<()> {
    ensure!(options.from < options.to, "--from must be below --to");
    let contenders =
        contender::select(contender::all(), &contender::or_default(&options.only, &DEFAULT))?;
    let mut report = Report::begin("memory", options.facts(), Vec::new());
    // Memory does not depend on the load, and most of the time is waiting: all at the same time.
    let mut running = Vec::new();
    for situation in Situation::ALL {
        for contender in &contenders {
            let (contender, options) = (contender.clone(), options.clone());
            let title = format!("{}, {}", contender.name(), situation.name());
            let thread = thread::spawn(move || measure(&contender, situation, &options));
            running.push((title, thread));
        }
    }
    for (title, thread) in running {
        match thread.join() {
            Ok(Ok(row)) => report.results.push(row),
            Ok(Err(error)) => report.failed.push(format!("{title}: {error:#}")),
            Err(_) => report.failed.push(format!("{title}: panicked")),
        }
    }
    report.goals = goals(&report.results);
    report.print(json, |rows| text(rows))
}

impl Options {
    fn facts(&self) -> BTreeMap<&'static str, String> {
        BTreeMap::from([
            ("from", self.from.to_string()),
            ("to", self.to.to_string()),
            ("readings", self.readings.to_string()),
            ("settle-s", self.settle_s.to_string()),
        ])
    }

    /// Numbers of peers at which to read.
    fn counts(&self) -> Vec<usize> {
        let (from, to, steps) =
            (usize::from(self.from), usize::from(self.to), usize::from(self.readings) - 1);
        (0..=steps).map(|step| from + (to - from) * step / steps).collect()
    }
}

fn measure(contender: &Arc<dyn Contender>, situation: Situation, options: &Options) -> Result<Row> {
    let name = contender.name();
    let mut measured = Remote::start(name)?;
    let mut crowd = Remote::start(name)?;
    let target = measured.serve(1)?.pop().context("no target")?;
    let mut readings = Vec::new();
    let mut met = 0;
    let mut meet = |measured: &mut Remote, until: usize| -> Result<()> {
        while met < until {
            let group = GROUP.min(until - met);
            match situation {
                Situation::Idle => crowd.visit(group, &target, After::Keep)?,
                Situation::ParkedCaller => crowd.visit(group, &target, After::Park)?,
                Situation::ParkedCallee => measured.call(&crowd.serve(group)?, After::Park)?,
            }
            met += group;
            thread::sleep(Duration::from_millis(GROUP_PAUSE_MS));
        }
        Ok(())
    };
    meet(&mut measured, WARM_UP_PEERS)?;
    for count in options.counts() {
        meet(&mut measured, WARM_UP_PEERS + count)?;
        match situation {
            Situation::Idle => thread::sleep(Duration::from_millis(LIVE_PAUSE_MS)),
            Situation::ParkedCaller | Situation::ParkedCallee => {
                thread::sleep(Duration::from_secs(options.settle_s));
            }
        }
        let kib = measured.resident_kib()?;
        progress(&format!("{name}, {}: {count} peers, {kib} KiB", situation.name()));
        readings.push((f64::from(u32::try_from(count)?), kib));
    }
    let slope = slope(&readings).context("fewer than two readings")?;
    Ok(Row { name, situation, readings, slope })
}

fn goals(rows: &[Row]) -> Vec<Goal> {
    rows.iter()
        .filter(|row| row.name == "comity" && row.situation == Situation::ParkedCallee)
        .filter_map(|row| {
            let measured = Spread::of(&[row.slope.per_unit])?;
            Some(Goal::new(
                "KiB per parked peer that was called once, comity",
                Bound::AtMost(4.0),
                measured,
            ))
        })
        .collect()
}

fn text(rows: &[Row]) -> String {
    let cells: Vec<_> = rows
        .iter()
        .map(|row| {
            let readings: Vec<_> = row
                .readings
                .iter()
                .map(|(peers, kib)| format!("{peers}:{:.1}", kib / KIB_PER_MIB))
                .collect();
            vec![
                format!("{}, {}", row.name, row.situation.name()),
                format!("{:.2}", row.slope.per_unit),
                format!("{:.0}", row.slope.residual),
                readings.join(" "),
            ]
        })
        .collect();
    let header = ["", "KiB per peer", "off the line KiB", "peers:MiB"];
    let how = [
        (
            "KiB per peer",
            "least-squares slope of the measured process's resident memory over the number of peers",
        ),
        ("off the line", "largest distance of a reading from that line"),
    ];
    let title = "Resident memory per peer (one endpoint measured, every peer an endpoint of another process)";
    format!("{}\n{}", table(title, &header, &cells), report::list("How to read it", &how))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_cover_both_ends() {
        let options = Options { from: 50, to: 250, readings: 5, settle_s: 0, only: Vec::new() };
        assert_eq!(options.counts(), [50, 100, 150, 200, 250]);
        let two = Options { readings: 2, ..options };
        assert_eq!(two.counts(), [50, 250]);
    }
}
