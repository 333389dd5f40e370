//! The commitment over a table's rows, and proofs that a row is in it ([`comity_capability::rows`]). The roots of subtrees of
//! [`SUBTREE_ROWS`] rows are stored beside the rows; what is below them is hashed again for each proof.

use comity_capability::rows::{self, PROVED_MAX, SUBTREE_ROWS};
use comity_core::Hash;
use comity_core::canonical::JsonError;
use comity_core::merkle::Tree;
use rusqlite::{Connection, params};
use serde_json::{Map, Value, json};

use super::query::json_value;
use super::summary::TableSummary;
use super::value::ColumnType;
use crate::error::SpecialistError;

/// Stores the subtrees' roots and returns the commitment; none for a table without rows.
pub(super) fn derive(
    connection: &Connection,
    columns: &[(String, ColumnType)],
) -> rusqlite::Result<Option<Hash>> {
    connection.execute_batch(
        "CREATE TABLE subtrees (n INTEGER PRIMARY KEY, root BLOB NOT NULL) STRICT;",
    )?;
    let kinds: Vec<ColumnType> = columns.iter().map(|(_, kind)| *kind).collect();
    let mut statement = connection.prepare(&select(&kinds, "ORDER BY rowid"))?;
    let mut insert = connection.prepare("INSERT INTO subtrees (root) VALUES (?1)")?;
    let mut found = statement.query([])?;
    let (mut leaves, mut roots, mut count) = (Vec::with_capacity(SUBTREE_ROWS), Vec::new(), 0_u64);
    let mut close = |leaves: &mut Vec<Hash>| -> rusqlite::Result<()> {
        if let Some(root) = rows::tree(std::mem::take(leaves)).root() {
            insert.execute(params![root.0.as_slice()])?;
            roots.push(root);
        }
        Ok(())
    };
    while let Some(row) = found.next()? {
        leaves.push(rows::leaf(&values(row, &kinds)?).map_err(unlike)?);
        count += 1;
        if leaves.len() == SUBTREE_ROWS {
            close(&mut leaves)?;
        }
    }
    close(&mut leaves)?;
    let names = names(columns.iter().map(|(name, _)| name.as_str()));
    let root = rows::tree(roots).root();
    root.map(|root| rows::commitment(&names, count, &root).map_err(unlike)).transpose()
}

/// The tree over the stored roots.
pub(super) fn stored(connection: &Connection) -> rusqlite::Result<Tree> {
    let mut statement = connection.prepare("SELECT root FROM subtrees ORDER BY n")?;
    let roots = statement.query_map([], |row| row.get::<_, [u8; 32]>(0).map(Hash))?;
    Ok(rows::tree(roots.collect::<rusqlite::Result<_>>()?))
}

/// Row numbers that a request wants proved, if that is what it wants.
pub(super) fn wanted(
    summary: &TableSummary,
    request: &Value,
) -> Result<Option<Vec<u64>>, SpecialistError> {
    let Some(prove) = request.get("prove") else { return Ok(None) };
    let alone = request.as_object().is_some_and(|request| request.len() == 1);
    let indexes: Option<Vec<u64>> = prove
        .as_array()
        .filter(|list| (1..=PROVED_MAX).contains(&list.len()))
        .and_then(|list| list.iter().map(Value::as_u64).collect());
    match indexes {
        Some(indexes) if alone && indexes.iter().all(|index| *index < summary.rows) => {
            Ok(Some(indexes))
        }
        _ => Err(SpecialistError::invalid(format!(
            "prove takes 1 to {PROVED_MAX} row numbers below {}, and nothing else goes with it",
            summary.rows
        ))),
    }
}

/// These rows, each with its path.
pub(super) fn prove(
    connection: &Connection,
    summary: &TableSummary,
    tree: &Tree,
    indexes: &[u64],
) -> rusqlite::Result<Value> {
    let kinds: Vec<ColumnType> = summary.columns.iter().map(|column| column.kind).collect();
    let text = select(&kinds, "WHERE rowid > ?1 AND rowid <= ?2 ORDER BY rowid");
    let mut statement = connection.prepare_cached(&text)?;
    let (mut proved, mut paths) = (Vec::new(), Vec::new());
    for index in indexes {
        let place = usize::try_from(*index).unwrap_or(usize::MAX);
        let (subtree, within) = (place / SUBTREE_ROWS, place % SUBTREE_ROWS);
        let first = i64::try_from(subtree * SUBTREE_ROWS).unwrap_or(i64::MAX);
        let last = first.saturating_add(i64::try_from(SUBTREE_ROWS).unwrap_or(i64::MAX));
        let mut found = statement.query(params![first, last])?;
        let mut leaves = Vec::with_capacity(SUBTREE_ROWS);
        while let Some(row) = found.next()? {
            let row = values(row, &kinds)?;
            if leaves.len() == within {
                proved.push(Value::Array(row.clone()));
            }
            leaves.push(rows::leaf(&row).map_err(unlike)?);
        }
        let path = [rows::tree(leaves).path(within), tree.path(subtree)].concat();
        let path = path.iter().map(|hash| Value::String(hash.to_string())).collect();
        paths.push(Value::Array(path));
    }
    let mut answer = Map::new();
    let names = names(summary.columns.iter().map(|column| column.name.as_str()));
    answer.insert("columns".to_owned(), Value::Array(names));
    answer.insert("rows".to_owned(), Value::Array(proved));
    answer.insert("proof".to_owned(), json!({ "rows": summary.rows, "paths": paths }));
    Ok(Value::Object(answer))
}

fn select(kinds: &[ColumnType], rest: &str) -> String {
    let columns: Vec<String> = (0..kinds.len()).map(|i| format!("c{i}")).collect();
    format!("SELECT {} FROM data {rest}", columns.join(", "))
}

fn values(row: &rusqlite::Row<'_>, kinds: &[ColumnType]) -> rusqlite::Result<Vec<Value>> {
    let value = |(i, kind): (usize, &ColumnType)| Ok(json_value(row.get_ref(i)?, *kind));
    kinds.iter().enumerate().map(value).collect()
}

fn names<'a>(columns: impl Iterator<Item = &'a str>) -> Vec<Value> {
    columns.map(Value::from).collect()
}

/// A row that has no canonical form could not be given in an answer either.
fn unlike(error: JsonError) -> rusqlite::Error {
    rusqlite::Error::ToSqlConversionFailure(error.into())
}
