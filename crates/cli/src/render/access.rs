//! Policies and grants.

use comity_api::types::{
    EndorsementView, Endorsements, GrantLink, GrantView, Grants, PolicyExplanation, PolicyRuleView,
    PolicyStatus, StandingView, TrustApproval, TrustBond, TrustList, TrustRequestView,
};

use super::{
    BAD, DIM, GOOD, STRONG, UNSURE, ago, clean, count, cut, field, instant, now_ms, span_ms, table,
    wrapped,
};

/// Columns of a hash or key in a list, enough to tell it from others.
const SHORT_COLUMNS: usize = 14;

/// What `policy show` prints.
pub(crate) fn policy(status: &PolicyStatus, width: usize) -> String {
    let mut text = field(0, "policy", &policy_line(status), width);
    text += &field(0, "file", &clean(&status.path), width);
    text += &field(0, "hash", &status.hash, width);
    if status.loaded_at_ms > 0 {
        text += &field(0, "read", &instant(status.loaded_at_ms), width);
    }
    if let Some(problem) = &status.problem {
        text += &field(0, "problem", &format!("{BAD}{}{BAD:#}", clean(&problem.message)), width);
    }
    text
}

/// The policy in a line, for `status` too.
pub(crate) fn policy_line(status: &PolicyStatus) -> String {
    let rules = count(u64::from(status.rules), "rule", "rules");
    match (&status.problem, status.present) {
        (Some(problem), _) => {
            let line = problem.line.map_or_else(String::new, |line| format!(", line {line}"));
            format!(
                "{rules} in force, and {BAD}the file is refused{BAD:#}{line}: `comity policy check` says why"
            )
        }
        (None, true) => format!("{rules} in force"),
        (None, false) => "no file: what is public is allowed, and nothing else".to_owned(),
    }
}

/// What `policy explain` prints.
pub(crate) fn explanation(explained: &PolicyExplanation, rules: bool, width: usize) -> String {
    let verdict = match (explained.allowed, explained.grants.is_empty()) {
        (true, _) => format!("{GOOD}allowed{GOOD:#}"),
        (false, true) => format!("{BAD}denied{BAD:#}"),
        (false, false) => format!("{UNSURE}denied without its grant{UNSURE:#}"),
    };
    let name = explained.caller_name.as_deref().unwrap_or(&explained.caller);
    let mut text = format!(
        "{STRONG}{}{STRONG:#} calls {STRONG}{}{STRONG:#}: {verdict}\n",
        clean(name),
        clean(&explained.capability)
    );
    text += &field(0, "because", &clean(&explained.reason), width);
    if explained.served == Some(false) {
        text += &field(0, "but", "this node serves nothing of that name", width);
    }
    for condition in &explained.conditions {
        text += &field(0, "if", &clean(condition), width);
    }
    for grant in &explained.grants {
        text += &field(0, "grant", &format!("{grant} allows it when it is shown"), width);
    }
    let shown = |rule: &&PolicyRuleView| rules || rule.unmet.is_none();
    for rule in explained.rules.iter().filter(shown) {
        let note =
            rule.note.as_deref().map_or_else(String::new, |note| format!(" ({})", clean(note)));
        let unmet = match &rule.unmet {
            None => "applies".to_owned(),
            Some(unmet) => format!("does not apply: {}", clean(unmet)),
        };
        let line = format!("line {}, {}{note}: {unmet}", rule.line, rule.effect);
        text += &wrapped(&line, "  - ", "    ", width);
    }
    text
}

/// What `grant show` prints.
pub(crate) fn grant(view: &GrantView, width: usize) -> String {
    let mut text = field(0, "grant", &view.grant, width);
    text += &field(0, "of", &view.issuer, width);
    text += &field(0, "to", &view.holder, width);
    if let Some(name) = &view.holder_name {
        text += &field(0, "", &format!("{DIM}{} {}{DIM:#}", name.address, name.handle), width);
    }
    text += &field(0, "state", &state(view), width);
    if let Some(used) = view.used {
        text += &field(0, "used", &count(used, "call", "calls"), width);
    }
    for (number, link) in view.links.iter().enumerate() {
        text += &field(0, &format!("link {}", number + 1), &link_line(link), width);
    }
    text
}

fn link_line(link: &GrantLink) -> String {
    let mut parts = vec![format!("{STRONG}{}{STRONG:#}", clean(&link.capabilities.join(", ")))];
    parts.extend(link.count.map(|uses| count(uses, "call", "calls")));
    parts.extend(link.rate.clone());
    if link.depth > 0 {
        parts.push(format!("may be passed on {} deep", link.depth));
    }
    if !link.delegates.is_empty() {
        parts.push(format!("to {} alone", link.delegates.join(", ")));
    }
    if link.min_level != "L0" {
        parts.push(format!("for callers of {}", link.min_level));
    }
    if !link.evidence.is_empty() {
        parts.push(format!("with evidence: {}", clean(&link.evidence.join(", "))));
    }
    if !link.arguments.is_empty() {
        parts.push(format!("with {}", clean(&link.arguments.join(" and "))));
    }
    parts.push(format!("until {}", instant(link.until_ms)));
    parts.push(format!("signed by {}", link.signer));
    parts.join("; ")
}

fn state(view: &GrantView) -> String {
    let left = view.until_ms.saturating_sub(now_ms());
    match view.state.as_str() {
        "good" => format!("{GOOD}good{GOOD:#} for {}", span_ms(left)),
        "not-yet" => format!("{UNSURE}from {} on{UNSURE:#}", instant(view.from_ms)),
        "expired" => format!("{DIM}expired {}{DIM:#}", instant(view.until_ms)),
        other => format!("{BAD}{}{BAD:#}", clean(other)),
    }
}

/// What `grant list` prints.
pub(crate) fn grants(grants: &Grants, _width: usize) -> String {
    if grants.given.is_empty() && grants.held.is_empty() {
        return "no grants: `comity grant create --to AGENT --for CAPABILITY` makes one\n"
            .to_owned();
    }
    let row = |way: &str, other: &str, view: &GrantView| {
        let last = view.links.last();
        let names = last.map(|link| link.capabilities.join(", ")).unwrap_or_default();
        let used =
            view.used.map_or_else(String::new, |used| match last.and_then(|link| link.count) {
                Some(uses) => format!("{used} of {uses} used"),
                None => format!("{used} used"),
            });
        let who = format!("{way} {}", cut(other, SHORT_COLUMNS));
        vec![view.grant.clone(), who, clean(&names), state(view), used]
    };
    let given = grants.given.iter().map(|view| row("to", &view.holder, view));
    let held = grants.held.iter().map(|view| row("from", &view.issuer, view));
    table(&given.chain(held).collect::<Vec<_>>())
}

/// What `trust request` prints.
pub(crate) fn asked(request: &TrustRequestView, width: usize) -> String {
    let what = request.capability.as_ref().map_or_else(
        || "trust both ways".to_owned(),
        |name| format!("access to {STRONG}{}{STRONG:#}", clean(name)),
    );
    let line = format!(
        "asked {} for {what}; `comity trust list` shows what becomes of it",
        clean(&request.agent.address)
    );
    wrapped(&line, "", "", width)
}

/// What `trust approve` prints.
pub(crate) fn approved(approval: &TrustApproval, width: usize) -> String {
    let told = if approval.delivered {
        "it has it"
    } else {
        "its node fetches it when it next asks or calls"
    };
    let mut text =
        format!("{GOOD}approved{GOOD:#} for {}; {told}\n", clean(&approval.request.agent.address));
    if let Some(view) = &approval.grant {
        text += &grant(view, width);
    }
    text
}

/// What `trust list` prints.
pub(crate) fn trust(list: &TrustList, _width: usize) -> String {
    let request = |way: &str, request: &TrustRequestView| {
        let what = request.capability.as_deref().unwrap_or("trust both ways");
        let state = match request.state.as_str() {
            "approved" => format!("{GOOD}approved{GOOD:#}"),
            "denied" => format!("{BAD}denied{BAD:#}"),
            other => format!("{UNSURE}{}{UNSURE:#}", clean(other)),
        };
        let message = if request.message.is_empty() {
            String::new()
        } else {
            format!("\"{}\"", clean(&request.message))
        };
        let when = ago(request.asked_at_ms, now_ms());
        vec![way.to_owned(), clean(&request.agent.address), clean(what), state, when, message]
    };
    let bond = |bond: &TrustBond| {
        let state = match bond.state.as_str() {
            "mutual" => format!("{GOOD}mutual{GOOD:#}"),
            "asks" => format!("{UNSURE}waits for this agent{UNSURE:#}"),
            _ => format!("{UNSURE}waits for the other{UNSURE:#}"),
        };
        let until = format!("until {}", instant(bond.until_ms));
        vec![
            "trust".to_owned(),
            clean(&bond.agent.address),
            String::new(),
            state,
            until,
            String::new(),
        ]
    };
    let rows: Vec<_> = list
        .incoming
        .iter()
        .map(|one| request("asks for", one))
        .chain(list.outgoing.iter().map(|one| request("asked for", one)))
        .chain(list.bonds.iter().map(bond))
        .collect();
    if rows.is_empty() {
        return "nobody asks for access, and this agent asked nobody: `comity trust request AGENT` does\n".to_owned();
    }
    table(&rows)
}

/// What `endorse` prints.
pub(crate) fn endorsed(view: &EndorsementView, width: usize) -> String {
    let mut text = field(0, "endorsed", &view.subject, width);
    text += &field(0, "for", &clean(&view.capability), width);
    text += &field(0, "ground", &clean(&view.how), width);
    text += &field(0, "until", &instant(view.until_ms), width);
    text += &field(0, "hash", &view.endorsement, width);
    let told = match view.delivered {
        Some(true) => format!("{GOOD}the agent has it{GOOD:#} and hands it out"),
        Some(false) | None => {
            format!("{UNSURE}the agent did not take it now{UNSURE:#}: endorse again when it is up")
        }
    };
    text + &field(0, "state", &told, width)
}

/// What `endorse list` prints.
pub(crate) fn endorsements(all: &Endorsements, _width: usize) -> String {
    let row = |way: &str, other: &str, view: &EndorsementView| {
        let state =
            if view.state == "good" { format!("{GOOD}good{GOOD:#}") } else { clean(&view.state) };
        let who = format!("{way} {}", cut(other, SHORT_COLUMNS));
        let until = format!("until {}", instant(view.until_ms));
        vec![view.endorsement.clone(), who, clean(&view.capability), clean(&view.how), state, until]
    };
    let given = all.given.iter().map(|view| row("to", &view.subject, view));
    let received = all.received.iter().map(|view| row("from", &view.endorser, view));
    let rows: Vec<_> = given.chain(received).collect();
    if rows.is_empty() {
        return "no endorsements: `comity endorse AGENT CAPABILITY` gives one\n".to_owned();
    }
    table(&rows)
}

/// How well a claim is supported, in a line.
pub(crate) fn standing(view: &StandingView) -> String {
    let grounds = if view.grounds.is_empty() {
        String::new()
    } else {
        format!(": {}", clean(&view.grounds.join("; ")))
    };
    format!("{} ({}){grounds}", clean(&view.level), clean(&view.meaning))
}
