//! Options, their conflicts, and what is generated from them.

use crate::support::comity;

fn home() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn a_wrong_command_line_is_usage() {
    for args in [
        &["find"][..],
        &["find", "a", "--query-json", "f"],
        &["find", "a", "--top", "0"],
        &["call", "a", "--json", "{}", "--input", "f"],
        &["call", "a", "--stream", "--receipt", "f"],
        &["call", "a", "--attempts", "99"],
        &["call", "a", "--timeout", "5 parsecs"],
        &["serve"],
        &["serve", "--table", "a", "--exec", "b"],
        &["serve", "--table", "a", "--public", "--private"],
        &["serve", "--table", "a", "--check", "--yes"],
        &["serve", "--table", "a", "--attribute", "novalue"],
        &["up", "--join", "nobody"],
        &["up", "--listen", "localhost"],
        &["id", "new", "--mint-bits", "99"],
        &["ping", "a", "--count", "0"],
        &["nonsense"],
    ] {
        let run = comity(home().path(), args);
        assert_eq!(run.code, 2, "{args:?}: {}", run.stderr);
        assert!(!run.stderr.is_empty() && run.stdout.is_empty());
    }
}

#[test]
fn without_a_node_every_command_says_how_to_start_one() {
    let home = home();
    let table = home.path().join("t.csv");
    std::fs::write(&table, "a,b\n1,2\n").unwrap();
    for args in [
        &["status"][..],
        &["down"],
        &["find", "historical", "FX"],
        &["show", "fd00::1"],
        &["call", "rates"],
        &["call", "rates", "--json", "{\"limit\": 3}"],
        &["serve", "--table", table.to_str().unwrap(), "--yes"],
        &["unserve", "rates"],
        &["ping", "fd00::1"],
        &["peers"],
        &["groups"],
    ] {
        let run = comity(home.path(), args);
        assert_eq!(run.code, 3, "{args:?}: {}", run.stderr);
        let wanted =
            format!("no node is running in {}: start one with `comity up`", home.path().display());
        let said = run.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(said.contains(&wanted), "{args:?}: {}", run.stderr);
    }
}

#[test]
fn json_errors_are_the_body_of_the_api() {
    let home = home();
    for args in [
        &["--json", "peers"][..],
        &["peers", "--json"],
        &["--json", "call", "rates"],
        &["call", "rates", "--json", "{}", "--output", "json"],
    ] {
        let run = comity(home.path(), args);
        assert_eq!((run.code, run.error_code().as_str()), (3, "not_running"), "{args:?}");
    }
}

#[test]
fn bad_data_is_told_before_a_node_is_asked() {
    let home = home();
    for (args, code, says) in [
        (&["call", "rates", "--json", "{limit: 3}"][..], 2, "the input is not JSON"),
        (&["call", "rates", "--input", "/nonexistent/input"], 2, "cannot read /nonexistent/input"),
        (&["call", "{\"text\":"], 2, "the query is not a JSON object"),
        (&["find", "{\"text\":"], 2, "the query is not a JSON object"),
        (&["serve", "--table", "/nonexistent/t.csv"], 2, "/nonexistent/t.csv"),
        (&["serve", "--exec", "run 'unclosed"], 2, "a quote is not closed"),
    ] {
        let run = comity(home.path(), args);
        let said = run.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(run.code, code, "{args:?}: {said}");
        assert!(said.contains(says), "{args:?}: {said}");
    }
}

#[test]
fn completions_know_the_commands() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let run = comity(home().path(), &["completions", shell]);
        assert_eq!(run.code, 0);
        for word in ["unserve", "receipt", "mint-bits"] {
            assert!(run.stdout.contains(word), "{shell} does not know {word}");
        }
    }
}

#[test]
fn there_is_a_man_page_for_every_command_and_it_names_the_exit_codes() {
    let home = home();
    let out = home.path().join("man");
    assert_eq!(comity(home.path(), &["man", "--out", out.to_str().unwrap()]).code, 0);
    for page in [
        "comity",
        "comity-up",
        "comity-find",
        "comity-call",
        "comity-id-new",
        "comity-serve",
        "comity-verify",
    ] {
        let text = std::fs::read_to_string(out.join(format!("{page}.1")))
            .unwrap_or_else(|_| panic!("no {page}.1"));
        assert!(text.contains(".SH SYNOPSIS"), "{page}");
    }
    let main = comity(home.path(), &["man"]).stdout;
    assert!(main.contains("Exit codes") && main.contains("130"));
}

#[test]
fn the_help_lists_every_exit_code() {
    let help = comity(home().path(), &["--help"]).stdout;
    for (exit, _) in comity_api::types::Exit::TABLE {
        let line = format!("\n  {:>3}  ", exit.code());
        assert!(help.contains(&line), "{line:?} is missing from:\n{help}");
    }
}

#[test]
fn the_api_document_is_printed_as_committed() {
    let printed = comity(home().path(), &["openapi"]).stdout;
    let committed = concat!(env!("CARGO_MANIFEST_DIR"), "/../api/openapi.json");
    assert_eq!(printed, std::fs::read_to_string(committed).unwrap());
}

#[test]
fn no_colours_where_nobody_sees_them() {
    let run = comity(home().path(), &["peers"]);
    assert!(!run.stderr.contains('\u{1b}'), "{:?}", run.stderr);
}
