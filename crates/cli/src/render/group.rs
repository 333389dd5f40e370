//! Groups.

use comity_api::types::{AdmissionView, CharterGroup, PrivateGroup};

use super::{BAD, GOOD, UNSURE, clean, count, cut, field, instant, span_ms, table};

/// Columns of a key in a list, enough to tell it from others.
const SHORT_COLUMNS: usize = 14;

/// What `group show` and `group join` print.
pub(crate) fn group(group: &PrivateGroup, width: usize) -> String {
    let serves = if group.serves.is_empty() {
        "nothing".to_owned()
    } else {
        clean(&group.serves.join(", "))
    };
    field(0, "group", &clean(&group.name), width)
        + &field(0, "fingerprint", &group.fingerprint, width)
        + &field(0, "serves", &serves, width)
        + &field(
            0,
            "entries",
            &count(u64::from(group.entries), "veiled entry kept", "veiled entries kept"),
            width,
        )
}

/// What `group list` prints.
pub(crate) fn list(private: &[PrivateGroup], charters: &[CharterGroup]) -> String {
    if private.is_empty() && charters.is_empty() {
        return "no groups: `comity group create NAME` makes one\n".to_owned();
    }
    let row = |group: &PrivateGroup| {
        let serves = clean(&group.serves.join(", "));
        vec![clean(&group.name), "private".to_owned(), group.fingerprint.clone(), serves]
    };
    let charter = |group: &CharterGroup| {
        let key = cut(&group.group, SHORT_COLUMNS);
        vec![clean(&group.name), clean(&group.rule), key, membership(group)]
    };
    table(&private.iter().map(row).chain(charters.iter().map(charter)).collect::<Vec<_>>())
}

fn membership(group: &CharterGroup) -> String {
    if group.member {
        format!("{GOOD}member{GOOD:#}")
    } else {
        format!("{UNSURE}no member{UNSURE:#}")
    }
}

/// What `group show` and `group join` print of a group with a charter.
pub(crate) fn charter(group: &CharterGroup, width: usize) -> String {
    let mut text = field(0, "group", &clean(&group.name), width);
    text += &field(0, "key", &group.group, width);
    let rule = if group.rule == "governed" {
        let of = group.stewards.len();
        format!(
            "governed: {} of {} must admit",
            group.needed,
            count(of as u64, "steward", "stewards")
        )
    } else {
        clean(&group.rule)
    };
    text += &field(0, "rule", &rule, width);
    for steward in &group.stewards {
        text += &field(0, "steward", steward, width);
    }
    if let Some(host) = &group.host {
        let here = if group.founded { " (this agent)" } else { "" };
        text += &field(0, "host", &format!("{host}{here}"), width);
    }
    let stale = format!("counts everywhere within {}", span_ms(group.stale_ms));
    text += &field(0, "expulsion", &stale, width);
    text += &field(0, "until", &instant(group.until_ms), width);
    let why = group.problem.as_deref().map_or_else(String::new, |why| format!(": {}", clean(why)));
    text += &field(0, "here", &(membership(group) + &why), width);
    for one in &group.admissions {
        text += &field(0, "admitted by", &format!("{} {}", one.steward, terms(one)), width);
    }
    for one in &group.admitted {
        text += &field(0, "admits", &format!("{} {}", one.agent, terms(one)), width);
    }
    for key in &group.expelled {
        text += &field(0, "expelled", &format!("{BAD}{key}{BAD:#}"), width);
    }
    text
}

fn terms(one: &AdmissionView) -> String {
    let state = match one.state.as_str() {
        "good" => format!("{GOOD}good{GOOD:#}"),
        other => format!("{BAD}{}{BAD:#}", clean(other)),
    };
    format!("for {} until {}: {state}", clean(&one.capabilities), instant(one.until_ms))
}

/// What `group admit` prints.
pub(crate) fn admitted(one: &AdmissionView, width: usize) -> String {
    let told = if one.delivered == Some(true) {
        format!("{GOOD}the agent has it{GOOD:#}")
    } else {
        format!(
            "{UNSURE}the agent did not take it{UNSURE:#}: hand it this, for `comity group join`"
        )
    };
    let mut text = field(0, "admitted", &format!("{} {}", one.agent, terms(one)), width);
    text += &field(0, "hash", &one.admission, width);
    text += &field(0, "state", &told, width);
    match (&one.text, one.delivered) {
        (Some(charter), Some(false)) => text + charter + "\n",
        (Some(_) | None, _) => text,
    }
}
