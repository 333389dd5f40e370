//! Who may call: the policy file and grants, with real nodes.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use serde_json::{Value, json};

use crate::e2e_support::{Node, World, moody_program, wait};
use crate::support::comity;

/// Serves a program that is listed nowhere.
fn serve_private(world: &World, node: &Node, name: &str) {
    let (command, _) = moody_program(world, name);
    node.ok(&["serve", "--exec", &command, "--name", name, "--yes"]);
}

fn serve_public(world: &World, node: &Node, name: &str) {
    let (command, _) = moody_program(world, name);
    node.ok(&["serve", "--exec", &command, "--name", name, "--yes", "--public"]);
}

/// How a call ends: exit code, error code and words, with the name called put aside.
fn said(node: &Node, target: &str, more: &[&str]) -> (i32, String, String) {
    let line = [&["--json", "call", target, "--json", "{}", "--attempts", "1"][..], more].concat();
    let run = node.run(&line);
    if run.code == 0 {
        return (0, String::new(), run.stdout);
    }
    let name = target.rsplit_once('/').unwrap().1;
    (run.code, run.error_code(), run.stderr.replace(name, "CAPABILITY"))
}

fn write_policy(node: &Node, text: &str) {
    std::fs::write(node.home.join("policy.toml"), text).unwrap();
}

fn rules_in_force(node: &Node) -> u64 {
    node.status()["policy"]["rules"].as_u64().unwrap()
}

#[test]
fn a_policy_decides_and_is_replaced_while_the_node_runs() {
    let world = World::new();
    let owner = world.node("owner", &[]);
    let alice = world.joined("alice", &owner);
    let mallory = world.joined("mallory", &owner);
    serve_private(&world, &owner, "pay");
    serve_public(&world, &owner, "open");
    let pay = format!("{}/pay", owner.address());
    let open = format!("{}/open", owner.address());
    let missing = format!("{}/no-such-thing", owner.address());

    // Without a file, what is public is public, and the rest is not there.
    assert_eq!(said(&alice, &open, &[]).0, 0);
    assert_eq!(said(&alice, &pay, &[]), said(&alice, &missing, &[]));
    let before = owner.ok(&["policy", "explain", &alice.agent(), "pay", "--json"]).json();
    assert_eq!((before["allowed"].as_bool(), before["line"].as_u64()), (Some(false), None));

    let policy = format!(
        "[agents]\nalice = \"{}\"\nmallory = \"{}\"\n\n[[rule]]\nallow = \"pay\"\nagents = \"alice\"\nrate = \"2/h\"\nnote = \"invoices\"\n\n[[rule]]\ndeny = \"*\"\nagents = \"mallory\"\n",
        alice.agent(),
        mallory.agent()
    );
    write_policy(&owner, &policy);
    wait("a changed policy comes into force", || (rules_in_force(&owner) == 2).then_some(()));
    let shown = owner.ok(&["policy", "explain", "alice", "pay"]).stdout;
    assert!(
        shown.contains("allowed") && shown.contains("line 5") && shown.contains("invoices"),
        "{shown}"
    );
    assert!(shown.contains("2 calls in 1 h"), "{shown}");

    // Alice is let in, as often as the rule says; her third call is told when to come back.
    assert_eq!(said(&alice, &pay, &[]).0, 0);
    assert_eq!(said(&alice, &pay, &[]).0, 0);
    let third = said(&alice, &pay, &[]);
    assert_eq!(third.1, "busy", "{third:?}");
    assert!(third.2.contains("try again in"), "{third:?}");
    // For Mallory nothing is there but what was published, and that is denied.
    assert_eq!(said(&mallory, &pay, &[]), said(&mallory, &missing, &[]));
    assert_eq!(said(&mallory, &open, &[]).1, "refused");

    // A file with an error changes nothing, and is seen.
    let broken = policy.replace("rate = \"2/h\"", "rte = \"2/h\"");
    write_policy(&owner, &broken);
    let problem = wait("a refused policy is noticed", || {
        let problem = owner.status()["policy"]["problem"].clone();
        (!problem.is_null()).then_some(problem)
    });
    assert_eq!((problem["line"].as_u64(), problem["column"].as_u64()), (Some(8), Some(1)));
    assert_eq!(rules_in_force(&owner), 2);
    assert_eq!(said(&mallory, &open, &[]).1, "refused", "the old policy is in force");
    let status = owner.ok(&["status"]).stdout;
    assert!(status.contains("the file is refused, line 8"), "{status}");
    let check = owner.run(&["policy", "check"]);
    assert_eq!(check.code, 5, "{}", check.stderr);
    assert!(
        check.stderr.contains("line 8, column 1") && check.stderr.contains("did you mean `rate`"),
        "{}",
        check.stderr
    );
    let reload = owner.run(&["--json", "policy", "reload"]);
    assert_eq!(
        (reload.code, reload.error_code().as_str()),
        (5, "bad_manifest"),
        "{}",
        reload.stderr
    );

    // Mended, and read at once when asked to.
    write_policy(&owner, "[[rule]]\ndeny = \"open\"\nanyone = true\n");
    owner.ok(&["policy", "reload"]);
    assert_eq!(rules_in_force(&owner), 1);
    assert!(owner.status()["policy"]["problem"].is_null());
    assert_eq!(said(&alice, &open, &[]).1, "refused");
    // What was decided is in the log.
    let kinds = audit_kinds(&owner);
    for kind in ["policy-changed", "allowed", "denied"] {
        assert!(kinds.iter().any(|known| known == kind), "{kind}: {kinds:?}");
    }
}

fn audit_kinds(node: &Node) -> Vec<String> {
    let page = node.ok(&["audit", "list", "--json", "--limit", "200"]).json();
    let entries = page["entries"].as_array().unwrap().iter();
    entries.filter_map(|entry| Some(entry["kind"].as_str()?.to_owned())).collect()
}

#[test]
fn a_node_does_not_start_with_half_a_policy() {
    let world = World::new();
    let home = world.home("closed");
    crate::e2e_support::new_identity(&home);
    std::fs::write(home.join("policy.toml"), "[[rule]]\nallow = \"*\"\n").unwrap();
    let up = comity(&home, &["--json", "up", "--listen", "127.0.0.1:0", "--mint-bits", "0"]);
    assert_ne!(up.code, 0);
    assert!(up.stderr.contains("line 1, column 1"), "{}", up.stderr);
    assert!(up.stderr.contains("anyone = true"), "what to write: {}", up.stderr);
}

#[test]
fn a_policy_is_checked_and_explained_without_a_node() {
    let world = World::new();
    let home = world.home("offline");
    let key = crate::e2e_support::new_identity(&home);
    let file = world.file(
        "draft.toml",
        &format!("[agents]\nbob = \"{key}\"\n\n[[rule]]\nallow = \"fx.*\"\nagents = \"bob\"\nlevel = \"L1\"\n\n[levels]\nendorsers = \"bob\"\n"),
    );
    let checked = comity(&home, &["policy", "check", &file, "--json"]);
    assert_eq!(
        (checked.code, checked.json()["rules"].as_u64()),
        (0, Some(1)),
        "{}",
        checked.stderr
    );
    let explain = |more: &[&str]| {
        let line = [&["--json", "policy", "explain", "bob", "fx.rates", "--file", &file][..], more]
            .concat();
        comity(&home, &line).json()
    };
    let denied = explain(&[]);
    assert_eq!(denied["allowed"], false);
    assert!(denied["rules"][0]["unmet"].as_str().unwrap().contains("L0"), "{denied}");
    let allowed = explain(&["--level", "L1"]);
    assert_eq!((allowed["allowed"].as_bool(), allowed["line"].as_u64()), (Some(true), Some(4)));
    for (line, words) in [
        (vec!["policy", "explain", "nobody", "x", "--file", &file], "neither a name"),
        (vec!["policy", "explain", "bob", "x", "--file", &file, "--level", "L9"], "not a level"),
        (vec!["policy", "check", "/nowhere/policy.toml"], "cannot be read"),
    ] {
        let run = comity(&home, &line);
        assert_ne!(run.code, 0, "{line:?}");
        assert!(run.stderr.contains(words), "{line:?}: {}", run.stderr);
    }
}

/// Makes a grant and returns it as the API shows it.
fn grant(node: &Node, to: &Node, more: &[&str]) -> Value {
    let agent = to.agent();
    let line = [&["--json", "grant", "create", "--to", &agent][..], more].concat();
    node.ok(&line).json()
}

#[test]
fn a_grant_lets_its_holder_in_and_nobody_else() {
    let world = World::new();
    let owner = world.node("owner", &[]);
    let alice = world.joined("alice", &owner);
    let thief = world.joined("thief", &owner);
    serve_private(&world, &owner, "pay");
    serve_private(&world, &owner, "books");
    let pay = format!("{}/pay", owner.address());
    let books = format!("{}/books", owner.address());
    let missing = format!("{}/no-such-thing", owner.address());

    let made = grant(&owner, &alice, &["--for", "pay", "--count", "3"]);
    let text = made["text"].as_str().unwrap();
    let file = world.file("pay.grant", text);
    let shown = alice.ok(&["grant", "show", &file]).stdout;
    assert!(shown.contains("3 calls") && shown.contains(&alice.agent()), "{shown}");

    let answer = alice.ok(&["call", &pay, "--json", r#"{"sum": 1}"#, "--grant", &file]);
    assert_eq!(answer.json(), json!({"echo": {"sum": 1}}), "its receipt was verified");
    // Kept, it is shown by itself.
    assert_eq!(said(&alice, &pay, &[]), said(&alice, &missing, &[]), "not kept yet");
    alice.ok(&["grant", "keep", &file]);
    assert_eq!(said(&alice, &pay, &[]).0, 0);

    // Copied, it opens nothing and says the same about what there is and what there is not.
    let copied = said(&thief, &pay, &["--grant", text]);
    assert_eq!(copied.1, "bad_request", "the thief's own node does not even send it: {copied:?}");
    assert_eq!(said(&thief, &pay, &[]), said(&thief, &missing, &[]));
    // For anything else it is none, and does not tell what else there is.
    let (other, none) =
        (said(&alice, &books, &["--grant", &file]), said(&alice, &missing, &["--grant", &file]));
    assert_eq!(other, none);
    assert_ne!(other.0, 0);

    // Two of three uses are used, and that outlives the node.
    let listed = owner.ok(&["grant", "list", "--json"]).json();
    assert_eq!(listed["given"][0]["used"], 2, "{listed}");
    assert_eq!(said(&alice, &pay, &[]).0, 0);
    let fourth = said(&alice, &pay, &[]);
    assert_eq!(fourth.1, "refused", "{fourth:?}");
    assert!(fourth.2.contains("used up"), "{fourth:?}");
    let kinds = audit_kinds(&owner);
    assert!(
        kinds.contains(&"grant-issued".to_owned()) && kinds.contains(&"grant-used".to_owned()),
        "{kinds:?}"
    );
}

#[test]
fn uses_and_withdrawals_survive_a_killed_node() {
    let world = World::new();
    let port = crate::e2e_support::quiet_port().to_string();
    let listen = format!("127.0.0.1:{port}");
    let mut owner = world.node("owner", &["--listen", &listen]);
    let alice = world.joined("alice", &owner);
    serve_private(&world, &owner, "pay");
    let pay = format!("{}/pay", owner.address());
    let one = grant(&owner, &alice, &["--for", "pay", "--count", "2"]);
    alice.ok(&["grant", "keep", one["text"].as_str().unwrap()]);
    assert_eq!(said(&alice, &pay, &[]).0, 0);

    owner.kill();
    owner = Node::start(&world.home("owner"), &["--listen", &listen]);
    wait("the killed node serves again", || {
        owner.serves().contains(&"pay".to_owned()).then_some(())
    });
    wait("the second use is let in", || (said(&alice, &pay, &[]).0 == 0).then_some(()));
    let third = said(&alice, &pay, &[]);
    assert!(third.2.contains("used up"), "a use before the kill counts: {third:?}");

    let two = grant(&owner, &alice, &["--for", "pay", "--expires", "2h"]);
    alice.ok(&["grant", "keep", two["text"].as_str().unwrap()]);
    assert_eq!(said(&alice, &pay, &[]).0, 0);
    owner.ok(&["grant", "revoke", two["grant"].as_str().unwrap(), "--reason", "misused"]);
    let revoked = said(&alice, &pay, &[]);
    assert!(revoked.2.contains("revoked") && revoked.2.contains("misused"), "{revoked:?}");
    owner.kill();
    owner = Node::start(&world.home("owner"), &["--listen", &listen]);
    wait("the node serves again", || owner.serves().contains(&"pay".to_owned()).then_some(()));
    let revoked = wait("the node answers again", || {
        let said = said(&alice, &pay, &[]);
        said.2.contains("revoked").then_some(said)
    });
    assert!(revoked.2.contains("misused"), "{revoked:?}");
    assert_eq!(owner.ok(&["grant", "list", "--json"]).json()["given"][1]["state"], "revoked");
}

#[test]
fn a_grant_is_passed_on_within_its_limits() {
    let world = World::new();
    let owner = world.node("owner", &[]);
    let alice = world.joined("alice", &owner);
    let bob = world.joined("bob", &owner);
    serve_private(&world, &owner, "fx.rates");
    serve_private(&world, &owner, "fx.orders");
    write_policy(&owner, "[[rule]]\nallow = \"fx.*\"\ngrant = true\nmax_stale = \"10min\"\n");
    owner.ok(&["policy", "reload"]);
    let rates = format!("{}/fx.rates", owner.address());

    let root = grant(&owner, &alice, &["--for", "fx.*", "--depth", "1", "--count", "2"]);
    let kept = alice.ok(&["--json", "grant", "keep", root["text"].as_str().unwrap()]).json();
    let hash = kept["grant"].as_str().unwrap();
    // More than it has cannot be passed on.
    let to = bob.agent();
    for (more, words) in [
        (["--for", "pay", "--depth", "0"], "does not cover"),
        (["--for", "fx.rates", "--depth", "1"], "depth"),
    ] {
        let line = [&["grant", "delegate", hash, "--to", &to][..], &more].concat();
        let run = alice.run(&line);
        assert_ne!(run.code, 0, "{more:?}");
        assert!(run.stderr.contains(words), "{more:?}: {}", run.stderr);
    }
    let passed = alice
        .ok(&["--json", "grant", "delegate", hash, "--to", &bob.agent(), "--for", "fx.rates"])
        .json();
    assert_eq!(passed["links"].as_array().unwrap().len(), 2);
    bob.ok(&["grant", "keep", passed["text"].as_str().unwrap()]);
    // The owner asks for a fresh set of Alice's, and Bob's node gets it from her.
    assert_eq!(said(&bob, &rates, &[]).0, 0);
    // Alice spends her own allowance through Bob: one of two is left.
    assert_eq!(said(&alice, &rates, &[]).0, 0);
    let over = said(&bob, &rates, &[]);
    assert!(over.2.contains("used up"), "{over:?}");
    // She takes back what she gave; the owner learns it from what Bob's node brings along, or hears nothing fresh.
    alice.ok(&["grant", "revoke", passed["grant"].as_str().unwrap()]);
    let refused = said(&bob, &rates, &[]);
    assert_ne!(refused.0, 0);
}

#[test]
fn bad_grants_are_refused_with_a_remedy() {
    let world = World::new();
    let node = world.node("alone", &[]);
    let other = world.home("other");
    let key = crate::e2e_support::new_identity(&other);
    let create = |more: &[&str]| {
        let line = [&["grant", "create", "--to", &key, "--for", "pay"][..], more].concat();
        node.run(&line)
    };
    for (more, words) in [
        (vec!["--expires", "400d"], "366"),
        (vec!["--count", "0"], "use"),
        (vec!["--rate", "fast"], "60/min"),
        (vec!["--depth", "9"], "3"),
        (vec!["--min-level", "L7"], "not a level"),
        (vec!["--for", "Pay!"], "does not say which capabilities"),
        (vec!["--pin"], "is not served here"),
        (vec!["--evidence", "BAD KIND"], "evidence"),
    ] {
        let run = create(&more);
        assert_ne!(run.code, 0, "{more:?}");
        assert!(run.stderr.contains(words), "{more:?}: {}", run.stderr);
    }
    let own = node.run(&["grant", "create", "--to", &node.agent(), "--for", "pay"]);
    assert!(own.stderr.contains("needs no grant"), "{}", own.stderr);
    let good = create(&["--json"]).json()["text"].as_str().unwrap().to_owned();
    let cut = &good[..good.len() - 40];
    for (line, words) in [
        (vec!["grant", "show", "comity:ticket"], "comity-grant:"),
        (vec!["grant", "show", cut], "copy it whole"),
        (vec!["grant", "keep", cut], "grant"),
        (vec!["grant", "revoke", "nobody"], "does not name an agent"),
        (vec!["grant", "revoke", &good, "--reason", "whim"], "no reason"),
        (vec!["call", "x", "--grant", &good], "gave that grant"),
    ] {
        let run = node.run(&line);
        assert_ne!(run.code, 0, "{line:?}");
        assert!(run.stderr.contains(words) || line[0] == "call", "{line:?}: {}", run.stderr);
    }
    // A flipped letter anywhere in it makes it none.
    for at in (13..good.len()).step_by(61) {
        let mut bytes = good.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        let flipped = String::from_utf8(bytes).unwrap();
        let run = comity(Path::new(&other), &["grant", "show", &flipped]);
        assert_ne!(run.code, 0, "letter {at}");
    }
    assert_eq!(std::fs::metadata(&node.home).unwrap().mode() & 0o777, 0o700);
}

#[test]
fn a_grant_says_what_calls_may_say() {
    let world = World::new();
    let owner = world.node("owner", &[]);
    let alice = world.joined("alice", &owner);
    serve_private(&world, &owner, "pay");
    let line =
        ["grant", "create", "--to", &alice.agent(), "--for", "pay", "--count", "9", "--json"];
    let limits = ["--arguments", "amount<=100", "--arguments", "currency=EUR|USD"];
    let made = owner.ok(&[&line[..], &limits].concat()).json();
    let shown = owner.ok(&["grant", "show", made["text"].as_str().unwrap()]).stdout;
    let flat = shown.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(flat.contains("with amount<=100 and currency=EUR|USD"), "{shown}");
    alice.ok(&["grant", "keep", made["text"].as_str().unwrap()]);
    let target = format!("{}/pay", owner.address());
    let pay = |request: &str| {
        let run = alice.run(&["--json", "call", &target, "--json", request, "--attempts", "1"]);
        (run.code, run.stderr)
    };
    assert_eq!(pay("{\"amount\": 99.5, \"currency\": \"EUR\"}").0, 0);
    for (request, words) in [
        ("{\"amount\": 101, \"currency\": \"EUR\"}", "amount<=100, and this one has 101"),
        ("{\"amount\": 5, \"currency\": \"GBP\"}", "this one has `GBP`"),
        ("{\"currency\": \"EUR\"}", "this one has no `amount`"),
    ] {
        let (code, said) = pay(request);
        assert!(code != 0 && said.contains(words), "{request}: {said}");
    }
    let grants = owner.ok(&["grant", "list", "--json"]).json();
    assert_eq!(grants["given"][0]["used"], 1, "what is refused uses nothing up");
    let bad = owner.run(&[&line[..], &["--arguments", "amount"]].concat());
    assert!(bad.code != 0 && bad.stderr.contains("limits no argument"), "{}", bad.stderr);
}
