//! The node's audit log: what happened here, in an order and with contents that cannot change unnoticed.
//!
//! [`Audit`] is the handle. What happens is put into a bounded queue and written by a thread of its own, so a call pays for a place in the
//! queue and nothing else. The thread writes whatever waits in one go, and signs a checkpoint each second or as soon as
//! [`CHECKPOINT_PENDING_MAX`] entries wait for one; under load one checkpoint covers everything that gathered while the last was being synced.
//!
//! **When the queue is full**, what a caller or callee did *waits* for room ([`Audit::record`]): an answer is not given before its entry
//! has a place. What strangers bring about, sessions and refusals, does not wait: it is counted, and the log says how many entries are
//! missing. Refusals that are alike share an entry, so that a flood of them cannot fill the log.
//!
//! **When the disk fails**, the node goes on, says so in its log file, counts what is lost, tries again, and writes down how many
//! entries are missing.
//!
//! A node without a home directory keeps no log.

mod accusations;
mod disk;
mod export;
mod frame;
mod keeper;
mod open;
mod store;
mod tiles;
mod verify;
mod view;
mod witness;

#[cfg(test)]
mod faults;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use comity_core::receipt::ShortText;
use comity_core::{AgentId, Canonical, Identity};
use comity_trust::RawKey;
use comity_trust::log::{
    ConsistencyProof, CoseReceipt, Entry, EntryProof, Event, InclusionProof, SignedCheckpoint,
};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::disk::RealDisk;
use self::keeper::{Ask, Keeper, Losses, Message};
use crate::clock::Clock;
use crate::runtime::Threads;

pub(crate) use self::accusations::Accusations;
pub use self::export::{EXPORT_FORMAT, ExportError, ExportVerified, export, verify_export};
pub use self::store::AuditError;
pub use self::verify::Verified;
pub use self::view::{
    ProofFileError, accusation_file, checkpoint_view, entry_view, proof_file, verified_view,
    verify_accusation_file, verify_proof_file,
};
pub use self::witness::{Observed, Witness, WitnessError};
pub use comity_trust::log::{Caught, Cosignature};

/// Longest time that an entry waits for a checkpoint.
pub const CHECKPOINT_EVERY: Duration = Duration::from_secs(1);
/// Entries that may wait for a checkpoint while nothing else is written.
pub const CHECKPOINT_PENDING_MAX: u64 = 256;
/// Events that wait for the log's thread; past it callers wait and strangers' doings are counted.
pub const QUEUE_LEN: usize = 4_096;
/// Most entries in one answer to [`Audit::list`].
pub const PAGE_LEN_MAX: usize = 256;

/// Entries in the order of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Entries of the whole log.
    pub size: u64,
    /// Those asked for, as far as they exist.
    pub entries: Vec<Listed>,
}

/// One entry of a [`Page`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its position.
    pub index: u64,
    /// Its bytes; none if it was pruned.
    pub entry: Option<Vec<u8>>,
}

/// The handle of a node's log; cheap to clone. The default is a log that is not kept.
#[derive(Clone, Debug, Default)]
pub struct Audit(Option<Arc<Shared>>);

#[derive(Debug)]
struct Shared {
    messages: mpsc::Sender<Message>,
    latest: watch::Receiver<Option<SignedCheckpoint>>,
    witnessed: watch::Receiver<Option<SignedCheckpoint>>,
    losses: Arc<Losses>,
    clock: Clock,
}

impl Audit {
    /// Opens the log in `directory`, or begins it, and starts its thread.
    pub(crate) fn start(
        directory: &Path,
        identity: Arc<Identity>,
        clock: &Clock,
        threads: &mut Threads,
        dropped: CancellationToken,
    ) -> Result<Self, AuditError> {
        let root = directory.to_owned();
        let reopen = Box::new(move || {
            RealDisk::create(&root).map(|disk| Box::new(disk) as Box<dyn disk::Disk>)
        });
        let (latest, watched) = watch::channel(None);
        let (with_witnesses, witnessed) = watch::channel(None);
        let losses = Arc::<Losses>::default();
        let ticking = clock.clone();
        let now = Box::new(move || ticking.now());
        let (keeper, recovery) =
            Keeper::open(identity, now, reopen, Arc::clone(&losses), latest, with_witnesses)?;
        if recovery.torn_bytes > 0 {
            warn!(
                bytes = recovery.torn_bytes,
                "the end of the audit log was being written when the node last stopped; no checkpoint covered it"
            );
        }
        info!(entries = recovery.size, "the audit log is open");
        let (messages, inbox) = mpsc::channel(QUEUE_LEN);
        threads
            .run_apart("comity-audit", keeper.run(inbox, dropped))
            .map_err(|source| AuditError::Io { what: "start its thread".to_owned(), source })?;
        let shared = Shared { messages, latest: watched, witnessed, losses, clock: clock.clone() };
        let audit = Self(Some(Arc::new(shared)));
        let program = comity_trust::log::short_text(concat!("comity ", env!("CARGO_PKG_VERSION")));
        audit.note(Event::Started { program });
        Ok(audit)
    }

    /// Whether a log is kept at all.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.0.is_some()
    }

    /// Logs what this agent did, waiting for room if need be.
    pub async fn record(&self, event: Event) {
        let Some(shared) = &self.0 else { return };
        let message = Message::Event(shared.clock.now(), event);
        if shared.messages.send(message).await.is_err() {
            shared.losses.unqueued.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Logs what others brought about. Never waits: what finds no room is counted, and the log says how much is missing.
    pub fn note(&self, event: Event) {
        let Some(shared) = &self.0 else { return };
        shared.try_send(Message::Event(shared.clock.now(), event));
    }

    /// Logs a call that was refused or came to nothing. Never waits; alike ones of one second share an entry.
    pub fn denied(&self, caller: &AgentId, capability: ShortText, reason: &'static str) {
        let Some(shared) = &self.0 else { return };
        let (at, caller) = (shared.clock.now(), RawKey::from(*caller));
        shared.try_send(Message::Denied { at, caller, capability, reason });
    }

    /// The last published checkpoint: what a peer is shown.
    #[must_use]
    pub fn latest(&self) -> Option<SignedCheckpoint> {
        self.0.as_ref()?.latest.borrow().clone()
    }

    /// The newest checkpoint that peers signed as witnesses, with what they signed, as it changes. None if no log is kept.
    #[must_use]
    pub fn witnessed(&self) -> Option<watch::Receiver<Option<SignedCheckpoint>>> {
        self.0.as_ref().map(|shared| shared.witnessed.clone())
    }

    /// At most [`PAGE_LEN_MAX`] entries from `from` on.
    ///
    /// # Errors
    /// [`AuditError`] when the log cannot be read.
    pub async fn list(&self, from: u64, count: usize) -> Result<Page, AuditError> {
        let count = count.min(PAGE_LEN_MAX);
        self.ask(|answer| Ask::List { from, count, answer }).await
    }

    /// Entry `index` with everything that shows it is in the log.
    ///
    /// # Errors
    /// [`AuditError`] when there is no such entry or it was pruned.
    pub async fn prove(&self, index: u64) -> Result<EntryProof, AuditError> {
        self.ask(|answer| Ask::Prove { index, answer }).await
    }

    /// The log's receipt that entry `index` is in it, as RFC 9942 has it. Works for pruned entries too.
    ///
    /// # Errors
    /// [`AuditError`] when there is no such entry.
    pub async fn receipt(&self, index: u64) -> Result<CoseReceipt, AuditError> {
        self.ask(|answer| Ask::Receipt { index, answer }).await
    }

    /// That the first `old` entries are unchanged at `new`: what a peer that holds a checkpoint of `old` asks for.
    ///
    /// # Errors
    /// [`AuditError`] when the log never had these sizes.
    pub async fn consistency(&self, old: u64, new: u64) -> Result<ConsistencyProof, AuditError> {
        self.ask(|answer| Ask::Growth { old, new, answer }).await
    }

    /// Keeps a peer's cosignature of a checkpoint of this log.
    ///
    /// # Errors
    /// [`AuditError`] when it does not hold for a checkpoint that is still at hand.
    pub async fn cosigned(&self, witness: AgentId, observed: Observed) -> Result<(), AuditError> {
        self.ask(|answer| Ask::Cosign { witness, observed, answer }).await
    }

    /// Deletes the contents of entries before `before`, in whole bundles; hashes and proofs stay. Returns the first entry kept.
    ///
    /// # Errors
    /// [`AuditError`] when the disk fails.
    pub async fn prune(&self, before: u64) -> Result<u64, AuditError> {
        self.ask(|answer| Ask::Prune { before, answer }).await
    }

    /// Signs everything so far, now.
    ///
    /// # Errors
    /// [`AuditError`] when the disk fails.
    pub async fn flush(&self) -> Result<SignedCheckpoint, AuditError> {
        self.ask(|answer| Ask::Flush { answer }).await
    }

    /// Writes that the node stops, and ends the thread.
    pub(crate) async fn stop(&self) {
        if !self.is_kept() {
            return;
        }
        if let Err(error) = self.ask(|answer| Ask::Stop { answer }).await {
            warn!(%error, "the audit log was not closed in order");
        }
    }

    async fn ask<T>(
        &self,
        question: impl FnOnce(oneshot::Sender<Result<T, AuditError>>) -> Ask,
    ) -> Result<T, AuditError> {
        let shared = self.0.as_ref().ok_or(AuditError::Off)?;
        let (answer, answered) = oneshot::channel();
        let ended = || AuditError::Unavailable { reason: "the node is shutting down".to_owned() };
        shared.messages.send(Message::Ask(question(answer))).await.map_err(|_| ended())?;
        answered.await.unwrap_or_else(|_| Err(ended()))
    }
}

impl Shared {
    fn try_send(&self, message: Message) {
        if self.messages.try_send(message).is_err() {
            self.losses.unqueued.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Verifies the whole log in `directory`, of `agent`, without changing anything: for a log at rest or one that is being written.
///
/// # Errors
/// [`AuditError`] names the first thing that does not hold.
pub fn verify_directory(directory: &Path, agent: AgentId) -> Result<Verified, AuditError> {
    let (mut log, recovery) = open_directory(directory, agent)?;
    verify::verify(&mut log, recovery.torn_bytes)
}

/// The agent whose log is in `directory`, as its checkpoint says: for a directory that came without its key. The checkpoint's signature
/// holds; whether the agent is the one that is meant is for the reader to know.
///
/// # Errors
/// [`AuditError`] when there is no checkpoint to be read.
pub fn log_agent(directory: &Path) -> Result<AgentId, AuditError> {
    use disk::Disk as _;
    let mut disk = RealDisk::read_only(directory);
    let note = disk
        .read(store::CHECKPOINT, comity_trust::log::MAX_NOTE_LEN as u64)
        .map_err(|source| AuditError::Io { what: "read the checkpoint".to_owned(), source })?
        .ok_or_else(|| AuditError::Absent { directory: directory.display().to_string() })?;
    let signed = SignedCheckpoint::open(&note)
        .map_err(|error| AuditError::Damaged { what: error.to_string() })?;
    Ok(signed.checkpoint().log)
}

fn open_directory(
    directory: &Path,
    agent: AgentId,
) -> Result<(store::Log, store::Recovery), AuditError> {
    let disk = Box::new(RealDisk::read_only(directory));
    store::Log::open_read_only(disk, agent, &directory.display().to_string())
}

/// A log without a node, to be written: what the thread does, one step at a time.
#[derive(Debug)]
pub struct Writer {
    log: store::Log,
    identity: Arc<Identity>,
}

impl Writer {
    /// Opens the log of `identity` in `directory`, or begins it. Nobody else may have it open.
    ///
    /// # Errors
    /// [`AuditError`].
    pub fn open(directory: &Path, identity: Arc<Identity>) -> Result<Self, AuditError> {
        let disk = RealDisk::create(directory)
            .map_err(|source| AuditError::Io { what: "open its directory".to_owned(), source })?;
        let (log, _) = store::Log::open(Box::new(disk), identity.id())?;
        Ok(Self { log, identity })
    }

    /// Adds entries. After an error the log has to be opened again.
    ///
    /// # Errors
    /// [`AuditError`] when the disk fails.
    pub fn append(&mut self, entries: &[Entry]) -> Result<(), AuditError> {
        self.log.append(entries.iter().map(Canonical::encode).collect())
    }

    /// Signs everything so far once it is safe on disk, and moves what fills tiles into them.
    ///
    /// # Errors
    /// [`AuditError`] when the disk fails.
    pub fn checkpoint(&mut self) -> Result<SignedCheckpoint, AuditError> {
        let signed = self.log.checkpoint(&self.identity)?;
        if self.log.journalled() >= store::JOURNAL_ENTRIES_MAX {
            self.log.write_tiles()?;
        }
        Ok(signed)
    }
}

/// A log at rest, to be read.
#[derive(Debug)]
pub struct Reader(store::Log);

impl Reader {
    /// Opens the log in `directory`, of `agent`; checks what opening checks.
    ///
    /// # Errors
    /// [`AuditError`].
    pub fn open(directory: &Path, agent: AgentId) -> Result<Self, AuditError> {
        Ok(Self(open_directory(directory, agent)?.0))
    }

    /// As [`Audit::list`].
    ///
    /// # Errors
    /// [`AuditError`].
    pub fn list(&mut self, from: u64, count: usize) -> Result<Page, AuditError> {
        let size = self.0.size();
        let mut entries = Vec::new();
        for index in from..size.min(from.saturating_add(count.min(PAGE_LEN_MAX) as u64)) {
            entries.push(Listed { index, entry: self.0.entry(index)? });
        }
        Ok(Page { size, entries })
    }

    /// As [`Audit::prove`], under a checkpoint on disk.
    ///
    /// # Errors
    /// [`AuditError`].
    pub fn prove(&mut self, index: u64) -> Result<EntryProof, AuditError> {
        let size = self.0.size();
        let signed = self.0.checkpoint_over(index).cloned();
        let signed = signed.ok_or(AuditError::NoSuchEntry { index, size })?;
        let inclusion = self.0.prove(index, signed.checkpoint())?;
        let entry = self.0.entry(index)?.ok_or(AuditError::Pruned { index })?;
        debug_assert!(index < size, "a checkpoint covers no more than there is");
        Ok(EntryProof::of_bytes(entry, inclusion, &signed))
    }

    /// That entry `index` is under the last checkpoint on disk, without the entry.
    ///
    /// # Errors
    /// [`AuditError`].
    pub fn inclusion(&mut self, index: u64) -> Result<InclusionProof, AuditError> {
        let signed = self.0.last_checkpoint().map(|signed| *signed.checkpoint());
        let signed = signed.ok_or(AuditError::NoSuchEntry { index, size: 0 })?;
        self.0.prove(index, &signed)
    }

    /// The last checkpoint on disk.
    #[must_use]
    pub fn checkpoint(&self) -> Option<&SignedCheckpoint> {
        self.0.last_checkpoint()
    }
}
