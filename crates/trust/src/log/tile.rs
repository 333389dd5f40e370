//! The static form of a log: tiles of hashes and bundles of entries, as files that never change once full.
//!
//! Source: C2SP tlog-tiles. A tile of level L holds 256 consecutive hashes of level 8·L of the tree; a bundle holds 256 entries, each after
//! its length in two bytes, big-endian. **Of our own**: a length of zero stands for an entry that was pruned. Its hash stays in the
//! tile, so every proof about it and about its neighbours still holds. (Entries of a log are never empty.)

use comity_core::Sha256Digest;

use super::tree::{node_hash, place};

/// Levels of the tree in one tile.
pub const TILE_HEIGHT: u8 = 8;
/// Hashes in a full tile, entries in a full bundle.
pub const TILE_WIDTH: u64 = 256;
/// The same as a length.
pub const TILE_LEN: usize = 256;
/// Longest entry, in bytes: what two bytes of length can say.
pub const MAX_BUNDLED_LEN: usize = 65_535;

/// Why bytes are no bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// It ends inside an entry.
    #[error("the bundle of entries ends inside entry {index}")]
    Truncated {
        /// Which entry, counted from the bundle's first.
        index: usize,
    },
    /// More than [`TILE_LEN`] entries.
    #[error("the bundle has more than {TILE_LEN} entries")]
    TooMany,
}

/// Path of the full tile `n` of `level` below the log's directory: `tile/0/x001/067`.
#[must_use]
pub fn tile_path(level: u8, n: u64) -> String {
    path(&level.to_string(), n)
}

/// Path of the full bundle `n` below the log's directory: `tile/entries/x001/067`.
#[must_use]
pub fn bundle_path(n: u64) -> String {
    path("entries", n)
}

fn path(level: &str, n: u64) -> String {
    let mut parts = vec![format!("{:03}", n % 1000)];
    let mut rest = n / 1000;
    while rest > 0 {
        parts.push(format!("x{:03}", rest % 1000));
        rest /= 1000;
    }
    parts.reverse();
    format!("tile/{level}/{}", parts.join("/"))
}

/// The bytes of a bundle. An empty entry stands for a pruned one.
///
/// # Panics
/// When an entry is longer than [`MAX_BUNDLED_LEN`]; entries of a log are far shorter ([`MAX_ENTRY_LEN`](super::MAX_ENTRY_LEN)).
#[must_use]
pub fn encode_bundle<'a>(entries: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in entries {
        let length = u16::try_from(entry.len()).expect("entries of a log are bounded below this");
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(entry);
    }
    bytes
}

/// The entries of a bundle, at most [`TILE_LEN`]; none in place of one that was pruned.
///
/// # Errors
/// [`BundleError`] when the bytes are no bundle.
pub fn decode_bundle(bytes: &[u8]) -> Result<Vec<Option<&[u8]>>, BundleError> {
    let mut entries = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        if entries.len() == TILE_LEN {
            return Err(BundleError::TooMany);
        }
        let truncated = BundleError::Truncated { index: entries.len() };
        let (length, after) = rest.split_first_chunk::<2>().ok_or(truncated)?;
        let length = usize::from(u16::from_be_bytes(*length));
        let (entry, after) = after.split_at_checked(length).ok_or(truncated)?;
        entries.push((!entry.is_empty()).then_some(entry));
        rest = after;
    }
    Ok(entries)
}

/// The bytes of a tile.
#[must_use]
pub fn encode_tile(hashes: &[Sha256Digest]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| hash.0).collect()
}

/// The hashes of a full tile; none if the length is another.
#[must_use]
pub fn decode_tile(bytes: &[u8]) -> Option<Vec<Sha256Digest>> {
    let (hashes, rest) = bytes.as_chunks::<32>();
    let full = hashes.len() == TILE_LEN && rest.is_empty();
    full.then(|| hashes.iter().map(|hash| Sha256Digest(*hash)).collect())
}

/// The root of a full tile, which is a hash of the tile above it; none for another number of hashes.
#[must_use]
pub fn tile_root(hashes: &[Sha256Digest]) -> Option<Sha256Digest> {
    if hashes.len() != TILE_LEN {
        return None;
    }
    let mut row = hashes.to_vec();
    while row.len() > 1 {
        row = row.chunks(2).map(|pair| node_hash(&pair[0], &pair[1])).collect();
    }
    row.first().copied()
}

/// The full tiles that a log of `size` entries has complete with its last entry: (level, number). Empty unless `size` is a multiple of
/// [`TILE_WIDTH`].
#[must_use]
pub fn completed_tiles(size: u64) -> Vec<(u8, u64)> {
    let mut tiles = Vec::new();
    let (mut level, mut hashes) = (0, size);
    while hashes > 0 && hashes.is_multiple_of(TILE_WIDTH) {
        hashes /= TILE_WIDTH;
        tiles.push((level, hashes - 1));
        level += 1;
    }
    tiles
}

/// The places of the hashes of a full tile.
#[must_use]
pub fn tile_places(level: u8, n: u64) -> Vec<u64> {
    (0..TILE_WIDTH).map(|at| place(level * TILE_HEIGHT, n * TILE_WIDTH + at)).collect()
}
