//! The policy file: read at the start, looked at every second, replaced only by one without errors.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use comity_api::types::{ErrorCode, ErrorInfo, PolicyProblem, PolicyStatus};
use comity_attest::ConfigError;
use comity_core::Time;
use comity_trust::evidence::Verifiers;
use comity_trust::policy::{MAX_FILE, Policy, PolicyError};
use thiserror::Error;

/// Name of the file below the home.
pub const POLICY_FILE: &str = "policy.toml";
/// How often the file is looked at.
pub(crate) const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Why a policy file cannot come into force.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PolicyFileError {
    /// It cannot be read.
    #[error("the policy file {path} cannot be read")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It says something that means nothing.
    #[error("the policy file {path} is refused: {error}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Where it is wrong and what to write.
        error: PolicyError,
    },
    /// What it says of evidence cannot be used.
    #[error("the policy file {path} is refused")]
    Evidence {
        /// The file.
        path: PathBuf,
        /// Which kind, and what is wrong.
        source: ConfigError,
    },
    /// It was there and is gone.
    #[error(
        "the policy file {path} is gone, and what it said stays in force until the node ends: put it back, or write an empty one"
    )]
    Gone {
        /// The file.
        path: PathBuf,
    },
}

impl PolicyFileError {
    /// The same for the local API and the command.
    #[must_use]
    pub fn info(&self) -> ErrorInfo {
        let text = crate::describe(self);
        match self {
            Self::Io { .. } => ErrorInfo::new(ErrorCode::Storage, text)
                .hint("check that the file is there and readable by the node's user"),
            Self::Invalid { error, .. } => ErrorInfo::new(ErrorCode::BadManifest, text)
                .hint(error.hint.clone())
                .details(serde_json::json!([{
                    "path": format!("line {}, column {}", error.line, error.column),
                    "message": error.what,
                }])),
            Self::Evidence { .. } => ErrorInfo::new(ErrorCode::BadManifest, text)
                .hint("files are named as seen from the policy file; docs/ATTESTATION.md has the keys of [evidence.KIND]"),
            Self::Gone { .. } => ErrorInfo::new(ErrorCode::NotFound, text),
        }
    }

    fn problem(&self, now: Time) -> PolicyProblem {
        let (line, column, hint) = match self {
            Self::Invalid { error, .. } => {
                (Some(error.line), Some(error.column), error.hint.clone())
            }
            Self::Io { .. } | Self::Evidence { .. } | Self::Gone { .. } => {
                (None, None, String::new())
            }
        };
        PolicyProblem {
            message: crate::describe(self),
            line,
            column,
            hint,
            seen_at_ms: now.as_millis(),
        }
    }
}

/// Reads and checks a policy file, and what it names.
///
/// # Errors
/// [`PolicyFileError`]; for an invalid file with line, column and remedy.
pub fn read_policy(path: &Path) -> Result<Policy, PolicyFileError> {
    read_believed(path).map(|(policy, _)| policy)
}

/// The same with the verifiers that it asks for.
pub(crate) fn read_believed(path: &Path) -> Result<(Policy, Verifiers), PolicyFileError> {
    let policy = read_text(path)?;
    let directory = path.parent().unwrap_or_else(|| Path::new("."));
    let mut read = |name: &str| read_bounded(&directory.join(name), comity_attest::MAX_FILE);
    let verifiers = comity_attest::verifiers(policy.evidence(), &mut read);
    let refused = |source| PolicyFileError::Evidence { path: path.to_owned(), source };
    Ok((policy, verifiers.map_err(refused)?))
}

fn read_bounded(path: &Path, max: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(max as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > max {
        return Err(io::Error::other(format!("it has more than {max} bytes")));
    }
    Ok(bytes)
}

fn read_text(path: &Path) -> Result<Policy, PolicyFileError> {
    let unreadable = |source| PolicyFileError::Io { path: path.to_owned(), source };
    let mut text = String::new();
    // One byte more than may be, so that a file which is too long is refused and not cut.
    let limit = MAX_FILE as u64 + 1;
    File::open(path)
        .map_err(unreadable)?
        .take(limit)
        .read_to_string(&mut text)
        .map_err(unreadable)?;
    Policy::parse(&text).map_err(|error| PolicyFileError::Invalid { path: path.to_owned(), error })
}

/// What a file looked like, to notice that it changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    modified: (i64, i64),
    changed: (i64, i64),
    length: u64,
    inode: u64,
}

fn stamp(path: &Path) -> io::Result<Option<Stamp>> {
    match fs::metadata(path) {
        Ok(meta) => Ok(Some(Stamp {
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
            length: meta.len(),
            inode: meta.ino(),
        })),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// A policy, and the verifiers of the evidence that it believes.
pub(crate) type Believed = (Policy, Verifiers);

/// What is in force without a file.
fn unwritten() -> Believed {
    let policy = Policy::empty();
    let mut nothing = |_: &str| Err(io::Error::from(io::ErrorKind::NotFound));
    let verifiers = comity_attest::verifiers(policy.evidence(), &mut nothing);
    // An empty policy names no files, so that nothing can fail.
    (policy, verifiers.unwrap_or_default())
}

/// The file behind the policy in force.
#[derive(Debug)]
pub(crate) struct PolicyFile {
    /// None for a node without a home.
    path: Option<PathBuf>,
    seen: Option<Stamp>,
    loaded_at: Time,
    problem: Option<PolicyProblem>,
}

impl PolicyFile {
    /// Reads the file, if there is one. What it says is in force from the start, or the node does not start: falling back to less would open
    /// what the operator closed.
    pub(crate) fn open(
        path: Option<PathBuf>,
        now: Time,
    ) -> Result<(Self, Believed), PolicyFileError> {
        let mut file = Self { path, seen: None, loaded_at: now, problem: None };
        let believed = match file.look(now)? {
            Some(believed) => believed,
            None => unwritten(),
        };
        Ok((file, believed))
    }

    /// Looks whether the file changed, and reads it if so. An error is kept for [`PolicyFile::status`].
    pub(crate) fn look(&mut self, now: Time) -> Result<Option<Believed>, PolicyFileError> {
        let Some(path) = self.path.clone() else { return Ok(None) };
        let found = stamp(&path)
            .map_err(|source| PolicyFileError::Io { path: path.clone(), source })
            .map_err(|error| self.refuse(error, now))?;
        if found == self.seen {
            return Ok(None);
        }
        self.seen = found;
        if found.is_none() {
            return Err(self.refuse(PolicyFileError::Gone { path }, now));
        }
        self.take(&path, now).map(Some)
    }

    /// Reads the file whether it changed or not.
    pub(crate) fn reload(&mut self, now: Time) -> Result<Option<Believed>, PolicyFileError> {
        let Some(path) = self.path.clone() else { return Ok(None) };
        self.seen = stamp(&path).ok().flatten();
        if self.seen.is_none() && self.problem.is_none() && !path.exists() {
            return Ok(None);
        }
        self.take(&path, now).map(Some)
    }

    fn take(&mut self, path: &Path, now: Time) -> Result<Believed, PolicyFileError> {
        let believed = read_believed(path).map_err(|error| self.refuse(error, now))?;
        self.loaded_at = now;
        self.problem = None;
        Ok(believed)
    }

    fn refuse(&mut self, error: PolicyFileError, now: Time) -> PolicyFileError {
        self.problem = Some(error.problem(now));
        error
    }

    pub(crate) fn status(&self, policy: &Policy) -> PolicyStatus {
        PolicyStatus {
            path: self.path.as_ref().map(|path| path.display().to_string()).unwrap_or_default(),
            present: self.seen.is_some(),
            hash: policy.hash().to_string(),
            rules: u32::try_from(policy.len()).unwrap_or(u32::MAX),
            loaded_at_ms: self.loaded_at.as_millis(),
            problem: self.problem.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time::from_secs(1_790_000_000);

    #[test]
    fn a_file_with_an_error_leaves_the_old_in_force_and_is_named() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join(POLICY_FILE);
        let (mut file, (policy, _)) = PolicyFile::open(Some(path.clone()), NOW).unwrap();
        assert!(policy.is_empty() && !file.status(&policy).present);
        assert!(file.look(NOW).unwrap().is_none(), "nothing there, nothing new");

        fs::write(&path, "[[rule]]\nallow = \"a\"\nanyone = true\n").unwrap();
        let (policy, _) = file.look(NOW).unwrap().unwrap();
        assert_eq!(file.status(&policy).rules, 1);
        assert!(file.look(NOW).unwrap().is_none());

        fs::write(&path, "[[rule]]\nallow = \"a\"\nanyone = true\nfoo = 1\n").unwrap();
        assert!(matches!(file.look(NOW), Err(PolicyFileError::Invalid { .. })));
        let problem = file.status(&policy).problem.unwrap();
        assert_eq!((problem.line, problem.column), (Some(4), Some(1)), "{problem:?}");
        assert!(PolicyFile::open(Some(path.clone()), NOW).is_err(), "no start with half a policy");

        fs::remove_file(&path).unwrap();
        assert!(matches!(file.look(NOW), Err(PolicyFileError::Gone { .. })));
        fs::write(&path, "").unwrap();
        assert!(file.look(NOW).unwrap().unwrap().0.is_empty());
        assert!(file.status(&policy).problem.is_none());
    }

    #[test]
    fn a_file_that_is_too_long_is_refused_whole() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join(POLICY_FILE);
        fs::write(&path, "#".repeat(MAX_FILE + 10)).unwrap();
        assert!(matches!(read_policy(&path), Err(PolicyFileError::Invalid { .. })));
    }
}
