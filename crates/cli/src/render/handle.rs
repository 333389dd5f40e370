//! Handles as text.

use comity_api::types::{HandleHow, HandleMeaning, HandlePins};

use super::{BAD, DIM, STRONG, clean, field, instant, table};

/// Whom a handle means.
pub(crate) fn meaning(meaning: &HandleMeaning, width: usize) -> String {
    let how = match meaning.how {
        HandleHow::First => "it is the only one under this handle, and is pinned from now on",
        HandleHow::Pinned => "it is the one that was pinned",
        HandleHow::Succeeded => "it succeeded the one that was pinned, which had committed to it",
        HandleHow::Checked => "the check is its",
    };
    let agent = &meaning.agent;
    let mut text = field(0, "agent", &format!("{STRONG}{}{STRONG:#}", agent.agent), width);
    text += &field(0, "address", &clean(&agent.address), width);
    text += &field(0, "handle", &clean(&agent.handle), width);
    text += &field(0, "because", how, width);
    if meaning.first != agent.agent {
        let first = format!("{}, whose handle it is", meaning.first);
        text += &field(0, "first", &first, width);
    }
    let addrs: Vec<String> = meaning.addrs.iter().map(ToString::to_string).collect();
    let reached = if addrs.is_empty() { "nobody knows where".to_owned() } else { addrs.join(", ") };
    text += &field(0, "reached", &reached, width);
    for other in &meaning.conflicts {
        let line = format!(
            "{BAD}{}{BAD:#} has this handle too: use handle#check or addresses",
            clean(&other.handle)
        );
        text += &field(0, "beware", &line, width);
    }
    text
}

/// The pinned handles.
pub(crate) fn list(pins: &HandlePins, _width: usize) -> String {
    if pins.pins.is_empty() {
        return "no handle is pinned: the first key found under one is\n".to_owned();
    }
    let heads = ["handle", "means", "since", "next key", "first key"];
    let mut rows = vec![heads.map(|head| format!("{DIM}{head}{DIM:#}")).to_vec()];
    for pin in &pins.pins {
        rows.push(vec![
            clean(&pin.handle),
            pin.agent.agent.to_string(),
            if pin.since_ms == 0 { "-".to_owned() } else { instant(pin.since_ms) },
            if pin.next_known { "known" } else { "not seen yet" }.to_owned(),
            if pin.first == pin.agent.agent {
                "the same".to_owned()
            } else {
                pin.first.to_string()
            },
        ]);
    }
    table(&rows)
}
