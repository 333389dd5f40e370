//! Fuzzes every target of `fuzz/`, one after the other, for a number of minutes each.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result, bail, ensure};

/// Minutes for each target when none are given.
const MINUTES_DEFAULT: u64 = 10;
/// Longest that one input may take, in seconds.
const INPUT_SECONDS_MAX: u64 = 10;
/// Most memory that one input may take, in MiB.
const MEMORY_MIB_MAX: u64 = 2048;
/// Most bytes of what a target found that are kept in the repository.
const FOUND_BYTES_MAX: u64 = 300_000;

#[derive(Debug, PartialEq, Eq)]
struct Options {
    /// 0: replay and stop.
    minutes: u64,
    /// Keep what was found.
    keep: bool,
    targets: Vec<String>,
}

/// `[--minutes N] [--keep] [TARGET...]`: 0 minutes replay the corpus and what earlier runs found, and stop. Inputs that break something are in
/// `fuzz/artifacts`. `--keep` makes what was found small, and packs it into `fuzz/found`, from where the next run takes it.
pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    let Options { minutes, keep, mut targets } = parse(arguments)?;
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
        unpack(&folder, &target)?;
        if !fuzz(&folder, &[&target], &limits(minutes))? {
            failed.push(target);
        } else if keep {
            pack(&folder, &target)?;
        }
    }
    ensure!(failed.is_empty(), "{} failed: see fuzz/artifacts, fuzz/README.md", failed.join(", "));
    Ok(ExitCode::SUCCESS)
}

/// Whether `cargo fuzz run` ended well.
fn fuzz(folder: &Path, what: &[&str], options: &[String]) -> Result<bool> {
    let mut command = Command::new(env!("CARGO"));
    command.args(["fuzz", "run", "-s", "none"]).args(what).arg("--").args(options);
    Ok(command.current_dir(folder).status().context("cargo fuzz")?.success())
}

/// Where what a target found is kept.
fn found(folder: &Path, target: &str) -> PathBuf {
    folder.join("found").join(format!("{target}.tgz"))
}

/// Puts what earlier runs found beside the seeds, where git ignores it.
fn unpack(folder: &Path, target: &str) -> Result<()> {
    let (archive, corpus) = (found(folder, target), folder.join("corpus").join(target));
    if !archive.exists() {
        return Ok(());
    }
    fs::create_dir_all(&corpus)?;
    let mut tar = Command::new("tar");
    let status = tar.arg("-xzf").arg(&archive).arg("-C").arg(&corpus).status().context("tar")?;
    ensure!(status.success(), "{} could not be unpacked", archive.display());
    Ok(())
}

/// Keeps the fewest inputs that reach everything that the whole corpus reaches.
fn pack(folder: &Path, target: &str) -> Result<()> {
    let least = folder.join("target/least").join(target);
    let _ = fs::remove_dir_all(&least);
    fs::create_dir_all(&least)?;
    let corpus = format!("corpus/{target}");
    let into = least.to_string_lossy().into_owned();
    let merge = ["-merge=1".to_owned(), "-max_len=4096".to_owned()];
    ensure!(
        fuzz(folder, &[target, &into, &corpus], &merge)?,
        "{target}: the corpus was not merged"
    );
    let archive = found(folder, target);
    fs::create_dir_all(folder.join("found"))?;
    let mut tar = Command::new("tar");
    let status = tar.arg("-czf").arg(&archive).arg("-C").arg(&least).arg(".").status();
    ensure!(status.context("tar")?.success(), "{} could not be packed", archive.display());
    let bytes = fs::metadata(&archive)?.len();
    ensure!(
        bytes <= FOUND_BYTES_MAX,
        "{} has {bytes} bytes, over {FOUND_BYTES_MAX}: leave it out of the commit",
        archive.display()
    );
    Ok(())
}

fn parse(arguments: &[String]) -> Result<Options> {
    let mut options = Options { minutes: MINUTES_DEFAULT, keep: false, targets: Vec::new() };
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "--minutes" => {
                let given = rest.next().and_then(|given| given.parse().ok());
                options.minutes = given.context("--minutes takes a whole number")?;
            }
            "--keep" => options.keep = true,
            option if option.starts_with('-') => bail!("unknown option {option}"),
            target => options.targets.push(target.to_owned()),
        }
    }
    Ok(options)
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
        let nothing = Options { minutes: 10, keep: false, targets: Vec::new() };
        assert_eq!(parse("").expect("nothing"), nothing);
        let all = parse("--minutes 0 core_json --keep api_sse").expect("all");
        assert_eq!((all.minutes, all.keep, all.targets.len()), (0, true, 2));
        for wrong in ["--minutes", "--minutes x", "--minute 3"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!(limits(0)[0], "-runs=0");
        assert_eq!(limits(10)[0], "-max_total_time=600");
    }
}
