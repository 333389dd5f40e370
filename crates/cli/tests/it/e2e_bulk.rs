//! Answers too large to be handed over as one piece: kept on disk, moved in pieces, from several holders, taken up again after a crash.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::archive::{NAME, answer, serve};
use crate::e2e_support::{Node, World, wait};
use crate::support::Run;

/// Pieces of an answer to [`question`].
const PIECES: u64 = 13;
/// Lines of it.
const LINES: u64 = 26;

fn question(of: &str) -> Value {
    json!({ "lines": LINES, "of": of })
}

fn run(node: &Node, target: &str, input: &Value, options: &[&str]) -> Run {
    let input = input.to_string();
    let line = [&["call", target, "--stream", "--timeout", "60s", "--json", &input][..], options];
    node.run(&line.concat())
}

/// Calls for what nobody is to work out.
fn shared(node: &Node, target: &str, of: &str) {
    let run = run(node, target, &question(of), &["--only-shared"]);
    assert_eq!(run.code, 0, "{}\n{}", run.stderr, node.log());
    assert!(run.stdout == answer(&question(of)), "to the byte as it was given");
}

fn counter(node: &Node, name: &str) -> u64 {
    node.get("/v1/results")["large"][name].as_u64().unwrap()
}

/// Files of the directory of large answers that end so.
fn files(node: &Node, ending: &str) -> Vec<PathBuf> {
    let files = std::fs::read_dir(node.home.join("results")).unwrap();
    let files = files.map(|file| file.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|found| found == ending)).collect()
}

/// Has the node know who offers the capability, so that it needs nobody else for a while.
fn acquaint(node: &Node, target: &str) {
    let run = run(node, target, &json!({ "lines": 1 }), &["--fresh", "--private-question"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
}

#[test]
fn a_large_answer_comes_from_all_who_hold_it() {
    let world = World::new();
    let mut producer = world.node("producer", &[]);
    let rate = ["--share-rate", "20000000"];
    let join =
        |nick: &str| world.node(nick, &[&["--join", &producer.ticket()][..], &rate].concat());
    let (mut first, second) = (join("first"), join("second"));
    let third = world.joined("third", &producer);
    serve(&world, &producer);
    let target = format!("{}/{NAME}", producer.address());
    for node in [&first, &second] {
        node.wait_joined();
    }
    for node in [&second, &third] {
        acquaint(node, &target);
    }

    let worked = run(&first, &target, &question("a"), &[]);
    assert_eq!(worked.code, 0, "{}", worked.stderr);
    assert!(worked.stdout == answer(&question("a")));
    let kept = first.get("/v1/results");
    assert_eq!((&kept["results"][0]["on_disk"], files(&first, "body").len()), (&json!(true), 1));
    assert_eq!(files(&first, "about").len(), 1);
    assert!(first.ok(&["results", "list"]).stdout.contains("on disk"), "{kept}");
    // From the own file.
    shared(&first, &target, "a");

    wait("a pointer is kept for others", || {
        (third.get("/v1/results")["pointers"].as_u64() >= Some(1)).then_some(())
    });
    shared(&second, &target, "a");
    assert_eq!(counter(&second, "pieces_fetched"), PIECES);
    assert_eq!(counter(&first, "pieces_sent"), PIECES);
    wait("a second pointer is kept for others", || {
        (third.get("/v1/results")["pointers"].as_u64() >= Some(2)).then_some(())
    });
    acquaint(&third, &target);
    producer.kill();
    shared(&third, &target, "a");
    let sent = [counter(&first, "pieces_sent") - PIECES, counter(&second, "pieces_sent")];
    assert!(sent.iter().all(|sent| *sent > 0), "both have sent: {sent:?}");
    assert_eq!(counter(&third, "pieces_refused"), 0);
    assert!(files(&third, "part").is_empty());

    // It is known after a restart.
    first.down();
    let first = Node::start(&first.home, &["--join", &second.ticket()]);
    let kept = first.get("/v1/results");
    assert_eq!(kept["results"][0]["on_disk"], true, "{kept}");
    assert_eq!(files(&first, "body").len(), 1);
}

#[test]
fn a_transfer_that_was_killed_is_taken_up_where_it_was() {
    let world = World::new();
    let producer = world.node("producer", &[]);
    let slow = ["--join", &producer.ticket(), "--share-rate", "4000000"];
    let holder = world.node("holder", &slow);
    let mut asker = world.joined("asker", &producer);
    serve(&world, &producer);
    holder.wait_joined();
    let target = format!("{}/{NAME}", producer.address());
    assert_eq!(run(&holder, &target, &question("b"), &[]).code, 0);
    wait("a pointer is kept for others", || {
        (asker.get("/v1/results")["pointers"].as_u64() >= Some(1)).then_some(())
    });

    let input = question("b").to_string();
    let line = ["call", &target, "--stream", "--only-shared", "--timeout", "60s", "--json", &input];
    let mut call = asker.background(&line);
    wait("some pieces have come", || {
        let large = &asker.get("/v1/results")["large"];
        (large["pieces_fetched"].as_u64() >= Some(4)).then_some(())
    });
    asker.kill();
    // Its node is gone, and so is what it waits for.
    assert!(!call.wait().unwrap().success());
    assert_eq!(files(&asker, "part").len(), 1);
    assert!(files(&asker, "body").is_empty());

    let asker = Node::start(&asker.home, &["--join", &producer.ticket()]);
    asker.wait_joined();
    let sent_before = counter(&holder, "pieces_sent");
    shared(&asker, &target, "b");
    let (fetched, resumed) = (counter(&asker, "pieces_fetched"), counter(&asker, "pieces_resumed"));
    assert_eq!(fetched + resumed, PIECES, "{resumed} were there");
    assert!(resumed >= 4, "{resumed}");
    assert_eq!(counter(&holder, "pieces_sent") - sent_before, fetched, "nothing is sent twice");
    assert!(files(&asker, "part").is_empty());

    // What was damaged on disk is handed to nobody, and fetched anew.
    let body = files(&asker, "body").remove(0);
    let file = std::fs::File::options().write(true).open(&body).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"damage", 5 << 20).unwrap();
    let spoilt = run(&asker, &target, &question("b"), &["--only-shared"]);
    assert_eq!(spoilt.code, 8, "{}", spoilt.stderr);
    assert!(!spoilt.stdout.contains("damage") && !spoilt.stdout.is_empty());
    shared(&asker, &target, "b");

    // What its producer takes back is deleted.
    assert_eq!(files(&asker, "body").len(), 1);
    producer.ok(&["results", "retract", NAME]);
    wait("the files of what was taken back are deleted", || {
        files(&asker, "body").is_empty().then_some(())
    });
}
