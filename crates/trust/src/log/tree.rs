//! The Merkle tree: hashes of entries, its root, and the two proofs.
//!
//! Hashing and shape are those of RFC 9162 section 2.1 (as RFC 6962): leaf = SHA-256(00 ‖ entry), node = SHA-256(01 ‖ left ‖ right). The
//! arithmetic of proofs is the library `tlog_tiles`; [`Accumulator`] computes roots a second way, from the left, in logarithmic memory.
//!
//! Hashes live at *places*: one row in the order in which appending completes them (Crosby and Wallach, "Efficient Data Structures for
//! Tamper-Evident Logging", 2009, section 3.3), so that a file that only grows holds the whole tree.

use comity_core::canonical::Version;
use comity_core::{Canonical, DecodeError, Sha256Digest};

/// Most entries of a log: at a million a second it is full after nine years.
pub const MAX_SIZE: u64 = 1 << 48;
/// Most hashes in a proof: an inclusion proof in a tree of [`MAX_SIZE`] has 48, a consistency proof one more.
pub const MAX_PATH: usize = 49;
/// Longest encoded proof, in bytes.
pub const MAX_PROOF_LEN: usize = MAX_PATH * 34 + 32;
/// Root of the tree without entries: SHA-256 of nothing.
pub const EMPTY_ROOT: Sha256Digest = Sha256Digest(tlog_tiles::EMPTY_HASH.0);

/// The hash of an entry as a leaf.
#[must_use]
pub fn leaf_hash(entry: &[u8]) -> Sha256Digest {
    Sha256Digest(tlog_tiles::record_hash(entry).0)
}

/// The hash over two adjacent subtrees.
#[must_use]
pub fn node_hash(left: &Sha256Digest, right: &Sha256Digest) -> Sha256Digest {
    Sha256Digest(tlog_tiles::node_hash(to_tlog(left), to_tlog(right)).0)
}

fn to_tlog(digest: &Sha256Digest) -> tlog_tiles::Hash {
    tlog_tiles::Hash(digest.0)
}

/// The place of the `n`-th subtree of 2^`level` leaves.
#[must_use]
pub fn place(level: u8, n: u64) -> u64 {
    tlog_tiles::stored_hash_index(level, n)
}

/// Which subtree is at a place: (level, number within the level).
#[must_use]
pub fn at_place(place: u64) -> (u8, u64) {
    tlog_tiles::split_stored_hash_index(place)
}

/// How many places a tree of `size` entries fills.
#[must_use]
pub fn places(size: u64) -> u64 {
    tlog_tiles::stored_hash_count(size)
}

/// Where hashes of a tree are kept.
pub trait Nodes {
    /// The hashes at `places`, in this order.
    ///
    /// # Errors
    /// [`TreeError::Unreadable`] when one cannot be had.
    fn read(&self, places: &[u64]) -> Result<Vec<Sha256Digest>, TreeError>;
}

/// All hashes in memory, for small trees.
impl Nodes for Vec<Sha256Digest> {
    fn read(&self, places: &[u64]) -> Result<Vec<Sha256Digest>, TreeError> {
        let at = |&place: &u64| usize::try_from(place).ok().and_then(|at| self.get(at)).copied();
        places
            .iter()
            .map(|place| {
                at(place).ok_or_else(|| TreeError::Unreadable {
                    reason: format!("no hash at place {place}"),
                })
            })
            .collect()
    }
}

/// Why a tree cannot be worked on, or a proof does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// A hash of the tree cannot be had.
    #[error("a hash of the log's tree cannot be read: {reason}")]
    Unreadable {
        /// What is in the way.
        reason: String,
    },
    /// A size or index that no proof is about.
    #[error("no such proof: {what} of a log with {size} entries")]
    Range {
        /// What was asked for.
        what: String,
        /// Entries of the log.
        size: u64,
    },
    /// The proof does not lead to the root.
    #[error("the proof does not hold: entry, position or history differs from what was signed")]
    Broken,
}

/// Gives the library our storage.
struct Reader<'a, N: ?Sized>(&'a N);

impl<N: Nodes + ?Sized> tlog_tiles::HashReader for Reader<'_, N> {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<tlog_tiles::Hash>, tlog_tiles::Error> {
        let hashes = self
            .0
            .read(indexes)
            .map_err(|error| tlog_tiles::Error::InvalidInput(error.to_string()))?;
        // The library takes a wrong count for a bug of its own and panics.
        if hashes.len() != indexes.len() {
            return Err(tlog_tiles::Error::InvalidInput("hashes are missing".to_owned()));
        }
        Ok(hashes.iter().map(to_tlog).collect())
    }
}

fn unreadable(error: tlog_tiles::Error) -> TreeError {
    TreeError::Unreadable { reason: error.to_string() }
}

fn from_tlog(hashes: Vec<tlog_tiles::Hash>) -> Vec<Sha256Digest> {
    hashes.into_iter().map(|hash| Sha256Digest(hash.0)).collect()
}

/// The hashes that entry number `size` adds to a tree of `size` entries, for the places from [`places`]`(size)` on.
///
/// # Errors
/// [`TreeError`] when hashes to the left of it cannot be read, or the log is full.
pub fn append<N: Nodes + ?Sized>(
    size: u64,
    leaf: &Sha256Digest,
    nodes: &N,
) -> Result<Vec<Sha256Digest>, TreeError> {
    if size >= MAX_SIZE {
        return Err(TreeError::Range { what: "a further entry".to_owned(), size });
    }
    tlog_tiles::stored_hashes_for_record_hash(size, to_tlog(leaf), &Reader(nodes))
        .map(from_tlog)
        .map_err(unreadable)
}

/// The root of the first `size` entries.
///
/// # Errors
/// [`TreeError`] when hashes cannot be read.
pub fn root<N: Nodes + ?Sized>(size: u64, nodes: &N) -> Result<Sha256Digest, TreeError> {
    within_limit(size)?;
    tlog_tiles::tree_hash(size, &Reader(nodes)).map(|hash| Sha256Digest(hash.0)).map_err(unreadable)
}

fn within_limit(size: u64) -> Result<(), TreeError> {
    if size <= MAX_SIZE {
        return Ok(());
    }
    Err(TreeError::Range { what: format!("size {size}"), size: MAX_SIZE })
}

/// That an entry is at `index` of the first `size` entries.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
pub struct InclusionProof {
    /// Format version.
    #[n(0)]
    pub version: Version<1>,
    /// Position of the entry, from 0.
    #[n(1)]
    pub index: u64,
    /// Entries of the tree.
    #[n(2)]
    pub size: u64,
    /// The sibling hashes from the leaf up to the root.
    #[n(3)]
    pub path: Vec<Sha256Digest>,
}

/// That the first `old` entries of a tree of `new` are those of the tree of `old`.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
pub struct ConsistencyProof {
    /// Format version.
    #[n(0)]
    pub version: Version<1>,
    /// Entries of the older tree.
    #[n(1)]
    pub old: u64,
    /// Entries of the newer tree.
    #[n(2)]
    pub new: u64,
    /// The hashes of RFC 9162 section 2.1.4.
    #[n(3)]
    pub path: Vec<Sha256Digest>,
}

macro_rules! bounded_codec {
    ($name:ident) => {
        impl Canonical for $name {
            fn encode(&self) -> Vec<u8> {
                comity_core::canonical::encode_minicbor(self)
            }

            fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
                super::limit(bytes, MAX_PROOF_LEN)?;
                comity_core::canonical::decode_minicbor(bytes)
            }
        }
    };
}
bounded_codec!(InclusionProof);
bounded_codec!(ConsistencyProof);

impl InclusionProof {
    /// Proves entry `index` of the first `size`.
    ///
    /// # Errors
    /// [`TreeError`] when there is no such entry or hashes cannot be read.
    pub fn make<N: Nodes + ?Sized>(index: u64, size: u64, nodes: &N) -> Result<Self, TreeError> {
        within_limit(size)?;
        if index >= size {
            return Err(TreeError::Range { what: format!("entry {index}"), size });
        }
        let path = tlog_tiles::prove_record(size, index, &Reader(nodes)).map_err(unreadable)?;
        Ok(Self { version: Version, index, size, path: from_tlog(path) })
    }

    /// Checks that the entry with this leaf hash is where the proof says, under `root`.
    ///
    /// # Errors
    /// [`TreeError::Broken`] when it is not.
    pub fn verify(&self, leaf: &Sha256Digest, root: &Sha256Digest) -> Result<(), TreeError> {
        if self.size > MAX_SIZE || self.path.len() > MAX_PATH {
            return Err(TreeError::Broken);
        }
        let path = self.path.iter().map(to_tlog).collect();
        tlog_tiles::check_record(&path, self.size, to_tlog(root), self.index, to_tlog(leaf))
            .map_err(|_| TreeError::Broken)
    }
}

impl ConsistencyProof {
    /// Proves that the first `old` of `new` entries are what they were.
    ///
    /// # Errors
    /// [`TreeError`] when `old` exceeds `new` or hashes cannot be read.
    pub fn make<N: Nodes + ?Sized>(old: u64, new: u64, nodes: &N) -> Result<Self, TreeError> {
        within_limit(new)?;
        if old > new {
            return Err(TreeError::Range {
                what: format!("a beginning of {old} entries"),
                size: new,
            });
        }
        // Everything begins with nothing; RFC 9162 leaves this case out.
        let path = if old == 0 {
            Vec::new()
        } else {
            tlog_tiles::prove_tree(new, old, &Reader(nodes)).map_err(unreadable)?
        };
        Ok(Self { version: Version, old, new, path: from_tlog(path) })
    }

    /// Checks that the tree under `new_root` begins with that under `old_root`.
    ///
    /// # Errors
    /// [`TreeError::Broken`] when it does not.
    pub fn verify(
        &self,
        old_root: &Sha256Digest,
        new_root: &Sha256Digest,
    ) -> Result<(), TreeError> {
        if self.new > MAX_SIZE || self.old > self.new || self.path.len() > MAX_PATH {
            return Err(TreeError::Broken);
        }
        if self.old == 0 {
            let fits = self.path.is_empty()
                && *old_root == EMPTY_ROOT
                && (self.new > 0 || *new_root == EMPTY_ROOT);
            return if fits { Ok(()) } else { Err(TreeError::Broken) };
        }
        let path = self.path.iter().map(to_tlog).collect();
        tlog_tiles::check_tree(&path, self.new, to_tlog(new_root), self.old, to_tlog(old_root))
            .map_err(|_| TreeError::Broken)
    }
}

/// A tree that grows on the right and remembers its root alone: at most 48 hashes, whatever its size.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accumulator {
    size: u64,
    /// Roots of complete subtrees, from the left, of falling height: one for each bit set in `size`.
    peaks: Vec<(u8, Sha256Digest)>,
}

impl Accumulator {
    /// The tree without entries.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Entries so far.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds one entry by its leaf hash.
    pub fn push(&mut self, leaf: &Sha256Digest) {
        let placed = self.push_subtree(0, leaf);
        debug_assert!(placed, "a single leaf fits everywhere");
    }

    /// Adds a complete subtree of 2^`level` entries. Returns false, and adds nothing, where none of that height can stand.
    #[must_use]
    pub fn push_subtree(&mut self, level: u8, hash: &Sha256Digest) -> bool {
        let Some(leaves) = 1_u64.checked_shl(u32::from(level)).filter(|&n| n <= MAX_SIZE) else {
            return false;
        };
        if !self.size.is_multiple_of(leaves) || self.size + leaves > MAX_SIZE {
            return false;
        }
        self.size += leaves;
        let (mut level, mut hash) = (level, *hash);
        while let Some((_, left)) = self.peaks.pop_if(|(peak, _)| *peak == level) {
            hash = node_hash(&left, &hash);
            level += 1;
        }
        self.peaks.push((level, hash));
        true
    }

    /// The root of everything added.
    #[must_use]
    pub fn root(&self) -> Sha256Digest {
        let mut peaks = self.peaks.iter().rev().map(|(_, hash)| *hash);
        let Some(last) = peaks.next() else { return EMPTY_ROOT };
        peaks.fold(last, |right, left| node_hash(&left, &right))
    }
}

/// The largest complete subtrees that together hold the entries `from..to`, from the left: (level, number within the level).
/// At most 96.
#[must_use]
pub fn cover(from: u64, to: u64) -> Vec<(u8, u64)> {
    let mut parts = Vec::new();
    let mut at = from;
    while at < to {
        let room = (to - at).ilog2();
        let aligned = if at == 0 { room } else { at.trailing_zeros() };
        let level = room.min(aligned);
        parts.push((u8::try_from(level).unwrap_or(u8::MAX), at >> level));
        at += 1 << level;
    }
    parts
}
