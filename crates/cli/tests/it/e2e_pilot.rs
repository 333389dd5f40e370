//! `comity pilot`: a rendezvous and nodes, each a process.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::e2e_support::{World, wait};
use crate::support::{Run, comity};

/// A `comity pilot …` that stays; it ends with the test.
struct Staying {
    home: PathBuf,
    child: Child,
    /// The document it printed at its start.
    started: Value,
}

impl Drop for Staying {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Staying {
    fn start(home: &Path, args: &[&str]) -> Self {
        std::fs::create_dir_all(home).unwrap();
        let out = home.join("out.json");
        let mut command = Command::new(env!("CARGO_BIN_EXE_comity"));
        command.env_remove("COMITY_HOME").env_remove("COMITY_LOG");
        command.arg("--home").arg(home).args(["--json", "pilot"]).args(args);
        let mut child = command
            .stdin(Stdio::null())
            .stdout(std::fs::File::create(&out).unwrap())
            .stderr(std::fs::File::create(home.join("err")).unwrap())
            .spawn()
            .unwrap();
        let started = wait("a process that stays says how it started", || {
            if let Some(status) = child.try_wait().unwrap() {
                panic!(
                    "it ended ({status}): {}",
                    std::fs::read_to_string(home.join("err")).unwrap()
                );
            }
            serde_json::from_str(&std::fs::read_to_string(&out).ok()?).ok()
        });
        Self { home: home.to_owned(), child, started }
    }

    fn join(world: &World, rendezvous: &Value, name: &str, more: &[&str]) -> Self {
        let text = |key: &str| rendezvous[key].as_str().unwrap();
        let mut args = vec!["join", "--registry", text("registry"), "--beacon", text("beacon")];
        args.extend(["--pin", text("fingerprint"), "--listen", "127.0.0.1:0", "--hostname", name]);
        args.extend(more);
        Self::start(&world.home(name), &args)
    }

    fn run(&self, args: &[&str]) -> Run {
        comity(&self.home, &[&["--json", "pilot"], args].concat())
    }

    fn ok(&self, args: &[&str]) -> Value {
        let run = self.run(args);
        assert_eq!(run.code, 0, "{args:?}: {}{}", run.stdout, run.stderr);
        run.json()
    }
}

fn network(world: &World) -> (Staying, Staying, Staying) {
    let at = "127.0.0.1:0";
    let args = ["rendezvous", "--registry", at, "--beacon", at, "--tls"];
    let rendezvous = Staying::start(&world.home("rendezvous"), &args);
    let one = Staying::join(world, &rendezvous.started, "one", &[]);
    let two = Staying::join(world, &rendezvous.started, "two", &[]);
    one.ok(&["handshake", "two", "a test"]);
    two.ok(&["handshake", "one"]);
    (rendezvous, one, two)
}

#[test]
fn two_nodes_meet_talk_and_leave() {
    let world = World::new();
    let (_rendezvous, one, mut two) = network(&world);
    let status = one.ok(&["status"]);
    assert_eq!(status["address"], one.started["address"]);
    assert_eq!(status["comity"], Value::Null, "there is no comity identity in this home");
    assert_eq!(status["public"], false);
    let found = one.ok(&["find", "two"]);
    assert_eq!(found["public_key"], two.started["public_key"]);
    assert_eq!(found["endpoint"], Value::Null);

    // A connection waits until the other side's trust is there.
    assert_eq!(one.ok(&["send", "two", "hello"])["answer"], "ACK TEXT 5 bytes");
    one.ok(&["send", "two", "--data", "{\"a\": 1}"]);
    let file = world.file("notes.txt", &"0123456789".repeat(50_000));
    assert_eq!(one.ok(&["send-file", "two", &file])["bytes"], 500_000);
    let got = two.ok(&["recv"]);
    assert_eq!(got[0]["text"], "hello");
    assert_eq!(got[1]["text"], "{\"a\":1}");
    assert_eq!((&got[2]["name"], &got[2]["bytes"]), (&json!("notes.txt"), &json!(500_000)));
    assert_eq!(one.ok(&["ping", "two", "--count", "2"]).as_array().unwrap().len(), 2);
    assert_eq!(one.ok(&["trust"])["trusted"][0]["node"], two.started["node"]);
    assert!(
        one.ok(&["bench", "--node", "two", "--megabytes", "1"])["dial_ms"].as_f64() > Some(0.0)
    );

    let own = one.started["node"].to_string();
    let refused = one.run(&["send", &own, "to myself"]);
    assert_eq!((refused.code, refused.error_code().as_str()), (2, "bad_request"));
    let second = comity(
        &one.home,
        &["pilot", "join", "--registry", "127.0.0.1:1", "--beacon", "127.0.0.1:1"],
    );
    assert_eq!(second.code, 9, "{}", second.stderr);

    two.ok(&["leave"]);
    assert!(two.child.wait().unwrap().success());
    assert_eq!(two.run(&["status"]).code, 3);
}

#[test]
fn what_one_network_has_the_other_gets() {
    let world = World::new();
    let node = world.node("two", &[]);
    node.ok(&[
        "serve",
        "--exec",
        "cat",
        "--name",
        "parrot",
        "--description",
        "says it again",
        "--yes",
    ]);
    let (_rendezvous, one, two) = network(&world);
    assert_eq!(two.ok(&["status"])["comity"], node.agent());

    // A capability of the comity node behind `two`, asked for by a Pilot node.
    two.ok(&["offer", "parrot", "--port", "2000"]);
    let answer = one.ok(&["request", "two", "{\"word\": \"ahoy\"}", "--port", "2000"]);
    assert_eq!(answer["output"]["value"], json!({"word": "ahoy"}), "{answer}");
    assert_eq!(answer["proof"]["receipt"]["callee"], node.agent());

    // The same service, now only a Pilot node's, brought to the comity node behind `one`.
    let here = world.node("one", &["--join", &node.ticket()]);
    here.wait_joined();
    let text = "says it again, far away";
    let bring = ["bring", "two", "--port", "2000", "--name", "far-parrot", "--public"];
    one.ok(&[&bring[..], &["--description", text]].concat());
    let target = format!("{}/far-parrot", here.address());
    let called = node.ok(&["call", &target, "--output", "json", "--json", "{\"word\": \"ahoy\"}"]);
    assert!(called.stdout.contains("ahoy"), "{}", called.stdout);
    // Whoever wants no such answers leaves them out.
    wait("what was brought is found", || {
        (node.finds("far parrot") == [target.as_str()]).then_some(())
    });
    assert_eq!(node.finds("far parrot exclude via = pilot"), Vec::<String>::new());
    // And the policy file can leave them out of everything.
    std::fs::write(node.home.join("policy.toml"), "[via]\npilot = \"refuse\"\n").unwrap();
    node.ok(&["policy", "reload"]);
    assert_eq!(node.finds("far parrot"), Vec::<String>::new());
    let refused = comity(&node.home, &["call", &target, "--json", "{\"word\": \"ahoy\"}"]);
    assert_ne!(refused.code, 0);
    assert!(refused.stderr.contains("via pilot"), "{}", refused.stderr);
}
