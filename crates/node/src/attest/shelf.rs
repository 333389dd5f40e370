//! Evidence about this agent, as it is kept.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};

use bytes::Bytes;
use comity_core::canonical::{self, Version};
use comity_core::{Hash, Time};
use comity_trust::Pattern;
use comity_trust::evidence::MAX_BLOB;
use minicbor::bytes::ByteVec;
use thiserror::Error;

use super::LISTED_MAX;
use crate::access::AccessError;
use crate::storage::{Change, Storage, StorageError, Table};

/// Pieces of evidence that are kept.
const KEPT_MAX: usize = 64;
/// Longest command of a program that makes evidence, in bytes.
const COMMAND_BYTES_MAX: usize = 4096;

/// Where a piece comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// It is kept as it is.
    Blob(Bytes),
    /// A program makes it for each question.
    Program(String),
}

/// One piece.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub(crate) id: Hash,
    pub(crate) kind: String,
    /// For which capabilities; all of them means the agent as such, and each of them.
    pub(crate) capability: Pattern,
    pub(crate) source: Source,
    pub(crate) added: Time,
}

#[derive(Clone, Debug, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
struct Row {
    #[n(0)]
    version: Version<1>,
    #[n(1)]
    kind: String,
    #[n(2)]
    capability: Pattern,
    #[n(3)]
    blob: Option<ByteVec>,
    #[n(4)]
    program: Option<String>,
    #[n(5)]
    added_ms: u64,
}

comity_core::impl_canonical!(Row);

/// Why evidence is not kept.
#[derive(Debug, Error)]
pub(crate) enum ShelfError {
    /// Too long.
    #[error(
        "{length} bytes, and evidence has 1 to {max}: sign a manifest of fewer files, or a digest over them"
    )]
    Length { length: usize, max: usize },
    /// No room.
    #[error(
        "this node keeps {KEPT_MAX} pieces of evidence, as many as it can: remove some (`comity attest list`)"
    )]
    Full,
    /// Nothing of that name, or several.
    #[error(
        "{count} pieces of evidence are called `{id}…`: `comity attest list` shows their names"
    )]
    Name { id: String, count: usize },
    /// The database failed.
    #[error("the evidence could not be stored")]
    Storage(#[from] StorageError),
}

impl Item {
    pub(crate) fn new(
        kind: String,
        capability: Pattern,
        source: Source,
        added: Time,
    ) -> Result<Self, ShelfError> {
        let (bytes, max) = match &source {
            Source::Blob(blob) => (&blob[..], MAX_BLOB),
            Source::Program(command) => (command.as_bytes(), COMMAND_BYTES_MAX),
        };
        if bytes.is_empty() || bytes.len() > max {
            return Err(ShelfError::Length { length: bytes.len(), max });
        }
        // Neither a kind nor a pattern holds a line break, so that no two items run into each other.
        let named = format!("{kind}\n{capability}\n");
        let id = Hash::derive("comity/attest/item/v1", &[named.as_bytes(), bytes]);
        Ok(Self { id, kind, capability, source, added })
    }

    /// Its length; none if it is yet to be made.
    pub(crate) fn length(&self) -> Option<u64> {
        match &self.source {
            Source::Blob(blob) => Some(blob.len() as u64),
            Source::Program(_) => None,
        }
    }

    fn row(&self) -> Vec<u8> {
        let (blob, program) = match &self.source {
            Source::Blob(blob) => (Some(blob.to_vec().into()), None),
            Source::Program(command) => (None, Some(command.clone())),
        };
        canonical::encode_minicbor(&Row {
            version: Version,
            kind: self.kind.clone(),
            capability: self.capability.clone(),
            blob,
            program,
            added_ms: self.added.as_millis(),
        })
    }

    fn of_row(bytes: &[u8]) -> Option<Self> {
        let row: Row = canonical::decode_minicbor(bytes).ok()?;
        let source = match (row.blob, row.program) {
            (Some(blob), None) => Source::Blob(Vec::from(blob).into()),
            (None, Some(command)) => Source::Program(command),
            (Some(_), Some(_)) | (None, None) => return None,
        };
        Self::new(row.kind, row.capability, source, Time::from_millis(row.added_ms)).ok()
    }
}

/// All of them.
#[derive(Debug)]
pub(crate) struct Shelf {
    storage: Storage,
    items: RwLock<BTreeMap<Hash, Item>>,
}

impl Shelf {
    pub(crate) fn open(storage: &Storage) -> Result<Self, AccessError> {
        let mut items = BTreeMap::new();
        for (_, row) in storage.read_all(Table::Evidence, KEPT_MAX)? {
            let item =
                Item::of_row(&row).ok_or(AccessError::Damaged { what: "evidence about itself" })?;
            items.insert(item.id, item);
        }
        Ok(Self { storage: storage.clone(), items: RwLock::new(items) })
    }

    /// Keeps a piece, on disk before it returns.
    pub(crate) async fn keep(&self, item: Item) -> Result<(), ShelfError> {
        {
            let items = self.items.read().unwrap_or_else(PoisonError::into_inner);
            if items.len() >= KEPT_MAX && !items.contains_key(&item.id) {
                return Err(ShelfError::Full);
            }
        }
        let key = item.id.as_bytes().to_vec();
        let change = Change::Put { table: Table::Evidence, key, value: item.row() };
        self.storage.commit(vec![change]).await?;
        self.items.write().unwrap_or_else(PoisonError::into_inner).insert(item.id, item);
        Ok(())
    }

    pub(crate) async fn remove(&self, id: &Hash) -> Result<(), ShelfError> {
        let key = id.as_bytes().to_vec();
        self.storage.commit(vec![Change::Delete { table: Table::Evidence, key }]).await?;
        self.items.write().unwrap_or_else(PoisonError::into_inner).remove(id);
        Ok(())
    }

    pub(crate) fn get(&self, id: &Hash) -> Option<Item> {
        self.items.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    /// The one whose name begins so.
    pub(crate) fn named(&self, id: &str) -> Result<Item, ShelfError> {
        let wanted = id.trim();
        let mut found: Vec<Item> = self.all();
        found.retain(|item| !wanted.is_empty() && item.id.to_string().starts_with(wanted));
        match <[Item; 1]>::try_from(found) {
            Ok([item]) => Ok(item),
            Err(found) => Err(ShelfError::Name { id: wanted.to_owned(), count: found.len() }),
        }
    }

    /// Everything, the oldest first.
    pub(crate) fn all(&self) -> Vec<Item> {
        let items = self.items.read().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<Item> = items.values().cloned().collect();
        all.sort_by_key(|item| (item.added, item.id));
        all
    }

    /// What speaks for a capability; for the agent as such, only what says so.
    pub(crate) fn about(&self, capability: &str) -> Vec<Item> {
        let mut all = self.all();
        all.retain(|item| item.capability.matches(capability));
        all.truncate(LISTED_MAX);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_and_names_tell_items_apart() {
        let any = Pattern::any();
        let item = |kind: &str, source| {
            Item::new(kind.to_owned(), any.clone(), source, Time::from_millis(5)).unwrap()
        };
        let blob = item("trace", Source::Blob(Bytes::from_static(b"x")));
        let program = item("trace", Source::Program("x".to_owned()));
        for one in [&blob, &program] {
            let back = Item::of_row(&one.row()).unwrap();
            assert_eq!((back.id, &back.source, back.added), (one.id, &one.source, one.added));
        }
        assert_ne!(blob.id, item("tdx", blob.source.clone()).id);
        assert!(Item::of_row(&blob.row()[1..]).is_none());
        let long = Source::Blob(vec![0; MAX_BLOB + 1].into());
        assert!(Item::new("trace".to_owned(), any.clone(), long, Time::ZERO).is_err());
        assert!(
            Item::new("trace".to_owned(), any, Source::Blob(Bytes::new()), Time::ZERO).is_err()
        );
    }
}
