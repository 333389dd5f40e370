//! A program as a specialist: one JSON request a line on its stdin, one JSON answer a line on its stdout.
//!
//! The program is kept running (`workers` copies, each with one request at a time) and answers in order. A line
//! `{"error": {"message": …}}` is the program's own error. Whatever leaves a copy in doubt - no answer in time, a cancelled
//! call, a line that is not JSON or too long, output nobody asked for - ends that copy's whole process group and starts it
//! anew, because a late line would be taken for the next answer. (One thing cannot be told apart: a line of JSON that a
//! program says of itself while it starts, when a request is already waiting. Programs must not greet.) Copies that die are restarted with growing pauses. What
//! the program writes to stderr goes to the log (target `comity::specialist::exec`), cut to bounded lines.
//!
//! The program's environment is clean unless configured otherwise: the node's own may hold secrets. It has no shell:
//! a command given as text is split like a shell would, and nothing in it is expanded.

mod child;
mod worker;

pub(crate) use worker::reported;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde_json::Value;
use tokio::sync::{Notify, Semaphore, mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::call::{Answer, Ends, Invocation, Specialist};
use crate::error::SpecialistError;

/// Longest one call may take when nothing else is configured.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest answer line when nothing else is configured, bytes.
pub const DEFAULT_LINE_BYTES: usize = 4 * 1024 * 1024;
/// Longest request line, bytes.
pub const MAX_REQUEST_BYTES: usize = 1024 * 1024;
/// Calls that may wait when nothing else is configured.
pub const DEFAULT_WAITING: usize = 32;
/// Most copies of the program.
pub const MAX_WORKERS: usize = 64;
/// Longest line of stderr that is logged, bytes; the rest of the line is dropped.
pub const MAX_STDERR_LINE_BYTES: usize = 2048;
/// First pause before a restart.
pub const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Longest pause before a restart; pauses double up to it.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How long a program may take to end by itself after its stdin is closed and SIGTERM is sent.
pub const GRACE: Duration = Duration::from_secs(1);
/// Variables passed on to the program from the node's environment when it is otherwise clean.
pub const KEPT_VARIABLES: [&str; 6] = ["PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ"];

/// Which program to run and how.
#[derive(Debug, Clone)]
pub struct ExecConfig {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// Variables set for the program.
    pub env: BTreeMap<String, String>,
    /// What else the program's environment holds.
    pub environment: Environment,
    /// Working directory; the node's when absent.
    pub directory: Option<PathBuf>,
    /// Copies of the program, 1 to [`MAX_WORKERS`].
    pub workers: usize,
    /// Longest one call may take, waiting included.
    pub timeout: Duration,
    /// Longest answer line, bytes.
    pub max_line_bytes: usize,
    /// Calls that may wait while all copies work.
    pub max_waiting: usize,
    /// First pause before a restart.
    pub first_pause: Duration,
    /// Longest pause before a restart.
    pub longest_pause: Duration,
}

/// The environment a program starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Environment {
    /// Only [`KEPT_VARIABLES`] of the node's.
    Clean,
    /// All of the node's.
    Inherited,
}

/// Why a program cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// The command has no words, or a quote is not closed.
    #[error(
        "the command {command:?} cannot be split into words; close its quotes, or give a list of words"
    )]
    Command {
        /// The text given.
        command: String,
    },
    /// A number is out of its bounds.
    #[error("{what} must be from {min} to {max}")]
    OutOfBounds {
        /// Which one.
        what: &'static str,
        /// Smallest.
        min: usize,
        /// Largest.
        max: usize,
    },
    /// The program cannot be started.
    #[error(
        "cannot start {program:?}: {source}; check that it exists, is executable and is in PATH"
    )]
    Start {
        /// The first word.
        program: String,
        /// What the system says.
        source: std::io::Error,
    },
}

impl ExecConfig {
    /// The configuration that runs `argv` with the default limits.
    #[must_use]
    pub fn new(argv: Vec<String>) -> Self {
        Self {
            argv,
            env: BTreeMap::new(),
            environment: Environment::Clean,
            directory: None,
            workers: 1,
            timeout: DEFAULT_TIMEOUT,
            max_line_bytes: DEFAULT_LINE_BYTES,
            max_waiting: DEFAULT_WAITING,
            first_pause: FIRST_PAUSE,
            longest_pause: LONGEST_PAUSE,
        }
    }

    /// The same from a command line, split at blanks outside quotes as a POSIX shell does.
    ///
    /// # Errors
    /// [`ExecError::Command`] when it has no words or an open quote.
    pub fn from_command(command: &str) -> Result<Self, ExecError> {
        match shlex::split(command) {
            Some(argv) if !argv.is_empty() => Ok(Self::new(argv)),
            _ => Err(ExecError::Command { command: crate::error::printable(command, 200) }),
        }
    }
}

/// A program kept running. Dropping it ends the program and everything the program started.
#[derive(Debug)]
pub struct Exec {
    jobs: mpsc::Sender<Job>,
    admitted: Arc<Semaphore>,
    health: Arc<Health>,
    timeout: Duration,
    max_waiting: usize,
    workers: TaskTracker,
    stop: CancellationToken,
    _stop_when_dropped: DropGuard,
}

/// One call on its way to a worker.
struct Job {
    line: Vec<u8>,
    ends: Ends,
    reply: oneshot::Sender<Result<Value, SpecialistError>>,
}

impl Exec {
    /// Starts the program; needs a tokio runtime.
    ///
    /// # Errors
    /// [`ExecError`] when a setting is out of bounds or the program cannot be started at all. A program that starts and
    /// then dies is no error here: it is restarted, and calls in between fail as unavailable.
    pub fn start(config: ExecConfig) -> Result<Self, ExecError> {
        within("workers", config.workers, 1, MAX_WORKERS)?;
        within("max_line_bytes", config.max_line_bytes, 2, 1024 * 1024 * 1024)?;
        within("max_waiting", config.max_waiting, 0, 65_536)?;
        if config.argv.first().is_none_or(String::is_empty) {
            return Err(ExecError::Command { command: String::new() });
        }
        let config = Arc::new(config);
        let health = Arc::new(Health::default());
        let stop = CancellationToken::new();
        let (jobs, queue) = mpsc::channel(config.workers + config.max_waiting);
        let queue = Arc::new(tokio::sync::Mutex::new(queue));
        let mut workers = Vec::new();
        for index in 0..config.workers {
            workers.push(worker::Worker::start(index, &config, &queue, &health, &stop)?);
        }
        let tasks = TaskTracker::new();
        for worker in workers {
            tasks.spawn(worker.run());
        }
        tasks.close();
        Ok(Self {
            jobs,
            admitted: Arc::new(Semaphore::new(config.workers + config.max_waiting)),
            health,
            timeout: config.timeout,
            max_waiting: config.max_waiting,
            workers: tasks,
            stop: stop.clone(),
            _stop_when_dropped: stop.drop_guard(),
        })
    }

    /// How often a copy of the program was started anew since the start.
    #[must_use]
    pub fn restarts(&self) -> u64 {
        self.health.lock().restarts
    }
}

impl Specialist for Exec {
    fn call(&self, call: Invocation) -> BoxFuture<'_, Result<Answer, SpecialistError>> {
        let ends = call.ends(self.timeout);
        async move {
            let mut line = call.request.to_string().into_bytes();
            if line.len() > MAX_REQUEST_BYTES {
                return Err(SpecialistError::RequestTooLarge {
                    bytes: line.len(),
                    limit: MAX_REQUEST_BYTES,
                });
            }
            line.push(b'\n');
            let busy = || SpecialistError::Busy { waiting: self.max_waiting };
            let _admitted = Arc::clone(&self.admitted).try_acquire_owned().map_err(|_| busy())?;
            let (reply, mut answer) = oneshot::channel();
            // A withdrawn call may still be in the queue after its admission is given back.
            let job = Job { line, ends: ends.clone(), reply };
            self.health.down_beyond(ends.at()).map_or(Ok(()), Err)?;
            self.jobs.try_send(job).map_err(|_| busy())?;
            let stopped =
                || SpecialistError::Unavailable { what: "it is being stopped".to_owned() };
            let outcome = ends.bound(async {
                loop {
                    let changed = self.health.changed.notified();
                    tokio::pin!(changed);
                    // From here on no change is missed, so looking at the state once is enough.
                    changed.as_mut().enable();
                    let down = self.health.down_beyond(ends.at());
                    match (answer.try_recv(), down) {
                        (Ok(answer), _) => return answer,
                        (Err(oneshot::error::TryRecvError::Closed), _) => return Err(stopped()),
                        (Err(oneshot::error::TryRecvError::Empty), Some(down)) => return Err(down),
                        (Err(oneshot::error::TryRecvError::Empty), None) => {}
                    }
                    tokio::select! {
                        biased;
                        answer = &mut answer => return answer.unwrap_or_else(|_| Err(stopped())),
                        () = changed => {}
                    }
                }
            });
            match outcome.await {
                Ok(answer) => answer.map(Answer::One),
                Err(timeout @ SpecialistError::Timeout { .. }) => {
                    Err(self.health.down().unwrap_or(timeout))
                }
                Err(other) => Err(other),
            }
        }
        .boxed()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.stop.cancel();
        self.workers.wait().boxed()
    }
}

/// What callers may know of the workers.
#[derive(Debug, Default)]
struct Health {
    state: Mutex<HealthState>,
    /// Tells waiting calls that a worker went down.
    changed: Notify,
}

#[derive(Debug, Default)]
struct HealthState {
    /// For each worker when it starts again, `None` while it runs.
    next_starts: Vec<Option<Instant>>,
    restarts: u64,
    last_failure: String,
}

impl Health {
    fn lock(&self) -> std::sync::MutexGuard<'_, HealthState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn went_up(&self, worker: usize) {
        let mut state = self.lock();
        if worker >= state.next_starts.len() {
            state.next_starts.resize(worker + 1, None);
        }
        if let Some(slot) = state.next_starts.get_mut(worker)
            && slot.take().is_some()
        {
            state.restarts += 1;
        }
    }

    fn went_down(&self, worker: usize, what: &str, next_start: Instant) {
        let mut state = self.lock();
        what.clone_into(&mut state.last_failure);
        if let Some(slot) = state.next_starts.get_mut(worker) {
            *slot = Some(next_start);
        }
    }

    /// The error when no copy runs.
    fn down(&self) -> Option<SpecialistError> {
        let state = self.lock();
        state.next_starts.iter().all(Option::is_some).then(|| SpecialistError::Unavailable {
            what: format!("its program keeps ending: {}", state.last_failure),
        })
    }

    /// The error when no copy runs and none starts before `deadline`.
    fn down_beyond(&self, deadline: Instant) -> Option<SpecialistError> {
        let first = self
            .lock()
            .next_starts
            .iter()
            .map(|next| next.filter(|next| *next > deadline))
            .min()
            .flatten();
        first.and_then(|_| self.down())
    }
}

fn within(what: &'static str, value: usize, min: usize, max: usize) -> Result<(), ExecError> {
    if (min..=max).contains(&value) {
        Ok(())
    } else {
        Err(ExecError::OutOfBounds { what, min, max })
    }
}
