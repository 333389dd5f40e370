//! Numbers and tables as text.

use crate::metric::Metric;
use crate::plot::Format;
use crate::stats::Estimate;

/// A mean with half the width of its interval: `99.2 % ± 0.1 %`.
#[must_use]
pub fn estimate(metric: &Metric, estimate: &Estimate) -> String {
    let mean = metric.write(estimate.mean);
    match estimate.margin {
        Some(margin) if margin > 0.0 => {
            // A margin is a distance: the digits that a share near 100 % needs are none of its own.
            let margin = if metric.format == Format::Percent {
                format!("{} %", Format::Number.write(100.0 * margin))
            } else {
                metric.write(margin)
            };
            format!("{mean} ± {margin}")
        }
        Some(_) | None => mean,
    }
}

/// A whole number with commas: `190,000`.
#[must_use]
pub fn grouped(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    if value < 0.0 && digits != "0" { format!("-{out}") } else { out }
}

/// Rows as columns aligned for a terminal; the first row is the header.
#[must_use]
pub fn columns(rows: &[Vec<String>]) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..count).map(width).collect();
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let pad = " ".repeat(widths[column] - cell.chars().count());
            // Names to the left, numbers to the right.
            line.push_str(&if column == 0 {
                format!("{cell}{pad}")
            } else {
                format!("  {pad}{cell}")
            });
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!(grouped(190_000.0), "190,000");
        assert_eq!((grouped(999.0), grouped(-1_000.0)), ("999".to_owned(), "-1,000".to_owned()));
        let metric = Metric::parse("before.recall_at_5").unwrap();
        let two = Estimate::of(&[0.99, 0.994]).unwrap();
        assert_eq!(estimate(&metric, &two), "99.2 % ± 2.54 %");
        assert_eq!(estimate(&metric, &Estimate::of(&[1.0]).unwrap()), "100 %");
    }

    #[test]
    fn columns_line_up() {
        let rows = [["name", "n"], ["a", "100"]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(columns(&rows), "name    n\na     100\n");
    }
}
