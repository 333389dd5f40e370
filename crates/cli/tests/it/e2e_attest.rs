//! Evidence with real nodes: shown for the session and the question, appraised by the policy file, and what it opens.

use serde_json::{Value, json};

use crate::e2e_support::{Node, World, moody_program, wait};

const QUERY: &str = "named translate";

/// A bundle that the reference implementation signed, and the signer's public key.
fn signed_model() -> (String, String) {
    let vectors: Value =
        serde_json::from_str(include_str!("../../../trust/tests/vectors/dsse.json")).unwrap();
    let text = |field: &str| vectors["model_signing"][field].as_str().unwrap().to_owned();
    (text("bundle"), text("public_key"))
}

fn found(node: &Node, level: &str) -> Vec<String> {
    let run = node.run(&["--json", "find", QUERY, "--min-level", level]);
    let body: Value = serde_json::from_str(&run.stdout).unwrap_or_default();
    let matches = body["matches"].as_array().cloned().unwrap_or_default();
    matches.iter().map(|one| one["agent"].as_str().unwrap_or("-").to_owned()).collect()
}

fn write_policy(node: &Node, policy: &str) {
    std::fs::write(node.home.join("policy.toml"), policy).unwrap();
    node.ok(&["policy", "reload"]);
}

#[test]
fn evidence_reaches_level_three_for_who_believes_its_signer() {
    let world = World::new();
    let good = world.node("good", &[]);
    let asker = world.joined("asker", &good);
    let bare = world.joined("bare", &good);
    let (bundle, key) = signed_model();
    for node in [&good, &bare] {
        let (command, _) = moody_program(&world, &format!("translate-{}", node.agent()));
        node.ok(&["serve", "--exec", &command, "--name", "translate", "--yes", "--public"]);
    }
    wait("both are found", || (found(&asker, "L0").len() == 2).then_some(()));

    let file = world.file("model.sig", &bundle);
    let add = ["attest", "add", &file, "--kind", "model-manifest", "--for", "translate", "--json"];
    let kept = good.ok(&add).json();
    assert_eq!(kept["kind"], "model-signing", "{kept}");
    let id = kept["id"].as_str().unwrap().to_owned();

    // Nobody is believed until the policy file says so.
    let said = asker.ok(&["attest", "appraise", &good.agent(), "translate", "--json"]).json();
    assert_eq!((&said["appraisals"], &said["unread"]), (&json!([]), &json!(["model-signing"])));
    assert!(found(&asker, "L3").is_empty());

    std::fs::write(asker.home.join("signer.pem"), &key).unwrap();
    let believes = "[evidence.model-signing]\nkeys = \"signer.pem\"\n";
    write_policy(&asker, &format!("{believes}[levels]\nattested_against = \"distribution\"\n"));
    let said = asker.ok(&["attest", "appraise", &good.agent(), "translate", "--json"]).json();
    let fact = &said["appraisals"][0]["facts"][0];
    assert_eq!(fact["claim"]["claim"], "model-signed", "{said}");
    assert_eq!(fact["excludes"][0]["attacker"], "distribution");
    assert_eq!(said["standing"]["level"], "L3");
    assert_eq!(found(&asker, "L3"), [good.agent()]);
    let shown = asker.ok(&["show", &format!("{}/translate", good.address())]).stdout;
    assert!(shown.contains("L3") && shown.contains("model-signing"), "{shown}");
    let again = asker.ok(&["attest", "appraise", &good.agent(), "translate", "--json"]).json();
    let evidence = |said: &Value| said["appraisals"][0]["evidence"].as_str().unwrap().to_owned();
    assert_ne!(evidence(&said), evidence(&again), "made anew for each question");

    // Software on the operator's own machine is excluded by no signed manifest.
    write_policy(&asker, believes);
    assert!(found(&asker, "L3").is_empty());

    // What is at rest is looked at by the same file; what was kept is shown and removed by its name.
    let verify = ["attest", "verify", &file, "--kind", "model-signing", "--json"];
    assert_eq!(asker.ok(&verify).json()["facts"][0]["by"], "signer.pem");
    assert_eq!(good.run(&verify).code, 8, "good believes nobody");
    assert!(good.ok(&["attest", "show", &id[..20]]).stdout.contains("nothing here"));
    good.ok(&["attest", "remove", &id]);
    let said = asker.ok(&["attest", "appraise", &good.agent(), "translate", "--json"]).json();
    assert_eq!((&said["appraisals"], &said["unread"]), (&json!([]), &json!([])));

    for (node, line, words) in [
        (&good, vec!["attest", "add", &file, "--kind", "tdx", "--for", "Bad Name"], "does not say"),
        (&good, vec!["attest", "remove", "b3:zz"], "0 pieces"),
        (&good, vec!["attest", "appraise", &asker.agent(), "Bad"], "no capability's name"),
        (&asker, vec!["attest", "verify", &asker.agent()], "does not appraise itself"),
    ] {
        let run = node.run(&line);
        assert_ne!(run.code, 0, "{line:?}");
        assert!(run.stderr.contains(words), "{line:?}: {}", run.stderr);
    }
    std::fs::write(asker.home.join("policy.toml"), "[evidence.model-signing]\nkeys = \"no\"\n")
        .unwrap();
    let refused = asker.run(&["policy", "reload"]);
    assert!(refused.code != 0 && refused.stderr.contains("cannot be read"), "{}", refused.stderr);
}

#[test]
fn a_models_directory_is_checked_offline() {
    let world = World::new();
    let home = world.home("nobody");
    let vectors = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../attest/tests/vectors");
    let text = |name: &str| vectors.join(name).to_str().unwrap().to_owned();
    let (model, manifest, key) = (world.home("model"), text("keyed-sha256.json"), text("key.pem"));
    std::fs::create_dir(&model).unwrap();
    for name in ["signme-1", "signme-2"] {
        std::fs::copy(vectors.join("model").join(name), model.join(name)).unwrap();
    }
    let model = model.to_str().unwrap();
    let verify = |more: &[&str]| {
        let line = ["attest", "verify-model", model, "--manifest", &manifest, "--json"];
        crate::support::comity(&home, &[&line[..], more].concat())
    };
    let good = verify(&["--key", &key]);
    assert_eq!((good.code, good.json()["files"].as_u64()), (0, Some(2)), "{}", good.stderr);
    assert_eq!(verify(&[]).code, 2, "nobody is believed");
    let other = text("trusted_root.json");
    let by_root = verify(&["--root", &other, "--identity", "a@b https://c"]);
    assert_eq!(by_root.code, 8, "{}", by_root.stderr);
    std::fs::write(std::path::Path::new(model).join("signme-2"), "swapped").unwrap();
    let refused = verify(&["--key", &key]);
    assert!(
        refused.code == 8 && refused.stderr.contains("changed: signme-2"),
        "{}",
        refused.stderr
    );

    let (quote, collateral) = (text("tdx_quote"), text("tdx_quote_collateral.json"));
    let pack = |kind: &str| {
        crate::support::comity(&home, &["attest", "pack", &quote, &collateral, "--kind", kind])
    };
    assert_eq!(pack("trace").code, 2);
}

#[test]
fn callers_are_let_in_by_what_they_show() {
    let world = World::new();
    let callee = world.node("callee", &[]);
    let attested = world.joined("attested", &callee);
    let other = world.joined("other", &callee);
    let (bundle, key) = signed_model();
    let (command, _) = moody_program(&world, "translate");
    callee.ok(&["serve", "--exec", &command, "--name", "translate", "--yes"]);
    std::fs::write(callee.home.join("signer.pem"), &key).unwrap();
    let digest = "sha256:3d201cc322e4c95246fc7d405165176c10997109aa8f14a37a0c4aa4833df906";
    let policy = |what: &str| {
        format!(
            "[evidence.model-signing]\nkeys = \"signer.pem\"\n\n[[rule]]\nallow = \"translate\"\nanyone = true\n{what}\n"
        )
    };
    write_policy(&callee, &policy(&format!("evidence = \"model-signing={digest}\"")));
    let target = format!("{}/translate", callee.address());
    let call = |node: &Node| node.run(&["call", &target, "--json", "{}", "--attempts", "1"]).code;
    assert_ne!(call(&attested), 0, "it has shown nothing");
    let file = world.file("model.sig", &bundle);
    attested.ok(&["attest", "add", &file, "--kind", "model-signing", "--for", "*"]);
    assert_eq!(call(&attested), 0);
    assert_ne!(call(&other), 0);
    let explained = callee.ok(&["policy", "explain", &attested.agent(), "translate", "--rules"]);
    assert!(explained.stdout.contains("no evidence"), "{}", explained.stdout);

    // Whom one fact must exclude, and of which level the caller must be.
    write_policy(&callee, &policy("against = \"operator-software\""));
    assert_ne!(call(&attested), 0);
    assert_ne!(call(&attested), 0);
    write_policy(&callee, &policy("against = \"distribution\""));
    assert_eq!(call(&attested), 0);
    write_policy(&callee, &policy("against = \"distribution\"\nnote = \"again\""));
    assert_ne!(call(&attested), 0, "what was shown before counts no more");
    assert_eq!(call(&attested), 0, "and is shown again");
    write_policy(
        &callee,
        &(policy("level = \"L3\"") + "\n[levels]\nattested_against = \"distribution\"\n"),
    );
    call(&attested);
    assert_eq!(call(&attested), 0);
    assert_ne!(call(&other), 0);
    let log = callee.ok(&["audit", "list", "--json"]).stdout;
    assert!(log.contains("evidence"), "{log}");
}

#[test]
fn a_trace_is_disclosed_under_a_grant_and_verified_offline() {
    let world = World::new();
    let agent = world.node("agent", &[]);
    let auditor = world.joined("auditor", &agent);
    let file = world.file("trace.txt", "looked up the rate\ncompared two sources\nanswered 1.09\n");
    let commit = ["attest", "trace", "commit", &file, "--for", "*", "--json"];
    let root = agent.ok(&commit).json()["root"].as_str().unwrap().to_owned();
    assert!(agent.ok(&["audit", "list", "--json"]).stdout.contains(&root), "the log names it");
    let seen = auditor.ok(&["attest", "verify", &agent.agent(), "--json"]).json();
    assert_eq!(seen["appraisals"][0]["names"][1], format!("trace={root}"), "{seen}");
    assert_eq!(seen["appraisals"][0]["facts"][0]["excludes"][0]["attacker"], "hindsight");

    let target = format!("{}/attest.trace", agent.address());
    let input = json!({ "root": root, "steps": [1] }).to_string();
    let ask = ["call", &target, "--json", &input, "--attempts", "1"];
    assert_ne!(auditor.run(&ask).code, 0, "it is nobody's business");
    let grant = world.dir.path().join("trace.grant").to_str().unwrap().to_owned();
    let holder = auditor.agent();
    agent.ok(&[
        "grant",
        "create",
        "--to",
        &holder,
        "--for",
        "attest.trace",
        "--count",
        "2",
        "--out",
        &grant,
    ]);
    auditor.ok(&["grant", "keep", &grant]);
    let value = auditor.ok(&ask).stdout;
    let disclosed = world.file("disclosed.json", &value);
    let verify = |root: &str| {
        auditor.run(&["attest", "trace", "verify", &disclosed, "--root", root, "--json"])
    };
    let steps: Value = serde_json::from_str(&verify(&root).stdout).unwrap();
    assert_eq!(steps["steps"], json!([{ "index": 1, "of": 3, "text": "compared two sources" }]));
    let other = format!("b3:{}", "00".repeat(32));
    assert_eq!(verify(&other).code, 8);

    let own =
        agent.ok(&["attest", "trace", "disclose", &root, "--step", "0", "--step", "2"]).stdout;
    let own = world.file("own.json", &own);
    assert!(
        auditor.ok(&["attest", "trace", "verify", &own, "--root", &root]).stdout.contains("1.09")
    );
    assert!(agent.ok(&["attest", "trace", "list"]).stdout.contains(&root));
    let none = agent.run(&["attest", "trace", "disclose", &root, "--step", "3"]);
    assert!(none.stderr.contains("no step 3"), "{}", none.stderr);
}

#[test]
fn canaries_and_calls_reach_level_two() {
    let world = World::new();
    let server = world.node("server", &[]);
    let asker = world.joined("asker", &server);
    let (command, _) = moody_program(&world, "translate");
    server.ok(&["serve", "--exec", &command, "--name", "translate", "--yes", "--public"]);
    wait("it is found", || (found(&asker, "L0").len() == 1).then_some(()));
    write_policy(&asker, "[levels]\ncalls_min = 2\ncanaries_min = 2\n");
    let target = format!("{}/translate", server.address());
    let right = asker.ok(&["call", &target, "--json", "{}"]).json().to_string();
    let canary = |expect: &str| {
        asker.run(&["attest", "canary", &target, "--input", "{}", "--expect", expect, "--json"])
    };
    assert_eq!(canary(&right).code, 0);
    assert!(found(&asker, "L2").is_empty(), "one is not two");
    let said: Value = serde_json::from_str(&canary(&right).stdout).unwrap();
    assert_eq!((&said["passed"], &said["in_a_row"]), (&json!(true), &json!(2)), "{said}");
    assert_eq!(found(&asker, "L2"), [server.agent()]);
    // One lie outweighs many truths.
    assert_eq!(canary("\"something else\"").code, 8);
    assert!(found(&asker, "L2").is_empty());
}

/// Tokens that a toy model answers with, classes to choose each from, weights of a class.
const TOKENS: u64 = 8;
const CLASSES: u64 = 8;
const WEIGHTS: u64 = 16;

/// Weights of 16 bits, drawn by the minimal standard generator (Park and Miller, 1988).
fn weights() -> Vec<u64> {
    let mut seed = 12_345_u64;
    let draw = |_| {
        seed = seed * 16_807 % 2_147_483_647;
        seed % 65_536
    };
    (0..CLASSES * WEIGHTS).map(draw).collect()
}

/// What the toy model says to `x`: of each token the class with the highest sum.
fn toy(weights: &[u64], x: u64) -> Vec<u64> {
    let token = |t: u64| {
        let sum = |class: u64| -> u64 {
            let feature = |i: u64| ((x + t) * (i * 31 + 7) + class * 13) % 256;
            let at = |i: u64| weights[usize::try_from(class * WEIGHTS + i).unwrap()];
            (0..WEIGHTS).map(|i| at(i) * feature(i)).sum()
        };
        // The first of the highest.
        (0..CLASSES).rev().max_by_key(|class| sum(*class)).unwrap()
    };
    (0..TOKENS).map(token).collect()
}

/// The same as a program, with weights rounded down to so many bits.
fn toy_program(world: &World, name: &str, bits: u32) -> String {
    let script = format!(
        r#"BEGIN {{ s = 12345; for (n = 0; n < {CLASSES} * {WEIGHTS}; n++) {{ s = s * 16807 % 2147483647; w[n] = s % 65536; w[n] -= w[n] % {step} }} }}
{{ gsub(/[^0-9]/, ""); x = $0 + 0; out = "";
  for (t = 0; t < {TOKENS}; t++) {{ best = -1;
    for (c = 0; c < {CLASSES}; c++) {{ sum = 0;
      for (i = 0; i < {WEIGHTS}; i++) sum += w[c * {WEIGHTS} + i] * (((x + t) * (i * 31 + 7) + c * 13) % 256);
      if (sum > best) {{ best = sum; class = c }} }}
    out = out (t ? "," : "") class }}
  print "[" out "]"; fflush() }}
"#,
        step = 1_u32 << (16 - bits)
    );
    let script = world.file(&format!("{name}.awk"), &script);
    // One awk for each line, because some read ahead.
    let each = format!("while read -r line; do echo \"$line\" | awk -f {script}; done\n");
    format!("/bin/sh {}", world.file(&format!("{name}.sh"), &each))
}

/// T30: a copy with fewer bits that goes by the whole model's name is caught by canaries, and the whole one is not.
#[test]
fn t30_a_quantised_copy_of_a_model_fails_its_canaries() {
    const CANARIES_MAX: u64 = 200;
    let world = World::new();
    let whole = world.node("whole", &[]);
    let copy = world.joined("copy", &whole);
    let asker = world.joined("asker", &whole);
    for (node, name, bits) in [(&whole, "whole", 16), (&copy, "copy", 8)] {
        let command = toy_program(&world, name, bits);
        node.ok(&["serve", "--exec", &command, "--name", "toy", "--yes", "--public"]);
    }
    let weights = weights();
    let canary = |node: &Node, x: u64| {
        let target = format!("{}/toy", node.address());
        let (input, expect) = (json!({ "x": x }).to_string(), json!(toy(&weights, x)).to_string());
        let line = ["attest", "canary", &target, "--input", &input, "--expect", &expect, "--json"];
        let run = asker.run(&line);
        assert!(run.code == 0 || run.code == 8, "{}", run.stderr);
        run.code == 0
    };
    let caught = (0..CANARIES_MAX).find(|x| {
        assert!(canary(&whole, x * 7_919), "the whole model says what it says: {x}");
        !canary(&copy, x * 7_919)
    });
    assert!(caught.is_some(), "not in {CANARIES_MAX} canaries");
}
