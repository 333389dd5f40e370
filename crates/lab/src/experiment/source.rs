//! Reading files so that every error has its line.

use std::fmt;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use toml::de::{DeTable, Deserializer};
use toml::{Spanned, Table};

use comity_sim::Scenario;

/// Why a file does not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileError {
    /// The line, from 1, if the error is of one line.
    pub line: Option<usize>,
    /// That line.
    pub source_line: String,
    /// What is wrong and what it should be.
    pub message: String,
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "line {line}: `{}`: {}", self.source_line, self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl std::error::Error for FileError {}

impl FileError {
    pub(super) fn whole(message: String) -> Self {
        Self { line: None, source_line: String::new(), message }
    }

    fn at(text: &str, offset: usize, message: &str) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let line = before.matches('\n').count() + 1;
        let source_line = text.lines().nth(line - 1).unwrap_or_default().trim().to_owned();
        Self { line: Some(line), source_line, message: message.trim().to_owned() }
    }

    fn of(text: &str, error: &toml::de::Error) -> Self {
        let message = error.message();
        error.span().map_or_else(
            || Self::whole(message.to_owned()),
            |span| Self::at(text, span.start, message),
        )
    }
}

/// An error about something the file names: at the first line that does.
pub(crate) fn find(text: &str, named: &str, message: &str) -> FileError {
    let last = named.rsplit('.').next().unwrap_or(named);
    let offset = text.find(named).or_else(|| text.find(last));
    offset
        .map_or_else(|| FileError::whole(message.to_owned()), |at| FileError::at(text, at, message))
}

/// The part of a file under some of its keys, each value with its place in the text.
fn keys(text: &str, wanted: impl Fn(&str) -> bool) -> Result<Deserializer<'_>, FileError> {
    let spanned = DeTable::parse(text).map_err(|error| FileError::of(text, &error))?;
    let span = spanned.span();
    let table = spanned.into_inner().into_iter().filter(|(key, _)| wanted(key.get_ref()));
    Ok(Deserializer::from(Spanned::new(span, table.collect::<DeTable<'_>>())))
}

/// The file's own part and its scenario's.
pub(crate) fn split<T: DeserializeOwned>(
    text: &str,
    own: &[&str],
) -> Result<(T, Table), FileError> {
    let part = T::deserialize(keys(text, |key| own.contains(&key))?)
        .map_err(|error| FileError::of(text, &error))?;
    let mut table: Table = toml::from_str(text).map_err(|error| FileError::of(text, &error))?;
    table.retain(|key: &str, _| !own.contains(&key));
    Ok((part, table))
}

/// Whether the scenario's part has the fields and types of a scenario.
pub(super) fn check_scenario(text: &str, own: &[&str]) -> Result<(), FileError> {
    Scenario::deserialize(keys(text, |key| !own.contains(&key) && key != "preset")?)
        .map(drop)
        .map_err(|error| FileError::of(text, &error))
}

/// A table as a file again.
pub(super) fn write(table: &Table) -> String {
    // Tables that were read from a file can be written to one.
    toml::to_string(table).unwrap_or_default()
}
