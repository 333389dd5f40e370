//! Why a file cannot be served as a table.

use std::path::PathBuf;

/// Why a file cannot be served as a table; each names the file, the line where there is one, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// The file cannot be read.
    #[error("cannot read {file}: {source}; check the path and its permissions")]
    Read {
        /// The file.
        file: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Neither the name nor the configuration says what the file is.
    #[error(
        "{file} has no known table format; name it .csv, .tsv, .jsonl or .ndjson, or set `format` to csv or jsonl"
    )]
    UnknownFormat {
        /// The file.
        file: PathBuf,
    },
    /// No header, or no rows.
    #[error("{file} is empty: {missing}; a table needs a header (CSV) and at least one row")]
    Empty {
        /// The file.
        file: PathBuf,
        /// What is missing.
        missing: &'static str,
    },
    /// The header of a CSV file cannot be used.
    #[error("{file}, line 1: {problem}; mend the header line")]
    Header {
        /// The file.
        file: PathBuf,
        /// What is wrong, with the column.
        problem: String,
    },
    /// A row cannot be used.
    #[error("{file}, line {line}: {problem}; mend or remove the line")]
    Row {
        /// The file.
        file: PathBuf,
        /// Line in the file, the first is 1.
        line: u64,
        /// What is wrong.
        problem: String,
    },
    /// The configuration names a column that the file does not have.
    #[error("{file} has no column {column:?}; it has: {}", known.join(", "))]
    NoSuchColumn {
        /// The file.
        file: PathBuf,
        /// The column asked for.
        column: String,
        /// The columns it has.
        known: Vec<String>,
    },
    /// The file was written to while it was imported.
    #[error("{file} changed while it was read; try again when nothing writes to it")]
    Changed {
        /// The file.
        file: PathBuf,
    },
    /// No room in the cache directory.
    #[error(
        "the disk of {cache} is full; free about {needed} bytes or give another cache directory"
    )]
    DiskFull {
        /// The cache directory.
        cache: PathBuf,
        /// An estimate of the room needed, bytes.
        needed: u64,
    },
    /// The cache directory cannot be used.
    #[error(
        "cannot write the table cache in {cache}: {source}; check that the directory exists and is writable"
    )]
    Cache {
        /// The cache directory.
        cache: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The database engine failed.
    #[error(
        "the table cache in {cache} failed: {source}; remove the directory's .sqlite files and try again"
    )]
    Database {
        /// The cache directory.
        cache: PathBuf,
        /// What the engine says.
        source: rusqlite::Error,
    },
}
