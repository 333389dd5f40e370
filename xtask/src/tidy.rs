//! Rules of the workspace: which crate may use which, that every member inherits the lints, that pure crates stay pure,
//! that nothing private to one machine is committed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context, Result};

/// Who may depend on whom inside the workspace (normal dependencies): the arrows of ARCHITECTURE.md.
const ARROWS: &[(&str, &[&str])] = &[
    ("core", &[]),
    ("capability", &["core"]),
    ("trust", &["core", "capability"]),
    ("attest", &["core", "trust"]),
    ("overlay", &["core", "capability"]),
    ("pilot", &["core"]),
    ("results", &["core", "capability"]),
    ("pilot-net", &["core", "pilot"]),
    ("sim", &["core", "capability", "overlay"]),
    ("specialist", &["core", "capability"]),
    ("api", &["core", "capability"]),
    ("node", &["core", "capability", "trust", "attest", "overlay", "results", "specialist", "api"]),
    ("lab", &["sim"]),
    ("mcp", &["core", "specialist", "api"]),
    (
        "cli",
        &[
            "core",
            "capability",
            "trust",
            "attest",
            "results",
            "specialist",
            "sim",
            "lab",
            "api",
            "mcp",
            "node",
            "pilot-net",
        ],
    ),
];

/// Crates that take time, randomness and the world as arguments, and what must therefore never be below them.
const PURE: &[&str] = &["core", "capability", "trust", "overlay", "pilot", "results", "sim"];
const IMPURE_DEPENDENCIES: &[&str] =
    &["tokio", "iroh", "redb", "rusqlite", "hyper", "getrandom", "socket2"];

/// Only these may name the network stack, so that it can be replaced in one place.
const IROH_USERS: &[&str] = &["node"];

/// A file past this many lines hides a second concept.
const FILE_LINES_MAX: usize = 900;

/// Where the tests that perform attacks are named, and under which heading the naming begins.
const ATTACKS: (&str, &str) = ("docs/SECURITY.md", "## Attacks that are tests");

/// Runs every rule and prints what breaks it.
pub(crate) fn run() -> Result<ExitCode> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize()?;
    let mut findings = Vec::new();
    for (name, allowed) in ARROWS {
        check_manifest(&root, name, allowed, &mut findings)?;
    }
    check_members(&root, &mut findings)?;
    check_files(&root, &mut findings)?;
    for finding in &findings {
        report(finding);
    }
    report(&format!("tidy: {} finding(s)", findings.len()));
    Ok(if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[expect(clippy::print_stdout, reason = "a command-line tool reports on standard output")]
fn report(line: &str) {
    println!("{line}");
}

/// The names under a manifest's `[dependencies]`.
fn dependencies(manifest: &str) -> BTreeSet<String> {
    let mut inside = false;
    let mut names = BTreeSet::new();
    for line in manifest.lines().map(str::trim) {
        if line.starts_with('[') {
            inside = line == "[dependencies]";
        } else if inside && !line.is_empty() && !line.starts_with('#') {
            let end = line.find(['.', ' ', '=']).unwrap_or(line.len());
            names.insert(line[..end].to_owned());
        }
    }
    names
}

fn check_manifest(
    root: &Path,
    name: &str,
    allowed: &[&str],
    findings: &mut Vec<String>,
) -> Result<()> {
    let path = root.join("crates").join(name).join("Cargo.toml");
    let manifest = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    if !manifest.contains("[lints]\nworkspace = true") {
        findings.push(format!("crates/{name} does not inherit the workspace's lints"));
    }
    let packages: BTreeMap<String, &str> =
        ARROWS.iter().map(|(name, _)| (package_name(name), *name)).collect();
    for dependency in dependencies(&manifest) {
        if let Some(target) = packages.get(&dependency)
            && !allowed.contains(target)
        {
            findings.push(format!("crates/{name} must not depend on crates/{target}"));
        }
        if dependency == "iroh" && !IROH_USERS.contains(&name) {
            findings.push(format!("crates/{name} names iroh; only {IROH_USERS:?} may"));
        }
    }
    if PURE.contains(&name) {
        check_purity(root, name, findings)?;
    }
    Ok(())
}

fn package_name(name: &str) -> String {
    if name == "node" { "comity".to_owned() } else { format!("comity-{name}") }
}

fn check_purity(root: &Path, name: &str, findings: &mut Vec<String>) -> Result<()> {
    if !root.join("crates").join(name).join("clippy.toml").exists() {
        findings.push(format!("crates/{name} is pure and has no clippy.toml that says so"));
    }
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--offline",
            "--prefix",
            "none",
            "--edges",
            "normal",
            "-p",
            &package_name(name),
        ])
        .current_dir(root)
        .output()
        .context("cargo tree")?;
    anyhow::ensure!(
        output.status.success(),
        "cargo tree: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let tree = String::from_utf8_lossy(&output.stdout);
    let below: BTreeSet<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    for dependency in IMPURE_DEPENDENCIES.iter().filter(|name| below.contains(**name)) {
        findings.push(format!("crates/{name} is pure and has {dependency} below it"));
    }
    Ok(())
}

fn check_members(root: &Path, findings: &mut Vec<String>) -> Result<()> {
    for entry in fs::read_dir(root.join("crates"))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if !ARROWS.iter().any(|(known, _)| *known == name) {
            findings.push(format!("crates/{name} has no arrows in xtask/src/tidy.rs"));
        }
    }
    Ok(())
}

fn check_files(root: &Path, findings: &mut Vec<String>) -> Result<()> {
    let output = Command::new("git")
        .args(["ls-files", "-z"])
        .current_dir(root)
        .output()
        .context("git ls-files")?;
    if !output.status.success() {
        report("tidy: not a git checkout, tracked files are not checked");
        return Ok(());
    }
    let listing = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut sources = String::new();
    for name in listing.split('\0').filter(|name| !name.is_empty()) {
        let Ok(content) = fs::read_to_string(root.join(name)) else { continue };
        if name.ends_with(".rs") {
            check_source(name, &content, findings);
            sources.push_str(&content);
        }
    }
    let (page, heading) = ATTACKS;
    let page_text = fs::read_to_string(root.join(page)).with_context(|| page.to_owned())?;
    let (_, attacks) =
        page_text.split_once(heading).with_context(|| format!("{page}: {heading}"))?;
    for name in named_tests(attacks).filter(|name| !sources.contains(&format!("fn {name}("))) {
        findings.push(format!("{page} names {name}, which is no test"));
    }
    Ok(())
}

/// What stands between backticks and has the form of a test's name: three words at least.
fn named_tests(text: &str) -> impl Iterator<Item = &str> {
    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let quoted = text.split('`').skip(1).step_by(2);
    quoted.filter(move |name| name.matches('_').count() >= 2 && name.chars().all(word))
}

fn check_source(name: &str, content: &str, findings: &mut Vec<String>) {
    let lines = content.lines().count();
    if lines > FILE_LINES_MAX {
        findings.push(format!(
            "{name} has {lines} lines, over {FILE_LINES_MAX}: which concept wants out?"
        ));
    }
    for (number, line) in content.lines().enumerate() {
        if line.trim_start().starts_with("#[ignore") {
            findings
                .push(format!("{name}:{}: a test that does not run proves nothing", number + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_tests_are_told_from_other_words() {
        let text = "| `cli` e2e_access: `a_grant_is_shown`, `formal/a_b_c`, `t23_…` | `t4_another_key` | `two_words` |";
        assert_eq!(named_tests(text).collect::<Vec<_>>(), ["a_grant_is_shown", "t4_another_key"]);
    }
}
