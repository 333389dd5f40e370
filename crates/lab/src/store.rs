//! Results on disk: one file of one JSON line per cell, so that a campaign can stop and go on.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::cell::{Cell, CellResult, RESULT_FORMAT};

/// Below a report's directory.
const CELLS: &str = "cells";

/// Largest result file read: a report is some hundred kilobytes.
pub const RESULT_BYTES_MAX: u64 = 64 << 20;

/// Why results cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The system refused.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: String,
        /// What it said.
        source: io::Error,
    },
    /// It is no result.
    #[error("{path}:{line}: this is no result of `comity sim`: {why}")]
    Foreign {
        /// Which file.
        path: String,
        /// Which line, from 1.
        line: usize,
        /// What is wrong with it.
        why: String,
    },
    /// There is none.
    #[error("{path}: there are no results here")]
    Nothing {
        /// Where.
        path: String,
    },
}

/// A directory of results.
#[derive(Clone, Debug)]
pub struct Store {
    cells: PathBuf,
}

impl Store {
    /// The results of the report in `directory`; makes the directory.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        let cells = directory.join(CELLS);
        fs::create_dir_all(&cells).map_err(io_error(&cells))?;
        Ok(Self { cells })
    }

    /// The result of a cell that was run before, by this program if `program` is given.
    #[must_use]
    pub fn known(&self, cell: &Cell, program: Option<&str>) -> Option<CellResult> {
        let path = self.cells.join(cell.file_name());
        let mut result = read_file(&path).ok()?.pop()?;
        let same = result.id == cell.id && program.is_none_or(|program| program == result.program);
        // What it is called may have changed, what it does has not.
        result.experiment.clone_from(&cell.experiment);
        same.then_some(result)
    }

    /// Keeps a result. A crash leaves the old file or the new one.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn keep(&self, cell: &Cell, result: &CellResult) -> Result<(), StoreError> {
        let path = self.cells.join(cell.file_name());
        let unfinished = path.with_extension("tmp");
        let write = || {
            let mut file = fs::File::create(&unfinished)?;
            serde_json::to_writer(&mut file, result)?;
            file.write_all(b"\n")?;
            file.sync_all()?;
            fs::rename(&unfinished, &path)
        };
        write().map_err(io_error(&path))
    }
}

/// The results in a file of JSON lines, or below a directory: a report's, or one that holds such files.
///
/// # Errors
/// [`StoreError`].
pub fn read(path: &Path) -> Result<Vec<CellResult>, StoreError> {
    if !path.is_dir() {
        return read_file(path);
    }
    let inner = path.join(CELLS);
    let directory = if inner.is_dir() { inner } else { path.to_owned() };
    let mut files: Vec<PathBuf> = fs::read_dir(&directory)
        .map_err(io_error(&directory))?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "jsonl"))
        .collect();
    files.sort();
    let mut results = Vec::new();
    for file in files {
        results.extend(read_file(&file)?);
    }
    if results.is_empty() {
        return Err(StoreError::Nothing { path: path.display().to_string() });
    }
    Ok(results)
}

fn read_file(path: &Path) -> Result<Vec<CellResult>, StoreError> {
    let size = fs::metadata(path).map_err(io_error(path))?.len();
    let foreign = |line: usize, why: String| StoreError::Foreign {
        path: path.display().to_string(),
        line,
        why,
    };
    if size > RESULT_BYTES_MAX {
        return Err(foreign(1, format!("{size} bytes are more than {RESULT_BYTES_MAX}")));
    }
    let text = fs::read_to_string(path).map_err(io_error(path))?;
    let mut results = Vec::new();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let result: CellResult =
            serde_json::from_str(line).map_err(|error| foreign(index + 1, error.to_string()))?;
        if result.format != RESULT_FORMAT {
            let why = format!("its form is {}, this program reads {RESULT_FORMAT}", result.format);
            return Err(foreign(index + 1, why));
        }
        results.push(result);
    }
    if results.is_empty() {
        return Err(StoreError::Nothing { path: path.display().to_string() });
    }
    Ok(results)
}

fn io_error(path: &Path) -> impl Fn(io::Error) -> StoreError {
    let path = path.display().to_string();
    move |source| StoreError::Io { path: path.clone(), source }
}
