//! Answers of calls, and what is known about them.

use comity_api::types::{Attempt, CallResponse, ErrorInfo, Output, Part, ReceiptView};
use comity_core::receipt::VerifiedReceipt;

use super::{BAD, DIM, GOOD, STRONG, UNSURE, clean, count, field, instant, micros, wrapped};

/// The answer itself: a value laid out, or the items of a stream one a line. JSON escapes control characters.
pub(crate) fn output(output: &Output) -> String {
    match output {
        Output::Value(value) => serde_json::to_string_pretty(value).unwrap_or_default() + "\n",
        Output::Items(items) => items.iter().map(|item| format!("{item}\n")).collect(),
    }
}

/// Who gave it, how fast, and that the signature holds.
pub(crate) fn summary(response: &CallResponse, width: usize) -> String {
    let items = if response.summary.streamed {
        format!("{}, ", count(response.summary.items, "item", "items"))
    } else {
        String::new()
    };
    let tries = match response.attempts.len() {
        0 | 1 => String::new(),
        more => format!(" at attempt {more}"),
    };
    if let Some(origin) = super::receipts::origin(&response.summary.origin) {
        let target = clean(&response.summary.target);
        let took = micros(response.summary.elapsed_us);
        let line =
            format!("{GOOD}verified{GOOD:#}{DIM}: {target}: {items}{origin} ({took}){DIM:#}");
        return wrapped(&line, "", "  ", width).trim_end().to_owned();
    }
    if !response.summary.voices.is_empty() {
        return quorum(response, width);
    }
    let line = format!(
        "{GOOD}verified{GOOD:#}{DIM}: {} answered{tries}, {items}{} ({} in all){DIM:#}",
        clean(&response.summary.target),
        micros(response.summary.attempt_us),
        micros(response.summary.elapsed_us),
    );
    wrapped(&line, "", "  ", width).trim_end().to_owned()
}

/// Who agreed and who did not.
fn quorum(response: &CallResponse, width: usize) -> String {
    let voices = &response.summary.voices;
    let agreed = voices.iter().filter(|voice| voice.part == Part::Agreed).count();
    let line = format!(
        "{GOOD}verified{GOOD:#}{DIM}: {agreed} of {} agree on the answer ({}){DIM:#}",
        voices.len(),
        micros(response.summary.elapsed_us),
    );
    let mut text = wrapped(&line, "", "  ", width);
    for voice in voices.iter().filter(|voice| voice.part != Part::Agreed) {
        let what = match voice.part {
            Part::Agreed => continue,
            Part::Dissented => format!("{BAD}answered otherwise{BAD:#}"),
            Part::BrokeCommitment => {
                format!("{BAD}revealed another answer than it committed to{BAD:#}")
            }
            Part::Failed => format!("{UNSURE}did not answer{UNSURE:#}"),
        };
        text += &wrapped(&format!("{} {what}", clean(&voice.agent.address)), "  ", "    ", width);
    }
    text.trim_end().to_owned()
}

/// A peer that failed, while the next one is tried.
pub(crate) fn failed_attempt(attempt: &Attempt, error: &ErrorInfo, width: usize) -> String {
    let line = format!(
        "{UNSURE}attempt {}{UNSURE:#}: {}: {}",
        attempt.number,
        clean(&attempt.target),
        clean(&error.message)
    );
    wrapped(&line, "", "  ", width).trim_end().to_owned()
}

/// What a proof proves.
pub(crate) fn verified(receipt: &ReceiptView, verified: &VerifiedReceipt, width: usize) -> String {
    let mut text = format!("{GOOD}verified{GOOD:#}: signature, request and answer fit together\n");
    let outcome = match receipt.status {
        0 => "answered".to_owned(),
        code => format!("{BAD}failed with code {code}{BAD:#}"),
    };
    for (label, value) in [
        ("producer", format!("{STRONG}{}{STRONG:#}", receipt.callee)),
        ("caller", receipt.caller.clone()),
        ("offered", clean(&receipt.capability)),
        ("outcome", outcome),
        ("answered", instant(receipt.answered_at_ms)),
        ("signed", instant(verified.signed_at.as_millis())),
        ("valid to", instant(receipt.valid_until_ms)),
        ("data", receipt.data_version.as_deref().map(clean).unwrap_or_default()),
        ("request", receipt.request.clone()),
        ("response", receipt.response.clone()),
    ] {
        if !value.is_empty() {
            text += &field(2, label, &value, width);
        }
    }
    text
}
