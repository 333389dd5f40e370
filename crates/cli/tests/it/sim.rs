//! `comity sim`: a small network through the binary.

use std::path::Path;

use crate::support::{Run, comity};

/// Options that keep a run short.
const SHORT: [&str; 10] = [
    "--set",
    "measure.queries=10",
    "--set",
    "measure.finds=5",
    "--set",
    "measure.lookups=2",
    "--set",
    "demands={ recall_before = 0.9 }",
    "--set",
    "workload.publishers=8",
];

fn sim(args: &[&str]) -> Run {
    let home = tempfile::tempdir().unwrap();
    let mut all = vec!["sim"];
    all.extend(args);
    comity(home.path(), &all)
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|_| panic!("no {}", path.display()))
}

#[test]
fn a_small_network_is_run_reported_resumed_and_compared() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("out");
    let out = out.to_str().unwrap();
    let mut args = vec!["healthy", "--nodes", "60", "--seed", "3", "--json", "--report", out];
    args.extend(SHORT);
    let first = sim(&args);
    assert_eq!(first.code, 0, "{}", first.stderr);
    assert!(first.stderr.is_empty(), "no progress without a terminal: {}", first.stderr);
    let answer = first.json();
    let result = &answer["results"][0];
    assert_eq!(result["report"]["scenario"]["nodes"], 60);
    assert_eq!(result["report"]["scenario"]["seed"], 3);
    assert!(result["measured"]["wall_seconds"].as_f64().unwrap() > 0.0);
    for file in ["index.html", "report.md"] {
        let page = text(&Path::new(out).join(file));
        let command = "comity sim healthy --seed 3 --nodes 60";
        assert!(page.contains(command) && page.contains("N = 60 nodes"), "{file}");
    }

    // The result is there: nothing is run, and the answer is the same to the last digit of the wall clock.
    assert_eq!(sim(&args).json(), answer);

    let same = sim(&[out, "--compare", out]);
    assert_eq!(same.code, 0, "{}", same.stderr);
    assert!(
        same.stdout.contains("before.recall") && same.stdout.contains("traces: the same"),
        "{}",
        same.stdout
    );
    let json = sim(&[out, "--compare", out, "--json"]).json();
    assert_eq!(json["comparison"]["same_traces"], true);
}

#[test]
fn a_demand_that_is_missed_fails_the_command() {
    let mut args = vec!["healthy", "--nodes", "40"];
    args.extend(SHORT);
    args.extend(["--set", "demands={ query_p99_max = \"1ms\" }"]);
    let run = sim(&args);
    assert_eq!(run.code, 1, "{}", run.stderr);
    assert!(run.stdout.contains("WRONG"), "{}", run.stdout);
}

#[test]
fn a_wrong_file_is_told_with_line_and_field() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("mine.toml");
    std::fs::write(&file, "preset = \"healthy\"\nnodes = 60\n[link]\nlos = 1\n").unwrap();
    let run = sim(&[file.to_str().unwrap()]);
    assert_eq!(run.code, 2, "{}", run.stderr);
    assert!(run.stderr.contains("mine.toml:4:") && run.stderr.contains("`los`"), "{}", run.stderr);
    for args in [
        &["helthy"][..],
        &["none.toml"],
        &["healthy", "--set", "link.los=3"],
        &["healthy", "--set", "nonsense"],
        &["healthy", "--jobs", "0"],
        &["--campaign", "none.toml"],
        &["none.jsonl"],
        &[],
    ] {
        let run = sim(args);
        assert_eq!(run.code, 2, "{args:?}: {}", run.stderr);
    }
    assert!(sim(&["helthy"]).stderr.contains("did you mean healthy"));
}

#[test]
fn what_ships_is_listed() {
    let list = sim(&["--list"]);
    assert_eq!(list.code, 0);
    assert!(list.stdout.contains("healthy") && list.stdout.contains("partition_heal"));
    assert!(sim(&["--list", "--json"]).json().as_array().unwrap().len() > 10);
}
