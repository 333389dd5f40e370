//! The audit log of real nodes: killed under load, read offline, proven to others, and refused when somebody changed it.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::mpsc;

use serde_json::{Value, json};

use crate::e2e_support::{Node, World, api, moody_program, wait};
use crate::support::comity;

/// Rounds of calling, SIGKILL and restart.
const ROUNDS: u64 = 3;
/// Signed entries to see in a round before the node is killed.
const SIGNED_PER_ROUND: u64 = 30;

fn serve_echo(node: &Node) {
    serve(node, "echo", &["/bin/cat"]);
}

fn serve(node: &Node, name: &str, command: &[&str]) {
    let request = json!({
        "mode": "publish",
        "source": {"kind": "exec", "command": command},
        "overrides": {"name": name, "description": "answers in its way", "visibility": "public"}
    });
    let (code, answer) = node.post("/v1/serve", &request);
    assert_eq!(code, 200, "{answer}");
}

fn signed(node: &Node) -> u64 {
    node.get("/v1/audit?limit=1")["checkpoint"]["size"].as_u64().unwrap_or(0)
}

/// All entries of a home, without a node.
fn entries(home: &Path) -> Vec<Value> {
    let mut entries = Vec::new();
    loop {
        let from = entries.len().to_string();
        let page = comity(home, &["audit", "list", "--from", &from, "-n", "256", "--json"]);
        assert_eq!(page.code, 0, "{}", page.stderr);
        let page = page.json()["entries"].as_array().unwrap().clone();
        if page.is_empty() {
            return entries;
        }
        entries.extend(page);
    }
}

fn receipts(entries: &[Value], kind: &str) -> BTreeSet<String> {
    let of_kind = entries.iter().filter(|entry| entry["kind"] == kind);
    of_kind.map(|entry| entry["fields"]["receipt"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_node_killed_under_load_keeps_everything_it_signed() {
    let world = World::new();
    let mut callee = world.node("callee", &[]);
    serve_echo(&callee);
    let mut caller = world.joined("caller", &callee);
    let target = format!("{}/echo", callee.address());
    let mut answered = 0;
    for round in 1..=ROUNDS {
        let (sender, answers) = mpsc::channel();
        let (home, callee_target) = (caller.home.clone(), target.clone());
        let load = std::thread::spawn(move || {
            for number in 0.. {
                let input = json!({"round": round, "number": number});
                let call = json!({"target": callee_target, "input": input, "timeout_ms": 5_000});
                match api(&home, "POST", "/v1/call", Some(&call)) {
                    Ok((200, _)) if sender.send(()).is_ok() => {}
                    Ok(_) | Err(_) => return,
                }
            }
        });
        let before = signed(&callee);
        let promised = wait("a load of calls is under a checkpoint", || {
            Some(signed(&callee)).filter(|size| *size >= before + SIGNED_PER_ROUND)
        });
        callee.kill();
        load.join().unwrap();
        answered += answers.try_iter().count();

        let held = comity(&callee.home, &["audit", "verify", "--json"]);
        assert_eq!(held.code, 0, "round {round}: {}", held.stderr);
        let size = held.json()["to"].as_u64().unwrap();
        assert!(size >= promised, "round {round}: {size} entries, {promised} were signed");
        callee = Node::start(&callee.home, &[]);
        callee.wait_joined();
        // Its caller had a link to the process that was killed.
        wait("the caller reaches it again", || {
            let call = json!({"target": target, "input": {"round": round}, "timeout_ms": 5_000});
            (caller.post("/v1/call", &call).0 == 200).then_some(())
        });
        answered += 1;
    }
    callee.down();
    caller.down();
    for node in [&callee, &caller] {
        let held = comity(&node.home, &["audit", "verify", "--json"]);
        assert_eq!(held.code, 0, "{}", held.stderr);
        assert_eq!(held.json()["unsigned"], 0, "a node that stops in order signs everything");
    }
    let (served, made) = (entries(&callee.home), entries(&caller.home));
    let starts = served.iter().filter(|entry| entry["kind"] == "started").count() as u64;
    assert_eq!(starts, ROUNDS + 1);
    let (given, taken) = (receipts(&served, "call-served"), receipts(&made, "call-made"));
    assert_eq!(taken.len(), answered, "the caller logged every answer it got");
    // A kill takes what was in the queue, not what was in a file: at most the calls of that moment.
    let missing = taken.difference(&given).count() as u64;
    assert!(missing <= ROUNDS, "{missing} of {answered} receipts are not in the callee's log");
    for kind in ["session-opened", "session-closed", "record-published", "call-served"] {
        assert!(served.iter().any(|entry| entry["kind"] == kind), "no {kind} in the log");
    }
}

#[test]
fn entries_are_proven_and_exported_to_people_without_the_log() {
    let world = World::new();
    let callee = world.node("callee", &[]);
    serve_echo(&callee);
    let caller = world.joined("caller", &callee);
    let target = format!("{}/echo", callee.address());
    for number in 0..5 {
        caller.ok(&["call", &target, "--json", &format!("{{\"number\": {number}}}")]);
    }
    let (command, _notes) = moody_program(&world, "moody");
    serve(&callee, "moody", &command.split(' ').collect::<Vec<_>>());
    let moody = format!("{}/moody", callee.address());
    let refused = caller.run(&["call", &moody, "--json", "{\"mode\": \"sorry\"}"]);
    assert_ne!(refused.code, 0, "{}", refused.stdout);
    let page = wait("the calls are under a checkpoint", || {
        let page = callee.get("/v1/audit?limit=256");
        let served = |entry: &&Value| entry["kind"] == "call-served";
        let calls = page["entries"].as_array().unwrap().iter().filter(served).count();
        (calls == 5 && page["checkpoint"]["size"] == page["size"]).then_some(page)
    });
    let denied = wait("the refusal is logged", || {
        let page = callee.get("/v1/audit?limit=256");
        let entries = page["entries"].as_array().unwrap().clone();
        entries.into_iter().find(|entry| entry["kind"] == "denied")
    });
    assert_eq!(denied["fields"]["reason"], "specialist-failed");
    assert_eq!(denied["fields"]["caller"], json!(caller.agent()));
    let last = page["entries"]
        .as_array()
        .unwrap()
        .iter()
        .rfind(|entry| entry["kind"] == "call-served")
        .unwrap();
    let index = last["index"].to_string();
    let shown = callee.ok(&["audit", "show", &index]).stdout;
    for said in ["call-served", "echo", &caller.agent()] {
        assert!(shown.contains(said), "{said} is missing from:\n{shown}");
    }
    // Another home, another machine for all it knows.
    let elsewhere = world.home("elsewhere");
    let proof = world.dir.path().join("proof.json");
    let proof = proof.to_str().unwrap();
    callee.ok(&["audit", "prove", &index, "--file", proof]);
    let held = comity(&elsewhere, &["audit", "verify", "--proof", proof, "--json"]);
    assert_eq!(held.code, 0, "{}", held.stderr);
    assert_eq!((&held.json()["log"], &held.json()["entry"]), (&json!(callee.agent()), last));
    let text = std::fs::read_to_string(proof).unwrap();
    let mut file: Value = serde_json::from_str(&text).unwrap();
    assert!(file["cose_receipt"].is_string());
    file["entry"]["fields"]["capability"] = json!("something-else");
    std::fs::write(proof, file.to_string()).unwrap();
    let lied = comity(&elsewhere, &["--json", "audit", "verify", "--proof", proof]);
    assert_eq!((lied.code, lied.error_code().as_str()), (8, "not_verified"));
    let other = caller.agent();
    std::fs::write(proof, &text).unwrap();
    let wrong = comity(&elsewhere, &["audit", "verify", "--proof", proof, "--log", &other]);
    assert_eq!(wrong.code, 8, "{}", wrong.stdout);

    // The caller's log holds what the callee signed, readable while its node runs.
    let export = world.dir.path().join("caller.jsonl");
    let export = export.to_str().unwrap();
    wait("the caller's calls are signed", || {
        // There is nothing to export before the first checkpoint.
        if caller.run(&["audit", "export", export]).code != 0 {
            return None;
        }
        let text = std::fs::read_to_string(export).unwrap();
        (text.matches("\"kind\":\"call-made\"").count() == 5 && text.contains("call-failed"))
            .then_some(())
    });
    let held = comity(&elsewhere, &["audit", "verify", export, "--log", &other]);
    assert_eq!(held.code, 0, "{}", held.stderr);
    assert!(held.stdout.contains("none is missing"), "{}", held.stdout);
    let text = std::fs::read_to_string(export).unwrap();
    let shorter: Vec<&str> = text.lines().filter(|line| !line.contains("call-failed")).collect();
    std::fs::write(export, shorter.join("\n") + "\n").unwrap();
    let robbed = comity(&elsewhere, &["--json", "audit", "verify", export]);
    assert_eq!((robbed.code, robbed.error_code().as_str()), (8, "not_verified"));
}

#[test]
fn a_log_that_somebody_shortened_keeps_the_node_from_starting() {
    let world = World::new();
    let mut node = world.node("node", &[]);
    serve_echo(&node);
    node.down();
    let audit = node.home.join("audit");
    let journal = std::fs::read_dir(&audit)
        .unwrap()
        .map(|file| file.unwrap().path())
        .find(|path| path.file_name().unwrap().to_string_lossy().starts_with("journal-"))
        .unwrap();
    let whole = std::fs::read(&journal).unwrap();
    // The first frame says where the journal begins and has 53 bytes; of the entries behind it the end is missing.
    std::fs::write(&journal, &whole[..80]).unwrap();
    for command in [["audit", "verify"], ["audit", "list"]] {
        let refused = comity(&node.home, &[&["--json"], &command[..]].concat());
        assert_eq!((refused.code, refused.error_code().as_str()), (8, "not_verified"));
        assert!(refused.stderr.contains("entries were removed"), "{}", refused.stderr);
    }
    let refused = comity(&node.home, &["up", "--mint-bits", "0", "--listen", "127.0.0.1:0"]);
    assert_eq!(refused.code, 8, "{}", refused.stderr);
    assert!(refused.stderr.contains("restore the directory from a backup"), "{}", refused.stderr);
    // With the file as it was, it starts again.
    std::fs::write(&journal, &whole).unwrap();
    let node = Node::start(&node.home, &[]);
    node.ok(&["audit", "verify"]);
}

#[test]
fn pruned_entries_stay_proven_to_have_been_there() {
    let world = World::new();
    let callee = world.node("callee", &[]);
    serve_echo(&callee);
    let caller = world.joined("caller", &callee);
    let target = format!("{}/echo", callee.address());
    wait("the first 256 entries are signed", || {
        for _ in 0..20 {
            let (code, answer) = caller.post("/v1/call", &json!({"target": target, "input": {}}));
            assert_eq!(code, 200, "{answer}");
        }
        (signed(&callee) > 256).then_some(())
    });
    let done = callee.ok(&["audit", "prune", "--before", "300"]).stdout;
    assert!(done.contains("entries before 256 are gone"), "{done}");
    let gone = callee.ok(&["audit", "show", "100", "--json"]).json();
    assert_eq!(gone["kind"], "pruned");
    let held = callee.ok(&["audit", "verify", "--json"]).json();
    assert_eq!(held["pruned"], 256);
    let refused = callee.run(&["--json", "audit", "prove", "100"]);
    assert_eq!(refused.error_code(), "not_found");
    callee.ok(&["audit", "prove", "256"]);
}

#[test]
fn whoever_calls_is_a_witness_and_a_proof_says_so() {
    let world = World::new();
    let callee = world.node("callee", &[]);
    serve_echo(&callee);
    let caller = world.joined("caller", &callee);
    let target = format!("{}/echo", callee.address());
    caller.ok(&["call", &target, "--json", "{}"]);
    let elsewhere = world.home("elsewhere");
    let proof = world.dir.path().join("proof.json");
    let proof = proof.to_str().unwrap();
    for (log, witness) in [(&callee, &caller), (&caller, &callee)] {
        let held = wait("the peer's signature comes back", || {
            log.ok(&["audit", "prove", "0", "--file", proof]);
            let held = comity(&elsewhere, &["audit", "verify", "--proof", proof, "--json"]);
            assert_eq!(held.code, 0, "{}", held.stderr);
            let witnesses = held.json()["checkpoint"]["cosigners"].as_array().unwrap().clone();
            (!witnesses.is_empty()).then_some(witnesses)
        });
        assert_eq!(held[0]["witness"], json!(witness.agent()));
        let seen = witness.ok(&["audit", "peers", "--json"]).json();
        assert_eq!((&seen["known"], &seen["peers"][0]["log"]), (&json!(1), &json!(log.agent())));
        let text = witness.ok(&["audit", "peers", &log.agent()]).stdout;
        assert!(text.contains(&log.agent()) && !text.contains("two histories"), "{text}");
    }
    let innocent = caller.run(&["--json", "audit", "accuse", &callee.agent()]);
    assert_eq!((innocent.code, innocent.error_code().as_str()), (4, "not_found"));
    let none = comity(&elsewhere, &["--json", "audit", "verify", "--accusation", proof]);
    assert_eq!((none.code, none.error_code().as_str()), (8, "not_verified"));
    let both = comity(&elsewhere, &["audit", "verify", "--accusation", proof, "--proof", proof]);
    assert_eq!(both.code, 2, "{}", both.stderr);
}
