//! Endorsements with real nodes: whose word counts, for whom, until when.

use serde_json::Value;

use crate::e2e_support::{Node, World, moody_program, wait};

const QUERY: &str = "named translate";

fn serve(world: &World, node: &Node) {
    let (command, _) = moody_program(world, "translate");
    node.ok(&["serve", "--exec", &command, "--name", "translate", "--yes", "--public"]);
}

fn levels(node: &Node, more: &[&str]) -> Vec<(String, String)> {
    let run = node.run(&[&["--json", "find", QUERY][..], more].concat());
    let body: Value = serde_json::from_str(&run.stdout).unwrap();
    let matches = body["matches"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    matches.map(|one| (text(&one["agent"]), text(&one["standing"]["level"]))).collect()
}

#[test]
fn an_endorsement_counts_for_whoever_trusts_its_endorser() {
    let world = World::new();
    let endorser = world.node("endorser", &[]);
    let good = world.joined("good", &endorser);
    let asker = world.joined("asker", &endorser);
    let other = world.joined("other", &endorser);
    serve(&world, &good);
    wait("it is found", || (levels(&asker, &[]).len() == 1).then_some(()));

    let made =
        endorser.ok(&["endorse", &good.agent(), "translate", "--how", "audit", "--json"]).json();
    assert_eq!(made["delivered"], true, "{made}");
    let received = good.ok(&["endorse", "list", "--json"]).json();
    assert_eq!(received["received"][0]["endorser"], endorser.agent().as_str());

    let policy =
        format!("[agents]\nlab = \"{}\"\n\n[levels]\nendorsers = \"lab\"\n", endorser.agent());
    std::fs::write(asker.home.join("policy.toml"), policy).unwrap();
    asker.ok(&["policy", "reload"]);
    assert_eq!(levels(&asker, &[]), [(good.agent(), "L1".to_owned())]);
    assert_eq!(levels(&asker, &["--min-level", "L1"]).len(), 1);
    assert!(levels(&asker, &["--min-level", "L2"]).is_empty());
    assert!(levels(&other, &["--min-level", "L1"]).is_empty(), "who trusts nobody knows nobody");
    let shown = asker.ok(&["show", &format!("{}/translate", good.address())]).stdout;
    assert!(shown.contains("L1") && shown.contains("endorsed by lab"), "{shown}");

    // As a caller, it is let in where its endorser's word is asked for.
    let (command, _) = moody_program(&world, "translate-books");
    other.ok(&["serve", "--exec", &command, "--name", "translate", "--yes"]);
    let rule = format!("[[rule]]\nallow = \"translate\"\nendorsed_by = \"{}\"\n", endorser.agent());
    std::fs::write(other.home.join("policy.toml"), rule).unwrap();
    other.ok(&["policy", "reload"]);
    let target = format!("{}/translate", other.address());
    good.ok(&["unserve", "translate"]);
    let call = |node: &Node| node.run(&["call", &target, "--json", "{}", "--attempts", "1"]).code;
    assert_eq!(call(&good), 0);
    assert_ne!(call(&asker), 0);

    // Taken back, it is known as soon as the endorser is asked.
    endorser.ok(&["endorse", "revoke", made["endorsement"].as_str().unwrap()]);
    assert_eq!(endorser.ok(&["endorse", "list", "--json"]).json()["given"][0]["state"], "revoked");
    for (line, words) in [
        (vec!["endorse", &endorser.agent(), "x"], "endorses itself"),
        (vec!["endorse", &good.agent(), "Bad Name"], "does not say which capabilities"),
        (vec!["endorse", &good.agent(), "x", "--proof", "zz"], "no hash"),
        (vec!["endorse", &good.agent(), "x", "--expires", "4000d"], "not valid"),
        (vec!["endorse", "revoke", "zz"], "no endorsement's hash"),
        (vec!["find", "named x", "--min-level", "L9"], "not a level"),
    ] {
        let run = endorser.run(&line);
        assert_ne!(run.code, 0, "{line:?}");
        assert!(run.stderr.contains(words), "{line:?}: {}", run.stderr);
    }
}
