//! Rows of a CSV or JSON Lines file, one at a time.
//!
//! Memory is bounded by one record ([`MAX_RECORD_BYTES`]) whatever the file holds: an unclosed quote or a line without an
//! end is an error, not a file read into memory. What is read is hashed on the way.

use std::borrow::Cow;
use std::cell::Cell as StdCell;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::error::TableError;
use super::value::Cell;

/// Longest CSV record or JSON line, bytes.
pub const MAX_RECORD_BYTES: usize = 1024 * 1024;
/// Most columns of a table.
pub const MAX_COLUMNS: usize = 256;
/// Longest column name, bytes.
pub const MAX_COLUMN_NAME_BYTES: usize = 64;
/// Read buffer, bytes.
const BUFFER_BYTES: usize = 64 * 1024;

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Comma-separated values with a header line (RFC 4180).
    Csv,
    /// Tab-separated values with a header line.
    Tsv,
    /// One JSON object a line.
    #[serde(alias = "ndjson")]
    Jsonl,
}

/// What to read and how.
#[derive(Debug, Clone)]
pub(super) struct Source {
    pub(super) file: PathBuf,
    pub(super) format: Format,
    pub(super) delimiter: Option<u8>,
    /// CSV fields with these texts are null, besides the empty one.
    pub(super) nulls: Vec<String>,
}

impl Format {
    pub(super) fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "csv" => Some(Self::Csv),
            "tsv" | "tab" => Some(Self::Tsv),
            "jsonl" | "ndjson" => Some(Self::Jsonl),
            _ => None,
        }
    }
}

impl Source {
    /// Hash of the whole file, and its size in bytes.
    pub(super) fn hash(&self) -> Result<(blake3::Hash, u64), TableError> {
        let mut file = File::open(&self.file).map_err(|source| self.read_error(source))?;
        if file.metadata().map_err(|source| self.read_error(source))?.is_dir() {
            return Err(self.read_error(std::io::ErrorKind::IsADirectory.into()));
        }
        let mut hasher = blake3::Hasher::new();
        let mut buffer = vec![0_u8; BUFFER_BYTES];
        let mut bytes = 0_u64;
        loop {
            match file.read(&mut buffer) {
                Ok(0) => return Ok((hasher.finalize(), bytes)),
                Ok(n) => {
                    hasher.update(buffer.get(..n).unwrap_or_default());
                    bytes += n as u64;
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(source) => return Err(self.read_error(source)),
            }
        }
    }

    /// Gives every row to `row`: its line, and one cell for each column named so far.
    ///
    /// For JSON Lines `names` grows as new keys appear; a cell the row does not mention is null. Returns the hash of what
    /// was read.
    pub(super) fn each_row(
        &self,
        names: &mut Vec<String>,
        row: &mut dyn FnMut(u64, &[Cell<'_>]) -> Result<(), TableError>,
    ) -> Result<blake3::Hash, TableError> {
        let input = File::open(&self.file).map_err(|source| self.read_error(source))?;
        let mut meter = Meter {
            input,
            hasher: blake3::Hasher::new(),
            since_record: Rc::new(StdCell::new(0)),
            limit: u64::MAX,
        };
        match self.format {
            Format::Csv => self.each_csv_row(&mut meter, b',', names, row)?,
            Format::Tsv => self.each_csv_row(&mut meter, b'\t', names, row)?,
            Format::Jsonl => self.each_json_row(&mut meter, names, row)?,
        }
        Ok(meter.hasher.finalize())
    }

    fn each_csv_row(
        &self,
        meter: &mut Meter,
        delimiter: u8,
        names: &mut Vec<String>,
        row: &mut dyn FnMut(u64, &[Cell<'_>]) -> Result<(), TableError>,
    ) -> Result<(), TableError> {
        meter.limit = (MAX_RECORD_BYTES + 2 * BUFFER_BYTES) as u64;
        let since_record = Rc::clone(&meter.since_record);
        let mut reader = csv::ReaderBuilder::new()
            .delimiter(self.delimiter.unwrap_or(delimiter))
            .has_headers(false)
            .flexible(true)
            .buffer_capacity(BUFFER_BYTES)
            .from_reader(meter);
        let mut record = csv::ByteRecord::new();
        let mut next = |record: &mut csv::ByteRecord| {
            since_record.set(0);
            reader.read_byte_record(record).map_err(|error| self.csv_error(error, record))
        };
        if !next(&mut record)? {
            return Err(self.empty("no header line"));
        }
        let header = self.csv_header(&record)?;
        let width = header.len();
        *names = header;
        let mut any = false;
        while next(&mut record)? {
            any = true;
            let line = record.position().map_or(0, csv::Position::line);
            if record.len() != width {
                let problem =
                    format!("{} fields, but the header has {width} columns", record.len());
                return Err(self.row_error(line, problem));
            }
            let cells = record
                .iter()
                .zip(names.iter())
                .map(|(field, name)| {
                    self.csv_cell(field).map_err(|problem| {
                        self.row_error(line, format!("column {name:?} {problem}"))
                    })
                })
                .collect::<Result<Vec<_>, _>>()?;
            row(line, &cells)?;
        }
        if any { Ok(()) } else { Err(self.empty("no rows after the header")) }
    }

    fn csv_cell<'f>(&self, field: &'f [u8]) -> Result<Cell<'f>, &'static str> {
        let text = std::str::from_utf8(field)
            .map_err(|_| "is not UTF-8 text (convert the file to UTF-8)")?;
        if text.is_empty() || self.nulls.iter().any(|null| null == text) {
            return Ok(Cell::Null);
        }
        Ok(Cell::Field(text))
    }

    fn csv_header(&self, record: &csv::ByteRecord) -> Result<Vec<String>, TableError> {
        let wrong = |problem: String| TableError::Header { file: self.file.clone(), problem };
        let mut names: Vec<String> = Vec::with_capacity(record.len().min(MAX_COLUMNS));
        for (i, field) in record.iter().enumerate() {
            let name = std::str::from_utf8(field).map_err(|_| {
                wrong(format!(
                    "the name of column {} is not UTF-8 (convert the file to UTF-8)",
                    i + 1
                ))
            })?;
            let name = name.trim();
            name_problem(name, &names)
                .map_or(Ok(()), |problem| Err(wrong(format!("column {} {problem}", i + 1))))?;
            names.push(name.to_owned());
        }
        if let [only] = names.as_slice()
            && let Some(found) = only.chars().find(|c| [';', '\t', '|'].contains(c))
            && self.delimiter.is_none()
        {
            return Err(wrong(format!(
                "one column only, with {found:?} in its name: set `delimiter` to {found:?}"
            )));
        }
        Ok(names)
    }

    fn each_json_row(
        &self,
        meter: &mut Meter,
        names: &mut Vec<String>,
        row: &mut dyn FnMut(u64, &[Cell<'_>]) -> Result<(), TableError>,
    ) -> Result<(), TableError> {
        let mut reader = BufReader::with_capacity(BUFFER_BYTES, meter);
        let mut buffer = Vec::new();
        let mut line = 0_u64;
        let mut any = false;
        loop {
            buffer.clear();
            let read = (&mut reader)
                .take(MAX_RECORD_BYTES as u64 + 1)
                .read_until(b'\n', &mut buffer)
                .map_err(|source| self.read_error(source))?;
            if read == 0 {
                break;
            }
            line += 1;
            if read > MAX_RECORD_BYTES {
                return Err(self.row_error(line, format!("longer than {MAX_RECORD_BYTES} bytes")));
            }
            let text = std::str::from_utf8(&buffer).map_err(|_| {
                self.row_error(line, "not UTF-8 text (convert the file to UTF-8)".to_owned())
            })?;
            let text = if line == 1 { text.trim_start_matches('\u{feff}') } else { text };
            if text.trim().is_empty() {
                continue;
            }
            any = true;
            let members: Members<'_> = serde_json::from_str(text)
                .map_err(|error| self.row_error(line, format!("not a JSON object: {error}")))?;
            let cells = self.json_cells(line, members, names)?;
            row(line, &cells)?;
        }
        if any { Ok(()) } else { Err(self.empty("no lines with an object")) }
    }

    fn json_cells<'l>(
        &self,
        line: u64,
        members: Members<'l>,
        names: &mut Vec<String>,
    ) -> Result<Vec<Cell<'l>>, TableError> {
        let mut cells: Vec<Option<Cell<'l>>> = vec![None; names.len()];
        for (position, (name, raw)) in members.0.into_iter().enumerate() {
            // Rows nearly always have the same keys in the same order.
            let known = names.get(position).filter(|known| **known == *name).map(|_| position);
            let index = match known.or_else(|| names.iter().position(|known| *known == *name)) {
                Some(index) => index,
                None => {
                    if let Some(problem) = name_problem(&name, names) {
                        return Err(
                            self.row_error(line, format!("key {:?} {problem}", shortened(&name)))
                        );
                    }
                    names.push(name.to_string());
                    cells.push(None);
                    names.len() - 1
                }
            };
            let cell = json_cell(raw.get())
                .map_err(|problem| self.row_error(line, format!("key {name:?} {problem}")))?;
            match cells.get_mut(index) {
                Some(slot @ None) => *slot = Some(cell),
                _ => return Err(self.row_error(line, format!("key {name:?} appears twice"))),
            }
        }
        Ok(cells.into_iter().map(|cell| cell.unwrap_or(Cell::Null)).collect())
    }

    fn csv_error(&self, error: csv::Error, record: &csv::ByteRecord) -> TableError {
        let line = error.position().or_else(|| record.position()).map_or(1, csv::Position::line);
        // A flexible reader of bytes fails of nothing but reading.
        let csv::ErrorKind::Io(source) = error.into_kind() else {
            return self.row_error(line, "not a CSV record".to_owned());
        };
        if source.kind() == std::io::ErrorKind::FileTooLarge {
            let problem = format!(
                "the record is longer than {MAX_RECORD_BYTES} bytes; is a quote left open?"
            );
            return self.row_error(line, problem);
        }
        self.read_error(source)
    }

    pub(super) fn row_error(&self, line: u64, problem: String) -> TableError {
        TableError::Row { file: self.file.clone(), line, problem }
    }

    fn read_error(&self, source: std::io::Error) -> TableError {
        TableError::Read { file: self.file.clone(), source }
    }

    fn empty(&self, missing: &'static str) -> TableError {
        TableError::Empty { file: self.file.clone(), missing }
    }
}

fn name_problem(name: &str, before: &[String]) -> Option<String> {
    if name.is_empty() {
        Some("has no name".to_owned())
    } else if name.len() > MAX_COLUMN_NAME_BYTES {
        Some(format!("has a name longer than {MAX_COLUMN_NAME_BYTES} bytes"))
    } else if name.chars().any(char::is_control) {
        Some("has control characters in its name".to_owned())
    } else if before.iter().any(|other| other == name) {
        Some(format!("has the same name as another: {name:?}"))
    } else if before.len() >= MAX_COLUMNS {
        Some(format!("is one more than the {MAX_COLUMNS} allowed"))
    } else {
        None
    }
}

fn shortened(name: &str) -> String {
    crate::error::printable(name, MAX_COLUMN_NAME_BYTES)
}

fn json_cell(raw: &str) -> Result<Cell<'_>, String> {
    Ok(match raw.as_bytes().first() {
        Some(b'n') => Cell::Null,
        Some(b't') => Cell::Bool(true),
        Some(b'f') => Cell::Bool(false),
        Some(b'"') => {
            Cell::Text(serde_json::from_str::<Text<'_>>(raw).map_err(|error| error.to_string())?.0)
        }
        Some(b'[') => match serde_json::from_str::<Vec<Text<'_>>>(raw) {
            Ok(items) => {
                let items: Vec<&str> = items.iter().map(|item| &*item.0).collect();
                Cell::Set(serde_json::to_string(&items).map_err(|error| error.to_string())?)
            }
            Err(_) => Cell::Json(raw),
        },
        Some(b'{') | None => Cell::Json(raw),
        Some(_) => Cell::Number(raw),
    })
}

#[derive(Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// Members of a JSON object in their order, values unparsed.
struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Members<'de>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some((Text(name), raw)) = map.next_entry::<Text<'de>, &'de RawValue>()? {
                    members.push((name, raw));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

/// Hashes what is read, and refuses to read on when one record takes too much.
struct Meter {
    input: File,
    hasher: blake3::Hasher,
    since_record: Rc<StdCell<u64>>,
    limit: u64,
}

impl Read for Meter {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.since_record.get() > self.limit {
            return Err(std::io::ErrorKind::FileTooLarge.into());
        }
        let n = self.input.read(buffer)?;
        self.hasher.update(buffer.get(..n).unwrap_or_default());
        self.since_record.set(self.since_record.get() + n as u64);
        Ok(n)
    }
}
