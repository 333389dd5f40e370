//! A table file as a specialist: CSV, TSV or JSON Lines, served from an embedded database.
//!
//! The file is imported once for each content into a database file in a cache directory, streaming, so that memory does
//! not grow with it; later starts find the database by the file's hash. Types are decided from every row: `int`,
//! `decimal`, `bool`, `date`, `timestamp`, `set` (JSON arrays of strings) or `text`; nothing is ever read as a type that
//! would not give every value back. Empty CSV fields and absent JSON keys are null.
//!
//! Requests are JSON: `where` (conditions by column, all of which must hold), `columns`, `order`, `limit`, `offset`,
//! `count`. See [`input_schema`](interface::input_schema). Equal requests on equal data give equal answers: rows that
//! sort alike keep the order of the file. Nulls sort first, and texts by code point; `contains` on a text is an exact
//! part of it, letter case included. `prove` gives rows by number, each with its path to the commitment
//! ([`comity_capability::rows`]) that the table's declaration holds.

mod commit;
mod error;
mod import;
pub mod interface;
mod query;
mod request;
mod source;
mod summary;
mod value;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

pub use error::TableError;
pub use query::{CHUNK_BYTES, CHUNK_ROWS, MAX_READERS, MAX_WAITING};
pub use request::{
    DEFAULT_ROWS, MAX_ALL_VALUES, MAX_CONDITIONS, MAX_ORDER_COLUMNS, MAX_ROWS, MAX_VALUES,
};
pub use source::{Format, MAX_COLUMN_NAME_BYTES, MAX_COLUMNS, MAX_RECORD_BYTES};
pub use summary::{
    BoundingBox, ColumnSummary, MAX_LISTED_VALUE_BYTES, MAX_LISTED_VALUES, TableSummary,
    TimeCoverage,
};
pub use value::ColumnType;

use crate::call::{Answer, Invocation, Specialist};
use crate::error::SpecialistError;

/// Longest a query may take when the call sets nothing shorter.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// Which file to serve and how to read it.
#[derive(Debug, Clone)]
pub struct TableConfig {
    /// The file.
    pub file: PathBuf,
    /// How it is written; from its extension when absent.
    pub format: Option<Format>,
    /// CSV delimiter; a comma (tab for TSV) when absent.
    pub delimiter: Option<u8>,
    /// CSV fields that mean "no value", besides the empty one.
    pub null_values: Vec<String>,
    /// Columns to serve, in this order; all when empty.
    pub columns: Vec<String>,
    /// The column that says when; the first one of days or moments when absent.
    pub time_column: Option<String>,
    /// Longest a query may take.
    pub timeout: Duration,
}

impl TableConfig {
    /// The configuration that reads `file` by its extension.
    pub fn new(file: impl Into<PathBuf>) -> Self {
        Self {
            file: file.into(),
            format: None,
            delimiter: None,
            null_values: Vec::new(),
            columns: Vec::new(),
            time_column: None,
            timeout: DEFAULT_TIMEOUT,
        }
    }
}

/// A table ready to answer.
#[derive(Debug, Clone)]
pub struct Table {
    readers: Arc<query::Readers>,
    summary: Arc<TableSummary>,
    database: PathBuf,
    timeout: Duration,
}

impl Table {
    /// Imports the file into `cache`, or finds an earlier import of the same content, and derives its summary.
    ///
    /// Blocks on disk, a few seconds a million rows; async callers use `spawn_blocking`.
    ///
    /// # Errors
    /// See [`TableError`]. Nothing but complete databases is left in `cache`.
    pub fn open(config: &TableConfig, cache: &Path) -> Result<Self, TableError> {
        let file = config.file.clone();
        let Some(format) = config.format.or_else(|| Format::of(&file)) else {
            return Err(TableError::UnknownFormat { file });
        };
        let source = source::Source {
            file,
            format,
            delimiter: config.delimiter,
            nulls: config.null_values.clone(),
        };
        let choice = import::Choice {
            columns: config.columns.clone(),
            time_column: config.time_column.clone(),
        };
        let imported = import::import(&source, &choice, cache)?;
        let summary = Arc::new(imported.summary);
        let readers =
            Arc::new(query::Readers::new(imported.database.clone(), Arc::clone(&summary)));
        Ok(Self { readers, summary, database: imported.database, timeout: config.timeout })
    }

    /// What the table holds.
    #[must_use]
    pub fn summary(&self) -> &TableSummary {
        &self.summary
    }

    /// The database file in the cache directory.
    #[must_use]
    pub fn database(&self) -> &Path {
        &self.database
    }
}

impl Specialist for Table {
    fn call(&self, call: Invocation) -> BoxFuture<'_, Result<Answer, SpecialistError>> {
        async move {
            let ask = match commit::wanted(&self.summary, &call.request)? {
                Some(indexes) => query::Ask::Prove(indexes),
                None => query::Ask::Query(request::Plan::new(&self.summary, &call.request)?),
            };
            self.readers.run(ask, call.ends(self.timeout)).await
        }
        .boxed()
    }
}
