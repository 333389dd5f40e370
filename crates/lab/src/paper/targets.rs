//! Targets: what was demanded, what was measured, met or missed.

use serde::Serialize;

use super::Block;
use crate::aggregate::Group;
use crate::campaign::Goal;
use crate::experiment::{Experiment, Target};
use crate::metric::Metric;

/// What became of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Reached in all cells it speaks of.
    Met,
    /// Not reached.
    Missed,
    /// No cell measured it.
    Open,
}

/// One target.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Line {
    /// Which target of the design, `T4`.
    pub id: String,
    /// What is demanded.
    pub text: String,
    /// What was measured, in words.
    pub measured: String,
    /// Met or missed.
    pub verdict: Verdict,
    /// Where: experiment and cells.
    pub source: String,
    /// What to know about it.
    pub note: String,
}

/// All targets: those of the goals in their order, then those no goal speaks of.
pub(super) fn lines(experiments: &[Experiment], goals: &[Goal], groups: &[Group<'_>]) -> Vec<Line> {
    let targets =
        || experiments.iter().flat_map(|one| one.targets.iter().map(move |target| (one, target)));
    let mut lines = Vec::new();
    for goal in goals {
        if !goal.measured.is_empty() {
            lines.push(Line {
                id: goal.id.clone(),
                text: goal.text.clone(),
                measured: goal.measured.clone(),
                verdict: if goal.met { Verdict::Met } else { Verdict::Missed },
                source: goal.command.clone(),
                note: goal.note.clone(),
            });
        }
        let before = lines.len();
        lines.extend(
            targets()
                .filter(|(_, target)| target.id == goal.id)
                .map(|(experiment, target)| line(experiment, target, groups)),
        );
        if lines.len() == before && goal.measured.is_empty() {
            lines.push(Line {
                id: goal.id.clone(),
                text: goal.text.clone(),
                measured: "not measured".to_owned(),
                verdict: Verdict::Open,
                source: String::new(),
                note: goal.note.clone(),
            });
        }
    }
    let known = |id: &str| goals.iter().any(|goal| goal.id == id);
    lines.extend(
        targets()
            .filter(|(_, target)| !known(&target.id))
            .map(|(experiment, target)| line(experiment, target, groups)),
    );
    lines
}

/// The worst of the cells a target speaks of decides.
fn line(experiment: &Experiment, target: &Target, groups: &[Group<'_>]) -> Line {
    let mut line = Line {
        id: target.id.clone(),
        text: target.text.clone(),
        measured: "not run".to_owned(),
        verdict: Verdict::Open,
        source: experiment.name.clone(),
        note: target.note.clone(),
    };
    let Ok(metric) = Metric::parse(&target.metric) else { return line };
    let own = groups
        .iter()
        .filter(|group| group.experiment == experiment.name && group.matches(&target.only));
    let mut worst: Option<(f64, String, String)> = None;
    for group in own {
        let Some(estimate) = group.estimate(&metric) else { continue };
        // How far above what is demanded, negative if below; of both bounds the nearer one counts.
        let slack = |mean: f64| {
            let least = target.at_least.map_or(f64::INFINITY, |least| mean - least);
            let most = target.at_most.map_or(f64::INFINITY, |most| most - mean);
            least.min(most)
        };
        let slack = slack(estimate.mean);
        if worst.as_ref().is_none_or(|(known, ..)| slack < *known) {
            let seeds = estimate.seeds;
            let nodes = group.results.first().map_or(0, |result| result.nodes());
            let words = format!(
                "{} ({} nodes, {seeds} {})",
                crate::text::estimate(&metric, &estimate),
                crate::text::grouped(nodes as f64),
                if seeds == 1 { "seed" } else { "seeds" }
            );
            worst = Some((slack, words, group.label.clone()));
        }
    }
    if let Some((slack, words, label)) = worst {
        line.measured = words;
        line.verdict = if slack >= 0.0 { Verdict::Met } else { Verdict::Missed };
        line.source = format!("{} {label}", experiment.name).trim().to_owned();
    }
    if line.text.is_empty() {
        line.text = target.metric.clone();
    }
    let bound = |word: &str, value: Option<f64>| {
        value.map(|value| format!("{word} {}", metric.write(value)))
    };
    let bounds: Vec<String> =
        [bound("at least", target.at_least), bound("at most", target.at_most)]
            .into_iter()
            .flatten()
            .collect();
    if !bounds.is_empty() {
        line.text = format!("{}: {}", line.text, bounds.join(", "));
    }
    line
}

pub(super) fn blocks(lines: &[Line]) -> Vec<Block> {
    if lines.is_empty() {
        return Vec::new();
    }
    let count = |verdict: Verdict| lines.iter().filter(|line| line.verdict == verdict).count();
    let mut rows =
        vec![["", "target", "measured", "", "experiment", "remark"].map(str::to_owned).to_vec()];
    let mut last = "";
    for line in lines {
        let verdict = match line.verdict {
            Verdict::Met => "met",
            Verdict::Missed => "MISSED",
            Verdict::Open => "open",
        };
        // A target of several parts is named once.
        let id = if line.id == last { "" } else { &line.id };
        last = &line.id;
        rows.push(
            [id, &line.text, &line.measured, verdict, &line.source, &line.note]
                .map(str::to_owned)
                .to_vec(),
        );
    }
    vec![
        Block::Heading(2, "Targets".to_owned()),
        Block::Paragraph(format!(
            "{} met, {} missed, {} not measured. Where a target speaks of several cells, the worst of them is shown.",
            count(Verdict::Met),
            count(Verdict::Missed),
            count(Verdict::Open)
        )),
        Block::Table(rows),
    ]
}
