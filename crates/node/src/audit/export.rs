//! Logs as files for others: JSON lines that verify offline, whole or any range of entries.
//!
//! The first line names the log, the range, the checkpoint and the hashes that stand for what is not in the range; each further line is
//! one entry. Reading needs memory for one line.

use std::io::{self, BufRead, Read as _, Write};

use comity_core::{AgentId, Canonical as _, Sha256Digest};
use comity_trust::log::{
    CheckpointError, Entry, MAX_ENTRY_LEN, MAX_NOTE_LEN, SignedCheckpoint, tree,
};
use data_encoding::BASE64;
use serde::{Deserialize, Serialize};

use super::Reader;
use super::store::AuditError;

/// Name and version of the form.
pub const EXPORT_FORMAT: &str = "comity-audit-export/1";
/// Longest line, in bytes: an entry in base64 and its frame, or the head with its 96 hashes and a checkpoint.
const LINE_BYTES_MAX: u64 = 2 * (MAX_ENTRY_LEN + MAX_NOTE_LEN) as u64 + 16 * 1024;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    format: String,
    log: AgentId,
    from: u64,
    to: u64,
    /// The last checkpoint, as a note.
    checkpoint: String,
    /// Hashes of the subtrees before the range and after it, from the left.
    before: Vec<Sha256Digest>,
    after: Vec<Sha256Digest>,
}

/// One entry: its bytes in base64, or its hash if it was pruned. Time and kind are for readers; they are checked against the bytes.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    index: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    at_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    entry: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pruned: Option<Sha256Digest>,
}

/// Why an export cannot be written or does not hold.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] AuditError),
    /// The file cannot be read or written.
    #[error("the export cannot be read or written: {0}")]
    Io(#[from] io::Error),
    /// There is no checkpoint yet, or the range ends past it.
    #[error(
        "entries {from} to {to} cannot be exported: the last checkpoint covers {signed}, and the next one comes within a second of an entry"
    )]
    Range {
        /// First entry asked for.
        from: u64,
        /// End of the range.
        to: u64,
        /// Entries under the checkpoint.
        signed: u64,
    },
    /// A line is not what it should be.
    #[error("line {line} of the export does not hold: {what}")]
    Line {
        /// Which, from 1.
        line: u64,
        /// What is wrong.
        what: String,
    },
    /// The checkpoint does not hold.
    #[error("the checkpoint of the export is refused")]
    Checkpoint(#[source] CheckpointError),
    /// Contents and signature differ.
    #[error(
        "the entries of the export are not those that the log signed: one was changed, removed or added"
    )]
    Root,
}

/// An export that holds.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExportVerified {
    /// Whose log.
    pub log: AgentId,
    /// First entry.
    pub from: u64,
    /// End of the range.
    pub to: u64,
    /// Entries of the range that were pruned: only their hashes are here.
    pub pruned: u64,
    /// The checkpoint; its log's signature holds.
    pub checkpoint: SignedCheckpoint,
}

/// Writes entries `from` to `to` (to the last checkpoint if none is given) as lines. Returns how many there are.
///
/// # Errors
/// [`ExportError`].
pub fn export(
    log: &mut Reader,
    from: u64,
    to: Option<u64>,
    out: &mut dyn Write,
) -> Result<u64, ExportError> {
    let signed = log.checkpoint().cloned();
    let size = signed.as_ref().map_or(0, |signed| signed.checkpoint().size);
    let to = to.unwrap_or(size);
    let Some(signed) = signed.filter(|_| from <= to && to <= size) else {
        return Err(ExportError::Range { from, to, signed: size });
    };
    let mut hashes = |from, to| {
        let parts = tree::cover(from, to).into_iter();
        parts.map(|(level, n)| log.0.hash(level, n)).collect::<Result<Vec<_>, _>>()
    };
    let head = Head {
        format: EXPORT_FORMAT.to_owned(),
        log: signed.checkpoint().log,
        from,
        to,
        checkpoint: signed.note().to_string(),
        before: hashes(0, from)?,
        after: hashes(to, size)?,
    };
    line(out, &head)?;
    for index in from..to {
        let entry = log.0.entry(index)?;
        let decoded = entry.as_deref().and_then(|entry| Entry::decode(entry).ok());
        let pruned = if entry.is_none() { Some(log.0.hash(0, index)?) } else { None };
        line(
            out,
            &Line {
                index,
                at_ms: decoded.as_ref().map(|entry| entry.at_ms),
                kind: decoded.map(|entry| entry.event.name().to_owned()),
                entry: entry.map(|entry| BASE64.encode(&entry)),
                pruned,
            },
        )?;
    }
    out.flush()?;
    Ok(to - from)
}

fn line<T: Serialize>(out: &mut dyn Write, value: &T) -> Result<(), ExportError> {
    serde_json::to_writer(&mut *out, value).map_err(io::Error::from)?;
    Ok(out.write_all(b"\n")?)
}

/// Verifies an export: the checkpoint's signature, every entry, and that nothing is missing from the range.
///
/// # Errors
/// [`ExportError`] names the first thing that does not hold.
pub fn verify_export(file: &mut dyn BufRead) -> Result<ExportVerified, ExportError> {
    let mut lines = Lines { file, number: 0 };
    let head: Head = lines.next()?.ok_or_else(|| lines.wrong("the file is empty"))?;
    if head.format != EXPORT_FORMAT {
        return Err(lines.wrong(format!("format `{}`, not {EXPORT_FORMAT}", head.format)));
    }
    let signed = SignedCheckpoint::open_of(head.checkpoint.as_bytes(), &head.log)
        .map_err(ExportError::Checkpoint)?;
    let (from, to, size) = (head.from, head.to, signed.checkpoint().size);
    if from > to || to > size {
        return Err(ExportError::Range { from, to, signed: size });
    }
    let mut sum = tree::Accumulator::new();
    take(&mut sum, (0, from), &head.before)?;
    let mut pruned = 0;
    for index in from..to {
        let line: Line = lines
            .next()?
            .ok_or_else(|| lines.wrong(format!("the file ends before entry {index}")))?;
        pruned += u64::from(line.entry.is_none());
        sum.push(&lines.hash(index, &line)?);
    }
    if lines.next::<Line>()?.is_some() {
        return Err(lines.wrong("it is past the end of the range"));
    }
    take(&mut sum, (to, size), &head.after)?;
    if sum.root() != signed.checkpoint().root {
        return Err(ExportError::Root);
    }
    Ok(ExportVerified { log: head.log, from, to, pruned, checkpoint: signed })
}

fn take(
    sum: &mut tree::Accumulator,
    (from, to): (u64, u64),
    hashes: &[Sha256Digest],
) -> Result<(), ExportError> {
    let cover = tree::cover(from, to);
    let placed = cover.len() == hashes.len()
        && cover.iter().zip(hashes).all(|((level, _), hash)| sum.push_subtree(*level, hash));
    if placed { Ok(()) } else { Err(ExportError::Root) }
}

struct Lines<'a> {
    file: &'a mut dyn BufRead,
    number: u64,
}

impl Lines<'_> {
    fn wrong(&self, what: impl Into<String>) -> ExportError {
        ExportError::Line { line: self.number, what: what.into() }
    }

    fn next<T: for<'de> Deserialize<'de>>(&mut self) -> Result<Option<T>, ExportError> {
        let mut bytes = Vec::new();
        let read = (&mut *self.file).take(LINE_BYTES_MAX).read_until(b'\n', &mut bytes)?;
        self.number += 1;
        if read == 0 {
            return Ok(None);
        }
        if bytes.last() != Some(&b'\n') {
            return Err(self.wrong("it is too long, or has no end"));
        }
        serde_json::from_slice(&bytes).map(Some).map_err(|error| self.wrong(error.to_string()))
    }

    fn hash(&self, index: u64, line: &Line) -> Result<Sha256Digest, ExportError> {
        if line.index != index {
            return Err(self.wrong(format!("entry {} where {index} belongs", line.index)));
        }
        let entry = match (&line.entry, line.pruned) {
            (Some(entry), None) => entry,
            (None, Some(hash)) => return Ok(hash),
            (Some(_), Some(_)) | (None, None) => {
                return Err(self.wrong("an entry is there or pruned, one of the two"));
            }
        };
        let bytes =
            BASE64.decode(entry.as_bytes()).map_err(|_| self.wrong("the entry is not base64"))?;
        let decoded = Entry::decode(&bytes).ok();
        let said = (line.at_ms, line.kind.as_deref());
        let meant = decoded.as_ref().map(|entry| (Some(entry.at_ms), Some(entry.event.name())));
        if meant.is_some_and(|meant| meant != said) {
            return Err(self.wrong("time or kind is not what the entry says"));
        }
        Ok(tree::leaf_hash(&bytes))
    }
}
