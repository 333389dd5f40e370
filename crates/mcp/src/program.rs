//! A program that speaks MCP on its standard input and output: started clean, watched, its last words kept, its restarts
//! slowed down.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::lines::{self, Line};

/// Longest line a program may write, in bytes.
pub const LINE_BYTES_MAX: usize = 48 << 20;
/// Longest line of standard error that is kept, in bytes.
const STDERR_LINE_MAX: usize = 4 << 10;
/// Most bytes of standard error kept on disk; then it begins anew, and the older half is the file's `.old`.
const STDERR_BYTES_MAX: u64 = 1 << 20;
/// A program that ran for less has failed to start.
const SETTLED: Duration = Duration::from_secs(10);
/// Pause before the second restart; doubles up to the longest.
const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// Variables of the environment that a program keeps: none that could hold a secret.
const KEPT_VARIABLES: [&str; 8] =
    ["PATH", "HOME", "USER", "LANG", "LC_ALL", "TZ", "TMPDIR", "SHELL"];

/// What to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// The program and its arguments; no shell is involved.
    pub command: Vec<String>,
    /// Variables it gets besides the few that every program keeps.
    pub env: BTreeMap<String, String>,
    /// Where it runs.
    pub directory: Option<PathBuf>,
    /// File that keeps its standard error.
    pub log: PathBuf,
}

/// Why a program does not run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// It ended too often too soon.
    #[error("its MCP server keeps ending and is started again in {} s", .after.as_secs().max(1))]
    Pausing {
        /// Time until it may be started.
        after: Duration,
    },
    /// The system refuses.
    #[error("its MCP server cannot be started: {reason}")]
    Start {
        /// What the system says.
        reason: String,
    },
}

/// A running program. Dropping it kills its process group.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    group: Option<Pid>,
    stdin: tokio::sync::Mutex<Option<ChildStdin>>,
    _stderr: AbortOnDropHandle<()>,
}

impl Process {
    /// Starts `program`; its output is read by whoever gets it.
    pub(crate) fn start(program: &Program) -> Result<(Self, BufReader<ChildStdout>), StartError> {
        let failed = |error: io::Error| StartError::Start { reason: error.to_string() };
        let (name, arguments) = program
            .command
            .split_first()
            .ok_or_else(|| failed(io::Error::other("no program is named")))?;
        let mut command = Command::new(name);
        command.args(arguments).env_clear();
        for name in KEPT_VARIABLES {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command.envs(&program.env);
        if let Some(directory) = &program.directory {
            command.current_dir(directory);
        }
        // A group of its own, so that what the program starts ends with it.
        command.process_group(0).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(failed)?;
        let lost = || failed(io::ErrorKind::BrokenPipe.into());
        let stdin = child.stdin.take().ok_or_else(lost)?;
        let stdout = child.stdout.take().ok_or_else(lost)?;
        let stderr = child.stderr.take().ok_or_else(lost)?;
        let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let log = AbortOnDropHandle::new(tokio::spawn(keep_stderr(stderr, program.log.clone())));
        let process =
            Self { child, group, stdin: tokio::sync::Mutex::new(Some(stdin)), _stderr: log };
        Ok((process, BufReader::new(stdout)))
    }

    /// Writes one message.
    pub(crate) async fn write(&self, message: &[u8]) -> io::Result<()> {
        let mut stdin = self.stdin.lock().await;
        let stdin = stdin.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        // A line end inside would make two messages of one; JSON needs none.
        let mut line: Vec<u8> =
            message.iter().copied().filter(|byte| !matches!(byte, b'\n' | b'\r')).collect();
        line.push(b'\n');
        stdin.write_all(&line).await?;
        stdin.flush().await
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Only while its leader is not reaped, so that the number cannot belong to anybody else.
        if let (Some(group), Some(_)) = (self.group, self.child.id()) {
            kill_process_group(group, Signal::KILL).ok();
        }
    }
}

async fn keep_stderr(stderr: ChildStderr, path: PathBuf) {
    let mut lines = BufReader::new(stderr);
    while let Ok(line) = lines::next(&mut lines, STDERR_LINE_MAX).await {
        let text = match line {
            Line::End => return,
            Line::TooLong => "(a line too long to keep)".to_owned(),
            Line::Whole(line) => {
                crate::text::clean(&String::from_utf8_lossy(&line), STDERR_LINE_MAX)
            }
        };
        tracing::debug!(log = %path.display(), "{text}");
        if let Err(error) = append(&path, &text) {
            tracing::debug!(%error, log = %path.display(), "the program's last words cannot be kept");
        }
    }
}

fn append(path: &Path, text: &str) -> io::Result<()> {
    if std::fs::metadata(path).is_ok_and(|found| found.len() > STDERR_BYTES_MAX) {
        std::fs::rename(path, path.with_extension("log.old"))?;
    }
    let mut file: File = std::fs::OpenOptions::new().create(true).append(true).open(path)?;
    writeln!(file, "{text}")
}

/// Slows restarts down.
#[derive(Debug, Default)]
pub(crate) struct Restarts(Mutex<Failures>);

#[derive(Debug, Default)]
struct Failures {
    count: u32,
    not_before: Option<Instant>,
}

impl Restarts {
    /// Whether the program may be started now.
    pub(crate) fn check(&self, now: Instant) -> Result<(), StartError> {
        match self.lock().not_before {
            Some(at) if at > now => Err(StartError::Pausing { after: at - now }),
            Some(_) | None => Ok(()),
        }
    }

    /// A run that began at `started` is over.
    pub(crate) fn ended(&self, started: Instant, now: Instant) {
        let mut failures = self.lock();
        if now - started >= SETTLED {
            *failures = Failures::default();
            return;
        }
        failures.count = failures.count.saturating_add(1);
        // The first end is forgiven: many programs serve one client and end with it.
        if failures.count > 1 {
            let pause = PAUSE_MIN.saturating_mul(1 << (failures.count - 2).min(16)).min(PAUSE_MAX);
            failures.not_before = Some(now + pause);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Failures> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_keeps_ending_is_started_ever_more_slowly() {
        let (restarts, start) = (Restarts::default(), Instant::now());
        restarts.ended(start, start);
        assert_eq!(restarts.check(start), Ok(()));
        let mut last = Duration::ZERO;
        for _ in 0..12 {
            restarts.ended(start, start);
            let Err(StartError::Pausing { after }) = restarts.check(start) else {
                panic!("no pause")
            };
            assert!(after > last || after == PAUSE_MAX, "{after:?}");
            last = after;
        }
        assert_eq!(last, PAUSE_MAX);
        restarts.ended(start, start + SETTLED);
        assert_eq!(restarts.check(start), Ok(()));
    }
}
