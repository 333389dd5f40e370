//! Making and showing identities.

use std::os::unix::fs::PermissionsExt;

use crate::support::comity;

#[test]
fn an_identity_is_made_once_and_shown_in_all_forms() {
    let home = tempfile::tempdir().unwrap();
    let made = comity(home.path(), &["id", "new", "--mint-bits", "2", "--json"]);
    assert_eq!(made.code, 0, "{}", made.stderr);
    let made = made.json();
    assert!(made["mint_bits"].as_u64().unwrap() >= 2);
    let agent: comity_core::AgentId = made["hex"].as_str().unwrap().parse().unwrap();
    assert_eq!(made["agent"], agent.to_string());

    let shown = comity(home.path(), &["id", "show", "--json"]).json();
    assert_eq!(shown, made);
    let text = comity(home.path(), &["id", "show"]).stdout;
    for form in ["agent", "address", "handle", "hex", "did_key", "peer_id", "peer_id_cid", "onion"]
    {
        let value = made[form].as_str().unwrap();
        assert!(text.contains(value), "{form} {value} is missing from:\n{text}");
    }

    for file in ["identity.key", "successor.key"] {
        let mode = std::fs::metadata(home.path().join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    let again = comity(home.path(), &["--json", "id", "new", "--mint-bits", "0"]);
    assert_eq!((again.code, again.error_code().as_str()), (9, "key_file"));
    assert_eq!(
        comity(home.path(), &["id", "show", "--json"]).json(),
        made,
        "the first identity is untouched"
    );
}

#[test]
fn a_key_that_others_can_read_is_refused() {
    let home = tempfile::tempdir().unwrap();
    assert_eq!(comity(home.path(), &["id", "new", "--mint-bits", "0"]).code, 0);
    let key = home.path().join("identity.key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o640)).unwrap();
    for args in [
        &["id", "show"][..],
        &["up", "--network", "test"],
        &["up", "--network", "test", "--detach"],
    ] {
        let run = comity(home.path(), args);
        assert_eq!(run.code, 9, "{args:?}: {}", run.stderr);
        assert!(run.stderr.contains("chmod 600"), "{args:?}: {}", run.stderr);
    }
}

#[test]
fn a_missing_or_damaged_key_says_what_to_do() {
    let home = tempfile::tempdir().unwrap();
    let run = comity(home.path(), &["id", "show"]);
    assert!(run.code == 9 && run.stderr.contains("comity id new"), "{}", run.stderr);
    let key = home.path().join("identity.key");
    std::fs::write(&key, "something else").unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    let run = comity(home.path(), &["up", "--network", "test"]);
    assert!(run.code == 9 && run.stderr.contains("not a comity key file"), "{}", run.stderr);
}
