//! Reading a policy file so that every error has its place and its remedy.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use comity_core::Time;
use toml::Spanned;
use toml::de::{DeTable, DeValue};
use toml::value::{Datetime, Offset};

use super::Obligations;
use super::evidence::{EvidenceRules, is_evidence_name};
use super::glob::Glob;
use super::rule::{Rule, Who};
use super::via::ViaRules;
use super::when;
use crate::endorse::LevelRules;
use crate::evidence::{Attackers, AttackersTextError};
use crate::grant::{MAX_RATE_WINDOW, Rate};
use crate::{Level, RawKey};

/// Longest file, in bytes.
pub const MAX_FILE: usize = 1 << 20;
/// Most rules of a file.
pub const MAX_RULES: usize = 10_000;
/// Most entries of a list in a file.
pub const MAX_LIST: usize = 10_000;
/// Longest text that an error repeats, in characters.
const MAX_SHOWN: usize = 64;

/// Why a policy file is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {what}; {hint}")]
pub struct PolicyError {
    /// The line, from 1.
    pub line: u32,
    /// The column in characters, from 1.
    pub column: u32,
    /// What is wrong.
    pub what: String,
    /// What to write instead.
    pub hint: String,
}

pub(super) type Value<'a> = Spanned<DeValue<'a>>;
type Lists = BTreeMap<RawKey, Vec<u32>>;

const TOP: [&str; 6] = ["agents", "evidence", "groups", "levels", "rule", "via"];
const LEVELS: [&str; 9] = [
    "endorsers",
    "endorsements_min",
    "calls_min",
    "canaries_min",
    "experience_max_age",
    "attested_against",
    "quorum_min",
    "quorum_roots_min",
    "quorum_max_age",
];
const RULE: [&str; 23] = [
    "allow",
    "deny",
    "agents",
    "groups",
    "endorsed_by",
    "anyone",
    "level",
    "evidence",
    "against",
    "grant",
    "trusted",
    "max_cost",
    "from",
    "until",
    "days",
    "hours",
    "utc_offset",
    "rate",
    "budget_per_day",
    "max_stale",
    "max_grant_life",
    "note",
    "agent",
];
/// What only an allowing rule can carry.
const OBLIGATIONS: [&str; 4] = ["rate", "budget_per_day", "max_stale", "max_grant_life"];

/// What a group of the file is.
enum Named {
    List(u32),
    Key(RawKey),
}

pub(super) struct Reader<'t> {
    text: &'t str,
    agents: BTreeMap<String, RawKey>,
    groups: BTreeMap<String, Named>,
}

/// What a file says.
#[derive(Default)]
pub(super) struct File {
    pub(super) rules: Vec<Rule>,
    /// Which of its lists each agent is in.
    pub(super) lists: Lists,
    /// What it calls agents.
    pub(super) names: BTreeMap<String, RawKey>,
    /// What it calls groups with a charter.
    pub(super) groups: BTreeMap<String, RawKey>,
    pub(super) levels: LevelRules,
    pub(super) evidence: EvidenceRules,
    pub(super) via: ViaRules,
}

/// Reads a file.
pub(super) fn parse(text: &str) -> Result<File, PolicyError> {
    let mut reader = Reader { text, agents: BTreeMap::new(), groups: BTreeMap::new() };
    if text.len() > MAX_FILE {
        let what = format!("the file has {} bytes", text.len());
        return Err(reader.error(0..0, what, format!("a policy has at most {MAX_FILE}")));
    }
    let root = DeTable::parse(text).map_err(|error| {
        let span = error.span().unwrap_or(0..0);
        let what = error.message().lines().collect::<Vec<_>>().join(" ");
        reader.error(span, what, "the file is not TOML here".to_owned())
    })?;
    let root = root.get_ref();
    reader.known(root, &TOP, "a policy")?;
    if let Some(agents) = root.get("agents") {
        reader.read_agents(agents)?;
    }
    let mut lists = Lists::new();
    if let Some(groups) = root.get("groups") {
        reader.read_groups(groups, &mut lists)?;
    }
    let mut rules = Vec::new();
    if let Some(found) = root.get("rule") {
        let DeValue::Array(array) = found.get_ref() else {
            let hint = "write each rule under a line of its own with [[rule]]".to_owned();
            return Err(reader.error(
                found.span(),
                "`rule` is not a list of tables".to_owned(),
                hint,
            ));
        };
        if array.len() > MAX_RULES {
            let what = format!("{} rules", array.len());
            return Err(reader.error(
                found.span(),
                what,
                format!("a policy has at most {MAX_RULES}: use groups"),
            ));
        }
        for rule in array {
            rules.push(reader.rule(rule)?);
        }
    }
    let levels = reader.levels(root)?;
    let evidence = reader.evidence_rules(root)?;
    let via = reader.via_rules(root)?;
    let groups = reader.groups.into_iter().filter_map(|(name, group)| match group {
        Named::Key(key) => Some((name, key)),
        Named::List(_) => None,
    });
    let groups = groups.collect();
    Ok(File { rules, lists, names: reader.agents, groups, levels, evidence, via })
}

impl Reader<'_> {
    pub(super) fn error(&self, at: Range<usize>, what: String, hint: String) -> PolicyError {
        let before = self.text.get(..at.start).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        let number = |n| u32::try_from(n).unwrap_or(u32::MAX);
        PolicyError { line: number(line), column: number(column), what, hint }
    }

    fn line_of(&self, at: usize) -> u32 {
        self.error(at..at, String::new(), String::new()).line
    }

    /// Refuses keys that mean nothing: a misspelt condition must not be a condition that always holds.
    pub(super) fn known(
        &self,
        table: &DeTable<'_>,
        known: &[&str],
        of: &str,
    ) -> Result<(), PolicyError> {
        for (key, _) in table {
            let name = key.get_ref().as_ref();
            if !known.contains(&name) {
                let hint = closest(name, known).map_or_else(
                    || format!("there are {}", known.join(", ")),
                    |near| format!("did you mean `{near}`?"),
                );
                let what = format!("`{}` means nothing in {of}", shown(name));
                return Err(self.error(key.span(), what, hint));
            }
        }
        Ok(())
    }

    pub(super) fn table<'v, 'a>(
        &self,
        value: &'v Value<'a>,
        what: &str,
    ) -> Result<&'v DeTable<'a>, PolicyError> {
        let DeValue::Table(table) = value.get_ref() else {
            let hint = format!("write [{what}] and below it lines `name = …`");
            return Err(self.error(value.span(), format!("`{what}` is not a table"), hint));
        };
        Ok(table)
    }

    fn read_agents(&mut self, value: &Value<'_>) -> Result<(), PolicyError> {
        for (name, key) in self.table(value, "agents")? {
            let agent = self.key(key)?;
            self.agents.insert(name.get_ref().to_string(), agent);
        }
        Ok(())
    }

    fn read_groups(&mut self, value: &Value<'_>, lists: &mut Lists) -> Result<(), PolicyError> {
        for ((name, group), number) in self.table(value, "groups")?.iter().zip(0u32..) {
            let named = if matches!(group.get_ref(), DeValue::Array(_)) {
                for member in self.list(group, "agents")? {
                    lists.entry(self.agent(member)?).or_default().push(number);
                }
                Named::List(number)
            } else {
                Named::Key(self.key(group)?)
            };
            self.groups.insert(name.get_ref().to_string(), named);
        }
        // An agent named twice in one list is in it once.
        lists.values_mut().for_each(|numbers| numbers.dedup());
        Ok(())
    }

    pub(super) fn text_of<'v>(
        &self,
        value: &'v Value<'_>,
        what: &str,
    ) -> Result<&'v str, PolicyError> {
        let DeValue::String(text) = value.get_ref() else {
            let what = format!("{what} is not text, but {}", value.get_ref().type_str());
            return Err(self.error(value.span(), what, "write it between quotes".to_owned()));
        };
        Ok(text.as_ref())
    }

    /// A list of anything, or one alone.
    pub(super) fn list<'v, 'a>(
        &self,
        value: &'v Value<'a>,
        what: &str,
    ) -> Result<Vec<&'v Value<'a>>, PolicyError> {
        let DeValue::Array(array) = value.get_ref() else { return Ok(vec![value]) };
        if array.is_empty() || array.len() > MAX_LIST {
            let hint = format!("leave the line out, or name 1 to {MAX_LIST}");
            return Err(self.error(
                value.span(),
                format!("the list of {what} has {} entries", array.len()),
                hint,
            ));
        }
        Ok(array.iter().collect())
    }

    fn key(&self, value: &Value<'_>) -> Result<RawKey, PolicyError> {
        let text = self.text_of(value, "a key")?;
        text.parse().map_err(|error| {
            let hint = crate::wire::explain(&error);
            self.error(value.span(), format!("`{}` is not a key", shown(text)), hint)
        })
    }

    /// A name under `[agents]`, or a key.
    fn agent(&self, value: &Value<'_>) -> Result<RawKey, PolicyError> {
        let text = self.text_of(value, "an agent")?;
        if let Some(key) = self.agents.get(text) {
            return Ok(*key);
        }
        text.parse().map_err(|_| {
            let names: Vec<&str> = self.agents.keys().map(String::as_str).collect();
            let hint = closest(text, &names).map_or_else(
                || "give its key, or a name for it under [agents]".to_owned(),
                |near| format!("did you mean `{near}`?"),
            );
            self.error(
                value.span(),
                format!("`{}` is neither a key nor a name under [agents]", shown(text)),
                hint,
            )
        })
    }

    fn who(&self, table: &DeTable<'_>) -> Result<Who, PolicyError> {
        let mut who = Who::default();
        for key in ["agents", "agent"] {
            if let Some(value) = table.get(key) {
                for agent in self.list(value, "agents")? {
                    who.agents.insert(self.agent(agent)?);
                }
            }
        }
        if let Some(value) = table.get("groups") {
            for group in self.list(value, "groups")? {
                let name = self.text_of(group, "a group")?;
                match self.groups.get(name) {
                    Some(Named::List(number)) => drop(who.lists.insert(*number)),
                    Some(Named::Key(key)) => drop(who.groups.insert(*key)),
                    None => {
                        let names: Vec<&str> = self.groups.keys().map(String::as_str).collect();
                        let hint = closest(name, &names).map_or_else(
                            || "give it a line under [groups]".to_owned(),
                            |near| format!("did you mean `{near}`?"),
                        );
                        let what = format!("there is no group `{}` under [groups]", shown(name));
                        return Err(self.error(group.span(), what, hint));
                    }
                }
            }
        }
        if let Some(value) = table.get("endorsed_by") {
            for endorser in self.list(value, "endorsers")? {
                who.endorsers.insert(self.agent(endorser)?);
            }
        }
        Ok(who)
    }

    fn rule(&self, value: &Value<'_>) -> Result<Rule, PolicyError> {
        let table = self.table(value, "[rule]")?;
        self.known(table, &RULE, "a rule")?;
        let span = value.span();
        let (deny, capabilities) = match (table.get("allow"), table.get("deny")) {
            (Some(allow), None) => (false, allow),
            (None, Some(deny)) => (true, deny),
            (Some(_), Some(deny)) => {
                let hint = "make two rules of it; a deny wins wherever it stands".to_owned();
                return Err(self.error(
                    deny.span(),
                    "a rule both allows and denies".to_owned(),
                    hint,
                ));
            }
            (None, None) => {
                let hint = "add a line `allow = \"…\"` or `deny = \"…\"` that names capabilities"
                    .to_owned();
                return Err(self.error(span, "a rule neither allows nor denies".to_owned(), hint));
            }
        };
        let mut globs = Vec::new();
        for value in self.list(capabilities, "capabilities")? {
            globs.push(self.glob(value)?);
        }
        let rule = Rule {
            line: self.line_of(span.start),
            note: table
                .get("note")
                .map(|note| self.text_of(note, "the note").map(str::to_owned))
                .transpose()?,
            deny,
            capabilities: globs,
            who: self.who(table)?,
            level: self.level(table)?,
            evidence: self.evidence(table)?,
            against: self.attackers(table, "against")?.unwrap_or_default(),
            granted: self.flag(table, "grant")?,
            trusted: self.flag(table, "trusted")?,
            max_cost: self.number(table, "max_cost")?,
            when: self.when(table)?,
            obligations: self.obligations(table, deny)?,
        };
        let anyone = self.flag(table, "anyone")?;
        let named = !rule.who.agents.is_empty()
            || rule.who.names_groups()
            || !rule.who.endorsers.is_empty();
        if !rule.deny && !named && !anyone && !rule.granted && !rule.trusted {
            let what = "a rule allows, and does not say whom".to_owned();
            let hint = "add `agents`, `groups`, `endorsed_by`, `grant = true` or `trusted = true`; if everybody is meant, `anyone = true`";
            return Err(self.error(span, what, hint.to_owned()));
        }
        if anyone && named {
            let what = "a rule is for anyone, and names somebody".to_owned();
            return Err(self.error(span, what, "remove one of the two".to_owned()));
        }
        Ok(rule)
    }

    fn glob(&self, value: &Value<'_>) -> Result<Glob, PolicyError> {
        let text = self.text_of(value, "a capability")?;
        Glob::parse(text).ok_or_else(|| {
            let hint = "write a name of the characters a-z 0-9 - . _ with at most one *".to_owned();
            self.error(value.span(), format!("`{}` names no capabilities", shown(text)), hint)
        })
    }

    fn level(&self, table: &DeTable<'_>) -> Result<Level, PolicyError> {
        let Some(value) = table.get("level") else { return Ok(Level::L0) };
        let text = self.text_of(value, "the level")?;
        text.parse().map_err(|error: crate::LevelTextError| {
            self.error(value.span(), format!("`{}` is no level", shown(text)), error.to_string())
        })
    }

    fn evidence(&self, table: &DeTable<'_>) -> Result<BTreeSet<String>, PolicyError> {
        let Some(value) = table.get("evidence") else { return Ok(BTreeSet::new()) };
        let mut kinds = BTreeSet::new();
        for value in self.list(value, "kinds of evidence")? {
            let kind = self.text_of(value, "a kind of evidence")?;
            if !is_evidence_name(kind) {
                let hint = "write a kind, such as `provenance`, or a kind and what it must show: `model-signing=sha256:…`".to_owned();
                return Err(self.error(
                    value.span(),
                    format!("`{}` is no kind of evidence", shown(kind)),
                    hint,
                ));
            }
            kinds.insert(kind.to_owned());
        }
        Ok(kinds)
    }

    fn flag(&self, table: &DeTable<'_>, key: &str) -> Result<bool, PolicyError> {
        match table.get(key) {
            None => Ok(false),
            Some(value) if value.get_ref().as_bool() == Some(true) => Ok(true),
            Some(value) => {
                let hint = format!("write `{key} = true`, or leave the line out");
                Err(self.error(value.span(), format!("`{key}` is not true"), hint))
            }
        }
    }

    fn number(&self, table: &DeTable<'_>, key: &str) -> Result<Option<u64>, PolicyError> {
        let Some(value) = table.get(key) else { return Ok(None) };
        let integer = value.get_ref().as_integer();
        let number =
            integer.and_then(|integer| u64::from_str_radix(integer.as_str(), integer.radix()).ok());
        let error = || {
            self.error(
                value.span(),
                format!("`{key}` is not a whole number"),
                "write one from 0 on".to_owned(),
            )
        };
        number.map(Some).ok_or_else(error)
    }

    fn when(&self, table: &DeTable<'_>) -> Result<when::When, PolicyError> {
        let mut found = when::When::default();
        let wrong = |value: &Value<'_>, what: &str, hint: &str| {
            self.error(value.span(), what.to_owned(), hint.to_owned())
        };
        if let Some(value) = table.get("utc_offset") {
            let text = self.text_of(value, "the offset")?;
            found.offset_s = when::offset(text)
                .ok_or_else(|| wrong(value, "not an offset from UTC", "write it as \"+02:00\""))?;
        }
        if let Some(value) = table.get("days") {
            for value in self.list(value, "days")? {
                let text = self.text_of(value, "a day")?;
                found.days |= when::days(text).ok_or_else(|| {
                    wrong(value, "not a day", "write mon, tue, wed, thu, fri, sat, sun, or mon-fri")
                })?;
            }
        }
        if let Some(value) = table.get("hours") {
            let text = self.text_of(value, "the hours")?;
            found.hours = Some(when::hours(text).ok_or_else(|| {
                wrong(
                    value,
                    "not hours of the day",
                    "write them as \"08:00-18:00\"; \"22:00-06:00\" goes over midnight",
                )
            })?);
        }
        for (key, end) in [("from", false), ("until", true)] {
            if let Some(value) = table.get(key) {
                let hint = "write a date such as 2026-12-31 or a time such as 2026-12-31T18:00:00Z, without quotes";
                let DeValue::Datetime(datetime) = value.get_ref() else {
                    return Err(wrong(value, &format!("`{key}` is not a date"), hint));
                };
                let time = point(datetime, found.offset_s).ok_or_else(|| {
                    wrong(value, &format!("`{key}` is not a date with a day"), hint)
                })?;
                *(if end { &mut found.until } else { &mut found.from }) = Some(time);
            }
        }
        if let (Some(from), Some(until)) = (found.from, found.until)
            && until <= from
            && let Some(value) = table.get("until")
        {
            return Err(wrong(value, "the rule ends before it begins", "swap `from` and `until`"));
        }
        Ok(found)
    }

    fn obligations(&self, table: &DeTable<'_>, deny: bool) -> Result<Obligations, PolicyError> {
        if deny
            && let Some((key, value)) =
                OBLIGATIONS.iter().find_map(|key| table.get(*key).map(|value| (key, value)))
        {
            let hint = "limits belong to rules that allow".to_owned();
            return Err(self.error(value.span(), format!("a rule denies and has a `{key}`"), hint));
        }
        let rate = match table.get("rate") {
            None => None,
            Some(value) => {
                let text = self.text_of(value, "the rate")?;
                let hint =
                    "write it as \"60/min\": so many in s, min, h, day, or a length such as 10min"
                        .to_owned();
                let error =
                    || self.error(value.span(), format!("`{}` is not a rate", shown(text)), hint);
                Some(parse_rate(text).ok_or_else(error)?)
            }
        };
        Ok(Obligations {
            rate,
            budget_per_day: self.number(table, "budget_per_day")?,
            max_stale: self.length(table, "max_stale")?,
            max_grant_life: self.length(table, "max_grant_life")?,
        })
    }

    fn levels(&self, root: &DeTable<'_>) -> Result<LevelRules, PolicyError> {
        let mut levels = LevelRules::default();
        let Some(value) = root.get("levels") else { return Ok(levels) };
        let table = self.table(value, "levels")?;
        self.known(table, &LEVELS, "[levels]")?;
        if let Some(value) = table.get("endorsers") {
            for endorser in self.list(value, "endorsers")? {
                let key = self.agent(endorser)?;
                let agent = key.intake().map_err(|error| {
                    let what = format!("the key {key} is no proper key");
                    self.error(endorser.span(), what, error.to_string())
                })?;
                levels.endorsers.insert(agent);
            }
        }
        if let Some(count) = self.number(table, "endorsements_min")? {
            levels.endorsements_min = usize::try_from(count).unwrap_or(usize::MAX);
        }
        levels.acknowledged_min =
            self.number(table, "calls_min")?.unwrap_or(levels.acknowledged_min);
        levels.canaries_min = self.number(table, "canaries_min")?.unwrap_or(levels.canaries_min);
        if let Some(length) = self.length(table, "experience_max_age")? {
            levels.experience_max_age = length;
        }
        if let Some(against) = self.attackers(table, "attested_against")? {
            levels.attested_against = against;
        }
        let small = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
        levels.quorum_min = self.number(table, "quorum_min")?.map_or(levels.quorum_min, small);
        levels.quorum_roots_min =
            self.number(table, "quorum_roots_min")?.map_or(levels.quorum_roots_min, small);
        if let Some(length) = self.length(table, "quorum_max_age")? {
            levels.quorum_max_age = length;
        }
        Ok(levels)
    }

    fn attackers(&self, table: &DeTable<'_>, key: &str) -> Result<Option<Attackers>, PolicyError> {
        let Some(value) = table.get(key) else { return Ok(None) };
        let text = self.text_of(value, "the attackers")?;
        text.parse().map(Some).map_err(|error: AttackersTextError| {
            let what = format!("`{}` names no attackers", shown(text));
            self.error(value.span(), what, error.to_string())
        })
    }

    pub(super) fn length(
        &self,
        table: &DeTable<'_>,
        key: &str,
    ) -> Result<Option<Duration>, PolicyError> {
        let Some(value) = table.get(key) else { return Ok(None) };
        let text = self.text_of(value, key)?;
        let hint = "write it as \"30s\", \"10min\", \"24h\" or \"7day\"".to_owned();
        let error =
            || self.error(value.span(), format!("`{}` is not a length of time", shown(text)), hint);
        duration(text).map(Some).ok_or_else(error)
    }
}

pub(super) fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_SHOWN).collect()
}

/// The known word that is meant, if one is near enough.
fn closest<'k>(text: &str, known: &[&'k str]) -> Option<&'k str> {
    /// Below this similarity two words have nothing to do with each other.
    const NEAR: f64 = 0.8;
    let text: String = text.chars().take(MAX_SHOWN).collect();
    let scored = known.iter().map(|word| (strsim::jaro_winkler(&text, word), *word));
    scored
        .filter(|(score, _)| *score >= NEAR)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, word)| word)
}

/// A rate as policies and people write it: `60/min`, `3/10min`. None for anything else.
#[must_use]
pub fn parse_rate(text: &str) -> Option<Rate> {
    let (calls, window) = text.split_once('/')?;
    let window = window.trim();
    let window = if window.starts_with(|c: char| c.is_ascii_digit()) {
        duration(window)?
    } else {
        unit(window)?
    };
    let calls = calls.trim().parse().ok().filter(|calls| *calls > 0)?;
    (window <= MAX_RATE_WINDOW)
        .then(|| Rate { calls, window_ms: u64::try_from(window.as_millis()).unwrap_or(u64::MAX) })
}

/// `10min`.
fn duration(text: &str) -> Option<Duration> {
    let at = text.find(|c: char| !c.is_ascii_digit())?;
    let (count, name) = text.split_at(at);
    let count: u32 = count.parse().ok().filter(|count| *count > 0)?;
    unit(name.trim())?.checked_mul(count)
}

fn unit(name: &str) -> Option<Duration> {
    let seconds = match name {
        "s" | "second" | "seconds" => 1,
        "min" | "m" | "minute" | "minutes" => 60,
        "h" | "hour" | "hours" => 3_600,
        "d" | "day" | "days" => 86_400,
        _ => return None,
    };
    Some(Duration::from_secs(seconds))
}

/// A TOML date or time; what has no offset is meant in the rule's own.
fn point(datetime: &Datetime, offset_s: i32) -> Option<Time> {
    let date = datetime.date?;
    let midnight =
        when::midnight(u64::from(date.year), u64::from(date.month), u64::from(date.day))?;
    let seconds = datetime.time.map_or(0, |time| {
        u64::from(time.hour) * 3600
            + u64::from(time.minute) * 60
            + u64::from(time.second.unwrap_or(0))
    });
    let offset = match datetime.offset {
        Some(Offset::Z) => 0,
        Some(Offset::Custom { minutes }) => i64::from(minutes) * 60,
        None => i64::from(offset_s),
    };
    Some(Time::from_secs((midnight.as_secs() + seconds).checked_add_signed(-offset)?))
}
