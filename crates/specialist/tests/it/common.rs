//! What several behaviours need.

use std::path::{Path, PathBuf};
use std::time::Duration;

use comity_core::{AgentId, Identity};
use comity_specialist::table::{Table, TableConfig, TableError};
use comity_specialist::{Answer, Invocation, Specialist, SpecialistError};
use futures_util::StreamExt;
use serde_json::Value;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

pub(crate) fn caller() -> AgentId {
    Identity::from_secret_bytes(&[7; 32]).id()
}

pub(crate) fn invocation(request: Value) -> Invocation {
    Invocation {
        capability: "test".to_owned(),
        request,
        caller: caller(),
        deadline: None,
        cancel: CancellationToken::new(),
    }
}

pub(crate) fn within(request: Value, deadline: Duration) -> Invocation {
    Invocation { deadline: Some(deadline), ..invocation(request) }
}

pub(crate) async fn one(
    specialist: &impl Specialist,
    request: Value,
) -> Result<Value, SpecialistError> {
    match specialist.call(invocation(request)).await? {
        Answer::One(value) => Ok(value),
        Answer::Stream(_) => panic!("expected one value, got a stream"),
    }
}

/// All parts of an answer, streamed or not.
pub(crate) async fn parts(
    specialist: &impl Specialist,
    request: Value,
) -> Result<Vec<Value>, SpecialistError> {
    match specialist.call(invocation(request)).await? {
        Answer::One(value) => Ok(vec![value]),
        Answer::Stream(stream) => stream.collect::<Vec<_>>().await.into_iter().collect(),
    }
}

/// A directory with one file in it and a cache beside it.
pub(crate) struct Files {
    pub(crate) directory: TempDir,
    pub(crate) file: PathBuf,
}

impl Files {
    pub(crate) fn with(name: &str, content: impl AsRef<[u8]>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join(name);
        std::fs::write(&file, content).unwrap();
        Self { directory, file }
    }

    pub(crate) fn cache(&self) -> PathBuf {
        self.directory.path().join("cache")
    }

    pub(crate) fn open(&self) -> Result<Table, TableError> {
        Table::open(&TableConfig::new(&self.file), &self.cache())
    }

    pub(crate) fn cached(&self) -> Vec<String> {
        let Ok(found) = std::fs::read_dir(self.cache()) else { return Vec::new() };
        found.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

/// The repository's real tables.
pub(crate) fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data").join(name)
}
