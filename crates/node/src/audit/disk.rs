//! The few file operations that the log is made of, so that tests can put a disk under it that loses and tears what was not synced.
//!
//! What is promised is what POSIX and ext4 promise, and no more: a file's bytes survive a crash once the file is synced; a new name, a
//! rename or a removal survives once its directory is synced; a rename is all or nothing; before that, any part of it may be there.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// Files kept open: the journal and the file of nodes are used again and again.
const OPEN_FILES_MAX: usize = 4;

/// Files below one directory, by relative name with `/` between its parts. Directories come into being with the files in them.
pub(crate) trait Disk: Send {
    /// A whole file; none if there is no such file. An error if it is longer than `max`.
    fn read(&mut self, name: &str, max: u64) -> io::Result<Option<Vec<u8>>>;

    /// Fills `buffer` from `offset` on; an error if the file ends before.
    fn read_at(&mut self, name: &str, offset: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// Length of a file; none if there is no such file.
    fn len(&mut self, name: &str) -> io::Result<Option<u64>>;

    /// The names of the files directly in a directory, in order; none if there is no such directory.
    fn list(&mut self, directory: &str) -> io::Result<Vec<String>>;

    /// Writes behind the end of a file, which is made if it is not there.
    fn append(&mut self, name: &str, bytes: &[u8]) -> io::Result<()>;

    /// Cuts a file to `length`.
    fn truncate(&mut self, name: &str, length: u64) -> io::Result<()>;

    /// Makes the file hold `bytes` and nothing else; not atomic.
    fn write(&mut self, name: &str, bytes: &[u8]) -> io::Result<()>;

    /// Waits until the file's bytes survive a loss of power.
    fn sync(&mut self, name: &str) -> io::Result<()>;

    /// Waits until what happened to names in the directory survives a loss of power. The empty name is the log's own.
    fn sync_directory(&mut self, directory: &str) -> io::Result<()>;

    /// Gives a file another name, in place of the file that has it.
    fn rename(&mut self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file; no error if there is none.
    fn remove(&mut self, name: &str) -> io::Result<()>;
}

/// The directory of a name: everything before its last part.
pub(crate) fn directory_of(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(directory, _)| directory)
}

/// A directory of the file system.
#[derive(Debug)]
pub(crate) struct RealDisk {
    root: PathBuf,
    writable: bool,
    open: VecDeque<(String, File)>,
}

impl RealDisk {
    /// Files below `root`, which is made, for its owner alone.
    pub(crate) fn create(root: &Path) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(root)?;
        Ok(Self { root: root.to_owned(), writable: true, open: VecDeque::new() })
    }

    /// Files below `root`, to be read only.
    pub(crate) fn read_only(root: &Path) -> Self {
        Self { root: root.to_owned(), writable: false, open: VecDeque::new() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    fn file(&mut self, name: &str, create: bool) -> io::Result<&mut File> {
        if let Some(at) = self.open.iter().position(|(known, _)| known == name) {
            return Ok(&mut self.open[at].1);
        }
        if create {
            self.make_directory(name)?;
        }
        let file = OpenOptions::new()
            .read(true)
            .append(self.writable)
            .create(create && self.writable)
            .mode(0o600)
            .open(self.path(name))?;
        if self.open.len() >= OPEN_FILES_MAX {
            self.open.pop_front();
        }
        self.open.push_back((name.to_owned(), file));
        let last = self.open.len() - 1;
        Ok(&mut self.open[last].1)
    }

    fn forget(&mut self, name: &str) {
        self.open.retain(|(known, _)| known != name);
    }

    /// New directories are synced into their parents at once: they are rare, and a tile in a lost directory is lost.
    fn make_directory(&self, name: &str) -> io::Result<()> {
        let directory = self.path(directory_of(name));
        if directory.is_dir() {
            return Ok(());
        }
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
        let mut at = directory.as_path();
        while let Some(parent) = at.parent().filter(|_| at != self.root) {
            File::open(parent)?.sync_all()?;
            at = parent;
        }
        Ok(())
    }
}

fn absent_as_none<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

impl Disk for RealDisk {
    fn read(&mut self, name: &str, max: u64) -> io::Result<Option<Vec<u8>>> {
        let Some(length) = self.len(name)? else { return Ok(None) };
        if length > max {
            return Err(io::Error::other(format!("{name} has {length} bytes, more than {max}")));
        }
        absent_as_none(fs::read(self.path(name)))
    }

    fn read_at(&mut self, name: &str, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file(name, false)?.read_exact_at(buffer, offset)
    }

    fn len(&mut self, name: &str) -> io::Result<Option<u64>> {
        Ok(absent_as_none(fs::metadata(self.path(name)))?.map(|metadata| metadata.len()))
    }

    fn list(&mut self, directory: &str) -> io::Result<Vec<String>> {
        let Some(entries) = absent_as_none(fs::read_dir(self.path(directory)))? else {
            return Ok(Vec::new());
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                names.extend(entry.file_name().into_string());
            }
        }
        names.sort();
        Ok(names)
    }

    fn append(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        io::Write::write_all(self.file(name, true)?, bytes)
    }

    fn truncate(&mut self, name: &str, length: u64) -> io::Result<()> {
        self.file(name, false)?.set_len(length)
    }

    fn write(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.forget(name);
        self.make_directory(name)?;
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(self.path(name))?;
        io::Write::write_all(&mut file, bytes)
    }

    fn sync(&mut self, name: &str) -> io::Result<()> {
        self.file(name, false)?.sync_data()
    }

    fn sync_directory(&mut self, directory: &str) -> io::Result<()> {
        File::open(self.path(directory))?.sync_all()
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.forget(from);
        self.forget(to);
        fs::rename(self.path(from), self.path(to))
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.forget(name);
        absent_as_none(fs::remove_file(self.path(name))).map(|_| ())
    }
}
