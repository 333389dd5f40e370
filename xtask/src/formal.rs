//! Runs the protocol models of `formal/` and compares what Verifpal finds with what each of them says behind its queries.
//!
//! Verifpal is a program under the GPL: it is installed by cargo into the target directory, never linked and never part of the product.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

/// The version whose verdicts are committed: another may search further or not as far.
const VERIFPAL: &str = "1.6.7";

/// What a model says about one of its queries.
#[derive(Debug, PartialEq, Eq)]
struct Query {
    /// As Verifpal prints it: `confidentiality? req`.
    text: String,
    /// Whether no attack is to be found.
    holds: bool,
}

/// Runs the models named, or all, and says where a verdict differs.
pub(crate) fn run(named: &[String]) -> Result<ExitCode> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize()?;
    let models = models(&root.join("formal"), named)?;
    let verifpal = installed(&target(&root))?;
    let mut findings = 0;
    for model in &models {
        let name = model.file_name().unwrap_or_default().to_string_lossy();
        let text = fs::read_to_string(model).with_context(|| model.display().to_string())?;
        let expected = expected(&text).with_context(|| name.to_string())?;
        let (found, took) = verdicts(&verifpal, model)?;
        let differences = compare(&expected, &found);
        report(&format!("{name:<28} {:>6.1} s  {}", took.as_secs_f64(), summary(&expected)));
        for difference in &differences {
            report(&format!("    {difference}"));
        }
        findings += differences.len();
    }
    report(&format!("formal: {} model(s), {findings} finding(s)", models.len()));
    Ok(if findings == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[expect(clippy::print_stdout, reason = "a command-line tool reports on standard output")]
fn report(line: &str) {
    println!("{line}");
}

/// The files to check, in order.
fn models(folder: &Path, named: &[String]) -> Result<Vec<PathBuf>> {
    if !named.is_empty() {
        return Ok(named
            .iter()
            .map(|name| folder.join(format!("{}.vp", name.trim_end_matches(".vp"))))
            .collect());
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "vp") {
            found.push(path);
        }
    }
    found.sort();
    ensure!(!found.is_empty(), "{} holds no models", folder.display());
    Ok(found)
}

fn target(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from)
}

/// The program, installed below the target directory if it is not there yet.
fn installed(target: &Path) -> Result<PathBuf> {
    let folder = target.join(format!("verifpal-{VERIFPAL}"));
    let program = folder.join("bin/verifpal");
    if program.exists() {
        return Ok(program);
    }
    report(&format!("formal: installing verifpal {VERIFPAL} into {}", folder.display()));
    // The version's manifest asks for a newer compiler than its code needs.
    let status = Command::new(env!("CARGO"))
        .args(["install", "verifpal", "--version", &format!("={VERIFPAL}")])
        .args(["--locked", "--ignore-rust-version", "--root"])
        .arg(&folder)
        .env("CARGO_TARGET_DIR", folder.join("build"))
        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "2")
        .status()
        .context("cargo install")?;
    ensure!(
        status.success(),
        "verifpal {VERIFPAL} could not be installed: does cargo reach its package registry?"
    );
    let _ = fs::remove_dir_all(folder.join("build"));
    Ok(program)
}

/// The queries of a model, with what stands behind each of them: `// holds` or `// attack: why`.
fn expected(model: &str) -> Result<Vec<Query>> {
    let (_, block) = model.split_once("queries[").context("it asks nothing")?;
    let mut queries = Vec::new();
    for line in block.lines().map(str::trim).filter(|line| line.contains('?')) {
        let (text, said) = line.split_once("//").with_context(|| {
            format!("`{line}`: say `// holds`, or `// attack: ` and what it rests on")
        })?;
        let said = said.trim();
        let holds = said == "holds";
        ensure!(holds || said.starts_with("attack: "), "`{line}`: neither `holds` nor `attack: `");
        queries.push(Query { text: text.trim().to_owned(), holds });
    }
    ensure!(!queries.is_empty(), "it asks nothing");
    Ok(queries)
}

/// What Verifpal says about a model: a query that passes counts only if the search came to its end.
fn verdicts(verifpal: &Path, model: &Path) -> Result<(Vec<Query>, Duration)> {
    let started = Instant::now();
    let output = Command::new(verifpal)
        .args(["verify", "--quiet", "--color", "never"])
        .arg(model)
        .output()
        .with_context(|| verifpal.display().to_string())?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success(),
        "{}: {said}{}",
        model.display(),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok((read(&said), started.elapsed()))
}

/// The verdicts in Verifpal's report.
fn read(report: &str) -> Vec<Query> {
    let mut found = Vec::new();
    for line in report.lines().map(str::trim).filter(|line| line.contains("? ")) {
        if let Some(rest) = line.strip_prefix("PASS +") {
            let (text, search) = rest.split_once('[').unwrap_or((rest, ""));
            let holds = search.starts_with("search exhausted");
            found.push(Query { text: text.trim().to_owned(), holds });
        } else if let Some(rest) = line.strip_prefix("FAIL x") {
            // What follows in brackets says what kind of attack it is.
            let text = rest.split_once('[').map_or(rest, |(text, _)| text);
            found.push(Query { text: text.trim().to_owned(), holds: false });
        }
    }
    found
}

fn compare(expected: &[Query], found: &[Query]) -> Vec<String> {
    let mut differences = Vec::new();
    for query in expected {
        match found.iter().find(|candidate| candidate.text == query.text) {
            Some(verdict) if verdict.holds == query.holds => {}
            Some(_) if query.holds => {
                differences.push(format!("`{}` does not hold any more", query.text));
            }
            Some(_) => differences.push(format!("`{}`: the attack is not found", query.text)),
            None => differences.push(format!("`{}` has no verdict", query.text)),
        }
    }
    if found.len() != expected.len() {
        differences.push(format!("{} verdicts for {} queries", found.len(), expected.len()));
    }
    differences
}

fn summary(queries: &[Query]) -> String {
    let holds = queries.iter().filter(|query| query.holds).count();
    match (holds, queries.len() - holds) {
        (holds, 0) => format!("{holds} hold"),
        (0, attacks) => format!("{attacks} broken, as it should be"),
        (holds, attacks) => format!("{holds} hold, {attacks} broken, as it should be"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODEL: &str = "attacker[active]\nqueries[\n\tconfidentiality? a // holds\n\tfreshness? b // attack: replayed\n]\n";

    fn query(text: &str, holds: bool) -> Query {
        Query { text: text.to_owned(), holds }
    }

    #[test]
    fn a_model_says_what_it_expects() {
        let queries = expected(MODEL).expect("well-formed");
        assert_eq!(queries, [query("confidentiality? a", true), query("freshness? b", false)]);
        for wrong in ["// holds not", "", "// attack"] {
            assert!(expected(&format!("queries[\n\tfreshness? b {wrong}\n]")).is_err(), "{wrong}");
        }
        assert!(expected("queries[\n]").is_err());
    }

    #[test]
    fn every_difference_is_a_finding() {
        let expected = expected(MODEL).expect("well-formed");
        let agreed = "  PASS + confidentiality? a  [search exhausted at 2 sessions]\n  FAIL x freshness? b  [duplicate acceptance]\n  FAIL x 1 of 2 queries failed.";
        assert_eq!(compare(&expected, &read(agreed)), Vec::<String>::new());
        for differing in [
            "FAIL x confidentiality? a\nFAIL x freshness? b",
            "PASS + confidentiality? a  [search exhausted]\nPASS + freshness? b  [search exhausted]",
            // The search was cut short: that is not `holds`.
            "PASS + confidentiality? a\nFAIL x freshness? b",
            "PASS + confidentiality? a  [search exhausted]",
        ] {
            assert!(!compare(&expected, &read(differing)).is_empty(), "{differing}");
        }
    }
}
