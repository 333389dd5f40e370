//! The secret key's file: one line of text, readable by its owner alone, never overwritten.
//!
//! `comity-secret-key-v1 SECRET NEXT`: the 32-byte secret and the BLAKE3 of the public key that may succeed it, each in
//! hexadecimal with four bytes of BLAKE3 behind it. The successor's own secret is not in the file: who steals a key must
//! not thereby be able to rotate it.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use comity_core::{AgentId, Hash, Identity};
use data_encoding::HEXLOWER;
use thiserror::Error;
use zeroize::Zeroizing;

/// First word of the file; names the format and its version.
const MAGIC: &str = "comity-secret-key-v1";
/// Bytes of BLAKE3 over the secret, appended so that a damaged file is told from another key.
const CHECK_LEN: usize = 4;
/// A key file is one line of under 100 characters; anything longer is another kind of file.
const FILE_LEN_MAX: u64 = 256;

/// Why a key file cannot be read or written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum KeyFileError {
    /// There is no such file.
    #[error("there is no key at {path}: make one with `comity id new`")]
    Missing {
        /// The key file.
        path: PathBuf,
    },
    /// A key is already there.
    #[error(
        "{path} already holds a key and is never overwritten: choose another --home, or move the old key away yourself"
    )]
    Exists {
        /// The key file.
        path: PathBuf,
    },
    /// The file can be read by others than its owner.
    #[error(
        "{path} has mode {mode:04o}, so others can read this secret key: run `chmod 600 {path}`"
    )]
    Permissions {
        /// The key file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file holds something else, or a damaged key.
    #[error(
        "{path} is not a comity key file ({reason}): restore it from a backup, or make a new identity in another --home"
    )]
    Malformed {
        /// The key file.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The system refused to read or write it.
    #[error("cannot {action} the key file {path}")]
    Io {
        /// "read" or "write".
        action: &'static str,
        /// The key file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// A node's identity and its commitment to the next one.
#[derive(Debug)]
pub struct Keys {
    /// The secret that signs now.
    pub identity: Identity,
    /// BLAKE3 of the public key that may succeed it; every record carries it.
    pub next: Hash,
}

impl Keys {
    /// A key and the commitment to `successor`, whose secret the caller keeps somewhere else.
    #[must_use]
    pub fn new(identity: Identity, successor: &AgentId) -> Self {
        Self { identity, next: Hash::of(successor.as_bytes()) }
    }
}

/// Reads the keys kept at `path`.
///
/// # Errors
/// When the file is missing, readable by group or others, or not a key file; see [`KeyFileError`].
pub fn load(path: &Path) -> Result<Keys, KeyFileError> {
    let failed = |source: io::Error| {
        if source.kind() == io::ErrorKind::NotFound {
            return KeyFileError::Missing { path: path.to_owned() };
        }
        KeyFileError::Io { action: "read", path: path.to_owned(), source }
    };
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    let malformed = |reason| KeyFileError::Malformed { path: path.to_owned(), reason };
    if !metadata.is_file() {
        return Err(malformed("it is not a regular file"));
    }
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyFileError::Permissions { path: path.to_owned(), mode });
    }
    if metadata.len() > FILE_LEN_MAX {
        return Err(malformed("it is too long"));
    }
    let mut content = Zeroizing::new(String::new());
    file.take(FILE_LEN_MAX).read_to_string(&mut content).map_err(|source| {
        if source.kind() == io::ErrorKind::InvalidData {
            malformed("it is not text")
        } else {
            failed(source)
        }
    })?;
    parse(&content).map_err(malformed)
}

/// Writes `keys` to a new file at `path`: mode 0600, complete or not there at all.
///
/// # Errors
/// [`KeyFileError::Exists`] when something is there already; [`KeyFileError::Io`] when the system refuses.
pub fn create(path: &Path, keys: &Keys) -> Result<(), KeyFileError> {
    let failed = |source| KeyFileError::Io { action: "write", path: path.to_owned(), source };
    let temporary = path.with_extension(format!("new-{}", std::process::id()));
    let result = write_new(&temporary, keys).and_then(|()| fs::hard_link(&temporary, path));
    // The link, not a rename, puts the key in place: it fails when a key is there, whoever wrote it and whenever.
    let cleanup = fs::remove_file(&temporary);
    match result {
        Err(source) if source.kind() == io::ErrorKind::AlreadyExists => {
            Err(KeyFileError::Exists { path: path.to_owned() })
        }
        Err(source) => Err(failed(source)),
        Ok(()) => {
            cleanup.map_err(failed)?;
            sync_parent(path).map_err(failed)
        }
    }
}

/// Writes `keys` over the file at `path`: mode 0600, the old content or the new one, whatever happens.
///
/// # Errors
/// [`KeyFileError::Io`] when the system refuses.
pub(crate) fn replace(path: &Path, keys: &Keys) -> Result<(), KeyFileError> {
    let failed = |source| KeyFileError::Io { action: "write", path: path.to_owned(), source };
    let temporary = path.with_extension(format!("new-{}", std::process::id()));
    let replaced = write_new(&temporary, keys).and_then(|()| fs::rename(&temporary, path));
    if replaced.is_err() {
        // What matters is why it failed; a file left behind is in nobody's way.
        let _left = fs::remove_file(&temporary);
    }
    replaced.and_then(|()| sync_parent(path)).map_err(failed)
}

fn write_new(path: &Path, keys: &Keys) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(render(keys).as_bytes())?;
    file.sync_all()
}

fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
        Some(_) | None => Ok(()),
    }
}

fn render(keys: &Keys) -> Zeroizing<String> {
    let secret = checked(keys.identity.secret_bytes().as_slice());
    let next = checked(keys.next.as_bytes());
    Zeroizing::new(format!("{MAGIC} {} {}\n", *secret, *next))
}

/// hexadecimal of `bytes` and their checksum.
fn checked(bytes: &[u8]) -> Zeroizing<String> {
    let mut all = Zeroizing::new(bytes.to_vec());
    all.extend_from_slice(&Hash::of(bytes).as_bytes()[..CHECK_LEN]);
    Zeroizing::new(HEXLOWER.encode(&all))
}

fn parse(content: &str) -> Result<Keys, &'static str> {
    let mut words = content.split_whitespace();
    if words.next() != Some(MAGIC) {
        return Err("it does not begin with comity-secret-key-v1");
    }
    let secret = unchecked(words.next().ok_or("the key is missing")?)?;
    let next = unchecked(words.next().ok_or("the commitment to the next key is missing")?)?;
    if words.next().is_some() {
        return Err("text follows the key");
    }
    Ok(Keys { identity: Identity::from_secret_bytes(&secret), next: Hash(*next) })
}

fn unchecked(word: &str) -> Result<Zeroizing<[u8; 32]>, &'static str> {
    let bytes = HEXLOWER
        .decode(word.as_bytes())
        .map_err(|_| "it holds something that is not hexadecimal")?;
    let bytes = Zeroizing::new(bytes);
    let (value, check) = bytes.split_at_checked(32).ok_or("it is too short")?;
    if check != &Hash::of(value).as_bytes()[..CHECK_LEN] {
        return Err("its checksum does not match");
    }
    Ok(Zeroizing::new(<[u8; 32]>::try_from(value).map_err(|_| "it is too short")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(seed: u8) -> Keys {
        Keys::new(
            Identity::from_secret_bytes(&[seed; 32]),
            &Identity::from_secret_bytes(&[seed + 1; 32]).id(),
        )
    }

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn keys_come_back_as_they_were_and_are_never_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("identity.key");
        create(&path, &keys(1)).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let loaded = load(&path).unwrap();
        assert_eq!((loaded.identity.id(), loaded.next), (keys(1).identity.id(), keys(1).next));
        assert!(matches!(create(&path, &keys(2)), Err(KeyFileError::Exists { .. })));
        assert_eq!(load(&path).unwrap().identity.id(), keys(1).identity.id());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn what_others_can_read_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("identity.key");
        create(&path, &keys(1)).unwrap();
        for mode in [0o640, 0o604, 0o644, 0o660] {
            set_mode(&path, mode);
            let error = load(&path).unwrap_err();
            assert!(matches!(error, KeyFileError::Permissions { .. }), "{mode:o}: {error}");
            assert!(error.to_string().contains("chmod 600"), "{error}");
        }
        set_mode(&path, 0o400);
        load(&path).unwrap();
    }

    #[test]
    fn other_files_are_named_as_such() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("identity.key");
        assert!(matches!(load(&path), Err(KeyFileError::Missing { .. })));
        let good = render(&keys(1)).to_string();
        let damaged = good.replacen(&good[30..31], if &good[30..31] == "0" { "1" } else { "0" }, 1);
        for content in
            ["", "hello", MAGIC, &good[..60], &format!("{good} more"), &damaged, &"x".repeat(1000)]
        {
            fs::write(&path, content).unwrap();
            set_mode(&path, 0o600);
            let error = load(&path).unwrap_err();
            assert!(matches!(error, KeyFileError::Malformed { .. }), "{content:?}: {error}");
            assert!(
                !error.to_string().contains(good.split(' ').nth(1).unwrap()),
                "no secret in errors"
            );
        }
    }
}
