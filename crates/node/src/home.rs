//! A node's home directory: where each file lives, and the lock that keeps it to one daemon.

use std::{
    fs::{DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use thiserror::Error;

/// Longest path a Unix socket address can hold, less its terminator (`sockaddr_un.sun_path` is 108 bytes on Linux).
const SOCKET_PATH_LEN_MAX: usize = 107;

/// The files of one node, all below one directory that only its owner may enter.
#[derive(Debug, Clone)]
pub struct Home {
    root: PathBuf,
}

/// Why a home directory cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum HomeError {
    /// The directory cannot be created.
    #[error(
        "cannot create the home directory {path}: check that its parent exists and that you may write there"
    )]
    Create {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another daemon holds the home's lock.
    #[error(
        "another node is running in {path} (process {pid}): use `comity down --home {path}` to stop it, or --home DIR for a second node"
    )]
    InUse {
        /// The home directory.
        path: PathBuf,
        /// The other daemon's process id, "unknown" when it left none.
        pid: String,
    },
    /// The lock file cannot be opened or locked.
    #[error("cannot lock {path}: check the permissions of the home directory")]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The API socket's path would not fit into a socket address.
    #[error(
        "the path {path} is {len} bytes long and a Unix socket takes at most {SOCKET_PATH_LEN_MAX}: choose a shorter --home"
    )]
    SocketPathTooLong {
        /// The socket's path.
        path: PathBuf,
        /// Its length in bytes.
        len: usize,
    },
}

impl Home {
    /// Names the home at `root`; touches nothing.
    #[must_use]
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Creates the directory, with mode 0700, if it is not there.
    ///
    /// # Errors
    /// When it cannot be created, or when its path is too long for the API socket.
    pub fn create(&self) -> Result<(), HomeError> {
        let socket = self.socket();
        let len = socket.as_os_str().len();
        if len > SOCKET_PATH_LEN_MAX {
            return Err(HomeError::SocketPathTooLong { path: socket, len });
        }
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.root)
            .map_err(|source| HomeError::Create { path: self.root.clone(), source })
    }

    /// Takes the lock that keeps a second daemon out for as long as the value lives.
    ///
    /// # Errors
    /// [`HomeError::InUse`] when another daemon holds it, [`HomeError::Lock`] when the file cannot be used.
    pub fn lock(&self) -> Result<HomeLock, HomeError> {
        let path = self.root.join("node.lock");
        let failed = |source| HomeError::Lock { path: path.clone(), source };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {
                file.set_len(0).map_err(failed)?;
                write!(file, "{}", std::process::id()).map_err(failed)?;
                Ok(HomeLock { _file: file })
            }
            Err(TryLockError::WouldBlock) => {
                let pid = io::read_to_string(&file).ok().filter(|pid| !pid.is_empty());
                Err(HomeError::InUse {
                    path: self.root.clone(),
                    pid: pid.unwrap_or_else(|| "unknown".to_owned()),
                })
            }
            Err(TryLockError::Error(source)) => Err(failed(source)),
        }
    }

    /// The directory itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The secret key.
    #[must_use]
    pub fn key_file(&self) -> PathBuf {
        self.root.join("identity.key")
    }

    /// The local API's socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.root.join("api.sock")
    }

    /// The database of peers, custody, records and capabilities.
    #[must_use]
    pub fn database(&self) -> PathBuf {
        self.root.join("node.redb")
    }

    /// The audit log.
    #[must_use]
    pub fn audit(&self) -> PathBuf {
        self.root.join("audit")
    }

    /// The keys before, each with its log.
    #[must_use]
    pub fn retired(&self) -> PathBuf {
        self.root.join("retired")
    }

    /// Imported tables, one SQLite file each.
    #[must_use]
    pub fn tables(&self) -> PathBuf {
        self.root.join("tables")
    }

    /// Large answers, and transfers of them that are not finished.
    #[must_use]
    pub fn results(&self) -> PathBuf {
        self.root.join("results")
    }

    /// Who may call what: the operator's file.
    #[must_use]
    pub fn policy(&self) -> PathBuf {
        self.root.join(crate::access::POLICY_FILE)
    }

    /// Secrets of private groups, one file each.
    #[must_use]
    pub fn groups(&self) -> PathBuf {
        self.root.join("groups")
    }

    /// The log of a detached node.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.root.join("node.log")
    }
}

/// Holds a home for one daemon; released by the system also when the process is killed.
#[derive(Debug)]
pub struct HomeLock {
    _file: File,
}
