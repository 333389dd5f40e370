//! Search results: what fits and why, what nearly does and why not, and what the search cost.

use comity_api::types::{
    Condition, Explain, FindResponse, Match, NearMiss, Probe, RecordSource, ShowResponse, Verdict,
};

use super::{
    BAD, DIM, GOOD, STRONG, UNSURE, ago, bytes, clean, count, cut, field, instant, micros, now_ms,
    serve, table, wrapped,
};

/// Columns of a key's label in a table.
const LABEL_COLUMNS: usize = 28;

/// What `find` prints.
pub(crate) fn answer(response: &FindResponse, width: usize) -> String {
    answer_at(response, width, now_ms())
}

pub(crate) fn answer_at(response: &FindResponse, width: usize, now_ms: u64) -> String {
    let search = &response.search;
    let mut text = field(0, "query", &clean(&response.query), width);
    let mut line = format!(
        "{} of {} answered, {} seen, {} ms",
        search.custodians_answered,
        count(u64::from(search.custodians_asked), "custodian", "custodians"),
        count(u64::from(search.candidates), "capability", "capabilities"),
        search.elapsed_ms,
    );
    if search.rejected > 0 {
        line += &format!("; {UNSURE}{} rejected as forged or expired{UNSURE:#}", search.rejected);
    }
    if search.truncated {
        line += &format!("; {UNSURE}cut short by the deadline{UNSURE:#}");
    }
    text += &field(0, "asked", &line, width);
    let detailed = response.explain.is_some();
    for (index, found) in response.matches.iter().enumerate() {
        text += "\n";
        text += &one_match(index + 1, found, detailed, width, now_ms);
    }
    if response.matches.is_empty() {
        text += &format!("\n{STRONG}none{STRONG:#}: no capability satisfies every condition\n");
    }
    if !response.near_misses.is_empty() && (response.matches.is_empty() || detailed) {
        text += "\nnearest misses\n";
        for miss in &response.near_misses {
            text += &near_miss(miss, width);
        }
    }
    if let Some(explain) = &response.explain {
        text += "\n";
        text += &costs(explain, width);
    }
    text
}

fn one_match(number: usize, found: &Match, detailed: bool, width: usize, now_ms: u64) -> String {
    let mut text = wrapped(
        &format!("{STRONG}{}{STRONG:#}", clean(&found.title)),
        &format!("{number}. "),
        "   ",
        width,
    );
    text += &field(3, "call", &clean(&found.target), width);
    text += &field(3, "agent", &clean(&found.agent.handle), width);
    for condition in &found.conditions {
        text += &condition_line(3, condition, width);
    }
    let mut known = format!(
        "{} of {} custodians; signed {}",
        found.custodians.n,
        found.custodians.of,
        ago(found.freshness.issued_at_ms, now_ms)
    );
    if let Some(probe) = &found.probe {
        known += &match probe {
            Probe::Alive { rtt_us } => format!("; answers in {}", micros(*rtt_us)),
            Probe::Declined { reason } => {
                format!("; {UNSURE}declined: {}{UNSURE:#}", clean(reason))
            }
            Probe::Unreachable { reason } => {
                format!("; {BAD}unreachable: {}{BAD:#}", clean(reason))
            }
        };
    }
    text += &field(3, "known", &known, width);
    let explored = if found.explored { ", shown to try somebody new" } else { "" };
    text += &field(
        3,
        "score",
        &format!(
            "{:.2} (relevance {:.2}, trust {:.2}{explored})",
            found.score, found.relevance, found.trust
        ),
        width,
    );
    if let Some(network) = &found.via {
        let weaker =
            format!("{UNSURE}{}{UNSURE:#}; nothing proves who answers there", clean(network));
        text += &field(3, "via", &weaker, width);
    }
    if let Some(standing) = &found.standing {
        text += &field(3, "level", &super::access::standing(standing), width);
    }
    if detailed {
        let parts = found
            .score_parts
            .iter()
            .map(|part| format!("{} {:.2} x {:.2}", clean(&part.name), part.value, part.weight))
            .collect::<Vec<_>>();
        text += &field(3, "parts", &parts.join(", "), width);
        let keys =
            found.found_by.iter().map(|key| format!("{} ({})", clean(&key.label), key.family));
        text += &field(3, "found by", &keys.collect::<Vec<_>>().join(", "), width);
    }
    text
}

fn near_miss(miss: &NearMiss, width: usize) -> String {
    let line = format!("{STRONG}{}{STRONG:#} {}", clean(&miss.capability), clean(&miss.title));
    let mut text = wrapped(&line, " - ", "   ", width);
    text += &field(3, "call", &clean(&miss.target), width);
    for condition in &miss.failed {
        text += &condition_line(3, condition, width);
    }
    text
}

fn condition_line(indent: usize, condition: &Condition, width: usize) -> String {
    let (style, mark) = match (condition.verdict, condition.soft) {
        (Verdict::Met, _) => (GOOD, "met"),
        (Verdict::Unmet, false) => (BAD, "fails"),
        (Verdict::Unmet, true) => (UNSURE, "not met"),
        (Verdict::Undeclared, _) => (UNSURE, "unknown"),
    };
    let declared = match &condition.declared {
        Some(declared) => format!("{DIM}declares{DIM:#} {}", clean(declared)),
        None => format!("{DIM}undeclared{DIM:#}"),
    };
    let soft = if condition.soft { " (preferred)" } else { "" };
    let line = format!("{style}{}{style:#}{soft}: {declared}", clean(&condition.text));
    field(indent, mark, &line, width)
}

fn costs(explain: &Explain, width: usize) -> String {
    let mut text = String::from("how it was found\n");
    let rows: Vec<Vec<String>> = explain
        .plan
        .iter()
        .map(|key| {
            let size = key.group_size.map_or_else(String::new, |size| format!("group of {size}"));
            let outcome = if key.asked {
                format!("returned {}", key.returned)
            } else {
                "in reserve".to_owned()
            };
            vec![
                format!("   {}", cut(&key.group.label, LABEL_COLUMNS)),
                clean(&key.group.family),
                size,
                outcome,
            ]
        })
        .collect();
    text += &table(&rows);
    let rows: Vec<Vec<String>> = explain
        .custodians
        .iter()
        .map(|asked| {
            let outcome = match (&asked.problem, asked.returned) {
                (Some(problem), _) => format!("{UNSURE}{}{UNSURE:#}", clean(problem)),
                (None, returned) => count(u64::from(returned.unwrap_or(0)), "digest", "digests"),
            };
            let rtt = asked.rtt_us.map(micros).unwrap_or_default();
            let label = cut(&asked.label, LABEL_COLUMNS);
            vec![format!("   {}", clean(&asked.agent.handle)), rtt, outcome, label]
        })
        .collect();
    text += "custodians\n";
    text += &table(&rows);
    let phases = explain
        .phases
        .iter()
        .map(|phase| format!("{} {}", clean(&phase.name), micros(phase.elapsed_us)))
        .collect::<Vec<_>>();
    text += &field(0, "time", &format!("{} ms: {}", explain.elapsed_ms, phases.join(", ")), width);
    let line = format!(
        "{} in {}, {} out, {} in",
        count(u64::from(explain.rpcs), "request", "requests"),
        count(u64::from(explain.rounds), "round", "rounds"),
        bytes(explain.bytes_sent),
        bytes(explain.bytes_received)
    );
    text += &field(0, "cost", &line, width);
    for note in &explain.notes {
        text += &field(0, "note", &clean(note), width);
    }
    text
}

/// What `show` prints.
pub(crate) fn record(response: &ShowResponse, width: usize) -> String {
    let record = &response.record;
    let mut text = String::new();
    if let Some(name) = &record.name {
        text += &field(0, "name", &format!("{STRONG}{}{STRONG:#}", clean(name)), width);
    }
    text += &field(0, "agent", &response.agent.agent.to_string(), width);
    text += &field(0, "address", &clean(&response.agent.address), width);
    text += &field(0, "handle", &clean(&response.agent.handle), width);
    let addrs = response.addrs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    text += &field(0, "at", if addrs.is_empty() { "nowhere known" } else { &addrs }, width);
    let source = match record.source {
        RecordSource::Own => "this node's own",
        RecordSource::Agent => "fetched from the agent",
        RecordSource::Store => "from this node's store",
        RecordSource::Mirror => "fetched from another peer",
    };
    let line = format!(
        "number {}, signed {}, until {}, {}; {source}, {GOOD}signature verified{GOOD:#}",
        record.seq,
        instant(record.issued_at_ms),
        instant(record.expires_at_ms),
        bytes(record.bytes)
    );
    text += &field(0, "record", &line, width);
    text += &field(0, "", &record.hash, width);
    for declared in &response.capabilities {
        text += "\n";
        text += &serve::declaration(declared, width);
        for (label, schema) in
            [("input", &declared.input_schema), ("output", &declared.output_schema)]
        {
            if !schema.is_null() {
                text += &format!("  {DIM}{label}{DIM:#}\n");
                let pretty = serde_json::to_string_pretty(schema).unwrap_or_default();
                for line in pretty.lines() {
                    text += &format!("    {}\n", clean(line));
                }
            }
        }
    }
    if let Some(standing) = &response.standing {
        text += &field(0, "level", &super::access::standing(standing), width);
    }
    text
}
