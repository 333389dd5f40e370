//! Private groups with real nodes: members find and call, everybody else keeps what they cannot read.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::{Value, json};

use crate::e2e_support::{Node, World, moody_program, wait};

const GROUP: &str = "deal-room";
const NAME: &str = "merger-model";
const WORDS: &str = "confidential valuation of both sides";

/// Makes the group at `node`; the invitation.
fn create(node: &Node, name: &str) -> String {
    let made = node.ok(&["group", "create", name, "--json"]).json();
    assert_eq!(made["name"], name);
    made["invitation"].as_str().unwrap().to_owned()
}

fn serve(node: &Node, command: &str, name: &str) -> Value {
    let line = ["serve", "--exec", command, "--name", name, "--description", WORDS];
    let line = [&line[..], &["--class", "finance", "--group", GROUP, "--yes", "--json"]].concat();
    node.ok(&line).json()
}

/// Targets that a query finds in the group.
fn finds(node: &Node, query: &str) -> Vec<String> {
    let (code, body) = node.post("/v1/find", &json!({ "query": query, "group": GROUP }));
    assert_eq!(code, 200, "{query}: {body}");
    let matches = body["matches"].as_array().unwrap().iter();
    matches.map(|one| one["target"].as_str().unwrap().to_owned()).collect()
}

fn contains(path: &Path, part: &[u8]) -> bool {
    let bytes = std::fs::read(path).unwrap();
    bytes.windows(part.len()).any(|window| window == part)
}

#[test]
fn members_find_and_call_and_nobody_else_learns_anything() {
    let world = World::new();
    let seller = world.node("seller", &[]);
    let buyer = world.joined("buyer", &seller);
    let mut stranger = world.joined("stranger", &seller);
    let other = world.joined("other", &seller);
    let (command, _) = moody_program(&world, "model");

    let invitation = create(&seller, GROUP);
    let kept = seller.home.join("groups").join(format!("{GROUP}.invitation"));
    assert_eq!(std::fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o600);
    let joined = buyer.ok(&["group", "join", &invitation, "--json"]).json();
    assert_eq!(joined["fingerprint"], seller.get("/v1/private-groups/deal-room")["fingerprint"]);
    // A group of the same name with another secret is another group.
    create(&stranger, GROUP);

    let served = serve(&seller, &command, NAME);
    assert_eq!(served["declaration"]["group"], GROUP);
    assert!(served["published"]["custodians"].as_u64().unwrap() >= 3, "{served}");
    let target = format!("{}/{NAME}", seller.address());

    for query in ["named merger-model", "under finance", "\"valuation of both sides\""] {
        assert_eq!(finds(&buyer, query), [target.as_str()], "{query}");
        assert!(finds(&stranger, query).is_empty(), "{query}");
        for node in [&buyer, &stranger, &other] {
            assert!(node.finds(query).is_empty(), "{query}: in public there is nothing");
        }
    }
    let found = buyer.ok(&["find", "named", NAME, "--group", GROUP, "--json"]).json();
    assert_eq!(found["matches"][0]["freshness"]["record_verified"], true, "{found}");
    for to in [NAME, &target] {
        let answer = buyer.ok(&["call", to, "--group", GROUP, "--json", r#"{"a": 1}"#]);
        assert_eq!(answer.json(), json!({"echo": {"a": 1}}), "its receipt was verified");
    }

    // For others there is no such capability, in the words used for one that never was.
    let said = |node: &Node, target: &str, group: &[&str]| {
        let line = [&["--json", "call", target, "--json", "{}"][..], group].concat();
        let run = node.run(&line);
        let asked = target.rsplit_once('/').unwrap().1;
        (run.code, run.error_code(), run.stderr.replace(asked, "CAPABILITY"))
    };
    let missing = format!("{}/no-such-thing", seller.address());
    for node in [&buyer, &stranger, &other] {
        assert_eq!(said(node, &target, &[]), said(node, &missing, &[]));
    }
    let group = ["--group", GROUP];
    assert_eq!(said(&stranger, &target, &group), said(&stranger, &missing, &group));
    assert_eq!(said(&stranger, &target, &group).1, "not_found");

    // Every node of so small a network is a custodian. What one of them keeps says nothing.
    let held = stranger.get("/v1/groups");
    let labels: Vec<_> = held["groups"].as_array().unwrap().iter().collect();
    assert!(labels.iter().any(|group| group["label"].as_str().unwrap().starts_with("veiled/")));
    let secret_words = [NAME, "valuation", "confidential", GROUP, "finance"];
    stranger.down();
    let database = stranger.home.join("node.redb");
    assert!(contains(&database, b"veiled/"), "it is what this looks into");
    for word in secret_words {
        assert!(!contains(&database, word.as_bytes()), "a custodian can read `{word}`");
    }

    seller.ok(&["unserve", NAME]);
    assert!(finds(&buyer, "named merger-model").is_empty(), "withdrawn at once");
    let gone = buyer.run(&["--json", "call", &target, "--group", GROUP, "--json", "{}"]);
    assert_eq!(gone.error_code(), "not_found", "{}", gone.stderr);
}

#[test]
fn what_is_served_to_a_group_outlives_a_restart() {
    let world = World::new();
    let seed = world.node("seed", &[]);
    let mut seller = world.joined("seller", &seed);
    let (command, _) = moody_program(&world, "model");
    let invitation = create(&seller, GROUP);
    seed.ok(&["group", "join", &invitation]);
    serve(&seller, &command, NAME);

    // Everyone may have it, then only the group again: each change takes it from where it was.
    let line = ["serve", "--exec", &command, "--name", NAME, "--public", "--yes"];
    seller.ok(&line);
    let target = format!("{}/{NAME}", seller.address());
    assert_eq!(seed.finds("named merger-model"), [target.as_str()]);
    assert!(finds(&seed, "named merger-model").is_empty());
    serve(&seller, &command, NAME);
    assert!(seed.finds("named merger-model").is_empty());
    assert_eq!(finds(&seed, "named merger-model"), [target.as_str()]);

    seller.kill();
    let seller = Node::start(&seller.home, &[]);
    wait("a restarted member serves its group again", || {
        let run = seed.run(&["call", NAME, "--group", GROUP, "--json", "{}"]);
        (run.code == 0).then_some(())
    });
    assert_eq!(seller.get("/v1/private-groups")["private_groups"][0]["serves"], json!([NAME]));
    let left = seller.run(&["--json", "group", "leave", GROUP]);
    assert_eq!((left.code, left.error_code().as_str()), (2, "bad_request"), "{}", left.stderr);
    assert!(left.stderr.contains("comity unserve merger-model"), "{}", left.stderr);
    seller.ok(&["unserve", NAME]);
    seller.ok(&["group", "leave", GROUP]);
    let unknown = seller.run(&["--json", "find", "named", NAME, "--group", GROUP]);
    assert_eq!((unknown.code, unknown.error_code().as_str()), (4, "not_found"));
    assert!(unknown.stderr.contains("comity group list"), "{}", unknown.stderr);
    assert_eq!(std::fs::read_dir(seller.home.join("groups")).unwrap().count(), 0);
}

#[test]
fn bad_invitations_are_refused_with_what_to_do() {
    let world = World::new();
    let node = world.node("node", &[]);
    let made = node.ok(&["group", "create", GROUP]);
    let invitation = made.stdout.trim().to_owned();
    assert!(made.stderr.contains("as you would a password"), "{}", made.stderr);
    let again = node.ok(&["group", "show", GROUP, "--invitation"]);
    assert_eq!(again.stdout.trim(), invitation);
    let shown = node.ok(&["group", "show", GROUP]).stdout;
    assert!(!shown.contains("comity-group:"), "not printed unless asked for: {shown}");

    let ticket = node.ticket();
    let cut = &invitation[..invitation.len() - 9];
    let middle = &invitation[40..41];
    let damaged = invitation.replacen(middle, if middle == "a" { "b" } else { "a" }, 1);
    let cases = [
        ("hello", "starts with `comity-group:`"),
        (ticket.as_str(), "comity up --join"),
        (cut, "copy it whole"),
        (damaged.as_str(), "copy it whole"),
    ];
    for (text, hint) in cases {
        let run = node.run(&["--json", "group", "join", text, "--name", "x"]);
        assert_eq!((run.code, run.error_code().as_str()), (2, "bad_request"), "{}", run.stderr);
        assert!(run.stderr.contains(hint), "{hint}: {}", run.stderr);
        assert!(!run.stderr.contains(&invitation[20..40]), "a secret in an error: {}", run.stderr);
    }
    let same = node.run(&["--json", "group", "create", GROUP]);
    assert_eq!((same.code, same.error_code().as_str()), (2, "bad_request"), "{}", same.stderr);
    let name = node.run(&["--json", "group", "create", "../up"]);
    assert_eq!((name.code, name.error_code().as_str()), (2, "bad_request"), "{}", name.stderr);
    node.ok(&["group", "join", &invitation, "--name", "second"]);
    let listed = node.ok(&["group", "list"]).stdout;
    assert!(listed.contains(GROUP) && listed.contains("second"), "{listed}");
    let serve = ["--json", "serve", "--exec", "/bin/cat", "--name", "x", "--group", "nobodys"];
    let unknown = node.run(&[&serve[..], &["--yes"]].concat());
    assert_eq!(unknown.error_code(), "not_found", "{}", unknown.stderr);
    let log = node.log();
    assert!(!log.contains("comity-group:"), "no secret in the log");
}
