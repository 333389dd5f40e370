//! What is in a node's way: its key, its address, its home, its disk, its clock, its peers. Each has a name and a way out.

use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::e2e_support::{Node, TEST_NETWORK, World, api, new_identity, quiet_port, wait};
use crate::support::{Run, comity};

/// `comity up` that is expected to fail; should it start all the same, the end of its standard input ends it.
fn up(home: &Path, args: &[&str]) -> Run {
    let mut line = vec!["--json", "up", "--until-stdin-closes"];
    line.extend(TEST_NETWORK);
    if !args.contains(&"--listen") {
        line.extend(["--listen", "127.0.0.1:0"]);
    }
    line.extend(args);
    comity(home, &line)
}

/// Exit code, code and message of the JSON error among what was said.
fn error_of(run: &Run) -> (i32, String, String) {
    let mut errors = run.stderr.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let error = errors.next().unwrap_or_else(|| panic!("no error: {}{}", run.stdout, run.stderr));
    let text = |name: &str| error["error"][name].as_str().unwrap_or_default().to_owned();
    (run.code, text("code"), text("message"))
}

fn serve_echo<'a>(name: &'a str, visibility: &'a str) -> [&'a str; 9] {
    let text = "repeats what it hears";
    ["serve", "--exec", "/bin/cat", "--name", name, "--description", text, visibility, "--yes"]
}

/// The first reason that a join failed for, once there is one.
fn join_failure(node: &Node) -> String {
    wait("a reason why the join failed", || {
        let status = node.status();
        Some(status["join"]["failed"][0]["reason"].as_str()?.to_owned())
    })
}

#[test]
fn a_key_that_others_can_read_stops_a_restart_and_nothing_is_lost() {
    let world = World::new();
    let mut node = world.node("a", &[]);
    node.ok(&serve_echo("echo", "--private"));
    node.down();
    let key = node.home.join("identity.key");
    let mode =
        |mode| std::fs::set_permissions(&key, std::fs::Permissions::from_mode(mode)).unwrap();
    mode(0o644);
    let (exit, code, message) = error_of(&up(&node.home, &[]));
    assert_eq!((exit, code.as_str()), (9, "key_file"));
    assert!(message.contains("chmod 600"), "{message}");
    mode(0o600);
    let node = Node::start(&node.home, &[]);
    wait("it serves as before", || (node.serves() == ["echo"]).then_some(()));

    let other = world.home("b");
    std::fs::create_dir_all(other.join("identity.key")).unwrap();
    let (exit, code, message) = error_of(&up(&other, &[]));
    assert_eq!((exit, code.as_str()), (9, "key_file"), "{message}");
    assert!(message.contains("not a regular file"), "{message}");
}

#[test]
fn an_address_in_use_is_named() {
    let world = World::new();
    let home = world.home("a");
    new_identity(&home);
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (exit, code, message) = error_of(&up(&home, &["--listen", &address]));
    assert_eq!((exit, code.as_str()), (9, "address_in_use"), "{message}");
    assert!(message.contains(&address), "{message}");
    // The same told by a node in the background, whose error would else be in its log alone.
    let mut line = vec!["--json", "up", "--detach", "--listen", &address];
    line.extend(TEST_NETWORK);
    let (exit, code, _) = error_of(&comity(&home, &line));
    assert_eq!((exit, code.as_str()), (9, "address_in_use"));
    // An address of another host: RFC 5737 documentation space is nobody's.
    let (exit, _, message) = error_of(&up(&home, &["--listen", "192.0.2.1:4000"]));
    assert!(exit == 9 && message.contains("192.0.2.1:4000"), "{exit}: {message}");
    let mut node = Node::start(&home, &[]);
    node.down();
}

#[test]
fn join_addresses_that_lead_nowhere_are_named_and_tried_again() {
    let world = World::new();
    let home = world.home("a");
    new_identity(&home);
    for text in ["nonsense", "127.0.0.1:4000", "comity:abc"] {
        let run = up(&home, &["--join", text]);
        assert_eq!(run.code, 2, "{text}: {}", run.stderr);
        assert!(run.stderr.contains(text), "{}", run.stderr);
    }

    let port = quiet_port();
    let listen = format!("127.0.0.1:{port}");
    let mut late = world.node("late", &["--listen", &listen]);
    let ticket = late.ticket();
    late.kill();
    let early = Node::start(&home, &["--join", &ticket]);
    let reason = join_failure(&early);
    assert!(reason.contains(&listen), "{reason}");
    let said = early.ok(&["status"]).stdout;
    assert!(said.contains("did not answer"), "the status says it to people too:\n{said}");
    early.ok(&serve_echo("echo", "--public"));
    early.ok(&["call", "echo", "--json", "{}"]);
    let late = Node::start(&late.home, &["--listen", &listen]);
    early.wait_joined();
    let target = format!("{}/echo", early.address());
    wait("it is found through the one it joined", || {
        late.finds("named echo").contains(&target).then_some(())
    });
}

#[test]
fn a_node_whose_peers_were_away_comes_back_to_them() {
    let world = World::new();
    let port = quiet_port();
    let listen = format!("127.0.0.1:{port}");
    let mut old = world.node("old", &["--listen", &listen]);
    let mut node = world.joined("node", &old);
    node.ok(&serve_echo("echo", "--public"));
    let agent = node.agent();
    old.kill();
    node.kill();
    // The old peer loses its memory, so that only the other one can bring the two together again.
    std::fs::remove_file(old.home.join("node.redb")).unwrap();
    let node = Node::start(&node.home, &[]);
    wait("it has tried its peers", || node.log().contains("no peer of earlier runs").then_some(()));
    let old = Node::start(&old.home, &["--listen", &listen]);
    node.wait_joined();
    let target = format!("{}/echo", node.address());
    wait("it is found again", || old.finds("named echo").contains(&target).then_some(()));
    assert_eq!(node.agent(), agent);
}

#[test]
fn a_peer_with_another_key_is_not_taken_for_the_one_meant() {
    let world = World::new();
    let other = world.node("other", &[]);
    let meant = new_identity(&world.home("meant"));
    let address = format!("{meant}@{}", other.socket_address());
    let node = world.node("node", &["--join", &address]);
    let reason = join_failure(&node);
    assert!(reason.contains("does not hold the key"), "{reason}");
    assert_ne!(node.status()["join"]["state"], "joined");
    let ping = node.run(&["--json", "ping", &address]);
    assert_eq!(ping.code, 6, "{}{}", ping.stdout, ping.stderr);
    assert!((ping.stdout + &ping.stderr).contains("wrong_peer"));
    let call = node.run(&["--json", "call", &format!("{address}/echo"), "--json", "{}"]);
    assert_eq!((call.code, call.error_code().as_str()), (6, "wrong_peer"), "{}", call.stderr);
}

#[test]
fn one_home_takes_one_node() {
    let world = World::new();
    let node = world.node("a", &[]);
    let (exit, code, _) = error_of(&up(&node.home, &[]));
    assert_eq!((exit, code.as_str()), (9, "home_in_use"));
    // Also when the socket is gone and only the lock tells.
    std::fs::remove_file(node.home.join("api.sock")).unwrap();
    let (exit, code, message) = error_of(&up(&node.home, &[]));
    assert_eq!((exit, code.as_str()), (9, "home_in_use"), "{message}");
    assert!(message.contains(&node.pid().to_string()), "{message}");
}

#[test]
fn a_socket_left_behind_is_no_obstacle_and_no_node() {
    let world = World::new();
    let mut node = world.node("a", &[]);
    node.kill();
    let socket = node.home.join("api.sock");
    assert!(socket.exists(), "a killed node leaves its socket");
    let status = node.run(&["--json", "status"]);
    assert_eq!((status.code, status.error_code().as_str()), (3, "not_running"));
    let mut node = Node::start(&node.home, &[]);
    node.down();
    std::fs::write(&socket, "mine").unwrap();
    let (exit, code, message) = error_of(&up(&node.home, &[]));
    assert_eq!((exit, code.as_str()), (9, "storage"), "{message}");
    assert!(message.contains("no socket"), "{message}");
    assert_eq!(std::fs::read_to_string(&socket).unwrap(), "mine", "it is not taken away");
}

#[test]
fn a_damaged_database_is_named_and_moving_it_away_helps() {
    let world = World::new();
    let mut node = world.node("a", &[]);
    let agent = node.agent();
    node.ok(&serve_echo("echo", "--private"));
    node.down();
    let database = node.home.join("node.redb");
    let whole = std::fs::read(&database).unwrap();
    let mut garbled = whole.clone();
    garbled[..4096].fill(0x55);
    for (what, bytes) in [("garbled", garbled), ("cut", whole[..whole.len() / 3].to_vec())] {
        std::fs::write(&database, &bytes).unwrap();
        let run = up(&node.home, &[]);
        let (exit, code, message) = error_of(&run);
        assert_eq!((exit, code.as_str()), (9, "storage"), "{what}: {}", run.stderr);
        assert!(
            message.contains("node.redb") && message.contains("move it away"),
            "{what}: {message}"
        );
        assert_eq!(
            std::fs::read(&database).unwrap().len(),
            bytes.len(),
            "{what}: it is left alone"
        );
    }
    std::fs::rename(&database, node.home.join("damaged.redb")).unwrap();
    let mut fresh = Node::start(&node.home, &[]);
    assert_eq!((fresh.agent(), fresh.serves()), (agent, Vec::new()));
    fresh.down();
    std::fs::write(&database, &whole).unwrap();
    let restored = Node::start(&node.home, &[]);
    wait("the backup serves", || (restored.serves() == ["echo"]).then_some(()));
}

#[test]
fn a_clock_that_is_wrong_is_named_and_harms_nobody_else() {
    let world = World::new();
    let a = world.node("a", &[]);
    let b = world.joined("b", &a);
    let ahead = world.node("ahead", &["--join", &a.ticket(), "--clock-offset-secs=600"]);
    ahead.wait_joined();
    b.ok(&serve_echo("good", "--public"));
    let served = ahead.ok(&[&serve_echo("skewed", "--public")[..], &["--json"]].concat()).json();
    let findings = served["findings"].as_array().unwrap();
    let said = findings.iter().find(|finding| finding["field"] == "published");
    let said = said.unwrap_or_else(|| panic!("nothing is said about the clock: {served:#}"));
    assert!(said["message"].as_str().unwrap().contains("clock"), "{said}");
    assert_eq!(served["published"]["custodians"], 0);
    assert!(ahead.log().contains("dated in the future"), "{}", ahead.log());
    let (_, found) = a.post("/v1/find", &json!({"query": "named skewed"}));
    assert_eq!(found["matches"], json!([]));
    let good = format!("{}/good", b.address());
    for node in [&a, &ahead] {
        assert_eq!(node.finds("named good"), [good.as_str()]);
    }
    assert_eq!(a.ok(&["call", &good, "--json", "{\"n\": 1}"]).json(), json!({"n": 1}));
    // The record of the one with the wrong clock is refused by name.
    let shown = a.run(&["--json", "show", &ahead.agent()]);
    assert_eq!((shown.code, shown.error_code().as_str()), (8, "not_verified"));
    assert!(shown.stderr.contains("clock"), "{}", shown.stderr);
}

/// What holds whatever way the disk is full: the large thing is refused by name, and everything else goes on.
fn refuses_by_name_and_goes_on(world: &World, node: &mut Node, peer: &Node, home: &Path) {
    let rows: String = (0..150_000).map(|n| format!("{n},row number {n} of the table\n")).collect();
    let big = world.file("big.csv", &format!("id,text\n{rows}"));
    let line = ["--json", "serve", "--table", &big, "--name", "big", "--public", "--yes"];
    let refused = comity(home, &line);
    assert_ne!(refused.code, 0, "the table does not fit: {}", refused.stdout);
    let (exit, code, message) = error_of(&refused);
    assert_eq!((exit, code.as_str()), (9, "storage"), "{message}");
    assert!(message.contains("disk") && message.contains("tables"), "{message}");
    assert!(node.runs());
    let (_, served) = api(home, "GET", "/v1/capabilities", None).unwrap();
    assert_eq!(served["capabilities"].as_array().unwrap().len(), 1, "what was served before is");
    let (_, status) = api(home, "GET", "/v1/status", None).unwrap();
    let target = format!("{}/echo", status["agent"]["address"].as_str().unwrap());
    assert_eq!(peer.ok(&["call", &target, "--json", "{\"n\": 1}"]).json(), json!({"n": 1}));
}

#[test]
fn a_limit_on_file_sizes_is_named_and_the_node_goes_on() {
    let world = World::new();
    let peer = world.node("peer", &[]);
    let home = world.home("a");
    new_identity(&home);
    // 1024 blocks of 512 bytes; the signal that would kill is ignored, so that writes fail instead, as on a full disk.
    let script = "trap '' XFSZ; ulimit -f 1024; exec \"$@\"";
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script, "sh", env!("CARGO_BIN_EXE_comity"), "--home"]).arg(&home);
    command.arg("up").args(TEST_NETWORK).args([
        "--listen",
        "127.0.0.1:0",
        "--join",
        &peer.ticket(),
    ]);
    let mut node = Node::spawn_command(&home, command);
    wait("the limited node answers", || {
        assert!(node.runs(), "{}", node.log());
        api(&home, "GET", "/v1/status", None).ok()
    });
    node.wait_joined();
    node.ok(&serve_echo("echo", "--public"));
    refuses_by_name_and_goes_on(&world, &mut node, &peer, &home);
}

#[test]
fn a_full_disk_is_named_and_the_node_goes_on() {
    // A mount of its own, in a mount namespace of its own, gone with the process. Takes root.
    let able =
        Command::new("unshare").args(["-m", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]).output();
    if !able.is_ok_and(|output| output.status.success()) {
        println!("skipped: this system does not let the test mount a small disk");
        return;
    }
    let world = World::new();
    let peer = world.node("peer", &[]);
    let outside = world.home("a");
    new_identity(&outside);
    let script = "mount -t tmpfs -o size=2500k tmpfs /mnt && cp -p \"$1\"/*.key /mnt/ && chmod 700 /mnt && shift && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["-m", "/bin/sh", "-c", script, "sh"]).arg(&outside);
    command.args([env!("CARGO_BIN_EXE_comity"), "--home", "/mnt", "up"]).args(TEST_NETWORK);
    command.args(["--listen", "127.0.0.1:0", "--join", &peer.ticket()]);
    let mut node = Node::spawn_command(&outside, command);
    // The way into the other namespace (proc(5), /proc/PID/root).
    let home = std::path::PathBuf::from(format!("/proc/{}/root/mnt", node.pid()));
    wait("the node on the small disk answers", || {
        assert!(node.runs(), "{}", node.log());
        api(&home, "GET", "/v1/status", None).ok()
    });
    wait("it joins", || {
        let (_, status) = api(&home, "GET", "/v1/status", None).unwrap();
        (status["join"]["state"] == "joined").then_some(())
    });
    let served = comity(&home, &serve_echo("echo", "--public"));
    assert_eq!(served.code, 0, "{}", served.stderr);
    refuses_by_name_and_goes_on(&world, &mut node, &peer, &home);
    // Not one byte is left: what has to be stored is refused by name, what needs no disk goes on.
    let filler = home.join("filler");
    let mut file = std::fs::File::create(&filler).unwrap();
    let filled = std::io::copy(&mut std::io::repeat(7), &mut file);
    assert!(filled.is_err(), "the disk is full");
    let refused = (0..200).map(|n| {
        comity(&home, &[&["--json"][..], &serve_echo(&format!("echo-{n}"), "--public")].concat())
    });
    let refused = refused
        .into_iter()
        .find(|run| run.code != 0)
        .expect("the database grows until there is no room");
    let (exit, code, message) = error_of(&refused);
    assert_eq!((exit, code.as_str()), (9, "storage"), "{message}");
    assert!(message.contains("full"), "{message}");
    let (_, status) = api(&home, "GET", "/v1/status", None).unwrap();
    let target = format!("{}/echo", status["agent"]["address"].as_str().unwrap());
    assert_eq!(peer.ok(&["call", &target, "--json", "{\"n\": 2}"]).json(), json!({"n": 2}));
    // Room again: it stores again, without a restart.
    drop(file);
    std::fs::remove_file(&filler).unwrap();
    let served = comity(&home, &serve_echo("again", "--public"));
    assert_eq!(served.code, 0, "{}", served.stderr);
}

#[test]
fn what_cannot_be_published_is_not_served_after_a_restart_either() {
    let world = World::new();
    let mut node = world.node("a", &[]);
    let long = "a very long description that takes its room in the record ".repeat(30);
    let serve = |name: &str| {
        let text = format!("{name}: {long}");
        let line =
            ["--json", "serve", "--exec", "/bin/cat", "--name", name, "--description", &text];
        node.run(&[&line[..], &["--public", "--yes"]].concat())
    };
    let mut served = Vec::new();
    let refused = (0..32).map(|n| format!("wordy-{n:02}")).find_map(|name| {
        let run = serve(&name);
        if run.code == 0 {
            served.push(name);
            return None;
        }
        Some(run)
    });
    let (exit, code, message) = error_of(&refused.expect("a record holds 8 KiB"));
    assert_eq!((exit, code.as_str()), (5, "bad_manifest"), "{message}");
    assert_eq!(node.serves(), served);
    node.down();
    let node = Node::start(&node.home, &[]);
    wait("what was accepted is served again", || {
        assert!(node.serves().len() <= served.len(), "what was refused came back");
        (node.serves() == served).then_some(())
    });
}
