//! Groups with a charter, with real nodes: who belongs is let in, who was expelled is out.

use crate::e2e_support::{Node, World, moody_program, wait};

const GROUP: &str = "consortium";

fn serve_private(world: &World, node: &Node) {
    let (command, _) = moody_program(world, "pay");
    node.ok(&["serve", "--exec", &command, "--name", "pay", "--yes"]);
}

fn let_in(node: &Node, group: &str) {
    let policy =
        format!("[groups]\nours = \"{group}\"\n\n[[rule]]\nallow = \"pay\"\ngroups = \"ours\"\n");
    std::fs::write(node.home.join("policy.toml"), policy).unwrap();
    node.ok(&["policy", "reload"]);
}

fn call(node: &Node, callee: &Node, group: &str) -> (i32, String) {
    let target = format!("{}/pay", callee.address());
    let line = ["--json", "call", &target, "--json", "{}", "--attempts", "1", "--group", group];
    let run = node.run(&line);
    (run.code, run.stderr)
}

#[test]
fn members_are_let_in_until_they_are_expelled() {
    let world = World::new();
    let founder = world.node("founder", &[]);
    let member = world.joined("member", &founder);
    let friend = world.joined("friend", &founder);
    let far = world.joined("far", &founder);
    let stranger = world.joined("stranger", &founder);
    serve_private(&world, &friend);
    serve_private(&world, &far);

    let made =
        founder.ok(&["group", "create", GROUP, "--governed", "--stale", "12s", "--json"]).json();
    let (group, charter) = (made["group"].as_str().unwrap(), made["text"].as_str().unwrap());
    assert_eq!((made["founded"].as_bool(), made["member"].as_bool()), (Some(true), Some(true)));
    for node in [&friend, &far] {
        let_in(node, group);
    }
    for node in [&member, &friend, &stranger] {
        let joined = node.ok(&["group", "join", charter, "--json"]).json();
        assert_eq!(joined["member"], false, "{joined}");
    }
    let not_yet = call(&member, &friend, GROUP);
    assert!(not_yet.0 != 0 && not_yet.1.contains("no member"), "{not_yet:?}");
    let refused = stranger.run(&["group", "admit", GROUP, &stranger.agent()]);
    assert!(refused.code != 0 && refused.stderr.contains("no steward"), "{}", refused.stderr);

    for (node, who) in [(&member, "member"), (&friend, "friend")] {
        let made = founder.ok(&["group", "admit", GROUP, &node.agent(), "--json"]).json();
        assert_eq!(made["delivered"], true, "{who}: {made}");
    }
    for callee in [&friend, &far] {
        let answer = call(&member, callee, GROUP);
        assert_eq!(answer.0, 0, "{}\n{}", answer.1, callee.log());
    }
    // Nobody is asked to show it, and who does not show it sees nothing.
    let target = format!("{}/pay", far.address());
    assert_ne!(member.run(&["call", &target, "--json", "{}", "--attempts", "1"]).code, 0);
    let explain = |more: &[&str]| {
        let agent = member.agent();
        let line = [&["policy", "explain", &agent, "pay", "--json"][..], more].concat();
        far.ok(&line).json()["allowed"].as_bool().unwrap()
    };
    assert!(!explain(&[]) && explain(&["--group", "ours"]) && explain(&["--group", group]));
    let shown = member.ok(&["group", "show", GROUP]).stdout;
    assert!(shown.contains("1 of 1 steward") && shown.contains("within 12 s"), "{shown}");
    assert!(founder.ok(&["group", "list"]).stdout.contains("governed"));

    let done = founder.ok(&["group", "expel", GROUP, &member.agent(), "--json"]).json();
    let message = done["message"].as_str().unwrap();
    assert!(message.contains("1 members and stewards were told"), "{message}");
    // Told at once where it is known; elsewhere no later than the charter says.
    let out = call(&member, &friend, GROUP);
    assert!(out.0 != 0 && out.1.contains("expelled"), "{out:?}");
    wait("who was not told hears of it", || (call(&member, &far, GROUP).0 != 0).then_some(()));
    let again = founder.run(&["group", "admit", GROUP, &member.agent()]);
    assert!(again.code != 0 && again.stderr.contains("for good"), "{}", again.stderr);
    assert_eq!(call(&friend, &far, GROUP).0, 0, "the others stay members");
    let shown = founder.ok(&["group", "show", GROUP]).stdout;
    assert!(shown.contains(&member.agent()) && shown.contains("withdrawn"), "{shown}");
}

#[test]
fn groups_outlive_their_nodes_and_open_ones_ask_for_no_admission() {
    let world = World::new();
    let mut founder = world.node("founder", &[]);
    let anybody = world.joined("anybody", &founder);
    serve_private(&world, &founder);
    let made = founder.ok(&["group", "create", "commons", "--open", "--json"]).json();
    let (group, charter) = (made["group"].as_str().unwrap(), made["text"].as_str().unwrap());
    let key = founder.home.join("groups/commons.key");
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&key).unwrap()) & 0o777;
    assert_eq!(mode, 0o600);
    let_in(&founder, group);
    anybody.ok(&["group", "join", charter, "--name", "all"]);
    assert_eq!(call(&anybody, &founder, "all").0, 0);

    let home = founder.home.clone();
    founder.kill();
    let founder = Node::start(&home, &["--join", &anybody.ticket()]);
    founder.wait_joined();
    assert_eq!(founder.ok(&["group", "show", "commons", "--json"]).json()["founded"], true);
    let answer = wait("the founder is found again", || {
        let answer = call(&anybody, &founder, "all");
        (answer.0 == 0).then_some(answer)
    });
    assert_eq!(answer.0, 0);
    founder.ok(&["group", "expel", "commons", &anybody.agent()]);
    let out = call(&anybody, &founder, "all");
    assert!(out.0 != 0 && out.1.contains("expelled"), "{out:?}");

    for (line, words) in [
        (vec!["group", "create", "commons", "--open"], "already"),
        (vec!["group", "create", "Bad Name", "--governed"], "a-z"),
        (vec!["group", "create", "x", "--governed", "--needed", "3"], "1 to n of n"),
        (vec!["group", "create", "x", "--governed", "--stale", "30d"], "7 days"),
        (vec!["group", "create", "commons"], "already"),
        (vec!["group", "leave", "commons"], "members depend on it"),
        (vec!["group", "admit", "commons", &anybody.agent()], "no steward"),
        (vec!["group", "admit", "nowhere", &anybody.agent()], "called `nowhere`"),
        (vec!["group", "join", "comity-charter:AAAA"], "no charter"),
    ] {
        let run = founder.run(&line);
        assert_ne!(run.code, 0, "{line:?}");
        assert!(run.stderr.contains(words), "{line:?}: {}", run.stderr);
    }
    anybody.ok(&["group", "leave", "all"]);
    assert!(anybody.ok(&["group", "list"]).stdout.contains("no groups"));
}
