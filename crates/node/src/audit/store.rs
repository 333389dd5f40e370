//! The log on disk.
//!
//! ```text
//! HOME/audit/checkpoint             the last published checkpoint, a signed note
//! HOME/audit/journal-SIZE           what came after the first SIZE entries: frames of entries and checkpoints
//! HOME/audit/tile/entries/…         256 entries each, never changed once written
//! HOME/audit/tile/LEVEL/…           256 hashes each, never changed once written
//! HOME/audit/nodes                  every hash of the tiled entries, in the order of places; can be made again from the tiles
//! ```
//!
//! **What survives.** An entry is on its way to disk when [`Log::append`] returns: a killed process loses nothing, a loss of power may.
//! [`Log::checkpoint`] syncs the journal before the checkpoint is published, so an entry under a published checkpoint survives
//! everything that leaves the disk itself whole. Tiles are synced before the journal that holds the same entries goes.
//!
//! **What is noticed.** On opening, the tiles of the right edge, the journal and the checkpoint must agree: a log that is shorter than its
//! checkpoint, or whose root is another, is refused. Who replaces all files by older ones of the same log is noticed by
//! the peers, who remember.

use std::cell::RefCell;
use std::io;

use comity_core::{AgentId, Identity, Sha256Digest};
use comity_trust::log::tile::{
    TILE_LEN, TILE_WIDTH, bundle_path, completed_tiles, decode_bundle, encode_bundle, encode_tile,
    tile_path, tile_places,
};
use comity_trust::log::tree::{self, Nodes};
use comity_trust::log::{
    Checkpoint, ConsistencyProof, InclusionProof, MAX_ENTRY_LEN, SignedCheckpoint, TreeError,
};

use super::disk::{Disk, directory_of};
use super::frame::{Chain, FrameKind, MAX_PAYLOAD_LEN};
use super::tiles;

/// Entries in the journal past which a checkpoint is followed by writing tiles, whatever else is to do.
pub(crate) const JOURNAL_ENTRIES_MAX: usize = 4_096;
/// Longest bundle, in bytes.
const BUNDLE_BYTES_MAX: u64 = (TILE_LEN * (MAX_ENTRY_LEN + 2)) as u64;
/// Length of a hash, in bytes.
pub(super) const HASH_BYTES: u64 = 32;

pub(super) const CHECKPOINT: &str = "checkpoint";
pub(super) const WITNESSED: &str = "witnessed";
pub(super) const NODES: &str = "nodes";
pub(super) const JOURNAL_PREFIX: &str = "journal-";

/// Why the log cannot be opened, written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuditError {
    /// The disk failed.
    #[error("the audit log cannot {what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// Files of the log contradict each other.
    #[error(
        "the audit log is damaged: {what}; `comity audit verify` says what still holds: restore the directory from a backup, or move it away to \
         keep it as evidence and begin a new log, which every peer that remembers the old one will notice"
    )]
    Damaged {
        /// What contradicts what.
        what: String,
    },
    /// Entries are missing that a published checkpoint covers.
    #[error(
        "the audit log ends after {found} entries and its published checkpoint covers {signed}: entries were removed, or the disk lost what it \
         had acknowledged; restore the directory from a backup, or move it away to keep it as evidence and begin a new log, which every peer \
         that remembers the old one will notice"
    )]
    Truncated {
        /// Entries found.
        found: u64,
        /// Entries of the checkpoint.
        signed: u64,
    },
    /// The entries are not those that were signed.
    #[error(
        "the audit log was rewritten: its first {size} entries are not those that this agent signed; restore the directory from a backup, or move \
         it away to keep it as evidence and begin a new log, which every peer that remembers the old one will notice"
    )]
    Rewritten {
        /// The size at which contents and signature differ.
        size: u64,
    },
    /// There is no such entry.
    #[error("the audit log has {size} entries under a checkpoint, and no entry {index}")]
    NoSuchEntry {
        /// Which was asked for.
        index: u64,
        /// How many there are.
        size: u64,
    },
    /// The entry was pruned.
    #[error(
        "entry {index} of the audit log was pruned; its hash remains, and proofs about other entries hold"
    )]
    Pruned {
        /// Which was asked for.
        index: u64,
    },
    /// There is no log here.
    #[error("there is no audit log in {directory}: `comity up` begins one")]
    Absent {
        /// Where it was looked for.
        directory: String,
    },
    /// A witness speaks of a checkpoint that it was not shown lately.
    #[error(
        "no checkpoint of {size} entries was shown lately: say hello, and sign what comes with the answer"
    )]
    NotShown {
        /// The size it speaks of.
        size: u64,
    },
    /// A witness's signature does not hold, or there are as many as can be.
    #[error("the cosignature is not taken: {reason}")]
    Cosignature {
        /// Why.
        reason: String,
    },
    /// No such proof.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The log is not being kept.
    #[error("this node keeps no audit log: it has no home directory")]
    Off,
    /// The log's thread has ended or its disk fails.
    #[error("the audit log is not available just now: {reason}")]
    Unavailable {
        /// Why.
        reason: String,
    },
}

pub(super) type Result<T> = std::result::Result<T, AuditError>;

pub(super) fn io_error(what: impl Into<String>) -> impl FnOnce(io::Error) -> AuditError {
    move |source| AuditError::Io { what: what.into(), source }
}

pub(super) fn damaged<T>(what: impl Into<String>) -> Result<T> {
    Err(AuditError::Damaged { what: what.into() })
}

/// What opening found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Recovery {
    /// Entries in the log.
    pub(crate) size: u64,
    /// Bytes at the end of the journal that were no whole frame and are gone: what a crash interrupted.
    pub(crate) torn_bytes: u64,
}

/// The log of one agent, opened for writing by one owner.
pub(crate) struct Log {
    pub(super) disk: Box<dyn Disk>,
    pub(super) agent: AgentId,
    /// Entries in tiles; a multiple of [`TILE_WIDTH`].
    pub(super) base: u64,
    /// The entries behind them.
    tail: Vec<Vec<u8>>,
    /// Their hashes, from place `places(base)` on.
    nodes: Vec<Sha256Digest>,
    /// The file of nodes is absent or wrong: hashes are made from the tiles until it is made again.
    pub(super) nodes_missing: bool,
    pub(super) journal: String,
    pub(super) chain: Chain,
    pub(super) checkpoint: Option<SignedCheckpoint>,
    /// The newest checkpoint that witnesses signed, with what they signed.
    pub(super) witnessed: Option<SignedCheckpoint>,
    /// The bundle last read.
    bundle: Option<(u64, Vec<u8>)>,
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log")
            .field("agent", &self.agent)
            .field("base", &self.base)
            .finish_non_exhaustive()
    }
}

/// The hashes of a log: in memory behind the tiles, in the file of nodes before, or made from the tiles where that is missing.
pub(super) struct LogNodes<'a> {
    pub(super) disk: RefCell<&'a mut dyn Disk>,
    pub(super) start: u64,
    pub(super) tail: &'a [Sha256Digest],
    pub(super) from_tiles: bool,
}

impl LogNodes<'_> {
    fn one(&self, place: u64) -> Result<Sha256Digest> {
        if let Some(at) = place.checked_sub(self.start) {
            let hash = usize::try_from(at).ok().and_then(|at| self.tail.get(at)).copied();
            return hash.map_or_else(|| damaged(format!("no hash at place {place}")), Ok);
        }
        let mut disk = self.disk.borrow_mut();
        if self.from_tiles {
            return tiles::node(&mut **disk, place);
        }
        let mut hash = [0; 32];
        disk.read_at(NODES, place * HASH_BYTES, &mut hash).map_err(io_error("read hashes"))?;
        Ok(Sha256Digest(hash))
    }
}

impl Nodes for LogNodes<'_> {
    fn read(&self, places: &[u64]) -> std::result::Result<Vec<Sha256Digest>, TreeError> {
        let unreadable = |error: AuditError| TreeError::Unreadable { reason: error.to_string() };
        places.iter().map(|&place| self.one(place).map_err(unreadable)).collect()
    }
}

pub(super) fn journal_name(base: u64) -> String {
    format!("{JOURNAL_PREFIX}{base:020}")
}

/// The first frame of a journal: the size it begins at and the root there.
fn head(base: u64, root: &Sha256Digest) -> Vec<u8> {
    [&base.to_be_bytes()[..], &root.0].concat()
}

impl Log {
    /// Opens the log of `agent`, or begins it.
    ///
    /// # Errors
    /// [`AuditError`]; for a log that is damaged, shorter than its checkpoint, or rewritten, nothing on disk has changed.
    pub(crate) fn open(disk: Box<dyn Disk>, agent: AgentId) -> Result<(Self, Recovery)> {
        let mut log = Self::at(disk, agent);
        let Some(found) = log.load()? else {
            log.begin()?;
            return Ok((log, Recovery::default()));
        };
        log.settle(&found)?;
        let recovery = Recovery { size: log.size(), torn_bytes: found.torn_bytes };
        Ok((log, recovery))
    }

    /// Opens a log to read it; writes nothing, so its node may be running. What is being written at the end is left out.
    ///
    /// # Errors
    /// As [`open`](Self::open); [`AuditError::Absent`] when there is none.
    pub(crate) fn open_read_only(
        disk: Box<dyn Disk>,
        agent: AgentId,
        directory: &str,
    ) -> Result<(Self, Recovery)> {
        let mut log = Self::at(disk, agent);
        let found =
            log.load()?.ok_or_else(|| AuditError::Absent { directory: directory.to_owned() })?;
        let recovery = Recovery { size: log.size(), torn_bytes: found.torn_bytes };
        Ok((log, recovery))
    }

    fn at(disk: Box<dyn Disk>, agent: AgentId) -> Self {
        Self {
            disk,
            agent,
            base: 0,
            tail: Vec::new(),
            nodes: Vec::new(),
            nodes_missing: false,
            journal: journal_name(0),
            chain: Chain::default(),
            checkpoint: None,
            witnessed: None,
            bundle: None,
        }
    }

    /// Number of entries.
    pub(crate) fn size(&self) -> u64 {
        self.base + self.tail.len() as u64
    }

    /// Entries that no checkpoint covers yet.
    pub(crate) fn pending(&self) -> u64 {
        self.size() - self.checkpoint.as_ref().map_or(0, |signed| signed.checkpoint().size)
    }

    /// Entries in the journal.
    pub(crate) fn journalled(&self) -> usize {
        self.tail.len()
    }

    /// The last checkpoint, on disk.
    pub(crate) fn last_checkpoint(&self) -> Option<&SignedCheckpoint> {
        self.checkpoint.as_ref()
    }

    /// The newest checkpoint that witnesses signed, with what they signed; unverified.
    pub(crate) fn witnessed(&self) -> Option<&SignedCheckpoint> {
        self.witnessed.as_ref()
    }

    /// The checkpoint to prove entry `index` under: one with witnesses if it covers the entry, or the last.
    pub(crate) fn checkpoint_over(&self, index: u64) -> Option<&SignedCheckpoint> {
        let covers = |signed: &&SignedCheckpoint| index < signed.checkpoint().size;
        let witnessed = self.witnessed.as_ref().filter(covers);
        witnessed.or_else(|| self.checkpoint.as_ref().filter(covers))
    }

    /// Keeps a checkpoint with its witnesses' signatures. It is lost in a crash at worst: the witnesses have it too.
    ///
    /// # Errors
    /// [`AuditError`] when the disk fails.
    pub(crate) fn keep_witnessed(&mut self, signed: &SignedCheckpoint) -> Result<()> {
        let temporary = "witnessed.tmp";
        let note = signed.note().to_string().into_bytes();
        self.disk.write(temporary, &note).map_err(io_error("write a witness's signature"))?;
        self.disk.rename(temporary, WITNESSED).map_err(io_error("keep a witness's signature"))?;
        self.witnessed = Some(signed.clone());
        Ok(())
    }

    pub(super) fn nodes(&mut self) -> LogNodes<'_> {
        LogNodes {
            disk: RefCell::new(&mut *self.disk),
            start: tree::places(self.base),
            tail: &self.nodes,
            from_tiles: self.nodes_missing,
        }
    }

    /// Adds entries, in order. When it returns an error, nothing is known about the end of the file: open the log again.
    ///
    /// # Errors
    /// [`AuditError`] when the disk fails.
    pub(crate) fn append(&mut self, entries: Vec<Vec<u8>>) -> Result<()> {
        let mut frames = Vec::new();
        let mut payload = Vec::new();
        for entry in &entries {
            debug_assert!((1..=MAX_ENTRY_LEN).contains(&entry.len()), "entries are made by us");
            if payload.len() + entry.len() + 2 > MAX_PAYLOAD_LEN {
                self.chain.push(FrameKind::Entries, &payload, &mut frames);
                payload.clear();
            }
            payload.extend_from_slice(&encode_bundle([&entry[..]]));
        }
        if !payload.is_empty() {
            self.chain.push(FrameKind::Entries, &payload, &mut frames);
        }
        self.disk.append(&self.journal, &frames).map_err(io_error("write entries"))?;
        entries.into_iter().try_for_each(|entry| self.push(entry))
    }

    /// Adds an entry to what is in memory.
    pub(super) fn push(&mut self, entry: Vec<u8>) -> Result<()> {
        let size = self.size();
        let hashes = tree::append(size, &tree::leaf_hash(&entry), &self.nodes())?;
        self.nodes.extend(hashes);
        self.tail.push(entry);
        Ok(())
    }

    /// Signs everything so far, once it is safe on disk. The last checkpoint again if nothing came since.
    ///
    /// # Errors
    /// [`AuditError`] when the disk fails; then the log has to be opened again.
    pub(crate) fn checkpoint(&mut self, identity: &Identity) -> Result<SignedCheckpoint> {
        if let Some(last) = &self.checkpoint
            && last.checkpoint().size == self.size()
        {
            return Ok(last.clone());
        }
        let size = self.size();
        let root = tree::root(size, &self.nodes())?;
        let checkpoint = Checkpoint { log: self.agent, size, root };
        let signed = SignedCheckpoint::sign(checkpoint, identity)
            .map_err(|error| AuditError::Damaged { what: error.to_string() })?;
        let note = signed.note().to_string().into_bytes();
        let mut frame = Vec::new();
        self.chain.push(FrameKind::Checkpoint, &note, &mut frame);
        self.disk.append(&self.journal, &frame).map_err(io_error("write a checkpoint"))?;
        self.disk.sync(&self.journal).map_err(io_error("sync the journal"))?;
        self.publish(&note)?;
        self.checkpoint = Some(signed.clone());
        Ok(signed)
    }

    /// The file is a second place for what the journal holds already: not synced, and whole by way of the rename.
    fn publish(&mut self, note: &[u8]) -> Result<()> {
        let temporary = "checkpoint.tmp";
        self.disk.write(temporary, note).map_err(io_error("write the checkpoint"))?;
        self.disk.rename(temporary, CHECKPOINT).map_err(io_error("replace the checkpoint"))
    }

    /// Moves whole bundles from the journal into tiles and begins a new journal behind them. Follows a checkpoint.
    ///
    /// # Errors
    /// [`AuditError`] when the disk fails; then the log has to be opened again.
    pub(crate) fn write_tiles(&mut self) -> Result<()> {
        let base = self.size() / TILE_WIDTH * TILE_WIDTH;
        if base == self.base || self.pending() > 0 {
            return Ok(());
        }
        let mut directories = std::collections::BTreeSet::new();
        for bundle in self.base / TILE_WIDTH..base / TILE_WIDTH {
            for (name, bytes) in self.files_of(bundle)? {
                self.disk.write(&name, &bytes).map_err(io_error(format!("write {name}")))?;
                self.disk.sync(&name).map_err(io_error(format!("sync {name}")))?;
                directories.insert(directory_of(&name).to_owned());
            }
        }
        for directory in directories {
            self.disk.sync_directory(&directory).map_err(io_error(format!("sync {directory}")))?;
        }
        let kept = usize::try_from(base - self.base).unwrap_or(usize::MAX);
        let tiled =
            usize::try_from(tree::places(base) - tree::places(self.base)).unwrap_or(usize::MAX);
        let bytes = encode_tile(&self.nodes[..tiled]);
        self.disk.append(NODES, &bytes).map_err(io_error("write hashes"))?;
        self.disk.sync(NODES).map_err(io_error("sync hashes"))?;
        let root = tree::root(base, &self.nodes())?;
        self.begin_journal(base, &root, kept)?;
        self.tail.drain(..kept);
        self.nodes.drain(..tiled);
        self.base = base;
        Ok(())
    }

    /// The bundle of that number and the tiles complete with it.
    fn files_of(&mut self, bundle: u64) -> Result<Vec<(String, Vec<u8>)>> {
        let first = usize::try_from(bundle * TILE_WIDTH - self.base).unwrap_or(usize::MAX);
        let entries = self.tail[first..first + TILE_LEN].iter().map(Vec::as_slice);
        let mut files = vec![(bundle_path(bundle), encode_bundle(entries))];
        for (level, n) in completed_tiles((bundle + 1) * TILE_WIDTH) {
            let hashes = self.nodes().read(&tile_places(level, n))?;
            files.push((tile_path(level, n), encode_tile(&hashes)));
        }
        Ok(files)
    }

    /// Writes a journal that begins at `base` with the entries in memory from `kept` on, and puts it in place of the present one.
    fn begin_journal(&mut self, base: u64, root: &Sha256Digest, kept: usize) -> Result<()> {
        let (mut chain, mut bytes) = (Chain::default(), Vec::new());
        chain.push(FrameKind::Head, &head(base, root), &mut bytes);
        for entries in self.tail[kept..].chunks(TILE_LEN) {
            let payload = encode_bundle(entries.iter().map(Vec::as_slice));
            chain.push(FrameKind::Entries, &payload, &mut bytes);
        }
        if let Some(checkpoint) = &self.checkpoint {
            let note = checkpoint.note().to_string();
            chain.push(FrameKind::Checkpoint, note.as_bytes(), &mut bytes);
        }
        let (temporary, name) = ("journal.tmp", journal_name(base));
        self.disk.write(temporary, &bytes).map_err(io_error("write a journal"))?;
        self.disk.sync(temporary).map_err(io_error("sync a journal"))?;
        self.disk.rename(temporary, &name).map_err(io_error("name a journal"))?;
        self.disk.sync_directory("").map_err(io_error("sync the log's directory"))?;
        if name != self.journal {
            self.disk.remove(&self.journal).map_err(io_error("remove a journal"))?;
        }
        (self.journal, self.chain) = (name, chain);
        Ok(())
    }

    fn begin(&mut self) -> Result<()> {
        self.begin_journal(0, &tree::EMPTY_ROOT, 0)
    }

    /// Entry `index`; none if it was pruned.
    ///
    /// # Errors
    /// [`AuditError`] when there is none or the disk fails.
    pub(crate) fn entry(&mut self, index: u64) -> Result<Option<Vec<u8>>> {
        if let Some(at) = index.checked_sub(self.base) {
            let entry = usize::try_from(at).ok().and_then(|at| self.tail.get(at)).cloned();
            return entry
                .map(Some)
                .ok_or_else(|| AuditError::NoSuchEntry { index, size: self.size() });
        }
        let (number, at) = (index / TILE_WIDTH, usize::try_from(index % TILE_WIDTH).unwrap_or(0));
        if self.bundle.as_ref().is_none_or(|(known, _)| *known != number) {
            let name = bundle_path(number);
            let bytes = self
                .disk
                .read(&name, BUNDLE_BYTES_MAX)
                .map_err(io_error(format!("read {name}")))?;
            let Some(bytes) = bytes else { return Ok(None) };
            self.bundle = Some((number, bytes));
        }
        let Some((_, bytes)) = &self.bundle else { return Ok(None) };
        match decode_bundle(bytes) {
            Ok(entries) if entries.len() == TILE_LEN => Ok(entries[at].map(<[u8]>::to_vec)),
            Ok(_) | Err(_) => {
                damaged(format!("{} does not hold {TILE_LEN} entries", bundle_path(number)))
            }
        }
    }

    /// The hash at a place of the tree.
    ///
    /// # Errors
    /// [`AuditError`] when it cannot be read.
    pub(crate) fn hash(&mut self, level: u8, n: u64) -> Result<Sha256Digest> {
        let hashes = self.nodes().read(&[tree::place(level, n)])?;
        hashes.first().copied().map_or_else(|| damaged("a hash is missing"), Ok)
    }

    /// Proves entry `index` under a checkpoint of this log, and checks the proof against it before it leaves: hashes on disk may be wrong.
    ///
    /// # Errors
    /// [`AuditError`] when there is no such entry, or no such proof can be made.
    pub(crate) fn prove(&mut self, index: u64, checkpoint: &Checkpoint) -> Result<InclusionProof> {
        if index >= checkpoint.size {
            return Err(AuditError::NoSuchEntry { index, size: checkpoint.size });
        }
        let proof = InclusionProof::make(index, checkpoint.size, &self.nodes())?;
        let leaf = self.hash(0, index)?;
        match proof.verify(&leaf, &checkpoint.root) {
            Ok(()) => Ok(proof),
            Err(_) => damaged(format!(
                "the hashes around entry {index} do not lead to the signed root: stop the node and remove `nodes`, which is made again from the tiles"
            )),
        }
    }

    /// Proves that the first `old` entries are unchanged at `new`.
    ///
    /// # Errors
    /// [`AuditError`] when there are no such sizes.
    pub(crate) fn prove_growth(&mut self, old: u64, new: u64) -> Result<ConsistencyProof> {
        let size = self.size();
        if new > size {
            return Err(TreeError::Range { what: format!("size {new}"), size }.into());
        }
        Ok(ConsistencyProof::make(old, new, &self.nodes())?)
    }

    /// Deletes the bundles that lie wholly before entry `before`. Hashes stay. Returns the first entry that is kept.
    ///
    /// # Errors
    /// [`AuditError`] when the disk fails.
    pub(crate) fn prune(&mut self, before: u64) -> Result<u64> {
        let bundles = before.min(self.base) / TILE_WIDTH;
        self.bundle = None;
        // From the newest: pruned before are all that are older, so the first that is absent ends the work.
        for bundle in (0..bundles).rev() {
            let name = bundle_path(bundle);
            if self.disk.len(&name).map_err(io_error(format!("look for {name}")))?.is_none() {
                break;
            }
            self.disk.remove(&name).map_err(io_error(format!("remove {name}")))?;
        }
        Ok(bundles * TILE_WIDTH)
    }
}
