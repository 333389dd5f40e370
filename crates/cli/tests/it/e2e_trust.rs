//! Asking for access and answering who asks, with real nodes.

use serde_json::{Value, json};

use crate::e2e_support::{Node, World, moody_program, wait};

fn serve_private(world: &World, node: &Node, name: &str) -> String {
    let (command, _) = moody_program(world, name);
    node.ok(&["serve", "--exec", &command, "--name", name, "--yes"]);
    format!("{}/{name}", node.address())
}

fn calls(node: &Node, target: &str) -> Result<Value, String> {
    let run = node.run(&["--json", "call", target, "--json", r#"{"a": 1}"#, "--attempts", "1"]);
    if run.code == 0 { Ok(run.json()["output"]["value"].clone()) } else { Err(run.stderr) }
}

fn trust_list(node: &Node) -> Value {
    node.ok(&["trust", "list", "--json"]).json()
}

#[test]
fn an_owner_answers_who_asks_for_access() {
    let world = World::new();
    let owner = world.node("owner", &[]);
    let mut alice = world.joined("alice", &owner);
    let bob = world.joined("bob", &owner);
    let pay = serve_private(&world, &owner, "pay");
    let address = owner.address();
    assert!(calls(&alice, &pay).is_err());

    // Whether there is such a capability is not said.
    let ask = |node: &Node, name: &str, message: &str| {
        node.ok(&["trust", "request", &address, "--for", name, "--message", message, "--json"])
            .json()
    };
    let asked = ask(&alice, "pay", "\u{1b}[31minvoices\u{202e} of\nACME");
    let mut nothing = ask(&bob, "no-such-thing", "x");
    nothing["capability"] = json!("pay");
    for field in ["agent", "address", "handle", "state", "capability"] {
        assert_eq!(asked[field], nothing[field], "{field}");
    }
    let list = trust_list(&owner);
    let incoming = list["incoming"].as_array().unwrap();
    assert_eq!(incoming.len(), 2);
    assert_eq!(incoming[0]["message"], "[31minvoices  of ACME", "text of a stranger is data");
    assert_eq!(incoming[0]["agent"], alice.agent().as_str());

    // Granted while the asker is away, it is there when it calls next.
    alice.kill();
    let approved =
        owner.ok(&["trust", "approve", &alice_key(&list), "--count", "1", "--json"]).json();
    assert_eq!(
        (approved["state"].as_str(), approved["delivered"].as_bool()),
        (Some("approved"), Some(false))
    );
    let alice = Node::start(&world.home("alice"), &["--join", &owner.ticket()]);
    alice.wait_joined();
    let answer = wait("the asker fetches its grant", || calls(&alice, &pay).ok());
    assert_eq!(answer, json!({"echo": {"a": 1}}));
    assert!(calls(&alice, &pay).unwrap_err().contains("used up"));
    assert_eq!(trust_list(&alice)["outgoing"][0]["state"], "approved");

    // Denied, it is told.
    owner.ok(&["trust", "deny", &bob.agent()]);
    let outgoing = wait("the other hears that it is denied", || {
        let list = trust_list(&bob);
        (list["outgoing"][0]["state"] == "denied").then_some(list)
    });
    assert_eq!(outgoing["outgoing"].as_array().unwrap().len(), 1);
    for (line, words) in [
        (vec!["trust", "approve", &bob.agent()], "no request"),
        (vec!["trust", "deny", "nobody"], "does not name an agent"),
        (vec!["trust", "revoke", &bob.agent()], "holds nothing"),
        (vec!["trust", "request", &owner.address()], "need not ask itself"),
        (vec!["trust", "request", &bob.address(), "--for", "No Such"], "no capability's name"),
    ] {
        let run = owner.run(&line);
        assert_ne!(run.code, 0, "{line:?}");
        assert!(run.stderr.contains(words), "{line:?}: {}", run.stderr);
    }
}

fn alice_key(list: &Value) -> String {
    list["incoming"][0]["agent"].as_str().unwrap().to_owned()
}

#[test]
fn trust_takes_both_sides_and_ends_with_either() {
    let world = World::new();
    let owner = world.node("owner", &[]);
    let alice = world.joined("alice", &owner);
    let pay = serve_private(&world, &owner, "pay");
    let policy = "[[rule]]\nallow = \"pay\"\ntrusted = true\n";
    std::fs::write(owner.home.join("policy.toml"), policy).unwrap();
    owner.ok(&["policy", "reload"]);

    alice.ok(&["trust", "request", &owner.address()]);
    assert!(calls(&alice, &pay).is_err(), "one side is not enough");
    let state = |node: &Node| trust_list(node)["bonds"][0]["state"].clone();
    assert_eq!((state(&alice), state(&owner)), (json!("asked"), json!("asks")));
    owner.ok(&["trust", "approve", &alice.agent()]);
    assert_eq!((state(&alice), state(&owner)), (json!("mutual"), json!("mutual")));
    assert!(calls(&alice, &pay).is_ok(), "{:?}", calls(&alice, &pay));

    // A grant besides; taking trust back takes both.
    let grant = owner.ok(&["grant", "create", "--to", &alice.agent(), "--for", "pay"]).stdout;
    alice.ok(&["grant", "keep", grant.trim()]);
    let done = owner.ok(&["trust", "revoke", &alice.agent()]).stdout;
    assert!(done.contains("trust and 1 grant"), "{done}");
    let refused = calls(&alice, &pay).unwrap_err();
    assert!(refused.contains("revoked"), "{refused}");
    let log = owner.ok(&["audit", "list", "--json", "--limit", "200"]).stdout;
    assert!(log.contains("trust-opened") && log.contains("trust-closed"), "{log}");
}
