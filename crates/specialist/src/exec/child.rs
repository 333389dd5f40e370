//! One copy of the program and its pipes.

use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};

use super::{Environment, ExecConfig, ExecError, GRACE, KEPT_VARIABLES, MAX_STDERR_LINE_BYTES};
use crate::error::printable;

/// Read buffer of stdout and stderr, bytes.
const BUFFER_BYTES: usize = 16 * 1024;
/// How long the log waits for stderr to end after the program has: a process that left the group may hold it open.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// A running copy. Dropping it kills its process group.
pub(super) struct Running {
    child: Child,
    group: Option<Pid>,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    stderr: Option<tokio::task::JoinHandle<()>>,
}

/// What ended an exchange.
pub(super) enum Broken {
    /// The program closed its stdout or stdin: it has died, or is about to.
    Ended,
    /// A line longer than allowed.
    TooLong,
    /// More output than one line.
    Surplus,
}

impl Running {
    pub(super) fn start(config: &ExecConfig) -> Result<Self, ExecError> {
        let program = config.argv.first().cloned().unwrap_or_default();
        let mut command = Command::new(&program);
        command.args(config.argv.iter().skip(1));
        if config.environment == Environment::Clean {
            command.env_clear();
            for name in KEPT_VARIABLES {
                if let Some(value) = std::env::var_os(name) {
                    command.env(name, value);
                }
            }
        }
        command.envs(&config.env);
        if let Some(directory) = &config.directory {
            command.current_dir(directory);
        }
        // A group of its own, so that what the program starts ends with it.
        command.process_group(0).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let start_error = |source| ExecError::Start { program: program.clone(), source };
        let mut child = command.spawn().map_err(start_error)?;
        let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let lost = || start_error(std::io::ErrorKind::BrokenPipe.into());
        let stdin = child.stdin.take().ok_or_else(lost)?;
        let stdout = child.stdout.take().ok_or_else(lost)?;
        let stderr = child.stderr.take().ok_or_else(lost)?;
        Ok(Self {
            stderr: Some(tokio::spawn(log_stderr(
                stderr,
                program.clone(),
                child.id().unwrap_or(0),
            ))),
            child,
            group,
            stdin: Some(stdin),
            stdout: BufReader::with_capacity(BUFFER_BYTES, stdout),
        })
    }

    /// Writes a request line and reads the answer line, without its end. Both at a time: a program may answer while it
    /// still reads.
    pub(super) async fn exchange(
        &mut self,
        line: &[u8],
        max_line_bytes: usize,
    ) -> Result<Vec<u8>, Broken> {
        let Some(stdin) = self.stdin.as_mut() else { return Err(Broken::Ended) };
        let write = async {
            stdin.write_all(line).await.map_err(|_| Broken::Ended)?;
            stdin.flush().await.map_err(|_| Broken::Ended)
        };
        let ((), answer) = tokio::try_join!(write, read_line(&mut self.stdout, max_line_bytes))?;
        if self.stdout.buffer().is_empty() { Ok(answer) } else { Err(Broken::Surplus) }
    }

    /// Returns when the idle program ends or says something nobody asked for.
    pub(super) async fn disturbed(&mut self) -> Broken {
        match self.stdout.fill_buf().await {
            Ok([]) | Err(_) => Broken::Ended,
            Ok(_) => Broken::Surplus,
        }
    }

    /// Kills the group and tells how the program ended.
    ///
    /// A program that ended by itself keeps its own status: that is fixed before its pipes close, and the group is only
    /// signalled while its leader is not yet reaped, so the number cannot belong to anybody else.
    pub(super) async fn kill(mut self) -> String {
        self.kill_group();
        let ended = self.child.wait().await;
        self.finish_log().await;
        match ended {
            Ok(status) => status.to_string(),
            Err(error) => format!("unknown status: {error}"),
        }
    }

    /// Asks the program to end, and ends it.
    pub(super) async fn stop(mut self) {
        self.stdin = None;
        if let Some(group) = self.group {
            kill_process_group(group, Signal::TERM).ok();
        }
        // Until every holder of stdout is gone; what it still says is of no interest.
        let drained = async {
            while let Ok(bytes) = self.stdout.fill_buf().await {
                let n = bytes.len();
                if n == 0 {
                    break;
                }
                self.stdout.consume(n);
            }
        };
        drop(tokio::time::timeout(GRACE, drained).await);
        self.kill_group();
        drop(self.child.wait().await);
        self.finish_log().await;
    }

    /// Lets the last words on stderr reach the log.
    async fn finish_log(&mut self) {
        if let Some(stderr) = self.stderr.as_mut() {
            drop(tokio::time::timeout(LAST_WORDS, stderr).await);
        }
    }

    fn kill_group(&mut self) {
        if let Some(group) = self.group.take() {
            kill_process_group(group, Signal::KILL).ok();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill_group();
        // Its reader ends with the pipe; a process that escaped the group must not keep it.
        if let Some(stderr) = self.stderr.take() {
            stderr.abort();
        }
    }
}

async fn read_line(stdout: &mut BufReader<ChildStdout>, max: usize) -> Result<Vec<u8>, Broken> {
    let mut line = Vec::new();
    loop {
        let buffer = stdout.fill_buf().await.map_err(|_| Broken::Ended)?;
        if buffer.is_empty() {
            return Err(Broken::Ended);
        }
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let part = buffer.get(..end.unwrap_or(buffer.len())).unwrap_or_default();
        if line.len() + part.len() > max {
            return Err(Broken::TooLong);
        }
        line.extend_from_slice(part);
        let used = part.len() + usize::from(end.is_some());
        stdout.consume(used);
        if end.is_some() {
            return Ok(line);
        }
    }
}

/// Copies stderr to the log, line by line, long lines cut.
async fn log_stderr(stderr: ChildStderr, program: String, process: u32) {
    let mut reader = BufReader::with_capacity(BUFFER_BYTES, stderr);
    let mut line: Vec<u8> = Vec::new();
    let log = |line: &mut Vec<u8>| {
        if !line.is_empty() {
            let text = printable(String::from_utf8_lossy(line).trim_end(), MAX_STDERR_LINE_BYTES);
            tracing::info!(target: "comity::specialist::exec", %program, process, "{text}");
            line.clear();
        }
    };
    while let Ok(buffer) = reader.fill_buf().await {
        if buffer.is_empty() {
            break;
        }
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let used = end.map_or(buffer.len(), |end| end + 1);
        let room = MAX_STDERR_LINE_BYTES.saturating_sub(line.len());
        line.extend_from_slice(buffer.get(..used.min(room)).unwrap_or_default());
        if end.is_some() {
            log(&mut line);
        }
        reader.consume(used);
    }
    log(&mut line);
}
