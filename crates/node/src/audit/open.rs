//! Opening: what is on disk, and whether it is what was signed.

use std::cell::RefCell;

use comity_core::Sha256Digest;
use comity_trust::log::tile::{TILE_WIDTH, encode_tile, tile_path};
use comity_trust::log::{CheckpointError, MAX_NOTE_LEN, SignedCheckpoint, tree};

use super::frame::FrameKind;
use super::store::{
    AuditError, CHECKPOINT, HASH_BYTES, JOURNAL_PREFIX, Log, LogNodes, NODES, Result, WITNESSED,
    damaged, io_error, journal_name,
};
use super::tiles;

/// Longest journal that is read, in bytes: far more entries than it holds when tiles can be written, at their longest.
pub(super) const JOURNAL_BYTES_MAX: u64 = 64 << 20;
/// How often a journal that vanishes between listing and reading is looked for again: its node is running and began another.
const JOURNAL_LOOKS_MAX: u32 = 8;

/// What was read of the journal.
pub(super) struct Found {
    pub(super) torn_bytes: u64,
    whole_bytes: u64,
    superseded: Vec<String>,
}

impl Log {
    /// Reads and checks everything; writes nothing. None if there is no log.
    pub(super) fn load(&mut self) -> Result<Option<Found>> {
        // First: whatever the journal holds when it is read later covers what was published before.
        let published = self.published()?;
        let Some((bytes, superseded)) = self.newest_journal()? else {
            let tiles = self.disk.len(&tile_path(0, 0)).map_err(io_error("look for tiles"))?;
            return match published {
                None if tiles.is_none() => Ok(None),
                Some(Some(signed)) => {
                    Err(AuditError::Truncated { found: 0, signed: signed.checkpoint().size })
                }
                Some(None) | None => damaged("its journal is missing"),
            };
        };
        let rest = self.read_head(&bytes)?;
        let torn_bytes = self.replay(rest)?;
        self.agree(published)?;
        self.read_witnessed()?;
        self.check_last_bundle()?;
        let whole_bytes = (bytes.len() - torn_bytes) as u64;
        Ok(Some(Found { torn_bytes: torn_bytes as u64, whole_bytes, superseded }))
    }

    /// The journal with the largest size in its name, and the names of the others; none if there is none.
    fn newest_journal(&mut self) -> Result<Option<(Vec<u8>, Vec<String>)>> {
        for _ in 0..JOURNAL_LOOKS_MAX {
            let mut names = self.disk.list("").map_err(io_error("list its directory"))?;
            names.retain(|name| name.starts_with(JOURNAL_PREFIX));
            let Some(newest) = names.pop() else { return Ok(None) };
            let bytes =
                self.disk.read(&newest, JOURNAL_BYTES_MAX).map_err(io_error("read the journal"))?;
            if let Some(bytes) = bytes {
                self.journal = newest;
                return Ok(Some((bytes, names)));
            }
        }
        damaged("its journal changes faster than it can be read")
    }

    /// The published checkpoint; inner none when the file is there and unreadable, as a loss of power can leave it.
    fn published(&mut self) -> Result<Option<Option<SignedCheckpoint>>> {
        let note = self
            .disk
            .read(CHECKPOINT, MAX_NOTE_LEN as u64)
            .map_err(io_error("read the checkpoint"))?;
        let Some(note) = note else { return Ok(None) };
        match SignedCheckpoint::open_of(&note, &self.agent) {
            Ok(signed) => Ok(Some(Some(signed))),
            Err(CheckpointError::OtherLog { found, .. }) => {
                damaged(format!("it is the log of {found}"))
            }
            Err(_) => Ok(Some(None)),
        }
    }

    /// Reads where the journal begins and takes the tiles up to there; returns what follows.
    fn read_head<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8]> {
        let Some((FrameKind::Head, head, rest)) = self.chain.read(bytes) else {
            return damaged(format!("{} does not begin as a journal does", self.journal));
        };
        let Some((base, root)) = head.split_first_chunk::<8>() else {
            return damaged(format!("{} has no size at its head", self.journal));
        };
        self.base = u64::from_be_bytes(*base);
        if !self.base.is_multiple_of(TILE_WIDTH)
            || self.base > tree::MAX_SIZE
            || self.journal != journal_name(self.base)
        {
            return damaged(format!("{} says it begins at {}", self.journal, self.base));
        }
        let tiled = tiles::root(&mut *self.disk, self.base)?;
        if tiled.0 != *root {
            return Err(AuditError::Rewritten { size: self.base });
        }
        self.check_nodes(&tiled)?;
        Ok(rest)
    }

    /// Whether the file of nodes can be the one of these tiles; if it is not, reading goes on without and writing makes it again.
    fn check_nodes(&mut self, root: &Sha256Digest) -> Result<()> {
        let length = self.disk.len(NODES).map_err(io_error("look for hashes"))?.unwrap_or(0);
        let enough = length >= tree::places(self.base) * HASH_BYTES;
        if enough && tree::root(self.base, &self.nodes()).is_ok_and(|found| found == *root) {
            return Ok(());
        }
        self.nodes_missing = true;
        Ok(())
    }

    /// Takes the frames into memory as long as they continue each other; returns what is left.
    fn replay(&mut self, bytes: &[u8]) -> Result<usize> {
        let mut rest = bytes;
        while let Some((kind, payload, after)) = self.chain.read(rest) {
            match kind {
                FrameKind::Head => return damaged("its journal has a second head"),
                FrameKind::Entries => self.replay_entries(payload)?,
                FrameKind::Checkpoint => self.replay_checkpoint(payload)?,
            }
            rest = after;
        }
        Ok(rest.len())
    }

    fn replay_entries(&mut self, payload: &[u8]) -> Result<()> {
        let mut rest = payload;
        while let Some((length, after)) = rest.split_first_chunk::<2>() {
            let length = usize::from(u16::from_be_bytes(*length));
            let Some((entry, after)) = after.split_at_checked(length) else {
                return damaged("a frame of entries ends inside one");
            };
            self.push(entry.to_vec())?;
            rest = after;
        }
        Ok(())
    }

    fn replay_checkpoint(&mut self, note: &[u8]) -> Result<()> {
        let Ok(signed) = SignedCheckpoint::open_of(note, &self.agent) else {
            return damaged("a checkpoint in its journal is not signed by this agent");
        };
        let size = signed.checkpoint().size;
        if size != self.size() || signed.checkpoint().root != tree::root(size, &self.nodes())? {
            return Err(AuditError::Rewritten { size });
        }
        self.checkpoint = Some(signed);
        Ok(())
    }

    /// What was published must be what is here.
    fn agree(&mut self, published: Option<Option<SignedCheckpoint>>) -> Result<()> {
        let signed = match (published, &self.checkpoint) {
            (Some(Some(signed)), _) => signed,
            // Before the first checkpoint there is no file, and a loss of power can take what was not synced of it.
            (None | Some(None), Some(_)) => return Ok(()),
            (None, None) if self.base == 0 => return Ok(()),
            (None | Some(None), None) => {
                return damaged("its checkpoint is gone, and its journal holds none");
            }
        };
        let (size, found) = (signed.checkpoint().size, self.size());
        if size > found {
            return Err(AuditError::Truncated { found, signed: size });
        }
        if tree::root(size, &self.nodes())? != signed.checkpoint().root {
            return Err(AuditError::Rewritten { size });
        }
        if self.checkpoint.as_ref().is_none_or(|last| last.checkpoint().size < size) {
            self.checkpoint = Some(signed);
        }
        Ok(())
    }

    /// What witnesses signed, if it is about this log as it is: nothing depends on it, so what does not hold is left.
    fn read_witnessed(&mut self) -> Result<()> {
        let note = self
            .disk
            .read(WITNESSED, MAX_NOTE_LEN as u64)
            .map_err(io_error("read the signatures of witnesses"))?;
        let Some(note) = note else { return Ok(()) };
        let Ok(signed) = SignedCheckpoint::open_of(&note, &self.agent) else { return Ok(()) };
        let size = signed.checkpoint().size;
        if size <= self.size() && tree::root(size, &self.nodes())? == signed.checkpoint().root {
            self.witnessed = Some(signed);
        }
        Ok(())
    }

    /// The last entries in tiles must be those whose hashes are.
    fn check_last_bundle(&mut self) -> Result<()> {
        if self.base == 0 {
            return Ok(());
        }
        let hashes = tiles::read(&mut *self.disk, 0, self.base / TILE_WIDTH - 1)?;
        for (index, hash) in (self.base - TILE_WIDTH..).zip(&hashes) {
            if self.entry(index)?.is_some_and(|entry| tree::leaf_hash(&entry) != *hash) {
                return Err(AuditError::Rewritten { size: index + 1 });
            }
        }
        Ok(())
    }

    /// Clears away what a crash left, before anything is written.
    pub(super) fn settle(&mut self, found: &Found) -> Result<()> {
        if found.torn_bytes > 0 {
            let journal = self.journal.clone();
            self.disk
                .truncate(&journal, found.whole_bytes)
                .map_err(io_error("cut off what a crash left"))?;
        }
        // Everything read is what is built on from here: it must not vanish under it.
        self.disk.sync(&self.journal).map_err(io_error("sync the journal"))?;
        for name in &found.superseded {
            self.disk.remove(name).map_err(io_error("remove an old journal"))?;
        }
        self.settle_nodes()
    }

    fn settle_nodes(&mut self) -> Result<()> {
        let wanted = tree::places(self.base) * HASH_BYTES;
        if !self.nodes_missing {
            let length = self.disk.len(NODES).map_err(io_error("look for hashes"))?;
            if length.is_some_and(|length| length > wanted) {
                self.disk.truncate(NODES, wanted).map_err(io_error("cut hashes"))?;
                self.disk.sync(NODES).map_err(io_error("sync hashes"))?;
            }
            return Ok(());
        }
        self.disk.remove(NODES).map_err(io_error("remove hashes"))?;
        let (mut size, mut tail) = (0, Vec::new());
        for tile in 0..self.base / TILE_WIDTH {
            for leaf in tiles::read(&mut *self.disk, 0, tile)? {
                let nodes = LogNodes {
                    disk: RefCell::new(&mut *self.disk),
                    start: tree::places(tile * TILE_WIDTH),
                    tail: &tail,
                    from_tiles: false,
                };
                let hashes = tree::append(size, &leaf, &nodes)?;
                tail.extend(hashes);
                size += 1;
            }
            self.disk.append(NODES, &encode_tile(&tail)).map_err(io_error("write hashes"))?;
            tail.clear();
        }
        if size > 0 {
            self.disk.sync(NODES).map_err(io_error("sync hashes"))?;
        }
        self.nodes_missing = false;
        Ok(())
    }
}
