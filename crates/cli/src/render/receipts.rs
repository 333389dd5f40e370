//! Receipts, kept answers and reputation as text.

use comity_api::types::{Estimate, KeptReceipt, Receipts, ReputationView, Results, Side};

use super::{
    BAD, DIM, GOOD, STRONG, UNSURE, bytes, clean, count, cut, field, instant, micros, span_ms,
    table,
};

/// Digits of a hash that tell it from others.
const SHORT: usize = 8;

fn short(id: &str) -> String {
    cut(id.strip_prefix("b3:").unwrap_or(id), SHORT)
}

fn signed_by(receipt: &KeptReceipt) -> String {
    match receipt.verdict.as_deref() {
        Some("confirmed") => format!("{GOOD}both, confirmed{GOOD:#}"),
        Some("disputed") => format!("{BAD}both, disputed{BAD:#}"),
        Some(_) => "both".to_owned(),
        None => format!("{DIM}callee{DIM:#}"),
    }
}

const fn side(side: Side) -> &'static str {
    match side {
        Side::Made => "made",
        Side::Served => "served",
    }
}

/// Receipts, one a line.
pub(crate) fn list(receipts: &Receipts, _width: usize) -> String {
    if receipts.receipts.is_empty() {
        return format!(
            "no such receipt; {} kept\n",
            count(receipts.kept, "receipt is", "receipts are")
        );
    }
    let heads = ["", "answered", "side", "capability", "with", "signed by"];
    let mut rows = vec![heads.map(|head| format!("{DIM}{head}{DIM:#}")).to_vec()];
    rows.extend(receipts.receipts.iter().map(|receipt| {
        let view = &receipt.proof.receipt;
        vec![
            short(&receipt.id),
            instant(view.answered_at_ms),
            side(receipt.side).to_owned(),
            clean(&view.capability),
            clean(&receipt.agent.address),
            signed_by(receipt),
        ]
    }));
    table(&rows)
}

/// One receipt.
pub(crate) fn one(receipt: &KeptReceipt, width: usize) -> String {
    let view = &receipt.proof.receipt;
    let mut text = field(0, "receipt", &format!("{STRONG}{}{STRONG:#}", receipt.id), width);
    for (label, value) in [
        ("call", format!("{} by this agent", side(receipt.side))),
        ("with", clean(&receipt.agent.address)),
        ("producer", view.callee.clone()),
        ("caller", view.caller.clone()),
        ("offered", clean(&view.capability)),
        ("answered", instant(view.answered_at_ms)),
        ("valid to", instant(view.valid_until_ms)),
        ("data", view.data_version.as_deref().map(clean).unwrap_or_default()),
        ("request", view.request.clone()),
        ("response", view.response.clone()),
        ("signed by", signed_by(receipt)),
    ] {
        if !value.is_empty() {
            text += &field(0, label, &value, width);
        }
    }
    text
}

/// Answers kept for reuse.
pub(crate) fn results(results: &Results, width: usize) -> String {
    let mut text = String::new();
    if !results.results.is_empty() {
        let heads = ["capability", "request", "size", "uses", "took", "valid to", ""];
        let mut rows = vec![heads.map(|head| format!("{DIM}{head}{DIM:#}")).to_vec()];
        rows.extend(results.results.iter().map(|result| {
            vec![
                clean(&result.capability),
                short(&result.request),
                bytes(result.bytes),
                result.uses.to_string(),
                micros(result.took_us),
                instant(result.valid_until_ms),
                if result.announced { "announced".to_owned() } else { String::new() },
            ]
        }));
        text += &table(&rows);
    }
    let line = format!(
        "{} of {} used; {}, {}; {} kept for others",
        bytes(results.bytes),
        bytes(results.bytes_max),
        count(results.hits, "call answered from here", "calls answered from here"),
        count(results.misses, "not", "not"),
        count(results.pointers, "pointer", "pointers"),
    );
    text += &field(0, "store", &line, width);
    let large = &results.large;
    let line = format!(
        "{} of {} used; pieces of 1 MiB: {} fetched, {} there already, {} refused, {} sent",
        bytes(large.bytes),
        bytes(large.bytes_max),
        large.pieces_fetched,
        large.pieces_resumed,
        large.pieces_refused,
        large.pieces_sent,
    );
    text + &field(0, "on disk", &line, width)
}

/// What is thought of an agent.
pub(crate) fn reputation(view: &ReputationView, width: usize) -> String {
    let share = |estimate: &Estimate| {
        format!(
            "{:.3} counted of {:.3} (for {:.1}, against {:.1})",
            estimate.lower, estimate.mean, estimate.good, estimate.bad
        )
    };
    let mut text = field(0, "agent", &clean(&view.agent.address), width);
    if let Some(lied) = &view.lied {
        let line = format!("{BAD}it contradicted itself: proof {lied}{BAD:#}");
        text += &field(0, "beware", &line, width);
    }
    text += &field(0, "score", &format!("{STRONG}{:.3}{STRONG:#}", view.score), width);
    text += &field(0, "honesty", &share(&view.honesty), width);
    text += &field(2, "own", &share(&view.own_honesty), width);
    for vouch in &view.vouches {
        let line = format!(
            "{} confirmed {:.1} and disputed {:.1} of its calls; counts {:+.2}",
            clean(&vouch.witness.address),
            vouch.confirmed,
            vouch.disputed,
            vouch.counts
        );
        text += &field(2, "word", &line, width);
    }
    text += &field(0, "success", &share(&view.success), width);
    let speed = match view.latency_us {
        Some(us) => format!("{:.3} at {}", view.speed, micros(us)),
        None => format!("{:.3} {UNSURE}(not called yet){UNSURE:#}", view.speed),
    };
    text += &field(0, "speed", &speed, width);
    let checks = format!(
        "{} right in a row; one answer in {} would be checked",
        view.streak,
        (1.0 / view.check_rate.max(0.01)).round()
    );
    text + &field(0, "checks", &checks, width)
}

/// Where an answer came from, if nobody worked for it.
pub(crate) fn origin(origin: &comity_api::types::Origin) -> Option<String> {
    use comity_api::types::Origin;
    match origin {
        Origin::Producer => None,
        Origin::Store { age_ms, saved_us } => {
            let (age, saved) = (span_ms(*age_ms), micros(*saved_us));
            Some(format!("known here, {age} old; {saved} of work saved"))
        }
        Origin::Holder { holder, awaited: true, .. } => {
            Some(format!("from {}, which was working it out and shared it", clean(&holder.address)))
        }
        Origin::Holder { holder, age_ms, .. } => Some(format!(
            "from {}, which held it, {} old",
            clean(&holder.address),
            span_ms(*age_ms)
        )),
        Origin::Derived { age_ms, .. } => {
            Some(format!("derived from an answer to a larger question, {} old", span_ms(*age_ms)))
        }
        Origin::Shared { saved_us } => Some(format!(
            "asked by another call a moment before; {} of work saved",
            micros(*saved_us)
        )),
    }
}
