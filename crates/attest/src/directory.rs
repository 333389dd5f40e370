//! Are the files of a model those that were signed?

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use blake2::Blake2b512;
use comity_trust::evidence::{SignedFile, SignedModel};
use sha2::{Digest as _, Sha256};

/// Most files and directories below a model that are looked at.
const MAX_FILES: usize = 100_000;
/// Deepest directory below a model.
const MAX_DEPTH: usize = 64;
/// Bytes read at a time.
const CHUNK: usize = 1 << 20;

/// How a model's directory differs from what was signed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// A file or directory cannot be read.
    #[error("{path} cannot be read")]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Parts of files were signed.
    #[error(
        "the manifest is over parts of files, which are not checked here: use the `model_signing` program"
    )]
    Shards,
    /// A name in the manifest leads out of the directory.
    #[error("the manifest names `{name}`, which does not lie below the model")]
    Name {
        /// The name.
        name: String,
    },
    /// A hash that is not computed here.
    #[error(
        "`{name}` is hashed with {algorithm}, and sha256, blake2b and blake3 are computed here"
    )]
    Algorithm {
        /// The file.
        name: String,
        /// Its algorithm.
        algorithm: String,
    },
    /// A symbolic link where none was when the model was signed, or something that is no file.
    #[error("{path} is a symbolic link or no plain file, and the model was signed without such")]
    Link {
        /// Which.
        path: PathBuf,
    },
    /// Too much to look at.
    #[error("more than {MAX_FILES} files, or directories deeper than {MAX_DEPTH}")]
    TooMany,
    /// Files differ.
    #[error("the model is not the one that was signed: {} changed, {} missing, {} besides", changed.len(), missing.len(), besides.len())]
    Differs {
        /// Files of another content.
        changed: Vec<String>,
        /// Files that were signed and are not there.
        missing: Vec<String>,
        /// Files that are there and were not signed.
        besides: Vec<String>,
    },
}

/// Compares a directory with a manifest: every signed file is there with its content, and none besides. `ignore` names what else may be there, as
/// the signature itself may.
///
/// # Errors
/// [`ModelError`].
pub fn verify_model(
    directory: &Path,
    model: &SignedModel,
    ignore: &[PathBuf],
) -> Result<(), ModelError> {
    if !model.whole_files {
        return Err(ModelError::Shards);
    }
    let mut signed: BTreeMap<&str, &SignedFile> = BTreeMap::new();
    for file in &model.files {
        if !is_below(&file.name) || signed.insert(&file.name, file).is_some() {
            return Err(ModelError::Name { name: file.name.clone() });
        }
    }
    let found = walk(directory, model, ignore)?;
    let (mut changed, mut missing) = (Vec::new(), Vec::new());
    for (name, file) in &signed {
        if !found.contains(*name) {
            missing.push((*name).to_owned());
        } else if hash(&directory.join(name), file)? != file.digest {
            changed.push((*name).to_owned());
        }
    }
    let besides: Vec<String> =
        found.into_iter().filter(|name| !signed.contains_key(name.as_str())).collect();
    if changed.is_empty() && missing.is_empty() && besides.is_empty() {
        Ok(())
    } else {
        Err(ModelError::Differs { changed, missing, besides })
    }
}

/// Names are strangers' text: relative, with `/`, of plain parts only.
fn is_below(name: &str) -> bool {
    !name.is_empty()
        && name
            .split('/')
            .all(|part| !matches!(part, "" | "." | "..") && !part.contains(['\\', '\0']))
}

/// The files below a directory, by name.
fn walk(
    directory: &Path,
    model: &SignedModel,
    ignore: &[PathBuf],
) -> Result<BTreeSet<String>, ModelError> {
    let ignored = |name: &str| {
        let path = Path::new(name);
        model.ignore_paths.iter().any(|left| path.starts_with(left))
            || ignore.iter().any(|left| directory.join(path).starts_with(left))
    };
    let mut found = BTreeSet::new();
    let mut open = vec![(String::new(), 0)];
    let mut seen = 0;
    while let Some((below, depth)) = open.pop() {
        if depth > MAX_DEPTH {
            return Err(ModelError::TooMany);
        }
        let here = directory.join(&below);
        let unreadable = |source| ModelError::Io { path: here.clone(), source };
        for entry in std::fs::read_dir(&here).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let path = entry.path();
            seen += 1;
            if seen > MAX_FILES {
                return Err(ModelError::TooMany);
            }
            let name = entry
                .file_name()
                .into_string()
                .map_err(|name| ModelError::Name { name: name.to_string_lossy().into_owned() })?;
            let name = if below.is_empty() { name } else { format!("{below}/{name}") };
            if ignored(&name) {
                continue;
            }
            let failed = |source| ModelError::Io { path: path.clone(), source };
            let mut kind = entry.file_type().map_err(failed)?;
            if kind.is_symlink() && model.allow_symlinks {
                kind = std::fs::metadata(&path).map_err(failed)?.file_type();
            }
            if kind.is_dir() {
                open.push((name, depth + 1));
            } else if kind.is_file() {
                found.insert(name);
            } else {
                return Err(ModelError::Link { path });
            }
        }
    }
    Ok(found)
}

fn hash(path: &Path, signed: &SignedFile) -> Result<Vec<u8>, ModelError> {
    let failed = |source| ModelError::Io { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(failed)?;
    let mut chunk = vec![0; CHUNK];
    let mut read = |take: &mut dyn FnMut(&[u8])| -> Result<(), ModelError> {
        loop {
            match file.read(&mut chunk).map_err(failed)? {
                0 => return Ok(()),
                length => take(&chunk[..length]),
            }
        }
    };
    match signed.algorithm.as_str() {
        "sha256" => {
            let mut hasher = Sha256::new();
            read(&mut |bytes| hasher.update(bytes))?;
            Ok(hasher.finalize().to_vec())
        }
        "blake2b" => {
            let mut hasher = Blake2b512::new();
            read(&mut |bytes| hasher.update(bytes))?;
            Ok(hasher.finalize().to_vec())
        }
        "blake3" => {
            let mut hasher = blake3::Hasher::new();
            read(&mut |bytes| {
                hasher.update(bytes);
            })?;
            Ok(hasher.finalize().as_bytes().to_vec())
        }
        other => {
            Err(ModelError::Algorithm { name: signed.name.clone(), algorithm: other.to_owned() })
        }
    }
}
