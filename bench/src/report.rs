//! What surrounds the numbers: the machine, the versions, tables, goals, JSON.
#![expect(clippy::print_stdout, reason = "the report goes to stdout")]

use std::{collections::BTreeMap, fs, thread};

use anyhow::Result;
pub(crate) use comity_bench_path::progress;
use serde::Serialize;

use crate::stats::Spread;

/// Dependencies whose version decides a number.
const NAMED_VERSIONS: [&str; 9] =
    ["comity", "hyper", "iroh", "libp2p", "noq", "quinn", "rustls", "tokio", "tonic"];

/// Everything needed to judge and compare a run later.
#[derive(Debug, Serialize)]
pub(crate) struct Report<T> {
    /// The subcommand.
    pub(crate) what: &'static str,
    pub(crate) machine: Machine,
    /// Load average (1, 5, 15 minutes) when the run ended.
    pub(crate) load_after: String,
    /// Options of the run as given.
    pub(crate) options: BTreeMap<&'static str, String>,
    pub(crate) results: T,
    pub(crate) goals: Vec<Goal>,
    /// What was left out, with its reason.
    pub(crate) skipped: Vec<String>,
    /// What should have worked and did not.
    pub(crate) failed: Vec<String>,
}

impl<T: Serialize> Report<T> {
    /// Takes the machine facts at the start of a run.
    pub(crate) fn begin(
        what: &'static str,
        options: BTreeMap<&'static str, String>,
        results: T,
    ) -> Self {
        Self {
            what,
            machine: Machine::look(),
            load_after: String::new(),
            options,
            results,
            goals: Vec::new(),
            skipped: Vec::new(),
            failed: Vec::new(),
        }
    }

    /// Prints the report as JSON, or with `tables` in the middle.
    pub(crate) fn print(mut self, json: bool, tables: impl FnOnce(&T) -> String) -> Result<()> {
        self.load_after = load_average();
        if json {
            println!("{}", serde_json::to_string_pretty(&self)?);
        } else {
            println!("{}", self.machine.text());
            let options: Vec<_> = self.options.iter().map(|(k, v)| format!("{k}={v}")).collect();
            println!("options: {}   load after: {}\n", options.join(" "), self.load_after);
            println!("{}", tables(&self.results));
            for goal in &self.goals {
                println!("{}", goal.text());
            }
            for reason in &self.skipped {
                println!("skipped: {reason}");
            }
            for reason in &self.failed {
                println!("FAILED: {reason}");
            }
        }
        anyhow::ensure!(self.failed.is_empty(), "{} measurement(s) failed", self.failed.len());
        Ok(())
    }
}

/// Facts about the machine and the build.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) kernel: String,
    pub(crate) rustc: &'static str,
    /// `release`, or `debug`: then no number means anything.
    pub(crate) build: &'static str,
    /// Load average (1, 5, 15 minutes) when the run began.
    pub(crate) load_before: String,
    /// Versions from this package's lock file.
    pub(crate) versions: BTreeMap<String, String>,
}

impl Machine {
    fn look() -> Self {
        Self {
            cpu: read_cpu_model(),
            cores: thread::available_parallelism().map_or(0, usize::from),
            kernel: first_line("/proc/sys/kernel/osrelease"),
            rustc: env!("COMITY_BENCH_RUSTC"),
            build: if cfg!(debug_assertions) { "debug" } else { "release" },
            load_before: load_average(),
            versions: locked_versions(include_str!("../Cargo.lock")),
        }
    }

    fn text(&self) -> String {
        let versions: Vec<_> = self.versions.iter().map(|(k, v)| format!("{k} {v}")).collect();
        let warning = match self.build {
            "debug" => "\nThis is a debug build: its numbers mean nothing. Add --release.",
            _ => "",
        };
        format!(
            "{}, {} cores, Linux {}, {}, {} build, load before: {}\n{}{warning}",
            self.cpu,
            self.cores,
            self.kernel,
            self.rustc,
            self.build,
            self.load_before,
            versions.join(", "),
        )
    }
}

/// A number the project promised, and what was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Goal {
    pub(crate) what: String,
    /// The bound.
    pub(crate) wanted: Bound,
    pub(crate) measured: Spread,
    /// Whether the median keeps the bound.
    pub(crate) met: bool,
}

/// A bound on a number.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

impl Goal {
    /// Judges the median of `measured`.
    pub(crate) fn new(what: &str, wanted: Bound, measured: Spread) -> Self {
        let met = match wanted {
            Bound::AtMost(bound) => measured.median <= bound,
            Bound::AtLeast(bound) => measured.median >= bound,
        };
        Self { what: what.to_owned(), wanted, measured, met }
    }

    fn text(&self) -> String {
        let (sign, bound) = match self.wanted {
            Bound::AtMost(bound) => ("<=", bound),
            Bound::AtLeast(bound) => (">=", bound),
        };
        let verdict = if self.met { "met   " } else { "MISSED" };
        format!("goal {verdict} {} {sign} {bound}: {}", self.what, spread(Some(self.measured), 2))
    }
}

/// `median (min-max)` with that many decimals, or a dash.
pub(crate) fn spread(spread: Option<Spread>, decimals: usize) -> String {
    spread.map_or_else(
        || "-".to_owned(),
        |s| format!("{:.decimals$} ({:.decimals$}-{:.decimals$})", s.median, s.min, s.max),
    )
}

/// Columns padded to their widest cell; the first one to the left, the others to the right.
pub(crate) fn table(title: &str, header: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain(header.get(column).map(|h| h.chars().count())).max().unwrap_or(0)
    };
    let line = |cells: &[String]| {
        let padded: Vec<_> = cells
            .iter()
            .enumerate()
            .map(|(column, cell)| match column {
                0 => format!("{cell:<width$}", width = width(column)),
                _ => format!("{cell:>width$}", width = width(column)),
            })
            .collect();
        padded.join("  ").trim_end().to_owned()
    };
    let header: Vec<_> = header.iter().map(|&h| h.to_owned()).collect();
    let mut text = format!("{title}\n{}\n", line(&header));
    for row in rows {
        text.push_str(&line(row));
        text.push('\n');
    }
    text
}

/// A title and `name: text` lines.
pub(crate) fn list(title: &str, rows: &[(&str, &str)]) -> String {
    let lines: Vec<_> = rows.iter().map(|(name, text)| format!("  {name}: {text}")).collect();
    format!("{title}\n{}\n", lines.join("\n"))
}

fn load_average() -> String {
    first_line("/proc/loadavg").split(' ').take(3).collect::<Vec<_>>().join(" ")
}

fn first_line(path: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().next().unwrap_or("unknown").to_owned()
}

fn read_cpu_model() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let value = |key: &str| {
        let line = text.lines().find(|line| line.starts_with(key))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    value("model name").or_else(|| value("CPU part")).unwrap_or_else(|| "unknown CPU".to_owned())
}

fn locked_versions(lock: &str) -> BTreeMap<String, String> {
    let mut versions = BTreeMap::new();
    let mut name = None;
    for line in lock.lines() {
        if let Some(value) = quoted(line, "name = ") {
            name = Some(value);
        } else if let Some(version) = quoted(line, "version = ")
            && let Some(name) = name.take()
            && NAMED_VERSIONS.contains(&name)
        {
            versions.insert(name.to_owned(), version.to_owned());
        }
    }
    versions
}

fn quoted<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    line.strip_prefix(key)?.strip_prefix('"')?.strip_suffix('"')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lock_file_tells_the_versions() {
        let versions = locked_versions(include_str!("../Cargo.lock"));
        assert!(versions.get("iroh").is_some_and(|v| v.starts_with("1.")), "{versions:?}");
        assert!(versions.contains_key("tonic"));
    }

    #[test]
    fn table_aligns_and_keeps_every_cell() {
        let rows =
            [vec!["a".to_owned(), "100".to_owned()], vec!["long".to_owned(), "1".to_owned()]];
        assert_eq!(table("T", &["name", "us"], &rows), "T\nname   us\na     100\nlong    1\n");
    }

    #[test]
    fn a_goal_is_judged_by_its_median() {
        let measured = Spread { median: 1.3, min: 1.0, max: 2.0, passes: 3 };
        assert!(Goal::new("x", Bound::AtMost(1.3), measured).met);
        assert!(!Goal::new("x", Bound::AtLeast(1.4), measured).met);
    }
}
