//! What is refused before it does harm: input that breaks the schema, and whatever is private.

use serde_json::json;

use crate::e2e_support::{World, moody_program, notes};

#[test]
fn input_that_breaks_the_schema_never_leaves() {
    let world = World::new();
    let server = world.node("server", &[]);
    let caller = world.joined("caller", &server);
    let (command, noted) = moody_program(&world, "fx");
    let schema = json!({
        "type": "object", "required": ["pair"], "additionalProperties": false,
        "properties": {"pair": {"type": "string", "pattern": "^[A-Z]{3}/[A-Z]{3}$"}, "days": {"type": "integer"}}
    });
    let schema = world.file("in.json", &schema.to_string());
    let mut line = vec!["serve", "--exec", &command, "--name", "fx", "--input-schema", &schema];
    line.extend(["--public", "--yes"]);
    server.ok(&line);
    let target = format!("{}/fx", server.address());
    for (input, field) in [
        ("{}", "pair"),
        (r#"{"pair": "EURUSD"}"#, "/pair"),
        (r#"{"pair": "EUR/USD", "days": "three"}"#, "/days"),
        (r#"{"pair": "EUR/USD", "dais": 3}"#, "dais"),
        ("[]", "object"),
    ] {
        for to in [target.as_str(), "fx"] {
            let run = caller.run(&["--json", "call", to, "--json", input]);
            assert_eq!(
                (run.code, run.error_code().as_str()),
                (5, "bad_input"),
                "{input}: {}",
                run.stderr
            );
            let line = run.stderr.lines().last().unwrap();
            assert!(line.contains(field), "{field} is not named for {input}: {line}");
        }
    }
    let own = server.run(&["--json", "call", "fx", "--json", "{}"]);
    assert_eq!((own.code, own.error_code().as_str()), (5, "bad_input"), "at home too");
    assert!(notes(&noted).is_empty(), "nothing reached the program: {:?}", notes(&noted));
    assert_eq!(server.status()["calls"]["served"], 0);
    let good = caller.ok(&["call", &target, "--json", r#"{"pair": "EUR/USD"}"#]);
    assert_eq!(good.json(), json!({"echo": {"pair": "EUR/USD"}}));
}

#[test]
fn what_is_private_does_not_exist_for_others() {
    let world = World::new();
    let owner = world.node("owner", &[]);
    let stranger = world.joined("stranger", &owner);
    let (command, noted) = moody_program(&world, "diary");
    let serve = |visibility: &str, name: &str| {
        let text = "diary of a secretive agent";
        owner.ok(&[
            "serve",
            "--exec",
            &command,
            "--name",
            name,
            "--description",
            text,
            visibility,
            "--yes",
        ]);
    };
    serve("--public", "open-diary");
    serve("--private", "diary");
    let address = owner.address();
    assert_eq!(stranger.finds("diary of a secretive agent"), [format!("{address}/open-diary")]);
    assert!(stranger.finds("named diary").is_empty());
    let shown = stranger.ok(&["show", &address, "--json"]).stdout;
    assert!(shown.contains("open-diary") && !shown.contains("\"diary\""), "{shown}");
    let target = format!("{address}/diary");
    let missing = format!("{address}/no-such-thing");
    let mut said = Vec::new();
    for target in [&target, &missing] {
        let show = stranger.run(&["--json", "show", target]);
        let call = stranger.run(&["--json", "call", target, "--json", "{}"]);
        assert_eq!((show.code, show.error_code().as_str()), (4, "not_found"), "{}", show.stderr);
        assert_eq!((call.code, call.error_code().as_str()), (4, "not_found"), "{}", call.stderr);
        said.push(
            (show.stderr + &call.stderr)
                .replace(target.as_str(), "TARGET")
                .replace("no-such-thing", "diary"),
        );
    }
    assert_eq!(said[0], said[1], "private and absent cannot be told apart");
    assert!(notes(&noted).is_empty());
    for target in ["diary", &target] {
        let own = owner.ok(&["call", target, "--json", "{\"dear\": \"diary\"}"]);
        assert_eq!(own.json(), json!({"echo": {"dear": "diary"}}));
    }
    // Made private, it disappears; made public again, it is back.
    serve("--private", "open-diary");
    assert!(stranger.finds("diary of a secretive agent").is_empty());
    let call = stranger.run(&["--json", "call", &format!("{address}/open-diary"), "--json", "{}"]);
    assert_eq!(call.code, 4, "{}", call.stderr);
    serve("--public", "open-diary");
    assert_eq!(stranger.finds("diary of a secretive agent").len(), 1);
}
