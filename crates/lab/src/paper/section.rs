//! One experiment: what it is, its figures, its table, how to repeat it.

use super::Block;
use crate::aggregate::Group;
use crate::experiment::Experiment;
use crate::figure;
use crate::metric::{COLUMNS, Metric};

/// Violations listed of an experiment.
const VIOLATIONS_MAX: usize = 12;

pub(super) fn blocks(
    experiment: &Experiment,
    groups: &[Group<'_>],
    number: &mut usize,
) -> Vec<Block> {
    let mut blocks = vec![Block::Heading(2, experiment.title.clone())];
    if !experiment.about.is_empty() {
        blocks.push(Block::Paragraph(experiment.about.trim().to_owned()));
    }
    let usual = figure::usual();
    let figures = if experiment.figures.is_empty() { &usual } else { &experiment.figures };
    for (index, wanted) in figures.iter().enumerate() {
        let Some(made) = figure::make(wanted, groups) else { continue };
        *number += 1;
        blocks.push(Block::Figure {
            file: format!("{}-{}.svg", crate::shipped::slug(&experiment.name), index + 1),
            title: format!("Figure {number}. {}", wanted.title),
            svg: made.chart.svg(),
            caption: made.caption,
            numbers: made.numbers,
        });
    }
    let columns: Vec<&str> = if experiment.columns.is_empty() {
        COLUMNS.to_vec()
    } else {
        experiment.columns.iter().map(String::as_str).collect()
    };
    blocks.push(Block::Table(table(&columns, groups)));
    let wrong = violations(groups);
    if !wrong.is_empty() {
        blocks.push(Block::Paragraph("Rules broken and demands missed:".to_owned()));
        blocks.push(Block::List(wrong));
    }
    blocks.push(Block::Code(format!("comity sim {}", experiment.name)));
    let file = vec![Block::Code(experiment.text.trim_end().to_owned())];
    blocks.push(Block::Details("The experiment's file".to_owned(), file));
    blocks
}

/// Groups of cells by metrics, a header first, without columns that nothing fills.
#[must_use]
pub fn table(columns: &[&str], groups: &[Group<'_>]) -> Vec<Vec<String>> {
    let metrics: Vec<Metric> = columns.iter().filter_map(|text| Metric::parse(text).ok()).collect();
    let shown: Vec<&Metric> = metrics
        .iter()
        .filter(|metric| groups.iter().any(|group| group.estimate(metric).is_some()))
        .collect();
    let mut head = vec![String::new(), "seeds".to_owned()];
    head.extend(shown.iter().map(|metric| heading(metric.text())));
    head.push("passed".to_owned());
    let mut rows = vec![head];
    for group in groups {
        let label = if group.label.is_empty() {
            format!("nodes={}", group.results.first().map_or(0, |result| result.nodes()))
        } else {
            group.label.clone()
        };
        let mut row = vec![label, group.seeds()];
        for metric in &shown {
            let cell = group.estimate(metric);
            row.push(
                cell.map_or_else(|| "-".to_owned(), |cell| crate::text::estimate(metric, &cell)),
            );
        }
        let passed = group.results.iter().filter(|result| result.passed()).count();
        row.push(format!("{passed}/{}", group.results.len()));
        rows.push(row);
    }
    rows
}

/// A path as the head of a column.
fn heading(path: &str) -> String {
    path.replace("latency_ms.", "")
        .replace("measured.", "")
        .replace("wall_seconds", "wall time")
        .replace("peak_bytes", "memory")
        .replace("sent_per_second", "sent a node")
        .replace("recall_at_5", "recall@5")
        .replace(['.', '_'], " ")
}

fn violations(groups: &[Group<'_>]) -> Vec<String> {
    let mut all = Vec::new();
    for group in groups {
        for result in &group.results {
            let label = group.label.trim();
            for violation in result.violations() {
                all.push(format!("{label} seed={}: {violation}", result.seed()).trim().to_owned());
            }
        }
    }
    let more = all.len().saturating_sub(VIOLATIONS_MAX);
    all.truncate(VIOLATIONS_MAX);
    if more > 0 {
        all.push(format!("and {more} more"));
    }
    all
}
