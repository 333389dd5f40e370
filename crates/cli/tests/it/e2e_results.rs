//! Answers worked out once: kept, handed on, derived, agreed on, taken back - and what becomes of who lies.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::e2e_support::{Node, World, data, notes, wait};

const NAME: &str = "citations";
const REUSE: &str =
    "visibility = \"public\"\nidempotent = true\nvalid_for = \"1h\"\ndata_version = \"7\"\n";
const PUBLIC: &str = "[reuse]\nscope = \"public\"\ndeterminism = \"exact\"\n";

/// A program that takes long enough for its answers to be worth telling of, and notes every request.
fn slow_program(world: &World, name: &str, answer: &str) -> (String, PathBuf) {
    let notes = world.dir.path().join(format!("{name}.notes"));
    let script = format!(
        "while read -r line; do echo \"$line\" >> {}; sleep 0.3; echo '{answer}'; done\n",
        notes.display()
    );
    let path = world.file(&format!("{name}.sh"), &script);
    (format!("/bin/sh {path}"), notes)
}

/// Serves a program with a manifest of these lines.
fn serve(world: &World, node: &Node, name: &str, command: &str, lines: &str) {
    let manifest = world.file(
        &format!("{name}.toml"),
        &format!("name = \"{NAME}\"\ndescription = \"checks citations\"\n{lines}[exec]\ncommand = \"{command}\"\n"),
    );
    node.ok(&["serve", "--manifest", &manifest, "--yes"]);
}

fn call(node: &Node, target: &str, input: &Value, options: &[&str]) -> Value {
    let input = input.to_string();
    let line = [&["--json", "call", target, "--json", &input][..], options].concat();
    node.ok(&line).json()
}

fn origin(answer: &Value) -> &str {
    answer["summary"]["origin"]["from"].as_str().unwrap()
}

#[test]
fn an_answer_is_worked_out_once_and_then_known() {
    let world = World::new();
    let producer = world.node("producer", &[]);
    let first = world.joined("first", &producer);
    let mut second = world.joined("second", &producer);
    let third = world.joined("third", &producer);
    let (command, requests) = slow_program(&world, "slow", r#"{"verdict": "sound"}"#);
    serve(&world, &producer, "shared", &command, &format!("{REUSE}{PUBLIC}"));
    let target = format!("{}/{NAME}", producer.address());
    let question = json!({ "cite": "RFC 9000" });

    let worked = call(&first, &target, &question, &[]);
    assert_eq!(origin(&worked), "producer");
    let again = call(&first, &target, &question, &[]);
    assert_eq!(origin(&again), "store");
    assert_eq!(again["output"], worked["output"]);
    assert_eq!(again["proof"], worked["proof"], "it is the producer's word, signed");
    assert!(again["summary"]["origin"]["saved_us"].as_u64().unwrap() >= 300_000);
    assert_eq!(notes(&requests).len(), 1);

    // The others hear of it, and nobody works.
    let input = question.to_string();
    let line = ["--json", "call", &target, "--only-shared", "--json", &input];
    let held = wait("a pointer to the answer is found", || {
        let run = second.run(&line);
        (run.code == 0).then(|| run.json())
    });
    assert_eq!(origin(&held), "holder", "{held}");
    assert_eq!(held["summary"]["origin"]["holder"]["agent"], first.agent());
    assert_eq!(held["proof"], worked["proof"]);
    assert_eq!(origin(&call(&second, &target, &question, &[])), "store");
    assert_eq!(origin(&call(&third, &target, &question, &[])), "holder");
    assert_eq!(notes(&requests).len(), 1);

    // What the asker wants decides.
    assert_eq!(origin(&call(&first, &target, &question, &["--fresh"])), "producer");
    assert_eq!(origin(&call(&second, &target, &question, &["--max-age", "1ms"])), "producer");
    assert_eq!(notes(&requests).len(), 3);
    let both = second.run(&["--json", "call", &target, "--fresh", "--only-shared"]);
    assert_eq!(both.code, 2, "{}", both.stderr);
    let other = second.run(&["--json", "call", &target, "--only-shared", "--json", "{}"]);
    assert_eq!((other.code, other.error_code().as_str()), (4, "no_match"), "{}", other.stderr);
    assert_eq!(notes(&requests).len(), 3);

    // It is known after a restart, and listed.
    second.down();
    let second = Node::start(&second.home, &[]);
    second.wait_joined();
    assert_eq!(origin(&call(&second, &target, &question, &[])), "store");
    let kept = second.ok(&["results", "list", "--json"]).json();
    assert_eq!(kept["results"][0]["capability"], NAME, "{kept}");
    assert!(second.ok(&["results", "list"]).stdout.contains(NAME));
}

#[test]
fn holders_that_left_do_not_hide_the_one_that_stays() {
    const LEFT: u64 = 8;
    let world = World::new();
    let producer = world.node("producer", &[]);
    let stays = world.joined("stays", &producer);
    let asker = world.joined("asker", &producer);
    let (command, requests) = slow_program(&world, "slow", r#"{"verdict": "sound"}"#);
    serve(&world, &producer, "shared", &command, &format!("{REUSE}{PUBLIC}"));
    let target = format!("{}/{NAME}", producer.address());
    let question = json!({ "cite": "RFC 8446" });
    assert_eq!(origin(&call(&stays, &target, &question, &[])), "producer");
    let left: Vec<Node> = (0..LEFT)
        .map(|number| world.joined(&format!("leaves-{number}"), &producer))
        .inspect(|leaves| {
            // Whoever has it says so beside the call.
            let held = wait("a pointer to the answer is found", || {
                let input = question.to_string();
                let line = ["--json", "call", &target, "--only-shared", "--json", &input];
                let run = leaves.run(&line);
                (run.code == 0).then(|| run.json())
            });
            assert_eq!(origin(&held), "holder");
        })
        .collect();
    let kept = || {
        let nodes = left.iter().chain([&producer, &stays, &asker]);
        nodes.map(|node| node.get("/v1/results")["pointers"].as_u64().unwrap()).sum::<u64>()
    };
    wait("several nodes keep the pointer of each", || (kept() >= 3 * (LEFT + 1)).then_some(()));
    for mut leaves in left {
        leaves.kill();
    }
    let held = call(&asker, &target, &question, &["--only-shared"]);
    assert_eq!(origin(&held), "holder");
    assert_eq!(held["summary"]["origin"]["holder"]["agent"], stays.agent());
    assert_eq!(notes(&requests).len(), 1);
}

#[test]
fn what_is_private_or_undeclared_is_handed_to_nobody() {
    let world = World::new();
    let producer = world.node("producer", &[]);
    let asker = world.joined("asker", &producer);
    let other = world.joined("other", &producer);
    let target = format!("{}/{NAME}", producer.address());
    let only_shared = |question: &Value| {
        let line = ["--json", "call", &target, "--only-shared", "--json", &question.to_string()];
        other.run(&line)
    };
    let (command, requests) = slow_program(&world, "slow", r#"{"verdict": "sound"}"#);
    serve(&world, &producer, "shared", &command, &format!("{REUSE}{PUBLIC}"));
    let secret = json!({ "cite": "my own draft" });
    call(&asker, &target, &secret, &["--private-question"]);
    assert_eq!(origin(&call(&asker, &target, &secret, &[])), "store", "it is known to who asked");
    // A question asked in public afterwards is told of: when that is heard of, the private one would have been, too.
    let open = json!({ "cite": "RFC 9000" });
    call(&asker, &target, &open, &[]);
    wait("the public answer is found", || (only_shared(&open).code == 0).then_some(()));
    assert_eq!(only_shared(&secret).error_code(), "no_match");
    assert_eq!(notes(&requests).len(), 2);
    let kept = asker.get("/v1/results");
    let announced = kept["results"].as_array().unwrap().iter();
    assert_eq!(announced.filter(|one| one["announced"] == true).count(), 1, "{kept}");

    // Without [reuse] an answer stays with who asked.
    serve(&world, &producer, "own", &command, REUSE);
    wait("the new declaration is known", || {
        let shown = asker.get(&format!("/v1/show/{target}"));
        (shown["capabilities"][0]["data_version"] == "7").then_some(())
    });
    let third = json!({ "cite": "RFC 9001" });
    call(&asker, &target, &third, &[]);
    assert_eq!(origin(&call(&asker, &target, &third, &[])), "store");
    assert_eq!(only_shared(&third).error_code(), "no_match");
}

#[test]
fn equal_questions_at_one_time_are_one_call() {
    let world = World::new();
    let producer = world.node("producer", &[]);
    let asker = world.joined("asker", &producer);
    let (command, requests) = slow_program(&world, "slow", r#"{"verdict": "sound"}"#);
    serve(&world, &producer, "shared", &command, &format!("{REUSE}{PUBLIC}"));
    let target = format!("{}/{NAME}", producer.address());
    let line = ["--json", "call", &target, "--json", r#"{"cite": "RFC 9000"}"#];
    let calls: Vec<_> = (0..4).map(|_| asker.background(&line)).collect();
    let mut origins = Vec::new();
    for one in calls {
        let output = one.wait_with_output().unwrap();
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        origins.push(origin(&answer).to_owned());
    }
    assert_eq!(notes(&requests).len(), 1, "{origins:?}");
    assert_eq!(origins.iter().filter(|from| *from == "producer").count(), 1, "{origins:?}");
}

#[test]
fn a_smaller_question_is_answered_from_a_larger_answer() {
    let world = World::new();
    let producer = world.node("producer", &[]);
    let asker = world.joined("asker", &producer);
    let manifest = world.file(
        "rates.toml",
        &format!(
            "name = \"rates\"\nvisibility = \"public\"\nvalid_for = \"1h\"\n[reuse]\nscope = \"public\"\n[table]\nfile = \"{}\"\n",
            data("ecb-reference-rates.csv")
        ),
    );
    producer.ok(&["serve", "--manifest", &manifest, "--yes"]);
    let target = format!("{}/rates", producer.address());
    let year =
        json!({ "where": { "date": { "from": "2019-01-01", "to": "2019-12-31" } }, "limit": 5000 });
    let month =
        json!({ "where": { "date": { "from": "2019-03-01", "to": "2019-03-31" } }, "limit": 5000 });
    assert_eq!(origin(&call(&asker, &target, &year, &[])), "producer");
    let derived = call(&asker, &target, &month, &[]);
    assert_eq!(origin(&derived), "derived", "{derived}");
    assert_eq!(derived["summary"]["origin"]["larger"], year);
    let worked = call(&asker, &target, &month, &["--fresh"]);
    assert_eq!(derived["output"], worked["output"], "to the byte as the table gives it");
    // A proof to keep is of the question itself.
    let file = world.dir.path().join("proof.json");
    let file = file.to_str().unwrap();
    let week = json!({ "where": { "date": { "from": "2019-04-01", "to": "2019-04-05" } } });
    let kept = call(&asker, &target, &week, &["--receipt", file]);
    assert_eq!(origin(&kept), "producer");
    asker.ok(&["verify", file]);
}

#[test]
fn both_ends_keep_the_receipt_and_both_have_signed() {
    let world = World::new();
    let producer = world.node("producer", &[]);
    let caller = world.joined("caller", &producer);
    let (command, _) = slow_program(&world, "slow", r#"{"verdict": "sound"}"#);
    serve(&world, &producer, "plain", &command, "visibility = \"public\"\n");
    let target = format!("{}/{NAME}", producer.address());
    let answer = call(&caller, &target, &json!({}), &[]);
    for (node, side, other) in [(&producer, "served", &caller), (&caller, "made", &producer)] {
        let one = wait("the receipt is countersigned", || {
            let list = node.ok(&["receipts", "list", "--side", side, "--json"]).json();
            let one = list["receipts"][0].clone();
            one["countersigned_cbor"].is_string().then_some(one)
        });
        assert_eq!(one["proof"], answer["proof"]);
        assert_eq!(one["verdict"], "received");
        assert_eq!(one["agent"], other.agent());
        let id = one["id"].as_str().unwrap();
        let short = &id["b3:".len()..][..10];
        assert_eq!(node.ok(&["receipts", "show", short, "--json"]).json(), one);
        let text = node.ok(&["receipts", "list", "--agent", &other.agent()]).stdout;
        assert!(text.contains(NAME) && text.contains("both"), "{text}");
    }
    let file = world.dir.path().join("receipts.json");
    let file = file.to_str().unwrap();
    caller.ok(&["receipts", "export", file]);
    let exported: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    assert_eq!(exported["receipts"][0]["proof"], answer["proof"]);
    let checked = caller.ok(&["verify", file]).stdout;
    assert!(checked.contains("1 receipt, 1 of them signed by both ends"), "{checked}");
    let forged = exported.to_string().replacen("\"received\"", "\"confirmed\"", 1);
    let forged = caller.run(&["--json", "verify", &world.file("forged.json", &forged)]);
    assert_eq!((forged.code, forged.error_code().as_str()), (8, "not_verified"));
    let twice = caller.run(&["--json", "receipts", "export", file]);
    assert_eq!(twice.code, 9, "nothing is overwritten: {}", twice.stderr);
    let nothing = caller.run(&["--json", "receipts", "show", "00000000"]);
    assert_eq!(nothing.error_code(), "not_found");
    let unclear = caller.run(&["--json", "receipts", "show", "xyz"]);
    assert_eq!(unclear.error_code(), "bad_request");
}

#[test]
fn a_majority_of_producers_outvotes_a_liar() {
    let world = World::new();
    let seed = world.node("seed", &[]);
    let mut asker = world.joined("asker", &seed);
    let mut producers = Vec::new();
    for (nick, answer) in [("a", "sound"), ("b", "sound"), ("c", "made up")] {
        let node = world.joined(nick, &seed);
        let answer = format!(r#"{{"verdict": "{answer}"}}"#);
        let (command, _) = slow_program(&world, nick, &answer);
        serve(&world, &node, nick, &command, &format!("{REUSE}{PUBLIC}"));
        producers.push(node);
    }
    wait("all three are found", || (asker.finds("named citations").len() == 3).then_some(()));
    let question = json!({ "cite": "RFC 9000" });
    let answer = call(&asker, NAME, &question, &["--quorum", "2/3"]);
    assert_eq!(answer["output"]["value"]["verdict"], "sound", "{answer}");
    let voices = answer["summary"]["voices"].as_array().unwrap();
    let part = |node: &Node| {
        let of_node = voices.iter().find(|voice| voice["agent"] == node.agent().as_str());
        of_node.unwrap()["part"].as_str().unwrap()
    };
    assert_eq!([0, 1, 2].map(|n| part(&producers[n])), ["agreed", "agreed", "dissented"]);
    // A private question stays private, however many were asked.
    let secret = json!({ "cite": "my own draft" });
    call(&asker, NAME, &secret, &["--quorum", "2/3", "--private-question"]);
    let kept = asker.get("/v1/results");
    let mut announced: Vec<bool> = kept["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["announced"].as_bool().unwrap())
        .collect();
    announced.sort_unstable();
    assert_eq!(announced, [false, true], "{kept}");
    // Every answer is in the log, agreed or not.
    let log = asker.ok(&["audit", "list", "--json", "--limit", "200"]).stdout;
    assert_eq!(log.matches("call-made").count(), 6, "{log}");
    // That is remembered, and shown.
    let score = |node: &Node| {
        let view = asker.ok(&["reputation", "show", &node.agent(), "--json"]).json();
        view["score"].as_f64().unwrap()
    };
    assert!(score(&producers[2]) < score(&producers[0]) / 2.0);
    // It is what the highest level takes, where two are enough.
    let levels = "[levels]\nquorum_min = 2\nquorum_roots_min = 2\n";
    std::fs::write(asker.home.join("policy.toml"), levels).unwrap();
    asker.ok(&["policy", "reload"]);
    let line = ["--json", "find", "named citations", "--min-level", "L4"];
    let of_level_four = |asker: &Node| -> Vec<String> {
        let found: Value = serde_json::from_str(&asker.run(&line).stdout).unwrap_or_default();
        let agents = found["matches"].as_array().cloned().unwrap_or_default();
        let mut agents: Vec<String> =
            agents.iter().map(|one| one["agent"].as_str().unwrap().to_owned()).collect();
        agents.sort_unstable();
        agents
    };
    let mut agreed = [producers[0].agent(), producers[1].agent()];
    agreed.sort();
    assert_eq!(of_level_four(&asker), agreed);
    // A node that was killed knows it still.
    asker.kill();
    asker = Node::start(&asker.home, &["--join", &seed.ticket()]);
    asker.wait_joined();
    wait("the restarted node finds them", || (of_level_four(&asker) == agreed).then_some(()));
    // All three cannot agree, and then there is no answer.
    let line = ["--json", "call", NAME, "--quorum", "3/3", "--json", r#"{"cite": "RFC 9001"}"#];
    let none = asker.run(&line);
    assert_eq!((none.code, none.error_code().as_str()), (8, "not_verified"), "{}", none.stderr);
    let line = ["--json", "call", NAME, "--quorum", "5/9"];
    assert_eq!(asker.run(&line).error_code(), "no_match");
    let line = ["--json", "call", NAME, "--quorum", "1/3"];
    assert_eq!(asker.run(&line).error_code(), "bad_request");
}

#[test]
fn who_contradicts_itself_is_believed_no_more() {
    let world = World::new();
    let producer = world.node("producer", &[]);
    let mut asker = world.joined("asker", &producer);
    let other = world.joined("other", &producer);
    // Another answer each time, to one question over the same data.
    let script = world.file(
        "fickle.sh",
        "n=0\nwhile read -r line; do n=$((n+1)); echo \"{\\\"verdict\\\": $n}\"; done\n",
    );
    let command = format!("/bin/sh {script}");
    serve(&world, &producer, "fickle", &command, &format!("{REUSE}{PUBLIC}"));
    let target = format!("{}/{NAME}", producer.address());
    let question = json!({ "cite": "RFC 9000" });
    call(&asker, &target, &question, &[]);
    call(&asker, &target, &question, &["--fresh"]);
    let view = asker.ok(&["reputation", "show", &producer.agent(), "--json"]).json();
    assert!(view["lied"].is_string(), "{view}");
    assert_eq!(view["score"], 0.0);
    assert_eq!(asker.get("/v1/results")["results"], json!([]), "nothing of it is kept");
    let line = ["--json", "call", NAME, "--json", "{}"];
    assert_eq!(asker.run(&line).error_code(), "no_match", "it is not asked any more");
    // The proof convinces whoever is shown it.
    wait("another node is shown the proof", || {
        let view = other.ok(&["reputation", "show", &producer.agent(), "--json"]).json();
        view["lied"].is_string().then_some(())
    });
    let line = ["--json", "call", &target, "--json", "{}"];
    assert_eq!(other.run(&line).error_code(), "not_verified");
    asker.down();
    let asker = Node::start(&asker.home, &[]);
    let view = asker.ok(&["reputation", "show", &producer.agent(), "--json"]).json();
    assert!(view["lied"].is_string(), "the proof is kept: {view}");
}

#[test]
fn what_its_producer_takes_back_is_used_no_more() {
    let world = World::new();
    let producer = world.node("producer", &[]);
    let holder = world.joined("holder", &producer);
    let other = world.joined("other", &producer);
    let (command, requests) = slow_program(&world, "slow", r#"{"verdict": "sound"}"#);
    serve(&world, &producer, "shared", &command, &format!("{REUSE}{PUBLIC}"));
    let target = format!("{}/{NAME}", producer.address());
    let question = json!({ "cite": "RFC 9000" });
    call(&holder, &target, &question, &[]);
    let input = question.to_string();
    let line = ["--json", "call", &target, "--only-shared", "--max-age", "1h", "--json", &input];
    wait("the answer is found", || (other.run(&line).code == 0).then_some(()));
    let done = producer.ok(&["results", "retract", NAME]).stdout;
    assert!(done.contains("took back all answers"), "{done}");
    // The nodes that keep the retraction are all of this small network: nobody has the answer any more.
    for node in [&holder, &other] {
        assert_eq!(node.get("/v1/results")["results"], json!([]));
    }
    assert_eq!(origin(&call(&other, &target, &question, &[])), "producer");
    assert_eq!(notes(&requests).len(), 2);
    let unknown = producer.run(&["--json", "results", "retract", "nothing"]);
    assert_eq!(unknown.error_code(), "not_found");
}

#[test]
fn who_asks_what_another_node_is_having_worked_out_waits_for_it() {
    let world = World::new();
    let producer = world.node("producer", &[]);
    let first = world.joined("first", &producer);
    let second = world.joined("second", &producer);
    let notes_file = world.dir.path().join("work.notes");
    let script = format!(
        "while read -r line; do echo \"$line\" >> {}; sleep 1; echo '{{\"verdict\": \"sound\"}}'; done\n",
        notes_file.display()
    );
    let command = format!("/bin/sh {}", world.file("work.sh", &script));
    serve(&world, &producer, "shared", &command, &format!("{REUSE}{PUBLIC}"));
    let target = format!("{}/{NAME}", producer.address());
    let mut rounds = 0;
    let awaited = wait("an answer that another node was having worked out", || {
        rounds += 1;
        let input = json!({ "cite": format!("RFC {rounds}") }).to_string();
        let work = ["--json", "call", &target, "--json", &input];
        // Nobody is asked to work here: there is an answer once the other node has it, or is about to.
        let line = ["--json", "call", &target, "--only-shared", "--json", &input];
        std::thread::scope(|scope| {
            scope.spawn(|| first.ok(&work));
            let held = wait("the answer is found", || {
                let run = second.run(&line);
                (run.code == 0).then(|| run.json())
            });
            (held["summary"]["origin"]["awaited"] == true).then_some(held)
        })
    });
    assert_eq!(awaited["summary"]["origin"]["holder"]["agent"], first.agent());
    assert_eq!(awaited["output"]["value"]["verdict"], "sound");
    assert_eq!(notes(&notes_file).len(), rounds, "each question was worked out once");
}

#[test]
fn whoever_is_little_known_is_checked_by_another() {
    let world = World::new();
    let seed = world.node("seed", &[]);
    let asker = world.joined("asker", &seed);
    let mut works = Vec::new();
    let mut producers = Vec::new();
    for (nick, answer) in [("a", "sound"), ("b", "sound"), ("c", "made up")] {
        let node = world.joined(nick, &seed);
        let answer = format!(r#"{{"verdict": "{answer}"}}"#);
        let (command, requests) = slow_program(&world, nick, &answer);
        serve(&world, &node, nick, &command, &format!("{REUSE}{PUBLIC}"));
        producers.push(node);
        works.push(requests);
    }
    wait("all three are found", || (asker.finds("named citations").len() == 3).then_some(()));
    let worked = || works.iter().map(|requests| notes(requests).len()).sum::<usize>();
    // Nothing is known of anybody yet: each answer is checked, and whoever is asked first, the liar does not prevail.
    for round in 0..4 {
        let question = json!({ "cite": format!("RFC {round}") });
        let before = worked();
        let answer = call(&asker, NAME, &question, &[]);
        assert_eq!(answer["output"]["value"]["verdict"], "sound", "{answer}");
        assert!(worked() >= before + 2, "{answer}");
        assert!(answer["summary"]["voices"].as_array().unwrap().len() >= 2, "{answer}");
        assert_eq!(origin(&call(&asker, NAME, &question, &[])), "store");
    }
    let honesty = |node: &Node| {
        let view = asker.ok(&["reputation", "show", &node.agent(), "--json"]).json();
        view["score"].as_f64().unwrap()
    };
    assert!(honesty(&producers[0]).max(honesty(&producers[1])) > honesty(&producers[2]));
    // Who asks for it is told by one alone: a private question, and whoever is called by address.
    for (target, option) in [
        (NAME.to_owned(), "--private-question"),
        (NAME.to_owned(), "--unchecked"),
        (format!("{}/{NAME}", producers[2].address()), "--fresh"),
    ] {
        let before = worked();
        call(&asker, &target, &json!({ "cite": option }), &[option]);
        assert_eq!(worked(), before + 1, "{option}");
    }
    // Two that contradict each other are no answer.
    let mut producers = producers.into_iter();
    let mut first = producers.next().unwrap();
    first.down();
    let line = ["--json", "call", NAME, "--json", r#"{"cite": "RFC 9001"}"#];
    let run = wait("it is checked by one that says otherwise", || {
        let run = asker.run(&line);
        (run.code != 0).then_some(run)
    });
    assert_eq!((run.code, run.error_code().as_str()), (8, "not_verified"), "{}", run.stderr);
}

#[test]
fn a_table_is_probed_for_what_it_claims() {
    let world = World::new();
    let producer = world.node("producer", &[]);
    let forger = world.joined("forger", &producer);
    let asker = world.joined("asker", &producer);
    let table = world.file(
        "rates.csv",
        &(0..400).fold("day,pair,rate\n".to_owned(), |text, n| {
            text + &format!("{}-{:02}-01,EUR/USD,1.{n:03}\n", 1990 + n / 12, n % 12 + 1)
        }),
    );
    let serve = |producer: &Node, name: &str, attributes: &str| {
        let manifest = world.file(
            &format!("{name}.toml"),
            &format!("name = \"{name}\"\nvisibility = \"public\"\n[table]\nfile = \"{table}\"\n[attributes]\n{attributes}"),
        );
        producer.ok(&["serve", "--manifest", &manifest, "--yes"]);
        format!("{}/{name}", producer.address())
    };
    let honest = serve(&producer, "honest", "");
    let said = asker.ok(&["attest", "probe", &honest, "--rows", "16", "--json"]).json();
    assert_eq!((&said["passed"], &said["rows"]), (&json!(true), &json!(400)), "{said}");
    let proved: Vec<u64> =
        said["proved"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).collect();
    assert_eq!((proved.len(), proved[0], proved[15]), (16, 0, 399));
    let checks = |producer: &Node| {
        let line = ["reputation", "show", &producer.agent(), "--json"];
        let view = asker.ok(&line).json();
        view["streak"].as_u64().unwrap()
    };
    assert_eq!(checks(&producer), 1, "it counts as an answer that was checked");

    let boaster =
        serve(&producer, "boaster", "\"schema:temporalCoverage\" = \"1950-01-01/2023-04-01\"\n");
    let problem = |target: &str| {
        let run = asker.run(&["attest", "probe", target, "--json"]);
        assert_eq!(run.code, 8, "{}", run.stderr);
        run.json()["problem"].as_str().unwrap().to_owned()
    };
    let text = problem(&boaster);
    assert!(text.contains("do not reach as far as it declares"), "{text}");
    let forged = serve(&forger, "forger", &format!("\"data:merkle\" = \"{}\"\n", "0f".repeat(32)));
    let text = problem(&forged);
    assert!(text.contains("is not among those it committed to"), "{text}");
    assert_eq!(checks(&producer), 0);

    let (command, _) = slow_program(&world, "program", "{}");
    self::serve(&world, &forger, "program", &command, REUSE);
    let program = format!("{}/{NAME}", forger.address());
    for (line, code) in [
        (["attest", "probe", &program, "--rows", "8"], 4),
        (["attest", "probe", &honest, "--rows", "1"], 2),
        (["attest", "probe", "honest", "--rows", "8"], 2),
    ] {
        let run = asker.run(&line);
        assert_eq!(run.code, code, "{line:?}: {}", run.stderr);
    }
}
