//! Printing: text for people, JSON for programs, never both on standard output.

use std::io::{self, IsTerminal, Write};

use anyhow::Context as _;
use serde::Serialize;

/// Widest text printed, whatever the terminal; also the width when there is none.
const MAX_WIDTH: usize = 100;

/// Width when standard output is no terminal.
const PLAIN_WIDTH: usize = 80;

/// Narrowest layout; a narrower terminal wraps by itself.
const MIN_WIDTH: usize = 40;

/// How to print.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    pub(crate) json: bool,
    pub(crate) quiet: bool,
    /// Columns to lay text out in.
    pub(crate) width: usize,
    /// Whether somebody watches standard error, so that progress can be shown there.
    pub(crate) watched: bool,
}

impl Output {
    pub(crate) fn new(json: bool, quiet: bool) -> Self {
        let width = terminal_width().unwrap_or(PLAIN_WIDTH).clamp(MIN_WIDTH, MAX_WIDTH);
        Self { json, quiet, width, watched: io::stderr().is_terminal() && !quiet && !json }
    }

    /// Prints an answer: as JSON, or as `text` renders it for a width.
    pub(crate) fn answer<T: Serialize>(
        &self,
        value: &T,
        text: impl FnOnce(&T, usize) -> String,
    ) -> anyhow::Result<()> {
        if self.json {
            let mut line = serde_json::to_string_pretty(value)
                .context("an answer cannot be written as JSON")?;
            line.push('\n');
            write_all(&line)
        } else {
            write_all(&text(value, self.width))
        }
    }

    /// Prints text or data as it is.
    pub(crate) fn raw(&self, text: &str) -> anyhow::Result<()> {
        write_all(text)
    }

    /// A remark beside the answer, on standard error; none with --quiet or --json.
    pub(crate) fn note(&self, text: &str) {
        if !self.quiet && !self.json {
            // Nobody is left to tell when standard error is closed.
            let _ = anstream::stderr().write_all(format!("{text}\n").as_bytes());
        }
    }
}

/// Writes to standard output; a reader that closed early (`| head`) is not an error.
fn write_all(text: &str) -> anyhow::Result<()> {
    let mut out = anstream::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("cannot write to standard output")
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

fn terminal_width() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    (size.ws_col > 0).then_some(usize::from(size.ws_col))
}
