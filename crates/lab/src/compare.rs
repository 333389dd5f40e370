//! Two sets of results beside each other.

use serde::Serialize;

use crate::aggregate::Group;
use crate::cell::CellResult;
use crate::metric::{Better, COLUMNS, Metric};
use crate::stats::Estimate;

/// What a comparison looks at unless told otherwise.
pub const COMPARED: [&str; 34] = [
    "before.recall_at_5",
    "during.recall_at_5",
    "after.recall_at_5",
    "before.recall",
    "during.recall",
    "after.recall",
    "before.text_recall_at_5",
    "before.finds.success",
    "during.finds.success",
    "after.finds.success",
    "before.nearest",
    "after.nearest",
    "stored",
    "before.queries.latency_ms.p50",
    "before.queries.latency_ms.p99",
    "during.queries.latency_ms.p50",
    "during.queries.latency_ms.p99",
    "after.queries.latency_ms.p99",
    "before.peers.latency_ms.p50",
    "before.peers.latency_ms.p99",
    "before.finds.hops",
    "before.queries.requests",
    "before.queries.bytes",
    "before.texts.bytes",
    "before.sent_per_second",
    "during.sent_per_second",
    "custody.items.max / custody.items.mean",
    "publications.bytes",
    "publications.latency_ms.p50",
    "lifecycle.found.seconds.p95",
    "peak_state_bytes",
    "measured.wall_seconds",
    "measured.peak_bytes",
    "measured.events_per_second",
];

/// How a metric changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// The same value.
    Same,
    /// The intervals overlap: seeds differ as much.
    Unclear,
    /// Clearly better.
    Better,
    /// Clearly worse.
    Worse,
    /// Clearly different, and neither is better.
    Different,
}

/// One metric of one group of cells, then and now.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// Name of the experiment.
    pub experiment: String,
    /// What was varied: `kill=30 nodes=1000`.
    pub group: String,
    /// The metric's path.
    pub metric: String,
    /// Then.
    pub base: Estimate,
    /// Now.
    pub now: Estimate,
    /// Change of the mean as a share of the base; nothing if that is 0.
    pub change: Option<f64>,
    /// Whether the 95 % intervals overlap; nothing without intervals.
    pub overlap: Option<bool>,
    /// What it means.
    pub verdict: Change,
}

/// A comparison.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Comparison {
    /// Metrics of cells in both.
    pub rows: Vec<Row>,
    /// Groups in the base only.
    pub only_base: Vec<String>,
    /// Groups in the new results only.
    pub only_now: Vec<String>,
    /// Whether traces of equal scenarios are equal: then the program behaves the same. Nothing if no scenario is in both.
    pub same_traces: Option<bool>,
}

/// Compares `now` with `base`.
#[must_use]
pub fn compare(base: &[CellResult], now: &[CellResult]) -> Comparison {
    let (base_groups, now_groups) = (Group::all(base), Group::all(now));
    let name =
        |group: &Group<'_>| format!("{} {}", group.experiment, group.label).trim().to_owned();
    let lonely = |group: &&Group<'_>, own: &[Group<'_>], others: &[Group<'_>]| {
        partner(group, own, others).is_none()
    };
    let mut comparison = Comparison {
        only_base: base_groups
            .iter()
            .filter(|group| lonely(group, &base_groups, &now_groups))
            .map(name)
            .collect(),
        only_now: now_groups
            .iter()
            .filter(|group| lonely(group, &now_groups, &base_groups))
            .map(name)
            .collect(),
        ..Comparison::default()
    };
    for result in now {
        if let Some(before) = base.iter().find(|before| before.id == result.id) {
            let same = before.report["trace"] == result.report["trace"];
            comparison.same_traces = Some(comparison.same_traces.unwrap_or(true) && same);
        }
    }
    for group in &now_groups {
        let Some(before) = partner(group, &now_groups, &base_groups) else { continue };
        let metrics = COMPARED.iter().chain(COLUMNS.iter().filter(|text| !COMPARED.contains(text)));
        for metric in metrics.filter_map(|text| Metric::parse(text).ok()) {
            if let (Some(base), Some(now)) = (before.estimate(&metric), group.estimate(&metric)) {
                comparison.rows.push(row(group, &metric, base, now));
            }
        }
    }
    comparison
}

/// The group that a group is compared with: its namesake, or the only one of the experiment if there is one on either side.
fn partner<'a, 'b>(
    group: &Group<'_>,
    now: &[Group<'_>],
    base: &'b [Group<'a>],
) -> Option<&'b Group<'a>> {
    let of = |one: &Group<'_>| one.experiment == group.experiment;
    let namesake = base.iter().find(|before| of(before) && before.label == group.label);
    let alone = || {
        let mut before = base.iter().filter(|before| of(before));
        let only = before.next().filter(|_| before.next().is_none());
        only.filter(|_| now.iter().filter(|one| of(one)).count() == 1)
    };
    namesake.or_else(alone)
}

fn row(group: &Group<'_>, metric: &Metric, base: Estimate, now: Estimate) -> Row {
    let change = (base.mean != 0.0).then(|| now.mean / base.mean - 1.0);
    let overlap = (base.margin.is_some() && now.margin.is_some()).then(|| base.overlaps(&now));
    let verdict = if base.mean == now.mean {
        Change::Same
    } else if overlap == Some(true) {
        Change::Unclear
    } else {
        match (metric.better, now.mean > base.mean) {
            (Better::Neither, _) => Change::Different,
            (Better::Higher, true) | (Better::Lower, false) => Change::Better,
            (Better::Higher, false) | (Better::Lower, true) => Change::Worse,
        }
    };
    Row {
        experiment: group.experiment.to_owned(),
        group: group.label.clone(),
        metric: metric.text().to_owned(),
        base,
        now,
        change,
        overlap,
        verdict,
    }
}

impl Comparison {
    /// The comparison as a table for a terminal.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::new();
        let mut rest = &self.rows[..];
        while let Some(first) = rest.first() {
            let same = rest
                .iter()
                .take_while(|row| row.experiment == first.experiment && row.group == first.group);
            let count = same.count();
            out.push_str(format!("{} {}", first.experiment, first.group).trim());
            out.push('\n');
            let head = ["", "base", "now", "change", "intervals", ""].map(str::to_owned).to_vec();
            let rows: Vec<Vec<String>> =
                std::iter::once(head).chain(rest[..count].iter().map(Row::cells)).collect();
            out.push_str(&crate::text::columns(&rows));
            out.push('\n');
            rest = &rest[count..];
        }
        for (what, groups) in [("base", &self.only_base), ("new results", &self.only_now)] {
            for group in groups {
                out.push_str(&format!("only in the {what}: {group}\n"));
            }
        }
        out.push_str(match self.same_traces {
            Some(true) => "traces: the same\n",
            Some(false) => "traces: different\n",
            None => "traces: no scenario and seed is in both\n",
        });
        out
    }
}

impl Row {
    fn cells(&self) -> Vec<String> {
        let write = |estimate: &Estimate| {
            Metric::parse(&self.metric).map_or_else(
                |_| estimate.mean.to_string(),
                |metric| crate::text::estimate(&metric, estimate),
            )
        };
        let overlap = match self.overlap {
            Some(true) => "overlap",
            Some(false) => "apart",
            None => "-",
        };
        let verdict = match self.verdict {
            Change::Same => "",
            Change::Unclear => "unclear",
            Change::Better => "better",
            Change::Worse => "WORSE",
            Change::Different => "different",
        };
        let change = match self.change {
            _ if self.verdict == Change::Same => "=".to_owned(),
            Some(change) => format!("{:+.1} %", 100.0 * change),
            None => "from 0".to_owned(),
        };
        let mut name = format!("  {}", self.metric);
        name = name.replace(".latency_ms.", " ");
        vec![
            name,
            write(&self.base),
            write(&self.now),
            change,
            overlap.to_owned(),
            verdict.to_owned(),
        ]
    }
}
