//! From an experiment's figures and results to charts, captions and the numbers behind them.

use serde_json::Value as Json;

use crate::aggregate::{Group, seeds_text};
use crate::cell::json_plain;
use crate::experiment::{Figure, FigureKind};
use crate::metric::Metric;
use crate::plot::{Axis, Chart, Format, Mark, Point, Scale, Series, Style, Target};

/// A figure made: what it shows and what belongs below it.
#[derive(Clone, Debug, PartialEq)]
pub struct Made {
    /// The chart.
    pub chart: Chart,
    /// What to know to read it.
    pub caption: String,
    /// The numbers it is drawn from, a header first; none for curves of many points.
    pub numbers: Vec<Vec<String>>,
}

/// Figures of an experiment that names none: recall over time, latency.
#[must_use]
pub fn usual() -> Vec<Figure> {
    let words = |text: &str| text.to_owned();
    vec![
        Figure {
            title: words("Recall over time"),
            kind: FigureKind::Time,
            y: vec![words("recall_at_5")],
            y_label: words("recall@5"),
            ..Figure::default()
        },
        Figure {
            title: words("Latency of structured queries"),
            kind: FigureKind::Cdf,
            y: ["before", "during", "after"]
                .map(|phase| format!("{phase}.queries.latency_ms"))
                .to_vec(),
            names: ["before", "during", "after"].map(words).to_vec(),
            x_label: words("virtual time from question to answer"),
            y_label: words("share of queries"),
            x_log: true,
            ..Figure::default()
        },
        Figure {
            title: words("Custody"),
            kind: FigureKind::Ccdf,
            y: vec![words("custody.items")],
            x_label: words("items a node keeps for others"),
            y_label: words("share of nodes that keep more"),
            ..Figure::default()
        },
    ]
}

/// Makes a figure; nothing if no result has what it shows.
#[must_use]
pub fn make(figure: &Figure, groups: &[Group<'_>]) -> Option<Made> {
    let groups: Vec<&Group<'_>> =
        groups.iter().filter(|group| group.matches(&figure.only)).collect();
    let metrics: Vec<(String, Metric)> = figure
        .y
        .iter()
        .enumerate()
        .filter_map(|(index, text)| {
            let name = figure.names.get(index).cloned().unwrap_or_else(|| text.clone());
            Some((name, Metric::parse(text).ok()?))
        })
        .collect();
    let format = metrics.first()?.1.format;
    let mut made = match figure.kind {
        FigureKind::Line | FigureKind::Bars => against(figure, &groups, &metrics, format),
        FigureKind::Cdf | FigureKind::Ccdf => distribution(figure, &groups, &metrics, format),
        FigureKind::Time => over_time(figure, &groups, &metrics, format),
    };
    if made.chart.is_empty() {
        return None;
    }
    if let Some(target) = figure.target {
        let label = format!("target {}", metrics.first()?.1.write(target));
        made.chart.targets.push(Target { y: target, label });
    }
    made.caption = caption(figure, &groups);
    Some(made)
}

fn value_axis(figure: &Figure, format: Format) -> Axis {
    let label =
        if figure.y_label.is_empty() { figure.y.join(", ") } else { figure.y_label.clone() };
    match format {
        Format::Percent => Axis::share(label),
        Format::Number | Format::Seconds | Format::Bytes if figure.y_log => {
            Axis::log(label, format)
        }
        Format::Number | Format::Seconds | Format::Bytes => {
            Axis { limits: (0.0, f64::INFINITY), ..Axis::linear(label, format) }.including(0.0)
        }
    }
}

/// Which swept fields differ between groups.
fn varying(groups: &[&Group<'_>]) -> Vec<String> {
    let mut keys: Vec<String> = Vec::new();
    for group in groups {
        for (key, _) in group.results.first().map_or(&[][..], |result| &result.assignments) {
            if !keys.contains(key) {
                keys.push(key.clone());
            }
        }
    }
    keys.retain(|key| {
        let first = groups.first().and_then(|group| group.field(key));
        groups.iter().any(|group| group.field(key) != first)
    });
    keys
}

/// What tells a group from the others, some fields left out.
fn name_of(group: &Group<'_>, keys: &[String], but: &str) -> String {
    let number = |value: &Json| {
        value.as_f64().map_or_else(|| json_plain(value), |number| Format::Number.write(number))
    };
    let words: Vec<String> = keys
        .iter()
        .filter(|key| *key != but)
        .filter_map(|key| {
            let value = group.field(key)?;
            // A word says itself what it is.
            Some(match (&value, key.as_str()) {
                (Json::String(word), _) => word.replace('_', " "),
                (_, "kill") => format!("{} % killed", number(&value)),
                (_, "adversaries") => format!("{} % malicious", number(&value)),
                (_, "nodes") => format!("{} nodes", number(&value)),
                _ => format!("{} {}", key.rsplit('.').next().unwrap_or(key), number(&value)),
            })
        })
        .collect();
    words.join(", ")
}

fn series_name(metric: &str, many_metrics: bool, group: &str) -> String {
    match (many_metrics, group.is_empty()) {
        (_, true) => metric.to_owned(),
        (true, false) => format!("{group}, {metric}"),
        (false, false) => group.to_owned(),
    }
}

fn against(
    figure: &Figure,
    groups: &[&Group<'_>],
    metrics: &[(String, Metric)],
    format: Format,
) -> Made {
    let keys = varying(groups);
    let x_key = if figure.x.is_empty() {
        keys.first().cloned().unwrap_or_default()
    } else {
        figure.x.clone()
    };
    let mut places: Vec<Json> = Vec::new();
    for value in groups.iter().filter_map(|group| group.field(&x_key)) {
        if !places.contains(&value) {
            places.push(value);
        }
    }
    let numeric = figure.kind == FigureKind::Line && places.iter().all(Json::is_number);
    let label = if figure.x_label.is_empty() { x_key.clone() } else { figure.x_label.clone() };
    let x_axis = if numeric {
        let ticks = places.iter().filter_map(Json::as_f64).collect();
        let axis = if figure.x_log {
            Axis::log(label, Format::Number)
        } else {
            Axis::linear(label, Format::Number).tight()
        };
        axis.with_ticks(ticks)
    } else {
        Axis::categories(
            label,
            places.iter().map(|place| json_plain(place).replace('_', " ")).collect(),
        )
    };
    let mut chart = Chart::new(&figure.title, x_axis, value_axis(figure, format));
    let mut numbers = vec![vec![x_key.clone()]];
    for place in &places {
        numbers.push(vec![json_plain(place)]);
    }
    let mut rest: Vec<String> = Vec::new();
    for group in groups {
        let name = name_of(group, &keys, &x_key);
        if !rest.contains(&name) {
            rest.push(name);
        }
    }
    for name in &rest {
        for (metric_name, metric) in metrics {
            let series_name = series_name(metric_name, metrics.len() > 1, name);
            let mut points = Vec::new();
            numbers[0].push(series_name.clone());
            for (row, place) in places.iter().enumerate() {
                let group = groups.iter().find(|group| {
                    group.field(&x_key).as_ref() == Some(place)
                        && name_of(group, &keys, &x_key) == *name
                });
                let estimate = group.and_then(|group| group.estimate(metric));
                numbers[row + 1].push(estimate.map_or_else(
                    || "-".to_owned(),
                    |estimate| crate::text::estimate(metric, &estimate),
                ));
                if let Some(estimate) = estimate {
                    let x = if numeric { place.as_f64().unwrap_or(0.0) } else { row as f64 };
                    let (low, high) = estimate.interval();
                    let (bottom, top) = chart.y.limits;
                    let interval = estimate.margin.map(|_| (low.max(bottom), high.min(top)));
                    points.push(Point { x, y: estimate.mean, interval });
                }
            }
            points.sort_by(|a, b| a.x.total_cmp(&b.x));
            let style = if figure.kind == FigureKind::Bars { Style::Bars } else { Style::Line };
            if !points.is_empty() {
                chart.series.push(Series { name: series_name, style, points });
            }
        }
    }
    Made { chart, caption: String::new(), numbers }
}

fn distribution(
    figure: &Figure,
    groups: &[&Group<'_>],
    metrics: &[(String, Metric)],
    format: Format,
) -> Made {
    let above = figure.kind == FigureKind::Ccdf;
    let x = if above || figure.x_log {
        Axis::log(&figure.x_label, format)
    } else {
        Axis::linear(&figure.x_label, format).including(0.0).tight()
    };
    let y = if above {
        Axis { limits: (0.0, 1.0), ..Axis::log(&figure.y_label, Format::Percent) }
    } else {
        Axis::share(&figure.y_label).including(0.0)
    };
    let positive = x.scale == Scale::Log;
    let mut chart = Chart::new(&figure.title, x, y);
    let keys = varying(groups);
    let mut numbers = vec![["", "p50", "p90", "p99", "largest"].map(str::to_owned).to_vec()];
    for group in groups {
        for (metric_name, metric) in metrics {
            let curves: Vec<Vec<(f64, f64)>> =
                group.results.iter().filter_map(|result| metric.distribution(result)).collect();
            let Some(first) = curves.first() else { continue };
            let name = series_name(metric_name, metrics.len() > 1, &name_of(group, &keys, ""));
            let mean_at = |index: usize| {
                let values: Vec<f64> =
                    curves.iter().filter_map(|curve| Some(curve.get(index)?.1)).collect();
                values.iter().sum::<f64>() / values.len().max(1) as f64
            };
            let mut points = Vec::new();
            let mut row = vec![name.clone()];
            for (index, (share, _)) in first.iter().enumerate() {
                let value = mean_at(index);
                let height = if above { 1.0 - share } else { *share };
                if (!positive || value > 0.0) && (!above || height > 0.0) {
                    points.push(Point::new(value, height));
                }
                if [0.5, 0.9, 0.99, 1.0].contains(share) {
                    row.push(metric.write(value));
                }
            }
            numbers.push(row);
            chart.series.push(Series { name, style: Style::Curve, points });
        }
    }
    Made { chart, caption: String::new(), numbers }
}

fn over_time(
    figure: &Figure,
    groups: &[&Group<'_>],
    metrics: &[(String, Metric)],
    format: Format,
) -> Made {
    let label = if figure.x_label.is_empty() { "virtual time" } else { &figure.x_label };
    let x = Axis::linear(label, Format::Seconds).tight();
    let mut chart = Chart::new(&figure.title, x, value_axis(figure, format));
    let keys = varying(groups);
    for group in groups {
        for (metric_name, metric) in metrics {
            let points = mean_series(group, metric);
            if points.is_empty() {
                continue;
            }
            let name = series_name(metric_name, metrics.len() > 1, &name_of(group, &keys, ""));
            chart.series.push(Series { name, style: Style::Curve, points });
        }
    }
    // Groups of one experiment meet their faults at the same time, or the marks of the first stand for all.
    let marks = groups.first().and_then(|group| group.results.first()?.report["marks"].as_array());
    for mark in marks.into_iter().flatten() {
        let label = mark["label"].as_str().unwrap_or_default().to_owned();
        if let Some(from) = mark["at_seconds"].as_f64() {
            chart.marks.push(Mark { from, to: None, label });
        }
    }
    Made { chart, caption: String::new(), numbers: Vec::new() }
}

/// A field of the time series, averaged over the seeds whose buckets begin at the same time.
fn mean_series(group: &Group<'_>, metric: &Metric) -> Vec<Point> {
    let field = metric.text().rsplit('.').next().unwrap_or_default();
    let scale = if field.contains("_ms") { 1e-3 } else { 1.0 };
    let mut sums: Vec<(f64, f64, f64)> = Vec::new();
    for result in &group.results {
        let points = result.report["series"]["points"].as_array();
        for point in points.into_iter().flatten() {
            let (Some(at), Some(value)) = (point["at_seconds"].as_f64(), point[field].as_f64())
            else {
                continue;
            };
            match sums.binary_search_by(|(known, ..)| known.total_cmp(&at)) {
                Ok(index) => {
                    sums[index].1 += value * scale;
                    sums[index].2 += 1.0;
                }
                Err(index) => sums.insert(index, (at, value * scale, 1.0)),
            }
        }
    }
    sums.into_iter().map(|(at, sum, count)| Point::new(at, sum / count)).collect()
}

fn caption(figure: &Figure, groups: &[&Group<'_>]) -> String {
    let results = || groups.iter().flat_map(|group| &group.results);
    let range = |values: Vec<f64>, write: &dyn Fn(f64) -> String| {
        let low = values.iter().copied().fold(f64::INFINITY, f64::min);
        let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        if low == high { write(low) } else { format!("{} to {}", write(low), write(high)) }
    };
    let whole = |value: f64| crate::text::grouped(value);
    let nodes = range(results().map(|result| result.nodes() as f64).collect(), &whole);
    let lasted = range(
        results().filter_map(|result| result.report["virtual_seconds"].as_f64()).collect(),
        &|value| Format::Seconds.write(value),
    );
    let took: f64 = results().map(|result| result.measured.wall_seconds).sum();
    let seeds = seeds_text(results().map(|result| result.seed()));
    let several = groups.iter().any(|group| group.results.len() > 1);
    let mut text = String::new();
    if !figure.caption.is_empty() {
        text = format!("{} ", figure.caption.trim());
    }
    text.push_str(&format!(
        "N = {nodes} nodes; {} {seeds}",
        if seeds.contains([',', '-']) { "seeds" } else { "seed" }
    ));
    match figure.kind {
        FigureKind::Line | FigureKind::Bars if several => {
            text.push_str("; means over seeds with 95 % confidence intervals (Student's t)");
        }
        FigureKind::Cdf | FigureKind::Ccdf | FigureKind::Time if several => {
            text.push_str("; means over seeds");
        }
        FigureKind::Line
        | FigureKind::Bars
        | FigureKind::Cdf
        | FigureKind::Ccdf
        | FigureKind::Time => {}
    }
    text.push_str(&format!(
        "; {lasted} simulated a run, {} of computing in all.",
        Format::Seconds.write(took)
    ));
    text
}
