//! Reading tiles, and the hashes of the tree that follow from them.

use comity_core::Sha256Digest;
use comity_trust::log::tile::{TILE_WIDTH, decode_tile, tile_path, tile_root};
use comity_trust::log::tree;

use super::disk::Disk;
use super::store::{HASH_BYTES, Result, damaged, io_error};

/// The hashes of a full tile.
pub(super) fn read(disk: &mut dyn Disk, level: u8, n: u64) -> Result<Vec<Sha256Digest>> {
    let name = tile_path(level, n);
    let bytes =
        disk.read(&name, TILE_WIDTH * HASH_BYTES).map_err(io_error(format!("read {name}")))?;
    let hashes = bytes.as_deref().and_then(decode_tile);
    hashes.map_or_else(|| damaged(format!("{name} is missing or cut short")), Ok)
}

/// The root over the first `size` entries, a multiple of [`TILE_WIDTH`], from the lowest tiles of the right edge.
pub(super) fn root(disk: &mut dyn Disk, size: u64) -> Result<Sha256Digest> {
    let mut sum = tree::Accumulator::new();
    for (level, n) in tree::cover(0, size) {
        let hash = subtree(disk, level, n)?;
        if !sum.push_subtree(level, &hash) {
            return damaged("its tiles do not lie side by side");
        }
    }
    Ok(sum.root())
}

/// The hash at a place of the tree.
pub(super) fn node(disk: &mut dyn Disk, place: u64) -> Result<Sha256Digest> {
    let (level, n) = tree::at_place(place);
    subtree(disk, level, n)
}

/// The hash of the `n`-th subtree of 2^`level` tiled entries. Reads up to 255 tiles of one level: those between full tiles of the next
/// and the right edge.
fn subtree(disk: &mut dyn Disk, level: u8, n: u64) -> Result<Sha256Digest> {
    let (above, within) = (level / 8, level % 8);
    let mut row = Vec::new();
    if above == 0 {
        let hashes = read(disk, 0, n >> (8 - within))?;
        let first = usize::try_from((n << within) % TILE_WIDTH).unwrap_or(0);
        row.extend_from_slice(&hashes[first..first + (1 << within)]);
    } else {
        for tile in n << within..(n + 1) << within {
            row.extend(tile_root(&read(disk, above - 1, tile)?));
        }
    }
    while row.len() > 1 {
        row = row.chunks(2).map(|pair| tree::node_hash(&pair[0], &pair[1])).collect();
    }
    row.first().copied().map_or_else(|| damaged("a tile is empty"), Ok)
}
