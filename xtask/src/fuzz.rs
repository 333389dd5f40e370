//! Fuzzes every target of `fuzz/`, one after the other, for a number of minutes each.

use std::{
    path::PathBuf,
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result, bail, ensure};

/// Minutes for each target when none are given.
const MINUTES_DEFAULT: u64 = 10;
/// Longest that one input may take, in seconds.
const INPUT_SECONDS_MAX: u64 = 10;
/// Most memory that one input may take, in MiB.
const MEMORY_MIB_MAX: u64 = 2048;

/// `[--minutes N] [TARGET...]`: 0 minutes replay the corpus and stop. What was found is in `fuzz/artifacts`.
pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    let (minutes, mut targets) = parse(arguments)?;
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fuzz").canonicalize()?;
    if targets.is_empty() {
        let listed = Command::new(env!("CARGO"))
            .args(["fuzz", "list"])
            .current_dir(&folder)
            .output()
            .context("cargo fuzz")?;
        ensure!(
            listed.status.success(),
            "cargo fuzz does not run: `cargo install cargo-fuzz --locked`\n{}",
            String::from_utf8_lossy(&listed.stderr)
        );
        targets = String::from_utf8_lossy(&listed.stdout).lines().map(str::to_owned).collect();
    }
    let mut failed = Vec::new();
    for target in targets {
        let status = Command::new(env!("CARGO"))
            .args(["fuzz", "run", "-s", "none", &target, "--"])
            .args(limits(minutes))
            .current_dir(&folder)
            .status()
            .context("cargo fuzz")?;
        if !status.success() {
            failed.push(target);
        }
    }
    ensure!(failed.is_empty(), "{} failed: see fuzz/artifacts, fuzz/README.md", failed.join(", "));
    Ok(ExitCode::SUCCESS)
}

fn parse(arguments: &[String]) -> Result<(u64, Vec<String>)> {
    let mut minutes = MINUTES_DEFAULT;
    let mut targets = Vec::new();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "--minutes" => {
                let given = rest.next().and_then(|given| given.parse().ok());
                minutes = given.context("--minutes takes a whole number")?;
            }
            option if option.starts_with('-') => bail!("unknown option {option}"),
            target => targets.push(target.to_owned()),
        }
    }
    Ok((minutes, targets))
}

/// libFuzzer's options; a run of no seconds would be one without end.
fn limits(minutes: u64) -> Vec<String> {
    let length = if minutes == 0 {
        "-runs=0".to_owned()
    } else {
        format!("-max_total_time={}", minutes.saturating_mul(60))
    };
    let input = format!("-timeout={INPUT_SECONDS_MAX}");
    vec![length, input, format!("-rss_limit_mb={MEMORY_MIB_MAX}")]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minutes_and_targets_are_read() {
        let parse =
            |line: &str| parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(parse("").expect("nothing"), (10, Vec::new()));
        let (minutes, targets) = parse("--minutes 0 core_json api_sse").expect("both");
        assert_eq!((minutes, targets.len()), (0, 2));
        for wrong in ["--minutes", "--minutes x", "--minute 3"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!(limits(0)[0], "-runs=0");
        assert_eq!(limits(10)[0], "-max_total_time=600");
    }
}
