//! Policies: a file is read or refused with a place and a remedy, and what is decided is what the explanation says.
#![no_main]

use arbitrary::Arbitrary;
use comity_fuzz::{NOW, identity};
use comity_trust::Level;
use comity_trust::policy::{Policy, Request};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    text: &'a str,
    lines: Vec<(u8, u8)>,
    caller: u8,
    name: &'a str,
    level: u8,
    public: bool,
    granted: bool,
}

const LINES: [&str; 16] = [
    "[[rule]]", "allow = \"*\"", "deny = \"fx.*\"", "allow = [\"a\", \"*.b\", \"c*d\"]", "anyone = true", "grant = true",
    "agents = [\"alice\"]", "groups = \"g\"", "level = \"L2\"", "rate = \"3/10min\"", "days = \"mon-fri\"", "hours = \"22:00-06:00\"",
    "from = 2026-01-01", "until = 2026-02-01T00:00:00Z", "max_stale = \"5min\"", "[groups]",
];

fuzz_target!(|input: Input<'_>| {
    let mut text = format!("[agents]\nalice = \"{}\"\n[groups]\ng = [\"alice\"]\n", identity(1).id());
    for (line, _) in &input.lines {
        text.push_str(LINES[usize::from(*line) % LINES.len()]);
        text.push('\n');
    }
    for text in [input.text, &text] {
        match Policy::parse(text) {
            Err(error) => assert!(error.line >= 1 && error.column >= 1 && !error.hint.is_empty()),
            Ok(policy) => {
                let request = Request {
                    level: Level::ALL[usize::from(input.level) % 5],
                    public: input.public,
                    granted: input.granted,
                    ..Request::new(identity(input.caller).id(), input.name, NOW)
                };
                let explained = policy.explain(&request);
                let first = |effect: &str| {
                    let mut rules = explained.rules.iter();
                    rules.find(|rule| rule.unmet.is_none() && rule.effect == effect).map(|rule| rule.line)
                };
                let expected = match (first("deny"), first("allow")) {
                    (Some(line), _) => (false, Some(line)),
                    (None, Some(line)) => (true, Some(line)),
                    (None, None) => (input.public, None),
                };
                assert_eq!((explained.decision.allowed, explained.decision.line), expected);
            }
        }
    }
});
