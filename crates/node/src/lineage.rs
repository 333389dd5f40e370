//! From one key of an agent to the next: what a home keeps of the keys before, and how the next one takes over.
//!
//! ```text
//! HOME/identity.key          the key in use, with the commitment to the one after it
//! HOME/retired/000/rotate    the passage from the first key to the second, signed by both
//! HOME/retired/000/identity.key, audit/   the first key and its log, a home of its own for `comity audit`
//! ```
//!
//! A rotation is whole or did not happen: what makes it one is that `identity.key` is replaced, in one step. What was written before that is
//! left aside by whoever opens the home; what comes after it is made up for.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use comity_core::{AgentId, Hash, Identity, Time};
use comity_trust::log::{Entry, Event, short_text};
use comity_trust::succession::{Succession, SuccessionError, commitment};
use thiserror::Error;

use crate::audit::{self, AuditError};
use crate::home::{Home, HomeError, HomeLock};
use crate::key_file::{self, KeyFileError, Keys};

/// Most keys that a home keeps of those before.
pub const MAX_RETIRED: usize = 64;
/// Longest file with one passage, in bytes.
const ROTATE_BYTES_MAX: u64 = comity_trust::succession::MAX_SUCCESSION as u64;
const ROTATE: &str = "rotate";
const KEY: &str = "identity.key";
const AUDIT: &str = "audit";

/// Why a key cannot be succeeded, or what was kept of the keys before cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LineageError {
    /// The home.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// A key file.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// The key that is to take over is another than was committed to.
    #[error(
        "the key in {path} is {found}, and {old} committed to another one: whoever knows this agent would take it for a thief's; give the file that `comity id new` wrote with --successor"
    )]
    NotCommitted {
        /// The file.
        path: PathBuf,
        /// The key in it.
        found: AgentId,
        /// The key in use.
        old: AgentId,
    },
    /// Enough.
    #[error("this home keeps {MAX_RETIRED} keys already, as many as it can")]
    Full,
    /// A passage cannot be read.
    #[error("{path} is not the passage from one key to the next: restore it from a backup")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Why.
        source: SuccessionError,
    },
    /// The old key's log.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The system refused.
    #[error("cannot {what} {path}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LineageError {
    move |source| LineageError::Io { what, path: path.to_owned(), source }
}

/// The keys before the one in use.
#[derive(Debug, Default)]
pub struct Lineage {
    chain: Succession,
    retired: Vec<Identity>,
}

impl Lineage {
    /// Reads what the home keeps, and gives the log of the last key its place if a rotation was cut short before that.
    pub(crate) fn load(home: &Home, me: &AgentId) -> Result<Self, LineageError> {
        let mut lineage = Self::default();
        for directory in retired(home)? {
            let Some(step) = read_step(&directory)? else { continue };
            let Some((old, _)) = step.begins_with() else { continue };
            if old == *me {
                // It was cut short before it came to be.
                break;
            }
            lineage.chain = std::mem::take(&mut lineage.chain).then(step);
            let key = directory.join(KEY);
            if key.exists() {
                lineage.retired.push(key_file::load(&key)?.identity);
            }
            let (log, place) = (home.audit(), directory.join(AUDIT));
            let of_old = || audit::log_agent(&log).is_ok_and(|agent| old == agent);
            if !place.exists() && log.exists() && of_old() {
                fs::rename(&log, &place).map_err(failed("move", &log))?;
            }
        }
        Ok(lineage)
    }

    /// The signed passages from `key` to the key in use, or the first part of them; none if `key` was never this agent's.
    #[must_use]
    pub fn since(&self, key: &AgentId) -> Option<Vec<u8>> {
        self.chain.since(key).map(|chain| chain.to_bytes())
    }

    /// The keys before, as far as they are kept.
    pub(crate) fn retired(&self) -> &[Identity] {
        &self.retired
    }
}

/// The directories of keys before, oldest first.
fn retired(home: &Home) -> Result<Vec<PathBuf>, LineageError> {
    let root = home.retired();
    let entries = match fs::read_dir(&root) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed("read", &root))?,
    };
    let mut directories = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed("read", &root))?.path();
        let number = path.file_name().and_then(|name| name.to_str());
        if number.is_some_and(|name| name.len() == 3 && name.bytes().all(|b| b.is_ascii_digit())) {
            directories.push(path);
        }
    }
    directories.sort();
    directories.truncate(MAX_RETIRED);
    Ok(directories)
}

fn read_step(directory: &Path) -> Result<Option<Succession>, LineageError> {
    use io::Read as _;
    let path = directory.join(ROTATE);
    let file = match fs::File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(failed("read", &path))?,
    };
    let mut bytes = Vec::new();
    file.take(ROTATE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed("read", &path))?;
    let step =
        Succession::from_bytes(&bytes).map_err(|source| LineageError::Damaged { path, source })?;
    Ok(Some(step))
}

/// A rotation that may be done: the home is locked, and the key that takes over is the one that was committed to.
#[derive(Debug)]
pub struct Rotation {
    home: Home,
    _lock: HomeLock,
    old: Keys,
    new: Identity,
    successor: PathBuf,
}

/// What a rotation did.
#[derive(Debug)]
pub struct Rotated {
    /// The key that ended.
    pub old: AgentId,
    /// The key in use from now on.
    pub new: AgentId,
    /// Hash of the old key's signature of the passage.
    pub statement: Hash,
    /// Where the old key and its log are kept.
    pub retired: PathBuf,
    /// The successor's file, if it is still there: what it holds is in the home now.
    pub used: Option<PathBuf>,
}

impl Rotation {
    /// Opens the home, which no node may be using, and the successor's key.
    ///
    /// # Errors
    /// [`LineageError`].
    pub fn prepare(home: Home, successor: &Path) -> Result<Self, LineageError> {
        let lock = home.lock()?;
        let old = key_file::load(&home.key_file())?;
        let new = key_file::load(successor)?.identity;
        if commitment(&new.id()) != old.next {
            let (path, found) = (successor.to_owned(), new.id());
            return Err(LineageError::NotCommitted { path, found, old: old.identity.id() });
        }
        Ok(Self { home, _lock: lock, old, new, successor: successor.to_owned() })
    }

    /// Makes the successor the key of this home. `next` is the key after it, kept in the file `kept` from now on; that file must not exist.
    ///
    /// # Errors
    /// [`LineageError`]; then the old key is still in use.
    pub fn finish(
        self,
        next: Identity,
        kept: &Path,
        unkept: &AgentId,
        now: Time,
    ) -> Result<Rotated, LineageError> {
        let (old, new) = (&self.old.identity, &self.new);
        // A home whose last rotation was cut short after it became one is put in order first.
        Lineage::load(&self.home, &old.id())?;
        let directory = self.place()?;
        let next_id = next.id();
        key_file::create(kept, &Keys::new(next, unkept))?;
        let step = Succession::new().rotate(old, new, commitment(&next_id), now);
        let bytes = step.to_bytes();
        write(&directory.join(ROTATE), &bytes)?;
        let statement = Hash::of(&bytes);
        self.log(statement, now)?;
        let (key, place) = (self.home.key_file(), directory.join(KEY));
        fs::hard_link(&key, &place).map_err(failed("keep the old key as", &place))?;
        key_file::replace(&key, &Keys::new(copy(new), &next_id))?;
        // From here on it is done; what follows is made up for at the next start.
        Lineage::load(&self.home, &new.id())?;
        let used = self.remove_used()?;
        Ok(Rotated { old: old.id(), new: new.id(), statement, retired: directory, used })
    }

    /// A directory for the key that ends; what a rotation that was cut short left in it goes.
    fn place(&self) -> Result<PathBuf, LineageError> {
        let old = self.old.identity.id();
        let mut number = 0;
        for directory in retired(&self.home)? {
            let of_old = read_step(&directory)?
                .is_none_or(|step| step.begins_with().is_some_and(|(key, _)| key == old));
            if of_old {
                fs::remove_dir_all(&directory).map_err(failed("remove", &directory))?;
            } else {
                number += 1;
            }
        }
        if number >= MAX_RETIRED {
            return Err(LineageError::Full);
        }
        let directory = self.home.retired().join(format!("{number:03}"));
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory)
            .map_err(failed("create", &directory))?;
        Ok(directory)
    }

    /// The old key's log ends with who comes after it.
    fn log(&self, statement: Hash, now: Time) -> Result<(), LineageError> {
        let directory = self.home.audit();
        if !directory.exists() {
            return Ok(());
        }
        let mut log = audit::Writer::open(&directory, Arc::new(copy(&self.old.identity)))?;
        let event =
            Event::Signed { statement, kind: short_text("rotate"), subject: self.new.id().into() };
        log.append(&[Entry::new(now, event)])?;
        log.checkpoint()?;
        Ok(())
    }

    /// Removes the successor's file if it is in the home: its key is in the identity's file now. Elsewhere it is its owner's.
    fn remove_used(&self) -> Result<Option<PathBuf>, LineageError> {
        if self.successor.parent().is_some_and(|parent| parent == self.home.root()) {
            fs::remove_file(&self.successor).map_err(failed("remove", &self.successor))?;
            return Ok(None);
        }
        Ok(Some(self.successor.clone()))
    }
}

fn copy(identity: &Identity) -> Identity {
    Identity::from_secret_bytes(&identity.secret_bytes())
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), LineageError> {
    use io::Write as _;
    let written = fs::File::create(path).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.map_err(failed("write", path))
}
