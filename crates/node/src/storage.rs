//! What a node keeps on disk: remembered peers, custody, capabilities, counters, in one redb database.
//!
//! All writes go through one thread that commits everything waiting in a single durable transaction: a caller that
//! got `Ok` keeps its data through `kill -9` and power loss, and a burst of small writes costs one `fsync`.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use redb::{Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};
use tracing::{info, warn};

/// Writes that wait for the writer at once; past it a caller waits.
const QUEUE_LEN_MAX: usize = 256;
/// Writes committed in one transaction.
const BATCH_LEN_MAX: usize = 256;
/// Layout of the tables below; a database of another version is refused, never converted silently.
const LAYOUT_VERSION: u64 = 1;
/// Memory the database may use for its page cache, in bytes.
const CACHE_BYTES_MAX: usize = 16 << 20;

const VERSION: TableDefinition<'_, &str, u64> = TableDefinition::new("version");

/// One kind of thing kept, with byte keys and byte values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Table {
    /// AgentId -> where it was last reached.
    Peers,
    /// Place in the overlay -> who keeps this agent's items there.
    Places,
    /// Custody key -> the item held for other agents.
    Custody,
    /// Capability name -> what this node serves.
    Capabilities,
    /// Counters and small state by name.
    State,
    /// Handle -> the AgentId it meant at first use.
    Pins,
    /// AgentId -> the last checkpoint of its audit log that was found in order.
    Witnessed,
    /// AgentId -> the proof that its audit log has two histories.
    Equivocations,
    /// Hash of a grant's last link -> the chain, given or held.
    Grants,
    /// Hash of a grant's link -> what it has used up.
    Counters,
    /// AgentId and capability -> a request for access that waits, or how it was answered.
    Requests,
    /// AgentId and capability -> a request for access of this agent's own.
    Asked,
    /// Hash of an endorsement -> its envelope, given or received.
    Endorsements,
    /// Name of a question -> the answer kept for reuse.
    Results,
    /// Time and hash -> a receipt of a call made or served.
    Receipts,
    /// AgentId -> own experience with it.
    Reputation,
    /// AgentId -> the proof that it contradicted itself.
    Contradictions,
    /// AgentId and time -> a signed retraction, own or heard of.
    Retractions,
    /// Name of a piece of evidence about this agent -> it.
    Evidence,
    /// AgentId and capability -> what came of calling it.
    Experience,
    /// AgentId and capability -> the last quorum that it agreed with.
    Agreements,
    /// Root of a committed trace -> its length and time.
    Traces,
    /// Root of a committed trace -> its secret and steps.
    TraceSteps,
    /// Key of a group with a charter -> the charter and the admissions to it, given and received.
    Charters,
}

impl Table {
    const ALL: [Self; 24] = [
        Self::Peers,
        Self::Places,
        Self::Custody,
        Self::Capabilities,
        Self::State,
        Self::Pins,
        Self::Witnessed,
        Self::Equivocations,
        Self::Grants,
        Self::Counters,
        Self::Requests,
        Self::Asked,
        Self::Endorsements,
        Self::Results,
        Self::Receipts,
        Self::Reputation,
        Self::Contradictions,
        Self::Retractions,
        Self::Evidence,
        Self::Experience,
        Self::Agreements,
        Self::Traces,
        Self::TraceSteps,
        Self::Charters,
    ];

    fn definition(self) -> TableDefinition<'static, &'static [u8], &'static [u8]> {
        TableDefinition::new(match self {
            Self::Peers => "peers",
            Self::Places => "places",
            Self::Custody => "custody",
            Self::Capabilities => "capabilities",
            Self::State => "state",
            Self::Pins => "pins",
            Self::Witnessed => "witnessed",
            Self::Equivocations => "equivocations",
            Self::Grants => "grants",
            Self::Counters => "counters",
            Self::Requests => "requests",
            Self::Asked => "asked",
            Self::Endorsements => "endorsements",
            Self::Results => "results",
            Self::Receipts => "receipts",
            Self::Reputation => "reputation",
            Self::Contradictions => "contradictions",
            Self::Retractions => "retractions",
            Self::Evidence => "evidence",
            Self::Experience => "experience",
            Self::Agreements => "agreements",
            Self::Traces => "traces",
            Self::TraceSteps => "trace-steps",
            Self::Charters => "charters",
        })
    }
}

/// One change.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    Put { table: Table, key: Vec<u8>, value: Vec<u8> },
    Delete { table: Table, key: Vec<u8> },
}

/// Why the database cannot be opened, read or written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StorageError {
    /// The database cannot be opened.
    #[error(
        "cannot open the database {path}: {reason}; if the file is damaged, move it away and the node starts with an empty one under the same identity"
    )]
    Open {
        /// The database file.
        path: PathBuf,
        /// What redb said.
        reason: String,
    },
    /// The database was written by a program with another layout.
    #[error(
        "the database {path} has layout {found} and this program writes {LAYOUT_VERSION}: run the version of comity that wrote it, or use a new --home"
    )]
    Layout {
        /// The database file.
        path: PathBuf,
        /// The layout found.
        found: u64,
    },
    /// The disk is full.
    #[error(
        "the disk that holds {path} is full: nothing stored before is lost, and storing works again once there is room"
    )]
    Full {
        /// The database file.
        path: PathBuf,
    },
    /// Reading or writing failed otherwise.
    #[error("the database {path} failed: {reason}")]
    Failed {
        /// The database file.
        path: PathBuf,
        /// What redb said.
        reason: String,
    },
    /// The writer has ended because the node is shutting down.
    #[error("the node is shutting down")]
    Closed,
}

/// Handle to the database; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Storage {
    shared: Arc<Shared>,
    orders: mpsc::Sender<Order>,
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    /// Taken out and opened again after an I/O error, when redb refuses further use of its handle; taken out for good when the node stops.
    database: RwLock<Option<Database>>,
    closed: AtomicBool,
    open: fn(&Path) -> Result<Database, redb::DatabaseError>,
}

#[derive(Debug)]
enum Order {
    Write(Job),
    /// Commit what waits, let go of the file, and end.
    Close(oneshot::Sender<()>),
}

#[derive(Debug)]
struct Job {
    changes: Vec<Change>,
    done: oneshot::Sender<Result<(), StorageError>>,
}

impl Storage {
    /// Opens the database at `path`, creating it if it is not there. An unclean shutdown is repaired here.
    pub(crate) fn open(path: &Path) -> Result<Self, StorageError> {
        Self::open_with(path, |path| {
            Database::builder().set_cache_size(CACHE_BYTES_MAX).create(path)
        })
    }

    /// A database in memory, for nodes that keep nothing.
    pub(crate) fn in_memory() -> Result<Self, StorageError> {
        Self::open_with(Path::new("(memory)"), |_| {
            Database::builder()
                .set_cache_size(CACHE_BYTES_MAX)
                .create_with_backend(redb::backends::InMemoryBackend::new())
        })
    }

    fn open_with(
        path: &Path,
        open: fn(&Path) -> Result<Database, redb::DatabaseError>,
    ) -> Result<Self, StorageError> {
        let failed = |reason: String| StorageError::Open { path: path.to_owned(), reason };
        let database = open(path).map_err(|error| failed(error.to_string()))?;
        Self::start(path, database, open)
    }

    /// Runs on a given backend: how tests put a failing disk underneath.
    #[cfg(test)]
    fn with_backend(backend: impl redb::StorageBackend) -> Result<Self, StorageError> {
        let path = Path::new("(test)");
        let failed = |reason: String| StorageError::Open { path: path.to_owned(), reason };
        let database = Database::builder()
            .create_with_backend(backend)
            .map_err(|error| failed(error.to_string()))?;
        Self::start(path, database, |_| {
            Err(redb::DatabaseError::Storage(redb::StorageError::Io(
                io::ErrorKind::StorageFull.into(),
            )))
        })
    }

    fn start(
        path: &Path,
        database: Database,
        open: fn(&Path) -> Result<Database, redb::DatabaseError>,
    ) -> Result<Self, StorageError> {
        prepare(path, &database)?;
        let shared = Arc::new(Shared {
            path: path.to_owned(),
            database: RwLock::new(Some(database)),
            closed: AtomicBool::new(false),
            open,
        });
        let (orders, inbox) = mpsc::channel(QUEUE_LEN_MAX);
        let writer = Arc::clone(&shared);
        thread::Builder::new()
            .name("comity-storage".to_owned())
            .spawn(move || run_writer(&writer, inbox))
            .map_err(|error| StorageError::Open {
                path: path.to_owned(),
                reason: error.to_string(),
            })?;
        Ok(Self { shared, orders })
    }

    /// Commits `changes` together; `Ok` means they are on disk.
    pub(crate) async fn commit(&self, changes: Vec<Change>) -> Result<(), StorageError> {
        if changes.is_empty() {
            return Ok(());
        }
        let (done, answer) = oneshot::channel();
        let order = Order::Write(Job { changes, done });
        self.orders.send(order).await.map_err(|_| StorageError::Closed)?;
        answer.await.unwrap_or(Err(StorageError::Closed))
    }

    /// Commits what waits and lets go of the file, whoever else holds a handle: another node may open it afterwards.
    pub(crate) async fn close(&self) {
        let (done, closed) = oneshot::channel();
        if self.orders.send(Order::Close(done)).await.is_ok() {
            // Nothing answers only if the writer is gone, and with it the file.
            let _closed = closed.await;
        }
    }

    /// What was read makes no sense.
    pub(crate) fn damaged(&self, reason: &str) -> StorageError {
        self.shared.failed(&reason)
    }

    /// Everything in `table`, in key order, at most `len_max` entries.
    pub(crate) fn read_all(
        &self,
        table: Table,
        len_max: usize,
    ) -> Result<Vec<(Vec<u8>, Vec<u8>)>, StorageError> {
        self.shared.read(|database| {
            let transaction = database.begin_read().map_err(redb::Error::from)?;
            let table = transaction.open_table(table.definition())?;
            let mut entries =
                Vec::with_capacity(len_max.min(usize::try_from(table.len()?).unwrap_or(0)));
            for entry in table.iter()?.take(len_max) {
                let (key, value) = entry?;
                entries.push((key.value().to_vec(), value.value().to_vec()));
            }
            Ok(entries)
        })
    }

    /// Shows every entry of `table`, in key order, until `look` has seen enough and returns false.
    pub(crate) fn scan(
        &self,
        table: Table,
        mut look: impl FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), StorageError> {
        self.shared.read(|database| {
            let transaction = database.begin_read().map_err(redb::Error::from)?;
            let table = transaction.open_table(table.definition())?;
            for entry in table.iter()? {
                let (key, value) = entry?;
                if !look(key.value(), value.value()) {
                    break;
                }
            }
            Ok(())
        })
    }

    /// The value under `key`, if any.
    pub(crate) fn read(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        self.shared.read(|database| {
            let transaction = database.begin_read().map_err(redb::Error::from)?;
            let table = transaction.open_table(table.definition())?;
            Ok(table.get(key)?.map(|value| value.value().to_vec()))
        })
    }
}

impl Shared {
    fn read<T>(
        &self,
        read: impl FnOnce(&Database) -> Result<T, redb::Error>,
    ) -> Result<T, StorageError> {
        let database = self.database.read().map_err(|_| StorageError::Closed)?;
        if self.closed.load(Ordering::Acquire) {
            return Err(StorageError::Closed);
        }
        let database = database
            .as_ref()
            .ok_or_else(|| self.failed(&"it is being reopened after a disk error"))?;
        read(database).map_err(|error| self.classify(&error))
    }

    fn failed(&self, reason: &impl ToString) -> StorageError {
        StorageError::Failed { path: self.path.clone(), reason: reason.to_string() }
    }

    fn classify(&self, error: &redb::Error) -> StorageError {
        let full = if let redb::Error::Io(error) = error { is_full(error) } else { false };
        if full { StorageError::Full { path: self.path.clone() } } else { self.failed(error) }
    }

    /// After an I/O error redb refuses its handle for good; a new one starts from the last commit.
    fn reopen(&self) {
        let Ok(mut slot) = self.database.write() else { return };
        drop(slot.take());
        match (self.open)(&self.path) {
            Ok(database) => *slot = Some(database),
            Err(error) => {
                warn!(path = %self.path.display(), %error, "the database cannot be reopened yet")
            }
        }
    }

    fn apply(&self, jobs: &[Job]) -> Result<(), redb::Error> {
        let slot = self
            .database
            .read()
            .map_err(|_| redb::Error::Io(io::Error::other("the database lock is poisoned")))?;
        let database = slot.as_ref().ok_or(redb::Error::PreviousIo)?;
        let transaction = database.begin_write().map_err(redb::Error::from)?;
        for change in jobs.iter().flat_map(|job| &job.changes) {
            match change {
                Change::Put { table, key, value } => {
                    transaction
                        .open_table(table.definition())?
                        .insert(key.as_slice(), value.as_slice())?;
                }
                Change::Delete { table, key } => {
                    transaction.open_table(table.definition())?.remove(key.as_slice())?;
                }
            }
        }
        transaction.commit().map_err(redb::Error::from)
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}

/// Creates the tables and checks the layout version.
fn prepare(path: &Path, database: &Database) -> Result<(), StorageError> {
    let mut found = LAYOUT_VERSION;
    let mut create = || -> Result<(), redb::Error> {
        let transaction = database.begin_write().map_err(redb::Error::from)?;
        {
            let mut version = transaction.open_table(VERSION)?;
            let stored = version.get("layout")?.map(|value| value.value());
            match stored {
                Some(value) => found = value,
                None => {
                    version.insert("layout", LAYOUT_VERSION)?;
                }
            }
            for table in Table::ALL {
                transaction.open_table(table.definition())?;
            }
        }
        transaction.commit().map_err(redb::Error::from)
    };
    create()
        .map_err(|error| StorageError::Open { path: path.to_owned(), reason: error.to_string() })?;
    if found == LAYOUT_VERSION {
        Ok(())
    } else {
        Err(StorageError::Layout { path: path.to_owned(), found })
    }
}

fn run_writer(shared: &Shared, mut inbox: mpsc::Receiver<Order>) {
    let mut last = None;
    while last.is_none()
        && let Some(first) = inbox.blocking_recv()
    {
        let mut batch = Vec::new();
        let mut next = Some(first);
        while let Some(order) = next {
            match order {
                Order::Write(job) => batch.push(job),
                Order::Close(done) => {
                    last = Some(done);
                    break;
                }
            }
            next = if batch.len() < BATCH_LEN_MAX { inbox.try_recv().ok() } else { None };
        }
        if !batch.is_empty() {
            write(shared, batch);
        }
    }
    shared.closed.store(true, Ordering::Release);
    // Readers finish first; a poisoned lock is that of a reader that is gone.
    let mut slot = shared.database.write().unwrap_or_else(PoisonError::into_inner);
    drop(slot.take());
    drop(slot);
    info!(path = %shared.path.display(), "storage closed");
    if let Some(done) = last {
        // Whoever asked may have stopped waiting.
        let _gone = done.send(());
    }
}

fn write(shared: &Shared, batch: Vec<Job>) {
    let mut result = shared.apply(&batch);
    if matches!(result, Err(redb::Error::PreviousIo)) {
        shared.reopen();
        result = shared.apply(&batch);
    }
    if result.is_err() {
        shared.reopen();
    }
    for job in batch {
        let answer = match &result {
            Ok(()) => Ok(()),
            Err(error) => Err(shared.classify(error)),
        };
        // A caller that stopped waiting has no use for the answer.
        let _gone = job.done.send(answer);
    }
}

#[cfg(test)]
mod tests {
    use redb::{StorageBackend, backends::InMemoryBackend};

    use super::*;

    fn put(key: &str, value: &str) -> Change {
        Change::Put { table: Table::State, key: key.into(), value: value.into() }
    }

    #[tokio::test]
    async fn what_was_committed_is_there_after_reopening() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("node.redb");
        let storage = Storage::open(&path).unwrap();
        storage.commit(vec![put("a", "1"), put("b", "2")]).await.unwrap();
        storage
            .commit(vec![Change::Delete { table: Table::State, key: b"a".into() }])
            .await
            .unwrap();
        // A copy of the file as it is now is what a killed process leaves behind.
        let copy = directory.path().join("copy.redb");
        std::fs::copy(&path, &copy).unwrap();
        let storage = Storage::open(&copy).unwrap();
        assert_eq!(storage.read(Table::State, b"a").unwrap(), None);
        assert_eq!(storage.read(Table::State, b"b").unwrap().as_deref(), Some(&b"2"[..]));
        assert_eq!(storage.read_all(Table::State, 10).unwrap().len(), 1);
        assert!(storage.read_all(Table::Peers, 10).unwrap().is_empty());
    }

    #[tokio::test]
    async fn many_writers_share_commits_and_none_is_lost() {
        let storage = Storage::in_memory().unwrap();
        let writes = (0..500).map(|i| {
            let storage = storage.clone();
            tokio::spawn(async move { storage.commit(vec![put(&i.to_string(), "x")]).await })
        });
        for write in writes.collect::<Vec<_>>() {
            write.await.unwrap().unwrap();
        }
        assert_eq!(storage.read_all(Table::State, 1000).unwrap().len(), 500);
    }

    #[tokio::test]
    async fn closing_commits_what_waits_and_lets_another_open_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("node.redb");
        let storage = Storage::open(&path).unwrap();
        let (kept, other) = (storage.clone(), storage.clone());
        let writes = (0..100).map(|n: u32| storage.commit(vec![put(&n.to_string(), "x")]));
        let (written, ()) = tokio::join!(futures_util::future::join_all(writes), other.close());
        assert!(written.into_iter().all(|written| written.is_ok()));
        assert!(matches!(kept.read(Table::State, b"1"), Err(StorageError::Closed)));
        assert!(matches!(kept.commit(vec![put("a", "1")]).await, Err(StorageError::Closed)));
        // Once more is no harm.
        kept.close().await;
        let again = Storage::open(&path).unwrap();
        assert_eq!(again.read_all(Table::State, 1000).unwrap().len(), 100);
    }

    #[test]
    fn a_damaged_file_is_refused_by_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("node.redb");
        std::fs::write(&path, vec![7; 4096]).unwrap();
        let error = Storage::open(&path).unwrap_err();
        assert!(matches!(error, StorageError::Open { .. }), "{error}");
        assert!(error.to_string().contains("node.redb"), "{error}");
    }

    #[derive(Debug)]
    struct FullDisk {
        inner: InMemoryBackend,
        full: Arc<AtomicBool>,
    }

    impl FullDisk {
        fn check(&self) -> Result<(), io::Error> {
            if self.full.load(Ordering::SeqCst) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            Ok(())
        }
    }

    impl StorageBackend for FullDisk {
        fn len(&self) -> Result<u64, io::Error> {
            self.inner.len()
        }
        fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
            self.inner.read(offset, out)
        }
        fn set_len(&self, len: u64) -> Result<(), io::Error> {
            self.check()?;
            self.inner.set_len(len)
        }
        fn sync_data(&self) -> Result<(), io::Error> {
            self.check()?;
            self.inner.sync_data()
        }
        fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
            self.check()?;
            self.inner.write(offset, data)
        }
    }

    #[tokio::test]
    async fn a_full_disk_is_named_and_does_not_panic() {
        let full = Arc::new(AtomicBool::new(false));
        let storage = Storage::with_backend(FullDisk {
            inner: InMemoryBackend::new(),
            full: Arc::clone(&full),
        })
        .unwrap();
        storage.commit(vec![put("a", "1")]).await.unwrap();
        full.store(true, Ordering::SeqCst);
        let error = storage.commit(vec![put("b", "2")]).await.unwrap_err();
        assert!(matches!(error, StorageError::Full { .. }), "{error}");
        assert!(storage.commit(vec![put("c", "3")]).await.is_err());
    }
}
