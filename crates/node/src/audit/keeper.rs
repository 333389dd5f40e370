//! The thread that owns the log: takes what happened, writes it in batches, signs checkpoints, answers questions.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use comity_core::receipt::ShortText;
use comity_core::{AgentId, Canonical as _, Identity, Time};
use comity_trust::RawKey;
use comity_trust::log::tile::TILE_WIDTH;
use comity_trust::log::{
    ConsistencyProof, CoseReceipt, Entry, EntryProof, Event, SignedCheckpoint, short_text,
};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::disk::Disk;
use super::store::{AuditError, JOURNAL_ENTRIES_MAX, Log, Recovery, Result};
use super::{CHECKPOINT_EVERY, CHECKPOINT_PENDING_MAX, Listed, Observed, Page};

/// Messages taken from the queue at a time: entries that share one write.
const BATCH_LEN: usize = 1_024;
/// How long a log whose disk fails is left alone before it is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// Kinds of refused calls that get an entry each second of their own; others share one.
const DENIED_KINDS_MAX: usize = 64;
/// Checkpoints that a witness's signature may still be about: a minute of them when the log is busy.
const PUBLISHED_KEPT: usize = 64;
/// Entries in the journal past which nothing more is taken: tiles cannot be written, and the journal must stay readable.
const STUCK_ENTRIES_MAX: usize = 4 * JOURNAL_ENTRIES_MAX;

/// What the thread is told.
pub(super) enum Message {
    /// Something happened.
    Event(Time, Event),
    /// A call was refused.
    Denied { at: Time, caller: RawKey, capability: ShortText, reason: &'static str },
    /// Somebody asks.
    Ask(Ask),
}

/// Questions, each with where the answer goes.
pub(super) enum Ask {
    List {
        from: u64,
        count: usize,
        answer: oneshot::Sender<Result<Page>>,
    },
    Prove {
        index: u64,
        answer: oneshot::Sender<Result<EntryProof>>,
    },
    Receipt {
        index: u64,
        answer: oneshot::Sender<Result<CoseReceipt>>,
    },
    Growth {
        old: u64,
        new: u64,
        answer: oneshot::Sender<Result<ConsistencyProof>>,
    },
    Cosign {
        witness: AgentId,
        observed: Observed,
        answer: oneshot::Sender<Result<()>>,
    },
    Prune {
        before: u64,
        answer: oneshot::Sender<Result<u64>>,
    },
    /// Sign what there is now.
    Flush {
        answer: oneshot::Sender<Result<SignedCheckpoint>>,
    },
    /// Write that the node stops, sign, let go of the files, and end.
    Stop {
        answer: oneshot::Sender<Result<()>>,
    },
}

/// Opens the disk again after it failed.
pub(super) type Reopen = Box<dyn Fn() -> std::io::Result<Box<dyn Disk>> + Send>;

/// What handle and thread share.
#[derive(Debug, Default)]
pub(super) struct Losses {
    /// Events that found the queue full.
    pub(super) unqueued: AtomicU64,
}

pub(super) struct Keeper {
    identity: Arc<Identity>,
    now: Box<dyn Fn() -> Time + Send>,
    reopen: Reopen,
    log: std::result::Result<Log, Failed>,
    /// When the oldest entry that no checkpoint covers was written.
    pending_since: Option<Instant>,
    denied: BTreeMap<(RawKey, ShortText, &'static str), u64>,
    denied_others: u64,
    denied_at: Time,
    losses: Arc<Losses>,
    /// Entries that could not be written while the disk failed.
    unwritten: u64,
    latest: watch::Sender<Option<SignedCheckpoint>>,
    witnessed: watch::Sender<Option<SignedCheckpoint>>,
    /// The last checkpoints, oldest first: what peers were shown, and may come back signed.
    published: VecDeque<SignedCheckpoint>,
    /// Who asked to stop, to be told when the files are closed.
    stopping: Option<oneshot::Sender<Result<()>>>,
}

/// The log is closed because its disk fails.
struct Failed {
    reason: String,
    retry_at: Instant,
}

impl Keeper {
    pub(super) fn open(
        identity: Arc<Identity>,
        now: Box<dyn Fn() -> Time + Send>,
        reopen: Reopen,
        losses: Arc<Losses>,
        latest: watch::Sender<Option<SignedCheckpoint>>,
        witnessed: watch::Sender<Option<SignedCheckpoint>>,
    ) -> Result<(Self, Recovery)> {
        let disk = reopen()
            .map_err(|source| AuditError::Io { what: "open its directory".to_owned(), source })?;
        let (log, recovery) = Log::open(disk, identity.id())?;
        let last = log.last_checkpoint().cloned();
        latest.send_replace(last.clone());
        witnessed.send_replace(log.witnessed().cloned());
        let keeper = Self {
            identity,
            now,
            reopen,
            log: Ok(log),
            pending_since: None,
            denied: BTreeMap::new(),
            denied_others: 0,
            denied_at: Time::ZERO,
            losses,
            unwritten: 0,
            latest,
            witnessed,
            published: last.into_iter().collect(),
            stopping: None,
        };
        Ok((keeper, recovery))
    }

    /// Works until every handle is gone, one says stop, or the node was dropped.
    pub(super) async fn run(
        mut self,
        mut inbox: mpsc::Receiver<Message>,
        dropped: CancellationToken,
    ) {
        let mut messages = Vec::with_capacity(BATCH_LEN);
        while self.stopping.is_none() {
            let due = self.due_in();
            let wait = async {
                match due {
                    Some(due) => tokio::time::sleep(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                taken = inbox.recv_many(&mut messages, BATCH_LEN) => {
                    if taken == 0 {
                        break;
                    }
                }
                () = dropped.cancelled() => break,
                () = wait => {}
            }
            self.handle(&mut messages);
        }
        self.end();
    }

    /// The last entries, the last checkpoint. Whoever asked to stop is answered when nothing is written any more, so that another may open the log.
    fn end(mut self) {
        let Some(answer) = self.stopping.take() else {
            // Nobody is left to tell.
            let _ended = self.flush();
            return;
        };
        let gathered = self.gathered();
        self.write(gathered);
        self.write(vec![Entry::new((self.now)(), Event::Stopped {}).encode()]);
        let ended = self.flush().and_then(|_| self.open_log()?.write_tiles());
        drop(self);
        drop(answer.send(ended));
    }

    /// How long until something is due although nobody says anything.
    fn due_in(&self) -> Option<Duration> {
        if let Err(failed) = &self.log {
            return Some(failed.retry_at.saturating_duration_since(Instant::now()));
        }
        let denied = !self.denied.is_empty() || self.denied_others > 0;
        let since = self.pending_since.or_else(|| denied.then(Instant::now))?;
        Some(CHECKPOINT_EVERY.saturating_sub(since.elapsed()))
    }

    /// Lets the next batch try a failed disk.
    #[cfg(test)]
    pub(super) fn retry_now(&mut self) {
        if let Err(failed) = &mut self.log {
            failed.retry_at = Instant::now();
        }
    }

    pub(super) fn handle(&mut self, messages: &mut Vec<Message>) {
        self.try_again();
        let mut entries = Vec::new();
        let mut asks = Vec::new();
        for message in messages.drain(..) {
            match message {
                Message::Event(at, event) => entries.push(Entry::new(at, event).encode()),
                Message::Denied { at, caller, capability, reason } => {
                    self.deny(at, caller, capability, reason);
                }
                Message::Ask(ask) => asks.push(ask),
            }
        }
        self.write(entries);
        self.sign_if_due();
        for ask in asks {
            self.answer(ask);
        }
    }

    /// Alike refusals share an entry; unlike ones past the bound share one that names nobody.
    fn deny(&mut self, at: Time, caller: RawKey, capability: ShortText, reason: &'static str) {
        if self.denied.is_empty() && self.denied_others == 0 {
            self.pending_since.get_or_insert_with(Instant::now);
        }
        self.denied_at = at;
        let known = self.denied.len();
        match self.denied.entry((caller, capability, reason)) {
            std::collections::btree_map::Entry::Occupied(mut count) => *count.get_mut() += 1,
            std::collections::btree_map::Entry::Vacant(free) if known < DENIED_KINDS_MAX => {
                free.insert(1);
            }
            std::collections::btree_map::Entry::Vacant(_) => self.denied_others += 1,
        }
    }

    /// The entries that stand for what was refused and lost since the last checkpoint.
    fn gathered(&mut self) -> Vec<Vec<u8>> {
        let (at, now) = (self.denied_at, (self.now)());
        let mut events: Vec<Event> = std::mem::take(&mut self.denied)
            .into_iter()
            .map(|((caller, capability, reason), count)| Event::Denied {
                caller,
                capability,
                reason: short_text(reason),
                count,
            })
            .collect();
        let others = std::mem::take(&mut self.denied_others);
        if others > 0 {
            let (capability, reason) = (short_text(""), short_text("various callers"));
            events.push(Event::Denied {
                caller: RawKey([0; 32]),
                capability,
                reason,
                count: others,
            });
        }
        let mut entries: Vec<Vec<u8>> =
            events.into_iter().map(|event| Entry::new(at, event).encode()).collect();
        for (count, reason) in [
            (self.losses.unqueued.swap(0, Ordering::Relaxed), "the queue was full"),
            (std::mem::take(&mut self.unwritten), "the disk failed"),
        ] {
            if count > 0 {
                let lost = Event::Lost { count, reason: short_text(reason) };
                entries.push(Entry::new(now, lost).encode());
            }
        }
        entries
    }

    fn write(&mut self, entries: Vec<Vec<u8>>) {
        if entries.is_empty() {
            return;
        }
        let count = entries.len() as u64;
        let written = match &mut self.log {
            Ok(log) if log.journalled() < STUCK_ENTRIES_MAX => log.append(entries),
            Ok(_) => Err(AuditError::Unavailable { reason: "its journal is full".to_owned() }),
            Err(_) => {
                self.unwritten += count;
                return;
            }
        };
        match written {
            Ok(()) => {
                self.pending_since.get_or_insert_with(Instant::now);
            }
            Err(error) => {
                self.unwritten += count;
                self.fail(&error);
            }
        }
    }

    fn sign_if_due(&mut self) {
        let Ok(log) = &self.log else { return };
        let idle = self.pending_since.is_some_and(|since| since.elapsed() >= CHECKPOINT_EVERY);
        // The first peer that a new agent meets has something to be shown.
        let first = log.last_checkpoint().is_none() && log.size() > 0;
        if idle || first || log.pending() >= CHECKPOINT_PENDING_MAX {
            let signed = self.flush();
            if let Err(error) = signed {
                self.fail(&error);
                return;
            }
        }
        let Ok(log) = &mut self.log else { return };
        let tiles = idle && log.journalled() as u64 >= TILE_WIDTH;
        if tiles || log.journalled() >= JOURNAL_ENTRIES_MAX {
            let written = log.write_tiles();
            if let Err(error) = written {
                self.fail(&error);
            }
        }
    }

    /// Writes what was gathered and signs everything.
    fn flush(&mut self) -> Result<SignedCheckpoint> {
        let gathered = self.gathered();
        self.write(gathered);
        let log = self.log.as_mut().map_err(|failed| failed.error())?;
        let signed = log.checkpoint(&self.identity)?;
        self.pending_since = None;
        if self.published.back() != Some(&signed) {
            self.published.push_back(signed.clone());
        }
        if self.published.len() > PUBLISHED_KEPT {
            self.published.pop_front();
        }
        self.latest.send_replace(Some(signed.clone()));
        Ok(signed)
    }

    /// After an error nothing is known about the end of the file: the log is closed, and read anew when its disk may work again.
    fn fail(&mut self, error: &AuditError) {
        error!(%error, "the audit log cannot be written; entries are lost until it can, and will be counted");
        let reason = error.to_string();
        self.log = Err(Failed { reason, retry_at: Instant::now() + RETRY_AFTER });
        self.pending_since = None;
    }

    fn try_again(&mut self) {
        let Err(failed) = &mut self.log else { return };
        if Instant::now() < failed.retry_at {
            return;
        }
        let opened = (self.reopen)()
            .map_err(|source| AuditError::Io { what: "open its directory".to_owned(), source })
            .and_then(|disk| Log::open(disk, self.identity.id()));
        match opened {
            Ok((log, recovery)) => {
                info!(entries = recovery.size, "the audit log can be written again");
                self.log = Ok(log);
                self.pending_since = Some(Instant::now());
            }
            Err(error) => {
                warn!(%error, "the audit log still cannot be written");
                *failed =
                    Failed { reason: error.to_string(), retry_at: Instant::now() + RETRY_AFTER };
            }
        }
    }

    // Whoever asked may have gone; then nobody needs the answer.
    fn answer(&mut self, ask: Ask) {
        match ask {
            Ask::List { from, count, answer } => drop(answer.send(self.list(from, count))),
            Ask::Prove { index, answer } => drop(answer.send(self.prove(index))),
            Ask::Receipt { index, answer } => drop(answer.send(self.receipt(index))),
            Ask::Growth { old, new, answer } => {
                drop(answer.send(self.open_log().and_then(|log| log.prove_growth(old, new))));
            }
            Ask::Cosign { witness, observed, answer } => {
                drop(answer.send(self.cosigned(&witness, observed)));
            }
            Ask::Prune { before, answer } => drop(answer.send(self.prune(before))),
            Ask::Flush { answer } => drop(answer.send(self.flush())),
            Ask::Stop { answer } => self.stopping = Some(answer),
        }
    }

    fn open_log(&mut self) -> Result<&mut Log> {
        self.log.as_mut().map_err(|failed| failed.error())
    }

    fn list(&mut self, from: u64, count: usize) -> Result<Page> {
        let log = self.open_log()?;
        let size = log.size();
        let mut entries = Vec::new();
        for index in from..size.min(from.saturating_add(count as u64)) {
            entries.push(Listed { index, entry: log.entry(index)? });
        }
        Ok(Page { size, entries })
    }

    /// The checkpoint to prove under: one that witnesses signed, if it covers the entry.
    fn checkpoint_for(&mut self, index: u64) -> Result<SignedCheckpoint> {
        let log = self.open_log()?;
        let size = log.size();
        match log.checkpoint_over(index) {
            Some(signed) => Ok(signed.clone()),
            None if index < size => self.flush(),
            None => Err(AuditError::NoSuchEntry { index, size }),
        }
    }

    fn prove(&mut self, index: u64) -> Result<EntryProof> {
        let signed = self.checkpoint_for(index)?;
        let log = self.open_log()?;
        let entry = log.entry(index)?.ok_or(AuditError::Pruned { index })?;
        let inclusion = log.prove(index, signed.checkpoint())?;
        Ok(EntryProof::of_bytes(entry, inclusion, &signed))
    }

    fn receipt(&mut self, index: u64) -> Result<CoseReceipt> {
        let signed = self.checkpoint_for(index)?;
        let inclusion = self.open_log()?.prove(index, signed.checkpoint())?;
        Ok(CoseReceipt::sign(&self.identity, &inclusion, &signed.checkpoint().root))
    }

    fn cosigned(&mut self, witness: &AgentId, observed: Observed) -> Result<()> {
        let Observed { size, signature } = observed;
        let witnessed = self.open_log()?.witnessed().cloned();
        // With what others signed under it already, if they did.
        let mut shown = witnessed.iter().chain(&self.published);
        let shown = shown.find(|shown| shown.checkpoint().size == size).cloned();
        let mut shown = shown.ok_or(AuditError::NotShown { size })?;
        shown
            .add(witness, signature)
            .map_err(|error| AuditError::Cosignature { reason: error.to_string() })?;
        // Of two that have witnesses the newer one is kept: it covers more.
        match witnessed {
            Some(known) if known.checkpoint().size > size => Ok(()),
            Some(_) | None => {
                self.open_log()?.keep_witnessed(&shown)?;
                self.witnessed.send_replace(Some(shown));
                Ok(())
            }
        }
    }

    /// The entry that says so is under a checkpoint before anything goes.
    fn prune(&mut self, before: u64) -> Result<u64> {
        let log = self.open_log()?;
        let before = before.min(log.size()) / TILE_WIDTH * TILE_WIDTH;
        self.write(vec![Entry::new((self.now)(), Event::Pruned { before }).encode()]);
        self.flush()?;
        let log = self.open_log()?;
        log.write_tiles()?;
        log.prune(before)
    }
}

impl Failed {
    fn error(&self) -> AuditError {
        AuditError::Unavailable { reason: self.reason.clone() }
    }
}
