//! The README's story by hand: two identities, two nodes, a table served, found, called and verified; then everything again
//! after a restart.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::e2e_support::{Node, TEST_NETWORK, World, api, data, new_identity, wait};
use crate::support::comity;

/// The acceptance question.
const QUESTION: &str = "structured historical fx data where pair = EUR/USD and time covers 2021..2024 and resolution <= 1d";
/// The same to the minute, which nobody has.
const TOO_FINE: &str = "structured historical fx data where pair = EUR/USD and time covers 2021..2024 and resolution <= 1m";
const REQUEST: &str = r#"{"where": {"date": "2022-03-01"}, "columns": ["date", "USD"]}"#;

/// `serve --table` for FX rates, as a user types it.
fn serve_rates<'a>(table: &'a str, name: &'a str, pair: &'a str) -> Vec<&'a str> {
    let what = "Structured historical FX data";
    let mut line = vec!["serve", "--table", table, "--name", name, "--class", "fx_rates"];
    line.extend(["--description", what, "--attribute", pair, "--public", "--yes"]);
    line
}

/// A table of one rate per `step` of months or days.
fn rates(years: std::ops::RangeInclusive<u32>, monthly: bool) -> String {
    let mut table = "date,rate\n".to_owned();
    for year in years {
        for month in 1..=12 {
            for day in 1..=if monthly { 1 } else { 28 } {
                writeln!(table, "{year}-{month:02}-{day:02},1.{month:02}{day:02}").unwrap();
            }
        }
    }
    table
}

/// A node started with `up --detach`; stopped with the test.
struct Detached(std::path::PathBuf);

impl Drop for Detached {
    fn drop(&mut self) {
        // A leftover of a failed test; `down` of a node that is gone does no harm.
        let _ = comity(&self.0, &["down"]);
    }
}

impl Detached {
    fn start(home: &std::path::Path, join: &[&str]) -> (Self, Value) {
        let mut line = vec!["up", "--detach", "--json", "--listen", "127.0.0.1:0"];
        line.extend(TEST_NETWORK);
        line.extend(join.iter().flat_map(|address| ["--join", address]));
        let guard = Self(home.to_owned());
        let run = comity(home, &line);
        assert_eq!(run.code, 0, "{}", run.stderr);
        (guard, run.json())
    }
}

#[test]
fn two_nodes_by_hand_from_identity_to_proof() {
    let world = World::new();
    let (a, b) = (world.home("a"), world.home("b"));
    let (agent_a, agent_b) = (new_identity(&a), new_identity(&b));
    let (_a, up) = Detached::start(&a, &[]);
    assert_eq!((&up["agent"]["agent"], &up["network"]), (&json!(agent_a), &json!("test")));
    let status = comity(&a, &["status", "--json"]).json();
    let ticket = status["ticket"].as_str().unwrap();
    let (_b, _) = Detached::start(&b, &[ticket]);
    wait("b joins by ticket", || {
        let (_, status) = api(&b, "GET", "/v1/status", None).ok()?;
        (status["join"]["state"] == "joined").then_some(())
    });
    // A third one by AgentId@ip:port.
    let at = format!("{agent_a}@{}", status["reachable_at"][0].as_str().unwrap());
    let c = world.node("c", &["--join", &at]);
    c.wait_joined();

    let ecb = data("ecb-reference-rates.csv");
    let served = comity(&a, &serve_rates(&ecb, "ecb-rates", "pair=EUR/USD"));
    assert_eq!(served.code, 0, "{}", served.stderr);
    let early = world.file("early.csv", &rates(2010..=2012, false));
    let monthly = world.file("monthly.csv", &rates(2015..=2026, true));
    let other = world.file("other.csv", &rates(2015..=2026, false));
    c.ok(&serve_rates(&early, "early-rates", "pair=EUR/USD"));
    c.ok(&serve_rates(&monthly, "monthly-rates", "pair=EUR/USD"));
    c.ok(&serve_rates(&other, "yen-rates", "pair=USD/JPY"));

    finds_what_fits_and_names_what_nearly_does(&b, &world, &up);
    calls_and_keeps_the_proof(&b, &world, &agent_a, &agent_b);
    looks_around(&b, &up, &c);

    assert_eq!(comity(&a, &["unserve", "ecb-rates"]).code, 0);
    assert_eq!(comity(&a, &["unserve", "ecb-rates"]).code, 4, "it is gone already");
    let gone = comity(&b, &["find", QUESTION, "--json"]);
    assert_eq!((gone.code, gone.json()["matches"].clone()), (4, json!([])));
    let call = comity(&b, &["--json", "call", "ecb-rates", "--json", REQUEST]);
    assert_eq!((call.code, call.error_code().as_str()), (4, "no_match"), "{}", call.stderr);
    for home in [&a, &b] {
        assert_eq!(comity(home, &["down"]).code, 0);
        assert_eq!(comity(home, &["status"]).code, 3, "no node is left in {}", home.display());
    }
}

fn finds_what_fits_and_names_what_nearly_does(b: &std::path::Path, world: &World, up: &Value) {
    let target = format!("{}/ecb-rates", up["agent"]["address"].as_str().unwrap());
    let found = comity(b, &["find", QUESTION, "--json"]);
    assert_eq!(found.code, 0, "{}{}", found.stdout, found.stderr);
    let found = found.json();
    let targets: Vec<&Value> =
        found["matches"].as_array().unwrap().iter().map(|one| &one["target"]).collect();
    assert_eq!(targets, [&json!(target)]);
    let query = world.file(
        "query.json",
        &json!({"query": {"text": "structured historical fx data", "filter": {
            "pair": {"all": ["EUR/USD"]}, "time": {"covers": "2021/2024"}, "resolution": {"finer_or_equal": "1d"}
        }}})
        .to_string(),
    );
    let by_json = comity(b, &["find", "--query-json", &query, "--json"]);
    assert_eq!(by_json.code, 0, "{}", by_json.stderr);
    assert_eq!(by_json.json()["matches"][0]["target"], target);
    let explained = comity(b, &["find", QUESTION, "--explain"]);
    for said in ["fin:pair=EUR/USD", "declares P1D", &target] {
        assert!(explained.stdout.contains(said), "{said} is missing:\n{}", explained.stdout);
    }

    let none = comity(b, &["find", TOO_FINE, "--json"]);
    assert_eq!(none.code, 4);
    let none = none.json();
    assert_eq!(none["matches"], json!([]));
    let near = none["near_misses"].as_array().unwrap();
    assert!(near.iter().any(|miss| miss["target"] == target), "{none:#}");
    let said = comity(b, &["find", TOO_FINE]);
    assert_eq!(said.code, 4);
    for text in ["none:", "nearest misses", "fails    resolution <= PT1M: declares P1D"] {
        assert!(said.stdout.contains(text), "{text} is missing:\n{}", said.stdout);
    }
}

fn calls_and_keeps_the_proof(b: &std::path::Path, world: &World, producer: &str, caller: &str) {
    let proof = world.dir.path().join("proof.json");
    let proof = proof.to_str().unwrap();
    let call = comity(b, &["call", "ecb-rates", "--json", REQUEST, "--receipt", proof]);
    assert_eq!(call.code, 0, "{}", call.stderr);
    assert_eq!(call.json()["rows"], json!([["2022-03-01", 1.1162]]), "the rate of the ECB");
    assert!(call.stderr.contains("verified"), "{}", call.stderr);
    let elsewhere = world.dir.path();
    let verified = comity(elsewhere, &["verify", proof, "--json"]);
    assert_eq!(verified.code, 0, "{}", verified.stderr);
    let receipt = verified.json();
    assert_eq!((&receipt["callee"], &receipt["caller"]), (&json!(producer), &json!(caller)));

    let kept = std::fs::read_to_string(proof).unwrap();
    for (what, from, to) in [
        ("the answer", "1.1162", "1.1163"),
        ("the request", "2022-03-01", "2022-03-02"),
        ("the producer", producer, caller),
    ] {
        assert!(kept.contains(from), "{what}: {kept}");
        let forged = world.file("forged.json", &kept.replacen(from, to, 1));
        let bad = comity(elsewhere, &["--json", "verify", &forged]);
        assert_eq!((bad.code, bad.error_code().as_str()), (8, "not_verified"), "{what}");
    }
    let cut = world.file("cut.json", &kept[..kept.len() / 2]);
    assert_eq!(comity(elsewhere, &["verify", &cut]).code, 8);
}

fn looks_around(b: &std::path::Path, up: &Value, c: &Node) {
    let address = up["agent"]["address"].as_str().unwrap();
    let shown = comity(b, &["show", address]);
    assert!(shown.code == 0 && shown.stdout.contains("ecb-rates"), "{}", shown.stderr);
    let one = comity(b, &["show", &format!("{address}/ecb-rates"), "--json"]);
    assert_eq!(one.code, 0, "{}", one.stderr);
    for name in ["address", "handle", "agent"] {
        let target = up["agent"][name].as_str().unwrap();
        let ping = comity(b, &["ping", target, "--json"]);
        assert_eq!(ping.code, 0, "{target}: {}", ping.stderr);
        let answers = ping.json()["pings"].as_array().unwrap().clone();
        assert!(answers.iter().all(|ping| ping["rtt_us"].is_u64()), "{answers:?}");
    }
    let peers = comity(b, &["peers", "--json"]).json();
    let known: Vec<&Value> =
        peers["peers"].as_array().unwrap().iter().map(|peer| &peer["agent"]).collect();
    for agent in [up["agent"]["agent"].clone(), json!(c.agent())] {
        assert!(known.contains(&&agent), "{agent} is not among {known:?}");
    }
    let groups = comity(b, &["groups", "--json"]).json();
    let held = groups["groups"].as_array().unwrap().iter();
    assert!(
        held.map(|group| group["digests"].as_u64().unwrap()).sum::<u64>() > 0,
        "b keeps custody"
    );
}

#[test]
fn a_restarted_node_finds_its_peers_and_serves_again_without_being_told() {
    let world = World::new();
    let seed = world.node("seed", &[]);
    let mut producer = world.joined("producer", &seed);
    let asker = world.joined("asker", &seed);
    let ecb = data("ecb-reference-rates.csv");
    producer.ok(&serve_rates(&ecb, "ecb-rates", "pair=EUR/USD"));
    let target = format!("{}/ecb-rates", producer.address());
    assert_eq!(asker.finds(QUESTION), [target.as_str()]);

    producer.down();
    assert!(
        asker.finds(QUESTION).is_empty(),
        "a node that takes leave withdraws what it published"
    );
    let producer = Node::start(&producer.home, &[]);
    producer.wait_joined();
    wait("it serves again", || (producer.serves() == ["ecb-rates"]).then_some(()));
    wait("it is found again", || (asker.finds(QUESTION) == [target.as_str()]).then_some(()));
    let call = asker.ok(&["call", &target, "--json", REQUEST]);
    assert_eq!(call.json()["rows"], json!([["2022-03-01", 1.1162]]));
}
