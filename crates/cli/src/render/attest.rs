//! Evidence as text.

use comity_api::types::{
    AppraisalView, AppraiseResponse, CanaryResponse, EvidenceItem, EvidenceItems, EvidenceShown,
    FactView, ProbeResponse, TraceView, Traces,
};

use super::{BAD, GOOD, STRONG, UNSURE, bytes, clean, cut, field, instant, table};
use crate::commands::attest::{Inspected, VerifiedModel, VerifiedTrace};

/// Columns of a name in a list, enough to tell it from others.
const SHORT_COLUMNS: usize = 14;

/// What `attest add` prints.
pub(crate) fn added(item: &EvidenceItem, width: usize) -> String {
    let mut text = field(0, "kept", &item.id, width);
    text += &field(0, "kind", &clean(&item.kind), width);
    text += &field(0, "for", &clean(&item.capability), width);
    text + &field(0, "size", &size(item), width)
}

fn size(item: &EvidenceItem) -> String {
    match (&item.program, item.length) {
        (Some(program), _) => format!("made by {}", clean(program)),
        (None, length) => bytes(length.unwrap_or_default()),
    }
}

/// What `attest list` prints.
pub(crate) fn items(all: &EvidenceItems, _width: usize) -> String {
    if all.items.is_empty() {
        return "no evidence: `comity attest add FILE --kind KIND --for CAPABILITY` keeps some\n"
            .to_owned();
    }
    let row = |item: &EvidenceItem| {
        let since = format!("since {}", instant(item.added_at_ms));
        let id = cut(&item.id, SHORT_COLUMNS);
        vec![id, clean(&item.kind), clean(&item.capability), size(item), since]
    };
    table(&all.items.iter().map(row).collect::<Vec<_>>())
}

/// What `attest show` prints.
pub(crate) fn shown(shown: &EvidenceShown, width: usize) -> String {
    let mut text = added(&shown.item, width);
    if let Some(why) = &shown.refused {
        text +=
            &field(0, "shows", &format!("{UNSURE}nothing here{UNSURE:#}: {}", clean(why)), width);
    }
    text + &facts(&shown.facts, 0, width)
}

/// What `attest verify` prints of a file.
pub(crate) fn inspected(inspected: &Inspected, width: usize) -> String {
    let mut text = field(0, "file", &clean(&inspected.file), width);
    text += &field(0, "kind", &clean(&inspected.kind), width);
    text += &facts(&inspected.facts, 0, width);
    let note = "of whose it is, and whether it is fresh, a file shows nothing: an agent does, in a session";
    text + &field(0, "note", note, width)
}

fn facts(all: &[FactView], indent: usize, width: usize) -> String {
    let mut text = String::new();
    for fact in all {
        text += &field(indent, "fact", &format!("{GOOD}{}{GOOD:#}", clean(&fact.text)), width);
        text += &field(indent + 2, "by", &clean(&fact.by), width);
        let who: Vec<String> = fact
            .excludes
            .iter()
            .map(|one| format!("{} ({})", clean(&one.attacker), clean(&one.who)))
            .collect();
        let who = if who.is_empty() { format!("{BAD}nobody{BAD:#}") } else { who.join("; ") };
        text += &field(indent + 2, "excludes", &who, width);
    }
    text
}

/// What `attest verify` and `attest appraise` print of an agent.
pub(crate) fn appraised(said: &AppraiseResponse, width: usize) -> String {
    let mut text = field(0, "agent", &format!("{STRONG}{}{STRONG:#}", said.agent.agent), width);
    let what = if said.capability == "*" { "the agent as such" } else { &said.capability };
    text += &field(0, "for", &clean(what), width);
    for appraisal in &said.appraisals {
        text += &appraisal_text(appraisal, width);
    }
    if said.appraisals.is_empty() {
        text += &field(0, "evidence", "none that is read here", width);
    }
    if !said.unread.is_empty() {
        let kinds = clean(&said.unread.join(", "));
        let line = format!("{kinds}: [evidence.KIND] in the policy file would say whom to believe");
        text += &field(0, "unread", &line, width);
    }
    if let Some(standing) = &said.standing {
        text += &field(0, "level", &super::access::standing(standing), width);
    }
    text
}

fn appraisal_text(one: &AppraisalView, width: usize) -> String {
    let mut text = match &one.refused {
        Some(why) => {
            let line = format!("{}: {BAD}refused{BAD:#}, {}", clean(&one.kind), clean(why));
            field(0, "evidence", &line, width)
        }
        None => field(0, "evidence", &format!("{}: {GOOD}holds{GOOD:#}", clean(&one.kind)), width),
    };
    if let Some(hash) = &one.evidence {
        text += &field(2, "hash", hash, width);
    }
    if let Some(at) = one.at_ms {
        text += &field(2, "made", &instant(at), width);
    }
    text += &facts(&one.facts, 2, width);
    for name in &one.names {
        text += &field(2, "named", &clean(name), width);
    }
    text
}

/// What `attest canary` prints.
pub(crate) fn canary(said: &CanaryResponse, width: usize) -> String {
    let verdict = if said.passed {
        format!("{GOOD}right{GOOD:#}, {} in a row of {} calls", said.in_a_row, said.acknowledged)
    } else {
        format!("{BAD}wrong{BAD:#}: {}", clean(&said.answer.to_string()))
    };
    let mut text = field(0, "agent", &said.agent.agent.to_string(), width);
    text += &field(0, "capability", &clean(&said.capability), width);
    text + &field(0, "answer", &verdict, width)
}

/// What `attest probe` prints.
pub(crate) fn probe(said: &ProbeResponse, width: usize) -> String {
    let verdict = match &said.problem {
        None => format!(
            "{GOOD}proved{GOOD:#}: {} of {} rows, {} in a row",
            said.proved.len(),
            said.rows,
            said.in_a_row
        ),
        Some(problem) => format!("{BAD}not proved{BAD:#}: {}", clean(problem)),
    };
    let mut text = field(0, "agent", &said.agent.agent.to_string(), width);
    text += &field(0, "capability", &clean(&said.capability), width);
    text + &field(0, "table", &verdict, width)
}

/// What `attest trace commit` prints.
pub(crate) fn committed(view: &TraceView, width: usize) -> String {
    let mut text = field(0, "root", &view.root, width);
    text += &field(0, "steps", &view.steps.to_string(), width);
    text + &field(0, "since", &instant(view.at_ms), width)
}

/// What `attest trace list` prints.
pub(crate) fn traces(all: &Traces, width: usize) -> String {
    if all.traces.is_empty() {
        return "no traces: `comity attest trace commit FILE` commits to one\n".to_owned();
    }
    let row = |one: &TraceView| {
        vec![
            one.root.clone(),
            format!("{} steps", one.steps),
            format!("since {}", instant(one.at_ms)),
        ]
    };
    let rows: Vec<Vec<String>> = all.traces.iter().map(row).collect();
    let how = format!("`comity grant create --to AGENT --for {}`", clean(&all.capability));
    table(&rows)
        + &field(
            0,
            "disclose",
            &format!("to whom {how} names, or with `attest trace disclose`"),
            width,
        )
}

/// What `attest trace verify` prints.
pub(crate) fn verified_trace(verified: &VerifiedTrace, width: usize) -> String {
    let mut text = field(0, "root", &verified.root.to_string(), width);
    for step in &verified.steps {
        let line = format!("{GOOD}holds{GOOD:#}, of {}: {}", step.of, clean(&step.text));
        text += &field(0, &format!("step {}", step.index), &line, width);
    }
    text
}

/// What `attest verify-model` prints.
pub(crate) fn verified_model(verified: &VerifiedModel, width: usize) -> String {
    let holds = format!("{GOOD}what was signed{GOOD:#}: {} files", verified.files);
    let mut text = field(0, "model", &clean(&verified.model), width);
    text += &field(0, "directory", &clean(&verified.directory.to_string_lossy()), width);
    text += &field(0, "is", &holds, width);
    text += &field(0, "digest", &verified.digest, width);
    text + &field(0, "signed by", &clean(&verified.signer), width)
}
