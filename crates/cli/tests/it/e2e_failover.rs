//! Peers that die and callers that leave: the next best answers, and nobody works for a caller who is gone.

use std::io::Read;
use std::os::unix::process::ExitStatusExt;

use serde_json::json;

use crate::e2e_support::{World, alive, copies, data, moody_program, notes, wait};

const REQUEST: &str = r#"{"where": {"date": "2022-03-01"}, "columns": ["USD"]}"#;
const QUERY: &str = "fx data where pair = EUR/USD and time covers 2021..2024 and resolution <= 1d";

#[test]
fn when_the_best_producer_dies_the_next_best_answers() {
    let world = World::new();
    let asker = world.node("asker", &[]);
    let mut producers = [world.joined("p1", &asker), world.joined("p2", &asker)];
    let manifest = data("ecb-reference-rates.toml");
    for producer in &producers {
        producer.ok(&["serve", "--manifest", &manifest, "--yes"]);
    }
    let call = |query: &str| {
        let run = asker.ok(&["call", query, "--fresh", "--json", REQUEST, "--output", "json"]);
        let answer = run.json();
        assert_eq!(answer["output"]["value"]["rows"], json!([[1.1162]]), "{answer:#}");
        answer["proof"]["receipt"]["callee"].as_str().unwrap().to_owned()
    };
    let first = call(QUERY);
    let agents = producers.each_ref().map(crate::e2e_support::Node::agent);
    let best = agents.iter().position(|agent| *agent == first).unwrap();
    producers[best].kill();
    let second = call(QUERY);
    assert_eq!(second, agents[1 - best], "the survivor answers and signs");
    producers[1 - best].kill();
    let nobody =
        asker.run(&["--json", "call", QUERY, "--fresh", "--json", REQUEST, "--timeout", "8s"]);
    assert!([4, 6, 7].contains(&nobody.code), "{}: {}", nobody.code, nobody.stderr);
}

/// Sends a signal to a process this test started.
fn signal(pid: u32, name: &str) {
    let sent = std::process::Command::new("kill").args([name, &pid.to_string()]).status().unwrap();
    assert!(sent.success());
}

#[test]
fn the_specialist_of_a_caller_who_leaves_is_stopped() {
    let world = World::new();
    let server = world.node("server", &[]);
    let mut caller = world.joined("caller", &server);
    let (command, noted) = moody_program(&world, "moody");
    server.ok(&["serve", "--exec", &command, "--name", "moody", "--public", "--yes"]);
    let target = format!("{}/moody", server.address());
    let hang = ["call", &target, "--json", r#"{"mode": "hang"}"#];
    let hanging = || notes(&noted).iter().filter(|note| note.contains("hang")).count();
    let last_copy = || copies(&noted).pop().unwrap();
    let gone = |pid: &str| wait("the program is stopped", || (!alive(pid)).then_some(()));

    for (round, how) in ["-INT", "-KILL"].into_iter().enumerate() {
        let mut call = caller.background(&hang);
        wait("the program has the request", || (hanging() == round + 1).then_some(()));
        let program = last_copy();
        assert!(alive(&program), "it works as long as its caller waits");
        signal(call.id(), how);
        let status = call.wait().unwrap();
        if how == "-INT" {
            assert_eq!(status.code(), Some(130));
            let mut said = String::new();
            call.stderr.take().unwrap().read_to_string(&mut said).unwrap();
            assert!(said.contains("cancelled at the far end"), "{said}");
        } else {
            assert_eq!(status.signal(), Some(9));
        }
        gone(&program);
    }
    wait("no call is left", || (caller.status()["calls"]["in_flight"] == 0).then_some(()));
    // The whole caller goes, without a word.
    let mut call = caller.background(&hang);
    wait("the program has the request", || (hanging() == 3).then_some(()));
    let program = last_copy();
    caller.kill();
    assert!(!call.wait().unwrap().success());
    gone(&program);
    // And it works for others.
    let answer = server.ok(&["call", "moody", "--json", "{\"n\": 1}"]);
    assert_eq!(answer.json(), json!({"echo": {"n": 1}}));
}

#[test]
fn a_node_that_stops_takes_its_programs_with_it() {
    let world = World::new();
    let mut server = world.node("server", &[]);
    let (command, noted) = moody_program(&world, "moody");
    server.ok(&["serve", "--exec", &command, "--name", "moody", "--yes"]);
    server.ok(&["call", "moody", "--json", "{}"]);
    let mut call = server.background(&["call", "moody", "--json", r#"{"mode": "cling"}"#]);
    wait("the program has the request", || (notes(&noted).len() == 2).then_some(()));
    server.down();
    assert!(!call.wait().unwrap().success());
    wait("the program is gone", || (!copies(&noted).iter().any(|pid| alive(pid))).then_some(()));
}
