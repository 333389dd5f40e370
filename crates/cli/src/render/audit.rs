//! The audit log as text.

use std::path::Path;

use comity_api::types::{AuditCosigner, AuditEntry, AuditPage, AuditPeers, AuditProof, AuditTwice};
use serde_json::Value;

use super::{BAD, DIM, GOOD, STRONG, clean, count, cut, field, instant, table, wrapped};
use crate::commands::audit::Report;

/// Columns of the particulars in a list.
const FIELDS_COLUMNS: usize = 64;
/// Characters shown of a key or hash in a list.
const SHORT: usize = 10;

/// A list of entries.
pub(crate) fn page(page: &AuditPage, _width: usize) -> String {
    if page.entries.is_empty() {
        return format!("no such entries; the log has {}\n", count(page.size, "entry", "entries"));
    }
    let mut rows =
        vec![["#", "when", "what", ""].map(|head| format!("{DIM}{head}{DIM:#}")).to_vec()];
    for entry in &page.entries {
        let fields: Vec<String> = entry
            .fields
            .iter()
            .filter_map(|(name, value)| Some(format!("{name} {}", short(value)?)))
            .collect();
        rows.push(vec![
            entry.index.to_string(),
            entry.at_ms.map(instant).unwrap_or_default(),
            entry.kind.clone(),
            cut(&fields.join(", "), FIELDS_COLUMNS),
        ]);
    }
    let signed = page.checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.size);
    let total = count(page.size, "entry", "entries");
    format!("{}{DIM}{total}, {signed} under the last checkpoint{DIM:#}\n", table(&rows))
}

/// A value in a list; nothing for what is long by nature.
fn short(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => {
            let text = clean(text.strip_prefix("b3:").unwrap_or(text));
            let hash = text.len() >= 52 && !text.contains(' ');
            Some(if hash { text.chars().take(SHORT).collect() } else { text })
        }
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(yes) => Some(yes.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// One entry in full.
pub(crate) fn entry(entry: &AuditEntry, width: usize) -> String {
    let mut text = format!("{STRONG}{} {}{STRONG:#}\n", entry.index, clean(&entry.kind));
    if let Some(at_ms) = entry.at_ms {
        text += &field(2, "when", &instant(at_ms), width);
    }
    for (name, value) in &entry.fields {
        let value = match value {
            Value::String(text) => clean(text),
            Value::Object(proof) if name == "proof" => {
                let receipt = proof.get("receipt").unwrap_or(&Value::Null);
                let said = |name: &str| receipt[name].as_str().map(clean).unwrap_or_default();
                format!(
                    "signed by {}: request {}, response {} (in full with --json)",
                    said("callee"),
                    said("request"),
                    said("response")
                )
            }
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::Array(_)
            | Value::Object(_) => clean(&value.to_string()),
        };
        text += &field(2, name, &value, width);
    }
    text
}

/// A cosignature as the API has it.
pub(crate) fn cosigner(one: &comity::audit::Cosignature) -> AuditCosigner {
    AuditCosigner { witness: one.witness, at_ms: one.at.as_millis() }
}

/// What holds.
pub(crate) fn report(report: &Report, width: usize) -> String {
    let number = report.to - report.from;
    if let Some(twice) = report.twice {
        let line = format!(
            "{GOOD}verified{GOOD:#}: the log signed two histories, with {} in each",
            of_twice(twice)
        );
        let text = wrapped(&line, "", "  ", width);
        return text + &field(2, "log of", &report.log.to_string(), width);
    }
    let what = match report.what {
        "proof" => format!("entry {} is in the log, unchanged", report.from),
        "export" => format!(
            "{} from {} on are what the log signed, and none is missing",
            count(number, "entry", "entries"),
            report.from
        ),
        _ => format!("{}, none changed, removed or added", count(number, "entry", "entries")),
    };
    let mut text = wrapped(&format!("{GOOD}verified{GOOD:#}: {what}"), "", "  ", width);
    text += &field(2, "log of", &report.log.to_string(), width);
    if let Some(checkpoint) = &report.checkpoint {
        let line = format!("{} entries, root {}", checkpoint.size, checkpoint.root);
        text += &field(2, "signed", &line, width);
        for one in &checkpoint.cosigners {
            let line = format!("{} at {}", one.witness, instant(one.at_ms));
            text += &field(2, "witness", &line, width);
        }
        if checkpoint.cosigners.is_empty() {
            let none = "none: that its agent showed nobody another history, only peers can say";
            text += &field(2, "witness", none, width);
        }
    }
    for (number, what) in [
        (report.pruned, "of them pruned: their contents are gone, their hashes hold"),
        (report.unsigned, "behind the last checkpoint, not signed yet"),
        (report.unknown, "of a kind that this version does not know"),
        (
            report.torn_bytes,
            "bytes at the end that are no whole entry: being written, or cut off by a crash",
        ),
    ] {
        if number > 0 {
            text += &field(2, "note", &format!("{number} {what}"), width);
        }
    }
    if let Some(about) = &report.entry {
        text += &entry(about, width);
    }
    text
}

fn of_twice(twice: AuditTwice) -> String {
    match twice {
        AuditTwice::RootOf(size) => {
            format!("another root over {}", count(size, "entry", "entries"))
        }
        AuditTwice::EntryAt(index) => format!("another entry {index}"),
    }
}

/// The logs of peers.
pub(crate) fn peers(peers: &AuditPeers, width: usize) -> String {
    if peers.peers.is_empty() {
        return "no peer has shown its audit log yet\n".to_owned();
    }
    let mut rows =
        vec![["log of", "entries", "root"].map(|head| format!("{DIM}{head}{DIM:#}")).to_vec()];
    let mut caught = String::new();
    for peer in &peers.peers {
        rows.push(vec![
            peer.log.to_string(),
            peer.size.map_or_else(|| "-".to_owned(), |size| size.to_string()),
            peer.root
                .as_deref()
                .map(|root| root.chars().take(7 + SHORT).collect())
                .unwrap_or_default(),
        ]);
        if let Some(accusation) = &peer.accusation {
            let line = format!(
                "{BAD}two histories{BAD:#}: {} signed {} in each; `comity audit accuse {}` writes the proof",
                peer.log,
                of_twice(accusation.twice),
                peer.log
            );
            caught += &wrapped(&line, "", "  ", width);
        }
    }
    let left = peers.known - peers.peers.len() as u64;
    let more = if left > 0 { format!("{DIM}and {left} more{DIM:#}\n") } else { String::new() };
    format!("{caught}{}{more}", table(&rows))
}

/// An accusation that was written.
pub(crate) fn accusation(path: &Path, width: usize) -> String {
    let line = format!(
        "the proof is in {}; anybody checks it with `comity audit verify --accusation {}`",
        path.display(),
        path.display()
    );
    wrapped(&line, "", "  ", width)
}

/// A proof that was written.
pub(crate) fn proof(proof: &AuditProof, path: &Path, width: usize) -> String {
    let line = format!(
        "proof of entry {} in {}; anybody checks it with `comity audit verify --proof {}`",
        proof.entry.index,
        path.display(),
        path.display()
    );
    wrapped(&line, "", "  ", width)
}
