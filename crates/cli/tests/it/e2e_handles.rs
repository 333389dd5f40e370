//! Handles between real nodes: pinned at first use, followed from key to key, and refused when somebody else comes up under them.

use comity::key_file::{self, Keys};
use comity_core::Identity;
use serde_json::{Value, json};

use crate::e2e_support::{Node, World, moody_program, new_identity, wait};
use crate::support::{Run, comity};

fn serve_echo(node: &Node) {
    let request = json!({
        "mode": "publish",
        "source": {"kind": "exec", "command": ["/bin/cat"]},
        "overrides": {"name": "echo", "description": "says it again", "visibility": "public"}
    });
    let (code, answer) = node.post("/v1/serve", &request);
    assert_eq!(code, 200, "{answer}");
}

/// The handle of a node without its check.
fn handle(node: &Node) -> String {
    let checked = node.status_text("/agent/handle");
    checked.split('#').next().unwrap().to_owned()
}

fn resolve(node: &Node, handle: &str) -> Run {
    node.run(&["handle", "resolve", handle, "--json"])
}

/// Waits until the handle means this agent to the node.
fn means(node: &Node, handle: &str, agent: &str) -> Value {
    wait("the handle means the key it should", || {
        let run = resolve(node, handle);
        (run.code == 0).then(|| run.json()).filter(|said| said["agent"]["agent"] == json!(agent))
    })
}

fn rotate(node: &mut Node) -> Value {
    node.down();
    let run = comity(&node.home, &["id", "rotate", "--mint-bits", "0", "--json"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    run.json()
}

#[test]
fn a_handle_follows_its_key_to_the_next_and_the_one_after() {
    let world = World::new();
    let seed = world.node("seed", &[]);
    let mut alice = world.joined("alice", &seed);
    serve_echo(&alice);
    let bob = world.joined("bob", &seed);
    let (name, checked, first) =
        (handle(&alice), alice.status_text("/agent/handle"), alice.agent());
    let said = means(&bob, &name, &first);
    assert_eq!((&said["how"], &said["first"]), (&json!("first"), &json!(first)));
    bob.ok(&["call", &format!("{name}/echo"), "--json", "{}"]);
    let pins = bob.ok(&["handle", "list", "--json"]).json();
    assert_eq!(pins["pins"][0]["next_known"], json!(true), "its record was seen: {pins}");

    let rotated = rotate(&mut alice);
    let second = rotated["agent"].as_str().unwrap().to_owned();
    assert_eq!(rotated["old"], json!(first));
    alice = Node::start(&alice.home, &["--join", &seed.ticket()]);
    alice.wait_joined();
    assert_eq!(alice.agent(), second);
    let said = means(&bob, &name, &second);
    assert_eq!((&said["how"], &said["first"]), (&json!("succeeded"), &json!(first)));
    let answer =
        bob.ok(&["call", &format!("{name}/echo"), "--output", "json", "--json", "{}"]).stdout;
    assert!(answer.contains(&second) && !answer.contains(&first), "{answer}");
    assert_eq!(means(&bob, &name, &second)["how"], json!("pinned"));
    // The old key named as such leads nowhere any more, and the error says who took its place.
    let old = bob.run(&["--json", "ping", &first]);
    assert!(old.stderr.contains(&second), "{}", old.stderr);

    // One who was away for a rotation, and ones who never knew a key before.
    rotate(&mut alice);
    alice = Node::start(&alice.home, &["--join", &seed.ticket()]);
    alice.wait_joined();
    let third = alice.agent();
    assert!(third != first && third != second);
    let said = means(&bob, &name, &third);
    assert_eq!((&said["how"], &said["first"]), (&json!("succeeded"), &json!(first)));
    let carol = world.joined("carol", &seed);
    let said = means(&carol, &name, &third);
    assert_eq!((&said["how"], &said["first"]), (&json!("first"), &json!(first)));
    let said = means(&carol, &checked, &third);
    assert_eq!((&said["how"], &said["first"]), (&json!("checked"), &json!(first)));
    let listed = bob.ok(&["handle", "list"]).stdout;
    assert!(listed.contains(&third) && listed.contains(&first), "{listed}");

    // Each key's log ends with who came after it, and verifies where it is kept.
    for (number, old, new) in [("000", &first, &second), ("001", &second, &third)] {
        let home = alice.home.join("retired").join(number);
        let held = comity(&home, &["audit", "verify", "--log", old, "--json"]);
        assert_eq!(held.code, 0, "{}", held.stderr);
        let last = comity(&home, &["audit", "list", "-n", "1", "--json"]).json();
        let fields = &last["entries"][0]["fields"];
        assert_eq!((&fields["kind"], &fields["subject"]), (&json!("rotate"), &json!(new)));
    }
    alice.ok(&["audit", "verify", "--log", &third]);
}

/// T8: whoever has the key in use, and not the one it committed to, cannot lead those away who know the key.
#[test]
fn t8_a_thief_of_the_key_in_use_cannot_take_its_handle() {
    let world = World::new();
    let seed = world.node("seed", &[]);
    let mut alice = world.joined("alice", &seed);
    serve_echo(&alice);
    let bob = world.joined("bob", &seed);
    let (name, owner) = (handle(&alice), alice.agent());
    bob.ok(&["call", &format!("{name}/echo"), "--json", "{}"]);
    alice.down();

    // The honest command refuses a key that was not committed to.
    let thief = world.home("thief");
    new_identity(&thief);
    let stolen = key_file::load(&alice.home.join("identity.key")).unwrap();
    let own = key_file::load(&thief.join("successor.key")).unwrap().identity;
    std::fs::remove_file(thief.join("identity.key")).unwrap();
    std::fs::copy(alice.home.join("identity.key"), thief.join("identity.key")).unwrap();
    let refused = comity(&thief, &["--json", "id", "rotate", "--mint-bits", "0"]);
    assert_eq!((refused.code, refused.error_code().as_str()), (9, "key_file"));
    assert!(refused.stderr.contains("committed to another"), "{}", refused.stderr);
    // A thief changes the file: its rotation is signed by both keys, published at the place of the stolen one, and believed by nobody who knew it.
    std::fs::remove_file(thief.join("identity.key")).unwrap();
    let secret = stolen.identity.secret_bytes();
    let lie = Keys::new(Identity::from_secret_bytes(&secret), &own.id());
    key_file::create(&thief.join("identity.key"), &lie).unwrap();
    let done = comity(&thief, &["id", "rotate", "--mint-bits", "0", "--json"]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    let thief = Node::start(&thief, &["--join", &seed.ticket()]);
    thief.wait_joined();
    let refused = wait("bob hears of the rotation", || {
        let run = bob.run(&["--json", "handle", "resolve", &name]);
        (run.code != 0).then_some(run)
    });
    assert_eq!((refused.code, refused.error_code().as_str()), (8, "not_verified"));
    assert!(refused.stderr.contains("may have stolen the key"), "{}", refused.stderr);
    let call = bob.run(&["--json", "call", &format!("{name}/echo"), "{}"]);
    assert_ne!(call.code, 0, "{}", call.stdout);
    let pins = bob.ok(&["handle", "list", "--json"]).json();
    assert_eq!(pins["pins"][0]["agent"]["agent"], json!(owner), "nothing changed: {pins}");

    // The operator has the last word, either way.
    bob.ok(&["handle", "pin", &name, &thief.agent()]);
    let said = resolve(&bob, &name).json();
    assert_eq!((&said["agent"]["agent"], &said["how"]), (&json!(thief.agent()), &json!("pinned")));
    let gone = bob.ok(&["handle", "unpin", &name]).stdout;
    assert!(gone.contains("no more"), "{gone}");
}

#[test]
fn what_is_no_handle_and_what_cannot_be_rotated_is_said() {
    let world = World::new();
    let node = world.node("node", &[]);
    let name = handle(&node);
    for (args, code, kind, says) in [
        (vec!["handle", "resolve", "alice"], 2, "bad_request", "not a handle"),
        (vec!["handle", "resolve", "1:0000.0000.0000"], 2, "bad_request", "contradicts itself"),
        (vec!["handle", "resolve", "0:0000.0000.0001"], 4, "not_found", "no agent answers"),
        (vec!["handle", "pin", "alice", "bob"], 2, "bad_request", "not a handle"),
        (vec!["handle", "pin", &name, &name], 2, "bad_request", "can mean several"),
        (vec!["handle", "pin", &name, "bob"], 2, "bad_request", "does not name an agent"),
        (vec!["handle", "unpin", &name], 4, "not_found", "comity handle list"),
        (vec!["id", "rotate"], 9, "home_in_use", "comity down"),
    ] {
        let run = node.run(&[&["--json"], &args[..]].concat());
        assert_eq!(run.code, code, "{args:?}: {} {}", run.stdout, run.stderr);
        assert_eq!(run.error_code(), kind, "{args:?}");
        assert!(run.stderr.contains(says), "{args:?}: {}", run.stderr);
    }
    // Its own handle, and nothing pinned by looking at others.
    let said = resolve(&node, &name).json();
    assert_eq!((&said["agent"]["agent"], &said["how"]), (&json!(node.agent()), &json!("first")));

    let home = world.home("cold");
    let missing = comity(&home, &["--json", "id", "rotate"]);
    assert_eq!(missing.code, 9, "{}", missing.stderr);
    let agent = new_identity(&home);
    let taken = world.file("taken.key", "");
    let refused = comity(&home, &["--json", "id", "rotate", "--next", &taken]);
    assert_eq!((refused.code, refused.error_code().as_str()), (9, "key_file"));
    let nowhere = world.home("nowhere").join("next.key");
    let nowhere = nowhere.to_str().unwrap();
    let refused = comity(&home, &["id", "rotate", "--mint-bits", "0", "--next", nowhere]);
    assert_eq!(refused.code, 9, "{}", refused.stderr);
    let same = comity(&home, &["id", "show", "--json"]).json();
    assert_eq!(same["agent"], json!(agent), "the key is still the one it was");
    let done = comity(&home, &["id", "rotate", "--mint-bits", "0", "--json"]);
    assert_eq!(done.code, 0, "what was begun and refused is in nobody's way: {}", done.stderr);
    assert!(home.join("successor.key").exists());
}

fn serve_private(world: &World, node: &Node, name: &str) {
    let (command, _) = moody_program(world, name);
    node.ok(&["serve", "--exec", &command, "--name", name, "--yes"]);
}

/// Calls by the first handle that the callee had, which its key and the next ones are reached by.
fn calls(caller: &Node, callee: &str, name: &str, more: &[&str]) -> Result<(), String> {
    let target = format!("{callee}/{name}");
    let line = [&["call", &target, "--json", "{}", "--attempts", "1"], more].concat();
    let run = caller.run(&line);
    if run.code == 0 { Ok(()) } else { Err(run.stderr) }
}

/// Starts a node again under the key that it has now, and waits until another knows whom the handle means.
fn back(node: &Node, seed: &Node, known_to: &Node, name: &str) -> Node {
    let again = Node::start(&node.home, &["--join", &seed.ticket()]);
    again.wait_joined();
    means(known_to, name, &again.agent());
    again
}

/// What docs/ACCESS.md says under "After a rotation": of the caller's key first, of the callee's then.
#[test]
fn what_names_a_key_ends_with_it_and_is_given_anew() {
    let world = World::new();
    let seed = world.node("seed", &[]);
    let mut owner = world.joined("owner", &seed);
    let mut alice = world.joined("alice", &seed);
    for name in ["named", "bonded", "granted"] {
        serve_private(&world, &owner, name);
    }
    let policy = |named: &str| {
        let rules = format!(
            "[[rule]]\nallow = \"named\"\nagents = \"{named}\"\n[[rule]]\nallow = \"bonded\"\ntrusted = true\n"
        );
        std::fs::write(world.home("owner").join("policy.toml"), rules).unwrap();
    };
    policy(&alice.agent());
    owner.ok(&["policy", "reload"]);
    let (place, first) = (handle(&owner), owner.agent());
    means(&alice, &place, &first);
    let bond = |asks: &Node, answers: &Node| {
        asks.ok(&["trust", "request", &answers.address()]);
        answers.ok(&["trust", "approve", &asks.agent()]);
    };
    let grant = |owner: &Node, alice: &Node, file: &str| {
        let made = owner.ok(&["grant", "create", "--to", &alice.agent(), "--for", "granted"]);
        world.file(file, made.stdout.trim())
    };
    bond(&alice, &owner);
    let (kept, withdrawn) = (grant(&owner, &alice, "kept"), grant(&owner, &alice, "withdrawn"));
    let shown = alice.ok(&["grant", "show", &withdrawn, "--json"]).json();
    let link = shown["grant"].as_str().unwrap().to_owned();
    owner.ok(&["grant", "revoke", &link]);
    for (name, more) in [("named", vec![]), ("bonded", vec![]), ("granted", vec!["--grant", &kept])]
    {
        calls(&alice, &place, name, &more).unwrap();
    }
    let refused = calls(&alice, &place, "granted", &["--grant", &withdrawn]).unwrap_err();
    assert!(refused.contains("revoked"), "{refused}");

    // The caller's key: rules, trust and grants name the old one.
    let alice_name = handle(&alice);
    means(&owner, &alice_name, &alice.agent());
    // Who published nothing is followed too: pinning it was enough to learn what it commits to.
    wait("the commitment of a pinned agent is known", || {
        let pins = owner.ok(&["handle", "list", "--json"]).json();
        (pins["pins"][0]["next_known"] == json!(true)).then_some(())
    });
    rotate(&mut alice);
    alice = back(&alice, &seed, &owner, &alice_name);
    for (name, more) in [("named", vec![]), ("bonded", vec![]), ("granted", vec!["--grant", &kept])]
    {
        let refused = calls(&alice, &place, name, &more).unwrap_err();
        assert!(!refused.is_empty(), "{name}");
    }
    policy(&alice.agent());
    owner.ok(&["policy", "reload"]);
    bond(&alice, &owner);
    let kept = grant(&owner, &alice, "kept-again");
    for (name, more) in [("named", vec![]), ("bonded", vec![]), ("granted", vec!["--grant", &kept])]
    {
        calls(&alice, &place, name, &more).unwrap();
    }

    // The callee's key: the rules are its own and stay, grants and trust of the old key are over, and what it withdrew stays withdrawn.
    rotate(&mut owner);
    owner = back(&owner, &seed, &alice, &place);
    calls(&alice, &place, "named", &[]).unwrap();
    assert!(calls(&alice, &place, "bonded", &[]).is_err());
    for old in [&kept, &withdrawn] {
        assert!(calls(&alice, &place, "granted", &["--grant", old]).is_err());
    }
    let withdrawn = owner.ok(&["grant", "list", "--json"]).stdout;
    assert!(!withdrawn.contains(&first), "{withdrawn}");
    bond(&owner, &alice);
    let anew = grant(&owner, &alice, "anew");
    calls(&alice, &place, "bonded", &[]).unwrap();
    calls(&alice, &place, "granted", &["--grant", &anew]).unwrap();
}
