//! Programs that make evidence for one question: quotes of hardware sign what they are given, and so cannot be kept.

use std::process::Stdio;
use std::time::Duration;

use comity_core::Hash;
use comity_trust::evidence::MAX_BLOB;
use thiserror::Error;
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;
use tokio::sync::{Mutex, Semaphore};
use tokio::time::Instant;

/// How long a program may take. Below the patience of who asks.
const PATIENCE: Duration = Duration::from_secs(4);
/// Between two runs, whoever asks: making a quote can take a second of a busy device.
const EVERY_MIN: Duration = Duration::from_millis(500);
/// What the program finds the bytes in that it is to have signed: 128 hex digits.
const VARIABLE: &str = "COMITY_REPORT_DATA";

/// Why a program made no evidence.
#[derive(Debug, Error)]
pub(crate) enum ProgramError {
    /// One is running, or ran a moment ago.
    #[error("evidence is being made for somebody else: try again in a second")]
    Busy,
    /// It does not start.
    #[error("the program that makes the evidence cannot be run")]
    Start(#[source] std::io::Error),
    /// It failed, took too long, printed nothing or too much.
    #[error("the program that makes the evidence {0}")]
    Failed(&'static str),
}

/// Runs programs, one at a time.
#[derive(Debug)]
pub(crate) struct Runner {
    turn: Semaphore,
    last: Mutex<Option<Instant>>,
}

impl Default for Runner {
    fn default() -> Self {
        Self { turn: Semaphore::new(1), last: Mutex::default() }
    }
}

impl Runner {
    /// What `command` prints, given that `binds` is to be signed: 32 bytes, and as many zeros to fill the 64 of report data.
    pub(crate) async fn run(&self, command: &str, binds: &Hash) -> Result<Vec<u8>, ProgramError> {
        let _turn = self.turn.try_acquire().map_err(|_| ProgramError::Busy)?;
        {
            let mut last = self.last.lock().await;
            if last.is_some_and(|last| last.elapsed() < EVERY_MIN) {
                return Err(ProgramError::Busy);
            }
            *last = Some(Instant::now());
        }
        let mut words = shlex::split(command).unwrap_or_default().into_iter();
        let program = words.next().ok_or(ProgramError::Failed("is not named"))?;
        let data =
            format!("{}{}", data_encoding::HEXLOWER.encode(binds.as_bytes()), "00".repeat(32));
        let mut child = Command::new(program)
            .args(words)
            .env(VARIABLE, data)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(ProgramError::Start)?;
        let out = child.stdout.take().ok_or(ProgramError::Failed("has no output"))?;
        let work = async {
            let mut printed = Vec::new();
            out.take(MAX_BLOB as u64 + 1).read_to_end(&mut printed).await?;
            Ok::<_, std::io::Error>((printed, child.wait().await?))
        };
        let (printed, status) = tokio::time::timeout(PATIENCE, work)
            .await
            .map_err(|_| ProgramError::Failed("took longer than 4 s"))?
            .map_err(ProgramError::Start)?;
        match printed.len() {
            0 => Err(ProgramError::Failed("printed nothing")),
            length if length > MAX_BLOB => Err(ProgramError::Failed("printed too much")),
            _ if !status.success() => Err(ProgramError::Failed("failed")),
            _ => Ok(printed),
        }
    }
}
