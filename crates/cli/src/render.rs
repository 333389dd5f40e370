//! Answers as text for people: what matters first, 80 columns, nothing from afar that could move a cursor.

pub(crate) mod access;
pub(crate) mod attest;
pub(crate) mod audit;
pub(crate) mod call;
pub(crate) mod find;
pub(crate) mod group;
pub(crate) mod handle;
pub(crate) mod identity;
pub(crate) mod network;
pub(crate) mod node;
pub(crate) mod pilot;
pub(crate) mod receipts;
pub(crate) mod serve;
pub(crate) mod sim;

#[cfg(test)]
pub(crate) mod tests;

use std::error::Error;
use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use anstyle::{AnsiColor, Style};
use comity_core::Time;
use unicode_width::UnicodeWidthStr as _;

/// What an eye should find first.
pub(crate) const STRONG: Style = Style::new().bold();
/// What can be skipped.
pub(crate) const DIM: Style = Style::new().dimmed();
/// As wished.
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
/// Not as wished.
pub(crate) const BAD: Style = AnsiColor::Red.on_default().bold();
/// Undecided.
pub(crate) const UNSURE: Style = AnsiColor::Yellow.on_default();

/// Text from elsewhere made safe to print: control characters and characters that reorder text are replaced.
pub(crate) fn clean(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\n' | '\t' => ' ',
            '\u{200e}'
            | '\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}'
            | '\u{61c}' => '\u{fffd}',
            c if c.is_control() => '\u{fffd}',
            c => c,
        })
        .collect()
}

/// A paragraph: `text` (which may carry styles) after `first`, further lines after `rest`, at most `width` columns
/// where words allow.
pub(crate) fn wrapped(text: &str, first: &str, rest: &str, width: usize) -> String {
    let mut out = String::from(first);
    let mut column = columns(first);
    let mut fresh = true;
    for word in text.split_whitespace() {
        let needed = columns(word) + usize::from(!fresh);
        if !fresh && column + needed > width {
            out.push('\n');
            out.push_str(rest);
            column = columns(rest);
            fresh = true;
        }
        if !fresh {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += columns(word);
        fresh = false;
    }
    out.push('\n');
    out
}

/// A labelled paragraph, its lines aligned behind the label.
pub(crate) fn field(indent: usize, label: &str, text: &str, width: usize) -> String {
    const LABEL_COLUMNS: usize = 9;
    let pad = LABEL_COLUMNS.saturating_sub(columns(label)).max(1);
    let first = format!("{:indent$}{DIM}{label}{DIM:#}{:pad$}", "", "");
    wrapped(text, &first, &" ".repeat(indent + columns(label) + pad), width)
}

/// Columns a text takes, styles not counted.
pub(crate) fn columns(text: &str) -> usize {
    anstream::adapter::strip_str(text).to_string().width()
}

/// A text from elsewhere made safe and cut to `max` columns for a table, its end marked.
pub(crate) fn cut(text: &str, max: usize) -> String {
    let text = clean(text);
    if columns(&text) <= max {
        return text;
    }
    let mut out = String::new();
    for c in text.chars() {
        if columns(&out) + 2 > max {
            break;
        }
        out.push(c);
    }
    out.push('…');
    out
}

/// Rows as aligned columns; the last column is not padded.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..count)
        .map(|index| {
            rows.iter()
                .filter_map(|row| row.get(index))
                .map(|cell| columns(cell))
                .max()
                .unwrap_or(0)
        })
        .collect();
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        for (index, cell) in row.iter().enumerate() {
            line.push_str(cell);
            if index + 1 < row.len() {
                line.extend(std::iter::repeat_n(' ', widths[index] - columns(cell) + 2));
            }
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// An error with its causes, joined by colons.
pub(crate) fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // Writing to a string does not fail.
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    text
}

/// `1 peer`, `2 peers`.
pub(crate) fn count(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// Microseconds for people: `850 us`, `1.2 ms`, `3.4 s`.
pub(crate) fn micros(micros: u64) -> String {
    match micros {
        0..1_000 => format!("{micros} us"),
        1_000..10_000 => format!("{}.{} ms", micros / 1_000, micros % 1_000 / 100),
        10_000..1_000_000 => format!("{} ms", micros / 1_000),
        1_000_000..100_000_000 => {
            format!("{}.{} s", micros / 1_000_000, micros % 1_000_000 / 100_000)
        }
        _ => span_ms(micros / 1_000),
    }
}

/// Bytes for people, in powers of 1,024.
pub(crate) fn bytes(bytes: u64) -> String {
    match bytes {
        0..1_024 => format!("{bytes} B"),
        1_024..1_048_576 => format!("{} KiB", bytes / 1_024),
        _ => format!("{}.{} MiB", bytes / 1_048_576, bytes % 1_048_576 * 10 / 1_048_576),
    }
}

/// A span of milliseconds for people, one unit: `40 s`, `3 min`, `5 h`, `12 days`.
pub(crate) fn span_ms(ms: u64) -> String {
    match ms / 1_000 {
        0 => format!("{ms} ms"),
        seconds @ 1..120 => format!("{seconds} s"),
        seconds @ 120..7_200 => format!("{} min", seconds / 60),
        seconds @ 7_200..172_800 => format!("{} h", seconds / 3_600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

/// How long ago an instant was, or how far it lies ahead.
pub(crate) fn ago(at_ms: u64, now_ms: u64) -> String {
    if at_ms <= now_ms {
        format!("{} ago", span_ms(now_ms - at_ms))
    } else {
        format!("in {}", span_ms(at_ms - now_ms))
    }
}

/// Now, in milliseconds since the UNIX epoch.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// An instant as RFC 3339 text in UTC, whole seconds.
pub(crate) fn instant(at_ms: u64) -> String {
    Time::from_secs(at_ms / 1_000).rfc3339()
}
