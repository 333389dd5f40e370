//! What a table holds, derived from its rows: for confirmation, for the interface, for the declaration.

use std::fmt;

use rusqlite::Connection;
use serde::{Deserialize, Serialize};

use super::import::Kept;
use super::source::Source;
use super::value::{ColumnType, decimal_json, timestamp_text};

/// Most distinct values a column may have for its value set to be listed.
pub const MAX_LISTED_VALUES: usize = 64;
/// Longest value in a listed value set, bytes.
pub const MAX_LISTED_VALUE_BYTES: usize = 64;

/// What a table holds. Its `Display` is the page shown for confirmation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableSummary {
    /// Name of the file, without its directory.
    pub file: String,
    /// Size of the file, bytes.
    pub bytes: u64,
    /// Data version: `b3:` and the first 128 bits of the file's BLAKE3 hash in hex.
    pub data_version: String,
    /// Rows, without the header.
    pub rows: u64,
    /// Columns in the order they are served.
    pub columns: Vec<ColumnSummary>,
    /// Coverage of the column that says when, if there is one.
    pub time: Option<TimeCoverage>,
    /// Coverage of latitude and longitude columns, if there are some.
    pub bbox: Option<BoundingBox>,
    /// Commitment over all rows ([`comity_capability::rows`]), `b3:` and hex; none without rows.
    pub commitment: Option<String>,
}

/// One column.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ColumnSummary {
    /// Its name in the file.
    pub name: String,
    /// Type of all its values.
    pub kind: ColumnType,
    /// Rows without a value.
    pub nulls: u64,
    /// Smallest and largest value of a number or time column, as text.
    pub range: Option<(String, String)>,
    /// All distinct values in order when there are at most [`MAX_LISTED_VALUES`] and fewer than rows with a value; for
    /// sets, all distinct members.
    pub values: Option<Vec<String>>,
    /// Whether every row has a value of its own.
    pub unique: bool,
}

/// From when to when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimeCoverage {
    /// The column that says when.
    pub column: String,
    /// First day or moment, ISO 8601.
    pub from: String,
    /// Last day or moment, ISO 8601.
    pub to: String,
    /// Distinct days or moments.
    pub distinct: u64,
    /// ISO 8601 duration of the median gap between distinct times, when at least half of the gaps are that long. Business
    /// days are `P1D`; irregular events have none.
    pub resolution: Option<String>,
}

/// A box on the globe, degrees.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BoundingBox {
    /// Southernmost latitude.
    pub south: f64,
    /// Smallest longitude.
    pub west: f64,
    /// Northernmost latitude.
    pub north: f64,
    /// Largest longitude.
    pub east: f64,
}

impl TableSummary {
    /// The column of this name.
    #[must_use]
    pub fn column(&self, name: &str) -> Option<&ColumnSummary> {
        self.columns.iter().find(|column| column.name == name)
    }
}

/// Reads everything from the filled table; needs no memory that grows with it.
pub(super) fn derive(
    connection: &Connection,
    source: &Source,
    columns: &[Kept],
    time: Option<usize>,
    (hash, bytes): (&blake3::Hash, u64),
) -> rusqlite::Result<TableSummary> {
    let rows: i64 = connection.query_row("SELECT count(*) FROM data", [], |row| row.get(0))?;
    let columns = columns
        .iter()
        .enumerate()
        .map(|(i, column)| column_summary(connection, i, column, rows))
        .collect::<rusqlite::Result<Vec<_>>>()?;
    let time = time.map(|i| time_coverage(connection, i, columns.get(i))).transpose()?.flatten();
    let bbox = bounding_box(connection, &columns)?;
    let hex: String = hash.to_hex().chars().take(32).collect();
    Ok(TableSummary {
        file: source.file.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        bytes,
        data_version: format!("b3:{hex}"),
        rows: count(rows),
        columns,
        time,
        bbox,
        commitment: None,
    })
}

fn column_summary(
    connection: &Connection,
    i: usize,
    column: &Kept,
    rows: i64,
) -> rusqlite::Result<ColumnSummary> {
    let present: i64 =
        connection.query_row(&format!("SELECT count(c{i}) FROM data"), [], |row| row.get(0))?;
    let has_range = column.kind.is_ordered() && column.kind != ColumnType::Text && present > 0;
    let range = if has_range {
        connection.query_row(&format!("SELECT min(c{i}), max(c{i}) FROM data"), [], |row| {
            Ok(Some((shown(row.get_ref(0)?, column.kind), shown(row.get_ref(1)?, column.kind))))
        })?
    } else {
        None
    };
    let values = listed_values(connection, i, column.kind, present)?;
    let unique =
        values.is_none() && present == rows && rows > 1 && is_unique(connection, i, column.kind)?;
    Ok(ColumnSummary {
        name: column.name.clone(),
        kind: column.kind,
        nulls: count(rows - present),
        range,
        values,
        unique,
    })
}

/// The value set of a column with few values. Columns of times and decimals have ranges instead.
fn listed_values(
    connection: &Connection,
    i: usize,
    kind: ColumnType,
    present: i64,
) -> rusqlite::Result<Option<Vec<String>>> {
    let sql = match kind {
        ColumnType::Set => {
            format!("SELECT DISTINCT member.value FROM data, json_each(data.c{i}) AS member")
        }
        ColumnType::Int | ColumnType::Text | ColumnType::Bool => {
            format!("SELECT DISTINCT c{i} FROM data WHERE c{i} IS NOT NULL")
        }
        ColumnType::Decimal | ColumnType::Date | ColumnType::Timestamp | ColumnType::Json => {
            return Ok(None);
        }
    };
    let mut statement = connection.prepare(&format!("{sql} LIMIT {}", MAX_LISTED_VALUES + 1))?;
    let mut found = statement.query([])?;
    let mut values: Vec<(i64, String)> = Vec::new();
    while let Some(row) = found.next()? {
        let value = row.get_ref(0)?;
        let text = shown(value, kind);
        if values.len() == MAX_LISTED_VALUES || text.len() > MAX_LISTED_VALUE_BYTES {
            return Ok(None);
        }
        // Numbers are listed in their own order, texts in theirs.
        values.push((if kind == ColumnType::Int { value.as_i64().unwrap_or(0) } else { 0 }, text));
    }
    let repeats = kind == ColumnType::Set || i64::try_from(values.len()).is_ok_and(|n| n < present);
    if values.is_empty() || !repeats {
        return Ok(None);
    }
    values.sort();
    Ok(Some(values.into_iter().map(|(_, text)| text).collect()))
}

/// Whether a text or number column tells all rows apart. The sorter spills to disk, so large tables cost time only.
fn is_unique(connection: &Connection, i: usize, kind: ColumnType) -> rusqlite::Result<bool> {
    if !matches!(kind, ColumnType::Int | ColumnType::Text) {
        return Ok(false);
    }
    connection.query_row(
        &format!("SELECT NOT EXISTS (SELECT 1 FROM (SELECT c{i} AS v, lag(c{i}) OVER (ORDER BY c{i}) AS p FROM data) WHERE v = p)"),
        [],
        |row| row.get(0),
    )
}

fn time_coverage(
    connection: &Connection,
    i: usize,
    column: Option<&ColumnSummary>,
) -> rusqlite::Result<Option<TimeCoverage>> {
    let Some(column) = column else { return Ok(None) };
    let Some((from, to)) = column.range.clone() else { return Ok(None) };
    let number = if column.kind == ColumnType::Date {
        "CAST(julianday(c) AS INTEGER)".to_owned()
    } else {
        "c".to_owned()
    };
    let gaps = format!(
        "WITH times AS (SELECT DISTINCT c{i} AS c FROM data WHERE c{i} IS NOT NULL),
              gaps AS (SELECT {number} - lag({number}) OVER (ORDER BY c) AS gap FROM times)"
    );
    let distinct: i64 = connection.query_row(
        &format!("SELECT count(*) FROM (SELECT DISTINCT c{i} FROM data WHERE c{i} IS NOT NULL)"),
        [],
        |row| row.get(0),
    )?;
    let resolution = if distinct < 2 {
        None
    } else {
        let median: i64 = connection.query_row(
            &format!(
                "{gaps} SELECT gap FROM gaps WHERE gap IS NOT NULL ORDER BY gap LIMIT 1 OFFSET ?1"
            ),
            [(distinct - 1) / 2],
            |row| row.get(0),
        )?;
        let step = Step::of(median, column.kind);
        let (low, high) = step.gaps(column.kind);
        let alike: i64 = connection.query_row(
            &format!("{gaps} SELECT count(*) FROM gaps WHERE gap BETWEEN ?1 AND ?2"),
            [low, high],
            |row| row.get(0),
        )?;
        (alike.saturating_mul(2) >= distinct - 1).then(|| step.iso())
    };
    Ok(Some(TimeCoverage {
        column: column.name.clone(),
        from,
        to,
        distinct: count(distinct),
        resolution,
    }))
}

/// Length of a regular step: calendar months, or an exact time.
enum Step {
    Months(i64),
    Micros(i64),
}

const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;

impl Step {
    fn of(gap: i64, kind: ColumnType) -> Self {
        let micros = if kind == ColumnType::Date { gap.saturating_mul(DAY) } else { gap };
        match micros / DAY {
            28..=31 if micros % DAY == 0 => Self::Months(1),
            90..=92 if micros % DAY == 0 => Self::Months(3),
            181..=184 if micros % DAY == 0 => Self::Months(6),
            365..=366 if micros % DAY == 0 => Self::Months(12),
            _ => Self::Micros(micros),
        }
    }

    /// The gaps, in the column's unit, that are this step.
    fn gaps(&self, kind: ColumnType) -> (i64, i64) {
        let unit = if kind == ColumnType::Date { 1 } else { DAY };
        match self {
            Self::Months(1) => (28 * unit, 31 * unit),
            Self::Months(3) => (90 * unit, 92 * unit),
            Self::Months(6) => (181 * unit, 184 * unit),
            Self::Months(_) => (365 * unit, 366 * unit),
            Self::Micros(micros) => {
                let gap = if kind == ColumnType::Date { micros / DAY } else { *micros };
                (gap, gap)
            }
        }
    }

    fn iso(&self) -> String {
        match self {
            Self::Months(12) => "P1Y".to_owned(),
            Self::Months(months) => format!("P{months}M"),
            Self::Micros(micros) => iso_duration(*micros),
        }
    }
}

fn iso_duration(micros: i64) -> String {
    if micros % DAY == 0 {
        return format!("P{}D", micros / DAY);
    }
    let mut out = String::from("P");
    if micros >= DAY {
        out.push_str(&format!("{}D", micros / DAY));
    }
    out.push('T');
    let rest = micros % DAY;
    for (unit, letter) in [(3600 * SECOND, 'H'), (60 * SECOND, 'M')] {
        let n = (rest / unit) % if letter == 'M' { 60 } else { 24 };
        if n > 0 {
            out.push_str(&format!("{n}{letter}"));
        }
    }
    let (seconds, fraction) = (rest / SECOND % 60, rest % SECOND);
    if fraction > 0 {
        out.push_str(format!("{seconds}.{fraction:06}").trim_end_matches('0'));
        out.push('S');
    } else if seconds > 0 {
        out.push_str(&format!("{seconds}S"));
    }
    out
}

const LATITUDES: [&str; 2] = ["lat", "latitude"];
const LONGITUDES: [&str; 4] = ["lon", "lng", "long", "longitude"];

fn bounding_box(
    connection: &Connection,
    columns: &[ColumnSummary],
) -> rusqlite::Result<Option<BoundingBox>> {
    let find = |names: &[&str]| {
        columns.iter().position(|column| {
            matches!(column.kind, ColumnType::Decimal | ColumnType::Int)
                && names.iter().any(|name| column.name.eq_ignore_ascii_case(name))
        })
    };
    let (Some(lat), Some(lon)) = (find(&LATITUDES), find(&LONGITUDES)) else { return Ok(None) };
    let found: (Option<f64>, Option<f64>, Option<f64>, Option<f64>) = connection.query_row(
        &format!(
            "SELECT CAST(min(c{lat}) AS REAL), CAST(min(c{lon}) AS REAL), CAST(max(c{lat}) AS REAL), CAST(max(c{lon}) AS REAL)
             FROM data WHERE c{lat} IS NOT NULL AND c{lon} IS NOT NULL"
        ),
        [],
        |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)),
    )?;
    let (Some(south), Some(west), Some(north), Some(east)) = found else { return Ok(None) };
    let on_globe = south >= -90.0 && north <= 90.0 && west >= -180.0 && east <= 180.0;
    Ok(on_globe.then_some(BoundingBox { south, west, north, east }))
}

/// A stored value as text, as it would stand in a CSV file.
fn shown(value: rusqlite::types::ValueRef<'_>, kind: ColumnType) -> String {
    use rusqlite::types::ValueRef;
    match (value, kind) {
        (ValueRef::Integer(n), ColumnType::Timestamp) => timestamp_text(n),
        (ValueRef::Integer(n), ColumnType::Bool) => (n != 0).to_string(),
        (ValueRef::Integer(n), _) => n.to_string(),
        (ValueRef::Real(x), _) => decimal_json(x).to_string(),
        (ValueRef::Text(text), _) => String::from_utf8_lossy(text).into_owned(),
        (ValueRef::Null | ValueRef::Blob(_), _) => String::new(),
    }
}

fn count(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}

impl fmt::Display for TableSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{}: {} rows, {} columns, {} bytes",
            self.file,
            self.rows,
            self.columns.len(),
            self.bytes
        )?;
        if let Some(time) = &self.time {
            let every = time.resolution.as_deref().unwrap_or("irregular");
            writeln!(f, "  time   {} to {}, {every} (column {})", time.from, time.to, time.column)?;
        }
        if let Some(bbox) = self.bbox {
            writeln!(
                f,
                "  place  {}..{} N, {}..{} E",
                bbox.south, bbox.north, bbox.west, bbox.east
            )?;
        }
        let width = self
            .columns
            .iter()
            .map(|column| column.name.chars().count())
            .max()
            .unwrap_or(0)
            .min(32);
        for column in &self.columns {
            write!(f, "  {:width$}  {:9}", column.name, column.kind.name())?;
            if let Some((from, to)) = &column.range {
                write!(f, "  {from} to {to}")?;
            }
            if let Some(values) = &column.values {
                write!(f, "  {} values: {}", values.len(), abridged(values, 60))?;
            }
            if column.unique {
                f.write_str("  unique")?;
            }
            if column.nulls > 0 {
                write!(f, "  {} missing", column.nulls)?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

/// As many values as fit in about `max` characters.
pub(super) fn abridged(values: &[String], max: usize) -> String {
    let mut out = String::new();
    for (i, value) in values.iter().enumerate() {
        if i > 0 && out.chars().count() + value.chars().count() > max {
            out.push_str(", …");
            break;
        }
        if i > 0 {
            out.push_str(", ");
        }
        out.push_str(&crate::error::printable(value, MAX_LISTED_VALUE_BYTES));
    }
    out
}
