//! `kill -9` at any moment: what was acknowledged is there afterwards, and the network finds the node again.

use std::collections::BTreeSet;
use std::sync::mpsc;

use serde_json::{Value, json};

use crate::e2e_support::{Node, World, api, wait};

/// Rounds of serving, SIGKILL and restart.
const ROUNDS: usize = 4;

fn serve_request(name: &str) -> Value {
    json!({
        "mode": "publish",
        "source": {"kind": "exec", "command": ["/bin/cat"]},
        "overrides": {"name": name, "description": format!("repeats what it hears, {name}"), "visibility": "public"}
    })
}

fn held(node: &Node) -> BTreeSet<(String, u64)> {
    let groups = node.get("/v1/groups");
    let held = groups["groups"].as_array().unwrap().iter();
    held.filter(|group| group["digests"] != 0)
        .map(|group| {
            (group["key"].as_str().unwrap().to_owned(), group["digests"].as_u64().unwrap())
        })
        .collect()
}

#[test]
fn acknowledged_capabilities_survive_kill_at_any_moment() {
    let world = World::new();
    let seed = world.node("seed", &[]);
    let mut producer = world.joined("producer", &seed);
    let asker = world.joined("asker", &seed);
    let (agent, address) = (producer.agent(), producer.address());
    let mut acknowledged = BTreeSet::new();
    for round in 0..ROUNDS {
        let (sender, acks) = mpsc::channel();
        let home = producer.home.clone();
        let publishing = std::thread::spawn(move || {
            for turn in 0.. {
                let name = format!("echo-{round}-{turn}");
                match api(&home, "POST", "/v1/serve", Some(&serve_request(&name))) {
                    Ok((200, _)) if sender.send(name.clone()).is_ok() => {}
                    Ok((_, error)) => panic!("serving {name}: {error}"),
                    // The node is gone.
                    Err(_) => return,
                }
            }
        });
        // Another moment in every round: the next publication is somewhere on its way.
        for _ in 0..=round {
            acknowledged.insert(acks.recv().unwrap());
        }
        producer.kill();
        publishing.join().unwrap();
        acknowledged.extend(acks.try_iter());

        producer = Node::start(&producer.home, &[]);
        assert_eq!(producer.agent(), agent);
        producer.wait_joined();
        wait("everything acknowledged is served again", || {
            let served: BTreeSet<String> = producer.serves().into_iter().collect();
            acknowledged.is_subset(&served).then_some(())
        });
        let last = acknowledged.iter().next_back().unwrap();
        let target = format!("{address}/{last}");
        wait("the network finds it again, alive", || {
            let (_, found) = asker.post("/v1/find", &json!({"query": format!("named {last}")}));
            let first = &found["matches"][0];
            (first["target"] == target && first["probe"]["outcome"] == "alive").then_some(())
        });
        // Its caller had a link to the process that was killed, and packets must not follow it there.
        let answer = asker.ok(&["call", &target, "--json", "{\"still\": \"here\"}"]);
        assert_eq!(answer.json(), json!({"still": "here"}));
    }
}

#[test]
fn a_killed_custodian_has_what_it_kept_for_others() {
    let world = World::new();
    let mut custodian = world.node("custodian", &[]);
    let mut producer = world.joined("producer", &custodian);
    for name in ["one", "two", "three"] {
        let (code, answer) = producer.post("/v1/serve", &serve_request(name));
        assert_eq!((code, &answer["published"]["custodians"]), (200, &json!(1)), "{answer}");
    }
    // The producer goes first, without a word: nothing can be published to the custodian again.
    producer.kill();
    let before = held(&custodian);
    assert!(before.len() > 3, "{before:?}");
    custodian.kill();
    let custodian = Node::start(&custodian.home, &[]);
    assert_eq!(held(&custodian), before);
    let (code, found) = custodian.post("/v1/find", &json!({"query": "named two"}));
    assert_eq!(code, 200);
    assert_eq!(found["search"]["candidates"], 1, "it answers from what it kept: {found}");
}
