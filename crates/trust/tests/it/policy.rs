//! Policies: what a file allows, which line says so, and how a wrong file is told.

use comity_core::{AgentId, Time};
use comity_trust::Level;
use comity_trust::evidence::Attackers;
use comity_trust::policy::{Decision, Meter, MeterError, Policy, PolicyError, Request, Via};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;

use crate::common::{NOW, agent, secs};

const ALICE: u8 = 2;
const BOB: u8 = 3;
const EVE: u8 = 66;
/// 2026-09-21T14:13:20Z, a Monday.
const MONDAY: Time = NOW;

fn file() -> String {
    format!(
        r#"# line 1
[agents]
alice = "{alice}"
bob = "{bob}"

[groups]
partners = ["alice", "bob"]
consortium = "{group}"

[[rule]] # line 10
allow = ["fx.*", "weather"]
groups = ["partners", "consortium"]
rate = "2/min"

[[rule]] # line 15
allow = "pay"
agents = "alice"
level = "L2"
days = "mon-fri"
hours = "08:00-18:00"
max_cost = 50
max_stale = "10min"
max_grant_life = "1h"

[[rule]] # line 25
note = "left in anger"
deny = "*"
agents = ["{eve}"]

[[rule]] # line 30
allow = "*.read"
endorsed_by = ["bob"]
evidence = ["provenance"]

[[rule]] # line 35
allow = "shared"
grant = true

[[rule]] # line 39
allow = "open.*"
anyone = true
until = 2026-10-01
"#,
        alice = agent(ALICE).id(),
        bob = agent(BOB).id(),
        eve = agent(EVE).id(),
        group = agent(90).id(),
    )
}

fn policy() -> Policy {
    Policy::parse(&file()).unwrap()
}

fn request(caller: u8, capability: &str) -> Request<'_> {
    Request::new(agent(caller).id(), capability, MONDAY)
}

fn decided(request: &Request<'_>) -> (bool, Option<u32>) {
    let Decision { allowed, line, .. } = policy().decide(request);
    (allowed, line)
}

#[test]
fn rules_decide_by_line() {
    assert_eq!(decided(&request(ALICE, "fx.rates")), (true, Some(10)));
    assert_eq!(decided(&request(BOB, "weather")), (true, Some(10)));
    assert_eq!(decided(&request(5, "weather")), (false, None));
    let groups = [agent(90).id()];
    assert_eq!(decided(&Request { groups: &groups, ..request(5, "weather") }), (true, Some(10)));
    let pay = Request { level: Level::L2, cost: 50, ..request(ALICE, "pay") };
    assert_eq!(decided(&pay), (true, Some(15)));
    assert_eq!(decided(&Request { level: Level::L1, ..pay }), (false, None));
    assert_eq!(decided(&Request { cost: 51, ..pay }), (false, None));
    assert_eq!(decided(&Request { now: MONDAY + secs(4 * 3600), ..pay }), (false, None), "18:13");
    assert_eq!(
        decided(&Request { now: MONDAY + secs(5 * 86_400), ..pay }),
        (false, None),
        "Saturday"
    );
    let endorsers = [agent(BOB).id()];
    let read =
        Request { endorsers: &endorsers, evidence: &["provenance"], ..request(5, "files.read") };
    assert_eq!(decided(&read), (true, Some(30)));
    assert_eq!(decided(&Request { evidence: &[], ..read }), (false, None));
    assert_eq!(decided(&Request { granted: true, ..request(5, "shared") }), (true, Some(35)));
    assert_eq!(decided(&request(5, "open.door")), (true, Some(39)));
    assert_eq!(
        decided(&Request { now: MONDAY + secs(10 * 86_400), ..request(5, "open.door") }),
        (false, None)
    );
    let obligations = policy().decide(&pay).obligations;
    assert_eq!(
        (obligations.max_stale, obligations.max_grant_life),
        (Some(secs(600)), Some(secs(3600)))
    );
}

#[test]
fn a_deny_wins_wherever_it_stands_and_nothing_is_allowed_by_silence() {
    let groups = [agent(90).id()];
    for name in ["weather", "open.door", "anything"] {
        let request =
            Request { groups: &groups, granted: true, public: true, ..request(EVE, name) };
        assert_eq!(decided(&request), (false, Some(25)), "{name}");
    }
    let decision = policy().decide(&request(EVE, "weather"));
    assert_eq!(decision.reason, "the rule in line 25 denies it (left in anger)");
    let stranger = Policy::empty().decide(&request(5, "x"));
    assert_eq!((stranger.allowed, stranger.line), (false, None));
    assert!(Policy::empty().decide(&Request { public: true, ..request(5, "x") }).allowed);
}

#[test]
fn explaining_names_the_deciding_line_and_what_others_lack() {
    let explained = policy().explain(&Request { cost: 7, ..request(ALICE, "pay") });
    assert!(!explained.decision.allowed);
    let unmet: Vec<(u32, Option<&str>)> =
        explained.rules.iter().map(|rule| (rule.line, rule.unmet.as_deref())).collect();
    assert_eq!(
        unmet,
        [
            (10, Some("`pay` is not fx.* or weather")),
            (
                15,
                Some(
                    "the caller is L0, and L2 (proved by acknowledged calls and canaries) is asked for"
                )
            ),
            (25, Some("the caller is not one of its agents")),
            (30, Some("`pay` is not *.read")),
            (35, Some("`pay` is not shared")),
            (39, Some("`pay` is not open.*")),
        ]
    );
    let later = Request { level: Level::L2, now: MONDAY + secs(4 * 3600), ..request(ALICE, "pay") };
    let explained = policy().explain(&later);
    assert_eq!(
        explained.rules[1].unmet.as_deref(),
        Some("it is 18:13 there, outside of its hours")
    );
    let granted = policy().explain(&request(ALICE, "weather"));
    assert_eq!(granted.rules[0].unmet, None);
    assert_eq!(granted.decision.line, Some(10));
}

#[test]
fn hours_go_over_midnight_and_know_their_offset() {
    let policy = Policy::parse(
        "[[rule]]\nallow = \"x\"\nanyone = true\nhours = \"22:00-06:00\"\ndays = [\"fri\"]\nutc_offset = \"+02:00\"\n",
    )
    .unwrap();
    // Friday, 2026-09-25, 22:00 there is 20:00 UTC.
    let friday = Time::from_secs(1_790_294_400 + 72_000);
    assert_eq!(friday.rfc3339(), "2026-09-25T20:00:00Z");
    let at = |now| policy.decide(&Request { now, ..request(5, "x") }).allowed;
    assert!(!at(friday - secs(1)) && at(friday) && at(friday + secs(8 * 3600 - 1)));
    assert!(!at(friday + secs(8 * 3600)) && !at(friday + secs(86_400)));
}

#[test]
fn rates_and_budgets_are_metered_per_caller_and_rule() {
    let policy = policy();
    let mut meter = Meter::new();
    let decision = policy.decide(&request(ALICE, "weather"));
    let mut count = |caller: u8, cost, now| meter.count(&agent(caller).id(), &decision, cost, now);
    assert_eq!(count(ALICE, 0, NOW), Ok(()));
    assert_eq!(count(ALICE, 0, NOW + secs(10)), Ok(()));
    let refused = MeterError::Rate { line: 10, calls: 2, window_ms: 60_000, retry_after: secs(40) };
    assert_eq!(count(ALICE, 0, NOW + secs(20)), Err(refused));
    assert_eq!(count(BOB, 0, NOW + secs(20)), Ok(()));
    assert_eq!(count(ALICE, 0, NOW + secs(60)), Ok(()));
    let policy =
        Policy::parse("[[rule]]\nallow = \"x\"\nanyone = true\nbudget_per_day = 100\n").unwrap();
    let decision = policy.decide(&request(ALICE, "x"));
    let mut meter = Meter::new();
    assert_eq!(meter.count(&agent(5).id(), &decision, 90, NOW), Ok(()));
    let refused = MeterError::Budget { line: 1, budget: 100, left: 10 };
    assert_eq!(meter.count(&agent(5).id(), &decision, 11, NOW + secs(86_399)), Err(refused));
    assert_eq!(meter.count(&agent(5).id(), &decision, 11, NOW + secs(86_400)), Ok(()));
}

fn refused(text: &str) -> (u32, u32, String, String) {
    let PolicyError { line, column, what, hint } = Policy::parse(text).unwrap_err();
    (line, column, what, hint)
}

#[test]
fn a_wrong_file_is_refused_with_its_place_and_remedy() {
    let cases = [
        ("[[rule]]\nallow = \"x\n", 2, 11, "invalid basic string", "not TOML"),
        ("[[rule]]\nallow = \"x\"\n", 1, 1, "does not say whom", "anyone = true"),
        (
            "\n[[rule]]\nalow = \"x\"\n",
            3,
            1,
            "`alow` means nothing in a rule",
            "did you mean `allow`?",
        ),
        ("[[rules]]\n", 1, 3, "`rules` means nothing in a policy", "did you mean `rule`?"),
        (
            "[[rule]]\nallow = \"x\"\ndeny = \"x\"\nanyone = true",
            3,
            8,
            "both allows and denies",
            "two rules",
        ),
        ("[[rule]]\nnote = \"n\"\n", 1, 1, "neither allows nor denies", "add a line"),
        (
            "[[rule]]\nallow = \"FX *\"\nanyone = true",
            2,
            9,
            "`FX *` names no capabilities",
            "a-z 0-9",
        ),
        (
            "[[rule]]\nallow = \"a*b*\"\nanyone = true",
            2,
            9,
            "names no capabilities",
            "at most one *",
        ),
        ("[agents]\nalice = \"nonsense\"\n", 2, 9, "`nonsense` is not a key", "z-base-32"),
        (
            "[[rule]]\nallow = \"x\"\nagents = [\"alic\"]\n",
            3,
            11,
            "neither a key nor a name",
            "[agents]",
        ),
        (
            "[[rule]]\nallow = \"x\"\ngroups = \"friends\"\n",
            3,
            10,
            "no group `friends`",
            "[groups]",
        ),
        (
            "[[rule]]\nallow = \"x\"\nanyone = true\nlevel = \"high\"",
            4,
            9,
            "`high` is no level",
            "L2 (proved)",
        ),
        (
            "[[rule]]\nallow = \"x\"\nanyone = true\nrate = \"often\"",
            4,
            8,
            "`often` is not a rate",
            "60/min",
        ),
        (
            "[[rule]]\nallow = \"x\"\nanyone = true\nhours = \"8-18\"",
            4,
            9,
            "not hours",
            "08:00-18:00",
        ),
        ("[[rule]]\nallow = \"x\"\nanyone = true\ndays = \"monday\"", 4, 8, "not a day", "mon-fri"),
        (
            "[[rule]]\nallow = \"x\"\nanyone = true\nfrom = \"2026-01-01\"",
            4,
            8,
            "`from` is not a date",
            "without quotes",
        ),
        (
            "[[rule]]\nallow = \"x\"\nanyone = true\nfrom = 2026-02-01\nuntil = 2026-01-01",
            5,
            9,
            "ends before",
            "swap",
        ),
        (
            "[[rule]]\nallow = \"x\"\nanyone = true\nmax_cost = -1",
            4,
            12,
            "not a whole number",
            "from 0 on",
        ),
        (
            "[[rule]]\nallow = \"x\"\nanyone = \"yes\"",
            3,
            10,
            "`anyone` is not true",
            "anyone = true",
        ),
        ("[[rule]]\ndeny = \"x\"\nrate = \"1/s\"", 3, 8, "denies and has a `rate`", "allow"),
        ("[[rule]]\nallow = []\nanyone = true", 2, 9, "has 0 entries", "leave the line out"),
        ("rule = 3", 1, 8, "not a list of tables", "[[rule]]"),
        ("[[rule]]\nallow = 3\nanyone = true", 2, 9, "not text, but integer", "between quotes"),
        ("[[rule]]\nallow = \"x\"\nanyone = true\nagents = \"k\"", 4, 10, "neither a key", ""),
        (
            "[[rule]]\nallow = \"x\"\nanyone = true\nmax_stale = \"soon\"",
            4,
            13,
            "not a length of time",
            "10min",
        ),
    ];
    for (text, line, column, what, hint) in cases {
        let found = refused(text);
        assert_eq!((found.0, found.1), (line, column), "{text}\n{found:?}");
        assert!(found.2.contains(what) && found.3.contains(hint), "{text}\n{found:?}");
    }
}

/// A thousand random rules decide as a walk through all of them does.
#[test]
fn the_index_decides_as_a_walk_does() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let rule = (0u8..2, 0usize..8, 0usize..7, 0usize..3);
    for _ in 0..40 {
        let rules =
            proptest::collection::vec(rule.clone(), 1..60).new_tree(&mut runner).unwrap().current();
        let text: String = rules
            .iter()
            .map(|(deny, glob, who, level)| rule_text(*deny == 1, *glob, *who, *level))
            .collect();
        let text = format!(
            "[groups]\nlist = [\"{}\", \"{}\"]\nkey = \"{}\"\n{text}",
            agent(2).id(),
            agent(3).id(),
            agent(90).id()
        );
        let policy = Policy::parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        for (caller, name) in
            [2u8, 3, 4].into_iter().flat_map(|caller| NAMES.map(|name| (caller, name)))
        {
            for groups in [&[][..], &[agent(90).id()]] {
                for endorsers in [&[][..], &[agent(91).id(), agent(92).id()]] {
                    let request =
                        Request { groups, endorsers, level: Level::L1, ..request(caller, name) };
                    let explained = policy.explain(&request);
                    let first = |effect: &str| {
                        explained
                            .rules
                            .iter()
                            .find(|rule| rule.unmet.is_none() && rule.effect == effect)
                            .map(|rule| rule.line)
                    };
                    let expected = match (first("deny"), first("allow")) {
                        (Some(line), _) => (false, Some(line)),
                        (None, Some(line)) => (true, Some(line)),
                        (None, None) => (false, None),
                    };
                    assert_eq!(
                        (explained.decision.allowed, explained.decision.line),
                        expected,
                        "{text}"
                    );
                }
            }
        }
    }
}

const NAMES: [&str; 5] = ["a", "ab.c", "b.c", "abc", "z"];

fn rule_text(deny: bool, glob: usize, who: usize, level: usize) -> String {
    let glob = ["a", "a*", "*", "*.c", "a*c", "ab*", "b.c", "z"][glob];
    let id = |n: u8| -> AgentId { agent(n).id() };
    let who = match who {
        0 => format!("agents = \"{}\"", id(2)),
        1 => format!("agents = [\"{}\", \"{}\"]", id(3), id(4)),
        2 => "groups = \"list\"".to_owned(),
        3 => "groups = [\"key\"]".to_owned(),
        4 => format!("endorsed_by = \"{}\"", id(91)),
        5 => format!("agents = \"{}\"\nendorsed_by = \"{}\"", id(2), id(92)),
        _ => "anyone = true".to_owned(),
    };
    let effect = if deny { "deny" } else { "allow" };
    format!("[[rule]]\n{effect} = \"{glob}\"\n{who}\nlevel = \"L{level}\"\n")
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_read_or_refused_with_a_place(text in "(\\[\\[rule\\]\\]\n|[a-z_]{1,12} = [\"0-9a-z*\\[\\], ]{0,12}\n|.{0,10}\n){0,12}") {
        if let Err(error) = Policy::parse(&text) {
            prop_assert!(error.line >= 1 && error.column >= 1 && !error.hint.is_empty());
        }
    }
}

/// What rules can ask of evidence: a kind, what it shows, and whom one fact excludes.
#[test]
fn rules_ask_what_evidence_shows() {
    let text = r#"
[[rule]]
allow = "read"
anyone = true
evidence = "model-signing"

[[rule]]
allow = "write"
anyone = true
evidence = ["model-signing=sha256:00", "trace"]

[[rule]]
allow = "pay"
anyone = true
against = "operator-software+co-tenant"

[evidence.model-signing]
keys = ["a.pem", "b.pem"]
roots = "root.json"
identities = "me@example.com https://issuer.example"
accept = ["sha256:00"]

[evidence.trace]
"#;
    let policy = Policy::parse(text).unwrap();
    assert!(policy.asks_evidence() && !Policy::empty().asks_evidence());
    let rules = &policy.evidence()["model-signing"];
    assert_eq!(
        (rules.keys.len(), rules.roots.as_slice()),
        (2, ["root.json".to_owned()].as_slice())
    );
    assert!(rules.accept.contains("sha256:00") && policy.evidence().contains_key("trace"));
    let allowed = |name, evidence: &[&str], excluded: &[Attackers]| {
        policy.decide(&Request { evidence, excluded, ..request(5, name) }).allowed
    };
    let shown = ["model-signing", "model-signing=sha256:00", "trace"];
    assert!(!allowed("read", &[], &[]) && allowed("read", &shown[..1], &[]));
    assert!(!allowed("write", &shown[..1], &[]) && allowed("write", &shown, &[]));
    assert!(!allowed("write", &["model-signing=sha256:01", "trace"], &[]));
    let (tenant, operator) = (Attackers::CO_TENANT, Attackers::OPERATOR_SOFTWARE);
    assert!(!allowed("pay", &shown, &[tenant, operator]), "facts do not add up");
    assert!(allowed("pay", &[], &[Attackers::SOFTWARE]));
    let explained = policy.explain(&request(5, "pay"));
    assert!(explained.rules[2].unmet.as_ref().unwrap().contains("operator-software"));
    for (text, hint) in [
        ("[evidence.tpm]\n", "trace"),
        ("[evidence.tdx]\nkey = \"a\"\n", "keys"),
        ("[evidence.tdx]\nkeys = \"\"\n", "characters"),
        ("[[rule]]\nallow = \"a\"\nanyone = true\nagainst = \"everybody\"\n", "co-tenant"),
        ("[[rule]]\nallow = \"a\"\nanyone = true\nevidence = \"tdx=a b\"\n", "what it must show"),
    ] {
        let refused = Policy::parse(text).unwrap_err();
        assert!(refused.hint.contains(hint), "{text}: {refused}");
    }
}

#[test]
fn what_becomes_of_services_of_other_networks() {
    let policy = Policy::parse("[via]\npilot = \"refuse\"\nother = \"allow\"\n").unwrap();
    assert_eq!(policy.via("pilot"), Via::Refuse);
    assert_eq!(policy.via("other"), Via::Allow);
    assert_eq!(policy.via("unheard"), Via::Lower);
    assert_eq!(Policy::empty().via("pilot"), Via::Lower);
    let all = Policy::parse("[via]\n\"*\" = \"refuse\"\npilot = \"lower\"\n").unwrap();
    assert_eq!((all.via("pilot"), all.via("unheard")), (Via::Lower, Via::Refuse));
    for (text, hint) in [
        ("[via]\npilot = \"deny\"\n", "allow, lower or refuse"),
        ("[via]\npilot = false\n", "quotes"),
        ("[via]\n\"\" = \"lower\"\n", "1 to 64 bytes"),
        ("via = 1\n", "[via]"),
    ] {
        let refused = Policy::parse(text).unwrap_err();
        assert!(refused.hint.contains(hint), "{text}: {refused}");
    }
}
