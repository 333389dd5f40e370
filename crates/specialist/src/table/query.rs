//! Running a plan on a reader connection.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::StreamExt;
use futures_util::stream;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, params_from_iter};
use serde_json::{Map, Value};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::request::Plan;
use super::summary::TableSummary;
use super::value::{ColumnType, decimal_json, timestamp_text};
use super::{commit, import};
use crate::call::{Answer, Ends};
use crate::error::SpecialistError;

/// Rows of one part of a streamed answer; an answer with no more is given whole.
pub const CHUNK_ROWS: usize = 256;
/// Bytes of row values after which a part is closed before it has [`CHUNK_ROWS`].
pub const CHUNK_BYTES: usize = 256 * 1024;
/// Connections of one table, and so queries running at a time.
pub const MAX_READERS: usize = 4;
/// Calls that may wait for a connection.
pub const MAX_WAITING: usize = 64;
/// Parts made ahead of the consumer.
const PARTS_AHEAD: usize = 2;
/// Engine instructions between two looks at the clock and the cancel token; a few tens of microseconds.
const STEPS_BETWEEN_CHECKS: i32 = 2_000;
/// Page cache of a reader, KiB.
const READER_CACHE_KIB: i32 = 4 * 1024;

/// Reader connections of one table, made when first needed.
#[derive(Debug)]
pub(super) struct Readers {
    database: PathBuf,
    summary: Arc<TableSummary>,
    /// Over the stored subtrees; read when the first proof is asked for.
    tree: std::sync::OnceLock<comity_core::merkle::Tree>,
    idle: Mutex<Vec<Connection>>,
    running: Arc<Semaphore>,
    admitted: Arc<Semaphore>,
}

impl Readers {
    pub(super) fn new(database: PathBuf, summary: Arc<TableSummary>) -> Self {
        Self {
            database,
            summary,
            tree: std::sync::OnceLock::new(),
            idle: Mutex::new(Vec::new()),
            running: Arc::new(Semaphore::new(MAX_READERS)),
            admitted: Arc::new(Semaphore::new(MAX_READERS + MAX_WAITING)),
        }
    }

    /// Runs `plan`, as one answer or as a stream of parts.
    pub(super) async fn run(
        self: &Arc<Self>,
        plan: Ask,
        ends: Ends,
    ) -> Result<Answer, SpecialistError> {
        let admitted = Arc::clone(&self.admitted)
            .try_acquire_owned()
            .map_err(|_| SpecialistError::Busy { waiting: MAX_WAITING })?;
        let running = ends.bound(Arc::clone(&self.running).acquire_owned()).await?;
        let running = running
            .map_err(|_| SpecialistError::Unavailable { what: "the table is closed".to_owned() })?;
        let (sender, mut parts) = mpsc::channel(PARTS_AHEAD);
        let job = Job {
            readers: Arc::clone(self),
            plan,
            ends: ends.clone(),
            sender,
            _held: [admitted, running],
        };
        let runtime = tokio::runtime::Handle::current();
        tokio::task::spawn_blocking(move || job.run(&runtime));
        match ends.bound(parts.recv()).await? {
            None => Err(SpecialistError::Crashed {
                what: "the query ended without an answer".to_owned(),
            }),
            Some(Err(error)) => Err(error),
            Some(Ok(Part { value, last: true })) => Ok(Answer::One(value)),
            Some(Ok(Part { value, last: false })) => {
                Ok(Answer::Stream(following(value, parts, ends).boxed()))
            }
        }
    }

    fn take(&self) -> rusqlite::Result<Connection> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        if let Some(connection) = idle {
            return Ok(connection);
        }
        let connection = import::open(&self.database)?;
        connection.pragma_update(None, "cache_size", -READER_CACHE_KIB)?;
        Ok(connection)
    }

    fn put(&self, connection: Connection) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
    }
}

/// The first part and those after it. Ends with an error when the call is over or the query stopped without a last part.
fn following(
    first: Value,
    parts: mpsc::Receiver<Result<Part, SpecialistError>>,
    ends: Ends,
) -> impl futures_util::Stream<Item = Result<Value, SpecialistError>> + Send + 'static {
    enum State {
        More(mpsc::Receiver<Result<Part, SpecialistError>>),
        Done,
    }
    let rest = stream::unfold((State::More(parts), ends), |(state, ends)| async move {
        let State::More(mut parts) = state else { return None };
        match ends.bound(parts.recv()).await {
            Ok(Some(Ok(Part { value, last: false }))) => {
                Some((Ok(value), (State::More(parts), ends)))
            }
            Ok(Some(Ok(Part { value, last: true }))) => Some((Ok(value), (State::Done, ends))),
            Ok(Some(Err(error))) | Err(error) => Some((Err(error), (State::Done, ends))),
            Ok(None) => {
                let error =
                    SpecialistError::Crashed { what: "the query ended in the middle".to_owned() };
                Some((Err(error), (State::Done, ends)))
            }
        }
    });
    stream::iter([Ok(first)]).chain(rest)
}

/// What is asked of a table.
#[derive(Debug)]
pub(super) enum Ask {
    /// Rows that fit.
    Query(Plan),
    /// Rows by number, with proofs.
    Prove(Vec<u64>),
}

struct Part {
    value: Value,
    last: bool,
}

/// One query, on its blocking thread.
struct Job {
    readers: Arc<Readers>,
    plan: Ask,
    ends: Ends,
    sender: mpsc::Sender<Result<Part, SpecialistError>>,
    _held: [OwnedSemaphorePermit; 2],
}

/// Why a query stopped.
enum Stop {
    Engine(rusqlite::Error),
    Call(SpecialistError),
    /// Nobody takes the parts any more.
    Abandoned,
}

impl From<rusqlite::Error> for Stop {
    fn from(error: rusqlite::Error) -> Self {
        Self::Engine(error)
    }
}

impl Job {
    fn run(self, runtime: &tokio::runtime::Handle) {
        let stop = match self.readers.take() {
            Ok(mut connection) => {
                let outcome = self.query(&mut connection, runtime);
                if connection.progress_handler::<fn() -> bool>(0, None).is_ok() {
                    self.readers.put(connection);
                }
                outcome.err()
            }
            Err(error) => Some(Stop::Engine(error)),
        };
        let error = match stop {
            None | Some(Stop::Abandoned) => return,
            Some(Stop::Call(error)) => error,
            Some(Stop::Engine(error)) => self.ends.over().unwrap_or_else(|| {
                tracing::warn!(target: "comity::specialist::table", database = %self.readers.database.display(), %error, "query failed");
                SpecialistError::Unavailable { what: "its table cannot be read; its operator should serve it anew".to_owned() }
            }),
        };
        // The receiver looks at the same clock, so a full channel here means it has its error already.
        drop(self.sender.try_send(Err(error)));
    }

    fn query(
        &self,
        connection: &mut Connection,
        runtime: &tokio::runtime::Handle,
    ) -> Result<(), Stop> {
        let (ends, sender) = (self.ends.clone(), self.sender.clone());
        connection.progress_handler(
            STEPS_BETWEEN_CHECKS,
            Some(move || ends.over().is_some() || sender.is_closed()),
        )?;
        let plan = match &self.plan {
            Ask::Query(plan) => plan,
            Ask::Prove(indexes) => {
                let summary = &self.readers.summary;
                let tree = match self.readers.tree.get() {
                    Some(tree) => tree,
                    None => {
                        let tree = commit::stored(connection)?;
                        self.readers.tree.get_or_init(|| tree)
                    }
                };
                let answer = commit::prove(connection, summary, tree, indexes)?;
                return self.send(runtime, answer, true);
            }
        };
        let mut total = match &plan.count_sql {
            Some(sql) => {
                let mut count = connection.prepare_cached(sql)?;
                Some(count.query_row(params_from_iter(&plan.values), |row| row.get::<_, i64>(0))?)
            }
            None => None,
        };
        let mut statement = connection.prepare_cached(&plan.rows_sql)?;
        let mut found = statement.query(params_from_iter(&plan.values))?;
        let mut chunk: Vec<Value> = Vec::new();
        let (mut given, mut bytes, mut truncated) = (0_u64, 0_usize, false);
        while let Some(row) = found.next()? {
            if given == plan.limit {
                truncated = true;
                break;
            }
            if chunk.len() >= CHUNK_ROWS || bytes >= CHUNK_BYTES {
                self.send(runtime, self.part(plan, std::mem::take(&mut chunk)), false)?;
                bytes = 0;
            }
            chunk.push(self.row(plan, row, &mut bytes)?);
            given += 1;
        }
        if !truncated && total.is_none() && (given > 0 || plan.offset == 0) {
            total = i64::try_from(plan.offset + given).ok();
        }
        let mut last = self.part(plan, chunk);
        last["truncated"] = Value::Bool(truncated);
        if let Some(total) = total {
            last["total"] = Value::from(total);
        }
        self.send(runtime, last, true)
    }

    fn part(&self, plan: &Plan, rows: Vec<Value>) -> Value {
        let names = self.chosen(plan).map(|(name, _)| Value::from(name)).collect();
        let mut part = Map::new();
        part.insert("columns".to_owned(), Value::Array(names));
        part.insert("rows".to_owned(), Value::Array(rows));
        Value::Object(part)
    }

    fn row(
        &self,
        plan: &Plan,
        row: &rusqlite::Row<'_>,
        bytes: &mut usize,
    ) -> rusqlite::Result<Value> {
        let mut values = Vec::with_capacity(plan.columns.len());
        for (i, (_, kind)) in self.chosen(plan).enumerate() {
            let value = row.get_ref(i)?;
            *bytes += if let ValueRef::Text(text) = value { text.len() + 8 } else { 8 };
            values.push(json_value(value, kind));
        }
        Ok(Value::Array(values))
    }

    fn chosen<'a>(&'a self, plan: &'a Plan) -> impl Iterator<Item = (&'a str, ColumnType)> {
        let all = &self.readers.summary.columns;
        plan.columns
            .iter()
            .filter_map(|i| all.get(*i))
            .map(|column| (column.name.as_str(), column.kind))
    }

    fn send(&self, runtime: &tokio::runtime::Handle, value: Value, last: bool) -> Result<(), Stop> {
        match runtime.block_on(self.ends.bound(self.sender.send(Ok(Part { value, last })))) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Stop::Abandoned),
            Err(error) => Err(Stop::Call(error)),
        }
    }
}

pub(super) fn json_value(value: ValueRef<'_>, kind: ColumnType) -> Value {
    match (value, kind) {
        (ValueRef::Integer(n), ColumnType::Bool) => Value::Bool(n != 0),
        (ValueRef::Integer(n), ColumnType::Timestamp) => Value::String(timestamp_text(n)),
        (ValueRef::Integer(n), _) => Value::from(n),
        (ValueRef::Real(x), _) => decimal_json(x),
        (ValueRef::Text(text), ColumnType::Set | ColumnType::Json) => {
            serde_json::from_slice(text).unwrap_or(Value::Null)
        }
        (ValueRef::Text(text), _) => Value::String(String::from_utf8_lossy(text).into_owned()),
        (ValueRef::Null | ValueRef::Blob(_), _) => Value::Null,
    }
}
