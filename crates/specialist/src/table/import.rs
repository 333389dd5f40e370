//! From a file to a database file, once for each content.
//!
//! A file is read three times: hashed (which finds an earlier import), typed, and imported. Each pass streams; memory is
//! bounded by one record, the engine's page cache ([`CACHE_KIB`]) and its sorter, which both spill to disk. The database
//! is written under a temporary name in the cache directory, synced, and renamed when complete, so a half-made one is
//! never opened. The import pass hashes again: a file that changed in between is refused.

use std::fs::File;
use std::path::{Path, PathBuf};

use rusqlite::types::{ToSqlOutput, Value as SqlValue, ValueRef};
use rusqlite::{Connection, OpenFlags, ToSql, params};

use super::commit;
use super::error::TableError;
use super::source::Source;
use super::summary::{self, TableSummary};
use super::value::{
    Candidates, Cell, ColumnType, parse_bool, parse_date, parse_decimal, parse_timestamp,
};

/// Changes whenever the stored form does; older caches are then made anew.
pub(super) const SCHEMA_VERSION: i32 = 2;
/// Page cache while importing, KiB.
pub(super) const CACHE_KIB: i32 = 8 * 1024;

/// A complete database file and what is in it.
#[derive(Debug)]
pub(super) struct Imported {
    pub(super) database: PathBuf,
    pub(super) summary: TableSummary,
}

/// What besides the file's content decides the database.
#[derive(Debug, Clone, Default)]
pub(super) struct Choice {
    /// Columns to keep, in this order; empty keeps all.
    pub(super) columns: Vec<String>,
    pub(super) time_column: Option<String>,
}

/// Finds or makes the database for a file.
pub(super) fn import(
    source: &Source,
    choice: &Choice,
    cache: &Path,
) -> Result<Imported, TableError> {
    let (hash, bytes) = source.hash()?;
    std::fs::create_dir_all(cache).map_err(|error| cache_error(cache, error, bytes))?;
    let database = cache.join(format!("{}.sqlite", key(source, choice, &hash)));
    if let Some(summary) = reopen(&database) {
        return Ok(Imported { database, summary });
    }
    let columns = infer(source, choice, &hash)?;
    let fail = |error: rusqlite::Error| database_error(cache, bytes, error);
    let temporary = tempfile::Builder::new()
        .prefix(".import-")
        .suffix(".sqlite")
        .tempfile_in(cache)
        .map_err(|error| cache_error(cache, error, bytes))?
        .into_temp_path();
    let mut connection = Connection::open(&temporary).map_err(fail)?;
    prepare(&connection, &columns).map_err(fail)?;
    fill(&mut connection, source, &columns, &hash, &fail)?;
    let time = time_column(&connection, source, choice, &columns, &fail)?;
    let summary =
        summary::derive(&connection, source, &columns, time, (&hash, bytes)).map_err(fail)?;
    let kinds: Vec<(String, ColumnType)> =
        columns.iter().map(|column| (column.name.clone(), column.kind)).collect();
    let commitment = commit::derive(&connection, &kinds).map_err(fail)?;
    let summary = TableSummary { commitment: commitment.map(|hash| hash.to_string()), ..summary };
    index(&connection, &summary).map_err(fail)?;
    remember(&connection, &summary).map_err(fail)?;
    connection.close().map_err(|(_, error)| fail(error))?;
    publish(temporary, &database).map_err(|error| cache_error(cache, error, bytes))?;
    Ok(Imported { database, summary })
}

/// One kept column of the file.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    pub(super) name: String,
    pub(super) kind: ColumnType,
    /// Its place in the file's rows.
    position: usize,
}

/// Everything the database depends on, hashed.
fn key(source: &Source, choice: &Choice, content: &blake3::Hash) -> String {
    let mut hasher = blake3::Hasher::new_derive_key("comity/specialist/table/v1");
    let mut part = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    part(content.as_bytes());
    part(&SCHEMA_VERSION.to_le_bytes());
    part(format!("{:?} {:?}", source.format, source.delimiter).as_bytes());
    part(choice.time_column.as_deref().unwrap_or("").as_bytes());
    // The name of the file is shown in its summary.
    part(source.file.file_name().unwrap_or_default().as_encoded_bytes());
    for list in [&source.nulls, &choice.columns] {
        part(&(list.len() as u64).to_le_bytes());
        list.iter().for_each(|item| part(item.as_bytes()));
    }
    hasher.finalize().to_hex().chars().take(40).collect()
}

/// The summary of a complete database of this version, or `None` to make it anew (missing, damaged, other version).
fn reopen(database: &Path) -> Option<TableSummary> {
    let connection = open(database).ok()?;
    let version: i32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).ok()?;
    if version != SCHEMA_VERSION {
        return None;
    }
    let text: String = connection
        .query_row("SELECT value FROM meta WHERE key = 'summary'", [], |row| row.get(0))
        .ok()?;
    let summary: TableSummary = serde_json::from_str(&text).ok()?;
    let rows: i64 = connection.query_row("SELECT count(*) FROM data", [], |row| row.get(0)).ok()?;
    (u64::try_from(rows).ok()? == summary.rows).then_some(summary)
}

/// Opens a finished database for reading only.
pub(super) fn open(database: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(
        database,
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    connection.pragma_update(None, "query_only", true)?;
    connection.pragma_update(None, "temp_store", "FILE")?;
    Ok(connection)
}

/// Decides the type of every column from every row.
fn infer(source: &Source, choice: &Choice, hash: &blake3::Hash) -> Result<Vec<Kept>, TableError> {
    let mut names = Vec::new();
    let mut candidates: Vec<Candidates> = Vec::new();
    let seen = source.each_row(&mut names, &mut |_, cells| {
        candidates.resize(cells.len().max(candidates.len()), Candidates::ALL);
        for (candidate, cell) in candidates.iter_mut().zip(cells) {
            candidate.see(cell);
        }
        Ok(())
    })?;
    if seen != *hash {
        return Err(TableError::Changed { file: source.file.clone() });
    }
    let all = names.iter().zip(&candidates).enumerate().map(|(position, (name, candidate))| Kept {
        name: name.clone(),
        kind: candidate.decide(),
        position,
    });
    if choice.columns.is_empty() {
        return Ok(all.collect());
    }
    let all: Vec<Kept> = all.collect();
    choice
        .columns
        .iter()
        .map(|wanted| {
            all.iter()
                .find(|column| column.name == *wanted)
                .cloned()
                .ok_or_else(|| no_such_column(source, wanted, &all))
        })
        .collect()
}

fn no_such_column(source: &Source, wanted: &str, all: &[Kept]) -> TableError {
    TableError::NoSuchColumn {
        file: source.file.clone(),
        column: wanted.to_owned(),
        known: all.iter().map(|column| column.name.clone()).collect(),
    }
}

/// Columns are named `c0`, `c1`, … in the database, so no text of the file is ever part of a statement.
fn prepare(connection: &Connection, columns: &[Kept]) -> rusqlite::Result<()> {
    connection.execute_batch(&format!(
        "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA temp_store = FILE; PRAGMA cache_size = -{CACHE_KIB};
         PRAGMA locking_mode = EXCLUSIVE; PRAGMA user_version = {SCHEMA_VERSION};"
    ))?;
    let definitions: Vec<String> = columns
        .iter()
        .enumerate()
        .map(|(i, column)| format!("c{i} {}", column.kind.sql()))
        .collect();
    connection.execute_batch(&format!(
        "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT; CREATE TABLE data ({}) STRICT;",
        definitions.join(", ")
    ))
}

fn fill(
    connection: &mut Connection,
    source: &Source,
    columns: &[Kept],
    hash: &blake3::Hash,
    fail: &dyn Fn(rusqlite::Error) -> TableError,
) -> Result<(), TableError> {
    let transaction = connection.transaction().map_err(fail)?;
    let places: Vec<String> = (1..=columns.len()).map(|i| format!("?{i}")).collect();
    let mut insert = transaction
        .prepare(&format!("INSERT INTO data VALUES ({})", places.join(", ")))
        .map_err(fail)?;
    let mut names = Vec::new();
    let seen = source.each_row(&mut names, &mut |_, cells| {
        for (i, column) in columns.iter().enumerate() {
            let cell = cells.get(column.position).unwrap_or(&Cell::Null);
            let value = Stored::of(cell, column.kind)
                .ok_or_else(|| TableError::Changed { file: source.file.clone() })?;
            insert.raw_bind_parameter(i + 1, value).map_err(fail)?;
        }
        insert.raw_execute().map(drop).map_err(fail)
    })?;
    drop(insert);
    if seen != *hash {
        return Err(TableError::Changed { file: source.file.clone() });
    }
    transaction.commit().map_err(fail)
}

/// A cell in the form its column stores; borrowed where it can be.
enum Stored<'a> {
    Borrowed(&'a str),
    Owned(SqlValue),
}

impl<'a> Stored<'a> {
    /// `None` when the cell does not have the type the first pass found.
    fn of(cell: &'a Cell<'_>, kind: ColumnType) -> Option<Self> {
        let owned = |value: SqlValue| Some(Self::Owned(value));
        match (kind, cell) {
            (_, Cell::Null) => owned(SqlValue::Null),
            (ColumnType::Bool, Cell::Bool(value)) => owned(SqlValue::Integer(i64::from(*value))),
            (ColumnType::Bool, Cell::Field(text)) => {
                owned(SqlValue::Integer(i64::from(parse_bool(text)?)))
            }
            (ColumnType::Int, Cell::Field(text) | Cell::Number(text)) => {
                owned(SqlValue::Integer(text.parse().ok()?))
            }
            (ColumnType::Decimal, Cell::Field(text) | Cell::Number(text)) => {
                owned(SqlValue::Real(parse_decimal(text)?))
            }
            (ColumnType::Date, Cell::Field(text)) => parse_date(text).map(|_| Self::Borrowed(text)),
            (ColumnType::Date, Cell::Text(text)) => parse_date(text).map(|_| Self::Borrowed(text)),
            (ColumnType::Timestamp, Cell::Field(text)) => {
                owned(SqlValue::Integer(parse_timestamp(text)?))
            }
            (ColumnType::Timestamp, Cell::Text(text)) => {
                owned(SqlValue::Integer(parse_timestamp(text)?))
            }
            (ColumnType::Set, Cell::Set(text)) => Some(Self::Borrowed(text)),
            (ColumnType::Text, Cell::Field(text) | Cell::Number(text)) => {
                Some(Self::Borrowed(text))
            }
            (ColumnType::Text, Cell::Text(text)) => Some(Self::Borrowed(text)),
            (ColumnType::Text, Cell::Bool(value)) => owned(SqlValue::Text(value.to_string())),
            (ColumnType::Json, Cell::Json(text) | Cell::Number(text)) => Some(Self::Borrowed(text)),
            (ColumnType::Json, Cell::Set(text)) => Some(Self::Borrowed(text)),
            (ColumnType::Json, Cell::Bool(value)) => owned(SqlValue::Text(value.to_string())),
            (ColumnType::Json, Cell::Text(text)) => {
                owned(SqlValue::Text(serde_json::to_string(text).ok()?))
            }
            _ => None,
        }
    }
}

impl ToSql for Stored<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        match self {
            Self::Borrowed(text) => Ok(ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes()))),
            Self::Owned(value) => value.to_sql(),
        }
    }
}

/// The column that says when a row is: the configured one, else the first day or moment column, preferably without nulls.
fn time_column(
    connection: &Connection,
    source: &Source,
    choice: &Choice,
    columns: &[Kept],
    fail: &dyn Fn(rusqlite::Error) -> TableError,
) -> Result<Option<usize>, TableError> {
    if let Some(wanted) = &choice.time_column {
        let found =
            columns.iter().position(|column| column.name == *wanted && column.kind.is_time());
        return found.map(Some).ok_or_else(|| {
            let times: Vec<Kept> =
                columns.iter().filter(|column| column.kind.is_time()).cloned().collect();
            no_such_column(source, wanted, &times)
        });
    }
    let mut first = None;
    for (i, _) in columns.iter().enumerate().filter(|(_, column)| column.kind.is_time()) {
        let any_null: bool = connection
            .query_row(
                &format!("SELECT EXISTS (SELECT 1 FROM data WHERE c{i} IS NULL)"),
                [],
                |row| row.get(0),
            )
            .map_err(fail)?;
        if !any_null {
            return Ok(Some(i));
        }
        first = first.or(Some(i));
    }
    Ok(first)
}

/// Indexes what queries filter on: the time column, columns with few values, and columns that tell rows apart.
fn index(connection: &Connection, summary: &TableSummary) -> rusqlite::Result<()> {
    let time = summary.time.as_ref().map(|time| time.column.as_str());
    for (i, column) in summary.columns.iter().enumerate() {
        if Some(column.name.as_str()) == time
            || (column.values.is_some() && column.kind != ColumnType::Set)
            || column.unique
        {
            connection.execute_batch(&format!("CREATE INDEX i{i} ON data (c{i});"))?;
        }
    }
    connection.execute_batch("PRAGMA analysis_limit = 1000; ANALYZE;")
}

fn remember(connection: &Connection, summary: &TableSummary) -> rusqlite::Result<()> {
    let text = serde_json::to_string(summary)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
    connection.execute("INSERT INTO meta VALUES ('summary', ?1)", params![text]).map(drop)
}

/// Content first, then the name, then the directory entry.
fn publish(temporary: tempfile::TempPath, database: &Path) -> std::io::Result<()> {
    File::open(&temporary)?.sync_all()?;
    temporary.persist(database).map_err(|error| error.error)?;
    database.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}

fn cache_error(cache: &Path, source: std::io::Error, bytes: u64) -> TableError {
    if source.kind() == std::io::ErrorKind::StorageFull {
        return disk_full(cache, bytes);
    }
    TableError::Cache { cache: cache.to_owned(), source }
}

/// Rows and indexes together take up to about twice the file.
fn disk_full(cache: &Path, bytes: u64) -> TableError {
    TableError::DiskFull { cache: cache.to_owned(), needed: bytes.saturating_mul(2) }
}

fn database_error(cache: &Path, bytes: u64, source: rusqlite::Error) -> TableError {
    if source.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull) {
        return disk_full(cache, bytes);
    }
    TableError::Database { cache: cache.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_named_with_the_room_needed() {
        let full = Connection::open_in_memory().unwrap();
        full.execute_batch("PRAGMA max_page_count = 2; CREATE TABLE t (x);").unwrap();
        let error = full.execute("INSERT INTO t VALUES (zeroblob(100000))", []).unwrap_err();
        let named = database_error(Path::new("/cache"), 1000, error);
        assert!(matches!(named, TableError::DiskFull { needed: 2000, .. }), "{named:?}");
        let full = cache_error(Path::new("/cache"), std::io::ErrorKind::StorageFull.into(), 1000);
        assert!(matches!(full, TableError::DiskFull { needed: 2000, .. }));
    }
}
