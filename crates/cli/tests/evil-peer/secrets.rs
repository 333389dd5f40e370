//! What must not be found in what a node writes.

use std::path::{Path, PathBuf};

use crate::e2e_support::{Node, api, wait};
use crate::peer::{Evil, RPC, Request, Said, Victim, ask, hello};

/// In requests, answers, errors.
const PLANTED: &str = "xyzzy-what-the-caller-said";

/// Everything below a home but where secrets are kept on purpose, and what the node logged.
fn written(node: &Node) -> Vec<PathBuf> {
    let kept = ["identity.key", "successor.key", "groups", "api.sock"];
    let mut folders = vec![node.home.clone()];
    let mut files = vec![node.home.with_extension("log")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if kept.iter().any(|name| path.file_name() == Some(name.as_ref())) {
                continue;
            }
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    files
}

fn holds(path: &Path, needle: &[u8]) -> bool {
    let bytes = std::fs::read(path).unwrap_or_default();
    bytes.windows(needle.len()).any(|window| window == needle)
}

/// A secret in the forms in which it could slip out.
fn forms(secret: &[u8]) -> Vec<Vec<u8>> {
    use data_encoding::{BASE32_NOPAD, BASE64_NOPAD, HEXLOWER};
    let base32 = BASE32_NOPAD.encode(secret);
    let debug = format!("{secret:?}");
    // The ends may depend on what stands beside them.
    let whole = |text: &str| text.as_bytes()[..text.len() - 2].to_vec();
    vec![
        secret.to_vec(),
        whole(&HEXLOWER.encode(secret)),
        whole(&BASE64_NOPAD.encode(secret)),
        whole(&base32),
        whole(&base32.to_lowercase()),
        whole(&debug[1..debug.len() - 1]),
    ]
}

/// T34: keys, secrets of groups and what callers say, in logs at their most talkative, the audit log, the database.
#[tokio::test]
async fn t34_nothing_that_a_node_writes_has_a_secret_in_it() {
    let mut victim = Victim::start();
    victim.node.down();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_comity"));
    command.arg("--home").arg(&victim.node.home).args(["-vv", "up", "--listen", "127.0.0.1:0"]);
    command.args(crate::e2e_support::TEST_NETWORK);
    victim.node = Node::spawn_command(&victim.node.home.clone(), command);
    wait("it answers again", || api(&victim.node.home, "GET", "/v1/status", None).ok());
    victim.addr = victim.node.socket_address().parse().unwrap();

    let invitation = victim.node.ok(&["group", "create", "deal-room"]).stdout;
    let peer = Evil::new().await;
    let link = peer.dial(victim.id, victim.addr, RPC).await;
    hello(&link).await;
    let json = format!("{{\"said\": \"{PLANTED}\"}}");
    assert!(matches!(ask(&link, &Request::call("echo", &json)).await, Said::Whole { .. }));
    for capability in ["diary", "nothing"] {
        let refused = ask(&link, &Request::call(capability, &json)).await;
        assert!(!matches!(refused, Said::Whole { .. }), "{capability}");
    }
    // As a grant, a membership, a frame: what is shown wrongly is not repeated either.
    let lie = Request { grants: Some(json.clone().into_bytes()), ..Request::call("diary", "{}") };
    assert!(!matches!(ask(&link, &lie).await, Said::Whole { .. }));
    let own = victim.node.run(&["--json", "call", "diary", "--json", &json]);
    assert_eq!(own.code, 0, "what it serves itself it may call: {}", own.stderr);

    let secret = |name: &str| {
        comity::key_file::load(&victim.node.home.join(name)).unwrap().identity.secret_bytes()
    };
    let mut needles = vec![PLANTED.as_bytes().to_vec(), invitation.trim().as_bytes().to_vec()];
    needles.extend(forms(&*secret("identity.key")));
    needles.extend(forms(&*secret("successor.key")));
    // The control: the searching finds what is there.
    let key = victim.node.home.join("identity.key");
    assert!(needles.iter().any(|needle| holds(&key, needle)), "a key file holds its key");
    victim.node.down();
    let files = written(&victim.node);
    assert!(holds(&files[0], b"diary") || files.len() > 4, "{files:?}");
    for file in files {
        for (n, needle) in needles.iter().enumerate() {
            assert!(!holds(&file, needle), "{} has secret {n}", file.display());
        }
    }
}
