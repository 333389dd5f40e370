//! Policies and grants as people and programs outside see them.

use std::path::Path;
use std::time::Duration;

use comity_api::types::{
    ErrorCode, ErrorInfo, GrantLink, GrantView, PolicyExplainRequest, PolicyExplanation,
    PolicyRuleView,
};
use comity_core::{AgentId, Time};
use comity_trust::Level;
use comity_trust::grant::{Chain, Link, MAX_CHAIN, Rate, Refusal};
use comity_trust::policy::{Obligations, Policy, Request};
use data_encoding::BASE64URL_NOPAD;
use thiserror::Error;

use super::policy_file::{PolicyFileError, read_policy};
use crate::clock::Clock;

/// How a grant's text begins.
const SCHEME: &str = "comity-grant:";

/// Why a text is no grant.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum GrantTextError {
    /// It does not begin as a grant does.
    #[error(
        "a grant's text begins with `{SCHEME}`: copy it whole, as `comity grant create` printed it"
    )]
    Scheme,
    /// It is longer than a grant can be.
    #[error("{0} characters are too many for a grant")]
    TooLong(usize),
    /// It is damaged.
    #[error("the grant is damaged or cut off: copy it whole")]
    Damaged,
    /// What it holds does not verify.
    #[error("the grant is refused")]
    Refused(#[from] Refusal),
}

/// A grant as text, which mail and shells leave alone.
#[must_use]
pub fn grant_text(chain: &[u8]) -> String {
    format!("{SCHEME}{}", BASE64URL_NOPAD.encode(chain))
}

/// The grant in a text; white space in it does not matter.
///
/// # Errors
/// [`GrantTextError`], less that it does not verify.
pub fn grant_bytes(text: &str) -> Result<Vec<u8>, GrantTextError> {
    // Base64 takes four characters for three bytes; as many again may be white space.
    const CHARS_MAX: usize = SCHEME.len() + MAX_CHAIN / 3 * 4 + 4;
    if text.len() > 2 * CHARS_MAX {
        return Err(GrantTextError::TooLong(text.len()));
    }
    let text: String = text.split_ascii_whitespace().collect();
    let body = text.strip_prefix(SCHEME).ok_or(GrantTextError::Scheme)?;
    if text.len() > CHARS_MAX {
        return Err(GrantTextError::TooLong(text.len()));
    }
    BASE64URL_NOPAD.decode(body.as_bytes()).map_err(|_| GrantTextError::Damaged)
}

/// A grant's text opened, and checked as far as it can be without the agent it is about.
///
/// # Errors
/// [`GrantTextError`].
pub fn grant_view(text: &str, now: Time) -> Result<GrantView, GrantTextError> {
    let chain = Chain::from_bytes(&grant_bytes(text)?)?;
    let links = chain.show()?;
    Ok(view_of(&chain, &links, now))
}

pub(crate) fn view_of(chain: &Chain, links: &[Link], now: Time) -> GrantView {
    let from = links.iter().map(|link| link.grant.not_before).max().unwrap_or(Time::ZERO);
    let until = links.iter().map(|link| link.grant.not_after).min().unwrap_or(Time::ZERO);
    let state = if now >= until {
        "expired"
    } else if now < from {
        "not-yet"
    } else {
        "good"
    };
    let text = |link: Option<&Link>, what: fn(&Link) -> String| link.map(what).unwrap_or_default();
    GrantView {
        grant: text(links.last(), |link| link.hash.to_string()),
        issuer: text(links.first(), |link| link.signer.to_string()),
        holder: text(links.last(), |link| link.grant.holder.to_string()),
        holder_name: None,
        from_ms: from.as_millis(),
        until_ms: until.as_millis(),
        state: state.to_owned(),
        used: None,
        links: links.iter().map(link_view).collect(),
        text: grant_text(&chain.to_bytes()),
    }
}

fn link_view(link: &Link) -> GrantLink {
    let grant = &link.grant;
    GrantLink {
        link: link.hash.to_string(),
        signer: link.signer.to_string(),
        holder: grant.holder.to_string(),
        capabilities: grant.scopes.iter().map(ToString::to_string).collect(),
        from_ms: grant.not_before.as_millis(),
        until_ms: grant.not_after.as_millis(),
        count: grant.uses,
        rate: grant.rate.map(rate_text),
        depth: grant.depth,
        delegates: grant.delegates.iter().flatten().map(ToString::to_string).collect(),
        min_level: grant.min_level.to_string(),
        evidence: grant.evidence.iter().flatten().cloned().collect(),
        arguments: grant.arguments.iter().flatten().map(ToString::to_string).collect(),
    }
}

fn rate_text(rate: Rate) -> String {
    format!("{} calls in {}", rate.calls, span(Duration::from_millis(rate.window_ms)))
}

fn span(length: Duration) -> String {
    let seconds = length.as_secs();
    for (unit, name) in [(86_400, "day"), (3_600, "h"), (60, "min")] {
        if seconds > 0 && seconds.is_multiple_of(unit) {
            return format!("{} {name}", seconds / unit);
        }
    }
    if length.subsec_millis() == 0 {
        format!("{seconds} s")
    } else {
        format!("{} ms", length.as_millis())
    }
}

/// Why a policy decides as it does about a call, rule by rule.
#[must_use]
pub fn explain_policy(policy: &Policy, request: &Request<'_>) -> PolicyExplanation {
    let explained = policy.explain(request);
    let rules = explained.rules.into_iter().map(|rule| PolicyRuleView {
        line: rule.line,
        effect: rule.effect.to_owned(),
        note: rule.note,
        unmet: rule.unmet,
    });
    let decision = explained.decision;
    PolicyExplanation {
        caller: request.caller.to_string(),
        caller_name: policy.name_of(&request.caller).map(str::to_owned),
        capability: request.capability.to_owned(),
        public: None,
        served: None,
        allowed: decision.allowed,
        line: decision.line,
        reason: decision.reason,
        conditions: conditions(&decision.obligations),
        grants: Vec::new(),
        rules: rules.collect(),
        policy: policy.hash().to_string(),
    }
}

/// Why a file cannot explain a call.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ExplainError {
    /// The file.
    #[error(transparent)]
    File(#[from] PolicyFileError),
    /// The question names something that means nothing.
    #[error("{0}")]
    Asked(String),
}

impl ExplainError {
    /// The same for the command.
    #[must_use]
    pub fn info(&self) -> ErrorInfo {
        match self {
            Self::File(error) => error.info(),
            Self::Asked(text) => ErrorInfo::new(ErrorCode::BadRequest, text.clone())
                .hint("without a node, give agents by a name of the file or by key"),
        }
    }
}

/// What is added to a decision when there is no file that could say otherwise.
pub(crate) const NO_FILE: &str =
    "there is no policy file, so that only what is public is allowed, and what a grant allows";

/// What is decided about a call where there is no policy file, without a node.
///
/// # Errors
/// [`ExplainError::Asked`].
pub fn explain_default(
    asked: &PolicyExplainRequest,
    public: bool,
) -> Result<PolicyExplanation, ExplainError> {
    let mut explained = explain_by(&Policy::empty(), "the policy", asked, public)?;
    explained.reason += &format!("; {NO_FILE}");
    Ok(explained)
}

/// What a policy file decides about a call, without a node: nothing is known of what is served, but whether it is supposed to be public.
///
/// # Errors
/// [`ExplainError`].
pub fn explain_file(
    path: &Path,
    asked: &PolicyExplainRequest,
    public: bool,
) -> Result<PolicyExplanation, ExplainError> {
    explain_by(&read_policy(path)?, &path.display().to_string(), asked, public)
}

fn explain_by(
    policy: &Policy,
    file: &str,
    asked: &PolicyExplainRequest,
    public: bool,
) -> Result<PolicyExplanation, ExplainError> {
    let agent = |text: &String| {
        named_agent(policy, text.trim()).ok_or_else(|| {
            ExplainError::Asked(format!("`{text}` is neither a name of {file} nor a key"))
        })
    };
    let caller = agent(&asked.caller)?;
    let endorsers: Vec<AgentId> = asked.endorsed_by.iter().map(agent).collect::<Result<_, _>>()?;
    let level: Level = match &asked.level {
        Some(text) => text.parse().map_err(|error| ExplainError::Asked(format!("{error}")))?,
        None => Level::L0,
    };
    let groups = named_groups(policy, &asked.groups).map_err(ExplainError::Asked)?;
    let evidence: Vec<&str> = asked.evidence.iter().map(String::as_str).collect();
    let now = asked.at_ms.map_or_else(|| Clock::new(0).now(), Time::from_millis);
    let request = Request {
        public,
        groups: &groups,
        endorsers: &endorsers,
        level,
        evidence: &evidence,
        granted: asked.granted,
        trusted: asked.trusted,
        ..Request::new(caller, &asked.capability, now)
    };
    Ok(explain_policy(policy, &request))
}

fn conditions(obligations: &Obligations) -> Vec<String> {
    let Obligations { rate, budget_per_day, max_stale, max_grant_life } = obligations;
    let rate = rate.map(|rate| format!("at most {}", rate_text(rate)));
    let budget = budget_per_day.map(|budget| format!("calls of at most {budget} a day in all"));
    let stale = max_stale.map(|age| {
        format!("of a grant that was passed on, revocation sets no older than {}", span(age))
    });
    let life = max_grant_life.map(|life| format!("grants that live at most {}", span(life)));
    [rate, budget, stale, life].into_iter().flatten().collect()
}

/// The agent that a policy file or a person means: a name of the file, or a key in any text form.
pub(crate) fn named_agent(policy: &Policy, text: &str) -> Option<AgentId> {
    policy.agent(text).and_then(|key| key.intake().ok()).or_else(|| text.parse().ok())
}

/// The groups with a charter that these texts name: by a name of the file, or by key.
pub(crate) fn named_groups(policy: &Policy, texts: &[String]) -> Result<Vec<AgentId>, String> {
    let named = |text: &String| {
        let text = text.trim();
        let key = policy.charter_group(text).and_then(|key| key.intake().ok());
        key.or_else(|| text.parse().ok()).ok_or_else(|| {
            format!("`{text}` is neither a group with a charter in the policy nor a group's key")
        })
    };
    texts.iter().map(named).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grants_text_survives_mail_and_nothing_else() {
        let bytes = vec![0xab; 500];
        let text = grant_text(&bytes);
        assert_eq!(grant_bytes(&text).unwrap(), bytes);
        let folded: String = text
            .as_bytes()
            .chunks(60)
            .map(|part| format!("{}\r\n ", String::from_utf8_lossy(part)))
            .collect();
        assert_eq!(grant_bytes(&folded).unwrap(), bytes);
        assert!(matches!(grant_bytes("comity:abc"), Err(GrantTextError::Scheme)));
        assert!(matches!(grant_bytes(""), Err(GrantTextError::Scheme)));
        assert!(matches!(grant_bytes("comity-grant:!!"), Err(GrantTextError::Damaged)));
        let long = grant_text(&vec![0; 3 * MAX_CHAIN]);
        assert!(matches!(grant_bytes(&long), Err(GrantTextError::TooLong(_))));
        assert!(matches!(grant_view(&text, Time::ZERO), Err(GrantTextError::Refused(_))));
    }

    #[test]
    fn lengths_are_told_in_the_largest_whole_unit() {
        let told = |seconds| span(Duration::from_secs(seconds));
        assert_eq!(
            [told(60), told(90), told(7_200), told(172_800)],
            ["1 min", "90 s", "2 h", "2 day"]
        );
        assert_eq!(span(Duration::from_millis(1_500)), "1500 ms");
    }
}
