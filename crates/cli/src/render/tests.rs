//! What people see, on fixed answers: the wording and layout are part of the product.

use comity_api::Ticket;
use comity_api::types::*;
use comity_core::Identity;
use serde_json::json;

use super::{call, clean, columns, find, network, node, serve};

const NOW_MS: u64 = 1_768_000_000_000;

fn plain(text: &str) -> String {
    anstream::adapter::strip_str(text).to_string()
}

/// Compares, and checks that no line is wider than a narrow terminal unless it is one unbreakable word.
fn assert_text(actual: &str, wanted: &str) {
    let actual = plain(actual);
    for line in actual.lines() {
        let words = line.split_whitespace().count();
        assert!(columns(line) <= 80 || words <= 2, "wider than 80 columns: {line}");
    }
    assert_eq!(actual.trim_end(), wanted.trim_end(), "\n--- actual ---\n{actual}");
}

fn agent(seed: u8) -> AgentName {
    AgentName {
        agent: Identity::from_secret_bytes(&[seed; 32]).id(),
        address: format!("fd12:3456:789a:bcde:f012:3456:789a:bc{seed:02x}"),
        handle: format!("4660:1234.5678.9A{seed:02X}#abcdefgh"),
    }
}

fn condition(text: &str, declared: Option<&str>, verdict: Verdict, soft: bool) -> Condition {
    Condition {
        text: text.into(),
        key: "k".into(),
        wanted: "w".into(),
        declared: declared.map(str::to_owned),
        verdict,
        soft,
    }
}

fn label(label: &str) -> GroupLabel {
    GroupLabel { key: "00".into(), family: "facet".into(), label: label.into() }
}

fn found(explain: bool) -> FindResponse {
    let found = Match {
        target: format!("{}/ecb-rates", agent(1).address),
        agent: agent(1),
        capability: "ecb-rates".into(),
        title: "Euro foreign exchange reference rates".into(),
        description: String::new(),
        conditions: vec![
            condition(
                "fin:pair all EUR/USD",
                Some("EUR/AUD, EUR/BGN, … (41)"),
                Verdict::Met,
                false,
            ),
            condition(
                "schema:temporalCoverage covers 2021-01-01/2024-12-31",
                Some("1999-01-04/2026-01-09"),
                Verdict::Met,
                false,
            ),
            condition("price < 0.001 USD", None, Verdict::Undeclared, true),
        ],
        found_by: vec![label("fin:pair=EUR/USD")],
        custodians: Share { n: 3, of: 4 },
        freshness: Freshness {
            seq: 7,
            issued_at_ms: NOW_MS - 180_000,
            expires_at_ms: NOW_MS + 1,
            alive_at_ms: None,
            record_verified: true,
        },
        probe: Some(Probe::Alive { rtt_us: 1_250 }),
        relevance: 0.914,
        trust: 0.5,
        score: 0.83,
        score_parts: vec![ScorePart { name: "text".into(), value: 0.9, weight: 0.5 }],
        explored: false,
        via: Some("pilot".into()),
        standing: None,
    };
    FindResponse {
        query: "\"historical FX\" where pair = EUR/USD and time covers 2021..2024".into(),
        matches: vec![found],
        near_misses: vec![],
        search: SearchSummary {
            custodians_asked: 4,
            custodians_answered: 4,
            candidates: 14,
            rejected: 1,
            truncated: false,
            elapsed_ms: 38,
        },
        explain: explain.then(|| Explain {
            plan: vec![
                PlanKey {
                    group: label("fin:pair=EUR/USD"),
                    asked: true,
                    group_size: Some(12),
                    returned: 3,
                },
                PlanKey { group: label("historical"), asked: false, group_size: None, returned: 0 },
            ],
            custodians: vec![
                CustodianAsked {
                    agent: agent(2),
                    label: "fin:pair=EUR/USD".into(),
                    returned: Some(1),
                    rtt_us: Some(900),
                    problem: None,
                },
                CustodianAsked {
                    agent: agent(3),
                    label: "fin:pair=EUR/USD".into(),
                    returned: None,
                    rtt_us: None,
                    problem: Some("no answer".into()),
                },
            ],
            phases: vec![
                Phase { name: "plan".into(), elapsed_us: 120 },
                Phase { name: "ask".into(), elapsed_us: 31_000 },
            ],
            rounds: 2,
            rpcs: 9,
            bytes_sent: 1_300,
            bytes_received: 7_000,
            elapsed_ms: 38,
            notes: vec!["the term `historical` was not needed".into()],
        }),
    }
}

#[test]
fn a_match_reads_as_a_reason() {
    assert_text(
        &find::answer_at(&found(false), 80, NOW_MS),
        r#"
query    "historical FX" where pair = EUR/USD and time covers 2021..2024
asked    4 of 4 custodians answered, 14 capabilities seen, 38 ms; 1 rejected as
         forged or expired

1. Euro foreign exchange reference rates
   call     fd12:3456:789a:bcde:f012:3456:789a:bc01/ecb-rates
   agent    4660:1234.5678.9A01#abcdefgh
   met      fin:pair all EUR/USD: declares EUR/AUD, EUR/BGN, … (41)
   met      schema:temporalCoverage covers 2021-01-01/2024-12-31: declares
            1999-01-04/2026-01-09
   unknown  price < 0.001 USD (preferred): undeclared
   known    3 of 4 custodians; signed 3 min ago; answers in 1.2 ms
   score    0.83 (relevance 0.91, trust 0.50)
   via      pilot; nothing proves who answers there
"#
        .trim_start(),
    );
}

#[test]
fn explain_shows_plan_custodians_and_costs() {
    let text = plain(&find::answer_at(&found(true), 80, NOW_MS));
    let (_, tail) = text.split_once("   parts").unwrap();
    assert_text(
        tail,
        "    text 0.90 x 0.50
   found by fin:pair=EUR/USD (facet)

how it was found
   fin:pair=EUR/USD  facet  group of 12  returned 3
   historical        facet               in reserve
custodians
   4660:1234.5678.9A02#abcdefgh  900 us  1 digest   fin:pair=EUR/USD
   4660:1234.5678.9A03#abcdefgh          no answer  fin:pair=EUR/USD
time     38 ms: plan 120 us, ask 31 ms
cost     9 requests in 2 rounds, 1 KiB out, 6 KiB in
note     the term `historical` was not needed
",
    );
}

#[test]
fn nothing_found_shows_what_nearly_fits_and_why_not() {
    let mut response = found(false);
    response.matches.clear();
    response.search.rejected = 0;
    response.near_misses.push(NearMiss {
        target: format!("{}/ecb-rates", agent(1).address),
        agent: agent(1),
        capability: "ecb-rates".into(),
        title: "Euro foreign exchange reference rates".into(),
        met: 2,
        failed: vec![condition(
            "dcat:temporalResolution finer_or_equal 1 minute",
            Some("1 day"),
            Verdict::Unmet,
            false,
        )],
    });
    assert_text(
        &find::answer_at(&response, 80, NOW_MS),
        r#"
query    "historical FX" where pair = EUR/USD and time covers 2021..2024
asked    4 of 4 custodians answered, 14 capabilities seen, 38 ms

none: no capability satisfies every condition

nearest misses
 - ecb-rates Euro foreign exchange reference rates
   call     fd12:3456:789a:bcde:f012:3456:789a:bc01/ecb-rates
   fails    dcat:temporalResolution finer_or_equal 1 minute: declares 1 day
"#
        .trim_start(),
    );
}

fn status() -> Status {
    Status {
        version: "0.1.0".into(),
        agent: agent(1),
        network: "main".into(),
        mint_bits: 10,
        pid: 4711,
        home: "/home/me/.local/share/comity".into(),
        started_at_ms: NOW_MS,
        uptime_ms: 200_000,
        listen: vec!["0.0.0.0:4433".parse().unwrap()],
        reachable_at: vec!["192.0.2.7:4433".parse().unwrap()],
        ticket: Ticket::new(agent(1).agent, ["192.0.2.7:4433".parse().unwrap()]),
        role: Role::Server,
        join: JoinState::Failed {
            failed: vec![JoinFailure {
                address: "192.0.2.9:1".into(),
                reason: "no answer in 5 s; is it running?".into(),
            }],
        },
        peers: PeerCounts { connected: 3, parked: 4, routing: 7, known: 9 },
        network_size: Some(12),
        custody: CustodyCounts { groups: 2, shards: 2, digests: 31, bytes: 14_000 },
        capabilities: 1,
        calls: CallCounts { made: 5, made_failed: 1, served: 8, served_failed: 0, in_flight: 0 },
        policy: PolicyStatus::default(),
        endpoints: vec![OpenEndpointView {
            listen: "127.0.0.1:8808".parse().unwrap(),
            serves: EndpointKind::All {},
            unauthenticated: false,
        }],
    }
}

fn declaration() -> Declaration {
    let attribute =
        |kind: &str, value, text: &str| Attribute { kind: kind.into(), value, text: text.into() };
    Declaration {
        name: "ecb-rates".into(),
        title: "Euro foreign exchange reference rates".into(),
        description:
            "Daily reference rates of the European Central Bank against the euro, since 1999."
                .into(),
        examples: vec!["EUR/USD on 4 January 1999".into()],
        classes: vec![
            Class { id: "oasf1.1:domain/208".into(), caption: Some("Finance".into()) },
            Class { id: "my-own".into(), caption: None },
        ],
        tags: vec!["fx".into(), "rates".into()],
        attributes: [
            ("fin:pair".to_owned(), attribute("set", json!(["EUR/USD"]), "EUR/USD")),
            ("dcat:temporalResolution".to_owned(), attribute("duration", json!("P1D"), "1 day")),
        ]
        .into(),
        input_schema: json!({"type": "object"}),
        output_schema: json!({"type": "object"}),
        interface: "sha256:0011".into(),
        visibility: Visibility::Public,
        group: None,
        idempotent: true,
        streaming: false,
        data_version: Some("2026-01-09".into()),
    }
}

#[test]
fn status_leads_with_who_and_ends_with_the_ticket() {
    let served = Capabilities {
        capabilities: vec![ServedCapability {
            declaration: declaration(),
            source: "table /data/eurofxref.csv".into(),
            state: SpecialistState::Ready,
            problem: None,
            calls: 8,
            failures: 0,
            publication: Publication { groups: 6, custodians: 20, ..Publication::default() },
        }],
    };
    let text = node::status(&status(), &served, 80);
    let wanted = format!(
        "\
agent    {}
address  fd12:3456:789a:bcde:f012:3456:789a:bc01
handle   4660:1234.5678.9A01#abcdefgh
network  main (mint bits 10), routes and keeps custody; 3 peers connected, 4
         parked, 7 in the table, 9 known, about 12 nodes
join     no join address answered; still trying
         - 192.0.2.9:1: no answer in 5 s; is it running?
listens  0.0.0.0:4433
endpoint http://127.0.0.1:8808/mcp for MCP clients, /a2a for A2A clients
calls    5 made (1 failed), 8 served (0 failed), 0 running
policy   no file: what is public is allowed, and nothing else
keeps    31 digests in 2 shards of 2 groups (13 KiB)
up       3 min, process 4711, version 0.1.0, in /home/me/.local/share/comity
serves   ecb-rates ready: table /data/eurofxref.csv; 8 calls, 0 failed; kept by
         20 custodians
ticket   {}
",
        agent(1).agent,
        status().ticket
    );
    assert_text(&text, &wanted);
}

#[test]
fn the_ticket_is_drawn_when_it_fits() {
    let drawn = node::qr(&status().ticket, 80);
    assert!(drawn.lines().count() > 10 && drawn.lines().all(|line| columns(line) <= 80), "{drawn}");
    assert_eq!(node::qr(&status().ticket, 20), "");
}

#[test]
fn a_draft_shows_table_declaration_and_findings() {
    let column = |name: &str, kind: &str, min: &str, max: &str, distinct, missing| Column {
        name: name.into(),
        kind: kind.into(),
        missing,
        min: Some(min.into()),
        max: Some(max.into()),
        distinct,
        values: vec![],
    };
    let response = ServeResponse {
        mode: ServeMode::Check,
        findings: vec![Finding {
            level: FindingLevel::Warning,
            field: "classes[1]".into(),
            message: "`my-own` is in no taxonomy known here and is kept as a label of its own"
                .into(),
            fix: "did you mean market_data?".into(),
        }],
        declaration: Some(declaration()),
        table: Some(TableSummary {
            path: "/data/eurofxref.csv".into(),
            format: "csv".into(),
            rows: 260_000,
            bytes: 5_000_000,
            columns: vec![
                column("date", "date", "1999-01-04", "2026-01-09", None, 0),
                column("currency", "text", "AUD", "ZAR", Some(41), 0),
                column("rate", "decimal", "0.1", "20000", None, 12),
            ],
            coverage: Some("1999-01-04/2026-01-09".into()),
            resolution: Some("P1D".into()),
        }),
        published: None,
    };
    assert_text(
        &serve::draft(&response, 80),
        "\
/data/eurofxref.csv: csv, 260000 rows, 4.7 MiB
  date      date     1999-01-04 to 2026-01-09
  currency  text     AUD to ZAR, 41 values
  rate      decimal  0.1 to 20000, 12 missing
  covers   1999-01-04/2026-01-09, one row every P1D
ecb-rates: Euro foreign exchange reference rates
  Daily reference rates of the European Central Bank against the euro, since
  1999.
  example  EUR/USD on 4 January 1999
  class    Finance (oasf1.1:domain/208)
  class    my-own (a label of its own)
  tags     fx, rates
  dcat:temporalResolution  1 day duration
  fin:pair                 EUR/USD set
  open to  everyone
  calls    repeatable
  speaks   sha256:0011
  version  2026-01-09
  warning classes[1]: `my-own` is in no taxonomy known here and is kept as a
          label of its own
          did you mean market_data?
fine: this can be published
",
    );
}

#[test]
fn an_answer_is_the_value_alone_and_the_remark_goes_elsewhere() {
    assert_eq!(call::output(&Output::Value(json!({"a": 1}))), "{\n  \"a\": 1\n}\n");
    assert_eq!(call::output(&Output::Items(vec![json!({"a": 1}), json!([2])])), "{\"a\":1}\n[2]\n");
    assert_eq!(call::output(&Output::Value(json!("\u{1b}[2J"))), "\"\\u001b[2J\"\n");
}

#[test]
fn peers_and_pings_are_tables() {
    let peer = |seed, session, rtt_us| Peer {
        agent: agent(seed),
        addrs: vec!["192.0.2.7:4433".parse().unwrap()],
        session,
        role: Role::Server,
        bucket: Some(3),
        rtt_us,
        seen_at_ms: Some(NOW_MS - 5_000),
        path: None,
    };
    let peers = Peers {
        peers: vec![
            peer(1, SessionState::Connected, Some(850)),
            peer(2, SessionState::Known, None),
        ],
    };
    assert_text(
        &network::peers_at(&peers, NOW_MS),
        "\
4660:1234.5678.9A01#abcdefgh  connected  server  850 us  192.0.2.7:4433  5 s ago
4660:1234.5678.9A02#abcdefgh  known      server          192.0.2.7:4433  5 s ago
2 peers known, 1 connected
",
    );
    let ping = PingResponse {
        agent: agent(1),
        path: "direct 192.0.2.7:4433".into(),
        connect_us: Some(3_400),
        pings: vec![
            Ping { number: 1, rtt_us: Some(900), error: None },
            Ping {
                number: 2,
                rtt_us: None,
                error: Some(ErrorInfo::new(ErrorCode::Timeout, "no answer in 5 s")),
            },
        ],
    };
    assert_text(
        &network::ping(&ping, 80),
        "\
fd12:3456:789a:bcde:f012:3456:789a:bc01 4660:1234.5678.9A01#abcdefgh
  path     direct 192.0.2.7:4433, connected in 3.4 ms
  ping 1   900 us
  ping 2   no answer in 5 s
  all      1 of 2 answered; 900 us / 900 us / 900 us (min / mean / max)
",
    );
}

#[test]
fn groups_are_told_apart_by_key_and_label() {
    let group = |label: &str, own: &[&str]| Group {
        group: GroupLabel {
            key: "00112233445566".into(),
            family: "term".into(),
            label: label.into(),
        },
        own: own.iter().map(|name| (*name).to_owned()).collect(),
        digests: 2,
        shards: 1,
        bytes: 700,
    };
    let long = format!("interface/sha256:{}", "0".repeat(64));
    let groups = Groups { groups: vec![group("term/ecb", &["ecb-rates"]), group(&long, &[])] };
    assert_text(
        &network::groups(&groups, 80),
        "\
00112233…  term/ecb                        2 digests, 700 B  own: ecb-rates
00112233…  interface/sha256:000000000000…  2 digests, 700 B
",
    );
}

#[test]
fn text_from_elsewhere_cannot_move_the_cursor() {
    assert_eq!(clean("a\u{1b}[31mred\u{7}\nb\u{202e}c"), "a\u{fffd}[31mred\u{fffd} b\u{fffd}c");
    let mut response = found(false);
    response.matches[0].title = "\u{1b}]0;owned\u{7}".into();
    let text = find::answer_at(&response, 80, NOW_MS);
    assert!(!text.contains("\u{1b}]") && !text.contains('\u{7}'));
}

#[test]
fn units_are_for_people() {
    use super::{ago, bytes, micros, span_ms};
    let times: Vec<String> =
        [7, 999, 1_000, 9_999, 10_000, 999_999, 1_500_000, 240_000_000].map(micros).into();
    assert_eq!(times, ["7 us", "999 us", "1.0 ms", "9.9 ms", "10 ms", "999 ms", "1.5 s", "4 min"]);
    assert_eq!(
        [0, 1_023, 1_024, 1_048_576, 1_600_000].map(bytes),
        ["0 B", "1023 B", "1 KiB", "1.0 MiB", "1.5 MiB"]
    );
    assert_eq!(
        [5, 5_000, 120_000, 7_200_000, 172_800_000].map(span_ms),
        ["5 ms", "5 s", "2 min", "2 h", "2 days"]
    );
    assert_eq!((ago(1_000, 61_000), ago(61_000, 1_000)), ("60 s ago".into(), "in 60 s".into()));
}
